"""
The direct engine: the expected counts of every gas cell, put straight on the image.

What the photon engine draws, this one sums: a cell's spectrum times absorption times effective area, integrated over
the band, goes on the pixels with the cell's kernel and the point spread function. The spectral integrals are done once
for the table's temperatures, elements and a few Doppler factors; a cell then costs a look-up and its pixels.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy import constants
from astropy import units as u

from ..exceptions import require
from ._absorption import transmission
from ._plasma import components, load_emissivity, table_position
from ._projection import projection

__all__ = ["BandTable", "band_table", "check_installed", "expected", "photon_flux_factor", "spectrum"]

_C_KM_S = constants.c.to_value(u.km / u.s)
# Doppler factors are tabulated this far apart: 7 eV at 7 keV, less than a bin of the emissivity table.
_DOPPLER_STEP = 1e-3
_MAX_DOPPLER_NODES = 65
# Kernels end at this many standard deviations and are normalised to 1 inside: 7e-6 of the counts move inwards.
N_SIGMA = 4.5
_CDF_NODES = 4096


def check_installed():
    """Raise `~astroclassify.exceptions.MissingDependencyError` without numba."""
    require("numba", extra="sim")


@dataclass(frozen=True, eq=False)
class BandTable:
    """
    Counts of a band per unit of emission, for one halo and observation.

    Attributes
    ----------
    kT : `~numpy.ndarray`, shape (nT,)
        Temperatures [keV].
    doppler : `~numpy.ndarray`, shape (nD,)
        Doppler factors, observed over emitted energy, equally spaced.
    counts : `~numpy.ndarray`, shape (k, nT, nD)
        Counts per n_e n_H V [cm3] of each spectral component.
    scales : `~numpy.ndarray`, shape (n, k)
        How much of each component every cell has.
    """

    kT: np.ndarray
    doppler: np.ndarray
    counts: np.ndarray
    scales: np.ndarray


def photon_flux_factor(redshift, cosmology):
    """Photons per second and cm2 here, of one photon per second there: (1 + z) / (4 pi D_L^2) [cm-2]."""
    distance = cosmology.luminosity_distance(redshift).to_value(u.cm)
    return (1.0 + redshift) / (4.0 * np.pi * distance**2)


def band_weight(edges, redshift, doppler, observation):
    """
    Effective area [cm2] times transmission, averaged over each bin of the emissivity table; zero outside the band.

    Parameters
    ----------
    edges : `~numpy.ndarray`, shape (nE + 1,)
        Rest-frame bin edges [keV].
    redshift : float
        Redshift of the halo.
    doppler : float
        Doppler factor of the gas.
    observation : Observation
        Response, band and column density.

    Returns
    -------
    `~numpy.ndarray`, shape (nE,)
        The weight of each bin.
    """
    bins = edges * doppler / (1.0 + redshift)
    energy, caught = _caught(bins, observation.energy_range.to_value(u.keV), observation)
    return np.histogram(energy, bins=bins, weights=caught)[0] / np.diff(bins)


def _caught(bins, edges, observation):
    """
    Area times transmission times width of the intervals into which all edges part the range of ``edges``.

    Within one the effective area is constant and photons are spread evenly; the absorption is that of its middle (bins
    of the emissivity table are 10 eV wide, and so are these at most).
    """
    response = observation.load_response()
    low, high = max(edges[0], bins[0]), min(edges[-1], bins[-1])
    fine = np.unique(np.clip(np.concatenate([bins, edges, response.energy_edges]), low, high))
    energy = 0.5 * (fine[1:] + fine[:-1])
    transmitted = transmission(energy, observation.n_h.to_value(u.cm**-2))
    return energy, response.area(energy) * transmitted * np.diff(fine)


def doppler_factor(halo, sight):
    """Observed over emitted energy of every cell (special relativity, as in pyXSIM), for a line of sight."""
    beta = halo.velocity.to_value(u.km / u.s) / _C_KM_S
    return (1.0 + beta @ sight) / np.sqrt(1.0 - np.einsum("ij,ij->i", beta, beta))


def band_table(halo, observation, doppler):
    """
    Tabulate the counts of the band for one halo.

    Parameters
    ----------
    halo : Halo
        Its cells' abundances choose the components.
    observation : Observation
        Distance, exposure, response, band and absorption.
    doppler : `~numpy.ndarray`, shape (n,)
        Doppler factors that must be covered.

    Returns
    -------
    BandTable
        The table.

    Raises
    ------
    ValueError
        If the band reaches beyond the emissivity table.
    """
    table = load_emissivity()
    edges = np.asarray(table.energy_edges)
    nodes = _doppler_nodes(float(np.min(doppler)), float(np.max(doppler)))
    redshift = observation.redshift
    low, high = observation.energy_range.to_value(u.keV)
    covered = edges[0] * nodes[-1] / (1 + redshift), edges[-1] * nodes[0] / (1 + redshift)
    if low < covered[0] or high > covered[1]:
        raise ValueError(
            f"energy_range must lie within {covered[0]:.3g} to {covered[1]:.3g} keV, what the emissivity table covers "
            f"at redshift {redshift:g} and the velocities of the gas, got {low:g} to {high:g} keV"
        )
    weights = np.stack([band_weight(edges, redshift, factor, observation) for factor in nodes], axis=1)
    spectra, scales = components(halo)
    # cm2 s of telescope per cm2 of sphere
    norm = photon_flux_factor(redshift, halo.cosmology) * observation.exposure.to_value(u.s)
    return BandTable(np.asarray(table.temperature), nodes, norm * (spectra @ weights), scales)


def _doppler_nodes(low, high):
    """At least two equally spaced factors from the lowest to the highest."""
    if high - low < 1e-9:
        low, high = low - 1e-9, low + 1e-9
    number = int(np.clip(np.ceil((high - low) / _DOPPLER_STEP) + 1, 2, _MAX_DOPPLER_NODES))
    return np.linspace(low, high, number)


def expected(halo, observation, telescope, axis):
    """
    Expected counts of the gas on every pixel, before what the telescope's exposure map takes away.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Settings.
    telescope : Telescope
        Gives the point spread function.
    axis : str or sequence of 3 floats
        Line of sight.

    Returns
    -------
    `~numpy.ndarray`, shape ``observation.shape``
        Counts.

    Raises
    ------
    ValueError
        If the band reaches beyond the tables.
    MissingDependencyError
        If numba is not installed.
    """
    right, up, sight = projection(axis)
    rows, columns = observation.shape
    pixel = 2.0 * observation.half_size_kpc[0] / columns
    doppler = doppler_factor(halo, sight)
    table = band_table(halo, observation, doppler)
    position = halo.position.to_value(u.kpc)
    column = position @ (right / pixel) + 0.5 * columns
    row = position @ (up / pixel) + 0.5 * rows
    # A homogeneous ball of radius R has the variance R^2 / 5 along each axis.
    sigma = np.hypot(halo.cell_radius.to_value(u.kpc) / (np.sqrt(5.0) * pixel), telescope.psf_sigma(column, row))
    lower, weight = table_position(table.kT, np.clip(halo.temperature.to_value(u.keV), table.kT[0], table.kT[-1]))
    image = np.zeros((rows, columns))
    _compiled()(
        image, column, row, sigma, emission_measure(halo), lower, weight, doppler, table.doppler, table.counts,
        table.scales, _gaussian_cdf(),
    )  # fmt: skip
    return image


def spectrum(halo, observation, axis, edges):
    """
    Expected counts in energy bins of the gas whose cells lie in the field, without background.

    Parameters
    ----------
    halo : Halo
        The halo.
    observation : Observation
        Settings; the band is that of ``edges``.
    axis : str or sequence of 3 floats
        Line of sight.
    edges : `~numpy.ndarray`, shape (m + 1,)
        Edges of the bins of observed energy [keV].

    Returns
    -------
    `~numpy.ndarray`, shape (m,)
        Counts.

    Notes
    -----
    Cells are summed over temperature and Doppler factor first, in the table's nodes, so that their number costs little.
    """
    right, up, sight = projection(axis)
    position = halo.position.to_value(u.kpc)
    half = observation.half_size_kpc
    inside = (np.abs(position @ right) < half[0]) & (np.abs(position @ up) < half[1])
    doppler = doppler_factor(halo, sight)
    nodes = _doppler_nodes(float(np.min(doppler)), float(np.max(doppler)))
    table = load_emissivity()
    kT = np.asarray(table.temperature)
    lower, weight = table_position(kT, np.clip(halo.temperature.to_value(u.keV), kT[0], kT[-1]))
    factor, place = table_position(nodes, np.clip(doppler, nodes[0], nodes[-1]))
    spectra, scales = components(halo)
    emission = emission_measure(halo) * inside
    counts = np.zeros(edges.size - 1)
    for component in range(len(spectra)):
        norm = emission * scales[:, component]
        held = np.zeros((kT.size, nodes.size))
        for t, t_share in ((lower, 1.0 - weight), (lower + 1, weight)):
            for d, d_share in ((factor, 1.0 - place), (factor + 1, place)):
                held += np.bincount(
                    t * nodes.size + d, weights=norm * t_share * d_share, minlength=held.size
                ).reshape(held.shape)
        for emitted, shift in zip(held.T @ spectra[component], nodes, strict=True):
            bins = table.energy_edges * shift / (1.0 + observation.redshift)
            energy, caught = _caught(bins, edges, observation)
            photons = (emitted / np.diff(bins))[np.clip(np.searchsorted(bins, energy) - 1, 0, emitted.size - 1)]
            counts += np.histogram(energy, bins=edges, weights=photons * caught)[0]
    return counts * photon_flux_factor(observation.redshift, halo.cosmology) * observation.exposure.to_value(u.s)


def emission_measure(halo):
    """n_e n_H V of every cell [cm-3]."""
    return (halo.n_e * halo.n_h * halo.mass / halo.density).to_value(u.cm**-3)


@lru_cache(maxsize=1)
def _gaussian_cdf():
    """Integral of the truncated Gaussian at equal steps from -N_SIGMA to N_SIGMA, 0 at the first and 1 at the last."""
    from scipy.special import ndtr

    cdf = ndtr(np.linspace(-N_SIGMA, N_SIGMA, _CDF_NODES))
    return (cdf - cdf[0]) / (cdf[-1] - cdf[0])


@lru_cache(maxsize=1)
def _compiled():
    """Compile the loop over cells once; numba keeps the machine code beside this file, or in the user's cache."""
    return require("numba", extra="sim").njit(nogil=True, cache=True)(_deposit)


