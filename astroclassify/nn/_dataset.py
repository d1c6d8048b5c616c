"""Training images in memory, and the description of them that travels with a model."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from ..exceptions import AstroclassifyWarning
from ._items import as_items, load_pixels

__all__ = ["TrainingSet", "load_training_set"]


@dataclass(frozen=True)
class TrainingSet:
    """
    Images with labels.

    ``counts`` (n, n_bands, ny, nx) float32, ``labels`` (n,) class indices, ``groups`` (n,) text, ``headers`` and
    ``redshifts`` what the images said of themselves, ``n_left_out`` rows that had no label or could not be read.
    """

    counts: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    headers: tuple
    redshifts: tuple
    n_left_out: int

    def take(self, rows):
        """Select rows by a boolean array."""
        index = np.flatnonzero(rows)
        return TrainingSet(
            self.counts[index],
            self.labels[index],
            self.groups[index],
            tuple(self.headers[i] for i in index),
            tuple(self.redshifts[i] for i in index),
            self.n_left_out,
        )

    def preprocess(self, rule):
        """Replace the counts by what the network takes, without a second array of that size; returns the array."""
        for index in range(len(self.counts)):
            self.counts[index] = rule(self.counts[index : index + 1])[0]
        return self.counts

    def describe(self, scheme):
        """
        Describe the images in plain types, for ``model.json``.

        Parameters
        ----------
        scheme : ClassScheme
            The classes.

        Returns
        -------
        dict
            Numbers of images, groups and left-out rows, counts by class, telescopes with instruments, energy range
            [keV] if it is one, ranges of exposure [s], redshift and total counts.
        """
        headers = [header for header in self.headers if header is not None]
        instruments = sorted({(header["telescope"], header["instrument"]) for header in headers} - {("", "")})
        energies = {tuple(header["energy_range"] or ()) for header in headers}
        totals = self.counts.sum(axis=(1, 2, 3), dtype=float)
        return {
            "n_images": len(self.labels),
            "n_groups": len(np.unique(self.groups)),
            "n_left_out": self.n_left_out,
            "class_counts": {name: int(np.sum(self.labels == i)) for i, name in enumerate(scheme.classes)},
            "instruments": [list(pair) for pair in instruments],
            "energy_range": list(energies.pop()) or None if len(energies) == 1 else None,
            "exposure_range": _span([header["exposure"] for header in headers]),
            "redshift_range": _span(self.redshifts),
            "counts_range": _span(totals),
        }


def _span(values):
    values = [float(value) for value in values if value is not None]
    return [min(values), max(values)] if values else None


def load_training_set(X, y, groups, *, scheme, bands, geometry, name):
    """
    Read all images that can be trained on.

    Parameters
    ----------
    X : table, array or list
        See `~astroclassify.nn.CutoutClassifier.fit`.
    y, groups : sequence or None
        Labels and groups, where the table has none.
    scheme : ClassScheme
        The classes.
    bands : tuple of str
        Bands.
    geometry : `~astroclassify.images.Geometry`
        The grid.
    name : str
        What to call the argument in messages.

    Returns
    -------
    TrainingSet
        The images. Those without a label, or that cannot be read, are left out with one warning.

    Raises
    ------
    ValueError
        If labels are missing, not one per image, or no image is left.
    SchemaError
        If a label is not in the scheme.
    """
    items, _ = as_items(X, bands=bands, shape=geometry.shape)
    if y is None and not isinstance(X, Table):
        raise ValueError(f"y must hold the labels of {name}, since it is not a SAMPLE table")
    labels = [item.label for item in items] if y is None else [str(label) for label in np.asarray(y)]
    if groups is None:
        groups = [item.group_id or item.source_id for item in items]
    groups = np.array([str(group) for group in groups])
    if not len(items) == len(labels) == len(groups):
        raise ValueError(f"labels and groups must be one per image ({len(items)}), got {len(labels)}, {len(groups)}")
    for label in sorted(set(labels) - {""}):
        scheme.index(label)
    counts = np.empty((len(items), len(bands), *geometry.shape), dtype=np.float32)
    rows, headers, reason = [], [], "no label"
    for index, item in enumerate(items):
        if not labels[index]:
            continue
        try:
            # Written at the next free place, so that left-out rows cost no second copy of the others.
            counts[len(rows)], _, header = load_pixels(item, bands=bands, geometry=geometry)
        except (OSError, ValueError, TypeError) as error:
            reason = f"{item.source_id}: {error}"
            continue
        rows.append(index)
        headers.append(header)
    n_left_out = len(items) - len(rows)
    if not rows:
        raise ValueError(f"{name} must hold at least one labelled image that can be read, got none ({reason})")
    if n_left_out:
        warnings.warn(
            f"{n_left_out} of {len(items)} images of {name} were left out of training ({reason})",
            AstroclassifyWarning,
            stacklevel=3,
        )
    return TrainingSet(
        counts[: len(rows)],
        np.array([scheme.index(labels[i]) for i in rows], dtype=np.int64),
        groups[rows],
        tuple(headers),
        tuple(items[i].redshift for i in rows),
        n_left_out,
    )
