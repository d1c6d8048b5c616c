"""Images cut out of a HiPS on disk: tiles of the sky in HEALPix order."""

import functools
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify._checks import check_choice, require
from astroclassify._regular_files import check_regular
from astroclassify.exceptions import GeometryError
from astroclassify.images._open import open_fits
from astroclassify.images._resample import target_wcs

from ._plates import NoImageError, check_field, plate_image

__all__ = ["LocalHips"]

_CHANNELS = ("red", "green", "blue")
_FRAMES = {"equatorial": "icrs", "galactic": "galactic"}
# Endings of the tiles by the formats of the properties, best first: FITS holds the values, the others pictures.
_FORMATS = {"fits": "fits", "png": "png", "jpeg": "jpg"}
_MOST = 2048  # pixels along a side; of larger fields a lower order is read
_N_TILES = 64  # kept in memory


class LocalHips:
    """
    Optical images cut out of a HiPS on disk.

    An instance is called with ``position`` and ``size`` and returns the image of that field, north up, in pixels like
    those of the HiPS: the nearest HEALPix pixel, nothing is interpolated.

    Parameters
    ----------
    folder : str or path-like
        The folder of the HiPS, with its file ``properties`` and ``Norder``... Tiles are FITS, else PNG or JPEG.
    channel : {None, "red", "green", "blue"}, optional
        Which colour of PNG or JPEG tiles; by default the mean of all.

    Attributes
    ----------
    coloured : bool
        Whether the tiles are pictures, which have channels, and not FITS images.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or it has no properties.
    GeometryError
        If the properties are not those of a HiPS of images in equatorial or galactic coordinates.
    MissingDependencyError
        If tiles are pictures and Pillow is not installed.

    Notes
    -----
    Tiles that are missing are gaps: masked. Tiles below the finest order whose pixels are as wide as those asked for
    are not read; fields of more than 2048 pixels are read from a coarser order.

    References
    ----------
    Fernique et al. 2017, HiPS 1.0, IVOA Recommendation (folders, properties, order of pixels in a tile); Gorski et al.
    2005, ApJ 622, 759, section 5.3 (HEALPix, nested).

    Examples
    --------
    >>> from astropy import units as u
    >>> from astropy.coordinates import SkyCoord
    >>> from astroclassify.survey import LocalHips
    >>> hips = LocalHips("DSS2Red/")  # doctest: +SKIP
    >>> hips(SkyCoord(132.85, 11.81, unit="deg"), 7 * u.arcmin).shape  # doctest: +SKIP
    (522, 522)
    """

    def __init__(self, folder, *, channel=None):
        if channel is not None:
            check_choice("channel", channel, _CHANNELS)
        self.folder, self.channel = Path(folder), channel
        path = self.folder / "properties"
        if not path.is_file():
            raise FileNotFoundError(f"folder: no HiPS in {str(folder)!r}: it has no file 'properties'")
        check_regular(path, "folder", error=GeometryError)
        self._properties = _read_properties(path)
        try:
            self._order = int(self._properties["hips_order"])
            self._width = int(self._properties.get("hips_tile_width", 512))
            self._frame = _FRAMES[self._properties["hips_frame"]]
            found = self._properties.get("hips_tile_format", "fits").split()
            self._format = next(name for name in _FORMATS if name in found)
        except (KeyError, ValueError, StopIteration) as error:
            raise GeometryError(f"folder: {str(path)!r} does not describe a HiPS of images: {error!r}") from None
        if not 0 <= self._order <= 29 or self._width < 1 or self._width & (self._width - 1):
            raise GeometryError(f"folder: {str(path)!r} has an order or a tile width that cannot be")
        self.coloured = self._format != "fits"
        if self.coloured:
            require("PIL.Image", extra="plots")
        self._tile = functools.lru_cache(_N_TILES)(self._read_tile)

    @property
    def settings(self):
        """What decides the images, as plain types."""
        name = self._properties.get("creator_did", self.folder.name)
        return {"kind": type(self).__name__, "survey": name, "order": self._order, "channel": self.channel}

    def __call__(self, position, size):
        """
        Image of a field.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            The middle.
        size : `~astropy.units.Quantity`
            Side of the square, north up.

        Returns
        -------
        `~astropy.nddata.CCDData`
            Unit adu.

        Raises
        ------
        GeometryError
            If the HiPS has nothing there.
        """
        side, order = check_field(position, size), self._order
        while order > 0 and side / self._pixel(order) > _MOST:
            order -= 1
        n = max(1, int(np.ceil(side / self._pixel(order))))
        wcs = target_wcs(position, side / n * u.deg, (n, n))
        y, x = np.mgrid[:n, :n]
        sky = wcs.pixel_to_world(x.ravel(), y.ravel()).transform_to(self._frame).spherical
        values = self._values(sky.lon.rad, sky.lat.rad, order).reshape(n, n)
        if not np.isfinite(values).any():
            where = position.to_string("hmsdms", precision=0)
            raise NoImageError(f"the HiPS {self.folder.name!r} has no tile of the field at {where}")
        return plate_image(values, {"HIPS_ID": self.settings["survey"]}, wcs)

    def _pixel(self, order):
        """Side [deg] of a square as large as a pixel of the tiles of an order."""
        return float(np.degrees(np.sqrt(np.pi / 3) / (2**order * self._width)))

    def _values(self, lon, lat, order):
        """Values of the pixels that hold positions [rad]; NaN where there is no tile."""
        depth = self._width.bit_length() - 1
        face, x, y = healpix_pixel(lon, lat, order + depth)
        tile = face * 4**order + _interleave(x >> depth, y >> depth, order)
        values = np.full(len(tile), np.nan)
        for number in np.unique(tile).tolist():
            if (pixels := self._tile(order, number)) is not None:
                here = tile == number
                # x goes down from the upper row, y to the right; rows count from below.
                row = self._width - 1 - (x[here] & (self._width - 1))
                values[here] = pixels[row, y[here] & (self._width - 1)]
        return values

    def _read_tile(self, order, number):
        """Values of a tile (rows, columns), the first row below, or None where there is none."""
        name = f"Norder{order}/Dir{number // 10000 * 10000}/Npix{number}.{_FORMATS[self._format]}"
        path = self.folder / name
        if not path.is_file():
            return None
        if self.coloured:
            values = _picture(path, self.channel)
        else:
            with open_fits(path) as hdus:
                hdu = next((each for each in hdus if each.is_image and each.shape), None)
                values = np.zeros(0) if hdu is None else np.asarray(hdu.data, float)
        if values.shape != (self._width, self._width):
            raise GeometryError(f"{str(path)!r} must have {self._width} x {self._width} pixels, got {values.shape}")
        return values


