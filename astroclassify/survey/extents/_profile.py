"""Radial profiles of point and extended sources on the detector, tabulated over core radius and distance."""

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import fht, fhtoffset, ifht

__all__ = ["ProfileTable", "profile_table"]

N_RADII = 3072
LOG_STEP = 0.01  # between the radii of the tables, natural logarithm
EXT_STEP = 0.2  # between the core radii of the tables, in asinh(EXT / scale)
OFF_AXIS_STEP = 0.1  # arcmin; tables are made for multiples of it
N_TABLES = 140  # kept per point spread function; 0.8 MB each
N_ANGLES = 24
MAX_RADIUS = 10  # of the tables, in the largest core radius
# Power law removed before the transform of the slope; the one of least error against the closed form (Cauchy kernels).
SLOPE_BIAS = 0.3


@dataclass(frozen=True)
class ProfileTable:
    """
    Share of a source's counts per pixel over distance and core radius, after convolution with PSF and pixel. Beta model
    with beta = 2/3, S(r) ~ [1 + (r/EXT)^2]^-3/2, integrated to infinity; a point for EXT = 0; the pixel is averaged
    over angles. Core radii enter as ``u`` = asinh(EXT / ``scale``), in which the likelihood is close to a parabola and
    EXT = 0 is an ordinary point. The transform of this beta model is exp(-k EXT), so that one product in Fourier space
    gives each profile; Hankel transforms after Hamilton (2000, MNRAS 312, 257, FFTLog). Interpolation is cubic with
    exact derivatives between core radii, linear between radii (error below 2e-4 of the profile).
    """

    start: float  # natural logarithm of the first radius [arcsec], and step between radii
    step: float
    scale: float  # unit of the core radii [arcsec]
    nodes: np.ndarray  # values of ``u``, shape (n_ext,)
    values: np.ndarray  # f and f'(r) / r per pixel, shape (n_ext, 2, n_radii)
    slopes: np.ndarray  # their derivatives by ``u``

    @property
    def u_max(self):
        """Largest ``u`` of the table."""
        return float(self.nodes[-1])

    def to_u(self, ext):
        """``u`` of a core radius [arcsec]."""
        return np.arcsinh(np.asarray(ext, float) / self.scale)[()]

    def to_ext(self, u):
        """Core radius [arcsec] of ``u``."""
        return (self.scale * np.sinh(u))[()]

    def d_ext(self, u):
        """Derivative of the core radius by ``u`` [arcsec]."""
        return (self.scale * np.cosh(u))[()]

    def at(self, u):
        """Rows f, f'(r)/r and df/du per pixel over the radii of the table, (3, n_radii); ``u`` from 0 to ``u_max``."""
        width = self.nodes[1]
        index = min(int(u / width), len(self.nodes) - 2)
        t = u / width - index
        s = t - 1
        # Cubic Hermite polynomials of the two nodes' values and slopes, and their derivatives.
        weights = ((1 + 2 * t) * s * s, t * t * (3 - 2 * t), t * s * s * width, t * t * s * width)
        changes = (6 * t * s / width, -6 * t * s / width, s * (3 * t - 1), t * (3 * t - 2))
        nodes = (*self.values[index : index + 2], *self.slopes[index : index + 2])
        rows = np.zeros((3, self.values.shape[2]))
        for node, weight, change in zip(nodes, weights, changes, strict=True):
            if weight:
                rows[:2] += weight * node
            if change:
                rows[2] += change * node[0]
        return rows

    @cached_property
    def point(self):
        """Rows of `at` for a point source, without the last."""
        return self.at(0.0)[:2]

    def look_up(self, rows, squared):
        """Values (n, n_pixels) of rows of the table at squared distances (n_pixels,) [arcsec2]."""
        place = np.log(np.maximum(squared, np.exp(2 * self.start)))
        place *= 0.5 / self.step
        place -= self.start / self.step
        np.minimum(place, rows.shape[1] - 1.000001, out=place)
        index = place.astype(np.intp)
        place -= index
        values = np.empty((len(rows), len(index)))
        for row, steps, result in zip(rows, rows[:, 1:] - rows[:, :-1], values, strict=True):
            np.multiply(steps[index], place, out=result)
            result += row[index]
        return values


# One store per point spread function, forgotten with it.
_TABLES = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def profile_table(psf, off_axis, pixel, max_ext):
    """`ProfileTable` at an off-axis angle [arcmin, rounded to `OFF_AXIS_STEP`], made once per PSF (``profile(radius,
    off_axis)``, ``radius(share, off_axis)``, ``limit``) and kept; ``pixel`` and ``max_ext`` in arcsec."""
    rounded = round(float(off_axis) / OFF_AXIS_STEP) * OFF_AXIS_STEP
    key = (round(rounded, 6), float(pixel), float(max_ext))
    with _LOCK:
        store = _TABLES.setdefault(psf, OrderedDict())
        if key in store:
            store.move_to_end(key)
            return store[key]
    table = _make_table(psf, rounded, float(pixel), float(max_ext))
    with _LOCK:
        store[key] = table
        while len(store) > N_TABLES:
            store.popitem(last=False)
    return table


def _make_table(psf, off_axis, pixel, max_ext):
    # A point spread function much narrower than the pixel would leave the grid of wave numbers to the pixel alone.
    centre = max(float(psf.radius(0.5, off_axis)), 0.3 * pixel)
    radius = centre * np.exp((np.arange(N_RADII) - (N_RADII - 1) / 2) * LOG_STEP)
    offset = fhtoffset(LOG_STEP, 0.0)
    wave = np.exp(offset) / radius[::-1]
    share = 2 * np.pi * fht(psf.profile(radius, off_axis) * radius, LOG_STEP, 0.0, offset) / wave
    share *= _pixel_transform(wave * pixel) * pixel**2 / share[np.argmax(wave * centre > 1e-4)]
    # The rest is rounding, which the slopes would multiply by powers of the wave number.
    share[np.flatnonzero(np.abs(share) > 1e-10)[-1] + 1 :] = 0.0
    scale = max(centre / 2, pixel / 2)
    nodes = EXT_STEP * np.arange(int(np.ceil(np.arcsinh(max_ext / scale) / EXT_STEP)) + 1)
    damped = share * np.exp(-wave * scale * np.sinh(nodes)[:, np.newaxis])
    both = np.stack([damped, -wave * damped * scale * np.cosh(nodes)[:, np.newaxis]])
    profile = ifht(both * wave, LOG_STEP, 0.0, offset) / (2 * np.pi * radius)
    slope = -ifht(both * wave**2, LOG_STEP, 1.0, offset, SLOPE_BIAS) / (2 * np.pi * radius**2)
    kept = (radius > 0.02 * min(centre, pixel)) & (radius < MAX_RADIUS * max(max_ext, centre))
    table = np.stack([profile, slope], axis=2)[..., kept]
    # Beyond the edge of a point spread function the transform leaves noise about zero.
    np.maximum(table[0, :, 0], 0.0, out=table[0, :, 0])
    return ProfileTable(float(np.log(radius[kept][0])), LOG_STEP, scale, nodes, *table.astype(np.float32))


def _pixel_transform(k):
    """Transform of a square pixel of side one, mean over angles; without its rapid swings far out."""
    angle = (np.arange(N_ANGLES) + 0.5) * (np.pi / 4 / N_ANGLES)
    k = k[:, np.newaxis] / (2 * np.pi)
    return np.mean(np.sinc(k * np.cos(angle)) * np.sinc(k * np.sin(angle)), axis=1)
