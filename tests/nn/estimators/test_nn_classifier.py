"""Training, saving and loading on small images."""

import hashlib
import json
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from astroclassify import tables
from astroclassify.exceptions import (
    ArgumentError,
    AstroclassifyWarning,
    GeometryError,
    ModelError,
    OutputError,
    SchemaError,
)
from astroclassify.images import Geometry, write_image
from astroclassify.nn import CutoutClassifier, cross_validate, list_classifiers, load_classifier, score
from astroclassify.schemes import Flag

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

SIZE = 32
GRID = Geometry(1 * u.Mpc, (SIZE, SIZE))
CORES = {"CC": 1.2, "WCC": 3.5, "NCC": 9.0}


def toy(n, seed):
    """Beta models of three core radii, 2000 counts, Poisson noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    labels = np.array(list(CORES))[np.arange(n) % 3]
    shapes = [(1 + (x**2 + y**2) / CORES[label] ** 2) ** -1.5 for label in labels]
    return np.stack([rng.poisson(2000 * s / s.sum()) for s in shapes]).astype(float), labels


def small(**changes):
    settings = {"n_filters": 8, "geometry": GRID, "epochs": 8, "batch_size": 16, "random_state": 1, **changes}
    return CutoutClassifier(**settings)


def as_ccd(data, **meta):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [30.0, 10.0], [(SIZE + 1) / 2] * 2
    pixel = GRID.pixel_width(0.05).to_value(u.deg)
    wcs.wcs.cdelt = [-pixel, pixel]
    meta = {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS-I", "E_MIN": 0.5, "E_MAX": 7.0, **meta}
    return CCDData(data, unit=u.ct, wcs=wcs, meta={"REDSHIFT": 0.05, "EXPOSURE": 1e5, **meta})


def write_toy_sample(folder, n, seed):
    counts, labels = toy(n, seed)
    (folder / "images").mkdir(parents=True)
    for i, data in enumerate(counts):
        write_image(as_ccd(data), folder / "images" / f"s{i}.fits")
    sample = tables.empty(tables.SAMPLE)
    columns = {name: [] for name in sample.colnames}
    for i, label in enumerate(labels):
        # The three projections of a halo follow each other in real samples; here groups are of one class.
        values = (f"s{i}", f"g{i % 3}-{i // 6}", f"images/s{i}.fits", label, "z", 0.05, 1e14, 700, 1, 0.01, 0.1, 0)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    for name in columns:
        unit = getattr(sample[name], "unit", None)
        sample_column = np.array(columns[name])
        columns[name] = sample_column if unit is None else sample_column * unit
    tables.write_sample(QTable(columns), folder)
    return tables.read_sample(folder)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(*toy(90, 0))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_toy_sample(tmp_path_factory.mktemp("toy") / "sample", 54, 3)


@pytest.fixture(scope="module")
def chandra(sample):
    return small(epochs=2).fit(sample)


@pytest.fixture
def saved(fitted, tmp_path):
    return fitted.save(tmp_path / "model")


def test_the_untrained_network_is_that_of_torchvision():
    """Same seed, width 64: the same start values, and on one band the output for three equal channels."""
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(4)
        theirs = torchvision.models.resnet18(weights=None, num_classes=3).eval()
    ours = CutoutClassifier(geometry=GRID, random_state=4).build_network().eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images.repeat(1, 3, 1, 1)), atol=1e-5)


@pytest.mark.slow
def test_one_band_trains_as_three_equal_channels():
    """Three steps of AdamW give the same weights as torchvision's network on the repeated image."""
    import torchvision

    # Double precision: AdamW divides by the size of the gradient, which blows rounding up where that is tiny.
    networks = [CutoutClassifier(geometry=GRID, random_state=4).build_network().double() for _ in range(2)]
    reference = torchvision.models.resnet18(weights=None, num_classes=3).double()
    reference.load_state_dict(networks[0].state_dict())
    images = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    for network, batch in ((networks[0], images), (reference, images.repeat(1, 3, 1, 1))):
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(batch), target).backward()
            optimizer.step()
    moved = (networks[0].conv1.weight - networks[1].conv1.weight).abs().max().item()
    apart = (networks[0].conv1.weight - reference.conv1.weight).abs().max().item()
    assert moved > 1e-4 and apart < 1e-7 * moved


