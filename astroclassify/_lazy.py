"""Rooms whose names are imported when they are first used: `import astroclassify.nn` must not pay for scikit-learn."""

import importlib

__all__ = ["attach"]


def attach(room, homes):
    """
    Make the module-level ``__getattr__``, ``__dir__`` and ``__all__`` of a room (PEP 562).

    Parameters
    ----------
    room : str
        Name of the package.
    homes : dict
        Private module, relative to the room -> public names that live in it: ``"extents._classes"`` lies in a folder of
        the room, ``".fields._field"`` in the room ``fields`` beside it.

    Returns
    -------
    tuple
        ``__getattr__``, ``__dir__``, ``__all__``.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def __getattr__(name):
        if name not in home_of:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{home_of[name]}", room), name)

    def __dir__():
        return sorted(home_of)

    return __getattr__, __dir__, sorted(home_of)
