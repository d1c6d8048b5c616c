"""A fitted estimator as the JSON document of a model folder, and back."""

from astroclassify._checks import first_line
from astroclassify.exceptions import ModelError
from astroclassify.images import Geometry

from ..doubt._familiarity import Familiarity
from ..doubt._novelty import Novelty
from ..inputs._preprocess import Preprocessing
from ..models import _store
from ..networks._build import architecture_name

__all__ = ["from_document", "to_document"]

# These have entries of their own, or say nothing of the model.
_LEFT_OUT = {"architecture", "scheme", "geometry", "bands", "stretch", "verbose"}


def to_document(model):
    """The content of ``model.json`` without format and files, of plain types."""
    return {
        "architecture": architecture_name(model.architecture),
        "parameters": {name: value for name, value in model.get_params(deep=False).items() if name not in _LEFT_OUT},
        "n_parameters": model.n_parameters_,
        "geometry": model.geometry.to_dict(),
        "bands": list(model.bands),
        "preprocessing": model.predictor_.preprocessing.to_dict(),
        "training": model.training_,
        "doubt": {
            "temperature": getattr(model, "temperature_", 1.0),  # a regressor has none
            "novelty": None if model.novelty_ is None else model.novelty_.to_dict(),
            "familiarity": None if model.familiarity_ is None else model.familiarity_.to_dict(),
            "conformal": None if getattr(model, "conformal_", None) is None else model.conformal_.to_dict(),
        },
        "history": model.history_,
        "card": model.card_,
        "versions": model.versions_,
        **model._own_entries(),
    }


def from_document(cls, folder, document, weights, onnx):
    """A fitted estimator of the content of a model folder; ModelError if the document describes no usable model."""
    where = repr(str(folder / _store.DOCUMENT))
    try:
        parameters = document["parameters"] | {
            "geometry": Geometry.from_dict(document["geometry"]),
            "bands": document["bands"],
            "stretch": document["preprocessing"]["stretch"],
            **cls._own_parameters(document),
        }
        parameters = {name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()}
        model = cls(document["architecture"], **parameters)
        model._check()
        rule = Preprocessing.from_dict(
            document["preprocessing"], n_bands=len(model.bands), pixel=model._pixel(), columns=model.columns
        )
        model.training_ = _check_training(document["training"])
        model.n_parameters_ = int(document["n_parameters"])
        novelty = document["doubt"]["novelty"]
        model.novelty_ = None if novelty is None else Novelty.from_dict(novelty)
        familiarity = document["doubt"].get("familiarity")
        model.familiarity_ = None if familiarity is None else Familiarity.from_dict(familiarity)
        model._read_own(document)
    except (KeyError, TypeError, ValueError) as error:
        text = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"{where} does not describe a usable model: {text}") from None
    model.history_, model.card_, model.versions_ = document["history"], document["card"], document["versions"]
    model.weights_ = weights
    model.predictor_ = model._make_predictor(onnx, rule, getattr(model, "temperature_", 1.0))
    model.predictor_.network.start()
    return model


def _check_training(training):
    """The description of the training set, if the entries that flags are made from are usable."""
    pairs, energy = training.get("instruments") or [], training.get("energy_range")
    own = training.get("energy_ranges") or {}
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair) for pair in pairs):
        raise ValueError(f"instruments must be pairs of texts, got {pairs!r}")
    for band in [energy, *own.values()]:
        if band is not None and not (len(band) == 2 and 0 <= float(band[0]) < float(band[1])):
            raise ValueError(f"energy_range must be None or two rising numbers, got {band!r}")
    return training
