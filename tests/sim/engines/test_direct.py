"""The direct engine against arithmetic, and against the photons that pyXSIM draws."""

import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from scipy.stats import chi2, norm

from astroclassify.sim import Observation, draw_counts, expected_counts, expected_spectrum, observe
from astroclassify.sim.engines import _direct
from astroclassify.sim.engines._direct import band_weight
from astroclassify.sim.mocks._observe import observing
from astroclassify.sim.physics._absorption import transmission
from astroclassify.sim.physics._plasma import load_emissivity
from astroclassify.sim.physics._response import load_response

needs_pyxsim = pytest.mark.skipif(importlib.util.find_spec("pyxsim") is None, reason="pyxsim is not installed")

DARK = {"background": 0 * u.ct / u.s / u.arcsec**2, "psf_fwhm": 0 * u.arcsec}
FINE = Observation(width=100 * u.kpc, shape=(200, 200), **DARK)  # half a kpc per pixel


def counts_by_hand(halo, observation):
    """
    Counts that a halo at rest should give, written out on a fine grid of energies.

    Photons of rest energy E (1 + z) leave a cell at the rate n_e n_H V eps and arrive at energy E at the rate
    (1 + z) / (4 pi D_L^2) times that, in each cm2: D_L^2 counts energy, of which each photon has lost a factor 1 + z.
    """
    z = observation.redshift
    table = load_emissivity()
    low, high = observation.energy_range.to_value(u.keV)
    fine = np.linspace(low, high, 400_001)
    energy = 0.5 * (fine[1:] + fine[:-1])
    bins = np.searchsorted(table.energy_edges, energy * (1 + z), side="right") - 1
    per_kev = 1 / np.diff(table.energy_edges)[bins] * (1 + z)
    caught = load_response(observation.response).area(energy) * transmission(energy, observation.nh_column.value)
    weight = np.bincount(bins, weights=caught * per_kev * np.diff(fine), minlength=table.h_he.shape[1])
    distance = halo.cosmology.luminosity_distance(z).to_value(u.cm)
    factor = (1 + z) / (4 * np.pi * distance**2) * observation.exposure.to_value(u.s)
    emission = (halo.n_e * halo.n_h * halo.mass / halo.density).to_value(u.cm**-3)
    spectra = table.spectrum(halo.temperature.value, halo.metallicity.value)
    return factor * emission * (spectra @ weight)


@pytest.mark.parametrize("kT", [0.1, 0.3, 0.7, 2.0, 8.0])  # cool gas has its lines at the edge of oxygen
def test_counts_of_a_cell_are_those_of_the_integral(toy_halo, kT):
    halo = toy_halo([[0, 0, 0]], radius=3, kT=kT)
    total = expected_counts(halo, FINE).data.sum()
    assert total == pytest.approx(counts_by_hand(halo, FINE)[0], rel=2e-4)


def test_kernel_has_the_variance_of_a_ball_and_of_the_psf(toy_halo):
    halo = toy_halo([[4.3, -7.1, 2.2]], radius=6)
    sharp = expected_counts(halo, FINE)
    settings = {**DARK, "psf_fwhm": 4 * u.arcsec}
    blurred = expected_counts(halo, Observation(width=100 * u.kpc, shape=(200, 200), **settings))
    coordinates = (np.arange(200) + 0.5) * 0.5 - 50
    psf = (4 / 2.3548 * halo.cosmology.kpc_proper_per_arcmin(0.05).value / 60) ** 2
    for image, extra in ((sharp, 0), (blurred, psf)):
        for axis, place in ((0, 4.3), (1, -7.1)):
            profile = image.data.sum(axis=axis) / image.data.sum()
            mean = np.sum(profile * coordinates)
            assert mean == pytest.approx(place, abs=1e-6)
            variance = np.sum(profile * (coordinates - mean) ** 2) - 0.5**2 / 12
            # the truncation at 4.5 sigma takes 3e-4 of the variance of a Gaussian
            assert variance == pytest.approx(36 / 5 + extra, rel=1e-3)


