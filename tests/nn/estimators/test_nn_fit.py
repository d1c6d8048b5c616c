"""What can be handed to ``fit``: soft labels, weights, checkpoints, weights to start from; recipes and calibration."""

import json
import sys
import types

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from scipy.special import log_softmax, softmax
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from astroclassify.exceptions import ModelError
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, load_classifier
from astroclassify.schemes import CANDIDATE, CLUSTER, Flag

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
safetensors = pytest.importorskip("safetensors.numpy")

SIZE = 32
GRID = Geometry(1 * u.Mpc, (SIZE, SIZE))
LABELS = ("CC", "WCC", "NCC")


def toy(n, seed):
    """Beta models of three core radii, 2000 counts, Poisson noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    models = [(1 + (x**2 + y**2) / radius**2) ** -1.5 for radius in (1.2, 3.5, 9.0)]
    kinds = np.arange(n) % 3
    return np.stack([rng.poisson(2000 * models[i] / models[i].sum()) for i in kinds]).astype(float), np.array(LABELS)[
        kinds
    ]


def small(**changes):
    settings = {"n_filters": 4, "geometry": GRID, "epochs": 2, "batch_size": 8, "random_state": 1, "device": "cpu"}
    return CutoutClassifier(**{**settings, **changes})


def arrays(model):
    return safetensors.load(model.weights_)


def tiny(n_bands, n_classes, shape):
    return torch.nn.Sequential(
        torch.nn.Conv2d(n_bands, 4, 4, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(16, n_classes),
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    return small(epochs=4).fit(*toy(45, 0))


@pytest.mark.parametrize(("old", "new"), [(True, ("flip", "turn", "shift")), (False, ())])
def test_augment_of_format_1_is_read(fitted, tmp_path, old, new):
    folder = fitted.save(tmp_path / "model")
    document = json.loads((folder / "model.json").read_text())
    assert document["format_version"] == 2 and document["doubt"]["temperature"] == 1
    del document["doubt"]
    names = ("n_filters", "epochs", "batch_size", "learning_rate", "weight_decay", "patience", "monitor")
    names += ("validation_fraction", "class_weight", "random_state", "device")
    parameters = {name: document["parameters"][name] for name in names} | {"augment": old}
    parameters["width"] = parameters.pop("n_filters")  # its first name
    document |= {"format_version": 1, "parameters": parameters}
    (folder / "model.json").write_text(json.dumps(document))
    loaded = load_classifier(folder)
    assert loaded.augmentation == new and loaded.n_filters == 4
    document["format_version"] = 2  # there is no such parameter any more
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="doubt must be a dict"):
        load_classifier(folder)


def test_new_parameters_come_back_from_disk(tmp_path):
    changes = {
        "augmentation": ("flip", "rotate", "thin"), "optimizer": "sgd", "schedule": "plateau", "decay": 1e-6,
        "frozen": ("conv1",), "thaw_epoch": 1, "iterations": 3, "dropout": None,
    }  # fmt: skip
    model = small(**changes).fit(*toy(30, 0))
    loaded = load_classifier(model.save(tmp_path / "model"))
    ours, theirs = model.get_params(deep=False), loaded.get_params(deep=False)
    assert {name: theirs[name] for name in changes} == changes
    assert ours.keys() == theirs.keys()


def test_one_hot_labels_train_as_hard_labels():
    images, labels = toy(30, 2)
    hard = small().fit(images, labels)
    soft = small().fit(images, np.eye(3)[np.arange(30) % 3])
    assert hard.weights_ == soft.weights_


def test_soft_labels_become_the_probabilities():
    """With labels of one distribution for all images, the loss is least where the network gives that distribution."""
    images, _ = toy(45, 3)
    wanted = np.array([0.6, 0.3, 0.1])
    labels = np.tile(wanted, (45, 1))
    labels[::9] = [0.1, 0.8, 0.1]  # two classes must be seen
    model = small(epochs=30, learning_rate=0.02, class_weight=None, validation_fraction=0).fit(images, labels)
    table = model.classify(images)
    for name, share in zip(LABELS, labels.mean(axis=0), strict=True):
        assert np.mean(table[f"p_{name}"]) == pytest.approx(share, abs=0.1)


def test_rows_without_a_soft_label_are_left_out():
    images, _ = toy(30, 2)
    labels = np.eye(3)[np.arange(30) % 3]
    labels[4] = np.nan
    with pytest.warns(UserWarning, match="1 of 30 images of X were left out"):
        assert small(epochs=1).fit(images, labels).training_["n_left_out"] == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((30, 2)) / 2, r"soft labels of X must be numbers of shape \(n, 3\)"),
        (np.ones((30, 3)), "sum to 1"),
        (np.tile([1.5, -0.5, 0], (30, 1)), "from 0 and sum to 1"),
        (np.tile([np.nan, 1.0, 0], (30, 1)), "from 0 and sum to 1"),
    ],
)
def test_wrong_soft_labels_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        small().fit(toy(30, 0)[0], labels)


def test_sample_weights():
    images, labels = toy(30, 2)
    plain = small().fit(images, labels)
    same = small().fit(images, labels, sample_weight=np.ones(30))
    assert same.weights_ == plain.weights_
    heavy = small().fit(images, labels, sample_weight=np.arange(30))
    assert heavy.weights_ != plain.weights_
    for bad in (np.ones(29), np.full(30, -1.0), np.full(30, np.nan), np.zeros(30)):
        with pytest.raises(ValueError, match="sample_weight of X must be 30 finite numbers"):
            small().fit(images, labels, sample_weight=bad)


def test_fit_goes_on_from_a_checkpoint(tmp_path, monkeypatch, caplog):
    """The third epoch is interrupted before its state is saved: the second training goes on from the second."""
    monkeypatch.setattr("astroclassify.nn.models._checkpoints._SECONDS", 0.0)
    images, labels = toy(30, 2)
    settings = {"epochs": 4, "augmentation": ("rotate", "thin"), "random_state": None}
    epochs = []

    def interrupt(record):
        epochs.append(record.args[0])
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return True

    caplog.set_level("INFO", logger="astroclassify")
    caplog.handler.addFilter(interrupt)
    with pytest.raises(KeyboardInterrupt):
        small(**settings).fit(images, labels, checkpoint=tmp_path / "state")
    seed = json.loads((tmp_path / "state" / "checkpoint.json").read_text())["seed"]
    resumed = small(**settings).fit(images, labels, checkpoint=tmp_path / "state")
    caplog.handler.removeFilter(interrupt)
    assert epochs == [1, 2, 3, 3, 4] and len(resumed.history_) == 4
    assert resumed.weights_ == small(**{**settings, "random_state": seed}).fit(images, labels).weights_
    with pytest.raises(ModelError, match="of another training"):
        small(**{**settings, "batch_size": 9}).fit(images, labels, checkpoint=tmp_path / "state")
    with pytest.raises(ModelError, match="of another training"):
        small(**settings).fit(images, labels, checkpoint=tmp_path / "state", sample_weight=np.arange(30))


def test_fine_tuning_starts_from_the_weights(fitted, tmp_path):
    images, labels = toy(30, 2)
    frozen = ("conv1", "bn1", "layer")
    for start in (fitted, fitted.save(tmp_path / "model")):
        tuned = small(epochs=1, frozen=frozen).fit(images, labels, start=start)
        before, after = arrays(fitted), arrays(tuned)
        for name, array in before.items():
            assert np.array_equal(after[name], array) == name.startswith(frozen), name
        assert tuned.predictor_.preprocessing == fitted.predictor_.preprocessing
        assert tuned.training_["start"] == {"from": "resnet18", "left_out": []}
    thawed = small(epochs=2, frozen=frozen, thaw_epoch=1, validation_fraction=0).fit(images, labels, start=fitted)
    assert not np.array_equal(arrays(thawed)["conv1.weight"], before["conv1.weight"])


def test_fine_tuning_to_other_classes(fitted, tmp_path):
    images, labels = toy(30, 2)
    tuned = small(scheme=CLUSTER, epochs=1, frozen=("conv1",)).fit(
        images, np.where(labels == "CC", "cluster", "other"), start=fitted
    )
    assert tuned.training_["start"]["left_out"] == ["fc.bias", "fc.weight"]
    assert np.array_equal(arrays(tuned)["conv1.weight"], arrays(fitted)["conv1.weight"])
    assert tuned.predict_proba(images).shape == (30, 2)
    loaded = load_classifier(tuned.save(tmp_path / "tuned"))
    assert loaded.training_["start"] == tuned.training_["start"]


def test_start_from_a_file_of_torchvision(tmp_path):
    """Weights with torchvision's names, for 1000 classes; the file is only read."""
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = torchvision.models.resnet18(weights=None).state_dict()
    path = tmp_path / "resnet18.safetensors"
    path.write_bytes(safetensors.save({name: tensor.numpy() for name, tensor in state.items()}))
    model = small(n_filters=None, epochs=1, frozen=("conv1", "bn1", "layer")).fit(*toy(12, 0), start=path)
    assert np.array_equal(arrays(model)["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"].numpy())
    assert model.training_["start"]["from"] == "resnet18.safetensors"
    assert sorted(model.training_["start"]["left_out"]) == ["fc.bias", "fc.weight"]


