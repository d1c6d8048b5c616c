"""Masked values and units of astropy where plain numbers are wanted: taken for what they are, or refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError
from astroclassify.images import Geometry, as_image, concentration, read_image, standardise, write_image
from astroclassify.morphology import scaled_concentration
from astroclassify.nn import CutoutClassifier, CutoutRegressor, expected_calibration_error, load_classifier, score
from astroclassify.sim import classify_t_cool

GRID = Geometry(5 * u.arcmin, (16, 16))


def image(**meta):
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20.5, "CRPIX2": 20.5, "CRVAL1": 55.7}
    wcs = WCS({**header, "CRVAL2": -53.6, "CDELT1": -0.0028, "CDELT2": 0.0028})
    counts = np.random.default_rng(1).poisson(5.0, (40, 40)).astype(float)
    return CCDData(counts, unit=u.ct, wcs=wcs, meta=meta)


def test_masked_arguments_are_no_numbers():
    with pytest.raises(ValueError, match="width must not be masked"):
        Geometry(Masked(1 * u.Mpc, mask=True))
    wide = Geometry(Masked(1 * u.Mpc, mask=False))
    assert wide.pixel_width(0.06) == Geometry(1 * u.Mpc).pixel_width(0.06)
    for redshift in (Masked(0.06, mask=True), np.ma.masked):
        with pytest.raises(GeometryError, match="redshift must not be masked"):
            standardise(image(), Geometry(300 * u.kpc, (16, 16)), redshift=redshift)


def test_a_centre_that_is_no_position_is_refused():
    masked = SkyCoord(Masked([55.7] * u.deg, mask=[True]), Masked([-53.6] * u.deg, mask=[True]))[0]
    for centre in (SkyCoord(np.nan, np.nan, unit="deg"), masked):
        with pytest.raises(GeometryError, match="centre must be a finite position"):
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
    found = as_image(image(exposure_map=exposure)).exposure
    assert type(found) is np.ndarray and np.array_equal(found, np.where(hole, 0, 1e4))
    with pytest.raises(GeometryError, match="exposure must be in s, got cm2 s"):
        as_image(image(exposure_map=seconds * u.cm**2 * u.s))


def test_masked_cooling_times_have_no_class():
    assert classify_t_cool(Masked([0.3, 0.3] * u.Gyr, mask=[True, False])).tolist() == ["", "CC"]
    assert classify_t_cool(Masked(0.3 * u.Gyr, mask=True)) == ""


def test_arrays_of_a_classifier_are_counts_without_gaps():
    classifier = load_classifier("coolcore")
    counts = np.random.default_rng(1).poisson(5.0, (1, *classifier.geometry.shape)).astype(float)
    p = classifier.classify(counts)["p_CC"]
    assert np.array_equal(classifier.classify(counts * u.ct)["p_CC"], p)
    with pytest.raises(GeometryError, match="must be in counts .unit ct., got ct / s"):
        classifier.classify(counts * u.ct / u.s)
    for mask in (np.ma.array(counts, mask=counts > 8), Masked(counts, mask=counts > 8)):
        with pytest.raises(GeometryError, match="images must be an array without masked pixels"):
            classifier.classify(mask)


def test_exposure_maps_are_written_in_seconds(tmp_path):
    path = write_image(image(exposure_map=10 * np.ones((40, 40)) * u.ks), tmp_path / "a.fits")
    assert np.all(read_image(path).exposure == 1e4)
    with pytest.raises(FileNotFoundError, match="none.fits"):
        read_image(path, exposure=tmp_path / "none.fits")


def test_a_masked_core_has_no_concentration():
    y, x = np.indices((200, 200)) - 99.5
    wcs = image().wcs.deepcopy()
    wcs.wcs.crpix = [100.5, 100.5]
    counts = np.random.default_rng(2).poisson(200 * (1 + (x**2 + y**2) / 64) ** -1.5 + 1.0).astype(float)
    centre, r_500 = SkyCoord(55.7, -53.6, unit="deg"), 80 * 0.0028 * u.deg
    whole = CCDData(counts, unit=u.ct, wcs=wcs)
    assert 0.2 < scaled_concentration(whole, r_500=r_500, centre=centre) < 0.6
    whole.mask = np.hypot(x, y) < 12
    with pytest.raises(GeometryError, match="the core, within 0.15 R500 of the centre, is masked or not exposed"):
        scaled_concentration(whole, r_500=r_500, centre=centre)
    masked = SkyCoord(Masked([55.7] * u.deg, mask=[True]), Masked([-53.6] * u.deg, mask=[True]))[0]
    with pytest.raises(GeometryError, match="centre must be a finite position"):
        scaled_concentration(whole, r_500=r_500, centre=masked)


def test_where_there_is_no_exposure_there_is_no_background():
    counts, exposed = np.full((40, 40), 5.0), np.ones((40, 40))
    exposed[:, :10] = 0
    counts[:, :10] = 0
    flat = CCDData(counts, unit=u.ct, wcs=image().wcs, meta={"exposure_map": exposed})
    masked = CCDData(counts, unit=u.ct, wcs=image().wcs, mask=exposed == 0)
    radii = {"redshift": 0.05, "inner": 60 * u.kpc, "outer": 190 * u.kpc, "background": 2.0}
    assert concentration(flat, **radii) == concentration(masked, **radii)


def test_scores_of_rows_without_a_group():
    table = QTable({"source_id": [f"s{k}" for k in range(12)], "label": ["CC", "NCC"] * 6, "label_pred": ["CC"] * 12})
    for name in ("CC", "WCC", "NCC"):
        table[f"p_{name}"] = 1.0 * (name == "CC")
    table["flags"] = 0
    table["group_id"] = ["a", "a"] + [""] * 10
    assert score(table, scheme="cool-core", n_bootstrap=10).meta["n_groups"] == 11
    table["group_id"] = MaskedColumn(["a", "a"] + ["b"] * 10, mask=[False] * 2 + [True] * 10)
    assert score(table, scheme="cool-core", n_bootstrap=10).meta["n_groups"] == 11
    table["p_CC"] = 100.0
    with pytest.raises(ValueError, match="probabilities of predictions must"):
        expected_calibration_error(table, scheme="cool-core")


def test_masked_labels_targets_and_weights_are_not_learned():
    pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    images, bad = rng.poisson(2.0, (24, 32, 32)).astype(float), np.arange(24) >= 18
    small = {"geometry": Geometry(1 * u.Mpc, (32, 32)), "n_filters": 2, "epochs": 1, "validation_fraction": 0}
    labels = MaskedColumn(np.array(["CC", "WCC", "NCC"])[np.arange(24) % 3], mask=bad)
    with pytest.warns(UserWarning, match="6 of 24 images"):
        assert CutoutClassifier(**small).fit(images, labels).training_["n_images"] == 18
    targets = np.ma.array(np.where(bad, 1e20, rng.normal(size=24)), mask=bad)
    with pytest.warns(UserWarning, match="6 of 24 images"):
        assert CutoutRegressor(targets=("c_sb",), **small).fit(images, targets).training_["n_images"] == 18
    with pytest.raises(ValueError, match="sample_weight"):
        CutoutClassifier(**small).fit(images, labels.data.data, sample_weight=np.ma.array(np.ones(24), mask=bad))
    classifier = load_classifier("coolcore")
    array = np.ma.array(np.ones(classifier.geometry.shape), mask=np.eye(classifier.geometry.shape[0], dtype=bool))
    assert "without masked pixels" in classifier.classify([array])["message"][0]
