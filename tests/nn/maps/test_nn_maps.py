"""Activation maps: identities, hand-made networks whose maps are known, places on the sky, means and profiles."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS
from sklearn.exceptions import NotFittedError

from astroclassify import tables
from astroclassify.exceptions import (
    AstroclassifyWarning,
    EmptyResultWarning,
    GeometryError,
    MissingDependencyError,
    ModelError,
    SchemaError,
)
from astroclassify.images import Cutout, Geometry, read_image, write_image
from astroclassify.nn import CutoutClassifier, load_classifier, mean_activation_maps, radial_profiles
from astroclassify.nn.inputs._preprocess import Preprocessing
from astroclassify.nn.maps._cells import Cells, cells_of
from astroclassify.nn.maps._maps import activation_map
from astroclassify.nn.models._inference import OnnxNetwork, Predictor
from astroclassify.schemes import ClassScheme

PAIR = ClassScheme("pair", ("other", "cluster"), ("anything else", "cluster of galaxies"))
SIZE, N_CELLS = 32, 8
GRID = Geometry(1 * u.Mpc, (SIZE, SIZE))
BIAS = np.array([0.25, -0.5])
CELL = SIZE // N_CELLS


def own_network(n_bands, n_classes, shape):
    """Stand for a network of the user; the hand-made ones below take its place."""
    raise AssertionError("not to be built")


class LinearNetwork:
    """Class maps are weights times the mean counts of blocks of 4 x 4 pixels; runs without ONNX and torch."""

    n_classes = 2

    def __init__(self, weights):
        self.weights = np.asarray(weights, float)
        self.batches = []

    has_class_maps = True

    def class_maps(self, pixels):
        means = pixels.reshape(len(pixels), -1, N_CELLS, CELL, N_CELLS, CELL).mean(axis=(1, 3, 5))
        return (self.weights * means[:, None]).astype(np.float32)

    def logits(self, pixels):
        self.batches.append(len(pixels))
        return (self.class_maps(pixels).mean(axis=(2, 3)) + BIAS).astype(np.float32)

    def run(self, pixels, names=("logits",)):
        results = [getattr(self, name)(pixels) for name in names]
        if not all(np.isfinite(values).all() for values in results):
            raise ModelError("not finite")  # as the one in ONNX Runtime does
        return results


def fitted(network, *, architecture=own_network, bands=("xray",), geometry=GRID, scheme=PAIR):
    """Classifier around a network, as if it had been trained: linear stretch, pixels as they are."""
    classifier = CutoutClassifier(architecture, scheme=scheme, geometry=geometry, bands=bands, stretch="linear")
    rule = Preprocessing("linear", (0.0,) * len(bands), (1.0,) * len(bands))
    classifier.predictor_ = Predictor(network, bands=bands, geometry=geometry, preprocessing=rule, training={})
    classifier.predictor_.temperature, classifier.predictor_.novelty = 1.0, None
    classifier.temperature_, classifier.novelty_, classifier.training_ = 1.0, None, {}
    classifier.card_, classifier.classes_ = {"name": "hand-made"}, np.array(sorted(scheme.classes))
    return classifier


def weights_at(*cells, value=1.0):
    weights = np.zeros((2, N_CELLS, N_CELLS))
    for cell in cells:
        weights[1][cell] = value
    return weights


def on_sky(data, *, pixel, rotation=0.0, centre=(30.0, 10.0), cd=False, **meta):
    """Image of counts with a celestial WCS turned by an angle, its middle at the centre."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = centre, [(data.shape[1] + 1) / 2, (data.shape[0] + 1) / 2]
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if cd:
        wcs.wcs.cd = np.diag([-pixel, pixel]) @ turn
    else:
        wcs.wcs.cdelt, wcs.wcs.pc = [-pixel, pixel], turn
    return CCDData(data, unit=u.ct, wcs=wcs, meta={"REDSHIFT": 0.05, "EXPOSURE": 1e5, **meta})


PIXEL = GRID.pixel_width(0.05).to_value(u.deg)


