"""Fits of one source: background only, point, extended, extended with a central point, two points."""

from dataclasses import dataclass

import numpy as np

from ._expected import Component, Model, best_amplitude
from ._optimise import Solution, covariance, minimise

__all__ = ["Fit", "fit_composite", "fit_source"]

# Trial core radii, in the scale of the table, and places of a second point, in half-energy radii of the PSF.
TRIAL_EXT = (0.5, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0)
TRIAL_RINGS = (0.7, 1.4, 2.5)
TRIAL_ANGLES = 8
MAX_SEPARATION = 5.0  # of two points, in half-energy radii


@dataclass(frozen=True)
class Fit:
    """One fitted model."""

    parts: tuple  # per component (x, y, ext [arcsec], counts per camera)
    n_parameters: int  # free parameters of the source
    solution: Solution
    errors: np.ndarray  # standard errors of these parameters, ``u`` converted to arcsec
    total_error: float  # standard error of the sum of all counts
    neighbours: np.ndarray  # counts of the free neighbours, shape (n_neighbours, n_cameras)

    @property
    def statistic(self):
        """Cash statistic."""
        return self.solution.statistic

    @property
    def counts(self):
        """Counts of all components, per camera."""
        return sum(part[3] for part in self.parts)

    @property
    def ext(self):
        """Core radius [arcsec] of the extended component, zero for points."""
        return self.parts[0][2]


def fit_source(patches, *, shift, largest, level_error=0.0):
    """`Fit` of background (NULL), point (PNT) and beta model (EXT) on patches, one per camera; ``shift`` limits the
    position along each axis and ``largest`` the core radius [arcsec]."""
    place, table = [(0.0, -shift, shift), (0.0, -shift, shift)], patches[0].table
    neighbours = np.ones((len(patches[0].neighbours), len(patches)))
    bases = _bases(patches, neighbours)
    counts = [best_amplitude(patch, patch.image(0, 0, 0), base)[0] for patch, base in zip(patches, bases, strict=True)]
    point = _fit(patches, neighbours, (Component(0, 1, None, 2),), place + _counts(counts))
    x, y = point.parts[0][:2]
    place = [(x, -shift, shift), (y, -shift, shift)]
    u, counts = _start_extended(patches, bases, x, y, largest)
    beta = (Component(0, 1, 2, 3),)
    extended = _fit(patches, point.neighbours, beta, [*place, u, *_counts(counts)])
    if extended.statistic >= point.statistic:
        extended = _fit_from_edge(patches, point, shift, u[2])
    x_2, y_2 = extended.parts[0][:2]
    if np.hypot(x_2 - x, y_2 - y) > 0.3 * table.scale:
        # The point may be at another maximum than the beta model.
        place = [(x_2, -shift, shift), (y_2, -shift, shift)]
        other = _fit(patches, extended.neighbours, (Component(0, 1, None, 2),), place + _counts(extended.counts))
        point = min(point, other, key=lambda fit: fit.statistic)
        if extended.statistic > point.statistic:
            extended = _fit_from_edge(patches, point, shift, u[2])
    return {"NULL": _fit(patches, neighbours, (), ()), "PNT": point, "EXT": extended}


def fit_composite(patches, fits, *, shift, half, largest, level_error=0.0):
    """`Fit` of a beta model with a central point (EPN) and of two points (DBL), from the ``fits`` of `fit_source`;
    ``half`` is the half-energy radius of the PSF, lengths in arcsec."""
    return {
        "EPN": _fit_central(patches, fits["EXT"], shift, largest),
        "DBL": _fit_double(patches, fits["PNT"], shift, half),
    }


def _fit_from_edge(patches, point, shift, highest):
    """Beta model started at EXT = 0, which is the point source; the gradient there decides whether EXT grows."""
    x, y = point.parts[0][:2]
    start = [(x, -shift, shift), (y, -shift, shift), (0.0, 0.0, highest), *_counts(point.counts)]
    return _fit(patches, point.neighbours, (Component(0, 1, 2, 3),), start)


def _fit_central(patches, extended, shift, largest):
    """Beta model and point at one position, started from a faint point and from one with half of the counts."""
    x, y, _, total = extended.parts[0]
    u, highest = extended.solution.parameters[2], _highest(patches, largest)
    components = (Component(0, 1, 2, 3), Component(0, 1, None, 3 + len(patches)))
    fits = []
    for share, wider in ((0.05, 1.05), (0.5, 1.5)):
        start = [(x, -shift, shift), (y, -shift, shift), (min(max(u, 0.5) * wider, highest), 0.0, highest)]
        start += _counts([*total * (1 - share), *total * share])
        fits.append(_fit(patches, extended.neighbours, components, start))
    return min(fits, key=lambda fit: fit.statistic)


