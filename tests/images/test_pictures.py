"""Pictures of images for the page, the report and Zooniverse: stretches, images that show nothing, sizes."""

import numpy as np
import pytest
from astropy import units as u
from astropy import visualization
from astropy.nddata import CCDData

from astroclassify.exceptions import GeometryError
from astroclassify.images import SkyImage
from astroclassify.images._filtered import filtered
from astroclassify.images._pictures import DRAWN, LAYERS, PICTURES, SCALES, STRETCHES, Scale, draw, valid_values

SHAPE = (60, 80)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
SPOT = np.exp(-((X - 60) ** 2 + (Y - 45) ** 2) / 18)


@pytest.mark.parametrize("name", list(STRETCHES))
def test_stretches_are_those_of_astropy(name):
    theirs = {
        "asinh": visualization.AsinhStretch(),
        "log": visualization.LogStretch(),
        "sqrt": visualization.SqrtStretch(),
        "linear": visualization.LinearStretch(),
    }[name]
    values = np.random.default_rng(1).gamma(2.0, 3.0, (40, 40))
    interval = visualization.AsymmetricPercentileInterval(5, 99)
    expected = theirs(np.clip(interval(values), 0, 1))
    assert np.allclose(Scale(name, 5, 99).apply(values, np.ones(values.shape, bool)), expected, atol=1e-6)


def test_images_that_show_nothing():
    flat = {"xray": CCDData(np.zeros(SHAPE), unit=u.ct), "optical": CCDData(np.full(SHAPE, 7.0), unit=u.adu)}
    for name in PICTURES:
        drawn = draw(flat, name, SCALES[name.split("_")[0]])
        assert drawn.dtype == np.uint8 and not drawn.any()
    masked = {"xray": CCDData(np.ones(SHAPE), unit=u.ct, mask=np.ones(SHAPE, bool))}
    for name in PICTURES[:2]:
        assert (draw(masked, name, SCALES["xray"]) == 96).all()
    with pytest.raises(GeometryError, match="no image in the band 'xray'"):
        draw({"optical": flat["optical"]}, "optical_contours", SCALES["optical"])
    with pytest.raises(ValueError, match="picture must be one of"):
        draw(flat, "radio", SCALES["xray"])
    rate = {"xray": CCDData(np.random.default_rng(1).poisson(0.3 + 30 * SPOT) / 1e4, unit=u.ct / u.s)}
    assert (draw(rate, "xray", SCALES["xray"]) != draw(rate, "xray_contours", SCALES["xray"])).any()


@pytest.mark.parametrize(("shape", "drawn"), [((1, 1), 700), ((3000, 20), 750), ((356, 356), 356), ((350, 350), 700)])
def test_sizes_of_pictures(shape, drawn):
    image = CCDData(np.random.default_rng(1).poisson(1.0, shape).astype(float), unit=u.ct)
    for name in PICTURES[:2]:
        assert draw({"xray": image}, name, SCALES["xray"]).shape[0] == drawn


FIELD_Y, FIELD_X = np.mgrid[:160, :160]
BLOB = np.exp(-((FIELD_X - 100) ** 2 + (FIELD_Y - 60) ** 2) / 18)


def counts_image(spot=60.0, level=0.2, exposure=1.0):
    """Poisson counts (160, 160) of a spot on a flat sky, in proportion to an exposure."""
    time = np.broadcast_to(exposure, BLOB.shape)
    counts = np.random.default_rng(1).poisson((level + spot * BLOB) * time).astype(float)
    return SkyImage(counts, unit=u.ct, exposure=time * 1e4 * u.s)


def test_the_filter_keeps_the_spot_and_drops_the_noise():
    image = counts_image(spot=3.0)
    values, valid = valid_values(image)
    kept = filtered(image, values, valid, 2.0)
    near = np.hypot(FIELD_X - 100, FIELD_Y - 60) < 12
    assert kept[near].sum() == pytest.approx(3.0 * BLOB.sum(), rel=0.25)
    # A thousandth of the pixels of each of four scales may pass by chance, with what is around them.
    assert (kept[~near] > 0).mean() < 0.05 and kept[~near].sum() < 0.1 * values[~near].sum()
    nothing = filtered(CCDData(0 * BLOB, unit=u.ct), 0 * BLOB, BLOB >= 0, 2.0)
    assert not nothing.any()


