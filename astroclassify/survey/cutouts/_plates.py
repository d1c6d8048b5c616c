"""Optical images of a field from plates on disk: the best covering one is found, and only the field read from it."""

import functools
import hashlib
import logging
import os
import warnings
from os import PathLike
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs.utils import wcs_to_celestial_frame

from astroclassify._checks import check_quantity, first_line
from astroclassify.exceptions import ArgumentError, GeometryError, ImageWarning
from astroclassify.images import as_image
from astroclassify.images._checks import check_position, pixel_area
from astroclassify.images._open import open_fits
from astroclassify.images._resample import target_wcs, transform, window
from astroclassify.images.headers._wcs import read_wcs

__all__ = ["LocalOptical", "NoImageError", "check_field", "find_plate", "plate_image"]

log = logging.getLogger(__name__)

# Header keywords of a plate that are kept.
_KEYWORDS = (
    *("SURVEY", "REGION", "PLATEID", "PLTLABEL", "BANDPASS", "TELESCOP", "INSTRUME", "DETECTOR", "EMULSION", "FILTER"),
    *("DATE-OBS", "EPOCH", "EXPOSURE", "ORIGIN", "HIPS_ID", "BUNIT"),
)
_ENDINGS = tuple(f"{end}{packed}" for end in (".fits", ".fit", ".fts") for packed in ("", ".gz", ".bz2", ".fz"))
# Points along each side of a field at which the coverage by a plate is tested.
_POINTS = 9
_MARGIN = 3  # pixels read around the field
_BEGINNING = 1 << 16  # bytes by which plates of one name are told apart
_WIDE = 4096  # pixels: of wider plates not the whole rows are read


class NoImageError(GeometryError):
    """There is no optical image of this field, and asking again will not change that."""


def check_field(position, size):
    """Plain side [deg] of a field, or an error that names the argument."""
    check_position("position", position)
    return check_quantity("size", size, u.deg, positive=True, shape=())


def plate_image(data, header, wcs):
    """Optical image (adu) with entries of the header, masked where not finite; NoImageError if empty or constant."""
    data = np.asarray(data, dtype=float)
    finite = np.isfinite(data)
    if not finite.any() or np.ptp(data[finite]) == 0:
        raise NoImageError("the optical image is empty: there is no finite pixel, or all are equal")
    meta = {key: header[key] for key in _KEYWORDS if str(header.get(key, "")).strip()}
    if "BUNIT" in meta:
        meta["PLATUNIT"] = meta.pop("BUNIT")
    return as_image(CCDData(data, unit=u.adu, wcs=wcs, meta=meta))


def find_plate(hdus, path):
    """First HDU with a two-dimensional image that has a celestial WCS, its number and the WCS; no pixel is read."""
    for number, hdu in enumerate(hdus):
        shape = hdu.shape if hdu.is_image else ()
        # A plate solution (AMDX1 ...) is turned by astropy into a projection with polynomials.
        described = any(key in hdu.header for key in ("CTYPE1", "AMDX1"))
        if len(shape) >= 2 and min(shape) > 0 and set(shape[:-2]) <= {1} and described:
            wcs = read_wcs(hdu.header, shape, hdus)
            if wcs is not None:
                return hdu, number, wcs
    raise GeometryError(f"{str(path)!r} has no image with celestial coordinates")


def plate_of(path):
    """Number of the HDU, shape, and a copy of the WCS of a plate: threads that share a WCS get wrong numbers or crash
    in astropy 6.1 (astropy issues 16245 and 19174)."""
    state = path.stat() if path.is_file() else None
    number, shape, wcs = _read_header(path, state and (state.st_mtime_ns, state.st_size))
    return number, shape, wcs.deepcopy()


@functools.lru_cache(maxsize=64)
def _read_header(path, _state):  # a file that was replaced is read again
    with open_fits(path) as hdus:
        hdu, number, wcs = find_plate(hdus, path)
        return number, hdu.shape[-2:], wcs


def _fingerprint(path):
    """Digest of the first bytes of a file (header and some pixels), which tells plates of one name apart."""
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(_BEGINNING), digest_size=8).hexdigest()


def _files_of(path):
    """The file itself, or all FITS files of a folder."""
    if not path.is_dir():
        if not os.path.lexists(path):
            raise FileNotFoundError(f"paths: no file or folder {str(path)!r}")
        return [path.absolute()]
    names = sorted(name for name in os.listdir(path) if name.lower().endswith(_ENDINGS) and name[0] != ".")
    if not names:
        raise FileNotFoundError(f"paths: no FITS file in the folder {str(path)!r}")
    return [path.absolute() / name for name in names]


