"""Scores against scikit-learn and against the numbers printed in the two papers."""

import numpy as np
import pytest
from astropy.table import QTable
from sklearn import metrics

from astroclassify.batch import derive_rng
from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.nn import confusion, one_vs_all, precision_recall, roc, score
from astroclassify.schemes import CLUSTER, COOL_CORE, Flag


def predictions(n=200, *, seed=0, scheme=COOL_CORE, decimals=None):
    rng = np.random.default_rng(seed)
    truth = rng.integers(scheme.n_classes, size=n)
    raw = rng.random((n, scheme.n_classes)) + 0.8 * np.eye(scheme.n_classes)[truth]
    p = raw / raw.sum(axis=1, keepdims=True)
    if decimals is not None:
        p = np.round(p, decimals)
    table = QTable()
    table["source_id"] = [f"s{i}" for i in range(n)]
    table["label_pred"] = np.array(scheme.classes)[p.argmax(axis=1)]
    for i, name in enumerate(scheme.classes):
        table[f"p_{name}"] = p[:, i]
    table["flags"] = np.zeros(n, dtype=np.int64)
    table["label"] = np.array(scheme.classes)[truth]
    table["group_id"] = [f"g{i // 3}" for i in range(n)]
    table.meta["scheme"] = scheme.to_dict()
    return table


@pytest.mark.parametrize("decimals", [None, 1])
def test_score_is_that_of_scikit_learn(decimals):
    table = predictions(decimals=decimals)
    scores = score(table, n_bootstrap=0)
    truth, said = np.array(table["label"]), np.array(table["label_pred"])
    for name, function in [
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ]:
        expected = function(truth, said, labels=list(COOL_CORE.classes), average=None)
        assert scores[name][:3] == pytest.approx(expected)
        assert scores[name][3] == pytest.approx(expected.mean())
    for i, label in enumerate(COOL_CORE.classes):
        assert scores["auc"][i] == pytest.approx(metrics.roc_auc_score(truth == label, table[f"p_{label}"]))
        assert scores["bacc"][i] == pytest.approx(metrics.balanced_accuracy_score(truth == label, said == label))
        assert scores["accuracy"][i] == pytest.approx(metrics.accuracy_score(truth == label, said == label))
    assert scores["class"].tolist() == ["CC", "WCC", "NCC", "mean"]
    assert scores.meta["accuracy"] == pytest.approx(metrics.accuracy_score(truth, said))
    assert np.isnan(scores["f1_lo"]).all()


@pytest.mark.parametrize(
    ("precision", "recall", "f1"),
    [(0.81, 0.86, 0.83), (0.88, 0.77, 0.82), (0.66, 0.82, 0.73), (0.55, 0.74, 0.63), (0.92, 0.58, 0.71)],
)
def test_f1_is_that_printed_by_su_2020(precision, recall, f1):
    positives = 2000
    tp = recall * positives
    fp = tp / precision - tp
    table = binary(round(tp), 1000, round(fp), round(positives - tp))
    assert score(table, n_bootstrap=0)["f1"][0] == pytest.approx(f1, abs=0.0076)


def test_the_mean_of_su_2020_is_the_mean_over_classes():
    assert np.mean([0.83, 0.82, 0.73]) == pytest.approx(0.79, abs=0.005)
    assert np.mean([0.92, 0.81, 0.83]) == pytest.approx(0.85, abs=0.005)


def test_weighted_auc_is_that_of_repeated_rows():
    """One resampling: the ends of its interval are the area of the rows as often as they were drawn."""
    table = predictions(40, seed=3, decimals=1, scheme=CLUSTER)
    table["group_id"] = [f"g{i:02d}" for i in range(40)]
    times = derive_rng(7, "score").multinomial(40, np.full(40, 1 / 40))
    assert times.max() > 2
    truth, p = np.array(table["label"]) == "cluster", np.array(table["p_cluster"])
    expected = metrics.roc_auc_score(np.repeat(truth, times), np.repeat(p, times))
    scores = score(table, n_bootstrap=1, rng=7)
    assert [scores["auc_lo"][0], scores["auc_hi"][0]] == pytest.approx([expected] * 2)


def test_bootstrap_resamples_groups():
    """The interval for rows in groups of identical rows is that of one row per group, wider than for loose rows."""
    table = predictions(80, seed=2)
    single = table.copy()
    single["group_id"] = [f"g{i}" for i in range(80)]
    several = QTable(single[np.repeat(np.arange(80), 5)])
    several["source_id"] = [f"s{i}" for i in range(400)]
    loose = several.copy()
    loose["group_id"] = several["source_id"]
    scores = [score(table, rng=0) for table in (single, several, loose)]
    widths = [float(np.diff([s["f1_lo"][3], s["f1_hi"][3]])[0]) for s in scores]
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)
    assert widths[2] == pytest.approx(widths[0] / np.sqrt(5), rel=0.15)
    assert scores[1].meta["n_groups"] == 80


