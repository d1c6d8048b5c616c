"""The parser of the command, and what its verbs' errors become."""

import argparse
import logging
import sys
import warnings
from concurrent.futures import BrokenExecutor

from astroclassify import __version__
from astroclassify.exceptions import AstroclassifyError, AstroclassifyWarning

from ._completion import CompletionAction
from ._nn import add_classify, add_evaluate, add_models, add_train
from ._people import add_inspect, add_votes
from ._process import INTERRUPTED, fail
from ._sim import add_simulate
from ._survey import add_cutouts, add_detect
from ._workflows import add_demo, add_reproduce

__all__ = ["run"]

# Exceptions that users' input can cause. Any other is a fault of the package and keeps its traceback.
_USER_ERRORS = (AstroclassifyError, ValueError, TypeError, OSError, MemoryError)
_VERBS = (add_demo, add_simulate, add_train, add_evaluate, add_reproduce, add_classify, add_models)
_VERBS += (add_detect, add_cutouts, add_votes, add_inspect)


def run(argv):
    """Exit status of the verb that the arguments name."""
    arguments = _parser().parse_args(argv)
    again = "; the same command goes on from there" if arguments.resumes else ""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.captureWarnings(True)
    as_code, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        return arguments.run(arguments) or 0
    except BrokenExecutor:
        return fail(f"a worker process was killed (out of memory?){again}")
    except _USER_ERRORS as error:
        return fail(error)
    except KeyboardInterrupt:
        return fail(f"interrupted{again}", INTERRUPTED)
    finally:
        logging.captureWarnings(False)
        warnings.formatwarning = as_code


def _one_line(message, category, *_):
    """A warning for people, who have not written the line of code that it is about."""
    text = " ".join(str(message).split())
    return text if issubclass(category, AstroclassifyWarning) else f"{category.__name__}: {text}"


def _parser():
    parser = argparse.ArgumentParser(
        prog="astroclassify", description="Machine-learning classification of galaxy clusters from X-ray images."
    )
    parser.add_argument("--version", action="version", version=f"astroclassify {__version__}")
    parser.add_argument(
        "--completion", action=CompletionAction, nargs=0, help="print a script that completes words in bash and zsh"
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for add in _VERBS:
        add(verbs)
    return parser
