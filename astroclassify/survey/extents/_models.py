"""Fits of one source: background only, point, extended, extended with a central point, two points."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ._expected import Scene, join, join_pixels
from ._optimise import Solution, covariance

__all__ = ["Fit", "fit_composite", "fit_source"]

TRIAL_U = tuple(np.arcsinh([0.5, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0]))  # of core radii
TRIAL_STEPS = 4  # of places of a point along each axis
TRIAL_REACH, TRIAL_STEP = 2.5, 1.0  # of those of a second point, in half-energy radii
APART = 0.3  # distance, in the scale of the table, from which places are different
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
    neighbours: np.ndarray  # factors of the free neighbours, shape (n_neighbours, n_cameras)
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
    coarse: Scene  # with fewer pixels, on which minima are searched
    tables: tuple
    shift: float  # how far the position may move along each axis [arcsec]
    reach: float  # and that of a second point
    highest: float  # upper bound of ``u``, in the first camera's table
    most: np.ndarray  # upper bound of the counts of a component, per camera
    nuisance: np.ndarray  # start, lowest and highest factor of each free neighbour in each camera, and of the level


def open_window(patches, shift, largest, level_error, half=0.0):
    """`Window` of patches. Amplitudes are bounded by what the pixels can show: their counts and five deviations."""
    reach = shift + MAX_SEPARATION * half
    scene, tables = join(patches, level_error, 1.5 * reach), tuple(patch.table for patch in patches)
    highest = float(min(tables[0].to_u(min(table.to_ext(table.u_max), largest)) for table in tables))
    seen = np.array([patch.counts.sum() for patch in patches])
    most = seen + 5 * np.sqrt(seen) + 10
    sums = np.transpose([patch.neighbours.sum(axis=1) for patch in patches])
    nuisance = [(1.0, 0.0, high) for high in np.ravel(most / np.maximum(sums, LEAST_SHARE))]
    if level_error > 0:
        nuisance.append((1.0, LEAST_LEVEL, np.inf))
    nuisance = np.reshape(np.array(nuisance), (-1, 3))
    return Window(scene, join_pixels(scene), tables, shift, reach, highest, most / LEAST_SHARE, nuisance)


def fit_source(patches, *, shift, largest, level_error=0.0):
    """`Fit` of background (NULL), point (PNT) and beta model (EXT) on patches, one per camera; ``shift`` limits the
    position along each axis and ``largest`` the core radius [arcsec]. With ``level_error`` the background's level is
    free, with a Gaussian prior about 1 of this standard deviation."""
    window = open_window(patches, shift, largest, level_error)
    null = _fit(window, (), [window.nuisance[:, 0].copy()])
    point = _fit_point(window, null)
    extended = _fit_extended(window, point)
    # The point may be at another maximum than the beta model.
    point, extended = _improve_point(window, point, extended, extended.parts[0][:2], extended.counts)
    return {"NULL": null, "PNT": point, "EXT": extended}


def fit_composite(patches, fits, *, shift, half, largest, level_error=0.0):
    """`Fit` of a beta model with a central point (EPN) and of two points (DBL), from the ``fits`` of `fit_source`, and
    the point and beta model again, which these may show better minima; ``half`` is the half-energy radius of the PSF,
    lengths in arcsec."""
    window = open_window(patches, shift, largest, level_error, half)
    point, extended = fits["PNT"], fits["EXT"]
    double = _fit_double(window, point, half)
    brighter = max(double.parts, key=lambda part: part[3].sum())
    better, extended = _improve_point(window, point, extended, brighter[:2], double.counts)
    if better is not point:
        point, double = better, min(double, _fit_double(window, better, half), key=_statistic)
    central = _fit_central(window, extended, point)
    # Without its point it is a beta model, with all of the counts.
    start = np.concatenate([central.solution.parameters[:3], central.counts, central.nuisance])
    better = _better(window, BETA, extended, start)
    if better is not extended:
        extended, central = better, min(central, _fit_central(window, better, point), key=_statistic)
    return {"PNT": point, "EXT": extended, "EPN": central, "DBL": double}


def _statistic(fit):
    return fit.statistic


def _solver(window, components, n):
    """Function that gives the `Solution` of a model of ``n`` parameters on a scene from a start, or held there."""
    from . import _kernels

    n_cameras = len(window.most)
    first = n - n_cameras * len(components)  # of the counts
    indices = np.array([(*part[:3], first + part[3] * n_cameras) for part in components], np.int64).reshape(-1, 4)
    lower = np.concatenate([np.zeros(n), window.nuisance[:, 1]])
    upper = np.concatenate([np.zeros(first), *[window.most] * len(components), window.nuisance[:, 2]])
    for x, y, u, _ in components:
        upper[[x, y]] = window.shift if x == 0 else window.reach
        lower[[x, y]] = -upper[x]
        if u >= 0:
            upper[u] = window.highest

    def solve(scene, start, excess=None, *, hold=False):
        bounds = (start, start) if hold else (lower, upper)
        excess = np.zeros((len(lower), len(lower))) if excess is None else excess
        return Solution(*_kernels.minimise(scene, indices, n, start, *bounds, excess))

    return solve


def _fit(window, components, starts, nested=None, edge=None):
    """Run one model from several starts, all its parameters and the nuisance ones each, and keep the best; a model
    ``nested`` in it is its own start, ``edge``, should it be better."""
    n = len(starts[0]) - len(window.nuisance)
    solve = _solver(window, components, n)
    excess = np.zeros((len(starts), len(starts[0]), len(starts[0])))

    def cost(solution):
        return np.inf if _is_hidden(components, n, solution) else solution.statistic

    if window.coarse is not window.scene and excess.size:
        search = [solve(window.coarse, *each) for each in zip(starts, excess, strict=True)]
        best = int(np.argmin([cost(each) for each in search]))
        starts, excess = [search[best].parameters], excess[best : best + 1]
    found = min([solve(window.scene, *each) for each in zip(starts, excess, strict=True)], key=cost)
    if nested is not None and cost(found) > nested.statistic:
        found = solve(window.scene, edge)
        if cost(found) > nested.statistic:
            found = solve(window.scene, edge, hold=True)
    return _describe(window, components, n, found)


def _is_hidden(components, n, solution):
    """Whether one of two points lies where hardly any of its counts could be seen, in a gap or outside."""
    if len(components) < 2 or components[1][0] == 0:
        return False
    counts, sums = (each[4:n].reshape(2, -1) for each in (solution.parameters, solution.sums))
    return bool(np.any((counts * sums).sum(axis=1) < LEAST_SHARE * counts.sum(axis=1)))


def _better(window, components, fit, start):
    """A fit, or one of the same model from another start if that is better; tried on fewer pixels first."""
    solve = _solver(window, components, fit.n_parameters)
    other = solve(window.coarse, start)
    if other.statistic > solve(window.coarse, fit.solution.parameters).statistic - NESTED:
        return fit
    if window.coarse is not window.scene:
        other = solve(window.scene, other.parameters)
    if other.statistic > fit.statistic - NESTED:
        return fit
    return _describe(window, components, fit.n_parameters, other)


def _describe(window, components, n, solution):
    """`Fit` of a solution with ``n`` parameters of the source."""
    table, found = window.tables[0], solution.parameters
    first = n - len(window.most) * len(components)
    counts = found[first:n].reshape(-1, len(window.most))
    units, parts = np.ones(n), []
    for (x, y, u, _), number in zip(components, counts, strict=True):
        if u >= 0:
            units[u] = table.d_ext(found[u])
        parts.append((float(found[x]), float(found[y]), float(table.to_ext(found[u])) if u >= 0 else 0.0, number))
    total, seen = counts.sum(), found[first:n] @ solution.sums[first:n]
    share = float(seen / total) if total > 0 else np.nan
    return Fit(tuple(parts), n, solution, units, *_split(window, found[n:]), share)


def _trials(window, nuisance, places):
    """Gains in C of point or beta models (x, y, u) beside some nuisance parameters, and their counts."""
    from . import _kernels

    ground = _kernels.expected_base(window.coarse, *_split(window, nuisance))
    return _kernels.shape_gains(window.coarse, ground, np.array(places, float))


def _split(window, nuisance):
    """Factors of the free neighbours, (n_neighbours, n_cameras), and level."""
    n_cameras = len(window.most)
    n_free = len(window.scene.neighbours) * n_cameras
    level = float(nuisance[-1]) if window.scene.level_error > 0 else 1.0
    return np.array(nuisance[:n_free]).reshape(-1, n_cameras), level


def _grid(x, y):
    """All places (n, 2) of a grid."""
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _fit_point(window, null):
    """Point source, never worse than the background alone: from the position with the neighbours as they are, and from
    where a point beside the background alone is most significant."""
    from . import _kernels

    steps = np.linspace(-window.shift, window.shift, TRIAL_STEPS)
    places = _grid(steps, steps)
    model = _kernels.expected_base(window.coarse, *_split(window, null.nuisance))
    place = places[np.argmax(_kernels.scores(window.coarse, model, places))]
    starts = []
    for nuisance, (x, y) in ((window.nuisance[:, 0], (0.0, 0.0)), (null.nuisance, place)):
        counts = _trials(window, nuisance, [(x, y, -1.0)])[1][0]
        starts.append(np.concatenate([[x, y], counts, nuisance]))
    edge = np.concatenate([np.zeros(2 + len(window.most)), null.nuisance])
    return _fit(window, POINT, starts, null, edge)


def _improve_point(window, point, extended, place, counts):
    """Point and beta model, or better ones if the point is better elsewhere."""
    if np.hypot(*np.subtract(place, point.parts[0][:2])) < APART * window.tables[0].scale:
        return point, extended
    point = _better(window, POINT, point, np.concatenate([place, counts, extended.nuisance]))
    if extended.statistic > point.statistic:
        extended = _fit(window, BETA, [_edge_of_beta(point)], point, _edge_of_beta(point))
    return point, extended


def _edge_of_beta(point):
    """The point as a beta model, which the gradient may let grow."""
    return np.insert(point.solution.parameters, 2, 0.0)


def _fit_extended(window, point):
    """Beta model, never worse than the point source, from the best of a few core radii there."""
    from . import _kernels

    x, y = point.parts[0][:2]
    ground = _kernels.expected_base(window.coarse, point.neighbours, point.level)
    u, counts = _best_beta(window, ground, x, y)
    start = np.concatenate([[x, y, u], counts, point.nuisance])
    return _fit(window, BETA, [start], point, _edge_of_beta(point))


def _best_beta(window, ground, x, y):
    """The best of a few core radii, as ``u``, and its counts."""
    from . import _kernels

    places = np.array([(x, y, u) for u in TRIAL_U if u < window.highest] or [(x, y, window.highest)])
    gains, counts = _kernels.shape_gains(window.coarse, ground, places)
    best = np.argmax(gains)
    return places[best, 2], counts[best]


def _fit_central(window, extended, point):
    """Beta model and point at one position, started from the beta model with a faint point, and from the point with the
    best beta model beside it."""
    from . import _kernels

    x, y, _, total = extended.parts[0]
    u = extended.solution.parameters[2]
    starts = [np.concatenate([[x, y, max(u, 0.5) * 1.05], total * 0.95, total * 0.05, extended.nuisance])]
    x, y, _, counts = point.parts[0]
    ground = _kernels.expected_base(window.coarse, point.neighbours, point.level)
    ground += _kernels.point_image(window.coarse, x, y, counts)
    u, beta = _best_beta(window, ground, x, y)
    starts.append(np.concatenate([[x, y, u], np.maximum(beta, 1.0), counts, point.nuisance]))
    edge = np.insert(extended.solution.parameters, 3 + len(total), np.zeros(len(total)))
    return _fit(window, CENTRAL, starts, extended, edge)


def _fit_double(window, point, half):
    """Two points: the second starts where a score test of the residuals of one point peaks, and opposite."""
    from . import _kernels

    x, y, _, counts = point.parts[0]
    steps = half * np.arange(-TRIAL_REACH, TRIAL_REACH + 0.01, TRIAL_STEP)
    places = _grid(x + steps, y + steps)
    model = _kernels.expected_base(window.coarse, point.neighbours, point.level)
    model += _kernels.point_image(window.coarse, x, y, counts)
    scores = _kernels.scores(window.coarse, model, places)
    best = places[np.argmax(scores)]
    apart = np.hypot(*(places - best).T) > half
    # Either a faint point is added, here or there, or the fitted point was the middle of two equal ones.
    other = places[apart][np.argmax(scores[apart])]
    starts = []
    for (x_2, y_2), own, share in ((best, 0.0, 0.2), (other, 0.0, 0.2), (best, -0.5, 0.5)):
        there = [x + own * (x_2 - x), y + own * (y_2 - y), x + (1 + own) * (x_2 - x), y + (1 + own) * (y_2 - y)]
        starts.append(np.concatenate([there, counts * (1 - share), np.maximum(counts * share, 1.0), point.nuisance]))
    edge = np.concatenate([[x, y, *best], counts, np.zeros(len(counts)), point.nuisance])
    return _fit(window, DOUBLE, starts, point, edge)
