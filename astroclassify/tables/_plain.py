"""Plain values of columns and tables, whatever readers, archives and other programs have made of them."""

from numbers import Real

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.utils import iers

from astroclassify._checks import first_line, shorten
from astroclassify.exceptions import SchemaError

__all__ = ["column_values", "group_names", "has_text", "numbers", "plain_column", "plain_sky", "plain_table"]


def plain_table(table):
    """
    A table with plain columns, whatever readers have made of them: what the functions of the package work on.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Any table: in memory, read from any format, from pandas; it is not changed.

    Returns
    -------
    `~astropy.table.QTable`
        The same rows and columns. Texts are ``str``, empty where masked; real numbers and quantities have no mask, but
        NaN; ``flags`` are whole numbers, 0 where masked (see `plain_column`). Other whole numbers and booleans keep
        their mask, since none of their values says "none"; positions and other mixin columns are as they were.

    Raises
    ------
    SchemaError
        If it is no table.
    """
    if not isinstance(table, Table):
        raise SchemaError(f"a table must be an astropy Table or QTable, got {type(table).__name__}")
    plain = table if isinstance(table, QTable) else QTable(table, copy=False)
    changed = {name: _plain_or_masked(name, plain[name]) for name in plain.colnames}
    changed = {name: values for name, values in changed.items() if values is not plain[name]}
    if changed:
        plain = plain.copy(copy_data=False)
        for name, values in changed.items():
            info = plain[name].info
            kept = {"description": info.description, "format": info.format}
            plain[name] = values
            plain[name].info.description, plain[name].info.format = kept["description"], kept["format"]
    return plain


def _plain_or_masked(name, column):
    """The very column where it is plain already, or its plain values; whole numbers other than flags keep a mask."""
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if not kind or isinstance(column, SkyCoord):
        return column
    if name == "flags" and kind in "iufO":
        return _plain_flags(column)
    is_plain = column.dtype.isnative and not hasattr(column, "mask")
    if is_plain and kind not in "SO":
        return column
    if kind in "iub" and hasattr(column, "mask"):
        return column if column.dtype.isnative else column.astype(column.dtype.newbyteorder("="))
    values = plain_column(column)
    return column if values.dtype.kind == "O" else values  # such as lists of different lengths


def _plain_flags(column):
    """Flags as whole numbers, 0 where there are none; the very column where they are, or where they are no numbers."""
    if column.dtype.kind in "iu" and column.dtype.isnative and not hasattr(column, "mask"):
        return column
    values = plain_column(column, 0)
    if values.dtype.kind == "f":  # of pandas, which makes them so where one is missing
        values = np.where(np.isnan(values), 0, values)
    whole = values.dtype.kind in "iuf" and np.all(np.isfinite(values)) and np.all(values == np.rint(values))
    return values.astype(np.int64) if whole else values


def numbers(table, name, unit=None, *, what="table"):
    """
    A column of a table as plain real numbers in a unit, NaN where there is none.

    ``unit`` None: the column must have none. SchemaError, which calls the table ``what``, if there is no such column,
    its unit does not fit, or it holds no numbers.
    """
    if name not in table.colnames:
        raise SchemaError(f"{what} must have a column {name!r}, got {shorten(table.colnames)}")
    column = table[name]
    values, wanted = plain_column(column), u.dimensionless_unscaled if unit is None else u.Unit(unit)
    if getattr(values, "dtype", np.dtype("U")).kind not in "fiu":
        raise SchemaError(f"column {name!r} of {what} must hold numbers, got {getattr(values, 'dtype', type(column))}")
    found = getattr(column, "unit", None)
    found = u.dimensionless_unscaled if found is None else found
    if not found.is_equivalent(wanted):
        like = f"a unit like {wanted}" if unit is not None and wanted != u.dimensionless_unscaled else "no unit"
        raise SchemaError(f"column {name!r} of {what} must have {like}, got {getattr(column, 'unit', None)}")
    values = np.asarray(getattr(values, "value", values), dtype=float)
    return values if found == wanted else (values * found).to_value(wanted)


