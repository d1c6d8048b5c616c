"""Fields from images: counts checked; exposure, background and mask put on their grid, or estimated."""

import os
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import FITSFixedWarning

from astroclassify._checks import check_quantity
from astroclassify.exceptions import GeometryError, ImageWarning
from astroclassify.images import SkyImage, as_image, pixel_scale, read_header, read_image
from astroclassify.images._checks import celestial, counts_factor, image_flags, square_pixels
from astroclassify.images._exposure_map import exposure_seconds
from astroclassify.images._files import image_from_hdus
from astroclassify.images._resample import brightness, corners, nearest, quadrilaterals, same_grid
from astroclassify.images._standardise import LOW_COUNTS
from astroclassify.images.headers._cards import plain_meta
from astroclassify.images.headers._wcs import is_celestial
from astroclassify.schemes import Flag

from ._background import background_error, fit_background
from ._exposure import estimate_exposure, field_of_view, instrument_name
from ._field import Field
from ._given import fit_given
from ._out_of_time import has_streaks, out_of_time
from ._telescopes import INSTRUMENTS, default_psf

__all__ = ["read_field"]

WHOLE = 1e-4  # how far counts may lie from whole numbers
ROUNDING = 1e-3  # how far below zero, in units of the largest value, an exposure or background may lie
FARTHEST = 5.0  # deg between the middle of an image and where its header says that the telescope points
ALSO = {"exposure": ", array or Quantity", "background": " or array", "mask": " or bool array"}


