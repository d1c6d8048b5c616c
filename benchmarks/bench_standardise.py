"""
Time and error of `astroclassify.images.standardise` beside `reproject.reproject_exact` on the same counts images.

Both run in turns in the same process; the processor's time is counted, which a busy machine changes little.
"""

import time

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS
from reproject import reproject_exact

from astroclassify.images import Geometry, standardise

MEGAPARSEC, SEVEN = Geometry(1 * u.Mpc, (256, 256)), Geometry(7 * u.arcmin, (356, 356))
# Name, pixel [arcsec], angle [deg], pixels along a side, grid, redshift.
GEOMETRIES = (
    ("512 x 512, rotated, onto 1 Mpc, 256 x 256", 2.5, 30.0, 512, MEGAPARSEC, 0.05),
    ("2048 x 2048, rotated, onto 1 Mpc, 256 x 256", 0.6, 30.0, 2048, MEGAPARSEC, 0.05),
    ("7 arcmin of 648 x 648 onto 356 x 356", 4.0, 30.0, 648, SEVEN, None),
    ("Chandra, 0.492 arcsec, rotated, 1024 x 1024", 0.492, 30.0, 1024, MEGAPARSEC, 0.2),
    ("parallel grids, 320 x 320", 4.0, 0.0, 320, MEGAPARSEC, 0.05),
)


def make_image(pixel, angle, n, *, flat=False):
    """Counts of a beta model, or one count in each pixel; pixel in arcsec, angle in degrees."""
    y, x = np.indices((n, n)) - (n - 1) / 2
    model = (1 + (x**2 + y**2) * (pixel / 40) ** 2) ** -1.5
    counts = np.random.default_rng(1).poisson(1e5 * model / model.sum()).astype(float)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [10.0, 20.0]
    wcs.wcs.crpix = [(n + 1) / 2] * 2
    wcs.wcs.cdelt = [-pixel / 3600, pixel / 3600]
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.pc = [[cosine, -sine], [sine, cosine]]
    return CCDData(np.ones((n, n)) if flat else counts, unit=u.ct, wcs=wcs, meta={"EXPOSURE": 1e4})


def in_turns(functions, n_rounds):
    """Shortest time of each function [s], and what it returned."""
    times, results = np.full(len(functions), np.inf), [None] * len(functions)
    for _ in range(n_rounds):
        for number, function in enumerate(functions):
            start = time.process_time()
            results[number] = function()
            times[number] = min(times[number], time.process_time() - start)
    return times, results


def measure(pixel, angle, n, geometry, redshift):
    """Times of both [s]; error of a flat image; largest difference from `reproject_exact` as a share of the peak."""
    image = make_image(pixel, angle, n)
    grid = standardise(image, geometry, redshift=redshift).wcs
    (ours, theirs), (result, (density, covered)) = in_turns(
        [
            lambda: standardise(image, geometry, redshift=redshift),
            lambda: reproject_exact((image.data, image.wcs), grid, shape_out=geometry.shape),
        ],
        3,
    )
    ratio = (geometry.pixel_width(redshift).to_value(u.arcsec) / pixel) ** 2
    inside = covered > 1 - 1e-7
    flat = standardise(make_image(pixel, angle, n, flat=True), geometry, redshift=redshift)
    error = np.abs(flat.data[inside] / ratio - 1).max()
    difference = np.abs(density * ratio - result.data)[inside].max() / result.data.max()
    return ours, theirs, error, difference


def main():
    """Print one line per geometry."""
    print(f"{'geometry':46s} standardise  reproject_exact  ratio  flat image  difference / peak")
    for name, *settings in GEOMETRIES:
        ours, theirs, error, difference = measure(*settings)
        print(
            f"{name:46s} {1e3 * ours:8.0f} ms  {1e3 * theirs:12.0f} ms  {theirs / ours:5.1f}  {error:10.1e}  "
            f"{difference:17.1e}"
        )


if __name__ == "__main__":
    main()
