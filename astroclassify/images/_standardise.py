"""Image rules of the package: reading, cutting, putting on a model's grid, and the `Cutout` that carries bands."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM
from astropy.nddata import CCDData
from astropy.wcs.utils import proj_plane_pixel_area
from photutils.aperture import EllipticalAperture

from astroclassify._checks import check_number, check_quantity, shorten
from astroclassify.exceptions import ArgumentError, GeometryError, ImageWarning
from astroclassify.schemes import Flag

from ._checks import (
    EXPOSURE_MAP,
    as_image,
    celestial,
    check_position,
    counts_factor,
    image_flags,
    pixel_scale,
    valid_pixels,
)
from ._files import cutout_to_hdus, image_from_hdus, open_fits, read_image, write_hdus, write_image
from ._headers import Header, has_exposure, read_header
from ._resample import corners, find_pixel, find_sky, resample, same_grid, target_wcs

__all__ = [
    "DEFAULT_COSMOLOGY",
    "Cutout",
    "Geometry",
    "Header",
    "as_image",
    "concentration",
    "cut",
    "pixel_scale",
    "read_header",
    "read_image",
    "standardise",
    "write_image",
]

DEFAULT_COSMOLOGY = FlatLambdaCDM(H0=67.74, Om0=0.3089, name="IllustrisTNG")
"""Flat cosmology of IllustrisTNG (Planck 2015; Su et al. 2020, section 2)."""

LOW_COUNTS = 100
"""An image with fewer counts than this is flagged ``low_counts``."""

MIN_VALID = 0.05
"""`standardise` refuses an image with valid pixels in less than this fraction of the model's field."""


@dataclass(frozen=True)
class Geometry:
    """
    Grid of a model's input: how large a square, in how many pixels.

    Parameters
    ----------
    width : `~astropy.units.Quantity`
        Side along x, a length (then a redshift is needed to use it) or an angle. Pixels are square.
    shape : tuple of int
        Pixels along y and x.

    Raises
    ------
    TypeError, ValueError
        If the width is not a positive length or angle or the shape not two whole numbers from 8 to 8192.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.images import Geometry
    >>> Geometry(1 * u.Mpc, (256, 256)).pixel_width(0.05).round(2)
    <Quantity 3.87 arcsec>
    """

    width: u.Quantity
    shape: tuple = (256, 256)

    def __post_init__(self):
        unit = u.arcmin if getattr(self.width, "unit", u.kpc).is_equivalent(u.arcmin) else u.kpc
        check_quantity("width", self.width, unit, positive=True, shape=())
        shape = tuple(self.shape)
        if len(shape) != 2 or not all(isinstance(n, (int, np.integer)) and 8 <= n <= 8192 for n in shape):
            raise ValueError(f"shape must be two whole numbers from 8 to 8192, got {self.shape!r}")
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))

    @property
    def is_physical(self):
        """Whether the width is a length, so that a redshift is needed."""
        return self.width.unit.is_equivalent(u.kpc)

    def pixel_width(self, redshift=None, *, cosmology=DEFAULT_COSMOLOGY):
        """
        Angular side of a pixel.

        Parameters
        ----------
        redshift : float, optional
            Redshift of the source; needed where the width is a length.
        cosmology : `~astropy.cosmology.FLRW`, optional
            Gives the angular diameter distance.

        Returns
        -------
        `~astropy.units.Quantity`
            In arcsec.

        Raises
        ------
        GeometryError
            If a redshift is needed and is missing or not above zero.
        """
        width = self.width / self.shape[1]
        if not self.is_physical:
            return width.to(u.arcsec)
        if redshift is None:
            raise GeometryError(
                f"redshift is needed to put an image on a grid of {self.width}: give it or the header keyword REDSHIFT"
            )
        redshift = _check_redshift(redshift)
        return (width / cosmology.angular_diameter_distance(redshift)).to(u.arcsec, u.dimensionless_angles())

    def to_dict(self):
        """Return the geometry as plain types, for JSON."""
        return {"width": float(self.width.value), "unit": str(self.width.unit), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, mapping):
        """Build a geometry from what `to_dict` gives."""
        try:
            return cls(float(mapping["width"]) * u.Unit(str(mapping["unit"])[:64]), tuple(mapping["shape"]))
        except (KeyError, TypeError, ValueError) as error:
            raise GeometryError(f"a geometry needs width, unit and shape, got {str(mapping)[:200]}") from error


def _check_redshift(redshift):
    if np.any(getattr(redshift, "mask", False)):
        raise GeometryError(f"redshift must not be masked, got {redshift!r}")
    try:
        value = float(redshift)
    except (TypeError, ValueError):
        raise GeometryError(f"redshift must be a number above 0, got {redshift!r}") from None
    if not 0 < value < 20:
        raise GeometryError(f"redshift must lie between 0 and 20, got {redshift!r}")
    return value