def read_field(image, *, exposure=None, background=None, mask=None, psf=None, energy_range=None):
    """
    Read an X-ray field: counts with exposure, background and point spread function.

    Parameters
    ----------
    image : str, path-like, `~astropy.nddata.CCDData` or FITS HDU
        Raw counts with a celestial WCS and square pixels.
    exposure : str, path-like, CCDData, HDU, `~numpy.ndarray` or `~astropy.units.Quantity`, optional
        Exposure map [s], vignetting included; on another grid it is interpolated. A map in units of area times time is
        scaled to the image's exposure time; one without a unit must be one that can be in seconds. A Quantity is one
        time for the field of view that the counts show. By default the map that came with the image, or one that is
        estimated; for EPIC pn that knows the gaps and dead columns of the chips.
    background : str, path-like, CCDData, HDU or `~numpy.ndarray`, optional
        Expected counts per pixel of its grid; interpolated like the exposure; where it has no value the pixel is
        masked. It is scaled, or completed, if the counts outside sources say so (see notes). By default the map that
        came with the image, or `estimate_background`, for EPIC pn with the streaks of bright sources (`out_of_time`) if
        the header has PA_PNT.
    mask : `~numpy.ndarray` of bool, or str, path-like, CCDData or HDU, optional
        An array is true where a pixel is **not** to be used. A file, CCDData or HDU is a detection mask as XMM's
        ``emask`` writes it: above zero where a pixel **is** to be used.
    psf : KingPsf, GaussianPsf, ImagePsf or MixedPsf, optional
        Point spread function; by default `default_psf` of the instrument, at the geometric mean of the energy range
        (1 keV where it is not known).
    energy_range : `~astropy.units.Quantity`, optional
        Lower and upper end of the band; by default from the header, where it says so.

    Returns
    -------
    Field
        The field. Its flags say what was assumed: ``no_exposure`` and ``no_background`` where these were estimated,
        ``large_structure`` where sources leave too little of the field to see the background,
        ``source_in_background`` for a map that rises where sources are, ``non_finite`` and ``masked`` for pixels of the
        image that are not used, ``no_unit``, ``low_counts``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If an argument is of a wrong type.
    ValueError
        If the instrument is not known and no point spread function is given.
    GeometryError
        If the image is not one of raw counts (negative or not whole: fluxed, smoothed or background-subtracted), has no
        celestial WCS or pixels that are not square, or if exposure, background or mask do not fit it.

    Notes
    -----
    An estimated exposure is the header's time (EXPOSURE, LIVETIME, ONTIME or EXPTIME) within the field of view, times
    an approximate vignetting. The field of view is where counts can be: outside it are the places that belong to a
    square without a single count, so large that within the field it would hold 16. Gaps between chips that are narrower
    than such a square are not seen, except those of EPIC pn in full frame with PA_PNT in the header, which lie where
    the chips end (so does the round field, outside which chips count particles).

    A background that is given is multiplied by the ratio of counts to background outside sources if that differs from
    one by 3 standard deviations and 1 %: ``meta["BKGSCALE"]``. If it lacks more than a tenth of the counts and they may
    as well follow the exposure, it is one of particles alone: what is missing is added in proportion to the exposure,
    and ``meta["BKGADDED"]`` is the share of that. Its error on the scale of sources is measured in either case, and for
    an estimate: `Field.background_error <Field>`.

    The optical axis is taken to be where the telescope points (RA_PNT, DEC_PNT, else RA_NOM, DEC_NOM), else, or where
    that is more than 5 degrees away, the middle of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astropy.wcs import WCS
    >>> from astroclassify.survey import read_field
    >>> wcs = WCS({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5,
    ...            "CRVAL1": 55.7, "CRVAL2": -53.6, "CDELT1": -0.001, "CDELT2": 0.001})
    >>> counts = np.random.default_rng(1).poisson(0.2, (100, 100))
    >>> image = CCDData(counts, unit=u.ct, wcs=wcs, meta={"INSTRUME": "EPN"})
    >>> field = read_field(image, exposure=10 * u.ks)
    >>> field.instrument, field.livetime
    ('EPN', 10000.0)
    """
    path, image = image, _load("image", image)
    if isinstance(path, (str, os.PathLike)):
        image.meta["FILENAME"] = Path(path).name
    pixel = square_pixels(image)
    counts, unusable, flags = _check_counts(image)
    header = read_header(image.meta, image.wcs)
    instrument = instrument_name(header)
    energy_range = _energy_range(energy_range, header)
    psf = _check_psf(psf, instrument, energy_range, header)
    for conflict in header.conflicts:
        warnings.warn(f"image: {conflict}", ImageWarning, stacklevel=2)
    axis = _find_axis(image, header)
    if mask is not None:
        unusable |= _read_mask(mask, image)
        flags |= Flag.MASKED
    counts[unusable] = 0.0
    if exposure is None and image.exposure is None:
        place = celestial(image), axis, pixel
        exposure = estimate_exposure(counts, unusable, _off_axis(image, axis), header, place)
        flags |= Flag.NO_EXPOSURE
    else:
        # An image that was a field once may carry an estimate, and its flag.
        flags &= ~Flag.NO_EXPOSURE if exposure is not None else flags
        exposure = _read_exposure(exposure, image, unusable)
    unusable |= exposure <= 0
    if unusable.all():
        raise GeometryError("exposure and mask leave no usable pixel: do they cover the image?")
    if counts[unusable].sum() > 0.5 * counts.sum():
        warnings.warn(
            f"{counts[unusable].sum():.0f} of {counts.sum():.0f} counts lie where the exposure map is zero",
            ImageWarning,
            stacklevel=2,
        )
    counts, exposure = np.where(unusable, 0.0, counts), np.where(exposure > 0, exposure, 0.0)
    given = image.background if background is None else _read_background(background, image)
    # An image that was a field once may carry an estimate of its background.
    own = given is None or background is None and Flag.NO_BACKGROUND in flags
    if given is not None:
        unusable |= ~np.isfinite(given)
        if unusable.all():
            raise GeometryError("background has no value in any usable pixel: does it cover the image?")
        counts, given = np.where(unusable, 0.0, counts), np.nan_to_num(given)
    meta = plain_meta(image.meta)
    if own:
        fit = fit_background(counts, exposure, unusable, pixel)
        level = fit.model.astype(float) if given is None else given
        error = background_error(counts, fit, pixel, level)
        flags |= Flag.NO_BACKGROUND | (Flag.LARGE_STRUCTURE if fit.large else Flag(0))
    else:
        level, error, facts, found = fit_given(given, counts, exposure, unusable, pixel)
        meta, flags = meta | facts, flags & ~Flag.NO_BACKGROUND | found
    if counts.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    axes = celestial(image), psf, axis
    field = Field(counts, exposure, level, unusable, *axes, energy_range, instrument, flags, meta, error)
    if given is None and has_streaks(field):
        field = replace(field, background=level + out_of_time(field))
    return field


