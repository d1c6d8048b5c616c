"""Point sources of the extragalactic sky: how many, how bright, and their counts on the image."""

import numpy as np
from astropy import units as u

from astroclassify.fields._sky import draw_fluxes, source_counts

from ..physics._background import SOURCE_INDEX, power_law_rate

__all__ = ["FAINTEST", "draw_point_sources"]

FAINTEST = 2.4e-17
"""Flux in 0.5 to 2 keV [erg s-1 cm-2] of the faintest source that is drawn: where the counts of Moretti et al. (2003)
end, the limit of the Chandra Deep Fields. What is fainter is the unresolved background of Hickox & Markevitch (2006),
which is what the same fields show without their sources: nothing is counted twice."""

# Sources up to this many standard deviations outside still count; so many shares of pixels are held at once.
_MARGIN = 5.0
_CHUNK_CELLS = 2**20


def draw_point_sources(observation, telescope, rng):
    """
    Draw sources and give the counts that they are expected to leave on the image, shape (rows, columns).

    Their number is Poisson, places are uniform over the exposed part of the image and a margin, fluxes those of
    `draw_fluxes` up to ``observation.point_sources``; power laws of photon index 1.4, absorbed, spread as `psf_sigma`.
    """
    rows, columns = telescope.fraction.shape
    image = np.zeros((rows, columns))
    low, high = _exposed(telescope)
    if observation.point_sources is None or np.any(low >= high):
        return image
    brightest = float(observation.point_sources.to_value(u.erg / u.s / u.cm**2))
    area = float(np.prod(high - low)) * (telescope.pixel_arcsec / 3600.0) ** 2
    density = float(source_counts(FAINTEST) - source_counts(brightest))
    number = rng.poisson(density * area)
    column, row = low[:, np.newaxis] + (high - low)[:, np.newaxis] * rng.random((2, number))
    counts = counts_per_flux(observation) * telescope.exposure_s * draw_fluxes(number, FAINTEST, brightest, rng)
    sigma = telescope.psf_sigma(column, row)
    chunk = max(1, _CHUNK_CELLS // max(rows, columns))
    for start in range(0, number, chunk):
        part = slice(start, start + chunk)
        across = _pixel_shares(column[part], sigma[part], columns)
        along = _pixel_shares(row[part], sigma[part], rows)
        # the sum over sources of column profile x row profile
        image += (along * counts[part, np.newaxis]).T @ across
    return image * telescope.fraction


def _exposed(telescope):
    """First and last (column, row) of the part of the image with exposure, and a margin [pixel]."""
    seen = telescope.fraction > 0
    across, along = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    if across.size == 0:
        return np.zeros(2), np.zeros(2)
    low = np.array([across[0], along[0]], dtype=float)
    high = np.array([across[-1] + 1, along[-1] + 1], dtype=float)
    corners = telescope.psf_sigma([low[0], high[0], low[0], high[0]], [low[1], low[1], high[1], high[1]])
    margin = _MARGIN * float(np.max(corners))
    return low - margin, high + margin


def counts_per_flux(observation):
    """Counts per second of a source of 1 erg s-1 cm-2 in 0.5 to 2 keV before absorption, on axis."""
    energy_range = tuple(observation.energy_range.to_value(u.keV))
    nh_column = float(observation.nh_column.to_value(u.cm**-2))
    return power_law_rate(observation.load_response(), energy_range, nh_column, SOURCE_INDEX)


def _pixel_shares(place, sigma, pixels):
    """Integral of Gaussians, shape (n,), over each pixel of an axis, shape (n, pixels)."""
    from scipy.special import ndtr

    edges = np.arange(pixels + 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (edges - place[:, np.newaxis]) / sigma[:, np.newaxis]
    # no width: everything falls in one pixel; a source exactly on an edge counts to the right of it
    distance[np.isnan(distance)] = -np.inf
    return np.diff(ndtr(distance), axis=1)
