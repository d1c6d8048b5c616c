"""The image of an event list of an open file."""

import re
import warnings

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from astroclassify._checks import check_quantity
from astroclassify.exceptions import ArgumentError, GeometryError, ImageWarning
from astroclassify.schemes import Flag

from .._checks import as_image, image_flags
from .._standardise import LOW_COUNTS
from ..headers._cards import plain_meta, read_meta
from ..headers._headers import BAND_KEYS, EXPOSURE_KEYS, read_header
from ._grid import make_grid, trim
from ._missions import MISSIONS, energy_scale, is_moving, missing_selection, not_imaging, selections
from ._sky import find_sky
from ._table import EventTable
from ._time import exposure_time, good_time, live_share

__all__ = ["check_band", "image_of_events", "is_events", "only_events"]

# Keywords of a table and its columns, which mean nothing for an image.
_TABLE_KEY = re.compile(
    r"(T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL|LMIN|LMAX|DMIN|DMAX|CTYP|CUNI|CRPX|CRVL|CDLT|CROT|CNA|ALEN)"
    r"|MTYPE|MFORM|LONP|LATP)\d+$|T(PC?|CD?)\d+_\d+$|REF[XY][A-Z]+$"
    r"|(TFIELDS|THEAP|HDUNAME|TSORTKEY)$"
)
# Why an event is not in the image.
_OF_OTHER_ENERGY = ("have no energy", "are no photons (PI below zero)", "lie outside the band")
_ELSEWHERE = (
    "have no place on the sky",
    "lie outside the legal range of the list's sky",
    "lie outside the part of the sky that was asked for",
)
_MANY = 0.01  # share of the events without a place on the sky above which a warning is due


def check_band(energy):
    """Ends of a band [keV] or None, or an error that names the argument."""
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
        if found is None and is_events(hdu):
            found = number
    return found


def is_events(hdu):
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
    meta, history = {}, []
    for header in (hdus[0].header, table.header):
        found = plain_meta(read_meta(header, table.label))
        history += found.pop("HISTORY", "").splitlines()
        meta |= {key: value for key, value in found.items() if key != "COMMENT" and not _TABLE_KEY.match(key)}
    return meta | ({"HISTORY": "\n".join(history)} if history else {})


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
