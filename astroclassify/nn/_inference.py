"""From images to logits with ONNX Runtime; nothing here needs torch."""

import logging

import numpy as np
from scipy.special import softmax

from ..exceptions import ModelError
from ..schemes import Flag
from ._items import load_pixels

__all__ = ["OnnxNetwork", "Predictor", "check_onnx"]

log = logging.getLogger(__name__)


def check_onnx(data):
    """
    Refuse an ONNX file that points to other files.

    Parameters
    ----------
    data : bytes
        The file.

    Raises
    ------
    ModelError
        If it has external data.

    Notes
    -----
    ONNX stores the place of an external tensor under the key ``location``, which protobuf writes as plain bytes: a
    file without them has no external data. The networks exported here never contain the word.
    """
    if b"location" in data:
        raise ModelError("model.onnx must hold its own weights, got a reference to external data")


def _first_line(error):
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]


class OnnxNetwork:
    """
    A network in ONNX Runtime, started when first used and started anew in every process that gets a copy.

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

    def __getstate__(self):
        return {**self.__dict__, "_session": None}

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
            If ONNX Runtime does not take the file, or its input or output is not as expected.
        """
        if self._session is not None:
            return self._session
        import onnxruntime

        check_onnx(self.data)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(self.data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen types of its own
            raise ModelError(f"model.onnx is not a usable ONNX file: {_first_line(error)}") from None
        shapes = {array.name: tuple(array.shape[1:]) for array in (*session.get_inputs(), *session.get_outputs())}
        if len(session.get_inputs()) != 1 or shapes.get("images") != self.input_shape:
            raise ModelError(f"model.onnx must take images of shape {self.input_shape}, got {shapes.get('images')}")
        if shapes.get("logits") != (self.n_classes,):
            raise ModelError(f"model.onnx must give {self.n_classes} logits, got {shapes.get('logits')}")
        self._session = session
        return session

    def _run(self, name, pixels):
        session = self.start()
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        try:
            (values,) = session.run([name], {"images": pixels})
        except Exception as error:  # as above
            raise ModelError(f"model.onnx cannot be run: {_first_line(error)}") from None
        return values

    def logits(self, pixels):
        """
        Run the network.

        Parameters
        ----------
        pixels : `~numpy.ndarray`
            Preprocessed images, shape (n, n_bands, ny, nx).

        Returns
        -------
        `~numpy.ndarray`
            Logits, float32, shape (n, n_classes).

        Raises
        ------
        ModelError
            If ONNX Runtime fails or the logits are not finite.
        """
        logits = self._run("logits", pixels)
        if logits.shape != (len(pixels), self.n_classes) or not np.all(np.isfinite(logits)):
            raise ModelError("model.onnx gave logits that are not finite or not one row per image")
        return logits

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
        if "class_maps" not in {output.name for output in self.start().get_outputs()}:
            raise ModelError("model.onnx has no output class_maps")
        return self._run("class_maps", pixels)


class Predictor:
    """
    All that inference needs of a fitted classifier: network, grid, preprocessing, and what it was trained on.

    Parameters
    ----------
    network : OnnxNetwork
        The network.
    bands : tuple of str
        Bands of its input.
    geometry : `~astroclassify.images.Geometry`
        Its grid.
    preprocessing : Preprocessing
        From counts to its input.
    training : dict
        Description of the training set; ``instruments`` and ``energy_range`` are used for flags.
    """

    def __init__(self, network, *, bands, geometry, preprocessing, training):
        self.network = network
        self.bands = tuple(bands)
        self.geometry = geometry
        self.preprocessing = preprocessing
        self.training = training

    def load(self, item, *, centre=None):
        """
        Read one image as counts on the grid, with its flags.

        Parameters
        ----------
        item : Item
            The image.
        centre : `~astropy.coordinates.SkyCoord`, optional
            Centre of the field.

        Returns
        -------
        pixels : `~numpy.ndarray`
            Counts, float32, shape (n_bands, ny, nx).
        flags : int
            Flags.
        """
        pixels, flags, header = load_pixels(item, bands=self.bands, geometry=self.geometry, centre=centre)
        if header is not None:
            flags |= self._strangeness(header)
        return pixels, flags

    def _strangeness(self, header):
        """Flags of an image that is not, or not known to be, of the kind seen in training."""
        flags = Flag(0)
        known = self.training.get("instruments") or []
        if known and [header["telescope"], header["instrument"]] not in [list(pair) for pair in known]:
            flags |= Flag.OTHER_INSTRUMENT
        energy = self.training.get("energy_range")
        if energy and (header["energy_range"] is None or not np.allclose(header["energy_range"], energy, rtol=0.05)):
            flags |= Flag.OTHER_BAND
        return int(flags)

    def logits(self, counts):
        """
        Run the network on counts.

        Parameters
        ----------
        counts : `~numpy.ndarray`
            Shape (n, n_bands, ny, nx).

        Returns
        -------
        `~numpy.ndarray`
            Logits, shape (n, n_classes).
        """
        return self.network.logits(self.preprocessing(counts))

    def run(self, items, *, centre=None):
        """
        Classify a few items; one that cannot be read keeps its row.

        Parameters
        ----------
        items : list of Item
            The images; all are in memory at once.
        centre : `~astropy.coordinates.SkyCoord`, optional
            Centre of the field, the same for all.

        Returns
        -------
        list of tuple
            ``(probabilities, flags, message)`` per item; NaN, `~astroclassify.schemes.Flag.FAILED` and one line of
            text where it failed.
        """
        nan = np.full(self.network.n_classes, np.nan)
        rows, loaded = [], []
        for index, item in enumerate(items):
            try:
                pixels, flags = self.load(item, centre=centre)
            except Exception as error:  # one bad file must not end the run: it becomes its row
                message = f"{type(error).__name__}: {_first_line(error)}"
                log.warning("%s failed: %s", item.source_id, message)
                rows.append((nan, item.flags | int(Flag.FAILED), message))
                continue
            rows.append((None, flags, ""))
            loaded.append((index, pixels))
        if loaded:
            probabilities = softmax(self.logits(np.stack([pixels for _, pixels in loaded])).astype(float), axis=1)
            for (index, _), values in zip(loaded, probabilities, strict=True):
                rows[index] = (values, *rows[index][1:])
        return rows
