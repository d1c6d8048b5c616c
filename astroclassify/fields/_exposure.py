"""Exposure map where an image has none: time in the header, vignetting, and field of view from the counts."""

import numpy as np
from scipy.ndimage import label, maximum_filter, uniform_filter

from astroclassify.images._exposure_map import header_time

from ._chips import detector_frame, knows_chips, on_chips
from ._columns import line_response
from ._instruments import vignetting
from ._telescopes import INSTRUMENTS

__all__ = ["estimate_exposure", "field_of_view", "instrument_name"]

EMPTY = 16.0  # counts that a square without any would hold in the field's faint parts: a chance of 1e-7
KNOWN = 0.75  # share of a square that must not be masked to call it empty: beside a mask few counts are by chance


def instrument_name(header):
    """Name of a header's instrument as in `Field`: one of `INSTRUMENTS` or several, both arrays of ACIS in one; or
    UNKNOWN."""
    names = [name.removesuffix("-I").removesuffix("-S") for name in (header.instrument or "").split("+")]
    return "+".join(names) if set(names) <= set(INSTRUMENTS) else "UNKNOWN"


def estimate_exposure(counts, mask, off_axis, header, place):
    """
    Exposure [s], shape (ny, nx): time of the header, vignetting at the angles [arcmin], field of view, dead columns.

    ``place``: celestial WCS, optical axis and side of a pixel [arcsec]; for EPIC pn they say where its chips lie and
    how their columns run.
    """
    seen = field_of_view(counts, mask)
    wcs, axis, pixel = place
    exposure = header_time(header) * vignetting(instrument_name(header), off_axis) * seen
    if knows_chips(header, axis):
        exposure *= on_chips(counts, wcs, axis, pixel, header.position_angle)
        across, along, _ = detector_frame(wcs, axis, counts.shape, pixel, header.position_angle)
        exposure *= line_response(counts, np.where(mask, 0.0, exposure), across, along)
    return exposure


def field_of_view(counts, mask):
    """
    Where counts can be, shape (ny, nx); ``mask`` is true where nothing is known.

    False in every square without a count that is so large that the faint parts of the field would have put 16 there,
    and that is not masked for the most part; also in islands smaller than that square (stray counts off the field). All
    true where there are too few counts to tell.
    """
    everywhere = np.ones(counts.shape, bool)
    if np.count_nonzero(counts) < EMPTY:
        return everywhere
    side = 1
    for _ in range(20):
        # Brightness of the faint parts: tenth percentile over squares of the size that it asks for.
        faint = _faint_level(counts, mask, side)
        if faint <= 0:
            return everywhere
        wanted = int(np.ceil(np.sqrt(EMPTY / faint)))
        if wanted <= side:
            break
        side = max(side + 1, (side + wanted) // 2)
    side += 1 - side % 2
    if side > min(counts.shape) / 3:
        return everywhere
    empty = maximum_filter(counts > 0, side, mode="constant", cval=True) == 0
    empty &= uniform_filter((~mask).astype(float), side, mode="constant") > KNOWN
    field = ~maximum_filter(empty, side, mode="constant", cval=False)
    islands, number = label(field)
    sizes = np.bincount(islands.ravel(), minlength=number + 1)
    keep = sizes >= side**2
    keep[0] = False
    return keep[islands] if keep.any() else everywhere


def _faint_level(counts, mask, side):
    """Counts per pixel in the faint parts of the field, over squares that are not empty."""
    rows, columns = (n // side * side for n in counts.shape)
    blocks = (rows // side, side, columns // side, side)
    summed = counts[:rows, :columns].reshape(blocks).sum(axis=(1, 3))
    pixels = (~mask[:rows, :columns]).reshape(blocks).sum(axis=(1, 3))
    seen = (summed > 0) & (pixels > 0.5 * side**2)
    if not seen.any():
        return 0.0
    return float(np.percentile(summed[seen] / pixels[seen], 10))