def test_it_learns(fitted):
    images, labels = toy(90, 11)
    assert np.mean(fitted.predict(images) == labels) > 0.85
    assert fitted.history_[-1]["loss"] < 0.5 * fitted.history_[0]["loss"]
    assert fitted.classes_.tolist() == ["CC", "NCC", "WCC"], "sorted; tables keep the order of the scheme"
    assert sum("best" in entry for entry in fitted.history_) == 1
    assert fitted.training_["class_counts"] == {"CC": 27, "WCC": 27, "NCC": 27}
    assert fitted.training_["n_validation"] == 9


def test_probabilities(fitted):
    images, _ = toy(7, 12)
    p = fitted.predict_proba(images)
    assert p.shape == (7, 3) and p.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert fitted.predict_proba(images[:0]).shape == (0, 3)
    table = fitted.classify(images)
    assert table.colnames == ["source_id", "label_pred", "p_CC", "p_WCC", "p_NCC", "flags", "message"]
    assert np.array_equal(np.stack([table[f"p_{c}"] for c in fitted.classes_], axis=1), p)
    assert len(fitted.classify([])) == 0


def test_same_seed_same_weights():
    images, labels = toy(30, 2)
    state = torch.random.get_rng_state()
    a, b = (small(epochs=2).fit(images, labels) for _ in range(2))
    assert a.weights_ == b.weights_ and a.predictor_.network.data == b.predictor_.network.data
    assert [e["loss"] for e in a.history_] == [e["loss"] for e in b.history_]
    assert small(epochs=2, random_state=2).fit(images, labels).weights_ != a.weights_
    assert torch.equal(state, torch.random.get_rng_state())


def test_onnx_is_torch(fitted):
    images, _ = toy(12, 5)
    pixels = fitted.predictor_.preprocessing(images[:, None])
    with torch.no_grad():
        logits, maps = fitted.build_network().maps(torch.from_numpy(pixels))
    network = fitted.predictor_.network
    assert network.logits(pixels) == pytest.approx(logits.numpy(), abs=1e-4)
    assert network.class_maps(pixels) == pytest.approx(maps.numpy(), abs=1e-4)
    bias = fitted.build_network().fc.bias.detach().numpy()
    assert maps.numpy().mean(axis=(2, 3)) + bias == pytest.approx(logits.numpy(), abs=1e-5)


def test_early_stopping_keeps_the_best_epoch():
    images, labels = toy(60, 2)
    model = small(epochs=20, patience=2, learning_rate=0.02).fit(images, labels)
    losses = [entry["validation_loss"] for entry in model.history_]
    best = next(i for i, entry in enumerate(model.history_) if "best" in entry)
    assert losses[best] == min(losses)
    assert len(losses) in (best + 3, 20)


def test_validation_can_be_given_or_left_out():
    images, labels = toy(30, 2)
    model = small(epochs=1).fit(images, labels, validation=toy(9, 6))
    assert model.training_["n_images"] == 30 and model.training_["n_validation"] == 9
    model = small(epochs=2, validation_fraction=0).fit(images, labels)
    assert "validation_loss" not in model.history_[0] and model.history_[-1]["best"]


def test_groups_are_not_split_by_validation():
    """Two groups in each class, of 1 and 2, 4 and 8, 16 and 32 images: the number of images says which are whole."""
    images, labels = toy(63, 2)
    sizes = (1, 2, 4, 8, 16, 32)
    groups = np.repeat([f"g{size}" for size in sizes], sizes)
    labels = np.repeat(["CC", "CC", "WCC", "WCC", "NCC", "NCC"], sizes)
    training = small(epochs=1, validation_fraction=0.5).fit(images, labels, groups=groups).training_
    assert training["n_groups"] == 3 and training["n_images"] + training["n_validation"] == 63
    assert training["n_images"] in [a + b + c for a in (1, 2) for b in (4, 8) for c in (16, 32)]


