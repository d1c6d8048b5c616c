"""
A test set on the real sky's background: real XMM fields, what is known there, and sources that were put in.

Of each field are kept: the known objects (`FIELDS`), sources that look like points, and, of sources put in at places
away from the known ones, what detection finds of them. Clusters are circular beta models with fluxes, core radii and
redshifts of the luminosity function of `simulate_field`; points have fluxes of active nuclei. Labels of what was put in
follow `label_candidates`. There are no plates: ``flags`` has ``no_optical``. What is neither known nor put in is left
out. Columns beside those of candidates: ``origin`` (``real``, ``injected``), ``known`` (name), ``run``, ``exposure``,
``cameras``, ``e_min``, ``e_max``.

These candidates are no sample of the sky: of real clusters there are four, each much nearer and brighter than those of
a survey, and most fields are targets. They are for testing alone.
"""

import dataclasses
import logging
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, vstack
from scipy.ndimage import distance_transform_edt

from astroclassify import batch, tables
from astroclassify.exceptions import AstroclassifyWarning
from astroclassify.fields import inject_sources
from astroclassify.fields._beta import beta_share
from astroclassify.fields._inject import live_pixels
from astroclassify.fields._sky import draw_fluxes
from astroclassify.schemes import CANDIDATE
from astroclassify.sim import label_candidates
from astroclassify.sim.sky._clusters import draw_population
from astroclassify.sim.sky._population import POPULATION
from astroclassify.survey import NoImageError, detect, extract_cutouts, read_field

SEED = 2021
RUNS = 6  # times that sources are put into each field
CLUSTERS, POINTS = 6, 6  # put in each time, at most
LEAST = 30.0  # counts expected of what is put in; of less nothing is found
APART, CLEARANCE = 150.0, 16.0  # arcsec between sources put in, and to pixels that are not exposed
POINT_LIKE = 30.0  # DET_LIKE from which what is found at least like a point is one


@dataclasses.dataclass(frozen=True)
class Known:
    """An object of a field: the extended candidate with most counts within a radius [arcmin], or all of them."""

    name: str
    label: str
    place: tuple  # right ascension, declination [deg]
    radius: float
    redshift: float = np.nan
    pieces: bool = False

    def distance(self, candidates):
        """Of candidates [arcmin]."""
        return candidates["sky_position"].separation(SkyCoord(*self.place, unit="deg")).to_value(u.arcmin)


# Positions and radii from NED (clusters, galaxies) and Green's catalogue (remnants) as in `benchmarks/real_fields.py`;
# nothing is put into the discs. Coma8 is in 0.5 to 12 keV: nothing is put in at all, and its rows say the band.
FIELDS = {
    "A3667": (Known("A3667", "low_z", (303.16, -56.85), 9.0, 0.0556),),
    "M87": (Known("M87", "low_z", (187.706, 12.391), 20.0, 0.0043),),
    "NGC1399": (
        Known("NGC 1399", "low_z", (54.621, -35.451), 6.0, 0.0048),
        Known("NGC 1404", "galaxy", (54.717, -35.594), 3.0, 0.0065),
    ),
    "M51": (
        Known("NGC 5194", "galaxy", (202.470, 47.195), 3.0, 0.0015),
        Known("NGC 5195", "galaxy", (202.498, 47.266), 1.5, 0.0016),
    ),
    "RCW103": (Known("RCW 103", "other", (244.39, -51.03), 7.0, pieces=True),),
    "W49B": (Known("W49B", "other", (287.783, 9.105), 6.0, pieces=True),),
    "Coma8": (Known("Coma", "low_z", (194.95, 27.98), 26.0, 0.0231),),
}
NOT_FILLED = ("Coma8", "M87")  # of another band; a cluster all over the field


