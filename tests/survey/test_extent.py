"""Fits of point and extended sources: an independent model and optimiser, photons drawn one by one, and bad input."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from astropy.wcs import WCS
from scipy.optimize import minimize
from scipy.stats import chi2

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import Flag
from astroclassify.survey import GaussianPsf, KingPsf, fit_extent, inject_sources, model_image, read_field
from astroclassify.survey._extent_model import Camera, Component, Model, best_amplitude, cut_patch
from astroclassify.survey._extent_profile import profile_table
from astroclassify.survey._extent_sources import set_neighbours

PIXEL = 2.5  # arcsec
LEVEL = 0.02  # background counts per pixel


def make_wcs(n, pixel=PIXEL, angle=0.0):
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [55.7, -53.6], [(n + 1) / 2, (n + 1) / 2]
    wcs.wcs.cdelt, wcs.wcs.pc = [-pixel / 3600, pixel / 3600], [[cos, -sin], [sin, cos]]
    wcs.wcs.set()
    return wcs


def make_field(n=121, *, level=LEVEL, psf=None, exposure=1e4, pixel=PIXEL, angle=0.0, mask=None, seed=None):
    """Background of one level, drawn with a seed or without a photon; times the exposure in units of 10 ks."""
    exposure = np.broadcast_to(np.asarray(exposure, float), (n, n))
    background = level * exposure / 1e4
    counts = np.zeros((n, n)) if seed is None else np.random.default_rng(seed).poisson(background).astype(float)
    image = CCDData(counts, unit=u.ct, wcs=make_wcs(n, pixel, angle), meta={"INSTRUME": "EPN"})
    return read_field(image, exposure=exposure, background=background, psf=psf, mask=mask)


def add(field, x, y, counts, ext, seed):
    """Photons drawn one by one: nothing of the fits' tables is in them."""
    x, y, counts, ext = np.broadcast_arrays(np.atleast_1d(x), y, counts, ext)
    rows = {"x": x * u.pix, "y": y * u.pix, "counts": counts * u.ct, "core_radius": ext * u.arcsec}
    return inject_sources(field, QTable(rows), rng=seed)


def at(field, x, y):
    return field.wcs.pixel_to_world(np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float)))


def pulls(row, name, truth):
    return (row[name].value - truth) / row[f"{name}_err"].value


class ByTransform:
    """
    A second model of a beta model or a point on the pixels of an image.

    Point spread function, pixel and the beta model's exp(-k EXT) are multiplied on a grid of half-pixels, the place is a
    phase; Cash statistic and numerical derivatives, minimised by scipy.
    """

    def __init__(self, field, inside, n=384):
        self.field, self.inside, self.n = field, inside, n
        axis = np.fft.fftfreq(n, 1 / n) * PIXEL / 2
        psf = field.psf.profile(np.hypot(axis, axis[:, np.newaxis]), 0.0) * (PIXEL / 2) ** 2
        kx, ky = np.fft.rfftfreq(n, PIXEL / 2), np.fft.fftfreq(n, PIXEL / 2)[:, np.newaxis]
        self.kx, self.ky, self.k = kx, ky, 2 * np.pi * np.hypot(kx, ky)
        self.shape = np.fft.rfft2(psf) * np.sinc(kx * PIXEL) * np.sinc(ky * PIXEL) * 4

    def image(self, x, y, ext):
        rows, columns = self.field.shape
        phase = np.exp(-2j * np.pi * PIXEL * (self.kx * x + self.ky * y))
        whole = np.fft.irfft2(self.shape * phase * np.exp(-self.k * ext), (self.n, self.n))
        return whole[: 2 * rows : 2, : 2 * columns : 2]

    def statistic(self, counts=0.0, x=0.0, y=0.0, ext=0.0):
        model = (self.field.background + counts * self.image(x, y, ext))[self.inside]
        return 2 * np.sum(model - self.field.counts[self.inside] * np.log(model))

    def minimum(self, start):
        """Counts, x, y, and EXT if it is in the start."""
        scale = np.array([np.sqrt(start[0]), 1.0, 1.0, 3.0])[: len(start)]

        def cost(p):
            return self.statistic(*np.maximum(p * scale, [1.0, 0, 0, 0.0][: len(p)]))

        found = minimize(cost, np.array(start) / scale, method="L-BFGS-B", options={"eps": 1e-4, "ftol": 1e-10})
        return found.x * scale, found.fun


