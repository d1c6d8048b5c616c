"""Catalogues in every form that archives give: the same rows from each, units, names and faults."""

import gzip
import logging
import re
import warnings
from importlib.resources import files

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyWarning, EmptyResultWarning, SchemaError
from astroclassify.schemes import Flag
from astroclassify.survey import read_catalogue

RA, DEC = [10.25, 359.999, 150.1163, 201.5], [-0.5, -89.25, 2.2049, 33.125]


def xamin():
    """Table of an XAmin run, as its FITS file has it."""
    table = Table({"Index": [7, 11, 13, 17], "EXT_RA": RA, "EXT_DEC": DEC, "EXT": [12.5, 0.3, 44.0, np.nan]})
    table["EXT_LIKE"] = [120.0, 0.0, 35.5, np.nan]
    table["PNT_DET_ML"] = [80.0, 500.0, 20.25, 15.0]
    table["C1C2"] = [1, 0, 1, 2]
    table["ObsId"] = ["0124710801", "0124710802", "", "0124710804"]
    table["EXT_RA"].unit = table["EXT_DEC"].unit = "deg"
    table["EXT"].unit = "arcsec"
    return table


def vizier(table, mark="\t", hashes=False, columns=True):
    """What VizieR writes as TSV."""
    lines = ["#", "#   VizieR Astronomical Server vizier.cds.unistra.fr", "#Name: J/A+A/000/A00/list"]
    for name in table.colnames if columns else ():
        kind = "A10" if table[name].dtype.kind in "US" else "F9.5"
        lines.append(f"#Column\t{name}\t({kind})\tThe {name}\t[ucd=meta]")
    hash_ = "#" if hashes else ""
    lines += ["", hash_ + mark.join(table.colnames)]
    lines += [hash_ + mark.join(str(table[name].unit or " ") for name in table.colnames)]
    lines += [hash_ + mark.join("-" * max(3, len(name)) for name in table.colnames)]
    for row in table:
        lines.append(mark.join("" if str(value) in ("nan", "--") else str(value) for value in row))
    return "\n".join([*lines, ""])


def read_columns(tmp_path_factory, names, units, columns):
    """The catalogue of a VizieR file with these cells of text."""
    lines = ["#", *("\t".join(cells) for cells in (names, units, ["---"] * len(names)))]
    lines += ["\t".join(cells) for cells in zip(*columns, strict=True)]
    path = tmp_path_factory.mktemp("catalogue") / "asu.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_catalogue(path)


README = """J/A+A/000/A00       A list       (Somebody, 2021)
================================================================================
Byte-by-byte Description of file: list.dat
--------------------------------------------------------------------------------
   Bytes Format Units   Label      Explanations
--------------------------------------------------------------------------------
   1-  3 I3     ---     Index      Number of the source
   5- 14 F10.5  deg     EXT_RA     Right ascension
  16- 25 F10.5  deg     EXT_DEC    Declination
  27- 32 F6.2   arcsec  EXT        ? Core radius
  34- 40 F7.2   ---     EXT_LIKE   ? Likelihood of extent
  42- 48 F7.2   ---     PNT_DET_ML Likelihood
  50     I1     ---     C1C2       Class
  52- 61 A10    ---     ObsId      ? Observation
--------------------------------------------------------------------------------
"""


def cds(table):
    lines = []
    for row in table:
        extent = ["      " if np.isnan(row["EXT"]) else f"{row['EXT']:6.2f}"]
        extent += ["       " if np.isnan(row["EXT_LIKE"]) else f"{row['EXT_LIKE']:7.2f}"]
        line = f"{row['Index']:3d} {row['EXT_RA']:10.5f} {row['EXT_DEC']:10.5f} {' '.join(extent)} "
        lines.append(line + f"{row['PNT_DET_ML']:7.2f} {row['C1C2']:1d} {row['ObsId']:10s}")
    return "\n".join(lines) + "\n"


