"""Halos of an IllustrisTNG snapshot on disk, read through illustris_python."""

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM, LambdaCDM
from astropy.table import QTable

from .. import tables
from ..exceptions import EmptyResultWarning, SnapshotError, check_quantity, require
from ._constants import TNG_SOLAR_METAL_FRACTION
from ._halo import Halo
from ._tng_units import TNG_UNITS_CGS, CodeUnits

__all__ = ["Snapshot", "open_snapshot"]

log = logging.getLogger(__name__)

#: Gas colder than this does not shine in X-rays [K] (with star-forming gas, the usual X-ray filter of TNG papers).
MIN_TEMPERATURE = 3e5
_KEV_PER_K = (1 * u.K).to_value(u.keV, equivalencies=u.temperature_energy())

_GAS_FIELDS = (
    "Coordinates",
    "Velocities",
    "Masses",
    "Density",
    "InternalEnergy",
    "ElectronAbundance",
    "GFM_Metallicity",
    "StarFormationRate",
)
_GROUP_FIELDS = ("Group_M_Crit500", "Group_R_Crit500", "GroupPos", "GroupLenType", "GroupVel")
_HEADER_FIELDS = ("Time", "Redshift", "BoxSize", "HubbleParam", "Omega0", "OmegaLambda", "NumFilesPerSnapshot")


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


def check_header(header, path):
    """
    Check that a snapshot header has what is needed, in the units and conventions of TNG.

    Parameters
    ----------
    header : dict
        Attributes of the Header group.
    path : path-like
        The file they came from, for the error message.

    Raises
    ------
    SnapshotError
        If an attribute is missing or out of range, or if the code units are not TNG's.
    """
    for name in _HEADER_FIELDS:
        if name not in header:
            raise SnapshotError(f"attribute {name} is missing from the Header of {path}")
    for name, expected in TNG_UNITS_CGS.items():
        found = float(header.get(name, expected))
        if not np.isclose(found, expected, rtol=1e-3):
            raise SnapshotError(f"wrong header units: {name} is {found:g} in {path}, TNG's is {expected:g}")
    scale, redshift, hubble = (float(header[name]) for name in ("Time", "Redshift", "HubbleParam"))
    if not 0.3 < hubble < 1.5:
        raise SnapshotError(f"wrong header units: HubbleParam is {hubble:g} in {path}, expected H0 / (100 km/s/Mpc)")
    if not np.isclose(scale * (1.0 + redshift), 1.0, rtol=1e-3):
        raise SnapshotError(
            f"wrong header units: Time is {scale:g} and Redshift {redshift:g} in {path}, expected Time = 1/(1 + z)"
        )
    if not float(header["BoxSize"]) > 0:
        raise SnapshotError(f"BoxSize must be larger than zero, got {header['BoxSize']} in {path}")


def _cosmology(header):
    """Cosmology of a header; flat where the densities add up to one, as TNG's do."""
    h_0 = 100.0 * float(header["HubbleParam"]) * u.km / u.s / u.Mpc
    omega_m, omega_de = float(header["Omega0"]), float(header["OmegaLambda"])
    if np.isclose(omega_m + omega_de, 1.0, atol=1e-3):
        return FlatLambdaCDM(H0=h_0, Om0=omega_m, Ob0=float(header.get("OmegaBaryon", 0.0486)))
    return LambdaCDM(H0=h_0, Om0=omega_m, Ode0=omega_de, Ob0=float(header.get("OmegaBaryon", 0.0486)))


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_integer(name, value):
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return int(value)


