"""Workflows, votes from files, and what is wrong with them."""

import csv
import json
import os
from importlib.resources import files

import numpy as np
import pytest
from astropy.table import QTable
from astropy.time import Time

from astroclassify import tables
from astroclassify.exceptions import EmptyResultWarning, SchemaError
from astroclassify.people import (
    Workflow,
    check_votes,
    judge_roc,
    load_workflow,
    read_votes,
    simulate_votes,
    volunteer_consensus,
    volunteer_skill,
)

HUNT = load_workflow("hunt")
HEADER = (
    "classification_id,user_name,user_id,user_ip,workflow_id,workflow_name,workflow_version,created_at,gold_standard,"
    "expert,metadata,annotations,subject_data,subject_ids"
).split(",")


def row(number, user="ann", subject="101", answers=("No",), **changes):
    """One line of an export as Zooniverse writes it."""
    labels = [question.text for question in HUNT.questions]
    tasks = [{"task": f"T{k}", "task_label": labels[k], "value": value} for k, value in enumerate(answers)]
    anonymous = user.startswith("not-logged-in")
    fields = {
        "classification_id": str(number),
        "user_name": user,
        "user_id": "" if anonymous else "77",
        "user_ip": "8bfdc8dbafcb1aa42dbc",
        "workflow_id": "8905",
        "workflow_name": "Hunt",
        "workflow_version": "16.53",
        "created_at": f"2019-06-12 15:{number % 60:02d}:22 UTC",
        "metadata": json.dumps({"source": "api", "session": "5f7f", "live_project": True}),
        "annotations": json.dumps(tasks),
        "subject_data": json.dumps({subject: {"retired": None, "#source_id": f"src-{subject}"}}),
        "subject_ids": subject,
    }
    return [{**fields, **changes}.get(name, "") for name in HEADER]


def write(path, rows, header=HEADER):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


POINT = ("Yes", "No", "A point")


@pytest.fixture
def hunt():
    return load_workflow("hunt")


def test_the_six_questions_and_seven_outcomes(hunt):
    assert len(hunt.questions) == 6
    assert hunt.outcome_names == (
        "no_emission", "edge", "point_source", "no_optical", "nearby_galaxy", "nearby_cluster", "distant_cluster",
    )  # fmt: skip
    assert [len(hunt.path_to(outcome)) for outcome in hunt.outcome_names] == [1, 2, 3, 4, 5, 6, 6]
    assert hunt.classes("cluster") == ("other",) * 5 + ("cluster",) * 2
    assert hunt.classes("candidate") == ("other", "other", "point", "other", "galaxy", "low_z", "high_z")
    assert load_workflow(hunt) is hunt


def test_a_scheme_is_a_workflow_of_one_question():
    workflow = load_workflow("candidate")
    assert workflow.path_to("galaxy") == {"class": "galaxy"}
    assert workflow.classes("cluster") == ("cluster", "cluster", "other", "other", "other")
    with pytest.raises(SchemaError, match="'CC' of 'cool-core' has no class in scheme 'cluster'"):
        load_workflow("cool-core").classes("cluster")


