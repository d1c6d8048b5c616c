"""
Make the tables of real clusters that the package carries, from the main table of ACCEPT.

Input: the main table of the Archive of Chandra Cluster Entropy Profile Tables (Cavagnolo et al. 2009, ApJS 182, 12),
one row per radial shell, as distributed by the authors (gzipped text, 242 clusters). Every third cluster, in the order
of Python's sorted names, is kept for the public test of classifiers and enters none of the other tables.

``accept_public_test.txt``
    The names of the public test.
``accept_entropy_profiles.ecsv``
    Fits of K(r) = K0 + K100 (r / 100 kpc)^alpha. The entropy of a shell is kT n_e^(-2/3) with its error from those of
    kT and n_e (and a floor of three per cent, for what differs between shells and is not in the errors). Clusters are
    kept if they have at least 8 shells that reach from below 30 kpc (so that K0 means something) to beyond 70 kpc, a
    scatter about the fit below 20 per cent, and a fit inside its bounds.
``accept_profiles.ecsv``
    n_e and kT by r / R500, smoothed and extrapolated as `smooth_profile` says. Clusters are kept if they have at least
    6 shells that reach from below 0.02 R500 to beyond 0.05 R500.

Usage: python tools/fit_accept_profiles.py accept_main_table.txt.gz astroclassify/data
"""

import argparse
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy.optimize import curve_fit

from astroclassify.sim.embedded._physics import mass_of_temperature, r_500_of

SOURCE = "tools/fit_accept_profiles.py on the ACCEPT main table, Cavagnolo et al. 2009, ApJS 182, 12"
LOWER = np.array([0.0, 1.0, 0.3])
UPPER = np.array([1500.0, 3000.0, 2.5])
ERROR_FLOOR = 0.03
#: r / R500 of the smoothed profiles.
GRID = np.geomspace(2e-4, 2.0, 81)
# Smoothing of ln n_e and ln kT: weight of the squared second derivative by ln r, floor of the relative errors, and the
# r / R500 below which the shells are followed to that floor whatever their errors.
ROUGHNESS, PROFILE_FLOOR, CORE = 0.3, 0.05, 0.03


def entropy_profile(radius, k_0, k_100, alpha):
    """Entropy in keV cm2 at a radius in kpc (Cavagnolo et al. 2009, equation 4)."""
    return k_0 + k_100 * (radius / 100.0) ** alpha


def read_accept(path):
    """Shells of each cluster: radius [kpc], n_e [cm-3] and kT [keV] with their errors, as columns."""
    clusters = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("#") or not line.strip():
                continue
            name, *values = line.split()
            r_in, r_out, n_e, n_e_err = (float(value) for value in values[:4])
            clusters[name].append((500.0 * (r_in + r_out), n_e, n_e_err, float(values[12]), float(values[13])))
    return {name: np.array(sorted(rows)) for name, rows in clusters.items()}


def fit_cluster(shells):
    """Parameters, errors and figures of merit of one cluster; a string that says why not if it does not fit well."""
    ok = np.all(np.isfinite(shells), axis=1) & np.all(shells[:, :2] > 0, axis=1) & (shells[:, 3] > 0)
    radius, n_e, n_e_err, temperature, temperature_err = shells[ok].T
    if len(radius) < 8:
        return "fewer than 8 shells"
    if radius[0] > 30 or radius[-1] < 70:
        return "shells do not reach from 30 to 70 kpc"
    entropy = temperature * n_e ** (-2 / 3)
    relative = np.sqrt((temperature_err / temperature) ** 2 + (2 / 3 * n_e_err / n_e) ** 2 + ERROR_FLOOR**2)
    start = [np.clip(0.8 * entropy[:2].min(), 1, 1000), np.clip(np.interp(100, radius, entropy), 10, 1000), 1.1]
    try:
        best, covariance = curve_fit(
            entropy_profile,
            radius,
            entropy,
            p0=start,
            sigma=relative * entropy,
            absolute_sigma=True,
            bounds=(LOWER, UPPER),
        )
    except RuntimeError:
        return "fit does not converge"
    error = np.sqrt(np.diag(covariance))
    rms = np.sqrt(np.average(np.log(entropy / entropy_profile(radius, *best)) ** 2, weights=relative**-2))
    if not np.all(np.isfinite(error)) or np.any(best[1:] <= LOWER[1:] * 1.01) or np.any(best >= UPPER * 0.99):
        return "fit at its bounds"
    if rms > 0.2:
        return "scatter above 20 per cent"
    best[0] = round(best[0], 3)
    mean = outer_temperature(radius, n_e, temperature)
    return *best, *error, mean, radius[0], radius[-1], len(radius), rms


def outer_temperature(radius, n_e, temperature):
    """Mean weighted by n_e^2 r^3 outside 50 kpc: roughly the spectroscopic temperature without the core [keV]."""
    outside = radius > min(50.0, radius[-1] / 2)
    return np.average(temperature[outside], weights=(n_e**2 * radius**3)[outside])


def _smoothed(log_x, values, errors):
    """
    The curve on `GRID` with the least sum of squared deviations, in units of the errors, plus `ROUGHNESS` times the
    integral of its squared second derivative; straight beyond the data (Whittaker 1923, with linear interpolation).
    """
    nodes = np.log(GRID)
    step = nodes[1] - nodes[0]
    left = np.clip(np.searchsorted(nodes, log_x) - 1, 0, len(nodes) - 2)
    share = (log_x - nodes[left]) / step
    rows = np.arange(len(log_x))
    at_data = np.zeros((len(log_x), len(nodes)))
    at_data[rows, left], at_data[rows, left + 1] = 1.0 - share, share
    curvature = np.diff(np.eye(len(nodes)), 2, axis=0) / step**2
    weighted = at_data.T / errors**2
    return np.linalg.solve(weighted @ at_data + ROUGHNESS * step * curvature.T @ curvature, weighted @ values)


