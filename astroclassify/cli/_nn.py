"""Verbs of classifiers: train, evaluate, classify and models."""

import logging
import shutil
import sys
from pathlib import Path

import numpy as np

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError, SchemaError
from astroclassify.images._open import open_fits
from astroclassify.schemes import CANDIDATE, flag_names

from ._tools import (
    add_overwrite,
    add_seed,
    add_verb,
    add_workers,
    check_free,
    check_tables,
    count,
    emit,
    executor_of,
    failure_status,
    flag_counts,
    position_of,
    show,
)

__all__ = ["add_classify", "add_evaluate", "add_models", "add_train"]

# The flags of so many images are listed one by one, those of more are counted.
_LISTED = 20


def _add_network_options(parser):
    parser.add_argument("--architecture", default="resnet18", help="network (default: %(default)s)")
    parser.add_argument("--n-filters", type=count, default=64, help="filters of the first stage (default: %(default)s)")
    parser.add_argument("--epochs", type=count, default=30, help="largest number of epochs (default: %(default)s)")
    parser.add_argument("--batch-size", type=count, default=32, help="images in a batch (default: %(default)s)")
    add_seed(parser)


def add_train(verbs):
    """Add the verb ``train``."""
    parser = add_verb(verbs, "train", _train, "train a network on a sample folder and save it as a model folder")
    parser.add_argument("sample", help="sample folder")
    _add_network_options(parser)
    parser.add_argument("--out", required=True, help="model folder to make")
    parser.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        help="where the state of the training is kept, from which the same command goes on (default: OUT.checkpoint, "
        "removed at the end)",
    )
    add_overwrite(parser)


def add_evaluate(verbs):
    """Add the verb ``evaluate``."""
    parser = add_verb(
        verbs, "evaluate", _evaluate, "scores of a model, or of a network in group-wise cross-validation, on a sample"
    )
    parser.add_argument("sample", help="sample folder with labels")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--model", help="packaged model or model folder")
    how.add_argument("--folds", type=count, help="train again in this many folds")
    _add_network_options(parser)
    add_workers(parser, "the folds")
    parser.add_argument("--predictions", help="also write the predictions here")
    parser.add_argument("--out", help="scores table (default: standard output)")
    add_overwrite(parser)


def add_classify(verbs):
    """Add the verb ``classify``."""
    parser = add_verb(verbs, "classify", _classify, "class probabilities of FITS images or of a folder")
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="FITS images, or one folder of them (or a sample folder; folders in it are not searched)",
    )
    parser.add_argument("--model", required=True, help="packaged model (see 'astroclassify models') or model folder")
    parser.add_argument(
        "--redshift",
        metavar="Z",
        help="redshift of the sources: a number, or CATALOGUE:COLUMN, whose source_id are the names of the files or of "
        "the sources of a sample (default, also for images that are not in it: header keyword REDSHIFT)",
    )
    parser.add_argument(
        "--position", help="centre of the source, 'RA DEC' in degrees or sexagesimal (default: the middle of the image)"
    )
    parser.add_argument("--exposure-map", help="exposure map of the image, same pixels (for one image)")
    parser.add_argument(
        "--binary", action="store_true", help="of a model of candidates' five classes: cluster or other"
    )
    parser.add_argument("--annotate", metavar="CATALOGUE", help="catalogue to which the predictions are added")
    parser.add_argument(
        "--out",
        help="table (default: standard output); rows of several images are kept in OUT.part until it is there, and the "
        "same command goes on from them",
    )
    add_overwrite(parser)


def add_models(verbs):
    """Add the verb ``models``."""
    add_verb(verbs, "models", _models, "list the packaged models")


def _network(arguments):
    from astroclassify.nn import CutoutClassifier

    return CutoutClassifier(
        arguments.architecture,
        n_filters=arguments.n_filters,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        random_state=arguments.seed,
        verbose=True,
    )


def _train(arguments):
    from astroclassify.nn import load_classifier

    check_free(out=arguments.out, overwrite=arguments.overwrite)
    if Path(arguments.out).exists():  # try to replace it, by what it holds: only a model can be, and nothing beside it
        load_classifier(arguments.out).save(arguments.out, overwrite=True)
    sample = tables.read_sample(arguments.sample)
    checkpoint = Path(arguments.checkpoint or f"{arguments.out}.checkpoint")
    if checkpoint.is_dir() and any(checkpoint.iterdir()):
        print(f"going on from the checkpoint in {checkpoint}", file=sys.stderr)
    try:
        _network(arguments).fit(sample, checkpoint=checkpoint).save(arguments.out, overwrite=arguments.overwrite)
    except KeyboardInterrupt:
        arguments.resumes = checkpoint.is_dir() and any(checkpoint.iterdir())
        raise
    if arguments.checkpoint is None:
        shutil.rmtree(checkpoint)


def _evaluate(arguments):
    from astroclassify.nn import cross_validate, load_classifier
    from astroclassify.workflows import score_all

    check_tables(out=arguments.out, predictions=arguments.predictions, overwrite=arguments.overwrite)
    sample = tables.read_sample(arguments.sample)
    if arguments.model:
        name, predictions = arguments.model, load_classifier(arguments.model).classify(sample, progress=True)
    else:
        name = f"{arguments.architecture}, {arguments.folds} folds"
        with executor_of(arguments.workers) as executor:
            predictions = cross_validate(
                sample,
                _network(arguments),
                n_folds=arguments.folds,
                rng=arguments.seed,
                executor=executor,
                progress=True,
            )
    if arguments.predictions:
        tables.write(predictions, arguments.predictions, overwrite=arguments.overwrite)
    scores = score_all(sample, {name: predictions})[0]
    show(scores, arguments.out, overwrite=arguments.overwrite)
    return failure_status(predictions, "images")


