"""Data flow A end to end: halos to mock images, labels, a network, predictions and scores."""

import importlib.util

import numpy as np
import pytest
from astropy import units as u

from astroclassify import tables
from astroclassify.images import Geometry
from astroclassify.schemes import COOL_CORE, Flag
from astroclassify.workflows import score_all

# find_spec, not importorskip: importing pyxsim would leave a configuration file in the user's home.
needs_sim = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pyxsim", "illustris_python", "h5py")),
    reason="needs the extra sim",
)


@pytest.fixture(scope="module")
def sample_folder(tmp_path_factory):
    """A sample of coarse embedded clusters in small images."""
    from astroclassify.sim import EmbeddedPopulation, Observation, make_mocks

    folder = tmp_path_factory.mktemp("flow")
    population = EmbeddedPopulation(8, rng=4, cell_mass=1e8 * u.Msun, max_cells=4000)
    observation = Observation(exposure=20 * u.ks, shape=(64, 64))
    halos = population.select_halos()
    make_mocks(population, halos, observation=observation, axes="xz", out=folder / "sample", rng=4, progress=False)
    return folder / "sample"


@needs_sim
def test_halos_to_labelled_sample(sample_folder):
    sample = tables.read_sample(sample_folder)
    assert len(sample) == 16
    assert set(sample["label"]) <= {*COOL_CORE.classes, ""}
    for row in sample[sample["label"] != ""]:
        low, high = {"CC": (0, 1), "WCC": (1, 7.7), "NCC": (7.7, np.inf)}[row["label"]]
        assert low <= row["t_cool"].to_value(u.Gyr) <= high
    assert all(path.is_file() for path in tables.image_paths(sample))
    # Both projections of a halo are the same gas: same label, other image.
    first = sample[sample["group_id"] == sample["group_id"][0]]
    assert len(set(first["label"])) == 1 and len(set(first["c_sb"])) == 2


@needs_sim
def test_sample_to_scores(sample_folder, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from astroclassify.nn import CutoutClassifier, load_classifier, score

    sample = tables.read_sample(sample_folder)
    sample = sample[(sample["label"] != "") & ((sample["flags"] & Flag.FAILED.value) == 0)]
    network = CutoutClassifier(
        geometry=Geometry(1 * u.Mpc, (64, 64)),
        n_filters=8,
        epochs=2,
        batch_size=8,
        validation_fraction=0,
        random_state=0,
    )
    network.fit(sample).save(tmp_path / "model")
    predictions = load_classifier(tmp_path / "model").classify(sample)
    tables.validate(predictions, tables.PREDICTIONS)
    assert list(predictions["source_id"]) == list(sample["source_id"])
    total = sum(predictions[f"p_{label}"] for label in COOL_CORE.classes)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    scores = score(predictions, n_bootstrap=10, rng=0)
    assert list(scores["class"]) == [*COOL_CORE.classes, "mean"]


def test_scores_need_predictions():
    with pytest.raises(ValueError, match="at least one method"):
        score_all(None, {})
