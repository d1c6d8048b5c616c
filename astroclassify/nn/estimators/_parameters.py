"""Parameters of estimators: each declared once, as a field of its class, with default, check and help."""

import dataclasses
import inspect
import math
import textwrap

from astroclassify._checks import check_choice, check_integer, check_number
from astroclassify.exceptions import ArgumentError
from astroclassify.images import Geometry

__all__ = [
    "check_bands", "check_names", "check_parameters", "choice", "estimator",
    "integer", "number", "optional", "parameter", "recipe_parameters",
]  # fmt: skip

_TYPES = (
    (" | ", " or "), ("tuple", "tuple of str"), ("Callable", "callable"),
    ("Geometry", "`~astroclassify.images.Geometry`"),
)  # fmt: skip


def parameter(default, check, text, *, kw_only=True, first=False):
    """A parameter of an estimator with its ``check(name, value)``; ``first``: documented before the shared ones."""
    metadata = {"check": check, "text": text, "first": first or not kw_only}
    return dataclasses.field(default=default, kw_only=kw_only, metadata=metadata)


def estimator(cls):
    """
    Class decorator: an ``__init__`` that only stores, from the parameters declared in the class and its bases.

    Their help replaces the line ``<parameters>`` in the docstring.
    """
    inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__dataclass_fields__", ())}
    cls = dataclasses.dataclass(eq=False, repr=False)(cls)
    cls.__init__.__annotations__ = {}
    cls.__init__.__doc__ = None
    fields = dataclasses.fields(cls)
    for name in {field.name for field in fields} - inherited:
        # The defaults are in the signature; attributes of the class would look like settings of all.
        delattr(cls, name)
    if cls.__doc__ and "<parameters>" in cls.__doc__:
        ordered = sorted(fields, key=lambda field: not field.metadata["first"])
        # From Python 3.13 on, docstrings come without their indentation.
        cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("<parameters>", "\n".join(map(_help, ordered)))
    return cls


def _help(field):
    kind = field.type
    for old, new in _TYPES:
        kind = kind.replace(old, new)
    text = textwrap.fill(" ".join(field.metadata["text"].split()), 112, break_on_hyphens=False)
    return f"{field.name} : {kind}, optional\n{textwrap.indent(text, '    ')}"


def check_parameters(model):
    """Check each parameter of an estimator by itself; ArgumentError, SchemaError or TypeError name the bad one."""
    for field in dataclasses.fields(model):
        field.metadata["check"](field.name, getattr(model, field.name))


def integer(low, high):
    """Check for a whole number from ``low`` to ``high``."""
    return lambda name, value: check_integer(name, value, low, high)


def number(low, high=math.inf, **ends):
    """Check for a finite number in a range; ``open_low`` and ``open_high`` leave an end out."""
    return lambda name, value: check_number(name, value, low, high, **ends)


def choice(allowed):
    """Check for one of several texts."""
    return lambda name, value: check_choice(name, value, tuple(allowed))


def optional(check):
    """Check that lets None pass as well."""

    def check_unless_none(name, value):
        if value is not None:
            try:
                check(name, value)
            except ArgumentError as error:
                raise ArgumentError(f"{error}; None is allowed too") from None

    return check_unless_none


def check_names(name, value):
    """Check for a sequence of texts that are not empty."""
    if isinstance(value, str) or not all(isinstance(each, str) and each for each in value):
        raise ArgumentError(f"{name} must be a tuple of names, got {value!r:.100}")


def check_bands(name, value):
    """Check for 1 to 16 different names."""
    check_names(name, value)
    if not 1 <= len(tuple(value)) <= 16 or len(set(value)) != len(tuple(value)):
        raise ArgumentError(f"{name} must be 1 to 16 different names, got {tuple(value)}")


def recipe_parameters(recipe):
    """Parameters of a classifier, name to value; in a recipe each is a value, or a dict with ``value``."""
    values = {}
    for name, entry in recipe["parameters"].items():
        value = entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        if name == "geometry" and isinstance(value, dict):
            value = Geometry.from_dict(value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return values
