"""The printed tables: consistent in themselves, and laid out beside measured scores."""

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify.exceptions import SchemaError
from astroclassify.nn import RankClassifier, ThresholdClassifier, paper_table, repeat_seeds, score, score_seeds
from astroclassify.schemes import CANDIDATE, COOL_CORE


def cool_core_sample(n=30):
    rng = np.random.default_rng(3)
    label = np.array(COOL_CORE.classes)[np.arange(n) % 3]
    c_sb = np.array([0.25, 0.11, 0.05])[np.arange(n) % 3] * 10 ** rng.normal(0, 0.1, n)
    table = QTable({"source_id": [f"s{i}" for i in range(n)], "group_id": [f"g{i}" for i in range(n)]})
    table["label"], table["c_sb"] = label, c_sb
    return table


def test_su_2020_is_consistent():
    """F1 is the harmonic mean of P and R, and the means are over the classes, to the printed digits."""
    table = paper_table("su2020")
    assert table["method"][:3].tolist() == ["ResNet-18", "central n_e", "C_SB (ranked)"]
    for row in table[:3]:
        for name in COOL_CORE.classes:
            p, r, f1 = (row[f"{name}_{measure}"] for measure in ("precision", "recall", "f1"))
            assert 2 * p * r / (p + r) == pytest.approx(f1, abs=0.011)
        for measure in ("f1", "bacc"):
            mean = np.mean([row[f"{name}_{measure}"] for name in COOL_CORE.classes])
            assert mean == pytest.approx(row[f"mean_{measure}"], abs=0.0101)
    best = table[table["method"] == "attention network"]
    assert best["mean_f1"][0] == 0.83 and best["source"][0] == "Zhang et al. 2020" and np.isnan(best["CC_f1"][0])


def test_kosiba_2020_table_5_is_consistent():
    """85 clusters and 85 others: A, P and R to two digits leave room for counts of whole objects."""
    table = paper_table("kosiba2020-table5")
    assert len(table) == 8 and table["accuracy"][0] == 0.9 and table["auc_std"][2] == 0.02
    for row in table:
        tp = row["recall"] * 85
        fp = tp * (1 - row["precision"]) / row["precision"]
        accuracy = (tp + 85 - fp) / 170
        # Means over seeds of ratios are not ratios of means; all rows agree within 0.012.
        assert accuracy == pytest.approx(row["accuracy"], abs=0.0125)


def test_kosiba_2020_table_6_has_one_answer_per_object():
    """
    With A, P, R of a class against all, its share of the objects is (1 - A) / (1 - R + R (1 - P) / P), and that of the
    answers R / P times as much. Both add up to one, and half of the objects are clusters.
    """
    table = paper_table("kosiba2020-table6")
    assert table["method"].tolist() == ["MN", "CN"]
    for row in table:
        shares, said = [], []
        for name in CANDIDATE.classes:
            a, p, r = (row[f"{name}_{measure}"] for measure in ("accuracy", "precision", "recall"))
            shares.append((1 - a) / (1 - r + r * (1 - p) / p))
            said.append(shares[-1] * r / p)
        assert sum(shares) == pytest.approx(1, abs=0.03) and sum(said) == pytest.approx(1, abs=0.03)
        assert sum(shares[:2]) == pytest.approx(0.5, abs=0.02)


def test_measured_rows_stand_below_the_printed_ones():
    sample = cool_core_sample()
    scores = score(RankClassifier("c_sb").fit(sample).classify(sample), n_bootstrap=50)
    table = paper_table("su2020", {"ours": scores, "C_SB (ranked)": scores})
    names = list(zip(table["method"].tolist(), table["source"].tolist(), strict=True))
    assert names[2:4] == [("C_SB (ranked)", "Su et al. 2020"), ("C_SB (ranked)", "measured")]
    assert names[-1] == ("ours", "measured") and len(table) == 7
    assert table["mean_f1"][3] == scores["f1"][3] and table["WCC_bacc_lo"][3] == scores["bacc_lo"][1]
    assert np.isnan(table["WCC_bacc_lo"][2]) and "mean_f1_std" not in table.colnames
    text = paper_table("su2020", {"ours": scores}, as_text=True)
    assert text.colnames == [name for name in table.colnames if not name.endswith(("_lo", "_hi"))]
    assert text["mean_f1"][0] == "0.79" and text["mean_bacc"][4] == ""
    assert text["mean_f1"][-1] == f"{scores['f1'][3]:.2f} ({scores['f1_lo'][3]:.2f}-{scores['f1_hi'][3]:.2f})"


def test_scores_of_seeds_have_their_scatter():
    sample = cool_core_sample()
    scheme = {"scheme": "cluster", "thresholds": [0.1]}
    sample["label"] = np.where(sample["label"] == "CC", "cluster", "other")
    seeds = score_seeds(repeat_seeds(ThresholdClassifier("c_sb", **scheme), sample[:15], sample[15:], n_seeds=3, rng=0))
    table = paper_table("kosiba2020-table5", {"cut": seeds})
    assert table["accuracy"][-1] == seeds["accuracy"][0] and table["accuracy_std"][-1] == 0
    text = paper_table("kosiba2020-table5", {"cut": seeds}, as_text=True)
    assert text["accuracy"][0] == "0.90+-0.03" and text["accuracy"][-1].endswith("+-0.00")


def test_unsuitable_scores_are_named():
    sample = cool_core_sample()
    scores = score(ThresholdClassifier("c_sb").classify(sample), n_bootstrap=0)
    with pytest.raises(ValueError, match="paper must be one of"):
        paper_table("su2021")
    with pytest.raises(SchemaError, match=r"ours\['x'\] must have the classes .* lacks \['cluster'\]"):
        paper_table("kosiba2020-table5", {"x": scores})
    with pytest.raises(SchemaError, match=r"lacks \['bacc'\]"):
        paper_table("su2020", {"x": scores["class", "precision", "recall", "f1"]})
    with pytest.raises(SchemaError, match="got float"):
        paper_table("su2020", {"x": 0.9})


def test_the_packaged_numbers_are_not_changed_by_users():
    paper_table("su2020")["mean_f1"][0] = 0
    paper_table("su2020").meta["source"].clear()
    assert paper_table("su2020")["mean_f1"][0] == 0.79 and len(paper_table("su2020").meta["source"]) == 3
