"""Shared parts of the command line: options, processes, outputs, exit status."""

import argparse
import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify import tables
from astroclassify._checks import require
from astroclassify.exceptions import AstroclassifyError, OutputError
from astroclassify.schemes import Flag, flag_names

from ._process import INTERRUPTED, flush

__all__ = [
    "add_overwrite",
    "add_seed",
    "add_verb",
    "add_workers",
    "check_files",
    "check_folder",
    "check_free",
    "check_picture",
    "check_printable",
    "check_tables",
    "count",
    "emit",
    "executor_of",
    "failure_status",
    "flag_counts",
    "naming",
    "position_of",
    "show",
]

_WIDTH = 80  # of what is printed, in characters


def add_verb(verbs, name, run, help_text, *, resumes=False):
    """Parser of a verb that is carried out by ``run``; one that ``resumes`` goes on where it was ended."""
    parser = verbs.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(run=run, resumes=resumes)
    return parser


def add_workers(parser, what="", default=1):
    """The option --workers; ``what`` they are for."""
    parser.add_argument(
        "--workers", type=count, default=default, help=f"processes{what and f' for {what}'} (default: %(default)s)"
    )


def add_seed(parser, default=0):
    """The option --seed."""
    parser.add_argument("--seed", type=int, default=default, help="seed (default: %(default)s)")


def add_overwrite(parser):
    """The option --overwrite, for `check_free` and its kin, and `show`."""
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def count(text):
    """Whole number from one, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


@contextlib.contextmanager
def executor_of(workers):
    """Pool of processes, or None for one process: this one. They end with this one, however it ends."""
    if workers == 1:
        yield None
        return
    # Python's own process that clears up after one that was ended at once need not say so.
    sys.warnoptions.append("ignore:resource_tracker")
    executor, wait = ProcessPoolExecutor(workers, mp_context=_Context(), initializer=_end_with_parent), True
    try:
        yield executor
    except (KeyboardInterrupt, BrokenExecutor):
        wait = False  # a thread of the pool may be sending to a worker that is no more, for ever
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        executor.shutdown(wait=wait, cancel_futures=True)


class _Worker(multiprocessing.context.SpawnProcess):
    """A process that Ctrl-C does not reach: it is for this one to act on it, and to end its workers."""

    def start(self):
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().start()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()  # children inherit the block
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(multiprocessing.context.SpawnContext):
    """Forked children would inherit the locks of numerical libraries' threads, and can hang."""

    Process = _Worker


def _end_with_parent():
    """Make a worker end when its parent does: else that of a parent which was killed would wait for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(INTERRUPTED)

    threading.Thread(target=watch, daemon=True).start()


def check_free(*, overwrite=False, **outputs):
    """
    Refuse outputs (option -> path, None where not asked for) that cannot be written, before hours of work, and those
    that exist, unless these are to be replaced.
    """
    asked = {option: Path(path) for option, path in outputs.items() if path is not None}
    for option, path in asked.items():
        if os.path.lexists(path) and not overwrite:
            raise OutputError(f"--{option} {str(path)!r} exists already; choose another name, or give --overwrite")
        if not path.parent.is_dir():
            raise OutputError(f"--{option} {str(path)!r}: there is no folder {str(path.parent)!r}")
        _try(option, path.parent, path.name)
    if len({path.resolve() for path in asked.values()}) < len(asked):
        raise OutputError(f"{' and '.join(f'--{option}' for option in asked)} must be different files")


def check_files(*, overwrite=False, **outputs):
    """As `check_free`, for files: a folder is not replaced."""
    for option, path in outputs.items():
        if path is not None and overwrite and Path(path).is_dir():
            raise OutputError(f"--{option} must be a file, {str(path)!r} is a folder")
    check_free(overwrite=overwrite, **outputs)


def check_folder(**outputs):
    """As `check_free`, for folders, which may exist, and are made with those above them."""
    for option, path in outputs.items():
        path = Path(path)
        if os.path.lexists(path) and not path.is_dir():
            raise OutputError(f"--{option} must be a folder, {str(path)!r} is a file")
        place = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
        _try(option, place, path.name)


def _try(option, folder, name):
    """Write a file that never gets a name, in the folder of an output of this name."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
        with contextlib.suppress(FileNotFoundError):
            os.stat(folder / name)  # refuses a name that is too long
    except OSError as error:
        raise OutputError(f"--{option}: cannot write {name!r} in {str(folder)!r}: {error.strerror}") from error


