"""
Tables and figures of the docs on classified candidates: rows of Kosiba et al. (2020), and what a survey gains.

``python benchmarks/candidates.py SAMPLE OUT`` takes a sample of candidates with the columns of CANDIDATES and ``split``
(train, validation, test), as ``tools/make_candidates.py`` writes it, and trains the rows of the paper's tables with
settings that fit into minutes (``astroclassify reproduce`` with the changes below; finished rows are kept). With
``--model FOLDER`` also what the card of a trained model says of its test candidates. With ``--sky FOLDER --area DEG2``
the clusters per square degree that it adds: FOLDER has all candidates found in fields with the sky's own densities,
none of which trained it. No timing. The tables and figures for the docs are in ``OUT/short``.
"""

import argparse
import contextlib
import csv
import logging
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.nn import (
    CatalogueClassifier,
    clusters_per_area,
    load_classifier,
    purity_curve,
    roc_seeds,
)
from astroclassify.people import compare_labels, who_was_right
from astroclassify.plots import (
    plot_confusion,
    plot_examples,
    plot_extent_plane,
    plot_purity,
    plot_roc,
    plot_who_differs,
    plot_who_was_right,
)
from astroclassify.samples import to_binary
from astroclassify.schemes import CANDIDATE, CLUSTER, get_scheme
from astroclassify.workflows import PAPERS, reproduce
from astroclassify.workflows._crowd import crowd_labels, is_simulated

# What differs from the printed settings, by the architecture of a row.
_ADAMW = {
    "iterations": None,
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "decay": 0.0,
    "momentum": None,
    "mean_epochs": 2,
    "epochs": 16,
}
QUICK = {
    "cn": {**_ADAMW, "learning_rate": 1e-3, "n_filters": 32},
    "mn": {**_ADAMW, "learning_rate": 2e-3, "n_filters": 16, "batch_size": 32},
}
PIXELS = 89
# Seeds of a row.
RUNS = {"cn": 10}
FEW = 2
CATALOGUE = ("ext", "ext_like", "det_like", "pnt_det_like", "counts", "rate", "off_axis", "exposure")
PURITY = 0.95
# Entries of a model card that are tables.
CARD = {
    "classifiers": "cluster_or_not",
    "differences": "this_model_minus_others",
    "bands": "both_bands_minus_one",
    "bins": "by_bins",
}
MEASURES = ("accuracy", "auc")


