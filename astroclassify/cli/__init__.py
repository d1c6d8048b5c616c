"""The ``astroclassify`` command: thin verbs over the public functions."""

import argparse
import logging
import sys
from concurrent.futures import BrokenExecutor

from astroclassify import __version__
from astroclassify.exceptions import AstroclassifyError

from ._nn import add_classify, add_evaluate, add_models, add_train
from ._people import add_inspect, add_votes
from ._sim import add_simulate
from ._survey import add_cutouts, add_detect
from ._workflows import add_demo, add_reproduce

__all__ = ["main"]

# Exceptions that users' input can cause. Any other is a fault of the package and keeps its traceback.
_USER_ERRORS = (AstroclassifyError, ValueError, TypeError, OSError)
_VERBS = (add_demo, add_simulate, add_train, add_evaluate, add_reproduce, add_classify, add_models)
_VERBS += (add_detect, add_cutouts, add_votes, add_inspect)
_BAD_INPUT, _INTERRUPTED = 2, 130


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
        Exit status: 0; 1 if some rows failed, which one line on standard error says; 2 after one line about bad input;
        130 after Ctrl-C.

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
        return arguments.run(arguments) or 0
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has ended (astroclassify ... | head): nothing to report
        return 0
    except BrokenExecutor:
        return _fail("a worker process was killed (out of memory?); the same command continues where it stopped")
    except _USER_ERRORS as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    finally:
        logging.captureWarnings(False)


def _fail(error, status=_BAD_INPUT):
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"astroclassify: error: {text}", file=sys.stderr)
    return status


def _parser():
    parser = argparse.ArgumentParser(
        prog="astroclassify", description="Machine-learning classification of galaxy clusters from X-ray images."
    )
    parser.add_argument("--version", action="version", version=f"astroclassify {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for add in _VERBS:
        add(verbs)
    return parser
