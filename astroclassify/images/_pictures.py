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

from ._filtered import filtered
from ._map_layers import LAYERS, blended, edges, lined, map_values
from .headers._wcs import is_celestial

__all__ = [
    "DRAWN",
    "LAYERS",
    "PICTURES",
    "SCALES",
    "SMOOTHING",
    "STRETCHES",
    "Scale",
    "brightness",
    "contour_levels",
    "draw",
    "draw_all",
    "encode",
    "smooth",
    "stretch_of",
    "thumbnails",
    "valid_values",
    "write_picture",
]

PICTURES = ("xray", "xray_contours", "optical", "optical_contours")
#: What `draw` can draw: those that volunteers see, and X-rays after the wavelet filter.
DRAWN = (*PICTURES, "filtered")
STRETCHES = {"asinh": "AsinhStretch", "log": "LogStretch", "sqrt": "SqrtStretch", "linear": "LinearStretch"}
SMOOTHING = 5.0  # arcsec, about the width of the XMM point spread function
# Contours start where the background fluctuates to by chance in this share of places, and go up by this factor.
_CHANCE, _STEP, _N_CONTOURS = 1e-5, 2.0, 6
_N_SIGMA = 4.27  # first contour of an image that is not in counts, in sigma of its noise: the same chance
# Pictures are enlarged or reduced by a whole number to about this many pixels.
_SIDE = 700
_XRAY_LINE, _OPTICAL_LINE = (90, 200, 255), (90, 255, 90)
_BLANK, _MASKED = (96, 96, 96), (58, 58, 72)
# Filters from blue to red, by which three optical bands become one picture in colour.
_FILTERS = ("nuv", "u", "blue", "b", "g", "green", "v", "r", "red", "i", "z", "y", "j", "h", "k", "ks")
_FWHM = 2.355  # full width of a Gaussian at half maximum, in standard deviations


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


def smoothing(image, width=SMOOTHING):
    """Standard deviation [pixels] of the Gaussian of ``width`` [arcsec] that an X-ray image is smoothed with; without
    coordinates a pixel counts as 5/3 arcsec."""
    if not is_celestial(image.wcs):
        return width * 3.0 / SMOOTHING
    pixel = float(np.mean(proj_plane_pixel_scales(image.wcs.celestial))) * 3600
    return max(width / pixel, 0.7) if width == SMOOTHING else width / pixel


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
        lines |= edges(enlarged > level)
    return lines


def draw(bands, picture, scale=None, activation=None, *, layer="blended", width=SMOOTHING):
    """
    Draw one of `DRAWN` of a source as uint8 (ny, nx, 3), first row on top; gaps are grey.

    ``bands`` are images by band on one grid; three optical bands give a picture in colour. X-rays are smoothed with a
    Gaussian of ``width`` [arcsec]. By default the X-ray scale reaches at least to the first contour, so that noise
    alone is not stretched to white. ``activation`` is an activation map to lay over it, one of `LAYERS`: blended, red
    where it is evidence for its class, blue where it is evidence against it, its cells stay blocks; or contours of the
    interpolated map.
    """
    check_choice("picture", picture, DRAWN)
    check_choice("layer", layer, LAYERS)
    band = picture.removesuffix("_contours")
    images = band_images(bands, "xray" if band == "filtered" else band)
    lines = contours(band_images(bands, "xray")[0]) if picture.endswith("_contours") else None
    colours = _render(images, band, scale, activation, layer, width)
    if lines is not None:
        colours[lines] = _XRAY_LINE if band == "xray" else _OPTICAL_LINE
    return np.ascontiguousarray(colours[::-1])


def band_images(bands, band):
    """Images of ``"xray"`` or ``"optical"`` as a tuple: of three known optical filters all, the reddest first; else the
    first one."""
    if band in bands:
        return (bands[band],)
    others = [name for name in bands if name != "xray"]
    if band != "optical" or not others:
        raise GeometryError(f"there is no image in the band {band!r}")
    if len(others) == 3 and set(others) <= set(_FILTERS):
        return tuple(bands[name] for name in sorted(others, key=_FILTERS.index, reverse=True))
    return (bands[others[0]],)


def draw_all(bands):
    """All `PICTURES` of a source by name, as `draw` makes them; without an optical image those two are blank."""
    xray = _render(band_images(bands, "xray"), "xray")
    has_optical = len(bands) > 1
    optical = _render(band_images(bands, "optical"), "optical") if has_optical else np.full_like(xray, _BLANK)
    lines = contours(bands["xray"])
    pictures = {"xray": xray, "xray_contours": xray.copy(), "optical": optical, "optical_contours": optical.copy()}
    pictures["xray_contours"][lines] = _XRAY_LINE
    pictures["optical_contours"][lines] = _OPTICAL_LINE
    return {name: np.ascontiguousarray(pictures[name][::-1]) for name in PICTURES}


