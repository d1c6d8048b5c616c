"""What is significant in a small image of counts, for people to look at: the wavelet filter without a `Field`."""

import numpy as np
from astropy import units as u

from astroclassify.exceptions import GeometryError

from ._wavelet import filter_counts

__all__ = ["filtered"]

_FALSE_ALARM = 1e-3  # per pixel and scale, as in detection
_COARSEST, _MOST = 1 / 8, 7  # coarsest wavelet in units of the shorter side; number of scales
# The level of the background is measured twice: what stands out the first time does not count the second time.
_ROUNDS = 2


def filtered(image, values, valid, resolution):
    """
    Counts above the background that noise does not explain, without noise; (ny, nx), zero elsewhere.

    ``values`` are those of the image where ``valid``, ``resolution`` is the width [pixels] of the finest structure. The
    background is the image's own map, or else goes with the exposure: the mean of what is not significant.
    """
    if image.unit != u.ct:
        raise GeometryError(f"the wavelet filter needs counts, the image is in {image.unit or 'no unit'}")
    if not valid.any():
        return np.zeros(image.shape)
    most = int(np.clip(np.log2(min(image.shape) * _COARSEST), 1, _MOST))
    scales = range(int(np.clip(round(np.log2(max(resolution, 1.0))), 1, most)), most + 1)
    given, exposure = (getattr(image, name, None) for name in ("background", "exposure"))
    rough = np.zeros(image.shape, bool)
    for _ in range(1 if given is not None else _ROUNDS):
        background = _background(given, exposure, values, valid, rough)
        excess = (values - background).astype(np.float32)
        found = filter_counts(excess, background, valid, list(scales), _FALSE_ALARM)
        rough = found > 0
    return found.astype(float)


def _background(given, exposure, values, valid, found):
    """Expected counts per pixel (float32), zero where not ``valid``; ``found`` are pixels with sources."""
    if given is not None:
        return np.where(valid, np.nan_to_num(given).clip(0.0), 0.0).astype(np.float32)
    shape = np.where(valid, 1.0 if exposure is None else exposure, 0.0)
    empty = valid & ~found if (valid & ~found).any() else valid
    # Without a first look at the sources, of blocks of pixels the median, which the brighter half does not move.
    ratio = _median_ratio(values, shape) if not found.any() else values[empty].sum() / shape[empty].sum()
    return (ratio * shape).astype(np.float32)


def _median_ratio(values, shape, side=16):
    """Median over blocks of the ratio of counts to exposure."""
    rows, columns = (np.arange(0, n, side) for n in values.shape)
    counts, times = (np.add.reduceat(np.add.reduceat(each, rows, 0), columns, 1) for each in (values, shape))
    return float(np.median(counts[times > 0] / times[times > 0]))
