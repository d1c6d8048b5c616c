"""Background of a counts image: what is left without sources, vignetted and flat, as large-scale structure needs."""

import numpy as np
from scipy.ndimage import binary_propagation, gaussian_filter, map_coordinates, maximum_filter
from scipy.optimize import minimize_scalar
from scipy.stats import chi2

from astroclassify.exceptions import GeometryError

__all__ = ["estimate_background"]

STEPS = (1, 2, 4, 8, 16)  # sources are looked for on pixels binned that often,
SCALE = 1.5  # smoothed with a Gaussian of so many of these

SIGNIFICANCE, FAINT = 4.0, 1.3  # standard deviations above the background of a source and of its surroundings
CONTRAST, WING = 1.15, 1.1  # brightness relative to it that a source and its surroundings have at least
LEAST_COVERED = 0.2  # share of the Gaussian that must lie on pixels that are used
N_ITERATIONS = 12
TOLERANCE = 1e-3  # relative change of the background at which the iteration ends
SHALLOW = 0.2  # share of the largest exposure below which it falls because of time, not of vignetting
MOST_SOURCES = 0.3  # share of the field beyond which "sources" are structure of the background
STRUCTURE = 1e-4  # probability of the blocks' chi2 below which the background is not the plain model,
ROUGH = 0.15  # if their scatter beyond noise is this share of it
LARGE = 1 / 8  # scale of such structure (sigma) / side of the field
LEAST = 100.0  # arcsec, the smallest scale of structure: below it are clusters


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
    Sources are what stands out by 4 sigma after smoothing with Gaussians of 1.5 to 24 pixels, its surroundings down to
    1 sigma, and two thirds of a smoothing length more. Fit and search alternate until nothing changes.

    If what is left does not follow that model, or "sources" cover more than 30 % of the field (the outskirts of a huge
    cluster, stray light), the model is multiplied by a smooth function: counts over model outside sources, both
    smoothed with a Gaussian of an eighth of the field's side, but at least 100 arcsec. Sources are then what stands out
    from that.

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
    counts, exposure, mask = np.asarray(counts, float), np.asarray(exposure, float), np.asarray(mask, bool)
    if not counts.shape == exposure.shape == mask.shape or counts.ndim != 2:
        raise GeometryError(
            f"counts, exposure and mask must be images of one shape, got {counts.shape}, {exposure.shape}, {mask.shape}"
        )
    valid = ~mask & (exposure > 0)
    if not valid.any():
        raise GeometryError("mask and exposure leave no pixel to estimate the background from")
    counts = np.where(valid, counts, 0.0)
    share = np.clip(exposure / exposure[valid].max(), 0.0, None)
    templates = np.stack([share, np.minimum(share / SHALLOW, 1.0)])
    weights, sources, _ = _alternate(counts, templates, valid, None)
    model = _model(weights, templates)
    if counts.sum() == 0:
        return model
    scale = max(LARGE * np.sqrt(valid.sum()), LEAST / pixel)
    step = max(1, int(scale / 6))
    if sources[valid].mean() > MOST_SOURCES or _is_structured(counts, model, valid & ~sources, 4 * step):
        smooth = _Smooth(scale, step)
        weights, _, factor = _alternate(counts, templates, valid, smooth)
        model = _model(weights, templates) * factor
    return model


def find_sources(counts, model, valid):
    """Where counts stand out from the model at one of the scales, and the faint surroundings of such places."""
    area = 4 * np.pi * SCALE**2  # as many pixels does the Gaussian average over
    skew = (SIGNIFICANCE**2 - 1) / 6  # of the Poisson distribution: its quantile to this order (Cornish and Fisher)
    found = []
    for step in STEPS:
        # What was found two scales below has its mask already and would spread over a larger one here.
        used = valid if len(found) < 2 else valid & ~np.logical_or.reduce(found[:-1])
        seen, expected, covered = (
            gaussian_filter(_bin(each, step), SCALE, mode="constant", truncate=3.0) * area
            for each in (np.where(used, counts, 0.0), np.where(used, model, 0.0), used)
        )
        noise = np.sqrt(expected)
        seeds = (seen > expected + SIGNIFICANCE * noise + skew) & (seen > CONTRAST * expected)
        seeds &= covered > LEAST_COVERED * area * step**2
        whole = binary_propagation(seeds, mask=seeds | ((seen > expected + FAINT * noise) & (seen > WING * expected)))
        whole = maximum_filter(whole, 3, mode="constant")
        found.append(np.repeat(np.repeat(whole, step, 0), step, 1)[: counts.shape[0], : counts.shape[1]])
    return np.logical_or.reduce(found)


