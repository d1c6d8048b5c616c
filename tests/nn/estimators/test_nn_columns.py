"""Numbers of the catalogue beside an image, bands that are absent, and classifiers on the catalogue alone."""

import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable, Table
from astropy.wcs import WCS
from sklearn.ensemble import HistGradientBoostingClassifier

from astroclassify.exceptions import GeometryError, SchemaError
from astroclassify.images import Cutout, Geometry
from astroclassify.nn import CatalogueClassifier, CutoutClassifier, load_classifier, occlusion_map, score
from astroclassify.schemes import Flag, flag_names

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

N, SIZE, PIXEL = 40, 32, 8.0
GRID = Geometry(SIZE * PIXEL * u.arcsec, (SIZE, SIZE))
COLUMNS = ("ext", "ext_like", "exposure")
NO_PLATE = 4  # rows that have none


def sky():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150, 2]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-PIXEL / 3600, PIXEL / 3600], [(SIZE + 1) / 2] * 2
    return wcs


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Wide and narrow sources, the first rows without a plate; EXT tells the classes, EXT_LIKE does not."""
    folder, rng = tmp_path_factory.mktemp("candidates"), np.random.default_rng(0)
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    names, is_cluster = [f"s{number}" for number in range(N)], np.arange(N) % 2 == 0
    for number, name in enumerate(names):
        counts = rng.poisson(1 + 6 * np.exp(-(x**2 + y**2) / (2 * (6 if is_cluster[number] else 2) ** 2)))
        meta = {"TELESCOP": "XMM", "INSTRUME": "EPN", "EXPOSURE": 1e4}
        bands = {"xray": CCDData(counts.astype(float), unit="ct", wcs=sky(), meta=meta)}
        if number >= NO_PLATE:
            bands["optical"] = CCDData(rng.normal(100, 10, (SIZE, SIZE)), unit="adu", wcs=sky())
        Cutout(name, bands).write(folder / f"{name}.fits")
    table = QTable({"source_id": names, "path": [str(folder / f"{name}.fits") for name in names]})
    table["label"] = np.where(is_cluster, "cluster", "other")
    table["ext"] = np.where(is_cluster, 20, 4) * rng.lognormal(0, 0.3, N) * u.arcsec
    table["ext_like"], table["exposure"] = rng.lognormal(3, 1, N), np.where(np.arange(N) % 4 < 2, 10, 20) * u.ks
    return table


def small(architecture="attention", **changes):
    settings = {
        "scheme": "cluster", "geometry": GRID, "bands": ("xray", "optical"), "columns": COLUMNS, "n_filters": 4,
        "epochs": 2, "batch_size": 16, "augmentation": ("flip", "blank"), "random_state": 1, "device": "cpu",
    }  # fmt: skip
    return CutoutClassifier(architecture, **{**settings, **changes})


@pytest.fixture(scope="module")
def fitted(sample):
    return small().fit(sample)


def masked(sample, row):
    """The table of another reader: arcmin in place of arcsec, one EXT masked."""
    table = Table(sample, copy=True)
    table["ext"] = MaskedColumn(sample["ext"].to_value(u.arcmin), unit="arcmin", mask=np.arange(N) == row)
    return table


def test_numbers_are_brought_to_the_scale_of_training(fitted, sample):
    rule = fitted.predictor_.preprocessing.columns
    assert rule.units == ("arcsec", "", "s")
    ext = sample["ext"].to_value(u.arcsec)
    scale = np.percentile(ext, 10)
    bent = np.arcsinh(ext / scale)
    wanted = (bent - bent.mean()) / bent.std()
    trained = fitted.training_["n_images"]
    assert trained < N  # some are kept for validation, so the scale is not quite that of all
    planes = fitted.predictor_.preprocessing(
        np.stack([fitted.predictor_.load(item)[0] for item in fitted.predictor_.items(sample)[0]])
    )
    assert planes.shape == (N, 5, SIZE, SIZE)
    assert np.allclose(planes[:, 2, 0, 0], wanted, atol=0.4)
    assert np.all(planes[:, 2:] == planes[:, 2:, :1, :1])


@pytest.mark.parametrize("architecture", ["attention", "kosiba2020"])
def test_saved_models_answer_alike_without_torch(architecture, sample, tmp_path, monkeypatch):
    model = small(architecture).fit(sample)
    wanted = model.classify(sample)
    folder = model.save(tmp_path / "model")
    for name in ("torch", "safetensors"):
        monkeypatch.setitem(sys.modules, name, None)
    loaded = load_classifier(folder)
    found = loaded.classify(sample)
    assert loaded.columns == COLUMNS
    assert np.array_equal(wanted["p_cluster"], found["p_cluster"])
    assert not np.array_equal(found["p_cluster"], loaded.classify(masked(sample, 0))["p_cluster"])
    shuffled = loaded.classify(sample[::-1])
    assert np.allclose(shuffled["p_cluster"][::-1], found["p_cluster"], atol=1e-6)


def test_logits_are_those_of_the_image_and_of_the_numbers(fitted, sample):
    network = fitted.build_network()
    assert {name.split(".")[0] for name, _ in network.named_parameters()} >= {"columns", "stem", "fc"}
    planes = torch.randn(3, 5, SIZE, SIZE)
    planes[:, 2:] = planes[:, 2:, :1, :1]
    other = planes.clone()
    other[:, 2:] = 0
    with torch.no_grad():
        assert torch.allclose(network(planes) - network(other), network.columns(planes[:, 2:, 0, 0])
                              - network.columns(other[:, 2:, 0, 0]), atol=1e-5)  # fmt: skip


def test_maps_stay_exact(fitted, sample):
    image = fitted.activation_map(sample["path"][9], "cluster", columns=sample[9:10])
    other = fitted.activation_map(sample["path"][9], "cluster", columns=sample[8:9])
    assert image.meta["METHOD"] == "exact"
    assert np.allclose(image.data, other.data, atol=1e-6)
    assert image.meta["LOGIT"] != other.meta["LOGIT"]
    assert occlusion_map(fitted, sample["path"][9], "cluster", columns=sample[9:10]).shape == (8, 8)


def test_a_missing_number_counts_as_the_mean(fitted, sample):
    found = fitted.classify(masked(sample, 7))
    assert "missing_value" in flag_names(found["flags"][7])
    assert found["message"][7] == "no ext: the mean of the training images is taken"
    assert not np.any(found["flags"][8:] & Flag.MISSING_VALUE)
    assert np.all(np.isfinite(found["p_cluster"]))
    rule = fitted.predictor_.preprocessing.columns
    mean = sample.copy()
    mean["ext"][7] = np.sinh(rule.mean[0]) * rule.scale[0] * u.arcsec
    assert np.allclose(fitted.classify(mean)["p_cluster"], found["p_cluster"], atol=1e-5)


def test_images_without_a_table_count_as_the_mean_candidate(fitted, sample):
    """But for the exposure, which comes with the image; an array has none."""
    missing, ten = Flag.MISSING_VALUE.value, sample[NO_PLATE : NO_PLATE + 2]  # of 10 and 20 ks by the table
    alone, without = fitted.classify(ten["path"].tolist()), fitted.classify(ten["source_id", "path", "ext_like"])
    assert np.all(alone["flags"] & missing) and np.all(without["flags"] & missing)
    assert set(alone["message"]) == {"no ext, ext_like: the mean of the training images is taken"}
    assert set(without["message"]) == {"no ext: the mean of the training images is taken"}
    table = ten.copy()
    table["ext"], table["ext_like"], table["exposure"] = [np.nan] * 2 * u.arcsec, np.nan, [10, 10] * u.ks
    assert np.allclose(fitted.classify(table)["p_cluster"], alone["p_cluster"], atol=1e-6)
    array = np.stack([Cutout.read(ten["path"][0]).bands[band].data for band in ("xray", "optical")])
    assert "no ext, ext_like, exposure:" in fitted.classify([array])["message"][0]


def test_numbers_are_asked_for(fitted, sample):
    with pytest.raises(SchemaError, match="X must be a table with the columns .*ext.* beside"):
        small().fit(sample["path"].tolist(), sample["label"].tolist())
    some = fitted.classify(sample["path"].tolist(), columns=sample["source_id", "ext_like"])
    assert np.all(some["flags"] & Flag.MISSING_VALUE) and some["message"][-1].startswith("no ext: the mean")
    with pytest.raises(SchemaError, match="one row per image"):
        fitted.classify(sample["path"].tolist(), columns=sample[:3])
    with pytest.raises(SchemaError, match="'ext' of images must have a unit like arcsec"):
        wrong = sample.copy()
        wrong["ext"] = sample["ext"].value * u.s
        fitted.classify(wrong)
    table = fitted.classify(sample["path"].tolist(), columns=sample)
    assert np.array_equal(table["p_cluster"], fitted.classify(sample)["p_cluster"])
    with pytest.raises(SchemaError, match="this one does not"):
        small(columns=(), epochs=1).fit(sample).classify(sample, columns=sample)


def test_columns_are_checked(sample):
    with pytest.raises(ValueError, match="'thin'"):
        small(augmentation=("thin",)).fit(sample)
    with pytest.raises(ValueError, match="different names"):
        small(columns=("ext", "ext")).fit(sample)
    with pytest.raises(ValueError, match="'ext_like' has no finite value"):
        blank = sample.copy()
        blank["ext_like"] = np.nan
        small().fit(blank)


def test_a_candidate_without_a_plate_is_judged_by_xrays(fitted, sample):
    found = fitted.classify(sample)
    assert np.all(np.isfinite(found["p_cluster"]))
    assert np.array_equal(found["flags"] & Flag.NO_OPTICAL != 0, np.arange(N) < NO_PLATE)
    assert found["message"][0] == "no optical image: judged by xray alone"
    cutout = Cutout.read(sample["path"][10])
    plain, flat = cutout.bands["xray"], cutout.bands["optical"].copy()
    flat.data[:] = 7
    array = np.stack([plain.data, np.full((SIZE, SIZE), np.nan)])
    forms = [Cutout("a", {"xray": plain}), plain, Cutout("b", {"xray": plain, "optical": flat}), array]
    answers = fitted.classify(forms, columns=sample[[10] * len(forms)])
    assert np.all(answers["flags"] & Flag.NO_OPTICAL)
    assert np.allclose(answers["p_cluster"], answers["p_cluster"][0], atol=1e-6)
    assert abs(answers["p_cluster"][0] - found["p_cluster"][10]) > 1e-6


@pytest.mark.parametrize("kind", ["nan", "masked"])
def test_a_plate_without_a_valid_pixel_is_none(kind, fitted, sample, tmp_path):
    """As other programs write it: this package's cutouts have no such band."""
    without, plate = Cutout.read(sample["path"][10]), tmp_path / "plate.fits"
    if kind == "masked":
        without.bands["optical"].mask = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) == 0
    without.write(plate)
    with fits.open(plate) as hdus:
        changed = "OPTICAL" if kind == "nan" else "OPTICAL_MASK"
        content = np.full((SIZE, SIZE), np.nan) if kind == "nan" else np.ones((SIZE, SIZE), np.uint8)
        plain = [fits.ImageHDU(content if hdu.name == changed else hdu.data, hdu.header) for hdu in hdus[1:]]
        fits.HDUList([hdus[0], *plain]).writeto(tmp_path / "blank.fits")
    assert list(Cutout.read(tmp_path / "blank.fits").bands) == ["xray"]
    forms = [tmp_path / "blank.fits", without.bands["xray"]]
    answers = fitted.classify(forms, columns=sample[[10, 10]])
    assert np.all(answers["flags"] & Flag.NO_OPTICAL)
    assert answers["p_cluster"][0] == pytest.approx(answers["p_cluster"][1], abs=1e-6)


