"""A halo too large for memory: its gas, piece by piece."""

import functools
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW

from ._snapshot_files import Group, Paths, gas_names, gas_pieces
from ._tng_gas import GAS_FIELDS, SUMMARY_FIELDS, TngGroup

__all__ = ["MANY_CELLS", "HaloPieces", "gas_within"]

N_CELLS = 2_000_000
"""Cells of a piece, those that are left out included."""

MANY_CELLS = 4_000_000
"""Halos of more gas cells than this are read in pieces where that is possible."""

_MEASURED = ("position", "mass", "density", "volume", "n_e", "n_h", "temperature", "metallicity")


@dataclass(frozen=True, eq=False)
class HaloPieces:
    """
    One halo of a snapshot on disk whose gas is read piece by piece, whenever it is needed; from `Snapshot.open_halo`.

    It takes the place of a `Halo` in `observe` and `expected_counts` with the direct engine, and in `measure_core` and
    `measure_halo`, with the same result to the last bit.

    Attributes
    ----------
    halo_id, simulation, snapshot, redshift, m_500, r_500, centre, cosmology
        As those of a `Halo`.
    meta : dict
        ``n_gas``, ``primary``, ``contamination`` and ``base_path``, as in that of `Snapshot.read_halo`.
    """

    halo_id: int
    simulation: str
    snapshot: int
    redshift: float
    m_500: u.Quantity
    r_500: u.Quantity
    centre: u.Quantity
    cosmology: FLRW
    meta: dict
    _paths: Paths
    _entry: Group
    _group: TngGroup
    _spheres: dict = field(default_factory=dict)

    def __repr__(self):
        return (
            f"<HaloPieces {self.halo_id} of {self.simulation} snapshot {self.snapshot}: "
            f"M500 = {self.m_500.value:.3g} Msun, R500 = {self.r_500.value:.0f} kpc, "
            f"{self.meta['n_gas']} gas cells on disk>"
        )

    @functools.cached_property
    def _summary(self):
        """What the cells have in common, after a first pass over them."""
        pieces = gas_pieces(self._paths, self.halo_id, self._entry, names=SUMMARY_FIELDS, size=N_CELLS)
        return self._group.summary(self._group.cells(gas) for gas in pieces)

    def pieces(self):
        """
        Read the gas.

        Yields
        ------
        Halo
            The next cells in the order of the snapshot, at least one and at most two million; ``meta`` is of all.

        Raises
        ------
        SnapshotError
            As `Snapshot.read_halo`.
        """
        yield from self._halos(gas_names(self._paths, self.halo_id, self._entry))

    def _halos(self, names):
        """The pieces, of these fields."""
        summary = self._summary
        for gas in gas_pieces(self._paths, self.halo_id, self._entry, names=names, size=N_CELLS):
            cells = self._group.cells(gas)
            if np.any(cells.kept):
                yield self._group.halo(cells, summary)

    def within(self, radius):
        """The cells within a radius [kpc], and perhaps more, as arrays of the names that measures need."""
        if radius not in self._spheres:
            parts = [_inner(piece, radius) for piece in self._halos(GAS_FIELDS)]
            self._spheres.clear()  # one at a time: they may be large
            self._spheres[radius] = SimpleNamespace(
                r_500=self.r_500, **{name: np.concatenate([part[name] for part in parts]) for name in _MEASURED}
            )
        return self._spheres[radius]


def _inner(halo, radius):
    """Arrays of the cells of a halo within a radius [kpc], and those on its edge, however that is computed."""
    inside = np.sum(halo.position.to_value(u.kpc) ** 2, axis=1) < 1.001 * radius**2
    return {name: getattr(halo, name)[inside] for name in _MEASURED}


def gas_within(halo, radius):
    """The gas of a halo, of one in pieces that within a radius [kpc]."""
    return halo.within(radius) if isinstance(halo, HaloPieces) else halo
