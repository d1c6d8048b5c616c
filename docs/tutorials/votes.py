"""From votes to a classifier, for the tutorial page. Run it in an empty folder: it writes figures and texts there."""

import csv
import io
import json
import time
from pathlib import Path

import numpy as np
import torch
from astropy import units as u
from astropy.table import vstack
from PIL import Image
from sklearn.base import clone

from astroclassify import tables
from astroclassify.images import Cutout, Geometry
from astroclassify.nn import CutoutClassifier, score, split_sample
from astroclassify.people import (
    compare_labels,
    expert_agreement,
    expert_decisions,
    export_subjects,
    fleiss_kappa,
    judge_roc,
    load_workflow,
    read_votes,
    simulate_votes,
    soft_labels,
    volunteer_consensus,
    volunteer_skill,
    who_was_right,
)
from astroclassify.plots import plot_judge_roc, plot_skill, plot_who_was_right
from astroclassify.sim import simulate_candidates, to_binary
from astroclassify.survey import fit_extent, read_field


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
simulate_candidates(360, rng=5, shape=(89, 89), out="candidates", progress=False)
sample = tables.read_sample("candidates")
subjects = export_subjects(sample[:5], "subjects", progress=False)
# --- end

pictures = [Image.open(f"subjects/{subjects[f'image_{number}'][0]}").convert("RGB") for number in range(1, 5)]
strip = Image.new("RGB", (4 * 250 + 3 * 8, 250), "white")
for number, picture in enumerate(pictures):
    strip.paste(picture.resize((250, 250), Image.Resampling.LANCZOS), (258 * number, 0))
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
experts = simulate_votes(sample, n_voters=2, votes_per_subject=2, hesitation=0, workflow="candidate", rng=12)
experts["voter_id"] = np.array(["ann", "bob"])[(experts["voter_id"] == "volunteer-0001").astype(int)]
differing = expert_decisions(experts)
differing = differing[differing["status"] == "conflict"]["source_id"]
few = sample[np.isin(sample["source_id"], differing)]
moderators = simulate_votes(few, n_voters=3, votes_per_subject=3, hesitation=0, workflow="candidate", rng=14)
moderators["voter_id"] = [f"moderator {name[-1]}" for name in moderators["voter_id"]]
tables.write(vstack([experts, moderators], metadata_conflicts="silent"), "experts.ecsv")

# --- Read -----------------------------------------------------------------------------------------------------------
votes, report = read_votes("classifications.csv", versions=["16"])
tables.write(report, "report.ecsv")
# --- end

counts = votes.meta["read"]
lines = [f"{counts['rows']} lines, {counts['classifications']} classifications that count, {counts['votes']} answers"]
lines += [f"lines of version {name}: {number}" for name, number in counts["versions"].items()]
lines += ["", "problem          faults   the first of them"]
for problem, number in counts["problems"].items():
    first = report[report["problem"] == problem][0]
    place = f"line {first['line']}" if first["line"] else f"answer {first['row']}"
    lines.append(f"{problem:15s} {number:7d}   {place}: {first['voter_id'] or '?'}, {first['text'][:45]}")
write("votes_read.txt", lines)

# --- Agreement ------------------------------------------------------------------------------------------------------
agreement = fleiss_kappa(votes)
# --- end

lines = ["question      kappa  agreement  by chance"]
lines += [
    "{:10s} {:8.2f} {:10.2f} {:10.2f}".format(*row)
    for row in agreement.iterrows("question", "kappa", "agreement", "chance")
]
write("votes_agreement.txt", lines)

# --- Sets -----------------------------------------------------------------------------------------------------------
labelled = to_binary(sample)  # cluster or other: what is true
train, test = split_sample(labelled, test_fraction=1 / 3, rng=1)
known = np.random.default_rng(3).choice(train["source_id"], 40, replace=False)
gold = {str(name): outcomes[name] for name in known}  # subjects whose outcome you know
# --- end

# --- Consensus ------------------------------------------------------------------------------------------------------
consensus = {
    "majority": volunteer_consensus(votes, method="majority", subjects=sample),
    "weighted": volunteer_consensus(votes, method="weighted", subjects=sample),
    "Dawid & Skene": volunteer_consensus(votes, method="dawid-skene", subjects=sample),
    "with 40 known": volunteer_consensus(votes, method="dawid-skene", gold=gold, subjects=sample),
}
# --- end

truth = labelled[~np.isin(labelled["source_id"], known)]
table = compare_labels(truth, consensus)
lines = ["method          same outcome   open     n   TP   TN   FP   FN  accuracy  precision  recall   AUC"]
for name, row in zip(consensus, table, strict=True):
    outcome = dict(consensus[name].iterrows("source_id", "outcome"))
    same = np.mean([outcome[source] == outcomes[source] for source in truth["source_id"]])
    numbers = "".join(f"{row[key]:5d}" for key in ("tp", "tn", "fp", "fn"))
    scores = f"{row['accuracy']:10.2f}{row['precision']:11.2f}{row['recall']:8.2f}{row['auc']:6.3f}"
    lines.append(f"{name:15s} {same:12.2f} {row['n_open']:6d} {row['n']:5d}{numbers}{scores}")
write("votes_consensus.txt", lines)

# --- Skill ----------------------------------------------------------------------------------------------------------
skill = volunteer_skill(votes, method="dawid-skene", gold=gold)
save(plot_skill(skill), "votes_skill.png")
# --- end

