"""The PREDICTIONS table, made in one place."""

import numpy as np
from astropy.table import QTable

from astroclassify.schemes import Flag
from astroclassify.tables import PREDICTIONS, plain_column, provenance, validate

__all__ = ["prediction_table"]


def prediction_table(source_ids, probabilities, flags, messages, scheme, *, familiarity=None, sample=None, **extra):
    """
    PREDICTIONS of ``probabilities`` (n, n_classes) in scheme order; rows with NaN have failed, ``messages`` say why.

    ``familiarity`` (n,) becomes a column; ``label`` and ``group_id`` of ``sample`` are carried over, where it has them;
    ``extra`` goes to ``meta``.
    """
    probabilities = np.asarray(probabilities, dtype=float).reshape(len(source_ids), scheme.n_classes)
    good = np.isfinite(probabilities).all(axis=1)
    best = np.argmax(np.where(good[:, None], probabilities, 0.0), axis=1)
    labels = np.where(good, np.array(scheme.classes)[best], "")
    table = QTable()
    table["source_id"] = np.array(source_ids, dtype=str) if len(source_ids) else np.zeros(0, "U1")
    table["label_pred"] = labels
    for index, name in enumerate(scheme.classes):
        table[f"p_{name}"] = probabilities[:, index]
    table["flags"] = np.asarray(flags, dtype=np.int64) | np.where(good, 0, int(Flag.FAILED))
    if familiarity is not None:
        table["familiarity"] = np.asarray(familiarity, dtype=float)
        table["familiarity"].info.format = ".3g"
    table["message"] = np.array(messages, dtype=str) if len(messages) else np.zeros(0, "U1")
    if sample is not None:
        for name in ("label", "group_id"):
            if name in sample.colnames:
                table[name] = plain_column(sample[name]).astype(str)
    table.meta = {"scheme": scheme.to_dict(), **provenance(**extra)}
    return validate(table, PREDICTIONS)