def test_kernel_is_a_gaussian_integrated_over_pixels(toy_halo):
    halo = toy_halo([[0.2, 0.1, 0]], radius=4)
    image = expected_counts(halo, FINE).data
    sigma = 4 / np.sqrt(5)
    edges = np.arange(201) * 0.5 - 50
    shape = np.outer(np.diff(norm.cdf(edges, 0.1, sigma)), np.diff(norm.cdf(edges, 0.2, sigma)))
    np.testing.assert_allclose(image / image.sum(), shape, atol=2e-5 * shape.max())


@pytest.mark.parametrize(("axis", "column", "row"), [("z", 10, 20), ("x", 20, -30), ("y", -30, 10)])
def test_axes_are_those_of_the_photon_engine(toy_halo, axis, column, row):
    image = expected_counts(toy_halo([[10, 20, -30]], radius=0.1), FINE, axis=axis)
    peak = np.unravel_index(np.argmax(image.data), image.shape)
    assert peak == pytest.approx((100 + 2 * row, 100 + 2 * column), abs=1)


def test_direction_along_an_axis_and_any_other(ball):
    settings = Observation(shape=(64, 64), **DARK)
    letter = expected_counts(ball, settings, axis="x")
    vector = expected_counts(ball, settings, axis=(5, 0, 0))
    np.testing.assert_allclose(vector.data, letter.data, rtol=1e-9)
    oblique = expected_counts(ball, settings, axis=(1, 2, 3))
    assert oblique.data.sum() == pytest.approx(letter.data.sum(), rel=1e-3)
    assert oblique.meta["AXIS"] == "+0.2673+0.5345+0.8018"


def test_doppler_shift_moves_a_line_by_the_velocity_towards_the_observer(toy_halo):
    """The iron line of gas that comes near at 3000 km/s lies 1% higher in energy."""
    narrow = u.Quantity([5.5, 7.0], u.keV)
    settings = Observation(width=100 * u.kpc, shape=(8, 8), energy_range=narrow, **DARK)
    still, near = (
        expected_spectrum(toy_halo([[0, 0, 0]], radius=5, velocity=(0, 0, speed)), settings, bin_width=0.01 * u.keV)
        for speed in (0, 3000)
    )
    peaks = [row["energy_lo"][np.argmax(row["counts"])].to_value(u.keV) for row in (still, near)]
    assert peaks[1] / peaks[0] == pytest.approx(1.01, abs=0.002)


def test_doppler_shift_changes_the_counts_of_the_band_by_little(toy_halo):
    counts = [
        expected_counts(toy_halo([[0, 0, 0]], radius=5, kT=5, velocity=(0, 0, speed)), FINE).data.sum()
        for speed in (-1500, 0, 1500)
    ]
    assert counts[0] < counts[1] < counts[2]
    assert counts[2] / counts[0] == pytest.approx(1, abs=0.02)
    # halfway, because the table of Doppler factors is linear between its nodes
    assert counts[1] == pytest.approx(0.5 * (counts[0] + counts[2]), rel=1e-3)


def test_many_doppler_factors_agree_with_the_exact_weight(toy_halo):
    """Cells at intermediate velocities get, within 1e-4, the weight of their own Doppler factor."""
    speeds = np.linspace(-2000, 2000, 41)
    for kT in (0.1, 0.8, 5.0):
        halo = toy_halo(np.zeros((41, 3)), radius=5, kT=kT, velocity=np.stack([0 * speeds, 0 * speeds, speeds], axis=1))
        together = expected_counts(halo, FINE).data.sum()
        table = load_emissivity()
        beta = speeds / 299792.458
        spectrum = table.spectrum(kT, 0.3)
        still = spectrum @ band_weight(table.energy_edges, 0.05, 1.0, FINE)
        moving = [spectrum @ band_weight(table.energy_edges, 0.05, (1 + b) / np.sqrt(1 - b * b), FINE) for b in beta]
        assert together == pytest.approx(counts_by_hand(halo, FINE).sum() * np.mean(moving) / still, rel=2e-4)


