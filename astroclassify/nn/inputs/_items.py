"""The images that users hand to a classifier, as one list of items that are read one at a time."""

import dataclasses
import logging
import re
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.cosmology.units import dimensionless_redshift
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table

from astroclassify import images as _images
from astroclassify import tables
from astroclassify._checks import first_line
from astroclassify.exceptions import EmptyResultWarning, GeometryError, SchemaError
from astroclassify.images._checks import counts_factor
from astroclassify.schemes import Flag
from astroclassify.tables import plain_column

__all__ = ["Item", "as_items", "attempt", "column_values", "group_names", "load_pixels", "open_folder"]

log = logging.getLogger(__name__)

_FITS_NAME = re.compile(r"[^.].*\.(fits|fit|fts|img)(\.gz|\.bz2|\.xz)?", re.IGNORECASE | re.DOTALL)
_ENDINGS = (".gz", ".bz2", ".xz", ".fits", ".fit", ".fts", ".img")
# Bands whose pixels are not counts: any unit will do, and the flags for counts do not apply.
_NOT_COUNTS = ("optical",)
_OF_ANY_BAND = Flag.OFF_EDGE | Flag.MASKED | Flag.NON_FINITE | Flag.COARSE_PIXELS | Flag.NO_OPTICAL
# Counts have Poisson noise: pixels above this value that share the largest one exactly, so many of them, were clipped.
_CLIPPED_FROM, _CLIPPED_PIXELS = 50, 16


@dataclass(frozen=True)
class Item:
    """One image (array, CCDData, Cutout or path), with the entries of its row in a sample table."""

    source_id: str
    value: Any
    group_id: str = ""
    label: str = ""
    redshift: float | None = None
    flags: int = 0


def _file_stem(path):
    name = Path(path).name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name or str(path)


def open_folder(images):
    """
    The SAMPLE table of a sample folder, or the sorted paths of the FITS files in any other folder.

    Anything but a folder is returned unchanged. EmptyResultWarning if a folder has no FITS file.
    """
    if not isinstance(images, (str, PathLike)) or not Path(images).is_dir():
        return images
    folder = Path(images)
    if (folder / tables.SAMPLE_FILE).is_file():
        return tables.read_sample(folder)
    paths = sorted(path for path in folder.iterdir() if _FITS_NAME.fullmatch(path.name) and path.is_file())
    if not paths:
        warnings.warn(f"no FITS file in the folder {str(folder)!r}", EmptyResultWarning, stacklevel=3)
    return paths


def _identifier(value, index):
    if isinstance(value, _images.Cutout):
        return str(value.source_id)
    if isinstance(value, (str, PathLike)):
        return _file_stem(value)
    if isinstance(value, CCDData):
        for key in ("HALO_ID", "OBJECT"):
            if str(value.meta.get(key, "")).strip():
                return str(value.meta[key]).strip()
    return f"image-{index + 1:04d}"


def column_values(table, name, default):
    """Values of a column as a list, ``default`` where they are masked or the table has no such column."""
    if name not in table.colnames:
        return [default] * len(table)
    return plain_column(table[name], default).tolist()


def group_names(values):
    """Names of groups as text, shape (n,); a row without one is a group of its own."""
    names = plain_column(values).tolist()
    return np.array([str(name) or f"row {row}" for row, name in enumerate(names)], dtype=str)


def _sample_items(sample):
    if "source_id" not in sample.colnames or "path" not in sample.colnames:
        raise SchemaError(f"images must be a SAMPLE table with source_id and path, got columns {sample.colnames}")
    paths = tables.image_paths(sample)
    redshifts = [float(value) for value in column_values(sample, "redshift", np.nan)]
    # FAILED in a sample may speak of its label; whether there is a prediction is for the classifier to say.
    flags = [int(value) & ~int(Flag.FAILED) for value in column_values(sample, "flags", 0)]
    ids = plain_column(sample["source_id"]).astype(str).tolist()
    groups = [str(value) for value in column_values(sample, "group_id", "")]
    labels = [str(value) for value in column_values(sample, "label", "")]
    redshifts = [redshift if np.isfinite(redshift) else None for redshift in redshifts]
    return list(map(Item, ids, paths, groups, labels, redshifts, flags))


