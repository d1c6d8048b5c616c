"""Reading of one file of images, in this process or as the program of a child that answers questions."""

import contextlib
import os
import pickle
import signal
import sys
import warnings

from astropy import units as u
from astropy.io import fits

from astroclassify import images
from astroclassify._checks import first_line
from astroclassify.exceptions import GeometryError

__all__ = ["main", "read_here"]


def read_here(path, bands, energy):
    """
    The image (or Cutout, for several bands or a file of one) in a file; of an event list in a band [keV], or that of
    its instrument in a dict.
    """
    if len(bands) > 1 or _is_cutout_file(path):
        return images.Cutout.read(path)
    if isinstance(energy, dict):
        energy = energy.get(_instrument_of(path))
    if energy is not None:
        # A list without energies, or none in this band, is taken whole; that it has another band is flagged.
        with contextlib.suppress(GeometryError):
            return images.read_image(path, energy=energy * u.keV)
    return images.read_image(path)


def _instrument_of(path):
    """Instrument of a file that may hold events; None where its header cannot be read."""
    if not os.path.isfile(path):  # opening a pipe would wait for ever
        return None
    try:
        with open(path, "rb") as file, fits.open(file, lazy_load_hdus=True) as hdus:
            return next((images.read_header(hdu.header).instrument for hdu in hdus if "INSTRUME" in hdu.header), None)
    except Exception:  # a damaged file: the reader, which comes next, has the better message
        return None


def _is_cutout_file(path):
    """Whether the header of a file names the bands of a cutout; False for a file that cannot be read."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            block = file.read(2880)
        if not block.startswith(b"SIMPLE"):  # compressed
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return {"SOURCEID", "BANDS"} <= set(fits.getheader(path, 0))
    except Exception:  # a damaged file: the reader, which comes next, has the better message
        return False
    return b"SOURCEID=" in block and b"BANDS   =" in block


def main():
    """Answer each (path, bands, energy) on standard input with (image, error, warnings) on standard output, pickled."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends this process
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever is printed must not come between the answers
        while True:
            try:
                question = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            answers.write(_answer(*question))
            answers.flush()


def _answer(path, bands, energy):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, error = read_here(path, bands, energy), None
        except Exception as problem:  # it is raised again on the other side
            value, error = None, problem
    notes = [(warning.category, str(warning.message)) for warning in caught]
    try:
        if error is not None:
            pickle.loads(pickle.dumps(error))  # a class may take other arguments than those that it sends
        return pickle.dumps((value, error, notes), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # an exception or a warning of a class that cannot be sent
        text = "an image that cannot be sent" if error is None else f"{type(error).__name__}: {first_line(error)}"
        return pickle.dumps((None, GeometryError(f"{os.fspath(path)!r} cannot be read: {text}"), []))
