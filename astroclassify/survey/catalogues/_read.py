"""Catalogues of X-ray sources and clusters as tables of the package."""

import logging
import warnings
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Column, QTable, Table

from astroclassify._checks import check_choice
from astroclassify.exceptions import AstroclassifyWarning, EmptyResultWarning, SchemaError
from astroclassify.schemes import Flag
from astroclassify.tables import plain_sky, plain_table, provenance, unpack

from ._columns import NoUnitError, join_messages, plain, positions, quantity
from ._files import read_table
from ._frames import columns_by_ucd
from ._identify import COLUMNS, KINDS, Source, advice, fitting, identify, map_columns

__all__ = ["read_catalogue", "unique_names"]

log = logging.getLogger(__name__)

_RESERVED = (*COLUMNS, "message")
_CLASSES = {"0": "", "1": "C1", "2": "C2"}


def read_catalogue(path, *, kind=None, columns=None):
    """
    Read a catalogue of X-ray sources or clusters, in any form that VizieR or TOPCAT writes, or as a table.

    Parameters
    ----------
    path : str, path-like or `~astropy.table.Table`
        FITS, VOTable, ECSV, CSV, TSV of VizieR, or a CDS file beside its ``ReadMe``; gzipped or not. The form is
        detected from the content, not from the name. Or a table in memory: what astroquery answers, or the table of
        `photutils.segmentation.SourceCatalog`.
    kind : {None, "xamin", "xclass", "4xmm", "erass1", "erass1cl", "mcxc", "xcs", "psz2", "xxl", "spt", "act", \
"hiflugcs", "accept", "photutils", "other"}, optional
        Which catalogue it is; by default what the file calls itself (its name at the CDS), else its own columns say so.
        If given, columns without a unit in the file (CSV) have their documented unit. ``"other"``: none of them.
    columns : dict, optional
        Which column is which: name here -> name in the table, or -> (name, unit) where the table has no unit. Names
        here are ``ra`` and ``dec`` (or the longitude and latitude of another system that their names say; or
        ``sky_position`` for a column of coordinates), ``source_id``, ``redshift``, ``r_500``, ``m_500`` and the columns
        of `~astroclassify.tables.CANDIDATES`. With it the catalogue is ``"other"`` unless ``kind`` says something else.

    Returns
    -------
    `~astropy.table.QTable`
        One row per row of the file, in its order: ``source_id``, ``sky_position`` (ICRS), those columns of
        `~astroclassify.tables.CANDIDATES` that the catalogue has, ``flags``, ``redshift``, ``m_500`` [Msun] and
        ``r_500`` [kpc] where they are known, ``message``, then all other columns.
        Missing real numbers are NaN, missing whole numbers stay masked, missing texts are empty. A row without a
        readable position keeps its place with NaN, the flag ``FAILED`` and the reason in ``message``.
        ``meta["catalogue"]`` records the file, its form, its kind and by what it is known, and which column became
        which.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SchemaError
        If the file is not such a table, is damaged, points to other files or addresses, may be two catalogues, has no
        positions or positions in a frame that is not known here, a unit is missing or wrong, or the table has no such
        column as ``columns`` says.
    ValueError
        If ``kind`` is none of these, or ``columns`` is no such dict.

    Warns
    -----
    AstroclassifyWarning
        If the table looks like another catalogue than ``kind``, or units or columns cannot be taken over.
    EmptyResultWarning
        If there are no rows.

    Notes
    -----
    Column names are mapped by one packaged table, ``data/catalogue_columns.ecsv``, which gives the source of each name.
    A catalogue is known by what the file calls itself (``#Name`` of VizieR's TSV, ``CDS-CAT`` and ``EXTNAME`` of FITS,
    the names in a VOTable or of astroquery), else by columns of its own. A column that names the counterpart in another
    catalogue never decides: PSZ2 has a column ``MCXC`` and stays PSZ2. A table that is none of these is read all the
    same where its names and units leave no doubt.

    A redshift that is not above zero stands for none in these lists (-1 in PSZ2, 0 in SPT): ``redshift`` is NaN there,
    the number of such rows is in ``meta["catalogue"]["no_redshift"]``, and a column of another name, such as ``z``, is
    kept beside it as it is.
    Positions may be in ICRS, FK5 and FK4 of any equinox, galactic, supergalactic and (J2000 or other) ecliptic
    coordinates. Which these are, is said by the names of the columns (``RAB1950``, ``GLON``), their descriptions or
    the ``COOSYS`` they refer to; else by ``RADESYS`` and ``EQUINOX`` of the header, or the only ``COOSYS``; else they
    are ICRS. Contradictions are refused. Positions of J2000 count as ICRS (they differ by less than 0.03 arcsec).
    Epochs and proper motions are not used: positions stay those of the catalogue's epoch.

    A right ascension in hours is read as such where its unit (``h``, ``h:m:s``) or its text (``12h34m``) says so; one
    without a unit is refused, unless the catalogue is known. In XAmin tables the position is that of the fit of the
    extended model.

    A repeated ``source_id`` gets a number appended from the second time on (4XMM lists one source in many
    observations), and ``message`` says so; rows of a catalogue without names are numbered from 1. A column that has a
    name of the package but other values (``x`` without pixels, ``flags`` of another survey) is kept as
    ``catalogue_<name>``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from astroclassify.survey import read_catalogue
    >>> text = "#\\nName;RAJ2000;DEJ2000;Counts\\n ;deg;deg;ct\\n---;---;---;---\\nA;150.1;-2.5;77\\n"
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "asu.tsv"
    ...     _ = path.write_text(text)
    ...     catalogue = read_catalogue(path)
    >>> catalogue.colnames
    ['source_id', 'sky_position', 'counts', 'flags', 'message']
    >>> catalogue["sky_position"][0].to_string("hmsdms")
    '10h00m24s -02d30m00s'

    Any other table, with the units that it lacks:

    >>> from astropy.table import Table
    >>> table = Table({"cluster": ["A"], "xapa_alpha": [150.1], "xapa_delta": [-2.5], "zspec": [0.3]})
    >>> columns = {"ra": ("xapa_alpha", "deg"), "dec": ("xapa_delta", "deg"), "source_id": "cluster"}
    >>> columns["redshift"] = "zspec"
    >>> read_catalogue(table, kind="other", columns=columns)["source_id", "redshift"].pprint()
    source_id redshift
    --------- --------
            A      0.3
    """
    if kind is not None:
        check_choice("kind", kind, KINDS)
    if isinstance(path, Table):
        table, form, name = Table(path), "table", ""
        table.meta["identifiers"] = [str(table.meta[key]) for key in ("name", "ID") if key in table.meta]  # astroquery
    else:
        table, form = read_table(path)
        unpack(table, form)  # a table written by the package keeps its meta, with the convention of its likelihoods
        name = Path(path).name
    certain, by = kind is not None, "kind="
    if certain and kind != "other" and (found := fitting(table)) and kind not in found:
        text = "; ".join(f"{each!r} by its {by}" for each, by in found.items())
        warnings.warn(f"kind={kind!r} is said of what looks like {text}", AstroclassifyWarning, stacklevel=2)
    if kind is None:
        kind, by = ("other", "columns=") if columns is not None else identify(table)
    mapping = map_columns(table, kind, certain=certain or kind == "photutils", given=columns)
    result = QTable()
    used = {"sky_position": _position(table, mapping, result)}
    used["source_id"] = _names(table, mapping, result)
    used.update(_measures(table, mapping, None if certain else kind, result))
    used.update(_flags(table, result))
    result = result[[name for name in _RESERVED if name in result.colnames]]
    _others(table, _consumed(used), result)
    del table.meta["identifiers"]
    if form in ("ecsv", "table") or "sky_position" in table.colnames:
        result.meta.update(table.meta)
    origins = {name: " ".join(names) for name, names in used.items() if names}
    result.meta["catalogue"] = {"file": name, "form": form, "kind": kind, "by": by, "columns": origins}
    if "redshift" in result.colnames:
        result.meta["catalogue"]["no_redshift"] = _mask_redshifts(result)
    for key, value in provenance().items():
        result.meta.setdefault(key, value)
    if not len(result):
        warnings.warn(f"{name or 'the table'} has no rows", EmptyResultWarning, stacklevel=2)
    failed = sum(bool(text) for text in result["message"])
    if failed:
        log.warning(
            "%d of %d rows of %s have a fault; column 'message' says which", failed, len(result), name or "the table"
        )
    return result


