"""Radial profiles of point and extended sources on the detector, tabulated over core radius and distance."""

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.fft import fht, fhtoffset, ifht
from scipy.sparse import csr_array

from ._octaves import intervals, squared_radii

__all__ = ["ProfileTable", "profile_table"]

N_RADII = 768
LOG_STEP = np.log(2) / 16  # between the radii of the transforms, natural logarithm
FINER = 4  # how many times finer those of the point spread function are
POINTS = 6  # of the interpolation from radii of the transforms to those of the tables
EXT_STEP = 0.2  # between the core radii of the tables, in asinh(EXT / scale)
OFF_AXIS_STEP = 0.1  # arcmin; tables are made for multiples of it
N_TABLES = 140  # kept per point spread function; 0.3 MB each
N_ANGLES = 24
MAX_RADIUS = 10  # of the tables, in the largest core radius


@dataclass(frozen=True, eq=False)
class ProfileTable:
    """
    Share of a source's counts per pixel over distance and core radius, after convolution with PSF and pixel. Beta model
    with beta = 2/3, S(r) ~ [1 + (r/EXT)^2]^-3/2, integrated to infinity; a point for EXT = 0; the pixel is averaged
    over angles. Core radii enter as ``u`` = asinh(EXT / ``scale``), in which the likelihood is close to a parabola and
    EXT = 0 is an ordinary point. The transform of this beta model is exp(-k EXT), so that one product in Fourier space
    gives each profile; Hankel transforms after Hamilton (2000, MNRAS 312, 257, FFTLog). Interpolation is cubic with
    exact derivatives between core radii and between squared radii (error below 2e-4 of the profile), whose octaves are
    divided in eighths: the first bits of a floating-point number tell its interval.
    """

    first: int  # number of the first interval: the bits of its lower end [arcsec2] without the last `OCTAVE_BITS`
    scale: float  # unit of the core radii [arcsec]
    nodes: np.ndarray  # values of ``u``, shape (n_ext,)
    values: np.ndarray  # f, f'(r) / r and their derivatives by ``u``, per pixel, shape (n_ext, n_radii, 4)

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

    def curves(self, u):
        """Polynomials of f and df/du between the radii, (n_radii - 1, 8), as `_kernels` take them."""
        from . import _kernels

        return _kernels.polynomials(self.values, self.nodes[1], self.first, float(u), self.values.shape[1] - 1)

    def at(self, u):
        """Polynomials of f, f'(r)/r and df/du per pixel in squared radius above the lower end of each interval,
        (3, n_radii - 1, 4), lowest order first; ``u`` from 0 to ``u_max``."""
        value, by_u = np.moveaxis(self.curves(u).reshape(-1, 2, 4), 1, 0)
        # The squared radius changes by 2 r dr.
        slope = np.pad(value[:, 1:] * [2.0, 4.0, 6.0], ((0, 0), (0, 1)))
        return np.stack([value, slope, by_u])

    @cached_property
    def point(self):
        """`at` for a point source, without the last."""
        return self.at(0.0)[:2]

    def look_up(self, rows, squared):
        """Values (n, n_pixels) of polynomials from `at` at squared distances (n_pixels,) [arcsec2]."""
        from . import _kernels

        return _kernels.look_up(rows, self.first, np.ascontiguousarray(squared, np.float64))

    def reach(self, ext, least):
        """Distance [arcsec] beyond which a source of a core radius [arcsec] has less than a share ``least`` of its
        counts on each pixel; zero if it has nowhere more."""
        seen = np.flatnonzero(self.at(self.to_u(ext))[0, :, 0] > least)
        return float(np.sqrt(squared_radii(self.first, seen[-1] + 2)[-1])) if seen.size else 0.0


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
    # The edge of a point spread function asks for a finer grid than the profiles need afterwards.
    fine, n = LOG_STEP / FINER, N_RADII * FINER
    radius = centre * np.exp((np.arange(n) - (n - 1) / 2) * fine)
    offset = fhtoffset(fine, 0.0)
    wave = np.exp(offset) / radius[::-1]
    share = 2 * np.pi * fht(psf.profile(radius, off_axis) * radius, fine, 0.0, offset) / wave
    share /= share[np.argmax(wave * centre > 1e-4)]
    wave, share = wave[::FINER], share[::FINER] * _pixel_transform(wave[::FINER] * pixel) * pixel**2
    offset = fhtoffset(LOG_STEP, 0.0)
    radius = np.exp(offset) / wave[::-1]
    # The rest is rounding, which the slopes would multiply by powers of the wave number.
    share[np.flatnonzero(np.abs(share) > 1e-10)[-1] + 1 :] = 0.0
    scale = max(centre / 2, pixel / 2)
    nodes = EXT_STEP * np.arange(int(np.ceil(np.arcsinh(max_ext / scale) / EXT_STEP)) + 1)
    damped = share * np.exp(-wave * scale * np.sinh(nodes)[:, np.newaxis])
    both = np.stack([damped, -wave * damped * scale * np.cosh(nodes)[:, np.newaxis]])
    profile = ifht(both * wave, LOG_STEP, 0.0, offset) / (2 * np.pi * radius)
    first, last = (int(intervals(each**2)) for each in (0.02 * min(centre, pixel), MAX_RADIUS * max(max_ext, centre)))
    squares = squared_radii(first, last - first + 1)
    value, rise = _interpolation(np.log(squares / radius[0] ** 2) / (2 * LOG_STEP))
    profile = profile.transpose(2, 1, 0).reshape(N_RADII, -1)
    # f'(r) / r is the derivative by the logarithm of r, over r squared.
    table = np.stack([value @ profile, rise @ profile / (LOG_STEP * squares[:, np.newaxis])], axis=-1)
    table = table.reshape(len(squares), len(nodes), 4).transpose(1, 0, 2).copy()
    # Beyond the edge of a point spread function the transform leaves noise about zero.
    np.maximum(table[..., 0], 0.0, out=table[..., 0])
    return ProfileTable(first, scale, nodes, table)


def _interpolation(place):
    """Matrices that turn values at `N_RADII` unit steps into values and derivatives at places between, by polynomials
    through the nearest `POINTS`."""
    order = np.arange(POINTS)
    columns = place.astype(int)[:, np.newaxis] + order - (POINTS // 2 - 1)
    above = place[:, np.newaxis] - columns[:, :1]
    coefficients = np.linalg.inv(np.vander(order, increasing=True))
    ends, shape = np.arange(len(place) + 1) * POINTS, (len(place), N_RADII)
    return [
        csr_array(((powers @ coefficients).ravel(), columns.ravel(), ends), shape=shape)
        for powers in (above**order, order * above ** np.maximum(order - 1, 0))
    ]


def _pixel_transform(k):
    """Transform of a square pixel of side one, mean over angles; without its rapid swings far out."""
    angle = (np.arange(N_ANGLES) + 0.5) * (np.pi / 4 / N_ANGLES)
    k = k[:, np.newaxis] / (2 * np.pi)
    return np.mean(np.sinc(k * np.cos(angle)) * np.sinc(k * np.sin(angle)), axis=1)
