"""
Loops over the pixels of a grid for `_resample`, compiled by numba: integrals along sides, interpolation.

This module imports numba, so others import it where they need it; numba keeps the machine code beside this file, or in
the user's cache. Planes come last: those of one pixel lie side by side in memory.
"""

import numpy as np
from numba import njit

__all__ = ["fill_between", "follow"]

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit("void(f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,::1], f8[:,:,::1], f8[:,:,::1])", **_OPTIONS)
def follow(values, left, x, y, along, across):
    """
    Integrals (.., n) of F dy along the sides of the pixels of a grid with corners x, y (ny + 1, nx + 1).

    ``values`` (height, width, n): contents of the pixels of n images, whose outermost are taken to go on for ever;
    ``left``: what lies to the left of each in its row; F is linear in between. The corner of the first pixel is the
    origin. Filled in are ``along`` (ny + 1, nx, n) from corner to corner in a row, ``across`` (ny, nx + 1, n) to the
    next row. Each side is followed from cell to cell (Amanatides & Woo 1987, Eurographics 87, 3).
    """
    height, width, n = values.shape
    for j in range(x.shape[0]):
        for i in range(x.shape[1]):
            for direction in range(2):
                to_j, to_i = j + direction, i + 1 - direction
                if to_j == x.shape[0] or to_i == x.shape[1]:
                    continue
                total = across[j, i] if direction else along[j, i]
                u, v = x[j, i], y[j, i]
                du, dv = x[to_j, to_i] - u, y[to_j, to_i] - v
                column, row = np.floor(u), np.floor(v)
                # Where, as a share of the side, it crosses into the next column and row.
                next_u = next_v = pace_u = pace_v = np.inf
                if du != 0.0:
                    pace_u = min(1.0 / abs(du), 1e300)  # 0 * inf is not wanted
                    next_u = (column + 1.0 - u if du > 0.0 else u - column) * pace_u
                if dv != 0.0:
                    pace_v = min(1.0 / abs(dv), 1e300)
                    next_v = (row + 1.0 - v if dv > 0.0 else v - row) * pace_v
                total[:] = 0.0
                done = 0.0
                while True:
                    end = min(next_u, next_v, 1.0)
                    # Clipped as floats: a place may be larger than any integer.
                    cell_j = int(min(max(row, 0.0), height - 1.0))
                    cell_i = int(min(max(column, 0.0), width - 1.0))
                    inside, rise = u + du * (done + end) / 2.0 - column, dv * (end - done)
                    for k in range(n):
                        total[k] += (left[cell_j, cell_i, k] + values[cell_j, cell_i, k] * inside) * rise
                    if not end < 1.0:
                        break
                    done = end
                    if next_u <= next_v:
                        column += np.sign(du)
                        next_u += pace_u
                    else:
                        row += np.sign(dv)
                        next_v += pace_v


@njit("void(f8[:,::1], b1[:,::1], f8[::1], f8[::1], f8[::1], f8[::1])", **_OPTIONS)
def fill_between(data, valid, x, y, values, share):
    """Fill in values at places x, y, linear between pixels and from valid ones alone, and the share that is valid."""
    height, width = data.shape
    for place in range(x.size):
        values[place] = share[place] = 0.0
        if not (-0.5 <= x[place] <= width - 0.5 and -0.5 <= y[place] <= height - 0.5):
            continue
        u, v = min(max(x[place], 0.0), width - 1.0), min(max(y[place], 0.0), height - 1.0)
        column, row = int(u), int(v)
        value, missing = 0.0, 0.0
        for j in range(row, min(row + 2, height)):
            for i in range(column, min(column + 2, width)):
                weight = (1.0 - abs(u - i)) * (1.0 - abs(v - j))
                if valid[j, i]:
                    value += weight * data[j, i]
                else:
                    missing += weight
        share[place] = 1.0 - missing  # exactly 1 where all is valid
        if share[place] > 1e-6:
            values[place] = value / share[place]