@pytest.mark.parametrize("radius", [1e-3, 0.01, 30, 3000])
def test_counts_are_conserved_for_every_size_of_cell(toy_halo, radius):
    halo = toy_halo([[0, 0, 0]], radius=radius)
    wide = Observation(width=60 * u.Mpc, shape=(64, 64), redshift=0.3, **DARK)
    assert expected_counts(halo, wide).data.sum() == pytest.approx(counts_by_hand(halo, wide)[0], rel=3e-4)


def test_cells_outside_give_nothing_and_cells_at_the_edge_a_part(toy_halo):
    assert expected_counts(toy_halo([[80, 0, 0], [0, 0, 1e6]], radius=1), FINE).data.sum() > 0  # the second, behind
    assert expected_counts(toy_halo([[80, 0, 0]], radius=1), FINE).data.sum() == 0
    whole = expected_counts(toy_halo([[0, 0, 0]], radius=1), FINE).data.sum()
    assert expected_counts(toy_halo([[50, 0, 0]], radius=1), FINE).data.sum() == pytest.approx(whole / 2, rel=1e-6)


def test_one_deposit_gives_any_exposure(ball):
    settings = Observation(shape=(64, 64))
    expected = expected_counts(ball, settings)
    twice = expected_counts(ball, Observation(shape=(64, 64), exposure=200 * u.ks))
    np.testing.assert_allclose(twice.data, 2 * expected.data, rtol=1e-12)
    drawn = draw_counts(expected, exposure=200 * u.ks, rng=3)
    assert drawn.meta["EXPOSURE"] == 200_000
    assert drawn.data.sum() == pytest.approx(twice.data.sum(), abs=4 * np.sqrt(twice.data.sum()))
    assert np.array_equal(draw_counts(expected, rng=3).data, draw_counts(expected, rng=3).data)


def test_observed_image_is_a_poisson_draw_of_the_expectation(ball):
    settings = Observation(shape=(64, 64))
    expected = expected_counts(ball, settings).data
    image = observe(ball, settings, engine="direct", rng=5)
    statistic = np.sum((image.data - expected) ** 2 / expected)
    assert 0.001 < chi2.sf(statistic, expected.size) < 0.999
    assert image.data.dtype == np.float32
    assert image.meta["ENGINE"] == "direct"


def test_spectrum_adds_up_to_the_image(ball):
    settings = Observation(shape=(64, 64), **DARK)
    spectrum = expected_spectrum(ball, settings)
    assert spectrum["counts"].sum().value == pytest.approx(expected_counts(ball, settings).data.sum(), rel=1e-3)
    assert spectrum["energy_lo"][0] == 0.5 * u.keV
    assert spectrum["energy_hi"][-1] == 7 * u.keV


@needs_pyxsim
@pytest.mark.slow
@pytest.mark.parametrize("detector", ["uniform", "acis-i"])
def test_photons_of_the_other_engine_have_this_expectation(ball, detector):
    """Counts per pixel and total of 20 images."""
    settings = Observation(shape=(32, 32), exposure=20 * u.ks)
    if detector == "acis-i":
        offset, roll = (4, -2) * u.arcmin, 30 * u.deg
        settings = Observation.acis_i(
            shape=(128, 128), exposure=20 * u.ks, pointing_offset=offset, roll=roll, point_sources=None
        )
    expected = expected_counts(ball, settings, axis="x").data
    mean = np.mean([observe(ball, settings, axis="x", rng=seed).data for seed in range(20)], axis=0)
    assert mean.sum() == pytest.approx(expected.sum(), abs=4 * np.sqrt(expected.sum() / 20))
    bright = expected > 1
    statistic = np.sum((mean - expected)[bright] ** 2 / expected[bright]) * 20
    assert 0.001 < chi2.sf(statistic, np.count_nonzero(bright)) < 0.999


def test_abundances_of_the_sun_are_metallicity_one(toy_halo):
    settings = FINE
    plain = toy_halo([[0, 0, 0]] * 3, radius=4, kT=[0.8, 2, 6], metallicity=1.0)
    single = toy_halo([[0, 0, 0]] * 3, radius=4, kT=[0.8, 2, 6], metallicity=1.0, abundances=np.ones((3, 7)) * u.one)
    np.testing.assert_allclose(
        expected_counts(single, settings).data, expected_counts(plain, settings).data, rtol=1e-4, atol=1e-12
    )


