"""Novelty: false alarms as often as promised, strange images found, hostile documents refused; spread over copies."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from astroclassify.images import Geometry
from astroclassify.nn import Novelty, spread
from astroclassify.nn.doubt._novelty import _Gaussians
from astroclassify.nn.doubt._statistics import image_statistics
from astroclassify.nn.estimators._fitting import fit_novelty
from astroclassify.nn.inputs._preprocess import Preprocessing
from astroclassify.nn.models._inference import OnnxNetwork, Predictor
from astroclassify.schemes import COOL_CORE, Flag

GRID = 32
FALSE_ALARM_RATE = 0.01  # of `Novelty.unfamiliar`, as documented


def clusters(n, rng, *, counts=3000, background=0.3):
    """Counts of round clusters of different brightness and concentration, shape (n, 1, 32, 32)."""
    y, x = np.indices((GRID, GRID)) - (GRID - 1) / 2
    radius = np.hypot(x, y)
    core = rng.uniform(2, 6, size=n)[:, None, None]
    shape = (1 + (radius / core) ** 2) ** -1.5
    total = counts * 10 ** rng.normal(0, 0.2, size=n)[:, None, None]
    expected = total * shape / shape.sum(axis=(1, 2), keepdims=True) + background
    return rng.poisson(expected).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def known():
    rng = np.random.default_rng(1)
    images = clusters(400, rng)
    return Novelty.fit(statistics=image_statistics(images, [1e5] * 400))


@pytest.mark.parametrize("kind", ["normal", "student", "rectified"])
def test_false_alarm_rate(kind):
    rates, mix = [], np.random.default_rng(0).normal(size=(30, 30)) * np.exp(-np.arange(30) / 6)[:, None]
    for seed in range(12):
        rng = np.random.default_rng(seed)

        def draw(n, rng=rng):
            values = rng.standard_t(5, size=(n, 30)) if kind == "student" else rng.normal(size=(n, 30))
            return np.maximum(values @ mix, 0) if kind == "rectified" else values @ mix

        novelty = Novelty.fit(draw(500))
        held = Novelty.fit(draw(500), reference=(draw(300), None))
        new = draw(3000)
        rates.append([np.mean(part.unfamiliar(new)) for part in (novelty, held)])
    # Twelve scores, each known to about a factor 1.5 from 300 to 500 reference images.
    assert np.all(np.abs(np.mean(rates, axis=0) - FALSE_ALARM_RATE) < 0.5 * FALSE_ALARM_RATE)


def test_scores_of_familiar_images_are_uniform():
    rng = np.random.default_rng(3)
    novelty = Novelty.fit(rng.normal(size=(600, 8)), reference=(rng.normal(size=(600, 8)), None))
    p = novelty.score(rng.normal(size=(5000, 8)))
    for level in (0.8, 0.5, 0.2, 0.1, 0.05):
        assert np.mean(p < level) == pytest.approx(level, abs=0.045)


def test_distance_is_mahalanobis():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 3
    scale = values.std(axis=0)
    covariance = ledoit_wolf((values - values.mean(axis=0)) / scale, assume_centered=True)[0]
    scaled = (values - values.mean(axis=0)) / scale
    expected = np.sqrt(np.einsum("ni,ij,nj->n", scaled, np.linalg.inv(covariance), scaled))
    found = _Gaussians.fit(values, np.zeros(200, int), 0.0).distances(values)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_many_features_share_the_variance_of_the_rest():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(5000, 64))
    values[:, :3] *= 10
    found = _Gaussians.fit(values, np.zeros(5000, int), 0.0).distances(values)
    # The square of a Mahalanobis distance of k numbers has the mean k.
    assert np.mean(found**2) == pytest.approx(64, rel=0.02)


def test_shifted_features_are_found():
    rng = np.random.default_rng(6)
    novelty = Novelty.fit(rng.normal(size=(400, 20)))
    shifted = rng.normal(size=(500, 20))
    shifted[:, 0] += 8
    assert np.mean(novelty.unfamiliar(shifted)) > 0.95
    scores = [float(novelty.score(np.full((1, 20), size))[0]) for size in (0, 1, 2, 4, 8)]
    assert scores[0] == 1 and np.all(np.diff(scores) < 0) and scores[-1] < 1e-6


def test_classes_far_apart_need_their_labels():
    rng = np.random.default_rng(7)
    labels = np.repeat([0, 1], 200)
    values = rng.normal(size=(400, 5)) + 20 * labels[:, None]
    between = np.full((1, 5), 10.0)
    assert not Novelty.fit(values).unfamiliar(between)[0]
    assert Novelty.fit(values, labels=labels).unfamiliar(between)[0]


def test_two_kinds_together_keep_the_rate():
    rng = np.random.default_rng(8)

    def draw(n):
        return rng.normal(size=(n, 6)), rng.normal(size=(n, 4))

    novelty = Novelty.fit(*draw(800), reference=draw(800))
    features, statistics = draw(4000)
    assert novelty.kinds == ("features", "statistics")
    assert np.mean(novelty.unfamiliar(features, statistics)) < 0.018
    only = novelty.score(features), novelty.score(statistics=statistics)
    np.testing.assert_allclose(novelty.score(features, statistics), np.minimum(1, 2 * np.minimum(*only)))


def test_statistics_by_hand():
    image = np.zeros((1, 2, 20, 20))
    image[0, 0, 9:11, 9:11] = 9.0
    image[0, 1] = 1.0
    values = image_statistics(image, [1e4])[0]
    np.testing.assert_allclose(values[[0, 1, 2, 3]], [np.log10(37), np.log10(37), 0, 1])
    # Twelve pairs with counts: eight at the border, (9 - 0)^2 / 9 each, and four within the square, 0 each.
    np.testing.assert_allclose(values[4], np.log10(0.01 + 8 * 9 / 12))
    np.testing.assert_allclose(values[[5, 7, 8]], [np.log10(401), np.log10(401), np.log10(2)])
    np.testing.assert_allclose(values[9:], [-2, 4])
    assert np.isnan(image_statistics(image)[0, -1]) and np.isnan(image_statistics(image, [None])[0, -1])
    assert np.isfinite(image_statistics(np.zeros((1, 1, 8, 8)))[0, :-1]).all()
    assert np.isfinite(image_statistics(np.full((1, 1, 1, 1), -5.0))[0, :-1]).all()


def test_grain_of_poisson_noise_is_one():
    rng = np.random.default_rng(9)
    counts = rng.poisson(2.0, size=(20, 1, 64, 64)).astype(float)
    assert 10 ** image_statistics(counts)[:, 4].mean() == pytest.approx(1.01, rel=0.01)
    assert image_statistics(3 * counts)[:, 4].mean() == pytest.approx(np.log10(3.01), abs=0.01)


def test_familiar_images_and_strange_ones(known):
    rng = np.random.default_rng(10)
    new = clusters(2000, rng)
    assert np.mean(known.unfamiliar(statistics=image_statistics(new, [1e5] * 2000))) < 0.02
    images = clusters(100, rng)
    coarse = images.reshape(100, 1, 8, 4, 8, 4).mean(axis=(3, 5)).repeat(4, axis=2).repeat(4, axis=3)
    strange = {
        "a tenth of the exposure, in the counts": (clusters(100, rng, counts=300, background=0.03), 1e5),
        "a tenth of the exposure, in the header alone": (images, 1e4),
        "ten times the background": (clusters(100, rng, background=3), 1e5),
        "resampled from pixels four times as large, as from ROSAT": (coarse, 1e5),
        "not counts but rates": (images / 1e5, 1e5),
        "empty": (np.zeros_like(images), 1e5),
        "noise alone": (rng.poisson(3.3, size=images.shape).astype(np.float32), 1e5),
    }
    for what, (pixels, exposure) in strange.items():
        found = known.unfamiliar(statistics=image_statistics(pixels, [exposure] * 100))
        assert np.mean(found) > 0.95, what
    # Ten per cent shorter is nothing; an exposure that is not known is not held against an image.
    for exposure in (0.9e5, None):
        found = known.unfamiliar(statistics=image_statistics(new, [exposure] * 2000))
        assert np.mean(found) < 0.03


def test_few_images():
    rng = np.random.default_rng(11)
    for n in (2, 3, 8, 20):
        novelty = Novelty.fit(rng.normal(size=(n, 5)), rng.normal(size=(n, 3)), groups=["a"] * n)
        p = novelty.score(rng.normal(size=(50, 5)), rng.normal(size=(50, 3)))
        assert np.all((p > 0) & (p <= 1))
        assert np.mean(p < FALSE_ALARM_RATE) < (0.1 if n == 20 else 1e-9)
    assert Novelty.fit(np.ones((5, 3))).score(np.ones((1, 3)))[0] > 0.5


def test_groups_are_not_split():
    # Three equal images to a group: split, each would have its own copies to be compared with.
    rng = np.random.default_rng(12)
    groups = np.repeat(np.arange(60), 3)
    values = rng.normal(size=(60, 30))[groups] + 0.01 * rng.normal(size=(180, 30))
    new = rng.normal(size=(2000, 30))
    rates = [np.mean(Novelty.fit(values, groups=g).score(new) < 0.1) for g in (groups, None)]
    assert rates[0] < 0.2 < rates[1]


def test_round_trip_is_exact_and_small(known):
    rng = np.random.default_rng(13)
    novelty = Novelty.fit(rng.normal(size=(300, 512)), rng.normal(size=(300, 6)), labels=rng.integers(3, size=300))
    text = json.dumps(novelty.to_dict(), allow_nan=False)
    assert len(text) < 80_000
    again = Novelty.from_dict(json.loads(text))
    new = rng.normal(size=(50, 512)) * 1.5, rng.normal(size=(50, 6)) * 2
    np.testing.assert_array_equal(again.score(*new), novelty.score(*new))
    assert again.kinds == novelty.kinds


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scale": None}, "not an array"),
        ({"scale": {"shape": [3], "float32": "AAAA"}}, "not an array"),
        ({"scale": {"shape": [-1], "float32": "AAAAAA=="}}, "not an array"),
        ({"means": {"shape": [10**12, 10**12], "float32": "AAAAAA=="}}, "not an array"),
        ({"means": {"shape": [1, 1], "float32": "AADAfw=="}}, "finite"),
        ({"variances": {"shape": [1], "float32": "AACAPw=="}}, "must have shape"),
        ({"n": 1}, "whole number"),
        ({"n": "many"}, "whole number"),
        ({"mean_excess": float("nan")}, "finite and positive"),
        ({"rest": -1.0}, "finite and positive"),
        ({"rest": []}, "wrong kind"),
        ({"quantiles": {"shape": [2], "float32": "AACAPwAAAAA="}}, "rising"),
    ],
)
def test_documents_that_hold_no_score(known, change, match):
    mapping = json.loads(json.dumps(known.to_dict()))
    mapping["statistics"] |= change
    with pytest.raises(ValueError, match=match):
        Novelty.from_dict(mapping)


@pytest.mark.parametrize("mapping", [None, {}, [], {"features": None}, {"features": {}}, {"other": {}}])
def test_documents_of_another_kind(mapping):
    with pytest.raises(ValueError, match="novelty score"):
        Novelty.from_dict(mapping)


def test_bad_arguments(known):
    good = np.random.default_rng(0).normal(size=(4, 3))
    for arguments, match in (
        ({}, "must be given"),
        ({"features": good[0]}, "shape"),
        ({"features": good[:1]}, "two images"),
        ({"features": np.where(good > 1e9, 0, np.nan)}, "finite"),
        ({"features": good, "statistics": good[:3]}, "shape"),
        ({"features": good, "labels": [1, 2]}, "labels"),
        ({"features": good, "groups": [1, 2]}, "groups"),
        ({"features": good, "reference": (good[:, :2], None)}, "reference"),
    ):
        with pytest.raises(ValueError, match=match):
            Novelty.fit(**arguments)
    with pytest.raises(ValueError, match="must be given"):
        known.score(good)
    with pytest.raises(ValueError, match="shape"):
        known.score(statistics=good)
    assert known.score(statistics=np.full((1, 6), np.inf))[0] < 1e-6
    assert np.isnan(known.score(statistics=np.full((1, 6), np.nan))[0])
    with pytest.raises(ValueError, match="four|shape"):
        image_statistics(good)
    with pytest.raises(ValueError, match="one per image"):
        image_statistics(np.zeros((2, 1, 4, 4)), [1.0])


class CentreNetwork(OnnxNetwork):
    """Stands in for a network: three logits from the counts of four quarters and the middle."""

    def __init__(self, scale):
        super().__init__(b"", input_shape=(1, GRID, GRID), n_classes=3)
        self.scale = scale

    @property
    def outputs(self):
        return ("logits", "features")

    def run(self, pixels, names=("logits",)):
        half = GRID // 2
        quarters = [pixels[:, 0, :half, :half], pixels[:, 0, :half, half:], pixels[:, 0, half:, :half]]
        features = np.stack([quarter.mean(axis=(1, 2)) for quarter in quarters], axis=1)
        outputs = {"logits": self.scale * (features - features.mean(axis=1, keepdims=True)), "features": features}
        return [outputs[name] for name in names]


def stand_in(even=False):
    network = CentreNetwork(0.0 if even else 5.0)
    rule = Preprocessing("linear", (0.0,), (1.0,))
    predictor = Predictor(network, bands=("xray",), geometry=Geometry.from_dict(
        {"width": 1.0, "unit": "Mpc", "shape": [GRID, GRID]}), preprocessing=rule, training={})  # fmt: skip

    return SimpleNamespace(scheme=COOL_CORE, count_bands=("xray",), _fitted=lambda: predictor)


def test_novelty_of_a_network():
    rng = np.random.default_rng(14)

    def sample(n):
        headers = tuple(SimpleNamespace(exposure=1e5) for _ in range(n))
        images = clusters(n, rng)
        return SimpleNamespace(counts=images, planes=images, groups=np.arange(n).astype(str), headers=headers)

    predictor = stand_in()._fitted()
    for held in (None, sample(5), sample(100)):
        novelty = fit_novelty(predictor, sample(300), held, np.arange(300) % 2)
        assert novelty.kinds == ("features", "statistics")
        new = clusters(500, rng)
        features = predictor.network.run(new, ("features",))[0]
        assert np.mean(novelty.unfamiliar(features, image_statistics(new, [1e5] * 500))) < 0.05
        assert np.mean(novelty.unfamiliar(10 * features, image_statistics(new, [1e5] * 500))) > 0.9


def test_spread():
    rng = np.random.default_rng(15)
    lopsided = clusters(2, rng)
    lopsided[1, :, : GRID // 2] *= 4
    table = spread(stand_in(), lopsided, n=12, rng=5)
    assert np.all(table["p_CC_std"] > 0)
    # A turn moves the bright half: the answer follows it.
    assert table["agreement"][1] < 1 and table["p_NCC_std"][1] > 0.1
    np.testing.assert_allclose(sum(table[f"p_{name}"] for name in COOL_CORE.classes), 1)
    alone = spread(stand_in(), [lopsided[1]], n=12, rng=5)
    again = spread(stand_in(), lopsided, n=12, rng=5)
    assert np.all(table["p_CC_std"] == again["p_CC_std"])
    assert len(alone) == 1
    flat = spread(stand_in(even=True), lopsided, n=3)
    assert np.all(flat["p_CC_std"] == 0) and np.all(flat["agreement"] == 1)


def test_spread_keeps_rows_that_fail():
    rng = np.random.default_rng(16)
    table = spread(stand_in(), [clusters(1, rng)[0], np.full((GRID, GRID), np.nan)], n=2)
    assert table["flags"][1] & Flag.FAILED and "finite" in table["message"][1]
    assert np.isnan(table["p_CC_std"][1]) and np.isnan(table["agreement"][1])
    assert len(spread(stand_in(), np.zeros((0, GRID, GRID)), n=2)) == 0
    with pytest.raises(ValueError, match="n must be"):
        spread(stand_in(), clusters(1, rng), n=1)