def _plain_counts(array):
    """Array of counts without unit and mask."""
    if np.any(getattr(array, "mask", False)):
        raise GeometryError("images must be an array without masked pixels, got some: use CCDData with a mask")
    array = getattr(array, "unmasked", array)
    return array.value * counts_factor(array.unit) if isinstance(array, u.Quantity) else array


def _array_items(array, bands, shape):
    wanted = (len(bands), *shape)
    array = _plain_counts(array)
    if array.dtype.kind not in "fiub":
        raise GeometryError(f"images must be an array of numbers, got dtype {array.dtype}")
    if array.ndim == 3 and len(bands) == 1:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1:] != wanted:
        raise GeometryError(f"images must be an array of shape (n, {', '.join(map(str, wanted))}), got {array.shape}")
    return [Item(f"image-{i + 1:04d}", image) for i, image in enumerate(array)]


def _redshift_values(redshift):
    """Redshifts as plain numbers, NaN where they are masked."""
    mask = np.asarray(getattr(redshift, "mask", False))
    redshift = getattr(redshift, "unmasked", redshift)  # of astropy's masked quantities
    if isinstance(redshift, u.Quantity):
        try:
            redshift = redshift.to_value(u.dimensionless_unscaled, equivalencies=dimensionless_redshift())
        except u.UnitConversionError:
            raise ValueError(f"redshift must have no unit, got {redshift.unit}") from None
    return np.where(mask, np.nan, np.asarray(redshift, dtype=float))


def as_items(images, *, bands, shape, redshift=None):
    """
    One `Item` per image, without reading any, and whether it was a single image.

    ``images``: a SAMPLE table, an array of counts (n, [n_bands,] ny, nx) on the grid, CCDData, Cutout, a path, a
    sequence of these, or a folder. ``redshift``: one or one per image, NaN or masked for that of the table or header.
    """
    kinds = (CCDData, _images.Cutout, str, PathLike)
    images = open_folder(images)
    single = isinstance(images, kinds)
    if isinstance(images, Table):
        items = _sample_items(images)
    elif isinstance(images, np.ndarray):
        items = _array_items(images, bands, shape)
    elif single or isinstance(images, (list, tuple)):
        values = [images] if single else list(images)
        for value in values:
            if not isinstance(value, (*kinds, np.ndarray)):
                raise TypeError(f"images must hold CCDData, Cutout, arrays or paths, got {type(value).__name__}")
        items = [Item(_identifier(value, i), value) for i, value in enumerate(values)]
    else:
        allowed = "a SAMPLE table, an array, CCDData, Cutout, a path or a list of these"
        raise TypeError(f"images must be {allowed}, got {type(images).__name__}")
    if redshift is None:
        return items, single
    values = _redshift_values(redshift)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(items)):
        raise ValueError(f"redshift must be one number or one per image ({len(items)}), got shape {values.shape}")
    if np.any(np.isinf(values)) or np.any(values < 0) or (values.ndim == 0 and np.isnan(values)):
        raise ValueError(f"redshift must be finite and not negative, got {redshift}")
    values = np.broadcast_to(values, len(items))
    return [
        item if np.isnan(z) else dataclasses.replace(item, redshift=float(z))
        for item, z in zip(items, values, strict=True)
    ], single


