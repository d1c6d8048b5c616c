"""Votes as numbers: one ballot per voter and subject, with the answers on the voter's path through the workflow."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from astropy.time import Time

from astroclassify import tables
from astroclassify.exceptions import SchemaError

from ._wording import plain_text

__all__ = [
    "PROBLEMS",
    "Ballots",
    "encode",
    "known_outcomes",
    "label_pairs",
    "numbering",
    "subject_names",
    "targets_of",
    "texts_of",
    "time_key",
    "walk",
]

#: Problems of a vote, by code; 0 is a vote that counts.
PROBLEMS = ("", "no_subject", "no_voter", "unknown_question", "unknown_answer", "duplicate", "off_path")
_NO_SUBJECT, _NO_VOTER, _QUESTION, _ANSWER, _DUPLICATE, _OFF_PATH = range(1, 7)
_BLOCK = 1 << 17
# Votes without a time come after those that have one.
_LAST = "\uffff"


@dataclass(frozen=True)
class Ballots:
    """
    Ballots: ``subject``, ``voter`` (n,) index into ``subjects`` and ``voters``; ``answers`` (n, n_questions) int8 and
    ``outcome`` (n,) are -1 where a question or an outcome was not reached.
    """

    workflow: object
    subjects: np.ndarray
    voters: np.ndarray
    subject: np.ndarray
    voter: np.ndarray
    answers: np.ndarray
    outcome: np.ndarray
    counts: dict

    def tally(self, question, weights=None):
        """Votes for each answer, shape (n_subjects, n_answers); ``weights`` are one per ballot."""
        n_answers = len(self.workflow.questions[question].answers)
        answers = self.answers[:, question]
        asked = answers >= 0
        cell = self.subject[asked].astype(np.int64) * n_answers + answers[asked]
        weights = None if weights is None else weights[asked]
        counts = np.bincount(cell, weights, minlength=len(self.subjects) * n_answers)
        return counts.astype(float).reshape(-1, n_answers)

    def tally_outcomes(self):
        """Ballots for each outcome, shape (n_subjects, n_outcomes)."""
        n = len(self.workflow.outcomes)
        done = self.outcome >= 0
        cell = self.subject[done].astype(np.int64) * n + self.outcome[done]
        return np.bincount(cell, minlength=len(self.subjects) * n).reshape(-1, n)


def encode(votes, workflow, subjects=()):
    """
    Ballots of a VOTES table, ``subjects`` first, and one index into `PROBLEMS` per row. Of several answers to one
    question the earliest counts; answers off the voter's path do not count.
    """
    votes = checked_votes(votes)
    subject, subject_names = _factorise(votes, "source_id", subjects)
    voter, voter_names = _factorise(votes, "voter_id")
    question, answer = _numbers(votes, workflow)
    problems = np.zeros(len(votes), np.int8)
    for code, wrong in (
        (_ANSWER, answer < 0),
        (_QUESTION, question < 0),
        (_NO_VOTER, _is_empty(voter, voter_names)),
        (_NO_SUBJECT, _is_empty(subject, subject_names)),
    ):
        problems[wrong] = code
    n_questions = len(workflow.questions)
    rows = np.flatnonzero(problems == 0)
    key = (subject[rows].astype(np.int64) * max(len(voter_names), 1) + voter[rows]) * n_questions + question[rows]
    rows, key, twice = _earliest(rows, key, votes)
    problems[twice] = _DUPLICATE
    pair = key // n_questions
    starts = np.concatenate([[True], np.diff(pair) != 0]) if len(pair) else np.zeros(0, bool)
    ballot = np.cumsum(starts) - 1
    answers = np.full((int(starts.sum()), n_questions), -1, np.int8)
    answers[ballot, question[rows]] = answer[rows]
    on_path, stop = walk(answers, workflow)
    outcome = np.where(stop >= n_questions, stop - n_questions, -1).astype(np.int16)
    problems[rows[~on_path[ballot, question[rows]]]] = _OFF_PATH
    answers[~on_path] = -1
    names, numbers = np.unique(problems, return_counts=True)
    counts = {PROBLEMS[code]: int(number) for code, number in zip(names, numbers, strict=True) if code}
    first = rows[starts]
    subject, subject_names = _without_empty(subject[first], subject_names)
    voter, voter_names = _without_empty(voter[first], voter_names)
    return Ballots(workflow, subject_names, voter_names, subject, voter, answers, outcome, counts), problems


def walk(answers, workflow):
    """
    Which of the answers (n, n_questions), negative for none, are on the path through a workflow, and where each path
    stops (n,): number of the open question, or number of questions + that of the outcome. A question whose answers all
    lead to the same place stops no path.
    """
    state = np.zeros(len(answers), np.int16)
    on_path = np.zeros(answers.shape, bool)
    # Every question comes after those that lead to it, so one pass is enough.
    for number, targets in enumerate(targets_of(workflow)):
        here = (state == number) & (answers[:, number] >= 0)
        on_path[here, number] = True
        decides = np.any(targets != targets[0])
        state[here if decides else state == number] = targets[answers[here, number]] if decides else targets[0]
    return on_path, state


def targets_of(workflow):
    """Target of each answer of each question: number of a question, or number of questions + that of an outcome."""
    place = {name: number for number, name in enumerate((*workflow.question_names, *workflow.outcome_names))}
    return [
        np.array([place[answer.next or answer.outcome] for answer in question.answers])
        for question in workflow.questions
    ]


def checked_votes(votes):
    """A VOTES table whose times are texts in ISO form: UTC of `~astropy.time.Time`, empty where none are known."""
    # Names and kinds show in one row: there is no room for copies of the texts of millions of votes.
    first = tables.plain_table(votes[:1] if isinstance(votes, Table) else votes)
    tables.validate(_with_time(first), tables.VOTES)
    return _with_time(votes)


def _with_time(votes):
    """The votes, with their times as text."""
    time = votes["time"] if "time" in votes.colnames else np.full(len(votes), "")
    if isinstance(time, Time):
        texts, gaps = np.ma.getdata(time.utc.isot), np.broadcast_to(time.mask, time.shape)
        time = np.where(gaps, "", np.char.partition(texts.astype(str), ".")[..., 0])
    elif "time" in votes.colnames:
        return votes
    votes = votes.copy(copy_data=False)
    votes["time"] = time
    return votes


def texts_of(column, rows=slice(None)):
    """Some rows of a text column as a list of str."""
    part = column[rows]
    texts = _objects(part)
    return tables.plain_column(part, "").astype(str).tolist() if texts is None else texts


def _objects(column):
    """The objects of a column of which all are str, so that nothing has to be converted; None of another column."""
    if getattr(getattr(column, "dtype", None), "kind", "") != "O" or hasattr(column, "mask"):
        return None
    texts = np.asarray(column).tolist()
    return texts if set(map(type, texts)) <= {str} else None


def _factorise(votes, name, known=()):
    """Numbers of the different texts in a column, in order of appearance after those known, and the texts."""
    index, column = numbering(), votes[name]
    for text in known:
        index[str(text)]
    codes = np.empty(len(column), np.int32)
    # In blocks: a list of millions of Python strings would take more memory than the column.
    for start in range(0, len(column), _BLOCK):
        part = column[start : start + _BLOCK]
        texts = _objects(part)
        if texts is None:
            if not tables.has_text(part):
                raise SchemaError(f"not a {tables.VOTES.name} table: column {name!r} must hold text")
            texts = texts_of(part)
        codes[start : start + len(texts)] = np.fromiter(map(index.__getitem__, texts), np.int32, len(texts))
    return codes, list(index)


def numbering():
    """A dict that gives each new key the next number."""
    index = defaultdict()
    index.default_factory = index.__len__
    return index


def _is_empty(codes, names):
    return codes == names.index("") if "" in names else np.zeros(len(codes), bool)


def _without_empty(codes, names):
    """Codes and names (as an array) without the empty name, which no code has."""
    if "" in names:
        empty = names.index("")
        codes, names = codes - (codes > empty), names[:empty] + names[empty + 1 :]
    return codes, np.array(names, dtype=str)


def _numbers(votes, workflow):
    """Numbers of question and answer of each row, -1 where the workflow has no such name."""
    question, questions = _factorise(votes, "question")
    answer, answers = _factorise(votes, "answer")
    to_question = np.array([workflow.task_codes.get(name, -1) for name in questions], dtype=np.int16)
    to_answer = np.array(
        [[codes.get(plain_text(name), -1) for name in answers] for codes in workflow.answer_codes], dtype=np.int16
    )
    if not len(votes):
        return np.zeros(0, np.int16), np.zeros(0, np.int16)
    question = to_question[question]
    return question, np.where(question >= 0, to_answer[question, answer], -1)


def _earliest(rows, key, votes):
    """Keep the earliest row of each key: the rows, sorted by key, their keys, and the rows left out."""
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    first = np.concatenate([[True], np.diff(key) != 0]) if len(key) else np.zeros(0, bool)
    if first.all():
        return rows, key, np.zeros(0, np.int64)
    group = np.cumsum(first) - 1
    many = np.flatnonzero(np.bincount(group)[group] > 1)
    times = np.array([time_key(time) for time in texts_of(votes["time"], rows[many])])
    ranked = many[np.lexsort((rows[many], times, group[many]))]
    leads = np.concatenate([[True], np.diff(group[ranked]) != 0])
    keep = np.ones(len(rows), bool)
    keep[ranked[~leads]] = False
    return rows[keep], key[keep], rows[~keep]


def subject_names(subjects):
    """Names of the subjects that get a row, from a sequence or a table."""
    if subjects is None:
        return ()
    if isinstance(subjects, str):
        raise SchemaError(f"subjects must be names or a table with source_id, got {subjects!r}")
    if hasattr(subjects, "colnames"):
        if "source_id" not in subjects.colnames:
            raise SchemaError("subjects must be names or a table with source_id")
        subjects = subjects["source_id"]
    names = texts_of(subjects) if hasattr(subjects, "dtype") else [str(name) for name in subjects]
    if len(set(names)) != len(names) or "" in names:
        raise SchemaError("subjects must be different names, none of them empty")
    return names


def time_key(text):
    """Sort key of times in ISO form, with a T or a blank between day and hour; missing times come last."""
    return text.strip().replace(" ", "T", 1) or _LAST


def known_outcomes(gold, workflow):
    """Source -> number of its known outcome, from what `label_pairs` takes or None."""
    pairs = label_pairs(gold, "gold") if gold is not None else {}
    wrong = sorted({label for label in pairs.values() if label not in workflow.outcome_names})
    if wrong:
        raise SchemaError(f"gold must hold outcomes out of {workflow.outcome_names}, got {wrong[:5]}")
    return {name: workflow.outcome_names.index(label) for name, label in pairs.items()}


def label_pairs(labels, name, columns=("outcome", "decision", "label")):
    """Source -> label of a mapping or a table, without empty labels; tables must not repeat a source."""
    if hasattr(labels, "colnames"):
        column = next((each for each in columns if each in labels.colnames), None)
        if column is None or "source_id" not in labels.colnames:
            raise SchemaError(f"{name} must have the columns source_id and one of {columns}, got {labels.colnames}")
        sources, values = (texts_of(labels[each]) for each in ("source_id", column))
        if len(set(sources)) != len(sources):
            raise SchemaError(f"{name} must have one row per source_id")
        pairs = zip(sources, values, strict=True)
    elif hasattr(labels, "items"):
        pairs = labels.items()
    else:
        raise SchemaError(f"{name} must be a table or a dict of source_id -> label, got {type(labels).__name__}")
    return {str(source): str(label) for source, label in pairs if str(label)}