def test_without_training_for_it_a_plate_is_needed(sample):
    model = small(columns=(), augmentation=("flip",))
    with pytest.warns(UserWarning, match="4 of 40 images of X were left out"):
        model.fit(sample)
    found = model.classify(sample[:6])
    assert np.array_equal(found["flags"] & Flag.FAILED != 0, np.arange(6) < NO_PLATE)
    assert "must have the bands" in found["message"][0]
    with pytest.raises(GeometryError, match="must have the bands"):
        model.classify(sample["path"][0])


def test_trees_are_those_of_scikit_learn(sample):
    model = CatalogueClassifier(("ext", "ext_like"), scheme="cluster", class_weight=None, random_state=3).fit(sample)
    values = np.stack([sample["ext"].to_value(u.arcsec), sample["ext_like"]], axis=1)
    peer = HistGradientBoostingClassifier(random_state=3).fit(values, sample["label"])
    assert np.allclose(model.predict_proba(sample), peer.predict_proba(values))
    assert model.predict(sample).tolist() == peer.predict(values).tolist()
    found = model.classify(masked(sample, 7))
    assert found["message"][7] == "no ext" and np.isfinite(found["p_cluster"][7])
    assert np.allclose(found["p_cluster"][8:], model.predict_proba(sample)[8:, 0])


