"""Sample folders of labelled mock images."""

import importlib.util
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from astropy.table import QTable

from astroclassify import images, tables
from astroclassify.exceptions import EmptyResultWarning, MissingDependencyError, OutputError, SnapshotError
from astroclassify.schemes import Flag
from astroclassify.sim import Halo, Observation, make_mocks, measure_core, observe

# not importorskip: the first import must be the package's own, which keeps the user's home clean
if importlib.util.find_spec("pyxsim") is None:
    pytest.skip("pyxsim is not installed", allow_module_level=True)

SETTINGS = Observation(exposure=10 * u.ks, shape=(64, 64))


class FakeSnapshot:
    """Halos made on the spot: number 1 has a cool core, 2 has none, 3 has no gas in the middle, 7 cannot be read."""

    name = "toy"
    snapshot = 99
    cosmology = FlatLambdaCDM(H0=67.74, Om0=0.3089)

    def __init__(self):
        self.reads = []

    def read_halo(self, halo_id):
        self.reads.append(halo_id)
        if halo_id == 7:
            raise SnapshotError("halo 7 of toy snapshot 99 has no gas")
        rng = np.random.default_rng(halo_id)
        n = 1500
        radius = 600 * rng.random(n) ** (1.2 if halo_id == 1 else 0.8) + (50 if halo_id == 3 else 0)
        direction = rng.normal(size=(n, 3))
        direction /= np.linalg.norm(direction, axis=1)[:, np.newaxis]
        n_e = {1: 0.03, 2: 0.004, 3: 0.004}[halo_id] / (1 + (radius / 60) ** 2)
        density = n_e / 1.158 * 1.6726e-24 / 0.76 * u.g / u.cm**3
        return Halo(
            halo_id=halo_id,
            simulation=self.name,
            snapshot=self.snapshot,
            redshift=0.0,
            m_500=1e14 * halo_id * u.Msun,
            r_500=1000 * u.kpc,
            centre=[0, 0, 0] * u.kpc,
            position=direction * radius[:, np.newaxis] * u.kpc,
            velocity=rng.normal(scale=300, size=(n, 3)) * u.km / u.s,
            mass=(density * np.full(n, 2.0e4) * u.kpc**3).to(u.Msun),
            density=density,
            temperature=np.full(n, 1.0 if halo_id == 1 else 5.0) * u.keV,
            n_e=n_e / u.cm**3,
            n_h=n_e / 1.158 / u.cm**3,
            metallicity=np.full(n, 0.3) * u.one,
            cosmology=self.cosmology,
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sample of four halos along three axes, and its folder."""
    folder = tmp_path_factory.mktemp("mocks") / "sample"
    halos = QTable({"halo_id": [1, 2, 3, 7], "m_500": [1, 2, 3, 7] * (1e14 * u.Msun), "r_500": np.full(4, 1.0) * u.Mpc})
    sample = make_mocks(FakeSnapshot(), halos, observation=SETTINGS, out=folder, rng=11, progress=False)
    return sample, folder


def without_date(folder):
    """Text of every file of a sample, without the time at which the table was made."""
    texts = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            lines = path.read_bytes().split(b"\n")
            texts[str(path.relative_to(folder))] = b"\n".join(line for line in lines if b"date:" not in line)
    return texts


def test_sample_is_one_and_complete(made):
    sample, folder = made
    tables.validate(sample, tables.SAMPLE)
    assert sample.colnames == [*tables.SAMPLE.kinds(), "counts", "message"]
    assert list(sample["source_id"]) == [f"toy-099-{halo:06d}-{axis}" for halo in (1, 2, 3, 7) for axis in "xyz"]
    assert list(sample["group_id"][:4]) == ["toy-099-000001"] * 3 + ["toy-099-000002"]
    assert list(sample["projection"][:3]) == ["x", "y", "z"]
    assert np.all(sample["redshift"] == 0.05)
    assert sample.meta["seed"] == 11
    assert sample.meta["observation"]["exposure_s"] == 1e4
    assert sorted(path.name for path in folder.iterdir()) == ["images", "observation.json", "sample.ecsv"]
    back = tables.read_sample(folder)
    assert back.meta["folder"] == sample.meta["folder"]
    for name in sample.colnames:
        np.testing.assert_array_equal(back[name], sample[name], err_msg=name)


def test_labels_and_measures_are_those_of_the_halo(made):
    sample, _ = made
    assert list(sample["label"]) == ["CC"] * 3 + ["NCC"] * 3 + [""] * 6
    for row in sample[[0, 3]]:
        core = measure_core(FakeSnapshot().read_halo(int(row["group_id"][-6:])))
        assert row["t_cool"].to_value(u.Gyr) == pytest.approx(core.t_cool.value, rel=1e-11)
        assert row["n_e"].to_value(u.cm**-3) == pytest.approx(core.n_e.value, rel=1e-11)
        assert row["m_500"].to_value(u.Msun) == 1e14 * int(row["group_id"][-6:])
        assert row["r_500"] == 1 * u.Mpc


def test_halo_without_gas_in_the_middle_has_images_and_no_label(made):
    sample, folder = made
    rows = sample[6:9]
    assert np.all(np.isnan(rows["t_cool"]))
    assert np.all(rows["flags"] == Flag.FEW_CELLS.value)
    assert np.all(np.isfinite(rows["c_sb"]))
    assert rows["message"][0] == "no cooling time: no X-ray emitting cell within 0.012 R500"
    assert all((folder / path).is_file() for path in rows["path"])


def test_halo_that_fails_keeps_its_rows(made):
    sample, folder = made
    rows = sample[9:]
    assert np.all(rows["flags"] == Flag.FAILED.value)
    assert set(rows["message"]) == {"SnapshotError: halo 7 of toy snapshot 99 has no gas"}
    assert set(rows["path"]) == {""}
    assert np.all(rows["m_500"] == 7e14 * u.Msun)  # from the table of halos
    assert np.all(np.isnan(rows["c_sb"]))
    assert len(list((folder / "images").iterdir())) == 9


def test_images_are_those_of_observe(made):
    sample, folder = made
    image = observe(FakeSnapshot().read_halo(2), SETTINGS, axis="y", rng=11)
    written = images.read_image(folder / sample["path"][4])
    assert np.array_equal(image.data, written.data)
    assert written.meta["T_COOL"] == sample["t_cool"][4].value
    assert written.meta["LABEL"] == "NCC"
    background = SETTINGS.background_counts(FakeSnapshot.cosmology)
    c_sb = images.concentration(image, background=background, cosmology=FakeSnapshot.cosmology)
    assert sample["c_sb"][4] == pytest.approx(c_sb, rel=1e-11)
    assert 0.5 < np.mean(sample["c_sb"][:3]) < 1
    assert np.mean(sample["c_sb"][:3]) > 1.2 * np.mean(sample["c_sb"][6:9])


def test_order_axes_and_workers_change_nothing(made, tmp_path):
    sample, folder = made
    with ThreadPoolExecutor(2) as executor:
        how = {"executor": executor, "rng": 11, "progress": False}
        other = make_mocks(FakeSnapshot(), [3, 1], observation=SETTINGS, axes="zy", out=tmp_path, **how)
    assert list(other["source_id"]) == [f"toy-099-00000{halo}-{axis}" for halo in (3, 1) for axis in "zy"]
    for row in other:
        match = sample[sample["source_id"] == row["source_id"]][0]
        for name in ("label", "t_cool", "n_e", "c_sb", "flags"):
            np.testing.assert_array_equal(row[name], match[name])
        assert (tmp_path / row["path"]).read_bytes() == (folder / match["path"]).read_bytes()


def test_resume_makes_what_is_missing_and_gives_the_same(made, tmp_path):
    _, folder = made
    snapshot = FakeSnapshot()
    first = make_mocks(snapshot, [2], observation=SETTINGS, axes="z", out=tmp_path, rng=11, progress=False)
    # as if killed: no table, half an image under its temporary name, one damaged image
    (tmp_path / "sample.ecsv").unlink()
    (tmp_path / "images" / ".toy-099-000003-x-abc.fits").write_bytes(b"SIMPLE")
    (tmp_path / "images" / "toy-099-000003-y.fits").write_bytes(b"SIMPLE  = ")
    before = (tmp_path / first["path"][0]).stat().st_mtime_ns
    halos = QTable({"halo_id": [1, 2, 3, 7], "m_500": [1, 2, 3, 7] * (1e14 * u.Msun), "r_500": np.full(4, 1.0) * u.Mpc})
    make_mocks(snapshot, halos, observation=SETTINGS, out=tmp_path, rng=11, progress=False)
    assert (tmp_path / first["path"][0]).stat().st_mtime_ns == before
    assert without_date(tmp_path) == without_date(folder)
    # once more: only the halo that failed is tried again
    snapshot.reads.clear()
    make_mocks(snapshot, halos, observation=SETTINGS, out=tmp_path, rng=11, progress=False)
    assert snapshot.reads == [7]
    assert without_date(tmp_path) == without_date(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": Observation(exposure=20 * u.ks, shape=(64, 64))}, "exposure_s is 10000.0 there and 20000.0"),
        ({"rng": 12}, "seed is 11 there and 12 now"),
        ({"aperture": 0.02}, "aperture_r500 is 0.012 there"),
        ({"resume": False}, "already holds a sample"),
        ({"halos": [1]}, "has 9 images that are not asked for now"),
    ],
)
def test_sample_with_other_settings_is_refused_and_left_alone(made, changes, message):
    _, folder = made
    before = without_date(folder)
    arguments = {"halos": [1, 2, 3, 7], "observation": SETTINGS, "out": folder, "rng": 11, "progress": False, **changes}
    with pytest.raises(OutputError, match=message) as caught:
        make_mocks(FakeSnapshot(), arguments.pop("halos"), **arguments)
    assert "\n" not in str(caught.value)
    assert without_date(folder) == before


def test_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match=r"not empty and not a sample of mocks \(holds 'thesis.tex'\)"):
        make_mocks(FakeSnapshot(), [1], observation=SETTINGS, out=tmp_path, rng=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="out") as caught:
            make_mocks(FakeSnapshot(), [1], observation=SETTINGS, out=out, rng=1)
        assert "\n" not in str(caught.value)


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "observation.json").write_text("[1]")
    with pytest.raises(OutputError, match=r"observation.json' cannot be read: not an object"):
        make_mocks(FakeSnapshot(), [1], observation=SETTINGS, out=tmp_path, rng=1)


def test_one_axis_that_fails_does_not_take_the_others_along(tmp_path):
    make_mocks(FakeSnapshot(), [2], observation=SETTINGS, axes="x", out=tmp_path, rng=1, progress=False)
    (tmp_path / "images" / "toy-099-000002-y.fits").mkdir()  # no file can be put there
    sample = make_mocks(FakeSnapshot(), [2], observation=SETTINGS, out=tmp_path, rng=1, progress=False)
    assert list(sample["flags"] & Flag.FAILED.value > 0) == [False, True, False]
    assert sample["message"][1].startswith("OutputError: cannot write") and "\n" not in sample["message"][1]
    assert sorted(path.name[-6] for path in (tmp_path / "images").iterdir() if path.is_file()) == ["x", "z"]


def test_seed_left_out_is_drawn_and_resumed(tmp_path):
    how = {"observation": SETTINGS, "out": tmp_path, "progress": False}
    first = make_mocks(FakeSnapshot(), [2], axes="x", **how)
    more = make_mocks(FakeSnapshot(), [2], axes="xy", **how)
    assert more.meta["summary"]["n_resumed"] == 1
    assert first.meta["seed"] == more.meta["seed"] == json.loads((tmp_path / "observation.json").read_text())["seed"]
    other = make_mocks(FakeSnapshot(), [2], axes="x", **{**how, "out": tmp_path / "other"})
    assert other.meta["seed"] != first.meta["seed"]


def test_image_too_small_for_the_concentration(tmp_path):
    small = Observation(exposure=1 * u.ks, width=300 * u.kpc, shape=(16, 16))
    sample = make_mocks(FakeSnapshot(), [2], observation=small, axes=["x"], out=tmp_path, rng=1, progress=False)
    assert np.isnan(sample["c_sb"][0])
    assert sample["label"][0] == "NCC"
    assert sample["message"][0].startswith("no concentration")
    assert "C_SB" not in fits.getheader(tmp_path / sample["path"][0])


def test_faint_images_are_flagged(tmp_path):
    short = Observation(exposure=1 * u.s, shape=(64, 64))
    sample = make_mocks(FakeSnapshot(), [2], observation=short, axes="x", out=tmp_path, rng=1, progress=False)
    assert sample["flags"][0] & Flag.LOW_COUNTS


def test_no_halos_give_an_empty_sample(tmp_path):
    with pytest.warns(EmptyResultWarning, match="no rows"):
        sample = make_mocks(FakeSnapshot(), [], observation=SETTINGS, out=tmp_path, rng=1, progress=False)
    assert len(sample) == 0
    assert len(tables.read_sample(tmp_path)) == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"axes": "xx"}, ValueError, "axes must be different letters"),
        ({"axes": ""}, ValueError, "axes must be different letters"),
        ({"axes": 3}, ValueError, "axes must be different letters"),
        ({"axes": "xw"}, ValueError, "axis must be one of"),
        ({"engine": "direct2"}, ValueError, "engine must be one of"),
        ({"observation": None}, TypeError, "observation must be an Observation"),
        ({"rng": "1"}, TypeError, "rng must be a seed"),
        ({"weighting": "light"}, ValueError, "weighting must be one of"),
        ({"aperture": 0}, ValueError, "aperture must be a finite number above 0"),
        ({"aperture": "big"}, TypeError, "aperture must be a finite number"),
        ({"halos": 3}, TypeError, "halos must be a table or a sequence"),
        ({"halos": [1.5]}, TypeError, "halos must be a whole number"),
        ({"halos": [1, 1]}, ValueError, "halos must not repeat"),
        ({"halos": QTable({"number": [1]})}, ValueError, "halos must have the column 'halo_id'"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, changes, error, message):
    arguments = {"halos": [1], "observation": SETTINGS, "out": tmp_path / "new", "rng": 1, **changes}
    with pytest.raises(error, match=message):
        make_mocks(FakeSnapshot(), arguments.pop("halos"), **arguments)
    assert not (tmp_path / "new").exists()


def test_missing_pyxsim_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyxsim", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        make_mocks(FakeSnapshot(), [1], observation=SETTINGS, out=tmp_path / "new", rng=1)
    assert not (tmp_path / "new").exists()


def test_settings_on_disk_say_what_was_observed(made):
    _, folder = made
    settings = json.loads((folder / "observation.json").read_text())
    assert settings["simulation"] == "toy"
    assert settings["response"] == "acis-i-cycle0"
    assert settings["seed"] == 11
