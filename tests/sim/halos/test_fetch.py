"""Fetching halos over the TNG API: the halo, the arguments, and answers that are not what was asked for."""

import inspect
import io

import numpy as np
import pytest
from _tng_server import GROUP, HALO, KEY, SIM, SNAP, Fault, cached, failure, fetch, hdf5
from astropy import units as u

from astroclassify.exceptions import SnapshotError
from astroclassify.sim import fetch_halo

h5py = pytest.importorskip("h5py")


def test_halo_in_physical_units(api):
    halo = fetch(api)
    n = len(api.gas["Masses"])
    assert (halo.halo_id, halo.simulation, halo.snapshot, halo.n_cells) == (HALO, "L35n2160TNG", SNAP, n)
    assert halo.redshift == 0.9973
    scale = (1 / 1.9973) / 0.6774
    assert halo.r_500.to_value(u.kpc) == pytest.approx(400 * scale)
    assert halo.m_500.to_value(u.Msun) == pytest.approx(7e13 / 0.6774)
    assert halo.centre.to_value(u.kpc) == pytest.approx(np.array(GROUP["GroupPos"]) * scale)
    assert np.max(np.abs(halo.position.value)) < 600 * scale, "wrapped over the corner of the box"
    assert halo.mass.to_value(u.Msun) == pytest.approx(api.gas["Masses"] * 1e10 / 0.6774, rel=1e-6)
    assert halo.cosmology.Om0 == 0.3089 and halo.cosmology.H0.value == pytest.approx(67.74)
    assert halo.abundances.shape == (n, 7)
    assert halo.meta["url"] == f"{api.base_url}{SIM}/snapshots/{SNAP}/halos/{HALO}/"
    assert halo.meta["base_path"] == str(cached(api, ".hdf5"))
    assert [path.suffix for path in sorted(api.cache.rglob("*.*")) if path.is_file()] == [".hdf5", ".json", ".lock"]
    assert api.waits == []


def test_both_forms_of_the_catalogue_entry(api):
    api.wrapped = False
    assert fetch(api).n_cells == len(api.gas["Masses"])


def test_second_call_needs_neither_network_nor_key(api):
    first = fetch(api)
    api.stop()
    again = fetch(api, api_key=None)
    assert np.array_equal(first.position.value, again.position.value)
    assert len(api.requests) == 4


def test_read_only_cache_is_enough_for_what_is_there(api):
    fetch(api)
    api.stop()
    folders = [api.cache, *(path for path in api.cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert fetch(api, api_key=None).n_cells == len(api.gas["Masses"])
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_key_of_the_environment(api, monkeypatch):
    assert "TNG_API_KEY" in failure(api, api_key=None)
    assert "TNG_API_KEY" in failure(api, api_key="  ")
    assert api.requests == []
    monkeypatch.setenv("TNG_API_KEY", f" {KEY}\n")
    assert fetch(api, api_key=None).halo_id == HALO


def test_malformed_keys(api):
    for bad in ("two words", "line\nX-Other: 1", "schlüssel"):
        text = failure(api, ValueError, api_key=bad)
        assert "api_key" in text and bad[:4] not in text
    assert "str" in failure(api, TypeError, api_key=b"bytes") and api.requests == []


def test_wrong_key(api):
    api.key = "another"
    text = failure(api)
    assert "TNG_API_KEY" in text and "403" in text and "***" in text
    assert len(api.requests) == 1, "a refused key is not tried again"


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"simulation": "../x"}, ValueError, "simulation must be a name"),
        ({"simulation": "a/b"}, ValueError, "simulation must be a name"),
        ({"simulation": ""}, ValueError, "simulation must be a name"),
        ({"simulation": None}, TypeError, "simulation must be a name"),
        ({"snapshot": "99"}, TypeError, "snapshot must be a whole number"),
        ({"halo_id": -1}, ValueError, "halo_id must be a whole number from 0"),
        ({"halo_id": 1.5}, TypeError, "halo_id must be a whole number from 0"),
        ({"base_url": "ftp://host/"}, ValueError, "base_url must be an http or https address"),
        ({"base_url": "http://user:pass@host/"}, ValueError, "got 'host/'"),
        ({"base_url": "http://host/?a=1"}, ValueError, "base_url"),
        ({"base_url": "http://host:port/"}, ValueError, "base_url"),
        ({"base_url": "file:///etc"}, ValueError, "base_url"),
        ({"base_url": None}, ValueError, "base_url"),
    ],
)
def test_arguments(api, changes, kind, text):
    assert text in failure(api, kind, **changes)
    assert api.requests == [] and not api.cache.exists()


