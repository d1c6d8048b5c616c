"""Training of a regression: images with targets, likelihood of a normal distribution, calibration of its width."""

from dataclasses import replace

import numpy as np
from astropy.table import Table

from .._checks import require
from ..schemes import ClassScheme
from ._dataset import load_training_set
from ._fitting import choose_seed, keep_network, open_checkpoint, raw_logits, untrained
from ._folds import validation_split
from ._items import as_items
from ._parameters import check_parameters, settings_of
from ._preprocess import Preprocessing
from ._targets import Scaling, check_targets, target_values
from ._training import train

__all__ = ["fit", "gaussian_loss", "moments", "r2"]

# Smooth bound of the logarithm of the variance of a standardised target: sigma from 0.018 to 55.
_BOUND = 8.0
# Fewer validation images than this do not tell how wide the uncertainties should be.
_LEAST_FOR_SIGMA = 10
# The images need no class; only whether anything is known of them.
_KNOWN = ClassScheme("targets", ("known", "unknown"), ("a target is known", "no target is known"))


def gaussian_loss(outputs, targets):
    """
    Sum over targets of -log of the normal density (without its constant), and the sum of weights.

    Parameters
    ----------
    outputs : `torch.Tensor`
        Shape (n, 2 n_targets): means, then what the logarithms of the variances are made of, 8 tanh(x / 8).
    targets : `torch.Tensor`
        Shape (n, 2, n_targets): standardised values, and their weights, 0 where a value is unknown.

    Returns
    -------
    total, weight : `torch.Tensor`
        Sums of weighted loss and of weights.

    References
    ----------
    Nix & Weigend 1994, Proc. IEEE Int. Conf. on Neural Networks, 1, 55, equation 5.
    """
    mean, raw = outputs.chunk(2, dim=1)
    values, weights = targets[:, 0], targets[:, 1]
    log_variance = _BOUND * (raw / _BOUND).tanh()
    loss = 0.5 * (log_variance + (values - mean) ** 2 * (-log_variance).exp())
    return (weights * loss).sum(), weights.sum()


def moments(outputs):
    """
    Means and standard deviations of standardised targets.

    Parameters
    ----------
    outputs : `~numpy.ndarray`
        What the network gives, as for `gaussian_loss`.

    Returns
    -------
    mean, sigma : `~numpy.ndarray`
        Shape (n, n_targets) each.
    """
    mean, raw = np.split(np.asarray(outputs, dtype=float), 2, axis=1)
    return mean, np.exp(0.5 * _BOUND * np.tanh(raw / _BOUND))


def r2(outputs, values):
    """
    Mean over targets of the share of the variance that is explained.

    Parameters
    ----------
    outputs : `~numpy.ndarray`
        What the network gives, as for `gaussian_loss`.
    values : `~numpy.ndarray`
        Standardised targets, shape (n, n_targets), NaN where unknown.

    Returns
    -------
    float
        1 at best; NaN where no target varies.
    """
    mean, _ = moments(outputs)
    known = ~np.isnan(values)
    filled, n = np.where(known, values, 0.0), np.maximum(known.sum(axis=0), 1)
    total = (np.where(known, filled - filled.sum(axis=0) / n, 0.0) ** 2).sum(axis=0)
    rest = (np.where(known, filled - mean, 0.0) ** 2).sum(axis=0)
    good = total > 0
    return float(np.mean(1 - rest[good] / total[good])) if good.any() else float("nan")


def _load(model, X, y, groups, weights, targets, name):
    """
    Images with at least one target.

    Returns the training set and its targets (n, n_targets), NaN where unknown.
    """
    values = target_values(X, y, targets, name)
    known = np.where(~np.isnan(values).all(axis=1), 1.0, np.nan)
    items, _ = as_items(X, bands=tuple(model.bands), shape=model.geometry.shape)
    if len(items) != len(values):
        raise ValueError(f"y of {name} must be one row per image ({len(items)}), got {len(values)}")
    if groups is None:
        groups = [item.group_id or item.source_id for item in items]
    groups = np.array([str(group) for group in groups])
    if len(groups) != len(items):
        raise ValueError(f"groups must be one per image ({len(items)}), got {len(groups)}")
    # The number of the row travels in the place of its group, so that targets can follow the images that can be read.
    loaded = load_training_set(
        X, np.stack([known, 0 * known], axis=1), np.arange(len(items)), scheme=_KNOWN, bands=tuple(model.bands),
        geometry=model.geometry, name=name, weights=weights,
    )  # fmt: skip
    rows = loaded.groups.astype(int)
    return replace(loaded, groups=groups[rows]), values[rows]


