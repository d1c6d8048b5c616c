"""Rules for pictures of candidates that people look at: smoothing, contours, colours."""

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy.special import pdtrik

__all__ = ["contour_lines", "first_contour", "heat", "smoothing"]

_SMOOTHING = 5.0  # arcsec, about the width of the XMM point spread function
# Contours start where the background comes by chance in this share of places, and go up by this factor.
_CHANCE, _STEP, _N_CONTOURS = 1e-5, 2.0, 6


def smoothing(image):
    """Standard deviation of the Gaussian that an X-ray image is smoothed with, in pixels; 3 without coordinates."""
    if image.wcs is None or not image.wcs.has_celestial:
        return 3.0
    pixel = float(np.mean(proj_plane_pixel_scales(image.wcs.celestial))) * 3600
    return max(_SMOOTHING / pixel, 0.7)


def first_contour(level, sigma):
    """Counts above the level of the background at which contours of a smoothed image begin."""
    # The mean under a Gaussian has the mean and the variance of Poisson counts on this many pixels, over their number.
    pixels = 4 * np.pi * sigma**2
    return pdtrik(1 - _CHANCE, max(level * pixels, 0.1)) / pixels - level


def contour_lines(smooth, level, first):
    """Pixels on the contours of a smoothed image, the first one so much above the level."""
    lines = np.zeros(smooth.shape, bool)
    for number in range(_N_CONTOURS):
        lines |= _edges(smooth > level + first * _STEP**number)
    return lines


def heat(values):
    """Colours from black over red and yellow to white, of values from 0 to 1."""
    return np.rint(255 * np.clip(3 * values[:, :, None] - np.arange(3), 0, 1)).astype(np.uint8)


def _edges(mask):
    """Pixels of a mask that touch one outside of it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner
