"""Region files as people write them: every line is read or named, and masks are those that geometry says."""

import logging

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK4, SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclassify.exceptions import ArgumentError, AstroclassifyWarning, SchemaError
from astroclassify.survey import read_field, read_regions, region_mask, write_regions

SKY = SkyCoord(150.1 * u.deg, -2.5 * u.deg)


def image(shape=(60, 80), scale=4.0, **header):
    """A counts image with north up, SKY in the middle of pixel (40, 30), counted from 0."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [SKY.ra.deg, SKY.dec.deg]
    wcs.wcs.crpix, wcs.wcs.cdelt = [41, 31], [-scale / 3600, scale / 3600]
    return CCDData(np.ones(shape), unit="ct", wcs=wcs, meta=header)


def saved(folder, text):
    path = folder / "ds9.reg"
    path.write_text(text, encoding="utf-8")
    return path


SYSTEMS = {
    "fk5": "150.1,-2.5", "icrs": "150.1,-2.5", "j2000": "10:00:24.0,-2:30:00", "FK5": "10h00m24.0s,-2d30m00s",
    "galactic": f"{SKY.galactic.l.deg:.8f},{SKY.galactic.b.deg:.8f}",
    "b1950": f"{SKY.transform_to(FK4()).ra.deg:.8f},{SKY.transform_to(FK4()).dec.deg:.8f}",
    "image": "41,31", "physical": "41,31",
}  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("one_line", [True, False])
def test_systems_and_notations(tmp_path, system, one_line):
    size = "5" if system in ("image", "physical") else '20"'
    between = "; " if one_line else "\n"
    text = f"# Region file format: DS9 version 4.1\n# by hand\nglobal color=green width=1\n{system}{between}"
    path = saved(tmp_path, f"{text}circle({SYSTEMS[system]},{size}) # color=#ff0000 text={{A; 1}} width=2\n")
    candidates = read_regions(path, image=image())
    assert list(candidates["source_id"]) == ["A; 1"]
    assert candidates["sky_position"].separation(SKY)[0] < 0.05 * u.arcsec
    assert candidates["ext"].to_value(u.arcsec)[0] == pytest.approx(20, rel=1e-4)
    mask = region_mask(path, image())
    y, x = np.indices(mask.shape)
    distance = np.hypot(x - 40, y - 30)
    np.testing.assert_array_equal(mask[np.abs(distance - 5) > 0.01], (distance < 5)[np.abs(distance - 5) > 0.01])


def test_shapes_of_candidates(tmp_path):
    lines = [
        "fk5",
        "point(150.1,-2.5) # point=x",
        'ellipse(150.1,-2.5,40",10",30) # text={A}',
        "box 150.1 -2.5 1' 1' 0",
    ]
    lines += [
        "circle(150.1 -2.5 0.01) # text='A'",
        "",
        "icrs # back",
        "circle(10,20,3') # tag={x} tag={y} font='times 10'",
    ]
    with pytest.warns(AstroclassifyWarning, match="1 regions of ds9.reg are excluded"):
        candidates = read_regions(saved(tmp_path, "\r\n".join([*lines, '-circle(150.1,-2.5,9")'])))
    assert list(candidates["source_id"]) == ["1", "A", "3", "A_2", "5"]
    expected = [np.nan, 20, 60 / np.sqrt(np.pi), 36, 180]
    np.testing.assert_allclose(candidates["ext"].to_value(u.arcsec), expected)
    assert candidates["message"][3] == "source_id 'A' is also that of row 2"
    assert candidates["sky_position"][4].dec.deg == pytest.approx(20)


def test_written_regions_come_back(tmp_path):
    table = QTable({"source_id": ["a", "b c"], "sky_position": SkyCoord([10, 359.99] * u.deg, [-5, 89.9] * u.deg)})
    table["ext"] = [20, 90] * u.arcsec
    again = read_regions(write_regions(table, tmp_path / "c.reg"))
    assert list(again["source_id"]) == ["a", "b c"] and list(again["ext"].value) == [20, 90]
    assert np.max(again["sky_position"].separation(table["sky_position"])) < 1e-3 * u.arcsec
    assert write_regions(again, tmp_path / "d.reg").read_text() == (tmp_path / "c.reg").read_text()
    assert len(read_regions(write_regions(table[:0], tmp_path / "none.reg"))) == 0


def test_masks_of_every_shape(tmp_path):
    y, x = np.indices((60, 80))
    x, y = x - 40.0, y - 30.0
    cases = {
        "ellipse(41,31,12,6,0)": (x / 12) ** 2 + (y / 6) ** 2 < 1,
        "box(41,31,11,7,0)": (abs(x) < 5.5) & (abs(y) < 3.5),
        "box(41,31,11,7,90)": (abs(y) < 5.5) & (abs(x) < 3.5),
        "annulus(41,31,5.1,9.1)": (np.hypot(x, y) > 5.1) & (np.hypot(x, y) < 9.1),
        "polygon(36.6,26.6,46.6,26.6,46.6,36.1)": (x < 5.6) & (y > -4.4) & (9.5 * (x + 4.4) > 10 * (y + 4.4)),
    }
    for text, expected in cases.items():
        mask = region_mask(saved(tmp_path, f"image\n{text}\n"), image())
        assert np.sum(mask != expected) <= 12 and mask.sum() > 40, text  # pixels whose centre is on the line
    both = region_mask(saved(tmp_path, "image\n-circle(41,31,3.1)\ncircle(41,31,9.1)\ncircle(10,10,2.1)"), image())
    distance = np.hypot(x, y)
    other = np.hypot(x + 31, y + 21) < 2.1
    np.testing.assert_array_equal(both, ((distance < 9.1) & (distance > 3.1)) | other)
    text = "image\ncircle(41,31,9.1) # include=0"  # another way to say so
    np.testing.assert_array_equal(region_mask(saved(tmp_path, text), image()), distance > 9.1)


def test_physical_coordinates_of_a_binned_image(tmp_path):
    """LTM and LTV of an XMM image: 80 sky units a pixel; IRAF's rule image = LTM physical + LTV."""
    header = {"LTM1_1": 1 / 80, "LTM2_2": 1 / 80, "LTV1": -100.0, "LTV2": -90.0}
    physical = (41 + 100) * 80, (31 + 90) * 80
    path = saved(tmp_path, f"physical;circle({physical[0]},{physical[1]},400) # text={{a}}")
    candidates = read_regions(path, image=image(**header))
    assert candidates["sky_position"].separation(SKY)[0] < 0.01 * u.arcsec
    assert candidates["ext"].to_value(u.arcsec)[0] == pytest.approx(20, rel=1e-4)
    same = region_mask(saved(tmp_path, "image;circle(41,31,5)"), image())
    path = saved(tmp_path, f"physical;circle({physical[0]},{physical[1]},400)")
    np.testing.assert_array_equal(region_mask(path, image(**header)), same)
    corners = [(36.6, 26.6), (46.6, 26.6), (46.6, 36.1)]
    text = ",".join(f"{(x + 100) * 80:.2f},{(y + 90) * 80:.2f}" for x, y in corners)
    plain = saved(tmp_path, "image;polygon(36.6,26.6,46.6,26.6,46.6,36.1)")
    expected = region_mask(plain, image())
    np.testing.assert_array_equal(region_mask(saved(tmp_path, f"physical\npolygon({text})"), image(**header)), expected)
    expected = region_mask(saved(tmp_path, "image\nbox(41,31,11,7,30)"), image())
    path = saved(tmp_path, f"physical\nbox({physical[0]},{physical[1]},880,560,30)")
    np.testing.assert_array_equal(region_mask(path, image(**header)), expected)
    with pytest.raises(SchemaError, match="are not its own"):
        region_mask(path, image(**header | {"LTM2_2": 1 / 40}))