def test_bootstrap_covers_the_binomial_interval():
    """Accuracy of independent rows: the percentile interval is the normal one, 1.96 sqrt(p (1 - p) / n) wide."""
    table = predictions(600, seed=5, scheme=CLUSTER)
    table["group_id"] = table["source_id"]
    scores = score(table, n_bootstrap=2000, rng=1)
    p = scores["accuracy"][0]
    half = 1.96 * np.sqrt(p * (1 - p) / 600)
    assert scores["accuracy_lo"][0] == pytest.approx(p - half, abs=0.004)
    assert scores["accuracy_hi"][0] == pytest.approx(p + half, abs=0.004)


def test_same_seed_same_intervals():
    a, b, c = (score(predictions(), n_bootstrap=50, rng=seed) for seed in (1, 1, 2))
    assert np.array_equal(a["f1_lo"], b["f1_lo"]) and not np.array_equal(a["f1_lo"], c["f1_lo"])


def test_failed_rows_count_as_wrong_and_say_so():
    table = predictions(60)
    clean = score(table, n_bootstrap=0)
    row = int(np.flatnonzero((table["label"] == "CC") & (table["label_pred"] == "CC"))[0])
    table["label_pred"][row] = ""
    table["flags"][row] = Flag.FAILED
    for name in COOL_CORE.classes:
        table[f"p_{name}"][row] = np.nan
    with pytest.warns(AstroclassifyWarning, match="1 rows without prediction"):
        scores = score(table, n_bootstrap=20)
    n = np.sum(table["label"] == "CC")
    assert scores["recall"][0] == pytest.approx(clean["recall"][0] - 1 / n)
    assert scores.meta["n_failed"] == 1 and np.isfinite(scores["auc"]).all()
    # Not right for the other classes either: accuracy and true negative rate lose the row, precision does not.
    assert scores["accuracy"][1] == pytest.approx(clean["accuracy"][1] - (table["label_pred"][row] == "") / 60)
    assert scores["precision"][1] == clean["precision"][1] and scores["recall"][1] == clean["recall"][1]
    assert scores["bacc"][1] == pytest.approx(clean["bacc"][1] - 0.5 / np.sum(table["label"] != "WCC"))
    with pytest.warns(AstroclassifyWarning, match="1 rows without prediction are counted as wrong, of 60"):
        counts = one_vs_all(table)
    assert counts["failed"].tolist() == [0, 1, 1]
    with pytest.warns(AstroclassifyWarning, match="1 rows without prediction are in the column 'failed'"):
        matrix = confusion(table)
    assert matrix["failed"].tolist() == [1, 0, 0]
    for curves in (roc, precision_recall):
        with pytest.warns(AstroclassifyWarning, match="1 rows without probabilities are left out of the curves, of 60"):
            assert curves(table).meta["n_without_p"] == 1


def test_what_cannot_be_computed():
    table = predictions(30)
    table = table[table["label"] != "CC"]
    table["label_pred"] = "WCC"
    scores = score(table, n_bootstrap=20)
    assert all(np.isnan(scores[name][0]) for name in ("precision", "recall", "f1", "bacc", "auc", "f1_lo"))
    assert scores["precision"][2] == 0 and scores["recall"][2] == 0 and scores["f1"][2] == 0
    assert scores["f1"][3] == pytest.approx(np.mean(scores["f1"][1:3]))


def test_unlabelled_rows_are_not_scored():
    table = predictions(40)
    expected = score(table[:30], n_bootstrap=0)
    table["label"][30:] = ""
    scores = score(table, n_bootstrap=0)
    assert np.array_equal(scores["f1"], expected["f1"])
    assert scores.meta["n_unlabelled"] == 10
    table["label"] = ""
    with pytest.raises(ValueError, match="true label in at least one row"):
        score(table)


def test_bad_input_is_named():
    table = predictions(12)
    with pytest.raises(SchemaError, match="'label'"):
        score(table["source_id", "label_pred", "p_CC", "p_WCC", "p_NCC", "flags"])
    bad = table.copy()
    bad["label"][0] = "XX"
    with pytest.raises(SchemaError, match="XX"):
        score(bad)
    bad = table.copy()
    bad.meta.clear()
    with pytest.raises(SchemaError, match="scheme must be given"):
        score(bad)
    bad = table.copy()
    bad["label_pred"] = bad["label_pred"].astype(object)
    bad["label_pred"][0] = "YY"
    for function in (score, one_vs_all, confusion, roc, precision_recall):
        with pytest.raises(SchemaError, match=r"label_pred .* got \['YY'\]"):
            function(bad)
    with pytest.raises(ValueError, match="n_bootstrap"):
        score(table, n_bootstrap=-1)
    with pytest.raises(ValueError, match="normalise"):
        confusion(table, normalise="all")


