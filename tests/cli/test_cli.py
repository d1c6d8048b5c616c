"""The command line: help, exit codes, one-line errors, and tables where they were asked for."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify import nn, tables
from astroclassify.cli import main
from astroclassify.images import write_image

VERBS = ["demo", "simulate", "train", "evaluate", "reproduce", "classify", "models", "detect", "cutouts", "votes"]
VERBS += ["inspect"]


def _beta_image(shape=(300, 300), core=12.0, total=2e4, seed=1):
    y, x = np.indices(shape) - (np.array(shape)[:, None, None] - 1) / 2
    model = (1 + (x**2 + y**2) / core**2) ** -1.5
    counts = np.random.default_rng(seed).poisson(total * model / model.sum())
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [55.7, -53.6]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-4 / 3600, 4 / 3600]
    return CCDData(counts.astype(float), unit=u.ct, wcs=wcs, meta={"EXPOSURE": 1e4})


@pytest.fixture
def image_path(tmp_path):
    """A beta-model cluster as FITS."""
    return str(write_image(_beta_image(), tmp_path / "cluster.fits"))


def test_help_of_every_verb(capsys):
    for arguments in [["--help"], *([verb, "--help"] for verb in VERBS)]:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
    assert "redshift" in capsys.readouterr().out


def test_models_lists_the_packaged_one(capsys):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip() == str(nn.list_classifiers())
    assert "coolcore\n  classes      CC WCC NCC\n" in out


def test_classify_writes_one_row(image_path, tmp_path, capsys):
    out = tmp_path / "table.ecsv"
    arguments = ["classify", image_path, "--redshift", "0.0597", "--model", "coolcore", "--out", str(out)]
    assert main(arguments) == 0
    table = tables.read(out, tables.PREDICTIONS)
    assert len(table) == 1 and table["source_id"][0] == "cluster"
    assert table["p_CC"][0] + table["p_WCC"][0] + table["p_NCC"][0] == pytest.approx(1.0, abs=1e-6)
    assert "other_instrument" in capsys.readouterr().err
    # A table that is there is not replaced.
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_classify_takes_a_position(image_path, capsys):
    for position in ["55.7 -53.6", "03:42:48 -53:36:00"]:
        arguments = ["classify", image_path, "--redshift", "0.06", "--model", "coolcore"]
        assert main([*arguments, "--position", position]) == 0
        assert "label_pred" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--position", "nowhere"], "--position"),
        (["--position", "10 10"], "off the image"),
        (["--redshift", "-1"], "redshift"),
    ],
)
def test_classify_bad_input_is_one_line(image_path, change, text, capsys):
    arguments = ["classify", image_path, "--redshift", "0.06", "--model", "coolcore", *change]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("astroclassify: error: ") and text in error[-1]


def test_classify_without_redshift_or_file(image_path, tmp_path, capsys):
    assert main(["classify", image_path, "--model", "coolcore"]) == 2
    assert "redshift is needed" in capsys.readouterr().err
    assert main(["classify", str(tmp_path / "none.fits"), "--redshift", "0.1", "--model", "coolcore"]) == 2
    assert "none.fits" in capsys.readouterr().err


def test_one_bad_image_among_good_ones_keeps_its_row(image_path, tmp_path, capsys):
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"SIMPLE  =")
    out = tmp_path / "t.ecsv"
    arguments = ["classify", image_path, str(broken), "--redshift", "0.06", "--model", "coolcore"]
    assert main([*arguments, "--out", str(out)]) == 1
    table = tables.read(out, tables.PREDICTIONS)
    assert list(table["source_id"]) == ["cluster", "broken"]
    assert table["label_pred"][1] == "" and table["message"][1]
    assert f"1 of 2 images failed ({table['message'][1]})" in capsys.readouterr().err.splitlines()[-1]


def test_bad_folders(tmp_path, capsys):
    assert main(["train", str(tmp_path / "nothing"), "--out", str(tmp_path / "model")]) == 2
    assert "not a sample" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "nothing"), "--model", "coolcore"]) == 2
    assert "not a sample" in capsys.readouterr().err
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    assert main(["demo", "--out", str(full), "--workers", "1"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(nn, "list_classifiers", interrupt, raising=False)
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "astroclassify: error: interrupted\n"


def test_installed_command_ends_with_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from astroclassify.cli import main; sys.exit(main())", "classify"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "usage" in done.stderr


@pytest.mark.real_data
def test_rosat_image_of_a3158(shared_data, tmp_path, capsys):
    path = shared_data / "rosat" / "pyproffit_b_37.fits.gz"
    out = tmp_path / "table.ecsv"
    arguments = ["classify", str(path), "--redshift", "0.0597", "--model", "coolcore", "--out", str(out)]
    assert main(arguments) == 0
    table = tables.read(out, tables.PREDICTIONS)
    assert len(table) == 1
    assert table["p_CC"][0] + table["p_WCC"][0] + table["p_NCC"][0] == pytest.approx(1.0, abs=1e-6)
    printed = capsys.readouterr().err
    for flag in ("no_exposure", "coarse_pixels", "other_instrument"):
        assert flag in printed


def test_simulate_names_a_missing_chunk(tmp_path, capsys):
    for name in ("pyxsim", "illustris_python", "h5py"):
        if importlib.util.find_spec(name) is None:
            pytest.skip("needs the extra sim")
    from astroclassify.sim import EmbeddedPopulation, write_embedded_snapshot

    base = write_embedded_snapshot(
        tmp_path / "snapshot", EmbeddedPopulation(4, rng=1, log_mass=(13.8, 15), cell_mass=1e10 * u.Msun)
    )
    (base / "snapdir_099" / "snap_099.1.hdf5").unlink()
    out = tmp_path / "sample"
    assert main(["simulate", "--base-path", str(base), "--out", str(out), "--axes", "z", "--exposure", "1"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("astroclassify: ") and "of 4 images failed" in error and "099.1.hdf5" in error
    sample = tables.read_sample(out)
    assert len(sample) == 4 and any(sample["message"] != "")
