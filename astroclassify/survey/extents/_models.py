"""Fits of one source: background only, point, extended, extended with a central point, two points."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ._expected import Scene, join
from ._optimise import Solution, covariance

__all__ = ["Fit", "fit_composite", "fit_source"]

# Trial core radii, in the scale of the table, and places of a second point, in half-energy radii of the PSF.
TRIAL_EXT = (0.5, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0)
TRIAL_STEPS = 5  # of a point's place, along either side of its range
TRIAL_RINGS = (0.7, 1.4, 2.5)
TRIAL_ANGLES = 8
MAX_SEPARATION = 5.0  # of two points, in half-energy radii
LEAST_SHARE = 0.1  # of a source within the window, for which its counts are bounded by those of the window
LEAST_LEVEL = 0.05  # of the background
NESTED = 1e-3  # in the Cash statistic: what counts as a better minimum
# Components of the models: where x, y and u (-1: a point) are among the parameters, and which of the counts follow.
POINT, BETA = ((0, 1, -1, 0),), ((0, 1, 2, 0),)
CENTRAL, DOUBLE = ((0, 1, 2, 0), (0, 1, -1, 1)), ((0, 1, -1, 0), (2, 3, -1, 1))


@dataclass(frozen=True)
class Fit:
    """One fitted model."""

    parts: tuple  # per component (x, y, ext [arcsec], counts per camera)
    n_parameters: int  # free parameters of the source
    solution: Solution
    units: np.ndarray  # that turn errors of these parameters into arcsec and counts
    neighbours: np.ndarray  # counts of the free neighbours, shape (n_neighbours, n_cameras)
    level: float  # of the background, 1 unless it is free
    share: float  # of the counts of all components on the usable pixels, NaN without counts

    @property
    def statistic(self):
        """Cash statistic, with the prior of the level."""
        return self.solution.statistic

    @property
    def counts(self):
        """Counts of all components, per camera."""
        return sum(part[3] for part in self.parts)

    @property
    def ext(self):
        """Core radius [arcsec] of the extended component, zero for points."""
        return self.parts[0][2]

    @property
    def nuisance(self):
        """The parameters after those of the source."""
        return self.solution.parameters[self.n_parameters :]

    @cached_property
    def _covariance(self):
        return covariance(self.solution.fisher)

    @cached_property
    def errors(self):
        """Standard errors of the parameters of the source."""
        return np.sqrt(np.diag(self._covariance))[: self.n_parameters] * self.units

    @cached_property
    def total_error(self):
        """Standard error of the sum of all counts."""
        first = self.n_parameters - sum(len(part[3]) for part in self.parts)
        matrix = self._covariance[first : self.n_parameters, first : self.n_parameters]
        return float(np.sqrt(np.nansum(matrix)))


@dataclass(frozen=True)
class Window:
    """What all fits of one source share."""

    scene: Scene
    tables: tuple
    shift: float  # how far the position may move along each axis [arcsec]
    highest: float  # upper bound of ``u``, in the first camera's table
    most: np.ndarray  # upper bound of the counts of a component, per camera
    nuisance: np.ndarray  # start, lowest and highest factor of each free neighbour in each camera, and of the level

    def place(self, x, y):
        """Start and bounds of a position."""
        return [(x, -self.shift, self.shift), (y, -self.shift, self.shift)]

    def counts(self, values):
        """Start and bounds of counts, of one component after the other."""
        most = np.tile(self.most, len(values) // len(self.most))
        return [(value, 0.0, highest) for value, highest in zip(values, most, strict=True)]


def open_window(patches, shift, largest, level_error):
    """`Window` of patches. Amplitudes are bounded by what the pixels can show: their counts and five deviations."""
    scene, tables = join(patches, level_error), tuple(patch.table for patch in patches)
    highest = float(min(tables[0].to_u(min(table.to_ext(table.u_max), largest)) for table in tables))
    seen = np.array([patch.counts.sum() for patch in patches])
    most = seen + 5 * np.sqrt(seen) + 10
    sums = np.transpose([patch.neighbours.sum(axis=1) for patch in patches])
    bounds = [(1.0, 0.0, high) for high in np.ravel(most / np.maximum(sums, LEAST_SHARE))]
    if level_error > 0:
        bounds.append((1.0, LEAST_LEVEL, np.inf))
    return Window(scene, tables, shift, highest, most / LEAST_SHARE, np.reshape(np.array(bounds), (-1, 3)))


def fit_source(patches, *, shift, largest, level_error=0.0):
    """`Fit` of background (NULL), point (PNT) and beta model (EXT) on patches, one per camera; ``shift`` limits the
    position along each axis and ``largest`` the core radius [arcsec]. With ``level_error`` the background's level is
    free, with a Gaussian prior about 1 of this standard deviation."""
    window = open_window(patches, shift, largest, level_error)
    null = _fit(window, (), (), window.nuisance[:, 0])
    point = _fit_point(window, null)
    extended = _fit_extended(window, point)
    x, y = extended.parts[0][:2]
    if np.hypot(x - point.parts[0][0], y - point.parts[0][1]) > 0.3 * window.tables[0].scale:
        # The point may be at another maximum than the beta model.
        point, extended = _improve_point(window, point, extended, extended.parts[0])
    return {"NULL": null, "PNT": point, "EXT": extended}


def fit_composite(patches, fits, *, shift, half, largest, level_error=0.0):
    """`Fit` of a beta model with a central point (EPN) and of two points (DBL), from the ``fits`` of `fit_source`, and
    the point and beta model again, which these may show better minima; ``half`` is the half-energy radius of the PSF,
    lengths in arcsec."""
    window = open_window(patches, shift, largest, level_error)
    point, extended = fits["PNT"], fits["EXT"]
    double = _fit_double(window, point, half)
    brighter = max(double.parts, key=lambda part: part[3].sum())
    better, extended = _improve_point(window, point, extended, (*brighter[:3], double.counts))
    if better is not point:
        point, double = better, min(double, _fit_double(window, better, half), key=_statistic)
    central = _fit_central(window, extended)
    # Without its point it is a beta model, with all of the counts.
    x, y, u = central.solution.parameters[:3]
    start = [*window.place(x, y), (u, 0.0, window.highest), *window.counts(central.counts)]
    better = _fit(window, BETA, start, central.nuisance)
    if better.statistic < extended.statistic - NESTED:
        extended, central = better, min(central, _fit_central(window, better), key=_statistic)
    return {"PNT": point, "EXT": extended, "EPN": central, "DBL": double}


def _statistic(fit):
    return fit.statistic


def _fit(window, components, bounds, nuisance):
    """Run one model from a start (value, lowest, highest) per parameter, and from that of the nuisance parameters."""
    from . import _kernels

    n, n_cameras, table = len(bounds), len(window.most), window.tables[0]
    start, lower, upper = np.concatenate([np.reshape(np.array(bounds, float), (-1, 3)), window.nuisance]).T.copy()
    start[n:] = nuisance
    indices = np.reshape(np.array(components, np.int64), (-1, 4))
    indices[:, 3] *= n_cameras
    indices[:, 3] += max((part[index] for part in components for index in range(3)), default=-1) + 1
    solution = Solution(*_kernels.minimise(window.scene, indices, n, start, lower, upper))
    found, units, parts, seen = solution.parameters, np.ones(n), [], 0.0
    for x, y, u, first in indices:
        if u >= 0:
            units[u] = table.d_ext(found[u])
        counts = slice(first, first + n_cameras)
        ext = float(table.to_ext(found[u])) if u >= 0 else 0.0
        parts.append((float(found[x]), float(found[y]), ext, found[counts]))
        seen += found[counts] @ solution.sums[counts]
    total = sum(part[3].sum() for part in parts)
    n_free = len(window.scene.neighbours) * n_cameras
    return Fit(
        tuple(parts),
        n,
        solution,
        units,
        found[n : n + n_free].reshape(-1, n_cameras),
        float(found[-1]) if window.scene.level_error > 0 else 1.0,
        float(seen / total) if total > 0 else np.nan,
    )


def _trials(window, fit, places):
    """Gains in C of point or beta models (x, y, u) beside the nuisance parameters of a fit, and their counts."""
    from . import _kernels

    ground = _kernels.expected_base(window.scene, fit.neighbours, fit.level)
    return _kernels.shape_gains(window.scene, ground, np.array(places, float))


def _fit_point(window, null):
    """Point source, never worse than the background alone, from the best of a grid of places: what it finds does not
    depend on where within its range it began."""
    steps = np.linspace(-window.shift, window.shift, TRIAL_STEPS)
    places = [(0.0, 0.0, 0.0), *((x, y, 0.0) for y in steps for x in steps)]
    gains, counts = _trials(window, null, places)
    best = np.argmax(gains)
    return _fit(window, POINT, window.place(*places[best][:2]) + window.counts(counts[best]), null.nuisance)


def _improve_point(window, point, extended, part):
    """Point and beta model, or better ones if the point is better at the place and with the counts of a part."""
    x, y, _, counts = part
    other = _fit(window, POINT, window.place(x, y) + window.counts(counts), extended.nuisance)
    if other.statistic < point.statistic - NESTED:
        point = other
        if extended.statistic > point.statistic:
            extended = _fit_from_edge(window, point)
    return point, extended


def _fit_extended(window, point):
    """Beta model, never worse than the point source, from the best of a few core radii there."""
    x, y = point.parts[0][:2]
    table = window.tables[0]
    u = np.unique(np.minimum(table.to_u(np.array(TRIAL_EXT) * table.scale), window.highest))
    gains, counts = _trials(window, point, np.column_stack([np.full(len(u), x), np.full(len(u), y), u]))
    best = np.argmax(gains)
    start = [*window.place(x, y), (u[best], 0.0, window.highest), *window.counts(counts[best])]
    extended = _fit(window, BETA, start, point.nuisance)
    return extended if extended.statistic < point.statistic else _fit_from_edge(window, point)


def _fit_from_edge(window, point):
    """Beta model started at EXT = 0, which is the point source; the gradient there decides whether EXT grows."""
    x, y, _, counts = point.parts[0]
    start = [*window.place(x, y), (0.0, 0.0, window.highest), *window.counts(counts)]
    return _fit(window, BETA, start, point.nuisance)


def _fit_central(window, extended):
    """Beta model and point at one position, started from no point, from a faint one and from half of the counts."""
    x, y, _, total = extended.parts[0]
    u, fits = extended.solution.parameters[2], []
    for share, least, wider in ((0.05, 0.5, 1.05), (0.5, 0.5, 1.5), (0.0, 0.0, 1.0)):
        if fits and share == 0 and min(fits, key=_statistic).statistic <= extended.statistic:
            break
        start = [*window.place(x, y), (max(u, least) * wider, 0.0, window.highest)]
        start += window.counts([*total * (1 - share), *total * share])
        fits.append(_fit(window, CENTRAL, start, extended.nuisance))
    return min(fits, key=_statistic)


def _fit_double(window, point, half):
    """Two points: the second starts where a score test of the residuals of one point peaks, and opposite."""
    from . import _kernels

    x, y, _, counts = point.parts[0]
    angles = np.arange(TRIAL_ANGLES) * (2 * np.pi / TRIAL_ANGLES)
    rings = np.array(TRIAL_RINGS)[:, np.newaxis] * half
    places = np.column_stack([(x + rings * np.cos(angles)).ravel(), (y + rings * np.sin(angles)).ravel()])
    model = _kernels.expected_base(window.scene, point.neighbours, point.level)
    scores = _kernels.scores(window.scene, model, np.array([x, y, *counts]), places)
    x_2, y_2 = places[np.argmax(scores)]
    reach, fits = window.shift + MAX_SEPARATION * half, []
    # Either a faint point is added, or the fitted point was the middle of two equal ones; without the first, one.
    for own, share, least in ((0.0, 0.2, 1.0), (-0.5, 0.5, 1.0), (0.0, 0.0, 0.0)):
        if fits and share == 0 and min(fits, key=_statistic).statistic <= point.statistic:
            break
        far = own + 1.0
        start = window.place(x + own * (x_2 - x), y + own * (y_2 - y))
        start += [(x + far * (x_2 - x), -reach, reach), (y + far * (y_2 - y), -reach, reach)]
        start += window.counts([*counts * (1 - share), *np.maximum(counts * share, least)])
        fits.append(_fit(window, DOUBLE, start, point.nuisance))
    return min(fits, key=_statistic)
