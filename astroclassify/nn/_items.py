"""What users hand to a classifier, as one list of items that are read one at a time."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from astropy.nddata import CCDData
from astropy.table import Table

from .. import images as _images
from .. import tables
from ..exceptions import GeometryError, SchemaError
from ..schemes import Flag

__all__ = ["Item", "as_items", "instrument_of", "load_pixels"]

_ENERGY_KEYS = (("E_MIN", "E_MAX"), ("ENERG_LO", "ENERG_HI"))


@dataclass(frozen=True)
class Item:
    """One image to be: an array, CCDData, Cutout or path, with what its row of a sample table says of it."""

    source_id: str
    value: Any
    group_id: str = ""
    label: str = ""
    redshift: float | None = None
    flags: int = 0


def _file_stem(path):
    name = Path(path).name
    for ending in (".gz", ".bz2", ".xz", ".fits", ".fit", ".fts", ".img"):
        name = name.removesuffix(ending)
    return name or str(path)


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


def _column(table, name, default):
    if name not in table.colnames:
        return [default] * len(table)
    column = table[name]
    if getattr(column, "mask", None) is not None:
        column = column.filled(default)
    return list(np.asarray(column))


def _sample_items(sample):
    if "source_id" not in sample.colnames or "path" not in sample.colnames:
        raise SchemaError(f"images must be a SAMPLE table with source_id and path, got columns {sample.colnames}")
    paths = tables.image_paths(sample)
    redshifts = [float(value) for value in _column(sample, "redshift", np.nan)]
    # FAILED in a sample may speak of its label; whether there is a prediction is for the classifier to say.
    flags = [int(value) & ~int(Flag.FAILED) for value in _column(sample, "flags", 0)]
    ids = [str(value) for value in sample["source_id"]]
    groups = [str(value) for value in _column(sample, "group_id", "")]
    labels = [str(value) for value in _column(sample, "label", "")]
    return [
        Item(source, path, group, label, redshift if np.isfinite(redshift) else None, flag)
        for source, path, group, label, redshift, flag in zip(
            ids, paths, groups, labels, redshifts, flags, strict=True
        )
    ]


def _array_items(array, bands, shape):
    wanted = (len(bands), *shape)
    if array.dtype.kind not in "fiub":
        raise GeometryError(f"images must be an array of numbers, got dtype {array.dtype}")
    if array.ndim == 3 and len(bands) == 1:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1:] != wanted:
        raise GeometryError(f"images must be an array of shape (n, {', '.join(map(str, wanted))}), got {array.shape}")
    return [Item(f"image-{i + 1:04d}", image) for i, image in enumerate(array)]


def as_items(images, *, bands, shape, redshift=None):
    """
    List the images that came, without reading any.

    Parameters
    ----------
    images : `~astropy.table.QTable`, `~numpy.ndarray`, CCDData, Cutout, path, or sequence of the last four
        A SAMPLE table with its folder in ``meta``, an array of counts (n, [n_bands,] ny, nx) on the grid of the
        model, or images.
    bands : tuple of str
        Bands of the model.
    shape : tuple of int
        Image shape of the model.
    redshift : float or sequence of float, optional
        Redshift of all or of each; goes before what tables and headers say.

    Returns
    -------
    items : list of Item
        One per image, in the order given.
    single : bool
        Whether one image came that was not in a list.

    Raises
    ------
    SchemaError, GeometryError, TypeError, ValueError
        If it is nothing of these.
    """
    kinds = (CCDData, _images.Cutout, str, PathLike)
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
        raise TypeError(
            f"images must be a SAMPLE table, an array, CCDData, Cutout, a path or a list of these, "
            f"got {type(images).__name__}"
        )
    if redshift is None:
        return items, single
    values = np.asarray(redshift, dtype=float)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(items)):
        raise ValueError(f"redshift must be one number or one per image ({len(items)}), got shape {values.shape}")
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(f"redshift must be finite and not negative, got {redshift}")
    values = np.broadcast_to(values, len(items))
    return [
        Item(item.source_id, item.value, item.group_id, item.label, float(z), item.flags)
        for item, z in zip(items, values, strict=True)
    ], single


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def instrument_of(meta):
    """
    Telescope, instrument, energy range and exposure that a header names.

    Parameters
    ----------
    meta : mapping
        The header.

    Returns
    -------
    dict
        ``telescope`` and ``instrument`` (upper case, empty if not named), ``energy_range`` (list of two floats in
        keV, or None), ``exposure`` (s, or None).
    """
    energy = None
    for keys in _ENERGY_KEYS:
        low, high = (_number(meta.get(key)) for key in keys)
        if np.isfinite([low, high]).all() and 0 <= low < high:
            energy = [low, high]
            break
    return {
        "telescope": str(meta.get("TELESCOP", "") or "").strip().upper(),
        "instrument": str(meta.get("INSTRUME", "") or "").strip().upper(),
        "energy_range": energy,
        "exposure": exposure if np.isfinite(exposure := _number(meta.get("EXPOSURE"))) else None,
    }


def _bands_of(item, bands):
    """CCDData of each band, reading the file where the item is one."""
    value = item.value
    if isinstance(value, (str, PathLike)):
        value = _images.read_image(value) if len(bands) == 1 else _images.Cutout.read(value)
    if isinstance(value, CCDData):
        if len(bands) != 1:
            raise GeometryError(f"image must be a Cutout with the bands {bands}, got a single image")
        return [value]
    missing = [band for band in bands if band not in value.bands]
    if missing:
        raise GeometryError(f"cutout must have the bands {bands}, got {tuple(value.bands)}")
    return [value.bands[band] for band in bands]


def load_pixels(item, *, bands, geometry, centre=None):
    """
    Read one image and put it on the grid of a model.

    Parameters
    ----------
    item : Item
        The image.
    bands : tuple of str
        Bands wanted.
    geometry : `~astroclassify.images.Geometry`
        The grid.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Centre of the field wanted; by default that of the image.

    Returns
    -------
    pixels : `~numpy.ndarray`
        Counts, float32, shape (n_bands, ny, nx). Masked pixels are zero.
    flags : int
        Flags of the image and of its way to the grid.
    header : dict or None
        What `instrument_of` finds in the header of the first band; None for an array, which has none.

    Raises
    ------
    GeometryError, ValueError, OSError
        If it cannot be done.
    """
    shape = tuple(geometry.shape)
    if isinstance(item.value, np.ndarray):
        pixels = item.value[None] if item.value.ndim == 2 else item.value
        if pixels.shape != (len(bands), *shape):
            raise GeometryError(f"image must have shape {(len(bands), *shape)}, got {item.value.shape}")
        if not np.all(np.isfinite(pixels)):
            raise GeometryError(f"image {item.source_id!r} must be finite, got NaN or infinite pixels")
        flags = item.flags | (int(Flag.NEGATIVE) if np.any(pixels < 0) else 0)
        return np.ascontiguousarray(pixels, dtype=np.float32), flags, None
    flags, header, planes = item.flags, None, []
    for image in _bands_of(item, bands):
        header = instrument_of(image.meta) if header is None else header
        image = _images.standardise(image, geometry, redshift=item.redshift, centre=centre)
        flags |= int(image.meta.get("FLAGS", 0))
        plane = np.asarray(image.data, dtype=np.float32)
        if image.mask is not None:
            plane = np.where(image.mask, np.float32(0), plane)
        if plane.shape != shape or not np.all(np.isfinite(plane)):
            raise GeometryError(f"image {item.source_id!r} must be finite and of shape {shape} on the model's grid")
        planes.append(plane)
    return np.stack(planes), flags, header
