"""Measures of a halo's gas beyond the cooling time: central entropy, entropy excess, cuspiness, each with an error."""

import numpy as np
from astropy import units as u
from scipy.optimize import curve_fit

from astroclassify._checks import check_number

from ..physics._plasma import cooling_of_gas
from ._labels import measure_core
from ._pieces import gas_within

__all__ = ["COLUMNS", "measure_halo"]

COLUMNS = {
    "entropy": u.keV * u.cm**2,
    "entropy_excess": u.keV * u.cm**2,
    "cuspiness": u.dimensionless_unscaled,
}
"""Measures of `measure_halo` and their units."""

ENTROPY_RANGE = (0.004, 0.25)
"""Radii of the entropy profile [R500]. Beyond, entropy need not follow the core's power law."""

ENTROPY_SHELLS = 30
MIN_SHELLS = 8

MIN_CELLS = 10
"""Shells with fewer cells are joined with the next one."""

CUSP_RADIUS = 0.04
"""Where the slope of the density is taken [R500] (Vikhlinin et al. 2007, section 2)."""

CUSP_RANGE = 2.0
"""The slope is that of a polynomial between this fraction and multiple of `CUSP_RADIUS`."""

CUSP_SHELLS = 12
CUSP_ORDER = 3

ERROR_FLOOR = 0.05
"""Relative error added to that of each entropy: what differs between shells, not in the scatter of their cells."""

LOWER, UPPER = (0.0, 1.0, 0.3), (1500.0, 3000.0, 2.5)
"""Bounds of K0 and K100 [keV cm2] and alpha."""

ALPHA = (1.02, 0.34)
"""Mean and scatter of alpha in the 200 clusters of the packaged ``accept_entropy_profiles.ecsv``."""


def entropy_profile(radius, k_0, k_100, alpha):
    """Entropy [keV cm2] at a radius [kpc]: Cavagnolo et al. 2009, equation 4."""
    return k_0 + k_100 * (radius / 100.0) ** alpha


def fit_entropy(radius, entropy, error, *, alpha=None):
    """
    K0, K100 [keV cm2] and alpha of K(r) = K0 + K100 (r / 100 kpc)^alpha, and their errors, each of shape (3,).

    ``radius`` [kpc], ``entropy`` and ``error`` [keV cm2] run outwards; ``alpha``: mean and scatter of a Gaussian prior.
    RuntimeError if the fit does not converge or ends at its bounds (K0 = 0 is allowed; with a prior, all lower ones).
    """
    mean, scatter = (np.array([value]) for value in alpha) if alpha else (np.zeros(0), np.zeros(0))

    def model(r, *parameters):
        return np.append(entropy_profile(r, *parameters), parameters[2] + 0 * mean)

    start = [np.clip(0.8 * entropy[:2].min(), 1, 1000), np.clip(np.interp(100, radius, entropy), 10, 1000), 1.1]
    try:
        best, covariance = curve_fit(
            model,
            radius,
            np.append(entropy, mean),
            p0=start,
            sigma=np.append(error, scatter),
            absolute_sigma=True,
            bounds=(LOWER, UPPER),
        )
    except RuntimeError as failure:
        raise RuntimeError("the fit of the entropy profile does not converge") from failure
    at_bounds = np.any(best >= np.array(UPPER) * 0.99) or (
        alpha is None and np.any(best[1:] <= np.array(LOWER[1:]) * 1.01)
    )
    if at_bounds or not np.all(np.isfinite(covariance)):
        values = ", ".join(f"{value:.3g}" for value in best)
        raise RuntimeError(f"the fit of the entropy profile ends at its bounds (K0, K100, alpha = {values})")
    chi2 = np.sum(((entropy - entropy_profile(radius, *best)) / error) ** 2)
    return best, np.sqrt(np.diag(covariance) * max(1.0, chi2 / max(len(radius) - 3, 1)))


def _shells(distance, edges):
    """Number of the shell of each cell; shells of few cells are joined with the next one outwards."""
    shell = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    number = np.bincount(shell, minlength=len(edges) - 1)
    joined, current, held = np.zeros(len(number), dtype=int), 0, 0
    for i, count in enumerate(number):
        joined[i] = current
        held += count
        if held >= MIN_CELLS:
            current, held = current + 1, 0
    # What is left over at the outer end belongs to the last full shell.
    return np.minimum(joined, max(current - 1, 0))[shell], current


def _mean(values, weights, group=None, n_groups=1):
    """Weighted means by group and their standard errors; NaN for the error of one cell alone."""
    group = np.zeros(len(values), dtype=int) if group is None else group
    total = np.bincount(group, weights, minlength=n_groups)
    mean = np.bincount(group, weights * values, minlength=n_groups) / total
    number = np.bincount(group, minlength=n_groups)
    scatter = np.bincount(group, (weights * (values - mean[group])) ** 2, minlength=n_groups)
    many = number > 1
    return mean, np.sqrt(np.where(many, scatter * number / np.maximum(number - 1, 1), np.nan)) / total


