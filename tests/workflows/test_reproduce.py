"""The papers' tables as one command, on samples of a few images: what is trained, kept, refused and written."""

import contextlib
import io
import json
import logging
import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from astropy.wcs import WCS

from astroclassify import tables
from astroclassify.cli import main
from astroclassify.exceptions import OutputError, SchemaError
from astroclassify.images import Geometry, write_image
from astroclassify.nn import RankClassifier, ThresholdClassifier, load_classifier, score, score_seeds
from astroclassify.schemes import CANDIDATE, COOL_CORE, Flag
from astroclassify.sim import simulate_candidates
from astroclassify.workflows import _reproduce

CLASSES = ("low-z", "hi-z", "galaxy", "point", "other")
QUICK = ["--pixels", "32", "--set", "iterations=2", "n_filters=2", "validation_fraction=0"]


def archive(root):
    """The layout of Zenodo record 7236582: 10 pictures to train, one of an unknown class, 5 to test."""
    pillow = pytest.importorskip("PIL.Image")
    folder = root / "Kosiba2020"
    for split, first, n in (("train", 100, 11), ("test", 200, 5)):
        (folder / f"{split}_images").mkdir(parents=True)
        names = [CLASSES[number % 5] for number in range(n)]
        if split == "train":
            names[-1] = "quasar"
        lines = ["image_id,class", *(f"{first + number},{name}" for number, name in enumerate(names))]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for number in range(n):
            pixels = np.random.default_rng(first + number).integers(0, 40, (356, 356, 3)).astype(np.uint8)
            pillow.fromarray(pixels).save(folder / f"{split}_images" / f"{first + number}.png")
    return root


def run(*arguments):
    """Exit status and standard output of the verb."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        status = main(["reproduce", *map(str, arguments)])
    return status, stream.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of the archive, its results, and what the command printed: one row, two seeds."""
    pytest.importorskip("torch")
    root = archive(tmp_path_factory.mktemp("archive"))
    status, printed = run("kosiba2020", root, "--out", root / "out", "--rows", "cn", "--runs", 2, *QUICK)
    assert status == 0
    return root, root / "out", printed


@pytest.fixture(scope="module")
def cool_core(tmp_path_factory):
    """Sample of twelve clusters, two images each of 32 x 32 pixels; n_e tells the class, one c_sb is wrong."""
    folder = tmp_path_factory.mktemp("cool") / "sample"
    (folder / "images").mkdir(parents=True)
    number = np.repeat(np.arange(12), 2)
    sample = QTable({"source_id": [f"c{i}-{'xy'[k % 2]}" for k, i in enumerate(number)]})
    sample["group_id"] = [f"c{i}" for i in number]
    sample["path"] = [f"images/{name}.fits" for name in sample["source_id"]]
    sample["label"] = np.array(COOL_CORE.classes)[number % 3]
    sample["projection"] = ["x", "y"] * 12
    sample["redshift"] = 0.05
    sample["m_500"], sample["r_500"] = 1e14 * u.Msun, 700 * u.kpc
    sample["t_cool"] = np.array([5.0, 7, 9])[number % 3] * u.Gyr
    sample["n_e"] = np.array([0.02, 0.01, 0.001])[number % 3] / u.cm**3
    sample["c_sb"] = np.array([0.25, 0.1, 0.05])[number % 3]
    sample["c_sb"][0] = 0.01
    sample["flags"] = 0
    pixel = Geometry(1 * u.Mpc, (32, 32)).pixel_width(0.05).to_value(u.deg)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [30.0, 10.0], [16.5, 16.5], [-pixel, pixel]
    rng = np.random.default_rng(5)
    for path, group in zip(sample["path"], number, strict=True):
        counts = rng.poisson(1.0 + group % 3, (32, 32)).astype(float)
        write_image(CCDData(counts, unit=u.ct, wcs=wcs, meta={"REDSHIFT": 0.05}), folder / path)
    sample["flags"][-1], sample["path"][-1] = Flag.FAILED.value, ""
    sample.meta["scheme"] = COOL_CORE.to_dict()
    tables.write_sample(sample, folder)
    return folder


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    """Thirty simulated candidates, in small images."""
    folder = tmp_path_factory.mktemp("simulated") / "candidates"
    simulate_candidates(30, rng=1, out=folder, shape=(32, 32), progress=False)
    return folder


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name.startswith("predictions")}


