"""Pictures of the sources of a sample: X-ray and optical, with contours, and with what a classifier looks at."""

import functools
import io
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy.ndimage import gaussian_filter, zoom

from .. import tables
from .._image_files import image_from_hdus, open_fits
from .._pictures import contour_lines, first_contour, heat, smoothing
from .._checks import require
from ..exceptions import GeometryError, SchemaError
from ..images import EXPOSURE_MAP, Cutout

__all__ = ["PICTURES", "SCALES", "STRETCHES", "Pictures", "Scale", "draw", "to_png"]

PICTURES = ("xray", "xray_contours", "optical", "optical_contours")
# From 0 to 1, as the stretches of astropy.visualization with their default parameters.
STRETCHES = {
    "asinh": lambda x: np.arcsinh(10 * x) / np.arcsinh(10),
    "log": lambda x: np.log1p(1000 * x) / np.log(1001),
    "sqrt": np.sqrt,
    "linear": lambda x: x,
}
# Pictures are enlarged or reduced by a whole number to about this many pixels.
_SIDE = 700
_N_SIGMA = 4.27  # where contours of an image that is not one of counts begin: the same chance as for counts
_XRAY_LINE, _OPTICAL_LINE = (90, 200, 255), (90, 255, 90)
_BLANK, _MASKED = (96, 96, 96), (58, 58, 72)
_FOR, _AGAINST = np.array([255, 70, 40]), np.array([50, 130, 255])
_LARGEST_MAP_ALPHA = 0.65
_N_READ, _N_MAPS = 8, 64


@dataclass(frozen=True)
class Scale:
    """
    How values become brightness.

    Parameters
    ----------
    stretch : {"asinh", "log", "sqrt", "linear"}
        The curve between black and white.
    low, high : float
        Percentiles of the image that are black and white.

    Raises
    ------
    ValueError
        If the stretch is unknown or the percentiles are not 0 <= low < high <= 100.
    """

    stretch: str = "asinh"
    low: float = 1.0
    high: float = 99.7

    def __post_init__(self):
        if self.stretch not in STRETCHES:
            raise ValueError(f"stretch must be one of {tuple(STRETCHES)}, got {str(self.stretch)[:40]!r}")
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(f"low and high must be percentiles with 0 <= low < high <= 100, got {self.low, self.high}")

    def apply(self, values, valid):
        """Brightness from 0 to 1; percentiles are those of the ``valid`` values."""
        low, high = np.percentile(values[valid], [self.low, self.high]) if valid.any() else (0.0, 0.0)
        if not high > low:
            return np.where(values > low, 1.0, 0.0)
        return STRETCHES[self.stretch](np.clip((values - low) / (high - low), 0, 1))


#: Scales of the two bands unless a voter chooses others: half of an X-ray image is background.
SCALES = {"xray": Scale("asinh", 50.0, 100.0), "optical": Scale("asinh", 1.0, 99.7)}


