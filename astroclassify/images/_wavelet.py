"""Wavelet filter of photon images: B3-spline a trous transform with exact Poisson significance."""

from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from scipy.fft import fft, irfft, irfft2, next_fast_len, rfft, rfft2
from scipy.special import ndtri

__all__ = [
    "coefficient_distribution",
    "filter_counts",
    "local_rate",
    "significant",
    "smoothings",
    "thresholds",
    "windows",
]

SPLINE = np.array([1, 4, 6, 4, 1]) / 16
RESOLUTION = 256  # steps of the tables per peak of the wavelet
NODES = 16  # per decade
# Expected events on the wavelet (in units of its squared norm): where tables begin, where cumulants will do, where
# tables end.
FEWEST, MANY, MOST = 1e-5, 1e2, 1e9
SIGNS = np.float32([[1], [-2], [1]])  # of the terms of a squared difference
DEVIATIONS, PEAKS = 10, 12  # half the range of a distribution: standard deviations, and events on the peak
N_ITERATIONS = 4
LEAST_COVERED = 0.5  # share of a wavelet's core on usable pixels without which its coefficient in a gap is not used
BLOCK = 1024  # pixels, largest side of the windows in which local rates are computed


def smoothings(image, n_scales):
    """
    Scale, and an image (float32, zero outside) smoothed up to the scale before and up to this one, fine to coarse.

    Their difference is the plane of that scale, c_j-1 - c_j; c_j is c_j-1 smoothed with a B3 spline of step 2^(j-1)
    (Starck & Murtagh 1998, PASP 110, 193). The next step overwrites both.
    """
    from ._wavelet_loops import smooth

    fine = np.array(image, np.float32, order="C")
    del image  # of a big one, nothing is kept that is not needed
    coarse = np.empty_like(fine)
    for scale in range(1, n_scales + 1):
        smooth(fine, 2 ** (scale - 1), coarse)
        yield scale, fine, coarse
        fine, coarse = coarse, fine


def _plane(image, scale):
    """Wavelet plane of one scale, and what is smoother."""
    *_, (_, fine, coarse) = smoothings(image, scale)
    return np.subtract(fine, coarse, out=fine), coarse


@lru_cache(maxsize=32)
def _spline(scale):
    """One-dimensional kernel of ``scale`` successive smoothings."""
    kernel = np.ones(1)
    for number in range(scale):
        holes = np.zeros(4 * 2**number + 1)
        holes[:: 2**number] = SPLINE
        kernel = np.convolve(kernel, holes)
    return kernel


