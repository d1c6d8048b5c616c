"""Machine-learning classification of galaxy clusters from X-ray images."""

import importlib as _importlib
from importlib.metadata import version as _version

__version__ = _version("astroclassify")

_ROOMS = ("batch", "exceptions", "fields", "images", "morphology", "nn", "people", "plots", "samples", "schemes", "sim")
_ROOMS += ("survey", "tables", "workflows")


def __getattr__(name):
    """Rooms are imported when they are first used."""
    if name in _ROOMS:
        return _importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted((*_ROOMS, "__version__"))
