"""From drawn photons to what the telescope detects of a halo's gas."""

import contextlib
import logging

import numpy as np
from astropy import units as u

from astroclassify.batch import derive_rng

from ..physics._projection import to_pixels
from . import _pyxsim, _soxs

__all__ = ["bin_events", "detected_events", "photon_source"]

log = logging.getLogger(__name__)


@contextlib.contextmanager
def photon_source(halo, observation, telescope, seed):
    """
    Draw the photons of a halo once; yields a function of axis and generator that gives the detected `Events` in pixels.

    The photons depend on the master seed and the halo alone.
    """
    rng = derive_rng(seed, "photons", halo.simulation, halo.snapshot, halo.halo_id)
    is_soxs = observation.response_files is not None
    if is_soxs:
        area, energy_range = _soxs.draw_range(halo, observation)
    else:
        response = observation.load_response()
        low, high = observation.energy_range.to_value(u.keV)
        in_band = (response.energy_edges[1:] > low) & (response.energy_edges[:-1] < high)
        area, energy_range = float(np.max(response.effective_area[in_band])), None
    # The wings of an instrument of SOXS may scatter light into the field from anywhere.
    with _pyxsim.photons(
        halo, observation, area=area, rng=rng, energy_range=energy_range, everywhere=is_soxs
    ) as photon_set:
        log.debug("halo %d: %d photons from %d cells", halo.halo_id, photon_set.n_photons, photon_set.n_cells)

        def source(axis, rng):
            if is_soxs:
                return _soxs.soxs_events(halo, observation, photon_set, axis, rng)
            return detected_events(photon_set, observation, response, telescope, axis, rng)

        yield source


def detected_events(photon_set, observation, response, telescope, axis, rng):
    """Events that telescope and band keep; ``x`` and ``y`` in pixels from the lower left corner of the image."""
    rows, columns = observation.shape
    low, high = observation.energy_range.to_value(u.keV)
    events = photon_set.project(axis, nh_column=observation.nh_column.to_value(u.cm**-2), rng=rng)
    caught = rng.random(events.energy.size) * photon_set.area < response.area(events.energy)
    kept = caught & (events.energy >= low) & (events.energy <= high)
    column, row = to_pixels(events.x[kept], events.y[kept], observation)
    column, row = telescope.scatter(column, row, rng)
    energy = events.energy[kept]
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    column, row, energy = column[inside], row[inside], energy[inside]
    fraction = telescope.fraction[row.astype(np.int64), column.astype(np.int64)]
    seen = slice(None) if np.all(fraction >= 1) else rng.random(fraction.size) < fraction
    return _pyxsim.Events(column[seen], row[seen], energy[seen])


def bin_events(events, shape):
    """Counts of events, given in pixels, on an image of a shape (rows, columns)."""
    flat = events.y.astype(np.int64) * shape[1] + events.x.astype(np.int64)
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
