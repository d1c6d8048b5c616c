"""The report in a browser: Chromium without a window, from a file, 10,000 rows."""

import io
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable

from astroclassify import tables
from astroclassify.images import Cutout
from astroclassify.people import write_report
from astroclassify.schemes import CANDIDATE, Flag

pillow = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")
webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
]
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait

N_ROWS, N_WITH_IMAGE, N_IMAGES = 10_000, 120, 40
COLUMNS = ["sky_position", "label_pred", *(f"p_{label}" for label in CANDIDATE.classes), "label", "ext", "flags"]
# On the first page: one row has no image; the first 30 have no prediction, and so no activation map.
N_PICTURES = 2 * 99 + 70
HOSTILE = "</script><img src=x onerror='document.title=1'><script>document.title=2</script>"


def tables_of(folder):
    """A sample of 10,000 rows, of which 120 have cutouts of sources and noise, and its predictions."""
    rng = np.random.default_rng(7)
    (folder / "images").mkdir(parents=True)
    y, x = np.mgrid[:96, :96] - 47.5
    names = [f"XCLASS {number:05d}" for number in range(N_ROWS - 1)] + [HOSTILE]
    paths = []
    for number in range(N_IMAGES):
        counts = rng.poisson(0.3 + 20 * (1 + (x**2 + y**2) / (2 + number) ** 2) ** -1.5)
        bands = {"xray": CCDData(counts.astype(float), unit="ct"), "optical": CCDData(rng.random((96, 96)), unit="adu")}
        Cutout(f"s{number}", bands).write(folder / f"images/{number}.fits")
    for number in range(N_WITH_IMAGE):
        paths.append(f"images/c{number}.fits")
        os.link(folder / f"images/{number % N_IMAGES}.fits", folder / paths[-1])
    paths[5] = "images/gone.fits"
    paths += [""] * (N_ROWS - N_WITH_IMAGE)
    sample = QTable()
    for name, kind in tables.SAMPLE.kinds().items():
        blank = {"str": "", "int": 0, "float": np.nan}
        sample[name] = [blank[kind]] * N_ROWS if kind in blank else np.full(N_ROWS, np.nan) * kind
    sample["source_id"], sample["path"], sample["redshift"] = names, paths, rng.random(N_ROWS)
    sample["label"] = np.array(CANDIDATE.classes)[rng.integers(0, 5, N_ROWS)]
    sample["ext"], sample["ext_like"] = rng.lognormal(1.5, 1, N_ROWS) * u.arcsec, rng.lognormal(2, 1.5, N_ROWS)
    sample["sky_position"] = SkyCoord(rng.uniform(0, 360, N_ROWS) * u.deg, rng.uniform(-80, 80, N_ROWS) * u.deg)
    sample.meta["folder"] = str(folder)
    p = rng.dirichlet(np.full(5, 0.3), N_ROWS)
    p[:30] = np.nan
    predictions = QTable({"source_id": names})
    predictions["label_pred"] = np.where(np.isnan(p[:, 0]), "", np.array(CANDIDATE.classes)[np.nan_to_num(p).argmax(1)])
    for number, label in enumerate(CANDIDATE.classes):
        predictions[f"p_{label}"] = p[:, number]
    # No unit but for every hundredth row, few counts in every fiftieth.
    row = np.arange(N_ROWS)
    predictions["flags"] = np.where(row % 100 == 1, 0, int(Flag.NO_UNIT)) | np.where(row % 50, 0, int(Flag.LOW_COUNTS))
    predictions.meta = {"scheme": CANDIDATE.to_dict(), "model": "a model"}
    return sample, predictions


