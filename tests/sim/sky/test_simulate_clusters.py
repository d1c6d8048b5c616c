"""Truth of the simulated clusters: cosmology, scaling relations, profiles, dimming."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table
from scipy.integrate import quad, trapezoid
from scipy.spatial import cKDTree
from scipy.special import gamma

from astroclassify.fields._sky import source_counts
from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.sim.sky import _clusters as clusters
from astroclassify.sim.sky import _scene as scenes
from astroclassify.sim.sky import _sky as sky
from astroclassify.sim.sky import _xmm as xmm
from astroclassify.sim.sky._counterparts import add_plate_sky
from astroclassify.sim.sky._population import POPULATION

HALF = (810.0, 810.0)
AREA = (1620 + 2 * sky.MARGIN) ** 2 / 3600**2  # deg2 in which sources of a field are drawn


def pointing():
    return xmm.Pointing(exposure=10e3, roll=0.0, x=400.0, y=240.0, sky=1.6e-3, particles=1e-3)


@pytest.mark.parametrize("redshift", [0.05, 0.3, 1.0])
def test_tables_are_the_cosmology(redshift):
    assert clusters.distance(redshift) == pytest.approx(DEFAULT_COSMOLOGY.luminosity_distance(redshift).value, rel=1e-4)
    scale = 1 / DEFAULT_COSMOLOGY.arcsec_per_kpc_proper(redshift).value
    assert clusters.kpc_per_arcsec(redshift) == pytest.approx(scale, rel=1e-4)
    density = DEFAULT_COSMOLOGY.critical_density(redshift).to_value(u.Msun / u.kpc**3)
    assert 1e14 / (4 / 3 * np.pi * clusters.radius_of(1e14, redshift) ** 3) == pytest.approx(500 * density, rel=1e-3)


def test_scaling_relations_at_their_pivots():
    efunc = DEFAULT_COSMOLOGY.efunc(0.2)
    assert clusters.mass_of(10**44.274 * efunc ** (7 / 3), 0.2) == pytest.approx(3e14, rel=1e-4)
    assert clusters.temperature_of(3.84e14 / efunc, 0.2) == pytest.approx(5.0, rel=1e-4)


@pytest.mark.real_data
def test_masses_are_those_of_the_mcxc(shared_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)  # "10+14Msun" in its header
        table = Table.read(shared_data / "catalogues" / "mcxc.fits")
    luminosity, mass, redshift = (np.array(table[name], dtype=float) for name in ("L500", "M500", "z"))
    ratio = clusters.mass_of(luminosity * 1e44, redshift) / (mass * 1e14)
    # All but one in a hundred, whose masses are not of this relation.
    assert np.mean(np.abs(ratio - 1) < 0.02) > 0.95 and np.median(ratio) == pytest.approx(1.0, abs=0.005)


def test_k_factor_of_a_power_law_and_at_redshift_zero():
    assert clusters.k_factor(0.0, 3.0) == pytest.approx(1.0, abs=1e-4)
    # A very hot gas has the energy spectrum E^-0.4, hence (1 + z)^0.6.
    assert clusters.k_factor(0.5, 40.0) == pytest.approx(1.5**0.6, rel=0.04)

    def energy(low, high):
        return quad(lambda e: e**-0.4 * np.exp(-e / 2.5), low, high)[0]

    assert clusters.k_factor(0.8, 2.5) == pytest.approx(energy(0.9, 3.6) / energy(0.5, 2), rel=1e-3)


def test_luminosities_follow_the_schechter_function():
    drawn = clusters._draw_luminosity(40_000, np.random.default_rng(1))

    def number(low, high):
        return quad(lambda x: np.exp(x * -0.8 - np.exp(x)), np.log(low / 2.5e44), np.log(high / 2.5e44))[0]

    for low, high in ((1.5e42, 5e42), (1e43, 1e44), (1e44, 1e45)):
        share = number(low, high) / number(1.5e42, 3e45)
        assert np.mean((drawn > low) & (drawn < high)) == pytest.approx(share, abs=4 * np.sqrt(share / 40_000) + 2e-4)


def test_profile_of_galaxies_is_a_projected_nfw():
    share, radius, outer = clusters._nfw_table()

    def surface(r):
        x = r * POPULATION.concentration
        if x < 1:
            return r * (1 - np.arccosh(1 / x) / np.sqrt(1 - x**2)) / (x**2 - 1)
        return r * (1 - np.arccos(1 / x) / np.sqrt(x**2 - 1)) / (x**2 - 1)

    whole = quad(surface, 1e-3, 2.0, points=[1 / POPULATION.concentration])[0]
    for end in (0.2, 0.6, 1.0):
        points = [1 / POPULATION.concentration] if end > 1 / POPULATION.concentration else None
        expected = quad(surface, 1e-3, end, points=points)[0] / whole
        assert np.interp(end, radius, share) == pytest.approx(expected, rel=5e-3)
    assert outer == pytest.approx(1 / np.interp(1.0, radius, share), rel=1e-3)


def test_richness_is_the_published_one():
    rng, mass = np.random.default_rng(2), 2e14
    cluster = {"redshift": 0.1, "m_500": mass, "r_500": float(clusters.radius_of(mass, 0.1))}
    limit = clusters.apparent_magnitude(POPULATION.characteristic_magnitude + 3, 0.1)
    numbers = []
    for _ in range(60):
        galaxies = clusters.cluster_galaxies(cluster, rng)[1:]  # the central one comes on top
        radius = np.hypot(galaxies[:, 0], galaxies[:, 1]) * clusters.kpc_per_arcsec(0.1)
        numbers.append(np.sum((radius < cluster["r_500"]) & (galaxies[:, 2] < limit)))
    expected = 36 * 2**0.87
    assert np.mean(numbers) == pytest.approx(expected, abs=4 * np.sqrt(expected / 60))


def test_galaxies_fade_with_redshift():
    modulus = DEFAULT_COSMOLOGY.distmod(0.1).value
    assert clusters.apparent_magnitude(-21.5, 0.1) == pytest.approx(-21.5 + modulus + 0.10 - 0.09, abs=1e-3)
    steps = clusters.apparent_magnitude(-21.5, np.linspace(0.05, 1.2, 20))
    assert np.all(np.diff(steps) > 0)
    rng, seen = np.random.default_rng(3), {}
    for redshift in (0.1, 0.3, 0.6, 0.9):
        cluster = {"redshift": redshift, "m_500": 1.5e14, "r_500": float(clusters.radius_of(1.5e14, redshift))}
        seen[redshift] = np.mean([np.sum(clusters.cluster_galaxies(cluster, rng)[:, 2] < 20.8) for _ in range(10)])
    assert seen[0.1] > 50 and seen[0.1] > seen[0.3] > 5 * seen[0.6] and seen[0.6] > seen[0.9] and seen[0.9] < 1


def test_candidates_are_found_in_their_range_of_redshift_near_the_limit():
    rng = np.random.default_rng(4)
    for bounds in POPULATION.redshifts:
        drawn = [clusters.draw_cluster(bounds, pointing(), rng) for _ in range(40)]
        assert all(bounds[0] <= each["redshift"] <= bounds[1] for each in drawn)
        counts = np.array([each["flux"] for each in drawn]) * POPULATION.counts_per_flux * 10e3
        assert 60 < np.median(counts) < 800
        share = np.array([each["core_radius"] / each["r_500_arcsec"] for each in drawn])
        assert 0.08 < np.median(share) < 0.18


def test_parts_of_a_cluster_add_up_to_its_flux():
    rng = np.random.default_rng(5)
    cluster = clusters.draw_cluster((0.01, 0.3), pointing(), rng)
    kinds = set()
    for _ in range(40):
        parts = clusters.cluster_light(cluster, rng)
        kinds.add(len(parts))
        assert sum(part.flux for part in parts) == pytest.approx(cluster["flux"]) and all(
            part.flux > 0 for part in parts
        )
    assert kinds == {1, 2, 3} or kinds == {1, 2}


# --- number counts of a field ---


@pytest.fixture(scope="module")
def skies():
    """Rows of the sources of 40 fields."""
    pointing = xmm.Pointing(exposure=1e4, roll=0.3, x=xmm.AXIS[0], y=xmm.AXIS[1], sky=1e-3, particles=1e-3)
    density = dict.fromkeys(sky.KINDS, 1.0)
    return [row for seed in range(40) for row in sky.draw_sky(pointing, HALF, density, seed)[1]]


def fluxes(rows, kind):
    return np.array([row["flux"] for row in rows if row["kind"] == kind])


def cluster_counts(flux):
    """N(>S) [deg-2] of the luminosity function, integrated anew: L above 4 pi D_L^2 S / k."""

    def shell(z):
        luminosity = np.geomspace(1.5e42, 3e45, 400)
        mass = clusters.mass_of(luminosity / POPULATION.soft_fraction, z)
        k = clusters.k_factor(z, clusters.temperature_of(mass, z))
        modulus = 4 * np.pi * (DEFAULT_COSMOLOGY.luminosity_distance(z).value * 3.0857e24) ** 2
        bright = luminosity * k / modulus > flux
        density = 6.5e-7 * (luminosity / 1e44) ** -0.8 * np.exp(-luminosity / 2.5e44) * bright
        step = np.log(luminosity[1] / luminosity[0])
        volume = DEFAULT_COSMOLOGY.differential_comoving_volume(z).value * (np.pi / 180) ** 2
        return density.sum() * step * volume

    z = np.linspace(0.01, 1.3, 60)
    return np.sum([shell(each) for each in z]) * (z[1] - z[0])


def test_active_nuclei_are_as_many_as_moretti_et_al_count(skies):
    drawn = fluxes(skies, "agn")
    for flux in (1e-15, 1e-14, 5e-14):
        expected = 40 * AREA * (source_counts(flux) - source_counts(2e-12))
        assert np.sum(drawn > flux) == pytest.approx(expected, rel=4 / np.sqrt(expected) + 0.01)  # nuclei of clusters


def test_clusters_are_as_many_as_the_luminosity_function_and_surveys_say(skies):
    drawn = fluxes(skies, "cluster") / 1.05  # within R500
    for flux, published in ((1e-14, (10, 20)), (3e-14, (4, 8)), (1e-13, (1, 2.5))):
        density = np.sum(drawn > flux) / (40 * AREA)
        error = np.sqrt(density / (40 * AREA))
        # Mass scatter at a given luminosity moves the temperature and so the band correction a little.
        assert density == pytest.approx(cluster_counts(flux), abs=4 * error + 0.05 * density)
        assert published[0] - 2 * error < density < published[1] + 2 * error
    high = [row["redshift"] > 0.3 for row in skies if row["label"] in ("low_z", "high_z") and row["flux"] > 1e-14]
    assert 0.6 < np.mean(high) < 0.9


def test_stars_and_galaxies_are_as_many_as_published(skies):
    stars, galaxies = fluxes(skies, "star"), fluxes(skies, "galaxy")
    assert np.sum(stars > 1e-14) / (40 * AREA) == pytest.approx(8, abs=4 * np.sqrt(8 / (40 * AREA)))
    assert np.sum(galaxies > 5e-15) / (40 * AREA) == pytest.approx(4, abs=4 * np.sqrt(4 / (40 * AREA)))  # NHS: 46/11
    bright = [row for row in skies if row["kind"] == "bright"]
    assert np.abs(len(bright) - 40 * POPULATION.bright_rate) < 4 * np.sqrt(40 * POPULATION.bright_rate)


def test_rich_cluster_stands_out_on_the_plate():
    """At z = 0.1 and 2e14 Msun: more galaxies above the plate limit within 2' than the field has."""
    rng = np.random.default_rng(1)
    cluster = {"redshift": 0.1, "m_500": 2e14, "r_500": float(clusters.radius_of(2e14, 0.1))}
    numbers = []
    for _ in range(20):
        galaxies = clusters.cluster_galaxies(cluster, rng)
        numbers.append(np.sum((galaxies[:, 2] < 19.5) & (np.hypot(galaxies[:, 0], galaxies[:, 1]) < 120)))
    a, b, c = POPULATION.galaxy_number_counts
    field = 10 ** (a - 0.5 * b + 0.25 * c) * np.pi * (2 / 60) ** 2
    # Abell richness class 0 to 1: 30 to 80 galaxies within m3 + 2 and 1.5 Mpc/h.
    assert 3 * field < np.mean(numbers) < 60 and 2 < field < 6
    assert 14.2 < np.mean([clusters.cluster_galaxies(cluster, rng)[0, 2] for _ in range(20)]) < 15.6


