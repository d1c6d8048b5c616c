"""Rooms whose names are imported when they are first used: `import astroclassify.nn` must not pay for scikit-learn."""

import importlib

__all__ = ["attach"]


def attach(room, homes):
    """
    Module-level ``__getattr__``, ``__dir__`` and ``__all__`` of a package (PEP 562).

    ``homes`` maps a private module, relative to the room, to the public names that live in it: ``"extents._classes"``
    lies in a folder of the room, ``".fields._field"`` in the room ``fields`` beside it.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def __getattr__(name):
        if name not in home_of:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{home_of[name]}", room), name)

    def __dir__():
        return sorted(home_of)

    return __getattr__, __dir__, sorted(home_of)
