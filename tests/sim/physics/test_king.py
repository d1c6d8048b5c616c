"""The spread of XMM-Newton's images against the King formula."""

import numpy as np
import pytest
from astropy import units as u

from astroclassify.fields import KingPsf
from astroclassify.sim.physics._king import king_blur, king_margin


def point(camera, pixel, angle, side=41, place=None):
    """A source of one count in the middle of an image whose pixels all lie at an off-axis angle; share, radius."""
    psf = KingPsf(camera)
    margin = king_margin(psf, pixel)
    side = max(side, 2 * margin + 1) | 1
    sharp = np.zeros((side + 2 * margin,) * 2)
    middle = (side + 2 * margin) // 2
    sharp[middle, middle] = 1.0
    image = king_blur(sharp, np.full(sharp.shape, angle), psf, pixel)
    row, column = np.indices(image.shape) - side // 2
    return image, np.hypot(row, column) * pixel, psf


@pytest.mark.parametrize("camera", ["EPN", "EMOS1", "EMOS2"])
@pytest.mark.parametrize("angle", [0.0, 2.0, 6.5, 13.0])
def test_encircled_energy_is_the_formula(camera, angle):
    # angles on and between those at which the profile is taken
    image, radius, psf = point(camera, 1.5, angle)
    assert image.sum() == pytest.approx(1, abs=1e-6)
    for limit in (10, 15, 30, 60, 120, 250):
        assert image[radius <= limit].sum() == pytest.approx(psf.encircled(limit, angle), abs=0.01)


@pytest.mark.parametrize("pixel", [1.1, 4.1, 8.2])
def test_the_half_energy_radius_does_not_depend_on_the_pixels(pixel):
    image, radius, psf = point("EPN", pixel, 0.0)
    half = psf.radius(0.5, 0.0)
    assert 0.5 - 0.13 * pixel / half < image[radius <= half].sum() < 0.5 + 0.25 * pixel / half
    # far out, where a pixel is small
    assert image[radius > 60].sum() == pytest.approx(1 - psf.encircled(60, 0.0), abs=0.006 * pixel)


def test_a_flat_sky_stays_flat_and_light_comes_from_outside():
    psf = KingPsf("EPN")
    margin = king_margin(psf, 8.0)
    sharp = np.ones((30 + 2 * margin, 20 + 2 * margin))
    assert king_blur(sharp, np.zeros(sharp.shape), psf, 8.0) == pytest.approx(np.ones((30, 20)), abs=1e-9)
    sharp[margin:-margin, margin:-margin] = 0
    outside = king_blur(sharp, np.zeros(sharp.shape), psf, 8.0)
    assert 0 < outside[15, 10] < outside[15, 0] < 0.6


def test_asymmetric_images_are_not_turned():
    psf = KingPsf("EMOS1")
    margin = king_margin(psf, 10.0)
    sharp = np.zeros((40 + 2 * margin, 50 + 2 * margin))
    sharp[margin + 7, margin + 31] = 5.0
    image = king_blur(sharp, np.zeros(sharp.shape), psf, 10.0)
    assert np.unravel_index(np.argmax(image), image.shape) == (7, 31)
    assert image[7, 29] == pytest.approx(image[7, 33]) == pytest.approx(image[5, 31])


def test_band_decides_the_energy():
    from astroclassify.sim.physics._telescope import effective_psf

    assert effective_psf("epic-pn", (0.5, 2.0)).energy == 1 * u.keV
    assert effective_psf("epic-mos1", (2.0, 8.0)).energy.to_value(u.keV) == pytest.approx(4)
