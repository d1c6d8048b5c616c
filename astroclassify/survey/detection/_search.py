"""Sources of a field: wavelet filter, segmentation of the filtered image, deblending."""

import warnings
from numbers import Integral

import numpy as np
from astropy import units as u
from astropy.table import QTable
from photutils.segmentation import SegmentationImage, detect_sources
from photutils.utils.exceptions import NoDetectionsWarning
from scipy.ndimage import binary_dilation, label

from astroclassify._checks import check_number
from astroclassify.exceptions import ArgumentError, EmptyResultWarning
from astroclassify.fields._field import check_field
from astroclassify.images._wavelet import filter_counts
from astroclassify.schemes import Flag
from astroclassify.tables import provenance

from ..extents._sources import CHILD_EXT
from ._gaps import fill_gaps
from ._segments import LEAST_PIXELS, find_basins, merge_basins
from ._structures import find_structures, pieces

__all__ = ["FALSE_ALARM", "filter_image", "find_sources", "segment"]

FALSE_ALARM = 1e-3
HIGHEST, LOWEST = 0.1, 1e-12  # between which it must lie
COARSEST = 1 / 8  # size of the coarsest wavelet, 2^scale pixels, in units of the shorter side
MOST_SCALES = 7
LARGE = 0.2  # share of the field from which structure is large: there is little sky to tell the background from it
LEAST_EXPOSURE = 0.02  # share of the largest exposure below which a pixel is not searched


def filter_image(field, *, false_alarm=FALSE_ALARM, scales=None):
    """
    Counts of everything that is significant above the background of a field, without noise.

    Parameters
    ----------
    field : Field
        The field.
    false_alarm : float, optional
        Probability per pixel and scale that noise passes, from 1e-12 to 0.1.
    scales : sequence of int, optional
        Wavelet scales: scale j shows structure of about 2^j pixels. By default from the half-energy radius of the
        point spread function to an eighth of the shorter side.

    Returns
    -------
    `~numpy.ndarray`, shape (ny, nx)
        Counts per pixel, zero where there is nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument has a type or a value that is not allowed.

    Notes
    -----
    B3-spline a trous transform (Starck & Murtagh 1998, PASP 110, 193). The significance of a coefficient is exact for
    few counts: from the compound Poisson distribution of the sum of the wavelet at the places of the events. Pixels
    without exposure (gaps, outside the field of view) hold no counts and no expected counts, so that their edges are no
    signal. There, coefficients less than half of whose wavelet's core is on exposed pixels are not used. Where a gap no
    wider than twice the half-energy radius cuts through a source, it holds what its surroundings let expect instead
    (Richardson-Lucy on the exposed pixels), and so does the filtered image.

    Examples
    --------
    >>> from astroclassify.sim import simulate_field
    >>> from astroclassify.survey import filter_image
    >>> field = simulate_field(rng=1, shape=(200, 200)).field
    >>> image = filter_image(field)
    >>> image.shape, bool(0 < image.sum() < field.counts.sum())
    ((200, 200), True)
    """
    check_field(field)
    return _filter(field, false_alarm, scales)[0].astype(float)


