"""
Shapes of all tensors of an ONNX graph, worked out without running it: the operators that are let through and their
rules (ONNX operator specification, https://onnx.ai/onnx/operators), and limits on what they may ask for.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import ModelError

__all__ = ["DTYPES", "OPERATORS", "Value", "infer_shapes"]

DTYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
"""Tensor types of onnx.proto that are read, as numpy types."""

# Largest content that is followed: shapes, axes, pads, scales.
_MAX_KNOWN = 64
# Elements alive at one time, relative to those of the input (ResNet-18 of width 64 needs 40), and at least this many.
_ALIVE, _LEAST_ALIVE = 512, 1 << 23
# Multiplications for one image (ResNet-18 of width 64 needs 2.4e9 at 256 pixels).
_MAX_WORK = 3e12


@dataclass(frozen=True)
class Value:
    """Shape of a tensor, and its content where that is known and small."""

    shape: tuple
    content: Any = None

    @property
    def size(self):
        """Number of elements, a Python integer: it does not overflow."""
        return math.prod(self.shape)

    def known(self, content):
        """The same with content, unless it is large."""
        return Value(self.shape, content if content is not None and content.size <= _MAX_KNOWN else None)

    def numbers(self, what):
        """Content as a flat list of whole numbers."""
        if self.content is None or self.content.dtype.kind not in "iu" or len(self.shape) > 1:
            raise ModelError(f"model.onnx: {what} must be given as numbers in the file, not depend on the image")
        return [int(number) for number in self.content.ravel()]


def _fault(node, text):
    raise ModelError(f"model.onnx: operator {node.kind} {text}")


def _axis(node, axis, ndim):
    if not -ndim <= axis < ndim:
        _fault(node, f"has axis {axis} on {ndim} dimensions")
    return axis % ndim


def _axes(node, inputs, ndim, place=1):
    """Axes from the attribute or, in later operator sets, from an input; None where neither is there."""
    axes = node.attributes.get("axes")
    if axes is None and len(inputs) > place and inputs[place] is not None:
        axes = inputs[place].numbers("axes")
    return None if axes is None else [_axis(node, axis, ndim) for axis in axes]


def _same(node, inputs):
    return [Value(inputs[0].shape)]


def _identity(node, inputs):
    return [inputs[0]]


def _cast(node, inputs):
    to = DTYPES.get(node.attributes.get("to"))
    if to is None:
        _fault(node, f"has the unknown type {node.attributes.get('to')}")
    content = inputs[0].content
    if content is not None and np.all(np.abs(content.astype(float)) < 2**31):
        return [inputs[0].known(content.astype(to))]
    return [Value(inputs[0].shape)]  # programs differ in what they make of numbers that do not fit


def _broadcast_shapes(node, shapes):
    try:
        return tuple(map(int, np.broadcast_shapes(*shapes)))
    except ValueError:
        return _fault(node, f"cannot combine the shapes {shapes}")


_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide}


def _broadcast(node, inputs):
    result = Value(_broadcast_shapes(node, [each.shape for each in inputs]))
    contents = [each.content for each in inputs]
    if node.kind in _ARITHMETIC and len(inputs) == 2 and all(c is not None and c.dtype.kind == "i" for c in contents):
        if node.kind == "Div" and (contents[1] <= 0).any() | (contents[0] < 0).any():
            return [result]  # ONNX rounds towards zero, numpy down: only where they agree
        with np.errstate(all="ignore"):
            return [result.known(np.asarray(_ARITHMETIC[node.kind](*contents)))]
    return [result]


def _window(node, sides, kernel, *, ceil=False):
    """Output sides of a sliding window."""
    get, n = node.attributes.get, len(sides)
    strides, dilations, pads = get("strides") or [1] * n, get("dilations") or [1] * n, get("pads") or [0] * 2 * n
    auto = get("auto_pad") or "NOTSET"
    if not len(strides) == len(dilations) == len(kernel) == n or len(pads) != 2 * n:
        _fault(node, f"has attributes for another number of axes than {n}")
    if min(*strides, *dilations, *kernel) < 1 or min(pads) < 0:
        _fault(node, "has a stride, dilation or side below 1, or a negative pad")
    result = []
    for i, side in enumerate(sides):
        reach = dilations[i] * (kernel[i] - 1) + 1
        if max(pads[i], pads[n + i]) >= reach:
            _fault(node, f"pads by {max(pads[i], pads[n + i])}, more than its window of {reach}")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-side // strides[i]))
            continue
        if auto not in ("NOTSET", "VALID"):
            _fault(node, f"has auto_pad {auto!r}")
        padded = side if auto == "VALID" else side + pads[i] + pads[n + i]
        steps = padded - reach
        out = (-(-steps // strides[i]) if ceil else steps // strides[i]) + 1
        if ceil and (out - 1) * strides[i] >= side + pads[i]:  # a window must begin on the image
            out -= 1
        result.append(out)
    if min(result) < 1:
        _fault(node, f"leaves nothing of {tuple(sides)}")
    return tuple(result)


def _conv(node, inputs):
    images, weights = inputs[0].shape, inputs[1].shape
    group, kernel = node.attributes.get("group", 1), list(weights[2:])
    if len(images) != len(weights) or len(images) < 3 or group < 1:
        _fault(node, f"cannot combine the shapes {images} and {weights}")
    fits = weights[1] * group == images[1] and weights[0] % group == 0
    if not fits or (node.attributes.get("kernel_shape") or kernel) != kernel:
        _fault(node, f"cannot combine the shapes {images} and {weights} in {group} groups")
    return [Value((images[0], weights[0], *_window(node, images[2:], kernel)))]


def _pool(node, inputs):
    images, kernel = inputs[0].shape, node.attributes.get("kernel_shape") or []
    if len(images) < 3 or len(kernel) != len(images) - 2:
        _fault(node, f"has a window of shape {kernel} on {images}")
    return [Value((*images[:2], *_window(node, images[2:], kernel, ceil=bool(node.attributes.get("ceil_mode")))))]


def _global_pool(node, inputs):
    shape = inputs[0].shape
    return [Value((*shape[:2], *[1] * (len(shape) - 2)))]


def _flatten(node, inputs):
    shape, axis = inputs[0].shape, node.attributes.get("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        _fault(node, f"has axis {axis} on {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return [Value((math.prod(shape[:axis]), math.prod(shape[axis:])))]


def _gemm(node, inputs):
    a, b = inputs[0].shape, inputs[1].shape
    if len(a) != 2 or len(b) != 2:
        _fault(node, f"cannot combine the shapes {a} and {b}")
    a = a[::-1] if node.attributes.get("transA") else a
    b = b[::-1] if node.attributes.get("transB") else b
    if a[1] != b[0]:
        _fault(node, f"cannot combine the shapes {a} and {b}")
    return [Value((a[0], b[1]))]


def _matmul(node, inputs):
    a, b = inputs[0].shape, inputs[1].shape
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        _fault(node, f"cannot combine the shapes {a} and {b}")
    return [Value((*_broadcast_shapes(node, [a[:-2], b[:-2]]), a[-2], b[-1]))]


def _reduce(node, inputs):
    shape, keep = inputs[0].shape, node.attributes.get("keepdims", 1)
    axes = _axes(node, inputs, len(shape))
    if not axes:
        axes = [] if node.attributes.get("noop_with_empty_axes") else list(range(len(shape)))
    return [Value(tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes))]


def _reshape(node, inputs):
    shape, wanted = inputs[0].shape, inputs[1].numbers("the new shape")
    if not node.attributes.get("allowzero"):
        if any(n == 0 and i >= len(shape) for i, n in enumerate(wanted)):
            _fault(node, f"cannot make {wanted} of {shape}")
        wanted = [shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    rest = math.prod(n for n in wanted if n != -1)
    if -1 in wanted and rest > 0:
        wanted[wanted.index(-1)] = inputs[0].size // rest
    if min(wanted, default=0) < 0 or math.prod(wanted) != inputs[0].size:
        _fault(node, f"cannot make {wanted} of {shape}")
    return [Value(tuple(wanted)).known(_reshaped(inputs[0].content, wanted))]


def _reshaped(content, shape):
    return None if content is None else content.reshape(shape)


def _transpose(node, inputs):
    shape = inputs[0].shape
    order = node.attributes.get("perm") or list(range(len(shape)))[::-1]
    if sorted(order) != list(range(len(shape))):
        _fault(node, f"has the order {order} on {len(shape)} dimensions")
    return [Value(tuple(shape[i] for i in order))]


def _squeeze(node, inputs):
    shape = inputs[0].shape
    axes = _axes(node, inputs, len(shape))
    axes = [i for i, n in enumerate(shape) if n == 1] if axes is None else axes
    if any(shape[i] != 1 for i in axes):
        _fault(node, f"has axes {axes} on {shape}")
    shape = tuple(n for i, n in enumerate(shape) if i not in axes)
    return [Value(shape).known(_reshaped(inputs[0].content, shape))]


def _unsqueeze(node, inputs):
    shape, axes = list(inputs[0].shape), node.attributes.get("axes")
    axes = inputs[1].numbers("axes") if axes is None and len(inputs) > 1 else axes or []
    axes = sorted(_axis(node, axis, len(shape) + len(axes)) for axis in axes)
    if len(set(axes)) != len(axes):
        _fault(node, f"has axes {axes}")
    for axis in axes:
        shape.insert(axis, 1)
    return [Value(tuple(shape)).known(_reshaped(inputs[0].content, shape))]


def _concat(node, inputs):
    shapes = [each.shape for each in inputs]
    axis = _axis(node, node.attributes.get("axis", 0), len(shapes[0]))
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) != 1 or len({len(shape) for shape in shapes}) != 1:
        _fault(node, f"cannot combine the shapes {shapes[:4]}")
    result = Value((*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]))
    if result.size <= _MAX_KNOWN and all(each.content is not None for each in inputs):
        return [result.known(np.concatenate([each.content for each in inputs], axis=axis))]
    return [result]


def _split(node, inputs):
    shape, count = inputs[0].shape, len(node.outputs)
    axis, parts = _axis(node, node.attributes.get("axis", 0), len(shape)), node.attributes.get("split")
    if parts is None and len(inputs) > 1 and inputs[1] is not None:
        parts = inputs[1].numbers("split")
    if parts is None:
        each = -(-shape[axis] // count)
        parts = [min(each, shape[axis] - i * each) for i in range(count)]
    if len(parts) != count or min(parts) < 0 or sum(parts) != shape[axis]:
        _fault(node, f"cannot make parts of {parts} of {shape}")
    return [Value((*shape[:axis], n, *shape[axis + 1 :])) for n in parts]


def _slice(node, inputs):
    shape, content = inputs[0].shape, inputs[0].content
    lists = [None if each is None else each.numbers("a slice") for each in inputs[1:]]
    lists += [None] * (4 - len(lists))
    starts, ends, axes, steps = lists
    if starts is None or ends is None:
        _fault(node, "has no start or no end")
    axes = list(range(len(starts))) if axes is None else axes
    axes, steps = [_axis(node, axis, len(shape)) for axis in axes], [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps or len(set(axes)) != len(axes):
        _fault(node, "has starts, ends, axes and steps that do not fit each other")
    cuts = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0 and start < -shape[axis]:  # empty for Python, one element for ONNX
            _fault(node, f"starts at {start} on {shape[axis]} elements")
        # Python reads "to the last one" from a negative end differently when going down.
        cuts[axis] = slice(start, None if step < 0 and end < -shape[axis] else end, step)
    result = tuple(len(range(*cut.indices(n))) for cut, n in zip(cuts, shape, strict=True))
    return [Value(result).known(None if content is None else content[tuple(cuts)])]


def _gather(node, inputs):
    (data, index), axis = inputs, node.attributes.get("axis", 0)
    axis = _axis(node, axis, len(data.shape))
    result = Value((*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]))
    if data.content is not None and index.content is not None and result.size <= _MAX_KNOWN:
        try:
            return [result.known(np.take(data.content, index.content, axis=axis))]
        except (IndexError, TypeError):
            _fault(node, f"takes {index.content.tolist()} of {data.shape}")
    return [result]


def _shape(node, inputs):
    shape = inputs[0].shape
    shape = shape[node.attributes.get("start", 0) : node.attributes.get("end", len(shape))]
    return [Value((len(shape),)).known(np.array(shape, dtype=np.int64))]


def _constant(node, inputs):
    attributes = dict(node.attributes)
    name, value = attributes.popitem() if attributes else ("", None)
    if attributes or name not in ("value", "value_int", "value_ints", "value_float", "value_floats"):
        _fault(node, f"must have one value, got the attributes {sorted(node.attributes)}")
    if isinstance(value, Value):
        return [value]
    content = np.array(value, dtype=np.int64 if "int" in name else np.float32)
    return [Value(content.shape).known(content)]


def _constant_of_shape(node, inputs):
    result, fill = Value(_wanted(node, inputs[0])), node.attributes.get("value")
    if result.size > _MAX_KNOWN:
        return [result]
    content = np.zeros(1, np.float32) if fill is None or fill.content is None else fill.content
    return [result.known(np.broadcast_to(content.ravel()[:1], result.shape) if content.size else None)]


def _wanted(node, value):
    shape = tuple(value.numbers("the new shape"))
    if min(shape, default=0) < 0:
        _fault(node, f"asks for the shape {shape}")
    return shape


def _expand(node, inputs):
    return [Value(_broadcast_shapes(node, [inputs[0].shape, _wanted(node, inputs[1])]))]


def _tile(node, inputs):
    times = _wanted(node, inputs[1])
    if len(times) != len(inputs[0].shape):
        _fault(node, f"repeats {inputs[0].shape} by {times}")
    return [Value(tuple(n * k for n, k in zip(inputs[0].shape, times, strict=True)))]


def _pad(node, inputs):
    shape, pads = inputs[0].shape, inputs[1].numbers("pads") if len(inputs) > 1 else node.attributes.get("pads") or []
    if len(pads) != 2 * len(shape) or (len(inputs) > 3 and inputs[3] is not None):
        _fault(node, f"has {len(pads)} pads on {len(shape)} dimensions")
    result = tuple(n + a + b for n, a, b in zip(shape, pads[: len(shape)], pads[len(shape) :], strict=True))
    if min(result, default=0) < 0:
        _fault(node, f"leaves nothing of {shape}")
    return [Value(result)]


def _resize(node, inputs):
    shape = inputs[0].shape
    inputs = [*inputs, None, None, None]
    scales, sizes = inputs[2], inputs[3]
    if node.attributes.get("axes") or node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        _fault(node, "must name all sides")
    if sizes is not None:
        result = _wanted(node, sizes)
    elif scales is not None and scales.content is not None and scales.content.dtype.kind == "f":
        factors = scales.content.ravel().tolist()
        if len(factors) != len(shape) or not all(0 < factor < 2**31 for factor in factors):
            _fault(node, f"has scales {factors[:8]}")
        result = tuple(int(n * factor) for n, factor in zip(shape, factors, strict=True))
    else:
        _fault(node, "must have sizes or scales that are numbers in the file")
    if len(result) != len(shape) or min(result) < 1:
        _fault(node, f"makes {result} of {shape}")
    return [Value(result)]


_SAME = (
    "Abs BatchNormalization Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu GroupNormalization HardSigmoid HardSwish "
    "InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization Mish Neg Reciprocal Relu "
    "Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Tanh ThresholdedRelu"
)
_BROADCAST = "Add And Div Equal Greater Less Max Mean Min Mul Or PRelu Pow Sub Sum Where"
_REDUCE = "ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"

OPERATORS = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    **dict.fromkeys(_REDUCE.split(), _reduce),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operators that a network may use, and how the shape of what they give follows from what they take."""

