"""Columns of the package's tables: specifications and checks."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify.exceptions import SchemaError
from astroclassify.schemes import ClassScheme, get_scheme

from ._formats import readable
from ._kinds import KindTable
from ._plain import has_text, plain_column, plain_table

__all__ = [
    "CANDIDATES",
    "PREDICTIONS",
    "SAMPLE",
    "SCORES",
    "VOTES",
    "TableSpec",
    "empty",
    "provenance",
    "validate",
]


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
    if kind == "str" and dtype_kind == "O" and not has_text(column):
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
        The table as a QTable, columns in their own order and plain (see `plain_table`), with formats for printing.
        Where not all columns fit on the terminal, it prints the main ones and names the others; in a notebook
        PREDICTIONS have bars and flags in words.

    Raises
    ------
    SchemaError
        If a column is missing or has a wrong kind or unit, or ``source_id`` repeats or is empty. All faults are named.
    """
    table = plain_table(table)
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
        names = plain_column(table["source_id"]).tolist()
        if len(set(names)) != len(names):
            faults.append("column 'source_id' has repeated values")
        if "" in names:
            faults.append("column 'source_id' has empty values")
    if faults:
        raise SchemaError(f"not a {spec.name} table: " + "; ".join(faults))
    masked = [name for name, kind in kinds.items() if kind == "float" and hasattr(table[name], "mask")]
    # A new table: the one that was handed over keeps its columns and their formats.
    table = KindTable(table, copy=False) if type(table) is QTable else table.copy(copy_data=False)
    for name in masked:  # whole numbers where real ones are wanted
        table[name] = plain_column(table[name])
    return readable(table)
