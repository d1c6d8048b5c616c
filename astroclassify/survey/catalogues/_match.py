"""Cross-match of two catalogues, one to one."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.table import QTable, Table

from astroclassify._checks import check_quantity
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.tables import plain_column, plain_sky, provenance, readable

__all__ = ["cross_match"]


def cross_match(catalogue, other, *, radius):
    """
    Match two catalogues one to one: first the closest pair of all, then the closest of the remaining rows.

    Parameters
    ----------
    catalogue, other : `~astropy.table.QTable` or `~astropy.coordinates.SkyCoord`
        Tables with ``sky_position``, or positions.
    radius : `~astropy.units.Quantity`
        Largest separation of a pair, an angle.

    Returns
    -------
    `~astropy.table.QTable`
        One row per row of ``catalogue``, in its order, then one for each row of ``other`` without a partner, in its
        order. Columns: ``row`` and ``row_other`` (-1 where there is none), ``source_id`` and ``source_id_other`` (empty
        where there is none or the input has no such column), ``separation`` [arcsec] (NaN without a partner), and
        ``n_within``, how many rows of the other side lie within the radius: more than one makes a pair ambiguous. Rows
        without a position (NaN) have no partner.

    Raises
    ------
    SchemaError
        If an input has no positions.
    TypeError, ValueError
        If ``radius`` is no angle between 0 and 90 deg.

    Notes
    -----
    No row is used twice, and no two rows that are not each other's partner are closer to each other than both are to
    their partners. Where separations are equal the earlier rows are paired.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from astroclassify.survey import cross_match
    >>> first = SkyCoord([10, 10.001, 50] * u.deg, [0, 0, 0] * u.deg)
    >>> second = SkyCoord([10.0012, 80] * u.deg, [0, 0] * u.deg)
    >>> pairs = cross_match(first, second, radius=10 * u.arcsec)
    >>> pairs["row"].tolist(), pairs["row_other"].tolist()
    ([0, 1, 2, -1], [-1, 0, -1, 1])
    >>> pairs["separation"].round(3)
    <Quantity [ nan, 0.72,  nan,  nan] arcsec>
    """
    radius = check_quantity("radius", radius, u.deg, positive=True, shape=())
    if radius > 90:
        raise ArgumentError(f"radius must be at most 90 deg, got {radius:g} deg")
    sky, names = _input("catalogue", catalogue)
    sky_other, names_other = _input("other", other)
    first, second, separation = _close_pairs(sky, sky_other, radius)
    partner = _one_to_one(first, second, len(sky), len(sky_other))
    chosen = partner[first] == second
    distance = np.full(len(sky), np.nan)
    distance[first[chosen]] = separation[chosen]
    left = np.setdiff1d(np.arange(len(sky_other)), partner)
    row_other = np.concatenate([partner, left])
    within = np.bincount(first, minlength=len(sky)), np.bincount(second, minlength=len(sky_other))
    table = QTable()
    table["row"] = np.concatenate([np.arange(len(sky)), np.full(len(left), -1)])
    table["row_other"] = row_other
    table["source_id"] = np.concatenate([names, np.full(len(left), "")])
    table["source_id_other"] = np.append(names_other, "")[row_other]
    table["separation"] = np.concatenate([distance, np.full(len(left), np.nan)]) * 3600 * u.arcsec
    table["n_within"] = np.concatenate([within[0], within[1][left]])
    table.meta = provenance(radius_arcsec=radius * 3600)
    return readable(table)


def _input(name, value):
    """ICRS positions, shape (n,), and names."""
    sky, names = value, None
    if isinstance(value, Table):
        sky = value["sky_position"] if "sky_position" in value.colnames else None
        names = plain_column(value["source_id"], "").astype(str) if "source_id" in value.colnames else None
    if not isinstance(sky, SkyCoord):
        raise SchemaError(f"{name} must be a table with a SkyCoord column 'sky_position', or a SkyCoord")
    if sky.ndim > 1:
        raise SchemaError(f"{name} must be a list of positions, got shape {sky.shape}")
    sky = plain_sky(sky, name).reshape(-1)
    return sky, np.full(len(sky), "") if names is None else names


def _close_pairs(sky, other, radius):
    """Rows and separations [deg] of all pairs within ``radius`` [deg], the closest first."""
    good, good_other = (np.flatnonzero(np.isfinite(each.ra) & np.isfinite(each.dec)) for each in (sky, other))
    # A limit a little larger than the radius, so that rounding loses no pair; the separation itself decides below.
    limit = (radius * (1 + 1e-9) + 1e-10) * u.deg
    first, second, separation, _ = search_around_sky(sky[good], other[good_other], limit)
    near = separation.deg <= radius
    first, second, separation = good[first[near]], good_other[second[near]], separation.deg[near]
    order = np.lexsort((second, first, separation))
    return first[order], second[order], separation[order]


def _one_to_one(first, second, n, n_other):
    """Partner of each of the ``n`` rows, or -1: pairs sorted by separation, each taken if both are still free."""
    partner, free = np.full(n, -1), np.ones(n_other, dtype=bool)
    for one, two in zip(first.tolist(), second.tolist(), strict=True):
        if partner[one] < 0 and free[two]:
            partner[one] = two
            free[two] = False
    return partner
