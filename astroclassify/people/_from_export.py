"""The workflow of a Zooniverse project, from its export of workflows or from its classifications."""

import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import QTable

from astroclassify import tables
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import SchemaError

from ._annotations import NO_LABEL, choices_of, tasks_of
from ._export import fits_version, has_columns, only_workflow, writable
from ._records import open_text, records
from ._tasks import Choice, Task, workflow_of_tasks
from ._wording import plain_text, shown_text

__all__ = ["list_workflows", "workflow_from_export"]

log = logging.getLogger(__name__)

_WORKFLOWS, _CLASSIFICATIONS = ("workflow_id", "version", "tasks", "strings"), ("annotations", "subject_ids")
_LONGEST_LABEL = 60


def workflow_from_export(path, *, workflow_id=None, version=None, tasks=None):
    """
    Make the workflow of a project of one's own from what Zooniverse exports.

    Parameters
    ----------
    path : str or path-like
        The *workflow export* of a project (``...-workflows.csv``), which says all there is; or a *classification
        export*, packed with gzip or not, in which only the answers that somebody gave can be seen, and what came after
        each of them most often.
    workflow_id : str or int, optional
        The workflow, where the file has several.
    version : str, optional
        Its version, ``"12"`` or ``"12.7"``; by default the newest of a workflow export, and all of a classification
        export together.
    tasks : sequence of str, optional
        The tasks that are to be questions, such as ``["T0", "T1"]``; by default all that can be. An answer that leads
        to no other task of these ends in an outcome.

    Returns
    -------
    Workflow
        The workflow, to be given to `read_votes` and `volunteer_consensus`, and, with `Workflow.to_dict`, to be saved
        and edited: the outcomes do not yet stand for ``classes``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SchemaError
        If it is no such export; has several workflows and ``workflow_id`` is none of them; has no such version; or if
        its tasks hold no question, lead back to each other, or not to those that are wanted.

    Notes
    -----
    - A task of the kind *single* is a question. Every answer after which the work ends is an outcome, such as
      ``T0_yes``. Where ways meet again in a later question, the outcome tells the last answer only: see the columns
      ``answer_<question>`` of the consensus, or name in ``tasks`` those that decide.
    - A task of the kind *multiple*, in which several choices may be ticked, becomes one question per choice, ``yes``
      where it was ticked, ``no`` where it was not, as each may be true by itself. If it is the last one, the answer
      that leads into it is the outcome; of several that do, or none, the last choice.
    - A *survey* is a question whose answers are its choices; of two choices in one classification none counts
      (``several_answers``), and what is asked about a choice, such as how many there are, is not read.
    - The parts of a *combo* are asked one after the other. Drawings, texts, menus and others are passed over; votes on
      them are ``unknown_question`` in the report of `read_votes`.

    References
    ----------
    The columns and the JSON are those that Panoptes writes (https://github.com/zooniverse/panoptes,
    ``lib/formatter/csv``).

    Examples
    --------
    >>> from astroclassify.people import workflow_from_export
    >>> workflow = workflow_from_export("my-project-workflows.csv", workflow_id=8905)  # doctest: +SKIP
    >>> workflow.outcome_names  # doctest: +SKIP
    ('T1_yes', 'T1_no', 'T0_no')
    """
    path = Path(path)
    check_regular(path, error=SchemaError)
    if isinstance(tasks, str):
        raise TypeError(f"tasks must be a sequence of texts such as ['T0'], got {tasks!r}")
    workflow_id = None if workflow_id is None else str(workflow_id)
    version = None if version is None else str(version)
    with open_text(path) as file:
        header, rows = _header_and_rows(file)
        if has_columns(header, _WORKFLOWS):
            name, first, found = _declared(rows, workflow_id, version)
        elif has_columns(header, _CLASSIFICATIONS):
            name, first, found = _observed(rows, workflow_id, version)
        else:
            raise SchemaError(
                f"path: neither an export of workflows, which has {list(_WORKFLOWS)}, nor one of classifications, "
                f"which has {list(_CLASSIFICATIONS)}; got {str(header)[:200]}"
            )
    left_out = [f"{key} ({task.kind})" for key, task in found.items() if not task.is_question]
    if left_out:
        log.warning("%s: tasks that are no questions with two known answers: %s", path.name, ", ".join(left_out))
    return workflow_of_tasks(name, first, found, None if tasks is None else [str(task) for task in tasks])


