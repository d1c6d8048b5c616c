"""Truth of the simulated fields: number counts, photons, gaps, background, positions, plate."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable
from scipy.ndimage import binary_dilation, distance_transform_edt

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.fields._sky import source_counts
from astroclassify.images import DEFAULT_COSMOLOGY, read_image, write_image
from astroclassify.schemes import CANDIDATE, Flag
from astroclassify.sim import simulate_field
from astroclassify.sim.sky import _clusters as clusters
from astroclassify.sim.sky import _sky as sky
from astroclassify.sim.sky import _xmm as xmm
from astroclassify.sim.sky._population import POPULATION as P

NOTHING = dict.fromkeys(sky.KINDS, 0)
CENTRE = SkyCoord(150.1, 2.2, unit="deg")
SMALL = (320, 320)
HALF = (810.0, 810.0)
AREA = (1620 + 2 * sky.MARGIN) ** 2 / 3600**2  # deg2 in which sources are drawn


def sources(x, y, counts, core=0.0):
    x, y, counts, core = np.broadcast_arrays(np.atleast_1d(x), y, counts, core)
    return QTable({"x": x * u.pix, "y": y * u.pix, "counts": counts * u.ct, "core_radius": core * u.arcsec})


@pytest.fixture(scope="module")
def typical():
    return simulate_field(rng=3, position=CENTRE, optical=True)


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
        mass = clusters.mass_of(luminosity / P.soft_fraction, z)
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
    assert np.abs(len(bright) - 40 * P.bright_rate) < 4 * np.sqrt(40 * P.bright_rate)


def test_multiples_change_one_kind_and_leave_the_others():
    one, many = (simulate_field(rng=2, density={"cluster": multiple}, shape=(400, 400)) for multiple in (1, 20))
    number = [np.sum(each.truth["kind"] == "cluster") for each in (one, many)]
    assert number[0] >= 1 and 60 < number[1] < 60 * number[0]
    for kind in ("galaxy", "star"):
        first, second = (each.truth[each.truth["kind"] == kind]["flux"] for each in (one, many))
        assert np.array_equal(first, second)


def test_same_seed_same_field_and_the_plate_changes_nothing():
    first, again = (simulate_field(rng=3, shape=SMALL, optical=optical) for optical in (False, True))
    assert np.array_equal(first.field.counts, again.field.counts) and first.plate is None
    assert np.array_equal(first.truth["counts"], again.truth["counts"])
    other = simulate_field(rng=4, shape=SMALL)
    assert not np.array_equal(first.field.counts, other.field.counts)
    more = simulate_field(rng=3, shape=SMALL, injected=sources(100, 120, 200))
    difference = more.field.counts - first.field.counts
    assert difference.min() == 0 and 120 < difference.sum() < 260
    assert more.truth["source_id"][0] == "injected-00000" and len(more.truth) == len(first.truth) + 1


def test_counts_are_those_expected_of_all_sources_and_the_background():
    expected, measured = 0.0, 0.0
    for seed in range(2):
        simulated = simulate_field(rng=seed, density={"bright": 0, "hot": 0, "arc": 0})
        truth, live = simulated.truth, simulated.field.exposure > 0
        seen = truth[(truth["flags"] == 0) & (truth["counts"] > 3 * u.ct)]
        # Fainter nuclei: the integral of N(>S) below what leaves 3 counts, taken where the mean vignetting is.
        scale = P.counts_per_flux * simulated.field.exposure[live].mean()
        flux = np.geomspace(1e-16, 3 / scale / (1 - P.out_of_time), 400)
        below = -np.diff(source_counts(flux)) * np.sqrt(flux[1:] * flux[:-1])
        faint = below.sum() * scale * live.sum() * (2.5 / 3600) ** 2
        expected += simulated.field.meta["true_background"].sum() + seen["counts"].value.sum() + faint
        measured += simulated.field.counts.sum()
    assert measured == pytest.approx(expected, rel=0.03)  # gaps and wings off the image, streaks on it


def test_bright_point_source_has_the_encircled_fraction_of_the_psf():
    background = simulate_field(rng=5, density=NOTHING, shape=SMALL).field
    clear = distance_transform_edt(np.pad(~background.mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(clear), SMALL)  # far from gaps and borders
    counts = 40_000.0
    field = simulate_field(rng=5, density=NOTHING, shape=SMALL, injected=sources(x, y, counts)).field
    image = field.counts - background.counts
    yy, xx = np.indices(image.shape)
    radius, off_axis = np.hypot(xx - x, yy - y) * 2.5, float(field.off_axis(x, y))
    streak = P.out_of_time * counts * 60 / xmm.READOUT_LENGTH  # some of the photons out of time are within the radii
    for limit in (15.0, 25.0, 40.0):
        core, alpha = xmm.PSF.parameters(off_axis)
        within = (1 - (1 + (limit / core) ** 2) ** (1 - alpha)) / (1 - (1 + (300 / core) ** 2) ** (1 - alpha))
        assert not field.mask[radius < limit].any()
        assert image[radius < limit].sum() == pytest.approx(counts * within, rel=0.02, abs=streak)
        assert float(field.psf.encircled(limit, off_axis)) == pytest.approx(within, rel=1e-3)


def test_photons_lie_where_the_wcs_puts_their_source():
    places = SkyCoord([150.1, 150.2, 149.95], [2.26, 2.15, 2.12], unit="deg")
    table = QTable({"sky_position": places, "counts": [3000.0] * 3 * u.ct, "core_radius": [0.0, 8.0, 20.0] * u.arcsec})
    table["source_id"] = ["a", "b", "c"]
    simulated = simulate_field(rng=11, position=CENTRE, density=NOTHING, injected=table)
    field, truth = simulated.field, simulated.truth
    assert list(truth["source_id"]) == ["a", "b", "c"] and np.all(truth["sky_position"].separation(places) < 1 * u.mas)
    column, row = field.wcs.world_to_pixel(places)
    np.testing.assert_allclose([truth["x"].value, truth["y"].value], [column, row], atol=1e-6)
    yy, xx = np.indices(field.shape)
    image = field.counts - field.meta["true_background"]
    for x, y, core in zip(column, row, (0, 8, 20), strict=True):
        near = np.hypot(xx - x, yy - y) < 12
        middle = [np.sum(image[near] * axis[near]) / image[near].sum() for axis in (xx, yy)]
        assert np.hypot(middle[0] - x, middle[1] - y) < 0.4 + 0.02 * core  # a gap may cut a little off
    np.testing.assert_allclose(truth["off_axis"].value, places.separation(CENTRE).to_value(u.arcmin), rtol=1e-4)


def test_counts_of_injected_beta_models():
    x, y = (each.ravel() for each in np.meshgrid(np.arange(60.0, 250.0, 20), np.arange(60.0, 250.0, 20)))
    table = sources(x, y, 100.0, 10.0)
    simulated = simulate_field(rng=6, density=NOTHING, shape=SMALL, injected=table)
    image = simulated.field.counts - simulate_field(rng=6, density=NOTHING, shape=SMALL).field.counts
    # Within 300": 1 - 10/300 of each, less what falls into gaps (9 %) and the wings of the PSF.
    assert 0.80 * 100 * len(x) < image.sum() < 0.97 * 100 * len(x)
    scale = P.counts_per_flux * 1e4 * (1 - P.out_of_time) * xmm.vignetting(simulated.truth["off_axis"].value)
    np.testing.assert_allclose(simulated.truth["flux"].value * scale, 100.0, rtol=1e-6)
    assert np.all(simulated.truth["label"] == "") and np.all(simulated.truth["kind"] == "injected")


def test_background_is_level_and_estimated_near_the_truth():
    simulated = simulate_field(rng=8, exposure=20 * u.ks, density={**NOTHING, "agn": 1}, shape=(500, 500))
    field, truth = simulated.field, simulated.field.meta["true_background"]
    live = ~field.mask
    # Sky and particles: 2.6e-3 ct s-1 arcmin-2 on axis, 25 % from pointing to pointing.
    rate = truth[live].max() / (20e3 * (2.5 / 60) ** 2)
    assert 1.2e-3 < rate < 5.5e-3 and np.all(truth[~live] == 0)
    # Estimated from the counts: the sources that are too faint to be seen are part of it.
    assert 0.97 < field.background[live].sum() / truth[live].sum() < 1.25
    assert Flag.NO_BACKGROUND in field.flags and Flag.NO_EXPOSURE not in field.flags
    empty = simulate_field(rng=8, exposure=100 * u.ks, density=NOTHING, shape=SMALL).field
    expected = empty.meta["true_background"].sum()
    assert empty.counts.sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
    assert empty.background[~empty.mask].sum() == pytest.approx(expected, rel=0.02)


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
    live = [(~simulate_field(rng=seed, shape=(760, 760), density=NOTHING).field.mask).sum() for seed in range(3)]
    assert np.mean(live) == pytest.approx(real.sum(), rel=0.03)


def test_truth_is_a_table_that_crosses_doors(typical, tmp_path):
    truth = typical.truth
    assert len(set(truth["source_id"])) == len(truth) and truth.meta["scheme"] == CANDIDATE.to_dict()
    assert set(truth["label"]) <= {*CANDIDATE.classes} and np.all(truth["counts"] >= 3 * u.ct)
    cluster = (truth["label"] == "low_z") | (truth["label"] == "high_z")
    assert np.array_equal(np.isfinite(truth["m_500"]), cluster) and np.all(truth["core_radius"][cluster] > 0)
    assert np.all(truth["redshift"][truth["label"] == "low_z"] < 0.3)
    live = ~typical.field.mask[np.rint(truth["y"].value).astype(int), np.rint(truth["x"].value).astype(int)]
    assert np.array_equal(live, (truth["flags"] & Flag.MASKED.value) == 0)
    tables.write(truth, tmp_path / "truth.ecsv")
    assert len(QTable.read(tmp_path / "truth.ecsv")) == len(truth)
    write_image(typical.field.to_ccd(), tmp_path / "field.fits")
    assert np.array_equal(read_image(tmp_path / "field.fits").data, typical.field.counts)


def test_plate_shows_the_same_sky(typical):
    plate, field = typical.plate, typical.field
    assert plate.shape == (1620, 1620) and plate.unit == u.adu
    corner = plate.wcs.pixel_to_world(-0.5, -0.5)
    assert corner.separation(field.wcs.pixel_to_world(-0.5, -0.5)) < 0.01 * u.arcsec
    data = plate.data
    assert np.median(data) == pytest.approx(P.sky_density, rel=0.5) and np.all(data == np.round(data))
    # Stars with X-rays are bright: the plate is dark where they are.
    stars = typical.truth[typical.truth["kind"] == "star"]
    x, y = plate.wcs.world_to_pixel(stars["sky_position"])
    there = data[np.rint(y).astype(int), np.rint(x).astype(int)]
    assert len(stars) > 4 and np.mean(there > 1.5 * np.median(data)) > 0.7


def test_rich_cluster_stands_out_on_the_plate():
    """At z = 0.1 and 2e14 Msun: more galaxies above the plate limit within 2' than the field has."""
    rng = np.random.default_rng(1)
    cluster = {"redshift": 0.1, "m_500": 2e14, "r_500": float(clusters.radius_of(2e14, 0.1))}
    numbers = []
    for _ in range(20):
        galaxies = clusters.cluster_galaxies(cluster, rng)
        numbers.append(np.sum((galaxies[:, 2] < 19.5) & (np.hypot(galaxies[:, 0], galaxies[:, 1]) < 120)))
    a, b, c = P.galaxy_number_counts
    field = 10 ** (a - 0.5 * b + 0.25 * c) * np.pi * (2 / 60) ** 2
    # Abell richness class 0 to 1: 30 to 80 galaxies within m3 + 2 and 1.5 Mpc/h.
    assert 3 * field < np.mean(numbers) < 60 and 2 < field < 6
    assert 14.2 < np.mean([clusters.cluster_galaxies(cluster, rng)[0, 2] for _ in range(20)]) < 15.6


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"exposure": 10}, TypeError, "exposure must be a Quantity"),
        ({"exposure": 2 * u.Ms}, ValueError, "exposure must be at most"),
        ({"pixel": 0.1 * u.arcsec}, ValueError, "pixel must lie between 0.5 and 30"),
        ({"shape": (0, 10)}, ValueError, "shape must be two whole numbers"),
        ({"position": (10, 20)}, TypeError, "position must be a single SkyCoord"),
        ({"density": 3}, TypeError, "density must be a dict"),
        ({"density": {"quasar": 3}}, ValueError, "density must name kinds"),
        ({"density": {"agn": "x"}}, ValueError, "density of 'agn' must be a finite number"),
        ({"density": {"agn": -1}}, ValueError, "density of 'agn' must be a finite number from 0 and below"),
        ({"injected": [1]}, TypeError, "injected must be a Table"),
        ({"injected": QTable({"x": [1] * u.pix, "y": [1] * u.pix})}, SchemaError, "injected must have core_radius"),
        ({"injected": sources(1, 1, 5)["x", "y", "core_radius"]}, SchemaError, "either counts or flux"),
        ({"injected": sources(1, 1, -5)}, ValueError, "must be larger than zero"),
        ({"injected": sources(1, 1, 5, -1)}, ValueError, "must not be negative"),
        ({"rng": "1"}, TypeError, "rng must be a seed"),
    ],
)
def test_bad_arguments_are_named(arguments, error, text):
    with pytest.raises(error, match=text):
        simulate_field(**{"rng": 1, "shape": (64, 64), **arguments})


def test_source_off_the_image_keeps_its_row():
    simulated = simulate_field(rng=1, shape=(64, 64), density=NOTHING, injected=sources([30, 400], 30, 50))
    assert len(simulated.truth) == 2 and simulated.truth["flags"][1] == Flag.OFF_EDGE.value
