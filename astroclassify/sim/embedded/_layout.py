"""Write groups and gas cells in the file layout of an IllustrisTNG snapshot: catalogue, offsets, chunked cells."""

import numpy as np

from ..halos._tng_units import TNG_UNITS_CGS, CodeUnits
from ..physics._constants import ATOMIC_WEIGHT, ELEMENTS, HYDROGEN_FRACTION, SOLAR_METAL_TO_HYDROGEN, SOLAR_NUMBER_RATIO
from . import _physics as physics

BOX_SIZE = 205000.0  # comoving kpc/h, TNG300
UNITS = CodeUnits(1.0, physics.HUBBLE)
# name: (type on disk, columns, powers of a and h, of length, mass and velocity, factor to cgs), as in the files of TNG
_FIELDS = {
    "Coordinates": ("f8", 3, (1.0, -1.0, 1.0, 0.0, 0.0, 3.085678e21)),
    "Density": ("f4", 1, (-3.0, 2.0, -3.0, 1.0, 0.0, 6.76990e-22)),
    "ElectronAbundance": ("f4", 1, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "GFM_Metallicity": ("f4", 1, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "GFM_Metals": ("f4", 10, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "InternalEnergy": ("f4", 1, (0.0, 0.0, 0.0, 0.0, 2.0, 1e10)),
    "Masses": ("f4", 1, (0.0, -1.0, 0.0, 1.0, 0.0, 1.989e43)),
    "ParticleIDs": ("u8", 1, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "StarFormationRate": ("f4", 1, (0.0, 0.0, -1.0, 1.0, 1.0, 6.30321e25)),
    "Velocities": ("f4", 3, (0.5, 0.0, 0.0, 0.0, 1.0, 1e5)),
}
_SCALINGS = ("a_scaling", "h_scaling", "length_scaling", "mass_scaling", "velocity_scaling", "to_cgs")


def common_header(name):
    """Header attributes that every file of the snapshot has; ``name`` is that of the simulation."""
    return {
        "BoxSize": BOX_SIZE,
        "HubbleParam": physics.HUBBLE,
        "Omega0": physics.OMEGA_M,
        "OmegaBaryon": physics.OMEGA_B,
        "OmegaLambda": 1.0 - physics.OMEGA_M,
        "Redshift": 0.0,
        "Time": 1.0,
        "SimulationName": name,
        **TNG_UNITS_CGS,
    }


def solar_mixture(metals):
    """
    ``GFM_Metals``, shape (n, 10), of gas with solar ratios of metals: mass fractions of H, He, C, N, O, Ne, Mg, Si, Fe,
    others.

    Hydrogen stays at its primordial 0.76, as in the metallicity of a `Halo`: what the metals take, helium lacks.
    """
    per_hydrogen = np.array([SOLAR_NUMBER_RATIO[name] * ATOMIC_WEIGHT[name] for name in ELEMENTS]) / ATOMIC_WEIGHT["H"]
    followed = np.outer(metals, per_hydrogen / SOLAR_METAL_TO_HYDROGEN)
    hydrogen = np.full(len(metals), HYDROGEN_FRACTION)
    others = metals - followed.sum(axis=1)
    return np.column_stack([hydrogen, 1.0 - hydrogen - metals, followed, others])


def to_code_units(cells, centre, bulk_velocity, *, abundances=False):
    """Fields on disk of the cells of one cluster, from physical values relative to its centre."""
    box = float(UNITS.kpc(BOX_SIZE))
    extra = {"GFM_Metals": solar_mixture(cells["metals"])} if abundances else {}
    return extra | {
        "Coordinates": UNITS.kpc((cells["position"] + centre) % box, inverse=True),
        "Density": UNITS.msun(cells["density"], inverse=True) / UNITS.h**3,  # per (kpc/h)^3
        "ElectronAbundance": cells["electron_abundance"],
        "GFM_Metallicity": cells["metals"],
        "InternalEnergy": UNITS.kev(1.0, cells["electron_abundance"], inverse=True) * cells["temperature"],
        "Masses": UNITS.msun(cells["mass"], inverse=True),
        "StarFormationRate": cells["star_formation_rate"],
        "Velocities": UNITS.km_per_s(cells["velocity"] + bulk_velocity, inverse=True),
    }


class SnapshotWriter:
    """
    Writes the gas of one group after the other, so that memory holds one group at a time.

    ``folder`` exists and is empty; the ``n_files`` files change in the middle of the cells of a group.
    """

    def __init__(self, folder, *, name, snapshot, n_files, n_groups):
        self.folder, self.name, self.snapshot, self.n_files = folder, name, snapshot, n_files
        self.output = folder / "output"
        self._cells = self.output / f"snapdir_{snapshot:03d}"
        self._cells.mkdir(parents=True)
        # after which group each file but the last ends (half of that group's cells still go in it)
        self._breaks = [int(n_groups * (k + 1) / n_files) for k in range(n_files - 1)]
        self._counts = [0] * n_files
        self._groups = []
        self._current = 0
        self._next_id = 1

    def _path(self, number):
        return self._cells / f"snap_{self.snapshot:03d}.{number}.hdf5"

    def _append(self, fields, start, stop):
        """Append rows of one group to the current file."""
        import h5py

        with h5py.File(self._path(self._current), "a") as handle:
            group = handle.require_group("PartType0")
            for name, (dtype, columns, scalings) in _FIELDS.items():
                if name not in fields:
                    continue
                values = np.asarray(fields[name][start:stop], dtype=dtype)
                if name not in group:
                    shape = (0,) if columns == 1 else (0, columns)
                    data = group.create_dataset(
                        name, shape=shape, maxshape=(None, *shape[1:]), chunks=(65536, *shape[1:]), dtype=dtype
                    )
                    data.attrs.update(zip(_SCALINGS, scalings, strict=True))
                data = group[name]
                data.resize(len(data) + len(values), axis=0)
                if len(values):
                    data[-len(values) :] = values
        self._counts[self._current] += stop - start

    def add_group(self, fields, **catalogue):
        """Write the cells of one group (None: no gas) and remember its catalogue entry, both in code units."""
        n_cells = 0 if fields is None else len(fields["Masses"])
        number = len(self._groups)
        catalogue["offset"] = sum(self._counts)
        catalogue["n_gas"] = n_cells
        self._groups.append(catalogue)
        if fields is not None:
            fields["ParticleIDs"] = np.arange(self._next_id, self._next_id + n_cells)
            self._next_id += n_cells
        # files that end in this group share its cells out equally with the one that goes on
        edges = np.linspace(0, n_cells, self._breaks.count(number) + 2).astype(int)
        for part, (start, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            self._current += part > 0
            if stop > start:
                self._append(fields, start, stop)

    def close(self):
        """Write headers, group catalogue and offsets."""
        import h5py

        total = np.array([sum(self._counts), 0, 0, 0, 0, 0], dtype=np.uint32)
        for number, count in enumerate(self._counts):
            with h5py.File(self._path(number), "a") as handle:
                header = handle.create_group("Header").attrs
                header.update(common_header(self.name))
                header["MassTable"] = np.zeros(6)
                header["NumFilesPerSnapshot"] = np.int32(self.n_files)
                header["NumPart_ThisFile"] = np.array([count, 0, 0, 0, 0, 0], dtype=np.int32)
                header["NumPart_Total"] = total
                header["NumPart_Total_HighWord"] = np.zeros(6, dtype=np.uint32)
                for name in ("Flag_Cooling", "Flag_Feedback", "Flag_Metals", "Flag_Sfr", "Flag_StellarAge"):
                    header[name] = np.int32(0)
                header["Flag_DoublePrecision"] = np.int32(0)
                header["Composition_vector_length"] = np.int32(0)
                self._write_settings(handle)
        self._write_catalogue()
        self._write_offsets()

    def _write_settings(self, handle):
        """The Config and Parameters groups, as far as they apply."""
        handle.create_group("Config").attrs.update({"NTYPES": np.bytes_(b"6"), "PERIODIC": np.bytes_(b"")})
        parameters = handle.create_group("Parameters").attrs
        names = ("BoxSize", "HubbleParam", "Omega0", "OmegaBaryon", "OmegaLambda", *TNG_UNITS_CGS)
        parameters.update({name: common_header(self.name)[name] for name in names})

    def _catalogue_bounds(self):
        return [int(len(self._groups) * k / self.n_files) for k in range(self.n_files + 1)]

    def _write_catalogue(self):
        """Group catalogue, split over as many files as the cells; there are no subhalos."""
        import h5py

        folder = self.output / f"groups_{self.snapshot:03d}"
        folder.mkdir()
        bounds = self._catalogue_bounds()
        for number in range(self.n_files):
            groups = self._groups[bounds[number] : bounds[number + 1]]
            path = folder / f"fof_subhalo_tab_{self.snapshot:03d}.{number}.hdf5"
            with h5py.File(path, "w") as handle:
                header = handle.create_group("Header").attrs
                header.update(common_header(self.name))
                header["NumFiles"] = np.int32(self.n_files)
                for kind, here, total in (
                    ("groups", len(groups), len(self._groups)),
                    ("subgroups", 0, 0),
                    ("ids", 0, 0),
                ):
                    header[f"N{kind}_ThisFile"] = np.int32(here)
                    header[f"N{kind}_Total"] = np.int32(total)
                handle.create_group("Subhalo")
                self._write_settings(handle)
                group = handle.create_group("Group")
                if not groups:
                    continue
                lengths = np.zeros((len(groups), 6), dtype=np.int32)
                lengths[:, 0] = [entry["n_gas"] for entry in groups]
                group["GroupLenType"] = lengths
                group["GroupLen"] = lengths.sum(axis=1, dtype=np.int32)
                group["GroupNsubs"] = np.zeros(len(groups), dtype=np.int32)
                group["GroupFirstSub"] = np.full(len(groups), -1, dtype=np.int32)
                for name in ("GroupPos", "GroupVel", "Group_M_Crit500", "Group_R_Crit500"):
                    group[name] = np.array([entry[name] for entry in groups], dtype=np.float32)

    def _write_offsets(self):
        """Where each group and each file begins, as in TNG's postprocessing/offsets."""
        import h5py

        folder = self.folder / "postprocessing" / "offsets"
        folder.mkdir(parents=True)
        with h5py.File(folder / f"offsets_{self.snapshot:03d}.hdf5", "w") as handle:
            starts = np.zeros((self.n_files, 6), dtype=np.int64)
            starts[1:, 0] = np.cumsum(self._counts)[:-1]
            handle["FileOffsets/SnapByType"] = starts
            handle["FileOffsets/Group"] = np.array(self._catalogue_bounds()[:-1], dtype=np.int64)
            handle["FileOffsets/Subhalo"] = np.zeros(self.n_files, dtype=np.int64)
            offsets = np.zeros((len(self._groups), 6), dtype=np.int64)
            offsets[:, 0] = [entry["offset"] for entry in self._groups]
            handle["Group/SnapByType"] = offsets
            handle["Subhalo/SnapByType"] = np.zeros((0, 6), dtype=np.int64)
