"""Point sources: how many, how bright, and where their counts go."""

import numpy as np
import pytest
from astropy import units as u

from astroclassify.fields._sky import draw_fluxes, source_counts
from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.sim import Observation
from astroclassify.sim.mocks._point_sources import FAINTEST, Sources, counts_per_flux, sharp_sources, sky_sources
from astroclassify.sim.physics._response import load_response
from astroclassify.sim.physics._telescope import make_telescope

FLUX = u.erg / u.s / u.cm**2


def observing(**changes):
    """An observation with sources, and its telescope."""
    observation = Observation(**{"point_sources": 1e-14 * FLUX, **changes})
    return observation, make_telescope(observation, DEFAULT_COSMOLOGY)


def draw_point_sources(observation, telescope, rng):
    """Expected counts of sources drawn at random, on the image."""
    sources = Sources(*sky_sources(observation, telescope, rng))
    return telescope.blur(sharp_sources(sources, telescope)) * telescope.fraction


def flux_density(low, high):
    """Flux of all sources between two fluxes per square degree, an integral of N(>S) by parts [erg/s/cm2/deg2]."""
    flux = np.geomspace(low, high, 200_001)
    counts = source_counts(flux)
    return np.sum(0.5 * (counts[1:] + counts[:-1]) * np.diff(flux)) + low * counts[0] - high * counts[-1]


# --- number counts -----------------------------------------------------------------------------------------------


def test_counts_are_the_formula_of_moretti():
    for flux in (3e-17, 1e-15, 1.48e-14, 2e-13):
        expected = 6150 * 2e-15**1.82 / (flux**1.82 + 1.48e-14 ** (1.82 - 0.60) * flux**0.60)
        assert source_counts(flux) == pytest.approx(expected, rel=1e-12)


def test_slopes_at_both_ends():
    def slope(flux):
        return np.log(source_counts(flux * 1.01) / source_counts(flux)) / np.log(1.01)

    assert slope(1e-18) == pytest.approx(-0.60, abs=0.01)
    assert slope(1e-11) == pytest.approx(-1.82, abs=0.01)


@pytest.mark.parametrize(
    ("flux", "lehmer", "factor"),
    [(5e-17, 5230, 1.1), (1e-16, 3300, 1.05), (5.08e-16, 1175, 1.05), (1.145e-15, 656, 1.15), (5.8e-15, 145.5, 1.6)],
)
def test_counts_against_the_deep_field(flux, lehmer, factor):
    # AGN and galaxies of Lehmer et al. (2012, ApJ 752, 46), as SOXS 5.3 tabulates them (soxs/data.py). The deep field
    # is narrow: at the bright end, where it has few sources, the wide surveys in Moretti et al. count 1.5 times as
    # many.
    assert 1 / factor < source_counts(flux) / lehmer < factor


def test_whole_background_is_that_of_the_sky():
    # Moretti et al. (2003): 94% of (7.53 +- 0.35) 1e-12 erg/s/cm2/deg2 in 0.5-2 keV is in sources [from memory]
    assert flux_density(FAINTEST, 1e-10) == pytest.approx(0.94 * 7.53e-12, rel=0.05)


def test_drawn_fluxes_follow_the_counts():
    flux = draw_fluxes(200_000, FAINTEST, 1e-14, np.random.default_rng(1))
    assert flux.min() >= FAINTEST * (1 - 1e-9) and flux.max() <= 1e-14 * (1 + 1e-9)
    total = source_counts(FAINTEST) - source_counts(1e-14)
    for limit in (3e-17, 1e-16, 5e-16, 2e-15, 8e-15):
        share = (source_counts(limit) - source_counts(1e-14)) / total
        scatter = np.sqrt(share * (1 - share) / flux.size)
        assert np.mean(flux > limit) == pytest.approx(share, abs=4 * scatter)


# --- counts on the image -----------------------------------------------------------------------------------------


