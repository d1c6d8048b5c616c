"""
What becomes of every row of real Zooniverse exports, and the agreement of the consensus with known labels.

For each export in the folder: the rows read, the classifications that answer a question, the votes and those that
count, and what is reported by reason (``votes_exports.csv``). The workflow is made from the export itself where that
shows two answers. kSWAP's demonstration has the truth of its 100 subjects, each shown ten times to one of five
volunteers; here each time counts as another volunteer (``votes_gold.csv``).
"""

import argparse
import csv
import logging
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.table import QTable

from astroclassify.people import Workflow, read_votes, volunteer_consensus, workflow_from_export

# The one question of the Andromeda project, of which no export shows a "No".
MARKED = {
    "name": "marked",
    "questions": [{"name": "marked", "text": "Anything objects that need to be marked?", "task": "T1", "answers": [
        {"name": "yes", "text": "Yes", "outcome": "objects"}, {"name": "no", "text": "No", "outcome": "nothing"}]}],
    "outcomes": [{"name": "objects", "text": "objects"}, {"name": "nothing", "text": "nothing"}],
}  # fmt: skip
# Name in the table, file, and the tasks that are questions or the workflow.
EXPORTS = (
    ("Camera traps in Michigan: animals", "michigan-anon.csv.gz", ["T3"]),
    ("Camera traps in Michigan: weather", "michigan-anon.csv.gz", ["T2"]),
    ("Camera traps in Angola", "camcat-anon.csv.gz", None),
    ("Clusters in Andromeda", "andromeda-anon.csv.gz", MARKED),
    ("Galaxy Zoo", "gz_panoptes_minimal.csv", None),
    ("kSWAP, demonstration", "kswap-demo-classifications.csv", None),
)
METHODS = ("majority", "weighted", "iterated", "dawid-skene")


def rows_of_exports(folder):
    """One row per export: its name, rows, classifications, votes, those that count, and problems."""
    for name, file, asked in EXPORTS:
        is_given = isinstance(asked, dict)
        workflow = Workflow.from_dict(asked) if is_given else workflow_from_export(folder / file, tasks=asked)
        votes, report = read_votes(folder / file, workflow=workflow)
        read = votes.meta["read"]
        problems = Counter(report["problem"].tolist())
        told = ", ".join(f"``{problem}`` {number}" for problem, number in sorted(problems.items()))
        n_counted = len(votes) - np.count_nonzero(report["row"] >= 0)
        yield name, len(workflow.questions), read["rows"], read["classifications"], len(votes), n_counted, told


def rows_of_methods(folder):
    """One row per method: the share of the subjects with their true outcome, and those without an outcome."""
    path = folder / "kswap-demo-classifications.csv"
    workflow = workflow_from_export(path)
    votes, _ = read_votes(path, workflow=workflow)
    times, names = Counter(), []
    for source, voter in votes["source_id", "voter_id"].iterrows():
        times[source] += 1
        names.append(f"{voter}-{times[source]}")
    votes["voter_id"] = names
    gold = QTable.read(folder / "kswap-demo-gold-labels.csv", format="ascii.csv")
    outcome = {answer.text: answer.outcome for answer in workflow.questions[0].answers}
    truth = {str(subject): outcome[str(label)] for subject, label in gold.iterrows()}
    for method in METHODS:
        found = volunteer_consensus(votes, workflow=workflow, method=method)
        right = [truth[source] == label for source, label in found["source_id", "outcome"].iterrows()]
        yield method, len(found), f"{np.mean(right):.2f}", int((found["outcome"] == "").sum())


def main():
    """Write both tables."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the exports")
    parser.add_argument("out", type=Path, help="folder of the tables, docs/science/measured")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # the table says it
    exports = ("Export", "Questions", "Rows", "Classifications", "Votes", "Counted", "Reported")
    tables = {
        "votes_exports.csv": (exports, rows_of_exports),
        "votes_gold.csv": (("Method", "Subjects", "Right", "Open"), rows_of_methods),
    }
    for name, (header, rows) in tables.items():
        with open(arguments.out / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows(arguments.folder)])


if __name__ == "__main__":
    main()