def store(table, folder, form):
    """Write a table in one of the forms."""
    path = folder / {"readme": "list.dat", "one file": "list.txt"}.get(form, f"list.{form}")
    if form in ("fits", "vot"):
        table.write(path, format={"fits": "fits", "vot": "votable"}[form])
    elif form == "fits.gz":
        table.write(path, format="fits")
    elif form == "vot.gz":
        table.write(folder / "plain.vot", format="votable")
        path.write_bytes(gzip.compress((folder / "plain.vot").read_bytes()))
    elif form == "ecsv":
        table.write(path, format="ascii.ecsv")
    elif form == "csv":
        table.write(path, format="ascii.csv", fill_values=[("nan", "")])
    elif form == "readme":
        (folder / "ReadMe").write_text(README)
        path.write_text(cds(table))
    elif form == "one file":
        path.write_text(README + cds(table))
    else:
        path.write_text(vizier(table, ";" if form == "asu" else "\t", hashes=form == "asu"))
    return path


@pytest.mark.parametrize(
    "form", ["fits", "fits.gz", "vot", "vot.gz", "ecsv", "tsv", "asu", "readme", "one file", "csv"]
)
def test_same_rows_from_every_form(tmp_path, form):
    path = store(xamin(), tmp_path, form)
    catalogue = read_catalogue(path, kind="xamin" if form == "csv" else None)
    assert catalogue.colnames == [
        *("source_id", "sky_position", "ext", "ext_like", "pnt_det_like", "x_class", "flags", "message", "ObsId")
    ]
    assert list(catalogue["source_id"]) == ["7", "11", "13", "17"]
    np.testing.assert_allclose(catalogue["sky_position"].ra.deg, RA, atol=1e-9)
    np.testing.assert_allclose(catalogue["sky_position"].dec.deg, DEC, atol=1e-9)
    np.testing.assert_array_equal(catalogue["ext"].to_value(u.arcsec), [12.5, 0.3, 44, np.nan])
    np.testing.assert_array_equal(catalogue["ext_like"], [120, 0, 35.5, np.nan])
    np.testing.assert_array_equal(catalogue["pnt_det_like"], [80, 500, 20.25, 15])
    assert list(catalogue["x_class"]) == ["C1", "", "C1", "C2"]
    assert list(catalogue["ObsId"]) == ["0124710801", "0124710802", "", "0124710804"]  # the leading zero is no number
    assert not np.any(catalogue["flags"]) and not any(catalogue["message"])
    assert catalogue.meta["catalogue"]["kind"] == "xamin"
    assert catalogue.meta["catalogue"]["columns"]["sky_position"] == "EXT_RA EXT_DEC"


def test_vizier_descriptions_and_masks(tmp_path):
    table = Table({"RAJ2000": RA, "DEJ2000": DEC, "N": MaskedColumn([1, 2, 3, 4], mask=[0, 1, 0, 0])})
    table["RAJ2000"].unit = table["DEJ2000"].unit = "deg"
    path = tmp_path / "asu.tsv"
    path.write_text(vizier(table) + "\n#END#\n")
    catalogue = read_catalogue(path)
    assert list(catalogue["source_id"]) == ["1", "2", "3", "4"]  # no names: numbers of the rows
    assert list(catalogue["N"].mask) == [False, True, False, False] and catalogue["N"].dtype.kind == "i"
    assert catalogue["N"].info.description == "The N"
    two = tmp_path / "two.tsv"
    two.write_text(vizier(table) + vizier(table))
    with pytest.raises(SchemaError, match="several tables"):
        read_catalogue(two)


def test_missing_values_of_binary_tables_are_never_numbers(tmp_path):
    """The value below a mask (here 99) must not come out anywhere."""
    table = xamin()
    table["EXT"] = MaskedColumn([12.5, 99.0, 44, 1], mask=[0, 1, 0, 0], unit="arcsec")
    table["N"] = MaskedColumn([99, 2, 3, 4], mask=[1, 0, 0, 0])
    table["size"] = MaskedColumn(np.array([99, 2, 3, 4]), mask=[1, 0, 0, 0], unit="arcsec")
    table["good"] = MaskedColumn([True, False, True, True], mask=[1, 0, 0, 0])
    for form in ("vot", "ecsv"):
        catalogue = read_catalogue(store(table, tmp_path, form))
        np.testing.assert_array_equal(catalogue["ext"].value, [12.5, np.nan, 44, 1])
        np.testing.assert_array_equal(catalogue["size"].value, [np.nan, 2, 3, 4])
        assert catalogue["size"].unit == u.arcsec
        assert list(catalogue["N"].mask) == list(catalogue["good"].mask) == [True, False, False, False]