def _is_cutout_file(path):
    """Whether the header of a file names the bands of a cutout; False for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            block = file.read(2880)
        if not block.startswith(b"SIMPLE"):  # compressed
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return {"SOURCEID", "BANDS"} <= set(fits.getheader(path, 0))
    except Exception:  # a damaged file: the reader, which comes next, has the better message
        return False
    return b"SOURCEID=" in block and b"BANDS   =" in block


def _read(path, bands):
    if len(bands) == 1 and not _is_cutout_file(path):
        return _images.read_image(path)
    return _images.Cutout.read(path)


def _bands_of(item, bands):
    """CCDData of each band, reading the file where the item is one."""
    value = item.value
    if isinstance(value, (str, PathLike)):
        value = _read(value, bands)
    if isinstance(value, CCDData):
        if len(bands) != 1:
            raise GeometryError(f"image must be a Cutout with the bands {bands}, got a single image")
        return [value]
    missing = [band for band in bands if band not in value.bands]
    if missing:
        raise GeometryError(f"cutout must have the bands {bands}, got {tuple(value.bands)}")
    return [value.bands[band] for band in bands]


def _content_flags(values, band):
    """Flags that follow from the valid pixels of a band before it is put on the grid."""
    top = values.max(initial=-np.inf)
    n_top = np.count_nonzero(values == top)
    if band in _NOT_COUNTS:
        return Flag.NO_OPTICAL if n_top == values.size else Flag(0)
    clipped = n_top == values.size or (top >= _CLIPPED_FROM and n_top >= _CLIPPED_PIXELS)
    return Flag.SATURATED if clipped else Flag(0)


def _on_grid(image, band, geometry, *, redshift, centre):
    """One band on the grid: pixels (float32, zero where masked) and flags."""
    valid = image.data if image.mask is None else image.data[~np.broadcast_to(image.mask, image.shape)]
    flags = _content_flags(valid[np.isfinite(valid)], band)
    if band in _NOT_COUNTS:
        image = CCDData(image.data, unit=u.adu, mask=image.mask, wcs=image.wcs, meta=image.meta)
    image = _images.standardise(image, geometry, redshift=redshift, centre=centre)
    flags |= Flag(int(image.meta.get("FLAGS", 0)))
    with np.errstate(over="ignore"):
        plane = np.asarray(image.data, dtype=np.float32)
    if image.mask is not None:
        plane = np.where(image.mask, np.float32(0), plane)
    return plane, int(flags & _OF_ANY_BAND if band in _NOT_COUNTS else flags)


def _array_pixels(item, bands, shape):
    """Pixels and flags of an array, which is on the grid already."""
    array = _plain_counts(item.value)
    pixels = array[None] if array.ndim == 2 else array
    if pixels.shape != (len(bands), *shape):
        raise GeometryError(f"image must have shape {(len(bands), *shape)}, got {item.value.shape}")
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    if not np.all(np.isfinite(pixels)):
        raise GeometryError(f"image {item.source_id!r} must be finite, got NaN or infinite pixels")
    flags = item.flags
    for plane, band in zip(pixels, bands, strict=True):
        flags |= int(_content_flags(plane, band))
        if band not in _NOT_COUNTS and np.any(plane < 0):
            flags |= int(Flag.NEGATIVE)
    return pixels, flags


def load_pixels(item, *, bands, geometry, centre=None):
    """
    Read one image and put it on the grid of a model.

    Returns float32 counts (n_bands, ny, nx), zero where masked (``optical`` in any unit), flags of the image and the
    resampling, and the `Header` of the first band of counts, None for an array.
    """
    shape = tuple(geometry.shape)
    if isinstance(item.value, np.ndarray):
        return *_array_pixels(item, bands, shape), None
    flags, headers, planes = item.flags, {}, []
    for image, band in zip(_bands_of(item, bands), bands, strict=True):
        headers[band] = _images.read_header(image.meta)
        plane, plane_flags = _on_grid(image, band, geometry, redshift=item.redshift, centre=centre)
        if plane.shape != shape or not np.all(np.isfinite(plane)):
            raise GeometryError(f"image {item.source_id!r} must be finite and of shape {shape} on the model's grid")
        flags |= plane_flags
        planes.append(plane)
    counts = [band for band in bands if band not in _NOT_COUNTS]
    return np.stack(planes), flags, headers[counts[0] if counts else bands[0]]


def attempt(function, item):
    """What a function makes of an item and "", or None and why in one line: one bad file must not end a run."""
    try:
        return function(item), ""
    except Exception as error:  # files hold anything, and so do the exceptions of those who read them
        message = f"{type(error).__name__}: {first_line(error)}"
        log.warning("%s failed: %s", item.source_id, message)
        return None, message
