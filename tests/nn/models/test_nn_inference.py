"""Classification of images of every kind with networks whose answer is known in closed form; torch is not needed."""

import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import units as cosmology_units
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from scipy.special import softmax

from astroclassify import tables
from astroclassify.exceptions import EmptyResultWarning, GeometryError, ModelError, SchemaError
from astroclassify.images import Cutout, Geometry, write_image
from astroclassify.nn.inputs._items import as_items
from astroclassify.nn.inputs._pixels import load_pixels
from astroclassify.nn.inputs._preprocess import Preprocessing
from astroclassify.nn.models import _onnx_network
from astroclassify.nn.models._inference import Predictor, classify, probabilities
from astroclassify.nn.models._onnx_network import BATCH, OnnxNetwork
from astroclassify.schemes import CLUSTER, COOL_CORE, Flag

SIDE = 16
GRID = Geometry(SIDE * 4 * u.arcsec, (SIDE, SIDE))
WEIGHTS, BIAS = np.array([[0.5, -1.0, 0.1]]), np.array([0.0, 1.0, 0.2])


def as_ccd(data, *, unit=u.ct, pixel=4.0, **meta):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [30.0, 10.0], [(np.shape(data)[1] + 1) / 2, (np.shape(data)[0] + 1) / 2]
    wcs.wcs.cdelt = [-pixel / 3600, pixel / 3600]
    meta = {"TELESCOP": "XMM", "INSTRUME": "EPN", "E_MIN": 0.5, "E_MAX": 2.0, "EXPOSURE": 1e4, **meta}
    return CCDData(np.asarray(data, float), unit=unit, wcs=wcs, meta=meta)


def poisson(n, mean=3.0, seed=0):
    return np.random.default_rng(seed).poisson(mean, (n, SIDE, SIDE)).astype(float)


def make(writer, *, bands=("xray",), weights=WEIGHTS, bias=BIAS, stretch="linear", network=None, **changes):
    data = writer.mean_network((len(bands), SIDE, SIDE), weights, bias) if network is None else network
    network = OnnxNetwork(data, input_shape=(len(bands), SIDE, SIDE), n_classes=len(bias))
    rule = Preprocessing(stretch, (0.0,) * len(bands), (1.0,) * len(bands))
    training = {"instruments": [["XMM", "EPN"]], "energy_range": [0.5, 2.0]}
    return Predictor(network, bands=bands, geometry=GRID, preprocessing=rule, training=training, **changes)


@pytest.fixture
def predictor(onnx_writer):
    return make(onnx_writer)


def table_p(table, scheme=COOL_CORE):
    return np.stack([table[f"p_{name}"] for name in scheme.classes], axis=1)


def expected(images):
    return softmax(np.mean(images, axis=(1, 2))[:, None] @ WEIGHTS + BIAS, axis=1)


def write_sample(folder, images, label="CC"):
    (folder / "images").mkdir(parents=True)
    sample = QTable()
    names = [f"s{i}" for i in range(len(images))]
    for name, data in zip(names, images, strict=True):
        write_image(as_ccd(data), folder / "images" / f"{name}.fits")
    empty = tables.empty(tables.SAMPLE)
    for column in empty.colnames:
        unit = getattr(empty[column], "unit", None)
        kind = empty[column].dtype.kind
        values = np.full(len(names), "z" if kind == "U" else 1, dtype="U32" if kind == "U" else empty[column].dtype)
        sample[column] = values if unit is None else values * unit
    sample["source_id"], sample["path"] = names, [f"images/{name}.fits" for name in names]
    sample["label"], sample["flags"] = [label] * len(names), 0
    sample["redshift"] = 0.05
    tables.write_sample(sample, folder)


def test_probabilities_are_those_of_the_formula(predictor):
    images = poisson(11)
    assert table_p(classify(predictor, images, scheme=COOL_CORE)) == pytest.approx(expected(images), abs=1e-6)
    assert probabilities(predictor, images) == pytest.approx(expected(images), abs=1e-6)
    predictor.temperature = 2.5
    logits = np.mean(images, axis=(1, 2))[:, None] @ WEIGHTS + BIAS
    for p in (table_p(classify(predictor, images, scheme=COOL_CORE)), probabilities(predictor, images)):
        assert p == pytest.approx(softmax(logits / 2.5, axis=1), abs=1e-6)


