"""Temperature, class frequencies, reliability and calibration error, against what they must be."""

import numpy as np
import pytest
from astropy.table import QTable
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.nn import correct_prior, expected_calibration_error, fit_temperature, reliability
from astroclassify.schemes import COOL_CORE


def draw(p, rng):
    """A class number for each row of probabilities."""
    return (rng.uniform(size=len(p))[:, None] > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)


def table_of(p, labels, groups=None):
    names = np.array(COOL_CORE.classes)
    table = QTable({"source_id": np.arange(len(p)).astype(str), "label_pred": names[p.argmax(axis=1)]})
    for index, name in enumerate(names):
        table[f"p_{name}"] = p[:, index]
    table["flags"], table["label"] = np.zeros(len(p), int), names[labels]
    if groups is not None:
        table["group_id"] = np.asarray(groups).astype(str)
    table.meta["scheme"] = COOL_CORE.to_dict()
    return table


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_temperature_is_that_of_the_labels(truth):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, size=(20000, 3))
    labels = draw(softmax(logits / truth, axis=1), rng)
    found = fit_temperature(logits, labels)
    # Fisher information of 1/T is the mean variance of the logits under p.
    p = softmax(logits / truth, axis=1)
    variance = (p * logits**2).sum(axis=1) - (p * logits).sum(axis=1) ** 2
    error = truth**2 / np.sqrt(variance.sum())
    assert abs(found - truth) < 4 * error
    assert error < 0.03 * truth


def test_temperature_is_where_an_independent_minimiser_finds_it():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 3, size=(200, 4)), rng.integers(4, size=200)
    logits[np.arange(200), labels] += 2
    found = fit_temperature(logits, labels)
    least = minimize_scalar(lambda t: log_loss(labels, softmax(logits / t, axis=1)), bounds=(0.1, 10), method="bounded")
    assert found == pytest.approx(least.x, rel=1e-4)
    soft = np.eye(4)[labels]
    assert fit_temperature(logits, soft) == pytest.approx(found, rel=1e-9)


def test_temperature_of_two_classes_by_hand():
    # Logit difference 2 and right in 3 of 4 cases: log(0.75 / 0.25) = 2 / T.
    logits = np.array([[2.0, 0.0]] * 4)
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(2 / np.log(3), rel=1e-9)


def test_weights_and_groups_count_as_repeated_rows():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, size=(60, 3))
    labels = draw(softmax(logits, axis=1), rng)
    repeats = rng.integers(1, 4, size=60)
    many = np.repeat(logits, repeats, axis=0), np.repeat(labels, repeats)
    groups = np.repeat(np.arange(60), repeats)
    assert fit_temperature(*many) == pytest.approx(fit_temperature(logits, labels, sample_weight=repeats), rel=1e-9)
    assert fit_temperature(*many, groups=groups) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


def test_class_weights_undo_balanced_training():
    # Logits of a network for equally frequent classes, right for T = 2; the validation images have other frequencies.
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], [3000, 15000, 6000])
    means = 1.2 * np.eye(3)
    features = means[labels] + rng.normal(size=(len(labels), 3))
    logits = 2 * features @ means.T  # log-likelihood up to a constant, doubled: too sure by T = 2
    weights = len(labels) / np.bincount(labels)[labels]
    assert fit_temperature(logits, labels, sample_weight=weights) == pytest.approx(2, rel=0.05)


def test_temperature_that_the_images_do_not_determine():
    logits = np.array([[3.0, 0.0], [0.0, 2.0]])
    with pytest.warns(AstroclassifyWarning, match="too few images are wrong"):
        assert fit_temperature(logits, np.array([0, 1])) == 1
    with pytest.warns(AstroclassifyWarning, match="no better than equal"):
        assert fit_temperature(logits, np.array([1, 0])) == 10
    assert fit_temperature(np.zeros((3, 2)), np.array([0, 1, 1])) == 1


@pytest.mark.parametrize(
    ("logits", "labels", "match"),
    [
        (np.zeros(3), [0, 1, 1], "logits must be"),
        (np.zeros((0, 2)), np.zeros(0, int), "logits must be"),
        (np.full((2, 2), np.nan), np.array([0, 1]), "logits must be finite"),
        (np.zeros((2, 2)), np.array([0, 2]), "from 0 to 1"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), "class numbers"),
        (np.zeros((2, 2)), np.array([0, 1, 1]), "class numbers"),
        (np.zeros((2, 2)), np.array([[0.5, 0.4], [1, 0]]), "sum to 1"),
    ],
)
def test_bad_logits_and_labels(logits, labels, match):
    with pytest.raises(ValueError, match=match):
        fit_temperature(logits, labels)


