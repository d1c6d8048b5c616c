"""Classification by one number, as before networks: fixed cuts, and ranking."""

from types import MappingProxyType

import numpy as np
from astropy import units as u
from astropy.table import Table
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from astroclassify._checks import check_choice, check_quantity
from astroclassify.schemes import C_SB_BOUNDS, COOL_CORE, N_E_BOUNDS, T_COOL_BOUNDS, Flag, get_scheme
from astroclassify.tables import numbers, plain_table

from ..inputs._predictions import prediction_table
from ._classes import decode_labels, in_sorted_order, sorted_classes

__all__ = ["SU2020_THRESHOLDS", "RankClassifier", "ThresholdClassifier", "classify_conventional"]

SU2020_THRESHOLDS = MappingProxyType(
    {"n_e": N_E_BOUNDS * u.cm**-3, "c_sb": C_SB_BOUNDS * u.dimensionless_unscaled, "t_cool": T_COOL_BOUNDS * u.Gyr}
)
"""Cuts between CC and WCC and between WCC and NCC (Su et al. 2020, MNRAS 498, 5620, section 2)."""

# Measures of an image take the cuts of the true ones; there are none of Su et al. for the cuspiness.
_CUTS = {
    **SU2020_THRESHOLDS,
    "c_sb_corrected": SU2020_THRESHOLDS["c_sb"],
    "n_e_image": SU2020_THRESHOLDS["n_e"],
    "t_cool_image": SU2020_THRESHOLDS["t_cool"],
    "cuspiness_image": None,
}
_UNITS = {name: u.dimensionless_unscaled if cuts is None else cuts.unit for name, cuts in _CUTS.items()}
# A short cooling time, but a high value of every other measure, makes a cool core.
_LOW_FIRST = ("t_cool", "t_cool_image")


def _values(table, measure):
    """A column as plain floats in the unit of the measure; masked entries become NaN."""
    check_choice("measure", measure, _UNITS)
    if not isinstance(table, Table):
        raise TypeError(f"sample must be a table with a column {measure!r}, got {type(table).__name__}")
    values = numbers(table, measure, _UNITS[measure], what="sample")
    return np.where(np.isfinite(values), values, np.nan)


def _one_hot(indices, n_classes):
    """Probability 1 for the class of each row; NaN where the index is -1."""
    probabilities = np.eye(n_classes)[np.maximum(indices, 0)]
    probabilities[indices < 0] = np.nan
    return probabilities


class _TableClassifier(ClassifierMixin, BaseEstimator):
    """Predictions from the classes of the rows, which `_indices` gives."""

    def _indices(self, X):
        raise NotImplementedError

    def _labels(self, X, y):
        """Labels of a training set as text; sets ``classes_``, which are numbers where the labels are."""
        self.classes_ = sorted_classes(get_scheme(self.scheme))
        if y is None and isinstance(X, Table) and "label" in X.colnames:
            y = X["label"]
        if y is None:
            return []
        labels, coded = decode_labels(y, get_scheme(self.scheme))
        if coded:
            self.classes_ = np.arange(len(self.classes_))
        return labels.tolist()

    def predict_proba(self, X):
        """
        Probabilities 0 and 1.

        Parameters
        ----------
        X : `~astropy.table.QTable`
            A table with the column of the measure.

        Returns
        -------
        `~numpy.ndarray`
            Shape (n, n_classes), columns as in ``classes_``: sorted, not in the order of the scheme.

        Raises
        ------
        ValueError
            If a value is missing; `classify` flags it instead.
        """
        indices = self._indices(X)
        if np.any(indices < 0):
            raise ValueError(f"{self.measure} must be finite in every row, got {np.sum(indices < 0)} missing values")
        scheme = get_scheme(self.scheme)
        return in_sorted_order(_one_hot(indices, scheme.n_classes), scheme)

    def predict(self, X):
        """
        Class of each row.

        Parameters
        ----------
        X : `~astropy.table.QTable`
            A table with the column of the measure.

        Returns
        -------
        `~numpy.ndarray`
            Labels, shape (n,).
        """
        # Fixed cuts predict without a fit.
        classes = getattr(self, "classes_", sorted_classes(get_scheme(self.scheme)))
        return classes[np.argmax(self.predict_proba(X), axis=1)]

    def classify(self, sample):
        """
        Classify the rows of a sample.

        Parameters
        ----------
        sample : `~astropy.table.QTable`
            A table with ``source_id`` and the column of the measure.

        Returns
        -------
        `~astropy.table.QTable`
            PREDICTIONS with probabilities 0 and 1, and ``label`` and ``group_id`` where the sample has them. A row
            without a finite value has NaN, the flag ``failed`` and a message. The sample's other flags are kept.
        """
        sample = plain_table(sample)
        indices = self._indices(sample)
        flags = np.zeros(len(sample), dtype=np.int64)
        if "flags" in sample.colnames:
            flags |= np.asarray(sample["flags"], dtype=np.int64) & ~np.int64(Flag.FAILED)
        missing = indices < 0
        scheme = get_scheme(self.scheme)
        return prediction_table(
            sample["source_id"].astype(str).tolist(), _one_hot(indices, scheme.n_classes),
            flags | np.where(missing, int(Flag.FAILED), 0),
            [f"{self.measure} is not finite" if bad else "" for bad in missing], scheme, sample=sample,
            **self._provenance(),
        )  # fmt: skip

    def _provenance(self):
        """What ``meta`` of predictions says of the method."""
        return {"model": f"{type(self).__name__}({self.measure!r})"}


