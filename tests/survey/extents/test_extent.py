"""Fits of sources: injected ones come back without bias, models are told apart, scipy on the same pixels agrees."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from astropy.wcs import WCS
from scipy.optimize import minimize
from scipy.signal import fftconvolve
from scipy.stats import chi2

from astroclassify.exceptions import SchemaError
from astroclassify.schemes import Flag
from astroclassify.survey import GaussianPsf, KingPsf, classify_extent, fit_extent, model_image, read_field
from astroclassify.survey.extents import _sources as _extent_sources
from astroclassify.tables import CANDIDATES, validate

PIXEL = 2.5  # arcsec
PSF = KingPsf("EPN")  # one for all tests: its tables are made once
MOS = GaussianPsf(10 * u.arcsec)
HALF = float(PSF.radius(0.5, 0.0))
EXPOSURE = 1e4  # s


def empty_field(n=100, background=0.05, exposure=EXPOSURE * u.s, mask=None, psf=PSF, angle=0.0):
    """Field about the optical axis without counts; the angle [deg] turns its pixels on the sky."""
    wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": (n + 1) / 2, "CRPIX2": (n + 1) / 2,
               "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -PIXEL / 3600, "CDELT2": PIXEL / 3600})  # fmt: skip
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    image = CCDData(np.zeros((n, n)), unit=u.ct, wcs=wcs, meta={"INSTRUME": "EPN"})
    field = read_field(image, exposure=exposure, background=np.full((n, n), background), psf=psf, mask=mask)
    return dataclasses.replace(field, background_error=0.0)  # the background is known here


def observe(field, sources, seed=None):
    """Counts of background and sources (x, y, counts, core radius): drawn, or without a seed as expected."""
    expected = np.array(field.background)
    for x, y, counts, ext in sources:
        expected += model_image(field, x, y, counts=counts, ext=ext)
    counts = expected if seed is None else np.random.default_rng(seed).poisson(np.where(field.mask, 0.0, expected))
    return dataclasses.replace(field, counts=np.where(field.mask, 0.0, counts))


def sky(field, *places):
    return field.wcs.pixel_to_world(*np.transpose(places))


def values(rows, name):
    return np.array([getattr(row[name], "value", row[name]) for row in rows])


def unbiased(found, truth, sigmas=3.0):
    """Mean within its standard error of the truth."""
    return abs(np.mean(found) - truth) < sigmas * np.std(found, ddof=1) / np.sqrt(len(found))


@pytest.fixture(scope="module")
def field():
    return empty_field()


# ---- what was put in comes out


def test_beta_models_come_back(field):
    """Without bias, and with errors that are the scatter."""
    place, counts, ext, n = (49.3, 50.2), 500, 12.0, 24
    rows = [fit_extent(observe(field, [(*place, counts, ext)], seed), sky(field, (50, 49)))[0] for seed in range(n)]
    assert set(values(rows, "best_model")) <= {"EXT"}
    for name, truth, error in (
        ("x", place[0], values(rows, "pos_err") / PIXEL / np.sqrt(2)),
        ("y", place[1], values(rows, "pos_err") / PIXEL / np.sqrt(2)),
        ("ext", ext, values(rows, "ext_err")),
        ("counts", counts, values(rows, "counts_err")),
    ):
        found = values(rows, name)
        assert unbiased(found, truth), name
        assert np.std((found - truth) / error) == pytest.approx(1.0, abs=0.4), name  # three standard errors of it
    np.testing.assert_allclose(values(rows, "rate"), values(rows, "counts") / EXPOSURE, rtol=1e-6)
    np.testing.assert_allclose(values(rows, "rate_err"), values(rows, "counts_err") / EXPOSURE, rtol=1e-6)
    assert np.all(values(rows, "ext_like") > 33) and np.all(values(rows, "flags") == 0)
    assert np.all(values(rows, "fit_radius") > 4.3 * values(rows, "ext"))
    there = SkyCoord([row["sky_position"] for row in rows])
    np.testing.assert_allclose(field.wcs.world_to_pixel(there), [values(rows, "x"), values(rows, "y")], atol=2e-3)


def test_points_are_points(field):
    """EXT_LIKE is zero in half of the cases and else chi^2 with one degree of freedom."""
    n = 30
    rows = [fit_extent(observe(field, [(49.3, 50.2, 300, 0)], seed), sky(field, (49, 51)))[0] for seed in range(n)]
    like = values(rows, "ext_like")
    assert np.mean(values(rows, "best_model") == "PNT") > 0.9
    assert 0.3 < np.mean(like < 0.05) < 0.85 and np.mean(like) < 1.5 and like.max() < 15
    assert np.median(values(rows, "ext")) < 1 and values(rows, "ext").max() < 3
    assert np.all(values(rows, "ext")[like == 0] == 0) and np.all(values(rows, "ext_err") > 0)
    for name, truth in (("x", 49.3), ("y", 50.2), ("counts", 300)):
        assert unbiased(values(rows, name), truth), name
    np.testing.assert_allclose(values(rows, "background"), 0.05)
    np.testing.assert_allclose(values(rows, "det_like"), values(rows, "pnt_det_like"), atol=20)


def test_expected_counts_give_back_the_model(field):
    """No noise: the minimum is at the truth, turned pixels or not."""
    for angle in (0.0, 40.0):
        turned = empty_field(angle=angle)
        row = fit_extent(observe(turned, [(48.2, 51.6, 2000, 12.0)]), sky(turned, (49, 51)))[0]
        found = [getattr(row[name], "value", row[name]) for name in ("x", "y", "counts", "ext")]
        np.testing.assert_allclose(found, [48.2, 51.6, 2000, 12.0], atol=0.01, rtol=3e-3)
        assert turned.off_axis(48.2, 51.6) == pytest.approx(row["off_axis"].to_value(u.arcmin), abs=1e-3)


# ---- scipy on the same pixels, with a model made in another way


def convolved(psf, place, ext, n, *, fine, margin, reach):
    """Share of a beta model per pixel: its image and that of the PSF convolved on finer pixels, then summed."""
    step, edge = PIXEL / fine, margin * fine
    axis = (np.arange((n + 2 * margin) * fine) + 0.5) * step - (margin + 0.5) * PIXEL
    squared = (axis - place[0] * PIXEL) ** 2 + ((axis - place[1] * PIXEL) ** 2)[:, np.newaxis]
    beta = (1 + squared / ext**2) ** -1.5 / (2 * np.pi * ext**2) * step**2
    along = np.arange(-reach * fine, reach * fine + 1) * step
    kernel = psf.profile(np.hypot(along, along[:, np.newaxis]), 0.0) * step**2
    seen = fftconvolve(beta, kernel, mode="same")[edge:-edge, edge:-edge]
    return seen.reshape(n, fine, n, fine).sum(axis=(1, 3))


@pytest.mark.parametrize(("seed", "ext", "counts"), [(1, 12.0, 600), (2, 25.0, 900)])
def test_minimum_is_that_of_scipy(seed, ext, counts):
    n, radius, start = 52, 61.3, (25, 27)
    field = empty_field(n, psf=MOS)
    seen = observe(field, [(25.7, 26.4, counts, ext)], seed)
    row = fit_extent(seen, sky(field, start), radius=radius * u.arcsec)[0]
    y, x = np.indices((n, n))
    used = np.hypot(x - row["x"].value, y - row["y"].value) * PIXEL <= radius

    def cash(model):
        return 2 * np.sum(model[used] - seen.counts[used] * np.log(model[used]))

    def statistic(parameters):
        total, x, y, width = parameters * [100, 1, 1, 10]
        share = convolved(MOS, (x, y), width, n, fine=2, margin=8, reach=8)
        return cash(field.background + total * share)

    limits = [(0.1, 100), (20, 32), (20, 32), (0.2, 8)]
    found = minimize(statistic, [5.0, *start, 1.5], method="L-BFGS-B", bounds=limits, options={"ftol": 1e-9})
    assert row["best_model"] == "EXT"
    # The window is about the place of an earlier fit: a pixel or two of its edge may be others.
    assert row["det_like"] == pytest.approx(cash(field.background) - found.fun, abs=1.5)
    one_axis = row["pos_err"].value / PIXEL / np.sqrt(2)
    errors = np.array([row["counts_err"].value, one_axis, one_axis, row["ext_err"].value])
    ours = np.array([row[name].value for name in ("counts", "x", "y", "ext")])
    assert np.all(np.abs(ours - found.x * [100, 1, 1, 10]) < 0.05 * errors)


# ---- which model


@pytest.mark.parametrize("seed", range(4))
def test_central_point_is_seen(field, seed):
    seen = observe(field, [(49.3, 50.2, 900, 25), (49.3, 50.2, 300, 0)], seed)
    row = fit_extent(seen, sky(field, (49, 51)))[0]
    assert row["best_model"] == "EPN" and row["epn_like"] > 15 and row["ext_like"] > 33
    assert abs(row["epn_share"] - 0.25) < 0.1
    assert abs(row["counts"] - 1200 * u.ct) < 3 * row["counts_err"]
    assert row["flags"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_two_points_are_told_from_one_extended_source(field, seed):
    """Eleven arcsec apart; the position is that of the brighter one."""
    seen = observe(field, [(46.3, 50.2, 200, 0), (50.7, 50.2, 500, 0)], seed)
    row = fit_extent(seen, sky(field, (48.5, 50)))[0]
    assert row["best_model"] == "DBL" and row["flags"] == Flag.DOUBLE
    assert row["dbl_like"] > 30 and row["ext_like"] > 5  # as one, they look extended
    assert np.hypot(row["x"].value - 50.7, row["y"].value - 50.2) * PIXEL < 3 * row["pos_err"].value
    assert abs(row["counts"] - 700 * u.ct) < 3 * row["counts_err"]


def test_simple_sources_gain_nothing_by_more(field):
    """Neither a beta model nor a point asks for two points or a central one."""
    rows = []
    for seed in range(5):
        rows.append(fit_extent(observe(field, [(49.3, 50.2, 600, 20)], seed), sky(field, (49, 51)))[0])
    assert set(values(rows, "best_model")) == {"EXT"} and values(rows, "epn_like").mean() < 2
    assert np.all(values(rows, "flags") == 0)


# ---- neighbours


@pytest.mark.parametrize("second", [300, 80])
def test_neighbours_keep_their_counts(field, second):
    """Twenty arcsec apart, equal or not."""
    found = []
    for seed in range(10):
        seen = observe(field, [(45.2, 50.1, 300, 0), (53.2, 50.1, second, 0)], seed)
        found.append(fit_extent(seen, sky(field, (45, 50), (53, 50))))
    counts = np.array([table["counts"].value for table in found])
    assert unbiased(counts[:, 0], 300) and unbiased(counts[:, 1], second)
    for table in found:
        np.testing.assert_allclose(table["x"].value, [45.2, 53.2], atol=1.6)
        assert np.all(table["ext_like"] < 15)


def test_extended_source_beside_a_bright_point(field):
    rows = []
    for seed in range(8):
        seen = observe(field, [(40.0, 50.0, 800, 0), (58.0, 50.0, 500, 15)], seed)
        rows.append(fit_extent(seen, sky(field, (40, 50), (58, 50))))
    counts, ext = (np.array([table[name].value for table in rows]) for name in ("counts", "ext"))
    assert unbiased(counts[:, 0], 800) and unbiased(counts[:, 1], 500) and unbiased(ext[:, 1], 15)
    assert np.all(ext[:, 0] < 4)


def test_wide_sources_leave_each_other_their_light():
    """Four of them 200 arcsec apart: the first to be fitted does not take the light of the others for its wings."""
    places = [(50, 50), (130, 50), (50, 130), (130, 130)]
    seen = observe(empty_field(180, background=0.02), [(*place, 250, 45.0) for place in places], 3)
    found = fit_extent(seen, sky(seen, *np.add(places, (0.5, -0.5))))
    assert np.all(np.abs(found["ext"] - 45 * u.arcsec) < 3 * found["ext_err"])
    assert np.all(np.abs(found["counts"] - 250 * u.ct) < 3 * found["counts_err"])


def test_what_lies_in_noise_takes_no_counts(field, monkeypatch):
    """Entries of a generous search about an extended source leave it as it is when it is fitted alone."""
    ring = [(49.5 + 20 * np.cos(a), 49.5 + 20 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
    seen = [observe(field, [(49.5, 49.5, 300, 15)], 4)]
    places = sky(field, (49.5, 49.5), *ring)
    alone = np.array([fit_extent(each, places[:1])["counts"][0].value for each in seen])
    tables = [fit_extent(each, places) for each in seen]
    assert all(np.all(table["det_like"][1:] < _extent_sources.NOT_NOISE) for table in tables)
    np.testing.assert_allclose([table["counts"][0].value for table in tables], alone, rtol=0.03)
    monkeypatch.setattr(_extent_sources, "NOT_NOISE", -np.inf)
    robbed = np.array([fit_extent(each, places)["counts"][0].value for each in seen])
    assert np.all(robbed < 0.9 * alone)  # without the rule they would


# ---- sizes and positions from a table


def test_core_radius_is_bounded_by_what_was_seen(field):
    seen = observe(field, [(49.5, 49.5, 3000, 45)], 1)
    positions = QTable({"sky_position": sky(field, (49.5, 49.5))})
    assert fit_extent(seen, positions)["ext"][0] > 40 * u.arcsec
    # Never less than three half-energy radii, whatever was seen.
    for column, size, bound in (("region_radius", 11, 33), ("radius", 4, 40), ("radius", 0.5, 3 * HALF)):
        found = fit_extent(seen, QTable({**positions, column: [size] * u.arcsec}))
        row = found[0]
        assert row["ext"].to_value(u.arcsec) == pytest.approx(bound, rel=0.01)
        assert row["flags"] & Flag.AT_BOUND and classify_extent(found)[0] == ""


def test_columns_of_the_table_are_kept(field):
    seen = observe(field, [(30.0, 50.0, 300, 0), (70.0, 50.0, 300, 10)], 1)
    positions = Table({"source_id": ["a", "b"], "sky_position": sky(field, (30, 50), (70, 50)), "remark": ["p", "q"]})
    positions["counts"] = [-1.0, -1.0]  # is written anew
    positions.meta["origin"] = "search"
    found = fit_extent(seen, positions)
    assert list(found["source_id"]) == ["a", "b"] and list(found["remark"]) == ["p", "q"]
    assert found.meta["origin"] == "search" and found.meta["likelihood"] == "delta-c"
    assert np.all(found["counts"] > 200 * u.ct) and list(positions["counts"]) == [-1, -1]
    assert list(found["x_class"]) == ["", ""]
    validate(found, CANDIDATES)
    assert list(fit_extent(seen, positions["sky_position",])["source_id"]) == ["1", "2"]
    single = fit_extent(seen, sky(field, (30, 50))[0])  # one that is no array
    assert len(single) == 1 and single["x"][0].value == pytest.approx(30, abs=1)


def test_no_positions(field):
    for positions in (SkyCoord([], [], unit="deg"), QTable({"sky_position": SkyCoord([], [], unit="deg")})):
        found = fit_extent(field, positions)
        assert len(found) == 0 and found["ext"].unit == u.arcsec
        validate(found, CANDIDATES)


# ---- likelihoods


@pytest.mark.parametrize("n_cameras", [1, 2])
def test_both_conventions(field, n_cameras):
    seen = [observe(field, [(49.3, 50.2, 60, 6)], seed) for seed in range(n_cameras)]
    gain, like = (fit_extent(seen, sky(field, (49, 51)), likelihood=name)[0] for name in ("delta-c", "ln-p"))
    assert gain["best_model"] in ("PNT", "EXT")
    extra = {
        "ext_like": 1,
        "pnt_det_like": 2 + n_cameras,
        "det_like": 2 + n_cameras + (gain["best_model"] == "EXT"),
        "epn_like": n_cameras,
        "dbl_like": 2 + n_cameras,
    }
    for name, degrees in extra.items():
        assert like[name] == pytest.approx(-chi2.logsf(gain[name], degrees), rel=1e-5, abs=1e-9), name
    assert gain["det_like"] > 30 and gain["ext_like"] > 0.5
    assert all(gain[name] == like[name] for name in ("ext", "counts", "x", "best_model"))


# ---- several cameras


def test_cameras_are_fitted_together():
    """Other PSF, exposure, place, and turn on the sky."""
    first, second = empty_field(), empty_field(90, 0.03, 4e3 * u.s, psf=MOS, angle=55.0)
    place, n, rows = sky(first, (46.0, 53.0)), 8, []
    x, y = (float(value[0]) for value in second.wcs.world_to_pixel(place))
    for seed in range(n):
        pair = [observe(first, [(46.0, 53.0, 500, 18)], seed), observe(second, [(x, y, 150, 18)], 100 + seed)]
        rows.append(fit_extent(pair, sky(first, (46.5, 52.5)))[0])
    both = np.array([row["field_counts"].value for row in rows])
    np.testing.assert_allclose(both.sum(axis=1), values(rows, "counts"), rtol=1e-6)
    np.testing.assert_allclose(values(rows, "rate"), values(rows, "counts") / 1.4e4, rtol=1e-3)
    for found, truth in ((both[:, 0], 500), (both[:, 1], 150), (values(rows, "ext"), 18)):
        assert unbiased(found, truth)
    assert unbiased(values(rows, "x"), 46.0) and unbiased(values(rows, "y"), 53.0)
    np.testing.assert_allclose(values(rows, "background"), 0.08)
    alone = fit_extent(pair[0], sky(first, (46.5, 52.5)))
    assert "field_counts" not in alone.colnames and alone["ext_err"][0] > rows[-1]["ext_err"]


def test_camera_that_does_not_see_the_source(field):
    small = empty_field(40, psf=MOS)
    pair = [observe(field, [(85.0, 50.0, 300, 0)], 1), observe(small, [], 2)]
    row = fit_extent(pair, sky(field, (85, 50)))[0]
    assert np.isnan(row["field_counts"][1]) and row["field_counts"][0] == row["counts"]
    assert row["rate"].value == pytest.approx(row["counts"].value / EXPOSURE)


# ---- gaps, edges, and beyond


def test_gap_through_a_source():
    """Pixels without exposure do not count as empty; the flag says that they are there."""
    exposure = np.full((100, 100), EXPOSURE)
    exposure[:, 55:59] = 0.0
    gap, rows = empty_field(exposure=exposure), []
    for seed in range(10):
        rows.append(fit_extent(observe(gap, [(49.5, 50.2, 500, 12)], seed), sky(gap, (49, 51)))[0])
    assert unbiased(values(rows, "counts"), 500) and unbiased(values(rows, "x"), 49.5)
    assert unbiased(values(rows, "ext"), 12)
    assert np.all(values(rows, "flags") == 0)
    near = fit_extent(observe(gap, [(53.0, 50.2, 500, 12)], 1), sky(gap, (53, 51)))[0]
    assert near["flags"] == Flag.MASKED


def test_source_on_the_edge(field):
    rows = [fit_extent(observe(field, [(1.0, 50.2, 400, 0)], seed), sky(field, (1, 50)))[0] for seed in range(15)]
    assert unbiased(values(rows, "counts"), 400)
    assert np.all(values(rows, "flags") == Flag.OFF_EDGE)


def test_exposure_that_changes_across_the_field():
    """Counts are those at the local exposure, rates those of the sky."""
    exposure = np.tile(np.linspace(2e3, 2e4, 100), (100, 1))
    slope, rows = empty_field(exposure=exposure), []
    places = [(20.0, 50.0), (80.0, 50.0)]
    for seed in range(10):
        seen = observe(slope, [(x, y, 0.04 * exposure[0, int(x)], 8) for x, y in places], seed)
        rows.append(fit_extent(seen, sky(slope, *places)))
    rates = np.array([table["rate"].value for table in rows])
    assert unbiased(rates[:, 0], 0.04) and unbiased(rates[:, 1], 0.04)


def test_positions_without_pixels_keep_their_rows(field):
    mask = np.zeros(field.shape, bool)
    mask[60:, :40] = True
    masked = observe(empty_field(mask=mask), [(70.0, 30.0, 300, 0)], 1)
    found = fit_extent(masked, sky(field, (70, 30), (400, 50), (15, 85)))
    assert list(found["flags"][1:]) == [Flag.FAILED, Flag.FAILED] and found["flags"][0] == 0
    assert list(found["message"]) == ["", *["no usable pixels at the position"] * 2]
    for name in ("ext", "ext_like", "det_like", "counts", "rate", "pos_err"):
        assert np.isfinite(found[name][0]) and np.isnan(found[name][1:]).all(), name
    np.testing.assert_allclose(found["x"].value[1:], [400, 15], atol=1e-3)
    assert list(found["best_model"]) == ["PNT", "", ""]
    there = sky(field, (70, 30))
    assert fit_extent(masked, there)["counts"][0] == found["counts"][0]
    unknown = fit_extent(masked, SkyCoord([*there.ra.deg, np.nan], [*there.dec.deg, np.nan], unit="deg"))
    assert unknown["flags"][1] & Flag.FAILED and unknown["flags"][0] == 0


def test_positions_in_another_frame():
    """East and north of the galactic frame are not those of the image."""
    seen = observe(empty_field(angle=35.0), [(52.0, 47.0, 2000, 0)])
    row = fit_extent(seen, QTable({"sky_position": sky(seen, (53.1, 48.2)).galactic}))[0]
    assert row["sky_position"].frame.name == "galactic"
    assert row["sky_position"].separation(sky(seen, (52.0, 47.0))[0]) < 0.05 * u.arcsec
    found = seen.wcs.world_to_pixel(row["sky_position"].icrs)
    np.testing.assert_allclose(found, [row["x"].value, row["y"].value], atol=2e-3)


@pytest.mark.parametrize("seed", [6, 10])
def test_no_extent_where_the_point_is_better(field, seed):
    """On noise the two may find hills of their own; a beta model is never worse than the point, which is its edge."""
    places = [(30, 30), (30, 70), (70, 30), (70, 70)]
    found = fit_extent(observe(empty_field(background=0.02), [], seed), sky(field, *places))
    assert np.all(found["ext"][found["ext_like"] == 0] == 0)


def test_empty_sky(field):
    """Nothing there: no detection, but an answer."""
    row = fit_extent(observe(field, [], 1), sky(field, (50, 50)))[0]
    assert row["det_like"] < 15 and row["counts"] < 40 * u.ct and row["flags"] == 0
    none = fit_extent(field, sky(field, (50, 50)))[0]
    assert none["det_like"] == pytest.approx(0, abs=1e-6) and none["counts"] < 1e-3 * u.ct


def test_flags_of_the_field_are_passed_on(field):
    assumed = dataclasses.replace(field, flags=Flag.NO_BACKGROUND | Flag.LOW_COUNTS | Flag.MASKED)
    row = fit_extent(observe(assumed, [(50, 50, 300, 0)], 1), sky(field, (50, 50)))[0]
    assert row["flags"] == Flag.NO_BACKGROUND


# ---- model images


@pytest.mark.parametrize("ext", [5.0, 20.0])
def test_model_image_beside_a_convolved_one(ext):
    n = 40
    theirs = 700 * convolved(PSF, (18.3, 21.8), ext, n, fine=2, margin=100, reach=100)
    ours = model_image(empty_field(n), 18.3, 21.8, counts=700, ext=ext)
    np.testing.assert_allclose(ours, theirs, rtol=0.01, atol=0.002 * theirs.max())


def test_model_image_of_a_point():
    """The profile summed over each pixel; its square is replaced by a round mean, which the sum does not notice."""
    n, fine = 60, 10
    axis = (np.arange(n * fine) + 0.5) / fine - 0.5
    distance = np.hypot(axis - 28.3, (axis - 31.8)[:, np.newaxis]) * PIXEL
    theirs = 700 * (PSF.profile(distance, 0.0) * (PIXEL / fine) ** 2).reshape(n, fine, n, fine).sum(axis=(1, 3))
    ours = model_image(empty_field(n), 28.3, 31.8, counts=700, ext=0)
    np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.005 * theirs.max())
    assert ours.sum() == pytest.approx(theirs.sum(), rel=2e-3)


def test_model_images_add_up(field):
    both = model_image(field, [30, 60], [50, 55], counts=[100, 200], ext=[0, 10] * u.arcsec)
    point = model_image(field, 30, 50, counts=100, ext=0)
    beta = model_image(field, 60, 55, counts=200, ext=10 / 60 * u.arcmin)
    np.testing.assert_allclose(both, point + beta, rtol=1e-9)
    assert not model_image(field, np.nan, 3.0, counts=10, ext=0).any()
    assert not model_image(field, -5000, 3.0, counts=10, ext=0).any()


# ---- what is refused


def test_bad_arguments(field):
    position = sky(field, (50, 50))
    with pytest.raises(ValueError, match=r"likelihood must be one of .*, got 'cash'"):
        fit_extent(field, position, likelihood="cash")
    for radius in (-5 * u.arcsec, 0 * u.arcsec, [20, 30] * u.arcsec, np.nan * u.arcsec, 3 * u.pix, 20):
        with pytest.raises((TypeError, ValueError), match="radius"):
            fit_extent(field, position, radius=radius)
    with pytest.raises(TypeError, match=r"field must be a Field \(from read_field\), got ndarray"):
        fit_extent(np.zeros((5, 5)), position)
    with pytest.raises(TypeError, match=r"field must be a Field .* got str"):
        fit_extent([field, "b.fits"], position)
    with pytest.raises(ValueError, match="field must be a Field or a sequence of at least one"):
        fit_extent([], position)
    with pytest.raises(TypeError, match="positions must be a SkyCoord or a table, got list"):
        fit_extent(field, [(50, 50)])
    with pytest.raises(SchemaError, match=r"SkyCoord column 'sky_position', got columns \['ra'\]"):
        fit_extent(field, Table({"ra": [1.0]}))
    with pytest.raises((TypeError, ValueError), match="region_radius"):
        fit_extent(field, QTable({"sky_position": position, "region_radius": [3.0]}))


def test_bad_model_images(field):
    with pytest.raises(ValueError, match="counts must be finite, from 0 to inf"):
        model_image(field, 50, 50, counts=-1, ext=0)
    for ext in (-1, np.nan, 63):
        with pytest.raises(ValueError, match=r"ext must be finite, from 0 to 62\.5"):
            model_image(field, 50, 50, counts=1, ext=ext)
    with pytest.raises(TypeError, match="field must be a Field"):
        model_image(None, 50, 50, counts=1, ext=0)
