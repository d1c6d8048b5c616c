"""What ``fit`` of an estimator does: images to training set, weights to start from, training, and what is kept."""

import json
import os
from dataclasses import replace

import numpy as np
from astropy.table import Table

from astroclassify import batch
from astroclassify._checks import require
from astroclassify.exceptions import ModelError
from astroclassify.tables import provenance

from ..doubt._novelty import Novelty
from ..doubt._statistics import image_statistics
from ..inputs._columns import Columns, column_units
from ..inputs._dataset import TrainingSet, load_training_set
from ..inputs._items import open_folder
from ..inputs._preprocess import Preprocessing
from ..inputs._profile import PROFILE
from ..models._checkpoints import Checkpoint, fingerprint, stored_seed
from ..models._inference import feature_source, novelty_features
from ..networks import _build as _networks
from ..networks._build import architecture_name
from ..training._loop import Settings, train
from ..validation._folds import validation_split

__all__ = ["fit", "fit_novelty", "labels_of", "one_text", "raw_logits", "split", "untrained"]

_CHUNK = 32
# With fewer images the tail of their distances is not known better than from folds of the training set.
_LEAST_REFERENCE = 30


def split(model, task, X, y, groups, validation, sample_weight, seed, units):
    """Training set, and validation set to choose the epoch on or None; the arguments are those of ``fit``."""
    rule = Preprocessing(model.stretch, (0.0,), (1.0,), model._pixel())
    rules = {"task": task, "bands": tuple(model.bands), "geometry": model.geometry, "rule": rule}
    rules |= {"optional": model._optional(), "columns": tuple(model.columns), "units": units}
    if isinstance(X, TrainingSet):  # our own script reads its images once, in many processes
        return X, validation
    training = load_training_set(X, y, groups, **rules, name="X", weights=sample_weight)
    if validation is not None:
        images, answers = (validation, None) if isinstance(validation, Table) else validation
        return training, load_training_set(images, answers, None, **rules, name="validation")
    if not model.validation_fraction:
        return training, None
    held = validation_split(task.strata(training), training.groups, fraction=model.validation_fraction, seed=seed)
    return training.take(~held), training.take(held)


def _choose_seed(random_state, checkpoint):
    """Seed of a training: ``random_state``; where that is None, that of the checkpoint or a new one."""
    stored = stored_seed(checkpoint) if random_state is None else None
    return batch.master_seed(random_state) if stored is None else stored


def untrained(model, n_outputs, seed):
    """Network of an estimator with start values."""
    n_planes, *shape = model._input_shape()
    return _networks.build(
        model.architecture, n_bands=n_planes - len(model.columns), n_classes=n_outputs, shape=tuple(shape),
        n_filters=model.n_filters, dropout=model.dropout, seed=seed % 2**63, n_columns=len(model.columns),
    )  # fmt: skip


def _start_from(model, network, start):
    """
    Load the weights of a trained classifier, or of a safetensors file, into a network; those that do not fit stay.

    Returns the preprocessing of the classifier (None for a file), and a description of the start.
    """
    if isinstance(start, (str, os.PathLike)) and str(start).endswith(".safetensors"):
        left = _networks.load_pretrained(network, start)
        return None, {"from": os.path.basename(start), "left_out": left}
    if not isinstance(start, type(model)) or not hasattr(start, "weights_"):
        raise ValueError(f"start must be a fitted classifier, a model or a .safetensors file, got {start!r:.100}")
    rule = start.predictor_.preprocessing
    if tuple(start.bands) != tuple(model.bands) or start.stretch != model.stretch:
        due, got = (f"{tuple(each.bands)} and stretch {each.stretch!r}" for each in (model, start))
        raise ValueError(f"start must have bands {due}, got {got}")
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


