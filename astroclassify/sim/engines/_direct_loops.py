"""
The compiled loops of the direct engine: the counts of every cell on the pixels of some rows of an image, and the place
of its temperature in the table.

This module imports numba, so others import it where they need it. Compiling takes some seconds, once: numba keeps the
machine code in ``__pycache__`` beside this file or in the user's cache folder, and notices changes of this file only.
The loops over pixels are written so that a processor can run them on vectors.
"""

import numpy as np
from numba import njit

from ..physics._projection import C_KM_S

__all__ = ["deposit", "table_places"]

# Kernels end at this many standard deviations and are normalised to 1 inside: 7e-6 of the counts move inwards.
N_SIGMA = 4.5
# Kernels that reach less far [pixel] are computed in single precision: 2e-6 of their peak, 2e-6 pixel in place.
_NARROW = 16.0
# Numbers that are computed at once.
_VECTOR = 8
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


def _kernel_integral():
    """
    Coefficients p_k of the integral of the truncated Gaussian from 0 to y N_SIGMA deviations, -1 <= y <= 1, which is
    y sum_k p_k (2 y^2 - 1)^k: the Chebyshev interpolant in y^2, exact to 6e-9.
    """
    from numpy.polynomial import chebyshev
    from scipy.special import erf

    def over_y(s):
        y = np.sqrt(0.5 * (s + 1.0))
        return 0.5 * erf(N_SIGMA * y / np.sqrt(2.0)) / erf(N_SIGMA / np.sqrt(2.0)) / y

    return chebyshev.cheb2poly(chebyshev.chebinterpolate(over_y, 13))


_DOUBLE = tuple(float(p) for p in _kernel_integral())
_SINGLE = tuple(np.float32(p) for p in _kernel_integral())


# The first bits of a number, its exponent and three digits more, say in which eighth of an octave it lies.
_SHIFT = 49


def table_places(nodes, values):
    """
    Node of a table below each value, and the weight of the node above, as `table_position`; the value of the nearest
    end beyond the table. ``nodes`` and ``values`` are positive.
    """
    nodes = np.ascontiguousarray(nodes)
    first, last = nodes[[0, -1]].view(np.int64) >> _SHIFT
    eighths = (np.arange(first, last + 1) << _SHIFT).view(np.float64)
    starts = np.clip(np.searchsorted(nodes, eighths, side="right") - 1, 0, len(nodes) - 2)
    lower, weight = np.empty(len(values), np.int64), np.empty(len(values))
    _table_places(nodes, np.ascontiguousarray(values), starts, first, lower, weight)
    return lower, weight


@njit(**OPTIONS)
def _table_places(nodes, values, starts, first, lower, weight):
    """Fill ``lower`` and ``weight``: the nodes are looked for from the ``starts`` of the eighths of octaves on."""
    bits = values.view(np.int64)
    for i in range(values.size):
        value = min(max(values[i], nodes[0]), nodes[-1])
        eighth = (bits[i] >> _SHIFT) - first
        node = starts[min(max(eighth, 0), starts.size - 1)]
        while node < nodes.size - 2 and nodes[node + 1] <= value:
            node += 1
        lower[i] = node
        weight[i] = (value - nodes[node]) / (nodes[node + 1] - nodes[node])


