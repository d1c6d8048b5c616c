"""The largest public lists by their published column names, each with the trap that it holds."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table

from astroclassify import tables
from astroclassify.exceptions import ArgumentError, AstroclassifyWarning, SchemaError
from astroclassify.survey import read_catalogue

RA, DEC = [10.25, 201.5], [-0.5, 33.125]


def release(folder, names, formats, rows, units=None, extname=None):
    """A FITS file of a release."""
    units = units or {}
    columns = [
        fits.Column(name, form, unit=units.get(name), array=[row[number] for row in rows])
        for number, (name, form) in enumerate(zip(names, formats, strict=True))
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name=extname)
    path = folder / "release.fits"
    hdu.writeto(path)
    return path


def vizier(folder, name, names, units, rows):
    """A TSV file of VizieR; ``name`` None: without what it calls itself, as after a cut by hand."""
    head = ["#", *([f"#Name: {name.rpartition('/')[0]}", f"#Name: {name}"] if name else [])]
    lines = [*head, "", *("\t".join(cells) for cells in (names, units, ["---"] * len(names), *rows))]
    path = folder / "asu.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def kind_of(catalogue):
    return catalogue.meta["catalogue"]["kind"]


def at(catalogue, ra=RA, dec=DEC):
    """Whether the positions are these."""
    return np.all(catalogue["sky_position"].separation(SkyCoord(ra * u.deg, dec * u.deg)) < 0.1 * u.arcsec)


PSZ2 = (
    "INDEX NAME GLON GLAT RA DEC POS_ERR SNR PIPELINE PIPE_DET PCCS2 PSZ IR_FLAG Q_NEURAL Y5R500 Y5R500_ERR VALIDATION"
)
PSZ2 = [*PSZ2.split(), *"REDSHIFT_ID REDSHIFT MSZ MSZ_ERR_UP MSZ_ERR_LOW MCXC REDMAPPER ACT SPT WISE_FLAG".split()]
PSZ2 += ["AMI_EVIDENCE", "COSMO", "COMMENT"]


def test_psz2_of_planck(tmp_path):
    """It has columns MCXC, REDMAPPER, ACT and SPT for the counterparts; its REDSHIFT is -1 where there is none."""
    galactic = SkyCoord(RA * u.deg, DEC * u.deg).galactic
    texts = {"NAME": ["PSZ2 G000.04+45.13", "PSZ2 G1"], "MCXC": ["MCXC J1516.5-0056", ""], "REDSHIFT_ID": ["a", ""]}
    texts |= {name: ["", ""] for name in ("REDMAPPER", "ACT", "SPT")}
    values = {"RA": RA, "DEC": DEC, "GLON": galactic.l.deg, "GLAT": galactic.b.deg, "REDSHIFT": [0.12, -1.0]}
    rows = [[texts[n][k] if n in texts else values.get(n, [1, 2])[k] for n in PSZ2] for k in (0, 1)]
    formats = ["20A" if name in texts else "D" for name in PSZ2]
    units = {"RA": "degrees", "DEC": "degrees", "MSZ": "10^14 Msol"}
    with pytest.warns(UserWarning, match="units that cannot be read"):
        catalogue = read_catalogue(release(tmp_path, PSZ2, formats, rows, units, "PSZ2_UNION"))
    assert kind_of(catalogue) == "psz2" and at(catalogue)
    assert list(catalogue["source_id"]) == texts["NAME"] and list(catalogue["MCXC"]) == texts["MCXC"]
    np.testing.assert_array_equal(catalogue["redshift"], [0.12, np.nan])
    assert catalogue.meta["catalogue"]["no_redshift"] == 1 and "REDSHIFT" not in catalogue.colnames


@pytest.mark.parametrize("name", ["J/A+A/594/A27/psz2", None])
def test_psz2_of_vizier(tmp_path, name):
    """There the redshifts are blank; with or without what the file calls itself."""
    names = ["Name", "RAJ2000", "DEJ2000", "z", "MSZ", "SNR", "MCXC"]
    rows = [["PSZ2 G1", "10.25", "-0.5", "0.12", "6.1", "12", "J1516.5-0056"]]
    rows += [["PSZ2 G2", "201.5", "33.125", "", "", "5", ""]]
    catalogue = read_catalogue(vizier(tmp_path, name, names, ["", "deg", "deg", "", "10+14Msun", "", ""], rows))
    assert kind_of(catalogue) == "psz2" and at(catalogue) and list(catalogue["source_id"]) == ["PSZ2 G1", "PSZ2 G2"]
    np.testing.assert_array_equal(catalogue["redshift"], [0.12, np.nan])


def test_a_counterpart_in_another_list_never_decides(tmp_path):
    """A list of one's own with a column for each of the others."""
    table = Table({"ID": ["a", "b"], "RAJ2000": RA * u.deg, "DEJ2000": DEC * u.deg})
    for name in ("MCXC", "PSZ2", "XLSSC", "Xclass", "4XMM", "XCS", "SPT_ID", "SPT-CL", "ACT-CL", "SPT"):
        table[name] = ["J0000.1+0816", ""]
    catalogue = read_catalogue(table)
    assert kind_of(catalogue) == "other" and list(catalogue["source_id"]) == ["a", "b"]
    assert "MCXC" in catalogue.colnames and "PSZ2" in catalogue.colnames and at(catalogue)
    slim = table["MCXC", "RAJ2000", "DEJ2000"]
    catalogue = read_catalogue(slim)
    assert kind_of(catalogue) == "other" and list(catalogue["source_id"]) == ["1", "2"]
    assert list(read_catalogue(slim, kind="mcxc")["source_id"]) == ["J0000.1+0816", "row_2"]


