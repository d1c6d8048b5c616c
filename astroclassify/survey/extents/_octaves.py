"""Intervals of squared radii: eighths of octaves, which the first bits of a floating-point number tell."""

import numpy as np

__all__ = ["OCTAVE_BITS", "intervals", "squared_radii"]

OCTAVE_BITS = 49  # of a number's bits, those that the intervals leave out


def intervals(squared):
    """Numbers of the intervals in which squared radii [arcsec2] lie."""
    return np.asarray(squared, np.float64).view(np.int64) >> OCTAVE_BITS


def squared_radii(first, n):
    """The ``n`` squared radii [arcsec2] from the interval ``first``."""
    return ((first + np.arange(n)) << OCTAVE_BITS).view(np.float64)
