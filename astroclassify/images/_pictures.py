"""The one renderer of pictures that people look at: brightness, colours, smoothing, contours, picture files."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy.ndimage import gaussian_filter, zoom
from scipy.special import pdtrik

from astroclassify._checks import check_choice, require
from astroclassify.exceptions import GeometryError
from astroclassify.tables import write_beside

from .headers._wcs import is_celestial

__all__ = [
    "PICTURES",
    "SCALES",
    "STRETCHES",
    "Scale",
    "brightness",
    "contour_levels",
    "draw",
    "draw_all",
    "encode",
    "smooth",
    "stretch_of",
    "thumbnail",
    "valid_values",
    "write_picture",
]

PICTURES = ("xray", "xray_contours", "optical", "optical_contours")
STRETCHES = {"asinh": "AsinhStretch", "log": "LogStretch", "sqrt": "SqrtStretch", "linear": "LinearStretch"}
_SMOOTHING = 5.0  # arcsec, about the width of the XMM point spread function
# Contours start where the background fluctuates to by chance in this share of places, and go up by this factor.
_CHANCE, _STEP, _N_CONTOURS = 1e-5, 2.0, 6
_N_SIGMA = 4.27  # first contour of an image that is not in counts, in sigma of its noise: the same chance
# Pictures are enlarged or reduced by a whole number to about this many pixels.
_SIDE = 700
_XRAY_LINE, _OPTICAL_LINE = (90, 200, 255), (90, 255, 90)
_BLANK, _MASKED = (96, 96, 96), (58, 58, 72)
_FOR, _AGAINST = np.array([255, 70, 40]), np.array([50, 130, 255])
_LARGEST_MAP_ALPHA = 0.65
_THUMBNAIL_SMOOTHING = 0.8  # pixels of the thumbnail: removes the noise of single counts


def stretch_of(name):
    """Stretch of `astropy.visualization` with its default parameters, which maps 0..1 to 0..1."""
    from astropy import visualization  # imports matplotlib where that is installed

    return getattr(visualization, STRETCHES[check_choice("stretch", name, STRETCHES)])()


def brightness(values, low, high, stretch="linear"):
    """Brightness from 0 (at ``low`` and below) to 1 (at ``high`` and above); without a range, 1 above ``low``."""
    if not high > low:
        return np.where(values > low, 1.0, 0.0)
    return stretch_of(stretch)(np.clip((values - low) / (high - low), 0, 1))


@dataclass(frozen=True)
class Scale:
    """How values become brightness: the stretch, and the percentiles of the image that are black and white."""

    stretch: str = "asinh"
    low: float = 1.0
    high: float = 99.7

    def __post_init__(self):
        check_choice("stretch", self.stretch, STRETCHES)
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(f"low and high must be percentiles with 0 <= low < high <= 100, got {self.low, self.high}")

    def apply(self, values, valid, least_range=0.0):
        """Brightness from 0 to 1 between percentiles of the ``valid`` values, at least ``least_range`` apart."""
        low, high = np.percentile(values[valid], [self.low, self.high]) if valid.any() else (0.0, 0.0)
        return brightness(values, low, max(high, low + least_range), self.stretch)


#: Usual scales of the two bands: half of an X-ray image is background.
SCALES = {"xray": Scale("asinh", 50.0, 100.0), "optical": Scale("asinh", 1.0, 99.7)}


def valid_values(image):
    """Plain values, zero where invalid, and where they are valid: finite, not masked, with exposure."""
    valid = np.isfinite(image.data)
    if image.mask is not None:
        valid &= ~np.broadcast_to(image.mask, image.shape)
    if (exposure := getattr(image, "exposure", None)) is not None:  # of a SkyImage
        valid &= exposure > 0
    return np.where(valid, image.data, 0.0), valid


def smoothing(image):
    """Standard deviation of the Gaussian that an X-ray image is smoothed with, in pixels; 3 without coordinates."""
    if not is_celestial(image.wcs):
        return 3.0
    pixel = float(np.mean(proj_plane_pixel_scales(image.wcs.celestial))) * 3600
    return max(_SMOOTHING / pixel, 0.7)


def smooth(image, sigma=None):
    """
    Smoothed values of an image; ``sigma`` in pixels, by default `smoothing`.

    Gaps and what lies beyond the edge get the median level, so that they neither add nor remove brightness.
    """
    values, valid = valid_values(image)
    sigma = smoothing(image) if sigma is None else sigma
    if not valid.any() or not sigma > 0:
        return values
    share = gaussian_filter(valid.astype(float), sigma, mode="constant")
    rough = gaussian_filter(values, sigma, mode="constant")
    level = float(np.median(rough[valid] / share[valid]))
    return gaussian_filter(np.where(valid, values, level), sigma, mode="constant", cval=level)


def first_contour(level, sigma):
    """Counts above the level of the background at which contours of a smoothed image begin."""
    # The mean under a Gaussian has the mean and the variance of Poisson counts on this many pixels, over their number.
    pixels = 4 * np.pi * sigma**2
    return pdtrik(1 - _CHANCE, max(level * pixels, 0.1)) / pixels - level


def _levels(image, smoothed, valid):
    """Level of the background of a smoothed X-ray image, and how far above it contours begin."""
    if not valid.any():
        return 0.0, 0.0
    level = float(np.median(smoothed[valid]))
    if image.unit == u.ct:
        return level, first_contour(level, smoothing(image))
    return level, _N_SIGMA * 1.4826 * float(np.median(np.abs(smoothed[valid] - level)))


def contour_levels(image):
    """Levels of the contours of a smoothed X-ray image; none without a valid pixel."""
    smoothed, (_, valid) = smooth(image), valid_values(image)
    if not valid.any():
        return []
    level, first = _levels(image, smoothed, valid)
    return [level + first * _STEP**number for number in range(_N_CONTOURS)]


def contours(image):
    """Pixels of the picture on the contours of an X-ray image."""
    smoothed, (_, valid) = smooth(image), valid_values(image)
    lines = np.zeros(_blocks(valid).shape, bool)
    enlarged, _ = _enlarge(smoothed, valid)
    for level in contour_levels(image):
        lines |= _edges(enlarged > level)
    return lines


def _edges(mask):
    """Pixels of a mask that touch one outside of it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def draw(bands, picture, scale=None, activation=None):
    """
    Draw one of `PICTURES` of a source as uint8 (ny, nx, 3), first row on top; gaps are grey.

    ``bands`` are images by band on one grid. By default the X-ray scale reaches at least to the first contour, so that
    noise alone is not stretched to white. ``activation`` is an activation map to overlay: red where it is evidence for
    its class, blue where it is evidence against it; its cells stay blocks.
    """
    check_choice("picture", picture, PICTURES)
    band = picture.removesuffix("_contours")
    for name in {band, "xray"} if picture.endswith("_contours") else {band}:
        if name not in bands:
            raise GeometryError(f"there is no image in the band {name!r}")
    colours = _render(bands[band], band, scale, activation)
    if picture.endswith("_contours"):
        colours[contours(bands["xray"])] = _XRAY_LINE if band == "xray" else _OPTICAL_LINE
    return np.ascontiguousarray(colours[::-1])


