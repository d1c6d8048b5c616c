"""Real photographic plates and simulated ones, measured by the same code, and what a plate says about a candidate.

``python benchmarks/plates.py --data DIR [--out DIR]`` with the folder of real files writes ``plates.csv``. Without
``--data`` only simulated plates are measured.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.table import Table
from photutils.background import Background2D, MedianBackground
from photutils.detection import DAOStarFinder
from scipy.ndimage import gaussian_filter

from astroclassify.sim.sky._counterparts import add_plate_sky
from astroclassify.sim.sky._plate import expose_plate
from astroclassify.sim.sky._population import POPULATION
from astroclassify.sim.sky._scene import Scene
from astroclassify.sim.sky._xmm import Grid

# Parts of the real plates (y, x) without the dark cloud and the rim of the nebula, and the width of a pixel [arcsec].
REAL = {
    "DSS2 red, Horsehead, east": ("DSS2red_HorseHead.fits", np.s_[560:890, 5:300], 1.01),
    "DSS2 red, Horsehead, west": ("DSS2red_HorseHead.fits", np.s_[300:890, 690:888], 1.01),
    "DSS1 red, M67": ("DSS1_M67.fits", np.s_[5:1055, 5:1055], 1.70),
}


def simulated(pixel, side, seed):
    """A plate of stars and galaxies with nothing in its middle."""
    rng = np.random.default_rng(seed)
    grid = Grid((side, side), pixel)
    scene = Scene("", "", None)
    add_plate_sky(scene, grid.half, POPULATION.field_magnitudes, rng)
    scene.finish()
    return expose_plate(scene.stars, scene.galaxies, grid, rng).astype(float)


def correlation(image, step):
    """Correlation of pixels some pixels apart, of what is no source, along both axes."""
    image = image - gaussian_filter(image, 6)
    spread = 1.4826 * np.median(np.abs(image))
    image = np.where(np.abs(image) < 3 * spread, image, 0)
    pairs = [np.mean(image[:, :-step] * image[:, step:]), np.mean(image[:-step] * image[step:])]
    return np.mean(pairs) / np.mean(image**2)


def profile(image, x, y, radii, turned=None):
    """Median of an image in rings about a place, or along two directions (0: the axes, 1: the diagonals)."""
    row, column = np.indices(image.shape)
    dx, dy = column - x, row - y
    distance = np.hypot(dx, dy)
    angle = np.degrees(np.arctan2(dy, dx)) % 90
    near = np.ones(image.shape, dtype=bool)
    if turned is not None:
        middle = 45.0 * turned
        near = np.abs((angle - middle + 45) % 90 - 45) < 4
    values = []
    for low, high in zip(radii[:-1], radii[1:], strict=True):
        ring = image[near & (distance >= low) & (distance < high)]
        values.append(np.median(ring) if ring.size else np.nan)
    return np.array(values)


def measure(image, pixel):
    """Properties of a plate of a pixel [arcsec]."""
    box = max(16, round(60 / pixel))
    background = Background2D(image, min(box, min(image.shape) // 2), filter_size=3, bkg_estimator=MedianBackground())
    flat = image - background.background
    sky = np.median(background.background)
    _, _, rms = sigma_clipped_stats(flat, sigma=3)
    fine = image - gaussian_filter(image, 10 / pixel)
    grain = 1.4826 * np.median(np.abs(fine - np.median(fine)))
    top = np.sort(image.ravel())[-20:].mean()
    found = DAOStarFinder(
        4.0 * rms, 2.6 / pixel, sharpness_range=(0.2, 1.0), roundness_range=(-1, 1), exclude_border=True
    )(flat)
    x, y = (np.array(found[name]) for name in ("x_centroid", "y_centroid"))
    peak = np.array(found["peak"])
    span = top - sky
    result = {
        "pixel": pixel,
        "sky": sky,
        "sky_slope": np.std(background.background) / sky,
        "rms": rms / sky,
        "grain": grain / sky,
        "rho_1arcsec": np.interp(1.0, [0, pixel, 2 * pixel], [1, correlation(image, 1), correlation(image, 2)]),
        "rho_2arcsec": np.interp(2.0, [pixel, 2 * pixel, 3 * pixel], [correlation(image, k) for k in (1, 2, 3)]),
        "rho_4arcsec": correlation(image, round(4 / pixel)),
        "top": top,
        "top_over_sky": top / sky,
    }
    # Density above the sky of stars of middle brightness, stacked: width, and wings in units of the peak.
    good = (peak > 0.25 * span) & (peak < 0.6 * span)
    edges = np.concatenate([np.arange(0, 6, 0.5), [8, 12, 16, 24]]) / pixel
    stack = np.array([profile(flat, *each, edges) / height for *each, height in zip(x[good], y[good], peak[good])])
    if len(stack):
        mean = np.nanmedian(stack, axis=0)
        middle = (edges[1:] + edges[:-1]) / 2 * pixel
        fine = np.isfinite(mean[:12])
        mean[:12] /= 1.0
        half = np.interp(-0.5, -np.append(1.0, mean[:12][fine]), np.append(0.0, middle[:12][fine]))
        result["fwhm"] = 2 * half
        result["wing_4arcsec"] = np.interp(4, middle, np.where(np.isfinite(mean), mean, 0))
    # Images of saturated stars: radius at half of the span, and spikes where they end.
    bright = np.flatnonzero(peak > 0.9 * span)
    result["stars"] = len(x)
    area = image.size * (pixel / 3600) ** 2
    result["density"] = len(x) / area
    flux = np.array(found["flux"] if "flux" in found.colnames else found["peak"])
    aperture = []
    radius = 6 / pixel
    row, column = np.indices(image.shape)
    for a, b in zip(x, y, strict=True):
        r0, r1, c0, c1 = (int(max(0, v)) for v in (b - radius - 1, b + radius + 2, a - radius - 1, a + radius + 2))
        part = np.s_[r0:r1, c0:c1]
        inside = np.hypot(column[part] - a, row[part] - b) < radius
        aperture.append(flat[part][inside].sum() * pixel**2 / sky)
    magnitude = -2.5 * np.log10(np.maximum(aperture, 1e-3))
    # Peak of the differential counts, as magnitudes below the stars whose peak reaches 90 % of the span.
    bins = np.arange(magnitude.min(), magnitude.max() + 0.5, 0.5)
    number, _ = np.histogram(magnitude, bins)
    result["turnover"] = bins[np.argmax(number)] + 0.25
    half = (peak > 0.4 * span) & (peak < 0.6 * span)
    result["half_density"] = np.median(magnitude[half]) if half.any() else np.nan
    result["saturated_share"] = len(bright) / max(len(x), 1)
    return result, (flat, x, y, peak, span, sky, magnitude, bins, number)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    rows = []
    if options.data:
        for name, (file, part, pixel) in REAL.items():
            row, extra = measure(fits.getdata(options.data / "optical" / file).astype(float)[part], pixel)
            rows.append({"plate": name, **row})
            print(name, extra[-1], file=sys.stderr)
    for seed in range(4):
        row, extra = measure(simulated(1.01, 700, seed), 1.01)
        rows.append({"plate": f"simulated {seed}", **row})
        print(seed, extra[-1], file=sys.stderr)
    table = Table(rows)
    for name in table.colnames[1:]:
        table[name].info.format = ".4g"
    table.pprint_all()
    table.write(options.out / "plates.csv", overwrite=True)


if __name__ == "__main__":
    main()