def test_a_workflow_of_ones_own(tmp_path):
    mapping = {
        "name": "mine",
        "questions": [{"name": "q", "text": "Round?", "answers": [
            {"name": "y", "text": "Yes", "outcome": "ball"}, {"name": "n", "text": "No", "outcome": "box"},
        ]}],
        "outcomes": [{"name": "ball", "text": "a ball"}, {"name": "box", "text": "a box"}],
    }  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(mapping))
    assert load_workflow(path).outcome_names == ("ball", "box")
    path.write_text("{")
    with pytest.raises(SchemaError, match="is not JSON"):
        load_workflow(path)
    with pytest.raises(FileNotFoundError):
        load_workflow(tmp_path / "no.json")
    for name in ("../hunt", "nothing", ""):
        with pytest.raises(SchemaError, match="workflow must be one of \\['hunt'\\], a class scheme or a file"):
            load_workflow(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["questions"][0]["answers"][0].update(next="emission"), "must lead to a later question"),
        (lambda m: m["questions"][0]["answers"][0].update(outcome="edge"), "either to a question or to an outcome"),
        (lambda m: m["questions"][0]["answers"][1].update(outcome="none"), "must lead to one of"),
        (lambda m: m["questions"][0]["answers"].pop(), "at least 2 different names"),
        (lambda m: m["questions"][1]["answers"][1].update(outcome="no_emission"), "no answer leads to \\['edge'\\]"),
        (lambda m: m["questions"][1].update(name="edge"), "questions and outcomes must be"),
        (lambda m: m["questions"][1].update(colour="red"), "not a workflow"),
        (lambda m: m["questions"][1].update(task=m["questions"][0]["task"]), "must be those of no other question"),
        (lambda m: m["questions"][1].update(task="emission"), "must be those of no other question"),
        (lambda m: m["questions"][1].update(task=0), "task of question 'border' must be a text, got 0"),
        (lambda m: m["questions"][0]["answers"][1].update(text="*Yes*"), "must be those of no other answer"),
        (lambda m: m["outcomes"][0].update(classes=["x"]), "must be scheme -> class, got .'x'"),
        (lambda m: m.pop("outcomes"), "not a workflow: KeyError"),
        (lambda m: m["questions"].clear(), "at least 1"),
    ],
)
def test_bad_workflows(change, message):
    mapping = json.loads((files("astroclassify.data") / "workflow_hunt.json").read_text())
    change(mapping)
    with pytest.raises(SchemaError, match=message):
        Workflow.from_dict(mapping)


def test_export_is_read_as_it_stands(tmp_path):
    path = write(tmp_path / "export.csv", [
        row(1, answers=POINT),
        row(2, user="bob", answers=("Yes", "No", "Spread out", "Yes", "No", "![icon](https://x.org/y.png) **Yes**")),
        row(3, user="not-logged-in-8bfdc8dbafcb1aa42dbc", answers=("No",)),
        row(4, user="not-logged-in-8bfdc8dbafcb1aa42dbc", subject="102", answers=(1,), metadata='{"session": "other"}'),
    ])  # fmt: skip
    votes, report = read_votes(path)
    assert tables.validate(votes, tables.VOTES)["answer"].dtype.kind == "U" and len(report) == 0
    assert len(votes) == 3 + 6 + 1 + 1
    assert votes["source_id"].tolist() == ["src-101"] * 10 + ["src-102"]
    # One voter without account, whatever the session.
    assert votes["voter_id"].tolist() == ["ann"] * 3 + ["bob"] * 6 + ["ip-8bfdc8dbafcb1aa42dbc"] * 2
    assert votes["answer"].tolist()[:4] == ["yes", "no", "point", "yes"] and votes["answer"][-1] == "no"
    assert votes["time"][0] == "2019-06-12T15:01:22" and votes["classification_id"].tolist()[-1] == 4
    assert votes.meta["read"] == {
        "rows": 4, "classifications": 4, "versions": {"16.53": 4}, "workflows": {"8905": 4}, "votes": 11,
        "problems": {},
    }  # fmt: skip
    again = tables.read(tables.write(votes, tmp_path / "votes.ecsv"), tables.VOTES)
    assert again["answer"].tolist() == votes["answer"].tolist()


def test_voters_without_address(tmp_path):
    nobody = {"user": "not-logged-in", "user_ip": ""}
    rows = [row(1, **nobody), row(2, **nobody), row(3, **nobody, metadata="{}"), row(4, **nobody, metadata="[")]
    votes, report = read_votes(write(tmp_path / "e.csv", rows))
    assert votes["voter_id"].tolist() == ["session-5f7f"] * 2 + ["classification-3", "classification-4"]
    assert report["problem"].tolist() == ["no_voter", "no_voter", "duplicate"]


