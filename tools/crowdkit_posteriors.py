"""
Posteriors of Dawid & Skene by crowd-kit for a small set of votes: what the tests compare with.

Run in an environment of its own with ``crowd-kit`` (1.4.2 was used): ``python tools/crowdkit_posteriors.py`` writes
``tests/survey/dawid_skene_crowdkit.json``.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene

TARGET = Path(__file__).resolve().parents[1] / "tests" / "survey" / "dawid_skene_crowdkit.json"
N_SUBJECTS, N_VOTERS, N_LABELS = 40, 9, 3
STEPS = (1, 5, 1000)


def votes():
    """Votes of nine voters, from good to guessing, each on most of forty subjects of three kinds."""
    rng = np.random.default_rng(7)
    truth = rng.choice(N_LABELS, N_SUBJECTS, p=[0.5, 0.3, 0.2])
    rows = []
    for voter, right in enumerate(np.linspace(0.9, 0.35, N_VOTERS)):
        for subject in np.flatnonzero(rng.random(N_SUBJECTS) < 0.8):
            wrong = int(rng.integers(1, N_LABELS))
            said = truth[subject] if rng.random() < right else (truth[subject] + wrong) % N_LABELS
            rows.append([int(subject), voter, int(said)])
    return rows, {subject: int(truth[subject]) for subject in range(0, N_SUBJECTS, 8)}


def main():
    """Write votes, known labels and posteriors with and without them."""
    rows, gold = votes()
    frame = pd.DataFrame(rows, columns=["task", "worker", "label"])
    result = {"made_by": f"crowd-kit {version('crowd-kit')}", "votes": rows, "gold": gold, "posteriors": {}}
    for name, known in (("free", None), ("gold", pd.Series(gold))):
        for steps in STEPS:
            # a negative tolerance never ends the loop early
            fitted = DawidSkene(n_iter=steps, tol=-1.0).fit(frame, true_labels=known)
            table = fitted.probas_.sort_index()[list(range(N_LABELS))]
            result["posteriors"][f"{name} {steps}"] = np.round(table.to_numpy(), 12).tolist()
    TARGET.write_text(json.dumps(result).replace("], [", "],\n[") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
