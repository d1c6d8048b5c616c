"""Profiles of point and extended sources: closed forms, quadrature and two-dimensional transforms."""

import gc
import weakref

import numpy as np
import pytest
from astropy import units as u
from scipy.integrate import quad
from scipy.special import ellipe, erf

from astroclassify.survey import GaussianPsf, KingPsf, MixedPsf
from astroclassify.survey.extents import _profile as profiles
from astroclassify.survey.extents._profile import profile_table

ANGLES = (np.arange(32) + 0.5) * (np.pi / 4 / 32)  # of an eighth of the square, which holds all of it


class CauchyPsf:
    """exp(-k a) in Fourier space, a / 2 pi (r^2 + a^2)^-3/2 on the sky: a beta model of EXT only adds to a."""

    limit = 1e9

    def __init__(self, a):
        self.a = a

    def profile(self, radius, off_axis=0.0):
        return self.a / (2 * np.pi * (np.square(radius) + self.a**2) ** 1.5)

    def radius(self, share, off_axis=0.0):
        return self.a * np.sqrt((1 - np.asarray(share, float)) ** -2 - 1)


def in_square(corner, x, y, pixel):
    """What falls into a square about (x, y), from the integral over the quadrant up to a corner."""
    h = pixel / 2
    return corner(x + h, y + h) - corner(x - h, y + h) - corner(x + h, y - h) + corner(x - h, y - h)


def in_pixel(corner, radius, pixel):
    """The same, mean over the directions in which the pixel may lie."""
    x, y = np.multiply.outer(radius, np.cos(ANGLES)), np.multiply.outer(radius, np.sin(ANGLES))
    return in_square(corner, x, y, pixel).mean(axis=-1)


def cauchy_corner(a):
    """Solid angle over 2 pi."""
    return lambda x, y: np.arctan2(x * y, a * np.sqrt(x**2 + y**2 + a**2)) / (2 * np.pi)


def gaussian_corner(sigma):
    return lambda x, y: erf(x / sigma / np.sqrt(2)) * erf(y / sigma / np.sqrt(2)) / 4


def value(table, ext, radius, row=0):
    radius = np.atleast_1d(radius)
    return table.look_up(table.at(table.to_u(ext))[row : row + 1], radius**2)[0]


def ring(radius, distance, ext):
    """Integral of the beta model over the circle of a radius about a point at a distance (Legendre's form of it)."""
    total, cross = ext**2 + radius**2 + distance**2, 2 * radius * distance
    return 4 * ellipe(2 * cross / (total + cross)) / ((total - cross) * np.sqrt(total + cross)) * ext / (2 * np.pi)


def by_quadrature(psf, off_axis, distance, ext):
    """Density of a beta model seen through a point spread function, at a distance."""

    def integrand(radius):
        return radius * float(psf.profile(radius, off_axis)) * ring(radius, distance, ext)

    places = np.unique(np.clip([0, distance / 2, distance, 2 * distance, 30, 100, psf.limit], 0, psf.limit))
    return sum(quad(integrand, *ends, limit=200, epsrel=1e-9)[0] for ends in zip(places, places[1:], strict=False))


@pytest.mark.parametrize("ext", [0.0, 0.7, 3.0, 17.0, 120.0])
def test_closed_form_of_cauchy_kernels(ext):
    """Value, slope and derivative by the core radius; the pixel is small and does nothing."""
    a, pixel = 6.0, 0.05
    table = profile_table(CauchyPsf(a), 0.0, pixel, 200.0)
    r = np.geomspace(0.1, 500.0, 300)
    width = a + ext
    squared = r**2 + width**2
    density = width / (2 * np.pi * squared**1.5) * pixel**2
    by_ext = (squared - 3 * width**2) / (2 * np.pi * squared**2.5) * pixel**2
    np.testing.assert_allclose(value(table, ext, r), density, rtol=3e-4)
    slope = -3 * density / squared
    # The transform leaves noise: a millionth of what the point source has.
    np.testing.assert_allclose(value(table, ext, r, 1), slope, rtol=2e-3, atol=3e-7 * pixel**2 / a**4)
    by_u = by_ext * table.d_ext(table.to_u(ext))
    # The derivative changes its sign: the error is a share of its largest value near by.
    tolerance = 5e-3 * density / width * table.d_ext(table.to_u(ext))
    assert np.all(np.abs(value(table, ext, r, 2) - by_u) < tolerance)


@pytest.mark.parametrize("pixel", [2.0, 6.0])
@pytest.mark.parametrize("ext", [0.0, 4.0, 40.0])
def test_pixels_take_their_share_of_cauchy_kernels(pixel, ext):
    table = profile_table(CauchyPsf(3.0), 0.0, pixel, 100.0)
    r = np.geomspace(0.1, 300.0, 80)
    expected = in_pixel(cauchy_corner(3.0 + ext), r, pixel)
    np.testing.assert_allclose(value(table, ext, r), expected, rtol=1e-3, atol=2e-4 * expected[0])


