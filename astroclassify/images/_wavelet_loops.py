"""Loops over the pixels of an image for `_wavelet`, compiled by numba.

This module imports numba, so others import it where they need it; numba keeps the machine code beside this file, or in
the user's cache.
"""

import numpy as np
from numba import njit

__all__ = ["add_significant", "interpolate", "smooth"]

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
W0, W1, W2 = np.float32(6 / 16), np.float32(4 / 16), np.float32(1 / 16)  # B3 spline


@njit("void(f4[:,::1], i8, f4[:,::1])", **OPTIONS)
def smooth(image, step, result):
    """Smooth an image, zero outside, with a B3 spline whose five points are ``step`` pixels apart."""
    ny, nx = image.shape
    outside, padded = np.zeros(nx, np.float32), np.zeros(nx + 4 * step, np.float32)
    a, b, c = padded[:nx], padded[step : step + nx], padded[2 * step : 2 * step + nx]
    d, e = padded[3 * step : 3 * step + nx], padded[4 * step :]
    for y in range(ny):
        row, out = image[y], result[y]
        near, far = image[y - step] if y >= step else outside, image[y - 2 * step] if y >= 2 * step else outside
        after = image[y + step] if y + step < ny else outside
        beyond = image[y + 2 * step] if y + 2 * step < ny else outside
        for x in range(nx):
            c[x] = W0 * row[x] + W1 * (near[x] + after[x]) + W2 * (far[x] + beyond[x])
        for x in range(nx):
            out[x] = W0 * c[x] + W1 * (b[x] + d[x]) + W2 * (a[x] + e[x])


@njit("void(f4[:,::1], f4[:,::1], f4[:,::1], u1[:,::1], u1)", **OPTIONS)
def add_significant(image, fine, coarse, support, bit):
    """Add the wavelet plane between two smooth images to an image where a bit of its support is set."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if support[y, x] & bit:
                image[y, x] += fine[y, x] - coarse[y, x]


@njit("void(f4[:,::1], f4, f4, f4[::1])", **OPTIONS)
def interpolate(values, first, step, table):
    """Replace values by those of a table, linear between its equally spaced places; beyond its ends it is flat."""
    last = len(table) - 1
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            place = min(max((values[y, x] - first) / step, np.float32(0.0)), np.float32(last))
            node = min(int(place), last - 1)
            values[y, x] = table[node] + (place - np.float32(node)) * (table[node + 1] - table[node])