def list_workflows(path):
    """
    List the workflows and versions of a classification export, and the tasks that were done in them.

    Parameters
    ----------
    path : str or path-like
        A classification export of Zooniverse, packed with gzip or not.

    Returns
    -------
    `~astropy.table.QTable`
        One row per workflow and version, in order of both: ``workflow_id``, ``workflow_name``, ``version``,
        ``n_classifications``, and ``tasks``, each with its kind and the beginning of its question.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SchemaError
        If it is no classification export.

    Examples
    --------
    >>> from astroclassify.people import list_workflows
    >>> list_workflows("the-hunt-classifications.csv")  # doctest: +SKIP
    """
    path = Path(path)
    check_regular(path, error=SchemaError)
    counts, tasks = Counter(), {}
    with open_text(path) as file:
        header, rows = _header_and_rows(file)
        if not has_columns(header, _CLASSIFICATIONS):
            raise SchemaError(
                f"path: not an export of classifications, which has {list(_CLASSIFICATIONS)}; got {header}"
            )
        for row in rows:
            key = _key(row, "workflow_name", "workflow_version")
            counts[key] += 1
            tasks.setdefault(key, _Observed()).add(row)
    keys = sorted(counts, key=lambda key: (key[0], _order(key[2])))
    table = QTable()
    for place, name in enumerate(("workflow_id", "workflow_name", "version")):
        table[name] = np.array([key[place] for key in keys], dtype=str)
    table["n_classifications"] = np.array([counts[key] for key in keys], dtype=np.int64)
    table["tasks"] = np.array([tasks[key].listed() for key in keys], dtype=str)
    table.meta = tables.provenance()
    return table


def _header_and_rows(file):
    """Names of the columns, and the records that are whole, as dicts; `read_votes` reports the others."""
    rows = records(file)
    header = next(rows, (1, None, None))[1] or []
    return header, (dict(zip(header, fields, strict=True)) for _, fields, _ in rows if fields is not None)


def _key(row, name, version):
    """Number, name and version of the workflow of a row, which may lack all of them."""
    return row.get("workflow_id", ""), writable(row.get(name, "")), row.get(version, "")


def _order(version):
    """Sort key of versions such as 9.12, which is before 10.1."""
    return [int(part) if part.isdecimal() else -1 for part in version.split(".")]


def _declared(rows, workflow_id, version):
    """Name, first task and tasks of the newest version that fits, from an export of workflows."""
    found = {}
    for row in rows:
        minor = row.get("minor_version", "")
        row["full"] = f"{row['version']}.{minor}" if minor else row["version"]
        found[_key(row, "display_name", "full")] = row
    wanted = only_workflow(found, workflow_id)
    fitting = [key for key in found if key[0] == wanted and (version is None or fits_version(key[2], {version}))]
    if not fitting:
        versions = sorted({key[2] for key in found if key[0] == wanted}, key=_order)
        raise SchemaError(f"version must be one of workflow {wanted!r}, {versions[-20:]}, got {version!r}")
    row = found[max(fitting, key=lambda key: _order(key[2]))]
    try:
        declared, strings = json.loads(row["tasks"]), json.loads(row["strings"])
        found = _tasks_of_json(declared, strings)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise SchemaError(
            f"path: the tasks of workflow {wanted!r} are not as Zooniverse writes them: {error!r}"
        ) from error
    return row.get("display_name", ""), row.get("first_task") or next(iter(found), None), found