def test_fits_null_of_whole_numbers(tmp_path):
    columns = [fits.Column(name, "D", unit="deg", array=values) for name, values in (("RA", RA), ("DEC", DEC))]
    columns += [fits.Column("N", "J", null=-999, array=[1, -999, 3, 4])]
    columns += [fits.Column("counts", "J", null=-999, unit="count", array=[1, -999, 3, 4])]
    path = tmp_path / "list.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    catalogue = read_catalogue(path)
    assert list(catalogue["N"].mask) == [False, True, False, False]
    np.testing.assert_array_equal(catalogue["counts"].to_value(u.ct), [1, np.nan, 3, 4])


def test_blank_cells_of_an_ascii_table_are_no_zeros(tmp_path):
    columns = [fits.Column(name, "F9.4", unit="deg", array=values) for name, values in (("RA", RA), ("DEC", DEC))]
    columns += [fits.Column("z", "F6.3", array=[0.5, 0.0, 0.25, 1]), fits.Column("N", "I4", array=[7, 0, 3, 1])]
    path = tmp_path / "list.fits"
    fits.TableHDU.from_columns(columns).writeto(path)
    path.write_bytes(path.read_bytes().replace(b" 0.250", b"      ").replace(b"   3", b"    "))
    catalogue = read_catalogue(path)
    np.testing.assert_array_equal(catalogue["z"], [0.5, 0, np.nan, 1])
    assert list(catalogue["N"].mask) == [False, False, True, False]


def positions_table(ra, dec, ra_unit, dec_unit="deg", names=("RAJ2000", "DEJ2000")):
    table = Table({names[0]: ra, names[1]: dec})
    for name, unit in zip(names, (ra_unit, dec_unit), strict=True):
        table[name].unit = None if unit is None else u.Unit(unit, parse_strict="silent")
    return table


TEXT_RA, TEXT_DEC = ["00 41 00.00", "10:00:27.912"], ["-00 30 00.0", "+02:12:17.64"]


@pytest.mark.parametrize(
    ("ra", "dec", "ra_unit", "dec_unit"),
    [
        (np.array([10.25, 150.1163]) / 15, [-0.5, 2.2049], "h", "deg"),
        (np.array([10.25, 150.1163]) / 15, [-0.5, 2.2049], "hourangle", "deg"),
        (np.array([10.25, 150.1163]) / 15, [-0.5, 2.2049], "hours", "degrees"),
        (np.radians([10.25, 150.1163]), np.radians([-0.5, 2.2049]), "rad", "rad"),
        (TEXT_RA, TEXT_DEC, "h:m:s", "d:m:s"),
        (TEXT_RA, TEXT_DEC, '"h:m:s"', '"d:m:s"'),
        (TEXT_RA, TEXT_DEC, "h", None),
        (["0h41m00.00s", "10h00m27.912s"], ["-0d30m00.0s", "+2d12m17.64s"], None, None),
        (["10d15m00s", "150d06m58.68s"], ["-0d30m", "+2d12m17.64s"], None, None),
        (["10.25", "150.1163"], ["-0.5", "2.2049"], "deg", "deg"),
    ],
)
def test_notations_of_a_position(tmp_path, ra, dec, ra_unit, dec_unit):
    path = tmp_path / "list.ecsv"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        positions_table(ra, dec, ra_unit, dec_unit).write(path)
    catalogue = read_catalogue(path)
    np.testing.assert_allclose(catalogue["sky_position"].ra.deg, [10.25, 150.1163], atol=1e-7)
    np.testing.assert_allclose(catalogue["sky_position"].dec.deg, [-0.5, 2.2049], atol=1e-7)


@pytest.mark.parametrize(
    ("ra", "dec", "ra_unit", "dec_unit", "words"),
    [
        ([10.25], [-0.5], None, "deg", r"'RAJ2000' has no unit\. Looked at: .*columns={'ra': \('RAJ2000', 'deg'\)"),
        ([10.25], [-0.5], "deg", None, "'DEJ2000' has no unit"),
        ([10.25], [-0.5], "deg", "h", "'DEJ2000' must have a unit like deg, got h"),
        ([10.25], [-0.5], "keV", "deg", "'RAJ2000' must have a unit like deg or h, got keV"),
        ([10.25], [-0.5], "gloob", "deg", "a unit that cannot be read: 'gloob'"),
        ([10.25], [-0.5], "h:m:s", "deg", "holds numbers, not text"),
        (TEXT_RA, TEXT_DEC, None, None, "without a unit that says if these are hours"),
        (["0h41m00s", "10d00m27s"], TEXT_DEC, None, None, "without a unit that says"),
        (TEXT_RA, TEXT_DEC, "h:m:s", "h:m:s", "'DEJ2000' must have a unit like deg, got hours"),
        (["x", "y"], TEXT_DEC, "h:m:s", None, "hold no position in any row"),
    ],
)
def test_positions_without_a_sure_unit_are_refused(tmp_path, ra, dec, ra_unit, dec_unit, words):
    path = tmp_path / "list.ecsv"
    positions_table(ra, dec, ra_unit, dec_unit).write(path)
    with pytest.raises(SchemaError, match=words):
        read_catalogue(path)