def draw_all(bands):
    """All `PICTURES` of a source by name, as `draw` makes them; without an optical image those two are blank."""
    xray = _render(bands["xray"], "xray")
    optical = _render(bands["optical"], "optical") if "optical" in bands else np.full_like(xray, _BLANK)
    lines = contours(bands["xray"])
    pictures = {"xray": xray, "xray_contours": xray.copy(), "optical": optical, "optical_contours": optical.copy()}
    pictures["xray_contours"][lines] = _XRAY_LINE
    pictures["optical_contours"][lines] = _OPTICAL_LINE
    return {name: np.ascontiguousarray(pictures[name][::-1]) for name in PICTURES}


def _render(image, band, scale=None, activation=None):
    """Colours (ny, nx, 3) of one band on the pixels of the picture, first row below."""
    values, valid = valid_values(image)
    least_range = 0.0
    if band == "xray":
        smoothed = smooth(image)
        least_range = _levels(image, smoothed, valid)[1] if scale is None else 0.0
        values, valid = _enlarge(smoothed, valid)
    else:
        values, valid = _blocks(values), _blocks(valid)
    colours = _COLOURS[band]((scale or SCALES[band]).apply(values, valid, least_range))
    if activation is not None:
        colours = _overlay(_grey(colours.mean(axis=2) / 255), _blocks(_map_values(image, activation)))
    colours[~valid] = _MASKED if valid.any() else _BLANK
    return colours


