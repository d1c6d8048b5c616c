"""Activation maps over pictures: blended colours, or contours that leave the picture as it is."""

import numpy as np
from scipy.ndimage import map_coordinates

__all__ = ["LAYERS", "blended", "edges", "lined", "map_values"]

LAYERS = ("contours", "blended")
_FOR, _AGAINST = np.array([255, 70, 40]), np.array([50, 130, 255])
# Lines must be seen on black, red, yellow, white and every grey: no heat or grey has these colours, and each has a dark
# seam.
_FOR_LINE, _AGAINST_LINE, _SEAM = (60, 255, 60), (90, 160, 255), (0, 0, 0)
_LARGEST_ALPHA = 0.65
_LEVELS = (0.25, 0.5, 0.75)  # of the largest weight


def map_values(image, activation, *, smooth=False):
    """Value of an activation map at each pixel of an image, of its cell or interpolated; NaN beyond the map."""
    (ny, nx), (n_rows, n_columns) = image.shape, activation.shape
    y, x = np.mgrid[:ny, :nx]
    if image.wcs is not None and activation.wcs is not None:
        sky = image.wcs.celestial.pixel_to_world(x, y)
        column, row = activation.wcs.celestial.world_to_pixel(sky)
    else:
        column, row = (x + 0.5) * n_columns / nx - 0.5, (y + 0.5) * n_rows / ny - 0.5
    inside = (np.rint(column) >= 0) & (np.rint(column) < n_columns) & (np.rint(row) >= 0) & (np.rint(row) < n_rows)
    values = map_coordinates(activation.data, [row, column], order=1 if smooth else 0, mode="nearest")
    return np.where(inside, values, np.nan)


def blended(colours, weights):
    """Red for positive and blue for negative weights; the larger the weight, the less of the picture is seen."""
    largest = float(np.nanmax(np.abs(weights), initial=0.0))
    if not largest:
        return colours
    alpha = _LARGEST_ALPHA * np.nan_to_num(np.abs(weights) / largest)[:, :, None]
    tint = np.where(weights[:, :, None] > 0, _FOR, _AGAINST)
    return np.rint((1 - alpha) * colours + alpha * tint).astype(np.uint8)


def lined(colours, weights):
    """Contours at fractions of the largest weight: green around evidence for the class, blue around evidence against
    it."""
    weights = np.nan_to_num(weights)
    largest = float(np.abs(weights).max(initial=0.0))
    colours = colours.copy()
    for sign, line in ((1, _FOR_LINE), (-1, _AGAINST_LINE)) if largest else ():
        for level in _LEVELS:
            inside = sign * weights > level * largest
            colours[edges(~inside)] = _SEAM
            colours[edges(inside)] = line
    return colours


def edges(mask):
    """Pixels of a mask that touch one outside of it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner
