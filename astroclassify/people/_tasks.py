"""From the tasks of a Zooniverse project to a workflow: questions, answers, and where each answer leads."""

import re
from collections import defaultdict
from dataclasses import dataclass

from astroclassify.exceptions import SchemaError

from ._wording import NAME, plain_text, shown_text
from ._workflow import Answer, Outcome, Question, Workflow

__all__ = ["Choice", "Task", "slug", "workflow_of_tasks"]

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
_LONGEST_SLUG = 24
_TICKED = ("yes", "no")
# Choices that a question needs, for each kind of task that can be one.
_FEWEST = {"single": 2, "survey": 2, "multiple": 1}


@dataclass(frozen=True)
class Choice:
    """A choice of a task: its text, the task it leads to (None: the end), and in a survey its name in exports."""

    text: str
    next: str | None = None
    code: str = ""


@dataclass(frozen=True)
class Task:
    """A task: its kind in Zooniverse, the question, the choices, and the next task where no choice says so."""

    kind: str
    text: str = ""
    choices: tuple = ()
    next: str | None = None

    @property
    def is_question(self):
        """Whether its answers can be votes."""
        return len(self.choices) >= _FEWEST[self.kind] if self.kind in _FEWEST else False

    @property
    def targets(self):
        """Tasks that may come after it, each once; None is the end."""
        after = [choice.next for choice in self.choices] if self.kind == "single" else []
        return tuple(dict.fromkeys(after or [self.next]))


def workflow_of_tasks(name, first, tasks, wanted=None):
    """
    Workflow of tasks, task -> Task; ``wanted`` are those to keep, by default all that are questions.

    SchemaError if there is no question, one wanted is none, or questions lead back to each other.
    """
    listed = ", ".join(f"{key or '(no name)'} {task.kind}" for key, task in tasks.items())
    kept = {key for key, task in tasks.items() if task.is_question}
    if wanted is not None:
        wrong = [key for key in wanted if key not in kept]
        if wrong or not wanted:
            raise SchemaError(f"tasks must be questions with two known answers, got {wrong}; there are: {listed}")
        kept = set(wanted)
    route = _Route(tasks, kept)
    start = route.resolve(first)
    order = [] if start is None else route.order(start)
    lost = [key for key in wanted or () if key not in order]
    if lost or not order:
        problem = f"{lost} cannot be reached" if lost else "there is no question with two known answers"
        raise SchemaError(f"tasks: {problem} from the first task, {first!r}; there are: {listed}")
    return _Builder(tasks, route, order).workflow(name)


class _Route:
    """Ways from question to question, past all other tasks."""

    def __init__(self, tasks, kept):
        self._tasks, self._kept = tasks, kept

    def resolve(self, key, passed=()):
        """The question that a task is or leads to, None at the end."""
        if key is None or key in self._kept:
            return key
        if key not in self._tasks or key in passed:
            return None
        found = {self.resolve(after, (*passed, key)) for after in self._tasks[key].targets} - {None}
        if len(found) > 1:
            raise SchemaError(f"tasks: task {key!r} leads to {sorted(found)}, so it must be one of the tasks, too")
        return next(iter(found), None)

    def order(self, start):
        """Questions from the first on, each after those that lead to it."""
        done, open_tasks = [], []

        def visit(key):
            if key in open_tasks:
                raise SchemaError(
                    f"tasks: {open_tasks[open_tasks.index(key) :]} lead back to {key!r}; name fewer tasks"
                )
            if key is None or key in done:
                return
            open_tasks.append(key)
            for after in reversed(self._tasks[key].targets):
                visit(self.resolve(after))
            open_tasks.pop()
            done.append(key)

        visit(start)
        return done[::-1]


class _Builder:
    """Questions and outcomes of a workflow, with names that are different and allowed."""

    def __init__(self, tasks, route, order):
        self._tasks, self._route, self._order = tasks, route, order
        self._taken, self._questions, self._outcomes = set(), [], {}
        # For each task the answers that lead into it: question, answer -> text.
        self._entered = defaultdict(dict)

    def workflow(self, name):
        """The workflow."""
        self._names = {key: self._names_of(key) for key in self._order}
        for key in self._order:
            (self._add_choices if self._tasks[key].kind == "multiple" else self._add_question)(key)
        outcomes = tuple(Outcome(*pair) for pair in self._outcomes.items())
        return Workflow(slug(name, "workflow"), tuple(self._questions), outcomes)

    def _names_of(self, key):
        """Names of the questions of a task."""
        name = key if NAME.fullmatch(key) else slug(key, "question")
        task = self._tasks[key]
        if task.kind != "multiple":
            return [_different(name, self._taken)]
        return [_different(f"{name}_{slug(choice.text, 'choice')}", self._taken) for choice in task.choices]

    def _add_question(self, key):
        task, (name,) = self._tasks[key], self._names[key]
        answers, taken = [], set()
        for choice in task.choices:
            answer = _different(slug(choice.code or choice.text, "answer"), taken)
            text = shown_text(choice.text)
            if choice.code and answer != plain_text(choice.code):
                text = choice.code  # the answer must be known by it
            after = self._route.resolve(choice.next if task.kind == "single" else task.next)
            if after is None:
                answers.append(Answer(answer, text, outcome=self._end(name, answer, text)))
            else:
                self._entered[after][name, answer] = text
                answers.append(Answer(answer, text, next=self._names[after][0]))
        self._questions.append(Question(name, shown_text(task.text), tuple(answers), key))

    def _add_choices(self, key):
        """Each choice of a task with several becomes a question, ticked or not, which leads to the next one."""
        task, names = self._tasks[key], self._names[key]
        after, entered = self._route.resolve(task.next), self._entered[key]
        for place, (name, choice) in enumerate(zip(names, task.choices, strict=True)):
            following = names[place + 1] if place + 1 < len(names) else after and self._names[after][0]
            if following is not None:
                leads = [{"next": following}] * 2
            elif len(entered) == 1:  # what was answered before decides
                ((before, text),) = entered.items()
                leads = [{"outcome": self._end(*before, text)}] * 2
            else:
                leads = [{"outcome": self._end(name, end, f"{shown_text(choice.text)}: {end}")} for end in _TICKED]
            answers = tuple(Answer(end, end, **to) for end, to in zip(_TICKED, leads, strict=True))
            self._questions.append(Question(name, shown_text(task.text), answers, key, shown_text(choice.text)))
        if after is not None:
            self._entered[after].update(entered)

    def _end(self, question, answer, text):
        """Name of the outcome of an answer."""
        outcome = _different(f"{question}_{answer}"[:64], self._taken)
        self._outcomes[outcome] = text
        return outcome


def slug(text, fallback):
    """A name made of the words of a text; the fallback before one that does not begin with a letter."""
    words = _NOT_A_WORD.sub("_", plain_text(text)).strip("_")[:_LONGEST_SLUG].strip("_")
    return words if words[:1].isalpha() else f"{fallback}_{words}".strip("_")


def _different(name, taken):
    """The name, with a number where it is taken; it is then."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name[:60]}_{number}", number + 1
    taken.add(free)
    return free
