"""The walls of the house: who may import whom, how light an import is, and that every public name is documented."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import astroclassify

PACKAGE = Path(astroclassify.__file__).parent
DOCS = Path(__file__).resolve().parents[1] / "docs"
ROOMS = ("sim", "survey", "nn", "plots")
HALL = ("batch", "exceptions", "images", "morphology", "schemes", "tables")
# Modules that are part of the hall without being a door of it, and the hall's order from the ground up.
PRIVATE_HALL = ("_checks", "_grid", "_http", "_image_checks", "_image_files", "_lazy", "_morphology", "_pictures")
PRIVATE_HALL += ("_sample_folders", "_headers", "_fields_instruments", "_table_columns", "_table_files")
# What rooms may use of them.
OPEN_HALL = ("_checks", "_fields_instruments", "_headers", "_http", "_image_checks", "_lazy", "_pictures")
OPEN_HALL += ("_sample_folders",)
ABOVE = ("cli", "_cli_people", "_cli_survey", "_cli_tools", "_cli_votes", "_demo", "_inspect", "_reproduce", "__main__")
DATA = ("data",)
# Optional or slow: imported inside the functions that need them.
LAZY = ("torch", "torchvision", "onnx", "safetensors", "matplotlib", "astroquery", "h5py", "illustris_python")
LAZY += ("pyxsim", "soxs", "yt", "unyt", "pyarrow", "numba", "PIL")
ONLY_IN_PYXSIM = ("pyxsim", "soxs", "yt", "unyt")
PUBLIC = ("exceptions", "schemes", "images", "morphology", "tables", "batch", "plots", "sim", "survey", "nn")

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    """Dotted name of a file inside the package, without ``astroclassify``: ``sim._halo``, or "" for the top."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """(absolute module name, line, whether inside a function) of every import, lazy ones by name included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    package = ["astroclassify", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            # "from . import x" may import a module or a name: both readings are checked.
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("require", "import_module", "__import__") and isinstance(node.args[0].value, str):
                names = [node.args[0].value]
        for name in names:
            yield name, node.lineno, id(node) in inside


def part_of(module):
    """Which part of the house a module of the package is: its first name."""
    first = module.split(".")[0]
    return "plots" if first.startswith("_plots") else first


def allowed(part):
    if part in ABOVE:
        return {*ABOVE, *ROOMS, *HALL, *PRIVATE_HALL, *DATA}
    if part in ROOMS:
        return {part, *HALL, *OPEN_HALL, *DATA}
    if part in HALL or part in PRIVATE_HALL:
        return {*HALL, *PRIVATE_HALL, *DATA}
    return {*DATA}


def all_imports():
    for path in FILES:
        for name, line, inside in imports_of(path):
            yield path, name, line, inside


def test_every_module_has_its_place():
    known = {"", *ROOMS, *HALL, *PRIVATE_HALL, *ABOVE, *DATA}
    assert {part_of(module_of(path)) for path in FILES} <= known


def test_arrows_point_down():
    faults = []
    tops = {*ROOMS, *HALL, *PRIVATE_HALL, *ABOVE, *DATA}
    for path, name, line, _ in all_imports():
        if not name.startswith("astroclassify."):
            continue
        target = name.split(".")[1]
        if target in tops and target not in allowed(part_of(module_of(path))):
            faults.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("room", ["sim", "survey", "nn"])
def test_rooms_do_not_import_each_other(room):
    others = tuple(
        f"astroclassify.{other}" for other in ("sim", "survey", "nn", "plots", "cli", "_demo") if other != room
    )
    faults = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path, name, line, _ in all_imports()
        if part_of(module_of(path)) == room and any(f"{name}.".startswith(f"{other}.") for other in others)
    ]
    assert not faults, "\n".join(faults)


def test_nobody_reaches_into_the_private_modules_of_another_room():
    faults = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path, name, line, _ in all_imports()
        for room in ROOMS
        if name.startswith(f"astroclassify.{room}._") and part_of(module_of(path)) != room
    ]
    assert not faults, "\n".join(faults)


def test_simulation_packages_live_in_one_module():
    faults = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path, name, line, _ in all_imports()
        if name.split(".")[0] in ONLY_IN_PYXSIM and module_of(path) not in ("sim._pyxsim", "sim._xray_packages")
    ]
    assert not faults, "\n".join(faults)


