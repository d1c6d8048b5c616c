"""Verbs that go through the whole package: demo and reproduce."""

import json
import logging
import sys

from ._tools import (
    add_seed,
    add_verb,
    add_workers,
    check_folder,
    check_printable,
    count,
    emit,
    executor_of,
    failure_status,
    show,
)

__all__ = ["add_demo", "add_reproduce"]


def add_demo(verbs):
    """Add the verb ``demo``."""
    parser = add_verb(
        verbs, "demo", _demo, "embedded clusters to mock images, labels, predictions, scores and figures, offline"
    )
    parser.add_argument("--out", default="astroclassify-demo", help="folder to make (default: %(default)s)")
    parser.add_argument("--n-halos", type=count, default=12, help="clusters to simulate (default: %(default)s)")
    add_seed(parser, 2026)
    add_workers(parser, default=2)


def add_reproduce(verbs):
    """Add the verb ``reproduce``."""
    help_text = "tables of a paper by its protocol on a sample, beside the printed numbers"
    parser = add_verb(verbs, "reproduce", _reproduce, help_text, resumes=True)
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
        help="settings of CutoutClassifier that differ from the paper's, e.g. epochs=20 iterations=null",
    )
    add_seed(parser)
    add_workers(parser, "the trainings")
    parser.add_argument("--out", required=True, help="folder of predictions and tables; finished rows are kept")


def _demo(arguments):
    from astroclassify.workflows import run_demo

    check_folder(out=arguments.out)
    check_printable()
    logging.getLogger("astroclassify.workflows").setLevel(logging.INFO)  # which step is done
    with executor_of(arguments.workers) as executor:
        predictions, scores = run_demo(arguments.out, n_halos=arguments.n_halos, seed=arguments.seed, executor=executor)
    probabilities = [name for name in predictions.colnames if name.startswith("p_")]
    show(predictions["source_id", "label", "label_pred", *probabilities, "flags"])
    emit("")
    show(scores)
    return failure_status(predictions, "images")


def _reproduce(arguments):
    from astroclassify.workflows import reproduce

    check_folder(out=arguments.out)
    check_printable()
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
    logging.getLogger("astroclassify.workflows").setLevel(logging.INFO)  # which row is trained
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
    for name, table in tables_of.items():
        emit(f"\n{name}")
        show(table)
    failed = {name: number for table in tables_of.values() for name, number in table.meta.get("failed", {}).items()}
    for name, number in failed.items():
        print(
            f"astroclassify: {number} predictions in {name} failed; without the file they are made again",
            file=sys.stderr,
        )
    return int(bool(failed))
