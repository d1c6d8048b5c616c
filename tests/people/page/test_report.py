"""The report of predictions: one file that says what the tables say, and in which no text is taken for HTML."""

import base64
import hashlib
import io
import json
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyWarning, OutputError, SchemaError
from astroclassify.images import Cutout, write_image
from astroclassify.people import write_report
from astroclassify.schemes import CLUSTER, ClassScheme, Flag

pillow = pytest.importorskip("PIL.Image")
figure_module = pytest.importorskip("matplotlib.figure")

# Elements that the template has. A text that is taken for HTML would add others.
ELEMENTS = set(
    "html head meta title style body h1 noscript p div details summary figure img figcaption label input fieldset "
    "legend select output span button table thead tr tbody script".split()
)
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "{{DATA}}",
    "]]>&lt;&amp;\u2028\u202e",
    "half of a pair \ud800",
]


class Page(HTMLParser):
    """What a browser would find in a file."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.texts = [], [], []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        else:
            self.texts.append(data)

    def json(self, name):
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == name))

    @property
    def columns(self):
        return {column["name"]: column["values"] for column in self.json("data")["columns"]}

    @property
    def figures(self):
        return [attributes["src"] for tag, attributes in self.elements if tag == "img"]

    def pictures(self):
        """Thumbnail of each row as an array, or the reason why there is none."""
        files = [pillow.open(io.BytesIO(base64.b64decode(text))) for text in self.json("thumbnails")]
        assert all(file.format == "JPEG" for file in files)
        found = self.json("data")["thumbnail"]
        return [each if isinstance(each, str) else np.asarray(files[each]) for each in found]


def sample_of(folder, names, paths=None):
    folder.mkdir(exist_ok=True)
    table = QTable()
    for name, kind in tables.SAMPLE.kinds().items():
        empty = {"str": "", "int": 0, "float": np.nan}
        table[name] = [empty[kind]] * len(names) if kind in empty else np.full(len(names), np.nan) * kind
    table["source_id"] = names
    table["path"] = [""] * len(names) if paths is None else paths
    table.meta["folder"] = str(folder)
    return table


def predictions_of(names, p=None, scheme=CLUSTER):
    table = QTable({"source_id": names})
    p = np.tile(np.arange(scheme.n_classes, 0, -1.0), (len(names), 1)) if p is None else np.asarray(p, float)
    p = p / p.sum(axis=1, keepdims=True)
    known = np.isfinite(p).all(axis=1)
    table["label_pred"] = np.where(known, np.array(scheme.classes)[np.nan_to_num(p).argmax(axis=1)], "")
    for number, label in enumerate(scheme.classes):
        table[f"p_{label}"] = p[:, number]
    table["flags"] = np.where(known, 0, int(Flag.FAILED))
    table.meta = {"scheme": scheme.to_dict(), "model": "cluster-embedded"}
    return table


def spot(y, x, shape=(64, 64)):
    """X-ray counts: nothing but a source of 5 x 5 pixels."""
    data = np.zeros(shape)
    data[y - 2 : y + 3, x - 2 : x + 3] = 50
    return data


@pytest.fixture(scope="module")
def tables_of_all_kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    (folder / "images").mkdir()
    plate = np.tile(np.arange(64.0), (64, 1))  # brighter to the right
    mask = np.zeros((64, 64), bool)
    mask[:, :16] = True
    gaps = CCDData(spot(50, 50), unit="ct", mask=mask)
    Cutout("both", {"xray": gaps, "optical": CCDData(plate, unit="adu")}).write(folder / "images/both.fits")
    Cutout("plate", {"optical": CCDData(plate, unit="adu")}).write(folder / "images/plate.fits")
    write_image(CCDData(spot(20, 32, (64, 128)), unit="ct"), folder / "images/wide.fits")
    Cutout("radio", {"radio": CCDData(plate, unit="ct")}).write(folder / "images/radio.fits")
    (folder / "images/damaged.fits").write_bytes((folder / "images/wide.fits").read_bytes()[:9000])
    outside = write_image(CCDData(plate, unit="ct"), folder.parent / "outside.fits")
    (folder / "images/link.fits").symlink_to(outside)
    names = ["both", "plate", "wide", "radio", "damaged", "link", "gone", "none", "alone"]
    sample = sample_of(folder, names, [f"images/{name}.fits" for name in names[:-2]] + ["", ""])
    sample["label"] = ["cluster", "other", "other", "", "galaxy", "other", "other", "other", ""]
    sample["redshift"] = [0.123456, np.nan, *[0.3] * 7]
    sample["ext"] = [12.0, 0.2, *[3.0] * 7] * u.arcsec
    sample["ext_like"] = MaskedColumn([40.0, 2.0, *[5.0] * 7], mask=[False, True, *[False] * 7])
    predictions = predictions_of([*names[:-1], "stranger"], [[3, 1], [1, 3], *[[1, 1.5]] * 6, [np.nan, np.nan]])
    predictions["flags"][:3] = [0, int(Flag.MASKED | Flag.LOW_COUNTS), 2 | 1 << 40]
    predictions["message"] = [*[""] * 8, "no image"]
    return sample, predictions


@pytest.fixture(scope="module")
def page(tables_of_all_kinds, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "report.html"
    with pytest.warns(AstroclassifyWarning, match="6 of 9 rows have no thumbnail"):
        assert write_report(*reversed(tables_of_all_kinds), out, progress=False) == out
    return Page(out)


def test_one_file_and_nothing_from_outside(page):
    assert {tag for tag, _ in page.elements} == ELEMENTS
    for tag, attributes in page.elements:
        assert not set(attributes) & {"href", "srcset", "data", "action", "background", "poster"}, tag
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert not [name for name in attributes if name.startswith("on")]
    style = page.html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(code) == 1 and "fetch(" not in code[0] and "innerHTML" not in code[0]
    policy = next(each["content"] for tag, each in page.elements if tag == "meta" and "http-equiv" in each)
    digest = base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; ")


def test_the_table_is_that_of_the_predictions_and_the_sample(page, tables_of_all_kinds):
    sample, predictions = tables_of_all_kinds
    data, columns = page.json("data"), page.columns
    assert data["n_rows"] == 9 and data["classes"] == ["cluster", "other"]
    assert list(columns) == (
        ["source_id", "label_pred", "p_cluster", "p_other", "label", "ext", "ext_like", "redshift", "flags", "message"]
    )
    assert columns["source_id"] == predictions["source_id"].tolist()
    assert columns["label_pred"] == ["cluster", *["other"] * 7, ""]
    assert columns["p_cluster"] == [0.75, 0.25, *[0.4] * 6, None]
    assert columns["label"] == [*sample["label"].tolist()[:8], ""]
    assert columns["redshift"] == [0.1235, None, *[0.3] * 6, None]  # the last one is of no source of the sample
    assert columns["ext"] == [12, 0.2, *[3] * 6, None] and columns["ext_like"] == [40, None, *[5] * 6, None]
    assert columns["flags"][:3] == ["", "masked, low_counts", f"masked, unknown ({1 << 40})"]
    assert columns["flags"][8] == "failed" and columns["message"][8] == "no image"
    assert next(column["unit"] for column in data["columns"] if column["name"] == "ext") == "arcsec"
    assert {column["kind"] for column in data["columns"]} == {"text", "probability", "number"}


def test_thumbnails_show_the_images(page):
    both, plate, wide, *rest = page.pictures()
    assert both.shape == (64, 128, 3) and plate.shape == (64, 128, 3) and wide.shape == (64, 64, 3)
    brightness = both.sum(axis=2)
    # The file's first row is the lowest of the picture: a source in row 50 of 64 is 13 from the top.
    y, x = np.unravel_index(brightness[:, :64].argmax(), (64, 64))
    assert abs(y - 13) <= 2 and abs(x - 50) <= 2
    assert np.abs(both[:, 2:12].astype(float) - (58, 58, 72)).max() < 25  # the gap, of which there is no black
    assert brightness[30:60, 20:40].max() < 60
    for picture in (both, plate):  # the optical band is in its place with and without X-rays
        profile = picture[:, 64:].mean(axis=(0, 2))
        expected = 255 * np.arcsinh(10 * np.arange(64) / 63) / np.arcsinh(10)  # the ends are cut at 1 and 99.7 %
        assert np.abs(profile - expected).max() < 12
    assert np.abs(plate[:, 4:60].astype(float) - 96).max() < 10
    # Twice as wide as high: bands of 16 pixels above and below are empty, the source is in row 20 / 2 from below.
    assert np.abs(wide[:14].astype(float) - 96).max() < 12 and np.abs(wide[50:].astype(float) - 96).max() < 12
    y, x = np.unravel_index(wide.sum(axis=2)[16:48].argmax(), (32, 64))
    assert abs(y - (31 - 10)) <= 1 and abs(x - 16) <= 1
    assert rest == [
        "no image",
        "image cannot be read",
        "outside of the sample folder",
        "no such file",
        "no image",
        "not in the sample",
    ]


def test_missing_thumbnails_are_counted(page):
    text = " ".join("".join(page.texts).split())
    reasons = re.search(r"6 of 9 rows have no thumbnail \((.*?)\)\.", text)[1]
    assert sorted(reasons.split("; ")) == [
        "image cannot be read: 1",
        "no image: 2",
        "no such file: 1",
        "not in the sample: 1",
        "outside of the sample folder: 1",
    ]
    assert "1 of 9 sources of the sample have no prediction and are not shown." in text
    assert "model cluster-embedded" in text


def test_figures(page, tmp_path):
    captions = [text for text in page.texts if text.strip()]
    for caption in ("Sources by class", "Extent and its likelihood, by predicted class", "Labels and predictions"):
        assert caption in captions
    for source in page.figures:
        picture = pillow.open(io.BytesIO(base64.b64decode(source.split(",")[1])))
        assert picture.format == "PNG" and picture.width > 400
    assert len(page.figures) == 3
    with pytest.warns(AstroclassifyWarning):
        out = write_report(predictions_of(["a"]), sample_of(tmp_path, ["a"]), tmp_path / "a.html", progress=False)
    assert len(Page(out).figures) == 1
    assert set(Page(out).columns) == {"source_id", "label_pred", "p_cluster", "p_other", "flags"}


@pytest.mark.filterwarnings("ignore::astroclassify.exceptions.AstroclassifyWarning")
def test_bars_are_the_numbers_of_sources(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(figure_module.Figure, "savefig", lambda self, file, **settings: figures.append(self))
    sample = sample_of(tmp_path, list("abcd"))
    sample["label"] = ["other", "other", "other", ""]
    predictions = predictions_of(list("abcd"), [[3, 1], [3, 1], [1, 3], [np.nan, np.nan]])
    write_report(predictions, sample, tmp_path / "bars.html", progress=False)
    axis = figures[0].axes[0]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axis.containers if len(bars)}
    assert heights == {"predicted": [2, 1, 1], "label": [0, 3]}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["cluster", "other", "no answer"]


def test_no_text_is_taken_for_html(tmp_path):
    folder = tmp_path / "<b onclick=alert(2)>&amp;"
    scheme = ClassScheme("<i>", ("</script>", "$a$ <script>"), ("<u>", '"'))
    sample = sample_of(folder, [*HOSTILE, "last"])
    sample["label"] = ["<b>", *["</script>"] * 6]
    predictions = predictions_of([*HOSTILE, "last"], scheme=scheme)
    predictions["message"] = HOSTILE[::-1] + ["{{THUMBNAILS}}"]
    predictions.meta["model"] = "<script>alert(3)</script>{{FIGURES}}"
    with pytest.warns(AstroclassifyWarning, match="no image: 7"):
        page = Page(write_report(predictions, sample, tmp_path / "hostile.html", progress=False))
    assert {tag for tag, _ in page.elements} == ELEMENTS
    assert len(page.scripts) == 3 and page.html.count("<script") == page.html.count("</script") == 3
    assert page.html.count("<!--") == 0
    columns = page.columns
    assert columns["source_id"] == [*HOSTILE, "last"] and columns["message"] == predictions["message"].tolist()
    assert columns["label"][:2] == ["<b>", "</script>"] and page.json("data")["classes"] == list(scheme.classes)
    text = "".join(page.texts)
    assert f"Predictions of {folder.name}" in text and predictions.meta["model"] in text


def test_repeated_sources_share_a_thumbnail(tmp_path):
    write_image(CCDData(spot(10, 10), unit="ct"), tmp_path / "a.fits")
    sample = sample_of(tmp_path, ["a"], ["a.fits"])
    predictions = predictions_of(["a", "a"], [[3, 1], [1, 3]])
    predictions["redshift"] = MaskedColumn([0.5, 0.6], mask=[False, True])  # goes before that of the sample
    sample["redshift"] = 0.1
    page = Page(write_report(predictions, sample, tmp_path / "twice.html", thumbnail_size=16, progress=False))
    assert len(page.json("thumbnails")) == 1 and page.json("data")["thumbnail"] == [0, 0]
    assert page.pictures()[1].shape == (16, 16, 3)
    assert page.columns["redshift"] == [0.5, None]


def test_report_without_predictions(tmp_path):
    page = Page(
        write_report(
            tables.empty(tables.PREDICTIONS, scheme="cluster"),
            sample_of(tmp_path, ["a"]),
            tmp_path / "none.html",
            progress=False,
        )
    )
    assert page.json("data")["n_rows"] == 0 and page.json("thumbnails") == []
    assert set(page.columns) == {"source_id", "label_pred", "p_cluster", "p_other", "flags"}


@pytest.mark.parametrize("fill", [np.nan, 0.0, 1e300, -5.0])
def test_images_of_one_value(fill, tmp_path):
    for band, unit in (("xray", "ct"), ("optical", "adu")):
        Cutout(band, {band: CCDData(np.ones((40, 40)), unit=unit)}).write(tmp_path / f"{band}.fits")
        with fits.open(tmp_path / f"{band}.fits", mode="update") as hdus:
            hdus[band.upper()].data = np.full((40, 40), fill)
    sample = sample_of(tmp_path, ["xray", "optical"], ["xray.fits", "optical.fits"])
    page = Page(write_report(predictions_of(["xray", "optical"]), sample, tmp_path / "a.html", progress=False))
    for picture in page.pictures():  # a gap is grey, beyond 32-bit floats too
        assert picture[:, -64:].shape == (64, 64, 3)
        assert np.abs(picture[:, -64:].astype(int) - (0 if abs(fill) < 1e300 else 96)).max() <= 2


def test_workers_change_nothing_and_a_file_is_replaced_only_when_asked(tmp_path):
    names = [f"s{number}" for number in range(12)]
    for number, name in enumerate(names):
        write_image(CCDData(spot(10 + number, 20), unit="ct"), tmp_path / f"{name}.fits")
    sample, predictions = sample_of(tmp_path, names, [f"{name}.fits" for name in names]), predictions_of(names[::-1])
    out = write_report(predictions, sample, tmp_path / "report.html", progress=False)
    first = out.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write_report(predictions, sample, out, progress=False)
    with ThreadPoolExecutor(3) as executor:
        write_report(predictions, sample, out, executor=executor, progress=False, overwrite=True)
    assert out.read_bytes() == first
    rows = [int(picture.sum(axis=(1, 2)).argmax()) for picture in Page(out).pictures()]
    assert np.abs(rows - np.arange(42, 54)).max() <= 1  # each row has its own picture: 21 to 10 from below


def test_a_page_is_whole_or_not_there(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # bytes that a file can have
    try:
        with pytest.warns(AstroclassifyWarning), pytest.raises(OutputError, match="File too large"):
            write_report(predictions_of(["a"]), sample_of(tmp_path, ["a"]), tmp_path / "a.html", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_rows_are_small_without_images(tmp_path):
    names = [f"XCLASS {number:05d}" for number in range(10_000)]
    rng = np.random.default_rng(1)
    sample = sample_of(tmp_path, names)
    sample["ext"], sample["ext_like"] = rng.lognormal(2, 1, len(names)) * u.arcsec, rng.lognormal(2, 2, len(names))
    with pytest.warns(AstroclassifyWarning, match="no image: 10000"):
        out = write_report(
            predictions_of(names, rng.random((10_000, 2))), sample, tmp_path / "big.html", progress=False
        )
    assert out.stat().st_size < 1.5e6
    assert len(Page(out).columns["ext"]) == 10_000


def replaced(table, name, value):
    table = table.copy()
    table[name] = value
    return table


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p, s: (p, s, "report.txt"), ValueError, r"out must end in .html, got .*report.txt"),
        (lambda p, s: (p, s, "no/such/folder.html"), OutputError, "out: there is no folder .*such"),
        (lambda p, s: (replaced(p, "source_id", ["x"]), s, "a.html"), SchemaError, "of sources of the sample, got 'x'"),
        (lambda p, s: (replaced(p, "label_pred", ["galaxy"]), s, "a.html"), SchemaError, "label_pred .* got 'galaxy'"),
        (lambda p, s: (p, replaced(s, "ext", [1] * u.pix), "a.html"), SchemaError, "usable sample.* 'ext' .* got pix"),
        (lambda p, s: (replaced(p, "ext_like", ["b"]), s, "a.html"), SchemaError, "usable predictions.* 'ext_like' "),
        (lambda p, s: (p, replaced(s, "path", ["../a.fits"]), "a.html"), SchemaError, "inside the sample folder"),
        (lambda p, s: (s, p, "a.html"), SchemaError, "PREDICTIONS table needs a class scheme"),
    ],
)
def test_bad_input(change, error, message, tmp_path):
    predictions, sample, name = change(predictions_of(["a"]), sample_of(tmp_path, ["a"]))
    with warnings.catch_warnings(), pytest.raises(error, match=message):
        warnings.simplefilter("ignore", AstroclassifyWarning)
        write_report(predictions, sample, tmp_path / name, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [15, 257, 64.0, "64"])
def test_bad_sizes(size, tmp_path):
    with pytest.raises(ValueError, match="thumbnail_size must be a whole number from 16 to 256, got"):
        write_report(predictions_of(["a"]), sample_of(tmp_path, ["a"]), tmp_path / "a.html", thumbnail_size=size)


def test_a_sample_without_a_folder(tmp_path):
    sample = sample_of(tmp_path, ["a"])
    del sample.meta["folder"]
    with pytest.raises(SchemaError, match="sample has no meta"):
        write_report(predictions_of(["a"]), sample, tmp_path / "a.html", progress=False)