class ThresholdClassifier(_TableClassifier):
    """
    Classes by fixed cuts on one measure.

    Parameters
    ----------
    measure : str, optional
        Column to cut: ``"n_e"``, ``"c_sb"`` or ``"t_cool"`` of a sample, or what is measured on images by
        `~astroclassify.morphology.core_measures` and `~astroclassify.workflows.image_cooling_time`:
        ``"c_sb_corrected"``, ``"n_e_image"``, ``"cuspiness_image"`` or ``"t_cool_image"``.
    thresholds : `~astropy.units.Quantity` or sequence of float, optional
        Cuts between neighbouring classes in the order of the scheme, rising or falling; a plain sequence only where the
        measure has no unit. By default those of Su et al. (2020), `SU2020_THRESHOLDS`, also for the measure of an
        image; ``"cuspiness_image"`` has none.
    scheme : ClassScheme or str, optional
        The classes.

    Notes
    -----
    A value on a cut goes to the class nearer the middle of the scheme: n_e = 0.015 per cm3 is WCC (CC is above), as is
    a cooling time of 7.7 Gyr. Nothing is learned: `fit` only checks.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 2.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import ThresholdClassifier
    >>> table = QTable({"n_e": [0.02, 0.01, 0.001] / u.cm**3})
    >>> ThresholdClassifier("n_e").fit(table).predict(table).tolist()
    ['CC', 'WCC', 'NCC']
    """

    def __init__(self, measure="n_e", *, thresholds=None, scheme=COOL_CORE):
        self.measure = measure
        self.thresholds = thresholds
        self.scheme = scheme

    def fit(self, X=None, y=None, *, groups=None, validation=None):
        """
        Check the cuts; nothing is learned from the data.

        Parameters
        ----------
        X, y, groups, validation : optional
            Taken so that `cross_validate` can treat all classifiers alike.

        Returns
        -------
        ThresholdClassifier
            Itself.

        Raises
        ------
        ValueError
            If the cuts are not one between each two classes, rising or falling.
        """
        self.thresholds_ = self._cuts()
        self._labels(None, y)
        return self

    def _cuts(self):
        check_choice("measure", self.measure, _UNITS)
        scheme, unit = get_scheme(self.scheme), _UNITS[self.measure]
        cuts = _CUTS[self.measure] if self.thresholds is None else self.thresholds
        if cuts is None:
            raise ValueError(f"thresholds must be given for {self.measure!r}")
        if not isinstance(cuts, u.Quantity) and unit == u.dimensionless_unscaled:
            cuts = u.Quantity(cuts)
        cuts = np.atleast_1d(check_quantity("thresholds", cuts, unit))
        steps = np.diff(cuts)
        if cuts.shape != (scheme.n_classes - 1,) or not (np.all(steps > 0) or np.all(steps < 0)):
            raise ValueError(f"thresholds must be {scheme.n_classes - 1} rising or falling cuts, got {cuts}")
        return cuts

    def _indices(self, X):
        values, cuts = _values(X, self.measure), self._cuts()
        if len(cuts) > 1:
            rising = cuts[1] > cuts[0]
        else:
            rising = self.measure in _LOW_FIRST
        if not rising:
            values, cuts = -values, -cuts
        # A value on a cut of the first half has passed it, on one of the second half has not.
        half = len(cuts) / 2
        passed = [values >= cut if index < half else values > cut for index, cut in enumerate(cuts)]
        return np.where(np.isnan(values), -1, np.sum(passed, axis=0, dtype=np.int64))