def test_two_bands():
    images, labels = toy(30, 2)
    both = np.stack([np.zeros_like(images), images], axis=1)
    model = small(epochs=3, bands=("optical", "xray")).fit(both, labels)
    assert model.predict_proba(both).shape == (30, 3)
    assert model.build_network().conv1.weight.shape[1] == 2


def test_fit_on_a_sample_folder(chandra, sample):
    training = chandra.training_
    assert training["instruments"] == [["CHANDRA", "ACIS-I"]] and training["energy_range"] == [0.5, 7.0]
    assert training["exposure_range"] == [1e5, 1e5] and training["redshift_range"] == [0.05, 0.05]
    assert isinstance(sample, tables.SampleTable), "scikit-learn can take its rows"
    result = chandra.classify(sample)
    assert result["label"].tolist() == sample["label"].tolist()
    assert np.all(result["flags"] == 0) and np.all(result["message"] == "")
    assert result["source_id"].tolist() == sample["source_id"].tolist()


def test_ways_to_hand_over_an_image_agree(chandra, sample):
    paths = tables.image_paths(sample)[:3]
    images = [as_ccd(data) for data in toy(54, 3)[0][:3]]
    expected = chandra.predict_proba(toy(54, 3)[0][:3])
    for handed in (sample[:3], paths, [str(path) for path in paths], images):
        table = chandra.classify(handed)
        assert np.stack([table[f"p_{c}"] for c in chandra.classes_], axis=1) == pytest.approx(expected, abs=1e-6)
    single = chandra.classify(images[0])
    assert len(single) == 1 and single["p_CC"][0] == pytest.approx(expected[0, 0], abs=1e-6)
    assert len(chandra.classify(str(paths[0]))) == 1


def test_classify_is_the_same_for_any_executor(chandra, sample):
    here = chandra.classify(sample)
    with ThreadPoolExecutor(3) as executor:
        there = chandra.classify(sample, executor=executor)
    assert here["source_id"].tolist() == there["source_id"].tolist()
    assert np.array_equal(here["p_CC"], there["p_CC"])


@pytest.mark.slow
def test_folds_are_the_same_in_other_processes(sample):
    """Workers start anew ("spawn"): torch's threads do not survive a fork."""
    here = cross_validate(sample, small(epochs=2), n_folds=3, rng=1)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        there = cross_validate(sample, small(epochs=2), n_folds=3, rng=1, executor=executor)
    assert np.array_equal(here["p_CC"], there["p_CC"])


def test_other_instruments_and_bands_are_flagged(chandra):
    data = toy(1, 0)[0][0]
    strange = [
        as_ccd(data),
        as_ccd(data, TELESCOP="ROSAT", INSTRUME="PSPCB"),
        as_ccd(data, E_MIN=0.42, E_MAX=2.01),
        as_ccd(data, TELESCOP="", INSTRUME="", E_MIN=""),
    ]
    flags = chandra.classify(strange)["flags"]
    assert flags.tolist() == [0, Flag.OTHER_INSTRUMENT, Flag.OTHER_BAND, Flag.OTHER_INSTRUMENT | Flag.OTHER_BAND]


def test_exposures_far_from_those_of_training_are_flagged(sample):
    """But not by a classifier that takes its images to one depth."""
    model = small(epochs=1).fit(sample)
    low, high = model.training_["exposure_range"]
    images = [as_ccd(toy(1, 0)[0][0], EXPOSURE=seconds) for seconds in (low / 1.6, low, 1.4 * high, 1.6 * high)]
    flags = model.classify(images)["flags"] & Flag.OTHER_EXPOSURE.value != 0
    assert flags.tolist() == [True, False, False, True]
    deep = load_classifier("coolcore").classify([as_ccd(toy(1, 0)[0][0], EXPOSURE=1e9)], redshift=0.05)
    assert not deep["flags"][0] & Flag.OTHER_EXPOSURE