@pytest.mark.parametrize(
    ("ext", "counts", "place"), [(20.0, 500, (59.3, 60.8)), (6.0, 200, (61.2, 60.1)), (0.0, 80, (60.4, 59.6))]
)
def test_same_minimum_as_an_independent_program(ext, counts, place):
    """Same pixels: parameters within a tenth of their errors, statistics within 0.1 of each other."""
    field = add(make_field(level=0.03, seed=3), *place, counts, ext, 4)
    row = fit_extent(field, at(field, 60, 60), radius=120 * u.arcsec)[0]
    down, along = np.indices(field.shape)
    other = ByTransform(field, np.hypot(down - 60, along - 60) * PIXEL <= 120)
    (their_counts, x, y, their_ext), beta = other.minimum([counts, *place, max(ext, 3.0)])
    point_at, point = other.minimum([counts, *place])
    nothing = other.statistic()
    assert row["ext_like"] == pytest.approx(max(point - beta, 0.0), abs=0.1)
    assert row["pnt_det_like"] == pytest.approx(nothing - point, abs=0.1)
    # The best of the models: the ones with more parts are not tried here.
    assert row["best_model"] == ("EXT" if ext else "PNT")
    assert row["det_like"] == pytest.approx(nothing - (beta if ext else point), abs=0.1)
    if ext:
        assert abs(row["ext"].value - their_ext) < 0.1 * row["ext_err"].value
    else:
        their_counts, x, y = point_at
    assert abs(row["counts"].value - their_counts) < 0.1 * row["counts_err"].value
    error = row["pos_err"].value / np.sqrt(2) / PIXEL
    assert abs(row["x"].value - x) < 0.1 * error and abs(row["y"].value - y) < 0.1 * error


def two_cameras():
    """Patches of two cameras of different pixels and sharpness about one position, with a near and a far neighbour."""
    rng, patches = np.random.default_rng(1), []
    for pixel, psf, level in ((2.5, KingPsf("EPN"), 0.2), (4.0, GaussianPsf(9 * u.arcsec), 0.1)):
        shape = (90, 80)
        exposure = 1e4 * (1 + np.add.outer(np.arange(90), np.arange(80)) / 300)
        camera = Camera(
            rng.poisson(level * 2, shape).astype(float), exposure, np.full(shape, level), exposure > 0, pixel, psf
        )
        table = profile_table(psf, 0.0, pixel, 60.0)
        patches.append(cut_patch(camera, 40.2, 44.7, 70.0, pixel * np.array([[-1, 0.1], [0.1, 1]]), table, 1.2e4))
    set_neighbours(patches, [[patch.image(*place) for patch in patches] for place in ((20, 5, 0), (-50, 30, 25))])
    return patches


POINT, BETA = (Component(0, 1, None, 2),), (Component(0, 1, 2, 3),)
CENTRAL = (Component(0, 1, 2, 3), Component(0, 1, None, 5))
DOUBLE = (Component(0, 1, None, 4), Component(2, 3, None, 6))


@pytest.mark.parametrize(
    ("components", "parameters"),
    [
        ((), []),
        (POINT, [2.0, -3.0, 40, 25]),
        (BETA, [2.0, -3.0, 1.7, 140, 90]),
        (BETA, [1.0, 1.0, 0.0, 40, 30]),
        (CENTRAL, [-4.0, 2.0, 2.2, 150, 80, 20, 9]),
        (DOUBLE, [-4.0, 2.0, 6.0, -5.0, 50, 20, 30, 40]),
    ],
)
def test_derivatives_are_those_of_finite_differences(components, parameters):
    """Several cameras, free neighbours: gradient of the statistic; Fisher matrix from derivatives of the expected counts."""
    patches = two_cameras()
    # How the expected counts of all pixels change, by way of the statistic of one pixel less its logarithm.
    start = np.array([*parameters, 12.0, 7.0, 60.0, 30.0])
    model = Model(patches, components, len(parameters))
    statistic, gradient, fisher = model.evaluate(start)

    def expected(p):
        return np.concatenate([model._expected(p, camera, patch)[0] for camera, patch in enumerate(patches)])

    counts = np.concatenate([patch.counts for patch in patches])
    middle = expected(start)
    assert statistic == pytest.approx(2 * np.sum(middle - counts * np.log(middle)), rel=1e-12)
    slopes = []
    for index in range(len(start)):
        step = np.zeros(len(start))
        step[index] = 0.03 if index < len(parameters) - 2 else 0.5
        # EXT = 0 is an edge: from there only upwards, to second order.
        if components is BETA and start[index] == 0.0:
            slopes.append((4 * expected(start + step) - expected(start + 2 * step) - 3 * middle) / (2 * step[index]))
        else:
            slopes.append((expected(start + step) - expected(start - step)) / (2 * step[index]))
    slopes = np.array(slopes)
    by_hand, scale = slopes @ (1 - counts / middle), np.sqrt(np.diag(fisher))
    np.testing.assert_allclose(gradient / scale, by_hand / scale, atol=0.02)
    np.testing.assert_allclose(
        fisher / scale / scale[:, np.newaxis], (slopes / middle) @ slopes.T / scale / scale[:, np.newaxis], atol=0.01
    )


