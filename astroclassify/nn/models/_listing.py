"""The packaged models and what each is for, from their model cards."""

import textwrap

import numpy as np
from astropy import units as u
from astropy.table import QTable

from astroclassify.tables import readable

from . import _store

__all__ = ["list_classifiers", "taken_images"]

_WIDTH = 80
# What is printed of a model: the word before it, and the column.
_SHOWN = {
    "classes": "classes", "images": "images", "field": "field", "redshift": "redshift", "exposure": "exposure",
    "mock images": "scores", "real sky": "real_sky", "model": "description",
}  # fmt: skip
_TEXTS = ("name", *_SHOWN.values(), "scheme", "bands", "architecture")
_NUMBERS = {"f1": 1, "redshift_min": 1, "redshift_max": 1, "exposure_min": u.s, "exposure_max": u.s}
_INDENT = 2 + max(map(len, _SHOWN)) + 2


class ClassifierTable(QTable):
    """A table of models that prints as one paragraph for each; a part without those columns prints as any table."""

    def __str__(self):
        if not set(_SHOWN.values()) <= set(self.colnames):
            return super().__str__()
        return "\n\n".join(map(_paragraph, self)) or "no packaged models"

    __repr__ = __str__


def _paragraph(row):
    lines = [str(row["name"])]
    for word, column in _SHOWN.items():
        text = f"  {word}".ljust(_INDENT) + str(row[column])
        lines.append(textwrap.fill(text, _WIDTH, subsequent_indent=" " * _INDENT, break_on_hyphens=False))
    return "\n".join(lines)


def _interval(low, high):
    """Two numbers as text, each to two digits."""
    return f"{float(f'{low:.2g}'):g} to {float(f'{high:.2g}'):g}"


def taken_images(bands, training, columns=()):
    """Telescopes, instruments, energies and other bands of training images, and columns beside them, as a text."""
    energies = training.get("energy_ranges") or {}
    groups = {}
    for telescope, instrument in training.get("instruments") or []:
        band = tuple(energies.get(instrument) or training.get("energy_range") or ())
        groups.setdefault((telescope, band), []).append(instrument)
    parts = [
        f"{telescope} {', '.join(names)}" + (f" in {band[0]:g} to {band[1]:g} keV" if band else "")
        for (telescope, band), names in groups.items()
    ] or ["telescope not known"]
    parts += [band for band in bands if band != "xray"]
    parts += [f"columns {', '.join(columns)}"] if columns else []
    return "; ".join(parts)


def _scores(card):
    """Mean F1 on the card, its interval, and as a text."""
    mean = next((row for row in card.get("scores", []) if row.get("class") == "mean"), {})
    f1, low, high = (np.nan if mean.get(name) is None else float(mean[name]) for name in ("f1", "f1_lo", "f1_hi"))
    interval = f" ({low:.2f} to {high:.2f})" if np.isfinite([low, high]).all() else ""
    return f1, f"mean F1 {f1:.2f}{interval}" if np.isfinite(f1) else "no score on its card"


def _row(name, document):
    """Values of one model, by column."""
    training, card, geometry, scheme = (document[key] for key in ("training", "card", "geometry", "scheme"))
    redshift, exposure = (training.get(key) or (np.nan, np.nan) for key in ("redshift_range", "exposure_range"))
    physical = geometry["unit"] in ("kpc", "Mpc")
    f1, scores = _scores(card)
    return {
        "name": name,
        "classes": " ".join(map(str, scheme.get("classes", []))),
        "images": taken_images(document["bands"], training, document["parameters"].get("columns") or ()),
        "field": f"{geometry['width']:g} {geometry['unit']}" + (": a redshift is needed" if physical else ""),
        "redshift": _interval(*redshift) if np.all(np.isfinite(redshift)) else "not known",
        "exposure": f"{_interval(*np.divide(exposure, 1e3))} ks" if np.all(np.isfinite(exposure)) else "not known",
        "scores": scores,
        "real_sky": str(card.get("real_sky", "no score on its card")),
        "f1": f1,
        "redshift_min": redshift[0],
        "redshift_max": redshift[1],
        "exposure_min": exposure[0],
        "exposure_max": exposure[1],
        "scheme": str(scheme.get("name")),
        "bands": " ".join(map(str, document["bands"])),
        "architecture": document["architecture"],
        "n_images": int(training.get("n_images", 0)),
        "description": str(card.get("description", "")),
    }


def list_classifiers():
    """
    List the packaged models and what each is for; ``print`` shows a paragraph for each.

    Returns
    -------
    `~astropy.table.QTable`
        One row per model, none if the installation has no models. Texts: ``name``, ``classes``, ``images`` (telescopes,
        instruments and energies of the training images), ``field`` (side of the input, and whether a redshift is
        needed), ``redshift`` and ``exposure`` (ranges of the training images), ``scores`` (on simulated images kept
        from training), ``real_sky`` (on the sky, as on the model card), ``scheme``, ``bands``, ``architecture``,
        ``description``. Numbers: ``f1`` (mean over classes, that of ``scores``; NaN if the card has none),
        ``redshift_min`` and ``redshift_max``, ``exposure_min`` and ``exposure_max`` [s] (NaN where not known), and
        ``n_images`` (used in training).

    Raises
    ------
    ModelError
        If a packaged model is damaged.

    Examples
    --------
    >>> from astroclassify.nn import list_classifiers
    >>> models = list_classifiers()
    >>> models["classes"][models["name"] == "coolcore"].tolist()
    ['CC WCC NCC']
    >>> print(models[models["name"] == "coolcore"])  # doctest: +ELLIPSIS
    coolcore
      classes      CC WCC NCC
      images       CHANDRA ACIS-I, ACIS-S in 0.5 to 7 keV; XMM EMOS1, EMOS2, EPN in 0.5
                   to 2 keV
      field        1 Mpc: a redshift is needed
      redshift     0.02 to 0.5
      exposure     3 to 300 ks
    ...
    """
    names = _store.packaged()
    rows = [_row(name, _store.read_document(_store.find_folder(name))) for name in names]
    table = ClassifierTable({name: np.array([row[name] for row in rows], dtype=str) for name in _TEXTS})
    for name, unit in _NUMBERS.items():
        table[name] = np.array([row[name] for row in rows], dtype=float) * unit
    table["n_images"] = np.array([row["n_images"] for row in rows], dtype=np.int64)
    return readable(table)
