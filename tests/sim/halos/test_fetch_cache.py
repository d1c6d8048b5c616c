"""Fetching halos over the TNG API: files in the cache, full disks, and several processes."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from _tng_server import HALO, KEY, SIM, SNAP, Fault, cached, failure, fetch, wait_for

from astroclassify.exceptions import FetchError, OutputError

h5py = pytest.importorskip("h5py")


def damage(path, action):
    with h5py.File(path, "r+") as handle:
        action(handle)


@pytest.mark.parametrize(
    "action",
    [
        lambda path: path.write_bytes(path.read_bytes()[:30000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x" * 5000),
        lambda path: damage(path, lambda f: f.pop("PartType0/Masses")),
        lambda path: damage(path, lambda f: f.pop("PartType0")),
        lambda path: damage(path, lambda f: f.pop("Header")),
        lambda path: damage(path, lambda f: f["Header"].attrs.update({"CutoutID": 3})),
        lambda path: path.unlink(),
    ],
)
def test_damaged_files_in_the_cache_are_fetched_again(api, action):
    fetch(api)
    action(cached(api, ".hdf5"))
    assert fetch(api).n_cells == len(api.gas["Masses"])
    assert len(api.asked("cutout")) == 2
    fetch(api, api_key=None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"names": 3}', '{"names": [], "header": {}, "group": {}}', None])
def test_a_lost_entry_does_not_cost_the_cutout(api, text):
    fetch(api)
    entry = cached(api, ".json")
    entry.unlink() if text is None else entry.write_text(text)
    assert fetch(api).halo_id == HALO
    assert len(api.asked("info")) == 2 and len(api.asked("cutout")) == 1


def test_damaged_cache_without_key_asks_for_one(api):
    fetch(api)
    cached(api, ".hdf5").write_bytes(b"x")
    with pytest.raises(FetchError, match="TNG_API_KEY"):
        fetch(api, api_key=None)
    api.fail("cutout", *[Fault(status=503)] * 9)
    failure(api)
    assert cached(api, ".hdf5") is None


def test_servers_and_halos_do_not_mix(api):
    fetch(api)
    with pytest.raises(FetchError, match="TNG_API_KEY"):
        fetch(api, api_key=None, base_url=api.base_url.replace("127.0.0.1", "localhost"))
    with pytest.raises(FetchError, match="TNG_API_KEY"):
        fetch(api, api_key=None, halo_id=8)
    assert fetch(api, api_key=None, base_url=api.base_url.rstrip("/")).halo_id == HALO


@pytest.mark.parametrize(
    ("cache", "variable", "folder"),
    [(None, "{root}/xdg", "xdg/astroclassify/tng"), (None, "relative", "home/.cache/astroclassify/tng"),
     ("~/x", "{root}/xdg", "home/x")],
)  # fmt: skip
def test_default_cache_folder(api, monkeypatch, tmp_path, cache, variable, folder):
    monkeypatch.setenv("XDG_CACHE_HOME", variable.format(root=tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = Path(fetch(api, cache=cache).meta["base_path"])
    assert path.is_relative_to(tmp_path / folder) and path.is_file()


def test_folders_where_files_belong(api):
    fetch(api)
    for ending in (".hdf5", ".json"):
        path = cached(api, ending)
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        assert "is not a file" in failure(api, OutputError)
        path.rmdir()
        path.write_bytes(content)
    cached(api, ".lock").unlink()
    (api.cache / "x").write_text("")
    assert "cannot write in the cache folder" in failure(api, OutputError, cache=api.cache / "x")
    part = cached(api, ".hdf5").with_name(cached(api, ".hdf5").name + ".part")
    cached(api, ".hdf5").unlink()
    part.mkdir()
    assert "cannot remove" in failure(api, OutputError)


def test_nothing_is_written_through_links(api, tmp_path):
    fetch(api)
    path = cached(api, ".hdf5")
    victim = tmp_path / "victim"
    victim.write_bytes(b"v" * 100)
    for name, marked in ((path.name, False), (path.name + ".part", True)):
        path.unlink()
        link = path.with_name(name)
        link.symlink_to(victim)
        if marked:
            url = api.asked("cutout")[0][2]
            mark = {"url": api.urls["api"].rstrip("/") + url, "validator": '"v1"', "size": 10**6}
            link.with_name(link.name + ".json").write_text(json.dumps(mark))
        assert fetch(api).halo_id == HALO
        assert victim.read_bytes() == b"v" * 100 and not path.is_symlink()
    path.rename(victim)
    path.symlink_to(victim)
    api.stop()
    assert fetch(api, api_key=None).halo_id == HALO, "a link to a valid file is allowed"


def test_cache_that_cannot_be_written(api, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    text = failure(api, OutputError)
    assert "cannot write in the cache folder" in text and text.endswith("Permission denied") and api.requests == []


def test_cache_under_a_file(api, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write in the cache folder" in failure(api, OutputError, cache=tmp_path / "file" / "x")
    assert api.requests == []


class FullDisk(io.FileIO):
    """A file on a disk with room for 40000 bytes."""

    def write(self, data):
        if self.tell() + len(data) > 40000:
            super().write(data[: 40000 - self.tell()])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_disk_full(api, monkeypatch):
    def full(path, mode="r", **kwargs):
        return FullDisk(path, mode) if "b" in mode and str(path).endswith(".part") else open(path, mode, **kwargs)

    monkeypatch.setattr("astroclassify.sim.halos._http.open", full, raising=False)
    text = failure(api, OutputError)
    assert "No space left on device; 40000 bytes are kept" in text
    assert "No space left on device" in failure(api, OutputError)
    monkeypatch.undo()
    assert fetch(api).halo_id == HALO
    assert api.asked("cutout")[-1][3]["Range"] == "bytes=40000-"
    assert cached(api, ".part") is None and cached(api, ".part.json") is None


@pytest.mark.parametrize("mark", ["", "{}", "[]", '{"url": 1, "validator": 2, "size": "x"}', None])
def test_a_part_without_a_valid_mark(api, mark):
    fetch(api)
    path = cached(api, ".hdf5")
    path.rename(path.with_name(path.name + ".part"))
    if mark is not None:
        path.with_name(path.name + ".part.json").write_text(mark)
    assert fetch(api).halo_id == HALO
    assert "Range" not in api.asked("cutout")[-1][3]


def test_a_whole_part_is_not_fetched_again(api):
    """The program ended between the last byte and the renaming."""
    fetch(api)
    path = cached(api, ".hdf5")
    mark = {
        "url": api.urls["api"].rstrip("/") + api.asked("cutout")[0][2],
        "validator": '"v1"',
        "size": path.stat().st_size,
    }
    part = path.with_name(path.name + ".part")
    path.rename(part)
    part.with_name(part.name + ".json").write_text(json.dumps(mark))
    assert fetch(api).halo_id == HALO
    assert len(api.asked("cutout")) == 1 and cached(api, ".part") is None


# --- more than one process

SCRIPT = """
import sys
from astroclassify.sim import fetch_halo
halo = fetch_halo({sim!r}, snapshot={snap}, halo_id={halo}, cache=sys.argv[1], base_url=sys.argv[2])
sys.stdout.write(str(halo.n_cells))
"""


def start(api):
    environment = {**os.environ, "TNG_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    code = SCRIPT.format(sim=SIM, snap=SNAP, halo=HALO)
    command = [sys.executable, "-c", code, str(api.cache), api.base_url]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(api, caplog):
    release = threading.Event()
    api.fail("cutout", Fault(cut=30000, hang=release))
    process = start(api)
    wait_for(lambda: len(api.asked("cutout")) == 1)
    threading.Thread(target=lambda: (wait_for(lambda: "waiting" in caplog.text), release.set()), daemon=True).start()
    assert fetch(api).n_cells == 3000
    output = process.communicate()
    assert (process.returncode, output[0]) == (0, "3000") and KEY not in str(output)
    assert "being fetched by another process" in caplog.text
    assert [request[3].get("Range") for request in api.asked("cutout")] == [None, "bytes=30000-"]


def test_going_on_after_kill_9(api):
    release = threading.Event()
    api.fail("cutout", Fault(cut=40000, hang=release))
    process = start(api)
    try:
        wait_for(lambda: (part := cached(api, ".part")) and part.stat().st_size >= 30000)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finally:
        release.set()
    kept = cached(api, ".part").stat().st_size
    assert fetch(api).n_cells == len(api.gas["Masses"])
    assert api.asked("cutout")[-1][3]["Range"] == f"bytes={kept}-"
    assert cached(api, ".hdf5").read_bytes() == api.body(api.gas)


def test_file_systems_without_locks(api, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    api.fail("cutout", Fault(cut=30000))
    assert fetch(api).halo_id == HALO
    api.cache = api.cache / "other"
    api.fail("cutout", Fault(cut=30000), *[Fault(status=503)] * 9)
    assert "given up" in failure(api)
    assert cached(api, ".part") is None and cached(api, ".part.json") is None
