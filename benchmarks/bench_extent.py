"""
Fit beta models with `astroclassify.survey` and with Sherpa on the same pixels in the same run.

``python benchmarks/bench_extent.py --sherpa PYTHON``, an interpreter that has Sherpa; it needs nothing of this package.
Photons are drawn one by one from the beta model and the point spread function, on a background and an exposure that
falls across the image. Sherpa gets what a user would give it: its own ``beta2d``, convolved with an image of the point
spread function by its own ``PSFModel``, times the exposure, plus the background, ``cstat``, once with its
Levenberg-Marquardt method and once with its simplex, started at the position given, a core radius of 10 arcsec and the
counts above the background. Pixels outside the circle of the fit have no exposure, so that both see the same ones and
Sherpa's convolution still has the light from outside. Its time is that of the fit alone, the faster of the methods that
come within 0.1 of the least statistic; ours is that of the same model from the same position to the errors, and beside
it that of the whole of `fit_extent`: five models, all but the composite ones several times, and its profiles made anew.
Compilation comes before the clock starts. Times are the processor's.
"""

import argparse
import csv
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

# Core radii [arcsec] and counts, radius of the fit [arcsec].
CASES = ((6, 150, 60), (10, 300, 80), (20, 300, 110), (20, 1000, 110), (40, 600, 200))
PIXEL, LEVEL, OFF_AXIS = 2.5, 0.03, 4.0  # arcsec, counts per pixel, arcmin
MARGIN = 60.0, 0.6  # of the image about the circle: arcsec, and share of its radius; the larger one
START = 10.0  # arcsec
FINE = 5  # points along a pixel of the image of the point spread function, which is as large as that of the source
NAMES = ("x", "y", "ext", "counts")
COLUMNS = (
    "EXT [arcsec]",
    "counts",
    "fits",
    "EXT here",
    "EXT Sherpa",
    "difference / error: EXT",
    "counts ",
    "position",
    "error of EXT, ratio",
    "difference of C",
    "Sherpa, Levenberg-Marquardt [ms]",
    "Sherpa, simplex [ms]",
    "beta model here [ms]",
    "all five models here [ms]",
    "times faster, same model",
    "times faster, all five",
)