_LEAST_INPUTS = {**dict.fromkeys("Conv Gemm MatMul Reshape Expand Tile Gather".split(), 2), "Slice": 3, "Constant": 0}


def _work(node, inputs, outputs):
    """Multiplications of the operators that have most of them."""
    if node.kind == "Conv":
        return outputs[0].size * math.prod(inputs[1].shape[1:])
    if node.kind in ("Gemm", "MatMul"):
        return outputs[0].size * inputs[0].shape[0 if node.attributes.get("transA") else -1]
    if node.kind in ("MaxPool", "AveragePool"):
        return outputs[0].size * math.prod(node.attributes["kernel_shape"])
    return sum(each.size for each in outputs)


def _apply(node, values):
    """What one operator gives, once it and its inputs have been checked."""
    if node.kind not in OPERATORS:
        raise ModelError(f"model.onnx: operator {node.kind[:80]!r} is not one of those that networks here may use")
    missing = [name for name in node.inputs if name and name not in values]
    if missing or len(node.inputs) < _LEAST_INPUTS.get(node.kind, 1):
        _fault(node, f"lacks inputs: {missing[:4]}")
    if not node.outputs or any(not name or name in values for name in node.outputs):
        _fault(node, f"gives something that is there already or has no name: {node.outputs[:4]}")
    if len(node.outputs) > 1 and node.kind != "Split":
        _fault(node, f"gives {len(node.outputs)} tensors")
    inputs = [values[name] if name else None for name in node.inputs]
    if any(each is None for each in inputs[: max(1, _LEAST_INPUTS.get(node.kind, 1))]):
        _fault(node, "lacks its first input")
    if OPERATORS[node.kind] in (_broadcast, _concat) and None in inputs:
        _fault(node, "lacks an input")
    return inputs, OPERATORS[node.kind](node, inputs)