def cut(image, position, size):
    """
    Cut a rectangle out of an image; unit, mask, uncertainty, WCS and exposure map stay with it.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        An image with a celestial WCS.
    position : `~astropy.coordinates.SkyCoord`
        The middle of the cutout.
    size : `~astropy.units.Quantity`
        Side, or sides along y and x: an angle.

    Returns
    -------
    `~astropy.nddata.CCDData`
        The part that lies on the image; ``meta["FLAGS"]`` has ``off_edge`` if it is not all of it.

    Raises
    ------
    TypeError
        If the position is not one SkyCoord.
    GeometryError
        If there is no celestial WCS or no overlap.
    """
    image = as_image(image)
    wcs = celestial(image)
    sides = check_quantity("size", size, u.deg, positive=True)
    if np.shape(sides) not in ((), (2,)):
        raise ArgumentError(f"size must be one angle or two (along y and x), got {shorten(size)}")
    check_position("position", position)
    place = find_pixel(wcs, position)[::-1]
    slices, trimmed = [], False
    steps = _pixel_sides(wcs, *place[::-1])
    for middle, side, step, length in zip(place, np.broadcast_to(sides, 2), steps, image.shape, strict=True):
        if not np.isfinite(middle + step):
            raise GeometryError(f"position {position.to_string('hmsdms')} lies off the image")
        n = max(1, round(side / step))
        start = int(np.ceil(middle - n / 2))
        if start + n <= 0 or start >= length:
            raise GeometryError(f"position {position.to_string('hmsdms')} lies off the image")
        trimmed |= start < 0 or start + n > length
        slices.append(slice(max(start, 0), min(start + n, length)))
    part = image[tuple(slices)]
    part.meta = dict(image.meta)
    if EXPOSURE_MAP in part.meta:
        part.meta[EXPOSURE_MAP] = part.meta[EXPOSURE_MAP][tuple(slices)]
    if trimmed:
        part.meta["FLAGS"] = (image_flags(part.meta) | Flag.OFF_EDGE).value
    return part


def _pixel_sides(wcs, x, y):
    """Sides [deg] of the pixel at a place, along y and x."""
    ends = wcs.pixel_to_world([x, x, x - 0.5, x + 0.5], [y - 0.5, y + 0.5, y, y])
    return ends[::2].separation(ends[1::2]).deg


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
    `~astropy.nddata.CCDData`
        Counts on the grid; a plate's densities are averaged instead of shared out. Pixels less than half of which come
        from valid pixels of the image are masked.
        ``meta["FLAGS"]`` holds the sum of `~astroclassify.schemes.Flag` bits that apply, ``meta["exposure_map"]`` the
        exposure on the grid if one came. Uncertainty is dropped with a warning: the classifiers take counts.

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
    image = as_image(image)
    wcs = celestial(image)
    plate = image.unit == u.adu
    factor = 1.0 if plate else counts_factor(image.unit)
    if redshift is not None:
        redshift = _check_redshift(redshift)
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
    if same_grid(wcs, image.shape, target, geometry.shape):
        valid, covered, target = valid_pixels(image).astype(float), np.ones(image.shape), wcs
        data, exposure = np.where(valid > 0, image.data, 0.0), image.meta.get(EXPOSURE_MAP)
    else:
        x, y = corners(target, wcs, geometry.shape)
        seen = np.isfinite(x) & np.isfinite(y)
        if seen.any() and min(np.ptp(x[seen]), np.ptp(y[seen])) < 2:
            raise GeometryError("image has less than two pixels across the model's field")
        data, valid, covered, exposure = resample(
            image.data, x, y, valid=valid_pixels(image), exposure=image.meta.get(EXPOSURE_MAP), mean=plate
        )
    data = data * factor
    mask = valid < 0.5
    if np.mean(~mask) < MIN_VALID:
        raise GeometryError(
            f"image has valid pixels in only {np.mean(~mask):.1%} of the model's field "
            f"({geometry.width}; at least {MIN_VALID:.0%} is needed)"
        )
    flags = image_flags(image.meta) | _input_flags(image, wcs, pixel) | _grid_flags(data, valid, covered)
    if plate:  # neither has a meaning for densities
        flags &= ~(Flag.NO_EXPOSURE | Flag.LOW_COUNTS)
    meta = {**image.meta, "FLAGS": flags.value}
    if redshift is not None:
        meta["REDSHIFT"] = float(redshift)
    if exposure is not None:
        meta[EXPOSURE_MAP] = exposure
    unit = u.adu if plate else u.ct
    return CCDData(data, unit=unit, mask=mask if mask.any() else None, wcs=target, meta=meta)


def _input_flags(image, wcs, pixel):
    flags = Flag(0)
    if np.any(image.data[valid_pixels(image)] < 0):
        flags |= Flag.NEGATIVE
    if not has_exposure(image.meta):
        flags |= Flag.NO_EXPOSURE
    if proj_plane_pixel_area(wcs) > (1.5 * pixel.to_value(u.deg)) ** 2:
        flags |= Flag.COARSE_PIXELS
    return flags


def _grid_flags(data, valid, covered):
    flags = Flag(0)
    if covered.min() < 0.5:
        flags |= Flag.OFF_EDGE
    if np.any(covered - valid > 1e-6):
        flags |= Flag.MASKED
    if data.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    return flags


