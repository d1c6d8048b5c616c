"""The classification exports of Zooniverse: CSV with JSON inside, read record by record."""

import hashlib
import json
from array import array
from collections import Counter
from operator import itemgetter

import numpy as np

from astroclassify import tables
from astroclassify.exceptions import SchemaError

from ._annotations import Asked, parse_annotation
from ._encode import numbering
from ._records import records

__all__ = ["Export", "fits_version", "has_columns", "only_workflow", "read_export", "short_name", "writable"]

_TEXT = 80
_LONGEST_NAME = 64
# Different texts kept parsed; with free comments every row has its own.
_CACHE, _CACHED_TEXT = 50_000, 4_000
_COLUMNS = ("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_name", "workflow_version")
_COLUMNS += ("created_at", "gold_standard", "expert", "metadata", "annotations", "subject_data", "subject_ids")
_NEEDED = ("annotations", "subject_ids")
_SOURCE_KEYS = ("source_id", "#source_id", "!source_id", "//source_id")


class Export:
    """
    Collects an export, whose columns are ``header``: one entry per classification, and the report. ``versions`` such as
    ``"12"``, ``"12.7"``.
    """

    def __init__(self, workflow, header, versions, workflow_id):
        self.workflow, self.workflow_id = workflow, workflow_id
        self.versions = None if versions is None else {str(version) for version in versions}
        self.report, self.n_rows = [], 0
        self.seen = Counter()
        self.asked = Asked(workflow)
        self._has = {name for name in ("gold_standard", "expert") if name in header}
        # A column that is missing is taken from the end of a record, to which an empty text is added.
        self._fields_of = itemgetter(*(header.index(name) if name in header else -1 for name in _COLUMNS))
        self._subjects, self._sources, self._manifests = numbering(), {}, {}
        self._voters, self._voter_names, self._experts = numbering(), {}, numbering()
        self._paths, self._parsed, self._path_numbers = [], {}, {}
        # Of each entry: numbers of its subject, voter, path and classification, whether it is gold, kind of the expert.
        self._entries, self._times = array("q"), []

    def note(self, line, problem, names=("", "", ""), *, question="", text=""):
        """Add a line to the report; ``names``: classification, source and voter."""
        self.report.append((line, *map(short_name, names), writable(question), problem, writable(str(text)[:_TEXT])))

    def add(self, line, fields):
        """Add one classification, the fields of a record."""
        self.n_rows += 1
        row = self._fields_of([*fields, ""])
        number, user_name, user_id, user_ip, workflow_id, workflow_name, version, time, gold, expert = row[:10]
        metadata, annotations, data, subject = row[10:]
        self.seen[workflow_id, workflow_name, version] += 1
        subject = subject.strip() or _only_key(data)
        voter = self._voter((user_name, user_id, user_ip), metadata)
        names = number, self._sources.get(subject) or subject, voter
        if self.workflow_id is not None and workflow_id != self.workflow_id:
            return self.note(line, "other_workflow", names, text=workflow_id)
        if not self.counts(version):
            return self.note(line, "other_version", names, text=version)
        path, problems = self._annotation(annotations, line)
        if subject and self._manifests.get(subject) != data:
            if not self._read_manifest(line, subject, data, names):
                return None
            names = number, self._sources[subject] or subject, voter
        for problem, question, text in problems:
            self.note(line, problem, names, question=question, text=text)
        if not subject:
            return self.note(line, "no_subject", names, text=data)
        if path is None:
            return None
        if not voter:
            self.note(line, "no_voter", names)
            voter = f"classification-{number or line}"
        number = int(number) if number.isdecimal() and len(number) < 19 else -1
        entry = (
            self._subjects[subject],
            self._voters[voter],
            path,
            number,
            gold.lower() == "true",
            self._experts[expert],
        )
        self._entries.extend(entry)
        self._times.append(_iso(time))
        return None

    def counts(self, version):
        """Whether answers of a version of the workflow count."""
        return self.versions is None or fits_version(version, self.versions)

    def _voter(self, who, metadata):
        """Name of a volunteer with these name, number and address, looked up once unless it hangs on the session."""
        name = self._voter_names.get(who)
        if name is None:
            name = self._voter_names[who] = _voter_of(*who)
        return name or _session(metadata)

    def _read_manifest(self, line, subject, data, names):
        """Look up the source of a subject in its manifest; whether the manifest is that of this subject."""
        if f'"{subject}"' not in data and _only_key(data):
            # Truncated, 12 becomes 1, which may be another subject.
            self.note(line, "malformed_subject", names, text=data)
            return False
        if not self._sources.get(subject):
            problem, name = _source_of(subject, data)
            if problem and (problem != "no_source_id" or subject not in self._sources):
                self.note(line, problem, names, text=data)
            self._sources[subject] = short_name(name)
            if problem == "malformed_subject":
                return True
        self._manifests[subject] = data
        return True

    def _annotation(self, text, line):
        """Number of the path that the answers of a classification form (None without answers), and their problems."""
        parsed = self._parsed.get(text)
        if parsed is None:
            answers, problems = parse_annotation(text, self.workflow, self.asked, line)
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
        """Columns of the VOTES table, one row per answer; rows with the same text share one object."""
        subject, voter, path, number, gold, expert = np.array(self._entries, dtype=np.int64).reshape(-1, 6).T
        lengths = np.array([len(each) for each in self._paths], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        steps = np.array([step for each in self._paths for step in each], dtype=np.int64).reshape(-1, 2)
        repeats = lengths[path]
        entry = np.repeat(np.arange(len(repeats)), repeats)
        within = np.arange(len(entry)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        question, answer = steps[starts[path[entry]] + within].T
        sources = [self._sources.get(name) or short_name(name) for name in self._subjects]
        columns = {
            "source_id": _texts(sources)[subject[entry]],
            "voter_id": _texts(self._voters)[voter[entry]],
            "question": _texts(self.workflow.question_names)[question],
            "answer": self.workflow.answer_names.astype(object)[question, answer],
            "time": _texts(self._times)[entry],
            "classification_id": number[entry],
        }
        if "gold_standard" in self._has:
            columns["gold_standard"] = gold.astype(bool)[entry]
        if "expert" in self._has:
            columns["expert"] = _texts(map(_known_text, self._experts))[expert[entry]]
        return columns

    def seen_counts(self):
        """How often each version and each workflow comes."""
        versions, workflows = Counter(), Counter()
        for (workflow_id, _, version), number in self.seen.items():
            versions[version] += number
            workflows[workflow_id] += number
        return {"versions": dict(sorted(versions.items())), "workflows": dict(sorted(workflows.items()))}

    @property
    def n_used(self):
        """Classifications of which at least one answer is in the table."""
        return len(self._times)


def read_export(file, workflow, *, versions, workflow_id):
    """
    Read an export from a text file opened with ``newline=""``; returns an Export.

    SchemaError if it is none, has several workflows of which none is named, or asks other questions.
    """
    rows = records(file)
    _, header, _ = next(rows, (1, None, None))
    if not has_columns(header, _NEEDED):
        raise SchemaError(
            f"path: not an export of classifications, which has the columns {list(_NEEDED)}, nor a table of votes, "
            f"which has {[name for name, _ in tables.VOTES.columns]}; got {str(header)[:200]}"
        )
    export = Export(workflow, header, versions, workflow_id)
    for line, fields, text in rows:
        if fields is None:
            export.n_rows += 1
            export.note(line, "malformed_row", text=text.rstrip("\r\n"))
        else:
            export.add(line, fields)
    only_workflow([key for key in export.seen if export.counts(key[-1])], workflow_id)
    for line, question, label in export.asked.check():
        export.note(line, "reworded", question=question, text=label)
    return export


def has_columns(header, names):
    """Whether a header, or None, has all of the names."""
    return set(names) <= set(header or ())


def only_workflow(found, wanted=None):
    """
    Number of the workflow that an export is of; ``found`` holds (workflow_id, name, version).

    SchemaError, which lists what there is, if it has several and none is wanted, or not the one that is.
    """
    names = {}
    for workflow_id, name, version in found:
        names.setdefault(workflow_id, (name, []))[1].append(version)
    if (wanted is None and len(names) > 1) or (wanted is not None and names and wanted not in names):
        listed = [f"{key!r} ({name[:80]!r}, versions {', '.join(sorted(set(versions))[:20])})"
                  for key, (name, versions) in sorted(names.items())]  # fmt: skip
        raise SchemaError(f"workflow_id must be one of those in the file, {'; '.join(listed)}; got {wanted!r}")
    return wanted if wanted is not None else next(iter(names), "")


def fits_version(version, wanted):
    """Whether a version such as ``"12.7"`` is, or its number before the point, among those wanted."""
    return bool({version, version.split(".")[0]} & wanted)


def _texts(names):
    """Texts as an array of objects."""
    texts = list(names)
    return np.array(texts, dtype=object) if texts else np.zeros(0, object)


def _only_key(text):
    """Number of the subject from the subject data, where its column is empty."""
    try:
        keys = list(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return ""
    return str(keys[0]) if len(keys) == 1 else ""


def _source_of(subject, data):
    """What is wrong with the manifest of a subject, or empty, and the name of the source in it."""
    if not data:
        return "no_source_id", ""
    try:
        manifest = json.loads(data)[subject]
        name = next((str(manifest[key]).strip() for key in _SOURCE_KEYS if manifest.get(key)), "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "malformed_subject", ""
    return "" if name else "no_source_id", name


def _voter_of(name, user, address):
    """Name of a volunteer; without account the hash of the address, or empty."""
    name, user, address = (_known_text(text) for text in (name, user, address))
    anonymous = name.startswith("not-logged-in")
    if name and not anonymous:
        return short_name(name)
    if user:
        return short_name(f"user-{user}")
    address = address or name.removeprefix("not-logged-in").strip("-")
    return short_name(f"ip-{address}") if address else ""


def _session(metadata):
    """Name of a volunteer without account and address from the session, or empty."""
    try:
        session = json.loads(metadata or "{}").get("session")
    except (ValueError, AttributeError, RecursionError):
        session = None
    return short_name(f"session-{str(session)[:32]}") if session else ""


def _known_text(text):
    """A text, empty for the NA that R writes in its place."""
    text = text.strip()
    return "" if text == "NA" else text


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
    return text if text.isascii() and len(text) <= 32 else text[:32].encode("ascii", "replace").decode()
