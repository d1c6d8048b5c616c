"""A source on a gap is one source at its place: gaps of all widths and angles, crossed, dead columns, edges."""

import dataclasses
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from astroclassify.exceptions import EmptyResultWarning
from astroclassify.schemes import Flag
from astroclassify.survey import Field, GaussianPsf, KingPsf, detect, find_sources, model_image
from astroclassify.survey.detection._gaps import fill_gaps

SHAPE = (96, 96)
MIDDLE = 47.5
PIXEL = 4.0  # arcsec
EXPOSURE, BACKGROUND = 1e4, 0.05  # s, counts per pixel


def field(usable, camera="EPN"):
    """Field without counts, background known."""
    wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": MIDDLE + 1,
               "CRPIX2": MIDDLE + 1, "CDELT1": -PIXEL / 3600, "CDELT2": PIXEL / 3600})  # fmt: skip
    exposure, background = (np.where(usable, value, 0.0) for value in (EXPOSURE, BACKGROUND))
    axis = SkyCoord(150 * u.deg, 2 * u.deg)
    psf = GaussianPsf(12.7 * u.arcsec) if camera == "EROSITA" else KingPsf(camera)  # half-energy width 30 arcsec
    return Field(np.zeros(SHAPE), exposure, background, ~usable, wcs, psf, axis, instrument=camera)


def observe(usable, sources, seed, camera="EPN"):
    """Poisson counts of sources (column, row, counts, core radius) as if there were no gap, then the gap."""
    whole = field(np.ones(SHAPE, bool), camera)
    x, y, counts, ext = np.transpose(sources)
    expected = whole.background + model_image(whole, x, y, counts=counts, ext=ext)
    return dataclasses.replace(
        field(usable, camera), counts=np.random.default_rng(seed).poisson(np.where(usable, expected, 0.0)).astype(float)
    )


def strip(width, angle, offset=0.0):
    """Usable pixels beside a gap through the middle, ``offset`` pixels from it."""
    y, x = np.indices(SHAPE) - MIDDLE
    phase = np.radians(angle)
    return np.abs(x * np.cos(phase) + y * np.sin(phase) - offset) >= width / 2


def distances(table, x, y):
    return np.hypot(table["x"].value - x, table["y"].value - y)


def assert_one_source(table, x, y, within=2.0):
    """One row near a place, and no second one."""
    away = distances(table, x, y)
    assert np.sum(away < 6) == 1, away[away < 12]
    assert away.min() < within


# ---- one source is one


@pytest.mark.parametrize("camera", ["EPN", "EMOS1"])
@pytest.mark.parametrize("angle", [0, 25, 45])
@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_point_on_a_gap_is_one_source(width, angle, camera):
    for seed, counts in enumerate((400, 2000, 20_000)):
        x, y = MIDDLE + np.random.default_rng(seed).uniform(-1, 1, 2)
        for number in range(2):
            found = find_sources(observe(strip(width, angle), [(x, y, counts, 0)], 10 * number + seed, camera))
            assert_one_source(found, x, y)
            assert found["flags"][0] == Flag.MASKED.value


@pytest.mark.parametrize("angle", [0, 30])
@pytest.mark.parametrize("width", [2, 4])
def test_an_extended_source_on_a_gap_is_one_source(width, angle):
    for seed in range(3):
        found = find_sources(observe(strip(width, angle), [(MIDDLE, MIDDLE, 4000, 15)], seed))
        assert_one_source(found, MIDDLE, MIDDLE, within=2.5)


@pytest.mark.parametrize("offset", [-4.0, -2.0, -1.0, 1.0, 2.0, 4.0])
def test_a_gap_does_not_draw_a_source_beside_it(offset):
    for seed in range(4):
        found = find_sources(observe(strip(4, 0, offset), [(MIDDLE, MIDDLE, 1000, 0)], seed))
        assert_one_source(found, MIDDLE, MIDDLE)