def test_counts_per_flux_against_a_sum():
    from astroclassify.sim.physics._absorption import transmission

    observation = Observation()
    energy = np.arange(0.5 + 5e-5, 7, 1e-4)
    area = load_response().area(energy) * transmission(energy, 4e20)
    flux = np.sum(energy**-0.4 * (energy < 2)) * 1.602177e-9
    assert counts_per_flux(observation) == pytest.approx(np.sum(energy**-1.4 * area) / flux, rel=1e-3)


def test_expected_counts_are_the_analytic_integral():
    observation, telescope = observing(shape=(64, 64))
    area = 64**2 * (telescope.pixel_arcsec / 3600) ** 2
    expected = area * flux_density(FAINTEST, 1e-14) * counts_per_flux(observation) * 1e5
    totals = [draw_point_sources(observation, telescope, np.random.default_rng(k)).sum() for k in range(200)]
    scatter = np.std(totals) / np.sqrt(200)
    assert np.mean(totals) == pytest.approx(expected, abs=4 * scatter)
    assert scatter < 0.02 * expected


def test_number_of_sources_is_poisson(monkeypatch):
    numbers = []

    def keep(number, *bounds_and_rng):
        numbers.append(number)
        return draw_fluxes(number, *bounds_and_rng)

    monkeypatch.setattr("astroclassify.sim.mocks._point_sources.draw_fluxes", keep)
    observation, telescope = observing(shape=(32, 32), psf_fwhm=0 * u.arcsec)
    for seed in range(200):
        draw_point_sources(observation, telescope, np.random.default_rng(seed))
    area = 32**2 * (telescope.pixel_arcsec / 3600) ** 2
    expected = area * (source_counts(FAINTEST) - source_counts(1e-14))
    assert np.mean(numbers) == pytest.approx(expected, abs=4 * np.sqrt(expected / 200))
    assert np.var(numbers) == pytest.approx(expected, rel=0.45)


def test_counts_do_not_fade_towards_the_edge():
    # sources outside give what those inside lose
    observation, telescope = observing(shape=(48, 48), psf_fwhm=60 * u.arcsec)
    mean = np.mean([draw_point_sources(observation, telescope, np.random.default_rng(k)) for k in range(60)], axis=0)
    rim = np.ones((48, 48), dtype=bool)
    rim[6:-6, 6:-6] = False
    assert mean[rim].mean() == pytest.approx(mean[~rim].mean(), rel=0.15)


def one_source(monkeypatch, column, row, **changes):
    """The image of a single source of 1e-15 erg/s/cm2 at a place, its telescope, and its counts on axis."""
    observation, telescope = observing(**changes)

    class Fixed:
        def poisson(self, mean):
            return 1

        def random(self, shape):
            rows, columns = telescope.fraction.shape
            if shape == 1:
                return np.zeros(1)
            margin = 5 * telescope.psf_sigma([0, 0, columns, columns], [0, rows, 0, rows]).max()
            place = np.array([[column], [row]]) + margin
            return place / (np.array([[columns], [rows]]) + 2 * margin)

    same = lambda n, *bounds_and_rng: np.full(n, 1e-15)  # noqa: E731
    monkeypatch.setattr("astroclassify.sim.mocks._point_sources.draw_fluxes", same)
    return (
        draw_point_sources(observation, telescope, Fixed()),
        telescope,
        1e-15 * counts_per_flux(observation) * telescope.exposure_s,
    )


def test_a_source_is_a_gaussian_at_its_place(monkeypatch):
    settings = {"shape": (30, 40), "width": 155 * u.kpc, "psf_fwhm": 14 * u.arcsec}
    image, telescope, counts = one_source(monkeypatch, 20.3, 11.7, **settings)
    sigma = 14 / np.sqrt(8 * np.log(2)) / telescope.pixel_arcsec
    assert image.sum() == pytest.approx(counts, rel=1e-6)
    right, up = np.arange(40) + 0.5, np.arange(30) + 0.5
    assert image.sum(axis=0) @ right / counts == pytest.approx(20.3, abs=1e-4)
    assert image.sum(axis=1) @ up / counts == pytest.approx(11.7, abs=1e-4)
    # a pixel adds the variance of a box
    assert image.sum(axis=0) @ (right - 20.3) ** 2 / counts == pytest.approx(sigma**2 + 1 / 12, rel=1e-4)


