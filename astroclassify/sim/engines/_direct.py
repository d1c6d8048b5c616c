"""
The direct engine: the expected counts of every gas cell, put straight on the image.

What the photon engine draws, this one sums: a cell's spectrum times absorption times effective area, integrated over
the band, goes on the pixels with the cell's kernel and the point spread function. The spectral integrals are done once
for the table's temperatures, elements and a few Doppler factors; a cell then costs a look-up and its pixels.
"""

import functools
import itertools
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from astropy import units as u

from ..physics._absorption import nodes as absorption_nodes
from ..physics._absorption import transmission
from ..physics._plasma import components, load_emissivity, table_position
from ..physics._projection import C_KM_S, largest_doppler, projection

__all__ = ["Gas", "expected", "photon_flux_factor", "prepare", "spectrum"]

# Doppler factors are tabulated this far apart, at 1 and on both sides: 7 eV at 7 keV, less than a bin of the
# emissivity table. So they are the same whatever other gas there is.
_DOPPLER_STEP = 1e-3
# Cells that are worth a thread.
_CELLS_PER_THREAD = 10_000


@dataclass(frozen=True, eq=False)
class Gas:
    """
    What every image of a halo needs, whatever the axis: n cells, k spectral components.

    ``counts`` are those of the band per unit of emission, by temperature of the table, Doppler factor and component.
    """

    position: np.ndarray  # (n, 3) [kpc]
    velocity: np.ndarray  # (n, 3) [km/s]
    sigma: np.ndarray  # of the kernel, (n,) [kpc]
    emission: np.ndarray  # n_e n_H V, (n,) [cm-3]
    lower: np.ndarray  # node of the temperature table below that of the cell, (n,)
    weight: np.ndarray  # of the node above, (n,)
    scales: np.ndarray  # how much of each component, (n, k)
    first_node: int  # Doppler factors of the table, observed over emitted energy, are 1 + _DOPPLER_STEP times ...
    counts: np.ndarray  # (nT, nD, k)


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
    first_node, nodes = _doppler_nodes(velocity)
    low, high = observation.energy_range.to_value(u.keV)
    covered = edges[0] * nodes[-1] / (1 + redshift), edges[-1] * nodes[0] / (1 + redshift)
    if low < covered[0] or high > covered[1]:
        raise ValueError(
            f"energy_range must lie within {covered[0]:.3g} to {covered[1]:.3g} keV, what the emissivity table covers "
            f"at redshift {redshift:g} and the velocities of the gas, got {low:g} to {high:g} keV"
        )
    spectra, scales = components(halo)
    # one product for each factor: a matrix product may round otherwise with other columns beside
    counts = np.stack([spectra @ band_weight(edges, redshift, factor, observation) for factor in nodes])
    norm = photon_flux_factor(redshift, halo.cosmology) * observation.exposure.to_value(u.s)
    sigma, emission, (lower, weight) = _side_by_side(
        # A homogeneous ball of radius R has the variance R^2 / 5 along each axis.
        lambda: halo.cell_radius.to_value(u.kpc) / np.sqrt(5.0),
        lambda: halo.emission_measure.value,
        lambda: _temperature_position(halo),
        n_cells=halo.n_cells,
    )
    return Gas(
        position=np.ascontiguousarray(halo.position.to_value(u.kpc)),
        velocity=velocity,
        sigma=sigma,
        emission=emission,
        lower=lower,
        weight=weight,
        scales=scales,
        first_node=first_node,
        counts=np.ascontiguousarray(norm * counts.transpose(2, 0, 1)),
    )


def _temperature_position(halo):
    """Where each cell's temperature lies in the table; beyond its ends the end counts."""
    from ._direct_loops import table_places

    return table_places(load_emissivity().temperature, halo.temperature.to_value(u.keV))


def _doppler_nodes(velocity):
    """
    Doppler factors, equally spaced, that cover all directions of the fastest cell: the number of steps from 1 to the
    first, and all of them.
    """
    high = largest_doppler(velocity)
    numbers = np.arange(np.floor((1.0 / high - 1.0) / _DOPPLER_STEP), np.floor((high - 1.0) / _DOPPLER_STEP) + 2)
    return int(numbers[0]), 1.0 + _DOPPLER_STEP * numbers


