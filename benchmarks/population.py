"""
The embedded population beside the real clusters of ACCEPT, at equal central cooling time and mass.

Every cluster is seen through the default `Observation` (ACIS-I, z = 0.05, 100 ks, 0.5-7 keV) without Poisson noise. The
real ones are spheres of ACCEPT's own shells, neither mixed nor disturbed, extrapolated as in
``tools/fit_accept_profiles.py``, with the mean metallicity of a population's cluster of that central entropy; their
cooling time is that of the same gas. In each range of cooling times the
clusters of the population are weighted to the masses of the real ones there. Central measures are within 0.012 R500.

Prints the table, writes it and draws the figure of the documentation:

python benchmarks/population.py accept_main_table.txt.gz --csv docs/science/measured/population.csv
--figure docs/_static/population_accept.png
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify import tables
from astroclassify.batch import derive_rng
from astroclassify.images import concentration
from astroclassify.sim import EmbeddedPopulation, Observation, expected_counts, measure_core
from astroclassify.sim.embedded import _physics as physics
from astroclassify.sim.embedded._cells import draw_cells
from astroclassify.sim.embedded._cluster import Body, Cluster, Disturbances
from astroclassify.sim.embedded._layout import UNITS, common_header, to_code_units
from astroclassify.sim.halos._tng_gas import cosmology_of, halo_from_gas

SEED = 2015
CELLS = 60_000
EDGES = [0.0, 1.0, 1.5, 2.5, 4.0, 7.7, 12.0, np.inf]  # Gyr
MEASURES = {"n_e": "n_e [cm-3]", "temperature": "kT [keV]", "c_sb_raw": "raw C_SB", "c_sb": "C_SB, background off"}


def measured(halo, observation):
    """Central measures of a halo and both concentrations of its image."""
    core = measure_core(halo)
    image = expected_counts(halo, observation)
    pixel_arcsec2 = (image.wcs.proj_plane_pixel_area()).to_value(u.arcsec**2)
    background = (observation.background * observation.exposure).to_value(u.ct / u.arcsec**2) * pixel_arcsec2
    return {
        "m_500": halo.m_500.value,
        "t_cool": core.t_cool.to_value(u.Gyr),
        "n_e": core.n_e.value,
        "temperature": core.temperature.value,
        "c_sb_raw": concentration(image),
        "c_sb": concentration(image, background=background),
        "n_cells": core.n_cells,
    }


def accept_halos(path):
    """The real clusters as spherical halos: name, whether it is of the public test, halo."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
    import fit_accept_profiles as tool

    clusters = tool.read_accept(path)
    header = common_header("ACCEPT")
    for number, name in enumerate(sorted(clusters)):
        digest = tool.smooth_profile(clusters[name])
        if isinstance(digest, str):
            continue
        m_500, r_500, _, _, n_e, temperature = digest
        gas = physics.GasProfile(tool.GRID * r_500, n_e * physics.ELECTRON_TO_DENSITY, temperature)
        bodies = (Body(physics.Nfw(m_500, 3.0), gas, (name,)),)
        metals = (0.28, 0.33 + 0.5 / (1.0 + gas.central_entropy / 40.0), 0.08, 0.0)
        cluster = Cluster(m_500, r_500, bodies, Disturbances(metals=metals), np.zeros((0, 4)), {})
        cells = draw_cells(cluster, derive_rng(SEED, name), cell_mass=2e6, max_cells=CELLS)
        centre = np.full(3, 1e5)
        group = {
            "GroupPos": UNITS.kpc(centre, inverse=True),
            "GroupVel": np.zeros(3),
            "Group_M_Crit500": UNITS.msun(m_500, inverse=True),
            "Group_R_Crit500": UNITS.kpc(r_500, inverse=True),
        }
        yield (
            name,
            number % 3 == 0,
            halo_from_gas(
                to_code_units(cells, centre, np.zeros(3)),
                group,
                header=header,
                halo_id=number,
                simulation="ACCEPT",
                snapshot=99,
                cosmology=cosmology_of(header),
                origin=str(path),
            ),
        )


def population_rows(real_share, n_halos, observation):
    """Measures of the clusters of a population of one kind."""
    population = EmbeddedPopulation(n_halos, rng=SEED, real_share=real_share, max_cells=CELLS)
    for halo_id in range(n_halos):
        halo = population.read_halo(halo_id)
        yield {"sample": halo.meta["kind"], "name": halo.meta["profile"], **measured(halo, observation)}


