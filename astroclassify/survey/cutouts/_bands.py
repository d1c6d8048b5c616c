"""The bands of a cutout: X-ray counts and optical images put on its grid."""

import functools
import hashlib
import pickle
import warnings
from dataclasses import dataclass, replace

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, NDData
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import wcs_to_celestial_frame

from astroclassify.images import SkyImage, as_image
from astroclassify.images._checks import celestial, counts_factor, image_flags, valid_pixels
from astroclassify.images._resample import (
    LEAST_SHARE,
    brightness,
    centres,
    corners,
    holds,
    resample,
    sky_to_pixels,
    window,
)
from astroclassify.images._standardise import LOW_COUNTS
from astroclassify.images.headers._headers import has_exposure
from astroclassify.schemes import Flag

from ._plates import NoImageError

__all__ = ["Piece", "optical_band", "xray_band"]

# Flags of a field that hold for each of its parts; other flags are set per cutout.
_INHERITED = Flag.NO_EXPOSURE | Flag.NO_UNIT | Flag.NEGATIVE
# Entries of the field's meta that do not hold for a cutout or are written anew.
_NOT_KEPT = ("HISTORY", "COMMENT", "FLAGS")


@dataclass(frozen=True)
class Piece:
    """
    A field or a part of it, as plain arrays, and where in the field the part begins (row and column).

    Arrays are in single precision where that is exact, as for counts: half as much is sent to a worker.
    """

    counts: np.ndarray
    valid: np.ndarray
    exposure: np.ndarray | None
    wcs_state: bytes
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
        valid, exposure = valid_pixels(image), image.exposure
        flags = image_flags(image.meta) & _INHERITED
        if not has_exposure(image):
            flags |= Flag.NO_EXPOSURE
        if np.any(image.data[valid] < 0):
            flags |= Flag.NEGATIVE
        meta = {key: value for key, value in image.meta.items() if key not in _NOT_KEPT}
        if getattr(field, "energy_range", None) is not None:
            low, high = field.energy_range.to_value(u.keV)
            meta |= {"E_MIN": float(low), "E_MAX": float(high)}
        # Pickled once, which takes as long as sending all the rest; here too, so that no digit depends on the executor.
        state = pickle.dumps(celestial(image))
        counts = _narrow(np.where(valid, image.data, 0.0) * counts_factor(image.unit))
        exposure = None if exposure is None else _narrow(exposure)
        return cls(counts, valid, exposure, state, _wcs_of(state).deepcopy(), meta, flags)

    def __getstate__(self):
        return {**self.__dict__, "wcs": None}

    def __setstate__(self, state):
        self.__dict__.update(state, wcs=_wcs_of(state["wcs_state"]).deepcopy())

    @property
    def name(self):
        """Digest of the pixels and the coordinates."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.counts, self.valid, self.exposure):
            digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
        digest.update(str(self.wcs.to_header_string(relax=True)).encode())
        return digest.hexdigest()

    def window(self, slices):
        """The part at these rows and columns, with a WCS of its own (see `plate_of`)."""
        return replace(
            self,
            wcs=self.wcs.deepcopy(),
            counts=self.counts[slices].copy(),
            valid=self.valid[slices].copy(),
            exposure=None if self.exposure is None else self.exposure[slices].copy(),
            corner=tuple(each.start for each in slices),
        )

    def depth(self, positions):
        """Exposure [s] at each position (SkyCoord, (n,)); without a map 1; 0 where there is no valid pixel."""
        x, y = (np.rint(np.nan_to_num(each, nan=-1.0)).astype(int) for each in self._pixels(positions))
        (ny, nx), depth = self.counts.shape, np.zeros(len(positions))
        on = np.flatnonzero((x >= 0) & (x < nx) & (y >= 0) & (y < ny))
        place = y[on], x[on]
        depth[on] = np.where(self.valid[place], 1.0 if self.exposure is None else self.exposure[place], 0.0)
        return depth

    def windows(self, positions, radius):
        """Rows and columns that hold all within a radius (angle) of each position (SkyCoord, (n,)), or None."""
        # The circle lies within an octagon whose corners are 1.1 radii away.
        angles = np.arange(8) * 45 * u.deg
        x, y = self._pixels(positions[:, np.newaxis].directional_offset_by(angles[np.newaxis, :], 1.1 * radius))
        # Where only some corners are on the sky of the image, the others do not bound the circle.
        partial = np.isfinite(x).any(axis=1) & ~np.isfinite(x + y).all(axis=1)
        whole = tuple(slice(0, length) for length in self.counts.shape)
        return [
            whole if each else window(*places, self.counts.shape) for each, *places in zip(partial, x, y, strict=True)
        ]

    def _pixels(self, positions):
        sky = positions.transform_to(wcs_to_celestial_frame(self.wcs)).spherical
        return sky_to_pixels(self.wcs, sky.lon.deg, sky.lat.deg)


@functools.lru_cache(maxsize=16)
def _wcs_of(state):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return pickle.loads(state)


def _narrow(values):
    """An array in single precision if that is exact."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if np.array_equal(narrow, values) else values


def xray_band(piece, target, shape):
    """X-ray counts of a `Piece` on a grid (WCS and shape), with exposure map [s] and flags in the meta."""
    x, y = corners(target, piece.wcs, shape)
    data, valid, covered, exposure = resample(
        piece.counts, x - piece.corner[1], y - piece.corner[0], valid=piece.valid, exposure=piece.exposure
    )
    flags = piece.flags
    if covered.min() < LEAST_SHARE:
        flags |= Flag.OFF_EDGE
    if np.any(covered - valid > 1e-6):
        flags |= Flag.MASKED
    if data.sum() < LOW_COUNTS:
        flags |= Flag.LOW_COUNTS
    meta = {**piece.meta, "FLAGS": flags.value}
    mask = valid < LEAST_SHARE
    mask = mask if mask.any() else None
    return as_image(SkyImage(data, unit=u.ct, mask=mask, wcs=target, meta=meta, exposure=exposure))


def optical_band(image, target, shape):
    """An optical image on a grid (WCS and shape): unit adu, flags in the meta."""
    if not isinstance(image, CCDData):
        raise TypeError(f"optical must give CCDData, got {type(image).__name__}")
    image = as_image(image)
    wcs, valid = celestial(image), None if image.mask is None else ~image.mask
    x, y = corners(target, wcs, shape)
    data, share = brightness(image.data, x, y, valid=valid)
    mask = share < LEAST_SHARE
    if mask.all():
        raise NoImageError("the optical image does not overlap with the field")
    flags = image_flags(image.meta)
    if share.min() < 1.0 and not holds(image.shape, *centres(x, y)):
        flags |= Flag.OFF_EDGE
    if valid is not None and mask.any():
        flags |= Flag.MASKED
    image.meta["FLAGS"] = flags.value
    return as_image(SkyImage(data, unit=u.adu, mask=mask if mask.any() else None, wcs=target, meta=image.meta))