def write_sample(folder, images, labels, groups):
    (folder / "images").mkdir(parents=True)
    for number, data in enumerate(images):
        if data is not None:
            write_image(on_sky(data, pixel=PIXEL), folder / "images" / f"s{number}.fits")
    n = len(labels)
    sample = QTable({"source_id": [f"s{i}" for i in range(n)], "group_id": list(groups)})
    sample["path"] = [f"images/s{i}.fits" for i in range(n)]
    sample["label"], sample["projection"], sample["redshift"] = list(labels), ["z"] * n, np.full(n, 0.05)
    for name, unit in (("m_500", u.Msun), ("r_500", u.kpc), ("t_cool", u.Gyr), ("n_e", u.cm**-3)):
        sample[name] = np.ones(n) * unit
    sample["c_sb"], sample["flags"] = np.ones(n), np.zeros(n, np.int64)
    tables.write_sample(sample, folder)
    return tables.read_sample(folder)


def beta_model(size, core, n, seed):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    shape = (1 + (x**2 + y**2) / core**2) ** -1.5
    return np.random.default_rng(seed).poisson(n * shape / shape.sum()).astype(float)


def test_the_mean_of_an_exact_map_and_a_constant_are_the_logit():
    """Zhou et al. (2016): sum over cells of the map / number of cells + constant = logit, for every class and image."""
    packaged, plates = load_classifier("cluster-xmm"), np.random.default_rng(9)
    images = [
        np.stack([beta_model(178, core, 4e3, seed), plates.normal(1.0, 0.1, (178, 178))])
        for seed, core in enumerate((3.0, 8.0, 25.0))
    ]
    planes = [packaged.predictor_.load(item)[0] for item in packaged.predictor_.items(images)[0]]
    logits = packaged.predictor_.network.logits(packaged.predictor_.preprocessing(np.array(planes)))
    for index, name in enumerate(packaged.scheme.classes):
        constants = []
        for image, logit in zip(images, logits[:, index], strict=True):
            found = activation_map(packaged, image, str(name))
            assert found.meta["METHOD"] == "exact" and found.unit == u.dimensionless_unscaled
            assert found.meta["LOGIT"] == pytest.approx(logit, abs=1e-5)
            assert found.meta["BIAS"] == pytest.approx(logit - found.data.mean(), abs=1e-5)
            assert (found.meta["CELLPIX"], found.meta["CELLUNIT"]) == (4.0, "arcmin")
            constants.append(found.meta["BIAS"])
        assert np.ptp(constants) < 1e-4 < np.ptp(logits[:, index])


def test_maps_of_the_packaged_model_of_profiles():
    """Its maps are painted from rings about the peak: means and logits belong together as those of any exact map."""
    packaged = load_classifier("coolcore")
    image = np.roll(beta_model(256, 8.0, 3e5, 0), (6, -9), axis=(0, 1))
    row = packaged.classify(image)[0]
    for name in packaged.scheme.classes:
        found = packaged.activation_map(image, str(name))
        assert found.shape == (64, 64) and found.meta["METHOD"] == "exact"
        assert (found.meta["CELLPIX"], found.meta["CELLSIZE"], found.meta["CELLUNIT"]) == (4.0, 15.625, "kpc")
        assert found.data.mean() + found.meta["BIAS"] == pytest.approx(found.meta["LOGIT"], abs=1e-4)
        assert found.meta["PROB"] == pytest.approx(row[f"p_{name}"], abs=1e-6)
        y, x = np.indices(found.shape) - 31.5
        far = np.hypot(y - 6 / 4, x + 9 / 4) * 15.625 > 530
        assert np.all(found.data[far] == 0), "beyond the last ring there is nothing"


def test_probability_is_that_of_classify_also_when_calibrated():
    classifier = fitted(LinearNetwork(weights_at((2, 5))))
    classifier.temperature_ = classifier.predictor_.temperature = 3.0
    image = np.full((SIZE, SIZE), 7.0)
    found = activation_map(classifier, image, "cluster")
    odds = (found.meta["LOGIT"] - BIAS[0]) / 3.0
    assert found.meta["PROB"] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)


def test_map_of_a_linear_network_is_what_was_put_in():
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(2, N_CELLS, N_CELLS))
    image = rng.poisson(9.0, (SIZE, SIZE)).astype(float)
    found = activation_map(fitted(LinearNetwork(weights)), image, "cluster")
    expected = weights[1] * image.reshape(N_CELLS, CELL, N_CELLS, CELL).mean(axis=(1, 3))
    assert np.allclose(found.data, expected, rtol=1e-6) and found.data.min() < 0 < found.data.max()
    assert found.wcs is None and found.meta["CELLSIZE"] == 125.0 and found.meta["CELLPIX"] == CELL
    assert found.meta["MODEL"] == "hand-made" and found.meta["CLASS"] == "cluster"


