"""The pictures of a report: X-rays, what speaks for the predicted class in them, and the optical image of each row."""

import base64
import contextlib
import functools
import logging
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from astroclassify import batch, tables
from astroclassify._checks import first_line
from astroclassify.exceptions import AstroclassifyWarning, GeometryError, SchemaError
from astroclassify.images import Cutout
from astroclassify.images._pictures import encode, thumbnails
from astroclassify.images.headers._wcs import is_celestial

from .._sources import read_bands
from ._table import degrees

__all__ = ["Pictures", "take_pictures"]

log = logging.getLogger(__name__)

_QUALITY = 70  # of JPEG: higher ones look the same
# A worker gets so many images at a time, and the classifier with them.
_CHUNK = 32
_UNREADABLE, _NOT_THERE = "image cannot be read", "not in the sample"


@dataclass
class Pictures:
    """
    ``files``: JPEGs as base64 by name, one dict for each image (and class of its map). For each row its number there or
    why it has none; why it has no activation map, else empty; the middle of its image in ICRS degrees, else NaN.
    """

    files: list = field(default_factory=list)
    of_row: list = field(default_factory=list)
    no_map: list = field(default_factory=list)
    middle: list = field(default_factory=list)

    def missing(self):
        """Number of rows without a picture by reason."""
        return Counter(value for value in self.of_row if isinstance(value, str))


@dataclass(frozen=True)
class _Taken:
    """What became of one image: its files, or why there are none; why there is no map; where its middle lies."""

    files: dict | None
    reason: str = ""
    no_map: str = ""
    middle: tuple = (np.nan, np.nan)


def take_pictures(sample, table, rows, size, *, classifier, executor, progress):
    """`Pictures` for a joined table, whose images are those of ``rows`` of the sample (-1: of none)."""
    paths, folder = tables.image_paths(sample), Path(sample.meta["folder"]).resolve()
    keys = _keys(table, rows, classifier)
    wanted = list(dict.fromkeys(key for key in keys if key is not None))
    items = [(paths[row], label, _how(sample, row, redshift, classifier)) for row, label, redshift in wanted]
    step = 1 if executor is None else _CHUNK
    starts = range(0, len(wanted), step)
    outcomes = batch.run(
        functools.partial(_take_all, folder=folder, size=size, classifier=classifier),
        [items[start : start + step] for start in starts],
        keys=[str(sample["source_id"][wanted[start][0]]) for start in starts],
        executor=executor,
        progress=progress,
        description="pictures",
    )
    pictures, found = Pictures(), {None: (_NOT_THERE, _Taken(None))}
    for start, outcome in zip(starts, outcomes, strict=True):
        chunk = wanted[start : start + step]
        for key, taken in zip(chunk, outcome.value or [_Taken(None, _UNREADABLE)] * len(chunk), strict=True):
            found[key] = (taken.reason or len(pictures.files), taken)
            if taken.files is not None:
                pictures.files.append(taken.files)
    for key in keys:
        number, taken = found[key]
        pictures.of_row.append(number)
        pictures.no_map.append(taken.no_map)
        pictures.middle.append(taken.middle)
    return pictures


def _keys(table, rows, classifier):
    """What decides the pictures of each row: row of the sample, class and redshift of its map; None without images."""
    labels, redshifts = [""] * len(rows), [None] * len(rows)
    if classifier is not None:
        labels = table["label_pred"].tolist()
        if "redshift" in table.colnames:
            redshifts = [value if np.isfinite(value) else None for value in table["redshift"].tolist()]
    keys = zip(rows.tolist(), labels, redshifts, strict=True)
    return [key if key[0] >= 0 else None for key in keys]


def _how(sample, row, redshift, classifier):
    """Arguments of the activation map beside image and class; some classifiers use columns of the catalogue."""
    has_columns = bool(getattr(classifier, "columns", None))
    return {"redshift": redshift, **({"columns": sample[[row]]} if has_columns else {})}


def _take_all(items, *, folder, size, classifier):
    """What became of each of some images."""
    taken = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstroclassifyWarning)  # the flags of a row say it too
        for path, label, how in items:
            try:
                taken.append(_take(path, label, how, folder, size, classifier))
            except (GeometryError, OSError) as error:
                log.debug("%s cannot be read: %s", path, error)
                taken.append(_Taken(None, _UNREADABLE))
    return taken


def _take(path, label, how, folder, size, classifier):
    # The names in the table cannot lead out of the folder; a link could.
    real = path.resolve()
    if real == folder:
        return _Taken(None, "no image")
    if not real.is_relative_to(folder):
        return _Taken(None, "outside of the sample folder")
    if not path.is_file():
        return _Taken(None, "no such file")
    bands = read_bands(path)
    activation, no_map = (None, "") if classifier is None else _activation(bands, label, how, classifier)
    drawn = thumbnails(bands, size, activation)
    if not drawn:
        return _Taken(None, "no image")
    files = {name: encode(colours, "JPEG", quality=_QUALITY, optimize=True) for name, colours in drawn.items()}
    files = {name: base64.b64encode(data).decode() for name, data in files.items()}
    return _Taken(files, no_map=no_map, middle=_middle(bands))


def _activation(bands, label, how, classifier):
    """Activation map of the predicted class, and why there is none."""
    if not label:
        return None, "no class was predicted"
    image = Cutout("", bands) if len(bands) > 1 else next(iter(bands.values()))
    try:
        return classifier.activation_map(image, label, **how), ""
    except Exception as error:  # whatever the network of a user does: the row is worth having without
        return None, f"{type(error).__name__}: {first_line(error)}"


def _middle(bands):
    """ICRS degrees of the middle of the first image that lies on the sky."""
    for image in bands.values():
        if is_celestial(image.wcs):
            ny, nx = image.shape
            sky = image.wcs.celestial.pixel_to_world((nx - 1) / 2, (ny - 1) / 2)
            with contextlib.suppress(SchemaError):  # a frame that depends on the time, say
                return tuple(degrees(tables.plain_sky(sky, "position")).tolist())
    return _Taken(None).middle
