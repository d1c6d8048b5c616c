"""Names of images that come without a table: readable, and never one name for two images of a run."""

import os
from collections import defaultdict
from os import PathLike
from pathlib import Path

from astropy.io import fits
from astropy.nddata import NDData

from astroclassify import images as _images

__all__ = ["file_stem", "own_names", "told_apart"]

_ENDINGS = (".gz", ".bz2", ".xz", ".fits", ".fit", ".fts", ".ftz", ".img", ".evt")
_AXES = ("AXIS", "PROJECTION", "PROJ")


def file_stem(path):
    """Name of a file without the endings of images."""
    name = Path(path).name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name or str(path)


def own_names(values):
    """
    Name that each value has by itself, and its group (texts, two lists; empty for none).

    A file is named by its name; an image by HALO_ID or OBJECT, a Cutout by its source, which are also their groups.
    """
    names = [_object_name(value) or _file_name(value) or f"image-{i + 1:04d}" for i, value in enumerate(values)]
    return names, [_object_name(value) for value in values]


def _path_of(value):
    if isinstance(value, fits.HDUList):
        return value.filename()
    return value if isinstance(value, (str, PathLike)) else None


def _file_name(value):
    path = _path_of(value)
    return "" if path is None else file_stem(path)


def _object_name(value):
    if isinstance(value, _images.Cutout):
        return str(value.source_id)
    if isinstance(value, NDData):
        for key in ("HALO_ID", "OBJECT"):
            if text := str((value.meta or {}).get(key, "")).strip():
                return text
    return ""


def told_apart(names, values):
    """
    The names, changed where several images have the same one.

    Files: by the folders above them (``12345/broad_thresh``), in one folder by their endings; images along several axes
    by the axis (``halo 5 x``); else the second is ``A 1 (2)``. A name that only one image has stays as it is.
    """
    rows = defaultdict(list)
    for row, name in enumerate(names):
        rows[name].append(row)
    taken = {name for name, same in rows.items() if len(same) == 1}
    result = list(names)
    for name, same in rows.items():
        if len(same) == 1:
            continue
        for row, better in zip(same, _better_names(name, [values[row] for row in same]), strict=True):
            result[row] = _free(better, taken)
            taken.add(result[row])
    return result


def _better_names(name, values):
    names = [name] * len(values)
    paths = {row: path for row, value in enumerate(values) if (path := _path_of(value)) is not None}
    if len(paths) > 1:
        for row, better in zip(paths, _names_of_paths(list(paths.values())), strict=True):
            names[row] = better
    for row, value in enumerate(values):
        if isinstance(value, NDData):
            axis = next((text for key in _AXES if (text := str(value.meta.get(key, "")).strip())), "")
            names[row] = f"{name} {axis}" if axis else name
    return names


def _names_of_paths(paths):
    """Files of one stem: their names with as many of the folders above as tell them apart."""
    paths = [Path(os.path.abspath(path)) for path in paths]
    different = len(set(paths))
    by_ending = len({(path.parent, file_stem(path)) for path in paths}) < different
    leaves = [path.name if by_ending else file_stem(path) for path in paths]
    for depth in range(max(len(path.parts) for path in paths)):
        folders = [path.parent.parts[max(len(path.parent.parts) - depth, 0) :] if depth else () for path in paths]
        names = ["/".join((*above, leaf)) for above, leaf in zip(folders, leaves, strict=True)]
        if len(set(names)) == different:
            break
    return names


def _free(name, taken):
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
