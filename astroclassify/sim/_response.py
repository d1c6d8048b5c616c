"""Effective areas of the instruments that mock images are made for."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from astropy import units as u
from astropy.table import QTable

__all__ = ["RESPONSES", "Response", "load_response"]

_COLUMNS = {"acis-i-cycle0": "area_cycle0", "acis-i-cycle19": "area_cycle19"}

RESPONSES = tuple(_COLUMNS)
"""Names of the packaged responses."""


@dataclass(frozen=True, eq=False)
class Response:
    """
    Effective area of a telescope with its detector, as a function of energy.

    Attributes
    ----------
    name : str
        Name of the response.
    energy_edges : `~numpy.ndarray`, shape (n + 1,)
        Edges of the energy bins [keV].
    effective_area : `~numpy.ndarray`, shape (n,)
        Mean effective area in each bin [cm2], detector efficiency included.

    Notes
    -----
    There is no energy redistribution here: a photon's energy is taken as its true one. With an instrument of SOXS, SOXS
    applies its matrix.
    """

    name: str
    energy_edges: np.ndarray
    effective_area: np.ndarray

    def area(self, energy_keV):
        """
        Effective area at given energies.

        Parameters
        ----------
        energy_keV : float or array_like
            Photon energies [keV].

        Returns
        -------
        float or `~numpy.ndarray`
            Area [cm2]: that of the bin the energy falls in, zero outside the curve, so that sums over a band
            keep the means of the table.

        Raises
        ------
        ValueError
            If an energy is NaN.
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
    with (files("astroclassify") / "data" / "acis_i_effective_area.ecsv").open("rb") as stream:
        table = QTable.read(stream.read().decode("ascii"), format="ascii.ecsv")
    low, high = table["energy_lo"].to_value(u.keV), table["energy_hi"].to_value(u.keV)
    edges = np.append(low, high[-1])
    area = np.array(table[_COLUMNS[name]].to_value(u.cm**2))
    edges.flags.writeable = area.flags.writeable = False
    return Response(name, edges, area)


def load_response(name="acis-i-cycle0", folder=None):
    """
    Load an effective area curve.

    Parameters
    ----------
    name : str
        ``"acis-i-cycle0"`` or ``"acis-i-cycle19"``: Chandra ACIS-I at the aimpoint, at launch and in cycle 19
        (2017-2018, after the loss at low energies). Or ``"soxs:"`` and the name of an imaging instrument of SOXS, for
        example ``"soxs:chandra_acisi_cy22"``.
    folder : path-like, optional
        Where the files of an instrument of SOXS lie; it must be given for one, and for nothing else.

    Returns
    -------
    Response
        The packaged effective area from 0.3 to 10 keV in bins of 0.05 keV, read once per process, or that of the
        instrument's ARF.

    Raises
    ------
    ValueError
        If there is no response of this name, or a file of the instrument is missing.
    MissingDependencyError
        If an instrument of SOXS is asked for and soxs is not installed.

    Examples
    --------
    >>> from astroclassify.sim._response import load_response
    >>> print(load_response("acis-i-cycle0").area(1.5))
    624.18
    """
    if isinstance(name, str) and name.startswith("soxs:"):
        if folder is None:
            raise ValueError(f"response_files must be the folder with the files of {name!r}, got None")
        from ._soxs import read_area

        return Response(name, *read_area(name, folder))
    if name not in RESPONSES:
        raise ValueError(f"response must be one of {RESPONSES}, or 'soxs:' and an instrument's name, got {name!r}")
    if folder is not None:
        raise ValueError(f"response_files must be None with response {name!r}, got {folder!r}")
    return _load(name)
