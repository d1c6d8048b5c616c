"""Train on your own labels, for the tutorial page. Run it in an empty folder: it writes figures and texts there."""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from astropy import units as u
from astropy.table import QTable, Table
from sklearn.base import clone

from astroclassify.images import Geometry, SkyImage, write_image
from astroclassify.nn import CutoutClassifier, load_classifier, roc, score, split_sample
from astroclassify.plots import plot_confusion, plot_roc
from astroclassify.schemes import ClassScheme
from astroclassify.sim import simulate_candidates
from astroclassify.tables import read_sample, write_sample

# --- Make images and labels -----------------------------------------------------------------------------------------
# Stand-ins for your files: X-ray images of simulated candidates, some of them twice, and a table of labels and votes.
rng = np.random.default_rng(7)
names = {"low_z": "extended", "high_z": "extended", "galaxy": "extended", "point": "point", "other": "reject"}
classes = ["extended", "point", "reject"]
images = Path("candidates") / "images"
images.mkdir(parents=True)
rows = []
for number, candidate in enumerate(simulate_candidates(300, rng=5, shape=(89, 89), progress=False)):
    image = candidate.bands["xray"]
    label = names[image.meta["LABEL"]]
    kept = ("TELESCOP", "INSTRUME", "EXPOSURE", "E_MIN", "E_MAX")
    image.meta = {key: image.meta[key] for key in kept}
    versions = [("a", image)]
    if number % 9 == 0:  # the same object again, in half of the exposure
        meta = {**image.meta, "EXPOSURE": image.meta["EXPOSURE"] / 2}
        counts = rng.binomial(image.data.astype(int), 0.5).astype(float)
        versions.append(("b", SkyImage(counts, unit=u.ct, wcs=image.wcs, meta=meta, exposure=image.exposure / 2)))
    for version, image in versions:
        name = f"J{number:04d}{version}"
        write_image(image, images / f"{name}.fits")
        chance = np.where([label == each for each in classes], 0.7, 0.15)  # of each volunteer's vote
        rows.append((name, f"J{number:04d}", f"{name}.fits", label, *rng.multinomial(8, chance)))
labels = Table(rows=rows, names=("name", "object", "file", "label", *(f"n_{each}" for each in classes)))
labels["label"][[3, 14]] = ""  # nobody has looked at these two
labels.write("labels.csv")

# --- A sample out of a table ----------------------------------------------------------------------------------------
scheme = ClassScheme(
    "extent",
    ("extended", "point", "reject"),
    ("extended X-ray source in the middle", "point source in the middle", "edge, blend or artefact"),
)
labels = Table.read("labels.csv")
sample = QTable(
    {
        "source_id": labels["name"],
        "group_id": labels["object"],  # all images of one object must stay together
        "path": [f"images/{name}" for name in labels["file"]],
        "label": labels["label"],  # an empty cell: no label
    },
    meta={"scheme": scheme.to_dict()},
)
n = len(sample)
sample["projection"] = np.full(n, "")  # columns of simulated halos: you may not have them
sample["redshift"] = np.full(n, np.nan)
sample["m_500"] = np.full(n, np.nan) * u.Msun
sample["r_500"] = np.full(n, np.nan) * u.kpc
sample["t_cool"] = np.full(n, np.nan) * u.Gyr
sample["n_e"] = np.full(n, np.nan) * u.cm**-3
sample["c_sb"] = np.full(n, np.nan)
sample["flags"] = np.zeros(n, dtype=int)
for name in scheme.classes:
    sample[f"n_{name}"] = labels[f"n_{name}"]  # further columns are kept
write_sample(sample, "candidates")  # writes candidates/sample.ecsv; the images are there already

# --- Sets -----------------------------------------------------------------------------------------------------------
sample = read_sample("candidates")
sample = sample[sample["label"] != ""]
known, test = split_sample(sample, test_fraction=0.25, rng=1)
train, validation = split_sample(known, test_fraction=0.2, rng=2)
# --- end

lines = []
for name, part in (("training", train), ("validation", validation), ("test", test)):
    counts = ", ".join(f"{each} {np.sum(part['label'] == each)}" for each in scheme.classes)
    lines.append(f"{name:10s} {len(part):3d} images of {len(set(part['group_id'])):3d} objects: {counts}")