def _position(table, mapping, result):
    """Fill sky_position, flags and message; return the columns used."""
    source = mapping.get("sky_position", Source(()))
    coordinates = [name for name in table.colnames if isinstance(table[name], SkyCoord)]
    if not source.columns and len(coordinates) == 1:
        source = Source(tuple(coordinates))
    if "sky_position" in coordinates and not (source.columns and source.sure):
        source = Source(("sky_position",))
    if not source.columns:
        by_ucd, frame = columns_by_ucd(table)
        source = Source(tuple(by_ucd), frame=frame)
    columns = list(source.columns)
    if len(columns) == 1 and columns[0] in coordinates:
        sky = plain_sky(table[columns[0]], f"column {columns[0]!r}")
        faults = ["" if np.isfinite(ra) else "no position" for ra in np.atleast_1d(sky.ra.deg)]
    elif len(columns) > 1:
        try:
            sky, faults = positions(table, columns, source.unit, source.frame)
        except NoUnitError as error:
            raise SchemaError(f"{error}. {advice(table, columns)}") from None
    else:
        raise SchemaError(
            "no columns of a position such as RAJ2000 and DEJ2000 or ra and dec (a table without any can be joined to "
            f"a catalogue by name, not read as one). {advice(table)}"
        )
    result["sky_position"] = sky
    result["message"] = _text_column(faults)
    result["flags"] = np.where(result["message"] != "", int(Flag.FAILED), 0).astype(np.int64)
    return columns


