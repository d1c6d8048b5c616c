"""What ``astroclassify demo`` does: the whole of data flow A on a few embedded clusters."""

import logging
import sys
import tempfile
from pathlib import Path

from astropy.table import vstack

from . import plots, tables
from .exceptions import OutputError
from .schemes import COOL_CORE, ClassScheme

__all__ = ["run_demo", "score_all"]

log = logging.getLogger(__name__)

MODEL = "coolcore-embedded"
MAX_CELLS = 60_000


def run_demo(out, *, n_halos, seed, executor=None):
    """
    Make embedded clusters, observe, label and classify them; write tables and figures.

    Parameters
    ----------
    out : str or path-like
        Folder to make; it must not exist or be empty.
    n_halos : int
        How many clusters.
    seed : int
        Seed of everything. The packaged model was trained on clusters of other seeds.
    executor : `~concurrent.futures.Executor`, optional
        Where mock images are made.

    Returns
    -------
    `~astropy.table.QTable`
        The scores of all methods.

    Raises
    ------
    OutputError
        If the folder holds something already or cannot be made.
    """
    from .nn import load_classifier
    from .sim import Observation, make_mocks, open_snapshot, write_embedded_snapshot

    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise OutputError(f"--out {str(out)!r} holds something already; choose another folder")
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"--out: cannot write in {str(out)!r}: {error.strerror}") from error
    classifier = load_classifier(MODEL)
    _say(f"1/4 {n_halos} synthetic clusters in the format of TNG snapshots (synthetic, not IllustrisTNG)")
    base_path = write_embedded_snapshot(out / "snapshot", n_halos=n_halos, rng=seed, max_cells=MAX_CELLS)
    snapshot = open_snapshot(base_path)
    _say("2/4 mock Chandra ACIS-I images along x, y, z, with labels from the central cooling time")
    sample = make_mocks(
        snapshot, snapshot.select_halos(), observation=Observation(), out=out / "sample", executor=executor, rng=seed
    )
    _say(f"3/4 classes from the packaged model {MODEL}")
    predictions = classifier.classify(sample, progress=True)
    tables.write(predictions, out / "predictions.ecsv")
    scores, by_method = score_all(sample, {MODEL: predictions})
    tables.write(scores, out / "scores.ecsv")
    _say("4/4 figures")
    figures = {
        "images": plots.plot_images(sample, predictions),
        "confusion": plots.plot_confusion(predictions, title=MODEL),
        "population": plots.plot_population(sample),
        "scores": plots.plot_scores(by_method),
    }
    for name, figure in figures.items():
        tables.write_beside(out / f"{name}.png", lambda path, figure=figure: figure.savefig(path, dpi=110))
    _print(predictions["source_id", "label", "label_pred", *_probabilities(predictions), "flags"])
    _print(scores["method", "class", "precision", "recall", "f1", "f1_lo", "f1_hi", "bacc"])
    names = ", ".join(f"{name}.png" for name in figures)
    _say(
        f"done: {out}/ holds predictions.ecsv, scores.ecsv, {names}, sample/, snapshot/\n"
        "These are synthetic clusters: the scores say how the pieces work together, nothing about TNG or the sky."
    )
    return scores


def score_all(sample, predictions):
    """
    Score predictions beside the conventional measures that the sample has.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table with labels.
    predictions : dict
        Name of the method -> PREDICTIONS of the sample.

    Returns
    -------
    scores : `~astropy.table.QTable`
        SCORES of all methods one under another, with a first column ``method``.
    by_method : dict
        Name of the method -> its SCORES.
    """
    from .nn import classify_conventional, score

    scheme = ClassScheme.from_dict(dict(next(iter(predictions.values())).meta["scheme"]))
    if scheme == COOL_CORE:
        predictions = predictions | classify_conventional(sample)
    by_method = {name: score(table, rng=0) for name, table in predictions.items()}
    rows = []
    for name, table in by_method.items():
        table = table.copy()
        table.add_column([name] * len(table), name="method", index=0)
        rows.append(table)
    scores = vstack(rows, metadata_conflicts="silent")
    scores.meta = tables.provenance(scheme=scheme.to_dict())
    return scores, by_method


def _probabilities(predictions):
    return [name for name in predictions.colnames if name.startswith("p_")]


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _print(table):
    table = table.copy()
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".3f"
    print("\n".join(table.pformat(max_lines=-1, max_width=-1)), end="\n\n")
