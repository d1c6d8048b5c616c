"""Shape of an image about its brightest smooth place, in numbers free of depth: what a cluster's X-rays look like."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter

__all__ = ["N_GRAIN", "N_VALUES", "Shape", "shape_of"]

N_VALUES, N_GRAIN = 40, 3
"""Numbers of `Shape.values` and of `Shape.grain`."""

_PIXEL = 7.8  # kpc: finer images are binned to about this
_RINGS = np.array([0.0, 20, 40, 70, 110, 170, 250, 350, 450, 650])  # kpc; the last one measures the background
_N_SECTORS = 16
_ZONES = ((2, 4), (4, 6), (6, 8))  # rings of 40-110, 110-250 and 250-450 kpc
_SCALES = (10.0, 20.0, 40.0)  # kpc, widths of the Gaussians whose differences show clumps
_WITHIN = 250.0  # kpc from the middle of the field in which the centre is looked for, and of the mean brightness
_OUT_TO = 450.0  # kpc from the centre, for areas, edges and peaks
_FIELD = 500.0  # kpc from the middle
_LEAST_SECTORS = 6
_LEAST_COVER = 0.3  # of a sector or of the smoothing kernel
# Shares of the mean brightness within 250 kpc: what lies below is not told apart.
_FLOOR, _FAINT = 0.02, 0.05
_LAKE = 5  # pixels: a square of this side without a count, where 8 are expected, is not exposed
_LEAST_EXPECTED = 8
_SIGNIFICANT = 5


class Shape(NamedTuple):
    """
    ``values`` (40,) of shape, NaN where unknown; ``grain`` (3,): log10 of the variance over that of counts on two
    scales, and of the significance of the excess; ``counts`` above the background within 250 kpc; ``cover``: exposed
    share of the disc of 500 kpc about the middle.
    """

    values: np.ndarray
    grain: np.ndarray
    counts: float
    cover: float

    @property
    def is_seen(self):
        """Whether there is an excess of 5 sigma; without, an image is not one of a cluster that can be judged."""
        return self.grain[-1] > np.log10(_SIGNIFICANT)


@lru_cache(maxsize=8)
def _offsets(ny, nx):
    """Coordinates of pixels from the middle, for any centre in the field: rows, columns."""
    return np.arange(ny)[:, None] - (ny - 1) / 2, np.arange(nx)[None, :] - (nx - 1) / 2


def _binned(array, factor, mean=False):
    """Blocks of pixels summed (or averaged); what is left over at two sides is cut off."""
    if factor == 1:
        return array
    ny, nx = (size // factor for size in array.shape)
    blocks = array[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor)
    return blocks.mean(axis=(1, 3)) if mean else blocks.sum(axis=(1, 3))


def _weights(counts, exposure):
    """Relative exposure of each pixel; without a map, places without a count where some are expected have none."""
    if exposure is not None:
        weights = np.nan_to_num(np.asarray(exposure, dtype=float), posinf=0.0)
        top = weights.max()
        return np.where(weights > 0.05 * top, weights / top, 0.0) if top > 0 else np.zeros(counts.shape)
    typical = counts.mean()
    whole = np.all(counts == np.round(counts))
    if whole and typical * _LAKE**2 < _LEAST_EXPECTED:  # too few counts to tell a gap from chance
        return np.ones(counts.shape)
    empty = uniform_filter(counts, _LAKE, mode="nearest") <= 1e-9 * typical
    lake = uniform_filter(empty.astype(float), _LAKE, mode="nearest") > 1e-9
    return np.where(lake, 0.0, 1.0)


def _smoothed(counts, weights, sigma, full):
    """Brightness smoothed over exposed pixels; 0 where hardly any are near. ``full``: all weights are 1."""
    above = gaussian_filter(counts, sigma, mode="nearest", truncate=3)
    if full:
        return above, None
    below = gaussian_filter(weights, sigma, mode="nearest", truncate=3)
    good = below > _LEAST_COVER
    return np.where(good, above / np.where(good, below, 1.0), 0.0), good


def _noise_factor(first, second):
    """Variance of the difference of two Gaussian means (widths in pixels) of white noise of variance 1."""
    return (1 / first**2 + 1 / second**2 - 4 / (first**2 + second**2)) / (4 * np.pi)


def _percentile(values, share):
    """Order statistic without interpolation: a few times faster than `numpy.percentile`."""
    place = min(len(values) - 1, int(share * len(values)))
    return np.partition(values, place)[place]


def shape_of(counts, exposure=None, *, pixel, poisson=True):
    """
    Shape of one image of counts (ny, nx), with the exposure (any unit) if known, on pixels of ``pixel`` kpc.

    ``poisson`` is False for images whose pixels are not counts: their noise is not known, and nothing is subtracted.
    """
    factor = max(1, round(_PIXEL / pixel))
    counts = _binned(np.asarray(counts, dtype=float), factor)
    weights = _weights(counts, None if exposure is None else _binned(np.asarray(exposure), factor, mean=True))
    pixel = pixel * factor
    counts = np.where(weights > 0, counts, 0.0)
    full = bool(weights.min() == 1)
    smooth = [_smoothed(counts, weights, scale / pixel, full) for scale in _SCALES]
    rows, columns = _offsets(*counts.shape)
    near = np.hypot(rows, columns) * pixel < _WITHIN
    place = np.argmax(np.where(near, smooth[1][0], -np.inf))
    row, column = np.unravel_index(place, counts.shape)
    dy, dx = rows - rows[row, 0], columns - columns[0, column]
    radius = np.hypot(dy, dx) * pixel
    ring = np.searchsorted(_RINGS, radius.ravel(), side="right") - 1
    sector = ((np.arctan2(dy, dx).ravel() / (2 * np.pi) + 0.5) * _N_SECTORS).astype(int) % _N_SECTORS
    cell = ring * _N_SECTORS + sector
    n_cells = len(_RINGS) * _N_SECTORS
    sums = np.bincount(cell, counts.ravel(), n_cells).reshape(-1, _N_SECTORS)[:-1]
    cover = np.bincount(cell, weights.ravel(), n_cells).reshape(-1, _N_SECTORS)[:-1]
    area = np.bincount(cell, minlength=n_cells).reshape(-1, _N_SECTORS)[:-1]
    table = _Rings(sums, cover, area)
    background = table.background()
    inner = _RINGS[1:] <= _WITHIN
    total, exposed = sums[inner].sum(), cover[inner].sum()
    net = total - background * exposed
    # An image without an excess still has a scale: the noise of its counts.
    mean = max(net, np.sqrt(total + 1) if poisson else 1e-3 * total, 1e-12) / max(exposed, 1.0)
    texture, grain = _texture(smooth, weights, ring, table, background, mean, pixel, poisson)
    contrast = np.log10(mean / (background + _FLOOR * mean) + 1e-3)
    offset = np.hypot(rows[row, 0], columns[0, column]) * pixel / 100
    rings = table.profile(background, mean), table.excess(background, mean), table.harmonics(background, mean, poisson)
    body = _body(smooth, radius, background, mean, pixel, weights)
    values = np.concatenate([*rings, texture, body, [contrast, offset]])
    disc = np.hypot(rows, columns) * pixel < _FIELD
    cover = np.mean(weights[disc] > 0) * min(1.0, disc.sum() * pixel**2 / (np.pi * _FIELD**2))
    significance = np.log10(max(net, 0) / np.sqrt(total + 1) + 0.3)
    return Shape(values, np.array([*grain, significance]), max(net, 1.0), float(cover))


class _Rings:
    """Counts, exposure and pixels in rings and sectors about the centre, (n_rings, n_sectors) each."""

    def __init__(self, sums, cover, area):
        self.sums, self.cover = sums, cover
        self.good = (cover > _LEAST_COVER * area) & (cover > 0)
        self.brightness = np.divide(sums, cover, out=np.zeros_like(sums), where=self.good)
        whole = cover.sum(axis=1)
        self.means = np.divide(sums.sum(axis=1), whole, out=np.zeros(len(sums)), where=whole > 0)

    def background(self):
        """Lower quartile of sectors in the outermost ring, or in the next ones where it is not exposed."""
        for number in range(len(self.sums) - 1, 0, -1):
            known = self.brightness[number][self.good[number]]
            if len(known) >= 4:
                return float(_percentile(known, 0.25))
        return 0.0

    def profile(self, background, mean):
        """log10 of the net brightness of the rings over the mean within 250 kpc."""
        return np.log10(np.maximum(self.means[:-1] - background, 0) / mean + _FLOOR)

    def excess(self, background, mean):
        """log10 of mean over median sector in rings from 40 kpc: clumps that a ring's mean has and its median not."""
        found = []
        for first, last in _ZONES:
            ratios = []
            for number in range(first, last):
                known = self.brightness[number][self.good[number]]
                middle = np.median(known) if len(known) else 0.0
                above = max(self.means[number] - background, 0) + _FAINT * mean
                ratios.append(above / (max(middle - background, 0) + _FAINT * mean))
            found.append(np.log10(np.mean(ratios)))
        return np.array(found)

    def harmonics(self, background, mean, poisson):
        """log10 amplitudes of dipole, quadrupole and the rest of the sectors in three zones, without Poisson noise."""
        angle = 2 * np.pi * (np.arange(_N_SECTORS) + 0.5) / _N_SECTORS
        found = []
        for first, last in _ZONES:
            good = self.good[first:last].any(axis=0)
            n = good.sum()
            if n < _LEAST_SECTORS:
                found += [np.nan] * 3
                continue
            sums, cover = self.sums[first:last].sum(axis=0)[good], self.cover[first:last].sum(axis=0)[good]
            brightness = sums / cover
            middle = brightness.mean()
            off = brightness - middle
            powers = [2 * np.abs(np.mean(off * np.exp(1j * order * angle[good]))) ** 2 for order in (1, 2)]
            powers.append(max(np.mean(off**2) - sum(powers), 0))
            noise = np.mean(sums / cover**2) * poisson
            scale = max(middle - background, 0) + _FAINT * mean
            for power, share in zip(powers, (2 / n, 2 / n, (n - 5) / n), strict=True):
                found.append(np.log10(max(power - share * noise, 0) / scale**2 + 0.03**2) / 2)
        return np.array(found)


