"""Halos of an IllustrisTNG snapshot on disk, read through illustris_python."""

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.cosmology import FLRW
from astropy.table import QTable

from astroclassify import tables
from astroclassify._checks import check_integer, check_quantity, require
from astroclassify.exceptions import EmptyResultWarning, SnapshotError

from ._tng_gas import GAS_FIELDS, GROUP_FIELDS, OPTIONAL_GAS_FIELDS, check_header, cosmology_of, decoded, halo_from_gas
from ._tng_units import CodeUnits

__all__ = ["Snapshot", "open_snapshot"]

log = logging.getLogger(__name__)


def _read_header(path):
    """Attributes of the Header group of one file, or a SnapshotError that names the file."""
    import h5py

    if not path.is_file():
        raise SnapshotError(f"file is missing: {path}")
    try:
        with h5py.File(path, "r") as handle:
            return dict(handle["Header"].attrs.items())
    except OSError as error:
        raise SnapshotError(f"not a readable HDF5 file (truncated or damaged?): {path}") from error
    except KeyError as error:
        raise SnapshotError(f"no Header group in {path}") from error


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
        If illustris_python is not installed.

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
    require("illustris_python", extra="sim")
    paths = _Paths(base, snapshot)
    header = _read_header(paths.cells(0))
    check_header(header, paths.cells(0))
    groups = _read_header(paths.groups(0))
    for name in ("Ngroups_Total", "NumFiles"):
        if name not in groups:
            raise SnapshotError(f"attribute {name} is missing from the Header of {paths.groups(0)}")
    if not paths.offsets_in_catalogue() and not paths.offsets().is_file():
        raise SnapshotError(f"offsets file is missing: {paths.offsets()}")
    return Snapshot(
        base_path=base,
        snapshot=snapshot,
        name=decoded(header.get("SimulationName", base.resolve().parent.name)),
        redshift=max(0.0, float(header["Redshift"])),
        cosmology=cosmology_of(header),
        box_size=CodeUnits(float(header["Time"]), float(header["HubbleParam"])).kpc(header["BoxSize"]) * u.kpc,
        n_groups=int(groups["Ngroups_Total"]),
        header=header,
    )


