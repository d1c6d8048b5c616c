"""Predictions beside the truth, as plain arrays: the one place where a PREDICTIONS table is unpacked to be scored."""

import warnings
from dataclasses import dataclass

import numpy as np

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.schemes import ClassScheme, get_scheme
from astroclassify.tables import PREDICTIONS, plain_column, provenance, validate
from astroclassify.tables._plain import group_names

__all__ = ["Labelled", "scheme_in", "unpack"]


@dataclass(frozen=True)
class Labelled:
    """
    The rows of a PREDICTIONS table that have a true label.

    ``truth`` and ``predicted`` (n,) are class indices, -1 for a row that failed; ``probabilities`` (n, n_classes);
    ``groups`` (n,) text, each row its own without ``has_groups``; ``n_unlabelled`` rows were left out.
    """

    scheme: ClassScheme
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    source_ids: np.ndarray
    has_groups: bool
    n_unlabelled: int

    @property
    def n_failed(self):
        """Rows without a predicted class."""
        return int(np.sum(self.predicted < 0))

    @property
    def has_p(self):
        """True for the rows whose probabilities are all finite."""
        return np.isfinite(self.probabilities).all(axis=1)

    @property
    def membership(self):
        """Number of the group of each row, from 0."""
        return np.unique(self.groups, return_inverse=True)[1]

    @property
    def n_groups(self):
        """Number of groups."""
        return len(np.unique(self.groups))

    def meta(self, **extra):
        """Scheme, numbers of rows, and provenance, for the ``meta`` of what is computed from them."""
        numbers = {"n_images": len(self.truth), "n_groups": self.n_groups, "n_failed": self.n_failed}
        numbers |= {"n_without_p": int(np.sum(~self.has_p)), "n_unlabelled": self.n_unlabelled}
        return {"scheme": self.scheme.to_dict(), **provenance(**numbers, **extra)}


def scheme_in(predictions, scheme, name="predictions"):
    """The scheme given, else that in ``meta``; SchemaError if there is neither."""
    if scheme is None and "scheme" in predictions.meta:
        scheme = ClassScheme.from_dict(dict(predictions.meta["scheme"]))
    if scheme is None:
        raise SchemaError(f"scheme must be given: {name} do not carry one in meta['scheme']")
    return get_scheme(scheme)


def unpack(predictions, scheme=None, *, name="predictions", failed=None, stacklevel=3):
    """
    `Labelled` of a PREDICTIONS table; ``scheme`` is by default that in ``meta``, ``name`` that of the table in errors.

    ``failed`` is what happens to rows without prediction, for a warning if there are any. SchemaError or ValueError if
    it is no such table, a label is not in the scheme, or no row has one.
    """
    scheme = scheme_in(predictions, scheme, name)
    predictions = validate(predictions, PREDICTIONS, scheme=scheme)
    if "label" not in predictions.colnames:
        raise SchemaError(f"{name} must have a column 'label' with the true classes")
    labels, stated, source_ids = (predictions[name].astype(str) for name in ("label", "label_pred", "source_id"))
    known = labels != ""
    if not known.any():
        raise ValueError(f"{name} must have a true label in at least one row")
    unknown = sorted(map(str, set(stated[known]) - {*scheme.classes, ""}))
    if unknown:
        raise SchemaError(f"label_pred of {name} must be one of {scheme.classes}, or empty, got {unknown[:3]}")
    has_groups = "group_id" in predictions.colnames
    groups = group_names(predictions["group_id"]) if has_groups else np.arange(len(predictions)).astype(str)
    index = {label: number for number, label in enumerate(scheme.classes)} | {"": -1}
    p = np.stack([plain_column(predictions[f"p_{each}"]) for each in scheme.classes], axis=1, dtype=float)
    labelled = Labelled(
        scheme, np.array([scheme.index(label) for label in labels[known]]),
        np.array([index[label] for label in stated[known]]), p[known], groups[known], source_ids[known],
        has_groups=has_groups, n_unlabelled=int(np.sum(~known)),
    )  # fmt: skip
    if failed and labelled.n_failed:
        text = f"{labelled.n_failed} rows without prediction {failed}, of {len(labelled.truth)}"
        warnings.warn(text, AstroclassifyWarning, stacklevel=stacklevel)
    return labelled