def make_real(folder, data, executor, extended, geometry):
    """Write the sample; ``extended``: cuts of candidates, ``geometry``: size and shape of the cutouts."""
    jobs = [
        (name, path, run, folder, extended, geometry)
        for name, path in real_images(data).items()
        for run in range(1 if name.startswith(NOT_FILLED) else 1 + RUNS)
    ]
    keys = [f"{name}-{run}" for name, _, run, *_ in jobs]
    outcomes = list(batch.run(_run, jobs, keys=keys, executor=executor, description="fields"))
    failed = [f"{each.key}: {each.error}" for each in outcomes if each.error is not None]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(jobs)} failed ({failed[0]}); the same command goes on")
    sample = vstack([each.value for each in outcomes if len(each.value)], metadata_conflicts="silent")
    sample.meta = tables.provenance(seed=SEED, scheme=CANDIDATE.to_dict())
    tables.write_sample(sample, folder, overwrite=True)
    injected = vstack([_plain(tables.read(path)) for path in sorted((folder / "injected").glob("*.ecsv"))])
    tables.write(injected, folder / "injected.ecsv", overwrite=True)
    return sample, injected


def real_images(data):
    """Images by name of field and exposure."""
    data = Path(data) / "xmm"
    paths = {"Coma8-22ks": data / "0124710801_PN_image_500-12000.fits"}
    for path in sorted((data / "real").glob("*ks.fits.gz")):
        paths["-".join(path.name.removesuffix(".fits.gz").split("_")[:: len(path.name.split("_")) - 1])] = path
    return paths


def _run(job):
    """Candidates of one run on one image, made unless they are there."""
    name, path, run, folder, extended, (size, shape) = job
    place = folder / "fields" / name / str(run)
    if not (place / tables.SAMPLE_FILE).is_file():
        logging.getLogger("astroclassify").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstroclassifyWarning)
            field = read_field(path)
            known = FIELDS[name.split("-")[0]]
            rows = _put_in(field, known, name, run, folder, extended) if run else _as_it_is(field, known, extended)
            rows["source_id"] = np.array([f"{name}-{run}-{number:03d}" for number in range(len(rows))], dtype="U40")
            rows["group_id"] = np.full(len(rows), name.split("-")[0], dtype="U16")
            rows["run"], rows["cameras"] = np.full(len(rows), run), np.full(len(rows), field.instrument)
            rows["exposure"] = np.full(len(rows), field.livetime) * u.s
            low, high = (0.5, 2.0) if field.energy_range is None else field.energy_range.to_value(u.keV)
            rows["e_min"], rows["e_max"] = (np.full(len(rows), end) * u.keV for end in (low, high))
            extract_cutouts(rows, field, optical=_no_plate, size=size, shape=shape, out=place, progress=False)
    sample = tables.read_sample(place)
    paths = [f"fields/{name}/{run}/{each}" if each else "" for each in sample["path"]]
    sample["path"] = np.array(paths, dtype="U80")
    return _plain(sample)


def _plain(table):
    """A table that goes with those of other fields, whose images may have coordinates of another frame."""
    icrs = table["sky_position"].icrs
    table["sky_position"], table.meta = SkyCoord(icrs.ra, icrs.dec), {}  # without attributes such as an equinox
    return table


def _no_plate(position, size):
    raise NoImageError("there is no plate")


def _as_it_is(field, known, extended):
    """Known objects, and what looks like a point away from them."""
    found = detect(field, max_off_axis=field.max_off_axis * u.arcmin)
    names, labels = np.full(len(found), "", dtype="U16"), np.full(len(found), "", dtype="U8")
    redshifts = np.full(len(found), np.nan)
    wide, free = extended.passed(found), np.ones(len(found), bool)
    for each in known:
        within = each.distance(found) < each.radius
        free &= ~within
        rows = np.flatnonzero(within & wide & (names == ""))
        if rows.size and not each.pieces:
            rows = rows[[np.argmax(np.nan_to_num(found["counts"][rows].to_value(u.ct)))]]
        names[rows], labels[rows], redshifts[rows] = each.name, each.label, each.redshift
    points = free & ~wide & (found["pnt_det_like"] > POINT_LIKE)
    labels[points] = "point"
    found["label"], found["known"], found["redshift"] = labels, names, redshifts
    found["origin"] = np.full(len(found), "real", dtype="U8")
    return found[labels != ""]