def fit(model, task, X, y, *, groups, validation, sample_weight, checkpoint, start=None):
    """Train an estimator for a task and set its learned attributes; returns the validation set, or None."""
    for package in ("torch", "safetensors"):  # checked before images are read
        require(package, extra="train")
    seed = _choose_seed(model.random_state, checkpoint)
    X = open_folder(X)
    units = column_units(X if isinstance(X, Table) else Table(), model.columns)
    training, held = split(model, task, X, y, groups, validation, sample_weight, seed, units)
    task.learn(training)
    description = training.describe(model._holds_counts(), **task.describe(training))
    description["n_validation"] = 0 if held is None else len(held)
    network = untrained(model, task.n_outputs, seed)
    rule = None
    if start is not None:
        rule, description["start"] = _start_from(model, network, start)
    columns = Columns.measure(model.columns, units, training.values) if model.columns else None
    rule = rule or Preprocessing.measure(training.counts, model.stretch, model._pixel(), plates=model._plates())
    if rule.columns is None or columns is None or rule.columns.names != columns.names:
        rule = replace(rule, columns=columns)
    settings = _settings_of(model)
    targets = task.targets(training)
    checked = None if held is None else (held.planes, task.targets(held), task.truth(held))
    saved = None
    if checkpoint is not None:  # a training of other images, answers, settings or start values is refused by it
        arrays = [array.numpy() for array in network.state_dict().values()]
        arrays += [] if held is None else [held.counts, held.values.tobytes(), *checked[1:]]
        digest = fingerprint(settings, repr(rule), training.counts, training.values.tobytes(), targets, *arrays)
        saved = Checkpoint(checkpoint, digest)
    history = train(
        network, training.planes, targets, rule=rule, settings=settings, seed=seed, validation=checked,
        checkpoint=saved, loss=task.loss, score=task.score,
    )  # fmt: skip
    model.history_ = [{name.replace("_f1", f"_{task.score_name}"): n for name, n in entry.items()} for entry in history]
    model.training_, model.card_, model.novelty_, model.familiarity_ = description, {}, None, None
    _keep_network(model, network, rule, seed)
    model.predictor_.novelty = model.novelty_ = fit_novelty(model.predictor_, training, held, task.kinds(training))
    return held


def _settings_of(model):
    """Settings of the training loop; what an estimator has no parameter for stays at its default."""
    same = {name: getattr(model, name) for name in Settings.__dataclass_fields__ if hasattr(model, name)}
    same |= {name: tuple(same[name]) for name in ("augmentation", "frozen") if name in same}
    return Settings(**same, counts=model._holds_counts() + (None,) * len(model.columns))


def _keep_network(model, network, rule, seed):
    """Set weights, ONNX and versions of a trained network; its last layer is the one that the task asks for."""
    torch = require("torch", extra="train")
    safetensors = require("safetensors.numpy", extra="train")
    network = network.to(device="cpu", memory_format=torch.contiguous_format)
    model.n_parameters_ = sum(parameter.numel() for parameter in network.parameters())
    model.versions_ = provenance(torch=torch.__version__, seed=seed)
    labels = labels_of(model, rule)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    model.weights_ = safetensors.save(weights, metadata=one_text(labels))
    n_planes, *shape = model._input_shape()
    onnx = _networks.export_onnx(network, n_bands=n_planes, shape=tuple(shape), labels=labels)
    model.predictor_ = model._make_predictor(onnx, rule)


def labels_of(model, rule):
    """What the files of a network say of it by themselves, name to text."""
    geometry = model.geometry.to_dict()
    return {
        "producer": f"astroclassify {model.versions_['astroclassify']}",
        "architecture": architecture_name(model.architecture),
        "outputs": ", ".join(model._output_names()),
        "bands": ", ".join(model.bands),
        "field": f"{geometry['width']:g} {geometry['unit']}",
        "pixels": " x ".join(str(side) for side in geometry["shape"]),
        "preprocessing": rule.to_dict()["formula"],
    }


def one_text(labels):
    """Labels as the metadata of a safetensors file, which keeps several in another order each time it is written."""
    return {"astroclassify": json.dumps(labels)}


def raw_logits(predictor, counts):
    """Logits (n, n_classes) of counts (n, n_planes, ny, nx) as the network gives them, before any temperature."""
    parts = [counts[start : start + _CHUNK] for start in range(0, len(counts), _CHUNK)]
    return np.concatenate([predictor.network.logits(predictor.preprocessing(part)) for part in parts])


def _described(predictor, data):
    """Features and statistics of the images of a set, a few at a time."""
    network, exposures = predictor.network, [header and header.exposure for header in data.headers]
    source, features, statistics = feature_source(network.outputs), [], []
    for start in range(0, len(data.counts), _CHUNK):
        counts = data.planes[start : start + _CHUNK]
        (values,) = network.run(predictor.preprocessing(counts), (source,))
        features.append(novelty_features({source: values}))
        if predictor.preprocessing.stretch != PROFILE:  # rings have no pixels next to each other
            statistics.append(image_statistics(counts[:, : len(predictor.bands)], exposures[start : start + _CHUNK]))
    return np.concatenate(features), np.concatenate(statistics) if statistics else None


def fit_novelty(predictor, training, held, kinds):
    """`Novelty` of a training set of classes ``kinds`` (n,); the validation set, if large enough, is the reference."""
    reference = _described(predictor, held) if held is not None and len(held.counts) >= _LEAST_REFERENCE else None
    return Novelty.fit(*_described(predictor, training), labels=kinds, groups=training.groups, reference=reference)
