"""Images on a model's grid: north up, counts conserved, flags of what was assumed."""

import warnings

import numpy as np
from astropy import units as u

from astroclassify.exceptions import GeometryError, ImageWarning
from astroclassify.schemes import Flag

from ._checks import (
    celestial,
    check_position,
    counts_factor,
    image_flags,
    pixel_area,
    usable_image,
    valid_pixels,
)
from ._geometry import DEFAULT_COSMOLOGY, check_redshift
from ._resample import LEAST_SHARE, corners, find_sky, resample, same_grid, target_wcs
from ._sky_image import SkyImage
from .headers._cards import make_header
from .headers._headers import has_exposure

__all__ = ["LOW_COUNTS", "MIN_VALID", "standardise"]

LOW_COUNTS = 100
"""An image with fewer counts than this is flagged ``low_counts``."""

MIN_VALID = 0.05
"""`standardise` refuses an image with valid pixels in less than this fraction of the model's field."""


def standardise(image, geometry, *, redshift=None, centre=None, cosmology=DEFAULT_COSMOLOGY):
    """
    Put an image on a model's grid: north up, given size in kpc or arcmin, counts conserved.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Counts, or densities of a photographic plate (unit adu), with a celestial WCS.
    geometry : Geometry
        The grid.
    redshift : float, optional
        Redshift of the source, needed where the grid is in kpc; by default ``image.meta["REDSHIFT"]``.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Middle of the grid; by default the middle of the image.
    cosmology : `~astropy.cosmology.FLRW`, optional
        Turns kpc into arcsec.

    Returns
    -------
    SkyImage
        Counts on the grid; a plate's densities are averaged instead of shared out. Pixels less than half of which come
        from valid pixels of the image are masked.
        ``meta["FLAGS"]`` holds the sum of `~astroclassify.schemes.Flag` bits that apply, ``exposure`` and
        ``background`` what came on the grid. Uncertainty is dropped with a warning: the classifiers take counts.

    Raises
    ------
    GeometryError
        If there is no celestial WCS, no redshift where one is needed, a unit other than counts, too little overlap, or
        less than two pixels across the grid.

    Notes
    -----
    Each pixel's counts are spread evenly over it and shared among the pixels of the grid in proportion to the area that
    they have in common, exactly for any rotation, so that counts inside the grid are conserved to rounding; the
    exposure is averaged by area. An image that is on the grid already, to a tenth of a pixel, is not resampled.
    A flat image stays flat to 1e-11; counts equal those of `reproject.reproject_exact` (density times area) to 1e-9 of
    the peak, in a tenth to a thirtieth of its time.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.images import Geometry, standardise
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.004, "CDELT2": 0.004})
    >>> image = CCDData(np.ones((100, 100)), unit=u.ct, wcs=wcs)
    >>> standardise(image, Geometry(1 * u.Mpc, (64, 64)), redshift=0.06).shape
    (64, 64)
    """
    image = usable_image(image)
    wcs = celestial(image)
    plate = image.unit.is_equivalent(u.adu) and image.unit == u.adu  # comparing unlike units takes 0.1 ms
    factor = 1.0 if plate else counts_factor(image.unit)
    if redshift is not None:
        redshift = check_redshift(redshift)
    elif geometry.is_physical:
        redshift = image.meta.get("REDSHIFT")
    pixel = geometry.pixel_width(redshift, cosmology=cosmology)
    if image.uncertainty is not None:
        warnings.warn("the uncertainty of the image is not used", ImageWarning, stacklevel=2)
    if centre is None:
        centre = find_sky(wcs, (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
        if not np.isfinite(centre).all():
            raise GeometryError("the middle of the image has no position on the sky: give centre")
    else:
        check_position("centre", centre)
    target = target_wcs(centre, pixel, geometry.shape)
    usable = valid_pixels(image)
    if same_grid(wcs, image.shape, target, geometry.shape):
        valid, covered, target = usable, np.True_, wcs
        data, exposure, background = np.where(usable, image.data, 0.0), image.exposure, image.background
    else:
        x, y = corners(target, wcs, geometry.shape)
        seen = np.isfinite(x) & np.isfinite(y)
        if seen.any() and min(np.ptp(x[seen]), np.ptp(y[seen])) < 2:
            raise GeometryError("image has less than two pixels across the model's field")
        data, valid, covered, exposure = resample(image.data, x, y, valid=usable, exposure=image.exposure, mean=plate)
        background = None if image.background is None else _share_out(image.background, x, y)
    data = data if factor == 1 else data * factor
    mask = valid < LEAST_SHARE
    if (share := 1 - mask.mean()) < MIN_VALID:
        raise GeometryError(
            f"image has valid pixels in only {share:.1%} of the model's field "
            f"({geometry.width}; at least {MIN_VALID:.0%} is needed)"
        )
    flags = image_flags(image.meta) | _input_flags(image, usable, wcs, pixel) | _grid_flags(data, valid, covered)
    if plate:  # neither has a meaning for densities
        flags &= ~(Flag.NO_EXPOSURE | Flag.LOW_COUNTS)
    meta = make_header(image.meta)
    meta["FLAGS"] = flags.value
    if redshift is not None:
        meta["REDSHIFT"] = float(redshift)
    unit, mask = u.adu if plate else u.ct, mask if mask.any() else None
    return SkyImage(data, unit=unit, mask=mask, wcs=target, meta=meta, exposure=exposure, background=background)


def _share_out(background, x, y):
    """Expected counts on a grid with corners at x, y of their own; NaN where less than half of a pixel has a value."""
    known = np.isfinite(background)
    values, share, _, _ = resample(np.where(known, background, 0.0), x, y, valid=known)
    return np.where(share < LEAST_SHARE, np.nan, values)


def _input_flags(image, usable, wcs, pixel):
    flags = Flag(0)
    if np.any((image.data < 0) & usable):
        flags |= Flag.NEGATIVE
    if not has_exposure(image):
        flags |= Flag.NO_EXPOSURE
    if pixel_area(wcs) > (1.5 * pixel.to_value(u.deg)) ** 2:
        flags |= Flag.COARSE_PIXELS
    return flags


def _grid_flags(data, valid, covered):
    flags = Flag(0)
    if covered.min() < LEAST_SHARE:
        flags |= Flag.OFF_EDGE
    if np.any(np.subtract(covered, valid, dtype=float) > 1e-6):
        flags |= Flag.MASKED
    if data.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    return flags