def test_a_field_without_what_is_marked(tmp_path):
    path = saved(tmp_path, 'fk5;circle(150.1,-2.5,20");circle(10,10,20")')
    sky = image(TELESCOP="XMM", INSTRUME="EPN", EXPOSURE=1e4)
    field = read_field(sky, exposure=np.full((60, 80), 1e4), background=np.ones((60, 80)), mask=region_mask(path, sky))
    np.testing.assert_array_equal(field.mask, region_mask(path, field))
    assert 70 < field.mask.sum() < 90


def test_regions_beside_the_image_are_said(tmp_path, caplog):
    path = saved(tmp_path, 'fk5\ncircle(150.1,-2.5,20")\ncircle(151.1,-2.5,20")\ncircle(150.10055,-2.49945,0.1")\n')
    with caplog.at_level(logging.WARNING):
        assert region_mask(path, image()).any()
    assert "2 regions of ds9.reg cover the centre of no pixel" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("circle(1,2,3)", r"line 1 of ds9.reg \('circle\(1,2,3\)'\) stands before any coordinate system"),
        ("fk5\n\n# text(150,2) text={note}", r"line 3 .*'# text\(150,2\).*is no region that is read"),
        ("fk5\nvector(1,2,3,4)", "line 2 .*is no region"),
        ("fk5\n# vector(1,2,3,4) vector=1", "line 2 .*is no region"),
        ("image\npanda(1,2,0,90,1,2,3,1)", "line 2 .*is no region"),
        ("fk5\npie(1,2,3,4,5,6)", "line 2 .*is no region"),
        ("fk5\n# composite(1,2,0) || composite=1", "line 2 .*is no region"),
        ("fk5\ncircle(1,2,3') ||\ncircle(1,2,3')", r"line 2 .*is joined to others"),
        ("linear\ncircle(1,2,3)", "line 1 .*is a coordinate system that is not read here; these are: icrs"),
        ("wcsa;circle(1,2,3)", "line 1 .*is a coordinate system"),
        ("fk5\ncircle(1,2)", "line 2 .*has 2 values; circle wants 3"),
        ("fk5\nannulus(1,2,3',4',5')", "line 2 .*has 5 values; annulus wants 4"),
        ("fk5\nbox(1,2,3',4')", "line 2 .*has 4 values; box wants 5"),
        ("fk5\npolygon(1,2,3,4,5)", "line 2 .*has 5 values; polygon wants 6 or more"),
        ("fk5\ncircle(150,2,30)", r"line 2 .*is 30 degrees wide, as it has no unit: write 30\" or 30'"),
        ("fk5\ncircle(150,x,30\")", "line 2 .*cannot be read"),
        ("fk5\ncircle(150,2,5i)", "line 2 .*cannot be read"),
        ("fk5\ncircle(150,95,5')", "line 2 .*cannot be read"),
        ("image\ncircle(10,20,30\")", "line 2 .*cannot be read"),
        ("fk5\ncircle(150,2,-5')", "line 2 .*cannot be read"),
        ("physical\ncircle(10,20,30\")", "line 2 .*must be numbers of pixels"),
        ("fk5\n150.1 2.2 30", "line 2 .*is neither a region nor a coordinate system"),
        ("fk5\nname,ra,dec", "line 2 .*is no region"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(tmp_path, text, words):
    path = saved(tmp_path, text)
    for read in (lambda: read_regions(path, image=image(LTV1=0.0)), lambda: region_mask(path, image(LTV1=0.0))):
        with pytest.raises(SchemaError, match=words):
            read()


def test_wrong_use(tmp_path):
    with pytest.raises(SchemaError, match="line 2 .*has no area"):
        region_mask(saved(tmp_path, "fk5\npoint(150,2)"), image())
    with pytest.raises(SchemaError, match="has no region"):
        region_mask(saved(tmp_path, "# nothing"), image())
    for text in ("annulus(150,2,1',2')", "polygon(150,2,151,2,151,3)"):
        with pytest.raises(SchemaError, match="line 2 .*is no candidate"):
            read_regions(saved(tmp_path, f"fk5\n{text}"))
    with pytest.raises(ArgumentError, match=r"image must be given: line 2 .* is in pixels"):
        read_regions(saved(tmp_path, "image\ncircle(1,2,3)"))
    with pytest.raises(ArgumentError, match=r"image must be given: .* is in physical"):
        read_regions(saved(tmp_path, "physical\ncircle(1,2,3)"))
    for wrong in (np.zeros((3, 3)), "image.fits", CCDData(np.zeros(3), unit="ct")):
        with pytest.raises(ArgumentError, match="image must be a Field or a 2-D image"):
            region_mask(saved(tmp_path, "image\ncircle(1,2,3)"), wrong)
    with pytest.raises(ArgumentError, match="celestial"):
        region_mask(saved(tmp_path, "image\ncircle(1,2,3)"), CCDData(np.zeros((3, 3)), unit="ct"))
    with pytest.raises(ArgumentError, match="image must be given"):
        region_mask(saved(tmp_path, "image\ncircle(1,2,3)"), None)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_regions(tmp_path / "none.reg")
    (tmp_path / "b.reg").write_bytes(b"\xff\xfe\0\0")
    with pytest.raises(SchemaError, match="cannot be read as a region file"):
        read_regions(tmp_path / "b.reg")


@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from("circle(),;#+-fk5 image12.5\"'{}=\n|polygn"), max_size=40))
def test_no_text_breaks_it(tmp_path_factory, text):
    path = saved(tmp_path_factory.mktemp("reg"), text)
    try:
        read_regions(path, image=image())
    except (SchemaError, ArgumentError) as error:
        assert str(error)
    except AstroclassifyWarning:
        pass


@pytest.mark.real_data
def test_a_region_on_a_real_field(tmp_path, shared_data):
    from astroclassify.images import read_image

    path = next(iter(sorted((shared_data / "xmm").glob("*.fits*"))), None) if (shared_data / "xmm").is_dir() else None
    if path is None:
        pytest.skip("no XMM image")
    sky = read_image(path)
    centre = sky.wcs.pixel_to_world(sky.shape[1] / 2, sky.shape[0] / 2).icrs
    mask = region_mask(saved(tmp_path, f'icrs\ncircle({centre.ra.deg},{centre.dec.deg},60")'), sky)
    scale = np.sqrt(abs(np.linalg.det(sky.wcs.pixel_scale_matrix))) * 3600
    assert mask.sum() * scale**2 == pytest.approx(np.pi * 60**2, rel=0.02)
