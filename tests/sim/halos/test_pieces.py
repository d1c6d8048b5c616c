"""A halo read in pieces gives what the same halo gives whole, to the last bit."""

import numpy as np
import pytest
from _tng_snapshot import edit, snap, write_snapshot
from astropy import units as u

from astroclassify.exceptions import SnapshotError
from astroclassify.sim import (
    EmbeddedPopulation,
    Observation,
    ObservationSampler,
    expected_counts,
    expected_spectrum,
    make_mocks,
    measure_core,
    measure_halo,
    observe,
    open_snapshot,
    write_embedded_snapshot,
)
from astroclassify.sim.halos import _pieces

CELLS = ("position", "velocity", "mass", "density", "temperature", "n_e", "n_h", "metallicity")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    return open_snapshot(write_embedded_snapshot(folder / "snapshot", EmbeddedPopulation(2, rng=3, max_cells=6000)))


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(_pieces, "N_CELLS", 1111)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_pieces_are_the_halo(tmp_path, monkeypatch, size):
    """Across two files, with cells left out, at the corner of the box."""
    monkeypatch.setattr(_pieces, "N_CELLS", size)
    snapshot = open_snapshot(write_snapshot(tmp_path), snapshot=33)
    for halo_id in (0, 1):
        whole, opened = snapshot.read_halo(halo_id), snapshot.open_halo(halo_id)
        pieces = list(opened.pieces())
        assert max(piece.n_cells for piece in pieces) <= size
        for name in CELLS:
            assert np.array_equal(np.concatenate([getattr(piece, name) for piece in pieces]), getattr(whole, name))
        for name in ("halo_id", "simulation", "snapshot", "redshift", "m_500", "r_500", "cosmology"):
            assert getattr(opened, name) == getattr(whole, name)
        assert np.array_equal(opened.centre, whole.centre)
        assert opened.meta.items() <= whole.meta.items()
        for name in ("n_gas", "n_excluded"):
            assert pieces[0].meta[name] == whole.meta[name]


def test_images_are_the_same(snapshot, small_pieces):
    whole, opened = snapshot.read_halo(0), snapshot.open_halo(0)
    assert len(list(opened.pieces())) > 3
    for settings in (Observation(shape=(60, 50)), Observation.acis_i(shape=(60, 50), energy_range=(0.5, 2) * u.keV)):
        for axis in ("x", (1, 2, 3)):
            images = [expected_counts(halo, settings, axis=axis, rng=1) for halo in (whole, opened)]
            assert np.array_equal(images[0].data, images[1].data)
            assert images[0].meta == images[1].meta
    drawn = [observe(halo, Observation(), engine="direct", rng=1).data for halo in (whole, opened)]
    assert np.array_equal(*drawn)


@pytest.mark.parametrize("aperture", [1e-6, 0.012, 0.6])
def test_measures_are_the_same(snapshot, small_pieces, aperture):
    whole, opened = snapshot.read_halo(1), snapshot.open_halo(1)
    cores = [measure_core(halo, aperture=aperture) for halo in (whole, opened)]
    assert repr(cores[0]) == repr(cores[1])
    measures = [measure_halo(halo, aperture=aperture, weighting="emission") for halo in (whole, opened)]
    assert repr(measures[0]) == repr(measures[1])
    assert measures[0].reasons == measures[1].reasons


def test_snapshot_and_pieces_are_one_line(snapshot):
    text, name = repr(snapshot), f"snapshot {snapshot.snapshot}"
    assert text.startswith(f"<Snapshot {snapshot.snapshot} of {snapshot.name}: z = ")
    assert text.endswith(f"{snapshot.n_groups} groups>")
    text = repr(snapshot.open_halo(1))
    assert text.startswith(f"<HaloPieces 1 of {snapshot.name} {name}: M500 = ") and text.endswith("gas cells on disk>")


@pytest.mark.parametrize("sampled", [False, True])
def test_a_sample_is_the_same_byte_for_byte(snapshot, small_pieces, monkeypatch, tmp_path, sampled):
    settings = {"observation": Observation(shape=(64, 64)), "engine": "direct", "rng": 5, "measures": True}
    if sampled:
        settings["observation"] = ObservationSampler(Observation(shape=(64, 64)), redshift=(0.03, 0.2))
    make_mocks(snapshot, [0, 1], out=tmp_path / "whole", **settings)
    monkeypatch.setattr(_pieces, "MANY_CELLS", 1000)
    read = []
    monkeypatch.setattr(type(snapshot), "read_halo", lambda self, number: read.append(number))
    make_mocks(snapshot, [0, 1], out=tmp_path / "pieces", **settings)
    assert not read
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    assert len(files) == 8
    for path in files:
        assert (tmp_path / "whole" / path).read_bytes() == (tmp_path / "pieces" / path).read_bytes(), path


def test_optional_field_that_one_file_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(_pieces, "N_CELLS", 1)
    base = write_snapshot(tmp_path)
    edit(snap(base), lambda f: f.create_dataset("PartType0/GFM_Metals", data=np.full((6, 10), 0.1, dtype="f4")))
    opened = open_snapshot(base, snapshot=33)
    assert {piece.abundances is None for piece in opened.open_halo(0).pieces()} == {False}
    assert {piece.abundances is None for piece in opened.open_halo(1).pieces()} == {True}
    assert opened.read_halo(1).abundances is None


def test_what_is_wrong_is_said(tmp_path):
    base = write_snapshot(tmp_path)
    snapshot = open_snapshot(base, snapshot=33)
    with pytest.raises(SnapshotError, match="halo 2 of toy snapshot 33 has no gas"):
        snapshot.open_halo(2)
    with pytest.raises(SnapshotError, match="halo_id must be below 4"):
        snapshot.open_halo(4)
    with pytest.raises(SnapshotError, match="no X-ray emitting gas: all 3 cells"):
        list(snapshot.open_halo(3).pieces())
    with pytest.raises(TypeError, match="halo must be a Halo for engine 'pyxsim', got HaloPieces"):
        expected_spectrum(snapshot.open_halo(0), Observation())
    edit(snap(base), lambda f: f["PartType0/Coordinates"].__setitem__(0, 5000.0))
    with pytest.raises(SnapshotError, match="not around its group"):
        list(snapshot.open_halo(0).pieces())
    edit(snap(base), lambda f: f["PartType0"].__delitem__("Density"))
    with pytest.raises(SnapshotError, match="field Density is missing"):
        list(snapshot.open_halo(0).pieces())
