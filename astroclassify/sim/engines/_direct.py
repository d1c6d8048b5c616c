"""
The direct engine: the expected counts of every gas cell, put straight on the image.

What the photon engine draws, this one sums: a cell's spectrum times absorption times effective area, integrated over
the band, goes on the pixels with the cell's kernel and the point spread function. The spectral integrals are done once
for the table's temperatures, elements and a few Doppler factors; a cell then costs a look-up and its pixels.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy import units as u

from ..physics._absorption import nodes as absorption_nodes
from ..physics._absorption import transmission
from ..physics._plasma import components, load_emissivity, table_position
from ..physics._projection import C_KM_S, largest_doppler, projection

__all__ = ["Gas", "expected", "photon_flux_factor", "prepare", "spectrum"]

# Doppler factors are tabulated this far apart: 7 eV at 7 keV, less than a bin of the emissivity table.
_DOPPLER_STEP = 1e-3
_MAX_DOPPLER_NODES = 65
# Kernels end at this many standard deviations and are normalised to 1 inside: 7e-6 of the counts move inwards.
N_SIGMA = 4.5
_CDF_NODES = 4096


@dataclass(frozen=True, eq=False)
class Gas:
    """
    What every image of a halo needs, whatever the axis: n cells, k spectral components.

    ``counts`` are those of the band per unit of emission, by component, temperature of the table and Doppler factor.
    """

    position: np.ndarray  # (n, 3) [kpc]
    velocity: np.ndarray  # (n, 3) [km/s]
    sigma: np.ndarray  # of the kernel, (n,) [kpc]
    emission: np.ndarray  # n_e n_H V, (n,) [cm-3]
    lower: np.ndarray  # node of the temperature table below that of the cell, (n,)
    weight: np.ndarray  # of the node above, (n,)
    scales: np.ndarray  # how much of each component, (n, k)
    doppler: np.ndarray  # Doppler factors of the table, observed over emitted energy, equally spaced, (nD,)
    counts: np.ndarray  # (k, nT, nD)


def photon_flux_factor(redshift, cosmology):
    """Photons per second and cm2 here, of one photon per second there: (1 + z) / (4 pi D_L^2) [cm-2]."""
    distance = cosmology.luminosity_distance(redshift).to_value(u.cm)
    return (1.0 + redshift) / (4.0 * np.pi * distance**2)


def band_weight(edges, redshift, doppler, observation):
    """
    Effective area [cm2] times transmission, averaged over each rest-frame bin of the emissivity table; zero outside the
    band.
    """
    bins = edges * doppler / (1.0 + redshift)
    energy, caught = _caught(bins, observation.energy_range.to_value(u.keV), observation)
    return np.histogram(energy, bins=bins, weights=caught)[0] / np.diff(bins)


def _caught(bins, edges, observation):
    """
    Energies, and area times transmission times width, of intervals that divide the range of ``edges``.

    Within one the area is constant and the absorption has no edge, so that its middle stands for it.
    """
    response = observation.load_response()
    low, high = max(edges[0], bins[0]), min(edges[-1], bins[-1])
    parts = [bins, edges, response.energy_edges, absorption_nodes()]
    fine = np.unique(np.clip(np.concatenate(parts), low, high))
    energy = 0.5 * (fine[1:] + fine[:-1])
    transmitted = transmission(energy, observation.nh_column.to_value(u.cm**-2))
    return energy, response.area(energy) * transmitted * np.diff(fine)


def prepare(halo, observation):
    """
    What all images of a halo have in common, a `Gas`; a ValueError if the band reaches beyond the emissivity table.
    """
    table = load_emissivity()
    edges, redshift = np.asarray(table.energy_edges), observation.redshift
    velocity = np.ascontiguousarray(halo.velocity.to_value(u.km / u.s))
    nodes = _doppler_nodes(velocity)
    low, high = observation.energy_range.to_value(u.keV)
    covered = edges[0] * nodes[-1] / (1 + redshift), edges[-1] * nodes[0] / (1 + redshift)
    if low < covered[0] or high > covered[1]:
        raise ValueError(
            f"energy_range must lie within {covered[0]:.3g} to {covered[1]:.3g} keV, what the emissivity table covers "
            f"at redshift {redshift:g} and the velocities of the gas, got {low:g} to {high:g} keV"
        )
    weights = np.stack([band_weight(edges, redshift, factor, observation) for factor in nodes], axis=1)
    spectra, scales = components(halo)
    norm = photon_flux_factor(redshift, halo.cosmology) * observation.exposure.to_value(u.s)
    lower, weight = _temperature_position(halo)
    return Gas(
        position=np.ascontiguousarray(halo.position.to_value(u.kpc)),
        velocity=velocity,
        # A homogeneous ball of radius R has the variance R^2 / 5 along each axis.
        sigma=halo.cell_radius.to_value(u.kpc) / np.sqrt(5.0),
        emission=halo.emission_measure.value,
        lower=lower,
        weight=weight,
        scales=scales,
        doppler=nodes,
        counts=norm * (spectra @ weights),
    )


def _temperature_position(halo):
    """Where each cell's temperature lies in the table; beyond its ends the end counts."""
    kT = np.asarray(load_emissivity().temperature)
    return table_position(kT, np.clip(halo.temperature.to_value(u.keV), kT[0], kT[-1]))


