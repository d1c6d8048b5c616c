"""Fixed test sets, seeds and learning curves."""

import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable
from astropy.wcs import WCS
from sklearn.base import BaseEstimator
from sklearn.metrics import auc

from astroclassify.exceptions import AstroclassifyError, AstroclassifyWarning, SchemaError
from astroclassify.images import Geometry, write_image
from astroclassify.nn import (
    CutoutClassifier,
    ThresholdClassifier,
    cross_validate,
    learning_curve,
    repeat_seeds,
    roc_seeds,
    score,
    score_seeds,
    split_sample,
)
from astroclassify.schemes import CLUSTER, Flag


def sample(n_groups=40, *, first=0, share=0.5):
    """Two rows per group; ``c_sb`` is above 0.5 for clusters."""
    number = np.repeat(np.arange(first, first + n_groups), 2)
    cluster = np.arange(n_groups) < share * n_groups
    table = QTable({"source_id": [f"h{i}-{'xy'[k % 2]}" for k, i in enumerate(number)]})
    table["group_id"] = [f"h{i}" for i in number]
    table["label"] = np.where(np.repeat(cluster, 2), "cluster", "other")
    table["c_sb"] = np.where(np.repeat(cluster, 2), 0.75, 0.25)
    return table


ALIVE = weakref.WeakSet()


class Student(BaseEstimator):
    """
    Right with the chance n / (n + 10) for n training groups; its luck is its seed's. ``fail``: seeds that fail.
    """

    seen: list = []
    most_alive = 0

    def __init__(self, scheme=CLUSTER, random_state=None, fail=()):
        self.scheme = scheme
        self.random_state = random_state
        self.fail = fail

    def fit(self, X, y=None, *, groups=None, validation=None):
        if self.fail == "always" or self.random_state % 3 in self.fail:
            raise ValueError("no luck")
        ALIVE.add(self)
        Student.seen.append((frozenset(groups), self.random_state, None if validation is None else len(validation)))
        Student.most_alive = max(Student.most_alive, len(ALIVE))
        self.chance_ = len(set(groups)) / (len(set(groups)) + 10)
        return self

    def classify(self, table):
        rng = np.random.default_rng(self.random_state)
        right = rng.random(len(table)) < self.chance_
        cluster = (np.array(table["label"]) == "cluster") == right
        p = np.where(cluster, 0.8, 0.2)
        found = QTable({"source_id": table["source_id"], "label_pred": np.where(cluster, "cluster", "other")})
        found["p_cluster"], found["p_other"], found["flags"], found["message"] = p, 1 - p, np.zeros(len(p), int), ""
        found.meta["scheme"] = CLUSTER.to_dict()
        return found


@pytest.fixture(autouse=True)
def forget():
    Student.seen = []


def test_split_keeps_groups_whole_and_classes_in_proportion():
    table = sample(40, share=0.25)
    train, test = split_sample(table, test_fraction=0.2, rng=3)
    assert len(train) + len(test) == 80 and not set(train["group_id"]) & set(test["group_id"])
    assert len(test) == 16 and np.sum(test["label"] == "cluster") == 4
    assert sorted([*train["source_id"], *test["source_id"]]) == sorted(table["source_id"])
    again, other = (split_sample(table, test_fraction=0.2, rng=seed)[1] for seed in (3, 4))
    assert again["source_id"].tolist() == test["source_id"].tolist() != other["source_id"].tolist()
    table["label"][0] = ""
    train, test = split_sample(table, rng=1)
    assert len(train) + len(test) == 80 and not set(train["group_id"]) & set(test["group_id"])


def test_impossible_splits_are_named():
    with pytest.raises(ValueError, match="test_fraction must be a finite number above 0 to 0.5, got 0.9"):
        split_sample(sample(), test_fraction=0.9, rng=0)
    with pytest.raises(ValueError, match="test_fraction 0.2 needs a class with two groups"):
        split_sample(sample(2), rng=0)
    with pytest.raises(SchemaError, match="column 'field'"):
        split_sample(sample(), groups="field", rng=0)


def test_every_seed_predicts_every_row():
    train, test = sample(20), sample(10, first=50)
    result = repeat_seeds(Student(), train, test, n_seeds=4, rng=1)
    assert len(result) == 80 and result["seed"].tolist() == np.repeat(range(4), 20).tolist()
    for name in ("source_id", "label", "group_id"):
        assert result[name].tolist() == test[name].tolist() * 4
    assert len({seen[1] for seen in Student.seen}) == 4
    assert all(seen[0] == set(train["group_id"]) and seen[2] is None for seen in Student.seen)
    repeat_seeds(Student(), train, test, n_seeds=1, validation=sample(3, first=90), rng=0)
    assert Student.seen[-1][2] == 6


