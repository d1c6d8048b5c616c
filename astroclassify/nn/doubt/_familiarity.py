"""Whether an image is one of a cluster at all: a p-value against clusters seen through the same telescope."""

from functools import partial

import numpy as np

from astroclassify import batch
from astroclassify._checks import check_number
from astroclassify.batch import derive_rng, master_seed

from ._non_clusters import as_picture, non_cluster
from ._oddness import Oddness
from ._shape import N_GRAIN, N_VALUES, shape_of

__all__ = ["Familiarity"]

# Kinds of images, and how many conditions and numbers each has: depth is known of counts alone.
_KINDS = {"counts": (3, 3 + N_VALUES + N_GRAIN), "picture": (2, 2 + N_VALUES)}
_CALIBRATION = 0.4  # share of the groups that scores are ranked among
_LEAST = 250  # images: with fewer nothing can be called unfamiliar at 1%
_N_OTHERS = 3  # images of something else, made for each cluster
_PICTURE_COUNTS = 1000  # nobody publishes a picture of fewer
_N_PLACES = 16  # blocks along a side, of which the background is a low percentile


class Familiarity:
    """
    How ordinary an image is among images of clusters of the same depth and resolution.

    Make one with `fit` or `from_dict`; `p` gives the p-value. Images must show 1 Mpc or more about the cluster.

    Notes
    -----
    An image becomes some 35 numbers about its brightest smooth place: profile relative to the mean within 250 kpc,
    mean over median of sectors, dipole, quadrupole and the rest, clumpiness on two scales, contrast, grain; with the
    Poisson noise subtracted. Two scores are made of these: the log-odds of a small network that tells the clusters
    from simulated remnants, spirals, point sources, blank fields, stray light, artefacts, clouds and spoilt images
    (which `fit` makes with the exposure, background and resolution of the clusters), and, for what nobody thought of,
    the Mahalanobis distance from the clusters, given depth and resolution. The rarer of the two is ranked among the
    n = 600 held-out clusters (fewer if there are few) of the nearest depth and resolution: p = (1 + number at least as
    odd) / (1 + n), which is uniform for new clusters of the same population, and about so at each depth
    (split-conformal p-value).

    The centre is the brightest place within 250 kpc of the middle, smoothed by 20 kpc; no number depends on single
    pixels, on where the cluster lies to the pixel, or on the brightest pixels. An image of counts without an excess of
    5 sigma within 250 kpc has the least p: no cluster is seen. Depths and resolutions beyond those of the clusters
    count as at their ends.

    Not a proof: what is smooth, round and peaked as clusters are (an elliptical with a halo, at a redshift that is not
    its own) is familiar.

    References
    ----------
    Lee et al. 2018, NeurIPS (arXiv:1807.03888), section 2.1 (Mahalanobis distance); Vovk, Gammerman & Shafer 2005,
    Algorithmic Learning in a Random World (conformal p-values) [from memory].

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.nn import Familiarity
    >>> rng = np.random.default_rng(1)
    >>> y, x = (np.indices((64, 64)) - 31.5) * 16
    >>> core, level = rng.uniform(50, 150, (300, 1, 1)), rng.uniform(5, 50, (300, 1, 1))
    >>> clusters = rng.poisson(level * (1 + (x**2 + y**2) / core**2) ** -1.5 + 0.3)
    >>> score = Familiarity.fit(clusters, pixel=16, resolution=np.full(300, 5.0), rng=1, progress=False)
    >>> score.p(clusters[0], pixel=16) > 0.01, score.p(rng.poisson(1.0, (64, 64)), pixel=16) < 0.01
    (True, True)
    """

    def __init__(self, parts):
        self._parts = parts

    def __repr__(self):
        return f"<Familiarity among clusters, as {' and '.join(self._parts)}>"

    @classmethod
    def fit(cls, counts, *, pixel, resolution, exposure=None, groups=None, rng=None, executor=None, progress=None):
        """
        Learn what clusters look like.

        Parameters
        ----------
        counts : `~numpy.ndarray`
            Images of clusters, counts, shape (n, ny, ny) with n from 250; some thousands are better. Images in which
            nothing is seen are left out.
        pixel : float
            Side of a pixel in kpc.
        resolution : sequence of float
            FWHM in kpc of a point source in each image, the telescope's pixels included (added in squares).
        exposure : `~numpy.ndarray`, optional
            Exposure of each pixel relative to the best, 0 where there is none, shape (n, ny, ny); by default the whole
            image is exposed. Every other image is measured as if it were not known, since real images often come so.
        groups : sequence, optional
            Images of one object, never split between learning and ranking; by default each is its own.
        rng : int or `~numpy.random.Generator`, optional
            Seed; by default a fresh one.
        executor : `~concurrent.futures.Executor`, optional
            Where to run; by default here, 0.1 s an image.
        progress : bool, optional
            Whether to show a bar on standard error; by default on a terminal only.

        Returns
        -------
        Familiarity
            The score.

        Raises
        ------
        ValueError
            If shapes do not fit, values are not finite and from 0, or fewer than 250 images show something.
        """
        counts = np.asarray(counts)
        if counts.ndim != 3 or len(counts) < _LEAST or counts.shape[1] != counts.shape[2]:
            raise ValueError(f"counts must have shape (n from {_LEAST}, ny, ny), got {counts.shape}")
        n = len(counts)
        pixel = check_number("pixel", pixel, 0, open_low=True)
        resolution = np.asarray(resolution, dtype=float)
        if resolution.shape != (n,) or not np.all(np.isfinite(resolution) & (resolution > 0)):
            raise ValueError(f"resolution must be {n} finite positive numbers of kpc, got {resolution!r:.100}")
        if exposure is not None and np.shape(exposure) != counts.shape:
            raise ValueError(f"exposure must have the shape of counts {counts.shape}, got {np.shape(exposure)}")
        names = np.arange(n) if groups is None else np.asarray(groups)
        if names.shape != (n,):
            raise ValueError(f"groups must be one per image ({n}), got shape {names.shape}")
        for number, image in enumerate(counts):
            if not np.all(np.isfinite(image)) or image.min() < 0:
                raise ValueError(f"counts must be finite and from 0, which image {number} is not")
        seed = master_seed(rng)
        items = [
            (image, None if exposure is None else exposure[number], width, derive_rng(seed, "image", number))
            for number, (image, width) in enumerate(zip(counts, resolution, strict=True))
        ]
        outcomes = batch.run(partial(_examples, pixel=pixel), items, keys=range(n), executor=executor,
                             progress=progress, description="measuring")  # fmt: skip
        rows = []
        for outcome in outcomes:
            if outcome.error:
                raise ValueError(f"counts must be images, image {outcome.key} is not: {outcome.error}")
            rows.append(outcome.value)
        member = np.unique(names, return_inverse=True)[1]
        held = derive_rng(seed, "split").random(member.max() + 1)[member] < _CALIBRATION
        parts = {}
        for kind, (n_conditions, _) in _KINDS.items():
            used = np.array([row is not None and kind in row for row in rows])
            if used.sum() < _LEAST or not 0 < held[used].sum() < used.sum():
                raise ValueError(f"counts must show something in {_LEAST} images or more, got {used.sum()}")
            clusters = np.array([row[kind][0] for row, good in zip(rows, used, strict=True) if good])
            others = np.concatenate([row[kind][1] for row, good in zip(rows, used & ~held, strict=True) if good])
            parts[kind] = Oddness.fit(clusters, others, held[used], n_conditions, derive_rng(seed, kind))
        return cls(parts)

    def p(self, counts, *, pixel, exposure=None, resolution=None, poisson=True):
        """
        Share of clusters of the same depth and resolution that look at least as odd.

        Parameters
        ----------
        counts : `~numpy.ndarray`
            One image, shape (ny, nx), its middle on the cluster.
        pixel : float
            Side of a pixel in kpc; it need not be that of `fit`.
        exposure : `~numpy.ndarray`, optional
            Exposure of each pixel, in any unit; by default places without counts count as not exposed.
        resolution : float, optional
            FWHM in kpc of a point source, the telescope's pixels included; by default the median of the clusters.
        poisson : bool, optional
            Whether pixels are counts. If not (pictures, images without exposure) only the shape is judged.

        Returns
        -------
        float
            Up to 1, from 1/601 where the score was learned from 4500 images or more, else from up to 1/101; NaN for an
            image that is not finite.

        Raises
        ------
        ValueError
            If ``counts`` is no image, or ``pixel`` or ``resolution`` not positive.
        """
        counts = np.asarray(counts, dtype=float)
        if counts.ndim != 2 or not counts.size:
            raise ValueError(f"counts must be an image of shape (ny, nx), got {counts.shape}")
        if not np.all(np.isfinite(counts)):
            return float("nan")
        pixel = check_number("pixel", pixel, 0, open_low=True)
        part = self._parts["counts" if poisson else "picture"]
        least = 1 / (1 + part.n_near)
        if not counts.max() > 0:
            return least
        if resolution is None:
            resolution = 10**part.typical
        resolution = check_number("resolution", resolution, 0, open_low=True)
        shape = shape_of(counts, exposure, pixel=pixel, poisson=poisson)
        if poisson and not shape.is_seen:
            return least
        return part.p(_row(shape, resolution, poisson))

    def to_dict(self):
        """
        Return the score as plain types, for JSON.

        Returns
        -------
        dict
            Arrays are text (base64 of little-endian 32-bit floats).
        """
        return {kind: part.to_dict() for kind, part in self._parts.items()}

    @classmethod
    def from_dict(cls, mapping):
        """
        Build a score from what `to_dict` gives.

        Parameters
        ----------
        mapping : dict
            The content; it need not be trusted.

        Returns
        -------
        Familiarity
            The score.

        Raises
        ------
        ValueError
            If it does not hold such a score.
        """
        try:
            parts = {kind: Oddness.from_dict(mapping[kind], k, n) for kind, (n, k) in _KINDS.items()}
        except (KeyError, TypeError) as error:
            raise ValueError(f"a familiarity score lacks an entry or has one of a wrong kind: {error}") from None
        return cls(parts)


