"""The classification exports of Zooniverse: CSV with JSON inside, read record by record."""

import csv
import hashlib
import json
import threading
from array import array
from collections import Counter
from contextlib import contextmanager

import numpy as np

from astroclassify import tables
from astroclassify.exceptions import SchemaError

from ._encode import numbering
from ._workflow import plain_text

__all__ = ["Export", "read_export", "records"]

_BLOCK = 1 << 16
_LONGEST_RECORD = 16 << 20
_LIMIT_LOCK = threading.Lock()
_TEXT = 80
_LONGEST_NAME = 64
# Different texts of annotations kept parsed; with free comments every row has its own.
_CACHE, _CACHED_TEXT = 50_000, 4_000
_COLUMNS = ("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_version", "created_at")
_COLUMNS += ("metadata", "annotations", "subject_data", "subject_ids")
_NEEDED = ("user_name", "annotations", "subject_data", "subject_ids")
_SOURCE_KEYS = ("source_id", "#source_id", "!source_id", "//source_id")


class _Lines:
    """Lines of a file for the CSV reader: those of its current record are in ``kept``; null bytes become escapes.

    A line inside a quote that is a record by itself, of ``size`` fields, ends the quote, which nobody has closed: it is
    kept for the next record. So does a record of more than ``_LONGEST_RECORD`` characters.
    """

    def __init__(self, file):
        self._file, self._pending = iter(file), []
        self.kept, self._length, self.size, self.swallowing = [], 0, None, False

    def __iter__(self):
        return self

    def __next__(self):
        text = self._pending.pop() if self._pending else next(self._file).replace("\0", "\\x00")
        inside = bool(self.kept)
        if inside and (len(_alone(text)) == self.size or self._length > _LONGEST_RECORD):
            self._pending.append(text)
            self.swallowing = True
            raise StopIteration
        self.kept.append(text)
        self._length += len(text)
        return text

    def next_record(self):
        """Fields of the next record, None where it is none; StopIteration at the end."""
        self.kept, self._length, self.swallowing = [], 0, False
        try:
            fields = next(csv.reader(self))
        except csv.Error:
            return None
        return None if self.swallowing else fields


def records(file):
    """
    Records of a CSV file: (line, fields, None), or (line, None, text) where there are not as many fields as in line 1.
    A quote that is not closed swallows no record, and a field may be of any length up to that of a record.
    """
    lines, line = _Lines(file), 1
    while True:
        try:
            with _any_length():
                fields = lines.next_record()
        except StopIteration:
            return
        lines.size = len(fields or ()) if lines.size is None else lines.size
        if fields is not None and len(fields) == lines.size:
            yield line, fields, None
        elif fields != []:
            for number, text in enumerate(lines.kept, line):
                yield number, None, text
        line += len(lines.kept)


@contextmanager
def _any_length():
    """Python's CSV reader has one limit for the whole process, 131072 characters: raised for one record at a time."""
    with _LIMIT_LOCK:
        before = csv.field_size_limit(2 * _LONGEST_RECORD)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _alone(text):
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return []