def test_every_way_to_hand_over_images(predictor, tmp_path):
    images = poisson(7)
    write_sample(tmp_path / "sample", images)
    (tmp_path / "plain").mkdir()
    for i in reversed(range(7)):
        write_image(as_ccd(images[i]), tmp_path / "plain" / f"s{i}.fits{'.gz' if i == 3 else ''}")
    (tmp_path / "plain" / "notes.txt").write_text("not an image")
    (tmp_path / "plain" / ".hidden.fits").write_text("not an image")
    (tmp_path / "plain" / "below.fits").mkdir()
    sample = tables.read_sample(tmp_path / "sample")
    paths = tables.image_paths(sample)
    ccds = [as_ccd(data) for data in images]
    cutouts = [Cutout(f"s{i}", {"optical": as_ccd(images[0]), "xray": each}) for i, each in enumerate(ccds)]
    files = [each.write(tmp_path / f"{each.source_id}.fits") for each in cutouts]
    packed = [each.write(tmp_path / f"{each.source_id}.fits.gz") for each in cutouts]
    ways = [
        tmp_path / "sample", str(tmp_path / "sample"), sample, paths, [str(path) for path in paths], tuple(paths),
        tmp_path / "plain", ccds, cutouts, files, packed, images, images[:, None], list(images),
    ]  # fmt: skip
    for way in ways:
        table = classify(predictor, way, scheme=COOL_CORE)
        assert table_p(table) == pytest.approx(expected(images), abs=1e-6)
        assert np.all(table["message"] == "")
        if not isinstance(way, (list, np.ndarray)) or way is cutouts or way is files or way is packed:
            assert table["source_id"].tolist() == [f"s{i}" for i in range(7)]
    for way in (tmp_path / "sample", sample):
        assert classify(predictor, way, scheme=COOL_CORE)["label"].tolist() == ["CC"] * 7
    for one in (paths[2], ccds[2], cutouts[2], files[2]):
        table = classify(predictor, one, scheme=COOL_CORE)
        assert table_p(table) == pytest.approx(expected(images[2:3]), abs=1e-6) and table["flags"][0] == 0


def test_redshift_that_is_not_known_is_left_to_the_header():
    rule = {"bands": ("xray",), "shape": (SIDE, SIDE)}
    images = [as_ccd(data) for data in poisson(3)]
    masked = MaskedColumn([0.05, 0.3, 0.07], mask=[False, True, False])
    quantity = [0.05, 0.3, 0.07] * cosmology_units.redshift
    for given in (
        masked, np.ma.MaskedArray([0.05, 0.3, 0.07], masked.mask), [0.05, np.nan, 0.07],
        Masked(quantity, masked.mask), Masked(quantity.value * u.one, masked.mask),
    ):  # fmt: skip
        items, _ = as_items(images, redshift=given, **rule)
        assert [item.redshift for item in items] == [0.05, None, 0.07]
    for bad in (np.nan, [0.05, np.inf, 0.05], [0.05, -1, 0.05]):
        with pytest.raises(ValueError, match="redshift must be finite"):
            as_items(images, redshift=bad, **rule)
    with pytest.raises(ValueError, match="redshift must have no unit, got kpc"):
        as_items(images, redshift=0.05 * u.kpc, **rule)


def test_plate_on_other_pixels_keeps_its_level():
    """Densities are averaged, not added up, when pixels become larger."""
    geometry = Geometry(7 * u.arcmin, (32, 32))
    wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 64.5, "CRPIX2": 64.5, "CRVAL1": 10.0,
               "CRVAL2": 0.0, "CDELT1": -7 / 60 / 128, "CDELT2": 7 / 60 / 128})  # fmt: skip
    bands = {name: CCDData(np.full((128, 128), 100.0), unit=unit, wcs=wcs) for name, unit in
             (("xray", u.ct), ("optical", u.adu))}  # fmt: skip
    (item,), _ = as_items(Cutout("source", bands), bands=("xray", "optical"), shape=(32, 32))
    pixels, _, _ = load_pixels(item, bands=("xray", "optical"), geometry=geometry)
    assert pixels[0] == pytest.approx(1600.0) and pixels[1] == pytest.approx(100.0)


def test_an_empty_folder_gives_an_empty_table(predictor, tmp_path):
    with pytest.warns(EmptyResultWarning, match="no FITS file"):
        table = classify(predictor, tmp_path, scheme=COOL_CORE)
    assert len(table) == 0
    assert table.colnames == ["source_id", "label_pred", "p_CC", "p_WCC", "p_NCC", "flags", "message"]


