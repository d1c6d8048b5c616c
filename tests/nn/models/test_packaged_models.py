"""The models that come with the package: whole, small, with their cards, right about images like those of training."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from astropy import units as u
from astropy.table import QTable

import astroclassify
from astroclassify import tables
from astroclassify.images import Cutout, read_image
from astroclassify.nn import CutoutClassifier, list_classifiers, load_classifier, score
from astroclassify.schemes import Flag
from astroclassify.sim import simulate_candidates

FOLDER = Path(astroclassify.__file__).parent / "data" / "models"
NAMES = ["cluster-xmm", "coolcore"]


def test_list():
    assert sorted(list_classifiers()["name"]) == NAMES


def test_print_says_what_each_model_is_for():
    text = str(list_classifiers())
    assert max(map(len, text.splitlines())) <= 80 and repr(list_classifiers()) == text
    (coolcore,) = [" ".join(part.split()) for part in text.split("\n\n") if part.startswith("coolcore")]
    for words in ("CC WCC NCC", "CHANDRA ACIS-I, ACIS-S in 0.5 to 7 keV; XMM EMOS1, EMOS2, EPN in 0.5 to 2 keV"):
        assert words in coolcore
    for words in ("1 Mpc: a redshift is needed", "redshift 0.02 to 0.5", "exposure 3 to 300 ks"):
        assert words in coolcore
    table = list_classifiers()
    row = table[table["name"] == "coolcore"][0]
    assert 0.02 <= row["redshift_min"] < 0.03 and 2.9 < row["exposure_min"].to_value("ks") < 3.1


def test_real_sky_of_the_card_is_what_was_measured():
    measured = Path(__file__).resolve().parents[3] / "docs" / "science" / "measured"
    accept = QTable.read(measured / "real_sky_accept_short.csv", format="ascii.csv")
    (row,) = accept[(accept["clusters"] == "public third") & (accept["method"] == "network")]
    pictures = QTable.read(measured / "real_sky_pictures.csv", format="ascii.csv")
    chosen = pictures[(pictures["pictures"] == "real") & (pictures["method"] == "network, expected class")]
    near, far = (float(chosen["auc"][chosen["redshift"] == name][0]) for name in ("z < 0.12", "z > 0.12"))
    said = load_classifier("coolcore").card_["real_sky"]
    assert f"mean F1 {row['macro-F1']}" in said and f"of {row['n']} clusters of ACCEPT" in said
    assert f"AUC {near:.2f} at z < 0.12, {far:.2f} beyond" in said
    card = load_classifier("cluster-xmm").card_
    (row,) = [each for each in card["cluster_or_not"]
              if each["classifier"].startswith("this model (") and each["candidates"] == "real"]  # fmt: skip
    n = row["n_cluster"] + row["n_other"]
    assert f"among {n} candidates in real XMM fields, {row['n_cluster']} of them clusters" in card["real_sky"]
    for name, word in (("auc", "AUC"), ("recall", "recall"), ("precision", "precision")):
        digits = [f"{float(each.strip('()')):.2f}" for each in row[name].replace(" to ", " ").split()]
        assert f"{word} {digits[0]}" in card["real_sky"]
        assert name != "auc" or f"({digits[1]} to {digits[2]})" in card["real_sky"]


def test_a_loaded_model_and_what_it_learned_are_one_line_each():
    model = load_classifier("coolcore")
    images = "CHANDRA ACIS-I, ACIS-S in 0.5 to 7 keV; XMM EMOS1, EMOS2, EPN in 0.5 to 2 keV"
    n = model.training_["n_images"]
    expected = f"<CutoutClassifier coolcore: CC, WCC, NCC; {images}; field of 1 Mpc; trained on {n} images>"
    assert repr(model) == str(model) == expected
    assert repr(model.familiarity_).startswith("<Familiarity among clusters, as ")
    assert repr(model.conformal_).startswith("<Conformal sets from groups of images: ")
    assert "CutoutClassifier(epochs=3)" in repr(CutoutClassifier(epochs=3))


@pytest.mark.parametrize("name", NAMES)
def test_folder_and_card(name):
    assert sum(path.stat().st_size for path in (FOLDER / name).iterdir()) < 4_000_000
    model = load_classifier(name)
    assert model.card_["name"] == name and model.card_["description"]
    assert (model.novelty_ or model.familiarity_) is not None
    for path in (FOLDER / name).iterdir():
        if path.suffix in (".json", ".md"):
            assert "/opt/" not in path.read_text() and "/home/" not in path.read_text()


def test_card_says_what_it_cannot_do():
    model = load_classifier("cluster-xmm")
    card = model.card_
    assert card["limits"] and "not on observations" in card["description"].replace("\n", " ")
    assert [row["class"] for row in card["scores"]] == [*model.scheme.classes, "mean"]
    assert card["scores"][-1]["f1_lo"] < card["scores"][-1]["f1"] < card["scores"][-1]["f1_hi"]
    assert card["calibration"]["temperature"] == pytest.approx(model.temperature_, abs=1e-3)


def test_coolcore_is_for_the_cameras_of_chandra_and_xmm():
    known = load_classifier("coolcore").training_
    pairs = {("CHANDRA", "ACIS-I"), ("CHANDRA", "ACIS-S"), ("XMM", "EPN"), ("XMM", "EMOS1"), ("XMM", "EMOS2")}
    assert {tuple(pair) for pair in known["instruments"]} == pairs
    assert set(known["energy_ranges"]) == {instrument for _, instrument in pairs}


@pytest.mark.parametrize("name", NAMES)
def test_onnx_gives_what_torch_gives(name):
    torch = pytest.importorskip("torch")
    model = load_classifier(name)
    shape = (4, len(model.bands), *model.geometry.shape)
    items, _ = model.predictor_.items(np.random.default_rng(0).gamma(0.5, 20.0, shape))
    prepared = model.predictor_.preprocessing(np.stack([model.predictor_.load(item)[0] for item in items]))
    with torch.no_grad():
        logits = model.build_network()(torch.from_numpy(prepared)).numpy()
    np.testing.assert_allclose(model.predictor_.network.logits(prepared), logits, atol=1e-4 * np.abs(logits).max())


def test_candidates_without_a_plate_and_of_other_telescopes():
    """The one is answered by X-rays alone, the other not at all."""
    model = load_classifier("cluster-xmm")
    (cutout,) = simulate_candidates(1, rng=4, shape=model.geometry.shape, progress=False)
    alone = Cutout(cutout.source_id, {"xray": cutout.bands["xray"]})
    chandra = Cutout("c", {band: image.copy() for band, image in cutout.bands.items()})
    chandra.bands["xray"].meta.update({"TELESCOP": "CHANDRA", "INSTRUME": "ACIS-I"})
    table = model.classify([cutout, alone, chandra])
    names = [f"p_{name}" for name in model.scheme.classes]
    assert [np.sum([row[name] for name in names]) for row in table] == pytest.approx([1, 1, np.nan], nan_ok=True)
    no_optical, failed = (table["flags"] & flag.value != 0 for flag in (Flag.NO_OPTICAL, Flag.FAILED))
    assert no_optical.tolist() == [False, True, False] and failed.tolist() == [False, False, True]
    assert "judged by xray alone" in table["message"][1] and "got CHANDRA ACIS-I" in table["message"][2]


@pytest.mark.slow
def test_candidates_of_another_survey(tmp_path):
    from astroclassify.samples import to_binary
    from astroclassify.sim import simulate_survey
    from astroclassify.survey import Cuts

    model = load_classifier("cluster-xmm")
    extended = Cuts("extended", {"ext": (3 * u.arcsec, None), "ext_like": (8.0, None), "det_like": (20.0, None)})
    density = {"cluster": 4, "galaxy": 10, "agn": 1.3}
    how = {"cuts": extended, "shape": model.geometry.shape, "progress": False}
    sample = simulate_survey(4, rng=5001, out=tmp_path, density=density, **how)
    predictions = to_binary(model.classify(sample))
    tables.validate(predictions, tables.PREDICTIONS)
    assert score(predictions, n_bootstrap=10)["auc"][0] > 0.75
    assert np.mean((predictions["flags"] & Flag.UNFAMILIAR.value) != 0) < 0.2
    assert not np.any(predictions["flags"] & (Flag.OTHER_INSTRUMENT | Flag.OTHER_BAND | Flag.NO_EXPOSURE).value)


@pytest.mark.real_data
@pytest.mark.parametrize("with_exposure", [False, True])
def test_rosat_image_is_of_another_instrument(shared_data, with_exposure):
    folder = shared_data / "rosat"
    exposure = folder / "pyproffit_expose_mask_37.fits.gz" if with_exposure else None
    image = read_image(folder / "pyproffit_b_37.fits.gz", exposure=exposure)
    predictions = load_classifier("coolcore").classify(image, redshift=0.0597)
    flags = Flag(int(predictions["flags"][0]))
    assert Flag.OTHER_INSTRUMENT in flags and (Flag.NO_EXPOSURE in flags) != with_exposure
    assert sum(predictions[f"p_{name}"][0] for name in ("CC", "WCC", "NCC")) == pytest.approx(1.0)


@pytest.mark.parametrize("name", NAMES)
def test_files_say_what_they_are(name):
    """The labels of both files are those that a network trained now would get; the card begins with a header."""
    model = load_classifier(name)
    raw = (FOLDER / name / "weights.safetensors").read_bytes()
    weights = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    weights = json.loads(weights["astroclassify"])
    session = onnxruntime.InferenceSession(model.predictor_.network.data, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == weights
    assert weights["outputs"] == ", ".join(model.scheme.classes) and weights["bands"] == ", ".join(model.bands)
    assert weights["producer"].startswith("astroclassify ") and weights["architecture"] == model.architecture
    card = (FOLDER / name / "README.md").read_text().split("---\n")
    assert card[0] == "" and "library_name: astroclassify\n" in card[1] and card[2].startswith(f"\n# {name}\n")
