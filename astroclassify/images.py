"""Image rules of the package: reading, cutting, putting on a model's grid, and the `Cutout` that carries bands."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from astropy.nddata import CCDData, Cutout2D, NDData, NoOverlapError
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales
from photutils.aperture import CircularAperture
from reproject import reproject_interp

from .exceptions import GeometryError, ImageWarning, check_quantity
from .schemes import Flag
from .tables import write_beside

__all__ = [
    "DEFAULT_COSMOLOGY",
    "Cutout",
    "Geometry",
    "as_image",
    "concentration",
    "cut",
    "pixel_scale",
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

_COUNT_UNITS = {"count", "counts", "ct", "cts", "photon", "photons", "ph", "counts/pixel", "count/pixel", "ct/pixel"}
_EXPOSURE_KEYS = ("EXPOSURE", "LIVETIME", "ONTIME", "EXPTIME")
_STRUCTURE_KEYS = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "BSCALE", "BZERO", "BLANK",
                   "EXTNAME", "CHECKSUM", "DATASUM", "BUNIT", "COMMENT", "HISTORY", "")  # fmt: skip
_EXPOSURE_MAP = "exposure_map"


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
            return cls(float(mapping["width"]) * u.Unit(str(mapping["unit"])), tuple(mapping["shape"]))
        except (KeyError, TypeError, ValueError) as error:
            raise GeometryError(f"a geometry needs width, unit and shape, got {mapping!r}") from error


def _check_redshift(redshift):
    try:
        value = float(redshift)
    except (TypeError, ValueError):
        raise GeometryError(f"redshift must be a number above 0, got {redshift!r}") from None
    if not 0 < value < 20:
        raise GeometryError(f"redshift must lie between 0 and 20, got {redshift!r}")
    return value


def as_image(image):
    """
    Check that something is an image that the package can use.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData` or `~astropy.nddata.NDData`
        Two-dimensional, with a unit.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Native-endian float64 data; pixels that are not finite are masked and flagged. The input is not changed.

    Raises
    ------
    TypeError
        If it is not NDData.
    GeometryError
        If it is empty, not two-dimensional, or has no valid pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astroclassify.images import as_image
    >>> as_image(CCDData(np.array([[1, 2], [3, 4]]), unit=u.ct)).data.dtype
    dtype('float64')
    """
    if not isinstance(image, NDData):
        raise TypeError(f"image must be CCDData or NDData, got {type(image).__name__}")
    if np.ndim(image.data) != 2 or 0 in np.shape(image.data):
        raise GeometryError(f"image must be two-dimensional and not empty, got shape {np.shape(image.data)}")
    if image.unit is None:
        raise GeometryError("image must have a unit, for example astropy.units.ct")
    data = np.array(image.data, dtype=np.float64)
    meta = dict(image.meta or {})
    mask = np.zeros(data.shape, bool) if image.mask is None else np.broadcast_to(image.mask, data.shape).astype(bool)
    bad = ~np.isfinite(data)
    if np.any(bad & ~mask):
        meta["FLAGS"] = int(meta.get("FLAGS", 0)) | Flag.NON_FINITE.value
    mask = mask | bad
    if mask.all():
        raise GeometryError("image has no valid pixel: all are masked or not finite")
    data[bad] = 0.0
    result = CCDData(data, unit=image.unit, mask=mask if mask.any() else None, wcs=image.wcs, meta=meta)
    result.uncertainty = image.uncertainty
    return result


def _find_image(hdus, hdu, path):
    """First HDU (or the one asked for) that holds an image once axes of length one are dropped."""
    if hdu is not None:
        try:
            candidates = [hdus[hdu]]
        except (KeyError, IndexError):
            raise GeometryError(f"hdu: {path} has no HDU {hdu!r}, only {[h.name or i for i, h in enumerate(hdus)]}") from None
    else:
        candidates = hdus
    shapes = []
    for candidate in candidates:
        if not candidate.is_image or candidate.data is None:
            continue
        if np.ndim(np.squeeze(candidate.data)) == 2:
            return candidate
        shapes.append(candidate.data.shape)
    what = f"arrays of shape {shapes}" if shapes else "no image, only " + ", ".join(type(h).__name__ for h in candidates)
    raise GeometryError(f"{path} has no two-dimensional image: it holds {what}")


def _read_unit(header, path):
    """Unit of an image and whether it had to be assumed."""
    text = str(header.get("BUNIT", "")).strip()
    if text.lower() in _COUNT_UNITS:
        return u.ct, False
    try:
        unit = u.Unit(text)
    except (ValueError, TypeError):
        warnings.warn(f"{path}: BUNIT {text!r} is not a unit; counts are assumed", ImageWarning, stacklevel=4)
        return u.ct, True
    return (u.ct, True) if unit == u.dimensionless_unscaled else (unit, False)


def _read_meta(header):
    """Header entries as a dict, without those that describe the array or the coordinate system."""
    header = header.copy(strip=True)
    wcs_keys = set(WCS(header).to_header(relax=True)) if "CTYPE1" in header else set()
    meta = {}
    for key, value in header.items():
        if key in wcs_keys or key in _STRUCTURE_KEYS or isinstance(value, fits.card.Undefined):
            continue
        if key.startswith(("NAXIS", "CTYPE", "CUNIT", "CRPIX", "CRVAL", "CDELT", "CROTA", "CD1_", "CD2_", "PC1_", "PC2_")):
            continue
        if key in ("RADECSYS", "RADESYS", "EQUINOX"):
            continue
        meta[key] = value
    for key in ("HISTORY", "COMMENT"):
        if key in header:
            meta[key] = "\n".join(str(line) for line in header[key])
    return meta


def read_image(path, *, hdu=None, exposure=None):
    """
    Read an image as observatories write them.

    Takes integers, big-endian floats, images in a later HDU or compressed, axes of length one, missing units and
    deprecated keywords. NaN pixels are masked and flagged, never replaced in silence.

    Parameters
    ----------
    path : str or path-like
        A FITS file.
    hdu : int or str, optional
        Which HDU; by default the first that holds a two-dimensional image.
    exposure : str or path-like, optional
        Exposure map [s] on the same pixels, in a file of its own. An extension ``EXPMAP`` is found by itself.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Counts (or the file's unit), celestial WCS if the file has one, the header in ``meta``; ``meta["FLAGS"]`` says
        what had to be assumed, ``meta["exposure_map"]`` holds the exposure map [s] where there is one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    GeometryError
        If the file is damaged, is not FITS, or holds no two-dimensional image with a valid pixel.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}")
    try:
        with warnings.catch_warnings():
            # Deprecated keywords (RADECSYS, missing units of the WCS) are repaired by astropy: nothing to tell.
            warnings.simplefilter("ignore", FITSFixedWarning)
            warnings.filterwarnings("ignore", category=fits.verify.VerifyWarning)
            warnings.filterwarnings("error", "(?s).*truncated", AstropyUserWarning)
            with fits.open(path, memmap=False) as hdus:
                return _image_from_hdus(hdus, hdu, exposure, path)
    except GeometryError:
        raise
    except (OSError, TypeError, ValueError, AstropyUserWarning, EOFError) as error:
        raise GeometryError(f"{str(path)!r} cannot be read as FITS: {str(error).splitlines()[0]}") from error


def _image_from_hdus(hdus, hdu, exposure, path):
    found = _find_image(hdus, hdu, str(path))
    data = np.squeeze(found.data).astype(np.float64)
    unit, assumed = _read_unit(found.header, path)
    meta = _read_meta(found.header)
    if assumed:
        meta["FLAGS"] = int(meta.get("FLAGS", 0)) | Flag.NO_UNIT.value
    wcs = WCS(found.header, fobj=hdus).celestial
    mask = None
    if "MASK" in hdus and hdus["MASK"] is not found and hdus["MASK"].data.shape == data.shape:
        mask = hdus["MASK"].data.astype(bool)
    if "EXPMAP" in hdus and exposure is None:
        meta[_EXPOSURE_MAP] = _check_exposure(hdus["EXPMAP"].data, data.shape, path)
    elif exposure is not None:
        meta[_EXPOSURE_MAP] = _check_exposure(read_image(exposure).data, data.shape, exposure)
    return as_image(CCDData(data, unit=unit, mask=mask, wcs=wcs if wcs.has_celestial else None, meta=meta))


def _check_exposure(data, shape, path):
    data = np.array(data, dtype=np.float64)
    if data.shape != shape:
        raise GeometryError(f"exposure map {str(path)!r} must have the image's shape {shape}, got {data.shape}")
    return np.where(np.isfinite(data), data, 0.0)


def _to_hdus(image, name=None):
    """Primary or named HDU of an image and its companions (mask, exposure map)."""
    header = fits.Header()
    for key, value in image.meta.items():
        if key == _EXPOSURE_MAP:
            continue
        if key in ("HISTORY", "COMMENT"):
            for line in str(value).splitlines():
                header[key] = line
        elif isinstance(value, tuple):  # value and comment
            header[key] = value
        else:
            header[key] = value.item() if isinstance(value, np.generic) else value
    if image.wcs is not None:
        header.update(image.wcs.to_header(relax=True))
    header["BUNIT"] = image.unit.to_string("fits")
    prefix = "" if name is None else f"{name.upper()}_"
    hdus = [
        fits.PrimaryHDU(image.data, header) if name is None else fits.ImageHDU(image.data, header, name=name.upper())
    ]
    if image.mask is not None:
        hdus.append(fits.ImageHDU(image.mask.astype(np.uint8), name=f"{prefix}MASK"))
    if _EXPOSURE_MAP in image.meta:
        exposure = fits.ImageHDU(image.meta[_EXPOSURE_MAP].astype(np.float32), name=f"{prefix}EXPMAP")
        exposure.header["BUNIT"] = "s"
        hdus.append(exposure)
    return hdus


def write_image(image, path, *, overwrite=False):
    """
    Write an image as FITS so that the file is whole or not there.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image; its mask and exposure map become the extensions ``MASK`` and ``EXPMAP``. Uncertainty is not written.
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
    hdus = fits.HDUList(_to_hdus(image))
    write_beside(path, lambda temporary: hdus.writeto(temporary, overwrite=True), overwrite=overwrite)
    return Path(path)


def _celestial(image):
    if image.wcs is None or not image.wcs.has_celestial:
        raise GeometryError("image must have a celestial WCS (keywords CTYPE1 = 'RA---TAN' and so on)")
    return image.wcs.celestial


def pixel_scale(image):
    """
    Side of a pixel at the reference point.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        An image with a celestial WCS.

    Returns
    -------
    `~astropy.units.Quantity`
        Geometric mean of the two sides, in arcsec.

    Raises
    ------
    GeometryError
        If there is no celestial WCS.
    """
    return np.sqrt(np.prod(proj_plane_pixel_scales(_celestial(image)))) * u.deg.to(u.arcsec) * u.arcsec


def _sliced(image, slices):
    """Part of an image with everything it carries (slicing a CCDData keeps unit, mask, uncertainty and WCS)."""
    part = image[slices]
    part.meta = dict(image.meta)
    if _EXPOSURE_MAP in part.meta:
        part.meta[_EXPOSURE_MAP] = part.meta[_EXPOSURE_MAP][slices]
    return part


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
    GeometryError
        If there is no celestial WCS or no overlap.
    """
    wcs = _celestial(image)
    check_quantity("size", size, u.arcsec, positive=True)
    try:
        area = Cutout2D(image.data, position, size, wcs=wcs, mode="trim")
        whole = Cutout2D(np.broadcast_to(0, image.shape), position, size, wcs=wcs, mode="partial", fill_value=0)
    except NoOverlapError:
        raise GeometryError(f"position {position.to_string('hmsdms')} lies off the image") from None
    part = _sliced(image, area.slices_original)
    if area.data.shape != whole.data.shape:
        part.meta["FLAGS"] = int(part.meta.get("FLAGS", 0)) | Flag.OFF_EDGE.value
    return part


def _target_wcs(centre, pixel, shape):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [centre.icrs.ra.deg, centre.icrs.dec.deg]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-pixel.to_value(u.deg), pixel.to_value(u.deg)]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def _same_grid(wcs, shape, target, target_shape):
    """Whether the two grids agree to a tenth of a pixel at the corners (exact for grids that the package wrote)."""
    if shape != target_shape:
        return False
    y, x = np.array([0, 0, shape[0] - 1, shape[0] - 1]), np.array([0, shape[1] - 1, 0, shape[1] - 1])
    there = target.world_to_pixel(wcs.pixel_to_world(x, y))
    return bool(np.all(np.hypot(there[0] - x, there[1] - y) < 0.1))


def standardise(image, geometry, *, redshift=None, centre=None, cosmology=DEFAULT_COSMOLOGY):
    """
    Put an image on a model's grid: north up, given size in kpc or arcmin, counts conserved.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        Counts, with a celestial WCS.
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
        Counts on the grid. Pixels less than half of which come from valid pixels of the image are masked. ``meta["FLAGS"]`` holds the sum
        of `~astroclassify.schemes.Flag` bits that apply, ``meta["exposure_map"]`` the exposure on the grid if one came.
        Uncertainty is dropped with a warning: the classifiers take counts.

    Raises
    ------
    GeometryError
        If there is no celestial WCS, no redshift where one is needed, a unit other than counts, or too little overlap.

    Notes
    -----
    Each pixel's counts are shared among the pixels of the grid that it overlaps, so counts inside the grid are conserved
    to rounding. It does what `reproject.reproject_exact` does on counts per solid angle, several times faster. An image
    that is on the grid already, to a tenth of a pixel, is not resampled.
    """
    image = as_image(image)
    wcs = _celestial(image)
    if not image.unit.is_equivalent(u.ct) and image.unit != u.photon:
        raise GeometryError(f"image must be in counts (unit ct), got {image.unit}; a rate must be multiplied by exposure")
    if redshift is None:
        redshift = image.meta.get("REDSHIFT")
    pixel = geometry.pixel_width(redshift, cosmology=cosmology)
    if image.uncertainty is not None:
        warnings.warn("the uncertainty of the image is not used", ImageWarning, stacklevel=2)
    flags = Flag(int(image.meta.get("FLAGS", 0))) | _input_flags(image, pixel)
    if centre is None:
        centre = wcs.pixel_to_world((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    target = _target_wcs(centre, pixel, geometry.shape)
    if _same_grid(wcs, image.shape, target, geometry.shape):
        valid, covered = _valid(image).astype(float), np.ones(image.shape)
        data = np.where(valid > 0, image.data, 0.0)
        exposure, target = image.meta.get(_EXPOSURE_MAP), wcs
    else:
        data, valid, covered, exposure = _resample(image, wcs, target, geometry.shape, centre)
    if covered.min() < 0.5:
        flags |= Flag.OFF_EDGE
    mask = valid < 0.5
    if np.any(mask & (covered >= 0.5)):
        flags |= Flag.MASKED
    if np.mean(~mask) < MIN_VALID:
        raise GeometryError(
            f"image has valid pixels in only {np.mean(~mask):.1%} of the model's field "
            f"({geometry.width}; at least {MIN_VALID:.0%} is needed)"
        )
    if data.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    meta = {**image.meta, "FLAGS": flags.value}
    if redshift is not None:
        meta["REDSHIFT"] = float(redshift)
    if exposure is not None:
        meta[_EXPOSURE_MAP] = exposure
    return CCDData(data, unit=u.ct, mask=mask if mask.any() else None, wcs=target, meta=meta)


def _input_flags(image, pixel):
    flags = Flag(0)
    if np.any(image.data[_valid(image)] < 0):
        flags |= Flag.NEGATIVE
    if _EXPOSURE_MAP not in image.meta and not any(key in image.meta for key in _EXPOSURE_KEYS):
        flags |= Flag.NO_EXPOSURE
    if pixel_scale(image) > 1.5 * pixel:
        flags |= Flag.COARSE_PIXELS
    return flags


def _valid(image):
    """Pixels that are neither masked nor without exposure."""
    valid = np.ones(image.shape, bool) if image.mask is None else ~image.mask
    if _EXPOSURE_MAP in image.meta:
        valid &= image.meta[_EXPOSURE_MAP] > 0
    return valid


def _resample(image, wcs, target, shape, centre):
    """Counts, valid fraction and covered fraction on the target grid, and the exposure map there."""
    # Only the part under the target (its diagonal, and two of the coarser pixels) is worth resampling.
    scale = np.sqrt(np.prod(proj_plane_pixel_scales(target)))
    part = cut(image, centre, 1.5 * scale * max(shape) * u.deg + 4 * pixel_scale(image))
    wcs = part.wcs.celestial
    ratio = float(pixel_scale(part).to_value(u.deg) / scale)
    y, x = np.mgrid[0 : part.shape[0] + 1, 0 : part.shape[1] + 1] - 0.5
    corners = target.world_to_pixel(wcs.pixel_to_world(x, y))
    valid = _valid(part)
    planes = np.stack([np.where(valid, part.data, 0.0), valid * ratio**2, np.full(part.shape, ratio**2)])
    counts, fraction, covered = _deposit(planes, *corners, ratio, shape)
    exposure = part.meta.get(_EXPOSURE_MAP)
    if exposure is not None:
        exposure = np.nan_to_num(reproject_interp((exposure, wcs), target, shape_out=shape, return_footprint=False))
    return counts, fraction, covered, exposure


def _deposit(planes, x, y, ratio, shape):
    """
    Share the content of source pixels among the target pixels that they overlap.

    ``planes`` (n, ny, nx) are contents of the source pixels, ``x``, ``y`` (ny + 1, nx + 1) their corners in target
    pixels, ``ratio`` the side of a source pixel in target pixels. Each source pixel is split into equal squares of at
    most half a target pixel, each of which is shared by area as if its sides lay along the target's: exact for grids
    that are not rotated, and whatever falls inside the target is conserved to rounding for any.
    """
    n_split = max(1, int(np.ceil(2 * ratio)))
    half = 0.5 * ratio / n_split
    n_y, n_x = shape
    result = np.zeros((len(planes), n_y * n_x))
    contents = planes.reshape(len(planes), -1) / n_split**2
    for fy, fx in np.ndindex(n_split, n_split):
        wy, wx = (fy + 0.5) / n_split, (fx + 0.5) / n_split
        middles = []
        for corner in (x, y):
            low = corner[:-1, :-1] * (1 - wx) + corner[:-1, 1:] * wx
            high = corner[1:, :-1] * (1 - wx) + corner[1:, 1:] * wx
            middles.append((low * (1 - wy) + high * wy).ravel())
        for column, share_x in _shares(middles[0], half):
            for row, share_y in _shares(middles[1], half):
                inside = (column >= 0) & (column < n_x) & (row >= 0) & (row < n_y)
                index = row[inside] * n_x + column[inside]
                share = (share_x * share_y)[inside]
                for plane, content in zip(result, contents, strict=True):
                    plane += np.bincount(index, content[inside] * share, minlength=n_y * n_x)
    return result.reshape(-1, n_y, n_x)


def _shares(middle, half):
    """The pixels under an interval of half width ``half`` (at most 0.5) along one axis, and the share of each."""
    first = np.floor(middle - half + 0.5)
    # How much of the interval lies beyond the upper edge of its first pixel.
    beyond = np.clip((middle + half - (first + 0.5)) / (2 * half), 0.0, 1.0)
    first = first.astype(np.int64)
    return (first, 1.0 - beyond), (first + 1, beyond)


def concentration(image, *, redshift=None, inner=40 * u.kpc, outer=400 * u.kpc, background=0.0, cosmology=DEFAULT_COSMOLOGY):
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
        C_SB. Masked pixels count neither as signal nor as background.

    Raises
    ------
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
    # Kiloparsecs per pixel: the inverse of what a grid of one-kiloparsec pixels would have in arcsec.
    kpc = Geometry(8 * u.kpc, (8, 8)).pixel_width(redshift, cosmology=cosmology)
    scale = (kpc / pixel_scale(image)).to_value(u.dimensionless_unscaled)
    middle = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    if outer_kpc * scale > min(image.shape) / 2:
        raise GeometryError(f"outer radius {outer} does not fit on the image ({outer_kpc * scale:.0f} px)")
    data = image.data - background
    total, part = (
        float(CircularAperture(middle, radius * scale).do_photometry(data, mask=image.mask)[0][0])
        for radius in (outer_kpc, inner_kpc)
    )
    if total <= 0:
        raise GeometryError("image has no counts above the background within the outer radius")
    return part / total


@dataclass(frozen=True)
class Cutout:
    """
    Images of one source in one or more bands on one common grid.

    Parameters
    ----------
    source_id : str
        Name of the source.
    bands : dict
        Band name (``"xray"``, ``"optical"``) -> `~astropy.nddata.CCDData`, all of one shape.

    Raises
    ------
    GeometryError
        If there is no band or the shapes differ.
    """

    source_id: str
    bands: dict

    def __post_init__(self):
        if not self.bands:
            raise GeometryError("bands must hold at least one image")
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
        """
        primary = fits.PrimaryHDU()
        primary.header["SOURCEID"] = self.source_id
        primary.header["BANDS"] = ",".join(self.bands)
        hdus = fits.HDUList([primary, *(hdu for name, image in self.bands.items() for hdu in _to_hdus(image, name))])
        write_beside(path, lambda temporary: hdus.writeto(temporary, overwrite=True), overwrite=overwrite)
        return Path(path)

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
        GeometryError
            If the file is not a cutout.
        """
        try:
            header = fits.getheader(path)
            source_id, names = str(header["SOURCEID"]), str(header["BANDS"]).split(",")
        except (OSError, KeyError) as error:
            raise GeometryError(f"{str(path)!r} is not a cutout file: {error}") from error
        bands = {}
        with fits.open(path, memmap=False) as hdus:
            for name in names:
                image = read_image(path, hdu=name.upper())
                if f"{name.upper()}_MASK" in hdus:
                    image.mask = hdus[f"{name.upper()}_MASK"].data.astype(bool)
                if f"{name.upper()}_EXPMAP" in hdus:
                    image.meta[_EXPOSURE_MAP] = hdus[f"{name.upper()}_EXPMAP"].data.astype(np.float64)
                bands[name] = image
        return cls(source_id, bands)
