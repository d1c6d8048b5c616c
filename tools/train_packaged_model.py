"""
Train the packaged model ``cluster-embedded`` on simulated fields and write it with its model card.

The sample is what ``astroclassify.sim.simulate_survey`` writes. A fifth of the fields is kept out and never seen in
training, in the choice of the epoch or in the calibration; the scores on the card are of that fifth. The model is not
trained again on everything afterwards: the scores are those of the weights in the folder.

    python tools/train_packaged_model.py survey astroclassify/data/models/cluster-embedded
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from sklearn.metrics import roc_auc_score

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, expected_calibration_error, score, split_sample
from astroclassify.schemes import get_scheme
from astroclassify.sim import to_binary

MAX_BYTES = 4_000_000
SEED = 1

NAME = "cluster-embedded"
NETWORK = {
    "architecture": "attention",
    "scheme": "cluster",
    "geometry": Geometry(7 * u.arcmin, (178, 178)),
    "bands": ("xray", "optical"),
    "n_filters": 12,
    "augmentation": ("flip", "rotate", "shift", "thin", "brightness"),
    "learning_rate": 3e-3,
    "epochs": 45,
}
DESCRIPTION = (
    "Galaxy cluster or not, for an X-ray selected candidate: XMM EPIC pn counts image in 0.5 to 2 keV and red "
    "photographic plate of the same 7 arcmin. Trained only on what detection finds in simulated fields, not on "
    "observations."
)
LIMITS = [
    "The fields have several times as many clusters and nearby galaxies as the sky, and all extended detections "
    "were used, not only C1 and C2: the scores are no statement about XMM candidates or the sky.",
    "X-ray images are counts of one camera (EPIC pn) in 10 or 20 ks, 0.5 to 2 keV. Not simulated: MOS, flares, "
    "azimuthal structure of the point spread function, plate flaws.",
    "Plates are simulated densities of a red Schmidt plate; a CCD survey or another scanner looks different.",
    "Probabilities are for clusters and others being equally frequent; correct_prior turns them into those of a "
    "population.",
]
log = logging.getLogger("train_packaged_model")


def rows_of(scores):
    """A SCORES table as plain rows for the card, three digits."""
    return [
        {name: str(row[name]) if name == "class" else round(float(row[name]), 3) for name in scores.colnames}
        for row in scores
    ]


def settings_of(folder):
    """Settings of the simulated images, as they were written beside them."""
    path = Path(folder) / "survey.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read(folder):
    """Rows of a sample that have a label and an image."""
    sample = tables.read_sample(folder)
    usable = np.array([bool(label) and bool(path) for label, path in zip(sample["label"], sample["path"], strict=True)])
    if not usable.all():
        log.info("%d of %d rows have no label or no image and are left out", np.sum(~usable), len(usable))
    # Of the many point sources a third are enough; all others are kept.
    points = np.asarray(sample["label"]) == "point"
    kept = ~points | (np.cumsum(points) % 3 == 1)
    return to_binary(sample[usable & kept])


def beside_ext_like(test, predictions):
    """Areas under the ROC curve of the network and of the extension likelihood on the same candidates."""
    classes = np.array([str(name) for name in test["x_class"]])
    rows = []
    for part, members in (("all", np.ones(len(test), bool)), ("C1 and C2", np.isin(classes, ["C1", "C2"]))):
        true = np.asarray(test["label"][members]) == "cluster"
        if 0 < true.sum() < len(true):
            network, likelihood = predictions["p_cluster"][members], test["ext_like"][members]
            rows.append(
                {
                    "candidates": part,
                    "n_cluster": int(true.sum()),
                    "n_other": int((~true).sum()),
                    "auc_network": round(float(roc_auc_score(true, network)), 3),
                    "auc_ext_like": round(float(roc_auc_score(true, likelihood)), 3),
                }
            )
    return rows


def calibration_error(predictions):
    """Expected calibration error, and what exact probabilities would have on the same rows."""
    error = expected_calibration_error(predictions, rng=0)
    row = error[-1]
    return {key: round(float(row[key]), 4) for key in ("ece", "ece_exact") if key in error.colnames}


def main(argv=None):
    """Train, calibrate, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", help="sample folder")
    parser.add_argument("out", help="model folder to write")
    parser.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")

    sample = read(arguments.sample)
    rest, test = split_sample(sample, test_fraction=0.2, rng=SEED)
    train, validation = split_sample(rest, test_fraction=0.125, rng=SEED + 1)
    model = CutoutClassifier(**NETWORK, random_state=SEED, verbose=True)
    model.fit(train, validation=validation)
    before = calibration_error(model.classify(test))
    model.calibrate(validation)
    predictions = model.classify(test)
    scores = score(predictions, rng=0)
    parts = {"train": train, "validation": validation, "test": test}
    model.card_ = {
        "name": NAME,
        "description": DESCRIPTION,
        "trained_on": {
            **{
                role: {
                    "fields": len(set(part["group_id"])),
                    "images": len(part),
                    "class_counts": {
                        label: int(np.sum(part["label"] == label)) for label in get_scheme(model.scheme).classes
                    },
                }
                for role, part in parts.items()
            },
            "images": settings_of(arguments.sample),
            "script": "tools/train_packaged_model.py",
            "seed": SEED,
        },
        "intervals": "scores of the test part; 95% by bootstrap over fields",
        "scores": rows_of(scores),
        "calibration": {
            "temperature": round(model.temperature_, 3),
            "before": before,
            "after": calibration_error(predictions),
        },
        "limits": LIMITS,
        "beside_ext_like": beside_ext_like(test, predictions),
    }
    folder = model.save(arguments.out, overwrite=arguments.overwrite)
    size = sum(path.stat().st_size for path in folder.iterdir())
    f1 = [float(scores[name][-1]) for name in ("f1", "f1_lo", "f1_hi")]
    log.info("%s: %d bytes, mean F1 %.3f (%.3f to %.3f)", folder, size, *f1)
    if size > MAX_BYTES:
        log.error("width: the folder must have at most %d bytes, got %d", MAX_BYTES, size)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AstroclassifyError, ValueError, OSError) as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(2)