def test_faults_are_reported_and_the_rest_is_kept(tmp_path):
    rows = [
        row(1, answers=POINT),
        row(2, answers=("Yes", "No", "Spread out", "Yes")),  # ann again
        row(3, user="bob", annotations='[{"task": "T0", "value": '),
        row(4, user="bob", annotations='{"task": "T0"}'),
        row(5, user="cy", answers=("Perhaps",)),
        row(6, user="dee", annotations='[{"task": "T9", "value": "Yes"}, {"task": "T0", "value": "No"}]'),
        row(7, user="eve", answers=(None,)),
        row(8, user="fay", annotations="[]"),
        row(9, user="gus", answers=(True,)),
        row(10, user="hal", subject_ids="", subject_data="{"),
        row(11, user="ida", subject="103", subject_data="broken"),
        row(12, user="jim", annotations='[{"task": "T0", "value": "Yes"}, {"task": "T0", "value": "No"}]'),
        row(13, user="kim", annotations='[{"task": "C", "value": [{"task": "T0", "value": ["No"]}]}]'),
        row(14, user="lea", answers=("No", "No")),  # the second question does not arise
        row(15, user="mo", annotations="[" * 100_000),
    ]
    votes, report = read_votes(write(tmp_path / "e.csv", rows))
    kept = dict(zip(votes["voter_id"].tolist(), votes["answer"].tolist(), strict=True))
    assert set(kept) == {"ann", "dee", "ida", "jim", "kim", "lea"} and kept["jim"] == kept["kim"] == "no"
    assert votes["source_id"][votes["voter_id"] == "ida"].tolist() == ["103"]
    problems = votes.meta["read"]["problems"]
    assert problems == {
        "duplicate": 3 + 1, "malformed_json": 3, "malformed_subject": 1, "no_answer": 2, "no_subject": 1,
        "off_path": 1 + 1, "unknown_answer": 2, "unknown_question": 1,
    }  # fmt: skip
    # Of ann's second classification the fourth answer goes beyond the end of the first.
    late = report[(report["problem"] == "off_path") & (report["voter_id"] == "ann")]
    assert late["classification_id"].tolist() == ["2"] and late["question"].tolist() == ["optical"]
    assert report["line"][report["problem"] == "malformed_json"].tolist() == [4, 5, 16]
    assert max(map(len, report["text"].tolist())) <= 80


def test_versions_and_workflows(tmp_path):
    rows = [
        row(1),
        row(2, "bob", workflow_version="16.9"),
        row(3, "cy", workflow_version="7.1"),
        row(4, "dee", workflow_id="1"),
    ]
    path = write(tmp_path / "e.csv", rows)
    several = r"one of those in the file, '1' \('Hunt', versions 16.53\); '8905' \('Hunt', versions 16.53, 16.9, 7.1\)"
    for wanted in (None, "8906"):
        with pytest.raises(SchemaError, match=several):
            read_votes(path, workflow_id=wanted)
    assert len(read_votes(path, workflow_id="8905")[0]) == 3
    votes, report = read_votes(path, versions=["16"], workflow_id=8905)
    assert votes["voter_id"].tolist() == ["ann", "bob"]
    assert report["problem"].tolist() == ["other_version", "other_workflow"]
    assert votes.meta["read"]["versions"] == {"16.53": 2, "16.9": 1, "7.1": 1}
    assert read_votes(path, versions=["16.9"])[0]["voter_id"].tolist() == ["bob"]
    with pytest.raises(TypeError, match="versions must be a sequence"):
        read_votes(path, versions="16")


def test_broken_line_affects_no_other(tmp_path):
    path = write(tmp_path / "e.csv", [row(k, f"v{k}") for k in range(1, 7)])
    lines = path.read_bytes().split(b"\r\n")[:-1]
    lines[2] = lines[2][:-20]  # a quote stays open and swallows what follows
    lines[5] = lines[5][:40]
    lines.append(lines[1][:90])  # cut off where the download ended
    path.write_bytes(b"\r\n".join(lines))
    votes, report = read_votes(path)
    assert votes["voter_id"].tolist() == ["v1", "v3", "v4", "v6"]
    assert report["line"].tolist() == [3, 6, 8] and set(report["problem"].tolist()) == {"malformed_row"}
    assert votes.meta["read"]["rows"] == 7