def test_best_counts_of_a_given_shape():
    """The root of the derivative, also where nothing is to be found or the light lies on pixels without background."""
    patch = two_cameras()[0]
    image = patch.image(0, 0, 10.0)
    base = np.full(len(image), 0.05)
    counts, gain = best_amplitude(patch, image, base)
    found = minimize(
        lambda a: np.sum(a * image) - patch.counts @ np.log(base + a * image),
        50.0,
        method="Nelder-Mead",
        options={"xatol": 1e-6},
    )
    assert counts == pytest.approx(found.x[0], rel=1e-3)
    assert gain == pytest.approx(2 * (-patch.counts @ np.log(base) - found.fun), abs=1e-3)
    assert best_amplitude(patch, image, base + 50) == (0.0, 0.0)
    assert best_amplitude(patch, np.zeros_like(image), base) == (0.0, 0.0)


def test_model_image_is_where_photons_fall():
    """Half a million photons, drawn one by one, on an exposure that falls to a half and has a gap."""
    exposure = 1e4 * np.linspace(1.0, 0.5, 121) * np.ones((121, 1))
    exposure[:, 70:73] = 0
    field = make_field(exposure=exposure)
    for ext in (0.0, 12.0):
        photons = add(field, 58.4, 63.1, 500_000, ext, 1).counts
        image = model_image(field, 58.4, 63.1, counts=500_000, ext=ext * u.arcsec)
        assert np.all(image[:, 70:73] == 0) and image.shape == field.shape
        down, along = np.indices(field.shape)
        distance = np.hypot(down - 63.1, along - 58.4) * PIXEL
        for low, high in ((0, 5), (5, 15), (15, 40), (40, 120)):
            ring = (distance >= low) & (distance < high)
            # The photons' exposure is that of the pixel, the image's the mean over the source: 0.5 % here.
            assert image[ring].sum() == pytest.approx(photons[ring].sum(), rel=0.012)
        left = along < 58
        assert image[left].sum() == pytest.approx(photons[left].sum(), rel=0.01)


def test_model_image_of_many_sources():
    field = make_field(61)
    both = model_image(field, [20, 40], [30, 25], counts=[100, 50], ext=[0, 9])
    first, second = (
        model_image(field, *args, counts=c, ext=e) for args, c, e in (((20, 30), 100, 0), ((40, 25), 50, 9))
    )
    np.testing.assert_allclose(both, first + second)
    assert not model_image(field, 500, 500, counts=100, ext=0).any()
    assert not model_image(field, [], [], counts=[], ext=[]).any()
    np.testing.assert_array_equal(model_image(field, [20, np.nan], 30, counts=100, ext=0), first)


