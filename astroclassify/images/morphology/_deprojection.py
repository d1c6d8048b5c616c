"""Arithmetic of the deprojection of a round source: plain arrays, lengths in kpc, counts and seconds."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline

__all__ = ["Emission", "fit_emission", "light_shares", "sphere_in_cylinder"]

KNOTS = 0.4
"""Distance of the knots of the spline, in the logarithm of the radius."""

CURVATURE = 1.0
"""Standard deviation of the change of the slope of the emissivity over an e-fold of radius, a random walk."""

SLOPE_SCATTER = 1.0
"""Standard deviation of the slope about `_mean_slope`, for what an e-fold of radius without data knows about it."""

_PSF_RINGS = 200
_MAX_STEPS = 100
_TOLERANCE = 1e-6


def _mean_slope(radius):
    """
    Expected d ln(n_e^2) / d ln r at a radius [kpc].

    Outside the core near the medians of ACCEPT (144 clusters, none of the public test): -1.8 at 80 kpc, -2.4 at 200,
    -2.9 at 500, with a scatter of 0.75 and changes of 0.55 per root of an e-fold. From 8 to 40 kpc they are -1.5 where
    the central cooling time is below 3 Gyr, -0.9 up to 7.7 Gyr and -0.3 above. Ours is nearly flat there: a cool core
    shows in the counts, and what no count shows is then not made a cusp.
    """
    return -0.2 - 3.3 * radius / (radius + 130.0)


def sphere_in_cylinder(sphere, cylinder):
    """Volume that a sphere and an infinite cylinder about its centre, given by their radii, have in common."""
    return 4 / 3 * np.pi * (sphere**3 - np.maximum(sphere**2 - cylinder**2, 0.0) ** 1.5)


def _projection(edges):
    """Volume of each shell (columns) seen in each ring (rows) between the same edges."""
    within = sphere_in_cylinder(edges, np.minimum(edges, edges[:, np.newaxis]))
    return np.diff(np.diff(within, axis=0), axis=1)


def light_shares(edges, psf):
    """
    Share of the light of each ring (columns) that a point spread function puts in each ring (rows).

    ``psf`` is a pair: share of a point's light within a radius (a function), and the radius that holds all of it. The
    point spread function is cut into thin rings, of which the share within a circle is an angle.
    """
    encircled, limit = psf
    source = np.sqrt(0.5 * (edges[1:] ** 2 + edges[:-1] ** 2))
    radii = np.concatenate([[0.0], np.geomspace(1e-3 * limit, limit, _PSF_RINGS)])
    weight = np.diff(encircled(radii))
    within = np.zeros((len(edges), len(source)))
    for distance, part in zip(np.sqrt(0.5 * (radii[1:] ** 2 + radii[:-1] ** 2)), weight / weight.sum(), strict=True):
        cosine = (distance**2 + source**2 - edges[:, np.newaxis] ** 2) / (2 * distance * source)
        within += part / np.pi * np.arccos(np.clip(cosine, -1.0, 1.0))
    return np.diff(within, axis=0)


class _Spline:
    """Cubic spline of ln(emissivity) in ln(radius); its coefficients and their prior."""

    def __init__(self, edges):
        self.low, high = np.log(0.5 * edges[1]), np.log(edges[-1])
        n = int(np.ceil((high - self.low) / KNOTS))
        self.knots = self.low + KNOTS * np.arange(-3, n + 4)
        self.n = n + 3
        # Coefficients of a uniform cubic spline are its values at the knots, but for terms of the curvature.
        slope = np.diff(np.eye(self.n), axis=0) / KNOTS
        bend = np.diff(slope, axis=0)
        between = 0.5 * (self.knots[2:-3] + self.knots[3:-2])
        self.expected = _mean_slope(np.exp(between))
        bending = np.diff(self.expected)
        loose, stiff = KNOTS / SLOPE_SCATTER**2, 1 / (KNOTS * CURVATURE**2)
        self.precision = loose * slope.T @ slope + stiff * bend.T @ bend
        self.pull = loose * slope.T @ self.expected + stiff * bend.T @ bending

    def rows(self, radius, order=0):
        """Matrix that turns coefficients into values at radii (or into derivatives)."""
        x = np.clip(np.log(radius), self.low, self.knots[-4])
        return BSpline(self.knots, np.eye(self.n), 3)(x, nu=order)


@dataclass(frozen=True, eq=False)
class Emission:
    """
    Emissivity [ct/s/kpc3] of a round source from a fit: coefficients of a spline, their covariance, and the grid.

    Every answer is a value and its standard deviation, which is the linear propagation of the covariance.
    """

    spline: _Spline
    coefficients: np.ndarray
    covariance: np.ndarray
    edges: np.ndarray
    model: np.ndarray  # expected counts of the annuli, background included
    level: float  # fitted over given background

    @property
    def _middle(self):
        return np.cbrt(0.5 * (self.edges[1:] ** 3 + self.edges[:-1] ** 3))

    def _spread(self, gradient):
        return np.sqrt(np.einsum("...i,ij,...j->...", gradient, self.covariance, gradient))

    def logarithm(self, radius):
        """ln of the emissivity at radii."""
        rows = self.spline.rows(radius)
        return rows @ self.coefficients, self._spread(rows)

    def slope(self, radius):
        """d ln(emissivity) / d ln(radius)."""
        rows = self.spline.rows(radius, order=1)
        return rows @ self.coefficients, self._spread(rows)

    def _sum(self, volumes, power=1.0):
        """Logarithm of the sum of volume times a power of the emissivity, and its gradient."""
        rows = self.spline.rows(self._middle)
        parts = volumes * np.exp(power * (rows @ self.coefficients))
        return np.log(parts.sum()), power * (parts @ rows) / parts.sum()

    def mean_density(self, radius):
        """ln of the mean of the root of the emissivity within a radius, weighted with that root (the gas mass)."""
        volumes = np.diff(np.minimum(self.edges, radius) ** 3)
        upper, up = self._sum(volumes)
        lower, down = self._sum(volumes, 0.5)
        return upper - lower, self._spread(up - down)

    def _within(self, radius):
        return self._sum(np.diff(sphere_in_cylinder(self.edges, np.minimum(self.edges, radius))))

    def light(self, radius):
        """ln of the light [ct/s] seen within a radius, without the point spread function."""
        value, gradient = self._within(radius)
        return value, self._spread(gradient)

    def between(self, inner, outer):
        """ln of the light [ct/s] emitted between two spheres."""
        value, gradient = self._sum(4 / 3 * np.pi * np.diff(np.clip(self.edges, inner, outer) ** 3))
        return value, self._spread(gradient)

    def concentration(self, inner, outer):
        """Ratio of the light within two radii."""
        part, up = self._within(inner)
        whole, down = self._within(outer)
        ratio = np.exp(part - whole)
        return ratio, ratio * self._spread(up - down)


def fit_emission(counts, background, exposed, edges, psf, background_error):
    """
    Most probable emissivity of a round source behind the counts of annuli, and its covariance.

    Poisson likelihood, with the prior of `_Spline` and a normal one of the level of the background; Fisher scoring
    with steps that are halved until the posterior grows.

    Parameters
    ----------
    counts, background : arrays (n,)
        Counts of the annuli and those expected of the background.
    exposed : array (n, m)
        Exposure times area [s kpc2] of each annulus in each ring of the fine grid.
    edges : array (m + 1,)
        Edges of the fine grid [kpc], from zero to beyond the source.
    psf : tuple or None
        See `light_shares`.
    background_error : float
        Relative standard deviation of the background's level.
    """
    spline = _Spline(edges)
    area = np.pi * np.diff(edges**2)
    seen = _projection(edges)
    if psf is not None:
        seen = light_shares(edges, psf) @ seen
    response = (exposed / area) @ seen
    lit = exposed.any(axis=1)
    rows = spline.rows(np.cbrt(0.5 * (edges[1:] ** 3 + edges[:-1] ** 3)))
    n = spline.n
    precision = np.zeros((n + 1, n + 1))
    precision[:n, :n] = spline.precision
    precision[n, n] = 1 / max(background_error, 1e-9) ** 2
    pull = np.append(spline.pull, 0.0)

    def expected(state):
        shells = np.exp(rows @ state[:n])
        return np.where(lit, response @ shells + background * max(1 + state[n], 0.0), 1.0), shells

    def worth(state, model):
        return counts @ np.log(model) - model.sum() - 0.5 * state @ precision @ state + pull @ state

    # Start: the expected slopes, scaled to the net counts.
    state = np.zeros(n + 1)
    state[1:n] = np.cumsum(spline.expected) * KNOTS
    light = (response @ np.exp(rows @ state[:n])).sum()
    state[:n] += np.log(max(counts.sum() - background.sum(), 1.0) / light)
    model, shells = expected(state)
    now = worth(state, model)
    for _ in range(_MAX_STEPS):
        jacobian = np.column_stack([(response * shells) @ rows, background])
        gradient = jacobian.T @ (counts / model - 1) + pull - precision @ state
        fisher = (jacobian.T / model) @ jacobian + precision
        step = np.linalg.solve(fisher, gradient)
        step *= min(1.0, 2.0 / np.abs(step).max())
        size, better = 1.0, False
        while size > 1e-4 and not better:
            trial = state + size * step
            model_there, shells_there = expected(trial)
            there = worth(trial, model_there)
            better = there >= now
            size /= 2
        if not better:
            break
        gain, state, model, shells, now = there - now, trial, model_there, shells_there, there
        if gain < _TOLERANCE:
            break
    covariance = np.linalg.inv(fisher)
    return Emission(spline, state[:n], covariance[:n, :n], edges, np.where(lit, model, 0.0), 1 + state[n])