@pytest.mark.parametrize("fwhm", [3.0, 8.0, 25.0])
def test_point_seen_through_a_gaussian(fwhm):
    """The error function; a narrow one is mostly within one pixel."""
    psf = GaussianPsf(fwhm * u.arcsec)
    table = profile_table(psf, 0.0, 2.5, 100.0)
    sigma = fwhm / np.sqrt(8 * np.log(2))
    r = np.linspace(0, 4 * sigma + 2, 60)
    expected = in_pixel(gaussian_corner(sigma), r, 2.5)
    np.testing.assert_allclose(value(table, 0.0, r), expected, atol=1e-3 * expected[0])


@pytest.mark.parametrize("off_axis", [0.0, 10.0])
@pytest.mark.parametrize("ext", [2.0, 10.0, 60.0])
def test_king_and_beta_model_by_quadrature(off_axis, ext):
    psf, pixel = KingPsf("EPN"), 0.1
    table = profile_table(psf, off_axis, pixel, 200.0)
    distances = np.array([0.5, 5.0, 20.0, 80.0, 250.0])
    expected = [by_quadrature(psf, off_axis, distance, ext) * pixel**2 for distance in distances]
    # The edge of the point spread function leaves ripples, of a millionth of the middle.
    np.testing.assert_allclose(value(table, ext, distances), expected, rtol=1e-3, atol=1e-6 * expected[0])


