"""Rows of the table of fitted sources: likelihoods, positions, counts, flags."""

from dataclasses import replace

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from astroclassify.schemes import Flag

from ._light import draw
from ._optimise import chance_like
from ._sources import WIDE, best_model

__all__ = ["fill_table"]

COLUMNS = (
    ("x", u.pix),
    ("y", u.pix),
    ("pos_err", u.arcsec),
    ("ext", u.arcsec),
    ("ext_err", u.arcsec),
    ("ext_like", None),
    ("det_like", None),
    ("pnt_det_like", None),
    ("counts", u.ct),
    ("counts_err", u.ct),
    ("rate", u.ct / u.s),
    ("rate_err", u.ct / u.s),
    ("off_axis", u.arcmin),
    ("epn_like", None),
    ("dbl_like", None),
    ("epn_share", None),
    ("background", u.ct / u.pix),
    ("fit_radius", u.arcsec),
)
LEAST_SEEN = 0.5  # share of an extended model that lies on exposed pixels, at least
LONGEST = 20.0  # radius of a beta model, in core radii: 95 % of it
OVERSHOOT = 3.0  # counts of an extended model in the segment that the search found, in units of what it saw there
CORE = 1.0  # radius, in half-energy radii, within which edges and masked pixels set a flag


def fill_table(table, sky, survey, likelihood, common):
    """Write the fits of all sources into a table, one row each; ``common`` are flags of the fields themselves."""
    n = len(sky)
    values = {name: np.full(n, np.nan) for name, _ in COLUMNS}
    values["x"], values["y"] = survey.places[0].T.copy() if n else np.zeros((2, 0))
    offsets = np.zeros((n, 2))
    models, messages = [""] * n, [""] * n
    for source in survey.sources:
        messages[source.row] = source.message
        if not source.fits:
            continue
        models[source.row] = best_model(source)
        for name, value in (_results(source, likelihood) | _measured(source, survey)).items():
            values[name][source.row] = value
        row, matrix = source.row, survey.matrices[0][source.row]
        offset = _brightest(source.fits[best_model(source)])[1][:2]
        place = survey.places[0][row] + np.linalg.solve(matrix, offset)
        offsets[row] = matrix @ (place - survey.starts[row])
        values["x"][row], values["y"][row] = place
        messages[source.row] = _remarks(source)
    moved = np.any(offsets != 0, axis=1)
    if moved.any():
        lon, lat = np.array(sky.spherical.lon.deg), np.array(sky.spherical.lat.deg)
        there = sky[moved].spherical_offsets_by(*(offsets[moved].T * u.arcsec))
        lon[moved], lat[moved] = there.spherical.lon.deg, there.spherical.lat.deg
        sky = SkyCoord(lon, lat, unit=u.deg, frame=sky.frame.replicate_without_data())
    table["sky_position"] = sky
    flags = [int(common | _source_flags(source, survey)) for source in survey.sources]
    values["off_axis"] = survey.off_axis[0](values["x"], values["y"])
    for name, unit in COLUMNS:
        table[name] = values[name] * unit if unit is not None else values[name]
    table["x_class"] = np.full(n, "", dtype="U32")
    table["best_model"] = np.array(models, dtype="U3")
    table["message"] = np.array(messages, dtype=str) if n else np.zeros(0, "U1")
    table["flags"] = np.array(flags, dtype=np.int64)
    if len(survey.cameras) > 1:
        counts = np.full((n, len(survey.cameras)), np.nan)
        for source in survey.sources:
            if source.fits:
                best = source.fits[best_model(source)].counts
                counts[source.row, source.cameras] = survey.measured(source)[0] if source.has_children else best
        table["field_counts"] = counts * u.ct


