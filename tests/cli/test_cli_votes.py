"""The verb votes: an export or a table of votes to outcomes, skills and a report, as the functions give them."""

import csv
import json
import re

import numpy as np
import pytest
from astropy.table import QTable

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.people import load_workflow, read_votes, simulate_votes, volunteer_consensus, volunteer_skill

NAMES = load_workflow("hunt").outcome_names
TRUTH = {f"s{k:02d}": NAMES[k % len(NAMES)] for k in range(28)}


def run(*arguments):
    """Run the verb, which must succeed."""
    assert main(["votes", *map(str, arguments)]) == 0


@pytest.fixture
def refused(capsys):
    """Function that runs the verb, which must end with status 2 and a line that matches."""

    def run_badly(message, *arguments):
        assert main(["votes", *map(str, arguments)]) == 2
        assert re.search(message, capsys.readouterr().err.splitlines()[-1])

    return run_badly


@pytest.fixture(scope="module")
def votes():
    return simulate_votes(TRUTH, n_voters=40, votes_per_subject=9, rng=6)


@pytest.fixture
def path(votes, tmp_path):
    return tables.write(votes, tmp_path / "votes.ecsv")


def export(path, rows):
    """A classification export: (user, subject, workflow version, texts of the answers); None for a broken line."""
    header = ("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_version", "created_at")
    header += ("metadata", "annotations", "subject_data", "subject_ids")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, row in enumerate(rows):
            if row is None:
                file.write('9,"ann\n')
                continue
            user, subject, version, answers = row
            tasks = json.dumps([{"task": f"T{k}", "value": answer} for k, answer in enumerate(answers)])
            serial = ord(subject)
            data = json.dumps({str(serial): {"source_id": subject}})
            who = (number, user, "1", "8b", "8905", version, "2019-06-12 15:01:22 UTC", "{}")
            writer.writerow([*who, tasks, data, serial])
    return path


@pytest.mark.parametrize("method", ["majority", "weighted", "iterated", "dawid-skene"])
def test_outcomes_are_those_of_the_function(method, votes, path, tmp_path, capsys):
    run(path, "--method", method, "--skill", tmp_path / "skill.ecsv", "--out", tmp_path / "out.ecsv")
    expected = volunteer_consensus(votes, method=method)
    written = tables.read(tmp_path / "out.ecsv")
    assert written.colnames == expected.colnames and written.meta["method"] == method
    assert written["outcome"].tolist() == expected["outcome"].tolist()
    assert np.array_equal(written["vote_fraction"], expected["vote_fraction"], equal_nan=True)
    skill = tables.read(tmp_path / "skill.ecsv")
    assert skill["voter_id"].tolist() == volunteer_skill(votes)["voter_id"].tolist()
    assert ("confusion" in skill.colnames) == (method == "dawid-skene")
    out, err = capsys.readouterr()
    decided = int((expected["outcome"] != "").sum())
    assert out == "" and 20 < decided <= 28
    assert f"{len(votes)} votes of {len(skill)} voters on 28 subjects: {decided} decided, " in err


def test_weighted_on_standard_output_by_default(votes, path, capsys):
    run(path)
    out, err = capsys.readouterr()
    table = QTable.read(out, format="ascii.fixed_width_two_line")
    expected = volunteer_consensus(votes)
    assert table.colnames[:3] == ["source_id", "outcome", "vote_fraction"] and len(table) == 28
    assert np.ma.filled(table["outcome"], "").tolist() == expected["outcome"].tolist()
    known = np.isfinite(expected["vote_fraction"])
    assert np.allclose(table["vote_fraction"][known], expected["vote_fraction"][known], atol=5.1e-4)
    assert max(map(len, out.splitlines())) <= 80
    tied = int(expected["tie"].sum())
    still = int((expected["outcome"] == "").sum()) - tied
    assert f"{tied} ties, {still} open\n" in err and "columns; files have all" in err


