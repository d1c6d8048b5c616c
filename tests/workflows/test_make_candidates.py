"""The script that makes the candidates to train and judge on: splits of the simulated ones, sources in real fields."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u

from astroclassify.images import Cutout
from astroclassify.schemes import CANDIDATE, Flag

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def module(monkeypatch):
    """Imports a script of the tools, which lie beside the package."""
    if not TOOLS.is_dir():
        pytest.skip("the tools are not here")
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module


@pytest.fixture
def script(module):
    return module("make_candidates")


def test_splits_are_those_of_the_paper(script):
    sizes = {
        name: (quota["low_z"] + quota["high_z"], quota["galaxy"] + quota["point"] + quota["other"])
        for name, quota in script.SPLITS.items()
    }
    assert sizes == {"train": (845, 388), "validation": (200, 104), "test": (85, 85)}
    total = np.array([[quota[name] for name in CANDIDATE.classes] for quota in script.SPLITS.values()]).sum(axis=0)
    assert total.sum() == 1707
    np.testing.assert_allclose(total / 1707, [0.40, 0.262, 0.1126, 0.1127, 0.1127], atol=0.0006)


def test_no_field_is_in_two_splits(script):
    rng = np.random.default_rng(1)
    rates = {"low_z": 4.7, "high_z": 3.6, "galaxy": 1.5, "point": 1.6, "other": 1.5}  # per field
    rows = [(field, name) for field in range(220) for name, rate in rates.items() for _ in range(rng.poisson(rate))]
    groups, labels = (np.array(column) for column in zip(*rows, strict=True))
    split = script.choose(groups, labels)
    assert script.missing(split, labels) == {}
    for name, quota in script.SPLITS.items():
        assert {label: np.sum(labels[split == name] == label) for label in quota} == quota
    for field in np.unique(groups):
        assert len(set(split[groups == field]) - {""}) <= 1
    # Fields are used from the first on, so that more of them change nothing.
    again = script.choose(groups[groups < 200], labels[groups < 200])
    assert np.array_equal(again, split[groups < 200])
    few = script.choose(groups[groups < 20], labels[groups < 20])
    assert script.missing(few, labels[groups < 20])["train low_z"] > 400


@pytest.mark.real_data
@pytest.mark.slow
def test_sources_in_a_real_field(script, module, shared_data, tmp_path):
    real = module("_real_candidates")
    paths = real.real_images(shared_data)
    assert len(paths) == 13 and {name.split("-")[0] for name in paths} == set(real.FIELDS)
    name = "W49B-20ks"
    rest = tmp_path, script.EXTENDED, (2 * u.arcmin, (32, 32))
    own, put_in = (real._run((name, paths[name], run, *rest)) for run in (0, 1))
    remnant = own[own["known"] == "W49B"]
    assert set(remnant["label"]) == {"other"} and remnant["counts"].max() > 3e4 * u.ct
    assert set(own["label"]) <= {"other", "point"} and set(own["origin"]) == {"real"}
    assert set(put_in["origin"]) == {"injected"} and {"point"} < set(put_in["label"])
    assert np.all(np.isfinite(put_in["redshift"]) == np.isin(put_in["label"], ["low_z", "high_z"]))
    # Away from the remnant, and what is measured is what was put in.
    assert np.all(put_in["sky_position"].separation(remnant["sky_position"][0]) > 4 * u.arcmin)
    ratio = (put_in["counts"] / put_in["true_counts"]).to_value(u.one)
    assert 0.7 < np.median(ratio) < 1.5
    assert np.all(put_in["flags"] & Flag.NO_OPTICAL.value)
    assert set(Cutout.read(tmp_path / put_in["path"][0]).bands) == {"xray"}
