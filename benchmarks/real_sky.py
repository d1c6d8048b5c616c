"""
How a cool-core classifier does on real clusters: tables, figures and a verdict, from files.

``python benchmarks/real_sky.py --data SHARED_DATA --out OUT`` reads the real data that lie beside the checkout and
writes into ``OUT``, with ``--model`` (a packaged model or a folder) for another model than `coolcore`:

- ``real_sky_accept.csv``, ``_leads_short.csv``, ``_bins.csv``: images of ACCEPT's clusters (z = 0.05, 100 ks, ACIS-I),
  all and the public third, also with other outskirts and as lumpy, triaxial clusters; beside C_SB with fixed cuts and
  ranked, cuspiness, and the cooling time that the image gives;
- ``real_sky_grid.csv``: the same clusters at other redshifts, exposures, instruments, backgrounds, and off the middle;
- ``real_sky_pictures.csv``: published pictures of Chandra, and mock images made into such pictures;
- ``real_sky_xmm.csv``, ``real_sky_others.csv``: images of XMM-Newton and ROSAT, and what is no cluster;
- ``real_sky_maps.csv``: where the evidence lies;
- ``real_sky_verdict.csv``: what was asked for, and whether it is met; ``real_sky_model.txt``: of which model;
- ``real_sky_<name>.png``: reliability, limits, failures, maps.

What is there is replaced. ``--parts`` does some of it, ``--quick`` all with fewer images. Run it with
OMP_NUM_THREADS=1; one core takes less than six minutes, and one with ``--quick``. The public third of ACCEPT and the
real images are for testing only: nothing may be chosen by what this writes.
"""

import argparse
import csv
import io
import time
from importlib.metadata import version
from pathlib import Path

import _real_accept
import _real_figures
import _real_observed
import numpy as np
from astropy import units as u
from PIL import Image

from astroclassify.nn import load_classifier, reliability
from astroclassify.plots import plot_reliability
from astroclassify.sim import Observation

PARTS = ("accept", "grid", "pictures", "xmm", "others", "maps")
RIVALS = ("C_SB, ranked", "C_SB without background, ranked")
ACCEPT_COLUMNS = {
    "clusters": "clusters", "method": "method", "n": "n", "macro-F1": "f1", "recall CC": "recall CC",
    "WCC": "recall WCC", "NCC": "recall NCC", "ECE": "ece", "if exact": "ece_exact", "sure and wrong": "sure and wrong",
    "Spearman": "spearman",
}  # fmt: skip
GRID_COLUMNS = {
    "instrument": "instrument", "z": "redshift", "ks": "exposure_ks", "background": "background",
    "shift [kpc]": "shift_kpc", "counts": "counts", "PSF [kpc]": "psf_kpc", "wanted": "wanted", "network": "f1",
    "C_SB, ranked": "C_SB, ranked", "without background": "C_SB without background, ranked",
}  # fmt: skip
MAPPED = 12  # images of which maps are drawn


