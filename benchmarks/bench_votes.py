"""
Time and memory of a million classifications: reading the export, and the consensus by every method.

Seconds are those of the clock and, in brackets, of the processor, which other programs on the machine lengthen less.

A simulated crowd answers the six questions; its classifications are written as Zooniverse exports them (with session
metadata, about 1 kB a line, and a few broken lines). Every contender runs in a process of its own on the same file. The
peer is what one writes by hand: a pandas script that reads the columns it needs, parses the JSON and takes the plain
majority of the last answers, nothing else. Pandas may live in another environment: ``--pandas PYTHON``; without one the
peer is left out.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BROKEN = 1000  # every so many lines one is cut
HEADER = (
    "classification_id,user_name,user_id,user_ip,workflow_id,workflow_name,workflow_version,created_at,gold_standard,"
    "expert,metadata,annotations,subject_data,subject_ids"
).split(",")


def write_export(path, n):
    """An export of about ``n`` classifications of 30 votes per subject."""
    from astroclassify.people import load_workflow, simulate_votes

    workflow = load_workflow("hunt")
    shares = [0.05, 0.08, 0.22, 0.05, 0.1, 0.25, 0.25]
    outcomes = np.random.default_rng(0).choice(workflow.outcome_names, -(-n // 30), p=shares)
    truth = {f"candidate-{number:06d}": str(outcome) for number, outcome in enumerate(outcomes)}
    votes = simulate_votes(truth, hesitation=0.8, rng=1)
    text = {
        (question.name, answer.name): {"task": question.task, "task_label": question.text, "value": answer.text}
        for question in workflow.questions
        for answer in question.answers
    }
    numbers = {name: 40_000_000 + number for number, name in enumerate(truth)}
    metadata = {
        "source": "api", "session": "5f7f" * 16, "viewport": {"width": 1081, "height": 1049},
        "started_at": "2019-06-12T15:04:41.381Z", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:58.0) Firefox/58.0",
        "utc_offset": "0", "finished_at": "2019-06-12T15:05:22.480Z", "live_project": True, "user_language": "en",
        "subject_dimensions": [{"clientWidth": 700, "clientHeight": 700, "naturalWidth": 712, "naturalHeight": 9}] * 4,
    }  # fmt: skip
    metadata = json.dumps(metadata)
    columns = [votes[name].tolist() for name in ("source_id", "voter_id", "question", "answer")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        last, tasks, number = None, [], 0

        def flush():
            nonlocal number
            source, voter = last
            subject, serial = numbers[source], voter[-4:]
            who = (voter, serial, f"{serial}ab" * 3)
            if int(serial) % 4 == 0:
                who = (f"not-logged-in-{serial * 5}", "", serial * 5)
            data = {str(subject): {"retired": None, "#source_id": source, "image_1": f"{source}_xray.png"}}
            when = f"2019-06-{1 + number % 28:02d} {number % 24:02d}:{number % 60:02d}:{number % 59:02d} UTC"
            row = [
                number,
                *who,
                8905,
                "Hunt",
                "16.53",
                when,
                "",
                "",
                metadata,
                json.dumps(tasks),
                json.dumps(data),
                subject,
            ]
            if number % BROKEN == BROKEN - 1:
                row[11] = row[11][:-9]
            writer.writerow(row)
            number += 1

        for source, voter, question, answer in zip(*columns, strict=True):
            if (source, voter) != last and last is not None:
                flush()
                tasks = []
            last = source, voter
            tasks.append(text[question, answer])
        flush()
    return {"classifications": number, "bytes": path.stat().st_size}


def stopwatch():
    """A dict of what a function of a name adds to it: seconds of clock and processor since the last call."""
    seconds, last = {}, np.array([time.perf_counter(), time.process_time()])

    def lap(name):
        nonlocal last
        now = np.array([time.perf_counter(), time.process_time()])
        seconds[name], last = (now - last).tolist(), now

    return seconds, lap


def ours(path):
    """Read, then each consensus; seconds of each."""
    from astroclassify.people import read_votes, volunteer_consensus, volunteer_skill

    seconds, lap = stopwatch()

    votes, report = read_votes(path)
    lap("read")
    for method in ("majority", "weighted", "iterated", "dawid-skene"):
        table = volunteer_consensus(votes, method=method)
        lap(method)
    volunteer_skill(votes)
    lap("skill")
    found = {"votes": len(votes), "faults": len(report), "subjects": len(table)}
    return seconds, found


def by_hand(path):
    """Plain majority of the last answer of each classification with pandas."""
    import pandas

    seconds, lap = stopwatch()
    table = pandas.read_csv(path, usecols=["user_name", "annotations", "subject_ids"])

    def last(text):
        try:
            task = json.loads(text)[-1]
            return task["task"] + task["value"]
        except ValueError:
            return None

    table["answer"] = table["annotations"].map(last)
    table = table.dropna(subset=["answer"]).drop_duplicates(["user_name", "subject_ids"])
    lap("read")
    majority = table.groupby("subject_ids")["answer"].agg(lambda answers: answers.value_counts().index[0])
    lap("majority")
    return seconds, {"subjects": len(majority), "pandas": pandas.__version__}


def child(name, path):
    """Run one contender and print what it took."""
    seconds, found = {"ours": ours, "pandas": by_hand}[name](Path(path))
    # Linux; not ru_maxrss, which starts from what the parent had
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    memory = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "found": found, "mb": memory}))


def run(python, name, path):
    """The same in a process of its own, or None where it cannot run."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])} if name == "ours" else None
    command = [python, __file__, "--child", name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def main():
    """Write the export, run both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--classifications", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--pandas", default=sys.executable, metavar="PYTHON", help="interpreter that has pandas")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.csv"
        written = write_export(path, arguments.classifications)
        print(f"{written['classifications']} classifications, {written['bytes'] / 1e6:.0f} MB")
        for name, python in (("ours", sys.executable), ("pandas", arguments.pandas)):
            result = run(python, name, path)
            if result:
                clock, cpu = np.sum(list(result["seconds"].values()), axis=0)
                print(f"{name}: {clock:.1f} ({cpu:.1f}) s, {result['mb']:.0f} MB, {result['found']}")
                for stage, (clock, cpu) in result["seconds"].items():
                    print(f"    {stage:12s} {clock:7.2f} ({cpu:.2f}) s")
    return None


if __name__ == "__main__":
    main()