def test_a_network_that_looks_at_one_corner_is_found_out():
    found = activation_map(fitted(LinearNetwork(weights_at((0, 7)))), np.full((SIZE, SIZE), 5.0), "cluster")
    assert np.array_equal(np.argwhere(found.data), [[0, 7]])


@pytest.mark.parametrize("rotation", [0.0, 33.0, 180.0])
@pytest.mark.parametrize("cd", [False, True])
def test_the_brightest_cell_is_where_the_source_is_on_the_sky(rotation, cd):
    """A point source off the middle of a turned, larger image, which is not where the field is centred either."""
    data = np.full((90, 110), 0.5)
    data[61, 38] = 900.0
    image = on_sky(data, pixel=0.7 * PIXEL, rotation=rotation, cd=cd)
    source = image.wcs.pixel_to_world(38, 61)
    centre = image.wcs.pixel_to_world(45, 52)
    classifier = fitted(LinearNetwork(np.ones((2, N_CELLS, N_CELLS))))
    found = activation_map(classifier, image, "cluster", centre=centre)
    brightest = np.unravel_index(found.data.argmax(), found.shape)
    cell = CELL * PIXEL
    east, north = source.spherical_offsets_to(found.wcs.pixel_to_world(*brightest[::-1]))
    assert max(abs(east.deg), abs(north.deg)) < 0.55 * cell
    # The middle of the field, in cells, is the centre that was asked for.
    middle = found.wcs.pixel_to_world(found.meta["XMIDDLE"], found.meta["YMIDDLE"])
    assert middle.separation(centre).deg < 1e-3 * cell
    assert found.meta["XMIDDLE"] == found.meta["YMIDDLE"] == 3.5


@pytest.mark.parametrize("cd", [False, True])
def test_cells_keep_the_projection_of_an_image_that_is_on_the_grid(cd):
    data = np.zeros((SIZE, SIZE))
    data[26, 5] = 50.0
    image = on_sky(data + 0.1, pixel=PIXEL, cd=cd)
    found = activation_map(fitted(LinearNetwork(np.ones((2, N_CELLS, N_CELLS)))), image, "cluster")
    assert found.data.argmax() == 6 * N_CELLS + 1
    # The middle of the block of pixels 24-27, 4-7.
    assert found.wcs.pixel_to_world(1, 6).separation(image.wcs.pixel_to_world(5.5, 25.5)).deg < 1e-9
    assert found.wcs.proj_plane_pixel_area().to_value(u.deg**2) == pytest.approx((CELL * PIXEL) ** 2)


def test_redshift_and_flags_travel_with_the_map():
    image = on_sky(np.full((SIZE, SIZE), 3.0), pixel=PIXEL, OBJECT="A 1795")
    del image.meta["EXPOSURE"]
    found = activation_map(fitted(LinearNetwork(weights_at((1, 1)))), image, "cluster", redshift=0.05)
    assert found.meta["REDSHIFT"] == 0.05 and found.meta["FLAGS"] & 4 and found.meta["SOURCEID"] == "A 1795"


def test_maps_of_grids_in_angles_have_lengths_where_a_redshift_is_known():
    grid = Geometry(7 * u.arcmin, (SIZE, SIZE))
    classifier = fitted(LinearNetwork(weights_at((1, 1))), geometry=grid)
    image = on_sky(np.full((SIZE, SIZE), 3.0), pixel=7 / 60 / SIZE, REDSHIFT="unknown")
    without = activation_map(classifier, image, "cluster")
    assert (without.meta["CELLUNIT"], without.meta["CELLSIZE"]) == ("arcmin", pytest.approx(7 / 8))
    found = activation_map(classifier, image, "cluster", redshift=0.3)
    # 4.6 kpc per arcsec at z = 0.3 in the cosmology of TNG (H0 = 67.74, Om = 0.3089).
    assert found.meta["CELLUNIT"] == "kpc" and found.meta["CELLSIZE"] == pytest.approx(4.6 * 60 * 7 / 8, rel=0.01)


