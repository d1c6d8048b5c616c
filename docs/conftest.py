"""The pages are tests too: their examples run where what they need is installed."""

from importlib.util import find_spec

import pytest

collect_ignore = ["conf.py"]
collect_ignore_glob = ["_build/*", "api/*"]
if find_spec("pyxsim") is None:  # the pages that simulate
    collect_ignore += ["getting_started.rst"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """Examples write into a folder of their own."""
    monkeypatch.chdir(tmp_path)
