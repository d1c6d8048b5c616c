"""Maximum-likelihood fits of point and extended sources on photon images: extent, significance, counts."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table

from astroclassify._checks import check_choice, check_quantity
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.fields._field import check_field
from astroclassify.schemes import Flag
from astroclassify.tables import plain_table, provenance, readable

from ._light import draw
from ._profile import profile_table
from ._settle import fit_sources
from ._sources import LARGEST, LARGEST_PART, Survey, camera_of, largest_ext, local_exposure
from ._table import fill_table

__all__ = ["LIKELIHOODS", "fit_extent", "model_image"]

LIKELIHOODS = ("delta-c", "ln-p")
WHOLE_FIELD = Flag.MASKED | Flag.LOW_COUNTS | Flag.OFF_EDGE  # flags of a field that do not hold for each source
LEAST_IMAGE = 1e-6  # expected counts per pixel below which `model_image` may be zero


def fit_extent(field, positions, *, likelihood="delta-c", radius=None):
    """
    Fit each source of a field as a point, a beta model, a beta model with a central point, and two points.

    Parameters
    ----------
    field : Field or sequence of Field
        The photon image with exposure, background and point spread function; several are fitted together but apart:
        common position and core radius, counts of their own.
    positions : `~astropy.coordinates.SkyCoord` or `~astropy.table.Table`
        Where the sources are. Give **all** detected sources, since neighbours are fitted together. Of a table
        ``sky_position`` is used, and of what `find_sources` measured, where present, ``region_radius`` and ``radius``
        (the core radius is at most three times the first and ten times the second), ``filtered_counts`` and
        ``parent_id`` (``source_id`` of the large structure that a row lies on); other columns are kept.
    likelihood : str, optional
        ``"delta-c"``: the gain in the Cash statistic; ``"ln-p"``: -ln P(chi^2 > gain) for as many degrees of freedom as
        the better model has more parameters.
    radius : `~astropy.units.Quantity`, optional
        Radius of the pixels used, an angle; by default the radius that encloses 90 % of a point source, at least ten
        pixels, and five core radii if that is larger.

    Returns
    -------
    `~astropy.table.QTable`
        One row per position, in their order, with the columns of CANDIDATES (``x_class`` empty) and

        ``pos_err``
            standard error of the position, both axes in quadrature,
        ``counts_err``, ``rate_err``
            standard errors,
        ``epn_like``
            gain of the central point over the beta model alone,
        ``dbl_like``
            gain of two points over one,
        ``epn_share``
            share of the central point in the counts of that model,
        ``background``
            expected counts per pixel at the source,
        ``fit_radius``, ``best_model``, ``message``
            and, for several fields, ``field_counts``, the counts in each.

        Rows that cannot be fitted have NaN, the flag ``failed`` and a message.

    Raises
    ------
    TypeError, ValueError
        If an argument has a type or a value that is not allowed.
    SchemaError
        If a table has no positions on the sky.

    Notes
    -----
    Model: S(r) ~ [1 + (r/EXT)^2]^-3/2 (beta = 2/3, EXT the core radius), convolved with the point spread function at
    the position and with the pixel, times the exposure relative to that at the position (Pacaud et al. 2006, MNRAS 372,
    578; Faccioli et al. 2018, A&A 620, A9, for the models with a central point and with two points). Statistic: Cash
    (1979, ApJ 228, 939), minimised by a damped Newton's method. Errors: inverse Fisher matrix (all parameters of the
    source, the counts of its neighbours, and the level); at EXT = 0 the error of EXT is its one-sided scale.

    ``counts`` (but those of large structures) are those of the whole model, integrated to infinity, at the local
    exposure: a beta model has 80 % of them within five core radii and 95 % within twenty. ``rate`` is per second of
    exposure equivalent to that on axis; for several fields the mean over the cameras, as after `combine_fields`.
    ``ext``, ``ext_err`` and ``ext_like`` are of the beta model; position, counts and rate of ``best_model``, the one of
    least C + k ln n (k parameters, n counts; Schwarz 1978, Ann. Stat. 6, 461); of two points the brighter one's
    position.

    ``det_like`` compares background (and neighbours) alone with the best model, ``pnt_det_like`` with the point,
    ``ext_like`` the point with the beta model. For true points EXT_LIKE is zero in half of the cases and otherwise
    follows chi^2 with one degree of freedom (EXT = 0 is the edge of its range).

    The level of the background is free in each fit, with a Gaussian prior as wide as ``Field.background_error``.
    Neighbours: the counts of sources near each other are fitted together, with positions and core radii from each
    one's own best fit; sources are fitted again until their surroundings no longer change. A detection that gains less
    than 15 in the Cash statistic is not a neighbour to others, because a permissive search also finds noise.

    Large structures (rows that are the ``parent_id`` of others) are fitted last and have the counts of their light on
    the image, not of the model. Rows on them are fitted above that light, as points unless an extended model stands out
    from it (else ``ext`` and ``ext_like`` are zero). Flags ``at_bound`` and ``extrapolated``: the extent is not
    measured, because the core radius is at the end of its range, or because most of the model lies off the exposed
    pixels or far above what the search saw.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.survey import fit_extent, model_image, read_field
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -2.5 / 3600, "CDELT2": 2.5 / 3600})
    >>> image = CCDData(np.zeros((100, 100)), unit=u.ct, wcs=wcs, meta={"INSTRUME": "EPN"})
    >>> empty = read_field(image, exposure=10 * u.ks, background=np.full((100, 100), 0.02))
    >>> expected = empty.background + model_image(empty, 50, 50, counts=400, ext=15)
    >>> image.data = np.random.default_rng(1).poisson(expected).astype(float)
    >>> field = read_field(image, exposure=10 * u.ks, background=empty.background)
    >>> row = fit_extent(field, wcs.pixel_to_world([49], [51]))[0]
    >>> bool(abs(row["ext"] - 15 * u.arcsec) < 3 * row["ext_err"]), bool(row["ext_like"] > 33)
    (True, True)
    """
    fields = list(field) if isinstance(field, (list, tuple)) else [field]
    if not fields:
        raise ArgumentError("field must be a Field or a sequence of at least one, got none")
    for each in fields:
        check_field(each)
    check_choice("likelihood", likelihood, LIKELIHOODS)
    if radius is not None:
        radius = check_quantity("radius", radius, u.arcsec, positive=True, shape=())
    table, sky = _read_positions(positions)
    places, matrices = zip(*(_local_planes(each.wcs, sky) for each in fields), strict=True)
    off_axis = [each.off_axis for each in fields]
    error = max(each.background_error for each in fields)
    cameras = [camera_of(each) for each in fields]
    survey = Survey(
        cameras, matrices, off_axis, places, _largest(table), _parents(table), _segments(table), error, radius
    )
    fit_sources(survey)
    common = Flag(0)
    for each in fields:
        common |= each.flags & ~WHOLE_FIELD
    fill_table(table, sky, survey, likelihood, common)
    table.meta.update(provenance(likelihood=likelihood))
    return readable(table)


def model_image(field, x, y, *, counts, ext):
    """
    Expected counts of sources on the pixels of a field.

    Parameters
    ----------
    field : Field
        The field.
    x, y : float or sequence of float
        Positions [pixels, the first has its middle at 0].
    counts : float or sequence of float
        Counts of each source, integrated to infinity, at the exposure of its position.
    ext : float or sequence of float, or `~astropy.units.Quantity`
        Core radius of the beta model (arcsec where it has no unit); zero for a point source.

    Returns
    -------
    `~numpy.ndarray`, shape (ny, nx)
        Expected counts; zero where the field is masked.

    Raises
    ------
    ValueError
        If counts or core radii are negative or not finite, or a core radius is more than a quarter of the shorter side.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import simulate_field
    >>> from astroclassify.survey import model_image
    >>> field = simulate_field(rng=1, shape=(200, 200)).field
    >>> image = model_image(field, 60, 120, counts=100, ext=0 * u.arcsec)
    >>> image.shape, bool(90 < image.sum() < 101)
    ((200, 200), True)
    """
    check_field(field)
    ext = ext.to_value(u.arcsec) if isinstance(ext, u.Quantity) else ext
    x, y, counts, ext = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, float)) for value in (x, y, counts, ext)))
    camera = camera_of(field)
    limit = largest_ext(camera)
    for name, values, highest in (("counts", counts, np.inf), ("ext", ext, limit)):
        if not np.all((values >= 0) & (values <= highest) & np.isfinite(values)):
            raise ArgumentError(f"{name} must be finite, from 0 to {highest:g}, got {values}")
    image = np.zeros(field.shape)
    for row in np.flatnonzero(np.isfinite(x) & np.isfinite(y)):
        _add_source(image, camera, float(field.off_axis(x[row], y[row])), x[row], y[row], counts[row], ext[row])
    return image


def _add_source(image, camera, angle, x, y, counts, ext):
    """Add one source to an image in place; lengths in pixels, ``ext`` in arcsec, ``angle`` off axis in arcmin."""
    table = profile_table(camera.psf, angle, camera.pixel, largest_ext(camera))
    reach = table.reach(ext, LEAST_IMAGE / counts) if counts > 0 else 0.0
    exposure = local_exposure(camera, table, x, y, angle, max(camera.psf.radius(0.9, angle), 10 * camera.pixel))[0]
    if reach == 0 or exposure <= 0:
        return
    seen = draw(camera, (x, y), np.eye(2) * camera.pixel, table, exposure, [(0.0, 0.0, ext, counts)], reach)
    image[seen.window] += seen.image


def _read_positions(positions):
    """Table with source_id to which the results are added, and positions as SkyCoord."""
    if isinstance(positions, SkyCoord):
        table, sky = QTable(), positions.reshape(-1)
    elif isinstance(positions, Table):
        table = plain_table(positions).copy()
        sky = table["sky_position"] if "sky_position" in table.colnames else None
        if not isinstance(sky, SkyCoord):
            raise SchemaError(f"positions must have a SkyCoord column 'sky_position', got columns {table.colnames}")
    else:
        raise ArgumentError(f"positions must be a SkyCoord or a table, got {type(positions).__name__}")
    if "source_id" not in table.colnames:
        table["source_id"] = np.array([str(number) for number in range(1, len(sky) + 1)], dtype="U32")
    return table, sky


def _largest(table):
    """Upper bounds of the core radii [arcsec] from the sizes of the detections, infinite where these are unknown."""
    bounds = np.full(len(table), np.inf)
    for name, factor in (("region_radius", LARGEST), ("radius", LARGEST_PART)):
        if name in table.colnames:
            sizes = check_quantity(f"positions[{name!r}]", table[name], u.arcsec)
            bounds = np.fmin(bounds, factor * np.asarray(sizes, float))
    return bounds


def _segments(table):
    """Radii [arcsec] and counts of the segments that the search found, NaN where these are unknown, shape (n, 2)."""
    sizes = np.full((len(table), 2), np.nan)
    for column, (name, unit) in enumerate((("radius", u.arcsec), ("filtered_counts", u.ct))):
        if name in table.colnames:
            sizes[:, column] = check_quantity(f"positions[{name!r}]", table[name], unit)
    return sizes


def _parents(table):
    """Rows of the structures that sources lie on, -1 for none."""
    if "parent_id" not in table.colnames:
        return np.full(len(table), -1)
    rows = {str(name): row for row, name in enumerate(table["source_id"])}
    return np.array([rows.get(str(name), -1) for name in table["parent_id"]], int)


def _local_planes(wcs, sky):
    """Pixels of positions, shape (n, 2), and matrices from pixels to arcsec east and north, shape (n, 2, 2)."""
    if len(sky) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2, 2))
    x, y = (np.asarray(value, float) for value in wcs.world_to_pixel(sky))
    known = np.isfinite(x) & np.isfinite(y)
    matrices = np.full((len(sky), 2, 2), np.nan)
    if known.any():
        # East and north are those of the positions' frame, which need not be the image's.
        here = wcs.pixel_to_world(x[known], y[known]).transform_to(sky.frame)
        for axis, (dx, dy) in enumerate(((1.0, 0.0), (0.0, 1.0))):
            there = wcs.pixel_to_world(x[known] + dx, y[known] + dy).transform_to(sky.frame)
            steps = here.spherical_offsets_to(there)
            matrices[known, :, axis] = np.transpose([step.to_value(u.arcsec) for step in steps])
    return np.column_stack([x, y]), matrices
