"""Sets of classes hold the true one as often as stated: by simulation, where the truth is known."""

import json

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.nn import Conformal, for_population
from astroclassify.schemes import COOL_CORE

CENTRES = np.array([-1.2, 0.0, 1.2])
EVEN = np.ones(3) / 3


def sample(n_groups, rng, fractions=EVEN, sizes=(1, 2), sharp=1.0, **meta):
    """Predictions of groups that share a class and part of their noise; probabilities too sharp by a factor."""
    truth = rng.choice(3, n_groups, p=fractions)
    size = rng.integers(*sizes, n_groups)
    group = np.repeat(np.arange(n_groups), size)
    x = CENTRES[truth[group]] + 0.8 * rng.normal(size=n_groups)[group] + 0.6 * rng.normal(size=len(group))
    logits = -0.5 * sharp * (x[:, None] - CENTRES) ** 2
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    names = np.array(COOL_CORE.classes)
    table = QTable({"source_id": np.arange(len(x)).astype(str), "label_pred": names[p.argmax(axis=1)]})
    for number, name in enumerate(names):
        table[f"p_{name}"] = p[:, number]
    table["flags"] = np.zeros(len(x), int)
    table["label"], table["group_id"] = names[truth[group]], group.astype(str)
    table.meta = {"scheme": COOL_CORE.to_dict(), **meta}
    return table


def covered(table):
    pairs = zip(table["label"], table["label_set"], strict=True)
    return np.array([label in found.split("|") for label, found in pairs])


@pytest.mark.parametrize("sharp", [1.0, 4.0])
@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_coverage_in_each_class(coverage, sharp):
    rng = np.random.default_rng(1)
    inside = {label: [] for label in COOL_CORE.classes}
    for _ in range(60):  # the guarantee is a mean over calibrations too
        conformal = Conformal.fit(sample(90, rng, sharp=sharp))
        new = conformal.label_sets(sample(300, rng, sharp=sharp), coverage=coverage)
        for label in inside:
            inside[label].append(covered(new)[new["label"] == label].mean())
    for label, values in inside.items():
        # Between the coverage and 1/(n + 1) more, for about 30 of each class; within 3 sigma.
        error = 3 * np.std(values) / np.sqrt(len(values))
        assert coverage - error < np.mean(values) < coverage + 1 / 25 + error, label


def test_other_class_fractions_change_nothing():
    rng = np.random.default_rng(2)
    conformal = Conformal.fit(sample(3000, rng))
    for fractions in ([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]):
        new = conformal.label_sets(sample(6000, rng, fractions), coverage=0.9)
        assert covered(new).mean() == pytest.approx(0.9, abs=0.02)


def test_threshold_by_hand():
    rng = np.random.default_rng(4)
    table = sample(200, rng)
    conformal = Conformal.fit(table)
    for number, label in enumerate(COOL_CORE.classes):
        p = np.sort(table[f"p_{label}"][table["label"] == label])[::-1]
        place = int(np.ceil((len(p) + 1) * 0.9))
        assert conformal.thresholds(0.9)[number] == pytest.approx(p[place - 1], abs=1e-6)
        assert conformal.n_groups[number] == len(p)


def test_groups_are_the_units():
    rng = np.random.default_rng(5)
    inside, loose = [], []
    for _ in range(60):
        table = sample(60, rng, sizes=(1, 12))
        new = sample(300, rng)
        inside.append(covered(Conformal.fit(table).label_sets(new, coverage=0.9)).mean())
        table["group_id"] = table["source_id"]
        loose.append(covered(Conformal.fit(table).label_sets(new, coverage=0.9)).mean())
    # Rows taken for independent ones promise more than they hold.
    assert np.mean(inside) > 0.9 - 3 * np.std(inside) / np.sqrt(60) and np.mean(loose) < np.mean(inside)


def test_few_groups_are_in_every_set():
    rng = np.random.default_rng(6)
    table = sample(12, rng)
    conformal = Conformal.fit(table)
    assert min(conformal.n_groups) < 9
    limits = conformal.thresholds(0.9)
    assert np.all((limits == 0) == (np.array(conformal.n_groups) < 9))


