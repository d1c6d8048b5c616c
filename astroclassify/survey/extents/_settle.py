"""Fits of all sources of a field beside each other, until nothing changes; structures last."""

import numpy as np

from ._expected import LEAST, set_neighbours
from ._models import fit_composite, fit_source
from ._sources import CHILD_EXT, CHILD_LEVEL, NOT_NOISE, WIDE, best_model

__all__ = ["fit_sources"]

RADIUS_EXT = 5.0  # radius of a fit in core radii: 80 % of a beta model
GROWTH = 1.15  # steps of that radius
MAX_GROWTHS = 5
SHIFT = 2.0  # how far a position may move, in half-energy radii and in pixels, or by the core radius
FREE_HALF, FREE_EXT, MAX_FREE = 4.0, 2.0, 6  # distance within which the counts of a neighbour are free, and how many
# Largest radius of the first fit, in distances of the nearest neighbour: while neighbours are still points in
# the model, a wide beta model would absorb their counts into its wings, and keep them.
FIRST_SHARE = 0.5
EXCHANGE = 2.0  # gain in the Cash statistic for which two sources exchange their models
# Least height of an extended child above the structure that it lies on, as a share of that: what is fainter cannot be
# told from substructure.
CHILD_CONTRAST = 1.0
# A source is fitted again when its surroundings changed by what could be told at this level in the Cash statistic.
SETTLED = 1e-3
MOST_GAIN = 1e3  # of a source, of which changes are told at that level; brighter ones may move by more
MAX_TURNS = 30
# Fits of a source in which the form of its model is chosen; then that is kept, or two sources might go round in
# circles.
MOST_FORMS = 4
N_STRUCTURE = 4  # turns of several structures


def fit_sources(survey):
    """Fit all sources in place: points and beta models until they agree with each other, then all models."""
    for source in survey.sources:
        if source.cameras and not source.has_children:
            source.drawings = survey.draw(source)
            survey.modelled.add(source.drawings)
    _settle(survey, full=False)
    survey.recentre()
    _settle(survey, full=True)
    survey.find_light(below=False)
    _fit_structures(survey)


def _offset(survey, source, others):
    """Offsets from a source to the models of others [arcsec east, north]."""
    number = source.cameras[0]
    step = survey.places[number][[each.row for each in others]] - survey.places[number][source.row]
    return step @ survey.matrices[number][source.row].T + np.reshape([each.parts[0][:2] for each in others], (-1, 2))


def _neighbours(survey, source):
    """Other sources in the scene with their distances from the model of this one [arcsec], the nearest first; the
    structure that it lies on is none."""
    others = [each for each in survey.sources if each.drawings and each is not source and not each.has_children]
    distances = np.hypot(*(_offset(survey, source, others) - source.parts[0][:2]).T)
    return [(others[index], distances[index]) for index in np.argsort(distances)]


def _free(survey, source, near, patches):
    """Near neighbours whose counts are free, with their images per camera, which are taken off the bases."""
    free = []
    if source.has_children:
        return free
    for other, distance in near:
        if distance >= FREE_HALF * source.half + FREE_EXT * max(source.ext, other.ext) or len(free) == MAX_FREE:
            continue
        images = []
        for number, patch in zip(source.cameras, patches, strict=True):
            seen = number in other.drawings
            images.append(other.drawings[number].at(patch.rows, patch.columns) if seen else np.zeros(len(patch.counts)))
        if any(image.any() for image in images):
            for patch, image in zip(patches, images, strict=True):
                patch.base = np.maximum(patch.base - image, LEAST)
            free.append((other, images))
    set_neighbours(patches, [images for _, images in free])
    return free


def _radii(survey, source, nearest, first):
    """Radius to start with and the largest [arcsec]."""
    largest = RADIUS_EXT * source.largest
    if first and not source.has_children:
        largest = min(largest, max(source.least_radius, FIRST_SHARE * nearest))
    if source.parent is not None:
        largest = source.least_radius
    least = survey.segments[source.row, 0] if source.has_children else 0.0
    return survey.radius or min(_stepped(source, np.fmax(RADIUS_EXT * source.ext, least)), largest), largest


def _shift(source, nearest, radius, pixel):
    """How far the position may move along each axis [arcsec]: that of a structure as far as the search smoothed it, of
    others at most half-way to the next source."""
    if source.has_children:
        return CHILD_EXT * source.half
    widest = max(SHIFT * max(source.half, pixel), radius / RADIUS_EXT)
    return max(min(widest, nearest / 2), pixel / 2)


def _stepped(source, radius):
    """Least radius of a fit times a power of `GROWTH`, so that a small change of the source changes no pixel."""
    steps = np.ceil(np.log(max(radius / source.least_radius, 1.0)) / np.log(GROWTH) - 1e-9)
    return source.least_radius * GROWTH**steps


