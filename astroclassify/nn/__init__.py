"""Labelled images to classifiers; images to class probabilities, and scores."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_classifier": ("CutoutClassifier", "load_classifier"),
        "_conventional": ("RankClassifier", "SU2020_THRESHOLDS", "ThresholdClassifier"),
        "_folds": ("cross_validate",),
        "_scores": ("roc", "score"),
        "_store": ("list_classifiers",),
    },
)
