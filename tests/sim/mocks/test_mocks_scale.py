"""Samples of mock images at scale: killed and resumed, any executor, one halo in memory."""

import dataclasses
import gc
import importlib.util
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from astroclassify import batch, morphology, tables
from astroclassify.exceptions import OutputError
from astroclassify.images import read_image
from astroclassify.schemes import Flag
from astroclassify.sim import (
    EmbeddedPopulation,
    Observation,
    ObservationSampler,
    make_mocks,
    measure_halo,
    observe,
    open_snapshot,
    write_embedded_snapshot,
)

for needed in ("h5py", "illustris_python"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

# The quick one: these tests are about the folder, not about photons.
ENGINE = "direct"

SETTINGS = Observation(exposure=20 * u.ks, shape=(48, 48))
HOW = {"observation": SETTINGS, "engine": ENGINE, "rng": 21, "progress": False}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """Four small clusters; after them two groups, the last of which (number 5) has no gas."""
    folder = tmp_path_factory.mktemp("embedded") / "box"
    population = EmbeddedPopulation(4, rng=3, log_mass=(13.75, 15.06), max_cells=1500)
    return open_snapshot(write_embedded_snapshot(folder, population))


@pytest.fixture(scope="module")
def reference(snapshot, tmp_path_factory):
    """Bytes of the folder of a run that was not interrupted, by one worker in this process."""
    folder = tmp_path_factory.mktemp("reference") / "sample"
    sample = make_mocks(snapshot, [0, 1, 2, 3, 5], out=folder, **HOW)
    assert np.count_nonzero(sample["flags"] & Flag.FAILED.value) == 3
    return content(folder)


def content(folder):
    """Bytes of every file, hidden ones included. Nothing is left out: the files hold no time."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


class Killed(BaseException):
    """Ends a run as a kill does: nothing catches it, nothing cleans up after it."""


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("call", [1, 4, 12, 13])
def test_run_that_ends_at_a_rename_is_resumed(snapshot, reference, tmp_path, monkeypatch, call, renamed):
    calls, replace = [], os.replace

    def last_rename(old, new):
        calls.append(new)
        if len(calls) == call and not renamed:
            raise Killed
        replace(old, new)
        if len(calls) == call:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", last_rename)
        patch.setattr("pathlib.Path.unlink", lambda path, missing_ok=False: None)
        with pytest.raises(Killed):
            make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", **HOW)
    hidden = [path for path in (tmp_path / "sample").rglob(".*")]
    assert len(hidden) >= (0 if renamed else 1)
    make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", **HOW)
    check_equal(content(tmp_path / "sample"), reference)


RUN = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from astropy import units as u
from astroclassify.sim import Observation, make_mocks, open_snapshot

if __name__ == "__main__":
    base, out, engine = sys.argv[1:]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        make_mocks(
            open_snapshot(base), [0, 1, 2, 3, 5], out=out, observation=Observation(exposure=20 * u.ks, shape=(48, 48)),
            engine=engine, rng=21, progress=False, executor=executor,
        )
"""


def whole_images(folder):
    """Images under their own name; a file that was being written has a name that begins with a dot."""
    return [path for path in folder.glob("images/*.fits") if not path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs process groups")
@pytest.mark.parametrize("seed", [1, 2])
def test_run_that_is_killed_at_random_moments_is_resumed(snapshot, reference, tmp_path, seed):
    script, out = tmp_path / "run.py", tmp_path / "sample"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(snapshot.base_path), str(out), ENGINE]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    choose = random.Random(seed)
    n_killed = 0
    for _ in range(4):
        run = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
        # A random moment while it works: past the start of the interpreter, after none or some more images.
        n_images = len(whole_images(out)) + choose.randrange(4)
        end = time.monotonic() + 60
        while run.poll() is None and time.monotonic() < end:
            if (out / "images").is_dir() and len(whole_images(out)) >= n_images:
                break
            time.sleep(0.001)
        time.sleep(choose.random() * 0.1)
        n_killed += run.poll() is None
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        for path in whole_images(out):
            assert path.read_bytes() == reference[f"images/{path.name}"]
    assert n_killed >= 2
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    check_equal(content(out), reference)


def test_two_threads_make_the_same_folder(snapshot, reference, tmp_path):
    with ThreadPoolExecutor(2) as executor:
        make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", executor=executor, **HOW)
    check_equal(content(tmp_path / "sample"), reference)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_processes_make_the_same_folder(snapshot, reference, tmp_path, workers):
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", executor=executor, **HOW)
    check_equal(content(tmp_path / "sample"), reference)


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_folder(snapshot, reference, tmp_path):
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with (
        distributed.LocalCluster(**settings, host="127.0.0.1", local_directory=str(tmp_path)) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = client.get_executor()
        sample = make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", executor=executor, **HOW)
        # once more after a loss: made again, not taken from the cluster's memory
        (tmp_path / "sample" / sample["path"][4]).unlink()
        make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", executor=executor, **HOW)
    check_equal(content(tmp_path / "sample"), reference)


def test_two_runs_at_once_do_no_harm(snapshot, reference, tmp_path):
    out = tmp_path / "sample"
    with ThreadPoolExecutor(2) as executor:
        runs = [executor.submit(make_mocks, snapshot, [0, 1, 2, 3, 5], out=out, **HOW) for _ in range(2)]
        for run in runs:
            assert np.count_nonzero(run.result()["flags"] & Flag.FAILED.value) == 3
    check_equal(content(out), reference)


@pytest.mark.parametrize("suffix", [".fits", ".ecsv"])
def test_temporary_file_that_a_second_run_swept_away_is_written_again(
    snapshot, reference, tmp_path, monkeypatch, suffix
):
    chmod, swept = os.chmod, []

    def sweep_first(path, mode, **settings):
        if not swept and str(path).endswith(suffix):
            swept.append(path)
            for leftover in (tmp_path / "sample").rglob(f".*{suffix}"):
                leftover.unlink()
        chmod(path, mode, **settings)

    monkeypatch.setattr(os, "chmod", sweep_first)
    make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", **HOW)
    assert swept
    check_equal(content(tmp_path / "sample"), reference)


@pytest.mark.parametrize("keep", [0, 100, 2880, 5760 + 100, -1])
def test_file_that_is_cut_short_is_made_again(snapshot, reference, tmp_path, keep):
    out = tmp_path / "sample"
    make_mocks(snapshot, [0], axes="z", out=out, **HOW)
    (image,) = (out / "images").iterdir()
    whole = image.read_bytes()
    image.write_bytes(whole[:keep])
    sample = make_mocks(snapshot, [0], axes="z", out=out, **HOW)
    assert (sample.meta["summary"]["n_made"], sample.meta["summary"]["n_resumed"]) == (1, 0)
    assert image.read_bytes() == whole


class Watched:
    """A snapshot that notes whether a halo that it gave out is still held when the next one is asked for."""

    def __init__(self, snapshot):
        self.snapshot, self.given, self.held = snapshot, [], []
        self.name, self.cosmology = snapshot.name, snapshot.cosmology
        self.snapshot = snapshot.snapshot
        self.read = snapshot.read_halo

    def read_halo(self, halo_id):
        gc.collect()
        self.held.append(sum(halo() is not None for halo in self.given))
        halo = self.read(halo_id)
        self.given.append(weakref.ref(halo))
        return halo


def test_one_halo_is_held_at_a_time(snapshot, tmp_path):
    watched = Watched(snapshot)
    make_mocks(watched, [0, 1, 5, 2, 3], out=tmp_path, **HOW)
    assert watched.held == [0] * 5


def test_table_has_no_time(reference):
    assert b"date" not in reference["sample.ecsv"]
    assert tables.SAMPLE_FILE in reference


def same_values(row, other, names):
    for name in names:
        np.testing.assert_array_equal(row[name], other[name], err_msg=name)


AXES = ["z", (1, 1, 1), (0, -2, 1)]
NAMES = ["z", "+0.5774+0.5774+0.5774", "+0.0000-0.8944+0.4472"]


def test_directions_as_axes(snapshot, reference, tmp_path):
    sample = make_mocks(snapshot, [0], axes=AXES, out=tmp_path / "a", **HOW)
    assert list(sample["projection"]) == NAMES
    assert sample["source_id"][1] == "embedded-all-3-099-000000-+0.5774+0.5774+0.5774"
    assert (tmp_path / "a" / sample["path"][0]).read_bytes() == reference[sample["path"][0]]
    image = observe(snapshot.read_halo(0), SETTINGS, axis=(2, 2, 2), engine=ENGINE, rng=21)
    assert np.array_equal(read_image(tmp_path / "a" / sample["path"][1]).data, image.data)
    # as an array, of other lengths, in another order: the same
    other = make_mocks(snapshot, [0], axes=np.array([[0, -1, 0.5], [3, 3, 3]]), out=tmp_path / "b", **HOW)
    for row, match in zip(other, sample[[2, 1]], strict=True):
        same_values(row, match, sample.colnames)
    again = make_mocks(snapshot, [0], axes=AXES, out=tmp_path / "a", **HOW)
    assert again.meta["summary"]["n_resumed"] == 3
    for row, match in zip(again, sample, strict=True):
        same_values(row, match, sample.colnames)


@pytest.mark.parametrize("axes", [[(1, 0, 0), (2, 0, 0)], ["x", "x"], (0, 0, 1), [(0, 0, 0)], "", None])
def test_axes_that_are_none_are_named(snapshot, tmp_path, axes):
    with pytest.raises(ValueError, match="ax[ei]s must be"):
        make_mocks(snapshot, [0], axes=axes, out=tmp_path / "new", **HOW)
    assert not (tmp_path / "new").exists()


SAMPLER = ObservationSampler(
    Observation(shape=(48, 48)), redshift=(0.04, 0.2), exposure=[10, 50] * u.ks, nh_column=[1e20, 1e21] / u.cm**2
)


def test_settings_are_drawn_for_each_image(snapshot, tmp_path):
    how = {**HOW, "observation": SAMPLER}
    sample = make_mocks(snapshot, [0, 1, 5], out=tmp_path / "a", **how)
    drawn = ["exposure", "nh_column", "off_axis", "response"]
    assert sample.colnames == [*tables.SAMPLE.kinds(), "counts", *drawn, "message"]
    for name in ("redshift", "exposure", "nh_column"):
        assert len(set(sample[name])) == 9  # those that failed as well
    assert np.all((sample["exposure"] >= 10 * u.ks) & (sample["exposure"] <= 50 * u.ks))
    assert np.all(sample["off_axis"] == 0 * u.arcmin)
    # the observation of a row is drawn from the seed, the halo and the axis, and nothing else
    drawn = SAMPLER.draw(batch.derive_rng(21, "observation", snapshot.name, 99, 1, "y"))
    assert sample["redshift"][4] == pytest.approx(drawn.redshift, rel=1e-11)
    assert sample["nh_column"][4].value == pytest.approx(drawn.nh_column.value, rel=1e-11)
    written = read_image(tmp_path / "a" / sample["path"][4])
    assert np.array_equal(written.data, observe(snapshot.read_halo(1), drawn, axis="y", engine=ENGINE, rng=21).data)
    assert written.meta["REDSHIFT"] == sample["redshift"][4]
    assert written.meta["EXPOSURE"] == sample["exposure"][4].value
    assert written.meta["NH"] == sample["nh_column"][4].value
    width = np.deg2rad(abs(written.wcs.wcs.cdelt[0])) * 48
    distance = snapshot.cosmology.angular_diameter_distance(drawn.redshift).to_value(u.kpc)
    assert width * distance == pytest.approx(1000, rel=1e-6)


def test_what_is_drawn_depends_on_nothing_else(snapshot, tmp_path):
    how = {**HOW, "observation": SAMPLER}
    sample = make_mocks(snapshot, [0, 1, 5], out=tmp_path / "a", **how)
    with ThreadPoolExecutor(2) as executor:
        other = make_mocks(snapshot, [5, 1], axes="zx", out=tmp_path / "b", executor=executor, **how)
    for row in other:
        (match,) = sample[sample["source_id"] == row["source_id"]]
        same_values(row, match, sample.colnames)
        if row["path"]:
            assert (tmp_path / "b" / row["path"]).read_bytes() == (tmp_path / "a" / row["path"]).read_bytes()
    before = content(tmp_path / "a")
    make_mocks(snapshot, [0, 1, 5], out=tmp_path / "a", **how)
    check_equal(content(tmp_path / "a"), before)
    with pytest.raises(OutputError, match="draw_exposure_s is"):
        longer = dataclasses.replace(SAMPLER, exposure=[10, 60] * u.ks)
        make_mocks(snapshot, [0, 1, 5], out=tmp_path / "a", **{**HOW, "observation": longer})


def test_detector_and_pointing(snapshot, tmp_path):
    sampler = ObservationSampler(Observation.acis_i(shape=(48, 48)), offset=5 * u.arcmin, roll=True)
    sample = make_mocks(snapshot, [0], out=tmp_path, **{**HOW, "observation": sampler})
    assert np.all(sample["off_axis"] > 0 * u.arcmin) and np.all(sample["off_axis"] <= 5 * u.arcmin)
    image = read_image(tmp_path / sample["path"][0])
    assert image.exposure.shape == (48, 48)
    valid = np.ones((48, 48), bool) if image.mask is None else ~image.mask
    assert sample["counts"][0].value == image.data[valid].sum()
    assert np.all((sample["c_sb"] > 0) & (sample["c_sb"] < 1))
    again = make_mocks(snapshot, [0], out=tmp_path, **{**HOW, "observation": sampler})
    assert again.meta["summary"]["n_resumed"] == 3
    for row, match in zip(again, sample, strict=True):
        same_values(row, match, sample.colnames)


def test_vignetting_is_taken_out_of_the_concentration(snapshot, tmp_path):
    """Mean of twelve deep images with a detector against a uniform one. Uncorrected the ratio is 0.966."""
    halos, deep = [0, 1, 2, 3], {"exposure": 1 * u.Ms, "shape": (64, 64)}
    plain = Observation(**deep, background=1e-8 * u.ct / u.s / u.arcsec**2)
    detector = Observation.acis_i(**deep, point_sources=None)
    found = []
    for name, observation in (("a", plain), ("b", detector)):
        found.append(make_mocks(snapshot, halos, out=tmp_path / name, **{**HOW, "observation": observation})["c_sb"])
    assert np.mean(found[1] / found[0]) == pytest.approx(1, abs=0.01)


def test_summary_is_logged_and_kept_in_memory_alone(snapshot, reference, tmp_path, caplog):
    caplog.set_level("INFO", logger="astroclassify.sim.mocks._make")
    sample = make_mocks(snapshot, [0, 1], out=tmp_path / "sample", **HOW)
    caplog.clear()
    sample = make_mocks(snapshot, [0, 1, 2, 3, 5], out=tmp_path / "sample", **HOW)
    summary = sample.meta["summary"]
    assert (summary["n_halos"], summary["n_images"], summary["n_failed"]) == (5, 12, 3)
    assert (summary["n_made"], summary["n_resumed"]) == (6, 6)
    assert sum(summary["classes"].values()) == pytest.approx(1)
    assert summary["classes"]["NCC"] == np.mean(sample["label"][:12] == "NCC")
    assert summary["failures"] == {"SnapshotError: halo # of embedded-all-# snapshot # has no gas": 3}
    assert summary["median_counts"] == np.median(sample["counts"][:12].value)
    size = sum(len(data) for name, data in reference.items() if name != "observation.json")
    assert summary["size_bytes"] == size
    read = tables.read_sample(tmp_path / "sample")
    assert "summary" not in read.meta
    assert summary["n_unlabelled"] == np.count_nonzero(sample["label"][:12] == "")
    logged = [record.getMessage() for record in caplog.records if record.name == "astroclassify.sim.mocks._make"]
    assert logged[0] == f"12 images of 5 halos (6 made now, 6 kept), 3 failed, {size / 1e6:.1f} MB"
    assert logged[1].startswith("classes: ") and logged[1].endswith("; 0 without a class")
    assert logged[2] == f"median counts: {summary['median_counts']:.0f}"
    assert logged[3:-2] == [f"failed 3 times: {reason}" for reason in summary["failures"]]
    assert logged[-2].endswith(" s")
    check_equal(content(tmp_path / "sample"), reference)


def test_summary_of_nothing(snapshot, tmp_path, caplog):
    caplog.set_level("INFO", logger="astroclassify.sim.mocks._make")
    sample = make_mocks(snapshot, [5], out=tmp_path, **HOW)
    summary = sample.meta["summary"]
    assert (summary["n_images"], summary["n_failed"], summary["classes"], summary["median_counts"]) == (0, 3, {}, None)
    assert "0 images of 1 halos (0 made now, 0 kept), 3 failed" in caplog.text


def test_finished_halos_are_on_the_bar_and_not_tried_again(snapshot, tmp_path, capsys):
    how = {**HOW, "progress": True}
    make_mocks(snapshot, [0, 1], out=tmp_path, **how)
    assert "2/2" in capsys.readouterr().err
    watched = Watched(snapshot)
    make_mocks(watched, [0, 1, 2], out=tmp_path, **how)
    shown = capsys.readouterr().err
    assert "2/3" in shown and "3/3" in shown  # it starts at two of three
    assert len(watched.given) == 1


def test_an_added_axis_makes_the_missing_images_alone(snapshot, reference, tmp_path):
    make_mocks(snapshot, [0, 1], axes="y", out=tmp_path, **HOW)
    sample = make_mocks(snapshot, [0, 1], axes="xyz", out=tmp_path, **HOW)
    assert (sample.meta["summary"]["n_made"], sample.meta["summary"]["n_resumed"]) == (4, 2)
    for path in sample["path"]:
        assert (tmp_path / path).read_bytes() == reference[path]


WIDE = Observation(exposure=50 * u.ks, shape=(128, 128), width=3 * u.Mpc)


def test_further_measures(snapshot, tmp_path):
    how = {**HOW, "observation": WIDE, "measures": True}
    sample = make_mocks(snapshot, [0, 1], axes="xz", out=tmp_path / "a", **how)
    halo = snapshot.read_halo(1)
    of_halo = measure_halo(halo)
    names = [*of_halo, *morphology.COLUMNS]
    assert sample.colnames[13:-1] == [name + end for name in names for end in ("", "_err")]
    image = read_image(tmp_path / "a" / sample["path"][3])
    of_image = morphology.image_measures(
        image,
        r_500=halo.r_500,
        background=WIDE.background_counts(halo.cosmology),
        rng=batch.derive_rng(21, "measures", snapshot.name, 99, 1, "z"),
        cosmology=halo.cosmology,
    )
    for found in (of_halo, of_image):
        for name, pair in found.items():
            for column, value in zip((name, f"{name}_err"), pair, strict=True):
                np.testing.assert_allclose(sample[column][3], value, rtol=1e-11, err_msg=column)
    assert np.count_nonzero(np.isfinite(sample["c_sb_500"])) >= 2
    assert sample["entropy"].unit == u.keV * u.cm**2
    assert sample["entropy"][0] == sample["entropy"][1] and sample["c_sb_500"][0] != sample["c_sb_500"][1]
    for row in sample:
        for name in names:
            assert np.isnan(row[name]) == (name in re.findall(r"\w+", row["message"])), name
    before = content(tmp_path / "a")
    again = make_mocks(snapshot, [0, 1], axes="xz", out=tmp_path / "a", **how)
    assert again.meta["summary"]["n_resumed"] == 4
    check_equal(content(tmp_path / "a"), before)
    with pytest.raises(OutputError, match="measures is True there and False now"):
        make_mocks(snapshot, [0, 1], axes="xz", out=tmp_path / "a", **{**how, "measures": False})


def test_measures_that_cannot_be_had_say_why(snapshot, tmp_path):
    how = {**HOW, "measures": True}  # 1 Mpc: R500 does not fit
    sample = make_mocks(snapshot, [0, 5], axes="z", out=tmp_path, **how)
    assert np.isnan(sample["c_sb_500"][0]) and np.isfinite(sample["c_sb"][0])
    assert "no c_sb_500, centroid_shift, power_ratio_2" in sample["message"][0]
    assert "does not fit" in sample["message"][0]
    assert np.isnan(sample["entropy"][1]) and sample["flags"][1] & Flag.FAILED.value
    before = content(tmp_path)
    make_mocks(snapshot, [0, 5], axes="z", out=tmp_path, **how)
    check_equal(content(tmp_path), before)


def test_measures_of_drawn_settings_with_a_detector(snapshot, tmp_path):
    base = Observation.acis_i(shape=(96, 96), width=3 * u.Mpc)
    sampler = ObservationSampler(base, redshift=(0.15, 0.3), offset=1 * u.arcmin)
    with ThreadPoolExecutor(2) as executor:
        how = {**HOW, "observation": sampler, "measures": True, "executor": executor}
        sample = make_mocks(snapshot, [0, 1], axes="xz", out=tmp_path, **how)
    assert sample.colnames[12:16] == ["counts", "exposure", "nh_column", "off_axis"]
    assert np.any(np.isfinite(sample["c_sb_500"]))
    header = fits.getheader(tmp_path / sample["path"][0])
    assert len(set(header)) == len(header)
    found = {"ENTR_E", "CSB500", "OFF_AXIS", "EXPOSURE", "NH", "ROWFLAGS", "SETTINGS"}
    assert found <= set(header)