class Pictures:
    """
    Pictures of the sources of a sample, by name: nothing else on the disk can be asked for.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table as `~astroclassify.tables.read_sample` gives it.
    classifier : CutoutClassifier, optional
        Whose activation maps can be laid over the pictures.

    Raises
    ------
    SchemaError
        If the paths of the sample lead out of its folder.
    MissingDependencyError
        If Pillow is not installed, which comes with the extra ``plots``.
    """

    def __init__(self, sample, classifier=None):
        require("PIL.Image", extra="plots")
        self.classifier = classifier
        self._folder = Path(sample.meta["folder"]).resolve()
        self._paths = dict(zip(map(str, sample["source_id"]), tables.image_paths(sample), strict=True))
        redshifts = np.ma.filled(np.ma.asarray(sample["redshift"], dtype=float), np.nan)
        self._redshifts = dict(zip(self._paths, redshifts.tolist(), strict=True))
        self._bands = functools.lru_cache(_N_READ)(self._read)
        self._map = functools.lru_cache(_N_MAPS)(self._find_map)
        # One picture and one map at a time: what several voters ask for at once would otherwise all be in memory.
        self._picture_lock, self._map_lock = threading.Lock(), threading.Lock()

    def facts(self, source_id):
        """Position, size and counts of a source, as texts by name."""
        with self._picture_lock:
            bands = self._bands(source_id)
        image = next(iter(bands.values()))
        facts = {"bands": ", ".join(bands), "pixels": f"{image.shape[1]} \N{MULTIPLICATION SIGN} {image.shape[0]}"}
        if image.wcs is not None and image.wcs.has_celestial:
            ny, nx = image.shape
            wcs = image.wcs.celestial
            centre = wcs.pixel_to_world((nx - 1) / 2, (ny - 1) / 2).icrs
            facts["position"] = f"{centre.ra.deg:.5f} {centre.dec.deg:+.5f}"
            sides = np.array([nx, ny]) * proj_plane_pixel_scales(wcs) * 60
            facts["field"] = f"{sides[0]:.3g}' \N{MULTIPLICATION SIGN} {sides[1]:.3g}'"
        if "xray" in bands and bands["xray"].unit == u.ct:
            values, valid = _values(bands["xray"])
            facts["counts"] = f"{values[valid].sum():.0f}"
        return facts

    def png(self, source_id, picture, scale, class_name=""):
        """
        One picture.

        Parameters
        ----------
        source_id : str
            The source.
        picture : str
            One of `PICTURES`.
        scale : Scale
            How values become brightness.
        class_name : str, optional
            Class whose activation map is laid over it; by default none.

        Returns
        -------
        bytes
            A PNG file.

        Raises
        ------
        KeyError
            If there is no such source.
        GeometryError, SchemaError, OSError, ValueError
            If there is no such picture of it.
        """
        found = None
        if class_name:
            with self._map_lock:
                found = self._map(source_id, class_name)
        with self._picture_lock:
            return to_png(draw(self._bands(source_id), picture, scale, found))

    def _read(self, source_id):
        path = self._paths[source_id]
        # The names in the table cannot lead out of the folder; a link could.
        if not path.resolve().is_relative_to(self._folder):
            raise GeometryError(f"the image of {source_id!r} lies outside the sample folder")
        if path == self._folder:
            raise GeometryError(f"{source_id!r} has no image")
        with open_fits(path) as hdus:
            if not {"SOURCEID", "BANDS"} <= set(hdus[0].header):
                return {"xray": image_from_hdus(hdus, path)}
        return Cutout.read(path).bands

    def _find_map(self, source_id, class_name):
        if self.classifier is None:
            raise SchemaError("class: there is no classifier")
        with self._picture_lock:
            bands = self._bands(source_id)
        redshift = self._redshifts[source_id]
        image = Cutout(source_id, bands) if len(bands) > 1 else next(iter(bands.values()))
        return self.classifier.activation_map(image, class_name, redshift=redshift if np.isfinite(redshift) else None)


def draw(bands, picture, scale, activation=None):
    """
    Draw one picture of a source.

    Parameters
    ----------
    bands : dict of `~astropy.nddata.CCDData`
        Images by band, on one grid.
    picture : {"xray", "xray_contours", "optical", "optical_contours"}
        What to draw.
    scale : Scale
        How values become brightness.
    activation : `~astropy.nddata.CCDData`, optional
        Activation map to lay over it, red where it speaks for its class and blue where against; its cells stay blocks.

    Returns
    -------
    `~numpy.ndarray` of uint8, shape (ny, nx, 3)
        The picture, first row on top.

    Raises
    ------
    ValueError
        If there is no such picture.
    GeometryError
        If the source has not the bands for it.

    Notes
    -----
    The X-ray image is smoothed with a Gaussian of 5 arcsec. Contours start where a Poisson background of the median
    level comes in one place of 100,000, and their height above it doubles: the rule of
    `~astroclassify.survey.export_subjects`. Gaps are grey: masked pixels and those without exposure.
    """
    if picture not in PICTURES:
        raise ValueError(f"picture must be one of {PICTURES}, got {str(picture)[:40]!r}")
    band = picture.removesuffix("_contours")
    for name in {band, "xray"} if picture.endswith("_contours") else {band}:
        if name not in bands:
            raise GeometryError(f"there is no image in the band {name!r}")
    image = bands[band]
    values, valid = _values(image)
    if band == "xray":
        values = _smooth(image)
        values, valid = _enlarge(values, valid, image.shape)
        colours = heat(scale.apply(values, valid))
    else:
        values, valid = _blocks(values, image.shape), _blocks(valid, image.shape)
        colours = _grey(scale.apply(values, valid))
    if activation is not None:
        weights = _blocks(_under(image, activation), image.shape)
        colours = _lay_over(_grey(colours.mean(axis=2) / 255), weights)
    colours[~valid] = _BLANK if not valid.any() else _MASKED
    if picture.endswith("_contours"):
        colours[_contours(bands["xray"])] = _XRAY_LINE if band == "xray" else _OPTICAL_LINE
    return np.ascontiguousarray(colours[::-1])