def test_characteristic_magnitude_is_that_of_redmapper():
    """m*_i of Rykoff et al. (2014, ApJ 785, 104, eq. 9), with r - i of the red sequence and r - R = 0.27 (memory)."""
    for redshift, colour in ((0.1, 0.39), (0.2, 0.43), (0.3, 0.53), (0.4, 0.69), (0.5, 0.90)):
        log = np.log(redshift)
        published = 22.44 + 3.36 * log + 0.273 * log**2 - 0.0618 * log**3 - 0.0227 * log**4 + colour - 0.27
        ours = clusters.apparent_magnitude(POPULATION.characteristic_magnitude, redshift)
        assert ours == pytest.approx(published, abs=0.2)


def test_richness_is_near_that_of_redmapper():
    """Richness 40 (red, above 0.2 L*): M200m = 3.08e14 (McClintock et al. 2019), M500 about 1.7e14; memory."""
    rng, numbers = np.random.default_rng(6), []
    cluster = {"redshift": 0.3, "m_500": 1.7e14, "r_500": float(clusters.radius_of(1.7e14, 0.3))}
    limit = clusters.apparent_magnitude(POPULATION.characteristic_magnitude, 0.3) + 1.75
    reach = 1e3 / 0.6774 * 0.4**0.2 / clusters.kpc_per_arcsec(0.3)  # R_lambda
    for _ in range(60):
        galaxies = clusters.cluster_galaxies(cluster, rng)
        inside = (np.hypot(galaxies[:, 0], galaxies[:, 1]) < reach) & (galaxies[:, 2] < limit)
        numbers.append(np.sum(inside & (galaxies[:, 6] == 4)))
    assert np.mean(numbers) == pytest.approx(40, rel=0.3)


