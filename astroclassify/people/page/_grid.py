"""Lines of right ascension and declination over an image, and where north and east are."""

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord

__all__ = ["compass", "coordinate_grid"]

# Distances between lines: seconds of time, and arcsec; degrees to arcminutes where lines are sparse.
_STEPS = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000])
_N_LINES, _N_POINTS = 4, 17


def compass(wcs, x, y, step):
    """Unit vectors (x right, y up) towards north and east on the image at a pixel; ``step`` is an angle."""
    middle = wcs.pixel_to_world(x, y).icrs
    vectors = []
    for angle in (0 * u.deg, 90 * u.deg):
        there = wcs.world_to_pixel(middle.directional_offset_by(angle, step))
        vector = np.array([float(there[0]) - x, float(there[1]) - y])
        vectors.append((vector / np.hypot(*vector)).tolist())
    return vectors


def coordinate_grid(wcs, shape):
    """Lines of constant coordinates: dicts of a ``label`` and ``points``, pixels (x, y) along it."""
    (ny, nx), edge = shape, np.linspace(-0.5, 0.5, _N_POINTS)
    x = np.concatenate([edge * nx, edge * nx, 0 * edge - nx / 2, 0 * edge + nx / 2]) + (nx - 1) / 2
    y = np.concatenate([0 * edge - ny / 2, 0 * edge + ny / 2, edge * ny, edge * ny]) + (ny - 1) / 2
    border, middle = wcs.pixel_to_world(x, y).icrs, wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
    if not np.isfinite(border.ra.deg + border.dec.deg).all():
        return []
    # Longitudes about that of the middle, so that 0 h is no border.
    ra = middle.ra.deg + (border.ra.deg - middle.ra.deg + 180) % 360 - 180
    dec = border.dec.deg
    lines = []
    for values, others, unit in ((ra, dec, 15 / 3600), (dec, ra, 1 / 3600)):
        low, high = float(values.min()), float(values.max())
        step = _STEPS[min(np.searchsorted(_STEPS, (high - low) / unit / _N_LINES), len(_STEPS) - 1)] * unit
        along = np.linspace(others.min(), others.max(), _N_POINTS)
        for value in step * np.arange(np.ceil(low / step), np.floor(high / step) + 1):
            fixed = np.full(_N_POINTS, value)
            sky = SkyCoord(*((fixed, along) if values is ra else (along, fixed)), unit="deg")
            points = np.stack(wcs.world_to_pixel(sky), axis=1)
            points = points[np.isfinite(points).all(axis=1)]
            if len(points) > 1:
                lines.append({"label": _label(value, values is ra), "points": points.round(2).tolist()})
    return lines


def _label(value, is_ra):
    angle = Angle(value % 360 if is_ra else value, "deg")
    if is_ra:
        return angle.to_string("hourangle", precision=1, pad=True)
    return angle.to_string("deg", precision=0, pad=True, alwayssign=True)
