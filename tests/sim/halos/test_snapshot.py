"""Reading a TNG snapshot: against one written by hand at z = 1, and against every kind of damage."""

import pickle
import shutil

import numpy as np
import pytest
from astropy import constants
from astropy import units as u

from astroclassify.exceptions import EmptyResultWarning, SnapshotError
from astroclassify.sim import open_snapshot

h5py = pytest.importorskip("h5py")
pytest.importorskip("illustris_python")

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
    fields["Coordinates"][:5] = [[9990, 5, 5], [20, 5, 5], [9, 9995, 5], [10, 5, 9000], [10, 5, 35]]
    fields["Velocities"][0] = [200.0, 0.0, 0.0]
    fields["StarFormationRate"][3] = 0.1
    fields["InternalEnergy"][4] = 10.0  # about 700 K
    fields["StarFormationRate"][9:] = 1.0
    fields["Masses"][5:9] = np.float32([1, 2, 3, 4]) * 1e-3
    return fields


@pytest.fixture
def base(tmp_path):
    """A snapshot in TNG's layout, written with h5py alone."""
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


def test_open(base):
    snapshot = open_snapshot(base, snapshot=33)
    assert snapshot.redshift == 1.0
    assert snapshot.name == "toy"
    assert snapshot.n_groups == 4
    assert snapshot.box_size.to_value(u.kpc) == pytest.approx(BOX * A / H)
    assert snapshot.cosmology.H0.value == pytest.approx(70)
    assert snapshot.cosmology.Om0 == 0.3
    assert open_snapshot(base.parent, snapshot=33).base_path == base
    assert open_snapshot(str(base), snapshot=np.int64(33)).n_groups == 4


def test_name_from_header(base):
    edit(snap(base), lambda f: f["Header"].attrs.update({"SimulationName": np.bytes_(b"L205n2500TNG")}))
    assert open_snapshot(base, snapshot=33).name == "L205n2500TNG"


def test_snapshot_can_be_sent_to_another_process(base):
    snapshot = pickle.loads(pickle.dumps(open_snapshot(base, snapshot=33)))
    assert snapshot.read_halo(0).n_cells == 3


def test_select_halos(base):
    table = open_snapshot(base, snapshot=33).select_halos(m_500_min=5e12 * u.Msun)
    assert list(table["halo_id"]) == [0, 1, 2]
    assert table["m_500"].to_value(u.Msun) == pytest.approx([1e14, 1e13, 1e14], rel=1e-6)
    assert table["r_500"].to_value(u.kpc) == pytest.approx(np.array([40, 30, 40]) * A / H)
    assert table["centre"].shape == (3, 3)
    assert table["centre"][0].to_value(u.kpc) == pytest.approx(np.array([10, 5, 5]) * A / H)
    assert list(table["n_gas"]) == [5, 4, 0]
    assert len(open_snapshot(base, snapshot=33).select_halos(m_500_min=5e13 * u.Msun)) == 2


def test_no_halo_is_an_empty_table(base):
    snapshot = open_snapshot(base, snapshot=33)
    with pytest.warns(EmptyResultWarning, match="no halo of"):
        table = snapshot.select_halos(m_500_min=1e16 * u.Msun)
    assert len(table) == 0
    assert table.colnames == ["halo_id", "m_500", "r_500", "centre", "n_gas"]
    assert table["m_500"].unit == u.Msun and table["centre"].shape == (0, 3)


def test_code_units_by_hand(base):
    """Every quantity of a cell, worked out here from the definitions of the TNG data release."""
    halo = open_snapshot(base, snapshot=33).read_halo(0)
    assert halo.n_cells == 3
    assert halo.meta["n_excluded"] == 2 and halo.meta["n_gas"] == 5
    assert halo.mass[0].to_value(u.Msun) == pytest.approx(2e-3 * 1e10 / 0.7)
    density = (1e-6 * 1e10 / 0.7 * u.Msun) / (1 * 0.5 / 0.7 * u.kpc) ** 3
    assert halo.density[0].to_value(u.g / u.cm**3) == pytest.approx(density.to_value(u.g / u.cm**3))
    n_h = (0.76 * density / constants.m_p).to_value(u.cm**-3)
    assert halo.n_h[0].value == pytest.approx(n_h)
    assert halo.n_e[0].value == pytest.approx(1.16 * n_h)
    mu = 4 / (1 + 3 * 0.76 + 4 * 0.76 * 1.16)
    k_t = (2 / 3 * 1e6 * (u.km / u.s) ** 2 * mu * constants.m_p).to_value(u.keV)
    assert halo.temperature[0].value == pytest.approx(k_t)
    assert 4 < k_t < 7
    solar = 0.76 * 0.0193655 / 0.706522  # Z of gas with X = 0.76 and the Z/X of Anders & Grevesse (1989)
    assert halo.metallicity[0].value == pytest.approx(0.01 / solar)
    assert halo.redshift == 1.0 and halo.snapshot == 33 and halo.halo_id == 0


