"""Classification by the numbers of a catalogue alone, which a network on images has to beat."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from astroclassify import batch
from astroclassify._checks import check_choice
from astroclassify.exceptions import ArgumentError
from astroclassify.schemes import CANDIDATE, Flag, get_scheme
from astroclassify.tables import plain_table

from ..inputs._columns import Columns, column_units, read_columns
from ..inputs._dataset import sample_weights
from ..inputs._predictions import prediction_table
from ._classes import class_fractions_of, class_weights, decode_labels, in_sorted_order, sorted_classes
from ._parameters import check_names

__all__ = ["CatalogueClassifier"]

_METHODS = ("trees", "logistic")


class CatalogueClassifier(ClassifierMixin, BaseEstimator):
    """
    Classes from columns of the catalogue alone: boosted trees, or a logistic regression.

    What a network on the images of the same candidates has to beat. With one column and ``method="logistic"`` the
    probability rises or falls with it throughout: ranking by ``ext_like``, the measure by which surveys select.

    Parameters
    ----------
    columns : tuple of str, optional
        Numeric columns of the table. Their units are those of CANDIDATES (``ext`` in arcsec, ``off_axis`` in arcmin,
        ``exposure`` in s), others that of the training table.
    method : str, optional
        ``"trees"``: scikit-learn's `~sklearn.ensemble.HistGradientBoostingClassifier` at its default settings, for
        which a missing value (NaN, masked) is information like any other. ``"logistic"``:
        `~sklearn.linear_model.LogisticRegression` at its default settings, on the scale that `CutoutClassifier` uses; a
        missing value counts as the training mean and is flagged.
    scheme : ClassScheme or str, optional
        The classes.
    class_weight : str, dict or None, optional
        As for `CutoutClassifier`: by default probabilities are for equally frequent classes.
    random_state : int, optional
        Seed of the trees; by default a fresh one.

    Attributes
    ----------
    classes_ : `~numpy.ndarray`
        Labels in the order of the columns of `predict_proba`: sorted.
    training_ : dict
        What it was trained on.

    References
    ----------
    Ke et al. 2017, NeurIPS, "LightGBM" (the algorithm of scikit-learn's trees).

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import CatalogueClassifier
    >>> ext_like = np.random.default_rng(0).lognormal(3, 1, 200)
    >>> table = QTable({"source_id": [str(i) for i in range(200)], "ext_like": ext_like,
    ...                 "label": np.where(ext_like > 30, "cluster", "other")})
    >>> model = CatalogueClassifier(("ext_like",), method="logistic", scheme="cluster").fit(table)
    >>> print(model.classify(table[:3])["label_pred"].tolist() == table["label"][:3].tolist())
    True
    """

    def __init__(
        self, columns=("ext", "ext_like", "off_axis", "exposure"), *, method="trees", scheme=CANDIDATE,
        class_weight="balanced", random_state=None,
    ):  # fmt: skip
        self.columns = columns
        self.method = method
        self.scheme = scheme
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X, y=None, *, groups=None, validation=None, sample_weight=None):
        """
        Learn from the rows that have a label.

        Parameters
        ----------
        X : `~astropy.table.QTable`
            A table with the columns, and ``label``.
        y : sequence of str or int, optional
            Labels, in place of those of the table; an empty text for none.
        groups, validation : optional
            Taken so that `cross_validate` can treat all classifiers alike; not used.
        sample_weight : sequence of float, optional
            Weight of each row.

        Returns
        -------
        CatalogueClassifier
            Itself.

        Raises
        ------
        SchemaError
            If a column is not there, holds no numbers or has another unit, or a label is not in the scheme.
        ValueError
            If a parameter is out of range, or fewer than two classes have rows.
        """
        check_choice("method", self.method, _METHODS)
        check_names("columns", self.columns)
        if not tuple(self.columns):
            raise ArgumentError("columns must name at least one column, got none")
        scheme, X = get_scheme(self.scheme), plain_table(X)
        if y is None and "label" not in X.colnames:
            raise ValueError("y must hold the labels, since X has no column label")
        labels, coded = decode_labels(X["label"] if y is None else y, scheme)
        units = column_units(X, self.columns)
        values = read_columns(X, self.columns, units, what="X")
        if len(labels) != len(values):
            raise ValueError(f"y must be one label per row ({len(values)}), got {len(labels)}")
        known = labels != ""
        truth = np.array([scheme.index(label) for label in labels[known].tolist()], dtype=int)
        if len(set(truth.tolist())) < 2:
            raise ValueError(f"X must hold rows of at least two classes, got {sorted(set(labels[known].tolist()))}")
        answers, weights = np.eye(scheme.n_classes)[truth], sample_weights(sample_weight, len(labels), "X")[known]
        weights = weights * class_weights(self.class_weight, answers, weights, scheme)[truth]
        self.rule_ = Columns.measure(self.columns, units, values[known])
        if self.method == "trees":
            self.model_ = HistGradientBoostingClassifier(random_state=batch.master_seed(self.random_state) % 2**32)
        else:
            self.model_ = LogisticRegression(max_iter=1000)
        self.model_.fit(self._input(values[known]), truth, sample_weight=weights)
        self.classes_ = np.arange(scheme.n_classes) if coded else sorted_classes(scheme)
        counts = np.bincount(truth, minlength=scheme.n_classes)
        self.training_ = {
            "n_rows": int(known.sum()),
            "class_counts": dict(zip(scheme.classes, counts.tolist(), strict=True)),
            **class_fractions_of(answers * weights[:, None]),
        }
        return self

    def _input(self, values):
        """What the model sees of values (n, k)."""
        return values if self.method == "trees" else self.rule_(values)

    def _probabilities(self, X):
        """Probabilities (n, n_classes) in scheme order, 0 for a class without training rows, and the values (n, k)."""
        if not hasattr(self, "model_"):
            raise NotFittedError("this CatalogueClassifier is not fitted: call fit")
        values = read_columns(X, self.columns, self.rule_.units, what="the table")
        p = np.zeros((len(values), get_scheme(self.scheme).n_classes))
        if len(values):
            p[:, self.model_.classes_] = self.model_.predict_proba(self._input(values))
        return p, values

    def predict_proba(self, X):
        """
        Probability of each class.

        Parameters
        ----------
        X : `~astropy.table.QTable`
            A table with the columns.

        Returns
        -------
        `~numpy.ndarray`
            Shape (n, n_classes), columns as in ``classes_``: sorted, not in the order of the scheme.
        """
        return in_sorted_order(self._probabilities(plain_table(X))[0], get_scheme(self.scheme))

    def predict(self, X):
        """
        Most probable class of each row.

        Parameters
        ----------
        X : `~astropy.table.QTable`
            A table with the columns.

        Returns
        -------
        `~numpy.ndarray`
            Labels, shape (n,).
        """
        p = self.predict_proba(X)  # raises where it is not fitted
        return self.classes_[np.argmax(p, axis=1)]

    def classify(self, sample):
        """
        Classify the rows of a table.

        Parameters
        ----------
        sample : `~astropy.table.QTable`
            A table with ``source_id`` and the columns.

        Returns
        -------
        `~astropy.table.QTable`
            PREDICTIONS, with ``label`` and ``group_id`` where the table has them, and its flags. A row without one of
            the values has the flag ``missing_value`` and a message.
        """
        sample = plain_table(sample)
        p, values = self._probabilities(sample)
        missing = ~np.isfinite(values)
        flags = np.where(missing.any(axis=1), int(Flag.MISSING_VALUE), 0)
        if "flags" in sample.colnames:
            flags |= np.asarray(sample["flags"], dtype=np.int64) & ~np.int64(Flag.FAILED)
        lost = [", ".join(np.array(self.columns)[row].tolist()) for row in missing]
        table = prediction_table(
            sample["source_id"].astype(str).tolist(), p, flags, [f"no {names}" if names else "" for names in lost],
            get_scheme(self.scheme), sample=sample, model=f"CatalogueClassifier({self.columns}, {self.method!r})",
        )  # fmt: skip
        table.meta |= {key: value for key, value in self.training_.items() if key == "class_fractions"}
        return table