def test_rows_without_a_position_keep_their_place(tmp_path, caplog):
    ra = ["00 41 00.00", "", "10 61 00", "nonsense", "30 00 00", "10 00 27.912"]
    path = tmp_path / "list.ecsv"
    positions_table(ra, ["+01 00 00"] * 5 + ["-89 59 59.9"], "h:m:s", "d:m:s").write(path)
    with caplog.at_level(logging.WARNING):
        catalogue = read_catalogue(path)
    assert "4 of 6 rows" in caplog.text
    assert list(catalogue["flags"]) == [0, *[Flag.FAILED.value] * 4, 0]
    assert list(np.isnan(catalogue["sky_position"].ra.deg)) == [False, True, True, True, True, False]
    assert catalogue["message"][4] == "position out of range: 450, 1 deg"
    assert catalogue["sky_position"].dec.deg[5] == pytest.approx(-(90 - 0.1 / 3600))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 23), st.integers(0, 59), st.floats(0, 59.9), st.sampled_from(["::", "dm", "  "]), st.booleans())
def test_sexagesimal_text_as_astropy_reads_it(tmp_path_factory, degrees, minutes, seconds, marks, negative):
    digits = f"{degrees}{marks[0]}{minutes:02d}{marks[1]}{seconds:07.4f}"
    text = f"{'-' if negative else ''}{digits}"
    cells = [digits.replace("d", ":").replace("m", ":")], [text]
    sky = read_columns(tmp_path_factory, ["RAJ2000", "DEJ2000"], ["h:m:s", "d:m:s"], cells)["sky_position"]
    assert sky.dec.deg[0] == pytest.approx(Angle(text, unit="deg").deg, abs=1e-12)
    assert sky.ra.deg[0] == pytest.approx(15 * abs(sky.dec.deg[0]), abs=1e-11)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("10+37W", 1e37 * u.W),
        ("10+14Msun", 1e14 * u.Msun),
        ("kpc/arcsec", u.kpc / u.arcsec),
        ("cts/s", u.ct / u.s),
        ("count/s", u.ct / u.s),
        ("Counts", u.ct),
        ("degrees", u.deg),
        ("asec", u.arcsec),  # attoseconds to a reader of CDS units
        ("erg/cm**2/s", u.erg / u.cm**2 / u.s),
        ("mW/m2", u.mW / u.m**2),
        ("pixels", u.pix),
    ],
)
def test_units_that_archives_write(tmp_path_factory, text, unit):
    names, units = ["RAJ2000", "DEJ2000", "q"], ["deg", "deg", text]
    catalogue = read_columns(tmp_path_factory, names, units, (["1"], ["2"], ["1.0"]))
    assert catalogue["q"].to_value(unit) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("text", ["", "---", "[-]", "none"])
def test_units_that_are_none(tmp_path_factory, text):
    names, units = ["RAJ2000", "DEJ2000", "q"], ["deg", "deg", text]
    catalogue = read_columns(tmp_path_factory, names, units, (["1"], ["2"], ["1.0"]))
    assert getattr(catalogue["q"], "unit", None) is None and catalogue["q"][0] == 1.0


