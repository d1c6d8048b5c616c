"""Selection function: sources put into a field at random, searched for, found or not."""

import functools
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.stats import binom_conf_interval, poisson_conf_interval
from astropy.table import QTable

from astroclassify import batch, tables
from astroclassify._checks import check_integer, check_quantity
from astroclassify._x_classes import MATCH_EXTENDED
from astroclassify.fields._inject import live_pixels
from astroclassify.samples._folders import seed_of
from astroclassify.samples._writer import SampleWriter, digest_of
from astroclassify.schemes import Flag

from ..catalogues._calibration import INTERVAL
from ..catalogues._classes import Cuts, get_cuts
from ._detect import detect
from ._selection_runs import RING, Grid, Places, Search, as_sent, field_digest, match_sources, plan_runs

__all__ = ["selection_function"]

SETTINGS_FILE, TABLE_FILE = "selection.json", "selection.ecsv"
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
    match_radius=MATCH_EXTENDED * u.arcsec,
    separation=4 * u.arcmin,
    detector=detect,
    rng=None,
    out=None,
    executor=None,
    progress=None,
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
        is always added.
    avoid : `~astropy.coordinates.SkyCoord` or `~astropy.table.QTable`, optional
        Known sources (or a table with ``sky_position``) to stay away from; by default sources are put anywhere, so that
        losses beside bright neighbours are part of the result.
    clearance : `~astropy.units.Quantity`, optional
        Least distance from ``avoid`` and from every pixel that is masked or not exposed; by default only the position
        itself must be exposed.
    match_radius : `~astropy.units.Quantity`, optional
        A source is found where a candidate lies within this distance.
    separation : `~astropy.units.Quantity`, optional
        Least distance between sources of one run.
    detector : callable, optional
        Takes a field and returns a CANDIDATES table; by default `detect`. With an executor of processes it must be
        picklable, such as a ``functools.partial`` of `detect`.
    rng : int or `~numpy.random.Generator`, optional
        A seed or a generator; the result is the same for any executor. By default the seed with which the folder
        ``out`` was begun, else a fresh one; ``meta["seed"]`` records it.
    out : str or path-like, optional
        Folder to write: the table as ``selection.ecsv``, the settings as ``selection.json``, the candidates of each run
        in ``images``. The same call resumes an interrupted measurement and repeats runs that failed.
    executor : `~concurrent.futures.Executor`, optional
        Where to run; by default here, one run after the other.
    progress : bool, optional
        Whether to show a bar on standard error; by default only on a terminal.

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
    OutputError
        If the folder cannot be written, holds something else or runs with other settings.

    Notes
    -----
    Many sources are searched for in one run, as many as ``separation`` lets into the field, those of all combinations
    mixed. One further run per field has none: its candidates are those of ``chance`` and ``contamination``. In a field
    with clusters of its own ``contamination`` counts these as well; use a simulated field without clusters
    (``simulate_field(density={"cluster": 0})``) to exclude them.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import simulate_field
    >>> from astroclassify.survey import selection_function
    >>> field = simulate_field(shape=(200, 200), density={"cluster": 0}, rng=1).field
    >>> source = {"counts": [400] * u.ct, "core_radius": [20] * u.arcsec, "off_axis": [2] * u.arcmin}
    >>> table = selection_function(field, **source, n=1, rng=3, progress=False)
    >>> [str(name) for name in table["x_class"]], [int(number) for number in table["n_found"]]
    (['any', 'C1', 'C1+C2'], [1, 1, 1])
    """
    fields = [as_sent(field) for field in ([fields] if hasattr(fields, "counts") else fields)]
    if not fields:
        raise ValueError("fields must be a Field or several, got none")
    grid = Grid(
        _check_values("off_axis", off_axis, u.arcmin),
        _check_values("core_radius", core_radius, u.arcsec),
        _check_values("counts", counts, u.ct),
        check_integer("n", n, 1),
    )
    radius, apart, clear = (
        check_quantity(name, value, u.arcsec, shape=())
        for name, value in (("match_radius", match_radius), ("separation", separation), ("clearance", clearance))
    )
    if not 0 < 2 * radius <= apart:
        raise ValueError(f"separation must be at least twice match_radius, got {separation} and {match_radius}")
    seed, classes, avoid = seed_of(rng, out, SETTINGS_FILE), _named(cuts), _positions(avoid)
    writer = None
    if out is not None:
        settings = {
            "seed": seed,
            "fields": [field_digest(field) for field in fields],
            **grid.settings(),
            "cuts": {name: [str(part.bounds) for part in parts or ()] for name, parts in classes.items()},
            "avoid": None
            if avoid is None
            else digest_of([np.ravel(avoid.ra.deg).tolist(), np.ravel(avoid.dec.deg).tolist()]),
            "separation": apart,
            "clearance": clear,
            "detector": _name_of(detector),
        }
        writer = SampleWriter(Path(out), settings, SETTINGS_FILE, digest=digest_of(settings))
        writer.prepare(what="a selection function")
    search = Search(detector, classes, grid, writer)
    runs = []  # field number, name, sources, generator; the first run of a field has no sources
    for number, field in enumerate(fields):
        plan = plan_runs(grid, Places(field, apart, clear, avoid), batch.derive_rng(seed, "plan", number))
        runs.append((number, f"field-{number:03d}-blank", np.zeros((0, 3)), None))
        for run, sources in enumerate(plan):
            runs.append((number, f"field-{number:03d}-{run:04d}", sources, batch.derive_rng(seed, number, run)))
    outcomes = batch.run(
        search.run_item,
        [(fields[number], *run) for number, *run in runs],
        keys=[name for _, name, _, _ in runs],
        executor=executor,
        progress=progress,
        description="runs",
    )
    found = [[] for _ in fields]
    for (number, _, sources, _), outcome in zip(runs, outcomes, strict=True):
        found[number].append((sources, outcome))
    rows = [row for number, field in enumerate(fields) for row in _rows(number, field, found[number], search, radius)]
    table = _table(rows, radius, seed)
    if writer is not None:
        tables.write(table, writer.folder / TABLE_FILE, overwrite=True)
    return table


def _name_of(detector):
    """Name of a detector, with the arguments that a partial holds."""
    if isinstance(detector, functools.partial):
        return f"{_name_of(detector.func)}{detector.args}{detector.keywords}"
    return getattr(detector, "__qualname__", type(detector).__qualname__)


def _check_values(name, values, unit):
    """One or more values from zero as plain numbers."""
    plain = np.atleast_1d(check_quantity(name, values, unit))
    if plain.ndim != 1 or not plain.size or np.any(plain < 0):
        raise ValueError(f"{name} must be one or more values from zero, got {values}")
    return plain


def _named(cuts):
    """Class name -> cuts of which a candidate must pass one."""
    classes = {"any": None}
    for each in [cuts] if isinstance(cuts, str | Cuts) else cuts:
        parts = tuple(get_cuts(part) for part in ([each] if isinstance(each, str | Cuts) else each))
        classes["+".join(part.name for part in parts)] = parts
    return classes


def _positions(avoid):
    """Positions (ICRS) to stay away from."""
    if avoid is None:
        return None
    avoid = avoid["sky_position"] if hasattr(avoid, "colnames") else avoid
    if not isinstance(avoid, SkyCoord):
        raise TypeError(f"avoid must be a SkyCoord or a table with sky_position, got {type(avoid).__name__}")
    return avoid.icrs


def _rows(number, field, found, search, match_radius):
    """Rows of one field from its runs, the first of which has no sources."""
    radius, grid = match_radius / field.pixel, search.grid
    blank = found[0][1].value
    sources, hits, chance, ext, counts, lost = [], [], [], [], [], []
    for placed, outcome in found[1:]:
        if outcome.error is not None:
            lost.append(placed[:, 0])
            continue
        match = match_sources(placed, outcome.value, radius)
        sources.append(placed[:, 0])
        hits.append(match >= 0)
        values = np.pad(outcome.value[2:4], ((0, 0), (0, 1)), constant_values=np.nan)
        ext.append(values[0][match])
        counts.append(values[1][match])
        chance.append(match_sources(placed, blank, radius) >= 0 if blank is not None else np.full(match.shape, np.nan))
    sources = np.concatenate([np.zeros(0), *sources]).astype(int)
    lost = np.concatenate([np.zeros(0), *lost]).astype(int)
    empty = np.zeros((len(search.classes), 0))
    measured = [np.concatenate([empty, *each], axis=1) for each in (hits, chance, ext, counts)]
    errors = {outcome.error for _, outcome in found if outcome.error is not None}
    contamination = [_contamination(field, blank, index, grid) for index in range(len(search.classes))]
    for combination in range(int(np.prod(grid.shape))):
        mine = sources == combination
        for index, name in enumerate(search.classes):
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


def _table(rows, match_radius, seed):
    units = {"exposure": u.s, "off_axis": u.arcmin, "core_radius": u.arcsec, "counts": u.ct}
    units |= {"ext_median": u.arcsec, "counts_median": u.ct}
    units |= dict.fromkeys(("contamination", "contamination_lo", "contamination_hi"), u.deg**-2)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = QTable({name: values * units[name] if name in units else values for name, values in columns.items()})
    table.meta.update(tables.provenance(seed=seed, match_radius=f"{match_radius:g} arcsec", interval=INTERVAL))
    return tables.readable(table)
