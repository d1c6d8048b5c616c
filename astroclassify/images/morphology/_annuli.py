"""Counts of an image in annuli about a source, with the exposure that each has: what radial profiles are made from."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from astroclassify._checks import check_quantity
from astroclassify.exceptions import GeometryError

from .._checks import as_image, celestial, check_position, counts_factor, square_pixels, valid_pixels
from .._geometry import Geometry
from .._resample import find_pixel
from ..headers._headers import read_header
from . import _moments as core

__all__ = ["MARKS", "Annuli", "find_annuli"]

GROWTH = 1.12
"""Ratio of the radii of an annulus, where a pixel is not wider."""

SMALLEST = 1.0
"""The first annulus is at least this wide [kpc]."""

MARKS = (40.0, 400.0)
"""Radii of C_SB [kpc], at which annuli end: Santos et al. 2008, A&A 483, 35."""

COVERAGE = 0.25
"""Annuli end where less than this part of one is on the image, unmasked and exposed."""

MIN_ANNULI = 5

PEAK_SMOOTHING = 20.0
"""Sigma of the Gaussian under which the peak is the brightest point [kpc], after a search with `PEAK_SEARCH`.

A narrow one finds peaks of the noise of a flat core (with 10 kpc the density of ACCEPT's images comes out 0.024 dex
high in the mean, with 20 0.009), a wide one misses cores that do not lie in the middle of their cluster."""

PEAK_SEARCH = (40.0, 400.0)
"""Sigma and reach of the first search, about the middle of the image [kpc]: Nurgaliev et al. 2013, section 3."""

FINE_RINGS, FINE_REACH = 160, 3.0
"""Number of rings of the fine grid, and its end over that of the annuli."""

# Parts of a pixel's side, by the distance from the centre in pixels up to which they are taken.
_SPLIT = ((8, 8), (3, 30), (1, np.inf))


@dataclass(frozen=True, eq=False)
class Annuli:
    """Counts in annuli; lengths in kpc, exposure in seconds (or one for all, where it is not known)."""

    edges: np.ndarray  # (n + 1,)
    counts: np.ndarray  # (n,)
    background: np.ndarray  # (n,) expected counts
    exposed: np.ndarray  # (n, m): exposure times area [s kpc2] in the rings of the fine grid
    fine: np.ndarray  # (m + 1,) edges of the fine grid
    area: np.ndarray  # (n,) exposed area [kpc2]
    arcsec: float  # kpc per arcsec
    pixel: float  # side of a pixel [kpc]
    centre: SkyCoord
    in_seconds: bool

    @property
    def coverage(self):
        """Part of each annulus that is exposed; about one for a whole one, as pixels are not cut."""
        return self.area / (np.pi * np.diff(self.edges**2))

    @property
    def net(self):
        """Counts less background."""
        return self.counts - self.background


def find_annuli(image, redshift, edges, background, centre, outer, cosmology):
    """Check the arguments of a radial profile, find the centre, and sort pixels into annuli."""
    image = as_image(image)
    counts = image.data * counts_factor(image.unit)
    valid = valid_pixels(image)
    if np.any(counts[valid] < 0):
        raise GeometryError(f"image must hold counts, background included, got negative ones ({counts[valid].min()})")
    redshift = image.meta.get("REDSHIFT") if redshift is None else redshift
    arcsec = 1 / Geometry(8 * u.kpc, (8, 8)).pixel_width(redshift, cosmology=cosmology).to_value(u.arcsec)
    pixel = square_pixels(image) * arcsec
    time = read_header(image.meta).exposure
    if image.exposure is not None:
        seconds, in_seconds = np.where(valid, image.exposure, 0.0), True
    else:
        seconds, in_seconds = np.where(valid, time or 1.0, 0.0), bool(time)
    valid &= seconds >= core.MIN_EXPOSURE * seconds.max()
    planes = [np.where(valid, plane, 0.0) for plane in (counts, _background(image, background, valid), seconds)]
    at = _peak(*planes, pixel) if centre is None else _place(image, centre)
    reach = check_quantity("outer", outer, u.kpc, positive=True, shape=())
    return _sorted(*planes, valid, at, _edges(edges, pixel, reach), arcsec, pixel, _position(image, at), in_seconds)


def _background(image, background, valid):
    """Expected background counts of each pixel: what is given, else the map of the image, else none."""
    if background is None:
        background = 0.0 if image.background is None else image.background
    level = np.asarray(background)
    if isinstance(background, u.Quantity) or level.dtype.kind not in "fiu" or level.shape not in ((), image.shape):
        raise ValueError(
            f"background must be a number of counts per pixel or a map of shape {image.shape}, "
            f"got {type(background).__name__} of shape {level.shape}"
        )
    level = np.broadcast_to(level.astype(float), image.shape)
    if not np.all(np.isfinite(level[valid])) or np.any(level[valid] < 0):
        raise ValueError("background must be finite and not negative where the image is valid")
    return level


def _peak(counts, background, seconds, pixel):
    """Column and row of the brightest point: under a wide Gaussian, then near there under a narrow one."""
    if not seconds.max() > 0:
        raise GeometryError("image has no exposed pixel")
    exposure = seconds / seconds.max()
    at, search = np.zeros(2), PEAK_SEARCH[1]
    for sigma in (PEAK_SEARCH[0], PEAK_SMOOTHING):
        unit = sigma / core.SMOOTHING  # the search has a sigma of 0.04 in its unit of length
        patch = core.Patch.around(
            counts, exposure, background, pixel / unit, at / unit, search / unit + 3 * core.SMOOTHING
        )
        patch = patch.binned(int(sigma / 4 / pixel))
        at = core.find_peaks(patch.counts[np.newaxis], patch, at / unit, search / unit)[0] * unit
        search = PEAK_SEARCH[0]
    return at / pixel + (np.array(counts.shape[::-1]) - 1) / 2


def _place(image, centre):
    check_position("centre", centre)
    place = find_pixel(celestial(image), centre)
    size = np.array(image.shape[::-1])
    if not np.all(np.isfinite(place)) or np.any(place < -0.5) or np.any(place > size - 0.5):
        raise GeometryError(f"centre {centre.to_string('hmsdms')} lies off the image")
    return np.asarray(place, dtype=float)


def _position(image, at):
    return celestial(image).pixel_to_world(*at)


def _edges(edges, pixel, reach):
    """Edges of the annuli [kpc]: those given, or about equal in the logarithm, at least a pixel apart."""
    if edges is not None:
        given = np.atleast_1d(check_quantity("edges", edges, u.kpc))
        if given.ndim != 1 or len(given) <= MIN_ANNULI or given[0] < 0 or not np.all(np.diff(given) > 0):
            raise ValueError(f"edges must be at least {MIN_ANNULI + 1} rising radii from zero, got {edges}")
        return given
    width = max(pixel, SMALLEST)
    found = [0.0, width]
    while found[-1] < reach:
        found.append(max(found[-1] + width, GROWTH * found[-1]))
    found, marks = np.array(found), np.array(MARKS)
    far = np.all(np.abs(found[:, np.newaxis] - marks) >= 0.5 * width, axis=1)
    return np.union1d(found[far], marks[(marks > width) & (marks < found[-1])])


def _sorted(counts, background, seconds, valid, at, edges, arcsec, pixel, centre, in_seconds):
    """Sort pixels by their middles into annuli, and parts of them into the rings of the fine grid."""
    size = np.array(counts.shape[::-1])
    low = np.maximum(np.floor(at - edges[-1] / pixel).astype(int), 0)
    high = np.minimum(np.ceil(at + edges[-1] / pixel).astype(int) + 1, size)
    part = np.s_[low[1] : max(high[1], low[1]), low[0] : max(high[0], low[0])]
    dy, dx = np.indices(counts[part].shape) + (low - at)[::-1, np.newaxis, np.newaxis]
    distance = np.hypot(dx, dy)
    annulus = np.searchsorted(edges / pixel, distance, side="right") - 1
    used = (annulus >= 0) & (annulus < len(edges) - 1) & valid[part]
    n = len(edges) - 1

    def summed(plane):
        return np.bincount(annulus[used], plane[used], minlength=n)

    area = summed(np.ones(annulus.shape)) * pixel**2
    # Annuli end where the image does; those in the middle may be masked.
    good = np.flatnonzero(area >= COVERAGE * np.pi * np.diff(edges**2))
    n_kept = good[-1] + 1 if len(good) else 0
    if n_kept < MIN_ANNULI:
        raise GeometryError(f"only {n_kept} annuli are exposed, at least {MIN_ANNULI} are needed: is centre right?")
    first = min(0.3 * pixel, 0.5 * edges[1])
    fine = np.concatenate([[0.0], np.geomspace(first, FINE_REACH * edges[n_kept], FINE_RINGS)])
    exposed = np.zeros((n, FINE_RINGS))
    start = 0.0
    for split, end in _SPLIT:
        ring = used & (distance >= start) & (distance < end)
        start = end
        shift = (np.arange(split) - (split - 1) / 2) / split
        for each_x in shift:
            for each_y in shift:
                radius = np.hypot(dx[ring] + each_x, dy[ring] + each_y) * pixel
                index = np.minimum(np.searchsorted(fine, radius, side="right") - 1, FINE_RINGS - 1)
                np.add.at(exposed, (annulus[ring], index), seconds[part][ring] * (pixel / split) ** 2)
    sums = (edges[: n_kept + 1], *(summed(plane[part])[:n_kept] for plane in (counts, background)))
    return Annuli(*sums, exposed[:n_kept], fine, area[:n_kept], arcsec, pixel, centre, in_seconds)
