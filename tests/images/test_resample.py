"""The pixel transform against the exact one, sharing of counts against polygons, interpolation against reproject."""

import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from numpy.testing import assert_allclose
from reproject import reproject_interp

from astroclassify.images import _resample
from astroclassify.images._resample import integrate, interpolate, pixel_grid, quadrilaterals, target_wcs, transform

SHAPE = (356, 356)


def make_wcs(pixel, angle=0.0, *, position=(10.0, 20.0), n=1000, projection="TAN", radesys="ICRS", mirrored=False):
    """Image of n x n pixels of this side [arcsec], turned by this angle [deg]."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval = position
    wcs.wcs.crpix = [(n + 1) / 2, (n + 1) / 2]
    wcs.wcs.cdelt = [pixel / 3600 * (1 if mirrored else -1), pixel / 3600]
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    wcs.wcs.radesys = radesys
    wcs.wcs.set()
    return wcs


def with_sip(wcs):
    header = wcs.to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    for key, value in {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 3e-5, "A_1_2": 2e-8, "B_0_2": -4e-5, "B_3_0": 1e-8}.items():
        header[key] = value
    return WCS(header)


IMAGES = {
    "parallel": make_wcs(4.0),
    "rotated": make_wcs(2.5, 37.0),
    "mirrored": make_wcs(1.0, 190.0, mirrored=True),
    "at the pole": make_wcs(4.0, 20.0, position=(200.0, 89.97)),
    "across RA = 0": make_wcs(4.0, position=(0.001, -60.0)),
    "another frame": make_wcs(2.0, radesys="FK5"),
    "FK4": make_wcs(2.0, radesys="FK4", position=(9.4, 19.7)),
    "other projection": make_wcs(4.0, 5.0, projection="ZEA"),
    "SIP": with_sip(make_wcs(1.5, 12.0)),
    "large pixels": make_wcs(30.0, 60.0, n=100),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("off", [(0.0, 0.0), (9.0, -6.0)])
def test_error_of_the_transform(name, off):
    image = IMAGES[name]
    middle = image.pixel_to_world(*(image.wcs.crpix - 1))
    centre = middle.spherical_offsets_by(off[0] * u.arcmin, off[1] * u.arcmin)
    target = target_wcs(centre, 7 / 356 * u.arcmin, SHAPE)
    edges = np.arange(357) - 0.5
    exact = transform(target, image, *np.meshgrid(edges, edges))
    found = pixel_grid(target, image, edges, edges)
    assert np.isfinite(exact).all()
    assert np.max(np.hypot(found[0] - exact[0], found[1] - exact[1])) < _resample.TOLERANCE / 10


def test_transform_there_and_back():
    target = target_wcs(SkyCoord(10.1, 20.1, unit="deg"), 7 / 356 * u.arcmin, SHAPE)
    edges = np.arange(357.0)
    x, y = pixel_grid(target, IMAGES["rotated"], edges, edges)
    back = transform(IMAGES["rotated"], target, x, y)
    assert np.max(np.abs(np.array(back) - np.meshgrid(edges, edges))) < 1e-4


def test_rough_transform_is_done_exactly(monkeypatch):
    """A step that no polynomial follows: every pixel is transformed, and none lies."""

    def step(source, target, x, y):
        return np.where(np.asarray(x) > 100.3, x + 5.0, x), y

    monkeypatch.setattr(_resample, "transform", step)
    x, _ = pixel_grid(None, None, np.arange(300.0), np.arange(200.0))
    assert_allclose(x, np.broadcast_to(step(None, None, np.arange(300.0), None)[0], (200, 300)))


def test_polynomial_grows_with_the_distortion(monkeypatch):
    degrees = []

    def wave(source, target, x, y):
        degrees.append(np.size(x))
        return x + np.sin(np.asarray(x) / 20), y

    monkeypatch.setattr(_resample, "transform", wave)
    x, _ = pixel_grid(None, None, np.arange(357.0), np.arange(357.0))
    assert_allclose(x[7], np.arange(357.0) + np.sin(np.arange(357.0) / 20), atol=_resample.TOLERANCE)
    assert len(degrees) > 1 and degrees[-1] < 357**2


def test_places_off_the_other_image_are_not_finite():
    target = target_wcs(SkyCoord(190.0, -20.0, unit="deg"), 1 * u.arcmin, (20, 20))
    x, _ = pixel_grid(target, IMAGES["parallel"], np.arange(20.0), np.arange(20.0))
    assert np.isnan(x).all()


# --- counts


@pytest.mark.parametrize("mirrored", [False, True])
def test_areas(mirrored):
    x, y = np.meshgrid(np.arange(4.0), 2 * np.arange(3.0))
    areas = quadrilaterals(-x if mirrored else x, y)
    assert_allclose(areas, np.full((2, 3), -2.0 if mirrored else 2.0))


def clipped(polygon, i, j):
    """Area that a polygon and a pixel have in common, by clipping (Sutherland & Hodgman 1974, CACM 17, 32)."""
    for a, b, most in ((-1, 0, 0.5 - i), (1, 0, i + 0.5), (0, -1, 0.5 - j), (0, 1, j + 0.5)):
        kept = []
        for start, end in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
            over = [a * x + b * y - most for x, y in (start, end)]
            if over[0] <= 0:
                kept.append(start)
            if over[0] * over[1] < 0:
                t = over[0] / (over[0] - over[1])
                kept.append((start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])))
        polygon = kept
        if not polygon:
            return 0.0
    x, y = np.transpose(polygon)
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def by_polygons(counts, x, y):
    """What `integrate` gives, pixel by pixel and polygon by polygon."""
    result = np.zeros(np.subtract(x.shape, 1))
    for row, column in np.ndindex(result.shape):
        corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        polygon = [(x[each], y[each]) for each in corners]
        low, high = np.floor(np.min(polygon, axis=0)).astype(int), np.ceil(np.max(polygon, axis=0)).astype(int)
        for j in range(max(low[1], 0), min(high[1] + 1, counts.shape[0])):
            for i in range(max(low[0], 0), min(high[0] + 1, counts.shape[1])):
                result[row, column] += counts[j, i] * clipped(polygon, i, j)
    return result


@pytest.mark.parametrize("pixel", [1.0, 2.5, 45.0])
@pytest.mark.parametrize("angle", [0.0, 45.0, 30.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_counts_against_polygons(pixel, angle, mirrored):
    """
    On the image and beyond its edge. `reproject.reproject_exact` agrees from some version on: in 0.14 it is wrong by up
    to 0.3 counts in pixels of these grids, so it cannot be the truth here.
    """
    n = 24
    image = make_wcs(pixel, angle, n=n, mirrored=mirrored)
    counts = np.random.default_rng(1).poisson(2.0, (n, n)).astype(float)
    target = target_wcs(image.pixel_to_world(n / 2 + 8.3, n / 2 + 0.4), 3 * u.arcsec, (8, 11))
    x, y = transform(target, image, *np.meshgrid(np.arange(12) - 0.5, np.arange(9) - 0.5))
    contents, areas = integrate(counts[np.newaxis], x, y)
    assert_allclose(areas, (3 / pixel) ** 2, rtol=1e-4)
    assert_allclose(contents[0], by_polygons(counts, x, y), atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 13.0, 45.0, 90.0, 180.0, 271.0])
@pytest.mark.parametrize("pixel", [1.0, 4.0])
def test_counts_on_the_grid_are_conserved(angle, pixel):
    """All light well inside the grid: the sum is the same to rounding, in each plane."""
    n = int(300 / pixel)
    image = make_wcs(pixel, angle, n=n)
    rng = np.random.default_rng(2)
    counts = np.zeros((2, n, n))
    part = slice(n // 2 - n // 5, n // 2 + n // 5)
    counts[0, part, part] = rng.poisson(0.1, counts[0, part, part].shape)
    counts[1, n // 2 + 3, n // 2 - 7] = 1e5
    target = target_wcs(image.pixel_to_world(n / 2, n / 2), 7 / 356 * u.arcmin, SHAPE)
    x, y = pixel_grid(target, image, np.arange(357) - 0.5, np.arange(357) - 0.5)
    contents, _ = integrate(counts, x, y)
    assert_allclose(contents.sum(axis=(1, 2)), counts.sum(axis=(1, 2)), rtol=1e-11)
    assert contents.min() > -1e-8


def test_neighbours_share_all_counts():
    """Two grids side by side hold what one that is as wide as both holds."""
    image, rng = make_wcs(4.0, 33.0, n=200), np.random.default_rng(3)
    counts = rng.poisson(1.0, (1, 200, 200)).astype(float)
    target = target_wcs(image.pixel_to_world(100, 90), 1.5 * u.arcsec, (40, 80))
    x, y = pixel_grid(target, image, np.arange(81) - 0.5, np.arange(41) - 0.5)
    both = integrate(counts, x, y)[0]
    left, right = integrate(counts, x[:, :41], y[:, :41])[0], integrate(counts, x[:, 40:], y[:, 40:])[0]
    assert_allclose(np.concatenate([left, right], axis=2), both, atol=1e-10)


def test_flat_image_stays_flat():
    image = make_wcs(4.0, 33.0, n=200)
    target = target_wcs(image.pixel_to_world(100, 90), 1.5 * u.arcsec, (50, 50))
    x, y = pixel_grid(target, image, np.arange(51) - 0.5, np.arange(51) - 0.5)
    contents, areas = integrate(np.ones((1, 200, 200)), x, y)
    assert_allclose(contents[0] / areas, 1.0, rtol=1e-9)


def test_grid_beyond_the_image_and_lines_on_its_grid():
    """Sides that run exactly along the lines of the image's grid, and pixels on all sides of it."""
    edges = np.arange(-4, 9) - 0.5
    x, y = np.meshgrid(edges, edges)
    counts = np.arange(20.0).reshape(1, 4, 5)
    contents, areas = integrate(counts, x, y)
    assert_allclose(areas, 1.0)
    expected = np.zeros((12, 12))
    expected[4:8, 4:9] = counts[0]
    assert_allclose(contents[0], expected, atol=1e-12)
    # The other way round, and each pixel in four.
    half = np.arange(8.5, -4.75, -0.5)
    x, y = np.meshgrid(half, edges)
    assert_allclose(integrate(counts, x, y)[0].sum(), counts.sum())


