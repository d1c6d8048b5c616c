"""
Make the candidates that classifiers of clusters are trained and judged on.

    python tools/make_candidates.py simulate FOLDER --workers 2
    python tools/make_candidates.py real FOLDER --data SHARED_DATA

``simulate`` writes three samples of what detection finds in simulated XMM fields (10 and 20 ks, pn alone and with both
MOS in turn; cutouts of 7 arcmin, 178 x 178 pixels, X-ray and plate):

- ``FOLDER/training``: 1707 candidates with the shares of the classes and the splits of Kosiba et al. (2020, MNRAS 496,
  4141), column ``split``; no field is in two splits. What else was found is in ``spare.ecsv``. Sources are denser than
  on the sky (`DENSITY`), and candidates wider than C1 and C2 (`EXTENDED`), or there would be too few that are no
  clusters.
- ``FOLDER/sky``: everything at the sky's densities and all that is found with EXT_LIKE above 3 (`ANY`).
  ``clusters.ecsv`` has all clusters of these fields, found or not, ``densities.csv`` what was found per square degree.
- ``FOLDER/sky-training``: the same from other fields, to train and validate: sources of denser fields differ.

``real`` writes a test set from real fields, ``FOLDER/real``: what is known there, and sources that were put in; see
`_real_candidates`.

Both bring what there is together in ``FOLDER``, one sample with the column ``origin`` (``simulated``, ``sky``,
``real``, ``injected``). Candidates of ``sky`` and of real fields have the split ``test`` there. Of the sky only those
are in it that pass the cuts of the training sample, so that class fractions are of one population.

A run that was ended goes on with the same command; the number of workers changes nothing in what is written.
"""

import argparse
import csv
import functools
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import _real_candidates
import numpy as np
from astropy import units as u
from astropy.table import vstack

from astroclassify import tables
from astroclassify.schemes import CANDIDATE
from astroclassify.sim import simulate_survey
from astroclassify.survey import Cuts

SEED = 2020
SHAPE = (178, 178)
SIZE = 7 * u.arcmin
LIKELY = 15.0  # DET_LIKE
EXTENDED = Cuts("extended", {"ext_like": (5.0, None), "det_like": (LIKELY, None)})
ANY = Cuts("any", {"ext_like": (3.0, None), "det_like": (LIKELY, None)})
# Multiples of the sky's densities for the training sample; clusters below and beyond a redshift of 0.3.
DENSITY = {"cluster": (14, 3), "galaxy": 20, "bright": 3, "star": 3}
# Candidates of each class, in the order of the scheme. Clusters and others of each split as Kosiba et al. (2020); of
# the clusters 0.40 to 0.262 nearby and distant, of the others a third each (of all: 0.1126, 0.1127, 0.1127).
SPLITS = {
    "train": {"low_z": 511, "high_z": 334, "galaxy": 129, "point": 129, "other": 130},
    "validation": {"low_z": 121, "high_z": 79, "galaxy": 35, "point": 34, "other": 35},
    "test": {"low_z": 51, "high_z": 34, "galaxy": 28, "point": 29, "other": 28},
}
FIRST, STEP, MOST = 160, 20, 600  # fields simulated before the splits are tried, after, and at most
# Fields at the sky's densities: number, seed.
SKIES = {"sky": (100, SEED + 1), "sky-training": (200, SEED + 2)}
VALIDATED = 6  # of so many fields to train one is for validation
LEVELS = (3.0, 5.0, 10.0, 15.0, 33.0)  # EXT_LIKE, of the table of densities


def main():
    parser = argparse.ArgumentParser(description="candidates to train and judge classifiers of clusters on")
    verbs = parser.add_subparsers(dest="verb", required=True)
    simulate = verbs.add_parser("simulate", help="from simulated fields")
    simulate.add_argument("folder", type=Path)
    simulate.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    simulate.add_argument("--part", choices=("training", *SKIES), help="only one of the samples")
    real = verbs.add_parser("real", help="from real fields")
    real.add_argument("folder", type=Path)
    real.add_argument("--data", type=Path, required=True, help="folder that holds xmm/real")
    real.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    arguments = parser.parse_args()
    with _executor(arguments.workers) as executor:
        if arguments.verb == "real":
            make_real(arguments.folder / "real", arguments.data, executor)
        else:
            if arguments.part in (None, "training"):
                make_training(arguments.folder / "training", executor)
            for name in SKIES:
                if arguments.part in (None, name):
                    make_sky(arguments.folder / name, executor)
    bring_together(arguments.folder)


def _executor(workers):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def make_training(folder, executor):
    """Simulate fields until every split is full; the sample is what was chosen."""
    survey = functools.partial(
        simulate_survey, rng=SEED, out=folder, density=DENSITY, cuts=EXTENDED, size=SIZE, shape=SHAPE, executor=executor
    )
    for n_fields in range(FIRST, MOST + 1, STEP):
        sample = survey(n_fields)
        split = choose(sample["group_id"], sample["label"])
        lacking = missing(split, sample["label"])
        if not lacking:
            break
        print(f"{n_fields} fields: still missing {lacking}", file=sys.stderr)
    else:
        raise SystemExit(f"{MOST} fields do not hold enough candidates: missing {lacking}")
    sample["split"], sample["origin"] = split, np.full(len(sample), "simulated", dtype="U10")
    tables.write(sample[split == ""], folder / "spare.ecsv", overwrite=True)
    chosen = sample[split != ""]
    tables.write_sample(chosen, folder, overwrite=True)
    print(f"{folder}: {len(chosen)} of {len(sample)} candidates in {n_fields} fields")