class RankClassifier(_TableClassifier):
    """
    Classes by rank, **told how many rows of each class there are**: rows are sorted and cut at given class fractions.

    No observer knows these fractions, and no other classifier of the package is told them: its scores are not to be
    compared with theirs as if it were. The class of a row also depends on the other rows given. Su et al. (2020) do
    this for C_SB (mean F1 0.64; with fixed cuts 0.33): fit on the sample, classify the same sample. In `cross_validate`
    each test fold is ranked by itself with the fractions of its training folds. Predictions say so in ``meta``: in the
    name ``model`` and in ``uses_class_fractions``.

    Parameters
    ----------
    measure : str, optional
        Column to rank, as for `ThresholdClassifier`: a cooling time low first, anything else high first.
    class_fractions : sequence of float, optional
        Fraction of each class in the order of the scheme, sum 1; by default that of the labels given to `fit`.
    scheme : ClassScheme or str, optional
        The classes.

    Attributes
    ----------
    class_fractions_ : `~numpy.ndarray`
        The fractions used.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 4.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import RankClassifier
    >>> table = QTable({"c_sb": [0.03, 0.05, 0.04], "label": ["NCC", "CC", "WCC"]})
    >>> RankClassifier("c_sb").fit(table).predict(table).tolist()
    ['NCC', 'CC', 'WCC']
    """

    def __init__(self, measure="c_sb", *, class_fractions=None, scheme=COOL_CORE):
        self.measure = measure
        self.class_fractions = class_fractions
        self.scheme = scheme

    def fit(self, X=None, y=None, *, groups=None, validation=None):
        """
        Learn the class fractions, unless they were given.

        Parameters
        ----------
        X : `~astropy.table.QTable`, optional
            A table with a column ``label``.
        y : sequence of str, optional
            Labels, in place of those of the table.
        groups, validation : optional
            Taken so that `cross_validate` can treat all classifiers alike; not used.

        Returns
        -------
        RankClassifier
            Itself.

        Raises
        ------
        ValueError
            If there are neither fractions nor labels, or the fractions do not sum to 1.
        """
        scheme = get_scheme(self.scheme)
        check_choice("measure", self.measure, _UNITS)
        labels = [label for label in self._labels(X, y) if label]
        if self.class_fractions is None:
            if not labels:
                raise ValueError("class_fractions must be given where there are no labels to learn them from")
            fractions = np.bincount([scheme.index(label) for label in labels], minlength=scheme.n_classes)
            fractions = fractions / len(labels)
        else:
            fractions = np.asarray(self.class_fractions, dtype=float)
            if fractions.shape != (scheme.n_classes,) or np.any(fractions < 0) or not abs(fractions.sum() - 1) < 1e-6:
                text = f"class_fractions must be {scheme.n_classes} numbers from 0 with sum 1"
                raise ValueError(f"{text}, got {self.class_fractions}")
        self.class_fractions_ = fractions
        return self

    def _provenance(self):
        fractions = dict(zip(get_scheme(self.scheme).classes, self.class_fractions_.tolist(), strict=True))
        told = ", ".join(f"{name} {fraction:.3g}" for name, fraction in fractions.items())
        return {
            "model": f"RankClassifier({self.measure!r}, told the fractions {told})",
            "uses_class_fractions": fractions,
        }

    def _indices(self, X):
        if not hasattr(self, "class_fractions_"):
            raise NotFittedError("this RankClassifier is not fitted: call fit")
        values = _values(X, self.measure)
        order = np.argsort(values if self.measure in _LOW_FIRST else -values, kind="stable")  # NaN come last
        n = int(np.sum(~np.isnan(values)))
        edges = np.round(np.cumsum(self.class_fractions_)[:-1] * n).astype(int)
        indices = np.full(len(values), -1, dtype=np.int64)
        indices[order[:n]] = np.searchsorted(edges, np.arange(n), side="right")
        return indices


def classify_conventional(sample):
    """
    Classify a sample by conventional methods, those of Su et al. first.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table with labels of the scheme `~astroclassify.schemes.COOL_CORE`.

    Returns
    -------
    dict
        Name of the method -> PREDICTIONS. As in the paper's table (see `paper_table`): ``"central n_e"`` and
        ``"C_SB (fixed cuts)"`` with the cuts of `SU2020_THRESHOLDS`, ``"C_SB (ranked)"``. Where the sample has the
        columns of `~astroclassify.morphology.core_measures` and `~astroclassify.workflows.image_cooling_time`: the same
        cuts on ``n_e_image`` and ``t_cool_image``, and both, ``c_sb_corrected`` and ``cuspiness_image`` ranked. What is
        ranked is **told the class fractions of this very sample** (`RankClassifier`). A method whose measure has no
        finite value in the sample is left out.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 4.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import classify_conventional
    >>> sample = QTable({"source_id": list("abc"), "label": ["CC", "WCC", "NCC"], "c_sb": [0.3, 0.1, 0.05]})
    >>> list(classify_conventional(sample))
    ['C_SB (fixed cuts)', 'C_SB (ranked)']
    """
    methods = {
        "central n_e": ThresholdClassifier("n_e"),
        "C_SB (fixed cuts)": ThresholdClassifier("c_sb"),
        "C_SB (ranked)": RankClassifier("c_sb"),
        "C_SB without PSF (ranked)": RankClassifier("c_sb_corrected"),
        "n_e of the image (fixed cuts)": ThresholdClassifier("n_e_image"),
        "n_e of the image (ranked)": RankClassifier("n_e_image"),
        "cuspiness (ranked)": RankClassifier("cuspiness_image"),
        "t_cool of the image (fixed cuts)": ThresholdClassifier("t_cool_image"),
        "t_cool of the image (ranked)": RankClassifier("t_cool_image"),
    }
    return {
        name: method.fit(sample).classify(sample)
        for name, method in methods.items()
        if method.measure in sample.colnames and np.isfinite(_values(sample, method.measure)).any()
    }