def test_corners_that_are_nowhere():
    x, y = np.meshgrid(np.arange(4.0), np.arange(4.0))
    x[0, 0] = np.nan
    contents, areas = integrate(np.ones((1, 6, 6)), x, y)
    assert contents[0, 0, 0] == areas[0, 0] == 0
    assert_allclose(contents[0][1:, 1:], 1.0)


# --- plates


def test_interpolation_is_that_of_reproject():
    image = make_wcs(1.01, 3.0, n=600)
    data = np.random.default_rng(4).normal(1000, 100, (600, 600))
    target = target_wcs(image.pixel_to_world(300, 280), 7 / 356 * u.arcmin, SHAPE)
    values, share = interpolate(data, None, *pixel_grid(target, image, np.arange(356.0), np.arange(356.0)))
    expected, _ = reproject_interp((data, image), target, shape_out=SHAPE)
    assert np.all(share == 1.0)
    assert np.max(np.abs(values - expected)) < 1e-3 * data.max()


def test_interpolation_takes_valid_pixels_alone():
    data = np.full((5, 5), 3.0)
    valid = np.ones((5, 5), bool)
    data[2, 2], valid[2, 2] = 1e6, False
    x, y = np.array([2.0, 2.25, 1.5, 0.0, -0.4, -0.6, 4.4]), np.array([2.0, 2.0, 1.5, 0.0, 2.0, 2.0, 4.4])
    values, share = interpolate(data, valid, x, y)
    assert_allclose(share, [0, 0.25, 0.75, 1, 1, 0, 1])
    assert_allclose(values[[1, 2, 3, 4, 6]], 3.0)
    assert values[0] == values[5] == 0