def find_sources(field, *, false_alarm=FALSE_ALARM, scales=None):
    """
    Find the sources of a field.

    Parameters
    ----------
    field : Field
        The field.
    false_alarm : float, optional
        Probability per pixel and scale that noise passes.
    scales : sequence of int, optional
        Wavelet scales, see `filter_image`.

    Returns
    -------
    `~astropy.table.QTable`
        One row per source, the brightest first: ``source_id``, ``parent_id`` (of the large structure that it lies on,
        or empty), ``sky_position``, ``x``, ``y``, ``filtered_counts``, ``area`` (of the segment), ``radius`` (of a
        circle of that area), ``region_radius`` (the same of the connected region of which the segment is a part),
        ``flags``: ``off_edge`` where the segment reaches the edge of the image, ``masked`` where it reaches pixels that
        are not searched, ``large_structure`` for structures on more than a fifth of the field and what lies on them.

    Raises
    ------
    TypeError, ValueError
        If an argument has a type or a value that is not allowed.

    Warns
    -----
    EmptyResultWarning
        If nothing is found: the table has no rows.

    Notes
    -----
    Large structure comes first: what is wider than three half-energy radii of the point spread function, stands out by
    5 sigma, 30% and three times the background's error in counts smoothed on that scale, and is as large as a disc of
    twenty. Each structure is one source; of the peaks on it those are sources that stand out from it.

    Segments of at least 5 connected pixels of the filtered image (`filter_image`) are split along valleys: each pixel
    belongs to the peak at the end of the steepest ascent from it. A peak that rises above the saddle to a higher one by
    less than 30% of its height, or by less than four standard deviations of the noise there, is part of that one.
    Positions are barycentres of the pixels above half of the peak. A source on a narrow gap is one, with its peak in
    the gap if need be; its ``filtered_counts`` and ``area`` include the part that the gap hides.

    The deblending of photutils needs scikit-image; this one does not.

    Examples
    --------
    >>> from astroclassify.sim import simulate_field
    >>> from astroclassify.survey import find_sources
    >>> field = simulate_field(rng=1, shape=(200, 200)).field
    >>> sources = find_sources(field)
    >>> sources.colnames[:4]
    ['source_id', 'parent_id', 'sky_position', 'x']
    """
    check_field(field)
    image, background = _filter(field, false_alarm, scales)
    finest = min(_check_scales(scales, field))
    segments = segment(image, background, finest)
    if segments.max() == 0:
        warnings.warn("no sources were found", EmptyResultWarning, stacklevel=2)
    found = _with_structures(field, image, background, segments, _noise_area(finest))
    order = np.argsort(-found["counts"], kind="stable")
    found = {name: values[order] for name, values in found.items()}
    names = np.array([str(number) for number in range(1, len(order) + 1)], dtype="U32")
    # Structures were first, in the order of their numbers, from 1.
    ids = np.append("", names[np.argsort(order)])
    table = QTable(
        {
            "source_id": names,
            "parent_id": ids[found["parent"]].astype("U32"),
            "sky_position": field.wcs.pixel_to_world(found["x"], found["y"]),
            "x": found["x"] * u.pix,
            "y": found["y"] * u.pix,
            "filtered_counts": found["counts"] * u.ct,
            "area": found["area"] * field.pixel**2 * u.arcsec**2,
            "radius": np.sqrt(found["area"] / np.pi) * field.pixel * u.arcsec,
            "region_radius": np.sqrt(found["region"] / np.pi) * field.pixel * u.arcsec,
            "flags": found["flags"].astype(np.int64),
        }
    )
    table.meta.update(provenance(false_alarm=float(false_alarm)))
    return table


def _with_structures(field, image, background, segments, area):
    """Columns of `_measure` for large structures and then for segments, less those that are pieces of structures; and
    ``parent``, the number of the structure (0: none) on which a segment lies."""
    searched, half = _searched(field), _half_energy(field)

    def tail(radius):
        share = field.psf.profile(radius * field.pixel, 0.0) * field.pixel**2
        return share / field.psf.encircled(CHILD_EXT * half * field.pixel, 0.0)

    counts = np.where(searched, field.counts, 0.0)
    structures, brightness, compact = find_structures(
        counts, image, background, searched, half, field.background_error, tail
    )
    parents, alone, peaks = pieces(image, segments, structures, brightness, compact, background, half, area)
    image = np.where(np.append(0, parents)[segments] > 0, compact, image)
    large = np.bincount(structures[searched] > 0, minlength=2)[1] > LARGE * searched.sum()
    large_flag = Flag.LARGE_STRUCTURE.value if large else 0
    first, second = _measure(brightness, structures, searched), _measure(image, segments, searched)
    for number, peak in enumerate(peaks):  # the place of a compact one is better known
        place = [second[axis][peak - 1] for axis in ("x", "y")]
        if peak and np.hypot(place[0] - first["x"][number], place[1] - first["y"][number]) < CHILD_EXT * half:
            first["x"][number], first["y"][number] = place
    first["parent"], second["parent"] = np.zeros(len(first["x"]), int), parents
    first["flags"] |= large_flag
    second["flags"] |= np.where(parents > 0, large_flag, 0)
    return {name: np.concatenate([first[name], second[name][alone]]) for name in first}


