"""Files of images, those that could kill their reader in a process of its own."""

import atexit
import contextlib
import mmap
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings

from astroclassify.exceptions import GeometryError
from astroclassify.images._packed import only_packed

from ._child import read_here

__all__ = ["read_file"]

# Beginnings of gzip, compress, bzip2, xz and zip files: what they hold is not known before they are unpacked.
_PACKED = (b"\x1f\x8b", b"\x1f\x9d", b"BZh", b"\xfd7zXZ", b"PK")
# For one file; packed event lists of gigabytes take minutes.
_SECONDS = 600.0
_PROGRAM = "import sys; sys.path[:] = {path!r}; from astroclassify.nn.inputs._child import main; main()"


def read_file(path, bands, energy=None):
    """
    The image (or Cutout, for several bands or a file of one) in a file; of an event list in a band [keV].

    Sizes that lie in a tile-compressed image make the C code below astropy write beyond its memory, which ends the
    process. Such images, and packed files, which may hold one, are therefore read by a child: it costs some
    milliseconds an image, and a few seconds once.
    """
    return (_child.read if _may_kill(path) else read_here)(path, bands, energy)


def _may_kill(path):
    """Whether a file holds a tile-compressed image of others than us, or is packed, so that this cannot be told."""
    if not os.path.isfile(path):  # an address, or what must not be opened, such as a FIFO: the reader says so
        return False
    try:
        with open(path, "rb") as file:
            if file.read(6).startswith(_PACKED):
                return True
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return not only_packed(content)
    except (OSError, ValueError):  # cannot be opened, or is empty: the reader says so
        return False


class _Child:
    """A reader in another process, started when first needed and again after it has died or taken too long."""

    def __init__(self):
        self._process, self._owner, self._lock = None, None, threading.Lock()

    def read(self, path, bands, energy):
        """As `read_here`; GeometryError if the reader dies."""
        with self._lock:
            process = self._started()
            limit, timer = time.monotonic() + _SECONDS, threading.Timer(_SECONDS, process.kill)
            timer.start()
            try:
                pickle.dump((os.fspath(path), bands, energy), process.stdin)
                process.stdin.flush()
                value, error, caught = pickle.load(process.stdout)
            except (EOFError, OSError, pickle.UnpicklingError):
                self.stop()
                how = f"took more than {_SECONDS:.0f} s over" if time.monotonic() >= limit else "died on"
                raise GeometryError(f"the reader {how} this file: {os.fspath(path)!r}") from None
            except BaseException:  # Ctrl-C: what the child still sends would be the answer to the next question
                self.stop()
                raise
            finally:
                timer.cancel()
        for category, text in caught:
            warnings.warn(text, category, stacklevel=2)
        if error is not None:
            raise error
        return value

    def _started(self):
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            # Not multiprocessing, which runs the user's script a second time where that has no main guard.
            command = [sys.executable, "-c", _PROGRAM.format(path=sys.path)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._process, self._owner = subprocess.Popen(command, **pipes), os.getpid()
        return self._process

    def stop(self):
        """End the process, if it is ours."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # a question that it did not hear
                    pipe.close()


_child = _Child()
atexit.register(_child.stop)