def infer_shapes(nodes, values, *, keep):
    """
    Work out the shape of every tensor and refuse a graph that asks for too much.

    Parameters
    ----------
    nodes : list
        Operators in the order in which they run: ``kind``, ``inputs``, ``outputs``, ``attributes``.
    values : dict
        `Value` of the weights and of ``images``, by name.
    keep : sequence of str
        Names of the outputs of the graph.

    Returns
    -------
    dict
        `Value` by name.

    Raises
    ------
    ModelError
        If an operator is not in the list, a shape cannot be told, or the tensors alive at one time or the work for one
        image are more than any sensible network needs.
    """
    values, images = dict(values), values["images"]
    last = {name: place for place, node in enumerate(nodes) for name in node.inputs}
    most = max(_LEAST_ALIVE, _ALIVE * math.prod(images.shape[1:])) * images.shape[0]
    alive, work, moving = 0, 0, {"images"}
    for place, node in enumerate(nodes):
        inputs, outputs = _apply(node, values)
        if len(outputs) != len(node.outputs):
            _fault(node, f"gives {len(outputs)} tensors, not {len(node.outputs)}")
        work += _work(node, inputs, outputs)
        alive += sum(each.size for each in outputs)
        if alive > most:
            _fault(node, f"asks for too much memory: {alive} numbers at one time for {images.shape[0]} images")
        if work > _MAX_WORK * images.shape[0]:
            _fault(node, f"asks for too much work: {work:.1e} multiplications for {images.shape[0]} images")
        values.update(zip(node.outputs, outputs, strict=True))
        # What does not depend on the images is worked out when the file is loaded, and kept.
        if moving.intersection(node.inputs):
            moving.update(node.outputs)
        done = {name for name in (*node.inputs, *node.outputs) if last.get(name, place) == place}
        alive -= sum(values[name].size for name in done & moving - {"images", *keep})
    return values
