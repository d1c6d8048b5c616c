"""An image of expected counts spread as the point spread function of XMM-Newton, which changes across the field."""

from functools import lru_cache

import numpy as np
from scipy import fft

from astroclassify.fields._telescopes import KING_OFF_AXIS

__all__ = ["king_blur", "king_margin"]

# Off-axis angles [arcmin] between which profiles are interpolated; the King formulas end at the last one.
_STEP = KING_OFF_AXIS / 4
_ANGLES = _STEP * np.arange(5)
# Parts into which a pixel is cut to integrate the profile over it are at most this large [arcsec].
_PART = 1.0


def king_margin(psf, pixel):
    """Pixels (of a side in arcsec) beyond the image from which light reaches it."""
    return int(np.ceil(psf.limit / pixel))


def king_blur(image, off_axis, psf, pixel):
    """
    Convolve an image with the profile of each place; a margin of `king_margin` is lost on every side.

    ``off_axis`` [arcmin], of each pixel; ``pixel``: side [arcsec]. The image is parted between the profiles of a few
    angles, linearly in the angle, and each part is convolved by FFT.
    """
    margin = king_margin(psf, pixel)
    off_axis = np.minimum(off_axis, _ANGLES[-1])
    # what wraps around lands in the margin, which is cut off
    shape = tuple(fft.next_fast_len(side, real=True) for side in image.shape)
    total = np.zeros((shape[0], shape[1] // 2 + 1), dtype=complex)
    for angle in _ANGLES:
        share = np.maximum(1.0 - np.abs(off_axis - angle) / _STEP, 0.0)
        if np.any(share):
            total += fft.rfft2(image * share, shape) * fft.rfft2(_kernel(psf, round(pixel, 6), angle), shape)
    rows, columns = image.shape
    # The middle of the kernel is at (margin, margin): pixel (i, j) of the image without its margin lies at + 2 margin.
    spread = fft.irfft2(total, shape)[2 * margin : rows, 2 * margin : columns]
    return np.maximum(spread, 0.0)  # FFTs leave noise of 1e-16 of the brightest pixel


@lru_cache(maxsize=32)
def _kernel(psf, pixel, off_axis):
    """Share of the light of a pixel's middle that falls on each pixel about it; they sum to one."""
    margin = king_margin(psf, pixel)
    parts = max(1, int(np.ceil(pixel / _PART)))
    edge = (np.arange((2 * margin + 1) * parts) + 0.5) / parts - margin - 0.5
    # one quadrant with its axes is enough
    quadrant = edge[margin * parts :] * pixel
    share = psf.profile(np.hypot(quadrant[:, np.newaxis], quadrant), off_axis)
    share = share.reshape(margin + 1, parts, margin + 1, parts).sum(axis=(1, 3))
    share = np.concatenate([share[:0:-1], share])
    kernel = np.concatenate([share[:, :0:-1], share], axis=1)
    kernel /= kernel.sum()
    kernel.flags.writeable = False
    return kernel