@contextmanager
def _named(name):
    """Put the name of a map that is not the image before the message of its error."""
    try:
        yield
    except GeometryError as error:
        if name == "image":
            raise
        raise GeometryError(f"{name}: {error}") from error


def _load(name, value):
    """Image of a path, HDU, HDUList or NDData."""
    if isinstance(value, (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)):
        value = fits.HDUList([value])
    with _named(name):
        if isinstance(value, (str, os.PathLike)):
            return read_image(value)
        if isinstance(value, fits.HDUList):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FITSFixedWarning)
                return image_from_hdus(value, Path(name))
        if isinstance(value, NDData):
            return as_image(value)
    raise TypeError(f"{name} must be a path, CCDData, FITS HDU{ALSO.get(name, '')}, got {type(value).__name__}")


def _check_counts(image):
    """Counts, unusable pixels and flags of an image; an error where they are not raw counts."""
    counts = image.data * counts_factor(image.unit)
    unusable = np.zeros(counts.shape, bool) if image.mask is None else np.array(image.mask, bool)
    good = counts[~unusable]
    hint = (
        "give the raw counts (with the exposure map as exposure=, a background as background=), not a fluxed, filled, "
        "smoothed or background-subtracted image"
    )
    if np.any(good < 0):
        raise GeometryError(
            f"image must hold counts from zero up, got {np.sum(good < 0)} negative pixels "
            f"(the lowest {good.min():.4g}): {hint}"
        )
    fraction = np.abs(good - np.round(good)) > WHOLE
    if np.all(good < 1):  # fluxes are so small that all would round to zero
        fraction = good > 0
    if np.any(fraction):
        raise GeometryError(
            f"image must hold whole counts, got {np.sum(fraction)} pixels of {np.sum(good > 0)} above zero that are "
            f"not whole (for example {good[fraction][0]:.6g}): {hint}"
        )
    flags = image_flags(image.meta)
    if unusable.any():
        flags |= Flag.MASKED
    return np.where(unusable, 0.0, np.round(counts)), unusable, flags


def _check_psf(psf, instrument, energy_range, header):
    if psf is None:
        if instrument == "UNKNOWN":
            if header.telescope is None and header.instrument is None:
                said = "the header has neither TELESCOP (or MISSION) nor INSTRUME; set them if the instrument is"
            else:
                said = f"the header has TELESCOP {header.telescope} and INSTRUME {header.instrument}, known are"
            raise ValueError(
                "psf must be given (psf=GaussianPsf(6 * u.arcsec), psf=ImagePsf(...); --psf on the command line): "
                f"{said} {', '.join(INSTRUMENTS)}"
            )
        low, high = (1.0, 1.0) if energy_range is None else energy_range.to_value(u.keV)
        energy = np.sqrt(low * high) if low > 0 else high / 2
        return default_psf(instrument, np.clip(energy, 0.1, 10) * u.keV)
    missing = [name for name in ("profile", "encircled", "radius", "limit") if not hasattr(psf, name)]
    if missing:
        raise TypeError(f"psf must be a PSF object such as KingPsf('EPN'), got {type(psf).__name__} without {missing}")
    return psf