@pytest.mark.parametrize(("ext", "counts"), [(4.0, 200), (12.0, 300), (30.0, 600)])
def test_beta_models_have_their_core_radii(ext, counts):
    """Twelve sources of photons drawn one by one: unbiased, and the scatter is that of the errors."""
    x, y = (each.ravel() for each in np.meshgrid([60.3, 180.8], [59.6, 180.1]))
    rows = []
    for seed in range(3):
        field = add(make_field(241, seed=seed), x, y, counts, ext, seed + 50)
        rows.extend(fit_extent(field, at(field, x + 0.6, y - 0.8)))
    assert all(row["best_model"] == "EXT" and row["ext_like"] > 10 and row["flags"] == 0 for row in rows)
    for name, truth in (("ext", ext), ("counts", counts)):
        values = np.array([row[name].value for row in rows])
        errors = np.array([row[f"{name}_err"].value for row in rows])
        assert np.mean(values) == pytest.approx(truth, abs=3 * np.mean(errors) / np.sqrt(12))
        assert 0.5 < np.std((values - truth) / errors) < 1.6
    offsets = np.array([(row["x"].value - x[k % 4], row["y"].value - y[k % 4]) for k, row in enumerate(rows)]) * PIXEL
    scatter = np.sqrt(np.mean(np.sum(offsets**2, axis=1)) / np.mean([row["pos_err"].value ** 2 for row in rows]))
    assert 0.6 < scatter < 1.5


@pytest.fixture(scope="module")
def points():
    """Fits of 48 points of 60 counts, and the places that were given."""
    x, y = (each.ravel() + 0.3 for each in np.meshgrid(np.arange(30, 240, 60), np.arange(30, 240, 60)))
    results = []
    for seed in range(3):
        field = add(make_field(241, seed=seed), x, y, 60, 0.0, seed + 9)
        results.append(fit_extent(field, at(field, x - 0.7, y + 0.5)))
    return results, x, y


def test_points_are_not_extended(points):
    """EXT = 0 is the edge of its range: half of the likelihoods are zero, the others like chi2 of one degree of freedom."""
    likes = np.concatenate([result["ext_like"] for result in points[0]])
    assert 14 <= np.count_nonzero(likes < 1e-3) <= 34  # of 48, 3 sigma
    assert np.count_nonzero(likes > chi2.isf(0.1, 1)) <= 8  # expected: 2.4
    assert likes.max() < 15
    for result in points[0]:
        assert np.all(result["ext"][result["ext_like"] == 0] == 0)
        assert np.all(result["ext_err"] > 0)


def test_points_have_their_counts_and_places(points):
    counts, errors, offsets, places = [], [], [], []
    for result in points[0]:
        assert set(result["best_model"]) == {"PNT"}
        counts.extend(result["counts"].value)
        errors.extend(result["counts_err"].value)
        offsets.extend(np.hypot(result["x"].value - points[1], result["y"].value - points[2]) * PIXEL)
        places.extend(result["pos_err"].value)
        np.testing.assert_allclose(result["rate"].value, result["counts"].value / 1e4)
        np.testing.assert_allclose(result["rate_err"].value, result["counts_err"].value / 1e4)
        np.testing.assert_allclose(result["background"].value, LEVEL)
    deviations = (np.array(counts) - 60) / errors
    assert abs(deviations.mean()) < 0.45 and 0.75 < deviations.std() < 1.3
    assert 0.75 < np.sqrt(np.mean(np.square(offsets)) / np.mean(np.square(places))) < 1.25


def test_nothing_is_no_source():
    """Places without a source: the gain of three parameters chosen at the best place nearby."""
    field = make_field(241, seed=7)
    result = fit_extent(field, at(field, np.repeat([60, 120, 180], 3), np.tile([60, 120, 180], 3)))
    assert np.all(result["det_like"] < 25) and np.median(result["det_like"]) < 8
    assert np.all(result["pnt_det_like"] <= result["det_like"] + 1e-6)


def test_central_point_in_a_beta_model():
    field = add(add(make_field(seed=1), 60, 60, 700, 25.0, 2), 60, 60, 300, 0.0, 3)
    row = fit_extent(field, at(field, 60.7, 59.5))[0]
    assert row["best_model"] == "EPN" and row["epn_like"] > 30
    assert row["epn_share"] == pytest.approx(0.3, abs=0.06)
    assert abs(pulls(row, "counts", 1000)) < 3
    field = add(make_field(seed=1), 60, 60, 1000, 25.0, 2)
    row = fit_extent(field, at(field, 60.7, 59.5))[0]
    assert row["best_model"] == "EXT" and row["epn_like"] < 8 and row["epn_share"] < 0.1


