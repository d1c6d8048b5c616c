"""`CutoutClassifier`: a network on images as a scikit-learn estimator."""

import numbers
from functools import partial

import numpy as np
from astropy import units as u
from astropy.table import Table
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from .. import batch
from ..exceptions import ModelError, require
from ..images import Geometry
from ..schemes import COOL_CORE, ClassScheme, get_scheme
from ..tables import provenance
from . import _networks, _store
from ._dataset import load_training_set
from ._folds import validation_split
from ._inference import OnnxNetwork, Predictor
from ._items import as_items
from ._predictions import prediction_table
from ._preprocess import Preprocessing, check_stretch
from ._training import Settings, train

__all__ = ["CutoutClassifier", "load_classifier"]

_CHUNK = 32
_MEGAPARSEC = Geometry(1 * u.Mpc, (256, 256))


class CutoutClassifier(ClassifierMixin, BaseEstimator):
    """
    Classify images of clusters with a convolutional network.

    Training needs the extra ``train`` (torch); a fitted or loaded classifier predicts with ONNX Runtime alone.

    Parameters
    ----------
    architecture : str, optional
        ``"resnet18"``, the network of Su et al. (2020).
    scheme : ClassScheme or str, optional
        The classes.
    geometry : `~astroclassify.images.Geometry`, optional
        Grid that every image is put on; by default 1 Mpc in 256 x 256 pixels (Su et al. 2020, section 2).
    bands : tuple of str, optional
        Bands of the input. One band is treated exactly as if it came as three equal channels.
    width : int, optional
        Filters of the first stage: 64 in ResNet-18 as published, fewer for a smaller and faster network.
    stretch : str, optional
        What is done to counts first: ``"log"`` log10(1 + counts), ``"sqrt"``, ``"linear"``. The training set's mean
        and standard deviation then bring each band to zero mean and unit variance. Our choice: Su et al.'s is unknown.
    epochs, batch_size, learning_rate, weight_decay : optional
        AdamW with a one-cycle rate whose maximum is ``learning_rate``. Our choice: Su et al.'s optimiser is unknown.
    patience : int or None, optional
        Stop after so many epochs without a better one on the validation set; None never stops.
    monitor : str, optional
        What makes an epoch better: ``"loss"`` (weighted cross-entropy) or ``"f1"`` (mean F1 over classes).
    augment : bool, optional
        Whether to turn by 90 degrees, mirror, and shift by up to 1/32 of the side (wrapping) at random. Every pixel
        keeps its value, so counts and their noise stay as they are.
    validation_fraction : float, optional
        Share of the groups kept for validation when `fit` is given none; 0 trains all epochs and keeps the last.
    class_weight : "balanced", dict or None, optional
        Weights of the classes in the loss; ``"balanced"`` makes each class count the same whatever its frequency, so
        that probabilities are those for equally frequent classes.
    random_state : int or None, optional
        Seed of start values, order and augmentation. The same seed gives the same weights on one machine with one
        number of torch threads.
    device : str, optional
        Where torch trains. The result is tested on ``"cpu"``.
    verbose : bool, optional
        Whether to show progress and losses on standard error.

    Attributes
    ----------
    classes_ : `~numpy.ndarray`
        Labels in the order of the probabilities: that of the scheme, not alphabetical.
    history_ : list of dict
        Losses and validation score of each epoch; the one kept has ``best``.
    training_ : dict
        What it was trained on.
    card_ : dict
        Model card: free entries such as ``description``, ``scores``, ``limits``, saved with the model.

    See Also
    --------
    load_classifier : the way back from `save`.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 3; He et al. 2016, CVPR (ResNet).

    Examples
    --------
    >>> from astroclassify.nn import CutoutClassifier
    >>> CutoutClassifier(width=16, epochs=20).get_params()["width"]
    16
    """

    def __init__(
        self,
        architecture="resnet18",
        *,
        scheme=COOL_CORE,
        geometry=_MEGAPARSEC,
        bands=("xray",),
        width=64,
        stretch="log",
        epochs=30,
        batch_size=32,
        learning_rate=2e-3,
        weight_decay=0.01,
        patience=10,
        monitor="loss",
        augment=True,
        validation_fraction=0.1,
        class_weight="balanced",
        random_state=None,
        device="cpu",
        verbose=False,
    ):
        self.architecture = architecture
        self.scheme = scheme
        self.geometry = geometry
        self.bands = bands
        self.width = width
        self.stretch = stretch
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.monitor = monitor
        self.augment = augment
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X, y=None, *, groups=None, validation=None):
        """
        Train the network.

        Parameters
        ----------
        X : `~astropy.table.QTable`, `~numpy.ndarray` or list
            A SAMPLE table (labels and groups come from it), an array of counts (n, [n_bands,] ny, nx) on the grid, or a
            list of CCDData, Cutout or paths. All images are held in memory, 4 bytes a pixel: 250 MB for 954 images of
            256 x 256, twice that while a validation set is split off.
        y : sequence of str, optional
            Labels; needed where ``X`` has none.
        groups : sequence, optional
            What must not be split between training and validation; by default the table's ``group_id``, or each image
            by itself.
        validation : table, or tuple of images and labels, optional
            Images on which to choose the epoch, in place of a share of ``X``.

        Returns
        -------
        CutoutClassifier
            Itself.

        Raises
        ------
        SchemaError
            If a label is not in the scheme.
        ValueError
            If a parameter is out of range, or there are too few images, classes or groups.
        MissingDependencyError
            If the extra ``train`` is not installed.
        """
        scheme, bands = self._check_parameters()
        torch = require("torch", extra="train")
        safetensors = require("safetensors.numpy", extra="train")
        seed = batch.master_seed(np.random.default_rng() if self.random_state is None else self.random_state)
        training, held = self._split(X, y, groups, validation, scheme, bands, seed)
        description = training.describe(scheme) | {"n_validation": 0 if held is None else len(held.labels)}
        if len(np.unique(training.labels)) < 2:
            raise ValueError(f"X must hold images of at least two classes, got {description['class_counts']}")
        rule = Preprocessing.measure(training.counts, self.stretch)
        network = self._untrained(scheme, bands, seed)
        self.history_ = train(
            network,
            training.preprocess(rule),
            training.labels,
            class_weight=self._class_weights(training.labels, scheme),
            validation=None if held is None else (held.preprocess(rule), held.labels),
            settings=Settings(
                self.epochs, self.batch_size, self.learning_rate, self.weight_decay,
                self.patience, self.monitor, self.augment, self.device, self.verbose,
            ),  # fmt: skip
            rng=batch.derive_rng(seed, "training"),
        )
        network.cpu()
        self.classes_ = np.array(scheme.classes)
        self.n_parameters_ = sum(parameter.numel() for parameter in network.parameters())
        self.training_ = description
        self.card_ = {}
        self.versions_ = provenance(torch=torch.__version__, seed=seed)
        self.weights_ = safetensors.save(
            {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in network.state_dict().items()}
        )
        onnx = _networks.export_onnx(network, n_bands=len(bands), shape=self.geometry.shape)
        self.predictor_ = self._make_predictor(onnx, rule, scheme, bands)
        return self

    def _split(self, X, y, groups, validation, scheme, bands, seed):
        """Training set and validation set (or None)."""
        rules = {"scheme": scheme, "bands": bands, "geometry": self.geometry}
        training = load_training_set(X, y, groups, **rules, name="X")
        if validation is not None:
            images, answers = (validation, None) if isinstance(validation, Table) else validation
            return training, load_training_set(images, answers, None, **rules, name="validation")
        if not self.validation_fraction:
            return training, None
        names = np.array(scheme.classes)[training.labels]
        held = validation_split(names, training.groups, fraction=self.validation_fraction, seed=seed)
        return training.take(~held), training.take(held)

    def _check_parameters(self):
        """Scheme and bands, once every parameter has been checked."""
        _networks.check_architecture(self.architecture)
        check_stretch(self.stretch)
        scheme = get_scheme(self.scheme)
        if not isinstance(self.geometry, Geometry):
            raise TypeError(f"geometry must be a Geometry, got {type(self.geometry).__name__}")
        if isinstance(self.bands, str) or not all(isinstance(band, str) and band for band in self.bands):
            raise ValueError(f"bands must be a tuple of names, got {self.bands!r}")
        bands = tuple(self.bands)
        if not 1 <= len(bands) <= 16 or len(set(bands)) != len(bands):
            raise ValueError(f"bands must be 1 to 16 different names, got {bands}")
        for name, low, high in (("width", 1, 1024), ("epochs", 1, 10**6), ("batch_size", 2, 10**6)):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError(
                "learning_rate must be above 0 and weight_decay not below, "
                f"got {self.learning_rate!r} and {self.weight_decay!r}"
            )
        if self.patience is not None and not self.patience >= 1:
            raise ValueError(f"patience must be a whole number from 1, or None, got {self.patience!r}")
        if self.monitor not in ("loss", "f1"):
            raise ValueError(f"monitor must be 'loss' or 'f1', got {self.monitor!r}")
        if not 0 <= self.validation_fraction <= 0.5:
            raise ValueError(f"validation_fraction must lie between 0 and 0.5, got {self.validation_fraction!r}")
        if self.class_weight not in (None, "balanced") and not isinstance(self.class_weight, dict):
            raise ValueError(f"class_weight must be 'balanced', a dict or None, got {self.class_weight!r}")
        if isinstance(self.class_weight, dict):
            for label in self.class_weight:
                scheme.index(label)
        return scheme, bands

    def _class_weights(self, labels, scheme):
        counts = np.bincount(labels, minlength=scheme.n_classes)
        if self.class_weight is None:
            return np.ones(scheme.n_classes)
        if self.class_weight == "balanced":
            return len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        weights = np.ones(scheme.n_classes)
        for label, weight in self.class_weight.items():
            weights[scheme.index(label)] = weight
        if not np.all(np.isfinite(weights)) or np.any(weights < 0) or not weights.any():
            raise ValueError(f"class_weight must hold finite weights from 0, got {self.class_weight}")
        return weights

    def _untrained(self, scheme, bands, seed):
        return _networks.build(
            self.architecture,
            n_bands=len(bands),
            n_classes=scheme.n_classes,
            shape=self.geometry.shape,
            width=self.width,
            seed=seed % 2**63,
        )

    def _make_predictor(self, onnx, rule, scheme, bands):
        network = OnnxNetwork(onnx, input_shape=(len(bands), *self.geometry.shape), n_classes=scheme.n_classes)
        return Predictor(network, bands=bands, geometry=self.geometry, preprocessing=rule, training=self.training_)

    def _fitted(self):
        if not hasattr(self, "predictor_"):
            raise NotFittedError("this CutoutClassifier is not fitted: call fit, or use load_classifier")
        return self.predictor_

    def build_network(self):
        """
        Build the torch network: with the learned weights once fitted, else with start values.

        Returns
        -------
        `torch.nn.Module`
            Takes preprocessed images (n, n_bands, ny, nx), gives logits (n, n_classes). In evaluation mode if fitted.

        Raises
        ------
        MissingDependencyError
            If the extra ``train`` is not installed.
        ModelError
            If the stored weights are not those of this network.
        """
        scheme, bands = self._check_parameters()
        torch = require("torch", extra="train")
        network = self._untrained(scheme, bands, self.random_state or 0)
        if not hasattr(self, "weights_"):
            return network
        safetensors = require("safetensors.numpy", extra="train")
        try:
            arrays = safetensors.load(self.weights_)
            network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
        except Exception as error:  # safetensors has an error type of its own, torch raises RuntimeError
            text = str(error).strip().splitlines()[0]
            raise ModelError(f"weights.safetensors does not hold the weights of {self.architecture}: {text}") from None
        return network.eval()

    def predict_proba(self, X):
        """
        Probability of each class.

        Parameters
        ----------
        X : table, array or list of images
            As for `classify`.

        Returns
        -------
        `~numpy.ndarray`
            Shape (n, n_classes), rows sum to 1.

        Raises
        ------
        GeometryError, ValueError, OSError
            If an image cannot be read or put on the grid; `classify` gives it a row with a flag instead.
        """
        predictor = self._fitted()
        items, _ = as_items(X, bands=predictor.bands, shape=predictor.geometry.shape)
        parts = [np.zeros((0, len(self.classes_)))]
        for start in range(0, len(items), _CHUNK):
            counts = np.stack([predictor.load(item)[0] for item in items[start : start + _CHUNK]])
            parts.append(softmax(predictor.logits(counts).astype(float), axis=1))
        return np.concatenate(parts)

    def predict(self, X):
        """
        Most probable class.

        Parameters
        ----------
        X : table, array or list of images
            As for `classify`.

        Returns
        -------
        `~numpy.ndarray`
            Labels, shape (n,).
        """
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def classify(self, images, *, redshift=None, centre=None, executor=None, progress=False):
        """
        Classify images and say what is doubtful about each.

        Parameters
        ----------
        images : table, `~astropy.nddata.CCDData`, Cutout, path, array, or list of these
            A SAMPLE table read by `astroclassify.tables.read_sample`, images with a celestial WCS (put on the grid by
            `astroclassify.images.standardise`), or an array (n, [n_bands,] ny, nx) of counts on the grid.
        redshift : float or sequence of float, optional
            Redshift of all or of each; by default that of the table or the header.
        centre : `~astropy.coordinates.SkyCoord`, optional
            Centre of the field of every image; by default the middle of each.
        executor : `~concurrent.futures.Executor`, optional
            Where to run; images are sent in chunks of 32.
        progress : bool, optional
            Whether to show a bar on standard error.

        Returns
        -------
        `~astropy.table.QTable`
            PREDICTIONS, one row per image in the order given: ``source_id``, ``label_pred``, ``p_<class>``, ``flags``,
            ``message``, and the sample's ``label`` and ``group_id`` where it has them. An image of a list or table
            that fails has NaN probabilities, an empty label, the flag ``failed`` and a message.

        Raises
        ------
        GeometryError, ValueError, OSError
            If ``images`` is a single image and cannot be used.
        """
        predictor = self._fitted()
        items, single = as_items(images, bands=predictor.bands, shape=predictor.geometry.shape, redshift=redshift)
        if single:
            counts, flags = predictor.load(items[0], centre=centre)
            rows = [(softmax(predictor.logits(counts[None]).astype(float), axis=1)[0], flags, "")]
        else:
            rows = list(_run_chunks(predictor, items, centre, executor, progress))
        return prediction_table(
            [item.source_id for item in items],
            np.array([row[0] for row in rows]),
            [row[1] for row in rows],
            [row[2] for row in rows],
            get_scheme(self.scheme),
            sample=images if isinstance(images, Table) else None,
            model=str(self.card_.get("name", self.architecture)),
        )

    def save(self, folder, *, overwrite=False):
        """
        Write a model folder: ``model.json``, ``weights.safetensors``, ``model.onnx``, and ``README.md`` for people.

        Parameters
        ----------
        folder : str or path-like
            The folder; it is there whole or not at all.
        overwrite : bool, optional
            Whether a model folder that is there may be replaced.

        Returns
        -------
        `~pathlib.Path`
            The folder.

        Raises
        ------
        OutputError
            If the folder exists or cannot be written.
        """
        predictor = self._fitted()
        left_out = {"architecture", "scheme", "geometry", "bands", "stretch", "verbose"}
        document = {
            "architecture": self.architecture,
            "parameters": {name: value for name, value in self.get_params().items() if name not in left_out},
            "n_parameters": self.n_parameters_,
            "scheme": get_scheme(self.scheme).to_dict(),
            "geometry": self.geometry.to_dict(),
            "bands": list(self.bands),
            "preprocessing": predictor.preprocessing.to_dict(),
            "training": self.training_,
            "history": self.history_,
            "card": self.card_,
            "versions": self.versions_,
        }
        return _store.write_folder(folder, document, self.weights_, predictor.network.data, overwrite=overwrite)