def _results(source, likelihood):
    """Numbers of the table for one source."""
    fits, n = source.fits, len(source.cameras)
    best, extended, central = fits[best_model(source)], fits["EXT"], fits["EPN"]

    def like(name, other, extra):
        gain = max(fits[name].statistic - fits[other].statistic, 0.0)
        return float(gain if likelihood == "delta-c" else chance_like(gain, extra))

    error = best.errors[_brightest(best)[0] * 2 :][:2]
    point_share = central.parts[1][3].sum() / max(central.counts.sum(), 1e-300)
    exposure = sum(source.references)
    # A core radius that no pixel can tell from zero is zero.
    is_point = source.held or extended.ext < 1e-3 * source.half
    return {
        "ext": 0.0 if is_point else extended.ext,
        "ext_err": extended.errors[2],
        "ext_like": 0.0 if is_point else like("PNT", "EXT", 1),
        "det_like": like("NULL", best_model(source), best.n_parameters),
        "pnt_det_like": like("NULL", "PNT", fits["PNT"].n_parameters),
        "counts": best.counts.sum(),
        "rate": best.counts.sum() / exposure,
        "pos_err": np.hypot(*error),
        "counts_err": best.total_error,
        "rate_err": best.total_error / exposure,
        "epn_like": like("EXT", "EPN", n),
        "dbl_like": like("PNT", "DBL", 2 + n),
        "epn_share": point_share,
        "background": source.background,
        "fit_radius": source.radius,
    }


def _measured(source, survey):
    """Counts and rate of a large structure, in place of those of its model."""
    if not source.has_children:
        return {}
    counts, error, rate = survey.measured(source)
    return {
        "counts": counts.sum(),
        "counts_err": error,
        "rate": rate,
        "rate_err": rate * error / max(counts.sum(), error),
    }


def _brightest(fit):
    """Number of the brighter point of two, and its part; else the first part."""
    number = 0
    if len(fit.parts) == 2 and fit.parts[0][:2] != fit.parts[1][:2]:
        number = int(fit.parts[1][3].sum() > fit.parts[0][3].sum())
    return number, fit.parts[number]


def _remarks(source):
    """Message about a fit without convergence."""
    return "" if source.fits[best_model(source)].solution.converged else "the fit has not converged"


def _source_flags(source, survey):
    """Flags of one source: no fit, two points, on the edge of the image, masked or unexposed pixels about it."""
    flags = Flag(0) if source.fits else Flag.FAILED
    if source.fits:
        if source.is_sure and best_model(source) == "DBL":
            flags |= Flag.DOUBLE
        if not source.held and source.fits["EXT"].statistic < source.fits["PNT"].statistic:
            if source.fits["EXT"].ext >= WIDE * min(source.largest, source.tables[0].to_ext(source.tables[0].u_max)):
                flags |= Flag.AT_BOUND
            if _is_extrapolated(source, survey):
                flags |= Flag.EXTRAPOLATED
    for number in source.cameras:
        camera, (x, y) = survey.cameras[number], survey.places[number][source.row]
        reach = CORE * source.half / camera.pixel
        ny, nx = camera.counts.shape
        if not (reach <= x + 0.5 <= nx - reach and reach <= y + 0.5 <= ny - reach):
            flags |= Flag.OFF_EDGE
        rows, columns = (slice(max(int(c - reach), 0), max(int(c + reach) + 2, 0)) for c in (y, x))
        row, column = np.ogrid[rows, columns][0][:ny], np.ogrid[rows, columns][1][:, :nx]
        near = np.hypot(row - y, column - x) <= reach
        window = camera.good[rows, columns]
        if not window[near[: window.shape[0], : window.shape[1]]].all():
            flags |= Flag.MASKED
    return flags


def _is_extrapolated(source, survey):
    """Whether much of the extended model lies where the image does not show it: off the exposed pixels, or in the
    segment that the search found but far above the counts that it saw there."""
    x, y, ext, counts = source.fits["EXT"].parts[0]
    row, number = source.row, source.cameras[0]
    radius, seen = survey.segments[row]
    within = 1 - 1 / np.hypot(1.0, radius / max(ext, 1e-3))  # share of a beta model
    if counts.sum() * within > OVERSHOOT * max(seen, 1.0):  # false where the search is not known
        return True
    camera, place, matrix = survey.cameras[number], survey.places[number][row], survey.matrices[number][row]
    flat = replace(camera, exposure=camera.good.astype(float))
    share = draw(flat, place, matrix, source.tables[0], 1.0, [(x, y, ext, 1.0)], LONGEST * max(ext, source.half))
    return share.image.sum() < LEAST_SEEN
