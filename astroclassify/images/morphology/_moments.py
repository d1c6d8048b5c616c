"""Arithmetic of the morphology of count images: plain arrays, lengths in R500, many Poisson draws at once."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

ANNULI = (0.05, 0.12, 0.2, 0.3, 1.0)
"""Edges of the annuli of the photon asymmetry [R500]: Nurgaliev et al. 2013, section 3, and their program."""

INNER = 0.15
"""Inner radius of the scaled concentration [R500]: where a core usually ends; see `scaled_concentration`."""

SMOOTHING = 0.04
"""Sigma of the Gaussian under which the X-ray peak is the brightest point [R500]."""

SEARCH = 0.4
"""How far from the middle of the image the peak may lie [R500]."""

DRAW_SEARCH = 0.2
"""How far from the peak of the image that of a bootstrap draw may lie [R500]."""

MARGIN = 0.35
"""How far beyond the outer radius pixels are kept, and the centroid may lie from the peak [R500]."""

MIN_EXPOSURE = 0.1
"""Pixels with less than this fraction of the greatest exposure count as not exposed."""

MIN_COVERAGE = 0.9
"""At least this fraction of a circle's pixels must be on the image, unmasked and exposed."""

N_ANGLES = 120
"""Bins of the angle in an annulus."""


@dataclass(frozen=True)
class Patch:
    """Square part of an image, padded with pixels without exposure; coordinates in R500 from the image's middle."""

    counts: np.ndarray  # (ny, nx)
    exposure: np.ndarray  # (ny, nx), relative; zero where not valid
    background: np.ndarray  # (ny, nx), expected counts
    x: np.ndarray  # (nx,)
    y: np.ndarray  # (ny,)
    step: float  # side of a pixel

    @classmethod
    def around(cls, counts, exposure, background, step, centre, half):
        """Cut (and pad) whole images, given with their step, to a square about a point."""
        ny, nx = counts.shape
        n = int(np.ceil(half / step)) + 1
        column = int(np.round(centre[0] / step + (nx - 1) / 2))
        row = int(np.round(centre[1] / step + (ny - 1) / 2))
        columns, rows = np.arange(column - n, column + n + 1), np.arange(row - n, row + n + 1)
        on_x, on_y = (columns >= 0) & (columns < nx), (rows >= 0) & (rows < ny)
        parts = []
        for plane in (counts, exposure, background):
            part = np.zeros((2 * n + 1, 2 * n + 1))
            part[np.ix_(on_y, on_x)] = plane[np.ix_(rows[on_y], columns[on_x])]
            parts.append(part)
        return cls(*parts, (columns - (nx - 1) / 2) * step, (rows - (ny - 1) / 2) * step, step)

    def binned(self, factor):
        """Sum of blocks of pixels; a block that is valid in part has a smaller exposure."""
        if factor <= 1:
            return self
        size = -(-len(self.x) // factor) * factor
        extra = size - len(self.x)

        def blocks(plane):
            padded = np.pad(plane, (0, extra))
            return padded.reshape(size // factor, factor, size // factor, factor).sum(axis=(1, 3))

        middle = (np.arange(size // factor) * factor + (factor - 1) / 2) * self.step
        return Patch(
            blocks(self.counts),
            blocks(self.exposure) / factor**2,
            blocks(self.background),
            self.x[0] + middle,
            self.y[0] + middle,
            self.step * factor,
        )


def find_peaks(counts, patch, about, search):
    """
    Brightest points (n, 2; x, y) of images (n, ny, nx) under a Gaussian of `SMOOTHING`, to a fraction of a pixel.

    They lie within ``search`` of ``about``; the patch gives exposure, background and grid.
    """

    def kernel(axis):
        return np.exp(-0.5 * ((axis[:, np.newaxis] - axis) / SMOOTHING) ** 2)

    g_x, g_y = kernel(patch.x), kernel(patch.y)
    valid = patch.exposure >= MIN_EXPOSURE
    weight = g_y @ valid.astype(float) @ g_x
    usable = (np.hypot(patch.x - about[0], (patch.y - about[1])[:, np.newaxis]) < search) & (
        weight > 0.25 * g_y.sum(axis=0)[:, np.newaxis] * g_x.sum(axis=0)
    )
    if not usable.any():
        return np.tile(np.asarray(about, dtype=float), (len(counts), 1))
    per_count = np.divide(1.0, patch.exposure, out=np.zeros(valid.shape), where=valid)
    smooth = (g_y @ ((counts - patch.background) * per_count) @ g_x) / np.where(weight > 0, weight, np.inf)
    index = np.argmax(np.where(usable, smooth, -np.inf).reshape(len(counts), -1), axis=1)
    row, column = np.unravel_index(index, usable.shape)
    draw = np.arange(len(counts))

    def refined(axis, i, step):
        low, high = np.maximum(i - 1, 0), np.minimum(i + 1, len(axis) - 1)
        before, after = (smooth[draw, row, j] if axis is patch.x else smooth[draw, j, column] for j in (low, high))
        curvature = before - 2 * smooth[draw, row, column] + after
        shift = np.divide(before - after, 2 * curvature, out=np.zeros(len(draw)), where=curvature < 0)
        return axis[i] + np.clip(shift, -0.5, 0.5) * step

    return np.stack([refined(patch.x, column, patch.step), refined(patch.y, row, patch.step)], axis=1)


@dataclass(frozen=True)
class Pixels:
    """Pixels about a centre, for one or many images of the same place: what the measures are computed from."""

    counts: np.ndarray  # (n, p)
    exposure: np.ndarray  # (p,)
    background: np.ndarray  # (p,)
    x: np.ndarray  # (p,)
    y: np.ndarray  # (p,)
    step: float
    centre: np.ndarray  # (n, 2)
    near: np.ndarray  # (ny, nx): which pixels of the patch these are

    @classmethod
    def of(cls, patch, centre, reach):
        """The pixels of a patch within a distance of a centre."""
        x, y = np.meshgrid(patch.x, patch.y)
        near = np.hypot(x - centre[0], y - centre[1]) < reach
        exposure = np.where(patch.exposure[near] < MIN_EXPOSURE, 0.0, patch.exposure[near])
        valid = exposure > 0
        return cls(
            np.where(valid, patch.counts[near], 0.0)[np.newaxis],
            exposure,
            np.where(valid, patch.background[near], 0.0),
            x[near],
            y[near],
            patch.step,
            np.asarray(centre, dtype=float)[np.newaxis],
            near,
        )

    def about(self, centre):
        """x, y and distance from a centre for each image, shape (n, p)."""
        dx, dy = self.x - centre[:, :1], self.y - centre[:, 1:]
        return dx, dy, np.sqrt(dx * dx + dy * dy)

    @cached_property
    def offsets(self):
        """x, y and distance from the centres of the images, shape (n, p)."""
        return self.about(self.centre)

    @cached_property
    def flux(self):
        """
        Counts less background over relative exposure, shape (n, p).

        Pixels that are not valid get the mean of the valid ones at the same distance from the centre.
        """
        valid = self.exposure > 0
        flux = (self.counts - self.background) * self.per_count
        if not valid.all():
            width = max(2 * self.step, 0.02)
            ring = (self.offsets[2] / width).astype(int)
            n_rings = int(ring.max()) + 1
            key = ring + n_rings * np.arange(len(flux))[:, np.newaxis]
            length = n_rings * len(flux)
            total = np.bincount(key[:, valid].ravel(), flux[:, valid].ravel(), minlength=length)
            number = np.bincount(key[:, valid].ravel(), minlength=length)
            flux[:, ~valid] = (total / np.maximum(number, 1))[key[:, ~valid]]
        return flux

    @property
    def per_count(self):
        """What a count adds to the flux, shape (p,); zero where a pixel is not valid."""
        valid = self.exposure > 0
        return np.divide(1.0, self.exposure, out=np.zeros(len(valid)), where=valid)

    def drawn(self, rng, n_draws, patch, move):
        """Poisson draws of the counts, each with its own peak if the centre is one that moves."""
        counts = rng.poisson(self.counts[0], size=(n_draws, self.counts.shape[1])).astype(float)
        centre = np.repeat(self.centre, n_draws, axis=0)
        if move:
            stack = np.zeros((n_draws, *self.near.shape))
            stack[:, self.near] = counts
            centre = find_peaks(stack, patch, self.centre[0], DRAW_SEARCH)
        return replace(self, counts=counts, centre=centre)


def covered(pixels, centre, radius):
    """Fraction of the pixels within a radius of a centre that are valid, shape (n,)."""
    inside = pixels.about(centre)[2] < radius
    return np.sum(inside[:, pixels.exposure > 0], axis=1) / np.maximum(np.sum(inside, axis=1), 1)


def aperture_sums(flux, dx, dy, distance, edges, step):
    """
    Sums of the flux and of flux times x and y within each radius, shape (3, n, len(edges)).

    A pixel on an edge counts with the part of its width that lies inside.
    """
    n_edges = len(edges)
    shell = np.searchsorted(edges, distance - step / 2)
    cut = (shell < n_edges) & (np.append(edges, np.inf)[shell] < distance + step / 2)
    inside = np.clip((np.append(edges, 0.0)[shell[cut]] - distance[cut]) / step + 0.5, 0.0, 1.0)
    part = np.ones_like(flux)
    part[cut] = inside
    key = shell + (n_edges + 1) * np.arange(len(flux))[:, np.newaxis]
    length = (n_edges + 1) * len(flux)
    sums = []
    for value in (flux, flux * dx, flux * dy):
        total = np.bincount(key.ravel(), (value * part).ravel(), minlength=length)
        total += np.bincount(key[cut] + 1, value[cut] * (1 - inside), minlength=length)
        sums.append(np.cumsum(total.reshape(len(flux), n_edges + 1)[:, :-1], axis=1))
    return np.array(sums)


def concentration_and_shift(pixels, radius):
    """Scaled concentration and centroid shift [R500], each of shape (n,); NaN without counts."""
    dx, dy, distance = pixels.offsets
    flux = pixels.flux
    steps = np.arange(1, 11) / 10
    apertures = np.union1d(steps[steps < radius - 0.01], [radius])
    edges = np.union1d(apertures, [INNER])
    total, moment_x, moment_y = aperture_sums(flux, dx, dy, distance, edges, pixels.step)
    bright = total > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bright[:, -1], total[:, np.searchsorted(edges, INNER)] / total[:, -1], np.nan)
        offset = np.where(bright, np.hypot(moment_x, moment_y) / total, np.nan)
    return ratio, np.std(offset[:, np.searchsorted(edges, apertures)], axis=1, ddof=1)


def centroids(pixels, radius, start, n_iterations):
    """Centroids of the flux within a radius of themselves, iterated from a start; shape (n, 2)."""
    centre = np.array(start, dtype=float)
    for _ in range(n_iterations):
        dx, dy, distance = pixels.about(centre)
        weight = pixels.flux * np.clip((radius - distance) / pixels.step + 0.5, 0.0, 1.0)
        total = np.sum(weight, axis=1)
        shift = np.stack([np.sum(weight * dx, axis=1), np.sum(weight * dy, axis=1)], axis=1)
        moved = centre + np.divide(shift, total[:, None], out=np.zeros_like(shift), where=total[:, None] > 0)
        away = np.hypot(*(moved - pixels.centre).T)[:, None]
        moved = pixels.centre + (moved - pixels.centre) * np.minimum(1.0, (MARGIN - 0.02) / np.maximum(away, 1e-9))
        done = np.max(np.abs(moved - centre)) < 1e-5
        centre = moved
        if done:
            break
    return centre


def power_ratios(pixels, radius, log_radius, start, n_iterations):
    """
    P2/P0, P3/P0 and P4/P0, shape (3, n), and the centroids about which they are taken, shape (n, 2).

    NaN without counts, or if the circle about the centroid is not covered.
    """
    centre = centroids(pixels, radius, pixels.centre if start is None else start, n_iterations)
    dx, dy, distance = pixels.about(centre)
    weight = np.clip((radius - distance) / pixels.step + 0.5, 0.0, 1.0)
    noise = pixels.counts * (pixels.per_count * weight) ** 2
    flux = pixels.flux * weight
    total = np.sum(flux, axis=1)
    bright = total > 0
    if not np.all(pixels.exposure > 0):
        bright &= covered(pixels, centre, radius) >= MIN_COVERAGE
    z = (dx + 1j * dy) / radius
    size = (distance / radius) ** 2
    ratios, power = [], z
    for order in (2, 3, 4):
        power = power * z
        moment = np.abs(np.sum(flux * power, axis=1)) ** 2 - np.sum(noise * size**order, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.where(bright, moment / (2 * order**2 * (total * log_radius) ** 2), np.nan))
    return np.array(ratios), centre


def annulus_edges(radius):
    """Edges of the annuli of the photon asymmetry that lie within a radius [R500], and that radius."""
    return np.array([*(edge for edge in ANNULI[:-1] if edge < radius - 0.01), radius])


def asymmetry(pixels, radius):
    """
    Photon asymmetry, shape (n,), and net counts of the annuli, shape (n, annuli).

    See `astroclassify.morphology.photon_asymmetry` for the formula. Angles are binned; the sum over pairs of different
    photons is then the quadratic form of the Watson statistic for discrete distributions (Choulakian, Lockhart &
    Stephens 1994, Canadian Journal of Statistics 22, 125) less the contribution of each photon with itself.
    """
    dx, dy, distance = pixels.offsets
    edges = annulus_edges(radius)
    n_images, n_rings = len(pixels.counts), len(edges) - 1
    ring = np.searchsorted(edges, distance, side="right") - 1
    used = (ring >= 0) & (ring < n_rings) & (pixels.exposure > 0)
    angle = ((np.arctan2(dy[used], dx[used]) / (2 * np.pi) + 0.5) * N_ANGLES).astype(int) % N_ANGLES
    image, pixel = np.nonzero(used)
    key = (image * n_rings + ring[used]) * N_ANGLES + angle

    def binned(values):
        total = np.bincount(key, values, minlength=n_images * n_rings * N_ANGLES)
        return total.reshape(n_images, n_rings, N_ANGLES)

    counts, exposure = binned(pixels.counts[used]), binned(pixels.exposure[pixel])
    net = counts - binned(pixels.background[pixel])
    exposed = np.sum(exposure, axis=2, keepdims=True)
    p = exposure / np.where(exposed > 0, exposed, np.inf)
    cumulative = np.cumsum(p, axis=2)
    c = np.sum(net, axis=2)
    difference = np.cumsum(net, axis=2) - cumulative * c[..., np.newaxis]
    squared = np.sum(p * difference**2, axis=2) - np.sum(p * difference, axis=2) ** 2
    # A photon with itself: the same quadratic form of a unit step at its bin; 1/12 for narrow bins.
    after = np.cumsum(p[..., ::-1], axis=2)[..., ::-1]
    square = np.cumsum((p * (1 - 2 * cumulative))[..., ::-1], axis=2)[..., ::-1]
    square = square + np.sum(p * cumulative**2, axis=2, keepdims=True)
    own = square - (after - np.sum(p * cumulative, axis=2, keepdims=True)) ** 2
    squared = squared - np.sum(counts * own, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 100 * np.sum(squared / c, axis=1) / np.sum(c, axis=1)
    return np.where(np.all(c > 0, axis=1), value, np.nan), c
