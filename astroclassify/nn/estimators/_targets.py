"""What a regression learns: measures of a cluster by name, as numbers, with the likelihood of a normal distribution."""

from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.table import Table

from astroclassify.tables import SAMPLE, numbers, plain_column

__all__ = ["Scaling", "Target", "TargetTask", "check_targets", "gaussian_loss", "moments", "r2", "target_values"]

_LOG = "log_"
# Smooth bound of the logarithm of the variance of a standardised target: sigma from 0.018 to 55.
_BOUND = 8.0
# Fewer validation images than this do not tell how wide the uncertainties should be.
_LEAST_FOR_SIGMA = 10


@dataclass(frozen=True)
class Target:
    """A number to predict: a column of a sample in a unit (text, empty for none), or its decimal logarithm."""

    name: str
    column: str
    unit: str

    @property
    def is_log(self):
        """Whether it is the logarithm of the column."""
        return self.name != self.column

    @property
    def description(self):
        """Description for people."""
        if self.is_log:
            return f"log10({self.column}{f' / {self.unit}' if self.unit else ''})"
        return f"{self.column}{f' [{self.unit}]' if self.unit else ''}"


def check_targets(names):
    """Targets of 1 to 16 names of different columns, in the units of a SAMPLE table (none for other columns)."""
    if isinstance(names, str) or not all(isinstance(name, str) and name.removeprefix(_LOG) for name in names):
        raise ValueError(f"targets must be a tuple of names, got {names!r}")
    names = tuple(names)
    if not 1 <= len(names) <= 16 or len({name.removeprefix(_LOG) for name in names}) != len(names):
        raise ValueError(f"targets must be 1 to 16 names of different columns, got {names}")
    units = {name: kind.to_string() for name, kind in SAMPLE.columns if isinstance(kind, u.UnitBase)}
    columns = [name.removeprefix(_LOG) for name in names]
    return tuple(Target(name, column, units.get(column, "")) for name, column in zip(names, columns, strict=True))


def _column(table, target):
    """A column as plain floats in the target's unit; masked entries become NaN."""
    return numbers(table, target.column, target.unit, what="X")


