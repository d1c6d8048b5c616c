"""Candidates drawn: what is written is read back by the regions package, whatever the names are."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st
from regions import CircleSkyRegion, Regions

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyWarning, OutputError, SchemaError
from astroclassify.survey import to_regions, write_regions


def candidates():
    out = QTable({"source_id": ["a", "b", "c", "d"], "x_class": ["C1", "C2", "P1", ""]})
    out["sky_position"] = SkyCoord([10, 20, 30, 359.99] * u.deg, [-5, 0, 5, -89.9] * u.deg)
    out["ext"] = [20, 0.5, np.nan, 3] * u.arcsec
    return out


def test_circles():
    regions = to_regions(candidates(), radius=6 * u.arcsec)
    assert all(isinstance(region, CircleSkyRegion) for region in regions)
    assert [region.radius.to_value(u.arcsec) for region in regions] == [20, 6, 6, 6]
    assert [region.visual["color"] for region in regions] == ["red", "magenta", "cyan", "green"]
    assert [region.meta["text"] for region in regions] == list("abcd")
    assert regions[3].center.dec.deg == pytest.approx(-89.9)


def test_radius_in_any_unit_of_angle():
    table = candidates()["source_id", "sky_position"]
    assert to_regions(table, radius=0.1 * u.arcmin)[2].radius == 6 * u.arcsec
    table["ext"] = [1, 2, 3, 4] * u.arcmin
    assert to_regions(table)[3].radius == 240 * u.arcsec


def test_file_read_by_the_regions_package(tmp_path):
    path = write_regions(candidates(), tmp_path / "c.reg")
    again = Regions.read(path, format="ds9")
    for region, drawn in zip(again, to_regions(candidates()), strict=True):
        assert region.center.separation(drawn.center) < 1e-3 * u.arcsec
        assert region.radius.to_value(u.arcsec) == pytest.approx(drawn.radius.value)
        assert region.meta["text"] == drawn.meta["text"]
        assert region.visual["facecolor"] == drawn.visual["color"]


def test_one_circle_has_its_text_on_its_line(tmp_path):
    """DS9 knows no text in the global line, to which the regions package moves it."""
    lines = write_regions(candidates()[:1], tmp_path / "c.reg").read_text().splitlines()
    assert lines == [
        *("# Region file format: DS9 version 4.1", "icrs"),
        'circle(10.0000000,-5.0000000,20.000") # color=red text={a}',
    ]


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=20))
def test_any_name_stays_on_its_line(tmp_path_factory, name):
    table = candidates()
    table["source_id"] = [name, "b", "c", "d"]
    path = tmp_path_factory.mktemp("reg") / "c.reg"
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    lines = write_regions(table, path).read_text(encoding="utf-8").split("\n")
    assert len(lines) == 7 and lines[3].endswith("text={b}")
    assert lines[2].count("{") == lines[2].count("}") == 1


def test_rows_without_a_position_are_said(tmp_path):
    table = candidates()
    table["sky_position"] = SkyCoord([10, np.nan, 30, 40] * u.deg, [-5, np.nan, 5, 6] * u.deg)
    with pytest.warns(AstroclassifyWarning, match="1 of 4 candidates have no position"):
        assert [region.meta["text"] for region in to_regions(table)] == list("acd")


def test_zero_rows(tmp_path):
    none = tables.empty(tables.CANDIDATES)
    assert len(to_regions(none)) == 0
    path = write_regions(none, tmp_path / "none.reg")
    assert path.read_text().startswith("# Region file format: DS9") and len(Regions.read(path, format="ds9")) == 0


def test_bad_input(tmp_path):
    with pytest.raises(SchemaError, match="source_id and sky_position"):
        to_regions(candidates()["source_id", "ext"])
    table = candidates()
    table["ext"] = [1.0, 2, 3, 4]
    with pytest.raises(SchemaError, match="'ext' of candidates must have a unit like arcsec, got None"):
        to_regions(table)
    with pytest.raises(TypeError, match="radius must be a Quantity"):
        to_regions(candidates(), radius=5)
    write_regions(candidates(), tmp_path / "c.reg")
    with pytest.raises(OutputError, match="exists already"):
        write_regions(candidates(), tmp_path / "c.reg")
    write_regions(candidates()[:1], tmp_path / "c.reg", overwrite=True)
    assert len(Regions.read(tmp_path / "c.reg", format="ds9")) == 1
