"""The scripts behind the tutorial pages run, and write what the pages show."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from astroclassify import tables

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
REAL = "_real.py"  # ending of the scripts that need real observations


@pytest.fixture(scope="module")
def notebooks():
    """The extension of the site that makes notebooks of tutorials."""
    spec = spec_from_file_location("notebooks", TUTORIALS.parent / "_extensions" / "notebooks.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebooks_are_the_scripts_and_the_pages(notebooks):
    """The code is the script, so that the test below runs it as well; all sections of the page are there."""
    scripts = notebooks.scripts(TUTORIALS)
    assert len(scripts) >= 6
    for script in scripts:
        notebook = json.loads(json.dumps(notebooks.notebook(script)))
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
        assert "".join(text for kind, text in cells if kind == "code") == script.read_text(encoding="utf-8")
        assert len({cell["id"] for cell in notebook["cells"]}) == len(cells)
        prose = "\n".join(text for kind, text in cells if kind == "markdown")
        page = script.with_suffix(".rst").read_text(encoding="utf-8")
        assert f"<{script.stem}.ipynb>" in page
        *sections, _ = re.findall(r"^(.+)\n-+$", page, re.MULTILINE)
        assert sections or script.stem == "simulate_halo"
        for section in sections[:-1]:
            assert f"## {section.replace('``', '`')}\n" in prose + "\n", section
        assert ".. " not in prose and ":doc:" not in prose and "``" not in prose.replace("```", "")


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
