"""A classifier as the JSON document of a model folder, and back."""

import numpy as np

from ..exceptions import ModelError
from ..images import Geometry
from ..schemes import ClassScheme, get_scheme
from ._novelty import Novelty
from ._parameters import architecture_name, check_parameters
from ._preprocess import Preprocessing

__all__ = ["check_training", "from_document", "read_doubt", "to_document"]

# These have entries of their own, or say nothing of the model.
_LEFT_OUT = {"architecture", "scheme", "geometry", "bands", "stretch", "verbose"}


def to_document(model):
    """
    Describe a fitted classifier in plain types.

    Parameters
    ----------
    model : CutoutClassifier
        The classifier.

    Returns
    -------
    dict
        The content of ``model.json``, without format and files.
    """
    return {
        "architecture": architecture_name(model.architecture),
        "parameters": {name: value for name, value in model.get_params(deep=False).items() if name not in _LEFT_OUT},
        "n_parameters": model.n_parameters_,
        "scheme": get_scheme(model.scheme).to_dict(),
        "geometry": model.geometry.to_dict(),
        "bands": list(model.bands),
        "preprocessing": model.predictor_.preprocessing.to_dict(),
        "training": model.training_,
        "doubt": {
            "temperature": model.temperature_,
            "novelty": None if model.novelty_ is None else model.novelty_.to_dict(),
        },
        "history": model.history_,
        "card": model.card_,
        "versions": model.versions_,
    }


def from_document(cls, document, weights, onnx, where):
    """
    Make a fitted classifier of the content of a model folder.

    Parameters
    ----------
    cls : type
        The class.
    document : dict
        What `to_document` gives.
    weights, onnx : bytes
        The two other files.
    where : str
        Name of the document for messages.

    Returns
    -------
    CutoutClassifier
        The classifier.

    Raises
    ------
    ModelError
        If the document does not describe a usable model.
    """
    try:
        scheme = ClassScheme.from_dict(document["scheme"])
        parameters = {
            name: tuple(value) if isinstance(value, list) else value for name, value in document["parameters"].items()
        }
        model = cls(
            document["architecture"],
            scheme=scheme,
            geometry=Geometry.from_dict(document["geometry"]),
            bands=tuple(document["bands"]),
            stretch=document["preprocessing"]["stretch"],
            **parameters,
        )
        check_parameters(model)
        rule = Preprocessing.from_dict(document["preprocessing"], n_bands=len(model.bands))
        model.training_ = check_training(document["training"])
        model.n_parameters_ = int(document["n_parameters"])
        model.temperature_, model.novelty_ = read_doubt(document["doubt"])
    except (KeyError, TypeError, ValueError) as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"{where} does not describe a usable model: {text}") from None
    model.classes_ = np.array(scheme.classes)
    model.history_ = document["history"]
    model.card_ = document["card"]
    model.versions_ = document["versions"]
    model.weights_ = weights
    model.predictor_ = model._make_predictor(onnx, rule)
    model.predictor_.network.start()
    return model


def check_training(training):
    """
    Check the entries of a training description that flags are made from.

    Parameters
    ----------
    training : dict
        The entry ``"training"`` of the document.

    Returns
    -------
    dict
        The same.

    Raises
    ------
    ValueError, TypeError
        If the instruments are not pairs of texts, or the energy range is not two rising numbers.
    """
    pairs, energy = training.get("instruments") or [], training.get("energy_range")
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair) for pair in pairs):
        raise ValueError(f"instruments must be pairs of texts, got {pairs!r}")
    if energy is not None and not (len(energy) == 2 and 0 <= float(energy[0]) < float(energy[1])):
        raise ValueError(f"energy_range must be None or two rising numbers, got {energy!r}")
    return training


def read_doubt(doubt):
    """
    Temperature and novelty score of a document.

    Parameters
    ----------
    doubt : dict
        The entry ``"doubt"`` of the document.

    Returns
    -------
    temperature : float
        What logits are divided by.
    novelty : Novelty or None
        What the training images looked like; None if the model does not know.

    Raises
    ------
    KeyError, TypeError, ValueError
        If an entry is missing, or is not what it must be.
    """
    temperature = float(doubt["temperature"])
    if not 1e-3 <= temperature <= 1e3:
        raise ValueError(f"temperature must lie between 0.001 and 1000, got {temperature}")
    if doubt["novelty"] is None:
        return temperature, None
    return temperature, Novelty.from_dict(doubt["novelty"])
