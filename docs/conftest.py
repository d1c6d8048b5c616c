"""The pages are tests too: their examples run, each page in an empty folder."""

import pytest

collect_ignore = ["conf.py"]
collect_ignore_glob = ["_build/*", "api/*", "tutorials/*.py"]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
