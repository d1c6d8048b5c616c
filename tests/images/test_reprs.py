"""What a terminal and a notebook show of images and cutouts."""

import base64
import io

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS

from astroclassify.images import Cutout, SkyImage


def made_image(unit="ct", **more):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [150.0, 2.0], [25.5, 20.5], [-4 / 3600, 4 / 3600]
    return SkyImage(np.full((40, 50), 3.0), unit=unit, wcs=wcs, **more)


def test_an_image_is_one_line():
    meta = {"TELESCOP": "XMM", "INSTRUME": "EPN", "E_MIN": 0.5, "E_MAX": 2.0, "EXPOSURE": 1e4}
    image = made_image(meta=meta, exposure=10 * u.ks)
    words = "40 x 50 pixels of 4 arcsec, 6000 ct, XMM EPN, 0.5 to 2 keV, 1e+04 s, exposure map"
    assert repr(image) == str(image) == f"<SkyImage {words}>"
    mask = np.zeros((40, 50), bool)
    mask[0, 0] = True
    assert repr(SkyImage(np.ones((40, 50)), unit="ct", mask=mask)) == "<SkyImage 40 x 50 pixels, 1999 ct, mask>"
    cutout = Cutout("A1", {"xray": made_image(), "optical": made_image("adu")})
    expected = "<Cutout 'A1', xray: 40 x 50 pixels of 4 arcsec, 6000 ct; optical: 40 x 50 pixels of 4 arcsec, 6000 adu>"
    assert repr(cutout) == expected


def test_a_notebook_shows_the_picture_of_each_band():
    image_module = pytest.importorskip("PIL.Image")
    html = Cutout("<A1>", {"xray": made_image(), "optical": made_image("adu")})._repr_html_()
    assert "&lt;A1&gt;" in html and "<A1>" not in html
    pictures = [part.split('"')[0] for part in html.split("base64,")[1:]]
    sizes = [image_module.open(io.BytesIO(base64.b64decode(each))).size for each in pictures]
    assert len(sizes) == 2 and all(width * 40 == height * 50 for width, height in sizes)
    assert made_image()._repr_html_().count("<img") == 1
    activation = made_image("")
    assert repr(activation).endswith("arcsec, 6000>") and "<img" not in activation._repr_html_()
    assert "<img" not in SkyImage(np.ones(5), unit="ct")._repr_html_()
