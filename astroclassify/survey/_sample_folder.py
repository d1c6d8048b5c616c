"""Sample folder of two-band cutouts: made, checked, swept and read back so that a killed run can be resumed."""

import json
import logging
import warnings

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from .. import tables
from ..exceptions import OutputError
from ..images import to_hdus, write_hdus

__all__ = ["DIGEST_KEY", "finished_header", "prepare", "write_cutout", "write_table"]

log = logging.getLogger(__name__)

#: Keyword, in the header of the X-ray image, of what an image was made from.
DIGEST_KEY = "SETTINGS"


def prepare(folder, settings, name):
    """
    Make the folder, or check that what it holds is this sample.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder.
    settings : dict
        What the images are made from, as plain types.
    name : str
        File in the folder that holds the settings.

    Raises
    ------
    OutputError
        If the folder cannot be used, or holds something else or another sample.
    """
    settings = json.loads(json.dumps(settings))
    path, images = folder / name, folder / tables.IMAGE_FOLDER
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"out must be a folder, {str(folder)!r} is a file")
        folder.mkdir(parents=True, exist_ok=True)
        content = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
        if not content:
            text = json.dumps(settings, indent=1) + "\n"
            tables.write_beside(path, lambda temporary: _write_text(temporary, text), overwrite=True)
        elif name not in content:
            raise OutputError(
                f"out: the folder {str(folder)!r} is not empty and not such a sample (holds {content[0]!r})"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
        images.mkdir(exist_ok=True)
        for place in (folder, images):  # what a run that was killed while it wrote has left
            for leftover in (*place.glob(".*.fits"), *place.glob(".*.ecsv"), *place.glob(".*.json")):
                leftover.unlink(missing_ok=True)
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"out: cannot use the folder {str(folder)!r}: {error}") from error
    found = found if isinstance(found, dict) else {}
    different = [key for key in sorted(found.keys() | settings.keys()) if found.get(key) != settings.get(key)]
    if different:
        key = different[0]
        raise OutputError(
            f"out: the sample in {str(folder)!r} was made with other settings ({', '.join(different)}; "
            f"{key} is {_short(found.get(key))} there and {_short(settings.get(key))} now)"
        )


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _write_text(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def finished_header(path, digest):
    """
    Header of the X-ray image of a cutout that an earlier run has made from the same.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    digest : str
        What it must have been made from.

    Returns
    -------
    `~astropy.io.fits.Header` or None
        The header; None where there is no such file, or it is damaged or made from something else.
    """
    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)  # of a file that is shorter than its headers say
            with open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
                len(hdus)  # reads the headers of all extensions
                header = hdus["XRAY"].header
    except (OSError, TypeError, ValueError, LookupError, fits.VerifyError, AstropyUserWarning) as error:
        log.debug("%s is made again: %s", path, error)
        return None
    return header if header.get(DIGEST_KEY) == digest else None


def write_cutout(cutout, path):
    """
    Write a cutout of whole numbers as `~astroclassify.images.Cutout.read` reads it, in a quarter of the space.

    Parameters
    ----------
    cutout : `~astroclassify.images.Cutout`
        The cutout.
    path : `~pathlib.Path`
        The file; one that is there is replaced.
    """
    primary = fits.PrimaryHDU()
    primary.header["SOURCEID"], primary.header["BANDS"] = cutout.source_id, ",".join(cutout.bands)
    hdus = [primary, *(hdu for name, image in cutout.bands.items() for hdu in to_hdus(image, name))]
    for hdu in hdus[1:]:
        if hdu.data.dtype == np.float64:
            small = hdu.data.astype(np.int16 if hdu.data.max() < 2**15 else np.int32)
            hdu.data = small if np.array_equal(small, hdu.data) else hdu.data
    _twice(lambda: write_hdus(hdus, path, overwrite=True))


def write_table(sample, folder):
    """
    Write the table so that it is whole or not there, and return it with the folder in its meta.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        The table.
    folder : `~pathlib.Path`
        The folder; a table that is there is replaced.
    """
    return _twice(lambda: tables.write_sample(sample, folder, overwrite=True))


def _twice(writer):
    """Write, once more if it fails: a second run that has just started may have swept the temporary file away."""
    try:
        return writer()
    except OutputError as error:
        log.debug("writing once more after %s", error)
        return writer()
