"""Data flow A from end to end on a few embedded clusters: halos, mock images, predictions, scores, figures."""

import logging
import tempfile
from pathlib import Path

from astropy.table import vstack

from astroclassify import plots, tables
from astroclassify.exceptions import ArgumentError, OutputError
from astroclassify.schemes import COOL_CORE, ClassScheme

__all__ = ["run_demo", "score_all"]

log = logging.getLogger(__name__)

MODEL = "coolcore"
MAX_CELLS = 60_000


def run_demo(out, *, n_halos, seed, executor=None):
    """
    Make embedded clusters, observe, label and classify them; write tables and figures.

    Parameters
    ----------
    out : str or path-like
        Folder to make; it must be empty if it exists.
    n_halos : int
        How many clusters.
    seed : int
        Seed of clusters and images. The packaged model was trained on clusters of other seeds.
    executor : `~concurrent.futures.Executor`, optional
        Where mock images are made.

    Returns
    -------
    predictions, scores : `~astropy.table.QTable`
        PREDICTIONS of the packaged model, and SCORES of all methods (`score_all`).

    Raises
    ------
    OutputError
        If the folder is not empty or cannot be written.
    """
    from astroclassify.nn import load_classifier
    from astroclassify.sim import EmbeddedPopulation, Observation, make_mocks

    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise OutputError(f"out: cannot write in {str(out)!r}: {error.strerror}") from error
    if any(out.iterdir()):
        raise OutputError(f"out: {str(out)!r} is not empty; choose another folder")
    classifier = load_classifier(MODEL)
    log.info("1/4 %d synthetic clusters (not IllustrisTNG)", n_halos)
    population = EmbeddedPopulation(n_halos, rng=seed, max_cells=MAX_CELLS)
    log.info("2/4 mock Chandra ACIS-I images along x, y, z, with labels from the central cooling time")
    sample = make_mocks(
        population,
        population.select_halos(),
        observation=Observation(),
        out=out / "sample",
        executor=executor,
        rng=seed,
    )
    log.info("3/4 classes from the packaged model %s", MODEL)
    predictions = classifier.classify(sample, progress=True)
    tables.write(predictions, out / "predictions.ecsv")
    scores, by_method = score_all(sample, {MODEL: predictions})
    tables.write(scores, out / "scores.ecsv")
    log.info("4/4 figures")
    figures = {
        "images": plots.plot_images(sample, predictions),
        "confusion": plots.plot_confusion(predictions, title=MODEL),
        "population": plots.plot_population(sample),
        "scores": plots.plot_scores(by_method),
    }
    for name, figure in figures.items():
        tables.write_beside(out / f"{name}.png", lambda path, figure=figure: figure.savefig(path, dpi=110))
    names = ", ".join(f"{name}.png" for name in figures)
    log.info("done: %s/ holds predictions.ecsv, scores.ecsv, %s, sample/", out, names)
    log.info("These are synthetic clusters: the scores show that the steps work together, nothing about TNG or the sky")
    return predictions, scores


def score_all(sample, predictions):
    """
    Score predictions and, for the cool-core scheme, the conventional measures of the same sample.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A labelled SAMPLE table; ``n_e``, ``c_sb`` and ``t_cool`` are the conventional measures.
    predictions : dict
        Name of a method -> its PREDICTIONS of the sample.

    Returns
    -------
    scores : `~astropy.table.QTable`
        SCORES of all methods, stacked, with a first column ``method``.
    by_method : dict
        Name of a method -> its SCORES, as `~astroclassify.plots.plot_scores` takes them.

    Raises
    ------
    ValueError
        If ``predictions`` is empty or has no labels to compare with.
    """
    if not predictions:
        raise ArgumentError("predictions must hold at least one method, got none")
    from astroclassify.nn import classify_conventional, score

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
