"""Recipes: every printed number with its origin, and the networks and trainings that they give."""

import numpy as np
import pytest
from astropy import units as u

from astroclassify.images import Geometry
from astroclassify.nn import list_recipes, load_recipe

NAMES = ("kosiba2020-cn", "kosiba2020-mn", "su2020")
# Kosiba et al. 2020, table of hyperparameters, column by column.
PRINTED = {
    "kosiba2020-cn": {
        "batch_size": 10,
        "iterations": 153_000,
        "optimizer": "sgd",
        "momentum": 0.90,
        "learning_rate": 1e-4,
        "decay": 1e-6,
        "least_rate": 1e-4,
        "plateau_patience": 14,
        "plateau_factor": 0.75,
        "dropout": 0.65,
        "geometry": {"width": 7.0, "unit": "arcmin", "shape": [356, 356]},
    },
    "kosiba2020-mn": {
        "batch_size": 20,
        "iterations": 3825,
        "optimizer": "adadelta",
        "momentum": 0.95,
        "learning_rate": 1.0,
        "least_rate": 0.01,
        "plateau_patience": 4,
        "plateau_factor": 0.85,
        "dropout": 0.65,
        "geometry": {"width": 7.0, "unit": "arcmin", "shape": [224, 224]},
    },
    "su2020": {
        "architecture": "resnet18",
        "geometry": {"width": 1.0, "unit": "Mpc", "shape": [256, 256]},
        "bands": ["xray"],
    },
}
# What could not be read in Su et al. must never be presented as theirs.
UNKNOWN_IN_SU = ("optimizer", "learning_rate", "epochs", "batch_size", "stretch", "augmentation", "schedule")
# Parameters that say how to run, not what a paper did.
NOT_IN_RECIPES = {"random_state", "device", "verbose", "frozen", "thaw_epoch"}


def values(name):
    return {key: entry["value"] for key, entry in load_recipe(name)["parameters"].items()}


@pytest.mark.parametrize("name", NAMES)
def test_printed_values_are_there_as_printed(name):
    parameters = load_recipe(name)["parameters"]
    for key, value in PRINTED[name].items():
        assert (parameters[key]["value"], parameters[key]["origin"]) == (value, "paper"), key


def test_the_decay_of_mobilenet_is_read_as_rho():
    """0.95 is printed for both; as a decay of the rate it would end the training in its first steps."""
    parameters = load_recipe("kosiba2020-mn")["parameters"]
    assert (parameters["decay"]["value"], parameters["decay"]["origin"]) == (0.0, "derived")
    assert "0.95" in parameters["decay"]["note"]


def test_what_is_not_printed_is_our_choice():
    parameters = load_recipe("su2020")["parameters"]
    assert {parameters[key]["origin"] for key in UNKNOWN_IN_SU} == {"our choice"}
    for name in NAMES[:2]:
        parameters = load_recipe(name)["parameters"]
        assert {parameters[key]["origin"] for key in ("augmentation", "stretch", "class_weight")} == {"our choice"}


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_says_where_it_comes_from(name):
    recipe = load_recipe(name)
    assert list(recipe) == ["name", "reference", "description", "parameters", "protocol"] and recipe["name"] == name
    for entry in (*recipe["parameters"].values(), *recipe["protocol"].values()):
        assert entry["origin"] in ("paper", "derived", "our choice") and set(entry) <= {"value", "origin", "note"}


def test_protocols():
    kosiba = {key: entry["value"] for key, entry in load_recipe("kosiba2020-cn")["protocol"].items()}
    assert kosiba["train"] == {"cluster": 845, "other": 388} and kosiba["validate"] == {"cluster": 200, "other": 104}
    assert kosiba["test"] == {"cluster": 85, "other": 85}
    assert sum(sum(kosiba[part].values()) for part in ("train", "validate", "test")) == 1707
    assert kosiba["n_seeds"] == 10 and kosiba["threshold"] == 0.5
    su = load_recipe("su2020")["protocol"]
    assert su["n_folds"]["value"] == sum(su["roles"]["value"]) == 10


def test_list_recipes():
    table = list_recipes()
    assert tuple(table["name"]) == NAMES
    assert table["architecture"].tolist() == ["kosiba2020", "mobilenet", "resnet18"]
    for row in table:
        assert row["n_printed"] + row["n_chosen"] == len(load_recipe(row["name"])["parameters"])


@pytest.mark.parametrize("name", ["su2021", "../recipes/su2020", "", None, ["su2020"]])
def test_unknown_recipes(name):
    with pytest.raises(ValueError, match="kosiba2020-cn"):
        load_recipe(name)


# The classifier


@pytest.mark.parametrize("name", NAMES)
def test_recipes_name_every_parameter(name):
    from astroclassify.nn import CutoutClassifier

    assert set(values(name)) == set(CutoutClassifier().get_params()) - NOT_IN_RECIPES


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [
        ("su2020", 11_178_051),  # ResNet-18 of 11,689,512 with 3 classes in place of 1000
        ("kosiba2020-cn", 352_930 - 576),  # without the printed input's empty channel
        ("kosiba2020-mn", 4_231_976 - 1000 * 1025 + 2 * 1025 - 288),  # likewise, 2 classes in place of 1000
    ],
)
def test_recipes_build_the_printed_networks(name, n_parameters):
    pytest.importorskip("torchvision")
    from astroclassify.nn import CutoutClassifier

    model = CutoutClassifier.from_recipe(name, random_state=1)
    assert isinstance(model.geometry, Geometry) and isinstance(model.bands, tuple)
    network = model.build_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == n_parameters


def test_a_recipe_trains_for_its_iterations():
    """Six iterations of the custom network's recipe on images of 32 pixels, with the rate of each epoch."""
    pytest.importorskip("torch")
    from astroclassify.nn import CutoutClassifier

    rng = np.random.default_rng(0)
    images, labels = rng.poisson(3.0, size=(24, 2, 32, 32)).astype(float), ["cluster", "other"] * 12
    small = {"geometry": Geometry(7 * u.arcmin, (32, 32)), "n_filters": 16, "iterations": 6, "decay": 0.5}
    model = CutoutClassifier.from_recipe("kosiba2020-cn", validation_fraction=0, random_state=1, device="cpu", **small)
    model.fit(images, labels)
    rates = [entry["learning_rate"] for entry in model.history_]
    assert rates == pytest.approx([1e-4, 1e-4 / (1 + 0.5 * 3)])  # three batches in an epoch