def _tasks_of_json(declared, strings):
    """Tasks of the JSON of a workflow; ``strings`` are its texts."""
    found, steps = {}, {}
    for key, task in declared.items():
        kind, after = task.get("type", ""), task.get("next") or None
        question = task.get("question") or task.get("instruction") or ""
        text, choices = strings.get(question, question), ()
        if kind in ("single", "multiple"):
            choices = tuple(
                Choice(strings.get(answer["label"], answer["label"]) or "", answer.get("next") or None)
                for answer in task.get("answers", ())
            )
        elif kind == "survey":
            names = task.get("choicesOrder") or list(task.get("choices", {}))
            labels = {name: task["choices"][name].get("label", name) for name in names}
            choices = tuple(Choice(strings.get(labels[name], name), code=name) for name in names)
        elif kind == "combo":
            parts = [part for part in task.get("tasks", ()) if part in declared]
            steps |= dict(zip(parts, [*parts[1:], after], strict=True))
            after = parts[0] if parts else after
        found[key] = Task(kind, text or "", choices, after)
    for key, after in steps.items():  # whatever a part of a combo says of what comes next
        choices = tuple(replace(choice, next=after) for choice in found[key].choices)
        found[key] = replace(found[key], choices=choices, next=after)
    return found


def _observed(rows, workflow_id, version):
    """Name, first task and tasks, as far as they can be seen in classifications."""
    found, observed, names = Counter(), _Observed(), {}
    for row in rows:
        key = _key(row, "workflow_name", "workflow_version")
        if version is not None and not fits_version(key[2], {version}):
            continue
        found[key] += 1
        names[key[0]] = key[1]
        if workflow_id is None or key[0] == workflow_id:
            observed.add(row)
    wanted = only_workflow(found, workflow_id)
    if not found:
        raise SchemaError(f"path: there are no classifications{f' of version {version!r}' if version else ''} in it")
    return names[wanted], observed.first(), observed.tasks()


class _Observed:
    """The tasks of classifications, as far as the answers show them."""

    def __init__(self):
        self._firsts, self._seen = Counter(), {}

    def add(self, row):
        """Note the tasks of a classification."""
        done = tasks_of(row["annotations"]) or []
        keys = ["" if task.get("task") is None else str(task["task"]) for task in done]
        self._firsts.update(keys[:1])
        for task, key, after in zip(done, keys, [*keys, None][1:], strict=True):
            self._seen.setdefault(key, _ObservedTask()).add(task, after, row.get("workflow_version", ""))

    def first(self):
        """The task that classifications begin with most often."""
        return next((key for key, _ in self._firsts.most_common(1)), None)

    def tasks(self):
        """Task of each name."""
        return {key: seen.task() for key, seen in self._seen.items()}

    def listed(self):
        """Names, kinds and questions of the tasks, for people."""
        found = ((key, task, shown_text(task.text)[:_LONGEST_LABEL]) for key, task in self.tasks().items())
        return "; ".join(writable(f"{key} {task.kind}{text and f': {text}'}".strip()) for key, task, text in found)


class _ObservedTask:
    """One task: wordings by version, kinds of values, answers and what came after them, each with its number."""

    def __init__(self):
        self._labels, self._kinds, self._after, self._choices = {}, Counter(), Counter(), {}

    def add(self, task, after, version):
        """Note that it was done once."""
        label, value = task.get("task_label"), task.get("value")
        if isinstance(label, str):
            self._labels[version] = label
        self._kinds[_kind_of(value)] += 1
        self._after[after] += 1
        is_survey = _kind_of(value) == "survey"
        for text in choices_of(value) or ():
            if isinstance(text, str) and text != NO_LABEL:
                choice = self._choices.setdefault(plain_text(text), (text, is_survey, Counter()))
                choice[-1][after] += 1

    def task(self):
        """As a task whose choices are the answers seen, in order of their first appearance."""
        named = [kind for kind, _ in self._kinds.most_common() if kind]
        label = self._labels[max(self._labels, key=_order)] if self._labels else ""
        choices = tuple(
            Choice(text, after.most_common(1)[0][0], text if is_survey else "")
            for text, is_survey, after in self._choices.values()
        )
        return Task(named[0] if named else "empty", label, choices, self._after.most_common(1)[0][0])


def _kind_of(value):
    """Kind of the task that has such a value, as Zooniverse calls it; empty where it does not show."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict):
        return "survey" if "choice" in first else "drawing" if "tool" in first else "other"
    if isinstance(first, str):
        return "single" if first is value else "multiple"
    return "" if first is None or first == [] else "other"