@dataclass(frozen=True)
class _Paths:
    """Where illustris_python looks for the files of one snapshot."""

    base: Path
    snapshot: int

    def groups(self, chunk):
        from illustris_python import groupcat

        return Path(groupcat.gcPath(str(self.base), self.snapshot, chunk))

    def cells(self, chunk):
        from illustris_python import snapshot

        return Path(snapshot.snapPath(str(self.base), self.snapshot, chunk))

    def offsets_in_catalogue(self):
        """Whether the group catalogue itself holds the offsets, as that of the original Illustris release does."""
        return not self.groups(0).name.startswith("fof_subhalo")

    def offsets(self):
        from illustris_python import groupcat

        return Path(groupcat.offsetPath(str(self.base), self.snapshot))


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
    header: dict = field(repr=False)

    @property
    def _paths(self):
        return _Paths(self.base_path, self.snapshot)

    @property
    def _units(self):
        return CodeUnits(float(self.header["Time"]), float(self.header["HubbleParam"]))

    def _fail(self, error, what, names, candidates):
        """Raise, for any error of illustris_python or h5py, one line that names the file or the field."""
        for name in names:
            if name in str(error):
                raise SnapshotError(f"{what}: field {name} is missing from {self.base_path}") from error
        for path in candidates:
            _read_header(path)
        detail = " ".join(str(error).split()) or type(error).__name__
        where = f"snapshot {self.snapshot} in {self.base_path}"
        raise SnapshotError(f"{what} of {where} cannot be read: {detail}") from error

    def select_halos(self, *, m_500_min=10**13.75 * u.Msun):
        """
        The groups of the catalogue above a mass.

        Parameters
        ----------
        m_500_min : `~astropy.units.Quantity`, optional
            Smallest M500; the default is the limit of Su et al. (2020).

        Returns
        -------
        `~astropy.table.QTable`
            One row per halo in the order of the catalogue: ``halo_id``, ``m_500`` [Msun], ``r_500`` [kpc], ``centre``
            (3 values, kpc) and ``n_gas``, the number of gas cells. Without any such halo the table has no rows and an
            `~astroclassify.exceptions.EmptyResultWarning` is given.

        Raises
        ------
        SnapshotError
            If a file or a field of the catalogue is missing or damaged.
        """
        limit = check_quantity("m_500_min", m_500_min, u.Msun, shape=())
        chosen = np.zeros(0, dtype=int)
        found = {}
        if self.n_groups:
            mass = self._units.msun(self._load_groups("Group_M_Crit500"))
            chosen = np.flatnonzero((mass >= limit) & (mass > 0))
            found["m_500"] = mass[chosen]
        # One field at a time: the whole catalogue of TNG300 has 1.7e7 groups.
        empty = {"GroupPos": np.zeros((0, 3)), "GroupLenType": np.zeros((0, 6), dtype=int)}
        for name in ("Group_R_Crit500", "GroupPos", "GroupLenType"):
            found[name] = self._load_groups(name)[chosen] if len(chosen) else empty.get(name, np.zeros(0))
        table = QTable(
            {
                "halo_id": chosen.astype(np.int64),
                "m_500": found.get("m_500", np.zeros(0)) * u.Msun,
                "r_500": self._units.kpc(found["Group_R_Crit500"]) * u.kpc,
                "centre": self._units.kpc(found["GroupPos"]) * u.kpc,
                "n_gas": found["GroupLenType"][:, 0].astype(np.int64),
            },
            meta=tables.provenance(simulation=self.name, snapshot=self.snapshot, m_500_min=limit),
        )
        if not len(table):
            warnings.warn(
                f"no halo of {self.base_path} has M500 of at least {limit:.3g} Msun", EmptyResultWarning, stacklevel=2
            )
        return table

    def _load_groups(self, name):
        """One field of the whole group catalogue, in code units."""
        from illustris_python import groupcat

        try:
            # loadHalos calls this in forked workers, which stay open where a file is damaged.
            return groupcat.loadObjects(str(self.base_path), self.snapshot, "Group", "groups", [name], nThreads=1)
        except Exception as error:
            chunks = range(int(_read_header(self._paths.groups(0))["NumFiles"]))
            return self._fail(error, "group catalogue", [name], [self._paths.groups(k) for k in chunks])

    def _load_group(self, halo_id):
        """The catalogue entry of one group, in code units."""
        from illustris_python import groupcat

        try:
            group = groupcat.loadSingle(str(self.base_path), self.snapshot, haloID=halo_id)
        except Exception as error:
            chunks = range(int(_read_header(self._paths.groups(0))["NumFiles"]))
            candidates = [self._paths.groups(k) for k in chunks]
            self._check_offsets()
            return self._fail(error, "group catalogue", [], candidates)
        for name in (*GROUP_FIELDS, "GroupLenType"):
            if name not in group:
                raise SnapshotError(f"group catalogue: field {name} is missing from {self.base_path}")
        return group

    def _check_offsets(self):
        """Raise if the offsets file does not open or lacks what illustris_python reads."""
        import h5py

        if self._paths.offsets_in_catalogue():
            return
        path = self._paths.offsets()
        if not path.is_file():
            raise SnapshotError(f"offsets file is missing: {path}")
        try:
            with h5py.File(path, "r") as handle:
                for name in ("FileOffsets/Group", "FileOffsets/SnapByType", "Group/SnapByType"):
                    if name not in handle:
                        raise SnapshotError(f"offsets file lacks {name}: {path}")
        except OSError as error:
            raise SnapshotError(f"not a readable HDF5 file (truncated or damaged?): {path}") from error

    def _load_gas(self, halo_id):
        """The gas fields of one group, in code units."""
        from illustris_python import snapshot as reader

        wanted = list(GAS_FIELDS)
        try:
            wanted += self._optional_fields(halo_id)
            return reader.loadHalo(str(self.base_path), self.snapshot, halo_id, "gas", fields=wanted)
        except Exception as error:
            self._check_offsets()
            return self._fail(error, f"gas of halo {halo_id}", wanted, self._chunks_of(halo_id))

    def _optional_fields(self, halo_id):
        """The optional gas fields that every file of a halo has."""
        import h5py

        present = set(OPTIONAL_GAS_FIELDS)
        for path in self._chunks_of(halo_id):
            with h5py.File(path, "r") as handle:
                if "PartType0" in handle:
                    present &= set(handle["PartType0"])
        return sorted(present)

    def _chunks_of(self, halo_id):
        """The snapshot files that hold a halo's gas, in order, with the first one (the header is read from it)."""
        from illustris_python import snapshot as reader

        n_files = int(self.header["NumFilesPerSnapshot"])
        numbers = range(n_files)
        try:
            subset = reader.getSnapOffsets(str(self.base_path), self.snapshot, halo_id, "Group")
        except Exception:
            log.debug("no offsets for halo %d", halo_id, exc_info=True)
        else:
            starts, first = subset["snapOffsets"][0], subset["offsetType"][0]
            last = first + subset["lenType"][0] - 1
            low = int(np.searchsorted(starts, first, side="right")) - 1
            high = int(np.searchsorted(starts, last, side="right")) - 1
            numbers = [0, *range(max(low, 0), min(high, n_files - 1) + 1)]
        return [self._paths.cells(k) for k in numbers]

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
            are ``abundances`` where the files have ``GFM_Metals``, which mini snapshots, among others, have not.

        Raises
        ------
        SnapshotError
            If there is no such halo, if it has no (X-ray emitting) gas, or if a file or field is missing or damaged.
        """
        halo_id = check_integer("halo_id", halo_id, 0)
        if halo_id >= self.n_groups:
            raise SnapshotError(
                f"halo_id must be below {self.n_groups}, the number of groups of {self.name}, got {halo_id}"
            )
        group = self._load_group(halo_id)
        what = f"halo {halo_id} of {self.name} snapshot {self.snapshot}"
        if int(group["GroupLenType"][0]) <= 0:
            raise SnapshotError(f"{what} has no gas")
        halo = halo_from_gas(
            self._load_gas(halo_id),
            group,
            header=self.header,
            halo_id=halo_id,
            simulation=self.name,
            snapshot=self.snapshot,
            cosmology=self.cosmology,
            origin=str(self.base_path),
        )
        halo.meta["base_path"] = str(self.base_path)
        return halo
