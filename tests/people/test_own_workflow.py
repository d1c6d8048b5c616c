"""Workflows of other projects: made from Zooniverse's exports, compared with what an export asks, read, counted."""

import csv
import gzip
import json

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import EmptyResultWarning, SchemaError
from astroclassify.people import (
    Workflow,
    check_votes,
    expert_decisions,
    known_labels,
    list_workflows,
    load_workflow,
    read_votes,
    volunteer_consensus,
    workflow_from_export,
)

HEADER = (
    "classification_id,user_name,user_id,user_ip,workflow_id,workflow_name,workflow_version,created_at,gold_standard,"
    "expert,metadata,annotations,subject_data,subject_ids"
).split(",")
# The columns that Panoptes writes (lib/formatter/csv/workflow.rb).
WORKFLOWS = (
    "workflow_id,display_name,version,minor_version,active,classifications_count,pairwise,grouped,prioritized,"
    "primary_language,first_task,tutorial_subject_id,retired_set_member_subjects_count,tasks,retirement,aggregation,"
    "strings"
).split(",")

STRINGS = {
    "T0.question": "**Is there** a cluster?", "T0.answers.0.label": "![y.png](https://x.org/y.png) Yes",
    "T0.answers.1.label": "No", "T0.answers.2.label": "Not sure", "T1.question": "What else do you see?",
    "T1.answers.0.label": "An arc", "T1.answers.1.label": "A jet", "T1.answers.2.label": "A second cluster",
    "T2.instruction": "Draw it", "T3.question": "How sure are you?", "T3.answers.0.label": "Sure",
    "T3.answers.1.label": "Guessed",
}  # fmt: skip


def labels(task, n, **after):
    return [{"label": f"{task}.answers.{k}.label", **({"next": after[f"a{k}"]} if f"a{k}" in after else {})}
            for k in range(n)]  # fmt: skip


TASKS = {
    "T0": {"type": "single", "question": "T0.question", "answers": labels("T0", 3, a0="T2", a2="T3")},
    "T1": {"type": "multiple", "question": "T1.question", "answers": labels("T1", 3)},
    "T2": {"type": "drawing", "instruction": "T2.instruction", "tools": [], "next": "T1"},
    "T3": {"type": "single", "question": "T3.question", "answers": labels("T3", 2)},
    "T9": {"type": "single", "question": "T9.question", "answers": labels("T3", 2)},  # nothing leads there
}


def write_csv(path, header, rows):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *([row.get(name, "") for name in header] for row in rows)])
    return path


def workflows_csv(path, *rows, tasks=TASKS, strings=STRINGS):
    """A workflow export: one row per version."""
    plain = {"workflow_id": "7", "display_name": "Clusters!", "version": "12", "minor_version": "7"}
    plain |= {"first_task": "T0", "tasks": json.dumps(tasks), "strings": json.dumps(strings)}
    return write_csv(path, WORKFLOWS, [{**plain, **row} for row in rows or ({},)])


def classification(number, *tasks, user="ann", subject="1", **changes):
    """A classification of tasks (name, question, value) of an export."""
    done = [{"task": name, "task_label": label, "value": value} for name, label, value in tasks]
    row = {"classification_id": str(number), "user_name": user, "workflow_id": "7", "workflow_name": "Clusters!"}
    row |= {"workflow_version": "12.7", "created_at": f"2024-02-23 16:{number % 60:02d}:42 UTC", "subject_ids": subject}
    row |= {"annotations": json.dumps(done), "subject_data": json.dumps({subject: {"source_id": f"src-{subject}"}})}
    return {**row, **changes}


def t0(value, label="Is there a cluster?"):
    return "T0", label, value


def t1(*values):
    return "T1", "What else do you see?", list(values)


def export(path, *rows):
    return write_csv(path, HEADER, rows)


@pytest.fixture
def own(tmp_path):
    return workflow_from_export(workflows_csv(tmp_path / "workflows.csv"))


