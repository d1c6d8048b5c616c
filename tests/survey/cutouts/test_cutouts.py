"""Cutouts: where things land, what is conserved, what happens at edges, and that every row comes back."""

import logging
import pickle
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from numpy.testing import assert_allclose

from astroclassify import tables
from astroclassify.exceptions import (
    EmptyResultWarning,
    FetchError,
    GeometryError,
    ImageWarning,
    OutputError,
    SchemaError,
)
from astroclassify.images import Cutout, read_image
from astroclassify.schemes import CANDIDATE, Flag
from astroclassify.survey import LocalOptical, extract_cutouts, read_field

CENTRE = SkyCoord(55.7, -53.6, unit="deg")
SMALL = {"size": 2 * u.arcmin, "shape": (64, 64), "progress": False}


def tangent_plane(position, pixel, n):
    """North up, the position in the middle of n x n pixels of an angle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.radesys = ["RA---TAN", "DEC--TAN"], "ICRS"
    wcs.wcs.crval, wcs.wcs.crpix = [position.ra.deg, position.dec.deg], [(n + 1) / 2] * 2
    wcs.wcs.cdelt = [-pixel.to_value(u.deg), pixel.to_value(u.deg)]
    return wcs


def make_field(n=240, pixel=4.0, *, exposure=True, angle=0.0, rate=0.2, mask=None, **meta):
    """Counts with three bright pixels; the exposure falls along x."""
    wcs = tangent_plane(CENTRE, pixel * u.arcsec, n)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.pc = [[cos, -sin], [sin, cos]]
    wcs.wcs.set()
    counts = np.random.default_rng(1).poisson(rate, (n, n)).astype(float)
    meta = {"TELESCOP": "XMM", "INSTRUME": "EPN", "HISTORY": "long", **meta}
    if exposure:
        meta["exposure_map"] = np.broadcast_to(np.linspace(1e4, 5e3, n), (n, n)).copy()
    return CCDData(counts, unit=u.ct, wcs=wcs, mask=mask, meta=meta)


def make_plate(n=600, pixel=1.0, *, level=5000.0):
    wcs = tangent_plane(CENTRE, pixel * u.arcsec, n)
    y, x = np.indices((n, n))
    return CCDData(level + 2.0 * x - y, unit=u.adu, wcs=wcs)


class Plate:
    """Gives one plate, or raises what it holds; counts how often it is asked."""

    settings = {"kind": "test"}

    def __init__(self, answer=None):
        self.answer, self.asked = make_plate() if answer is None else answer, []

    def __call__(self, position, size):
        self.asked.append((position, size))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ring(n, radius=2 * u.arcmin):
    return CENTRE.directional_offset_by(np.arange(n) * 360 / n * u.deg, radius)


# --- truth


@pytest.mark.parametrize(("angle", "pixel"), [(0.0, 4.0), (25.0, 1.0)])
def test_counts_are_conserved_and_land_where_they_are(angle, pixel):
    field = make_field(int(960 / pixel), pixel, angle=angle, rate=0.0)
    middle = field.shape[0] // 2
    spots = {(middle + 3, middle + 10): 1000.0, (middle - 20, middle + 2): 300.0, (middle - 9, middle - 14): 77.0}
    for place, counts in spots.items():
        field.data[place] = counts
    source = field.wcs.pixel_to_world(middle + 10, middle + 3)
    (cutout,) = extract_cutouts(source.reshape(1), field, size=7 * u.arcmin, progress=False)
    image = cutout.bands["xray"]
    assert image.shape == (356, 356)
    assert_allclose(image.data.sum(), sum(spots.values()), rtol=1e-9)
    # The source is in the middle, north up, east left, to a hundredth of a pixel.
    y, x = np.indices(image.shape)
    near = np.hypot(x - 177.5, y - 177.5) < 12
    assert_allclose([np.average(each[near], weights=image.data[near]) for each in (x, y)], 177.5, atol=0.01)
    assert_allclose(image.wcs.world_to_pixel(source), 177.5, atol=0.01)
    north = source.directional_offset_by(0 * u.deg, 1 * u.arcmin)
    east = source.directional_offset_by(90 * u.deg, 1 * u.arcmin)
    step = 356 / 7
    assert_allclose(image.wcs.world_to_pixel(north), [177.5, 177.5 + step], atol=0.01)
    assert_allclose(image.wcs.world_to_pixel(east), [177.5 - step, 177.5], atol=0.01)


def test_both_bands_are_on_one_grid():
    """A star on the plate and a source in X-rays at one place land on one pixel."""
    field, plate = make_field(rate=0.0), make_plate()
    place = CENTRE.spherical_offsets_by(30 * u.arcsec, 50 * u.arcsec)
    for image, value in ((field, 5000.0), (plate, 60000.0)):
        x, y = (int(np.round(each)) for each in image.wcs.world_to_pixel(place))
        image.data[y, x] = value
    (cutout,) = extract_cutouts(CENTRE, field, optical=Plate(plate), progress=False)
    xray, optical = cutout.bands["xray"], cutout.bands["optical"]
    assert xray.wcs.wcs.compare(optical.wcs.wcs)
    peak = np.unravel_index(np.argmax(optical.data), optical.shape)
    assert xray.data[peak] > 0
    x, y = xray.wcs.world_to_pixel(place)
    assert abs(peak[1] - x) < 1 and abs(peak[0] - y) < 1
    assert optical.unit == u.adu and xray.unit == u.ct


def test_plate_is_interpolated_and_exposure_is_carried():
    (cutout,) = extract_cutouts(CENTRE, make_field(), optical=Plate(), **SMALL)
    optical = cutout.bands["optical"]
    x, y = make_plate().wcs.world_to_pixel(optical.wcs.pixel_to_world(*np.meshgrid(np.arange(64), np.arange(64))))
    assert_allclose(optical.data, 5000 + 2 * x - y, atol=1e-2)  # linear: interpolation is exact
    exposure = cutout.bands["xray"].exposure
    assert exposure.shape == (64, 64)
    assert_allclose(exposure.mean(), 7500, rtol=1e-3)
    assert exposure[:, 0].mean() > exposure[:, -1].mean()
    assert "HISTORY" not in cutout.bands["xray"].meta and cutout.bands["xray"].meta["TELESCOP"] == "XMM"


def test_flat_rate_stays_flat():
    """Counts and exposure go the same way: their ratio is a constant, whatever the grid."""
    field = make_field(angle=17.0)
    field.data[:] = 3e-4 * field.meta["exposure_map"]
    (cutout,) = extract_cutouts(CENTRE, field, **SMALL)
    image = cutout.bands["xray"]
    area = (2 * 60 / 64 / 4.0) ** 2
    assert_allclose(image.data / image.exposure, 3e-4 * area, rtol=1e-5)


def test_field_in_place_of_an_image():
    field = read_field(make_field(), energy_range=[0.5, 2] * u.keV)
    (cutout,) = extract_cutouts(CENTRE, field, **SMALL)
    (expected,) = extract_cutouts(CENTRE, make_field(), **SMALL)
    image = cutout.bands["xray"]
    assert_allclose(image.data, expected.bands["xray"].data)
    assert (image.meta["E_MIN"], image.meta["E_MAX"]) == (0.5, 2.0)
    estimated = read_field(make_field(exposure=False, EXPOSURE=1e4, EXPTIME=1e4))
    (cutout,) = extract_cutouts(CENTRE, estimated, **SMALL)
    assert int(cutout.bands["xray"].meta["FLAGS"]) & Flag.NO_EXPOSURE


def moved(field, east, factor):
    """A field whose middle lies east by an angle, with counts and exposure multiplied."""
    there = CENTRE.spherical_offsets_by(east, 0 * u.arcmin)
    meta = {**field.meta, "exposure_map": factor * field.meta["exposure_map"], "OBS_ID": f"x{factor}"}
    wcs = tangent_plane(there, 4.0 * u.arcsec, field.shape[0])
    return CCDData(factor * field.data, unit=u.ct, wcs=wcs, meta=meta)


@pytest.mark.parametrize("turn", [1, -1])
def test_of_several_fields_the_deepest_is_cut(turn, tmp_path):
    """Fields of 16 arcmin, 10 apart: each candidate comes whole from one of them, as if that were the only one."""
    west, east = moved(make_field(), 0 * u.arcmin, 1), moved(make_field(), 10 * u.arcmin, 3)
    places = CENTRE.spherical_offsets_by([-5, 5, 15, 600] * u.arcmin, [0, 0, 0, 0] * u.arcmin)
    fields = [west, east][::turn]
    with pytest.warns(ImageWarning, match="1 of 4 candidates have no cutout .*off the image"):
        cutouts = extract_cutouts(places, fields, **SMALL)
    assert [cutout and cutout.bands["xray"].meta["OBS_ID"] for cutout in cutouts] == ["x1", "x3", "x3", None]
    for cutout, field, place in zip(cutouts, (west, east, east), places, strict=False):
        (alone,) = extract_cutouts(place, field, **SMALL)
        assert np.array_equal(cutout.bands["xray"].data, alone.bands["xray"].data)
    sample = extract_cutouts(places, fields, out=tmp_path / "out", **SMALL)
    assert [bool(path) for path in sample["path"]] == [True, True, True, False]
    assert extract_cutouts(places, fields, out=tmp_path / "out", **SMALL)["message"][3] == sample["message"][3] != ""
    with pytest.raises(OutputError, match="other settings .*field"):
        extract_cutouts(places, west, out=tmp_path / "out", **SMALL)


def test_shape_that_is_not_square():
    settings = {"size": 2 * u.arcmin, "shape": (32, 64), "progress": False}
    plate = Plate()
    (cutout,) = extract_cutouts(CENTRE, make_field(), optical=plate, **settings)
    assert cutout.bands["optical"].shape == (32, 64)
    assert_allclose(plate.asked[0][1].to_value(u.arcmin), 2)


def test_readable_as_a_cutout(tmp_path):
    (cutout,) = extract_cutouts(CENTRE, make_field(), optical=Plate(), **SMALL)
    sample = extract_cutouts(CENTRE, make_field(), optical=Plate(), out=tmp_path, **SMALL)
    back = Cutout.read(tables.image_paths(sample)[0])
    for band in ("xray", "optical"):
        assert np.max(np.abs(np.array(back.bands[band].wcs.world_to_pixel(CENTRE)) - 31.5)) < 1e-6
    written, made = back.bands["xray"], cutout.bands["xray"]
    assert_allclose(written.exposure, made.exposure, atol=made.exposure.max() * 2.0**-13)
    # Steps are a thousandth of a count; all sums of rows are right to half of one, and nothing appears.
    assert_allclose(written.data, made.data, atol=2.0**-10)
    assert_allclose(np.cumsum(written.data), np.cumsum(made.data), atol=2.0**-11)
    assert not written.data[made.data == 0].any() and written.data.min() >= 0
    # The plate rises by 3.75 from pixel to pixel, a sixteenth of which is rounded to the power of two below.
    assert_allclose(back.bands["optical"].data, cutout.bands["optical"].data, atol=1 / 16)


def test_small_files(tmp_path):
    """Two noisy bands of the published size, header and all."""
    field, plate = make_field(angle=30.0), make_plate()
    plate.data += np.random.default_rng(2).normal(0.0, 300.0, plate.shape)
    sample = extract_cutouts(CENTRE, field, optical=Plate(plate), out=tmp_path, progress=False)
    assert tables.image_paths(sample)[0].stat().st_size < 300_000


# --- edges, gaps, missing parts


def test_source_on_the_edge_stays_in_the_middle():
    field = make_field()
    corner = field.wcs.pixel_to_world(0, 0)
    (cutout,) = extract_cutouts(corner, field, optical=Plate(make_plate(1200)), **SMALL)
    image = cutout.bands["xray"]
    assert_allclose(image.wcs.world_to_pixel(corner), 31.5, atol=1e-6)
    assert int(image.meta["FLAGS"]) & Flag.OFF_EDGE
    # Half of the first pixel lies beyond the middle; three quarters of the grid are off the image.
    assert 0.72 < image.mask.mean() < 0.76
    assert not image.data[:28].any() and not image.data[:, :28].any()
    assert not image.exposure[:28].any()
    assert cutout.bands["optical"].mask is None


def test_position_off_the_image_with_part_of_the_field_on_it():
    field = make_field()
    outside = field.wcs.pixel_to_world(-8, 120)
    (cutout,) = extract_cutouts(outside, field, **SMALL)
    assert int(cutout.bands["xray"].meta["FLAGS"]) & Flag.OFF_EDGE
    assert 0 < cutout.bands["xray"].data.sum()


def test_gaps_and_masks():
    mask = np.zeros((240, 240), bool)
    mask[118:122] = True
    field = make_field(mask=mask)
    field.meta["exposure_map"][:, 130:] = 0.0
    (cutout,) = extract_cutouts(CENTRE, field, **SMALL)
    image = cutout.bands["xray"]
    assert Flag(int(image.meta["FLAGS"])) & (Flag.MASKED | Flag.OFF_EDGE) == Flag.MASKED
    assert image.mask[31:33].all() and image.mask[:, -3:].all() and not image.mask[:20, :40].any()
    assert not image.data[32].any()
    far = ring(1, 7 * u.arcmin)
    (clean,) = extract_cutouts(far, make_field(mask=mask), **SMALL)
    assert not int(clean.bands["xray"].meta["FLAGS"]) & Flag.MASKED


def test_no_exposure():
    for field, expected in (
        (make_field(exposure=False), True),
        (make_field(exposure=False, EXPOSURE=1e4), False),
        (make_field(), False),
    ):
        (cutout,) = extract_cutouts(CENTRE, field, **SMALL)
        assert bool(int(cutout.bands["xray"].meta["FLAGS"]) & Flag.NO_EXPOSURE) is expected
        assert (cutout.bands["xray"].exposure is not None) is ("exposure_map" in field.meta)


def test_flags_of_the_field():
    field = make_field(FLAGS=int(Flag.NO_UNIT | Flag.LOW_COUNTS | Flag.MASKED))
    field.data[:] = 1.0
    field.data[0, 0] = -1.0
    (cutout,) = extract_cutouts(CENTRE, field, **SMALL)
    # The field has pixels that are masked: the cutout has not.
    assert int(cutout.bands["xray"].meta["FLAGS"]) == Flag.NO_UNIT | Flag.NEGATIVE
    field.data[:] = 0.0
    (cutout,) = extract_cutouts(CENTRE, field, **SMALL)
    assert int(cutout.bands["xray"].meta["FLAGS"]) & Flag.LOW_COUNTS


def test_plate_that_ends_in_the_field():
    plate = make_plate(100)  # 100 arcsec of 120
    (cutout,) = extract_cutouts(CENTRE, make_field(), optical=Plate(plate), **SMALL)
    optical = cutout.bands["optical"]
    assert int(optical.meta["FLAGS"]) & Flag.OFF_EDGE and not int(cutout.bands["xray"].meta["FLAGS"]) & Flag.OFF_EDGE
    assert_allclose((~optical.mask).mean(), (100 / 120) ** 2, atol=0.03)


def test_no_optical(tmp_path, caplog):
    elsewhere = tmp_path / "plates"
    elsewhere.mkdir()
    wcs = tangent_plane(SkyCoord(10, 10, unit="deg"), 1 * u.arcsec, 50)
    fits.PrimaryHDU(np.arange(2500.0).reshape(50, 50), wcs.to_header()).writeto(elsewhere / "a.fits")
    optical = LocalOptical(elsewhere)
    sample = extract_cutouts(ring(2), make_field(), optical=optical, out=tmp_path / "out", **SMALL)
    assert all(int(flags) & Flag.NO_OPTICAL for flags in sample["flags"])
    assert sample["message"][0].startswith("no optical image: no plate covers the field at 03h42m")
    assert tuple(Cutout.read(tables.image_paths(sample)[0]).bands) == ("xray",)
    caplog.set_level(logging.CRITICAL)
    answers = (FetchError("down"), ValueError("x\ny"), make_plate().data, CCDData(np.ones((5, 5)), unit=u.adu))
    for answer in answers:
        (cutout,) = extract_cutouts(CENTRE, make_field(), optical=Plate(answer), **SMALL)
        assert int(cutout.bands["xray"].meta["FLAGS"]) & Flag.NO_OPTICAL
        assert "\n" not in cutout.bands["xray"].meta["MESSAGE"]
    (cutout,) = extract_cutouts(CENTRE, make_field(), **SMALL)  # none was wanted
    assert not int(cutout.bands["xray"].meta["FLAGS"]) & Flag.NO_OPTICAL


# --- every row comes back


def candidates():
    positions = SkyCoord(
        [CENTRE.ra.deg, np.nan, CENTRE.ra.deg, 10.0, CENTRE.ra.deg + 0.02, CENTRE.ra.deg],
        [CENTRE.dec.deg, 0.0, CENTRE.dec.deg + 0.03, 10.0, CENTRE.dec.deg, CENTRE.dec.deg - 0.01],
        unit="deg",
    )
    return QTable(
        {
            "source_id": ["a", "b", "a", "far", "../../etc", ""],
            "sky_position": positions,
            "ext": np.arange(6.0) * u.arcsec,
            "label": ["low_z", "", "point", "", "", ""],
            "flags": [int(Flag.COARSE_PIXELS), 0, 0, 0, 0, 0],
            "message": ["fit at its bound", "", "", "", "", ""],
        },
        meta={"scheme": CANDIDATE.to_dict(), "mine": 3},
    )


def test_every_row_comes_back_in_its_place(tmp_path, caplog):
    given = candidates()
    sample = extract_cutouts(given, make_field(), optical=Plate(), out=tmp_path / "out", **SMALL)
    assert list(sample["source_id"]) == ["a", "b", "a-2", "far", "row-5", "row-6"]
    assert list(sample["group_id"]) == list(given["source_id"])
    assert list(sample["label"]) == list(given["label"])
    assert_allclose(sample["ext"].to_value(u.arcsec), np.arange(6.0))
    failed = (sample["flags"] & Flag.FAILED.value) > 0
    assert list(failed) == [False, True, False, True, False, False]
    assert [bool(path) for path in sample["path"]] == list(~failed)
    assert "position is not finite" in sample["message"][1] and "off the image" in sample["message"][3]
    assert sample["message"][0] == "fit at its bound"
    assert int(sample["flags"][0]) & Flag.COARSE_PIXELS
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == [
        "a-2.fits",
        "a.fits",
        "row-5.fits",
        "row-6.fits",
    ]
    assert list(given["flags"])[0] == Flag.COARSE_PIXELS and given.colnames[0] == "source_id"
    again = tables.read_sample(tmp_path / "out")
    assert again.colnames == sample.colnames and again.meta["mine"] == 3
    assert_allclose(again["sky_position"].ra.deg[0], CENTRE.ra.deg)


def test_list_of_the_same_length(caplog):
    with pytest.warns(ImageWarning, match="2 of 6 candidates have no cutout"):
        cutouts = extract_cutouts(candidates(), make_field(), **SMALL)
    assert [cutout and cutout.source_id for cutout in cutouts] == ["a", None, "a-2", None, "row-5", "row-6"]


def test_names_that_collide(tmp_path):
    table = QTable({"source_id": ["a", "a", "a-2", "a", "row-6", "/"], "sky_position": ring(6)})
    sample = extract_cutouts(table, make_field(), out=tmp_path, **SMALL)
    assert list(sample["source_id"]) == ["a", "a-3", "a-2", "a-4", "row-6", "row-6-2"]


def test_field_without_a_valid_pixel_there(caplog):
    mask = np.zeros((240, 240), bool)
    mask[:, :120] = True
    with pytest.warns(ImageWarning, match="no valid pixel"):
        cutouts = extract_cutouts(ring(4, 4 * u.arcmin), make_field(mask=mask), **SMALL)
    assert [cutout is None for cutout in cutouts].count(True) == 1


def test_no_rows(tmp_path):
    nothing = QTable({"sky_position": SkyCoord([] * u.deg, [] * u.deg)})
    with pytest.warns(EmptyResultWarning, match="no rows"):
        assert extract_cutouts(nothing, make_field(), progress=False) == []
    with pytest.warns(EmptyResultWarning):
        sample = extract_cutouts(tables.empty(tables.CANDIDATES), make_field(), out=tmp_path, progress=False)
    assert len(sample) == 0
    assert len(tables.read_sample(tmp_path)) == 0


def test_arguments(tmp_path):
    field = make_field()
    with pytest.raises(TypeError, match="candidates must be a table or SkyCoord"):
        extract_cutouts([1, 2], field)
    with pytest.raises(SchemaError, match="column sky_position of SkyCoord"):
        extract_cutouts(QTable({"ra": [1.0], "dec": [2.0]}), field)
    with pytest.raises(SchemaError, match="'t_cool' must have a unit"):
        extract_cutouts(QTable({"sky_position": ring(1), "t_cool": [1.0]}), field)
    with pytest.raises(TypeError, match="field must be a Field or CCDData"):
        extract_cutouts(CENTRE, field.data)
    with pytest.raises(GeometryError, match="celestial WCS"):
        extract_cutouts(CENTRE, CCDData(field.data, unit=u.ct))
    with pytest.raises(GeometryError, match="must be in counts"):
        extract_cutouts(CENTRE, CCDData(field.data, unit=u.ct / u.s, wcs=field.wcs))
    with pytest.raises(TypeError, match="size must be a Quantity"):
        extract_cutouts(CENTRE, field, size=7)
    with pytest.raises(u.UnitConversionError, match="size"):
        extract_cutouts(CENTRE, field, size=1 * u.Mpc)
    with pytest.raises(ValueError, match="shape"):
        extract_cutouts(CENTRE, field, shape=(3, 3))
    with pytest.raises(TypeError, match="optical must be a function"):
        extract_cutouts(CENTRE, field, optical="plates")
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(OutputError, match="not empty"):
        extract_cutouts(CENTRE, field, out=tmp_path, progress=False)


# --- sample folders and workers


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}


def test_resumed_and_with_workers(tmp_path):
    """Whole, in two goes, in processes and in threads: the same bytes."""
    field, optical = make_field(angle=11.0), Plate()
    one = tmp_path / "one"
    sample = extract_cutouts(ring(5), field, optical=optical, out=one, **SMALL)
    expected = contents(one)
    assert len(expected) == 5
    two = tmp_path / "two"
    extract_cutouts(ring(5), field, optical=optical, out=two, **SMALL)
    damaged, untouched = two / "images" / "source-000002.fits", two / "images" / "source-000004.fits"
    damaged.write_bytes(damaged.read_bytes()[:9000])
    before = untouched.stat().st_mtime_ns
    optical.asked.clear()
    again = extract_cutouts(ring(5), field, optical=optical, out=two, **SMALL)
    assert len(optical.asked) == 1 and untouched.stat().st_mtime_ns == before
    assert contents(two) == expected and list(again["flags"]) == list(sample["flags"])
    with ProcessPoolExecutor(2) as pool:
        extract_cutouts(ring(5), field, optical=optical, out=tmp_path / "three", executor=pool, **SMALL)
    with ThreadPoolExecutor(2) as pool:
        extract_cutouts(ring(5), field, optical=optical, out=tmp_path / "four", executor=pool, **SMALL)
    assert contents(tmp_path / "three") == contents(tmp_path / "four") == expected


class Watching(Executor):
    """Runs each item at once, in this thread; keeps its name while it runs, and the size of what a process is sent."""

    def __init__(self):
        self.running, self.sizes = None, []

    def submit(self, function, work, key, item, run_id):
        self.running = key
        self.sizes.append(len(pickle.dumps(item)))
        future = Future()
        future.set_result(function(work, key, item, run_id))
        self.running = None
        return future


def test_threads_share_no_coordinates(tmp_path, monkeypatch):
    """What each cutout transforms with is its own: shared ones give wrong numbers in astropy 6.1, or crash."""
    used, executor = {}, Watching()

    def watch(name):
        real = getattr(WCS, name)

        def watched(self, *args, **kwargs):
            used.setdefault(executor.running, []).append(self)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(WCS, name, watched)

    plate = make_plate(600)
    fits.PrimaryHDU(plate.data, plate.wcs.to_header()).writeto(tmp_path / "plate.fits")
    optical = LocalOptical(tmp_path / "plate.fits")
    for name in ("all_pix2world", "all_world2pix"):
        watch(name)
    extract_cutouts(ring(2), make_field(), optical=optical, executor=executor, **SMALL)
    caller, first, second = ({id(wcs) for wcs in used[key]} for key in (None, "source-000001", "source-000002"))
    assert len(first) >= 3 and len(used["source-000001"]) >= 6
    assert not first & second and not caller & (first | second)


def test_only_a_part_of_the_field_is_sent():
    field, executor = make_field(1000), Watching()
    extract_cutouts(ring(3), field, executor=executor, **SMALL)
    assert len(executor.sizes) == 3 and max(executor.sizes) < 100_000 < field.data.nbytes / 50


def test_other_settings_are_refused(tmp_path):
    field = make_field()
    extract_cutouts(ring(2), field, out=tmp_path, **SMALL)
    other = make_field()
    other.data[5, 5] += 1
    with pytest.raises(OutputError, match="other settings .*field"):
        extract_cutouts(ring(2), other, out=tmp_path, **SMALL)
    with pytest.raises(OutputError, match="other settings .*geometry"):
        extract_cutouts(ring(2), field, out=tmp_path, **{**SMALL, "shape": (32, 32)})
    with pytest.raises(OutputError, match="other settings .*optical"):
        extract_cutouts(ring(2), field, optical=Plate(), out=tmp_path, **SMALL)
    with pytest.raises(OutputError, match="other candidates"):
        extract_cutouts(ring(1), field, out=tmp_path, **SMALL)
    assert len(extract_cutouts(ring(4), field, out=tmp_path, **SMALL)) == 4  # moved: made again


def test_optical_images_that_failed_are_asked_for_again(tmp_path, caplog):
    field, optical = make_field(), Plate(FetchError("the server is down"))
    first = extract_cutouts(ring(2), field, optical=optical, out=tmp_path, **SMALL)
    assert all(int(flags) & Flag.NO_OPTICAL for flags in first["flags"])
    assert first["message"][0] == "no optical image: the server is down"
    second = extract_cutouts(ring(2), field, optical=Plate(), out=tmp_path, **SMALL)
    assert not any(int(flags) & Flag.NO_OPTICAL for flags in second["flags"])
    assert list(second["message"]) == ["", ""]
    assert "optical" in Cutout.read(tables.image_paths(second)[0]).bands


def test_an_image_that_cannot_be_written_fails_in_its_row(tmp_path, caplog):
    extract_cutouts(ring(1), make_field(), out=tmp_path, **SMALL)
    (tmp_path / "images" / "source-000002.fits").mkdir()
    sample = extract_cutouts(ring(3), make_field(), out=tmp_path, **SMALL)
    assert [bool(int(flags) & Flag.FAILED) for flags in sample["flags"]] == [False, True, False]
    assert sample["message"][1].startswith("OutputError: ") and "source-000002.fits" in sample["message"][1]


# --- real fields


@pytest.mark.real_data
def test_real_xmm_field(shared_data, tmp_path):
    image = read_image(shared_data / "xmm" / "0124710801_PN_image_500-12000.fits")
    y, x = np.unravel_index(np.argmax(np.where(np.indices(image.shape)[0] > 200, image.data, 0)), image.shape)
    source = image.wcs.pixel_to_world(x, y)
    (cutout,) = extract_cutouts(source, image, progress=False)
    xray = cutout.bands["xray"]
    # The 105 pixels of 4 arcsec that the 7 arcmin are: the same counts, and the brightest in the middle.
    inside = np.abs(np.indices(image.shape) - np.array([y, x])[:, None, None]).max(axis=0)
    assert_allclose(xray.data.sum(), image.data[inside <= 52].sum(), rtol=1e-4)
    peak = np.unravel_index(np.argmax(xray.data), xray.shape)
    assert np.max(np.abs(np.array(peak) - 177.5)) < 3
    assert xray.meta["TELESCOP"] == "XMM" and int(xray.meta["FLAGS"]) & Flag.OFF_EDGE == 0
    assert cutout.write(tmp_path / "exact.fits").stat().st_size < 8 * 356**2
    sample = extract_cutouts(source, image, out=tmp_path / "out", progress=False)
    assert tables.image_paths(sample)[0].stat().st_size < 150_000
    assert_allclose(Cutout.read(tables.image_paths(sample)[0]).bands["xray"].data.sum(), xray.data.sum(), atol=2.0**-11)
