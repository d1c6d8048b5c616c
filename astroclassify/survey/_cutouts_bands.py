"""The bands of a cutout: X-ray counts and optical images put on its grid."""

import hashlib
import pickle
import warnings
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, NDData
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import wcs_to_celestial_frame

from ..images import (
    EXPOSURE_MAP,
    LOW_COUNTS,
    as_image,
    celestial,
    counts_factor,
    image_flags,
    read_header,
    valid_pixels,
)
from ..schemes import Flag
from ._optical import NoImageError
from ._warp import integrate, interpolate, pixel_grid, quadrilaterals, sky_to_pixels

__all__ = ["Piece", "optical_band", "xray_band"]

# What is true of a field is true of each of its parts; other flags are found for each cutout.
_INHERITED = Flag.NO_EXPOSURE | Flag.NO_UNIT | Flag.NEGATIVE
# Entries of the field's meta that say nothing of a cutout or are written anew.
_NOT_KEPT = ("HISTORY", "COMMENT", "FLAGS")
# Pixels of a plate smaller than this share of the grid's are averaged: interpolation would leave most of them out.
_FINE = 0.5


@dataclass(frozen=True)
class Piece:
    """A field or a part of it, as plain arrays, and where in the field the part begins (row and column)."""

    counts: np.ndarray
    valid: np.ndarray
    exposure: np.ndarray | None
    wcs: WCS
    meta: dict
    flags: Flag
    corner: tuple = (0, 0)

    @classmethod
    def of(cls, field):
        """Piece that is the whole of a `Field` or of a CCDData of counts."""
        image = field.to_ccd() if hasattr(field, "to_ccd") else field
        if not isinstance(image, NDData):
            raise TypeError(f"field must be a Field or CCDData of counts, got {type(field).__name__}")
        image = as_image(image)
        valid, exposure = valid_pixels(image), image.meta.get(EXPOSURE_MAP)
        flags = image_flags(image.meta) & _INHERITED
        if exposure is not None:
            exposure = np.nan_to_num(np.asarray(exposure, dtype=float))
        elif read_header(image.meta).exposure is None:
            flags |= Flag.NO_EXPOSURE
        if np.any(image.data[valid] < 0):
            flags |= Flag.NEGATIVE
        meta = {key: value for key, value in image.meta.items() if key not in _NOT_KEPT and np.ndim(value) == 0}
        if getattr(field, "energy_range", None) is not None:
            low, high = field.energy_range.to_value(u.keV)
            meta |= {"E_MIN": float(low), "E_MAX": float(high)}
        # As it is after a journey to a worker, so that no last digit depends on whether there was one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = pickle.loads(pickle.dumps(celestial(image)))
        return cls(np.where(valid, image.data, 0.0) * counts_factor(image.unit), valid, exposure, wcs, meta, flags)

    @property
    def name(self):
        """Short name of what the pixels and the coordinates are."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.counts, self.valid, self.exposure):
            digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
        digest.update(str(self.wcs.to_header_string(relax=True)).encode())
        return digest.hexdigest()

    def window(self, slices):
        """The part at these rows and columns, with coordinates of its own: see `plate_of` for why."""
        return replace(
            self,
            wcs=self.wcs.deepcopy(),
            counts=self.counts[slices].copy(),
            valid=self.valid[slices].copy(),
            exposure=None if self.exposure is None else self.exposure[slices].copy(),
            corner=tuple(each.start for each in slices),
        )

    def windows(self, positions, radius):
        """
        Which part holds everything within a radius of a position.

        Parameters
        ----------
        positions : `~astropy.coordinates.SkyCoord`, shape (n,)
            Finite positions.
        radius : `~astropy.units.Quantity`
            Angle.

        Returns
        -------
        list of (slice, slice) or None
            Rows and columns for each position; None where there is nothing.
        """
        # The circle lies within an octagon whose corners are 1.1 radii away.
        angles = np.arange(8) * 45 * u.deg
        ring = positions[:, np.newaxis].directional_offset_by(angles[np.newaxis, :], 1.1 * radius)
        ring = ring.transform_to(wcs_to_celestial_frame(self.wcs)).spherical
        x, y = sky_to_pixels(self.wcs, ring.lon.deg, ring.lat.deg)
        return [self._slices(rows, columns) for rows, columns in zip(y, x, strict=True)]

    def _slices(self, *places):
        slices = []
        for place, length in zip(places, self.counts.shape, strict=True):
            finite = np.isfinite(place)
            if not finite.any():
                return None
            low, high = (int(np.floor(place.min())) - 2, int(np.ceil(place.max())) + 3) if finite.all() else (0, length)
            if high <= 0 or low >= length:
                return None
            slices.append(slice(max(low, 0), min(high, length)))
        return tuple(slices)


def xray_band(piece, target, shape):
    """
    X-ray counts on the grid of a cutout.

    Parameters
    ----------
    piece : Piece
        The part of the field in which the grid lies.
    target : `~astropy.wcs.WCS`
        Coordinate system of the grid.
    shape : tuple of int
        Shape of the grid.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Counts, with the exposure map and the flags in its meta.

    Raises
    ------
    GeometryError
        If no pixel of the grid is valid.
    """
    x, y = pixel_grid(target, piece.wcs, np.arange(shape[1] + 1) - 0.5, np.arange(shape[0] + 1) - 0.5)
    x, y = x - piece.corner[1], y - piece.corner[0]
    planes = {"counts": piece.counts}
    if piece.exposure is not None:
        planes["exposure"] = piece.exposure
    if not piece.valid.all():
        planes["valid"] = piece.valid
    if not _holds(piece.counts.shape, x, y):
        planes["covered"] = np.ones(piece.counts.shape)
    contents, area = integrate(np.stack([*planes.values()]).astype(float), x, y)
    contents = dict(zip(planes, contents, strict=True))
    if Flag.NEGATIVE not in piece.flags:
        # Sums along the sides leave -1e-14 where nothing is, which would be flagged as no raw counts.
        np.maximum(contents["counts"], 0.0, out=contents["counts"])
    shares = {
        name: np.divide(contents[name], area, out=np.zeros(shape), where=area > 0)
        for name in ("exposure", "valid", "covered")
        if name in contents
    }
    covered = shares.get("covered", 1.0)
    valid = shares.get("valid", covered)
    flags = piece.flags
    if np.min(covered) < 0.5:
        flags |= Flag.OFF_EDGE
    if np.any(covered - valid > 1e-6):
        flags |= Flag.MASKED
    if contents["counts"].sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    meta = {**piece.meta, "FLAGS": flags.value}
    if "exposure" in shares:
        meta[EXPOSURE_MAP] = shares["exposure"].astype(np.float32)
    mask = np.broadcast_to(valid < 0.5, shape)
    return as_image(CCDData(contents["counts"], unit=u.ct, mask=mask if mask.any() else None, wcs=target, meta=meta))


def _holds(shape, x, y):
    """Whether an image of this shape holds all these places."""
    return x.min() >= -0.5 and y.min() >= -0.5 and x.max() <= shape[1] - 0.5 and y.max() <= shape[0] - 0.5


def optical_band(image, target, shape):
    """
    Optical image on the grid of a cutout.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        What a source of optical images gave.
    target : `~astropy.wcs.WCS`
        Coordinate system of the grid.
    shape : tuple of int
        Shape of the grid.

    Returns
    -------
    `~astropy.nddata.CCDData`
        Values, unit adu, flags in its meta.

    Raises
    ------
    TypeError
        If it is not CCDData.
    NoImageError
        If no valid pixel is on the grid.
    """
    if not isinstance(image, CCDData):
        raise TypeError(f"optical must give CCDData, got {type(image).__name__}")
    image = as_image(image)
    wcs, valid = celestial(image), None if image.mask is None else ~image.mask
    x, y = pixel_grid(target, wcs, np.arange(shape[1] + 1) - 0.5, np.arange(shape[0] + 1) - 0.5)
    # Areas of blocks of 8 x 8 pixels tell how fine the image's pixels are.
    if np.nanmedian(np.abs(quadrilaterals(x[::8, ::8], y[::8, ::8]))) > 64 / _FINE**2:
        content = np.stack([image.data, np.ones(image.shape)]) * (1.0 if valid is None else valid)
        (data, share), area = integrate(content, x, y)
        data = np.divide(data, share, out=np.zeros(shape), where=share > 1e-6)
        share = np.divide(share, area, out=np.zeros(shape), where=area > 0)
    else:
        x, y = ((each[:-1, :-1] + each[1:, :-1] + each[:-1, 1:] + each[1:, 1:]) / 4 for each in (x, y))
        data, share = interpolate(image.data, valid, x, y)
    mask = share < 0.5
    if mask.all():
        raise NoImageError("the optical image does not overlap with the field")
    flags = image_flags(image.meta)
    if not _holds(image.shape, x, y):
        flags |= Flag.OFF_EDGE
    if valid is not None and mask.any():
        flags |= Flag.MASKED
    meta = {**image.meta, "FLAGS": flags.value}
    return as_image(CCDData(data, unit=u.adu, mask=mask if mask.any() else None, wcs=target, meta=meta))
