"""Truth of the wavelet filter: the B3 cascade by scipy, exact sums of the Poisson series, and simulated noise."""

import warnings
from functools import lru_cache

import numpy as np
import pytest
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import convolve1d, correlate, distance_transform_edt
from scipy.stats import norm, poisson

from astroclassify.images import _wavelet
from astroclassify.images._wavelet import (
    coefficient_distribution,
    local_rate,
    smoothings,
    thresholds,
    windows,
)


def cascade(image, n_scales):
    """Planes with scipy: the kernel 1, 4, 6, 4, 1 over 16, 2^j pixels between its points, zero outside."""
    smooth, planes = np.asarray(image, float), []
    for scale in range(n_scales):
        kernel = np.zeros(4 * 2**scale + 1)
        kernel[:: 2**scale] = np.array([1, 4, 6, 4, 1]) / 16
        coarse = convolve1d(convolve1d(smooth, kernel, 0, mode="constant"), kernel, 1, mode="constant")
        planes.append(smooth - coarse)
        smooth = coarse
    return np.array([*planes, smooth])


def transform(image, n_scales):
    """Planes of a number of scales, and the smooth rest."""
    planes = [(fine - coarse, coarse.copy()) for _, fine, coarse in smoothings(image, n_scales)]
    return np.array([*(plane for plane, _ in planes), planes[-1][1]])


def significant(counts, background, usable, scales, false_alarm):
    """Supports of all scales up to the largest."""
    bits = _wavelet.significant(np.float32(counts - background), background, usable, scales, false_alarm)
    return np.array([bits >> number & 1 for number in range(max(scales))], bool)


def filter_counts(counts, background, *args):
    """Filtered image."""
    return _wavelet.filter_counts(np.float32(counts - background), background, *args)


def wavelet(scale):
    """All pixels of one wavelet, from an impulse."""
    half = 2 ** (scale + 1) - 2
    impulse = np.zeros((2 * half + 1, 2 * half + 1))
    impulse[half, half] = 1.0
    return cascade(impulse, scale)[scale - 1]


@lru_cache
def exact_distribution(scale, rate):
    """
    Values and probabilities by the series of Starck & Murtagh: autoconvolutions of the histogram of the wavelet.

    Values of the wavelet are whole multiples of 2^-8 (scale 1) and 2^-16 (scale 2), so nothing is rounded.
    """
    unit = 2.0 ** (-8 * scale)
    whole = np.round(wavelet(scale) / unit).astype(int).ravel()
    assert np.allclose(whole * unit, wavelet(scale).ravel(), atol=1e-12)
    mean = rate * whole.size
    most = int(poisson.isf(1e-10, mean)) + 1
    size = next_fast_len(most * int(np.ptp(whole)) + 1, real=True)
    histogram = np.zeros(size)
    np.add.at(histogram, whole % size, 1 / whole.size)
    spectrum, power, total = rfft(histogram), 1.0, 0.0
    for number in range(most + 1):
        total = total + poisson.pmf(number, mean) * power
        power = power * spectrum
    # Values below zero stand at the end.
    below = -most * int(whole.min())
    return (np.arange(size) - below) * unit, np.clip(np.roll(irfft(total, size), below), 0.0, None)


def uniform_samples(scale, rate, n_samples, seed):
    """Independent coefficients of Poisson noise."""
    psi = wavelet(scale).ravel()
    return np.random.default_rng(seed).poisson(rate, (n_samples, psi.size)) @ psi


@pytest.mark.parametrize(("shape", "n_scales"), [((41, 56), 4), ((64, 64), 1), ((5, 9), 5), ((1, 30), 3)])
def test_planes_are_the_cascade_and_their_sum_is_the_image(shape, n_scales):
    image = np.random.default_rng(1).normal(size=shape)
    before = image.copy()
    planes = transform(image, n_scales)
    assert planes.shape == (n_scales + 1, *shape)
    np.testing.assert_allclose(planes, cascade(image, n_scales), atol=1e-6)
    np.testing.assert_allclose(planes.sum(axis=0), image, atol=1e-6)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("place", [(32, 32), (0, 0), (63, 20)])
def test_impulse_in_the_middle_and_in_a_corner(place):
    image = np.zeros((65, 65))
    image[place] = 1.0
    np.testing.assert_allclose(transform(image, 4), cascade(image, 4), atol=1e-7)


