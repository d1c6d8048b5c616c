"""
Look an ONNX file over before ONNX Runtime sees it, with no more than a bounded walk through its protobuf fields.

Only what the networks of this package write is let through: known fields, once where once is due; plain tensors inside
the file; one input; a list of operators without control flow, functions or custom domains; and shapes that can be told
without running anything and that fit the input (`_onnx_shapes`).
"""

from dataclasses import dataclass, field

import numpy as np

from ..exceptions import ModelError
from ._onnx_shapes import DTYPES, Value, infer_shapes

__all__ = ["OUTPUTS", "check_onnx"]

OUTPUTS = ("logits", "class_maps", "features")
"""Outputs that a network may have; the first it must have."""

# A network of 200 nodes has about 5000 fields; a walk through this many takes a quarter of a second.
_MAX_FIELDS = 100_000
_MAX_NODES = 4096
_MAX_NAME = 512
_MAX_DIMS = 8
_DOMAINS = ("", "ai.onnx")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Kinds of fields, beside nested messages (a dict): a whole number, text, bytes left as they are, a float, left unread.
_INT, _TEXT, _RAW, _FLOAT, _SKIP = "int", "text", "raw", "float", "skip"
_WIRE = {_INT: _VARINT, _FLOAT: _FIXED32}
# Messages of onnx.proto: number -> (name, kind, whether repeated). What is not listed is refused: external data,
# subgraphs, functions, training information, sparse and text tensors, and whatever later versions add.
_TENSOR = {
    1: ("dims", _INT, True),
    2: ("data_type", _INT, False),
    8: ("name", _TEXT, False),
    9: ("raw_data", _RAW, False),
    12: ("doc_string", _SKIP, False),
}
_ATTRIBUTE = {
    1: ("name", _TEXT, False),
    2: ("f", _FLOAT, False),
    3: ("i", _INT, False),
    4: ("s", _TEXT, False),
    5: ("t", _TENSOR, False),
    7: ("floats", _FLOAT, True),
    8: ("ints", _INT, True),
    13: ("doc_string", _SKIP, False),
    20: ("type", _INT, False),
}
_NODE = {
    1: ("input", _TEXT, True),
    2: ("output", _TEXT, True),
    3: ("name", _TEXT, False),
    4: ("op_type", _TEXT, False),
    5: ("attribute", _ATTRIBUTE, True),
    6: ("doc_string", _SKIP, False),
    7: ("domain", _TEXT, False),
}
_DIMENSION = {1: ("dim_value", _INT, False), 2: ("dim_param", _TEXT, False)}
_TENSOR_TYPE = {1: ("elem_type", _INT, False), 2: ("shape", {1: ("dim", _DIMENSION, True)}, False)}
_VALUE_INFO = {
    1: ("name", _TEXT, False),
    2: ("type", {1: ("tensor_type", _TENSOR_TYPE, False)}, False),
    3: ("doc_string", _SKIP, False),
}
_GRAPH = {
    1: ("node", _NODE, True),
    2: ("name", _TEXT, False),
    5: ("initializer", _TENSOR, True),
    10: ("doc_string", _SKIP, False),
    11: ("input", _VALUE_INFO, True),
    12: ("output", _VALUE_INFO, True),
}
_MODEL = {
    1: ("ir_version", _INT, False),
    2: ("producer_name", _TEXT, False),
    3: ("producer_version", _TEXT, False),
    4: ("domain", _TEXT, False),
    5: ("model_version", _INT, False),
    6: ("doc_string", _SKIP, False),
    7: ("graph", _GRAPH, False),
    8: ("opset_import", {1: ("domain", _TEXT, False), 2: ("version", _INT, False)}, True),
}
_REFUSED = {
    (id(_TENSOR), 13): "external data",
    (id(_TENSOR), 14): "external data",
    (id(_ATTRIBUTE), 6): "a subgraph",
    (id(_ATTRIBUTE), 11): "subgraphs",
    (id(_MODEL), 20): "training information",
    (id(_MODEL), 25): "functions of its own",
}
# Attribute types of onnx.proto and the field that holds the value.
_ATTRIBUTE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}


@dataclass
class Node:
    """One operator: ``kind``, names of inputs and outputs, attributes as plain values."""

    kind: str
    inputs: list
    outputs: list
    attributes: dict = field(default_factory=dict)


def _refuse(text):
    raise ModelError(f"model.onnx {text}")