@njit(**OPTIONS)
def _shares(shares, integral, steps, p, number, start, step):
    """Shares of ``number`` pixels in a kernel from -1 to 1, the first of which begins at ``start``."""
    one = steps[1]
    # whole vectors; what lies beyond is computed as well, and not used
    for k in range(_VECTOR * (number // _VECTOR + 1)):
        y = min(max(start + steps[k] * step, -one), one)
        s = (y + y) * y - one
        s2 = s * s
        s4 = s2 * s2
        lower = (p[0] + p[1] * s) + s2 * (p[2] + p[3] * s) + s4 * ((p[4] + p[5] * s) + s2 * (p[6] + p[7] * s))
        upper = (p[8] + p[9] * s) + s2 * (p[10] + p[11] * s) + s4 * (p[12] + p[13] * s)
        integral[k] = y * (lower + s4 * s4 * upper)
    for k in range(number):
        shares[k] = integral[k + 1] - integral[k]


@njit(**OPTIONS)
def deposit(
    image, low, high, position, velocity, basis, middle, sigma, psf, emission, lower, weight, scales, first_node, step,
    counts,
):  # fmt: skip
    """
    Add the counts of all cells to the rows ``low`` to ``high`` of an image, cell after cell.

    ``basis``: up and right [pixel/kpc], direction to the observer; ``psf``: one value or one per cell. Doppler factors
    are relativistic, as in pyXSIM; that of node i of ``counts`` (nT, nD, k) is 1 + (i + ``first_node``) ``step``. What
    a pixel gets depends, to the last bit, on the cells and their order alone.
    """
    rows, columns = image.shape
    flat = image.reshape(-1)
    size = max(rows, columns) + 2 * _VECTOR
    up, across, integral = np.empty(size), np.empty(size), np.empty(size)
    single = np.empty(size, np.float32)
    steps = np.arange(size).astype(np.float64)
    single_steps = steps.astype(np.float32)
    for cell in range(sigma.size):
        reach = N_SIGMA * np.sqrt(sigma[cell] ** 2 + psf[min(cell, psf.size - 1)] ** 2)
        x, y, z = position[cell, 0], position[cell, 1], position[cell, 2]
        row = basis[0, 0] * x + basis[0, 1] * y + basis[0, 2] * z + middle[0]
        if row + reach < low or row - reach >= high:
            continue
        column = basis[1, 0] * x + basis[1, 1] * y + basis[1, 2] * z + middle[1]
        if column + reach < 0.0 or column - reach >= columns:
            continue
        # clipped as floats: a kernel may be larger than any integer
        first = int(max(row - reach, 0.0))
        height = int(min(row + reach, rows - 0.5)) + 1 - first
        left = int(max(column - reach, 0.0))
        width = int(min(column + reach, columns - 0.5)) + 1 - left
        width = _VECTOR * ((width + _VECTOR - 1) // _VECTOR)
        left = max(min(left, columns - width), 0)
        inverse = 1.0 / reach
        if reach < _NARROW:
            one = np.float32(inverse)
            _shares(up, single, single_steps, _SINGLE, height, np.float32((first - row) * inverse), one)
            _shares(across, single, single_steps, _SINGLE, width, np.float32((left - column) * inverse), one)
        else:
            _shares(up, integral, steps, _DOUBLE, height, (first - row) * inverse, inverse)
            _shares(across, integral, steps, _DOUBLE, width, (left - column) * inverse, inverse)
        width = min(width, columns)
        x, y, z = velocity[cell, 0] / C_KM_S, velocity[cell, 1] / C_KM_S, velocity[cell, 2] / C_KM_S
        towards = basis[2, 0] * x + basis[2, 1] * y + basis[2, 2] * z
        doppler = (1.0 + towards) / np.sqrt(1.0 - x * x - y * y - z * z)
        place = (doppler - 1.0) / step
        node = int(np.floor(place))
        place -= node
        node = min(max(node - first_node, 0), counts.shape[1] - 2)
        cold, warm = (1.0 - weight[cell]) * emission[cell], weight[cell] * emission[cell]
        table, hotter = counts[lower[cell]], counts[lower[cell] + 1]
        total = 0.0
        for k in range(counts.shape[2]):
            total += scales[cell, k] * (
                cold * ((1.0 - place) * table[node, k] + place * table[node + 1, k])
                + warm * ((1.0 - place) * hotter[node, k] + place * hotter[node + 1, k])
            )
        for j in range(max(first, low), min(first + height, high)):
            share = total * up[j - first]
            line = flat[j * columns + left : j * columns + left + width]
            for k in range(width):
                line[k] += share * across[k]
