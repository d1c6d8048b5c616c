"""
Whose labels to train with: the rows "expert labels" and "volunteer labels" of Kosiba et al. (2020), Table 5.

``python benchmarks/volunteer_labels.py SAMPLE OUT`` takes simulated candidates (made in SAMPLE if there are none),
lets a crowd of 1227 volunteers, two experts and three moderators (all simulated) label them, and trains the custom
network of the paper with each kind of label from several seeds. All are tested on the same candidates, 85
clusters and 85 others as in the paper, with their true labels; volunteers and experts are measured on them too. No
timing against a peer. Each training is a file in OUT: run again it goes on from where it was ended.
"""

import argparse
import contextlib
import json
import logging
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import vstack
from sklearn.base import clone

from astroclassify import batch, tables
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, paper_table, score_seeds
from astroclassify.people import (
    compare_labels,
    expert_decisions,
    load_workflow,
    simulate_votes,
    soft_labels,
    volunteer_consensus,
)
from astroclassify.schemes import CLUSTER
from astroclassify.sim import simulate_candidates, to_binary
from astroclassify.workflows._crowd import with_difficulty

# Row -> its name in the table; the first two have printed numbers.
ROWS = {
    "experts": "CN, expert labels",
    "volunteers": "CN, volunteer labels",
    "volunteers-soft": "CN, volunteer labels, soft",
    "dawid-skene": "CN, volunteer labels, Dawid & Skene",
    "dawid-skene-soft": "CN, volunteer labels, Dawid & Skene, soft",
    "truth": "CN, true labels",
}
TEST_IMAGES = 85
FRACTIONS = (0.40, 0.262, 0.1126, 0.1127, 0.1127)
N_MODERATORS = 3
# What differs from the printed settings, apart from pixels and epochs: as measured for the other rows of the table.
CHANGES = {
    "stretch": "log",
    "count_bands": ("xray",),
    "iterations": None,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "schedule": "one-cycle",
    "decay": 0.0,
    "momentum": None,
    "mean_epochs": 2,
}