def _energy_range(energy_range, header):
    """Band as two energies, from the argument or from the header; None where neither says."""
    if energy_range is not None:
        low, high = check_quantity("energy_range", energy_range, u.keV, positive=True, shape=(2,))
        if low >= high:
            raise ValueError(f"energy_range must rise, got {energy_range}")
        return u.Quantity([low, high], u.keV)
    return None if header.energy_range is None else u.Quantity(header.energy_range, u.keV)


def _find_axis(image, header):
    """Optical axis: where the header says that the telescope points, if that can be true, else the middle."""
    ny, nx = image.shape
    middle = celestial(image).pixel_to_world((nx - 1) / 2, (ny - 1) / 2)
    axis = header.axis()
    return axis if axis is not None and axis.separation(middle.icrs).deg < FARTHEST else middle


def _off_axis(image, axis):
    """Off-axis angle [arcmin] of every pixel, as `Field.off_axis`."""
    column, row = celestial(image).world_to_pixel(axis)
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    return np.hypot(x - column, y - row) * pixel_scale(image).to_value(u.arcmin)


def _on_grid(name, other, image, *, nearest_pixel=False):
    """Data of another image on the pixels of this one, NaN where it has none; and the ratio of the pixels' areas."""
    data = other.data if other.mask is None else np.where(other.mask, np.nan, other.data)
    if not is_celestial(other.wcs):
        if data.shape != image.shape:
            raise GeometryError(
                f"{name} must have a celestial WCS or the image's shape {image.shape}, got shape {data.shape}"
            )
        return data, 1.0
    if same_grid(other.wcs.celestial, data.shape, celestial(image), image.shape):
        return data, 1.0
    x, y = corners(celestial(image), other.wcs.celestial, image.shape)
    moved, share = brightness(
        np.nan_to_num(data, posinf=0.0, neginf=0.0), x, y, valid=None if nearest_pixel else np.isfinite(data)
    )
    if not np.any(share > 0.5):
        raise GeometryError(f"{name} does not overlap the image")
    if nearest_pixel:
        return nearest(data, x, y), 1.0
    return np.where(share > 0.5, moved, np.nan), np.abs(quadrilaterals(x, y))


def _read_mask(mask, image):
    if isinstance(mask, np.ndarray):
        if mask.dtype != bool or mask.shape != image.shape:
            raise GeometryError(
                f"mask must be a bool array of the image's shape {image.shape}, got {mask.dtype} {mask.shape}"
            )
        return mask
    usable, _ = _on_grid("mask", _load("mask", mask), image, nearest_pixel=True)
    return ~(usable > 0)


def _read_background(value, image):
    """Expected counts per pixel on the image's grid, from zero up; NaN where the map has no value."""
    if isinstance(value, np.ndarray) and not isinstance(value, u.Quantity):
        value = SkyImage(value, unit=u.ct)
    other = _load("background", value)
    with _named("background"):
        factor = counts_factor(other.unit)
    data, area = _on_grid("background", other, image)
    return np.where(np.isfinite(data), _not_negative("background", data) * (area * factor), np.nan)


def _read_exposure(exposure, image, unusable):
    """Exposure [s] on the image's grid; one time holds for the field of view that the counts show."""
    if exposure is None:
        return image.exposure
    if isinstance(exposure, u.Quantity) and exposure.isscalar:
        seconds = check_quantity("exposure", exposure, u.s, positive=True)
        return seconds * field_of_view(np.where(unusable, 0.0, image.data), unusable)
    if isinstance(exposure, np.ndarray):
        exposure = SkyImage(exposure, unit=getattr(exposure, "unit", None) or u.dimensionless_unscaled)
    other = _load("exposure", exposure)
    data = _not_negative("exposure", _on_grid("exposure", other, image)[0])
    return exposure_seconds(data, other.unit, image.meta)


def _not_negative(name, data):
    data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
    if data.min() < -ROUNDING * data.max():
        raise GeometryError(f"{name} must not be negative, got values from {data.min():.4g} to {data.max():.4g}")
    return np.maximum(data, 0.0)
