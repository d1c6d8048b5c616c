"""Simulated sky: halos of a TNG-like snapshot to labelled mock X-ray images."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".samples._relabel": ("to_binary",),
        ".workflows._simulated_surveys": ("label_candidates", "simulate_survey"),
        "embedded._population": ("EmbeddedPopulation",),
        "embedded._write": ("write_embedded_snapshot",),
        "halos._fetch": ("fetch_halo",),
        "halos._halo": ("Halo",),
        "halos._labels": ("CoreMeasures", "classify_t_cool", "cooling_time", "measure_core"),
        "halos._measures": ("measure_halo",),
        "halos._pieces": ("HaloPieces",),
        "halos._snapshot": ("Snapshot", "open_snapshot"),
        "mocks._events": ("write_events",),
        "mocks._make": ("make_mocks",),
        "mocks._observation": ("Observation",),
        "mocks._observe": ("draw_counts", "expected_counts", "expected_spectrum", "observe"),
        "mocks._sampler": ("ObservationSampler",),
        "physics._plasma": ("cooling_function",),
        "sky._candidates": ("simulate_candidates",),
        "sky._field": ("SimulatedField", "simulate_field"),
    },
)
