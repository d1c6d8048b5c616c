"""
Train the packaged model ``cluster-xmm`` on candidates, compare it with the catalogue, and write it with its model card.

The sample is what ``tools/make_candidates.py`` writes: a SAMPLE folder with the columns of CANDIDATES, ``exposure``,
``label`` of the scheme "candidate", ``split`` (train, validation, test), ``group_id`` (the field) and ``origin``:
``simulated`` (denser than the sky, shares of Kosiba et al. 2020), ``sky`` (the sky's densities), ``real`` and
``injected`` (into real images); the last two are of the test part alone. ``train`` trains a network for each set of
inputs, scheme and seed, and keeps it in a folder of its own, so that several of these can run side by side and one that
was ended goes on. ``write`` chooses seeds on the validation part, calibrates there, scores on the test part, and writes
the model whose inputs are best on the validation part.

    python tools/train_cluster_xmm.py train candidates trained --seeds 1 2 3
    python tools/train_cluster_xmm.py write candidates trained astroclassify/data/models/cluster-xmm

The test part takes no part in training, in the choice of epoch, seed or inputs, in the calibration, nor in the class
fractions for which the loss is weighted. The model is not trained again on everything afterwards: the scores are those
of the weights in the folder.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError, AstroclassifyWarning
from astroclassify.images import Cutout, Geometry
from astroclassify.nn import (
    CatalogueClassifier,
    CutoutClassifier,
    expected_calibration_error,
    load_classifier,
    score,
    score_difference,
)
from astroclassify.samples import to_binary
from astroclassify.schemes import CANDIDATE, CLUSTER, get_scheme
from astroclassify.tables import plain_column

MAX_BYTES = 4_000_000
NAME, POPULATION = "cluster-xmm", "xmm-candidates"
COLUMNS = ("ext", "ext_like", "off_axis", "exposure")
#: All that a catalogue says of a candidate.
CATALOGUE = ("ext", "ext_like", "det_like", "pnt_det_like", "counts", "rate", "off_axis", "exposure")

NETWORK = {
    "architecture": "attention",
    "geometry": Geometry(7 * u.arcmin, (178, 178)),
    "n_filters": 12,
    "learning_rate": 3e-3,
    "epochs": 20,
    "refuse": ("other_instrument",),
}
#: Inputs by name. What counts of an exposure are thinned to would belie the column ``exposure``.
INPUTS = {
    "xray": {"bands": ("xray",), "augmentation": ("flip", "rotate", "shift", "thin")},
    "optical": {"bands": ("optical",), "augmentation": ("flip", "rotate", "shift", "brightness")},
    "both": {
        "bands": ("xray", "optical"),
        "augmentation": ("flip", "rotate", "shift", "thin", "brightness", "blank"),
    },
    "fused": {
        "bands": ("xray", "optical"),
        "columns": COLUMNS,
        "augmentation": ("flip", "rotate", "shift", "brightness", "blank"),
    },
}
#: Classes rarer on the sky than this are trained on as if they had this share.
LEAST_FRACTION = 0.02
#: Bins of the scores: edges of EXT_LIKE are those of C2 and C1, of the redshift that of the two classes of clusters.
BINS = {"ext_like": (0, 15, 33, 100, np.inf), "redshift": (0, 0.1, 0.3, 0.6, np.inf)}
ORIGINS = ("simulated", "sky", "real", "injected")
DEEPEST = 3e4  # s; 1.5 times the longest exposure of training

DESCRIPTION = (
    "What an X-ray selected candidate is: cluster of galaxies at z below or above 0.3, nearby galaxy, point source or "
    "other, from an XMM-Newton EPIC counts image in 0.5 to 2 keV and a red photographic plate of the same 7 arcmin{}. "
    "to_binary makes cluster or not of it. Without a plate it judges by X-rays alone. Trained on simulated fields, not "
    "on observations."
)
LIMITS = [
    "Trained on candidates that the package's own detection finds in simulated fields, not on observations: the scores "
    "are those of such candidates, except where 'real' is written.",
    "X-ray images are counts of EPIC pn, alone or with MOS, in about 10 or 20 ks, 0.5 to 2 keV. Images of other "
    "telescopes, or of none that is named, are refused; another band or depth is answered with the flag other_band or "
    "other_exposure: do not trust these answers.",
    "Plates are simulated densities of a red Schmidt plate; a CCD survey or another scanner looks different.",
    "Probabilities are for the class fractions on this card, those of candidates in fields with the sky's densities; "
    "classify(population=...) gives those for others.",
]
log = logging.getLogger("train_cluster_xmm")


def rows_of(scores):
    """A SCORES table as plain rows for the card, three digits."""
    return [
        {name: str(row[name]) if name == "class" else round(float(row[name]), 3) for name in scores.colnames}
        for row in scores
    ]


def texts(sample, name):
    """A column of texts, empty where there is none."""
    if name not in sample.colnames:
        return np.full(len(sample), "", dtype="U1")
    return plain_column(sample[name]).astype(str)


def read(folder):
    """Rows of a sample that have a label and an image; paths are absolute."""
    sample = tables.read_sample(folder)
    usable = (texts(sample, "label") != "") & (texts(sample, "path") != "")
    if not usable.all():
        log.info("%d of %d rows have no label or no image and are left out", np.sum(~usable), len(usable))
    sample = sample[usable]
    sample["path"] = [str(path) for path in tables.image_paths(sample)]
    sample.meta = {key: value for key, value in sample.meta.items() if key != "folder"}
    return sample


def part_of(sample, split):
    """Rows of one split."""
    return sample[texts(sample, "split") == split]


def sky_fractions(sample):
    """Class fractions of the candidates to train on in fields with the sky's densities, and how many these are."""
    rows = (texts(sample, "origin") == "sky") & (texts(sample, "split") != "test")
    labels = texts(sample, "label")[rows]
    if not len(labels):
        raise ValueError("the sample must have candidates of origin 'sky', whose class fractions the model is for")
    fractions = np.array([np.mean(labels == name) for name in CANDIDATE.classes])
    floored = np.maximum(fractions, LEAST_FRACTION)
    return floored / floored.sum(), fractions, len(labels)


