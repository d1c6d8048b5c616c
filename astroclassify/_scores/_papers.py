"""Tables laid out like those of the two papers, the printed numbers beside measured ones."""

from functools import lru_cache

import numpy as np
from astropy.table import QTable, Table

from astroclassify._checks import check_choice
from astroclassify.data import FOLDER as DATA
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import CANDIDATE, CLUSTER, COOL_CORE
from astroclassify.tables import provenance

__all__ = ["paper_table"]

_SU = ("precision", "recall", "f1", "bacc")
_KOSIBA = ("accuracy", "precision", "recall", "auc")
# Class and measure of each column, in the order of the printed table.
_LAYOUTS = {
    "su2020": (("mean", "f1"), ("mean", "bacc"), *((label, score) for label in COOL_CORE.classes for score in _SU)),
    "kosiba2020-table5": tuple((CLUSTER.classes[0], measure) for measure in _KOSIBA),
    "kosiba2020-table6": tuple((label, measure) for label in CANDIDATE.classes for measure in _KOSIBA),
}
_ERRORS = ("std", "lo", "hi")


@lru_cache(maxsize=1)
def _printed():
    """The packaged ``paper_scores.ecsv``."""
    with (DATA / "paper_scores.ecsv").open("rb") as stream:
        return QTable.read(stream.read().decode(), format="ascii.ecsv")


def _printed_rows(paper):
    """Method -> (source, cell -> numbers) of one table, in printed order."""
    rows = {}
    for row in _printed():
        if row["table"] == paper:
            cells = rows.setdefault(str(row["method"]), (str(row["source"]), {}))[1]
            cells[str(row["class"]), str(row["measure"])] = {"value": float(row["value"]), "std": float(row["std"])}
    return rows


def _measured_cells(name, scores, layout):
    """Cell -> numbers of a SCORES or `score_seeds` table."""
    if not isinstance(scores, Table) or "class" not in scores.colnames:
        raise SchemaError(f"ours[{name!r}] must be a table of score or score_seeds, got {type(scores).__name__}")
    places = {str(label): row for row, label in enumerate(scores["class"])}
    missing = sorted({label for label, _ in layout} - set(places))
    missing += sorted({measure for _, measure in layout} - set(scores.colnames))
    if missing:
        raise SchemaError(f"ours[{name!r}] must have the classes and scores of the paper's table, lacks {missing}")
    cells = {}
    for label, measure in layout:
        cell = cells[label, measure] = {"value": float(scores[measure][places[label]])}
        for end in _ERRORS:
            if f"{measure}_{end}" in scores.colnames:
                cell[end] = float(scores[f"{measure}_{end}"][places[label]])
    return cells


def _text(cell):
    value, std, low, high = (cell.get(name, np.nan) for name in ("value", *_ERRORS))
    if np.isnan(value):
        return ""
    if np.isfinite(std):
        return f"{value:.2f}+-{std:.2f}"
    return f"{value:.2f} ({low:.2f}-{high:.2f})" if np.isfinite(low) and np.isfinite(high) else f"{value:.2f}"


def paper_table(paper, ours=None, *, as_text=False):
    """
    The scores that a paper prints, with measured ones beside them.

    Parameters
    ----------
    paper : str
        ``"su2020"`` (three cool-core classes: mean F1, mean BAcc, then P, R, F1, BAcc of each class),
        ``"kosiba2020-table5"`` (clusters: A, P, R, AUC) or ``"kosiba2020-table6"`` (five classes: A, P, R, AUC of each
        against all).
    ours : dict, optional
        Name of a method -> SCORES of `score`, or what `score_seeds` gives. A method with a printed name (such as
        ``"ResNet-18"`` or ``"CN, expert labels"``) comes right below the printed row, others at the end.
    as_text : bool, optional
        One text for each cell, such as ``"0.90+-0.03"`` or ``"0.73 (0.66-0.80)"``, in place of numbers.

    Returns
    -------
    `~astropy.table.QTable`
        ``method``, ``source`` (the paper, or ``"measured"``), and the scores in printed order, named
        ``<class>_<score>`` (in the table with one class ``<score>``). As numbers, ``_std`` (over seeds) and ``_lo``,
        ``_hi`` (bootstrap) follow where any row has them. What a paper does not print is NaN or empty.

    Raises
    ------
    ValueError
        If ``paper`` is not one of these.
    SchemaError
        If a table lacks a class or a score of the paper's.

    Notes
    -----
    The printed numbers are in ``astroclassify/data/paper_scores.ecsv``. They are for the papers' images (TNG300 mock
    images, X-CLASS candidates): scores on other images cannot be ranked against them. The rows "attention network"
    (Zhang et al. 2020, on the images of Su et al.) and "C_SB (fixed cuts)" have a mean F1 only. The five-class scores
    of Kosiba et al. are of one answer per object: the class fractions that follow from their A, P and R add up to one.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620; Zhang et al. 2020, ICPR; Kosiba et al. 2020, MNRAS 496, 4141, Tables 5 and 6.

    Examples
    --------
    >>> from astroclassify.nn import paper_table
    >>> print(paper_table("kosiba2020-table5", as_text=True)[:2]["method", "accuracy", "precision", "recall"])
          method       accuracy  precision    recall
    ----------------- ---------- ---------- ----------
    CN, expert labels 0.90+-0.03 0.89+-0.05 0.91+-0.03
    MN, expert labels 0.88+-0.02 0.87+-0.03 0.91+-0.03
    """
    check_choice("paper", paper, sorted(_LAYOUTS))
    layout, printed = _LAYOUTS[paper], _printed_rows(paper)
    measured = {str(name): _measured_cells(name, scores, layout) for name, scores in (ours or {}).items()}
    rows = []
    for method, (source, cells) in printed.items():
        rows.append((method, source, cells))
        if method in measured:
            rows.append((method, "measured", measured.pop(method)))
    rows += [(method, "measured", cells) for method, cells in measured.items()]
    table = QTable({"method": [row[0] for row in rows], "source": [row[1] for row in rows]})
    single = len({label for label, _ in layout}) == 1
    for label, measure in layout:
        name = measure if single else f"{label}_{measure}"
        column = [cells.get((label, measure), {}) for _, _, cells in rows]
        if as_text:
            table[name] = [_text(cell) for cell in column]
            continue
        for part in ("value", *_ERRORS):
            values = np.array([cell.get(part, np.nan) for cell in column])
            if part == "value" or np.isfinite(values).any():
                part_name = name if part == "value" else f"{name}_{part}"
                table[part_name] = values
                table[part_name].info.format = ".2f"
    table.meta = provenance(paper=paper, source=dict(_printed().meta["source"]))
    return table
