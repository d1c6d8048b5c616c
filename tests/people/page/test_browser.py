"""The page in a real browser, by keys: votes, undo, two voters, conflicts, moderation, a killed server."""

import os
import signal

import pytest

from astroclassify import tables
from astroclassify.people import check_votes, expert_decisions, stored_votes

pytestmark = pytest.mark.slow
pytest.importorskip("PIL.Image")
pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.keys import Keys  # noqa: E402

N = 6


def test_votes_with_keys_alone(serve, browse, folder, made, tmp_path):
    process, address = serve(
        workflow="hunt",
        predictions=str(made / "predictions.ecsv"),
        classifier="cluster-xmm",
        show_predictions=True,
    )
    ann = browse(address)
    ann.keep("sign")
    ann.sign("Ann Lee")
    assert address.split("#")[1] not in ann.driver.current_url
    assert ann.pictures() == [356] * 4
    ann.reads("question", "X-ray emission")
    ann.reads("progress", f"0 of {N} done")
    ann.keep("first")
    ann.press("1")
    ann.reads("question", "cut off")
    ann.press("1", "1", "1", "2")  # no border, extended, optical, on one galaxy
    ann.at(2)
    ann.reads("progress", f"1 of {N} done")
    ann.press("2")  # no emission: on to the third
    ann.at(3)
    ann.press("u")
    ann.at(2)
    ann.reads("question", "X-ray emission")
    ann.reads("progress", f"1 of {N} done")
    ann.press("u", "u")  # the last two answers on the first source
    ann.at(1)
    ann.reads("question", "optical image")
    ann.keep("undone")
    ann.press("2")  # there is none
    ann.at(2)
    ann.press(Keys.ARROW_LEFT)
    ann.at(1)
    ann.reads("outcome", "no optical image")
    ann.press("1")  # the vote is complete: a key more answers nothing
    ann.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    ann.at(4)
    ann.press("g", "2", Keys.ENTER)
    ann.at(2)
    ann.press("7", "x")  # no such answers
    ann.press("g", "nonsense", Keys.ENTER)
    ann.reads("message", "no source nonsense")
    ann.press("s", "[", "[", "d", ".", "m")
    wanted = [{"stretch": "log", "low": 50, "high": 99.7}, "low_z", 99.9]
    scales = "return [info.scales.xray, mapClass, info.scales.optical.high]"
    ann.until(lambda: ann.js(scales) == wanted)
    ann.ready()
    ann.keep("scaled")
    ann.press("e")
    (tmp_path / "downloads").mkdir(exist_ok=True)
    saved = tmp_path / "downloads" / "votes-hunt.ecsv"
    ann.until(saved.is_file)
    exported = tables.read(saved, tables.VOTES)
    assert ann.errors() == []
    process.kill()
    process.wait()
    votes = stored_votes(folder, workflow="hunt")
    assert votes["answer"].tolist() == ["yes", "no", "extended", "no"] == exported["answer"].tolist()
    assert set(votes["voter_id"]) == {"Ann Lee"} and len(check_votes(votes)) == 0


def test_an_answer_is_changed(serve, browse):
    _, address = serve(workflow="hunt")
    ann = browse(address, "ann")
    ann.press("1", "1")
    ann.find("#given li:first-child button").click()
    ann.reads("question", "Is there X-ray emission")
    ann.press("2")
    ann.at(2)
    ann.press(Keys.ARROW_LEFT)
    ann.at(1)
    ann.reads("outcome", "no X-ray emission")


def test_a_key_that_is_held_down_answers_once(serve, browse, folder):
    process, address = serve(workflow="hunt")
    ann = browse(address, "ann")
    press_many = """for (let k = 0; k < 9; k += 1) document.body.dispatchEvent(
        new KeyboardEvent("keydown", {key: "1", repeat: arguments[0] && k > 0, bubbles: true}));"""
    ann.ready()
    ann.js(press_many, True)
    ann.reads("question", "cut off")
    ann.idle()
    ann.js(press_many, False)  # presses faster than the server answers are one as well
    ann.reads("question", "spread out")
    ann.idle()
    process.kill()
    process.wait()
    assert len(stored_votes(folder, workflow="hunt")) == 2


def test_two_voters_a_conflict_and_a_moderator(serve, browse, folder, made):
    process, address = serve(predictions=str(made / "predictions.ecsv"), moderators=["mia"])
    ann, bob = browse(address, "ann"), browse(address, "bob")
    ann.reads("probabilities", "shown after your vote")
    assert "0.600" not in ann.text("probabilities")
    ann.keep("blind")
    ann.press("1")
    ann.reads("probabilities", "0.600")  # and it waits, so that they can be read
    ann.at(1)
    ann.keep("unblinded")
    for number in range(2, N + 1):
        bob.press(str(number % 2 + 1), Keys.ENTER)  # both at work at once
        bob.at(number)
        ann.press(Keys.ENTER)
        ann.at(number)
        ann.press("1")
    bob.press("1")
    ann.press(Keys.ENTER)
    ann.reads("message", "You have voted on all sources")
    ann.reads("progress", f"{N} of {N} done")
    assert not ann.shown("moderation")
    mia = browse(address, "mia")
    mia.until(lambda: mia.shown("moderation"))
    mia.press("c")
    mia.at(1)
    # bob said 1, 2, 1, 2, 1 (as number % 2 + 1 of 2 to 6), and 1 of the last: he differs in the second and fourth.
    mia.until(lambda: mia.text("conflicts").count("conflict") == 2)
    mia.reads("others", "ann:")
    mia.keep("conflicts")
    mia.press("4")
    mia.press(Keys.ENTER, "2", Keys.ENTER)
    mia.reads("message", "You have voted on all conflicts")
    mia.keep("moderated")
    mia.until(lambda: mia.text("conflicts").count("moderated") == 2)
    mia.press("u")
    mia.until(lambda: mia.text("conflicts").count("moderated") == 1)
    mia.press("2", "c")
    mia.reads("source", f"of {N})")
    assert ann.errors() + bob.errors() + mia.errors() == []
    process.kill()
    process.wait()
    decisions = expert_decisions(stored_votes(folder), moderators=["mia"])
    assert sorted(decisions["status"]) == ["agreed"] * (N - 2) + ["moderated"] * 2
    assert sorted(decisions["decision"][decisions["status"] == "moderated"]) == ["high_z", "point"]


def test_a_server_that_is_killed_and_started_again(serve, browse, folder):
    process, address = serve()
    port = int(address.split(":")[2].split("/")[0])
    ann = browse(address, "ann")
    ann.press("1", "2")
    ann.at(3)
    ann.ready()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ann.press("3")
    ann.reads("message", "The server does not answer")
    ann.at(3)
    ann.reads("progress", f"2 of {N} done")  # what was not confirmed does not look as if it were
    ann.keep("killed")
    process, address = serve(port=port)
    ann.press("3")
    ann.reads("message", "This page is not open any more")
    ann.driver.get(address)
    ann.at(3)  # the same tab knows who votes; the journal knows what was voted
    ann.press("3")
    ann.at(4)
    ann.until(lambda: not ann.shown("message"))
    process.kill()
    process.wait()
    assert stored_votes(folder)["answer"].tolist() == ["low_z", "high_z", "galaxy"]


def test_a_page_without_its_token(serve, browse):
    _, address = serve()
    stranger = browse(address.split("#")[0])
    stranger.reads("message", "open the full address that the server gave")
    assert not stranger.shown("sign") and stranger.text("sample") == ""
