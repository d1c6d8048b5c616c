"""Selection function: sources put into a field at random, searched for, found or not."""

import dataclasses
import functools
import pickle
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.stats import binom_conf_interval, poisson_conf_interval
from astropy.table import QTable
from scipy.ndimage import distance_transform_edt

from .. import batch, tables
from .._checks import check_quantity
from ..schemes import Flag
from ._classes import INTERVAL, Cuts, get_cuts, in_any
from ._detect import detect
from ._inject import inject_sources, live_pixels

__all__ = ["selection_function"]

# Angles off axis are met within this [arcmin].
RING = 0.5
# Places tried for a source before it waits for the next run, or is given up if there was no other in the field; and
# how many must wait before a field counts as full.
_TRIES, _FULL = 400, 8
_NO_PLACE = "no free place at this off-axis angle"


def selection_function(
    fields,
    *,
    counts,
    core_radius,
    off_axis,
    n=20,
    cuts=("C1", ("C1", "C2")),
    avoid=None,
    clearance=0 * u.arcsec,
    match_radius=30 * u.arcsec,
    separation=4 * u.arcmin,
    detector=detect,
    rng,
    executor=None,
    progress=True,
):
    """
    Measure which extended sources are found: put beta models into fields, search, and count.

    Parameters
    ----------
    fields : Field or sequence of Field
        Where to put them; several, for instance, of different exposure.
    counts : `~astropy.units.Quantity`
        Expected counts, one or more values (see `inject_sources`).
    core_radius : `~astropy.units.Quantity`
        Core radii, angles; zero for point sources.
    off_axis : `~astropy.units.Quantity`
        Off-axis angles; each source is put within 0.5 arcmin of one.
    n : int, optional
        Sources for each combination and field.
    cuts : sequence, optional
        Classes: names of published ones, `Cuts`, or tuples of them (in one of several). "Found at all", named ``any``,
        is always there.
    avoid : `~astropy.coordinates.SkyCoord` or `~astropy.table.QTable`, optional
        Known sources (or a table with ``sky_position``) to stay away from; by default sources are put anywhere, and
        being lost beside a bright neighbour is part of the answer.
    clearance : `~astropy.units.Quantity`, optional
        Least distance from what is to be avoided and from every pixel that is masked or not exposed; by default only
        the position itself must be exposed.
    match_radius : `~astropy.units.Quantity`, optional
        A source is found where a candidate lies within this distance.
    separation : `~astropy.units.Quantity`, optional
        Least distance between sources of one run.
    detector : callable, optional
        Takes a field and returns a CANDIDATES table; by default `detect`. With an executor of processes it must be
        picklable, such as a ``functools.partial`` of `detect`.
    rng : int or `~numpy.random.Generator`
        A seed or a generator; the result is the same for any executor.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; by default here, one run after the other.
    progress : bool, optional
        Whether to show a bar on standard error.

    Returns
    -------
    `~astropy.table.QTable`
        One row for each field, off-axis angle, core radius, counts and class: ``field`` (its number), ``exposure``
        (livetime), ``off_axis``, ``core_radius``, ``counts``, ``x_class``; ``n`` sources searched for, ``n_found``,
        ``completeness`` with its 68% interval ``completeness_lo`` and ``_hi`` (binomial, Wilson);
        ``chance``, the share of the same positions where a candidate of the class lies with nothing put in;
        ``ext_median`` and ``counts_median`` of those found; ``contamination`` with ``contamination_lo`` and ``_hi``:
        candidates of the class per solid angle with nothing put in, within the largest off-axis angle (68%, Poisson);
        ``flags`` and ``message``: ``FAILED`` where nothing could be searched for.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Notes
    -----
    Many sources are searched for in one run, as many as ``separation`` lets into the field, those of all combinations
    mixed. One further run per field has none: what it finds is what ``chance`` and ``contamination`` count. In a field
    with clusters of its own ``contamination`` counts these as well; a simulated field without clusters
    (``simulate_field(density={"cluster": 0})``) leaves what is none.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.survey import selection_function, simulate_field
    >>> field = simulate_field(shape=(200, 200), density={"cluster": 0}, rng=1).field
    >>> source = {"counts": [400] * u.ct, "core_radius": [20] * u.arcsec, "off_axis": [2] * u.arcmin}
    >>> table = selection_function(field, **source, n=1, rng=3, progress=False)
    >>> [str(name) for name in table["x_class"]], [int(number) for number in table["n_found"]]
    (['any', 'C1', 'C1+C2'], [1, 1, 1])
    """
    fields = [_as_sent(field) for field in ([fields] if hasattr(fields, "counts") else fields)]
    if not fields:
        raise ValueError("fields must be a Field or several, got none")
    grid = _Grid(
        *(_check_values(*each) for each in (("off_axis", off_axis, u.arcmin), ("core_radius", core_radius, u.arcsec))),
        _check_values("counts", counts, u.ct),
        _check_number(n),
    )
    match, apart, clear = (
        check_quantity(name, value, u.arcsec, shape=())
        for name, value in (("match_radius", match_radius), ("separation", separation), ("clearance", clearance))
    )
    if not 0 < 2 * match <= apart:
        raise ValueError(f"separation must be at least twice match_radius, got {separation} and {match_radius}")
    seed, job = batch.master_seed(rng), _Job(detector, _named(cuts), match)
    runs = []
    for number, field in enumerate(fields):
        runs.append((number, np.zeros((0, 3)), None))
        places = _Places(field, apart, clear, _positions(avoid))
        plan = _plan(grid, places, batch.derive_rng(seed, "plan", number))
        runs += [(number, sources, batch.derive_rng(seed, number, run)) for run, sources in enumerate(plan)]
    outcomes = batch.run(
        functools.partial(_run_item, job, grid),
        [(fields[number], sources, generator) for number, sources, generator in runs],
        keys=[f"field {number}, run {run}" for run, (number, _, _) in enumerate(runs)],
        executor=executor,
        progress=progress,
        description="runs",
    )
    found = [[] for _ in fields]
    for (number, sources, _), outcome in zip(runs, outcomes, strict=True):
        found[number].append((sources, outcome))
    rows = [row for number, field in enumerate(fields) for row in _rows(number, field, found[number], grid, job)]
    return _table(rows, job, seed)


