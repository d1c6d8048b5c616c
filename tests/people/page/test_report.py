"""The report of predictions: one file that says what the tables say, and in which no text is taken for HTML."""

import base64
import hashlib
import io
import json
import multiprocessing
import re
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import MaskedColumn, QTable
from astropy.wcs import WCS

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.exceptions import AstroclassifyWarning, OutputError, SchemaError
from astroclassify.images import Cutout, write_image
from astroclassify.people import write_report
from astroclassify.schemes import CANDIDATE, CLUSTER, ClassScheme, Flag

pillow = pytest.importorskip("PIL.Image")
figure_module = pytest.importorskip("matplotlib.figure")

# Elements that the template has. A text that is taken for HTML would add others.
ELEMENTS = set(
    "html head meta title style body h1 h2 noscript p div details summary figure img figcaption label input fieldset "
    "legend select output span button table thead tr tbody dialog dl script".split()
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
        """Pictures of each row as arrays by name, or the reason why there are none."""
        files = self.json("pictures")
        found = self.json("data")["picture"]
        return [each if isinstance(each, str) else {name: decoded(text) for name, text in files[each].items()}
                for each in found]  # fmt: skip


def decoded(text):
    picture = pillow.open(io.BytesIO(base64.b64decode(text)))
    assert picture.format == "JPEG" and picture.mode == "RGB"
    return np.asarray(picture)


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
    table.meta = {"scheme": scheme.to_dict(), "model": "cluster-xmm"}
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
    with pytest.warns(AstroclassifyWarning, match="5 of 9 rows have no picture"):
        assert write_report(*reversed(tables_of_all_kinds), out, picture_size=64, progress=False) == out
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
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'sha256-")
    assert "unsafe" not in policy and code[0].count("https:") == 0


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
    kinds = {column["name"]: column["kind"] for column in data["columns"]}
    assert [kinds[name] for name in ("label", "p_other", "ext", "flags")] == ["text", "probability", "number", "flags"]
    assert all(column["shown"] for column in data["columns"])


def test_pictures_show_the_images(page):
    both, plate, wide, radio, *rest = page.pictures()
    assert list(page.json("data")["pictures"]) == ["xray", "optical"]
    assert list(both) == ["xray", "optical"] and list(plate) == ["optical"] and list(wide) == ["xray"]
    assert {picture.shape for each in (both, plate, wide, radio) for picture in each.values()} == {(64, 64, 3)}
    brightness = both["xray"].astype(int).sum(axis=2)
    # The file's first row is the lowest of the picture: a source in row 50 of 64 is 13 from the top.
    y, x = np.unravel_index(brightness.argmax(), (64, 64))
    assert abs(y - 13) <= 2 and abs(x - 50) <= 2
    assert np.abs(both["xray"][:, 2:12].astype(float) - (58, 58, 72)).max() < 25  # the gap, of which there is no black
    assert brightness[30:60, 20:40].max() < 60
    for picture in (both, plate):
        profile = picture["optical"].mean(axis=(0, 2))
        expected = 255 * np.arcsinh(10 * np.arange(64) / 63) / np.arcsinh(10)  # the ends are cut at 1 and 99.7 %
        assert np.abs(profile - expected).max() < 12
    # Twice as wide as high: bands of 16 pixels above and below are empty, the source is in row 20 / 2 from below.
    wide = wide["xray"]
    assert np.abs(wide[:14].astype(float) - 96).max() < 12 and np.abs(wide[50:].astype(float) - 96).max() < 12
    y, x = np.unravel_index(wide.astype(int).sum(axis=2)[16:48].argmax(), (32, 64))
    assert abs(y - (31 - 10)) <= 1 and abs(x - 16) <= 1
    assert rest == [
        "image cannot be read",
        "outside of the sample folder",
        "no such file",
        "no image",
        "not in the sample",
    ]


def test_missing_pictures_are_counted(page):
    text = " ".join("".join(page.texts).split())
    reasons = re.search(r"5 of 9 rows have no picture \((.*?)\)\.", text)[1]
    assert sorted(reasons.split("; ")) == [
        "image cannot be read: 1",
        "no image: 1",
        "no such file: 1",
        "not in the sample: 1",
        "outside of the sample folder: 1",
    ]
    assert "1 of 9 sources of the sample have no prediction and are not shown." in text
    assert "model cluster-xmm" in text


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


def quiet_page(predictions, sample, out, **settings):
    """The page of a report, whatever it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstroclassifyWarning)
        return Page(write_report(predictions, sample, out, progress=False, **settings))


def test_columns_that_are_chosen(tmp_path):
    sample = sample_of(tmp_path, ["a", "b", "c"])
    sample["redshift"], sample["det_like"] = 0.5, [12.5, 7.0, np.nan]
    sample["gaia"] = MaskedColumn([4295806720, 2**60 + 1, 0], mask=[False, False, True])
    sample["n_near"] = [3, 0, 12]
    sample["ra"] = [150.123456789, 10.0, 359.99999] * u.deg
    sample["seen"] = MaskedColumn([True, False, True], mask=[False, False, True])
    sample["survey"] = np.array([b"XXL", b"X-CLASS", b""])
    predictions = predictions_of(["c", "stranger", "a", "b"])
    wanted = ["gaia", "p_other", "seen", "ra", "n_near", "survey"]
    page = quiet_page(predictions, sample, tmp_path / "a.html", columns=wanted)
    columns = {column["name"]: column for column in page.json("data")["columns"]}
    assert list(columns) == ["source_id", *wanted, "label_pred", "p_cluster", "det_like", "redshift", "flags"]
    assert [name for name, column in columns.items() if column["shown"]] == ["source_id", *wanted]
    assert columns["gaia"]["values"] == ["", "", "4295806720", str(2**60 + 1)]  # no browser has this number
    assert columns["n_near"]["values"] == [12, None, 3, 0] and columns["n_near"]["kind"] == "number"
    assert columns["ra"]["values"] == [359.99999, None, 150.12346, 10] and columns["ra"]["unit"] == "deg"
    assert columns["seen"]["values"] == ["", "", "yes", "no"]
    assert columns["survey"]["values"] == ["", "", "XXL", "X-CLASS"]
    # The predictions go first; a column that is asked for is there though it is empty.
    predictions["n_near"] = [7, 7, 7, 7]
    page = quiet_page(predictions, sample, tmp_path / "b.html", columns=["n_near", "t_cool", "sky_position"])
    assert page.columns["n_near"] == [7] * 4 and page.columns["t_cool"] == [None] * 4
    assert page.columns["sky_position"] == [""] * 4
    # By default some of the usual ones are there, but not shown.
    usual = quiet_page(predictions, sample, tmp_path / "c.html").json("data")["columns"]
    assert [column["name"] for column in usual if not column["shown"]] == ["det_like"]
    assert "gaia" not in {column["name"] for column in usual}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["exposure"], r"columns: 'exposure' must be a column of predictions or sample: \['source_id'"),
        (["spectrum"], r"columns: 'spectrum' of the sample must hold one number or text a row, got .* shape \(1, 3\)"),
        (["place"], "columns: 'place' of the sample must hold one number or text a row, got SkyCoord"),
        ("ext", "columns must be a sequence of names, got 'ext'"),
        ([1], r"columns must be a sequence of names, got \[1\]"),
    ],
)
def test_columns_that_cannot_be_shown(columns, message, tmp_path):
    sample = sample_of(tmp_path, ["a"])
    sample["spectrum"] = np.zeros((1, 3))
    sample["place"] = SkyCoord([1] * u.deg, [2] * u.deg)
    with pytest.raises(SchemaError, match=message):
        write_report(predictions_of(["a"]), sample, tmp_path / "a.html", columns=columns, progress=False)
    assert list(tmp_path.iterdir()) == []


def sky_image(ra, dec):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [ra, dec], [32.5, 32.5]
    wcs.wcs.cdelt = [-5 / 3600, 5 / 3600]
    return CCDData(spot(40, 40), unit="ct", wcs=wcs)


def test_positions_and_links(tmp_path):
    for name, ra, dec in (("a", 150, 2), ("b", 12.5, -0.004)):
        write_image(sky_image(ra, dec), tmp_path / f"{name}.fits")
    sample = sample_of(tmp_path, ["a", "b", "c"], ["a.fits", "b.fits", ""])
    sample["sky_position"] = SkyCoord([150.01, np.nan, np.nan] * u.deg, [2.02, np.nan, np.nan] * u.deg)
    page = quiet_page(predictions_of(["c", "b", "a"]), sample, tmp_path / "a.html")
    column = next(each for each in page.json("data")["columns"] if each["name"] == "sky_position")
    assert column["values"] == ["", "12.50000 -0.00400", "150.01000 +2.02000"] and column["kind"] == "position"
    assert column["sexagesimal"] == ["", "00:50:00.00 -00:00:14.40", "10:00:02.40 +02:01:12.00"]
    assert "1 of 3 positions are the middle of the image: no table has them." in "".join(page.texts)
    links = page.json("data")["links"]
    assert list(links) == ["SIMBAD", "NED", "Legacy Survey", "ESASky"]
    for address in links.values():
        assert address.startswith("https://") and "{ra}" in address and "{dec}" in address
        address.format(ra=1, dec=2)  # no other place
    # In another frame, and of the predictions, which go first.
    predictions = predictions_of(["a"])
    predictions["sky_position"] = SkyCoord([150] * u.deg, [2] * u.deg).galactic
    page = quiet_page(predictions, sample, tmp_path / "b.html")
    assert page.columns["sky_position"] == ["150.00000 +2.00000"] and "positions are" not in "".join(page.texts)
    # Without any position there is no column.
    del sample["sky_position"]
    assert "sky_position" not in quiet_page(predictions_of(["c"]), sample, tmp_path / "c.html").columns


def test_flags_of_nearly_all_rows_are_named_once(tmp_path):
    names = [f"s{number}" for number in range(20)]
    predictions = predictions_of(names)
    predictions["flags"] = int(Flag.NO_UNIT | Flag.OTHER_BAND)
    predictions["flags"][:2] = int(Flag.NO_UNIT | Flag.MASKED)  # 18 of 20 are nine in ten
    predictions["flags"][2:5] |= int(Flag.LOW_COUNTS)
    page = quiet_page(predictions, sample_of(tmp_path, names), tmp_path / "a.html")
    assert page.json("data")["common"] == ["no_unit", "other_band"]
    text = "Flags named here and not in the rows: no_unit (all rows), other_band (18 of 20). A row without one"
    assert text in "".join(page.texts)
    # The table has them all: the page leaves them out.
    assert page.columns["flags"][:3] == ["masked, no_unit", "masked, no_unit", "low_counts, no_unit, other_band"]
    predictions["flags"][5] = int(Flag.NO_UNIT)
    page = quiet_page(predictions, sample_of(tmp_path, names), tmp_path / "b.html")
    assert page.json("data")["common"] == ["no_unit"]


class Looking:
    """A classifier that finds evidence in the upper half of an image and evidence against it in the lower."""

    class scheme:
        classes = CLUSTER.classes

    def __init__(self, columns=()):
        self.columns, self.asked = columns, []

    def activation_map(self, image, class_name, *, redshift=None, columns=None):
        bands = sorted(getattr(image, "bands", ["xray"]))
        self.asked.append((bands, class_name, redshift, columns and columns["n_near"].tolist()))
        if redshift == 0.9:
            raise SchemaError("too far\naway")
        data = np.ones((4, 4))
        data[:2] = -1
        return CCDData(data, unit=u.dimensionless_unscaled)


def test_activation_maps_stand_beside_the_images(tmp_path):
    flat = CCDData(np.full((64, 64), 5.0), unit="adu")
    Cutout("both", {"xray": CCDData(spot(32, 32), unit="ct"), "optical": flat}).write(tmp_path / "both.fits")
    write_image(CCDData(spot(32, 32), unit="ct"), tmp_path / "one.fits")
    names = ["both", "one", "far", "open", "gone"]
    sample = sample_of(tmp_path, names, ["both.fits", "one.fits", "one.fits", "one.fits", ""])
    sample["redshift"] = [0.2, np.nan, 0.9, 0.3, 0.3]
    sample["n_near"] = np.arange(5)
    predictions = predictions_of(names, [[3, 1], [1, 3], [3, 1], [np.nan, np.nan], [3, 1]])
    classifier = Looking(columns=("n_near",))
    with pytest.warns(AstroclassifyWarning, match=r"1 of 5 rows have no picture .*; 2 of 5 rows have no activation"):
        page = Page(write_report(predictions, sample, tmp_path / "a.html", classifier=classifier, progress=False))
    assert classifier.asked == [
        (["optical", "xray"], "cluster", 0.2, [0]), (["xray"], "other", None, [1]), (["xray"], "cluster", 0.9, [2]),
    ]  # fmt: skip
    data, (both, one, far, undecided, gone) = page.json("data"), page.pictures()
    assert list(data["pictures"]) == list(both) == ["xray", "activation", "optical"]
    assert list(one) == ["xray", "activation"] and list(far) == list(undecided) == ["xray"] and gone == "no image"
    assert data["no_map"] == ["", "", "SchemaError: too far", "no class was predicted", ""]
    for picture in (both["activation"].astype(int), one["activation"].astype(int)):
        redder = picture[:, :, 0] - picture[:, :, 2]
        assert redder[:60].min() > 50 and redder[68:].max() < -50
    text = "".join(page.texts)
    assert "2 of 5 rows have no activation map (the first: SchemaError: too far)." in text
    assert "Activation maps, for the predicted class: red speaks for it" in text


def test_rows_of_one_source_have_the_maps_of_their_classes(tmp_path):
    write_image(CCDData(spot(32, 32), unit="ct"), tmp_path / "a.fits")
    predictions = predictions_of(["a", "a", "a"], [[3, 1], [1, 3], [3, 1]])
    classifier = Looking()
    page = Page(
        write_report(
            predictions, sample_of(tmp_path, ["a"], ["a.fits"]), tmp_path / "a.html", classifier=classifier,
            progress=False,
        )
    )  # fmt: skip
    assert [label for _, label, *_ in classifier.asked] == ["cluster", "other"]
    assert page.json("data")["picture"] == [0, 1, 0]


def test_a_classifier_of_other_classes(tmp_path):
    predictions = predictions_of(["a"], scheme=CANDIDATE)
    with pytest.raises(SchemaError, match="classifier must have the classes of the predictions, got .'cluster', "):
        write_report(predictions, sample_of(tmp_path, ["a"]), tmp_path / "a.html", classifier=Looking(), progress=False)


def test_maps_of_a_packaged_model_by_a_worker(tmp_path):
    from astroclassify.nn import load_classifier
    from astroclassify.sim import simulate_candidates

    sample = simulate_candidates(3, rng=1, out=tmp_path / "s", shape=(96, 96), progress=False)
    sample["label"] = ""
    classifier = load_classifier("cluster-xmm")
    predictions = classifier.classify(sample, progress=False)
    settings = {"classifier": classifier, "progress": False}
    out = write_report(predictions, sample, tmp_path / "a.html", **settings)
    assert [list(each) for each in Page(out).pictures()] == [["xray", "activation", "optical"]] * 3
    assert "Activation maps by the model cluster-xmm, for the" in "".join(Page(out).texts)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        other = write_report(predictions, sample, tmp_path / "b.html", executor=executor, **settings)
    assert other.read_bytes() == out.read_bytes()


def test_verb_writes_a_report(tmp_path, capsys):
    flat = CCDData(np.full((64, 64), 5.0), unit="adu")
    sample = sample_of(tmp_path / "s", ["a", "b"], ["a.fits", "gone.fits"])
    counts = sky_image(150, 2)
    counts.meta |= {"TELESCOP": "XMM", "INSTRUME": "EPN"}  # the model takes no others
    Cutout("a", {"xray": counts, "optical": flat}).write(tmp_path / "s/a.fits")
    sample["exposure"] = [10.0, 20.0] * u.ks
    tables.write_sample(sample, tmp_path / "s")
    for name, sources in (("p.ecsv", ["a"]), ("both.ecsv", ["a", "b"])):
        tables.write(predictions_of(sources, scheme=CANDIDATE), tmp_path / name)

    def run(name, *options):
        return main(["inspect", str(tmp_path / "s"), "--predictions", str(tmp_path / name), *map(str, options)])

    how = ["--model", "cluster-xmm", "--columns", "exposure", "p_low_z"]
    assert run("p.ecsv", "--report", tmp_path / "a.html", *how) == 0
    page = Page(tmp_path / "a.html")
    assert list(page.pictures()[0]) == ["xray", "activation", "optical"] and page.columns["exposure"] == [10]
    capsys.readouterr()
    assert run("both.ecsv", "--report", tmp_path / "b.html") == 1
    assert "1 of 2 rows have no picture (no such file: 1)" in capsys.readouterr().err
    assert run("p.ecsv", "--columns", "exposure") == 2 and "--columns needs --report" in capsys.readouterr().err
    assert run("p.ecsv", "--report", tmp_path / "c.html", "--columns", "none") == 2
    assert "columns: 'none' must be a column of predictions or sample" in capsys.readouterr().err


def test_files_of_the_page_are_in_the_package():
    folder = resources.files("astroclassify.people.page.report")
    assert all((folder / f"report.{ending}").is_file() for ending in ("html", "css", "js"))


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
    predictions["message"] = HOSTILE[::-1] + ["{{PICTURES}}"]
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


def test_repeated_sources_share_their_pictures(tmp_path):
    write_image(CCDData(spot(10, 10), unit="ct"), tmp_path / "a.fits")
    sample = sample_of(tmp_path, ["a"], ["a.fits"])
    predictions = predictions_of(["a", "a"], [[3, 1], [1, 3]])
    predictions["redshift"] = MaskedColumn([0.5, 0.6], mask=[False, True])  # goes before that of the sample
    sample["redshift"] = 0.1
    page = Page(write_report(predictions, sample, tmp_path / "twice.html", picture_size=16, progress=False))
    assert len(page.json("pictures")) == 1 and page.json("data")["picture"] == [0, 0]
    assert page.pictures()[1]["xray"].shape == (16, 16, 3)
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
    assert page.json("data")["n_rows"] == 0 and page.json("pictures") == []
    assert set(page.columns) == {"source_id", "label_pred", "p_cluster", "p_other", "flags"}


@pytest.mark.filterwarnings("ignore::astroclassify.exceptions.AstroclassifyWarning")
@pytest.mark.parametrize("fill", [np.nan, 0.0, 1e200, -5.0])
def test_images_of_one_value(fill, tmp_path):
    for band, unit in (("xray", "ct"), ("optical", "adu")):
        Cutout(band, {band: CCDData(np.ones((40, 40)), unit=unit)}).write(tmp_path / f"{band}.fits")
        with fits.open(tmp_path / f"{band}.fits", mode="update") as hdus:
            hdus[band.upper()].data = np.full((40, 40), fill)
    sample = sample_of(tmp_path, ["xray", "optical"], ["xray.fits", "optical.fits"])
    predictions = predictions_of(["xray", "optical"])
    page = Page(write_report(predictions, sample, tmp_path / "a.html", picture_size=64, progress=False))
    for picture in page.pictures():
        if np.isnan(fill):
            assert picture == "image cannot be read"
        else:
            assert all(each.shape == (64, 64, 3) and each.max() <= 2 for each in picture.values()), picture


def test_workers_change_nothing_and_a_file_is_replaced_only_when_asked(tmp_path):
    names = [f"s{number}" for number in range(12)]
    for number, name in enumerate(names):
        write_image(CCDData(spot(10 + number, 20), unit="ct"), tmp_path / f"{name}.fits")
    sample, predictions = sample_of(tmp_path, names, [f"{name}.fits" for name in names]), predictions_of(names[::-1])
    out = write_report(predictions, sample, tmp_path / "report.html", picture_size=64, progress=False)
    first = out.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write_report(predictions, sample, out, progress=False)
    with ThreadPoolExecutor(3) as executor:
        write_report(predictions, sample, out, picture_size=64, executor=executor, progress=False, overwrite=True)
    assert out.read_bytes() == first
    rows = [int(picture["xray"].sum(axis=(1, 2)).argmax()) for picture in Page(out).pictures()]
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


@pytest.mark.parametrize("size", [15, 513, 64.0, "64"])
def test_bad_sizes(size, tmp_path):
    with pytest.raises(ValueError, match="picture_size must be a whole number from 16 to 512, got"):
        write_report(predictions_of(["a"]), sample_of(tmp_path, ["a"]), tmp_path / "a.html", picture_size=size)


def test_a_sample_without_a_folder(tmp_path):
    sample = sample_of(tmp_path, ["a"])
    del sample.meta["folder"]
    with pytest.raises(SchemaError, match="sample has no meta"):
        write_report(predictions_of(["a"]), sample, tmp_path / "a.html", progress=False)
