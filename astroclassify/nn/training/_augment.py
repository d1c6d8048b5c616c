"""Changes of training images that leave them what a telescope could have seen; they act on raw counts."""

import functools
import math

import numpy as np

from ..inputs._brightness import shape_alone
from ..inputs._profile import RING_AREAS

__all__ = ["AUGMENTATIONS", "augment", "check_augmentation", "rotate", "rotation_of", "thin"]

AUGMENTATIONS = {
    "flip": "mirrored left to right in half of the cases",
    "turn": "turned by a multiple of 90 degrees; every pixel keeps its value",
    "rotate": "turned by any angle inside the largest circle; every pixel keeps its value",
    "shift": "shifted by up to 1/32 of the side; what leaves at one edge comes back at the other",
    "thin": "counts kept with a chance between 0.5 and 1: a shorter exposure",
    "brightness": "bands that hold no counts: multiplied by 0.8 to 1.25, offset by up to 0.1 of their spread",
    "blank": "bands that hold no counts: not there in a quarter of the cases, so that the others must do",
    "depth": "with stretch 'brightness' or 'profile': the depth wrong by 10 % (1 sigma), and in a quarter of the cases "
    "unknown; half of these profiles become those of pictures, clipped and without background",
}

_SHIFT = 32
_LEAST_KEPT = 0.5
_GAIN = 1.25
_OFFSET = 0.1
_BLANK = 0.25
# Effective areas, column densities and dates are known to about this (dex); so often the exposure is not known at all.
_DEPTH_ERROR, _UNKNOWN_DEPTH = 0.04, 0.25
# Pictures are clipped at the brightness of one of so many rings, the innermost 68 kpc.
_CLIPPED_RINGS = 8
# A pixel of 2.9999998 holds three counts: grids are computed in single precision.
_ROUNDING = 1e-3