def cross(width):
    return strip(width, 0) & strip(width, 90)


def columns(*places):
    usable = np.ones(SHAPE, bool)
    usable[:, places] = False
    return usable


def half(edge):
    usable = np.ones(SHAPE, bool)
    usable[:, :edge] = False
    return usable


@pytest.mark.parametrize(
    "usable",
    [
        pytest.param(cross(2), id="cross of gaps 2 wide"),
        pytest.param(cross(4), id="cross of gaps 4 wide"),
        pytest.param(columns(48), id="dead column"),
        pytest.param(columns(46, 49), id="two dead columns"),
        pytest.param(half(46), id="edge of exposure beside it"),
        pytest.param(half(48), id="edge of exposure through it"),
        pytest.param(half(48) & strip(3, 90), id="gap that ends at the edge of exposure"),
    ],
)
def test_a_source_on_other_unexposed_places_is_one_source(usable):
    for seed in range(3):
        assert_one_source(find_sources(observe(usable, [(MIDDLE, MIDDLE, 1000, 0)], seed)), MIDDLE, MIDDLE)


def test_a_gap_may_reach_the_edge_of_the_image():
    for seed in range(3):
        found = find_sources(observe(strip(3, 0), [(MIDDLE, 3, 1000, 0)], seed))
        assert_one_source(found, MIDDLE, 3)


def corner(edge):
    return half(edge) & half(edge).T


@pytest.mark.parametrize("away", [5, 20, 40])
@pytest.mark.parametrize(("counts", "ext"), [(200, 0), (800, 20)])
@pytest.mark.parametrize("camera", ["EPN", "EROSITA"])
def test_sources_near_edges_and_gaps_are_found_once_and_flagged(camera, counts, ext, away):
    """``away`` [arcsec] from the edge of the image or of the exposure, a gap, a masked column."""
    d = away / PIXEL
    cases = {
        "edge of the image": (np.ones(SHAPE, bool), d - 0.5, MIDDLE, Flag.OFF_EDGE),
        "edge of the exposure": (half(30), 29.5 + d, MIDDLE, Flag.MASKED),
        "corner of the exposure": (corner(30), 29.5 + d, 29.5 + d, Flag.MASKED),
        "gap": (columns(30, 31, 32), 29.5 - d, MIDDLE, Flag.MASKED),
        "masked column": (columns(30), 29.5 - d, MIDDLE, Flag.MASKED),
    }
    for name, (usable, x, y, flag) in cases.items():
        found = find_sources(observe(usable, [(x, y, counts, ext)], 5, camera))
        # Besides there may be noise, as the search is permissive.
        bright = found[found["filtered_counts"] > 0.1 * found["filtered_counts"][0]]
        near = distances(bright, x, y) < (10 if ext else 3)
        assert near.sum() == 1 and np.sum(distances(bright, x, y) < 12) == 1, name
        if away == 5:
            assert Flag(int(bright["flags"][near][0])) & flag, name


@pytest.mark.parametrize("background", [0.02, 0.3, 2.0])
def test_a_rim_of_low_exposure_gives_no_sources(background):
    """Exposed for 5 % of the time, with a background 20 % too low; below 2 % nothing is searched."""
    y, x = np.indices(SHAPE) - MIDDLE
    radius, found = np.hypot(x, y), {0.05: [], 0.01: []}
    for level, numbers in found.items():
        share = np.select([radius < 34, radius < 40], [1.0, level])
        rim = dataclasses.replace(field(share > 0), exposure=EXPOSURE * share, background=background * share)
        for seed in range(6):
            expected = rim.background * np.where(share == level, 1.2, 1.0)
            counts = np.random.default_rng(seed).poisson(expected).astype(float)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyResultWarning)
                table = find_sources(dataclasses.replace(rim, counts=counts))
            numbers.append(np.sum(distances(table, MIDDLE, MIDDLE) > 34))
    assert sum(found[0.05]) <= 6 and sum(found[0.01]) == 0


