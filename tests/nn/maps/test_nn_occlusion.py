"""Occlusion against networks whose answer is known, and whether maps depend on what a network has learned."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.images import Geometry
from astroclassify.nn import CutoutClassifier, load_classifier
from astroclassify.nn.inputs._preprocess import Preprocessing
from astroclassify.nn.maps._occlusion import _fill_azimuthal, _fill_local, _occluded, _rings, log_odds, occlusion_map
from astroclassify.nn.maps._randomisation import randomisation_check, rank_correlation
from astroclassify.nn.models._inference import OnnxNetwork, Predictor
from astroclassify.schemes import ClassScheme

PAIR = ClassScheme("pair", ("other", "cluster"), ("anything else", "cluster of galaxies"))
SIZE = 36
GRID = Geometry(0.9 * u.Mpc, (SIZE, SIZE))  # pixels of 25 kpc


def own_network(n_bands, n_classes, shape):
    """Stand for a network of the user."""
    raise AssertionError("not to be built")


class LinearNetwork:
    """The logit of "cluster" is a weighted sum of pixels, that of "other" zero."""

    n_classes = 2

    def __init__(self, weights):
        self.weights = np.asarray(weights, float)

    def logits(self, pixels):
        values = np.tensordot(pixels[:, 0].astype(float), self.weights, axes=2)
        return np.stack([np.zeros_like(values), values], axis=1)


def fitted(network, *, architecture=own_network, geometry=GRID):
    classifier = CutoutClassifier(architecture, scheme=PAIR, geometry=geometry, stretch="linear")
    rule = Preprocessing("linear", (0.0,), (1.0,))
    predictor = Predictor(network, bands=("xray",), geometry=geometry, preprocessing=rule, training={})
    predictor.temperature, predictor.novelty = 1.0, None
    classifier.predictor_, classifier.temperature_, classifier.novelty_ = predictor, 1.0, None
    classifier.card_, classifier.classes_, classifier.training_ = {"name": "hand-made"}, np.array(PAIR.classes), {}
    return classifier


def beta_model(size, core, n, seed):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    shape = (1 + (x**2 + y**2) / core**2) ** -1.5
    return np.random.default_rng(seed).poisson(n * shape / shape.sum()).astype(float)


def test_log_odds_do_not_saturate():
    assert log_odds(np.array([[0.0, 80.0]]), 1) == pytest.approx(80.0)
    p = np.array([[0.2, 0.5, 0.3]])
    assert log_odds(np.log(p), 2) == pytest.approx(np.log(0.3 / 0.7))


def test_change_is_what_the_counts_taken_out_were_worth():
    """One pixel of 105 counts on 5, in a patch of 9 x 9: the log-odds lose 0.02 per count, elsewhere nothing."""
    image = np.full((SIZE, SIZE), 5.0)
    image[13, 22] = 105.0  # middle of patch (1, 2), which no frame of a neighbour reaches
    classifier = fitted(LinearNetwork(np.full((SIZE, SIZE), 0.02)))
    found = occlusion_map(classifier, image, "cluster", size=225 * u.kpc, fill="local")
    expected = np.zeros((4, 4))
    expected[1, 2] = 2.0
    assert np.allclose(found.data, expected, atol=1e-6)
    assert found.meta["LOGODDS"] == pytest.approx(0.02 * (5 * SIZE**2 + 100))
    assert (found.meta["METHOD"], found.meta["FILL"], found.meta["CELLSIZE"]) == ("occlusion", "local", 225.0)
    other = occlusion_map(classifier, image, "other", size=225 * u.kpc, fill="local")
    assert np.allclose(other.data, -expected, atol=1e-6), "what speaks for one of two classes speaks against the other"


def test_temperature_scales_log_odds():
    image = np.full((SIZE, SIZE), 5.0)
    image[13, 22] = 105.0
    classifier = fitted(LinearNetwork(np.full((SIZE, SIZE), 0.02)))
    classifier.predictor_.temperature = 4.0
    found = occlusion_map(classifier, image, "cluster", size=225 * u.kpc, fill="local")
    assert found.data.max() == pytest.approx(0.5)


@pytest.mark.parametrize("fill", ["azimuthal", "local"])
def test_a_network_that_looks_at_one_corner_is_found_out(fill):
    weights = np.zeros((SIZE, SIZE))
    weights[:9, 27:] = 0.1
    image = np.full((SIZE, SIZE), 2.0)
    image[4:6, 30:33] += 10.0
    found = occlusion_map(fitted(LinearNetwork(weights)), image, "cluster", size=225 * u.kpc, fill=fill)
    assert found.data[0, 3] > 1.0 and np.unravel_index(found.data.argmax(), found.shape) == (0, 3)
    others = np.delete(found.data.ravel(), 3)
    assert np.allclose(others, 0.0, atol=1e-6), "filling elsewhere does not change what the network sees"


def test_a_round_image_has_only_its_middle_to_lose():
    """Where every ring has pixels outside the patch, azimuthal filling leaves a round image without noise as it is."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    image = 100.0 - np.hypot(y, x).astype(int)
    rings = _rings(image.shape)
    rng = np.random.default_rng(0)
    for place in np.ndindex(4, 4):
        patch = tuple(slice(9 * i, 9 * i + 9) for i in place)
        assert np.array_equal(_fill_azimuthal(image, patch, rings, rng), image[patch])
    # A patch that covers the middle: rings 0 to 4 lie inside it, and get the level of the first that does not.
    middle = (slice(13, 23), slice(13, 23))
    filled = _fill_azimuthal(image, middle, rings, rng)
    inside = rings[middle] < 5
    assert np.all(filled[inside] == 95.0) and np.array_equal(filled[~inside], image[middle][~inside])


