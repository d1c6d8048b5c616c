"""Images on disk: FITS as observatories write it, and the files that the package writes."""

import functools
import re
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.utils.exceptions import AstropyDeprecationWarning, AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning, Wcsprm

from astroclassify._checks import first_line
from astroclassify.exceptions import GeometryError, ImageWarning
from astroclassify.schemes import Flag
from astroclassify.tables import write_beside

from ._checks import (
    EXPOSURE_MAP,
    as_image,
    check_image,
    full_mask,
    image_flags,
    is_time_unit,
    plain_exposure,
    plane,
)
from ._headers import parse_unit
from .events._image import image_of_events, only_events

# What astropy raises for a damaged file (the warning that a file is truncated is turned into an error).
_DAMAGE = (OSError, TypeError, ValueError, EOFError, LookupError, zlib.error, fits.VerifyError, AstropyUserWarning)
_COUNT_UNITS = (u.ct, u.photon, u.ct / u.pix, u.photon / u.pix)
# Keywords of the array, and those of the coordinate system, which are written anew with them.
_ARRAY_KEYS = frozenset(
    "SIMPLE XTENSION BITPIX EXTEND PCOUNT GCOUNT GROUPS BSCALE BZERO BLANK EXTNAME EXTVER EXTLEVEL CHECKSUM DATASUM "
    "BUNIT COMMENT HISTORY".split()
) | {""}
_STRUCTURE_KEYS = _ARRAY_KEYS | frozenset(
    "NAXIS WCSAXES RADECSYS RADESYS EQUINOX EPOCH LONPOLE LATPOLE WCSNAME SPECSYS SSYSOBS SSYSSRC VELOSYS VELREF "
    "ZSOURCE VELANGL RESTFRQ RESTFREQ RESTWAV".split()
)
_LINEAR_KEY = re.compile(
    r"(NAXIS|CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CNAME|CRDER|CSYER)\d+[A-Z]?$|(CD|PC)\d+_\d+[A-Z]?$"
)
_DISTORTION_KEY = re.compile(
    r"(PV|PS)\d+_\d+[A-Z]?$|(A|B|AP|BP)_(\d_\d|ORDER|DMAX)$|(AMD|PPO|AMDR)[XYE]?\d+$|(PLT|CNPIX|XPIXELSZ|YPIXELSZ)|"
    r"(DQ|DP|CQDIS|CPDIS|DVERR|CQERR)\d|D2IM"
)
# Keywords of times, which a coordinate system may have and an image keeps.
_TIME_KEY = re.compile(r"DATE|MJD|TIME")


@functools.lru_cache(maxsize=4096)
def _is_structure(key):
    key = key.upper()
    return key in _STRUCTURE_KEYS or bool(_LINEAR_KEY.match(key) or _DISTORTION_KEY.match(key))


@functools.lru_cache(maxsize=4096)
def _is_of_wcs(key):
    return key not in _ARRAY_KEYS and (_is_structure(key) or bool(_TIME_KEY.match(key)))