@pytest.mark.parametrize("width", [2, 4])
def test_fits_converge_on_a_gap(width):
    """One candidate, a point, at its place and with its counts, within the errors of the fit."""
    deviations = []
    for seed in range(3):
        found = detect(observe(strip(width, 20), [(MIDDLE, MIDDLE, 1500, 0)], seed), false_alarm=1e-5)
        assert_one_source(found, MIDDLE, MIDDLE)
        row = found[np.argmin(distances(found, MIDDLE, MIDDLE))]
        assert row["x_class"] == "P1"
        deviations.append(((row["counts"] - 1500 * u.ct) / row["counts_err"]).to_value(""))
        assert distances(found, MIDDLE, MIDDLE).min() * PIXEL < 4 * row["pos_err"].to_value(u.arcsec)
    assert np.all(np.abs(deviations) < 4) and abs(np.mean(deviations)) < 3 / np.sqrt(3)


# ---- what is two stays two, what is noise stays noise


@pytest.mark.parametrize("ratio", [1, 3])
@pytest.mark.parametrize("width", [2, 4])
def test_two_sources_on_both_sides_of_a_gap_are_two(width, ratio):
    """Three full widths at half maximum (9.5 arcsec) apart."""
    places = [(MIDDLE - 3.6, MIDDLE, 1000), (MIDDLE + 3.6, MIDDLE, 1000 / ratio)]
    for seed in range(4):
        found = find_sources(observe(strip(width, 0), [(*place, 0) for place in places], seed))
        for x, y, _ in places:
            assert distances(found, x, y).min() < 2
        assert np.sum(distances(found, MIDDLE, MIDDLE) < 8) == 2


def smooth_spot(sigma, height):
    y, x = np.indices(SHAPE) - MIDDLE
    return height * np.exp(-(x**2 + y**2) / (2 * sigma**2)) + BACKGROUND


@pytest.mark.parametrize(("sigma", "width", "error"), [(1.5, 2, 0.25), (1.5, 4, 0.5), (3.0, 4, 0.1), (8.0, 4, 0.05)])
def test_the_fill_is_what_the_gap_hides(sigma, width, error):
    """Without noise, for spots as narrow as the core of the point spread function and wider; error of the sum."""
    usable, height = strip(width, 0), 50.0
    spot, background = smooth_spot(sigma, height), np.where(usable, BACKGROUND, 0.0)
    counts, background, filled = fill_gaps(np.where(usable, spot, 0.0), background, usable, 2.6)
    gap = filled & ~usable
    assert gap[44:52, 48 - width // 2 : 48 + width // 2].all()
    assert abs(counts[gap].sum() / spot[gap].sum() - 1) < error
    peak = np.unravel_index(np.argmax(np.where(gap, counts, 0.0)), SHAPE)
    assert np.hypot(peak[0] - MIDDLE, peak[1] - MIDDLE) < 2
    np.testing.assert_allclose(background[gap], BACKGROUND)
    np.testing.assert_array_equal(counts[usable], spot[usable])


@pytest.mark.parametrize(
    ("usable", "height"),
    [
        pytest.param(strip(4, 0), 0.0, id="nothing shines"),
        pytest.param(strip(12, 0), 50.0, id="gap too wide"),
        pytest.param(half(48), 50.0, id="edge of exposure"),
        pytest.param(np.ones(SHAPE, bool), 50.0, id="no gap"),
        pytest.param(np.zeros(SHAPE, bool), 50.0, id="no exposure"),
    ],
)
def test_nothing_is_filled_where_nothing_is_known(usable, height):
    counts, background = (np.where(usable, image, 0.0) for image in (smooth_spot(3.0, height), BACKGROUND))
    counts, background, filled = fill_gaps(counts, background, usable, 2.6)
    np.testing.assert_array_equal(filled, usable)
    assert not counts[~usable].any() and not background[~usable].any()