def check_tables(*, overwrite=False, **outputs):
    """
    As `check_free`, for tables, whose names must end as one of the known formats; where the main one (``out``) is not
    asked for, it is printed.
    """
    check_files(overwrite=overwrite, **outputs)
    if outputs.get("out", "") is None:
        check_printable()
    for option, path in outputs.items():
        if path is not None:
            tables.format_of(path, f"--{option}")


def check_picture(**outputs):
    """As `check_free`, for pictures: matplotlib must be there and know the format."""
    for option, path in outputs.items():
        if path is not None:
            canvas = require("matplotlib.backend_bases", extra="plots").FigureCanvasBase
            known, ending = sorted(canvas.get_supported_filetypes()), Path(path).suffix.lower().removeprefix(".")
            if ending not in known:
                raise OutputError(f"--{option} {path!r} must end as one of {known}")


def check_printable():
    """Refuse to begin where standard output is closed (``>&-``)."""
    if sys.stdout is None:
        raise OutputError("standard output is closed: there is no place for the table")


def emit(text):
    """Print on standard output; whatever is wrong with it is an error now, not when the interpreter ends."""
    check_printable()
    print(text)
    flush()


def show(table, path=None, columns=None, *, overwrite=False):
    """
    Write a table to a file, or print its ``columns`` (by default the main ones) on standard output, all rows.

    Positions are in degrees; of what is wider than 80 characters columns in the middle are left out.
    """
    if path is not None:
        tables.write(table, path, overwrite=overwrite)
        return
    printed = QTable()
    columns = tables.main_columns(table) if columns is None else columns
    names = [name for name in columns if name in table.colnames]
    for name in names:
        column = table[name]
        if isinstance(column, SkyCoord):
            printed["ra"], printed["dec"] = column.icrs.ra, column.icrs.dec
            printed["ra"].info.format = printed["dec"].info.format = ".5f"
        else:
            printed[name] = column
    lines = tables.readable(printed).pformat(max_lines=-1, max_width=_WIDTH)
    emit("\n".join(lines))
    if len(names) < len(table.colnames) or "..." in lines[0].split():
        print(f"these are not all of the {len(table.colnames)} columns; files have all", file=sys.stderr)


def flag_counts(table):
    """How many rows of a table have each flag, in words."""
    flags = np.asarray(table["flags"])
    counts = {flag: np.count_nonzero(flags & flag.value) for flag in Flag}
    return ", ".join(f"{flag_names(flag)[0]} {n}" for flag, n in counts.items() if n) or "none"


def failure_status(table, what, hint=""):
    """Exit status of a table with flags: 0, or 1 after one line about the rows that failed."""
    failed = table[(np.asarray(table["flags"]) & Flag.FAILED.value) != 0]
    if not len(failed):
        return 0
    reason = f" ({failed['message'][0]})" if "message" in failed.colnames and failed["message"][0] else ""
    print(f"astroclassify: {len(failed)} of {len(table)} {what} failed{reason}{hint}", file=sys.stderr)
    return 1


@contextlib.contextmanager
def naming(path):
    """Put the name of a file before the message of an error that does not name it."""
    try:
        yield
    except (AstroclassifyError, ValueError) as error:
        text = str(error)
        raise AstroclassifyError(text if str(path) in text else f"{path}: {text}") from error


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
