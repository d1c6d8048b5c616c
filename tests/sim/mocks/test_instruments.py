"""Images through ACIS-S and XMM-Newton's cameras, sources of a cluster, and what observers do to sources."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from astroclassify.fields import KingPsf
from astroclassify.fields._instruments import EPIC_BACKGROUND
from astroclassify.images import read_header
from astroclassify.sim import Observation, draw_counts, expected_counts, expected_spectrum, observe
from astroclassify.sim.physics._background import foreground_rate, unresolved_rate
from astroclassify.sim.physics._response import load_response

DARK = 0 * u.ct / u.s / u.arcsec**2
FLUX = u.erg / u.s / u.cm**2
ARCMIN_RATE = u.ct / u.s / u.arcmin**2
EPIC = ["epic-pn", "epic-mos1", "epic-mos2"]


def with_sources(halo, *sources):
    """The halo with sources of its own: (x, y, z [kpc], erg/s) each."""
    table = QTable(
        {"position": [each[:3] for each in sources] * u.kpc, "luminosity": [each[3] for each in sources] * u.erg / u.s}
    )
    return replace(halo, meta={"point_sources": table})


def dark(response, **changes):
    """A wide, fine, uniform observation without background."""
    high = 2.0 if response.startswith("epic") else 7.0
    settings = {"response": response, "background": DARK, "energy_range": (0.5, high) * u.keV, **changes}
    return Observation(**settings)


@pytest.mark.parametrize("response", ["acis-s-cycle0", "acis-s-cycle19", *EPIC])
def test_counts_are_those_of_the_spectrum(ball, response):
    for observation in (dark(response), dark(response, redshift=0.3, exposure=7 * u.ks)):
        expected = expected_spectrum(ball, observation)["counts"].sum().value
        assert expected_counts(ball, observation).data.sum() == pytest.approx(expected, rel=0.003)


@pytest.mark.parametrize("detector", EPIC)
def test_gas_is_spread_as_the_king_profile(toy_halo, detector):
    # a small ball, on axis and off it, seen in pixels of 1.5": what lies within a radius, over chips all of it is on
    pixel, offset = 1.5, {"epic-pn": (-1.0, 0.5), "epic-mos1": (-1.0, 1.0), "epic-mos2": (1.0, -1.0)}[detector]
    observation = dark(detector, detector=detector, shape=(241, 241), pointing_offset=offset * u.arcmin)
    scale = observation.pixel_scale().to_value(u.arcsec)
    observation = replace(observation, width=observation.width * (pixel / scale))
    halo = toy_halo([[0, 0, 0]], radius=0.1, n_e=1.0)
    image = expected_counts(halo, observation)
    whole = expected_spectrum(halo, observation)["counts"].sum().value
    row, column = np.indices(image.shape) - 120
    radius = np.hypot(row, column) * pixel
    psf, theta = KingPsf({"epic-pn": "EPN", "epic-mos1": "EMOS1", "epic-mos2": "EMOS2"}[detector]), np.hypot(*offset)
    for limit in (8, 15, 30, 45):
        seen = image.exposure[radius <= limit] / observation.exposure.to_value(u.s)
        inside = np.sum(image.data[radius <= limit] / np.where(seen > 0, seen, np.inf))
        assert inside / whole == pytest.approx(psf.encircled(limit, theta), abs=0.015)
    width = image.meta["PSFFWHM"]
    assert psf.profile(width / 2) / psf.profile(0) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("detector", ["epic-pn", "epic-mos2", "acis-s"])
def test_engines_agree(toy_halo, detector):
    pytest.importorskip("pyxsim")
    response = "acis-s-cycle0" if detector == "acis-s" else detector
    halo = with_sources(toy_halo([[0, 0, 0], [60, 30, 0]], radius=40, n_e=5e-3), (100.0, 0, 0, 3e43))
    observation = dark(response, detector=detector, shape=(80, 80), centre_offset=(50, -20) * u.kpc)
    observation = replace(observation, pointing_offset=(2, 1) * u.arcmin, roll=20 * u.deg, width=800 * u.kpc)
    expected = expected_counts(halo, observation).data
    photons = observe(halo, observation, engine="pyxsim", rng=1).data.astype(float)
    blocks = [image.reshape(10, 8, 10, 8).sum(axis=(1, 3)) for image in (expected, photons)]
    bright = blocks[0] > 20
    pulls = (blocks[1] - blocks[0])[bright] / np.sqrt(blocks[0][bright])
    assert bright.sum() > 5 and abs(pulls.mean()) < 4 / np.sqrt(bright.sum()) and 0.4 < np.std(pulls) < 1.6


@pytest.mark.parametrize(
    ("observation", "telescope", "instrument"),
    [
        (Observation.acis_i(), "CHANDRA", "ACIS-I"),
        (Observation.acis_s(response="acis-s-cycle12"), "CHANDRA", "ACIS-S"),
        (Observation.epic("pn"), "XMM", "EPN"),
        (Observation.epic("mos1"), "XMM", "EMOS1"),
        (Observation.epic("mos2"), "XMM", "EMOS2"),
    ],
)
def test_headers_are_understood(toy_halo, observation, telescope, instrument):
    image = expected_counts(toy_halo([[0, 0, 0]], radius=50), replace(observation, shape=(32, 32)), rng=1)
    header = read_header(image.meta)
    assert (header.telescope, header.instrument) == (telescope, instrument)
    assert header.energy_range == tuple(observation.energy_range.to_value(u.keV))
    assert header.exposure == 1e5 and not header.conflicts
    assert image.meta["RESPONSE"] == observation.response and image.meta["PSFFWHM"] > 1
    assert 9e4 < image.exposure.max() <= 1e5
    assert np.all(image.exposure > 0) if image.mask is None else np.array_equal(image.exposure > 0, ~image.mask)


def test_backgrounds_are_those_of_their_sources():
    for camera, name in (("pn", "EPN"), ("mos1", "EMOS1"), ("mos2", "EMOS2")):
        observation = Observation.epic(camera)
        sky, particles = EPIC_BACKGROUND[name]
        assert observation.sky_background.to_value(ARCMIN_RATE) == pytest.approx(sky, rel=1e-5)
        assert observation.background.to_value(ARCMIN_RATE) == pytest.approx(particles, rel=1e-5)
        # the sky that ACIS sees, with the area of this camera, is as bright within the stated 30 %
        response = load_response(f"epic-{camera}")
        seen = foreground_rate(response, (0.5, 2.0)) + unresolved_rate(response, (0.5, 2.0), 4e20)
        assert seen == pytest.approx(sky, rel=0.3)
    with pytest.raises(ValueError, match="known in 0.5 to 2 keV only; give both for energy_range 0.5 to 7 keV"):
        Observation.epic("pn", energy_range=(0.5, 7) * u.keV)
    hard = Observation.epic("pn", energy_range=(2, 7) * u.keV, background=1e-3 * ARCMIN_RATE, sky_background=DARK)
    assert hard.background == 1e-3 * ARCMIN_RATE
    # the particles of the back-illuminated chip are not those of ACIS-I
    assert 2 < Observation.acis_s().background / Observation.acis_i().background < 3.5
    with pytest.raises(ValueError, match="camera must be one of"):
        Observation.epic("rgs")


def test_detector_and_response_belong_together():
    with pytest.raises(ValueError, match="detector must be 'uniform' or that of response 'epic-pn', got 'acis-i'"):
        Observation(detector="acis-i", response="epic-pn")
    with pytest.raises(ValueError, match="detector must be 'uniform' or that of response 'acis-i-cycle0', got"):
        Observation(detector="acis-s")
    for name, value in (("treat_central", 1), ("exposure_map", "no")):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            Observation(**{name: value})
    with pytest.raises(ValueError, match="source_treatment must be one of"):
        Observation(source_treatment="gone")
    with pytest.raises(u.UnitsError, match="centre_offset"):
        Observation(centre_offset=(1, 1) * u.arcsec)


def test_the_image_may_be_off_centre(toy_halo):
    halo = toy_halo([[0, 0, 0]], radius=5)
    observation = dark("acis-i-cycle0", shape=(50, 60), width=600 * u.kpc, psf_fwhm=0 * u.arcsec)
    plain = expected_counts(halo, observation).data
    moved = expected_counts(halo, replace(observation, centre_offset=(70, -40) * u.kpc)).data
    # ten kpc a pixel: the halo lies 7 pixels to the left and 4 up
    assert np.roll(plain, (4, -7), axis=(0, 1)) == pytest.approx(moved, abs=1e-9 * plain.max())
    # the chips move with the pointing of the halo, not of the image
    chips = replace(observation, detector="acis-i", pointing_offset=(3, 0) * u.arcmin, centre_offset=(70, 0) * u.kpc)
    far = expected_counts(halo, chips)
    near = expected_counts(halo, replace(chips, centre_offset=(0, 0) * u.kpc))
    assert far.exposure[:, :-7] == pytest.approx(near.exposure[:, 7:], rel=1e-5)


# --- sources of the halo ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("redshift", [0.03, 0.4])
def test_a_source_of_the_halo_has_the_counts_of_its_luminosity(toy_halo, redshift):
    halo = toy_halo([[0, 0, 0]], radius=20)
    observation = dark("acis-s-cycle0", redshift=redshift, psf_fwhm=0 * u.arcsec)
    place = (101.0, -52.0, 300.0)
    added = expected_counts(with_sources(halo, (*place, 1e43)), observation)
    added = added.data - expected_counts(halo, observation).data
    # by hand: photons of a power law of index 1.8 that has 1e43 erg/s in 0.5 to 2 keV at rest, seen at E / (1 + z)
    energy = np.arange(0.5 + 5e-4, 7, 1e-3)
    from astroclassify.sim.physics._absorption import transmission

    norm = 1e43 / 1.602177e-9 / ((2**0.2 - 0.5**0.2) / 0.2)  # photons per s and keV at 1 keV, at rest
    distance = halo.cosmology.luminosity_distance(redshift).to_value(u.cm)
    rate = norm * (energy * (1 + redshift)) ** -1.8 * (1 + redshift) ** 2 / (4 * np.pi * distance**2)
    caught = rate * load_response("acis-s-cycle0").area(energy) * transmission(energy, 4e20) * 1e-3
    assert added.sum() == pytest.approx(caught.sum() * 1e5, rel=2e-3)
    row, column = np.unravel_index(np.argmax(added), added.shape)
    assert (column + 0.5 - 128) * 1000 / 256 == pytest.approx(101, abs=2)
    assert (row + 0.5 - 128) * 1000 / 256 == pytest.approx(-52, abs=2)
    along = expected_counts(with_sources(halo, (*place, 1e43)), observation, axis="x").data
    along = along - expected_counts(halo, observation, axis="x").data
    row, column = np.unravel_index(np.argmax(along), along.shape)
    assert (column + 0.5 - 128) * 1000 / 256 == pytest.approx(-52, abs=2)  # y and z are seen along x
    assert (row + 0.5 - 128) * 1000 / 256 == pytest.approx(300, abs=2)


def test_bad_sources_are_named(toy_halo):
    halo = replace(toy_halo([[0, 0, 0]], radius=20), meta={"point_sources": [1, 2]})
    with pytest.raises(ValueError, match="point_sources'.* must be a QTable with the columns 'position'"):
        expected_counts(halo, dark("acis-i-cycle0"))


# --- what observers do to sources --------------------------------------------------------------------------------


def field(**changes):
    """A flat sky of 2 counts per pixel of 2", through ACIS-I near its axis."""
    settings = {"detector": "acis-i", "shape": (200, 200), "width": 390 * u.kpc, "psf_fwhm": 1.1 * u.arcsec}
    level = 2.0 / 4.0 / 1e5 * u.ct / u.s / u.arcsec**2
    return dark("acis-i-cycle0", sky_background=level, pointing_offset=(-0.2, 3.5) * u.arcmin, **settings, **changes)


