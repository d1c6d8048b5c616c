"""
Fit the same sources on the same pixels with `astroclassify.survey.fit_extent` and with sherpa, in the same run.

The peer minimises the same Cash statistic of the same model, a beta model with beta = 2/3 convolved with the image of
the point spread function on a known background: sherpa's Beta2D, statistic and simplex, the convolution by scipy's
fftconvolve. It runs in a process of its own: ``--sherpa PYTHON`` names an interpreter that has sherpa and scipy. Times
are the processor's. Ours are of the whole function, which fits a point, a beta model, one with a central point and two
points; the peer's of the beta model alone.
"""

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# One core each, or the ratio of the times would depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PIXEL, N, RADIUS, BACKGROUND = 2.5, 80, 76.3, 0.05  # arcsec, pixels, arcsec, counts per pixel
PAD, KERNEL = 20, 81  # pixels about the image for light from outside, and side of the PSF image
START = (39.0, 40.0)  # where the fits begin [pixels]
CASES = [(ext, counts) for ext in (6.0, 12.0, 20.0) for counts in (200, 1000)]
COLUMNS = ("counts", "x", "y", "ext")


def used_pixels():
    """Pixels of the fits: a circle about the start."""
    y, x = np.indices((N, N))
    return np.hypot(x - START[0], y - START[1]) * PIXEL <= RADIUS


def make_field(n):
    """Empty field with known background; imports ours, which the peer has not."""
    from astropy import units as u
    from astropy.nddata import CCDData
    from astropy.wcs import WCS

    from astroclassify.survey import KingPsf, read_field

    middle, step = (n + 1) / 2, PIXEL / 3600
    wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": middle, "CRPIX2": middle,
               "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -step, "CDELT2": step})  # fmt: skip
    image = CCDData(np.zeros((n, n)), unit=u.ct, wcs=wcs, meta={"INSTRUME": "EPN"})
    return read_field(image, exposure=10 * u.ks, background=np.full((n, n), BACKGROUND), psf=KingPsf("EPN"))


def fit_ours(images, field):
    """Parameters, errors, gain in the statistic over the background, and time of each source."""
    from astropy import units as u

    from astroclassify.survey import fit_extent

    position, results = field.wcs.pixel_to_world([START[0]], [START[1]]), []
    fit_extent(dataclasses.replace(field, counts=images[0]), position)  # makes the table of profiles
    for counts in images:
        seen = dataclasses.replace(field, counts=counts)
        begin = time.process_time()
        row = fit_extent(seen, position, radius=RADIUS * u.arcsec)[0]
        taken = time.process_time() - begin
        one_axis = row["pos_err"].value / PIXEL / np.sqrt(2)
        results.append(
            {
                "model": str(row["best_model"]),
                "parameters": [float(row[name].value) for name in COLUMNS],
                "errors": [row["counts_err"].value, one_axis, one_axis, row["ext_err"].value],
                "gain": float(row["det_like"]),
                "time": taken,
            }
        )
    return results


