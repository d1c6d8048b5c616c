"""Predictions added to the rows of a catalogue."""

import warnings
from collections import Counter

import numpy as np
from astropy import units as u
from astropy.table import Column, QTable

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.schemes import Flag
from astroclassify.tables import PREDICTIONS, plain_table, provenance, validate

from ._columns import join_messages

__all__ = ["annotate"]


def annotate(catalogue, predictions):
    """
    Add predictions to the rows of a catalogue that have the same ``source_id``.

    Parameters
    ----------
    catalogue : `~astropy.table.Table`
        Any table with ``source_id``, such as CANDIDATES. Rows may share a ``source_id``: each gets the prediction.
    predictions : `~astropy.table.QTable`
        PREDICTIONS, in any order.

    Returns
    -------
    `~astropy.table.QTable`
        The rows and columns of ``catalogue``, none dropped and in their order, then ``label_pred``, ``p_<class>`` and
        the other columns of ``predictions``. ``flags`` combine both tables', and ``message`` joins their texts. A row
        without a prediction has an empty label, NaN, the flag ``FAILED`` and the message ``"no prediction"``.
        ``meta["scheme"]`` is that of the predictions, whose complete ``meta`` is in ``meta["predictions"]``.

    Raises
    ------
    SchemaError
        If ``predictions`` is not a PREDICTIONS table or repeats a ``source_id``, or if ``catalogue`` has no
        ``source_id`` or already has one of the new columns.

    Warns
    -----
    AstroclassifyWarning
        If predictions are for sources that are not in the catalogue.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.schemes import CLUSTER
    >>> from astroclassify.survey import annotate
    >>> catalogue = QTable({"source_id": ["a", "b"], "flags": [0, 0]})
    >>> predictions = QTable({"source_id": ["b"], "label_pred": ["cluster"], "p_cluster": [0.9], "p_other": [0.1]})
    >>> predictions["flags"] = [16]
    >>> predictions.meta["scheme"] = CLUSTER.to_dict()
    >>> annotate(catalogue, predictions)["source_id", "label_pred", "flags", "message"].pprint()
    source_id label_pred flags    message
    --------- ---------- ----- -------------
            a             4096 no prediction
            b    cluster    16
    """
    predictions = validate(predictions, PREDICTIONS)
    if "source_id" not in getattr(catalogue, "colnames", ()):
        raise SchemaError("catalogue must be a table with a column 'source_id'")
    catalogue = plain_table(catalogue)
    names = [str(name).strip() for name in catalogue["source_id"].tolist()]
    row_of = _renamed(_rows(predictions), predictions, names)
    new = [name for name in predictions.colnames if name not in ("source_id", "flags", "message")]
    there = [name for name in new if name in catalogue.colnames]
    if there:
        raise SchemaError(f"catalogue has the columns {there} of predictions already: rename or remove them first")
    lost = len(row_of.keys() - set(names))
    if lost:
        warnings.warn(
            f"{lost} of {len(row_of)} predictions are for a source_id that is not in the catalogue",
            AstroclassifyWarning,
            stacklevel=2,
        )
    rows = np.array([row_of.get(name, -1) for name in names], dtype=int)
    result = QTable(catalogue, copy=True)
    for name in new:
        result[name] = _taken(predictions[name], rows)
    flags = np.where(rows < 0, int(Flag.FAILED), _taken(predictions["flags"], rows, 0)).astype(np.int64)
    if "flags" in result.colnames:
        flags = flags | np.asarray(result["flags"]).astype(np.int64)
    result["flags"] = flags
    result["message"] = _messages(result, predictions, rows)
    result.meta["scheme"] = predictions.meta.get("scheme")
    result.meta["predictions"] = dict(predictions.meta)
    result.meta.update(provenance())
    return result


def _rows(predictions):
    """Row of each source_id."""
    row_of, repeated = {}, []
    for row, name in enumerate(predictions["source_id"]):
        name = str(name).strip()
        if name in row_of:
            repeated.append(name)
        row_of[name] = row
    if repeated:
        some = ", ".join(repr(name) for name in sorted(set(repeated))[:5])
        raise SchemaError(
            f"predictions has {len(set(repeated))} source_id more than once ({some}): keep one row of each"
        )
    return row_of


def _renamed(row_of, predictions, names):
    """Rows by the catalogue's names, where the predictions have file names instead (see `extract_cutouts`)."""
    if "group_id" not in predictions.colnames:
        return row_of
    groups = [str(name).strip() for name in predictions["group_id"]]
    known, times = set(names), Counter(groups)
    free = known - row_of.keys()
    return {
        groups[row] if name not in known and groups[row] in free and times[groups[row]] == 1 else name: row
        for name, row in row_of.items()
    }


def _taken(column, rows, blank=None):
    """Values of a column in other rows; where there is no row an empty text, NaN, ``blank``, or a masked value."""
    absent = rows < 0
    if not isinstance(column, (Column, u.Quantity)) or np.ndim(column) > 1:
        raise SchemaError(f"predictions: column {column.info.name!r} must hold one number or text in each row")
    if len(column) == 0:
        blank = np.zeros(1, column.dtype)
        column = blank * column.unit if isinstance(column, u.Quantity) else Column(blank)
    if isinstance(column, u.Quantity):
        values = column[rows].astype(float)
        values[absent] = np.nan * column.unit
        return values
    values = np.ma.asarray(column)[rows]
    if values.dtype.kind in "Uf":
        return np.where(absent, "" if values.dtype.kind == "U" else np.nan, values.data)
    if blank is not None:
        return np.where(absent, blank, np.ma.filled(values, blank))
    return np.ma.array(values, mask=np.ma.getmaskarray(values) | absent) if absent.any() else values


def _messages(result, predictions, rows):
    """Texts of both tables, joined."""
    old, new = (
        table["message"].tolist() if "message" in table.colnames else [""] * len(table)
        for table in (result, predictions)
    )
    texts = [
        join_messages(text, new[row] if row >= 0 else "no prediction")
        for text, row in zip(old, rows.tolist(), strict=True)
    ]
    return np.array(texts, dtype=str) if texts else np.zeros(0, "U1")
