"""`simulate_candidates` as users call it: samples, seeds, folders."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import EmptyResultWarning, OutputError, SchemaError
from astroclassify.images import Cutout, pixel_scale
from astroclassify.schemes import CANDIDATE, CLUSTER, COOL_CORE, Flag
from astroclassify.sim import simulate_candidates, to_binary

SMALL = {"shape": (64, 64), "progress": False}


class PicklingExecutor(ThreadPoolExecutor):
    """Sends its tasks as one with processes does."""

    def submit(self, *task):
        return super().submit(*pickle.loads(pickle.dumps(task)))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cutouts_have_both_bands_on_one_grid():
    (cutout,) = simulate_candidates(1, rng=1, progress=False)
    xray, optical = cutout.bands["xray"], cutout.bands["optical"]
    assert xray.shape == optical.shape == (356, 356) and (xray.unit, optical.unit) == (u.ct, u.adu)
    for image in (xray, optical):
        assert np.all(image.data == np.round(image.data)) and image.data.min() >= 0
        assert (pixel_scale(image) * 356).to_value(u.arcmin) == pytest.approx(7.0)
    assert optical.data.min() > 0 and optical.data.max() <= 24000
    exposure = xray.exposure
    assert exposure.shape == (356, 356) and 0 < exposure.max() <= xray.meta["EXPOSURE"]
    assert xray.meta["COUNTS"] == xray.data.sum() and np.all(xray.data[exposure == 0] == 0)
    assert (xray.meta["TELESCOP"], xray.meta["INSTRUME"]) == ("XMM", "EPN")
    assert (xray.meta["E_MIN"], xray.meta["E_MAX"]) == (0.5, 2.0)


def test_classes_are_as_frequent_as_asked_and_the_first_never_change():
    how = {"rng": 1, "fractions": (5, 2, 1, 1, 1), "shape": (16, 16), "progress": False}
    labels, first = ([cutout.bands["xray"].meta["LABEL"] for cutout in simulate_candidates(n, **how)] for n in (33, 12))
    counts = np.array([labels.count(label) for label in CANDIDATE.classes])
    assert np.all(np.abs(counts - 33 * np.array([5, 2, 1, 1, 1]) / 10) < 1)
    assert first == labels[:12]
    cutouts = simulate_candidates(6, rng=1, classes=("point", "low_z"), **SMALL)
    assert [cutout.bands["xray"].meta["LABEL"] for cutout in cutouts] == ["point", "low_z"] * 3


def test_same_seed_same_images_whatever_the_number():
    one, two = simulate_candidates(5, rng=3, **SMALL), simulate_candidates(7, rng=3, **SMALL)
    other = simulate_candidates(5, rng=4, **SMALL)
    for a, b, c in zip(one, two, other, strict=False):
        for band in ("xray", "optical"):
            assert np.array_equal(a.bands[band].data, b.bands[band].data)
            assert not np.array_equal(a.bands[band].data, c.bands[band].data)


def test_folder_does_not_depend_on_workers_and_reads_back(tmp_path):
    sample = simulate_candidates(10, rng=5, out=tmp_path / "one", **SMALL)
    with PicklingExecutor(3) as executor:
        simulate_candidates(10, rng=5, out=tmp_path / "two", executor=executor, **SMALL)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    read = tables.read_sample(tmp_path / "one")
    assert read.colnames == sample.colnames and read.meta["scheme"] == CANDIDATE.to_dict()
    assert list(read["label"]) == list(CANDIDATE.classes) * 2 and list(read["group_id"]) == list(read["source_id"])
    cutouts = simulate_candidates(10, rng=5, **SMALL)
    for row, path, cutout in zip(read, tables.image_paths(read), cutouts, strict=True):
        found = Cutout.read(path)
        assert found.source_id == row["source_id"] == cutout.source_id
        assert all(np.array_equal(found.bands[band].data, cutout.bands[band].data) for band in cutout.bands)
        np.testing.assert_allclose(found.bands["xray"].exposure, cutout.bands["xray"].exposure)
        assert row["counts"].value == found.bands["xray"].data.sum()


def test_truth_is_in_the_table(tmp_path):
    for row in simulate_candidates(25, rng=6, out=tmp_path, **SMALL):
        cluster = row["label"] in ("low_z", "high_z")
        assert np.isfinite(row["redshift"]) == (cluster or row["label"] == "galaxy")
        assert np.isfinite(row["m_500"]) == np.isfinite(row["r_500"]) == cluster
        assert row["label"] == "other" or row["flux"] > 0
        if row["label"] == "galaxy":
            assert row["redshift"] < 0.06 and row["r_mag"] < 16.6 * u.mag
        if cluster:
            assert (row["redshift"] < 0.3) == (row["label"] == "low_z") and 1e13 < row["m_500"].value < 2e15
        assert row["kind"] and row["exposure"].value in (10e3, 20e3)


def test_run_that_was_interrupted_goes_on(tmp_path):
    out = tmp_path / "sample"
    simulate_candidates(4, rng=7, out=out, **SMALL)
    before = files(out)
    (out / "images" / "candidate-000001.fits").unlink()
    (out / "images" / "candidate-000002.fits").write_bytes(before["candidate-000002.fits"][:3000])
    (out / "images" / ".candidate-000003-abc.fits").write_bytes(b"half")
    (out / "sample.ecsv").unlink()
    simulate_candidates(4, rng=7, out=out, **SMALL)
    assert files(out) == before
    longer = simulate_candidates(6, rng=7, out=out, **SMALL)
    assert len(longer) == 6 and {name: files(out)[name] for name in before if "cand" in name} == {
        name: content for name, content in before.items() if "cand" in name
    }
    with pytest.raises(OutputError, match="2 more candidates than n"):
        simulate_candidates(4, rng=7, out=out, **SMALL)
    with pytest.raises(OutputError, match="other settings .seed"):
        simulate_candidates(6, rng=8, out=out, **SMALL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match=r"not empty and not such a sample .holds 'thesis.tex'"):
        simulate_candidates(1, rng=7, out=tmp_path / "full", **SMALL)


def test_seed_left_out_is_drawn_and_resumed(tmp_path):
    first = simulate_candidates(2, out=tmp_path / "one", **SMALL)
    before = files(tmp_path / "one")
    simulate_candidates(3, out=tmp_path / "one", **SMALL)
    kept = [name for name in before if name.startswith("candidate-")]
    assert {name: files(tmp_path / "one")[name] for name in kept} == {name: before[name] for name in kept}
    seed = first.meta["candidates"]["seed"]
    simulate_candidates(2, rng=seed, out=tmp_path / "two", **SMALL)
    assert files(tmp_path / "two") == before
    (cutout,) = simulate_candidates(1, **SMALL)
    assert cutout.bands["xray"].meta["SEED"] != seed


def test_what_fails_keeps_its_row(tmp_path, monkeypatch):
    made = {cutout.source_id: cutout for cutout in simulate_candidates(5, rng=1, **SMALL)}

    def broken(name, label, **how):
        if label == "galaxy":
            raise ValueError("no\ngalaxy")
        return made[name]

    monkeypatch.setattr("astroclassify.sim.sky._candidates.make_candidate", broken)
    sample = simulate_candidates(5, rng=1, out=tmp_path / "sample", **SMALL)
    failed = sample["flags"] & Flag.FAILED.value != 0
    assert list(failed) == [False, False, True, False, False]
    assert (
        sample["message"][2] == "ValueError: no galaxy" and sample["path"][2] == "" and sample["label"][2] == "galaxy"
    )
    with pytest.raises(RuntimeError, match="candidate-000002 cannot be simulated: ValueError"):
        simulate_candidates(5, rng=1, **SMALL)


def test_nothing_asked_for_is_an_empty_sample(tmp_path):
    with pytest.warns(EmptyResultWarning):
        assert simulate_candidates(0, rng=1, progress=False) == []
    with pytest.warns(EmptyResultWarning):
        sample = simulate_candidates(0, rng=1, out=tmp_path / "none", progress=False)
    assert len(tables.validate(sample, tables.SAMPLE)) == 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"n": 1.5}, TypeError, "n must be a whole number"),
        ({"n": -1}, ValueError, "n must be a whole number from 0 to 1000000"),
        ({"classes": ("low_z", "star")}, SchemaError, "label must be one of"),
        ({"classes": ("point", "point")}, ValueError, "classes must be different"),
        ({"classes": ()}, ValueError, "at least one"),
        ({"fractions": (1, 2)}, ValueError, "one number from zero per class"),
        ({"fractions": (1, 1, 1, 1, -1)}, ValueError, "one number from zero per class"),
        ({"fractions": "abcde"}, ValueError, "one number per class"),
        ({"size": 7}, TypeError, "size must be a Quantity"),
        ({"size": 1 * u.Mpc}, ValueError, "size must have a unit like arcmin"),
        ({"shape": (2000, 2000)}, ValueError, "pixels of at least 0.8 arcsec"),
        ({"size": 2 * u.deg}, ValueError, "no more than 30 arcmin"),
        ({"rng": "seed"}, TypeError, "rng must be a seed"),
    ],
)
def test_bad_arguments_are_named(arguments, error, text):
    with pytest.raises(error, match=text):
        simulate_candidates(**{"n": 1, "rng": 1, "progress": False, **arguments})


def test_other_grids_are_binned_from_fine_pixels():
    (cutout,) = simulate_candidates(1, rng=2, size=6 * u.arcmin, shape=(48, 64), progress=False)
    xray = cutout.bands["xray"]
    assert xray.shape == (48, 64) and np.all(xray.data == np.round(xray.data))
    assert pixel_scale(xray).to_value(u.arcsec) == pytest.approx(5.625)
    # 3.0e-3 counts s-1 arcmin-2 of background and sources, within a factor of a few.
    assert 0.3 < xray.data.sum() / (27 * xray.meta["EXPOSURE"] * 2.5e-3) < 30


def test_to_binary():
    sample = QTable(tables.empty(tables.SAMPLE, scheme="candidate"))
    for number, label in enumerate((*CANDIDATE.classes, "")):
        sample.add_row([f"s{number}", "g", "", label, "", 0.1, 1 * u.Msun, 1 * u.kpc, 1 * u.Gyr, 1 / u.cm**3, 0.1, 0])
    sample.meta["folder"] = "/somewhere"
    binary = to_binary(sample)
    assert list(binary["label"]) == ["cluster", "cluster", "other", "other", "other", ""]
    assert list(binary["label_candidate"]) == list(sample["label"]) and binary.meta["scheme"] == CLUSTER.to_dict()
    assert binary.meta["folder"] == "/somewhere" and sample.meta["scheme"] == CANDIDATE.to_dict()
    with pytest.raises(SchemaError, match="sample must have the scheme 'candidate', got 'cluster'"):
        to_binary(binary)
    sample.meta["scheme"] = COOL_CORE.to_dict()
    with pytest.raises(SchemaError, match="got 'cool-core'"):
        to_binary(sample)
    del sample.meta["scheme"]
    sample["label"][0] = "CC"
    with pytest.raises(SchemaError, match="label must be one of"):
        to_binary(sample)


def test_two_runs_at_once_do_no_harm(tmp_path):
    simulate_candidates(5, rng=5, out=tmp_path / "one", **SMALL)
    with ThreadPoolExecutor(2) as executor:
        runs = [executor.submit(simulate_candidates, 5, rng=5, out=tmp_path / "two", **SMALL) for _ in range(2)]
        assert all(set(run.result()["message"]) == {""} for run in runs)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("suffix", [".fits", ".ecsv"])
def test_temporary_file_that_a_second_run_swept_away_is_written_again(tmp_path, monkeypatch, suffix):
    out, chmod, swept = tmp_path / "sample", os.chmod, []

    def sweep_first(path, mode, **settings):
        if not swept and str(path).endswith(suffix):
            swept.append(path)
            for leftover in out.rglob(f".*{suffix}"):
                leftover.unlink()
        chmod(path, mode, **settings)

    monkeypatch.setattr(os, "chmod", sweep_first)
    sample = simulate_candidates(2, rng=7, out=out, **SMALL)
    assert swept and set(sample["message"]) == {""}
    assert sorted(files(out)) == ["candidate-000000.fits", "candidate-000001.fits", "candidates.json", "sample.ecsv"]


def test_of_two_runs_that_begin_at_once_with_other_settings_one_is_refused(tmp_path, monkeypatch):
    link = os.link

    def be_second(ours, settings):
        settings.write_text(ours.read_text().replace('"seed": 7', '"seed": 8'))
        link(ours, settings)

    monkeypatch.setattr(os, "link", be_second)
    with pytest.raises(OutputError, match="seed is 8 there and 7 now"):
        simulate_candidates(2, rng=7, out=tmp_path / "sample", **SMALL)
    assert sorted(files(tmp_path / "sample")) == ["candidates.json"]
