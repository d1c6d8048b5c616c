"""Labelled images to classifiers; images to class probabilities, maps and scores."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_calibration": ("correct_prior", "expected_calibration_error", "fit_temperature", "reliability"),
        "_classifier": ("CutoutClassifier", "load_classifier"),
        "_comparison": ("mcnemar", "score_difference"),
        "_conventional": ("RankClassifier", "SU2020_THRESHOLDS", "ThresholdClassifier", "classify_conventional"),
        "_folds": ("cross_validate",),
        "_maps": ("mean_activation_maps", "radial_profiles"),
        "_novelty": ("Novelty",),
        "_occlusion": ("occlusion_map",),
        "_papers": ("paper_table",),
        "_protocols": ("learning_curve", "repeat_seeds", "score_seeds", "split_sample"),
        "_randomisation": ("randomisation_check",),
        "_recipes": ("list_recipes", "load_recipe"),
        "_regression": ("CutoutRegressor", "classes_from", "load_regressor"),
        "_scores": ("confusion", "one_vs_all", "precision_recall", "roc", "score"),
        "_spread": ("spread",),
        "_store": ("list_classifiers",),
    },
)
