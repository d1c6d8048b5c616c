"""Simulated red Schmidt plate as digitised: light of stars and galaxies, seeing, emulsion, grain."""

import functools

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.special import gamma, gammainc, gammaincinv

from ._population import POPULATION as P

__all__ = ["expose_plate", "sersic_radius", "star_kernel"]

_GOLDEN = np.pi * (3 - np.sqrt(5))
_MARGIN = 92  # pixels around the image in which there is light as well, and half the width of a star's image
_LARGE = 5.0  # pixels: galaxies with a larger half-light radius are drawn pixel by pixel


@functools.lru_cache(maxsize=2)
def _sersic_table(index):
    share = np.linspace(0, 0.985, 1024)
    b = gammaincinv(2 * index, 0.5)
    return share, (gammaincinv(2 * index, share) / b) ** index


def sersic_radius(share, index):
    """Radius [half-light radii] that encircles a share of a Sersic profile (index 1 or 4), tabulated to 0.985."""
    return np.interp(share, *_sersic_table(int(index)))


@functools.lru_cache(maxsize=8)
def star_kernel(shape, pixel, seeing):
    """
    Image of a star (seeing: FWHM [arcsec]) on a periodic grid, total 1, at pixel (0, 0), as `scipy.fft.rfft2` gives it.

    A Moffat profile (beta = 3) with 3 % of the light in an aureole that falls as r^-2 (King 1971, PASP 83, 199) and 0.7
    % in four spikes along the pixel axes (vanes of the plate holder).
    """
    y = np.fft.fftfreq(shape[0], 1 / (shape[0] * pixel))[:, np.newaxis]
    x = np.fft.fftfreq(shape[1], 1 / (shape[1] * pixel))[np.newaxis, :]
    square = x**2 + y**2
    width = (seeing / 2) ** 2 / (2 ** (1 / 3) - 1)
    core = (1 + square / width) ** -3
    aureole = (1 + square / 36.0) ** -1.1
    spikes = sum(np.exp(-((across / 1.3) ** 2) / 2) / (1 + (along / 12.0) ** 2) for across, along in ((x, y), (y, x)))
    inside = square < ((_MARGIN - 1) * pixel) ** 2
    parts = ((0.963, core), (0.03, aureole), (0.007, spikes))
    kernel = sum(share * part * inside / np.sum(part * inside) for share, part in parts)
    return fft.rfft2(kernel.astype(np.float32))


def expose_plate(stars, galaxies, grid, rng, *, painted=()):
    """
    Make a digitised plate: densities [adu], whole numbers, float32, shape (ny, nx).

    ``stars`` (n, 3): x, y [arcsec], R. ``galaxies`` (n, 7): x, y [arcsec], R, half-light radius [arcsec], axis ratio,
    angle, Sersic index (1 or 4). ``painted``: further light (`Spiral`), called with offsets x and y [arcsec] within
    ``reach`` of its place, in units of the sky's per square arcsecond.

    Light I in units of the sky becomes density D = top I^g / (I^g + K), with K from the density of the sky. Grain grows
    as the root of the density, vanishes at saturation, and is smoothed by the scanner.
    """
    ny, nx = (n + 2 * _MARGIN for n in grid.shape)
    frame = (fft.next_fast_len(ny, real=True), fft.next_fast_len(nx, real=True))
    pixel = grid.pixel
    light = np.zeros(frame, dtype=np.float32)
    large = galaxies[:, 3] > _LARGE * pixel
    x, y, flux = _as_points(galaxies[~large], pixel)
    _deposit(
        light,
        np.concatenate([stars[:, 0], x]) / pixel + (nx - 1) / 2,
        np.concatenate([stars[:, 1], y]) / pixel + (ny - 1) / 2,
        np.concatenate([_sky_units(stars[:, 2]) / pixel**2, flux]),
    )
    offset_x = (np.arange(nx, dtype=np.float32) - (nx - 1) / 2) * np.float32(pixel)
    offset_y = (np.arange(ny, dtype=np.float32) - (ny - 1) / 2) * np.float32(pixel)
    for galaxy in galaxies[large]:
        _add_stamp(light, galaxy, offset_x, offset_y)
    for paint in painted:
        columns, rows = (
            slice(*np.searchsorted(offsets, [place - paint.reach, place + paint.reach]))
            for offsets, place in ((offset_x, paint.x), (offset_y, paint.y))
        )
        light[rows, columns] += paint(offset_x[np.newaxis, columns], offset_y[rows, np.newaxis])
    spectrum = fft.rfft2(light)
    spectrum *= star_kernel(frame, pixel, float(rng.choice(P.seeing)))
    blurred = fft.irfft2(spectrum, frame)[_MARGIN : _MARGIN + grid.shape[0], _MARGIN : _MARGIN + grid.shape[1]]
    return _develop(np.maximum(blurred, 0), grid, rng)


def _sky_units(magnitude):
    """Light of a source in that of a square arcsecond of sky."""
    return 10 ** (0.4 * (P.sky_brightness - magnitude))


