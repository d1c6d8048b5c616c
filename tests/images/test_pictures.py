"""Pictures of images for the page, the report and Zooniverse: stretches, images that show nothing, sizes."""

import numpy as np
import pytest
from astropy import units as u
from astropy import visualization
from astropy.nddata import CCDData

from astroclassify.exceptions import GeometryError
from astroclassify.images._pictures import PICTURES, SCALES, STRETCHES, Scale, draw

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
