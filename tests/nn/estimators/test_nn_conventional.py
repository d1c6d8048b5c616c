"""Classification by one number, and folds."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable
from sklearn.base import clone

from astroclassify.exceptions import AstroclassifyError, AstroclassifyWarning, SchemaError
from astroclassify.nn import (
    SU2020_THRESHOLDS,
    RankClassifier,
    ThresholdClassifier,
    classify_conventional,
    cross_validate,
    score,
)
from astroclassify.schemes import Flag


def sample(n_groups=40, *, seed=0):
    """Three rows per group; the measures follow the class with scatter."""
    rng = np.random.default_rng(seed)
    t_cool = np.repeat(10 ** rng.uniform(-1, 1.4, n_groups), 3)
    table = QTable()
    table["source_id"] = [f"h{i // 3}-{'xyz'[i % 3]}" for i in range(3 * n_groups)]
    table["group_id"] = [f"h{i // 3}" for i in range(3 * n_groups)]
    table["path"] = [f"images/{name}.fits" for name in table["source_id"]]
    table["label"] = np.where(t_cool < 1, "CC", np.where(t_cool <= 7.7, "WCC", "NCC"))
    table["projection"] = [*"xyz"] * n_groups
    table["redshift"] = np.full(3 * n_groups, 0.05)
    table["m_500"] = np.full(3 * n_groups, 1e14) * u.Msun
    table["r_500"] = np.full(3 * n_groups, 700.0) * u.kpc
    table["t_cool"] = t_cool * u.Gyr
    table["n_e"] = 0.012 / t_cool * 10 ** rng.normal(0, 0.1, 3 * n_groups) / u.cm**3
    table["c_sb"] = np.clip(0.1 / t_cool**0.3 * 10 ** rng.normal(0, 0.05, 3 * n_groups), 0, 1)
    table["flags"] = np.zeros(3 * n_groups, dtype=np.int64)
    return table


def test_cuts_are_those_of_su_2020():
    assert SU2020_THRESHOLDS["n_e"].to_value(u.m**-3) == pytest.approx([15e3, 5e3])
    assert SU2020_THRESHOLDS["c_sb"].value.tolist() == [0.155, 0.075]
    assert SU2020_THRESHOLDS["t_cool"].to_value(u.Gyr).tolist() == [1, 7.7]
    with pytest.raises(TypeError):
        SU2020_THRESHOLDS["n_e"] = 1


@pytest.mark.parametrize(
    ("measure", "unit", "values"),
    [
        ("n_e", u.cm**-3, [0.0151, 0.015, 0.005, 0.0049]),
        ("n_e", u.m**-3, [15100, 14900, 5100, 4900]),
        ("c_sb", u.dimensionless_unscaled, [0.156, 0.155, 0.075, 0.074]),
        ("t_cool", u.Gyr, [0.99, 1.0, 7.7, 7.71]),
    ],
)
def test_a_value_on_a_cut_is_weak(measure, unit, values):
    table = QTable({measure: values * unit})
    assert ThresholdClassifier(measure).fit().predict(table).tolist() == ["CC", "WCC", "WCC", "NCC"]


def test_a_plain_column_is_taken_for_c_sb_only():
    assert ThresholdClassifier("c_sb").predict(QTable({"c_sb": [0.2]})).tolist() == ["CC"]
    with pytest.raises(SchemaError, match="'n_e' of sample must have a unit"):
        ThresholdClassifier("n_e").predict(QTable({"n_e": [0.2]}))
    with pytest.raises(SchemaError, match="column 't_cool'"):
        ThresholdClassifier("t_cool").predict(QTable({"n_e": [0.2]}))


def test_true_cooling_time_makes_the_labels():
    table = sample()
    scores = score(ThresholdClassifier("t_cool").fit(table).classify(table), n_bootstrap=0)
    assert np.all(scores["f1"] == 1)


def test_missing_measures_keep_their_row():
    table = sample(4)
    table["c_sb"][3] = np.nan
    table["flags"][3:5] = Flag.FEW_CELLS
    for classifier in (ThresholdClassifier("c_sb"), RankClassifier("c_sb")):
        result = classifier.fit(table).classify(table)
        assert result["source_id"].tolist() == table["source_id"].tolist()
        assert result["flags"][3] == Flag.FAILED | Flag.FEW_CELLS and result["flags"][4] == Flag.FEW_CELLS
        assert result["label_pred"][3] == "" and result["message"][3] == "c_sb is not finite"
        assert np.isnan(result["p_CC"][3]) and np.isfinite(result["p_CC"]).sum() == 11
        with pytest.raises(ValueError, match="1 missing values"):
            classifier.predict(table)


def test_masked_measures_count_as_missing():
    table = QTable({"source_id": ["a", "b"], "c_sb": MaskedColumn([0.2, 0.01], mask=[True, False])})
    result = ThresholdClassifier("c_sb").classify(table)
    assert result["label_pred"].tolist() == ["", "NCC"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measure": "entropy"}, "measure must be one of"),
        ({"measure": "c_sb", "thresholds": [0.1]}, "2 rising or falling cuts"),
        ({"measure": "c_sb", "thresholds": [0.1, 0.1]}, "2 rising or falling cuts"),
        ({"scheme": "nothing"}, "scheme must be one of"),
    ],
)
def test_bad_cuts_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ThresholdClassifier(**arguments).fit()
    with pytest.raises(TypeError, match="thresholds must be a Quantity"):
        ThresholdClassifier("n_e", thresholds=(0.01, 0.001)).fit()


def test_two_classes_by_one_cut():
    table = QTable({"c_sb": [0.3, 0.2, 0.1]})
    model = ThresholdClassifier("c_sb", thresholds=[0.2], scheme="cluster")
    assert model.predict(table).tolist() == ["cluster", "other", "other"]


def test_rank_gives_the_class_fractions():
    table = sample()
    model = RankClassifier("c_sb").fit(table)
    said = model.predict(table)
    for name in model.classes_:
        assert np.sum(said == name) == np.sum(table["label"] == name)
    assert table["c_sb"][said == "CC"].min() >= table["c_sb"][said == "WCC"].max()
    assert np.all(RankClassifier("t_cool").fit(table).predict(table) == table["label"])
    fixed = RankClassifier("c_sb", class_fractions=(0.5, 0.25, 0.25)).fit()
    assert np.sum(fixed.predict(table) == "CC") == 60


def test_rank_says_what_it_is_told():
    """In the name of the model and in the metadata of what it gives; fixed cuts are told nothing."""
    table = sample()
    told = RankClassifier("c_sb", class_fractions=(0.5, 0.3, 0.2)).fit().classify(table).meta
    assert told["model"] == "RankClassifier('c_sb', told the fractions CC 0.5, WCC 0.3, NCC 0.2)"
    assert told["uses_class_fractions"] == {"CC": 0.5, "WCC": 0.3, "NCC": 0.2}
    assert "uses_class_fractions" not in ThresholdClassifier("c_sb").classify(table).meta
    assert "told how many" in RankClassifier.__doc__.split("\n\n")[0]


def test_measures_of_images_are_classified_as_the_true_ones():
    table = sample()
    table["n_e_image"], table["t_cool_image"] = table["n_e"], table["t_cool"]
    table["c_sb_corrected"], table["cuspiness_image"] = table["c_sb"], np.arange(len(table)) / 100
    for measure, true in (("n_e_image", "n_e"), ("t_cool_image", "t_cool"), ("c_sb_corrected", "c_sb")):
        for kind in (ThresholdClassifier, RankClassifier):
            assert np.all(kind(measure).fit(table).predict(table) == kind(true).fit(table).predict(table))
    with pytest.raises(ValueError, match="thresholds must be given for 'cuspiness_image'"):
        ThresholdClassifier("cuspiness_image").fit(table)
    steep = ThresholdClassifier("cuspiness_image", thresholds=(0.7, 0.5)).predict(table)
    assert steep[60:72].tolist() == ["WCC"] * 11 + ["CC"] and steep[0] == "NCC"
    methods = classify_conventional(table)
    assert {"n_e of the image (ranked)", "t_cool of the image (fixed cuts)", "cuspiness (ranked)"} <= set(methods)
    for name, predictions in methods.items():
        assert ("(ranked)" in name) == ("uses_class_fractions" in predictions.meta)


def test_rank_needs_fractions():
    with pytest.raises(ValueError, match="class_fractions must be given"):
        RankClassifier("c_sb").fit(QTable({"c_sb": [0.1]}))
    with pytest.raises(ValueError, match="sum 1"):
        RankClassifier("c_sb", class_fractions=(0.5, 0.5, 0.5)).fit()
    with pytest.raises(ValueError, match="not fitted"):
        RankClassifier("c_sb").predict(QTable({"c_sb": [0.1]}))


@pytest.mark.parametrize("model", [ThresholdClassifier("c_sb"), RankClassifier("n_e", class_fractions=(0.2, 0.4, 0.4))])
def test_sklearn_contract(model):
    copy = clone(model)
    assert copy.get_params() == model.get_params() and not hasattr(copy, "classes_")
    assert copy.set_params(measure="t_cool").measure == "t_cool"
    assert copy.fit(sample()) is copy and copy.classes_.tolist() == ["CC", "NCC", "WCC"]


def test_folds_never_split_a_group_and_spread_the_classes():
    table = sample(60)
    labels, groups = np.array(table["label"]), np.array(table["group_id"])

    def folds(seed):
        return np.array(cross_validate(table, ThresholdClassifier("t_cool"), n_folds=10, rng=seed)["fold"])

    fold = folds(3)
    assert set(fold) == set(range(10))
    for group in set(groups):
        assert len(set(fold[groups == group])) == 1
    for label in set(labels):
        counts = np.bincount(fold[labels == label], minlength=10) / 3
        assert np.ptp(counts) <= 1
    assert np.array_equal(fold, folds(3)) and not np.array_equal(fold, folds(4))


class Spy(ThresholdClassifier):
    """Says what it was given."""

    seen: list = []

    def fit(self, X=None, y=None, *, groups=None, validation=None):
        Spy.seen.append((set(X["group_id"]), set(validation["group_id"])))
        return super().fit(X, y)

    def classify(self, table):
        Spy.seen[-1] += (set(table["group_id"]),)
        return super().classify(table)


def test_folds_have_the_roles_8_1_1():
    table = sample(50)
    Spy.seen = []
    result = cross_validate(table, Spy("c_sb"), rng=2)
    assert len(Spy.seen) == 10
    tested = []
    for number, (training, validation, test) in enumerate(Spy.seen):
        assert not training & validation and not training & test and not validation & test
        assert len(training | validation | test) == 50 and len(validation) == pytest.approx(5, abs=3)
        assert validation == Spy.seen[(number + 1) % 10][2]
        tested += sorted(test)
    assert sorted(tested) == sorted(set(table["group_id"]))
    assert result["source_id"].tolist() == table["source_id"].tolist()
    for name in ("label", "group_id"):
        assert result[name].tolist() == table[name].tolist()


def test_cross_validation_of_cuts_is_the_cut():
    table = sample()
    result = cross_validate(table, ThresholdClassifier("n_e"), n_folds=5, rng=1)
    assert result["label_pred"].tolist() == ThresholdClassifier("n_e").predict(table).tolist()
    assert set(result["fold"]) == set(range(5))
    assert score(result, n_bootstrap=10)["f1"][3] > 0.6


def test_cross_validation_is_the_same_for_any_executor():
    table = sample()
    here = cross_validate(table, RankClassifier("c_sb"), n_folds=5, rng=7)
    with ThreadPoolExecutor(3) as executor:
        there = cross_validate(table, RankClassifier("c_sb"), n_folds=5, rng=7, executor=executor)
    assert here["label_pred"].tolist() == there["label_pred"].tolist()
    assert here["fold"].tolist() == there["fold"].tolist()


def test_other_columns_can_be_the_groups():
    table = sample(20)
    table["field"] = [f"f{i // 6}" for i in range(60)]
    result = cross_validate(table, ThresholdClassifier("c_sb"), n_folds=3, groups="field", rng=0)
    for field in set(table["field"]):
        assert len(set(result["fold"][table["field"] == field])) == 1


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda t: t, {"n_folds": 2}, "n_folds must be a whole number from 3, got 2"),
        (lambda t: t[:15], {"n_folds": 10}, r"number of groups \(5\)"),
        (lambda t: t[t["label"] == "WCC"], {"n_folds": 3}, "at least two classes"),
        (lambda t: t[:0], {}, "at least one row"),
        (lambda t: t, {"groups": "field"}, "column 'field'"),
        (lambda t: t["source_id", "group_id"], {}, "column 'label'"),
        (lambda t: t, {"rng": -1}, "rng must be"),
    ],
)
def test_impossible_folds_are_named(change, arguments, message):
    with pytest.raises(ValueError, match=message):
        cross_validate(change(sample(20)), ThresholdClassifier("c_sb"), **arguments)


def test_unlabelled_rows_cannot_be_cross_validated():
    table = sample(20)
    table["label"][0] = ""
    with pytest.raises(SchemaError, match="label must be one of"):
        cross_validate(table, ThresholdClassifier("c_sb"), rng=0)


def test_rare_classes_are_warned_of():
    table = sample(30)
    table["label"][:] = "WCC"
    table["label"][:6] = "CC"
    with pytest.warns(AstroclassifyWarning, match="class CC has only 2 groups for 5 folds"):
        cross_validate(table, ThresholdClassifier("c_sb"), n_folds=5, rng=0)


class Failing(ThresholdClassifier):
    """Fails for the fold with the first group, or always."""

    def classify(self, table):
        if self.thresholds is not None or "h0" in table["group_id"]:
            raise ValueError("no luck")
        return super().classify(table)


def test_a_failed_fold_keeps_its_rows():
    table = sample(20)
    with pytest.warns(AstroclassifyWarning, match="no luck"):
        result = cross_validate(table, Failing("c_sb"), n_folds=4, rng=0)
    failed = result["flags"] == Flag.FAILED
    assert failed.any() and not failed.all() and len(result) == 60
    assert len(set(result["fold"][failed])) == 1
    assert set(result["message"][failed]) == {"ValueError: no luck"}
    with pytest.raises(AstroclassifyError, match="every fold failed"):
        cross_validate(table, Failing("c_sb", thresholds=[0.2, 0.1]), n_folds=4, rng=0)