def _as_points(galaxies, pixel):
    """Small galaxies as many points of equal light on a golden spiral."""
    flux, size = _sky_units(galaxies[:, 2]) / pixel**2, galaxies[:, 3] / pixel
    number = np.clip(24 * (1 + size**2) * (1 + flux / 40), 24, 4096).astype(int)
    owner = np.repeat(np.arange(len(galaxies)), number)
    first = np.repeat(np.cumsum(number) - number, number)
    step = np.arange(owner.size) - first
    share = 0.985 * (step + 0.5) / number[owner]
    radius = np.where(galaxies[owner, 6] > 2, sersic_radius(share, 4), sersic_radius(share, 1)) * galaxies[owner, 3]
    phase = step * _GOLDEN + 7.0 * galaxies[owner, 5]
    along, across = radius * np.cos(phase), radius * np.sin(phase) * galaxies[owner, 4]
    cos, sin = np.cos(galaxies[owner, 5]), np.sin(galaxies[owner, 5])
    return (
        galaxies[owner, 0] + cos * along - sin * across,
        galaxies[owner, 1] + sin * along + cos * across,
        (flux / number)[owner],
    )


def _deposit(image, x, y, light):
    """Add points, each shared among the four pixels around it."""
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    dx, dy = x - column, y - row
    good = (column >= 0) & (row >= 0) & (column < image.shape[1] - 1) & (row < image.shape[0] - 1)
    index = (row * image.shape[1] + column)[good]
    dx, dy, light = dx[good], dy[good], light[good]
    corners = np.concatenate([index, index + 1, index + image.shape[1], index + image.shape[1] + 1])
    left, right = (1 - dx) * light, dx * light
    shares = np.concatenate([left * (1 - dy), right * (1 - dy), left * dy, right * dy])
    image += np.bincount(corners, shares, image.size).reshape(image.shape)


def _add_stamp(image, galaxy, offset_x, offset_y):
    """Add a large galaxy pixel by pixel, as far as its light matters."""
    x, y, magnitude, size, ratio, angle, index = galaxy
    b = gammaincinv(2 * index, 0.5)
    pixel = offset_x[1] - offset_x[0]
    total = _sky_units(magnitude) / pixel**2
    # Light of a pixel at the half-light radius (Graham & Driver 2005, PASA 22, 118, eq. 4).
    level = total * pixel**2 / (2 * np.pi * size**2 * ratio)
    level /= index * np.exp(b) * b ** (-2 * index) * gamma(2 * index)
    reach = size * (max(1.0, 1 + np.log(level / 2e-3) / b)) ** index  # where 0.2 % of the sky is left
    columns, rows = np.flatnonzero(np.abs(offset_x - x) < reach), np.flatnonzero(np.abs(offset_y - y) < reach)
    if not columns.size or not rows.size:
        return
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dx, dy = offset_x[np.newaxis, part[1]] - np.float32(x), offset_y[part[0], np.newaxis] - np.float32(y)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cos * dx + sin * dy, (cos * dy - sin * dx) / np.float32(ratio)
    radius = np.sqrt(along**2 + across**2) / np.float32(size)
    stamp = np.float32(level) * np.exp(np.float32(-b) * (radius ** np.float32(1 / index) - 1))
    # The peak is sharper than a pixel: what the pixels near it miss or have too much goes into the one in the middle.
    core = 3 * pixel / size
    middle = np.unravel_index(np.argmin(radius), radius.shape)
    if radius[middle] < core:
        stamp[middle] = 0
        stamp[middle] = max(total * gammainc(2 * index, b * core ** (1 / index)) - stamp[radius < core].sum(), 0)
    image[part] += stamp


def _develop(light, grid, rng):
    """From light above the sky to densities."""
    x, y = (offset / half for offset, half in zip(grid.centres(), grid.half, strict=True))
    tilt = np.float32(0.015) * rng.standard_normal(2, dtype=np.float32)
    mottle = gaussian_filter(rng.standard_normal((23, 23), dtype=np.float32), 1.0)
    mottle = _stretch(mottle * np.float32(0.007 / mottle.std()), grid.shape)
    power = (1 + light + tilt[0] * x + tilt[1] * y + mottle) ** np.float32(P.contrast)
    sky = np.float32(P.sky_density * np.exp(P.sky_density_scatter * rng.standard_normal()))
    density = P.top_density * power / (power + (P.top_density / sky - 1))
    smooth = P.grain_scale / grid.pixel
    grain = gaussian_filter(rng.standard_normal(grid.shape, dtype=np.float32), smooth, mode="wrap", truncate=3.0)
    # Standard deviation that the smoothing leaves; coarser pixels average more grains.
    taps = np.zeros(33)
    taps[16] = 1.0
    left = np.sum(gaussian_filter(taps, smooth, truncate=3.0) ** 2)
    rms = np.float32(P.grain * min(1.0, P.grain_pixel / grid.pixel) / left)
    fill = density / P.top_density
    sky_fill = sky / P.top_density
    # As the root of the density (a real plate: 554 and 409 adu at densities of 12,570 and 6,310), and none at the top.
    density += rms * grain * np.sqrt(fill * (1 - fill**4) / (sky_fill * (1 - sky_fill**4)))
    return np.round(np.clip(density, 100.0, P.top_density)).astype(np.float32)


def _stretch(coarse, shape):
    """Bilinear enlargement of a small array."""
    rows, columns = (
        np.linspace(0, n - 1.001, size, dtype=np.float32) for n, size in zip(coarse.shape, shape, strict=True)
    )
    low_r, low_c = rows.astype(int), columns.astype(int)
    part_r, part_c = (rows - low_r)[:, np.newaxis], (columns - low_c)[np.newaxis, :]
    top = coarse[low_r][:, low_c] * (1 - part_c) + coarse[low_r][:, low_c + 1] * part_c
    bottom = coarse[low_r + 1][:, low_c] * (1 - part_c) + coarse[low_r + 1][:, low_c + 1] * part_c
    return top * (1 - part_r) + bottom * part_r