def test_rows(labels):
    """Which candidates test: 85 clusters and 85 others, or a tenth of all; the same as ``astroclassify reproduce``."""
    chosen = np.zeros(len(labels), bool)
    rng = batch.derive_rng(0, "split")
    for label in CLUSTER.classes:
        members = np.flatnonzero(labels == label)
        chosen[rng.permutation(members)[: max(1, min(TEST_IMAGES, len(labels) // 20, len(members) // 2))]] = True
    return chosen


def volunteers(sample, seed):
    """Consensus of a crowd by the paper's rule and by Dawid & Skene."""
    votes = simulate_votes(sample, rng=batch.derive_rng(seed, "volunteers"))
    methods = {"volunteers": "weighted", "dawid-skene": "dawid-skene"}
    return {row: volunteer_consensus(votes, method=method, subjects=sample) for row, method in methods.items()}


def experts(sample, seed):
    """Decisions of two experts, and of moderators where they differ."""
    settings = {"hesitation": 0, "workflow": "candidate"}
    rng = batch.derive_rng(seed, "experts")
    votes = simulate_votes(sample, n_voters=2, votes_per_subject=2, rng=rng, **settings)
    votes["voter_id"] = [f"expert {name[-1]}" for name in votes["voter_id"]]
    first = expert_decisions(votes)
    differing = sample[np.isin(sample["source_id"], first["source_id"][first["status"] == "conflict"])]
    names = [f"moderator {number}" for number in range(N_MODERATORS)]
    if len(differing):
        more = simulate_votes(differing, n_voters=N_MODERATORS, votes_per_subject=N_MODERATORS, rng=rng, **settings)
        more["voter_id"] = [f"moderator {name[-1]}" for name in more["voter_id"]]
        votes = vstack([votes, more], metadata_conflicts="silent")
    return expert_decisions(votes, moderators=names, subjects=sample["source_id"].tolist())


def labels_of(binary, judges):
    """Row -> labels of all candidates (empty: none) or probabilities."""
    labels = {"truth": np.asarray(binary["label"], str)}
    for row, table in judges.items():
        workflow = load_workflow(table.meta["workflow"])
        known = dict(zip(workflow.outcome_names, workflow.classes(CLUSTER), strict=True))
        said = table["decision" if row == "experts" else "outcome"].tolist()
        labels[row] = np.array([known.get(name, "") for name in said])
        if row != "experts":
            labels[f"{row}-soft"] = soft_labels(table, CLUSTER)[0]
    return labels


def compare_people(judges, sets, folder):
    """Write and print what volunteers and experts are worth."""
    for name, part in sets.items():
        compared = compare_labels(part, judges)
        tables.write(compared, folder / f"people-{name}.ecsv", overwrite=True)
        clusters = int(np.sum(part["label"] == CLUSTER.classes[0]))
        print(f"\npeople against the truth, {name}: {clusters} clusters of {len(part)}")
        for column in ("accuracy", "precision", "recall", "fpr", "auc"):
            compared[column].info.format = ".3f"
        compared.pprint(max_lines=-1, max_width=-1)


def train(job, *, network, sample, labels, test, folder, seed):
    """Train once and write what it says of the test set, unless that is there; the name of the file."""
    row, number = job
    path = folder / f"{row}-{number:02d}.ecsv"
    if not path.is_file():
        state = int(batch.derive_rng(seed, "seed", number).integers(2**31))
        fitted = clone(network).set_params(random_state=state).fit(sample, labels[row])
        predictions = fitted.classify(test)
        predictions["seed"] = np.full(len(predictions), number)
        predictions.meta["n_trained"] = int(fitted.training_["n_images"])
        tables.write(predictions, path)
    return path


def summarise(folder, n_seeds, rows):
    """The rows that are done, with the printed ones beside, as a table."""
    ours = {}
    for row in rows:
        paths = [folder / f"{row}-{number:02d}.ecsv" for number in range(n_seeds)]
        parts = [tables.read(path) for path in paths if path.is_file()]
        if parts:
            predictions = vstack(parts, metadata_conflicts="silent")
            ours[ROWS[row]] = score_seeds(predictions, scheme=CLUSTER)
    result = paper_table("kosiba2020-table5", ours, as_text=True)
    return result[[name in ROWS.values() for name in result["method"]]]


def check_settings(folder, settings):
    """Refuse to mix trainings of other settings into a folder."""
    path = folder / "settings.json"
    text = json.dumps(settings, indent=1, sort_keys=True)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        sys.exit(f"{path} has other settings than now: choose another folder")
    path.write_text(text, encoding="utf-8")


def arguments_of():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", type=Path, help="sample folder of simulated candidates; made if there is none")
    parser.add_argument("out", type=Path, help="folder for predictions and tables")
    parser.add_argument("--candidates", type=int, default=1707, help="how many to make")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which labels to train with")
    parser.add_argument("--seeds", type=int, default=10, help="trainings with each")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=89, help="side of the network's grid")
    parser.add_argument("--n-filters", type=int, default=64, help="filters of the first stage, 64 in the paper")
    parser.add_argument("--seed", type=int, default=1, help="of people and of trainings")
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


def network_of(arguments):
    """The paper's custom network, untrained."""
    geometry = Geometry(7 * u.arcmin, (arguments.pixels, arguments.pixels))
    how = {"geometry": geometry, "epochs": arguments.epochs, "n_filters": arguments.n_filters}
    return CutoutClassifier.from_recipe("kosiba2020-cn", **how, **CHANGES)


def run(arguments, executor):
    """Simulate, label, train."""
    if not (arguments.sample / "sample.ecsv").is_file():
        shape = (2 * arguments.pixels, 2 * arguments.pixels)
        how = {"fractions": FRACTIONS, "shape": shape, "rng": 2020, "executor": executor}
        simulate_candidates(arguments.candidates, out=arguments.sample, **how)
    sample = with_difficulty(tables.read_sample(arguments.sample))
    settings = {name: getattr(arguments, name) for name in ("epochs", "pixels", "n_filters", "seed")}
    check_settings(arguments.out, {**settings, "candidates": len(sample), "sample": str(arguments.sample)})
    binary = to_binary(sample)
    judges = {"experts": experts(sample, arguments.seed), **volunteers(sample, arguments.seed)}
    labels = labels_of(binary, judges)
    chosen = test_rows(labels["truth"])
    sets = {"train": binary[~chosen], "test": binary[chosen]}
    compare_people(judges, sets, arguments.out)
    labels = {row: each[~chosen] for row, each in labels.items()}
    how = {"network": network_of(arguments), "labels": labels, "folder": arguments.out, "seed": arguments.seed}
    function = partial(train, sample=sets["train"], test=sets["test"], **how)
    # Seed by seed, so that a run that is ended has some of each row.
    jobs = [(row, number) for number in range(arguments.seeds) for row in arguments.rows]
    keys = [f"{row}, seed {number}" for row, number in jobs]
    for outcome in batch.run(function, jobs, keys=keys, executor=executor, description="trainings"):
        if outcome.error is not None:
            print(f"{outcome.key}: {outcome.error}", file=sys.stderr)


def main():
    """Train what is missing, then sum up."""
    arguments = arguments_of()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(arguments.workers, spawn) if arguments.workers > 1 else contextlib.nullcontext()
    with pool as executor:
        run(arguments, executor)
    table = summarise(arguments.out, arguments.seeds, arguments.rows)
    table.write(arguments.out / "table5.csv", format="ascii.csv", overwrite=True)
    print()
    table.pprint(max_lines=-1, max_width=-1)


if __name__ == "__main__":
    main()
