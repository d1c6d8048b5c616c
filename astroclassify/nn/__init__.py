"""Labelled images to classifiers; images to class probabilities, maps and scores."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "doubt._calibration": ("correct_prior", "expected_calibration_error", "fit_temperature", "reliability"),
        "doubt._conformal": ("Conformal",),
        "doubt._familiarity": ("Familiarity",),
        "doubt._novelty": ("Novelty",),
        "doubt._populations": ("class_fractions", "for_population", "list_populations"),
        "doubt._spread": ("spread",),
        "estimators._catalogue": ("CatalogueClassifier",),
        "estimators._classifier": ("CutoutClassifier", "load_classifier"),
        "estimators._conventional": (
            "RankClassifier",
            "SU2020_THRESHOLDS",
            "ThresholdClassifier",
            "classify_conventional",
        ),
        "estimators._recipes": ("list_recipes", "load_recipe"),
        "estimators._regressor": ("CutoutRegressor", "classes_from", "load_regressor"),
        "maps._maps": ("mean_activation_maps", "radial_profiles"),
        "maps._occlusion": ("occlusion_map",),
        "maps._randomisation": ("randomisation_check",),
        "models._store": ("list_classifiers",),
        "scores._comparison": ("mcnemar", "score_difference"),
        "scores._folds": ("cross_validate",),
        "scores._papers": ("paper_table",),
        "scores._protocols": ("learning_curve", "repeat_seeds", "score_seeds", "split_sample"),
        "scores._purity": ("clusters_per_area", "purity_curve"),
        "scores._scores": ("confusion", "one_vs_all", "precision_recall", "roc", "score"),
        "scores._seeds": ("roc_seeds",),
    },
)
