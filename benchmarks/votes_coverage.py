"""
What intervals of votes are worth: ``docs/science/measured/votes_coverage.csv``.

Crowds that err as the model of Dawid & Skene says, each voter differently. Their true confusion matrices give each
subject's true probabilities by Bayes' theorem; counted is how often the 95 % interval of the posterior of
`astroclassify.people.volunteer_consensus` holds the true one, and how often its outcome is right. The interval of the
vote fraction is counted on `astroclassify.people.simulate_votes`: 600 vote on each subject, and of some of them the
share of all is to be known. ``python benchmarks/votes_coverage.py``, some minutes.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from astropy.table import QTable
from scipy.special import softmax

from astroclassify.people import load_workflow, simulate_votes, volunteer_consensus
from astroclassify.schemes import CANDIDATE

OUT = Path(__file__).resolve().parents[1] / "docs" / "science" / "measured" / "votes_coverage.csv"
COLUMNS = ("source_id", "voter_id", "question", "answer", "time")
# Votes on each subject, how often voters are right on average, number of voters.
CROWDS = ((5, 0.7, 100), (5, 0.5, 40), (30, 0.45, 100), (30, 0.45, 40))


def table_of(subject, voter, answers, question="class"):
    """A VOTES table of numbers of subjects and voters and names of answers."""
    names = [np.char.add(letter, np.char.zfill(each.astype(str), 5)) for letter, each in (("s", subject), ("v", voter))]
    return QTable(
        [*names, np.full(len(subject), question), np.asarray(answers), np.full(len(subject), "")], names=COLUMNS
    )


def model_crowd(rng, n_subjects, n_voters, n_votes, right):
    """Votes of voters whose confusion matrices are drawn, the truth (n,), and the true probabilities (n, n_labels)."""
    n = CANDIDATE.n_classes
    shares, strength = rng.dirichlet(np.full(n, 3.0)), np.exp(rng.uniform(np.log(2), np.log(30)))
    mean = np.stack([np.insert(rng.dirichlet(np.full(n - 1, 2.0)) * (1 - right), k, right) for k in range(n)])
    confusion = np.stack([[rng.dirichlet(np.maximum(strength * row, 1e-3)) for row in mean] for _ in range(n_voters)])
    truth = rng.choice(n, n_subjects, p=shares)
    # A few give most of the votes.
    ranks = rng.normal(0, 1.5, n_voters) + rng.gumbel(size=(n_subjects, n_voters))
    voter = np.argsort(-ranks, axis=1)[:, :n_votes].ravel()
    subject = np.repeat(np.arange(n_subjects), n_votes)
    below = confusion[voter, truth[subject]].cumsum(axis=1)[:, :-1]
    label = (rng.random(len(subject))[:, None] > below).sum(axis=1)
    logs = np.tile(np.log(shares), (n_subjects, 1))
    np.add.at(logs, subject, np.log(np.maximum(confusion[voter, :, label], 1e-300)))
    return table_of(subject, voter, np.array(CANDIDATE.classes)[label]), truth, softmax(logs, axis=1)


def coverage(n_crowds, n_subjects):
    """How often intervals hold what they are for."""
    rows = []
    for n_votes, right, n_voters in CROWDS:
        found = []
        for seed in range(n_crowds):
            rng = np.random.default_rng([seed, n_votes, n_voters])
            votes, truth, p = model_crowd(rng, n_subjects, n_voters, n_votes, right)
            result = volunteer_consensus(votes, method="dawid-skene", workflow="candidate")
            said = np.array([CANDIDATE.index(outcome) for outcome in result["outcome"]])
            p = p[np.arange(n_subjects), said]
            posterior = np.array(result["posterior"])
            # Probabilities near 1 are stored with 1e-7.
            held = (p > result["posterior_lo"] - 1e-6) & (p < result["posterior_hi"] + 1e-6)
            found.append((held, (posterior > 0.001) & (posterior < 0.999), said == truth, posterior, p))
        held, doubtful, correct, posterior, p = (np.stack(each) for each in zip(*found, strict=True))
        scatter = held.mean(axis=1).std(ddof=1) / np.sqrt(n_crowds)
        rows.append(
            {"interval": "posterior (dawid-skene)", "votes": n_votes, "right": right, "voters": n_voters,
             "crowds": n_crowds,
             "coverage": f"{held.mean():.3f}", "error": f"{scatter:.3f}",
             "doubtful": f"{doubtful.mean():.2f}", "coverage_doubtful": f"{held[doubtful].mean():.3f}",
             "mean_p": f"{posterior.mean():.3f}", "mean_true_p": f"{p.mean():.3f}", "accuracy": f"{correct.mean():.3f}"}
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def share_coverage(n_votes, n_crowds, n_subjects):
    """How often the interval of the vote fraction of few holds the share of a crowd of 600."""
    workflow, held = load_workflow("hunt"), []
    ends = {(each.name, answer.name): answer.outcome for each in workflow.questions for answer in each.answers}
    for seed in range(n_crowds):
        rng = np.random.default_rng([seed, n_votes])
        votes = simulate_votes(random_truth(rng, n_subjects), n_voters=620, votes_per_subject=600, rng=seed)
        outcome = np.array(
            [ends[row] for row in zip(votes["question"].tolist(), votes["answer"].tolist(), strict=True)]
        )
        source, voter = np.array(votes["source_id"]), np.array(votes["voter_id"])
        chosen = np.zeros(len(votes), bool)
        for name in np.unique(source):
            here = np.flatnonzero(source == name)
            chosen[here] = np.isin(voter[here], rng.choice(np.unique(voter[here]), n_votes, replace=False))
        result = volunteer_consensus(votes[chosen], method="majority")
        for row in result[result["outcome"] != ""]:
            share = np.sum((source == row["source_id"]) & (outcome == row["outcome"])) / 600
            held.append(row["vote_fraction_lo"] <= share <= row["vote_fraction_hi"])
    return {
        "interval": "vote_fraction (majority)",
        "votes": n_votes,
        "crowds": n_crowds,
        "coverage": f"{np.mean(held):.3f}",
    }


def random_truth(rng, n_subjects):
    """Subject -> outcome of the six questions, in shares like those of the candidates of a survey."""
    names = rng.choice(load_workflow("hunt").outcome_names, n_subjects, p=[0.05, 0.08, 0.22, 0.05, 0.1, 0.25, 0.25])
    return {f"s{number:05d}": str(name) for number, name in enumerate(names)}


def main():
    """Count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--crowds", type=int, default=20, help="crowds of each kind")
    parser.add_argument("--subjects", type=int, default=400, help="subjects of each crowd")
    arguments = parser.parse_args()
    rows = coverage(arguments.crowds, arguments.subjects)
    rows += [share_coverage(n_votes, arguments.crowds, arguments.subjects // 4) for n_votes in (5, 30)]
    with open(OUT, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