def _split(model, X, y, groups, validation, sample_weight, targets, seed):
    """Training images with targets, and validation images with targets or None."""
    training, values = _load(model, X, y, groups, sample_weight, targets, "X")
    if validation is not None:
        images, answers = (validation, None) if isinstance(validation, Table) else validation
        return training, values, *_load(model, images, answers, None, None, targets, "validation")
    if not model.validation_fraction:
        return training, values, None, None
    # Spread evenly over the range of the first target: thirds of its values play the classes.
    first = np.where(np.isnan(values[:, 0]), np.nanmedian(values[:, 0]), values[:, 0])
    thirds = np.searchsorted(np.quantile(first, [1 / 3, 2 / 3]), first).astype(str)
    held = validation_split(thirds, training.groups, fraction=model.validation_fraction, seed=seed)
    return training.take(~held), values[~held], training.take(held), values[held]


def _packed(values, weights):
    """Standardised values and weights as `gaussian_loss` takes them."""
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0.0), known * weights[:, None]], axis=1).astype(np.float32)


def fit(model, X, y, groups, validation, sample_weight, checkpoint):
    """
    Train a regressor and set its learned attributes.

    Parameters
    ----------
    model : CutoutRegressor
        The regressor.
    X, y, groups, validation, sample_weight, checkpoint
        See `CutoutRegressor.fit`.
    """
    check_parameters(model)
    for package in ("torch", "safetensors"):  # said before images are read
        require(package, extra="train")
    targets = check_targets(model.targets)
    seed = choose_seed(model, checkpoint)
    training, values, held, held_values = _split(model, X, y, groups, validation, sample_weight, targets, seed)
    scaling = Scaling.measure(values, targets)
    network = untrained(model, 2 * len(targets), seed)
    rule = Preprocessing.measure(training.counts, model.stretch)
    settings = settings_of(model)
    packed = _packed(scaling.standardise(values), training.weights)
    checked = None
    if held is not None:
        answers = scaling.standardise(held_values)
        checked = (held.counts, _packed(answers, held.weights), answers)
    saved = open_checkpoint(checkpoint, settings, network, rule, training.counts, packed, *(checked or ()))
    history = train(
        network, training.counts, packed, rule=rule, settings=settings, seed=seed, validation=checked,
        checkpoint=saved, loss=gaussian_loss, score=r2,
    )  # fmt: skip
    history = [{name.replace("_f1", "_r2"): value for name, value in entry.items()} for entry in history]
    model.targets_, model.scaling_ = targets, scaling
    model.training_ = _describe(model, training, values, held)
    keep_network(model, network, rule, training, held, history=history, seed=seed)
    if held is not None:
        model.scaling_ = _calibrated(scaling, model.predictor_, held.counts, held_values)


def _describe(model, training, values, held):
    description = training.describe(_KNOWN, [band in model.count_bands for band in model.bands])
    del description["class_counts"]
    ranges = {target.name: [float(low), float(high)] for target, low, high in zip(
        model.targets_, np.nanmin(values, axis=0), np.nanmax(values, axis=0), strict=True
    )}  # fmt: skip
    return description | {"target_ranges": ranges, "n_validation": 0 if held is None else len(held.counts)}


def _calibrated(scaling, predictor, counts, values):
    """Scaling with the factor of the uncertainties by which the validation images are most probable."""
    mean, sigma = moments(raw_logits(predictor, counts))
    pulls = (scaling.standardise(values) - mean) / sigma
    enough = (~np.isnan(pulls)).sum(axis=0) >= _LEAST_FOR_SIGMA
    square = np.array([np.nanmean(pull**2) if good else 1.0 for pull, good in zip(pulls.T, enough, strict=True)])
    return Scaling(scaling.mean, scaling.std, np.maximum(np.sqrt(square), 1e-3))