def _as_sent(field):
    """
    Field as another process gets it.

    A WCS that is pickled keeps 12 digits of the size of a pixel: fits made here would differ from theirs by 1e-11.
    """
    return dataclasses.replace(field, wcs=pickle.loads(pickle.dumps(field.wcs)))


def _check_values(name, values, unit):
    plain = np.atleast_1d(check_quantity(name, values, unit))
    if plain.ndim != 1 or not plain.size or np.any(plain < 0):
        raise ValueError(f"{name} must be one or more values from zero, got {values}")
    return plain


def _check_number(n):
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"n must be a whole number from one, got {n!r}")
    return int(n)


def _named(cuts):
    """Class name -> cuts of which a candidate must pass one."""
    classes = {"any": None}
    for each in [cuts] if isinstance(cuts, str | Cuts) else cuts:
        parts = tuple(get_cuts(part) for part in ([each] if isinstance(each, str | Cuts) else each))
        classes["+".join(part.name for part in parts)] = parts
    return classes


def _positions(avoid):
    if avoid is None:
        return None
    avoid = avoid["sky_position"] if hasattr(avoid, "colnames") else avoid
    if not isinstance(avoid, SkyCoord):
        raise TypeError(f"avoid must be a SkyCoord or a table with sky_position, got {type(avoid).__name__}")
    return avoid


@dataclass(frozen=True)
class _Grid:
    """Values of what is asked for, as plain arrays, and how many sources each combination gets."""

    off_axis: np.ndarray
    core_radius: np.ndarray
    counts: np.ndarray
    n: int

    @property
    def shape(self):
        return len(self.off_axis), len(self.core_radius), len(self.counts)

    def values(self, combination):
        """Off-axis angle, core radius and counts of combinations by their number."""
        indices = np.unravel_index(np.asarray(combination, int), self.shape)
        arrays = (self.off_axis, self.core_radius, self.counts)
        return tuple(values[index] for values, index in zip(arrays, indices, strict=True))


class _Places:
    """Where in a field a source may lie."""

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


def _plan(grid, places, rng):
    """Sources of each run: arrays of combination, x, y. What finds no place in an empty field is left out."""
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
class _Job:
    """What is the same for every run; sent to the workers."""

    detector: object
    classes: dict
    match_radius: float

    def candidates(self, field):
        """Positions [pixel], EXT [arcsec], counts, and membership (class, candidate) of what is found in a field."""
        table = self.detector(field)
        member = [np.ones(len(table), bool) if cuts is None else in_any(table, cuts) for cuts in self.classes.values()]
        columns = (table["x"].to_value(u.pix), table["y"].to_value(u.pix))
        return np.array(
            [*columns, table["ext"].to_value(u.arcsec), table["counts"].to_value(u.ct), *member], dtype=float
        )


def _run_item(job, grid, item):
    field, sources, rng = item
    if len(sources):
        _, core, counts = grid.values(sources[:, 0])
        columns = {"x": sources[:, 1] * u.pix, "y": sources[:, 2] * u.pix}
        added = QTable({**columns, "counts": counts * u.ct, "core_radius": core * u.arcsec})
        field = inject_sources(field, added, rng=rng)
    return job.candidates(field)


