"""Samples on disk: one writer for all that are made, and the public training set of Kosiba et al. (2020)."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_kosiba2020": ("read_kosiba2020",),
        "_relabel": ("to_binary",),
    },
)