def test_the_edge_of_an_exposure_is_no_source():
    image = counts_image(spot=0.0, level=0.5, exposure=np.where(FIELD_X < 80, 1.0, 4.0))
    kept = filtered(image, *valid_values(image), 2.0)
    assert kept.sum() < 0.05 * image.data.sum()


def test_filtered_pictures():
    drawn = draw({"xray": counts_image(spot=5.0)}, "filtered").astype(int).sum(axis=2)
    y, x = np.unravel_index(np.argmax(drawn), drawn.shape)
    enlarged = drawn.shape[0] / 160
    assert np.hypot(x / enlarged - 100.5, (drawn.shape[0] - y) / enlarged - 60.5) < 3
    assert (drawn == 0).mean() > 0.8  # the sky is black
    with pytest.raises(GeometryError, match="wavelet filter needs counts, the image is in adu"):
        draw({"xray": CCDData(SPOT, unit=u.adu)}, "filtered")
    assert "filtered" in DRAWN


def test_three_optical_bands_are_red_green_and_blue():
    def band(place):
        return CCDData(np.where(place, 50.0, 1.0), unit=u.adu)

    bands = {"g": band(X < 20), "i": band(X > 60), "r": band((X > 30) & (X < 50))}
    drawn = draw(bands, "optical", Scale("linear", 1, 100))
    assert drawn[240, 8 * 70].tolist() == [255, 0, 0]  # i, the reddest
    assert drawn[240, 8 * 40].tolist() == [0, 255, 0] and drawn[240, 8 * 5].tolist() == [0, 0, 255]
    two = draw({"g": bands["g"], "r": bands["r"]}, "optical", Scale("linear", 1, 100))
    assert np.ptp(two, axis=2).max() == 0 and two[240, 8 * 5].tolist() == [255] * 3  # the first, in grey
    unknown = {"x1": bands["g"], "x2": bands["r"], "x3": bands["i"]}
    assert np.ptp(draw(unknown, "optical"), axis=2).max() == 0


def test_layers_of_an_activation_map():
    optical = {"optical": CCDData(np.full(SHAPE, 5.0) + SPOT, unit=u.adu)}
    activation = CCDData(np.array([[-1.0, 1.0]]), unit=u.dimensionless_unscaled)
    plain = draw(optical, "optical").astype(int)
    lined, blended = (draw(optical, "optical", None, activation, layer=layer).astype(int) for layer in LAYERS)
    assert 0 < (lined != plain).any(axis=2).mean() < 0.1
    assert (blended[:, :320, 2] > blended[:, :320, 0]).all() and (blended[:, 320:, 0] > blended[:, 320:, 2]).all()
    green = (lined[:, :, 1] > lined[:, :, 0] + 50) & (lined[:, :, 1] > lined[:, :, 2])
    assert green.any() and np.nonzero(green)[1].min() > 320  # evidence for is on the right
    empty = CCDData(np.zeros((1, 2)), unit=u.dimensionless_unscaled)
    assert (draw(optical, "optical", None, empty, layer="contours") == plain).all()
    with pytest.raises(ValueError, match="layer must be"):
        draw(optical, "optical", layer="x")


def test_smoothing_is_in_arcsec():
    image = counts_image()
    sharp, usual, wide = (draw({"xray": image}, "xray", SCALES["xray"], width=width) for width in (0.0, 5.0, 20.0))
    assert (usual == draw({"xray": image}, "xray", SCALES["xray"])).all()
    reds = [each[:, :, 0].astype(int) for each in (sharp, usual, wide)]
    rough = [np.abs(np.diff(red, axis=1)).mean() / red.std() for red in reds]  # steps in units of what there is to see
    assert rough[0] > rough[1] > rough[2]
