"""
How many votes a queue saves: ``docs/science/measured/votes_replay.csv`` and ``.png``.

Every vote exists beforehand, and is shown only when it is asked for. `astroclassify.people.voting_queue` asks, in
rounds of half the open subjects, one vote for each and one more for every four that it has, until every subject is
retired; beside it all subjects get the same number of votes, and the queue's rules of retirement alone, where each
round asks all open subjects. The votes are those of
`astroclassify.people.simulate_votes`, and with ``--bluebirds FOLDER`` real ones: 39 people on 108 pictures of two kinds
of birds (``labels.yaml`` and ``gt.yaml`` in ``demo/bluebirds`` of github.com/welinder/cubam; Welinder et al. 2010,
NIPS). Each run is another simulated crowd, or another order in which the real people come. Classifiers are simulated.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from astropy.table import QTable
from scipy.special import softmax
from scipy.stats import t as student
from sklearn.isotonic import IsotonicRegression

from astroclassify.people import load_workflow, simulate_votes, volunteer_consensus, voting_queue
from astroclassify.schemes import ClassScheme

OUT = Path(__file__).resolve().parents[1] / "docs" / "science" / "measured" / "votes_replay"
BIRDS = ClassScheme("bird", ("bunting", "grosbeak"), ("Indigo Bunting", "Blue Grosbeak"))
P_RETIRE, MIN_VOTES = 0.95, 3
# Queue -> share of the open subjects that a round asks, and the classifier.
QUEUES = {
    "retirement alone": (1.0, None),
    "queue": (0.5, None),
    "queue, classifier": (0.5, {}),
    "queue, classifier too sure": (0.5, {"too_sure": 3.0}),
}


def simulated_classifier(truth, names, rng, *, distance=2.0, too_sure=1.0):
    """
    Probabilities of a classifier, ``p_<name>``: Gaussian scores whose means lie ``distance`` apart, by Bayes' theorem.

    They are calibrated for equal shares; ``too_sure`` multiplies the logarithms.
    """
    said = np.array([names.index(outcome) for outcome in truth.values()])
    scores = rng.normal(size=(len(said), len(names))) + distance * np.eye(len(names))[said]
    table = QTable(softmax(too_sure * distance * scores, axis=1), names=[f"p_{name}" for name in names])
    table["source_id"] = list(truth)
    return table


def ballots_of(votes, rng=None):
    """Subject -> its ballots (rows of the votes) in order of time, or in any order."""
    ballots = {}
    for number, key in enumerate(zip(votes["source_id"].tolist(), votes["voter_id"].tolist(), strict=True)):
        ballots.setdefault(key[0], {}).setdefault(key[1], []).append(number)
    ordered = {source: list(each.values()) for source, each in ballots.items()}
    if rng is None:
        return ordered
    return {source: [each[number] for number in rng.permutation(len(each))] for source, each in ordered.items()}


def shown(votes, ballots, numbers):
    """The votes of the first ballots of each subject."""
    rows = [row for source, n in numbers.items() for ballot in ballots[source][:n] for row in ballot]
    return votes[sorted(rows)]


def accuracy(table, truth):
    """Share of the subjects whose outcome is right; open ones are wrong."""
    return np.mean([truth[source] == outcome for source, outcome in table["source_id", "outcome"].iterrows()])


def in_turn(votes, ballots, truth, workflow, steps):
    """Accuracy where every subject has the same number of votes."""
    found = []
    for n in steps:
        some = shown(votes, ballots, dict.fromkeys(ballots, n))
        found.append(accuracy(volunteer_consensus(some, method="dawid-skene", workflow=workflow), truth))
    return found


def replay(votes, ballots, truth, workflow, share, predictions):
    """Votes per subject and accuracy (n_rounds, 2), until every subject is retired or its votes are used up."""
    most = min(len(each) for each in ballots.values())
    given, history = dict.fromkeys(ballots, 0), []
    rules = {"p_retire": P_RETIRE, "min_votes": MIN_VOTES, "max_votes": most}
    while True:
        some = shown(votes, ballots, given)
        queue = voting_queue(some, subjects=list(truth), workflow=workflow, predictions=predictions, **rules)
        history.append((np.mean(list(given.values())), accuracy(queue, truth)))
        asked = [source for source in queue["source_id"][queue["status"] == "open"].tolist() if given[source] < most]
        if not asked:
            return np.array(history)
        for source in asked[: int(np.ceil(share * len(asked)))]:
            given[source] = min(most, given[source] + 1 + given[source] // 4)


def compare(crowd, n_runs, steps, workflow):
    """Accuracy with ``steps`` votes each (n_runs, n_steps), and for each queue its histories and classifiers."""
    flat, found = [], {label: [] for label in QUEUES}
    names = list(load_workflow(workflow).outcome_names)
    for run in range(n_runs):
        votes, ballots, truth, rng = crowd(run)
        flat.append(in_turn(votes, ballots, truth, workflow, steps))
        seed = rng.integers(1 << 30)
        for label, (share, settings) in QUEUES.items():
            predictions, alone = None, np.nan
            if settings is not None:
                predictions = simulated_classifier(truth, names, np.random.default_rng(seed), **settings)
                best = np.stack([predictions[f"p_{name}"] for name in names]).argmax(axis=0)
                alone = np.mean([names[number] == said for number, said in zip(best, truth.values(), strict=True)])
            history = replay(votes, ballots, truth, workflow, share, predictions)
            found[label].append((history, alone))
            print(run, label, len(history), history[-1].round(3), round(flat[-1][-1], 3), flush=True)
    return np.array(flat), found


def rows_of(name, flat, steps, found):
    """Mean and paired 95 % intervals over the runs."""
    rising = IsotonicRegression().fit(np.tile(steps, len(flat)), flat.ravel()).predict(steps)
    rising, first = np.unique(rising, return_index=True)
    rows = []
    for label, values in found.items():
        used, reached = np.array([history[-1] for history, _ in values]).T
        alone = np.mean([alone for _, alone in values])
        # Votes for each subject that reach the same accuracy on average; those of the best where none does.
        needed = np.interp(reached, rising, np.array(steps)[first])
        saved, gained = 1 - used / needed, reached - flat[:, -1]
        rows.append({"votes": name, "queue": label, "runs": len(used),
                     "classifier_alone": "" if np.isnan(alone) else f"{alone:.3f}",
                     "votes_each": f"{used.mean():.1f}", "accuracy": f"{reached.mean():.3f}",
                     "accuracy_all": f"{flat[:, -1].mean():.3f}", **interval("difference", gained),
                     "votes_same_accuracy": f"{needed.mean():.1f}", **interval("saved", saved),
                     **interval("saved_of_all", 1 - used / steps[-1])})  # fmt: skip
    return rows


def interval(name, values):
    """Mean and 95 % interval of paired differences."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {
        name: f"{values.mean():.3f}",
        f"{name}_lo": f"{values.mean() - half:.3f}",
        f"{name}_hi": f"{values.mean() + half:.3f}",
    }


