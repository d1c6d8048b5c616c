"""Where the events of a list lie: columns with coordinates of the sky, as pixels of the list with a WCS."""

import re
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from astroclassify.exceptions import GeometryError

from .._resample import sky_to_pixels
from ..headers._headers import read_header
from ..headers._wcs import is_celestial
from ._missions import MISSIONS
from ._table import Column

_CELESTIAL = re.compile(r"(RA-|[GEHS]LON|DEC|[GEHS]LAT|[A-Z]{2}L[NT])-")
_LARGEST_PIXEL = 1.0  # deg
_WIDEST = 180.0  # deg
# Keywords of the axis of an image, and how those of a column (TCTYPn; FITS 4.0, pixel lists) and of XMM-Newton
# (REFXCTYP) spell them.
_SPELLED = {
    "CTYPE": "CTYP", "CUNIT": "CUNI", "CRPIX": "CRPX", "CRVAL": "CRVL", "CDELT": "CDLT", "CROTA": "CROT",
}  # fmt: skip
_MATRICES = {"PC": ("TPC", "TP"), "CD": ("TCD", "TC")}
_CIRCLE = re.compile(r"CIRCLE\s*\(\s*([-+.\dEe]+)\s*,\s*([-+.\dEe]+)", re.IGNORECASE)
_DEFAULT_NATIVE = 4.0  # arcsec


@dataclass(frozen=True)
class Sky:
    """
    Two columns, the WCS of the list's pixels, and their legal range.

    ``limits`` holds the lower and upper edge along x and y, in pixels of the list (the first one reaches from 0.5 to
    1.5), or None where the header has none. ``is_angle``: the columns are longitude and latitude [deg].
    """

    columns: tuple[Column, Column]
    wcs: WCS
    limits: tuple | None
    is_angle: bool = False

    @property
    def is_whole(self):
        """Whether the places are whole pixels."""
        return not self.is_angle and all(column.is_whole for column in self.columns)

    def places(self, rows):
        """Pixels x and y of events; NaN where they have none."""
        x, y = (column.values(rows) for column in self.columns)
        if not self.is_angle:
            return x, y
        x, y = sky_to_pixels(self.wcs, x, y)
        return np.asarray(x) + 1, np.asarray(y) + 1


def find_sky(table, position):
    """Sky coordinates of a table: columns X and Y with a WCS, else RA and DEC around a position or the pointing."""
    pair = _column_pair(table)
    if pair is not None:
        columns, keys, limit_keys = pair
        wcs = _linear_wcs(table, keys)
        limits = tuple(_limits(table, each) for each in limit_keys)
        sky = Sky(columns, wcs, None if None in limits else limits)
        _check_size(table, sky)
        return sky
    ra, dec = table.column("RA"), table.column("DEC")
    if ra is None or dec is None:
        raise GeometryError(
            f"{table.label} has no sky coordinates (X and Y with TCTYPn or REFXCTYP, or RA and DEC), "
            f"only the columns {table.names}"
        )
    return Sky((ra, dec), _tangential_wcs(table, position), None, is_angle=True)


def _column_pair(table):
    """The two columns, keywords of their WCS, and those of their legal range; None where there is no such pair."""
    kinds = {n: str(table.header.get(f"TCTYP{n}", "")).strip().upper() for n in range(1, len(table.names) + 1)}
    numbers = [n for n, kind in kinds.items() if _CELESTIAL.match(kind)]
    named = [n for n in numbers if table.names[n - 1].upper() in ("X", "Y")]
    numbers = named if len(named) == 2 else numbers
    if len(numbers) == 2:
        return tuple(table.numbered(n) for n in numbers), _keys_by_column(table.header, numbers), _ranges(numbers)
    columns = table.column("X"), table.column("Y")
    if None in columns or "REFXCTYP" not in table.header:
        return None
    keys = {f"{key}{i}": f"REF{axis}{short}" for i, axis in ((1, "X"), (2, "Y")) for key, short in _SPELLED.items()}
    ranges = tuple(
        [*own, (f"REF{axis}LMIN", f"REF{axis}LMAX")]
        for axis, own in zip("XY", _ranges([column.number for column in columns]), strict=True)
    )
    return columns, keys, ranges


