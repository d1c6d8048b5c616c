"""What README promises: its example runs, its commands are those of the package and of CI."""

import re
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

from astroclassify.images import Geometry
from astroclassify.tables import PREDICTIONS, read

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def _blocks(language):
    """Contents of the code blocks of one language."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", README, flags=re.MULTILINE)
    return ["\n".join(line[3:] for line in block.splitlines()).strip() for block in found]


def _write_cluster(path):
    """A beta model with a core of 60 kpc at the redshift of README's example, Poisson counts."""
    pixel = Geometry(1 * u.Mpc, (256, 256)).pixel_width(0.0597).to_value(u.deg)
    y, x = np.mgrid[:256, :256] - 127.5
    model = 20 / (1 + (x**2 + y**2) / 15**2) ** 1.5 + 0.3
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 55.7, "CRVAL2": -53.6, "CRPIX1": 128.5,
                          "CRPIX2": 128.5, "CDELT1": -pixel, "CDELT2": pixel, "BUNIT": "ct"})  # fmt: skip
    counts = np.random.default_rng(1).poisson(model).astype(np.int32)
    fits.PrimaryHDU(counts, header).writeto(path)


def test_example_runs_in_ten_lines(tmp_path, monkeypatch, capsys):
    (example,) = _blocks("python")
    assert len([line for line in example.splitlines() if line]) <= 10
    _write_cluster(tmp_path / "cluster.fits")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.rst", "exec"), {})
    assert "no_exposure" in capsys.readouterr().out
    predictions = read(tmp_path / "predictions.ecsv", PREDICTIONS)
    probabilities = [predictions[name][0] for name in predictions.colnames if name.startswith("p_")]
    assert len(predictions) == 1 and abs(sum(probabilities) - 1) < 1e-6


def test_the_two_commands_are_single_lines():
    commands = [block for block in _blocks("bash") if "venv" in block]
    assert len(commands) == 2 and not any("\n" in command for command in commands)
    assert commands[0].endswith("astroclassify demo") and commands[1].endswith("tox")


def test_picture_is_there():
    (picture,) = re.findall(r"^\.\. image:: (\S+)", README, flags=re.MULTILINE)
    assert (ROOT / picture).is_file()