def plain_column(column, missing=None):
    """
    Values of a column as a plain array, whatever readers have made of it.

    Parameters
    ----------
    column : `~astropy.table.Column`, array_like or mixin column
        Texts, bytes, numbers or Quantity, masked or not; objects that are texts, bytes, arrays of characters (which is
        how strings of variable length come out of FITS), numbers, None or NaN (which is how pandas marks a gap).
    missing : object, optional
        What stands for a masked value; by default an empty text, NaN for numbers, and False for booleans. What lies
        behind a mask is never used.

    Returns
    -------
    `~numpy.ndarray` or `~astropy.units.Quantity`
        Texts as ``str``, bytes decoded as UTF-8 (bytes that are not become escapes such as ``\\xe9``, so that different
        names stay different); numbers in native byte order, floats if one is NaN for being masked. A column that is no
        array, such as `~astropy.coordinates.SkyCoord`, is returned as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.tables import plain_column
    >>> plain_column(np.ma.array([b"CC", b"--"], mask=[False, True])).tolist()
    ['CC', '']
    >>> plain_column(np.ma.array([16, 999999], mask=[False, True]), missing=0).tolist()
    [16, 0]
    """
    if not isinstance(column, np.ndarray):
        if hasattr(column, "info") and not hasattr(column, "dtype"):  # a mixin column
            return column
        column = np.ma.array(column) if any(value is np.ma.masked for value in column) else np.asarray(column)
    mask = np.asarray(getattr(column, "mask", False))
    values = getattr(column, "unmasked", column)  # of astropy's masked arrays and quantities
    unit = values.unit if isinstance(values, u.Quantity) else None
    values = np.asarray(values)
    if has_text(column):
        return _plain_texts(values, mask, "" if missing is None else str(missing))
    if values.dtype.kind == "O":
        values, mask = _numbers_of_objects(values, mask)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if mask.any():
        if missing is None:
            missing = False if values.dtype.kind == "b" else np.nan
        values = np.where(mask, missing, values)
    return values if unit is None else u.Quantity(values, unit, copy=False)


def has_text(column):
    """Whether a column holds texts: str, bytes, or objects of which all are texts, bytes, characters or gaps."""
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if kind != "O":
        return kind in ("U", "S", "T")
    gaps = np.broadcast_to(getattr(column, "mask", False), np.shape(column))
    present = [value for value in np.asarray(column)[~gaps] if not _is_gap(value)]
    return all(isinstance(value, (str, bytes)) or _is_characters(value) for value in present)


def _is_gap(value):
    """None, and the NaN that stands for it in columns of pandas."""
    return value is None or value is np.ma.masked or (isinstance(value, float) and value != value)


def _gaps(values):
    return np.array([_is_gap(value) for value in values.flat], dtype=bool).reshape(values.shape)


def _is_characters(value):
    return isinstance(value, np.ndarray) and value.dtype.kind in ("U", "S")


def _numbers_of_objects(values, mask):
    """Numbers of an object column and where there is none; objects of another kind stay."""
    mask = np.broadcast_to(mask, values.shape) | _gaps(values)
    if not all(isinstance(value, (Real, np.number)) for value in values[~mask].flat):
        return values, mask
    plain = np.array(values[~mask].tolist())
    result = np.zeros(values.shape, plain.dtype)
    result[~mask] = plain
    return result, mask


def _plain_texts(values, mask, missing):
    if values.dtype.kind == "S":
        # numpy before 2 gives floats where there is nothing to decode
        values = np.char.decode(values, "utf-8", "backslashreplace") if values.size else np.zeros(values.shape, "U1")
    elif values.dtype.kind != "U":
        gaps = np.broadcast_to(mask, values.shape)
        texts = [
            missing if gap else _plain_text(value, missing) for value, gap in zip(values.flat, gaps.flat, strict=True)
        ]
        return np.array(texts, dtype=str).reshape(values.shape) if texts else np.zeros(values.shape, "U1")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return np.where(mask, missing, values) if mask.any() else values


def _plain_text(value, missing):
    if _is_characters(value):
        value = "".join(plain_column(value)).rstrip(" \0")  # which mean nothing in FITS
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return missing if _is_gap(value) else str(value)


def plain_sky(sky, name):
    """
    Positions in ICRS, shape as given, NaN where they are masked or unknown; ``name`` is what an error calls them.

    SchemaError if they are no SkyCoord, or in a frame that cannot be changed to ICRS, such as one of an observatory
    without a time. No table of the Earth's rotation is downloaded for it.
    """
    if not isinstance(sky, SkyCoord):
        raise SchemaError(f"{name} must be positions (SkyCoord), got {type(sky).__name__}")
    try:
        with iers.conf.set_temp("auto_download", False):
            sky = sky.icrs
    except Exception as error:  # whatever a frame asks for
        raise SchemaError(f"{name} cannot be changed to ICRS: {first_line(error)}") from error
    ra, dec = (plain_column(_masked_degrees(angle)) for angle in (sky.ra, sky.dec))
    return SkyCoord(ra * u.deg, dec * u.deg)


def _masked_degrees(angle):
    values = angle.deg
    return np.ma.array(getattr(values, "unmasked", values), mask=getattr(values, "mask", False), dtype=float)


def column_values(table, name, default):
    """Values of a column as a list, ``default`` where they are masked or the table has no such column."""
    if name not in table.colnames:
        return [default] * len(table)
    return plain_column(table[name], default).tolist()


def group_names(values):
    """Names of groups as text, shape (n,); a row without one is a group of its own."""
    names = plain_column(values).tolist()
    return np.array([str(name) or f"row {row}" for row, name in enumerate(names)], dtype=str)
