"""
Time `astroclassify.survey.extract_cutouts` beside Cutout2D and reproject on the same images in the same run.

Also many two-band cutouts into a sample folder: time, memory, disk, reading, and how they go with the number of
workers. Images are made up; the real ones in ../shared/data are used as well where they are. Comparisons count the time
of all processors, so that threads count as well; many cutouts that and the time on the wall.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS, FITSFixedWarning
from reproject import reproject_adaptive, reproject_exact, reproject_interp

from astroclassify.images import Cutout, SkyImage, read_image
from astroclassify.survey import LocalOptical, extract_cutouts
from astroclassify.tables import image_paths

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE, SHAPE = 7 * u.arcmin, (356, 356)


def tangent_plane(position, pixel, n):
    """North up, ``pixel`` [arcsec], the position in the middle of n x n pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [position.ra.deg, position.dec.deg]
    wcs.wcs.crpix = [(n + 1) / 2] * 2
    wcs.wcs.cdelt = [-pixel / 3600, pixel / 3600]
    return wcs


def make_xray(pixel, angle, n):
    """Counts of a beta model on a background; pixel in arcsec, angle in degrees."""
    y, x = np.indices((n, n)) - (n - 1) / 2
    model = 0.05 + 20 * (1 + (x**2 + y**2) * (pixel / 30) ** 2) ** -1.5
    wcs = tangent_plane(SkyCoord(133.0, 11.8, unit="deg"), pixel, n)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    counts = np.random.default_rng(1).poisson(model).astype(float)
    return SkyImage(counts, unit=u.ct, wcs=wcs, exposure=np.full((n, n), 1e4))


def make_plate(folder):
    """A plate around the same place, in a file."""
    wcs = tangent_plane(SkyCoord(133.0, 11.8, unit="deg"), 1.01, 1800)
    noise = np.random.default_rng(2).normal(5000, 300, (1800, 1800))
    fits.PrimaryHDU(noise.astype(np.int16), wcs.to_header()).writeto(folder / "plate.fits")
    return folder / "plate.fits"


def best_of(function, n_runs=5):
    """Shortest of a few runs [s], and what the function returned."""
    times = []
    for _ in range(n_runs):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def per_cutout(position, image, **settings):
    """Processor time of one of eight cutouts [s], and the first of them."""
    near = position.directional_offset_by(np.arange(8) * 45 * u.deg, np.arange(8) * 2 * u.arcsec)
    taken, cutouts = best_of(partial(extract_cutouts, near, image, progress=False, **settings), 3)
    return taken / 8, cutouts[0]


def peer_xray(image, position, target, counts_by):
    """What one would write by hand: Cutout2D, then reproject of counts, and of the exposure map."""
    part = Cutout2D(image.data, position, 1.5 * SIZE, wcs=image.wcs)
    exposure = Cutout2D(image.exposure, position, 1.5 * SIZE, wcs=image.wcs)
    if counts_by == "exact":
        scale = np.prod(np.abs(target.wcs.cdelt)) / np.linalg.det(image.wcs.pixel_scale_matrix).__abs__()
        counts = reproject_exact((part.data, part.wcs), target, shape_out=SHAPE, return_footprint=False) * scale
    else:
        counts = reproject_adaptive(
            (part.data, part.wcs), target, shape_out=SHAPE, conserve_flux=True, return_footprint=False
        )
    reproject_interp((exposure.data, exposure.wcs), target, shape_out=SHAPE, return_footprint=False)
    return counts


def peer_optical(data, wcs, position, target):
    """What one would write by hand: Cutout2D, then interpolation."""
    part = Cutout2D(data, position, 1.5 * SIZE, wcs=wcs)
    return reproject_interp((part.data, part.wcs), target, shape_out=SHAPE, return_footprint=False)


def compare(name, image, position):
    """One line: X-ray alone."""
    ours, cutout = per_cutout(position, image)
    target, result = cutout.bands["xray"].wcs, cutout.bands["xray"].data
    for counts_by in ("exact", "adaptive"):
        theirs, counts = best_of(partial(peer_xray, image, position, target, counts_by), 2)
        difference = np.nanmax(np.abs(counts - result)) / result.max()
        total = np.nansum(counts) / result.sum() - 1
        print(
            f"{name:34s} {ours * 1e3:7.1f} ms  Cutout2D + reproject_{counts_by:8s} {theirs * 1e3:7.0f} ms  "
            f"ratio {theirs / ours:5.1f}  difference / peak {difference:.1e}  sum of counts {total:+.1e}"
        )