def test_no_such_simulation_snapshot_or_halo(api):
    assert "simulation must be one of TNG100-1, TNG50-1, got 'TNG60-1'" in failure(api, simulation="TNG60-1")
    text = failure(api, snapshot=51)
    # All three pages, at our own address although the links name another host.
    assert "snapshot must be one of 0, 1, 2," in text and "14, got 51" in text and len(api.asked("snapshots")) == 3
    text = failure(api, halo_id=5000)
    assert text == f"there is no halo 5000 of {SIM} snapshot {SNAP}; halo_id must be below 1000"
    api.fail("root", *[Fault(status=404)])
    assert "one that the API has" in failure(api, simulation="TNG60-1")


def test_corrupt_body(api):
    page = b"<!DOCTYPE html><title>maintenance</title>"
    api.fail("cutout", Fault(body=page))
    assert fetch(api).halo_id == HALO
    api.cache = api.cache / "other"
    api.fail("cutout", Fault(body=page), Fault(body=page))
    assert "not a readable HDF5 file" in failure(api, SnapshotError)
    assert cached(api, ".part") is None and cached(api, ".part.json") is None
    api.fail("cutout", Fault(body=b""), Fault(body=b""))
    assert "not a readable HDF5 file" in failure(api, SnapshotError)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"CutoutID": np.int64(8)}, "CutoutID in the header is 8, not 7"),
        ({"SimulationName": "L35n2160TNG_DM"}, "SimulationName in the header is L35n2160TNG_DM"),
        ({"SnapshotNumber": np.int64(51)}, "SnapshotNumber"),
        ({"Redshift": 0.5, "Time": 1 / 1.5}, "Redshift in the header is 0.5, not 0.9973"),
        ({"BoxSize": 75000.0}, "BoxSize"),
        ({"HubbleParam": 0.704}, "HubbleParam"),
        ({"NumPart_ThisFile": np.int32([2999, 0, 0, 0, 0, 0])}, "2999 gas cells, the catalogue 3000"),
        (
            {"NumPart_ThisFile": np.int32([2000, 0, 0, 0, 0, 0]), "CutoutType": "subhalo"},
            "2000 gas cells, the catalogue 3000 (a cutout of a subhalo)",
        ),
        ({"NumPart_ThisFile": np.float64(np.nan)}, "hdf5.part is damaged"),
        ({"Time": None}, "attribute Time is missing"),
        ({"UnitMass_in_g": 1.0}, "wrong header units"),
    ],
)
def test_a_cutout_of_something_else(api, changes, text):
    wrong = hdf5(api.gas, **changes)
    api.fail("cutout", Fault(body=wrong), Fault(body=wrong))
    assert text in failure(api, SnapshotError)
    assert len(api.asked("cutout")) == 2
    api.fail("cutout", Fault(body=wrong))
    assert fetch(api).halo_id == HALO


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Masses", np.zeros(2999)),
        ("Masses", np.zeros((3000, 2))),
        ("Masses", np.full(3000, b"x")),
        ("Coordinates", np.zeros(3000)),
        ("GFM_Metals", np.zeros(3000)),
    ],
)
def test_fields_of_the_wrong_shape(api, name, values):
    api.gas[name] = values
    wrong = hdf5(api.gas, NumPart_ThisFile=np.int32([3000, 0, 0, 0, 0, 0]))
    api.fail("cutout", Fault(body=wrong), Fault(body=wrong))
    assert name in failure(api, SnapshotError)


@pytest.mark.parametrize("word", ["halo", "Halo", "group", "FoF", b"halo", 4, "subhalo"])
def test_a_cutout_is_what_it_holds(api, word):
    """Whatever word says that it is the cutout of a group: all its gas cells are there, and lie where it does."""
    api.header["CutoutType"] = word
    assert fetch(api).n_cells == len(api.gas["Masses"])


def test_gas_of_another_group(api):
    """As many cells as the catalogue counts, but elsewhere: fetched again, and not kept."""
    gas = {**api.gas, "Coordinates": (api.gas["Coordinates"] + 15000.0) % 35000.0}
    body = hdf5(gas, api.header)
    api.fail("cutout", Fault(body=body), Fault(body=body))
    assert "gas that is not around its group: 0% of the cells are within R500" in failure(api, SnapshotError)
    api.fail("cutout", Fault(body=body))
    assert fetch(api).n_cells == len(api.gas["Masses"])


