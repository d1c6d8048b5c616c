"""Simulated images of what is not a cluster, seen through the telescope that saw given images of clusters."""

import numpy as np
from scipy.ndimage import gaussian_filter

from astroclassify.fields._psf import FWHM

from ..inputs._brightness import WIDTH_OF_PIXEL

__all__ = ["as_picture", "non_cluster"]

_SIDE = 1000.0  # kpc, to which the sizes below refer


def _uniform_log(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _grid(n, pixel, rng, spread=150.0):
    """Distances (kpc) along x and y from a random place within ``spread`` kpc of the middle."""
    x0, y0 = rng.uniform(-spread, spread, 2)
    along = (np.arange(n) - (n - 1) / 2) * pixel
    return along[None, :] - x0, along[:, None] - y0


def _noise_field(n, rng, slope, smallest=0.0):
    """Gaussian random field of variance 1 whose power falls as k^-slope, cut at waves shorter than ``smallest`` px."""
    k = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :])
    power = np.where(k > 0, np.maximum(k, 1 / n) ** (-slope / 2), 0) * np.exp(-0.5 * (k * smallest) ** 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(n, n))) * power, s=(n, n))
    return (field - field.mean()) / max(field.std(), 1e-12)


def _put(image, x, y, flux, pixel):
    """Add points (kpc from the middle) to an image."""
    n = len(image)
    column, row = (np.round(np.asarray(place) / pixel + (n - 1) / 2).astype(int) for place in (x, y))
    inside = (row >= 0) & (row < n) & (column >= 0) & (column < n)
    np.add.at(image, (row[inside], column[inside]), np.broadcast_to(flux, row.shape)[inside])


def _remnant(n, pixel, rng):
    """Supernova remnant or other nebula: a shell or a filled disc with a sharp edge, patchy, perhaps with a pulsar."""
    x, y = _grid(n, pixel, rng)
    size, axis, turn = _uniform_log(rng, 40, 700), rng.uniform(0.6, 1), rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / axis
    radius, angle = np.hypot(u, v) / size, np.arctan2(v, u)
    for order in range(2, 6):
        radius = radius * (1 + rng.normal(0, 0.06) * np.cos(order * angle + rng.uniform(0, 2 * np.pi)))
    if rng.random() < 0.6:
        hollow = rng.uniform(0.5, 0.95)
        depth = np.sqrt(np.maximum(1 - radius**2, 0)) - np.sqrt(np.maximum(hollow**2 - radius**2, 0))
    else:
        depth = np.maximum(1 - radius**2, 0) ** rng.uniform(0.2, 1.5)
    patches = np.exp(rng.uniform(0.2, 1.2) * _noise_field(n, rng, rng.uniform(2, 4)))
    side = 1 + rng.uniform(0, 1) * np.cos(angle + rng.uniform(0, 2 * np.pi))
    image = depth * patches * side
    image = image / max(image.sum(), 1e-12)
    if rng.random() < 0.4:
        _put(image, rng.uniform(-0.3, 0.3) * size, rng.uniform(-0.3, 0.3) * size, _uniform_log(rng, 0.02, 0.5), pixel)
    return image