def test_first_plane_of_an_impulse_is_the_printed_kernel():
    image = np.zeros((9, 9))
    image[4, 4] = 1.0
    rows = np.array([1, 4, 6, 4, 1])
    expected = np.zeros((9, 9))
    expected[2:7, 2:7] = -np.outer(rows, rows) / 256
    expected[4, 4] += 1.0
    np.testing.assert_allclose(transform(image, 1)[0], expected, atol=1e-7)


def test_planes_of_a_flat_image_are_zero_away_from_the_edge():
    planes = transform(np.full((80, 80), 3.0), 3)
    inside = planes[:, 20:60, 20:60]
    np.testing.assert_allclose(inside[:3], 0.0, atol=1e-6)
    np.testing.assert_allclose(inside[3], 3.0, rtol=1e-6)


@pytest.mark.parametrize(("scale", "rate"), [(1, 0.002), (1, 0.04), (1, 0.3), (2, 1e-4), (2, 0.005), (2, 0.02)])
def test_distribution_is_the_series_of_autoconvolutions(scale, rate):
    """Cumulative probabilities agree within the steps of the table, far into the tail."""
    values, probabilities = coefficient_distribution(scale, rate)
    exact_values, exact = exact_distribution(scale, rate)
    assert exact.sum() == pytest.approx(1.0, abs=1e-9)
    step = values[1] - values[0]
    tail = np.append(np.cumsum(probabilities[::-1])[::-1], 0.0)
    exact_tail = np.append(np.cumsum(exact[::-1])[::-1], 0.0)
    places = np.linspace(-1.0, 6.0, 701) * wavelet(scale).max() + step / 7

    def beyond(at, grid, cumulative):
        return cumulative[np.searchsorted(grid, at)]

    found = beyond(places, values, tail)
    # Every event is rounded to one of two neighbouring steps; a sum of several by a few steps.
    low, high = (beyond(places + sign * 3 * step, exact_values, exact_tail) for sign in (1, -1))
    assert np.all(found >= low * (1 - 1e-3) - 1e-9) and np.all(found <= high * (1 + 1e-3) + 1e-9)
    assert found.min() < 1e-5


@pytest.mark.parametrize(("scale", "rate"), [(1, 0.01), (1, 0.5), (2, 0.02), (2, 2.0), (3, 0.005), (3, 0.2)])
def test_distribution_against_simulated_noise(scale, rate):
    """Kolmogorov's distance, with the bound of Dvoretzky, Kiefer and Wolfowitz at a chance of one in a million."""
    n_samples = {1: 40_000, 2: 15_000, 3: 4_000}[scale]
    samples = np.sort(uniform_samples(scale, rate, n_samples, seed=scale))
    values, probabilities = coefficient_distribution(scale, rate)
    step, cumulative = values[1] - values[0], np.cumsum(probabilities)
    places = values[np.searchsorted(cumulative, 1e-4) : np.searchsorted(cumulative, 1 - 1e-4)]

    def model(at):
        return cumulative[np.clip(np.searchsorted(values, at, side="right") - 1, 0, None)]

    found = np.searchsorted(samples, places, side="right") / n_samples
    bound = np.sqrt(np.log(2e6) / (2 * n_samples))
    assert np.all(found <= model(places + 3 * step) + bound)
    assert np.all(found >= model(places - 3 * step) - bound)


@pytest.mark.parametrize("scale", [1, 2, 3, 5])
@pytest.mark.parametrize("rate", [1e-3, 0.1, 20.0])
def test_cumulants_are_those_of_compound_poisson(scale, rate):
    """The n-th cumulant is the rate times the sum of the n-th power of the wavelet (Campbell 1909)."""
    values, probabilities = coefficient_distribution(scale, rate)
    psi = wavelet(scale)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-9)
    mean = values @ probabilities
    assert mean == pytest.approx(0.0, abs=1e-6 * np.sqrt(rate))
    for power in (2, 3):
        moment = (values - mean) ** power @ probabilities
        assert moment == pytest.approx(rate * np.sum(psi**power), rel=2e-3)


@pytest.mark.parametrize(("scale", "rate"), [(1, 0.003), (1, 0.06), (1, 0.35), (2, 3e-4), (2, 0.004), (2, 0.021)])
@pytest.mark.parametrize("false_alarm", [1e-2, 1e-3, 1e-5])
def test_noise_passes_thresholds_as_often_as_asked(scale, rate, false_alarm):
    """By the exact series, at rates between the nodes of the table: never more often, and less only where steps are."""
    threshold = float(thresholds(scale, np.array([rate]), false_alarm)[0])
    values, probabilities = exact_distribution(scale, rate)
    step = wavelet(scale).max() / 256
    assert probabilities[values > threshold + 2 * step].sum() <= 1.15 * false_alarm
    # The sum takes steps at few counts; a threshold well below this one would let through too much.
    assert probabilities[values > 0.85 * threshold - 2 * step].sum() >= 0.5 * false_alarm