def test_bad_weights_and_groups():
    logits, labels = np.zeros((2, 2)), np.array([0, 1])
    with pytest.raises(ValueError, match="sample_weight must be finite"):
        fit_temperature(logits, labels, sample_weight=[0, 0])
    with pytest.raises(ValueError, match="groups must be one per row"):
        fit_temperature(logits, labels, groups=["a"])


def test_prior_by_bayes():
    # A test of sensitivity 0.9 and specificity 0.8: for equally frequent classes p = 0.9 / (0.9 + 0.2).
    p = 0.9 / 1.1
    expected = 0.9 * 0.01 / (0.9 * 0.01 + 0.2 * 0.99)
    np.testing.assert_allclose(correct_prior([p, 1 - p], [1, 1], [0.01, 0.99]), [expected, 1 - expected])


def test_prior_of_normal_distributions():
    # Three normal distributions: posterior for any frequencies is known.
    x = np.linspace(-3, 6, 50)
    likelihood = np.exp(-0.5 * (x[:, None] - [0, 1.5, 3]) ** 2)

    def posterior(prior):
        joint = likelihood * prior
        return joint / joint.sum(axis=1, keepdims=True)

    before, after = np.array([0.2, 0.5, 0.3]), np.array([0.7, 0.1, 0.2])
    found = correct_prior(posterior(before), 10 * before, 3 * after)
    np.testing.assert_allclose(found, posterior(after), rtol=1e-12)
    np.testing.assert_allclose(correct_prior(found, after, before), posterior(before), rtol=1e-12)
    assert np.all(np.isnan(correct_prior(np.full((1, 3), np.nan), before, after)))


@pytest.mark.parametrize(
    ("p", "before", "after", "match"),
    [
        ([0.5, 0.6], [1, 1], [1, 1], "sum to 1"),
        ([0.5, 0.5], [1, 1, 1], [1, 1], "from_prior must be 2"),
        ([0.5, 0.5], [1, 1], [-1, 2], "to_prior must be 2"),
        ([0.5, 0.5], [0, 1], [1, 1], "above 0"),
        ([0.0, 1.0], [1, 1], [1, 0], "rule out every class"),
    ],
)
def test_bad_priors(p, before, after, match):
    with pytest.raises(ValueError, match=match):
        correct_prior(p, before, after)


def test_reliability_by_hand():
    p = np.array([[0.1, 0.2, 0.7], [0.3, 0.35, 0.35], [0.55, 0.25, 0.2], [1.0, 0.0, 0.0]])
    bins = reliability(table_of(p, np.array([2, 0, 1, 0])), n_bins=2)
    assert bins["class"].tolist() == ["CC", "CC", "WCC", "WCC", "NCC", "NCC", "top", "top"]
    assert bins["n"].tolist() == [2, 2, 4, 0, 3, 1, 1, 3]
    np.testing.assert_allclose(bins["p_mean"], [0.2, 0.775, 0.2, np.nan, 0.55 / 3, 0.7, 0.35, 0.75])
    np.testing.assert_allclose(bins["fraction"], [0.5, 0.5, 0.25, np.nan, 0, 1, 0, 2 / 3])
    assert bins["p_lo"][:2].tolist() == [0, 0.5] and bins["p_hi"][:2].tolist() == [0.5, 1]
    ece = expected_calibration_error(table_of(p, np.array([2, 0, 1, 0])), n_bins=2, n_bootstrap=0)
    expected = [(2 * 0.3 + 2 * 0.275) / 4, 0.05, (3 * 0.55 / 3 + 0.3) / 4, (0.35 + 3 * (0.75 - 2 / 3)) / 4]
    np.testing.assert_allclose(ece["ece"], expected)
    assert np.isnan(ece["ece_lo"]).all() and np.isnan(ece["ece_hi"]).all()


@pytest.mark.parametrize(("binning", "strategy"), [("width", "uniform"), ("count", "quantile")])
def test_reliability_agrees_with_scikit_learn(binning, strategy):
    rng = np.random.default_rng(5)
    p = rng.dirichlet([1, 1, 1], size=3000)
    labels = draw(p, rng)
    bins = reliability(table_of(p, labels), n_bins=8, binning=binning)
    bins = bins[bins["class"] == "WCC"]
    fraction, mean = calibration_curve(labels == 1, p[:, 1], n_bins=8, strategy=strategy)
    np.testing.assert_allclose(bins["fraction"], fraction, atol=1e-12)
    np.testing.assert_allclose(bins["p_mean"], mean, atol=1e-12)
    if binning == "count":
        assert bins["n"].tolist() == [375] * 8


def test_interval_is_wilsons():
    for k, n in ((0, 5), (3, 10), (99, 100)):
        expected = binomtest(k, n).proportion_ci(method="wilson")
        labels = np.repeat([0, 1], [k, n - k])
        bins = reliability(table_of(np.tile([0.6, 0.3, 0.1], (n, 1)), labels), n_bins=2)[:2]
        found = [bins["fraction_lo"][1], bins["fraction_hi"][1]]
        np.testing.assert_allclose(found, [expected.low, expected.high], atol=1e-12)
        assert bins["n"].tolist() == [0, n] and np.isnan(bins["fraction_lo"][0]) and np.isnan(bins["fraction_hi"][0])