def healpix_pixel(lon, lat, order):
    """Face, and x and y in it, of the HEALPix pixels of an order that hold positions [rad]."""
    side, z = 2**order, np.sin(lat)
    turn = np.mod(lon, 2 * np.pi) / (np.pi / 2) % 4
    # Near the equator: number of the ascending and the descending line.
    up, down = (np.floor(side * (0.5 + turn + sign * 0.75 * z)).astype(np.int64) for sign in (-1, 1))
    f_up, f_down = up >> order, down >> order
    face = np.where(f_up == f_down, f_up % 4 + 4, np.where(f_up < f_down, f_up % 4, f_down % 4 + 8))
    x, y = down & (side - 1), side - 1 - (up & (side - 1))
    # Near the poles.
    quarter = np.minimum(turn.astype(np.int64), 3)
    # 1 - |z| without the loss of digits near the pole.
    distance = side * np.sqrt(6.0) * np.sin((np.pi / 2 - np.abs(lat)) / 2)
    a, b = (np.minimum((each * distance).astype(np.int64), side - 1) for each in (turn - quarter, 1 - turn + quarter))
    polar, north = np.abs(z) > 2 / 3, z > 0
    face = np.where(polar, np.where(north, quarter, quarter + 8), face)
    x = np.where(polar, np.where(north, side - 1 - b, a), x)
    y = np.where(polar, np.where(north, side - 1 - a, b), y)
    return face, x, y


def _interleave(x, y, order):
    """Number of a tile within its face: bits of x and y in turn, the lowest of x first."""
    number = np.zeros_like(x)
    for bit in range(order):
        number |= ((x >> bit & 1) << 2 * bit) | ((y >> bit & 1) << 2 * bit + 1)
    return number


def _picture(path, channel):
    from PIL import Image

    with Image.open(path) as picture:
        transparent = np.asarray(picture.convert("RGBA"))[::-1, :, 3] == 0
        colours = np.asarray(picture.convert("RGB"), float)[::-1]
    values = colours.mean(axis=2) if channel is None else colours[:, :, _CHANNELS.index(channel)]
    return np.where(transparent, np.nan, values)


def _read_properties(path):
    """Entries of a file of lines ``name = value``."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}