def peer(folder):
    """Fit the images in a folder with sherpa; runs under another interpreter."""
    from scipy.signal import fftconvolve
    from sherpa.astro.models import Beta2D
    from sherpa.data import Data1D
    from sherpa.fit import Fit
    from sherpa.models import ArithmeticModel, Parameter
    from sherpa.optmethods import NelderMead
    from sherpa.stats import Cash

    images, kernel = np.load(folder / "images.npy"), np.load(folder / "psf.npy")
    used, side = used_pixels(), N + 2 * PAD
    rows, columns = np.indices((side, side)) - PAD
    inside = slice(PAD, PAD + N)

    class Seen(ArithmeticModel):
        """Convolved beta model and background on the pixels that are used."""

        def __init__(self):
            self.beta = Beta2D("beta")
            limits = {"counts": (1, 1e5), "x": (20, 60), "y": (20, 60), "ext": (0.5, 50)}
            self.parameters = [Parameter("seen", name, low, low, high) for name, (low, high) in limits.items()]
            self.counts, self.x, self.y, self.ext = self.parameters
            ArithmeticModel.__init__(self, "seen", tuple(self.parameters))

        def calc(self, p, *args, **kwargs):
            counts, x, y, ext = p
            width = ext / PIXEL
            height = counts / (2 * np.pi * width**2)
            shape = self.beta.calc([width, x, y, 0, 0, height, 1.5], columns.ravel(), rows.ravel())
            light = fftconvolve(shape.reshape(side, side), kernel, mode="same")[inside, inside]
            return np.maximum(light[used] + BACKGROUND, 1e-9)

    results = []
    for counts in images:
        values, model = counts[used], Seen()
        data = Data1D("pixels", np.arange(len(values), dtype=float), values)
        starts = (max(values.sum() - BACKGROUND * len(values), 20), *START, 10.0)
        for parameter, start in zip(model.parameters, starts, strict=True):
            parameter.val = start
        fit = Fit(data, model, stat=Cash(), method=NelderMead())
        begin = time.process_time()
        found = fit.fit()
        taken = time.process_time() - begin
        nothing = 2 * (BACKGROUND * len(values) - np.sum(values) * np.log(BACKGROUND))
        results.append(
            {
                "parameters": [float(parameter.val) for parameter in model.parameters],
                "gain": float(nothing - found.statval),
                "time": taken,
                "evaluations": int(found.nfev),
            }
        )
    (folder / "peer.json").write_text(json.dumps(results))


def report(truths, ours, theirs, path):
    """Print the comparison, and write it as a table."""
    lines = [["core radius [arcsec]", "counts", "number", "difference / error (largest)", "difference of C (largest)",
              "time of fit_extent [ms]", "time of sherpa [ms]", "ratio"]]  # fmt: skip
    for case in [*CASES, None]:
        rows = [i for i, truth in enumerate(truths) if case in (None, truth) and ours[i]["model"] == "EXT"]
        if not rows:
            continue
        shift = [
            np.max(np.abs(np.subtract(ours[i]["parameters"], theirs[i]["parameters"])) / ours[i]["errors"])
            for i in rows
        ]
        gain = [abs(ours[i]["gain"] - theirs[i]["gain"]) for i in rows]
        mine, other = (np.median([each[i]["time"] for i in rows]) for each in (ours, theirs))
        names = [f"{case[0]:g}", str(case[1])] if case else ["all", "all"]
        lines.append([*names, str(len(rows)), f"{max(shift):.3f}", f"{max(gain):.3f}", f"{1e3 * mine:.0f}",
                      f"{1e3 * other:.0f}", f"{other / mine:.0f}"])  # fmt: skip
    for line in lines:
        print("  ".join(f"{value:>12s}" for value in line))
    print(f"{sum(each['model'] != 'EXT' for each in ours)} of {len(ours)} left out: another model was the best")
    print(f"evaluations of sherpa's simplex: {np.median([each['evaluations'] for each in theirs]):.0f}")
    if path:
        with open(path, "w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(lines)


def main():
    """Make sources, fit them twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--sherpa", help="interpreter that has sherpa", default=sys.executable)
    parser.add_argument("-n", type=int, default=3, help="sources of each size and brightness")
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments.peer)
    from astroclassify.survey import model_image

    field, rng = make_field(N), np.random.default_rng(1)
    truths = [case for case in CASES for _ in range(arguments.n)]
    images = []
    for ext, counts in truths:
        x, y = np.array(START) + rng.uniform(-1, 1, 2)
        expected = field.background + model_image(field, x, y, counts=counts, ext=ext)
        images.append(rng.poisson(expected).astype(float))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        np.save(folder / "psf.npy", model_image(make_field(KERNEL), KERNEL // 2, KERNEL // 2, counts=1, ext=0))
        subprocess.run([arguments.sherpa, __file__, "--peer", name], check=True)
        theirs = json.loads((folder / "peer.json").read_text())
    report(truths, fit_ours(images, field), theirs, arguments.out)


if __name__ == "__main__":
    main()