def test_4xmm_detections_and_sources(tmp_path):
    table = Table({"DETID": [1, 2, 3], "SRCID": [10, 10, 30], "IAUNAME": ["4XMM a", "4XMM a", "4XMM c"]})
    table["RA"], table["DEC"] = [10.0, 10.0001, 20], [1.0, 1, 2]
    table["SC_RA"], table["SC_DEC"] = [10.00005, 10.00005, 20], [1.0, 1, 2]
    table["EP_EXTENT"], table["EP_EXTENT_ML"], table["EP_8_DET_ML"] = [0.0, 6.5, 80], [0.0, 12, 900], [10.0, 44, 1e4]
    table["EP_8_CTS"], table["EP_8_RATE"] = [33.0, 400, 1e4], [0.001, 0.02, 1]
    for name, unit in {"RA": "degrees", "DEC": "degrees", "EP_EXTENT": "arcsec", "EP_8_RATE": "counts/s"}.items():
        table[name].unit = u.Unit(unit, parse_strict="silent")
    path = tmp_path / "4xmm.fits"
    hdu = fits.table_to_hdu(table["DETID", "SRCID", "IAUNAME", "SC_RA", "SC_DEC", "EP_8_CTS", "EP_EXTENT_ML"])
    for name in ("RA", "DEC", "EP_EXTENT", "EP_8_RATE", "EP_8_DET_ML"):
        unit = None if table[name].unit is None else table[name].unit.to_string()
        hdu.columns.add_col(fits.Column(name, "D", unit=unit, array=table[name]))
    fits.BinTableHDU.from_columns(hdu.columns).writeto(path)
    catalogue = read_catalogue(path)
    assert catalogue.meta["catalogue"]["kind"] == "4xmm"
    assert list(catalogue["source_id"]) == ["1", "2", "3"]  # the detection, which is in one row only
    assert catalogue["sky_position"].ra.deg[1] == pytest.approx(10.0001)
    assert catalogue["rate"].unit == u.ct / u.s and catalogue["counts"].unit == u.ct
    assert {"SRCID", "IAUNAME", "SC_RA", "SC_DEC"} <= set(catalogue.colnames)

    slim = tmp_path / "slim.csv"
    slim.write_text("srcid,iauname,sc_ra,sc_dec,sc_det_ml,sc_extent,sc_ext_ml\n201,4XMM J1,10.5,-1.5,33.5,7.1,12\n")
    with pytest.raises(SchemaError, match=r"'sc_extent' must have a unit like arcsec, got none.* kind='4xmm' gives"):
        read_catalogue(slim)
    catalogue = read_catalogue(slim, kind="4xmm")
    assert catalogue["source_id"][0] == "201" and catalogue["ext"][0] == 7.1 * u.arcsec
    assert catalogue["det_like"][0] == 33.5 and catalogue["ext_like"][0] == 12


def test_unit_missing_in_a_column_of_a_known_catalogue(tmp_path):
    table = xamin()
    table["EXT"].unit = None
    path = store(table, tmp_path, "ecsv")
    with pytest.raises(SchemaError, match=r"'EXT' must have a unit like arcsec, got none.*kind='xamin' gives"):
        read_catalogue(path)
    assert read_catalogue(path, kind="xamin")["ext"].unit == u.arcsec
    table["EXT"].unit = "pix"  # as emldetect writes it
    with pytest.raises(SchemaError, match="'EXT' must have a unit like arcsec, got pix"):
        read_catalogue(store(table, tmp_path, "vot"), kind="xamin")


def test_other_columns_with_names_of_the_package(tmp_path):
    table = positions_table([10.0], [2.0], "deg")
    table["x"], table["flags"], table["message"], table["Rate"] = [5.0], ["QX"], ["hello"], [3.0] * u.mJy
    table["counts"] = [12]
    path = tmp_path / "list.ecsv"
    table.write(path)
    with pytest.warns(AstroclassifyWarning, match="'x' must have a unit like pix, got none.*'Rate' must have"):
        catalogue = read_catalogue(path)
    assert catalogue["flags"][0] == 0 and catalogue["message"][0] == ""
    assert catalogue["catalogue_x"][0] == 5 and catalogue["catalogue_flags"][0] == "QX"
    assert catalogue["catalogue_Rate"].unit == u.mJy
    assert catalogue["counts"][0] == 12 * u.ct  # a number of counts is a number


def test_unreadable_unit_of_another_column_is_said(tmp_path):
    table = positions_table([10.0], [2.0], "deg")
    table["L"] = [5.0]
    table["L"].unit = u.Unit("Lsun_bol(z)", parse_strict="silent")
    path = tmp_path / "list.ecsv"
    table.write(path)
    with pytest.warns(AstroclassifyWarning, match=r"units that cannot be read were dropped: L \(Lsun_bol"):
        catalogue = read_catalogue(path)
    assert catalogue["L"][0] == 5 and getattr(catalogue["L"], "unit", None) is None


