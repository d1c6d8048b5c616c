"""Real and simulated sky to labelled cutouts. Detection and extraction come later."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_kosiba2020": ("read_kosiba2020",),
        "_simulate": ("simulate_candidates", "to_binary"),
    },
)
