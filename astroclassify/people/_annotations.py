"""The answers of one classification from the JSON of an export, and whether the questions were those of a workflow."""

import json

from astroclassify.exceptions import SchemaError

from ._wording import plain_text, words_of

__all__ = ["Asked", "choices_of", "parse_annotation", "tasks_of"]

_LONGEST_NAME = 64
# What Zooniverse writes where it cannot find the text of an answer any more.
NO_LABEL = "unknown answer label"
# Share of the words of two wordings that both have, from which one may be the other after a change.
_ALIKE = 0.5


def tasks_of(text):
    """Tasks of a classification, those of combined tasks one by one; None where the text is no JSON list of tasks."""
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        return None
    flat = []
    for task in tasks:
        value = task.get("value")
        inner = isinstance(value, list) and value and all(isinstance(each, dict) and "task" in each for each in value)
        flat += value if inner else [task]
    return flat


def choices_of(value):
    """What a task's value names: a list of texts or numbers, of a survey its choices; None without an answer."""
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    return [each["choice"] if isinstance(each, dict) and "choice" in each else each for each in values]


def parse_annotation(text, workflow, asked, line):
    """
    Answers of a classification (numbers, question -> answer) and their problems (problem, question, text). What was
    asked is noted in ``asked`` with the line.
    """
    tasks = tasks_of(text)
    if tasks is None:
        return {}, [("malformed_json", "", text)]
    answers, problems = {}, []
    for task in tasks:
        number, label = workflow.task_number(task.get("task")), task.get("task_label")
        if number is None:
            name = str(task.get("task"))[:_LONGEST_NAME]
            asked.other_task(name, label)
            problems.append(("unknown_question", name, str(task.get("value"))))
            continue
        values = choices_of(task.get("value"))
        add = _add_choices if workflow.questions[number].choice else _add_answer
        known = add(number, values, workflow, answers, problems)
        asked.add(number, label, line, known, values)
    if not answers and not problems:
        problems.append(("no_answer", "", text))
    return answers, problems


def _add_answer(number, values, workflow, answers, problems):
    """Note the answer to a question; whether it is one of the workflow's, None without an answer."""
    question = workflow.questions[number]
    if not values:
        problems.append(("no_answer", question.name, ""))
        return None
    if len(values) > 1:
        problems.append(("several_answers", question.name, str(values)))
        return None
    code = _code(values[0], workflow.answer_codes[number])
    if code is None:
        problems.append(("unknown_answer", question.name, str(values[0])))
        return False
    _answer(number, code, workflow, answers, problems)
    return True


def _add_choices(number, values, workflow, answers, problems):
    """Note for each choice of a multiple-choice task whether it was ticked; else as `_add_answer`."""
    question = workflow.questions[number]
    if values is None:
        problems.append(("no_answer", question.name, ""))
        return None
    numbers = workflow.choice_codes[question.task]
    ticked = [_code(value, numbers) for value in values]
    problems += [
        ("unknown_answer", question.name, str(value))
        for value, each in zip(values, ticked, strict=True)
        if each is None
    ]
    if not values or any(each is not None for each in ticked):
        for each in dict.fromkeys(numbers.values()):
            _answer(each, 0 if each in ticked else 1, workflow, answers, problems)
    return any(each is not None for each in ticked) if values else None


def _answer(number, code, workflow, answers, problems):
    if number in answers:  # the volunteer went back: the later answer stands
        question = workflow.questions[number]
        problems.append(("duplicate", question.name, question.answers[answers[number]].name))
    answers[number] = code


def _code(value, codes):
    """Number that a value, a text or in old exports a number, has among the codes, or None."""
    if isinstance(value, str):
        return codes.get(plain_text(value))
    # True equals 1 as a key.
    return codes.get(value) if isinstance(value, int) and not isinstance(value, bool) else None


class Asked:
    """The questions that an export asks and the answers given, to be compared with those of a workflow."""

    def __init__(self, workflow):
        self._workflow = workflow
        self._labels, self._known, self._given, self._others = {}, set(), {}, {}

    def add(self, number, label, line, known, values):
        """Note the wording of a question, and answers of which some or (False) none is one of the workflow's."""
        words = words_of(label)
        if words:
            self._labels.setdefault(number, {}).setdefault(words, (line, label))
        if known:
            self._known.add(number)
        elif known is False:
            self._given.setdefault(number, values)

    def other_task(self, name, label):
        """Note a task that is not one of the workflow."""
        self._others.setdefault(name, label)

    def check(self):
        """
        Other wordings of the questions, (line, name of the question, wording).

        SchemaError, which names the first question that differs, if the export is one of other questions. A question is
        the same where letters and digits of its text are. It may also have been reworded, if the export has it in the
        workflow's words too and half of the words are the same; otherwise nobody can tell it from another question with
        the same answers, which are often but yes and no.
        """
        asked = self._labels.keys() | self._known | self._given.keys()
        if self._others and not asked:
            first = self._workflow.questions[0]
            others = [f"{name} {str(label or '')[:80]!r}" for name, label in list(self._others.items())[:5]]
            raise SchemaError(_refusal(first, f"its task {first.task or first.name!r} is never asked, but {others}"))
        reworded = []
        for number, question in enumerate(self._workflow.questions):
            own, labels = words_of(question.text), self._labels.get(number, {})
            for words, (line, label) in labels.items() if own else ():
                if words == own:
                    continue
                if own not in labels or len({*words} & {*own}) < _ALIKE * len({*words} | {*own}):
                    raise SchemaError(_refusal(question, f"line {line} asks {label[:200]!r}, not {question.text!r}"))
                reworded.append((line, question.name, label))
            if number in self._given and number not in self._known:
                ours = [question.choice] if question.choice else [answer.text for answer in question.answers]
                given = f"answers such as {self._given[number][:3]} are none of its own, such as {ours[:5]}"
                raise SchemaError(_refusal(question, given))
        return reworded


def _refusal(question, why):
    return (
        f"path: the export asks other questions than the workflow: question {question.name!r}: {why}. Give the "
        "versions or the workflow_id that ask it, or the workflow of this project (workflow_from_export)"
    )
