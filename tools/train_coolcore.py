"""
Make the training images of the packaged model ``coolcore``, train it and write it with its model card.

``simulate`` makes images of embedded clusters, as an archive of Chandra and XMM-Newton holds them: training samples,
and a validation sample of other clusters, built from other real profiles. ``train`` trains one network for each seed,
keeps the one with the lowest loss on the validation sample, calibrates it there and writes the folder. It takes any
samples that `make_mocks` has made, those of IllustrisTNG as well: folders named ``train*`` and ``validation*``.

    python tools/train_coolcore.py simulate mocks --workers 2
    python tools/train_coolcore.py train mocks astroclassify/data/models/coolcore --workers 2
    python tools/train_coolcore.py temper mocks astroclassify/data/models/coolcore --data ../shared/data
    python tools/fit_familiarity.py mocks astroclassify/data/models/coolcore --workers 2

``temper`` chooses the temperature again, on images of the shells of the ACCEPT clusters that are not the public test
(``benchmarks/_accept.py``): simulated validation clusters make probabilities too sure for real ones.

The public test (every third cluster of ACCEPT) takes no part; ``benchmarks/real_sky.py`` scores the result on it.
"""

import argparse
import dataclasses
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import vstack
from train_cluster_xmm import rows_of

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, expected_calibration_error, fit_temperature, load_classifier, score
from astroclassify.nn.estimators import _fitting
from astroclassify.nn.inputs._dataset import TrainingSet, load_training_set
from astroclassify.nn.inputs._items import as_items
from astroclassify.nn.inputs._preprocess import Preprocessing
from astroclassify.schemes import COOL_CORE
from astroclassify.sim import EmbeddedPopulation, Observation, ObservationSampler, make_mocks

MAX_BYTES = 4_000_000
# Eight directions, evenly over the sphere.
_TURN, _COS = np.pi * (1 + 5**0.5) * (np.arange(8) + 0.5), 1 - (np.arange(8) + 0.5) / 4
_SIN = np.sqrt(1 - _COS**2)
_SPHERE = np.stack([np.cos(_TURN) * _SIN, np.sin(_TURN) * _SIN, _COS], axis=1)
DIRECTIONS = [tuple(direction) for direction in np.round(_SPHERE, 3).tolist()]
#: Samples: part of the real profiles, number of clusters, lines of sight, cells of a cluster, pixels of the detector
#: on a side of one of the image (None: 256 pixels over 1 Mpc), and what is added to the seed.
SAMPLES = {
    "train-few": ("train", 1800, "xyz", 100_000, (4, 8), 0),
    "train-many": ("train", 2500, DIRECTIONS, 60_000, None, 1),
    "validation": ("validation", 300, "xyz", 100_000, (4, 8), 0),
}
#: Share of the clusters seen by a detector without chips (`Observation`'s default, as in Su et al.).
PLAIN_SHARE = 0.2
#: Fractions of CC, WCC and NCC that the training images are weighted to: those of ACCEPT, without the public test.
FRACTIONS = (0.28, 0.50, 0.22)

NETWORK = {
    "architecture": "profile",
    "geometry": Geometry(1 * u.Mpc, (256, 256)),
    "stretch": "profile",
    "augmentation": ("depth",),
    "class_weight": None,
    "n_filters": 192,
    "dropout": 0.3,
    "learning_rate": 2e-3,
    "batch_size": 64,
    "epochs": 60,
    "patience": 20,
}
DESCRIPTION = (
    "Cool-core class (CC, WCC, NCC by the cooling time within 0.012 R500) of a galaxy cluster from a counts image of "
    "Chandra ACIS or XMM-Newton EPIC, of any exposure, at redshifts of 0.02 to 0.5, by the profile about its peak. "
    "Trained on mock images of embedded clusters, half of them built from profiles of real ones (ACCEPT); not on a "
    "cosmological simulation and not on observed images."
)
LIMITS = [
    "Scores on this card are those of mock images of other real profiles. What the model does on real clusters, and "
    "where it fails, is on the documentation's page 'On real clusters'.",
    "It judges the profile about the X-ray peak within 500 kpc. Mergers, cavities, a second peak are not seen as such.",
    "Counts in 0.5 to 7 keV (Chandra) or 0.5 to 2 keV (XMM-Newton), with the exposure time, instrument and date in the "
    "header and a redshift. Without exposure or instrument the shape alone is judged, which is worse: macro-F1 0.79 "
    "instead of 0.86 on noiseless profiles.",
    "M500 of 10^13.5 to 10^15.3 Msun, columns of 1e20 to 2e21 cm-2. Below a redshift of 0.02 the field of 1 Mpc is "
    "larger than that of the telescopes; images that fill less than 5 % of it are refused.",
    "familiarity does not prove that something is a cluster: what is smooth, round and peaked as clusters are is "
    "familiar, such as an elliptical galaxy with a redshift that is not its own.",
    "Probabilities are for the class fractions on this card; classify(population=...) gives those for another.",
]
log = logging.getLogger("train_coolcore")