def test_optional_packages_are_imported_inside_functions():
    faults = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path, name, line, inside in all_imports()
        if name.split(".")[0] in LAZY and not inside
    ]
    assert not faults, "\n".join(faults)


LIGHT_IMPORT = """
import builtins, socket, sys
def no_network(*args, **kwargs):
    raise RuntimeError("network at import")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], str) and {data!r} in args[0] and not args[0].endswith((".py", ".pyc")):
        opened.append(args[0])
sys.addaudithook(hook)
import astroclassify, astroclassify.sim, astroclassify.nn, astroclassify.survey
print(",".join(sorted(name for name in {heavy!r} if name in sys.modules)))
print(",".join(opened))
"""


def test_importing_the_rooms_is_light():
    heavy = (*LAZY, "sklearn", "onnxruntime", "IPython", "pandas")
    code = LIGHT_IMPORT.format(heavy=heavy, data=str(PACKAGE / "data"))
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    environment.pop("PYTHONSTARTUP", None)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    imported, opened = run.stdout.split("\n")[:2]
    assert imported == "" and opened == "" and run.stderr == ""


def test_importing_does_not_turn_logging_on():
    code = "import logging; before = list(logging.root.handlers); import astroclassify.nn, astroclassify.sim\n"
    code += "assert logging.root.handlers == before"
    subprocess.run([sys.executable, "-c", code], check=True)


def public_names():
    for room in PUBLIC:
        module = importlib.import_module(f"astroclassify.{room}")
        for name in getattr(module, "__all__", ()):
            yield pytest.param(room, name, id=f"{room}.{name}")


@pytest.mark.parametrize("room", PUBLIC)
def test_room_says_what_is_public(room):
    module = importlib.import_module(f"astroclassify.{room}")
    assert module.__doc__ and len(module.__doc__) > 20
    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize(("room", "name"), list(public_names()))
def test_public_name_is_documented(room, name):
    thing = getattr(importlib.import_module(f"astroclassify.{room}"), name)
    if not callable(thing):
        return  # a constant: its place is the reference page, which the next test asks for
    text = inspect.getdoc(thing)
    assert text and text.split("\n\n")[0].rstrip().endswith((".", ":")), "the first paragraph is a sentence"
    if inspect.isclass(thing) and issubclass(thing, (Exception, Warning)):
        return
    functions = [thing]
    if inspect.isclass(thing):
        functions += [
            value.__func__ if isinstance(value, classmethod) else value
            for key, value in vars(thing).items()
            if not key.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))
        ]
    for function in functions:
        text = inspect.getdoc(function)
        assert text, f"{function.__qualname__} has no docstring"
        if function is thing and not inspect.isclass(thing):
            parameters = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
            if parameters:
                assert "Parameters\n----------" in text, f"{function.__qualname__} does not say what it takes"
            for parameter in parameters:
                assert parameter in text, f"{function.__qualname__} does not explain {parameter}"


@pytest.mark.parametrize(("room", "name"), list(public_names()))
def test_public_name_is_in_the_reference(room, name):
    pages = [page.read_text(encoding="utf-8") for page in DOCS.rglob("*.rst")]
    assert pages, "no documentation pages"
    words = set()
    for page in pages:
        words.update(page.replace("`", " ").replace("~", " ").replace("(", " ").split())
    endings = {word.rsplit(".", 1)[-1] for word in words}
    assert name in endings, f"astroclassify.{room}.{name} is in no page of the documentation"


def test_no_file_or_function_is_too_long():
    faults = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 560:
            faults.append(f"{path.relative_to(PACKAGE)} has {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1
                # A function around a class (whose base is imported inside it) is as long as its methods.
                if lines > 65 and not any(isinstance(inner, ast.ClassDef) for inner in node.body):
                    faults.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name} has {lines} lines")
    assert not faults, "\n".join(faults)


def test_no_print_and_no_assert_in_the_package():
    faults = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            to_file = is_print and any(keyword.arg == "file" for keyword in node.keywords)
            if isinstance(node, ast.Assert) or (is_print and not to_file and module_of(path) not in ABOVE):
                faults.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not faults, "\n".join(faults)
