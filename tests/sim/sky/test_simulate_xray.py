"""Truth of the simulated X-rays: formulas, integrals, real responses and masks."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from scipy.integrate import quad
from scipy.ndimage import binary_dilation
from scipy.stats import kstest

from astroclassify.fields._sky import draw_fluxes, source_counts
from astroclassify.sim import simulate_field
from astroclassify.sim.physics._absorption import transmission
from astroclassify.sim.sky import _scene as scene
from astroclassify.sim.sky import _xmm as xmm
from astroclassify.sim.sky._counterparts import optical_magnitude
from astroclassify.sim.sky._population import POPULATION
from astroclassify.sim.sky._sky import KINDS
from astroclassify.survey import KingPsf

GRID = xmm.Grid((356, 356), 420 / 356)


def on_chip(**changes):
    """A pointing whose candidate lies in the middle of a chip, 250" off the optical axis, without dead columns."""
    settings = {"exposure": 15e3, "roll": 0.4, "x": 1.5 * (xmm.CHIP_WIDTH + xmm.CHIP_GAP), "y": 240.0, "sky": 0.0}
    return xmm.Pointing(**{**settings, "particles": 0.0, **changes})


@pytest.mark.parametrize("off_axis", [0.0, 5.0, 12.0])
def test_king_radius_inverts_the_integral_of_the_profile(off_axis):
    core, alpha = xmm.PSF["EPN"].parameters(off_axis)
    profile = [quad(lambda r: r * (1 + (r / core) ** 2) ** -alpha, 0, end)[0] for end in (5.0, 15.0, 60.0, 300.0)]
    shares = np.array(profile[:3]) / profile[3]
    np.testing.assert_allclose(xmm.PSF["EPN"].radius(shares, off_axis), [5.0, 15.0, 60.0], rtol=1e-6)


def test_king_parameters_are_the_published_ones():
    core, alpha = KingPsf("EPN", 1.5 * u.keV).parameters(0.0)
    assert core == pytest.approx(6.636 - 0.305 * 1.5) and alpha == pytest.approx(1.525 - 0.015 * 1.5)
    assert xmm.PSF["EPN"].parameters(10.0)[0] < xmm.PSF["EPN"].parameters(0.0)[0]


def test_beta_model_is_drawn_as_its_integral():
    source = xmm.Beta(1.0, 0.0, 0.0, core=12.0, limit=200.0)
    radius = np.hypot(*source.draw(40_000, np.random.default_rng(1)))
    whole = quad(lambda r: r * (1 + (r / 12) ** 2) ** -1.5, 0, 200)[0]
    for end in (6.0, 12.0, 40.0, 120.0):
        expected = quad(lambda r: r * (1 + (r / 12) ** 2) ** -1.5, 0, end)[0] / whole
        assert np.mean(radius < end) == pytest.approx(expected, abs=4 * np.sqrt(expected / 40_000))


def test_ellipses_keep_area_and_have_their_axis_ratio():
    source = xmm.Beta(1.0, 3.0, -2.0, core=10.0, limit=60.0, axis_ratio=0.5, angle=np.pi / 2)
    x, y = source.draw(100_000, np.random.default_rng(2))
    assert np.std(x) / np.std(y) == pytest.approx(0.5, rel=0.02)
    assert (x.mean(), y.mean()) == (pytest.approx(3, abs=0.3), pytest.approx(-2, abs=0.3))


def test_counts_of_a_source_follow_flux_exposure_vignetting_and_encircled_energy():
    pointing, flux, rng = on_chip(), 5e-13, np.random.default_rng(3)
    counts = sum(xmm.observe([], np.array([[flux, 0.0, 0.0]]), pointing, GRID, rng)[0] for _ in range(40))
    x, y = GRID.centres()
    within = counts[np.hypot(x, y) < 30].sum() / 40
    core, alpha = xmm.PSF["EPN"].parameters(pointing.off_axis)
    encircled = (1 - (1 + (30 / core) ** 2) ** (1 - alpha)) / (1 - (1 + (300 / core) ** 2) ** (1 - alpha))
    vignette = 1 / (1 + (pointing.off_axis / 11.8) ** 2)
    # Of the out-of-time photons 60" of 820" stay close (most of them in the core of the PSF).
    kept = 1 - POPULATION.out_of_time * (1 - 60 / xmm.CHIP_LENGTH)
    expected = flux * POPULATION.counts_per_flux * pointing.exposure * vignette * encircled * kept
    assert within == pytest.approx(expected, rel=4 / np.sqrt(40 * expected) + 0.004)