def test_positions_wrap_about_the_centre(base):
    halo = open_snapshot(base, snapshot=33).read_halo(0)
    expected = np.array([[-20, 0, 0], [10, 0, 0], [-1, -10, 0]]) * A / H
    assert halo.position.to_value(u.kpc) == pytest.approx(expected, abs=1e-4)


def test_velocities_are_peculiar_and_relative(base):
    halo = open_snapshot(base, snapshot=33).read_halo(0)
    # 200, 100, 100 code units, all inside R500: mean 133.3, times sqrt(a)
    expected = np.array([200, 100, 100]) - 400 / 3
    assert halo.velocity[:, 0].to_value(u.km / u.s) == pytest.approx(expected * np.sqrt(A))
    assert halo.meta["bulk_velocity"][0].to_value(u.km / u.s) == pytest.approx(400 / 3 * np.sqrt(A))


def test_halo_across_two_files(base):
    halo = open_snapshot(base, snapshot=33).read_halo(1)
    assert halo.mass.to_value(u.Msun) == pytest.approx(np.array([1, 2, 3, 4]) * 1e7 / 0.7)


def test_missing_metal_species_do_not_matter(base):
    """Without ``GFM_Metals``, or with it in some of a halo's files only: no abundances, and all else is there."""
    assert open_snapshot(base, snapshot=33).read_halo(0).abundances is None
    for number, expected in ((1, (False, False)), (0, (True, True))):
        metals = np.full((6, 10), 0.1)
        edit(snap(base, number), lambda f, metals=metals: f["PartType0"].create_dataset("GFM_Metals", data=metals))
        halos = [open_snapshot(base, snapshot=33).read_halo(halo_id) for halo_id in (0, 1)]
        assert tuple(halo.abundances is not None for halo in halos) == expected
        assert [halo.n_cells for halo in halos] == [3, 4]


def test_damaged_metal_species_are_reported(base):
    edit(snap(base), lambda f: f["PartType0"].create_dataset("GFM_Metals", data=np.zeros((6, 10))))
    with pytest.raises(SnapshotError, match="is damaged: GFM_Metals must have hydrogen in every cell, got 3 without"):
        open_snapshot(base, snapshot=33).read_halo(0)


