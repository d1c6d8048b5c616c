"""Fixtures and options shared by all tests."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

# Tests run in two processes side by side (setup.cfg): further threads of numerical libraries would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow")


# What an example that calls one of these needs; without it the example is skipped, as tests are by importorskip.
EXAMPLE_NEEDS = {
    "write_embedded_snapshot(": ("h5py", "illustris_python"),
    "make_mocks(": ("pyxsim",),
    "observe(": ("pyxsim",),
    "plot_": ("matplotlib",),
    "write_report(": ("matplotlib", "PIL"),
}


def _missing_for_example(item):
    """Name of a package that an example needs and that is not installed, or None."""
    source = "".join(example.source for example in item.dtest.examples)
    for call, modules in EXAMPLE_NEEDS.items():
        for module in modules:
            if call in source and find_spec(module) is None:
                return module
    return None


def pytest_collection_modifyitems(config, items):
    for item in items:
        if isinstance(item, pytest.DoctestItem) and (module := _missing_for_example(item)):
            item.add_marker(pytest.mark.skip(reason=f"the example needs {module}"))
    if config.getoption("--run-slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --run-slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real observations that lie beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real observations (../shared/data) are not here")
    return SHARED_DATA
