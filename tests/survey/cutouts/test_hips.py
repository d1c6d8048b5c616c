"""Images cut out of a HiPS on disk, against HEALPix and HiPS of independent programs."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.fits import getdata
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError
from astroclassify.survey import LocalHips, NoImageError
from astroclassify.survey.cutouts._hips import healpix_pixel

MIDDLE = SkyCoord(150.0, 2.0, unit="deg")


def truth(x, y):
    """A spot off the middle of a slope, on pixels of 2 arcsec."""
    return 100 * np.exp(-((x - 200) ** 2 + (y - 100) ** 2) / 400) + 0.2 * x


def plane():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [150.5, 150.5], [-2 / 3600, 2 / 3600]
    return wcs


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same image as HiPS of FITS tiles in both frames."""
    hips = pytest.importorskip("reproject.hips")
    reproject = pytest.importorskip("reproject")
    folder = tmp_path_factory.mktemp("hips")
    y, x = np.mgrid[:300, :300]
    image = truth(x, y)
    how = {"reproject_function": reproject.reproject_interp, "tile_size": 64}
    for frame in ("equatorial", "galactic"):
        hips.reproject_to_hips((image, plane()), output_directory=folder / frame, coord_system_out=frame, **how)
    return folder


def test_healpix_pixels_are_those_of_astropy_healpix():
    astropy_healpix = pytest.importorskip("astropy_healpix")
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(0, 2 * np.pi, 20000), np.arcsin(rng.uniform(-1, 1, 20000))
    for order in (0, 3, 11):
        face, x, y = healpix_pixel(lon, lat, order)
        assert face.min() == 0 and face.max() == 11 and max(x.max(), y.max()) < 2**order
        theirs = astropy_healpix.HEALPix(2**order, order="nested").lonlat_to_healpix(lon * u.rad, lat * u.rad)
        bits = sum(((x >> bit & 1) << 2 * bit) + ((y >> bit & 1) << 2 * bit + 1) for bit in range(order))
        assert (face * 4**order + bits == theirs).all()


@pytest.mark.parametrize("frame", ["equatorial", "galactic"])
def test_a_field_is_cut_out_where_it_is(folders, frame):
    hips = LocalHips(folders / frame)
    image = hips(MIDDLE, 5 * u.arcmin)
    assert image.unit == u.adu and not hips.coloured and min(image.shape) > 100
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    x, y = plane().world_to_pixel(image.wcs.pixel_to_world(columns, rows))
    # Of the nearest pixel, half a pixel (1 arcsec) off at most: the slope there times that.
    assert np.abs(image.data - truth(x, y)).max() < 5 and np.median(np.abs(image.data - truth(x, y))) < 0.5
    wide = hips(MIDDLE, 20 * u.arcmin)  # beyond the image there are gaps
    assert wide.mask.any() and not wide.mask.all()


def test_fields_that_are_not_there(folders, tmp_path):
    with pytest.raises(NoImageError, match="has no tile of the field at 00h"):
        LocalHips(folders / "equatorial")(SkyCoord(10, 10, unit="deg"), 1 * u.arcmin)
    with pytest.raises(FileNotFoundError, match="no HiPS in .*has no file 'properties'"):
        LocalHips(tmp_path)
    (tmp_path / "properties").write_text("hips_order = 3\nhips_frame = ecliptic\n")
    with pytest.raises(GeometryError, match="does not describe a HiPS of images.*ecliptic"):
        LocalHips(tmp_path)
    with pytest.raises(ValueError, match="channel must be"):
        LocalHips(folders / "equatorial", channel="pink")


def test_tiles_that_are_pictures_have_channels(folders, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    source = folders / "equatorial"
    text = (source / "properties").read_text().replace("hips_tile_format     = fits", "hips_tile_format = png")
    (tmp_path / "properties").write_text(text)
    fits = LocalHips(source)
    for path in source.glob("Norder*/Dir*/*.fits"):
        values = np.nan_to_num(getdata(path)).clip(0, 255)
        colours = np.stack([values, values / 2, 0 * values, np.full(values.shape, 255)], axis=2).astype(np.uint8)
        target = tmp_path / path.relative_to(source).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours[::-1]).save(target)  # pictures begin with the upper row
    red, green = (LocalHips(tmp_path, channel=name)(MIDDLE, 5 * u.arcmin).data for name in ("red", "green"))
    assert np.abs(red - fits(MIDDLE, 5 * u.arcmin).data).max() <= 1
    assert np.abs(red / 2 - green).max() <= 1
    mean = LocalHips(tmp_path)
    assert mean.coloured and np.abs(mean(MIDDLE, 5 * u.arcmin).data - red / 2).max() <= 1
