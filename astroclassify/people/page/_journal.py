"""Votes on disk: an append-only journal, so that a vote once confirmed survives whatever happens next."""

import contextlib
import errno
import json
import logging
import os
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
from astropy.table import QTable

from astroclassify import tables
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import OutputError

from ._records import (
    COLUMNS,
    FORMAT,
    HEAD,
    LONGEST_NOTE,
    NOTE,
    NOTE_COLUMNS,
    VERSION,
    VOTE,
    WITHDRAWAL,
    VoteError,
    answer_names,
    check,
    follow,
    now,
    parse,
    read_head,
    voter_name,
)

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two servers off one folder there; appending loses nothing even so
    fcntl = None

__all__ = ["VoteJournal"]

log = logging.getLogger(__name__)


class VoteJournal:
    """
    The votes of all voters on the sources ``subjects`` in one workflow, and their notes, in a file of JSON lines at
    ``path``.

    Each record is written with one call and synced before `vote`, `undo` or `note` returns. An incomplete last line is
    moved to ``<journal>.torn`` and kept in ``torn``; lines that are no records are in ``problems`` and do not count.
    """

    def __init__(self, path, workflow, subjects):
        self.path, self.workflow = Path(path), workflow
        self.torn, self.problems = "", []
        self._subjects = {str(name) for name in subjects}
        self._questions = {question.name: question for question in workflow.questions}
        self._lock = threading.Lock()
        self._active = {}  # voter -> records that are not withdrawn, oldest first
        self._given = {}  # (voter, source) -> question -> record
        self._outcomes = {}  # voter -> source -> outcome
        self._notes = {}  # (voter, source) -> record
        self._half_line = False
        with contextlib.suppress(FileNotFoundError):
            check_regular(self.path, "votes", error=OutputError)  # a FIFO would be read for ever
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise OutputError(f"votes: cannot write {str(self.path)!r}: {error.strerror}") from error
        try:
            self._lock_file()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the journal; it accepts no further votes."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def vote(self, voter_id, source_id, question, answer):
        """Record an answer to the open question, or another one to a question before; it is on disk on return."""
        voter = voter_name(voter_id)
        check("source_id", source_id, self._subjects, "the sample's")
        check("question", question, self._questions, tuple(self._questions))
        names = answer_names(self._questions[question])
        check(f"answer to {question!r}", answer, names, names)
        with self._lock:
            path, open_question, _ = follow(self.workflow, self._answers(voter, source_id))
            if path.get(question) == answer:
                return  # repeated, as by a browser that did not receive the first confirmation
            if question not in path and (open_question is None or open_question.name != question):
                raise VoteError(f"question {question!r} does not arise after {path}")
            record = dict(zip(COLUMNS, (source_id, voter, question, answer, now()), strict=True))
            self._append({"record": VOTE, **record})
            self._activate(record)

    def undo(self, voter_id):
        """Withdraw a voter's last vote, (source, question) or None; the vote that it had replaced counts again."""
        voter = voter_name(voter_id)
        with self._lock:
            active = self._active.get(voter)
            if not active:
                return None
            last = active[-1]
            self._append({"record": WITHDRAWAL, **last, "time": now()})
            active.pop()
            self._recount(voter, last["source_id"])
            return last["source_id"], last["question"]

    def note(self, voter_id, source_id, text):
        """Keep a voter's note on a source in place of the one before; an empty text removes it."""
        voter = voter_name(voter_id)
        check("source_id", source_id, self._subjects, "the sample's")
        text = " ".join(text.split()) if isinstance(text, str) else None
        if text is None or len(text) > LONGEST_NOTE or not text.isprintable():
            raise VoteError(f"note must be a text of up to {LONGEST_NOTE} characters, got {str(text)[:80]!r}")
        with self._lock:
            if text != self._notes.get((voter, source_id), {"note": ""})["note"]:
                record = dict(zip(NOTE_COLUMNS, (source_id, voter, text, now()), strict=True))
                self._append({"record": NOTE, **record})
                self._take_note(record)

    def notes(self, voter_id):
        """Notes of a voter, source -> text."""
        with self._lock:
            return {source: record["note"] for (voter, source), record in self._notes.items() if voter == voter_id}

    def answers(self, voter_id, source_id):
        """Answers of a voter on a source, question -> answer, in the order of the path."""
        with self._lock:
            return follow(self.workflow, self._answers(voter_id, source_id))[0]

    def outcomes(self, voter_id):
        """Outcomes of the sources that a voter has finished, source -> outcome."""
        with self._lock:
            return dict(self._outcomes.get(voter_id, {}))

    def voters(self):
        """Sorted names of all voters with votes."""
        with self._lock:
            return sorted(voter for voter, records in self._active.items() if records)

    def votes(self):
        """
        VOTES table of the votes that are not withdrawn: one row per voter, source and question, by time.

        ``note`` is the voter's note on the source; a note without a vote has a row without question and answer.
        """
        with self._lock:
            records = [record for given in self._given.values() for record in given.values()]
            notes = {pair: record["note"] for pair, record in self._notes.items()}
            voted = {pair for pair, given in self._given.items() if given}
            records += [
                dict(zip(COLUMNS, (source, voter, "", "", self._notes[voter, source]["time"]), strict=True))
                for voter, source in notes.keys() - voted
            ]
            counts = {"torn": int(bool(self.torn)), "malformed": len(self.problems)}
        records.sort(key=lambda record: (record["time"], record["source_id"], record["voter_id"]))
        table = QTable()
        for name in COLUMNS:
            table[name] = np.array([record[name] for record in records], dtype=str)
        pairs = ((record["voter_id"], record["source_id"]) for record in records)
        table["note"] = np.array([notes.get(pair, "") for pair in pairs], dtype=str)
        table.meta = tables.provenance(workflow=self.workflow.name, journal=self.path.name, lines=counts)
        return table

    def _answers(self, voter, source):
        return {question: record["answer"] for question, record in self._given.get((voter, source), {}).items()}

    def _activate(self, record):
        self._active.setdefault(record["voter_id"], []).append(record)
        self._add(record)

    def _take_note(self, record):
        pair = record["voter_id"], record["source_id"]
        self._notes.pop(pair, None)
        if record["note"]:
            self._notes[pair] = record

    def _recount(self, voter, source):
        """Rebuild the answers on a source from the votes that are not withdrawn."""
        self._given.pop((voter, source), None)
        self._outcomes.get(voter, {}).pop(source, None)
        for record in self._active[voter]:
            if record["source_id"] == source:
                self._add(record)

    def _add(self, record):
        voter, source, question = record["voter_id"], record["source_id"], record["question"]
        given = self._given.setdefault((voter, source), {})
        given[question] = record
        path, _, outcome = follow(self.workflow, self._answers(voter, source))
        if question in path:  # else the workflow has changed since: check_votes reports such votes
            for other in [name for name in given if name in self._questions and name not in path]:
                del given[other]
        self._outcomes.setdefault(voter, {}).pop(source, None)
        if outcome:
            self._outcomes[voter][source] = outcome

    def _lock_file(self):
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"votes: {str(self.path)!r} is in use by another process; all voters use the page of one server"
            ) from None
        except OSError as error:  # a file system without locks
            log.warning("%s cannot be locked (%s): do not start a second server on it", self.path, error.strerror)

    def _load(self):
        with open(self.path, "rb") as file:
            data = file.read()
        end = data.rfind(b"\n") + 1
        lines, tail = data[:end].split(b"\n")[:-1], data[end:]
        if lines:
            self._check_head(lines[0])
        elif not HEAD.startswith(tail[: len(HEAD)]):
            raise OutputError(f"votes: {str(self.path)!r} is not a journal of votes")
        if lines and parse(tail) is not None:
            lines.append(tail)
            self._write(b"\n")
        elif tail:
            self._move_aside(tail, end)
        if not lines:
            definition = asdict(self.workflow)
            self._append({"record": FORMAT, "version": VERSION, **self._workflow_id(), "definition": definition})
            _sync_folder(self.path.parent)
        for number, line in enumerate(lines[1:], 2):
            self._replay(number, line)
        if self.problems:
            log.warning("%s: %d lines do not count, e.g. %s", self.path, len(self.problems), self.problems[0])

    def _replay(self, number, line):
        record = parse(line)
        if record is None:
            if line:  # an empty one ends a failed write
                self.problems.append((number, "not a record"))
            return
        kind = record.pop("record")
        if kind == VOTE:
            self._activate(record)
        elif kind == NOTE:
            self._take_note(record)
        elif not self._withdraw(record):
            self.problems.append((number, "withdraws a vote that does not exist"))

    def _workflow_id(self):
        return {"workflow": self.workflow.name, "workflow_version": self.workflow.version}

    def _move_aside(self, tail, end):
        """Move an incomplete last line to a file of its own, so that the next record begins a line."""
        aside = self.path.with_name(f"{self.path.name}.torn")
        with open(aside, "ab") as file:
            file.write(tail + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._file, end)
        os.fsync(self._file)
        self.torn = tail.decode("utf-8", "replace")
        log.warning("%s: the last write was incomplete; its %d bytes are now in %s", self.path, len(tail), aside.name)

    def _check_head(self, line):
        head = read_head(line, self.path)
        found = {name: head[name] for name in self._workflow_id()}
        if found != self._workflow_id():
            raise OutputError(f"votes: {str(self.path)!r} is of {found}, not of {self._workflow_id()}")

    def _withdraw(self, record):
        """Remove the vote that a withdrawal names; whether there was one."""
        active = self._active.get(record["voter_id"], [])
        for place in reversed(range(len(active))):
            if all(active[place][name] == record[name] for name in ("source_id", "question", "answer")):
                del active[place]
                self._recount(record["voter_id"], record["source_id"])
                return True
        return False

    def _append(self, record):
        if self._file is None:
            raise OutputError("votes: the journal is closed")
        self._check_path()
        line = json.dumps(record).encode() + b"\n"
        # After a write that could be neither finished nor undone, so that this record is not part of that line.
        self._write(b"\n" + line if self._half_line else line)
        self._half_line = False

    def _write(self, data):
        start = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            try:
                os.ftruncate(self._file, start)
            except OSError:
                self._half_line = True
            raise OutputError(f"votes: cannot write {str(self.path)!r}: {error.strerror}") from error

    def _check_path(self):
        """Refuse votes for a journal that was moved or replaced: nobody would find them again."""
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except OSError:
            same = False
        if not same:
            raise OutputError(f"votes: {str(self.path)!r} was moved or replaced; put it back or start the page again")


def _sync_folder(folder):
    """Sync the name of a new file to disk; systems on which a folder cannot be opened do that by themselves."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
