"""
Which cameras and which energy band find most clusters: what the advice in the documentation rests on.

``python benchmarks/band_advice.py OUT`` has two parts, each a small table in ``OUT``:

``cameras.ecsv``: the same simulated skies seen by EPIC pn alone, and by pn with both MOS cameras, added (as ``detect``
does on the command line) and fitted apart (``detect`` with a list). C1 found, the share of them that are clusters,
and how many of the true clusters were found, by their counts in pn, so that one row speaks of the same clusters. A MOS
camera is a pn of `MOS_SHARE` of the time, with gaps of its own: its PSF is in truth a little sharper and its field
round, which would both help it. Clusters are `DENSITY` times as dense as on the sky, which flatters all purities alike.

``bands.ecsv``: the signal-to-noise ratio S / sqrt(S + B) of a cluster in an aperture, on axis, by band and redshift,
from the effective areas and background spectra that the package holds: ACIS-I, early and late. ``--pn-arf FILE`` adds
EPIC pn, whose particles are then taken to be flat in energy, at the simulator's rate in 0.5 to 2 keV: below 0.5 keV,
where its electronic noise rises, that is too few. No areas of MOS, eROSITA, XRT, FXT and PSPC are packaged. The
simulator has the band 0.5 to 2 keV alone, so that bands are not tried on fields.

Ten minutes with the default number of fields; ``--fields 0`` computes the bands only.
"""

import argparse
import math
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.cosmology import Planck18
from astropy.io import fits
from astropy.table import QTable
from survey_performance import MAX_OFF_AXIS, in_class, is_cluster, match, share

from astroclassify import batch, tables
from astroclassify.exceptions import EmptyResultWarning
from astroclassify.fields._beta import beta_share
from astroclassify.sim import simulate_field
from astroclassify.sim.physics._absorption import transmission
from astroclassify.sim.physics._background import foreground_rate, particle_rate, unresolved_rate
from astroclassify.sim.physics._plasma import load_emissivity
from astroclassify.sim.physics._response import RESPONSES, Response, load_response
from astroclassify.sim.sky._population import POPULATION
from astroclassify.survey import combine_fields, detect

# --- Cameras ----------------------------------------------------------------------------------------------------------
MOS_SHARE = 0.4  # counts of one MOS camera over those of pn, 0.5 to 2 keV [from memory, to about 10 %]
DENSITY = {"cluster": 4, "bright": 0, "arc": 0, "hot": 0}
KINDS = ("agn", "star", "cluster", "clump", "galaxy")  # what the cameras see alike
PIXEL, SHAPE = 4 * u.arcsec, (400, 400)  # all within 13 arcmin
COUNTS = (20, 50, 100, 200, 500, np.inf)  # ct in pn, edges of the bins

# --- Bands ------------------------------------------------------------------------------------------------------------
BANDS = ((0.5, 2.0), (0.4, 4.0), (0.5, 4.0), (0.5, 7.0))  # keV
REDSHIFTS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
# A choice: a cluster of this temperature [keV], metallicity [solar] and luminosity (rest frame, 0.5 to 2 keV); a beta
# model (2/3) of this core radius, within twice of which it is looked for; column [cm-2] of the Galaxy; exposure.
TEMPERATURE, METALLICITY, LUMINOSITY = 3.0, 0.3, 5e43 * u.erg / u.s
CORE, NH, EXPOSURE = 150 * u.kpc, 3e20, 20 * u.ks


def main():
    parser = argparse.ArgumentParser(description="cameras and bands: what finds most clusters")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the tables; what is there is replaced")
    parser.add_argument("--fields", type=int, default=8, help="simulated fields (default: %(default)s)")
    parser.add_argument("--exposure", type=float, default=10.0, help="ks in pn (default: %(default)s)")
    parser.add_argument("--pn-arf", type=Path, help="effective area of EPIC pn, an OGIP ARF")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wanted = {"bands": bands(arguments.pn_arf)}
    if arguments.fields:
        wanted["cameras"] = cameras(arguments.fields, arguments.exposure * u.ks, arguments.seed)
    for name, rows in wanted.items():
        table = QTable(rows=list(rows))
        tables.write(table, arguments.out / f"{name}.ecsv", overwrite=True)
        print(name, *table.pformat(max_lines=-1, max_width=-1), sep="\n")