def make_field(ext, counts, radius, seed):
    """Field with one source near its middle, drawn photon by photon."""
    from astropy import units as u
    from astropy.nddata import CCDData
    from astropy.table import QTable
    from astropy.wcs import WCS

    from astroclassify.survey import KingPsf, inject_sources, read_field

    half = int((radius + max(MARGIN[0], MARGIN[1] * radius)) / PIXEL)
    n = 2 * half + 1
    # The optical axis is beside the image, so that the PSF is one off axis.
    header = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRPIX1": half + 1 + 60 * OFF_AXIS / PIXEL,
        "CRPIX2": half + 1,
    }
    wcs = WCS({**header, "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -PIXEL / 3600, "CDELT2": PIXEL / 3600})
    exposure = 1e4 * np.linspace(1.2, 0.8, n) * np.ones((n, 1))
    rng = np.random.default_rng(seed)
    background = LEVEL * exposure / 1e4
    meta = {"INSTRUME": "EPN", "RA_PNT": 55.7, "DEC_PNT": -53.6}
    image = CCDData(rng.poisson(background).astype(float), unit=u.ct, wcs=wcs, meta=meta)
    field = read_field(image, exposure=exposure, background=background, psf=KingPsf("EPN"))
    x, y = half + rng.uniform(-1, 1, 2)
    source = {"x": [x] * u.pix, "y": [y] * u.pix, "counts": [counts] * u.ct, "core_radius": [ext] * u.arcsec}
    return inject_sources(field, QTable(source), rng=seed), half


def cash(counts, expected):
    """Cash statistic."""
    return 2 * np.sum(expected - counts * np.log(expected))


def fit_here(field, half, radius):
    """Parameters, errors and statistic of the beta model; processor time [s] of all models, and of this one."""
    from astropy import units as u

    from astroclassify.survey import KingPsf, fit_extent

    position = field.wcs.pixel_to_world([half], [half])
    # A PSF of its own, whose profiles are not there yet.
    fresh = dict.fromkeys(("counts", "exposure", "background", "mask", "wcs", "axis"))
    fresh = type(field)(**{name: getattr(field, name) for name in fresh}, psf=KingPsf("EPN"), instrument="EPN")
    start = time.process_time()
    row = fit_extent(fresh, position, radius=radius * u.arcsec)[0]
    everything = time.process_time() - start
    fit, alone = beta_alone(field, position, radius)
    found, patch_x, patch_y = fit.solution.parameters, fit.parts[0][0], fit.parts[0][1]
    # East is to the left.
    values = np.array([half - patch_x / PIXEL, half + patch_y / PIXEL, fit.parts[0][2], found[3]])
    errors = fit.errors * [1 / PIXEL, 1 / PIXEL, 1, 1]
    return {"values": values, "errors": errors, "statistic": fit.statistic, "row": row}, everything, alone


def beta_alone(field, position, radius):
    """The beta model from the position to its errors, profiles made: the fit, and processor time [s]."""
    from astroclassify.survey.extents import _fit_extent as _extent
    from astroclassify.survey.extents import _models
    from astroclassify.survey.extents._expected import set_neighbours
    from astroclassify.survey.extents._sources import Survey, camera_of

    places, matrices = _extent._local_planes(field.wcs, position)
    camera, times = camera_of(field), []
    unknown = np.full((1, 2), np.nan)
    survey = Survey([camera], [matrices], [field.off_axis], [places], np.array([np.inf]), np.array([-1]), unknown, 0.0)
    source, shift = survey.sources[0], 2 * survey.sources[0].half
    for _ in range(3):
        start = time.process_time()
        patches = survey.patches(source, radius)
        set_neighbours(patches, [])
        window = _models.open_window(patches, shift, source.largest, 0.0)
        u, counts = _models._best_beta(window, window.coarse.base, 0.0, 0.0)
        fit = _models._fit(window, _models.BETA, [np.array([0.0, 0.0, u, *counts])])
        fit.errors  # noqa: B018
        times.append(time.process_time() - start)
    return fit, min(times)


def scene_of(field, half, radius):
    """What Sherpa needs, as arrays; no exposure, no counts and next to no background outside the circle."""
    down, along = np.indices(field.shape)
    inside = np.hypot(down - half, along - half) * PIXEL <= radius
    axis = np.arange(-half, half + 1) * PIXEL
    steps = ((np.arange(FINE) + 0.5) / FINE - 0.5) * PIXEL
    angle = field.off_axis(half, half)
    kernel = sum(
        field.psf.profile(np.hypot(axis + along, (axis + down)[:, np.newaxis]), angle)
        for along in steps
        for down in steps
    )
    return {
        "counts": field.counts * inside,
        "background": np.where(inside, field.background, 1e-20),
        "ratio": np.where(inside, field.exposure / field.exposure[half, half], 0.0),
        "kernel": kernel * PIXEL**2 / FINE**2,
        "start": [half, half, START / PIXEL, max(np.sum((field.counts - field.background)[inside]), 10.0)],
    }


def run_sherpa(folder):
    """In the other interpreter: fit all scenes of a folder with both methods, write the results beside them."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.getLogger("sherpa").setLevel(logging.ERROR)
    from sherpa.optmethods import LevMar, NelderMead

    for path in sorted(Path(folder).glob("scene-*.npz")):
        scene, results = dict(np.load(path)), {}
        for name, method in (("levmar", LevMar()), ("simplex", NelderMead())):
            results |= {f"{name}_{key}": value for key, value in one_sherpa_fit(scene, method).items()}
        np.savez(path.with_name(path.name.replace("scene", "result")), **results)


def one_sherpa_fit(scene, method):
    """Model image, parameters (pixels, counts), errors of the core radius, time [s]."""
    from sherpa.astro.data import DataIMG
    from sherpa.astro.models import Beta2D
    from sherpa.fit import Fit
    from sherpa.instrument import PSFModel
    from sherpa.models.basic import TableModel
    from sherpa.stats import CStat

    def image(name, values):
        down, along = np.indices(values.shape) + 1.0
        return DataIMG(name, along.ravel(), down.ravel(), values.ravel(), shape=values.shape)

    data, tables = image("counts", scene["counts"]), []
    for name in ("ratio", "background"):
        table = TableModel(name)
        table.load(None, scene[name].ravel())
        table.ampl.freeze()
        table.fold(data)
        tables.append(table)
    x, y, core, counts = scene["start"]
    beta, psf = Beta2D("beta"), PSFModel("psf", image("kernel", scene["kernel"]))
    psf.norm = 0  # the wings beyond the kernel are lost, not moved into it
    psf.fold(data)
    beta.alpha, beta.xpos, beta.ypos, beta.r0 = 1.5, x + 1, y + 1, core
    beta.r0.min, beta.r0.max = 0.05, len(scene["counts"]) / 2
    beta.ampl.min, beta.ampl.max, beta.ampl = 1e-6, 1e6, counts / (2 * np.pi * core**2)
    for parameter in (beta.alpha, beta.ellip, beta.theta):
        parameter.freeze()
    model = psf(beta) * tables[0] + tables[1]
    fit = Fit(data, model, stat=CStat(), method=method)
    start = time.process_time()
    fit.fit()
    taken = time.process_time() - start
    values = [beta.xpos.val - 1, beta.ypos.val - 1, beta.r0.val, 2 * np.pi * beta.r0.val**2 * beta.ampl.val]
    errors = fit.est_errors()
    error = dict(zip(errors.parnames, errors.parmaxes, strict=True))["beta.r0"]
    return {
        "model": data.eval_model(model).reshape(scene["counts"].shape),
        "values": values,
        "error": error,
        "time": taken,
    }


def compare(field, scene, here, result):
    """Differences in errors (EXT, counts, position), ratio of the errors of EXT, difference of C; EXT; times."""
    inside = scene["ratio"] > 0
    fits = {
        name: (cash(field.counts[inside], result[f"{name}_model"][inside]), result[f"{name}_values"] * [1, 1, PIXEL, 1])
        for name in ("levmar", "simplex")
    }
    least = min(statistic for statistic, _ in fits.values())
    good = [name for name in fits if fits[name][0] < least + 0.1]
    theirs = fits[min(fits, key=lambda name: fits[name][0])][1]
    apart = np.abs(here["values"] - theirs) / here["errors"]
    error = PIXEL * float(result[f"{good[0]}_error"]) / here["errors"][2]
    return {
        "apart": [apart[2], apart[3], max(apart[:2])],
        "error": error,
        "statistic": here["statistic"] - least,
        "ext": [here["values"][2], theirs[2]],
        "times": [result["levmar_time"], result["simplex_time"]],
        "fastest": min(float(result[f"{name}_time"]) for name in good),
    }


def summarise(case, rows, times):
    """One line of the table: largest differences, median times."""
    everything, alone = np.median(times, axis=0)
    fastest = np.median([row["fastest"] for row in rows])
    worst = np.max([row["apart"] for row in rows], axis=0)
    statistic = max((row["statistic"] for row in rows), key=abs)
    theirs = np.median([row["times"] for row in rows], axis=0)
    ext = np.mean([row["ext"] for row in rows], axis=0)
    error = np.median([row["error"] for row in rows])
    numbers = [f"{value:.2f}" for value in (*ext, *worst, error)] + [f"{statistic:+.3f}"]
    numbers += [f"{1e3 * value:.0f}" for value in theirs] + [f"{1e3 * alone:.1f}", f"{1e3 * everything:.0f}"]
    return [*map(str, case[:2]), str(len(rows)), *numbers, f"{fastest / alone:.0f}", f"{fastest / everything:.1f}"]


def main():
    """Fit everything here and there, print a table, write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--sherpa", help="Python interpreter that has Sherpa; without it only the fits here are timed")
    parser.add_argument("-n", type=int, default=4, help="fields for each case")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        run_sherpa(arguments.peer)
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(Path(folder), arguments.sherpa, arguments.n)
    if lines and arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([COLUMNS, *lines])


def measure(folder, sherpa, n):
    """Lines of the table; none without the other program."""
    jobs = [(case, number) for case in CASES for number in range(n)]
    made, times = {}, {}
    fit_here(*make_field(*CASES[0], 0), CASES[0][2])  # compiles
    for number, (case, seed) in enumerate(jobs):
        field, half = make_field(*case, seed)
        here, *times[number] = fit_here(field, half, case[2])
        made[number] = field, here, scene_of(field, half, case[2])
        np.savez(folder / f"scene-{number:03d}.npz", **made[number][2])
    if sherpa is None:
        for case in CASES:
            everything, alone = np.median([times[k] for k, job in enumerate(jobs) if job[0] == case], axis=0)
            print(
                f"EXT {case[0]}, {case[1]} counts: beta model {1e3 * alone:.1f} ms, all five {1e3 * everything:.0f} ms"
            )
        print("no --sherpa PYTHON given: nothing is compared")
        return []
    subprocess.run([sherpa, __file__, "--peer", folder], check=True)
    lines = []
    for case in CASES:
        numbers = [number for number, job in enumerate(jobs) if job[0] == case]
        rows = [compare(*made[k][::2], made[k][1], np.load(folder / f"result-{k:03d}.npz")) for k in numbers]
        lines.append(summarise(case, rows, [times[k] for k in numbers]))
        print(", ".join(f"{name.strip()} {value}" for name, value in zip(COLUMNS, lines[-1], strict=True)))
    return lines


if __name__ == "__main__":
    main()