def fractions_for(scheme, fractions):
    """Fractions of the five classes, or of the two."""
    if scheme == CANDIDATE.name:
        return dict(zip(CANDIDATE.classes, map(float, fractions), strict=True))
    clusters = float(sum(fractions[CANDIDATE.index(name)] for name in ("low_z", "high_z")))
    return {"cluster": clusters, "other": 1 - clusters}


def weights_for(labels, fractions):
    """Weight of each class in the loss, so that the training images have the fractions of a population."""
    labels = np.asarray(labels).astype(str)
    return {name: fraction / max(np.mean(labels == name), 1e-9) for name, fraction in fractions.items()}


def labelled(sample, scheme):
    """A sample with the labels of a scheme."""
    return to_binary(sample) if scheme == CLUSTER.name else sample


def train(sample, work, *, inputs, schemes, seeds):
    """One network for each set of inputs, scheme and seed, in ``<work>/<scheme>-<inputs>-<seed>``."""
    fractions = sky_fractions(sample)[0]
    for scheme in schemes:
        rows = labelled(sample, scheme)
        training, validation = part_of(rows, "train"), part_of(rows, "validation")
        weights = weights_for(training["label"], fractions_for(scheme, fractions))
        for name in inputs:
            for seed in seeds:
                folder = work / f"{scheme}-{name}-{seed}"
                if folder.exists():
                    log.info("%s exists already", folder)
                    continue
                model = CutoutClassifier(
                    **NETWORK, **INPUTS[name], scheme=scheme, class_weight=weights, random_state=seed, verbose=True
                )
                model.fit(training, validation=validation, checkpoint=work / f".{folder.name}")
                model.save(folder)
                log.info("%s: loss %.4f", folder, loss_of(model.classify(validation, progress=False), weights))


def loss_of(predictions, weights):
    """Mean of -log p(true class), weighted by class; rows that failed count as equal probabilities."""
    classes = list(weights)
    p = np.stack([np.asarray(predictions[f"p_{name}"], dtype=float) for name in classes], axis=1)
    p = np.where(np.isfinite(p).all(axis=1)[:, None], p, 1 / len(classes))
    truth = np.array([classes.index(label) for label in predictions["label"]])
    each = -np.log(np.maximum(p[np.arange(len(p)), truth], 1e-12))
    return float(np.average(each, weights=np.array(list(weights.values()))[truth]))


