"""Class fractions of stated populations, and probabilities for them."""

import json
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from astroclassify._scores._labelled import scheme_in
from astroclassify.data import FOLDER as DATA
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.schemes import COOL_CORE, get_scheme
from astroclassify.tables import PREDICTIONS, KindTable, plain_column, readable, validate

from ._calibration import correct_prior

__all__ = ["class_fractions", "for_population", "list_populations"]


@lru_cache(maxsize=1)
def _packaged():
    """Populations by scheme and name."""
    return json.loads((DATA / "populations.json").read_text(encoding="utf-8"))


def list_populations(scheme=COOL_CORE):
    """
    List the populations whose class fractions are packaged.

    Parameters
    ----------
    scheme : ClassScheme or str, optional
        The classes.

    Returns
    -------
    `~astropy.table.QTable`
        Columns ``population``, ``fraction_<class>``, ``description``, and ``source``: papers and what was derived from
        them, how.

    Raises
    ------
    SchemaError
        If there is no such scheme.

    Examples
    --------
    >>> from astroclassify.nn import list_populations
    >>> list_populations()["population", "fraction_CC", "fraction_WCC", "fraction_NCC"].pprint()
      population   fraction_CC fraction_WCC fraction_NCC
    -------------- ----------- ------------ ------------
            tng300       0.107        0.626        0.267
    x-ray-selected        0.39         0.33         0.28
       sz-selected        0.27         0.39         0.34
    """
    scheme = get_scheme(scheme)
    names = ("population", *(f"fraction_{label}" for label in scheme.classes), "description", "source")
    rows = [
        (name, *(entry["fractions"][label] for label in scheme.classes), entry["description"], entry["source"])
        for name, entry in _packaged().get(scheme.name, {}).items()
    ]
    kinds = (str, *(float for _ in scheme.classes), str, str)
    return readable(KindTable(rows=rows, names=names) if rows else KindTable(names=names, dtype=kinds))


def class_fractions(population, *, scheme=COOL_CORE):
    """
    Fractions of the classes in a population.

    Parameters
    ----------
    population : str, mapping or sequence of float
        A name, see `list_populations`: ``"tng300"``, ``"x-ray-selected"``, ``"sz-selected"``; or fractions of one's
        own, by class (``{"CC": 0.2, "WCC": 0.5, "NCC": 0.3}``) or in the order of the scheme. Only their ratios matter.
    scheme : ClassScheme or str, optional
        The classes.

    Returns
    -------
    `~numpy.ndarray`
        Fractions in the order of the scheme, shape (n_classes,), sum 1.

    Raises
    ------
    ArgumentError
        If there is no population of this name for the scheme, or fractions are not one finite number above 0 for each
        class: a class with fraction 0 could never be found.
    SchemaError
        If a class is not of the scheme.

    Notes
    -----
    The packaged fractions are of classes by the cooling time within 0.012 R500 (below 1, 1 to 7.7, above 7.7 Gyr). No
    paper prints them for this aperture: how each was derived is in the column ``source`` of `list_populations`.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620; Hudson et al. 2010, A&A 513, A37, abstract; Andrade-Santos et al. 2017, ApJ 843,
    76, abstract; Rossetti et al. 2017, MNRAS 468, 1917, abstract.

    Examples
    --------
    >>> from astroclassify.nn import class_fractions
    >>> class_fractions({"NCC": 1, "CC": 1, "WCC": 2}).tolist()
    [0.25, 0.5, 0.25]
    """
    scheme = get_scheme(scheme)
    if isinstance(population, str):
        known = _packaged().get(scheme.name, {})
        if population not in known:
            allowed = f"one of {sorted(known)} or class fractions" if known else "fractions of the classes"
            raise ArgumentError(f"population must be {allowed} (scheme {scheme.name!r}), got {population!r:.100}")
        population = known[population]["fractions"]
    if isinstance(population, Mapping):
        for label in population:
            scheme.index(label)
        population = [population.get(label, np.nan) for label in scheme.classes]
    try:
        values = np.asarray(population, dtype=float)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.shape != (scheme.n_classes,) or not np.all(np.isfinite(values)) or not np.all(values > 0):
        raise ArgumentError(
            f"population must be a name, or a finite number above 0 for each of {scheme.classes}, "
            f"got {population!r:.100}"
        )
    return values / values.sum()


def for_population(predictions, population, *, scheme=None, fractions=None):
    """
    Predictions with probabilities for a population.

    Parameters
    ----------
    predictions : `~astropy.table.QTable`
        A PREDICTIONS table.
    population : str, mapping or sequence of float
        As for `class_fractions`.
    scheme : ClassScheme or str, optional
        The classes; by default those in ``meta``.
    fractions : mapping or sequence of float, optional
        Class fractions that the probabilities are for now; by default those in ``meta["class_fractions"]``, which
        `CutoutClassifier.classify` states.

    Returns
    -------
    `~astropy.table.QTable`
        A copy with other ``p_<class>`` and ``label_pred`` (rows that failed stay as they are),
        ``meta["class_fractions"]`` and, for a name, ``meta["population"]``.

    Raises
    ------
    SchemaError
        If it is no PREDICTIONS table, or nothing says which fractions its probabilities are for.
    ArgumentError
        If ``population`` or ``fractions`` are not such.

    Notes
    -----
    Right as far as images of a class look alike in both populations, see `correct_prior`. A population of other masses
    or redshifts differs in more than its fractions.

    Examples
    --------
    >>> from astropy.table import QTable
    >>> from astroclassify.nn import for_population
    >>> table = QTable({"source_id": ["a"], "label_pred": ["CC"], "p_CC": [0.5], "p_WCC": [0.4], "p_NCC": [0.1],
    ...                 "flags": [0]})
    >>> new = for_population(table, "tng300", scheme="cool-core", fractions=[1, 1, 1])
    >>> print(new["label_pred"][0], new["p_WCC"].round(2)[0])
    WCC 0.76
    """
    scheme = scheme_in(predictions, scheme)
    predictions = validate(predictions, PREDICTIONS, scheme=scheme).copy()
    before = predictions.meta.get("class_fractions") if fractions is None else fractions
    if before is None:
        raise SchemaError("fractions must be given: predictions do not state theirs in meta['class_fractions']")
    after = class_fractions(population, scheme=scheme)
    p = np.stack([plain_column(predictions[f"p_{each}"]) for each in scheme.classes], axis=1, dtype=float)
    good = np.isfinite(p).all(axis=1)
    p[good] = correct_prior(p[good], class_fractions(before, scheme=scheme), after)
    labels = plain_column(predictions["label_pred"]).astype(f"U{max(map(len, scheme.classes))}")
    labels[good] = np.array(scheme.classes)[p[good].argmax(axis=1)]
    predictions["label_pred"] = labels
    for index, name in enumerate(scheme.classes):
        predictions[f"p_{name}"] = p[:, index]
    predictions.meta["class_fractions"] = after.tolist()
    predictions.meta.pop("population", None)
    if isinstance(population, str):
        predictions.meta["population"] = population
    return predictions