def test_filling_keeps_the_mean_and_the_noise_of_the_surroundings():
    rng = np.random.default_rng(4)
    image = rng.poisson(20.0, (1, 256, 256)).astype(float)
    patch = (slice(64, 128), slice(32, 96))
    image[0][patch] += 50.0
    before, rings = image.copy(), _rings((256, 256))
    for fill in ("azimuthal", "local"):
        filled = _occluded(image, len(image), patch, fill, rings, rng)
        assert np.array_equal(image, before), "the image itself stays"
        untouched = np.ones((256, 256), bool)
        untouched[patch] = False
        assert np.array_equal(filled[0][untouched], image[0][untouched])
        values = filled[0][patch]
        # 4096 draws: errors 0.07 of the mean, 2% of the variance; pixels of the frame are drawn more than once.
        assert values.mean() == pytest.approx(20.0, abs=0.4) and values.var() == pytest.approx(20.0, rel=0.15)
    assert _fill_local(np.eye(4), (slice(0, 2), slice(0, 2)), rng).shape == (2, 2)


def test_patches_lie_on_the_sky_where_they_are_on_the_image():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [120.0, -40.0]
    wcs.wcs.crpix = [(SIZE + 1) / 2] * 2
    pixel = GRID.pixel_width(0.05).to_value(u.deg)
    wcs.wcs.cdelt = [-pixel, pixel]
    data = np.full((SIZE, SIZE), 5.0)
    data[13, 22] = 105.0
    image = CCDData(data, unit=u.ct, wcs=wcs, meta={"REDSHIFT": 0.05, "EXPOSURE": 1e5})
    classifier = fitted(LinearNetwork(np.full((SIZE, SIZE), 0.02)))
    found = occlusion_map(classifier, image, "cluster", size=225 * u.kpc, fill="local")
    brightest = np.unravel_index(found.data.argmax(), found.shape)
    assert found.wcs.pixel_to_world(*brightest[::-1]).separation(wcs.pixel_to_world(22, 13)).deg < 1e-6 * pixel


def test_a_field_that_is_no_multiple_of_the_patch():
    image = np.full((SIZE, SIZE), 5.0)
    found = occlusion_map(fitted(LinearNetwork(np.ones((SIZE, SIZE)))), image, "cluster", size=250 * u.kpc)
    assert found.shape == (4, 4) and np.allclose(found.data, 0.0) and found.meta["CELLPIX"] == 10.0
    angles = Geometry(6 * u.arcmin, (SIZE, SIZE))
    found = occlusion_map(
        fitted(LinearNetwork(np.ones((SIZE, SIZE))), geometry=angles), image, "cluster", size=1 * u.arcmin
    )
    assert found.shape == (6, 6) and found.meta["CELLUNIT"] == "arcmin"
    assert occlusion_map(fitted(LinearNetwork(np.ones((SIZE, SIZE)))), image, "cluster").meta["CELLPIX"] == 4.0


def test_the_same_source_gives_the_same_map_twice():
    classifier, image = load_classifier("coolcore"), beta_model(256, 8.0, 3e5, 0)
    first, second = (occlusion_map(classifier, image, "CC", size=250 * u.kpc) for _ in range(2))
    assert np.array_equal(first.data, second.data)