Path("labels_sets.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

# --- Train ----------------------------------------------------------------------------------------------------------
torch.set_num_threads(1)  # enough for so small a network; another number gives slightly other weights
network = CutoutClassifier(
    scheme=scheme,
    geometry=Geometry(7 * u.arcmin, (89, 89)),
    n_filters=8,
    epochs=20,
    patience=None,
    learning_rate=4e-3,
    random_state=1,
)
start = time.perf_counter()
network.fit(train, validation=validation, checkpoint="state")
training_time = time.perf_counter() - start

start = time.perf_counter()
again = clone(network).fit(train, validation=validation, checkpoint="state")  # goes on where the other one ended
checkpoint_time = time.perf_counter() - start
# --- end

print(f"training {training_time:.1f} s, from its checkpoint {checkpoint_time:.1f} s")
assert np.array_equal(again.predict_proba(test[:5]), network.predict_proba(test[:5]))

# --- Calibrate and score --------------------------------------------------------------------------------------------
network.calibrate(validation)
predictions = network.classify(test)
scores = score(predictions, rng=1)
print(network.temperature_, scores["class", "f1", "f1_lo", "f1_hi", "auc"])
plot_confusion(predictions).savefig("labels_confusion.png", dpi=100)
plot_roc(roc(predictions)).savefig("labels_roc.png", dpi=100)
# --- end

# --- History --------------------------------------------------------------------------------------------------------
epochs = [row["epoch"] for row in network.history_]
best = next(row for row in network.history_ if row.get("best"))
figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
axis.plot(epochs, [row["loss"] for row in network.history_], label="training")
axis.plot(epochs, [row["validation_loss"] for row in network.history_], label="validation")
axis.axvline(best["epoch"], color="0.6", linestyle=":", label="kept")
axis.set(xlabel="epoch", ylabel="loss", xticks=epochs[1::2])
axis.legend()
figure.savefig("labels_history.png", dpi=100)

# --- Weights and votes ----------------------------------------------------------------------------------------------
votes = np.column_stack([train[f"n_{name}"] for name in scheme.classes]).astype(float)
posterior = (votes + 1 / 3) / (votes.sum(axis=1, keepdims=True) + 1)  # one vote in all shared out beforehand
weight = np.where(np.char.endswith(train["source_id"], "b"), 0.5, 1.0)  # the second image of an object counts half

volunteers = clone(network).fit(train, posterior, validation=validation, sample_weight=weight)
volunteers.calibrate(validation)
volunteer_scores = score(volunteers.classify(test), rng=1)
# --- end

# --- Keep it --------------------------------------------------------------------------------------------------------
names = ("class", "f1", "f1_lo", "f1_hi")
network.card_ = {
    "name": "extent of simulated candidates",
    "description": "Tutorial. Trained on a few hundred simulated XMM candidates; not for use.",
    "limits": ["Simulated images: no statement about the sky."],
    "scores": [{name: row[name] for name in names} for row in scores],
}
network.save("extent-model")
loaded = load_classifier("extent-model")
assert np.array_equal(loaded.predict_proba(test[:5]), network.predict_proba(test[:5]))

# --- Learn from a saved model ---------------------------------------------------------------------------------------
fewer = train[::3]
binary = np.where(fewer["label"] == "extended", "yes", "no")
other_scheme = ClassScheme("extended", ("yes", "no"), ("extended source in the middle", "anything else"))
tuned = clone(network).set_params(
    scheme=other_scheme, epochs=8, learning_rate=1e-3, frozen=("conv1", "bn1", "layer1", "layer2"), thaw_epoch=4
)
tuned.fit(fewer, binary, start="extent-model")
print(tuned.training_["start"])
# --- end

from_start = clone(tuned).set_params(frozen=(), thaw_epoch=None).fit(fewer, binary)
truth = np.where(test["label"] == "extended", "yes", "no")


def tell(name, table):
    """Lines of a SCORES table."""
    yield name
    for row in table:
        f1, auc = (f"{row[key]:.2f} ({row[key + '_lo']:.2f} to {row[key + '_hi']:.2f})" for key in ("f1", "auc"))
        yield f"    {row['class']:9s} F1 {f1}, area under the ROC curve {auc}"


def score_binary(model):
    """Scores of a model of the two classes on the test set."""
    table = test.copy()
    table["label"] = truth
    return score(model.classify(table), rng=1)


lines = [
    f"temperature {network.temperature_:.2f}",
    *tell("trained on labels", scores),
    *tell("trained on votes, with weights", volunteer_scores),
    f"extended or not, {len(fewer)} images",
    *tell("  from the saved model, first stages frozen for 4 epochs", score_binary(tuned)),
    *tell("  from random weights", score_binary(from_start)),
]
Path("labels_scores.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
print("\n".join(lines))
