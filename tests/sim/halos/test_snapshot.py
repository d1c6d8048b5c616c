"""Reading a TNG snapshot: against one written by hand at z = 1, and against every kind of damage."""

import pickle
import shutil

import numpy as np
import pytest
from _tng_snapshot import BOX, NUMBER, A, H, edit, groups, offsets, snap, write_snapshot
from astropy import constants
from astropy import units as u

from astroclassify.exceptions import EmptyResultWarning, SnapshotError
from astroclassify.sim import open_snapshot


@pytest.fixture
def base(tmp_path):
    return write_snapshot(tmp_path)


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
    assert table.colnames == ["halo_id", "m_500", "r_500", "centre", "n_gas", "primary", "contamination"]
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


def replace(handle, name, values):
    del handle[name]
    handle[name] = values


WRONG_OFFSETS = {
    # One cell too early: group 1 begins with the last cell of group 0, 10 Mpc away.
    "one cell": (lambda f: f["Group/SnapByType"].__setitem__((1, 0), 4), "farthest is at [0-9.e+]+ R500"),
    # Those of another snapshot: all cells are other groups'.
    "all cells": (lambda f: f["Group/SnapByType"].__setitem__((1, 0), 0), " 0% of the cells are within R500"),
    "beyond the cells": (lambda f: f["Group/SnapByType"].__setitem__((1, 0), 11), "is not where the offsets say"),
    "far beyond": (lambda f: f["Group/SnapByType"].__setitem__((1, 0), 10**12), "is not where the offsets say"),
    "before the cells": (lambda f: f["Group/SnapByType"].__setitem__((1, 0), -4), "is not where the offsets say"),
    "file of the group": (
        lambda f: f["FileOffsets/Group"].__setitem__(1, 3),
        "wrong offsets in .*: group 1 is not among",
    ),
    "groups": (
        lambda f: f["FileOffsets/Group"].__setitem__(slice(None), 9),
        "wrong offsets in .*: group 1 is not among",
    ),
    "no numbers": (lambda f: replace(f, "FileOffsets/Group", [0.0, np.nan]), "not one whole number for each file"),
    "too many axes": (lambda f: replace(f, "FileOffsets/Group", [[0, 1]]), "not one whole number for each file"),
    "no files": (
        lambda f: replace(f, "FileOffsets/SnapByType", np.zeros((0, 6), int)),
        "not one whole number for each",
    ),
    "files of the cells": (
        lambda f: f["FileOffsets/SnapByType"].__setitem__((1, 0), 7),
        "is not where the offsets say",
    ),
}


@pytest.mark.parametrize("case", WRONG_OFFSETS)
def test_gas_of_other_groups_is_no_halo(base, case):
    """Offsets that are those of something else gave another group's gas, and so a wrong cooling time, in silence."""
    damage, text = WRONG_OFFSETS[case]
    edit(snap(base), lambda f: f["PartType0/Coordinates"].__setitem__(slice(0, 5), [10.0, 5.0, 5.0]))
    edit(offsets(base), damage)
    with pytest.raises(SnapshotError, match=text) as caught:
        open_snapshot(base, snapshot=33).read_halo(1)
    assert "\n" not in str(caught.value)


def test_gas_of_an_elongated_group_is_its_own(base):
    """A chain of merging halos, as friends of friends make them: half of the cells up to 10 R500 from the largest."""
    edit(snap(base), lambda f: f["PartType0/Coordinates"].__setitem__(5, [5000.0, 5000.0, 5290.0]))
    edit(snap(base, 1), lambda f: f["PartType0/Coordinates"].__setitem__(slice(0, 2), [5000.0, 5000.0, 5200.0]))
    halo = open_snapshot(base, snapshot=33).read_halo(1)
    assert sorted(halo.radius.to_value(u.kpc)) == pytest.approx(np.array([0, 200, 200, 290]) * A / H)


def as_zooms(base, *, primary, contamination, coarse=()):
    """Make the catalogue that of zooms: a value for each of the four groups; ``coarse`` ones have no fine matter."""
    for number, rows in enumerate((slice(0, 1), slice(1, 4))):
        lengths = np.array([[0, 0 if k in coarse else 9, 2, 0, 0, 0] for k in range(4)])

        def write(f, rows=rows, lengths=lengths):
            f["Group/GroupPrimaryZoomTarget"] = np.int32(primary)[rows]
            f["Group/GroupContaminationFracByMass"] = np.float32(contamination)[rows]
            f["Group/GroupOrigHaloID"] = np.int32([3, 8, 8, 8])[rows]
            f["Group/GroupLenType"][:, 1:] = lengths[rows, 1:]

        edit(groups(base, number), write)


def test_targets_of_zooms(base):
    """The catalogue fields of TNG-Cluster (its data release page): the targets by default, all on request."""
    as_zooms(base, primary=[1, 1, 0, 0], contamination=[0, 0.002, 0.25, 0])
    snapshot = open_snapshot(base, snapshot=33)
    table = snapshot.select_halos(m_500_min=1e11 * u.Msun)
    assert list(table["halo_id"]) == [0, 1] and list(table["primary"]) == [True, True]
    assert table["contamination"] == pytest.approx([0, 0.002])
    table = snapshot.select_halos(m_500_min=1e11 * u.Msun, primary_only=False)
    assert list(table["halo_id"]) == [0, 1, 2, 3] and list(table["primary"]) == [True, True, False, False]
    assert list(snapshot.select_halos(m_500_min=1e11 * u.Msun, contamination_max=0.001)["halo_id"]) == [0]
    table = snapshot.select_halos(m_500_min=1e11 * u.Msun, primary_only=False, contamination_max=0.01)
    assert list(table["halo_id"]) == [0, 1, 3]
    assert table.meta["primary_only"] is False and table.meta["contamination_max"] == 0.01
    meta = snapshot.read_halo(1).meta
    assert meta["primary"] is True and meta["contamination"] == pytest.approx(0.002)


def test_group_of_coarse_matter_alone_is_contaminated(base):
    """The catalogue says 0 where there is no dark matter of high resolution to compare with."""
    as_zooms(base, primary=[1, 0, 0, 0], contamination=[0, 0, 0, 0], coarse=(1,))
    table = open_snapshot(base, snapshot=33).select_halos(m_500_min=1e11 * u.Msun, primary_only=False)
    assert list(table["contamination"]) == [0, 1, 0, 0]


def test_no_target_above_the_mass(base):
    as_zooms(base, primary=[0, 0, 0, 1], contamination=[0, 0, 0, 0])
    with pytest.warns(EmptyResultWarning, match="and passes the other limits"):
        assert len(open_snapshot(base, snapshot=33).select_halos(m_500_min=5e13 * u.Msun)) == 0


def test_box_of_one_resolution_has_no_zooms(base):
    table = open_snapshot(base, snapshot=33).select_halos(m_500_min=1e11 * u.Msun, contamination_max=0)
    assert len(table) == 4 and all(table["primary"]) and not any(table["contamination"])


@pytest.mark.parametrize(
    ("argument", "error", "text"),
    [
        ({"primary_only": 1}, TypeError, "primary_only must be"),
        ({"contamination_max": 1.5}, ValueError, "contamination_max must be"),
        ({"contamination_max": "0"}, TypeError, "contamination_max must be"),
    ],
)
def test_bad_limits(base, argument, error, text):
    with pytest.raises(error, match=text):
        open_snapshot(base, snapshot=33).select_halos(**argument)
