"""
Conventional measures of images of real profiles, beside their truth; and a deprojection beside pyproffit's.

``python benchmarks/conventional_measures.py SHARED_DATA`` makes images of the clusters of ACCEPT from their own shells
of density and temperature: round, with the counts per emission of each shell's temperature, continued outwards by a
power law, seen by ACIS-I. It prints for some settings

- bias and scatter of the central density, and the pulls of its error;
- Spearman's correlation of each measure with ACCEPT's cooling time within 0.012 R500, and the mean F1 of the classes of
  Su et al. (2020): with fixed cuts, and ranked, which is told the class fractions;
- cooling times of `astroclassify.workflows.image_cooling_time`, from the image alone and with the temperature given.

``--part train`` (the default) takes the two thirds of the clusters that may be looked at, ``--part test`` every third.
``--peer`` instead deprojects ROSAT's image of Abell 3158 with pyproffit (Eckert et al. 2020, to be installed) by onion
peeling, both without a PSF, and prints densities and times. Run it with OMP_NUM_THREADS=1; a minute per setting.
"""

import argparse
import gzip
import time
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from astroclassify.images import DEFAULT_COSMOLOGY, SkyImage, read_image
from astroclassify.images.morphology._deprojection import sphere_in_cylinder
from astroclassify.morphology import core_measures, deproject
from astroclassify.schemes import C_SB_BOUNDS, N_E_BOUNDS, T_COOL_BOUNDS
from astroclassify.sim import Observation
from astroclassify.sim.engines._direct import band_weight, photon_flux_factor
from astroclassify.sim.physics._plasma import load_emissivity
from astroclassify.workflows import image_cooling_time
from astroclassify.workflows._cooling import _radius

CM3 = (u.kpc**3).to(u.cm**3)
RATE = u.ct * u.cm**3 / u.s
PIXELS, WIDTH = 256, 1000.0  # the image: 1 Mpc
FINER = 4  # points of the brightness along a pixel
CENTRE = SkyCoord(150 * u.deg, 2 * u.deg)
# name: redshift, exposure [ks], background over the default, PSF [arcsec]
SETTINGS = {
    "z 0.05, 100 ks": (0.05, 100, 1.0, 1.0),
    "z 0.05, 10 ks": (0.05, 10, 1.0, 1.0),
    "z 0.05, 30 ks, background x 3": (0.05, 30, 3.0, 1.0),
    "z 0.2, 30 ks": (0.2, 30, 1.0, 1.5),
    "z 0.3, 30 ks, PSF 6 arcsec": (0.3, 30, 1.0, 6.0),
}


def counts_per_emission(kT, observation):
    """Count rate per emission measure [ct cm3 / s] of gas of 0.3 solar metals at some temperatures [keV]."""
    table = load_emissivity()
    weight = band_weight(np.asarray(table.energy_edges), observation.redshift, 1.0, observation)
    spectra = table.spectrum(np.clip(kT, 0.1, 80), np.full(np.shape(kT), 0.3))
    return spectra @ weight * photon_flux_factor(observation.redshift, DEFAULT_COSMOLOGY)


def read_accept(path, part):
    """Shells of each cluster from the centre out: radii [kpc], density [cm-3], kT [keV], tcool3/2 [Gyr]."""
    rows = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if not line.startswith("#"):
                name, *numbers = line.split()
                rows.setdefault(name, []).append([float(number) for number in numbers])
    clusters = {}
    for index, name in enumerate(sorted(rows)):
        if part != "all" and (index % 3 == 0) != (part == "test"):
            continue
        shells = np.array(rows[name])
        shells = shells[np.argsort(shells[:, 0])][:, [0, 1, 2, 12, 17]].T
        shells = shells[:, np.isfinite(shells).all(axis=0) & (shells[2:] > 0).all(axis=0)]
        shells[:2] *= 1e3
        if shells.shape[1] >= 5:
            clusters[name] = shells
    return clusters


def mean_temperature(shells):
    """Temperature [keV] weighted with the emission outside 70 kpc."""
    inner, outer, density, kT, _ = shells
    weight = density**2 * (outer**3 - inner**3)
    far = 0.5 * (inner + outer) > 70
    far = far if far.sum() >= 3 else np.ones(len(kT), bool)
    return np.average(kT[far], weights=weight[far])


def truth(shells, radius):
    """Density and cooling time within a radius, weighted with the mass of gas; the first shell reaches the centre."""
    edges = np.minimum(np.concatenate([[0.0], shells[1]]), radius)
    weight = np.diff(edges**3) * shells[2]
    return np.average(shells[2], weights=weight), np.average(shells[4], weights=weight)