def test_repeated_and_missing_names(tmp_path):
    table = positions_table([1.0, 2, 3, 4, 5], [0.0] * 5, "deg")
    table["Name"] = MaskedColumn(["A", "B", "A", "A_2", "A"])
    path = tmp_path / "list.ecsv"
    table.write(path)
    catalogue = read_catalogue(path)
    assert list(catalogue["source_id"]) == ["A", "B", "A_3", "A_2", "A_4"]
    assert catalogue["message"][2] == "source_id 'A' is also that of row 1"
    assert not any(catalogue["flags"])
    table["Name"] = MaskedColumn(["A", "", "row_2", "x", ""], mask=[0, 1, 0, 0, 1])
    table.write(path, overwrite=True)
    catalogue = read_catalogue(path)
    assert len(set(catalogue["source_id"])) == 5 and catalogue["source_id"][4] == "row_5"
    assert catalogue["message"][1] == "the catalogue has no name here"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "a_2", "a_3", "row_1", "row_2", "b"]), min_size=1, max_size=9))
def test_names_are_always_different(tmp_path_factory, texts):
    cells = (texts, ["1.0"] * len(texts), ["2.0"] * len(texts))
    catalogue = read_columns(tmp_path_factory, ["Name", "RAJ2000", "DEJ2000"], ["", "deg", "deg"], cells)
    names = list(catalogue["source_id"])
    assert len(set(names)) == len(texts) and "" not in names
    assert all(name == text or message for name, text, message in zip(names, texts, catalogue["message"], strict=True))


@pytest.mark.parametrize("form", ["fits", "vot", "ecsv", "tsv", "asu", "csv"])
def test_zero_rows(tmp_path, form):
    path = store(xamin()[:0], tmp_path, form)
    with pytest.warns(EmptyResultWarning, match="no rows"):
        catalogue = read_catalogue(path, kind="xamin")
    assert len(catalogue) == 0 and catalogue["ext"].unit == u.arcsec
    assert isinstance(catalogue["sky_position"], SkyCoord)
    assert {"source_id", "sky_position", "ext", "flags", "message", "ObsId"} <= set(catalogue.colnames)


@pytest.mark.parametrize("ending", [".ecsv", ".fits", ".vot", ".csv"])
def test_what_the_package_writes_comes_back(tmp_path, ending):
    catalogue = read_catalogue(store(xamin(), tmp_path, "ecsv"))
    catalogue["flags"][1] = Flag.LOW_COUNTS.value
    catalogue["message"] = ["", "few", "", ""]
    path = tables.write(catalogue, tmp_path / f"mine{ending}")
    again = read_catalogue(path)
    assert again.colnames == catalogue.colnames
    for name in catalogue.colnames:
        if name == "sky_position":
            assert np.max(again[name].separation(catalogue[name])) < 1e-9 * u.deg
        else:
            np.testing.assert_array_equal(np.array(again[name]), np.array(catalogue[name]))
    whole = tables.empty(tables.CANDIDATES)
    with pytest.warns(EmptyResultWarning):
        tables.validate(read_catalogue(tables.write(whole, tmp_path / f"none{ending}")), tables.CANDIDATES)


def test_files_that_are_no_catalogue(tmp_path):
    def refuse(name, content, words, error=SchemaError, kind=None):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(error, match=words):
            read_catalogue(path, kind=kind)

    refuse("missing.fits", None, "no file", FileNotFoundError)
    refuse("empty.csv", "", "empty file")
    refuse("page.vot", "<!DOCTYPE html><html>503</html>", "web page")
    refuse("binary.csv", b"\0\1\2", "binary file")
    refuse("archive.zip", b"PK\x03\x04....", "binary file")
    refuse("cut.fits", b"SIMPLE  =                    T" + b" " * 51, "cannot be read")
    refuse("cut.vot", "<?xml version='1.0'?><VOTABLE><RESOURCE><TABLE>", "cannot be read as votable")
    refuse("none.vot", "<?xml version='1.0'?><VOTABLE version='1.4'></VOTABLE>", "no table")
    refuse("words.txt", "hello\nworld\n", "first line names its columns")
    refuse("ragged.csv", "ra,dec\n1,2\n3\n", "line 3 of .* has 1 cells instead of 2")
    refuse("twice.csv", "ra,ra,dec\n1,2,3\n", r"several columns called \['ra'\]")
    refuse("nowhere.csv", "name,flux\na,1\n", "no columns of a position")
    refuse("cut.fits.gz", gzip.compress(b"SIMPLE  =" * 3000)[:30], "cannot be read")
    refuse("kind.csv", "ra,dec\n1,2\n", "kind must be one of", ValueError, kind="2mass")
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2)))])
    hdus.writeto(tmp_path / "image.fits")
    refuse("image.fits", None, "holds no table")
    hdus = [fits.PrimaryHDU(), *[fits.BinTableHDU(Table({"ra": [1.0]}).as_array(), name=name) for name in "ab"]]
    fits.HDUList(hdus).writeto(tmp_path / "two.fits")
    refuse("two.fits", None, r"2 tables \(A, B\)")