def test_a_sum_of_cameras_is_of_each_of_them():
    images = [as_ccd(data, TELESCOP="XMM", INSTRUME="EPN+EMOS1") for data in toy(12, 0)[0]]
    model = small(epochs=1).fit(images, toy(12, 0)[1])
    assert model.training_["instruments"] == [["XMM", "EMOS1"], ["XMM", "EPN"]]
    asked = [as_ccd(toy(1, 0)[0][0], TELESCOP="XMM", INSTRUME=name) for name in ("EPN+EMOS1", "EPN", "EPN+EMOS2")]
    assert model.classify(asked)["flags"].tolist() == [0, 0, Flag.OTHER_INSTRUMENT]


def test_images_of_another_kind_can_be_refused(sample, tmp_path):
    """They keep their rows, without an answer; alone, or for a map, they are an error; arrays have no header."""
    model = small(epochs=1, refuse=("other_instrument", "other_band")).fit(sample)
    loaded = load_classifier(model.save(tmp_path / "model"))
    data = toy(1, 0)[0][0]
    rosat, soft = as_ccd(data, TELESCOP="ROSAT", INSTRUME="PSPCB"), as_ccd(data, E_MIN=0.42, E_MAX=2.01)
    table = loaded.classify([as_ccd(data), rosat, soft, as_ccd(data, TELESCOP="", INSTRUME="")])
    failed = Flag.FAILED.value
    other, band = failed | Flag.OTHER_INSTRUMENT.value, failed | Flag.OTHER_BAND.value
    assert table["flags"].tolist() == [0, other, band, other]
    assert np.isnan(table["p_CC"]).tolist() == [False, True, True, True]
    assert "among CHANDRA ACIS-I, got ROSAT PSPC" in table["message"][1] and "keV, got (0.42" in table["message"][2]
    assert "none named in its header" in table["message"][3]
    for ask in (lambda: loaded.classify(rosat), lambda: loaded.activation_map(rosat, "CC")):
        with pytest.raises(SchemaError, match="among CHANDRA ACIS-I, got ROSAT PSPC"):
            ask()
    assert np.isfinite(loaded.predict_proba(data[None])).all()
    with pytest.raises(ArgumentError, match="refuse must be one of"):
        small(refuse=("masked",)).fit(sample)


def test_centre_and_redshift_are_passed_on(chandra):
    data = toy(1, 0)[0][0]
    away = chandra.classify([as_ccd(data)], centre=SkyCoord(30.03, 10, unit="deg"))
    assert away["flags"][0] & Flag.OFF_EDGE
    far = chandra.classify([as_ccd(data)], redshift=0.5)
    assert far["flags"][0] & Flag.COARSE_PIXELS


def test_what_fails_keeps_its_row(chandra, sample, tmp_path):
    mixed = sample[:4].copy()
    mixed["path"][1] = "none.fits"
    mixed["flags"][2] = Flag.FEW_CELLS
    result = chandra.classify(mixed)
    assert result["source_id"].tolist() == mixed["source_id"].tolist()
    assert result["flags"].tolist() == [0, Flag.FAILED, Flag.FEW_CELLS, 0]
    assert result["label_pred"][1] == "" and np.isnan(result["p_CC"][1]) and "none.fits" in result["message"][1]
    assert "\n" not in result["message"][1]
    no_wcs = CCDData(np.ones((SIZE, SIZE)), unit=u.ct)
    result = chandra.classify([no_wcs, as_ccd(np.full((SIZE, SIZE), np.nan)), as_ccd(np.ones((SIZE, SIZE)))])
    assert (result["flags"] & Flag.FAILED > 0).tolist() == [True, True, False]


