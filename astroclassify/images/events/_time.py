"""Exposure time of an event list: what its header says against its good time intervals."""

import re

import numpy as np
from astropy.io import fits

from ._table import EventTable

# Intervals in which the events of the list were taken: of the file (GTI, STDGTI), of a CCD of XMM-Newton (STDGTI01,
# GTI00403) or of a telescope module of eROSITA (GTI1). FLAREGTI and others of eROSITA are no such.
_GTI = re.compile(r"(STD)?GTI\d*$")
_SLACK = 0.01  # share by which an exposure may exceed the good time


def good_time(hdus, path):
    """Good time [s] of the table with most of it, and of all tables together; None where the file has none."""
    tables = []
    for number, hdu in enumerate(hdus):
        if not isinstance(hdu, fits.BinTableHDU) or not _GTI.match(hdu.name.strip().upper()):
            continue
        table = EventTable(hdus, number, path)
        start, stop = table.column("START"), table.column("STOP")
        if start is None or stop is None:
            continue
        blocks = [(start.values(rows), stop.values(rows)) for rows in table.blocks()]
        tables.append(np.concatenate(blocks, axis=1) if blocks else np.empty((2, 0)))
    if not tables:
        return None
    return max(_length(*each) for each in tables), _length(*np.concatenate(tables, axis=1))


def _length(start, stop):
    """Length of the union of intervals; those without an end, or that end before they start, are none."""
    good = np.isfinite(start) & np.isfinite(stop) & (stop > start)
    order = np.argsort(start[good], kind="stable")
    start, stop = start[good][order], np.maximum.accumulate(stop[good][order])
    before = np.concatenate([[-np.inf], stop[:-1]])
    return float(np.sum(np.maximum(stop - np.maximum(start, before), 0.0)))


def exposure_time(stated, live, good):
    """
    Exposure [s] or None, a sentence on where it comes from, and whether the header contradicts the intervals.

    ``stated`` is the header's time, ``live`` the share of the time in which events count, ``good`` what `good_time`
    gives. A list cut in time keeps the header of the whole one: no exposure is longer than the good time.
    """
    if good is None or not good[1] > 0:
        text = "no time in the header" if stated is None else f"{stated:.6g} s by the header"
        return stated, f"{text}, no good time intervals", False
    longest, together = good
    if stated is not None and stated <= together * (1 + _SLACK):
        return stated, f"{stated:.6g} s by the header, good time {together:.6g} s", False
    used = longest * live
    if stated is None:
        return used, f"{used:.6g} s: good time {longest:.6g} s times {live:.4g} (dead time)", False
    return used, (
        f"{used:.6g} s: the header's {stated:.6g} s exceeds the good time of {together:.6g} s "
        f"(a list cut in time?), of which {live:.4g} is live"
    ), True  # fmt: skip


def live_share(table):
    """Share of the time in which the detector counts: exposure over on-time, else DTCOR or DEADC, else one."""
    live, total = table.number_of("EXPOSURE") or table.number_of("LIVETIME"), table.number_of("ONTIME")
    shares = [live / total if live and total else None, table.number_of("DTCOR"), table.number_of("DEADC")]
    return next((share for share in shares if share is not None and 0 < share <= 1), 1.0)
