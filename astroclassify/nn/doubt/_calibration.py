"""Probabilities that mean what they say: temperature, class frequencies."""

import warnings

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from astroclassify.exceptions import AstroclassifyWarning

__all__ = ["correct_prior", "fit_temperature"]

_LEAST, _GREATEST = 0.1, 10.0  # temperatures; outside of these the images do not determine it


def _one_per_row(values, n, name):
    values = np.asarray(values)
    if values.shape != (n,):
        raise ValueError(f"{name} must be one per row ({n}), got shape {values.shape}")
    return values


def _targets(labels, shape):
    """Labels as rows of probabilities: class numbers, or soft labels as they are."""
    labels = np.asarray(labels)
    if labels.shape == shape and labels.dtype.kind in "fiub":
        soft = labels.astype(float)
        if not np.all(np.isfinite(soft)) or np.any(soft < 0) or np.any(np.abs(soft.sum(axis=1) - 1) > 1e-3):
            raise ValueError("labels must be from 0 and sum to 1 in every row where they are probabilities")
        return soft
    if labels.shape != shape[:1] or labels.dtype.kind not in "iu":
        allowed = f"class numbers of shape {shape[:1]} or probabilities of shape {shape}"
        raise ValueError(f"labels must be {allowed}, got {labels.dtype} {labels.shape}")
    if np.any(labels < 0) or np.any(labels >= shape[1]):
        raise ValueError(f"labels must be class numbers from 0 to {shape[1] - 1}")
    return np.eye(shape[1])[labels]


def _row_weights(n, groups, sample_weight):
    weights = np.ones(n)
    if sample_weight is not None:
        weights = _one_per_row(sample_weight, n, "sample_weight").astype(float)
        if not np.all(np.isfinite(weights)) or np.any(weights < 0) or not weights.any():
            raise ValueError("sample_weight must be finite numbers from 0, not all 0")
    if groups is not None:
        _, member, size = np.unique(_one_per_row(groups, n, "groups"), return_inverse=True, return_counts=True)
        weights = weights / size[member]
    return weights / weights.sum()


def fit_temperature(logits, labels, *, groups=None, sample_weight=None):
    """
    Temperature by which logits are to be divided, so that probabilities agree with frequencies.

    It minimises the mean of -log p(true class) over images that were not trained on. The most probable class of an
    image does not change.

    Parameters
    ----------
    logits : `~numpy.ndarray`
        What the network gives for validation images, shape (n, n_classes).
    labels : `~numpy.ndarray`
        Class numbers, shape (n,), or soft labels, shape (n, n_classes).
    groups : sequence, optional
        Group of each image; every group then has the same weight.
    sample_weight : sequence of float, optional
        Weight of each image: for a network trained with class weights, that of its class. Otherwise the temperature
        is biased by the different class frequencies (see `correct_prior`).

    Returns
    -------
    float
        Above 1 where probabilities are too extreme. At most 10, with a warning, where they are no better than equal
        ones; 1, with a warning, where it would be below 0.1, since too few images are wrong to determine it.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or there is no image.

    Notes
    -----
    The loss is convex in 1/T, and its slope is the mean of E_p[z] - z_true; the root is found by Brent's method.

    References
    ----------
    Guo et al. 2017, ICML (arXiv:1706.04599), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.nn import fit_temperature
    >>> logits = np.array([[2.0, 0.0]] * 4)  # says 0.88, is right in three of four cases
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 3)
    1.82
    """
    logits = np.asarray(logits, dtype=float)
    if logits.ndim != 2 or logits.shape[1] < 2 or not len(logits) or not np.all(np.isfinite(logits)):
        raise ValueError(f"logits must be finite numbers of shape (n, n_classes) with n from 1, got {logits.shape}")
    truth = _targets(labels, logits.shape)
    weights = _row_weights(len(logits), groups, sample_weight)

    def slope(inverse):
        excess = (softmax(inverse * logits, axis=1) - truth) * logits
        return float(weights @ excess.sum(axis=1))

    if slope(1 / _LEAST) < 0:
        text = "too few images are wrong to determine a temperature: 1 is kept"
        warnings.warn(text, AstroclassifyWarning, stacklevel=2)
        return 1.0
    if slope(1 / _GREATEST) > 0:
        text = f"probabilities are no better than equal ones: the temperature is {_GREATEST:g}, the greatest allowed"
        warnings.warn(text, AstroclassifyWarning, stacklevel=2)
        return _GREATEST
    if slope(1 / _LEAST) == 0 and slope(1 / _GREATEST) == 0:  # logits that are all equal
        return 1.0
    return float(1 / brentq(slope, 1 / _GREATEST, 1 / _LEAST, xtol=1e-12))


def _prior(values, n_classes, name):
    values = np.asarray(values, dtype=float)
    if values.shape != (n_classes,) or not np.all(np.isfinite(values)) or np.any(values < 0) or not values.sum() > 0:
        raise ValueError(f"{name} must be {n_classes} finite numbers from 0, not all 0, got {values!r:.100}")
    return values / values.sum()


def correct_prior(probabilities, from_prior, to_prior):
    """
    Change the class frequencies that probabilities are for.

    A network trained with ``class_weight="balanced"`` gives probabilities for equally frequent classes, one trained
    without those for the frequencies of the training set. By Bayes' theorem p'(c | image) is proportional to
    p(c | image) to(c) / from(c), provided that images of a class look alike in both populations.

    Parameters
    ----------
    probabilities : `~numpy.ndarray`
        Shape (n, n_classes) or (n_classes,); NaN stays NaN.
    from_prior : sequence of float
        Relative class frequencies that they are for, in the order of the classes; all equal after balanced training.
    to_prior : sequence of float
        Relative class frequencies wanted, such as those of the survey.

    Returns
    -------
    `~numpy.ndarray`
        Same shape, summing to 1.

    Raises
    ------
    ValueError
        If frequencies are not one per class, negative or not finite, or a class with ``from_prior`` 0 is wanted.

    References
    ----------
    Saerens, Latinne & Decaestecker 2002, Neural Computation 14, 21, equation 2.4.

    Examples
    --------
    >>> from astroclassify.nn import correct_prior
    >>> correct_prior([0.5, 0.5], [1, 1], [9, 1]).tolist()
    [0.9, 0.1]
    """
    p = np.asarray(probabilities, dtype=float)
    if p.ndim not in (1, 2) or np.any(p < 0) or np.any(np.abs(p.sum(axis=-1) - 1) > 1e-3):
        raise ValueError(f"probabilities must be from 0 and sum to 1 over the last axis, got shape {p.shape}")
    before = _prior(from_prior, p.shape[-1], "from_prior")
    after = _prior(to_prior, p.shape[-1], "to_prior")
    if np.any((before == 0) & (after > 0)):
        raise ValueError("from_prior must be above 0 for every class that is in to_prior")
    joint = p * np.divide(after, before, out=np.zeros_like(after), where=before > 0)
    total = joint.sum(axis=-1, keepdims=True)
    if np.any(total == 0):
        raise ValueError("to_prior must not rule out every class that probabilities allow")
    return joint / total
