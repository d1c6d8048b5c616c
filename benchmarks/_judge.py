"""What a classifier and the conventional measures say of images whose class is known, and how good that is."""

import warnings

import numpy as np
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales
from photutils.aperture import CircularAperture
from scipy.stats import spearmanr

from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.nn import (
    RankClassifier,
    ThresholdClassifier,
    expected_calibration_error,
    score,
    score_difference,
)
from astroclassify.schemes import COOL_CORE, Flag

__all__ = [
    "T_COOL_IMAGE", "auc", "c_sb", "classified", "conventional", "expected_class", "is_right", "largest_p", "score_row",
    "sure_and_wrong", "unfamiliar",
]  # fmt: skip

CLASSES = COOL_CORE.classes
SURE = 0.9
N_BOOTSTRAP, SEED = 1000, 1
T_COOL_IMAGE = "cooling time of the image"
INNER, OUTER = 40.0, 400.0  # kpc, of C_SB (Su et al. 2020, section 3)
LEAST_EXPOSURE = 0.1  # of the largest one: other pixels do not count


def classified(model, sample, images):
    """PREDICTIONS of images in memory, with the names, groups and classes of their sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictions = model.classify(images, progress=False)
    for name in ("source_id", "group_id", "label"):
        predictions[name] = sample[name]
    return predictions


def c_sb(images, *, redshift, background=None):
    """
    C_SB = S(< 40 kpc) / S(< 400 kpc) of images on one grid, exposure divided out; ``background``: expected counts per
    pixel to take off first, one map for all. The same as `astroclassify.images.concentration`, done at once.
    """
    first = images[0]
    scale = float(np.mean(proj_plane_pixel_scales(first.wcs.celestial)))
    kpc = DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(redshift).to_value(u.kpc / u.deg) * scale  # of a pixel
    middle = ((first.shape[1] - 1) / 2, (first.shape[0] - 1) / 2)
    circles = [CircularAperture(middle, radius / kpc).to_mask(method="exact") for radius in (INNER, OUTER)]
    weights = np.stack([circle.to_image(first.shape).ravel() for circle in circles])
    exposure = np.ones(first.shape) if first.exposure is None else first.exposure / first.exposure.max()
    factor = np.where(exposure >= LEAST_EXPOSURE, 1.0 / np.maximum(exposure, LEAST_EXPOSURE), 0.0).ravel()
    taken = 0.0 if background is None else np.ravel(background)
    sums = np.array([weights @ (factor * (np.ravel(image.data) - taken)) for image in images])
    return sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)


def conventional(sample, measures):
    """
    PREDICTIONS by name of the method, of measures by name: high in cool cores, but for `T_COOL_IMAGE` [Gyr].

    Ranked methods are told the class fractions of the very sample; the fixed cuts are those of Su et al. (2020).
    """
    results = {}
    for name, values in measures.items():
        table, column = sample.copy(), "t_cool" if name == T_COOL_IMAGE else "c_sb"
        table[column] = values * u.Gyr if name == T_COOL_IMAGE else values
        if name in (T_COOL_IMAGE, "C_SB"):
            results[f"{name}, fixed cuts"] = ThresholdClassifier(column).classify(table)
        results[f"{name}, ranked"] = RankClassifier(column).fit(table).classify(table)
    return results


def expected_class(predictions):
    """p_WCC + 2 p_NCC: 0 for a sure cool core, 2 for a sure non-cool core."""
    return np.asarray(predictions["p_WCC"]) + 2 * np.asarray(predictions["p_NCC"])


def largest_p(predictions):
    """Probability of the most probable class of each row."""
    return np.max([np.asarray(predictions[f"p_{name}"]) for name in CLASSES], axis=0)


def unfamiliar(predictions):
    """Rows whose image the model finds unlike clusters."""
    return (np.asarray(predictions["flags"]) & int(Flag.UNFAMILIAR)) != 0


def is_right(predictions):
    """Rows whose class is the true one."""
    return np.asarray(predictions["label_pred"]).astype(str) == np.asarray(predictions["label"]).astype(str)


def sure_and_wrong(predictions):
    """Rows that are wrong with p > 0.9, whatever their flags."""
    return ~is_right(predictions) & (largest_p(predictions) > SURE)


def score_row(predictions, rivals=(), t_cool=None, *, n_bootstrap=N_BOOTSTRAP):
    """
    Scores of predictions as a dict, with 95% intervals by bootstrap over clusters.

    ``rivals``: other PREDICTIONS by name; the row says by how much the macro-F1 is above theirs, paired.
    """
    kept = {"n_bootstrap": n_bootstrap, "rng": SEED}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = score(predictions, **kept)
        row = {"n": len(predictions), **_interval("f1", table["f1"][-1], table["f1_lo"][-1], table["f1_hi"][-1])}
        row |= {f"recall {name}": float(table["recall"][n]) for n, name in enumerate(CLASSES)}
        for name, rival in dict(rivals).items():
            lead = score_difference(predictions, rival, **kept)
            row |= _interval(f"over {name}", lead["f1"][-1], lead["f1_lo"][-1], lead["f1_hi"][-1])
        if np.all(np.isin(largest_p(predictions), (0.0, 1.0))):  # no probabilities
            return row
        error = expected_calibration_error(predictions, **kept)[-1]
    row |= _interval("ece", error["ece"], error["ece_lo"], error["ece_hi"]) | {"ece_exact": float(error["ece_exact"])}
    row["sure and wrong"] = float(np.mean(sure_and_wrong(predictions)))
    row["the same, no flag"] = float(np.mean(sure_and_wrong(predictions) & ~unfamiliar(predictions)))
    row["unfamiliar"] = float(np.mean(unfamiliar(predictions)))
    if t_cool is not None:
        row["spearman"] = float(spearmanr(expected_class(predictions), t_cool, nan_policy="omit")[0])
    return row


def _interval(name, value, low, high):
    return {name: float(value), f"{name}_lo": float(low), f"{name}_hi": float(high)}


def auc(positive, negative, *, n_bootstrap=N_BOOTSTRAP):
    """Chance that a value of the first group is above one of the second, ties half, with its 95% bootstrap interval."""
    positive, negative = (np.asarray(group, dtype=float) for group in (positive, negative))

    def area(first, second):
        steps = first[:, np.newaxis] - second[np.newaxis, :]
        return np.mean((steps > 0) + 0.5 * (steps == 0))

    draws = np.random.default_rng(SEED)
    resampled = [area(*(draws.choice(group, len(group)) for group in (positive, negative))) for _ in range(n_bootstrap)]
    low, high = np.percentile(resampled, [2.5, 97.5]) if n_bootstrap else (np.nan, np.nan)
    return _interval("auc", area(positive, negative), low, high)
