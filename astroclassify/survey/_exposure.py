"""What a header says of an observation, and an exposure map where none came: field of view, time, vignetting."""

import numpy as np
from scipy.ndimage import label, maximum_filter, uniform_filter

from .._image_checks import EXPOSURE_KEYS
from ..exceptions import GeometryError

__all__ = ["estimate_exposure", "field_of_view", "find_instrument", "header_band", "header_time"]

# Angle [arcmin] at which half the effective area is left, V = 1 / (1 + (theta/angle)^2); see `vignetting`.
HALF_AREA = {"EPN": 11.8, "EMOS1": 11.8, "EMOS2": 11.8, "ACIS": 25.0, "PSPC": 52.0}
EMPTY = 16.0  # counts that a square without any would hold in the field's faint parts: a chance of 1e-7
KNOWN = 0.75  # share of a square that must not be masked to call it empty: beside a mask few counts are by chance


def find_instrument(meta):
    """
    Instrument of a header.

    Parameters
    ----------
    meta : dict
        Header entries; TELESCOP and INSTRUME count.

    Returns
    -------
    str
        ``"EPN"``, ``"EMOS1"``, ``"EMOS2"``, ``"ACIS"``, ``"PSPC"``, ``"EROSITA"`` or ``"UNKNOWN"``.
    """
    name = str(meta.get("INSTRUME", "")).strip().upper()
    telescope = str(meta.get("TELESCOP", "")).strip().upper()
    if name in ("EPN", "EMOS1", "EMOS2"):
        return name
    for known in ("ACIS", "PSPC"):
        if name.startswith(known):
            return known
    return "EROSITA" if "EROSITA" in (name, telescope) or telescope == "SRG" else "UNKNOWN"


def header_band(meta):
    """
    Energy band of a header.

    Parameters
    ----------
    meta : dict
        Header entries.

    Returns
    -------
    list of float, or None
        Lower and upper end [keV]; None where the header does not say.
    """
    found, scale = [meta.get("ENERGYLO"), meta.get("ENERGYHI")], 1.0  # keV, written by CIAO
    for key, value in meta.items():
        if key.startswith("DSTYP") and str(value).strip() == "PI" and meta.get("INSTRUME", "")[:1] == "E":
            # Data subspace of XMM's SAS: PI is the energy in eV.
            found, scale = str(meta.get(f"DSVAL{key[5:]}", "")).split(":"), 1e-3
            break
    try:
        low, high = (float(value) * scale for value in found)
    except (TypeError, ValueError):
        return None
    return [low, high] if 0 < low < high else None


def header_time(meta):
    """
    Exposure time of a header.

    Parameters
    ----------
    meta : dict
        Header entries.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    GeometryError
        If no keyword has it.
    """
    for key in EXPOSURE_KEYS:
        value = meta.get(key)
        try:
            value = float(value[0] if isinstance(value, tuple) else value)
        except (TypeError, ValueError):
            continue
        if np.isfinite(value) and value > 0:
            return value
    raise GeometryError(
        "exposure must be given (a map in seconds, or one time as a Quantity): the image has no map and none of the "
        f"keywords {', '.join(EXPOSURE_KEYS)}"
    )


def vignetting(instrument, off_axis):
    """
    Effective area relative to the optical axis, roughly, in the soft band.

    Parameters
    ----------
    instrument : str
        Name of the instrument; one that is not known has no vignetting.
    off_axis : float or `~numpy.ndarray`
        Off-axis angle [arcmin].

    Returns
    -------
    float or `~numpy.ndarray`
        From 0 to 1.

    Notes
    -----
    XMM-Newton: half at 11.8' (as the simulator; Users' Handbook, from memory). Chandra: 0.86 at 10' (from memory).
    ROSAT PSPC: half at 52', measured on an exposure map. All to about 10 %.
    """
    if instrument not in HALF_AREA:
        return np.ones(np.shape(off_axis))
    return 1.0 / (1.0 + np.square(off_axis / HALF_AREA[instrument]))


def estimate_exposure(counts, mask, off_axis, meta, instrument):
    """
    Exposure map from the counts and the header.

    Parameters
    ----------
    counts : `~numpy.ndarray`, shape (ny, nx)
        Counts, zero where masked.
    mask : `~numpy.ndarray` of bool, shape (ny, nx)
        True where a pixel is not to be used.
    off_axis : `~numpy.ndarray`, shape (ny, nx)
        Off-axis angle [arcmin].
    meta : dict
        Header with the exposure time.
    instrument : str
        Name of the instrument.

    Returns
    -------
    `~numpy.ndarray`, shape (ny, nx)
        Exposure [s]; zero outside the field of view.
    """
    return header_time(meta) * vignetting(instrument, off_axis) * field_of_view(counts, mask)


def field_of_view(counts, mask):
    """
    Where counts can be.

    Parameters
    ----------
    counts : `~numpy.ndarray`, shape (ny, nx)
        Counts, zero where masked.
    mask : `~numpy.ndarray` of bool, shape (ny, nx)
        True where nothing is known.

    Returns
    -------
    `~numpy.ndarray` of bool, shape (ny, nx)
        False in every square without a count that is so large that the faint parts of the field would have put 16
        there, and that is not masked for the most part; also in islands smaller than that square (stray counts off the
        field). All true where there are too few counts to tell.
    """
    everywhere = np.ones(counts.shape, bool)
    if np.count_nonzero(counts) < EMPTY:
        return everywhere
    side = 1
    for _ in range(20):
        # Brightness of the faint parts: tenth percentile over squares of the size that it asks for.
        faint = _faint_level(counts, mask, side)
        if faint <= 0:
            return everywhere
        wanted = int(np.ceil(np.sqrt(EMPTY / faint)))
        if wanted <= side:
            break
        side = max(side + 1, (side + wanted) // 2)
    side += 1 - side % 2
    if side > min(counts.shape) / 3:
        return everywhere
    empty = maximum_filter(counts > 0, side, mode="constant", cval=True) == 0
    empty &= uniform_filter((~mask).astype(float), side, mode="constant") > KNOWN
    field = ~maximum_filter(empty, side, mode="constant", cval=False)
    islands, number = label(field)
    sizes = np.bincount(islands.ravel(), minlength=number + 1)
    keep = sizes >= side**2
    keep[0] = False
    return keep[islands] if keep.any() else everywhere


def _faint_level(counts, mask, side):
    """Counts per pixel in the faint parts of the field, over squares that are not empty."""
    rows, columns = (n // side * side for n in counts.shape)
    blocks = (rows // side, side, columns // side, side)
    summed = counts[:rows, :columns].reshape(blocks).sum(axis=(1, 3))
    pixels = (~mask[:rows, :columns]).reshape(blocks).sum(axis=(1, 3))
    seen = (summed > 0) & (pixels > 0.5 * side**2)
    if not seen.any():
        return 0.0
    return float(np.percentile(summed[seen] / pixels[seen], 10))
