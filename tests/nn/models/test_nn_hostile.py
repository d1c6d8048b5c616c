"""Model folders that mean harm: each ends in one `ModelError` of one line, soon, and in little memory."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import astroclassify
from astroclassify.exceptions import ModelError
from astroclassify.nn import load_classifier
from astroclassify.nn.inputs._preprocess import input_shape
from astroclassify.nn.inputs._profile import PROFILE
from astroclassify.nn.models import _onnx_trial
from astroclassify.nn.models._file_checks import check_safetensors, read_json_limited
from astroclassify.nn.models._onnx_check import check_onnx
from astroclassify.nn.models._onnx_network import OnnxNetwork

PACKAGED = Path(astroclassify.__file__).parent / "data" / "models" / "coolcore"
SHAPE = (1, 16, 16)
W, B = np.ones((1, 3)), np.zeros(3)
I64 = np.int64


class Quick:
    """What runs inside takes less than 200 MB, and so much less than a minute that a busy machine does not matter."""

    def __enter__(self):
        tracemalloc.start()
        self.start = time.process_time()

    def __exit__(self, *_):
        seconds, peak = time.process_time() - self.start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < 60 and peak < 200e6, f"{seconds:.1f} s and {peak / 1e6:.0f} MB"


def refused(data, message, **keywords):
    with Quick(), pytest.raises(ModelError, match=message) as caught:
        check_onnx(data, **{"input_shape": SHAPE, "n_classes": 3, **keywords})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def refused_in_trial(data, message, **keywords):
    """A file that looks like a network is stopped when it is first run, in a process of its own."""
    with Quick(), pytest.raises(ModelError, match=message) as caught:
        OnnxNetwork(data, **{"input_shape": SHAPE, "n_classes": 3, **keywords}).start()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def bombs(w):
    """Networks whose extra nodes ask for far more than an image needs: (nodes, weights)."""
    node = w.node
    big = np.array([10**6, 10**6], I64)
    shape4 = np.array([10**4, 1, 16, 16], I64)
    doubled = [node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=1) for i in range(40)]
    blown = [node("Mul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(10)]
    many = [node("ConstantOfShape", ["s"], [f"k{i}"], value=np.float32([i])) for i in range(100)]
    many.append(node("Sum", [f"k{i}" for i in range(100)], ["k"]))
    return {
        "constant of shape": ([node("ConstantOfShape", ["s"], ["k"])], {"s": big}),
        "huge shape": ([node("ConstantOfShape", ["s"], ["k"])], {"s": np.array([2**62, 2**62, 2**62], I64)}),
        "expand": ([node("Expand", ["images", "s"], ["k"])], {"s": shape4}),
        "tile": ([node("Tile", ["images", "s"], ["k"])], {"s": shape4}),
        "pad": ([node("Pad", ["images", "s"], ["k"])], {"s": np.array([0, 0, 0, 0, 0, 0, 10**5, 10**5], I64)}),
        "resize": (
            [node("Resize", ["images", "", "s"], ["k"])],
            {"s": np.array([1, 1, 1e5, 1e5], np.float32)},
        ),
        "resize to sizes": (
            [node("Resize", ["images", "", "", "s"], ["k"])],
            {"s": np.array([1, 1, 10**6, 10**6], I64)},
        ),
        "concat": ([node("Identity", ["images"], ["c0"]), *doubled], {}),
        "gather": ([node("Gather", ["images", "s"], ["k"], axis=1)], {"s": np.zeros((300, 300), I64)}),
        "outer sum": (
            [
                node("Reshape", ["images", "a"], ["x"]),
                node("Reshape", ["images", "b"], ["y"]),
                node("Add", ["x", "y"], ["xy"]),
                node("Reshape", ["xy", "c"], ["z"]),
                node("Add", ["xy", "z"], ["k"]),
            ],
            {"a": np.array([-1, 1], I64), "b": np.array([1, -1], I64), "c": np.array([-1, 1, 1], I64)},
        ),
        "many constants": (many, {"s": np.array([2**24], I64)}),
        "shape arithmetic": (
            [
                node("Shape", ["images"], ["m0"]),
                *blown,
                node("Expand", ["images", "m10"], ["k"]),
            ],
            {},
        ),
        "wide convolution": (
            [node("Conv", ["images", "s"], ["k"], kernel_shape=[1, 1])],
            {"s": np.zeros((60_000, 1, 1, 1), np.float32)},
        ),
    }  # fmt: skip


BOMBS = [
    "constant of shape", "huge shape", "expand", "tile", "pad", "resize", "resize to sizes", "concat", "gather",
    "outer sum", "many constants", "shape arithmetic", "wide convolution",
]  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(onnx_writer, name):
    nodes, weights = bombs(onnx_writer)[name]
    data = onnx_writer.mean_network(SHAPE, W, B, extra_nodes=nodes, extra_weights=weights)
    refused_in_trial(data, "too much memory|not a usable ONNX file")


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("ConstantOfShape", ["p"]),
        ("Expand", ["images", "p"]),
        ("Tile", ["images", "p"]),
        ("Reshape", ["images", "p"]),
        ("Pad", ["images", "p"]),
        ("Resize", ["images", "", "", "p"]),
        ("Slice", ["images", "p", "p"]),
        ("Split", ["images", "p"]),
        ("ReduceSum", ["images", "p"]),
    ],
)
def test_shapes_that_depend_on_pixels_are_refused(onnx_writer, kind, inputs):
    """A trial on blank images would not see that a bright pixel asks for all memory."""
    w = onnx_writer
    nodes = [
        w.node("ReduceMax", ["images"], ["brightest"], keepdims=0),
        w.node("Cast", ["brightest"], ["whole"], to=7),
        w.node("Reshape", ["whole", "one"], ["p"]),
        w.node(kind, inputs, ["k"]),
    ]
    refused(w.mean_network(SHAPE, W, B, extra_nodes=nodes, extra_weights={"one": np.ones(1, I64)}), "depends on the p")


def test_a_shape_that_depends_on_the_number_of_images_is_tried_with_each(onnx_writer):
    """Only three images at a time ask for too much."""
    w, scalar = onnx_writer, np.array([3], I64)
    nodes = [
        w.node("Shape", ["images"], ["s"]),
        w.node("Slice", ["s", "zero", "one"], ["n"]),
        w.node("Equal", ["n", "three"], ["is"]),
        w.node("Where", ["is", "huge", "one"], ["h"]),
        w.node("ConstantOfShape", ["h"], ["k"]),
    ]
    weights = {"zero": 0 * scalar, "one": scalar // 3, "three": scalar, "huge": np.array([10**10], I64)}
    data = w.mean_network(SHAPE, W, B, extra_nodes=nodes, extra_weights=weights)
    assert check_onnx(data, input_shape=SHAPE, n_classes=3)
    refused_in_trial(data, "too much memory")


def test_too_much_work_is_refused(onnx_writer, monkeypatch):
    monkeypatch.setattr(_onnx_trial, "_LEAST_SECONDS", 3.0)
    w = onnx_writer
    side = 2048
    weights = {"s": np.zeros((side, side), np.float32)}
    nodes = [w.node("Expand", ["row", "e"], ["k0"])]
    nodes += [w.node("MatMul", [f"k{i}", "s"], [f"k{i + 1}"]) for i in range(400)]
    nodes.insert(0, w.node("ReduceMean", ["images"], ["row"], axes=[0, 1, 2, 3], keepdims=0))
    weights["e"] = np.array([1900, side], I64)
    refused_in_trial(w.mean_network(SHAPE, W, B, extra_nodes=nodes, extra_weights=weights), "too much work")


@pytest.mark.parametrize(
    "kind", ["Loop", "If", "Scan", "RandomNormal", "StringNormalizer", "NonZero", "", "os.system", "X" * 500]
)
def test_operators_that_are_not_in_the_list(onnx_writer, kind):
    data = onnx_writer.mean_network(SHAPE, W, B, extra_nodes=[onnx_writer.node(kind, ["images"], ["k"])])
    refused(data, "is not one of those that networks here may use")


def test_domains_functions_and_subgraphs(onnx_writer):
    w = onnx_writer
    inner = w.graph([], {}, SHAPE, [])
    cases = [
        ({"extra_nodes": [w.node("Relu", ["images"], ["k"], domain="com.evil")]}, "domain 'com.evil'"),
        ({"domain": "com.microsoft"}, r"domains \['com.microsoft'\]"),
        ({"more": b""}, None),
        (
            {"extra_nodes": [w.node("Relu", ["images"], ["k"], more=w.field(5, w.field(1, "a") + w.field(6, inner)))]},
            "subgraph",
        ),
        (
            {"extra_nodes": [w.node("Relu", ["images"], ["k"], more=w.field(5, w.field(1, "a") + w.field(11, inner)))]},
            "subgraphs",
        ),
    ]
    for keywords, message in cases:
        data = w.mean_network(SHAPE, W, B, **keywords)
        if message is None:
            assert check_onnx(data, input_shape=SHAPE, n_classes=3) == ("logits", "features")
        else:
            refused(data, message)
    good = w.mean_network(SHAPE, W, B)
    refused(good + w.field(25, w.field(1, "Relu")), "functions of its own")
    refused(good + w.field(20, b""), "training information")
    refused(good + w.field(99, b""), "number 99")


def test_external_data(onnx_writer):
    w = onnx_writer
    place = w.field(13, w.field(1, "location") + w.field(2, "../../etc/passwd"))
    for more in (place, w.field(14, 1), place + w.field(14, 1), w.field(14, 0)):
        data = w.mean_network(SHAPE, W, B, extra_weights={"x": w.tensor(np.zeros(2, np.float32), "x", more=more)})
        refused(data, "external data")
        inside = w.field(5, w.field(1, "value") + w.field(5, w.tensor(np.zeros(2, np.float32), more=more)))
        node = w.node("Constant", [], ["k"], more=inside)
        refused(w.mean_network(SHAPE, W, B, extra_nodes=[node]), "external data")


def test_tensors_that_are_not_what_they_say(onnx_writer):
    w, zeros = onnx_writer, np.zeros(4, np.float32)
    for tensor, message in [
        (w.tensor(zeros, "x", dims=(5,)), r"\(5,\) with 16 bytes"),
        (w.tensor(zeros, "x", dims=(2**62, 2**62)), "a tensor of shape"),
        (w.tensor(zeros, "x", dims=(65536, 65536)), "with 16 bytes"),
        (w.tensor(zeros, "x", dims=(-4,)), "a tensor of shape"),
        (w.tensor(zeros, "x", dims=(1,) * 9), "a tensor of shape"),
        (w.tensor(zeros, "x", dims=(1,) * 50_000), "a tensor of shape"),
        (w.tensor(zeros, "x", code=8), "type 8"),
        (w.tensor(zeros, "x", code=77), "type 77"),
        (w.tensor(zeros, "x") + w.field(4, b"\0\0\0\0"), "number 4"),
        (w.tensor(zeros, "x") + w.field(9, b"\0\0\0\0"), "raw_data twice"),
        (w.tensor(zeros, ""), "no name of their own"),
        (w.tensor(zeros, "images"), "no name of their own"),
        (w.tensor(zeros, "x" * 600), "name of 600 bytes"),
        (w.tensor(zeros, b"\xff\xfe"), "is not text"),
    ]:
        refused(w.mean_network(SHAPE, W, B, extra_weights={"x": tensor}), message)


def test_damaged_and_malicious_protobuf(onnx_writer):
    w = onnx_writer
    good = w.mean_network(SHAPE, W, B)
    nested = b""
    for _ in range(3000):
        nested = w.field(7, nested)
    for data, message in [
        (b"", "not a usable ONNX file"),
        (b"not an onnx file" * 4, "not a usable ONNX file|number"),
        (bytes(1000), "number 0"),
        (good[: len(good) // 2], "ends too early|must"),
        (nested, "number 7"),
        (b"\xff" * 1000, "more than ten bytes"),
        (w.field(2, b"x") * 2 + good, "producer_name twice"),
        (good + w.field(7, b""), "graph twice"),
        (b"\x3b" + good, "wire type 3"),
        (b"\x3a" + w.varint(2**40) + good, "ends too early"),
        (w.varint(7 << 3) + w.varint(5) + good, "graph has wire type 0"),
        (w.field(7, w.field(1, b"") * 110_000), "more than 100000 fields"),
        (w.field(7, w.field(5, w.field(1, b"\1" * 110_000))), "more than 100000 fields"),
        (w.field(7, w.field(1, w.field(5, w.field(7, bytes(500_000))))), "no usable length"),
        (b"\x14\0\0\0ORTM" + good, "not a usable ONNX file"),
    ]:
        refused(data, message)
    for place in range(0, len(good), 3):  # no byte of the file can be changed into a crash
        for value in (0x00, 0x7F, 0xFF):
            data = good[:place] + bytes([value]) + good[place + 1 :]
            try:
                check_onnx(data, input_shape=SHAPE, n_classes=3)
            except ModelError:
                continue


def test_graphs_that_are_no_network(onnx_writer):
    w = onnx_writer
    info, weights = ("logits", ("n", 3)), {"w": np.float32(W), "b": np.float32(B)}
    head = [
        w.node("GlobalAveragePool", ["images"], ["p"]),
        w.node("Flatten", ["p"], ["f"]),
        w.node("Gemm", ["f", "w", "b"], ["logits"]),
    ]
    second = w.field(11, w.value_info("more", ("n", 3)))
    for content, message in [
        (w.graph(head, weights, SHAPE, [info, ("secret", (1,))]), "must give logits"),
        (w.graph(head, weights, SHAPE, []), "must give logits"),
        (w.graph(head, weights, SHAPE, [info, info]), "must give logits"),
        (w.graph(head, weights, SHAPE, [info], more=second), "images alone"),
        (w.graph(head, weights, (1, 16, 17), [info]), "images of shape"),
        (w.graph(head, weights, SHAPE, [("logits", ("n", 3, 1, 1))]), "must give logits in 2 dimensions"),
        (w.graph(head[::-1], weights, SHAPE, [info]), "no operator before it gives"),
        (w.graph([w.node("Relu", ["images"], [f"r{i}"]) for i in range(5000)], {}, SHAPE, [info]), "5000 operators"),
    ]:
        refused(w.model(content), message)
    refused(w.mean_network(SHAPE, W, B), "4 logits", n_classes=4)
    for nodes, message in [
        (head[:2], "not a usable ONNX file"),
        ([*head, head[-1]], "not a usable ONNX file"),
        ([*head, w.node("Relu", [], ["k"])], "not a usable ONNX file"),
        ([*head, w.node("Relu", [""], ["k"])], "not a usable ONNX file"),
        ([w.node("Identity", ["w"], ["logits"])], "one row per image"),
    ]:
        refused_in_trial(w.model(w.graph(nodes, weights, SHAPE, [info])), message)
    for kind, outputs, attributes in [
        ("MaxPool", ["k"], {"kernel_shape": [0, 2]}),
        ("MaxPool", ["k"], {"kernel_shape": [2, 2], "strides": [0, 0]}),
        ("MaxPool", ["k"], {"kernel_shape": [2, 2], "pads": [9**9] * 4}),
        ("MaxPool", ["k"], {"kernel_shape": [2, 2], "auto_pad": "EVIL"}),
        ("MaxPool", ["k"], {}),
        ("Transpose", ["k"], {"perm": [0, 0, 1, 2]}),
        ("Flatten", ["k"], {"axis": 9}),
        ("ReduceMean", ["k"], {"axes": [2**40]}),
        ("Split", ["k", "m"], {"split": [-5, 6], "axis": 1}),
    ]:
        nodes = [*head, w.node(kind, ["images"], outputs, **attributes)]
        refused_in_trial(w.model(w.graph(nodes, weights, SHAPE, [info])), "not a usable ONNX file")


def test_a_process_that_dies_refuses_the_file(onnx_writer, monkeypatch):
    monkeypatch.setattr(_onnx_trial, "_SCRIPT", "import os; os.abort()")
    refused_in_trial(onnx_writer.mean_network(SHAPE, W, np.float32([1, 2, 3])), "trial ended with the code")
    monkeypatch.setattr(_onnx_trial.sys, "executable", "/no/such/python")
    refused_in_trial(onnx_writer.mean_network(SHAPE, W, np.float32([1, 2, 4])), "cannot be tried")


def test_only_foreign_networks_are_tried(onnx_writer, monkeypatch, tmp_path):
    """Packaged ones, and copies of what has passed here, start without a second process."""
    data = onnx_writer.mean_network(SHAPE, W, np.float32([7, 8, 9]))
    network = OnnxNetwork(data, input_shape=SHAPE, n_classes=3)
    network.start()
    monkeypatch.setattr(_onnx_trial, "_SCRIPT", "import os; os.abort()")
    for other in (pickle.loads(pickle.dumps(network)), OnnxNetwork(data, input_shape=SHAPE, n_classes=3)):
        other.start()
    load_classifier("coolcore")
    load_classifier(folder(tmp_path))


def folder(tmp_path):
    shutil.copytree(PACKAGED, tmp_path / "model")
    return tmp_path / "model"


def edit(path, change):
    document = json.loads((path / "model.json").read_text())
    change(document)
    (path / "model.json").write_text(json.dumps(document))


def replace(path, name, data):
    """Another file, with the size and SHA-256 that belong to it: a forger can do that."""
    (path / name).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(path, lambda document: document["files"].update({name: entry}))


def raw(path, data):
    (path / "model.json").write_bytes(data)


def safetensors(header, data=b""):
    header = json.dumps(header).encode() if isinstance(header, dict) else header
    return len(header).to_bytes(8, "little") + header + data


def huge(path):
    """A sparse file of 8 GB takes no space on the disk, and all memory when read."""
    with (path / "model.onnx").open("r+b") as file:
        file.truncate(8 << 30)
    edit(path, lambda document: document["files"]["model.onnx"].update(size=8 << 30))


def fifo(path):
    (path / "model.json").unlink()
    os.mkfifo(path / "model.json")


def outside(path):
    (path / "weights.safetensors").rename(path.parent / "elsewhere")
    (path / "weights.safetensors").symlink_to(path.parent / "elsewhere")


FOLDERS = {
    "json deep": lambda p: raw(p, b"[" * 900_000),
    "json deep object": lambda p: raw(p, b'{"format":' * 200 + b"1" + b"}" * 200),
    "json many lists": lambda p: raw(p, b"[" + b"[]," * 200_000 + b"1]"),
    "json digits": lambda p: raw(p, b'{"format_version": ' + b"9" * 500_000 + b"}"),
    "json infinite": lambda p: raw(p, b'{"format_version": 1e999}'),
    "json not a number": lambda p: raw(p, b'{"format_version": NaN}'),
    "json twice": lambda p: raw(p, b'{"format": "astroclassify-model", "format": "x"}'),
    "json surrogate": lambda p: raw(p, b'{"format": "\\ud800"}'),
    "json not utf-8": lambda p: raw(p, b'{"format": "\xff"}'),
    "json empty": lambda p: raw(p, b""),
    "json huge": lambda p: os.truncate(p / "model.json", 4 << 30),
    "newer version": lambda p: edit(p, lambda d: d.update(format_version=99)),
    "escape": lambda p: edit(p, lambda d: d["files"].update({"../../evil": {}})),
    "architecture by path": lambda p: edit(p, lambda d: d.update(architecture="os:system")),
    "unit": lambda p: edit(p, lambda d: d["geometry"].update(unit="m" * 500_000)),
    "unit formula": lambda p: edit(p, lambda d: d["geometry"].update(unit="(" * 50_000)),
    "shape": lambda p: edit(p, lambda d: d["geometry"].update(shape=[10**9, 10**9])),
    "classes": lambda p: edit(p, lambda d: d["scheme"].update(classes=["a"] * 3)),
    "size": lambda p: edit(p, lambda d: d["files"]["model.onnx"].update(size=-1)),
    "size true": lambda p: edit(p, lambda d: d["files"]["model.onnx"].update(size=True)),
    "huge file": huge,
    "pipe": fifo,
    "link": outside,
    "weights overlap": lambda p: replace(p, "weights.safetensors", safetensors(OVERLAP, bytes(8))),
    "weights header": lambda p: replace(p, "weights.safetensors", (2**63).to_bytes(8, "little") + b"{}"),
}
OVERLAP = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_hostile_folders(tmp_path, name):
    path = folder(tmp_path)
    FOLDERS[name](path)
    with Quick(), pytest.raises(ModelError) as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


def test_a_hostile_network_in_a_folder_costs_neither_time_nor_memory(tmp_path, onnx_writer):
    """In a process of its own: what ONNX Runtime would take counts too."""
    path = folder(tmp_path)
    document = json.loads((path / "model.json").read_text())
    shape = (1, *document["geometry"]["shape"])
    folders = []
    for name, (nodes, weights) in list(bombs(onnx_writer).items())[::2]:
        target = tmp_path / name.replace(" ", "-")
        shutil.copytree(path, target)
        data = onnx_writer.mean_network(shape, W, B, extra_nodes=nodes, extra_weights=weights)
        replace(target, "model.onnx", data)
        folders.append(str(target))
    script = (
        "import resource, sys, time\n"
        "from astroclassify.exceptions import ModelError\n"
        "from astroclassify.nn import load_classifier\n"
        "load_classifier('coolcore').predict_proba([])\n"
        "peak = lambda who=resource.RUSAGE_SELF: resource.getrusage(who).ru_maxrss\n"
        "before, start = peak(), time.process_time()\n"
        "for folder in sys.argv[1:]:\n"
        "    try: load_classifier(folder)\n"
        "    except ModelError: continue\n"
        "    sys.exit(f'{folder} was loaded')\n"
        "print(peak() - before, peak(resource.RUSAGE_CHILDREN), time.process_time() - start)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kilobytes, in_trials, seconds = map(float, done.stdout.split())
    assert kilobytes < 200e3 and in_trials < 1200e3 and seconds < 20 * len(folders)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (OVERLAP, bytes(8), "must begin at byte 8"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8), "must begin at byte 0"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(8), "have 4 bytes, the file has 8"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4), "must have 8 bytes"),
        ({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4), "must have"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4), "has the shape"),
        ({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, bytes(4), "has the shape"),
        ({"a": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, bytes(4), "has the shape"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4), "must have 4 bytes"),
        ({"a": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "dtype 'OBJ'"),
        ({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "dtype"),
        ({"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 4]}}, bytes(4), "must have 8 bytes"),
        ({"a": {"dtype": "F32", "shape": [1]}}, bytes(4), "must have dtype, shape and data_offsets"),
        ({"a": 3}, b"", "must have dtype"),
        ({"__metadata__": {"a": 1}}, b"", "must hold texts"),
        (b"[]", b"", "must be an object"),
        (b'{"a": 1, "a": 2}', b"", "twice"),
        (b"{" * 1000, b"", "nested deeper"),
        (b"\xff", b"", "is not JSON"),
        (b" " * (5 << 20), b"", "at most"),
    ],
)
def test_hostile_safetensors(header, data, message):
    with Quick(), pytest.raises(ModelError, match=message) as caught:
        check_safetensors(safetensors(header, data))
    assert "\n" not in str(caught.value)


def test_short_safetensors():
    for data in (b"", b"\0" * 7, (2**63).to_bytes(8, "little"), (3).to_bytes(8, "little") + b"{}"):
        with pytest.raises(ModelError, match="header would end outside"):
            check_safetensors(data)


def test_good_files_pass():
    shapes = check_safetensors((PACKAGED.with_name("cluster-xmm") / "weights.safetensors").read_bytes())
    assert len(shapes) > 50 and shapes["fc.bias"] == (5,)
    text = json.dumps({"a": [1, -2.5, None, True, "\u00e9 \U0001f600", {"b": []}]}).encode()
    assert read_json_limited(text, limit=1000, where="x") == json.loads(text)
    reference = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, I64), "c": np.array(True), "d": np.zeros((0, 2))}
    assert check_safetensors(reference.save(arrays)) == {name: array.shape for name, array in arrays.items()}


def test_networks_of_every_architecture_pass():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from astroclassify.nn.networks import _build as _networks

    for name in _networks.ARCHITECTURES:
        n_bands, *shape = input_shape(("xray",), name, (36, 32)) if name == PROFILE else (2, 36, 32)
        network = _networks.build(name, n_bands=n_bands, n_classes=3, shape=tuple(shape), n_filters=8, seed=0)
        data = _networks.export_onnx(network.eval(), n_bands=n_bands, shape=tuple(shape))
        assert "logits" in check_onnx(data, input_shape=(n_bands, *shape), n_classes=3)

    class Mixed(torch.nn.Module):
        """Layers that a user may think of."""

        def __init__(self):
            super().__init__()
            nn = torch.nn
            self.stem = nn.Sequential(
                nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.GELU(), nn.Conv2d(8, 8, 3, groups=8),
                nn.BatchNorm2d(8), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Hardswish(), nn.LeakyReLU(),
                nn.MaxPool2d(2),
            )  # fmt: skip
            self.norm, self.query, self.head = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 3)

        def forward(self, x):
            tokens = self.norm(self.stem(x).flatten(2).transpose(1, 2))
            q, k, v = self.query(tokens).view(x.shape[0], -1, 2, 12).transpose(1, 2).chunk(3, dim=3)
            mixed = (torch.softmax(q @ k.transpose(2, 3) / 2, dim=3) @ v).transpose(1, 2).reshape(x.shape[0], -1, 8)
            a, b = (tokens + mixed).chunk(2, dim=1)
            return self.head(torch.cat([a, b], 1).view(x.shape[0], -1, 8).mean(1))

    data = _networks.export_onnx(Mixed().eval(), n_bands=1, shape=(32, 32))
    assert check_onnx(data, input_shape=(1, 32, 32), n_classes=3) == ("logits",)