def _run_chunks(predictor, items, centre, executor, progress):
    """Rows of all items, in order, with one chunk of images in memory (per worker)."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    keys = [chunk[0].source_id for chunk in chunks]
    function = partial(predictor.run, centre=centre)
    outcomes = batch.run(
        function, chunks, keys=keys, executor=executor, progress=progress, description="classifying"
    )
    for outcome in outcomes:
        if outcome.error:
            raise ModelError(f"the model cannot be run on {outcome.key!r}: {outcome.error}")
        yield from outcome.value


def load_classifier(name_or_folder):
    """
    Load a packaged model, or one that `CutoutClassifier.save` wrote. Neither torch nor safetensors is needed.

    Parameters
    ----------
    name_or_folder : str or path-like
        Name of a packaged model (see `list_classifiers`) or a folder.

    Returns
    -------
    CutoutClassifier
        Fitted. No code of the folder is run: it holds JSON, arrays and an ONNX graph, checked by size and SHA-256.

    Raises
    ------
    ModelError
        If there is no such model, or its folder is incomplete, damaged, altered or from a newer version.
    """
    folder = _store.find_folder(name_or_folder)
    document, weights, onnx = _store.read_folder(folder)
    try:
        scheme = ClassScheme.from_dict(document["scheme"])
        geometry = Geometry.from_dict(document["geometry"])
        bands = tuple(document["bands"])
        model = CutoutClassifier(
            document["architecture"],
            scheme=scheme,
            geometry=geometry,
            bands=bands,
            stretch=document["preprocessing"]["stretch"],
            **document["parameters"],
        )
        model._check_parameters()
        rule = Preprocessing.from_dict(document["preprocessing"], n_bands=len(bands))
        model.training_ = _check_training(document["training"])
        model.n_parameters_ = int(document["n_parameters"])
    except (KeyError, TypeError, ValueError) as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelError(f"{str(folder / _store.DOCUMENT)!r} does not describe a usable model: {text}") from None
    model.classes_ = np.array(scheme.classes)
    model.history_ = document["history"]
    model.card_ = document["card"]
    model.versions_ = document["versions"]
    model.weights_ = weights
    model.predictor_ = model._make_predictor(onnx, rule, scheme, bands)
    model.predictor_.network.start()
    return model


def _check_training(training):
    """The entries of a training description that flags are made from must be what they should."""
    pairs, energy = training.get("instruments") or [], training.get("energy_range")
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair) for pair in pairs):
        raise ValueError(f"instruments must be pairs of texts, got {pairs!r}")
    if energy is not None and not (len(energy) == 2 and 0 <= float(energy[0]) < float(energy[1])):
        raise ValueError(f"energy_range must be None or two rising numbers, got {energy!r}")
    return training
