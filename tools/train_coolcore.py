"""
Make the training images of the packaged model ``coolcore``, train it and write it with its model card.

``simulate`` makes images of embedded clusters, as an archive of Chandra and XMM-Newton holds them: a training sample,
and a validation sample of other clusters, built from other real profiles. ``train`` trains one network for each seed,
keeps the one with the lowest loss on the validation sample, calibrates it there and writes the folder. It takes any
two samples that `make_mocks` has made, those of IllustrisTNG as well.

    python tools/train_coolcore.py simulate mocks --workers 2
    python tools/train_coolcore.py train mocks astroclassify/data/models/coolcore

The public test (every third cluster of ACCEPT) takes no part; ``benchmarks/real_sky.py`` scores the result on it.
"""

import argparse
import json
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, expected_calibration_error, score
from astroclassify.schemes import COOL_CORE
from astroclassify.sim import EmbeddedPopulation, Observation, ObservationSampler, make_mocks

MAX_BYTES = 4_000_000
#: Number of clusters of each part, and images of each.
N_HALOS, AXES = {"train": 1800, "validation": 300}, "xyz"
#: Share of the clusters seen by a detector without chips (`Observation`'s default, as in Su et al.), with more settings.
PLAIN_SHARE = 0.2

NETWORK = {
    "architecture": "attention",
    "geometry": Geometry(1 * u.Mpc, (128, 128)),
    "stretch": "brightness",
    "n_filters": 16,
    "augmentation": ("flip", "rotate", "shift", "thin", "depth"),
    "class_weight": None,
    "learning_rate": 3e-3,
    "epochs": 20,
}
log = logging.getLogger("train_coolcore")


def samplers():
    """Settings of the images: of an archive, and plain ones."""
    plain = ObservationSampler(
        Observation(), redshift=(0.03, 0.3), exposure=(5, 200) * u.ks, background=(1 / 3, 3), centring=50 * u.kpc
    )
    # Pixels of one of the detector's would be averaged on the way to the network: images of 1024 pixels for nothing.
    return {"wide": replace(ObservationSampler.wide(), binning=(2, 4, 8)), "plain": plain}


def simulate(folder, *, seed, scale, workers):
    """Write ``<folder>/<part>-<kind>`` for both parts and both kinds of settings."""
    with ProcessPoolExecutor(workers) as executor:
        for part, number in N_HALOS.items():
            population = EmbeddedPopulation(max(2, round(scale * number)), rng=seed, part=part, max_cells=100_000)
            halos = population.select_halos()
            edge = round(PLAIN_SHARE * len(halos))
            for kind, chosen in (("plain", halos[:edge]), ("wide", halos[edge:])):
                make_mocks(
                    population, chosen, observation=samplers()[kind], axes=AXES, out=folder / f"{part}-{kind}",
                    engine="direct", executor=executor, rng=seed,
                )  # fmt: skip


def read(folder, part):
    """Rows of all samples of one part that have a label and an image; paths are absolute."""
    parts = []
    for path in sorted(folder.glob(f"{part}*")):
        sample = tables.read_sample(path)
        usable = [bool(label) and bool(name) for label, name in zip(sample["label"], sample["path"], strict=True)]
        sample = sample[np.array(usable)]
        sample["path"] = [str(image) for image in tables.image_paths(sample)]
        sample.meta = {}
        parts.append(sample)
    if not parts:
        raise ValueError(f"{folder} must hold samples named {part}*, as 'simulate' makes them")
    from astropy.table import vstack

    return vstack(parts, join_type="inner")


def class_weights(labels, fractions):
    """Weight of each image, so that classes have the fractions of a population; their mean is 1."""
    labels = np.asarray(labels).astype(str)
    weight = np.zeros(len(labels))
    for name, fraction in zip(COOL_CORE.classes, fractions, strict=True):
        weight[labels == name] = fraction / max(1, np.sum(labels == name))
    return weight * len(labels)


def loss_of(predictions, weights):
    """Mean of -log p(true class), weighted."""
    rows = np.arange(len(predictions))
    p = np.stack([np.asarray(predictions[f"p_{name}"], dtype=float) for name in COOL_CORE.classes], axis=1)
    truth = [COOL_CORE.index(label) for label in predictions["label"]]
    return float(np.average(-np.log(np.maximum(p[rows, truth], 1e-12)), weights=weights))


def train(folder, out, *, seeds, fractions, overwrite):
    """Train one network per seed, keep the best on validation clusters, calibrate and write it."""
    training, validation = read(folder, "train"), read(folder, "validation")
    weights = class_weights(training["label"], fractions)
    checked = class_weights(validation["label"], fractions)
    models, rows = [], []
    for seed in seeds:
        model = CutoutClassifier(**NETWORK, random_state=seed, verbose=True)
        model.fit(training, sample_weight=weights, validation=validation)
        model.calibrate(validation)
        predictions = model.classify(validation, progress=False)
        found = score(predictions, rng=0)[-1]
        ece = expected_calibration_error(predictions, n_bootstrap=0, rng=0)[-1]
        row = {"seed": seed, "loss": loss_of(predictions, checked), "f1": float(found["f1"]), "ece": float(ece["ece"])}
        log.info("%s", {name: round(value, 4) for name, value in row.items()})
        models.append(model)
        rows.append(row)
    best = int(np.argmin([row["loss"] for row in rows]))
    models[best].card_ = {"name": "coolcore", "seeds": rows}
    return models[best].save(out, overwrite=overwrite)


def main(argv=None):
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("simulate", help="make the images")
    first.add_argument("folder", type=Path)
    first.add_argument("--seed", type=int, default=15)
    first.add_argument("--scale", type=float, default=1.0, help="number of clusters over the usual one")
    first.add_argument("--workers", type=int, default=2)
    second = commands.add_parser("train", help="train on them")
    second.add_argument("folder", type=Path)
    second.add_argument("out", type=Path)
    second.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    second.add_argument("--fractions", type=float, nargs=3, default=[0.28, 0.5, 0.22], help="of CC, WCC, NCC")
    second.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    if arguments.command == "simulate":
        simulate(arguments.folder, seed=arguments.seed, scale=arguments.scale, workers=arguments.workers)
        return 0
    folder = train(
        arguments.folder, arguments.out, seeds=arguments.seeds, fractions=arguments.fractions,
        overwrite=arguments.overwrite,
    )  # fmt: skip
    size = sum(path.stat().st_size for path in folder.iterdir())
    log.info("%s: %d bytes", folder, size)
    if size > MAX_BYTES:
        log.error("the folder must have at most %d bytes, got %d", MAX_BYTES, size)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AstroclassifyError, ValueError, OSError) as error:
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(2)
