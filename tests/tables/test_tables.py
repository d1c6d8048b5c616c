"""Specifications, checks and files of the tables that cross a door."""

import importlib.util
import os
import stat

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse
from astropy.io.votable.ucd import check_ucd
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

from astroclassify import tables
from astroclassify.exceptions import MissingDependencyError, OutputError, SchemaError
from astroclassify.schemes import COOL_CORE

SPECS = (tables.SAMPLE, tables.CANDIDATES, tables.PREDICTIONS, tables.SCORES, tables.VOTES)
HAS_PARQUET = all(importlib.util.find_spec(name) is not None for name in ("pyarrow", "pandas"))
needs_pyarrow = pytest.mark.skipif(not HAS_PARQUET, reason="pyarrow or pandas is not installed")
FORMATS = [".ecsv", ".fits", ".fits.gz", ".vot", pytest.param(".parquet", marks=needs_pyarrow)]


def filled(spec):
    """Two rows of every column, with empty text and NaN where they are allowed."""
    scheme = COOL_CORE if spec.per_class else None
    table = QTable(meta=tables.empty(spec, scheme=scheme).meta)
    for name, kind in spec.kinds(scheme).items():
        if name == "source_id":
            table[name] = ["halo_1_x", "halo_2_y"]
        elif kind == "str":
            table[name] = ["", "text"]
        elif kind == "int":
            table[name] = [0, 4097]
        elif kind == "float":
            table[name] = [0.1, np.nan]
        elif kind == "sky":
            table[name] = SkyCoord([10.5, 350] * u.deg, [-80, 41.25] * u.deg)
        else:
            table[name] = [np.nan, 1 / 3] * kind
    table.meta["provenance"] = tables.provenance(seed=1, nested={"a": [1, 2.5]}, text="<1 & z > 0.3")
    return table


def without_rows(spec):
    return tables.empty(spec, scheme=COOL_CORE if spec.per_class else None)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("make", [filled, without_rows])
def test_round_trip(spec, ending, make, tmp_path):
    table = make(spec)
    path = tables.write(table, tmp_path / f"table{ending}")
    back = tables.read(path, spec)
    assert back.colnames == table.colnames and len(back) == len(table)
    assert back.meta == table.meta
    for name in table.colnames:
        if name == "sky_position":
            assert len(table) == 0 or np.all(back[name].separation(table[name]) < 1e-6 * u.arcsec)
        elif table[name].dtype.kind == "U":
            assert [str(value) for value in back[name]] == list(table[name])
        else:
            assert back[name].unit == table[name].unit
            np.testing.assert_array_equal(np.asarray(back[name]), np.asarray(table[name]))
            assert back[name].dtype.isnative
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_votables_say_what_their_columns_are(spec, tmp_path):
    """Every column but scores has words and a UCD that the IVOA knows; positions refer to their system."""
    path = tables.write(filled(spec), tmp_path / "table.vot")
    (resource,) = parse(path, verify="exception").resources
    for field in resource.tables[0].fields:
        if spec.name != "SCORES":
            assert field.description
            assert check_ucd(field.ucd, check_controlled_vocabulary=True)
        assert field.ref == ("icrs" if field.name in ("sky_position_ra", "sky_position_dec") else None)
    systems = [(system.ID, system.system) for system in resource.coordinate_systems]
    assert systems == ([("icrs", "ICRS")] if spec is tables.CANDIDATES else [])


def test_votables_keep_what_columns_say_of_themselves(tmp_path):
    table = filled(tables.CANDIDATES)
    table["ext"].info.description = "of mine"
    (field,) = [f for f in parse(tables.write(table, tmp_path / "t.vot")).get_first_table().fields if f.name == "ext"]
    assert field.description == "of mine" and field.ucd == "phys.angSize;em.X-ray"


def test_column_names_are_frozen():
    assert tables.empty(tables.PREDICTIONS, scheme=COOL_CORE).colnames == [
        "source_id", "label_pred", "p_CC", "p_WCC", "p_NCC", "flags",
    ]  # fmt: skip
    assert tables.empty(tables.SAMPLE).colnames == [
        "source_id", "group_id", "path", "label", "projection", "redshift", "m_500", "r_500", "t_cool", "n_e", "c_sb",
        "flags",
    ]  # fmt: skip
    assert tables.empty(tables.VOTES).colnames == ["source_id", "voter_id", "question", "answer", "time"]


def test_validate_names_every_fault():
    table = filled(tables.SAMPLE)
    table.remove_column("label")
    table["m_500"] = [1.0, 2.0]
    table["r_500"] = [1, 2] * u.s
    table["flags"] = [0.5, 1.5]
    table["redshift"] = [0.1, 0.2] * u.kpc
    table["path"] = [1, 2]
    with pytest.raises(SchemaError) as caught:
        tables.validate(table, tables.SAMPLE)
    text = str(caught.value)
    for name in ("label", "m_500", "r_500", "flags", "redshift", "path"):
        assert f"column {name!r}" in text
    assert "\n" not in text


