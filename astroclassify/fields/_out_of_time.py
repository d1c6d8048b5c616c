"""Out-of-time events of EPIC pn: the streaks that bright sources leave along the columns of the chips."""

import numpy as np
from astropy import units as u
from scipy.ndimage import label

from astroclassify._checks import check_number, check_quantity
from astroclassify.images import read_header

from ._chips import detector_frame, knows_chips, mode
from ._instruments import EPN_OUT_OF_TIME, EPN_READOUT_LENGTH
from ._search import SourceSearch

__all__ = ["has_streaks", "out_of_time"]

LEAST_COUNTS = 1000.0  # of a source; the streak of a fainter one is lost in the background
STEPS = 4  # parts of a pixel along each side


def out_of_time(field, *, fraction=None, position_angle=None):
    """
    Out-of-time events of the bright sources of an EPIC pn field.

    Events that arrive while a chip is read out are put at a random row of their column, so that a bright source has a
    streak along the readout direction. `read_field` adds this map to a background that it estimates.

    Parameters
    ----------
    field : Field
        The field; its background may hold the events out of time or not.
    fraction : float, optional
        Share of the events that arrive during the readout; by default that of the header's SUBMODE: 0.063 in full-frame
        mode (also where there is no SUBMODE), 0.023 in extended full-frame mode.
    position_angle : `~astropy.units.Quantity`, optional
        Position angle of the telescope, north through east, as the header's PA_PNT, which is the default. The columns
        are at right angles to it.

    Returns
    -------
    `~numpy.ndarray`, shape (ny, nx)
        Expected counts per pixel, zero where there is no exposure.

    Raises
    ------
    TypeError
        If an argument is of a wrong type.
    ValueError
        If the field is not one of EPIC pn, the position angle is not known, or the mode is one whose fraction must be
        given.

    Notes
    -----
    What SAS does with events (``epchain withoutoftime=Y``, scaled) is done with the image: of each source of at least
    1000 counts the counts above the background are summed in its columns, multiplied by fraction / (1 - fraction) and
    spread over the 200 rows of 4.1 arcsec of its half of the camera. Fainter sources are left as they are: of 1000
    counts some 30 make a strip 10 arcsec wide and 820 arcsec long, where a background of 10 ks has twice as many.

    PA_PNT is the direction of the RGS dispersion (Users' Handbook), which runs along the rows of the pn chips. This and
    the place of the gap between the two rows of chips relative to RA_PNT and DEC_PNT were measured on the mask of OBSID
    0827340901; the gaps along the columns of OBSID 0124710801 agree. Windows smaller than the chip have other fractions
    and lengths. Sources so bright that they pile up have more events out of time than this map.

    References
    ----------
    SAS documentation, epchain, "Out-of-time events" (6.3 % and 2.3 %); XMM-Newton Users' Handbook, position angle.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.fields import out_of_time
    >>> from astroclassify.sim import simulate_field
    >>> bright = QTable({"x": [80] * u.pix, "y": [80] * u.pix, "counts": [2e4] * u.ct, "core_radius": [0] * u.arcsec})
    >>> field = simulate_field(rng=1, shape=(160, 160), injected=bright).field
    >>> bool(300 < out_of_time(field).sum() < 700)
    True
    """
    if field.instrument != "EPN":
        raise ValueError(f"field must be one of EPIC pn (instrument EPN), got {field.instrument}")
    header = read_header(field.meta)
    fraction = _check_fraction(fraction, header)
    angle = _check_angle(position_angle, header)
    across, along, unit = detector_frame(field.wcs, field.axis, field.shape, field.pixel, angle)
    valid = ~field.mask & (field.exposure > 0)
    excess = _bright_excess(field, valid)
    streaks = np.zeros(field.shape)
    if not excess.any():
        return streaks
    for half in (along < 0, along >= 0):
        centres, summed = _column_sums(across, np.where(half, excess, 0.0), unit)
        streaks += np.where(half & valid, np.interp(across, centres, np.maximum(summed, 0.0)), 0.0)
    return streaks * (fraction / (1 - fraction) * field.pixel / EPN_READOUT_LENGTH)


def has_streaks(field):
    """Whether a field is one of EPIC pn whose header says where its chips lie, in a mode whose fraction is known."""
    return knows_chips(read_header(field.meta), field.axis)


def _check_fraction(fraction, header):
    if fraction is not None:
        return check_number("fraction", fraction, 0, 0.5)
    if mode(header) not in EPN_OUT_OF_TIME:
        raise ValueError(
            f"fraction must be given for the mode {header.mode!r}: known are PrimeFullWindow and "
            "PrimeFullWindowExtended"
        )
    return EPN_OUT_OF_TIME[mode(header)]


def _check_angle(position_angle, header):
    """Position angle [deg]."""
    if position_angle is not None:
        return check_quantity("position_angle", position_angle, u.deg, shape=())
    if header.position_angle is None:
        raise ValueError("position_angle must be given: the header has no PA_PNT from 0 to 360 degrees")
    return header.position_angle


def _bright_excess(field, valid):
    """Counts above the background in the pixels of bright sources, zero elsewhere."""
    excess = np.where(valid, field.counts - field.background, 0.0)
    segments, number = label(SourceSearch(field.counts, valid)(field.background), np.ones((3, 3)))
    bright = np.bincount(segments.ravel(), excess.ravel(), number + 1) >= LEAST_COUNTS
    bright[0] = False
    return np.where(bright[segments], excess, 0.0)


def _column_sums(across, image, step):
    """Sum of an image over the columns, per pixel along the rows: middles of the bins and sums."""
    rows, columns = np.nonzero(image)
    if not len(rows):
        return np.zeros(1), np.zeros(1)
    # A pixel is cut in parts, or a tilted grid would fill the bins unevenly.
    parts = (np.arange(STEPS) + 0.5) / STEPS - 0.5
    offsets = (step[0] * parts + step[1] * parts[:, np.newaxis]).ravel()
    places = across[rows, columns][:, np.newaxis] + offsets
    first, last = np.floor(places.min()) - 1, np.ceil(places.max()) + 1
    weights = np.repeat(image[rows, columns] / offsets.size, offsets.size)
    summed, edges = np.histogram(places.ravel(), np.arange(first, last + 1), weights=weights)
    return (edges[1:] + edges[:-1]) / 2, summed