def test_wrong_starts_are_named(fitted, tmp_path):
    images, labels = toy(30, 2)
    with pytest.raises(ValueError, match="start must be a fitted classifier"):
        small().fit(images, labels, start=small())
    with pytest.raises(ValueError, match="start must be a fitted classifier"):
        small().fit(images, labels, start=3)
    with pytest.raises(ValueError, match="start must have bands"):
        small(stretch="sqrt").fit(images, labels, start=fitted)
    with pytest.raises(ModelError, match="neither a folder nor a packaged model"):
        small().fit(images, labels, start=tmp_path / "none")
    with pytest.raises(ModelError, match="no weights that fit"):
        small(architecture=tiny, n_filters=None).fit(images, labels, start=fitted)


def test_a_network_of_ones_own(tmp_path):
    images, labels = toy(30, 2)
    model = small(architecture=tiny, n_filters=None).fit(images, labels)
    loaded = load_classifier(model.save(tmp_path / "model"))
    assert loaded.architecture == "own:tiny"
    assert loaded.predict_proba(images) == pytest.approx(model.predict_proba(images), abs=1e-5)
    with pytest.raises(ValueError, match="architecture must be one of .* or a function"):
        loaded.build_network()
    again = loaded.set_params(architecture=tiny).build_network()
    assert torch.equal(again[0].weight, model.build_network()[0].weight)


