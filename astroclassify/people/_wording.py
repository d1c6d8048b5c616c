"""Names and texts of a workflow: what they may be, and how texts are compared."""

import re

from astroclassify.exceptions import SchemaError

__all__ = ["NAME", "check_workflow", "plain_text", "shown_text", "words_of"]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_WORD = re.compile(r"\w+")


def shown_text(text):
    """Text without Markdown pictures and emphasis; of pictures alone their names."""
    bare = _PICTURE.sub(" ", text)
    bare = bare if bare.strip() else _PICTURE.sub(r" \1 ", text)
    return " ".join(bare.replace("*", " ").split())


def plain_text(text):
    """Shown text in lower case, as answers are compared."""
    return shown_text(text).lower()


def words_of(text):
    """The words of a plain text, as questions are compared; none where it is no text."""
    return tuple(_WORD.findall(plain_text(text))) if isinstance(text, str) else ()


def check_workflow(workflow):
    """Raise SchemaError where names repeat, an answer leads nowhere or backwards, or something cannot be reached."""
    _check_names("questions", [question.name for question in workflow.questions])
    _check_names("outcomes", [outcome.name for outcome in workflow.outcomes], least=2)
    _check_names("questions and outcomes", [*workflow.question_names, *workflow.outcome_names])
    _check_codes(workflow)
    _check_choices(workflow)
    place = {question.name: number for number, question in enumerate(workflow.questions)}
    reached = {workflow.questions[0].name}
    for number, question in enumerate(workflow.questions):
        names = [answer.name for answer in question.answers]
        _check_names(f"answers of question {question.name!r}", names, least=2)
        for answer in question.answers:
            where = f"answer {answer.name!r} of question {question.name!r}"
            if not isinstance(answer.text, str):
                raise SchemaError(f"{where} must have a text, got {answer.text!r}")
            if bool(answer.next) == bool(answer.outcome):
                raise SchemaError(f"{where} must lead either to a question or to an outcome")
            if answer.next and place.get(answer.next, -1) <= number:
                raise SchemaError(f"{where} must lead to a later question, got {answer.next!r}")
            if answer.outcome and answer.outcome not in workflow.outcome_names:
                raise SchemaError(f"{where} must lead to one of {workflow.outcome_names}, got {answer.outcome!r}")
            reached.add(answer.next or answer.outcome)
    lost = [name for name in (*place, *workflow.outcome_names) if name not in reached]
    if lost:
        raise SchemaError(f"workflow {workflow.name!r}: no answer leads to {lost}")
    for outcome in workflow.outcomes:
        if not isinstance(outcome.classes, dict):
            got = repr(outcome.classes)
            raise SchemaError(f"classes of outcome {outcome.name!r} must be scheme -> class, got {got}")


def _check_codes(workflow):
    """Check that in an export each task means one question, and each text one of its answers."""
    for question in workflow.questions:
        if not isinstance(question.task, str):
            raise SchemaError(f"task of question {question.name!r} must be a text, got {question.task!r}")
        others = {
            name
            for each in workflow.questions
            if each is not question
            for name in (each.name, "" if each.choice and question.choice else each.task)
        } - {""}
        if {question.name, question.task} & others:
            raise SchemaError(f"name and task of question {question.name!r} must be those of no other question")
        for answer in question.answers:
            others = {plain_text(text) for each in question.answers if each is not answer
                      for text in (each.name, each.text) if isinstance(text, str)} - {""}  # fmt: skip
            if {plain_text(answer.name), plain_text(str(answer.text))} & others:
                raise SchemaError(
                    f"name and text of answer {answer.name!r} of question {question.name!r} must be those of no "
                    "other answer, capitals and pictures aside"
                )


def _check_choices(workflow):
    """Check that of a task with several choices each is a question of its own, with two answers."""
    chosen = {}
    for question in workflow.questions:
        if not isinstance(question.choice, str):
            raise SchemaError(f"choice of question {question.name!r} must be a text, got {question.choice!r}")
        if question.choice:
            text = plain_text(question.choice)
            if len(question.answers) != 2 or not question.task or text in chosen.setdefault(question.task, []):
                raise SchemaError(
                    f"question {question.name!r} about the choice {question.choice!r} must have a task, two answers "
                    "(ticked or not), and a choice that no other question of the task has"
                )
            chosen[question.task].append(text)


def _check_names(what, names, *, least=1):
    wrong = [name for name in names if not isinstance(name, str) or not NAME.fullmatch(name)]
    if wrong or len(names) < least or len(set(names)) != len(names):
        raise SchemaError(f"{what} must be at least {least} different names of letters, digits, _ and -, got {names}")
