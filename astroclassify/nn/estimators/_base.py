"""What `CutoutClassifier` and `CutoutRegressor` share: parameters, checks, training, the network, and model folders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from astropy import units as u
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from astroclassify._checks import check_choice, first_line, require
from astroclassify.exceptions import ModelError
from astroclassify.images import Geometry
from astroclassify.schemes import Flag

from ..inputs._preprocess import CALIBRATED, STRETCHES, input_shape
from ..inputs._profile import PROFILE
from ..models import _store
from ..models._inference import OnnxNetwork, Predictor
from ..models._listing import taken_images
from ..networks import _build as _networks
from ..networks._build import OWN_NETWORK, architecture_name
from ..training._augment import check_augmentation
from ..training._optimizers import OPTIMIZERS, SCHEDULES
from . import _documents, _fitting
from ._parameters import (
    check_bands,
    check_names,
    check_parameters,
    choice,
    estimator,
    integer,
    number,
    optional,
    parameter,
)

__all__ = ["_CutoutEstimator"]

#: Names of the flags with which an image can be refused.
REFUSABLE = ("other_instrument", "other_band")


def _check_architecture(name, value):
    if not (isinstance(value, str) and value.startswith(OWN_NETWORK)):
        _networks.check_architecture(value)


def _check_geometry(name, value):
    if not isinstance(value, Geometry):
        raise TypeError(f"{name} must be a Geometry, got {type(value).__name__}")


def _check_columns(name, value):
    check_names(name, value)
    if len(tuple(value)) > 64 or len(set(value)) != len(tuple(value)):
        raise ValueError(f"{name} must be at most 64 different names, got {tuple(value)}")


def _check_refuse(name, value):
    check_names(name, value)
    for each in value:
        check_choice(name, each, REFUSABLE)


def _anything(name, value):
    """No check: torch or `~astroclassify.batch.master_seed` checks it when it is used."""


@estimator
class _CutoutEstimator(BaseEstimator):
    """A network on images as a scikit-learn estimator, without what it learns."""

    architecture: str | Callable = parameter(
        "resnet18", _check_architecture, kw_only=False, text="""
        ``"resnet18"`` (the network of Su et al. 2020), ``"kosiba2020"``, ``"mobilenet"``, ``"mobilenet_v2"``,
        ``"attention"``, ``"profile"``, or a function ``f(n_bands, n_classes, shape)`` that gives a
        `torch.nn.Module`.""",
    )  # fmt: skip
    geometry: Geometry = parameter(
        Geometry(1 * u.Mpc, (256, 256)), _check_geometry,
        """Grid that every image is put on; by default 1 Mpc in 256 x 256 pixels (Su et al. 2020, section 2).""",
    )  # fmt: skip
    bands: tuple = parameter(
        ("xray",), check_bands, """
        Bands of the input. With ResNet-18 and the MobileNets one band is treated exactly as if it came as three equal
        channels.""",
    )  # fmt: skip
    count_bands: tuple = parameter(
        ("xray",), check_names, """
        Bands that hold counts of photons; the others (optical plates) hold intensities. Augmentation depends on it.""",
    )  # fmt: skip
    columns: tuple = parameter(
        (), _check_columns, """
        Columns of the table of images (numbers, such as ``("ext", "ext_like", "off_axis", "exposure")`` of candidates)
        that enter beside each image: on a scale that is logarithmic above the tenth percentile of the training images'
        magnitudes, standardised, through a perceptron whose answer adds to the logits. A missing value (NaN, masked,
        no such column, no table) counts as the training mean and is flagged; an exposure is then that of the image.""",
    )  # fmt: skip
    n_filters: int | None = parameter(
        None,
        optional(integer(1, 1024)),
        "Filters of the first stage; by default as published, fewer for a smaller and faster network.",
    )
    dropout: float | None = parameter(
        None, optional(number(0, 0.99)), "Share of the last features dropped in training; by default as published."
    )
    stretch: str = parameter(
        "log", choice(STRETCHES), """
        What is done to counts first: ``"log"`` log10(1 + counts), ``"sqrt"``, ``"linear"``. With the first two,
        bands of intensities become the arcsinh of what lies above the median of each image in units of its noise.
        Or ``"brightness"``, for one band on a grid in kpc: the logarithm of the counts that Su et al.'s setting
        (ACIS-I, 100 ks, z = 0.05) would have, by instrument, band, exposure (map), redshift and date of each image,
        and beside it planes that tell exposure, depth, redshift and sharpness; without exposure or instrument the
        shape alone is judged. Or ``"profile"``: the same in rings about the peak, for the architecture of that
        name. The training set's mean and standard deviation then bring each band to zero mean and unit variance.
        Our choice: Su et al.'s is unknown.""",
    )  # fmt: skip
    augmentation: tuple = parameter(
        ("flip", "turn", "shift"), lambda name, value: None, """
        How training images are changed at random, before the stretch: ``"flip"``, ``"turn"`` (by 90 degrees),
        ``"rotate"`` (by any angle), ``"shift"`` (up to 1/32 of the side, wrapping), ``"thin"`` (counts kept with a
        chance from 0.5 to 1, as by a shorter exposure), ``"brightness"`` (bands without counts), ``"blank"`` (a
        quarter of the images lose their bands without counts: the classifier learns to do without, and then takes
        images that have none, with the flag ``no_optical``), ``"depth"`` (with the stretches ``"brightness"`` and
        ``"profile"``: an exposure known to 10 %, or not at all). In all of them counts stay whole and noise stays
        Poisson noise.""",
    )  # fmt: skip
    epochs: int = parameter(30, integer(1, 10**6), "How long to train: passes over the training set.")
    iterations: int | None = parameter(
        None, optional(integer(1, 10**9)), "How long to train in steps (batches), in place of ``epochs``."
    )
    batch_size: int = parameter(32, integer(2, 10**6), "Largest number of images in a batch.")
    optimizer: str = parameter(
        "adamw", choice(OPTIMIZERS),
        """``"adamw"``, ``"sgd"`` (Nesterov momentum) or ``"adadelta"``. Su et al.'s is unknown.""",
    )  # fmt: skip
    learning_rate: float = parameter(2e-3, number(0, open_low=True), "Rate of learning.")
    weight_decay: float = parameter(
        0.01, number(0), """Decay of the weights (an L2 penalty with ``"sgd"`` and ``"adadelta"``)."""
    )
    momentum: float | None = parameter(
        None, optional(number(0, 0.9999)),
        """Momentum of ``"sgd"`` (by default 0.9), rho of ``"adadelta"`` (0.95).""",
    )  # fmt: skip
    schedule: str = parameter(
        "one-cycle", choice(SCHEDULES), """
        ``"one-cycle"``: a cosine up to ``learning_rate`` and down to 0. ``"plateau"``: after ``plateau_patience``
        epochs in which the validation loss has not fallen by 1e-4, the rate is multiplied by ``plateau_factor``, not
        below ``least_rate`` (Keras's ReduceLROnPlateau). ``"constant"``.""",
    )  # fmt: skip
    decay: float = parameter(
        0.0, number(0), "With the last two schedules: the rate is divided by ``1 + decay * step`` (Keras's decay)."
    )
    plateau_patience: int = parameter(10, integer(1, 10**6), "Epochs of a plateau, see ``schedule``.")
    plateau_factor: float = parameter(0.5, number(0, 1, open_low=True), "Factor of the rate, see ``schedule``.")
    least_rate: float = parameter(0.0, number(0), "Smallest rate, see ``schedule``.")
    mean_epochs: float = parameter(
        2, number(0, 1000), """
        What is evaluated and kept is a running mean of the weights over about so many epochs; 0 for the weights.""",
    )  # fmt: skip
    patience: int | None = parameter(
        10, optional(integer(1, 10**6)), """
        Stop after so many epochs without a better one on the validation set; None never stops.""",
    )  # fmt: skip
    validation_fraction: float = parameter(
        0.1, number(0, 0.5), """
        Share of the groups kept for validation when `fit` is given none; 0 trains all epochs and keeps the last.""",
    )  # fmt: skip
    random_state: int | None = parameter(
        None, _anything, """
        Seed of start values, order, augmentation and dropout. The same seed gives the same weights on one machine with
        one number of torch threads; on a GPU nearly so for ``"attention"``, see the guide to classifiers.""",
    )  # fmt: skip
    device: str = parameter(
        "auto", _anything,
        """Where torch trains: ``"auto"`` for a GPU if there is one, else the CPU; or torch's name of a device.""",
    )  # fmt: skip
    refuse: tuple = parameter(
        (), _check_refuse, """
        What leaves an image without an answer (flag ``failed``) instead of with a flag: ``"other_instrument"``,
        ``"other_band"``. An array, which has no header, is taken to be of the right kind.""",
    )  # fmt: skip
    verbose: bool = parameter(False, _anything, "Whether to show progress and losses on standard error.")

    def _check(self):
        """Check every parameter, alone and beside the others, before anything is read or built."""
        check_parameters(self)
        if self.schedule == "one-cycle" and self.decay:
            raise ValueError(f"decay must be 0 with schedule 'one-cycle', got {self.decay!r}")
        if self.schedule == "plateau" and self.least_rate > self.learning_rate:
            raise ValueError(f"least_rate must not exceed learning_rate {self.learning_rate}, got {self.least_rate!r}")
        calibrated, profile = self.stretch in CALIBRATED, self.stretch == PROFILE
        if calibrated and (self._holds_counts() != (True,) or not self.geometry.is_physical):
            due = f"bands {tuple(self.bands)} on {self.geometry.width}"
            raise ValueError(f"stretch {self.stretch!r} is for one band of counts on a grid in kpc, got {due}")
        if isinstance(self.architecture, str) and (self.architecture == PROFILE) != profile:
            raise ValueError(
                f"architecture {PROFILE!r} is for stretch {PROFILE!r} and the other way round, got architecture "
                f"{self.architecture!r} and stretch {self.stretch!r}"
            )
        if self.columns and calibrated:
            raise ValueError(f"columns are for the stretches log, sqrt and linear, got {self.stretch!r}")
        if self.columns and "thin" in tuple(self.augmentation):
            raise ValueError(
                "augmentation 'thin' makes images of another exposure than that of their columns: leave one of them out"
            )
        check_augmentation(self.augmentation, counts=self._holds_counts(), calibrated=calibrated, profile=profile)

    def __repr__(self, N_CHAR_MAX=700):
        if not hasattr(self, "predictor_"):
            return super().__repr__(N_CHAR_MAX)
        parts = [
            ", ".join(self._own_entries()["scheme"]["classes"]),
            taken_images(self.bands, self.training_, self.columns),
            f"field of {self.geometry.width:g}",
        ]
        parts.append(f"trained on {self.training_['n_images']} images")
        return f"<{type(self).__name__} {self._model_name()}: {'; '.join(parts)}>"

    def _task(self):
        """What the network is to learn: `ClassTask` or `TargetTask`."""
        raise NotImplementedError

    def _holds_counts(self):
        return tuple(band in self.count_bands for band in self.bands)

    def _plates(self):
        """Numbers of the bands whose intensities are taken relative to the sky and its noise."""
        bands = [number for number, counts in enumerate(self._holds_counts()) if not counts]
        return tuple(bands) if self.stretch in ("log", "sqrt") else ()

    def _input_shape(self):
        return input_shape(self.bands, self.stretch, self.geometry.shape, len(self.columns))

    def _optional(self):
        """Bands that may be absent, as they were from some training images."""
        counts = zip(self.bands, self._holds_counts(), strict=True)
        return tuple(band for band, has in counts if not has) if "blank" in tuple(self.augmentation) else ()

    def _pixel(self):
        """Side of a pixel of the grid [kpc], None on one in angles."""
        geometry = self.geometry
        return geometry.width.to_value(u.kpc) / geometry.shape[1] if geometry.is_physical else None

    def _fitted(self):
        if not hasattr(self, "predictor_"):
            name = type(self).__name__
            loader = name.replace("Cutout", "load_").lower()
            raise NotFittedError(f"this {name} is not fitted: call fit, or use {loader}")
        return self.predictor_

    def _make_predictor(self, onnx, rule, temperature=1.0):
        network = OnnxNetwork(onnx, input_shape=self._input_shape(), n_classes=self._task().n_outputs)
        return Predictor(
            network, bands=tuple(self.bands), geometry=self.geometry, preprocessing=rule, training=self.training_,
            temperature=temperature, novelty=self.novelty_, familiarity=self.familiarity_, optional=self._optional(),
            refused=Flag(sum(Flag[name.upper()] for name in set(self.refuse))),
        )  # fmt: skip

    def _model_name(self):
        return str(self.card_.get("name", architecture_name(self.architecture)))

    def build_network(self):
        """
        Build the torch network: with the learned weights once fitted, else with start values.

        Returns
        -------
        `torch.nn.Module`
            Takes preprocessed images (n, n_planes, ny, nx), each of the ``columns`` as a plane of one value; gives what
            the last layer gives: for a classifier logits (n, n_classes). In evaluation mode if fitted.

        Raises
        ------
        MissingDependencyError
            If the extra ``train`` is not installed.
        ModelError
            If the stored weights are not those of this network.
        """
        self._check()
        torch = require("torch", extra="train")
        network = _fitting.untrained(self, self._task().n_outputs, self.random_state or 0)
        if not hasattr(self, "weights_"):
            return network
        safetensors = require("safetensors.numpy", extra="train")
        try:
            arrays = safetensors.load(self.weights_)
            network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
        except Exception as error:  # safetensors has an error type of its own, torch raises RuntimeError
            text = first_line(error)
            raise ModelError(f"weights.safetensors does not hold the weights of {self.architecture}: {text}") from None
        return network.eval()

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
        onnx = self._fitted().network.data
        return _store.write_folder(folder, _documents.to_document(self), self.weights_, onnx, overwrite=overwrite)