def test_mcxc_of_vizier(tmp_path):
    """Right ascensions in hours, as text."""
    names = ["MCXC", "OName", "AName", "RAJ2000", "DEJ2000", "z", "L500", "M500", "R500"]
    units = ["", "", "", '"h:m:s"', '"d:m:s"', "", "10+37W", "10+14Msun", "Mpc"]
    rows = [["J0041.0-0030", "RXC J0041.0-0030", "", "00 41 00.0", "-00 30 00", "0.04", "0.2", "0.7", "0.6"]]
    rows += [["J1326.0+3307", "RXC J1326.0+3307", "", "13 26 00.0", "+33 07 30", "", "0.2", "0.7", "0.6"]]
    catalogue = read_catalogue(vizier(tmp_path, "J/A+A/534/A109/mcxc", names, units, rows))
    assert kind_of(catalogue) == "mcxc" and at(catalogue)
    np.testing.assert_array_equal(catalogue["redshift"], [0.04, np.nan])
    # The same without units (saved as CSV): the text is known to be in hours.
    path = tmp_path / "mcxc.csv"
    path.write_text("\n".join(",".join(cells) for cells in (names, *rows)))
    assert at(read_catalogue(path))


def test_what_a_votable_calls_itself(tmp_path):
    table = Table({"MCXC": ["J0041.0-0030", "J1326.0+3307"], "RAJ2000": RA * u.deg, "DEJ2000": DEC * u.deg})
    table.meta["ID"] = "J_A_A_534_A109_mcxc"
    table.write(tmp_path / "a.vot", format="votable")
    catalogue = read_catalogue(tmp_path / "a.vot")
    assert kind_of(catalogue) == "mcxc" and list(catalogue["source_id"]) == list(table["MCXC"]) and at(catalogue)
    assert catalogue.meta["catalogue"]["by"] == "J/A+A/534/A109" and "identifiers" not in catalogue.meta


