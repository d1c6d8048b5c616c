"""
Train the packaged model ``coolcore-embedded`` on a sample of embedded clusters and write it with its model card.

The sample folder is what ``astroclassify.sim.make_mocks`` writes for a snapshot of ``write_embedded_snapshot``. One
fold of its clusters is kept out and never seen in training or in the choice of the epoch; the scores on the card are of
that fold. The model is not trained again on all clusters afterwards: the scores are those of the weights in the folder.

    python tools/train_packaged_model.py mocks astroclassify/data/models/coolcore-embedded
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, RankClassifier, ThresholdClassifier, score
from astroclassify.nn._folds import group_folds

NAME = "coolcore-embedded"
MAX_BYTES = 4_000_000
DESCRIPTION = (
    "Cool-core class (CC, WCC, NCC by central cooling time) of a galaxy cluster from a Chandra ACIS-I counts image of "
    "1 Mpc across. Trained on mock images of synthetic clusters only, not on a cosmological simulation and not on "
    "observations."
)
LIMITS = [
    "The clusters are synthetic: hydrostatic, with entropy profiles drawn from observed ones and simple substructure. "
    "The scores say how well these are told apart; they are not those of Su et al. (2020) on IllustrisTNG, nor of real "
    "clusters.",
    "All training images have one redshift, exposure, energy band and response. Another depth, instrument or band "
    "shifts the counts per pixel and so the answer; the flags other_instrument and other_band mark the last two, and "
    "nothing marks another depth.",
    "There are no point sources, chip gaps or vignetting in the training images.",
    "Probabilities are not calibrated, and those for equally frequent classes: training weights each class the same.",
    "Nothing here says that an image is not a cluster: every image gets one of the three classes.",
]
log = logging.getLogger("train_packaged_model")


def rows_of(scores):
    """A SCORES table as plain rows for the card, three digits."""
    return [
        {name: str(row[name]) if name == "class" else round(float(row[name]), 3) for name in scores.colnames}
        for row in scores
    ]


def compare(sample, network_scores):
    """Mean scores of the network beside those of the conventional methods on the same clusters."""
    methods = {
        "n_e, fixed cuts": ThresholdClassifier("n_e").fit(sample),
        "C_SB, fixed cuts": ThresholdClassifier("c_sb").fit(sample),
        "C_SB, ranked (uses the class fractions of these clusters)": RankClassifier("c_sb").fit(sample),
    }
    tables_of = {"network": network_scores}
    tables_of |= {name: score(model.classify(sample)) for name, model in methods.items()}
    names = [f"{key}{end}" for key in ("f1", "bacc") for end in ("", "_lo", "_hi")]
    return [
        {"method": method} | {name: round(float(table[name][-1]), 3) for name in names}
        for method, table in tables_of.items()
    ]


def settings_of(folder):
    """Settings of the mock images, as ``make_mocks`` wrote them."""
    path = Path(folder) / "observation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main(argv=None):
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", help="sample folder written by make_mocks")
    parser.add_argument("out", help="model folder to write")
    parser.add_argument("--width", type=int, default=12, help="filters of the first stage (default 12)")
    parser.add_argument("--pixels", type=int, default=128, help="side of the grid of 1 Mpc (default 128)")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--stretch", default="log")
    parser.add_argument("--test-folds", type=int, default=5, help="one of so many folds is kept out (default 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")

    sample = tables.read_sample(arguments.sample)
    usable = np.array([bool(label) and bool(path) for label, path in zip(sample["label"], sample["path"], strict=True)])
    if not usable.all():
        log.info("%d of %d rows have no label or no image and are left out", np.sum(~usable), len(usable))
    sample = sample[usable]
    fold = group_folds(sample["label"], sample["group_id"], n_folds=arguments.test_folds, seed=arguments.seed)
    test = fold == 0
    model = CutoutClassifier(
        "resnet18",
        geometry=Geometry(1 * u.Mpc, (arguments.pixels, arguments.pixels)),
        width=arguments.width,
        stretch=arguments.stretch,
        epochs=arguments.epochs,
        patience=arguments.patience,
        learning_rate=arguments.learning_rate,
        random_state=arguments.seed,
        verbose=True,
    ).fit(sample[~test])
    scores = score(model.classify(sample[test]))
    model.card_ = {
        "name": NAME,
        "description": DESCRIPTION,
        "trained_on": {
            "clusters": int(len(set(sample["group_id"][~test]))),
            "images": int(np.sum(~test)),
            "mock_images": settings_of(arguments.sample),
            "script": "tools/train_packaged_model.py",
            "seed": arguments.seed,
        },
        "tested_on": {
            "clusters": int(len(set(sample["group_id"][test]))),
            "images": int(np.sum(test)),
            "class_counts": {str(name): int(np.sum(sample["label"][test] == name)) for name in model.classes_},
            "intervals": "95% by bootstrap over clusters",
        },
        "scores": rows_of(scores),
        "beside_conventional_methods": compare(sample[test], scores),
        "limits": LIMITS,
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