def test_clusters_are_not_more_than_haloes():
    """Below the mass function of Tinker et al. (2008) for Planck 2015 at z = 0.2 (colossus 1.4.0), by less than 4."""
    rng, redshifts = np.random.default_rng(7), (0.15, 0.25)
    low, high = clusters._volumes(redshifts)
    density = clusters.cluster_density(redshifts) * 41252.96 / (high - low)
    mass = clusters.draw_population(100_000, redshifts, rng)["m_500"]
    for limit, haloes in ((3e13, 3.12e-5), (1e14, 4.99e-6), (2e14, 1.31e-6)):
        assert 0.25 < density * np.mean(mass > limit) / haloes < 1


@pytest.fixture(scope="module")
def plate_sky():
    """Galaxies of a square degree, those of groups and clusters as well, and a margin."""
    rng, scene = np.random.default_rng(8), scenes.Scene("", "", pointing())
    half = (3600.0, 3600.0)
    add_plate_sky(scene, half, POPULATION.field_magnitudes, rng)
    scenes._field_clusters(scene, half, rng)
    return scene.finish().galaxies


def test_galaxies_of_field_groups_and_clusters_add_up(plate_sky):
    inside = plate_sky[np.max(np.abs(plate_sky[:, :2]), axis=1) < 3600]
    a, b, c = POPULATION.galaxy_number_counts
    for limit in (18.0, 19.0, 20.0, 20.5, 21.0):
        expected = 4 * 10 ** (a + b * (limit - 20) + c * (limit - 20) ** 2)
        assert np.sum(inside[:, 2] < limit) == pytest.approx(expected, rel=0.05 + 3 / np.sqrt(expected))


