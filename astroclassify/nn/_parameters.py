"""Checks of the parameters of a classifier, before anything is read or built."""

import math
import numbers

from ..images import Geometry
from ..schemes import get_scheme
from . import _networks
from ._augment import check_augmentation
from ._optimizers import OPTIMIZERS, SCHEDULES
from ._preprocess import check_stretch
from ._training import Settings

__all__ = ["OWN_NETWORK", "architecture_name", "check_bands", "check_parameters", "recipe_parameters", "settings_of"]

# How a model folder names a network that the user's own function built.
OWN_NETWORK = "own:"

# (name, least, greatest, whether None is allowed)
_WHOLE = (
    ("width", 1, 1024, True),
    ("epochs", 1, 10**6, False),
    ("iterations", 1, 10**9, True),
    ("batch_size", 2, 10**6, False),
    ("patience", 1, 10**6, True),
    ("plateau_patience", 1, 10**6, False),
    ("thaw_epoch", 1, 10**6, True),
)
# (name, least, greatest, whether the least is allowed, whether None is allowed)
_REAL = (
    ("learning_rate", 0, math.inf, False, False),
    ("weight_decay", 0, math.inf, True, False),
    ("momentum", 0, 0.9999, True, True),
    ("decay", 0, math.inf, True, False),
    ("plateau_factor", 0, 1, False, False),
    ("least_rate", 0, math.inf, True, False),
    ("mean_epochs", 0, 1000, True, False),
    ("dropout", 0, 0.99, True, True),
    ("validation_fraction", 0, 0.5, True, False),
)
_CHOICES = (("monitor", ("loss", "f1")), ("optimizer", tuple(OPTIMIZERS)), ("schedule", tuple(SCHEDULES)))


def architecture_name(architecture):
    """
    Name of a network in a model folder.

    Parameters
    ----------
    architecture : str or callable
        Name, or the user's function.

    Returns
    -------
    str
        The name; ``"own:<function>"`` for a function.
    """
    if isinstance(architecture, str):
        return architecture
    return OWN_NETWORK + getattr(architecture, "__qualname__", type(architecture).__qualname__)


def check_bands(bands):
    """
    Check names of bands.

    Parameters
    ----------
    bands : sequence of str
        The names.

    Returns
    -------
    tuple of str
        The names.

    Raises
    ------
    ValueError
        If they are not 1 to 16 different names.
    """
    if isinstance(bands, str) or not all(isinstance(band, str) and band for band in bands):
        raise ValueError(f"bands must be a tuple of names, got {bands!r}")
    bands = tuple(bands)
    if not 1 <= len(bands) <= 16 or len(set(bands)) != len(bands):
        raise ValueError(f"bands must be 1 to 16 different names, got {bands}")
    return bands


def _check_numbers(model):
    for name, low, high, optional in _WHOLE:
        value = getattr(model, name)
        if value is None and optional:
            continue
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not low <= value <= high:
            rest = ", or None" if optional else ""
            raise ValueError(f"{name} must be a whole number from {low} to {high}{rest}, got {value!r}")
    for name, low, high, closed, optional in _REAL:
        value = getattr(model, name)
        if value is None and optional:
            continue
        good = isinstance(value, numbers.Real) and not isinstance(value, bool) and low <= value <= high
        if not good or not math.isfinite(value) or (value == low and not closed):
            start = f"from {low}" if closed else f"above {low}"
            end = "" if high == math.inf else f" to {high}"
            raise ValueError(f"{name} must be a number {start}{end}{', or None' if optional else ''}, got {value!r}")


def _check_rates(model):
    """What no single parameter can say."""
    if model.schedule == "one-cycle" and model.decay:
        raise ValueError(f"decay must be 0 with schedule 'one-cycle', got {model.decay!r}")
    if model.schedule == "plateau" and model.least_rate > model.learning_rate:
        raise ValueError(f"least_rate must not exceed learning_rate {model.learning_rate}, got {model.least_rate!r}")


def _check_class_weight(model, scheme):
    if isinstance(model.class_weight, dict):
        for label in model.class_weight:
            scheme.index(label)
    elif model.class_weight not in (None, "balanced"):
        raise ValueError(f"class_weight must be 'balanced', a dict or None, got {model.class_weight!r}")


def check_parameters(model):
    """
    Check every parameter of a classifier.

    Parameters
    ----------
    model : CutoutClassifier
        The classifier.

    Returns
    -------
    scheme : ClassScheme
        Its classes.
    bands : tuple of str
        Its bands.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not what it must be; the message names it.
    SchemaError
        If the scheme, or a class in ``class_weight``, is unknown.
    """
    if not (isinstance(model.architecture, str) and model.architecture.startswith(OWN_NETWORK)):
        _networks.check_architecture(model.architecture)
    check_stretch(model.stretch)
    scheme = get_scheme(model.scheme)
    if not isinstance(model.geometry, Geometry):
        raise TypeError(f"geometry must be a Geometry, got {type(model.geometry).__name__}")
    bands = check_bands(model.bands)
    _check_numbers(model)
    for name, allowed in _CHOICES:
        value = getattr(model, name)
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
    _check_rates(model)
    check_augmentation(model.augmentation, counts=_counts_of(model, bands))
    if isinstance(model.frozen, str) or not all(isinstance(name, str) and name for name in model.frozen):
        raise ValueError(f"frozen must be a tuple of beginnings of parameter names, got {model.frozen!r}")
    _check_class_weight(model, scheme)
    return scheme, bands


def _counts_of(model, bands):
    """Whether each band holds counts."""
    names = model.count_bands
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"count_bands must be a tuple of names, got {names!r}")
    return tuple(band in names for band in bands)


def settings_of(model):
    """
    Settings of the training loop.

    Parameters
    ----------
    model : CutoutClassifier
        A classifier whose parameters have been checked.

    Returns
    -------
    Settings
        The settings.
    """
    same = {name: getattr(model, name) for name in Settings.__dataclass_fields__ if hasattr(model, name)}
    same["augmentation"] = tuple(model.augmentation)
    same["frozen"] = tuple(model.frozen)
    return Settings(**same, counts=_counts_of(model, tuple(model.bands)))


def recipe_parameters(recipe):
    """
    Parameters of a classifier in a recipe.

    Parameters
    ----------
    recipe : dict
        With ``parameters``: name to value, or to a dict with ``value`` and ``origin``.

    Returns
    -------
    dict
        Name to value.
    """
    values = {}
    for name, entry in recipe["parameters"].items():
        value = entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        if name == "geometry" and isinstance(value, dict):
            value = Geometry.from_dict(value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return values
