"""
Time `astroclassify.survey.estimate_background` beside photutils' ``Background2D``, and judge both.

On simulated fields, whose sky and particles are known: processor time, background over the truth in the field and
within 5 arcmin of the axis, and what `read_field` says its relative error is. ``Background2D`` sees counts per exposed
pixel in blocks of 20 arcsec, as few counts per pixel cannot be clipped, in boxes of 3 arcmin, and takes means clipped
at three standard deviations.
"""

import argparse
import time

import numpy as np
from astropy import units as u
from astropy.nddata import block_reduce, block_replicate
from astropy.stats import SigmaClip
from photutils.background import Background2D, MeanBackground

from astroclassify.sim import simulate_field
from astroclassify.survey import estimate_background

BLOCK, BOX, INNER = 8, 9, 5.0  # pixels, blocks, arcmin


def ours(field):
    """Sky and particles by templates."""
    return estimate_background(field.counts, field.exposure, field.mask, field.pixel)


def theirs(field):
    """A spline through clipped means."""
    exposed = block_reduce((~field.mask).astype(float), BLOCK)
    mean = block_reduce(field.counts, BLOCK) / np.maximum(exposed, 1)
    found = Background2D(
        mean,
        BOX,
        mask=exposed < BLOCK**2 / 2,
        exclude_percentile=80,
        sigma_clip=SigmaClip(3.0),
        bkg_estimator=MeanBackground(),
    )
    return block_replicate(found.background, BLOCK, conserve_sum=False)


def main():
    """One line for each field and program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--fields", type=int, default=4)
    parser.add_argument("--exposure", type=float, nargs="*", default=[10.0, 50.0], help="ks")
    options = parser.parse_args()
    for exposure in options.exposure:
        for seed in range(options.fields):
            field = simulate_field(rng=seed, exposure=exposure * u.ks).field
            true, used = field.meta["true_background"], ~field.mask
            y, x = np.indices(field.shape)
            inner = used & (field.off_axis(x, y) < INNER)
            for name, function in (("astroclassify", ours), ("photutils", theirs)):
                start = time.process_time()
                found = function(field)
                seconds = time.process_time() - start
                whole, middle = (found[part].sum() / true[part].sum() for part in (used, inner))
                print(
                    f"{exposure:g} ks, field {seed}, {name}: {seconds:.2f} s, {whole:.3f} of the truth, {middle:.3f} "
                    f"in the middle; error {field.background_error:.3f}"
                )


if __name__ == "__main__":
    main()
