"""What a voter sees and does at the page in a real browser: pictures, marks, facts, notes, lists, sizes, access."""

import os
from pathlib import Path

import numpy as np
import pytest

from astroclassify import tables
from astroclassify.people import stored_votes

pytestmark = pytest.mark.slow
pytest.importorskip("PIL.Image")
pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.keys import Keys  # noqa: E402

N = 6
# The program axe-core, of npm: a file named by the environment, or one that is installed beside the checkout.
AXE = Path(os.environ.get("ASTROCLASSIFY_AXE", Path(__file__).parents[3] / "node_modules/axe-core/axe.min.js"))
PICTURES_ASKED = (
    "return performance.getEntriesByType('resource').filter((each) => each.name.includes('picture')).length"
)
CIRCLE = "return Number(document.querySelector(`#xray .${arguments[0]} circle`).getAttribute(arguments[1]))"
SCALE = "return frame(byId('xray')).scale"


def fresh(desk):
    """The page as at the beginning, at the first source."""
    desk.resize(1400, 900)
    desk.driver.refresh()
    desk.at(1)
    desk.ready()
    desk.idle()


# --- pictures before votes


def test_no_vote_before_its_pictures_are_on_the_screen(serve, browse, folder):
    process, address = serve(delay=3)
    ann = browse(address)
    ann.until(lambda: ann.shown("sign"))
    ann.type("ann", Keys.ENTER)
    ann.at(1)
    ann.idle()
    ann.type("1")
    ann.reads("status", "Not taken", "still loading")
    assert ann.find("#xray p").text.startswith("loading")
    assert ann.find("#answers button").get_attribute("aria-disabled") == "true"
    assert ann.js("return document.querySelectorAll('#pictures img').length") == 0
    ann.find("#answers button").click()
    ann.reads("progress", f"0 of {N} done")
    ann.press("2")  # with the pictures
    ann.at(2)
    ann.idle()
    ann.type("1", "1", "1")  # too early again: the pictures of the second are not there
    ann.reads("status", "Not taken")
    assert ann.js("return pictured.source") == ann.text("source").split()[0]
    ann.ready()
    ann.reads("progress", f"1 of {N} done")
    process.kill()
    process.wait()
    votes = stored_votes(folder)
    assert votes["answer"].tolist() == ["high_z"] and votes["source_id"][0] == "candidate-000000"


def test_the_next_pictures_are_fetched_ahead(desk):
    fresh(desk)
    # Four pictures of this source and of each of the next three have come.
    desk.until(lambda: len(asked_for(desk, "/api/picture")) == 16)
    assert len(asked_for(desk, "/api/source")) == 4
    desk.type(Keys.ARROW_RIGHT)
    desk.at(2)
    desk.ready()
    assert len([name for name in asked_for(desk, "/api/picture") if "candidate-000001" in name]) == 4


def asked_for(person, path):
    """Addresses below a path that the page has asked for and that have come."""
    names = person.js("return performance.getEntriesByType('resource').map((each) => each.name)")
    return [name for name in names if path in name]


def test_a_source_without_a_picture_is_voted_unsure_only(serve, browse, folder):
    (folder / "images" / "candidate-000000.fits").unlink()
    _, address = serve()
    ann = browse(address, "ann")
    ann.ready()
    ann.reads("status", "has no picture")
    ann.type("1")
    ann.reads("status", "Not taken")
    ann.reads("progress", f"0 of {N} done")
    ann.press("0")
    ann.at(2)
    ann.reads("progress", f"1 of {N} done")


def test_pictures_that_failed_are_loaded_again(serve, browse):
    process, address = serve(delay=1)
    port = int(address.split(":")[2].split("/")[0])
    ann = browse(address, "ann")
    process.kill()
    process.wait()
    ann.reads("status", "could not be loaded")
    ann.type("1")
    ann.reads("status", "Not taken")
    serve(port=port)
    ann.driver.refresh()
    ann.reads("message", "not open any more")


# --- what is drawn over the pictures