def test_seeds_do_not_depend_on_where_they_run():
    train, test = sample(20), sample(10, first=50)
    here = repeat_seeds(Student(), train, test, n_seeds=3, rng=1)
    with ThreadPoolExecutor(2) as executor:
        there = repeat_seeds(Student(), train, test, n_seeds=3, rng=1, executor=executor)
    assert here["label_pred"].tolist() == there["label_pred"].tolist()
    assert here["label_pred"].tolist() != repeat_seeds(Student(), train, test, n_seeds=3, rng=2)["label_pred"].tolist()
    more = repeat_seeds(Student(), train, test, n_seeds=5, rng=1)
    assert more["label_pred"][:60].tolist() == here["label_pred"].tolist()


def test_other_processes():
    train, test = sample(20), sample(10, first=50)
    classifier = ThresholdClassifier("c_sb", scheme="cluster", thresholds=[0.5])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        result = repeat_seeds(classifier, train, test, n_seeds=2, executor=executor, rng=0)
    assert result["label_pred"].tolist() == test["label"].tolist() * 2


def test_mean_and_scatter_are_those_of_the_single_scores():
    result = repeat_seeds(Student(), sample(20), sample(30, first=50), n_seeds=6, rng=0)
    table = score_seeds(result)
    single = [score(result[result["seed"] == number], n_bootstrap=0) for number in range(6)]
    for name in ("precision", "recall", "f1", "bacc", "accuracy", "auc"):
        values = np.array([each[name] for each in single])
        assert np.allclose(table[name], values.mean(axis=0))
        assert np.allclose(table[f"{name}_std"], values.std(axis=0, ddof=1))
    assert table["class"].tolist() == ["cluster", "other", "mean"] and table.meta["n_seeds"] == 6
    # Binomial scatter over seeds: chance 2/3 on 60 rows.
    assert table["accuracy_std"][0] == pytest.approx(np.sqrt(2 / 9 / 60), rel=0.5)
    assert np.isnan(score_seeds(result[:60])["f1_std"]).all()
    with pytest.raises(SchemaError, match="column 'seed'"):
        score_seeds(result["source_id", "label_pred", "p_cluster", "p_other", "flags", "label"])


def test_a_failed_seed_keeps_its_rows_and_is_left_out_of_the_mean():
    train, test = sample(20), sample(10, first=50)
    with pytest.warns(AstroclassifyWarning, match="seed . failed: ValueError: no luck"):
        result = repeat_seeds(Student(fail=(0,)), train, test, n_seeds=6, rng=2)
    lost = {int(number) for number in result["seed"][result["flags"] == Flag.FAILED]}
    assert 0 < len(lost) < 6 and len(result) == 120
    assert set(result["message"][result["flags"] == Flag.FAILED]) == {"ValueError: no luck"}
    with pytest.warns(AstroclassifyWarning, match=f"{len(lost)} seeds without predictions are left out"):
        table = score_seeds(result)
    kept = result[~np.isin(result["seed"], list(lost))]
    assert np.array_equal(table["f1"], score_seeds(kept)["f1"])
    assert table.meta["n_seeds_failed"] == len(lost) and table.meta["n_seeds"] == 6 - len(lost)
    with pytest.raises(AstroclassifyError, match="every seed failed, the first with ValueError: no luck"):
        repeat_seeds(Student(fail="always"), train, test, n_seeds=2, rng=0)


def test_single_failed_rows_of_a_seed_are_wrong():
    result = repeat_seeds(
        ThresholdClassifier("c_sb", scheme="cluster", thresholds=[0.5]),
        sample(20),
        sample(10, first=50),
        n_seeds=2,
        rng=0,
    )
    result["label_pred"][0] = ""
    result["p_cluster"][0] = result["p_other"][0] = np.nan
    with pytest.warns(AstroclassifyWarning, match="1 rows without prediction of the others are counted as wrong"):
        table = score_seeds(result)
    assert table["recall"][0] == pytest.approx((0.9 + 1) / 2)


def test_learning_curve_follows_the_law():
    train, test = sample(80), sample(100, first=200)
    curve = learning_curve(Student(), train, test, sizes=[4, 10, 40, 80], n_seeds=8, rng=0)
    assert curve["n_groups"].tolist() == np.repeat([4, 10, 40, 80], 3).tolist()
    accuracy = curve[curve["class"] == "cluster"]["accuracy"]
    expected = np.array([4, 10, 40, 80]) / (np.array([4, 10, 40, 80]) + 10)
    assert accuracy == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 200 / 8))
    assert curve["n_images"].tolist() == np.repeat([8.0, 20.0, 80.0, 160.0], 3).tolist()
    assert set(curve["n_seeds"]) == {8} and curve.colnames[:4] == ["n_groups", "n_images", "n_seeds", "class"]


