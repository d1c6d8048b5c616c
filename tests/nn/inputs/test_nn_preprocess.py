"""From what users hand in to what the network sees; no torch."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError, SchemaError
from astroclassify.images import Cutout, Geometry, write_image
from astroclassify.nn.inputs._items import Item, as_items
from astroclassify.nn.inputs._pixels import load_pixels
from astroclassify.nn.inputs._preprocess import Preprocessing, above_sky, stretch_counts
from astroclassify.nn.training._loop import _batches
from astroclassify.schemes import Flag

GRID = Geometry(1 * u.Mpc, (32, 32))


def image(data=None, **meta):
    """Counts on `GRID` for redshift 0.05."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [30.0, 10.0], [16.5, 16.5]
    pixel = GRID.pixel_width(0.05).to_value(u.deg)
    wcs.wcs.cdelt = [-pixel, pixel]
    data = np.full((32, 32), 3.0) if data is None else data
    return CCDData(data, unit=u.ct, wcs=wcs, meta={"REDSHIFT": 0.05, "EXPOSURE": 1e5, **meta})


def test_stretches():
    counts = np.array([[-3, 0, 4, 99]])
    assert stretch_counts(counts, "log") == pytest.approx(np.log10([[1, 1, 5, 100]]))
    assert stretch_counts(counts, "sqrt") == pytest.approx(np.sqrt([[0, 0, 4, 99]]))
    assert stretch_counts(counts, "linear").tolist() == [[0, 0, 4, 99]]
    assert stretch_counts(counts, "log").dtype == np.float32
    with pytest.raises(ValueError, match="stretch must be one of"):
        stretch_counts(counts, "asinh")


def test_the_training_set_has_mean_zero_and_variance_one():
    counts = np.random.default_rng(0).poisson(3, size=(20, 2, 16, 16)) * np.array([1, 40]).reshape(1, 2, 1, 1)
    rule = Preprocessing.measure(counts, "sqrt")
    pixels = rule(counts)
    assert pixels.mean(axis=(0, 2, 3)) == pytest.approx([0, 0], abs=1e-5)
    assert pixels.std(axis=(0, 2, 3)) == pytest.approx([1, 1], abs=1e-5)
    again = Preprocessing.from_dict(rule.to_dict(), n_bands=2)
    assert np.array_equal(again(counts), pixels)


def test_constant_images_give_no_nan():
    rule = Preprocessing.measure(np.zeros((3, 1, 8, 8)), "log")
    assert np.array_equal(rule(np.zeros((3, 1, 8, 8))), np.zeros((3, 1, 8, 8)))


@pytest.mark.parametrize("change", [{"mean": [0, 0]}, {"std": [0]}, {"std": [float("nan")]}, {"stretch": "no"}])
def test_a_wrong_rule_is_refused(change):
    with pytest.raises(ValueError, match="must be"):
        Preprocessing.from_dict({"stretch": "log", "mean": [0.0], "std": [1.0], **change}, n_bands=1)


