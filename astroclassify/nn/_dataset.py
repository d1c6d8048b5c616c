"""Training images in memory, and the description of them that travels with a model."""

import warnings
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from ..exceptions import AstroclassifyWarning
from ..tables import plain_column
from ._items import as_items, group_names, load_pixels

__all__ = ["TrainingSet", "load_training_set"]


@dataclass(frozen=True)
class TrainingSet:
    """
    Images with labels.

    ``counts`` (n, n_bands, ny, nx) float32, ``soft`` (n, n_classes) the probability of each class in the label (one of
    them 1 for a hard label), ``weights`` (n,) of the images, ``groups`` (n,) text, ``headers`` and ``redshifts`` what
    the images said of themselves, ``n_left_out`` rows that had no label or could not be read.
    """

    counts: np.ndarray
    soft: np.ndarray
    weights: np.ndarray
    groups: np.ndarray
    headers: tuple
    redshifts: tuple
    n_left_out: int

    @property
    def labels(self):
        """Class index of the most probable class of each label, shape (n,)."""
        return self.soft.argmax(axis=1)

    def take(self, rows):
        """Select rows by a boolean array."""
        index = np.flatnonzero(rows)
        return TrainingSet(
            self.counts[index],
            self.soft[index],
            self.weights[index],
            self.groups[index],
            tuple(self.headers[i] for i in index),
            tuple(self.redshifts[i] for i in index),
            self.n_left_out,
        )

    def targets(self, class_weight):
        """
        Label, weight of the class and weight of the image in one number per class, as the loss takes them.

        Parameters
        ----------
        class_weight : `~numpy.ndarray`
            Weight of each class.

        Returns
        -------
        `~numpy.ndarray`
            float32, shape (n, n_classes).
        """
        return (self.soft * class_weight * self.weights[:, None]).astype(np.float32)

    def describe(self, scheme, in_counts):
        """
        Describe the images in plain types, for ``model.json``.

        Parameters
        ----------
        scheme : ClassScheme
            The classes.
        in_counts : sequence of bool
            Which of the bands hold counts; only these enter the total counts.

        Returns
        -------
        dict
            Numbers of images, groups and left-out rows, counts by class, telescopes with instruments, energy range
            [keV] if it is one, ranges of exposure [s], redshift and total counts.
        """
        headers = [header for header in self.headers if header is not None]
        instruments = sorted({(header.telescope or "", header.instrument or "") for header in headers} - {("", "")})
        energies = {tuple(header.energy_range or ()) for header in headers}
        totals = self.counts.sum(axis=(2, 3), dtype=float)[:, np.array(in_counts, dtype=bool)].sum(axis=1)
        labels = self.labels
        return {
            "n_images": len(labels),
            "n_groups": len(np.unique(self.groups)),
            "n_left_out": self.n_left_out,
            "class_counts": {name: int(np.sum(labels == i)) for i, name in enumerate(scheme.classes)},
            "instruments": [list(pair) for pair in instruments],
            "energy_range": list(energies.pop()) or None if len(energies) == 1 else None,
            "exposure_range": _span([header.exposure for header in headers]),
            "redshift_range": _span(self.redshifts),
            "counts_range": _span(totals) if any(in_counts) else None,
        }


def _span(values):
    values = [float(value) for value in values if value is not None]
    return [min(values), max(values)] if values else None


def _soft_labels(y, items, scheme, name):
    """
    Labels as probabilities of the classes, and which images have one.

    A hard label is a class of the scheme, or empty for none; a soft one is a row of probabilities, or NaN for none.
    """
    if y is None:
        y = [item.label for item in items]
    values = plain_column(y)
    if len(values) != len(items):
        raise ValueError(f"labels of {name} must be one per image ({len(items)}), got {len(values)}")
    if values.ndim == 2:
        if values.shape[1] != scheme.n_classes or values.dtype.kind not in "fiu":
            raise ValueError(
                f"soft labels of {name} must be numbers of shape (n, {scheme.n_classes}), "
                f"got {values.dtype} {values.shape}"
            )
        soft = values.astype(float)
        known = ~np.isnan(soft).all(axis=1)
        bad = known & ~(np.all(soft >= 0, axis=1) & (np.abs(soft.sum(axis=1) - 1) < 1e-3))
        if bad.any():
            row = np.flatnonzero(bad)[0]
            got = soft[row].tolist()
            raise ValueError(f"soft labels of {name} must be from 0 and sum to 1, got {got} in row {row}")
        soft[known] /= soft[known].sum(axis=1, keepdims=True)
        return soft, known
    labels = [str(label) for label in values]
    for label in sorted(set(labels) - {""}):
        scheme.index(label)
    known = np.array([bool(label) for label in labels], dtype=bool)
    return np.array([[label == one for one in scheme.classes] for label in labels], dtype=float), known


def _sample_weights(weights, n, name):
    if weights is None:
        return np.ones(n)
    values = np.asarray(plain_column(weights), dtype=float)
    if values.shape != (n,) or not np.all(np.isfinite(values)) or np.any(values < 0) or not values.any():
        raise ValueError(f"sample_weight of {name} must be {n} finite numbers from 0, not all 0, got {weights!r:.100}")
    return values


def load_training_set(X, y, groups, *, scheme, bands, geometry, name, weights=None):
    """
    Read all images that can be trained on.

    Parameters
    ----------
    X : table, array or list
        See `~astroclassify.nn.CutoutClassifier.fit`.
    y, groups : sequence or None
        Labels (hard, or soft of shape (n, n_classes)) and groups, where the table has none.
    scheme : ClassScheme
        The classes.
    bands : tuple of str
        Bands.
    geometry : `~astroclassify.images.Geometry`
        The grid.
    name : str
        What to call the argument in messages.
    weights : sequence of float, optional
        Weight of each image in the loss; 1 by default.

    Returns
    -------
    TrainingSet
        The images. Those without a label, or that cannot be read, are left out with one warning.

    Raises
    ------
    ValueError
        If labels are missing, not one per image or no probabilities, a weight is not finite, or no image is left.
    SchemaError
        If a label is not in the scheme.
    """
    items, _ = as_items(X, bands=bands, shape=geometry.shape)
    if y is None and not isinstance(X, Table):
        raise ValueError(f"y must hold the labels of {name}, since it is not a SAMPLE table")
    soft, known = _soft_labels(y, items, scheme, name)
    weights = _sample_weights(weights, len(items), name)
    if groups is None:
        groups = [item.group_id or item.source_id for item in items]
    groups = group_names(groups)
    if len(items) != len(groups):
        raise ValueError(f"groups must be one per image ({len(items)}), got {len(groups)}")
    counts = np.empty((len(items), len(bands), *geometry.shape), dtype=np.float32)
    rows, headers, reason = [], [], "no label"
    for index, item in enumerate(items):
        if not known[index]:
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
        soft[rows],
        weights[rows],
        groups[rows],
        tuple(headers),
        tuple(items[i].redshift for i in rows),
        n_left_out,
    )
