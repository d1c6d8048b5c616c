"""How many counts an instrument takes from the gas of a cluster: the packaged table, which `sim` has made."""

import re
from functools import lru_cache

import numpy as np
from astropy import units as u
from astropy.table import QTable
from astropy.time import Time

from astroclassify.data import FOLDER as DATA

from ._instruments import EPIC_AREAS

__all__ = ["sensitivity"]

# Years of the first and the last cycle of Chandra in the table; in between cycles are counted evenly.
_YEARS = (1999.6, 2018.0)
_SAME_BAND = 0.02  # keV, up to which two ends of a band are the same


def sensitivity(instrument, energy_range, redshift, *, date=None, response=None):
    """
    Counts per second on axis of an emission measure n_e n_H V of 1e66 cm-3 at a redshift; None where it is not known.

    For gas at 4 keV, 0.3 solar, behind 4e20 cm-2. ``instrument`` as in `Header` (``"ACIS-I"``, ``"EPN"``,
    ``"EPN+EMOS1"``); ``energy_range``: low and high [keV]; ``date``: ISO 8601. The area of ACIS is that of ``response``
    (``"acis-i-cycle0"``), else of the date, else of the middle of the mission.
    """
    total = 0.0
    for name in list(EPIC_AREAS) if instrument == "EPIC" else (instrument or "").split("+"):
        rate = _of_one(name, energy_range, redshift, date, response)
        if rate is None:
            return None
        total += rate
    return total


def _of_one(instrument, energy_range, redshift, date, response):
    """`sensitivity` of one camera."""
    known, redshifts, rates = _table()
    array = instrument if instrument != "ACIS" else "ACIS-I"
    rows = [
        n
        for n, (name, _, *band) in enumerate(known)
        if name == array and all(abs(a - b) <= _SAME_BAND for a, b in zip(band, energy_range, strict=True))
    ]
    if not rows or not redshifts[0] <= redshift <= redshifts[-1]:
        return None
    logs = [float(np.interp(np.log(redshift), np.log(redshifts), np.log(rates[n] * redshifts**2))) for n in rows]
    cycles = [known[n][1] for n in rows]
    return float(np.exp(np.interp(_cycle(array, date, response, cycles[-1]), cycles, logs))) / redshift**2


def _cycle(array, date, response, last):
    """Cycle of Chandra, perhaps a fraction."""
    named = re.fullmatch(rf"{array}-cycle(\d+)".lower(), response or "")
    if named:
        return int(named[1])
    if date is None:
        return last / 2
    return last * (Time(date).decimalyear - _YEARS[0]) / (_YEARS[1] - _YEARS[0])


@lru_cache(maxsize=1)
def _table():
    """Instrument, cycle and band [keV] of each row; redshifts (n,), and rates [ct/s] of each row, (rows, n)."""
    with (DATA / "sensitivity.ecsv").open("rb") as stream:
        table = QTable.read(stream.read().decode("ascii"), format="ascii.ecsv")
    names = {"epic-pn": "EPN", "epic-mos1": "EMOS1", "epic-mos2": "EMOS2"}
    known = []
    for row in table:
        array, _, cycle = row["response"].partition("-cycle")
        band = [float(row[end].to_value(u.keV)) for end in ("e_min", "e_max")]
        known.append((names.get(array, array.upper()), int(cycle or 0), *band))
    redshifts = np.array(table.meta["redshifts"])
    rates = np.stack([table[f"z_{z:.5g}"].to_value(u.ct / u.s) for z in redshifts], axis=1)
    return known, redshifts, rates