def test_marks_lie_where_the_source_is(desk):
    fresh(desk)
    view, scale = desk.js("return shown.view"), desk.js(SCALE)
    assert (view["ext"], view["width"]) == (10.0, 356) and view["pixel"] == pytest.approx(420 / 356, rel=1e-3)
    # The middle of the image is between its middle pixels, and the figure's middle shows it.
    assert (view["x"], view["y"]) == pytest.approx((177.5, 177.5), abs=0.01)
    middle = desk.js("const box = byId('xray'); return [box.clientWidth / 2, box.clientHeight / 2]")
    assert [desk.js(CIRCLE, "ext", name) for name in ("cx", "cy")] == pytest.approx(middle, abs=0.5)
    assert desk.js(CIRCLE, "ext", "r") == pytest.approx(10 / view["pixel"] * scale, rel=1e-6)
    assert desk.js(CIRCLE, "psf", "r") == pytest.approx(view["psf"] / view["pixel"] * scale, rel=1e-6)
    assert 5 < view["psf"] < 15  # arcsec, half of the light of a point with XMM
    assert (view["north"], view["east"]) == (pytest.approx([0, 1], abs=1e-3), pytest.approx([-1, 0], abs=1e-3))
    length = desk.js("const bar = document.querySelector('#xray .bar line'); return bar.x2.baseVal.value - "
                     "bar.x1.baseVal.value")  # fmt: skip
    assert desk.find("#xray .bar text").text == "2\u2032"
    assert length == pytest.approx(120 / view["pixel"] * scale, rel=1e-6)
    # 30 arcsec east of the source is on its left.
    x = desk.js("const box = document.querySelector('#optical .neighbour rect'); return box.x.baseVal.value + 7")
    assert middle[0] - x == pytest.approx(30 / view["pixel"] * scale, rel=0.01)
    desk.press("a")
    assert desk.js("return document.querySelectorAll('#xray .centre, #xray .ext').length") == 0
    desk.press("a", "q")
    labels = [each.text for each in desk.driver.find_elements("css selector", "#xray .grid text")]
    assert len(labels) >= 4 and any(label.startswith("+") for label in labels)
    desk.keep("grid")
    desk.press("q")
    assert desk.js("return document.querySelectorAll('.grid').length") == 0


def test_zoom_and_pan_by_wheel_keys_and_pointer(desk):
    fresh(desk)
    scale = desk.js(SCALE)
    desk.press("+")
    assert desk.js(SCALE) == pytest.approx(1.5 * scale)
    before = desk.js("return frame(byId('xray')).middle")
    desk.hold(Keys.SHIFT, Keys.ARROW_RIGHT)
    after = desk.js("return frame(byId('xray')).middle")
    assert after[0] - before[0] == pytest.approx(60 / (1.5 * scale)) and after[1] == before[1]
    desk.press("r")
    assert desk.js(SCALE) == pytest.approx(scale)
    under = """const figure = byId('xray'), box = figure.getBoundingClientRect(), at = frame(figure);
        const point = [100, 150];
        return [at.middle[0] + (point[0] - at.box[0] / 2) / at.scale,
                at.middle[1] - (point[1] - at.box[1] / 2) / at.scale, box.left + point[0], box.top + point[1]];"""
    x, y, left, top = desk.js(under)
    turn = {"type": "mouseWheel", "x": left, "y": top, "deltaX": 0, "deltaY": -400}
    desk.driver.execute_cdp_cmd("Input.dispatchMouseEvent", turn)
    desk.until(lambda: desk.js(SCALE) > 2 * scale)
    # What is under the pointer stays there; the browser rounds where the pointer is to a pixel of the screen.
    assert desk.js(under)[:2] == pytest.approx([x, y], abs=1 / scale)
    x = desk.js(under)[0]
    for kind, dx in (("mousePressed", 0), ("mouseMoved", 40), ("mouseReleased", 40)):
        event = {"type": kind, "x": left + dx, "y": top, "button": "left", "buttons": 1, "clickCount": 1}
        desk.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    assert desk.js(under)[0] == pytest.approx(x - 40 / desk.js(SCALE), abs=1 / desk.js(SCALE))
    assert desk.js("return document.querySelector('#optical img').style.transform") == desk.js(
        "return document.querySelector('#xray img').style.transform"
    )  # all pictures move together
    desk.press("r")
    pinch = [[(left, top), (left + 60, top)], [(left, top), (left + 120, top)]]
    for number, points in enumerate(pinch):
        touches = [{"x": px, "y": py, "id": finger} for finger, (px, py) in enumerate(points)]
        kind = "touchMove" if number else "touchStart"
        desk.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    desk.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert desk.js(SCALE) == pytest.approx(2 * scale, rel=0.05)
    desk.press("w")
    assert desk.js(SCALE) == pytest.approx(scale)
    desk.press("w")
    desk.reads("status", "the sample holds no wider field", "7.00\u2032")
    desk.press("v")
    assert [desk.shown(name) for name in ("xray", "filtered", "optical")] == [True, False, False]
    desk.press("v", "v", "v", "v")
    assert [desk.shown(name) for name in ("xray", "filtered", "optical")] == [True, True, True]


def test_a_wider_field_where_the_image_holds_one(desk):
    fresh(desk)
    # The same image as if its pixels were twice as large: its middle is shown first, and w shows all of it.
    whole = desk.js(SCALE)
    desk.js("shown.view.pixel *= 2; resetView(); placeAll()")
    assert desk.js(SCALE) == pytest.approx(2 * whole, rel=0.01)
    desk.press("w")
    assert desk.js(SCALE) == pytest.approx(whole)


