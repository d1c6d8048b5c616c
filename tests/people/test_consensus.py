"""Consensus of votes: the weights of the paper by hand, Dawid & Skene beside crowd-kit, a crowd beside its truth."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable
from scipy.stats import beta

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.people import (
    fleiss_kappa,
    load_workflow,
    simulate_votes,
    soft_labels,
    volunteer_consensus,
    volunteer_skill,
)
from astroclassify.people._dawid_skene import fit
from astroclassify.people._encode import encode
from astroclassify.schemes import CANDIDATE, Flag, flag_names

HERE = Path(__file__).parent
METHODS = ("majority", "weighted", "iterated", "dawid-skene")
NAMES = load_workflow("hunt").outcome_names
CLUSTERS = ("nearby_cluster", "distant_cluster")


def votes_of(table, question="class"):
    """Votes of {(source, voter): answer} to one question."""
    rows = [(source, voter, question, answer, "") for (source, voter), answer in table.items()]
    return QTable(rows=rows, names=("source_id", "voter_id", "question", "answer", "time"))


def paths(ballots):
    """Votes of [(source, voter, outcome)] on the six questions."""
    rows = []
    for source, voter, outcome in ballots:
        path = load_workflow("hunt").path_to(outcome)
        rows += [(source, voter, question, answer, "") for question, answer in path.items()]
    return QTable(rows=rows, names=("source_id", "voter_id", "question", "answer", "time"))


THREE = votes_of(
    {
        ("s1", "A"): "cluster", ("s1", "B"): "cluster", ("s1", "C"): "other",
        ("s2", "A"): "cluster", ("s2", "B"): "other", ("s2", "C"): "other",
        ("s3", "A"): "cluster", ("s3", "B"): "cluster", ("s3", "C"): "cluster",
    }
)  # fmt: skip


def test_weights_by_hand():
    # Majorities: cluster, other, cluster. A agrees on s1, s3; B on all; C on s2, s3.
    skill = volunteer_skill(THREE, workflow="cluster")
    assert skill["voter_id"].tolist() == ["A", "B", "C"]
    assert skill["c_class"].tolist() == [2, 3, 2] and skill["q_class"].tolist() == [3, 3, 3]
    assert np.allclose(skill["g_class"], [2 / 3, 1, 2 / 3])
    result = volunteer_consensus(THREE, workflow="cluster")
    assert result["outcome"].tolist() == ["cluster", "other", "cluster"]
    # s1: (2/3 + 1) / (2/3 + 1 + 2/3), s2: (1 + 2/3) / (2/3 + 1 + 2/3)
    assert np.allclose(result["vote_fraction"], [5 / 7, 5 / 7, 1])
    plain = volunteer_consensus(THREE, method="majority", workflow="cluster")
    assert np.allclose(plain["vote_fraction"], [2 / 3, 2 / 3, 1])


def test_weights_of_different_questions_are_apart():
    # ann is right about the emission and wrong about the border; only those who came to it count there.
    votes = paths(
        [("s", "ann", "edge"), ("s", "bob", "point_source"), ("s", "cy", "point_source"), ("s", "dee", "no_emission")]
    )
    skill = volunteer_skill(votes)
    assert skill["g_emission"].tolist() == [1, 1, 1, 0]
    assert skill["g_border"].tolist()[:3] == [0, 1, 1] and np.isnan(skill["g_border"][3])
    assert skill["q_border"].tolist() == [1, 1, 1, 0] and np.isnan(skill["g_members"]).all()
    assert np.allclose(skill["agreement"], [1 / 2, 1, 1, 0])


def test_weights_overrule_a_majority_of_the_unreliable():
    table = {}
    for k in range(4):
        table |= {(f"t{k}", name): "cluster" for name in ("good", "h1", "h2")}
        table |= {(f"t{k}", name): "other" for name in ("bad1", "bad2")}
    table |= {("s", "good"): "cluster", ("s", "bad1"): "other", ("s", "bad2"): "other"}
    votes = votes_of(table)
    assert volunteer_consensus(votes, method="majority", workflow="cluster")["outcome"][-1] == "other"
    weighted = volunteer_consensus(votes, method="weighted", workflow="cluster")
    # good: 4 of 5 with the majority, each bad one 1 of 5.
    assert weighted["outcome"][-1] == "cluster" and np.isclose(weighted["vote_fraction"][-1], 0.8 / 1.2)
    # Next round: good agrees 5 of 5, the bad ones never.
    iterated = volunteer_consensus(votes, method="iterated", workflow="cluster")
    assert np.isclose(iterated["vote_fraction"][-1], 1.0)
    assert iterated.meta["n_iterations"] == 2 and iterated.meta["converged"]
    assert volunteer_skill(votes, method="iterated", workflow="cluster")["g_class"].tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("known", ["free", "gold"])
@pytest.mark.parametrize("steps", [1, 5, 1000])
def test_dawid_skene_equals_crowd_kit(known, steps):
    stored = json.loads((HERE / "dawid_skene_crowdkit.json").read_text())
    gold = {int(subject): label for subject, label in stored["gold"].items()} if known == "gold" else None
    result = fit(*np.array(stored["votes"]).T, (40, 9, 3), gold=gold, max_iterations=steps, tolerance=0)
    assert np.abs(result.posterior - stored["posteriors"][f"{known} {steps}"]).max() < 2e-9
    # EM never makes the votes less likely.
    assert np.all(np.diff(result.log_likelihood) > -1e-9)


def test_dawid_skene_on_a_model_that_can_be_solved_by_hand():
    # Two voters of known confusion: Bayes' theorem gives the posterior.
    subject, voter = np.repeat(np.arange(400), 2), np.tile([0, 1], 400)
    label = np.tile([0, 0, 0, 1, 1, 0, 1, 1], 100)
    result = fit(subject, voter, label, (400, 2, 2), max_iterations=1, tolerance=0)
    # Start: shares 1, 1/2, 1/2, 0. Voter 0 says 0 in half, of which true share (1 + 1/2) / 2 = 3/4.
    c = 0.75
    both = c * c / (c * c + (1 - c) ** 2)
    assert np.allclose(result.posterior[:4, 0], [both, 0.5, 0.5, 1 - both])
    assert np.allclose(result.prior, 0.5)


def test_dawid_skene_finds_how_each_voter_errs():
    rng = np.random.default_rng(2)
    n, right = 3000, np.array([0.95, 0.85, 0.75, 0.6, 0.35])
    truth = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    said = np.where(rng.random((n, 5)) < right, truth[:, None], (truth[:, None] + rng.integers(1, 3, (n, 5))) % 3)
    subject, voter = np.divmod(np.arange(5 * n), 5)
    result = fit(subject, voter, said.ravel(), (n, 5, 3))
    assert result.converged
    assert np.allclose(result.prior, [0.6, 0.3, 0.1], atol=0.03)
    assert np.allclose(np.einsum("vkk,k->v", result.confusion, result.prior), right, atol=0.03)
    assert np.allclose(result.confusion.sum(axis=2), 1)
    # Posteriors are calibrated: where they say p, p are right.
    best = result.posterior.max(axis=1)
    assert abs(np.mean(result.posterior.argmax(axis=1) == truth) - best.mean()) < 0.02


def test_known_subjects_are_fixed():
    gold = {"s1": "other", "absent": "cluster", "s3": ""}
    for method in METHODS:
        with pytest.warns(
            AstroclassifyWarning, match="gold: 1 of 2 sources have no votes and no row, such as .'absent'"
        ):
            result = volunteer_consensus(THREE, method=method, gold=gold, workflow="cluster")
        assert result["outcome"].tolist()[0] == "other" and result["gold"].tolist() == [True, False, False]
        assert result["p_other"][0] == 1 and result["answer_class"][0] == "other"
    # The known outcome takes the place of the majority: A and B were wrong on s1, C was right.
    skill = volunteer_skill(THREE, gold={"s1": "other"}, workflow="cluster")
    assert np.allclose(skill["g_class"], [1 / 3, 2 / 3, 1])
    assert skill["n_gold"].tolist() == [1, 1, 1] and skill["gold_right"].tolist() == [0, 0, 1]
    table = QTable({"source_id": ["s1"], "outcome": ["other"]})
    assert volunteer_consensus(THREE, gold=table, workflow="cluster")["outcome"][0] == "other"
    with pytest.raises(SchemaError, match="gold must hold outcomes out of"):
        volunteer_consensus(THREE, gold={"s1": "moon"}, workflow="cluster")
    with pytest.raises(SchemaError, match="gold must be a table or a dict"):
        volunteer_consensus(THREE, gold=["s1"], workflow="cluster")


def test_answers_off_the_path_do_not_count():
    votes = paths([("s", "ann", "edge"), ("s", "bob", "no_emission"), ("t", "ann", "edge"), ("t", "bob", "edge")])
    skill = volunteer_skill(votes, gold={"s": "no_emission"})
    assert skill["q_border"].tolist() == [1, 1] and skill["g_emission"].tolist() == [0.5, 1]


def test_without_weights_shares_are_those_of_the_volunteers_who_ended_there():
    votes = simulate_votes({f"s{k}": NAMES[k % 7] for k in range(60)}, n_voters=50, votes_per_subject=20, rng=4)
    result = volunteer_consensus(votes, method="majority")
    ballots, _ = encode(votes, load_workflow("hunt"))
    shares = np.stack([result[f"f_{name}"] for name in NAMES], axis=1)
    assert np.allclose(shares, ballots.tally_outcomes() / 20)
    assert np.allclose(sum(result[f"p_{name}"] for name in NAMES), 1)
    assert result["n_votes"].tolist() == result["n_complete"].tolist() == [20] * 60


def test_credible_interval():
    votes = paths([("s", f"v{k}", "edge" if k < 21 else "point_source") for k in range(30)])
    result = volunteer_consensus(votes, method="majority")
    assert result["vote_fraction"][0] == 0.7
    expected = beta.ppf([0.025, 0.975], 21 + 1 / 7, 9 + 6 / 7)
    assert np.allclose([result["vote_fraction_lo"][0], result["vote_fraction_hi"][0]], expected)
    assert np.isclose(result["p_edge"][0], (21 + 1 / 7) / 31)


def test_ties_and_few_voters():
    votes = paths(
        [("tie", "a", "edge"), ("tie", "b", "point_source"), ("tie", "c", "edge"), ("tie", "d", "point_source")]
        + [("split", "a", "edge"), ("split", "b", "no_emission"), ("split", "c", "point_source")]
        + [("split", "d", "edge"), ("split", "e", "nearby_galaxy")]
        + [("one", "a", "distant_cluster")]
    )
    cut = QTable(rows=[("cut", "a", "emission", "yes", "")], names=votes.colnames)
    votes = QTable({name: np.concatenate([votes[name], cut[name]]) for name in votes.colnames})
    subjects = ["never", "one"]
    result = volunteer_consensus(votes, method="majority", subjects=subjects)
    assert result["source_id"].tolist() == ["never", "one", "tie", "split", "cut"]
    assert result["outcome"].tolist() == ["", "distant_cluster", "", "", ""]
    assert result["tie"].tolist() == [False, False, True, True, False]
    assert result["message"].tolist() == ["no votes", "", "tie", "tie", "the votes end before an outcome"]
    assert [flag_names(flags) for flags in result["flags"]] == [
        ("failed",), ("few_votes",), ("failed", "few_votes"), ("failed",), ("failed",)
    ]  # fmt: skip
    assert result["n_votes"].tolist() == [0, 1, 4, 5, 1] and result["n_complete"].tolist() == [0, 1, 4, 5, 0]
    assert np.isnan(result["p_edge"][0]) and np.isnan(result["vote_fraction"][2])
    assert result["vote_fraction_lo"][1] < 0.6 < 1 == result["vote_fraction"][1]  # one voter proves little
    assert result.meta["n_incomplete"] == 1
    for method in METHODS:
        with np.errstate(all="raise"):
            table = volunteer_consensus(votes, method=method, subjects=QTable({"source_id": subjects}))
        assert table["source_id"].tolist()[:2] == subjects and table["outcome"][0] == ""


def test_the_winner_may_lack_a_majority():
    votes = paths(
        [("s", "a", "edge"), ("s", "b", "edge")]
        + [("s", "c", "point_source"), ("s", "d", "no_optical"), ("s", "e", "no_emission")]
    )
    # emission: yes 4 to 1; border: yes 2, no 2 would tie; a third edge vote decides with 3 of 6.
    votes = QTable({name: np.concatenate([votes[name], paths([("s", "f", "edge")])[name]]) for name in votes.colnames})
    result = volunteer_consensus(votes, method="majority")
    assert result["outcome"][0] == "edge" and result["vote_fraction"][0] == 0.5 and result["no_majority"][0]
    assert result["fraction_border"][0] == 0.6 and result["n_border"][0] == 5


def test_no_votes_at_all():
    for method in METHODS:
        result = volunteer_consensus(tables.empty(tables.VOTES), method=method)
        assert len(result) == 0 and "p_edge" in result.colnames
        assert len(volunteer_consensus(tables.empty(tables.VOTES), method=method, subjects=["a"])) == 1
        assert len(volunteer_skill(tables.empty(tables.VOTES), method=method)) == 0
    labels, weights = soft_labels(volunteer_consensus(tables.empty(tables.VOTES), subjects=["a"]))
    assert np.isnan(labels).all() and weights.tolist() == [0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="method must be one of"):
        volunteer_consensus(THREE, method="best", workflow="cluster")
    for smoothing in (-1, np.nan, "1", True):
        with pytest.raises(ValueError, match="smoothing must be a finite number from 0"):
            volunteer_consensus(THREE, smoothing=smoothing, workflow="cluster")
    for subjects in ("s1", ["a", "a"], [""], QTable({"name": ["a"]})):
        with pytest.raises(SchemaError, match="subjects must be"):
            volunteer_consensus(THREE, subjects=subjects, workflow="cluster")
    with pytest.raises(SchemaError, match="consensus must be a table that volunteer_consensus made"):
        soft_labels(QTable({"p_edge": [1.0]}))


def test_votes_that_do_not_count_are_counted():
    votes = votes_of({("s1", "A"): "cluster", ("s1", "B"): "moon"})
    result = volunteer_consensus(votes, workflow="cluster")
    assert result.meta["not_counted"] == {"unknown_answer": 1} and result["n_votes"].tolist() == [1]


def test_soft_labels():
    votes = simulate_votes({f"s{k}": NAMES[k % 7] for k in range(28)}, n_voters=40, votes_per_subject=15, rng=4)
    subjects = [*reversed([f"s{k}" for k in range(28)]), "never"]
    result = volunteer_consensus(votes, method="dawid-skene", subjects=subjects)
    labels, weights = soft_labels(result, "candidate")
    assert labels.shape == (29, 5) and np.isnan(labels[-1]).all() and weights[-1] == 0
    assert np.allclose(labels[:-1].sum(axis=1), 1) and np.all((weights >= 0) & (weights <= 1))
    assert np.allclose(labels[:-1, 0], result["p_nearby_cluster"][:-1])
    binary, _ = soft_labels(result)
    assert np.allclose(binary[:-1, 0], labels[:-1, :2].sum(axis=1))
    own, _ = soft_labels(volunteer_consensus(THREE, workflow="cluster"), "cluster")
    assert own.argmax(axis=1).tolist() == [0, 1, 0]
    with pytest.raises(SchemaError, match="are no classes of the scheme 'cool-core'"):
        soft_labels(result, "cool-core")


def test_fleiss_kappa_of_the_textbook():
    # Ten subjects, fourteen raters, five categories: kappa 0.210 (Fleiss' kappa, worked example in Wikipedia).
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    answers = load_workflow("candidate").outcome_names
    table = {}
    for k, row in enumerate(counts):
        said = [answer for answer, number in zip(answers, row, strict=True) for _ in range(number)]
        table |= {(f"s{k}", f"v{j}"): answer for j, answer in enumerate(said)}
    result = fleiss_kappa(votes_of(table), workflow="candidate")
    assert result["question"].tolist() == ["class", "outcome"]
    assert np.allclose(result["kappa"], 0.210, atol=5e-4)
    assert np.allclose(result["agreement"], 0.378, atol=5e-4) and np.allclose(result["chance"], 0.213, atol=5e-4)
    assert result["n_subjects"].tolist() == [10, 10] and result["n_votes"].tolist() == [140, 140]
    lone = fleiss_kappa(votes_of({("s", "v"): "point"}), workflow="candidate")
    assert np.isnan(lone["kappa"]).all() and lone["n_votes"].tolist() == [0, 0]


@pytest.fixture(scope="module")
def crowd():
    rng = np.random.default_rng(0)
    outcomes = rng.choice(NAMES, 1600, p=[0.05, 0.08, 0.22, 0.05, 0.1, 0.25, 0.25])
    truth = {f"s{k:04d}": str(outcome) for k, outcome in enumerate(outcomes)}
    return truth, simulate_votes(truth, rng=1)


def score(truth, result):
    """Share of right outcomes, precision and recall of clusters; what is open is no cluster."""
    outcome, true = np.array(result["outcome"]), np.array(list(truth.values()))
    said, is_true = np.isin(outcome, CLUSTERS), np.isin(true, CLUSTERS)
    return np.mean(outcome == true), np.sum(said & is_true) / said.sum(), np.sum(said & is_true) / is_true.sum()


def test_a_crowd_as_large_as_that_of_the_paper(crowd):
    truth, votes = crowd
    assert len(set(votes["voter_id"].tolist())) > 1000
    scores = {m: score(truth, volunteer_consensus(votes, method=m, subjects=list(truth))) for m in METHODS}
    accuracy, precision, recall = (dict(zip(METHODS, each, strict=True)) for each in zip(*scores.values(), strict=True))
    # As printed: weights find more clusters than plain votes (0.40 against 0.27), few of them wrong (0.99, 1.00).
    assert recall["majority"] < 0.5 and recall["weighted"] > recall["majority"] + 0.03
    assert min(precision.values()) > 0.97
    assert accuracy["majority"] < accuracy["weighted"] <= accuracy["iterated"] + 0.01
    assert accuracy["dawid-skene"] > accuracy["weighted"]


def test_skill_found_is_skill_given(crowd):
    truth, votes = crowd
    gold = dict(list(truth.items())[::4])
    skill = volunteer_skill(votes, method="dawid-skene", gold=gold)
    assert np.allclose(skill["confusion"].sum(axis=2), 1) and skill["confusion"].shape[1:] == (7, 7)
    often = skill["n_subjects"] > 150
    ballots, _ = encode(votes, load_workflow("hunt"), list(truth))
    true = np.array([NAMES.index(outcome) for outcome in truth.values()])
    hits = np.bincount(ballots.voter, ballots.outcome == true[ballots.subject], minlength=len(skill))
    right = hits / skill["n_subjects"]
    assert np.corrcoef(right[often], skill["skill"][often])[0, 1] > 0.85
    assert np.corrcoef(right[often], skill["gold_right"][often])[0, 1] > 0.8


def test_consensus_survives_a_file(tmp_path, crowd):
    truth, votes = crowd
    result = volunteer_consensus(votes[:2000])
    again = tables.read(tables.write(result, tmp_path / "consensus.ecsv"))
    assert again["outcome"].tolist() == result["outcome"].tolist()
    assert np.array_equal(*(soft_labels(each)[0] for each in (result, again)), equal_nan=True)


def test_equal_votes_of_volunteers_who_never_agree_with_the_majority_are_a_tie():
    """One against one: nobody agrees with a majority, every G is 0, and still it is a tie, not a lack of votes."""
    votes = QTable(
        rows=[("a", "v", "emission", "yes", ""), ("a", "v", "border", "yes", ""), ("a", "w", "emission", "no", "")],
        names=("source_id", "voter_id", "question", "answer", "time"),
    )
    for method in ("majority", "weighted", "iterated"):
        result = volunteer_consensus(votes, method=method)[0]
        assert result["outcome"] == "" and result["tie"] and result["message"] == "tie"


def test_known_outcomes_with_gaps_are_those_that_are_there():
    gold = QTable({"source_id": ["s1", "s2"], "outcome": ["other", "cluster"]}, masked=True)
    gold["outcome"].mask[1] = True
    result = volunteer_consensus(THREE, gold=gold, workflow="cluster")
    assert result["gold"].tolist() == [True, False, False]


def test_few_votes_do_not_make_sure():
    """Two votes each: the greatest likelihood is sure of outcomes that nobody chose."""
    outcomes = np.random.default_rng(0).choice(NAMES, 200, p=[0.05, 0.08, 0.22, 0.05, 0.1, 0.25, 0.25])
    votes = simulate_votes(
        {f"s{k}": str(name) for k, name in enumerate(outcomes)}, n_voters=60, votes_per_subject=2, rng=0
    )
    original = volunteer_consensus(votes, method="dawid-skene", smoothing=0)
    unchosen = (original["flags"] & Flag.NO_VOTES.value) > 0
    assert original["posterior"][unchosen].max() > 0.999
    assert np.isnan(original["posterior_lo"]).all()
    result = volunteer_consensus(votes, method="dawid-skene")
    assert np.all(result["flags"] & Flag.FEW_VOTES.value)
    own = np.array([row[f"f_{row['outcome']}"] for row in result])
    assert np.array_equal((result["flags"] & Flag.NO_VOTES.value) > 0, own == 0)
    unchosen = (result["flags"] & Flag.NO_VOTES.value) > 0
    assert result["posterior"][unchosen].max() < 0.9
    # So few votes leave the probability itself open.
    assert np.median(result["posterior_hi"] - result["posterior_lo"]) > 0.3


def test_flags_of_votes():
    ballots = [("many", f"v{k}", "edge") for k in range(5)] + [("few", f"v{k}", "edge") for k in range(4)]
    for method in METHODS:
        result = volunteer_consensus(paths(ballots), method=method, gold={"few": "edge"})
        assert result["flags"].tolist() == [0, 0]  # a known outcome needs no votes
        result = volunteer_consensus(paths(ballots), method=method)
        assert [flag_names(flags) for flags in result["flags"]] == [(), ("few_votes",)]


def test_the_posterior_is_that_of_the_outcome_within_its_interval():
    truth = {f"s{k}": NAMES[k % 7] for k in range(60)}
    votes = simulate_votes(truth, n_voters=30, votes_per_subject=6, rng=3)
    result = volunteer_consensus(votes, method="dawid-skene", subjects=[*truth, "never"])
    again = volunteer_consensus(votes, method="dawid-skene", subjects=[*truth, "never"])
    assert np.array_equal(result["posterior"], again["posterior"], equal_nan=True)
    for row in result[:-1]:
        assert row["posterior"] == row[f"p_{row['outcome']}"] == max(row[f"p_{name}"] for name in NAMES)
        assert 0 <= row["posterior_lo"] <= row["posterior"] <= row["posterior_hi"] <= 1
    assert np.isnan([result[name][-1] for name in ("posterior", "posterior_lo", "posterior_hi")]).all()
    assert "posterior" not in volunteer_consensus(votes).colnames


def model_crowd(rng, n_subjects, n_voters, n_votes, right):
    """Votes of voters whose confusion matrices are known, and the probabilities of the labels by Bayes' theorem."""
    n = CANDIDATE.n_classes
    shares = rng.dirichlet(np.full(n, 3.0))
    mean = np.full((n, n), (1 - right) / (n - 1)) + (right - (1 - right) / (n - 1)) * np.eye(n)
    confusion = np.stack([[rng.dirichlet(8 * row) for row in mean] for _ in range(n_voters)])
    truth = rng.choice(n, n_subjects, p=shares)
    logs, table = np.log(np.tile(shares, (n_subjects, 1))), {}
    for subject, label in enumerate(truth):
        for voter in rng.choice(n_voters, n_votes, replace=False):
            said = rng.choice(n, p=confusion[voter, label])
            logs[subject] += np.log(confusion[voter, :, said])
            table[f"s{subject}", f"v{voter}"] = CANDIDATE.classes[said]
    p = np.exp(logs - logs.max(axis=1, keepdims=True))
    return votes_of(table), np.array(CANDIDATE.classes)[truth], p / p.sum(axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize(("n_votes", "right"), [(5, 0.6), (30, 0.4)])
def test_intervals_cover_and_probabilities_are_calibrated(n_votes, right):
    """Coverage of 95 % within 3 points or so; the mean probability of the outcomes is the share that is right."""
    held, correct, posterior = [], [], []
    for seed in range(8):
        votes, truth, p = model_crowd(np.random.default_rng(seed), 300, 50, n_votes, right)
        result = volunteer_consensus(votes, method="dawid-skene", workflow="candidate")
        true = p[np.arange(len(p)), [CANDIDATE.index(outcome) for outcome in result["outcome"]]]
        # Stored draws are good to 1e-7.
        held.append((true > result["posterior_lo"] - 1e-6) & (true < result["posterior_hi"] + 1e-6))
        correct.append(np.array(result["outcome"]) == truth)
        posterior.append(result["posterior"])
    assert abs(np.mean(held) - 0.95) < 0.035
    assert abs(np.mean(posterior) - np.mean(correct)) < 0.02