@pytest.mark.parametrize(("n", "size"), [(33, 32), (64, 32), (5, 32), (2, 2), (7, 2)])
def test_batches_take_each_image_once(n, size):
    batches = _batches(n, size, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert max(map(len, batches)) <= size and np.ptp([len(batch) for batch in batches]) <= 1


def test_an_image_on_the_grid_is_taken_as_it_is():
    data = np.random.default_rng(0).poisson(3, size=(32, 32)).astype(float)
    pixels, flags, header = load_pixels(Item("a", image(data)), bands=("xray",), geometry=GRID)
    assert np.array_equal(pixels[0], data) and flags == 0 and pixels.dtype == np.float32
    assert (header.telescope, header.instrument, header.energy_range, header.exposure) == (None, None, None, 1e5)


def test_masked_pixels_are_empty_and_flagged():
    counts = image()
    counts.mask = np.zeros((32, 32), bool)
    counts.mask[3, 4] = True
    pixels, flags, _ = load_pixels(Item("a", counts), bands=("xray",), geometry=GRID)
    assert pixels[0, 3, 4] == 0 and pixels.sum() == 3 * 1023 and flags & Flag.MASKED


def test_two_bands_come_in_their_order():
    cutout = Cutout("s", {"optical": image(np.full((32, 32), 7.0)), "xray": image()})
    pixels, _, _ = load_pixels(Item("s", cutout), bands=("xray", "optical"), geometry=GRID)
    assert pixels[:, 0, 0].tolist() == [3, 7]
    with pytest.raises(GeometryError, match="must have the bands"):
        load_pixels(Item("s", cutout), bands=("xray", "radio"), geometry=GRID)
    with pytest.raises(GeometryError, match="must be a Cutout"):
        load_pixels(Item("s", image()), bands=("xray", "radio"), geometry=GRID)


def test_arrays():
    items, single = as_items(np.zeros((3, 32, 32)), bands=("xray",), shape=(32, 32))
    assert len(items) == 3 and not single and items[2].source_id == "image-0003"
    _, flags, header = load_pixels(Item("a", np.full((32, 32), -1.0)), bands=("xray",), geometry=GRID)
    assert flags == Flag.NEGATIVE | Flag.SATURATED and header is None
    assert as_items(np.zeros((32, 32)), bands=("xray",), shape=(32, 32))[1]  # one image on the grid
    for bad in (np.zeros((3, 16, 32)), np.zeros((16, 32)), np.zeros((3, 2, 32, 32)), np.zeros((3, 32, 32), complex)):
        with pytest.raises(GeometryError, match="images must be an array"):
            as_items(bad, bands=("xray",), shape=(32, 32))
    with pytest.raises(GeometryError, match="must be finite"):
        load_pixels(Item("a", np.full((32, 32), np.nan)), bands=("xray",), geometry=GRID)


def test_names_of_sources(tmp_path):
    write_image(image(), tmp_path / "abell.fits")
    values = [tmp_path / "abell.fits", "field.img.gz", image(), image(OBJECT=" A 1 "), Cutout("c", {"xray": image()})]
    items, _ = as_items(values, bands=("xray",), shape=(32, 32))
    assert [item.source_id for item in items] == ["abell", "field", "image-0003", "A 1", "c"]
    assert as_items(tmp_path / "abell.fits", bands=("xray",), shape=(32, 32))[1]


def test_redshift_of_the_call_goes_first():
    values = [image(), image()]
    items, _ = as_items(values, bands=("xray",), shape=(32, 32), redshift=0.1)
    assert [item.redshift for item in items] == [0.1, 0.1]
    items, _ = as_items(values, bands=("xray",), shape=(32, 32), redshift=[0.1, 0.2])
    assert [item.redshift for item in items] == [0.1, 0.2]
    for bad in ([0.1], -1, np.nan):
        with pytest.raises(ValueError, match="redshift must be"):
            as_items(values, bands=("xray",), shape=(32, 32), redshift=bad)


def test_wrong_kinds_are_named():
    with pytest.raises(TypeError, match="got dict"):
        as_items({}, bands=("xray",), shape=(32, 32))
    with pytest.raises(TypeError, match="got int"):
        as_items([3], bands=("xray",), shape=(32, 32))
    with pytest.raises(SchemaError, match="column path"):
        as_items(QTable({"a": [1]}), bands=("xray",), shape=(32, 32))


def test_intensities_are_above_the_median_in_units_of_the_noise_below_it():
    rng = np.random.default_rng(0)
    plates = rng.normal(5600, 250, (4, 64, 64))
    plates[1, :8] = 24000  # an eighth of the pixels are stars
    plates[2] = 7.0
    plates[3] = np.nan
    scaled = above_sky(plates)
    assert scaled.dtype == np.float32 and np.sinh(scaled[0]).std() == pytest.approx(1, abs=0.05)
    # stars shift the median by 0.16 of the noise (the normal distribution's 57th percentile), no more
    assert np.median(scaled[1, 8:]) == pytest.approx(-0.16, abs=0.05)
    assert np.all(scaled[2] == 0) and np.all(np.isnan(scaled[3]))
    rule = {"stretch": "log", "mean": [0, 0], "std": [1, 1], "plates": [2]}
    with pytest.raises(ValueError, match=r"plates must be numbers of the 2 bands, got \(2,\)"):
        Preprocessing.from_dict(rule, n_bands=2)