def test_rows_do_not_depend_on_the_executor(predictor):
    images = poisson(2 * BATCH + 1)
    images[3] = np.nan
    here = classify(predictor, list(images), scheme=COOL_CORE)
    with ThreadPoolExecutor(3) as executor:
        there = classify(predictor, list(images), scheme=COOL_CORE, executor=executor)
    assert np.array_equal(table_p(here), table_p(there), equal_nan=True)
    assert here["message"].tolist() == there["message"].tolist() and here["message"][3]
    assert (here["flags"] & Flag.FAILED > 0).tolist() == [i == 3 for i in range(len(images))]


def test_probabilities_do_not_depend_on_the_neighbours(predictor):
    images = poisson(3 * BATCH + 1)
    together = probabilities(predictor, images)
    alone = np.concatenate([probabilities(predictor, images[i : i + 1]) for i in range(len(images))])
    assert np.array_equal(together, alone)


def test_reading_stays_a_bounded_number_of_images_ahead(predictor, monkeypatch):
    """With the network held up, no more is read than fits the queue, however many images there are."""
    monkeypatch.setattr(_onnx_network.joblib, "cpu_count", lambda: 2)
    go, read, run = threading.Event(), [], predictor.network.run_batch
    load = predictor._load

    def slow(pixels, names):
        assert go.wait(30)
        return run(pixels, names)

    monkeypatch.setattr(predictor, "_load", lambda item: read.append(item.source_id) or load(item))
    monkeypatch.setattr(predictor.network, "run_batch", slow)
    items, _ = as_items(poisson(40 * BATCH), bands=("xray",), shape=(SIDE, SIDE))
    timer = threading.Timer(0.5, lambda: (seen.append(len(read)), go.set()))
    seen = []
    timer.start()
    rows = list(predictor.stream(items))
    assert seen == [4 * BATCH] and len(read) == len(rows) == 40 * BATCH  # 2 running, 1 waits, 1 is handed over


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(predictor, tmp_path):
    path = write_image(as_ccd(poisson(1)[0]), tmp_path / "one.fits")
    peaks = []
    for n in (40, 400):
        tracemalloc.start()
        table = classify(predictor, [path] * n, scheme=COOL_CORE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(table) == n
    assert peaks[1] - peaks[0] < 360 * 4096  # a row and its item; an image would be 2 kB a plane and more on the way


def test_only_what_is_asked_for_is_computed(predictor, monkeypatch):
    asked, run = [], predictor.network.run_batch
    monkeypatch.setattr(predictor.network, "run_batch", lambda pixels, names: asked.append(names) or run(pixels, names))
    images = poisson(3)
    classify(predictor, images, scheme=COOL_CORE)
    assert asked == [("logits",)]
    items, _ = as_items(images, bands=("xray",), shape=(SIDE, SIDE))
    rows = list(predictor.stream(items, extras=("features",)))
    assert asked[1:] == [("logits", "features")]
    assert [row.extras["features"][0] for row in rows] == pytest.approx(images.mean(axis=(1, 2)), rel=1e-5)
    assert predictor.network.outputs == ("logits", "features") and not predictor.network.has_class_maps
    with pytest.raises(ModelError, match="no output class_maps"):
        predictor.network.class_maps(images[:, None])


class Bright:
    """Novelty score that finds bright images unfamiliar."""

    kinds = ("features", "statistics")

    def unfamiliar(self, features, statistics):
        assert statistics.shape == (len(features), 6)
        assert np.all(np.isnan(statistics[:, -1])) or statistics[:, -1] == pytest.approx(4)
        return features[:, 0] > 10


def test_unfamiliar_images_are_flagged(onnx_writer):
    predictor = make(onnx_writer, novelty=Bright())
    images = np.concatenate([poisson(2), poisson(1, mean=20), poisson(1)])
    images[3] = np.nan
    for way in (list(images), [as_ccd(each) for each in images]):
        flags = classify(predictor, way, scheme=COOL_CORE)["flags"]
        assert (flags & Flag.UNFAMILIAR > 0).tolist() == [False, False, True, False]
        assert (flags & Flag.FAILED > 0).tolist() == [False, False, False, True]
    assert classify(predictor, as_ccd(images[2]), scheme=COOL_CORE)["flags"][0] & Flag.UNFAMILIAR


def test_an_image_that_the_network_cannot_digest_keeps_its_row(predictor):
    images = poisson(5)
    images[1] = 3e38  # finite in the image, not in the sum
    table = classify(predictor, images, scheme=COOL_CORE)
    assert (table["flags"] & Flag.FAILED > 0).tolist() == [False, True, False, False, False]
    assert "no finite numbers" in table["message"][1]
    assert table_p(table)[[0, 2]] == pytest.approx(expected(images[[0, 2]]), abs=1e-6)
    with pytest.raises(ModelError, match="no finite numbers"):
        classify(predictor, as_ccd(images[1]), scheme=COOL_CORE)
    with pytest.raises(ModelError, match="not finite"):
        probabilities(predictor, images)


def odd(kind):
    data = poisson(1)[0]
    if kind == "saturated":
        return as_ccd(np.minimum(100 * data, 255))
    if kind == "constant":
        return as_ccd(np.full_like(data, 2))
    if kind == "empty":
        return as_ccd(np.zeros_like(data))
    if kind == "negative":
        return as_ccd(data - 1)
    if kind == "nan":
        data[2, 3] = np.nan
    return as_ccd(data)


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("saturated", Flag.SATURATED),
        ("constant", Flag.SATURATED),
        ("empty", Flag.SATURATED | Flag.LOW_COUNTS),
        ("negative", Flag.NEGATIVE),
        ("nan", Flag.NON_FINITE | Flag.MASKED),
        ("good", Flag(0)),
    ],
)
def test_odd_images_are_flagged(predictor, kind, flags):
    assert classify(predictor, odd(kind), scheme=COOL_CORE)["flags"].tolist() == [flags]
    if kind != "nan":
        found = classify(predictor, odd(kind).data[None], scheme=COOL_CORE)["flags"][0]
        assert found == int(flags & ~Flag.LOW_COUNTS)


