"""Machine-learning classification of galaxy clusters from X-ray images."""

import importlib as _importlib

_ROOMS = ("batch", "exceptions", "fields", "images", "morphology", "nn", "people", "plots", "samples", "schemes", "sim")
_ROOMS += ("survey", "tables", "workflows")


def __getattr__(name):
    """Rooms are imported when they are first used, and the version is looked up."""
    if name in _ROOMS:
        return _importlib.import_module(f".{name}", __name__)
    if name == "__version__":
        return _importlib.import_module("importlib.metadata").version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted((*_ROOMS, "__version__"))
