"""
Check an ONNX file before ONNX Runtime reads it, by a bounded walk through its protobuf fields.

Allowed are known fields (once where they are not repeated), tensors inside the file, one input, operators of a list
without control flow, functions or custom domains, and shapes that do not depend on pixels.
"""

import math

import numpy as np

from astroclassify.exceptions import ModelError

__all__ = ["OUTPUTS", "check_onnx", "check_outputs"]

OUTPUTS = {"logits": 2, "class_maps": 4, "features": 2}
"""Outputs that a network may have, and their numbers of dimensions; the first it must have."""

OPERATORS = frozenset(
    "Abs Add And AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv Cos Div "
    "Dropout Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater "
    "GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less "
    "Log LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mish Mul Neg Or PRelu Pad Pow Reciprocal ReduceL1 "
    "ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape "
    "Resize Selu Shape Sigmoid Sign Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh "
    "ThresholdedRelu Tile Transpose Unsqueeze Where".split()
)
"""Operators that a network may use."""

# The first input whose numbers (not only its shape) decide the shape of what an operator gives.
_SHAPED_FROM = {
    "ConstantOfShape": 0,
    **dict.fromkeys("Expand Pad Reshape Resize Slice Split Squeeze Tile Unsqueeze".split(), 1),
    **{kind: 1 for kind in OPERATORS if kind.startswith("Reduce")},
}
# Bytes of an element of the tensor types of onnx.proto that are read: float32, int32, int64, bool, float16, float64.
_ITEM_SIZES = {1: 4, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}

# A network of 200 nodes has about 5000 fields; a walk through this many takes a quarter of a second.
_MAX_FIELDS = 100_000
_MAX_NODES = 4096
_MAX_NAME = 512
_MAX_DIMS = 8
_DOMAINS = ("", "ai.onnx")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Kinds of fields, besides nested messages (a dict): a whole number, text, bytes as they are, a float, not read.
_INT, _TEXT, _RAW, _FLOAT, _SKIP = "int", "text", "raw", "float", "skip"
_WIRE = {_INT: _VARINT, _FLOAT: _FIXED32}


def _message(fields, **nested):
    """Fields of a message from "number:name:kind ...": number -> (name, kind, whether repeated, marked by *)."""
    rows = (field.split(":") for field in fields.split())
    return {int(n): (name.strip("*"), nested.get(kind, kind), name.endswith("*")) for n, name, kind in rows}


# Messages of onnx.proto. What is not listed is refused: external data, subgraphs, functions, training information,
# sparse and text tensors, and whatever later versions add.
_TENSOR = _message("1:dims*:int 2:data_type:int 8:name:text 9:raw_data:raw 12:doc_string:skip")
_ATTRIBUTE = _message(
    "1:name:text 2:f:float 3:i:int 4:s:text 5:t:tensor 7:floats*:float 8:ints*:int 13:doc_string:skip 20:type:int",
    tensor=_TENSOR,
)
_NODE = _message(
    "1:input*:text 2:output*:text 3:name:text 4:op_type:text 5:attribute*:attribute 6:doc_string:skip 7:domain:text",
    attribute=_ATTRIBUTE,
)
_SHAPE = _message("1:dim*:dimension", dimension=_message("1:dim_value:int 2:dim_param:text"))
_TYPE = _message("1:tensor_type:tensor", tensor=_message("1:elem_type:int 2:shape:shape", shape=_SHAPE))
_GRAPH = _message(
    "1:node*:node 2:name:text 5:initializer*:tensor 10:doc_string:skip 11:input*:value 12:output*:value",
    node=_NODE, tensor=_TENSOR, value=_message("1:name:text 2:type:type 3:doc_string:skip", type=_TYPE),
)  # fmt: skip
_MODEL = _message(
    "1:ir_version:int 2:producer_name:text 3:producer_version:text 4:domain:text 5:model_version:int 6:doc_string:skip "
    "7:graph:graph 8:opset_import*:opset 14:metadata_props*:label",
    graph=_GRAPH, opset=_message("1:domain:text 2:version:int"), label=_message("1:key:text 2:value:text"),
)  # fmt: skip
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


def _check_tensor(entry):
    """Refuse a tensor whose data are not those of its type and shape."""
    dims, code = tuple(entry.get("dims", ())), entry.get("data_type")
    if code not in _ITEM_SIZES:
        _refuse(f"has a tensor of type {code}, known are {sorted(_ITEM_SIZES)}")
    if len(dims) > _MAX_DIMS or any(not 0 <= n < 2**31 for n in dims):
        _refuse(f"has a tensor of shape {str(dims)[:80]}")
    found, due = len(entry.get("raw_data", b"")), math.prod(dims) * _ITEM_SIZES[code]
    if found != due:
        _refuse(f"has a tensor of shape {dims} with {found} bytes, should be {due}")


