"""Votes from files, and the faults in them, row by row."""

import logging
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.table import QTable

from astroclassify import tables
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import EmptyResultWarning, SchemaError

from ._encode import PROBLEMS, checked_votes, encode, texts_of
from ._export import has_columns, read_export, short_name, writable
from ._records import open_text, records
from ._workflow import load_workflow

__all__ = ["check_votes", "read_votes"]

log = logging.getLogger(__name__)

_REPORT = ("line", "classification_id", "source_id", "voter_id", "question", "problem", "text")


def read_votes(path, *, workflow="hunt", versions=None, workflow_id=None):
    """
    Read votes from a classification export of Zooniverse, or from any table of votes.

    Parameters
    ----------
    path : str or path-like
        A CSV file that Zooniverse exports (*Data exports*, *classification export*), packed with gzip or not, or a
        table in VOTES form (CSV with those columns, ECSV, FITS, VOTable, Parquet; without ``time`` the first rows count
        as the earliest).
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `load_workflow` and, for a project of your own, `workflow_from_export`.
    versions : sequence of str, optional
        Versions of the workflow that count, ``"12"`` (any ``12.x``) or ``"12.7"``; by default all of them. How often
        each one comes is in the meta of the votes.
    workflow_id : str or int, optional
        The workflow that counts; needed where the export holds several (`list_workflows`).

    Returns
    -------
    votes : `~astropy.table.QTable`
        A VOTES table, one row per answer. Names of questions and answers are those of the workflow, times are UTC.
        Of an export it has ``classification_id`` (-1 where it is no number) and, if the export has them,
        ``gold_standard`` (whether it was marked so, see `known_labels`) and ``expert`` (``expert``, ``owner`` or
        empty); its texts are objects, each once in memory. ``meta["read"]`` counts rows, classifications, problems,
        versions and workflows.
    report : `~astropy.table.QTable`
        The faults, one per row: ``line`` of the file (0: a row of the votes), ``classification_id``,
        ``source_id``, ``voter_id``, ``question``, ``problem`` and the beginning of the ``text``. Problems of lines:
        ``malformed_row``, ``malformed_json``, ``malformed_subject``, ``no_subject``, ``no_source_id`` (once per
        subject, whose number is its name), ``no_voter``, ``no_answer``, ``several_answers``, ``unknown_question``,
        ``unknown_answer``, ``reworded`` (once per wording, see the notes), ``other_version``, ``other_workflow``; those
        of votes are in `check_votes`. A row with a fault that leaves the votes usable is in both tables.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SchemaError
        If it is neither an export nor a VOTES table, has several workflows of which none is named, or asks other
        questions than the workflow.
    ValueError
        If versions or a workflow are given for a table of votes, which does not have them.

    Warns
    -----
    EmptyResultWarning
        If there are no votes in it.

    Notes
    -----
    A source is named by the entry ``source_id`` (or ``#source_id``) of the subject's manifest, else by Zooniverse's
    number of the subject. A volunteer without account is one voter per address (``user_ip``, a hash), else per session,
    else per classification (``no_voter``).

    An export asks the questions of a workflow if the words of every question are the same, capitals, punctuation and
    pictures aside, and some answer to it is known. Another wording counts as the same question where the export has the
    workflow's own as well, in another version, and half of the words are in both (``reworded``).

    The file is read as a stream; a line that is not a record affects no other line. Bytes that are not UTF-8 become
    escapes. A classification whose subject differs from the one in its manifest (a truncated line) is a
    ``malformed_subject`` and does not count.

    Examples
    --------
    >>> from astroclassify.people import read_votes
    >>> votes, report = read_votes("the-hunt-classifications.csv", versions=["16"])  # doctest: +SKIP
    >>> votes.meta["read"]["problems"]  # doctest: +SKIP
    {'duplicate': 212, 'other_version': 3801}
    """
    path, workflow = Path(path), load_workflow(workflow)
    check_regular(path, error=SchemaError)
    if isinstance(versions, str):
        raise TypeError(f"versions must be a sequence of texts such as ['16'], got {versions!r}")
    export = None
    if not path.name.lower().endswith((".csv", ".csv.gz")):
        votes, notes, counts = tables.read(path), [], {}
    else:
        with open_text(path) as file:
            header = next(records(file), (1, [], None))[1]
        with open_text(path) as file:
            if has_columns(header, {name for name, _ in tables.VOTES.columns} - {"time"}):
                votes, notes, counts = _read_plain(file)
            else:
                workflow_id = None if workflow_id is None else str(workflow_id)
                export = read_export(file, workflow, versions=versions, workflow_id=workflow_id)
    if export is None:
        if versions is not None or workflow_id is not None:
            raise ValueError(f"versions and workflow_id are for exports, got a table of votes, {path.name!r}")
        votes = tables.plain_table(checked_votes(votes))
    else:
        votes, notes = QTable(export.columns(), copy=False), export.report
        counts = {"rows": export.n_rows, "classifications": export.n_used, **export.seen_counts()}
        del export  # its lists are as large as the table
    votes.meta.update(tables.provenance(workflow=workflow.name))
    report = _report([*notes, *_vote_notes(votes, workflow)])
    problems = Counter(report["problem"].tolist())
    votes.meta["read"] = {"rows": len(votes), **counts, "votes": len(votes), "problems": dict(sorted(problems.items()))}
    report.meta.update(votes.meta)
    if not len(votes):
        warnings.warn(f"there are no votes in {str(path)!r}", EmptyResultWarning, stacklevel=2)
    if problems:
        log.warning("%s: %d faults, see the report: %s", path.name, len(report), dict(sorted(problems.items())))
    return votes, report