def chosen(work, scheme, name, validation, weights):
    """The best seed of some inputs on the validation part, calibrated there, and a row for each seed."""
    rows, models = [], []
    for folder in sorted(work.glob(f"{scheme}-{name}-*")):
        model = load_classifier(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstroclassifyWarning)
            model.calibrate(validation)
        loss = loss_of(model.classify(validation, progress=False), weights)
        f1 = max(entry.get("validation_f1", 0) for entry in model.history_ if entry.get("best"))
        rows.append({"inputs": name, "scheme": scheme, "seed": int(model.random_state), "loss": round(loss, 4),
                     "f1": round(float(f1), 3)})  # fmt: skip
        models.append(model)
    if not rows:
        return None, []
    best = int(np.argmin([row["loss"] for row in rows]))
    rows[best]["chosen"] = True
    return models[best], rows


def without_optical(sample):
    """The candidates of a sample as Cutouts without a plate."""
    cutouts = [Cutout.read(path) for path in sample["path"]]
    return [Cutout(each.source_id, {"xray": each.bands["xray"]}) for each in cutouts]


def answers(model, sample, *, blind=False):
    """PREDICTIONS of two classes for a sample; ``blind``: without the plates."""
    if blind:
        table = model.classify(without_optical(sample), columns=sample if model.columns else None, progress=False)
        table["source_id"], table["label"], table["group_id"] = (
            texts(sample, name) for name in ("source_id", "label", "group_id")
        )
    else:
        table = model.classify(sample, progress=False)
    return table if get_scheme(model.scheme) == CLUSTER else to_binary(table)


def parts(sample):
    """Rows that are scored apart: name to boolean array."""
    x_class, origin = texts(sample, "x_class"), texts(sample, "origin")
    found = {}
    for name in ORIGINS:
        found[name] = origin == name
        found |= {f"{name}, {each}": (origin == name) & (x_class == each) for each in ("C1", "C2")}
    for name in ("real", "injected"):
        # Others get the flag other_exposure.
        shallow = tables.numbers(sample, "exposure", u.s) < DEEPEST
        found[f"{name}, as deep as in training"] = (origin == name) & shallow
    return found


def usable(predictions, rows):
    """Whether some rows hold both classes."""
    labels = texts(predictions, "label")[rows]
    return len(set(labels) - {""}) == 2


def summary(predictions, rows):
    """How many clusters and others some rows hold, and scores of the class cluster on these."""
    row = score(predictions[rows], rng=0)[0]
    names = ("accuracy", "precision", "recall", "auc")
    labels = texts(predictions, "label")[rows]
    counts = {"n_cluster": int(np.sum(labels == "cluster")), "n_other": int(np.sum(labels == "other"))}
    return counts | {name: spelled(row, name) for name in names}


def on_the_sky(predictions, rows):
    """What `list_classifiers` says of real candidates."""
    row, labels = score(predictions[rows], rng=0)[0], texts(predictions, "label")[rows]
    return (
        f"cluster or not among {np.sum(labels != '')} candidates in real XMM fields, {np.sum(labels == 'cluster')} of "
        f"them clusters, without plates: AUC {row['auc']:.2f} ({row['auc_lo']:.2f} to {row['auc_hi']:.2f}), recall "
        f"{row['recall']:.2f}, precision {row['precision']:.2f}"
    )


def spelled(row, name):
    """A score with its interval as text."""
    return f"{row[name]:.3f} ({row[f'{name}_lo']:.3f} to {row[f'{name}_hi']:.3f})"


def compare(test, network, others):
    """Network minus each other classifier on the same test rows, with paired intervals over fields."""
    found = []
    for part, rows in parts(test).items():
        if not usable(network, rows):
            continue
        for name, other in others.items():
            difference = score_difference(network[rows], other[rows], rng=0)[0]
            found.append(
                {"candidates": part, "against": name, "auc": spelled(difference, "auc"),
                 "accuracy": spelled(difference, "accuracy")}
            )  # fmt: skip
    return found


def bands_compared(test, others, packaged):
    """What the second band adds: the network of both bands, without columns, minus those of one."""
    networks = {name: others.get(f"network: {name}, {CANDIDATE.name}", packaged.get(name)) for name in INPUTS}
    single = {name: networks[name] for name in ("xray", "optical") if networks[name] is not None}
    return [] if networks["both"] is None else compare(test, networks["both"], single)


