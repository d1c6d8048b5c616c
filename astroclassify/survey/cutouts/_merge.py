"""Cutouts as pictures: X-ray and optical merged into one, as Kosiba et al. (2020) gave them to their networks."""

from pathlib import Path

import numpy as np

from astroclassify.exceptions import GeometryError
from astroclassify.images import Cutout
from astroclassify.images._pictures import Scale, brightness, valid_values, write_picture

__all__ = ["merge_bands", "write_png"]

# Levels of the optical band that become black and white, in percent of its pixels.
_OPTICAL = Scale("linear", 1.0, 99.5)


def merge_bands(cutout):
    """
    Merge the two bands of a cutout into one picture with the channels empty, optical, X-ray.

    Parameters
    ----------
    cutout : `~astroclassify.images.Cutout`
        With the band ``"xray"``; without ``"optical"`` that channel is empty too.

    Returns
    -------
    `~numpy.ndarray` of uint8, shape (ny, nx, 3)
        Grey levels; the first line is the upper edge, as in a picture, which is the last row of an image.

    Raises
    ------
    TypeError
        If it is not a Cutout.
    GeometryError
        If it has no band ``"xray"``.

    Notes
    -----
    Which scaling Kosiba et al. used is not known. Here the X-ray channel is 255 times the square root of counts over
    their largest, which keeps the noise of the background visible; the optical channel is linear between the
    percentiles 1 and 99.5 of the plate's densities. Masked pixels are black.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, section 2 (X-ray and optical merged into one image).

    Examples
    --------
    >>> from astroclassify.sim import simulate_candidates
    >>> from astroclassify.survey import merge_bands
    >>> merge_bands(simulate_candidates(1, rng=1, shape=(128, 128), progress=False)[0]).shape
    (128, 128, 3)
    """
    if not isinstance(cutout, Cutout):
        raise TypeError(f"cutout must be a Cutout, got {type(cutout).__name__}")
    if "xray" not in cutout.bands:
        raise GeometryError(f"cutout must have the band 'xray', got {tuple(cutout.bands)}")
    counts, _ = valid_values(cutout.bands["xray"])
    picture = np.zeros((*counts.shape, 3), np.uint8)
    picture[:, :, 2] = np.round(255 * brightness(counts, 0.0, counts.max(), "sqrt"))
    if "optical" in cutout.bands:
        densities, valid = valid_values(cutout.bands["optical"])
        picture[:, :, 1] = np.round(255 * np.where(valid, _OPTICAL.apply(densities, valid), 0.0))
    return picture[::-1]


def write_png(cutout, path, *, overwrite=False):
    """
    Write a cutout as a picture that `read_kosiba2020` reads.

    Parameters
    ----------
    cutout : `~astroclassify.images.Cutout`
        With the band ``"xray"`` and, if there is one, ``"optical"``.
    path : str or path-like
        The file. The layout of the training set is ``train_images/<image_id>.png`` with 356 x 356 pixels.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Returns
    -------
    `~pathlib.Path`
        The file.

    Raises
    ------
    OutputError
        If the file exists already or cannot be written.
    MissingDependencyError
        If Pillow, which comes with the extra ``plots``, is not installed.

    Examples
    --------
    >>> from astroclassify.survey import write_png
    >>> write_png(cutout, "train_images/1234.png")  # doctest: +SKIP
    """
    write_picture(merge_bands(cutout), path, overwrite=overwrite)
    return Path(path)
