"""The command as a shell sees it: ``python -m``, completion, outputs that are replaced."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

from astroclassify import __version__, tables
from astroclassify.cli import main
from astroclassify.nn import load_classifier


def test_module_is_the_command():
    run = subprocess.run([sys.executable, "-m", "astroclassify", "--version"], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, f"astroclassify {__version__}")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("cl", {"classify"}),
        ("--v", {"--version"}),
        ("cutouts --s", {"--select", "--skyview", "--size"}),
        ("train --over", {"--overwrite"}),
        ("models --x", set()),
        ("classify clus", set()),
    ],
)
def test_completion_in_bash(typed, wanted, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--completion"])
    assert stop.value.code in (0, None)
    script = capsys.readouterr().out
    words = ["astroclassify", *typed.split()]
    script += f"\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _astroclassify; echo ${{COMPREPLY[@]}}\n"
    run = subprocess.run(["bash", "-u"], input=script, capture_output=True, text=True)
    assert run.stderr == "" and set(run.stdout.split()) == wanted


@pytest.fixture
def image(tmp_path):
    """Image of a round source on the pixels of ACIS."""
    y, x = np.indices((128, 128)) - 63.5
    counts = np.random.default_rng(2).poisson(20 / (1 + (x**2 + y**2) / 60) ** 1.5)
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10, "CRVAL2": 5, "CRPIX1": 64.5, "CRPIX2": 64.5}
    cards |= {"CDELT1": -4 / 3600, "CDELT2": 4 / 3600, "CUNIT1": "deg", "CUNIT2": "deg"}
    fits.PrimaryHDU(counts.astype("int32"), fits.Header(cards)).writeto(tmp_path / "round.fits")
    return tmp_path / "round.fits"


def test_overwrite_replaces_files_and_never_folders(image, tmp_path, capsys):
    out, folder = tmp_path / "table.ecsv", tmp_path / "folder.ecsv"
    out.write_text("mine")
    folder.mkdir()
    command = ["classify", str(image), "--redshift", "0.1", "--model", "coolcore"]
    assert main([*command, "--out", str(out)]) == 2 and out.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--out", str(folder), "--overwrite"]) == 2
    assert "is a folder" in capsys.readouterr().err and folder.is_dir()
    assert main([*command, "--out", str(out), "--overwrite"]) == 0
    assert list(tables.read(out, tables.PREDICTIONS)["source_id"]) == ["round"]


def test_train_does_not_begin_where_it_could_not_replace(tmp_path, capsys):
    """A folder that holds more than a model is kept, and that is said before the training."""
    model = tmp_path / "model"
    load_classifier("coolcore").save(model)
    (model / "thesis.tex").write_text("mine")
    assert main(["train", str(tmp_path / "no sample"), "--out", str(model), "--overwrite"]) == 2
    assert "besides a model it holds 'thesis.tex'" in capsys.readouterr().err
    assert (model / "thesis.tex").read_text() == "mine"
