"""Truth of the simulated plates: light that goes in, density that comes out."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from astroclassify.sim.sky import _plate as plate
from astroclassify.sim.sky._counterparts import _draw_magnitudes
from astroclassify.sim.sky._galaxies import Spiral
from astroclassify.sim.sky._population import POPULATION
from astroclassify.sim.sky._xmm import Grid

GRID = Grid((200, 200), 1.18)
NOTHING = np.zeros((0, 3)), np.zeros((0, 7))


def smooth_plate(monkeypatch, stars, galaxies, grid=GRID, painted=()):
    """Light in units of the sky on a plate without grain, mottle, tilt."""
    taken = {}
    monkeypatch.setattr(plate, "_develop", lambda light, grid, rng: taken.setdefault("light", light))
    plate.expose_plate(stars, galaxies, grid, np.random.default_rng(1), painted=painted)
    return taken["light"]


def test_sersic_profiles_are_integrated_right():
    assert plate.sersic_radius(0.5, 1) == pytest.approx(1.0, rel=1e-4)
    assert plate.sersic_radius(0.5, 4) == pytest.approx(1.0, rel=1e-3)
    # Exponential disc: half-light radius 1.678 scale lengths; 90 % within 3.89 of them.
    assert plate.sersic_radius(0.9, 1) == pytest.approx(3.890 / 1.678, rel=1e-3)


def test_image_of_a_star_sums_to_one_and_has_its_width():
    shape = (400, 400)
    image = np.fft.irfft2(plate.star_kernel(shape, 1.0, 3.0), shape)
    assert image.sum() == pytest.approx(1.0, abs=1e-5)
    profile = image[0, :6] / image[0, 0]
    assert np.interp(0.5, profile[::-1], np.arange(6)[::-1]) == pytest.approx(1.5, abs=0.15)
    assert image[0, 60] > 3 * image[42, 42]  # spikes


def test_light_of_a_star_is_its_magnitude(monkeypatch):
    light = smooth_plate(monkeypatch, np.array([[1.3, -0.7, 16.0]]), NOTHING[1])
    expected = 10 ** (0.4 * (POPULATION.sky_brightness - 16.0))  # square arcseconds of sky
    assert light.sum() * GRID.pixel**2 == pytest.approx(expected, rel=0.01)
    y, x = np.unravel_index(np.argmax(light), light.shape)
    assert abs((x - 99.5) * GRID.pixel - 1.3) < 1 and abs((y - 99.5) * GRID.pixel + 0.7) < 1


@pytest.mark.parametrize("index", [1, 4])
def test_points_and_pixels_draw_the_same_galaxy(monkeypatch, index):
    galaxy = np.array([[0.0, 0.0, 15.0, 5.0, 0.6, 0.7, index]])
    with monkeypatch.context() as patch:
        points = smooth_plate(patch, NOTHING[0], galaxy)
    monkeypatch.setattr(plate, "_LARGE", 0.0)
    pixels = smooth_plate(monkeypatch, NOTHING[0], galaxy)
    expected = 10 ** (0.4 * (POPULATION.sky_brightness - 15.0)) / GRID.pixel**2
    assert points.sum() == pytest.approx(expected, rel=0.03) and pixels.sum() == pytest.approx(expected, rel=0.03)
    x, y = GRID.centres()
    for radius in (4.0, 8.0, 16.0):
        inside = np.hypot(x, y) < radius
        assert points[inside].sum() == pytest.approx(pixels[inside].sum(), rel=0.05)
    difference = gaussian_filter(points - pixels, 1.5)
    assert np.abs(difference[np.hypot(x, y) > 5]).max() < 0.04 * pixels.max()


def test_spiral_has_its_light_and_turns():
    x, y = Grid((600, 600), 1.0).centres()
    disc = Spiral(0, 0, 12.0, 20.0, 0.7, 0.3, 0.0, 1)
    expected = 10 ** (0.4 * (POPULATION.sky_brightness - 12.0))
    assert disc(x, y).sum() == pytest.approx(expected, rel=0.02)


def test_density_of_sky_and_of_saturation():
    light = np.zeros(GRID.shape, dtype=np.float32)
    light[:40] = 1e4
    frames = np.array([plate._develop(light, GRID, np.random.default_rng(i)) for i in range(20)])
    sky = frames[:, 60:]
    assert np.median(sky) == pytest.approx(POPULATION.sky_density, rel=0.1)
    assert np.all(frames[:, :40] > 0.99 * POPULATION.top_density) and frames.max() <= POPULATION.top_density
    assert np.all(frames == np.round(frames)) and frames.min() > 0
    one = sky[0] - gaussian_filter(sky[0], 8)
    assert np.std(one) == pytest.approx(POPULATION.grain, rel=0.15)


def autocorrelation(image):
    image = image - gaussian_filter(image, 6)
    spread = 1.4826 * np.median(np.abs(image))
    image = np.where(np.abs(image) < 3 * spread, image, 0)
    return [np.mean(image[:, :-k] * image[:, k:]) / np.mean(image**2) for k in (1, 2, 3)]


@pytest.mark.real_data
def test_grain_is_as_correlated_as_on_a_real_plate(shared_data):
    real = fits.getdata(shared_data / "optical" / "DSS2red_HorseHead.fits").astype(float)[600:850, 20:250]
    grid = Grid((250, 230), 1.01)
    ours = plate._develop(np.zeros(grid.shape, dtype=np.float32), grid, np.random.default_rng(2)).astype(float)
    np.testing.assert_allclose(autocorrelation(ours), autocorrelation(real), atol=0.1)


@pytest.mark.real_data
def test_grain_is_as_strong_as_on_a_real_plate(shared_data):
    """At the density of the sky, and how it grows: parts of one plate with 6,300 and 12,600 adu."""
    image = fits.getdata(shared_data / "optical" / "DSS2red_HorseHead.fits").astype(float)
    real, ours = [], []
    for part in (np.s_[560:890, 5:300], np.s_[300:890, 690:888]):
        level = np.median(image[part])
        power = level * (POPULATION.top_density / POPULATION.sky_density - 1) / (POPULATION.top_density - level)
        light = np.full((250, 250), power ** (1 / POPULATION.contrast) - 1, dtype=np.float32)
        plate_ = plate._develop(light, Grid(light.shape, 1.01), np.random.default_rng(3)).astype(float)
        for rms, each in ((real, image[part]), (ours, plate_)):
            fine = each - gaussian_filter(each, 10)
            rms.append(1.4826 * np.median(np.abs(fine - np.median(fine))))
    assert ours == pytest.approx(real, rel=0.2)
    assert ours[1] / ours[0] == pytest.approx(real[1] / real[0], rel=0.15)


def test_plate_limit_is_near_20_8():
    """Significance of stars in a smoothed plate: 2 to 3.5 at R = 20.8 with the seeing, well seen at 19.5."""
    grid, places = Grid((300, 300), 1.18), np.arange(-140.0, 141.0, 40.0)
    x, y = (each.ravel() for each in np.meshgrid(places, places))
    found = {}
    for magnitude in (19.5, 20.8, 22.0):
        stars = np.column_stack([x, y, np.full(x.size, magnitude)])
        frame = plate.expose_plate(stars, NOTHING[1], grid, np.random.default_rng(3)).astype(float)
        frame = gaussian_filter(frame - gaussian_filter(frame, 10), 1.1)
        values = frame[np.round(y / 1.18 + 149.5).astype(int), np.round(x / 1.18 + 149.5).astype(int)]
        found[magnitude] = np.median(values) / (1.4826 * np.median(np.abs(frame)))
    assert found[19.5] > 5.5 and 1.8 < found[20.8] < 4 and found[22.0] < 2


def test_number_counts_of_stars_and_galaxies():
    rng = np.random.default_rng(4)
    for counts, bounds in (
        (POPULATION.star_counts, POPULATION.star_magnitudes),
        (POPULATION.galaxy_number_counts, POPULATION.field_magnitudes),
    ):
        drawn = _draw_magnitudes(counts, bounds, 2.0, rng)
        a, b, c = counts
        for limit in (16.0, 18.0, 20.0):
            expected = 2 * (10 ** (a + b * (limit - 20) + c * (limit - 20) ** 2))
            assert np.sum(drawn < limit) == pytest.approx(expected, abs=4 * np.sqrt(expected) + 12)