def test_noise_is_not_taken_for_saturation(predictor):
    rng = np.random.default_rng(0)
    images = [as_ccd(rng.poisson(mean, (SIDE, SIDE))) for mean in np.geomspace(1, 1e6, 60)]
    assert not np.any(classify(predictor, images, scheme=COOL_CORE)["flags"] & Flag.SATURATED)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda: as_ccd(poisson(1)[0], unit=u.ct / u.s), "must be in counts"),
        (lambda: as_ccd(np.full((SIDE, SIDE), np.nan)), "no valid pixel"),
        (lambda: CCDData(poisson(1)[0], unit=u.ct), "celestial WCS"),
        (lambda: as_ccd(poisson(1)[0], pixel=0.1), "valid pixels in only"),
        (lambda: as_ccd(poisson(1)[0], pixel=400.0), "less than two pixels|valid pixels"),
        (lambda: as_ccd(np.full((SIDE, SIDE), 1e39)), "must be finite"),
        (lambda: Cutout("c", {"optical": as_ccd(poisson(1)[0])}), "must have the bands"),
        (lambda: "no-such-file.fits", "no file"),
    ],
)
def test_images_that_do_not_fit_the_model_are_errors_alone_and_rows_in_a_list(predictor, image, message):
    with pytest.raises((GeometryError, OSError), match=message):
        classify(predictor, image(), scheme=COOL_CORE)
    table = classify(predictor, [as_ccd(poisson(1)[0]), image()], scheme=COOL_CORE)
    assert (table["flags"] & Flag.FAILED > 0).tolist() == [False, True] and "\n" not in table["message"][1]


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((2, SIDE, SIDE + 1)), GeometryError),
        (np.zeros((2, 2, SIDE, SIDE)), GeometryError),
        (np.zeros(SIDE), GeometryError),
        (np.full((1, SIDE, SIDE), "a"), GeometryError),
        (np.zeros((1, SIDE, SIDE), complex), GeometryError),
        ([3], TypeError),
        (None, TypeError),
        (QTable({"a": [1]}), SchemaError),
    ],
)
def test_what_is_no_image_is_named(predictor, images, error):
    with pytest.raises(error, match="images must"):
        classify(predictor, images, scheme=COOL_CORE)