def test_two_bands_with_plates():
    images, labels = toy(24, 2)
    both = np.stack([images, 100 + images], axis=1)
    names = ("flip", "rotate", "shift", "thin", "brightness")
    model = small(bands=("xray", "optical"), augmentation=names).fit(both, labels)
    assert model.predict_proba(both).shape == (24, 3)
    with pytest.raises(ValueError, match="'brightness' needs a band that holds no counts"):
        small(augmentation=names).fit(images, labels)
    with pytest.raises(ValueError, match="'thin' needs a band that holds counts"):
        small(count_bands=(), augmentation=("thin",)).fit(images, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": "flip"}, "augmentation must be a tuple of names"),
        ({"augmentation": ("spin",)}, "augmentation must be a tuple of names"),
        ({"count_bands": "xray"}, "count_bands must be a tuple"),
        ({"optimizer": "adam"}, "optimizer must be one of"),
        ({"optimizer": None}, "optimizer must be one of"),
        ({"schedule": "step"}, "schedule must be one of"),
        ({"decay": 0.1}, "decay must be 0 with schedule 'one-cycle'"),
        ({"schedule": "plateau", "least_rate": 1.0}, "least_rate must not exceed learning_rate"),
        ({"schedule": "plateau", "plateau_factor": 0}, "plateau_factor must be a finite number above 0 to 1"),
        ({"momentum": 1.0}, "momentum must be a finite number"),
        ({"iterations": 0}, "iterations must be a whole number .*; None is allowed too"),
        ({"mean_epochs": -1}, "mean_epochs must be a finite number from 0"),
        ({"dropout": "much"}, "dropout must be a finite number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": True}, "learning_rate must be a finite number above 0"),
        ({"frozen": "conv1"}, "frozen must be a tuple"),
        ({"frozen": ("nothing",)}, "frozen must name beginnings"),
        ({"thaw_epoch": 0}, "thaw_epoch must be a whole number"),
        ({"device": "gpu"}, "device must be 'auto'"),
    ],
)
def test_bad_parameters_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes).fit(*toy(12, 0))