def _classify(arguments):
    from astroclassify.nn import load_classifier
    from astroclassify.samples import to_binary
    from astroclassify.survey import annotate, read_catalogue

    check_tables(out=arguments.out, overwrite=arguments.overwrite)
    catalogue = None if arguments.annotate is None else read_catalogue(arguments.annotate)
    centre = None if arguments.position is None else position_of(arguments.position)
    redshift = None if arguments.redshift is None else _redshift_of(arguments.redshift)
    classifier = load_classifier(arguments.model)
    if arguments.binary and classifier.scheme != CANDIDATE:
        raise ValueError(f"--binary is for models of the scheme {CANDIDATE.name!r}, got {classifier.scheme.name!r}")
    images = arguments.images
    _check_bands(classifier, arguments)
    if len(images) > 1 and (centre is not None or arguments.exposure_map):
        raise ValueError("--position and --exposure-map go with one image")
    part = None
    if len(images) == 1 and not Path(images[0]).is_dir():
        predictions = _classify_one(classifier, images[0], arguments, redshift, centre)
    else:
        part = None if arguments.out is None else Path(f"{arguments.out}.part")
        arguments.resumes = part is not None
        logging.getLogger("astroclassify.nn.models").setLevel(logging.INFO)  # how many rows were there
        images = images[0] if len(images) == 1 else images
        predictions = classifier.classify(images, redshift=redshift, progress=True, checkpoint=part)
    _say_flags(predictions)
    predictions = to_binary(predictions) if arguments.binary else predictions
    table = predictions if catalogue is None else annotate(catalogue, predictions)
    show(table, arguments.out, tables.main_columns(predictions), overwrite=arguments.overwrite)
    if part is not None:
        part.unlink(missing_ok=True)
    return failure_status(predictions, "images")


def _check_bands(classifier, arguments):
    """Refuse images of which none has all bands that the model needs, before work begins."""
    wanted, images = classifier.predictor_.needed, arguments.images
    if len(wanted) == 1:
        return
    if len(images) == 1 and (folder := Path(images[0])).is_dir():
        is_sample = (folder / tables.SAMPLE_FILE).is_file()
        images = tables.image_paths(tables.read_sample(folder)) if is_sample else sorted(folder.iterdir())
    found = set()
    for path in images:
        bands = _bands_of(path)
        if set(wanted) <= bands:
            return
        found |= bands
    if found:
        raise ValueError(
            f"{arguments.model} needs {' and '.join(wanted)}, here is {' or '.join(sorted(found))} only (files: "
            f"{len(images)}): make cutouts with plates (astroclassify cutouts with --optical, --hips or --skyview, "
            "and another --out), or choose a model of one band (astroclassify models)"
        )


def _bands_of(path):
    """Bands of a cutout, of another image X-rays alone, of a file that cannot be read (its row will say so) none."""
    try:
        with open_fits(path) as hdus:
            return set(str(hdus[0].header.get("BANDS", "xray")).split(","))
    except (AstroclassifyError, OSError):
        return set()


def _redshift_of(text):
    """The number of ``--redshift``, or redshift by source_id from a column of a catalogue."""
    from astroclassify.survey import read_catalogue

    try:
        return float(text)
    except ValueError:
        path, _, column = text.rpartition(":")
    if not path:
        raise ValueError(f"--redshift must be a number or CATALOGUE:COLUMN, got {text!r}")
    catalogue = read_catalogue(path)
    if column not in catalogue.colnames:
        raise SchemaError(f"--redshift: {path!r} has no column {column!r}, only {catalogue.colnames}")
    values = tables.plain_column(catalogue[column])
    if getattr(values, "dtype", np.dtype("O")).kind not in "fiu":
        raise SchemaError(f"--redshift: column {column!r} of {path!r} must hold numbers")
    return dict(zip(catalogue["source_id"].tolist(), values, strict=True))


def _classify_one(classifier, path, arguments, redshift, centre):
    """Classify one image, whose errors are those of the command."""
    from astroclassify.images import read_image

    image = path
    if arguments.exposure_map:
        image = read_image(path, exposure=arguments.exposure_map)
        image.meta["HALO_ID"] = image.meta["OBJECT"] = Path(path).name.split(".")[0]  # as without an exposure map
    try:
        return classifier.classify(image, redshift=redshift, centre=centre)
    except AstroclassifyError as error:
        text = str(error)
        raise AstroclassifyError(text if path in text else f"{path}: {text}") from error


def _say_flags(predictions):
    """Print the flags of each image, or how many have each flag."""
    if len(predictions) > _LISTED:
        print(f"{len(predictions)} images, flags: {flag_counts(predictions)}", file=sys.stderr)
        return
    for row in predictions:
        named = ", ".join(flag_names(row["flags"])) or "none"
        reason = f" ({row['message']})" if row["message"] else ""
        print(f"{row['source_id']}: flags: {named}{reason}", file=sys.stderr)


def _models(arguments):
    from astroclassify.nn import list_classifiers

    emit(str(list_classifiers()))
