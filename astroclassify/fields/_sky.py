"""Facts about the X-ray sky that every simulator uses: numbers and fluxes of active nuclei."""

import functools

import numpy as np

__all__ = ["draw_fluxes", "source_counts"]

# Moretti et al. (2003, ApJ 588, 696), soft band: N(>S) = N0 (2e-15)^a / (S^a + S0^(a - b) S^b) per deg2.
_BRIGHT_SLOPE, _FAINT_SLOPE, _BREAK, _NUMBER, _PIVOT = 1.82, 0.60, 1.48e-14, 6150.0, 2e-15


def source_counts(flux):
    """Sources brighter than a flux (0.5 to 2 keV, unabsorbed) [erg s-1 cm-2], N(>S) [deg-2] (Moretti et al. 2003)."""
    relative = np.asarray(flux, dtype=float) / _PIVOT
    knee = (_BREAK / _PIVOT) ** (_BRIGHT_SLOPE - _FAINT_SLOPE)
    return _NUMBER / (relative**_BRIGHT_SLOPE + knee * relative**_FAINT_SLOPE)


def draw_fluxes(number, faintest, brightest, rng, *, nodes=2048):
    """Fluxes [erg s-1 cm-2] of a number of sources between two bounds, by the inverse of N(>S) on a table of nodes."""
    log_counts, log_flux = _inverse(float(faintest), float(brightest), nodes)
    low, high = source_counts(np.array([brightest, faintest]))
    return np.exp(np.interp(np.log(low + (high - low) * rng.random(number)), log_counts, log_flux))


@functools.lru_cache(maxsize=8)
def _inverse(faintest, brightest, nodes):
    """Rising log N(>S) and the log S that goes with it."""
    flux = np.geomspace(faintest, brightest, nodes)
    return np.log(source_counts(flux))[::-1], np.log(flux)[::-1]
