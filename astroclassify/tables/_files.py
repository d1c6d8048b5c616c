"""Files of tables and of sample folders: whole or not there, the format by the ending of the name."""

import gzip
import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify._checks import first_line
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import MissingDependencyError, OutputError, SchemaError

from ._columns import SAMPLE, validate
from ._guard import check_file
from ._plain import plain_column, plain_table
from ._sample import SampleTable
from ._text_cells import read_csv, write_csv
from ._votable import write_votable

__all__ = ["format_of", "image_paths", "read", "read_sample", "unpack", "write", "write_beside", "write_sample"]

SAMPLE_FILE = "sample.ecsv"
IMAGE_FOLDER = "images"

_FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
    ".csv": "csv",
}
# What `check_file` calls them. Parquet has its own checks.
_FORMS = {"ascii.ecsv": "ecsv", "fits": "fits", "votable": "votable", "csv": "text"}


def format_of(path, name="path"):
    """Format of a file for `astropy.table`, by the ending of its name; ``name`` is what errors call the argument."""
    path = Path(path)
    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    file_format = _FORMATS.get(ending, "fits" if packed else None)
    if file_format is None or (packed and file_format == "parquet"):
        raise SchemaError(f"{name} must end in one of {sorted(_FORMATS)}, or .gz after it, got {str(path)!r}")
    if file_format == "parquet" and find_spec("pyarrow") is None:
        raise MissingDependencyError("pyarrow is needed for Parquet and is not installed: pip install pyarrow")
    return file_format


def read(path, spec=None):
    """
    Read a table from ECSV, FITS, VOTable, Parquet or CSV, by the ending of its name.

    Parameters
    ----------
    path : str or path-like
        The file.
    spec : TableSpec, optional
        What it must be.

    Returns
    -------
    `~astropy.table.QTable`
        The table, native byte order, text as text.

    Raises
    ------
    SchemaError
        If the file cannot be read as a table or is not what ``spec`` asks for.
    FileNotFoundError
        If there is no such file.
    """
    path = Path(path)
    file_format = format_of(path)
    check_regular(path, error=SchemaError)
    if file_format in _FORMS:
        check_file(path, _FORMS[file_format])
    try:
        table = read_csv(path) if file_format == "csv" else QTable.read(path, format=file_format)
    except SchemaError:
        raise
    except Exception as error:
        raise SchemaError(f"{str(path)!r} cannot be read as a table ({file_format}): {first_line(error)}") from error
    table = plain_table(table)
    unpack(table, file_format)
    table.meta.pop("folder", None)
    return table if spec is None else validate(table, spec)


# FITS headers hold no nested meta, and VOTable none at all: there the meta is one JSON text under this name.
_META_KEYS = {"fits": "ACMETA", "votable": "description"}


def _pack(table, file_format):
    """Copy of a table in what a format can hold: meta as JSON, in VOTable a sky position as two columns."""
    table = plain_table(table).copy(copy_data=False)  # FITS and Parquet hold no objects
    table.meta.pop("folder", None)
    if file_format not in _META_KEYS:
        return table
    text = json.dumps(dict(table.meta), default=str)
    table.meta = {_META_KEYS[file_format]: text}
    if file_format == "votable":
        for name in [name for name in table.colnames if isinstance(table[name], SkyCoord)]:
            sky, index = table[name].icrs, table.index_column(name)
            table.remove_column(name)
            table.add_columns([sky.ra, sky.dec], [index, index], [f"{name}_ra", f"{name}_dec"])
    return table


def unpack(table, file_format):
    """Undo `_pack`; files that others wrote stay as they are."""
    if file_format not in _META_KEYS:
        return
    try:
        # VOTable writers break long texts into lines.
        meta = json.loads(" ".join(str(table.meta[_META_KEYS[file_format]]).split()))
    except (KeyError, TypeError, ValueError):
        return
    if not isinstance(meta, dict):
        return
    del table.meta[_META_KEYS[file_format]]
    table.meta.update(meta)
    for name in [name[:-3] for name in table.colnames if name.endswith("_ra") and f"{name[:-3]}_dec" in table.colnames]:
        if file_format == "votable":
            index, sky = table.index_column(f"{name}_ra"), SkyCoord(table[f"{name}_ra"], table[f"{name}_dec"])
            table.remove_columns([f"{name}_ra", f"{name}_dec"])
            table.add_column(sky, index, name)