def refused(capsys, *arguments):
    """The one line of an error, exit status 2."""
    status, printed = run(*arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and printed == "" and lines[-1].startswith("astroclassify: error: ")
    return lines[-1]


def test_archive_to_tables_in_one_command(finished):
    _, out, printed = finished
    names = {f"kosiba2020-table{number}.{ending}" for number in (5, 6) for ending in ("csv", "ecsv")}
    assert {path.name for path in out.iterdir()} == {*names, "predictions-cn.ecsv", "sample"}
    predictions = tables.read(out / "predictions-cn.ecsv")
    assert predictions["source_id"].tolist() == [str(number) for number in range(200, 205)] * 2
    assert predictions["label"].tolist() == ["cluster", "cluster", "other", "other", "other"] * 2
    assert not np.any(predictions["flags"] & Flag.FAILED.value)
    made = json.loads(predictions.meta["reproduce"])
    assert (made["n_runs"], made["seed"]) == (2, 0) and made["parameters"]["iterations"] == 2
    assert made["parameters"]["geometry"]["shape"] == [32, 32] and made["parameters"]["optimizer"] == "sgd"
    # The archive has grey levels, not counts.
    assert made["parameters"]["stretch"] == "linear" and made["parameters"]["count_bands"] == []
    assert "kosiba2020-table5\n" in printed and "kosiba2020-table6\n" in printed and "accuracy" in printed


def test_printed_and_measured_rows_stand_beside_each_other(finished):
    _, out, _ = finished
    table = tables.read(out / "kosiba2020-table5.ecsv")
    rows = list(zip(table["method"].tolist(), table["source"].tolist(), strict=True))
    assert rows[:2] == [("CN, expert labels", "Kosiba et al. 2020"), ("CN, expert labels", "measured")]
    assert [source for _, source in rows].count("measured") == 1 and len(rows) == 9
    assert table["accuracy"][0] == 0.90 and table["accuracy_std"][0] == 0.03
    ours = score_seeds(tables.read(out / "predictions-cn.ecsv"))
    for name in ("accuracy", "precision", "recall", "auc"):
        assert table[name][1] == ours[name][0] and table[f"{name}_std"][1] == ours[f"{name}_std"][0]
    text = Table.read(out / "kosiba2020-table5.csv", format="ascii.csv")
    assert text["accuracy"][0] == "0.90+-0.03"
    assert text["accuracy"][1] == f"{ours['accuracy'][0]:.2f}+-{ours['accuracy_std'][0]:.2f}"
    assert "measured" not in tables.read(out / "kosiba2020-table6.ecsv")["source"]


def test_finished_rows_are_kept_and_left_out_rows_are_told(finished, caplog):
    root, out, printed = finished
    before = times(out)
    # The folder of the lists, or the one that it lies in.
    with caplog.at_level(logging.INFO, "astroclassify"):
        status, again = run("kosiba2020", root / "Kosiba2020", "--out", out, "--rows", "cn", "cn", "--runs", 2, *QUICK)
    assert status == 0 and times(out) == before
    assert "predictions-cn.ecsv exists already" in caplog.text
    assert "1 of 16 rows have no label or no image and are left out" in caplog.text
    strip = [[line for line in text.splitlines() if "date" not in line] for text in (printed, again)]
    assert strip[0] == strip[1]


def test_a_further_row_is_added_to_the_same_tables(finished, tmp_path):
    root, out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    before = times(tmp_path / "out")
    # --set may come more than once; one seed has no scatter.
    arguments = ["--rows", "cn-five", "--runs", 1, "--pixels", 32, "--set", "iterations=1", "--set", "n_filters=2"]
    assert run("kosiba2020", root, "--out", tmp_path / "out", *arguments)[0] == 0
    after = times(tmp_path / "out")
    assert set(after) == {"predictions-cn.ecsv", "predictions-cn-five.ecsv"}
    assert after["predictions-cn.ecsv"] == before["predictions-cn.ecsv"]
    predictions = tables.read(tmp_path / "out" / "predictions-cn-five.ecsv")
    assert predictions["label"].tolist() == list(CANDIDATE.classes)
    made = json.loads(predictions.meta["reproduce"])["parameters"]
    assert (made["iterations"], made["n_filters"], made["scheme"]) == (1, 2, "candidate")
    five = Table.read(tmp_path / "out" / "kosiba2020-table6.csv", format="ascii.csv")
    assert five["source"].tolist()[-2:] == ["Kosiba et al. 2020", "measured"] and "+-" not in str(five["low_z_auc"][-1])
    assert "measured" in tables.read(tmp_path / "out" / "kosiba2020-table5.ecsv")["source"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (["--seed", 1], "seed is 0 there and 1 now"),
        (["--runs", 3], "n_runs is 2 there and 3 now"),
        (["--set", "iterations=3"], "iterations is 2 there and 3 now"),
        (["--set", 'augmentation=["flip"]'], "augmentation is ['flip', 'turn', 'shift'] there and ['flip'] now"),
        (["--pixels", 40], "geometry is "),
    ],
)
def test_rows_with_other_settings_are_refused(finished, changes, text, capsys):
    root, out, _ = finished
    before = times(out)
    # A row that is not there yet is not trained before the other one is refused.
    arguments = ["kosiba2020", root, "--out", out, "--rows", "cn-xray", "cn", "--runs", 2, *QUICK]
    error = refused(capsys, *arguments, *changes)
    assert "predictions-cn.ecsv' was made with other settings" in error and text in error
    assert "choose another folder" in error and times(out) == before


