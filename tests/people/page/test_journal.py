"""The journal of votes: nothing that was answered for is lost, nothing is counted twice, what is broken is reported."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from astroclassify import tables
from astroclassify.exceptions import OutputError, SchemaError
from astroclassify.people import check_votes, expert_decisions, load_workflow, volunteer_consensus
from astroclassify.people.page._journal import VoteJournal
from astroclassify.people.page._records import VoteError, follow, journal_path, voter_name, workflow_of

HUNT, CLASSES = load_workflow("hunt"), load_workflow("candidate")
SOURCES = ["a", "b", "c"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "votes.jsonl"


def rows(journal):
    return rows_of(journal.votes())


def rows_of(votes):
    return sorted(zip(*(votes[name].tolist() for name in ("source_id", "voter_id", "question", "answer")), strict=True))


def test_votes_are_a_votes_table(path):
    with VoteJournal(path, HUNT, SOURCES) as journal:
        for voter in ("ann", "bob", "cy"):
            for question, answer in HUNT.path_to("point_source").items():
                journal.vote(voter, "a", question, answer)
        journal.vote("ann", "b", "emission", "no")
        votes = journal.votes()
        assert journal.outcomes("ann") == {"a": "point_source", "b": "no_emission"} and journal.outcomes("nobody") == {}
        assert journal.voters() == ["ann", "bob", "cy"]
    tables.validate(votes, tables.VOTES)
    assert len(votes) == 10 and len(check_votes(votes)) == 0
    consensus = volunteer_consensus(votes, method="majority", subjects=SOURCES)
    assert consensus["outcome"].tolist() == ["point_source", "no_emission", ""]
    assert consensus["n_complete"].tolist() == [3, 1, 0]
    assert all(len(time) == 24 and time.endswith("Z") for time in votes["time"].tolist())


def test_experts_and_a_moderator(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        for voter, answer in (("ann", "low_z"), ("bob", "high_z"), ("mia", "point")):
            journal.vote(voter, "a", "class", answer)
        decisions = expert_decisions(journal.votes(), moderators=["mia"], workflow=CLASSES, subjects=SOURCES)
    assert decisions["status"].tolist() == ["moderated", "no_votes", "no_votes"]
    assert decisions["decision"][0] == "point"


def test_no_votes_are_a_table_too(path):
    with VoteJournal(path, HUNT, SOURCES) as journal:
        assert len(tables.validate(journal.votes(), tables.VOTES)) == 0
        assert journal.undo("ann") is None


def test_another_answer_takes_the_place_of_the_old_and_undo_brings_it_back(path):
    with VoteJournal(path, HUNT, SOURCES) as journal:
        for question, answer in (("emission", "yes"), ("border", "no"), ("shape", "point")):
            journal.vote("ann", "a", question, answer)
        journal.vote("ann", "b", "emission", "yes")
        journal.vote("ann", "a", "emission", "no")
        assert rows(journal) == [("a", "ann", "emission", "no"), ("b", "ann", "emission", "yes")]
        assert journal.outcomes("ann") == {"a": "no_emission"}
        assert journal.undo("ann") == ("a", "emission")
        assert journal.answers("ann", "a") == {"emission": "yes", "border": "no", "shape": "point"}
        assert journal.outcomes("ann") == {"a": "point_source"}
        assert journal.undo("ann") == ("b", "emission")
        assert journal.undo("ann") == ("a", "shape")
        assert journal.outcomes("ann") == {} and journal.answers("ann", "b") == {}
        expected = rows(journal)
    assert expected == [("a", "ann", "border", "no"), ("a", "ann", "emission", "yes")]
    with VoteJournal(path, HUNT, SOURCES) as journal:  # the journal says the same
        assert rows(journal) == expected and journal.problems == [] and journal.torn == ""
        assert journal.undo("ann") == ("a", "border") and journal.undo("ann") == ("a", "emission")
        assert journal.undo("ann") is None and journal.voters() == [] and rows(journal) == []


def test_unsure_is_an_answer_to_any_question(path):
    with VoteJournal(path, HUNT, SOURCES) as journal:
        journal.vote("ann", "a", "emission", "yes")
        journal.vote("ann", "a", "border", "unsure")
        assert journal.outcomes("ann") == {"a": "unsure"} and follow(HUNT, journal.answers("ann", "a"))[1] is None
        with pytest.raises(VoteError, match="'shape' does not arise"):
            journal.vote("ann", "a", "shape", "point")
        journal.vote("ann", "a", "border", "yes")
        assert journal.outcomes("ann") == {"a": "edge"}
        assert journal.undo("ann") == ("a", "border") and journal.outcomes("ann") == {"a": "unsure"}
        votes = journal.votes()
    assert sorted(votes["answer"].tolist()) == ["unsure", "yes"]
    consensus = volunteer_consensus(votes, method="majority", subjects=["a"])
    assert consensus["n_complete"].tolist() == [0]  # it stands for no outcome


def test_notes_stay_with_the_votes(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
        journal.note("ann", "a", "first")
        journal.note("ann", "a", "merger?")
        journal.note("ann", "b", "no vote yet")
        journal.note("bob", "a", "seen")
        journal.note("bob", "a", " ")
        assert journal.undo("ann") == ("a", "class")  # a vote, not a note
        journal.vote("ann", "a", "class", "point")
        size = path.stat().st_size
        journal.note("ann", "a", "merger?")
        assert path.stat().st_size == size
        before = journal.votes()
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        assert journal.notes("ann") == {"a": "merger?", "b": "no vote yet"} and journal.notes("bob") == {}
        votes = journal.votes()
        for wrong in ("x" * 501, "bell\x07", None):
            with pytest.raises(VoteError, match="note must be a text of up to 500"):
                journal.note("ann", "a", wrong)
        with pytest.raises(VoteError, match="source_id must be one of"):
            journal.note("ann", "z", "x")
    assert (votes == before).all() and set(votes["note"].tolist()) == {"merger?", "no vote yet"}
    assert rows_of(votes) == [("a", "ann", "class", "point"), ("b", "ann", "", "")]


def test_a_journal_knows_its_questions(path):
    with VoteJournal(path, HUNT, SOURCES):
        pass
    assert workflow_of(path) == HUNT
    lines = path.read_text().splitlines(keepends=True)
    head = json.loads(lines[0])
    del head["definition"]  # one of a version before
    path.write_text(json.dumps(head) + "\n")
    assert workflow_of(path) == HUNT
    path.write_text("hello\n")
    with pytest.raises(OutputError, match="not a journal of votes"):
        workflow_of(path)


def test_undo_withdraws_only_own_votes(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
        journal.vote("bob", "a", "class", "point")
        assert journal.undo("ann") == ("a", "class")
        assert rows(journal) == [("a", "bob", "class", "point")]


def test_the_same_answer_twice_is_one_vote(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
        size = path.stat().st_size
        journal.vote("ann", "a", "class", "low_z")
        assert path.stat().st_size == size and journal.undo("ann") and journal.undo("ann") is None


@pytest.mark.parametrize(
    ("vote", "message"),
    [
        (("ann", "z", "emission", "yes"), "source_id must be one of the sample's, got 'z'"),
        (("ann", "a", "colour", "yes"), "question must be one of .*'emission'.* got 'colour'"),
        (("ann", "a", "emission", "perhaps"), "answer to 'emission' must be one of .*got 'perhaps'"),
        (("ann", "a", "border", "no"), "'border' does not arise after {}"),
        (("ann", ["a"], "emission", "yes"), "source_id must be"),
        (("ann", "a", {}, "yes"), "question must be"),
        (("ann", "a", "emission", None), "answer to"),
    ],
)
def test_invalid_votes_are_refused(path, vote, message):
    with VoteJournal(path, HUNT, SOURCES) as journal:
        size = path.stat().st_size
        with pytest.raises(VoteError, match=message):
            journal.vote(*vote)
        assert path.stat().st_size == size and rows(journal) == []


@pytest.mark.parametrize("name", ["", "  ", "a\nb\x00", "../etc", "<b>", "x" * 65, None, 3, "\ud800", ".hidden"])
def test_invalid_voter_names_are_refused(path, name):
    with VoteJournal(path, HUNT, SOURCES) as journal:
        with pytest.raises(VoteError, match="voter_id must begin"):
            journal.vote(name, "a", "emission", "yes")
        with pytest.raises(VoteError, match="voter_id must begin"):
            journal.undo(name)


def test_voter_names_are_normalised():
    assert voter_name("  Ann   Lee ") == "Ann Lee"
    assert voter_name("Rene\u0301") == voter_name("Ren\u00e9") == "Ren\u00e9"


def test_follow_returns_the_open_question():
    path, question, outcome = follow(HUNT, {"emission": "yes", "shape": "point"})
    assert (path, question.name, outcome) == ({"emission": "yes"}, "border", "")
    assert follow(HUNT, HUNT.path_to("edge")) == ({"emission": "yes", "border": "yes"}, None, "edge")


def test_many_threads_lose_nothing(path):
    names = [f"s{number}" for number in range(15)]
    errors = []

    def work(voter):
        try:
            for name in names:
                journal.vote(voter, name, "class", "point")
            journal.vote(voter, names[0], "class", "other")
            journal.undo(voter)
        except Exception as error:
            errors.append(error)

    with VoteJournal(path, CLASSES, names) as journal:
        threads = [threading.Thread(target=work, args=(f"voter {number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = rows(journal)
    assert errors == []
    assert expected == sorted((name, f"voter {number}", "class", "point") for name in names for number in range(8))
    assert path.read_text().count("\n") == 1 + 8 * (len(names) + 2)
    with VoteJournal(path, CLASSES, names) as journal:
        assert rows(journal) == expected and journal.problems == []


def test_a_last_line_cut_at_any_byte(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
        before = rows(journal)
        start = path.stat().st_size
        journal.vote("ann", "b", "class", "point")
        after = rows(journal)
    whole = path.read_bytes()
    aside = path.with_name("votes.jsonl.torn")
    for end in (*range(start, len(whole) - 3, 3), *range(len(whole) - 3, len(whole) + 1)):
        path.write_bytes(whole[:end])
        aside.unlink(missing_ok=True)
        with VoteJournal(path, CLASSES, SOURCES) as journal:
            # A record without its end of line is whole; with a byte less it is not.
            complete = end >= len(whole) - 1
            assert rows(journal) == (after if complete else before), end
            assert journal.torn == ("" if complete or end == start else whole[start:end].decode())
            assert not journal.problems
            journal.vote("bob", "c", "class", "other")
        if journal.torn:
            assert aside.read_bytes() == whole[start:end] + b"\n"
        with VoteJournal(path, CLASSES, SOURCES) as journal:
            assert len(rows(journal)) == (3 if complete else 2) and journal.torn == "" and journal.problems == []


def test_a_first_line_cut_at_any_byte(path):
    VoteJournal(path, CLASSES, SOURCES).close()
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with VoteJournal(path, CLASSES, SOURCES) as journal:
            assert journal.torn == whole[:end].decode()
        assert path.read_bytes() == whole


KILLED = """
import sys, threading
from astroclassify.people.page._journal import VoteJournal
from astroclassify.people import load_workflow
names = [f"s{number}" for number in range(100000)]
journal = VoteJournal(sys.argv[1], load_workflow("candidate"), names)
lock = threading.Lock()
def work(voter):
    for name in names:
        journal.vote(voter, name, "class", "point")
        with lock:
            print(voter, name, flush=True)
