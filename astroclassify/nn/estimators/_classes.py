"""What a classification learns: labels as probabilities of classes, weights of classes; and scikit-learn's order."""

import numpy as np
from astropy.table import Table

from astroclassify.exceptions import SchemaError
from astroclassify.tables import plain_column

from ..training._loop import cross_entropy, macro_f1

__all__ = [
    "ClassTask", "class_fractions_of", "class_weights", "decode_labels", "in_sorted_order", "sorted_classes",
]  # fmt: skip


def sorted_classes(scheme):
    """Labels sorted, as scikit-learn's scorers take ``classes_`` and the columns of ``predict_proba`` to be."""
    return np.array(sorted(scheme.classes))


def in_sorted_order(probabilities, scheme):
    """Columns (n, n_classes) in the order of `sorted_classes` instead of that of the scheme."""
    return probabilities[:, np.argsort(scheme.classes)]


def decode_labels(labels, scheme):
    """
    Labels as text, empty for none, and whether they were numbers.

    Whole numbers that are no labels of the scheme count the sorted classes, as those of scikit-learn's LabelEncoder do.
    """
    values = plain_column(labels)
    names = np.array([str(label) for label in values], dtype=str)
    if values.dtype.kind not in "iu" or set(names.tolist()) <= set(scheme.classes):
        return names, False
    if values.min() < 0 or values.max() >= scheme.n_classes:
        allowed = f"from 0 to {scheme.n_classes - 1}, places in the sorted classes {sorted(scheme.classes)}"
        raise SchemaError(f"labels that are numbers must be {allowed}, got {sorted(set(values.tolist()))[:5]}")
    return sorted_classes(scheme)[values], True


def soft_labels(y, items, scheme, name):
    """
    Labels as probabilities of the classes (n, n_classes), which images have one (n,), and whether they were numbers.

    A hard label is a class, or empty for none; a soft one is a row of probabilities, or NaN for none.
    """
    values = plain_column([item.label for item in items] if y is None else y)
    if len(values) != len(items):
        raise ValueError(f"labels of {name} must be one per image ({len(items)}), got {len(values)}")
    if values.ndim != 2:
        labels, coded = decode_labels(values, scheme)
        for label in sorted(set(labels.tolist()) - {""}):
            scheme.index(label)
        return np.equal.outer(labels, np.array(scheme.classes)).astype(float), labels != "", coded
    if values.shape[1] != scheme.n_classes or values.dtype.kind not in "fiu":
        text = f"soft labels of {name} must be numbers of shape (n, {scheme.n_classes})"
        raise ValueError(f"{text}, got {values.dtype} {values.shape}")
    soft = values.astype(float)
    known = ~np.isnan(soft).all(axis=1)
    bad = known & ~(np.all(soft >= 0, axis=1) & (np.abs(soft.sum(axis=1) - 1) < 1e-3))
    if bad.any():
        row = np.flatnonzero(bad)[0]
        raise ValueError(f"soft labels of {name} must be from 0 and sum to 1, got {soft[row].tolist()} in row {row}")
    soft[known] /= soft[known].sum(axis=1, keepdims=True)
    return soft, known, False


def class_weights(rule, answers, sample_weights, scheme):
    """Weight of each class in the loss (n_classes,) by the parameter ``class_weight``, for answers (n, n_classes)."""
    weights = np.ones(scheme.n_classes)
    if rule is None:
        return weights
    if isinstance(rule, str):
        sums = (answers * sample_weights[:, None]).sum(axis=0)
        return np.where(sums > 0, sums.sum() / np.count_nonzero(sums) / np.where(sums > 0, sums, 1), weights)
    for label, weight in rule.items():
        weights[scheme.index(label)] = weight
    if not np.all(np.isfinite(weights)) or np.any(weights < 0) or not weights.any():
        raise ValueError(f"class_weight must hold finite weights from 0, got {rule}")
    return weights


def class_fractions_of(targets):
    """What probabilities are for: the classes as the loss weighs them (n, n_classes); nothing where one has none."""
    sums = targets.sum(axis=0, dtype=float)
    return {"class_fractions": [round(float(share), 6) for share in sums / sums.sum()]} if np.all(sums > 0) else {}


class ClassTask:
    """Learn the classes of a scheme. The answers of a training set are soft labels (n, n_classes)."""

    loss, score = staticmethod(cross_entropy), staticmethod(macro_f1)
    score_name, answer = "f1", "label"

    def __init__(self, scheme, class_weight):
        self.scheme, self.n_outputs = scheme, scheme.n_classes
        self._rule, self._weights = class_weight, None
        self.classes = sorted_classes(scheme)

    def answers(self, X, y, items, name):
        """Soft labels, and which images have one."""
        if y is None and not isinstance(X, Table):
            raise ValueError(f"y must hold the labels of {name}, since it is not a SAMPLE table")
        soft, known, coded = soft_labels(y, items, self.scheme, name)
        if coded and name == "X":  # who trains on numbers expects numbers
            self.classes = np.arange(self.scheme.n_classes)
        return soft, known

    def strata(self, training):
        """Labels (n,) that a validation set should have in the same shares."""
        return np.array(self.scheme.classes)[self.kinds(training)]

    def kinds(self, training):
        """Index of the most probable class of each label (n,)."""
        return training.answers.argmax(axis=1)

    def learn(self, training, least_classes=2):
        """Measure the weights of the classes."""
        if len(np.unique(self.kinds(training))) < least_classes:
            counts = self.describe(training)["class_counts"]
            raise ValueError(f"X must hold images of at least two classes, got {counts}")
        self._weights = class_weights(self._rule, training.answers, training.weights, self.scheme)

    def targets(self, images):
        """Label, weight of the class and of the image in one number per class, as the loss takes them: float32."""
        return (images.answers * self._weights * images.weights[:, None]).astype(np.float32)

    def truth(self, images):
        """What the score compares with."""
        return images.answers

    def describe(self, training):
        """Entries of the description of the training set."""
        kinds = self.kinds(training)
        found = {"class_counts": {name: int(np.sum(kinds == i)) for i, name in enumerate(self.scheme.classes)}}
        return found if self._weights is None else found | class_fractions_of(self.targets(training))