@pytest.fixture
def halo(toy_halo):
    """Faint gas, a bright source beside the middle and one in it, and one too faint to be seen."""
    gas = toy_halo([[0, 0, 0]], radius=500, n_e=1e-6)
    return with_sources(gas, (50.0, 60.0, 0, 2e42), (0.0, 0, 0, 2e42), (-60.0, -40.0, 0, 1e39))


def test_masked_sources_are_circles_without_exposure(halo):
    image = observe(halo, field(source_treatment="masked"), engine="direct", rng=3)
    present = observe(halo, field(), engine="direct", rng=3)
    assert present.mask is None
    gone = image.mask
    row, column = np.nonzero(gone)
    kpc = 390 / 200
    assert (column.mean() + 0.5 - 100) * kpc == pytest.approx(50, abs=3)
    assert (row.mean() + 0.5 - 100) * kpc == pytest.approx(60, abs=3)
    assert np.all(image.exposure[gone] == 0) and np.all(image.data[gone] == 0)
    assert np.array_equal(image.data[~gone], present.data[~gone])
    # the circle holds nearly all of the source
    assert present.data[gone].sum() > 100 and gone.sum() < 60
    both = observe(halo, field(source_treatment="masked", treat_central=True), engine="direct", rng=3)
    assert both.mask[100, 100] and not image.mask[100, 100]
    assert image.meta["SOURCES"] == "masked"


