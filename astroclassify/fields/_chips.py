"""Where the chips of EPIC pn lie in an image, from the header's pointing and position angle."""

import numpy as np
from astropy import units as u

from ._instruments import EPN_AXIS, EPN_FIELD_RADIUS, EPN_OUT_OF_TIME, epn_on_chips

__all__ = ["detector_frame", "knows_chips", "mode", "on_chips"]

LEVER = 5 * u.arcmin  # over which directions are measured
EMPTY = 0.5  # brightness of the gaps over that of the chips, if they are where the header says


def mode(header):
    """Mode of EPIC pn in capitals; full frame where the header does not say."""
    return (header.mode or "PrimeFullWindow").upper()


def knows_chips(header, axis):
    """Whether a header is one of EPIC pn with all chips on and says where they lie; ``axis`` is the one in use."""
    known = header.instrument == "EPN" and header.pointing_keyword == "RA_PNT" and header.position_angle is not None
    pointing = header.axis() if known else None
    return pointing is not None and pointing.separation(axis) < 1 * u.arcsec and mode(header) in EPN_OUT_OF_TIME


def detector_frame(wcs, axis, shape, pixel, angle):
    """
    Places of the pixels in the frame of the chips [pixel]: along the rows and along the columns, the latter from the
    gap between the two rows of chips; and the step along the rows to the next pixel in x and in y.
    """
    middle = np.array(wcs.world_to_pixel(axis), float)
    y, x = np.ogrid[: shape[0], : shape[1]]
    axes = []
    for direction in (angle + 180, angle - 90):
        place = axis.directional_offset_by(direction * u.deg, LEVER)
        step = np.array(wcs.world_to_pixel(place), float) - middle
        axes.append(step / np.hypot(*step))
    across, along = (
        unit[0] * (x - middle[0]) + unit[1] * (y - middle[1]) + offset / pixel
        for unit, offset in zip(axes, EPN_AXIS, strict=True)
    )
    return across, along, axes[0]


def on_chips(counts, wcs, axis, pixel, angle):
    """Pixels on chips inside the round field; the gaps between chips count as chips if the counts do not show them."""
    across, along, _ = detector_frame(wcs, axis, counts.shape, pixel, angle)
    across, along = across * pixel, along * pixel
    field = across**2 + along**2 < EPN_FIELD_RADIUS**2
    live = epn_on_chips(across, along)
    gaps = field & ~live
    shown = gaps.any() and live.any() and counts[gaps].mean() < EMPTY * counts[live].mean()
    return live if shown else field
