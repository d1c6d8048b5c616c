"""Real exports of other projects on Zooniverse: every row is a vote or is reported."""

from collections import Counter

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify.exceptions import SchemaError
from astroclassify.people import (
    Workflow,
    expert_decisions,
    known_labels,
    list_workflows,
    read_votes,
    volunteer_consensus,
    workflow_from_export,
)

pytestmark = pytest.mark.real_data

MARKED = {
    "name": "marked",
    "questions": [{"name": "marked", "text": "Anything objects that need to be marked?", "task": "T1", "answers": [
        {"name": "yes", "text": "Yes", "outcome": "objects"}, {"name": "no", "text": "No", "outcome": "nothing"}]}],
    "outcomes": [{"name": "objects", "text": "objects"}, {"name": "nothing", "text": "nothing"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "votes"


def test_a_survey_and_a_question_with_gold_standard(folder):
    """Camera traps in Michigan, 2000 classifications of 2 tasks, 37 of them by an expert as gold standard."""
    path = folder / "michigan-anon.csv.gz"
    workflow = workflow_from_export(path, tasks=["T3"])
    assert {"T3_deer", "T3_raccoon", "T3_nothinghere"} < set(workflow.outcome_names)
    votes, report = read_votes(path, workflow=workflow)
    problems = Counter(report["problem"].tolist())
    # One names two animals, of a subject that nobody else saw; the others are votes, of which 3 are repetitions.
    assert votes.meta["read"]["rows"] == 2000 and len(votes) == 1999 and problems["several_answers"] == 1
    assert problems["unknown_question"] == 2000  # the weather, T2, which is not wanted
    assert problems["no_source_id"] == 1536 and len(set(votes["source_id"].tolist())) == 1535
    known = known_labels(votes, workflow=workflow)
    assert votes["gold_standard"].sum() == 37 and set(votes["expert"].tolist()) == {"", "expert"}
    result = volunteer_consensus(votes, workflow=workflow, gold=known)
    assert result["gold"].sum() == (known["outcome"] != "").sum() > 30
    experts = expert_decisions(votes[votes["expert"] != ""], workflow=workflow)
    assert set(experts["status"].tolist()) <= {"one_expert", "agreed", "conflict"} and len(experts) == len(known)


def test_bytes_that_are_not_utf8(folder):
    path = folder / "camcat-anon.csv.gz"
    assert list_workflows(path)["workflow_name"][0].startswith("Get Started \\udc")
    workflow = workflow_from_export(path)
    votes, report = read_votes(path, workflow=workflow)
    assert Counter(report["problem"].tolist()) == {"several_answers": 4, "no_source_id": 1000} and len(votes) == 996
    result = volunteer_consensus(votes, workflow=workflow, method="majority")
    assert Counter(result["outcome"].tolist())["T0_nthnghr"] == 834


def test_drawings_are_reported(folder):
    path = folder / "andromeda-anon.csv.gz"
    with pytest.raises(SchemaError, match="no question with two known answers .*T0 drawing, T1 single"):
        workflow_from_export(path)
    votes, report = read_votes(path, workflow=Workflow.from_dict(MARKED))
    assert len(votes) == 2 and set(votes["answer"].tolist()) == {"yes"}
    assert Counter(report["problem"].tolist())["unknown_question"] == votes.meta["read"]["rows"] == 63


def test_an_export_without_names_and_subject_data(folder):
    """Galaxy Zoo: six versions, two wordings of two questions, pictures in the answers, two volunteers."""
    path = folder / "gz_panoptes_minimal.csv"
    votes, report = read_votes(path, workflow=(workflow := workflow_from_export(path)))
    assert set(votes["voter_id"].tolist()) == {"user-108", "user-290475"}
    assert len(set(votes["source_id"].tolist())) == 9
    assert Counter(report["problem"].tolist()) == {"no_source_id": 9, "reworded": 2, "no_answer": 1}
    first = workflow_from_export(path, tasks=["T0"])
    assert first.outcome_names == ("T0_features_or_disk", "T0_smooth", "T0_star_or_artefact")
    votes, _ = read_votes(path, workflow=first)
    outcomes = Counter(volunteer_consensus(votes, workflow=first, method="majority")["outcome"].tolist())
    assert outcomes == {"T0_features_or_disk": 5, "T0_smooth": 3, "T0_star_or_artefact": 1}
    assert len(workflow.choice_codes["T10"]) >= 3


def repeated_as_others(votes):
    """
    The votes of kSWAP's demonstration, in which each subject is shown ten times to the same one of five volunteers:
    each time counts as another volunteer.
    """
    votes, times = votes.copy(), Counter()
    names = []
    for source, voter in zip(votes["source_id"].tolist(), votes["voter_id"].tolist(), strict=True):
        times[source] += 1
        names.append(f"{voter}-{times[source]}")
    votes["voter_id"] = names
    return votes


def gold_of(folder, workflow):
    """Source -> outcome."""
    table = QTable.read(folder / "kswap-demo-gold-labels.csv", format="ascii.csv")
    answers = {answer.text: answer.outcome for answer in workflow.questions[0].answers}
    return {str(row["subject_id"]): answers[str(row["gold"])] for row in table}


@pytest.mark.parametrize("method", ["majority", "weighted", "iterated", "dawid-skene"])
def test_agreement_with_gold_labels(folder, method):
    path = folder / "kswap-demo-classifications.csv"
    workflow = workflow_from_export(path)
    votes, report = read_votes(path, workflow=workflow)
    assert Counter(report["problem"].tolist()) == {"duplicate": 900, "no_source_id": 100}
    gold = gold_of(folder, workflow)
    right = {}
    for name, each in (("first", votes), ("all", repeated_as_others(votes))):
        result = volunteer_consensus(each, workflow=workflow, method=method)
        right[name] = np.mean(
            [gold[source] == outcome for source, outcome in result["source_id", "outcome"].iterrows()]
        )
    # One volunteer is right in four of ten; ten together know more.
    assert right["all"] > max(right["first"] + 0.15, 0.6)