def _factors(shape):
    """Whole numbers by which an image is enlarged and reduced."""
    return max(1, _SIDE // max(shape)), max(1, max(shape) // _SIDE)


def _enlarge(values, valid):
    """Values, interpolated, and where they are valid, on the pixels of the picture."""
    enlarge, reduce = _factors(values.shape)
    if reduce > 1:
        return values[::reduce, ::reduce], valid[::reduce, ::reduce]
    return zoom(values, enlarge, order=1, grid_mode=True, mode="nearest"), _blocks(valid)


def _blocks(values):
    """Values as blocks on the pixels of the picture."""
    enlarge, reduce = _factors(values.shape)
    return values[::reduce, ::reduce].repeat(enlarge, axis=0).repeat(enlarge, axis=1)


def _heat(values):
    """Colours from black over red and yellow to white, of values from 0 to 1."""
    return np.rint(255 * np.clip(3 * values[:, :, None] - np.arange(3), 0, 1)).astype(np.uint8)


def _grey(values):
    return np.repeat(np.rint(255 * values).astype(np.uint8)[:, :, None], 3, axis=2)


_COLOURS = {"xray": _heat, "optical": _grey}


def _map_values(image, activation):
    """Value of the cell of an activation map at each pixel of an image; NaN beyond the map."""
    (ny, nx), (n_rows, n_columns) = image.shape, activation.shape
    y, x = np.mgrid[:ny, :nx]
    if image.wcs is not None and activation.wcs is not None:
        sky = image.wcs.celestial.pixel_to_world(x, y)
        column, row = activation.wcs.celestial.world_to_pixel(sky)
    else:
        column, row = (x + 0.5) * n_columns / nx - 0.5, (y + 0.5) * n_rows / ny - 0.5
    column, row = np.rint(column).astype(int), np.rint(row).astype(int)
    inside = (0 <= column) & (column < n_columns) & (0 <= row) & (row < n_rows)
    return np.where(inside, activation.data[row.clip(0, n_rows - 1), column.clip(0, n_columns - 1)], np.nan)


def _overlay(colours, weights):
    """Red for positive and blue for negative weights; the larger the weight, the less of the picture is seen."""
    largest = float(np.nanmax(np.abs(weights), initial=0.0))
    if not largest:
        return colours
    alpha = _LARGEST_MAP_ALPHA * np.nan_to_num(np.abs(weights) / largest)[:, :, None]
    tint = np.where(weights[:, :, None] > 0, _FOR, _AGAINST)
    return np.rint((1 - alpha) * colours + alpha * tint).astype(np.uint8)


def thumbnail(bands, size):
    """
    Picture (size, n * size, 3) of the X-ray and, beside it, the optical band, first row on top; None without a band.

    ``bands`` has values and valid pixels by band. Each band has its own scale, its longer side fills the square.
    """
    # The optical image keeps its place where there is no X-ray image.
    names = [name for name in SCALES if name in bands or (name == "xray" and "optical" in bands)]
    tiles = [_tile(name, *bands[name], size) if name in bands else _blank_tile(size) for name in names]
    return np.concatenate(tiles, axis=1) if tiles else None


def _tile(band, values, valid, size):
    from PIL import Image

    scale = size / max(values.shape)
    shape = tuple(max(1, round(length * scale)) for length in values.shape)

    def reduced(array):
        return np.asarray(Image.fromarray(array).resize(shape[::-1], Image.Resampling.BOX))

    share = reduced(valid.astype(np.float32))
    known = share > 0.5
    small = np.divide(reduced(values), share, out=np.zeros(shape, np.float32), where=known)
    if band == "xray":
        level = np.median(small[known]) if known.any() else 0
        small = gaussian_filter(np.where(known, small, level), _THUMBNAIL_SMOOTHING, mode="nearest")
    colours = _COLOURS[band](SCALES[band].apply(small, known))
    colours[~known] = _MASKED if known.any() else _BLANK
    tile = _blank_tile(size)
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    tile[top : top + shape[0], left : left + shape[1]] = colours[::-1]
    return tile


def _blank_tile(size):
    return np.full((size, size, 3), _BLANK, np.uint8)


def encode(colours, kind="PNG", **settings):
    """Bytes of a picture file of (ny, nx, 3) uint8; ``settings`` are those of Pillow."""
    file = io.BytesIO()
    require("PIL.Image", extra="plots").fromarray(colours).save(file, format=kind, **settings)
    return file.getvalue()


def write_picture(colours, path, *, overwrite=False):
    """Write a PNG file; it is whole or not there."""
    data = encode(colours)
    write_beside(path, lambda temporary: Path(temporary).write_bytes(data), overwrite=overwrite)