def _texture(smooth, weights, ring, table, background, mean, pixel, poisson):
    """Clumpiness (robust, rms) in three zones on two scales, and log10 of the least variance over the Poisson one."""
    n_pixels = np.bincount(ring, minlength=len(_RINGS))[:-1]
    good = weights.ravel() > 0
    for _, known in smooth:
        if known is not None:
            good &= known.ravel()
    # Variance of the brightness of a pixel: brightness over exposure.
    variance = np.maximum(smooth[-1][0].ravel(), 0) / np.where(good, weights.ravel(), 1.0)
    rings = [np.flatnonzero((ring == number) & good) for number in range(_ZONES[-1][-1])]
    found, grain = [], []
    for number in range(len(_SCALES) - 1):
        difference = (smooth[number][0] - smooth[number + 1][0]).ravel()
        factor = _noise_factor(_SCALES[number] / pixel, _SCALES[number + 1] / pixel)
        ratios = []
        for low, high in _ZONES:
            used = [rings[place] for place in range(low, high) if len(rings[place]) >= max(8, 0.2 * n_pixels[place])]
            if not used:
                found += [np.nan, np.nan]
                continue
            values = np.concatenate([difference[inside] - np.median(difference[inside]) for inside in used])
            noise = factor * variance[np.concatenate(used)].mean()
            scale = max(table.means[low:high].mean() - background, 0) + _FAINT * mean
            half = (_percentile(values, 0.84) - _percentile(values, 0.16)) / 2
            for power in (half**2, np.mean(values**2)):
                found.append(np.log10(max(power - noise * poisson, 0) / scale**2 + 0.02**2) / 2)
            ratios.append(np.log10(np.clip(half**2 / max(noise, 1e-300), 1e-2, 1e4)))
        grain.append(min(ratios, default=np.nan))
    return np.array(found), grain