def concentration(
    image,
    *,
    redshift=None,
    inner=40 * u.kpc,
    outer=400 * u.kpc,
    background=0.0,
    cosmology=DEFAULT_COSMOLOGY,
):
    """
    Surface-brightness concentration: counts within the inner radius over counts within the outer one.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Counts, source in the middle, celestial WCS.
    redshift : float, optional
        Redshift of the source; by default ``image.meta["REDSHIFT"]``.
    inner, outer : `~astropy.units.Quantity`, optional
        The two radii, lengths.
    background : float, optional
        Counts per pixel to take off first.
    cosmology : `~astropy.cosmology.FLRW`, optional
        Turns kpc into arcsec.

    Returns
    -------
    float
        C_SB: from 0 to 1, but for noise where a background was taken off. Masked pixels count neither as signal nor
        as background.

    Raises
    ------
    ValueError
        If the background is not a finite number or the inner radius not smaller than the outer one.
    GeometryError
        If the outer circle does not fit on the image or holds no counts above the background.

    References
    ----------
    Santos et al. 2008, A&A 483, 35, with integrated surface brightness and the radii of Su et al. 2020, section 3.
    """
    image = as_image(image)
    redshift = image.meta.get("REDSHIFT") if redshift is None else redshift
    outer_kpc = check_quantity("outer", outer, u.kpc, positive=True, shape=())
    inner_kpc = check_quantity("inner", inner, u.kpc, positive=True, shape=())
    if inner_kpc >= outer_kpc:
        raise ValueError(f"inner must be smaller than outer ({outer}), got {inner}")
    background = check_number("background", background)
    # Angle of a kiloparsec, from that of a pixel of one kiloparsec.
    kpc = Geometry(8 * u.kpc, (8, 8)).pixel_width(redshift, cosmology=cosmology).to_value(u.deg)
    # A circle on the sky is an ellipse in pixels that are not square: half axes per degree, and the first one's angle.
    _, degrees, axes = np.linalg.svd(celestial(image).pixel_scale_matrix)
    a, b, theta = 1 / degrees[1], 1 / degrees[0], np.arctan2(axes[1, 1], axes[1, 0])
    # Half of the box around it, along x and y.
    reach = outer_kpc * kpc * np.hypot(a * axes[1], b * axes[0])
    if np.any(reach > np.array(image.shape[::-1]) / 2):
        raise GeometryError(f"outer radius {outer} does not fit on the image ({reach.max():.0f} px)")
    middle = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    data = np.where(valid_pixels(image), image.data - background, 0.0)
    # Exact area weights from the aperture's mask: the one way that every photutils since 1.13 has without deprecation.
    apertures = (EllipticalAperture(middle, r * a, r * b, theta=theta) for r in (outer_kpc * kpc, inner_kpc * kpc))
    total, part = (float(np.sum(data * each.to_mask(method="exact").to_image(data.shape))) for each in apertures)
    if total <= 0:
        raise GeometryError("image has no counts above the background within the outer radius")
    return part / total


_BAND = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(frozen=True)
class Cutout:
    """
    Images of one source in one or more bands on one common grid.

    Parameters
    ----------
    source_id : str
        Name of the source.
    bands : dict
        Band name (``"xray"``, ``"optical"``: up to 16 lower-case letters and digits) -> `~astropy.nddata.CCDData`, all
        of one shape.

    Raises
    ------
    GeometryError
        If there is no band, a name is not allowed, or the shapes differ.
    """

    source_id: str
    bands: dict

    def __post_init__(self):
        if not self.bands:
            raise GeometryError("bands must hold at least one image")
        for name in self.bands:
            if not isinstance(name, str) or not _BAND.fullmatch(name):
                raise GeometryError(f"bands must be named by up to 16 lower-case letters and digits, got {name!r}")
        object.__setattr__(self, "bands", {name: as_image(image) for name, image in self.bands.items()})
        shapes = {name: image.shape for name, image in self.bands.items()}
        if len(set(shapes.values())) > 1:
            raise GeometryError(f"bands must have one common shape, got {shapes}")

    def write(self, path, *, overwrite=False):
        """
        Write the cutout as one multi-extension FITS file.

        Parameters
        ----------
        path : str or path-like
            The file.
        overwrite : bool, optional
            Whether a file of that name may be replaced.

        Returns
        -------
        `~pathlib.Path`
            The file.

        Raises
        ------
        OutputError
            If the file exists already or cannot be written.
        """
        return write_hdus(cutout_to_hdus(self.source_id, self.bands), path, overwrite=overwrite)

    @classmethod
    def read(cls, path):
        """
        Read a cutout that `write` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        Cutout
            The cutout.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        GeometryError
            If the file is damaged or not a cutout.
        """
        with open_fits(path) as hdus:
            header = hdus[0].header
            for key in ("SOURCEID", "BANDS"):
                if key not in header:
                    raise GeometryError(f"{str(path)!r} is not a cutout file: it has no keyword {key}")
            bands = {
                name: image_from_hdus(hdus, Path(path), hdu=name.upper(), prefix=f"{name.upper()}_")
                for name in str(header["BANDS"]).split(",")
            }
            return cls(str(header["SOURCEID"]), bands)
