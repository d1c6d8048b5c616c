"""Augmented images are images that a telescope could have taken: whole counts, Poisson noise, nothing lost."""

import numpy as np
import pytest
from scipy import ndimage

from astroclassify.nn.training._augment import AUGMENTATIONS, augment, check_augmentation, rotate, rotation_of, thin

COUNTS = (True,)
ANGLES = np.random.default_rng(5).uniform(-7, 7, 12)


def poisson(mean, shape=(64, 64), seed=0):
    return np.random.default_rng(seed).poisson(mean, shape).astype(np.float32)


def circle(shape, radius):
    y, x = np.indices(shape)
    return np.hypot(y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2) <= radius


@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (24, 40), (41, 26)])
def test_a_rotation_is_a_permutation_of_pixels(shape):
    pixels = np.arange(np.prod(shape)).reshape(shape)
    for angle in ANGLES:
        assert np.array_equal(np.sort(rotate(pixels, angle), axis=None), pixels.ravel())
    assert np.array_equal(rotation_of(shape, 0.0), np.arange(np.prod(shape)))


def test_counts_inside_the_circle_stay_inside():
    for shape in ((64, 64), (48, 64)):
        image = poisson(0.3, shape)
        inside = circle(shape, min(shape) / 2)
        for angle in ANGLES:
            assert rotate(image, angle)[inside].sum() == image[inside].sum()


def test_quarter_turns_are_exact():
    image = poisson(2)
    for turns in range(-4, 5):
        assert np.array_equal(rotate(image, turns * np.pi / 2), np.rot90(image, -turns))


def test_every_pixel_lands_within_one_pixel_of_its_place():
    """Against the rotation matrix; the root mean square is 0.41 and 0.29 pixels."""
    n = 101
    y, x = (index - 50.0 for index in np.indices((n, n)))
    inside = circle((n, n), 48)
    errors = []
    for angle in np.random.default_rng(1).uniform(-np.pi / 4, np.pi / 4, 20):
        from_x, from_y = rotate(np.stack([x, y]), angle)
        dx = x - (np.cos(angle) * from_x - np.sin(angle) * from_y)
        dy = y - (np.sin(angle) * from_x + np.cos(angle) * from_y)
        errors.append((dx[inside], dy[inside]))
    dx, dy = np.hstack(errors)
    assert max(np.abs(dx).max(), np.abs(dy).max()) < 1.3 and np.mean(np.hypot(dx, dy) < 1) > 0.99
    assert (dx.std(), dy.std()) == pytest.approx((0.41, 0.29), abs=0.05)
    assert np.abs([dx.mean(), dy.mean()]).max() < 0.02


def test_a_rotated_image_is_that_of_interpolation():
    """An off-centre beta model of 4 pixels, against scipy.ndimage (an independent rotation)."""
    y, x = np.indices((65, 65)) - 32.0
    model = 1e4 * (1 + ((x - 9) ** 2 + (y + 5) ** 2) / 16) ** -1.5
    for angle in (0.3, 1.1, 2.5):
        expected = ndimage.rotate(model, -np.degrees(angle), reshape=False, order=3)
        moved = rotate(model, angle)
        assert np.abs(ndimage.gaussian_filter(moved - expected, 1.5))[circle((65, 65), 28)].max() < 0.06 * 1e4
        cy, cx = (np.sum(moved**2 * i) / np.sum(moved**2) for i in (y, x))
        assert cx == pytest.approx(9 * np.cos(angle) + 5 * np.sin(angle), abs=0.2)
        assert cy == pytest.approx(9 * np.sin(angle) - 5 * np.cos(angle), abs=0.2)


@pytest.mark.parametrize("mean", [0.2, 3.0, 40.0])
def test_noise_stays_poisson_noise_under_rotation(mean):
    """Mean, variance and covariance of neighbours; linear interpolation would give a variance of 0.44 of the mean."""
    images = np.stack([rotate(poisson(mean, seed=seed), 0.6) for seed in range(60)])
    inside = circle((64, 64), 30)
    values = images[:, inside]
    error = np.sqrt(2 / values.size)
    assert values.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / values.size))
    assert values.var() / mean == pytest.approx(1, abs=5 * error * max(1, mean**-0.5))
    deviation = (images - mean) / np.sqrt(mean)
    for axis in (1, 2):
        neighbours = np.mean((deviation * np.roll(deviation, 1, axis=axis))[:, circle((64, 64), 28)])
        assert abs(neighbours) < 5 * error


@pytest.mark.parametrize(("mean", "kept"), [(0.3, 0.5), (4.0, 0.7), (60.0, 0.9)])
def test_thinned_counts_are_poisson_of_a_shorter_exposure(mean, kept):
    counts = poisson(mean, (400, 400))
    left = thin(counts, kept, np.random.default_rng(1))
    assert np.array_equal(left, np.round(left)) and np.all((left >= 0) & (left <= counts))
    assert left.mean() == pytest.approx(kept * mean, abs=5 * np.sqrt(kept * mean / left.size))
    assert left.var() / left.mean() == pytest.approx(1, abs=5 * np.sqrt(2 / left.size) * max(1, mean**-0.5))
    lost = counts - left  # what was kept and what was not are independent
    assert abs(np.corrcoef(left.ravel(), lost.ravel())[0, 1]) < 5 / np.sqrt(left.size)