def leads(workflow):
    return {question.name: {answer.name: answer.next or answer.outcome for answer in question.answers}
            for question in workflow.questions}  # fmt: skip


def test_questions_answers_and_next_steps(own):
    assert own.name == "clusters" and own.questions[0].text == "Is there a cluster?"
    assert leads(own) == {
        "T0": {"yes": "T1_an_arc", "no": "T0_no", "not_sure": "T3"},
        "T1_an_arc": {"yes": "T1_a_jet", "no": "T1_a_jet"},
        "T1_a_jet": {"yes": "T1_a_second_cluster", "no": "T1_a_second_cluster"},
        "T1_a_second_cluster": {"yes": "T0_yes", "no": "T0_yes"},
        "T3": {"sure": "T3_sure", "guessed": "T3_guessed"},
    }
    assert set(own.outcome_names) == {"T0_yes", "T0_no", "T3_sure", "T3_guessed"}
    choices = {question.name: (question.task, question.choice) for question in own.questions}
    assert choices["T1_a_jet"] == ("T1", "A jet") and choices["T0"] == ("T0", "")


def test_it_can_be_saved_edited_and_loaded(own, tmp_path):
    mapping = own.to_dict()
    for outcome in mapping["outcomes"]:
        outcome["classes"] = {"cluster": "cluster" if outcome["name"] == "T0_yes" else "other"}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    again = load_workflow(path)
    assert again.questions == own.questions and again.classes("cluster").count("cluster") == 1
    assert Workflow.from_dict(load_workflow("hunt").to_dict()) == load_workflow("hunt")


def test_votes_of_each_kind_of_task(own, tmp_path):
    rows = [
        classification(1, t0("Yes"), ("T2", "Draw it", [{"tool": 0, "x": 1.0}]), t1("An arc", "A jet")),
        classification(2, t0("![y.png](https://x.org/other.png) yes"), t1(), user="bob"),
        classification(3, t0("Not sure"), ("T3", "How sure are you?", "Guessed"), user="cy"),
        classification(4, t0(None), user="dee"),
        classification(5, t0("Yes"), ("T1", "What else do you see?", None), user="eve"),
        classification(6, t0("Yes"), t1("A comet"), user="fay"),
        classification(7, t0(["Yes", "No"]), user="gus"),
    ]
    votes, report = read_votes(export(tmp_path / "e.csv", *rows), workflow=own)
    said = {}
    for vote in votes:
        said.setdefault(str(vote["voter_id"]), {})[str(vote["question"])] = str(vote["answer"])
    ticked = {"T1_an_arc": "yes", "T1_a_jet": "yes", "T1_a_second_cluster": "no"}
    assert said["ann"] == {"T0": "yes", **ticked}
    assert said["bob"] == {"T0": "yes", **dict.fromkeys(ticked, "no")}
    assert said["cy"] == {"T0": "not_sure", "T3": "guessed"} and said["eve"] == said["fay"] == {"T0": "yes"}
    problems = list(zip(report["problem"].tolist(), report["voter_id"].tolist(), strict=True))
    assert problems == [
        ("unknown_question", "ann"), ("no_answer", "dee"), ("no_answer", "eve"), ("unknown_answer", "fay"),
        ("several_answers", "gus"),
    ]  # fmt: skip
    row = volunteer_consensus(votes, workflow=own, method="majority")[0]
    assert (row["n_votes"], row["n_complete"], row["outcome"]) == (5, 5, "T0_yes")  # a tie on a choice stops no way
    assert (row["n_T1_an_arc"], row["answer_T1_an_arc"]) == (2, "")
    assert (row["answer_T1_a_second_cluster"], row["fraction_T1_a_second_cluster"]) == ("no", 1)


