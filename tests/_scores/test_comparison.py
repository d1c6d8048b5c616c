"""McNemar's test and paired differences, against numbers worked out by hand and simulated null cases."""

import itertools
import math

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.nn import mcnemar, score, score_difference
from astroclassify.schemes import CLUSTER


def answers(right, *, groups=None, truth=None):
    """Predictions that are right where ``right`` says so."""
    n = len(right)
    truth = np.array(truth if truth is not None else ["cluster", "other"] * n)[:n]
    other = np.where(truth == "cluster", "other", "cluster")
    table = QTable({"source_id": [f"s{i}" for i in range(n)], "label_pred": np.where(right, truth, other)})
    table["p_cluster"] = np.where(table["label_pred"] == "cluster", 0.9, 0.1)
    table["p_other"] = 1 - table["p_cluster"]
    table["flags"] = np.zeros(n, dtype=np.int64)
    table["label"] = truth
    if groups is not None:
        table["group_id"] = groups
    table.meta["scheme"] = CLUSTER.to_dict()
    return table


def pair(both, only_a, only_b, neither, **settings):
    counts = (both, only_a, only_b, neither)
    right_a = np.repeat([True, True, False, False], counts)
    right_b = np.repeat([True, False, True, False], counts)
    return answers(right_a, **settings), answers(right_b, **settings)


def test_few_rows_by_hand():
    """10 against 2: 2 (C(12,0) + C(12,1) + C(12,2)) / 2^12 = 158 / 4096."""
    test = mcnemar(*pair(20, 10, 2, 5))
    assert test["method"][0] == "exact" and np.isnan(test["statistic"][0])
    assert test["p_value"][0] == pytest.approx(158 / 4096) and test["p_groups"][0] == pytest.approx(158 / 4096)
    assert [int(test[name][0]) for name in ("both_right", "only_a", "only_b", "both_wrong")] == [20, 10, 2, 5]
    assert test["difference"][0] == pytest.approx(8 / 37) and test["n_groups"][0] == 37


def test_many_rows_by_hand():
    """30 against 12: (18 - 1)^2 / 42 = 6.881, and the chance of more with one degree is erfc(sqrt(x / 2))."""
    test = mcnemar(*pair(100, 30, 12, 5))
    assert test["method"][0] == "chi2"
    assert test["statistic"][0] == pytest.approx(289 / 42)
    assert test["p_value"][0] == pytest.approx(math.erfc(math.sqrt(289 / 84)))
    assert test["p_groups"][0] == pytest.approx(test["p_value"][0], rel=0.1)


def test_the_same_answers_do_not_differ():
    a, b = pair(10, 0, 0, 3)
    test = mcnemar(a, b)
    assert test["p_value"][0] == 1 and test["p_groups"][0] == 1
    assert (test["difference"][0], test["difference_lo"][0], test["difference_hi"][0]) == (0, 0, 0)
    assert mcnemar(*pair(5, 20, 20, 0))["p_value"][0] == 1


def test_exchanging_the_two_changes_the_sign_only():
    a, b = pair(40, 9, 4, 7, groups=[f"g{i // 4}" for i in range(60)])
    forth, back = mcnemar(a, b), mcnemar(b, a[::-1])
    for name in ("p_value", "p_groups"):
        assert forth[name][0] == pytest.approx(back[name][0])
    assert back["difference"][0] == -forth["difference"][0]


def of_groups(differences):
    """Two predictions that differ by so many right answers in each group, and the p-value of the groups."""
    groups = np.repeat(np.arange(len(differences)), np.abs(differences) + 1)
    first = np.concatenate([[*[d > 0] * abs(d), True] for d in differences])
    second = np.concatenate([[*[d < 0] * abs(d), True] for d in differences])
    names = [f"g{group}" for group in groups]
    return mcnemar(answers(first, groups=names), answers(second, groups=names), n_bootstrap=0)["p_groups"][0]


def test_groups_by_all_signs():
    """The convolution is the count over all choices of signs."""
    differences = np.array([3, -1, 2, 2, -3, 1, 0, 1])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=len(differences))]
    assert of_groups(differences) == pytest.approx(np.mean(np.array(sums) >= abs(differences.sum())))


def test_many_groups_have_the_normal_limit(monkeypatch):
    rng = np.random.default_rng(4)
    differences = rng.integers(-3, 4, 400) + (rng.random(400) < 0.1)
    exact = of_groups(differences)
    monkeypatch.setattr("astroclassify._scores._comparison._MAX_EXACT", 0)
    assert of_groups(differences) == pytest.approx(exact, abs=0.02)


