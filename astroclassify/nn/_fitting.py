"""What `CutoutClassifier.fit` does: images to training set, weights to start from, training, and what is kept of it."""

import logging
import os

import numpy as np
from astropy.table import Table

from .. import batch
from .._checks import require
from ..exceptions import ModelError
from ..tables import provenance
from . import _networks
from ._checkpoints import Checkpoint, fingerprint, stored_seed
from ._dataset import load_training_set
from ._folds import validation_split
from ._inference import feature_source, novelty_features
from ._novelty import Novelty, image_statistics
from ._parameters import check_parameters, settings_of
from ._preprocess import Preprocessing
from ._training import train

__all__ = [
    "choose_seed",
    "class_weights",
    "fit",
    "fit_novelty",
    "keep_network",
    "open_checkpoint",
    "raw_logits",
    "split",
    "untrained",
]

log = logging.getLogger(__name__)

_CHUNK = 32
# With fewer images the tail of their distances is not known better than from folds of the training set.
_LEAST_REFERENCE = 30


def split(model, X, y, groups, validation, sample_weight, seed):
    """
    Training set and validation set.

    Parameters
    ----------
    model : CutoutClassifier
        The classifier, its parameters checked.
    X, y, groups, validation, sample_weight
        See `CutoutClassifier.fit`.
    seed : int
        Seed of the split.

    Returns
    -------
    training : TrainingSet
        Images to train on.
    held : TrainingSet or None
        Images to choose the epoch on.
    """
    scheme, bands = check_parameters(model)
    rules = {"scheme": scheme, "bands": bands, "geometry": model.geometry}
    training = load_training_set(X, y, groups, **rules, name="X", weights=sample_weight)
    if validation is not None:
        images, answers = (validation, None) if isinstance(validation, Table) else validation
        return training, load_training_set(images, answers, None, **rules, name="validation")
    if not model.validation_fraction:
        return training, None
    names = np.array(scheme.classes)[training.labels]
    held = validation_split(names, training.groups, fraction=model.validation_fraction, seed=seed)
    return training.take(~held), training.take(held)


def class_weights(rule, training, scheme):
    """
    Weight of each class in the loss.

    Parameters
    ----------
    rule : "balanced", dict or None
        The parameter ``class_weight``.
    training : TrainingSet
        The training set; ``"balanced"`` counts its images by their weights and soft labels.
    scheme : ClassScheme
        The classes.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n_classes,).

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are 0.
    """
    weights = np.ones(scheme.n_classes)
    if rule is None:
        return weights
    if isinstance(rule, str):
        sums = (training.soft * training.weights[:, None]).sum(axis=0)
        return np.where(sums > 0, sums.sum() / np.count_nonzero(sums) / np.where(sums > 0, sums, 1), weights)
    for label, weight in rule.items():
        weights[scheme.index(label)] = weight
    if not np.all(np.isfinite(weights)) or np.any(weights < 0) or not weights.any():
        raise ValueError(f"class_weight must hold finite weights from 0, got {rule}")
    return weights


def choose_seed(model, checkpoint):
    """
    Seed of a training.

    Parameters
    ----------
    model : CutoutClassifier or CutoutRegressor
        With ``random_state``; where that is None, the seed of the checkpoint or a new one.
    checkpoint : str, path-like or None
        Folder of the checkpoint.

    Returns
    -------
    int
        The seed.
    """
    seed = stored_seed(checkpoint) if model.random_state is None else None
    if seed is None:
        seed = batch.master_seed(np.random.default_rng() if model.random_state is None else model.random_state)
    return seed


def untrained(model, n_outputs, seed):
    """
    Network of a classifier or regressor with start values.

    Parameters
    ----------
    model : CutoutClassifier or CutoutRegressor
        The estimator.
    n_outputs : int
        What its last layer gives.
    seed : int
        Seed of the start values.

    Returns
    -------
    `torch.nn.Module`
        The network.
    """
    return _networks.build(
        model.architecture,
        n_bands=len(model.bands),
        n_classes=n_outputs,
        shape=model.geometry.shape,
        width=model.width,
        dropout=model.dropout,
        seed=seed % 2**63,
    )


def _start_from(model, network, start):
    """
    Put the weights of a trained classifier, or of a safetensors file, into a network; those that do not fit stay.

    Returns the preprocessing that the weights are used to (None for a file), and what to say of the start.
    """
    if isinstance(start, (str, os.PathLike)) and str(start).endswith(".safetensors"):
        left = _networks.load_pretrained(network, start)
        return None, {"from": os.path.basename(start), "left_out": left}
    if isinstance(start, (str, os.PathLike)):
        from ._classifier import load_classifier

        start = load_classifier(start)
    if not isinstance(start, type(model)) or not hasattr(start, "weights_"):
        raise ValueError(f"start must be a fitted classifier, a model or a .safetensors file, got {start!r:.100}")
    rule = start.predictor_.preprocessing
    if tuple(start.bands) != tuple(model.bands) or start.stretch != model.stretch:
        raise ValueError(
            f"start must have bands {tuple(model.bands)} and stretch {model.stretch!r}, "
            f"got {tuple(start.bands)} and {start.stretch!r}"
        )
    torch = require("torch", extra="train")
    own = network.state_dict()
    arrays = require("safetensors.numpy", extra="train").load(start.weights_)
    # Scalars come as arrays of one number from models of format version 1.
    fitting = {
        name: torch.from_numpy(np.array(array)).reshape(own[name].shape)
        for name, array in arrays.items()
        if name in own and np.size(array) == own[name].numel() and array.shape in (tuple(own[name].shape), (1,))
    }
    left = sorted(set(own) - set(fitting))
    if not any(name in fitting for name, _ in network.named_parameters()):
        raise ModelError(f"start has no weights that fit a network {model.architecture!r}")
    network.load_state_dict(fitting, strict=False)
    return rule, {"from": str(start.card_.get("name", start.architecture)), "left_out": left}