def test_the_parts_of_a_combo_and_the_choices_of_a_survey(tmp_path):
    tasks = {
        "C": {"type": "combo", "tasks": ["A", "B"], "next": "S"},
        "A": {"type": "single", "question": "A", "answers": [{"label": "1", "next": "X"}, {"label": "2"}]},
        "B": {"type": "single", "question": "B", "answers": [{"label": "+"}, {"label": "-"}]},
        "S": {"type": "survey", "choicesOrder": ["LN", "BFFL"],
              "choices": {"LN": {"label": "S.LN"}, "BFFL": {"label": "S.BFFL"}}},
    }  # fmt: skip
    path = workflows_csv(tmp_path / "w.csv", {"first_task": "C"}, tasks=tasks, strings={"S.LN": "Lion"})
    workflow = workflow_from_export(path)
    assert leads(workflow) == {
        "A": {"answer_1": "B", "answer_2": "B"},
        "B": {"answer": "S", "answer_2": "S"},
        "S": {"ln": "S_ln", "bffl": "S_bffl"},
    }
    done = [{"task": "C", "value": [{"task": "A", "value": "1"}, {"task": "B", "value": "-"}]},
            {"task": "S", "value": [{"choice": "BFFL", "answers": {"HOWMANY": "2"}, "filters": {}}]}]  # fmt: skip
    two = [{"task": "S", "value": [{"choice": "LN"}, {"choice": "BFFL"}]}]
    rows = [classification(1, annotations=json.dumps(done)), classification(2, user="b", annotations=json.dumps(two))]
    votes, report = read_votes(export(tmp_path / "e.csv", *rows), workflow=workflow)
    assert votes["answer"].tolist() == ["answer_1", "answer_2", "bffl"]
    assert report["problem"].tolist() == ["several_answers"]


def test_tasks_that_decide(tmp_path):
    path = workflows_csv(tmp_path / "w.csv")
    one = workflow_from_export(path, tasks=["T0"])
    assert leads(one) == {"T0": {"yes": "T0_yes", "no": "T0_no", "not_sure": "T0_not_sure"}}
    only = workflow_from_export(path, tasks=["T1"])
    assert only.outcome_names == ("T1_a_second_cluster_yes", "T1_a_second_cluster_no")
    for tasks, message in (
        (["T5"], r"tasks must be questions with two known answers, got \['T5'\]; there are: T0 single, T1 multiple"),
        (["T2"], "got .'T2'."),
        ([], "must be questions"),
        (["T9"], r"\['T9'\] cannot be reached from the first task, 'T0'|there is no question"),
        (["T1", "T3"], r"task 'T0' leads to \['T1', 'T3'\], so it must be one of the tasks, too"),
    ):
        with pytest.raises(SchemaError, match=message):
            workflow_from_export(path, tasks=tasks)
    with pytest.raises(TypeError, match="tasks must be a sequence"):
        workflow_from_export(path, tasks="T0")


def test_versions_of_a_workflow_export(tmp_path):
    changed = json.dumps({**STRINGS, "T0.answers.1.label": "None"})
    rows = ({}, {"version": "9", "minor_version": "30"}, {"minor_version": "10", "strings": changed})
    path = workflows_csv(tmp_path / "w.csv", *rows)
    assert "T0_none" in workflow_from_export(path).outcome_names  # 12.10 comes after 12.7
    assert "T0_no" in workflow_from_export(path, version="12.7").outcome_names
    assert "T0_no" in workflow_from_export(path, version="9").outcome_names
    with pytest.raises(SchemaError, match=r"version must be one of workflow '7', \['9.30', '12.7', '12.10'\], got '4'"):
        workflow_from_export(path, version="4")
    two = workflows_csv(tmp_path / "two.csv", {}, {"workflow_id": "8", "display_name": "Stars"})
    with pytest.raises(SchemaError, match=r"'7' \('Clusters!', versions 12.7\); '8' \('Stars', versions 12.7\)"):
        workflow_from_export(two)
    assert workflow_from_export(two, workflow_id=8).name == "stars"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": "["}, "not as Zooniverse writes them"),
        ({"tasks": '{"T0": 5}'}, "not as Zooniverse writes them"),
        ({"tasks": "{}"}, "no question with two known answers"),
        ({"tasks": json.dumps({"T0": TASKS["T2"]})}, "no question with two known answers.*T0 drawing"),
        ({"tasks": json.dumps({
            "T0": {**TASKS["T0"], "answers": labels("T0", 2, a0="T3")},
            "T3": {**TASKS["T3"], "answers": labels("T3", 2, a0="T0")},
        })}, r"\['T0', 'T3'\] lead back to 'T0'"),
    ],
    ids=["no json", "no tasks", "empty", "drawing", "circle"],
)  # fmt: skip
def test_workflow_exports_that_cannot_be_used(tmp_path, change, message):
    with pytest.raises(SchemaError, match=message):
        workflow_from_export(workflows_csv(tmp_path / "w.csv", change))


