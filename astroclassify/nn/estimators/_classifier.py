"""`CutoutClassifier`: a network on images as a scikit-learn estimator."""

from __future__ import annotations

import os

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin

from astroclassify.exceptions import ArgumentError, ModelError
from astroclassify.schemes import COOL_CORE, ClassScheme, get_scheme

from ..doubt._conformal import Conformal
from ..doubt._populations import class_fractions, for_population
from ..inputs._dataset import TrainingSet, load_training_set
from ..inputs._predictions import prediction_table
from ..models import _store
from ..models._inference import classify, probabilities
from . import _documents, _fitting
from ._base import _CutoutEstimator
from ._classes import ClassTask, in_sorted_order, sorted_classes
from ._parameters import check_names, choice, estimator, integer, optional, parameter, recipe_parameters

__all__ = ["CutoutClassifier", "load_classifier"]


def _check_class_weight(name, value):
    if not (value is None or isinstance(value, dict) or (isinstance(value, str) and value == "balanced")):
        raise ArgumentError(f"{name} must be 'balanced', a dict or None, got {value!r:.100}")


@estimator
class CutoutClassifier(ClassifierMixin, _CutoutEstimator):
    """
    Classify images of clusters with a convolutional network.

    Training needs the extra ``train`` (torch); a fitted or loaded classifier predicts with ONNX Runtime alone.

    Parameters
    ----------
    <parameters>

    Attributes
    ----------
    classes_ : `~numpy.ndarray`
        Labels in the order of the columns of `predict_proba`: sorted, as scikit-learn's scorers take them to be. Tables
        of predictions keep the order of the scheme. Whole numbers if it was fitted on such, until it is saved.
    history_ : list of dict
        Losses and validation score of each epoch; the one kept has ``best``.
    training_ : dict
        What it was trained on.
    temperature_ : float
        What logits are divided by, see `calibrate`.
    conformal_ : Conformal or None
        What `calibrate` learned for sets of classes.
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
    >>> CutoutClassifier(n_filters=16, epochs=20).get_params()["n_filters"]
    16
    """

    scheme: ClassScheme | str = parameter(COOL_CORE, lambda name, value: get_scheme(value), "The classes.", first=True)
    monitor: str = parameter(
        "loss", choice(("loss", "f1")), """
        What makes an epoch better: ``"loss"`` (weighted cross-entropy) or ``"f1"`` (mean F1 over classes).""",
    )  # fmt: skip
    frozen: tuple = parameter(
        (), check_names, """
        Beginnings of the names of parameters that do not learn (nor do statistics of batch normalisation there).""",
    )  # fmt: skip
    thaw_epoch: int | None = parameter(
        None, optional(integer(1, 10**6)), "They learn after this epoch; None for never."
    )
    class_weight: str | dict | None = parameter(
        "balanced", _check_class_weight, """
        Weights of the classes in the loss; ``"balanced"`` makes each class count the same whatever its frequency, so
        that probabilities are those for equally frequent classes.""",
    )  # fmt: skip

    def _check(self):
        super()._check()
        for label in self.class_weight if isinstance(self.class_weight, dict) else ():
            get_scheme(self.scheme).index(label)

    def _task(self):
        return ClassTask(get_scheme(self.scheme), self.class_weight)

    def _output_names(self):
        return get_scheme(self.scheme).classes

    def _own_entries(self):
        return {"scheme": get_scheme(self.scheme).to_dict()}

    @staticmethod
    def _own_parameters(document):
        return {"scheme": ClassScheme.from_dict(document["scheme"])}

    def _read_own(self, document):
        self.temperature_ = float(document["doubt"]["temperature"])
        if not 1e-3 <= self.temperature_ <= 1e3:
            raise ValueError(f"temperature must lie between 0.001 and 1000, got {self.temperature_}")
        conformal = document["doubt"].get("conformal")
        self.conformal_ = None if conformal is None else Conformal.from_dict(conformal)
        self.classes_ = sorted_classes(self.scheme)

    @classmethod
    def from_recipe(cls, name, **changes):
        """
        Make an untrained classifier with the settings of a paper, see `load_recipe`.

        Parameters
        ----------
        name : str
            Name of a recipe: ``"su2020"``, ``"kosiba2020-cn"``, ``"kosiba2020-mn"``.
        **changes
            Parameters that are to differ from it.

        Returns
        -------
        CutoutClassifier
            The classifier.

        Raises
        ------
        ValueError
            If there is no such recipe.
        """
        from ._recipes import load_recipe

        return cls(**{**recipe_parameters(load_recipe(name)), **changes})

    def fit(self, X, y=None, *, groups=None, validation=None, sample_weight=None, checkpoint=None, start=None):
        """
        Train the network.

        Parameters
        ----------
        X : images in any form
            As for `classify`, for example a SAMPLE table with labels and groups, or an array of counts
            (n, [n_bands,] ny, nx) on the grid. All images are in memory, 4 bytes a pixel: 250 MB for 954 images of
            256 x 256, twice that while a validation set is split off.
        y : sequence of str or int, or array of shape (n, n_classes), optional
            Labels; needed where ``X`` has none. Whole numbers count the sorted classes from 0, as scikit-learn's
            LabelEncoder does. Rows of numbers are soft labels: probabilities of the classes in the order of the scheme.
            No label: an empty text, a row of NaN.
        groups : sequence, optional
            Groups that are not split between training and validation; by default ``group_id``, or each image alone.
        validation : table, or tuple of images and labels, optional
            Images on which to choose the epoch, in place of a share of ``X``.
        sample_weight : sequence of float, optional
            Weight of each image in the loss: 2 counts as two images.
        checkpoint : str or path-like, optional
            Folder in which the state of the training is saved about every half minute and from which it resumes. On the
            CPU the result is identical to that of an uninterrupted training.
        start : CutoutClassifier, str or path-like, optional
            Weights to start from: those of a fitted classifier or a model (name or folder), whose preprocessing is
            kept, or of a ``.safetensors`` file with torchvision's ImageNet weights, which is not downloaded. Layers
            that do not fit, such as the last one for other classes, start at random; see ``training_["start"]``.

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
        self._check()
        if isinstance(start, (str, os.PathLike)) and not str(start).endswith(".safetensors"):
            start = load_classifier(start)
        task = self._task()
        _fitting.fit(
            self, task, X, y, groups=groups, validation=validation, sample_weight=sample_weight, checkpoint=checkpoint,
            start=start,
        )  # fmt: skip
        self.classes_, self.temperature_, self.conformal_ = task.classes, 1.0, None
        return self

    def predict_proba(self, X):
        """
        Probability of each class.

        Parameters
        ----------
        X : images in any form
            As for `classify`.

        Returns
        -------
        `~numpy.ndarray`
            Shape (n, n_classes), columns as in ``classes_``, rows sum to 1.

        Raises
        ------
        GeometryError, ValueError, OSError
            If an image cannot be read or put on the grid; `classify` gives it a row with a flag instead.
        """
        return in_sorted_order(probabilities(self._fitted(), X), get_scheme(self.scheme))

    def predict(self, X):
        """
        Most probable class.

        Parameters
        ----------
        X : images in any form
            As for `classify`.

        Returns
        -------
        `~numpy.ndarray`
            Labels, shape (n,).
        """
        best = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[best]

    def classify(
        self,
        images,
        *,
        redshift=None,
        centre=None,
        pixel_scale=None,
        population=None,
        coverage=None,
        executor=None,
        progress=None,
        checkpoint=None,
        columns=None,
    ):
        """
        Classify images, with flags for doubtful ones.

        Parameters
        ----------
        images : image, or several in any form
            - An image with a celestial WCS, which `astroclassify.images.standardise` puts on the grid: path,
              `~astropy.nddata.CCDData`, `~astropy.nddata.NDData`, `~astropy.nddata.Cutout2D`, HDU, HDUList, or
              `~astroclassify.images.Cutout`. Where there is no unit, counts are assumed (flag ``no_unit``).
            - A 2-D array or Quantity of counts with ``pixel_scale``; without it, an array ([n_bands,] ny, nx) of the
              shape of the grid is taken to be on the grid.
            - Several images: a list, tuple, iterator (``Path.glob``; read to its end first) or array of such, mixed or
              not; an array (n, [n_bands,] ny, nx) of counts.
            - A table with a column ``path``: files, relative to ``meta["folder"]`` or else to the current folder. Its
              ``source_id``, ``redshift``, and positions (``sky_position``, a SkyCoord; or ``ra`` and ``dec``, ICRS, in
              degrees where they have no unit), masked or not, are used. A SAMPLE table is one.
            - A folder: its SAMPLE table, or all FITS files in it in the order of their names, not those in folders
              below.
        redshift : float, sequence of float, or dict, optional
            Redshift of all, of each, or by ``source_id``; by default, and where one is masked, NaN or not in the dict,
            that of the table or the header.
        centre : `~astropy.coordinates.SkyCoord`, optional
            Centre of the field, one for all or one for each; by default that of the table, or the middle of the image.
        pixel_scale : `~astropy.units.Quantity`, optional
            Side of a pixel of arrays, an angle such as ``4 * u.arcsec``; north is up. The redshift makes it kpc.
        population : str, mapping or sequence of float, optional
            Population that the images are from, see `class_fractions`: ``"tng300"``, ``"x-ray-selected"``,
            ``"sz-selected"``, or class fractions of one's own. By default that of the training images, whose class
            fractions are in ``meta["class_fractions"]``.
        coverage : float, optional
            Adds the column ``label_set``: the classes that hold the true one with at least this chance, see
            `Conformal`. For a classifier that was calibrated.
        executor : `~concurrent.futures.Executor`, optional
            Where to run; by default on the cores of this machine.
        progress : bool, optional
            Whether to show a bar on standard error; by default on a terminal only.
        checkpoint : str or path-like, optional
            File that gets a line for each image that was classified, as they come, and from which the same call goes on
            after its process has died. Images whose file (size, time of change), redshift or centre has changed, and
            all of them with another model, are classified again, as are those that failed. Images in files only; it is
            not used for a single one.
        columns : `~astropy.table.Table`, optional
            One row per image with the columns that the classifier uses beside the images (``columns`` of its
            parameters), for images that are no table with these.

        Returns
        -------
        `~astropy.table.QTable`
            PREDICTIONS, one row per image in the order given: ``source_id``, ``label_pred``, ``p_<class>``, ``flags``,
            ``message``, and the table's ``label`` and ``group_id``. An image of a list or table that fails has NaN, an
            empty label, the flag ``failed`` and a message. What is judged without a band or a number that the
            classifier uses (flags ``no_optical``, ``missing_value``) has a message too.

            Without a table, a source is named by its file, by HALO_ID or OBJECT of its header, or by its number. Where
            two have one name, files have the folders above them in it (``12345/broad_thresh``), images along several
            axes the axis (``5 x``), and others a number (``A 1``, ``A 1 (2)``).

        Raises
        ------
        GeometryError, ValueError, OSError
            If ``images`` is a single image and cannot be used, or ``redshift``, ``centre`` or ``pixel_scale`` cannot.
        TypeError
            If ``images`` is of none of these forms.
        SchemaError
            If a table has no column ``path`` or a column of another kind, or labels of another scheme.
        ModelError
            If the model cannot be run.
        OutputError
            If ``checkpoint`` cannot be written or is a file of something else.

        Notes
        -----
        Files that are packed (gzip) or hold tile-compressed images are read by a process of its own: a damaged one can
        kill its reader, and then has a row that failed like any other.
        """
        predictor, scheme = self._fitted(), get_scheme(self.scheme)
        # Tried before images are read.
        fractions = self.training_.get("class_fractions")
        if population is not None:
            class_fractions(population, scheme=scheme)
            if fractions is None:
                raise ValueError("population is for a classifier that knows the class fractions of its training images")
        if coverage is not None:
            if self.conformal_ is None:
                raise ValueError("coverage is for a classifier that was calibrated on labelled images: see calibrate")
            self.conformal_.thresholds(coverage)
        table = classify(
            predictor, images, scheme=scheme, redshift=redshift, centre=centre, pixel_scale=pixel_scale,
            executor=executor, progress=progress, checkpoint=checkpoint, model=self._model_name(), columns=columns,
        )  # fmt: skip
        if fractions is not None:
            table.meta["class_fractions"] = list(fractions)
        if population is not None:
            table = for_population(table, population, scheme=scheme)
        return table if coverage is None else self.conformal_.label_sets(table, coverage=coverage, scheme=scheme)

    def calibrate(self, X, y=None, *, groups=None):
        """
        Choose the temperature by which logits are divided, so that probabilities agree with frequencies, and learn
        which sets of classes hold the true one.

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
            Itself. The most probable class of an image does not change. Classes are weighted as in training.

        References
        ----------
        Guo et al. 2017, ICML (arXiv:1706.04599); for the sets see `Conformal`.
        """
        from ..doubt._calibration import fit_temperature

        predictor, task = self._fitted(), self._task()
        rules = {"task": task, "bands": predictor.bands, "geometry": predictor.geometry}
        rules |= {"rule": predictor.preprocessing, "optional": predictor.optional, "columns": predictor.columns}
        rules["units"] = None if predictor.preprocessing.columns is None else predictor.preprocessing.columns.units
        known = X if isinstance(X, TrainingSet) else load_training_set(X, y, groups, **rules, name="X")
        task.learn(known, least_classes=1)
        logits, weight = _fitting.raw_logits(predictor, known.planes), task.targets(known).sum(axis=1)
        self.temperature_ = float(fit_temperature(logits, known.answers, groups=known.groups, sample_weight=weight))
        predictor.temperature = self.temperature_
        self.conformal_ = self._learn_sets(logits, known)
        return self

    def _learn_sets(self, logits, known):
        """`Conformal` of labelled images; None where a class has none, or labels are soft."""
        hard = np.all(np.isin(known.answers, (0.0, 1.0)))
        if not hard or not known.answers.any(axis=0).all():
            return None
        return Conformal.fit(self._labelled(logits, known), scheme=get_scheme(self.scheme))

    def _labelled(self, logits, known):
        """PREDICTIONS with labels and groups of a training set in memory, from its raw logits."""
        scheme = get_scheme(self.scheme)
        p = softmax(logits.astype(float) / self.temperature_, axis=1)
        names = [str(number) for number in range(len(p))]
        table = prediction_table(names, p, np.zeros(len(p), int), [""] * len(p), scheme)
        table["label"] = np.array(scheme.classes)[known.answers.argmax(axis=1)]
        table["group_id"] = known.groups
        if (fractions := self.training_.get("class_fractions")) is not None:
            table.meta["class_fractions"] = list(fractions)
        return table

    def activation_map(self, image, class_name, *, redshift=None, centre=None, pixel_scale=None, columns=None):
        """
        Map of what in an image speaks for a class (positive) and against it (negative).

        Parameters
        ----------
        image : image in any form
            As for `classify`.
        class_name : str
            A class of the scheme.
        redshift : float, optional
            Redshift; by default that of the header.
        centre : `~astropy.coordinates.SkyCoord`, optional
            Centre of the field; by default the middle.
        pixel_scale : `~astropy.units.Quantity`, optional
            Side of a pixel of an array, see `classify`.
        columns : `~astropy.table.Table`, optional
            One row with the columns that the classifier uses beside the image, see `classify`.

        Returns
        -------
        `~astropy.nddata.CCDData`
            One pixel a cell of the feature maps, in units of the logit, with the celestial WCS of the cells (none for
            an array). ``meta`` has ``CLASS``; ``LOGIT`` and ``PROB`` of the class; ``METHOD``, ``"exact"`` or
            ``"gradient"``; for an exact map ``BIAS``, which is ``LOGIT`` minus the mean of the map; ``MODEL``,
            ``SOURCEID``, ``FLAGS``, ``REDSHIFT`` if known, ``CREATOR``; ``CELLPIX`` and ``CELLPIXY``, pixels of the
            grid per cell along x and y; ``CELLSIZE`` (of a cell along x) and ``FIELD`` (shorter side) in ``CELLUNIT``,
            kpc, or arcmin without a redshift; ``XMIDDLE`` and ``YMIDDLE``, middle of the field in cells from the
            centre of the first.

        Raises
        ------
        SchemaError
            If there is no such class.
        GeometryError, TypeError, ValueError, OSError
            If the image cannot be used.
        MissingDependencyError
            If the network has no exact maps and the extra ``train`` is not installed.

        Notes
        -----
        For a network that ends with a mean over positions and one linear layer, ``sum_k w_k^c f_k(x, y)`` over its last
        feature maps is exact: the logit is its mean plus the bias (Zhou et al. 2016). For other networks the map is
        ``sum_k a_k f_k(x, y)`` with ``a_k = sum_xy dz / df_k(x, y)`` for the logit z: equations 1 and 2 of Selvaraju et
        al. (2017) without the rectifier, so that what speaks against the class stays, and with a sum in place of the
        mean, which is exact in the first case. It is an approximation to first order.

        References
        ----------
        Zhou et al. 2016, CVPR, section 2; Selvaraju et al. 2017, ICCV, "Grad-CAM", sections 3 and 3.1.
        """
        from ..maps._maps import activation_map

        return activation_map(
            self, image, class_name, redshift=redshift, centre=centre, pixel_scale=pixel_scale, columns=columns
        )  # fmt: skip


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
    return _documents.from_document(CutoutClassifier, folder, document, weights, onnx)
