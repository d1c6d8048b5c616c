"""The five classes of candidates turned into cluster and other."""

import numpy as np
from astropy.table import Table

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import CANDIDATE, CLUSTER, ClassScheme

__all__ = ["to_binary"]

_CLUSTERS = ("low_z", "high_z")


def to_binary(sample):
    """
    Use a sample of candidates, or predictions of their five classes, for the two classes cluster and other.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table with labels of the scheme `~astroclassify.schemes.CANDIDATE`, or none; or PREDICTIONS of it.

    Returns
    -------
    `~astropy.table.QTable`
        A copy with labels of the scheme `~astroclassify.schemes.CLUSTER`: ``low_z`` and ``high_z`` are ``cluster``,
        every other class is ``other``, an empty label stays empty. The original labels are in ``label_candidate``. Of
        predictions, ``p_cluster`` is the sum of ``p_low_z`` and ``p_high_z``, and ``label_pred`` the more probable of
        the two classes, which need not be that of the most probable of the five.

    Raises
    ------
    SchemaError
        If it is neither a SAMPLE table nor PREDICTIONS of this scheme.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, binary classification.

    Examples
    --------
    >>> from astroclassify import tables
    >>> from astroclassify.samples import to_binary
    >>> len(to_binary(tables.empty(tables.SAMPLE, scheme="candidate")))
    0
    """
    if isinstance(sample, Table) and "label_pred" in sample.colnames:
        return _binary_predictions(sample)
    sample = tables.validate(sample, tables.SAMPLE)
    scheme = sample.meta.get("scheme")
    if scheme is not None and ClassScheme.from_dict(dict(scheme)) != CANDIDATE:
        raise SchemaError(f"sample must have the scheme {CANDIDATE.name!r}, got {dict(scheme).get('name')!r}")
    return _relabelled(sample.copy())


def _relabelled(result):
    """Change the labels of a table."""
    labels = [str(label) for label in result["label"]]
    for label in set(labels) - {""}:
        CANDIDATE.index(label)
    result["label_candidate"] = np.array(labels, dtype="U16")
    binary = [label and ("cluster" if label in _CLUSTERS else "other") for label in labels]
    result["label"] = np.array(binary, dtype="U16")
    result.meta["scheme"] = CLUSTER.to_dict()
    return result


def _binary_predictions(predictions):
    """PREDICTIONS of two classes."""
    result = tables.validate(predictions, tables.PREDICTIONS, scheme=CANDIDATE).copy()
    parts = {name: [f"p_{each}" for each in CANDIDATE.classes if (each in _CLUSTERS) == (name == "cluster")]
             for name in CLUSTER.classes}  # fmt: skip
    place = result.colnames.index(f"p_{CANDIDATE.classes[0]}")
    sums = {name: np.sum([np.asarray(result[each]) for each in columns], axis=0) for name, columns in parts.items()}
    result.remove_columns([each for columns in parts.values() for each in columns])
    result.add_columns(list(sums.values()), indexes=[place] * 2, names=[f"p_{name}" for name in sums])
    likely = np.where(sums["cluster"] >= sums["other"], "cluster", "other")
    result["label_pred"] = np.where(np.isfinite(sums["cluster"]), likely, "")
    if (fractions := result.meta.get("class_fractions")) is not None:
        share = sum(value for value, each in zip(fractions, CANDIDATE.classes, strict=True) if each in _CLUSTERS)
        result.meta["class_fractions"] = [share, 1 - share]
    result.meta["scheme"] = CLUSTER.to_dict()
    return _relabelled(result) if "label" in result.colnames else result