def check_augmentation(names, *, counts, calibrated=False, profile=False):
    """
    Names as a tuple, each known, given once, and with a band to act on (``counts``: which bands hold counts;
    ``calibrated``: whether planes of the observation follow; ``profile``: whether pixels are rings).
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name in AUGMENTATIONS for name in names):
        raise ValueError(f"augmentation must be a tuple of names among {sorted(AUGMENTATIONS)}, got {names!r}")
    names = tuple(names)
    if len(set(names)) != len(names):
        raise ValueError(f"augmentation must name each kind once, got {names}")
    if "thin" in names and not any(counts):
        raise ValueError("augmentation 'thin' needs a band that holds counts (see count_bands)")
    if "brightness" in names and all(counts):
        raise ValueError("augmentation 'brightness' needs a band that holds no counts: counts are made fewer by 'thin'")
    if "blank" in names and (all(counts) or not any(counts)):
        raise ValueError("augmentation 'blank' needs a band that holds counts, which stays, and one that holds none")
    if "depth" in names and not calibrated:
        raise ValueError("augmentation 'depth' is for stretches 'brightness' and 'profile', which know the depth")
    if profile and set(names) - {"depth"}:
        raise ValueError(f"augmentation may only be 'depth' with stretch 'profile', which knows no place, got {names}")
    return names


def thin(plane, kept, rng):
    """Keep each count of a plane (ny, nx) with the chance ``kept``: Poisson counts of an exposure shorter by that."""
    whole = np.maximum(np.floor(plane + plane.dtype.type(_ROUNDING)), 0)
    # What a pixel holds beyond whole counts (in an image resampled onto the grid) shrinks as the mean.
    left = (plane - whole) * plane.dtype.type(kept)
    filled = np.nonzero(whole)
    left[filled] += rng.binomial(whole[filled].astype(np.int64), kept).astype(plane.dtype)
    return left


@functools.lru_cache(maxsize=8)
def _disc(ny, nx):
    """Coordinates about the middle, and the pixels of the largest circle."""
    y, x = np.indices((ny, nx), dtype=np.int32)
    inside = np.hypot(y - (ny - 1) / 2, x - (nx - 1) / 2) <= min(ny, nx) / 2
    return y[inside], x[inside], inside


def _shift_of(slope, distance):
    """Whole pixels by which a shear moves what lies so far from the middle."""
    return np.floor(slope * distance + 0.5).astype(np.int32)


@functools.lru_cache(maxsize=2)
def _by_angle(ny, nx):
    """Polar angle of each pixel of an image about its middle, flat."""
    y, x = np.indices((ny, nx))
    return np.arctan2(y - (ny - 1) / 2, x - (nx - 1) / 2).ravel()


def rotation_of(shape, angle):
    """Flat index (ny * nx,) of the source of each pixel of an image rotated by up to 90 degrees: a permutation."""
    ny, nx = shape
    middle_y, middle_x = (ny - 1) / 2, (nx - 1) / 2
    slope, rise = -math.tan(angle / 2), math.sin(angle)
    y, x, inside = _disc(ny, nx)
    # The three shears in reverse order: from the pixel of the rotated image to that of the image.
    x0 = x - _shift_of(slope, y - middle_y)
    y0 = y - _shift_of(rise, x0 - middle_x)
    x0 -= _shift_of(slope, y0 - middle_y)
    known = (y0 >= 0) & (y0 < ny) & (x0 >= 0) & (x0 < nx)
    flat = np.where(known, y0 * nx + x0, 0)
    known &= inside.ravel()[flat]
    target = y * nx + x
    source = np.arange(ny * nx)
    source[target[known]] = flat[known]
    # At the rim, rounding moves a few pixels out of the circle and leaves as many places empty: those go there, in the
    # order of their polar angle.
    empty = target[~known]
    free = inside.ravel().copy()
    free[flat[known]] = False
    free = np.flatnonzero(free)
    polar = _by_angle(ny, nx)
    order = np.argsort((polar[free] + angle + math.pi) % (2 * math.pi))
    source[empty[np.argsort(polar[empty])]] = free[order]
    return source


def rotate(image, angle):
    """
    Rotate images (..., ny, nx) about the middle by ``angle`` (radians, from columns towards rows).

    Quarter turns, then three shears (Paeth 1986, Graphics Interface, 77) by whole pixels: a permutation, so that
    Poisson counts stay independent, with a position error of 0.41 (x) and 0.29 (y) pixels rms. Corners beyond the
    largest circle are only turned by the quarter turns.
    """
    ny, nx = image.shape[-2:]
    step = 1 if ny == nx else 2
    turns = step * round(angle / (step * math.pi / 2))
    image = np.rot90(image, -turns, axes=(-2, -1))  # numpy turns from the rows towards the columns
    source = rotation_of((ny, nx), angle - turns * math.pi / 2)
    return np.take(image.reshape(*image.shape[:-2], ny * nx), source, axis=-1).reshape(image.shape)


def _brightness(plane, rng):
    """Another plate: contrast and fog level differ."""
    gain = _GAIN ** rng.uniform(-1, 1)
    offset = rng.uniform(-_OFFSET, _OFFSET) * plane.std()
    return (plane * gain + offset).astype(plane.dtype)


def _picture(profile, rng):
    """
    Profile of a published picture: on any scale, some or all of the light of the last ring taken off everywhere,
    clipped at the brightness of one of the inner rings.
    """
    counts, exposure = profile[:2, 0]
    rate = np.divide(counts, exposure, out=np.zeros_like(counts), where=exposure > 0)
    rate = np.maximum(rate - rng.uniform(0, 1) * rate[exposure > 0][-1:].sum(), 0)
    rate = np.minimum(rate, rate[rng.integers(_CLIPPED_RINGS)])
    picture = profile.copy()
    picture[0, 0] = rate * exposure * profile.dtype.type(10 ** rng.uniform(-1, 1))
    return picture


def _depth(image, rng):
    """Planes of an image whose exposure, or instrument, is not quite known, or not at all."""
    error, unknown = rng.normal(0, _DEPTH_ERROR), rng.random() < _UNKNOWN_DEPTH
    if unknown or not image[5].any():
        if image.shape[1:] != (1, len(RING_AREAS)):
            return shape_alone(image)
        return shape_alone(_picture(image, rng) if rng.random() < 0.5 else image, RING_AREAS)
    return np.concatenate([image[:2], image[2:3] + image.dtype.type(error), image[3:]])


def _one(image, names, counts, rng):
    """One image with all its planes, which move together."""
    square = image.shape[1] == image.shape[2]
    if "thin" in names:
        kept = _LEAST_KEPT ** rng.uniform(0, 1)
        thinned = [thin(plane, kept, rng) for plane, c in zip(image, counts, strict=False) if c]
        image = image.copy()
        image[: len(counts)][[bool(c) for c in counts]] = thinned
        if len(image) > len(counts):  # the depth follows the exposure
            image[2] += image.dtype.type(math.log10(kept))
    if "depth" in names:
        image = _depth(image, rng)
    if "flip" in names and rng.integers(2):
        image = image[:, :, ::-1]
    if "rotate" in names:
        image = rotate(image, rng.uniform(0, 2 * math.pi))
    elif "turn" in names:
        image = np.rot90(image, rng.integers(4) if square else 2 * rng.integers(2), axes=(1, 2))
    if "shift" in names:
        most = min(image.shape[1:]) // _SHIFT
        image = np.roll(image, tuple(rng.integers(-most, most + 1, size=2)), axis=(1, 2))
    others = [number for number, c in enumerate(counts) if c is False]
    if "brightness" in names:
        image = image.copy()
        for number in others:
            image[number] = _brightness(image[number], rng)
    if "blank" in names and rng.random() < _BLANK:
        image = image.copy()
        image[others] = np.nan
    return image


def augment(images, rng, *, names, counts):
    """
    Images (n, n_planes, ny, nx) of counts, each changed at random, all its planes alike; before any stretch.

    ``names`` are keys of `AUGMENTATIONS`, ``counts`` tells which bands hold counts (None: a plane that is a number);
    other planes are those of `~..inputs._brightness.PLANES`.
    """
    out = np.empty_like(images)
    for index, image in enumerate(images):
        out[index] = _one(image, names, counts, rng)
    return out
