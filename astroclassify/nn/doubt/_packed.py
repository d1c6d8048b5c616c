"""Arrays as text in a JSON document, and back."""

import base64
import binascii

import numpy as np

__all__ = ["pack", "unpack"]

_MAX_NUMBERS = 1 << 22  # in one array


def pack(array):
    """Shape, and base64 of little-endian 32-bit floats."""
    data = np.ascontiguousarray(array, dtype="<f4")
    return {"shape": list(data.shape), "float32": base64.b64encode(data.tobytes()).decode("ascii")}


def unpack(mapping, name):
    """Array of what `pack` gives, one- or two-dimensional; ``name`` (``"scale of a novelty score"``) is for errors."""
    try:
        shape = tuple(mapping["shape"])
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"shape {shape}")
        array = np.frombuffer(base64.b64decode(mapping["float32"], validate=True), dtype="<f4").reshape(shape)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"{name} is not an array: {error}") from None
    if not 1 <= array.ndim <= 2 or array.size > _MAX_NUMBERS or not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must hold at most {_MAX_NUMBERS} finite numbers")
    return array.astype(float)
