"""A network in ONNX Runtime: checked, started once, run a few images at a time on each core."""

import hashlib
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import numpy as np

from ..exceptions import ModelError
from ._onnx_check import check_onnx

__all__ = ["BATCH", "OnnxNetwork", "first_line", "lanes"]

# Images in one call of ONNX Runtime. More gain nothing and cost memory: see benchmarks/bench_nn.py.
BATCH = 4
# Threads at most: each holds the feature maps of one batch.
_MAX_LANES = 16
# Sessions that a process keeps for networks that were sent to it: starting one takes as long as some images.
_MAX_SESSIONS = 4
_sessions = OrderedDict()
_starting = threading.Lock()


def first_line(error):
    """Message of an exception on one line."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]


def lanes():
    """How many batches run side by side: one on each core that this process may use."""
    return max(1, min(_MAX_LANES, joblib.cpu_count()))


def _start_session(data, input_shape, n_classes):
    """Session of a file that has been checked, and the names of its outputs."""
    import onnxruntime

    outputs = check_onnx(data, input_shape=input_shape, n_classes=n_classes, n_images=BATCH)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # One thread to a call and one call to a core: no waiting for each other within a layer, and the same numbers on
    # any machine and for any executor.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was checked, whatever it looks like
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen types of its own
        raise ModelError(f"model.onnx is not a usable ONNX file: {first_line(error)}") from None
    return session, outputs


class OnnxNetwork:
    """
    A network in ONNX Runtime, started when first used, and once in every process that gets copies.

    Parameters
    ----------
    data : bytes
        The ONNX file.
    input_shape : tuple of int
        ``(n_bands, ny, nx)``.
    n_classes : int
        Number of logits.
    """

    def __init__(self, data, *, input_shape, n_classes):
        self.data = data
        self.input_shape = tuple(input_shape)
        self.n_classes = n_classes
        self._session = None
        self._key = None

    def __getstate__(self):
        key = (hashlib.sha256(self.data).hexdigest(), self.input_shape, self.n_classes)
        return {**self.__dict__, "_session": None, "_key": key}

    def __deepcopy__(self, memo):
        return OnnxNetwork(self.data, input_shape=self.input_shape, n_classes=self.n_classes)

    def start(self):
        """
        Start the session, or raise if the file is not such a network.

        Returns
        -------
        `onnxruntime.InferenceSession`
            The session.

        Raises
        ------
        ModelError
            If the file is not a plain network (see `check_onnx`), ONNX Runtime does not take it, or its input or
            output is not as expected.
        """
        with _starting:
            if self._session is None and self._key in _sessions:  # another copy of it came to this process before
                self._session = _sessions[self._key]
                _sessions.move_to_end(self._key)
            if self._session is None:
                self._session = _start_session(self.data, self.input_shape, self.n_classes)
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
        Run the network once, in the calling thread.

        Parameters
        ----------
        pixels : `~numpy.ndarray`
            Preprocessed images, shape (n, n_bands, ny, nx); all their feature maps are in memory at one time.
        names : tuple of str, optional
            The outputs wanted.

        Returns
        -------
        list of `~numpy.ndarray`
            One array for each name, float32, one row per image; not checked to be finite.

        Raises
        ------
        ModelError
            If there is no such output or ONNX Runtime fails.
        """
        session = self.start()
        for name in names:
            if name not in self._session[1]:
                raise ModelError(f"model.onnx has no output {name}")
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        try:
            results = session.run(list(names), {"images": pixels})
        except Exception as error:  # as above
            raise ModelError(f"model.onnx cannot be run: {first_line(error)}") from None
        for name, values in zip(names, results, strict=True):
            if len(values) != len(pixels) or (name == "logits" and values.shape[1:] != (self.n_classes,)):
                raise ModelError(f"model.onnx gave {name} of shape {values.shape} for {len(pixels)} images")
        return results

    def run(self, pixels, names=("logits",)):
        """
        Run the network on any number of images, a few at a time on each core.

        Parameters
        ----------
        pixels : `~numpy.ndarray`
            Preprocessed images, shape (n, n_bands, ny, nx).
        names : tuple of str, optional
            The outputs wanted.

        Returns
        -------
        list of `~numpy.ndarray`
            One array for each name, float32, one row per image.

        Raises
        ------
        ModelError
            If there is no such output, ONNX Runtime fails, or a number is not finite.
        """
        parts = [pixels[start : start + BATCH] for start in range(0, max(1, len(pixels)), BATCH)]
        with ThreadPoolExecutor(min(lanes(), len(parts))) as pool:
            done = list(pool.map(partial(self.run_batch, names=names), parts))
        results = [np.concatenate(arrays) for arrays in zip(*done, strict=True)]
        for name, values in zip(names, results, strict=True):
            if not np.all(np.isfinite(values)):
                raise ModelError(f"model.onnx gave {name} that are not finite")
        return results

    def logits(self, pixels):
        """
        Logits.

        Parameters
        ----------
        pixels : `~numpy.ndarray`
            Preprocessed images, shape (n, n_bands, ny, nx).

        Returns
        -------
        `~numpy.ndarray`
            float32, shape (n, n_classes).

        Raises
        ------
        ModelError
            If ONNX Runtime fails or the logits are not finite.
        """
        return self.run(pixels)[0]

    def class_maps(self, pixels):
        """
        Class maps of the last feature maps, whose mean plus a constant is the logit.

        Parameters
        ----------
        pixels : `~numpy.ndarray`
            Preprocessed images, shape (n, n_bands, ny, nx).

        Returns
        -------
        `~numpy.ndarray`
            float32, shape (n, n_classes, my, mx).

        Raises
        ------
        ModelError
            If the file has no such output.
        """
        return self.run(pixels, ("class_maps",))[0]
