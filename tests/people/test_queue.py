"""The queue of subjects: gains by the definition of mutual information, rules of retirement, a classifier as prior."""

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.people import (
    load_workflow,
    next_subject,
    simulate_votes,
    volunteer_consensus,
    volunteer_skill,
    voting_queue,
)

NONE = tables.empty(tables.VOTES)
NAMES = load_workflow("candidate").outcome_names


def votes_of(rows):
    """Votes of [(source, voter, class)] on the single question of a class scheme."""
    rows = [(source, voter, "class", answer, "") for source, voter, answer in rows]
    return QTable(rows=rows, names=("source_id", "voter_id", "question", "answer", "time"))


def crowd(n_subjects=20, n_votes=3, workflow="candidate", hesitation=0.0, n_voters=12):
    truth = {f"s{k:02d}": load_workflow(workflow).outcome_names[k % 5] for k in range(n_subjects)}
    settings = {"n_voters": n_voters, "votes_per_subject": n_votes, "workflow": workflow, "hesitation": hesitation}
    return truth, simulate_votes(truth, rng=5, **settings)


def entropy(p):
    p = np.asarray(p)[np.asarray(p) > 0]
    return -np.sum(p * np.log2(p))


def test_gain_is_the_expected_reduction_of_entropy():
    _, votes = crowd()
    voter = votes["voter_id"][0]
    queue = voting_queue(votes, workflow="candidate", voter_id=voter)
    skill = volunteer_skill(votes, method="dawid-skene", workflow="candidate")
    confusion = skill["confusion"][skill["voter_id"] == voter][0]
    known = volunteer_consensus(votes, method="dawid-skene", workflow="candidate")
    for row in queue:
        posterior = known[known["source_id"] == row["source_id"]][0]
        p = np.array([posterior[f"p_{name}"] for name in NAMES])
        after = 0.0
        for said in confusion.T:  # Bayes' theorem for each vote that may come
            q = p @ said
            after += q * entropy(p * said / q)
        assert row["p"] == p.max() and row["outcome"] == posterior["outcome"]
        assert np.isclose(row["entropy"], entropy(p)) and np.isclose(row["gain"], entropy(p) - after)


def test_who_can_tell_gains_more():
    rng, gold = np.random.default_rng(1), {f"k{k}": ("cluster", "other")[k % 2] for k in range(40)}
    rows = [(source, "good", truth) for source, truth in gold.items()]
    rows += [(source, "guess", ("cluster", "other")[rng.integers(2)]) for source in gold]
    votes = votes_of(rows)
    gains = {}
    for voter in ("good", "guess", "new"):
        queue = voting_queue(votes, subjects=["a"], gold=gold, workflow="cluster", voter_id=voter)
        gains[voter] = queue["gain"][0]
        assert queue["source_id"][0] == "a" and set(queue["status"][1:]) == {"gold"}
    assert gains["good"] > 0.6 > gains["new"] > 0.1 > gains["guess"]
    assert queue["gain"][0] == voting_queue(votes, subjects=["a"], gold=gold, workflow="cluster")["gain"][0]


def test_doubtful_subjects_come_first_and_sure_ones_retire():
    sure = [("sure", f"v{k}", "point") for k in range(8)]
    split = [("split", f"v{k}", "point" if k % 2 else "galaxy") for k in range(8)]
    rest = [(f"r{j}", f"v{k}", NAMES[j % 5]) for j in range(20) for k in range(8)]
    votes = votes_of(sure + split + rest)
    queue = voting_queue(votes, subjects=["sure", "split", "new"], workflow="candidate", max_votes=9)
    assert set(queue["source_id"][:2]) == {"split", "new"} and set(queue["status"][:2]) == {"open"}
    assert set(queue["status"][2:]) == {"sure"} and queue["gain"][:2].min() > queue["gain"][2:].max()
    new = queue[queue["source_id"] == "new"][0]
    assert new["outcome"] == "" and np.isnan(new["p"]) and new["n_votes"] == 0 and new["entropy"] > 1
    status = {row["source_id"]: row["status"] for row in voting_queue(votes, workflow="candidate", max_votes=8)}
    assert status["split"] == "enough_votes" and status["sure"] == "sure"
    # Draws seldom change the side of a vote of four to four, but neither is believed.
    assert 0.15 < queue["p"][queue["source_id"] == "split"][0] < 0.85
    assert next_subject(votes, workflow="candidate", max_votes=8) == ""
    # Fewer votes than the least are never enough, however sure they are.
    status = voting_queue(votes, workflow="candidate", min_votes=9)["status"]
    assert set(status) == {"open"}


def test_nobody_is_asked_twice():
    _, votes = crowd(n_subjects=5)
    voter = votes["voter_id"][0]
    seen = set(votes["source_id"][votes["voter_id"] == voter])
    queue = voting_queue(votes, workflow="candidate", voter_id=voter, min_votes=12, max_votes=12)
    assert set(queue["source_id"][queue["status"] == "voted"]) == seen
    assert queue["status"].tolist() == sorted(queue["status"].tolist())  # "open" before "voted"
    asked = []
    while name := next_subject(votes, workflow="candidate", voter_id=voter, min_votes=12, max_votes=12):
        asked.append(name)
        votes.add_row((name, voter, "class", "point", ""))
    assert sorted([*asked, *seen]) == [f"s{k:02d}" for k in range(5)]


