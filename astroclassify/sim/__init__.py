"""Simulated sky: halos of a TNG-like snapshot to labelled mock X-ray images."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_embedded": ("write_embedded_snapshot",),
        "_halo": ("Halo",),
        "_labels": ("CoreMeasures", "classify_t_cool", "cooling_time", "measure_core"),
        "_mocks": ("make_mocks",),
        "_observation": ("Observation",),
        "_observe": ("observe",),
        "_plasma": ("cooling_function",),
        "_snapshot": ("Snapshot", "open_snapshot"),
    },
)
