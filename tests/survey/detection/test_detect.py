"""Truth of the detection: injected sources at their places, valleys between cones, noise at edges, real images."""

import dataclasses
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from scipy import ndimage

from astroclassify import tables
from astroclassify.exceptions import EmptyResultWarning, GeometryError
from astroclassify.images import write_image
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_field
from astroclassify.survey import (
    Field,
    KingPsf,
    combine_fields,
    detect,
    filter_image,
    find_sources,
    fit_extent,
    model_image,
    read_catalogue,
    read_field,
)
from astroclassify.survey.detection._search import segment
from astroclassify.tables import CANDIDATES, validate

PIXEL = 2.5  # arcsec
# Column, row, counts, core radius [arcsec].
SOURCES = [(30, 40, 80, 0), (120, 35, 300, 0), (80, 80, 2000, 0), (40, 125, 800, 20), (125, 120, 150, 0)]


def empty_field(shape=(160, 160), background=0.05, usable=None, camera="EPN", exposure=1e4):
    """Field without counts around the optical axis, background known."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-PIXEL / 3600, PIXEL / 3600]
    usable = np.ones(shape, bool) if usable is None else usable
    exposure = np.where(usable, float(exposure), 0.0)
    background = np.where(usable, background, 0.0)
    axis = SkyCoord(150 * u.deg, 2 * u.deg)
    return Field(np.zeros(shape), exposure, background, ~usable, wcs, KingPsf(camera), axis, instrument=camera)


def observe(field, sources=(), seed=1):
    """Poisson counts of the background and of sources."""
    expected = field.background
    if len(sources):
        x, y, counts, ext = np.transpose(sources)
        expected = expected + model_image(field, x, y, counts=counts, ext=ext)
    return dataclasses.replace(field, counts=np.random.default_rng(seed).poisson(expected).astype(float))


def distances(table, x, y):
    """Distances [pixels] of the rows of a table from a place."""
    return np.hypot(table["x"].value - x, table["y"].value - y)


@pytest.fixture(scope="module")
def field():
    return observe(empty_field(), SOURCES)


@pytest.fixture(scope="module")
def candidates(field):
    return detect(field)


# ---- where sources are found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_injected_sources_are_found_at_their_places(seed):
    found = find_sources(observe(empty_field(), SOURCES, seed))
    half = KingPsf("EPN").radius(0.5, 0.0) / PIXEL
    for x, y, counts, ext in SOURCES:
        away = distances(found, x, y)
        size = np.hypot(half, 2 * ext / PIXEL)
        # Two to three standard errors of the photons' mean: barycentres of a filtered image are no fit.
        assert away.min() < 0.5 + 8 * size / np.sqrt(counts)
        assert np.sum(away < 10) == 1 or ext
        if ext == 0:
            # The wings of the point spread function stay below the noise.
            filtered = found["filtered_counts"][np.argmin(away)].value
            assert 0.65 * counts - 3 * np.sqrt(counts) < filtered < 1.05 * counts + 3 * np.sqrt(counts)
    # The search is generous: a false alarm or two of a few counts.
    assert len(found) <= len(SOURCES) + 5
    assert np.all(found["filtered_counts"][len(SOURCES) :] < 25 * u.ct)


def test_positions_have_no_bias():
    """Means over 40 sources, at places within the pixel that average to 0.5: half a pixel off would be twelve sigma."""
    rng, offsets = np.random.default_rng(3), []
    for seed in range(10):
        places = [(40 + rng.random(), 40 + rng.random()), (40 + rng.random(), 120 + rng.random())]
        places += [(120 + rng.random(), 40 + rng.random()), (120 + rng.random(), 120 + rng.random())]
        found = find_sources(observe(empty_field(), [(*place, 400, 0) for place in places], seed))
        for x, y in places:
            row = found[np.argmin(distances(found, x, y))]
            offsets.append((row["x"].value - x, row["y"].value - y))
    error = np.std(offsets, axis=0) / np.sqrt(len(offsets))
    assert np.all(np.abs(np.mean(offsets, axis=0)) < 4 * error) and np.all(error < 0.06)


def test_columns_of_find_sources(field):
    found = find_sources(field, false_alarm=1e-4)
    assert found.colnames == [
        "source_id", "parent_id", "sky_position", "x", "y", "filtered_counts", "area", "radius", "region_radius",
        "flags",
    ]  # fmt: skip
    assert [str(name) for name in found["source_id"]] == [str(number) for number in range(1, len(found) + 1)]
    assert np.all(np.diff(found["filtered_counts"].value) <= 0)
    sky = field.wcs.pixel_to_world(found["x"].value, found["y"].value)
    assert np.all(sky.separation(found["sky_position"]) < 1e-6 * u.arcsec)
    np.testing.assert_allclose((np.pi * found["radius"] ** 2).to_value(u.arcsec**2), found["area"].value)
    assert np.all(found["area"].value >= 5 * PIXEL**2)
    assert found.meta["false_alarm"] == 1e-4
    # All that the filter leaves is in one source or another.
    image = filter_image(field, false_alarm=1e-4)
    pieces, _ = ndimage.label(image > 0, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    whole = image[(pieces > 0) & (sizes[pieces] >= 5)].sum()
    assert found["filtered_counts"].value.sum() == pytest.approx(whole, rel=1e-9)


def test_fewer_sources_with_a_stricter_threshold(field):
    numbers = [len(find_sources(field, false_alarm=probability)) for probability in (1e-2, 1e-3, 1e-4)]
    assert numbers[0] > numbers[1] + 5 and numbers[1] >= numbers[2] >= len(SOURCES)


def test_scales_choose_the_size_of_structure(field):
    """A point source needs small scales, a wide one is seen on large ones; the default takes both."""
    wide = observe(empty_field(), [(80, 80, 600, 30)])
    assert distances(find_sources(wide, scales=4), 80, 80).min() < 6
    x, y = SOURCES[0][:2]
    fine, coarse = (find_sources(field, scales=scales) for scales in ([1, 2], [4]))
    sizes = [found["radius"][np.argmin(distances(found, x, y))] for found in (fine, coarse)]
    assert sizes[0] < 0.7 * sizes[1]
    default, same = filter_image(field), filter_image(field, scales=range(2, 5))
    np.testing.assert_array_equal(default, same)


def test_a_field_of_a_few_pixels():
    small = observe(empty_field((12, 9), 0.01), [(4, 6, 200, 0)])
    found = find_sources(small)
    assert distances(found[:1], 4, 6)[0] < 2


# ---- deblending


@pytest.mark.parametrize("separation", [7, 12])
def test_two_peaks_are_two_sources(separation):
    for seed in range(4):
        found = find_sources(observe(empty_field(), [(75, 80, 500, 0), (75 + separation, 80, 350, 0)], seed))
        assert distances(found, 75, 80).min() < 1.5 and distances(found, 75 + separation, 80).min() < 1.5
        assert np.sum(distances(found, 75 + separation / 2, 80) < separation) == 2


@pytest.mark.parametrize(("counts", "ext"), [(60, 0), (600, 0), (20_000, 0), (300, 10), (20_000, 10)])
def test_a_single_peak_is_one_source(counts, ext):
    numbers = []
    for seed in range(5):
        found = find_sources(observe(empty_field(), [(80, 80, counts, ext)], seed))
        assert distances(found[:1], 80, 80)[0] < 4
        numbers.append(np.sum(distances(found, 80, 80) < 20))
    assert sum(numbers) <= 5 + (ext > 0)


def cones(shape, tops):
    """The higher one of cones: column, row, height, slope."""
    y, x = np.indices(shape)
    return np.max([np.clip(top - slope * np.hypot(x - a, y - b), 0, None) for a, b, top, slope in tops], axis=0)


@pytest.mark.parametrize(("saddle", "expected"), [(0.65, 2), (0.75, 1)])
def test_a_peak_counts_if_it_stands_above_the_saddle_by_thirty_percent(saddle, expected):
    """Two cones of the same height 1e6, 20 pixels apart: the saddle is at 1e6 (1 - 10 slope)."""
    slope = (1 - saddle) / 10 * 1e6
    image = cones((41, 61), [(20, 20, 1e6, slope), (40, 20, 1e6, slope)])
    labels = segment(image, np.zeros(image.shape), 1)
    assert labels.max() == expected
    assert np.array_equal(labels > 0, image > 0)
    if expected == 2:
        assert len(np.unique(labels[image > 0.99 * image.max()])) == 2
        assert np.all(labels[:, :30][image[:, :30] > 0] == labels[20, 20])
        assert np.all(labels[:, 31:][image[:, 31:] > 0] == labels[20, 40])


@pytest.mark.parametrize(("finest", "height", "expected"), [(1, 8, 1), (1, 30, 1), (1, 60, 2), (3, 8, 2), (3, 0.8, 1)])
def test_a_peak_counts_if_it_stands_out_of_the_noise(finest, height, expected):
    """
    Two cones whose saddle is at half of their height, on a background of one count per pixel.

    The mean over the pixels that the finest scale joins (1, or 4 pi (4^(j-1) - 1) / 3) has a noise at the saddle of 4.0
    for a height of 30 (the peak stands out by 15) and 5.6 for 60 (30); for the third scale of 0.28 for 8 (4) and 0.15
    for 0.8 (0.4). Wanted are four times the noise, or 30 % of the height.
    """
    image = cones((41, 61), [(20, 20, height, height / 20), (40, 20, height, height / 20)])
    assert segment(image, np.ones(image.shape), finest).max() == expected


def test_peaks_on_a_slope_belong_to_the_highest_that_they_touch():
    """Three cones in a row with deep and shallow saddles: the middle one joins its shallow side."""
    image = cones((41, 101), [(20, 20, 1000, 60), (60, 20, 1000, 15), (72, 20, 1100, 15)])
    labels = segment(image, np.zeros(image.shape), 1)
    assert labels.max() == 2
    assert labels[20, 60] == labels[20, 72] != labels[20, 20]


def test_segments_are_connected_groups_of_five_pixels_and_more():
    """Blocks of one height have no peak of their own to part; against labels by scipy."""
    rng = np.random.default_rng(5)
    image = np.where(rng.random((80, 80)) > 0.72, 3.0, 0.0)
    labels = segment(image, np.zeros(image.shape), 1)
    pieces, _ = ndimage.label(image > 0, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    expected = np.where(sizes[pieces] >= 5, pieces, 0)
    assert np.array_equal(labels > 0, expected > 0) and (sizes[1:] < 5).any()
    pairs = np.unique(np.stack([labels[labels > 0], expected[labels > 0]]), axis=1)
    assert pairs.shape[1] == labels.max() == len(np.unique(expected)) - 1
    assert segment(np.zeros((9, 9)), np.zeros((9, 9)), 1).max() == 0


def test_region_is_that_of_all_sources_that_touch():
    """Two sources of one region share its area; a source on its own has its own."""
    sources = [(60, 80, 800, 0), (70, 80, 800, 0), (120, 40, 800, 0)]
    found = find_sources(observe(empty_field(), sources), false_alarm=1e-4)
    first, second, alone = (found[np.argmin(distances(found, x, y))] for x, y in ((60, 80), (70, 80), (120, 40)))
    area = np.pi * first["region_radius"] ** 2
    assert first["region_radius"] == second["region_radius"] > 1.3 * first["radius"]
    assert area.value == pytest.approx((first["area"] + second["area"]).value)
    assert alone["region_radius"].value == pytest.approx(alone["radius"].value)


# ---- edges, gaps, masks


def chips(shape=(160, 160)):
    """Usable pixels: a round field of view with two gaps."""
    y, x = np.indices(shape)
    usable = np.hypot(x - 80, y - 80) < 76
    usable[:, 100:104] = False
    usable[50:53, :] = False
    return usable


def test_noise_at_gaps_and_edges_gives_no_more_sources_than_elsewhere():
    usable = chips()
    distance = ndimage.distance_transform_edt(usable)
    beside, numbers = (distance > 0) & (distance <= 6), np.zeros(2)
    for seed in range(25):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyResultWarning)
            found = find_sources(observe(empty_field(usable=usable), seed=seed), false_alarm=1e-2)
        columns, rows = (np.clip(np.rint(found[name].value), 0, 159).astype(int) for name in "xy")
        near = distance[rows, columns] <= 6
        numbers += near.sum(), (~near).sum()
    areas = beside.sum(), (distance > 6).sum()
    assert numbers[1] > 100
    expected = numbers[1] * areas[0] / areas[1]
    assert numbers[0] < expected + 4 * np.sqrt(expected)


def test_sources_beside_gaps_and_edges_are_found_and_flagged():
    usable = chips()
    sources = [(80, 100, 300, 0), (106, 120, 300, 0), (60, 55, 300, 0), (80, 6, 300, 0)]
    observed = observe(empty_field(usable=usable), sources)
    found = find_sources(observed, false_alarm=1e-4)
    for number, (x, y, _, _) in enumerate(sources):
        row = found[np.argmin(distances(found, x, y))]
        assert distances(found, x, y).min() < 2.5
        assert row["flags"] == (Flag.MASKED.value if number else 0)
    fitted = detect(observed, false_alarm=1e-4)
    flags = [fitted["flags"][np.argmin(distances(fitted, x, y))] for x, y, _, _ in sources]
    assert flags == [0, *[Flag.MASKED.value] * 3]


def test_a_source_on_the_edge_of_the_image_is_flagged():
    sources = [(0, 80, 600, 0), (80, 159, 600, 0), (50, 50, 300, 0)]
    observed = observe(empty_field(), sources)
    for table in (find_sources(observed, false_alarm=1e-4), detect(observed, false_alarm=1e-4)):
        for x, y, _, _ in sources:
            row = table[np.argmin(distances(table, x, y))]
            assert distances(table, x, y).min() < 2.5
            assert row["flags"] == (0 if x == 50 else Flag.OFF_EDGE.value)


def test_flags_of_the_search_are_kept():
    """A cluster that reaches a gap is flagged, though the fit's own flag is for the point spread function's core."""
    usable = np.ones((160, 160), bool)
    usable[:, 95:99] = False
    observed = observe(empty_field(usable=usable), [(84, 80, 1500, 20)])
    found = find_sources(observed, false_alarm=1e-4)
    assert found["flags"][0] == Flag.MASKED.value and fit_extent(observed, found[:1])["flags"][0] == 0
    assert detect(observed, false_alarm=1e-4)["flags"][0] == Flag.MASKED.value


def test_a_source_in_a_gap_keeps_a_flagged_row():
    """What spills out of a gap of ten arcsec is one candidate, flagged."""
    usable = np.ones((160, 160), bool)
    usable[:, 78:82] = False
    found = detect(observe(empty_field(usable=usable), [(79.5, 80, 400, 0)]), false_alarm=1e-4)
    near = found[distances(found, 79.5, 80) < 8]
    assert len(near) == 1 and distances(near, 79.5, 80)[0] < 1.5
    assert near["flags"][0] == Flag.MASKED.value and near["pnt_det_like"][0] > 30


def test_masked_and_unexposed_pixels_are_not_searched(field):
    """A bright source under a mask, or where hardly any exposure is, does not exist."""
    mask = np.zeros(field.shape, bool)
    mask[60:100, 60:100] = True
    exposure = np.where(mask, 0.01 * field.exposure, field.exposure)
    background = np.where(mask, np.nan, field.background)
    for changed in ({"mask": mask}, {"exposure": exposure}, {"background": background}):
        found = find_sources(dataclasses.replace(field, **changed))
        away = distances(found, 80, 80)
        assert away.min() > 15 and distances(found, 120, 35).min() < 1.5


# ---- detect


def test_candidates_have_all_columns(candidates):
    assert validate(candidates, CANDIDATES).colnames == candidates.colnames
    assert {"pos_err", "filtered_counts", "area", "message", "best_model"} <= set(candidates.colnames)
    assert candidates.meta["likelihood"] == "delta-c" and candidates.meta["false_alarm"] == 1e-3
    assert "astroclassify" in candidates.meta
    counts = candidates["filtered_counts"].value
    assert np.all(np.diff(counts) <= 0)


def test_candidates_tell_points_from_the_extended_source(candidates):
    for x, y, counts, ext in SOURCES:
        row = candidates[np.argmin(distances(candidates, x, y))]
        assert distances(candidates, x, y).min() < 3
        assert abs(row["counts"].value - counts) < 4 * row["counts_err"].value
        assert row["x_class"] == ("C1" if ext else "P1")
        if ext:
            assert abs(row["ext"].value - ext) < 4 * row["ext_err"].value and row["ext_like"] > 33
        else:
            assert row["ext_like"] < 10
        assert row["off_axis"].value == pytest.approx(np.hypot(row["x"].value - 79.5, row["y"].value - 79.5) / 24)
    classes = set(candidates["x_class"].tolist())
    assert classes <= {"C1", "C2", "P1", ""}


def test_rate_is_per_exposure(candidates):
    row = candidates[np.argmin(distances(candidates, 80, 80))]
    assert row["rate"].to_value(u.ct / u.s) == pytest.approx(row["counts"].value / 1e4, rel=1e-3)


def test_likelihood_by_another_convention(field, candidates):
    other = detect(field, likelihood="ln-p", false_alarm=1e-4)
    assert other.meta["likelihood"] == "ln-p"
    rows = [table[np.argmin(distances(table, 120, 35))] for table in (candidates, other)]
    # -ln P(chi2 > gain) is about half the gain.
    assert rows[1]["det_like"] == pytest.approx(rows[0]["det_like"] / 2, rel=0.02)


def test_several_cameras_are_searched_and_fitted_together(field):
    second = observe(empty_field(camera="EMOS1", exposure=5e3, background=0.02), [], seed=9)
    expected = second.background + model_image(second, 120, 35, counts=150, ext=0)
    second = dataclasses.replace(second, counts=np.random.default_rng(4).poisson(expected).astype(float))
    both = detect([field, second], false_alarm=1e-4)
    row = both[np.argmin(distances(both, 120, 35))]
    np.testing.assert_allclose(row["field_counts"].value, [300, 150], atol=4 * np.sqrt(300))
    assert row["counts"].value == pytest.approx(row["field_counts"].value.sum())
    assert row["rate"].to_value(u.ct / u.s) == pytest.approx(row["counts"].value / 1.5e4, rel=1e-3)
    only_first = both[np.argmin(distances(both, 30, 40))]["field_counts"].value
    assert only_first[1] < 0.2 * only_first[0]
    alone = detect([field], false_alarm=1e-4)
    assert "field_counts" not in alone.colnames


def test_a_source_too_faint_for_one_camera_is_found_in_three():
    """Twelve counts in each: three of six are found with one camera, all with three."""
    found = np.zeros(2, int)
    for seed in range(6):
        cameras = [observe(empty_field((96, 96), 0.02), [(40, 50, 12, 0)], 10 * seed + number) for number in range(3)]
        for number, (function, chosen) in enumerate(((find_sources, cameras[0]), (detect, cameras))):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyResultWarning)
                table = function(chosen, false_alarm=1e-6)
            found[number] += np.sum(distances(table, 40, 50) < 4)
    assert found[1] >= 5 and found[0] <= found[1] - 2


def test_sources_far_off_axis_are_left_out(field, candidates):
    limit = 1.5 * u.arcmin
    near = detect(field, max_off_axis=limit)
    assert 0 < len(near) < len(candidates) and np.all(near["off_axis"] <= limit + 2 * PIXEL * u.arcsec)
    within = np.hypot(candidates["x"].value - 79.5, candidates["y"].value - 79.5) * PIXEL < 80
    assert len(near) >= within.sum() >= 1


def test_sources_just_beyond_the_limit_are_fitted_as_neighbours():
    """A source within it, twelve pixels from one five times as bright beyond it, has the counts that it has without."""
    observed = observe(empty_field(), [(98, 80, 200, 0), (110, 80, 1000, 0)])
    everything = detect(observed, false_alarm=1e-4)
    near = detect(observed, false_alarm=1e-4, max_off_axis=1 * u.arcmin)
    assert len(near) == 1 and len(everything) >= 2
    same = everything[np.argmin(distances(everything, 98, 80))]
    assert near["counts"][0].value == pytest.approx(same["counts"].value, rel=0.02)
    assert abs(same["counts"].value - 200) < 4 * same["counts_err"].value


def test_nothing_near_the_axis_is_a_table_without_rows():
    """Whether the source is far away or near enough to be fitted as a neighbour."""
    for place in (5, 40):
        observed = observe(empty_field(), [(place, 80, 300, 0)])
        with pytest.warns(EmptyResultWarning, match="none of the 1 sources found lies within 1.0 arcmin of"):
            table = detect(observed, max_off_axis=1 * u.arcmin, false_alarm=1e-6)
        assert len(table) == 0 and validate(table, CANDIDATES).colnames == table.colnames


@pytest.mark.parametrize("background", [0.0, 0.05])
def test_nothing_found_is_a_table_without_rows(background):
    blank = empty_field(background=background)
    with pytest.warns(EmptyResultWarning, match="no sources were found"):
        found = find_sources(blank)
    assert len(found) == 0 and "filtered_counts" in found.colnames
    with pytest.warns(EmptyResultWarning, match="no sources were found"):
        table = detect(blank)
    assert len(table) == 0
    assert validate(table, CANDIDATES).colnames == table.colnames
    assert table["ext"].unit == u.arcsec and isinstance(table["sky_position"], SkyCoord)
    assert not filter_image(blank).any()


def test_one_source_that_fills_the_field():
    """A cluster with a core of a fifth of the field: its middle is the brightest source by far, and few are near it."""
    observed = observe(empty_field((120, 120)), [(60, 60, 40_000, 60)])
    found = find_sources(observed)
    assert distances(found[:1], 60, 60)[0] < 12
    assert found["filtered_counts"][0] > 3 * found["filtered_counts"][1]
    # With the noise of the background alone there were 40 within the core radius and 230 in all.
    assert np.sum(distances(found, 60, 60) < 24) <= 12 and len(found) < 100
    fitted = fit_extent(observed, found[:1])[0]
    assert fitted["ext"].value == pytest.approx(60, rel=0.15) and fitted["ext_like"] > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"false_alarm": 0.0}, "false_alarm must be a finite number from 1e-12 to 0.1, got 0.0"),
        ({"false_alarm": 0.5}, "false_alarm must be a finite number from 1e-12 to 0.1"),
        ({"false_alarm": np.nan}, "false_alarm must be a finite number from 1e-12 to 0.1"),
        ({"false_alarm": "few"}, "false_alarm must be a finite number from 1e-12 to 0.1, got 'few'"),
        ({"scales": []}, r"scales must be whole numbers from 1 to 4 for \(160, 160\) pixels, got \[\]"),
        ({"scales": [0, 2]}, "scales must be whole numbers from 1 to 4"),
        ({"scales": 5}, "scales must be whole numbers from 1 to 4"),
        ({"scales": 1.5}, r"scales must be whole numbers from 1 to 4 .* got \[1.5\]"),
        ({"scales": "fine"}, "scales must be whole numbers"),
    ],
)
@pytest.mark.parametrize("function", [filter_image, find_sources, detect])
def test_bad_arguments_are_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(empty_field(), **arguments)


@pytest.mark.parametrize("value", [None, np.zeros((9, 9)), "field.fits", fits.PrimaryHDU(np.zeros((9, 9)))])
@pytest.mark.parametrize("function", [filter_image, find_sources, detect])
def test_only_fields_can_be_searched(function, value):
    with pytest.raises(TypeError, match=f"field must be a Field .from read_field., got {type(value).__name__}"):
        function(value)


def test_bad_arguments_of_detect_are_named(field):
    with pytest.raises(ValueError, match="likelihood must be one of"):
        detect(field, likelihood="chi2", false_alarm=1e-6)
    with pytest.raises(TypeError, match="max_off_axis must be a Quantity"):
        detect(field, max_off_axis=13)
    with pytest.raises(ValueError, match="max_off_axis must have a unit like arcmin"):
        detect(field, max_off_axis=13 * u.s)
    with pytest.raises(ValueError, match="max_off_axis must be larger than zero"):
        detect(field, max_off_axis=-1 * u.arcmin)
    with pytest.raises(TypeError, match="field must be a Field .* got int"):
        detect([field, 3])
    with pytest.raises(GeometryError, match="at least one field"):
        detect([])
    with pytest.raises(GeometryError, match="fields must be on one grid"):
        detect([field, empty_field((80, 80))])


# ---- real observations


def aperture_sums(image, radius):
    """Sums over discs around every pixel."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return ndimage.correlate(np.asarray(image, float), (np.hypot(x, y) <= radius).astype(float), mode="constant")