class LocalOptical:
    """
    Optical images from plates on disk, such as those of the Digitized Sky Survey.

    An instance is called with ``position`` and ``size`` and returns the image of that field: of all plates the one that
    covers most of it, and among equals the one whose middle is nearest. Coordinates are those of the plate's header;
    the plate solution of DSS files (keywords ``AMDX1`` ...) is used where there is one.

    Parameters
    ----------
    paths : str or path-like, or sequence of these
        FITS files, or folders of which all FITS files are taken (those in folders below them are not). Their headers
        are read now, their pixels only when a field is asked for.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no FITS file in a folder.
    GeometryError
        If no file can be used.

    Warns
    -----
    ImageWarning
        For each file that is left out: it cannot be read, or has no image with celestial coordinates.

    References
    ----------
    Lasker et al. 1990, AJ 99, 2019 (the plates); Calabretta et al. 2004, draft of FITS WCS paper IV (plate solutions).

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from astroclassify.survey import LocalOptical
    >>> optical = LocalOptical("plates/")  # doctest: +SKIP
    >>> optical(SkyCoord(132.85, 11.81, unit="deg"), 7 * u.arcmin).shape  # doctest: +SKIP
    (254, 254)
    """

    def __init__(self, paths):
        named = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
        if not named:
            raise ArgumentError("paths must name at least one file or folder, got an empty sequence")
        found = list(dict.fromkeys(path for each in named for path in _files_of(Path(each))))
        good, faults = {}, []
        for path in found:
            try:
                if not path.is_file():
                    raise GeometryError(f"{str(path)!r} is a pipe, a device, or a link that leads nowhere")
                good[path] = self._extent(path)
            except GeometryError as error:
                faults.append(error)
            except ValueError as error:  # of coordinates that astropy reads but cannot use
                faults.append(GeometryError(f"{str(path)!r} has no usable coordinates: {first_line(error)}"))
        if not good:
            raise faults[0]
        for error in faults:
            warnings.warn(f"plate not used: {error}", ImageWarning, stacklevel=2)
        self.paths = tuple(good)
        centres, reaches = zip(*good.values(), strict=True)
        self._centres, self._reaches = np.array(centres), np.array(reaches)

    @staticmethod
    def _extent(path):
        """Unit vector to the middle of a plate and the angle [rad] from there to its farthest corner."""
        _, (height, width), wcs = plate_of(path)
        wcs_to_celestial_frame(wcs)  # raises ValueError where astropy knows no such frame
        if not pixel_area(wcs) > 0:
            raise GeometryError(f"{str(path)!r} has no usable coordinates: its pixels have no area")
        x = np.array([(width - 1) / 2, -0.5, width - 0.5, -0.5, width - 0.5])
        y = np.array([(height - 1) / 2, -0.5, -0.5, height - 0.5, height - 0.5])
        vectors = wcs.pixel_to_world(x, y).icrs.cartesian.xyz.value.T
        if not np.isfinite(vectors).all():
            return vectors[0] if np.isfinite(vectors[0]).all() else np.array([1.0, 0, 0]), np.pi
        return vectors[0], np.arccos(np.clip(vectors[1:] @ vectors[0], -1, 1)).max()

    @property
    def settings(self):
        """What decides the images, as plain types."""
        return {"kind": type(self).__name__, "files": sorted([path.name, _fingerprint(path)] for path in self.paths)}

    def __call__(self, position, size):
        """
        Image of a field.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            The middle.
        size : `~astropy.units.Quantity`
            Side of the square, north up, that must be on the image; the image may be larger.

        Returns
        -------
        `~astropy.nddata.CCDData`
            Part of a plate, unit adu, in its own pixels. ``meta["PLATFILE"]`` names the file.

        Raises
        ------
        GeometryError
            If no plate covers any of it, or those that do are empty or damaged there.
        """
        faults = []
        for path, x, y in self._covering(position, check_field(position, size)):
            try:
                return self._read(path, x, y)
            except GeometryError as error:
                log.debug("%s has no image of the field: %s", path, error)
                faults.append(error)
        if faults:
            raise faults[0]
        where = position.to_string("hmsdms", precision=0)
        raise NoImageError(f"no plate covers the field at {where} ({len(self.paths)} in all)")

    def _covering(self, position, side):
        """Plates that cover some of a field of this side [deg], best first, with pixel coordinates of its points."""
        towards = position.icrs.cartesian.xyz.value
        distance = np.arccos(np.clip(self._centres @ towards, -1, 1))
        near = np.flatnonzero(distance < self._reaches + np.radians(side))
        field = target_wcs(position, side / (_POINTS - 1) * u.deg, (_POINTS, _POINTS))
        rows, columns = np.mgrid[0:_POINTS, 0:_POINTS]
        partly = []
        for number in near[np.argsort(distance[near], kind="stable")]:
            path = self.paths[number]
            _, shape, wcs = plate_of(path)
            x, y = transform(field, wcs, columns, rows)
            covered = np.mean((x >= -0.5) & (x <= shape[1] - 0.5) & (y >= -0.5) & (y <= shape[0] - 0.5))
            if covered == 1.0:
                yield path, x, y
            elif covered > 0:
                partly.append((covered, path, x, y))
        for _, *found in sorted(partly, key=lambda each: -each[0]):
            yield tuple(found)

    @staticmethod
    def _read(path, x, y):
        """The part of a plate that holds these pixels."""
        number, shape, wcs = plate_of(path)
        rows, columns = window(x, y, shape, _MARGIN)
        with open_fits(path) as hdus:
            hdu = hdus[number]
            # Whole rows are read in one go, parts of rows one by one.
            part, rest = (columns, slice(None)) if shape[1] > _WIDE else (slice(None), columns)
            data = hdu.section[(0,) * (len(hdu.shape) - 2) + (rows, part)][:, rest]
            image = plate_image(data, hdu.header, wcs[rows, columns])
        image.meta["PLATFILE"] = path.name
        return image