def limber(median_redshift, length, slope):
    """w at 1 arcmin of galaxies whose correlation length is that [Mpc / h], by Limber's equation; at rest in proper."""
    z = np.linspace(0.005, 1.2, 600)
    number = z**2 * np.exp(-((z * 1.412 / median_redshift) ** 1.5))
    number /= trapezoid(number, z)
    h = DEFAULT_COSMOLOGY.h
    far = DEFAULT_COSMOLOGY.comoving_distance(z).value * h
    rate = DEFAULT_COSMOLOGY.H(z).value / 299792.458 / h
    factor = np.sqrt(np.pi) * gamma((slope - 1) / 2) / gamma(slope / 2) * length**slope
    kernel = number**2 * far ** (1 - slope) * rate * (1 + z) ** (slope - 3)
    return factor * np.radians(1 / 60) ** (1 - slope) * trapezoid(kernel, z)


def test_galaxies_cluster_on_the_plate_as_on_the_sky(plate_sky):
    """Counts in circles of 1': at least a third of the variance for r0 = 5.05 Mpc / h (Zehavi et al. 2005)."""
    places = np.random.default_rng(9).uniform(-3500, 3500, (20_000, 2))
    for low, high, redshift in ((18, 19, 0.17), (19, 20, 0.23), (20, 21, 0.31)):  # median redshifts: memory
        chosen = plate_sky[(plate_sky[:, 2] > low) & (plate_sky[:, 2] < high)]
        number = cKDTree(chosen[:, :2]).query_ball_point(places, 60, return_length=True)
        excess = (number.var() - number.mean()) / number.mean() ** 2
        expected = 1.38 * limber(redshift, 5.05, 1.67)  # mean of w over a circle
        assert 0.33 < excess / expected < 1.3