@pytest.fixture(scope="module")
def coma(shared_data):
    return read_field(shared_data / "xmm" / "0124710801_PN_image_500-12000.fits")


@pytest.mark.real_data
def test_xmm_sources_in_front_of_coma(coma):
    """All that stands out by seven sigma in apertures of 12 arcsec, from a ring out to 32 arcsec, is found."""
    found = find_sources(coma)
    inner, outer = (aperture_sums(coma.counts, radius) for radius in (3, 8))
    area_in, area_out, area_all = (aperture_sums(np.ones(coma.shape), radius) for radius in (3, 8, 12))
    level = area_in * (outer - inner) / (area_out - area_in)
    excess = (inner - level) / np.sqrt(np.maximum(level, 1.0))
    inside = aperture_sums(coma.exposure > 0, 12) > 0.999 * area_all
    rows, columns = np.nonzero((excess == ndimage.maximum_filter(excess, 13)) & (excess > 7) & inside)
    assert 10 <= len(rows) <= 25  # away from the gaps between the chips
    for x, y in zip(columns, rows, strict=True):
        assert distances(found, x, y).min() < 3
    # With the noise of the background alone, Coma's gas in the upper right would be a thousand sources.
    assert len(found) < 350


@pytest.mark.real_data
@pytest.mark.slow
def test_xmm_point_sources_are_points(coma):
    """A piece of the field beside Coma with three of the brightest sources."""
    part = slice(290, 410), slice(185, 305)
    arrays = {name: getattr(coma, name)[part] for name in ("counts", "exposure", "background", "mask")}
    piece = dataclasses.replace(coma, wcs=coma.wcs[part], **arrays)
    found = detect(piece, false_alarm=1e-4)
    for x, y in ((213, 344), (266, 344)):
        row = found[np.argmin(distances(found, x - 185, y - 290))]
        assert distances(found, x - 185, y - 290).min() < 1.5
        assert row["pnt_det_like"] > 500 and row["ext"] < 5 * u.arcsec
    assert np.all(found["off_axis"] < 17 * u.arcmin)


