"""Workflows: the questions that voters are asked, as a decision tree that ends in outcomes."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from astroclassify._regular_files import check_regular
from astroclassify.data import FOLDER as DATA
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import ClassScheme, get_scheme

from ._wording import NAME, check_workflow, plain_text

__all__ = ["Answer", "Outcome", "Question", "Workflow", "load_workflow"]

_LARGEST = 1_000_000  # bytes of a workflow file


@dataclass(frozen=True)
class Answer:
    """An answer: its name in tables, the text that voters see, and the question or the outcome it leads to."""

    name: str
    text: str
    next: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class Question:
    """
    A question: its name in tables, the text, its answers, and the name of its task in Zooniverse exports.

    Of a task in which several choices may be ticked each ``choice`` is a question: the first of its two answers is that
    it was ticked, the second that it was not.
    """

    name: str
    text: str
    answers: tuple
    task: str = ""
    choice: str = ""


@dataclass(frozen=True)
class Outcome:
    """An end of the tree, and the class it stands for: name of a class scheme -> class."""

    name: str
    text: str
    classes: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Workflow:
    """
    Questions that form a decision tree; the first one is asked first.

    Parameters
    ----------
    name : str
        Name of the workflow.
    questions : tuple of Question
        Every question comes after those that lead to it.
    outcomes : tuple of Outcome
        Where the tree ends, in the order of the columns of a consensus.
    version : int
        Raised when the meaning of a question changes.

    Raises
    ------
    SchemaError
        If names repeat or are not allowed, an answer leads nowhere or backwards, or something cannot be reached.

    Examples
    --------
    >>> from astroclassify.people import load_workflow
    >>> workflow = load_workflow("hunt")
    >>> [question.name for question in workflow.questions]
    ['emission', 'border', 'shape', 'optical', 'galaxy', 'members']
    >>> workflow.path_to("point_source")
    {'emission': 'yes', 'border': 'no', 'shape': 'point'}
    """

    name: str
    questions: tuple
    outcomes: tuple
    version: int = 1

    def __post_init__(self):
        check_workflow(self)

    @cached_property
    def outcome_names(self):
        """Names of the outcomes, in order."""
        return tuple(outcome.name for outcome in self.outcomes)

    @cached_property
    def question_names(self):
        """Names of the questions, in order."""
        return tuple(question.name for question in self.questions)

    def path_to(self, outcome):
        """
        Answers that lead to an outcome.

        Parameters
        ----------
        outcome : str
            Name of an outcome.

        Returns
        -------
        dict
            Name of question -> name of answer, from the first question on; of several paths the first.

        Raises
        ------
        SchemaError
            If there is no such outcome.
        """
        if outcome not in self.outcome_names:
            raise SchemaError(f"outcome must be one of {self.outcome_names}, got {outcome!r}")
        wanted, path = str(outcome), {}
        for question in reversed(self.questions):
            for answer in question.answers:
                if wanted == (answer.outcome or answer.next):
                    path[question.name], wanted = answer.name, question.name
                    break
        return dict(reversed(path.items()))

    def classes(self, scheme):
        """
        Class of each outcome.

        Parameters
        ----------
        scheme : ClassScheme or str
            A class scheme.

        Returns
        -------
        tuple of str
            One class per outcome; an outcome that is a class itself stands for itself.

        Raises
        ------
        SchemaError
            If an outcome stands for no class of the scheme.
        """
        scheme = get_scheme(scheme)
        classes = []
        for outcome in self.outcomes:
            label = outcome.classes.get(scheme.name, outcome.name)
            if label not in scheme.classes:
                raise SchemaError(f"outcome {outcome.name!r} of {self.name!r} has no class in scheme {scheme.name!r}")
            classes.append(label)
        return tuple(classes)

    @classmethod
    def from_scheme(cls, scheme):
        """
        Workflow of the one question ``class``, whose answers are the classes of a scheme: what experts are asked.

        Parameters
        ----------
        scheme : ClassScheme or str
            A class scheme.

        Returns
        -------
        Workflow
            The workflow.
        """
        scheme = get_scheme(scheme)
        pairs = list(zip(scheme.classes, scheme.descriptions, strict=True))
        answers = tuple(Answer(label, text, outcome=label) for label, text in pairs)
        binary = {label: "cluster" if label in ("low_z", "high_z") else "other" for label in scheme.classes}
        is_candidate = scheme.name == "candidate"
        outcomes = tuple(Outcome(name, text, {"cluster": binary[name]} if is_candidate else {}) for name, text in pairs)
        return cls(scheme.name, (Question("class", "Which class is it?", answers, "T0"),), outcomes, scheme.version)

    @classmethod
    def from_dict(cls, mapping):
        """
        Build a workflow from the content of its file.

        Parameters
        ----------
        mapping : dict
            As in ``workflow_hunt.json``: ``name``, ``version``, ``questions``, ``outcomes``.

        Returns
        -------
        Workflow
            The workflow.

        Raises
        ------
        SchemaError
            If a key is missing or unknown, or the questions are not a tree.
        """
        try:
            questions = tuple(
                Question(**{**question, "answers": tuple(Answer(**answer) for answer in question["answers"])})
                for question in mapping["questions"]
            )
            outcomes = tuple(Outcome(**outcome) for outcome in mapping["outcomes"])
            return cls(mapping["name"], questions, outcomes, mapping.get("version", 1))
        except (AttributeError, KeyError, TypeError) as error:
            raise SchemaError(f"not a workflow: {type(error).__name__}: {error}") from error

    def to_dict(self):
        """
        What `from_dict` takes, and a workflow file holds as JSON.

        Returns
        -------
        dict
            ``name``, ``version``, ``questions`` and ``outcomes``, without what is empty.

        Examples
        --------
        >>> from astroclassify.people import load_workflow
        >>> load_workflow("cluster").to_dict()["outcomes"][1]["name"]
        'other'
        """
        content = json.loads(json.dumps(asdict(self)))
        answers = (answer for question in content["questions"] for answer in question["answers"])
        for part in (*content["questions"], *content["outcomes"], *answers):
            for key in [key for key, value in part.items() if not value and key != "text"]:
                del part[key]
        return content

    @cached_property
    def answer_names(self):
        """Names of the answers as an array (n_questions, largest number of answers), filled with empty texts."""
        names = [[answer.name for answer in question.answers] for question in self.questions]
        widest = max(map(len, names))
        return np.array([row + [""] * (widest - len(row)) for row in names])

    @cached_property
    def paths(self):
        """
        Number of each outcome's answer to each question (n_outcomes, n_questions), -1 where it is not asked, or where
        several answers lead to the outcome.
        """
        paths = np.full((len(self.outcomes), len(self.questions)), -1)
        for row, outcome in zip(paths, self.outcome_names, strict=True):
            reached = {outcome}
            for number, question in reversed([*enumerate(self.questions)]):
                ways = [place for place, answer in enumerate(question.answers)
                        if (answer.outcome or answer.next) in reached]  # fmt: skip
                if ways:
                    reached.add(question.name)
                    row[number] = ways[0] if len(ways) == 1 else -1
        return paths

    @cached_property
    def answer_codes(self):
        """One dict per question: text or name of an answer (``plain_text``), or its number in old exports -> number."""
        return [
            {code: number for number, answer in enumerate(question.answers)
             for code in (plain_text(answer.text), plain_text(answer.name), number)}
            for question in self.questions
        ]  # fmt: skip

    @cached_property
    def task_codes(self):
        """Names of a question in a table of votes -> its number."""
        questions = enumerate(self.questions)
        return {
            name: number
            for number, question in questions
            for name in (question.name, "" if question.choice else question.task)
            if name
        }

    @cached_property
    def choice_codes(self):
        """Task -> text of a choice (``plain_text``), or its number in old exports -> number of the question."""
        codes = {}
        for number, question in enumerate(self.questions):
            if question.choice:
                known = codes.setdefault(question.task, {})
                place = len(set(known.values()))
                known[plain_text(question.choice)] = known[place] = number
        return codes

    def task_number(self, task):
        """Number of the question that a task of an export asks, of several choices the first; None if there is none."""
        if task is None:  # which does not matter where there is one question
            return 0 if len(self.questions) == 1 else None
        task = str(task)
        choices = self.choice_codes.get(task)
        return next(iter(choices.values())) if choices else self.task_codes.get(task)


def load_workflow(workflow="hunt"):
    """
    Load a workflow: a packaged one, one of your own from a JSON file, or the single question of a class scheme.

    Parameters
    ----------
    workflow : str, path-like, ClassScheme or Workflow, optional
        ``"hunt"``, the six questions of The Hunt for Galaxy Clusters; the name of a class scheme, or a scheme; a path
        that ends in ``.json``; a workflow is returned unchanged.

    Returns
    -------
    Workflow
        The workflow.

    Raises
    ------
    SchemaError
        If there is no such workflow, or the file does not contain one.
    FileNotFoundError
        If the file is missing.

    Notes
    -----
    The seven outcomes of ``"hunt"`` are those of Kosiba et al. (2020). The wording of the paper's six questions could
    not be read; ours are six questions that end in these outcomes. An extended source without optical image counts as
    ``other`` in the class schemes. For another class, or for the export of a project with its own questions, change a
    copy of the file: ``classes``, the texts, and the names of the tasks (``T0`` ...).

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, section on The Hunt for Galaxy Clusters.

    Examples
    --------
    >>> from astroclassify.people import load_workflow
    >>> load_workflow("hunt").classes("candidate")[-3:]
    ('galaxy', 'low_z', 'high_z')
    >>> load_workflow("candidate").question_names
    ('class',)
    """
    if isinstance(workflow, Workflow):
        return workflow
    if isinstance(workflow, ClassScheme):
        return Workflow.from_scheme(workflow)
    if not isinstance(workflow, (str, Path)):
        raise SchemaError(f"workflow must be a name, a file or a Workflow, got {type(workflow).__name__}")
    path = Path(workflow)
    if path.suffix != ".json":
        path = DATA / f"workflow_{workflow}.json"
        if not NAME.fullmatch(str(workflow)) or not path.is_file():
            return _scheme_workflow(workflow)
    if check_regular(path, "workflow", error=SchemaError).st_size > _LARGEST:
        raise SchemaError(f"workflow: {str(path)!r} is larger than {_LARGEST} bytes")
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SchemaError(f"workflow: {str(path)!r} is not JSON: {error}") from error
    return Workflow.from_dict(mapping)


def _scheme_workflow(name):
    try:
        return Workflow.from_scheme(str(name))
    except SchemaError:
        packaged = sorted(path.stem.removeprefix("workflow_") for path in DATA.glob("workflow_*.json"))
        raise SchemaError(
            f"workflow must be one of {packaged}, a class scheme or a file that ends in .json, got {str(name)!r}"
        ) from None
