"""From votes to a classifier, for the tutorial page. Run it in an empty folder: it writes figures and texts there."""

import csv
import io
import json
import time
from pathlib import Path

import numpy as np
import torch
from astropy import units as u
from astropy.table import QTable, vstack
from PIL import Image
from sklearn.base import clone

from astroclassify import tables
from astroclassify.images import Cutout, Geometry
from astroclassify.nn import CutoutClassifier, score, split_sample
from astroclassify.plots import plot_judge_roc, plot_skill, plot_who_was_right
from astroclassify.survey import (
    compare_labels,
    expert_agreement,
    expert_decisions,
    export_subjects,
    fit_extent,
    fleiss_kappa,
    judge_roc,
    load_workflow,
    read_field,
    read_votes,
    simulate_candidates,
    simulate_votes,
    soft_labels,
    to_binary,
    volunteer_consensus,
    volunteer_skill,
    who_was_right,
)


def save(picture, name):
    """Write a figure or a picture with few colours, which makes a small file."""
    if not isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png", dpi=100)
        picture = Image.open(buffer)
    picture.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(name, optimize=True)


def write(name, lines):
    """Write a text that the page shows."""
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


# --- Subjects -------------------------------------------------------------------------------------------------------
sample = simulate_candidates(420, rng=5, shape=(89, 89), out="candidates", progress=False)
sample = tables.read_sample("candidates")
subjects = export_subjects(sample[:5], "subjects", progress=False)
# --- end

pictures = [Image.open(f"subjects/{subjects[f'image_{number}'][0]}").resize((250, 250)) for number in range(1, 5)]
strip = Image.new("RGB", (4 * 250 + 3 * 8, 250), "white")
for number, picture in enumerate(pictures):
    strip.paste(picture, (258 * number, 0))
save(strip, "votes_subject.png")

# --- Make votes -----------------------------------------------------------------------------------------------------
# Stand-ins for your files. A crowd that hesitates to say cluster; its classifications as Zooniverse exports them, with
# volunteers who have no account, rows of an earlier version of the workflow, repeated ones, and some that are broken.
hunt = load_workflow("hunt")
crowd = simulate_votes(sample, n_voters=200, votes_per_subject=20, hesitation=1.8, rng=11)
outcomes = crowd.meta["truth"]  # what is true, for the comparisons at the end
texts = {
    (question.name, answer.name): {"task": question.task, "value": answer.text}
    for question in hunt.questions
    for answer in question.answers
}
ballots = {}
for source, voter, question, answer, when in crowd.iterrows():
    ballots.setdefault((source, voter), (when, []))[1].append(texts[question, answer])
header = ("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_version", "created_at")
header += ("metadata", "annotations", "subject_data", "subject_ids")
with open("classifications.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(header)
    for number, ((source, voter), (when, tasks)) in enumerate(ballots.items()):
        serial = int(voter[-4:])
        who = (f"not-logged-in-{serial:08x}", "", f"{serial:08x}") if serial % 5 == 0 else (voter, serial, "")
        text = json.dumps(tasks)
        subject = 90_000_000 + int(source[-6:])
        data = json.dumps({str(subject): {"retired": None, "#source_id": source}})
        row = [number, *who, 8905, "16.53", when.replace("T", " ") + " UTC", "{}", text, data, subject]
        writer.writerow(row)
        if number % 400 == 7:  # sent twice
            writer.writerow([number + 1_000_000, *row[1:]])
        if number % 1000 == 30:  # cut off
            writer.writerow([number + 2_000_000, *row[1:8], text[:-9], *row[9:]])
        if number < 150:  # while the project was tried out
            writer.writerow([number + 3_000_000, *row[1:5], "7.2", *row[6:]])

# Two experts who name the class of each candidate, and three moderators who look at those where the two differ.
experts = simulate_votes(
    sample, n_voters=2, votes_per_subject=2, hesitation=0, workflow="candidate", rng=12
)
experts["voter_id"] = np.array(["ann", "bob"])[(experts["voter_id"] == "volunteer-0001").astype(int)]
differing = expert_decisions(experts)
differing = differing[differing["status"] == "conflict"]["source_id"]
moderators = simulate_votes(
    sample[np.isin(sample["source_id"], differing)], n_voters=3, votes_per_subject=3, hesitation=0,
    workflow="candidate", rng=14,
)  # fmt: skip
moderators["voter_id"] = [f"moderator {name[-1]}" for name in moderators["voter_id"]]
tables.write(vstack([experts, moderators], metadata_conflicts="silent"), "experts.ecsv")

# --- Read -----------------------------------------------------------------------------------------------------------
votes, report = read_votes("classifications.csv", versions=["16"])
tables.write(report, "report.ecsv")
# --- end

