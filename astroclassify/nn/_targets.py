"""What a regression is for: measures of a cluster by name, as numbers that a network can learn."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import Table

from ..exceptions import SchemaError
from ..tables import SAMPLE, plain_column

__all__ = ["Scaling", "Target", "check_targets", "target_values"]

_LOG = "log_"


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
        """What it is, in words."""
        if self.is_log:
            return f"log10({self.column}{f' / {self.unit}' if self.unit else ''})"
        return f"{self.column}{f' [{self.unit}]' if self.unit else ''}"


def check_targets(names):
    """
    Make targets of their names.

    Parameters
    ----------
    names : sequence of str
        Columns of a sample; ``log_<column>`` is the decimal logarithm of the column.

    Returns
    -------
    tuple of Target
        In the units of a SAMPLE table, without unit where that has no such column.

    Raises
    ------
    ValueError
        If they are not 1 to 16 different names.
    """
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
    if target.column not in table.colnames:
        raise SchemaError(f"X must have a column {target.column!r} for the target {target.name!r}")
    column = table[target.column]
    mask = np.asarray(getattr(column, "mask", False))
    unit = getattr(column, "unit", None) or u.dimensionless_unscaled
    plain = getattr(column, "unmasked", column)
    plain = np.ma.getdata(getattr(plain, "value", plain))
    if plain.dtype.kind not in "fiu" or not unit.is_equivalent(u.Unit(target.unit)):
        raise SchemaError(f"column {target.column!r} must hold numbers with a unit like {target.unit!r}, got {unit}")
    return np.where(mask, np.nan, (plain.astype(float) * unit).to_value(u.Unit(target.unit)))


def target_values(X, y, targets, name):
    """
    Values of the targets for each image.

    Parameters
    ----------
    X : table or other
        A SAMPLE table holds them, unless ``y`` is given.
    y : array or None
        Shape (n, n_targets), or (n,) for one: values as predicted (logarithms for ``log_`` targets).
    targets : tuple of Target
        The targets.
    name : str
        What to call the images in messages.

    Returns
    -------
    `~numpy.ndarray`
        Shape (n, n_targets), NaN where unknown, infinite, or the logarithm of what is not positive.

    Raises
    ------
    ValueError
        If there is neither table nor ``y``, or ``y`` has another shape.
    SchemaError
        If the table lacks a column or its unit.
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
    """
    Mean and standard deviation by which targets are standardised, and the factor that calibrates their uncertainties.

    Each of shape (n_targets,).
    """

    mean: np.ndarray
    std: np.ndarray
    sigma_factor: np.ndarray

    @classmethod
    def measure(cls, values, targets):
        """
        Measure the spread of training targets.

        Parameters
        ----------
        values : `~numpy.ndarray`
            Shape (n, n_targets), NaN where unknown.
        targets : tuple of Target
            The targets.

        Returns
        -------
        Scaling
            The rule; uncertainties as they are.

        Raises
        ------
        ValueError
            If a target has fewer than two different values.
        """
        for index, target in enumerate(targets):
            known = values[~np.isnan(values[:, index]), index]
            if len(known) < 2 or not np.ptp(known) > 0:
                raise ValueError(f"X must have at least two different values of the target {target.name!r}")
        return cls(np.nanmean(values, axis=0), np.nanstd(values, axis=0), np.ones(len(targets)))

    def standardise(self, values):
        """
        Bring values to zero mean and unit variance.

        Parameters
        ----------
        values : `~numpy.ndarray`
            Shape (n, n_targets).

        Returns
        -------
        `~numpy.ndarray`
            Same shape.
        """
        return (values - self.mean) / self.std

    def to_dict(self):
        """Return the numbers as plain types, for JSON."""
        return {name: [float(x) for x in getattr(self, name)] for name in ("mean", "std", "sigma_factor")}

    @classmethod
    def from_dict(cls, mapping, *, n_targets):
        """
        Build a scaling from what `to_dict` gives.

        Parameters
        ----------
        mapping : dict
            The content.
        n_targets : int
            How many targets it must be of.

        Returns
        -------
        Scaling
            The scaling.

        Raises
        ------
        ValueError
            If it does not hold such numbers.
        """
        arrays = {name: np.array(mapping[name], dtype=float) for name in ("mean", "std", "sigma_factor")}
        for name, array in arrays.items():
            if array.shape != (n_targets,) or not np.all(np.isfinite(array)) or (name != "mean" and np.any(array <= 0)):
                raise ValueError(f"{name} of the targets must be {n_targets} finite numbers, spreads above 0")
        return cls(**arrays)