def test_a_single_bad_image_is_an_error(chandra, tmp_path):
    with pytest.raises(GeometryError, match="WCS"):
        chandra.classify(CCDData(np.ones((SIZE, SIZE)), unit=u.ct))
    with pytest.raises(GeometryError, match="no valid pixel"):
        chandra.classify(as_ccd(np.full((SIZE, SIZE), np.nan)))
    with pytest.raises(FileNotFoundError):
        chandra.classify(tmp_path / "none.fits")
    image = as_ccd(np.ones((SIZE, SIZE)))
    del image.meta["REDSHIFT"]
    with pytest.raises(GeometryError, match="redshift"):
        chandra.classify(image)
    with pytest.raises(GeometryError, match="WCS"):
        chandra.predict([CCDData(np.ones((SIZE, SIZE)), unit=u.ct)])


def test_what_cannot_be_read_is_left_out_of_training(sample):
    mixed = sample.copy()
    mixed["path"][0] = "none.fits"
    mixed["label"][1] = ""
    with pytest.warns(AstroclassifyWarning, match="2 of 54 images of X were left out of training"):
        model = small(epochs=1).fit(mixed)
    assert model.training_["n_left_out"] == 2


def test_cross_validation_of_a_network(sample):
    result = cross_validate(sample, small(epochs=4), n_folds=3, rng=1)
    again = cross_validate(sample, small(epochs=4), n_folds=3, rng=1)
    assert np.array_equal(result["p_CC"], again["p_CC"])
    assert result["source_id"].tolist() == sample["source_id"].tolist()
    assert np.isfinite(score(result, n_bootstrap=10)["f1"]).all()


def test_sklearn_contract():
    model = small(class_weight={"CC": 2.0})
    copy = clone(model)
    assert copy is not model and copy.get_params() == model.get_params()
    assert not [name for name in vars(model) if name.endswith("_")]
    assert copy.set_params(n_filters=4).n_filters == 4
    assert "CutoutClassifier" in repr(model)
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((1, SIZE, SIZE)))
    with pytest.raises(NotFittedError):
        model.save("never")


def test_clone_of_a_fitted_model_is_unfitted(fitted):
    assert not hasattr(clone(fitted), "predictor_")


def test_pickle_keeps_the_model(fitted):
    images, _ = toy(3, 1)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(images), fitted.predict_proba(images))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vgg"}, "architecture must be one of .* got 'vgg'"),
        ({"scheme": "colours"}, "scheme must be one of"),
        ({"stretch": "asinh"}, "stretch must be one of"),
        ({"n_filters": 0}, "n_filters must be a whole number"),
        ({"n_filters": 8.5}, "n_filters must be a whole number"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 1}, "batch_size must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"patience": 0}, "patience must be"),
        ({"monitor": "auc"}, "monitor must be"),
        ({"validation_fraction": 0.9}, "validation_fraction must"),
        ({"class_weight": "heavy"}, "class_weight must be"),
        ({"class_weight": {"XX": 1}}, "label must be one of"),
        ({"bands": "xray"}, "bands must be a tuple"),
        ({"bands": ("a", "a")}, "different names"),
        ({"geometry": Geometry(1 * u.Mpc, (16, 16))}, "at least 32 pixels|images must be an array"),
    ],
)
def test_bad_parameters_are_named(changes, message):
    images, labels = toy(12, 0)
    with pytest.raises(ValueError, match=message):
        small(**changes).fit(images, labels)


def test_bad_training_sets_are_named():
    images, labels = toy(12, 0)
    for arguments, message in [
        ((images,), "y must hold the labels"),
        ((images, labels[:5]), "one per image"),
        ((images, ["CC"] * 12), "at least two classes"),
        ((images, [""] * 12), "at least one labelled image"),
        ((images[:3], labels[:3]), "validation_fraction 0.1 needs a class with two groups"),
    ]:
        with pytest.raises(ValueError, match=message):
            small().fit(*arguments)
    with pytest.raises(SchemaError, match="'XX'"):
        small().fit(images, ["XX"] * 12)
    with pytest.raises(ValueError, match="learning_rate .* too large"):
        small(learning_rate=1e30).fit(*toy(30, 0))


