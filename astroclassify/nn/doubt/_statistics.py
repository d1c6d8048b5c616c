"""Statistics of images that show another telescope, a much shorter exposure, or a processed image."""

from functools import lru_cache

import numpy as np

__all__ = ["image_statistics"]


def image_statistics(counts, exposure=None):
    """
    Statistics (n, 5 n_bands + 1) of images (n, n_bands, ny, nx) of counts, finite but for an unknown exposure
    and a band that is not there (NaN).

    For each band, with lg(x) = sign(x) log10(1 + abs(x)): lg of the sum; of the sum within 1/10 of the side from the
    middle; of the sum beyond 0.45 of the side, scaled to the whole area (background); of the largest pixel; and the
    grain, log10 of (0.01 + mean of (a - b)^2 / (abs(a) + abs(b)) over neighbours that are not both empty), whose mean
    is 1 for raw counts of a flat image and far less after smoothing. Last comes log10 of the exposure (s).
    """
    counts = np.asarray(counts)
    if counts.ndim != 4:
        raise ValueError(f"counts must have shape (n, n_bands, ny, nx), got {counts.shape}")
    n, n_bands, ny, nx = counts.shape
    centre, outskirts = _regions(ny, nx)
    values = np.empty((n, n_bands, 5))
    for index, image in enumerate(counts):  # image by image: doubles of a whole training set would not be bounded
        image = image.astype(float)
        outside = image[:, outskirts].sum(axis=1) * (ny * nx / outskirts.sum())
        sums = np.stack([image.sum(axis=(1, 2)), image[:, centre].sum(axis=1), outside, image.max(axis=(1, 2))], axis=1)
        values[index, :, :4], values[index, :, 4] = _lg(sums), np.log10(0.01 + _grain(image))
    seconds = np.full(n, np.nan)
    if exposure is not None:
        if len(exposure) != n:
            raise ValueError(f"exposure must be one per image ({n}), got {len(exposure)}")
        seconds = np.array([np.nan if value is None else float(value) for value in exposure])
    values[np.isnan(values[:, :, 0])] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        seconds = np.where(seconds > 0, np.log10(seconds), np.nan)
    return np.column_stack([values.reshape(n, -1), seconds])


@lru_cache(maxsize=4)
def _regions(ny, nx):
    """Pixels within 1/10 of the side from the middle, and those beyond 0.45 of it."""
    y, x = np.indices((ny, nx))
    radius = np.hypot(y - (ny - 1) / 2, x - (nx - 1) / 2) / min(ny, nx)
    return radius <= max(0.1, radius.min()), radius >= min(0.45, radius.max())


def _lg(values):
    return np.sign(values) * np.log10(1 + np.abs(values))


def _grain(image):
    """Mean of (a - b)^2 / (a + b) over neighbouring pixels that are not both empty; 1 where all are."""
    total, n = np.zeros(len(image)), np.zeros(len(image))
    for first, second in ((image[:, 1:], image[:, :-1]), (image[:, :, 1:], image[:, :, :-1])):
        size = np.abs(first) + np.abs(second)
        total += np.divide((first - second) ** 2, size, out=np.zeros_like(size), where=size > 0).sum(axis=(1, 2))
        n += (size > 0).sum(axis=(1, 2))
    return np.divide(total, n, out=np.ones_like(total), where=n > 0)
