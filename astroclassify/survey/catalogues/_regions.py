"""Candidates as regions, for DS9 and for the regions package."""

import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from regions import CircleSkyRegion, RegionMeta, Regions, RegionVisual

from astroclassify._checks import check_quantity
from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.tables import numbers, plain_sky, plain_table, write_beside

__all__ = ["to_regions", "write_regions"]

# Colours known to DS9 and matplotlib.
_COLOURS = {"C1": "red", "C2": "magenta", "P1": "cyan"}
_OTHER = "green"
# About the half-energy radius of XMM's mirrors on axis: smaller sources look like points.
_POINT = 7.5 * u.arcsec


def to_regions(candidates, *, radius=_POINT):
    """
    Draw candidates as circles on the sky.

    Parameters
    ----------
    candidates : `~astropy.table.QTable`
        A table with ``source_id`` and ``sky_position``, such as CANDIDATES; also ``ext`` and ``x_class`` if present.
    radius : `~astropy.units.Quantity`, optional
        Least radius of a circle, also where a source has no ``ext``: about the half-energy radius of the PSF, by
        default that of XMM on axis.

    Returns
    -------
    ``regions.Regions``
        One ``regions.CircleSkyRegion`` per row, in their order: radius ``ext``, colour by ``x_class`` (C1 red, C2
        magenta, P1 cyan, others green), text ``source_id``. A row without a position cannot be drawn and is left out
        with a warning.

    Raises
    ------
    SchemaError
        If a column is missing.

    Warns
    -----
    AstroclassifyWarning
        If rows have no position.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from astropy.table import QTable
    >>> from astroclassify.survey import to_regions
    >>> candidates = QTable({"source_id": ["a"], "ext": [20] * u.arcsec, "x_class": ["C1"]})
    >>> candidates["sky_position"] = SkyCoord([10] * u.deg, [-5] * u.deg)
    >>> region = to_regions(candidates)[0]
    >>> region.radius, region.visual["color"], region.meta["text"]
    (<Quantity 20. arcsec>, 'red', 'a')
    """
    regions = []
    for sky, size, colour, text in _circles(candidates, radius):
        meta = RegionMeta({"text": text})
        regions.append(CircleSkyRegion(sky, size * u.arcsec, meta=meta, visual=RegionVisual({"color": colour})))
    return Regions(regions)


def write_regions(candidates, path, *, radius=_POINT, overwrite=False):
    """
    Write candidates as a DS9 region file.

    Parameters
    ----------
    candidates : `~astropy.table.QTable`
        As for `to_regions`.
    path : str or path-like
        The file.
    radius : `~astropy.units.Quantity`, optional
        As for `to_regions`.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Returns
    -------
    `~pathlib.Path`
        The file. It is written completely or not at all.

    Raises
    ------
    SchemaError
        If a column is missing.
    OutputError
        If the file exists and ``overwrite`` is false, or it cannot be written.

    Notes
    -----
    The writer of the regions package moves a text that all regions share (always so for a single one) to the ``global``
    line, where DS9 does not read it, and writes an empty file for no regions; here every circle has its own text.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from astropy.table import QTable
    >>> from astroclassify.survey import write_regions
    >>> candidates = QTable({"source_id": ["a"], "ext": [20] * u.arcsec, "x_class": ["C1"]})
    >>> candidates["sky_position"] = SkyCoord([10] * u.deg, [-5] * u.deg)
    >>> with TemporaryDirectory() as folder:
    ...     lines = write_regions(candidates, Path(folder) / "candidates.reg").read_text().splitlines()
    >>> lines[-1]
    'circle(10.0000000,-5.0000000,20.000") # color=red text={a}'
    """
    lines = ["# Region file format: DS9 version 4.1", "icrs"]
    for sky, size, colour, text in _circles(candidates, radius):
        lines.append(f'circle({sky.ra.deg:.7f},{sky.dec.deg:.7f},{size:.3f}") # color={colour} text={{{text}}}')
    content = "\n".join(lines) + "\n"
    write_beside(path, lambda temporary: Path(temporary).write_text(content, encoding="utf-8"), overwrite=overwrite)
    return Path(path)


def _circles(candidates, radius):
    """Position, radius in arcsec, colour and text of every row that can be drawn."""
    radius = check_quantity("radius", radius, u.arcsec, positive=True, shape=())
    names = candidates.colnames if isinstance(candidates, Table) else ()
    if not {"source_id", "sky_position"} <= set(names) or not isinstance(candidates["sky_position"], SkyCoord):
        raise SchemaError("candidates must be a table with the columns source_id and sky_position (SkyCoord)")
    candidates = plain_table(candidates)
    sky = plain_sky(candidates["sky_position"], "column 'sky_position' of candidates")
    sizes = np.full(len(candidates), radius)
    if "ext" in names:
        found = numbers(candidates, "ext", u.arcsec, what="candidates")
        sizes = np.fmax(radius, np.where(np.isfinite(found), found, np.nan))
    classes = [str(each) for each in candidates["x_class"]] if "x_class" in names else [""] * len(candidates)
    good = np.isfinite(sky.ra.deg) & np.isfinite(sky.dec.deg)
    if not good.all():
        text = f"{np.sum(~good)} of {len(good)} candidates have no position and no region"
        warnings.warn(text, AstroclassifyWarning, stacklevel=3)
    for row in np.flatnonzero(good):
        yield sky[row], float(sizes[row]), _COLOURS.get(classes[row], _OTHER), _text(candidates["source_id"][row])


def _text(value):
    """Text that DS9 can hold between braces on one line."""
    return " ".join(str(value).translate(str.maketrans("{}", "()")).split())