def _fit(survey, source, *, first, full):
    """Fit a source beside the present models of all others; the radius follows the core radius."""
    before = source.drawings
    if not source.has_children:
        survey.modelled.add(before, -1)
    source.drawings = {}
    near = _neighbours(survey, source)
    nearest = near[0][1] if near else np.inf
    radius, largest = _radii(survey, source, nearest, first)
    pixel = survey.cameras[source.cameras[0]].pixel
    level_error = CHILD_LEVEL if source.parent is not None else survey.level_error
    for _ in range(MAX_GROWTHS):
        patches = survey.patches(source, radius)
        free = _free(survey, source, near, patches)
        shift = _shift(source, nearest, radius, pixel)
        fits = fit_source(patches, shift=shift, largest=source.largest, level_error=level_error)
        wanted = min(_stepped(source, RADIUS_EXT * fits["EXT"].ext), largest)
        if survey.radius or fits["EXT"].statistic >= fits["PNT"].statistic or wanted <= radius:
            break
        radius = min(wanted, _stepped(source, 3 * radius))
    source.alone = not (first and max(radius, wanted) >= largest)
    if full:
        half = source.half
        fits |= fit_composite(patches, fits, shift=shift, half=half, largest=source.largest, level_error=level_error)
    elif not first and source.n_fits < MOST_FORMS:
        fits = _exchange(survey, source, patches, free, fits, shift, level_error)
    source.fits, source.radius = fits, radius
    source.n_counts = float(sum(patch.counts.sum() for patch in patches))
    source.n_fits += 1
    if source.n_fits <= MOST_FORMS:
        source.held = source.parent is not None and not _stands_out(survey, source, patches)
    best = best_model(source)
    source.gain = fits["NULL"].statistic - fits[best].statistic
    if source.n_fits <= MOST_FORMS:
        source.form = best if source.is_sure else ""
    source.set_model(list(fits[source.form or best].parts))
    source.stale = False
    source.drawings = survey.draw(source) if source.form else {}
    if not source.has_children:
        _tell(survey, source, before)
        survey.modelled.add(source.drawings)


def _stands_out(survey, source, patches):
    """Whether the extended model of a child is clearly better than a point, higher than the structure that it lies
    on, and narrower than what is structure itself."""
    point, extended = source.fits["PNT"], source.fits["EXT"]
    x, y, ext, counts = extended.parts[0]
    if point.statistic - extended.statistic < NOT_NOISE or ext > WIDE * source.largest:
        return False
    height = sum(n * table.at(table.to_u(ext))[0, 0, 0] for n, table in zip(counts, source.tables, strict=True))
    level = sum(patch.background[np.argmin((patch.x - x) ** 2 + (patch.y - y) ** 2)] for patch in patches)
    return height > CHILD_CONTRAST * level


def _tell(survey, source, before):
    """Mark the sources to which the change of a model matters."""
    change = survey.modelled.change(before, source.drawings)
    for other in survey.sources:
        if other is source or not other.fits or other.stale:
            continue
        gain = min(max(other.gain, 1.0), MOST_GAIN)
        for number in other.cameras:
            radius = other.radius / survey.cameras[number].pixel
            if gain * survey.modelled.within(change, number, survey.places[number][other.row], radius) > SETTLED:
                other.stale = True
                break


def _exchange(survey, source, patches, free, fits, shift, level_error):
    """Fits with the roles of point and extended source exchanged with a neighbour, where these are better: the
    source fitted first takes the light of both and would keep it."""
    neighbours = [images for _, images in free]
    for index, (other, _) in enumerate(free):
        if other.ext <= fits["EXT"].ext:
            continue
        best = min(fits["PNT"].statistic, fits["EXT"].statistic)
        before = other.parts, other.reach
        other.set_model([(*other.parts[0][:2], 0.0, np.maximum(other.first_counts, 1.0))])
        drawings = survey.draw(other)
        trial = [
            drawings[number].at(patch.rows, patch.columns) if number in drawings else np.zeros(len(patch.counts))
            for number, patch in zip(source.cameras, patches, strict=True)
        ]
        set_neighbours(patches, [*neighbours[:index], trial, *neighbours[index + 1 :]])
        exchanged = fit_source(patches, shift=shift, largest=source.largest, level_error=level_error)
        if exchanged["EXT"].statistic < best - EXCHANGE:
            survey.modelled.add(other.drawings, -1)
            other.drawings, other.stale = drawings, True
            survey.modelled.add(drawings)
            return exchanged
        other.parts, other.reach = before
        set_neighbours(patches, neighbours)
    return fits


def _settle(survey, *, full):
    """Fit all but the structures until nothing changes, the brightest first."""
    sources = [source for source in survey.sources if source.cameras and not source.has_children]
    sources.sort(key=lambda source: -source.parts[0][3].sum())
    for source in sources:
        source.stale, source.n_fits = True, 0
    for turn in range(MAX_TURNS):
        stale = [source for source in sources if source.stale]
        if not stale:
            break
        for source in stale:
            _fit(survey, source, first=turn == 0 and not full, full=full)
            source.stale |= turn == 0 and not full and not source.alone


def _fit_structures(survey):
    """Fit the structures beside everything else, together if there are several."""
    for _ in range(N_STRUCTURE if len(survey.structures) > 1 else 1):
        for source in sorted(survey.structures, key=lambda source: -survey.segments[source.row, 1]):
            _fit(survey, source, first=False, full=True)