def _check_attribute(entry):
    name = _ATTRIBUTE_FIELDS.get(entry.get("type"))
    if name is None or set(entry) - {"name", "type", "doc_string", name}:
        _refuse(f"has an attribute {entry.get('name')!r} that no operator here has")
    if name == "t":
        _check_tensor(entry.get("t", {}))


def _check_nodes(nodes, weights):
    """
    Refuse operators that are not in the list, and shapes that depend on pixels.

    No shape may be computed from tensors whose numbers depend on pixels (``moving``). Shapes then depend on the number
    of images alone, and a trial with each number (`_onnx_trial`) shows all memory and time that the file can take.
    """
    moving, known = {"images"}, {"images", *weights}
    for node in nodes:
        kind, inputs, outputs = node.get("op_type", ""), node.get("input", []), node.get("output", [])
        if node.get("domain", "") not in _DOMAINS:
            _refuse(f"must use operators of ONNX itself, got the domain {node['domain']!r}")
        if kind not in OPERATORS:
            _refuse(f"has the operator {kind[:80]!r}, which is not one of those that networks here may use")
        missing = [name for name in inputs if name and name not in known]
        if missing:
            _refuse(f"has an operator {kind} that takes what no operator before it gives: {missing[:4]}")
        for attribute in node.get("attribute", ()):
            _check_attribute(attribute)
        if moving.intersection(inputs[_SHAPED_FROM.get(kind, len(inputs)) :]):
            _refuse(f"has an operator {kind} whose shape depends on the pixels of the image")
        known.update(outputs)
        if kind != "Shape" and moving.intersection(inputs):
            moving.update(outputs)


def _dimensions(entry):
    """Number of each dimension that is declared, None where any is allowed."""
    shape = entry.get("type", {}).get("tensor_type", {}).get("shape", {})
    return [dim.get("dim_value") for dim in shape.get("dim", ())]


def _check_input(graph, input_shape):
    inputs = graph.get("input", [])
    if [each.get("name") for each in inputs] != ["images"]:
        _refuse(f"must take images alone, got the inputs {[each.get('name') for each in inputs][:8]}")
    dims, code = _dimensions(inputs[0]), inputs[0].get("type", {}).get("tensor_type", {}).get("elem_type")
    if code != 1 or tuple(dims[1:]) != tuple(input_shape) or dims[0] is not None:
        _refuse(f"must take images of shape {tuple(input_shape)}, any number at a time, got {dims}")


def check_outputs(shapes, n_images, n_classes):
    """Refuse outputs (shape by name) that are not those of a network with so many classes on so many images."""
    for name, shape in shapes.items():
        ndim = OUTPUTS[name]
        if len(shape) != ndim or shape[0] not in (n_images, None):
            _refuse(f"must give {name} in {ndim} dimensions, one row per image, got {tuple(shape)}")
        if name != "features" and shape[1] not in (n_classes, None):
            _refuse(f"must give {n_classes} logits, got {name} of shape {tuple(shape)}")


def check_onnx(data, *, input_shape, n_classes):
    """
    Names of the outputs of an ONNX file of a network on images of shape (n_bands, ny, nx); nothing of it is run.

    ModelError if it is not ONNX or has something that is not allowed (see the module). At most 100,000 fields are read
    and no weights are copied: less than a second and a few megabytes for any file.
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
        _refuse(f"must give logits, and may give {tuple(OUTPUTS)[1:]}, got {names[:8]}")
    if len(graph.get("node", ())) > _MAX_NODES:
        _refuse(f"has {len(graph['node'])} operators, at most {_MAX_NODES} are read")
    _check_input(graph, input_shape)
    declared = {each["name"]: _dimensions(each) for each in graph["output"]}
    check_outputs({name: dims for name, dims in declared.items() if dims}, None, n_classes)
    weights = set()
    for entry in graph.get("initializer", ()):
        if not entry.get("name") or entry["name"] in weights or entry["name"] == "images":
            _refuse(f"is not a usable ONNX file: weights {entry.get('name')!r} have no name of their own")
        _check_tensor(entry)
        weights.add(entry["name"])
    _check_nodes(graph.get("node", ()), weights)
    return tuple(names)