def test_rows_of_one_group_are_no_new_evidence():
    """Each row three times: the plain p-value falls, that of groups stays what it was."""
    a, b = pair(20, 10, 2, 5)
    copies = [table[np.repeat(np.arange(37), 3)] for table in (a, b)]
    for table in copies:
        table["group_id"] = np.array(table["source_id"])
        table["source_id"] = [f"r{i}" for i in range(111)]
    test = mcnemar(*copies, rng=0)
    assert test["p_groups"][0] == pytest.approx(158 / 4096) and test["p_value"][0] < 0.001
    single = mcnemar(a, b, rng=0)
    assert test["difference_lo"][0] == pytest.approx(single["difference_lo"][0], abs=0.02)


def test_false_alarms_come_as_often_as_they_should():
    """Two classifiers of the same quality on triples that are right or wrong together: 5% of tests find p < 0.05."""
    rng = np.random.default_rng(8)
    groups = np.repeat([f"g{i}" for i in range(60)], 3)
    alarms = np.zeros(2)
    for _ in range(200):
        tables = [answers(np.repeat(rng.random(60) < 0.7, 3), groups=groups) for _ in range(2)]
        test = mcnemar(*tables, n_bootstrap=0)
        alarms += test["p_groups"][0] < 0.05, test["p_value"][0] < 0.05
    assert alarms[0] / 200 < 0.09
    assert alarms[1] / 200 > 0.15


def test_differences_are_those_of_the_scores():
    rng = np.random.default_rng(1)
    groups = [f"g{i // 3}" for i in range(120)]
    a, b = (answers(rng.random(120) < chance, groups=groups) for chance in (0.85, 0.7))
    difference = score_difference(a, b[::-1], n_bootstrap=300, rng=0)
    first, second = score(a, n_bootstrap=300, rng=0), score(b, n_bootstrap=300, rng=0)
    for name in ("precision", "recall", "f1", "bacc", "accuracy", "auc"):
        assert np.allclose(difference[name], first[name] - second[name])
        assert np.all((difference[f"{name}_lo"] <= difference[name]) & (difference[name] <= difference[f"{name}_hi"]))
    assert difference["accuracy"][0] == pytest.approx(mcnemar(a, b, n_bootstrap=0)["difference"][0])


def test_a_paired_interval_is_narrower_than_two_single_ones():
    rng = np.random.default_rng(2)
    right = rng.random(300) < 0.8
    a, b = answers(right), answers(right & (rng.random(300) < 0.97))
    width = np.ptp([score_difference(a, b, rng=0)[f"accuracy_{end}"][0] for end in ("lo", "hi")])
    assert width < 0.6 * np.ptp([score(a, rng=0)[f"accuracy_{end}"][0] for end in ("lo", "hi")])


def test_failed_rows_are_wrong():
    a, b = pair(10, 0, 0, 0)
    b["label_pred"][:2] = ""
    b["p_cluster"][:2] = b["p_other"][:2] = np.nan
    with pytest.warns(AstroclassifyWarning, match="2 rows without prediction are counted as wrong"):
        test = mcnemar(a, b)
    assert test["only_a"][0] == 2 and test.meta["n_failed_b"] == 2


def _drop(table):
    return table[:-1]


def _repeat(table):
    table["source_id"][0] = "s1"
    return table


def _relabel(table):
    table["label"][0] = "other"
    return table


def _regroup(table):
    table["group_id"][0] = "g7"
    return table


def _rename(table):
    table.rename_columns(["p_cluster", "p_other"], ["p_high", "p_low"])
    table.meta["scheme"] = {"name": "x", "classes": ["high", "low"], "descriptions": ["a", "b"], "version": 1}
    table["label"] = table["label_pred"] = "high"
    return table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, r"same labelled images, got \['s9'\]"),
        (_repeat, "predictions_b must have each source_id once"),
        (_relabel, "same true labels"),
        (_regroup, "same group_id"),
        (_rename, "one scheme, got 'cluster', 'x'"),
        (lambda table: table["source_id", "label"], "not a PREDICTIONS table"),
    ],
)
@pytest.mark.parametrize("function", [mcnemar, score_difference])
def test_what_cannot_be_compared_is_named(function, change, message):
    a, b = pair(4, 3, 2, 1, groups=[f"g{i // 2}" for i in range(10)])
    with pytest.raises(SchemaError, match=message):
        function(a, change(b))