def by_bins(test, predictions):
    """
    Of the simulated candidates: scores by EXT_LIKE and exposure, and by redshift the share of clusters found; this also
    of the clusters put into real images, by depth.
    """
    found, simulated = [], texts(test, "origin") == "simulated"
    seconds, injected = tables.numbers(test, "exposure", u.s), texts(test, "origin") == "injected"
    for name, rows in (("up to 30 ks", seconds < DEEPEST), ("deeper", seconds >= DEEPEST)):
        rows = injected & rows & (texts(predictions, "label") == "cluster")
        if rows.any():
            share = np.mean(texts(predictions, "label_pred")[rows] == "cluster")
            found.append({"candidates": f"clusters put into real images, {name}", "n_cluster": int(rows.sum()),
                          "n_other": 0, "recall": f"{share:.3f}"})  # fmt: skip
    test, predictions = test[simulated], predictions[simulated]
    for column, edges in BINS.items():
        if column not in test.colnames:
            continue
        values = np.asarray(plain_column(test[column]), dtype=float)
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            rows = (values >= low) & (values < high)
            name = f"{column} {low:g} to {high:g}" if np.isfinite(high) else f"{column} from {low:g}"
            if column == "redshift":
                rows &= texts(predictions, "label") == "cluster"
                if rows.any():
                    share = np.mean(texts(predictions, "label_pred")[rows] == "cluster")
                    found.append({"candidates": f"clusters, {name}", "n_cluster": int(rows.sum()), "n_other": 0,
                                  "recall": f"{share:.3f}"})  # fmt: skip
            elif usable(predictions, rows):
                found.append({"candidates": name, **summary(predictions, rows)})
    exposure = np.round(tables.numbers(test, "exposure", u.s) / 1e3).astype(int)
    for value in sorted(set(exposure.tolist())):
        if usable(predictions, exposure == value):
            found.append({"candidates": f"exposure {value} ks", **summary(predictions, exposure == value)})
    return found


def calibration_error(predictions):
    """Expected calibration error, and what exact probabilities would have on the same rows."""
    row = expected_calibration_error(predictions, n_bootstrap=0, rng=0)[-1]
    return {key: round(float(row[key]), 4) for key in ("ece", "ece_exact") if key in row.colnames}


def catalogue_classifiers(training, fractions):
    """What the network has to beat, trained on the same candidates for the same class fractions."""
    weights = weights_for(training["label"], fractions)
    found = {}
    for name, columns, method in (
        ("EXT_LIKE alone", ("ext_like",), "logistic"),
        ("boosted trees, columns of the network", COLUMNS, "trees"),
        ("boosted trees, whole catalogue", CATALOGUE, "trees"),
    ):
        if set(columns) <= set(training.colnames):
            model = CatalogueClassifier(columns, method=method, scheme=CLUSTER, class_weight=weights, random_state=1)
            found[name] = model.fit(training)
    return found