def test_rows_of_another_sample_are_refused(finished, tmp_path, capsys):
    root, out, _ = finished
    shutil.copytree(root / "Kosiba2020", tmp_path / "Kosiba2020")
    shutil.copytree(out, tmp_path / "out")
    lists = tmp_path / "Kosiba2020" / "train.csv"
    lists.write_text(lists.read_text().replace("101,hi-z", "101,point"))
    error = refused(capsys, "kosiba2020", tmp_path, "--out", tmp_path / "out", "--rows", "mn", *QUICK)
    assert "predictions-cn.ecsv' was made of another sample" in error
    (tmp_path / "out" / "predictions-cn.ecsv").write_text("nothing of the kind")
    error = refused(capsys, "kosiba2020", tmp_path, "--out", tmp_path / "out", "--rows", "mn", *QUICK)
    assert "predictions-cn.ecsv' cannot be read" in error


def test_samples_of_other_seeds_are_other_samples(tmp_path):
    """Names and labels of simulated candidates do not depend on the seed."""
    samples = [
        simulate_candidates(2, rng=seed, out=tmp_path / str(k), shape=(32, 32), progress=False)
        for k, seed in enumerate((1, 1, 2))
    ]
    digests = [_reproduce._digest(tables.read_sample(tmp_path / str(k))) for k in range(3)]
    assert samples[0]["label"].tolist() == samples[2]["label"].tolist()
    assert digests[0] == digests[1] != digests[2]
    split = samples[0].copy()
    split["split"] = ["train", "test"]
    assert _reproduce._digest(split) != _reproduce._digest(samples[0])