def test_an_open_quote_longer_than_a_field_may_be(tmp_path):
    n = 700
    path = write(tmp_path / "e.csv", [row(k, f"v{k}") for k in range(1, n + 1)])
    lines = path.read_bytes().replace(b'"', b"'").split(b"\r\n")[:-1]
    lines[0], lines[1] = ",".join(HEADER).encode(), b'1,"' + b"x" * 150_000
    good = path.read_bytes().split(b"\r\n")[2:-1]
    path.write_bytes(b"\r\n".join([lines[0], lines[1], *good]))
    votes, report = read_votes(path)
    assert len(votes) == n - 1 and report["line"].tolist() == [2]


def test_bytes_that_are_not_utf8(tmp_path):
    path = write(tmp_path / "e.csv", [row(1, "ann"), row(2, "bob"), row(3, "x" * 5000)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"bob", b"b\xff\x00b"))
    votes, report = read_votes(path)
    assert len(votes) == 3 and len(report) == 0 and votes["voter_id"][0] == "ann"
    assert len(votes["voter_id"][2]) == 64  # no column becomes as wide as one name


def test_empty_files(tmp_path):
    with pytest.warns(EmptyResultWarning, match="no votes"):
        votes, report = read_votes(write(tmp_path / "e.csv", []))
    assert len(votes) == len(report) == 0
    assert set(name for name, _ in tables.VOTES.columns) <= set(votes.colnames)
    for text in ("", "a,b\n1,2\n"):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(SchemaError, match="not an export of classifications"):
            read_votes(tmp_path / "x.csv")
    with pytest.raises(FileNotFoundError):
        read_votes(tmp_path / "none.csv")


@pytest.mark.parametrize("ending", ["ecsv", "csv", "fits"])
def test_any_table_of_votes(tmp_path, ending):
    votes = simulate_votes({"a": "edge", "b": "point_source"}, n_voters=9, votes_per_subject=5, rng=1)
    path = tmp_path / f"votes.{ending}"
    votes.write(path, format="csv") if ending == "csv" else tables.write(votes, path)
    again, report = read_votes(path)
    assert len(report) == 0
    for name, _ in tables.VOTES.columns:
        assert again[name].tolist() == votes[name].tolist()


def test_votes_that_do_not_count():
    columns = ("source_id", "voter_id", "question", "answer", "time")
    rows = [
        ("s", "v", "emission", "yes", "2020-01-02"),
        ("s", "v", "emission", "no", "2020-01-01"),  # earlier, so it stands
        ("s", "v", "border", "no", "2020-01-02"),  # does not arise any more
        ("s", "w", "emission", "yes", ""),  # without a time after those with one
        ("s", "w", "emission", "no", "2020"),
        ("", "w", "emission", "no", ""),
        ("s", "", "emission", "no", ""),
        ("s", "x", "colour", "red", ""),
        ("s", "x", "emission", "red", ""),
        ("s", "y", "T0", "Yes", ""),
    ]
    votes = QTable(rows=rows, names=columns)
    report = check_votes(votes)
    assert dict(zip(report["row"].tolist(), report["problem"].tolist(), strict=True)) == {
        0: "duplicate", 2: "off_path", 3: "duplicate", 5: "no_subject", 6: "no_voter",
        7: "unknown_question", 8: "unknown_answer",
    }  # fmt: skip
    result, skill = volunteer_consensus(votes, method="majority"), volunteer_skill(votes)
    assert result["source_id"].tolist() == ["s"] and skill["voter_id"].tolist() == ["v", "w", "x", "y"]
    assert (result["answer_emission"][0], result["n_emission"][0]) == ("no", 3)
    assert result["fraction_emission"][0] == pytest.approx(2 / 3)
    with pytest.raises(SchemaError, match="column 'answer' is missing"):
        check_votes(votes[["source_id", "voter_id", "question", "time"]])