def open_snapshot(base_path, *, snapshot=99):
    """
    Open a snapshot of an IllustrisTNG simulation on disk.

    Parameters
    ----------
    base_path : path-like
        The folder that holds ``groups_099`` and ``snapdir_099`` (usually called ``output``), or its parent. The offsets
        file is expected where the TNG data release has it, ``postprocessing/offsets`` beside the folder.
    snapshot : int, optional
        Number of the snapshot; 99 is z = 0 in TNG.

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
    snapshot = _check_integer("snapshot", snapshot)
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
    if not paths.offsets().is_file():
        raise SnapshotError(f"offsets file is missing: {paths.offsets()}")
    return Snapshot(
        base_path=base,
        snapshot=snapshot,
        name=_text(header.get("SimulationName", base.resolve().parent.name)),
        redshift=max(0.0, float(header["Redshift"])),
        cosmology=_cosmology(header),
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
    cosmology: FlatLambdaCDM
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
        """Turn whatever illustris_python or h5py raised into one line that names the file or the field."""
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
            return groupcat.loadHalos(str(self.base_path), self.snapshot, fields=[name])
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
        for name in _GROUP_FIELDS:
            if name not in group:
                raise SnapshotError(f"group catalogue: field {name} is missing from {self.base_path}")
        return group

    def _check_offsets(self):
        """Raise if the offsets file does not open or lacks what illustris_python reads."""
        import h5py

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

        try:
            return reader.loadHalo(str(self.base_path), self.snapshot, halo_id, "gas", fields=list(_GAS_FIELDS))
        except Exception as error:
            self._check_offsets()
            return self._fail(error, f"gas of halo {halo_id}", _GAS_FIELDS, self._chunks_of(halo_id))

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
            The halo in physical units. Velocities are relative to the mass-weighted mean of this gas inside R500.

        Raises
        ------
        SnapshotError
            If there is no such halo, if it has no (X-ray emitting) gas, or if a file or field is missing or damaged.
        """
        halo_id = _check_integer("halo_id", halo_id)
        if halo_id >= self.n_groups:
            raise SnapshotError(
                f"halo_id must be below {self.n_groups}, the number of groups of {self.name}, got {halo_id}"
            )
        group = self._load_group(halo_id)
        what = f"halo {halo_id} of {self.name} snapshot {self.snapshot}"
        if int(group["GroupLenType"][0]) <= 0:
            raise SnapshotError(f"{what} has no gas")
        if not (group["Group_M_Crit500"] > 0 and group["Group_R_Crit500"] > 0):
            raise SnapshotError(f"{what} has no M500: Group_M_Crit500 is {group['Group_M_Crit500']}")
        gas = self._load_gas(halo_id)
        kept, temperature = self._xray_gas(gas)
        if not np.any(kept):
            raise SnapshotError(f"{what} has no X-ray emitting gas: all {len(kept)} cells are cold or star-forming")
        try:
            return self._build(halo_id, group, gas, kept, temperature)
        except ValueError as error:
            raise SnapshotError(f"{what} in {self.base_path} is damaged: {error}") from error

    def _xray_gas(self, gas):
        """Mask of the X-ray emitting cells, and the temperature of all cells in keV."""
        temperature = self._units.kev(gas["InternalEnergy"], gas["ElectronAbundance"])
        # not(...) keeps cells with NaN, so that a damaged file is reported and not quietly thinned out
        excluded = (gas["StarFormationRate"] > 0) | (temperature < MIN_TEMPERATURE * _KEV_PER_K)
        return ~excluded, temperature

    def _build(self, halo_id, group, gas, kept, temperature):
        units = self._units
        centre = np.asarray(group["GroupPos"], dtype=float)
        offset = gas["Coordinates"][kept].astype(float) - centre
        box = float(self.header["BoxSize"])
        offset -= box * np.round(offset / box)
        position = units.kpc(offset)
        mass = units.msun(gas["Masses"][kept])
        velocity = units.km_per_s(gas["Velocities"][kept])
        r_500 = float(units.kpc(group["Group_R_Crit500"]))
        inside = np.sum(position**2, axis=1) < r_500**2
        bulk = units.group_km_per_s(group["GroupVel"])
        if np.any(inside):
            bulk = np.average(velocity[inside], axis=0, weights=mass[inside])
        density = units.g_per_cm3(gas["Density"][kept])
        n_h = units.hydrogen_per_cm3(density)
        return Halo(
            halo_id=halo_id,
            simulation=self.name,
            snapshot=self.snapshot,
            redshift=self.redshift,
            m_500=float(units.msun(group["Group_M_Crit500"])) * u.Msun,
            r_500=r_500 * u.kpc,
            centre=units.kpc(centre) * u.kpc,
            position=position * u.kpc,
            velocity=(velocity - bulk) * u.km / u.s,
            mass=mass * u.Msun,
            density=density * u.g / u.cm**3,
            temperature=temperature[kept] * u.keV,
            n_e=n_h * gas["ElectronAbundance"][kept] / u.cm**3,
            n_h=n_h / u.cm**3,
            metallicity=np.maximum(gas["GFM_Metallicity"][kept].astype(float), 0.0) / TNG_SOLAR_METAL_FRACTION * u.one,
            cosmology=self.cosmology,
            meta={
                "n_gas": int(len(kept)),
                "n_excluded": int(np.count_nonzero(~kept)),
                "bulk_velocity": bulk * u.km / u.s,
                "base_path": str(self.base_path),
            },
        )
