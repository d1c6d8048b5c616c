"""Records of votes: names, lines of the journal, and the path of a voter's answers through a workflow."""

import json
import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

from astroclassify import tables
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import OutputError, SchemaError

from .._workflow import Workflow, load_workflow

__all__ = [
    "COLUMNS", "FORMAT", "HEAD", "LONGEST_NOTE", "NOTE", "NOTE_COLUMNS", "UNSURE", "VERSION", "VOTE", "WITHDRAWAL",
    "VoteError", "answer_names", "check", "follow", "journal_path", "journals_in", "now", "parse", "read_head",
    "voter_name", "workflow_of",
]  # fmt: skip

FORMAT = "astroclassify-votes"
VERSION = 1
HEAD = json.dumps({"record": FORMAT}).encode()[:-1]
VOTE, WITHDRAWAL, NOTE = "vote", "withdrawal", "note"
COLUMNS = tuple(name for name, _ in tables.VOTES.columns)
NOTE_COLUMNS = ("source_id", "voter_id", "note", "time")
_KEYS = {kind: {"record", *COLUMNS} for kind in (VOTE, WITHDRAWAL)} | {NOTE: {"record", *NOTE_COLUMNS}}
LONGEST_NOTE = 500  # characters
#: Answer to any question by who cannot tell; it ends the voter's path without an outcome of the workflow.
UNSURE = "unsure"
_WORKFLOW = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_VOTER = re.compile(r"\w[\w .@+'-]{0,63}")


class VoteError(SchemaError):
    """A vote that is refused: unknown source, question or answer, or a question that does not arise."""


def journal_path(folder, workflow):
    """Path of the journal of the votes on a sample folder, one for each workflow."""
    if not _WORKFLOW.fullmatch(str(workflow.name)):
        raise SchemaError(f"workflow: its name must be letters, digits and _ . -, got {str(workflow.name)[:80]!r}")
    return Path(folder) / f"votes-{workflow.name}.jsonl"


def journals_in(folder):
    """Paths of the journals of a sample folder, by name of their workflow."""
    return {path.stem.removeprefix("votes-"): path for path in sorted(Path(folder).glob("votes-*.jsonl"))}


def workflow_of(path):
    """The workflow that a journal was opened with: its questions stand in the first line."""
    check_regular(path, "votes", error=OutputError)
    with open(path, "rb") as file:
        head = read_head(file.readline(), path)
    # Journals of a development version do not hold the questions.
    return load_workflow(head["workflow"]) if head["definition"] is None else Workflow.from_dict(head["definition"])


def answer_names(question):
    """Names of the answers to a question, `UNSURE` included."""
    return tuple(dict.fromkeys([*(answer.name for answer in question.answers), UNSURE]))


def voter_name(name):
    """Normalised name of a voter: composed characters, single blanks, 1 to 64 of the allowed characters."""
    text = " ".join(unicodedata.normalize("NFC", name).split()) if isinstance(name, str) else ""
    if not _VOTER.fullmatch(text):
        raise VoteError(
            f"voter_id must begin with a letter or digit and have up to 64 letters, digits, blanks and _ . @ + ' -, "
            f"got {str(name)[:80]!r}"
        )
    return text


def follow(workflow, answers):
    """Answers (question -> answer) on the path through a workflow, the open Question or None, the outcome, "" while it
    is open or `UNSURE`."""
    questions = {question.name: question for question in workflow.questions}
    path, question = {}, workflow.questions[0]
    while True:
        answer = next((each for each in question.answers if each.name == answers.get(question.name)), None)
        if answer is None and answers.get(question.name) == UNSURE:
            return {**path, question.name: UNSURE}, None, UNSURE
        if answer is None:
            return path, question, ""
        path[question.name] = answer.name
        if answer.outcome:
            return path, None, answer.outcome
        question = questions[answer.next]


def read_head(line, path):
    """First record of a journal."""
    try:
        head = json.loads(line)
        version = head["version"] if head["record"] == FORMAT else None
        known = {name: head[name] for name in ("workflow", "workflow_version")}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise OutputError(f"votes: {str(path)!r} is not a journal of votes") from None
    if version != VERSION:
        raise OutputError(f"votes: {str(path)!r} has version {version}, this package writes {VERSION}")
    return {**known, "definition": head.get("definition")}


def check(what, value, allowed, allowed_text):
    if not isinstance(value, str) or value not in allowed:
        raise VoteError(f"{what} must be one of {allowed_text}, got {str(value)[:80]!r}")


def now():
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(line):
    """The record in a line, or None."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not all(isinstance(value, str) for value in record.values()):
        return None
    return record if set(record) == _KEYS.get(record.get("record")) else None