class Export:
    """Collects an export: one entry per classification, and the report. ``versions`` such as ``"12"``, ``"12.7"``."""

    def __init__(self, workflow, versions, workflow_id):
        self.workflow, self.workflow_id = workflow, workflow_id
        self.versions = None if versions is None else {str(version) for version in versions}
        self.report = []
        self.seen_versions, self.seen_workflows = Counter(), Counter()
        self.n_rows = 0
        self._subjects, self._sources = numbering(), {}
        self._voters = numbering()
        self._paths, self._parsed, self._path_numbers = [], {}, {}
        self._columns = {name: array(kind) for name, kind in (("subject", "i"), ("voter", "i"), ("path", "i"))}
        self._columns["classification_id"] = array("q")
        self._times, self._time_blocks = [], []

    def note(self, line, problem, row=None, *, question="", text=""):
        """Add a line to the report."""
        row = row or {}
        names = (row.get("classification_id", ""), row.get("source_id", ""), row.get("voter_id", ""))
        self.report.append((line, *map(short_name, names), writable(question), problem, writable(str(text)[:_TEXT])))

    def add(self, line, row):
        """Add one classification, a dict of the columns."""
        self.n_rows += 1
        version, workflow_id = row.get("workflow_version", ""), row.get("workflow_id", "")
        self.seen_versions[version] += 1
        self.seen_workflows[workflow_id] += 1
        subject = row["subject_ids"].strip() or self._only_key(row["subject_data"])
        row["source_id"] = subject
        row["voter_id"] = voter_id(row)
        if self.workflow_id is not None and workflow_id != self.workflow_id:
            return self.note(line, "other_workflow", row, text=workflow_id)
        if self.versions is not None and not {version, version.split(".")[0]} & self.versions:
            return self.note(line, "other_version", row, text=version)
        path, problems = self._annotation(row["annotations"])
        if subject:
            self._name_source(line, subject, row)
            if f'"{subject}"' not in row["subject_data"] and self._only_key(row["subject_data"]):
                # Truncated, 12 becomes 1, which may be another subject.
                return self.note(line, "malformed_subject", row, text=row["subject_data"])
        for problem, question, text in problems:
            self.note(line, problem, row, question=question, text=text)
        if not subject:
            return self.note(line, "no_subject", row, text=row["subject_data"])
        if path is None:
            return None
        if not row["voter_id"]:
            self.note(line, "no_voter", row)
            row["voter_id"] = f"classification-{row.get('classification_id') or line}"
        self._append(subject, row, path)
        return None

    def _append(self, subject, row, path):
        columns = self._columns
        columns["subject"].append(self._subjects[subject])
        columns["voter"].append(self._voters[row["voter_id"]])
        columns["path"].append(path)
        number = row.get("classification_id", "")
        columns["classification_id"].append(int(number) if number.isdecimal() and len(number) < 19 else -1)
        self._times.append(_iso(row.get("created_at", "")))
        if len(self._times) >= _BLOCK:
            self._time_blocks.append(np.array(self._times, dtype="S"))
            self._times = []

    def _only_key(self, text):
        """Number of the subject from the subject data, where its column is empty."""
        try:
            keys = list(json.loads(text))
        except (ValueError, TypeError, RecursionError):
            return ""
        return str(keys[0]) if len(keys) == 1 else ""

    def _name_source(self, line, subject, row):
        """Look up the source of a subject in its manifest, once."""
        if self._sources.get(subject):
            row["source_id"] = self._sources[subject]
            return
        try:
            manifest = json.loads(row["subject_data"])[subject]
            name = next((str(manifest[key]).strip() for key in _SOURCE_KEYS if manifest.get(key)), "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.note(line, "malformed_subject", row, text=row["subject_data"])
            name = ""
        self._sources[subject] = short_name(name)
        row["source_id"] = self._sources[subject] or subject

    def _annotation(self, text):
        """Number of the path that the answers of a classification form (None without answers), and their problems."""
        parsed = self._parsed.get(text)
        if parsed is None:
            answers, problems = parse_annotation(text, self.workflow)
            key = tuple(sorted(answers.items()))
            if key and key not in self._path_numbers:
                self._path_numbers[key] = len(self._paths)
                self._paths.append(key)
            parsed = self._path_numbers.get(key), tuple(problems)
            if len(self._parsed) >= _CACHE:
                self._parsed.clear()
            if len(text) < _CACHED_TEXT:
                self._parsed[text] = parsed
        return parsed

    def columns(self):
        """Columns of the VOTES table, one row per answer."""
        entries = {name: np.array(values) for name, values in self._columns.items()}
        times = [*self._time_blocks, np.array(self._times, dtype="S")]
        times = np.concatenate(times) if self._time_blocks else times[0]
        lengths = np.array([len(path) for path in self._paths], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        steps = np.array([step for path in self._paths for step in path], dtype=np.int64).reshape(-1, 2)
        repeats = lengths[entries["path"]]
        entry = np.repeat(np.arange(len(repeats)), repeats)
        within = np.arange(len(entry)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        question, answer = steps[starts[entries["path"][entry]] + within].T
        sources = [self._sources.get(name) or short_name(name) for name in self._subjects]
        return {
            "source_id": np.array(sources, dtype=str)[entries["subject"][entry]],
            "voter_id": np.array(list(self._voters), dtype=str)[entries["voter"][entry]],
            "question": np.array(self.workflow.question_names)[question],
            "answer": self.workflow.answer_names[question, answer],
            "time": times.astype("U")[entry] if len(entry) else np.zeros(0, "U1"),
            "classification_id": entries["classification_id"][entry],
        }

    @property
    def n_used(self):
        """Classifications of which at least one answer is in the table."""
        return len(self._columns["path"])


def read_export(file, workflow, *, versions, workflow_id):
    """Read an export from a text file opened with ``newline=""``; returns an Export."""
    rows = records(file)
    _, header, _ = next(rows, (1, None, None))
    missing = [name for name in _NEEDED if name not in (header or ())]
    if missing:
        raise SchemaError(
            f"path: not an export of classifications, which has the columns {list(_NEEDED)}, nor a table of votes, "
            f"which has {[name for name, _ in tables.VOTES.columns]}; got {str(header)[:200]}"
        )
    places = [(name, header.index(name)) for name in _COLUMNS if name in header]
    export = Export(workflow, versions, workflow_id)
    for line, fields, text in rows:
        if fields is None:
            export.n_rows += 1
            export.note(line, "malformed_row", text=text.rstrip("\r\n"))
        else:
            export.add(line, {name: fields[place] for name, place in places})
    return export


def voter_id(row):
    """Name of a volunteer; without account the hash of the address, the session, or empty."""
    name, user, address = (row.get(key, "").strip() for key in ("user_name", "user_id", "user_ip"))
    anonymous = name.startswith("not-logged-in")
    if name and not anonymous:
        return short_name(name)
    if user:
        return short_name(f"user-{user}")
    address = address or name.removeprefix("not-logged-in").strip("-")
    if address:
        return short_name(f"ip-{address}")
    try:
        session = json.loads(row.get("metadata") or "{}").get("session")
    except (ValueError, AttributeError, RecursionError):
        session = None
    return short_name(f"session-{str(session)[:32]}") if session else ""


def parse_annotation(text, workflow):
    """Answers of a classification from its JSON (numbers, question -> answer); problems (problem, question, text)."""
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError):
        return {}, [("malformed_json", "", text)]
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        return {}, [("malformed_json", "", text)]
    answers, problems = {}, []
    for task in tasks:
        value = task.get("value")
        inner = isinstance(value, list) and value and all(isinstance(each, dict) and "task" in each for each in value)
        for each in value if inner else [task]:
            _add_answer(each, workflow, answers, problems)
    if not answers and not problems:
        problems.append(("no_answer", "", text))
    return answers, problems


def _add_answer(task, workflow, answers, problems):
    name, value = str(task.get("task")), task.get("value")
    question = workflow.task_codes.get(name)
    if question is None:
        problems.append(("unknown_question", name[:_LONGEST_NAME], str(value)))
        return
    label = workflow.question_names[question]
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if value is None or value == []:
        problems.append(("no_answer", label, ""))
        return
    code = None
    if isinstance(value, str):
        code = workflow.answer_codes[question].get(plain_text(value))
    elif isinstance(value, int) and not isinstance(value, bool):  # True equals 1 as a key
        code = workflow.answer_codes[question].get(value)
    if code is None:
        problems.append(("unknown_answer", label, str(value)))
        return
    if question in answers:  # the volunteer went back: the later answer stands
        problems.append(("duplicate", label, workflow.questions[question].answers[answers[question]].name))
    answers[question] = code


def writable(text):
    """Text that UTF-8 can encode: invalid bytes, and half surrogate pairs from JSON, become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def short_name(name):
    """The name, or its beginning and a hash where it is too long for a column."""
    name = writable(str(name))
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{name[: _LONGEST_NAME - 17]}-{digest}"


def _iso(text):
    """Time of an export, 2019-06-12 15:05:22 UTC, in ISO form; other forms unchanged."""
    text = text.strip()
    if len(text) == 23 and text.endswith(" UTC"):
        text = f"{text[:10]}T{text[11:19]}"
    return text[:32].encode("ascii", "replace")
