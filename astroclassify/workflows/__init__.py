"""What ties rooms together: the demo, the papers' tables, simulated surveys, cooling times of images."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_cooling": ("image_cooling_time",),
        "_demo": ("run_demo", "score_all"),
        "_reproduce": ("PAPERS", "reproduce"),
        "_simulated_surveys": ("label_candidates", "simulate_survey"),
    },
)