@pytest.mark.real_data
def test_rosat_cluster_is_one_extended_source(shared_data):
    """Abell 3158 at the place that the MCXC gives, with the core radius of the beta model."""
    folder = shared_data / "rosat"
    field = read_field(
        folder / "pyproffit_b_37.fits.gz",
        exposure=folder / "pyproffit_expose_mask_37.fits.gz",
        background=folder / "pyproffit_back_37.fits.gz",
    )
    found = detect(field, max_off_axis=9 * u.arcmin, false_alarm=1e-4)
    known = read_catalogue(shared_data / "catalogues" / "mcxc.fits")
    separation = known["sky_position"].separation(field.axis)
    cluster = known[np.argmin(separation)]
    assert cluster["source_id"] == "J0342.8-5338"
    away = found["sky_position"].separation(cluster["sky_position"])
    best = found[0]
    assert away[0] < 60 * u.arcsec
    psf = field.psf.radius(0.5, 0.0) * u.arcsec
    assert best["x_class"] == "C1" and best["ext_like"] > 1000 and best["ext"] > 8 * psf
    assert 120 * u.arcsec < best["ext"] < 220 * u.arcsec and 5000 * u.ct < best["counts"] < 8000 * u.ct
    others = found["ext_like"][1:]
    assert np.all((others < 33) | (found["counts"][1:] < 0.1 * best["counts"]))