def test_sets_may_be_empty_and_failed_rows_are():
    rng = np.random.default_rng(7)
    conformal = Conformal.fit(sample(3000, rng, sharp=8.0))
    new = sample(3, rng)
    for number, p in enumerate(([0.5, 0.5, 0.0], [np.nan] * 3, [1.0, 0.0, 0.0])):
        for name, value in zip(COOL_CORE.classes, p, strict=True):
            new[f"p_{name}"][number] = value
    found = conformal.label_sets(new, coverage=0.3)["label_set"]
    assert found.tolist() == ["", "", "CC"] and "label_set" not in new.colnames
    wide = conformal.label_sets(new, coverage=0.999)["label_set"]
    assert wide[0] == "CC|WCC" or wide[0] == "CC|WCC|NCC"


def test_sets_do_not_depend_on_the_population_of_the_table():
    rng = np.random.default_rng(8)
    conformal = Conformal.fit(sample(300, rng, class_fractions=[0.3, 0.4, 0.3]))
    new = sample(200, rng, class_fractions=[0.3, 0.4, 0.3])
    found = conformal.label_sets(new)["label_set"]
    assert np.all(conformal.label_sets(for_population(new, "sz-selected"))["label_set"] == found)
    del new.meta["class_fractions"]
    with pytest.raises(SchemaError, match="both state"):
        conformal.label_sets(new)


def test_another_kind_of_images_is_not_covered():
    rng = np.random.default_rng(9)
    conformal = Conformal.fit(sample(3000, rng))
    shifted = sample(3000, rng)
    for name in COOL_CORE.classes:  # sharper than those of the calibration, as where the network is too sure
        shifted[f"p_{name}"] = shifted[f"p_{name}"] ** 6
    total = sum(shifted[f"p_{name}"] for name in COOL_CORE.classes)
    for name in COOL_CORE.classes:
        shifted[f"p_{name}"] /= total
    assert covered(conformal.label_sets(shifted, coverage=0.9)).mean() < 0.85


def test_round_trip():
    rng = np.random.default_rng(10)
    conformal = Conformal.fit(sample(300, rng, sizes=(1, 5), class_fractions=[1, 2, 3]))
    again = Conformal.from_dict(json.loads(json.dumps(conformal.to_dict(), allow_nan=False)))
    assert again.n_groups == conformal.n_groups
    np.testing.assert_array_equal(again.thresholds(0.8), conformal.thresholds(0.8))
    new = sample(100, rng, class_fractions=[1, 2, 3])
    assert np.all(again.label_sets(new)["label_set"] == conformal.label_sets(new)["label_set"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scores": [[0.5]]}, "3 classes"),
        ({"scores": [[0.5], [0.2], [2.0]], "sizes": [[1], [1], [1]]}, "rise"),
        ({"scores": [[0.5], [0.2], [0.1]], "sizes": [[1], [0], [1]]}, "rise"),
        ({"scores": [[0.5], [0.2], [0.1]], "sizes": [[1], [1.5], [1]]}, "group size"),
        ({"fractions": [0, 1, 1]}, "above 0"),
        ({"scores": None}, "lacks"),
    ],
)
def test_documents_that_hold_none(change, match):
    document = Conformal.fit(sample(30, np.random.default_rng(11))).to_dict()
    with pytest.raises(ValueError, match=match):
        Conformal.from_dict(document | change)


def test_bad_arguments():
    rng = np.random.default_rng(12)
    table = sample(60, rng)
    conformal = Conformal.fit(table)
    for coverage in (0, 1, np.nan, "most"):
        with pytest.raises((ValueError, TypeError), match="coverage"):
            conformal.thresholds(coverage)
    with pytest.raises(ValueError, match="class 'NCC'"):
        Conformal.fit(table[table["label"] != "NCC"])
    table["p_CC"][0] = np.nan
    with pytest.warns(AstroclassifyWarning, match="1 rows without"):
        Conformal.fit(table)
    with pytest.raises(SchemaError, match="classes"):
        conformal.label_sets(table, scheme="cluster")
