"""Training images in memory, and the description of them that travels with a model."""

import warnings
from dataclasses import dataclass, fields

import numpy as np

from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.tables import plain_column
from astroclassify.tables._plain import group_names

from ._columns import as_planes, column_units, with_values
from ._items import as_items, open_folder
from ._pixels import load_pixels

__all__ = ["TrainingSet", "load_training_set", "sample_weights"]


class _Planes:
    """Images (n, n_bands, ny, nx) and numbers beside them (n, k) as one array, made only where it is asked for."""

    def __init__(self, counts, values):
        self._counts, self._values = counts, values

    def __len__(self):
        return len(self._counts)

    def __getitem__(self, rows):
        return as_planes(self._counts[rows], self._values[rows])


@dataclass(frozen=True)
class TrainingSet:
    """
    Training images: ``counts`` (n, n_planes, ny, nx) float32, perhaps reduced; ``answers`` (n, k), soft labels or
    targets; ``values`` (n, n_columns), numbers beside the images.

    ``weights``, ``groups`` (text), ``headers`` and ``redshifts`` (objects) are (n,); ``n_left_out`` rows had no answer
    or could not be read.
    """

    counts: np.ndarray
    answers: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    headers: np.ndarray
    redshifts: np.ndarray
    totals: np.ndarray
    values: np.ndarray
    n_left_out: int

    def __len__(self):
        return len(self.counts)

    @property
    def planes(self):
        """What the rule makes input of: the images, with a plane for each number beside them."""
        return _Planes(self.counts, self.values) if self.values.shape[1] else self.counts

    def take(self, rows):
        """Select rows by a boolean array."""
        columns = [getattr(self, field.name)[rows] for field in fields(self)[:-1]]
        return TrainingSet(*columns, self.n_left_out)

    @classmethod
    def joined(cls, parts):
        """One set of several."""
        columns = [np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)[:-1]]
        return cls(*columns, sum(part.n_left_out for part in parts))

    def describe(self, in_counts, **extra):
        """Description in plain types, for ``model.json``; ``in_counts``: which bands hold counts."""
        headers = [header for header in self.headers if header is not None]
        instruments, energies = set(), {}
        for header in headers:
            # A sum of cameras, "EPN+EMOS1", is of each of them.
            for name in (header.instrument or "").split("+"):
                instruments.add((header.telescope or "", name))
                energies.setdefault(name, set()).add(tuple(header.energy_range or ()))
        bands = set.union(*energies.values(), set())
        own = {name: list(*found) for name, found in sorted(energies.items()) if len(found) == 1 and all(found)}
        totals = self.totals[:, np.array(in_counts, dtype=bool)].sum(axis=1)
        n_blank = int(np.sum(np.isnan(self.totals).any(axis=1)))
        return {
            "n_images": len(self),
            "n_groups": len(np.unique(self.groups)),
            "n_left_out": self.n_left_out,
            **extra,
            **({"n_without_a_band": n_blank} if n_blank else {}),
            "instruments": [list(pair) for pair in sorted(instruments - {("", "")})],
            "energy_range": list(*bands) or None if len(bands) == 1 else None,
            **({"energy_ranges": own} if len(bands) > 1 and own else {}),
            "exposure_range": _span([header.exposure for header in headers]),
            "redshift_range": _span(self.redshifts),
            "counts_range": _span(totals) if any(in_counts) else None,
        }


def _span(values):
    values = [float(value) for value in values if value is not None]
    return [min(values), max(values)] if values else None


def sample_weights(weights, n, name):
    """Weight of each of n images or rows (n,), 1 by default."""
    if weights is None:
        return np.ones(n)
    values = np.asarray(plain_column(weights), dtype=float)
    if values.shape != (n,) or not np.all(np.isfinite(values)) or np.any(values < 0) or not values.any():
        raise ValueError(f"sample_weight of {name} must be {n} finite numbers from 0, not all 0, got {weights!r:.100}")
    return values


def load_training_set(
    X, y, groups, *, task, bands, geometry, rule, name, weights=None, optional=(), columns=(), units=None
):  # fmt: skip
    """
    Read all images with an answer from ``y`` or the table ``X``; others and unreadable ones cause one warning.

    ``task`` is a `ClassTask` or `TargetTask`, ``rule`` a `Preprocessing`, which reduces images where it can, ``name``
    that of the argument in messages. ``optional`` bands may be absent; ``columns`` of the table are numbers beside the
    images, in ``units`` (by default those of the table).
    """
    X = open_folder(X)
    items, _ = as_items(X, bands=bands, shape=geometry.shape)
    if columns:
        if not set(columns) <= set(getattr(X, "colnames", ())):
            raise SchemaError(f"{name} must be a table with the columns {tuple(columns)} beside the images' paths")
        items = with_values(items, X, None, columns, column_units(X, columns) if units is None else units)
    answers, known = task.answers(X, y, items, name)
    weights = sample_weights(weights, len(items), name)
    if groups is None:
        groups = [item.group_id or item.source_id for item in items]
    groups = group_names(groups)
    if len(items) != len(groups):
        raise ValueError(f"groups must be one per image ({len(items)}), got {len(groups)}")
    counts, totals = None, np.zeros((len(items), len(bands)))
    rows, headers, reason = [], [], f"no {task.answer}"
    for index, item in enumerate(items):
        if not known[index]:
            continue
        try:
            planes, _, header = load_pixels(
                item, bands=bands, geometry=geometry, stretch=rule.stretch, optional=optional
            )
            reduced = rule.reduce(planes)
        except (OSError, ValueError, TypeError) as error:
            reason = f"{item.source_id}: {error}"
            continue
        if counts is None:
            counts = np.empty((len(items), *reduced.shape), dtype=np.float32)
        # Written at the next free place, so that left-out rows cost no second copy of the others.
        counts[len(rows)], totals[len(rows)] = reduced, planes[: len(bands)].sum(axis=(1, 2), dtype=float)
        rows.append(index)
        headers.append(header)
    n_left_out = len(items) - len(rows)
    if not rows:
        raise ValueError(f"{name} must hold at least one labelled image that can be read, got none ({reason})")
    if n_left_out:
        text = f"{n_left_out} of {len(items)} images of {name} were left out of training ({reason})"
        warnings.warn(text, AstroclassifyWarning, stacklevel=3)
    redshifts = [items[row].redshift for row in rows]
    return TrainingSet(
        counts[: len(rows)], answers[rows], weights[rows], groups[rows], _objects(headers), _objects(redshifts),
        totals[: len(rows)],
        np.array([items[row].values for row in rows], dtype=float).reshape(len(rows), len(columns)), n_left_out,
    )  # fmt: skip


def _objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
