"""Pages that must follow the code do so, and the check of the built site finds what it is for."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from astroclassify.nn import list_classifiers
from astroclassify.schemes import Flag

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TROUBLESHOOTING = (DOCS / "help" / "troubleshooting.rst").read_text(encoding="utf-8")
ERROR_TEXTS = re.findall(r"^   \* - ``(.*)``$", TROUBLESHOOTING.split("\nErrors\n")[1], re.MULTILINE)


def test_every_flag_is_explained():
    rows = re.findall(r"^   \* - ``(\w+)``, (\d+)\n     - .+\n", TROUBLESHOOTING, re.MULTILINE)
    assert [(name, int(bit)) for name, bit in rows] == [(flag.name.lower(), flag.value) for flag in Flag]


@pytest.fixture(scope="module")
def texts():
    """All texts of the package's code, without what is filled in."""
    found = set()
    for path in (ROOT / "astroclassify").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_there_are_error_texts():
    assert len(ERROR_TEXTS) > 40


@pytest.mark.parametrize("text", ERROR_TEXTS)
def test_error_texts_are_those_of_the_package(text, texts):
    pattern = re.compile(".*".join(re.escape(piece) for piece in text.split("...")), re.DOTALL)
    assert any(pattern.search(known) for known in texts), f"no error of the package says {text!r}"


def test_every_figure_is_in_the_gallery():
    gallery = (DOCS / "tutorials" / "gallery.rst").read_text(encoding="utf-8")
    shown = {(DOCS / "tutorials" / name).resolve() for name in re.findall(r":img-top: (\S+)", gallery)}
    figures = {path for path in DOCS.rglob("*.png") if "_build" not in path.parts}
    assert figures <= shown


def test_every_packaged_model_has_its_card():
    page = (DOCS / "reference" / "models.rst").read_text(encoding="utf-8")
    cards = re.findall(r"include:: (\S+/models/(\S+)/README.md)\n.*\n   :start-line: (\d+)\n", page)
    assert sorted(name for _, name, _ in cards) == sorted(list_classifiers()["name"])
    for path, name, line in cards:  # the lines above are for model hubs
        assert (DOCS / "reference" / path).read_text(encoding="utf-8").splitlines()[int(line)] == f"# {name}"


@pytest.mark.filterwarnings("ignore:astropy.samp was deprecated")
@pytest.mark.parametrize("inventory", sorted((DOCS / "inventories").glob("*.inv")), ids=lambda path: path.stem)
def test_objects_of_other_projects_exist(inventory):
    """A name that a later version of its project has not is a link that leads nowhere."""
    _, _, _, *lines = inventory.read_text(encoding="utf-8").splitlines()
    assert lines
    for line in lines:
        name, kind, address = line.split()
        parts = name.split(".")
        if inventory.stem == "python" and len(parts) == 1:
            parts = ["builtins", name]
        if importlib.util.find_spec(parts[0]) is None:
            pytest.skip(f"{parts[0]} is not installed")
        assert address.endswith(".html")
        if kind == "mod":
            importlib.import_module(name)
            continue
        owner = importlib.import_module(parts[0])
        for number, part in enumerate(parts[1:], 2):
            if not hasattr(owner, part):
                importlib.import_module(".".join(parts[:number]))
            owner = getattr(owner, part)


def check_site(folder):
    """Run the check of a built site."""
    command = [sys.executable, str(ROOT / "tools" / "check_site.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_check_of_the_site(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">b</a><a href="https://x.org">x</a><img src="c.png">')
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="a.html">a</a>')
    (tmp_path / "c.png").write_bytes(b"")
    run = check_site(tmp_path)
    assert run.returncode == 0, run.stdout
    (tmp_path / "b.html").write_text('<script src="https://cdn.org/x.js"></script><a href="d.html">d</a>')
    (tmp_path / "s.css").write_text("@font-face { src: url('//fonts.org/f.woff2') }")
    run = check_site(tmp_path)
    assert run.returncode == 1
    assert run.stdout.splitlines() == [
        "a.html leads to b.html#there: the page has no such place",
        "b.html loads https://cdn.org/x.js",
        "b.html leads to d.html, which is not there",
        "s.css loads //fonts.org/f.woff2",
    ]


def test_check_of_a_site_without_pages(tmp_path):
    assert check_site(tmp_path).returncode == 1