@contextmanager
def open_fits(path):
    """HDUs of a file; whatever is wrong with it becomes a `GeometryError` of one line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}")
    try:
        with warnings.catch_warnings():
            # astropy repairs deprecated keywords (RADECSYS, missing units of the WCS): no reason to warn.
            warnings.simplefilter("ignore", FITSFixedWarning)
            warnings.filterwarnings("ignore", category=fits.verify.VerifyWarning)
            # For damaged files astropy 6 calls a function of its own that it deprecates.
            warnings.filterwarnings("ignore", "The indent function", AstropyDeprecationWarning)
            warnings.filterwarnings("error", "(?s).*truncated", AstropyUserWarning)
            # Opened here, so that it is closed even where astropy gives up half-way.
            with open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
                yield hdus
    except (GeometryError, ImageWarning, FileNotFoundError):
        raise
    except _DAMAGE as error:
        reason = first_line(error)
        raise GeometryError(f"{str(path)!r} cannot be read as FITS: {reason}") from error


def _find_image(hdus, hdu, path):
    """First HDU (or the one asked for) that holds an image once axes of length one are dropped."""
    candidates = hdus
    if hdu is not None:
        try:
            candidates = [hdus[hdu]]
        except (KeyError, IndexError):
            names = [each.name or number for number, each in enumerate(hdus)]
            raise GeometryError(f"hdu: {str(path)!r} has no HDU {hdu!r}, only {names}") from None
    shapes = []
    for candidate in candidates:
        if not candidate.is_image or candidate.data is None:
            continue
        if np.ndim(np.squeeze(candidate.data)) == 2 and candidate.data.size:
            return candidate
        shapes.append(candidate.data.shape)
    what = f"arrays of shape {shapes}"
    if not shapes:
        what = "no image, only " + ", ".join(type(each).__name__ for each in candidates)
    raise GeometryError(f"{str(path)!r} has no two-dimensional image: it holds {what}")


def _read_unit(header, path):
    """Unit of an image and whether it had to be assumed."""
    value = header.get("BUNIT", "")
    text, unit = str(value).strip(), parse_unit(value.strip()) if isinstance(value, str) else None
    if unit is None and text:
        warnings.warn(f"{path}: BUNIT {text!r} is not a unit; counts are assumed", ImageWarning, stacklevel=6)
    if unit in _COUNT_UNITS:
        return u.ct, False
    return (u.ct, True) if unit in (None, u.dimensionless_unscaled) else (unit, False)


def _read_meta(header):
    """Header entries as a dict, without those that describe the array or the coordinate system."""
    # A card is parsed when its value is asked for, which takes most of the time of reading a small image.
    cards = [card for card in header.cards if not _is_structure(card.keyword)]
    meta = {card.keyword: value for card in cards if not isinstance(value := card.value, fits.card.Undefined | None)}
    for key in ("HISTORY", "COMMENT"):
        if key in header:
            meta[key] = "\n".join(str(line) for line in header[key])
    return meta


def _read_wcs(hdu, hdus):
    """Celestial WCS of the two axes that are longer than one, or None."""
    wcs = _parse_wcs(hdu.header, hdus)
    if not wcs.has_celestial:
        return None
    sky_axes = {wcs.naxis - 1 - axis for axis in (wcs.wcs.lng, wcs.wcs.lat)}
    if any(length > 1 and axis not in sky_axes for axis, length in enumerate(hdu.data.shape)):
        return None
    return plane(wcs)


def _parse_wcs(header, hdus):
    """WCS of a header. `WCS` parses the whole header three times; without distortions its linear terms say it all."""
    cards = [card for card in header.cards if _is_of_wcs(card.keyword)]
    kinds = [str(card.value) for card in cards if card.keyword.startswith("CTYPE")]
    if any(_DISTORTION_KEY.match(card.keyword) for card in cards) or any(kind[8:] for kind in kinds):
        return WCS(header, fobj=hdus)
    text = "".join(card.image for card in cards)
    linear = Wcsprm(header=text.encode("ascii"), key=" ", relax=True, keysel=-1)
    wcs = WCS(naxis=linear.naxis)
    wcs.wcs = linear
    wcs.fix()
    wcs.wcs.set()
    wcs.pixel_shape = [header.get(f"NAXIS{axis + 1}", 1) for axis in range(wcs.naxis)]
    return wcs


def _companion(hdus, name, image_hdu):
    """First HDU of this name if it is an image of its own, or None."""
    found = next((hdu for hdu in hdus if hdu.name == name), None)
    return None if found in (None, image_hdu) or not found.is_image or found.data is None else found


def _check_exposure(data, header, shape, path):
    """Exposure map in seconds, zero where it is not finite."""
    data = np.array(np.squeeze(data), dtype=np.float64)
    if data.shape != shape:
        raise GeometryError(f"exposure map in {str(path)!r} must have the image's shape {shape}, got {data.shape}")
    unit, _ = _read_unit(header, path)
    if unit == u.ct:  # no unit
        unit = u.s
    if not is_time_unit(unit):
        raise GeometryError(
            f"exposure map in {str(path)!r} must be in seconds, got {unit} (survey.read_field scales such maps)"
        )
    return np.where(np.isfinite(data), data, 0.0) * unit.to(u.s)


def image_from_hdus(hdus, path, *, hdu=None, exposure=None, prefix=""):
    """Image of an open file, with its companions ``<prefix>MASK`` and ``<prefix>EXPMAP``; ``exposure`` is a path."""
    found = _find_image(hdus, hdu, path)
    data = np.squeeze(found.data)
    unit, assumed = _read_unit(found.header, path)
    meta = _read_meta(found.header)
    if assumed:
        meta["FLAGS"] = (image_flags(meta) | Flag.NO_UNIT).value
    mask = _companion(hdus, f"{prefix}MASK", found)
    mask = None if mask is None else np.squeeze(mask.data)
    mask = mask.astype(bool) if mask is not None and mask.shape == data.shape else None
    if exposure is not None:
        with open_fits(exposure) as others:
            other = _find_image(others, None, exposure)
            meta[EXPOSURE_MAP] = _check_exposure(other.data, other.header, data.shape, exposure)
    elif (seconds := _companion(hdus, f"{prefix}EXPMAP", found)) is not None:
        meta[EXPOSURE_MAP] = _check_exposure(seconds.data, seconds.header, data.shape, path)
    return as_image(CCDData(data, unit=unit, mask=mask, wcs=_read_wcs(found, hdus), meta=meta))


def read_image(path, *, hdu=None, exposure=None):
    """
    Read an image as observatories write them.

    Takes integers, big-endian floats, images in a later HDU or compressed, axes of length one, missing units and
    deprecated keywords. NaN pixels are masked and flagged, never replaced in silence. A file without an image but with
    an event list is read as `read_events` does by default.

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
        what had to be assumed, ``meta["exposure_map"]`` holds the exposure map [s] where there is one. An extension
        ``MASK`` of the image's shape is its mask, true (1) where a pixel is not to be used.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    GeometryError
        If the file is damaged, is not FITS, or holds no two-dimensional image with a valid pixel.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from astropy import units as u
    >>> from astropy.nddata import CCDData
    >>> from astroclassify.images import read_image, write_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_image(CCDData(np.ones((4, 5)), unit=u.ct), f"{folder}/image.fits")
    ...     read_image(path).shape
    (4, 5)
    """
    with open_fits(path) as hdus:
        if hdu is None and (number := only_events(hdus)) is not None:
            if exposure is not None:
                raise GeometryError(
                    f"exposure: {str(path)!r} is an event list, whose image has pixels of its own: "
                    "survey.read_field puts exposure maps on them"
                )
            return image_of_events(hdus, number, Path(path))
        return image_from_hdus(hdus, Path(path), hdu=hdu, exposure=exposure)


def _card_value(value):
    """Turn an entry of ``meta`` into what a FITS card can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None  # FITS cannot hold NaN: a card without a value
    if isinstance(value, (bool, int, float, complex)):
        return value
    return " ".join(str(value).split("\n")).encode("ascii", "backslashreplace").decode()