def _row(shape, resolution, poisson):
    """Numbers of one image: conditions, then shape (and grain)."""
    conditions = [np.log10(resolution), shape.cover]
    if poisson:
        return np.concatenate([conditions, [np.log10(shape.counts)], shape.values, shape.grain])
    return np.concatenate([conditions, shape.values])


def _background(counts, exposure):
    """Counts of an exposed pixel in the darkest fifth of the field."""
    side = max(1, len(counts) // _N_PLACES)
    length = len(counts) // side * side
    sums, seen = (
        array[:length, :length].reshape(length // side, side, length // side, side).sum(axis=(1, 3))
        for array in (counts, exposure)
    )
    known = seen > 0.3 * side**2
    return max(float(np.percentile(sums[known] / seen[known], 20)), 1e-6) if known.any() else 1e-6


def _examples(item, pixel):
    """
    Rows of a cluster, and of other things in its place, as counts and as pictures; None where nothing is seen.

    ``item``: counts, exposure or None, resolution, generator.
    """
    counts, exposure, resolution, rng = item
    counts = np.asarray(counts, dtype=float)
    known = exposure is not None and rng.random() < 0.5
    exposure = np.ones(counts.shape) if exposure is None else np.asarray(exposure, dtype=float)
    given = exposure if known else None
    shape = shape_of(counts, given, pixel=pixel)
    if not shape.is_seen:
        return None
    telescope = {"pixel": pixel, "resolution": resolution}
    background = _background(counts, exposure)
    others = [non_cluster(counts, exposure, rng, net=shape.counts, background=background, **telescope)
              for _ in range(_N_OTHERS)]  # fmt: skip
    rows = [_row(shape_of(image, given, pixel=pixel), resolution, True) for image in others if image.max() > 0]
    found = {"counts": (_row(shape, resolution, True), np.reshape(rows, (len(rows), _KINDS["counts"][1])))}
    if shape.counts > _PICTURE_COUNTS:
        rows = []
        for image in (counts, *others):
            picture, width = as_picture(image, exposure, rng, **telescope)
            rows.append(_row(shape_of(picture, pixel=pixel, poisson=False), width, False))
        found["picture"] = rows[0], np.array(rows[1:])
    return found