@pytest.mark.parametrize("scale", [2, 3])
def test_simulated_noise_passes_thresholds_as_often_as_asked(scale):
    n_samples, rate, false_alarm = {2: 40_000, 3: 10_000}[scale], 0.02, 1e-2
    samples = uniform_samples(scale, rate, n_samples, seed=7)
    threshold = float(thresholds(scale, np.array([rate]), false_alarm)[0])
    passed = np.sum(samples > threshold)
    assert passed <= poisson.isf(1e-4, n_samples * false_alarm)
    assert passed >= poisson.ppf(1e-4, 0.6 * n_samples * false_alarm)
    # The Gaussian threshold would let through several times as many.
    gaussian = norm.isf(1e-3) * np.sqrt(rate * np.sum(wavelet(scale) ** 2))
    assert np.sum(samples > gaussian) > 3 * 1e-3 * n_samples


@pytest.mark.parametrize("scale", [1, 3, 5])
@pytest.mark.parametrize("false_alarm", [1e-2, 1e-3, 1e-6])
def test_thresholds_are_gaussian_at_many_counts(scale, false_alarm):
    psi = wavelet(scale)
    for expected in (3e4, 1e6, 1e8):
        rate = expected * psi.max() ** 2 / np.sum(psi**2)
        found = float(thresholds(scale, np.array([rate]), false_alarm)[0]) / np.sqrt(rate * np.sum(psi**2))
        z = norm.isf(false_alarm)
        skew = np.sum(psi**3) / np.sum(psi**2) ** 1.5 / np.sqrt(rate)
        assert found == pytest.approx(z + skew * (z**2 - 1) / 6, rel=1e-3)
    assert found == pytest.approx(z, rel=1e-3)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_thresholds_have_no_jump_where_they_are_exact_no_more(scale):
    psi = wavelet(scale)
    end = 1e2 * psi.max() ** 2 / np.sum(psi**2)
    below, above = thresholds(scale, end * np.array([0.9999, 1.0001]), 1e-3)
    assert above / below == pytest.approx(1.0, abs=2e-3)
    values, probabilities = coefficient_distribution(scale, 2 * end)
    exact = values[np.argmax(np.cumsum(probabilities[::-1])[::-1] <= 1e-3)]
    assert thresholds(scale, np.array([2 * end]), 1e-3)[0] == pytest.approx(exact, rel=2e-3)


def test_thresholds_rise_with_rate_and_significance():
    rates = np.geomspace(1e-6, 1e4, 60)
    for scale in (1, 4):
        loose, strict = thresholds(scale, rates, 1e-2), thresholds(scale, rates, 1e-4)
        assert np.all(strict >= loose) and strict[-1] > 1.3 * loose[-1]
        high = rates > 0.1
        assert np.all(np.diff(strict[high]) > 0)


def test_a_rate_of_zero_has_a_threshold():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = thresholds(2, np.zeros((2, 3)), 1e-3)
    assert found.shape == (2, 3) and np.all(found >= 0) and np.all(np.isfinite(found))