def test_maps_of_two_bands():
    planes = {band: on_sky(np.full((SIZE, SIZE), 3.0 + i), pixel=PIXEL) for i, band in enumerate(("xray", "optical"))}
    classifier = fitted(LinearNetwork(np.ones((2, N_CELLS, N_CELLS))), bands=("xray", "optical"))
    found = activation_map(classifier, Cutout("pair", planes), "cluster")
    assert np.allclose(found.data, 3.5) and found.wcs.has_celestial and found.meta["SOURCEID"] == "pair"


def test_a_map_can_be_written_and_read(tmp_path):
    image = on_sky(beta_model(SIZE, 3.0, 5000, 0), pixel=PIXEL)
    write_image(image, tmp_path / "image.fits")
    found = activation_map(fitted(LinearNetwork(weights_at((3, 3), value=-2))), tmp_path / "image.fits", "cluster")
    write_image(found, tmp_path / "map.fits")
    back = read_image(tmp_path / "map.fits")
    assert np.array_equal(back.data, found.data) and back.meta["CELLSIZE"] == 125.0 and back.data.min() < 0
    assert back.wcs.pixel_to_world(2, 3).separation(found.wcs.pixel_to_world(2, 3)).arcsec < 1e-3


def test_blocks_and_single_cells():
    assert Cells.blocks((4, 4), (128, 128)).first == (15.5, 15.5)
    assert cells_of("resnet18", (1, 1), (32, 32)).middle == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "shape", "width"),
    [
        ("resnet18", 256, 8),
        ("mobilenet", 256, 4),
        ("mobilenet_v2", 256, 8),
        ("attention", 64, 8),
        ("kosiba2020", 356, 8),
    ],
)
def test_gradients_are_centred_where_cells_are_said_to_be(name, shape, width):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from astroclassify.nn.networks import _build as _networks

    network = _networks.build(name, n_bands=1, n_classes=2, shape=(shape, shape), n_filters=width, seed=0).eval()
    captured = []
    if name == "kosiba2020":
        network.get_submodule(network.gradcam_layer).register_forward_hook(lambda m, i, o: captured.append(o))
    weight = 0.0
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(1, 1, shape, shape, generator=generator).requires_grad_()
        outputs = network.outputs(images)
        maps = outputs.get("class_maps", captured[-1] if captured else None)
        middle = maps.shape[-1] // 2
        column = maps[0, :, :, middle]
        (gradient,) = torch.autograd.grad((column * torch.randn(column.shape, generator=generator)).sum(), images)
        weight = weight + (gradient[0, 0] ** 2).sum(0).numpy()
    cells = cells_of(name, tuple(maps.shape[2:]), (shape, shape))
    centre = np.average(np.arange(shape), weights=weight)
    assert abs(centre - (cells.first[1] + middle * cells.pitch[1])) < 0.25 * cells.pitch[1]


def test_means_are_over_images_that_are_right_and_sure(tmp_path):
    """Against a plain computation from single maps and the predictions."""
    rng = np.random.default_rng(2)
    levels = np.array([1.0, 9.0, 5.0, 12.0, 0.5, 2.0, 8.0, 11.0, 3.0])
    images = [rng.poisson(level, (SIZE, SIZE)).astype(float) for level in levels]
    labels = ["other", "cluster", "cluster", "cluster", "other", "cluster", "other", "cluster", ""]
    weights = np.stack([-0.5 * np.ones((N_CELLS, N_CELLS)), rng.uniform(0, 1, (N_CELLS, N_CELLS))])
    classifier = fitted(LinearNetwork(weights))
    classifier.predictor_.network.logits = lambda pixels: (
        LinearNetwork(weights).class_maps(pixels).mean(axis=(2, 3)) + np.array([2.0, -2.0])
    ).astype(np.float32)
    sample = write_sample(tmp_path / "s", images, labels, [f"g{i}" for i in range(9)])
    found = mean_activation_maps(classifier, sample, p_min=0.8)
    for index, name in enumerate(PAIR.classes):
        single = [activation_map(classifier, image, name) for image in images]
        used = [m for m, label in zip(single, labels, strict=True) if label == name and m.meta["PROB"] > 0.8]
        assert found[name].meta["NIMAGES"] == len(used) >= 2, index
        stack = np.array([m.data for m in used])
        assert np.allclose(found[name].data, stack.mean(axis=0))
        assert np.allclose(found[name].uncertainty.array, stack.std(axis=0, ddof=1) / np.sqrt(len(used)))
    meta = found["cluster"].meta
    assert (meta["NLABEL"], meta["NWRONG"], meta["NUNSURE"], meta["NFAILED"], meta["NNOLABEL"]) == (5, 1, 1, 0, 1)
    assert meta["PMIN"] == 0.8 and meta["METHOD"] == "exact"
    # Offsets from the middle of the field in kpc, north up and west to the right.
    x, y = found["cluster"].wcs.wcs_pix2world([[0, 7]], 0)[0]
    assert (x, y) == (pytest.approx(-437.5), pytest.approx(437.5)) and found["cluster"].wcs.wcs.cunit[0] == u.kpc


