"""`read_events`: the image of an event list."""

import numpy as np
from astropy import units as u

from astroclassify._checks import check_integer, check_quantity, shorten
from astroclassify.exceptions import ArgumentError, GeometryError

from .._checks import check_position
from .._open import name_of, open_fits
from ._image import check_band, image_of_events, is_events

__all__ = ["read_events"]


def read_events(path, *, energy=None, pixel=None, position=None, size=None):
    """
    Read an event list as an image of counts.

    Knows the lists of Chandra, XMM-Newton (EPIC), eROSITA, ROSAT, Swift (XRT), NuSTAR, Fermi (LAT), SOXS and
    `astroclassify.sim.write_events`, and others with columns X and Y that have a coordinate system. The selection of
    events by grade, pattern, flag or chip is left as the file has it. A list of any length is read in little memory.

    Parameters
    ----------
    path : str, path-like or `~astropy.io.fits.HDUList`
        A FITS file with an event list, compressed or not; or its HDUs, as they are in memory.
    energy : `~astropy.units.Quantity`, optional
        Lower and upper end of the band, shape (2,): events from the first up to, not including, the second. By
        default all events of the list.
    pixel : `~astropy.units.Quantity` or int, optional
        Side of a pixel: an angle, or a whole number of the list's own pixels. Where the list's places are whole
        numbers, an angle is rounded to whole pixels of the list. See notes for the default.
    position : `~astropy.coordinates.SkyCoord`, optional
        Middle of the part of the sky that is wanted, together with ``size``; by default all of it.
    size : `~astropy.units.Quantity`, optional
        Side of that part, or sides along y and x: an angle. What lies beyond the list's sky is left off.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Counts per pixel, celestial WCS, the header of the list in ``meta``: EXPOSURE [s], ENERGYLO and ENERGYHI [keV]
        where ``energy`` was given, HISTORY with what was selected, by the file and here, and how many events are not
        in the image and why. A list without events is an empty image. ``meta["FLAGS"]`` has ``low_counts`` where the
        image has less than 100 counts.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        If an argument is not allowed.
    GeometryError
        If the file is damaged or has no event list, the list no sky coordinates or such that cannot be true, or was
        taken in a mode without images; if it has no energies where a band is asked for, or none of that band; or if
        the image would have more than 8192 by 8192 pixels.

    Warns
    -----
    ImageWarning
        Where the header's exposure contradicts the good time intervals, where an XMM-Newton list states no selection on
        FLAG and PATTERN, for Chandra lists of level 1, for telescopes that moved over the sky, where the band goes
        beyond that of the file, and where more than 1 % of the events have no place on the list's sky.

    Notes
    -----
    Pixels: 1.968" for Chandra ACIS, 2.108" for HRC, 4" for XMM-Newton EPIC, eROSITA and ROSAT HRI, 15" for PSPC, 0.1
    deg for Fermi LAT, rounded to whole pixels of the list. Those of the list itself (2.36" for Swift XRT, 2.46" for
    NuSTAR) for lists with a sky of at most 1024 pixels a side and for those of this package; others are binned by a
    power of two to at most 2048 pixels a side. An image covers the legal range of the columns (TLMINn, TLMAXn);
    where it has more than 1024 pixels a side its empty border is left off, the same on opposite sides.

    Energies: the column ENERGY, else PI, in the unit of the column (TUNITn); PI without one by the mission's channels
    (ACIS 14.6 eV, XRT and PSPC 10 eV, NuSTAR 40 eV above 1.6 keV), of which those whose middle lies in the band are
    used. Of eROSITA lists, rows with PI below zero are no photons and do not count.

    Exposure: EXPOSURE, else LIVETIME, else ONTIME of the header. One that exceeds the good time (all GTI tables
    together, by more than 1 %) is not believed: that of the table with most good time, times the share in which the
    detector is live (EXPOSURE / ONTIME, else DTCOR or DEADC), takes its place. It does so as well where the header has
    none. Telescopes that moved (OBS_MODE SURVEY, SCAN or SLEW; Fermi) have no one exposure: none is set.

    Lists with RA and DEC alone are projected (TAN) around their selected circle, RA_CEN or RA_PNT, or ``position``.

    References
    ----------
    FITS standard 4.0, section 8 (coordinates of columns); OGIP/92-009 (event lists), OGIP/93-003 (times). Documents of
    the missions: see :doc:`/reference/files`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.io import fits
    >>> from astroclassify.images import read_events
    >>> events = fits.BinTableHDU.from_columns([
    ...     fits.Column("X", "E", array=[1.0, 2.1, 2.2]), fits.Column("Y", "E", array=[1.0, 3.0, 3.0]),
    ...     fits.Column("ENERGY", "E", unit="eV", array=[900.0, 1500.0, 8000.0])], name="EVENTS")
    >>> for n, axis, value in ((1, "RA---TAN", 55.7), (2, "DEC--TAN", -53.6)):
    ...     events.header.update({f"TCTYP{n}": axis, f"TCRVL{n}": value, f"TCRPX{n}": 2.0, f"TCDLT{n}": 0.001,
    ...                           f"TLMIN{n}": 0.5, f"TLMAX{n}": 3.5})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     events.writeto(f"{folder}/events.fits")
    ...     read_events(f"{folder}/events.fits", energy=[0.5, 2] * u.keV).data.astype(int)
    array([[1, 0, 0],
           [0, 0, 0],
           [0, 1, 0]])
    """
    band = _check_arguments(energy, pixel, position, size)
    name = name_of(path)
    with open_fits(path) as hdus:
        number = next((n for n, hdu in enumerate(hdus) if is_events(hdu)), None)
        if number is None:
            names = ", ".join(f"{hdu.name or n} ({type(hdu).__name__})" for n, hdu in enumerate(hdus))
            raise GeometryError(f"{str(name)!r} has no event list, only {names}")
        return image_of_events(hdus, number, name, band=band, pixel=pixel, position=position, size=size)


def _check_arguments(energy, pixel, position, size):
    """Band [keV] or None; an error for an argument that no list allows."""
    if isinstance(pixel, u.Quantity):
        check_quantity("pixel", pixel, u.arcsec, positive=True, shape=())
    elif pixel is not None:
        check_integer("pixel", pixel, 1)
    if (position is None) != (size is None):
        raise ArgumentError("position and size go together: give both or neither")
    if position is not None:
        check_position("position", position)
        if np.shape(check_quantity("size", size, u.deg, positive=True)) not in ((), (2,)):
            raise ArgumentError(f"size must be one angle or two (along y and x), got {shorten(size)}")
    return check_band(energy)
