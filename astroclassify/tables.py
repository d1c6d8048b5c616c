"""The tables that cross a door of the package: their columns, and how they are checked, read and written."""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from .exceptions import MissingDependencyError, OutputError, SchemaError
from .schemes import ClassScheme, get_scheme

__all__ = [
    "CANDIDATES",
    "PREDICTIONS",
    "SAMPLE",
    "SCORES",
    "SampleTable",
    "VOTES",
    "TableSpec",
    "empty",
    "image_paths",
    "provenance",
    "read",
    "read_sample",
    "validate",
    "write",
    "write_sample",
]

SAMPLE_FILE = "sample.ecsv"
IMAGE_FOLDER = "images"

_FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".gz": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class TableSpec:
    """
    Columns of a table: name -> ``"str"``, ``"int"``, ``"float"``, ``"sky"`` or a unit (a float column with it).

    Columns beyond these are allowed and kept. With ``per_class`` the table also has one float column
    ``p_<class>`` for each class of its scheme.
    """

    name: str
    columns: tuple
    per_class: bool = False

    def kinds(self, scheme=None):
        """Return the columns as a dict, with those of the classes of ``scheme`` where the table has them."""
        kinds = dict(self.columns)
        if self.per_class and scheme is not None:
            flags = kinds.pop("flags")
            kinds.update({f"p_{label}": "float" for label in scheme.classes})
            kinds["flags"] = flags
        return kinds


SAMPLE = TableSpec(
    "SAMPLE",
    (
        ("source_id", "str"),
        ("group_id", "str"),
        ("path", "str"),
        ("label", "str"),
        ("projection", "str"),
        ("redshift", "float"),
        ("m_500", u.Msun),
        ("r_500", u.kpc),
        ("t_cool", u.Gyr),
        ("n_e", u.cm**-3),
        ("c_sb", "float"),
        ("flags", "int"),
    ),
)
CANDIDATES = TableSpec(
    "CANDIDATES",
    (
        ("source_id", "str"),
        ("sky_position", "sky"),
        ("x", u.pix),
        ("y", u.pix),
        ("ext", u.arcsec),
        ("ext_err", u.arcsec),
        ("ext_like", "float"),
        ("det_like", "float"),
        ("pnt_det_like", "float"),
        ("counts", u.ct),
        ("rate", u.ct / u.s),
        ("off_axis", u.arcmin),
        ("x_class", "str"),
        ("flags", "int"),
    ),
)
PREDICTIONS = TableSpec("PREDICTIONS", (("source_id", "str"), ("label_pred", "str"), ("flags", "int")), per_class=True)
_SCORE_NAMES = ("precision", "recall", "f1", "bacc", "accuracy", "auc")
SCORES = TableSpec(
    "SCORES",
    (("class", "str"), *((f"{name}{end}", "float") for name in _SCORE_NAMES for end in ("", "_lo", "_hi"))),
)
VOTES = TableSpec(
    "VOTES",
    (("source_id", "str"), ("voter_id", "str"), ("question", "str"), ("answer", "str"), ("time", "str")),
)


def provenance(**extra):
    """
    What made a table or an image: package versions and time, for its ``meta``.

    Parameters
    ----------
    **extra
        Further entries.

    Returns
    -------
    dict
        With ``astroclassify``, ``astropy``, ``numpy``, ``python`` versions and ``date`` (UTC).

    Examples
    --------
    >>> from astroclassify.tables import provenance
    >>> sorted(provenance(seed=1))
    ['astroclassify', 'astropy', 'date', 'numpy', 'python', 'seed']
    """
    return {
        "astroclassify": version("astroclassify"),
        "astropy": version("astropy"),
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **extra,
    }