def _to_header(meta):
    header = fits.Header()
    for key, value in meta.items():
        if key in ("HISTORY", "COMMENT"):
            for line in str(value).splitlines():
                header[key] = line
        if key == EXPOSURE_MAP or _is_structure(key):
            continue
        plain = len(key) <= 8 and re.fullmatch(r"[A-Z0-9_-]+", key.upper())
        comment = None
        if isinstance(value, tuple) and len(value) == 2:
            value, comment = value
        try:
            header[key if plain else f"HIERARCH {key}"] = (_card_value(value), comment)
        except ValueError:
            warnings.warn(f"meta[{key!r}] does not fit in a FITS header and is left out", ImageWarning, stacklevel=4)
    return header


def to_hdus(image, name=None):
    """Primary or named HDU of an image, and those of its companions (mask, exposure map)."""
    check_image(image)
    header = _to_header(image.meta)
    if image.wcs is not None:
        header.update(image.wcs.to_header(relax=True))
    header["BUNIT"] = image.unit.to_string("fits")
    prefix = "" if name is None else f"{name.upper()}_"
    if name is None:
        hdus = [fits.PrimaryHDU(image.data, header)]
    else:
        hdus = [fits.ImageHDU(image.data, header, name=name.upper())]
    if image.mask is not None:
        hdus.append(fits.ImageHDU(full_mask(image).astype(np.uint8), name=f"{prefix}MASK"))
    if EXPOSURE_MAP in image.meta:
        exposure = fits.ImageHDU(plain_exposure(image).astype(np.float32), name=f"{prefix}EXPMAP")
        exposure.header["BUNIT"] = "s"
        hdus.append(exposure)
    return hdus


def cutout_to_hdus(source_id, bands):
    """Primary HDU with name and bands of a cutout, and the HDUs of its images."""
    primary = fits.PrimaryHDU()
    try:
        primary.header["SOURCEID"] = str(source_id)
    except ValueError:
        raise GeometryError(f"source_id must be printable ASCII text, got {source_id!r}") from None
    primary.header["BANDS"] = ",".join(bands)
    return [primary, *(hdu for name, image in bands.items() for hdu in to_hdus(image, name))]


def write_hdus(hdus, path, *, overwrite):
    """Write HDUs so that the file is whole or not there."""
    hdus = fits.HDUList(hdus)
    write_beside(path, lambda temporary: hdus.writeto(temporary, overwrite=True), overwrite=overwrite)
    return Path(path)


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
    GeometryError
        If it is not a two-dimensional image with a unit.
    """
    return write_hdus(to_hdus(image), path, overwrite=overwrite)
