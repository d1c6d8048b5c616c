"""Positions in other frames than ICRS: right to 0.1 arcsec, or refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time

from astroclassify.exceptions import SchemaError
from astroclassify.survey import cross_match, read_catalogue, to_regions

# Places away from poles and equinoxes [deg].
PLACES = np.array([[150.0, 2.0], [12.5, -61.0], [300.25, 41.5]])


def vectors(places):
    lon, lat = np.radians(places).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def murray(places):
    """FK4 of B1950 to J2000 (Murray 1989, A&A 218, 325): terms of aberration removed, then his matrix."""
    aberration = np.array([-1.62557e-6, -0.31919e-6, -0.13843e-6])
    matrix = [
        [0.9999256794956877, -0.0111814832204662, -0.0048590038153592],
        [0.0111814832391717, 0.9999374848933135, -0.0000271625947142],
        [0.0048590037723143, -0.0000271702937440, 0.9999881946023742],
    ]
    seen = vectors(places)
    return (seen - aberration + (seen @ aberration)[:, None] * seen) @ np.transpose(matrix)


def lieske(places, year):
    """Mean place of a year to J2000: the precession of Lieske (1979, A&A 73, 282), undone."""
    t = (year - 2000) / 100
    zeta, z = 2306.2181 * t + 0.30188 * t**2 + 0.017998 * t**3, 2306.2181 * t + 1.09468 * t**2 + 0.018203 * t**3
    theta = 2004.3109 * t - 0.42665 * t**2 - 0.041833 * t**3
    zeta, z, theta = np.radians(np.array([zeta, z, theta]) / 3600)

    def about(axis, angle):
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]] if axis == "z" else [[c, 0, -s], [0, 1, 0], [s, 0, c]])

    return vectors(places) @ (about("z", -z) @ about("y", theta) @ about("z", -zeta))  # the transpose, from the right


def galactic(places):
    """To J2000 by the pole at 192.859508, +27.128336 and the node at 32.93192 (ESA 1997, Hipparcos, vol. 1, 1.5.3)."""
    matrix = [
        [-0.0548755604, -0.8734370902, -0.4838350155],
        [0.4941094279, -0.4448296300, 0.7469822445],
        [-0.8676661490, -0.1980763734, 0.4559837762],
    ]
    return vectors(places) @ np.array(matrix)


def ecliptic(places):
    """Mean ecliptic of J2000 to its equator, by an obliquity of 84381.448 arcsec (Lieske et al. 1977)."""
    e = np.radians(84381.448 / 3600)
    return vectors(places) @ np.array([[1, 0, 0], [0, np.cos(e), np.sin(e)], [0, -np.sin(e), np.cos(e)]])


def check(table, right):
    found = read_catalogue(table)["sky_position"]
    xyz = np.stack([axis.value for axis in found.cartesian.xyz], axis=1)
    away = np.degrees(np.linalg.norm(xyz - right, axis=1)) * 3600
    assert np.all(away < 0.1), away


RIGHT = {
    "fk4": murray(PLACES),
    "fk5-1985": lieske(PLACES, 1985),
    "galactic": galactic(PLACES),
    "ecliptic": ecliptic(PLACES),
    "icrs": vectors(PLACES),
}


def plain(names=("RA", "DEC"), **meta):
    table = Table({"NAME": ["a", "b", "c"], names[0]: PLACES[:, 0] * u.deg, names[1]: PLACES[:, 1] * u.deg})
    table.meta.update(meta)
    return table


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({"EQUINOX": 1950.0}, "fk4"),
        ({"EQUINOX": "B1950.0"}, "fk4"),
        ({"RADESYS": "FK4", "EQUINOX": 1950.0}, "fk4"),
        ({"RADECSYS": "FK4"}, "fk4"),
        ({"EPOCH": 1950.0}, "fk4"),
        ({"EQUINOX": 1985.0, "RADESYS": "FK5"}, "fk5-1985"),
        ({"EQUINOX": "J1985"}, "fk5-1985"),
        ({"EQUINOX": 2000.0}, "icrs"),
        ({"RADESYS": "FK5", "EPOCH": 2015.5}, "icrs"),
        ({"RADESYS": "ICRS", "EPOCH": 2015.5}, "icrs"),
        ({}, "icrs"),
        ({"RADESYS": "ICRS", "EQUINOX": 1950.0}, None),
        ({"EPOCH": 2015.5}, None),
        ({"RADESYS": "GAPPT", "EQUINOX": 2000.0}, None),
        ({"EQUINOX": "now"}, None),
    ],
)
@pytest.mark.parametrize("where", ["table", "first header", "memory", "ecsv"])
def test_cards_of_a_header(cards, frame, where, tmp_path):
    table, path = plain(), tmp_path / "old.fits"
    if where in ("memory", "ecsv"):
        table.meta.update(cards)
        if where == "ecsv":
            path = tmp_path / "old.ecsv"
            table.write(path)
    else:
        table.write(path)
        with fits.open(path, mode="update") as hdus:
            hdus[where == "table"].header.update(cards)
    what = table if where == "memory" else path
    if where == "first header" and "EPOCH" in cards and len(cards) == 1:
        frame = "icrs"  # of an image, not of a table
    if frame is None:
        with pytest.raises(SchemaError, match="positions"):
            read_catalogue(what)
    else:
        check(what, RIGHT[frame])


@pytest.mark.parametrize(
    ("names", "frame"),
    [
        (("RAB1950", "DEB1950"), "fk4"),
        (("_RAB1950", "_DEB1950"), "fk4"),
        (("RA1950", "DEC1950"), "fk4"),
        (("GLON", "GLAT"), "galactic"),
        (("_Glon", "_Glat"), "galactic"),
        (("l", "b"), "galactic"),
        (("LII", "BII"), "galactic"),
        (("ELON", "ELAT"), "ecliptic"),
        (("RAJ2000", "DEJ2000"), "icrs"),
        (("RA_ICRS", "DE_ICRS"), "icrs"),
    ],
)
def test_names_of_columns(names, frame):
    check(plain(names), RIGHT[frame])


def test_the_name_of_a_column_comes_before_the_header_and_j2000_before_b1950():
    check(plain(("RAJ2000", "DEJ2000"), EQUINOX=1950.0), RIGHT["icrs"])
    both = plain(("RAB1950", "DEB1950"))
    both["RAJ2000"], both["DEJ2000"] = np.array([1.0, 2, 3]) * u.deg, np.array([4.0, 5, 6]) * u.deg
    assert read_catalogue(both)["sky_position"].ra.deg.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("Right ascension (FK4, Equinox=B1950.0) at Epoch=J1991.25", "fk4"),
        ("Hours of right ascension (B1950)", "fk4"),
        ("Right ascension, equinox 1950", "fk4"),
        ("Right ascension (FK5, Equinox=J1985.0)", "fk5-1985"),
        ("Right ascension (ICRS) at Ep=1950", "icrs"),
        ("Right ascension (J2000)", "icrs"),
        ("J2000 position, precessed from B1950", None),
    ],
)
def test_descriptions(text, frame):
    table = plain()
    table["RA"].description = table["DEC"].description = text
    if frame is None:
        with pytest.raises(SchemaError, match="J2000"):
            read_catalogue(table)
    else:
        check(table, RIGHT[frame])


VOTABLE = """<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>
{systems}<TABLE>{group}
<FIELD name="NAME" ID="n" datatype="char" arraysize="*"/>
<FIELD name="{lon}" ID="lon" datatype="double" unit="deg" ucd="{ucd}lon" {ref}/>
<FIELD name="{lat}" ID="lat" datatype="double" unit="deg" ucd="{ucd}lat" {ref}/>
<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>
"""
FK4 = '<COOSYS ID="b" system="eq_FK4" equinox="B1950"/>\n'
J2000 = '<COOSYS ID="j" system="eq_FK5" equinox="J2000" epoch="J1991.25"/>\n'
J1985 = '<COOSYS ID="j" system="eq_FK5" equinox="J1985"/>\n'


def votable(path, systems="", ref="", lon="RA", lat="DEC", ucd="", group=""):
    rows = "".join(f"<TR><TD>s{k}</TD><TD>{x}</TD><TD>{y}</TD></TR>" for k, (x, y) in enumerate(PLACES))
    text = VOTABLE.format(systems=systems, ref=ref, lon=lon, lat=lat, ucd=ucd, group=group, rows=rows)
    if ucd == "pos.eq.":
        text = text.replace("eq.lon", "eq.ra").replace("eq.lat", "eq.dec")
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("settings", "frame"),
    [
        ({"systems": FK4}, "fk4"),
        ({"systems": FK4, "ref": 'ref="b"'}, "fk4"),
        ({"systems": FK4 + J2000, "ref": 'ref="b"'}, "fk4"),
        ({"systems": FK4 + J2000, "ref": 'ref="j"'}, "icrs"),
        ({"systems": J1985, "ref": 'ref="j"'}, "fk5-1985"),
        ({"systems": '<COOSYS ID="g" system="galactic"/>', "ref": 'ref="g"'}, "galactic"),
        ({"systems": '<COOSYS ID="e" system="ecl_FK5"/>', "ref": 'ref="e"'}, "ecliptic"),
        ({"systems": FK4, "group": '<GROUP ref="b"><FIELDref ref="lon"/><FIELDref ref="lat"/></GROUP>'}, "fk4"),
        ({"systems": FK4, "lon": "RAJ2000", "lat": "DEJ2000"}, "icrs"),
        ({"ucd": "pos.galactic.", "lon": "A", "lat": "B"}, "galactic"),
        ({"ucd": "pos.ecliptic.", "lon": "A", "lat": "B"}, "ecliptic"),
        ({"ucd": "pos.eq.", "lon": "A", "lat": "B", "systems": FK4}, "fk4"),
        ({"systems": FK4 + J2000}, None),
        ({"systems": FK4, "ref": 'ref="b"', "lon": "RAJ2000", "lat": "DEJ2000"}, None),
        ({"systems": '<COOSYS ID="x" system="xy"/>'}, None),
        ({"systems": '<COOSYS ID="x" system="geo_app"/>'}, None),
    ],
)
def test_systems_and_ucds_of_votable(settings, frame, tmp_path):
    path = votable(tmp_path / "c.vot", **settings)
    if frame is None:
        with pytest.raises(SchemaError, match="frames|system"):
            read_catalogue(path)
    else:
        check(path, RIGHT[frame])


def test_systems_of_vizier_text(tmp_path):
    rows = "".join(f"s{k}\t{x}\t{y}\n" for k, (x, y) in enumerate(PLACES))
    head = "#Coosys\tB1950:\teq_FK4 B1950\n#\nName\tRA\tDE\n\tdeg\tdeg\n----\t----\t----\n".replace("DE\n", "DEC\n")
    (tmp_path / "asu.tsv").write_text(head + rows)
    check(tmp_path / "asu.tsv", RIGHT["fk4"])


@pytest.mark.parametrize("frame", ["fk4", "galactic", "barycentricmeanecliptic", FK5(equinox=Time("J1985"))])
def test_positions_of_any_frame_are_taken_everywhere(frame):
    sky = SkyCoord(PLACES * u.deg)
    other = sky.transform_to(frame)
    table = QTable({"source_id": ["a", "b", "c"], "sky_position": other})
    assert np.all(read_catalogue(table)["sky_position"].separation(sky) < 0.1 * u.arcsec)
    pairs = cross_match(table, sky, radius=0.1 * u.arcsec)
    assert pairs["row_other"].tolist() == [0, 1, 2]
    drawn = to_regions(table)
    assert all(region.center.separation(place) < 0.1 * u.arcsec for region, place in zip(drawn, sky, strict=True))


def test_a_frame_of_an_observatory_is_refused_without_network():
    sky = SkyCoord([1, 2] * u.deg, [3, 4] * u.deg, frame="altaz")
    with pytest.raises(SchemaError, match="cannot be changed to ICRS"):
        read_catalogue(QTable({"source_id": ["a", "b"], "sky_position": sky}))


def test_what_astroquery_answers():
    """VizieR's names, masked and object columns, a description in the meta."""
    table = Table(masked=True)
    table["Name"] = np.array(["a", None, "c"], dtype=object)
    table["RAJ2000"] = Column(["12 29 06.70", "00 42 44.33", "00 00 00.00"], unit='"h:m:s"')
    table["DEJ2000"] = Column(["+02 03 08.6", "+41 16 07.5", "-00 00 01.0"], unit='"d:m:s"')
    table["N"] = MaskedColumn([1, 999999, 3], mask=[False, True, False])
    table.meta["description"] = "X"
    found = read_catalogue(table)
    assert found["source_id"].tolist() == ["a", "row_2", "c"] and found.meta["description"] == "X"
    assert found["N"].mask.tolist() == [False, True, False]
    right = SkyCoord([187.277917, 10.684708, 0] * u.deg, [2.052389, 41.26875, -0.000278] * u.deg)
    assert np.all(found["sky_position"].separation(right) < 0.1 * u.arcsec)
    assert table.colnames == ["Name", "RAJ2000", "DEJ2000", "N"]  # as it was


@pytest.mark.parametrize("names", [("x_centroid", "y_centroid"), ("xcentroid", "ycentroid")])
def test_what_photutils_measures(names):
    table = QTable({"label": [1, 2], names[0]: [10.5, 20.0], names[1]: [3.0, 4.0], "kron_flux": [100.0, 50.0]})
    table["sky_centroid"] = SkyCoord([150, 151] * u.deg, [2, 3] * u.deg, frame="galactic")
    found = read_catalogue(table)
    assert found["source_id"].tolist() == ["1", "2"] and found["kron_flux"].tolist() == [100, 50]
    assert np.all(found["x"] == [10.5, 20] * u.pix) and np.all(found["y"] == [3, 4] * u.pix)
    assert np.all(found["sky_position"].separation(table["sky_centroid"]) < 0.01 * u.arcsec)
    table["sky_centroid"] = np.array([None, None], dtype=object)  # of an image without coordinates
    with pytest.raises(SchemaError, match="no columns of a position"):
        read_catalogue(table)