def empty(spec, *, scheme=None):
    """
    Table without rows that has all columns of a specification.

    Parameters
    ----------
    spec : TableSpec
        The specification.
    scheme : ClassScheme or str, optional
        The class scheme, for tables with one column per class.

    Returns
    -------
    `~astropy.table.QTable`
        The table.

    Examples
    --------
    >>> from astroclassify import tables
    >>> tables.empty(tables.PREDICTIONS, scheme="cool-core").colnames
    ['source_id', 'label_pred', 'p_CC', 'p_WCC', 'p_NCC', 'flags']
    """
    scheme = None if scheme is None else get_scheme(scheme)
    table = QTable()
    for name, kind in spec.kinds(scheme).items():
        if isinstance(kind, u.UnitBase):
            table[name] = np.zeros(0) * kind
        elif kind == "str":
            table[name] = np.zeros(0, dtype="U32")
        elif kind == "int":
            table[name] = np.zeros(0, dtype=np.int64)
        elif kind == "float":
            table[name] = np.zeros(0)
        else:
            table[name] = SkyCoord([] * u.deg, [] * u.deg)
    if scheme is not None:
        table.meta["scheme"] = scheme.to_dict()
    return table


def _column_fault(column, kind):
    """Say what is wrong with a column, or return None."""
    # Units first: comparing a unit with a text makes astropy parse the text, which takes milliseconds.
    if isinstance(kind, u.UnitBase):
        if getattr(column, "unit", None) is None:
            return f"must have a unit like {kind}"
        return None if column.unit.is_equivalent(kind) else f"must have a unit like {kind}, got {column.unit}"
    if kind == "sky":
        return None if isinstance(column, SkyCoord) else "must hold SkyCoord"
    if isinstance(column, u.Quantity) and column.unit != u.dimensionless_unscaled:
        return f"must have no unit, got {column.unit}"
    if getattr(column, "dtype", None) is None:
        return f"must hold {kind} values, got {type(column).__name__}"
    dtype_kind = column.dtype.kind
    if kind == "str" and dtype_kind == "O" and not all(isinstance(value, str) for value in column):
        return "must hold text"
    allowed = {"str": "USO", "int": "iu", "float": "fiu"}[kind]
    return None if dtype_kind in allowed else f"must hold {kind} values, got {column.dtype}"


def validate(table, spec, *, scheme=None):
    """
    Check a table against a specification.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table.
    spec : TableSpec
        What it must have; more columns are allowed.
    scheme : ClassScheme or str, optional
        The class scheme, for tables with one column per class; by default that in ``table.meta["scheme"]``.

    Returns
    -------
    `~astropy.table.QTable`
        The same table as a QTable, columns in their own order.

    Raises
    ------
    SchemaError
        If a column is missing or has a wrong kind or unit, or ``source_id`` repeats or is empty. All faults are named.
    """
    table = table if isinstance(table, QTable) else QTable(table)
    if scheme is None and "scheme" in table.meta:
        scheme = ClassScheme.from_dict(dict(table.meta["scheme"]))
    scheme = None if scheme is None else get_scheme(scheme)
    if spec.per_class and scheme is None:
        raise SchemaError(f"a {spec.name} table needs a class scheme in its meta or as argument")
    kinds = spec.kinds(scheme)
    faults = [f"column {name!r} is missing" for name in kinds if name not in table.colnames]
    for name, kind in kinds.items():
        if name in table.colnames:
            fault = _column_fault(table[name], kind)
            if fault:
                faults.append(f"column {name!r} {fault}")
    if not faults and spec.name in ("SAMPLE", "CANDIDATES"):
        names = [str(name) for name in table["source_id"]]
        if len(set(names)) != len(names):
            faults.append("column 'source_id' has repeated values")
        if "" in names:
            faults.append("column 'source_id' has empty values")
    if faults:
        raise SchemaError(f"not a {spec.name} table: " + "; ".join(faults))
    return table


