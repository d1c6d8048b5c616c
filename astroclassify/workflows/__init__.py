"""What ties rooms together: the demo, the papers' tables, surveys of simulated fields."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_demo": ("run_demo", "score_all"),
        "_reproduce": ("PAPERS", "reproduce"),
        "_simulated_surveys": ("label_candidates", "simulate_survey"),
    },
)