def test_one_column_ranks_as_it_does_itself(sample):
    model = CatalogueClassifier(("ext_like",), method="logistic", scheme="cluster").fit(sample)
    found = model.classify(sample)
    order = np.argsort(sample["ext_like"])
    steps = np.diff(found["p_cluster"][order])
    assert np.all(steps > 0) or np.all(steps < 0)
    assert found.meta["class_fractions"] == [0.5, 0.5]


def test_catalogue_classifiers_name_what_is_wrong(sample):
    with pytest.raises(SchemaError, match="lacks"):
        CatalogueClassifier(("rate",), scheme="cluster").fit(sample)
    with pytest.raises(ValueError, match="method"):
        CatalogueClassifier(("ext",), method="forest", scheme="cluster").fit(sample)
    with pytest.raises(ValueError, match="at least two classes"):
        CatalogueClassifier(("ext",), scheme="cluster").fit(sample[::2])


def test_numbers_help_where_images_say_nothing(sample):
    mixed = sample.copy()
    mixed["path"] = np.random.default_rng(5).permutation(sample["path"])
    scores = {}
    for columns in ((), ("ext",)):
        model = small(epochs=8, learning_rate=0.01, validation_fraction=0, columns=columns).fit(mixed[:30])
        scores[columns] = score(model.classify(mixed[30:]), n_bootstrap=0, scheme="cluster")["auc"][0]
    assert scores[("ext",)] > 0.9 > scores[()]


def test_a_plate_of_another_unit_exposure_and_sky_is_the_same_plate(sample, tmp_path):
    """Densities of a plate or counts of a CCD: what matters stands above the sky in units of its noise."""
    table, other = sample[NO_PLATE:], []
    for row in table:
        cutout = Cutout.read(row["path"])
        plate = cutout.bands["optical"]
        plate = CCDData(0.02 * plate.data - 1, unit="electron", wcs=plate.wcs)
        other.append(Cutout(cutout.source_id, {"xray": cutout.bands["xray"], "optical": plate}))
    for stretch in ("log", "sqrt"):
        model = small(stretch=stretch, columns=()).fit(table)
        model.save(tmp_path / stretch)
        answers = load_classifier(tmp_path / stretch).classify(other)
        assert np.allclose(answers["p_cluster"], model.classify(table)["p_cluster"], atol=1e-4)
    # pictures are taken as they are
    model = small(stretch="linear", columns=(), count_bands=(), augmentation=()).fit(table)
    assert not np.allclose(model.classify(other)["p_cluster"], model.classify(table)["p_cluster"], atol=1e-4)