def write(table, path, *, overwrite=False):
    """
    Write a table so that the file is whole or not there.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table.
    path : str or path-like
        The file; its ending gives the format (``.ecsv`` keeps everything; ``.vot`` also has UCDs and descriptions of
        the package's columns, and the system of the coordinates; ``.csv``, for spreadsheets and people, keeps columns
        and their units, written as ``ext [arcsec]``, but no ``meta``).
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Returns
    -------
    `~pathlib.Path`
        The file.

    Raises
    ------
    OutputError
        If the file exists and ``overwrite`` is false, or it cannot be written.
    SchemaError
        If the ending is not that of a known format, or the format cannot hold the table.
    MissingDependencyError
        If the ending is ``.parquet`` and pyarrow is not installed.
    """
    path = Path(path)
    file_format = format_of(path)
    table = _pack(table, file_format)

    def writer(temporary):
        packed = path.suffix.lower() == ".gz" and file_format != "fits"  # astropy packs FITS itself, by the name
        try:
            if file_format == "csv":
                with (gzip.open if packed else open)(temporary, "wt", encoding="utf-8", newline="") as stream:
                    write_csv(table, stream)
            elif file_format == "votable":
                with (gzip.open if packed else open)(temporary, "wb") as stream:
                    write_votable(table, stream)
            elif packed:
                with gzip.open(temporary, "wt", encoding="utf-8", newline="") as stream:
                    table.write(stream, format=file_format)
            else:
                table.write(temporary, format=file_format, overwrite=True)
        except (TypeError, ValueError) as error:
            raise SchemaError(f"the table cannot be written as {file_format}: {first_line(error)}") from error

    write_beside(path, writer, overwrite=overwrite)
    return path


def write_beside(path, writer, *, overwrite=False):
    """
    Write a file under a temporary name beside its own, then rename it.

    Parameters
    ----------
    path : `~pathlib.Path`
        The final name.
    writer : callable
        Takes the temporary name and writes it.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Raises
    ------
    OutputError
        If the file exists and ``overwrite`` is false, or the folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{str(path)!r} exists already; choose another name or ask to overwrite it")
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{path.stem[:32]}-", suffix="".join(path.suffixes), dir=path.parent
        )
    except OSError as error:
        raise OutputError(f"cannot write in {str(path.parent)!r}: {error.strerror}") from error
    os.close(descriptor)
    try:
        writer(temporary)
        # mkstemp makes files that only the owner can read; give what the user's umask would have given.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {first_line(error)}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_sample(folder):
    """
    Read the table of a sample folder.

    Parameters
    ----------
    folder : str or path-like
        The folder, which holds ``sample.ecsv`` and ``images/``.

    Returns
    -------
    SampleTable
        A SAMPLE table, with the folder in ``meta["folder"]``.

    Raises
    ------
    FileNotFoundError
        If the folder or its table is missing.
    SchemaError
        If the table is not a SAMPLE table.
    """
    folder = Path(folder)
    if not (folder / SAMPLE_FILE).is_file():
        raise FileNotFoundError(f"folder: {str(folder)!r} is not a sample (no {SAMPLE_FILE})")
    sample = SampleTable(read(folder / SAMPLE_FILE, SAMPLE), copy=False)
    sample.meta["folder"] = str(folder.resolve())
    return sample


def write_sample(sample, folder, *, overwrite=False):
    """
    Write the table of a sample folder.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table.
    folder : str or path-like
        The folder; made if it is not there.
    overwrite : bool, optional
        Whether a table that is there may be replaced.

    Returns
    -------
    `~astropy.table.QTable`
        The sample with ``meta["folder"]`` set.
    """
    folder = Path(folder)
    sample = validate(sample, SAMPLE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from error
    write(sample, folder / SAMPLE_FILE, overwrite=overwrite)
    sample.meta["folder"] = str(folder.resolve())
    return sample


def image_paths(sample):
    """
    Absolute paths of the images of a sample.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table as `read_sample` gives it.

    Returns
    -------
    list of `~pathlib.Path`
        One per row. A row without an image (empty ``path``) gives the folder itself, which no reader takes.

    Raises
    ------
    SchemaError
        If the table has no ``meta["folder"]`` or a path leads out of the folder.
    """
    if "folder" not in sample.meta:
        raise SchemaError("sample has no meta['folder']: read it with tables.read_sample")
    folder = Path(sample.meta["folder"])
    paths = []
    for name in plain_column(sample["path"]).tolist():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise SchemaError(f"path must lie inside the sample folder, got {name!r}")
        paths.append(folder / relative)
    return paths
