"""Point sources of the sky and of the halo: where they are, their counts, and what observers do to them."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import Table

from astroclassify.fields._sky import draw_fluxes, source_counts

from ..physics._background import CLUSTER_SOURCE_INDEX, SOURCE_INDEX, power_law_rate
from ..physics._projection import projection, to_pixels

__all__ = ["FAINTEST", "Sources", "find_sources", "sharp_sources", "sky_sources", "treat_sources"]

FAINTEST = 2.4e-17
"""Flux in 0.5 to 2 keV [erg s-1 cm-2] of the faintest source that is drawn: where the counts of Moretti et al. (2003)
end, the limit of the Chandra Deep Fields. What is fainter is the unresolved background of Hickox & Markevitch (2006),
which is what the same fields show without their sources: nothing is counted twice."""

# Sources up to this many standard deviations outside still count; so many shares of pixels are held at once.
_MARGIN = 5.0
_CHUNK_CELLS = 2**20
# A source is detected if its counts in its circle are this many times the error of those around it, 1 + sqrt(B + 0.75)
# (Gehrels 1986, ApJ 303, 336): 7.5 counts where there is no background. A choice, as are the next: the radius of the
# circle in half-energy radii (3 sigma of a Gaussian, 20" for EPIC), the outer radius of the ring about it in radii of
# the circle, and how far from the halo's centre [kpc] a source is the central one.
_SIGNIFICANCE = 4.0
_CIRCLE = 2.6
_RING = 2.0
_CENTRAL = 1.0


@dataclass(frozen=True, eq=False)
class Sources:
    """Continuous pixel coordinates of sources, expected counts on axis, and whether one is in the halo's middle."""

    column: np.ndarray
    row: np.ndarray
    counts: np.ndarray
    central: np.ndarray


def find_sources(halo, observation, telescope, axis, rng):
    """The sources of the sky, drawn at random, and those of the halo along an axis; out of the field and in it."""
    parts = [sky_sources(observation, telescope, rng), _halo_sources(halo, observation, axis)]
    return Sources(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def sky_sources(observation, telescope, rng):
    """
    Columns of `Sources`. Their number is Poisson, places are uniform over the exposed part of the image and a margin,
    fluxes those of `draw_fluxes` up to ``observation.point_sources``; power laws of photon index 1.4, absorbed.
    """
    low, high = _exposed(telescope)
    if observation.point_sources is None or np.any(low >= high):
        return np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, bool)
    brightest = float(observation.point_sources.to_value(u.erg / u.s / u.cm**2))
    area = float(np.prod(high - low)) * (telescope.pixel_arcsec / 3600.0) ** 2
    density = float(source_counts(FAINTEST) - source_counts(brightest))
    number = rng.poisson(density * area)
    column, row = low[:, np.newaxis] + (high - low)[:, np.newaxis] * rng.random((2, number))
    scale = counts_per_flux(observation) * telescope.exposure_s
    return column, row, scale * draw_fluxes(number, FAINTEST, brightest, rng), np.zeros(number, bool)


def _exposed(telescope):
    """First and last (column, row) of the part of the image with exposure, and a margin [pixel]."""
    seen = telescope.fraction > 0
    across, along = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    if across.size == 0:
        return np.zeros(2), np.zeros(2)
    low = np.array([across[0], along[0]], dtype=float)
    high = np.array([across[-1] + 1, along[-1] + 1], dtype=float)
    corners = telescope.psf_sigma([low[0], high[0], low[0], high[0]], [low[1], low[1], high[1], high[1]])
    margin = telescope.margin or _MARGIN * float(np.max(corners))
    return low - margin, high + margin


def _halo_sources(halo, observation, axis):
    """Columns of `Sources` from ``halo.meta["point_sources"]``: power laws of photon index 1.8, absorbed."""
    table = halo.meta.get("point_sources")
    if table is None or len(table) == 0:
        return np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, bool)
    if not isinstance(table, Table) or not {"position", "luminosity"} <= set(table.colnames):
        raise ValueError(
            "halo.meta['point_sources'] must be a QTable with the columns 'position' and 'luminosity', got "
            f"{getattr(table, 'colnames', type(table).__name__)}"
        )
    place = u.Quantity(table["position"]).to_value(u.kpc)
    right, up, _ = projection(axis)
    column, row = to_pixels(place @ right, place @ up, observation)
    # of a power law, (1 + z)^(2 - index) times what comes from the band of the same energies in the rest frame
    distance = halo.cosmology.luminosity_distance(observation.redshift).to_value(u.cm)
    flux = u.Quantity(table["luminosity"]).to_value(u.erg / u.s) / (4.0 * np.pi * distance**2)
    flux *= (1.0 + observation.redshift) ** (2.0 - CLUSTER_SOURCE_INDEX)
    counts = flux * counts_per_flux(observation, CLUSTER_SOURCE_INDEX) * observation.exposure.to_value(u.s)
    return column, row, counts, np.sqrt(np.sum(place**2, axis=1)) < _CENTRAL