def simulated(run, n_subjects):
    """A simulated crowd of 100 with 30 votes on each subject."""
    rng = np.random.default_rng([run, n_subjects])
    names = rng.choice(load_workflow("hunt").outcome_names, n_subjects, p=[0.05, 0.08, 0.22, 0.05, 0.1, 0.25, 0.25])
    truth = {f"s{number:05d}": str(name) for number, name in enumerate(names)}
    votes = simulate_votes(truth, n_voters=100, rng=run)
    return votes, ballots_of(votes), truth, rng


def bluebirds(run, folder):
    """The real votes on birds, in another order for each run."""
    import yaml

    labels, truth = (yaml.safe_load((folder / name).read_text()) for name in ("labels.yaml", "gt.yaml"))
    rows = [
        (str(picture), f"v{voter}", "class", BIRDS.classes[int(not said)], "")
        for voter, pictures in labels.items()
        for picture, said in pictures.items()
    ]
    votes = QTable(rows=rows, names=("source_id", "voter_id", "question", "answer", "time"))
    rng = np.random.default_rng(run)
    truth = {str(picture): BIRDS.classes[int(not true)] for picture, true in truth.items()}
    return votes, ballots_of(votes, rng), truth, rng


def draw(panels):
    """Accuracy over votes: {title: (steps, flat, found)}."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    for axes, (title, (steps, flat, found)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        axes.plot(steps, flat.mean(axis=0), color="black", label="the same number for each")
        for number, (label, runs) in enumerate(found.items()):
            for history, _ in runs:
                axes.plot(*history.T, color=f"C{number}", alpha=0.25, linewidth=0.8)
            axes.plot(*np.mean([history[-1] for history, _ in runs], axis=0), "o", color=f"C{number}", label=label)
        axes.set(title=title, xlabel="votes per subject", ylabel="share of right outcomes")
    figure.axes[0].legend(fontsize="small", loc="lower right")
    figure.savefig(OUT.with_suffix(".png"), dpi=110)


def main():
    """Replay, write the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--subjects", type=int, default=150, help="subjects of each simulated crowd")
    parser.add_argument("--bluebirds", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    sets = {
        "simulated crowd": (lambda run: simulated(run, arguments.subjects), (1, 2, 3, 5, 8, 12, 16, 20, 25, 30), "hunt")
    }
    if arguments.bluebirds:
        steps = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 35, 39)
        sets["bluebirds"] = (lambda run: bluebirds(run, arguments.bluebirds), steps, BIRDS)
    rows, panels = [], {}
    for title, (crowd, steps, workflow) in sets.items():
        flat, found = compare(crowd, arguments.runs, steps, workflow)
        rows += rows_of(title, flat, steps, found)
        panels[title] = steps, flat, found
    with open(OUT.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(*map(json.dumps, rows), sep="\n")
    draw(panels)


if __name__ == "__main__":
    main()