def cameras(n_fields, exposure, seed):
    """Rows of the table: one for each way of using the cameras, class C1, and one for each bin of counts."""
    found = {name: [] for name in ("pn", "pn+MOS added", "pn+MOS apart")}
    for number in range(n_fields):
        truth, seen = one_sky(exposure, batch.derive_rng(seed, "sky", number))
        ways = {"pn": seen[0], "pn+MOS added": combine_fields(seen), "pn+MOS apart": seen}
        for name, fields in ways.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyResultWarning)
                candidates = detect(fields, max_off_axis=MAX_OFF_AXIS * u.arcmin)
            there = truth.copy()
            there["counts"] *= 1.0 if name == "pn" else 1 + 2 * MOS_SHARE
            match(there, candidates)
            found[name].append((truth["counts"].to_value(u.ct), there, candidates))
            print(f"field {number + 1} of {n_fields}, {name}: {len(candidates)} candidates", flush=True)
    for name, results in found.items():
        c1 = np.concatenate([candidates["truth"][in_class(candidates, "C1")] for _, _, candidates in results])
        purity = zip(("purity", "purity_lo", "purity_hi"), share(int(np.sum(c1 == "cluster")), len(c1)), strict=True)
        row = {"cameras": name, "n_c1": len(c1), **{key: round(value, 3) for key, value in purity}}
        counts, is_c1, is_c12 = (
            np.concatenate(parts) for parts in zip(*map(classes_of_clusters, results), strict=True)
        )
        for low, high in zip(COUNTS[:-1], COUNTS[1:], strict=True):
            here = (counts >= low) & (counts < high)
            yield {
                **row,
                "pn_counts_lo": low * u.ct,
                "pn_counts_hi": high * u.ct,
                "n_clusters": int(here.sum()),
                "as_c1": int(is_c1[here].sum()),
                "as_c1_or_c2": int(is_c12[here].sum()),
            }


def one_sky(exposure, rng):
    """Truth [counts in pn], and the fields of pn, MOS1 and MOS2, of one sky; each camera draws its own photons."""
    sky = simulate_field(rng=rng, exposure=exposure, pixel=PIXEL, shape=SHAPE, density=DENSITY)
    known = np.isin(np.asarray(sky.truth["kind"], str), KINDS) & np.isfinite(sky.truth["core_radius"])
    sources = sky.truth[known]
    wanted = sources["source_id", "sky_position", "core_radius", "flux"]
    nothing = dict.fromkeys(sky.truth.meta["density"], 0.0)
    settings = {"pixel": PIXEL, "shape": SHAPE, "position": sky.field.axis, "density": nothing, "injected": wanted}
    shares = (1.0, MOS_SHARE, MOS_SHARE)
    seen = [simulate_field(rng=rng, exposure=exposure * part, **settings) for part in shares]
    truth = seen[0].truth
    for name in ("kind", "label"):  # in the order in which they were put in
        truth[name] = sources[name]
    near = truth["off_axis"] <= MAX_OFF_AXIS * u.arcmin
    return truth[near & (truth["counts"] >= 5 * u.ct)], [each.field for each in seen]


def classes_of_clusters(result):
    """Counts in pn of true clusters, whether each is found as C1, and as C1 or C2."""
    counts, truth, candidates = result
    chosen = is_cluster(truth) & (truth["flags"] == 0)
    partner = np.asarray(truth["candidate"])[chosen]
    passed = (np.append(in_class(candidates, name), False)[partner] for name in ("C1", "C1+C2"))
    return counts[chosen], *passed


def bands(pn_arf):
    """Rows of the table: one for each instrument and redshift, the signal-to-noise ratio in each band."""
    responses = [(load_response(name), particle_rate) for name in RESPONSES]
    if pn_arf is not None:
        responses.append((read_arf(pn_arf), lambda band: POPULATION.particle_rate * (band[1] - band[0]) / 1.5))
    for response, particles in responses:
        for redshift in REDSHIFTS:
            ratios = {
                f"{low:g}-{high:g}": signal_to_noise(response, particles, redshift, (low, high)) for low, high in BANDS
            }
            yield {"instrument": response.name, "redshift": redshift, **ratios, "best": max(ratios, key=ratios.get)}


def signal_to_noise(response, particles, redshift, band):
    """S / sqrt(S + B) of the cluster within twice its core radius, on axis."""
    radius = float((2 * CORE / Planck18.kpc_proper_per_arcmin(redshift)).to_value(u.arcmin))
    rate = foreground_rate(response, band) + unresolved_rate(response, band, NH) + particles(band)
    seconds = EXPOSURE.to_value(u.s)
    background = rate * math.pi * radius**2 * seconds
    signal = cluster_rate(response, redshift, band) * beta_share(2.0) * seconds
    return round(float(signal / np.sqrt(signal + background)), 2)


def cluster_rate(response, redshift, band):
    """Count rate [s-1] of the whole cluster in a band [keV]."""
    plasma = load_emissivity()
    photons, energy = plasma.spectrum(TEMPERATURE, METALLICITY), plasma.energy  # rest frame, any norm
    soft = (energy >= 0.5) & (energy < 2.0)
    norm = LUMINOSITY.to_value(u.keV / u.s) / np.sum((photons * energy)[soft])
    seen = energy / (1 + redshift)
    inside = (seen >= band[0]) & (seen < band[1])
    distance = Planck18.luminosity_distance(redshift).to_value(u.cm)
    per_area = norm * photons * (1 + redshift) / (4 * math.pi * distance**2) * transmission(seen, NH)
    return float(np.sum((per_area * response.area(seen))[inside]))


def read_arf(path):
    """An OGIP ARF as a response of the package."""
    with fits.open(path) as hdus:
        data = hdus["SPECRESP"].data
        edges = np.append(data["ENERG_LO"], data["ENERG_HI"][-1]).astype(float)
        return Response("EPN", edges, np.array(data["SPECRESP"], float))


if __name__ == "__main__":
    main()