def test_smoothing_stretch_and_layers_change_the_pictures(desk):
    fresh(desk)
    first = desk.pixels("xray")
    slider = desk.find("#scale-xray input[aria-label^=smoothing]")
    slider.send_keys(Keys.ARROW_RIGHT * 10)
    desk.until(lambda: desk.pixels("xray") != first)
    assert desk.js("return info.smoothing") == 10 and slider == desk.driver.switch_to.active_element
    desk.js("document.activeElement.blur()")
    smooth = desk.pixels("xray")
    desk.press("s")
    desk.until(lambda: desk.pixels("xray") != smooth)
    assert desk.pixels("filtered") != desk.pixels("xray")
    plain = desk.pixels("optical")
    before = desk.pixels("xray")
    desk.press("x")
    desk.until(lambda: desk.pixels("xray") != before)
    desk.press("x", "m")
    desk.reads("legend", "shown after your vote")
    assert desk.pixels("optical") == plain
    desk.press("1")
    desk.reads("outcome", "Your vote")
    desk.until(lambda: desk.pixels("optical") != plain)
    contours = desk.pixels("optical")
    desk.press("l")
    desk.reads("legend", "red speaks for the class")
    desk.until(lambda: desk.pixels("optical") not in (plain, contours))
    desk.press("u")


# --- what is known of a source


def test_facts_links_neighbours_and_the_copied_position(desk):
    fresh(desk)
    desk.reads(
        "facts", "EXT", '10.0 \xb1 1.5"', "EXT_LIKE", "30.0", "DET_LIKE", "100.0", "C1", "off-axis angle", "masked"
    )
    assert "low_z" not in desk.text("facts") and "cluster" not in desk.text("facts")  # what it is, is not told
    desk.reads("neighbours", 'MCXC: MCXC J0, 30.0", z = 0.100')
    where = desk.js("return shown.position")
    links = desk.driver.find_elements("css selector", "#links a")
    assert [link.text for link in links] == ["SIMBAD", "NED", "Legacy Survey", "ESASky"]
    for link in links:
        address = link.get_attribute("href")
        assert address.startswith("https://") and where["degrees"].split()[0][:7] in address
        assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer", "_blank")
    allow = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    desk.driver.execute_cdp_cmd("Browser.grantPermissions", allow)
    desk.press("p")
    desk.reads("status", f"Copied {where['degrees']}")
    assert desk.js("return navigator.clipboard.readText()") == where["degrees"]
    desk.find("#copy-sexagesimal").click()
    desk.reads("status", f"Copied {where['sexagesimal']}")
    assert where["sexagesimal"].count(":") == 4
    # Nothing has been asked of another place.
    asked = asked_for(desk, "")
    assert asked and all("127.0.0.1" in name or name.startswith(("blob:", "data:")) for name in asked)
    assert desk.errors() == []


# --- notes, unsure, lists


def test_notes_unsure_and_lists(serve, browse, folder, made, tmp_path):
    process, address = serve(predictions=str(made / "predictions.ecsv"), moderators=["mia"])
    ann = browse(address, "ann")
    ann.press("0")
    ann.reads("outcome", "unsure")
    ann.press(Keys.ENTER)
    ann.at(2)
    ann.press("t")
    ann.type("two galaxies, 1 of them bright", Keys.ENTER)  # a digit in a note is no vote
    ann.reads("status", "is kept")
    ann.reads("progress", f"1 of {N} done")
    ann.press("1", "u", "0", "u", "2", Keys.ENTER)
    ann.at(3)
    ann.reads("progress", f"2 of {N} done")
    # Nothing of the classifier is known to the page before the vote.
    assert ann.js("return rows.map((row) => [row.p, row.predicted])")[2:] == [[None, ""]] * (N - 2)
    choose(ann, "filter", "notes")
    ann.reads("source", "candidate-000001 (1 of 1)")
    assert ann.js("return byId('note').value") == "two galaxies, 1 of them bright"
    choose(ann, "filter", "unsure")
    ann.reads("source", "candidate-000000 (1 of 1)")
    choose(ann, "filter", "open")
    ann.reads("source", "candidate-000002 (1 of 4)")
    choose(ann, "sort", "ext_like")  # 5, 60, 1, 20 are open
    ann.reads("source", "candidate-000003 (1 of 4)")
    ann.press(Keys.ARROW_RIGHT)
    ann.reads("source", "candidate-000005 (2 of 4)")
    choose(ann, "class", "x_class:C2")  # of those that are open the fifth
    ann.reads("source", "candidate-000004 (1 of 1)")
    choose(ann, "filter", "all")
    ann.reads("source", "(2 of 2)")  # 80, done; 1
    choose(ann, "class", "predicted:low_z")
    ann.reads("source", "of 2)")  # those voted on: the predictions of the others are not known here
    choose(ann, "class", "predicted:point")
    ann.reads("message", "There is no such source")
    ann.reads("source", f"of {N})")
    choose(ann, "sort", "queue")
    order = ann.js("return order")
    assert set(order) <= {f"candidate-00000{row}" for row in range(N)} and order
    ann.js("votesOfList = VOTES_OF_QUEUE - 1")
    ann.press("0", "u", "e")
    saved = tmp_path / "downloads" / "votes-candidate.ecsv"
    ann.until(saved.is_file)
    process.kill()
    process.wait()
    votes = stored_votes(folder)
    assert votes["answer"].tolist() == ["unsure", "high_z"]
    assert votes["note"].tolist() == ["", "two galaxies, 1 of them bright"] and all(votes["time"] != "")
    assert tables.read(saved)["note"].tolist() == votes["note"].tolist()