def test_mcxc_2(tmp_path):
    names = ["MCXC", "OName", "RAJ2000", "DEJ2000", "z", "L500", "M500", "R500"]
    rows = [["MCXC J0041.0-0030", "RXC J0041.0-0030", "10.25", "-0.5", "0.04", "0.2", "0.7", "0.6"]]
    path = vizier(tmp_path, "J/A+A/688/A187/mcxcii", names, ["", "", "deg", "deg", "", "", "", "Mpc"], rows)
    catalogue = read_catalogue(path)
    assert kind_of(catalogue) == "mcxc" and at(catalogue, RA[:1], DEC[:1]) and catalogue["redshift"][0] == 0.04
    names = ["RAJ2000", "DEJ2000", "GLON", "GLAT", "Z", "Z_TYPE", "M500", "ERRPM500", "ERRMM500"]
    path = release(tmp_path, names, [*"DDDDDADDD"], [[10.25, -0.5, 1, 2, 0.04, "S", 1, 2, 3]])
    catalogue = read_catalogue(path)  # degrees, where MCXC has text in hours
    assert kind_of(catalogue) == "mcxc" and at(catalogue, RA[:1], DEC[:1])


def test_xcs_of_vizier(tmp_path):
    path = vizier(
        tmp_path, "J/MNRAS/423/1024/xcs-dr1", ["Name", "RAJ2000", "DEJ2000", "z"], ["", "deg", "deg", ""],
        [["J0041.0-0030", "10.25", "-0.5", "0.1"], ["J1326.0+3307", "201.5", "33.125", ""]],
    )  # fmt: skip
    catalogue = read_catalogue(path)
    assert kind_of(catalogue) == "xcs" and at(catalogue)
    assert catalogue.meta["catalogue"]["by"] == "J/MNRAS/423/1024"


def test_x_class_by_its_name_at_the_cds(tmp_path):
    names = ["Xclass", "RAdeg", "DEdeg", "z"]
    rows = [["00020", "10.25", "-0.5", "0.3"], ["02328", "201.5", "33.125", ""]]
    catalogue = read_catalogue(vizier(tmp_path, "J/A+A/652/A12/table", names, ["", "deg", "deg", ""], rows))
    assert kind_of(catalogue) == "xclass" and list(catalogue["source_id"]) == ["00020", "02328"] and at(catalogue)
    # A12 is not A120
    assert (
        kind_of(read_catalogue(vizier(tmp_path, "J/A+A/652/A120/eb-cat", names, ["", "deg", "deg", ""], rows)))
        == "other"
    )


def test_4xmm_slim_without_units(tmp_path):
    path = tmp_path / "slim.csv"
    path.write_text(
        "SRCID,IAUNAME,SC_RA,SC_DEC,SC_POSERR,SC_DET_ML,SC_EXTENT,SC_EXT_ERR,SC_EXT_ML\n"
        "201,4XMM J004100.0-003000,10.25,-0.5,1.0,33.5,7.1,0.5,12\n202,4XMM J1,201.5,33.125,1.0,9,0,,\n"
    )
    with pytest.raises(SchemaError, match=r"'SC_EXTENT' must have a unit like arcsec, got none\. .*kind='4xmm' gives"):
        read_catalogue(path)
    catalogue = read_catalogue(path, kind="4xmm")
    assert at(catalogue) and catalogue["ext"][0] == 7.1 * u.arcsec and np.isnan(catalogue["ext_like"][1])


