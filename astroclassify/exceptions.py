"""Exceptions and warnings of the package."""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "ArgumentError",
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
]


class AstroclassifyError(Exception):
    """Base class of every error that the package raises on purpose."""


class ArgumentError(AstroclassifyError, ValueError, TypeError):
    """An argument is of a type or has a value that is not allowed (both, as scikit-learn's InvalidParameterError)."""


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