class _Gas:
    """The cells of a halo that hold electrons within a radius, as plain arrays."""

    def __init__(self, halo, radius):
        r_squared = np.einsum("ij,ij->i", *(2 * [halo.position.to_value(u.kpc)]))
        self.keep = np.flatnonzero((r_squared < radius**2) & (halo.n_e.to_value(u.cm**-3) > 0))
        self.distance = np.sqrt(r_squared[self.keep])
        self.n_e = halo.n_e.to_value(u.cm**-3)[self.keep]
        self.temperature = halo.temperature.to_value(u.keV, u.temperature_energy())[self.keep]
        self.mass = halo.mass.to_value(u.Msun)[self.keep]
        self.halo = halo

    @property
    def volume(self):
        """Volume of each cell [kpc3]."""
        return self.mass / self.halo.density[self.keep].to_value(u.Msun / u.kpc**3)

    @property
    def entropy(self):
        """k T n_e^(-2/3) of each cell [keV cm2]."""
        return self.temperature * self.n_e ** (-2.0 / 3.0)

    def weight(self, weighting):
        """Weight of each cell, as in `measure_core`."""
        if weighting == "mass":
            return self.mass
        if weighting == "volume":
            return self.volume
        lambda_cool = cooling_of_gas(
            self.temperature, self.halo.metallicity.to_value(u.dimensionless_unscaled)[self.keep]
        )
        return self.volume * self.n_e * self.halo.n_h.to_value(u.cm**-3)[self.keep] * lambda_cool


def _entropy(gas, core, aperture, weighting):
    """Central entropy of `measure_core` with its error."""
    if core.n_cells == 0:
        raise RuntimeError(f"no X-ray emitting cell within {aperture:g} R500")
    inside = gas.distance < aperture * gas.halo.r_500.to_value(u.kpc)
    error = _mean(gas.entropy[inside], gas.weight(weighting)[inside])[1][0]
    return float(core.entropy.value), float(error)


def _entropy_excess(gas, weighting):
    """K0 of the profile and its error."""
    r_500 = gas.halo.r_500.to_value(u.kpc)
    inside = gas.distance < ENTROPY_RANGE[1] * r_500
    distance, weight = gas.distance[inside], gas.weight(weighting)[inside]
    shell, n_shells = _shells(distance, np.geomspace(*ENTROPY_RANGE, ENTROPY_SHELLS + 1) * r_500)
    if n_shells < MIN_SHELLS:
        raise RuntimeError(
            f"{np.count_nonzero(inside)} cells within {ENTROPY_RANGE[1]:g} R500 make {n_shells} shells of the entropy "
            f"profile, {MIN_SHELLS} are needed"
        )
    radius, _ = _mean(distance, weight, shell, n_shells)
    entropy, error = _mean(gas.entropy[inside], weight, shell, n_shells)
    best, errors = fit_entropy(radius, entropy, np.hypot(error, ERROR_FLOOR * entropy), alpha=ALPHA)
    return float(best[0]), float(errors[0])


def _cuspiness(gas):
    """Slope of the gas density at `CUSP_RADIUS` and its error."""
    middle = CUSP_RADIUS * gas.halo.r_500.to_value(u.kpc)
    inside = (gas.distance >= middle / CUSP_RANGE) & (gas.distance < middle * CUSP_RANGE)
    distance, mass, volume = gas.distance[inside], gas.mass[inside], gas.volume[inside]
    edges = middle * np.geomspace(1 / CUSP_RANGE, CUSP_RANGE, CUSP_SHELLS + 1)
    shell, n_shells = _shells(distance, edges)
    if n_shells < CUSP_ORDER + 3:
        raise RuntimeError(
            f"{np.count_nonzero(inside)} cells between {CUSP_RADIUS / CUSP_RANGE:g} and {CUSP_RADIUS * CUSP_RANGE:g} "
            f"R500 make {n_shells} shells of the density profile, {CUSP_ORDER + 3} are needed"
        )
    radius, _ = _mean(distance, volume, shell, n_shells)
    density, error = _mean(mass / volume, volume, shell, n_shells)
    relative = np.maximum(error / density, 1e-3)
    matrix = (np.log(radius / middle) / np.log(CUSP_RANGE))[:, np.newaxis] ** np.arange(CUSP_ORDER + 1)
    weighted = matrix / relative[:, np.newaxis]
    covariance = np.linalg.pinv(weighted.T @ weighted)
    best = covariance @ (weighted.T @ (np.log(density) / relative))
    chi2 = np.sum(((np.log(density) - matrix @ best) / relative) ** 2)
    scale = max(1.0, chi2 / (n_shells - CUSP_ORDER - 1))
    return float(-best[1] / np.log(CUSP_RANGE)), float(np.sqrt(covariance[1, 1] * scale) / np.log(CUSP_RANGE))


