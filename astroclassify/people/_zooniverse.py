"""Subjects for a Zooniverse project: four pictures of each candidate and the manifest to upload with them."""

import csv
import functools
import logging
import re
from pathlib import Path

import numpy as np
from astropy.table import QTable

from astroclassify import batch, tables
from astroclassify._checks import require
from astroclassify.exceptions import OutputError, SchemaError
from astroclassify.images import Cutout
from astroclassify.images._pictures import PICTURES, draw_all, valid_values, write_picture
from astroclassify.images.headers._wcs import is_celestial
from astroclassify.schemes import Flag

from ._encode import texts_of

__all__ = ["export_subjects"]

log = logging.getLogger(__name__)

MANIFEST = "manifest.csv"
_COLUMNS = ("image_1", "image_2", "image_3", "image_4")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


def export_subjects(sample, out, *, overwrite=False, executor=None, progress=None):
    """
    Write the pictures and the manifest of a set of subjects for Zooniverse.

    Parameters
    ----------
    sample : `~astropy.table.QTable` or sequence of Cutout
        A sample folder's table, as `~astroclassify.tables.read_sample` gives it, of cutouts with the bands ``xray`` and
        ``optical``; or the cutouts.
    out : str or path-like
        Folder to write: ``manifest.csv`` and the pictures. Upload all of it with Zooniverse's subject uploader.
    overwrite : bool, optional
        Whether files of these names may be replaced.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; by default here, one after the other.
    progress : bool, optional
        Whether to show a bar on standard error; by default on a terminal only.

    Returns
    -------
    `~astropy.table.QTable`
        One row per subject: ``source_id``, ``image_1`` to ``image_4`` (names of files), ``flags`` and ``message``. A
        subject that fails has no pictures, the flag ``FAILED`` and the reason, and is not in the manifest. Without an
        optical image (flag ``NO_OPTICAL``) these two pictures are blank: that is one of the answers.

    Raises
    ------
    SchemaError
        If ``sample`` is neither, or names of sources repeat.
    OutputError
        If ``out`` holds a manifest already, or cannot be written.
    MissingDependencyError
        If Pillow is not installed, which comes with the extra ``plots``.

    Notes
    -----
    The four pictures are those of The Hunt for Galaxy Clusters, whose scales are not known: X-ray, X-ray with contours,
    optical, optical with the X-ray contours. The X-ray image is smoothed with a Gaussian of 5 arcsec and shown on an
    asinh scale from its median to its maximum, at least to the first contour; contours start where a Poisson background
    of the median level reaches in one place of 100,000, and their height above it doubles; the optical image has an
    asinh scale from its 1st to its 99.7th percentile. Gaps are grey. North is up where it is up in the cutouts.

    The manifest has ``image_1`` to ``image_4``, and the name and position of the source as ``#source_id``, ``#ra``,
    ``#dec`` (degrees): Zooniverse hides from volunteers what starts with ``#``. `read_votes` finds the name again.
    Labels are not exported.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, section on The Hunt for Galaxy Clusters.

    Examples
    --------
    >>> from astroclassify import tables
    >>> from astroclassify.people import export_subjects
    >>> subjects = export_subjects(tables.read_sample("candidates"), "upload")  # doctest: +SKIP
    """
    require("PIL.Image", extra="plots")
    names, sources = _sources(sample)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"out: cannot make the folder {str(out)!r}: {error.strerror}") from error
    if (out / MANIFEST).exists() and not overwrite:
        raise OutputError(f"out: {str(out / MANIFEST)!r} exists already; choose another folder or ask to overwrite it")
    work = functools.partial(_export, out=out, overwrite=overwrite)
    items = list(zip(names, sources, strict=True))
    outcomes = batch.run(work, items, keys=names, executor=executor, progress=progress, description="subjects")
    rows = [_row(outcome) for outcome in outcomes]
    good = [row for row in rows if not row["flags"] & Flag.FAILED.value]
    tables.write_beside(out / MANIFEST, functools.partial(_write_manifest, good), overwrite=overwrite)
    if len(good) < len(rows):
        log.warning("%d of %d subjects have no pictures; column 'message' says why", len(rows) - len(good), len(rows))
    table = QTable()
    for name in ("source_id", *_COLUMNS, "message"):
        table[name] = np.array([row[name] for row in rows], dtype=str)
    table.add_column(np.array([row["flags"] for row in rows], dtype=np.int64), table.index_column("message"), "flags")
    table.meta = tables.provenance(folder=str(out.resolve()))
    return table


def _sources(sample):
    """Names, and paths or cutouts."""
    if hasattr(sample, "colnames"):
        names, sources = texts_of(sample["source_id"]), tables.image_paths(sample)
    else:
        sources = list(sample)
        if not all(isinstance(each, Cutout) for each in sources):
            raise SchemaError("sample must be the table of a sample folder or a sequence of Cutout")
        names = [each.source_id for each in sources]
    if len(set(names)) != len(names):
        raise SchemaError("sample must have one row per source_id")
    return names, sources


def _row(outcome):
    empty = {"source_id": outcome.key, **dict.fromkeys(_COLUMNS, "")}
    if outcome.error is not None:
        return {**empty, "flags": Flag.FAILED.value, "message": outcome.error}
    return {**empty, **outcome.value, "message": ""}


def _write_manifest(rows, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "#source_id", "#ra", "#dec"])
        for row in rows:
            writer.writerow([*(row[name] for name in _COLUMNS), row["source_id"], row["ra"], row["dec"]])


def _export(item, out, overwrite):
    """Pictures of one subject; its row."""
    name, source = item
    if not _IDENTIFIER.fullmatch(name):
        raise SchemaError(f"source_id must be letters, digits and _.+-, got {name[:40]!r}")
    cutout = source if isinstance(source, Cutout) else Cutout.read(source)
    if "xray" not in cutout.bands:
        raise SchemaError(f"the cutout must have the band 'xray', got {sorted(cutout.bands)}")
    row = {"flags": 0, **_position(cutout.bands["xray"])}
    bands = {band: image for band, image in cutout.bands.items() if band != "optical" or _has_contrast(image)}
    if "optical" not in bands:
        row["flags"] |= Flag.NO_OPTICAL.value
    pictures = draw_all(bands)
    for column, kind in zip(_COLUMNS, PICTURES, strict=True):
        row[column] = f"{name}_{kind}.png"
        write_picture(pictures[kind], out / row[column], overwrite=overwrite)
    return row


def _has_contrast(image):
    values, valid = valid_values(image)
    return np.unique(values[valid]).size > 1


def _position(image):
    """Centre of an image in degrees, as text; empty without coordinates."""
    if not is_celestial(image.wcs):
        return {"ra": "", "dec": ""}
    ny, nx = image.shape
    centre = image.wcs.celestial.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
    return {"ra": f"{centre.ra.deg:.6f}", "dec": f"{centre.dec.deg:.6f}"}
