"""JSON and safetensors of folders that are not trusted: limits on size, depth and numbers, and every offset checked."""

import json
import math
import re

from astroclassify._checks import first_line
from astroclassify.exceptions import ModelError

__all__ = ["check_safetensors", "read_json_limited"]

_MAX_DEPTH = 32
_MAX_CONTAINERS = 50_000
_MAX_VALUES = 1_000_000
_MAX_DIGITS = 40
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)

# The dtypes that the format knows and numpy has, in bytes (https://github.com/huggingface/safetensors, "Format").
_ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_MAX_HEADER = 4 << 20
_MAX_TENSORS = 20_000


def _no_constant(text):
    raise ValueError(f"{text} is not JSON")


def _whole(text):
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(text)} digits")
    return int(text)


def _real(text):
    value = float(text) if len(text) <= _MAX_DIGITS else math.nan
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {text[:20]}, which is not finite or too long")
    return value


def _once(pairs):
    result = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"it has the key {key[:80]!r} twice")
        result[key] = value
    return result


def _check_depth(data):
    depth = 0
    for match in _STRUCTURE.finditer(data):
        first = data[match.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")


def read_json_limited(data, *, limit, where):
    """
    Parse JSON that is not trusted; ``where`` names it in messages.

    ModelError beyond ``limit`` bytes, 32 levels, 50,000 lists and objects or a million values; for a key twice, numbers
    that are not finite or have more than 40 digits, and text that is not Unicode.
    """
    if len(data) > limit:
        raise ModelError(f"{where} must have at most {limit} bytes, got {len(data)}")
    try:
        if data.count(b"[") + data.count(b"{") > _MAX_CONTAINERS:
            raise ValueError(f"it holds more than {_MAX_CONTAINERS} lists and objects")
        if data.count(b",") + data.count(b'"') // 2 > _MAX_VALUES:
            raise ValueError(f"it holds more than {_MAX_VALUES} values")
        _check_depth(data)
        rules = {"parse_constant": _no_constant, "parse_int": _whole, "parse_float": _real, "object_pairs_hook": _once}
        document = json.loads(data.decode("utf-8"), **rules)
        if b"\\u" in data:  # halves of a surrogate pair are JSON, but no text that can be printed or written
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not JSON that is read here: {first_line(error, 200)}") from None
    return document


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _tensor_span(name, entry):
    """Where a tensor begins and ends."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:80]!r} must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_SIZES:
        raise ValueError(f"{name[:80]!r} has the dtype {str(dtype)[:20]!r}, known are {sorted(_ITEM_SIZES)}")
    for numbers, text in ((shape, "shape"), (offsets, "data_offsets")):
        if not isinstance(numbers, list) or len(numbers) > 8 or not all(map(_is_count, numbers)):
            raise ValueError(f"{name[:80]!r} has the {text} {str(numbers)[:80]}")
    size = math.prod(shape) * _ITEM_SIZES[dtype]
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise ValueError(f"{name[:80]!r} of shape {shape} must have {size} bytes, got data_offsets {offsets}")
    return tuple(offsets)


def check_safetensors(data):
    """
    Shape of each tensor by name, from the header of a safetensors file (README of github.com/huggingface/safetensors).

    ModelError if the header is larger than 4 MB or the file, or a tensor has an unknown dtype, a size that does not fit
    its shape, or an offset that overlaps another tensor, leaves a gap or lies outside the file.
    """
    where = "weights.safetensors"
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ModelError(f"{where} is not a safetensors file: its header would end outside it")
    header = read_json_limited(bytes(data[8 : 8 + min(length, _MAX_HEADER + 1)]), limit=_MAX_HEADER, where=where)
    try:
        if not isinstance(header, dict):
            raise ValueError("its header must be an object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its __metadata__ must hold texts")
        if len(header) > _MAX_TENSORS:
            raise ValueError(f"it holds {len(header)} tensors, at most {_MAX_TENSORS} are read")
        end = 0
        for begin, stop, name in sorted((*_tensor_span(name, entry), name) for name, entry in header.items()):
            if begin != end:
                raise ValueError(f"{name[:80]!r} must begin at byte {end}, where the one before it ends, got {begin}")
            end = stop
        if end != len(data) - 8 - length:
            raise ValueError(f"its tensors have {end} bytes, the file has {len(data) - 8 - length} for them")
    except ValueError as error:
        raise ModelError(f"{where} is not a safetensors file: {error}") from None
    return {name: tuple(entry["shape"]) for name, entry in header.items()}