def test_erass1_main(tmp_path):
    names = (
        "IAUNAME DETUID SKYTILE ID_SRC UID ID_CLUSTER RA DEC RADEC_ERR EXT EXT_ERR EXT_LIKE ML_CTS_1 ML_RATE_1".split()
    )
    names += ["DET_LIKE_0"]
    values = {"IAUNAME": ["1eRASS J1", "1eRASS J2"], "DETUID": ["em01_1", "em01_2"], "RA": RA, "DEC": DEC}
    values |= {
        "EXT": [0.0, 35.5],
        "EXT_LIKE": [0, 60],
        "ML_CTS_1": [9, 200],
        "ML_RATE_1": [0.1, 2],
        "DET_LIKE_0": [7, 99],
    }
    rows = [[values.get(name, [1, 2])[k] for name in names] for k in (0, 1)]
    units = {"RA": "deg", "DEC": "deg", "EXT": "arcsec", "EXT_ERR": "arcsec", "ML_CTS_1": "cts", "ML_RATE_1": "cts/s"}
    formats = ["20A" if name in ("IAUNAME", "DETUID") else "D" for name in names]
    catalogue = read_catalogue(release(tmp_path, names, formats, rows, units))
    assert kind_of(catalogue) == "erass1" and at(catalogue) and list(catalogue["source_id"]) == values["IAUNAME"]
    assert catalogue["ext"][1] == 35.5 * u.arcsec and catalogue["counts"][1] == 200 * u.ct
    assert list(catalogue["det_like"]) == [7, 99] and "redshift" not in catalogue.colnames


def test_erass1_main_of_vizier(tmp_path):
    names, units = (
        ["IAUName", "RA_ICRS", "DE_ICRS", "posErr", "EXT", "MLcts1"],
        ["", "deg", "deg", "arcsec", "arcsec", "ct"],
    )
    rows = [["1eRASS J1", "10.25", "-0.5", "3", "0", "9"], ["1eRASS J2", "201.5", "33.125", "3", "35.5", "200"]]
    for name in ("J/A+A/682/A34/erass1-m", None):
        catalogue = read_catalogue(vizier(tmp_path, name, names, units, rows))
        assert kind_of(catalogue) == "erass1" and at(catalogue) and catalogue["ext"][1] == 35.5 * u.arcsec


def test_erass1_clusters(tmp_path):
    """They share DETUID, EXT_LIKE and DET_LIKE_0 with the main list, and RA_XFIT is another position."""
    names = (
        "DETUID NAME RA DEC RA_XFIT DEC_XFIT EXT_LIKE DET_LIKE_0 BEST_Z BEST_Z_TYPE CTS500 M500 R500 MATCH_NAME".split()
    )
    values = {
        "DETUID": ["em01_1", "em01_2"],
        "NAME": ["1eRASS J1", "1eRASS J2"],
        "RA": RA,
        "DEC": DEC,
        "BEST_Z": [0.2, 0.5],
    }
    values |= {"BEST_Z_TYPE": ["spec_z", "photo_z"], "MATCH_NAME": ["MCXC J0041.0-0030", ""]}
    rows = [[values.get(name, [1, 2])[k] for name in names] for k in (0, 1)]
    formats = ["20A" if isinstance(values.get(name, [0])[0], str) else "D" for name in names]
    units = {"RA": "deg", "DEC": "deg", "M500": "10**13 solMass", "R500": "kpc"}
    catalogue = read_catalogue(release(tmp_path, names, formats, rows, units))
    assert kind_of(catalogue) == "erass1cl" and at(catalogue) and list(catalogue["source_id"]) == values["NAME"]
    assert list(catalogue["redshift"]) == [0.2, 0.5] and catalogue["M500"].to_value(u.Msun)[0] == pytest.approx(1e13)
    names, units = ["Name", "RA_ICRS", "DE_ICRS", "zBest", "CTS500"], ["", "deg", "deg", "", "ct"]
    rows = [["1eRASS J1", "10.25", "-0.5", "0.2", "30"], ["1eRASS J2", "201.5", "33.125", "", "40"]]
    catalogue = read_catalogue(vizier(tmp_path, "J/A+A/685/A106/emain", names, units, rows))
    assert kind_of(catalogue) == "erass1cl" and at(catalogue)
    np.testing.assert_array_equal(catalogue["redshift"], [0.2, np.nan])