class Looking:
    """A classifier that finds evidence in the upper half of each image."""

    class scheme:
        classes = CANDIDATE.classes

    def activation_map(self, image, class_name, *, redshift=None):
        return CCDData(np.repeat([[0.0], [1.0]], 2, axis=1), unit=u.dimensionless_unscaled)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The predictions, as they stand in the file, and the file."""
    folder = tmp_path_factory.mktemp("report")
    sample, predictions = tables_of(folder / "sample")
    with pytest.warns(UserWarning, match="9881 of 10000 rows have no picture"):
        out = write_report(
            predictions, sample, folder / "report.html", columns=COLUMNS, classifier=Looking(), progress=False
        )
    predictions["ext"], predictions["sky_position"] = sample["ext"], sample["sky_position"]
    return predictions, out


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--window-size=1500,1100")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, report):
    browser.get(report[1].as_uri())
    until(browser, lambda: len(pictures_of(browser)) == 3 + N_PICTURES)
    until(browser, lambda: all(done for done, *_ in pictures_of(browser)))
    return browser


def until(page, condition):
    """Wait until something is true of the page."""
    WebDriverWait(page, 120, poll_frequency=0.05).until(lambda _: condition())


def pictures_of(page):
    code = "return [...document.images].map((image) => [image.complete, image.naturalWidth, image.naturalHeight])"
    return page.execute_script(code)


def find(page, name):
    return page.find_element("id", name)


def shown(page, column):
    """Texts of a column of the rows that are on the page."""
    code = """
    const heads = [...document.querySelectorAll('thead th')].map((head) => head.textContent.split(' [')[0]);
    const number = heads.indexOf(arguments[0]);
    return [...document.querySelectorAll('#rows tr')].map((row) => row.cells[number].innerText.trim());
    """
    return page.execute_script(code, column)


def counts(page, number):
    """Wait until the page says so many rows."""
    until(page, lambda: find(page, "count").text == f"{number} of 10000 rows")


def click_head(page, column):
    buttons = page.find_elements("css selector", "thead button")
    next(button for button in buttons if button.text.split(" [")[0] == column).click()


def type_in(page, name, text):
    box = find(page, name)
    box.clear()
    box.send_keys(text)


def screenshot(page, name):
    folder = os.environ.get("ASTROCLASSIFY_SCREENSHOTS")
    png = page.get_screenshot_as_png()
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"report-{name}.png").write_bytes(png)
    return np.asarray(pillow.open(io.BytesIO(png)).convert("RGB"), float)


def test_opens_with_10000_rows(page, report):
    assert find(page, "count").text == "10000 of 10000 rows" and find(page, "page").text == "page 1 of 100"
    assert len(shown(page, "source_id")) == 100
    pictures = pictures_of(page)
    assert all(done and width > 0 for done, width, _ in pictures)
    assert [128, 128] in [sizes for _, *sizes in pictures]
    cells = page.find_elements("css selector", "#rows td.picture")
    assert cells[5].text == "no such file"
    # A map that is not there leaves its place free.
    code = "return [...arguments[0].querySelector('button').children].map((each) => [each.tagName, each.clientWidth])"
    assert page.execute_script(code, cells[0]) == [["IMG", 64], ["I", 64], ["IMG", 64]]
    assert page.execute_script(code, cells[40]) == [["IMG", 64]] * 3
    assert page.get_log("browser") == []
    assert (
        page.execute_script("return performance.getEntriesByType('resource').filter((e) => !/^data:/.test(e.name))")
        == []
    )
    picture = screenshot(page, "opened")
    assert picture.std() > 30  # neither blank nor black


def test_sorted_by_a_click_on_a_head(page, report):
    predictions, _ = report
    ext = np.sort(predictions["ext"].value)
    click_head(page, "ext")
    assert np.allclose(np.array(shown(page, "ext"), float), ext[:100], rtol=1e-3)
    click_head(page, "ext")
    assert np.allclose(np.array(shown(page, "ext"), float), ext[::-1][:100], rtol=1e-3)
    heads = page.find_elements("css selector", "th[aria-sort=descending]")
    assert len(heads) == 1 and heads[0].text.startswith("ext [arcsec]")
    click_head(page, "sky_position")
    ra = [float(text.split()[0]) for text in shown(page, "sky_position")]
    assert np.allclose(ra, np.sort(predictions["sky_position"].ra.deg)[:100], atol=1e-5)
    click_head(page, "sky_position")
    click_head(page, "sky_position")
    click_head(page, "ext")
    click_head(page, "ext")
    screenshot(page, "sorted")
    click_head(page, "ext")
    assert shown(page, "source_id") == predictions["source_id"][:100].tolist()
    # What has no value comes last both ways.
    for _ in range(2):
        click_head(page, "p_low_z")
        find(page, "last").click()
        assert shown(page, "p_low_z")[-30:] == ["\N{EN DASH}"] * 30
        assert "\N{EN DASH}" not in shown(page, "p_low_z")[:-30]
    click_head(page, "label_pred")
    assert set(shown(page, "label_pred")) == {"galaxy"}


def test_filters(page, report):
    predictions, _ = report
    predicted = predictions["label_pred"].tolist()
    best = np.max([predictions[f"p_{label}"] for label in CANDIDATE.classes], axis=0)
    type_in(page, "text", "xclass 0123")
    wanted = [name for name in predictions["source_id"].tolist() if "0123" in name]
    until(page, lambda: shown(page, "source_id") == wanted)
    type_in(page, "text", "LOW_COUNTS")
    counts(page, 200)
    type_in(page, "text", "no such source")
    counts(page, 0)
    assert find(page, "none").is_displayed()
    type_in(page, "text", " ")
    boxes = page.find_elements("css selector", "#classes input")
    assert [box.get_attribute("value") for box in boxes] == [*CANDIDATE.classes, ""]
    for box in boxes[1:]:
        box.click()
    counts(page, predicted.count("low_z"))
    type_in(page, "least", "0.9")
    wanted = np.round([p for p, name in zip(best, predicted, strict=True) if name == "low_z"], 4)
    counts(page, np.sum(wanted >= 0.9))
    screenshot(page, "filtered")
    for box in boxes[1:]:
        box.click()
    # By the keyboard: the driver's click on an option does not raise all events of a user's.
    find(page, "of").send_keys(*[webdriver.Keys.ARROW_DOWN] * 3)
    until(page, lambda: find(page, "of").get_attribute("value") == "p_galaxy")
    wanted = np.round(predictions["p_galaxy"], 4) >= 0.9
    counts(page, np.sum(wanted))
    assert min(map(float, shown(page, "p_galaxy"))) >= 0.9


def test_pages_are_turned(page, report):
    names = report[0]["source_id"].tolist()
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    find(page, "next").click()
    assert shown(page, "source_id") == names[100:200] and find(page, "page").text == "page 2 of 100"
    code = "['#rows tr', 'thead th'].map((name) => document.querySelector(name).getBoundingClientRect().toJSON())"

    def first_row_is_in_view():
        row, head = page.execute_script(f"return {code}")
        return abs(row["top"] - head["bottom"]) <= 2

    until(page, first_row_is_in_view)
    find(page, "last").click()
    assert shown(page, "source_id") == names[-100:] and not find(page, "next").is_enabled()
    find(page, "previous").click()
    find(page, "first").click()
    assert shown(page, "source_id") == names[:100] and not find(page, "previous").is_enabled()


def test_a_hostile_name_runs_nothing(page):
    find(page, "last").click()
    assert shown(page, "source_id")[-1] == HOSTILE
    assert page.title == "Predictions of sample"
    # Even what does get into the page as HTML is kept from running by its policy.
    page.execute_script("document.body.insertAdjacentHTML('beforeend', \"<img src=x: onerror='document.title=3'>\")")
    until(page, lambda: any("Content Security Policy" in entry["message"] for entry in page.get_log("browser")))
    assert page.title == "Predictions of sample"


def large(page):
    """What the enlarged row says: captions of its pictures and facts."""
    code = """
    const texts = (what) => [...document.querySelectorAll('#large ' + what)].map((each) => each.innerText);
    return [texts('figcaption'), Object.fromEntries([...document.querySelectorAll('#facts div')].map(
      (each) => [...each.children].map((part) => part.innerText)))];
    """
    return page.execute_script(code)


def test_a_picture_is_enlarged_beside_its_map(page, report):
    predictions, _ = report
    names = predictions["source_id"].tolist()
    page.find_elements("css selector", "#rows td.picture button")[40].click()
    dialog = find(page, "large")
    assert dialog.is_displayed() and find(page, "name").text == names[40]
    captions, facts = large(page)
    assert captions == ["X-ray", f"activation map for {predictions['label_pred'][40]}", "optical"]
    assert facts["flags"] == "no_unit" and float(facts["ext [arcsec]"]) == pytest.approx(
        predictions["ext"][40].value, rel=1e-3
    )
    images = page.find_elements("css selector", "#large img")
    assert len(images) == 3 and all(image.size["width"] > 300 for image in images)
    assert len({image.location["y"] for image in images}) == 1  # side by side
    screenshot(page, "enlarged")
    place = predictions["sky_position"][40]
    text = find(page, "services").text
    assert f"{place.ra.deg:.5f} {place.dec.deg:+.5f} = " in text
    assert place.to_string("hmsdms", sep=":", precision=2, pad=True) in text
    links = page.find_elements("css selector", "#services a")
    assert [link.text for link in links] == ["SIMBAD", "NED", "Legacy Survey", "ESASky"]
    for link in links:
        address = urlsplit(link.get_attribute("href"))
        assert address.scheme == "https" and link.get_attribute("target") == "_blank"
        assert link.get_attribute("rel") == "noopener noreferrer"
        numbers = [float(text) for text in re.findall(r"[+-]?\d+\.\d{5}", unquote(address.query))]
        assert numbers == pytest.approx([place.ra.deg, place.dec.deg], abs=1e-5)
    # Keys go from row to row, also to the next page, and Escape closes it.
    page.switch_to.active_element.send_keys(webdriver.Keys.ARROW_RIGHT)
    assert find(page, "name").text == names[41]
    page.switch_to.active_element.send_keys(webdriver.Keys.ARROW_LEFT, webdriver.Keys.ARROW_LEFT)
    assert find(page, "name").text == names[39]
    page.switch_to.active_element.send_keys(webdriver.Keys.ESCAPE)
    assert not dialog.is_displayed()
    page.find_elements("css selector", "#rows td.picture button")[99].click()
    find(page, "after").click()
    assert find(page, "name").text == names[100] and find(page, "page").text == "page 2 of 100"
    find(page, "close").click()
    assert not dialog.is_displayed() and page.get_log("browser") == []


def test_rows_without_map_or_picture_say_why(page):
    buttons = page.find_elements("css selector", "#rows td.picture button")
    buttons[0].click()
    assert large(page)[0] == ["X-ray", "activation map", "optical"]
    assert "no class was predicted" in find(page, "tiles").text
    find(page, "close").click()
    buttons[5].click()
    assert find(page, "tiles").text == "no such file" and large(page)[1]["label_pred"] == ""
    find(page, "close").click()


def test_columns_are_chosen(page):
    def heads():
        return [head.text.split(" ")[0] for head in page.find_elements("css selector", "thead button")]

    assert heads() == ["source_id", *COLUMNS]
    find(page, "choice").click()
    boxes = {box.find_element("xpath", "..").text.split(" ")[0]: box
             for box in page.find_elements("css selector", "#columns input")}  # fmt: skip
    assert [name for name, box in boxes.items() if not box.is_selected()] == ["ext_like", "redshift"]
    click_head(page, "ext")
    first = shown(page, "source_id")[0]
    assert find(page, "choice").get_attribute("open") is None  # a click elsewhere has closed it
    find(page, "choice").click()
    for name in ("label", "redshift"):
        boxes[name].click()
    screenshot(page, "columns")
    assert heads() == ["source_id", *[name for name in COLUMNS if name != "label"], "redshift"]
    assert len(shown(page, "redshift")) == 100 and shown(page, "source_id")[0] == first  # still sorted
    head = page.find_element("css selector", "th[aria-sort=ascending]")
    assert head.text.startswith("ext [arcsec]")
    page.switch_to.active_element.send_keys(webdriver.Keys.ESCAPE)
    assert find(page, "choice").get_attribute("open") is None


def test_flags_of_nearly_all_rows_are_folded_away(page, report):
    assert "no_unit (9900 of 10000). A row without one of them says so." in find(page, "notes").text
    assert shown(page, "flags")[:3] == ["low_counts", "not no_unit", ""]
    find(page, "repeated").click()
    assert shown(page, "flags")[:3] == ["low_counts, no_unit", "", "no_unit"]
    find(page, "repeated").click()
    # They are found all the same.
    type_in(page, "text", "no_unit")
    counts(page, 9900)


def test_on_a_phone_each_row_is_a_card(page):
    try:
        settings = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", settings)
        page.refresh()
        until(page, lambda: len(pictures_of(page)) == 3 + N_PICTURES)
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        screenshot(page, "phone")
        row = page.find_elements("css selector", "#rows tr")[40]
        cells = row.find_elements("css selector", "td[data-name]")
        left = {cell.get_attribute("data-name"): cell.rect for cell in cells if cell.is_displayed()}
        assert len({rect["x"] for rect in left.values()}) == 1 and left["label"]["y"] > left["label_pred"]["y"]
        page.execute_script("arguments[0].scrollIntoView()", row)
        row.find_element("css selector", "button").click()
        images = page.find_elements("css selector", "#large img")
        assert images[0].location["y"] == images[1].location["y"] and images[0].size["width"] > 150
        screenshot(page, "phone-enlarged")
        find(page, "close").click()
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_heads_stay_in_view(page):
    page.execute_script("window.scrollTo(0, 3000)")
    code = "['#controls', 'thead th'].map((name) => document.querySelector(name).getBoundingClientRect().toJSON())"

    def in_view():
        controls, head = page.execute_script(f"return {code}")
        return abs(controls["top"]) <= 1 and abs(head["top"] - controls["bottom"]) <= 2

    until(page, in_view)
    screenshot(page, "scrolled")
