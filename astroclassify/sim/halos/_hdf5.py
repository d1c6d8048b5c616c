"""
HDF5 files that others wrote, opened so that nothing but the file itself is read and every fault is a SnapshotError.

A dataset may lie in other files (external links, virtual datasets, external storage), be declared far larger than what
is stored, or need a filter that HDF5 would load as a library from the file system. Files of the TNG data release have
none of this: plain numbers, stored whole, in groups that hold datasets and nothing else.
"""

import math
from contextlib import contextmanager

import numpy as np

from astroclassify._checks import first_line
from astroclassify.exceptions import SnapshotError

__all__ = ["attribute", "opened", "whole_number"]

# Filters that are part of HDF5 and h5py: shuffle and fletcher32 (a checksum of 4 bytes) beside deflate, szip, nbit,
# scale-offset and lzf, which shorten.
_CHECKSUM, _SHORTENING = 3, (1, 4, 5, 6, 32000)
_FILTERS = (2, _CHECKSUM, *_SHORTENING)
# Deflate shortens at most 1032 times (zlib's documentation); the others less.
_LARGEST_RATIO = 1032
_LARGEST_CHUNK = 2**28  # bytes, all of which are unpacked to read one value


@contextmanager
def opened(path, *groups):
    """
    An open file whose groups have been checked, those that are there. Within, too, every error is a SnapshotError.

    ``path`` is a `~pathlib.Path`; "Header" must be there if it is asked for.
    """
    import h5py

    if not path.is_file():
        raise SnapshotError(f"file is missing: {path}")
    try:
        try:
            handle = h5py.File(path, "r")
        except Exception as error:
            raise SnapshotError(f"not a readable HDF5 file (truncated or damaged?): {path}") from error
        with handle:
            size = path.stat().st_size
            for name in groups:
                if name in handle:
                    _check_group(handle, name, size, path)
                elif name == "Header":
                    raise SnapshotError(f"no Header group in {path}")
            yield handle
    except SnapshotError:
        raise
    except Exception as error:  # h5py raises a dozen kinds of them for one kind of broken file or another
        raise SnapshotError(f"{path} is damaged: {first_line(error)}") from error


def _check_group(handle, name, size, path):
    """Raise unless a group lies in the file itself and holds plain datasets only."""
    group = _own(handle, name, path)
    if not hasattr(group, "keys"):
        raise SnapshotError(f"{name} must be a group of datasets in {path}")
    for member in group:
        dataset = _own(group, member, path)
        fault = _fault(dataset, size)
        if fault:
            raise SnapshotError(f"{name}/{member} {fault} in {path}")


def _own(group, name, path):
    """A member of a group, not through a link that leads elsewhere, in circles or nowhere."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise SnapshotError(
            f"{group.name.rstrip('/')}/{name} is a link in {path}; copy what it points to into the file"
        )
    return group[name]


def _fault(dataset, size):
    """What is wrong with a dataset of a file of ``size`` bytes; an empty text if nothing is."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        return "must be a dataset"
    if dataset.shape is None or dataset.dtype.kind not in "iufb":
        return f"must hold numbers, not {dataset.dtype}"
    plan = dataset.id.get_create_plist()
    if dataset.is_virtual or plan.get_external_count():
        return "must be stored in the file, not in others"
    filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
    if not set(filters) <= set(_FILTERS):
        return "must not need a filter from outside HDF5"
    n_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if dataset.chunks is None:
        whole = stored >= n_bytes
    else:
        chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if chunk_bytes > _LARGEST_CHUNK:
            return f"must have chunks of at most {_LARGEST_CHUNK} bytes"
        counts = [-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]
        whole = _whole_chunks(dataset, filters, chunk_bytes, size) >= math.prod(counts)
    if not whole or n_bytes > _LARGEST_RATIO * size:
        return f"declares {n_bytes} bytes, of which the file holds {stored}: it is not stored whole"
    return ""


def _whole_chunks(dataset, filters, chunk_bytes, size):
    """Number of chunks in a file of ``size`` bytes that are as long as their filters allow: HDF5 dies of others."""
    whole = 0

    def visit(chunk):
        nonlocal whole
        active = [code for k, code in enumerate(filters) if not chunk.filter_mask >> k & 1]
        more = 4 * (_CHECKSUM in active)
        shortened = any(code in _SHORTENING for code in active)
        sound = chunk.size > more if shortened else chunk.size == chunk_bytes + more
        whole += sound and chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= size

    dataset.id.chunk_iter(visit)
    return whole


def attribute(header, name, path):
    """An attribute of a header, or a SnapshotError."""
    if name not in header:
        raise SnapshotError(f"attribute {name} is missing from the Header of {path}")
    return header[name]


def whole_number(header, name, path):
    """An attribute that counts something, as an int."""
    value = np.asarray(attribute(header, name, path))
    if value.dtype.kind not in "iu" or value.size != 1 or np.any(value < 0):
        raise SnapshotError(f"attribute {name} must be a whole number from 0, got {header[name]!r} in {path}")
    return int(value.reshape(()))