def test_without_votes_subjects_keep_their_order():
    queue = voting_queue(NONE, subjects=["b", "a", "c"])
    assert queue["source_id"].tolist() == ["b", "a", "c"] and set(queue["status"]) == {"open"}
    assert next_subject(NONE, subjects=["b", "a"]) == "b" and next_subject(NONE) == ""
    assert len(voting_queue(NONE)) == 0


def test_a_classifier_is_the_prior():
    predictions = QTable({"source_id": ["sure", "open", "bad"], "p_cluster": [0.99, 0.5, np.nan]})
    predictions["p_other"] = 1 - predictions["p_cluster"]
    subjects = ["sure", "open", "bad", "none"]
    queue = voting_queue(NONE, subjects=subjects, predictions=predictions, workflow="cluster", min_votes=0)
    rows = {row["source_id"]: row for row in queue}
    assert rows["sure"]["status"] == "sure" and np.isclose(rows["sure"]["p"], 0.99)
    assert rows["open"]["status"] == "open" and np.isclose(rows["open"]["entropy"], 1)
    assert rows["bad"]["outcome"] == rows["none"]["outcome"] == "" and not rows["sure"]["outcome"] == ""
    # Votes overrule it, even one that excludes a class.
    predictions["p_cluster"][0], predictions["p_other"][0] = 0, 1
    rest = [(f"r{j}", f"v{k}", ("cluster", "other")[j % 2]) for j in range(30) for k in range(6)]
    votes = votes_of([("sure", f"v{k}", "cluster") for k in range(6)] + rest)
    queue = voting_queue(votes, subjects=subjects, predictions=predictions, workflow="cluster")
    assert queue["outcome"][queue["source_id"] == "sure"] == "cluster"


def test_classes_are_shared_out_among_their_outcomes():
    """The six questions end in two kinds of clusters; a classifier knows clusters alone."""
    _, votes = crowd(workflow="hunt", n_votes=8, hesitation=0.5)
    predictions = QTable({"source_id": ["new"], "p_cluster": [0.9], "p_other": [0.1]})
    queue = voting_queue(votes, subjects=["new"], predictions=predictions)
    row = queue[queue["source_id"] == "new"][0]
    assert row["outcome"] in ("nearby_cluster", "distant_cluster") and 0.4 < row["p"] < 0.9
    five = QTable({"source_id": ["new"], **{f"p_{name}": [0.96 if name == "low_z" else 0.01] for name in NAMES}})
    found = voting_queue(votes, subjects=["new"], predictions=five, min_votes=0)
    row = found[found["source_id"] == "new"][0]
    assert row["outcome"] == "nearby_cluster" and np.isclose(row["p"], 0.96)


def test_bad_arguments():
    with pytest.raises(ValueError, match="p_retire must be a finite number from 0 to 1"):
        voting_queue(NONE, p_retire=1.5)
    with pytest.raises(ValueError, match="min_votes must be"):
        voting_queue(NONE, min_votes=-1)
    with pytest.raises(ValueError, match="max_votes must be"):
        voting_queue(NONE, min_votes=5, max_votes=4)
    for wrong in ({"a": 0.5}, QTable({"p_cluster": [0.5], "p_other": [0.5]})):
        with pytest.raises(SchemaError, match="predictions must be a table with source_id"):
            voting_queue(NONE, predictions=wrong)
    twice = QTable({"source_id": ["a", "a"], "p_cluster": [0.5, 0.5], "p_other": [0.5, 0.5]})
    with pytest.raises(SchemaError, match="predictions must have one row per source_id"):
        voting_queue(NONE, predictions=twice)
    with pytest.raises(SchemaError, match="predictions must have the columns"):
        voting_queue(NONE, predictions=QTable({"source_id": ["a"], "p_moon": [1.0]}))
    for values in ([1.5, -0.5], [0.5, 0.4]):
        table = QTable({"source_id": ["a"], "p_cluster": values[:1], "p_other": values[1:]})
        with pytest.raises(ValueError, match="predictions: probabilities of"):
            voting_queue(NONE, subjects=["a"], predictions=table)


@pytest.mark.slow
def test_the_queue_saves_votes():
    """Votes that exist are shown as the queue asks for them: as right as all of them, with less than half."""
    truth, votes = crowd(n_subjects=60, n_votes=20, n_voters=40)
    ballots = {source: np.flatnonzero(votes["source_id"] == source) for source in truth}
    given = dict.fromkeys(truth, 0)
    while True:
        rows = np.concatenate([ballots[source][:n] for source, n in given.items()])
        queue = voting_queue(votes[rows], subjects=list(truth), workflow="candidate", max_votes=20)
        asked = queue["source_id"][queue["status"] == "open"].tolist()
        if not asked:
            break
        for source in asked[: -(-len(asked) // 2)]:
            given[source] += 1
    every = volunteer_consensus(votes, method="dawid-skene", workflow="candidate")

    def right(table):
        return np.mean([truth[source] == outcome for source, outcome in table["source_id", "outcome"].iterrows()])

    assert sum(given.values()) < len(votes) / 2
    assert right(queue) > right(every) - 0.05