def test_training_groups_are_nested_and_in_proportion():
    train, test = sample(40, share=0.1), sample(10, first=200)
    learning_curve(Student(), train, test, sizes=[2, 10, 20, 40], n_seeds=2, rng=0)
    clusters = set(train["group_id"][train["label"] == "cluster"])
    for number in range(2):
        sets = [seen[0] for seen in Student.seen[number::2]]
        assert [len(each) for each in sets] == [2, 10, 20, 40]
        assert [len(each & clusters) for each in sets] == [1, 1, 2, 4]
        assert sets[0] < sets[1] < sets[2] < sets[3]
    assert Student.seen[0][0] != Student.seen[1][0] and Student.seen[0][1] != Student.seen[1][1]


def test_default_sizes_halve():
    curve = learning_curve(Student(), sample(40), sample(10, first=200), n_seeds=1, rng=0)
    assert curve[curve["class"] == "mean"]["n_groups"].tolist() == [5, 10, 20, 40]


def test_failed_trainings_of_a_curve_are_counted():
    class_names = ["mean"]
    with pytest.warns(AstroclassifyWarning) as caught:
        curve = learning_curve(Student(fail=(0, 1)), sample(20), sample(10, first=50), sizes=[4, 20], n_seeds=4, rng=5)
    assert any("seeds without predictions are left out" in str(each.message) for each in caught)
    kept = curve[np.isin(curve["class"], class_names)]["n_seeds"]
    assert kept[0] == kept[1] and 0 < kept[0] < 4
    assert curve.meta["n_seeds_failed"] == 2 * (4 - kept[0])


@pytest.mark.parametrize("function", [repeat_seeds, learning_curve])
@pytest.mark.parametrize(
    ("train", "test", "settings", "message"),
    [
        (sample(), sample(10), {}, r"train and test must not share groups, got 10 in both, such as \['h0'"),
        (sample(), sample(10, first=50), {"validation": sample(5, first=52)}, "test and validation must not share"),
        (sample(share=1), sample(10, first=50), {}, r"train must have at least two classes, got \['cluster'\]"),
        (sample()[:0], sample(10, first=50), {}, "train must have at least one row"),
        (sample(), sample(10, first=50)[:0], {}, "test must have at least one row"),
        (sample(), sample(10, first=50)["source_id", "label"], {}, "test must have a column 'group_id'"),
        (sample(), sample(10, first=50), {"n_seeds": 0}, "n_seeds must be a whole number from 1"),
        (sample(), sample(10, first=50), {"n_seeds": True}, "n_seeds must be a whole number from 1"),
        (sample(), sample(10, first=50), {"rng": -1}, "rng must be a seed"),
    ],
)
def test_unusable_sets_are_named(function, train, test, settings, message):
    with pytest.raises(ValueError, match=message):
        function(Student(), train, test, **settings)


def test_labels_outside_the_scheme_are_named():
    bad = sample(10, first=50)
    bad["label"] = bad["label"].astype("U10")
    bad["label"][0] = "galaxy"
    with pytest.raises(SchemaError, match=r"every row of test, got \['galaxy'\]"):
        repeat_seeds(Student(), sample(), bad, rng=0)
    bad["label"][0] = ""
    with pytest.raises(SchemaError, match="take rows without a label out first"):
        repeat_seeds(Student(), sample(), bad, rng=0)
    with pytest.raises(TypeError, match="train must be a SAMPLE table, got list"):
        repeat_seeds(Student(), [1], bad, rng=0)


@pytest.mark.parametrize("sizes", [[1, 10], [10, 41], []])
def test_impossible_sizes_are_named(sizes):
    with pytest.raises(ValueError, match=r"number of classes \(2\) and that of the groups of train \(40\)"):
        learning_curve(Student(), sample(), sample(10, first=50), sizes=sizes, rng=0)


def test_a_test_set_of_one_class_has_what_can_be_computed():
    table = score_seeds(repeat_seeds(Student(), sample(), sample(10, first=50, share=1), n_seeds=3, rng=0))
    assert np.isfinite(table["recall"][0]) and np.isnan(table["auc"]).all() and np.isnan(table["f1"][1])


def test_a_huge_group_leaves_no_empty_fold():
    """If the splitter puts nothing into a fold, it is said instead of trained without a test set."""
    table = sample(3)
    table["group_id"] = ["a"] * 4 + ["b", "c"]
    try:
        cuts = ThresholdClassifier("c_sb", scheme="cluster", thresholds=[0.5])
        result = cross_validate(table, cuts, n_folds=3, rng=0)
    except ValueError as error:
        assert "n_folds" in str(error)
    else:
        assert set(result["fold"]) == {0, 1, 2}