def _put_in(field, known, name, run, folder, extended):
    """What is found of sources put in; all that were put in are written to ``injected``."""
    rng = batch.derive_rng(SEED, name, run)
    sources = _draw(field, known, rng)
    found = detect(inject_sources(field, sources, rng=rng), max_off_axis=field.max_off_axis * u.arcmin)
    found = label_candidates(found, sources)
    kept = found["true_id"] != ""
    kept &= extended.passed(found) | (found["label"] == "point") & (found["det_like"] > POINT_LIKE)
    found = found[kept]
    found["redshift"], found["m_500"] = found["true_redshift"], found["true_m_500"]
    found["known"], found["origin"] = np.full(len(found), "", dtype="U16"), np.full(len(found), "injected", dtype="U8")
    sources["field"], sources["run"] = np.full(len(sources), name, dtype="U24"), np.full(len(sources), run)
    likes = dict(zip(found["true_id"], found["ext_like"], strict=True))
    sources["found"] = np.isin(sources["source_id"], list(likes))
    sources["ext_like"] = np.array([float(likes.get(each, np.nan)) for each in sources["source_id"]])
    (folder / "injected").mkdir(parents=True, exist_ok=True)
    tables.write(sources, folder / "injected" / f"{name}-{run}.ecsv", overwrite=True)
    return found


def _draw(field, known, rng):
    """Clusters and points at free places, as `inject_sources` and `label_candidates` take them."""
    rows, columns = np.indices(field.shape)
    free = distance_transform_edt(np.pad(live_pixels(field), 1))[1:-1, 1:-1] * field.pixel > CLEARANCE
    free &= field.off_axis(columns, rows) <= field.max_off_axis
    for each in known:
        x, y = field.wcs.world_to_pixel(SkyCoord(*each.place, unit="deg"))
        free &= np.hypot(columns - x, rows - y) * field.pixel > 60 * each.radius
    chosen = []
    for kind, wanted, candidates in (("cluster", CLUSTERS, _clusters(rng)), ("agn", POINTS, _points(rng))):
        number = 0
        for row in candidates:
            spots = np.flatnonzero(free)
            if number == wanted or not spots.size:
                break
            y, x = np.unravel_index(rng.choice(spots), free.shape)
            counts = row["flux"] * POPULATION.counts_per_flux * field.exposure[y, x] * (1 - POPULATION.out_of_time)
            if counts < LEAST:
                continue
            number += 1
            chosen.append({**row, "kind": kind, "x": float(x), "y": float(y), "counts": counts})
            free &= np.hypot(columns - x, rows - y) * field.pixel > APART
    return _table(field, chosen)


def _clusters(rng):
    """Clusters of the luminosity function, one after the other; most are too faint to be put in."""
    redshifts = POPULATION.redshifts[0][0], POPULATION.redshifts[1][1]
    drawn = draw_population(20_000, redshifts, rng)
    limit = POPULATION.extent_limit * drawn["r_500_arcsec"]
    # What is put in has no end: more flux, so that as much lies within the limit.
    drawn["flux"] = drawn["flux"] / beta_share(limit / drawn["core_radius"])
    names = ("flux", "core_radius", "redshift", "m_500")
    for values in zip(*(drawn[name].tolist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        yield {**row, "label": "low_z" if row["redshift"] < POPULATION.redshifts[0][1] else "high_z"}


def _points(rng):
    """Points with the fluxes of active nuclei."""
    for flux in draw_fluxes(20_000, 1e-15, POPULATION.brightest, rng).tolist():
        yield {"flux": flux, "core_radius": 0.0, "redshift": np.nan, "m_500": np.nan, "label": "point"}


def _table(field, rows):
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in ("x", "y", "counts", "flux")}
    values = {name: np.array([row[name] for row in rows], dtype=float) for name in ("core_radius", "redshift", "m_500")}
    return QTable(
        {
            "source_id": np.array([f"injected-{number:02d}" for number in range(len(rows))], dtype="U16"),
            "sky_position": field.wcs.pixel_to_world(columns["x"], columns["y"]),
            "x": columns["x"] * u.pix,
            "y": columns["y"] * u.pix,
            "kind": np.array([row["kind"] for row in rows], dtype="U8"),
            "label": np.array([row["label"] for row in rows], dtype="U8"),
            "flux": columns["flux"] * u.erg / u.s / u.cm**2,
            "counts": columns["counts"] * u.ct,
            "core_radius": values["core_radius"] * u.arcsec,
            "redshift": values["redshift"],
            "m_500": values["m_500"] * u.Msun,
        }
    )
