"""Scripts for many objects: parts that are kept, workers that die, the same tables from Dask and from here."""

import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from astroclassify import batch, tables
from astroclassify.images import SkyImage, write_image
from astroclassify.nn import load_classifier
from astroclassify.sim import simulate_field
from astroclassify.survey import detect, read_field

pytest.importorskip("pyarrow")
pytest.importorskip("pandas")
FOLDER = Path(__file__).resolve().parents[1] / "docs" / "tutorials" / "scale"


def load(name):
    """
    A script as a module that other processes cannot import: its functions travel by value, as to workers elsewhere.
    What it sets in the environment is for its own process.
    """
    before = dict(os.environ)
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.environ.clear()
    os.environ.update(before)
    return module


@pytest.fixture(scope="module")
def run_many():
    return load("run_many")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """Parquet of five images, the third of which is not there."""
    folder = tmp_path_factory.mktemp("images")
    y, x = np.indices((128, 128)) - 63.5
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10, "CRVAL2": 5, "CRPIX1": 64.5, "CRPIX2": 64.5}
    cards |= {"CDELT1": -4 / 3600, "CDELT2": 4 / 3600, "CUNIT1": "deg", "CUNIT2": "deg"}
    for number in (0, 1, 3, 4):
        counts = np.random.default_rng(number).poisson(20 / (1 + (x**2 + y**2) / 60) ** 1.5).astype("int32")
        fits.PrimaryHDU(counts, fits.Header(cards)).writeto(folder / f"{number}.fits")
    names, paths = [f"c{n}" for n in range(5)], [str(folder / f"{n}.fits") for n in range(5)]
    table = QTable({"source_id": names, "path": paths, "redshift": np.full(5, 0.1)})
    return tables.write(table, folder / "catalogue.parquet")


@pytest.fixture(scope="module")
def observations(tmp_path_factory):
    """Table of two simulated fields in files."""
    folder, rows = tmp_path_factory.mktemp("fields"), []
    for seed in (1, 2):
        field = simulate_field(rng=seed, shape=(128, 128), density={"cluster": 30, "bright": 0}).field
        image = SkyImage(field.counts, unit=u.ct, wcs=field.wcs, meta=field.to_ccd().meta)
        write_image(image, folder / f"{seed}.fits")
        fits.PrimaryHDU(field.exposure, field.wcs.to_header()).writeto(folder / f"{seed}-exposure.fits")
        rows.append((f"obs{seed}", str(folder / f"{seed}.fits"), str(folder / f"{seed}-exposure.fits")))
    return tables.write(QTable(rows=rows, names=("obs_id", "image", "exposure")), folder / "observations.ecsv")


def test_parts_that_are_there_are_kept_and_failures_are_named(run_many, tmp_path):
    def make(number):
        calls.append(number)
        if number == 2:
            raise ValueError("no such thing")
        return QTable({"number": [number]})

    calls, parts = [], {"a": 1, "b": 2, "c": 3}
    assert run_many.run_parts(make, parts, tmp_path, None) == {"b": "ValueError: no such thing"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "c.parquet"]
    assert list(run_many.run_parts(make, parts, tmp_path, None)) == ["b"] and calls == [1, 2, 3, 2]
    assert tables.read(tmp_path / "c.parquet")["number"][0] == 3


def test_classes_of_parts_are_those_of_the_whole(run_many, catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(run_many, "ROWS", 2)
    arguments = run_many.parse(["classes", str(catalogue), "coolcore", "--out", str(tmp_path / "classes")])
    assert run_many.classes(arguments, None) == {}
    import pyarrow.dataset

    found = pyarrow.dataset.dataset(tmp_path / "classes", format="parquet").to_table()
    whole = load_classifier("coolcore").classify(tables.read(catalogue), progress=False)
    assert found["source_id"].to_pylist() == list(whole["source_id"])
    np.testing.assert_allclose(found["p_CC"].to_numpy(), whole["p_CC"], rtol=1e-5)
    assert np.isnan(found["p_CC"].to_numpy()).tolist() == [False, False, True, False, False]


def test_fields_to_candidates_to_cutouts(run_many, observations, tmp_path):
    arguments = run_many.parse(["fields", str(observations), "--out", str(tmp_path / "candidates")])
    assert run_many.fields(arguments, None) == {}
    row = tables.read(observations)[0]
    field = read_field(row["image"], exposure=row["exposure"])
    alone = detect(field, max_off_axis=field.max_off_axis * u.arcmin)
    found = tables.read(tmp_path / "candidates" / "obs1.parquet", tables.CANDIDATES)
    assert list(found["source_id"]) == [f"obs1-{name}" for name in alone["source_id"]]
    np.testing.assert_array_equal(found["det_like"], alone["det_like"])
    command = ["cutouts", str(tmp_path / "candidates"), str(observations), "--out", str(tmp_path / "cutouts")]
    assert run_many.cutouts(run_many.parse(command), None) == {}
    cut = tables.read(tmp_path / "cutouts" / "tables" / "obs1.parquet")
    assert list(cut["source_id"]) == [row["source_id"] for row in found if row["x_class"] in ("C1", "C2")]
    assert all(Path(path).is_file() for path in cut["path"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what Dask's processes warn of is theirs
def test_dask_gives_the_same_and_outlives_a_worker(run_many, catalogue, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    import dask

    monkeypatch.setattr(run_many, "ROWS", 1)
    twice = dask.config.set({"distributed.scheduler.allowed-failures": 1})  # of a worker, and an item is given up

    def kill_first(pid):  # inside, so that they are sent to the workers, which cannot import this file
        if os.getpid() == pid:
            os.kill(pid, signal.SIGKILL)
        return "done"

    def kill_this(_):
        os.kill(os.getpid(), signal.SIGKILL)

    with twice, run_many.open_workers("2", local_directory=str(tmp_path)) as executor:
        arguments = run_many.parse(["classes", str(catalogue), "coolcore", "--out", str(tmp_path / "classes")])
        pid = next(iter(executor._client.run(os.getpid).values()))
        outcomes = batch.run(kill_first, [pid] * 4, keys="abcd", executor=executor, progress=False)
        assert [outcome.value for outcome in outcomes] == ["done"] * 4
        # One that kills every worker that takes it is given up, and there are workers for the next.
        (outcome,) = batch.run(kill_this, [None], keys="a", executor=executor, progress=False)
        assert "KilledWorker" in outcome.error
        assert run_many.classes(arguments, executor) == {}
    found = [tables.read(path) for path in sorted((tmp_path / "classes").iterdir())]
    whole = load_classifier("coolcore").classify(tables.read(catalogue), progress=False)
    np.testing.assert_allclose([part["p_CC"][0] for part in found], whole["p_CC"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_partitions_of_a_frame(catalogue, tmp_path):
    pytest.importorskip("distributed")
    pytest.importorskip("dask.dataframe")
    import pandas

    load("classify_frame").main(str(catalogue), "coolcore", str(tmp_path / "out"))
    found = pandas.read_parquet(tmp_path / "out")
    whole = load_classifier("coolcore").classify(tables.read(catalogue), progress=False)
    assert list(found["source_id"]) == list(whole["source_id"])
    np.testing.assert_allclose(found["p_CC"], whole["p_CC"], rtol=1e-5)
