"""Count rates of the sky and of the particles, from the packaged spectra."""

from functools import lru_cache

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify.data import FOLDER as DATA
from astroclassify.fields._instruments import EPIC_BACKGROUND

from ._absorption import transmission
from ._telescope import EPIC

__all__ = ["band", "epic_rates", "foreground_rate", "particle_rate", "power_law_rate", "unresolved_rate"]

SOURCE_INDEX = 1.4
"""Photon index of resolved sources together, that of the whole extragalactic background (Moretti et al. 2003, ApJ 588,
696, section 2 [from memory]; Revnivtsev et al. 2005, A&A 444, 381)."""

CLUSTER_SOURCE_INDEX = 1.8
"""Photon index of the sources that belong to a cluster, active nuclei (Tozzi et al. 2006, A&A 451, 457: 1.75 on average
[from memory])."""

UNRESOLVED_INDEX = 1.5
UNRESOLVED_FLUX_1_2 = 1.04e-12
"""Photon index, and energy flux in 1 to 2 keV [erg s-1 cm-2 deg-2], of the extragalactic background left in the Chandra
Deep Fields without their sources (Hickox & Markevitch 2006, ApJ 645, 95, abstract)."""

_ERG_PER_KEV = u.keV.to(u.erg)
_EPIC_BAND = (0.5, 2.0)  # keV, of `EPIC_BACKGROUND`
# Pieces into which a bin of the effective area is cut: 1 eV, as absorption has narrow lines near the edges of oxygen.
_PIECES = 50


@lru_cache(maxsize=1)
def load_spectra():
    """
    The packaged spectra: bin edges [keV], shape (n + 1,); particles of ACIS-I, photons of the Galaxy and particles of
    ACIS-S3, shape (n,) [ct s-1 keV-1 arcmin-2; photons s-1 cm-2 keV-1 arcmin-2].
    """
    with (DATA / "acis_background.ecsv").open("rb") as stream:
        table = QTable.read(stream.read().decode("ascii"), format="ascii.ecsv")
    low, high = table["energy_lo"].to_value(u.keV), table["energy_hi"].to_value(u.keV)
    result = (
        np.append(low, high[-1]),
        np.array(table["particle"].to_value("ct / (s keV arcmin2)")),
        np.array(table["foreground"].to_value("ph / (s cm2 keV arcmin2)")),
        np.array(table["particle_s3"].to_value("ct / (s keV arcmin2)")),
    )
    for array in result:
        array.flags.writeable = False
    return result


def band(energy_range, edges):
    """
    Middles and widths [keV] of the pieces into which an energy range is cut at ``edges``, where something changes
    abruptly.
    """
    low, high = energy_range
    edges = np.unique(np.concatenate([[low, high], np.clip(edges, low, high)]))
    step = np.arange(_PIECES) / _PIECES
    fine = np.append(np.ravel(edges[:-1, np.newaxis] + np.diff(edges)[:, np.newaxis] * step), edges[-1])
    return 0.5 * (fine[1:] + fine[:-1]), np.diff(fine)


def _check_range(energy_range, edges, what):
    low, high = energy_range
    if low < edges[0] or high > edges[-1]:
        raise ValueError(
            f"energy_range must lie within {edges[0]:g} to {edges[-1]:g} keV, where {what} is known, got {low:g} to "
            f"{high:g} keV"
        )


def particle_rate(energy_range, detector="acis-i"):
    """Count rate of the particles on an array of ACIS in an energy range [keV], ct s-1 arcmin-2."""
    edges, array_i, _, array_s = load_spectra()
    _check_range(energy_range, edges, "the particle background")
    particle = array_s if detector == "acis-s" else array_i
    return float(np.sum(particle * np.diff(np.clip(edges, *energy_range))))


def epic_rates(energy_range, detector):
    """Count rates of the sky on axis and of the particles of an EPIC detector, ct s-1 arcmin-2; 0.5 to 2 keV only."""
    if energy_range != _EPIC_BAND:
        raise ValueError(
            f"background and sky_background of {detector!r} are known in {_EPIC_BAND[0]:g} to {_EPIC_BAND[1]:g} keV "
            f"only; give both for energy_range {energy_range[0]:g} to {energy_range[1]:g} keV"
        )
    return EPIC_BACKGROUND[EPIC[detector]]


def foreground_rate(response, energy_range):
    """Count rate of the Galactic foreground in an energy range [keV], on axis, ct s-1 arcmin-2."""
    edges, _, foreground, _ = load_spectra()
    _check_range(energy_range, edges, "the sky background")
    _check_range(energy_range, response.energy_edges, f"response {response.name!r}")
    energy, width = band(energy_range, np.concatenate([edges, response.energy_edges]))
    photons = foreground[np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, foreground.size - 1)]
    return float(np.sum(photons * response.area(energy) * width))


def power_law_rate(response, energy_range, nh_column, index, flux_range=(0.5, 2.0)):
    """
    Count rate [s-1], on axis, of a power law of a photon index (not 2) behind a column [cm-2], whose energy flux before
    absorption is 1 erg s-1 cm-2 within ``flux_range`` [keV]. ``energy_range`` [keV] is what is counted.
    """
    _check_range(energy_range, response.energy_edges, f"response {response.name!r}")
    energy, width = band(energy_range, response.energy_edges)
    low, high = flux_range
    flux = _ERG_PER_KEV * (high ** (2.0 - index) - low ** (2.0 - index)) / (2.0 - index)
    return float(np.sum(energy**-index * response.area(energy) * transmission(energy, nh_column) * width)) / flux


def unresolved_rate(response, energy_range, nh_column):
    """Count rate of the unresolved extragalactic background in an energy range [keV], on axis, ct s-1 arcmin-2."""
    flux = UNRESOLVED_FLUX_1_2 / 3600.0
    return flux * power_law_rate(response, energy_range, nh_column, UNRESOLVED_INDEX, flux_range=(1.0, 2.0))