def _pair(scale):
    """One-dimensional kernels, equally long, of the smoothing before and after a scale."""
    fine, coarse = _spline(scale - 1), _spline(scale)
    return np.pad(fine, (len(coarse) - len(fine)) // 2), coarse


@lru_cache(maxsize=16)
def _atoms(scale):
    """Histogram of a wavelet's values: lowest value in steps of peak / `RESOLUTION`, weights from there on (a value is
    shared between its two steps), peak, and the sums of the second, third and fourth powers."""
    fine, coarse = _pair(scale)
    values = np.outer(fine, fine) - np.outer(coarse, coarse)
    peak = float(values.max())
    steps = values.ravel() * (RESOLUTION / peak)
    low = np.floor(steps)
    share = steps - low
    first = int(low.min())
    index = (low - first).astype(int)
    weights = np.bincount(index, 1 - share, index.max() + 2) + np.bincount(index + 1, share, index.max() + 2)
    return first, weights, peak, tuple(float(np.sum(values**power)) for power in (2, 3, 4))


def coefficient_distribution(scale, rate):
    """Values of a coefficient for Poisson noise of ``rate`` [counts per pixel], in steps of peak / 256, and their
    probabilities: compound Poisson with characteristic function exp(rate sum_k [exp(i t psi_k) - 1]), the sum of the
    autoconvolutions of Starck & Murtagh (2006, Astronomical Image and Data Analysis, section 2.3.4)."""
    first, weights, peak, (square, _, _) = _atoms(scale)
    half = int(RESOLUTION * (DEVIATIONS * np.sqrt(rate * square) / peak + PEAKS))
    n = next_fast_len(2 * half, real=True)
    steps = np.zeros(n)
    steps[np.arange(first, first + len(weights)) % n] = weights
    probabilities = irfft(np.exp(rate * (rfft(steps) - weights.sum())), n)
    return (np.arange(n) - n // 2) * (peak / RESOLUTION), np.clip(np.roll(probabilities, n // 2), 0.0, None)


@lru_cache(maxsize=64)
def _threshold_table(scale, false_alarm):
    """Logarithm of the first rate, step of these logarithms, and the thresholds: exact, and where there are `MANY`
    events from four cumulants (Cornish & Fisher 1938)."""
    _, _, peak, (square, cube, fourth) = _atoms(scale)
    n_exact, n_nodes = (round(NODES * np.log10(most / FEWEST)) + 1 for most in (MANY, MOST))
    rates = np.geomspace(FEWEST, MOST, n_nodes) * peak**2 / square
    deviation = np.sqrt(rates * square)
    skew, excess = rates * cube / deviation**3, rates * fourth / deviation**4
    z = -ndtri(false_alarm)
    terms = skew * (z**2 - 1) / 6 + excess * (z**3 - 3 * z) / 24 - skew**2 * (2 * z**3 - 5 * z) / 36
    table = deviation * (z + terms)
    for number, rate in enumerate(rates[:n_exact]):
        values, probabilities = coefficient_distribution(scale, rate)
        tail = np.cumsum(probabilities[::-1])[::-1]
        table[number] = values[np.argmax(tail <= false_alarm)]
    return np.log(rates[0]), np.log(rates[1] / rates[0]), table.astype(np.float32)


def thresholds(scale, rate, false_alarm):
    """Value that a coefficient of Poisson noise of ``rate`` [counts per pixel] exceeds with probability
    ``false_alarm``."""
    from ._wavelet_loops import interpolate

    with np.errstate(divide="ignore"):
        result = np.log(rate, dtype=np.float32)
    interpolate(np.atleast_2d(result), *_threshold_table(scale, float(false_alarm)))
    return result


def local_rate(scale, background, structure, window):
    """
    Rate of the uniform noise whose coefficient has the same variance, at the pixels of a window of an image: the mean
    of expected counts about each, weighted with the squared wavelet.

    Expected are the background and, where positive, larger structure. In single precision: off by 1e-7 of the root mean
    square of what is expected, which matters to no threshold.
    """
    reach = len(_spline(scale)) // 2
    halo = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in window)
    expected = np.maximum(structure[halo], 0.0)
    expected += background[halo]
    inner, size = [], []
    for side, wide, n, whole in zip(window, halo, expected.shape, background.shape, strict=True):
        first = side.start - wide.start
        inner.append(slice(first, first + side.stop - side.start))
        # What is wrapped around meets pixels of the halo that nobody asks for, or zeros.
        size.append(next_fast_len(n + reach - min(first, wide.start + n - min(side.stop, whole)), real=True))
    rows, columns = (_transforms(scale, n) for n in size)
    spectrum = rfft2(expected, size)
    spectrum *= (SIGNS * rows).T @ columns[:, : spectrum.shape[1]]
    rate = irfft2(spectrum, size)[tuple(inner)]
    return np.maximum(rate, 0.0)


@lru_cache(maxsize=64)
def _transforms(scale, size):
    """Fourier transforms (real) of three one-dimensional kernels around pixel zero: their products along both axes,
    added up with `SIGNS`, are the squared wavelet, of sum one."""
    fine, coarse = _pair(scale)
    kernels = np.stack([fine * fine, fine * coarse, coarse * coarse]) / np.sqrt(_atoms(scale)[3][0])
    wrapped = np.zeros((3, size))
    reach = len(coarse) // 2
    np.add.at(wrapped, (slice(None), np.arange(-reach, reach + 1) % size), kernels)
    return fft(wrapped).real.astype(np.float32)


def windows(shape, side):
    """Windows of about equal size, no larger than ``side``, that an image is cut into."""
    sides = []
    for n in shape:
        ends = np.linspace(0, n, -(-n // side) + 1).round().astype(int).tolist()
        sides.append([slice(*pair) for pair in pairwise(ends)])
    return list(product(*sides))


def _allowed(usable, largest):
    """Bits of the scales whose coefficients are used (uint8): on usable pixels, and in gaps that are narrow for a
    wavelet."""
    bits = np.where(usable, np.uint8(255), np.uint8(0))
    if not usable.all():
        for scale, core, _ in smoothings(usable, largest):
            bits[core > LEAST_COVERED] |= _bit(scale)
    return bits


def _bit(scale):
    return np.uint8(1 << (scale - 1))


def significant(excess, background, usable, scales, false_alarm):
    """Where wavelet planes of counts above the background exceed chance, given background and larger structure: bits
    (uint8, the first is scale 1) of the scales used. The images (ny, nx) are zero where ``usable`` is false."""
    allowed = _allowed(usable, max(scales))
    support, structure = np.zeros(excess.shape, np.uint8), np.zeros(excess.shape, np.float32)
    for scale in sorted(scales, reverse=True):
        plane, smooth = _plane(excess, scale)
        for window in windows(excess.shape, BLOCK):
            reached = thresholds(scale, local_rate(scale, background, structure, window), false_alarm)
            above = plane[window] > reached
            support[window] |= np.where(above, allowed[window] & _bit(scale), np.uint8(0))
            # Significant negative coefficients count too: else a bright point would stay smeared over coarse scales.
            plane[window][~above & (plane[window] >= -reached)] = 0.0
        structure = np.add(smooth if scale == max(scales) else structure, plane, out=plane)
        del smooth
    return support


def filter_counts(excess, background, usable, scales, false_alarm):
    """Significant counts above the background (ny, nx); arguments as for `significant`. The largest scale is judged by
    the background, finer ones also by larger structure. f <- max(0, f + significant coefficients of the residual),
    from f = 0 (Murtagh, Starck & Bijaoui 1995, A&AS 112, 179, section 3.3)."""
    from ._wavelet_loops import add_significant

    support = significant(excess, background, usable, scales, false_alarm)
    image = np.zeros(excess.shape, np.float32)
    if support.any():
        for _ in range(N_ITERATIONS):
            for scale, fine, coarse in smoothings(excess - image, max(scales)):
                add_significant(image, fine, coarse, support, _bit(scale))
            np.maximum(image, 0.0, out=image)
        image[support == 0] = 0.0
    return image