def segment(image, background, finest):
    """Labels (from 1; 0: none) of the segments of an image filtered from scale ``finest`` on, split along valleys."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        segments = detect_sources(image, 0.0, LEAST_PIXELS)
    if segments is None:
        return np.zeros(image.shape, np.int32)
    basins = find_basins(image, segments.data > 0)
    labels = SegmentationImage(merge_basins(image, basins, background, _noise_area(finest)))
    labels.relabel_consecutive()
    return labels.data


def _noise_area(finest):
    """Over as many pixels is a mean that the filter leaves independent: the variance of the spline is 1."""
    return max(4 * np.pi * (4 ** (finest - 1) - 1) / 3, 1.0)


def _filter(field, false_alarm, scales):
    """Filtered image, and the background [counts per pixel] that goes with it, both also in gaps within sources."""
    false_alarm = check_number("false_alarm", false_alarm, LOWEST, HIGHEST)
    scales = _check_scales(scales, field)
    used = _searched(field)
    counts, background = (np.zeros(field.shape, np.float32) for _ in range(2))
    np.copyto(counts, field.counts, "same_kind", used)
    np.clip(field.background, 0.0, None, background, where=used, casting="same_kind")
    counts, background, used = fill_gaps(counts, background, used, _half_energy(field))
    excess = np.subtract(counts, background, out=counts)
    return filter_counts(excess, background, used, scales, false_alarm), background


def _half_energy(field):
    """Half-energy radius of the point spread function on axis [pixels]."""
    return float(field.psf.radius(0.5, 0.0)) / field.pixel


def _check_scales(scales, field):
    """Wavelet scales as a list, checked against the size of the field."""
    most = int(np.clip(np.log2(min(field.shape) * COARSEST), 1, MOST_SCALES))
    if scales is None:
        finest = int(np.clip(round(np.log2(max(_half_energy(field), 1e-3))), 1, most))
        return list(range(finest, most + 1))
    scales = [scales] if np.ndim(scales) == 0 else list(scales)
    if not scales or not all(isinstance(scale, Integral) and 1 <= scale <= most for scale in scales):
        raise ArgumentError(f"scales must be whole numbers from 1 to {most} for {field.shape} pixels, got {scales}")
    return sorted({int(scale) for scale in scales})


def _searched(field):
    """Pixels that are searched: exposed, not masked, with a known background."""
    valid = np.isfinite(field.exposure) & ~field.mask
    least = LEAST_EXPOSURE * field.exposure.max(where=valid, initial=0.0)
    return valid & (field.exposure > least) & np.isfinite(field.background)


def _measure(image, segments, searched):
    """Columns of a table of segments (from 1), in their order: lengths in pixels."""
    n, (ny, nx) = int(segments.max()), image.shape
    places = np.flatnonzero(segments)
    rows, columns = np.divmod(places, nx)
    labels, values = segments.ravel()[places], np.asarray(image.ravel()[places], float)

    def per_label(weights):
        return np.bincount(labels, weights, n + 1)[1:]

    peak = np.zeros(n + 1)
    np.maximum.at(peak, labels, values)
    core = np.where(values > 0.5 * peak[labels], values, 0.0)
    total = np.maximum(per_label(core), np.finfo(float).tiny)
    at_edge = (rows == 0) | (columns == 0) | (rows == ny - 1) | (columns == nx - 1)
    beside = binary_dilation(~searched, np.ones((3, 3))).ravel()[places]
    flags = np.where(per_label(at_edge) > 0, Flag.OFF_EDGE.value, 0)
    flags |= np.where(per_label(beside) > 0, Flag.MASKED.value, 0)
    regions = label(segments > 0, np.ones((3, 3)))[0].ravel()[places]
    region_of = np.zeros(n + 1, np.intp)
    region_of[labels] = regions
    return {
        "x": per_label(core * columns) / total,
        "y": per_label(core * rows) / total,
        "counts": per_label(values),
        "area": per_label(np.ones(len(places))),
        "region": np.bincount(regions, minlength=1)[region_of[1:]].astype(float),
        "flags": flags,
    }