def test_xxl(tmp_path):
    """Names are numbers."""
    names = ["XLSSC", "RAJ2000", "DEJ2000", "z", "Ngal", "Class"]
    rows = [["001", "10.25", "-0.5", "0.3", "5", "1"], ["122", "201.5", "33.125", "1.98", "3", "2"]]
    for name in ("J/A+A/620/A5/xxl365gc", None):
        catalogue = read_catalogue(vizier(tmp_path, name, names, ["", "deg", "deg", "", "", ""], rows))
        assert kind_of(catalogue) == "xxl" and at(catalogue) and list(catalogue["source_id"]) == ["001", "122"]
        assert list(catalogue["redshift"]) == [0.3, 1.98]


def test_redshifts_that_are_no_numbers_stay_as_they_are(tmp_path):
    names = ["XLSSC", "RAJ2000", "DEJ2000", "z", "Ngal"]
    rows = [["001", "10.25", "-0.5", "0.3:", "5"], ["122", "201.5", "33.125", "1.98", "3"]]
    with pytest.warns(AstroclassifyWarning, match="left as they are.*'z' must hold numbers"):
        catalogue = read_catalogue(vizier(tmp_path, None, names, ["", "deg", "deg", "", ""], rows))
    assert kind_of(catalogue) == "xxl" and "redshift" not in catalogue.colnames and catalogue["z"][0] == "0.3:"


@pytest.mark.parametrize("upper", [True, False])
def test_spt(tmp_path, upper):
    """The releases have no units, and 0 where no redshift is known."""
    names = ["SPT_ID", "RA", "DEC", "XI", "THETA_CORE", "REDSHIFT", "REDSHIFT_UNC", "M500"]
    names = names if upper else ["SPT_ID", "RA", "Dec", "xi", "theta_core", "redshift", "redshift_unc", "M500"]
    rows = [["SPT-CLJ0041-0030", 10.25, -0.5, 5.0, 0.25, 0.0, 0.0, 0.0]]
    rows += [["SPT-CLJ1326+3307", 201.5, 33.125, 9.0, 0.5, 0.7, 0.02, 5.0]]
    catalogue = read_catalogue(release(tmp_path, names, ["20A", *"DDDDDDD"], rows))
    assert kind_of(catalogue) == "spt" and at(catalogue)
    np.testing.assert_array_equal(catalogue["redshift"], [np.nan, 0.7])
    assert not np.any(catalogue["flags"]) and catalogue.meta["catalogue"]["no_redshift"] == 1


@pytest.mark.parametrize(("name", "xi"), [("J/ApJS/216/27/table4", "xi"), ("J/ApJS/247/25/cand", "Xi"), (None, "Xi")])
def test_spt_of_vizier(tmp_path, name, xi):
    names = ["SPT-CL", "RAJ2000", "DEJ2000", xi, "M500c", "z"]
    rows = [["J0041-0030", "10.25", "-0.5", "5.0", "", ""], ["J1326+3307", "201.5", "33.125", "9.0", "5.0", "0.7"]]
    catalogue = read_catalogue(vizier(tmp_path, name, names, ["", "deg", "deg", "", "10+14Msun", ""], rows))
    assert kind_of(catalogue) == "spt" and at(catalogue) and catalogue["source_id"][1] == "J1326+3307"
    np.testing.assert_array_equal(catalogue["redshift"], [np.nan, 0.7])


def test_act(tmp_path):
    """Its RADeg is beside opt_RADeg, and RM and CAMIRA are cross-matches."""
    names = "name RADeg decDeg SNR y_c fixed_SNR fixed_y_c redshift redshiftType M500c RM opt_RADeg opt_decDeg".split()
    rows = [["ACT-CL J0041.0-0030", 10.25, -0.5, 5, 1, 5, 1, 0.5, "phot", 2, 1, 99.0, 9.0]]
    rows += [["ACT-CL J1326.0+3307", 201.5, 33.125, 5, 1, 5, 1, 0.7, "spec", 2, 1, 99.0, 9.0]]
    formats = ["20A" if isinstance(value, str) else "D" for value in rows[0]]
    catalogue = read_catalogue(release(tmp_path, names, formats, rows))
    assert kind_of(catalogue) == "act" and at(catalogue) and list(catalogue["redshift"]) == [0.5, 0.7]
    assert catalogue["source_id"][0] == "ACT-CL J0041.0-0030" and "opt_RADeg" in catalogue.colnames
    names = ["ACT-CL", "RAJ2000", "DEJ2000", "SNR", "z", "M500cC", "M200m"]
    rows = [
        ["J0041.0-0030", "10.25", "-0.5", "5", "0.5", "2", "3"],
        ["J1326.0+3307", "201.5", "33.125", "5", "", "", ""],
    ]
    catalogue = read_catalogue(vizier(tmp_path, "J/ApJS/253/3/clusters", names, ["", "deg", "deg", *[""] * 4], rows))
    assert kind_of(catalogue) == "act" and at(catalogue)


