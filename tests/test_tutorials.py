"""The scripts behind the tutorial pages run, and write what the pages show."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(TUTORIALS.glob("*.py")), ids=lambda path: path.stem)
def test_script_writes_the_figures_of_its_page(script, tmp_path):
    for module in ("pyxsim", "numba", "matplotlib", "torch"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "default"}
    run = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    page = script.with_suffix(".rst").read_text(encoding="utf-8")
    wanted = re.findall(r"figures/(\S+)", page)
    assert wanted
    for name in wanted:
        assert (tmp_path / name).stat().st_size > 0
        assert (TUTORIALS / "figures" / name).is_file(), f"the page's {name} is not in the repository"