def projected(shells, observation):
    """Radii [kpc] and the light [ct/s] within them on the sky."""
    _, outer, density, kT, _ = shells
    inner = np.concatenate([[0.0], outer[:-1]])
    middle = 0.5 * (inner + outer)
    last = middle > middle[-1] / 3
    slope = np.clip(np.polyfit(np.log(middle[last]), np.log(density[last]), 1)[0], -2.5, -1.2)
    if outer[-1] < 3000:
        edges = np.geomspace(outer[-1], 3000, 60)
        between = np.sqrt(edges[1:] * edges[:-1])
        steeper = slope - 0.7 * (between > 400)
        inner, outer = np.concatenate([inner, edges[:-1]]), np.concatenate([outer, edges[1:]])
        density = np.concatenate([density, np.median(density[-3:]) * (between / middle[-2]) ** steeper])
        kT = np.concatenate([kT, np.full(len(between), kT[-1])])
    emissivity = density**2 / 1.2 * counts_per_emission(kT, observation) * CM3
    radii = np.concatenate([[0.0], np.geomspace(0.2, 2900, 600)])
    column = radii[:, np.newaxis]
    shared = sphere_in_cylinder(outer, np.minimum(outer, column)) - sphere_in_cylinder(inner, np.minimum(inner, column))
    return radii, shared @ emissivity


def make_image(shells, observation, background, psf, rng):
    """Poisson image of a cluster; ``background`` in counts per pixel, ``psf`` in arcsec."""
    radii, light = projected(shells, observation)
    pixel = WIDTH / PIXELS
    arcsec = pixel / DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(observation.redshift).to_value(u.kpc / u.arcsec)
    axis = (np.arange(PIXELS * FINER) - (PIXELS * FINER - 1) / 2) * pixel / FINER
    brightness = np.diff(light) / (np.pi * np.diff(radii**2))
    where = np.sqrt(0.5 * (radii[1:] ** 2 + radii[:-1] ** 2))
    fine = np.interp(np.hypot(axis, axis[:, np.newaxis]), where, brightness) * (pixel / FINER) ** 2
    fine = gaussian_filter(fine, psf / np.sqrt(8 * np.log(2)) / arcsec * FINER, truncate=6)
    rate = fine.reshape(PIXELS, FINER, PIXELS, FINER).sum(axis=(1, 3))
    seconds = observation.exposure.to_value(u.s)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [CENTRE.ra.deg, CENTRE.dec.deg]
    wcs.wcs.crpix, wcs.wcs.cdelt = [(PIXELS + 1) / 2] * 2, [-arcsec / 3600, arcsec / 3600]
    meta = {"REDSHIFT": observation.redshift, "EXPOSURE": seconds, "PSFFWHM": psf}
    return SkyImage(rng.poisson(rate * seconds + background).astype(float), unit="ct", wcs=wcs, meta=meta)


def measure(clusters, redshift, exposure, background, psf):
    """A row of numbers per cluster, as a dict of arrays."""
    observation = Observation(redshift=redshift, exposure=exposure * u.ks)
    scale = WIDTH / PIXELS / DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(redshift).to_value(u.kpc / u.arcsec)
    level = observation.background.to_value(u.ct / u.s / u.arcsec**2) * exposure * 1e3 * scale**2 * background
    given = {"counts_per_emission": counts_per_emission(4.0, observation) * RATE, "background": level}
    rows, seconds = [], 0.0
    for index, shells in enumerate(clusters.values()):
        kT = mean_temperature(shells)
        radius = _radius(kT, redshift, DEFAULT_COSMOLOGY)
        if shells[0, 0] > 0.012 * radius:
            continue
        image = make_image(shells, observation, level, psf, np.random.default_rng(index))
        density, t_cool = truth(shells, 0.012 * radius)
        start = time.perf_counter()
        found = core_measures(image, r_500=radius * u.kpc, **given)
        seconds += time.perf_counter() - start
        row = {"n_e": density, "t_cool": t_cool, "counts": image.data.sum() - level * image.size}
        row |= {name: float(getattr(value, "value", value)) for name, (value, _) in found.items()}
        row["n_e_image_err"] = found["n_e_image"][1].value
        for name, extra in (("t_cool_image", {}), ("t_cool_image, T given", {"temperature": kT * u.keV})):
            try:
                row[name] = image_cooling_time(image, **given, **extra)["t_cool_image"][0].value
            except ValueError:
                row[name] = np.nan
        rows.append(row)
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return table, seconds / len(rows)


def classes(values, cuts):
    """0, 1, 2 for CC, WCC, NCC; -1 where there is no value."""
    values, cuts = (values, cuts) if cuts[1] > cuts[0] else (-values, [-cut for cut in cuts])
    found = np.where(values < cuts[0], 0, np.where(values <= cuts[1], 1, 2))
    return np.where(np.isfinite(values), found, -1)


def ranked(values, true):
    """Classes by rank, low first, with the true numbers of each."""
    order = np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable")
    found = np.empty(len(values), int)
    found[order] = np.searchsorted(np.cumsum(np.bincount(true, minlength=3)), np.arange(len(values)), side="right")
    return found


def mean_f1(found, true):
    """Mean over the classes of the F1 score."""
    shared = [np.sum((found == label) & (true == label)) for label in range(3)]
    return np.mean([2 * n / (np.sum(found == label) + np.sum(true == label)) for label, n in enumerate(shared)])