def samplers(binning):
    """Settings of the images: of an archive, and plain ones."""
    plain = ObservationSampler(
        Observation(), redshift=(0.03, 0.3), exposure=(5, 200) * u.ks, background=(1 / 3, 3), centring=50 * u.kpc
    )
    return {"wide": dataclasses.replace(ObservationSampler.wide(), binning=binning), "plain": plain}


def simulate(folder, *, seed, scale, workers):
    """Write ``<folder>/<sample>-<kind>`` for all samples and both kinds of settings."""
    with ProcessPoolExecutor(workers) as executor:
        for name, (part, number, axes, max_cells, binning, more) in SAMPLES.items():
            number = max(5, round(scale * number))
            population = EmbeddedPopulation(number, rng=seed + more, part=part, max_cells=max_cells)
            halos, edge = population.select_halos(), round(PLAIN_SHARE * number)
            for kind, chosen in (("plain", halos[:edge]), ("wide", halos[edge:])):
                make_mocks(
                    population, chosen, observation=samplers(binning)[kind], axes=axes, out=folder / f"{name}-{kind}",
                    engine="direct", executor=executor, rng=seed + more,
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
    return vstack(parts, join_type="inner")


def load(sample, model, executor):
    """The training set of a sample, read in many processes."""
    rule = Preprocessing(model.stretch, (0.0,), (1.0,), model._pixel())
    rules = {"task": model._task(), "bands": model.bands, "geometry": model.geometry, "rule": rule, "name": "X"}
    parts = [sample[start : start + 100] for start in range(0, len(sample), 100)]
    return TrainingSet.joined(list(executor.map(partial(_load, rules), parts)))


def _load(rules, sample):
    return load_training_set(sample, None, None, **rules)


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


def train(folder, out, *, seeds, fractions, workers, overwrite):
    """Train one network per seed, keep the best on validation clusters, calibrate and write it."""
    training, validation = read(folder, "train"), read(folder, "validation")
    with ProcessPoolExecutor(workers) as executor:
        sets = [load(sample, CutoutClassifier(**NETWORK), executor) for sample in (training, validation)]
        log.info("%d training and %d validation images", *map(len, sets))
        sets = [
            dataclasses.replace(each, weights=class_weights(sample["label"], fractions))
            for each, sample in zip(sets, (training, validation), strict=True)
        ]
        models = []
        for seed in seeds:
            model = CutoutClassifier(**NETWORK, random_state=seed, verbose=True).fit(sets[0], validation=sets[1])
            model.calibrate(sets[1])
            models.append((model, *judge(model, sets[1])))
            log.info("seed %d: %s", seed, models[-1][1])
        model, row, scores = min(models, key=lambda each: each[1]["loss"])
    model.novelty_ = model.predictor_.novelty = None  # tools/fit_familiarity.py takes its place
    model.card_ = make_card(model, training, validation, [each[1] for each in models], scores, fractions)
    return model.save(out, overwrite=overwrite)


def judge(model, images):
    """Loss, macro-F1 and calibration error of a calibrated model on validation images, and its scores by class."""
    table = model._labelled(_fitting.raw_logits(model.predictor_, images.counts), images)
    scores = score(table, rng=0)
    error = expected_calibration_error(table, n_bootstrap=0, rng=0)[-1]
    found = {"loss": loss_of(table, images.weights), "f1": scores["f1"][-1], "ece": error["ece"]}
    row = {"seed": model.random_state, **{name: round(float(value), 4) for name, value in found.items()}}
    return row, rows_of(scores)


def make_card(model, training, validation, seeds, scores, fractions):
    """The model card."""
    parts = {"training": training, "validation": validation}
    return {
        "name": "coolcore",
        "description": DESCRIPTION,
        "trained_on": {
            role: {
                "clusters": len(set(part["group_id"])),
                "images": len(part),
                "class_counts": {label: int(np.sum(part["label"] == label)) for label in COOL_CORE.classes},
            }
            for role, part in parts.items()
        }
        | {
            "script": "tools/train_coolcore.py",
            "not_in_it": "every third cluster of ACCEPT (accept_public_test.txt), observed images",
        },
        "class_fractions": dict(zip(COOL_CORE.classes, fractions, strict=True)),
        "seeds": seeds,
        "intervals": "scores of the validation clusters, by which epoch, seed and temperature were chosen; 95% by "
        "bootstrap over clusters",
        "scores": scores,
        "calibration": {"temperature": round(model.temperature_, 3)},
        "limits": LIMITS,
    }


def temper(folder, out, data, executor):
    """Choose the temperature of a model on images of real profiles, and learn its sets of classes again."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from _accept import accept_images, read_accept

    plain = Observation()
    settings = [
        (plain, {}),
        (Observation(redshift=0.1, exposure=20 * u.ks), {}),
        (Observation(redshift=0.3), {}),
        (plain, {"offset": 40 * u.kpc}),
        (Observation(background=3 * plain.background, exposure=30 * u.ks), {}),
        (Observation.acis_i(), {}),
        (plain, {"lumpy": True}),
    ]
    model = load_classifier(out)
    logits, truth, names = [], [], []
    for observation, changes in settings:
        sample, images = accept_images(read_accept(data), observation, rng=1, **changes)
        for row, image in zip(sample, images, strict=True):
            if not row["test"]:
                items, _ = as_items([image], bands=model.bands, shape=model.geometry.shape)
                logits.append(_fitting.raw_logits(model.predictor_, model.predictor_.load(items[0])[0][None])[0])
                truth.append(COOL_CORE.index(row["label"]))
                names.append(str(row["source_id"]))
    model.temperature_ = float(fit_temperature(np.array(logits), np.array(truth), groups=names))
    model.predictor_.temperature = model.temperature_
    known = load(read(folder, "validation"), model, executor)
    model.conformal_ = model._learn_sets(_fitting.raw_logits(model.predictor_, known.counts), known)
    text = "of the clusters of ACCEPT that are not the public test, as images in seven settings"
    model.card_["calibration"] = {"temperature": round(model.temperature_, 3), "chosen_on": text}
    return model.save(out, overwrite=True)


def main(argv=None):
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("simulate", help="make the images")
    first.add_argument("folder", type=Path)
    first.add_argument("--seed", type=int, default=15)
    first.add_argument("--scale", type=float, default=1.0, help="number of clusters over the usual one")
    second = commands.add_parser("train", help="train on them")
    second.add_argument("folder", type=Path)
    second.add_argument("out", type=Path)
    second.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    second.add_argument("--fractions", type=float, nargs=3, default=FRACTIONS, help="of CC, WCC, NCC")
    second.add_argument("--overwrite", action="store_true")
    third = commands.add_parser("temper", help="choose the temperature on real profiles")
    third.add_argument("folder", type=Path)
    third.add_argument("out", type=Path)
    third.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real data")
    for command in (first, second, third):
        command.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    if arguments.command == "simulate":
        simulate(arguments.folder, seed=arguments.seed, scale=arguments.scale, workers=arguments.workers)
        return 0
    if arguments.command == "temper":
        with ProcessPoolExecutor(arguments.workers) as executor:
            temper(arguments.folder, arguments.out, arguments.data, executor)
        return 0
    folder = train(
        arguments.folder, arguments.out, seeds=arguments.seeds, fractions=arguments.fractions,
        workers=arguments.workers, overwrite=arguments.overwrite,
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