def test_save_and_load(fitted, saved):
    images, _ = toy(12, 8)
    loaded = load_classifier(saved)
    assert loaded.predict_proba(images) == pytest.approx(fitted.predict_proba(images), abs=1e-5)
    assert loaded.get_params(deep=False).keys() == fitted.get_params(deep=False).keys()
    assert loaded.n_filters == 8 and loaded.random_state == 1 and loaded.geometry.shape == (SIZE, SIZE)
    assert loaded.training_ == fitted.training_ and loaded.history_ == fitted.history_
    state, other = loaded.build_network().state_dict(), fitted.build_network().state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert sorted(path.name for path in saved.iterdir()) == [
        "README.md", "model.json", "model.onnx", "weights.safetensors",
    ]  # fmt: skip
    assert loaded.save(saved.with_name("again")).is_dir()


def test_save_is_whole_or_not_there(fitted, saved, tmp_path):
    with pytest.raises(OutputError, match="exists already"):
        fitted.save(saved)
    fitted.save(saved, overwrite=True)
    (saved / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="thesis.tex"):
        fitted.save(saved, overwrite=True)
    assert (saved / "thesis.tex").exists()
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(OutputError):
            fitted.save(target, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]


def test_inference_needs_no_torch(saved, fitted):
    """A process in which torch and safetensors cannot be imported gives the same probabilities."""
    script = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'torchvision', 'safetensors', 'onnx'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import json, numpy as np\n"
        "from astroclassify.nn import load_classifier\n"
        "model = load_classifier(sys.argv[1])\n"
        "images = np.arange(3 * 32 * 32).reshape(3, 32, 32) % 7\n"
        "print(json.dumps(model.predict_proba(images).tolist()))\n"
        "try: model.build_network()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(saved)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    images = np.arange(3 * 32 * 32).reshape(3, 32, 32) % 7
    assert np.array(json.loads(lines[0])) == pytest.approx(fitted.predict_proba(images), abs=1e-6)
    assert "astroclassify[train]" in lines[1] and done.stderr == ""


def _edit(folder, **changes):
    document = json.loads((folder / "model.json").read_text())
    for key, value in changes.items():
        if value is None:
            del document[key]
        else:
            document[key] = value
    (folder / "model.json").write_text(json.dumps(document))


def _replace_network(folder, data):
    (folder / "model.onnx").write_bytes(data)
    files = json.loads((folder / "model.json").read_text())["files"]
    files["model.onnx"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    _edit(folder, files=files)


def _link(folder):
    (folder / "model.onnx").rename(folder / "real")
    (folder / "model.onnx").symlink_to(folder / "real")


def _flip(folder):
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(data))