def test_simulated_candidates_have_a_fixed_test_set(candidates, tmp_path):
    pytest.importorskip("torch")
    found = []
    for number, seed in enumerate((3, 3, 4)):
        arguments = ["--rows", "cn-xray", "--runs", 1, "--seed", seed, *QUICK]
        assert run("kosiba2020", candidates, "--out", tmp_path / str(number), *arguments)[0] == 0
        found.append(tables.read(tmp_path / str(number) / "predictions-cn-xray.ecsv"))
    first, again, other = found
    assert first["source_id"].tolist() == again["source_id"].tolist() == other["source_id"].tolist()
    assert first["label"].tolist().count("cluster") == 1 and len(first) == 2
    # The same seed gives the same predictions, another seed others.
    assert np.array_equal(first["p_cluster"], again["p_cluster"])
    assert not np.array_equal(first["p_cluster"], other["p_cluster"])
    made = json.loads(first.meta["reproduce"])["parameters"]
    assert made["stretch"] == "log" and made["count_bands"] == ["xray"] and made["bands"] == ["xray"]
    table = tables.read(tmp_path / "0" / "kosiba2020-table5.ecsv")
    assert table["method"][table["source"] == "measured"].tolist() == ["CN, X-ray only"]


def test_volunteers_of_a_simulated_sample_are_simulated(candidates, tmp_path, caplog):
    pytest.importorskip("torch")
    with caplog.at_level(logging.INFO, "astroclassify"):
        arguments = ["--rows", "cn-volunteers", "--runs", 1, *QUICK]
        assert run("kosiba2020", candidates, "--out", tmp_path / "out", *arguments)[0] == 0
    assert "volunteers' labels, train: {'cluster': " in caplog.text
    predictions = tables.read(tmp_path / "out" / "predictions-cn-volunteers.ecsv")
    # They train, but the truth tests.
    assert sorted(predictions["label"].tolist()) == ["cluster", "other"]
    table = tables.read(tmp_path / "out" / "kosiba2020-table5.ecsv")
    assert table["method"][table["source"] == "measured"].tolist() == ["CN, volunteer labels"]


def test_columns_of_a_sample_say_what_volunteers_and_splits_are(candidates, tmp_path, caplog, capsys):
    pytest.importorskip("torch")
    shutil.copytree(candidates, tmp_path / "sample")
    sample = tables.read_sample(candidates)
    del sample["source_counts"]
    sample["split"] = np.resize(["train", "train", "validation", "test"], len(sample)).astype("U10")
    tables.write_sample(sample, tmp_path / "sample", overwrite=True)
    arguments = ["kosiba2020", tmp_path / "sample", "--runs", 1, *QUICK, "--out"]
    error = refused(capsys, *arguments, tmp_path / "none", "--rows", "cn", "mn-volunteers")
    assert "must have a column 'label_volunteers' for the rows ['mn-volunteers']" in error
    sample["label_volunteers"] = np.resize(["low_z", "point", "high_z", "other", "cluster", "", "galaxy"], len(sample))
    tables.write_sample(sample, tmp_path / "sample", overwrite=True)
    with caplog.at_level(logging.INFO, "astroclassify"):
        assert run(*arguments, tmp_path / "out", "--rows", "cn-volunteers")[0] == 0
    cluster = np.isin(sample["label_volunteers"], ["low_z", "high_z", "cluster"])
    said = sample["label_volunteers"] != ""
    for name in ("train", "validation"):
        rows = said & (sample["split"] == name)
        numbers = {"cluster": int(np.sum(rows & cluster)), "other": int(np.sum(rows & ~cluster))}
        assert f"volunteers' labels, {name}: {numbers}" in caplog.text
    predictions = tables.read(tmp_path / "out" / "predictions-cn-volunteers.ecsv")
    tested = sample[sample["split"] == "test"]
    assert predictions["source_id"].tolist() == tested["source_id"].tolist()
    assert np.array_equal(predictions["label"] == "cluster", np.isin(tested["label"], ["low_z", "high_z"]))
    for column, value in (("label_volunteers", "quasar"), ("split", "later")):
        wrong = sample.copy()
        wrong[column] = wrong[column].astype("U12")
        wrong[column][0] = value
        tables.write_sample(wrong, tmp_path / "sample", overwrite=True)
        error = refused(capsys, *arguments, tmp_path / column, "--rows", "cn-volunteers")
        assert f"{column} must be" in error and f"got ['{value}']" in error