def open_checkpoint(folder, settings, network, rule, counts, *answers):
    """
    Checkpoint of one training.

    Parameters
    ----------
    folder : str, path-like or None
        Where it is; None for none.
    settings : Settings
        How to train.
    network : `torch.nn.Module`
        The network with the weights to start from.
    rule : Preprocessing
        From counts to what the network takes.
    counts : `~numpy.ndarray`
        Training images.
    *answers : `~numpy.ndarray`
        What they are trained on, and everything of the validation set.

    Returns
    -------
    Checkpoint or None
        A training of other images, answers, settings or start is refused by it.
    """
    if folder is None:
        return None
    start = [array.numpy() for array in network.state_dict().values()]
    return Checkpoint(folder, fingerprint(settings, repr(rule), counts, *answers, *start))


def keep_network(model, network, rule, training, held, *, history, seed):
    """
    Set what every fitted estimator has of its network: weights, ONNX, novelty, history, versions.

    Parameters
    ----------
    model : CutoutClassifier or CutoutRegressor
        The estimator; what its predictor needs else is set already.
    network : `torch.nn.Module`
        The trained network.
    rule : Preprocessing
        From counts to what it takes.
    training : TrainingSet
        Images that it was trained on.
    held : TrainingSet or None
        Images of the validation set.
    history : list of dict
        What `train` gave.
    seed : int
        Seed of the training.
    """
    torch = require("torch", extra="train")
    safetensors = require("safetensors.numpy", extra="train")
    network = network.to(device="cpu", memory_format=torch.contiguous_format)
    model.history_, model.card_, model.novelty_ = history, {}, None
    model.n_parameters_ = sum(parameter.numel() for parameter in network.parameters())
    model.versions_ = provenance(torch=torch.__version__, seed=seed)
    model.weights_ = safetensors.save({name: tensor.numpy() for name, tensor in network.state_dict().items()})
    onnx = _networks.export_onnx(network, n_bands=len(model.bands), shape=model.geometry.shape)
    model.predictor_ = model._make_predictor(onnx, rule)
    model.predictor_.novelty = model.novelty_ = fit_novelty(model.predictor_, training, held)


def fit(model, X, y, groups, validation, sample_weight, checkpoint, start):
    """
    Train a classifier and set its learned attributes.

    Parameters
    ----------
    model : CutoutClassifier
        The classifier.
    X, y, groups, validation, sample_weight, checkpoint, start
        See `CutoutClassifier.fit`.
    """
    scheme, bands = check_parameters(model)
    for package in ("torch", "safetensors"):  # said before images are read
        require(package, extra="train")
    seed = choose_seed(model, checkpoint)
    training, held = split(model, X, y, groups, validation, sample_weight, seed)
    description = training.describe(scheme, [band in model.count_bands for band in bands])
    description["n_validation"] = 0 if held is None else len(held.soft)
    if len(np.unique(training.labels)) < 2:
        raise ValueError(f"X must hold images of at least two classes, got {description['class_counts']}")
    network = untrained(model, scheme.n_classes, seed)
    rule = None
    if start is not None:
        rule, description["start"] = _start_from(model, network, start)
    rule = rule or Preprocessing.measure(training.counts, model.stretch)
    settings = settings_of(model)
    weights = class_weights(model.class_weight, training, scheme)
    targets = training.targets(weights)
    checked = None if held is None else (held.counts, held.targets(weights), held.soft)
    saved = open_checkpoint(checkpoint, settings, network, rule, training.counts, targets, *(checked or ()))
    history = train(
        network, training.counts, targets, rule=rule, settings=settings, seed=seed, validation=checked, checkpoint=saved
    )
    model.classes_ = np.array(scheme.classes)
    model.training_, model.temperature_ = description, 1.0
    keep_network(model, network, rule, training, held, history=history, seed=seed)


def raw_logits(predictor, counts):
    """
    Logits as the network gives them, before any temperature.

    Parameters
    ----------
    predictor : Predictor
        The predictor.
    counts : `~numpy.ndarray`
        Shape (n, n_bands, ny, nx).

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, n_classes).
    """
    parts = [counts[start : start + _CHUNK] for start in range(0, len(counts), _CHUNK)]
    return np.concatenate([predictor.network.logits(predictor.preprocessing(part)) for part in parts])


def _described(predictor, data):
    """Features and statistics of the images of a set, a few at a time."""
    network, exposures = predictor.network, [header and header.exposure for header in data.headers]
    source, features, statistics = feature_source(network.outputs), [], []
    for start in range(0, len(data.counts), _CHUNK):
        counts = data.counts[start : start + _CHUNK]
        (values,) = network.run(predictor.preprocessing(counts), (source,))
        features.append(novelty_features({source: values}))
        statistics.append(image_statistics(counts, exposures[start : start + _CHUNK]))
    return np.concatenate(features), np.concatenate(statistics)


def fit_novelty(predictor, training, held):
    """
    Learn what the training images look like.

    Parameters
    ----------
    predictor : Predictor
        The trained network.
    training : TrainingSet
        Images that it was trained on.
    held : TrainingSet or None
        Images of the validation set; if they are enough, they tell how far new ones are.

    Returns
    -------
    Novelty
        The novelty score.
    """
    reference = _described(predictor, held) if held is not None and len(held.counts) >= _LEAST_REFERENCE else None
    return Novelty.fit(
        *_described(predictor, training), labels=training.labels, groups=training.groups, reference=reference
    )
