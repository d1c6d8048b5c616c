"""
Learn what clusters look like from a sample of mock images, for the doubt of a packaged model.

The sample is a folder of `astroclassify.sim.make_mocks`, best with `ObservationSampler.wide`: all telescopes, depths
and redshifts that the model is for. Writes the score (`astroclassify.nn.Familiarity`) as JSON; `familiarity_of` is for
scripts that put it into a model.

    python tools/fit_familiarity.py mocks familiarity.json
"""

import argparse
import json
import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.images import DEFAULT_COSMOLOGY, Geometry, pixel_scale, read_image, standardise
from astroclassify.nn import Familiarity

GRID = Geometry(1 * u.Mpc, (128, 128))

log = logging.getLogger("fit_familiarity")


def on_grid(path):
    """Counts, relative exposure (n, n), both 0 where there is none, and resolution [kpc] of a mock image."""
    image = read_image(path)
    redshift = image.meta["REDSHIFT"]
    fwhm = np.hypot(image.meta["PSFFWHM"], pixel_scale(image).to_value(u.arcsec))
    grid = standardise(image, GRID)
    gone = np.zeros(grid.shape, bool) if grid.mask is None else grid.mask
    exposure = np.ones(grid.shape) if grid.exposure is None else np.nan_to_num(u.Quantity(grid.exposure).value)
    exposure = np.where(gone, 0, exposure / max(exposure.max(), 1e-30))
    kpc = fwhm / DEFAULT_COSMOLOGY.arcsec_per_kpc_proper(redshift).value
    return np.where(gone, 0, grid.data).astype(np.float32), exposure.astype(np.float32), kpc


def familiarity_of(folder, *, rng, executor=None):
    """`Familiarity` of the images of a sample folder."""
    sample = tables.read(Path(folder) / "sample.ecsv")
    paths = [Path(folder) / path for path in sample["path"]]
    counts, exposure, resolution = zip(*(executor.map if executor else map)(on_grid, paths), strict=True)
    return Familiarity.fit(np.array(counts), pixel=1000 / GRID.shape[0], resolution=resolution,
                           exposure=np.array(exposure), groups=np.array(sample["group_id"]), rng=rng,
                           executor=executor)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("sample", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with ProcessPoolExecutor(arguments.workers) as executor:
        score = familiarity_of(arguments.sample, rng=arguments.seed, executor=executor)
    text = json.dumps(score.to_dict(), allow_nan=False)
    arguments.out.write_text(text, encoding="utf-8")
    log.info("%s: %d kB", arguments.out, len(text) // 1000)


if __name__ == "__main__":
    main()
