"""Whether an image is one of a cluster: p is uniform for clusters, at each depth, and small for other things."""

import json

import numpy as np
import pytest

from astroclassify.nn import Familiarity

N, PIXEL = 64, 16.0  # 1 Mpc
ALONG = (np.arange(N) - (N - 1) / 2) * PIXEL


def elliptical(rng, x0=0.0, y0=0.0):
    """Elliptical radius (kpc) about a place near the middle."""
    x, y = ALONG[None, :] - x0 - rng.normal(0, 15), ALONG[:, None] - y0 - rng.normal(0, 15)
    turn, axis = rng.uniform(0, np.pi), rng.uniform(0.7, 1)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return np.hypot(u, v / axis)


def clusters(n, rng, counts=(500, 50_000)):
    """Beta models of core radii from 30 to 200 kpc on a background, a quarter of them double."""
    images = []
    for _ in range(n):
        image = np.zeros((N, N))
        for number in range(1 + (rng.random() < 0.25)):
            away = number * rng.uniform(-300, 300, 2)
            core, beta = np.exp(rng.uniform(np.log(30), np.log(200))), rng.uniform(0.5, 0.75)
            body = (1 + (elliptical(rng, *away) / core) ** 2) ** (0.5 - 3 * beta)
            image += body / body.sum() * (1 if number == 0 else rng.uniform(0.1, 0.6))
        total = np.exp(rng.uniform(*np.log(counts)))
        images.append(rng.poisson(total * image + rng.uniform(0.1, 0.5) * total / N**2))
    return np.array(images)


def gaps(rng):
    """Exposure with the edge of a detector and gaps between chips somewhere."""
    exposure = np.ones((N, N))
    places = rng.integers(24, 56, 2)
    exposure[:, : rng.integers(0, 16)], exposure[places[0] : places[0] + 2], exposure[:, places[1]] = 0, 0, 0.3
    return np.rot90(exposure, rng.integers(4))


def population(n, rng, counts=(500, 50_000)):
    """Clusters seen by the whole detector or one with gaps, and the exposure."""
    exposure = np.array([gaps(rng) if number % 2 else np.ones((N, N)) for number in range(n)])
    return rng.binomial(clusters(n, rng, counts), exposure), exposure


@pytest.fixture(scope="module")
def score():
    images, exposure = population(420, np.random.default_rng(1))
    return Familiarity.fit(images, pixel=PIXEL, resolution=np.full(420, 5.0), exposure=exposure, rng=1, progress=False)


def shares(score, images, **how):
    return np.array([score.p(image, pixel=PIXEL, resolution=5.0, **how) for image in images])


def test_p_is_uniform_for_clusters_at_each_depth(score):
    rng = np.random.default_rng(2)
    for counts in ((500, 2500), (2500, 10_000), (10_000, 50_000)):
        images, exposure = population(150, rng, counts)
        known = (number % 4 < 2 for number in range(150))
        p = np.array([score.p(image, pixel=PIXEL, exposure=seen if told else None, resolution=5.0)
                      for image, seen, told in zip(images, exposure, known, strict=True)])  # fmt: skip
        # 150 images, ranked among 100: three sigma of both.
        for level in (0.05, 0.2, 0.5):
            error = np.sqrt(level * (1 - level) * (1 / 150 + 1 / 100))
            assert np.mean(p <= level) == pytest.approx(level, abs=3 * error)
        assert np.mean(p < 0.01) < 0.05


def others(rng, n=15):
    """Things that are not clusters, 20,000 counts each."""
    field = 5000 / N**2

    def many(make):
        return [rng.poisson(make() + field) for _ in range(n)]

    def point():
        image = np.zeros((N, N))
        image[tuple(rng.integers(28, 36, 2))] = 20_000
        return image

    def shell():
        radius = elliptical(rng) / rng.uniform(100, 300)
        image = np.where(radius < 1, np.sqrt(np.maximum(1 - radius**2, 0)) - np.sqrt(np.maximum(0.7 - radius**2, 0)), 0)
        image = image * np.exp(0.5 * np.kron(rng.normal(size=(16, 16)), np.ones((4, 4))))
        return 20_000 * image / image.sum()

    def sources():
        image = np.zeros((N, N))
        places = np.clip(rng.normal(32, 6, (2, 25)).astype(int), 0, N - 1)
        np.add.at(image, tuple(places), 20_000 / 25 * rng.exponential(size=25))
        return image

    def chip():
        image = np.zeros((N, N))
        image[rng.integers(10, 50) :] = 10
        return image

    return {
        "point source": many(point),
        "shell": many(shell),
        "many sources": many(sources),
        "blank": many(lambda: np.full((N, N), 5.0)),
        "gradient": many(lambda: 10 * np.linspace(0, 1, N)[:, None] * np.ones(N)),
        "chip edge": many(chip),
    }