@pytest.mark.parametrize("block", [30, 1024])
@pytest.mark.parametrize("shape", [(60, 61), (33, 80), (20, 25)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_local_rate_is_the_mean_weighted_with_the_squared_wavelet(shape, scale, block):
    """Also where the wavelet is larger than the image, and in windows."""
    background, structure = np.random.default_rng(3).uniform(-1, 2, (2, *shape)).astype(np.float32)
    background = np.abs(background)
    weights = wavelet(scale) ** 2
    direct = correlate(background + np.clip(structure, 0, None), weights / weights.sum(), mode="constant")
    found = np.full(shape, np.nan)
    for window in windows(shape, block):
        found[window] = local_rate(scale, background, structure, window)
    np.testing.assert_allclose(found, direct, atol=2e-6)


def test_the_image_is_the_same_in_windows(monkeypatch):
    shape = (150, 170)
    background, usable = np.full(shape, 0.1), gaps(shape)
    sources = spots(shape, [(50, 40, 200), (80, 100, 3000), (75, 75, 50)])
    counts = np.random.default_rng(1).poisson((background + sources) * usable).astype(float)
    whole = filter_counts(counts, background * usable, usable, (2, 3, 4), 1e-3)
    monkeypatch.setattr(_wavelet, "BLOCK", 60)
    assert len(windows(shape, _wavelet.BLOCK)) == 9
    pieces = filter_counts(counts, background * usable, usable, (2, 3, 4), 1e-3)
    np.testing.assert_allclose(pieces, whole, atol=1e-5 * whole.max())


def gaps(shape):
    """A round field of view with gaps between chips."""
    y, x = np.indices(shape)
    ny, nx = shape
    usable = np.hypot(y - ny / 2, x - nx / 2) < 0.47 * min(shape)
    usable[:, int(0.6 * nx) : int(0.6 * nx) + 4] = False
    usable[int(0.3 * ny) : int(0.3 * ny) + 3] = False
    return usable


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_noise_at_edges_and_gaps_passes_no_more_often_than_elsewhere(rate):
    """False alarms per pixel and plane: at most as many as asked, beside a gap and an edge as far from them."""
    usable, false_alarm, n_fields = gaps((160, 160)), 1e-2, 30
    distance = distance_transform_edt(usable)
    beside, far = (distance > 0) & (distance <= 4), distance > 10
    rng, background = np.random.default_rng(11), np.where(usable, rate, 0.0)
    near_share, far_share = np.zeros((n_fields, 4)), np.zeros((n_fields, 4))
    for number in range(n_fields):
        support = significant(rng.poisson(background).astype(float), background, usable, (1, 2, 3, 4), false_alarm)
        near_share[number], far_share[number] = support[:, beside].mean(axis=1), support[:, far].mean(axis=1)
    for share in (near_share, far_share):
        error = share.std(axis=0) / np.sqrt(n_fields)
        assert np.all(share.mean(axis=0) < 1.1 * false_alarm + 4 * error)
    # And not because nothing passes at all: the planes 2 and 3 are nearly full, at a gap too.
    assert np.all(far_share.mean(axis=0)[1:3] > 0.5 * false_alarm)
    assert np.all(near_share.mean(axis=0)[1:3] > 0.3 * false_alarm)


def test_a_step_of_the_background_is_no_signal():
    """The background falls to a tenth from one column to the next, as at the edge of a chip that was on for less."""
    background = np.where(np.arange(160) < 80, 0.5, 0.05) * np.ones((160, 1))
    rng, shares = np.random.default_rng(5), []
    for _ in range(30):
        support = significant(
            rng.poisson(background).astype(float), background, np.ones((160, 160), bool), (2, 3), 1e-2
        )
        shares.append(support[1:, :, 72:88].mean(axis=(1, 2)))
    error = np.std(shares, axis=0) / np.sqrt(len(shares))
    assert np.all(np.mean(shares, axis=0) < 1.2e-2 + 4 * error)


def test_only_the_scales_asked_for_are_used():
    counts = np.random.default_rng(1).poisson(0.5, (80, 80)).astype(float)
    support = significant(counts, np.full((80, 80), 0.1), np.ones((80, 80), bool), (2, 4), 1e-2)
    assert support.shape == (4, 80, 80)
    assert support[[1, 3]].any(axis=(1, 2)).all() and not support[[0, 2]].any()


def test_emission_that_is_smoother_than_the_largest_scale_is_noise_to_the_others():
    """
    A bright cluster that fills the field is six times the background; its noise is not to pass as sources.

    With the noise of the background alone a tenth of the pixels would.
    """
    background, usable = np.full((200, 200), 0.2), np.ones((200, 200), bool)
    y, x = np.indices(usable.shape) - 100.0
    cluster = 1.2 * np.exp(-(x**2 + y**2) / (2 * 150.0**2))
    rng, shares = np.random.default_rng(2), []
    for _ in range(5):
        counts = rng.poisson(background + cluster).astype(float)
        support = significant(counts, background, usable, (1, 2, 3, 4), 1e-3)
        shares.append(support[:2, 60:140, 60:140].mean(axis=(1, 2)))
    assert np.all(np.mean(shares, axis=0) < 1.5e-3)
    planes = transform(counts - background, 2)[:2, 60:140, 60:140]
    for scale, plane in zip((1, 2), planes, strict=True):
        assert np.mean(plane > thresholds(scale, np.array([0.2]), 1e-3)) > 0.02


def spots(shape, sources, sigma=2.0):
    """Expected counts of Gaussian spots: column, row, counts."""
    y, x = np.indices(shape)
    image = np.zeros(shape)
    for column, row, counts in sources:
        image += counts * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return image


def test_a_bright_point_does_not_blind_its_surroundings():
    """A spot of 30 counts, 30 pixels from one of 20,000, is found about as often as alone."""
    shape, found = (161, 161), np.zeros(2, int)
    background, usable = np.full(shape, 0.03), np.ones(shape, bool)
    rng = np.random.default_rng(6)
    for _ in range(12):
        faint = rng.poisson(background + spots(shape, [(110, 80, 30)]))
        bright = rng.poisson(spots(shape, [(80, 80, 20_000)]))
        for number, counts in enumerate((faint, faint + bright)):
            image = filter_counts(counts.astype(float), background, usable, (2, 3, 4, 5), 1e-3)
            found[number] += image[76:85, 106:115].sum() > 5
    assert found[0] == 12 and found[1] >= 10


def test_filter_returns_the_counts_of_sources_without_noise():
    shape = (120, 130)
    background, usable = np.full(shape, 0.1), np.ones(shape, bool)
    places = [(30, 40, 200.0), (90, 80, 1000.0), (60, 100, 5000.0)]
    counts = np.random.default_rng(4).poisson(background + spots(shape, places)).astype(float)
    image = filter_counts(counts, background, usable, (2, 3, 4), 1e-4)
    y, x = np.indices(shape)
    near = np.zeros(shape, bool)
    for column, row, number in places:
        disc = np.hypot(x - column, y - row) < 12
        near |= np.hypot(x - column, y - row) < 20
        assert image[disc].sum() == pytest.approx(number, abs=4 * np.sqrt(number) + 0.05 * number)
        peak = np.unravel_index(np.argmax(np.where(disc, image, 0.0)), shape)
        assert np.hypot(peak[1] - column, peak[0] - row) <= 1.5
    assert image.min() == 0.0
    assert np.mean(image[~near] > 0) < 5e-3


def test_nothing_comes_out_where_counts_are_as_expected():
    background = np.full((50, 50), 0.3)
    image = filter_counts(background, background, np.ones((50, 50), bool), (1, 2, 3), 1e-2)
    assert image.shape == (50, 50) and not image.any()
    blank = filter_counts(np.zeros((50, 50)), np.zeros((50, 50)), np.zeros((50, 50), bool), (1, 2), 1e-3)
    assert not blank.any()


@pytest.mark.parametrize("scale", [3, 4])
def test_coefficients_are_used_on_usable_pixels_and_in_gaps_that_are_narrow_for_the_wavelet(scale):
    usable = gaps((90, 90))
    core = transform(usable, scale - 1)[-1]
    # Bright all over: everything that may pass does, in one place or another.
    y, x = np.indices(usable.shape)
    bright, used = np.where(usable, 1.0, 0.0), np.zeros(usable.shape, bool)
    for shift in range(0, 12, 2):
        counts = bright * 200 * ((x + y + shift) % 12 < 2)
        used |= significant(counts, 0.1 * bright, usable, (scale,), 1e-3)[scale - 1]
    assert not np.any(used & ~usable & (core < 0.499)) and np.any(used & ~usable & (core > 0.5))
    assert np.any(used & usable & (core < 0.45))


def test_reconstruction_converges_on_a_source_without_noise():
    """Of 1000 counts, after one iteration 450 are too many or too few."""
    shape = (120, 120)
    background, source = np.full(shape, 0.1), spots(shape, [(60, 60, 1000)], sigma=3.0)
    image = filter_counts(background + source, background, np.ones(shape, bool), (2, 3, 4, 5), 1e-3)
    assert np.abs(image - source).sum() < 0.25 * 1000
    assert image.max() == pytest.approx(source.max(), rel=0.03)


def test_nothing_comes_out_of_a_gap():
    """Coefficients with most of their wavelet in a gap are not used, whatever its edges look like."""
    usable = np.ones((90, 90), bool)
    usable[:, 40:60] = False
    background = np.where(usable, 0.2, 0.0)
    counts = np.random.default_rng(8).poisson(background + np.where(usable, spots((90, 90), [(38, 45, 500)]), 0.0))
    image = filter_counts(counts.astype(float), background, usable, (2, 3), 1e-3)
    assert image[40:50, 30:40].sum() > 150
    assert not image[:, 46:54].any()
