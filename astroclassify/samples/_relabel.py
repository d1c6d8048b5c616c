"""The five classes of candidates turned into cluster and other."""

import numpy as np

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import CANDIDATE, CLUSTER, ClassScheme

__all__ = ["to_binary"]

_CLUSTERS = ("low_z", "high_z")


def to_binary(sample):
    """
    Use a sample of candidates for the two classes cluster and other.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table with labels of the scheme `~astroclassify.schemes.CANDIDATE`, or none.

    Returns
    -------
    `~astropy.table.QTable`
        A copy with labels of the scheme `~astroclassify.schemes.CLUSTER`: ``low_z`` and ``high_z`` are ``cluster``,
        every other class is ``other``, an empty label stays empty. The original labels are in ``label_candidate``.

    Raises
    ------
    SchemaError
        If it is no SAMPLE table of this scheme.

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
    sample = tables.validate(sample, tables.SAMPLE)
    scheme = sample.meta.get("scheme")
    if scheme is not None and ClassScheme.from_dict(dict(scheme)) != CANDIDATE:
        raise SchemaError(f"sample must have the scheme {CANDIDATE.name!r}, got {dict(scheme).get('name')!r}")
    labels = [str(label) for label in sample["label"]]
    for label in set(labels) - {""}:
        CANDIDATE.index(label)
    result = sample.copy()
    result["label_candidate"] = np.array(labels, dtype="U16")
    binary = [label and ("cluster" if label in _CLUSTERS else "other") for label in labels]
    result["label"] = np.array(binary, dtype="U16")
    result.meta["scheme"] = CLUSTER.to_dict()
    return result