class _Smooth:
    """Counts over model outside sources, both smoothed on a large scale."""

    def __init__(self, scale, step):
        self.scale, self.step = scale, step

    def __call__(self, counts, model, used):
        sums = (
            gaussian_filter(_bin(each * used, self.step), self.scale / self.step, mode="constant", truncate=3.0)
            for each in (counts, model)
        )
        counted, expected = sums
        # One count of the plain model is mixed in: it decides where nothing is left to measure.
        area = 4 * np.pi * (self.scale / self.step) ** 2
        ratio = (counted * area + 1.0) / (expected * area + 1.0)
        place = [(np.arange(n) + 0.5) / self.step - 0.5 for n in counts.shape]
        return map_coordinates(ratio, np.meshgrid(*place, indexing="ij"), order=1, mode="nearest")


def _alternate(counts, templates, valid, smooth):
    """Weights of the templates, sources, and the smooth factor (None without), when they agree with each other."""
    sources, factor, last = np.zeros(counts.shape, bool), None, 0.0
    for _ in range(N_ITERATIONS):
        used = valid & ~sources
        if not used.any():
            break
        weights = _fit(counts[used], templates[:, used])
        if smooth is not None:
            factor = smooth(counts, _model(weights, templates), used)
        model = _model(weights, templates) if factor is None else _model(weights, templates) * factor
        total = model[valid].sum()
        if abs(total - last) <= TOLERANCE * total:
            break
        last = total
        sources = find_sources(counts, model, valid)
    return weights, sources, factor


def _fit(counts, templates):
    """
    Weights, not negative, of two templates by maximum Poisson likelihood.

    For a given mixture of the two the sum of the model is that of the counts; one number is left to search.
    """
    total = counts.sum()
    sky, flat = templates
    if total == 0 or np.std(sky) < 1e-3 * np.mean(sky):
        return np.array([total / sky.sum(), 0.0])
    # Pixels of like exposure are taken together.
    edges = np.unique(np.quantile(sky, np.linspace(0, 1, 65)))
    index = np.clip(np.searchsorted(edges, sky, side="right") - 1, 0, len(edges) - 1)
    counted, sky_sum, flat_sum = (np.bincount(index, each) for each in (counts, sky, flat))
    sky_sum, flat_sum = sky_sum / sky.sum(), flat_sum / flat.sum()
    seen = counted > 0

    def cost(part):
        return -np.sum(counted[seen] * np.log(part * sky_sum[seen] + (1 - part) * flat_sum[seen]))

    best = minimize_scalar(cost, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-4}).x
    return total * np.array([best / sky.sum(), (1 - best) / flat.sum()])


def _is_structured(counts, model, used, step):
    """Whether counts in blocks scatter about the model by far more than Poisson noise."""
    counted, expected = _bin(counts * used, step), _bin(model * used, step)
    enough = expected > 25
    if enough.sum() < 4:
        return False
    counted, expected = counted[enough], expected[enough]
    square = (counted - expected) ** 2
    relative = np.mean(square - expected) / np.mean(expected**2)
    return relative > ROUGH**2 and bool(chi2.sf(np.sum(square / expected), expected.size) < STRUCTURE)


def _model(weights, templates):
    return weights[0] * templates[0] + weights[1] * templates[1]


def _bin(image, step):
    """Sums over blocks of pixels; the last ones are filled with zeros."""
    if step == 1:
        return np.asarray(image, float)
    padded = np.pad(image, [(0, -n % step) for n in image.shape])
    return padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).sum(axis=(1, 3))
