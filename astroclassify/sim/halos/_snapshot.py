"""Halos of an IllustrisTNG snapshot on disk."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW
from astropy.table import QTable

from astroclassify import tables
from astroclassify._checks import check_bool, check_integer, check_number, check_quantity, require
from astroclassify.exceptions import EmptyResultWarning, SnapshotError

from ._hdf5 import opened, whole_number
from ._pieces import HaloPieces
from ._snapshot_files import CONTAMINATION, PRIMARY, Paths, gas_of, group_of, groups_above
from ._tng_gas import TngGroup, check_header, cosmology_of, decoded
from ._tng_units import CodeUnits

__all__ = ["Snapshot", "open_snapshot"]

log = logging.getLogger(__name__)


def _read_header(path):
    """Attributes of the Header group of one file, or a SnapshotError that names the file."""
    with opened(path, "Header") as handle:
        return dict(handle["Header"].attrs.items())


def open_snapshot(base_path, *, snapshot=99):
    """
    Open a snapshot of an IllustrisTNG, TNG-Cluster or Illustris simulation on disk.

    Parameters
    ----------
    base_path : path-like
        The folder that holds ``groups_099`` and ``snapdir_099`` (usually called ``output``), or its parent. The offsets
        file is expected where the TNG data release has it, ``postprocessing/offsets`` beside the folder; catalogues of
        the first Illustris release (``groups_135.0.hdf5``) hold the offsets themselves.
    snapshot : int, optional
        Number of the snapshot; z = 0 is 99 in TNG and TNG-Cluster, 135 in the original Illustris.

    Returns
    -------
    Snapshot
        The open snapshot. Only headers have been read.

    Raises
    ------
    SnapshotError
        If the folder, the snapshot or one of its first files is missing, damaged, or not in the units of TNG.
    MissingDependencyError
        If h5py is not installed.

    Examples
    --------
    >>> from astroclassify.sim import open_snapshot
    >>> open_snapshot("no/such/folder")
    Traceback (most recent call last):
    ...
    astroclassify.exceptions.SnapshotError: snapshot folder does not exist: no/such/folder
    """
    snapshot = check_integer("snapshot", snapshot, 0)
    base = Path(base_path).expanduser()
    if not base.is_dir():
        raise SnapshotError(f"snapshot folder does not exist: {base_path}")
    number = f"{snapshot:03d}"
    if not (base / f"groups_{number}").is_dir() and (base / "output").is_dir():
        base = base / "output"
    for folder in (f"groups_{number}", f"snapdir_{number}"):
        if not (base / folder).is_dir():
            raise SnapshotError(f"snapshot {snapshot} is not in {base}: folder {folder} is missing")
    require("h5py", extra="sim")
    paths = Paths(base, snapshot)
    header = _read_header(paths.cells(0))
    check_header(header, paths.cells(0))
    n_groups = whole_number(_read_header(paths.groups(0)), "Ngroups_Total", paths.groups(0))
    if not paths.offsets_in_catalogue() and not paths.offsets().is_file():
        raise SnapshotError(f"offsets file is missing: {paths.offsets()}")
    return Snapshot(
        base_path=base,
        snapshot=snapshot,
        name=decoded(header.get("SimulationName", base.resolve().parent.name)),
        redshift=max(0.0, float(header["Redshift"])),
        cosmology=cosmology_of(header),
        box_size=CodeUnits(float(header["Time"]), float(header["HubbleParam"])).kpc(header["BoxSize"]) * u.kpc,
        n_groups=n_groups,
        header=header,
    )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """
    A snapshot on disk; made by `open_snapshot`.

    Attributes
    ----------
    base_path : `~pathlib.Path`
        The folder that holds the group catalogue and the cells.
    snapshot : int
        Number of the snapshot.
    name : str
        Name of the simulation: from the header where it says so, else the name of the folder above ``base_path``.
    redshift : float
        Redshift of the snapshot.
    cosmology : `~astropy.cosmology.FLRW`
        Cosmology of the header.
    box_size : `~astropy.units.Quantity`
        Side of the periodic box at that redshift, in physical kpc.
    n_groups : int
        Number of groups in the catalogue.
    header : dict
        Attributes of the snapshot's header.
    """

    base_path: Path
    snapshot: int
    name: str
    redshift: float
    cosmology: FLRW
    box_size: u.Quantity
    n_groups: int
    header: dict

    def __repr__(self):
        return (
            f"<Snapshot {self.snapshot} of {self.name}: z = {self.redshift:.3g}, box of {self.box_size.value:.6g} kpc, "
            f"{self.n_groups} groups>"
        )

    @property
    def _paths(self):
        return Paths(self.base_path, self.snapshot)

    @property
    def _units(self):
        return CodeUnits(float(self.header["Time"]), float(self.header["HubbleParam"]))

    def select_halos(self, *, m_500_min=10**13.75 * u.Msun, primary_only=True, contamination_max=None):
        """
        The groups of the catalogue above a mass.

        Of TNG-Cluster, whose catalogue joins zoom simulations of one volume, these are the targets of the zooms only,
        unless ``primary_only`` is false: the other groups may occur more than once, may hold matter of low resolution,
        and are no fair sample. At z > 0 the target is the first group of its zoom, which need not be the progenitor of
        the cluster at z = 0.

        Parameters
        ----------
        m_500_min : `~astropy.units.Quantity`, optional
            Smallest M500; the default is the limit of Su et al. (2020).
        primary_only : bool, optional
            Whether to leave out groups that no zoom was made for (``GroupPrimaryZoomTarget`` is 0).
        contamination_max : float, optional
            Largest contamination, from 0 to 1; by default there is no limit.

        Returns
        -------
        `~astropy.table.QTable`
            One row per halo in the order of the catalogue: ``halo_id``, ``m_500`` [Msun], ``r_500`` [kpc], ``centre``
            (3 values, kpc), ``n_gas``, the number of gas cells, ``primary``, whether it is the target of a zoom, and
            ``contamination``, the fraction of its dark-matter mass that is of low resolution
            (``GroupContaminationFracByMass``). A catalogue without these two fields is that of a box of one resolution,
            where all are primary and none is contaminated. Without any such halo the table has no rows and an
            `~astroclassify.exceptions.EmptyResultWarning` is given.

        Raises
        ------
        SnapshotError
            If a file or a field of the catalogue is missing or damaged.

        References
        ----------
        Nelson et al. 2024, A&A 686, A157 (TNG-Cluster); https://www.tng-project.org/data/cluster/ (its catalogue).
        """
        limit = check_quantity("m_500_min", m_500_min, u.Msun, shape=())
        check_bool("primary_only", primary_only)
        if contamination_max is not None:
            contamination_max = check_number("contamination_max", contamination_max, 0, 1)
        found = groups_above(self._paths, self.n_groups, self._units.msun(limit, inverse=True))
        secondary = found[PRIMARY] == 0
        kept = ~secondary if primary_only else np.ones_like(secondary)
        if not np.all(kept):
            log.info("%d groups of %s that no zoom was made for are left out", np.count_nonzero(~kept), self.name)
        if contamination_max is not None:
            kept &= found[CONTAMINATION] <= contamination_max
        found = {name: values[kept] for name, values in found.items()}
        table = QTable(
            {
                "halo_id": found["halo_id"].astype(np.int64),
                "m_500": self._units.msun(found["Group_M_Crit500"]) * u.Msun,
                "r_500": self._units.kpc(found["Group_R_Crit500"]) * u.kpc,
                "centre": self._units.kpc(found["GroupPos"]) * u.kpc,
                "n_gas": found["GroupLenType"][:, 0].astype(np.int64),
                "primary": found[PRIMARY] != 0,
                "contamination": found[CONTAMINATION].astype(float),
            },
            meta=tables.provenance(
                simulation=self.name,
                snapshot=self.snapshot,
                m_500_min=limit,
                primary_only=primary_only,
                contamination_max=contamination_max,
            ),
        )
        if not len(table):
            warnings.warn(
                f"no halo of {self.base_path} has M500 of at least {limit:.3g} Msun"
                f"{' and passes the other limits' if len(kept) else ''}",
                EmptyResultWarning,
                stacklevel=2,
            )
        return tables.readable(table)

    def read_halo(self, halo_id):
        """
        Read the X-ray emitting gas of one halo.

        Star-forming gas and gas below 3e5 K is left out; ``meta["n_excluded"]`` says how many cells that is.

        Parameters
        ----------
        halo_id : int
            Number of the group in the catalogue.

        Returns
        -------
        Halo
            The halo in physical units. Velocities are relative to the mass-weighted mean of this gas inside R500. There
            are ``abundances`` where the files have ``GFM_Metals``, which mini snapshots, among others, have not. Its
            ``meta`` has ``primary`` and ``contamination`` as in `select_halos`.

        Raises
        ------
        SnapshotError
            If there is no such halo, if it has no (X-ray emitting) gas, if its gas is not around it, as with offsets of
            another snapshot (a cell beyond 20 R500, or fewer than 1% of the cells within R500), or if a file or field
            is missing, damaged, or lies outside the file.
        """
        group, tng_group, meta = self._group(halo_id)
        halo = tng_group.whole(gas_of(self._paths, tng_group.halo_id, group))
        halo.meta.update(meta)
        return halo

    def open_halo(self, halo_id):
        """
        Open one halo whose gas is too much for memory, to be read in pieces of two million cells.

        Parameters
        ----------
        halo_id : int
            Number of the group in the catalogue.

        Returns
        -------
        HaloPieces
            The halo. Its gas is read when it is used.

        Raises
        ------
        SnapshotError
            If there is no such halo or the catalogue is damaged; what is wrong with the gas comes up when it is read.

        Examples
        --------
        >>> from astroclassify.sim import Observation, observe, open_snapshot
        >>> halo = open_snapshot("TNG-Cluster/output").open_halo(0)  # doctest: +SKIP
        >>> image = observe(halo, Observation(), engine="direct", rng=1)  # doctest: +SKIP
        """
        group, tng_group, meta = self._group(halo_id)
        meta["n_gas"] = int(group.fields["GroupLenType"][0])
        return HaloPieces(**tng_group.scalars, meta=meta, _paths=self._paths, _entry=group, _group=tng_group)

    def _group(self, halo_id):
        """Entry of a halo in the catalogue: where its gas is, what it is, and more for its ``meta``."""
        halo_id = check_integer("halo_id", halo_id, 0)
        if halo_id >= self.n_groups:
            raise SnapshotError(
                f"halo_id must be below {self.n_groups}, the number of groups of {self.name}, got {halo_id}"
            )
        group = group_of(self._paths, halo_id)
        tng_group = TngGroup(
            group.fields,
            header=self.header,
            halo_id=halo_id,
            simulation=self.name,
            snapshot=self.snapshot,
            cosmology=self.cosmology,
            origin=str(self.base_path),
        )
        if int(group.fields["GroupLenType"][0]) <= 0:
            raise SnapshotError(f"{tng_group.what} has no gas")
        meta = {
            "base_path": str(self.base_path),
            "primary": bool(group.fields[PRIMARY]),
            "contamination": float(group.fields[CONTAMINATION]),
        }
        return group, tng_group, meta
