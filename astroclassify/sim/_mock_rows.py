"""Rows of a sample of mock images: what is in them, in the header of an image and back, and what they sum up to."""

import collections
import math
import re
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from astropy import units as u
from astropy.table import QTable

from .. import tables
from .._sample_folders import DIGEST_KEY
from ..schemes import COOL_CORE, Flag

__all__ = ["describe", "from_header", "row_kinds", "rounded", "summarise", "table_of", "to_header"]

#: Keywords under which the measured columns of a row stand in the header of its image.
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
    "message": "MESSAGE",
}

#: The same for the further measures; that of the error has ``_E`` after it.
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

# What stays as it is in a header; the rest is written as %xx. Long texts with ' or & are not read back as they were.
_SAFE = " !\"#$()*+,-./:;<=>?@[\\]^_`{|}~"

_DRAWN = {"exposure": u.s, "nh_column": u.cm**-2, "off_axis": u.arcmin}


def row_kinds(measure_units, *, drawn):
    """
    Columns of a sample of mocks.

    Parameters
    ----------
    measure_units : dict
        Name -> unit (or None) of the further measures; empty without them.
    drawn : bool
        Whether the settings of the observation are drawn for each image, and hence columns.

    Returns
    -------
    dict
        Name -> ``"str"``, ``"int"``, ``"float"`` or a unit.
    """
    kinds = {**tables.SAMPLE.kinds(), "counts": u.ct}
    if drawn:
        kinds.update(_DRAWN)
    for name, unit in measure_units.items():
        unit = u.Unit("" if unit is None else unit)
        kinds[name] = kinds[f"{name}_err"] = "float" if unit == u.dimensionless_unscaled else unit
    kinds["message"] = "str"
    return kinds


def _keywords(kinds):
    """Column -> keyword, for the columns that a sample has."""
    keywords = dict(KEYWORDS)
    for name, keyword in MEASURE_KEYWORDS.items():
        keywords[name], keywords[f"{name}_err"] = keyword, f"{keyword}_E"
    return {name: keywords[name] for name in kinds if name in keywords}


def rounded(value):
    """Round to 12 digits: they survive a FITS header, where the last ones of a double may not."""
    return float(f"{value:.12g}")


def one_line(text):
    """Text as one line, without blanks at its ends."""
    return " ".join(str(text).split())


def to_header(row, kinds, digest):
    """
    Entries of an image's header that hold its row.

    Parameters
    ----------
    row : dict
        The row.
    kinds : dict
        Columns, from `row_kinds`.
    digest : str
        Name of the settings.

    Returns
    -------
    dict
        Keyword -> value. What is not a number is left out: FITS headers know no NaN.
    """
    entries = {DIGEST_KEY: digest}
    for name, keyword in _keywords(kinds).items():
        if not (isinstance(row[name], float) and math.isnan(row[name])):
            entries[keyword] = quote(row[name], safe=_SAFE) if isinstance(row[name], str) else row[name]
    return entries


def from_header(header, kinds):
    """
    Values of the measured columns from the header of an image.

    Parameters
    ----------
    header : `~astropy.io.fits.Header`
        The header.
    kinds : dict
        Columns, from `row_kinds`.

    Returns
    -------
    dict
        Column -> value; NaN where the header has none.
    """
    types = {"str": lambda text: unquote(str(text)), "int": int}
    empty = {"str": "", "int": 0}
    return {
        name: types.get(kinds[name], float)(header.get(keyword, empty.get(kinds[name], math.nan)))
        for name, keyword in _keywords(kinds).items()
    }


def table_of(rows, kinds, settings):
    """
    Rows as a SAMPLE table.

    Parameters
    ----------
    rows : list of dict
        Column -> value; a number that is missing becomes NaN.
    kinds : dict
        Columns, from `row_kinds`.
    settings : dict
        What the images were made with, for the meta.

    Returns
    -------
    `~astropy.table.QTable`
        The table. Its meta has no time: the same settings give the same file.
    """
    columns = {}
    for name, kind in kinds.items():
        # Asked first: comparing a unit with a text makes astropy parse the text, which takes milliseconds.
        if isinstance(kind, u.UnitBase):
            columns[name] = np.array([row.get(name, math.nan) for row in rows], dtype=float) * kind
            continue
        values = [row.get(name, "" if kind == "str" else math.nan) for row in rows]
        if kind == "str":
            columns[name] = np.array(values, dtype=str) if values else np.zeros(0, dtype="U1")
        elif kind == "int":
            columns[name] = np.array(values, dtype=np.int64)
        else:
            columns[name] = np.array(values, dtype=float)
    settings = dict(settings)
    meta = tables.provenance(
        **{name: settings.pop(name) for name in ("simulation", "snapshot", "engine", "seed")},
        observation=settings,
        scheme=COOL_CORE.to_dict(),
    )
    del meta["date"]
    return QTable(columns, meta=meta)


def summarise(sample):
    """
    Sum up a sample of mock images.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        As `make_mocks` or `~astroclassify.tables.read_sample` gives it.

    Returns
    -------
    dict
        ``n_halos``, ``n_images``, ``n_failed``; ``classes``, the fraction of the images with a label that has each
        class; ``n_unlabelled``; ``failures``, how often each reason occurs (its numbers as ``#``), most frequent first;
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
    """Bytes of the files that belong to the images made, as far as they are there."""
    if "folder" not in made.meta:
        return 0
    files = [*tables.image_paths(made), Path(made.meta["folder"]) / tables.SAMPLE_FILE]
    return sum(file.stat().st_size for file in files if file.is_file())


def describe(summary):
    """
    Summary as text.

    Parameters
    ----------
    summary : dict
        From `summarise`, perhaps with ``n_made`` and ``n_resumed``.

    Returns
    -------
    str
        A few lines.
    """
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
