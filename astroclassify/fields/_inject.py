"""Sources put into the counts of a field, photon by photon."""

import dataclasses

import numpy as np
from astropy import units as u

from astroclassify import batch
from astroclassify._checks import check_quantity
from astroclassify.exceptions import SchemaError

from ._beta import beta_radius

__all__ = ["inject_sources", "live_pixels"]


def inject_sources(field, sources, *, rng=None):
    """
    Add sources to the counts of a field, photon by photon.

    Parameters
    ----------
    field : Field
        The field.
    sources : `~astropy.table.QTable`
        One row per source: ``sky_position``, or ``x`` and ``y`` (pixels from zero); ``counts`` (expected, were the
        exposure all over as it is at the position and the field endless); ``core_radius`` of a beta model with
        beta = 2/3, an angle, zero for a point source.
    rng : int or `~numpy.random.Generator`, optional
        A seed or a generator; by default a fresh seed.

    Returns
    -------
    Field
        The field with more counts, and the seed in ``meta["INJ_SEED"]``; nothing else changes, the background stays
        that of the field without the sources.

    Raises
    ------
    SchemaError
        If a column is missing.
    TypeError, ValueError
        If a value is not allowed, or a source is not on a pixel that is exposed and not masked.

    Notes
    -----
    Photons are drawn from the beta model (Cavaliere & Fusco-Femiano 1976: share within r of 1 - [1 + (r/r_c)^2]^-1/2),
    scattered by the PSF at the source's off-axis angle, and kept with the exposure at the place where they land.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.table import QTable
    >>> from astroclassify.fields import inject_sources
    >>> from astroclassify.sim import simulate_field
    >>> field = simulate_field(shape=(128, 128), rng=1).field
    >>> source = QTable({"x": [60] * u.pix, "y": [70] * u.pix, "counts": [500] * u.ct, "core_radius": [20] * u.arcsec})
    >>> more = inject_sources(field, source, rng=2)
    >>> bool(300 < more.counts.sum() - field.counts.sum() < 500)
    True
    """
    x, y, counts, core = _check_sources(field, sources)
    live = live_pixels(field)
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (rows >= 0) & (rows < live.shape[0]) & (columns >= 0) & (columns < live.shape[1])
    on_live = inside & live[np.where(inside, rows, 0), np.where(inside, columns, 0)]
    if not np.all(on_live):
        where = np.flatnonzero(~on_live).tolist()
        raise ValueError(f"sources must lie on pixels that are exposed and not masked, rows {where} do not")
    seed = batch.master_seed(rng)
    rng = batch.derive_rng(seed, "inject")
    added = np.zeros(live.shape)
    for number in range(len(x)):
        share = np.where(live, field.exposure, 0) / field.exposure[rows[number], columns[number]]
        added += _photons(field, share, x[number], y[number], counts[number], core[number], rng)
    return dataclasses.replace(field, counts=field.counts + added, meta={**field.meta, "INJ_SEED": seed})


def _photons(field, share, x, y, counts, core, rng):
    """Image of the photons of one source; ``share`` is the exposure in units of that at its position."""
    largest = share.max()
    number = rng.poisson(counts * largest)
    off_axis = float(field.off_axis(x, y))
    places = np.zeros((2, number))
    for radius in (core * beta_radius(rng.random(number)), field.psf.radius(rng.random(number), off_axis)):
        phase = 2 * np.pi * rng.random(number)
        places += radius / field.pixel * np.stack([np.cos(phase), np.sin(phase)])
    # Beta models have no end: a photon may land anywhere.
    landed = np.rint(np.clip(places + np.array([[x], [y]]), -1, max(share.shape))).astype(int)
    inside = np.all((landed >= 0) & (landed < np.array(share.shape)[::-1, np.newaxis]), axis=0)
    columns, rows = landed[:, inside]
    kept = rng.random(rows.size) * largest < share[rows, columns]
    index = np.ravel_multi_index((rows[kept], columns[kept]), share.shape)
    return np.bincount(index, minlength=share.size).reshape(share.shape)


def live_pixels(field):
    """Whether each pixel is exposed and not masked."""
    return (field.exposure > 0) & ~field.mask


def _check_sources(field, sources):
    """Positions [pixel], counts and core radii [arcsec] as plain arrays."""
    names = ("sky_position",) if "sky_position" in sources.colnames else ("x", "y")
    missing = [name for name in (*names, "counts", "core_radius") if name not in sources.colnames]
    if missing:
        raise SchemaError(f"sources lack the columns {missing}")
    if "sky_position" in sources.colnames:
        x, y = field.wcs.world_to_pixel(sources["sky_position"])
    else:
        x, y = (check_quantity(name, u.Quantity(sources[name]), u.pix) for name in names)
    counts = check_quantity("counts", sources["counts"], u.ct)
    core = check_quantity("core_radius", sources["core_radius"], u.arcsec)
    if np.any(counts < 0) or np.any(core < 0):
        raise ValueError("counts and core_radius must not be negative")
    return np.atleast_1d(x), np.atleast_1d(y), counts, core