def choose(groups, labels):
    """
    Split of each candidate, empty where it is not needed.

    Field after field goes to the split whose scarcest class is emptiest, in relation to what it needs.
    """
    groups, labels = np.asarray(groups, str), np.asarray(labels, str)
    need = {name: dict(quota) for name, quota in SPLITS.items()}
    split = np.full(len(labels), "", dtype="U10")
    for group in dict.fromkeys(groups.tolist()):
        name = max(need, key=lambda each: max(need[each][c] / SPLITS[each][c] for c in CANDIDATE.classes))
        for row in np.flatnonzero(groups == group):
            if need[name][labels[row]]:
                need[name][labels[row]] -= 1
                split[row] = name
    return split


def missing(split, labels):
    """How many candidates each split lacks, by class: what is complete is left out."""
    lacking = {}
    for name, quota in SPLITS.items():
        for label, wanted in quota.items():
            found = int(np.sum((split == name) & (np.asarray(labels, str) == label)))
            if found < wanted:
                lacking[f"{name} {label}"] = wanted - found
    return lacking


def make_sky(folder, executor):
    """Fields as the sky is, with all that is found and all clusters that are there."""
    n_fields, seed = SKIES[folder.name]
    sample = simulate_survey(n_fields, rng=seed, out=folder, cuts=ANY, size=SIZE, shape=SHAPE, executor=executor)
    numbers = np.array([int(group.removeprefix("field-")) for group in sample["group_id"].astype(str)])
    held = np.where(numbers % VALIDATED == VALIDATED - 1, "validation", "train")
    sample["split"] = np.where(folder.name == "sky", "test", held).astype("U10")
    # Names of their own beside those of the other samples, whose fields are others.
    for name in ("source_id", "group_id"):
        sample[name] = np.char.replace(sample[name].astype(str), "field-", f"{folder.name}-")
    sample["origin"] = np.full(len(sample), "sky", dtype="U10")
    tables.write_sample(sample, folder, overwrite=True)
    clusters, area = clusters_of(folder, sample)
    tables.write(clusters, folder / "clusters.ecsv", overwrite=True)
    write_densities(folder / "densities.csv", sample, area)
    found = np.sum(clusters["candidate_id"] != "")
    print(f"{folder}: {len(sample)} candidates, {found} of {len(clusters)} clusters, {area:.2f}")


def clusters_of(folder, sample):
    """All clusters on exposed pixels within 13 arcmin of the axis, the candidate that each gave, and the area."""
    candidates = dict(zip(zip(sample["group_id"], sample["true_id"], strict=True), sample["source_id"], strict=True))
    parts, area = [], 0 * u.deg**2
    for path in sorted((folder / "truth").glob("*.ecsv")):
        truth = tables.read(path)
        truth["group_id"] = np.char.replace(truth["group_id"].astype(str), "field-", f"{folder.name}-")
        area += truth.meta["area"]
        seen = (truth["kind"] == "cluster") & (truth["off_axis"] <= 13 * u.arcmin) & (truth["flags"] == 0)
        part = truth[seen]
        part["exposure"] = np.full(len(part), truth.meta["exposure"].to_value(u.s)) * u.s
        part["cameras"] = np.full(len(part), "+".join(truth.meta["cameras"]), dtype="U32")
        keys = zip(part["group_id"], part["source_id"], strict=True)
        part["candidate_id"] = np.array([candidates.get(key, "") for key in keys], dtype="U32")
        part.meta = {}
        parts.append(part)
    clusters = vstack(parts)
    clusters.meta.update(area=area, fields=len(parts))
    return clusters, area


def write_densities(path, sample, area):
    """Candidates per square degree by class and EXT_LIKE."""
    degrees, labels = area.to_value(u.deg**2), np.asarray(sample["label"], str)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["EXT_LIKE above", "area [deg2]", *CANDIDATE.classes, "share of points"])
        for level in LEVELS:
            above = labels[np.asarray(sample["ext_like"]) > level]
            numbers = [np.sum(above == label) for label in CANDIDATE.classes]
            share = np.mean(above == "point") if len(above) else np.nan
            row = [f"{level:g}", f"{degrees:.2f}", *(f"{number / degrees:.2f}" for number in numbers), f"{share:.3f}"]
            writer.writerow(row)


def bring_together(folder):
    """One sample of those that are there."""
    parts = []
    for name in ("training", *SKIES, "real"):
        if not (folder / name / tables.SAMPLE_FILE).is_file():
            continue
        part = tables.read_sample(folder / name)
        if name != "training":
            if name == "real":
                part["split"] = np.full(len(part), "test", dtype="U10")
            kept = part["origin"] == "real"
            part = part[kept | EXTENDED.passed(part)]
        part["path"] = np.array([f"{name}/{path}" if path else "" for path in part["path"]], dtype=str)
        part.meta = {}
        parts.append(part)
    sample = vstack(parts, metadata_conflicts="silent")
    sample.meta = tables.provenance(scheme=CANDIDATE.to_dict())
    tables.write_sample(sample, folder, overwrite=True)


def make_real(folder, data, executor):
    """Real fields, see `_real_candidates`."""
    folder.mkdir(parents=True, exist_ok=True)
    sample, injected = _real_candidates.make_real(folder, data, executor, EXTENDED, (SIZE, SHAPE))
    for origin in ("real", "injected"):
        labels = np.asarray(sample["label"], str)[sample["origin"] == origin]
        print(f"{folder}: {origin}", {label: int(np.sum(labels == label)) for label in CANDIDATE.classes})
    print(f"{np.sum(injected['found'])} of {len(injected)} injected sources found")


if __name__ == "__main__":
    main()
