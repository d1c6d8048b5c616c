"""Figures from tables and images. matplotlib is imported when a figure is made; no window is opened."""

from ._candidates import plot_examples, plot_purity, plot_who_differs
from ._maps import plot_mean_maps
from ._people import plot_judge_roc, plot_skill, plot_who_was_right
from ._prediction import plot_prediction
from ._samples import plot_images, plot_population
from ._scores import plot_confusion, plot_learning_curve, plot_precision_recall, plot_reliability, plot_roc, plot_scores
from ._survey import plot_completeness, plot_extent_plane, plot_field

__all__ = [
    "plot_completeness",
    "plot_confusion",
    "plot_examples",
    "plot_extent_plane",
    "plot_field",
    "plot_images",
    "plot_judge_roc",
    "plot_learning_curve",
    "plot_mean_maps",
    "plot_population",
    "plot_prediction",
    "plot_precision_recall",
    "plot_purity",
    "plot_reliability",
    "plot_roc",
    "plot_scores",
    "plot_skill",
    "plot_who_differs",
    "plot_who_was_right",
]