def choose(person, name, value):
    """Choose an entry of a list, as by keys."""
    person.idle()
    person.js("const list = byId(arguments[0]); list.value = arguments[1]; list.dispatchEvent(new Event('change'))",
              name, value)  # fmt: skip
    person.idle()
    person.ready()


# --- sizes and access


@pytest.mark.parametrize("size", [(1400, 900), (1280, 720), (390, 844)])
def test_pictures_and_answers_fit_on_the_screen(desk, size):
    fresh(desk)
    desk.resize(*size)
    desk.driver.refresh()
    desk.at(1)
    desk.ready()
    desk.idle()
    assert desk.js("return document.documentElement.scrollWidth") <= size[0]
    bottoms = desk.js("return [...document.querySelectorAll('#answers button, figure')].map((each) => "
                      "each.getBoundingClientRect().bottom)")  # fmt: skip
    assert len(bottoms) == 10 and max(bottoms) <= size[1]  # four pictures, five classes and unsure
    heights = desk.js("return [...document.querySelectorAll('figure')].map((each) => each.clientHeight)")
    assert min(heights) > 0.4 * min(size[0], size[1]) - 30
    desk.keep(f"desk-{size[0]}")


def test_keyboard_alone_reaches_everything(desk):
    fresh(desk)
    reached = []
    for _ in range(60):
        desk.type(Keys.TAB)
        element = desk.js("const each = document.activeElement, style = getComputedStyle(each);"
                          "return [each.id || each.textContent.trim(), each.tagName, style.outlineStyle]")  # fmt: skip
        if element[1] == "BODY":
            break
        assert element[2] != "none", f"the focus is not seen on {element}"
        reached.append(element[0])
    wanted = ["previous", "next", "skip", "undo", "note", "copy-degrees", "SIMBAD", "filter", "class", "sort", "go",
              "map", "layer", "zoom-in", "grid", "export", "leave"]  # fmt: skip
    assert [name for name in reached if name in wanted] == wanted  # in the order of the page
    answers = [number for number, name in enumerate(reached) if name.startswith(("1", "0"))]
    assert len(answers) == 2 and max(answers) < reached.index("previous")
    desk.js("document.querySelectorAll('#answers button')[2].focus()")
    desk.type(Keys.ENTER)
    desk.reads("outcome", "nearby galaxy")
    assert desk.js("return document.activeElement.id") == "skip"  # not lost with the buttons that went
    desk.press("u")


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: set ASTROCLASSIFY_AXE to its axe.min.js")
@pytest.mark.parametrize("size", [(1400, 900), (390, 844)])
def test_axe_finds_no_fault(desk, size):
    fresh(desk)
    desk.resize(*size)
    for state in ("open", "voted", "grid"):
        {"open": lambda: None, "voted": lambda: desk.press("1"), "grid": lambda: desk.press("u", "q")}[state]()
        desk.ready()
        assert faults(desk) == [], state
    desk.press("q")


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: set ASTROCLASSIFY_AXE to its axe.min.js")
def test_axe_finds_no_fault_at_the_door_and_for_a_moderator(serve, browse):
    _, address = serve(moderators=["mia"])
    mia = browse(address)
    mia.until(lambda: mia.shown("sign"))
    assert faults(mia) == []
    mia.type("mia", Keys.ENTER)
    mia.at(1)
    mia.ready()
    assert faults(mia) == []


def faults(person):
    """Rules of axe-core that the page breaks, of WCAG 2.2 up to AA and of good practice."""
    person.js(AXE.read_text(encoding="utf-8"))
    found = person.driver.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert len(found["passes"]) > 15
    return [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found["violations"]]


def test_colours_of_lines_differ_from_those_of_pictures(desk):
    fresh(desk)
    assert np.ptp(desk.pixels("optical")) == 0  # grey
    desk.press("1", "m")
    if desk.js("return mapLayer") != "contours":
        desk.press("l")
    desk.until(lambda: np.ptp(desk.pixels("optical")) > 1000)
    desk.keep("map")
    desk.press("m", "m", "u")
