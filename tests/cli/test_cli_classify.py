"""Verbs classify and train: nothing that was done is lost, redshifts from catalogues, names of files."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from astroclassify import tables
from astroclassify.cli import main

MODEL = ("--model", "coolcore")
COMMAND = "import sys; from astroclassify.cli import main; sys.exit(main())"
HEADER = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 32.5, "CRPIX2": 32.5, "CRVAL1": 150.0, "CRVAL2": 2.0,
          "CDELT1": -0.004, "CDELT2": 0.004, "BUNIT": "count", "EXPOSURE": 1e4}  # fmt: skip


def write(path, seed=0, **header):
    path.parent.mkdir(exist_ok=True, parents=True)
    counts = np.random.default_rng(seed).poisson(1.0, (64, 64)).astype(np.int16)
    fits.PrimaryHDU(counts, fits.Header({**HEADER, **header})).writeto(path, overwrite=True)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Images in a folder, one of which cannot be read."""
    for number in range(40):
        write(tmp_path / "images" / f"{number:03d}.fits", number)
    (tmp_path / "images" / "bad.fits").write_bytes(b"SIMPLE  =")
    return tmp_path / "images"


def end(arguments, part, sent, *, least=6):
    """Start the command and send it a signal once so many rows are in the file beside its output."""
    # A shell in the background hands Ctrl-C down ignored, which the command would respect.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + COMMAND
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True) as process:
        while not part.exists() or part.read_bytes().count(b"\n") < least + 1:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(sent)
        error = process.stderr.read()
    return process.returncode, error


def same(one, other):
    assert one.colnames == other.colnames and len(one) == len(other)
    for name in one.colnames:
        assert np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f"), name


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_what_was_done_is_not_lost(folder, tmp_path, sent):
    whole, out = tmp_path / "whole.ecsv", tmp_path / "out.ecsv"
    part = tmp_path / "out.ecsv.part"
    arguments = ["classify", str(folder), "--redshift", "0.1", *MODEL, "--out"]
    assert main([*arguments, str(whole)]) == 1 and not (tmp_path / "whole.ecsv.part").exists()
    status, error = end([*arguments, str(out)], part, sent)
    assert status == (-9 if sent == signal.SIGKILL else 130) and "Traceback" not in error and not out.exists()
    with part.open("ab") as file:
        file.write(b'["a line cut off')
    n_there = part.read_bytes().count(b"\n") - 1
    assert 6 <= n_there < 40
    again = subprocess.run([sys.executable, "-c", COMMAND, *arguments, str(out)], capture_output=True, text=True)
    assert again.returncode == 1 and f"resumed: {n_there} of 41 rows were there" in again.stderr
    same(tables.read(out, tables.PREDICTIONS), tables.read(whole, tables.PREDICTIONS))
    assert not part.exists()


def test_only_what_has_not_changed_is_kept(folder, tmp_path, caplog):
    from astroclassify.nn import load_classifier

    classifier, part = load_classifier("coolcore"), tmp_path / "rows"

    def run(redshift=0.1):
        caplog.clear()
        with caplog.at_level("INFO", logger="astroclassify.nn.models"):
            table = classifier.classify(folder, redshift=redshift, checkpoint=part)
        kept = [int(record.getMessage().split()[1]) for record in caplog.records if "resumed" in record.getMessage()]
        return table, kept

    first, kept = run()
    assert kept == []
    table, kept = run()
    same(table, first)
    assert kept == [40]  # what failed is tried again
    write(folder / "003.fits", 99)
    table, kept = run()
    assert kept == [39] and np.flatnonzero(table["p_CC"] != first["p_CC"]).tolist() == [3, 40]  # NaN is not NaN
    far, kept = run(redshift=[0.2] * 5 + [0.1] * 36)
    assert kept == [35] and np.all(far["p_CC"][:5] != table["p_CC"][:5])
    classifier.predictor_.temperature = 3.0  # another model
    assert run()[1] == [0]


def test_a_checkpoint_is_a_file_of_its_own(folder, tmp_path, capsys):
    notes = tmp_path / "out.ecsv.part"
    notes.write_text("my notes\n")
    assert main(["classify", str(folder), "--redshift", "0.1", *MODEL, "--out", str(tmp_path / "out.ecsv")]) == 2
    assert "is a file of something else" in capsys.readouterr().err and notes.read_text() == "my notes\n"


