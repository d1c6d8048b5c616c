"""Truth of the out-of-time model: events that the simulation moved, closed forms, gaps of a real observation."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

from astroclassify.fields._chips import detector_frame
from astroclassify.fields._out_of_time import has_streaks, out_of_time
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_field
from astroclassify.sim.sky import _xmm as xmm
from astroclassify.sim.sky._population import POPULATION as P
from astroclassify.sim.sky._sky import KINDS
from astroclassify.survey import detect, estimate_background, read_field
from astroclassify.survey.catalogues._classes import CUTS

NOTHING = dict.fromkeys(KINDS, 0)
CENTRE = SkyCoord(150.1, 2.2, unit="deg")
PIXEL = 4.0  # arcsec, of the images made here


def source(x, y, counts, core=0.0):
    return QTable({"x": [x] * u.pix, "y": [y] * u.pix, "counts": [counts] * u.ct, "core_radius": [core] * u.arcsec})


def plain(field):
    """The field with the background that has no streaks."""
    return replace(field, background=estimate_background(field.counts, field.exposure, field.mask, field.pixel))


def made(spot=(150, 150), counts=1e4, side=500, meta=None):
    """A field of known background with a bright spot, whose columns run along y: at right angles to PA_PNT = 90."""
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": (side + 1) / 2, "CRPIX2": (side + 1) / 2}
    header |= {"CRVAL1": 55.7, "CRVAL2": -3.6, "CDELT1": -PIXEL / 3600, "CDELT2": PIXEL / 3600}
    image = np.random.default_rng(1).poisson(0.2, (side, side)).astype(float)
    image[spot[1] - 1 : spot[1] + 2, spot[0] - 1 : spot[0] + 2] += np.round(counts / 9)
    keys = {"INSTRUME": "EPN", "TELESCOP": "XMM", "RA_PNT": 55.7, "DEC_PNT": -3.6, "PA_PNT": 90.0}
    image = CCDData(image, unit=u.ct, wcs=WCS(header), meta=keys | (meta or {}))
    return read_field(image, exposure=10 * u.ks, background=np.full((side, side), 0.2))


@pytest.fixture
def late(monkeypatch):
    """Places of the events out of time that a simulation draws while this is used."""
    drawn, draw = [], xmm._out_of_time

    def watched(x, y, pointing, rng):
        before = x.copy()
        x, y = draw(x, y, pointing, rng)
        drawn.append((x[x != before], y[x != before]))
        return x, y

    monkeypatch.setattr(xmm, "_out_of_time", watched)
    return drawn


@pytest.mark.parametrize(("seed", "x", "y"), [(1, 324, 324), (2, 250, 420), (3, 500, 380)])
def test_model_is_what_the_simulation_moved(late, seed, x, y):
    field = simulate_field(rng=seed, position=CENTRE, density=NOTHING, injected=source(x, y, 5e4)).field
    places = [np.concatenate(part) for part in zip(*late, strict=True)]
    true = xmm.bin_photons(*places, xmm.Grid(field.shape, field.pixel)) * (field.exposure > 0)
    model = out_of_time(field)
    assert true.sum() > 1000
    assert model.sum() == pytest.approx(true.sum(), rel=0.15)
    across, along, _ = detector_frame(field.wcs, field.axis, field.shape, field.pixel, field.meta["PA_PNT"])
    half = model > 0
    edges = np.linspace(along[half].min(), along[half].max(), 6)
    lengthwise = [np.histogram(along, edges, weights=image)[0] for image in (model, true)]
    np.testing.assert_allclose(*lengthwise, rtol=0.15, atol=4 * np.sqrt(lengthwise[1].max()))
    middle = np.average(across, weights=model)
    edges = middle + np.array([-40, -20, -10, -5, 0, 5, 10, 20, 40]) / field.pixel
    crosswise = [np.histogram(across, edges, weights=image)[0] for image in (model, true)]
    np.testing.assert_allclose(*crosswise, rtol=0.15, atol=4 * np.sqrt(crosswise[1].max()))


@pytest.mark.parametrize(("mode", "fraction"), [("PrimeFullWindow", 0.063), ("PrimeFullWindowExtended", 0.023)])
def test_rows_hold_their_share_of_the_counts(mode, fraction):
    field = made(meta={"SUBMODE": mode})
    streaks = out_of_time(field)
    rows = streaks.sum(axis=1)
    # 1e4 counts, spread over 200 rows of 4.1"; the spot lies in one half of the camera.
    lit = rows > 0
    np.testing.assert_allclose(rows[lit], 1e4 * fraction / (1 - fraction) * PIXEL / 820, rtol=0.02)
    assert lit[150] and not lit.all() and np.sum(np.diff(lit)) == 1
    # Three columns, cut in parts and interpolated: part of them lies in the next ones.
    assert streaks[:, 149:152].sum() > 0.75 * streaks.sum() and streaks[:, 147:154].sum() > 0.99 * streaks.sum()
    assert out_of_time(field, fraction=2 * fraction).sum() > 2 * streaks.sum()


def test_streak_turns_with_the_position_angle_and_the_image():
    field = made()
    upright = out_of_time(field)
    turned = out_of_time(field, position_angle=np.pi / 2 * u.rad)
    np.testing.assert_allclose(turned, upright, rtol=1e-6, atol=1e-9)
    assert out_of_time(field, position_angle=0 * u.deg)[150].sum() > 50 * upright[150].sum()
    # The same sky on an image whose x runs to the east.
    wcs = field.wcs.deepcopy()
    wcs.wcs.cdelt = [PIXEL / 3600, PIXEL / 3600]
    images = {name: getattr(field, name)[:, ::-1] for name in ("counts", "exposure", "background", "mask")}
    np.testing.assert_allclose(out_of_time(replace(field, wcs=wcs, **images))[:, ::-1], upright, rtol=1e-6, atol=1e-9)


def test_streak_does_not_depend_on_whether_the_background_holds_it():
    field = made()
    streaks = out_of_time(field)
    again = out_of_time(replace(field, background=field.background + streaks))
    assert again.sum() == pytest.approx(streaks.sum(), rel=0.02)


def test_faint_sources_have_no_streak():
    assert not out_of_time(made(counts=450)).any()
    assert not out_of_time(made(counts=0)).any()


@pytest.mark.parametrize("counts", [3e3, 3e4])
def test_clusters_keep_their_counts(counts):
    injected = source(200, 180, counts, core=30.0)
    field = plain(simulate_field(rng=4, position=CENTRE, density=NOTHING, injected=injected, shape=(320, 320)).field)
    streaks, excess = out_of_time(field), field.counts - field.background
    y, x = np.indices(field.shape)
    for radius in (20, 60):  # arcsec
        near = np.hypot(x - 200, y - 180) * field.pixel < radius
        # What it takes from itself are its own events out of time: 6 % of 120" / 820", and those of its outskirts.
        assert 0 < streaks[near].sum() < 0.015 * excess[near].sum()


def test_simulated_headers_say_what_real_ones_do():
    field = simulate_field(rng=5, shape=(64, 64)).field
    assert field.meta["SUBMODE"] == "PrimeFullWindow" and has_streaks(field)
    assert 0 <= field.meta["PA_PNT"] < 360
    # Photons out of time of the simulation run where the model says: the frame is the same.
    pointing = xmm.Pointing(1e4, np.radians(field.meta["ROLL"]), *xmm.AXIS, sky=0, particles=0)
    y, x = xmm.Grid(field.shape, field.pixel).centres()[::-1]
    expected = pointing.to_detector(x, y)
    frame = detector_frame(field.wcs, field.axis, field.shape, field.pixel, field.meta["PA_PNT"])[:2]
    np.testing.assert_allclose(np.multiply(frame, field.pixel), np.broadcast_arrays(*expected), atol=0.05)
    assert P.out_of_time == pytest.approx(0.063, rel=0.02)


@pytest.mark.real_data
def test_chips_of_a_real_observation_lie_where_the_frame_says(shared_data):
    path = shared_data / "xmm" / "0124710801_PN_image_500-12000.fits"
    field = read_field(path, background=np.zeros((648, 648)))
    assert has_streaks(field) and field.meta["SUBMODE"] == "PrimeFullWindowExtended"
    pitch = xmm.CHIP_WIDTH + xmm.CHIP_GAP

    def gap(turn):
        """Counts in the gaps between the columns of chips over those beside them."""
        across, along, _ = detector_frame(field.wcs, field.axis, field.shape, field.pixel, field.meta["PA_PNT"] + turn)
        offset = np.abs((across * field.pixel + pitch / 2) % pitch - pitch / 2)
        inside = np.hypot(across, along) * field.pixel < 800
        return field.counts[inside & (offset < 2)].mean() / field.counts[inside & (offset > 12) & (offset < 30)].mean()

    assert gap(0) < 0.6
    # No other direction fits, not even one half a turn away: the optical axis is not in the middle of the chips.
    assert min(gap(turn) for turn in (-90, -30, 5, 90, 180)) > 0.8


@pytest.mark.slow
def test_streaks_make_no_clusters():
    """Two targets of 55000 and 15000 counts: false C1 on their streaks, none with the model."""
    field = plain(simulate_field(rng=2).field)
    streaks = out_of_time(field)
    numbers = []
    for each in (field, replace(field, background=field.background + streaks)):
        found = detect(each, max_off_axis=13 * u.arcmin)
        x, y = (np.rint(found[name].to_value(u.pix)).astype(int) for name in "xy")
        numbers.append(int(np.sum(CUTS["C1"].passed(found) & (streaks[y, x] > field.background[y, x]))))
    assert numbers[0] >= 1 and numbers[1] == 0


def test_bad_input_is_named():
    field = made()
    with pytest.raises(ValueError, match="instrument EPN.*got EMOS1"):
        out_of_time(replace(field, instrument="EMOS1"))
    for value in (None, "north", np.nan):
        bad = replace(field, meta=field.meta | {"PA_PNT": value})
        assert not has_streaks(bad)
        with pytest.raises(ValueError, match="position_angle must be given"):
            out_of_time(bad)
    small = replace(field, meta=field.meta | {"SUBMODE": "PrimeSmallWindow"})
    assert not has_streaks(small)
    with pytest.raises(ValueError, match="fraction must be given for the mode 'PrimeSmallWindow'"):
        out_of_time(small)
    for fraction in (-0.1, 0.9, np.nan, "6 %"):
        with pytest.raises(ValueError, match="fraction must be a finite number from 0 to 0.5"):
            out_of_time(field, fraction=fraction)
    with pytest.raises((TypeError, u.UnitsError), match="position_angle"):
        out_of_time(field, position_angle=30.0)


def test_estimated_backgrounds_hold_the_streaks():
    bright = source(100, 100, 2e4)
    simulated = simulate_field(rng=1, position=CENTRE, density=NOTHING, injected=bright, shape=(200, 200))
    field, without = simulated.field, plain(simulated.field)
    streaks = out_of_time(without)
    assert streaks.sum() > 300
    np.testing.assert_allclose(field.background, without.background + streaks)
    for change in ({"PA_PNT": None}, {"SUBMODE": "PrimeSmallWindow"}, {"INSTRUME": "EMOS1"}):
        image = field.to_ccd()
        image.background = None
        image.meta.update(change)
        np.testing.assert_allclose(read_field(image).background, without.background)
    # A background that is given is complete.
    given = read_field(field.to_ccd(), background=without.background)
    np.testing.assert_array_equal(given.background, without.background)
    assert Flag.NO_BACKGROUND in field.flags
    assert Flag.NO_BACKGROUND not in given.flags
