"""Import and run yt, pyXSIM and soxs without files in the home of the user, log lines, warnings and progress bars."""

import contextlib
import functools
import importlib.util
import logging
import os
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from unittest import mock

import numpy as np

from astroclassify._checks import require

__all__ = ["check_pyxsim", "load_pyxsim", "load_soxs", "quiet"]

log = logging.getLogger(__name__)

# Importing and running these packages touches global state (environment, loggers, warnings, progress bars): one thread
# at a time, everything restored afterwards.
_LOCK = threading.RLock()
_LOGGERS = ("yt", "pyxsim", "soxs")


class _Forward(logging.Handler):
    """Pass the records of another package to our logger: information as DEBUG, warnings as warnings."""

    def emit(self, record):
        """Log one record again."""
        level = record.levelno if record.levelno >= logging.WARNING else logging.DEBUG
        log.log(level, "%s: %s", record.name, record.getMessage())


@contextlib.contextmanager
def _private_config():
    """
    Keep the first ``import soxs`` from writing ``soxs/soxs.cfg`` into the configuration folder of the user.

    A configuration that is there is read as usual. Without one, soxs is shown an empty folder.
    """
    root = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if "soxs" in sys.modules or (root / "soxs" / "soxs.cfg").exists():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="astroclassify-") as folder:
        with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": folder}):
            yield
        utils = sys.modules.get("soxs.utils")
        if utils is not None:  # soxs.set_soxs_config, if the user calls it later, must find the user's own folder
            utils.CONFIG_DIR = str(root / "soxs")
            utils.CURRENT_CONFIG_FILE = str(root / "soxs" / "soxs.cfg")


@contextlib.contextmanager
def quiet():
    """Send logs of yt, pyXSIM and soxs to our logger, ignore their warnings, hide their bars; undo it at the end."""
    forward = _Forward()
    with _LOCK, contextlib.ExitStack() as stack:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(setattr, logger, "propagate", logger.propagate)
            stack.callback(setattr, logger, "handlers", logger.handlers)
            logger.handlers, logger.propagate = [forward], False
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(np.errstate(all="ignore"))
        for name in ("pyxsim.photon_list", "soxs.instrument", "soxs.response"):
            if name in sys.modules:
                silent = functools.partial(sys.modules[name].tqdm, disable=True)
                stack.enter_context(mock.patch.object(sys.modules[name], "tqdm", silent))
        yield


def check_pyxsim():
    """Raise `~astroclassify.exceptions.MissingDependencyError` without pyXSIM; import nothing that is there."""
    for module in ("pyxsim", "yt"):
        if importlib.util.find_spec(module) is None:
            require(module, extra="sim")


@functools.lru_cache(maxsize=1)
def load_pyxsim():
    """Import pyXSIM and yt once, quietly, leaving no file in the user's home."""
    with _LOCK, warnings.catch_warnings(), _private_config():
        warnings.simplefilter("ignore")

        # soxs adds its own handler while it is imported and warns at once: only a filter can stop that.
        def refuse(record):
            return False

        logger = logging.getLogger("soxs")
        logger.addFilter(refuse)
        try:
            pyxsim = require("pyxsim", extra="sim")
            yt = require("yt", extra="sim")
        finally:
            logger.removeFilter(refuse)
    return pyxsim, yt


def load_soxs():
    """Import soxs, which pyXSIM does, in the same way."""
    load_pyxsim()
    return require("soxs", extra="sim")