def _deposit(image, column, row, sigma, emission, lower, weight, doppler, nodes, counts, scales, cdf):
    """
    Add every cell's counts to the image (compiled by numba, hence written with loops).

    ``counts`` is linear between the table's temperatures and Doppler factors. A kernel is the product of two Gaussians
    integrated over the pixels, read from ``cdf``: the integral of one, at equal steps over +-N_SIGMA deviations.
    """
    size = image.shape
    shares = np.empty((2, max(size)))
    first, last = np.empty(2, np.int64), np.empty(2, np.int64)
    per_factor = (nodes.size - 1) / (nodes[-1] - nodes[0])
    for cell in range(column.size):
        reach = N_SIGMA * sigma[cell]
        step = (cdf.size - 1) / (2.0 * reach)
        outside = False
        for side in range(2):
            centre = row[cell] if side == 0 else column[cell]
            # clipped as floats: a kernel may be larger than any integer
            first[side] = int(np.floor(max(centre - reach, 0.0)))
            last[side] = int(np.floor(min(centre + reach, size[side] - 0.5)))
            outside |= first[side] > last[side]
            below = -1.0
            for pixel in range(first[side], last[side] + 2):
                position = (pixel - centre + reach) * step
                index = int(min(max(position, 0.0), cdf.size - 2.0))
                above = cdf[index] + (cdf[index + 1] - cdf[index]) * min(max(position - index, 0.0), 1.0)
                if pixel > first[side]:
                    shares[side, pixel - 1] = above - below
                below = above
        if outside:
            continue
        place = (doppler[cell] - nodes[0]) * per_factor
        factor = min(max(int(place), 0), nodes.size - 2)
        place -= factor
        cold, warm = (1.0 - weight[cell]) * emission[cell], weight[cell] * emission[cell]
        total = 0.0
        for component in range(counts.shape[0]):
            table = counts[component, lower[cell]]
            hotter = counts[component, lower[cell] + 1]
            total += scales[cell, component] * (
                cold * ((1.0 - place) * table[factor] + place * table[factor + 1])
                + warm * ((1.0 - place) * hotter[factor] + place * hotter[factor + 1])
            )
        for j in range(first[0], last[0] + 1):
            share = total * shares[0, j]
            for k in range(first[1], last[1] + 1):
                image[j, k] += share * shares[1, k]