def test_hiflugcs(tmp_path):
    path = tmp_path / "hiflugcs.ecsv"
    table = Table({"CName": ["A0085", "A0119"], "Sample": ["Included", "Extended"], "RAdeg": RA * u.deg})
    table["DEdeg"], table["z"] = DEC * u.deg, MaskedColumn([0.0556, 0.0], mask=[False, True])
    table.write(path)
    catalogue = read_catalogue(path)
    assert kind_of(catalogue) == "hiflugcs" and at(catalogue) and list(catalogue["source_id"]) == ["A0085", "A0119"]
    np.testing.assert_array_equal(catalogue["redshift"], [0.0556, np.nan])


ACCEPT = """J/ApJS/182/12  ICM entropy profiles (ACCEPT)  (Cavagnolo+, 2009)
================================================================================
Byte-by-byte Description of file: table1.dat
--------------------------------------------------------------------------------
   Bytes Format Units   Label     Explanations
--------------------------------------------------------------------------------
   1- 18  A18   ---     Name      Cluster name
  20- 24  I5    ---     ObsID     Chandra observation identifier
  26- 27  I2    h       RAh       Hour of Right Ascension (J2000)
  29- 30  I2    min     RAm       Minute of Right Ascension (J2000)
  32- 37  F6.3  s       RAs       Second of Right Ascension (J2000)
      39  A1    ---     DE-       Sign of the Declination (J2000)
  40- 41  I2    deg     DEd       Degree of Declination (J2000)
  43- 44  I2    arcmin  DEm       Arcminute of Declination (J2000)
  46- 50  F5.2  arcsec  DEs       Arcsecond of Declination (J2000)
  61- 66  F6.4  ---     z         Redshift
  68- 72  F5.2  keV     <kT>      Average cluster temperature
--------------------------------------------------------------------------------
"""


def test_accept(tmp_path):
    """The sign of -00 degrees stands alone, and a cluster has a row for each observation."""
    (tmp_path / "ReadMe").write_text(ACCEPT)
    line = "{:18s} {:5d} {:2d} {:2d} {:6.3f} {}{:2d} {:2d} {:5.2f}" + " " * 10 + "{:6.4f} {:5.2f}\n"
    text = line.format("1E0657 56", 3184, 0, 41, 0.0, "-", 0, 30, 0.0, 0.296, 11.64)
    text += line.format("1E0657 56", 5356, 13, 26, 0.0, "+", 33, 7, 30.0, 0.296, 11.64)
    (tmp_path / "table1.dat").write_text(text)
    catalogue = read_catalogue(tmp_path / "table1.dat")
    assert kind_of(catalogue) == "accept" and at(catalogue)
    assert list(catalogue["source_id"]) == ["1E0657 56", "1E0657 56_2"] and list(catalogue["redshift"]) == [0.296] * 2