def _n_threads(n_cells):
    """
    How many threads to use: those of numba (``NUMBA_NUM_THREADS``, by default one for each core), or one in a worker,
    where the other cores have workers of their own.
    """
    from numba import config

    worker = multiprocessing.parent_process() or threading.current_thread() is not threading.main_thread()
    return 1 if worker else max(1, min(config.NUMBA_NUM_THREADS, n_cells // _CELLS_PER_THREAD))


def _side_by_side(*calls, n_cells):
    """Results of functions without arguments, called in threads if there are cells enough."""
    threads = _n_threads(n_cells)
    if threads == 1:
        return [call() for call in calls]
    # Threads of our own, not those of numba: its pools do not survive a fork, and crash when two threads use them.
    with ThreadPoolExecutor(min(threads, len(calls))) as pool:
        return list(pool.map(lambda call: call(), calls))


def expected(gas, observation, telescope, axis, image=None):
    """
    Expected counts of the gas on every pixel, point spread function included, before the exposure map; added to
    ``image`` where there is one.

    Every thread has its own rows of the image and goes through all cells: a pixel gets them in their order, so that no
    bit depends on the number of threads.
    """
    from ._direct_loops import deposit

    right, up, sight = projection(axis)
    rows, columns = observation.shape
    pixel = observation.pixel_kpc
    basis = np.stack([up / pixel, right / pixel, sight])
    middle = observation.middle
    sigma = gas.sigma / pixel
    if telescope.growth:
        row, column = (_along(gas.position, basis[side]) + middle[side] for side in range(2))
        psf = telescope.psf_sigma(column, row)
    else:
        psf = np.atleast_1d(telescope.psf_sigma(middle[1], middle[0]))
    image = np.zeros((rows, columns)) if image is None else image

    def fill(low, high):
        deposit(
            image, low, high, gas.position, gas.velocity, basis, middle, sigma, psf, gas.emission, gas.lower,
            gas.weight, gas.scales, gas.first_node, _DOPPLER_STEP, gas.counts,
        )  # fmt: skip

    edges = _row_edges(gas, sigma, basis[0], rows, _n_threads(sigma.size))
    bands = [functools.partial(fill, low, high) for low, high in itertools.pairwise(edges)]
    _side_by_side(*bands, n_cells=sigma.size)
    return image


def _along(position, direction):
    """Coordinate of each cell in a direction, without a matrix product, whose rounding depends on the other rows."""
    return position[:, 0] * direction[0] + position[:, 1] * direction[1] + position[:, 2] * direction[2]


def _row_edges(gas, sigma, up, rows, number):
    """Edges of ``number`` bands of rows in which there is about as much to do."""
    some = slice(None, None, sigma.size // 4096 + 1)
    row = _along(gas.position[some], up) + 0.5 * rows
    # a cell costs about as much as the pixels of a kernel of 1.5 pixels
    work = (sigma[some] + 1.5) ** 2 * ((row > 0) & (row < rows))
    done = np.cumsum(np.bincount(np.clip(row, 0, rows - 1).astype(int), work, minlength=rows))
    inner = np.searchsorted(done, done[-1] * np.arange(1, number) / number)
    return [0, *np.maximum.accumulate(inner).tolist(), rows]


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
    _, nodes = _doppler_nodes(velocity)
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
                held += np.bincount(t * nodes.size + d, weights=norm * t_share * d_share, minlength=held.size).reshape(
                    held.shape
                )
        for emitted, shift in zip(held.T @ spectra[component], nodes, strict=True):
            bins = table.energy_edges * shift / (1.0 + observation.redshift)
            energy, caught = _caught(bins, edges, observation)
            photons = (emitted / np.diff(bins))[np.clip(np.searchsorted(bins, energy) - 1, 0, emitted.size - 1)]
            counts += np.histogram(energy, bins=edges, weights=photons * caught)[0]
    return counts * photon_flux_factor(observation.redshift, halo.cosmology) * observation.exposure.to_value(u.s)