def test_filled_sources_look_like_what_is_around(halo):
    masked = observe(halo, field(source_treatment="masked"), engine="direct", rng=3)
    expected = expected_counts(halo, field(source_treatment="filled"))
    circle = masked.exposure == 0
    ring = np.zeros_like(circle)
    row, column = np.nonzero(circle)
    ring[row.min() - 4 : row.max() + 5, column.min() - 4 : column.max() + 5] = True
    assert expected.data[circle].mean() == pytest.approx(expected.data[ring & ~circle].mean(), rel=0.05)
    assert expected.mask is None
    filled = field(source_treatment="filled")
    drawn = [observe(halo, filled, engine="direct", rng=seed).data[circle] for seed in range(40)]
    assert np.mean(drawn) == pytest.approx(expected.data[circle].mean(), rel=0.1)
    assert np.var(drawn) == pytest.approx(np.mean(drawn), rel=0.25)  # Poisson
    again = observe(halo, filled, engine="direct", rng=3)
    assert np.array_equal(again.data, observe(halo, filled, engine="direct", rng=3).data)
    assert draw_counts(expected, rng=1).data.shape == (200, 200)


def test_sources_are_treated_if_the_exposure_shows_them(halo):
    found = {}
    for exposure in (1, 300):
        observation = field(source_treatment="masked", exposure=exposure * u.ks, point_sources=1e-13 * FLUX)
        found[exposure] = np.count_nonzero(observe(halo, observation, engine="direct", rng=2).exposure == 0)
    assert found[300] > 2 * found[1]


