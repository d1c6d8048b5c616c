"""Predictions of five classes as predictions of cluster or not."""

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify.exceptions import SchemaError
from astroclassify.nn import score
from astroclassify.samples import to_binary
from astroclassify.schemes import CANDIDATE, CLUSTER, Flag


def predictions():
    p = np.array([[0.3, 0.3, 0.4, 0, 0], [0.1, 0.2, 0.3, 0.3, 0.1], [np.nan] * 5])
    table = QTable({"source_id": list("abc"), "label_pred": ["galaxy", "galaxy", ""]})
    for number, name in enumerate(CANDIDATE.classes):
        table[f"p_{name}"] = p[:, number]
    table["flags"], table["label"] = [0, 0, int(Flag.FAILED)], ["high_z", "point", "low_z"]
    table.meta = {"scheme": CANDIDATE.to_dict(), "class_fractions": [0.1, 0.3, 0.2, 0.2, 0.2]}
    return table


def test_the_chance_of_a_cluster_is_the_sum_of_both_kinds():
    table = predictions()
    binary = to_binary(table)
    assert binary.colnames == [
        "source_id", "label_pred", "p_cluster", "p_other", "flags", "label", "label_candidate",
    ]  # fmt: skip
    assert np.allclose(binary["p_cluster"][:2], [0.6, 0.3]) and np.isnan(binary["p_cluster"][2])
    assert np.allclose((binary["p_cluster"] + binary["p_other"])[:2], 1)
    assert binary["label_pred"].tolist() == ["cluster", "other", ""]  # though a galaxy is the most probable of five
    assert binary["label"].tolist() == ["cluster", "other", "cluster"]
    assert binary.meta["scheme"] == CLUSTER.to_dict()
    assert np.allclose(binary.meta["class_fractions"], [0.4, 0.6])
    assert table["label"].tolist() == ["high_z", "point", "low_z"]
    with pytest.warns(UserWarning):
        assert score(binary, n_bootstrap=0)["recall"][0] == 0.5


def test_predictions_of_other_classes_are_refused():
    with pytest.raises(SchemaError):
        to_binary(to_binary(predictions()))
