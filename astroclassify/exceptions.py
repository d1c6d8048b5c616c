"""Exceptions and warnings of the package, and the argument checks that raise them."""

import importlib

import numpy as np
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "AstroclassifyError",
    "AstroclassifyWarning",
    "EmptyResultWarning",
    "FetchError",
    "GeometryError",
    "ImageWarning",
    "MissingDependencyError",
    "ModelError",
    "OutputError",
    "SchemaError",
    "SnapshotError",
    "check_quantity",
    "require",
]


class AstroclassifyError(Exception):
    """Base class of every error that the package raises on purpose."""


class SchemaError(AstroclassifyError, ValueError):
    """A table or a JSON file lacks a column, a unit or a value that its specification asks for."""


class GeometryError(AstroclassifyError, ValueError):
    """An image has no usable shape, coordinate system or scale."""


class SnapshotError(AstroclassifyError, ValueError):
    """A simulation output is missing, damaged or not in the expected format."""


class FetchError(AstroclassifyError, OSError):
    """A web service does not give what was asked for: no key, no such thing, or it or the connection fails."""


class ModelError(AstroclassifyError, ValueError):
    """A model folder is missing, damaged, altered or from another version."""


class OutputError(AstroclassifyError, OSError):
    """A result cannot be written where it was asked for."""


class MissingDependencyError(AstroclassifyError, ImportError):
    """An optional package is needed and not installed."""


class AstroclassifyWarning(AstropyUserWarning):
    """Base class of the package's warnings."""


class ImageWarning(AstroclassifyWarning):
    """An image was used although something about it had to be assumed."""


class EmptyResultWarning(AstroclassifyWarning):
    """Nothing was found; an empty table is returned."""


def require(module, *, extra):
    """
    Import an optional package, or say how to install it.

    Parameters
    ----------
    module : str
        Name of the module to import.
    extra : str
        The extra of ``astroclassify`` that installs it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingDependencyError
        If the module is not installed.

    Examples
    --------
    >>> from astroclassify.exceptions import require
    >>> require("math", extra="sim").floor(2.5)
    2
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A package that is installed but lacks one of its own dependencies must say so itself.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependencyError(
            f"{module} is needed here and is not installed: pip install 'astroclassify[{extra}]'"
        ) from error


def check_quantity(name, value, unit, *, positive=False, shape=None):
    """
    Turn a physical argument into plain floats in a given unit.

    Parameters
    ----------
    name : str
        Name of the argument, for the error message.
    value : `~astropy.units.Quantity`
        What came.
    unit : `~astropy.units.Unit`
        The unit wanted.
    positive : bool, optional
        Whether every value must be larger than zero.
    shape : tuple, optional
        The shape wanted; ``()`` asks for a scalar.

    Returns
    -------
    float or `~numpy.ndarray`
        The value in ``unit``; a float for a scalar.

    Raises
    ------
    TypeError
        If ``value`` is not a Quantity.
    ValueError
        If its unit, shape or value is not allowed.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.exceptions import check_quantity
    >>> check_quantity("width", 1 * u.Mpc, u.kpc)
    1000.0
    """
    unit = u.Unit(unit)
    if not isinstance(value, u.Quantity):
        what = f"{type(value).__name__} {_short(value)}"
        raise TypeError(f"{name} must be a Quantity with a unit like {unit}, got {what}")
    if not value.unit.is_equivalent(unit):
        # UnitConversionError is both a UnitsError and a ValueError in every astropy since 6.1.
        raise u.UnitConversionError(f"{name} must have a unit like {unit}, got {value.unit}")
    if np.any(getattr(value, "mask", False)):
        raise ValueError(f"{name} must not be masked, got {_short(value)}")
    plain = getattr(value, "unmasked", value).to_value(unit)
    if shape is not None and np.shape(plain) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {np.shape(plain)}")
    if not np.all(np.isfinite(plain)):
        raise ValueError(f"{name} must be finite, got {_short(value)}")
    if positive and not np.all(plain > 0):
        raise ValueError(f"{name} must be larger than zero, got {_short(value)}")
    return float(plain) if np.ndim(plain) == 0 else np.asarray(plain, dtype=float)


def _short(value):
    """Text of a value on one line, however large an array it is."""
    text = " ".join((str(value) if isinstance(value, u.Quantity) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