def chop(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop(name):
    return lambda f: f.__delitem__(name)


def set_header(**values):
    return lambda f: f["Header"].attrs.update(values)


OPEN_DAMAGE = {
    "no folder": (shutil.rmtree, "snapshot folder does not exist"),
    "no catalogue": (lambda b: shutil.rmtree(b / f"groups_{NUMBER}"), "snapshot 33 is not in .*groups_033 is missing"),
    "no cells": (lambda b: shutil.rmtree(b / f"snapdir_{NUMBER}"), "snapshot 33 is not in .*snapdir_033 is missing"),
    "no first file": (lambda b: snap(b).unlink(), "file is missing: .*033.0.hdf5"),
    "truncated": (lambda b: chop(snap(b)), r"not a readable HDF5 file .*snap_033.0.hdf5"),
    "not HDF5": (lambda b: snap(b).write_text("hello"), r"not a readable HDF5 file .*snap_033.0.hdf5"),
    "no header": (lambda b: edit(snap(b), drop("Header")), "no Header group in .*snap_033.0.hdf5"),
    "no offsets": (lambda b: offsets(b).unlink(), "offsets file is missing: .*offsets_033.hdf5"),
    "catalogue": (lambda b: chop(groups(b)), r"not a readable HDF5 file .*fof_subhalo_tab_033.0.hdf5"),
    "no a": (lambda b: edit(snap(b), lambda f: f["Header"].attrs.__delitem__("Time")), "attribute Time is missing"),
    "Mpc": (lambda b: edit(snap(b), set_header(UnitLength_in_cm=3.085678e24)), "wrong header units: UnitLength_in_cm"),
    "g": (lambda b: edit(snap(b), set_header(UnitMass_in_g=1.989e33)), "wrong header units: UnitMass_in_g"),
    "H0": (lambda b: edit(snap(b), set_header(HubbleParam=70.0)), "wrong header units: HubbleParam is 70"),
    "time": (lambda b: edit(snap(b), set_header(Time=2.0)), "wrong header units: Time is 2 and Redshift 1"),
    "box": (lambda b: edit(snap(b), set_header(BoxSize=0.0)), "BoxSize must be larger than zero"),
}


@pytest.mark.parametrize("case", OPEN_DAMAGE)
def test_damage_found_on_opening(base, case):
    damage, text = OPEN_DAMAGE[case]
    damage(base)
    with pytest.raises(SnapshotError, match=text) as caught:
        open_snapshot(base, snapshot=33)
    assert "\n" not in str(caught.value)


READ_DAMAGE = {
    "missing chunk": (lambda b: snap(b, 1).unlink(), "file is missing: .*033.1.hdf5"),
    "truncated chunk": (lambda b: chop(snap(b, 1)), r"not a readable HDF5 file .*snap_033.1.hdf5"),
    "field": (lambda b: edit(snap(b), drop("PartType0/Density")), "gas of halo 1: field Density is missing"),
    "field, later file": (lambda b: edit(snap(b, 1), drop("PartType0/Masses")), "field Masses is missing"),
    "offsets": (lambda b: chop(offsets(b)), r"not a readable HDF5 file .*offsets_033.hdf5"),
    "offsets field": (lambda b: edit(offsets(b), drop("Group/SnapByType")), "offsets file lacks Group/SnapByType"),
    "catalogue": (lambda b: groups(b, 1).unlink(), "file is missing: .*fof_subhalo_tab_033.1.hdf5"),
    "catalogue field": (lambda b: edit(groups(b, 1), drop("Group/GroupVel")), "field GroupVel is missing"),
    "not finite": (
        lambda b: edit(snap(b), lambda f: f["PartType0/Density"].__setitem__(slice(None), np.nan)),
        "halo 1 of toy snapshot 33 in .* is damaged: density must be finite",
    ),
}


@pytest.mark.parametrize("case", READ_DAMAGE)
def test_damage_found_on_reading(base, case):
    damage, text = READ_DAMAGE[case]
    snapshot = open_snapshot(base, snapshot=33)
    damage(base)
    with pytest.raises(SnapshotError, match=text) as caught:
        snapshot.read_halo(1)
    assert "\n" not in str(caught.value)


def test_halo_in_intact_files_is_read_beside_a_damaged_one(base):
    snapshot = open_snapshot(base, snapshot=33)
    snap(base, 1).unlink()
    assert snapshot.read_halo(0).n_cells == 3


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda b: groups(b, 1).unlink(), "file is missing: .*fof_subhalo_tab_033.1.hdf5"),
        (lambda b: chop(groups(b, 1)), "not a readable HDF5 file"),
        (lambda b: edit(groups(b, 1), drop("Group/GroupPos")), "field GroupPos is missing"),
        (lambda b: edit(groups(b), drop("Group/Group_M_Crit500")), "field Group_M_Crit500 is missing"),
    ],
)
def test_damaged_catalogue(base, damage, text):
    snapshot = open_snapshot(base, snapshot=33)
    damage(base)
    with pytest.raises(SnapshotError, match=text):
        snapshot.select_halos(m_500_min=1e12 * u.Msun)


def test_bad_arguments(base):
    snapshot = open_snapshot(base, snapshot=33)
    with pytest.raises(SnapshotError, match="halo 2 of toy snapshot 33 has no gas"):
        snapshot.read_halo(2)
    with pytest.raises(SnapshotError, match="halo 3 of toy .* has no X-ray emitting gas: all 3 cells"):
        snapshot.read_halo(3)
    with pytest.raises(SnapshotError, match="halo_id must be below 4, .*got 4"):
        snapshot.read_halo(4)
    with pytest.raises(ValueError, match="halo_id must be a whole number from 0, got -1"):
        snapshot.read_halo(-1)
    with pytest.raises(TypeError, match="halo_id must be a whole number from 0, got 1.0"):
        snapshot.read_halo(1.0)
    with pytest.raises(TypeError, match="snapshot must be a whole number"):
        open_snapshot(base, snapshot="33")
    with pytest.raises(SnapshotError, match="snapshot 99 is not in"):
        open_snapshot(base)
    with pytest.raises(TypeError, match="m_500_min must be a Quantity"):
        snapshot.select_halos(m_500_min=1e14)
    with pytest.raises(u.UnitsError, match="m_500_min must have a unit like solMass"):
        snapshot.select_halos(m_500_min=1 * u.kpc)


def test_halo_without_m_500(base):
    edit(groups(base), lambda f: f["Group/Group_M_Crit500"].__setitem__(0, 0.0))
    with pytest.raises(SnapshotError, match="halo 0 of toy snapshot 33 has no M500"):
        open_snapshot(base, snapshot=33).read_halo(0)
