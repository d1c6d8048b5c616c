"""Runs of a selection function: where sources are put in a field, what is found, which candidate is which source."""

import dataclasses
import hashlib
import pickle
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable
from scipy.ndimage import distance_transform_edt

from astroclassify.fields._inject import inject_sources, live_pixels

from ..catalogues._classes import in_any

__all__ = ["RING", "Grid", "Places", "Search", "as_sent", "field_digest", "match_sources", "plan_runs"]

# Off-axis angles are met within this [arcmin].
RING = 0.5
# Places tried for a source before it waits for the next run, or is given up if there was no other in the field; and
# how many must wait before a field counts as full.
_TRIES, _FULL = 400, 8
_COLUMNS = {"x": u.pix, "y": u.pix, "ext": u.arcsec, "counts": u.ct}


def as_sent(field):
    """Field as another process gets it: pickling rounds a WCS to 12 digits, which would change fits by 1e-11."""
    return dataclasses.replace(field, wcs=pickle.loads(pickle.dumps(field.wcs)))


def field_digest(field):
    """Digest (16 hex digits) of the inputs of a search: arrays, coordinates, PSF."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (field.counts, field.exposure, field.background, field.mask):
        digest.update(np.ascontiguousarray(array).tobytes())
    texts = (field.wcs.to_header_string(relax=True), field.axis.to_string("hmsdms", precision=6), repr(field.psf))
    digest.update("".join(texts).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Grid:
    """Off-axis angles, core radii and counts (plain arrays), and the number of sources of each combination."""

    off_axis: np.ndarray
    core_radius: np.ndarray
    counts: np.ndarray
    n: int

    @property
    def shape(self):
        return len(self.off_axis), len(self.core_radius), len(self.counts)

    def settings(self):
        """As plain types."""
        return {name: np.asarray(value).tolist() for name, value in dataclasses.asdict(self).items()}

    def values(self, combination):
        """Off-axis angle, core radius and counts of combinations by their number."""
        indices = np.unravel_index(np.asarray(combination, int), self.shape)
        arrays = (self.off_axis, self.core_radius, self.counts)
        return tuple(values[index] for values, index in zip(arrays, indices, strict=True))


class Places:
    """Allowed positions of sources in a field."""

    def __init__(self, field, separation, clearance, avoid):
        self.pixel, self.separation = field.pixel, separation / field.pixel
        self.axis = np.array([float(value) for value in field.wcs.world_to_pixel(field.axis)])
        # A frame: beyond the image nothing is exposed.
        live = np.pad(live_pixels(field), 1)
        self.free = (distance_transform_edt(live) * field.pixel > clearance)[1:-1, 1:-1] & live[1:-1, 1:-1]
        if avoid is not None:
            x, y = (np.atleast_1d(values) for values in field.wcs.world_to_pixel(avoid))
            rows, columns = np.indices(self.free.shape)
            for near_x, near_y in zip(x, y, strict=True):
                self.free &= np.hypot(columns - near_x, rows - near_y) * field.pixel > clearance

    def draw(self, off_axis, taken, rng):
        """Place (x, y) near an off-axis angle [arcmin], away from the places that are taken; None if none is found."""
        low, high = max(off_axis - RING, 0), off_axis + RING
        radius = np.sqrt(rng.uniform(low**2, high**2, _TRIES)) * 60 / self.pixel
        phase = rng.uniform(0, 2 * np.pi, _TRIES)
        places = self.axis + np.stack([radius * np.cos(phase), radius * np.sin(phase)], axis=1)
        columns, rows = np.rint(places).astype(int).T
        inside = (columns >= 0) & (rows >= 0) & (columns < self.free.shape[1]) & (rows < self.free.shape[0])
        good = inside & self.free[np.where(inside, rows, 0), np.where(inside, columns, 0)]
        for other in taken:
            good &= np.hypot(*(places - other).T) >= self.separation
        return places[np.argmax(good)] if good.any() else None


def plan_runs(grid, places, rng):
    """Sources of each run: arrays of combination, x, y. Sources without a place in an empty field are left out."""
    waiting = list(rng.permutation(np.repeat(np.arange(np.prod(grid.shape)), grid.n)))
    runs = []
    while waiting:
        sources, taken, later = [], [], []
        while waiting and len(later) < _FULL:
            combination = waiting.pop()
            place = places.draw(float(grid.values(combination)[0]), taken, rng)
            if place is not None:
                taken.append(place)
                sources.append((combination, *place))
            elif taken:
                later.append(combination)
        waiting += later[::-1]
        if sources:
            runs.append(np.array(sources))
    return runs


@dataclass(frozen=True)
class Search:
    """Settings of all runs; sent to the workers."""

    detector: object
    classes: dict  # name -> cuts of which a candidate must pass one, None for all
    grid: Grid
    writer: object = None  # None: nothing is written

    def run_item(self, item):
        """Put sources into a field and search it, unless the run is on disk: one column per candidate with rows x, y
        [pixel], EXT [arcsec], counts, and membership (0 or 1) of each class. In the file a last column of NaN keeps
        it from being empty."""
        field, name, sources, rng = item
        if self.writer is None:
            return self._found(field, sources, rng)
        self.writer.keep_or_make(name, lambda: _as_image(self._found(field, sources, rng)))
        return fits.getdata(self.writer.folder / self.writer.path(name))[:, :-1].astype(float)

    def _found(self, field, sources, rng):
        if len(sources):
            _, core, counts = self.grid.values(sources[:, 0])
            columns = {"x": sources[:, 1] * u.pix, "y": sources[:, 2] * u.pix}
            added = QTable({**columns, "counts": counts * u.ct, "core_radius": core * u.arcsec})
            field = inject_sources(field, added, rng=rng)
        table = self.detector(field)
        member = [np.ones(len(table), bool) if cuts is None else in_any(table, cuts) for cuts in self.classes.values()]
        columns = [table[name].to_value(unit) for name, unit in _COLUMNS.items()]
        return np.array([*columns, *member], dtype=float)


def _as_image(found):
    return CCDData(np.pad(found, ((0, 0), (0, 1)), constant_values=np.nan), unit=u.dimensionless_unscaled)


def match_sources(sources, candidates, radius):
    """Number of the nearest candidate (columns of `Search.run_item`) within a radius [pixel], or -1: (n_classes,
    n_sources)."""
    distance = np.hypot(sources[:, 1, None] - candidates[0], sources[:, 2, None] - candidates[1])
    member = candidates[4:, None, :] > 0
    near = np.where(member & (distance <= radius), distance, np.inf)
    if not candidates.shape[1]:
        return np.full(near.shape[:2], -1)
    return np.where(np.isfinite(near.min(axis=2)), near.argmin(axis=2), -1)
