"""
Fit K(r) = K0 + K100 (r / 100 kpc)^alpha to the entropy profiles of ACCEPT and write the parameters for the package.

Input: the main table of the Archive of Chandra Cluster Entropy Profile Tables (Cavagnolo et al. 2009, ApJS 182, 12),
one row per radial shell, as distributed by the authors (gzipped text, 242 clusters). The entropy of a shell is
kT n_e^(-2/3) with its error from those of kT and n_e (and a floor of three per cent, for what differs between shells
and is not in the errors). Clusters are kept if they have at least 8 shells that reach from below 30 kpc (so that K0
means something) to beyond 70 kpc, a scatter about the fit below 20 per cent, and a fit inside its bounds.

Usage: python tools/fit_accept_profiles.py accept_main_table.txt.gz astroclassify/data/accept_entropy_profiles.ecsv
"""

import argparse
import gzip
from collections import defaultdict

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy.optimize import curve_fit

LOWER = np.array([0.0, 1.0, 0.3])
UPPER = np.array([1500.0, 3000.0, 2.5])
ERROR_FLOOR = 0.03


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
    # weighted by n_e^2 r^3 outside 50 kpc: roughly the spectroscopic temperature without the core
    outside = radius > min(50.0, radius[-1] / 2)
    mean = np.average(temperature[outside], weights=(n_e**2 * radius**3)[outside])
    best[0] = round(best[0], 3)
    return *best, *error, mean, radius[0], radius[-1], len(radius), rms


def main():
    """Fit every cluster and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accept", help="ACCEPT main table, gzipped")
    parser.add_argument("output", help="ECSV file to write")
    arguments = parser.parse_args()
    rows, reasons = [], defaultdict(int)
    clusters = read_accept(arguments.accept)
    for name, shells in sorted(clusters.items()):
        result = fit_cluster(shells)
        if isinstance(result, str):
            reasons[result] += 1
        else:
            rows.append((name, *result))
    columns = list(zip(*rows, strict=True))
    entropy = u.keV * u.cm**2
    units = [None, entropy, entropy, None, entropy, entropy, None, u.keV, u.kpc, u.kpc, None, None]
    names = "name k_0 k_100 alpha k_0_err k_100_err alpha_err temperature r_min r_max n_shells rms".split()
    table = QTable()
    for name, values, unit in zip(names, columns, units, strict=True):
        rounded = values if isinstance(values[0], str) else np.array([float(f"{value:.4g}") for value in values])
        table[name] = rounded if unit is None else rounded * unit
    table["n_shells"] = table["n_shells"].astype(int)
    table.meta = {
        "source": "fits by tools/fit_accept_profiles.py to the ACCEPT main table, Cavagnolo et al. 2009, ApJS 182, 12",
        "model": "K(r) = k_0 + k_100 (r / 100 kpc)^alpha, K = kT n_e^(-2/3)",
        "temperature": "mean over shells outside 50 kpc weighted by n_e^2 r^3",
        "n_clusters_in_accept": len(clusters),
        "left_out": dict(reasons),
    }
    table.write(arguments.output, format="ascii.ecsv", overwrite=True)


if __name__ == "__main__":
    main()
