"""Clusters per area at one purity: against scikit-learn, scipy, a count by hand, and a mixture that is known."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from scipy.stats import binomtest, chi2
from sklearn.metrics import precision_recall_curve

from astroclassify import batch
from astroclassify.exceptions import SchemaError
from astroclassify.nn import clusters_per_area, purity_curve

AREA = 4 * u.deg**2


def candidates(n_fields=40, per_field=10, seed=0):
    """Candidates whose probability p is the chance that each is a cluster."""
    rng = np.random.default_rng(seed)
    n = n_fields * per_field
    p = rng.beta(0.5, 0.8, n)
    table = QTable({"source_id": [f"s{i}" for i in range(n)]})
    table["group_id"] = [f"f{i // per_field}" for i in range(n)]
    table["label"] = np.where(rng.random(n) < p, np.where(rng.random(n) < 0.5, "low_z", "high_z"), "point")
    table["p"] = p
    return table


def test_curve_is_that_of_scikit_learn():
    table = candidates()
    table["p"] = np.round(table["p"], 2)  # ties
    curve = purity_curve(table, {"p": table["p"]}, area=AREA)
    is_cluster = np.array(table["label"]) != "point"
    precision, recall, threshold = precision_recall_curve(is_cluster, table["p"])
    assert np.allclose(curve["threshold"][::-1], threshold) and np.allclose(curve["purity"][::-1], precision[:-1])
    assert np.allclose(curve["n_clusters"][::-1], recall[:-1] * is_cluster.sum())
    assert curve["density"].unit == u.deg**-2 and curve["density"][-1].value == is_cluster.sum() / 4


def test_pieces_of_a_cluster_count_once_and_rows_without_a_number_never():
    table = QTable({"group_id": ["a", "a", "a", "b", "b"], "label": ["low_z", "low_z", "high_z", "low_z", "point"]})
    table["true_id"] = ["c1", "c1", "", "c1", "c1"]
    curve = purity_curve(table, {"p": [0.9, 0.8, 0.7, 0.6, np.nan]}, area=1 * u.deg**2)
    assert curve["n_clusters"].tolist() == [1, 1, 2, 3] and curve.meta["n_clusters"] == 3
    fixed = purity_curve(table, {"two": np.array([True, True, False, False, False])}, area=1 * u.deg**2)
    assert fixed["n", "n_clusters"].as_array().tolist() == [(2, 1)] and np.isnan(fixed["threshold"][0])
    table = clusters_per_area(table, {"all": np.full(5, True), "p": [0.9, 0.8, 0.7, 0.6, np.nan]}, area=1 * u.deg**2)
    assert table["n"][0] == 5 and table["purity"][0] == 0.6 and table["completeness"][0] == 1


def test_cuts_are_judged_on_other_fields():
    table = candidates(seed=3)
    result = clusters_per_area(table, {"p": table["p"]}, area=AREA, purity=0.9, n_bootstrap=0, rng=7)
    # The same by hand, with fields dealt as the seed deals them.
    fields = np.unique(np.array(table["group_id"]))
    fold = batch.derive_rng(7, "folds").permutation(len(fields)) % 5
    part = fold[np.searchsorted(fields, np.array(table["group_id"]))]
    is_cluster, p = np.array(table["label"]) != "point", np.array(table["p"])
    chosen, cuts = np.zeros(len(table), bool), []
    for number in range(5):
        others = part != number
        pure = [cut for cut in p[others] if is_cluster[others & (p >= cut)].mean() >= 0.9]
        cuts.append(min(pure))
        chosen |= ~others & (p >= cuts[-1])
    assert result["n"][0] == chosen.sum() and result["n_clusters"][0] == is_cluster[chosen].sum()
    assert result["density"][0].value == is_cluster[chosen].sum() / 4


def test_the_purity_of_a_known_mixture_is_reached():
    """Over many surveys the purity of what is selected is what was asked for, and no cut is judged at home: below it,
    a little, where the best of many cuts was chosen."""
    reached = []
    for seed in range(20):
        table = candidates(n_fields=150, seed=seed)
        result = clusters_per_area(table, {"p": table["p"]}, area=AREA, purity=0.85, n_bootstrap=0, rng=seed)
        reached.append(result["purity"][0])
    assert abs(np.mean(reached) - 0.85) < 0.015 and min(reached) < 0.85


def test_intervals_are_no_narrower_than_those_of_counts():
    table = candidates()
    rows = np.array(table["label"]) != "point"
    result = clusters_per_area(table, {"pure": rows, "none": np.zeros(len(table), bool)}, area=AREA, rng=1)
    n = int(rows.sum())
    wilson = binomtest(n, n).proportion_ci(0.95, "wilson")
    assert result["purity"][0] == 1 and abs(result["purity_lo"][0] - wilson.low) < 1e-9
    assert result["density_lo"][0].value <= chi2.ppf(0.025, 2 * n) / 2 / 4 + 1e-6
    assert result["density_hi"][0].value >= chi2.ppf(0.975, 2 * n + 2) / 2 / 4 - 1e-6
    assert result["density_lo"][1] == 0 and abs(result["density_hi"][1].value - chi2.ppf(0.975, 2) / 2 / 4) < 1e-4
    assert np.isnan(result["purity"][1]) and np.isnan(result["purity_lo"][1])


def test_differences_are_paired():
    table = candidates()
    rng = np.random.default_rng(5)
    worse = np.where(rng.random(len(table)) < 0.2, rng.random(len(table)), table["p"])
    ways = {"p": table["p"], "again": table["p"], "worse": worse}
    result = clusters_per_area(table, ways, area=AREA, purity=0.9, rng=2)
    assert result["difference"].value.tolist()[:2] == [0, 0] and result["difference_hi"][1] == 0
    low, high = (result[f"difference_{end}"][2].value for end in ("lo", "hi"))
    assert result["difference"][2].value == (result["density"][2] - result["density"][0]).value < 0
    assert high - low < result["density_hi"][2].value - result["density_lo"][2].value
    against = clusters_per_area(table, ways, area=AREA, purity=0.9, rng=2, reference="worse")
    assert against["difference"][0] == -result["difference"][2]
    again = clusters_per_area(table, ways, area=AREA, purity=0.9, rng=2)
    assert all(np.array_equal(result[name], again[name], equal_nan=result[name].dtype.kind == "f") for name in
               result.colnames)  # fmt: skip


def test_a_purity_that_no_cut_reaches_selects_nothing():
    table = QTable({"group_id": ["a", "b", "c", "d"], "label": ["point", "low_z", "point", "low_z"]})
    result = clusters_per_area(table, {"p": [0.9, 0.1, 0.8, 0.2]}, area=AREA, n_bootstrap=10, rng=0)
    assert result["n"][0] == 0 and result["threshold"][0] == np.inf and np.isnan(result["purity"][0])
    assert len(purity_curve(table, {"none": np.zeros(4, bool)}, area=AREA)) == 0


def test_bad_arguments_are_named():
    table = candidates(n_fields=3)
    good = {"p": table["p"]}
    for changes, error, text in (
        ({"candidates": table["label", "p"]}, SchemaError, "lacks 'group_id'"),
        ({"candidates": table[:5]}, ValueError, "at least two fields, got 1"),
        ({"selections": {}}, ValueError, "selections must be a dict"),
        ({"selections": {"p": [0.1]}}, ValueError, r"selections\['p'\] must be one number or bool"),
        ({"area": 4}, TypeError, "area must be a Quantity"),
        ({"area": 0 * u.deg**2}, ValueError, "area"),
        ({"purity": 1.5}, ValueError, "purity"),
        ({"reference": "q"}, ValueError, "reference must be one of"),
        ({"n_bootstrap": -1}, ValueError, "n_bootstrap"),
    ):
        arguments = {"candidates": table, "selections": good, "area": AREA, **changes}
        with pytest.raises(error, match=text):
            clusters_per_area(arguments.pop("candidates"), arguments.pop("selections"), **arguments)
    table["label"][0] = ""
    with pytest.raises(SchemaError, match="a label in every row, 1 have none"):
        purity_curve(table, good, area=AREA)
