"""Where a network looks, by another method: the change of its log-odds when a patch of the image is replaced."""

import numpy as np
from astropy import units as u
from scipy.special import logsumexp

from astroclassify import batch
from astroclassify._checks import check_choice, check_quantity
from astroclassify.schemes import get_scheme

from ._cells import Cells, load_one, map_image, map_meta

__all__ = ["FILLS", "log_odds", "occlusion_map"]

FILLS = ("azimuthal", "local")
_CHUNK = 32
_PARTS = 8


def log_odds(logits, index):
    """ln p / (1 - p) of one class (n,) from logits (n, n_classes), so that it does not saturate where p rounds to 1."""
    logits = np.asarray(logits, dtype=float)
    return logits[:, index] - logsumexp(np.delete(logits, index, axis=1), axis=1)


def _rings(shape):
    """Whole number of pixels between each pixel and the middle."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return np.hypot(y[:, None], x).astype(int)


def _fill_azimuthal(plane, patch, rings, rng):
    """Values drawn from the pixels at the same distance from the middle outside the patch."""
    outside = np.ones(plane.shape, bool)
    outside[patch] = False
    order = np.argsort(rings[outside], kind="stable")
    pool, radii = plane[outside][order], rings[outside][order]
    inner = rings[patch]
    # Where the patch holds a whole ring, as in the middle, the nearest ring beyond it that has pixels elsewhere; in the
    # corners the last there is.
    first = np.searchsorted(radii, inner)
    ring = radii[np.minimum(first, len(radii) - 1)]
    low, high = np.searchsorted(radii, ring, side="left"), np.searchsorted(radii, ring, side="right")
    return pool[rng.integers(low, high)]


def _fill_local(plane, patch, rng):
    """Values drawn from a frame around the patch, half as wide as it."""
    width = [max(1, (part.stop - part.start) // 2) for part in patch]
    frame = tuple(slice(max(part.start - w, 0), part.stop + w) for part, w in zip(patch, width, strict=True))
    outside = np.ones(plane.shape, bool)
    outside[patch] = False
    return rng.choice(plane[frame][outside[frame]], size=plane[patch].shape)


def _occluded(counts, n_bands, patch, fill, rings, rng):
    """Copy of an image (n_planes, ny, nx) with one patch of its bands filled."""
    result = counts.copy()
    for plane in result[:n_bands]:
        plane[patch] = _fill_local(plane, patch, rng) if fill == "local" else _fill_azimuthal(plane, patch, rings, rng)
    return result


def _patch_pixels(size, geometry):
    unit = u.kpc if geometry.is_physical else u.arcmin
    pixel = geometry.width.to_value(unit) / geometry.shape[1]
    shortest = min(geometry.shape)
    pixels = shortest // _PARTS if size is None else round(check_quantity("size", size, unit, shape=()) / pixel)
    if not 1 <= pixels <= shortest // 2:
        raise ValueError(f"size must lie between a pixel ({pixel:.3g} {unit}) and half the field, got {size}")
    return pixels


def occlusion_map(
    classifier, image, class_name, *, size=None, fill="azimuthal", redshift=None, centre=None, columns=None
):
    """
    Map of how much each patch of an image adds to the log-odds of a class.

    Parameters
    ----------
    classifier : CutoutClassifier
        A fitted or loaded classifier of any architecture. Torch is not needed.
    image : `~astropy.nddata.CCDData`, Cutout, path or `~numpy.ndarray`
        The image, or an array ([n_bands,] ny, nx) of counts on the model's grid.
    class_name : str
        A class of the scheme.
    size : `~astropy.units.Quantity`, optional
        Side of the patches, rounded to pixels: a length, or an angle where the model's grid is in angles. By default an
        eighth of the field.
    fill : str, optional
        What a patch is filled with: ``"azimuthal"``, pixels at the same distance from the middle of the field but
        outside the patch (where there are none, as around the middle itself, of the next ring out); ``"local"``, pixels
        of a frame around the patch, half as wide as it.
    redshift : float, optional
        Redshift; by default that of the header.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Centre of the field; by default the middle of the image.
    columns : `~astropy.table.Table`, optional
        One row with the columns that the classifier uses beside the image, if it does.

    Returns
    -------
    `~astropy.nddata.CCDData`
        One pixel a patch, dimensionless: log-odds ``ln p / (1 - p)`` of the image as it is minus that with the patch
        filled. Positive where the patch speaks for the class, as in an activation map. WCS and ``meta`` as for
        `~astroclassify.nn.CutoutClassifier.activation_map`, with ``METHOD`` ``"occlusion"``, ``LOGODDS`` of the image
        as it is, and ``FILL``.

    Raises
    ------
    SchemaError
        If there is no such class.
    GeometryError, TypeError, ValueError, OSError
        If the image or an argument cannot be used.

    Notes
    -----
    A patch of zeros or of equal values is unlike any observed image, and the network would respond to that. So each
    pixel is drawn from pixels of the image itself, with the mean and the noise of the surroundings. Draws are the same
    each time for one source. The network is run once per patch, in batches of 32.

    References
    ----------
    Zeiler & Fergus 2014, ECCV, section 4.2 (with grey patches).

    Examples
    --------
    >>> import numpy as np
    >>> from astropy import units as u
    >>> from astroclassify.nn import load_classifier, occlusion_map
    >>> counts = np.random.default_rng(0).poisson(2.0, (256, 256))
    >>> occlusion_map(load_classifier("coolcore"), counts, "CC", size=500 * u.kpc).shape
    (2, 2)
    """
    index = get_scheme(classifier.scheme).index(class_name)
    predictor = classifier._fitted()
    geometry = predictor.geometry
    pixels = _patch_pixels(size, geometry)
    check_choice("fill", fill, FILLS)
    counts, wcs, meta = load_one(predictor, image, redshift=redshift, centre=centre, columns=columns)
    shape = tuple(-(-n // pixels) for n in geometry.shape)
    patches = [
        tuple(slice(i * pixels, min((i + 1) * pixels, n)) for i, n in zip(place, geometry.shape, strict=True))
        for place in np.ndindex(shape)
    ]
    rings = _rings(geometry.shape)
    temperature = getattr(predictor, "temperature", 1.0)

    def answers(images):
        return log_odds(predictor.network.logits(predictor.preprocessing(images)) / temperature, index)

    whole = answers(counts[None])[0]
    changed = []
    for start in range(0, len(patches), _CHUNK):
        images = [
            _occluded(
                counts, len(predictor.bands), patch, fill, rings, batch.derive_rng(0, meta["SOURCEID"], start + number)
            )
            for number, patch in enumerate(patches[start : start + _CHUNK])
        ]
        changed.append(answers(np.stack(images)))
    cells = Cells.blocks(shape, geometry.shape, (float(pixels),) * 2)
    meta |= map_meta(classifier, cells, geometry, redshift=meta.get("REDSHIFT"))
    meta |= {"CLASS": class_name, "METHOD": "occlusion", "LOGODDS": float(whole), "FILL": fill}
    data = (whole - np.concatenate(changed)).reshape(shape)
    return map_image(data, None if wcs is None else cells.wcs(wcs), meta)