def counts_per_flux(observation, index=SOURCE_INDEX):
    """Counts per second of a power law of 1 erg s-1 cm-2 in 0.5 to 2 keV before absorption, on axis."""
    energy_range = tuple(observation.energy_range.to_value(u.keV))
    nh_column = float(observation.nh_column.to_value(u.cm**-2))
    return power_law_rate(observation.load_response(), energy_range, nh_column, index)


def sharp_sources(sources, telescope):
    """
    Counts of sources with the whole exposure, before `Telescope.blur`: an image with its margin on every side. Gaussian
    point spread functions are in it.
    """
    margin = telescope.margin
    rows, columns = (side + 2 * margin for side in telescope.fraction.shape)
    column, row = sources.column + margin, sources.row + margin
    if telescope.king is not None:
        edges = np.arange(rows + 1.0), np.arange(columns + 1.0)
        return np.histogram2d(row, column, bins=edges, weights=sources.counts)[0]
    image = np.zeros((rows, columns))
    sigma = telescope.psf_sigma(sources.column, sources.row)
    chunk = max(1, _CHUNK_CELLS // max(rows, columns))
    for start in range(0, sources.counts.size, chunk):
        part = slice(start, start + chunk)
        across = _pixel_shares(column[part], sigma[part], columns)
        along = _pixel_shares(row[part], sigma[part], rows)
        # the sum over sources of column profile x row profile
        image += (along * sources.counts[part, np.newaxis]).T @ across
    return image


def _pixel_shares(place, sigma, pixels):
    """Integral of Gaussians, shape (n,), over each pixel of an axis, shape (n, pixels)."""
    from scipy.special import ndtr

    edges = np.arange(pixels + 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (edges - place[:, np.newaxis]) / sigma[:, np.newaxis]
    # no width: everything falls in one pixel; a source exactly on an edge counts to the right of it
    distance[np.isnan(distance)] = -np.inf
    return np.diff(ndtr(distance), axis=1)


def treat_sources(image, sources, telescope, observation, rng=None):
    """
    Counts after the observer's treatment of the point sources that can be seen in them, and the circles about those.

    Sources are taken from the brightest on, each against the ring about it as the image is by then. Filled circles get
    Poisson counts with the mean of the ring, or without a generator that mean; masked ones get none. Returns the image
    and a map of the circles, False everywhere where sources stay as they are.
    """
    circles = np.zeros(image.shape, bool)
    if observation.source_treatment == "present":
        return image, circles
    image = image.copy()
    seen = telescope.fraction > 0
    chosen = np.flatnonzero((sources.counts > _SIGNIFICANCE) & (observation.treat_central | ~sources.central))
    chosen = chosen[np.argsort(-sources.counts[chosen], kind="stable")]
    # half a pixel's diagonal more, as pixels count by their middles
    radii = _CIRCLE * telescope.half_energy_radius(sources.column[chosen], sources.row[chosen]) + np.sqrt(0.5)
    for source, radius in zip(chosen, radii, strict=True):
        column, row = sources.column[source], sources.row[source]
        rows, columns = (
            slice(max(0, int(place - _RING * radius)), max(0, int(np.ceil(place + _RING * radius))))
            for place in (row, column)
        )
        live = seen[rows, columns]
        if not live.any():
            continue
        part, done = image[rows, columns], circles[rows, columns]
        y, x = np.indices(part.shape, sparse=True)
        distance = np.hypot(y + rows.start + 0.5 - row, x + columns.start + 0.5 - column)
        circle = live & (distance <= radius)
        ring = live & (distance > radius) & (distance <= _RING * radius)
        if observation.source_treatment == "masked":
            ring &= ~done
        if not circle.any() or not ring.any():
            continue
        level = float(part[ring].mean())
        counts = sources.counts[source] * float(telescope.fraction[rows, columns][circle].mean())
        if counts <= _SIGNIFICANCE * (1.0 + np.sqrt(level * np.count_nonzero(circle) + 0.75)):
            continue
        done |= circle
        if observation.source_treatment == "masked":
            part[circle] = 0.0
        else:
            part[circle] = level if rng is None else rng.poisson(level, np.count_nonzero(circle))
    return image, circles
