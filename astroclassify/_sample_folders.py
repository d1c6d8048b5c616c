"""Sample folders: made, claimed, checked, swept and read back so that a killed run can be resumed."""

import json
import logging
import os
import secrets
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from . import images, tables
from .exceptions import OutputError

__all__ = [
    "DIGEST_KEY",
    "check_settings",
    "claim",
    "finished_header",
    "finished_headers",
    "prepare",
    "sweep",
    "write_cutout",
    "write_image",
    "write_table",
]

log = logging.getLogger(__name__)

#: Keyword, in the header of an image, of what it was made from.
DIGEST_KEY = "SETTINGS"


def prepare(
    folder,
    settings,
    settings_file,
    *,
    what="such a sample",
    wanted=None,
    others="images that are not asked for now",
    resume=True,
):
    """
    Make the folder, or check that what it holds is this sample; nothing of it is touched otherwise.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder.
    settings : dict
        What the images are made from, as plain types.
    settings_file : str
        Name of the file in the folder that holds the settings.
    what : str, optional
        What the folder should be, for the error message.
    wanted : set of str, optional
        Names of all images; a sample that holds others is refused. By default they are not looked at.
    others : str, optional
        What those others are, for the error message.
    resume : bool, optional
        Whether the folder may hold a sample.

    Raises
    ------
    OutputError
        If the folder cannot be used, or holds something else or another sample.
    """
    settings = json.loads(json.dumps(settings))
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"out must be a folder, {str(folder)!r} is a file")
        folder.mkdir(parents=True, exist_ok=True)
        content = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"out: cannot use the folder {str(folder)!r}: {error.strerror}") from error
    if content and settings_file not in content:
        raise OutputError(f"out: the folder {str(folder)!r} is not empty and not {what} (holds {content[0]!r})")
    if content and not resume:
        raise OutputError(f"out: {str(folder)!r} already holds a sample; choose another folder or resume it")
    if not content:
        claim(folder / settings_file, json.dumps(settings, indent=1) + "\n")
    # Also after writing: two runs that start at once both come here, and the one that was second is told.
    check_settings(folder / settings_file, settings)
    if wanted is not None and tables.SAMPLE_FILE in content:
        found = set(tables.read_sample(folder)["source_id"]) - wanted
        if found:
            raise OutputError(
                f"out: the sample in {str(folder)!r} has {len(found)} {others} (e.g. {min(found)}): "
                "ask for them as well or choose another folder"
            )
    sweep(folder, settings_file)


def claim(path, text):
    """
    Write a file whole, unless another run has just done so: the first one stays.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    text : str
        Its content.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            log.debug("another run has begun %s", path.parent)
        except OSError:  # a file system without hard links, or a second run has swept the temporary file away:
            if not path.exists():  # runs sweep only where the settings already are
                os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_settings(path, settings):
    """
    Check that the settings in a folder are those of this run.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file that holds the settings.
    settings : dict
        What the images are made from.

    Raises
    ------
    OutputError
        If they cannot be read or differ.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise OutputError(f"out: {str(path)!r} cannot be read: {error}") from error
    differences = [
        f"{key} is {_short(found.get(key))} there and {_short(settings.get(key))} now"
        for key in sorted(found.keys() | settings.keys())
        if found.get(key) != settings.get(key)
    ]
    if differences:
        raise OutputError(
            f"out: the sample in {str(path.parent)!r} was made with other settings ({'; '.join(differences)})"
        )


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def sweep(folder, settings_file):
    """
    Take away what a run that was killed while it wrote has left under a temporary name.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder; that of the images is made if it is not there.
    settings_file : str
        Name of the file in the folder that holds the settings.

    Raises
    ------
    OutputError
        If the folder cannot be used.
    """
    place_of_images = folder / tables.IMAGE_FOLDER
    try:
        place_of_images.mkdir(exist_ok=True)
        for place, stem, suffix in (
            (place_of_images, "", ".fits"),
            (folder, Path(tables.SAMPLE_FILE).stem, ".ecsv"),
            (folder, Path(settings_file).stem, ".json"),
        ):
            for leftover in place.glob(f".{stem}*{suffix}"):
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"out: cannot use the folder {str(place_of_images)!r}: {error.strerror}") from error


def finished_headers(folder, names, digest):
    """
    Headers of the images that an earlier run has made from the same.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder.
    names : iterable of str
        Names of the images that are asked for.
    digest : str
        What they must have been made from.

    Returns
    -------
    dict
        Name of the image -> its header. A file that is damaged, or was made from something else, does not count.
    """
    place = folder / tables.IMAGE_FOLDER
    headers = {name: finished_header(place / f"{name}.fits", digest) for name in names}
    return {name: header for name, header in headers.items() if header is not None}


def finished_header(path, digest, *, extension=0):
    """
    Header of an image that an earlier run has made from the same.

    Parameters
    ----------
    path : `~pathlib.Path`
        The file.
    digest : str
        What it must have been made from.
    extension : int or str, optional
        Which part of the file tells; of a cutout, the name of a band in capitals.

    Returns
    -------
    `~astropy.io.fits.Header` or None
        The header; None where there is no such file, or it is damaged or made from something else.
    """
    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what astropy says of itself and of odd headers is not asked for here
            warnings.simplefilter("error", AstropyUserWarning)  # of a file that is shorter than its headers say
            with open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
                len(hdus)  # reads the headers of all extensions, not only of the first
                header = hdus[extension].header
                same = header.get(DIGEST_KEY) == digest
    except (OSError, TypeError, ValueError, LookupError, fits.VerifyError, AstropyUserWarning) as error:
        log.debug("%s is made again: %s", path, error)
        return None
    return header if same else None


def write_image(image, path):
    """
    Write an image so that it is whole or not there.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image.
    path : `~pathlib.Path`
        The file; one that is there is replaced.
    """
    _twice(lambda: images.write_image(image, path, overwrite=True))


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
    hdus = images.cutout_to_hdus(cutout.source_id, cutout.bands)
    for hdu in hdus[1:]:
        if hdu.data.dtype == np.float64:
            small = hdu.data.astype(np.int16 if hdu.data.max() < 2**15 else np.int32)
            hdu.data = small if np.array_equal(small, hdu.data) else hdu.data
    _twice(lambda: images.write_hdus(hdus, path, overwrite=True))


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
