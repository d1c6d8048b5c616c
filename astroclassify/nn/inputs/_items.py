"""The images that users hand to a classifier, as one list of items that are read one at a time."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.cosmology.units import dimensionless_redshift
from astropy.io import fits
from astropy.table import Table

from astroclassify import tables
from astroclassify._checks import shorten
from astroclassify.exceptions import AstroclassifyWarning, EmptyResultWarning, GeometryError, SchemaError
from astroclassify.images._checks import check_position
from astroclassify.schemes import Flag
from astroclassify.tables import has_text, plain_column
from astroclassify.tables._plain import column_values

from ._forms import ALLOWED, check_pixel_scale, is_image, plain_counts, understood
from ._names import own_names, told_apart

__all__ = ["Item", "as_items", "open_folder"]

_FITS_NAME = re.compile(r"[^.].*\.(fits|fit|fts|ftz|img|evt)(\.gz|\.bz2|\.xz)?", re.IGNORECASE | re.DOTALL)
# Words for the system and equinox of ra and dec that mean ICRS, or differ from it by less than 0.03 arcsec.
_OF_2000 = ("", "ICRS", "FK5", "2000", "2000.0", "J2000", "J2000.0")


@dataclass(frozen=True, slots=True)
class Item:
    """
    One image (array on the grid, CCDData, Cutout, path, or the error that it met), with the entries of its row.

    ``centre`` is (right ascension, declination) [deg, ICRS]; an array's own sky (``on_sky`` false) has no meaning.
    ``values``: numbers of its row in a catalogue, where a model uses such, NaN where one is missing.
    """

    source_id: str
    value: Any
    group_id: str = ""
    label: str = ""
    redshift: float | None = None
    flags: int = 0
    centre: tuple | None = None
    on_sky: bool = True
    values: tuple = ()


def open_folder(images):
    """
    The SAMPLE table of a sample folder, or the sorted paths of the FITS files in any other folder, not in those below.

    Anything but a folder is returned unchanged. EmptyResultWarning if a folder has no FITS file.
    """
    if not isinstance(images, (str, PathLike)) or not os.path.isdir(images):
        return images
    folder = Path(images)
    if (folder / tables.SAMPLE_FILE).is_file():
        return tables.read_sample(folder)
    with os.scandir(folder) as entries:  # which knows files without asking for each of 200,000
        paths = sorted(entry.path for entry in entries if _FITS_NAME.fullmatch(entry.name) and entry.is_file())
    if not paths:
        text = f"no FITS file in the folder {str(folder)!r} (folders in it are not searched: use Path.rglob)"
        warnings.warn(text, EmptyResultWarning, stacklevel=3)
    return paths


def as_items(images, *, bands, shape, redshift=None, centre=None, pixel_scale=None):
    """
    One `Item` per image, without reading files, and whether it was a single image.

    ``images``: any form that `CutoutClassifier.classify` names. ``redshift``: one, one per image, or a dict by
    ``source_id``; ``centre``: one SkyCoord or one per image; where they are not known (NaN, masked) those of the table
    or the header hold. ``pixel_scale``: of arrays, an angle.
    """
    images = open_folder(images)
    scale = None if pixel_scale is None else check_pixel_scale(pixel_scale)
    if scale is not None and len(bands) > 1:
        raise GeometryError(f"pixel_scale is for models of one band, this one has {bands}: hand over Cutouts")
    single = False
    if isinstance(images, Table):
        items = _table_items(images)
    else:
        values, single = _values_of(images, bands, shape, scale)
        items = _image_items(values, scale)
    if scale is not None and items and all(item.on_sky for item in items):
        raise GeometryError("pixel_scale is for arrays, the images have a WCS of their own")
    if redshift is not None:
        redshifts = _redshifts(redshift, items)
        items = [
            item if np.isnan(z) else replace(item, redshift=float(z)) for item, z in zip(items, redshifts, strict=True)
        ]
    if centre is not None:
        centres = _centres(centre, len(items))
        items = [replace(item, centre=place or item.centre) for item, place in zip(items, centres, strict=True)]
    return items, single


def _values_of(images, bands, shape, scale):
    """List of images of anything but a table, and whether it was a single one."""
    if is_image(images):
        return [images], True
    if isinstance(images, np.ndarray) and not (images.ndim == 1 and (has_text(images) or images.dtype.kind == "O")):
        return _of_array(images, bands, shape, scale)
    if not isinstance(images, (list, tuple, Iterator, np.ndarray)):
        raise TypeError(f"images must be {ALLOWED}, got {type(images).__name__}")
    values = plain_column(images).tolist() if has_text(images) else list(images)
    for value in values:
        if not is_image(value) and not isinstance(value, np.ndarray):
            raise TypeError(f"images must be {ALLOWED}, got {type(value).__name__} in it")
    return values, False


def _of_array(array, bands, shape, scale):
    """Images of one array: a single one in two dimensions, else (n, [n_bands,] ny, nx)."""
    if array.dtype.kind not in "fiub":
        raise GeometryError(f"images must be an array of numbers, got dtype {array.dtype}")
    if scale is not None:
        if array.ndim not in (2, 3):
            raise GeometryError(f"images must be an array of shape (n, ny, nx) or (ny, nx), got {array.shape}")
        return ([array], True) if array.ndim == 2 else (list(array), False)
    array = plain_counts(array)
    wanted = (len(bands), *shape)
    if array.shape == (wanted if len(bands) > 1 else wanted[1:]):
        return [array], True
    if array.ndim == 3 and len(bands) == 1:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1:] != wanted:
        raise GeometryError(
            f"images must be an array of shape (n, {', '.join(map(str, wanted))}), the model's grid, got "
            f"{array.shape}: say pixel_scale, such as 4 * u.arcsec, or use CCDData with a WCS"
        )
    return list(array), False


def _image_items(values, scale=None):
    """Items of images, each with a name of its own."""
    forms = [understood(value, scale) for value in values]
    # An HDUList that knows its file is named by it, as the file would be.
    named = [
        value if isinstance(value, fits.HDUList) and value.filename() else form
        for value, form in zip(values, forms, strict=True)
    ]
    names, groups = own_names(named)
    ids = told_apart(names, named)
    on_sky = [scale is None or not isinstance(value, np.ndarray) for value in values]
    return [
        Item(*entries[:3], on_sky=entries[3]) for entries in zip(ids, forms, groups, on_sky, strict=True)
    ]  # fmt: skip


def _table_items(table):
    """Items of a table with a column of paths, relative to the folder in its meta or else to the current one."""
    if "path" not in table.colnames:
        raise SchemaError(f"images must be a table with a column path (of image files), got columns {table.colnames}")
    names = ["" if name is None else str(name) for name in column_values(table, "path", "")]
    if "folder" in table.meta:
        paths = tables.image_paths(table)
    else:
        paths = [Path(name) if name else GeometryError("its row names no file") for name in names]
    ids = [str(name) for name in column_values(table, "source_id", "")]
    if not all(ids):
        made = [item.source_id for item in _image_items(names)]
        ids = [name or other for name, other in zip(ids, made, strict=True)]
    redshifts = _plain_redshifts(table["redshift"]) if "redshift" in table.colnames else np.full(len(table), np.nan)
    # FAILED in a sample may speak of its label; whether there is a prediction is for the classifier to say.
    flags = [int(value) & ~int(Flag.FAILED) for value in column_values(table, "flags", 0)]
    return list(
        map(
            Item, ids, paths,
            [str(value) for value in column_values(table, "group_id", "")],
            [str(value) for value in column_values(table, "label", "")],
            [float(redshift) if np.isfinite(redshift) else None for redshift in redshifts],
            flags, _positions(table),
        )
    )  # fmt: skip


def _plain_redshifts(redshift):
    """Redshifts as plain numbers, NaN where they are masked; their unit may only be that of a redshift."""
    mask = np.asarray(getattr(redshift, "mask", False))
    redshift = getattr(redshift, "unmasked", redshift)  # of astropy's masked quantities
    unit = getattr(redshift, "unit", None)
    try:
        values = np.asarray(np.ma.getdata(getattr(redshift, "value", redshift)), dtype=float)
        if unit is not None:
            values = u.Quantity(values, unit).to_value(u.one, equivalencies=dimensionless_redshift())
    except u.UnitConversionError:
        raise ValueError(f"redshift must have no unit, got {unit}") from None
    except (TypeError, ValueError):
        raise ValueError(f"redshift must be numbers, got {shorten(redshift)}") from None
    return np.where(mask, np.nan, values)


def _redshifts(redshift, items):
    """Redshift of each item of the argument, NaN where it says none."""
    if isinstance(redshift, Mapping):
        redshift = _looked_up(redshift, items)
    values = _plain_redshifts(redshift)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(items)):
        raise ValueError(f"redshift must be one number or one per image ({len(items)}), got shape {values.shape}")
    if np.any(np.isinf(values)) or np.any(values < 0) or (values.ndim == 0 and np.isnan(values)):
        raise ValueError(f"redshift must be finite and not negative, got {shorten(redshift)}")
    return np.broadcast_to(values, len(items))


def _looked_up(redshift, items):
    """Redshifts by the names of the items, or of their groups where these are not there."""
    found = [redshift.get(item.source_id, redshift.get(item.group_id)) for item in items]
    values = np.array([np.nan if value is None else float(_plain_redshifts(value)) for value in found])
    lost = [item.source_id for item, value in zip(items, values, strict=True) if np.isnan(value)]
    if items and len(lost) == len(items):
        raise ValueError(
            f"redshift: it has a number for none of the {len(items)} images, whose source_id are such as {lost[0]!r} "
            f"(names there: {shorten(list(redshift)[:3])})"
        )
    if lost:
        text = f"no redshift is given for {len(lost)} of {len(items)} images (e.g. {lost[0]!r}): their headers decide"
        warnings.warn(text, AstroclassifyWarning, stacklevel=5)
    return values


def _centres(centre, n):
    """(ra, dec) [deg] of a SkyCoord of one position, or of one per image; None where it is not known."""
    if isinstance(centre, SkyCoord) and centre.shape:
        if centre.shape != (n,):
            raise ValueError(f"centre must be one position or one per image ({n}), got shape {centre.shape}")
        return _places(centre)
    check_position("centre", centre)
    return _places(centre.reshape(1)) * n


def _places(sky):
    """(ra, dec) [deg, ICRS] of positions as tuples, None where they are masked or not finite."""
    sky = sky.icrs
    ra, dec = (plain_column(angle.deg, np.nan).tolist() for angle in (sky.ra, sky.dec))
    return [place if np.isfinite(place).all() else None for place in zip(ra, dec, strict=True)]


def _positions(table):
    """Positions of a table: a SkyCoord column sky_position, or ra and dec (degrees where they have no unit)."""
    if "sky_position" in table.colnames:
        if not isinstance(table["sky_position"], SkyCoord):
            raise SchemaError("sky_position must be a column of SkyCoord")
        return _places(table["sky_position"])
    if not {"ra", "dec"} <= set(table.colnames):
        return [None] * len(table)
    for key in ("RADESYS", "RADECSYS", "EQUINOX", "EPOCH"):
        if (text := str(table.meta.get(key, "")).strip().upper()) not in _OF_2000:
            raise SchemaError(f"ra and dec must be ICRS, the table's {key} is {text!r}: use a SkyCoord sky_position")
    return _places(SkyCoord(*(_degrees(table[name], name) * u.deg for name in ("ra", "dec"))))


def _degrees(column, name):
    """Angles as plain degrees, NaN where they are masked."""
    unit = getattr(column, "unit", None) or u.deg
    values = plain_column(column, np.nan)
    values = np.asarray(getattr(values, "value", values))
    if values.dtype.kind not in "fiu" or not unit.is_equivalent(u.deg):
        raise SchemaError(f"{name} must be a column of angles, got dtype {values.dtype} and unit {unit}")
    degrees = (values.astype(float) * unit).to_value(u.deg)
    if name == "dec" and np.any(np.abs(degrees) > 90):
        raise SchemaError(f"dec must lie between -90 and 90 degrees, got {shorten(degrees)}")
    return degrees