@pytest.mark.parametrize("names", [["a", "a"], ["", "a"]])
def test_validate_source_id(names):
    table = filled(tables.SAMPLE)
    table["source_id"] = names
    with pytest.raises(SchemaError, match="'source_id' has (repeated|empty) values"):
        tables.validate(table, tables.SAMPLE)


def test_validate_takes_any_table_and_more_columns():
    table = Table(filled(tables.SAMPLE))
    table["message"] = ["", "x"]
    table["flags"] = table["flags"].astype("uint8")
    checked = tables.validate(table, tables.SAMPLE)
    assert isinstance(checked, QTable) and "message" in checked.colnames


def test_validate_needs_a_scheme_and_sky_position_a_skycoord():
    table = filled(tables.PREDICTIONS)
    del table.meta["scheme"]
    with pytest.raises(SchemaError, match="needs a class scheme"):
        tables.validate(table, tables.PREDICTIONS)
    assert len(tables.validate(table, tables.PREDICTIONS, scheme="cool-core")) == 2
    with pytest.raises(SchemaError, match="'p_low_z' is missing"):
        tables.validate(table, tables.PREDICTIONS, scheme="candidate")
    candidates = filled(tables.CANDIDATES)
    candidates["sky_position"] = [1.0, 2.0] * u.deg
    with pytest.raises(SchemaError, match="must hold SkyCoord"):
        tables.validate(candidates, tables.CANDIDATES)
    candidates["det_like"] = filled(tables.CANDIDATES)["sky_position"]
    with pytest.raises(SchemaError, match="'det_like' must hold float values, got SkyCoord"):
        tables.validate(candidates, tables.CANDIDATES)


def test_foreign_fits_table_is_made_native_text(tmp_path):
    path = tmp_path / "foreign.fits"
    Table({"name": np.array([b"A1", b""]), "x": np.array([1, 2], ">f4")}).write(path)
    table = tables.read(path)
    assert table["name"].dtype.kind == "U" and table["x"].dtype.isnative
    assert list(table["name"]) == ["A1", ""]


def test_read_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        tables.read(tmp_path / "none.ecsv")
    with pytest.raises(SchemaError, match="path must end in one of"):
        tables.read(tmp_path / "table.txt")
    for name in ("bad.ecsv", "bad.fits", "bad.vot"):
        (tmp_path / name).write_text("not a table\n")
        with pytest.raises(SchemaError, match="cannot be read as") as caught:
            tables.read(tmp_path / name)
        assert "\n" not in str(caught.value)
    path = tables.write(filled(tables.VOTES), tmp_path / "votes.ecsv")
    with pytest.raises(SchemaError, match="not a SAMPLE table"):
        tables.read(path, tables.SAMPLE)
    half = tables.write(filled(tables.SAMPLE), tmp_path / "half.fits")
    half.write_bytes(half.read_bytes()[:6000])
    with pytest.raises(SchemaError, match="cannot be read as"):
        tables.read(half)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr("astroclassify.tables._files.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install pyarrow"):
        tables.write(filled(tables.VOTES), tmp_path / "votes.parquet")
    assert not list(tmp_path.iterdir())