def weighted_percentiles(values, weights, shares):
    """Percentiles of weighted values; NaN where none has weight."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    if not len(values) or cumulative[-1] <= 0:
        return np.full(len(shares), np.nan)
    return np.interp(shares, (cumulative - 0.5 * weights[order]) / cumulative[-1], values[order])


def compared(rows):
    """One row per range of cooling times and measure: median and half of 16-84% (dex) of every sample."""
    log_m = np.log10(rows["m_500"])
    real = np.isin(rows["sample"], ["ACCEPT", "ACCEPT, public test"])
    samples = {
        "accept": rows["sample"] == "ACCEPT",
        "accept_all": real,
        "real": rows["sample"] == "real",
        "parametric": rows["sample"] == "parametric",
    }
    made = []
    for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
        here = (rows["t_cool"] >= low) & (rows["t_cool"] < high)
        masses = log_m[here & real]
        kernel = np.exp(-0.5 * ((log_m[:, None] - masses) / 0.15) ** 2).sum(axis=1)
        for measure in MEASURES:
            row = {"t_cool": f"{low:g}-{high:g}", "measure": measure}
            for sample, members in samples.items():
                chosen = here & members
                weight = np.ones(chosen.sum()) if sample.startswith("accept") else kernel[chosen]
                low_, middle, high_ = weighted_percentiles(
                    np.log10(np.array(rows[measure][chosen])), weight, [0.16, 0.5, 0.84]
                )
                row[f"n_{sample}"] = int(chosen.sum())
                row[sample] = 10**middle
                row[f"{sample}_dex"] = 0.5 * (high_ - low_)
            made.append(row)
    return QTable(made)


def write_csv(table, path):
    """Median and scatter of every sample as text, one line per measure and range of cooling times."""
    names = {"accept": "ACCEPT", "accept_all": "ACCEPT, all", "real": "real", "parametric": "parametric"}
    lines = [",".join(["measure", "t_cool [Gyr]", *(f'"{name}"' for name in names.values())])]
    for measure, label in MEASURES.items():
        for row in table[table["measure"] == measure]:
            cells = [f"{row[name]:.3g} ({row[f'{name}_dex']:.2f}; {row[f'n_{name}']})" for name in names]
            lines.append(",".join([f'"{label}"', row["t_cool"], *cells]))
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(rows, path):
    """Each measure against the cooling time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    style = {"real": ("C0", "."), "parametric": ("C1", "."), "ACCEPT": ("k", "x"), "ACCEPT, public test": ("0.5", "x")}
    for panel, (measure, label) in zip(axes.flat, MEASURES.items(), strict=True):
        for sample, (colour, marker) in style.items():
            members = rows["sample"] == sample
            panel.plot(rows["t_cool"][members], rows[measure][members], marker, color=colour, ms=4, label=sample)
        panel.set(xscale="log", yscale="log", ylabel=label, xlim=(0.08, 60))
        for edge in (1.0, 7.7):
            panel.axvline(edge, color="0.8", lw=0.8, zorder=0)
    for panel in axes[1]:
        panel.set_xlabel("central cooling time [Gyr]")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    parser.add_argument("accept", help="ACCEPT main table, gzipped")
    parser.add_argument("--halos", type=int, default=300, help="clusters of each kind (default: %(default)s)")
    parser.add_argument("--out", help="table of all clusters to write (.ecsv)")
    parser.add_argument("--csv", help="the comparison to write, for the documentation")
    parser.add_argument("--figure", help="figure to write")
    options = parser.parse_args()
    observation = Observation()
    rows = [
        {"sample": "ACCEPT, public test" if test else "ACCEPT", "name": name, **measured(halo, observation)}
        for name, test, halo in accept_halos(options.accept)
    ]
    for real_share in (1.0, 0.0):
        rows += population_rows(real_share, options.halos, observation)
    rows = QTable(rows)
    table = compared(rows)
    for name in table.colnames[2:]:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".2f" if name.endswith("_dex") else ".3g"
    table.pprint_all()
    rows.meta = tables.provenance(seed=SEED, halos=options.halos, max_cells=CELLS, observation=observation.to_meta())
    if options.out:
        tables.write(rows, options.out, overwrite=True)
    if options.csv:
        write_csv(table, options.csv)
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
