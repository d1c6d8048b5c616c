"""Detection end to end: find the sources of a field, fit their extent, assign their class."""

import logging
import warnings

import numpy as np
from astropy import units as u

from astroclassify._checks import check_quantity
from astroclassify.exceptions import EmptyResultWarning
from astroclassify.fields._field import check_field, combine_fields
from astroclassify.tables import CANDIDATES, provenance, validate

from ..catalogues._classes import classify_extent
from ..extents._fit_extent import fit_extent
from ._search import FALSE_ALARM, find_sources

__all__ = ["describe_field", "detect"]

log = logging.getLogger(__name__)

MARGIN = 1.0  # arcmin beyond the largest off-axis angle within which sources are fitted as neighbours


def detect(field, *, false_alarm=FALSE_ALARM, scales=None, likelihood="delta-c", max_off_axis=None):
    """
    Find the sources of a field, fit their extent, and assign their class.

    Parameters
    ----------
    field : Field or sequence of Field
        The field. Several cameras on one grid are searched together (`combine_fields`) and fitted together but apart.
    false_alarm : float, optional
        Probability per pixel and wavelet scale that noise passes.
    scales : sequence of int, optional
        Wavelet scales, see `filter_image`.
    likelihood : str, optional
        Convention of the likelihoods, ``"delta-c"`` or ``"ln-p"``, see `fit_extent`.
    max_off_axis : `~astropy.units.Quantity`, optional
        Sources found farther from the optical axis are left out (13 arcmin for XMM in Pacaud et al. 2006); by default
        none are.

    Returns
    -------
    `~astropy.table.QTable`
        A CANDIDATES table, one row per source found, the brightest first, with all columns of `find_sources` and
        `fit_extent`. ``x_class`` is ``"C1"``, ``"C2"``, ``"P1"`` or empty (`classify_extent`). Flags are those of the
        search and the fit; a source that cannot be fitted has the flag ``failed`` and a ``message``. ``meta["fields"]``
        says of each field: ``image`` (FILENAME of its header, set where it was read from a file), ``obs_id``,
        ``instrument``, ``energy_range`` [keV], ``exposure`` [s], ``psf``.

    Raises
    ------
    TypeError, ValueError
        If an argument has a type or a value that is not allowed.

    Warns
    -----
    EmptyResultWarning
        If nothing is found, or nothing within ``max_off_axis``: the table has all columns and no rows.

    Notes
    -----
    The steps are those of Pacaud et al. (2006, MNRAS 372, 578, section 2): wavelet filter in the Poisson regime,
    segmentation, maximum-likelihood fits on the photon image. Structure larger than the wavelets is found before them
    and stays one source; ``parent_id`` names it for what lies on it (`find_sources`). The search is deliberately
    permissive: a detection is a source only if its ``det_like`` is high.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import simulate_field
    >>> from astroclassify.survey import detect
    >>> field = simulate_field(rng=1, shape=(128, 128)).field
    >>> candidates = detect(field, max_off_axis=13 * u.arcmin)
    >>> sorted(set(candidates["x_class"]) - {"", "C1", "C2", "P1"})
    []
    """
    fields = list(field) if isinstance(field, (list, tuple)) else [field]
    for each in fields:
        check_field(each)
    limit = np.inf
    if max_off_axis is not None:
        limit = check_quantity("max_off_axis", max_off_axis, u.arcmin, positive=True, shape=())
    searched = combine_fields(fields)
    found = find_sources(searched, false_alarm=false_alarm, scales=scales)
    angles = searched.off_axis(found["x"].to_value(u.pix), found["y"].to_value(u.pix))
    near = angles <= limit + MARGIN
    found = found[near]
    log.info("search: %d sources; now their fits", len(found))
    table = fit_extent(fields, found, likelihood=likelihood)
    table["flags"] |= found["flags"]
    table["x_class"] = classify_extent(table).astype("U32")
    table = table[angles[near] <= limit]
    if len(angles) and not len(table):
        message = f"none of the {len(angles)} sources found lies within {max_off_axis} of the optical axis"
        warnings.warn(message, EmptyResultWarning, stacklevel=2)
    table.meta.update(provenance(likelihood=likelihood, false_alarm=float(false_alarm)))
    table.meta["fields"] = [describe_field(each) for each in fields]
    return validate(table, CANDIDATES)


def describe_field(field):
    """Which file, observation, band [keV], exposure [s] and point spread function a field is of, in plain types."""
    return {
        "image": str(field.meta.get("FILENAME", "")),
        "obs_id": str(field.meta.get("OBS_ID", "")),
        "instrument": field.instrument,
        "energy_range": None if field.energy_range is None else field.energy_range.to_value(u.keV).tolist(),
        "exposure": field.livetime,
        "psf": repr(field.psf),
    }
