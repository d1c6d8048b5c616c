"""The telescope: where the detector is, how sharp and how sensitive it is there, and its background."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy import units as u

from astroclassify.fields import KingPsf
from astroclassify.fields._instruments import (
    ACIS_AIM_POINT,
    ACIS_CHIPS,
    ACIS_DITHER,
    ACIS_PIXEL,
    CHANDRA_R90_GROWTH,
    EMOS_PIXEL,
    EPN_PIXEL,
    R90_PER_SIGMA,
    epic_on_chips,
    vignetting,
)

from ._king import king_blur, king_margin

__all__ = ["DETECTORS", "EPIC", "NATIVE_PIXEL", "Telescope", "effective_psf", "make_telescope"]

_ACIS = {"acis-i": "ACIS-I", "acis-s": "ACIS-S"}
EPIC = {"epic-pn": "EPN", "epic-mos1": "EMOS1", "epic-mos2": "EMOS2"}
"""Detectors of XMM-Newton and their names in headers."""

DETECTORS = ("uniform", *_ACIS, *EPIC)

NATIVE_PIXEL = {**dict.fromkeys(_ACIS, ACIS_PIXEL), "epic-pn": EPN_PIXEL, **dict.fromkeys(list(EPIC)[1:], EMOS_PIXEL)}
"""Side of a pixel of each detector [arcsec]."""

_SIGMA_PER_FWHM = 1.0 / np.sqrt(8.0 * np.log(2.0))
# Step of the table of a chip's profile, a small part of the dither [arcsec].
_STEP = 0.05
# Pixels of EPIC images are cut into parts of this size at most to see how much of them is on a chip [arcsec].
_EPIC_PART = 4.2


@lru_cache(maxsize=16)
def effective_psf(detector, energy_range):
    """The King profile of an EPIC detector at the geometric middle of a band [keV], 1 keV for 0.5 to 2 keV."""
    low, high = energy_range
    return KingPsf(EPIC[detector], float(np.clip(np.sqrt(low * high), 0.1, 10.0)) * u.keV)


@dataclass(frozen=True, eq=False)
class Telescope:
    """
    What the telescope does to each pixel of an image.

    ``fraction`` is the exposure over that on axis (time on a chip, and vignetting), ``background`` the expected counts
    without point sources, both (rows, columns). ``offset`` is where the middle of the image lies relative to the
    optical axis, to the right and up [arcsec]. The point spread function is a Gaussian, ``growth`` how much its r90
    grows from the axis to 10' off it [arcsec]; or ``king``, a `KingPsf`, if it is not None.
    """

    fraction: np.ndarray
    background: np.ndarray
    pixel_arcsec: float
    exposure_s: float
    offset: tuple
    sigma_arcsec: float
    growth: float
    king: object = None

    @property
    def margin(self):
        """Pixels beyond each side of the image whose light `blur` needs; none where cells get their own Gaussian."""
        return 0 if self.king is None else king_margin(self.king, self.pixel_arcsec)

    def blur(self, sharp):
        """Expected counts, from those of an image that is larger by the margin; itself without a ``king``."""
        if self.king is None:
            return sharp
        rows, columns = sharp.shape
        column, row = np.arange(columns) + 0.5 - self.margin, np.arange(rows)[:, np.newaxis] + 0.5 - self.margin
        return king_blur(sharp, self.off_axis(column, row), self.king, self.pixel_arcsec)

    def scatter(self, column, row, rng):
        """Where photons arrive that come from continuous pixel coordinates."""
        if self.king is None:
            sigma = self.psf_sigma(column, row)
            shift = rng.normal(size=(2, column.size))
            return column + sigma * shift[0], row + sigma * shift[1]
        share, phase = rng.random(column.size), 2.0 * np.pi * rng.random(column.size)
        radius = self.king.radius(share, self.off_axis(column, row)) / self.pixel_arcsec
        return column + radius * np.cos(phase), row + radius * np.sin(phase)

    def half_energy_radius(self, column, row):
        """Radius [pixel] that encircles half the light at continuous pixel coordinates."""
        if self.king is None:
            return np.sqrt(2.0 * np.log(2.0)) * self.psf_sigma(column, row)
        return self.king.radius(0.5, self.off_axis(column, row)) / self.pixel_arcsec

    def off_axis(self, column, row):
        """Angle from the optical axis [arcmin] at continuous pixel coordinates; pixel k covers [k, k + 1)."""
        rows, columns = self.fraction.shape
        right = (np.asarray(column, dtype=float) - 0.5 * columns) * self.pixel_arcsec + self.offset[0]
        up = (np.asarray(row, dtype=float) - 0.5 * rows) * self.pixel_arcsec + self.offset[1]
        return np.hypot(right, up) / 60.0

    def psf_sigma(self, column, row):
        """
        Standard deviation [pixel] of the Gaussian point spread function at continuous pixel coordinates, zero with a
        ``king``, which spreads the image as a whole.
        """
        theta = self.off_axis(column, row)
        sigma = self.sigma_arcsec + self.growth / R90_PER_SIGMA * (theta / 10.0) ** 2
        return sigma / self.pixel_arcsec


def make_telescope(observation, cosmology):
    """
    Exposure, background and point spread function of each pixel for an observation.

    With ``detector="uniform"`` every pixel has the whole exposure and one point spread function. With ``"acis-i"`` and
    ``"acis-s"`` the chips are those of SOXS, smoothed by the dither; vignetting is that at 1.5 keV; r90 grows by 10"
    (theta / 10')^2. With the EPIC detectors chips, vignetting and King profile are those of `fields`. Detector
    coordinates are those of the sky (right, up) rotated counter-clockwise by the roll, as in SOXS. Particles fall on
    the chips alone; the sky is vignetted.
    """
    pixel = float(observation.pixel_scale(cosmology).to_value(u.arcsec))
    exposure = float(observation.exposure.to_value(u.s))
    particles = observation.background_counts(cosmology)
    sky = float(observation.sky_background.to_value(u.ct / u.s / u.arcsec**2)) * exposure * pixel**2
    aside = observation.centre_offset.to_value(u.kpc) * (pixel / observation.pixel_kpc)
    offset = tuple(float(part) for part in observation.pointing_offset.to_value(u.arcsec) + aside)
    sigma = float(observation.psf_fwhm.to_value(u.arcsec)) * _SIGMA_PER_FWHM
    detector, growth, king = observation.detector, 0.0, None
    right, up = _sky_grid(observation.shape, pixel, offset)
    roll = float(observation.roll.to_value(u.rad))
    if detector == "uniform":
        fraction = chips = np.ones(observation.shape)
    elif detector in _ACIS:
        chips = _acis_fraction(_ACIS[detector], right, up, pixel, roll)
        fraction = chips * vignetting("ACIS", np.hypot(right, up) / 60.0)
        growth = CHANDRA_R90_GROWTH
    else:
        camera, sigma = EPIC[detector], 0.0
        chips = _epic_fraction(camera, right, up, pixel, roll)
        fraction = chips * vignetting(camera, np.hypot(right, up) / 60.0)
        king = effective_psf(detector, tuple(float(energy) for energy in observation.energy_range.to_value(u.keV)))
    background = particles * chips + sky * fraction
    fraction.flags.writeable = background.flags.writeable = False
    return Telescope(fraction, background, pixel, exposure, offset, sigma, growth, king)


def _sky_grid(shape, pixel, offset):
    """Middles of the pixels from the optical axis [arcsec]: to the right, shape (1, columns), and up, (rows, 1)."""
    right = (np.arange(shape[1]) + 0.5 - 0.5 * shape[1]) * pixel + offset[0]
    up = (np.arange(shape[0]) + 0.5 - 0.5 * shape[0]) * pixel + offset[1]
    return right[np.newaxis, :], up[:, np.newaxis]


def to_detector(array, right, up, roll):
    """Detector coordinates [arcsec from the middle of the chips] of places [arcsec from the optical axis]."""
    cos, sin = np.cos(roll), np.sin(roll)
    x = cos * right - sin * up + ACIS_AIM_POINT[array][0] * ACIS_PIXEL
    y = sin * right + cos * up + ACIS_AIM_POINT[array][1] * ACIS_PIXEL
    return x, y


def _acis_fraction(array, right, up, pixel, roll):
    """
    Share of time for which pixels are on a chip, a product of the two axes of the detector.

    A turned pixel is no product, but the two coordinates are uncorrelated in a square however it is turned; treating
    them as independent is exact except where a pixel holds the corner of a chip, and close there.
    """
    sides = pixel * abs(np.cos(roll)), pixel * abs(np.sin(roll))
    share = 1.0
    for place, chips in zip(to_detector(array, right, up, roll), ACIS_CHIPS[array], strict=True):
        share = share * np.interp(place, *_chip_profile(chips, *sides))
    return share


def _chip_profile(chips, side, other):
    """Places along one axis of the detector [arcsec], and the share of time on a chip, averaged over two widths."""
    distance, passed = _edge_profile(side, other)
    place = np.arange(chips[0][0] * ACIS_PIXEL - distance[-1], chips[-1][1] * ACIS_PIXEL + distance[-1] + _STEP, _STEP)
    share = np.zeros_like(place)
    for low, high in chips:
        for edge, sign in ((low, 1.0), (high, -1.0)):
            share += sign * np.interp(place - edge * ACIS_PIXEL, distance, passed)
    share[[0, -1]] = 0.0  # what np.interp gives beyond the ends
    return place, np.clip(share, 0.0, 1.0)


def _edge_profile(side, other):
    """
    Distances from an edge [arcsec], and the share of time beyond it, averaged over two widths [arcsec].

    The dither spends its time as an arcsine distribution: F(x) = 1/2 + asin(x / 8") / pi.
    """
    reach = ACIS_DITHER + 0.5 * (side + other) + _STEP
    distance = np.linspace(-reach, reach, 2 * int(np.ceil(reach / _STEP)) + 1)
    side, other = max(side, other), min(side, other)
    # The average over the larger width is analytic; Gauss-Legendre nodes suffice for the smaller one.
    nodes, weights = np.polynomial.legendre.leggauss(5)
    passed = np.zeros_like(distance)
    for node, weight in zip(0.5 * other * nodes, 0.5 * weights, strict=True):
        x = distance + node
        passed += weight * (_dither_integral(x + 0.5 * side) - _dither_integral(x - 0.5 * side)) / side
    return distance, passed


def _epic_fraction(camera, right, up, pixel, roll):
    """Share of each pixel that is on a chip of EPIC, whose pointing does not move."""
    parts = max(1, int(np.ceil(pixel / _EPIC_PART)))
    inside = ((np.arange(parts) + 0.5) / parts - 0.5) * pixel
    right, up = np.add.outer(right.ravel(), inside).ravel(), np.add.outer(up.ravel(), inside).ravel()[:, np.newaxis]
    cos, sin = np.cos(roll), np.sin(roll)
    live = epic_on_chips(camera, cos * right - sin * up, sin * right + cos * up)
    return live.reshape(len(up) // parts, parts, -1, parts).mean(axis=(1, 3))


def _dither_integral(x):
    """Integral of the arcsine distribution's cumulative function, from far below to ``x`` [arcsec]."""
    inside = np.clip(x / ACIS_DITHER, -1.0, 1.0)
    value = ACIS_DITHER * (0.5 * inside + (inside * np.arcsin(inside) + np.sqrt(1.0 - inside**2)) / np.pi)
    return value + np.maximum(x - ACIS_DITHER, 0.0)