def test_without_a_psf_a_source_is_one_pixel(monkeypatch):
    for place in ((20.3, 11.7), (20.0, 11.0)):  # inside a pixel, and on its corner
        image, _, counts = one_source(monkeypatch, *place, shape=(30, 40), psf_fwhm=0 * u.arcsec)
        assert image[11, 20] == pytest.approx(counts) and np.count_nonzero(image) == 1


def test_a_source_off_axis_is_wide_and_dim(monkeypatch):
    settings = {"shape": (60, 60), "detector": "acis-i", "psf_fwhm": 1.0974 * u.arcsec, "width": 40 * u.kpc}
    settings["pointing_offset"] = (4, 3.5) * u.arcmin
    image, telescope, counts = one_source(monkeypatch, 30.0, 30.0, **settings)
    theta = np.hypot(4, 3.5)
    assert image.sum() == pytest.approx(counts * (1 - 0.005 * theta - 0.001 * theta**2), rel=2e-3)
    radius = np.hypot(*(np.indices(image.shape) + 0.5 - 30)) * telescope.pixel_arcsec
    r90 = 1 + 10 * (theta / 10) ** 2
    inside = image[radius < r90].sum() / image.sum()
    assert inside == pytest.approx(0.9, abs=0.02)


def test_exposure_multiplies():
    short, telescope = observing(detector="acis-i", exposure=10 * u.ks)
    first = draw_point_sources(short, telescope, np.random.default_rng(2))
    long, telescope = observing(detector="acis-i", exposure=30 * u.ks)
    assert draw_point_sources(long, telescope, np.random.default_rng(2)) == pytest.approx(3 * first)
    assert np.all(first[telescope.fraction == 0] == 0)


def test_no_sources_and_no_detector():
    observation, telescope = observing(point_sources=None, shape=(5, 6))
    assert np.array_equal(draw_point_sources(observation, telescope, np.random.default_rng(1)), np.zeros((5, 6)))
    observation, telescope = observing(detector="acis-i", pointing_offset=(90, 0) * u.arcmin, shape=(5, 6))
    assert np.array_equal(draw_point_sources(observation, telescope, np.random.default_rng(1)), np.zeros((5, 6)))


def test_a_seed_gives_one_image_however_it_is_cut(monkeypatch):
    observation, telescope = observing(detector="acis-i", shape=(100, 90))
    image = draw_point_sources(observation, telescope, np.random.default_rng(5))
    assert np.array_equal(image, draw_point_sources(observation, telescope, np.random.default_rng(5)))
    assert not np.array_equal(image, draw_point_sources(observation, telescope, np.random.default_rng(6)))
    monkeypatch.setattr("astroclassify.sim.mocks._point_sources._CHUNK_CELLS", 700)
    assert draw_point_sources(observation, telescope, np.random.default_rng(5)) == pytest.approx(image, rel=1e-9)


def test_a_field_of_degrees_costs_no_more_than_the_detector(monkeypatch):
    # 1 Mpc at z = 0.002 is 6.6 deg: 300,000 sources, of which the detector sees a few hundred
    numbers = []

    def keep(number, *bounds_and_rng):
        numbers.append(number)
        return draw_fluxes(number, *bounds_and_rng)

    monkeypatch.setattr("astroclassify.sim.mocks._point_sources.draw_fluxes", keep)
    observation, telescope = observing(redshift=0.002, detector="acis-i", shape=(512, 512))
    image = draw_point_sources(observation, telescope, np.random.default_rng(1))
    assert image.sum() > 1000 and numbers[0] < 10_000