def test_rare_texts(tmp_path):
    """A byte-order mark, the line ends of Windows, Latin letters, and commas within quotes."""
    path = tmp_path / "list.csv"
    text = '# saved\r\nname,sc_ra,sc_dec,sc_det_ml,note\r\n"M 87, core",187.7,12.39,5,Tr\xfcmpler\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode("latin-1"))
    catalogue = read_catalogue(path, kind="4xmm")
    assert catalogue["source_id"][0] == "M 87, core" and catalogue["note"][0] == "Tr\xfcmpler"


def test_the_table_of_names_is_sound(tmp_path_factory):
    text = (files("astroclassify") / "data" / "catalogue_columns.ecsv").read_text(encoding="utf-8")
    names, kinds = dict(tables.SAMPLE.columns) | dict(tables.CANDIDATES.columns), set()
    table = Table.read(text, format="ascii.ecsv").filled("")
    rows = [dict(zip(row.colnames, map(str, row), strict=True)) for row in table]
    for row in rows:
        columns, name, unit = row["columns"].split(), row["name"], row["unit"]
        assert row["frame"] in ("", "ICRS", "FK4", "FK5", "GALACTIC", "ECLIPTIC")
        assert row["origin"] in ("file", "documentation", "code", "memory")
        kinds.add(row["kind"])
        if name in ("signature", "identifier"):
            continue
        assert name in names
        assert len(columns) in ((1, 2, 7) if name == "sky_position" else (1,))
        if unit and name != "sky_position":
            assert u.Unit(unit).is_equivalent(names[name])
    units = {row["columns"]: row["unit"] for row in rows if row["name"] not in ("sky_position", "signature")}
    for row in rows:
        if row["name"] == "signature":
            columns = row["columns"].split()
            given = ["deg" if re.search("_ra$|_dec$|_RA$|_DEC$", name) else units.get(name, "") for name in columns]
            columns, given = [*columns, "RAJ2000", "DEJ2000"], [*given, "deg", "deg"]
            cells = [["1"]] * len(columns)
            assert read_columns(tmp_path_factory, columns, given, cells).meta["catalogue"]["kind"] == row["kind"]
            # One column of it alone is what a list that names the counterparts there may have.
            if len(row["columns"].split()) > 1:
                some = [columns[0], "RAJ2000", "DEJ2000"]
                read = read_columns(tmp_path_factory, some, [given[0], "deg", "deg"], [["1"]] * 3)
                assert read.meta["catalogue"]["kind"] == "other"
    with pytest.raises(ValueError, match="kind must be one of") as caught:
        read_catalogue("none", kind="2mass")
    assert kinds - {"any"} | {"other"} == set(re.findall(r"'(\w+)'", str(caught.value))) - {"2mass"}