def test_bad_arguments():
    classifier, image = fitted(LinearNetwork(np.ones((SIZE, SIZE)))), np.ones((SIZE, SIZE))
    with pytest.raises(SchemaError):
        occlusion_map(classifier, image, "CC")
    with pytest.raises(TypeError, match="size"):
        occlusion_map(classifier, image, "cluster", size=4)
    with pytest.raises(u.UnitsError):
        occlusion_map(classifier, image, "cluster", size=1 * u.arcmin)
    for size in (1 * u.kpc, 600 * u.kpc, -50 * u.kpc, np.nan * u.kpc):
        with pytest.raises(ValueError, match="size"):
            occlusion_map(classifier, image, "cluster", size=size)
    for fill in ("zero", None, ["local"]):
        with pytest.raises(ValueError, match="fill"):
            occlusion_map(classifier, image, "cluster", fill=fill)


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first = rng.normal(size=(8, 8)).round(1)  # with ties
    second = first + rng.normal(size=(8, 8))
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    assert rank_correlation(first, -(first**3)) == pytest.approx(-1.0)
    assert rank_correlation(first, np.ones((8, 8))) == 0.0


@pytest.mark.slow
def test_random_weights_destroy_the_map():
    """A packaged image network: correlation 1 as trained, then about zero from the last layer to the first."""
    pytest.importorskip("torch")
    classifier = load_classifier("cluster-xmm")
    plate = np.random.default_rng(0).normal(1.0, 0.1, (178, 178))
    images = np.array([[beta_model(178, core, 4e3, seed), plate] for seed, core in enumerate((4.0, 10.0, 24.0))])
    before = classifier.weights_
    table = randomisation_check(classifier, images, 3, n_draws=6)
    assert table["layer"][0] == "trained" and table["rank_correlation"][0] == 1.0
    # The apertures' own parameters and the columns come first, which change little or nothing: where the apertures look
    # is fixed by their start, and the columns are no part of the image.
    layers = table["layer"].tolist()
    assert layers[1:6] == ["(network)", "columns.2", "columns.0", "fc", "laterals.0"] and layers[-1] == "stem.0"
    rows = table[layers.index("fc") :]
    assert np.all(np.abs(rows["rank_correlation"]) < 0.7) and abs(np.mean(rows["rank_correlation"])) < 0.3
    assert table.meta["n_cells"] == 44**2 and table.meta["abs_by_chance"] == pytest.approx(0.0181, abs=1e-4)
    assert classifier.weights_ is before
    again, same, other = (
        randomisation_check(classifier, images[:1], seed, n_draws=1)["rank_correlation"] for seed in (3, 3, 4)
    )
    assert np.array_equal(again, same) and not np.array_equal(again, other)


def test_an_edge_detector_is_found_out(tmp_path):
    """A map that is the image whatever the weights are keeps its absolute correlation when they are random."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.numpy")
    from astroclassify.nn.networks._export import export_onnx

    class Blur(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = torch.nn.AvgPool2d(4)
            self.fc = torch.nn.Linear(1, 2)

        def forward(self, images):
            return self.fc(self.pool(images).mean(dim=(2, 3)))

    def build(n_bands, n_classes, shape):
        return Blur()

    module = Blur().eval()
    network = OnnxNetwork(export_onnx(module, n_bands=1, shape=(SIZE, SIZE)), input_shape=(1, SIZE, SIZE), n_classes=2)
    classifier = fitted(network, architecture=build)
    classifier.weights_ = safetensors.save({key: value.numpy() for key, value in module.state_dict().items()})
    images = [beta_model(SIZE, 3.0, 5e3, 0), np.full((SIZE, SIZE), np.nan)]
    with pytest.warns(AstroclassifyWarning, match="1 of 2 images could not be used, the first is image-0002"):
        table = randomisation_check(classifier, images, 0, n_draws=8)
    assert list(table["layer"]) == ["trained", "fc"] and table.meta["method"] == "gradient"
    assert table["rank_correlation_abs"][1] == pytest.approx(1.0) and table["rank_correlation_std"][1] > 0.5
    with pytest.raises(ValueError, match="n_draws"):
        randomisation_check(classifier, images, 0, n_draws=0)
    with pytest.raises(ValueError, match="at least one"):
        randomisation_check(classifier, images[1:], 0)
    with pytest.raises(TypeError, match="rng"):
        randomisation_check(classifier, images, "0")