def _doppler_nodes(velocity):
    """At least two equally spaced Doppler factors that cover all directions of the fastest cell."""
    high = max(largest_doppler(velocity), 1.0 + 1e-9)
    low = 1.0 / high
    number = int(np.clip(np.ceil((high - low) / _DOPPLER_STEP) + 1, 2, _MAX_DOPPLER_NODES))
    return np.linspace(low, high, number)


def expected(gas, observation, telescope, axis):
    """Expected counts of the gas on every pixel, point spread function included, before the exposure map."""
    right, up, sight = projection(axis)
    rows, columns = observation.shape
    pixel = observation.pixel_kpc
    basis = np.stack([up / pixel, right / pixel, sight])
    middle = observation.middle
    if telescope.growth:
        places = gas.position @ basis[:2].T + middle
        psf = telescope.psf_sigma(places[:, 1], places[:, 0])
    else:
        psf = np.atleast_1d(telescope.psf_sigma(middle[1], middle[0]))
    image = np.zeros((rows, columns))
    _compiled()(
        image, gas.position, gas.velocity, basis, middle, gas.sigma / pixel, psf, gas.emission, gas.lower, gas.weight,
        gas.scales, gas.doppler, gas.counts, _gaussian_cdf(),
    )  # fmt: skip
    return image


def spectrum(halo, observation, axis, edges):
    """
    Expected counts, without background, of the gas whose cells lie in the field, in bins of observed energy [keV].

    Cells are first summed over temperature and Doppler factor in the nodes of the tables, so that their number costs
    little.
    """
    right, up, sight = projection(axis)
    position = halo.position.to_value(u.kpc)
    half, middle = observation.half_size_kpc, observation.centre_offset.to_value(u.kpc)
    inside = (np.abs(position @ right - middle[0]) < half[0]) & (np.abs(position @ up - middle[1]) < half[1])
    velocity = halo.velocity.to_value(u.km / u.s)
    beta = velocity / C_KM_S
    doppler = (1.0 + beta @ sight) / np.sqrt(1.0 - np.einsum("ij,ij->i", beta, beta))
    nodes = _doppler_nodes(velocity)
    table = load_emissivity()
    lower, weight = _temperature_position(halo)
    factor, place = table_position(nodes, np.clip(doppler, nodes[0], nodes[-1]))
    spectra, scales = components(halo)
    emission = halo.emission_measure.value * inside
    counts = np.zeros(edges.size - 1)
    for component in range(len(spectra)):
        norm = emission * scales[:, component]
        held = np.zeros((table.temperature.size, nodes.size))
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


@lru_cache(maxsize=1)
def _gaussian_cdf():
    """Integral of the truncated Gaussian at equal steps from -N_SIGMA to N_SIGMA, 0 at the first and 1 at the last."""
    from scipy.special import ndtr

    cdf = ndtr(np.linspace(-N_SIGMA, N_SIGMA, _CDF_NODES))
    return (cdf - cdf[0]) / (cdf[-1] - cdf[0])


@lru_cache(maxsize=1)
def _compiled():
    """Compile the loop over cells once; numba keeps the machine code beside this file, or in the user's cache."""
    from numba import njit

    return njit(nogil=True, cache=True)(_deposit)


def _deposit(
    image, position, velocity, basis, middle, sigma, psf, emission, lower, weight, scales, nodes, counts, cdf
):
    """
    Add the counts of every cell to the image (compiled by numba, hence the loops).

    ``basis``: up and right [pixel/kpc], direction to the observer; ``psf``: one value or one per cell; ``cdf``: of the
    kernel, at equal steps over +-N_SIGMA deviations. Doppler factors are relativistic, as in pyXSIM.
    """
    shares = np.empty((2, max(image.shape)))
    first, last, centre = np.empty(2, np.int64), np.empty(2, np.int64), np.empty(2)
    per_factor = (nodes.size - 1) / (nodes[-1] - nodes[0])
    top = cdf.size - 1
    for cell in range(sigma.size):
        reach = N_SIGMA * np.sqrt(sigma[cell] ** 2 + psf[min(cell, psf.size - 1)] ** 2)
        x, y, z = position[cell, 0], position[cell, 1], position[cell, 2]
        outside = False
        for side in range(2):
            centre[side] = basis[side, 0] * x + basis[side, 1] * y + basis[side, 2] * z + middle[side]
            # clipped as floats: a kernel may be larger than any integer
            first[side] = int(np.floor(max(centre[side] - reach, 0.0)))
            last[side] = int(np.floor(min(centre[side] + reach, image.shape[side] - 0.5)))
            outside |= first[side] > last[side]
        if outside:
            continue
        step = top / (2.0 * reach)
        for side in range(2):
            place = (first[side] - centre[side] + reach) * step
            below = 0.0
            if place > 0.0:
                index = min(int(place), top - 1)
                below = cdf[index] + (cdf[index + 1] - cdf[index]) * (place - index)
            for pixel in range(first[side], last[side] + 1):
                place += step
                above = 1.0
                if place < top:
                    index = int(place)
                    above = cdf[index] + (cdf[index + 1] - cdf[index]) * (place - index)
                shares[side, pixel] = above - below
                below = above
        x, y, z = velocity[cell, 0] / C_KM_S, velocity[cell, 1] / C_KM_S, velocity[cell, 2] / C_KM_S
        towards = basis[2, 0] * x + basis[2, 1] * y + basis[2, 2] * z
        place = ((1.0 + towards) / np.sqrt(1.0 - x * x - y * y - z * z) - nodes[0]) * per_factor
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