def test_masked_and_byte_columns_are_read():
    votes = simulate_votes({"a": "edge"}, n_voters=4, votes_per_subject=3, rng=1)
    other = QTable({name: np.char.encode(votes[name].tolist()) for name in votes.colnames}, masked=True)
    plain, coded = volunteer_consensus(votes), volunteer_consensus(other)
    assert len(check_votes(other)) == 0
    names = [name for name in plain.colnames if name.startswith(("n_", "answer_"))]
    assert all(plain[name].tolist() == coded[name].tolist() for name in names)


def test_byte_names_that_are_not_utf8_stay_different(tmp_path):
    """As in a FITS table from a Latin-1 list: \\xe9 and \\xe8 are not one volunteer, nor one source."""
    votes = QTable({"source_id": [b"s", b"s", b"\xe9"], "voter_id": [b"Ren\xe9", b"Ren\xe8", b"v"]})
    votes["question"], votes["answer"], votes["time"] = [b"class"] * 3, [b"cluster"] * 3, [b""] * 3
    assert len(check_votes(votes, workflow="cluster")) == 0
    result = volunteer_consensus(votes, workflow="cluster")
    assert result["source_id"].tolist() == ["s", "\\xe9"] and result["n_votes"].tolist() == [2, 1]
    truth = QTable({"source_id": [b"\xe9", b"\xe8"], "label": [b"cluster", b"other"]})
    judge = QTable({"source_id": [b"\xe8", b"\xe9"], "p_cluster": [0.1, 0.9]})
    assert judge_roc(truth, judge).meta["auc"] == 1
    plain = tables.plain_column(np.array([b"\xe9", b"\xe8", "\xe9".encode()])).tolist()
    assert plain == ["\\xe9", "\\xe8", "\xe9"]
    assert tables.plain_column(np.array([b"\xe9", b"\xe8"], dtype=object)).tolist() == plain[:2]


def test_the_order_of_rows_does_not_matter():
    votes = simulate_votes({f"s{k}": "nearby_galaxy" for k in range(9)}, n_voters=20, votes_per_subject=9, rng=3)
    order = np.random.default_rng(1).permutation(len(votes))
    a, b = (volunteer_consensus(each, subjects=[f"s{k}" for k in range(9)]) for each in (votes, votes[order]))
    names = [name for name in a.colnames if name.startswith(("f_", "n_"))]
    assert np.allclose(np.transpose([a[name] for name in names]), np.transpose([b[name] for name in names]), atol=1e-12)


def test_simulated_votes_repeat_and_bad_arguments():
    truth = {"a": "edge", "b": "low_z"}
    first, second = (simulate_votes(truth, n_voters=9, votes_per_subject=4, rng=5) for _ in range(2))
    fresh = simulate_votes(truth, n_voters=9, votes_per_subject=4)
    again = simulate_votes(truth, n_voters=9, votes_per_subject=4, rng=fresh.meta["rng"])
    assert fresh["answer"].tolist() == again["answer"].tolist() and first.meta["rng"] == 5
    assert first["answer"].tolist() == second["answer"].tolist()
    assert first.meta["truth"] == {"a": "edge", "b": "nearby_cluster"}
    assert len(check_votes(first)) == 0
    pairs = set(zip(first["source_id"].tolist(), first["voter_id"].tolist(), strict=True))
    assert len(pairs) == 8  # four different volunteers each
    assert len(simulate_votes({}, rng=1)) == 0
    with pytest.raises(SchemaError, match="truth must hold outcomes"):
        simulate_votes({"a": "moon"}, rng=1)
    with pytest.raises(ValueError, match="votes_per_subject must be a whole number from 1 to 3"):
        simulate_votes(truth, n_voters=3, votes_per_subject=4, rng=1)
    with pytest.raises(ValueError, match="n_voters must be a whole number"):
        simulate_votes(truth, n_voters=0, rng=1)


