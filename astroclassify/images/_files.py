"""Images on disk: FITS as observatories write it, and the files that the package writes."""

import functools
import re
import warnings
from itertools import starmap
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits, registry

from astroclassify.exceptions import GeometryError, ImageWarning
from astroclassify.schemes import Flag
from astroclassify.tables import write_beside

from ._checks import check_image, counts_factor, full_mask, image_flags, usable_image
from ._exposure_map import exposure_on_pixels
from ._open import hdu_of_name, name_of, open_fits
from ._packed import pack
from ._sky_image import SkyImage, map_planes, sky_image
from .events._image import check_band, image_of_events, only_events
from .headers._cards import make_header, read_meta
from .headers._headers import is_event_image
from .headers._units import parse_unit
from .headers._wcs import read_wcs

_COUNT_UNITS = (u.ct, u.photon, u.ct / u.pix, u.photon / u.pix, u.ct / u.bin)
# What is not understood and names a time, an area or an angle is no word for counts.
_RATE_OR_FLUX = re.compile(
    r"/|\bper\b|-\s*[12]\b|\bs\b|\b[ck]?m\d?\b|\b(sec|min\b|hour|area|arc|deg|beam|sr\b|rate\b|bright|intens)|flux",
    re.I,
)


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
        what = "no image, only " + ", ".join(sorted({type(each).__name__ for each in candidates}))
    raise GeometryError(f"{str(path)!r} has no two-dimensional image: it holds {what}")


@functools.lru_cache(maxsize=256)
def _unit_of(text):
    """Unit that BUNIT means, counts in one spelling; None where it is empty, has no dimension, or is not understood."""
    unit = parse_unit(text)
    return u.ct if unit in _COUNT_UNITS else None if unit == u.dimensionless_unscaled else unit


def _read_unit(header, path):
    """Unit of an image or None, and the text of BUNIT; an error where the text can be none of counts."""
    text = header.get("BUNIT", "")
    text = text.strip() if isinstance(text, str) else ""
    unit = _unit_of(text)
    if unit is None and text and parse_unit(text) is None:
        if _RATE_OR_FLUX.search(text.replace("_", " ")):
            raise GeometryError(f"{path}: BUNIT {text!r} is not understood and is not a word for counts")
        warnings.warn(f"{path}: BUNIT {text!r} is not a unit; counts are assumed", ImageWarning, stacklevel=6)
    return unit, text


def _read_pixels(hdu):
    """Pixels without axes of length one; undefined ones (BLANK) are NaN."""
    data, blank = np.squeeze(hdu.data), hdu.header.get("BLANK")
    if blank is None or data.dtype.kind != "u" or "BZERO" not in hdu.header:
        return data
    # astropy finds them in signed integers, but not where an offset makes unsigned ones.
    return np.where(data == blank + int(hdu.header["BZERO"]), np.nan, data)


def _companion(hdus, name, image_hdu):
    """First HDU of this name if it is an image of its own, or None."""
    found = hdu_of_name(hdus, name)
    return None if found in (None, image_hdu) or not found.is_image or found.data is None else found


def _read_map(hdu, hdus, path, shape):
    """Map beside an image, as an image; without a WCS it lies on the same pixels."""
    data = _read_pixels(hdu)
    if data.shape != shape:
        raise GeometryError(f"{hdu.name} in {str(path)!r} must have the image's shape {shape}, got {data.shape}")
    wcs = read_wcs(hdu.header, np.shape(hdu.data), hdus) if "CTYPE1" in hdu.header else None
    return SkyImage(data, unit=_read_unit(hdu.header, path)[0] or u.ct, mask=~np.isfinite(data), wcs=wcs)


def image_from_hdus(hdus, path, *, hdu=None, exposure=None, prefix="", blank=False):
    """
    Image of an open file, with its companions ``<prefix>MASK``, EXPMAP, BKGMAP; ``exposure`` is a path.

    One without a valid pixel is an error, or None where it may be ``blank``.
    """
    found = _find_image(hdus, hdu, path)
    data = _read_pixels(found)
    (unit, text), meta = _read_unit(found.header, path), read_meta(found.header, path)
    if unit is None and (text or not is_event_image(data, meta)):
        meta["FLAGS"] = (image_flags(meta) | Flag.NO_UNIT).value
    mask = _companion(hdus, f"{prefix}MASK", found)
    if mask is not None:
        mask = np.squeeze(mask.data).astype(bool)
        if mask.shape != data.shape:
            raise GeometryError(
                f"{prefix}MASK in {str(path)!r} must have the image's shape {data.shape}, got {mask.shape}"
            )
    if blank and not np.any(np.isfinite(data) & (mask is None or ~mask)):
        return None
    wcs = read_wcs(found.header, np.shape(found.data), hdus)
    image = usable_image(SkyImage(data, unit=unit or u.ct, mask=mask, wcs=wcs, meta=meta))
    if exposure is not None:
        with open_fits(exposure) as others:
            image.exposure = exposure_on_pixels(image_from_hdus(others, exposure), image)
    elif (seconds := _companion(hdus, f"{prefix}EXPMAP", found)) is not None:
        image.exposure = exposure_on_pixels(_read_map(seconds, hdus, path, data.shape), image)
    if (counts := _companion(hdus, f"{prefix}BKGMAP", found)) is not None:
        counts = _read_map(counts, hdus, path, data.shape)
        image.background = np.where(counts.mask, np.nan, counts.data * counts_factor(counts.unit))
    return image


