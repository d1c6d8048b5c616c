"""Background maps that come from elsewhere: scaled to the counts, completed, or found to hold the sources."""

import warnings

import numpy as np

from astroclassify.exceptions import ImageWarning
from astroclassify.schemes import Flag

from ._background import background_error, binned, coarse_step, fit_background
from ._blocks import measure_scatter

__all__ = ["fit_given"]

CERTAIN, LEAST = 3.0, 0.01  # a factor is applied if it differs from one by so many standard deviations and that much
STRANGE = 3.0  # factor either way beyond which the map is probably of another image
INCOMPLETE = 0.1  # share of the counts outside sources that a map without the sky lacks at least,
WORSE = 9.0  # and twice the loss in ln likelihood at most if they are sky rather than more of the map (3 sigma)
BRIGHT = 1.0, 4.0  # excess of sources that are compared: in units of the background, and standard deviations
HELD, RAISED = 0.05, 0.15  # share of the sources' light in a map that holds them, and how much it rises there


def fit_given(given, counts, exposure, mask, pixel):
    """
    Background from a map that was given, its error, what ``meta`` is to say, and flags.

    The map is scaled by maximum likelihood outside sources if the data say so: BKGSCALE. If it lacks many counts and
    they may as well follow the exposure, it is taken to be one of particles alone, as archives have them, that is right
    as far as it goes: what it lacks is added as sky, and BKGADDED is the share of that in the whole.
    """
    fit = fit_background(counts, exposure, mask, pixel)
    step = coarse_step(pixel)
    seen, expected, sky, number = binned(step, fit.used, counts, given, exposure)
    meta, flags = {}, Flag.LARGE_STRUCTURE if fit.large else Flag(0)
    total, of_map = seen.sum(dtype=float), expected.sum(dtype=float)
    if total > 0 and of_map > 0:
        factor = total / of_map
        scatter, blocks = measure_scatter(seen, factor * expected, number, step * pixel)
        noise = np.hypot(1 / np.sqrt(total), scatter / np.sqrt(max(blocks, 1)))
        if abs(factor - 1) > max(CERTAIN * noise * factor, LEAST):
            lacking = (total - of_map) / total
            added = lacking * total / sky.sum(dtype=float)
            if lacking > INCOMPLETE and _gain(seen, expected + added * sky, factor * expected) > -WORSE:
                given = given + added * exposure
                meta["BKGADDED"] = float(lacking)
            else:
                given = given * factor
                meta["BKGSCALE"] = float(factor)
                if not 1 / STRANGE < factor < STRANGE:
                    warnings.warn(
                        f"background was multiplied by {factor:.3g} to fit the counts outside sources: is it in counts "
                        "per pixel, and the map of this image?",
                        ImageWarning,
                        stacklevel=3,
                    )
    error = background_error(counts, fit, pixel, given)
    held = _light_held(given, counts, fit, mask, step, error)
    if held > 0:
        flags |= Flag.SOURCE_IN_BACKGROUND
        warnings.warn(
            f"background holds about {held:.0%} of the light of the sources, which will be missing from them: give a "
            "map made with the sources cut out, or none, and it is estimated",
            ImageWarning,
            stacklevel=3,
        )
    return given, error, meta, flags


def _gain(seen, model, other):
    """Twice the difference in ln likelihood between two models of the same sum."""
    some = seen > 0
    return 2 * np.sum(seen[some] * np.log(model[some] / other[some]))


def _light_held(given, counts, fit, mask, step, error):
    """Share of the light of bright places, above the background fitted to the counts, that a map holds; or zero."""
    elsewhere = ~mask & ~fit.used
    seen, fitted, of_map, _ = (each.astype(float) for each in binned(step, elsewhere, counts, fit.model, given))
    excess, (times, sigma) = seen - fitted, BRIGHT
    bright = (excess > times * fitted) & (excess > sigma * np.sqrt(fitted)) & (fitted > 0)
    if not bright.any():
        return 0.0
    raised = np.sum((of_map - fitted)[bright])
    share = raised / excess[bright].sum()
    return share if share > HELD and raised > max(RAISED, CERTAIN * error) * fitted[bright].sum() else 0.0