def check_votes(votes, *, workflow="hunt"):
    """
    Find the votes that do not count, and why.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `load_workflow`.

    Returns
    -------
    `~astropy.table.QTable`
        The report of `read_votes`, one row per vote that does not count. Problems: ``no_subject``, ``no_voter`` (empty
        name), ``unknown_question``, ``unknown_answer``, ``duplicate`` (the voter has answered this question about this
        source before; of equal times the first row stands), ``off_path`` (the voter's other answers do not lead to this
        question). ``row`` is the number of the vote.

    Raises
    ------
    SchemaError
        If ``votes`` is no VOTES table or there is no such workflow.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.people import check_votes
    >>> votes = QTable({"source_id": ["a", "a", "a"], "voter_id": ["v", "v", "v"], "question": ["emission"] * 3,
    ...                 "answer": ["yes", "perhaps", "no"], "time": ["", "", ""]})
    >>> print(check_votes(votes)["row", "problem", "text"])
    row    problem       text
    --- -------------- -------
      1 unknown_answer perhaps
      2      duplicate      no
    """
    votes = checked_votes(votes)
    return _report(_vote_notes(votes, load_workflow(workflow)))


def _vote_notes(votes, workflow):
    _, problems = encode(votes, workflow)
    rows = np.flatnonzero(problems)
    wrong = votes[rows]
    numbers = map(str, wrong["classification_id"]) if "classification_id" in votes.colnames else [""] * len(rows)
    columns = (texts_of(wrong[name]) for name in ("source_id", "voter_id", "question", "answer"))
    return [
        (0, number, *map(short_name, names), PROBLEMS[problems[row]], short_name(answer), row)
        for row, number, *names, answer in zip(rows.tolist(), numbers, *columns, strict=True)
    ]


def _report(notes):
    rows = [note if len(note) > len(_REPORT) else (*note, -1) for note in notes]
    table = QTable()
    for number, name in enumerate((*_REPORT, "row")):
        table[name] = np.array([row[number] for row in rows], dtype=np.int64 if name in ("line", "row") else str)
    return table


def _read_plain(file):
    """VOTES columns of a CSV file as text."""
    rows = records(file)
    _, header, _ = next(rows)
    kept, notes = [], []
    n_rows = 0
    for line, fields, text in rows:
        n_rows += 1
        if fields is None:
            notes.append((line, "", "", "", "", "malformed_row", writable(text.rstrip("\r\n")[:80])))
        else:
            kept.append(tuple(map(short_name, fields)))
    if len(set(header)) != len(header):
        raise SchemaError(f"path: the columns of a table of votes must have different names, got {header}")
    columns = zip(*kept, strict=True) if kept else [()] * len(header)
    return QTable([np.array(values, dtype=str) for values in columns], names=header), notes, {"rows": n_rows}
