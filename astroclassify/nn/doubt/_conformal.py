"""Sets of classes that hold the true one as often as stated: split-conformal prediction."""

import warnings

import numpy as np

from astroclassify._checks import check_number
from astroclassify._scores._labelled import scheme_in, unpack
from astroclassify._scores._scores import take
from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.schemes import ClassScheme
from astroclassify.tables import PREDICTIONS, plain_column, validate

from ._calibration import correct_prior
from ._populations import class_fractions

__all__ = ["Conformal"]

_MOST = 1 << 20  # stored numbers
_DIGITS = 6


class Conformal:
    """
    Sets of classes with stated coverage, learned from predictions with known classes.

    A class is in the set of an image unless its probability is lower than that of nearly all calibration images that
    truly are of it. A set may hold several classes, or none when the image is unlike those of every class. Make one
    with `fit` or `from_dict`; `label_sets` adds the sets to a table.

    Notes
    -----
    - **Guarantee.** The chance that the set of a new image holds its true class is at least the coverage, for each
      class, if images of that class are exchangeable with those of the calibration: drawn from one population of
      clusters, telescopes and depths. It is an average over that population (and over calibration sets), not for one
      image; elsewhere (another telescope, simulated images for real ones) nothing is guaranteed. The fractions of the
      classes do not matter: thresholds are by class.
    - Groups (images of one cluster), not rows, are the units: each of the G groups of a class weighs 1/(G + 1), shared
      among its images, and 1/(G + 1) lies at infinity (hierarchical conformal prediction); with one image a group this
      is the ceil((G + 1) coverage)-th smallest score. A class with fewer than coverage/(1 - coverage) groups is
      in every set.
    - The score is 1 - p of the true class. Probabilities for another population are first brought back to the
      fractions of the calibration, so sets do not depend on the population that a table is for.

    References
    ----------
    Sadinle, Lei & Wasserman 2019, JASA 114, 223 (the score, and classes one by one) [from memory]; Lee, Barber &
    Willett 2023, arXiv:2306.06342 (groups).

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import Conformal
    >>> p = np.linspace(0.02, 0.98, 49)
    >>> table = QTable({"source_id": np.arange(98).astype(str), "label": ["cluster"] * 49 + ["other"] * 49,
    ...                 "label_pred": ["cluster"] * 98, "p_cluster": np.concatenate([p**0.5, 1 - p**0.5]),
    ...                 "p_other": np.concatenate([1 - p**0.5, p**0.5]), "flags": np.zeros(98, int)})
    >>> conformal = Conformal.fit(table, scheme="cluster")
    >>> conformal.thresholds(0.8)
    array([0.447214, 0.447214])
    >>> conformal.label_sets(table[[25, 11, 5]], coverage=0.8, scheme="cluster")["label_set"].tolist()
    ['cluster', 'cluster|other', 'other']
    """

    def __init__(self, scheme, scores, sizes, fractions=None):
        self.scheme, self._scores, self._sizes, self.fractions = scheme, scores, sizes, fractions
        self._weights = [1 / size for size in sizes]
        self.n_groups = tuple(round(weight.sum()) for weight in self._weights)

    def __repr__(self):
        groups = ", ".join(f"{n} of {label}" for label, n in zip(self.scheme.classes, self.n_groups, strict=True))
        return f"<Conformal sets from groups of images: {groups}>"

    @classmethod
    def fit(cls, predictions, *, scheme=None):
        """
        Learn from predictions of images that the classifier was not trained on.

        Parameters
        ----------
        predictions : `~astropy.table.QTable`
            PREDICTIONS with the true ``label``, and ``group_id`` where rows belong together. Their probabilities must
            come as those of the new images will, temperature included.
        scheme : ClassScheme or str, optional
            The classes; by default those in ``meta``.

        Returns
        -------
        Conformal
            The calibration. Rows without label or probabilities are left out, the latter with a warning.

        Raises
        ------
        SchemaError, ValueError
            If it is no PREDICTIONS table with labels of the scheme, or a class has no row.
        """
        labelled = unpack(predictions, scheme)
        if not labelled.has_p.all():
            text = f"{np.sum(~labelled.has_p)} rows without probabilities are left out of the calibration"
            warnings.warn(text, AstroclassifyWarning, stacklevel=2)
            labelled = take(labelled, labelled.has_p)
        scores, sizes = [], []
        for number, label in enumerate(labelled.scheme.classes):
            rows = labelled.truth == number
            if not rows.any():
                raise ValueError(f"predictions must have probabilities in at least one row of class {label!r}")
            _, member, size = np.unique(labelled.groups[rows], return_inverse=True, return_counts=True)
            score = np.round(1 - labelled.probabilities[rows, number], _DIGITS)
            order = np.argsort(score, kind="stable")
            scores.append(score[order])
            sizes.append(size[member][order])
        fractions = predictions.meta.get("class_fractions")
        if fractions is not None:
            fractions = class_fractions(fractions, scheme=labelled.scheme)
        return cls(labelled.scheme, scores, sizes, fractions)

    def thresholds(self, coverage):
        """
        Lowest probability with which each class is in a set.

        Parameters
        ----------
        coverage : float
            Chance wanted in each class, above 0 and below 1.

        Returns
        -------
        `~numpy.ndarray`
            Shape (n_classes,); 0 for a class that is in every set.

        Raises
        ------
        ValueError
            If ``coverage`` is no such number.
        """
        check_number("coverage", coverage, 0, 1, open_low=True, open_high=True)
        limits = [_quantile(score, weight, coverage) for score, weight in zip(self._scores, self._weights, strict=True)]
        return np.maximum(1 - np.array(limits), 0.0)

    def label_sets(self, predictions, *, coverage=0.9, scheme=None):
        """
        Add the sets to predictions.

        Parameters
        ----------
        predictions : `~astropy.table.QTable`
            A PREDICTIONS table of the same classifier.
        coverage : float, optional
            As for `thresholds`.
        scheme : ClassScheme or str, optional
            The classes of the table; by default those in ``meta``.

        Returns
        -------
        `~astropy.table.QTable`
            A copy with the column ``label_set``: labels joined by ``|`` in scheme order (``"CC|WCC"``), empty for none,
            and for rows without probabilities; ``meta["coverage"]``.

        Raises
        ------
        SchemaError
            If it is no PREDICTIONS table of these classes, or only one of it and the calibration says which fractions
            its probabilities are for (``meta["class_fractions"]``).
        ValueError
            As in `thresholds`.
        """
        limits = self.thresholds(coverage)
        if scheme_in(predictions, scheme).classes != self.scheme.classes:
            raise SchemaError(f"predictions must have the classes {self.scheme.classes} of the calibration")
        predictions = validate(predictions, PREDICTIONS, scheme=self.scheme).copy()
        p = np.stack([plain_column(predictions[f"p_{each}"]) for each in self.scheme.classes], axis=1, dtype=float)
        good = np.isfinite(p).all(axis=1)
        stated = predictions.meta.get("class_fractions")
        if (stated is None) != (self.fractions is None):
            raise SchemaError("predictions and calibration must both state meta['class_fractions'], or neither")
        if stated is not None:
            p[good] = correct_prior(p[good], class_fractions(stated, scheme=self.scheme), self.fractions)
        # Half of the last stored digit, so that rounding takes no class out of a set.
        inside = good[:, None] & (p >= limits - 0.5 * 10**-_DIGITS)
        names = np.array(self.scheme.classes)
        predictions["label_set"] = np.array(["|".join(names[row]) for row in inside], dtype=str)
        predictions.meta["coverage"] = float(coverage)
        return predictions

    def to_dict(self):
        """
        Return the calibration as plain types, for JSON.

        Returns
        -------
        dict
            Its content.
        """
        return {
            "scheme": self.scheme.to_dict(),
            "scores": [score.tolist() for score in self._scores],
            "sizes": [size.tolist() for size in self._sizes],
            "fractions": None if self.fractions is None else self.fractions.tolist(),
        }

    @classmethod
    def from_dict(cls, mapping):
        """
        Build a calibration from what `to_dict` gives.

        Parameters
        ----------
        mapping : dict
            The content; it need not be trusted.

        Returns
        -------
        Conformal
            The calibration.

        Raises
        ------
        ValueError
            If it does not hold such a calibration.
        """
        try:
            scheme = ClassScheme.from_dict(mapping["scheme"])
            scores = [np.array(row, dtype=float) for row in mapping["scores"]]
            sizes, fractions = [np.array(row) for row in mapping["sizes"]], mapping["fractions"]
            if not len(scores) == len(sizes) == scheme.n_classes:
                raise ValueError(f"a conformal calibration must have {scheme.n_classes} classes")
            for score, size in zip(scores, sizes, strict=True):
                known = score.ndim == 1 and 0 < score.size <= _MOST
                if not known or score.shape != size.shape or size.dtype.kind != "i":
                    raise ValueError("a conformal calibration must have a group size for each score")
                if np.any(size < 1) or not np.all((score >= 0) & (score <= 1)) or np.any(np.diff(score) < 0):
                    raise ValueError("scores of a conformal calibration must rise from 0 to 1, sizes be from 1")
            if fractions is not None:
                fractions = class_fractions(fractions, scheme=scheme)
        except (KeyError, TypeError) as error:
            raise ValueError(f"a conformal calibration lacks an entry or has a wrong one: {error}") from None
        return cls(scheme, scores, sizes, fractions)


def _quantile(scores, weights, coverage):
    """
    Smallest of the rising scores (n,) with a share ``coverage`` of the weight at or below it; infinity if the weight 1
    of the new image, which lies there, is needed for it.
    """
    sums = np.cumsum(weights)
    # Rounding must not ask for one more score where a share is met exactly.
    place = np.searchsorted(sums, coverage * (sums[-1] + 1) * (1 - 1e-9), side="left")
    return scores[place] if place < len(scores) else np.inf
