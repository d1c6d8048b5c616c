"""A network in ONNX Runtime: checked, started once, run a few images at a time on each core."""

import hashlib
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import numpy as np

from astroclassify._checks import first_line
from astroclassify.exceptions import ModelError

from ._onnx_check import check_onnx
from ._onnx_trial import BATCH, start_session, try_network

__all__ = ["BATCH", "OnnxNetwork", "lanes"]

# Threads at most: each holds the feature maps of one batch.
_MAX_LANES = 16
# Sessions that a process keeps for networks that were sent to it: starting one takes as long as some images.
_MAX_SESSIONS = 4
_sessions = OrderedDict()
_starting = threading.Lock()


def lanes():
    """How many batches run side by side: one on each core that this process may use."""
    return max(1, min(_MAX_LANES, joblib.cpu_count()))


class OnnxNetwork:
    """
    A network in ONNX Runtime, started when first used, and once in every process that gets copies.

    ``data`` is the ONNX file (bytes), ``input_shape`` (n_bands, ny, nx), ``n_classes`` the number of logits.
    """

    def __init__(self, data, *, input_shape, n_classes):
        self.data = data
        self.input_shape = tuple(input_shape)
        self.n_classes = n_classes
        self._session = None
        self._key = None
        self._tried = False

    def __getstate__(self):
        key = (hashlib.sha256(self.data).hexdigest(), self.input_shape, self.n_classes)
        return {**self.__dict__, "_session": None, "_key": key}

    def __deepcopy__(self, memo):
        return OnnxNetwork(self.data, input_shape=self.input_shape, n_classes=self.n_classes)

    def start(self):
        """The session; ModelError if the file is not a plain network (`check_onnx`) or its trial fails."""
        with _starting:
            if self._session is None and self._key in _sessions:  # another copy of it came to this process before
                self._session = _sessions[self._key]
                _sessions.move_to_end(self._key)
            if self._session is None:
                what = {"input_shape": self.input_shape, "n_classes": self.n_classes}
                outputs = check_onnx(self.data, **what)
                if not self._tried:
                    try_network(self.data, outputs=outputs, **what)
                    self._tried = True
                self._session = start_session(self.data), outputs
                if self._key is not None:
                    _sessions[self._key] = self._session
                    while len(_sessions) > _MAX_SESSIONS:
                        _sessions.popitem(last=False)
        return self._session[0]

    @property
    def outputs(self):
        """Names of what the network gives: ``logits``, perhaps ``class_maps`` and ``features``."""
        self.start()
        return self._session[1]

    @property
    def has_class_maps(self):
        """Whether the network gives exact class maps."""
        return "class_maps" in self.outputs

    def run_batch(self, pixels, names=("logits",)):
        """
        Outputs of one call in this thread for preprocessed images (n, n_bands, ny, nx), n up to `BATCH`.

        One float32 array for each name, one row per image; they may hold numbers that are not finite.
        """
        session = self.start()
        for name in names:
            if name not in self.outputs:
                raise ModelError(f"model.onnx has no output {name}")
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        try:
            results = session.run(list(names), {"images": pixels})
        except Exception as error:  # onnxruntime raises a dozen types of its own
            raise ModelError(f"model.onnx cannot be run: {first_line(error)}") from None
        for name, values in zip(names, results, strict=True):
            if len(values) != len(pixels) or (name == "logits" and values.shape[1:] != (self.n_classes,)):
                raise ModelError(f"model.onnx gave {name} of shape {values.shape} for {len(pixels)} images")
        return results

    def run(self, pixels, names=("logits",)):
        """Outputs of any number of images, a batch at a time on each core; ModelError if a number is not finite."""
        parts = [pixels[start : start + BATCH] for start in range(0, max(1, len(pixels)), BATCH)]
        with ThreadPoolExecutor(min(lanes(), len(parts))) as pool:
            done = list(pool.map(partial(self.run_batch, names=names), parts))
        results = [np.concatenate(arrays) for arrays in zip(*done, strict=True)]
        for name, values in zip(names, results, strict=True):
            if not np.all(np.isfinite(values)):
                raise ModelError(f"model.onnx gave {name} that are not finite")
        return results

    def logits(self, pixels):
        """Logits, float32, shape (n, n_classes)."""
        return self.run(pixels)[0]

    def class_maps(self, pixels):
        """Class maps (n, n_classes, my, mx), whose mean plus a constant is the logit."""
        return self.run(pixels, ("class_maps",))[0]