def test_faint_subjects_can_be_harder():
    """Right answers to the first question follow the log-odds skill - difficulty of a logistic (Rasch 1960)."""
    names = [f"s{k}" for k in range(400)]
    hard = np.where(np.arange(400) < 200, 1.5, -1.5)
    truth = QTable({"source_id": names, "outcome": ["point_source"] * 400, "difficulty": hard})
    votes = simulate_votes(truth, n_voters=200, hesitation=0, rng=1)
    first = votes[votes["question"] == "emission"]
    number = np.array([int(name[1:]) for name in first["source_id"]])
    right = np.array(first["answer"]) == "yes"
    log_odds = np.random.default_rng(0).normal(2.5, 0.9, 100_000) - np.random.default_rng(1).normal(0, 0.8, 100_000)
    for chosen, shift in ((number < 200, 1.5), (number >= 200, -1.5)):
        expected = 0.95 * np.mean(1 / (1 + np.exp(shift - log_odds))) + 0.05 * 0.5
        assert np.mean(right[chosen]) == pytest.approx(expected, abs=0.03)
    plain = simulate_votes(truth[["source_id", "outcome"]], n_voters=200, hesitation=0, rng=1)
    truth["difficulty"] = 0.0
    assert simulate_votes(truth, n_voters=200, hesitation=0, rng=1)["answer"].tolist() == plain["answer"].tolist()
    truth["difficulty"][3] = np.nan
    with pytest.raises(ValueError, match=r"difficulty must be finite, got \[nan\]"):
        simulate_votes(truth, rng=1)


def test_times_are_compared_to_the_fraction_of_a_second_and_in_either_form(tmp_path):
    stamps = ("2019-06-12T15:05:22.900Z", "2019-06-12T15:05:22.100Z")
    rows = [
        row(k, answers=(said,), created_at=time) for k, said, time in zip((1, 2), ("Yes", "No"), stamps, strict=True)
    ]
    path = write(tmp_path / "a.csv", rows)
    votes, report = read_votes(path)
    assert votes["time"].tolist() == list(stamps)
    assert report["problem"].tolist() == ["duplicate"] and report["text"].tolist() == ["yes"]
    rows = [("s", "v", "emission", "yes", "2019-06-12 15:05"), ("s", "v", "emission", "no", "2019-06-12T14:00")]
    plain = QTable(rows=rows, names=("source_id", "voter_id", "question", "answer", "time"))
    assert check_votes(plain)["row"].tolist() == [0]


def test_names_that_are_no_utf8_stay_different(tmp_path):
    lines = ["source_id,voter_id,question,answer,time", "s,M\xfcller,emission,yes,", "s,M\xf6ller,emission,no,"]
    (tmp_path / "votes.csv").write_bytes("\n".join(lines).encode("latin-1"))
    votes, report = read_votes(tmp_path / "votes.csv")
    assert votes["voter_id"].tolist() == ["M\\udcfcller", "M\\udcf6ller"] and len(report) == 0
    tables.write(votes, tmp_path / "votes.ecsv")
    half = json.dumps({"101": {"source_id": "a\ud800b"}})
    votes, _ = read_votes(write(tmp_path / "half.csv", [row(1, subject_data=half)]))
    assert votes["source_id"].tolist() == ["a\\ud800b"]
    tables.write(votes, tmp_path / "half.ecsv")


def test_a_subject_that_was_cut_off_is_not_another_one(tmp_path):
    rows = [row(k, user=f"u{k}", subject=subject) for k, subject in enumerate(("1", "12", "12"))]
    path = write(tmp_path / "cut.csv", rows)
    text = path.read_text().rstrip()
    assert text.endswith(",12")
    path.write_text(text[:-1])
    votes, report = read_votes(path)
    assert votes["source_id"].tolist() == ["src-1", "src-12"]
    assert report["problem"].tolist() == ["malformed_subject"] and report["line"].tolist() == [4]


