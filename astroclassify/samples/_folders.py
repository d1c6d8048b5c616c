"""Sample folders: prepared, checked and cleared of leftovers, so that a killed run can be resumed."""

import json
import logging
import os
import secrets
from pathlib import Path

from astroclassify import batch, tables
from astroclassify._checks import shorten
from astroclassify.exceptions import OutputError

__all__ = ["check_settings", "prepare", "remove_leftovers", "resumed_seed", "write_settings"]

log = logging.getLogger(__name__)


def prepare(folder, settings, settings_file, *, what="such a sample", wanted=None, others="images", resume=True):
    """
    Make the folder, or check that it holds this sample; raise OutputError before anything in it is touched.

    ``settings``: plain types. ``wanted``: names of all images; a sample that holds ``others`` is refused.
    """
    settings = json.loads(json.dumps(settings))
    content = _content(folder)
    if content and settings_file not in content:
        raise OutputError(f"out: the folder {str(folder)!r} is not empty and not {what} (holds {content[0]!r})")
    if content and not resume:
        raise OutputError(f"out: {str(folder)!r} already holds a sample; choose another folder or resume it")
    if not content:
        write_settings(folder / settings_file, json.dumps(settings, indent=1) + "\n")
    # Also after writing: of two runs that start at once, the second finds the settings of the first here.
    check_settings(folder / settings_file, settings)
    if wanted is not None and tables.SAMPLE_FILE in content:
        found = set(tables.read_sample(folder)["source_id"]) - set(wanted)
        if found:
            raise OutputError(
                f"out: the sample in {str(folder)!r} has {len(found)} {others} (e.g. {min(found)}): "
                "ask for them as well or choose another folder"
            )
    remove_leftovers(folder, settings_file)


def _content(folder):
    """Names in the folder, which is made if it is not there; hidden ones are left out."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"out must be a folder, {str(folder)!r} is a file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise OutputError(f"out: cannot use the folder {str(folder)!r}: {error.strerror}") from error


def write_settings(path, text):
    """Write the settings whole, unless another run has just written its own: the first file stays."""
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            log.debug("another run has begun %s", path.parent)
        except OSError:  # a file system without hard links, or a second run has removed the temporary file:
            if not path.exists():  # runs remove leftovers only where the settings already are
                os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def resumed_seed(path, rng):
    """Master seed of a run: that of ``rng``, or, without one, the ``seed`` in a settings file, or else a fresh one."""
    if rng is None:
        try:
            return batch.master_seed(json.loads(Path(path).read_text(encoding="utf-8"))["seed"])
        except (OSError, TypeError, ValueError, LookupError) as error:
            log.debug("no seed in %s: %s", path, error)
    return batch.master_seed(rng)


def check_settings(path, settings):
    """Raise OutputError if the settings in a file cannot be read or differ from those of this run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise OutputError(f"out: {str(path)!r} cannot be read: {error}") from error
    differences = [
        f"{key} is {shorten(found.get(key), 60)} there and {shorten(settings.get(key), 60)} now"
        for key in sorted(found.keys() | settings.keys())
        if found.get(key) != settings.get(key)
    ]
    if differences:
        raise OutputError(
            f"out: the sample in {str(path.parent)!r} was made with other settings ({'; '.join(differences)})"
        )


def remove_leftovers(folder, settings_file):
    """Remove temporary files of a run that was killed while it wrote; make the folder of the images."""
    image_folder = folder / tables.IMAGE_FOLDER
    try:
        image_folder.mkdir(exist_ok=True)
        for place, stem, suffix in (
            (image_folder, "", ".fits"),
            (folder, Path(tables.SAMPLE_FILE).stem, ".ecsv"),
            (folder, Path(settings_file).stem, ".json"),
        ):
            for leftover in place.glob(f".{stem}*{suffix}"):
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"out: cannot use the folder {str(image_folder)!r}: {error.strerror}") from error
