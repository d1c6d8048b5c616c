"""Experts and moderators: who decided what, and how far two people agree."""

import numpy as np
import pytest
from astropy.table import QTable
from sklearn.metrics import cohen_kappa_score

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.people import cohen_kappa, expert_agreement, expert_decisions
from astroclassify.schemes import Flag

COLUMNS = ("source_id", "voter_id", "question", "answer", "time")
MODERATORS = ["m1", "m2", "m3"]


def votes_of(*rows):
    return QTable(rows=[(*row[:2], "class", row[2], f"{k:03d}") for k, row in enumerate(rows)], names=COLUMNS)


def decide(*votes, **settings):
    return expert_decisions(votes_of(*votes), moderators=MODERATORS, **settings)


def test_cohen_kappa_of_the_textbook():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa 0.4 (Cohen's kappa, worked example in Wikipedia).
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert np.isclose(cohen_kappa(first, second), 0.4)
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 4, (2, 500))
    b = np.where(rng.random(500) < 0.4, a, b)
    assert np.isclose(cohen_kappa(a, b), cohen_kappa_score(a, b))
    assert np.isnan(cohen_kappa([], [])) and np.isnan(cohen_kappa(["a"], ["a"]))
    with pytest.raises(SchemaError, match="equally long"):
        cohen_kappa(["a"], [])


def test_two_who_agree_decide():
    table = decide(("s", "ann", "low_z"), ("s", "bob", "low_z"), ("s", "m1", "point"))
    row = table[0]
    assert (row["decision"], row["status"], row["decided_by"]) == ("low_z", "agreed", "ann, bob")
    assert row["reason"] == "2 experts agree, a moderator does not" and row["moderation"] == "m1: point"
    assert row["flags"] == 0


def test_moderators_decide_where_the_two_differ():
    two = ("s", "ann", "low_z"), ("s", "bob", "high_z")
    one = decide(*two, ("s", "m2", "point"))[0]
    assert (one["decision"], one["status"], one["decided_by"]) == ("point", "moderated", "m2")
    three = decide(*two, ("s", "m1", "low_z"), ("s", "m2", "high_z"), ("s", "m3", "high_z"))[0]
    assert (three["decision"], three["decided_by"]) == ("high_z", "m2, m3")
    assert three["reason"] == "the experts differ (ann: low_z, bob: high_z), 2 of 3 moderators chose high_z"
    tied = decide(*two, ("s", "m1", "low_z"), ("s", "m2", "high_z"))[0]
    assert (tied["decision"], tied["status"], tied["flags"]) == ("", "moderators_tied", Flag.FAILED.value)
    none = decide(*two)[0]
    assert (none["decision"], none["status"]) == ("", "conflict")
    assert (none["expert_1"], none["answer_1"], none["expert_2"], none["answer_2"]) == ("ann", "low_z", "bob", "high_z")


def test_a_moderator_may_be_one_of_the_two():
    table = decide(("s", "m1", "low_z"), ("s", "bob", "high_z"), ("s", "m2", "high_z"), ("s", "m3", "high_z"))
    row = table[0]
    assert (row["expert_1"], row["expert_2"], row["n_experts"]) == ("m1", "bob", 2)
    assert (row["status"], row["decision"], row["decided_by"]) == ("moderated", "high_z", "m2, m3")


def test_missing_votes_keep_their_rows():
    table = decide(("a", "ann", "low_z"), ("b", "ann", "moon"), subjects=["never", "a"])
    assert table["source_id"].tolist() == ["never", "a", "b"]
    assert table["status"].tolist() == ["no_votes", "one_expert", "no_votes"]
    assert table.meta["not_counted"] == {"unknown_answer": 1}
    assert np.all(table["flags"] == Flag.FAILED.value)
    assert len(expert_decisions(tables.empty(tables.VOTES))) == 0


def test_three_experts_must_agree_and_a_second_vote_of_one_does_not_count():
    votes = (
        ("s", "ann", "low_z"),
        ("s", "bob", "low_z"),
        ("s", "cy", "point"),
        ("t", "ann", "low_z"),
        ("t", "ann", "point"),
    )
    table = decide(*votes)
    assert table["status"].tolist() == ["conflict", "one_expert"] and table["answer_1"][1] == "low_z"
    assert table.meta["not_counted"] == {"duplicate": 1}
    assert table.meta["status"] == {"conflict": 1, "one_expert": 1}


def test_many_subjects():
    rng = np.random.default_rng(3)
    classes = np.array(["low_z", "high_z", "galaxy", "point", "other"])
    truth = rng.choice(classes, 300)
    said = np.where(rng.random((2, 300)) < 0.8, truth, rng.choice(classes, (2, 300)))
    votes = [
        (f"s{k}", name, answer) for name, row in zip(("ann", "bob"), said, strict=True) for k, answer in enumerate(row)
    ]
    votes += [(f"s{k}", "m1", truth[k]) for k in np.flatnonzero(said[0] != said[1])]
    table = decide(*votes)
    assert np.isclose(table.meta["cohen_kappa"], cohen_kappa_score(*said)) and table.meta["n_pairs"] == 300
    assert np.array_equal(table["decision"] == truth, (said[0] != said[1]) | (said[0] == truth))
    pairs = expert_agreement(votes_of(*votes))
    assert pairs["voter_1"].tolist() == ["ann", "ann", "bob"] and pairs["n"][0] == 300
    assert np.isclose(pairs["kappa"][0], cohen_kappa_score(*said))
    assert np.isclose(pairs["agreement"][0], np.mean(said[0] == said[1]))
    assert len(expert_agreement(tables.empty(tables.VOTES))) == 0


def test_moderators_are_names():
    with pytest.raises(SchemaError, match="moderators must be a sequence of names"):
        expert_decisions(votes_of(("s", "a", "point")), moderators="ann")


def test_subjects_of_a_table_and_names_as_bytes():
    votes = votes_of(("a", "M\u00fcller", "point"), ("a", "ann", "point"))
    table = expert_decisions(votes, subjects=QTable({"source_id": ["b", "a"]}))
    assert table["source_id"].tolist() == ["b", "a"] and table["status"].tolist() == ["no_votes", "agreed"]
    coded = QTable({name: np.char.encode(votes[name], "utf-8") for name in COLUMNS})
    assert expert_decisions(coded)["expert_1"].tolist() == ["M\u00fcller"]
    with pytest.raises(SchemaError, match="subjects must be names or a table"):
        expert_decisions(votes, subjects="abc")
    long = [f"{'x' * 70}{k}" for k in range(2)]
    assert expert_agreement(votes_of(("a", long[0], "point"), ("a", long[1], "point")))["voter_2"].tolist() == [long[1]]