def test_known_subjects(votes, path, tmp_path):
    gold = QTable({"source_id": list(TRUTH)[:10], "outcome": list(TRUTH.values())[:10]})
    tables.write(gold, tmp_path / "gold.ecsv")
    run(path, "--gold", tmp_path / "gold.ecsv", "--skill", tmp_path / "skill.ecsv", "--out", tmp_path / "out.ecsv")
    written = tables.read(tmp_path / "out.ecsv")
    assert dict(zip(written["source_id"], written["outcome"], strict=True)).items() >= dict(gold.iterrows()).items()
    assert written["gold"].sum() == 10
    skill = tables.read(tmp_path / "skill.ecsv")
    assert np.array_equal(skill["gold_right"], volunteer_skill(votes, gold=gold)["gold_right"], equal_nan=True)
    assert np.isfinite(skill["gold_right"]).any()


def test_export_with_faults_and_versions(tmp_path, capsys):
    point, nothing = ("Yes", "No", "A point"), ("No",)
    rows = [("ann", "a", "16.1", point), ("bob", "a", "16.2", point), None, ("cy", "a", "7.1", nothing)]
    rows += [("ann", "b", "16.1", nothing), ("bob", "b", "16.1", ("Perhaps",)), ("ann", "b", "16.1", point)]
    path = export(tmp_path / "export.csv", rows)
    chosen = ("--versions", "16", "--workflow-id", "8905")
    run(path, *chosen, "--report", tmp_path / "faults.ecsv", "--out", tmp_path / "out.ecsv")
    written = tables.read(tmp_path / "out.ecsv")
    outcomes = dict(zip(written["source_id"].tolist(), written["outcome"].tolist(), strict=True))
    assert outcomes == {"a": "point_source", "b": "no_emission"}
    assert written["n_votes"].tolist() == [2, 1]
    report = tables.read(tmp_path / "faults.ecsv")
    assert report.meta["read"]["problems"] == read_votes(path, versions=["16"])[0].meta["read"]["problems"]
    problems = report["problem"].tolist()
    assert problems.count("malformed_row") == 1 and problems.count("other_version") == 1
    assert {"unknown_answer", "duplicate"} <= set(problems)
    # Without the choice of versions the third voter counts.
    run(path, "--out", tmp_path / "all.ecsv")
    assert tables.read(tmp_path / "all.ecsv")["n_votes"].tolist() == [3, 1]
    assert "of 3 voters on 2 subjects: 2 decided, 0 ties, 0 open" in capsys.readouterr().err


def test_workflows_of_other_kinds(tmp_path):
    rows = [("s", voter, "class", answer, "") for voter, answer in zip("abc", ("low_z", "low_z", "point"), strict=True)]
    names = ("source_id", "voter_id", "question", "answer", "time")
    path = tables.write(QTable(rows=rows, names=names), tmp_path / "votes.ecsv")
    run(path, "--workflow", "candidate", "--out", tmp_path / "scheme.ecsv")
    assert tables.read(tmp_path / "scheme.ecsv")["outcome"].tolist() == ["low_z"]
    answers = [{"name": name, "text": name, "outcome": f"is_{name}"} for name in ("low_z", "point")]
    outcomes = [{"name": f"is_{name}", "text": name} for name in ("low_z", "point")]
    mapping = {"name": "own", "outcomes": outcomes}
    mapping["questions"] = [{"name": "class", "text": "Which?", "answers": answers}]
    (tmp_path / "own.json").write_text(json.dumps(mapping))
    run(path, "--workflow", tmp_path / "own.json", "--out", tmp_path / "own.ecsv")
    assert tables.read(tmp_path / "own.ecsv")["outcome"].tolist() == ["is_low_z"]


@pytest.mark.filterwarnings("always::astroclassify.exceptions.EmptyResultWarning")
def test_no_votes_are_not_an_error(tmp_path, capsys, caplog):
    path = tables.write(tables.empty(tables.VOTES), tmp_path / "votes.ecsv")
    run(path, "--out", tmp_path / "out.ecsv", "--skill", tmp_path / "skill.ecsv")
    assert "there are no votes in" in caplog.text
    assert len(tables.read(tmp_path / "out.ecsv")) == len(tables.read(tmp_path / "skill.ecsv")) == 0
    assert "0 votes of 0 voters on 0 subjects" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--skill", "--report"])