def main():
    parser = argparse.ArgumentParser(description="a cool-core classifier on real clusters")
    parser.add_argument("--model", default="coolcore", help="packaged model or folder (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real data")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is written")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to do (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer clusters and settings")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--parts must be of {', '.join(PARTS)}, got {', '.join(unknown)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    card = Card(load_classifier(arguments.model), arguments.data, arguments.out, arguments.quick)
    for part in parts:
        start = time.process_time()
        getattr(card, part)()
        print(f"{part}: {time.process_time() - start:.0f} s", flush=True)
    what = f"{arguments.model}, astroclassify {version('astroclassify').partition('+')[0]}"
    what += ", quick\n" if arguments.quick else "\n"
    (arguments.out / "real_sky_model.txt").write_text(what, encoding="utf-8")
    card.write("verdict", [row for part in parts for row in card.verdicts.get(part, [])])


class Card:
    """The parts, and what each of them says to what was asked for."""

    def __init__(self, model, data, out, quick):
        self.model, self.data, self.out, self.quick = model, data, out, quick
        self.verdicts = {}

    def write(self, name, rows):
        """Rows as a csv file, numbers with three digits after the point or three significant ones."""
        names = list(dict.fromkeys(key for row in rows for key in row))
        with (self.out / f"real_sky_{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(names)
            writer.writerows([_text(row.get(name, "")) for name in names] for row in rows)

    def write_short(self, name, rows, columns):
        """Some columns of rows for the documentation: title -> key, a value with its interval where there is one."""
        shown = ({title: _with_interval(row, key) for title, key in columns.items()} for row in rows)
        self.write(f"{name}_short", list(shown))

    def figure(self, name, figure):
        """A figure as a small file: of 128 colours."""
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=90)
        few = Image.open(buffer).convert("RGB").quantize(128, method=Image.Quantize.FASTOCTREE)
        few.save(self.out / f"real_sky_{name}.png", optimize=True)

    def asked(self, part, claim, value, wanted, met):
        """One line of the verdict."""
        line = {"asked": claim, "found": value, "wanted": wanted, "met": "yes" if met else "no"}
        self.verdicts.setdefault(part, []).append(line)

    def all_of(self, part, claim, good, n):
        self.asked(part, claim, f"{good} of {n}", "all", good == n)

    def accept(self):
        rows, bins, (sample, images, predictions) = _real_accept.accept(self.model, self.data, quick=self.quick)
        self.write("accept", rows)
        self.write_short("accept", rows, ACCEPT_COLUMNS)
        self.write_short("leads", [row for row in rows if row["method"] == "network"], _lead_columns(rows))
        self.write("bins", bins)
        diagram = reliability(predictions, n_bins=5)
        self.figure("reliability", plot_reliability(diagram[diagram["class"] == "top"]))
        self.figure("failures", _real_figures.failures(sample, images, predictions))
        network = {row["clusters"]: row for row in rows if row["method"] == "network"}
        every, third = network["all"], network["public third"]
        for name, key, least in (("macro-F1", "f1", 0.85), ("recall of WCC", "recall WCC", 0.75)):
            self.asked("accept", f"ACCEPT, all: {name}", every[key], f">= {least}", every[key] >= least)
        self.asked("accept", "ACCEPT, all: calibration error", every["ece"], "<= 0.06", every["ece"] <= 0.06)
        self.asked("accept", "ACCEPT, third: macro-F1", third["f1"], ">= 0.82", third["f1"] >= 0.82)
        for rival in RIVALS:
            low = third[f"over {rival}_lo"]
            found = f"{third[f'over {rival}']:.3f} ({low:.3f} to {third[f'over {rival}_hi']:.3f})"
            self.asked("accept", f"ACCEPT, third: macro-F1 over {rival}", found, "> 0, interval", low > 0)
        exact = third["ece_exact"]
        met = third["ece_lo"] <= exact or third["ece"] <= exact
        found = f"{third['ece']:.3f} ({third['ece_lo']:.3f} to {third['ece_hi']:.3f})"
        self.asked("accept", "ACCEPT, third: calibration error", found, f"as exact: {exact:.3f}", met)
        lost = every["the same, no flag"]
        self.asked("accept", "ACCEPT, all: wrong with p > 0.9, no flag", lost, "<= 0.02", lost <= 0.02)

    def grid(self):
        rows = list(_real_accept.grid(self.model, self.data, quick=self.quick))
        self.write("grid", rows)
        self.write_short("grid", rows, GRID_COLUMNS)
        self.figure("limits", _real_figures.limits(rows))
        wanted = [row for row in rows if np.isfinite(row["wanted"])]
        good = sum(row["f1"] >= row["wanted"] for row in wanted)
        self.all_of("grid", "settings with the macro-F1 asked for", good, len(wanted))
        for rival in RIVALS:
            self.all_of("grid", f"settings not below {rival}", sum(row["f1"] >= row[rival] for row in rows), len(rows))

    def pictures(self):
        rows, (images, predictions) = _real_observed.pictures(self.model, self.data, quick=self.quick)
        self.write("pictures", rows)
        best = {(row["redshift"], row["method"]): row for row in rows if row["pictures"] == "real"}
        near, far = dict.fromkeys(name for name, _ in best)
        rival = max(row["auc"] for (redshift, method), row in best.items() if redshift == far and "C_SB" in method)
        for method in ("network, -p_NCC", "network, expected class"):
            area = best[near, method]["auc"]
            self.asked("pictures", f"Chandra pictures, {near}: AUC of {method}", area, ">= 0.96", area >= 0.96)
            area, claim = best[far, method]["auc"], f"Chandra pictures, {far}: AUC of {method}"
            self.asked("pictures", claim, area, f"> {rival:.3f} (C_SB)", area > rival)
        known = 1 - best[near, "network, -p_NCC"]["unfamiliar"]
        self.asked("pictures", f"Chandra pictures, {near}: familiar", known, ">= 0.9", known >= 0.9)

    def xmm(self):
        rows = _real_observed.xmm(self.model, self.data)
        self.write("xmm", rows)
        short, long = rows[:2]
        met = short["said"] == long["said"] == "NCC"
        self.asked("xmm", "A3667 at 20 and 59 ks", f"{short['said']}, {long['said']}", "NCC, NCC", met)
        apart = max(
            abs(short[name] - long[name]) / max(short[f"error of {name}"], 1e-3) for name in ("p_CC", "p_WCC", "p_NCC")
        )
        self.asked("xmm", "A3667: difference of the two, in errors of 20 ks", apart, "<= 2", apart <= 2)

    def others(self):
        rows = _real_observed.others(self.model, self.data)
        self.write("others", rows)
        false = [row for row in rows if row["truth"] == "no cluster"]
        self.all_of("others", "what is no cluster: refused", sum(bool(row["refused"]) for row in false), len(false))

    def maps(self):
        observation = Observation.acis_i(redshift=0.05, exposure=50 * u.ks, roll=30 * u.deg)
        every = 6 if not self.quick else 30
        clusters = _real_accept.read_accept(self.data)[::every]
        sample, images = _real_accept.accept_images(clusters, observation)
        said = _real_accept.classified(self.model, sample, images)
        rows, cells = _real_accept.evidence(self.model, images, said["label_pred"], sample["redshift"])
        self.write("maps", rows)
        self.figure("maps", _real_figures.maps(images[:MAPPED], cells[:MAPPED], rows))
        core, gaps = (np.array([row[name] for row in rows]) for name in ("core", "gaps"))
        area = rows[0]["core area"]
        found, claim = float(np.median(core)), "positive evidence within 100 kpc, median"
        self.asked("maps", claim, found, f"> {area:.3f} of the area", found > area)
        if np.isfinite(gaps).any():
            ratio = float(np.nanmedian(gaps))
            self.asked("maps", "evidence of gap pixels over others, median", ratio, "0.5 to 1.5", 0.5 <= ratio <= 1.5)


def _lead_columns(rows):
    """Title -> key of the differences of macro-F1 between the network and each ranked method."""
    keys = [key for key in rows[0] if key.startswith("over ") and not key.endswith(("_lo", "_hi"))]
    return {"clusters": "clusters", **{key: key for key in keys}}


def _with_interval(row, key):
    """Text of a value, with its interval where the row has one."""
    value = row.get(key, "")
    if f"{key}_lo" not in row:
        return _text(value)
    return f"{value:.2f} ({row[f'{key}_lo']:.2f} to {row[f'{key}_hi']:.2f})"


def _text(value):
    """A cell of a csv file."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return ""
        return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.4g}"
    return str(value)


if __name__ == "__main__":
    main()