def test_projections_of_one_halo_do_not_count_thrice_in_the_error(tmp_path):
    rng = np.random.default_rng(3)
    images = [rng.poisson(8, (SIZE, SIZE)).astype(float) for _ in range(4)]
    classifier = fitted(LinearNetwork(np.stack([np.zeros((8, 8)), np.ones((8, 8))])))
    once = write_sample(tmp_path / "once", images, ["cluster"] * 4, "abcd")
    thrice = write_sample(tmp_path / "thrice", images * 3, ["cluster"] * 12, "abcd" * 3)
    with pytest.warns(EmptyResultWarning, match="no image of other"):
        first, second = (mean_activation_maps(classifier, sample)["cluster"] for sample in (once, thrice))
    assert (first.meta["NIMAGES"], second.meta["NIMAGES"], second.meta["NGROUPS"]) == (4, 12, 4)
    assert np.allclose(first.data, second.data)
    assert np.allclose(first.uncertainty.array, second.uncertainty.array) and first.uncertainty.array.min() > 0


def test_failed_images_and_empty_classes_are_reported(tmp_path):
    images = [np.full((SIZE, SIZE), 9.0), None, np.full((SIZE, SIZE), np.nan)]
    sample = write_sample(tmp_path / "s", images[:2], ["cluster", "cluster"], "ab")
    classifier = fitted(LinearNetwork(np.stack([np.zeros((8, 8)), np.ones((8, 8))])))
    with pytest.warns(AstroclassifyWarning) as caught:
        found = mean_activation_maps(classifier, sample)
    texts = [str(warning.message) for warning in caught]
    assert any("1 of 2 images could not be used, the first is s1: FileNotFoundError" in text for text in texts)
    assert any("no image of other is predicted rightly" in text for text in texts)
    assert found["cluster"].meta["NFAILED"] == 1 and found["cluster"].meta["NIMAGES"] == 1
    assert np.all(np.isnan(found["other"].data)) and found["other"].meta["NIMAGES"] == 0
    assert np.all(np.isnan(found["cluster"].uncertainty.array)), "one group has no scatter"
    profiles = radial_profiles(found)
    assert np.all(np.isnan(profiles["mean"][profiles["class"] == "other"]))
    with pytest.raises(GeometryError, match="NaN"):
        activation_map(classifier, images[2], "cluster")


def test_an_image_that_overflows_the_network_does_not_end_the_run(tmp_path):
    images = [np.full((SIZE, SIZE), value) for value in (9.0, 1e38, 9.0)]
    sample = write_sample(tmp_path / "s", images, ["cluster"] * 3, "abc")
    classifier = fitted(LinearNetwork(np.stack([np.zeros((8, 8)), np.full((8, 8), 9.0)])))
    with pytest.warns(AstroclassifyWarning) as caught, np.errstate(over="ignore", invalid="ignore"):
        found = mean_activation_maps(classifier, sample)["cluster"]
    texts = [str(warning.message) for warning in caught]
    assert any("1 of 3 images could not be used, the first is s1: ModelError: not finite" in text for text in texts)
    assert np.allclose(found.data, 81.0) and (found.meta["NIMAGES"], found.meta["NFAILED"]) == (2, 1)