@pytest.mark.real_data
def test_mcxc(shared_data):
    """Its RAdeg has three decimals, the sexagesimal columns 0.1 s and 1 arcsec: they agree as far as that allows."""
    catalogue = read_catalogue(shared_data / "catalogues" / "mcxc.fits")
    assert len(catalogue) == 1743 and catalogue.meta["catalogue"]["kind"] == "mcxc"
    assert not np.any(catalogue["flags"]) and not any(catalogue["message"])
    sky = catalogue["sky_position"]
    rounded = SkyCoord(catalogue["RAdeg"], catalogue["DEdeg"])
    # Halves of the last digits: 1.8 arcsec of a degree, 0.75 arcsec of right ascension, 0.5 arcsec of declination.
    assert np.max(sky.separation(rounded)) < np.hypot(1.8 + 0.75, 1.8 + 0.5) * u.arcsec
    galactic = SkyCoord(catalogue["GLON"], catalogue["GLAT"], frame="galactic")
    assert np.max(sky.separation(galactic)) < np.hypot(1.8 + 0.75, 1.8 + 0.75) * u.arcsec
    south = np.char.find(catalogue["source_id"].astype(str), "-00") > 0
    assert np.sum(south) > 5 and np.all(sky.dec[south] < 0)  # the sign of -00 degrees
    coma = catalogue[catalogue["source_id"] == "J1259.7+2756"]
    assert coma["sky_position"][0].separation(SkyCoord("12h59m48.7s +27d58m50s")) < 3 * u.arcmin  # A1656 of Abell
    # M500 = 4/3 pi R500^3 500 rho_c(z): both columns and their mended units together
    from astropy.cosmology import FlatLambdaCDM

    density = FlatLambdaCDM(70, 0.3).critical_density(catalogue["z"])
    mass = 4 / 3 * np.pi * catalogue["R500"] ** 3 * 500 * density
    assert np.all(np.abs(mass / catalogue["M500"] - 1).to_value(u.one) < 0.03)
    assert np.sum(np.isnan(catalogue["L500r1"])) == 1185


@pytest.mark.real_data
def test_xcs(shared_data):
    catalogue = read_catalogue(shared_data / "catalogues" / "XCS_DR1.tsv")
    assert len(catalogue) == 463 and len(set(catalogue["source_id"])) == 463
    assert catalogue["counts"].unit == u.ct and catalogue["TX"].unit == u.keV
    assert np.sum(np.isnan(catalogue["TX"])) == 62
    for name, sky in zip(catalogue["source_id"], catalogue["sky_position"], strict=True):
        assert abs(60 * float(name[1:3]) + float(name[3:7]) - 4 * sky.ra.deg) < 0.11  # JHHMM.m, cut
        assert abs(sky.dec.deg) - abs(float(name[8:10]) + float(name[10:12]) / 60) < 1 / 60 + 1e-6


@pytest.mark.parametrize(
    "names", [["0124710801_12", "0124710801_2"], ["1E0657", "2E0657"], ["1.10", "1.1"], ["1_1", "11"], ["007", "7"]]
)
def test_names_that_look_like_numbers_stay_names(tmp_path, names):
    for column in ("Name", "ID", "source_id"):
        path = tmp_path / f"{column}.csv"
        path.write_text(f"{column},RAJ2000,DEJ2000\n" + "\n".join(f"{name},10.0,{k}.5" for k, name in enumerate(names)))
        assert read_catalogue(path, kind="xcs")["source_id"].tolist() == names


def test_python_s_own_spelling_of_numbers_is_text(tmp_path):
    (tmp_path / "a.csv").write_text("Name,RAJ2000,DEJ2000,obs\na,10.0,0.5,1_2\nb,10.0,1.5,3_4\n")
    assert read_catalogue(tmp_path / "a.csv", kind="xcs")["obs"].tolist() == ["1_2", "3_4"]


@pytest.mark.parametrize("mark", [",", "\t"])
def test_rows_that_look_like_comments_are_reported(tmp_path, mark, caplog):
    rows = ["# a list", "", "Name,RAJ2000,DEJ2000", "# of sources", "a,10.0,0.5", "#2,10.0,1.5"]
    (tmp_path / "a.csv").write_text("\n".join(rows).replace(",", mark))
    with caplog.at_level(logging.WARNING):
        assert len(read_catalogue(tmp_path / "a.csv", kind="xcs")) == 1
    assert "a.csv: 1 lines that begin with # have as many cells as a row" in caplog.text and "'#2" in caplog.text


@pytest.mark.parametrize("ending", ["fits", "vot", "ecsv"])
def test_what_the_package_wrote_keeps_its_meta(tmp_path, ending):
    table = QTable({"source_id": ["a"], "sky_position": SkyCoord([10.0] * u.deg, [0.5] * u.deg), "ext_like": [30.0]})
    table.meta["likelihood"] = "delta-c"
    path = tables.write(table, tmp_path / f"a.{ending}")
    assert read_catalogue(path).meta["likelihood"] == "delta-c"