# --- plate solutions of the Digitized Sky Survey


def plate_solution(header, x, y):
    """Sky coordinates [deg] of pixels (the first is 1) by the formulae of the DSS: an independent truth."""

    def polynomial(a, p, q):
        square = p**2 + q**2
        return (
            a[0] * p + a[1] * q + a[2] + a[3] * p**2 + a[4] * p * q + a[5] * q**2 + a[6] * square + a[7] * p**3
            + a[8] * p**2 * q + a[9] * p * q**2 + a[10] * q**3 + a[11] * p * square + a[12] * p * square**2
        )  # fmt: skip

    p = (header["PPO3"] - header["XPIXELSZ"] * (header["CNPIX1"] + x - 0.5)) / 1000
    q = (header["YPIXELSZ"] * (header["CNPIX2"] + y - 0.5) - header["PPO6"]) / 1000
    xi, eta = (
        np.radians(polynomial([header[f"AMD{axis}{i}"] for i in range(1, 14)], *pair) / 3600)
        for axis, pair in (("X", (p, q)), ("Y", (q, p)))
    )
    sign = -1 if "-" in header["PLTDECSN"] else 1
    ra = np.radians(15 * (header["PLTRAH"] + header["PLTRAM"] / 60 + header["PLTRAS"] / 3600))
    dec = sign * np.radians(header["PLTDECD"] + header["PLTDECM"] / 60 + header["PLTDECS"] / 3600)
    turn = np.arctan2(xi / np.cos(dec), 1 - eta * np.tan(dec))
    return np.degrees(ra + turn), np.degrees(np.arctan(np.cos(turn) * (eta + np.tan(dec)) / (1 - eta * np.tan(dec))))