def _render(images, band, scale=None, activation=None, layer="blended", width=SMOOTHING):
    """Colours (ny, nx, 3) of one band, or of three, on the pixels of the picture, first row below."""
    if band == "optical":
        colours, valid = _optical_colours(images, scale or SCALES[band])
    else:
        colours, valid = (_xray_colours if band == "xray" else _filtered_colours)(images[0], scale, width)
    if activation is not None:
        weights = map_values(images[0], activation, smooth=layer == "contours")
        if layer == "contours":
            colours = lined(colours, _enlarge(np.nan_to_num(weights), valid)[0])
        else:
            colours = blended(_grey(colours.mean(axis=2) / 255), _blocks(weights))
    colours[~valid] = _MASKED if valid.any() else _BLANK
    return colours


def _xray_colours(image, scale, width):
    """Colours and valid pixels of an X-ray image."""
    smoothed, (_, valid) = smooth(image, smoothing(image, width)), valid_values(image)
    least_range = _levels(image, smooth(image), valid)[1] if scale is None else 0.0
    values, valid = _enlarge(smoothed, valid)
    return _heat((scale or SCALES["xray"]).apply(values, valid, least_range)), valid


def _filtered_colours(image, scale, width):
    """Colours and valid pixels of what is significant in an X-ray image, on a logarithmic scale up to the white level,
    since faint light beside bright is what the filter is for."""
    values, valid = valid_values(image)
    found = filtered(image, values, valid, _FWHM * smoothing(image, width))
    values, valid = _enlarge(found, valid)
    white = (scale or SCALES["xray"]).high
    bright = values[valid & (values > 0)]
    high = float(np.percentile(bright, white)) if bright.size else 0.0
    return _heat(brightness(values, 0.0, high, "log")), valid


def _optical_colours(images, scale):
    """Colours and valid pixels of one optical image, in grey, or of three as red, green and blue."""
    return _mixed([tuple(map(_blocks, valid_values(image))) for image in images], scale)


def _mixed(planes, scale):
    """Colours and valid pixels of values and valid pixels of one band, in grey, or of three as red, green and blue."""
    levels = [scale.apply(values, valid) for values, valid in planes]
    valid = np.logical_and.reduce([valid for _, valid in planes])
    if len(levels) == 1:
        return _grey(levels[0]), valid
    return np.rint(255 * np.stack(levels, axis=2)).astype(np.uint8), valid


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


def thumbnails(bands, size, activation=None):
    """
    Small pictures (size, size, 3) by name, first row on top: ``"xray"``, ``"activation"`` if a map is given, and
    ``"optical"``, of the bands that are there.

    X-rays are smoothed and scaled as `draw` does; the map lies over them (or else over the optical image) in red and
    blue. The longer side of an image fills the square.
    """
    drawn = {}
    if "xray" in bands:
        image = bands["xray"]
        smoothed, (_, valid) = smooth(image), valid_values(image)
        least_range = _levels(image, smoothed, valid)[1]
        drawn["xray"] = image, _heat(SCALES["xray"].apply(smoothed, valid, least_range)), valid
    if len(bands) > len(drawn):
        images = band_images(bands, "optical")
        drawn["optical"] = images[0], *_mixed([valid_values(each) for each in images], SCALES["optical"])
    tiles = {name: _square(colours, valid, size) for name, (_, colours, valid) in drawn.items()}
    if activation is not None and drawn:
        image, colours, valid = next(iter(drawn.values()))
        grey = _grey(colours.mean(axis=2) / 255)
        tiles["activation"] = _square(blended(grey, map_values(image, activation)), valid, size)
    return {name: tiles[name] for name in ("xray", "activation", "optical") if name in tiles}


def _square(colours, valid, size):
    """Colours (ny, nx, 3), first row below, reduced or enlarged to fit into a square."""
    from PIL import Image, ImageOps

    colours[~valid] = _MASKED if valid.any() else _BLANK
    picture = Image.fromarray(np.ascontiguousarray(colours[::-1]))
    return np.asarray(ImageOps.pad(picture, (size, size), Image.Resampling.BILINEAR, color=_BLANK))


def encode(colours, kind="PNG", **settings):
    """Bytes of a picture file of (ny, nx, 3) uint8; ``settings`` are those of Pillow."""
    file = io.BytesIO()
    require("PIL.Image", extra="plots").fromarray(colours).save(file, format=kind, **settings)
    return file.getvalue()


def write_picture(colours, path, *, overwrite=False):
    """Write a PNG file; it is whole or not there."""
    data = encode(colours)
    write_beside(path, lambda temporary: Path(temporary).write_bytes(data), overwrite=overwrite)