def test_rows_that_a_sample_has_no_labels_for_are_left_out(finished, tmp_path, caplog, monkeypatch):
    root, out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    trained = []
    monkeypatch.setattr(_reproduce, "_train_row", lambda row, *rest: trained.append(row.method))
    changes = {"iterations": 2, "n_filters": 2, "validation_fraction": 0}
    with caplog.at_level(logging.INFO, "astroclassify"):
        _reproduce.reproduce("kosiba2020", root, tmp_path / "out", n_runs=2, pixels=32, changes=changes)
    assert "left out for want of a column 'label_volunteers': cn-volunteers, mn-volunteers" in caplog.text
    assert len(trained) == 7 and not any("volunteer" in method for method in trained)


def test_test_set_has_the_size_of_the_papers_and_splits_no_group():
    n = 2000
    values = {"str": np.resize(["x"], n), "int": np.zeros(n, int), "float": np.zeros(n)}
    kinds = tables.SAMPLE.kinds()
    sample = QTable({name: values.get(kind) if isinstance(kind, str) else np.zeros(n) * kind
                     for name, kind in kinds.items()})  # fmt: skip
    sample["source_id"] = sample["group_id"] = [f"s{number}" for number in range(n)]
    sample["label"] = np.array(CANDIDATE.classes)[np.arange(n) % 5]
    sample.meta["scheme"] = CANDIDATE.to_dict()
    cluster = np.isin(sample["label"], ["low_z", "high_z"])
    roles = _reproduce._splits(sample)
    assert np.sum(roles[cluster] == "test") == np.sum(roles[~cluster] == "test") == 85
    assert np.array_equal(roles, _reproduce._splits(sample))
    # As many of both, although the others are fewer.
    some = sample[np.r_[np.flatnonzero(cluster), np.flatnonzero(~cluster)[:408]]]
    assert np.sum(_reproduce._splits(some)[800:] == "test") == len(some) // 20 == 60
    assert np.sum(_reproduce._splits(sample[:300]) == "test") == 30
    rare = _reproduce._splits(some[:804])
    assert np.sum(rare[800:] == "test") == 2 and np.sum(rare[:800] == "test") == 40
    assert sorted(_reproduce._splits(sample[:5])) == ["test"] * 2 + ["train"] * 3
    sample["group_id"] = [f"g{number // 2}" for number in range(n)]
    roles = _reproduce._splits(sample)
    assert not set(sample["group_id"][roles == "test"]) & set(sample["group_id"][roles == "train"])