@pytest.mark.real_data
def test_chandra_point_source_is_a_point(shared_data):
    (path,) = (shared_data / "chandra").glob("sherpatest_acisf07999_*_srcimg.fits")
    field = read_field(path)
    found = detect(field, false_alarm=1e-4)
    best = found[0]
    assert best["pnt_det_like"] == found["pnt_det_like"].max() > 25
    assert best["ext_like"] < 1 and best["x_class"] == "P1" and best["best_model"] == "PNT"
    # The Chandra Source Catalog cuts its images around the source; an aperture of 4 arcsec there holds most counts.
    y, x = np.unravel_index(np.argmax(aperture_sums(field.counts, 8)), field.shape)
    for place in ((x, y), ((field.shape[1] - 1) / 2, (field.shape[0] - 1) / 2)):
        assert distances(found[:1], *place)[0] * field.pixel < 3


def test_candidates_say_which_field_they_are_from(tmp_path):
    """Of two cameras, read from files, added or not, and through a file of the table."""
    fields = []
    for name in ("EPN", "EMOS1"):
        image = simulate_field(rng=1, shape=(96, 96)).field.to_ccd()
        image.meta = {**image.meta, "INSTRUME": name, "OBS_ID": "0123456789"}
        fields.append(read_field(write_image(image, tmp_path / f"{name}.fits")))
    (both,) = detect(combine_fields(fields)).meta["fields"]
    assert both["image"] == "EPN.fits+EMOS1.fits" and both["obs_id"] == "0123456789"
    assert both["instrument"] == "EPN+EMOS1" and both["energy_range"] == [0.5, 2.0]
    candidates = detect(fields)
    first, second = candidates.meta["fields"]
    assert (first["image"], second["image"]) == ("EPN.fits", "EMOS1.fits")
    assert first["psf"] == repr(fields[0].psf) and first["exposure"] == fields[0].livetime
    for ending in (".ecsv", ".fits", ".vot"):
        back = tables.read(tables.write(candidates, tmp_path / f"candidates{ending}"))
        assert back.meta["fields"] == [first, second]