def test_extended_source_keeps_its_counts():
    pointing, rng = on_chip(), np.random.default_rng(4)
    source = xmm.Beta(4e-13, 0.0, 0.0, core=8.0, limit=80.0)
    no_points = np.zeros((0, 3))
    total = np.mean([xmm.observe([source], no_points, pointing, GRID, rng)[0].sum() for _ in range(40)])
    expected = 4e-13 * POPULATION.counts_per_flux * pointing.exposure * float(xmm.vignetting(pointing.off_axis))
    # Wings of the PSF leave the image, and a few photons fall into gaps and between the rows.
    assert 0.86 * expected < total < 1.0 * expected


def test_background_is_its_rates_times_the_exposure_map():
    pointing, rng = on_chip(sky=2e-3, particles=1e-3, dead=((300.0, 8.0, 0.0, True),)), np.random.default_rng(5)
    images = [xmm.observe([], np.zeros((0, 3)), pointing, GRID, rng) for _ in range(30)]
    exposure, live = xmm.exposure_map(pointing, GRID)
    area = (GRID.pixel / 60) ** 2
    expected = np.sum(2e-3 * exposure + 1e-3 * pointing.exposure * live) * area
    assert np.mean([counts.sum() for counts, _ in images]) == pytest.approx(expected, rel=4 / np.sqrt(30 * expected))
    assert all(np.all(counts[exposure == 0] == 0) for counts, _ in images)
    assert 0 < np.mean(exposure == 0) < 0.2 and exposure.max() <= pointing.exposure


def test_out_of_time_photons_lie_along_the_column():
    pointing = on_chip(roll=0.0)
    counts, _ = xmm.observe([], np.array([[5e-11, 0.0, 0.0]]), pointing, GRID, np.random.default_rng(6))
    x, y = GRID.centres()
    far = np.abs(y) > 120
    streak, beside = counts[far & (np.abs(x) < 10)].sum(), counts[far & (np.abs(x - 40) < 10)].sum()
    total = 5e-11 * POPULATION.counts_per_flux * pointing.exposure * float(xmm.vignetting(pointing.off_axis))
    # y runs along the columns here: 90" above and 90" below of 820", half of the photons within 10" of the source in x.
    assert 0.3 < (streak - beside) / (total * POPULATION.out_of_time * 180 / xmm.CHIP_LENGTH) < 0.9


def test_rotation_to_the_detector_and_back():
    pointing = on_chip(roll=1.1)
    x, y = pointing.to_sky(*pointing.to_detector(np.array([10.0, -50.0]), np.array([3.0, 90.0])))
    np.testing.assert_allclose([x, y], [[10, -50], [3, 90]], atol=1e-4)


def test_pointings_are_on_chips_or_on_edges_within_the_field():
    rng = np.random.default_rng(7)
    for _ in range(30):
        pointing, edge = xmm.draw_pointing(rng), xmm.draw_pointing(rng, on_edge=True)
        assert xmm.exposure_map(pointing, xmm.Grid((40, 40), 1.0))[1].mean() > 0.75
        assert 0.2 < xmm.exposure_map(edge, xmm.Grid((40, 40), 1.0))[1].mean() < 0.97
        assert pointing.off_axis <= POPULATION.max_off_axis and pointing.exposure in (10e3, 20e3)


@pytest.mark.real_data
def test_live_area_is_that_of_a_real_pn_mask(shared_data):
    with fits.open(shared_data / "xmm" / "0827340901_PN_detmask.fits.gz") as hdus:
        real = np.sum(hdus[1].data > 0) * (2.5 / 60) ** 2
    y, x = np.mgrid[-1000:1000:4, -1000:1000:4].astype(float)
    rng = np.random.default_rng(8)
    ours = np.mean([xmm.on_chips(x, y, xmm.draw_pointing(rng).dead).sum() for _ in range(8)]) * (4 / 60) ** 2
    assert ours == pytest.approx(real, rel=0.06)  # about 600 arcmin2


@pytest.mark.real_data
def test_counts_per_flux_are_those_of_a_real_response(shared_data):
    with fits.open(shared_data / "responses" / "NGC7793_PN.arf") as hdus:
        low, high, area = (hdus[1].data[name].astype(float) for name in ("ENERG_LO", "ENERG_HI", "SPECRESP"))
    energy, width = (low + high) / 2, high - low
    band = (energy > 0.5) & (energy < 2)
    for index in (1.4, 1.9):
        spectrum = energy**-index * width
        counts = np.sum((spectrum * area * transmission(energy, 3e20))[band])
        flux = np.sum((spectrum * energy)[band]) * 1.602177e-9
        assert counts / flux == pytest.approx(POPULATION.counts_per_flux, rel=0.10)