def format_of(path, name="path"):
    """
    Format of a table's file by the ending of its name.

    Parameters
    ----------
    path : str or path-like
        The file.
    name : str, optional
        What errors call it.

    Returns
    -------
    str
        What `astropy.table.Table.write` calls the format.

    Raises
    ------
    SchemaError
        If the ending is not that of a known format.
    MissingDependencyError
        If the ending is ``.parquet`` and pyarrow is not installed.
    """
    try:
        file_format = _FORMATS[Path(path).suffix.lower()]
    except KeyError:
        raise SchemaError(f"{name} must end in one of {sorted(_FORMATS)}, got {str(path)!r}") from None
    if file_format == "parquet" and find_spec("pyarrow") is None:
        raise MissingDependencyError("pyarrow is needed for Parquet and is not installed: pip install pyarrow")
    return file_format


def read(path, spec=None):
    """
    Read a table from ECSV, FITS, VOTable or Parquet, by the ending of its name.

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
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}")
    try:
        table = QTable.read(path, format=file_format)
    except Exception as error:
        raise SchemaError(f"{str(path)!r} cannot be read as a table ({file_format}): {_first_line(error)}") from error
    for name in table.colnames:
        table[name] = _plain_column(table[name])
    unpack(table, file_format)
    table.meta.pop("folder", None)
    return table if spec is None else validate(table, spec)


def _plain_column(column):
    """Native byte order, text as str; an empty text (which readers take for a missing one) stays empty."""
    dtype = getattr(column, "dtype", None)
    if dtype is None:
        return column
    if dtype.kind in "SUO" and hasattr(column, "filled"):
        column = column.filled(b"" if dtype.kind == "S" else "")
    if dtype.kind == "S":
        # numpy before 2 gives floats where there is nothing to decode
        return np.char.decode(np.asarray(column), "utf-8", "replace") if len(column) else np.zeros(0, "U1")
    return column.astype(dtype.newbyteorder("=")) if dtype.byteorder == ">" else column


# FITS headers hold no nested meta, and VOTable none at all: there the meta is one JSON text under this name.
_META_KEYS = {"fits": "ACMETA", "votable": "description"}


def _pack(table, file_format):
    """Copy of a table in what a format can hold: meta as JSON, in VOTable a sky position as two columns."""
    table = table.copy(copy_data=False)
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


def _first_line(error):
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def write(table, path, *, overwrite=False):
    """
    Write a table so that the file is whole or not there.

    Parameters
    ----------
    table : `~astropy.table.Table`
        The table.
    path : str or path-like
        The file; its ending gives the format (``.ecsv`` keeps everything).
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
        try:
            table.write(temporary, format=file_format, overwrite=True)
        except (TypeError, ValueError) as error:
            raise SchemaError(f"the table cannot be written as {file_format}: {_first_line(error)}") from error

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
        raise OutputError(f"cannot write {str(path)!r}: {_first_line(error)}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


class SampleTable(QTable):
    """
    A QTable whose rows scikit-learn can take: ``X`` of `~sklearn.model_selection.cross_val_score` and its kin.

    scikit-learn takes every table with ``iloc`` for one of pandas and calls ``take``, which astropy's do not have.

    Examples
    --------
    >>> from sklearn.model_selection import train_test_split
    >>> from astroclassify.tables import SampleTable
    >>> train, test = train_test_split(SampleTable({"source_id": ["a", "b", "c"]}), test_size=1, random_state=0)
    >>> train["source_id"].tolist(), test["source_id"].tolist()
    (['b', 'a'], ['c'])
    """

    def take(self, indices, axis=0):
        """
        Rows by number.

        Parameters
        ----------
        indices : sequence of int
            Their numbers.
        axis : int, optional
            0; columns are chosen by name.

        Returns
        -------
        SampleTable
            A new table with these rows.
        """
        if axis != 0:
            raise ValueError(f"axis must be 0, got {axis!r}: choose columns by their names")
        return self[np.asarray(indices)]


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
    for name in sample["path"]:
        relative = PurePosixPath(str(name))
        if relative.is_absolute() or ".." in relative.parts:
            raise SchemaError(f"path must lie inside the sample folder, got {str(name)!r}")
        paths.append(folder / relative)
    return paths
