"""Recipes: every printed number with its origin, and the learning rates that they lead to."""

import numpy as np
import pytest
from astropy import units as u

from astroclassify.images import Geometry
from astroclassify.nn import list_recipes, load_recipe
from astroclassify.nn.estimators._recipes import ORIGINS
from astroclassify.nn.training._optimizers import Schedule, make_optimizer

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
        "decay": 0.95,
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


def schedule_of(name):
    v = values(name)
    return Schedule(
        v["schedule"],
        v["learning_rate"],
        v["iterations"],
        decay=v["decay"],
        patience=v["plateau_patience"],
        factor=v["plateau_factor"],
        least=v["least_rate"],
    )


@pytest.mark.parametrize("name", NAMES)
def test_printed_values_are_there_as_printed(name):
    parameters = load_recipe(name)["parameters"]
    for key, value in PRINTED[name].items():
        assert (parameters[key]["value"], parameters[key]["origin"]) == (value, "paper"), key


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
        assert entry["origin"] in ORIGINS and set(entry) <= {"value", "origin", "note"}


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


# Learning rates


def test_rates_of_the_custom_network():
    """1e-4 / (1 + 1e-6 n) after n iterations; the bound equals the first rate, so no plateau lowers it."""
    schedule = schedule_of("kosiba2020-cn")
    for n, rate in ((0, 1e-4), (1000, 1e-4 / 1.001), (100_000, 1e-4 / 1.1), (153_000, 8.67303e-5)):
        assert schedule.rate_of(n) == pytest.approx(rate, rel=1e-5)
    for _ in range(100):
        schedule.end_epoch(1.0)
    assert schedule.rate == 1e-4


def test_rates_of_mobilenet():
    schedule = schedule_of("kosiba2020-mn")
    for n, rate in ((0, 1.0), (1, 1 / 1.95), (100, 1 / 96), (3825, 1 / 3634.75)):
        assert schedule.rate_of(n) == pytest.approx(rate, rel=1e-9)
    assert schedule.rate_of(104) > 0.01 > schedule.rate_of(105)
    rates = []
    for _ in range(1 + 4 * 30):
        schedule.end_epoch(1.0)
        rates.append(schedule.rate)
    # The first epoch is the best; then each four epochs lower the rate by 0.85, 28 times, until 0.01 bounds it.
    assert rates == pytest.approx([max(0.85 ** (epoch // 4), 0.01) for epoch in range(len(rates))])
    assert rates[-1] == 0.01 and 0.85**28 > 0.01 > 0.85**29


@pytest.mark.parametrize("name", NAMES[:2])
def test_the_plateau_rule_is_that_of_torch(name):
    """torch's own scheduler, which lowers the rate one epoch later than Keras for the same patience."""
    torch = pytest.importorskip("torch")
    schedule, v = schedule_of(name), values(name)
    schedule.least = v["least_rate"] / 10  # else that of the custom network has nothing to do
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=v["learning_rate"])
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=v["plateau_factor"],
        patience=v["plateau_patience"] - 1,
        threshold=1e-4,
        threshold_mode="abs",
        min_lr=schedule.least,
        eps=0,
    )
    losses = 1 / np.arange(1, 301) + 0.02 * np.random.default_rng(5).normal(size=300)
    ours = []
    for loss in losses:
        schedule.end_epoch(loss)
        theirs.step(loss)
        ours.append(schedule.rate)
        assert schedule.rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert len(set(ours)) > 5


def optimiser_of(name, torch, parameter):
    v = values(name)
    return make_optimizer(
        v["optimizer"],
        [parameter],
        learning_rate=v["learning_rate"],
        momentum=v["momentum"],
        weight_decay=v["weight_decay"],
    )


def test_the_custom_network_learns_by_nesterov_momentum():
    """Keras's rule written out: v = 0.9 v - rate g, w = w + 0.9 v - rate g."""
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = optimiser_of("kosiba2020-cn", torch, parameter)
    weight, velocity, rate = 2.0, 0.0, 1e-4
    for _ in range(20):
        optimizer.zero_grad()
        (parameter**3).sum().backward()
        optimizer.step()
        gradient = 3 * weight**2
        velocity = 0.9 * velocity - rate * gradient
        weight += 0.9 * velocity - rate * gradient
    assert weight < 1.9 and parameter.item() == pytest.approx(weight, rel=1e-12)


def test_mobilenet_learns_by_adadelta():
    """Zeiler 2012, algorithm 1, with rho 0.95, and Keras's rate of 1 and constant of 1e-7."""
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = optimiser_of("kosiba2020-mn", torch, parameter)
    weight, squares, steps, rho, epsilon = 2.0, 0.0, 0.0, 0.95, 1e-7
    for _ in range(50):
        optimizer.zero_grad()
        (parameter**3).sum().backward()
        optimizer.step()
        gradient = 3 * weight**2
        squares = rho * squares + (1 - rho) * gradient**2
        step = -np.sqrt(steps + epsilon) / np.sqrt(squares + epsilon) * gradient
        steps = rho * steps + (1 - rho) * step**2
        weight += step
    assert weight < 1.99 and parameter.item() == pytest.approx(weight, rel=1e-9)


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
