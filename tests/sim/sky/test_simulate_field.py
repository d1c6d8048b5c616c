"""Truth of the simulated fields: number counts, photons, gaps, background, positions, plate."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from scipy.ndimage import distance_transform_edt

from astroclassify import tables
from astroclassify.data import FOLDER
from astroclassify.exceptions import SchemaError
from astroclassify.images import read_header, read_image, write_image
from astroclassify.schemes import CANDIDATE, Flag
from astroclassify.sim import simulate_field
from astroclassify.survey import KingPsf

NOTHING = dict.fromkeys(("agn", "cluster", "galaxy", "star", "bright", "hot", "arc"), 0)
OUT_OF_TIME = 0.0636  # share of the photons, full-frame mode (OOTFRAC of OBSID 0827340901)
CENTRE = SkyCoord(150.1, 2.2, unit="deg")
SMALL = (320, 320)
ALL = ("EPN", "EMOS1", "EMOS2")
MOS = 0.28  # counts of a MOS for each of pn


def sources(x, y, counts, core=0.0):
    x, y, counts, core = np.broadcast_arrays(np.atleast_1d(x), y, counts, core)
    return QTable({"x": x * u.pix, "y": y * u.pix, "counts": counts * u.ct, "core_radius": core * u.arcsec})


@pytest.fixture(scope="module")
def typical():
    return simulate_field(rng=3, position=CENTRE, optical=True)


def test_multiples_change_one_kind_and_leave_the_others():
    one, many = (simulate_field(rng=2, density={"cluster": multiple}, shape=(400, 400)) for multiple in (1, 20))
    number = [np.sum(each.truth["kind"] == "cluster") for each in (one, many)]
    assert number[0] >= 1 and 60 < number[1] < 60 * number[0]
    for kind in ("galaxy", "star"):
        first, second = (each.truth[each.truth["kind"] == kind]["flux"] for each in (one, many))
        assert np.array_equal(first, second)


def test_clusters_may_be_denser_nearby_than_far_away():
    near, far = (
        simulate_field(rng=2, density={"cluster": multiples}, shape=(400, 400)).truth
        for multiples in ((20, 0), (0, 20))
    )
    for truth, label in ((near, "low_z"), (far, "high_z")):
        clusters = truth[truth["kind"] == "cluster"]
        assert len(clusters) > 5 and set(clusters["label"]) == {label}
    same = simulate_field(rng=2, density={"cluster": (3, 3)}, shape=SMALL)
    assert np.array_equal(same.field.counts, simulate_field(rng=2, density={"cluster": 3}, shape=SMALL).field.counts)


def test_mos_are_added_in_exposures_of_pn():
    pn, both = (simulate_field(rng=12, position=CENTRE, cameras=cameras) for cameras in (("EPN",), ALL))
    field, added = both.field, both.field.counts - pn.field.counts
    assert field.instrument == "EPN+EMOS1+EMOS2" and read_header(field.meta).instrument == field.instrument
    assert added.min() == 0
    # On axis all three see: a second of each MOS counts as 0.28 of pn's. In gaps of pn the MOS see something.
    assert field.livetime == pytest.approx(1e4 * (1 + 2 * MOS), rel=0.01)
    assert np.all(field.mask <= pn.field.mask) and added[pn.field.mask & ~field.mask].sum() > 300
    seen = ~pn.field.mask
    ratio = (field.exposure[seen] / pn.field.exposure[seen]).round(6)
    assert set(np.unique(ratio)) == {1.0, 1 + MOS, 1 + 2 * MOS}
    # Sky and particles of a MOS: 3.1e-4 and 8.3e-4 ct s-1 arcmin-2 where pn has 1.6e-3 and 1.0e-3.
    background, of_pn = field.meta["true_background"], pn.field.meta["true_background"]
    middle = seen & (field.exposure > 1.5 * pn.field.exposure) & (pn.field.exposure > 0.95e4)
    level = np.median((background - of_pn)[middle] / of_pn[middle])
    assert 2 * 0.19 < level < 2 * 0.83
    assert 0.97 < field.background.sum() / background.sum() < 1.25
    assert both.truth.meta["cameras"] == list(ALL)


def test_a_point_in_mos_has_their_counts_and_their_psf():
    flux = 2e-12
    bright = QTable({"x": [200] * u.pix, "y": [200] * u.pix, "core_radius": [0.0] * u.arcsec})
    bright["flux"] = [flux] * u.erg / u.s / u.cm**2
    images = {}
    for cameras in (("EPN",), ALL):
        how = {"rng": 5, "density": NOTHING, "shape": (401, 401), "cameras": cameras, "exposure": 100 * u.ks}
        fields = [simulate_field(injected=table, **how) for table in (bright, None)]
        images[cameras] = fields[0].field.counts - fields[1].field.counts
        expected = fields[0].truth["counts"][0].value
    image = images[ALL] - images["EPN",]
    assert expected == pytest.approx(6e11 * 1e5 * flux * (1 - OUT_OF_TIME + 2 * MOS), rel=1e-3)
    yy, xx = np.indices(image.shape)
    radius = np.hypot(xx - 200, yy - 200) * 2.5
    total = 6e11 * 1e5 * flux * 2 * MOS
    for limit in (20.0, 60.0):
        within = 0.5 * sum(float(KingPsf(name, 1.0 * u.keV).encircled(limit, 0.0)) for name in ALL[1:])
        assert image[radius < limit].sum() == pytest.approx(total * within, rel=0.015)
    # No photons out of time: beyond the King profile's end there are none.
    assert image[radius > 310].sum() == 0


def test_counts_of_mos_relative_to_pn_follow_from_the_areas():
    table = QTable.read(FOLDER / "epic_effective_area.ecsv")
    energy = (table["energy_lo"] + table["energy_hi"]).to_value(u.keV) / 2
    band = (energy > 0.5) & (energy < 2)
    absorbed = np.exp(-0.03 * 2.42 * energy**-2.6)  # N_H = 3e20 cm-2, 2.42e-22 cm2 at 1 keV (Wilms et al. 2000, fig. 1)
    for spectrum in (energy**-1.4, energy**-1.9, energy**-0.4 * np.exp(-energy), energy**-0.4 * np.exp(-energy / 4)):
        pn, *mos = (
            np.sum((spectrum * absorbed * table[f"area_{name}"].value)[band]) for name in ("epn", "emos1", "emos2")
        )
        np.testing.assert_allclose(np.array(mos) / pn, MOS, atol=0.03)


@pytest.mark.real_data
def test_chips_of_mos_cover_what_they_do_on_real_masks(shared_data):
    pn, both = (simulate_field(rng=12, position=CENTRE, cameras=cameras).field for cameras in (("EPN",), ALL))
    yy, xx = np.indices(pn.shape)
    seen = (both.exposure - pn.exposure) * (1 + (pn.off_axis(xx, yy) / 11.8) ** 2) / (1e4 * MOS)
    masks = [read_image(shared_data / "xmm" / f"0827340901_{name}_detmask.fits.gz").data for name in ("MOS1", "MOS2")]
    assert seen.sum() == pytest.approx(sum(np.sum(mask > 0) for mask in masks), rel=0.03)  # pixels of 2.5" in both


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


def test_bright_point_source_has_the_encircled_fraction_of_the_psf():
    background = simulate_field(rng=5, density=NOTHING, shape=SMALL).field
    clear = distance_transform_edt(np.pad(~background.mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(clear), SMALL)  # far from gaps and borders
    counts = 40_000.0
    field = simulate_field(rng=5, density=NOTHING, shape=SMALL, injected=sources(x, y, counts)).field
    image = field.counts - background.counts
    yy, xx = np.indices(image.shape)
    radius, off_axis = np.hypot(xx - x, yy - y) * 2.5, float(field.off_axis(x, y))
    streak = OUT_OF_TIME * counts * 60 / (200 * 4.1)  # over 200 rows of 4.1"; some within the radii
    for limit in (15.0, 25.0, 40.0):
        core, alpha = KingPsf("EPN", 1.0 * u.keV).parameters(off_axis)
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
    scale = 6e11 * 1e4 * (1 - OUT_OF_TIME) / (1 + (simulated.truth["off_axis"].value / 11.8) ** 2)
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
    assert np.median(data) == pytest.approx(5600, rel=0.5) and np.all(data == np.round(data))
    # Stars with X-rays are bright: the plate is dark where they are.
    stars = typical.truth[typical.truth["kind"] == "star"]
    x, y = plate.wcs.world_to_pixel(stars["sky_position"])
    there = data[np.rint(y).astype(int), np.rint(x).astype(int)]
    assert len(stars) > 4 and np.mean(there > 1.5 * np.median(data)) > 0.7


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
        ({"density": {"cluster": (1, 2, 3)}}, ValueError, "density of 'cluster' must be a number or two"),
        ({"cameras": ("EMOS1",)}, ValueError, "cameras must be EPN and others out of"),
        ({"cameras": ("EPN", "EPN")}, ValueError, "cameras must be EPN and others out of"),
        ({"cameras": ("EPN", "RGS1")}, ValueError, "cameras must be EPN and others out of"),
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


def test_seed_left_out_is_drawn_and_recorded():
    first, second = (simulate_field(shape=(64, 64)).field for _ in range(2))
    assert first.meta["SEED"] != second.meta["SEED"]
    assert np.array_equal(first.counts, simulate_field(rng=first.meta["SEED"], shape=(64, 64)).field.counts)


def test_source_off_the_image_keeps_its_row():
    simulated = simulate_field(rng=1, shape=(64, 64), density=NOTHING, injected=sources([30, 400], 30, 50))
    assert len(simulated.truth) == 2 and simulated.truth["flags"][1] == Flag.OFF_EDGE.value
