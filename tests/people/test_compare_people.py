"""Labels of people and networks against a truth: the printed rows, the ROC curve, who was right."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from astropy.utils.masked import Masked
from sklearn.metrics import roc_auc_score

from astroclassify.exceptions import SchemaError
from astroclassify.people import compare_labels, judge_roc, simulate_votes, volunteer_consensus, who_was_right

# Kosiba et al. 2020, volunteers against experts: TP, TN, FP, FN -> accuracy, precision, recall.
PRINTED = [
    ((69, 150, 0, 185), (0.542, 1.000, 0.272)),
    ((102, 149, 1, 152), (0.621, 0.990, 0.401)),
    ((55, 84, 1, 30), (0.818, 0.982, 0.647)),
]


@pytest.mark.parametrize(("counts", "printed"), PRINTED)
def test_the_printed_rows(counts, printed):
    tp, tn, fp, fn = counts
    truth = ["low_z"] * tp + ["point"] * tn + ["other"] * fp + ["high_z"] * fn
    said = ["nearby_cluster"] * tp + ["point_source"] * tn + ["distant_cluster"] * fp + ["no_optical"] * fn
    names = [f"s{k}" for k in range(len(truth))]
    consensus = QTable({"source_id": names[::-1], "outcome": said[::-1]})
    row = compare_labels(dict(zip(names, truth, strict=True)), {"volunteers": consensus})[0]
    assert (row["tp"], row["tn"], row["fp"], row["fn"]) == counts and row["n"] == sum(counts) and row["n_open"] == 0
    for name, value in zip(("accuracy", "precision", "recall"), printed, strict=True):
        # 102 / 254 = 0.40157 is printed as .401: cut, where the others are rounded.
        expected = np.floor(1000 * row[name]) / 1000 if value == 0.401 else np.round(row[name], 3)
        assert expected == value
    assert np.isclose(row["fpr"], fp / (fp + tn)) and np.isnan(row["auc"])


def test_judges_of_all_kinds_against_one_truth():
    truth = QTable({"source_id": ["a", "b", "c", "d"], "label": ["low_z", "point", "high_z", ""]})
    judges = {
        "volunteers": QTable({"source_id": ["a", "b"], "outcome": ["nearby_cluster", ""]}),
        "experts": QTable({"source_id": ["a", "b", "c"], "decision": ["low_z", "point", "galaxy"]}),
        "network": QTable(
            {
                "source_id": ["c", "b", "a"],
                "label_pred": ["cluster"] * 3,
                "p_cluster": [0.8, 0.7, 0.9],
                "label": ["other"] * 3,
            }
        ),
        "nobody": {},
    }
    table = compare_labels(truth, judges)
    assert table["judge"].tolist() == list(judges)
    assert table["n"].tolist() == [1, 3, 3, 0] and table["n_open"].tolist() == [2, 0, 0, 3]
    assert table["tp"].tolist() == [1, 1, 2, 0] and table["fn"].tolist() == [0, 1, 0, 0]
    assert table["fp"].tolist() == [0, 0, 1, 0] and table["auc"][2] == 1
    assert np.isnan(table["precision"][3]) and np.isnan(table["auc"][0])
    assert len(compare_labels(truth, {})) == 0


def test_roc_of_the_vote_fraction():
    names = ("no_emission", "point_source", "nearby_galaxy", "nearby_cluster", "distant_cluster")
    rng = np.random.default_rng(1)
    truth = {f"s{k}": str(name) for k, name in enumerate(rng.choice(names, 300))}
    votes = simulate_votes(truth, n_voters=200, votes_per_subject=12, rng=2)
    consensus = volunteer_consensus(votes, subjects=[*truth, "other"])
    curve = judge_roc(truth, consensus)
    members = np.array([name.endswith("cluster") for name in truth.values()])
    fraction = np.array(consensus["f_nearby_cluster"] + consensus["f_distant_cluster"])[:300]
    assert np.isclose(curve.meta["auc"], roc_auc_score(members, fraction)) and curve.meta["n"] == 300
    assert (curve["fpr"][0], curve["tpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(curve["threshold"]) < 0) and np.all(np.diff(curve["tpr"]) >= 0)
    assert np.isclose(compare_labels(truth, {"v": consensus})["auc"][0], curve.meta["auc"])
    fitted = volunteer_consensus(votes, method="dawid-skene", subjects=list(truth))
    p = np.array(fitted["p_nearby_cluster"] + fitted["p_distant_cluster"])
    assert np.isclose(judge_roc(truth, fitted).meta["auc"], roc_auc_score(members, p))


def test_roc_without_numbers_or_kinds():
    judge = QTable({"source_id": ["a", "b"], "p_cluster": [0.9, np.nan]})
    with pytest.raises(SchemaError, match="among the 1 sources with a number"):
        judge_roc({"a": "cluster", "b": "other"}, judge)
    with pytest.raises(SchemaError, match="judge must be a table with f_<label>"):
        judge_roc({"a": "cluster", "b": "other"}, {"a": "cluster"})


def test_who_was_right_on_the_plane_of_extent_and_likelihood():
    truth = {"a": "low_z", "b": "point", "c": "galaxy", "d": "high_z"}
    judges = {"we": {"a": "cluster", "b": "cluster", "c": "other"}, "net": {"d": "other"}}
    candidates = QTable(
        {"source_id": ["d", "a"], "ext": [4.0, 9.0] * u.arcsec, "ext_like": [3.0, 40.0], "x_class": ["C2", "C1"]}
    )
    table = who_was_right(truth, judges, candidates=candidates)
    assert table["verdict_we"].tolist() == ["TP", "FP", "TN", "open"]
    assert table["verdict_net"].tolist() == ["open", "open", "open", "FN"]
    assert table["ext"].unit == u.arcsec and np.allclose(table["ext"].value, [9, np.nan, np.nan, 4], equal_nan=True)
    assert table["x_class"].tolist() == ["C1", "", "", "C2"] and table["is_cluster"].tolist() == [
        True,
        False,
        False,
        True,
    ]
    with pytest.raises(SchemaError, match="candidates must have source_id"):
        who_was_right(truth, judges, candidates=QTable({"source_id": ["a"]}))


def test_bad_labels():
    with pytest.raises(
        SchemaError, match="judges\\['we'\\] has labels that are not known to be clusters or not: \\['moon'\\]"
    ):
        compare_labels({"a": "low_z"}, {"we": {"a": "moon"}})
    own = compare_labels({"a": "sun"}, {"we": {"a": "moon"}}, positive=["sun"])
    assert own["fn"].tolist() == [1]
    with pytest.raises(SchemaError, match="judges must be a dict"):
        compare_labels({"a": "low_z"}, QTable({"source_id": ["a"], "label": ["low_z"]}))
    with pytest.raises(SchemaError, match="truth must have one row per source_id"):
        compare_labels(QTable({"source_id": ["a", "a"], "label": ["low_z"] * 2}), {})
    with pytest.raises(SchemaError, match="truth must have the columns"):
        compare_labels(QTable({"source_id": ["a"]}), {})


def test_masked_numbers_do_not_count():
    truth = {"a": "cluster", "b": "other", "c": "cluster", "d": "other"}
    judge = QTable({"source_id": list("abcd"), "p_cluster": [0.9, 0.2, 0.8, 0.99]}, masked=True)
    judge["p_cluster"].mask[3] = True
    curve = judge_roc(truth, judge)
    assert curve.meta["auc"] == 1 and curve.meta["n"] == 3 and curve.meta["n_open"] == 1
    candidates = QTable(
        {"source_id": list("abcd"), "ext_like": [1.0, 2.0, 3.0, 4.0], "x_class": ["C1"] * 4}, masked=True
    )
    candidates["ext_like"].mask[1] = candidates["x_class"].mask[2] = True
    found = who_was_right(truth, {}, candidates=candidates)
    assert np.array_equal(found["ext_like"], [1, np.nan, 3, 4], equal_nan=True)
    assert found["x_class"].tolist() == ["C1", "C1", "", "C1"]
    candidates["ext"] = Masked([1.0, 2.0, 3.0, 4.0] * u.arcsec, mask=[True, False, False, False])
    found = who_was_right(truth, {}, candidates=candidates)["ext"]
    assert np.isnan(found[0]) and found[1:].to_value(u.arcsec).tolist() == [2, 3, 4]


def test_rows_that_repeat_a_source_and_positive_without_a_list():
    truth = {"a": "cluster", "b": "other"}
    twice = QTable({"source_id": ["a", "a", "b"], "p_cluster": [0.9, 0.1, 0.2], "ext": [1.0, 2.0, 3.0]})
    with pytest.raises(SchemaError, match="judge must have one row per source_id, got several of .'a'"):
        judge_roc(truth, twice)
    with pytest.raises(SchemaError, match="candidates must have one row per source_id"):
        who_was_right(truth, {}, candidates=twice)
    with pytest.raises(SchemaError, match="positive must be a sequence of labels, got 'noncluster'"):
        compare_labels(truth, {}, positive="noncluster")