def test_other_files_are_no_exports(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for read in (workflow_from_export, list_workflows):
        with pytest.raises(SchemaError, match="export of"):
            read(tmp_path / "x.csv")
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.csv")


def test_a_workflow_seen_in_classifications(own, tmp_path):
    """What came after each answer most often; an answer that nobody gave is not there."""
    sure = ("T3", "How sure are you?", "Sure"), ("T3", "How sure are you?", "Guessed")
    rows = [classification(k, t0("Yes"), t1("An arc", "A jet")) for k in range(3)]
    rows += [classification(4, t0("No")), classification(5, t0("Not sure"), sure[0])]
    rows += [classification(6, t0("Not sure"), sure[1]), classification(7, t0("No"), sure[0], t1("A jet"))]
    rows += [classification(8, t0("unknown answer label")), classification(9, annotations="[")]
    path = export(tmp_path / "e.csv.gz", *rows)
    seen = workflow_from_export(path)
    assert leads(seen)["T0"] == {"yes": "T1_an_arc", "no": "T0_no", "not_sure": "T3"}
    assert "T1_a_second_cluster" not in seen.question_names
    votes, report = read_votes(path, workflow=seen)
    assert set(report["problem"].tolist()) >= {"unknown_answer", "malformed_json"} and len(votes)
    listed = list_workflows(path)
    assert listed["workflow_id", "workflow_name", "version", "n_classifications"][0].as_void().tolist() == (
        "7", "Clusters!", "12.7", 9,
    )  # fmt: skip
    assert listed["tasks"][0].startswith("T0 single: Is there a cluster?; T1 multiple: What else")
    with pytest.raises(SchemaError, match="no classifications of version '3'"):
        workflow_from_export(path, version="3")


def test_the_workflows_and_versions_of_an_export(tmp_path):
    rows = [classification(1, t0("Yes")), classification(2, t0("No"), workflow_version="9.1")]
    rows += [classification(3, ("init", "Which star?", "Red"), workflow_id="8", workflow_name="Stars")]
    path = export(tmp_path / "e.csv", *rows)
    listed = list_workflows(path)
    assert listed["version"].tolist() == ["9.1", "12.7", "12.7"]
    assert listed["tasks"].tolist()[-1] == "init single: Which star?"


def birds(*values):
    return [classification(k, t0(value, "Is there a bird?"), user=f"v{k}") for k, value in enumerate(values)]


def test_another_project_is_refused_by_its_first_question(tmp_path):
    path = export(tmp_path / "e.csv", *birds("Yes", "No", "Yes"))
    message = "question 'emission': line 2 asks 'Is there a bird\\?', not 'Is there X-ray emission in the middle"
    with pytest.raises(SchemaError, match=message):
        read_votes(path)


def test_another_project_without_wordings_is_refused_by_its_answers(own, tmp_path):
    rows = [classification(1, ("T0", None, "Red")), classification(2, ("T0", None, "Blue"))]
    with pytest.raises(
        SchemaError, match=r"question 'T0': answers such as \['Red'\] are none of its own, such as \['Yes"
    ):
        read_votes(export(tmp_path / "a.csv", *rows), workflow=own)
    rows = [classification(1, ("init", "Which star?", "Red")), classification(2, annotations="[]")]
    with pytest.raises(SchemaError, match="question 'T0': its task 'T0' is never asked, but .\"init 'Which star\\?'\""):
        read_votes(export(tmp_path / "b.csv", *rows), workflow=own)


def test_a_wording_that_was_changed_a_little_is_reported(own, tmp_path):
    """Both wordings are there, and half of the words are the same."""
    old = "Is there a cluster in it?"
    wordings = [("is there a CLUSTER", "12.7"), (old, "11.2"), (old, "11.2")]
    rows = [
        classification(k, t0("Yes", label), user=f"v{k}", workflow_version=version)
        for k, (label, version) in enumerate(wordings)
    ]
    votes, report = read_votes(export(tmp_path / "e.csv", *rows), workflow=own)
    assert len(votes) == 3
    assert report["line", "question", "problem", "text"][0].as_void().tolist() == (3, "T0", "reworded", old)
    assert len(report) == 1
    alone = export(tmp_path / "old.csv", *rows[1:])
    with pytest.raises(SchemaError, match="question 'T0': line 2 asks 'Is there a cluster in it\\?'"):
        read_votes(alone, workflow=own)  # nobody can tell it from another question
    other = classification(9, t0("Yes", "Which galaxy is the brightest one?"), user="z", workflow_version="10.1")
    path = export(tmp_path / "other.csv", *rows, other)
    with pytest.raises(SchemaError, match="line 5 asks 'Which galaxy"):
        read_votes(path, workflow=own)
    votes, report = read_votes(path, workflow=own, versions=["11", "12"])
    assert len(votes) == 3 and report["problem"].tolist() == ["other_version", "reworded"]


def test_nothing_that_counts_is_not_compared(tmp_path):
    path = export(tmp_path / "e.csv", *birds("Yes"))
    with pytest.warns(EmptyResultWarning):
        votes, report = read_votes(path, versions=["99"])
    assert len(votes) == 0 and report["problem"].tolist() == ["other_version"]


def test_a_subject_without_the_name_of_a_source(own, tmp_path):
    nameless = json.dumps({"1": {"image": "a.png"}})
    rows = [classification(k, t0("Yes"), user=f"v{k}", subject_data=nameless) for k in range(3)]
    rows += [classification(8, t0("Yes"), subject="2", subject_data="")]
    votes, report = read_votes(export(tmp_path / "e.csv", *rows), workflow=own)
    assert votes["source_id"].tolist() == ["1"] * 3 + ["2"]
    # Once per subject.
    assert list(zip(report["problem"].tolist(), report["source_id"].tolist(), strict=True)) == [
        ("no_source_id", "1"), ("no_source_id", "2"),
    ]  # fmt: skip


def test_gold_standard_and_experts(own, tmp_path):
    marked = {"gold_standard": "true", "expert": "owner"}
    rows = [
        classification(1, t0("No"), user="owner", **marked),
        classification(2, t0("Yes"), t1(), user="a"),
        classification(3, t0("Yes"), t1(), user="b", gold_standard="NA", expert="NA"),
        classification(4, t0("Yes"), t1(), user="owner", subject="2", **marked),
        classification(5, t0("No"), user="team", subject="2", gold_standard="true", expert="expert"),
        classification(6, t0("Not sure"), user="owner", subject="3", **marked),
    ]
    votes, _ = read_votes(export(tmp_path / "e.csv", *rows), workflow=own)
    assert votes["gold_standard"].dtype == bool and set(votes["expert"].tolist()) == {"", "owner", "expert"}
    known = known_labels(votes, workflow=own)
    assert known["source_id"].tolist() == ["src-1", "src-2", "src-3"]
    assert known["outcome"].tolist() == ["T0_no", "", ""] and known["n_votes"].tolist() == [1, 2, 0]
    assert known["message"].tolist() == ["", "the votes differ", "the votes reach no outcome"]
    result = volunteer_consensus(votes, workflow=own, gold=known)
    assert result["outcome"][0] == "T0_no" and result["gold"].tolist() == [True, False, False]
    decided = expert_decisions(votes[votes["expert"] != ""], workflow=own)
    assert decided["status"].tolist() == ["one_expert", "conflict", "no_votes"]
    # From a file, too.
    again, _ = read_votes(tables.write(votes, tmp_path / "votes.csv"), workflow=own)
    assert known_labels(again, workflow=own)["outcome"].tolist() == known["outcome"].tolist()
    with pytest.raises(SchemaError, match="must have the column gold_standard"):
        known_labels(votes["source_id", "voter_id", "question", "answer", "time"], workflow=own)


def test_broken_lines_between_whole_blocks(own, tmp_path):
    """More lines than are parsed at once: faults at the ends of a block cost no other line."""
    n = 3000
    path = export(tmp_path / "e.csv", *(classification(k, t0("Yes"), user=f"v{k}") for k in range(n)))
    lines = path.read_bytes().split(b"\r\n")[:-1]
    broken = [1024, 1025, 2048, 2049, n]  # numbers of lines - 1
    for place in broken:
        lines[place] = b'9,"' + lines[place] if place % 2 else lines[place][: len(lines[place]) // 2]
    path.write_bytes(b"\r\n".join(lines))
    votes, report = read_votes(path, workflow=own)
    assert report["line"].tolist() == [place + 1 for place in broken] and len(votes) == n - len(broken)
    assert set(votes["voter_id"].tolist()) == {f"v{k}" for k in range(n)} - {f"v{place - 1}" for place in broken}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: q[1].update(choice=5), "choice of question 'T1_an_arc' must be a text, got 5|'T3' must be"),
        (lambda q: q[1].pop("task", None), "must have a task, two answers"),
        (lambda q: q[2].update(choice="an ARC"), "that no other question of the task has"),
    ],
    ids=["kind", "task", "repeated"],
)
def test_bad_choices(tmp_path, change, message):
    mapping = workflow_from_export(workflows_csv(tmp_path / "w.csv")).to_dict()
    mapping["questions"].sort(key=lambda question: not question["name"] == "T0" and not question.get("choice"))
    change(mapping["questions"])
    with pytest.raises(SchemaError, match=message):
        Workflow.from_dict(mapping)


def test_every_way_to_an_outcome_is_a_path(own):
    """Of a known outcome an answer is known only where no other one leads there."""
    place = own.outcome_names.index("T0_yes")
    paths = dict(zip(own.question_names, own.paths[place].tolist(), strict=True))
    assert paths["T0"] == 0 and paths["T1_an_arc"] == -1 and paths["T3"] == -1
    assert load_workflow("hunt").paths[2].tolist() == [0, 0, 1, -1, -1, -1]


def test_columns_of_objects_must_be_texts(own):
    votes = QTable({name: np.array([name], dtype=object) for name in ("source_id", "voter_id", "question", "answer")})
    assert check_votes(votes, workflow=own)["problem"].tolist() == ["unknown_question"]
    votes["voter_id"] = np.array([7.5], dtype=object)
    with pytest.raises(SchemaError, match="not a VOTES table: column 'voter_id' must hold"):
        check_votes(votes, workflow=own)
    mixed = QTable({name: np.array([name] * 2, dtype=object) for name in votes.colnames})
    mixed["voter_id"] = np.array(["v", 7.5], dtype=object)
    with pytest.raises(SchemaError, match="not a VOTES table: column 'voter_id' must hold text"):
        check_votes(mixed, workflow=own)