def _external(folder):
    import onnx

    graph = onnx.load(folder / "model.onnx")
    onnx.external_data_helper.convert_model_to_external_data(graph, location="secret", size_threshold=0)
    onnx.save(graph, folder / "evil.onnx")
    _replace_network(folder, (folder / "evil.onnx").read_bytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "plain file model.json"),
        (lambda f: (f / "model.onnx").unlink(), "plain file model.onnx"),
        (lambda f: (f / "weights.safetensors").unlink(), "plain file weights.safetensors"),
        (lambda f: (f / "model.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "model.json").write_bytes(b"\xff\xfe"), "is not JSON"),
        (lambda f: (f / "model.json").write_text("[" * 100_000), "is not JSON"),
        (lambda f: (f / "model.json").write_text('{"format": NaN}'), "is not JSON"),
        (lambda f: (f / "model.json").write_text("[1]"), "does not describe a model"),
        (lambda f: (f / "model.json").write_text(" " * (16 << 20) + "{}"), "at most 16777216 bytes"),
        (lambda f: _edit(f, format="other"), "does not describe a model"),
        (lambda f: _edit(f, format_version=3), "format version 3; this astroclassify reads up to 2"),
        (lambda f: _edit(f, format_version="1"), "format_version must be"),
        (lambda f: _edit(f, scheme=None), "scheme must be a dict"),
        (lambda f: _edit(f, scheme={"name": "x"}), "does not describe a usable model"),
        (lambda f: _edit(f, geometry={"width": 1, "unit": "os.system", "shape": [32, 32]}), "usable model"),
        (lambda f: _edit(f, geometry={"width": 1, "unit": "Mpc", "shape": [64, 64]}), "must take images of shape"),
        (lambda f: _edit(f, parameters={"bomb": 1}), "usable model"),
        (lambda f: _edit(f, parameters={"n_filters": "8"}), "usable model"),
        (lambda f: _edit(f, preprocessing={"stretch": "log", "mean": [0], "std": [0]}), "usable model"),
        (lambda f: _edit(f, preprocessing={"stretch": "log"}), "usable model"),
        (lambda f: _edit(f, training={"instruments": [3]}), "usable model"),
        (lambda f: _edit(f, n_parameters=None), "usable model"),
        (lambda f: _edit(f, architecture="vgg"), "usable model"),
        (lambda f: _edit(f, files={"../../etc/passwd": {}, "model.onnx": {}}), "files must be exactly"),
        (lambda f: _edit(f, files={"weights.safetensors": {"size": 1 << 60}, "model.onnx": {}}), "size of weights"),
        (_flip, "damaged or altered"),
        (lambda f: (f / "model.onnx").write_bytes(b"short"), "damaged or altered"),
        (_link, "plain file model.onnx"),
        (lambda f: _replace_network(f, b"not an onnx file"), "not a usable ONNX file"),
        (_external, "external data"),
    ],
)
def test_damaged_and_hostile_folders_are_refused(saved, damage, message):
    damage(saved)
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(saved)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(saved):
    _edit(saved, parameters={**json.loads((saved / "model.json").read_text())["parameters"], "n_filters": 4})
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_classifier(saved).build_network()


def test_unknown_models_are_named(tmp_path):
    for name in ("coolcore-nothing", tmp_path / "none", "../x"):
        with pytest.raises(ModelError, match="neither a folder nor a packaged model"):
            load_classifier(name)
    with pytest.raises(ModelError, match="must be a name or a folder"):
        load_classifier(3)
    with pytest.raises(ModelError, match=r"plain file model\.json"):
        load_classifier(tmp_path)


def test_list_classifiers_reads_the_card(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr("astroclassify.nn.models._store._PACKAGED", tmp_path)
    assert len(list_classifiers()) == 0 and list_classifiers().colnames[0] == "name"
    model = clone(fitted).set_params(epochs=1).fit(*toy(30, 0))
    model.card_ = {
        "name": "toy",
        "description": "beta models",
        "scores": [{"class": "mean", "f1": np.float64(0.9), "auc": np.nan}],
        "limits": ["toys only"],
    }
    model.save(tmp_path / "toy")
    listed = list_classifiers()
    assert listed["name"].tolist() == ["toy"] and listed["f1"][0] == 0.9
    assert listed["classes"][0] == "CC WCC NCC" and listed["description"][0] == "beta models"
    lines = str(listed).splitlines()
    assert (
        lines[0] == "toy" and "  mock images  mean F1 0.90" in lines and "  real sky     no score on its card" in lines
    )
    assert "beta models" not in str(listed["name", "f1"])  # a part is a table like others
    loaded = load_classifier("toy")
    assert loaded.card_["scores"][0]["auc"] is None
    text = (tmp_path / "toy" / "README.md").read_text()
    assert "# toy" in text and "| mean | 0.9 | None |" in text and "- toys only" in text
