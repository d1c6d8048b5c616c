"""Checks of arguments: each raises one line that names the argument, what came and what is allowed."""

import importlib
import math
import numbers

import numpy as np
from astropy import units as u

from .exceptions import ArgumentError, MissingDependencyError

__all__ = [
    "check_bool",
    "check_choice",
    "check_integer",
    "check_number",
    "check_quantity",
    "check_text",
    "first_line",
    "require",
    "shorten",
]


def shorten(value, length=80):
    """Text of a value on one line of at most ``length`` characters, however large an array it is."""
    text = " ".join((str(value) if isinstance(value, u.Quantity) else repr(value)).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def first_line(error, length=300):
    """First line of an exception's text, or the name of its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:length]


def check_integer(name, value, low=None, high=None, *, error=ArgumentError):
    """The whole number ``value`` as an int, if it lies from ``low`` to ``high`` (both allowed); no bool, no float."""
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, numbers.Integral)
        or (low is not None and value < low)
        or (high is not None and value > high)
    ):
        raise error(f"{name} must be a whole number{_range_text(low, high)}, got {shorten(value)}")
    return int(value)


def check_number(name, value, low=-math.inf, high=math.inf, *, open_low=False, open_high=False, error=ArgumentError):
    """The finite real number ``value`` as a float, if it lies in the range; ``open_*`` leaves that end out. No bool."""
    good = (
        isinstance(value, (numbers.Real, np.number))
        and not isinstance(value, (bool, np.bool_))
        and not isinstance(value, (u.Quantity, np.complexfloating))
        and math.isfinite(value)
        and (low < value if open_low else low <= value)
        and (value < high if open_high else value <= high)
    )
    if not good:
        raise error(
            f"{name} must be a finite number{_range_text(low, high, open_low, open_high)}, got {shorten(value)}"
        )
    return float(value)


def _range_text(low, high, open_low=False, open_high=False):
    start = "" if low in (None, -math.inf) else f" above {low}" if open_low else f" from {low}"
    if high in (None, math.inf):
        return start
    if open_high:
        return f"{start}{' and' if start else ''} below {high}"
    return f"{start}{' to' if start else ' up to'} {high}"


def check_choice(name, value, allowed, *, error=ArgumentError):
    """The text ``value``, if it is one of those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise error(f"{name} must be one of {tuple(allowed)}, got {shorten(value)}")
    return value


def check_bool(name, value, *, error=ArgumentError):
    """``value`` as a bool, if it is True or False (of Python or numpy)."""
    if not isinstance(value, (bool, np.bool_)):
        raise error(f"{name} must be True or False, got {shorten(value)}")
    return bool(value)


def check_text(name, value, *, max_length=200, error=ArgumentError):
    """The text ``value``, stripped, if it is one printable line of 1 to ``max_length`` characters."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isprintable() or len(text) > max_length:
        raise error(f"{name} must be one line of text of at most {max_length} characters, got {shorten(value)}")
    return text


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
    >>> from astroclassify._checks import require
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
    Quantity as plain floats in a unit (a float for a scalar), or an error: TypeError if it is no Quantity, ValueError
    for another kind of unit, a masked or infinite value, one not above zero if ``positive``, or another ``shape``.
    """
    unit = u.Unit(unit)
    if not isinstance(value, u.Quantity):
        what = f"{type(value).__name__} {shorten(value)}"
        raise TypeError(f"{name} must be a Quantity with a unit like {unit}, got {what}")
    if not value.unit.is_equivalent(unit):
        # UnitConversionError is both a UnitsError and a ValueError in every astropy since 6.1.
        raise u.UnitConversionError(f"{name} must have a unit like {unit}, got {value.unit}")
    if np.any(getattr(value, "mask", False)):
        raise ValueError(f"{name} must not be masked, got {shorten(value)}")
    plain = getattr(value, "unmasked", value).to_value(unit)
    if shape is not None and np.shape(plain) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {np.shape(plain)}")
    if not np.all(np.isfinite(plain)):
        raise ValueError(f"{name} must be finite, got {shorten(value)}")
    if positive and not np.all(plain > 0):
        raise ValueError(f"{name} must be larger than zero, got {shorten(value)}")
    return float(plain) if np.ndim(plain) == 0 else np.asarray(plain, dtype=float)
