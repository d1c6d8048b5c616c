"""The ``astroclassify`` command: thin verbs over the public functions."""

import argparse
import json
import logging
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

from astropy import units as u

from . import __version__, tables
from ._cli_people import add_inspect
from ._cli_survey import add_cutouts, add_detect, annotated, catalogue_of
from ._cli_tools import add_verb, check_free, check_tables, count, executor_of, position_of, show
from ._cli_votes import add_votes
from .exceptions import AstroclassifyError, OutputError
from .schemes import Flag, flag_names

__all__ = ["main"]

# What users' input can cause. Anything else is a fault of the package and keeps its traceback.
_USER_ERRORS = (AstroclassifyError, ValueError, TypeError, OSError)


def main(argv=None):
    """
    Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit status: 0, or 2 after one line on standard error for bad input.

    Examples
    --------
    >>> from astroclassify.cli import main
    >>> main(["models"])  # doctest: +SKIP
    0
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.captureWarnings(True)
    try:
        arguments.run(arguments)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone (astroclassify ... | head): nothing to tell
        return 0
    except BrokenExecutor:
        return _fail("a worker process was killed (out of memory?); the same command goes on where it stopped")
    except _USER_ERRORS as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail("interrupted")
    return 0


def _fail(error):
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"astroclassify: error: {text}", file=sys.stderr)
    return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="astroclassify", description="Machine-learning classification of galaxy clusters from X-ray images."
    )
    parser.add_argument("--version", action="version", version=f"astroclassify {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for add in (_add_demo, _add_simulate, _add_train, _add_evaluate, _add_reproduce, _add_classify, _add_models):
        add(verbs)
    for add in (add_detect, add_cutouts, add_votes, add_inspect):
        add(verbs)
    return parser


def _add_demo(verbs):
    parser = add_verb(
        verbs, "demo", _demo, "embedded clusters to mock images, labels, predictions, scores and figures, offline"
    )
    parser.add_argument("--out", default="astroclassify-demo", help="folder to make (default: %(default)s)")
    parser.add_argument("--n-halos", type=count, default=12, help="clusters to simulate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2026, help="seed (default: %(default)s)")
    parser.add_argument("--workers", type=count, default=2, help="processes (default: %(default)s)")


def _add_simulate(verbs):
    parser = add_verb(verbs, "simulate", _simulate, "labelled mock images of the halos of a TNG-like snapshot")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--base-path", help="simulation output folder, as illustris_python takes it")
    source.add_argument("--embedded", type=count, metavar="N", help="make N synthetic clusters first, in OUT-snapshot")
    parser.add_argument("--snapshot", type=int, default=99, help="snapshot number (default: %(default)s)")
    parser.add_argument("--m500-min", type=float, default=10**13.75, help="least M500 in Msun (default: %(default).4g)")
    parser.add_argument("--axes", default="xyz", help="lines of sight (default: %(default)s)")
    parser.add_argument("--redshift", type=float, default=0.05, help="redshift of the halos (default: %(default)s)")
    parser.add_argument("--exposure", type=float, default=100.0, help="exposure in ks (default: %(default)s)")
    parser.add_argument("--response", default="acis-i-cycle0", help="effective area (default: %(default)s)")
    parser.add_argument(
        "--engine",
        choices=("pyxsim", "direct"),
        default="pyxsim",
        help="photons drawn by pyXSIM, or counts drawn from the cells' expectation, much faster (default: %(default)s)",
    )
    parser.add_argument(
        "--acis-i", action="store_true", help="chips, vignetting, growing PSF, ACIS-I background and point sources"
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="draw settings for each image: redshift, exposure (ks) and n_h (cm-2), evenly in their logarithm, "
        "e.g. redshift=0.03:0.1; offset=R points up to R arcmin away, roll=yes turns the detector (both with --acis-i)",
    )
    parser.add_argument("--measures", action="store_true", help="also measure entropy, morphology ... of each image")
    parser.add_argument(
        "--max-cells", type=count, default=100_000, help="cells of an embedded cluster (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default: %(default)s)")
    parser.add_argument("--workers", type=count, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", required=True, help="sample folder; a run that was stopped goes on there")


def _add_network_options(parser):
    parser.add_argument("--architecture", default="resnet18", help="network (default: %(default)s)")
    parser.add_argument("--n-filters", type=count, default=64, help="filters of the first stage (default: %(default)s)")
    parser.add_argument("--epochs", type=count, default=30, help="most epochs (default: %(default)s)")
    parser.add_argument("--batch-size", type=count, default=32, help="images in a batch (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default: %(default)s)")


def _add_train(verbs):
    parser = add_verb(verbs, "train", _train, "train a network on a sample folder and save it as a model folder")
    parser.add_argument("sample", help="sample folder")
    _add_network_options(parser)
    parser.add_argument("--out", required=True, help="model folder to make")


def _add_evaluate(verbs):
    parser = add_verb(
        verbs, "evaluate", _evaluate, "scores of a model, or of a network in group-wise cross-validation, on a sample"
    )
    parser.add_argument("sample", help="sample folder with labels")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--model", help="packaged model or model folder")
    how.add_argument("--folds", type=count, help="train anew in so many folds")
    _add_network_options(parser)
    parser.add_argument("--workers", type=count, default=1, help="processes for the folds (default: %(default)s)")
    parser.add_argument("--predictions", help="also write the predictions here")
    parser.add_argument("--out", help="scores table (default: standard output)")


def _add_reproduce(verbs):
    parser = add_verb(
        verbs, "reproduce", _reproduce, "tables of a paper by its protocol on a sample, the printed numbers beside"
    )
    parser.add_argument("paper", choices=("su2020", "kosiba2020"), help="whose tables")
    parser.add_argument("sample", help="sample folder; for kosiba2020 also the public archive, unpacked")
    parser.add_argument(
        "--rows", nargs="+", action="extend", help="rows of the tables (default: all; a wrong name lists them)"
    )
    parser.add_argument("--runs", type=count, default=10, help="folds, or seeds (default: %(default)s)")
    parser.add_argument("--pixels", type=count, help="side of the grid (default: as in the paper)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings of CutoutClassifier that are to differ from the paper's, e.g. epochs=20 iterations=null",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default: %(default)s)")
    parser.add_argument("--workers", type=count, default=1, help="processes for the trainings (default: %(default)s)")
    parser.add_argument("--out", required=True, help="folder of predictions and tables; finished rows are kept")


def _add_classify(verbs):
    parser = add_verb(verbs, "classify", _classify, "class probabilities of FITS images or of a folder")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="FITS images, or one folder of them")
    parser.add_argument("--model", required=True, help="packaged model (see 'astroclassify models') or model folder")
    parser.add_argument("--redshift", type=float, help="redshift of the source (default: header keyword REDSHIFT)")
    parser.add_argument(
        "--position", help="centre of the source, 'RA DEC' in degrees or sexagesimal (default: the middle of the image)"
    )
    parser.add_argument("--exposure-map", help="exposure map of the image, same pixels (for one image)")
    parser.add_argument("--annotate", metavar="CATALOGUE", help="catalogue that the output repeats, predictions beside")
    parser.add_argument("--out", help="table (default: standard output)")


def _add_models(verbs):
    add_verb(verbs, "models", _models, "list the packaged models")


def _demo(arguments):
    from ._demo import run_demo

    with executor_of(arguments.workers) as executor:
        run_demo(arguments.out, n_halos=arguments.n_halos, seed=arguments.seed, executor=executor)


def _simulate(arguments):
    from .sim import Observation, make_mocks, open_snapshot, write_embedded_snapshot

    make = Observation.acis_i if arguments.acis_i else Observation
    observation = make(
        redshift=arguments.redshift, exposure=arguments.exposure * u.ks, response=arguments.response
    )
    if arguments.vary:
        observation = _sampler(observation, arguments.vary)
    base_path = arguments.base_path
    if arguments.embedded:
        folder = Path(f"{arguments.out}-snapshot")
        base_path = folder / "output"
        if not base_path.exists():
            write_embedded_snapshot(
                folder, n_halos=arguments.embedded, rng=arguments.seed, max_cells=arguments.max_cells
            )
        elif (found := len(tables.read(folder / "embedded_truth.ecsv"))) != arguments.embedded:
            raise OutputError(f"{str(folder)!r} holds {found} clusters, not {arguments.embedded}: choose another --out")
    logging.getLogger("astroclassify.sim").setLevel(logging.INFO)  # the summary at the end
    snapshot = open_snapshot(base_path, snapshot=arguments.snapshot)
    halos = snapshot.select_halos(m_500_min=arguments.m500_min * u.Msun)
    with executor_of(arguments.workers) as executor:
        sample = make_mocks(
            snapshot,
            halos,
            observation=observation,
            axes=arguments.axes,
            out=arguments.out,
            engine=arguments.engine,
            executor=executor,
            rng=arguments.seed,
            measures=arguments.measures,
        )
    failed = sample[(sample["flags"] & Flag.FAILED.value) != 0]
    if len(failed):
        raise AstroclassifyError(
            f"{len(failed)} of {len(sample)} images failed ({failed['message'][0]}); their rows in {arguments.out} say "
            "why, and the same command tries them again"
        )


def _sampler(observation, texts):
    """The distributions of ``--vary``, from texts like ``redshift=0.03:0.1``."""
    from .sim import ObservationSampler

    units = {"redshift": 1, "exposure": u.ks, "n_h": u.cm**-2}
    settings = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            if name in units:
                low, high = (float(part) for part in value.split(":"))
                settings[name] = (low, high) if name == "redshift" else (low, high) * units[name]
            elif name == "offset":
                settings[name] = float(value) * u.arcmin
            elif name == "roll" and value in ("yes", "no"):
                settings[name] = value == "yes"
            else:
                raise ValueError
        except ValueError:
            raise ValueError(
                "--vary takes redshift=LOW:HIGH, exposure=LOW:HIGH, n_h=LOW:HIGH, offset=R, roll=yes or no, "
                f"got {text!r}"
            ) from None
    return ObservationSampler(observation, **settings)


def _network(arguments):
    from .nn import CutoutClassifier

    return CutoutClassifier(
        arguments.architecture,
        n_filters=arguments.n_filters,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        random_state=arguments.seed,
        verbose=True,
    )


def _train(arguments):
    check_free(out=arguments.out)
    sample = tables.read_sample(arguments.sample)
    _network(arguments).fit(sample).save(arguments.out)


def _evaluate(arguments):
    from ._demo import score_all
    from .nn import cross_validate, load_classifier

    check_tables(out=arguments.out, predictions=arguments.predictions)
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
        tables.write(predictions, arguments.predictions)
    show(score_all(sample, {name: predictions})[0], arguments.out)


def _reproduce(arguments):
    from ._reproduce import reproduce

    changes = {}
    for text in arguments.set:
        name, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
        try:
            value = json.loads(value)
        except ValueError:
            pass  # a word, which need not be quoted
        changes[name] = tuple(value) if isinstance(value, list) else value
    logging.getLogger("astroclassify._reproduce").setLevel(logging.INFO)  # which row is trained
    with executor_of(arguments.workers) as executor:
        tables_of = reproduce(
            arguments.paper,
            arguments.sample,
            arguments.out,
            rows=arguments.rows,
            n_runs=arguments.runs,
            pixels=arguments.pixels,
            changes=changes,
            seed=arguments.seed,
            executor=executor,
        )
    for table in tables_of.values():
        table.write(sys.stdout, format="ascii.ecsv")


def _classify(arguments):
    from .nn import load_classifier

    check_tables(out=arguments.out)
    catalogue = None if arguments.annotate is None else catalogue_of(arguments.annotate)
    centre = None if arguments.position is None else position_of(arguments.position)
    classifier = load_classifier(arguments.model)
    images = arguments.images
    if len(images) > 1 and (centre is not None or arguments.exposure_map):
        raise ValueError("--position and --exposure-map go with one image")
    if len(images) == 1:
        predictions = _classify_one(classifier, images[0], arguments, centre)
    else:
        predictions = classifier.classify(images, redshift=arguments.redshift, progress=True)
    for row in predictions:
        named = ", ".join(flag_names(row["flags"])) or "none"
        reason = f" ({row['message']})" if row["message"] else ""
        print(f"{row['source_id']}: flags: {named}{reason}", file=sys.stderr)
    if catalogue is not None:
        predictions = annotated(catalogue, predictions)
    show(predictions, arguments.out)


def _classify_one(classifier, path, arguments, centre):
    """Classify one image, whose fault is then the fault of the command, or one folder."""
    from .images import read_image

    if Path(path).is_dir():
        return classifier.classify(path, redshift=arguments.redshift, progress=True)
    image = path
    if arguments.exposure_map:
        image = read_image(path, exposure=arguments.exposure_map)
        image.meta["HALO_ID"] = image.meta["OBJECT"] = Path(path).name.split(".")[0]  # as without an exposure map
    try:
        return classifier.classify(image, redshift=arguments.redshift, centre=centre)
    except AstroclassifyError as error:
        text = str(error)
        raise AstroclassifyError(text if path in text else f"{path}: {text}") from error


def _models(arguments):
    from .nn import list_classifiers

    show(list_classifiers(), None)
