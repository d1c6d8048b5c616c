"""Folder of a sample of mock images: made, checked, swept and read back so that a killed run can be resumed."""

import json
import logging
import os
import secrets
import warnings
from pathlib import Path

from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from .. import tables
from ..exceptions import OutputError
from ..images import write_image
from ._mock_rows import DIGEST_KEY

__all__ = ["check_settings", "finished_headers", "prepare", "write", "write_table"]

log = logging.getLogger(__name__)

SETTINGS_FILE = "observation.json"


def prepare(folder, settings, wanted, *, resume):
    """
    Make the folder, or check that what it holds is this sample; nothing of it is touched otherwise.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder.
    settings : dict
        What the images are made with, as plain types.
    wanted : set of str
        Names of the images.
    resume : bool
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
    if content and SETTINGS_FILE not in content:
        raise OutputError(
            f"out: the folder {str(folder)!r} is not empty and not a sample of mocks (holds {content[0]!r})"
        )
    if content and not resume:
        raise OutputError(f"out: {str(folder)!r} already holds a sample; choose another folder or resume it")
    if not content:
        _claim(folder / SETTINGS_FILE, json.dumps(settings, indent=1) + "\n")
    # Also after writing: two runs that start at once both come here, and the one that was second is told.
    check_settings(folder, settings)
    if tables.SAMPLE_FILE in content:
        others = set(tables.read_sample(folder)["source_id"]) - wanted
        if others:
            raise OutputError(
                f"out: the sample in {str(folder)!r} has {len(others)} images that are not asked for now "
                f"(e.g. {min(others)}): ask for them as well or choose another folder"
            )
    _sweep(folder)


def _claim(path, text):
    """Write a file whole, unless another run has just done so: the first one stays."""
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


def check_settings(folder, settings):
    """
    Check that the settings in the folder are those of this run.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder.
    settings : dict
        What the images are made with.

    Raises
    ------
    OutputError
        If they cannot be read or differ.
    """
    path = folder / SETTINGS_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise OutputError(f"out: {str(path)!r} cannot be read: {error}") from error
    differences = [
        f"{key} is {found.get(key)!r} there and {settings.get(key)!r} now"
        for key in sorted(found.keys() | settings.keys())
        if found.get(key) != settings.get(key)
    ]
    if differences:
        raise OutputError(f"out: the sample in {str(folder)!r} was made with other settings: {'; '.join(differences)}")


def _sweep(folder):
    """Take away what a run that was killed while it wrote has left under a temporary name."""
    images = folder / tables.IMAGE_FOLDER
    try:
        images.mkdir(exist_ok=True)
        for place, stem, suffix in (
            (images, "", ".fits"),
            (folder, Path(tables.SAMPLE_FILE).stem, ".ecsv"),
            (folder, Path(SETTINGS_FILE).stem, ".json"),
        ):
            for leftover in place.glob(f".{stem}*{suffix}"):
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"out: cannot use the folder {str(images)!r}: {error.strerror}") from error


def finished_headers(folder, names, digest):
    """
    Headers of the images that an earlier run has made with the same settings.

    Parameters
    ----------
    folder : `~pathlib.Path`
        The folder.
    names : iterable of str
        Names of the images that are asked for.
    digest : str
        Name of the settings.

    Returns
    -------
    dict
        Name of the image -> its header. A file that is damaged, or was made with other settings, does not count.
    """
    images = folder / tables.IMAGE_FOLDER
    there = {path.name for path in images.iterdir()}
    headers = {}
    for name in names:
        if f"{name}.fits" in there:
            header = _header_of_whole_file(images / f"{name}.fits")
            if header is not None and header.get(DIGEST_KEY) == digest:
                headers[name] = header
    return headers


def _header_of_whole_file(path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what astropy says of itself and of odd headers is not asked for here
            warnings.simplefilter("error", AstropyUserWarning)  # of a file that is shorter than its headers say
            with open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
                len(hdus)  # reads the headers of all extensions, not only of the first
                return hdus[0].header
    except (OSError, TypeError, ValueError, LookupError, fits.VerifyError, AstropyUserWarning) as error:
        log.debug("%s is made again: %s", path, error)
        return None


def write(image, path):
    """
    Write an image so that it is whole or not there.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image.
    path : `~pathlib.Path`
        The file; one that is there is replaced.
    """
    _twice(lambda: write_image(image, path, overwrite=True))


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
