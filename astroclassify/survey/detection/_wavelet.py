"""Wavelet filter of photon images: B3-spline a trous transform with exact Poisson significance."""

from functools import lru_cache

import numpy as np
from scipy.fft import irfft, irfft2, next_fast_len, rfft, rfft2
from scipy.stats import norm

__all__ = ["coefficient_distribution", "filter_counts", "significant", "thresholds", "transform"]

SPLINE = np.array([1, 4, 6, 4, 1]) / 16
RESOLUTION = 256  # steps of the tables per peak of the wavelet
NODES = 16  # per decade
FEWEST, MOST = 1e-5, 1e3  # expected events on the wavelet (in units of its squared norm) between which there are tables
DEVIATIONS, PEAKS = 10, 12  # half the range of a distribution: standard deviations, and events on the peak
N_ITERATIONS = 4
LEAST_COVERED = 0.5  # share of a wavelet (squared) on usable pixels without which its coefficient is not used


def transform(image, n_scales):
    """Planes (n_scales + 1, ny, nx) of an image (zero outside), fine to coarse, then the smooth rest; their sum is the
    image. Plane j is c_j-1 - c_j, c_j is c_j-1 smoothed with a B3 spline of step 2^(j-1) (Starck & Murtagh 1998,
    PASP 110, 193)."""
    image = np.array(image, float)
    planes = np.empty((n_scales + 1, *image.shape))
    for scale in range(n_scales):
        smooth = _smooth(image, 2**scale)
        np.subtract(image, smooth, out=planes[scale])
        image = smooth
    planes[n_scales] = image
    return planes


def _smooth(image, step):
    for axis in (0, 1):
        view = np.moveaxis(image, axis, 0)
        out = view * SPLINE[2]
        for distance, weight in ((step, SPLINE[1]), (2 * step, SPLINE[0])):
            if distance < len(view):
                part = weight * view
                out[distance:] += part[:-distance]
                out[:-distance] += part[distance:]
        image = np.moveaxis(out, 0, axis)
    return image


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
    """Logarithms of rates, and the thresholds at these."""
    _, _, peak, (square, _, _) = _atoms(scale)
    decades = np.log10(MOST / FEWEST)
    rates = np.geomspace(FEWEST, MOST, round(NODES * decades) + 1) * peak**2 / square
    table = np.empty(len(rates))
    for number, rate in enumerate(rates):
        values, probabilities = coefficient_distribution(scale, rate)
        tail = np.cumsum(probabilities[::-1])[::-1]
        table[number] = values[np.argmax(tail <= false_alarm)]
    return np.log(rates), table


def thresholds(scale, rate, false_alarm):
    """Value that a coefficient of Poisson noise of ``rate`` [counts per pixel] exceeds with probability
    ``false_alarm``: from tables of the exact distribution, above `MOST` expected events from four cumulants (Cornish
    & Fisher 1938)."""
    rate = np.asarray(rate, float)
    logarithms, table = _threshold_table(scale, float(false_alarm))
    with np.errstate(divide="ignore"):
        result = np.interp(np.log(rate), logarithms, table)
    many = rate > np.exp(logarithms[-1])
    if many.any():
        _, _, _, (square, cube, fourth) = _atoms(scale)
        deviation = np.sqrt(rate[many] * square)
        skew, excess = rate[many] * cube / deviation**3, rate[many] * fourth / deviation**4
        z = norm.isf(false_alarm)
        terms = skew * (z**2 - 1) / 6 + excess * (z**3 - 3 * z) / 24 - skew**2 * (2 * z**3 - 5 * z) / 36
        result[many] = deviation * (z + terms)
    return result


class _LocalRate:
    """Mean of an image of expected counts about each pixel, weighted with the square of a wavelet."""

    def __init__(self, shape, largest):
        reach = len(_spline(largest)) // 2
        self.shape, self.size = shape, [next_fast_len(n + reach, real=True) for n in shape]

    def __call__(self, scale, expected):
        """Rate of the uniform noise whose coefficient has the same variance."""
        fine, coarse = _pair(scale)
        spectrum = 0
        for kernel, sign in ((fine * fine, 1), (fine * coarse, -2), (coarse * coarse, 1)):
            rows, columns = self._along(kernel, 0), self._along(kernel, 1)
            spectrum = spectrum + sign * np.outer(rows, columns)
        ny, nx = self.shape
        squares = irfft2(spectrum * rfft2(expected, self.size), self.size)[:ny, :nx]
        return np.clip(squares / _atoms(scale)[3][0], 0.0, None)

    def _along(self, kernel, axis):
        """Transform of a symmetric kernel around pixel zero along one axis; it is real."""
        n, reach = self.size[axis], len(kernel) // 2
        # A kernel that is longer than the image is cut at the image's size.
        reach, kernel = min(reach, n - self.shape[axis]), kernel[max(reach - n + self.shape[axis], 0) :]
        wrapped = np.zeros(n)
        wrapped[: reach + 1] = kernel[reach : 2 * reach + 1]
        wrapped[n - reach :] = kernel[:reach]
        full = rfft(wrapped).real
        return full if axis == 1 else np.concatenate([full, full[1 : n - len(full) + 1][::-1]])


def significant(counts, background, usable, scales, false_alarm):
    """Where wavelet planes exceed chance, given background and larger structure: bool (max(scales), ny, nx), false for
    scales not used. The images (ny, nx) are zero where ``usable`` is false."""
    largest = max(scales)
    *planes, smooth = transform(counts - background, largest)
    local_rate = _LocalRate(counts.shape, largest)
    support = np.zeros((largest, *counts.shape), bool)
    structure = np.zeros(counts.shape)
    for scale in sorted(scales, reverse=True):
        plane = planes[scale - 1]
        rate = local_rate(scale, background + np.clip(structure, 0.0, None))
        reached = thresholds(scale, rate, false_alarm)
        support[scale - 1] = (plane > reached) & (local_rate(scale, usable) > LEAST_COVERED)
        if scale == largest:
            structure = smooth
        # Significant negative coefficients count too: else a bright point would stay smeared over coarse scales.
        structure = structure + np.where(support[scale - 1] | (plane < -reached), plane, 0.0)
    return support


def filter_counts(counts, background, usable, scales, false_alarm):
    """Significant counts above the background (ny, nx); arguments as for `significant`. The largest scale is judged by
    the background, finer ones also by larger structure. f <- max(0, f + significant coefficients of the residual),
    from f = 0 (Murtagh, Starck & Bijaoui 1995, A&AS 112, 179, section 3.3)."""
    excess = counts - background
    support = significant(counts, background, usable, scales, false_alarm)
    used = support.any(axis=0)
    image = np.zeros(counts.shape)
    if not used.any():
        return image
    for _ in range(N_ITERATIONS):
        planes = transform(excess - image, len(support))[: len(support)]
        planes[~support] = 0.0
        image = np.clip(image + planes.sum(axis=0), 0.0, None)
    return np.where(used, image, 0.0)