def test_write_refuses_and_leaves_nothing(tmp_path):
    table = filled(tables.VOTES)
    path = tables.write(table, tmp_path / "votes.ecsv")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        tables.write(table[:1], path)
    assert path.read_bytes() == before
    tables.write(table[:1], path, overwrite=True)
    assert len(tables.read(path)) == 1
    with pytest.raises(OutputError, match="cannot write in"):
        tables.write(table, tmp_path / "no" / "votes.ecsv")
    table["bad"] = [object(), object()]
    for ending in (".fits", ".ecsv"):
        with pytest.raises(SchemaError, match="cannot be written"):
            tables.write(table, tmp_path / f"bad{ending}")
    assert os.listdir(tmp_path) == ["votes.ecsv"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_write_into_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot write in"):
            tables.write(filled(tables.VOTES), tmp_path / "votes.ecsv")
    finally:
        tmp_path.chmod(0o700)


def test_write_beside_is_whole_or_not_there(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(temporary):
        with open(temporary, "w") as file:
            file.write("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        tables.write_beside(path, fail, overwrite=True)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]

    def interrupt(temporary):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.write_beside(tmp_path / "other.txt", interrupt)
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_written_files_have_the_usual_permissions(tmp_path):
    reference = tmp_path / "reference"
    reference.touch()
    path = tables.write(filled(tables.VOTES), tmp_path / "votes.ecsv")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(reference.stat().st_mode)


def test_sample_folder(tmp_path):
    sample = filled(tables.SAMPLE)
    sample["path"] = ["images/halo_1_x.fits", ""]
    written = tables.write_sample(sample, tmp_path / "deep" / "sample")
    assert written.meta["folder"] == str((tmp_path / "deep" / "sample").resolve())
    assert "folder" not in (tmp_path / "deep" / "sample" / "sample.ecsv").read_text()
    back = tables.read_sample(tmp_path / "deep" / "sample")
    assert list(back["label"]) == ["", "text"]
    folder = (tmp_path / "deep" / "sample").resolve()
    assert tables.image_paths(back) == [folder / "images/halo_1_x.fits", folder]
    with pytest.raises(OutputError, match="exists already"):
        tables.write_sample(sample, folder)
    with pytest.raises(FileNotFoundError, match="is not a sample"):
        tables.read_sample(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the folder"):
        tables.write_sample(sample, tmp_path / "file" / "sample")


@pytest.mark.parametrize("name", ["../secret.fits", "/etc/passwd", "images/../../secret.fits"])
def test_image_paths_stay_inside(name):
    sample = filled(tables.SAMPLE)
    sample["path"] = [name, ""]
    with pytest.raises(SchemaError, match="no meta"):
        tables.image_paths(sample)
    sample.meta["folder"] = "/data"
    with pytest.raises(SchemaError, match="inside the sample folder"):
        tables.image_paths(sample)


@pytest.mark.parametrize(
    ("column", "plain"),
    [
        (Column([b"a", b"\xc3\xa9"]), ["a", "é"]),
        (MaskedColumn(["a", "hidden"], mask=[False, True]), ["a", ""]),
        (MaskedColumn([b"a", b"hidden"], mask=[False, True]), ["a", ""]),
        (Column(["a", None, b"b"], dtype=object), ["a", "", "b"]),
        (Column([], dtype="S4"), []),
        (["a", "b"], ["a", "b"]),
        (["a", np.ma.masked], ["a", ""]),
        (Masked(["a", "hidden"], mask=[False, True]), ["a", ""]),
    ],
)
def test_plain_texts(column, plain):
    found = tables.plain_column(column)
    assert type(found) is np.ndarray and found.dtype.kind == "U" and found.tolist() == plain


def test_texts_of_variable_length_from_fits(tmp_path):
    texts = fits.Column("name", "PA(8)", array=np.array(["SRC7", "B12"], dtype=object))
    fits.BinTableHDU.from_columns([texts]).writeto(tmp_path / "names.fits")
    assert tables.plain_column(Table.read(tmp_path / "names.fits")["name"]).tolist() == ["SRC7", "B12"]
    assert tables.read(tmp_path / "names.fits")["name"].tolist() == ["SRC7", "B12"]


@pytest.mark.parametrize("masked", [MaskedColumn, np.ma.array, Masked])
def test_numbers_behind_a_mask_are_not_used(masked):
    found = tables.plain_column(masked(np.array([16, 999999]), mask=[False, True]))
    assert found[0] == 16 and np.isnan(found[1])
    found = tables.plain_column(masked(np.array([16, 999999]), mask=[False, True]), 0)
    assert found.tolist() == [16, 0] and found.dtype.kind == "i"
    assert tables.plain_column(masked(np.array([True, True]), mask=[False, True])).tolist() == [True, False]
    assert tables.plain_column(masked(np.array([1, 2]), mask=[False, False])).dtype.kind == "i"


def test_plain_quantities_keep_their_unit():
    found = tables.plain_column(Masked([1.0, 2.0] * u.kpc, mask=[False, True]))
    assert found.unit == u.kpc and found[0].value == 1 and np.isnan(found[1].value)
    sky = SkyCoord([1, 2] * u.deg, [3, 4] * u.deg)
    assert tables.plain_column(sky) is sky


def test_texts_of_a_validated_table_are_plain():
    """Tables read with astropy have bytes (FITS) or masked texts (ECSV): both are understood, the table is kept."""
    votes = QTable({name: np.array([b"a", b"b"]) for name, _ in tables.VOTES.columns})
    votes["time"] = MaskedColumn(["1", "2"], mask=[False, True])
    checked = tables.validate(votes, tables.VOTES)
    assert checked["source_id"].tolist() == ["a", "b"] and checked["time"].tolist() == ["1", ""]
    assert votes["source_id"].dtype.kind == "S" and votes["time"].mask.any()


@pytest.mark.parametrize("ending", FORMATS)
def test_object_texts_can_be_written(ending, tmp_path):
    """As TAP services and pandas give them."""
    table = QTable({"source_id": np.array(["a", "a longer one"], dtype=object), "x": [1, 2]})
    assert tables.read(tables.write(table, tmp_path / f"table{ending}"))["source_id"].tolist() == ["a", "a longer one"]
