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
# From the ground up; a part may import those of the levels below its own. Parts of one level never import each other,
# but for the modules of the ground, which are ordered by what they need.
LEVELS = (
    ("_lazy", "exceptions", "data"),
    ("_checks", "_fits_tiles", "_regular_files"),
    ("schemes", "_fits_structure", "_x_classes", "batch", "_http"),
    ("tables",),
    ("images", "_scores"),
    ("morphology",),
    ("fields", "samples", "plots"),
    ("sim", "survey", "nn", "people"),
    ("workflows",),
    ("cli",),
    ("__main__",),
)
# Folders of a room, and which other folders of it each may import.
FOLDERS = {
    "sim": {
        "physics": (),
        "halos": ("physics",),
        "engines": ("physics",),
        "embedded": ("halos", "physics"),
        "mocks": ("engines", "halos", "physics"),
        "sky": (),
    },
    "survey": {
        "extents": (),
        "catalogues": (),
        "cutouts": (),
        "detection": ("extents", "catalogues"),
    },
    "nn": {
        "inputs": (),
        "training": ("inputs",),
        "validation": ("inputs",),
        "doubt": ("inputs", "training"),
        "models": ("inputs", "doubt"),
        "networks": ("models",),
        "maps": ("inputs", "networks"),
        "estimators": ("inputs", "training", "validation", "doubt", "models", "networks", "maps"),
    },
    "people": {"page": ()},
}
# Names of a room that are made in another one, because they tie rooms together; imported when they are first used.
BORROWED = {"sim": {"label_candidates", "simulate_survey"}}
# Optional or slow: imported inside the functions that need them.
LAZY = ("torch", "torchvision", "onnx", "safetensors", "matplotlib", "astroquery", "h5py", "illustris_python")
LAZY += ("pyxsim", "soxs", "yt", "unyt", "pyarrow", "numba", "PIL", "fsspec")
# Ends of the names of modules that numba compiles; they are themselves imported inside functions.
COMPILED = ("_loops", "_kernels", "_blocks")
THEIR_MODULES = ("sim.engines._pyxsim", "sim.physics._xray_packages")
SIMULATION_PACKAGES = ("pyxsim", "soxs", "yt", "unyt")
PUBLIC = ("batch", "exceptions", "fields", "images", "morphology", "nn", "people", "plots", "samples", "schemes")
PUBLIC += ("sim", "survey", "tables", "workflows")

FILES = sorted(PACKAGE.rglob("*.py"))
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}


def module_of(path):
    """Dotted name of a file inside the package, without ``astroclassify``: ``sim.halos._halo``, or "" for the top."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


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


def own_imports():
    """(file, module that imports, module imported, line) inside the package; faces (``__init__``) are left out."""
    for path in FILES:
        for name, line, _ in imports_of(path):
            if name.startswith("astroclassify.") and path.name != "__init__.py":
                target = name.split(".", 1)[1]
                while target and target not in MODULES:
                    target = target.rpartition(".")[0]
                if target:
                    yield path, module_of(path), target, line


def faults_of(rule):
    """Imports that break a rule, one per line."""
    return "\n".join(
        f"{path.relative_to(PACKAGE)}:{line} imports astroclassify.{target}"
        for path, module, target, line in own_imports()
        if rule(module.split("."), target.split("."))
    )


def test_every_module_has_its_place():
    parts = {name.split(".")[0] for name in MODULES} - {""}
    assert parts == set(LEVEL_OF), "the levels list parts that are not there, or lack some"
    for room, folders in FOLDERS.items():
        found = {name.split(".")[1] for name in MODULES if name.startswith(f"{room}.") and name.count(".") >= 2}
        assert found == set(folders), f"folders of {room}"


def test_arrows_point_down():
    def upwards(module, target):
        return module[0] != target[0] and LEVEL_OF[module[0]] <= LEVEL_OF[target[0]]

    assert not faults_of(upwards)


def test_rooms_are_used_through_their_faces():
    """Private modules of ``tables``, ``images``, ``_scores``, ``fields`` and ``samples`` also serve the rooms above."""
    rooms = ("sim", "survey", "nn", "people", "plots", "workflows")

    def reaches(module, target):
        # Settings of a survey of simulated fields hold the numbers of the simulated sky.
        if module[0] == "workflows" and target[:2] == ["sim", "sky"]:
            return False
        return module[0] != target[0] and target[0] in rooms and len(target) > 1

    assert not faults_of(reaches)


def test_arrows_between_the_folders_of_a_room():
    def wrong(module, target):
        if module[0] != target[0] or module[0] not in FOLDERS or len(module) < 3 or len(target) < 3:
            return False
        return module[1] != target[1] and target[1] not in FOLDERS[module[0]][module[1]]

    assert not faults_of(wrong)


@pytest.mark.parametrize("room", FOLDERS)
def test_folders_have_no_circle(room):
    arrows, order = {folder: set(below) for folder, below in FOLDERS[room].items()}, []
    while arrows:
        lowest = [folder for folder, below in arrows.items() if not below & set(arrows)]
        assert lowest, f"a circle among {sorted(arrows)}"
        order += lowest
        for folder in lowest:
            del arrows[folder]


@pytest.mark.parametrize(
    "room", [*FOLDERS, "tables", "_scores", "images", "fields", "samples", "plots", "workflows", "cli"]
)
def test_modules_have_no_circle(room):
    arrows = {name: set() for name in MODULES if name.startswith(f"{room}.")}
    for path in FILES:
        module = module_of(path)
        if module not in arrows or path.name == "__init__.py":
            continue
        for name, _, _inside in imports_of(path):
            target = name.removeprefix("astroclassify.")
            target = target if target in arrows else target.rpartition(".")[0]
            if target in arrows and target != module:
                arrows[module].add(target)
    while arrows:
        lowest = [name for name, below in arrows.items() if not below & set(arrows)]
        assert lowest, f"a circle among {sorted(arrows)}"
        for name in lowest:
            del arrows[name]


def test_borrowed_names_are_in_one_list():
    found = {}
    for path in PACKAGE.glob("*/__init__.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and str(key.value).startswith("."):
                        home = key.value.split(".")[1]
                        if LEVEL_OF[home] >= LEVEL_OF[path.parent.name]:
                            found.setdefault(path.parent.name, set()).update(element.value for element in value.elts)
    assert found == BORROWED


def test_simulation_packages_are_imported_in_two_modules():
    faults = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in FILES
        for name, line, _ in imports_of(path)
        if name.split(".")[0] in SIMULATION_PACKAGES and module_of(path) not in THEIR_MODULES
    ]
    assert not faults, "\n".join(faults)


def test_optional_packages_are_imported_inside_functions():
    faults = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in FILES
        for name, line, inside in imports_of(path)
        if name.split(".")[0] in LAZY and not inside and not (name.startswith("numba") and path.stem.endswith(COMPILED))
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
            if isinstance(node, ast.Assert) or (is_print and not to_file and not module_of(path).startswith("cli")):
                faults.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not faults, "\n".join(faults)