def spread(values):
    """Half of the range of the middle 68%."""
    low, high = np.percentile(values, [16, 84])
    return (high - low) / 2


def report(name, table, seconds):
    """Print what was found."""
    good = np.isfinite(table["n_e_image"])
    ratio = table["n_e_image"][good] / table["n_e"][good]
    pull = np.log(ratio) / (table["n_e_image_err"][good] / table["n_e_image"][good])
    low, middle, high = np.percentile(table["counts"], [10, 50, 90])
    print(f"\n{name}: {len(good)} clusters, {low:.0f} / {middle:.0f} / {high:.0f} counts (10, 50, 90%)")
    print(f"  {seconds:.3f} s for the measures of an image")
    print(
        f"  n_e of the image over ACCEPT's [dex]: median {np.median(np.log10(ratio)):+.3f}, 68% half range "
        f"{spread(np.log10(ratio)):.3f}, rms {np.std(np.log10(ratio)):.3f}; pulls {np.median(pull):+.2f} +- "
        f"{spread(pull):.2f}; {np.sum(~good)} not measured"
    )
    true = classes(table["t_cool"], T_COOL_BOUNDS)
    cuts = {"c_sb": C_SB_BOUNDS, "c_sb_corrected": C_SB_BOUNDS, "n_e_image": N_E_BOUNDS, "n_e": N_E_BOUNDS}
    print(f"  classes {np.bincount(true)}\n  {'measure':24s} rank correlation  F1 fixed  F1 ranked")
    for measured in (*cuts, "central_brightness", "cuspiness_image", "t_cool_image", "t_cool_image, T given"):
        values = table[measured]
        is_time = measured.startswith("t_cool")
        fixed = "      "
        if is_time or measured in cuts:
            fixed = f"{mean_f1(classes(values, T_COOL_BOUNDS if is_time else cuts[measured]), true):.3f} "
        rank = mean_f1(ranked(values if is_time else -values, true), true)
        has = np.isfinite(values)
        print(f"  {measured:24s} {spearmanr(values[has], table['t_cool'][has])[0]:+16.3f}    {fixed}    {rank:.3f}")
    for measured in ("t_cool_image", "t_cool_image, T given"):
        ratio = np.log10(table[measured] / table["t_cool"])
        print(f"  {measured} / ACCEPT's [dex]: median {np.nanmedian(ratio):+.3f}, rms {np.nanstd(ratio):.3f}")


def compare_with_pyproffit(folder):
    """Shape of Abell 3158's density from ROSAT's image, by both programs, and their times."""
    import pyproffit

    names = [folder / "rosat" / f"pyproffit_{part}_37.fits.gz" for part in ("b", "expose_mask", "back")]
    place = SkyCoord(55.72 * u.deg, -53.63 * u.deg)
    radii = np.array([60.0, 100, 200, 400, 800]) * u.kpc
    image = read_image(names[0])
    with fits.open(names[1]) as exposure, fits.open(names[2]) as background:
        image.exposure, level = exposure[0].data.astype(float), background[0].data.astype(float)
    start = time.perf_counter()
    ours = deproject(image, redshift=0.059, background=level, centre=place, outer=1.5 * u.Mpc)
    spent = time.perf_counter() - start
    density, error = ours.density(radii)
    kpc = ours.profile.meta["kpc_per_arcsec"]
    data = pyproffit.Data(imglink=str(names[0]), explink=str(names[1]), bkglink=str(names[2]))
    profile = pyproffit.Profile(data, center_choice="custom_fk5", center_ra=55.72, center_dec=-53.63, maxrad=22.0,
                                binsize=30.0)  # fmt: skip
    start = time.perf_counter()
    profile.SBprofile()
    theirs = pyproffit.Deproject(z=0.059, profile=profile, cf=1.0)
    theirs.OnionPeeling(nmc=1000)
    middle = profile.bins * 60 * kpc
    dens, dens_err = (np.interp(radii.value, middle, each) for each in (theirs.dens, theirs.dens_lo))
    print("\nAbell 3158, ROSAT PSPC: density over that at 200 kpc")
    print("  radius [kpc]", *(f"{value:9.0f}" for value in radii.value))
    print("  ours        ", *(f"{value:9.4f}" for value in density / density[2]), f"  {spent:.2f} s")
    print("  error       ", *(f"{value:9.4f}" for value in error / density[2]))
    print("  pyproffit   ", *(f"{value:9.4f}" for value in dens / dens[2]), f"  {time.perf_counter() - start:.2f} s")
    print("  its low end ", *(f"{value:9.4f}" for value in dens_err / dens[2]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("--part", choices=("train", "test", "all"), default="train")
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    if options.peer:
        compare_with_pyproffit(options.shared_data)
        return
    clusters = read_accept(options.shared_data / "profiles" / "accept_main_table.txt.gz", options.part)
    for name, setting in SETTINGS.items():
        report(name, *measure(clusters, *setting))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