def test_the_report_names_sources_as_the_votes_do(tmp_path):
    _, report = read_votes(
        write(tmp_path / "a.csv", [row(1, answers=("Perhaps",)), row(2, annotations="["), row(3, user="bob")])
    )
    assert report["source_id"].tolist() == ["src-101", "src-101"]


def test_files_that_are_no_votes(tmp_path):
    (tmp_path / "long.csv").write_text("x" * 200_000)
    with pytest.raises(SchemaError, match="not an export of classifications"):
        read_votes(tmp_path / "long.csv")
    (tmp_path / "no-time.csv").write_text("source_id;voter_id;question;answer;time\n")
    with pytest.raises(SchemaError, match="nor a table of votes, which has .'source_id', .*; got .'source_id;voter_id"):
        read_votes(tmp_path / "no-time.csv")
    votes = simulate_votes({"a": "edge"}, n_voters=4, votes_per_subject=3, rng=1)
    votes.write(tmp_path / "votes.csv")
    tables.write(votes, tmp_path / "votes.ecsv")
    for ending in ("csv", "ecsv"):
        with pytest.raises(ValueError, match="versions and workflow_id are for exports"):
            read_votes(tmp_path / f"votes.{ending}", versions=["16"])


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("metadata", json.dumps({"session": "s", "note": "x" * 200_000})),
        ("metadata", json.dumps({"session": "s", "note": "two\nlines\r\n" * 20_000}).replace("\\n", "\n")),
        ("user_name", "b\0b"),
        ("user_name", "b\nb"),
        ("user_name", "b" * 300_000),
    ],
    ids=["long", "long-lines", "null", "newline", "long-name"],
)
def test_any_field_that_csv_can_hold(tmp_path, column, text):
    before = csv.field_size_limit()
    path = write(tmp_path / "e.csv", [row(1, "ann"), row(2, "bob", **{column: text}), row(3, "mia")])
    votes, report = read_votes(path)
    assert len(votes) == 3 and len(report) == 0
    assert votes["voter_id"].tolist()[::2] == ["ann", "mia"]
    if column == "metadata":
        assert votes["voter_id"][1] == "bob"
    else:
        assert votes["voter_id"][1].startswith("b") and "\0" not in votes["voter_id"][1]
    assert csv.field_size_limit() == before


def test_an_open_quote_takes_nothing_from_the_rest(tmp_path):
    path = write(tmp_path / "e.csv", [row(k, f"v{k}") for k in range(1, 2001)])
    lines = path.read_bytes().split(b"\r\n")
    lines[5] = b'5,"' + lines[5]
    path.write_bytes(b"\r\n".join(lines))
    votes, report = read_votes(path)
    assert len(votes) == 1999 and report["line"].tolist() == [6]


def test_times_are_text_or_time_or_unknown(tmp_path):
    texts = ["2019-06-12T10:00:02", "2019-06-12T10:00:01"]
    votes = QTable({"source_id": ["a", "a"], "voter_id": ["v", "v"], "question": ["emission"] * 2})
    votes["answer"] = ["yes", "no"]
    as_text, as_time = votes.copy(), votes.copy()
    as_text["time"], as_time["time"] = texts, Time(texts)
    for table in (as_text, as_time):
        assert check_votes(table)["row"].tolist() == [0]  # the second row is the earlier one
    assert check_votes(votes)["row"].tolist() == [1]
    votes.write(tmp_path / "votes.csv", format="ascii.csv")
    read, report = read_votes(tmp_path / "votes.csv")
    assert read["time"].tolist() == ["", ""] and report["row"].tolist() == [1]


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "votes.csv")
    with pytest.raises(SchemaError, match="not a regular file"):
        read_votes(tmp_path / "votes.csv")