def test_other_things_are_refused(score):
    for what, images in others(np.random.default_rng(3)).items():
        p = shares(score, images)
        assert np.mean(p < 0.05) > 0.9, what
        assert what == "gradient" or np.mean(p < 0.01) > 0.75, what


def test_pixels_that_are_no_counts_are_refused(score):
    rng = np.random.default_rng(4)
    images = clusters(20, rng, (10_000, 50_000))
    for what, wrong in {
        "multiplied": images * 200,
        "rates": images / 1e4,
        "empty": 0 * images,
        "background taken for a plate": 5000 + images,
    }.items():
        assert np.mean(shares(score, wrong) < 0.01) > 0.9, what


def test_pictures_of_clusters_are_familiar(score):
    # Smoothed, clipped, of any scale: neither noise nor the brightest pixels may matter.
    rng = np.random.default_rng(5)
    images = clusters(40, rng, (5000, 50_000)).astype(float)
    smooth = (images + np.roll(images, 1, 1) + np.roll(images, 1, 2) + np.roll(images, (1, 1), (1, 2))) / 4
    for top in (99.0, 99.7):
        low, high = np.percentile(smooth, [5, top], axis=(1, 2), keepdims=True)
        pictures = np.clip((smooth - low) / (high - low), 0, 1)
        p = [score.p(picture, pixel=PIXEL, resolution=12.0, poisson=False) for picture in pictures]
        assert np.mean(np.array(p) >= 0.01) > 0.85
        assert score.p(1e3 * pictures[0], pixel=PIXEL, resolution=12.0, poisson=False) == p[0]


def test_gaps_and_edges_do_not_make_a_cluster_strange(score):
    rng = np.random.default_rng(6)
    exposure = np.array([gaps(rng) for _ in range(60)])
    images = rng.binomial(clusters(60, rng, (5000, 50_000)), exposure)
    pairs = zip(images, exposure, strict=True)
    known = [score.p(image, pixel=PIXEL, exposure=1e5 * seen, resolution=5.0) for image, seen in pairs]
    for p in (np.array(known), shares(score, images)):  # with cover as a condition p is uniform again, roughly
        assert np.mean(p < 0.01) < 0.1 and np.mean(p < 0.2) < 0.55


def test_turned_and_finer_images_say_the_same(score):
    image = clusters(1, np.random.default_rng(7), (20_000, 20_001))[0]
    p = [score.p(turned, pixel=PIXEL, resolution=5.0) for turned in (image, image.T, image[::-1], np.rot90(image))]
    assert np.ptp(p) < 0.2
    assert score.p(image, pixel=PIXEL) > 0.01  # the typical resolution


def test_round_trip_is_exact_and_small(score):
    text = json.dumps(score.to_dict(), allow_nan=False)
    again = Familiarity.from_dict(json.loads(text))
    assert len(text) < 150_000
    images = clusters(10, np.random.default_rng(8))
    np.testing.assert_array_equal(shares(again, images), shares(score, images))
    np.testing.assert_array_equal(shares(again, images, poisson=False), shares(score, images, poisson=False))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mean": None}, "not an array"),
        ({"ranked": {"shape": [1], "float32": "AACAPw=="}}, "must have shape"),
        ({"networks": []}, "networks"),
        ({"networks": [[[{"shape": [1], "float32": "AACAPw=="}]]]}, "networks"),
        ({"networks": 3}, "wrong kind"),
    ],
)
def test_documents_that_hold_no_score(score, change, match):
    document = json.loads(json.dumps(score.to_dict()))
    document["counts"] |= change
    with pytest.raises(ValueError, match=match):
        Familiarity.from_dict(document)


def test_documents_of_another_kind(score):
    for document in ({}, None, {"counts": score.to_dict()["counts"]}, {**score.to_dict(), "picture": 3}):
        with pytest.raises(ValueError, match="entry"):
            Familiarity.from_dict(document)


def test_bad_arguments(score):
    images = clusters(3, np.random.default_rng(9))
    many = np.repeat(images, 90, axis=0)
    good = {"pixel": PIXEL, "resolution": np.full(270, 5.0), "progress": False}
    for counts, change, match in (
        (images, {"resolution": [5.0] * 3}, "n from 250"),
        (many[:, :32], {}, "ny, ny"),
        (many, {"resolution": [5.0]}, "resolution"),
        (many, {"pixel": 0}, "pixel"),
        (many, {"exposure": np.ones((N, N))}, "exposure"),
        (many, {"groups": ["a"]}, "groups"),
        (many - 100, {}, "from 0"),
        (0 * many, {}, "show something"),
    ):
        with pytest.raises(ValueError, match=match):
            Familiarity.fit(counts, **good | change)
    with pytest.raises(ValueError, match="image of shape"):
        score.p(images, pixel=PIXEL)
    with pytest.raises(ValueError, match="resolution"):
        score.p(images[0], pixel=PIXEL, resolution=-1)
    assert np.isnan(score.p(np.full((N, N), np.nan), pixel=PIXEL))
