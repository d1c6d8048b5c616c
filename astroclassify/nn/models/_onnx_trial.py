"""
An unknown network is first run in a process of its own, which is stopped if it takes too much memory or time.

Shapes do not depend on pixels (`_onnx_check`), so the cost depends on the number of images alone: a network that passes
with each number of images in a batch costs no more later. The memory limit is that of ONNX Runtime's own allocator.
`_SCRIPT` imports nothing of this package, so that the process starts in a fraction of a second.
"""

import hashlib
import json
import math
import os
import subprocess
import sys
from functools import cache

from astroclassify._checks import first_line
from astroclassify.exceptions import ModelError

from ._onnx_check import check_outputs
from ._store import find_folder, packaged, read_document

__all__ = ["BATCH", "start_session", "trust", "try_network"]

# Images in one call of ONNX Runtime. More gain nothing and cost memory: see benchmarks/bench_nn.py.
BATCH = 4
# Bytes at least, and relative to the images of one batch (ResNet-18 of width 64 needs 40 times these).
_LEAST_MEMORY, _MEMORY_RATIO = 1 << 27, 512
# Seconds at least, and for each number of one image. A trial of ResNet-18 of width 64 at 256 pixels takes about 1 s.
_LEAST_SECONDS, _SECONDS_EACH = 30.0, 2e-4

_SCRIPT = """
import json, sys
settings = json.loads(sys.stdin.buffer.readline())
sys.path[:] = settings["path"]
try:
    import numpy, onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for key, value in settings["config"].items():
        options.add_session_config_entry(key, value)
    arena = onnxruntime.OrtArenaCfg({"max_mem": settings["memory"], "arena_extend_strategy": 1})
    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place), arena)
    options.add_session_config_entry("session.use_env_allocators", "1")
    session = onnxruntime.InferenceSession(
        sys.stdin.buffer.read(), options, providers=["CPUExecutionProvider"], disabled_optimizers=settings["disabled"]
    )
    shapes = []
    for n in range(1, settings["batch"] + 1):
        images = numpy.zeros((n, *settings["shape"]), numpy.float32)
        shapes.append([list(array.shape) for array in session.run(settings["outputs"], {"images": images})])
    print(json.dumps({"shapes": shapes}))
except Exception as error:
    print(json.dumps({"error": (" ".join(str(error).split()) or type(error).__name__)[:300]}))
"""
# What was checked is read as ONNX, whatever it looks like. Constants are not worked out when the file is loaded, where
# no allocator would count their memory.
_CONFIG = {"session.load_model_format": "ONNX"}
_DISABLED = ["ConstantFolding"]

_trusted = set()


def _digest(data):
    return hashlib.sha256(data).hexdigest()


@cache
def _packaged():
    """SHA-256 of the networks that come with the package."""
    documents = [read_document(find_folder(name)) for name in packaged()]
    return {document["files"]["model.onnx"]["sha256"] for document in documents}


def trust(data):
    """Let a network be used without a trial: one that this process wrote, or that has passed."""
    _trusted.add(_digest(data))


def _switch_off_telemetry():
    """
    Keep ONNX Runtime, here and in child processes, from its telemetry, unless the user has set the variable.

    From 1.32 on it looks up a host and writes an identifier of the machine into the user's cache as soon as it is
    imported; only this variable, set before, stops that. It stays set: child processes and late threads read it too.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def start_session(data):
    """Session of ONNX Runtime on a file that has been checked, one thread to a call."""
    _switch_off_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # One thread to a call and one call to a core: no waiting for each other within a layer, and the same numbers on
    # any machine and for any executor.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for key, value in _CONFIG.items():
        options.add_session_config_entry(key, value)
    try:
        return onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=_DISABLED
        )
    except Exception as error:  # onnxruntime raises a dozen types of its own
        raise ModelError(f"model.onnx is not a usable ONNX file: {first_line(error)}") from None


def try_network(data, *, input_shape, n_classes, outputs):
    """
    Run a network once for each number of images up to a batch, in another process; raise ModelError if it fails there.

    Networks of the package, and those that this process wrote or tried before, are not run.
    """
    digest = _digest(data)
    if digest in _trusted or digest in _packaged():
        return
    size = math.prod(int(n) for n in input_shape)
    seconds = _LEAST_SECONDS + _SECONDS_EACH * size
    settings = {
        "path": [str(folder) for folder in sys.path],
        "config": _CONFIG,
        "disabled": _DISABLED,
        "batch": BATCH,
        "shape": list(input_shape),
        "outputs": list(outputs),
        "memory": _LEAST_MEMORY + 4 * BATCH * _MEMORY_RATIO * size + 4 * len(data),
    }
    message = json.dumps(settings).encode() + b"\n" + bytes(data)
    _switch_off_telemetry()
    try:
        done = subprocess.run([sys.executable, "-c", _SCRIPT], input=message, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ModelError(f"model.onnx asks for too much work: {BATCH} images took more than {seconds:.0f} s") from None
    except OSError as error:
        raise ModelError(f"model.onnx cannot be tried in a process of its own: {first_line(error)}") from None
    answer = done.stdout.splitlines()[-1:]
    if done.returncode or not answer:
        raise ModelError(f"model.onnx is not a usable ONNX file: its trial ended with the code {done.returncode}")
    result = json.loads(answer[0])
    if "BFCArena" in result.get("error", ""):  # the allocator with the limit
        megabytes = settings["memory"] >> 20
        raise ModelError(f"model.onnx asks for too much memory: more than {megabytes} MB for {BATCH} images at most")
    if "error" in result:
        raise ModelError(f"model.onnx is not a usable ONNX file: {result['error']}")
    for n, shapes in enumerate(result["shapes"], start=1):
        check_outputs(dict(zip(outputs, shapes, strict=True)), n, n_classes)
    _trusted.add(digest)
