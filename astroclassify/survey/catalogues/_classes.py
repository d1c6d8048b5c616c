"""Classes of candidates by extent and likelihood: published cuts and one's own."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy import units as u

from astroclassify._checks import shorten
from astroclassify._x_classes import X_CLASS_BOUNDS, X_CLASS_SOURCE, X_CLASSES
from astroclassify.exceptions import ArgumentError, EmptyResultWarning, SchemaError
from astroclassify.schemes import Flag
from astroclassify.tables import plain_column, plain_table

__all__ = ["CUTS", "NOT_EXTENDED", "Cuts", "classify_extent", "get_cuts", "in_any", "select"]


@dataclass(frozen=True)
class Cuts:
    """
    A class of candidates as bounds on columns of their table.

    Parameters
    ----------
    name : str
        Name of the class.
    bounds : dict or sequence of dict
        Column -> (low, high), `None` where there is no bound. A candidate is in where every value lies above the low
        bound and not above the high one; with several dicts, where that holds for one of them. Columns with a unit
        take quantities.
    origin : str, optional
        Where the numbers come from.
    likelihood : str, optional
        Convention of likelihoods for which they hold, ``"delta-c"`` or ``"ln-p"``; by default any.
    without : Flag, optional
        Rows with one of these flags are not in the class.

    Raises
    ------
    ValueError
        If there are no bounds, or a pair of them is not (low, high) with low below high.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.survey import Cuts
    >>> bright = Cuts("bright", {"ext": (5 * u.arcsec, None), "counts": (100 * u.ct, None)})
    >>> bright.columns
    ('ext', 'counts')
    """

    name: str
    bounds: tuple
    origin: str = ""
    likelihood: str | None = None
    without: Flag = Flag.FAILED

    def __post_init__(self):
        boxes = (self.bounds,) if isinstance(self.bounds, dict) else tuple(self.bounds)
        if not boxes or not all(isinstance(box, dict) and box for box in boxes):
            raise ArgumentError(f"bounds must be a dict of column -> (low, high), or several, got {self.bounds!r}")
        for column, pair in ((column, pair) for box in boxes for column, pair in box.items()):
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ArgumentError(f"bounds of {column!r} must be (low, high), got {pair!r}")
            low, high = pair
            if low is not None and high is not None and not low < high:
                raise ArgumentError(f"bounds of {column!r} must be (low, high) with low below high, got {pair!r}")
        object.__setattr__(self, "bounds", boxes)

    @property
    def columns(self):
        """Names of the columns that are needed."""
        return tuple(dict.fromkeys(column for box in self.bounds for column in box))

    def passed(self, candidates):
        """
        Which candidates are in the class.

        Parameters
        ----------
        candidates : `~astropy.table.QTable`
            A CANDIDATES table, or any with the columns needed.

        Returns
        -------
        `~numpy.ndarray` of bool
            One per row; false where a value is not a number or the row has a flag that is not allowed.

        Raises
        ------
        SchemaError
            If a column is missing or has another unit than the bounds, or the likelihoods follow another convention.
        """
        candidates = plain_table(candidates)
        missing = [column for column in self.columns if column not in candidates.colnames]
        if missing:
            raise SchemaError(f"candidates lack the columns {missing}, which the cuts {self.name!r} need")
        found = candidates.meta.get("likelihood")
        if None not in (self.likelihood, found) and found != self.likelihood:
            raise SchemaError(f"the cuts {self.name!r} hold for likelihood={self.likelihood!r}, candidates: {found!r}")
        inside = np.zeros(len(candidates), bool)
        for box in self.bounds:
            inside |= np.logical_and.reduce([_between(candidates, column, pair) for column, pair in box.items()])
        if "flags" in candidates.colnames:
            inside &= (plain_column(candidates["flags"], 0) & self.without.value) == 0
        return inside


def _between(candidates, column, pair):
    values = plain_column(candidates[column])  # whole numbers may still be masked: not a number
    values = values if isinstance(values, u.Quantity) else np.asarray(values, float)
    low, high = (sign * np.inf if bound is None else bound for sign, bound in zip((-1, 1), pair, strict=True))
    try:
        # Infinity compares with any unit.
        return np.asarray((values > low) & (values <= high))
    except u.UnitConversionError:
        unit = getattr(values, "unit", None) or "none"
        raise SchemaError(f"bounds of {column!r} are {pair}, the unit of the column is {unit}") from None


# Flags that extended sources must not have: no fit, two points, or an extent that the image does not show.
NOT_EXTENDED = Flag.FAILED | Flag.DOUBLE | Flag.AT_BOUND | Flag.EXTRAPOLATED


def _published(name, what, without):
    boxes = [dict(box) for box in X_CLASS_BOUNDS[name]]
    for box in boxes:
        if "ext" in box:
            box["ext"] = tuple(None if end is None else end * u.arcsec for end in box["ext"])
    return Cuts(name, boxes, f"{X_CLASS_SOURCE}{what}", without=without)


CUTS = {
    "C1": _published("C1", "; after Pacaud et al. 2006: extended sources almost without contamination", NOT_EXTENDED),
    "C2": _published("C2", "; after Pacaud et al. 2006: extended sources, half of them contaminants", NOT_EXTENDED),
    "P1": _published("P1", ": point sources", Flag.FAILED),
}
"""Published cuts of the XAmin pipeline by class: C1, C2 (extended) and P1 (point sources), which exclude each other."""


def get_cuts(cuts):
    """Cuts by the name of a published class; cuts are returned as they are."""
    if isinstance(cuts, Cuts):
        return cuts
    if not isinstance(cuts, str) or cuts not in CUTS:
        raise ArgumentError(f"cuts must be one of {X_CLASSES} or Cuts, got {shorten(cuts)}")
    return CUTS[cuts]


def classify_extent(candidates, cuts=X_CLASSES):
    """
    Class of each candidate.

    Parameters
    ----------
    candidates : `~astropy.table.QTable`
        A CANDIDATES table.
    cuts : sequence of str or Cuts, optional
        Classes, published or own; where a candidate is in several, the first one counts.

    Returns
    -------
    `~numpy.ndarray` of str
        Name of the class per row, empty for none.

    Raises
    ------
    SchemaError
        If a column is missing, or the cuts hold for another convention of likelihoods.
    ValueError
        If there are no such cuts.

    Notes
    -----
    C1: EXT > 5", EXT_LIKE > 33, DET_LIKE > 32. C2: EXT > 5", EXT_LIKE from 15 to 33. P1: DET_LIKE of the point source >
    30, and EXT < 3" or EXT_LIKE = 0. The published likelihoods come from a program that is not public; whether they are
    differences of the Cash statistic or a scaled half of them is not known. With this package's candidates the numbers
    are used as they are: what purity that gives is a question for simulated fields (`calibrate_cuts`). What two points
    fit better (flag ``double``) is neither C1 nor C2: on simulated fields none of 20 such candidates was a cluster.

    References
    ----------
    Faccioli et al. 2018, A&A 620, A9; Pacaud et al. 2006, MNRAS 372, 578; Koulouridis et al. 2021, A&A 652, A12.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.survey import classify_extent
    >>> table = QTable({"ext": [12, 8, 0] * u.arcsec, "ext_like": [50.0, 20.0, 0.0], "det_like": [90.0, 40.0, 80.0]})
    >>> table["pnt_det_like"] = [40.0, 20.0, 80.0]
    >>> [str(name) for name in classify_extent(table)]
    ['C1', 'C2', 'P1']
    """
    classes = [get_cuts(each) for each in ([cuts] if isinstance(cuts, str | Cuts) else cuts)]
    names = np.full(len(candidates), "", dtype=f"U{max((len(each.name) for each in classes), default=1)}")
    for each in reversed(classes):
        names[each.passed(candidates)] = each.name
    return names


def select(candidates, cuts):
    """
    Candidates of a class.

    Parameters
    ----------
    candidates : `~astropy.table.QTable`
        A CANDIDATES table.
    cuts : str or Cuts, or a sequence of them
        The class: published (``"C1"``, ``"C2"``, ``"P1"``) or own; of several, a candidate is in one of them.

    Returns
    -------
    `~astropy.table.QTable`
        The rows that are in the class, in their order.

    Raises
    ------
    SchemaError
        If a column is missing, or the cuts hold for another convention of likelihoods.
    ValueError
        If there are no such cuts.

    Warns
    -----
    EmptyResultWarning
        If there is none.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.survey import select
    >>> table = QTable({"ext": [12, 8, 0] * u.arcsec, "ext_like": [50.0, 20.0, 0.0], "det_like": [90.0, 40.0, 80.0]})
    >>> len(select(table, ["C1", "C2"]))
    2
    """
    chosen = candidates[in_any(candidates, cuts)]
    if not len(chosen):
        names = " or ".join(str(getattr(each, "name", each)) for each in np.atleast_1d(cuts))
        warnings.warn(f"none of {len(candidates)} candidates is {names}", EmptyResultWarning, stacklevel=2)
    return chosen


def in_any(candidates, cuts):
    """Which candidates are in one of the classes."""
    classes = [cuts] if isinstance(cuts, str | Cuts) else list(cuts)
    if not classes:
        raise ArgumentError("cuts must be a class or several, got an empty sequence")
    return np.logical_or.reduce([get_cuts(each).passed(candidates) for each in classes])