def test_two_points_at_one_position():
    """15 arcsec apart, given as one: the brighter one's place, the counts of both."""
    field = add(make_field(seed=2), [57.0, 63.0], [60.0, 60.0], [250, 150], 0.0, 5)
    row = fit_extent(field, at(field, 60, 60))[0]
    assert row["best_model"] == "DBL" and Flag(row["flags"]) & Flag.DOUBLE
    assert row["dbl_like"] > row["ext_like"] + 30
    assert abs(pulls(row, "counts", 400)) < 3
    assert (row["x"].value, row["y"].value) == (pytest.approx(57, abs=0.5), pytest.approx(60, abs=0.5))
    field = add(make_field(seed=2), 60, 60, 400, 0.0, 5)
    row = fit_extent(field, at(field, 60, 60))[0]
    assert row["best_model"] == "PNT" and row["dbl_like"] < 12 and not row["flags"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_point_beside_a_cluster(order):
    """45 arcsec apart: each has its own counts, whatever comes first; alone in the table the other is in its way."""
    x, y, order = np.array([55.0, 73.0]), np.array([60.0, 60.0]), list(order)
    field = add(make_field(141, seed=4), x, y, [500, 200], [20.0, 0.0], 6)
    result = fit_extent(field, at(field, x[order], y[order]))
    cluster, point = (result[order.index(number)] for number in (0, 1))
    assert cluster["best_model"] == "EXT" and point["best_model"] == "PNT"
    assert abs(pulls(cluster, "ext", 20)) < 2.5 and abs(pulls(cluster, "counts", 500)) < 2.5
    assert abs(pulls(point, "counts", 200)) < 2.5 and point["ext_like"] < 6
    alone = fit_extent(field, at(field, x[:1], y[:1]))[0]
    assert alone["counts"] > cluster["counts"] + 80 * u.ct


def test_two_points_given_as_two():
    """17.5 arcsec apart, twice the half-energy radius; the sum alone would be known to 20 counts."""
    field = add(make_field(seed=5), [57, 64], [60, 60], [150, 250], 0.0, 8)
    result = fit_extent(field, at(field, [57.5, 63.4], [60.5, 59.6]))
    assert np.all(np.abs((result["counts"].value - [150, 250]) / result["counts_err"].value) < 2.5)
    assert np.all(result["best_model"] == "PNT")
    np.testing.assert_allclose(result["x"].value, [57, 64], atol=0.6)


def test_both_conventions_of_the_likelihood():
    """-ln P of the gains with as many degrees of freedom as the better model has more parameters."""
    field = add(make_field(161, seed=6), [50, 110], [80, 80], [300, 90], [15.0, 0.0], 9)
    plain, chance = (fit_extent(field, at(field, [50, 110], [80, 80]), likelihood=name) for name in ("delta-c", "ln-p"))
    assert plain.meta["likelihood"] == "delta-c" and chance.meta["likelihood"] == "ln-p"
    for column, extra in (("ext_like", 1), ("pnt_det_like", 3), ("epn_like", 1), ("dbl_like", 3), ("det_like", [4, 3])):
        np.testing.assert_allclose(chance[column], -chi2.logsf(plain[column], extra), rtol=1e-4, atol=1e-9)
    for column in ("ext", "counts", "x", "best_model"):
        np.testing.assert_array_equal(plain[column], chance[column])


def three_cameras(seed):
    """One cluster on three images: other pixels, turned, less sensitive, another point spread function."""
    first = make_field(121, seed=seed)
    second = make_field(91, pixel=3.5, angle=30.0, exposure=4e3, psf=KingPsf("EMOS1"), seed=seed + 1)
    third = make_field(91, pixel=3.5, angle=200.0, exposure=4e3, psf=GaussianPsf(12 * u.arcsec), seed=seed + 2)
    place = at(first, 57, 63)
    for number, (field, counts) in enumerate(((first, 300), (second, 120), (third, 100))):
        x, y = field.wcs.world_to_pixel(place)
        yield add(field, x, y, counts, 15.0, seed + 10 + number)


def test_several_cameras_are_fitted_together_but_apart():
    fields = list(three_cameras(20))
    place = at(fields[0], 57, 63)
    row = fit_extent(fields, at(fields[0], 57.8, 62.5))[0]
    assert abs(pulls(row, "ext", 15)) < 2.5 and abs(pulls(row, "counts", 520)) < 2.5
    each = row["field_counts"].value
    assert each.sum() == pytest.approx(row["counts"].value)
    assert np.all(np.abs(each - [300, 120, 100]) < 4 * np.sqrt([300, 120, 100]))
    assert row["sky_position"].separation(place[0]) < 3 * row["pos_err"]
    assert row["rate"].value == pytest.approx(row["counts"].value / 1.8e4)
    assert row["background"].value == pytest.approx(LEVEL * 1.8)
    alone = [fit_extent(field, at(fields[0], 57.8, 62.5))[0] for field in fields]
    assert row["ext_err"].value < min(each["ext_err"].value for each in alone)
    combined = sum(each["ext_err"].value ** -2 for each in alone) ** -0.5
    assert row["ext_err"].value == pytest.approx(combined, rel=0.15)
    assert row["det_like"] == pytest.approx(sum(each["det_like"] for each in alone), abs=8)


def test_position_that_one_camera_does_not_see():
    first, second = make_field(121, seed=1), make_field(41, seed=2)
    # The second image is small; its middle is that of the first.
    first = add(first, [60, 100], [60, 100], 200, 0.0, 3)
    second = add(second, 20, 20, 200, 0.0, 4)
    result = fit_extent([first, second], at(first, [60, 100, 400], [60, 100, 400]))
    assert np.all(np.isfinite(result["field_counts"][0])) and np.isnan(result["field_counts"][1, 1])
    assert np.isnan(result["field_counts"][2]).all() and Flag(result["flags"][2]) & Flag.FAILED
    assert result["counts"][1].value == pytest.approx(200, abs=60)
    assert result["rate"][1].value == pytest.approx(result["counts"][1].value / 1e4)


def test_gap_and_slope_of_the_exposure():
    """A dead strip through the source and an exposure that doubles across it: counts at the exposure of its place."""
    exposure = 1e4 * np.linspace(0.6, 1.4, 121) * np.ones((121, 1))
    exposure[:, 63:67] = 0
    rows = []
    for seed in range(4):
        field = add(make_field(exposure=exposure, seed=seed), 60.0, 60.0, 400, 12.0, seed + 20)
        rows.append(fit_extent(field, at(field, 60.5, 60.3))[0])
    assert all(Flag(row["flags"]) == Flag.MASKED for row in rows)
    for name, truth in (("ext", 12.0), ("counts", 400.0)):
        deviations = np.array([pulls(row, name, truth) for row in rows])
        assert np.all(np.abs(deviations) < 3) and abs(deviations.mean()) < 1.5
    # Outside of it, with the same photons, the mask in the way makes the same hole.
    mask = np.zeros((121, 121), bool)
    mask[:, 63:67] = True
    whole = add(make_field(seed=9), 60.0, 60.0, 400, 12.0, 29)
    holed = dataclasses.replace(whole, mask=mask, counts=np.where(mask, 0, whole.counts))
    row = fit_extent(holed, at(holed, 60.5, 60.3))[0]
    assert abs(pulls(row, "ext", 12)) < 3 and Flag(row["flags"]) & Flag.MASKED


def test_source_on_the_edge_of_the_image():
    field = add(make_field(seed=3), [1.0, 119.5], [60.0, 119.0], [500, 300], [15.0, 0.0], 7)
    result = fit_extent(field, at(field, [1.5, 119.2], [60.0, 119.3]))
    assert all(Flag(flags) & Flag.OFF_EDGE for flags in result["flags"])
    assert not any(Flag(flags) & Flag.FAILED for flags in result["flags"])
    assert abs(pulls(result[0], "ext", 15)) < 3 and abs(pulls(result[0], "counts", 500)) < 3
    assert abs(pulls(result[1], "counts", 300)) < 3


def test_rows_that_cannot_be_fitted_are_kept():
    """Off the image, behind the projection, without a position, in a dead quarter; the order stays."""
    exposure = np.full((121, 121), 1e4)
    exposure[:60, :60] = 0
    field = add(make_field(exposure=exposure, seed=1), 90, 90, 200, 0.0, 2)
    good = at(field, [90, 500, 20, 95], [90, 60, 20, 30])
    ra, dec = [*good.ra.deg, (good.ra[0].deg + 180) % 360, np.nan], [*good.dec.deg, -good.dec[0].deg, 0.0]
    names = ["a", "b", "c", "d", "e", "f"]
    given = QTable({"source_id": names, "sky_position": SkyCoord(ra, dec, unit="deg"), "mine": np.arange(6) * u.K})
    result = fit_extent(field, given)
    assert list(result["source_id"]) == names and list(result["mine"].value) == list(range(6))
    failed = np.array([bool(Flag(flags) & Flag.FAILED) for flags in result["flags"]])
    assert failed.tolist() == [False, True, True, False, True, True]
    for row, bad in zip(result, failed, strict=True):
        assert (row["message"] == "no usable pixels at the position") == bad
        assert np.isfinite(row["counts"]) == np.isfinite(row["ext_like"]) == (not bad)
        assert (row["best_model"] == "") == bad
    np.testing.assert_allclose(result["sky_position"].ra.deg[1:3], ra[1:3], atol=1e-9)
    assert given.colnames == ["source_id", "sky_position", "mine"]
    tables.validate(result, tables.CANDIDATES)


@pytest.mark.parametrize(
    "positions", [SkyCoord([], [], unit="deg"), QTable({"sky_position": SkyCoord([], [], unit="deg")})]
)
@pytest.mark.parametrize("cameras", [1, 2])
def test_no_positions(positions, cameras):
    field = make_field(41, seed=1)
    result, full = (fit_extent([field] * cameras, each) for each in (positions, at(field, 20, 20)))
    assert len(result) == 0 and result.colnames == [*full.colnames]
    assert all(result[name].unit == full[name].unit for name in ("ext", "counts", "rate", "background", "pos_err"))
    assert result["flags"].dtype == np.int64 and result.meta["likelihood"] == "delta-c"
    tables.validate(result, tables.CANDIDATES)


def test_coordinates_of_a_turned_image():
    """Positions move with the fit on the sky and on the image alike; the frame given is the frame returned."""
    field = add(make_field(121, angle=35.0, seed=2), 62.0, 57.0, 800, 0.0, 3)
    given = at(field, 63.1, 58.2).galactic
    row = fit_extent(field, QTable({"sky_position": given}))[0]
    assert row["sky_position"].frame.name == "galactic"
    assert row["sky_position"].separation(at(field, 62, 57)[0]) < 3 * row["pos_err"] < 3 * u.arcsec
    x, y = field.wcs.world_to_pixel(row["sky_position"])
    assert (x, y) == (pytest.approx(row["x"].value, abs=2e-3), pytest.approx(row["y"].value, abs=2e-3))
    assert row["off_axis"].to_value(u.arcmin) == pytest.approx(np.hypot(2, -3) * PIXEL / 60, abs=0.02)


def test_scalar_position_and_names():
    field = make_field(61, seed=2)
    result = fit_extent(field, at(field, 30, 30)[0])
    assert len(result) == 1 and list(result["source_id"]) == ["1"] and list(result["x_class"]) == [""]


def test_core_radius_at_its_bound():
    """What the search saw bounds it; the message says so."""
    field = add(make_field(161, seed=2), 80, 80, 1500, 40.0, 3)
    given = QTable({"sky_position": at(field, 80, 80), "region_radius": [9.0] * u.arcsec})
    row = fit_extent(field, given)[0]
    assert row["ext"].value == pytest.approx(27.0, rel=1e-3) and row["message"] == "EXT is at its upper bound"
    free = fit_extent(field, at(field, 80, 80))[0]
    assert abs(pulls(free, "ext", 40)) < 3 and free["message"] == ""


def test_source_that_fills_the_field():
    """Larger than a quarter of the image: at the bound, a message, nothing that is not finite."""
    field = add(make_field(121, seed=2), 60, 60, 20_000, 200.0, 3)
    row = fit_extent(field, at(field, 60, 60))[0]
    assert (
        row["ext"].value == pytest.approx(121 * PIXEL / 4, rel=0.01) and row["message"] == "EXT is at its upper bound"
    )
    assert np.isfinite(row["counts"]) and row["det_like"] > 1000


def test_image_without_a_photon():
    result = fit_extent(make_field(61), at(make_field(61), [30, 10], [30, 40]))
    assert np.all(result["counts"].value == 0) and np.all(result["ext"].value == 0)
    for name in ("det_like", "ext_like", "epn_like", "dbl_like"):
        np.testing.assert_allclose(result[name], 0, atol=1e-6)


def test_background_of_zero():
    """No photon is forbidden where no background is expected."""
    field = add(make_field(61, level=0.0), 30, 30, 100, 0.0, 1)
    row = fit_extent(field, at(field, 30, 30))[0]
    assert row["counts"].value == pytest.approx(100, abs=40) and row["best_model"] == "PNT"


def test_radius_of_the_fit():
    field = add(make_field(seed=3), 60, 60, 300, 10.0, 4)
    by_default = fit_extent(field, at(field, 60, 60))[0]
    # 90 % of a point source are within 55 arcsec on axis.
    assert by_default["fit_radius"].value == pytest.approx(float(field.psf.radius(0.9)), rel=0.02)
    chosen = fit_extent(field, at(field, 60, 60), radius=0.5 * u.arcmin)[0]
    assert chosen["fit_radius"] == 30 * u.arcsec
    assert chosen["ext_err"] > by_default["ext_err"]
    wide = fit_extent(add(make_field(161, seed=3), 80, 80, 900, 25.0, 4), at(make_field(161), 80, 80))[0]
    assert wide["fit_radius"].value == pytest.approx(5 * wide["ext"].value, rel=0.16)


def test_flags_of_the_field_are_in_every_row():
    field = make_field(121, seed=1)
    field = dataclasses.replace(field, flags=Flag.NO_BACKGROUND | Flag.MASKED | Flag.LOW_COUNTS)
    result = fit_extent(field, at(field, [60, 900], [60, 60]))
    assert result["flags"].tolist() == [Flag.NO_BACKGROUND, Flag.NO_BACKGROUND | Flag.FAILED]


def test_bad_arguments():
    field = make_field(41, seed=1)
    place = at(field, 20, 20)
    with pytest.raises(TypeError, match="field must be a Field .from read_field., got ndarray"):
        fit_extent(field.counts, place)
    with pytest.raises(ValueError, match="field must be a Field or a sequence of at least one, got none"):
        fit_extent([], place)
    with pytest.raises(ValueError, match="likelihood must be one of .*'ln-p'.*, got 'chi2'"):
        fit_extent(field, place, likelihood="chi2")
    with pytest.raises(TypeError, match="radius"):
        fit_extent(field, place, radius=30)
    with pytest.raises(ValueError, match="radius"):
        fit_extent(field, place, radius=-3 * u.arcsec)
    with pytest.raises(u.UnitsError, match="radius"):
        fit_extent(field, place, radius=3 * u.s)
    with pytest.raises(TypeError, match="positions must be a SkyCoord or a table, got list"):
        fit_extent(field, [(1, 2)])
    with pytest.raises(SchemaError, match="positions must have a SkyCoord column 'sky_position', got columns .*'ra'"):
        fit_extent(field, Table({"ra": [1.0]}))
    with pytest.raises(TypeError, match="region_radius"):
        fit_extent(field, Table({"sky_position": place, "region_radius": [3.0]}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": -1}, "counts must be finite, from 0 to inf"),
        ({"counts": np.inf}, "counts must be finite"),
        ({"ext": -2}, "ext must be finite, from 0 to 25.6"),
        ({"ext": 26 * u.arcsec}, "ext must be finite, from 0 to 25.6"),
        ({"ext": np.nan}, "ext must be finite"),
    ],
)
def test_bad_sources_of_a_model_image(changes, message):
    with pytest.raises(ValueError, match=message):
        model_image(make_field(41), 20, 20, **({"counts": 10, "ext": 0} | changes))


@pytest.mark.slow
@pytest.mark.parametrize(("ext", "counts"), [(8.0, 300), (32.0, 300), (64.0, 600)])
def test_core_radii_on_many_fields(ext, counts):
    """Mean within 5 % of the truth, known background; counts likewise."""
    values = []
    for seed in range(24):
        field = add(make_field(321, level=0.03, seed=seed), 160.2, 159.7, counts, ext, seed + 99)
        row = fit_extent(field, at(field, 160, 160))[0]
        values.append((row["ext"].value / ext, row["counts"].value / counts))
    np.testing.assert_allclose(np.mean(values, axis=0), 1.0, atol=0.05)
