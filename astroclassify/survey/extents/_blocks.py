"""Compiled: pixels far from a source joined to blocks. Imports numba; what `_kernels` says of it holds here too."""

import numpy as np
from numba import njit

__all__ = ["blocks"]

FINENESS = 0.3  # side of a block over its distance from the position, at most
FINEST, N_OCTAVES = 1 / 16, 16  # sides, from this [arcsec] in powers of two
CORE = 4.0  # distance within which pixels stay alone, in the scale of the first table: two half-energy radii
ROUGHNESS = 1.5  # ratio within a block of what is expected per exposure, from which its pixels stay alone
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**OPTIONS)
def _block_numbers(scene):
    """
    Number of the block of each pixel, and where those of each camera begin. Blocks are squares of a side between
    `FINENESS` / 2 and `FINENESS` times the distance from the position; near it, and where base and neighbours vary by
    more than `ROUGHNESS`, pixels stay alone.
    """
    half = int(2 / FINENESS) + 1
    across, core = 2 * half + 1, CORE * scene.scales[0, 0]
    numbers, cells = np.empty(scene.x.size, np.int64), np.empty(scene.x.size, np.int64)
    edges = np.zeros(scene.edges.size, np.int64)
    n = 0
    for camera in range(scene.edges.size - 1):
        pixels = range(scene.edges[camera], scene.edges[camera + 1])
        least, most = np.full((N_OCTAVES, across, across), np.inf).ravel(), np.zeros(N_OCTAVES * across**2)
        number = np.full(most.size, -1)
        for i in pixels:
            side, octave, distance = FINEST, 0, max(abs(scene.x[i]), abs(scene.y[i]))
            if distance < core:
                cells[i] = -1
                continue
            while side <= FINENESS / 2 * distance and octave < N_OCTAVES - 1:
                side *= 2
                octave += 1
            row = min(max(int(np.floor(scene.y[i] / side)), -half), half) + half
            column = min(max(int(np.floor(scene.x[i] / side)), -half), half) + half
            cell = cells[i] = (octave * across + row) * across + column
            ground = scene.base[i]
            for each in range(scene.neighbours.shape[0]):
                ground += scene.neighbours[each, i]
            ground /= scene.ratio[i]
            least[cell], most[cell] = min(least[cell], ground), max(most[cell], ground)
        for i in pixels:
            cell = cells[i]
            if cell < 0 or most[cell] > ROUGHNESS * least[cell]:
                numbers[i] = n
                n += 1
            else:
                if number[cell] < 0:
                    number[cell] = n
                    n += 1
                numbers[i] = number[cell]
        edges[camera + 1] = n
    return numbers, edges


@njit(**OPTIONS)
def blocks(scene):
    """Sums of pixels over blocks: counts, base, background, ratio, mean x and y, neighbours, and edges of cameras."""
    numbers, edges = _block_numbers(scene)
    sums, neighbours = np.zeros((6, edges[-1])), np.zeros((scene.neighbours.shape[0], edges[-1]))
    for i in range(numbers.size):
        k, ratio = numbers[i], scene.ratio[i]
        sums[0, k] += scene.counts[i]
        sums[1, k] += scene.base[i]
        sums[2, k] += scene.background[i]
        sums[3, k] += ratio
        sums[4, k] += scene.x[i] * ratio
        sums[5, k] += scene.y[i] * ratio
    for row in range(neighbours.shape[0]):
        for i in range(numbers.size):
            neighbours[row, numbers[i]] += scene.neighbours[row, i]
    for k in range(edges[-1]):
        sums[4, k] /= sums[3, k]
        sums[5, k] /= sums[3, k]
    return sums, neighbours, edges