def test_grid_search_and_pipeline():
    images, labels = toy(36, 0)
    search = GridSearchCV(small(validation_fraction=0, epochs=1), {"augmentation": [(), ("rotate",)]}, cv=2)
    search.fit(images, labels)
    assert len(search.cv_results_["params"]) == 2 and search.predict(images[:2]).shape == (2,)
    pipeline = make_pipeline(FunctionTransformer(np.asarray), small(epochs=1)).fit(images, labels)
    assert 0 <= pipeline.score(images, labels) <= 1


# What others supply


def supply(monkeypatch, name, **functions):
    module = types.ModuleType(f"astroclassify.nn.{name}")
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, f"astroclassify.nn.{name}", module)


def test_recipes(monkeypatch):
    grid = Geometry(7 * u.arcmin, (356, 356))
    recipe = {
        "parameters": {
            "scheme": {"value": "candidate", "origin": "paper, section 2"},
            "geometry": {"value": grid.to_dict(), "origin": "paper"},
            "bands": ["optical", "xray"],
            "augmentation": {"value": ["flip"], "origin": "our choice"},
            "optimizer": "sgd",
        }
    }
    supply(monkeypatch, "estimators._recipes", load_recipe=lambda name: recipe)
    model = CutoutClassifier.from_recipe("any", optimizer="adadelta")
    assert (model.scheme, model.geometry, model.bands) == ("candidate", grid, ("optical", "xray"))
    assert model.augmentation == ("flip",) and model.optimizer == "adadelta"
    assert CANDIDATE.n_classes == 5


def test_calibration_divides_logits_by_the_temperature(fitted, tmp_path):
    pytest.importorskip("astroclassify.nn.doubt._calibration")
    from sklearn.base import clone

    model = clone(fitted).set_params(epochs=12, n_filters=8, class_weight=None).fit(*toy(90, 0))
    images, labels = toy(60, 7)
    labels = np.where(np.arange(60) % 7, labels, "WCC")  # some of them wrong
    before = model.predict(images)
    logits = np.log(model.predict_proba(images)[:, [list(model.classes_).index(label) for label in LABELS]])
    assert model.calibrate(images, labels) is model
    hard = np.array([LABELS.index(label) for label in labels])

    def loss(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(60), hard].mean()

    assert loss(model.temperature_) <= min(loss(model.temperature_ * 1.05), loss(model.temperature_ / 1.05)) + 1e-9
    p = softmax(logits / model.temperature_, axis=1)
    assert model.predict_proba(images) == pytest.approx(p[:, np.argsort(LABELS)], abs=1e-6)
    assert np.array_equal(before, model.predict(images))
    loaded = load_classifier(model.save(tmp_path / "model"))
    assert loaded.temperature_ == model.temperature_
    assert loaded.predict_proba(images) == pytest.approx(model.predict_proba(images), abs=1e-5)
    table = loaded.classify(images)
    assert np.stack([table[f"p_{c}"] for c in LABELS], axis=1) == pytest.approx(p, abs=1e-5)


def test_activation_map_is_that_of_the_maps_module(fitted, monkeypatch):
    seen = []

    def activation_map(classifier, image, class_name, *, redshift, centre, pixel_scale, columns):
        seen.append((classifier, class_name, redshift, centre))
        return CCDData(np.zeros((2, 2)), unit="")

    supply(monkeypatch, "maps._maps", activation_map=activation_map)
    assert isinstance(fitted.activation_map(np.zeros((SIZE, SIZE)), "CC", redshift=0.1), CCDData)
    assert seen == [(fitted, "CC", 0.1, None)]


def test_flags():
    assert Flag.UNFAMILIAR == 8192 and Flag.SATURATED == 16384


def test_unfamiliar_images_are_flagged(tmp_path):
    """Images like those of training keep flags 0 but for about one in a hundred; ten times fewer counts do not."""
    model = small(epochs=2).fit(*toy(150, 0))
    loaded = load_classifier(model.save(tmp_path / "model"))
    for one in (model, loaded):
        usual = one.classify(toy(150, 5)[0])["flags"] & Flag.UNFAMILIAR > 0
        strange = one.classify(np.random.default_rng(0).poisson(toy(30, 6)[0] / 10).astype(float))["flags"]
        assert usual.mean() < 0.06 and np.all(strange & Flag.UNFAMILIAR)
    again = loaded.novelty_.to_dict()
    assert again == model.novelty_.to_dict()