busy = skill[skill["n_subjects"] >= 30]
order = np.argsort(busy["skill"])
lines = ["volunteer       subjects  G emission  G members  agreement  right on known  skill"]
for row in busy[[*order[::-1][:3], *order[::-1][-3:]]]:
    known_part = f"{row['gold_right']:.2f} of {row['n_gold']:2d}" if row["n_gold"] else "-"
    lines.append(
        f"{row['voter_id']:15s} {row['n_subjects']:8d} {row['g_emission']:11.2f} {row['g_members']:10.2f} "
        f"{row['agreement']:10.2f} {known_part:>15s} {row['skill']:6.2f}"
    )
write("votes_skill.txt", lines)

# --- Experts --------------------------------------------------------------------------------------------------------
by_experts = tables.read("experts.ecsv", tables.VOTES)
names = ["moderator 0", "moderator 1", "moderator 2"]
decisions = expert_decisions(by_experts, moderators=names, subjects=sample["source_id"].tolist())
pairs = expert_agreement(by_experts)
# --- end

first = pairs[0]
lines = [f"{status:16s} {number:4d}" for status, number in decisions.meta["status"].items()]
lines += [
    f"{first['voter_1']} and {first['voter_2']}: agreement {first['agreement']:.2f}, kappa {first['kappa']:.2f}",
    "",
]
for status in ("moderated", "moderators_tied"):
    row = decisions[decisions["status"] == status][0]
    lines.append(f"{row['source_id']}: {row['decision'] or 'open'}; {row['reason']}")
write("votes_experts.txt", lines)

# --- Labels ---------------------------------------------------------------------------------------------------------
place = {name: number for number, name in enumerate(sample["source_id"].tolist())}
rows = [place[name] for name in train["source_id"].tolist()]
classes = dict(zip(hunt.outcome_names, hunt.classes("cluster"), strict=True))
hard = np.array([classes.get(name, "") for name in consensus["weighted"]["outcome"].tolist()])[rows]
shares, posterior = (soft_labels(consensus[name], "cluster")[0][rows] for name in ("weighted", "with 40 known"))
# --- end

member = train["label"] == "cluster"
lines = [f"p of cluster     from 0.1 to 0.9   above 0.5: of {member.sum()} clusters, of {np.sum(~member)} others"]
for name, p in (("weighted", shares[:, 0]), ("Dawid & Skene", posterior[:, 0])):
    doubtful = np.sum((p > 0.1) & (p < 0.9))
    lines.append(f"{name:16s} {doubtful:15d} {np.sum((p > 0.5) & member):26d} {np.sum((p > 0.5) & ~member):14d}")
write("votes_soft.txt", lines)

# --- Train ----------------------------------------------------------------------------------------------------------
torch.set_num_threads(1)  # enough for so small a network; another number gives slightly other weights
network = CutoutClassifier(
    scheme="cluster",
    geometry=Geometry(7 * u.arcmin, (89, 89)),
    bands=("xray", "optical"),
    n_filters=8,
    epochs=15,
    learning_rate=4e-3,
    validation_fraction=0,
    class_weight=None,
    random_state=1,
)
predictions = {}
for name, labels in (("truth", None), ("outcomes", hard), ("shares", shares), ("posteriors", posterior)):
    start = time.perf_counter()
    predictions[name] = clone(network).fit(train, labels).classify(test)
    print(f"{name}: {time.perf_counter() - start:.0f} s")

# --- Compare --------------------------------------------------------------------------------------------------------
judges = {
    "volunteers, weighted": consensus["weighted"],
    "volunteers, Dawid & Skene": consensus["with 40 known"],
    "experts": decisions,
    **{f"network on {name}": table for name, table in predictions.items()},
}
comparison = compare_labels(test, judges)
curves = {name: judge_roc(test, judge) for name, judge in judges.items() if name != "experts"}
save(plot_judge_roc(curves, comparison), "votes_roc.png")
# --- end

lines = [f"{len(test)} test candidates, {np.sum(test['label'] == 'cluster')} of them clusters", ""]
lines += ["judge                        n   TP   TN   FP   FN  accuracy  precision  recall   AUC"]
for row in comparison:
    numbers = "".join(f"{row[key]:5d}" for key in ("tp", "tn", "fp", "fn"))
    scores = f"{row['accuracy']:10.2f}{row['precision']:11.2f}{row['recall']:8.2f}"
    auc = f"{row['auc']:.3f}" if np.isfinite(row["auc"]) else "-"
    lines.append(f"{row['judge']:25s} {row['n']:4d}{numbers}{scores}{auc:>6s}")
lines += ["", "network trained on   mean F1 (95%)          AUC (95%)"]
for name, table in predictions.items():
    last = score(table, rng=1)[-1]
    f1, auc = (f"{last[key]:.2f} ({last[key + '_lo']:.2f} to {last[key + '_hi']:.2f})" for key in ("f1", "auc"))
    lines.append(f"{name:20s} {f1:22s} {auc}")
write("votes_scores.txt", lines)


# --- Plane ----------------------------------------------------------------------------------------------------------
def extent_of(path):
    """Extent and extension likelihood of what is in the middle of a cutout."""
    image = Cutout.read(path).bands["xray"]
    middle = (np.array(image.shape[::-1]) - 1) / 2
    return fit_extent(read_field(image), image.wcs.pixel_to_world(*middle[:, None]))["ext", "ext_like"]


found = vstack([extent_of(path) for path in tables.image_paths(test)], metadata_conflicts="silent")
found["source_id"] = test["source_id"]
shown = {"volunteers": consensus["with 40 known"], "experts": decisions, "network": predictions["posteriors"]}
verdicts = who_was_right(test, shown, candidates=found)
save(plot_who_was_right(verdicts), "votes_plane.png")