def _keys_by_column(header, numbers):
    """Keywords of an image, and the keyword of the header that has its value."""
    keys = {}
    for axis, n in enumerate(numbers, 1):
        keys.update({f"{key}{axis}": f"T{short}{n}" for key, short in _SPELLED.items()})
        for key in ("LONP", "LATP"):
            if f"{key}{n}" in header:
                keys[f"{key}OLE"] = f"{key}{n}"
        for other, k in enumerate(numbers, 1):
            for image, names in _MATRICES.items():
                found = [f"{name}{n}_{k}" for name in names if f"{name}{n}_{k}" in header]
                keys.update({f"{image}{axis}_{other}": key for key in found[:1]})
    return keys


def _ranges(numbers):
    return tuple([(f"TLMIN{n}", f"TLMAX{n}")] for n in numbers)


def _linear_wcs(table, keys):
    """WCS of the list's pixels from its keywords; an error for one that cannot be true."""
    header = fits.Header()
    for image, key in keys.items():
        if image[:5] in ("CTYPE", "CUNIT"):
            if text := str(table.header.get(key, "")).strip():
                header[image] = text
        elif (value := table.number_of(key)) is not None:
            header[image] = value
    for image, key in keys.items():
        if image[:5] in ("CRPIX", "CRVAL") and image not in header:
            raise GeometryError(f"{table.label}: {key} must be a number, but is not there")
    for key in ("EQUINOX", "RADESYS", "RADECSYS"):
        if isinstance(value := table.header.get(key), (str, float, int)):
            header[key.replace("RADECSYS", "RADESYS")] = value
    try:
        wcs = WCS(header)
        wcs.wcs.set()
        scale = wcs.pixel_scale_matrix
    except Exception as error:  # wcslib has errors of many kinds
        raise GeometryError(f"{table.label} has no usable coordinate system: {str(error).splitlines()[0]}") from error
    sides = np.sqrt(np.sum(scale**2, axis=0))
    if not is_celestial(wcs) or not np.all(np.isfinite(sides)) or not abs(np.linalg.det(scale)) > 0:
        raise GeometryError(f"{table.label} has no usable coordinate system: pixels of {sides * 3600} arcsec")
    if sides.max() > _LARGEST_PIXEL:
        raise GeometryError(
            f"{table.label} has a coordinate system that cannot be true: pixels of {sides.max():g} deg "
            f"({', '.join(keys[f'CDELT{i}'] for i in (1, 2))})"
        )
    return wcs


def _check_size(table, sky):
    if sky.limits is None:
        return
    sides = np.sqrt(np.sum(sky.wcs.pixel_scale_matrix**2, axis=0)) * np.ptp(sky.limits, axis=1)
    if sides.max() > _WIDEST:
        raise GeometryError(
            f"{table.label} has a coordinate system that cannot be true: a sky of {sides.max():.0f} deg"
        )


def _limits(table, keys):
    """Edges of the legal range, from the first pair of keywords that has one; whole pixels are whole."""
    for low_key, high_key in keys:
        low, high = table.number_of(low_key), table.number_of(high_key)
        if low is not None and high is not None and low < high:
            return np.floor(low + 0.5) - 0.5, np.ceil(high - 0.5) + 0.5
    return None


def _tangential_wcs(table, position):
    """Tangential projection around a position, or where the header says that the list or the telescope looks."""
    header = read_header(table.header)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [0.5, 0.5]
    wcs.wcs.radesys = header.frame or "ICRS"
    if header.equinox is not None and header.frame != "ICRS":
        wcs.wcs.equinox = header.equinox
    mission = MISSIONS.get(header.instrument)
    pixel = (mission.pixel if mission else _DEFAULT_NATIVE) / 3600
    wcs.wcs.cdelt = [-pixel, pixel]
    wcs.wcs.crval = [0.0, 0.0]
    wcs.wcs.set()
    if position is None:
        wcs.wcs.crval = _centre(table, header)
    else:
        place = position.transform_to(wcs_to_celestial_frame(wcs)).spherical
        wcs.wcs.crval = [place.lon.deg, place.lat.deg]
    wcs.wcs.set()
    return wcs


def _centre(table, header):
    """Where a list with RA and DEC looks: its selected circle (Fermi), its field (eROSITA), else the pointing."""
    for key, value in table.header.items():
        if key.startswith("DSVAL") and (found := _CIRCLE.search(str(value))):
            return [float(each) for each in found.groups()]
    if "RA_CEN" in table.header and "DEC_CEN" in table.header:
        return [table.number_of("RA_CEN"), table.number_of("DEC_CEN")]
    if header.pointing is None:
        raise GeometryError(
            f"position must be given: {table.label} has RA and DEC of its events, but its header no pointing"
        )
    return list(header.pointing)
