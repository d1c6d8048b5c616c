"""The telescope: where the detector is, how sharp and how sensitive it is there, and its background."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from astroclassify.fields._instruments import (
    ACIS_DITHER,
    ACIS_I_AIM_POINT,
    ACIS_I_CHIP_EDGES,
    ACIS_PIXEL,
    CHANDRA_R90_GROWTH,
    R90_PER_SIGMA,
    vignetting,
)

__all__ = ["DETECTORS", "Telescope", "make_telescope"]

DETECTORS = ("uniform", "acis-i")

_SIGMA_PER_FWHM = 1.0 / np.sqrt(8.0 * np.log(2.0))
# Step of the table of a chip's profile, a small part of the dither [arcsec].
_STEP = 0.05


@dataclass(frozen=True, eq=False)
class Telescope:
    """
    What the telescope does to each pixel of an image.

    ``fraction`` is the exposure over that on axis (time on a chip, and vignetting), ``background`` the expected counts
    without point sources, both (rows, columns). ``offset`` is where the middle of the image lies relative to the
    optical axis, to the right and up [arcsec]; ``growth`` by how much r90 grows from the axis to 10' off it [arcsec].
    """

    fraction: np.ndarray
    background: np.ndarray
    pixel_arcsec: float
    exposure_s: float
    offset: tuple
    sigma_arcsec: float
    growth: float

    def off_axis(self, column, row):
        """Angle from the optical axis [arcmin] at continuous pixel coordinates; pixel k covers [k, k + 1)."""
        rows, columns = self.fraction.shape
        right = (np.asarray(column, dtype=float) - 0.5 * columns) * self.pixel_arcsec + self.offset[0]
        up = (np.asarray(row, dtype=float) - 0.5 * rows) * self.pixel_arcsec + self.offset[1]
        return np.hypot(right, up) / 60.0

    def psf_sigma(self, column, row):
        """Standard deviation [pixel] of the Gaussian point spread function at continuous pixel coordinates."""
        theta = self.off_axis(column, row)
        sigma = self.sigma_arcsec + self.growth / R90_PER_SIGMA * (theta / 10.0) ** 2
        return sigma / self.pixel_arcsec


def make_telescope(observation, cosmology):
    """
    Exposure, background and point spread function of each pixel for an observation.

    With ``detector="uniform"`` every pixel has the whole exposure and one point spread function. With ``"acis-i"`` the
    four chips are those of SOXS, smoothed by the dither; vignetting is that at 1.5 keV; r90 grows by 10" (theta /
    10')^2. Detector coordinates are those of the sky (right, up) rotated counter-clockwise by the roll, as in SOXS.
    Particles fall on the chips alone; the sky is vignetted.
    """
    pixel = float(observation.pixel_scale(cosmology).to_value(u.arcsec))
    exposure = float(observation.exposure.to_value(u.s))
    particles = observation.background_counts(cosmology)
    sky = float(observation.sky_background.to_value(u.ct / u.s / u.arcsec**2)) * exposure * pixel**2
    offset = tuple(float(part) for part in observation.pointing_offset.to_value(u.arcsec))
    sigma = float(observation.psf_fwhm.to_value(u.arcsec)) * _SIGMA_PER_FWHM
    if observation.detector == "uniform":
        fraction = np.ones(observation.shape)
        background = np.full(observation.shape, particles + sky)
        growth = 0.0
    else:
        right, up = _sky_grid(observation.shape, pixel, offset)
        chips = _chip_fraction(right, up, pixel, float(observation.roll.to_value(u.rad)))
        fraction = chips * vignetting("ACIS", np.hypot(right, up) / 60.0)
        background = particles * chips + sky * fraction
        growth = CHANDRA_R90_GROWTH
    fraction.flags.writeable = background.flags.writeable = False
    return Telescope(fraction, background, pixel, exposure, offset, sigma, growth)


def _sky_grid(shape, pixel, offset):
    """Middles of the pixels from the optical axis [arcsec]: to the right, shape (1, columns), and up, (rows, 1)."""
    right = (np.arange(shape[1]) + 0.5 - 0.5 * shape[1]) * pixel + offset[0]
    up = (np.arange(shape[0]) + 0.5 - 0.5 * shape[0]) * pixel + offset[1]
    return right[np.newaxis, :], up[:, np.newaxis]


def to_detector(right, up, roll):
    """Detector coordinates [arcsec from the middle of the chips] of places [arcsec from the optical axis]."""
    cos, sin = np.cos(roll), np.sin(roll)
    x = cos * right - sin * up + ACIS_I_AIM_POINT[0] * ACIS_PIXEL
    y = sin * right + cos * up + ACIS_I_AIM_POINT[1] * ACIS_PIXEL
    return x, y


def _chip_fraction(right, up, pixel, roll):
    """
    Share of time for which pixels are on a chip, a product of the two axes of the detector.

    A turned pixel is no product, but the two coordinates are uncorrelated in a square however it is turned; treating
    them as independent is exact except where a pixel holds the corner of a chip, and close there.
    """
    x, y = to_detector(right, up, roll)
    distance, share = _chip_profile(pixel * abs(np.cos(roll)), pixel * abs(np.sin(roll)))
    return np.interp(np.abs(x), distance, share) * np.interp(np.abs(y), distance, share)


def _chip_profile(side, other):
    """
    Share of time on a chip along one axis, averaged over two widths [arcsec], against the distance from the middle.

    The dither spends its time as an arcsine distribution: F(x - low) - F(x - high), F(x) = 1/2 + asin(x / 8") / pi.
    """
    low, high = (edge * ACIS_PIXEL for edge in ACIS_I_CHIP_EDGES)
    reach = high + ACIS_DITHER + 0.5 * (side + other) + _STEP
    side, other = max(side, other), min(side, other)
    distance = np.arange(0.0, reach + _STEP, _STEP)
    # The average over the larger width is analytic; Gauss-Legendre nodes suffice for the smaller one.
    nodes, weights = np.polynomial.legendre.leggauss(5)
    share = np.zeros_like(distance)
    for node, weight in zip(0.5 * other * nodes, 0.5 * weights, strict=True):
        for edge, sign in ((low, 1.0), (high, -1.0), (-high, 1.0), (-low, -1.0)):
            x = distance + node - edge
            share += sign * weight * (_dither_integral(x + 0.5 * side) - _dither_integral(x - 0.5 * side)) / side
    share[-1] = 0.0  # what np.interp gives beyond the end
    return distance, np.clip(share, 0.0, 1.0)


def _dither_integral(x):
    """Integral of the arcsine distribution's cumulative function, from far below to ``x`` [arcsec]."""
    inside = np.clip(x / ACIS_DITHER, -1.0, 1.0)
    value = ACIS_DITHER * (0.5 * inside + (inside * np.arcsin(inside) + np.sqrt(1.0 - inside**2)) / np.pi)
    return value + np.maximum(x - ACIS_DITHER, 0.0)
