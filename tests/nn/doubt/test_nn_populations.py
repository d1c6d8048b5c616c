"""Class fractions of stated populations, and probabilities for them."""

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.nn import class_fractions, correct_prior, for_population, list_populations
from astroclassify.schemes import COOL_CORE

NAMES = ("tng300", "x-ray-selected", "sz-selected")


def predictions(p, **meta):
    p = np.asarray(p, dtype=float)
    labels = np.where(np.isfinite(p[:, 0]), np.array(COOL_CORE.classes)[np.nan_to_num(p).argmax(axis=1)], "")
    columns = {f"p_{label}": p[:, number] for number, label in enumerate(COOL_CORE.classes)}
    table = QTable({"source_id": np.arange(len(p)).astype(str), "label_pred": labels, **columns,
                    "flags": np.where(labels == "", 4096, 0)})  # fmt: skip
    table.meta = {"scheme": COOL_CORE.to_dict(), **meta}
    return table


def test_populations_print_their_fractions(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = str(list_populations()).splitlines()
    assert lines[0].split() == ["population", "fraction_CC", "fraction_WCC", "fraction_NCC"]
    assert lines[-1] == "and description, source" and max(map(len, lines)) <= 80


def test_packaged_populations():
    table = list_populations()
    assert set(table["population"]) == set(NAMES) and all(len(text) > 40 for text in table["source"])
    for name in NAMES:
        assert class_fractions(name).sum() == pytest.approx(1)
    tng, xray, sz = (class_fractions(name) for name in NAMES)
    np.testing.assert_allclose(tng * 318, [34, 199, 85], atol=0.6)
    # X-ray selection finds more cool cores than SZ selection (Andrade-Santos et al. 2017); simulations have fewest.
    assert xray[0] > sz[0] > tng[0] and xray[2] < sz[2]
    odds = [fraction / (1 - fraction) for fraction in (sz[0], xray[0], 0.39, 0.53)]
    assert odds[0] / odds[1] == pytest.approx(odds[2] / odds[3], rel=0.03)
    assert len(list_populations("cluster")) == 0


def test_own_fractions():
    expected = [0.2, 0.5, 0.3]
    for given in (expected, {"NCC": 3, "CC": 2, "WCC": 5}, np.array([20, 50, 30])):
        np.testing.assert_allclose(class_fractions(given), expected)
    np.testing.assert_allclose(class_fractions([1, 3], scheme="cluster"), [0.25, 0.75])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("tng100", "one of .*sz-selected"),
        ([0.5, 0.5], "for each of"),
        ([0.5, 0.5, 0], "above 0"),
        ([0.5, np.nan, 0.5], "finite"),
        ({"CC": 1, "NCC": 1}, "for each of"),
        (None, "for each of"),
        (["a", "b", "c"], "for each of"),
    ],
)
def test_populations_that_are_none(given, match):
    with pytest.raises(ArgumentError, match=match):
        class_fractions(given)


def test_unknown_class_or_scheme():
    with pytest.raises(SchemaError, match="label"):
        class_fractions({"CC": 1, "WCC": 1, "XCC": 1})
    with pytest.raises(ArgumentError, match="'cluster'"):
        class_fractions("tng300", scheme="cluster")


def test_probabilities_for_a_population():
    p = [[0.6, 0.3, 0.1], [np.nan] * 3, [0.2, 0.2, 0.6]]
    table = predictions(p, class_fractions=[0.3, 0.5, 0.2])
    new = for_population(table, "tng300")
    expected = correct_prior(np.array(p)[[0, 2]], [0.3, 0.5, 0.2], class_fractions("tng300"))
    found = np.stack([new[f"p_{label}"] for label in COOL_CORE.classes], axis=1)
    np.testing.assert_allclose(found[[0, 2]], expected)
    assert np.isnan(found[1]).all() and new["label_pred"].tolist() == ["WCC", "", "NCC"]
    assert new.meta["population"] == "tng300" and table["label_pred"][0] == "CC"
    # From one population to another and back is nothing; own fractions have no name.
    back = for_population(for_population(new, "sz-selected"), [0.3, 0.5, 0.2])
    np.testing.assert_allclose(back["p_CC"], table["p_CC"])
    assert "population" not in back.meta


def test_probabilities_of_unknown_fractions():
    with pytest.raises(SchemaError, match="fractions must be given"):
        for_population(predictions([[0.6, 0.3, 0.1]]), "tng300")
    table = for_population(predictions([[0.6, 0.3, 0.1]]), [1, 1, 1], fractions=[1, 1, 1])
    np.testing.assert_allclose(table["p_CC"], 0.6)


def test_probabilities_are_right_in_the_population():
    rng = np.random.default_rng(1)
    centres, before, after = np.array([-1.0, 0.0, 1.5]), np.array([1, 1, 1]) / 3, class_fractions("tng300")

    def exact(x, prior):
        p = prior * np.exp(-0.5 * (x[:, None] - centres) ** 2)
        return p / p.sum(axis=1, keepdims=True)

    x = centres[rng.choice(3, 1000, p=after)] + rng.normal(size=1000)
    found = for_population(predictions(exact(x, before), class_fractions=before.tolist()), "tng300")
    np.testing.assert_allclose(found["p_WCC"], exact(x, after)[:, 1], atol=1e-12)