def test_header_attributes_that_the_service_adds_may_be_absent(api):
    for name in ("CutoutID", "CutoutType", "SnapshotNumber", "SimulationName", "UnitMass_in_g"):
        del api.header[name]
    del api.simulation["name_alt"], api.simulation["boxsize"], api.snapshot["redshift"]
    assert fetch(api).simulation == SIM


def test_metals_only_where_the_snapshot_has_them(api):
    api.lacking = {"GFM_Metals"}
    halo = fetch(api)
    assert halo.abundances is None and halo.n_cells == len(api.gas["Masses"])
    assert ["GFM_Metals" in request[2] for request in api.asked("cutout")] == [True, False]
    assert fetch(api, api_key=None).abundances is None


def test_metals_left_out_silently(api):
    del api.gas["GFM_Metals"]
    assert fetch(api).abundances is None
    assert len(api.asked("cutout")) == 1


def test_a_gas_field_that_the_run_lacks(api):
    api.lacking = {"ElectronAbundance", "GFM_Metals"}
    text = failure(api, SnapshotError)
    assert "no gas field ElectronAbundance" in text and "Masses" not in text
    api.lacking = set()
    api.requests.clear()
    del api.gas["StarFormationRate"], api.gas["Density"]
    assert "no gas field Density, StarFormationRate" in failure(api, SnapshotError)
    assert len(api.asked("cutout")) == 1, "a valid file without a field is not fetched again"


def test_a_request_that_is_refused_for_another_reason(api):
    api.fail("cutout", *[Fault(status=400, body=b'{"detail": "too many\\n requests today"}')] * 2)
    text = failure(api)
    assert "the server answered 400" in text and text.endswith("too many requests today")


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"", b"\xff\xfe\x00", b"[1, 2", b"[" * 100000])
@pytest.mark.parametrize("kind", ["simulation", "info"])
def test_json_garbage(api, kind, body):
    api.fail(kind, Fault(body=body or b" "))
    assert "did not answer with JSON" in failure(api)


@pytest.mark.parametrize("answer", ["[1, 2]", "null", "3", '"x"'])
def test_json_of_another_kind(api, answer):
    api.fail("snapshot", Fault(body=answer.encode()))
    assert "JSON object" in failure(api)
    api.fail("info", Fault(body=answer.encode()))
    assert "no catalogue fields" in failure(api, SnapshotError)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("GroupPos", None, "field GroupPos is missing"),
        ("GroupPos", [1, 2], "GroupPos must hold 3 finite numbers"),
        ("GroupPos", ["a", "b", "c"], "GroupPos is not numeric"),
        ("GroupVel", {"x": 1}, "GroupVel is not numeric"),
        ("Group_M_Crit500", float("nan"), "Group_M_Crit500 must hold 1 finite"),
        ("Group_M_Crit500", 0.0, "no M500"),
        ("Group_R_Crit500", -1.0, "no M500"),
        ("GroupLenType", [0, 9, 9, 9, 9, 9], "has no gas"),
    ],
)
def test_catalogue_entries_without_what_is_needed(api, name, value, text):
    api.group[name] = value
    assert text in failure(api, SnapshotError)
    assert api.asked("cutout") == [], "found before anything large is fetched"


def test_gas_that_is_cold(api):
    api.gas["InternalEnergy"][:] = 1.0
    with pytest.raises(SnapshotError, match="no X-ray emitting gas"):
        fetch(api)


def test_gas_that_is_not_finite_names_the_file(api):
    api.gas["Density"][5] = np.nan
    with pytest.raises(SnapshotError, match=r"damaged: density must be finite") as caught:
        fetch(api)
    assert str(cached(api, ".hdf5")) in str(caught.value)


# Against the other reader and real files