def test_two_that_fit_are_an_error():
    table = Table({"RA": RA * u.deg, "DEC": DEC * u.deg, "XLSSC": ["1", "2"], "Ngal": [3, 4], "z": [0.1, 0.2]})
    table["MSZ"], table["SNR"] = [1.0, 2], [5.0, 6]
    with pytest.raises(
        SchemaError, match=r"more than one catalogue \('psz2' by its columns MSZ SNR; 'xxl' by .*say kind="
    ):
        read_catalogue(table)
    assert list(read_catalogue(table, kind="xxl")["source_id"]) == ["1", "2"]
    assert list(read_catalogue(table, columns={"source_id": "XLSSC", "redshift": "z"})["redshift"]) == [0.1, 0.2]
    with pytest.warns(
        AstroclassifyWarning, match="kind='mcxc' is said of what looks like 'psz2' by its columns MSZ SNR; 'x"
    ):
        read_catalogue(table, kind="mcxc")
    table.meta["name"] = "J/A+A/620/A5/xxl365gc"  # of astroquery: what it calls itself comes first
    assert kind_of(read_catalogue(table)) == "xxl"


def mine():
    return Table(
        {"cl": ["a", "b"], "alpha": RA, "delta": DEC, "zspec": [0.3, 0.0], "rc": [12.0, 0.5], "GLON": [0.0, 1]}
    )


def test_columns_of_any_table():
    columns = {"ra": ("alpha", "deg"), "dec": ("delta", u.deg), "source_id": "cl", "redshift": "zspec"}
    columns |= {"ext": ("rc", "arcsec")}
    catalogue = read_catalogue(mine(), kind="other", columns=columns)
    assert at(catalogue) and list(catalogue["source_id"]) == ["a", "b"] and catalogue["ext"][0] == 12 * u.arcsec
    np.testing.assert_array_equal(catalogue["redshift"], [0.3, np.nan])
    assert list(catalogue["zspec"]) == [0.3, 0.0]  # as it was
    assert catalogue.meta["catalogue"]["columns"]["sky_position"] == "alpha delta"
    assert read_catalogue(mine(), columns=columns).colnames == catalogue.colnames  # kind is other without being said
    hours = mine()
    hours["alpha"] = np.array(RA) / 15
    assert at(read_catalogue(hours, columns=columns | {"ra": ("alpha", "h")}))
    text = mine()
    text["alpha"], text["delta"] = ["00 41 00", "13 26 00"], ["-00 30 00", "+33 07 30"]
    assert at(read_catalogue(text, columns=columns | {"ra": ("alpha", "h:m:s"), "dec": ("delta", "d:m:s")}))
    sky = QTable({"where": SkyCoord(RA * u.deg, DEC * u.deg, frame="fk5"), "M": [1, 2] * u.Msun, "R": [1, 2] * u.Mpc})
    catalogue = read_catalogue(sky, columns={"sky_position": "where", "m_500": "M", "r_500": "R"})
    assert at(catalogue) and catalogue["r_500"][0] == 1000 * u.kpc and catalogue["m_500"].unit == u.Msun
    galactic = SkyCoord(RA * u.deg, DEC * u.deg).galactic
    table = Table({"GLON": galactic.l, "GLAT": galactic.b, "ra": [1.0, 2], "dec": [3.0, 4]})
    assert at(read_catalogue(table, columns={"ra": "GLON", "dec": "GLAT"}))  # the system that the names say
    # with a kind, they come before its own
    assert list(read_catalogue(Table({"MCXC": ["m"], "b": ["n"], "RAJ2000": ["00 41 00"], "DEJ2000": ["-00 30 00"]}),
                               kind="mcxc", columns={"source_id": "b"})["source_id"]) == ["n"]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        (["alpha"], ArgumentError, "columns must be a dict"),
        ((), ArgumentError, "columns must be a dict"),
        (
            {"alpha": "ra"},
            ArgumentError,
            r"columns: \['alpha'\] are no columns of the package; allowed: ra, dec, source_id",
        ),
        ({"ra": "alpha"}, ArgumentError, "must have 'ra' and 'dec'"),
        ({"ra": "alpha", "dec": "delta", "sky_position": "cl"}, ArgumentError, "must have 'ra' and 'dec'"),
        ({"sky_position": "cl"}, ArgumentError, "'sky_position' must be a column of coordinates"),
        ({"redshift": "z"}, SchemaError, "'redshift' is said to be 'z', but the columns are .*'zspec'"),
        ({"redshift": ["zspec"]}, ArgumentError, "must be a name or"),
        ({"ext": ("rc", "arcsecs!")}, ArgumentError, "the unit of 'ext' cannot be read"),
        ({"ra": "alpha", "dec": "delta"}, SchemaError, r"'alpha' has no unit.*\('alpha', 'deg'\)"),
        (
            {"ra": ("alpha", "deg"), "dec": ("delta", "deg"), "ext": "rc"},
            SchemaError,
            "'rc' must have a unit like arcsec",
        ),
        ({"ra": ("alpha", "deg"), "dec": ("delta", "deg"), "redshift": "cl"}, SchemaError, "'cl' must hold numbers"),
        (
            {"ra": ("alpha", "deg"), "dec": ("delta", "arcmin"), "ext": ("rc", "s")},
            SchemaError,
            "'rc' must have a unit",
        ),
    ],
)
def test_wrong_columns(columns, error, words):
    with pytest.raises(error, match=words):
        read_catalogue(mine(), columns=columns)


