"""
ONNX Runtime 1.32 looks up a telemetry host and writes an identifier into the user's cache on import: not here.

Its C++ code opens files and sockets past Python, so a process of its own is watched from outside: its home folder, and
its system calls where strace is there and allowed to trace.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import astroclassify
from astroclassify.nn.models._onnx_network import OnnxNetwork

# A packaged network, and one that is first tried in another process.
SCRIPT = """
import os, sys
import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS
from astroclassify.nn import load_classifier
from astroclassify.nn.models._onnx_network import OnnxNetwork

wcs = WCS(naxis=2)
wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [30, 10], [200, 200]
wcs.wcs.cdelt = [-4 / 3600, 4 / 3600]
image = CCDData(np.ones((400, 400)), unit="ct", wcs=wcs, meta={"EXPOSURE": 1e4})
assert len(load_classifier("coolcore").classify([image], redshift=0.1)) == 1
data = open(sys.argv[1], "rb").read()
assert OnnxNetwork(data, input_shape=(1, 16, 16), n_classes=3).logits(np.ones((1, 1, 16, 16))).shape == (1, 3)
assert "onnxruntime" in sys.modules
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory, onnx_writer):
    """What the script printed, the home folder it ran with, and its network calls (None without strace)."""
    folder = tmp_path_factory.mktemp("watched")
    network, home, trace = folder / "model.onnx", folder / "home", folder / "trace"
    network.write_bytes(onnx_writer.mean_network((1, 16, 16), [[0.5, -1.0, 0.1]], [0.0, 1.0, 0.2]))
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path(astroclassify.__file__).parents[1])}
    tracer = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(trace)]
    if not shutil.which("strace") or subprocess.run([*tracer, "true"], capture_output=True).returncode:
        tracer = []
    command = [*tracer, sys.executable, "-W", "ignore", "-c", SCRIPT, str(network)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1], home, trace.read_text() if tracer else None


def test_nothing_is_written_into_the_home_folder(watched):
    value, home, _ = watched
    assert value == "1"
    # astropy 6 makes an empty folder for its settings.
    assert [path for path in home.rglob("*") if ".astropy" not in path.parts] == []


def test_no_socket_is_opened(watched):
    calls = watched[2]
    if calls is None:
        pytest.skip("needs strace and the right to trace: sockets of C++ code cannot be seen from Python")
    assert [line for line in calls.splitlines() if "AF_INET" in line or "AF_NETLINK" in line] == []


def test_a_value_of_the_user_is_kept(monkeypatch, onnx_writer):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    OnnxNetwork(
        onnx_writer.mean_network((1, 8, 8), [[1.0, 2.0]], [0.0, 0.0]), input_shape=(1, 8, 8), n_classes=2
    ).start()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