def test_no_trained_classifier_is_kept():
    """However many trainings, one fitted classifier at a time is in memory (per worker)."""
    train, test = sample(20), sample(10, first=50)
    for protocol in (
        lambda: cross_validate(train, Student(), n_folds=5, rng=0),
        lambda: repeat_seeds(Student(), train, test, n_seeds=5, rng=0),
        lambda: learning_curve(Student(), train, test, sizes=[4, 20], n_seeds=3, rng=0),
    ):
        Student.most_alive = 0
        protocol()
        assert Student.most_alive == 1


def write_images(table, folder):
    """Poisson images of 1 Mpc in 32 x 32 pixels, clusters four times as bright, and the columns that find them."""
    grid = Geometry(1 * u.Mpc, (32, 32))
    pixel = grid.pixel_width(0.05).to_value(u.deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [30.0, 10.0], [16.5, 16.5], [-pixel, pixel]
    rng = np.random.default_rng(5)
    (folder / "images").mkdir(exist_ok=True)
    table["path"] = [f"images/{name}.fits" for name in table["source_id"]]
    table["redshift"] = np.full(len(table), 0.05)
    table.meta["folder"] = str(folder)
    for path, label in zip(table["path"], table["label"], strict=True):
        counts = rng.poisson(4.0 if label == "cluster" else 1.0, (32, 32)).astype(float)
        write_image(CCDData(counts, unit=u.ct, wcs=wcs, meta={"REDSHIFT": 0.05}), folder / path)
    return grid


def test_networks_are_the_same_for_one_seed(tmp_path):
    pytest.importorskip("torch")
    train, test = sample(8), sample(4, first=50)
    grid = [write_images(table, tmp_path) for table in (train, test)][0]
    network = CutoutClassifier(
        scheme="cluster", geometry=grid, n_filters=4, epochs=1, batch_size=8, validation_fraction=0
    )
    results = [repeat_seeds(network, train, test, n_seeds=2, rng=3) for _ in range(2)]
    p = np.array(results[0]["p_cluster"])
    assert not np.any(results[0]["flags"] & Flag.FAILED)
    assert np.array_equal(p, results[1]["p_cluster"]) and not np.array_equal(p[:8], p[8:])


def test_masked_labels_are_no_class():
    sample = QTable({"source_id": list("abcdef"), "group_id": list("abcdef")})
    sample["label"] = MaskedColumn(["CC"] * 5 + ["x"], mask=[False] * 5 + [True])
    train, test = split_sample(sample, test_fraction=0.4, rng=0)
    assert "f" in train["source_id"] and set(test["label"]) == {"CC"}
    with pytest.raises(SchemaError, match="take rows without a label out first"):
        repeat_seeds(ThresholdClassifier("c_sb"), sample, test, rng=0)


def test_mean_roc_has_the_mean_of_the_areas():
    rng = np.random.default_rng(4)
    n, n_seeds = 60, 4
    truth = np.tile(np.arange(n) % 3 == 0, n_seeds)
    p = np.round(np.clip(0.4 + 0.25 * truth + rng.normal(0, 0.2, n * n_seeds), 0, 1), 1)  # many ties
    table = QTable({"source_id": [f"s{i}" for i in range(n)] * n_seeds})
    table["label_pred"] = np.where(p > 0.5, "cluster", "other")
    table["p_cluster"], table["p_other"], table["flags"] = p, 1 - p, 0
    table["label"], table["seed"] = np.where(truth, "cluster", "other"), np.repeat(np.arange(n_seeds), n)
    curve, scores = roc_seeds(table, scheme=CLUSTER), score_seeds(table, scheme=CLUSTER)
    for row, label in enumerate(CLUSTER.classes):
        part = curve[curve["class"] == label]
        assert np.all(np.diff(part["fpr"]) >= 0) and np.all(np.diff(part["tpr"]) >= -1e-12)
        assert abs(auc(part["fpr"], part["tpr"]) - scores["auc"][row]) < 1e-9
        assert np.all(part["tpr_std"] >= 0) and part["tpr"][-1] == 1 and part["tpr_std"][-1] == 0
    one = roc_seeds(table[:n], scheme=CLUSTER)
    assert np.isnan(one["tpr_std"]).all() and curve.meta["n_seeds"] == 4
    with pytest.raises(SchemaError, match="must have a column 'seed'"):
        roc_seeds(table["source_id", "label"], scheme=CLUSTER)