def test_a_source_in_bright_gas_is_not_seen(toy_halo):
    bright = toy_halo([[0, 0, 0]], radius=100, n_e=3e-2)
    halo = with_sources(bright, (30.0, 0, 0, 5e40))
    lone = with_sources(toy_halo([[0, 0, 0]], radius=100, n_e=1e-5), (30.0, 0, 0, 5e40))
    masked = field(source_treatment="masked")
    masks = [observe(each, masked, engine="direct", rng=1).mask for each in (halo, lone)]
    assert masks[0] is None and masks[1].any()


def test_no_exposure_map_at_hand(halo):
    without = observe(halo, field(exposure_map=False), engine="direct", rng=3)
    assert without.exposure is None and without.mask is None
    assert np.array_equal(without.data, observe(halo, field(), engine="direct", rng=3).data)
    masked = observe(halo, field(exposure_map=False, source_treatment="masked"), engine="direct", rng=3)
    assert masked.exposure is None and 0 < masked.mask.sum() < 60


def test_events_keep_their_sources(halo, tmp_path):
    pytest.importorskip("pyxsim")
    from astroclassify.sim import write_events

    with pytest.raises(ValueError, match="source_treatment must be 'present' to write events"):
        write_events(halo, field(source_treatment="masked"), tmp_path / "events.fits", rng=1)