def test_thinning_of_what_is_not_whole():
    """Resampled images: the rest over whole counts shrinks as the mean; single precision makes no rest."""
    rng = np.random.default_rng(0)
    image = np.full((200, 200), 2.75, dtype=np.float32)
    assert thin(image, 0.5, rng).mean() == pytest.approx(1.375, abs=0.02)
    nearly = np.nextafter(np.full((9, 9), 3, np.float32), np.float32(0))
    assert np.abs(thin(nearly, 1.0, rng) - 3).max() < 1e-6
    below = np.full((9, 9), -0.5, np.float32)  # a subtracted background
    assert thin(below, 0.5, rng) == pytest.approx(-0.25)
    assert np.array_equal(thin(image, 1.0, rng), image) and not thin(np.zeros((5, 5), np.float32), 0.5, rng).any()


@pytest.mark.parametrize("names", [("flip", "turn", "shift"), ("flip", "rotate", "shift")])
def test_pixels_keep_their_values_and_bands_move_together(names):
    rng = np.random.default_rng(1)
    images = np.repeat(poisson(2, (40, 1, 32, 32)), 2, axis=1)
    before = images.copy()
    changed = augment(images, rng, names=names, counts=(True, False))
    assert np.array_equal(images, before)
    assert np.array_equal(np.sort(changed.reshape(40, -1), axis=1), np.sort(images.reshape(40, -1), axis=1))
    assert np.array_equal(changed[:, 0], changed[:, 1]) and changed.dtype == np.float32
    assert sum(np.array_equal(a, b) for a, b in zip(changed, images, strict=True)) < 5


def test_the_centre_moves_no_further_than_a_32nd():
    images = np.zeros((300, 1, 97, 97), dtype=np.float32)
    images[:, :, 48, 48] = 1
    y, x = np.nonzero(augment(images, np.random.default_rng(0), names=("shift",), counts=COUNTS).sum(axis=(0, 1)))
    assert (y.min(), y.max(), x.min(), x.max()) == (45, 51, 45, 51)


def test_turns_and_flips_reach_all_orientations():
    images = np.tile(np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8), (300, 1, 1, 1))
    for shape, n in ((images, 8), (images[:, :, :4], 4)):
        changed = augment(shape, np.random.default_rng(0), names=("flip", "turn"), counts=COUNTS)
        assert len({image.tobytes() for image in changed}) == n


def test_counts_and_plates_are_told_apart():
    images = np.stack([poisson(5, (50, 32, 32)), 100 + poisson(5, (50, 32, 32))], axis=1)
    rng = np.random.default_rng(2)
    changed = augment(images, rng, names=("thin",), counts=(True, False))
    assert np.array_equal(changed[:, 1], images[:, 1])
    kept = changed[:, 0].sum(axis=(1, 2)) / images[:, 0].sum(axis=(1, 2))
    assert 0.48 < kept.min() < 0.6 and 0.9 < kept.max() < 1.01
    changed = augment(images, rng, names=("brightness",), counts=(True, False))
    assert np.array_equal(changed[:, 0], images[:, 0])
    gain = changed[:, 1].std(axis=(1, 2)) / images[:, 1].std(axis=(1, 2))
    assert 0.79 < gain.min() < 0.9 and 1.1 < gain.max() < 1.26
    # One straight line per image: gain and offset.
    assert np.corrcoef(changed[3, 1].ravel(), images[3, 1].ravel())[0, 1] == pytest.approx(1, abs=1e-5)


def test_the_same_seed_gives_the_same_images():
    images = np.stack([poisson(3, (6, 32, 32)), poisson(3, (6, 32, 32))], axis=1)
    names = tuple(set(AUGMENTATIONS) - {"depth"})  # which needs planes of the observation
    a, b = (augment(images, np.random.default_rng(4), names=names, counts=(True, False)) for _ in range(2))
    assert np.array_equal(a, b, equal_nan=True)
    assert np.array_equal(augment(images, np.random.default_rng(4), names=(), counts=(True, True)), images)


@pytest.mark.parametrize(
    ("names", "counts", "message"),
    [
        ("flip", (True,), "must be a tuple of names"),
        (("spin",), (True,), "must be a tuple of names"),
        (("flip", "flip"), (True,), "each kind once"),
        (("thin",), (False,), "needs a band that holds counts"),
        (("brightness",), (True, True), "needs a band that holds no counts"),
    ],
)
def test_wrong_choices_are_named(names, counts, message):
    with pytest.raises(ValueError, match=message):
        check_augmentation(names, counts=counts)
