"""Labelled images to classifiers; images to class probabilities, maps and scores."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "doubt._calibration": ("correct_prior", "fit_temperature"),
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
        "models._listing": ("list_classifiers",),
        "validation._folds": ("cross_validate",),
        "validation._protocols": ("learning_curve", "repeat_seeds", "split_sample"),
        "._scores._calibration": ("expected_calibration_error", "reliability"),
        "._scores._comparison": ("mcnemar", "score_difference"),
        "._scores._papers": ("paper_table",),
        "._scores._purity": ("clusters_per_area", "purity_curve"),
        "._scores._scores": ("confusion", "one_vs_all", "precision_recall", "roc", "score"),
        "._scores._seeds": ("roc_seeds", "score_seeds"),
    },
)