def read_image(path, *, hdu=None, exposure=None, energy=None):
    """
    Read an image as observatories write them.

    Takes integers, big-endian floats, images in a later HDU or compressed, axes of length one, missing units and
    deprecated keywords. NaN pixels are masked and flagged, never replaced in silence. A file without an image but with
    an event list is read as `read_events` does.

    Parameters
    ----------
    path : str, path-like, file object, HDU or `~astropy.io.fits.HDUList`
        A FITS file, plain or packed by gzip, bzip2, xz or zip: its path, a file object in binary mode (read from its
        beginning, left open), or an address such as ``"s3://bucket/image.fits"``, which needs fsspec. HDUs too.
    hdu : int or str, optional
        Which HDU; by default the first that holds a two-dimensional image.
    exposure : str or path-like, optional
        Exposure map on the same pixels, in a file of its own, in seconds; one in units of area times time is scaled to
        the exposure in the header of the image. An extension ``EXPMAP`` is found by itself.
    energy : `~astropy.units.Quantity`, optional
        Band of an event list, shape (2,); by default all its events. An image has the band that it has.

    Returns
    -------
    SkyImage
        Counts (or the file's unit), celestial WCS if the file has one, the header in ``meta``; ``meta["FLAGS"]`` says
        what had to be assumed, ``exposure`` holds the exposure map [s] and ``background`` that of an extension
        ``BKGMAP`` [ct], where there is one. An extension ``MASK`` of the image's shape is its mask, true (1) where a
        pixel is not to be used.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    GeometryError
        If the file is damaged, is not FITS, is no regular file (a device, a FIFO), declares more than it has, or holds
        no two-dimensional image with a valid pixel; also beyond these limits: 20,000 cards in a header, 25,000 HDUs,
        and for compressed images 2**26 pixels or, if that is more, 25 pixels for each byte of the file. If its unit is
        a rate or a flux that is not understood; if a map does not lie on the pixels (`~astroclassify.survey.read_field`
        regrids maps), or cannot be in the unit that it has.
    MissingDependencyError
        If ``path`` is an address and fsspec, or its part for such addresses, is not installed.

    Notes
    -----
    An image without a unit is one of counts. That is an assumption, and flagged ``no_unit``, unless it is whole numbers
    from an X-ray telescope and the header says that they are events, or they are integers of more than 8 bits, as
    CIAO, SAS, eSASS and HEASARC write images of events.

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
    band = check_band(energy)
    with open_fits(path) as hdus:
        if hdu is None and (number := only_events(hdus)) is not None:
            if exposure is not None:
                raise GeometryError(
                    f"exposure: {str(name_of(path))!r} is an event list, whose image has pixels of its own: "
                    "survey.read_field puts exposure maps on them"
                )
            return image_of_events(hdus, number, name_of(path), band=band)
        return image_from_hdus(hdus, name_of(path), hdu=hdu, exposure=exposure)


registry.register_reader("fits", SkyImage, read_image)  # which `SkyImage.read` calls


def _planes(image, name=None):
    """Values, header and name of an image, of its mask if pixels are masked, and of its maps."""
    check_image(image)
    image = sky_image(image)
    placed = fits.Header() if image.wcs is None else image.wcs.to_header(relax=True)
    placed["BUNIT"] = image.unit.to_string("fits")
    # Cards as they are: Header.update makes each anew, which takes longer than all else.
    header = fits.Header([card for card in make_header(image.meta).cards if card.keyword not in placed])
    header.extend(placed.cards)
    prefix = "" if name is None else f"{name.upper()}_"
    planes = [(image.data, header, name and name.upper())]
    if image.mask is not None and np.any(image.mask):
        planes.append((full_mask(image).astype(np.uint8), fits.Header(), f"{prefix}MASK"))
    return planes + map_planes(image, prefix)


def write_cutout(source_id, bands, path, *, overwrite):
    """Write the bands of a cutout behind a primary HDU with names, packed, so that the file is whole or not there."""
    primary = fits.PrimaryHDU()
    try:
        primary.header["SOURCEID"] = str(source_id)
    except ValueError:
        raise GeometryError(f"source_id must be printable ASCII text, got {source_id!r}") from None
    primary.header["BANDS"] = ",".join(bands)
    content = primary.header.tostring().encode("ascii")
    content += b"".join(pack(*plane) for name, image in bands.items() for plane in _planes(image, name))
    write_beside(path, lambda temporary: Path(temporary).write_bytes(content), overwrite=overwrite)
    return Path(path)


def write_image(image, path, *, overwrite=False):
    """
    Write an image as FITS so that the file is whole or not there.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        The image; its mask, exposure map and background become the extensions ``MASK``, ``EXPMAP`` and ``BKGMAP``.
        Uncertainty is not written.
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
    (data, header, _), *others = _planes(image)
    hdus = fits.HDUList([fits.PrimaryHDU(data, header), *starmap(fits.ImageHDU, others)])
    write_beside(path, lambda temporary: hdus.writeto(temporary, overwrite=True), overwrite=overwrite)
    return Path(path)