def target_values(X, y, targets, name):
    """
    Values (n, n_targets) of ``y`` or of the table ``X``, NaN where unknown, infinite, or log of what is not positive.

    ``y`` is as predicted: logarithms for ``log_`` targets, shape (n, n_targets), or (n,) for one.
    """
    if y is not None:
        values = np.asarray(plain_column(y))
        values = values[:, None] if values.ndim == 1 and len(targets) == 1 else values
        if values.ndim != 2 or values.shape[1] != len(targets) or values.dtype.kind not in "fiu":
            raise ValueError(f"y of {name} must be numbers of shape (n, {len(targets)}), got {np.shape(y)}")
        values = values.astype(float)
    elif isinstance(X, Table):
        columns = []
        for target in targets:
            values = _column(X, target)
            if target.is_log:
                values = np.log10(np.where(values > 0, values, np.nan))
            columns.append(values)
        values = np.stack(columns, axis=1)
    else:
        raise ValueError(f"y must hold the targets of {name}, since it is not a SAMPLE table")
    return np.where(np.isfinite(values), values, np.nan)


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of targets, and the factor of their uncertainties, each of shape (n_targets,)."""

    mean: np.ndarray
    std: np.ndarray
    sigma_factor: np.ndarray

    @classmethod
    def measure(cls, values, targets):
        """Mean and spread of training targets (n, n_targets), NaN where unknown; uncertainties as they are."""
        for index, target in enumerate(targets):
            known = values[~np.isnan(values[:, index]), index]
            if len(known) < 2 or not np.ptp(known) > 0:
                raise ValueError(f"X must have at least two different values of the target {target.name!r}")
        return cls(np.nanmean(values, axis=0), np.nanstd(values, axis=0), np.ones(len(targets)))

    def standardise(self, values):
        """Bring values (n, n_targets) to zero mean and unit variance."""
        return (values - self.mean) / self.std

    def to_dict(self):
        """Return the numbers as plain types, for JSON."""
        return {name: [float(x) for x in getattr(self, name)] for name in ("mean", "std", "sigma_factor")}

    @classmethod
    def from_dict(cls, mapping, *, n_targets):
        """Scaling of what `to_dict` gives, of ``n_targets`` targets."""
        arrays = {name: np.array(mapping[name], dtype=float) for name in ("mean", "std", "sigma_factor")}
        for name, array in arrays.items():
            if array.shape != (n_targets,) or not np.all(np.isfinite(array)) or (name != "mean" and np.any(array <= 0)):
                raise ValueError(f"{name} of the targets must be {n_targets} finite numbers, spreads above 0")
        return cls(**arrays)


def gaussian_loss(outputs, targets):
    """
    Sum over targets of -log of the normal density (without its constant), and the sum of weights.

    ``outputs`` (n, 2 n_targets): means, then raw x of which the logarithms of the variances are made, 8 tanh(x / 8);
    ``targets`` (n, 2, n_targets): standardised values and their weights, 0 where a value is unknown.
    Nix & Weigend 1994, Proc. IEEE Int. Conf. on Neural Networks, 1, 55, equation 5.
    """
    mean, raw = outputs.chunk(2, dim=1)
    values, weights = targets[:, 0], targets[:, 1]
    log_variance = _BOUND * (raw / _BOUND).tanh()
    loss = 0.5 * (log_variance + (values - mean) ** 2 * (-log_variance).exp())
    return (weights * loss).sum(), weights.sum()


def moments(outputs):
    """Means and standard deviations (n, n_targets) of standardised targets, of outputs as for `gaussian_loss`."""
    mean, raw = np.split(np.asarray(outputs, dtype=float), 2, axis=1)
    return mean, np.exp(0.5 * _BOUND * np.tanh(raw / _BOUND))


def r2(outputs, values):
    """Mean over targets of the share of the variance of ``values`` (n, n_targets; NaN unknown) that is explained."""
    mean, _ = moments(outputs)
    known = ~np.isnan(values)
    filled, n = np.where(known, values, 0.0), np.maximum(known.sum(axis=0), 1)
    total = (np.where(known, filled - filled.sum(axis=0) / n, 0.0) ** 2).sum(axis=0)
    rest = (np.where(known, filled - mean, 0.0) ** 2).sum(axis=0)
    good = total > 0
    return float(np.mean(1 - rest[good] / total[good])) if good.any() else float("nan")


class TargetTask:
    """Learn targets, each with a variance. The answers of a training set are their values (n, n_targets), or NaN."""

    loss, score = staticmethod(gaussian_loss), staticmethod(r2)
    score_name, answer = "r2", "target"

    def __init__(self, names):
        self.list = check_targets(names)
        self.n_outputs = 2 * len(self.list)
        self.scaling = None

    def answers(self, X, y, items, name):
        """Values of the targets, and which images have at least one."""
        values = target_values(X, y, self.list, name)
        if len(items) != len(values):
            raise ValueError(f"y of {name} must be one row per image ({len(items)}), got {len(values)}")
        return values, ~np.isnan(values).all(axis=1)

    def strata(self, training):
        """Labels (n,) that a validation set should have in the same shares: thirds of the first target."""
        first = training.answers[:, 0]
        first = np.where(np.isnan(first), np.nanmedian(first), first)
        return np.searchsorted(np.quantile(first, [1 / 3, 2 / 3]), first).astype(str)

    def kinds(self, training):
        """All images are of one kind (n,)."""
        return np.zeros(len(training), dtype=int)

    def learn(self, training):
        """Measure mean and spread of the targets."""
        self.scaling = Scaling.measure(training.answers, self.list)

    def truth(self, images):
        """Standardised values, which the score compares with."""
        return self.scaling.standardise(images.answers)

    def targets(self, images):
        """Standardised values and weights as `gaussian_loss` takes them: float32 (n, 2, n_targets)."""
        values = self.truth(images)
        known = ~np.isnan(values)
        return np.stack([np.where(known, values, 0.0), known * images.weights[:, None]], axis=1).astype(np.float32)

    def describe(self, training):
        """Entries of the description of the training set."""
        low, high = np.nanmin(training.answers, axis=0), np.nanmax(training.answers, axis=0)
        ranges = zip(self.list, low.tolist(), high.tolist(), strict=True)
        return {"target_ranges": {target.name: [start, stop] for target, start, stop in ranges}}

    def calibrated(self, outputs, images):
        """Scaling with the factor of the uncertainties by which validation images are most probable."""
        mean, sigma = moments(outputs)
        pulls = (self.truth(images) - mean) / sigma
        enough = (~np.isnan(pulls)).sum(axis=0) >= _LEAST_FOR_SIGMA
        square = np.array([np.nanmean(pull**2) if good else 1.0 for pull, good in zip(pulls.T, enough, strict=True)])
        return replace(self.scaling, sigma_factor=np.maximum(np.sqrt(square), 1e-3))