class _Measures(dict):
    """Name -> (value, error), with the reasons for what is NaN."""

    def __init__(self, values, reasons):
        super().__init__(values)
        self.reasons = reasons


def measure_halo(halo, *, aperture=0.012, weighting="mass"):
    r"""
    Measure the core of a halo: central entropy, entropy excess and cuspiness.

    Parameters
    ----------
    halo : Halo or HaloPieces
        The halo.
    aperture : float, optional
        Radius of the central sphere [R500], for ``entropy``.
    weighting : {"mass", "volume", "emission"}, optional
        Weight of a cell in the averages of the entropy, as in `measure_core`.

    Returns
    -------
    dict
        Name -> (value, error). What cannot be measured is NaN, not an error, and the dict's attribute ``reasons``, a
        dict of name -> why, says why.

        - ``entropy`` [keV cm2], a Quantity: average of :math:`K = k T n_e^{-2/3}` within the aperture, that of
          `measure_core`.
        - ``entropy_excess`` [keV cm2], a Quantity: K0 of :math:`K(r) = K_0 + K_{100} (r / 100\,{\rm kpc})^\alpha`,
          fitted to the halo's profile within 0.25 R500.
        - ``cuspiness``, a float: :math:`\alpha = -d \ln \rho_{gas} / d \ln r` at 0.04 R500.

    Raises
    ------
    TypeError, ValueError
        If the aperture or the weighting is not allowed.

    Notes
    -----
    The profiles have logarithmic shells about the centre (30 from 0.004 to 0.25 R500 for entropy, with all within the
    first; 12 from 0.02 to 0.08 R500 for density); a shell of fewer than 10 cells is joined with the next. Entropy is
    the weighted average of the cells, density their mass over their volume. The slope is that of a cubic fitted to the
    logarithms, at 0.04 R500.

    Errors of averages are standard errors, sqrt(sum w^2 (x - mean)^2 n / (n - 1)) / sum w, the limit of a bootstrap
    over cells. Those of the fits come from the covariance (five per cent added to the error of each entropy), times the
    root of chi2 per degree of freedom where that is above 1. They say how well the number is known for this halo, not
    how much it would differ in another resolution or simulation.

    Within 0.25 R500 a profile with a large core hardly says how steep it is, and K0 depends on that: the fit has a
    prior on alpha, 1.02 +- 0.34, the mean and scatter of the real clusters of ACCEPT, and keeps it within 0.3 and 2.5.

    References
    ----------
    Cavagnolo et al. 2009, ApJS 182, 12, section 4 (entropy excess); Vikhlinin et al. 2007, in Heating versus Cooling in
    Galaxies and Clusters of Galaxies, ESO Astrophysics Symposia, p. 48, arXiv:astro-ph/0611438 (cuspiness).

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astroclassify.sim import measure_halo
    >>> r = np.linspace(0, 300, 20000) * u.kpc
    >>> n_e = 0.02 / (1 + r / (40 * u.kpc)) / u.cm**3
    >>> entropy = (20 + 150 * r / (100 * u.kpc)) * u.keV * u.cm**2
    >>> gas = SimpleNamespace(r_500=1 * u.Mpc, position=r[:, None] * [0, 0, 1], mass=np.ones(20000) * 1e7 * u.Msun,
    ...                       density=n_e * 2e-24 * u.g, n_e=n_e, n_h=n_e / 1.2, temperature=entropy * n_e ** (2 / 3),
    ...                       metallicity=0.3 * np.ones(20000) * u.one)
    >>> measures = measure_halo(gas)
    >>> print(f"{measures['entropy_excess'][0].value:.0f} {measures['cuspiness'][0]:.2f}")
    20 0.50
    """
    check_number("aperture", aperture, 0, open_low=True)
    radius = max(aperture, ENTROPY_RANGE[1], CUSP_RADIUS * CUSP_RANGE) * halo.r_500.to_value(u.kpc)
    halo = gas_within(halo, radius)
    core = measure_core(halo, aperture=aperture, weighting=weighting)
    gas = _Gas(halo, radius)
    tasks = {
        "entropy": lambda: _entropy(gas, core, aperture, weighting),
        "entropy_excess": lambda: _entropy_excess(gas, weighting),
        "cuspiness": lambda: _cuspiness(gas),
    }
    found, reasons = {}, {}
    for name, task in tasks.items():
        try:
            value, error = task()
        except RuntimeError as failure:
            value, error = np.nan, np.nan
            reasons[name] = str(failure)
        unit = COLUMNS[name]
        found[name] = (value, error) if unit == u.dimensionless_unscaled else (value * unit, error * unit)
    return _Measures(found, reasons)