@pytest.mark.filterwarnings("default:no redshift is given")
def test_redshifts_of_a_catalogue(tmp_path, capsys, caplog):
    paths = [write(tmp_path / "i" / f"A{n}.fits", n, **({"REDSHIFT": 0.3} if n == 2 else {})) for n in range(4)]
    catalogue = tmp_path / "catalogue.fits"
    columns = {"source_id": ["A1", "A0", "A2"], "ra": [150.0] * 3, "dec": [2.0] * 3, "z": [0.1, 0.2, np.nan]}
    table = Table(columns)
    table["ra"].unit = table["dec"].unit = "deg"
    table.write(catalogue)
    out = tmp_path / "out.ecsv"
    assert main(["classify", *paths, "--redshift", f"{catalogue}:z", *MODEL, "--out", str(out)]) == 1
    assert "for 2 of 4 images (e.g. 'A2'): their headers decide" in caplog.text
    found = tables.read(out)
    for row, redshift in ((0, "0.2"), (1, "0.1"), (2, "0.3")):
        one = tmp_path / f"{row}.ecsv"
        assert main(["classify", paths[row], "--redshift", redshift, *MODEL, "--out", str(one)]) == 0
        assert tables.read(one)["p_CC"][0] == pytest.approx(found["p_CC"][row], abs=1e-6)
    assert found["label_pred"][3] == "" and "redshift is needed" in found["message"][3]
    for text, why in (
        (f"{catalogue}:v", "has no column 'v'"),
        ("near", "a number or CATALOGUE:COLUMN"),
        (f"{tmp_path}/none.fits:z", "no file"),
        (f"{catalogue}:source_id", "must hold numbers"),
    ):
        assert main(["classify", *paths, "--redshift", text, *MODEL]) == 2
        assert why in capsys.readouterr().err.splitlines()[-1]
    capsys.readouterr()
    assert main(["classify", write(tmp_path / "i" / "B.fits"), "--redshift", f"{catalogue}:z", *MODEL]) == 2
    assert "for none of the 1 images, whose source_id are such as 'B'" in capsys.readouterr().err


def test_files_of_one_name_beside_a_catalogue(tmp_path):
    paths = [write(tmp_path / name / "broad_thresh.img", n) for n, name in enumerate(("12345", "12346"))]
    catalogue, out = tmp_path / "c.ecsv", tmp_path / "out.ecsv"
    names = ["12346/broad_thresh", "12345/broad_thresh", "none"]
    Table({"source_id": names, "ra": [1.0] * 3, "dec": [1.0] * 3}, units={"ra": "deg", "dec": "deg"}).write(catalogue)
    arguments = ["classify", *paths, "--redshift", "0.1", *MODEL, "--annotate", str(catalogue), "--out", str(out)]
    assert main(arguments) == 0
    table = tables.read(out)
    assert table["source_id"].tolist() == names and table["message"].tolist() == ["", "", "no prediction"]
    assert np.isfinite(table["p_CC"][:2]).all()


def test_flags_of_many_images_are_counted(folder, tmp_path, capsys):
    assert main(["classify", str(folder), "--redshift", "0.1", *MODEL, "--out", str(tmp_path / "out.ecsv")]) == 1
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("41 images, flags: "))
    assert "other_instrument 40" in line and "failed 1" in line


def test_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from astroclassify.nn import CutoutClassifier

    ids = [f"s{n}" for n in range(12)]
    for number, name in enumerate(ids):
        write(tmp_path / "sample" / "images" / f"{name}.fits", number, REDSHIFT=0.1)
    sample = tables.empty(tables.SAMPLE)
    for number, name in enumerate(ids):
        row = {"source_id": name, "group_id": name, "path": f"images/{name}.fits", "redshift": 0.1}
        units = {key: np.nan * kind for key, kind in tables.SAMPLE.columns if not isinstance(kind, str)}
        label = ("CC", "WCC", "NCC")[number % 3]
        sample.add_row({**row, **units, "label": label, "projection": "", "c_sb": np.nan, "flags": 0})
    tables.write_sample(sample, tmp_path / "sample")
    arguments = ["train", str(tmp_path / "sample"), "--n-filters", "4", "--epochs", "2", "--out", str(tmp_path / "m")]
    checkpoint = tmp_path / "m.checkpoint"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CutoutClassifier, "save", interrupted)
        assert main(arguments) == 130
    assert (checkpoint / "checkpoint.json").is_file() and "going on" not in capsys.readouterr().err
    assert main(arguments) == 0
    assert f"going on from the checkpoint in {checkpoint}" in capsys.readouterr().err
    assert (tmp_path / "m" / "model.json").is_file() and not checkpoint.exists()
