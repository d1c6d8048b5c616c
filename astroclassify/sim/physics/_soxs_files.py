"""Instruments in the registry of SOXS, and their files in a folder of the user."""

import copy
from pathlib import Path

import numpy as np
from astropy.io import fits

from astroclassify._checks import first_line

from ._xray_packages import load_soxs

__all__ = ["PREFIX", "local_files", "read_area", "specification"]

PREFIX = "soxs:"
"""Responses that begin with this are instruments of SOXS."""


def specification(response):
    """A copy of the registry entry of ``"soxs:<name>"``, an imaging instrument; a ValueError names those there are."""
    registry = load_soxs().instrument_registry
    name = response.removeprefix(PREFIX)
    imaging = sorted(key for key, entry in registry.items() if entry["imaging"])
    if name not in imaging:
        raise ValueError(
            f"response must be {PREFIX!r} and the name of an imaging instrument of SOXS ({', '.join(imaging)}), got "
            f"{response!r}"
        )
    return copy.deepcopy(registry[name])


def local_files(response, folder):
    """
    Paths of ``arf``, ``rmf`` and, where the point spread function is a file, ``psf``; each must exist in the folder.
    """
    entry = specification(response)
    names = {"arf": entry["arf"], "rmf": entry["rmf"]}
    if isinstance(entry["psf"][1], str):
        names["psf"] = entry["psf"][1]
    files = {role: Path(folder) / name for role, name in names.items()}
    for role, path in files.items():
        if not path.is_file():
            raise ValueError(
                f"response_files must hold {path.name!r}, the {role.upper()} of {response!r}: it is not in {folder}"
            )
    return files


def read_area(response, folder):
    """Energy edges [keV], (n + 1,), and effective area [cm2], (n,), of the local ARF of an instrument."""
    path = local_files(response, folder)["arf"]
    try:
        table = fits.getdata(path, "SPECRESP")
        low, high, area = (np.asarray(table[name], dtype=float) for name in ("ENERG_LO", "ENERG_HI", "SPECRESP"))
    except (OSError, KeyError, TypeError) as error:
        raise ValueError(f"response_files: {path} is no ARF ({first_line(error)})") from error
    return np.append(low, high[-1]), np.nan_to_num(area)
