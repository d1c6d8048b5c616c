"""`CutoutRegressor`: measures of a cluster from its image, each with an uncertainty, and classes from them."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from scipy.stats import norm
from sklearn.base import RegressorMixin

from astroclassify.exceptions import ModelError, SchemaError
from astroclassify.schemes import COOL_CORE, T_COOL_BOUNDS
from astroclassify.tables import numbers, plain_column, plain_table, provenance

from ..inputs._predictions import prediction_table
from ..models import _store
from . import _documents, _fitting
from ._base import _CutoutEstimator
from ._parameters import estimator, parameter
from ._targets import Scaling, TargetTask, check_targets, moments

__all__ = ["CutoutRegressor", "classes_from", "load_regressor"]


@estimator
class CutoutRegressor(RegressorMixin, _CutoutEstimator):
    """
    Predict measures of clusters from images, each with an uncertainty.

    The networks and the training are those of `CutoutClassifier`; the last layer gives mean and variance of a normal
    distribution for each target, learned together by maximum likelihood.

    Parameters
    ----------
    <parameters>

    Attributes
    ----------
    targets_ : tuple
        The targets with their units.
    scaling_ : object
        Mean and spread of the training targets, and ``sigma_factor``: by what the network's uncertainties are
        multiplied so that deviations from validation images are as large as they say (1 if there are fewer than 10).
    history_, training_, novelty_, card_ :
        As for `CutoutClassifier`; the score of an epoch is ``validation_r2``.

    See Also
    --------
    load_regressor : the way back from `save`.
    classes_from : classes from the cooling time.

    Notes
    -----
    The uncertainty is that of images like those of training (noise, projection, scatter between clusters), not of
    clusters of another kind: see the flag ``unfamiliar``. With few training images it is too small; ``sigma_factor``
    (the maximum likelihood factor, the root mean square of the validation pulls) corrects that on average.

    References
    ----------
    Nix & Weigend 1994, Proc. IEEE Int. Conf. on Neural Networks, 1, 55; Laves et al. 2020, MIDL (arXiv:2104.12376),
    section 2.2 (factor). Targets as in Sadikov et al. 2025, who regress five measures of the core.

    Examples
    --------
    >>> from astroclassify.nn import CutoutRegressor
    >>> CutoutRegressor(targets=("log_t_cool",), epochs=20).get_params()["targets"]
    ('log_t_cool',)
    """

    targets: tuple = parameter(
        ("log_t_cool", "log_n_e", "c_sb"), lambda name, value: check_targets(value), first=True, text="""
        What to predict: columns of a SAMPLE table, or ``log_<column>`` for their decimal logarithm. Quantities with a
        wide range such as t_cool and n_e should be logarithms, since the errors are taken to be normal.""",
    )  # fmt: skip

    def _task(self):
        return TargetTask(self.targets)

    def _output_names(self):
        return [target.name for target in check_targets(self.targets)]

    def _own_entries(self):
        names, descriptions = zip(*((target.name, target.description) for target in self.targets_), strict=True)
        return {
            # In the place of the classes: what the model card and the list of models show.
            "scheme": {"name": "targets", "classes": list(names), "descriptions": list(descriptions), "version": 1},
            "targets": self.scaling_.to_dict(),
        }

    @staticmethod
    def _own_parameters(document):
        return {}

    def _read_own(self, document):
        self.targets_ = check_targets(self.targets)
        self.scaling_ = Scaling.from_dict(document["targets"], n_targets=len(self.targets_))

    def fit(self, X, y=None, *, groups=None, validation=None, sample_weight=None, checkpoint=None):
        """
        Train the network.

        Parameters
        ----------
        X : `~astropy.table.QTable`, `~numpy.ndarray` or list
            A SAMPLE table (targets and groups come from it), or images as for `CutoutClassifier.fit`.
        y : array of shape (n, n_targets), optional
            Targets as they are to be predicted (logarithms for ``log_`` targets) in the units of a SAMPLE table; needed
            where ``X`` is no table. One column may be of shape (n,). A NaN is not learned from; an image without any
            target is left out.
        groups, sample_weight, checkpoint : optional
            As for `CutoutClassifier.fit`.
        validation : table, or tuple of images and targets, optional
            Images on which to choose the epoch and to calibrate the uncertainties, in place of a share of ``X``.

        Returns
        -------
        CutoutRegressor
            Itself.

        Raises
        ------
        ValueError, SchemaError, TypeError
            If a parameter is out of range, or targets are missing, constant or of another shape or unit.
        MissingDependencyError
            If the extra ``train`` is not installed.
        """
        self._check()
        task = self._task()
        held = _fitting.fit(
            self, task, X, y, groups=groups, validation=validation, sample_weight=sample_weight, checkpoint=checkpoint
        )
        self.targets_, self.scaling_ = task.list, task.scaling
        if held is not None:
            self.scaling_ = task.calibrated(_fitting.raw_logits(self.predictor_, held.planes), held)
        return self

    def _rows(self, images, **where):
        """Items, means and standard deviations (n, n_targets), and rows with flags and messages."""
        predictor = self._fitted()
        items, single = predictor.items(images, **where)
        rows = list(predictor.stream(items, extras=("logits",)))
        if single and rows[0].message:
            raise ValueError(f"{items[0].source_id} cannot be used: {rows[0].message}")
        nan = np.full(2 * len(self.targets_), np.nan)
        outputs = np.array([row.extras.get("logits", nan) for row in rows], dtype=float).reshape(len(rows), len(nan))
        mean, sigma = moments(outputs)
        scaling = self.scaling_
        return items, scaling.mean + scaling.std * mean, scaling.std * scaling.sigma_factor * sigma, rows

    def predict(self, X, return_std=False):
        """
        Predict the targets.

        Parameters
        ----------
        X : table, array or list of images
            As for `CutoutClassifier.classify`.
        return_std : bool, optional
            Whether to return uncertainties too.

        Returns
        -------
        mean : `~numpy.ndarray`
            Shape (n, n_targets), or (n,) for one target: logarithms for ``log_`` targets, units as in SAMPLE.
        std : `~numpy.ndarray`
            Standard deviations; only with ``return_std``.

        Raises
        ------
        ValueError
            If an image cannot be used; `predict_table` gives it a row with a flag instead.
        """
        items, mean, sigma, rows = self._rows(X)
        for item, row in zip(items, rows, strict=True):
            if row.message:
                raise ValueError(f"{item.source_id} cannot be used: {row.message}")
        if len(self.targets_) == 1:
            mean, sigma = mean[:, 0], sigma[:, 0]
        return (mean, sigma) if return_std else mean

    def predict_table(self, X, *, redshift=None, centre=None, pixel_scale=None):
        """
        Predict the targets as a table with units.

        Parameters
        ----------
        X : image, or several in any form
            As for `CutoutClassifier.classify`.
        redshift, centre, pixel_scale : optional
            As for `CutoutClassifier.classify`.

        Returns
        -------
        `~astropy.table.QTable`
            One row per image in the order given: ``source_id``; ``<target>`` and ``<target>_err`` (one standard
            deviation) for each target; for ``log_<column>`` also ``<column>`` (10 to the mean: the median),
            ``<column>_lo`` and ``<column>_hi`` (16th and 84th percentiles) with their unit; ``flags``, ``message``, and
            the sample's ``label`` and ``group_id`` where it has them. An image that fails has NaN, the flag ``failed``
            and a message.

        Raises
        ------
        ValueError
            If ``X`` is a single image and cannot be used.
        """
        items, mean, sigma, rows = self._rows(X, redshift=redshift, centre=centre, pixel_scale=pixel_scale)
        table = QTable({"source_id": np.array([item.source_id for item in items], dtype=str)})
        for index, target in enumerate(self.targets_):
            values, errors, unit = mean[:, index], sigma[:, index], u.Unit(target.unit)
            if target.is_log:
                table[target.name], table[f"{target.name}_err"] = values, errors
                table[target.column] = 10**values * unit
                table[f"{target.column}_lo"] = 10 ** (values - errors) * unit
                table[f"{target.column}_hi"] = 10 ** (values + errors) * unit
            else:
                table[target.name], table[f"{target.name}_err"] = values * unit, errors * unit
            table[target.name].info.description = target.description
        table["flags"] = np.array([row.flags for row in rows], dtype=np.int64)
        table["message"] = np.array(self.predictor_.messages(items, rows), dtype=str)
        for name in ("label", "group_id"):
            if isinstance(X, Table) and name in X.colnames:
                table[name] = plain_column(X[name], "").astype(str)
        table.meta = provenance(targets=list(self.targets), model=self._model_name())
        return table

    def classify(self, images, *, redshift=None, centre=None, pixel_scale=None):
        """
        Classes from the predicted cooling time, see `classes_from`.

        Parameters
        ----------
        images, redshift, centre, pixel_scale
            As for `predict_table`.

        Returns
        -------
        `~astropy.table.QTable`
            PREDICTIONS of the scheme ``"cool-core"``.

        Raises
        ------
        SchemaError
            If neither ``"log_t_cool"`` nor ``"t_cool"`` is a target.
        """
        return classes_from(self.predict_table(images, redshift=redshift, centre=centre, pixel_scale=pixel_scale))


def classes_from(predictions, *, scheme=COOL_CORE):
    """
    Cool-core classes from predicted cooling times: the probability of each class is the part of the normal distribution
    between the bounds of the class.

    Parameters
    ----------
    predictions : `~astropy.table.Table`
        What `CutoutRegressor.predict_table` gives, with ``log_t_cool`` (log10 of Gyr) and ``log_t_cool_err``, or
        ``t_cool`` and ``t_cool_err`` with units.
    scheme : ClassScheme, optional
        Three classes by rising cooling time.

    Returns
    -------
    `~astropy.table.QTable`
        PREDICTIONS, with ``flags`` and ``message``, ``label`` and ``group_id`` where the table has them. A row without
        a finite value, or with an uncertainty that is not positive, has failed.

    Raises
    ------
    SchemaError
        If the table has no such columns.

    References
    ----------
    Bounds: Su et al. 2020, MNRAS 498, 5620, section 2.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import classes_from
    >>> table = QTable({"source_id": ["a"], "log_t_cool": [0.0], "log_t_cool_err": [0.1]})  # at the bound of CC
    >>> round(float(classes_from(table)["p_CC"][0]), 6)
    0.5
    """
    predictions = plain_table(predictions)
    if {"log_t_cool", "log_t_cool_err"} <= set(predictions.colnames):
        mean, sigma = (numbers(predictions, name, what="predictions") for name in ("log_t_cool", "log_t_cool_err"))
        bounds = np.log10(T_COOL_BOUNDS)
    elif {"source_id", "t_cool", "t_cool_err"} <= set(predictions.colnames):
        mean, sigma = (numbers(predictions, name, u.Gyr, what="predictions") for name in ("t_cool", "t_cool_err"))
        bounds = np.array(T_COOL_BOUNDS)
    else:
        needed = "log_t_cool and log_t_cool_err, or t_cool and t_cool_err"
        raise SchemaError(f"predictions must have {needed}, got {predictions.colnames}")
    good = np.isfinite(mean) & np.isfinite(sigma) & (sigma > 0)
    scaled = (bounds - np.where(good, mean, 0.0)[:, None]) / np.where(good, sigma, 1.0)[:, None]
    below = np.column_stack([np.zeros(len(mean)), norm.cdf(scaled), np.ones(len(mean))])
    probabilities = np.where(good[:, None], np.diff(below, axis=1), np.nan)
    flags = np.asarray(predictions["flags"]) if "flags" in predictions.colnames else np.zeros(len(mean), int)
    found = [str(text) for text in predictions["message"]] if "message" in predictions.colnames else [""] * len(mean)
    missing = np.where(good, "", "no cooling time was predicted").tolist()
    messages = [text or other for text, other in zip(found, missing, strict=True)]
    names, model = [str(value) for value in predictions["source_id"]], str(predictions.meta.get("model", ""))
    return prediction_table(names, probabilities, flags, messages, scheme, sample=predictions, model=model)


def load_regressor(folder):
    """
    Load a model that `CutoutRegressor.save` wrote. Neither torch nor safetensors is needed.

    Parameters
    ----------
    folder : str or path-like
        The folder, or the name of a packaged model.

    Returns
    -------
    CutoutRegressor
        Fitted; checked as by `load_classifier`.

    Raises
    ------
    ModelError
        If there is no such model, it is a classifier, or its folder is incomplete, damaged, altered or from a newer
        version.
    """
    folder = _store.find_folder(folder)
    document, weights, onnx = _store.read_folder(folder)
    if "targets" not in document:
        raise ModelError(f"{str(folder)!r} holds a classifier: use load_classifier")
    return _documents.from_document(CutoutRegressor, folder, document, weights, onnx)