def test_existing_files_are_not_replaced(option, path, tmp_path, refused):
    (tmp_path / "there.ecsv").write_text("mine")
    others = [("--out", tmp_path / "out.ecsv"), ("--skill", tmp_path / "skill.ecsv")]
    others = [each for pair in others if pair[0] != option for each in pair]
    refused(r"there.ecsv' exists already", path, *others, option, tmp_path / "there.ecsv")
    assert (tmp_path / "there.ecsv").read_text() == "mine"
    assert not (tmp_path / "out.ecsv").exists() and not (tmp_path / "skill.ecsv").exists()


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_read(path, tmp_path, refused):
    for out, message in (
        (tmp_path / "none" / "out.ecsv", "--out .*: there is no folder"),
        (tmp_path / "out.txt", "--out must end in one of"),
        (tmp_path / "same.ecsv", "--out and --report must be different files"),
    ):
        refused(message, path, "--out", out, "--report", tmp_path / "same.ecsv")
    assert not (tmp_path / "same.ecsv").exists()


def test_bad_input(path, tmp_path, capsys, refused):
    refused("no file .*nothing.csv", tmp_path / "nothing.csv")
    refused("workflow must be one of", path, "--workflow", "hunting")
    refused(r"gold.ecsv", path, "--gold", tmp_path / "gold.ecsv")
    tables.write(QTable({"source_id": ["s00"], "outcome": ["cluster"]}), tmp_path / "wrong.ecsv")
    wrong = ("--gold", tmp_path / "wrong.ecsv", "--out", tmp_path / "out.ecsv")
    refused("gold must hold outcomes out of .* got .'cluster'", path, *wrong)
    assert not (tmp_path / "out.ecsv").exists()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    refused("not an export of classifications", tmp_path / "other.csv")
    with pytest.raises(SystemExit):
        run(path, "--method", "mean")
    assert "invalid choice: 'mean'" in capsys.readouterr().err


def test_the_questions_of_a_project_from_its_export(tmp_path, capsys):
    """Listed, used, written down, edited, used again; with what is marked as gold standard."""
    rows = [("ann", "a", "3.1", ("Round",)), ("bob", "a", "3.1", ("Round",)), ("cy", "a", "3.2", ("Square",))]
    path = export(tmp_path / "export.csv", rows)
    lines = path.read_text().splitlines()
    marked = [line + "," + gold for line, gold in zip(lines, ("gold_standard", "", "", "true"), strict=True)]
    path.write_text("\n".join(marked))
    run(path, "--list")
    out, _ = capsys.readouterr()
    assert out.split() == [
        "workflow_id", "workflow_name", "version", "n_classifications", "tasks", "-" * 11, "-" * 13, "-" * 7, "-" * 17,
        "-" * 9, "8905", "3.1", "2", "T0", "single", "8905", "3.2", "1", "T0", "single",
    ]  # fmt: skip
    own = tmp_path / "own.json"
    run(path, "--workflow", path, "--tasks", "T0", "--save-workflow", own, "--out", tmp_path / "plain.ecsv")
    assert tables.read(tmp_path / "plain.ecsv")["outcome"].tolist() == ["T0_round"]
    assert [answer["name"] for answer in json.loads(own.read_text())["questions"][0]["answers"]] == ["round", "square"]
    run(path, "--workflow", own, "--gold-standard", "--out", tmp_path / "known.ecsv")
    assert tables.read(tmp_path / "known.ecsv")["outcome"].tolist() == ["T0_square"]


def test_options_that_do_not_fit(path, tmp_path, refused):
    refused("--tasks is for a workflow from an export", path, "--tasks", "T0")
    refused("not an export of classifications", tables.write(tables.read(path), tmp_path / "v.csv"), "--list")
    (tmp_path / "own.json").write_text("{}")
    refused("--save-workflow .* exists already", path, "--save-workflow", tmp_path / "own.json")
    other = export(tmp_path / "other.csv", [("ann", "a", "1.1", ("Red",))])
    refused("question 'emission': answers such as .'Red'. are none of its own", other)