@pytest.fixture
def cells(toy_halo):
    """20,000 cells of all sizes, in the field and beyond its edges."""
    rng = np.random.default_rng(4)
    n = 20_000
    return toy_halo(
        rng.normal(0, 60, (n, 3)),
        radius=rng.lognormal(0, 1.5, n),
        kT=rng.uniform(0.3, 9, n),
        velocity=rng.normal(0, 600, (n, 3)),
    )


@pytest.mark.parametrize("detector", ["uniform", "acis-i"])
def test_no_bit_depends_on_the_number_of_threads(cells, monkeypatch, detector):
    settings = Observation(width=100 * u.kpc, shape=(90, 70), detector=detector)
    monkeypatch.setattr(_direct, "_CELLS_PER_THREAD", 1)
    for axis in ("x", (1, 2, 3)):
        images = []
        for number in (1, 2, 3, 4, 200):
            monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", number)
            images.append(expected_counts(cells, settings, axis=axis).data)
        assert all(np.array_equal(image, images[0]) for image in images[1:])
        assert images[0].sum() > 1000


def test_threads_are_used_in_the_main_thread_alone(monkeypatch):
    """In workers, processes or threads, the other cores have others."""
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 6)
    assert _direct._n_threads(1_000_000) == 6
    assert _direct._n_threads(100) == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_direct._n_threads, 1_000_000).result() == 1
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_direct._n_threads, 1_000_000).result() == 1


def test_what_a_cell_gives_does_not_depend_on_the_other_cells(toy_halo):
    """Faster gas elsewhere needs more Doppler factors, which must not move those of the others."""
    alone = toy_halo([[0, 0, 0]], radius=5, velocity=(100, 200, 300))
    beside = toy_halo([[0, 0, 0], [1e5, 1e5, 1e5]], radius=5, velocity=[(100, 200, 300), (9000, -5000, 7000)])
    for axis in "xyz":
        images = [expected_counts(halo, FINE, axis=axis).data for halo in (alone, beside)]
        assert np.array_equal(*images)


@pytest.mark.parametrize("width", [30, 3000])
def test_kernels_of_all_widths_in_pixels_are_gaussians(toy_halo, width):
    """Single precision for kernels of few pixels, double for wide ones: each pixel to 1e-5 of the peak."""
    settings = Observation(width=width * u.kpc, shape=(50, 44), **DARK)
    pixel = settings.pixel_kpc
    for radius in (0.4, 2, 7, 9, 60, 2000):
        centre = np.array([0.3, -1.7]) * pixel
        halo = toy_halo([[*centre, 0]], radius=radius * pixel, n_e=1e-9)
        image = expected_counts(halo, settings).data / counts_by_hand(halo, settings)[0]
        sigma = radius / np.sqrt(5)
        places = [np.arange(n + 1) - n / 2 for n in settings.shape[::-1]]
        across, up = (np.diff(norm.cdf(p, c, sigma)) for p, c in zip(places, centre / pixel, strict=True))
        shape = np.outer(up, across)
        np.testing.assert_allclose(image, shape, rtol=2e-4, atol=4e-5 * shape.max())


def test_bands_beyond_the_table_are_refused(toy_halo):
    far = Observation(redshift=2.5, **DARK)
    with pytest.raises(ValueError, match="energy_range must lie within"):
        expected_counts(toy_halo([[0, 0, 0]], radius=1), far)


def test_bad_arguments_are_named(ball):
    with pytest.raises(ValueError, match="axis must be one of"):
        expected_counts(ball, FINE, axis=(0, 0, 0))
    with pytest.raises(TypeError, match="halo must be a Halo"):
        expected_counts(None, FINE)
    with pytest.raises(ValueError, match="exposure"):
        draw_counts(expected_counts(ball, FINE), exposure=-1 * u.s, rng=1)
    with pytest.raises(TypeError, match="rng"):
        draw_counts(expected_counts(ball, FINE), rng="1")
    with observing(ball, FINE, engine="direct", seed=1, axes="x") as image_along:
        assert np.array_equal(image_along("x").data, observe(ball, FINE, axis="x", engine="direct", rng=1).data)
