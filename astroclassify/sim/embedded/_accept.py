"""The packaged tables of real clusters (ACCEPT), and the part of the clusters that a population is built from."""

from functools import lru_cache

import numpy as np
from astropy.table import QTable

from astroclassify.data import FOLDER as DATA

#: "all", or one of two parts that share no real cluster.
PARTS = ("all", "train", "validation")
_FITS, _PROFILES = "accept_entropy_profiles.ecsv", "accept_profiles.ecsv"


@lru_cache(maxsize=2)
def _table(file):
    return QTable.read(DATA / file, format="ascii.ecsv")


@lru_cache(maxsize=1)
def _held_out():
    """Names of the real clusters that validation populations are built from: every fifth of the packaged ones."""
    names = {str(name) for file in (_FITS, _PROFILES) for name in _table(file)["name"]}
    return frozenset(sorted(names)[4::5])


def _of_part(file, part):
    """Columns of a packaged table as plain arrays by name, for the clusters of one part."""
    table = _table(file)
    held_out = np.array([str(name) in _held_out() for name in table["name"]])
    kept = {"all": np.ones(len(table), dtype=bool), "train": ~held_out, "validation": held_out}[part]
    return {name: np.asarray(getattr(table[name], "value", table[name]))[kept] for name in table.colnames}


@lru_cache(maxsize=len(PARTS))
def entropy_fits(part="all"):
    """Fits K(r) = K0 + K100 (r / 100 kpc)^alpha of real clusters, as plain arrays by name; see ``data/README.rst``."""
    return _of_part(_FITS, part)


@lru_cache(maxsize=len(PARTS))
def whole_profiles(part="all"):
    """Smoothed profiles of real clusters on the grid ``x`` of r / R500, as plain arrays; see ``data/README.rst``."""
    return {**_of_part(_PROFILES, part), "x": np.array(_table(_PROFILES).meta["x"])}