def test_a_sample_without_rows_gives_maps_of_nan():
    sample = tables.empty(tables.SAMPLE)
    sample.meta["folder"] = "."
    with pytest.warns(EmptyResultWarning, match="other, cluster"):
        found = mean_activation_maps(fitted(LinearNetwork(weights_at((1, 1)))), sample)
    assert list(found) == ["other", "cluster"] and found["other"].shape == (N_CELLS, N_CELLS)


def test_few_images_are_in_memory_at_a_time(tmp_path):
    classifier = fitted(LinearNetwork(np.stack([np.zeros((8, 8)), np.ones((8, 8))])))
    images = [np.full((SIZE, SIZE), 9.0)] * 70
    sample = write_sample(tmp_path / "s", images, ["cluster"] * 69 + ["other"], map(str, range(70)))
    with pytest.warns(EmptyResultWarning):
        found = mean_activation_maps(classifier, sample)
    assert max(classifier.predictor_.network.batches) <= 32 and found["cluster"].meta["NIMAGES"] == 69
    assert found["other"].meta["NWRONG"] == 1


def made_map(data, *, error=None, field=1000.0, middle=None, unit="kpc", n_images=1):
    n = data.shape[0]
    middle = (n - 1) / 2 if middle is None else middle
    meta = {"CELLSIZE": field / n, "CELLPIX": 32.0, "CELLPIXY": 32.0, "CELLUNIT": unit, "FIELD": field}
    meta |= {"XMIDDLE": middle, "YMIDDLE": middle, "METHOD": "exact", "MODEL": "m", "NIMAGES": n_images}
    image = CCDData(data, unit=u.dimensionless_unscaled, meta=meta)
    if error is not None:
        from astropy.nddata import StdDevUncertainty

        image.uncertainty = StdDevUncertainty(error)
    return image


def test_profile_weighs_cells_by_their_area_in_the_ring():
    """The four middle cells of 8 x 8: all of the first ring, and of the second what a square has beyond its circle."""
    data = np.zeros((8, 8))
    data[3:5, 3:5] = 1.0
    maps = {"CC": made_map(data, error=np.full((8, 8), 0.2), n_images=5), "NCC": made_map(np.full((8, 8), -3.0))}
    table = radial_profiles(maps, r_500=800 * u.kpc)
    assert table.colnames[:4] == ["class", "radius", "radius_lo", "radius_hi"] and len(table) == 8
    core = table[table["class"] == "CC"]
    share = (250**2 - np.pi * 125**2) / (np.pi * (250**2 - 125**2))
    assert core["mean"] == pytest.approx([1.0, share, 0.0, 0.0], abs=0.005)
    assert core["n_cells"] == pytest.approx(np.pi * np.array([1.0, 3.0, 5.0, 7.0]), rel=0.02)
    assert core["error"] == pytest.approx(0.2)
    other = table[table["class"] == "NCC"]
    assert other["mean"] == pytest.approx(-3.0) and np.all(np.isnan(other["error"]))
    assert core["radius"].to_value(u.kpc) == pytest.approx([62.5, 187.5, 312.5, 437.5])
    assert core["radius_r500"] == pytest.approx(np.array([62.5, 187.5, 312.5, 437.5]) / 800)
    assert table.meta["cell_size"] == 125 * u.kpc and table.meta["n_images"] == {"CC": 5, "NCC": 1}


def test_profile_of_cells_that_are_centred_on_the_middle():
    """Cells of ResNet-18: the middle of the field lies in cell (4, 4), which covers most of the first ring."""
    cells = cells_of("resnet18", (8, 8), (256, 256))
    data = np.zeros((8, 8))
    data[4, 4] = 1.0
    table = radial_profiles(made_map(data, middle=cells.middle[0]))
    # A square of side 125 kpc on the middle, inside a circle of radius 125 kpc.
    assert table["mean"][0] == pytest.approx(1 / np.pi, abs=0.01) and table["mean"][1] == 0.0


def test_profiles_of_angles_have_no_r500():
    table = radial_profiles(made_map(np.ones((4, 4)), field=7.0, unit="arcmin"))
    assert table["radius"].unit == u.arcmin
    with pytest.raises(GeometryError, match="angles"):
        radial_profiles(made_map(np.ones((4, 4)), field=7.0, unit="arcmin"), r_500=1 * u.Mpc)