def to_png(colours):
    """PNG file of a picture (ny, nx, 3), as bytes."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(colours).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _values(image):
    """Plain values, zero where there are none, and where there are."""
    valid = np.isfinite(image.data)
    if image.mask is not None:
        valid &= ~np.broadcast_to(image.mask, image.shape)
    if EXPOSURE_MAP in image.meta:
        valid &= np.asarray(image.meta[EXPOSURE_MAP]) > 0
    return np.where(valid, image.data, 0.0), valid


def _smooth(image):
    """Smoothed image; gaps and what lies beyond the edge have the median level, so that they neither add nor take."""
    (values, valid), sigma = _values(image), smoothing(image)
    if not valid.any():
        return values
    share = gaussian_filter(valid.astype(float), sigma, mode="constant")
    rough = gaussian_filter(values, sigma, mode="constant")
    level = float(np.median(rough[valid] / share[valid]))
    return gaussian_filter(np.where(valid, values, level), sigma, mode="constant", cval=level)


def _contours(image):
    """Pixels of the picture on the contours of an X-ray image."""
    smooth, (_, valid) = _smooth(image), _values(image)
    if not valid.any():
        return _enlarge(smooth, valid, image.shape)[1]
    level = float(np.median(smooth[valid]))
    if image.unit == u.ct:
        first = first_contour(level, smoothing(image))
    else:
        first = _N_SIGMA * 1.4826 * float(np.median(np.abs(smooth[valid] - level)))
    smooth, _ = _enlarge(smooth, valid, image.shape)
    return contour_lines(smooth, level, first)


def _factors(shape):
    """By which whole numbers an image is enlarged and reduced."""
    return max(1, _SIDE // max(shape)), max(1, max(shape) // _SIDE)


def _enlarge(values, valid, shape):
    """Values, interpolated, and where there are any, on the pixels of the picture."""
    enlarge, reduce = _factors(shape)
    if reduce > 1:
        return values[::reduce, ::reduce], valid[::reduce, ::reduce]
    return zoom(values, enlarge, order=1, grid_mode=True, mode="nearest"), _blocks(valid, shape)


def _blocks(values, shape):
    """Values as blocks on the pixels of the picture."""
    enlarge, reduce = _factors(shape)
    return values[::reduce, ::reduce].repeat(enlarge, axis=0).repeat(enlarge, axis=1)


def _grey(values):
    return np.repeat(np.rint(255 * values).astype(np.uint8)[:, :, None], 3, axis=2)


def _under(image, activation):
    """Value of the cell of an activation map at each pixel of an image; NaN beyond the map."""
    (ny, nx), (n_down, n_across) = image.shape, activation.shape
    y, x = np.mgrid[:ny, :nx]
    if image.wcs is not None and activation.wcs is not None:
        sky = image.wcs.celestial.pixel_to_world(x, y)
        column, row = activation.wcs.celestial.world_to_pixel(sky)
    else:
        column, row = (x + 0.5) * n_across / nx - 0.5, (y + 0.5) * n_down / ny - 0.5
    column, row = np.rint(column).astype(int), np.rint(row).astype(int)
    inside = (0 <= column) & (column < n_across) & (0 <= row) & (row < n_down)
    return np.where(inside, activation.data[row.clip(0, n_down - 1), column.clip(0, n_across - 1)], np.nan)


def _lay_over(colours, weights):
    """Red for positive and blue for negative weights, the stronger the less of the picture is seen."""
    largest = float(np.nanmax(np.abs(weights), initial=0.0))
    if not largest:
        return colours
    alpha = _LARGEST_MAP_ALPHA * np.nan_to_num(np.abs(weights) / largest)[:, :, None]
    tint = np.where(weights[:, :, None] > 0, _FOR, _AGAINST)
    return np.rint((1 - alpha) * colours + alpha * tint).astype(np.uint8)