def test_members_of_a_group_count_as_one():
    rng = np.random.default_rng(6)
    p = rng.dirichlet([1, 1, 1], size=100)
    labels = draw(p, rng)
    one = reliability(table_of(p, labels))
    three = np.repeat(p, 3, axis=0), np.repeat(labels, 3), np.repeat(np.arange(100), 3)
    grouped, apart = reliability(table_of(*three)), reliability(table_of(*three[:2]))
    np.testing.assert_allclose(grouped["fraction_hi"], one["fraction_hi"])
    wide, narrow = (table["fraction_hi"] - table["fraction_lo"] for table in (grouped, apart))
    assert np.all(wide[one["n"] > 0] > narrow[one["n"] > 0])


def test_error_of_exact_probabilities_is_its_bias_and_vanishes():
    rng = np.random.default_rng(7)
    p = rng.dirichlet([1, 1, 1], size=20000)
    large = expected_calibration_error(table_of(p, draw(p, rng)), n_bootstrap=20, rng=0)
    assert np.all(large["ece"] < 0.015)
    small = p[:300]
    tables = [expected_calibration_error(table_of(small, draw(small, rng)), n_bootstrap=20, rng=0) for _ in range(20)]
    ece = np.array([table["ece"] for table in tables])
    np.testing.assert_allclose(ece.mean(axis=0), tables[0]["ece_exact"], rtol=0.15)
    # The bias by the formula of the documentation: mean absolute deviation of a normal distribution, summed over bins.
    bins = reliability(table_of(small, draw(small, rng)))
    bins = bins[(bins["class"] == "CC") & (bins["n"] > 0)]
    noise = np.sqrt(2 / np.pi * bins["p_mean"] * (1 - bins["p_mean"]) * bins["n"]).sum() / 300
    assert tables[0]["ece_exact"][0] == pytest.approx(noise, rel=0.1)
    lows = np.array([table["ece_lo"] for table in tables])
    assert np.mean(lows == 0) > 0.85


def test_error_of_too_sure_a_network():
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 2, size=(3000, 3))
    labels = draw(softmax(logits, axis=1), rng)
    sure = softmax(2.5 * logits, axis=1)
    true = (sure.max(axis=1) - softmax(logits, axis=1).max(axis=1)).mean()
    before = expected_calibration_error(table_of(sure, labels), n_bootstrap=100, rng=0)[-1]
    assert before["class"] == "top"
    assert before["ece_lo"] < true < before["ece_hi"]
    assert before["ece_lo"] > 3 * before["ece_exact"]
    after = softmax(2.5 * logits / fit_temperature(2.5 * logits, labels), axis=1)
    after = expected_calibration_error(table_of(after, labels), n_bootstrap=0, rng=0)[-1]
    assert after["ece"] < 0.25 * before["ece"]
    assert after["ece"] < 2 * after["ece_exact"]


def test_error_is_the_same_for_a_seed_and_grows_with_groups():
    rng = np.random.default_rng(9)
    p = np.repeat(rng.dirichlet([1, 1, 1], size=100), 3, axis=0)
    groups = np.repeat(np.arange(100), 3)
    table = table_of(p, np.repeat(draw(p[::3], rng), 3), groups)
    first, second = (expected_calibration_error(table, n_bootstrap=30, rng=4) for _ in range(2))
    for name in first.colnames:
        assert np.all(first[name] == second[name])
    alone = table["source_id", "label_pred", "p_CC", "p_WCC", "p_NCC", "flags", "label"]
    alone = expected_calibration_error(alone, rng=4)
    np.testing.assert_allclose(first["ece_exact"] / alone["ece_exact"], np.sqrt(3), rtol=0.15)


def test_rows_without_probabilities_and_bad_arguments():
    p = np.array([[0.8, 0.1, 0.1], [np.nan] * 3])
    table = table_of(p, np.array([0, 1]))
    table["label_pred"][1] = ""
    with pytest.warns(AstroclassifyWarning, match="1 rows without probabilities"):
        assert reliability(table)["n"].sum() == 4
    good = table[:1]
    with pytest.raises(ValueError, match="n_bins"):
        reliability(good, n_bins=0)
    with pytest.raises(ValueError, match="binning"):
        reliability(good, binning="log")
    with pytest.raises(ValueError, match="at least one row"):
        reliability(table[1:])
    with pytest.raises(SchemaError):
        reliability(QTable({"a": [1]}), scheme=COOL_CORE)
    with pytest.raises(ValueError, match="n_bootstrap"):
        expected_calibration_error(good, n_bootstrap=-1)