def test_a_sample_of_another_scheme_is_refused(predictor, tmp_path):
    write_sample(tmp_path / "sample", poisson(2), label="cluster")
    with pytest.raises(SchemaError, match="scheme 'cool-core'.*got .'cluster'.*leave out the column"):
        classify(predictor, tmp_path / "sample", scheme=COOL_CORE)
    sample = tables.read_sample(tmp_path / "sample")
    sample["label"] = ["", ""]
    assert len(classify(predictor, sample, scheme=COOL_CORE)) == 2


class TestTwoBands:
    weights, bias = np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2)

    @pytest.fixture
    def predictor(self, onnx_writer):
        return make(onnx_writer, bands=("optical", "xray"), weights=self.weights, bias=self.bias)

    def cutout(self, optical, xray, **keywords):
        optical = as_ccd(optical, unit=u.adu, TELESCOP="UKST", EXPOSURE="", **keywords)
        return Cutout("source", {"xray": as_ccd(xray), "optical": optical})

    def test_bands_come_in_the_order_of_the_model(self, predictor, tmp_path):
        optical, xray = poisson(2)
        cutout = self.cutout(optical + 0.5, xray)
        path = cutout.write(tmp_path / "c.fits")
        p = softmax([optical.mean() + 0.5, xray.mean()])
        for one in (cutout, path, [cutout], np.stack([optical + 0.5, xray])[None]):
            table = classify(predictor, one, scheme=CLUSTER)
            assert table_p(table, CLUSTER)[0] == pytest.approx(p, abs=1e-6)
            assert table["flags"][0] == 0  # neither the optical unit nor its telescope is held against it

    def test_sky_may_be_negative_and_counts_may_not(self, predictor):
        optical, xray = poisson(2)
        assert classify(predictor, self.cutout(optical - 2, xray), scheme=CLUSTER)["flags"][0] == 0
        assert classify(predictor, self.cutout(optical, xray - 2), scheme=CLUSTER)["flags"][0] == Flag.NEGATIVE
        arrays = np.stack([optical - 2, xray])[None]
        assert classify(predictor, arrays, scheme=CLUSTER)["flags"][0] == 0

    def test_an_empty_optical_image_is_flagged(self, predictor):
        flags = classify(predictor, self.cutout(np.zeros((SIDE, SIDE)), poisson(1)[0]), scheme=CLUSTER)["flags"]
        assert flags.tolist() == [Flag.NO_OPTICAL]

    def test_a_single_image_is_refused(self, predictor, tmp_path):
        with pytest.raises(GeometryError, match="must be a Cutout"):
            classify(predictor, as_ccd(poisson(1)[0]), scheme=CLUSTER)
        path = write_image(as_ccd(poisson(1)[0]), tmp_path / "a.fits")
        with pytest.raises(GeometryError, match="not a cutout file"):
            classify(predictor, path, scheme=CLUSTER)


def test_a_damaged_file_is_told_by_the_reader(predictor, tmp_path):
    (tmp_path / "a.fits").write_bytes(b"SIMPLE  =                    T" + bytes(100))
    (tmp_path / "b.fits").write_bytes(b"")
    fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])]).writeto(tmp_path / "c.fits")
    table = classify(predictor, tmp_path, scheme=COOL_CORE)
    assert np.all(table["flags"] & Flag.FAILED > 0) and all("GeometryError" in text for text in table["message"])


def test_copies_of_a_network_share_one_session(onnx_writer):
    network = OnnxNetwork(
        onnx_writer.mean_network((1, SIDE, SIDE), 7 * WEIGHTS, BIAS), input_shape=(1, SIDE, SIDE), n_classes=3
    )
    first, second = (pickle.loads(pickle.dumps(network)) for _ in range(2))
    assert first.start() is second.start() and first.start() is not network.start()
    images = poisson(2)[:, None]
    assert np.array_equal(first.logits(images), network.logits(images))
    for i in range(6):
        data = onnx_writer.mean_network((1, SIDE, SIDE), i * WEIGHTS, BIAS)
        other = OnnxNetwork(data, input_shape=(1, SIDE, SIDE), n_classes=3)
        assert pickle.loads(pickle.dumps(other)).logits(images) == pytest.approx(other.logits(images))
    assert len(_onnx_network._sessions) <= 4


def test_no_images_give_no_rows(predictor):
    assert predictor.network.logits(np.zeros((0, 1, SIDE, SIDE))).shape == (0, 3)
    assert probabilities(predictor, []).shape == (0, 3)
    assert len(classify(predictor, [], scheme=COOL_CORE)) == 0