WITHOUT_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnx", "safetensors"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Block())
import numpy as np
from astropy import units as u
from astroclassify.nn import load_classifier, occlusion_map
model = load_classifier("coolcore")
image = np.random.default_rng(0).poisson(2.0, (256, 256)).astype(float)
found = model.activation_map(image, "NCC")
assert found.shape == (64, 64) and occlusion_map(model, image, "NCC", size=125 * u.kpc).shape == (8, 8)
"""


def test_exact_maps_and_occlusion_need_no_torch():
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_TORCH], check=True)


def test_gradient_maps_say_that_they_need_torch(monkeypatch):
    network = LinearNetwork(weights_at((1, 1)))
    network.has_class_maps = False
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="train"):
        activation_map(fitted(network, architecture="kosiba2020"), np.ones((SIZE, SIZE)), "cluster")


def test_bad_arguments():
    classifier = fitted(LinearNetwork(weights_at((1, 1))))
    image = np.ones((SIZE, SIZE))
    with pytest.raises(SchemaError):
        activation_map(classifier, image, "CC")
    with pytest.raises(GeometryError):
        activation_map(classifier, np.ones((SIZE, SIZE + 1)), "cluster")
    with pytest.raises(TypeError):
        activation_map(classifier, [image], "cluster")
    with pytest.raises(NotFittedError):
        activation_map(CutoutClassifier(), image, "CC")
    sample = tables.empty(tables.SAMPLE)
    for p_min in (1.0, -0.1, "0.9", True, np.nan):
        with pytest.raises(ValueError, match="p_min"):
            mean_activation_maps(classifier, sample, p_min=p_min)
    with pytest.raises(SchemaError, match="label"):
        mean_activation_maps(classifier, [image])
    for maps in ({}, [1], {"CC": CCDData(np.ones((2, 2)), unit=u.ct)}):
        with pytest.raises(GeometryError):
            radial_profiles(maps)
    with pytest.raises(TypeError):
        radial_profiles(made_map(np.ones((4, 4))), r_500=800)


def test_labels_outside_the_scheme_are_refused(tmp_path):
    sample = write_sample(tmp_path / "s", [np.ones((SIZE, SIZE))], ["CC"], "a")
    with pytest.raises(SchemaError):
        mean_activation_maps(fitted(LinearNetwork(weights_at((1, 1)))), sample)


def pooled_module(torch, *, with_maps, seed=0):
    """Convolutions, mean pooling, one linear layer: with class maps of its own, or without."""
    nn = torch.nn

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 6, 5, stride=4, padding=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
                nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(inplace=True),
            )  # fmt: skip
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(5, 2)

        def forward(self, images):
            return self.fc(torch.flatten(self.pool(self.body(images)), 1))

    class WithMaps(Pooled):
        def maps(self, images):
            maps = nn.functional.conv2d(self.body(images), self.fc.weight[:, :, None, None])
            return maps.mean(dim=(2, 3)) + self.fc.bias, maps

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (WithMaps if with_maps else Pooled)()


def trained_like(torch, function, module):
    """Classifier whose network was built by a function and has the weights of a module."""
    safetensors = pytest.importorskip("safetensors.numpy")
    from astroclassify.nn.networks._export import export_onnx

    data = export_onnx(module.eval(), n_bands=1, shape=(SIZE, SIZE))
    network = OnnxNetwork(data, input_shape=(1, SIZE, SIZE), n_classes=2)
    classifier = fitted(network, architecture=function)
    state = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in module.state_dict().items()}
    classifier.weights_ = safetensors.save(state)
    return classifier


@pytest.fixture
def pair():
    """The same network with exact maps and, as if it had none, with gradient maps."""
    torch = pytest.importorskip("torch")

    def exact(n_bands, n_classes, shape):
        return pooled_module(torch, with_maps=True)

    def plain(n_bands, n_classes, shape):
        return pooled_module(torch, with_maps=False)

    return [trained_like(torch, function, function(1, 2, (SIZE, SIZE))) for function in (exact, plain)]


def test_gradient_maps_are_the_exact_ones_for_a_pooled_network(pair, tmp_path):
    """Selvaraju et al. (2017), section 3.1."""
    image = beta_model(SIZE, 4.0, 3000, 1)
    for name in PAIR.classes:
        exact, gradient = (activation_map(classifier, image, name) for classifier in pair)
        assert (exact.meta["METHOD"], gradient.meta["METHOD"]) == ("exact", "gradient")
        assert "BIAS" in exact.meta and "BIAS" not in gradient.meta
        assert np.allclose(exact.data, gradient.data, atol=1e-4 * np.abs(exact.data).max())
        assert gradient.data.shape == (N_CELLS, N_CELLS)
        assert gradient.meta["LOGIT"] == pytest.approx(exact.meta["LOGIT"])
    images = [beta_model(SIZE, 2.0 + i, 3000, i) for i in range(12)]
    labels = pair[0].predict(np.array(images)).tolist()
    sample = write_sample(tmp_path / "s", images, labels, map(str, range(12)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EmptyResultWarning)  # start values need not predict both classes
        means = [mean_activation_maps(classifier, sample, p_min=0.3) for classifier in pair]
    for name in set(labels):
        assert means[0][name].meta["NIMAGES"] == labels.count(name)
        assert np.allclose(means[0][name].data, means[1][name].data, rtol=1e-3, atol=1e-3)


def test_gradient_maps_of_the_network_of_kosiba():
    """Its own layer is used; to first order, the map and the gradient tell how the logit changes."""
    torch = pytest.importorskip("torch")
    from astroclassify.nn.maps._gradients import torch_maps
    from astroclassify.nn.networks import _build as _networks

    shape = (96, 96)
    network = _networks.build("kosiba2020", n_bands=1, n_classes=2, shape=shape, n_filters=8, seed=1).eval()
    pixels = np.random.default_rng(0).normal(size=(2, 1, *shape)).astype(np.float32)
    logits, maps, method = torch_maps(network, pixels, [1, 0])
    assert method == "gradient" and maps.shape == (2, 3, 3)
    with torch.no_grad():
        assert np.allclose(logits, network(torch.from_numpy(pixels)).numpy(), atol=1e-6)
    # The weights by finite differences: the change of the logit when one feature map grows everywhere by a little.
    layer, captured = network.get_submodule(network.gradcam_layer), []
    layer.register_forward_hook(lambda m, i, o: captured.append(o) if not captured else captured[0] + shift)
    shift = torch.zeros(1, 4, 1, 1)
    with torch.no_grad():
        network(torch.from_numpy(pixels[:1]))
        expected = 0.0
        for k in range(4):
            values = []
            for sign in (1, -1):
                shift = torch.zeros(1, 4, 1, 1)
                shift[0, k] = sign * 1e-3
                values.append(network(torch.from_numpy(pixels[:1]))[0, 1].item())
            expected = expected + (values[0] - values[1]) / 2e-3 * captured[0][0, k].numpy()
    assert np.allclose(maps[0], expected, atol=0.02 * np.abs(expected).max())


def test_a_network_without_maps_is_named(pair):
    torch = pytest.importorskip("torch")
    from astroclassify.nn.maps._gradients import torch_maps

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
    with pytest.raises(ModelError, match="no activation map"):
        torch_maps(network, np.zeros((1, 1, 8, 8), np.float32), [0])


def test_torch_and_onnx_give_the_same_exact_maps():
    pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from astroclassify.nn.maps._gradients import torch_maps

    packaged = load_classifier("cluster-xmm")
    image = np.array([beta_model(178, 10.0, 4e3, 3), np.random.default_rng(9).normal(1.0, 0.1, (178, 178))])
    (item,), _ = packaged.predictor_.items([image])
    pixels = packaged.predictor_.preprocessing(packaged.predictor_.load(item)[0][None])
    _, maps, method = torch_maps(packaged.build_network(), pixels, [1])
    assert method == "exact"
    assert np.allclose(maps[0], packaged.predictor_.network.class_maps(pixels)[0, 1], atol=1e-3)


def test_sky_position_type_is_checked():
    image = on_sky(np.ones((SIZE, SIZE)), pixel=PIXEL)
    with pytest.raises(TypeError, match="centre"):
        activation_map(fitted(LinearNetwork(weights_at((1, 1)))), image, "cluster", centre=(30, 10))
    far = SkyCoord(40 * u.deg, 10 * u.deg)
    with pytest.raises(GeometryError):
        activation_map(fitted(LinearNetwork(weights_at((1, 1)))), image, "cluster", centre=far)
