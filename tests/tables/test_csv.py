"""CSV: what is written is what is read, names keep their units, and anybody's CSV is read."""

import csv
import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclassify import tables
from astroclassify.exceptions import OutputError, SchemaError


def table():
    out = QTable({"source_id": ["007", 'M 87, "core"', "1E0657"], "message": ["", "two\nlines", "3"]})
    out["sky_position"] = SkyCoord([10.123456789012, np.nan, 359.9] * u.deg, [-5.1, np.nan, 89.999999] * u.deg)
    out["ext"] = [12.345678901234567, np.nan, 1e-300] * u.arcsec
    out["rate"] = [0.1, 2, 3] * u.ct / u.s
    out["flags"] = np.array([0, 4096, 2**40])
    out["big"] = np.array([2**62, -(2**63) + 1, 0])
    out["seen"] = [True, False, True]
    out["n"] = MaskedColumn([1, 2, 3], mask=[False, True, False])
    out["z"] = np.array([0.1, np.nan, np.inf])
    out["note"] = ["a", "", "nan or not"]
    out["ext"].info.format = ".1f"  # for the eye, not for the file
    return out


def same(first, second):
    assert first.colnames == second.colnames
    for name in first.colnames:
        one, two = first[name], second[name]
        if isinstance(one, SkyCoord):
            assert isinstance(two, SkyCoord) and two.frame.name == "icrs"
            np.testing.assert_array_equal([one.ra.deg, one.dec.deg], [two.ra.deg, two.dec.deg])
            continue
        assert getattr(one, "unit", None) == getattr(two, "unit", None), name
        np.testing.assert_array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(two), name)
        np.testing.assert_array_equal(np.ma.filled(one, 0), np.ma.filled(two, 0), name)
        assert np.asarray(one).dtype.kind == np.asarray(two).dtype.kind, name


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".csv.gz"])
def test_read_as_written(tmp_path, ending):
    path = tables.write(table(), tmp_path / f"a{ending}")
    same(tables.read(path), table())
    text = gzip.decompress(path.read_bytes()) if ending.endswith("gz") else path.read_bytes()
    assert text.startswith(
        b"source_id,message,sky_position_ra [deg],sky_position_dec [deg],ext [arcsec],rate [ct / s],"
    )
    with pytest.raises(OutputError, match="exists already"):
        tables.write(table(), path)


def test_candidates_without_rows(tmp_path):
    none = tables.empty(tables.CANDIDATES)
    again = tables.read(tables.write(none, tmp_path / "none.csv"), tables.CANDIDATES)
    assert len(again) == 0 and again.colnames == none.colnames


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=8), st.floats())))
def test_any_names_and_numbers(tmp_path_factory, rows):
    rows = [(name.strip(), value) for name, value in rows]
    out = QTable({"source_id": np.array([name for name, _ in rows], dtype="U8")})
    out["q"] = np.array([value for _, value in rows], dtype=float) * u.keV
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    again = tables.read(tables.write(out, path))
    assert list(again["source_id"]) == [name for name, _ in rows]
    np.testing.assert_array_equal(again["q"].value, out["q"].value)
    with open(path, encoding="utf-8", newline="") as stream:
        assert len(list(csv.reader(stream))) == len(rows) + 1


def test_csv_of_others(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffname,ra,T (keV),n\r\nTr\u00fcmpler,1.5,3,\r\n\r\n0012,nan,4.5,7\r\n".encode())
    read = tables.read(path)
    assert read.colnames == ["name", "ra", "T (keV)", "n"] and list(read["name"]) == ["Tr\u00fcmpler", "0012"]
    np.testing.assert_array_equal(read["ra"], [1.5, np.nan])
    assert list(read["n"].mask) == [True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty file"),
        ("a,b\n1\n", "row 2 of .*a.csv' has 1 cells instead of 2"),
        ("a,a\n1,2\n", r"several columns called \['a'\]"),
        ("a [arcsec],a\n1,2\n", r"several columns called \['a'\]"),
        ("a [gloob!],b\n1,2\n", "cannot be read as a table"),
        ("a [keV],b\nx,2\n", "cannot be read as a table"),
        ('a,b\n"1,2\n', "cannot be read as a table"),
    ],
)
def test_files_that_are_no_table(tmp_path, text, words):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(SchemaError, match=words):
        tables.read(path)


def test_what_csv_cannot_hold(tmp_path):
    with pytest.raises(SchemaError, match="column 'image' does not hold one number or text a row"):
        tables.write(QTable({"image": np.zeros((2, 3))}), tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