def write_rows(path, rows):
    """A list of dicts as CSV, columns in order of appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"\n{path.name}")
    for row in rows:
        print("  " + "  ".join(str(row.get(name, "")) for name in names))


def train_rows(sample, out, arguments, executor):
    """The rows of both tables, each with its settings and seeds; prints what each took."""
    rows = [name for name in PAPERS["kosiba2020"] if arguments.rows is None or name in arguments.rows]
    for name in rows:
        began = time.monotonic()
        how = {"changes": QUICK[name[:2]], "pixels": arguments.pixels, "seed": arguments.seed, "executor": executor}
        n_runs = arguments.runs or RUNS.get(name, FEW)
        reproduce("kosiba2020", sample, out, rows=[name], n_runs=n_runs, **how)
        print(f"{name}: {n_runs} trainings, {time.monotonic() - began:.0f} s", flush=True)


def short_table6(table):
    """Table 6 with accuracy and area of each class in one cell."""
    short = []
    for row in table:
        cells = {"method": row["method"], "source": row["source"]}
        for label in CANDIDATE.classes:
            cells[f"{label} A / AUC"] = " / ".join(str(row[f"{label}_{name}"]) for name in MEASURES)
        short.append(cells)
    return short


def predictions_in(folder):
    """Row -> its PREDICTIONS, for those that are done."""
    paths = {name: folder / f"predictions-{name}.ecsv" for name in PAPERS["kosiba2020"]}
    return {name: tables.read(path) for name, path in paths.items() if path.is_file()}


def volunteers_of(sample, seed):
    """Source -> what volunteers, or a simulated crowd, say; None without them."""
    if "label_volunteers" in sample.colnames:
        said = [str(label) for label in tables.plain_column(sample["label_volunteers"], "")]
    elif is_simulated(sample):
        said = crowd_labels(sample, seed).tolist()
    else:
        return None
    return {source: label for source, label in zip(sample["source_id"].tolist(), said, strict=True) if label}


def draw_rows(sample, predictions, short, seed):
    """Figures of the rows: ROC curves, the plane of extent and likelihood, examples, confusion of five classes."""
    binary = {name: each for name, each in predictions.items() if PAPERS["kosiba2020"][name].table.endswith("5")}
    figures = {}
    if binary:
        curves = {PAPERS["kosiba2020"][name].method: roc_seeds(each) for name, each in binary.items()}
        figures["roc"] = plot_roc(curves, class_name="cluster")
    for name in ("cn-five", "mn-five"):
        if name in predictions:
            title = "all seeds together"
            figures[f"confusion_{name[:2]}"] = plot_confusion(predictions[name], title=title)
    has_fits = {"ext", "ext_like"} <= set(sample.colnames)
    if has_fits:
        figures["plane"] = plot_extent_plane(sample, by="label")
    if "cn" in predictions:
        first = predictions["cn"][np.asarray(predictions["cn"]["seed"]) == 0]
        figures["examples"] = plot_examples(sample, first)
        judges, said = {"network": first}, volunteers_of(sample, seed)
        truth = dict(zip(first["source_id"].tolist(), first["label"].tolist(), strict=True))
        if said is not None:
            judges["volunteers"] = {source: label for source, label in said.items() if source in truth}
        compared = compare_labels(truth, judges)
        names = ("judge", "n", "tp", "tn", "fp", "fn", "n_open")
        rates = ("accuracy", "precision", "recall")
        rows = [{n: row[n] for n in names} | {n: f"{row[n]:.3f}" for n in rates} for row in compared]
        write_rows(short / "candidates_judges.csv", rows)
        if has_fits:
            verdicts = who_was_right(truth, judges, candidates=sample)
            figures["who_was_right"] = plot_who_was_right(verdicts)
            if said is not None:
                figures["who_differs"] = plot_who_differs(verdicts, *judges)
    for name, figure in figures.items():
        figure.savefig(short / f"candidates_{name}.png", dpi=110)


def answers(model, sample):
    """Predictions of two classes."""
    predictions = model.classify(sample, progress=False)
    return predictions if get_scheme(model.scheme) == CLUSTER else to_binary(predictions)


def selections_of(sky, network, trees):
    """Ways to select among all candidates of the sky."""
    x_class = np.asarray(tables.plain_column(sky["x_class"], "").astype(str))
    like, p = (np.asarray(tables.plain_column(values), float) for values in (sky["ext_like"], network["p_cluster"]))
    c1, both = x_class == "C1", np.isin(x_class, ["C1", "C2"])
    found = {
        "C1": c1,
        "C1 and C2": both,
        "all by EXT_LIKE": like,
        "C1 and C2 by the network": np.where(both, p, np.nan),
        "C1, and C2 that the network calls clusters": c1 | (both & (p > 0.5)),
        "all by the network": p,
    }
    if trees is not None:
        found["all by boosted trees"] = np.asarray(tables.plain_column(trees["p_cluster"]), float)
    return found


def spelled(row, name, digits):
    """A number with its interval."""
    value, low, high = (float(u.Quantity(row[f"{name}{end}"]).value) for end in ("", "_lo", "_hi"))
    return "" if np.isnan(value) else f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def survey(sample, model, sky, area, short):
    """Clusters per square degree with and without the network."""
    training = to_binary(sample[np.asarray(sample["split"]) == "train"])
    shared = set(training["group_id"].tolist()) & set(sky["group_id"].tolist())
    if shared:
        sys.exit(f"fields of the sky must not be trained on, got {sorted(shared)[:3]}")
    columns = tuple(name for name in CATALOGUE if name in sky.colnames and name in training.colnames)
    trees = None
    if columns:
        fitted = CatalogueClassifier(columns, scheme=CLUSTER, random_state=1).fit(training)
        trees = fitted.classify(to_binary(sky))
    ways = selections_of(sky, answers(model, sky), trees)
    rows = []
    c1 = purity_curve(sky, {"C1": ways["C1"]}, area=area)["purity"]
    # A purity that a catalogue should have, and that of C1: what does the network add without loss?
    for purity in (PURITY, *(round(float(value), 3) for value in c1)):
        found = clusters_per_area(sky, ways, area=area, purity=purity, rng=1)
        above = clusters_per_area(sky, ways, area=area, purity=purity, rng=1, reference="all by EXT_LIKE")
        if purity == PURITY:
            plot_purity(purity_curve(sky, ways, area=area), found).savefig(short / "candidates_purity.png", dpi=110)
        for row, other in zip(found, above, strict=True):
            is_cut = ways[row["selection"]].dtype.kind == "f"
            if not is_cut and purity != PURITY:
                continue
            rows.append({
                "selection": row["selection"],
                "purity asked for": f"{purity:.3f}" if is_cut else "",
                "candidates": row["n"],
                "clusters per deg2": spelled(row, "density", 2),
                "purity": spelled(row, "purity", 3),
                "completeness": f"{row['completeness']:.2f}",
                "more than C1": spelled(row, "difference", 2),
                "more than EXT_LIKE at this purity": spelled(other, "difference", 2) if is_cut else "",
            })  # fmt: skip
    write_rows(short / "candidates_survey.csv", rows)
    numbers = {"fields": found.meta["n_fields"], "deg2": area.to_value(u.deg**2), "candidates": len(sky)}
    write_rows(short / "candidates_fields.csv", [{**numbers, "different clusters": found.meta["n_clusters"]}])


def arguments_of():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", type=Path, help="sample folder of candidates")
    parser.add_argument("out", type=Path, help="folder for predictions, tables and figures")
    parser.add_argument("--rows", nargs="*", help="rows to train (default: all; none with nothing behind it)")
    parser.add_argument("--runs", type=int, help="seeds of each row (default: 10 for cn, 2 for the others)")
    parser.add_argument("--pixels", type=int, default=PIXELS, help="side of the networks' grid")
    parser.add_argument("--model", type=Path, help="folder of a trained model of candidates")
    parser.add_argument("--sky", type=Path, help="sample folder of all candidates of fields with the sky's densities")
    parser.add_argument("--area", type=float, help="their solid angle in square degrees")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.sky and not (arguments.model and arguments.area):
        parser.error("--sky needs --model and --area")
    return arguments


def main():
    """Train what is missing, then tables and figures of all that is there."""
    arguments = arguments_of()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    logging.getLogger("astroclassify.workflows").setLevel(logging.INFO)
    short, work = arguments.out / "short", arguments.out / "rows"
    short.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(arguments.workers, spawn) if arguments.workers > 1 else contextlib.nullcontext()
    with pool as executor:
        train_rows(arguments.sample, work, arguments, executor)
    for number in (5, 6):
        if (path := work / f"kosiba2020-table{number}.csv").is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                table = list(csv.DictReader(stream))
            write_rows(short / path.name, table)
            if number == 6:
                write_rows(short / "table6_short.csv", short_table6(table))
    sample = tables.read_sample(arguments.sample)
    draw_rows(sample, predictions_in(work), short, arguments.seed)
    if arguments.model:
        model = load_classifier(arguments.model)
        for name, entry in CARD.items():
            if entry in model.card_:
                write_rows(short / f"candidates_{name}.csv", model.card_[entry])
        if arguments.sky:
            survey(sample, model, tables.read_sample(arguments.sky), arguments.area * u.deg**2, short)


if __name__ == "__main__":
    main()
