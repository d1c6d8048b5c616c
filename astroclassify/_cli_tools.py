"""What the verbs of the command line share: arguments, processes, outputs."""

import argparse
import contextlib
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from astropy import units as u
from astropy.coordinates import SkyCoord

from . import tables
from .exceptions import OutputError

__all__ = ["add_verb", "check_free", "count", "executor_of", "position_of", "show"]


def add_verb(verbs, name, run, help_text):
    """Parser of a verb that is carried out by ``run``."""
    parser = verbs.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(run=run)
    return parser


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


def check_free(path):
    """Refuse an output that exists before hours of work, not after."""
    if path is not None and Path(path).exists():
        raise OutputError(f"--out {path!r} exists already; choose another name")


def show(table, path):
    """Write a table to a file, or as ECSV to standard output."""
    if path is None:
        table.write(sys.stdout, format="ascii.ecsv")
    else:
        tables.write(table, path)


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