def test_a_unit_that_contradicts_the_table():
    table = mine()
    table["alpha"].unit = u.hourangle
    with pytest.raises(SchemaError, match="'ra' is said to be in deg, but the table has 'alpha' in hourangle"):
        read_catalogue(table, columns={"ra": ("alpha", "deg"), "dec": ("delta", "deg")})


@pytest.mark.real_data
def test_lists_of_the_public_repositories(tmp_path, shared_data):
    folder = shared_data / "catalogues"
    for name, kind, rows in (("mcxc.fits", "mcxc", 1743), ("XCS_DR1.tsv", "xcs", 463)):
        catalogue = read_catalogue(folder / name)
        assert kind_of(catalogue) == kind and len(catalogue) == rows and np.all(catalogue["redshift"] > 0)
    catalogue = read_catalogue(folder / "SDSSRM-XCS_base_sample.csv")
    assert kind_of(catalogue) == "xcs" and len(catalogue) == 150
    assert catalogue["source_id"][0] == "SDSSXCS-124" and catalogue["XCS_NAME"][0] == "XMMXCS J000312.1-060530.5"
    known = read_catalogue(folder / "mcxc.fits")
    again = read_catalogue(tables.write(known, tmp_path / "mcxc.csv"))  # RAdeg beside it is less precise
    assert again.colnames == known.colnames and again["M500"].unit.is_equivalent(u.Msun)
    known = known["sky_position"]
    np.testing.assert_array_equal(again["sky_position"].ra.deg, known.ra.deg)
    with pytest.warns(UserWarning, match=r"dropped: Mgrav \(M_dot\)"):
        accept = read_catalogue(folder / "accept_catalog.csv")
    assert kind_of(accept) == "accept" and len(accept) == 241 and accept["Tx"].unit == u.keV
    separation = accept["sky_position"].match_to_catalog_sky(known)[1]
    assert np.median(separation) < 2 * u.arcmin  # most of them are in MCXC
    path = folder / "erass1-m_extended.csv.gz"
    with pytest.raises(SchemaError, match=r"'RA' has no unit.*columns={'ra': \('RA', 'deg'\), 'dec': \('dec', 'deg'\)"):
        read_catalogue(path)
    columns = {"ra": ("RA", "deg"), "dec": ("dec", "deg"), "source_id": "name", "ext": ("ext", "arcsec")}
    erass = read_catalogue(path, columns=columns)
    assert len(erass) == 26_682 and erass["ext"].max() == 60 * u.arcsec
    for name in ("chen2007_table2.txt", "sdssrm_xmm_centshift_concentration.csv"):
        with pytest.raises(SchemaError, match="no columns of a position.*joined to a catalogue by name.*Looked at"):
            read_catalogue(folder / name)