def compare_optical(path, image, positions):
    """One line: a plate, and both bands together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        with fits.open(path) as hdus:
            data, wcs = hdus[0].data.astype(float), WCS(hdus[0].header)
    optical, position = LocalOptical(path), positions[0]
    ours, cutout = per_cutout(position, image, optical=optical)
    target = cutout.bands["xray"].wcs
    alone, _ = per_cutout(position, image)
    theirs, values = best_of(partial(peer_optical, data, wcs, position, target), 2)
    counts, _ = best_of(partial(peer_xray, image, position, target, "exact"), 2)
    band = cutout.bands["optical"]
    good = np.isfinite(values) if band.mask is None else np.isfinite(values) & ~band.mask
    difference = np.max(np.abs(values - band.data)[good]) / values[good].max()
    print(
        f"{path.name:34s} {1e3 * (ours - alone):7.1f} ms  Cutout2D + reproject_interp   {theirs * 1e3:7.0f} ms  "
        f"ratio {theirs / (ours - alone):5.1f}  difference / peak {difference:.1e}  (ours reads the file each time)"
    )
    print(
        f"{'both bands':34s} {1e3 * ours:7.1f} ms  peer, both                    {(theirs + counts) * 1e3:7.0f} ms  "
        f"ratio {(theirs + counts) / ours:5.1f}"
    )


def peak_memory():
    """Largest resident memory so far of this process and of the largest of its children [MB]."""
    return [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def one_folder(image, positions, optical, workers):
    """Times of a sample folder [s] (start of workers, cutouts, this process's part, resumed, read) and its size."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"optical": optical, "out": folder, "progress": False}
        begin = time.perf_counter()
        if workers:
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                list(pool.map(time.sleep, [0.3] * workers))  # all of them have started and imported
                start, own = time.perf_counter(), time.process_time()
                sample = extract_cutouts(positions, image, executor=pool, **settings)
                end, own = time.perf_counter(), time.process_time() - own
        else:
            start, own = time.perf_counter(), time.process_time()
            sample = extract_cutouts(positions, image, **settings)
            end, own = time.perf_counter(), time.process_time() - own
        extract_cutouts(positions, image, **settings)
        resumed, read = time.perf_counter() - end, time.process_time()
        paths = image_paths(sample)
        for path in paths:
            Cutout.read(path)
        read = time.process_time() - read
        size = sum(path.stat().st_size for path in paths)
    return np.array([start - begin, end - start, own, resumed, read]), size, np.count_nonzero(sample["message"])


def many(path, image, positions, workers, rounds):
    """Sample folders of many two-band cutouts, each number of workers in turn, so that other work hits all alike."""
    optical, n = LocalOptical(path), len(positions)
    results = {number: [] for number in workers}
    for _ in range(rounds):
        for number in workers:
            results[number].append(one_folder(image, positions, optical, number))
    for number, runs in results.items():
        begin, wall, own, resumed, read = np.median([times for times, _, _ in runs], axis=0)
        walls = ", ".join(f"{1e3 * times[1] / n:.1f}" for times, _, _ in runs)
        where = f"{number} worker(s), started in {begin:.1f} s" if number else "here"
        print(
            f"{n} two-band cutouts to files, {where}: {1e3 * wall / n:.1f} ms each (rounds: {walls}), of this process "
            f"{1e3 * own / n:.1f} ms; 10,000: {1e4 * wall / n / 60:.1f} min, {1e4 * runs[0][1] / n / 1e9:.1f} GB; "
            f"resumed {1e3 * resumed / n:.1f}, read {1e3 * read / n:.1f} ms each; {runs[0][2]} with a message"
        )
    own, child = peak_memory()
    print(f"peak memory {own:.0f} MB here, {child:.0f} MB in the largest worker")


def main():
    """Compare, then make many."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("-n", type=int, default=300, help="how many two-band cutouts to write")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="0: here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-many", action="store_true", help="no comparison; peak memory is then of these")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image, path = make_xray(2.5, 0.0, 648), make_plate(Path(folder))
        rng = np.random.default_rng(3)
        positions = SkyCoord(133.0, 11.8, unit="deg").directional_offset_by(
            360 * rng.random(arguments.n) * u.deg, 9 * np.sqrt(rng.random(arguments.n)) * u.arcmin
        )
        if not arguments.only_many:
            comparisons(path, image, positions)
        many(path, image, positions, arguments.workers, arguments.rounds)


def comparisons(path, image, positions):
    """All lines of comparison."""
    for pixel, angle in ((4.0, 0.0), (4.0, 30.0), (2.5, 0.0), (2.5, 30.0), (1.0, 30.0), (0.492, 30.0)):
        made = make_xray(pixel, angle, int(1300 / pixel))
        compare(f'{pixel:g}" pixels, {angle:g} deg', made, SkyCoord(133.01, 11.81, unit="deg"))
    real = SHARED / "xmm" / "0124710801_PN_image_500-12000.fits"
    if real.is_file():
        coma = read_image(real)
        coma.exposure = np.full(coma.shape, 2e4)
        compare("XMM Coma8", coma, coma.wcs.pixel_to_world(330, 330))
    compare_optical(path, image, positions)
    if (SHARED / "optical" / "DSS1_M67.fits").is_file():
        compare_optical(SHARED / "optical" / "DSS1_M67.fits", image, SkyCoord([132.84], [11.81], unit="deg"))


if __name__ == "__main__":
    main()
