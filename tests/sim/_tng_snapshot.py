"""A small snapshot in the layout of TNG at z = 1: four groups, two files of cells, two of the catalogue."""

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

A, H, BOX = 0.5, 0.7, 10000.0
HEADER = {
    "BoxSize": BOX,
    "HubbleParam": H,
    "Omega0": 0.3,
    "OmegaLambda": 0.7,
    "OmegaBaryon": 0.05,
    "Redshift": 1.0,
    "Time": A,
    "UnitLength_in_cm": 3.085678e21,
    "UnitMass_in_g": 1.989e43,
    "UnitVelocity_in_cm_per_s": 1e5,
}
LENGTHS = [5, 4, 0, 3]  # gas cells of each group; two files of 6 cells, so that group 1 lies in both
NUMBER = "033"


def cells():
    """Code-unit fields of 12 cells; the first halo sits across the corner of the box."""
    n = sum(LENGTHS)
    fields = {
        "Coordinates": np.full((n, 3), 5000.0),
        "Velocities": np.tile(np.float32([100.0, 0.0, 0.0]), (n, 1)),
        "Masses": np.full(n, 2e-3, dtype="f4"),
        "Density": np.full(n, 1e-6, dtype="f4"),
        "InternalEnergy": np.full(n, 1e6, dtype="f4"),
        "ElectronAbundance": np.full(n, 1.16, dtype="f4"),
        "GFM_Metallicity": np.full(n, 0.01, dtype="f4"),
        "StarFormationRate": np.zeros(n, dtype="f4"),
    }
    fields["Coordinates"][:5] = [[9990, 5, 5], [20, 5, 5], [9, 9995, 5], [10, 5, 9700], [10, 5, 35]]
    fields["Velocities"][0] = [200.0, 0.0, 0.0]
    fields["StarFormationRate"][3] = 0.1
    fields["InternalEnergy"][4] = 10.0  # about 700 K
    fields["StarFormationRate"][9:] = 1.0
    fields["Masses"][5:9] = np.float32([1, 2, 3, 4]) * 1e-3
    return fields


def write_snapshot(tmp_path):
    """A snapshot in TNG's layout, written with h5py alone; its ``output`` folder."""
    output = tmp_path / "toy" / "output"
    (output / f"groups_{NUMBER}").mkdir(parents=True)
    (output / f"snapdir_{NUMBER}").mkdir()
    fields = cells()
    for number in range(2):
        with h5py.File(output / f"snapdir_{NUMBER}/snap_{NUMBER}.{number}.hdf5", "w") as handle:
            header = handle.create_group("Header").attrs
            header.update(HEADER)
            header["NumFilesPerSnapshot"] = np.int32(2)
            header["NumPart_ThisFile"] = np.int32([6, 0, 0, 0, 0, 0])
            header["NumPart_Total"] = np.uint32([12, 0, 0, 0, 0, 0])
            header["NumPart_Total_HighWord"] = np.zeros(6, dtype=np.uint32)
            for name, values in fields.items():
                handle[f"PartType0/{name}"] = values[6 * number : 6 * number + 6]
    for number, rows in enumerate((slice(0, 1), slice(1, 4))):
        with h5py.File(output / f"groups_{NUMBER}/fof_subhalo_tab_{NUMBER}.{number}.hdf5", "w") as handle:
            header = handle.create_group("Header").attrs
            header.update(HEADER)
            header["NumFiles"] = np.int32(2)
            for kind, counts in (("groups", (1, 3)), ("subgroups", (0, 0))):
                header[f"N{kind}_ThisFile"] = np.int32(counts[number])
                header[f"N{kind}_Total"] = np.int32(sum(counts))
            lengths = np.zeros((4, 6), dtype=np.int32)
            lengths[:, 0] = LENGTHS
            handle["Group/GroupLenType"] = lengths[rows]
            handle["Group/GroupPos"] = np.float32([[10, 5, 5], [5000] * 3, [1] * 3, [5000] * 3])[rows]
            handle["Group/GroupVel"] = np.float32([[10, 0, 0]] * 4)[rows]
            handle["Group/Group_M_Crit500"] = np.float32([7000, 700, 7000, 70])[rows]
            handle["Group/Group_R_Crit500"] = np.float32([40, 30, 40, 20])[rows]
    offsets = tmp_path / "toy" / "postprocessing" / "offsets"
    offsets.mkdir(parents=True)
    with h5py.File(offsets / f"offsets_{NUMBER}.hdf5", "w") as handle:
        handle["FileOffsets/SnapByType"] = np.array([[0] * 6, [6] + [0] * 5])
        handle["FileOffsets/Group"] = np.array([0, 1])
        handle["FileOffsets/Subhalo"] = np.array([0, 0])
        starts = np.zeros((4, 6), dtype=int)
        starts[:, 0] = np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
        handle["Group/SnapByType"] = starts
    return output


def edit(path, action):
    with h5py.File(path, "r+") as handle:
        action(handle)


def snap(base, number=0):
    return base / f"snapdir_{NUMBER}/snap_{NUMBER}.{number}.hdf5"


def groups(base, number=0):
    return base / f"groups_{NUMBER}/fof_subhalo_tab_{NUMBER}.{number}.hdf5"


def offsets(base):
    return base.parent / f"postprocessing/offsets/offsets_{NUMBER}.hdf5"