def _counts(values):
    """Counts with their bounds, as `_fit` takes them."""
    return [(float(value), 0.0, np.inf) for value in values]


def _bases(patches, neighbours):
    """Expected counts on each patch without the source itself."""
    return [patch.base + neighbours[:, camera] @ patch.neighbours for camera, patch in enumerate(patches)]


def _fit(patches, neighbours, components, bounds):
    """Run one model from a start (value, lowest, highest) per parameter."""
    bounds = np.reshape(np.array(bounds, float), (-1, 3))
    n = len(bounds)
    extra = np.column_stack([neighbours.ravel(), np.zeros(neighbours.size), np.full(neighbours.size, np.inf)])
    model = Model(patches, components, n)
    solution = minimise(model.evaluate, *np.concatenate([bounds, extra]).T)
    found, table = solution.parameters, patches[0].table
    matrix = covariance(solution.fisher)
    errors = np.sqrt(np.diag(matrix))[:n]
    parts, number = [], []
    for part in components:
        indices = np.arange(part.counts, part.counts + len(patches))
        ext = 0.0 if part.u is None else float(table.to_ext(found[part.u]))
        if part.u is not None:
            errors[part.u] *= table.d_ext(found[part.u])
        parts.append((float(found[part.x]), float(found[part.y]), ext, found[indices]))
        number.extend(indices)
    total = float(np.sqrt(np.nansum(matrix[np.ix_(number, number)]))) if number else 0.0
    return Fit(tuple(parts), n, solution, errors, total, found[n:].reshape(neighbours.shape))


def _start_extended(patches, bases, x, y, largest):
    """Core radius (as ``u`` with its bounds) and counts to start from: the best of a few."""
    table = patches[0].table
    highest, best = _highest(patches, largest), None
    for trial in TRIAL_EXT:
        ext = trial * table.scale
        if best is not None and table.to_u(ext) >= highest:
            break
        results = [
            best_amplitude(patch, patch.image(x, y, ext), base) for patch, base in zip(patches, bases, strict=True)
        ]
        gain = sum(result[1] for result in results)
        if best is None or gain > best[0]:
            best = gain, ext, [result[0] for result in results]
    return (min(float(table.to_u(best[1])), highest), 0.0, highest), best[2]


def _highest(patches, largest):
    """Upper bound of ``u``, in the first camera's table."""
    tables = [patch.table for patch in patches]
    return float(min(tables[0].to_u(min(table.to_ext(table.u_max), largest)) for table in tables))


def _fit_double(patches, point, shift, half):
    """Two points: the second starts where a score test of the residuals of one point peaks, and opposite."""
    n = len(patches)
    x, y, _, counts = point.parts[0]
    bases = _bases(patches, point.neighbours)
    models = [base + part * patch.image(x, y, 0) for patch, base, part in zip(patches, bases, counts, strict=True)]
    scores = []
    for ring in TRIAL_RINGS:
        for angle in np.arange(TRIAL_ANGLES) * (2 * np.pi / TRIAL_ANGLES):
            there = x + ring * half * np.cos(angle), y + ring * half * np.sin(angle)
            score = information = 0.0
            for patch, model in zip(patches, models, strict=True):
                image = patch.image(*there, 0)
                score += (patch.counts[patch.hot] * image[patch.hot] / model[patch.hot]).sum() - image.sum()
                information += (image**2 / model).sum()
            scores.append((score / np.sqrt(information) if information > 0 else -np.inf, *there))
    _, x_2, y_2 = max(scores)
    components = (Component(0, 1, None, 4), Component(2, 3, None, 4 + n))
    reach = shift + MAX_SEPARATION * half
    fits = []
    # Either a faint point is added, or the fitted point was the middle of two equal ones.
    for own, far, share in ((0.0, 1.0, 0.2), (-0.5, 0.5, 0.5)):
        bounds = [(x + own * (x_2 - x), -shift, shift), (y + own * (y_2 - y), -shift, shift)]
        bounds += [(x + far * (x_2 - x), -reach, reach), (y + far * (y_2 - y), -reach, reach)]
        bounds += _counts([*counts * (1 - share), *np.maximum(counts * share, 1.0)])
        fits.append(_fit(patches, point.neighbours, components, bounds))
    return min(fits, key=lambda fit: fit.statistic)
