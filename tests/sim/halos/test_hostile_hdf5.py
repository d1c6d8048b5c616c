"""HDF5 files whose datasets lie elsewhere, nowhere, or are larger than the file: refused before they are read."""

import struct

import numpy as np
import pytest
from _tng_server import fetch
from _tng_snapshot import edit, groups, h5py, offsets, snap, write_snapshot
from astropy import units as u

from astroclassify.exceptions import SnapshotError
from astroclassify.sim import open_snapshot


def virtual(handle, name):
    """A dataset made of that of another file."""
    old = handle[name]
    layout = h5py.VirtualLayout(shape=old.shape, dtype=old.dtype)
    layout[...] = h5py.VirtualSource("other.hdf5", name, shape=old.shape)
    del handle[name]
    handle.create_virtual_dataset(name, layout)


def external(handle, name):
    """A dataset whose bytes are in a raw file."""
    old = handle[name]
    shape, dtype = old.shape, old.dtype
    del handle[name]
    handle.create_dataset(name, shape, dtype, external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])


def filtered(handle, name):
    """A dataset that asks for a filter which HDF5 would load from a library: 32008 is bitshuffle."""
    old = handle[name][()]
    del handle[name]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(old.shape)
    plan.set_filter(32008, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple(old.shape)
    h5py.h5d.create(handle.id, name.encode(), h5py.h5t.py_create(old.dtype), space, plan)


def replaced(handle, name, **keywords):
    """A dataset made anew with other settings."""
    old = handle[name]
    keywords = {**({} if "data" in keywords else {"shape": old.shape, "dtype": old.dtype}), **keywords}
    del handle[name]
    return handle.create_dataset(name, **keywords)


def linked(handle, name, link):
    del handle[name]
    handle[name] = link


def sparse_chunks(handle, name):
    """All but one chunk are left to the fill value."""
    shape = handle[name].shape
    data = replaced(handle, name, shape=(10**6, *shape[1:]), chunks=(1, *shape[1:]), fillvalue=1)
    data[0] = 1


# What is done to a dataset, and what the error says.
KINDS = {
    "external link": (lambda f, n: linked(f, n, h5py.ExternalLink("other.hdf5", n)), "is a link"),
    "external link to itself": (lambda f, n: linked(f, n, h5py.ExternalLink(f.filename, n)), "is a link"),
    "soft link to nothing": (lambda f, n: linked(f, n, h5py.SoftLink("/nowhere")), "is a link"),
    "soft link to itself": (lambda f, n: linked(f, n, h5py.SoftLink(f"/{n}")), "is a link"),
    "circle of groups": (lambda f, n: linked(f, n, f["/"]), "must be a dataset"),
    "virtual dataset": (virtual, "must be stored in the file, not in others"),
    "external storage": (external, "must be stored in the file, not in others"),
    "filter": (filtered, "must not need a filter from outside HDF5"),
    "references": (lambda f, n: replaced(f, n, shape=(3,), dtype=h5py.ref_dtype), "must hold numbers"),
    "regions": (lambda f, n: replaced(f, n, shape=(3,), dtype=h5py.regionref_dtype), "must hold numbers"),
    "text": (lambda f, n: replaced(f, n, dtype=h5py.string_dtype()), "must hold numbers"),
    "compound": (lambda f, n: replaced(f, n, dtype=[("a", "f4")]), "must hold numbers"),
    "no shape": (lambda f, n: linked(f, n, h5py.Empty("f4")), "must hold numbers"),
    "never written": (lambda f, n: replaced(f, n), "is not stored whole"),
    "fill value": (lambda f, n: replaced(f, n, shape=(10**12,), chunks=(10**4,), fillvalue=1), "is not stored whole"),
    "one chunk of many": (sparse_chunks, "is not stored whole"),
    "huge chunk": (lambda f, n: replaced(f, n, shape=(2**27,), chunks=(2**27,), dtype="f8"), "must have chunks"),
}  # fmt: skip
PLACES = {
    "cells": (snap, "PartType0/Density"),
    "catalogue": (groups, "Group/GroupPos"),
    "offsets": (offsets, "Group/SnapByType"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_data_that_is_not_in_the_file(tmp_path, kind, place):
    action, message = KINDS[kind]
    path, name = PLACES[place]
    base = write_snapshot(tmp_path)
    edit(path(base), lambda f: action(f, name))
    snapshot = open_snapshot(base, snapshot=33)
    calls = [lambda: snapshot.read_halo(0)]
    calls += [lambda: snapshot.select_halos(m_500_min=1e12 * u.Msun)] if place == "catalogue" else []
    for call in calls:
        with pytest.raises(SnapshotError, match=message) as caught:
            call()
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "offset"), [(0, None), (4, None), (20, 2**40), (2**31, None)])
def test_chunks_that_hdf5_dies_of(tmp_path, size, offset):
    """Of a chunk shorter than its checksum libhdf5 1.14 dies: the index of chunks is checked before they are read."""
    base = write_snapshot(tmp_path)
    path, name = snap(base), "PartType0/Density"
    with h5py.File(path, "r+") as handle:
        values = handle[name][()]
        data = replaced(handle, name, data=values, chunks=(3,), compression="gzip", fletcher32=True)
        chunk = data.id.get_chunk_info(1)
    key, there = struct.pack("<IIQQ", chunk.size, 0, 3, 0), struct.pack("<Q", chunk.byte_offset)
    changed = struct.pack("<IIQQ", size, 0, 3, 0) + (there if offset is None else struct.pack("<Q", offset))
    content = path.read_bytes()
    assert content.count(key + there) == 1
    path.write_bytes(content.replace(key + there, changed))
    with pytest.raises(SnapshotError, match="Density declares 24 bytes, .* not stored whole"):
        open_snapshot(base, snapshot=33).read_halo(0)


def test_compressed_files_are_read(tmp_path):
    """As `h5repack` makes them, with chunks that compression would have made longer, and which HDF5 leaves alone."""
    base = write_snapshot(tmp_path)
    expected = open_snapshot(base, snapshot=33).read_halo(1)
    for path in (snap(base), snap(base, 1), groups(base), groups(base, 1), offsets(base)):
        with h5py.File(path, "r+") as handle:
            names = [f"{group}/{name}" for group in handle for name in handle[group]]
            for name in names:
                values = handle[name][()]
                chunks = (1, *values.shape[1:])
                replaced(handle, name, data=values, chunks=chunks, compression="gzip", shuffle=True, fletcher32=True)
    snapshot = open_snapshot(base, snapshot=33)
    assert np.array_equal(snapshot.read_halo(1).position, expected.position)
    assert len(snapshot.select_halos(m_500_min=1e11 * u.Msun)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_downloads_are_held_to_the_same(api, tmp_path, kind):
    action, message = KINDS[kind]
    path = tmp_path / "cutout.hdf5"
    path.write_bytes(api.body(list(api.gas)))
    edit(path, lambda f: action(f, "PartType0/Density"))
    api.body = lambda fields: path.read_bytes()
    with pytest.raises(SnapshotError, match=f"after a second download: .*{message}"):
        fetch(api)


@pytest.mark.parametrize("group", ["PartType0", "Group", "Header"])
def test_group_behind_a_link(tmp_path, group):
    base = write_snapshot(tmp_path)
    edit((groups if group == "Group" else snap)(base), lambda f: linked(f, group, h5py.ExternalLink("other.hdf5", "/")))
    with pytest.raises(SnapshotError, match=f"/{group} is a link"):
        open_snapshot(base, snapshot=33).read_halo(0)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (groups, "NumFiles", -1),
        (groups, "NumFiles", 1.5),
        (groups, "NumFiles", "two"),
        (groups, "Ngroups_Total", [1, 2]),
        (groups, "Ngroups_Total", 2**40),
        (groups, "Ngroups_ThisFile", 2**40),
        (snap, "NumPart_ThisFile", "none"),
        (snap, "NumPart_ThisFile", np.zeros(0, dtype=int)),
        (snap, "Redshift", np.array([1.0, 2.0])),
        (snap, "OmegaBaryon", -1.0),
        (snap, "OmegaBaryon", "x"),
        (snap, "BoxSize", np.nan),
    ],
)
def test_headers_that_lie(tmp_path, path, name, value):
    base = write_snapshot(tmp_path)
    edit(path(base), lambda f: f["Header"].attrs.update({name: value}))
    with pytest.raises(SnapshotError) as caught:
        snapshot = open_snapshot(base, snapshot=33)
        snapshot.select_halos(m_500_min=1e12 * u.Msun)
        snapshot.read_halo(0)
    assert "\n" not in str(caught.value)