def _spiral(n, pixel, rng):
    """Disc galaxies: sources of all fluxes about one or two nuclei, on a disc with arms."""
    image = np.zeros((n, n))
    for number in range(rng.integers(1, 3)):
        x, y = _grid(n, pixel, rng, 100 if number == 0 else 300)
        scale, turn, axis = _uniform_log(rng, 15, 200), rng.uniform(0, np.pi), rng.uniform(0.3, 1)
        u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / axis
        radius, angle = np.hypot(u, v) + 1, np.arctan2(v, u)
        arms = 1 + rng.uniform(0, 1) * np.cos(2 * angle - rng.uniform(2, 6) * np.log(radius))
        disc = np.exp(-radius / scale) * arms * np.exp(rng.uniform(0, 0.7) * _noise_field(n, rng, 2.5))
        disc *= rng.uniform(0.05, 0.7) / max(disc.sum(), 1e-12)
        n_sources = int(_uniform_log(rng, 5, 80))
        flux = 1 + rng.pareto(rng.uniform(0.6, 1.3), n_sources)
        flux = np.minimum(flux, 200)
        r, phi = scale * rng.gamma(2, 1, n_sources), rng.uniform(0, 2 * np.pi, n_sources)
        a, b = r * np.cos(phi), axis * r * np.sin(phi)
        _put(disc, a * np.cos(turn) - b * np.sin(turn) - x[0, n // 2], a * np.sin(turn) + b * np.cos(turn)
             - y[n // 2, 0], flux * (1 - disc.sum()) / flux.sum(), pixel)  # fmt: skip
        _put(disc, -x[0, n // 2], -y[n // 2, 0], rng.uniform(0, 0.5), pixel)
        image += disc * (1 if number == 0 else rng.uniform(0.1, 1))
    return image


def _points(n, pixel, rng):
    """One to three bright point sources, and faint ones."""
    image = np.zeros((n, n))
    for _ in range(rng.integers(1, 4)):
        _put(image, *rng.uniform(-200, 200, (2, 1)), _uniform_log(rng, 0.1, 1), pixel)
    return image


def _field(n, pixel, rng):
    """Faint sources of the sky, of slope 1.3 or so in flux, some fields with many and some with none."""
    image, number, half = np.zeros((n, n)), int(_uniform_log(rng, 1, 80)), n * pixel / 2
    _put(image, *rng.uniform(-half, half, (2, number)), np.minimum(1 + rng.pareto(rng.uniform(1, 1.6), number), 200),
         pixel)  # fmt: skip
    return image / max(image.sum(), 1)


def _blank(n, pixel, rng):
    """Nothing: `non_cluster` adds faint sources."""
    return np.zeros((n, n))


def _stray(n, pixel, rng):
    """Gradients, arcs of single reflections and their edges."""
    x, y = _grid(n, pixel, rng, 0)
    turn = rng.uniform(0, 2 * np.pi)
    along = (x * np.cos(turn) + y * np.sin(turn)) / _SIDE
    if rng.random() < 0.4:
        return np.maximum(1 + rng.uniform(0.5, 4) * along, 0) + (rng.random() < 0.5) * (along > rng.uniform(-0.3, 0.3))
    image = np.full((n, n), 1e-3)
    far, width = _uniform_log(rng, 300, 3000), _uniform_log(rng, 10, 150)
    radius, angle = np.hypot(x - far * np.cos(turn), y - far * np.sin(turn)), np.arctan2(y - far * np.sin(turn), x)
    for _ in range(rng.integers(1, 6)):
        image += rng.uniform(0.2, 1) * np.exp(-0.5 * ((radius - far - rng.uniform(-400, 400)) / width) ** 2)
    return image * (1 + 0.5 * np.cos(angle * rng.integers(1, 6)))


def _artefact(n, pixel, rng):
    """Chips of unlike background, bright columns, hot pixels."""
    image = np.full((n, n), 1e-3)
    row, column = rng.integers(n // 5, 4 * n // 5, 2)
    kind = rng.integers(3)
    if kind == 0:
        image[row:, : rng.integers(n // 4, n)] += rng.uniform(0.3, 3)
        image[:, column:] += rng.uniform(0, 1)
    elif kind == 1:
        for _ in range(rng.integers(1, 6)):
            image[:, (column + rng.integers(-20, 20)) % n] += rng.exponential()
    else:
        image[rng.integers(0, n, 5), rng.integers(0, n, 5)] += rng.exponential(size=5)
        image[row, column] += 1
    return np.rot90(image, rng.integers(4))


def _nebula(n, pixel, rng):
    """Random clouds or a field of stars: plates of the visible sky, Galactic emission."""
    if rng.random() < 0.5:
        field = _noise_field(n, rng, rng.uniform(1.5, 4))
        return np.exp(rng.uniform(0.3, 2) * field) if rng.random() < 0.7 else np.maximum(field - rng.uniform(-1, 1), 0)
    image, number = np.zeros((n, n)), int(_uniform_log(rng, 30, 2000))
    _put(image, *rng.uniform(-500, 500, (2, number)), np.minimum(1 + rng.pareto(rng.uniform(0.5, 1.5), number), 1e3),
         pixel)  # fmt: skip
    return image / image.sum() + rng.uniform(0, 30) / n**2


_PATTERNS = (_remnant, _spiral, _points, _blank, _stray, _artefact, _nebula)
_SHARES = (0.3, 0.25, 0.12, 0.08, 0.1, 0.05, 0.1)
_CORRUPTED = 0.12


def non_cluster(counts, exposure, rng, *, pixel, resolution, net, background):
    """
    Image that is not of a cluster, in place of one that is (counts (n, n), exposure of 0 to 1), with its telescope.

    ``net`` is about the number of counts of the cluster, ``background`` that of a pixel, ``resolution`` the FWHM of a
    point in kpc. One in eight is the cluster itself in another unit or processed, so that pixels are not counts.
    """
    if rng.random() < _CORRUPTED:
        return _corrupted(counts, rng)
    pattern = _PATTERNS[rng.choice(len(_PATTERNS), p=_SHARES)]
    image = pattern(len(counts), pixel, rng)
    width = resolution * _uniform_log(rng, 1, 3) / FWHM / pixel
    core = gaussian_filter(image, width, mode="constant")
    if rng.random() < 0.5:  # wings, or more of it where the optics are poor
        core = 0.85 * core + 0.15 * gaussian_filter(image, 3 * width, mode="constant")
    level = max(net, 100) * _uniform_log(rng, 0.2, 20)
    expected = core / max(core.sum(), 1e-12) * level + background * _uniform_log(rng, 0.3, 3)
    if pattern is _blank or rng.random() < 0.8:  # sources of the sky lie there as they do in images of clusters
        sources = gaussian_filter(_field(len(counts), pixel, rng), width, mode="constant")
        expected = expected + sources * background * core.size * _uniform_log(rng, 0.03, 0.5)
    return rng.poisson(np.minimum(expected * exposure, 1e8)).astype(float)


def _corrupted(counts, rng):
    """Counts that are none any more: rates, smoothed, stretched, multiplied or negative images."""
    kind = rng.integers(4)
    if kind == 0:
        return counts * _uniform_log(rng, 1e-6, 1e-1)
    if kind == 1:
        return gaussian_filter(counts, rng.uniform(1.5, 6)) * _uniform_log(rng, 0.3, 30)
    if kind == 2:
        return np.round(counts) * _uniform_log(rng, 10, 1000)
    smooth = np.log1p(gaussian_filter(counts, rng.uniform(0.7, 3)) * _uniform_log(rng, 1, 100))
    image = 255 * smooth / max(smooth.max(), 1e-12)
    return 255 - image if rng.random() < 0.3 else image


def as_picture(counts, exposure, rng, *, pixel, resolution):
    """
    Brightness from 0 to 1 as pictures have it, and the resolution in kpc that their own pixels let one expect.

    Steps as of published colour pictures of Chandra mosaics: divided by the exposure, in pixels of their own, smoothed
    by half to two and a half of these, a low percentile taken off, the brightest per cents cut, in 256 steps of an
    asinh scale; part of the field may be missing.
    """
    own = _uniform_log(rng, 2, 25)
    stated = float(np.hypot(resolution, WIDTH_OF_PIXEL * own))
    width = own * np.hypot(rng.uniform(0.5, 2.5), 1 / np.sqrt(12))
    flat = gaussian_filter(exposure, width / pixel, mode="nearest")
    image = gaussian_filter(counts, width / pixel, mode="nearest") / np.maximum(flat, 0.05)
    seen = (exposure > 0.05) & _footprint(len(counts), pixel, rng)
    inside = image[seen] if seen.any() else image.ravel()
    # Half a per cent or less of a mosaic is cut, but up to 5 Mpc of it are beyond the 1 Mpc of a distant cluster.
    low, high = np.percentile(inside, [rng.uniform(0, 30), 100 - _uniform_log(rng, 0.02, 10)])
    share = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    steps = np.round(255 * np.arcsinh(share / 0.08) / np.arcsinh(1 / 0.08))
    return np.where(seen, 0.08 * np.sinh(steps / 255 * np.arcsinh(1 / 0.08)), 0.0), stated


def _footprint(n, pixel, rng):
    """Part of the field that a detector, turned and moved, covers; often all of it."""
    if rng.random() < 0.5:
        return np.ones((n, n), bool)
    x, y = _grid(n, pixel, rng, 200)
    turn, half = rng.uniform(0, np.pi), rng.uniform(250, 700, 2)
    return (np.abs(x * np.cos(turn) + y * np.sin(turn)) < half[0]) & (
        np.abs(y * np.cos(turn) - x * np.sin(turn)) < half[1]
    )
