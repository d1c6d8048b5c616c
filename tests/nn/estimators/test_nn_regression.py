"""Regression: known targets and known scatter come back; classes are integrals of the normal distribution."""

import json

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyWarning, ModelError, SchemaError
from astroclassify.images import Geometry, write_image
from astroclassify.nn import CutoutRegressor, classes_from, cross_validate, load_classifier, load_regressor, score
from astroclassify.schemes import COOL_CORE, T_COOL_BOUNDS, Flag
from astroclassify.tables import PREDICTIONS

SIDE = 8
GRID = Geometry(1 * u.Mpc, (SIDE, SIDE))


def linear_network(n_bands, n_classes, shape):
    """Linear in the means of the left and the right half: it can represent the toy's truth exactly."""
    import torch

    return torch.nn.Sequential(
        torch.nn.AvgPool2d((shape[0], shape[1] // 2)), torch.nn.Flatten(), torch.nn.Linear(2 * n_bands, n_classes)
    )


def toy(n, seed):
    """Images whose halves have the brightness a and b, with log_t_cool = 0.3 a + 0.2, c_sb = -b, and scatter."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(1, 3, size=(2, n))
    images = np.empty((n, SIDE, SIDE), np.float32)
    images[:, :, : SIDE // 2], images[:, :, SIDE // 2 :] = a[:, None, None], b[:, None, None]
    sigma = np.stack([0.1 * np.exp(a - 2), np.full(n, 0.5)], axis=1)
    truth = np.stack([0.3 * a + 0.2, -b], axis=1)
    return images, truth + sigma * rng.normal(size=(n, 2)), truth, sigma


def regressor(**changes):
    settings = {
        "targets": ("log_t_cool", "c_sb"), "geometry": GRID, "stretch": "linear", "augmentation": (), "epochs": 60,
        "learning_rate": 0.03, "weight_decay": 0.0, "batch_size": 64, "patience": None, "random_state": 1,
        "validation_fraction": 0.2,
    }  # fmt: skip
    return CutoutRegressor(linear_network, **(settings | changes))


@pytest.fixture(scope="module")
def trained():
    pytest.importorskip("torch")
    # With 2000 validation images the factor of the uncertainties is known to 1 / sqrt(4000) = 1.6%.
    return regressor().fit(*toy(1600, 1)[:2], validation=toy(2000, 19)[:2])


@pytest.mark.slow
def test_known_targets_come_back_with_their_scatter(trained):
    images, y, truth, sigma = toy(4000, 2)
    mean, std = trained.predict(images, return_std=True)
    # The best linear estimate from 1600 images is good to sigma / sqrt(1600) x about 2.
    np.testing.assert_array_less(np.sqrt(np.mean((mean - truth) ** 2, axis=0)), 0.1 * sigma.mean(axis=0))
    pulls = (y - mean) / std
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.06)
    np.testing.assert_allclose(pulls.mean(axis=0), 0, atol=0.08)
    # The scatter of the first target grows by exp(2) over the range of its images, that of the second is the same.
    np.testing.assert_allclose(std / sigma, 1, atol=0.2)
    assert np.corrcoef(np.log(std[:, 0]), np.log(sigma[:, 0]))[0, 1] > 0.99
    # scikit-learn's mean over targets, as the history has it.
    assert trained.score(images, y) == pytest.approx(r2_score(y, mean))
    best = [entry for entry in trained.history_ if entry.get("best")][0]
    assert best["validation_r2"] == pytest.approx(trained.score(images, y), abs=0.05)


def test_uncertainties_are_calibrated_on_the_validation_set():
    pytest.importorskip("torch")
    images, y, _, _ = toy(600, 3)
    other, z, truth, sigma = toy(1500, 4)
    wide = truth + 3 * sigma * np.random.default_rng(5).normal(size=truth.shape)
    # Three times the scatter of the training set: what the early, wide epochs do not make up for, the factor does.
    model = regressor(epochs=40, batch_size=32).fit(images, y, validation=(other, wide))
    assert np.all(model.scaling_.sigma_factor > 1.5)
    mean, std = model.predict(other, return_std=True)
    np.testing.assert_allclose(np.sqrt(np.mean(((wide - mean) / std) ** 2, axis=0)), 1, rtol=1e-4)
    alone = regressor(epochs=2, validation_fraction=0).fit(images, y)
    assert np.all(alone.scaling_.sigma_factor == 1)


def test_missing_targets_are_not_learned_from():
    pytest.importorskip("torch")
    images, y, _, _ = toy(1200, 6)
    y[::2, 1] = np.nan
    y[1::4, 0] = np.nan
    y[:30] = np.nan
    with pytest.warns(AstroclassifyWarning, match="30 of 1200 images"):
        model = regressor().fit(images, y)
    new, _, truth, sigma = toy(500, 7)
    mean = model.predict(new)
    np.testing.assert_array_less(np.sqrt(np.mean((mean - truth) ** 2, axis=0)), 0.25 * sigma.mean(axis=0))


def test_table_has_units_and_percentiles(trained):
    images = toy(3, 10)[0]
    table = trained.predict_table(images)
    mean, std = trained.predict(images, return_std=True)
    np.testing.assert_allclose(table["log_t_cool"], mean[:, 0])
    np.testing.assert_allclose(table["t_cool"].to_value(u.Gyr), 10 ** mean[:, 0])
    np.testing.assert_allclose(table["t_cool_lo"].to_value(u.Gyr), 10 ** (mean[:, 0] - std[:, 0]))
    np.testing.assert_allclose(table["t_cool_hi"].to_value(u.Gyr), 10 ** (mean[:, 0] + std[:, 0]))
    np.testing.assert_allclose(table["c_sb_err"], std[:, 1])
    assert table["log_t_cool"].info.description == "log10(t_cool / Gyr)"
    assert table.meta["targets"] == ["log_t_cool", "c_sb"]


def test_rows_that_fail_stay(trained):
    images = toy(2, 11)[0]
    bad = np.full((SIDE, SIDE), np.nan)
    table = trained.predict_table([images[0], bad, images[1]])
    assert table["flags"][1] & Flag.FAILED and np.isnan(table["t_cool"][1]) and "finite" in table["message"][1]
    np.testing.assert_allclose(table["c_sb"][[0, 2]], trained.predict(images)[:, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="finite"):
        trained.predict([bad])
    classes = trained.classify([images[0], bad])
    assert classes["label_pred"][1] == "" and "finite" in classes["message"][1]
    assert len(trained.predict_table(images[:0])) == 0


def test_unfamiliar_images_are_flagged(trained):
    usual, strange = toy(400, 12)[0], 100 * toy(400, 13)[0]
    assert np.mean((trained.predict_table(usual)["flags"] & Flag.UNFAMILIAR) > 0) < 0.05
    assert np.all(trained.predict_table(strange)["flags"] & Flag.UNFAMILIAR)


def test_classes_are_integrals_of_the_normal_distribution():
    rng = np.random.default_rng(14)
    mean, sigma = rng.uniform(-1, 1.5, size=50), rng.uniform(0.05, 0.5, size=50)
    table = QTable({"source_id": np.arange(50).astype(str), "log_t_cool": mean, "log_t_cool_err": sigma})
    predictions = tables.validate(classes_from(table), PREDICTIONS, scheme=COOL_CORE)
    low, high = np.log10(T_COOL_BOUNDS)
    np.testing.assert_allclose(predictions["p_CC"], norm.cdf(low, mean, sigma), atol=1e-12)
    np.testing.assert_allclose(predictions["p_NCC"], norm.sf(high, mean, sigma), atol=1e-12)
    np.testing.assert_allclose(sum(predictions[f"p_{name}"] for name in COOL_CORE.classes), 1)
    # And by sampling, which knows no formula.
    draws = 10 ** rng.normal(mean[0], sigma[0], size=200000)
    assert np.mean((draws >= 1) & (draws <= 7.7)) == pytest.approx(predictions["p_WCC"][0], abs=0.005)


def test_classes_of_linear_times_and_rows_without():
    table = QTable({"source_id": ["a", "b", "c"]})
    table["t_cool"], table["t_cool_err"] = [1000, np.nan, 5] * u.Myr, [0.5, 1, 0] * u.Gyr
    table["flags"], table["label"], table["group_id"] = [0, int(Flag.LOW_COUNTS), 0], ["CC", "NCC", ""], ["x", "y", "z"]
    predictions = classes_from(table)
    assert predictions["p_CC"][0] == pytest.approx(0.5)
    assert predictions["label"].tolist() == ["CC", "NCC", ""] and predictions["group_id"].tolist() == ["x", "y", "z"]
    assert predictions["flags"].tolist() == [0, int(Flag.FAILED | Flag.LOW_COUNTS), int(Flag.FAILED)]
    assert predictions["message"][1] == "no cooling time was predicted"
    table["t_cool"] = [1, 2, 3] * u.kpc
    with pytest.raises(SchemaError, match="unit like Gyr"):
        classes_from(table)
    with pytest.raises(SchemaError, match="must have log_t_cool"):
        classes_from(table["source_id", "flags"])


def test_saved_and_loaded_is_the_same(trained, tmp_path):
    images = toy(50, 15)[0]
    trained.save(tmp_path / "model")
    model = load_regressor(tmp_path / "model")
    np.testing.assert_allclose(model.predict(images, True), trained.predict(images, True), rtol=1e-6)
    assert np.all(model.predict_table(images)["flags"] == trained.predict_table(images)["flags"])
    assert model.targets_ == trained.targets_ and model.history_ == trained.history_
    model.save(tmp_path / "again")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "log10(t_cool / Gyr)" in card


def test_folder_of_another_kind_or_altered(trained, tmp_path):
    with pytest.raises(ModelError, match="use load_classifier"):
        load_regressor("coolcore")
    folder = trained.save(tmp_path / "model")
    with pytest.raises(ModelError):
        load_classifier(folder)
    document = json.loads((folder / "model.json").read_text())
    for change in (
        {"targets": {}},
        {"targets": document["targets"] | {"std": [0.0, 1.0]}},
        {"targets": document["targets"] | {"mean": [0.0]}},
        {"parameters": document["parameters"] | {"targets": ["c_sb"]}},
        {"parameters": document["parameters"] | {"odd": 1}},
    ):
        (folder / "model.json").write_text(json.dumps(document | change))
        with pytest.raises(ModelError, match="usable model"):
            load_regressor(folder)


def test_same_seed_same_numbers_and_resume(tmp_path):
    pytest.importorskip("torch")
    images, y, _, _ = toy(100, 16)
    first = regressor(epochs=3).fit(images, y).predict(images)
    assert np.all(first == regressor(epochs=3).fit(images, y, checkpoint=tmp_path / "state").predict(images))
    assert np.all(first == regressor(epochs=3).fit(images, y, checkpoint=tmp_path / "state").predict(images))
    assert np.any(first != regressor(epochs=3, random_state=2).fit(images, y).predict(images))


def test_groups_stay_together_and_single_targets():
    pytest.importorskip("torch")
    images, y, _, _ = toy(90, 17)
    groups = np.repeat(np.arange(30), 3)
    model = regressor(targets=("c_sb",), epochs=2).fit(images, y[:, 1], groups=groups)
    assert model.training_["n_groups"] * 3 == model.training_["n_images"]
    assert model.training_["n_validation"] % 3 == 0
    assert model.predict(images).shape == (90,)
    assert model.training_["target_ranges"]["c_sb"][0] >= y[:, 1].min()
    with pytest.raises(SchemaError, match="log_t_cool"):
        model.classify(images)


def test_scikit_learn_contract():
    model = regressor(epochs=7)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        model.predict(toy(2, 0)[0])


@pytest.mark.parametrize(
    ("changes", "y", "match"),
    [
        ({"targets": "c_sb"}, None, "targets must be"),
        ({"targets": ()}, None, "targets must be 1 to 16"),
        ({"targets": ("t_cool", "log_t_cool")}, None, "different columns"),
        ({"targets": ("log_",)}, None, "targets must be"),
        ({"epochs": 0}, None, "epochs must be"),
        ({}, np.zeros((20, 2)), "two different values"),
        ({}, np.zeros((20, 3)), "shape"),
        ({}, np.zeros((19, 2)), "one row per image"),
        ({}, np.full((20, 2), np.nan), "labelled image|at least one"),
    ],
)
def test_bad_arguments(changes, y, match):
    pytest.importorskip("torch")
    images, good, _, _ = toy(20, 18)
    with pytest.raises(ValueError, match=match):
        regressor(**changes).fit(images, good if y is None else y)


@pytest.fixture
def sample(tmp_path):
    """Sample folder of 45 images of 15 clusters whose brightness on the left is 1 to 3, and so is 10 ** log_t_cool."""
    rng = np.random.default_rng(20)
    side = GRID.pixel_width(0.05).to_value(u.deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [10, 20], [-side, side]
    wcs.wcs.crpix = [(SIDE + 1) / 2] * 2
    brightness = np.repeat(np.geomspace(0.5, 20, 15), 3)
    (tmp_path / "images").mkdir()
    for index, value in enumerate(brightness):
        meta = {"REDSHIFT": 0.05, "TELESCOP": "CHANDRA", "INSTRUME": "ACIS-I", "EXPOSURE": 1e5}
        data = rng.poisson(100 * value, size=(SIDE, SIDE)).astype(float)
        write_image(CCDData(data, unit="ct", wcs=wcs, meta=meta), tmp_path / "images" / f"s{index}.fits")
    labels = np.array(COOL_CORE.classes)[np.digitize(brightness, T_COOL_BOUNDS)]
    table = QTable({"source_id": [f"s{i}" for i in range(45)], "group_id": [f"g{i // 3}" for i in range(45)]})
    table["path"], table["label"] = [f"images/s{i}.fits" for i in range(45)], labels
    table["projection"], table["redshift"] = "x", 0.05
    table["m_500"], table["r_500"] = 1e14 * u.Msun, 700 * u.kpc
    table["t_cool"], table["n_e"], table["c_sb"], table["flags"] = brightness * u.Gyr, 0.01 * u.cm**-3, 0.1, 0
    tables.write_sample(table, tmp_path)
    return tables.read_sample(tmp_path)


def test_sample_to_out_of_fold_classes(sample):
    pytest.importorskip("torch")
    model = regressor(targets=("log_t_cool",), stretch="log", epochs=60, batch_size=16, validation_fraction=0.0)
    predictions = cross_validate(sample, model, n_folds=3, rng=2)
    assert np.all(predictions["label"] == sample["label"])
    assert np.all(predictions["flags"] & Flag.FAILED == 0)
    assert score(predictions, n_bootstrap=0)["f1"][-1] > 0.8
    table = model.fit(sample).predict_table(sample)
    assert table["group_id"].tolist() == sample["group_id"].tolist()
    ratio = np.log10(table["t_cool"] / sample["t_cool"])
    assert np.sqrt(np.mean(ratio**2)) < 0.2
    assert model.training_["instruments"] == [["CHANDRA", "ACIS-I"]]


def test_targets_of_a_sample(sample):
    """Units are converted; what has no finite value, or no logarithm, is not learned from."""
    pytest.importorskip("torch")
    table = sample[:3]
    table["t_cool"], table["n_e"], table["mine"] = [1e3, -1, 100] * u.Myr, [1e4, 2e4, np.nan] * u.m**-3, [1, 10, np.inf]
    model = regressor(targets=("log_t_cool", "n_e", "log_mine"), epochs=1, validation_fraction=0)
    training = model.fit(table).training_
    assert [target.unit for target in model.targets_] == ["Gyr", (u.cm**-3).to_string(), ""]
    ranges = training["target_ranges"]
    np.testing.assert_allclose([ranges[name] for name in model.targets], [[-1, 0], [0.01, 0.02], [0, 1]], atol=1e-12)
    table["n_e"] = [1, 2, 3] * u.kpc
    with pytest.raises(SchemaError, match="unit"):
        model.fit(table)
    table.remove_column("n_e")
    with pytest.raises(SchemaError, match="must have a column 'n_e'"):
        model.fit(table)
    with pytest.raises(ValueError, match="y must hold"):
        model.fit(toy(3, 0)[0])
