"""Basins of a filtered image, and those that are one source."""

import numpy as np

__all__ = ["find_basins", "merge_basins"]

LEAST_PIXELS = 5  # of a source
CONTRAST = 0.3  # height of a peak above the saddle to a higher one, as a share of the peak,
SIGMA = 4.0  # and in standard deviations of the noise there, high because an extended source has many peaks


def find_basins(image, used):
    """For each pixel the flat index of the peak at the end of the steepest ascent; -1 where ``used`` is false."""
    heights = np.pad(np.where(used, image, np.float32(-1)), 1, constant_values=-1).ravel()
    width = image.shape[1] + 2
    places = np.flatnonzero(np.pad(used, 1))
    best, target = np.full(len(places), -np.inf, heights.dtype), places
    for step in (dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        # Of equal neighbours the first counts, so that no ascent runs in a circle.
        height = heights[places + step]
        higher = height > best
        best, target = np.where(higher, height, best), np.where(higher, places + step, target)
    target = np.searchsorted(places, target)
    while not np.array_equal(further := target[target], target):
        target = further
    basins = np.full(image.shape, -1)
    basins[used] = np.flatnonzero(used)[target]
    return basins


def _saddles(image, basins):
    """Saddles between basins that touch, from high to low: heights, and pairs of basins."""
    heights, pairs = [], []
    ny, nx = image.shape
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        here = slice(0, ny - dy), slice(max(-dx, 0), nx - max(dx, 0))
        there = slice(dy, ny), slice(max(dx, 0), nx + min(dx, 0))
        a, b = basins[here], basins[there]
        touch = (a != b) & (a >= 0) & (b >= 0)
        heights.append(np.minimum(image[here][touch], image[there][touch]))
        pairs.append(np.sort(np.stack([a[touch], b[touch]], axis=1), axis=1))
    heights, pairs = np.concatenate(heights), np.concatenate(pairs)
    order = np.argsort(-heights, kind="stable")
    heights, pairs = heights[order], pairs[order]
    first = np.sort(np.unique(pairs[:, 0] * image.size + pairs[:, 1], return_index=True)[1])
    return heights[first].tolist(), pairs[first].tolist()


def merge_basins(image, basins, background, area):
    """Labels of sources: basins, where a peak that hardly rises above its saddle to a higher one is part of that.

    ``area`` is the number of pixels whose mean the noise at a saddle is.
    """
    used = basins >= 0
    peaks, index, sizes = np.unique(basins[used], return_inverse=True, return_counts=True)
    names = peaks.tolist()
    height = dict(zip(names, image.ravel()[peaks].tolist(), strict=True))
    level = dict(zip(names, background.ravel()[peaks].tolist(), strict=True))
    size = dict(zip(names, sizes.tolist(), strict=True))
    joined = {name: name for name in names}  # basins connected above the present saddle
    source = dict(joined)  # basins of one source
    for saddle, (a, b) in zip(*_saddles(image, basins), strict=True):
        top_a, top_b = _root(joined, a), _root(joined, b)
        if top_a == top_b:
            continue
        if height[top_a] < height[top_b]:
            a, top_a, top_b = b, top_b, top_a
        joined[top_b] = top_a
        low, high = _root(source, top_b), _root(source, a)
        least = max(CONTRAST * height[low], SIGMA * np.sqrt((saddle + level[low]) / area))
        if height[low] - saddle < least or size[low] < LEAST_PIXELS:
            source[low] = high
            size[high] += size[low]
    final = np.array([_root(source, name) for name in names])
    labels = np.zeros(image.shape, np.int32)
    labels[used] = 1 + np.unique(final, return_inverse=True)[1][index]
    return labels


def _root(tree, name):
    """Representative of a name in a union-find tree."""
    while tree[name] != name:
        tree[name] = tree[tree[name]]
        name = tree[name]
    return name