class _Walker:
    """Reads protobuf messages by the tables above; every field read counts against one budget."""

    def __init__(self):
        self.left = _MAX_FIELDS

    def _spend(self):
        self.left -= 1
        if self.left < 0:
            _refuse(f"has more than {_MAX_FIELDS} fields")

    def varint(self, view, place):
        """Whole number at a place, and the place after it."""
        value = 0
        for shift in range(0, 70, 7):
            if place >= len(view):
                _refuse("is not a usable ONNX file: it ends too early")
            byte = view[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (2**64 - 1), place
        return _refuse("is not a usable ONNX file: it holds a number of more than ten bytes")

    def fields(self, view):
        """Yield (number, wire type, value) of each field."""
        place = 0
        while place < len(view):
            self._spend()
            key, place = self.varint(view, place)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, place = self.varint(view, place)
            elif wire in (_BYTES, _FIXED64, _FIXED32):
                size, place = self.varint(view, place) if wire == _BYTES else (8 if wire == _FIXED64 else 4, place)
                if size > len(view) - place:
                    _refuse("is not a usable ONNX file: it ends too early")
                value = view[place : place + size]
                place += size
            else:
                _refuse(f"is not a usable ONNX file: wire type {wire}")
            yield number, wire, value

    def message(self, view, table):
        """One message as a dict of the fields it has."""
        result = {}
        for number, wire, value in self.fields(view):
            if number not in table:
                what = _REFUSED.get((id(table), number), f"a field that its networks never have (number {number})")
                _refuse(f"must hold its own weights and plain operators only, got {what}")
            name, kind, repeated = table[number]
            values = self._values(wire, value, kind, name)
            if not repeated and (name in result or len(values) != 1):
                _refuse(f"is not a usable ONNX file: it has {name} twice")
            if repeated:
                result.setdefault(name, []).extend(values)
            else:
                result[name] = values[0]
        return result

    def _values(self, wire, value, kind, name):
        """Values of one field: several where they are packed."""
        due = _BYTES if isinstance(kind, dict) else _WIRE.get(kind, _BYTES)
        if wire == _BYTES != due:
            return self._packed(value, kind)
        if wire != due:
            _refuse(f"is not a usable ONNX file: {name} has wire type {wire}")
        if isinstance(kind, dict):
            return [self.message(value, kind)]
        if kind == _INT:
            return [value - 2**64 if value >= 2**63 else value]
        if kind == _FLOAT:
            return [float(np.frombuffer(value, "<f4")[0])]
        if kind == _TEXT:
            return [self._text(value, name)]
        return [value]

    def _packed(self, view, kind):
        if kind == _FLOAT:
            if len(view) % 4 or len(view) > 4 * _MAX_FIELDS:
                _refuse("is not a usable ONNX file: a list of floats has no usable length")
            return np.frombuffer(view, "<f4").tolist()
        values, place = [], 0
        while place < len(view):
            self._spend()
            value, place = self.varint(view, place)
            values.append(value - 2**64 if value >= 2**63 else value)
        return values

    def _text(self, view, name):
        if len(view) > _MAX_NAME:
            _refuse(f"has a {name} of {len(view)} bytes, at most {_MAX_NAME} are read")
        try:
            return bytes(view).decode("utf-8")
        except UnicodeDecodeError:
            return _refuse(f"is not a usable ONNX file: {name} is not text")


def _tensor(entry):
    """A tensor as a `Value`; its content is kept where it may tell a shape."""
    dims, code = tuple(entry.get("dims", ())), entry.get("data_type")
    if code not in DTYPES:
        _refuse(f"has a tensor of type {code}, known are {sorted(DTYPES)}")
    if len(dims) > _MAX_DIMS or any(not 0 <= n < 2**31 for n in dims):
        _refuse(f"has a tensor of shape {str(dims)[:80]}")
    value, data = Value(dims), entry.get("raw_data", b"")
    dtype = np.dtype(DTYPES[code])
    if value.size * dtype.itemsize != len(data):
        _refuse(f"has a tensor of shape {dims} with {len(data)} bytes, should be {value.size * dtype.itemsize}")
    return value.known(np.frombuffer(data, dtype).reshape(dims))


def _node(entry):
    if entry.get("domain", "") not in _DOMAINS:
        _refuse(f"must use operators of ONNX itself, got the domain {entry['domain']!r}")
    attributes = {}
    for each in entry.get("attribute", ()):
        name = _ATTRIBUTE_FIELDS.get(each.get("type"))
        if name is None or set(each) - {"name", "type", "doc_string", name} or each.get("name", "") in attributes:
            _refuse(f"has an attribute {each.get('name')!r} that no operator here has")
        # Protobuf leaves out an empty list, and so may it a zero.
        value = each.get(name, {"f": 0.0, "i": 0, "s": "", "floats": [], "ints": []}.get(name))
        attributes[each.get("name", "")] = _tensor(value or {}) if name == "t" else value
    return Node(entry.get("op_type", ""), entry.get("input", []), entry.get("output", []), attributes)


def _check_input(graph, input_shape):
    inputs = graph.get("input", [])
    if [each.get("name") for each in inputs] != ["images"]:
        _refuse(f"must take images alone, got the inputs {[each.get('name') for each in inputs][:8]}")
    kind = inputs[0].get("type", {}).get("tensor_type", {})
    dims = [dim.get("dim_value") for dim in kind.get("shape", {}).get("dim", ())]
    if kind.get("elem_type") != 1 or tuple(dims[1:]) != tuple(input_shape) or dims[0] is not None:
        _refuse(f"must take images of shape {tuple(input_shape)}, any number at a time, got {dims}")


def _check_outputs(graph, values, n_images, n_classes):
    for each in graph["output"]:
        name = each.get("name")
        shape = values[name].shape if name in values else None
        wanted = {"logits": 2, "class_maps": 4, "features": 2}[name]
        if shape is None or len(shape) != wanted or shape[0] != n_images:
            _refuse(f"must give {name} in {wanted} dimensions, one row per image, got {shape}")
        if name != "features" and shape[1] != n_classes:
            _refuse(f"must give {n_classes} logits, got {name} of shape {shape}")


def check_onnx(data, *, input_shape, n_classes, n_images=1):
    """
    Refuse an ONNX file that is not a plain network on images; nothing of it is run.

    Parameters
    ----------
    data : bytes
        The file.
    input_shape : tuple of int
        ``(n_bands, ny, nx)``.
    n_classes : int
        Number of logits.
    n_images : int, optional
        How many images will be given at most at a time; shapes are worked out for one and for this many.

    Returns
    -------
    tuple of str
        Names of the outputs.

    Raises
    ------
    ModelError
        If the file is not such a network: not ONNX, external data, subgraphs, functions, an operator that is not in
        the list, a shape that depends on pixels, tensors far larger than the images, or other inputs and outputs.

    Notes
    -----
    The walk reads at most 100,000 protobuf fields and copies no weights, so that it takes less than a second and a few
    megabytes whatever the file. Fields that the networks of this package never have are refused, not skipped: what is
    not understood here might be understood by ONNX Runtime.
    """
    if len(data) < 16 or bytes(data[4:8]) == b"ORTM":  # the latter: ONNX Runtime would take it for its own format
        _refuse("is not a usable ONNX file")
    model = _Walker().message(memoryview(data), _MODEL)
    domains = [each.get("domain", "") for each in model.get("opset_import", ())]
    if not domains or set(domains) - set(_DOMAINS):
        _refuse(f"must use operators of ONNX itself, got the domains {domains[:8]}")
    graph = model.get("graph", {})
    names = [each.get("name") for each in graph.get("output", ())]
    if "logits" not in names or len(set(names)) != len(names) or set(names) - set(OUTPUTS):
        _refuse(f"must give logits, and may give {OUTPUTS[1:]}, got {names[:8]}")
    if len(graph.get("node", ())) > _MAX_NODES:
        _refuse(f"has {len(graph['node'])} operators, at most {_MAX_NODES} are read")
    _check_input(graph, input_shape)
    nodes = [_node(entry) for entry in graph.get("node", ())]
    weights = {}
    for entry in graph.get("initializer", ()):
        if not entry.get("name") or entry["name"] in weights or entry["name"] == "images":
            _refuse(f"is not a usable ONNX file: weights {entry.get('name')!r} have no name of their own")
        weights[entry["name"]] = _tensor(entry)
    for n in sorted({1, int(n_images)}):
        values = infer_shapes(nodes, {**weights, "images": Value((n, *input_shape))}, keep=names)
        _check_outputs(graph, values, n, n_classes)
    return tuple(names)