@pytest.mark.parametrize("ext", [3.0, 20.0])
def test_two_dimensional_transform(ext):
    """Mixture of King and Gaussian, beta model and square pixels convolved on a fine grid; the mean over directions."""
    psf, pixel, fine, n = MixedPsf([KingPsf("EMOS1"), GaussianPsf(20 * u.arcsec)], [1.0, 1.0]), 4.0, 1.0, 1024
    axis = (np.arange(n) - n // 2) * fine
    distance = np.hypot(axis, axis[:, np.newaxis])
    k = 2 * np.pi * np.hypot(np.fft.rfftfreq(n, fine), np.fft.fftfreq(n, fine)[:, np.newaxis])
    box = np.sinc(np.fft.rfftfreq(n, fine) * pixel) * np.sinc(np.fft.fftfreq(n, fine)[:, np.newaxis] * pixel)
    seen = np.fft.rfft2(np.fft.ifftshift(psf.profile(distance, 2.0) * fine**2)) * np.exp(-k * ext) * box
    image = np.fft.fftshift(np.fft.irfft2(seen, (n, n))) * (pixel / fine) ** 2
    table = profile_table(psf, 2.0, pixel, 100.0)
    for radius in (0.0, 5.0, 15.0, 40.0, 100.0):
        near = np.abs(distance - radius) <= 0.5 * fine
        expected = (image[near] / value(table, ext, distance[near])).mean()
        # The images beyond the edges of the periodic grid add a little.
        assert expected == pytest.approx(1.0, abs=2e-3 if radius < 100 else 1e-2)


@pytest.mark.parametrize(
    ("psf", "each"), [(KingPsf("EPN"), 2e-3), (GaussianPsf(2 * u.arcsec), 0.03), (GaussianPsf(30 * u.arcsec), 2e-3)]
)
def test_shares_on_pixels_add_up(psf, each):
    """The mean over places within a pixel to one; the square is replaced by a round mean, which narrow ones notice."""
    table = profile_table(psf, 0.0, 2.5, 200.0)
    axis = (np.arange(401) - 200) * 2.5
    sums = []
    for dx in (-1.0, -0.5, 0.0, 0.5, 1.0):
        for dy in (-1.0, -0.5, 0.0, 0.5, 1.0):
            squared = ((axis - dx) ** 2 + (axis[:, np.newaxis] - dy) ** 2).ravel()
            sums.append(table.look_up(table.point[:1], squared).sum())
    np.testing.assert_allclose(sums, 1.0, atol=each)
    assert np.mean(sums) == pytest.approx(1.0, abs=1e-3)


def test_share_of_a_beta_model_on_pixels():
    """1 - 1 / sqrt(1 + (R/EXT)^2) of the counts lie within R; a Cauchy kernel adds to EXT."""
    table = profile_table(CauchyPsf(5.0), 0.0, 2.5, 200.0)
    axis = (np.arange(401) - 200) * 2.5
    squared = ((axis - 0.7) ** 2 + (axis[:, np.newaxis] + 0.4) ** 2).ravel()
    beta = table.look_up(table.at(table.to_u(20.0))[:1], squared)[0]
    for radius in (50.0, 100.0, 400.0):
        expected = 1 - 1 / np.sqrt(1 + (radius / 25.0) ** 2)
        assert beta[squared < radius**2].sum() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("psf", [KingPsf("EPN"), GaussianPsf(6 * u.arcsec)], ids=repr)
def test_rows_are_derivatives_of_each_other(psf):
    """Slope by finite differences over radius, and by ``u`` at and between the nodes; EXT = 0 is an ordinary point."""
    table = profile_table(psf, 3.0, 2.5, 300.0)
    r = np.linspace(1.0, 40.0, 40)
    for ext in (0.0, 1.0, 10.0, 100.0):
        slope = (value(table, ext, r * 1.02) - value(table, ext, r * 0.98)) / (0.04 * r)
        peak = value(table, ext, 0.0)[0]
        np.testing.assert_allclose(value(table, ext, r, 1) * r, slope, rtol=0.02, atol=2e-4 * peak)
    for where in (0.1, 0.5 * table.nodes[1], table.nodes[3], table.nodes[5] - 0.03, table.u_max - 1e-3):
        low, middle, high = (table.look_up(table.at(each), r**2) for each in (where - 1e-4, where, where + 1e-4))
        np.testing.assert_allclose(middle[2], (high[0] - low[0]) / 2e-4, atol=3e-3 * np.abs(middle[2]).max())


def test_interpolation_between_core_radii():
    """A table of its own with nodes elsewhere would give the same; measured half-way between the nodes."""
    a, pixel = 6.0, 0.05
    table = profile_table(CauchyPsf(a), 0.0, pixel, 500.0)
    halfway = table.to_ext((table.nodes[:-1] + table.nodes[1:]) / 2)
    for ext in halfway[halfway < 300]:
        r = np.linspace(0.2, 3 * (a + ext), 50)
        exact = (a + ext) / (2 * np.pi * (r**2 + (a + ext) ** 2) ** 1.5) * pixel**2
        np.testing.assert_allclose(value(table, ext, r), exact, rtol=4e-4)


def test_core_radii_and_their_scale():
    table = profile_table(GaussianPsf(6 * u.arcsec), 0.0, 2.5, 150.0)
    ext = np.array([0.0, 1.0, 30.0, 150.0])
    np.testing.assert_allclose(table.to_ext(table.to_u(ext)), ext, atol=1e-9)
    np.testing.assert_allclose(table.d_ext(1.3), (table.to_ext(1.3001) - table.to_ext(1.2999)) / 2e-4, rtol=1e-6)
    assert table.to_ext(table.u_max) >= 150.0
    np.testing.assert_array_equal(table.at(table.u_max)[0, :, 0], table.values[-1, :-1, 0])
    np.testing.assert_array_equal(table.point, table.at(0.0)[:2])


def test_edges_of_the_radii():
    """Within the first radius the value is the middle's, beyond the last it stays: never NaN, never negative."""
    table = profile_table(KingPsf("EPN"), 0.0, 2.5, 100.0)
    found = value(table, 10.0, [0.0, 1e-3, 1e7])
    assert found[0] == found[1] == table.at(table.to_u(10.0))[0, 0, 0]
    assert 0 <= found[2] < 1e-5 * found[0]
    assert (table.values[..., 0] >= 0).all()


def test_reach_is_where_the_profile_falls_below():
    table = profile_table(KingPsf("EPN"), 0.0, 2.5, 100.0)
    for ext in (0.0, 10.0):
        peak = value(table, ext, 0.0)[0]
        reach = table.reach(ext, 1e-3 * peak)
        assert value(table, ext, reach)[0] <= 1e-3 * peak < value(table, ext, reach / 1.15)[0]
        assert table.reach(ext, 2 * peak) == 0


def test_tables_are_made_once_and_forgotten_with_their_psf(monkeypatch):
    psf = GaussianPsf(7 * u.arcsec)
    made, make = [], profiles._make_table
    monkeypatch.setattr(profiles, "_make_table", lambda *key: made.append(key[1:]) or make(*key))
    monkeypatch.setattr(profiles, "N_TABLES", 3)
    first = profile_table(psf, 4.02, 2.5, 50.0)
    assert profile_table(psf, 3.98, 2.5, 50.0) is first  # rounded to a tenth of an arcmin
    assert len(made) == 1 and made[0] == (pytest.approx(4.0), 2.5, 50.0)
    for angle in (5.0, 6.0, 7.0):
        profile_table(psf, angle, 2.5, 50.0)
    assert profile_table(psf, 4.0, 2.5, 50.0) is not first and len(made) == 5  # three are kept
    assert profile_table(psf, 4.0, 4.0, 50.0).scale == 2.0  # of other pixels: half a pixel, not half of 3.5
    assert first.scale == pytest.approx(3.5 / 2, rel=1e-6)
    alive = weakref.ref(psf)
    del psf
    gc.collect()
    assert alive() is None


def test_narrow_psf_is_the_pixel():
    """A hundred times narrower than the pixel: all counts are in one pixel."""
    table = profile_table(GaussianPsf(0.05 * u.arcsec), 0.0, 5.0, 60.0)
    found = value(table, 0.0, [0.1, 1.5, 4.0, 8.0])
    np.testing.assert_allclose(found[:2], 1.0, atol=0.03)
    assert abs(found[3]) < 0.03 and table.scale == 2.5
