"""
Posteriors of Dawid & Skene by crowd-kit for a small set of votes: what the tests compare with.

Run in an environment of its own with ``crowd-kit`` (1.4.2 was used): ``python tools/crowdkit_posteriors.py`` writes
``tests/people/dawid_skene_crowdkit.json``. ``--kswap FOLDER`` prints instead how often it is right on the votes of
kSWAP's demonstration, whose truth is known (``kswap-demo-*.csv``), with the volunteers of ``benchmarks/real_votes.py``,
which has ours: each time that a subject is shown counts as another one.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from crowdkit.aggregation import DawidSkene, MajorityVote

TARGET = Path(__file__).resolve().parents[1] / "tests" / "people" / "dawid_skene_crowdkit.json"
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


def kswap(folder):
    """Print the share of right labels by crowd-kit on the demonstration of kSWAP."""
    rows = pd.read_csv(folder / "kswap-demo-classifications.csv")
    truth = pd.read_csv(folder / "kswap-demo-gold-labels.csv").set_index("subject_id")["gold"]
    times = rows.groupby("subject_ids").cumcount().astype(str)
    labels = [int(json.loads(text)[0]["value"]) for text in rows["annotations"]]
    frame = pd.DataFrame(
        {"task": rows["subject_ids"], "worker": rows["user_id"].astype(str) + "-" + times, "label": labels}
    )
    for method in (MajorityVote(), DawidSkene(n_iter=1000, tol=1e-8)):
        found = method.fit_predict(frame).reindex(truth.index)
        print(f"crowd-kit {version('crowd-kit')}, {type(method).__name__}: {np.mean(found == truth):.2f}")


def main():
    """Write votes, known labels and posteriors with and without them, or what ``--kswap`` asks for."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--kswap", type=Path, metavar="FOLDER")
    folder = parser.parse_args().kswap
    if folder is not None:
        return kswap(folder)
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
    return None


if __name__ == "__main__":
    main()