def _body(smooth, radius, background, mean, pixel, weights):
    """log10 of areas that hold half the light (on two scales) and four fifths, of slopes (median, steep), of peaks."""
    inside = (radius < _OUT_TO) & (weights > 0)
    for _, known in smooth:
        if known is not None:
            inside &= known
    fine, middle, coarse = (np.where(inside, image - background, 0.0) for image, _ in smooth)
    found = []
    for image, shares in ((fine, (0.5,)), (coarse, (0.5, 0.8))):
        light = np.cumsum(np.sort(image[inside])[::-1])
        total = max(light[-1], 0.05 * light.max()) if light.size else 0.0
        for share in shares:
            area = 1 + (np.argmax(light >= share * total) if total > 0 else light.size)
            found.append(np.log10(area * (pixel / 100) ** 2))
    level = np.log(np.maximum(middle, 0) + 2 * _FAINT * mean)
    steps = np.hypot(*(np.gradient(level, axis=axis) for axis in (0, 1))) * (_SCALES[1] / pixel)
    bright = inside & (middle > 2 * _FAINT * mean) & (radius > _RINGS[3])
    slopes = steps[bright]
    found += [np.log10(_percentile(slopes, share) + 0.01) if slopes.size > 20 else np.nan for share in (0.5, 0.95)]
    peaks = (maximum_filter(middle, 5) == middle) & inside & (middle > 0.3 * middle.max())
    return [*found, np.log10(max(peaks.sum(), 1))]