def test_cool_cores_in_folds_beside_the_conventional_measures(cool_core, tmp_path, caplog):
    pytest.importorskip("torch")
    out = tmp_path / "out"
    arguments = ["--rows", "resnet18", "--runs", 3, "--pixels", 32, "--set", "epochs=1", "n_filters=2", "batch_size=8"]
    status, printed = run("su2020", cool_core, "--out", out, *arguments)
    assert status == 0 and "1 of 24 rows have no label or no image and are left out" in caplog.text
    assert {path.name for path in out.iterdir()} == {"predictions-resnet18.ecsv", "su2020.csv", "su2020.ecsv"}
    sample = tables.read_sample(cool_core)[:-1]
    predictions = tables.read(out / "predictions-resnet18.ecsv")
    assert predictions["source_id"].tolist() == sample["source_id"].tolist() and set(predictions["fold"]) == {0, 1, 2}
    assert all(len(set(predictions["fold"][predictions["group_id"] == group])) == 1 for group in sample["group_id"])
    table = tables.read(out / "su2020.ecsv")
    measured = {str(row["method"]): row for row in table if row["source"] == "measured"}
    assert set(measured) == {"ResNet-18", "central n_e", "C_SB (fixed cuts)", "C_SB (ranked)"}
    places = table["method"].tolist()
    assert all(places.index(name) + 1 == len(places) - 1 - places[::-1].index(name) for name in measured)
    assert measured["ResNet-18"]["mean_f1"] == score(predictions)["f1"][-1]
    assert measured["central n_e"]["mean_f1"] == 1
    expected = {
        "C_SB (fixed cuts)": ThresholdClassifier("c_sb").fit(sample).classify(sample),
        "C_SB (ranked)": RankClassifier("c_sb").fit(sample).classify(sample),
    }
    for name, answer in expected.items():
        assert measured[name]["mean_f1"] == score(answer)["f1"][-1] < 1
        assert measured[name]["CC_bacc_lo"] <= measured[name]["CC_bacc"] <= measured[name]["CC_bacc_hi"]
    assert "ResNet-18" in printed and "0.79" in (out / "su2020.csv").read_text()


def test_the_network_of_the_packaged_model_is_a_row(cool_core, tmp_path, capsys):
    pytest.importorskip("torch")
    arguments = ["--rows", "profile", "--runs", 3]
    assert run("su2020", cool_core, "--out", tmp_path, *arguments, "--pixels", 32, "--set", "iterations=2")[0] == 0
    made = json.loads(tables.read(tmp_path / "predictions-profile.ecsv").meta["reproduce"])["parameters"]
    packaged = load_classifier("coolcore").get_params()
    assert made["architecture"] == made["stretch"] == "profile"
    same = ("class_weight", "n_filters", "dropout", "batch_size", "epochs", "patience")
    assert {name: made[name] for name in same} == {name: packaged[name] for name in same}
    assert "profile (ours)" in (tmp_path / "su2020.csv").read_text()
    error = refused(capsys, "su2020", cool_core, "--out", tmp_path / "other", *arguments, "--set", "dropout=0.5")
    assert "'dropout' defines the row 'profile'" in error


def test_measures_that_a_sample_does_not_have_are_no_rows(cool_core, tmp_path):
    shutil.copytree(cool_core, tmp_path / "sample")
    sample = tables.read_sample(tmp_path / "sample")
    sample["c_sb"] = np.nan
    tables.write_sample(sample, tmp_path / "sample", overwrite=True)
    table = _reproduce.reproduce("su2020", tmp_path / "sample", tmp_path / "out", rows=())["su2020"]
    assert table["method"][table["source"] == "measured"].tolist() == ["central n_e"]


