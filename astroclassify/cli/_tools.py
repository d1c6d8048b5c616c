"""Shared parts of the command line: options, processes, outputs, exit status."""

import argparse
import contextlib
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import OutputError
from astroclassify.schemes import Flag

__all__ = [
    "SCORES_SHOWN",
    "add_seed",
    "add_verb",
    "add_workers",
    "check_free",
    "check_tables",
    "count",
    "executor_of",
    "failure_status",
    "position_of",
    "show",
]

# Columns of a table of scores that are printed.
SCORES_SHOWN = ("method", "class", "precision", "recall", "f1", "f1_lo", "f1_hi", "bacc")


def add_verb(verbs, name, run, help_text):
    """Parser of a verb that is carried out by ``run``."""
    parser = verbs.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(run=run)
    return parser


def add_workers(parser, what="", default=1):
    """The option --workers; ``what`` they are for."""
    parser.add_argument(
        "--workers", type=count, default=default, help=f"processes{what and f' for {what}'} (default: %(default)s)"
    )


def add_seed(parser, default=0):
    """The option --seed."""
    parser.add_argument("--seed", type=int, default=default, help="seed (default: %(default)s)")


def count(text):
    """Whole number from one, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


@contextlib.contextmanager
def executor_of(workers):
    """Pool of processes, or None for one process: this one."""
    if workers == 1:
        yield None
        return
    # Forked children inherit the locks of numerical libraries' threads and can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def check_free(**outputs):
    """Refuse outputs (option -> path, None where not asked for) that cannot be written, before hours of work."""
    asked = {option: Path(path) for option, path in outputs.items() if path is not None}
    for option, path in asked.items():
        if path.exists():
            raise OutputError(f"--{option} {str(path)!r} exists already; choose another name")
        if not path.parent.is_dir():
            raise OutputError(f"--{option} {str(path)!r}: there is no folder {str(path.parent)!r}")
    if len({path.resolve() for path in asked.values()}) < len(asked):
        raise OutputError(f"{' and '.join(f'--{option}' for option in asked)} must be different files")


def check_tables(**outputs):
    """As `check_free`, for tables, whose names must end as one of the known formats."""
    check_free(**outputs)
    for option, path in outputs.items():
        if path is not None:
            tables.format_of(path, f"--{option}")


def show(table, path=None, columns=None):
    """
    Write a table to a file, or print its ``columns`` (by default all) on standard output, all rows.

    Numbers have three decimals, positions in degrees five.
    """
    if path is not None:
        tables.write(table, path)
        return
    printed = QTable()
    names = table.colnames if columns is None else [name for name in columns if name in table.colnames]
    for name in names:
        column = table[name]
        if isinstance(column, SkyCoord):
            printed["ra"], printed["dec"] = column.icrs.ra, column.icrs.dec
            printed["ra"].info.format = printed["dec"].info.format = ".5f"
        else:
            printed[name] = column
            if column.dtype.kind == "f":
                printed[name].info.format = _format_of(np.asarray(column))
    print("\n".join(printed.pformat(max_lines=-1, max_width=-1)))
    if len(names) < len(table.colnames):
        print(f"{len(names)} of {len(table.colnames)} columns; --out FILE writes all", file=sys.stderr)


def _format_of(values):
    """Three decimals, or three digits where all values are smaller or some are very large."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return ".3f" if not sizes.size or 1e-3 <= sizes.max() < 1e6 else ".3g"


def failure_status(table, what, hint=""):
    """Exit status of a table with flags: 0, or 1 after one line about the rows that failed."""
    failed = table[(np.asarray(table["flags"]) & Flag.FAILED.value) != 0]
    if not len(failed):
        return 0
    reason = f" ({failed['message'][0]})" if "message" in failed.colnames and failed["message"][0] else ""
    print(f"astroclassify: {len(failed)} of {len(table)} {what} failed{reason}{hint}", file=sys.stderr)
    return 1


def position_of(text):
    """Position in degrees or sexagesimal."""
    try:
        degrees = [float(word) for word in text.replace(",", " ").split()]
        return SkyCoord(*degrees, unit=u.deg) if len(degrees) == 2 else SkyCoord(text, unit=(u.hourangle, u.deg))
    except ValueError:
        try:
            return SkyCoord(text, unit=(u.hourangle, u.deg))
        except ValueError:
            raise ValueError(f"--position must be 'RA DEC' in degrees or sexagesimal, got {text!r}") from None
