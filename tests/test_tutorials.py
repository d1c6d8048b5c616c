"""The scripts behind the tutorial pages run, and write what the pages show."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from astroclassify import tables

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
REAL = "_real.py"  # ending of the scripts that need real observations


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    sorted(path for path in TUTORIALS.glob("*.py") if not path.name.endswith(REAL)),
    ids=lambda path: path.stem,
)
def test_script_writes_the_figures_of_its_page(script, tmp_path):
    for module in ("pyxsim", "matplotlib", "torch"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    run_script(script, tmp_path)
    page = script.with_suffix(".rst").read_text(encoding="utf-8")
    wanted = [name for name in re.findall(r"figures/(\S+)", page) if "_real." not in name]
    assert wanted
    for name in wanted:
        assert (tmp_path / name).stat().st_size > 0
        assert (TUTORIALS / "figures" / name).is_file(), f"the page's {name} is not in the repository"


@pytest.mark.slow
@pytest.mark.real_data
def test_clusters_of_a_real_field(shared_data, tmp_path):
    """What the page says of Fornax: the cluster and NGC 1404 are extended, and MCXC knows the cluster alone."""
    pytest.importorskip("matplotlib")
    image = shared_data / "xmm" / "real" / "NGC1399_Fornax_20ks.fits.gz"
    run_script(TUTORIALS / "find_clusters_real.py", tmp_path, image, shared_data / "catalogues" / "mcxc.fits")
    assert (tmp_path / "clusters_real.png").stat().st_size > 0
    extended = tables.read(tmp_path / "clusters.ecsv")
    assert list(extended["x_class"]) == ["C1", "C1"]
    assert [str(name) for name in extended["known_as"]] == ["J0338.4-3526", ""]


def run_script(script, folder, *arguments):
    """Run a script in a folder."""
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "default"}
    command = [sys.executable, str(script), *map(str, arguments)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
