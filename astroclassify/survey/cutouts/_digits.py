"""Cutouts in as many digits as their data have, so that their files are small."""

import numpy as np

__all__ = ["round_cutout"]

# Counts are written in steps of this, and of this share of the largest value.
_COUNTS = 2.0**-10
# Exposures: share of the largest. Exposure maps are known to a few percent.
_EXPOSURE = 2.0**-12
# Optical images: share of the median difference of neighbours, which is about the noise.
_NOISE = 2.0**-4
_ROWS = 4  # every fourth row tells it as well


def round_cutout(cutout):
    """
    Round the values of a cutout, in place, to multiples of powers of two.

    Counts are rounded so that sums over consecutive pixels are right to a step, as is the sum over all: a pixel gets
    the difference of the rounded sums up to and without it. Pixels without counts stay empty, none becomes negative.
    """
    xray = cutout.bands["xray"]
    step = _COUNTS * min(1.0, _power(np.abs(xray.data).max()))
    sums = np.rint(np.cumsum(xray.data) / step)
    xray.data = (np.diff(sums, prepend=0.0) * step).reshape(xray.shape)
    if xray.exposure is not None:
        step = _EXPOSURE * _power(xray.exposure.max())
        xray.exposure = np.rint(xray.exposure / step) * step
    optical = cutout.bands.get("optical")
    if optical is not None:
        valid = np.ones(optical.shape, bool) if optical.mask is None else ~optical.mask
        rows = slice(None, None, _ROWS)
        differences = np.abs(np.diff(optical.data[rows]))[valid[rows, 1:] & valid[rows, :-1]]
        differences = differences[differences > 0]
        if differences.size:
            step = _NOISE * _power(np.median(differences))
            optical.data = np.rint(optical.data / step) * step
    return cutout


def _power(value):
    """The largest power of two that is not above a value; 1 for 0."""
    return 2.0 ** np.floor(np.log2(value)) if value > 0 else 1.0