def plate_header(n=400):
    """Made-up plate with every coefficient that the survey uses, and no other coordinates."""
    header = fits.Header({"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": n, "NAXIS2": n})
    header.update({"PLTRAH": 12, "PLTRAM": 3, "PLTRAS": 4.5, "PLTDECSN": "-", "PLTDECD": 24, "PLTDECM": 50})
    header.update({"PLTDECS": 33.25, "PLTSCALE": 67.2, "EQUINOX": 2000.0, "CNPIX1": 9000, "CNPIX2": 3000})
    header.update({"XPIXELSZ": 25.28, "YPIXELSZ": 25.28, **{f"PPO{i}": 0.0 for i in (1, 2, 4, 5)}})
    header.update({"PPO3": 177500.0, "PPO6": 177500.0})
    for axis, linear in (("X", (67.24, 0.7, -66.9)), ("Y", (67.26, -0.7, -136.7))):
        rest = (-9e-6, -8e-6, 3e-6, 1e-6, 2e-6, -3e-7, 2e-6, 4e-8, 2e-6, 1e-11)
        for i in range(20):
            header[f"AMD{axis}{i + 1}"] = (*linear, *rest, *[0.0] * 7)[i]
    return header


def test_made_up_plate_solution_and_grid():
    header = plate_header()
    wcs = WCS(header)
    x, y = np.meshgrid(np.arange(0.0, 400, 57), np.arange(0.0, 400, 57))
    ra, dec = plate_solution(header, x + 1, y + 1)
    found = wcs.all_pix2world(x, y, 0)
    assert_allclose(found, [ra, dec], rtol=0, atol=1e-9)
    target = target_wcs(wcs.pixel_to_world(200, 200), 7 / 356 * u.arcmin, SHAPE)
    px, py = pixel_grid(target, wcs, np.arange(356.0), np.arange(356.0))
    sky = SkyCoord(*plate_solution(header, px + 1, py + 1), unit="deg", frame="fk5").icrs
    back = np.array(target.world_to_pixel(sky)) - np.meshgrid(np.arange(356.0), np.arange(356.0))
    assert np.max(np.abs(back)) < 1e-3


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["DSS2red_HorseHead.fits", "DSS1_M67.fits"])
def test_real_plate_solutions(shared_data, name):
    header = fits.getheader(shared_data / "optical" / name)
    x, y = np.meshgrid(np.arange(0.0, 890, 80), np.arange(0.0, 890, 80))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # the date of the exposure in the old style
        wcs = WCS(header)
    assert_allclose(wcs.all_pix2world(x, y, 0), plate_solution(header, x + 1, y + 1), rtol=0, atol=1e-9)