def test_same_halo_as_from_the_snapshot(api, tmp_path):
    pytest.importorskip("illustris_python")
    from illustris_python import groupcat, snapshot

    from astroclassify.sim import EmbeddedPopulation, open_snapshot, write_embedded_snapshot

    population = EmbeddedPopulation(1, rng=1, cell_mass=3e9 * u.Msun)
    base = write_embedded_snapshot(tmp_path / "run", population)
    expected = open_snapshot(base).read_halo(0)
    gas = snapshot.loadHalo(str(base), 99, 0, "gas")
    api.gas = {name: values for name, values in gas.items() if name != "count"}
    with h5py.File(base / "snapdir_099" / "snap_099.0.hdf5") as handle:
        header = dict(handle["Header"].attrs.items())
    api.header = {**header, "CutoutID": 0, "CutoutType": "halo", "NumPart_ThisFile": np.int32([gas["count"]] + [0] * 5)}
    group = groupcat.loadSingle(str(base), 99, haloID=0)
    names = ("Group_M_Crit500", "Group_R_Crit500", "GroupPos", "GroupVel", "GroupLenType")
    api.group = {name: np.asarray(group[name]).tolist() for name in names}
    api.simulation = {"name": "embedded", "boxsize": 205000.0}
    api.snapshot = {"number": 99, "redshift": 2.2e-16}
    answers = {"simulation": api.simulation, "snapshot": api.snapshot, "info": {"Group": api.group}}
    api.answer = lambda kind, path, page: answers[kind]
    halo = fetch(api, simulation="embedded", snapshot=99, halo_id=0)
    for name in ("simulation", "snapshot", "halo_id", "redshift"):
        assert getattr(halo, name) == getattr(expected, name), name
    for name in ("position", "velocity", "mass", "density", "temperature", "n_e", "n_h", "metallicity", "abundances"):
        ours, theirs = getattr(halo, name), getattr(expected, name)
        assert (ours is None and theirs is None) or np.array_equal(ours.value, theirs.value), name
    for name in ("m_500", "r_500", "centre"):
        assert np.allclose(getattr(halo, name).value, getattr(expected, name).value, rtol=1e-12), name
    assert halo.cosmology.is_equivalent(expected.cosmology)


def real_headers(shared_data):
    for path in sorted((shared_data / "tng").glob("*.hdf5")):
        with h5py.File(path) as handle:
            yield path, dict(handle["Header"].attrs.items())


@pytest.mark.real_data
def test_real_headers(api, shared_data):
    for number, (_, header) in enumerate(real_headers(shared_data)):
        n_gas = len(api.gas["Masses"])
        parts = np.int32([n_gas, *header["NumPart_ThisFile"][1:]])
        api.header = {**header, "CutoutType": "halo", "CutoutID": np.int64(HALO), "NumPart_ThisFile": parts}
        api.header["SnapshotNumber"] = np.int64(SNAP)
        api.simulation["name_alt"] = header["SimulationName"]
        api.snapshot["redshift"] = float(header["Redshift"])
        halo = fetch(api, cache=api.cache / str(number))
        assert halo.simulation == header["SimulationName"].removesuffix("_DM") + "_DM" * (number == 0)
        assert halo.redshift == header["Redshift"] and halo.n_cells == n_gas
        assert halo.cosmology.H0.value == pytest.approx(67.74) and halo.cosmology.Ob0 == 0.0486
        assert halo.r_500.to_value(u.kpc) == pytest.approx(400 * header["Time"] / header["HubbleParam"])


@pytest.mark.real_data
def test_real_cutouts_without_gas(api, shared_data):
    for path, header in real_headers(shared_data):
        body = path.read_bytes()
        api.simulation["name_alt"] = header["SimulationName"]
        api.fail("cutout", Fault(body=body), Fault(body=body))
        assert f"CutoutID in the header is {header['CutoutID']}, not 7" in failure(api, SnapshotError)
        with h5py.File(buffer := io.BytesIO(body), "r+") as handle:
            handle["Header"].attrs.update({"CutoutID": HALO, "SnapshotNumber": SNAP})
        body = buffer.getvalue()
        api.snapshot["redshift"] = float(header["Redshift"])
        api.fail("cutout", Fault(body=body), Fault(body=body))
        assert "has 0 gas cells, the catalogue 3000 (a cutout of a subhalo)" in failure(api, SnapshotError)


def test_addresses(api):
    fetch(api)
    (request,) = api.asked("cutout")
    path, _, query = request[2].partition("?")
    assert path == f"/api/{SIM}/snapshots/{SNAP}/halos/{HALO}/cutout.hdf5"
    assert query.startswith("gas=Coordinates,Velocities,Masses,Density,")
    assert inspect.signature(fetch_halo).parameters["base_url"].default == "https://www.tng-project.org/api/"
