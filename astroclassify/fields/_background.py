"""Background of a counts image: what is left without sources, vignetted and flat."""

from dataclasses import dataclass

import numpy as np

from astroclassify.exceptions import GeometryError

from ._blocks import faint_parts, fit_templates, measure_scatter
from ._search import SourceSearch, bin_sums, kept, unbin

__all__ = ["BackgroundFit", "background_error", "binned", "coarse_step", "estimate_background", "fit_background"]

N_ITERATIONS = 3  # more follow the noise down: what surrounds the sources is chosen where it is bright
TOLERANCE = 1e-3  # relative change of the background at which the iteration ends
SHALLOW = 0.2  # share of the largest exposure below which it falls because of time, not of vignetting
RUNAWAY = 0.07  # relative change in the last of them from which on "sources" are what a wrong model leaves
COARSE = 4  # pixels a side that are added before fits, at most, and no more than
FINE = 16.0  # arcsec: the templates are smooth on both
EXTRAPOLATED = 0.15  # relative error at least of a background that few blocks show


def estimate_background(counts, exposure, mask, pixel):
    """
    Background of a counts image: expected counts per pixel of all that is no source.

    Parameters
    ----------
    counts : `~numpy.ndarray`, shape (ny, nx)
        Whole counts.
    exposure : `~numpy.ndarray`, shape (ny, nx)
        Exposure, vignetting included; zero where not observed.
    mask : `~numpy.ndarray` of bool, shape (ny, nx)
        True where a pixel is not to be used.
    pixel : float
        Side of a pixel [arcsec].

    Returns
    -------
    `~numpy.ndarray`, shape (ny, nx)
        Counts per pixel; zero where there is no exposure.

    Raises
    ------
    GeometryError
        If the arrays differ in shape or no pixel is left.

    Notes
    -----
    The background is a part proportional to the exposure (sky) and a part that is not vignetted (particles), fitted to
    the pixels outside sources by maximum Poisson likelihood; where the exposure is the same all over, the two are one.
    It starts at the level that most blocks of an arcmin or more have in common. Sources are what stands out from it by
    4 sigma after smoothing with Gaussians of 1.5 to 24 pixels, its surroundings down to 1.3 sigma, and two thirds of a
    smoothing length more. Fit and search alternate three times at most. If they do not come to agree (an exposure map
    without gaps makes "sources" of all that lies between them), the common level stands.

    If no level is shared by three fifths of the blocks, or brighter ones that hang together are three tenths of them,
    structure covers the field (a nearby cluster, a supernova remnant): the background is then what leaves a twentieth
    of the blocks below it beyond noise, vignetted and flat in equal parts on the axis. It is too high by what the
    structure leaves in the faintest places, and `read_field` flags it.

    Sources too faint to be found are background. On the simulated sky of `simulate_field` (XMM EPIC-pn, 10 ks, pixels
    of 2.5 arcsec) it is 4 to 7 % above sky and particles: the active nuclei of less than ten counts. Cuts that go lower
    run away with the noise. The scales of the search are in pixels: with pixels of 4 or 5 arcsec it takes more for
    sources there, and the background is from 2 % below sky and particles to 2 % above. Where there is nothing but
    noise, 0.6 % of the counts are taken for sources.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.survey import estimate_background
    >>> counts = np.random.default_rng(1).poisson(0.2, (200, 200))
    >>> background = estimate_background(counts, np.full((200, 200), 1e4), np.zeros((200, 200), bool), 4.0)
    >>> bool(abs(background.mean() / 0.2 - 1) < 0.03)
    True
    """
    return fit_background(counts, exposure, mask, pixel).model.astype(float)


@dataclass(frozen=True)
class BackgroundFit:
    """
    What `fit_background` finds: expected counts (float32), the pixels outside sources, and whether there are few of
    them because large structure covers the field.
    """

    model: np.ndarray
    used: np.ndarray
    large: bool


def fit_background(counts, exposure, mask, pixel):
    """`estimate_background`, with how it came about."""
    counts, exposure, mask = np.asarray(counts), np.asarray(exposure), np.asarray(mask, bool)
    if not counts.shape == exposure.shape == mask.shape or counts.ndim != 2:
        raise GeometryError(
            f"counts, exposure and mask must be images of one shape, got {counts.shape}, {exposure.shape}, {mask.shape}"
        )
    valid = ~mask & (exposure > 0)
    if not valid.any():
        raise GeometryError("mask and exposure leave no pixel to estimate the background from")
    field = _Field(SourceSearch(counts, valid), exposure, coarse_step(pixel))
    if not counts.any(where=valid):
        return BackgroundFit(np.zeros(counts.shape, np.float32), valid, False)
    first, blocks, large = faint_parts(*field.sums(valid), field.step * pixel)
    found = None if large else field.alternate(first)
    if found is None:
        used = valid & unbin(blocks, field.step, valid.shape)
        found = BackgroundFit(field.model(first), used, large)
    return found


def background_error(counts, fit, pixel, model=None):
    """Relative error (1 sigma) of a fitted background, or of another model of the same field; see `Field`."""
    step = coarse_step(pixel)
    model = fit.model if model is None else model
    error, _ = measure_scatter(*binned(step, fit.used, counts, model), step * pixel)
    return max(error, EXTRAPOLATED) if fit.large else error


def coarse_step(pixel):
    """How many pixels of ``pixel`` arcsec make one of the images that templates are fitted to, along either side."""
    return int(np.clip(FINE // pixel, 1, COARSE))


def binned(step, used, *images):
    """Images in larger pixels, of those that are used, and the number of these."""
    return [*(bin_sums(kept(each, used), step) for each in images), bin_sums(used, step)]


class _Field:
    """Counts and exposure of one field, for fits of sky (vignetted) and particles (flat); images are held once."""

    def __init__(self, search, exposure, step):
        self.search, self.exposure, self.step = search, exposure, step
        self.top = exposure.max(where=search.valid, initial=0.0)

    def sky(self):
        """Share of the largest exposure (float32)."""
        share = np.divide(self.exposure, self.top, dtype=np.float32, casting="same_kind")
        return np.maximum(share, 0, out=share)

    def flat(self):
        share = self.sky()
        share /= np.float32(SHALLOW)
        return np.minimum(share, 1, out=share)

    def model(self, weights):
        """Expected counts (float32)."""
        model = self.flat()
        model *= np.float32(weights[1])
        sky = self.sky()
        sky *= np.float32(weights[0])
        model += sky
        return model

    def sums(self, used):
        """Binned counts, sky, particles and number of the pixels that are used."""
        return binned(self.step, used, self.search.counts, self.sky(), self.flat())

    def alternate(self, weights):
        """
        Fit and search alternate until they agree.

        None if they do not: what a wrong model leaves is taken for sources, the level falls, more is left, and so on.
        """
        valid = self.search.valid
        model = self.model(weights)
        total = model.sum(where=valid, dtype=float)
        for _ in range(N_ITERATIONS):
            used, last = valid & ~self.search(model), total
            del model
            weights = fit_templates(*self.sums(used)[:3])
            model = self.model(weights)
            total = model.sum(where=valid, dtype=float)
            if abs(total - last) <= TOLERANCE * total:
                break
        if not abs(total - last) <= RUNAWAY * total:
            return None
        return BackgroundFit(model, used, False)