def _outer_density(x):
    """ln n_e: a beta model with a cusp whose slopes are those of the mean emission measure of Eckert's 3 samples."""
    return -0.7 * np.log(x) - 0.825 * np.log1p((x / 0.35) ** 2)


def _outer_temperature(x):
    """ln kT: decline of the mean profile of Vikhlinin et al. (2006, ApJ 640, 691), equation 9 [from memory]."""
    return -0.45 * np.log1p((x / 0.6) ** 2)


def smooth_profile(shells):
    """
    M500 [Msun], R500 [kpc], r/R500 of the first and last shell, n_e and kT on `GRID`; a string that says why not.

    R500 is that of the outer temperature at z = 0, whatever the redshift, and n_e is not rescaled: where n_e ~ r^-2
    that equals the self-similar evolution, and cool cores are seen not to evolve (McDonald et al. 2017, ApJ 843, 28).
    Inside the first shell both curves are constant; beyond the last, they go on in the mean shapes above.
    """
    ok = np.all(np.isfinite(shells), axis=1) & np.all(shells > 0, axis=1)
    radius, n_e, n_e_err, temperature, temperature_err = shells[ok].T
    if len(radius) < 6:
        return "fewer than 6 shells"
    m_500 = float(mass_of_temperature(outer_temperature(radius, n_e, temperature)))
    r_500 = float(r_500_of(m_500))
    x = radius / r_500
    if x[0] > 0.02 or x[-1] < 0.05:
        return "shells do not reach from 0.02 to 0.05 R500"
    curves = []
    for values, errors, outer in (
        (n_e, n_e_err, _outer_density),
        (temperature, temperature_err, _outer_temperature),
    ):
        relative = np.hypot(np.where(x < CORE, 0.0, errors / values), PROFILE_FLOOR)
        curve = _smoothed(np.log(x), np.log(values), relative)
        first, last = (int(np.searchsorted(GRID, edge)) for edge in (x[0], x[-1]))
        curve[:first] = curve[first]
        curve[last:] = curve[last - 1] + outer(GRID[last:]) - outer(GRID[last - 1])
        curves.append(np.exp(curve))
    return m_500, r_500, x[0], x[-1], *curves


def _rounded(values):
    return np.array([float(f"{value:.4g}") for value in np.ravel(values)]).reshape(np.shape(values))


def _write(path, clusters, digest, columns, meta):
    """Digest every cluster and write the table; ``columns``: name -> unit or None."""
    rows, reasons = [], defaultdict(int)
    for name, shells in sorted(clusters.items()):
        result = digest(shells)
        if isinstance(result, str):
            reasons[result] += 1
        else:
            rows.append((name, *result))
    names, *others = zip(*rows, strict=True)
    table = QTable({"name": names})
    for (name, unit), values in zip(columns.items(), others, strict=True):
        table[name] = _rounded(values) if unit is None else _rounded(values) * unit
    if "n_shells" in columns:
        table["n_shells"] = table["n_shells"].astype(int)
    table.meta = {"source": SOURCE, **meta, "n_clusters": len(clusters), "left_out": dict(reasons)}
    table.write(path, format="ascii.ecsv", overwrite=True)


def main():
    """Write the list of the public test, and digest the other clusters into two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accept", help="ACCEPT main table, gzipped")
    parser.add_argument("folder", type=Path, help="folder of the three files to write")
    arguments = parser.parse_args()
    clusters = read_accept(arguments.accept)
    public_test = sorted(clusters)[::3]
    lines = ["# Every third cluster of ACCEPT, by sorted name: never part of a population or a fit.", *public_test]
    (arguments.folder / "accept_public_test.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    clusters = {name: shells for name, shells in clusters.items() if name not in public_test}
    entropy = u.keV * u.cm**2
    units = [entropy, entropy, None, entropy, entropy, None, u.keV, u.kpc, u.kpc, None, None]
    names = "k_0 k_100 alpha k_0_err k_100_err alpha_err temperature r_min r_max n_shells rms".split()
    _write(
        arguments.folder / "accept_entropy_profiles.ecsv",
        clusters,
        fit_cluster,
        dict(zip(names, units, strict=True)),
        {
            "model": "K(r) = k_0 + k_100 (r / 100 kpc)^alpha, K = kT n_e^(-2/3)",
            "temperature": "mean over shells outside 50 kpc weighted by n_e^2 r^3",
        },
    )
    _write(
        arguments.folder / "accept_profiles.ecsv",
        clusters,
        smooth_profile,
        {"m_500": u.Msun, "r_500": u.kpc, "x_min": None, "x_max": None, "n_e": u.cm**-3, "temperature": u.keV},
        {
            "model": "n_e and kT at x = r / r_500, smoothed, constant below x_min, mean outer shapes beyond x_max",
            "m_500": "of the mean temperature outside 50 kpc, at z = 0: Sun et al. 2009, ApJ 693, 1142",
            "x": [float(f"{x:.6g}") for x in GRID],
        },
    )


if __name__ == "__main__":
    main()
