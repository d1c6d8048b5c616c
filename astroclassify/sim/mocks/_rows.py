"""Rows of a sample of mock images: columns, keywords in the headers of the images, summary."""

import collections
import re
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.samples._writer import RowFormat
from astroclassify.schemes import COOL_CORE, Flag

__all__ = ["describe", "row_format", "sample_meta", "summarise"]

#: Column of a row -> keyword in the header of its image.
KEYWORDS = {
    "label": "LABEL",
    "redshift": "REDSHIFT",
    "m_500": "M500",
    "r_500": "R500",
    "t_cool": "T_COOL",
    "n_e": "N_E",
    "c_sb": "C_SB",
    "flags": "ROWFLAGS",
    "counts": "COUNTS",
    "exposure": "EXPOSURE",
    "nh_column": "NH",
    "off_axis": "OFF_AXIS",
    "response": "RESPONSE",
    "message": "MESSAGE",
}

#: Further measure -> keyword; the keyword of its error ends in ``_E``.
MEASURE_KEYWORDS = {
    "entropy": "ENTR",
    "entropy_excess": "ENTR_X",
    "cuspiness": "CUSPI",
    "c_sb_500": "CSB500",
    "centroid_shift": "CSHIFT",
    "power_ratio_2": "PR_2",
    "power_ratio_3": "PR_3",
    "power_ratio_4": "PR_4",
    "photon_asymmetry": "ASYMM",
}

_DRAWN = {"exposure": u.s, "nh_column": u.cm**-2, "off_axis": u.arcmin, "response": "str"}


def row_format(measure_units, *, drawn):
    """
    Columns and keywords of a sample of mocks.

    ``measure_units``: name -> unit (or None) of the further measures, empty without them. ``drawn``: whether the
    settings of the observation are drawn for each image, and hence columns.
    """
    kinds = {**tables.SAMPLE.kinds(), "counts": u.ct}
    keywords = dict(KEYWORDS)
    if drawn:
        kinds.update(_DRAWN)
    for name, unit in measure_units.items():
        unit = u.Unit("" if unit is None else unit)
        kinds[name] = kinds[f"{name}_err"] = "float" if unit == u.dimensionless_unscaled else unit
        keywords[name], keywords[f"{name}_err"] = MEASURE_KEYWORDS[name], f"{MEASURE_KEYWORDS[name]}_E"
    kinds["message"] = "str"
    return RowFormat(kinds, {name: keywords[name] for name in kinds if name in keywords})


def sample_meta(settings):
    """Entries of the table's meta: the settings of the images."""
    own = ("simulation", "snapshot", "engine", "seed")
    return {
        **{name: settings[name] for name in own},
        "observation": {name: value for name, value in settings.items() if name not in own},
        "scheme": COOL_CORE.to_dict(),
    }


def summarise(sample):
    """
    Sum up a sample of mock images.

    ``n_halos``, ``n_images``, ``n_failed``; ``classes``, the fraction of the images with a label that has each class;
    ``n_unlabelled``; ``failures``, how often each reason occurs (its numbers as ``#``), most frequent first;
    ``median_counts`` (None without images); ``size_bytes`` of the folder's images and table (0 without a folder).
    """
    failed = (sample["flags"] & Flag.FAILED.value) != 0
    made = sample[~failed]
    labels = collections.Counter(str(label) for label in made["label"] if label)
    reasons = collections.Counter(re.sub(r"\d+", "#", str(text)) for text in sample["message"][failed])
    counts = u.Quantity(made["counts"]).value if "counts" in made.colnames else np.zeros(0)
    return {
        "n_halos": len(set(sample["group_id"])),
        "n_images": len(made),
        "n_failed": int(failed.sum()),
        "classes": {label: labels[label] / labels.total() for label in COOL_CORE.classes if labels},
        "n_unlabelled": len(made) - labels.total(),
        "failures": dict(reasons.most_common()),
        "median_counts": float(np.median(counts)) if len(counts) else None,
        "size_bytes": _size(made),
    }


def _size(made):
    """Bytes of the images and the table on disk."""
    if "folder" not in made.meta:
        return 0
    files = [*tables.image_paths(made), Path(made.meta["folder"]) / tables.SAMPLE_FILE]
    return sum(file.stat().st_size for file in files if file.is_file())


def describe(summary):
    """Summary as a few lines of text; from `summarise`, perhaps with ``n_made`` and ``n_resumed``."""
    images = f"{summary['n_images']} images of {summary['n_halos']} halos"
    if "n_made" in summary:
        images += f" ({summary['n_made']} made now, {summary['n_resumed']} kept)"
    lines = [f"{images}, {summary['n_failed']} failed, {summary['size_bytes'] / 1e6:.1f} MB"]
    if summary["classes"]:
        shares = ", ".join(f"{label} {share:.1%}" for label, share in summary["classes"].items())
        lines.append(f"classes: {shares}; {summary['n_unlabelled']} without a class")
    if summary["median_counts"] is not None:
        lines.append(f"median counts: {summary['median_counts']:.0f}")
    lines += [f"failed {count} times: {reason}" for reason, count in summary["failures"].items()]
    return "\n".join(lines)