def write(sample, work, out, *, settings, overwrite):
    """Choose, calibrate, score and write the model."""
    used, fractions, n_sky = sky_fractions(sample)
    seeds, models = [], {}
    for scheme in (CANDIDATE.name, CLUSTER.name):
        rows = labelled(sample, scheme)
        validation = part_of(rows, "validation")
        weights = weights_for(part_of(rows, "train")["label"], fractions_for(scheme, used))
        for name in INPUTS:
            model, tried = chosen(work, scheme, name, validation, weights)
            seeds += tried
            if model is not None:
                models[scheme, name] = model
    best = {(row["scheme"], row["inputs"]): row["loss"] for row in seeds if row.get("chosen")}
    able = [name for name in ("both", "fused") if (CANDIDATE.name, name) in models]
    if not able:
        raise ValueError(f"{work} must hold networks {CANDIDATE.name}-both-* or -fused-*, as 'train' makes them")
    winner = min(able, key=lambda name: best[CANDIDATE.name, name])
    model, test, training = models[CANDIDATE.name, winner], part_of(sample, "test"), part_of(sample, "train")
    binary_test = to_binary(test)

    rows = parts(test)
    five = model.classify(test, progress=False)
    predictions = to_binary(five)
    others = {f"network: {name}, {scheme}": answers(each, labelled(test, scheme))
              for (scheme, name), each in models.items() if each is not model}  # fmt: skip
    baselines = catalogue_classifiers(to_binary(training), fractions_for(CLUSTER.name, used))
    others |= {name: each.classify(binary_test) for name, each in baselines.items()}
    blind = answers(model, test, blind=True)

    everyone = {f"this model ({winner})": predictions, "this model without plates": blind, **others}
    if model.columns:
        images = test[[name for name in test.colnames if name not in model.columns]]
        everyone["this model without the catalogue"] = answers(model, images)
    model.card_ = {
        "name": NAME,
        "description": DESCRIPTION.format(f"; and {', '.join(COLUMNS)}" if model.columns else ""),
        "trained_on": {
            **{
                role: {
                    "fields": len(set(texts(part, "group_id"))),
                    "images": len(part),
                    "class_counts": {name: int(np.sum(texts(part, "label") == name)) for name in CANDIDATE.classes},
                }
                for role in ("train", "validation", "test")
                for part in [part_of(sample, role)]
            },
            "made with": settings,
            "script": "tools/train_cluster_xmm.py",
        },
        "class_fractions": {
            "probabilities are for": fractions_for(CANDIDATE.name, np.round(used, 4)),
            "measured on": f"{n_sky} candidates of simulated fields with the sky's densities",
            "at least": LEAST_FRACTION,
        },
        "seeds": seeds,
        "intervals": "95% by bootstrap over fields, paired where two classifiers are compared",
        "scores": rows_of(score(five[rows["simulated"]], rng=0)),
        "scores_on_the_sky": rows_of(score(five[rows["sky"]], rng=0)),
        **({"real_sky": on_the_sky(predictions, rows["real"])} if usable(predictions, rows["real"]) else {}),
        "cluster_or_not": [
            {"classifier": name, "candidates": part, **summary(table, members)}
            for part, members in rows.items()
            if usable(predictions, members)
            for name, table in everyone.items()
        ],
        "this_model_minus_others": compare(test, predictions, {**others, "this model without plates": blind}),
        "both_bands_minus_one": bands_compared(test, others, {winner: predictions}),
        "by_bins": by_bins(test, predictions),
        "calibration": {
            "temperature": round(model.temperature_, 3),
            "sky, five classes": calibration_error(five[rows["sky"]]),
            "sky, cluster or not": calibration_error(predictions[rows["sky"]]),
            "sky, cluster or not, without plates": calibration_error(blind[rows["sky"]]),
        },
        "limits": LIMITS,
    }
    folder = model.save(out, overwrite=overwrite)
    for row in model.card_["cluster_or_not"] + model.card_["this_model_minus_others"]:
        log.info("%s", row)
    entry = {
        "fractions": fractions_for(CANDIDATE.name, np.round(used, 4)),
        "description": "candidates of the package's detection in simulated XMM fields with the sky's densities",
        "source": f"tools/make_candidates.py: {n_sky} candidates, fractions {np.round(fractions, 4).tolist()}",
    }
    log.info("for populations.json, scheme %r, %r: %s", CANDIDATE.name, POPULATION, json.dumps(entry))
    return folder


def main(argv=None):
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("train", help="train networks")
    first.add_argument("--inputs", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    first.add_argument("--schemes", nargs="+", choices=(CANDIDATE.name, CLUSTER.name), default=(CANDIDATE.name,))
    first.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    second = commands.add_parser("write", help="choose, calibrate, score and write the model")
    for command in (first, second):
        command.add_argument("sample", help="sample folder")
        command.add_argument("work", type=Path, help="folder of the trained networks")
    second.add_argument("out", help="model folder to write")
    second.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    sample = read(arguments.sample)
    if arguments.command == "train":
        train(sample, arguments.work, inputs=arguments.inputs, schemes=arguments.schemes, seeds=arguments.seeds)
        return 0
    settings = {path.parent.name: json.loads(path.read_text(encoding="utf-8"))
                for path in sorted(Path(arguments.sample).glob("*/survey.json"))}  # fmt: skip
    folder = write(sample, arguments.work, arguments.out, settings=settings, overwrite=arguments.overwrite)
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