for voter in ("ann", "bob"):
    threading.Thread(target=work, args=(voter,)).start()
"""


def test_kill_9_loses_no_confirmed_vote(path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    printed = [process.stdout.readline().split() for _ in range(60)]
    process.kill()
    printed += [line.split() for line in process.stdout.read().splitlines()]
    process.stdout.close()
    assert process.wait() == -9
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        kept = {(voter, source) for source, voter, _, _ in rows(journal)}
        assert {tuple(each) for each in printed} <= kept
        assert len(kept) <= len(printed) + 2 and journal.problems == []


def test_partial_write_is_undone(path):
    resource = pytest.importorskip("resource")
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
        size, limits = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        try:
            with pytest.raises(OutputError, match="cannot write"):
                journal.vote("ann", "b", "class", "low_z")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.stat().st_size == size and rows(journal) == [("a", "ann", "class", "low_z")]
        journal.vote("ann", "b", "class", "point")
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        assert len(rows(journal)) == 2 and journal.problems == [] and journal.torn == ""


def test_failed_sync_is_undone(path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OutputError, match="Input/output error"):
                journal.vote("ann", "b", "class", "low_z")
            with pytest.raises(OutputError, match="Input/output error"):
                journal.undo("ann")
        assert rows(journal) == [("a", "ann", "class", "low_z")]
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        assert rows(journal) == [("a", "ann", "class", "low_z")]


def test_partial_line_that_cannot_be_undone(path, monkeypatch):
    write = os.write

    def half(descriptor, data):
        return write(descriptor, data[: len(data) // 2])

    def refuse(descriptor, length):
        raise OSError(errno.EPERM, "Operation not permitted")

    with VoteJournal(path, CLASSES, SOURCES) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(OutputError, match="No space"):
                journal.vote("ann", "a", "class", "low_z")
        journal.vote("ann", "b", "class", "point")
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        assert rows(journal) == [("b", "ann", "class", "point")] and journal.problems == [(2, "not a record")]


def test_every_record_is_synced_before_the_answer(path, monkeypatch):
    synced, sync = [], os.fsync

    def note(descriptor):
        sync(descriptor)
        synced.append(path.read_bytes())

    with VoteJournal(path, CLASSES, SOURCES) as journal:
        monkeypatch.setattr(os, "fsync", note)
        journal.vote("ann", "a", "class", "low_z")
        assert len(synced) == 1 and synced[0].endswith(b"}\n") and b'"low_z"' in synced[0]
        journal.undo("ann")
        assert len(synced) == 2 and synced[1].endswith(b"}\n") and b'"withdrawal"' in synced[1]


def test_one_server_at_a_time(path):
    pytest.importorskip("fcntl")
    with VoteJournal(path, CLASSES, SOURCES):
        with pytest.raises(OutputError, match="in use by another process"):
            VoteJournal(path, CLASSES, SOURCES)
    VoteJournal(path, CLASSES, SOURCES).close()


def test_moved_journal_refuses_votes(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        path.rename(path.with_name("kept.jsonl"))
        with pytest.raises(OutputError, match="was moved or replaced"):
            journal.vote("ann", "a", "class", "low_z")
        path.write_text("another file\n")
        with pytest.raises(OutputError, match="was moved or replaced"):
            journal.vote("ann", "a", "class", "low_z")
    with pytest.raises(OutputError, match="closed"):
        journal.vote("ann", "a", "class", "low_z")


@pytest.mark.parametrize("content", [b"hello", b"hello\nworld", b"\n", b"\x00" * 20, b'{"record": "x"}\n', b"[]\n"])
def test_other_files_are_not_changed(path, content):
    path.write_bytes(content)
    with pytest.raises(OutputError, match="not a journal of votes"):
        VoteJournal(path, CLASSES, SOURCES)
    assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_journals_of_other_workflows_and_versions(path, tmp_path):
    assert journal_path(tmp_path, HUNT) != journal_path(tmp_path, CLASSES)
    with pytest.raises(SchemaError, match="workflow: its name must be letters"):
        journal_path(tmp_path, dataclasses.replace(HUNT, name="../hunt"))
    VoteJournal(path, CLASSES, SOURCES).close()
    with pytest.raises(OutputError, match="is of .*candidate.*, not of .*hunt"):
        VoteJournal(path, HUNT, SOURCES)
    head = json.loads(path.read_text())
    path.write_text(json.dumps(head | {"version": 2}) + "\n")
    with pytest.raises(OutputError, match="has version 2"):
        VoteJournal(path, CLASSES, SOURCES)
    with pytest.raises(OutputError, match="cannot write"):
        VoteJournal(tmp_path / "nowhere" / "votes.jsonl", CLASSES, SOURCES)


def test_broken_lines_are_reported_and_stay(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
        journal.vote("ann", "b", "class", "low_z")
    head, first, second = path.read_bytes().splitlines(keepends=True)
    stray = first.replace(b'"vote"', b'"withdrawal"').replace(b'"ann"', b'"cy"')
    broken = b'{"record": "vote"}\n', b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"record": 1}\n', stray
    text = head + first + b"".join(broken) + second
    path.write_bytes(text)
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        assert [line for line, _ in journal.problems] == [3, 4, 5, 6, 7]
        assert journal.problems[-1][1] == "withdraws a vote that does not exist"
        assert [row[0] for row in rows(journal)] == ["a", "b"]
        assert journal.votes().meta["lines"] == {"torn": 0, "malformed": 5}
    assert path.read_bytes() == text


def test_votes_on_removed_sources_and_questions_are_kept(path):
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        journal.vote("ann", "a", "class", "low_z")
    line = path.read_bytes().splitlines(keepends=True)[1]
    with open(path, "ab") as file:
        file.write(line.replace(b'"a"', b'"gone"'))
        file.write(line.replace(b'"class"', b'"colour"'))
        file.write(line.replace(b'"a"', b'"b"').replace(b"low_z", b"pink"))
    with VoteJournal(path, CLASSES, SOURCES) as journal:
        assert journal.problems == [] and len(rows(journal)) == 4
        problems = check_votes(journal.votes(), workflow=CLASSES)["problem"].tolist()
        assert sorted(problems) == ["unknown_answer", "unknown_question"]
        assert journal.answers("ann", "b") == {} and journal.answers("ann", "a") == {"class": "low_z"}


def test_provenance_of_the_votes(path):
    with VoteJournal(path, HUNT, SOURCES) as journal:
        meta = journal.votes().meta
    assert meta["workflow"] == "hunt" and meta["journal"] == "votes.jsonl" and meta["numpy"] == np.__version__


def test_what_is_no_journal_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name, text in {"fifo": "is a FIFO, not a regular file", "folder": "cannot write"}.items():
        with pytest.raises(OutputError, match=f"votes: .*{text}"):
            VoteJournal(tmp_path / name, HUNT, SOURCES)
