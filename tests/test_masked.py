"""Masked values and units of astropy where plain numbers are wanted: taken for what they are, or refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError, check_quantity
from astroclassify.images import Geometry, as_image, standardise
from astroclassify.nn import load_classifier
from astroclassify.sim import classify_t_cool

GRID = Geometry(5 * u.arcmin, (16, 16))


def image(**meta):
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.5, "CRPIX2": 20.5, "CRVAL1": 55.7}
    wcs = WCS({**header, "CRVAL2": -53.6, "CDELT1": -0.0028, "CDELT2": 0.0028})
    counts = np.random.default_rng(1).poisson(5.0, (40, 40)).astype(float)
    return CCDData(counts, unit=u.ct, wcs=wcs, meta=meta)


def test_masked_arguments_are_no_numbers():
    with pytest.raises(ValueError, match="width must not be masked"):
        check_quantity("width", Masked([1, 2] * u.Mpc, mask=[True, False]), u.kpc)
    width = check_quantity("width", Masked([1, 2] * u.Mpc, mask=[False, False]), u.kpc)
    assert type(width) is np.ndarray and width.tolist() == [1000, 2000]
    for redshift in (Masked(0.06, mask=True), np.ma.masked):
        with pytest.raises(GeometryError, match="redshift must not be masked"):
            standardise(image(), Geometry(300 * u.kpc, (16, 16)), redshift=redshift)


def test_a_centre_that_is_no_position_is_refused():
    masked = SkyCoord(Masked([55.7] * u.deg, mask=[True]), Masked([-53.6] * u.deg, mask=[True]))[0]
    for centre in (SkyCoord(np.nan, np.nan, unit="deg"), masked):
        with pytest.raises(GeometryError, match="centre must be a position"):
            standardise(image(), GRID, centre=centre)


@pytest.mark.parametrize("kind", ["quantity", "masked array", "masked quantity"])
def test_exposure_maps_with_units_and_masks(kind):
    seconds, hole = np.full((40, 40), 1e4), np.zeros((40, 40), bool)
    hole[:20] = kind != "quantity"
    exposure = {
        "quantity": 10 * np.ones((40, 40)) * u.ks,
        "masked array": np.ma.array(seconds, mask=hole),
        "masked quantity": Masked(seconds / 1000 * u.ks, mask=hole),
    }[kind]
    found = as_image(image(exposure_map=exposure)).meta["exposure_map"]
    assert type(found) is np.ndarray and np.array_equal(found, np.where(hole, 0, 1e4))
    with pytest.raises(GeometryError, match="exposure_map must be in seconds, got cm2 s"):
        as_image(image(exposure_map=seconds * u.cm**2 * u.s))


def test_masked_cooling_times_have_no_class():
    assert classify_t_cool(Masked([0.3, 0.3] * u.Gyr, mask=[True, False])).tolist() == ["", "CC"]
    assert classify_t_cool(Masked(0.3 * u.Gyr, mask=True)) == ""


def test_arrays_of_a_classifier_are_counts_without_gaps():
    classifier = load_classifier("coolcore-embedded")
    counts = np.random.default_rng(1).poisson(5.0, (1, *classifier.geometry.shape)).astype(float)
    p = classifier.classify(counts)["p_CC"]
    assert np.array_equal(classifier.classify(counts * u.ct)["p_CC"], p)
    with pytest.raises(GeometryError, match="must be in counts .unit ct., got ct / s"):
        classifier.classify(counts * u.ct / u.s)
    for mask in (np.ma.array(counts, mask=counts > 8), Masked(counts, mask=counts > 8)):
        with pytest.raises(GeometryError, match="images must be an array without masked pixels"):
            classifier.classify(mask)
