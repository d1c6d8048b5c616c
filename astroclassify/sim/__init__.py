"""Simulated sky: halos of a TNG-like snapshot to labelled mock X-ray images."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_embedded": ("write_embedded_snapshot",),
        "_events": ("write_events",),
        "_fetch": ("fetch_halo",),
        "_halo": ("Halo",),
        "_labels": ("CoreMeasures", "classify_t_cool", "cooling_time", "measure_core"),
        "_measures": ("measure_halo",),
        "_mocks": ("make_mocks",),
        "_observation": ("Observation",),
        "_observe": ("draw_counts", "expected_counts", "expected_spectrum", "observe"),
        "_plasma": ("cooling_function",),
        "_sampler": ("ObservationSampler",),
        "_snapshot": ("Snapshot", "open_snapshot"),
    },
)