def test_roc_ends_in_both_corners_and_has_the_area():
    table = predictions()
    curves, scores = roc(table), score(table, n_bootstrap=0)
    for i, name in enumerate(COOL_CORE.classes):
        curve = curves[curves["class"] == name]
        assert (curve["fpr"][0], curve["tpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (0, 0, 1, 1)
        assert metrics.auc(curve["fpr"], curve["tpr"]) == pytest.approx(scores["auc"][i])


def test_roc_of_one_class_is_an_empty_table():
    table = predictions(20)
    table["label"] = "CC"
    assert len(roc(table)) == 0 and roc(table).colnames == ["class", "threshold", "fpr", "tpr"]


def binary(tp, tn, fp, fn):
    """Predictions with these counts for the class cluster."""
    said = ["cluster"] * (tp + fp) + ["other"] * (tn + fn)
    truth = ["cluster"] * tp + ["other"] * (fp + tn) + ["cluster"] * fn
    p = np.where(np.array(said) == "cluster", 0.9, 0.2)
    table = QTable({"source_id": [f"s{i}" for i in range(len(said))], "label_pred": said})
    table["p_cluster"], table["p_other"] = p, 1 - p
    table["flags"] = np.zeros(len(said), dtype=np.int64)
    table["label"] = truth
    table.meta["scheme"] = CLUSTER.to_dict()
    return table


@pytest.mark.parametrize(
    ("counts", "printed"),
    [
        ((69, 150, 0, 185), (0.542, 1.000, 0.272)),
        ((102, 149, 1, 152), (0.621, 0.990, 0.401)),
        ((55, 84, 1, 30), (0.818, 0.982, 0.647)),
    ],
)
def test_tables_of_the_volunteers_of_kosiba_2020(counts, printed):
    """TP/TN/FP/FN of the volunteers against the experts -> accuracy, precision, recall (to the printed digit)."""
    tp, tn, fp, fn = counts
    table = binary(*counts)
    one = one_vs_all(table)
    assert [int(one[name][0]) for name in ("tp", "tn", "fp", "fn", "failed")] == [tp, tn, fp, fn, 0]
    assert [int(one[name][1]) for name in ("tp", "tn", "fp", "fn", "failed")] == [tn, tp, fn, fp, 0]
    assert one["fpr"][0] == pytest.approx(fp / (fp + tn)) and one["tpr"][0] == pytest.approx(tp / (tp + fn))
    scores = score(table, n_bootstrap=0)
    assert [scores[name][0] for name in ("accuracy", "precision", "recall")] == pytest.approx(printed, abs=6e-4)
    assert scores.meta["accuracy"] == scores["accuracy"][0]
    curve = roc(table)
    curve = curve[curve["class"] == "cluster"]
    assert (curve["fpr"][1], curve["tpr"][1]) == pytest.approx((fp / (fp + tn), tp / (tp + fn)))
    # The false-positive rate is FP / (FP + TN): the formula printed in the paper is not.
    assert scores["bacc"][0] == pytest.approx((printed[2] + 1 - fp / (fp + tn)) / 2, abs=6e-4)
    # The area of a curve with one corner is the balanced accuracy.
    assert scores["auc"][0] == pytest.approx(scores["bacc"][0])


@pytest.mark.parametrize("decimals", [None, 1])
def test_curves_are_those_of_scikit_learn(decimals):
    table = predictions(decimals=decimals)
    curves = precision_recall(table)
    for name in COOL_CORE.classes:
        curve = curves[curves["class"] == name]
        truth = np.array(table["label"]) == name
        precision, recall, threshold = metrics.precision_recall_curve(truth, table[f"p_{name}"])
        assert np.array_equal(curve["precision"], precision) and np.array_equal(curve["recall"], recall)
        assert np.array_equal(curve["threshold"], [*threshold, np.inf])
        said = np.asarray(table[f"p_{name}"]) >= curve["threshold"][7]
        assert curve["precision"][7] == pytest.approx(truth[said].mean())
        assert curve["recall"][7] == pytest.approx(said[truth].mean())
    rates = roc(table)
    rates = rates[rates["class"] == "WCC"]
    truth = np.array(table["label"]) == "WCC"
    for row in rates[1:-1]:
        said = np.asarray(table["p_WCC"]) >= row["threshold"]
        assert row["fpr"] == pytest.approx(np.sum(said & ~truth) / np.sum(~truth))
        assert row["tpr"] == pytest.approx(np.sum(said & truth) / np.sum(truth))


@pytest.mark.parametrize("normalise", [None, "true", "predicted"])
def test_confusion_is_that_of_scikit_learn(normalise):
    table = predictions()
    expected = metrics.confusion_matrix(
        table["label"],
        table["label_pred"],
        labels=list(COOL_CORE.classes),
        normalize={"predicted": "pred"}.get(normalise, normalise),
    )
    matrix = confusion(table, normalise=normalise)
    assert np.allclose([matrix[f"pred_{name}"] for name in COOL_CORE.classes], expected.T)
    assert matrix["class"].tolist() == list(COOL_CORE.classes)
    if normalise is None:
        assert matrix["pred_CC"].dtype.kind == "i" and matrix["failed"].tolist() == [0, 0, 0]
        one = one_vs_all(table)
        assert one["tp"].tolist() == np.diag(expected).tolist()
        total = sum(one[name] for name in ("tp", "fp", "fn", "tn", "failed"))
        assert total.tolist() == [200, 200, 200]


def test_predictions_without_probabilities_have_scores_but_no_area():
    """Answers of people have no p: everything but the AUC."""
    table = predictions(50)
    expected = score(table, n_bootstrap=0)
    for name in COOL_CORE.classes:
        table[f"p_{name}"] = np.nan
    scores = score(table, n_bootstrap=10)
    assert np.array_equal(scores["f1"], expected["f1"]) and np.isnan(scores["auc"]).all()
    assert scores.meta["n_without_p"] == 50 and scores.meta["n_failed"] == 0


def test_one_group_has_no_interval():
    table = predictions(9)
    table["group_id"] = "g"
    with pytest.warns(AstroclassifyWarning, match="at least two groups"):
        scores = score(table)
    assert np.isnan(scores["f1_lo"]).all() and np.isfinite(scores["f1"]).all()


@pytest.mark.slow
def test_intervals_cover_the_truth_when_groups_are_kept_together():
    """
    Groups of three rows that are all right or all wrong, right with chance 0.8: the 95% interval by groups holds 0.8 in
    95% of many experiments; with loose rows it is too narrow by sqrt(3) and holds it in 74% (normal limit).
    """
    rng = np.random.default_rng(12)
    n_groups, n_experiments = 60, 250
    table = QTable({"source_id": [f"s{i}" for i in range(3 * n_groups)]})
    table["label_pred"] = np.full(3 * n_groups, "cluster")
    table["p_cluster"], table["p_other"] = np.full(3 * n_groups, 0.7), np.full(3 * n_groups, 0.3)
    table["flags"] = np.zeros(3 * n_groups, dtype=np.int64)
    table["label"] = np.full(3 * n_groups, "cluster")
    table["group_id"] = np.repeat([f"g{i}" for i in range(n_groups)], 3)
    table.meta["scheme"] = CLUSTER.to_dict()
    loose = table.copy()
    loose["group_id"] = loose["source_id"]
    covered = np.zeros(2)
    for number in range(n_experiments):
        right = np.repeat(rng.random(n_groups) < 0.8, 3)
        for place, each in enumerate((table, loose)):
            each["label_pred"] = np.where(right, "cluster", "other")
            scores = score(each, n_bootstrap=200, rng=number)
            covered[place] += scores["recall_lo"][0] <= 0.8 <= scores["recall_hi"][0]
    assert 0.90 <= covered[0] / n_experiments <= 0.98
    assert covered[1] / n_experiments < 0.82


def test_large_tables_are_resampled_in_little_memory(monkeypatch):
    """Smaller pieces, same draws."""
    table = predictions(60)
    expected = score(table, n_bootstrap=40, rng=0)
    monkeypatch.setattr("astroclassify._scores._scores._MAX_CELLS", 500)
    assert np.allclose(score(table, n_bootstrap=40, rng=0)["f1_lo"], expected["f1_lo"])


def test_a_seed_that_was_not_given_is_recorded():
    table = predictions(60)
    first, second = score(table, n_bootstrap=40), score(table, n_bootstrap=40)
    assert first.meta["seed"] != second.meta["seed"]
    again = score(table, n_bootstrap=40, rng=first.meta["seed"])
    assert all(np.array_equal(first[name], again[name]) for name in first.colnames)
    assert any(not np.array_equal(first[name], second[name]) for name in first.colnames)