def _match(sources, candidates, radius):
    """
    For each class and source the nearest candidate of the class within a radius [pixel], as its number, or -1.

    ``candidates`` is what `_Job.candidates` gives.
    """
    distance = np.hypot(sources[:, 1, None] - candidates[0], sources[:, 2, None] - candidates[1])
    member = candidates[4:, None, :] > 0
    near = np.where(member & (distance <= radius), distance, np.inf)
    if not candidates.shape[1]:
        return np.full(near.shape[:2], -1)
    return np.where(np.isfinite(near.min(axis=2)), near.argmin(axis=2), -1)


def _rows(number, field, found, grid, job):
    """Rows of one field from its runs, the first of which has no sources."""
    radius = job.match_radius / field.pixel
    blank = found[0][1].value
    sources, hits, chance, ext, counts, lost = [], [], [], [], [], []
    for placed, outcome in found[1:]:
        if outcome.error is not None:
            lost.append(placed[:, 0])
            continue
        match = _match(placed, outcome.value, radius)
        sources.append(placed[:, 0])
        hits.append(match >= 0)
        values = np.pad(outcome.value[2:4], ((0, 0), (0, 1)), constant_values=np.nan)
        ext.append(values[0][match])
        counts.append(values[1][match])
        chance.append(_match(placed, blank, radius) >= 0 if blank is not None else np.full(match.shape, np.nan))
    sources = np.concatenate([np.zeros(0), *sources]).astype(int)
    lost = np.concatenate([np.zeros(0), *lost]).astype(int)
    empty = np.zeros((len(job.classes), 0))
    measured = [np.concatenate([empty, *each], axis=1) for each in (hits, chance, ext, counts)]
    errors = {outcome.error for _, outcome in found if outcome.error is not None}
    contamination = [_contamination(field, blank, index, grid) for index in range(len(job.classes))]
    for combination in range(int(np.prod(grid.shape))):
        mine = sources == combination
        for index, name in enumerate(job.classes):
            yield {
                "field": number,
                "exposure": float(field.livetime),
                **dict(zip(("off_axis", "core_radius", "counts"), grid.values(combination), strict=True)),
                "x_class": name,
                **_counted(*(each[index, mine] for each in measured)),
                **contamination[index],
                **_remarks(mine.sum(), np.sum(lost == combination), grid.n, sorted(errors)),
            }


def _counted(hits, chance, ext, counts):
    n, n_found = len(hits), int(hits.sum())
    interval = binom_conf_interval(n_found, n, INTERVAL, interval="wilson") if n else (np.nan, np.nan)
    return {
        "n": n,
        "n_found": n_found,
        "completeness": n_found / n if n else np.nan,
        "completeness_lo": float(interval[0]),
        "completeness_hi": float(interval[1]),
        "chance": float(chance.mean()) if n else np.nan,
        "ext_median": _median(ext),
        "counts_median": _median(counts),
    }


def _median(values):
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def _contamination(field, blank, index, grid):
    """Candidates of a class [deg-2] in the run without sources."""
    limit = grid.off_axis.max() + RING
    rows, columns = np.nonzero(live_pixels(field))
    area = np.sum(field.off_axis(columns, rows) <= limit) * (field.pixel / 3600) ** 2
    names = ("contamination", "contamination_lo", "contamination_hi")
    if blank is None or not area:
        return dict.fromkeys(names, np.nan)
    number = int(np.sum((blank[4 + index] > 0) & (field.off_axis(blank[0], blank[1]) <= limit)))
    interval = poisson_conf_interval(number, interval="frequentist-confidence")
    return dict(zip(names, (float(value) / area for value in (number, *interval)), strict=True))


def _remarks(n, n_lost, wanted, errors):
    """Flags and message of a row."""
    parts = [f"{n_lost} sources lost: {'; '.join(errors)}"] if n_lost else []
    if n + n_lost < wanted:
        parts.append(f"{_NO_PLACE} for {wanted - n - n_lost} of {wanted} sources")
    return {"flags": 0 if n else Flag.FAILED.value, "message": "; ".join(parts)}


def _table(rows, job, seed):
    units = {"exposure": u.s, "off_axis": u.arcmin, "core_radius": u.arcsec, "counts": u.ct}
    units |= {"ext_median": u.arcsec, "counts_median": u.ct}
    units |= dict.fromkeys(("contamination", "contamination_lo", "contamination_hi"), u.deg**-2)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = QTable({name: values * units[name] if name in units else values for name, values in columns.items()})
    table.meta.update(tables.provenance(seed=seed, match_radius=f"{job.match_radius:g} arcsec", interval=INTERVAL))
    return table
