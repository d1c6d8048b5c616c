"""Numbers of a catalogue that enter beside the image of a source: in what unit, on what scale, where one is missing."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from astropy import units as u
from astropy.table import Table

from astroclassify.exceptions import SchemaError
from astroclassify.tables import CANDIDATES, numbers

__all__ = ["Columns", "as_planes", "column_units", "read_columns", "with_values"]

# Units of columns that the package makes; any other column has that of the training table.
_UNITS = {name: kind for name, kind in CANDIDATES.columns if isinstance(kind, u.UnitBase)} | {"exposure": u.s}
# Percentile of the magnitudes above which the scale is logarithmic.
_LINEAR = 10


@dataclass(frozen=True)
class Columns:
    """
    Columns by name, their units (text), and what brings them to zero mean and unit variance.

    A value x becomes arcsinh(x / scale), which is a logarithm above the scale and proportional to x below it, so that
    zero and negative values need no rule of their own. ``scale`` is the tenth percentile of the magnitudes of the
    training values that are not zero; then ``mean`` and ``std`` of the training values are taken off.
    """

    names: tuple
    units: tuple
    scale: tuple
    mean: tuple
    std: tuple

    @classmethod
    def measure(cls, names, units, values):
        """From the values (n, k) of a training set, NaN where one is missing; ValueError for a column without any."""
        found = []
        for name, column in zip(names, np.asarray(values, dtype=float).T, strict=True):
            column = column[np.isfinite(column)]
            if not len(column):
                raise ValueError(f"columns: {name!r} has no finite value among the training images")
            sizes = np.abs(column[column != 0])
            scale = float(np.percentile(sizes, _LINEAR)) if len(sizes) else 1.0
            bent = np.arcsinh(column / scale)
            found.append((scale, float(bent.mean()), float(bent.std()) or 1.0))
        return cls(tuple(names), tuple(units), *map(tuple, zip(*found, strict=True)))

    def __call__(self, values):
        """What a network sees of values (n, k): float32, 0, which is the training mean, where one is missing."""
        scale, mean, std = (np.asarray(each) for each in (self.scale, self.mean, self.std))
        seen = (np.arcsinh(np.asarray(values, dtype=float) / scale) - mean) / std
        return np.where(np.isfinite(seen), seen, 0).astype(np.float32)

    def to_dict(self):
        """Plain types, for JSON."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, mapping, names):
        """From the result of `to_dict`, for columns ``names``; ValueError if it does not hold these."""
        found = [tuple(mapping[name]) for name in ("names", "units")]
        found += [tuple(float(value) for value in mapping[name]) for name in ("scale", "mean", "std")]
        rule = cls(*found)
        if rule.names != tuple(names) or any(len(each) != len(names) for each in found):
            raise ValueError(f"columns must hold names, units, scale, mean and std of {tuple(names)}, got {mapping}")
        for unit in rule.units:
            u.Unit(unit)
        if not np.all(np.isfinite([rule.scale, rule.mean, rule.std])) or min(*rule.scale, *rule.std) <= 0:
            raise ValueError(f"scale, mean and std of columns must be finite, scale and std positive, got {mapping}")
        return rule


def column_units(table, names):
    """Unit of each column as text: the package's own, or that of a training table."""
    units = [_UNITS.get(name, getattr(table[name], "unit", None) if name in table.colnames else None) for name in names]
    return tuple("" if unit is None else str(unit) for unit in units)


def read_columns(table, names, units, *, what):
    """Values (n, k) of columns in their units, NaN where they are missing; SchemaError if one is not there."""
    lost = [name for name in names if name not in table.colnames]
    if lost:
        raise SchemaError(f"{what} must have the columns {tuple(names)}, which the model uses; it lacks {lost}")
    values = [numbers(table, name, unit or None, what=what) for name, unit in zip(names, units, strict=True)]
    values = np.stack(values, axis=1) if values else np.zeros((len(table), 0))
    return np.where(np.isfinite(values), values, np.nan)


def with_values(items, images, columns, names, units):
    """
    Items with the numbers of their rows in a table ``columns``, else in ``images`` if it is a table; others are NaN.

    SchemaError if ``columns`` is no table, or has not a row for each image.
    """
    if columns is not None and not isinstance(columns, Table):
        raise SchemaError(f"columns must be a table with the columns {tuple(names)}, got {type(columns).__name__}")
    if columns is not None and len(columns) != len(items):
        raise SchemaError(f"columns must have one row per image ({len(items)}), got {len(columns)}")
    table, what = (images, "images") if columns is None else (columns, "columns")
    there = [name in getattr(table, "colnames", ()) for name in names]
    values = np.full((len(items), len(names)), np.nan)
    if any(there):
        known, own = (tuple(np.compress(there, each).tolist()) for each in (names, units))
        values[:, there] = read_columns(table, known, own, what=what)
    return [replace(item, values=tuple(row)) for item, row in zip(items, values.tolist(), strict=True)]


def as_planes(images, values):
    """Images (n, n_bands, ny, nx) and behind them, one value in all pixels, numbers (n, k): float32."""
    values = np.asarray(values, dtype=np.float32)[:, :, None, None]
    return np.concatenate([images, np.broadcast_to(values, (*values.shape[:2], *images.shape[2:]))], axis=1)