def _texts(column):
    """Text of every value, empty where there is none."""
    column = column.copy()
    column.unit = None
    values = plain(column)
    if hasattr(values, "mask"):
        return ["" if gap else str(value) for value, gap in zip(values.tolist(), values.mask, strict=True)]
    if values.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:.17g}" for value in values]
    return [str(value) for value in values.tolist()]


def _text_column(texts):
    """Array of texts, also of none."""
    texts = list(texts)
    return np.array(texts, dtype=str) if texts else np.zeros(0, "U32")


def _names(table, mapping, result):
    """Fill source_id, different in every row; return the columns used."""
    columns = list(mapping["source_id"].columns) if "source_id" in mapping else []
    texts = _texts(table[columns[0]]) if columns else [str(number) for number in range(1, len(table) + 1)]
    names, messages = unique_names(texts, [str(text) for text in result["message"]])
    result["source_id"], result["message"] = _text_column(names), _text_column(messages)
    return columns


def unique_names(texts, messages):
    """Names, different in every row, and messages that say which had to be changed."""
    taken, first, names = set(texts), {}, []
    for number, text in enumerate(texts):
        name, fault = text, ""
        if not text:
            name, fault = f"row_{number + 1}", "the catalogue has no name here"
        elif text in first:
            name, fault = f"{text}_2", f"source_id {text!r} is also that of row {first[text] + 1}"
        else:
            first[text] = number
        if fault:
            count = 2
            while name in taken:
                count += 1
                name = f"{text or 'row'}_{count}"
            taken.add(name)
            messages[number] = join_messages(messages[number], fault)
        names.append(name)
    return names, messages


def _measures(table, mapping, guessed, result):
    """Fill the other columns; return the columns used for each. ``guessed``: the kind, where nobody has said it."""
    used, refused = {}, []
    for name, unit in COLUMNS.items():
        if name not in mapping or name in result.colnames:
            continue
        source, (column,) = mapping[name], mapping[name].columns
        if unit == "str":
            result[name] = _text_column(_CLASSES.get(text, text) for text in _texts(table[column]))
        else:
            try:
                result[name] = quantity(table[column], name, source.unit)
            except SchemaError as error:
                if source.sure:
                    hint = (
                        f". Its columns are those of a {guessed!r} catalogue: if it is one, kind={guessed!r} gives the "
                        "units that its file lacks; of any other table columns={...} says which is which"
                    )
                    raise SchemaError(f"{error}{hint if guessed not in (None, 'other') else ''}") from None
                refused.append(str(error))
                continue
        used[name] = [column]
    if refused:
        text = "; ".join(refused)
        text = f"left as they are, with catalogue_ before a name that the package has: {text}"
        warnings.warn(text, AstroclassifyWarning, stacklevel=4)
    return used


def _consumed(used):
    """Columns that need not be kept beside those they became; z is, as redshift leaves out what is none."""
    return {each for name, names in used.items() for each in names if name != "redshift" or each.lower() == name}


def _mask_redshifts(result):
    """Make redshifts that are none NaN; return their number."""
    none = ~(np.asarray(result["redshift"]) > 0)
    result["redshift"] = np.where(none, np.nan, result["redshift"])
    if none.any():
        log.info("%d of %d redshifts are none (not above 0, or no number)", none.sum(), len(none))
    return int(none.sum())


def _flags(table, result):
    """Take over flags and messages of a table that the package itself wrote; return the columns used."""
    own = {"source_id", "flags"} <= set(table.colnames) and (
        "sky_position" in table.colnames or "sky_position_ra" in table.colnames
    )
    flags = plain_table(table[["flags"]])["flags"] if own else result["flags"]
    if not own or flags.dtype.kind not in "iu":
        return {}
    result["flags"] = result["flags"] | flags.astype(np.int64)
    if "message" not in table.colnames:
        return {"flags": ["flags"]}
    pairs = zip(_texts(table["message"]), result["message"], strict=True)
    result["message"] = _text_column(join_messages(old, str(new)) for old, new in pairs)
    return {"flags": ["flags"], "message": ["message"]}


def _others(table, used, result):
    """Add the columns that are not among those used, under names that are free."""
    lost, taken = [], set(result.colnames)
    for name in table.colnames:
        if name in used:
            continue
        column = table[name]
        free = f"catalogue_{name}" if name.lower() in _RESERVED else name
        while free in taken:
            free += "_"
        taken.add(free)
        if not isinstance(column, Column):
            result[free] = column
            continue
        try:
            values = plain(column)
        except ValueError:
            lost.append(f"{name} ({column.unit})")
            column = column.copy()
            column.unit = None
            values = plain(column)
        result[free] = values
        result[free].info.description = column.description
    if lost:
        text = ", ".join(lost)
        warnings.warn(f"units that cannot be read were dropped: {text}", AstroclassifyWarning, stacklevel=4)
