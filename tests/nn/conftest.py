"""ONNX files written field by field: without the onnx package, and also such as it would refuse to write."""

import os
import struct
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import ONNX Runtime themselves

CODES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11}


def varint(number):
    number &= 2**64 - 1
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number, value):
    """One protobuf field: a whole number, a float, text or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(array, name="", *, dims=None, code=None, more=b""):
    array = np.asarray(array)
    dims = array.shape if dims is None else dims
    code = CODES[array.dtype.name] if code is None else code
    parts = [*(field(1, int(n)) for n in dims), field(2, code), field(8, name), field(9, array.tobytes()), more]
    return b"".join(parts)


def attribute(name, value):
    if isinstance(value, float):
        parts = [field(2, value), field(20, 1)]
    elif isinstance(value, int):
        parts = [field(3, value), field(20, 2)]
    elif isinstance(value, str):
        parts = [field(4, value), field(20, 3)]
    elif isinstance(value, np.ndarray):
        parts = [field(5, tensor(value)), field(20, 4)]
    else:
        parts = [*(field(8, each) for each in value), field(20, 7)]
    return b"".join([field(1, name), *parts])


def node(kind, inputs, outputs, *, domain="", more=b"", **attributes):
    parts = [*(field(1, name) for name in inputs), *(field(2, name) for name in outputs), field(4, kind)]
    parts += [field(5, attribute(*each)) for each in attributes.items()]
    return b"".join([*parts, field(7, domain) if domain else b"", more])


def value_info(name, dims, code=1):
    dims = b"".join(field(1, field(2, n) if isinstance(n, str) else field(1, n)) for n in dims)
    return field(1, name) + field(2, field(1, field(1, code) + field(2, dims)))


def graph(nodes, weights, shape, outputs, *, more=b""):
    parts = [*(field(1, each) for each in nodes), field(2, "network")]
    parts += [field(5, tensor(array, name)) if isinstance(array, np.ndarray) else field(5, array)
              for name, array in weights.items()]  # fmt: skip
    parts += [field(11, value_info("images", ("n", *shape))), *(field(12, value_info(*each)) for each in outputs)]
    return b"".join([*parts, more])


def model(content, *, opset=17, domain="", more=b""):
    return field(1, 8) + field(7, content) + field(8, field(1, domain) + field(2, opset)) + more


def mean_network(shape, weights, bias, *, extra_nodes=(), extra_weights=None, more=b"", **keywords):
    """logits = mean of each band @ weights + bias; the means are the features."""
    nodes = [
        *extra_nodes,
        node("GlobalAveragePool", ["images"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"]),
        node("Gemm", ["features", "w", "b"], ["logits"]),
    ]
    weights = {"w": np.float32(weights), "b": np.float32(bias), **(extra_weights or {})}
    outputs = [("logits", ("n", len(bias))), ("features", ("n", shape[0]))]
    return model(graph(nodes, weights, shape, outputs, more=more), **keywords)


@pytest.fixture(scope="session")
def onnx_writer():
    """Functions that write ONNX files."""
    return SimpleNamespace(
        varint=varint, field=field, tensor=tensor, node=node, graph=graph, model=model, value_info=value_info,
        mean_network=mean_network,
    )  # fmt: skip