def test_agn_are_drawn_from_the_counts():
    flux = draw_fluxes(20_000, 1e-16, 2e-12, np.random.default_rng(9))
    low, high = source_counts(1e-16), source_counts(2e-12)
    assert kstest((low - source_counts(flux)) / (low - high), "uniform").pvalue > 0.01
    assert flux.min() >= 0.999e-16 and flux.max() <= 2.001e-12


def test_field_holds_as_many_agn_as_its_area():
    numbers = [len(scene.draw_scene("low_z", GRID.half, np.random.default_rng(i)).points) for i in range(60)]
    area = (540 / 3600) ** 2  # with a margin of 60"
    expected = (source_counts(1e-16) - source_counts(2e-12)) * area
    assert np.mean(numbers) == pytest.approx(expected, rel=4 / np.sqrt(60 * expected) + 0.1 / expected)


def test_optical_magnitude_of_equal_fluxes():
    # log(f_x / f_R) = 0 at f_x = 10^-13.5 is R = 20, by the definition of Hornschemeier et al. (2001).
    assert optical_magnitude(10**-13.5, 0.0) == pytest.approx(20.0)


def test_counts_are_those_expected_of_all_sources_and_the_background():
    expected, measured = 0.0, 0.0
    for seed in range(2):
        simulated = simulate_field(rng=seed, density={"bright": 0, "hot": 0, "arc": 0})
        truth, live = simulated.truth, simulated.field.exposure > 0
        seen = truth[(truth["flags"] == 0) & (truth["counts"] > 3 * u.ct)]
        # Fainter nuclei: the integral of N(>S) below what leaves 3 counts, taken where the mean vignetting is.
        scale = POPULATION.counts_per_flux * simulated.field.exposure[live].mean()
        flux = np.geomspace(1e-16, 3 / scale / (1 - POPULATION.out_of_time), 400)
        below = -np.diff(source_counts(flux)) * np.sqrt(flux[1:] * flux[:-1])
        faint = below.sum() * scale * live.sum() * (2.5 / 3600) ** 2
        expected += simulated.field.meta["true_background"].sum() + seen["counts"].value.sum() + faint
        measured += simulated.field.counts.sum()
    assert measured == pytest.approx(expected, rel=0.03)  # gaps and wings off the image, streaks on it


def test_bright_targets_leave_streaks_and_pile_up():
    pointing = xmm.Pointing(exposure=1e4, roll=0.0, x=xmm.AXIS[0], y=xmm.AXIS[1], sky=0.0, particles=0.0)
    grid = xmm.Grid((200, 200), 2.5)
    rng, share = np.random.default_rng(1), {}
    for flux in (1e-13, 1e-11):
        x, y = xmm.scatter([], np.array([[flux, 0.0, 0.0]]), pointing, rng)
        counts = xmm.bin_photons(x, y, grid)
        share[flux] = xmm.pile_up(counts, pointing, grid, rng)[95:105, 95:105].sum() / counts[95:105, 95:105].sum()
    # 6 ct/s, 1.6 events of all energies each, 0.0734 s, about half of them within 12": mu = 0.3, 1 - mu/2 are left.
    assert share[1e-13] > 0.99 and 0.78 < share[1e-11] < 0.95


@pytest.mark.real_data
def test_gaps_are_those_of_a_real_pn_mask(shared_data):
    with fits.open(shared_data / "xmm" / "0827340901_PN_detmask.fits.gz") as hdus:
        real, header = hdus[1].data > 0, hdus[1].header
    # At the same roll angle and pointing (both in the header), without bad columns, which differ.
    roll = np.radians(90 - header["PA_PNT"])
    pointing = xmm.Pointing(exposure=1.0, roll=roll, x=xmm.AXIS[0], y=xmm.AXIS[1], sky=0, particles=0)
    y, x = np.indices(real.shape)
    column, row = header["CRPIX1"] - 1, header["CRPIX2"] - 1
    ours = xmm.on_chips(*pointing.to_detector(2.5 * (x - column), 2.5 * (y - row)))
    assert np.mean(ours[real]) > 0.99  # all that is used there is on a chip here
    inside = ~binary_dilation(~real, iterations=1)
    assert np.mean(ours[inside]) > 0.998
    assert np.mean(real[ours]) > 0.92  # bad columns and pixels
    # With bad columns, the average over pointings.
    how = {"shape": (760, 760), "density": dict.fromkeys(KINDS, 0)}
    live = [(~simulate_field(rng=seed, **how).field.mask).sum() for seed in range(3)]
    assert np.mean(live) == pytest.approx(real.sum(), rel=0.03)
