"""`CutoutClassifier`: a network on images as a scikit-learn estimator."""

import numpy as np
from astropy import units as u
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from .._checks import require
from ..exceptions import ModelError
from ..images import Geometry
from ..schemes import COOL_CORE, get_scheme
from . import _fitting, _store
from ._dataset import load_training_set
from ._documents import from_document, to_document
from ._inference import OnnxNetwork, Predictor, classify, probabilities
from ._parameters import architecture_name, check_parameters, recipe_parameters

__all__ = ["CutoutClassifier", "load_classifier"]

_MEGAPARSEC = Geometry(1 * u.Mpc, (256, 256))


class CutoutClassifier(ClassifierMixin, BaseEstimator):
    """
    Classify images of clusters with a convolutional network.

    Training needs the extra ``train`` (torch); a fitted or loaded classifier predicts with ONNX Runtime alone.

    Parameters
    ----------
    architecture : str or callable, optional
        ``"resnet18"`` (the network of Su et al. 2020), ``"kosiba2020"``, ``"mobilenet"``, ``"mobilenet_v2"``,
        ``"attention"``, or a function ``f(n_bands, n_classes, shape)`` that gives a `torch.nn.Module`.
    scheme : ClassScheme or str, optional
        The classes.
    geometry : `~astroclassify.images.Geometry`, optional
        Grid that every image is put on; by default 1 Mpc in 256 x 256 pixels (Su et al. 2020, section 2).
    bands : tuple of str, optional
        Bands of the input. With ResNet-18 and the MobileNets one band is treated exactly as if it came
        as three equal channels.
    count_bands : tuple of str, optional
        Bands that hold counts of photons; the others (optical plates) hold intensities. Augmentation depends on it.
    width : int, optional
        Filters of the first stage; by default as published, fewer for a smaller and faster network.
    dropout : float, optional
        Share of the last features dropped in training; by default as published.
    stretch : str, optional
        What is done to counts first: ``"log"`` log10(1 + counts), ``"sqrt"``, ``"linear"``. The training set's mean
        and standard deviation then bring each band to zero mean and unit variance. Our choice: Su et al.'s is unknown.
    augmentation : tuple of str, optional
        How training images are changed at random, before the stretch: ``"flip"``, ``"turn"`` (by 90 degrees),
        ``"rotate"`` (by any angle), ``"shift"`` (up to 1/32 of the side, wrapping), ``"thin"`` (counts kept with a
        chance from 0.5 to 1, as by a shorter exposure), ``"brightness"`` (bands without counts). In all of them counts
        stay whole and noise stays Poisson noise.
    epochs, iterations : int, optional
        How long to train: passes over the training set, or, if given, steps (batches).
    batch_size : int, optional
        Most images in a batch.
    optimizer : str, optional
        ``"adamw"``, ``"sgd"`` (Nesterov momentum) or ``"adadelta"``. Su et al.'s is unknown.
    learning_rate, weight_decay : float, optional
        Rate, and decay of the weights (an L2 penalty in the last two).
    momentum : float, optional
        Momentum of ``"sgd"`` (by default 0.9), rho of ``"adadelta"`` (0.95).
    schedule : str, optional
        ``"one-cycle"``: a cosine up to ``learning_rate`` and down to 0. ``"plateau"``: after ``plateau_patience``
        epochs in which the validation loss has not fallen by 1e-4, the rate is multiplied by ``plateau_factor``, not
        below ``least_rate`` (Keras's ReduceLROnPlateau). ``"constant"``.
    decay : float, optional
        With the last two: the rate is divided by ``1 + decay * step`` (Keras's decay).
    plateau_patience, plateau_factor, least_rate : optional
        See ``schedule``.
    mean_epochs : float, optional
        What is evaluated and kept is a running mean of the weights over about so many epochs; 0 for the weights.
    patience : int or None, optional
        Stop after so many epochs without a better one on the validation set; None never stops.
    monitor : str, optional
        What makes an epoch better: ``"loss"`` (weighted cross-entropy) or ``"f1"`` (mean F1 over classes).
    frozen : tuple of str, optional
        Beginnings of the names of parameters that do not learn (nor do statistics of batch normalisation there).
    thaw_epoch : int or None, optional
        They learn after this epoch; None for never.
    validation_fraction : float, optional
        Share of the groups kept for validation when `fit` is given none; 0 trains all epochs and keeps the last.
    class_weight : "balanced", dict or None, optional
        Weights of the classes in the loss; ``"balanced"`` makes each class count the same whatever its frequency, so
        that probabilities are those for equally frequent classes.
    random_state : int or None, optional
        Seed of start values, order, augmentation and dropout. The same seed gives the same weights on one machine with
        one number of torch threads; on a GPU nearly so for ``"attention"``, see the guide to classifiers.
    device : str, optional
        Where torch trains: ``"auto"`` for a GPU if there is one, else the CPU; or torch's name of a device.
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
    temperature_ : float
        What logits are divided by, see `calibrate`.
    novelty_ : object or None
        What the training images look like to the network; images unlike them get the flag ``unfamiliar``.
    card_ : dict
        Model card: free entries such as ``description``, ``scores``, ``limits``, saved with the model.

    See Also
    --------
    load_classifier : the way back from `save`.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 3; Kosiba et al. 2020, MNRAS 496, 4141; He et al. 2016, CVPR (ResNet).

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
        count_bands=("xray",),
        width=None,
        dropout=None,
        stretch="log",
        augmentation=("flip", "turn", "shift"),
        epochs=30,
        iterations=None,
        batch_size=32,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=0.01,
        momentum=None,
        schedule="one-cycle",
        decay=0.0,
        plateau_patience=10,
        plateau_factor=0.5,
        least_rate=0.0,
        mean_epochs=2,
        patience=10,
        monitor="loss",
        frozen=(),
        thaw_epoch=None,
        validation_fraction=0.1,
        class_weight="balanced",
        random_state=None,
        device="auto",
        verbose=False,
    ):
        self.architecture = architecture
        self.scheme = scheme
        self.geometry = geometry
        self.bands = bands
        self.count_bands = count_bands
        self.width = width
        self.dropout = dropout
        self.stretch = stretch
        self.augmentation = augmentation
        self.epochs = epochs
        self.iterations = iterations
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.schedule = schedule
        self.decay = decay
        self.plateau_patience = plateau_patience
        self.plateau_factor = plateau_factor
        self.least_rate = least_rate
        self.mean_epochs = mean_epochs
        self.patience = patience
        self.monitor = monitor
        self.frozen = frozen
        self.thaw_epoch = thaw_epoch
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @classmethod
    def from_recipe(cls, name, **changes):
        """
        Make an untrained classifier with the settings of a paper.

        Parameters
        ----------
        name : str
            Name of a recipe: ``"su2020"``, ``"kosiba2020-cn"``, ``"kosiba2020-mn"``.
        **changes
            Parameters that are to differ from it.

        Returns
        -------
        CutoutClassifier
            The classifier. Which values are printed in the paper and which are our choice, the recipe says.

        Raises
        ------
        ValueError
            If there is no such recipe.
        """
        from ._recipes import load_recipe

        return cls(**{**recipe_parameters(load_recipe(name)), **changes})

    def fit(
        self, X, y=None, *, groups=None, validation=None, sample_weight=None, checkpoint=None, start=None
    ):  # fmt: skip
        """
        Train the network.

        Parameters
        ----------
        X : `~astropy.table.QTable`, `~numpy.ndarray` or list
            A SAMPLE table (labels and groups come from it), an array of counts (n, [n_bands,] ny, nx) on the grid, or a
            list of CCDData, Cutout or paths. All images are held in memory, 4 bytes a pixel: 250 MB for 954 images of
            256 x 256, twice that while a validation set is split off.
        y : sequence of str, or array of shape (n, n_classes), optional
            Labels; needed where ``X`` has none. Numbers are soft labels: the probability of each class in the order of
            the scheme, from volunteers' votes for example. No label: an empty text, a row of NaN.
        groups : sequence, optional
            What must not be split between training and validation; by default the table's ``group_id``, or each image
            by itself.
        validation : table, or tuple of images and labels, optional
            Images on which to choose the epoch, in place of a share of ``X``.
        sample_weight : sequence of float, optional
            Weight of each image in the loss: 2 counts as two images.
        checkpoint : str or path-like, optional
            Folder in which the state of the training is saved about every half minute, and from which it goes on if
            there is one. The result is that of a training that was not interrupted, bit by bit on the CPU.
        start : CutoutClassifier, str or path-like, optional
            Where to start from instead of random weights: a fitted classifier, a model (name or folder; its
            preprocessing is kept), or a ``.safetensors`` file with torchvision's ImageNet weights, which is never
            downloaded. What does not fit, such as the last layer for other classes, starts anew; see
            ``training_["start"]``.

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
        ModelError
            If the checkpoint is of another training or damaged, or nothing of ``start`` fits.
        MissingDependencyError
            If the extra ``train`` is not installed.
        """
        _fitting.fit(self, X, y, groups, validation, sample_weight, checkpoint, start)
        return self

    def _make_predictor(self, onnx, rule):
        bands, n_classes = tuple(self.bands), get_scheme(self.scheme).n_classes
        network = OnnxNetwork(onnx, input_shape=(len(bands), *self.geometry.shape), n_classes=n_classes)
        return Predictor(
            network, bands=bands, geometry=self.geometry, preprocessing=rule, training=self.training_,
            temperature=self.temperature_, novelty=self.novelty_,
        )  # fmt: skip

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
        scheme, _ = check_parameters(self)
        torch = require("torch", extra="train")
        network = _fitting.untrained(self, scheme.n_classes, self.random_state or 0)
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
        return probabilities(self._fitted(), X)

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
            A SAMPLE table read by `astroclassify.tables.read_sample` or its folder, images with a celestial WCS (put on
            the grid by `astroclassify.images.standardise`), or an array (n, [n_bands,] ny, nx) of counts on the grid.
        redshift : float or sequence of float, optional
            Redshift of all or of each; by default, and where one of a sequence is masked or NaN, that of the table or
            the header.
        centre : `~astropy.coordinates.SkyCoord`, optional
            Centre of the field of every image; by default the middle of each.
        executor : `~concurrent.futures.Executor`, optional
            Where to run; by default on the cores of this machine.
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
        SchemaError
            If the images carry labels of another scheme.
        ModelError
            If the model cannot be run.
        """
        return classify(
            self._fitted(),
            images,
            scheme=get_scheme(self.scheme),
            redshift=redshift,
            centre=centre,
            executor=executor,
            progress=progress,
            model=str(self.card_.get("name", architecture_name(self.architecture))),
        )

    def calibrate(self, X, y=None, *, groups=None):
        """
        Choose the temperature by which logits are divided, so that probabilities are as often right as they say.

        Parameters
        ----------
        X : table, array or list of images
            Labelled images that were not trained on, as for `fit`.
        y : sequence of str or array, optional
            Labels, hard or soft; needed where ``X`` has none.
        groups : sequence, optional
            Group of each image, as for `fit`; each group counts the same.

        Returns
        -------
        CutoutClassifier
            Itself. The most probable class of an image does not change. Classes are weighted as in training, so that
            the temperature does not try to make up for other class frequencies.

        References
        ----------
        Guo et al. 2017, ICML (arXiv:1706.04599).
        """
        from ._calibration import fit_temperature

        predictor = self._fitted()
        rules = {"scheme": get_scheme(self.scheme), "bands": predictor.bands, "geometry": predictor.geometry}
        known = load_training_set(X, y, groups, **rules, name="X")
        logits = _fitting.raw_logits(predictor, known.counts)
        weight = known.targets(_fitting.class_weights(self.class_weight, known, rules["scheme"])).sum(axis=1)
        self.temperature_ = float(fit_temperature(logits, known.soft, groups=known.groups, sample_weight=weight))
        predictor.temperature = self.temperature_
        return self

    def activation_map(self, image, class_name, *, redshift=None, centre=None):
        """
        Map of what in an image speaks for a class.

        Parameters
        ----------
        image : `~astropy.nddata.CCDData`, Cutout or path
            The image, as for `classify`.
        class_name : str
            A class of the scheme.
        redshift : float, optional
            Redshift; by default that of the header.
        centre : `~astropy.coordinates.SkyCoord`, optional
            Centre of the field; by default the middle.

        Returns
        -------
        `~astropy.nddata.CCDData`
            Signed and unscaled, with the celestial WCS of the cells.
        """
        from ._maps import activation_map

        return activation_map(self, image, class_name, redshift=redshift, centre=centre)

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
        return _store.write_folder(
            folder, to_document(self), self.weights_, predictor.network.data, overwrite=overwrite
        )


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
    if "targets" in document:
        raise ModelError(f"{str(folder)!r} holds a regressor: use load_regressor")
    return from_document(CutoutClassifier, document, weights, onnx, repr(str(folder / _store.DOCUMENT)))
