"""Dead columns of EPIC pn where no exposure map is given: those put in are found, no others; those of real images."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify.fields._chips import detector_frame
from astroclassify.fields._columns import line_response
from astroclassify.survey import read_field

SIDE, PIXEL = 400, 4.0  # of the images made here; arcsec
FLAT = 6.0  # counts per pixel
# Columns: start and width along the rows of pixels [pixel], half of the camera, response.
COLUMNS = [(-90.3, 3.1, -1, 0.0), (40.2, 3.1, -1, 0.5), (-60.4, 3.1, 1, 0.5), (71.0, 2.2, 1, 0.0)]


def made(angle, columns=(), rng=1, bright=0.0, **meta):
    """Image of a field with a cluster and point sources, of the columns' responses, and places in the chips' frame."""
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": (SIDE + 1) / 2, "CRPIX2": (SIDE + 1) / 2}
    header |= {"CRVAL1": 55.7, "CRVAL2": -3.6, "CDELT1": -PIXEL / 3600, "CDELT2": PIXEL / 3600}
    wcs = WCS(header)
    axis = SkyCoord(55.7, -3.6, unit="deg")
    across, along, _ = detector_frame(wcs, axis, (SIDE, SIDE), PIXEL, angle)
    response = np.ones((SIDE, SIDE))
    for start, width, half, level in columns:
        response[(across >= start) & (across < start + width) & (along * half > 0)] = level
    rng = np.random.default_rng(rng)
    y, x = np.indices(response.shape)
    light = np.full(response.shape, FLAT)
    light += bright / (1 + ((x - 250) ** 2 + (y - 230) ** 2) / 15**2) ** 1.5
    for x0, y0 in rng.uniform(0, SIDE, (60, 2)):
        light += 80 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / 1.5**2)
    keys = {"INSTRUME": "EPN", "TELESCOP": "XMM", "RA_PNT": 55.7, "DEC_PNT": -3.6, "PA_PNT": angle, "EXPOSURE": 3e4}
    image = CCDData(rng.poisson(light * response), unit=u.ct, wcs=wcs, meta=keys | meta)
    return image, response, across, along


@pytest.mark.parametrize("angle", [0.0, 37.0])
@pytest.mark.parametrize("bright", [0.0, 100.0])
def test_columns_put_in_are_found_and_no_others(angle, bright):
    image, _, across, along = made(angle, COLUMNS, bright=bright)
    found = line_response(image.data, np.ones((SIDE, SIDE)), across, along)
    beside = np.zeros(found.shape, bool)
    for start, width, half, level in COLUMNS:
        offset = np.abs(across - start - width / 2) - width / 2
        inside = (offset < -0.6) & (along * half > 0)
        assert found[inside].mean() == pytest.approx(level, abs=0.05)
        assert found[inside].std() < 0.06
        beside |= (offset < 1) & (along * half > 0)
    # Nothing else is touched, whatever sources there are.
    np.testing.assert_array_equal(found[~beside], 1)


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
def test_no_columns_are_found_where_there_are_none(share):
    for seed in range(5):
        image, _, across, along = made(37.0 * seed, rng=seed, bright=30.0)
        counts = np.random.default_rng(seed).binomial(image.data.astype(int), share)
        exposure = np.hypot(across, along) < 190
        np.testing.assert_array_equal(line_response(counts * exposure, exposure.astype(float), across, along), 1)


def test_mask_along_a_column_is_not_one_that_is_dead():
    image, _, across, along = made(37.0)
    mask = (across > 30) & (across < 34) & (along > 20)
    exposure, masked = (read_field(image, mask=each).exposure for each in (None, mask))
    np.testing.assert_allclose(masked[~mask], exposure[~mask])


@pytest.mark.parametrize(
    ("change", "dead"),
    [({}, True), ({"PA_PNT": None}, False), ({"INSTRUME": "EMOS1"}, False), ({"SUBMODE": "PrimeSmallWindow"}, False)],
)
def test_fields_have_them_where_the_chips_are_known(change, dead):
    image, response, *_ = made(37.0, COLUMNS)
    image.meta.update(change)
    exposure = read_field(image).exposure
    assert (np.mean(exposure[response == 0] > 0) < 0.2) == dead
    given = read_field(image, exposure=30 * u.ks).exposure
    assert set(np.unique(given)) <= {0.0, 3e4}  # one time, for the field of view


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "columns", "upper"),
    [
        ("M87_Virgo_83.69ks", (181, 272, 290, 324, 370), True),
        ("M87_Virgo_83.69ks", (94, 152, 236), False),
        ("NGC1399_Fornax_119.48ks", (94, 152, 191, 236), False),
        ("A3667_20ks", (181, 272, 290), True),
        ("A3667_20ks", (94, 130, 152, 191, 196, 236), False),
    ],
)
def test_dead_columns_of_real_images(shared_data, name, columns, upper):
    field = read_field(shared_data / "xmm" / "real" / f"{name}.fits.gz")
    rows = slice(210, 340) if upper else slice(60, 200)
    dead = np.all(field.exposure[rows] == 0, axis=0)
    for column in columns:
        assert dead[column]
        assert not dead[column - 8 : column + 9].all()
    # The middles of all chips are seen: nothing but columns and gaps between chips is taken away.
    assert dead.mean() < 0.12
    # Of what is left no column has less counts than its exposure says.
    counts, exposure = (image[rows][:, 20:380].sum(axis=0) for image in (field.counts, field.exposure))
    rate = counts[exposure > 0] / exposure[exposure > 0]
    neighbours = np.array([np.median(rate[max(i - 8, 0) : i + 9]) for i in range(len(rate))])
    assert np.all(rate > np.minimum(0.9, 1 - 6 / np.sqrt(np.median(counts))) * neighbours)