@pytest.mark.slow
def test_processes_give_the_same_predictions(candidates, tmp_path):
    pytest.importorskip("torch")
    found = []
    for workers in (1, 2):
        arguments = ["--rows", "cn", "--runs", 2, "--workers", workers, *QUICK]
        assert run("kosiba2020", candidates, "--out", tmp_path / str(workers), *arguments)[0] == 0
        found.append(tables.read(tmp_path / str(workers) / "predictions-cn.ecsv"))
    assert np.array_equal(found[0]["p_cluster"], found[1]["p_cluster"])
    assert found[0].meta["reproduce"] == found[1].meta["reproduce"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            ["--rows", "cnn"],
            "rows must be one of ('cn', 'cn-five', 'cn-no-augmentation', 'cn-optical', 'cn-volunteers'",
        ),
        (["--set", "epoch=2"], "no parameter 'epoch' that can be changed here; allowed are ['architecture'"),
        (["--set", "random_state=2"], "no parameter 'random_state' that can be changed here"),
        (["--set", "scheme=candidate"], "no parameter 'scheme' that can be changed here"),
        (["--set", "architecture=mobilenet"], "'architecture' defines the row 'cn'"),
        (["--rows", "cn-xray", "--set", 'bands=["optical"]'], "'bands' defines the row 'cn-xray'"),
        (["--set", "epochs"], "--set takes NAME=VALUE, got 'epochs'"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_read(tmp_path, changes, text, capsys):
    error = refused(capsys, "kosiba2020", tmp_path / "none", "--out", tmp_path / "out", "--rows", "cn", *changes)
    assert text in error and not (tmp_path / "out").exists()


def test_two_folds_cannot_train_validate_and_test(tmp_path, capsys):
    error = refused(capsys, "su2020", tmp_path / "none", "--out", tmp_path / "out", "--runs", 2)
    assert "n_runs must be at least 3 folds for su2020" in error and "got 2" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("epochs=many", "epochs must be a whole number from 1"),
        ("optimizer=sdg", "optimizer must be one of"),
        ("bands=xray", "bands must be a tuple of names, got 'xray'"),
        ("geometry=64", "geometry must be a Geometry, got int"),
        ("n_filters=0", "n_filters must be a whole number from 1"),
    ],
)
def test_bad_values_are_refused_before_anything_is_trained(candidates, tmp_path, setting, text, capsys):
    pytest.importorskip("torch")
    error = refused(capsys, "kosiba2020", candidates, "--out", tmp_path / "out", "--rows", "cn", "--set", setting)
    assert text in error and list((tmp_path / "out").iterdir()) == []


def test_other_words_on_the_command_line_are_usage_errors(tmp_path, capsys):
    for arguments in (["su2021", tmp_path], ["su2020", tmp_path, "--runs", 0], ["su2020", tmp_path]):
        out = ["--out", str(tmp_path / "out")] if arguments != ["su2020", tmp_path] else []
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", *map(str, arguments), *out])
        assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "--help"])
    assert stop.value.code == 0 and "NAME=VALUE" in capsys.readouterr().out


def test_samples_that_do_not_suit_are_named(cool_core, candidates, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    error = refused(capsys, "su2020", candidates, *out, "--rows", "resnet18")
    assert "the sample must have the scheme 'cool-core', got 'candidate'" in error
    error = refused(capsys, "kosiba2020", cool_core, *out, "--rows", "cn")
    assert "the sample must have the scheme 'candidate', got 'cool-core'" in error
    for paper in ("su2020", "kosiba2020"):
        error = refused(capsys, paper, tmp_path / "none", *out)
        assert "none' is not a sample (no sample.ecsv)" in error
    (tmp_path / "Kosiba2020").mkdir()
    (tmp_path / "Kosiba2020" / "test.csv").write_text("image_id,class\n")
    assert "has no train.csv" in refused(capsys, "kosiba2020", tmp_path, *out)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"paper must be one of \('kosiba2020', 'su2020'\), got 'su2021'"):
        _reproduce.reproduce("su2021", tmp_path, tmp_path / "out")
    unnamed = tables.read_sample(cool_core)
    del unnamed.meta["scheme"]
    tables.write_sample(unnamed, tmp_path / "unnamed")
    with pytest.raises(SchemaError, match="must have the scheme 'cool-core', got None"):
        _reproduce.reproduce("su2020", tmp_path / "unnamed", tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_named(cool_core, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="out: cannot make the folder"):
        _reproduce.reproduce("su2020", cool_core, tmp_path / "file" / "out", rows=())


def test_every_row_has_a_printed_place_or_says_that_it_is_ours():
    from astroclassify.nn import CutoutClassifier, paper_table

    for paper, rows in _reproduce.PAPERS.items():
        for row in rows.values():
            printed = paper_table(row.table)["method"].tolist()
            assert row.method in printed or paper == "su2020"
            CutoutClassifier.from_recipe(row.recipe, **row.changes)
