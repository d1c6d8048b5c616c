"""How far an image is from those that a network was trained on."""

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from astroclassify.batch import derive_rng

from ._packed import pack, unpack

__all__ = ["FALSE_ALARM_RATE", "Novelty"]

FALSE_ALARM_RATE = 0.01
"""An image is unfamiliar where its `Novelty.score` is below this: the share of false alarms among familiar images."""

_ARRAYS = ("scale", "means", "directions", "variances")
_N_KEPT = 16  # directions of the features that are kept with a variance of their own
_N_FOLDS = 5
_TAIL = 0.1  # share of the reference scores that the tail is fitted to
_N_QUANTILES = 200
# Differences of this size are never strange: 12% in counts or exposure, and this share of the features' rms spread.
_FLOOR = 0.05
_LEAST_REFERENCE = 20


@dataclass(frozen=True)
class _Gaussians:
    """
    Normal distributions with ``means`` (n_classes, k) and one covariance, of values over ``scale`` (k,; 0: not used).

    ``directions`` (m, k) and ``variances`` (m,) are the leading eigenvectors and eigenvalues of the shrunk covariance,
    ``rest`` the mean of the other eigenvalues.
    """

    scale: np.ndarray
    means: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    rest: float
    shrinkage: float = 0.0

    @classmethod
    def fit(cls, values, labels, floor, shrinkage=None):
        """From values (n, k), NaN where unknown, and class numbers (n,); ``floor`` is added to each spread."""
        known = ~np.isnan(values)
        filled = np.where(known, values, 0.0)
        centre = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, values, centre)
        names, member = np.unique(labels, return_inverse=True)
        means = np.stack([filled[member == number].mean(axis=0) for number in range(len(names))])
        inside = filled - means[member]
        scale = np.sqrt((inside**2).mean(axis=0) + floor**2)
        scale[~known.any(axis=0)] = 0
        used = scale > 0
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=used)
        scaled = inside * inverse
        if shrinkage is None:
            shrinkage = ledoit_wolf_shrinkage(scaled, assume_centered=True)
        covariance = scaled.T @ scaled / len(scaled)
        mean_variance = np.trace(covariance) / max(1, used.sum())
        covariance = (1 - shrinkage) * covariance + np.diag(shrinkage * mean_variance + (floor * inverse) ** 2)
        variances, vectors = np.linalg.eigh(covariance[np.ix_(used, used)])
        n_kept = min(_N_KEPT, len(variances))
        directions = np.zeros((n_kept, len(scale)))
        directions[:, used] = vectors[:, ::-1][:, :n_kept].T
        others = variances[::-1][n_kept:]
        variances = np.maximum(variances[::-1][:n_kept], 1e-12)
        rest = float(np.float32(max(others.mean(), 1e-12))) if len(others) else 0.0
        # Kept as they will be stored, so that a loaded score is the same to the last bit.
        arrays = (array.astype(np.float32).astype(float) for array in (scale, means, directions, variances))
        return cls(*arrays, rest, shrinkage)

    def distances(self, values):
        """Mahalanobis distance of each row to the nearest class; NaN entries count as the mean."""
        inverse = np.divide(1, self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)
        squares = []
        for mean in self.means:
            scaled = np.where(np.isnan(values), 0.0, (values - mean) * inverse)
            along = scaled @ self.directions.T
            square = (along**2 / self.variances).sum(axis=1)
            if self.rest:
                square = square + np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0) / self.rest
            squares.append(square)
        return np.sqrt(np.min(squares, axis=0))


@dataclass(frozen=True)
class _Part:
    """One kind of numbers: their distribution, and the distances of images that it was not fitted to."""

    gaussians: _Gaussians
    n: int
    quantiles: np.ndarray
    mean_excess: float

    @classmethod
    def fit(cls, values, labels, folds, reference, floor):
        gaussians = _Gaussians.fit(values, labels, floor)
        if reference is not None:
            distances = gaussians.distances(reference)
        else:
            distances = np.empty(len(values))
            for fold in np.unique(folds):
                # With the shrinkage of all images: a stronger one would make the distances of the folds too small.
                rows = folds != fold
                rest = _Gaussians.fit(values[rows], labels[rows], floor, gaussians.shrinkage)
                distances[~rows] = rest.distances(values[folds == fold])
        n = len(distances)
        n_tail = cls.tail(n)
        ordered = np.sort(distances)
        below = ordered[: n - n_tail]  # the last one is where the tail begins
        if len(below) > _N_QUANTILES:
            below = np.quantile(below, np.linspace(0, 1, _N_QUANTILES))
        below = below.astype(np.float32).astype(float)
        excess = float(np.float32(np.mean(ordered[n - n_tail :]) - ordered[n - n_tail - 1]))
        return cls(gaussians, n, below, max(excess, 1e-6 * max(below[-1], 1e-6)))

    @staticmethod
    def tail(n):
        """How many of n distances belong to the tail."""
        return max(1, int(_TAIL * n))

    def p(self, values):
        """Chance that an image like those of training lies at least as far out."""
        distances = self.gaussians.distances(values)
        k = self.tail(self.n)
        start = self.quantiles[-1]
        below = np.searchsorted(self.quantiles, distances, side="left") / len(self.quantiles)
        inner = 1 - below * (self.n - k) / (self.n + 1)
        excess = np.maximum(distances - start, 0) / (k * self.mean_excess)
        outer = (k + 1) / (self.n + 1) * (1 + excess) ** (-float(k))
        if self.n < _LEAST_REFERENCE:  # nothing is known beyond the last of so few
            outer = np.maximum(outer, 1 / (self.n + 1))
        p = np.where(distances > start, outer, np.maximum(inner, (k + 1) / (self.n + 1)))
        return np.where(np.isfinite(values).any(axis=1), p, np.nan)

    def to_dict(self):
        arrays = {name: getattr(self.gaussians, name) for name in _ARRAYS} | {"quantiles": self.quantiles}
        packed = {name: pack(array) for name, array in arrays.items()}
        return {"n": self.n, "mean_excess": self.mean_excess, "rest": self.gaussians.rest, **packed}

    @classmethod
    def from_dict(cls, mapping):
        g = {name: unpack(mapping[name], f"{name} of a novelty score") for name in (*_ARRAYS, "quantiles")}
        n, rest, excess = mapping["n"], float(mapping["rest"]), float(mapping["mean_excess"])
        k, m = g["scale"].size, g["variances"].size
        shapes = {"scale": (k,), "means": (len(g["means"]), k), "directions": (m, k), "variances": (m,)}
        for name, shape in shapes.items():
            if g[name].shape != shape or not g[name].size:
                raise ValueError(f"{name} of a novelty score must have shape {shape}, got {g[name].shape}")
        quantiles = g.pop("quantiles")
        if quantiles.ndim != 1 or not quantiles.size or np.any(np.diff(quantiles) < 0):
            raise ValueError("quantiles of a novelty score must be rising numbers")
        if not isinstance(n, int) or isinstance(n, bool) or not 2 <= n <= 10**9:
            raise ValueError(f"n of a novelty score must be a whole number from 2, got {n!r}")
        good = np.isfinite([rest, excess]).all() and rest >= 0 and excess > 0
        if not good or np.any(g["scale"] < 0) or np.any(g["variances"] <= 0):
            raise ValueError("spreads of a novelty score must be finite and positive")
        return cls(_Gaussians(**g, rest=rest), n, quantiles, excess)


def _table(values, n, name, *, allow_nan):
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.shape[1] or (n is not None and len(values) != n):
        raise ValueError(f"{name} must have shape ({'n' if n is None else n}, k), got {values.shape}")
    if np.any(np.isinf(values)) or (not allow_nan and np.any(np.isnan(values))):
        raise ValueError(f"{name} must be finite")
    return values


def _folds(groups, n):
    """Fold of each row, groups kept together unless there is only one."""
    names, member = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    if len(member) != n:
        raise ValueError(f"groups must be one per image ({n}), got {len(member)}")
    if len(names) < 2:
        member = np.arange(n)
    n_groups = member.max() + 1
    fold = derive_rng(0, "novelty").permutation(n_groups) % min(_N_FOLDS, n_groups)
    return fold[member]


class Novelty:
    """
    How unlike the training images an image is.

    Two kinds of numbers are used: pooled features of the network, and ``image_statistics``. The distance is the
    Mahalanobis distance to the nearest class mean, with one covariance for all classes; its distribution is learned
    from images that were not used for the covariance. Make one with `fit` or `from_dict`.

    Notes
    -----
    - The covariance is shrunk (Ledoit & Wolf 2004); its 16 leading directions keep their variance and the others share
      one, which makes a stored score small (70 kB for 512 features).
    - Up to the 90th percentile of the reference distances the score is their rank, beyond it
      p = (k + 1)/(n + 1) (1 + x/(k s))^-k for x above the percentile and the mean excess s of the k distances there:
      exact for an exponential tail, conservative for a shorter one. With fewer than 20 reference images nothing is
      called unfamiliar.
    - Where both kinds are used the score is twice the smaller p (Bonferroni). In simulations with normal, Student and
      rectified features the false alarm rate was 0.8 to 1.4% with 900 training images in five folds or 100 reference
      images, lower with fewer; for a single set of 100 reference images it scatters from 0 to 3%.

    References
    ----------
    Lee et al. 2018, NeurIPS (arXiv:1807.03888), section 2.1; Ledoit & Wolf 2004, J. Multivariate Analysis 88, 365.
    """

    def __init__(self, parts):
        self._parts = parts

    def __repr__(self):
        known = "; ".join(f"{name} of {part.n} reference images" for name, part in self._parts.items())
        return f"<Novelty by {known}>"

    @classmethod
    def fit(cls, features=None, statistics=None, *, labels=None, groups=None, reference=None):
        """
        Learn what is familiar.

        Parameters
        ----------
        features : `~numpy.ndarray`, optional
            What the network makes of the training images (``novelty_features``), shape (n, k).
        statistics : `~numpy.ndarray`, optional
            ``image_statistics`` of the same images, shape (n, m).
        labels : sequence, optional
            Class of each image; by default one distribution for all.
        groups : sequence, optional
            What must not be split when there is no ``reference``.
        reference : tuple, optional
            Features and statistics of images that were not trained on (the validation set). Without, the distances
            come from five folds of the training images, whose features scatter less than those of new images: too many
            of these are then flagged.

        Returns
        -------
        Novelty
            The score.

        Raises
        ------
        ValueError
            If neither is given, shapes do not fit, features are not finite, or there are fewer than two images.
        """
        given = {"features": features, "statistics": statistics}
        given = {name: values for name, values in given.items() if values is not None}
        if not given:
            raise ValueError("features or statistics must be given")
        others = dict(zip(("features", "statistics"), reference or (None, None), strict=True))
        parts, n = {}, None
        for name, values in given.items():
            nan = name == "statistics"
            values = _table(values, n, name, allow_nan=nan)
            n = len(values)
            if n < 2:
                raise ValueError(f"{name} must be those of two images or more, got {n}")
            codes = np.zeros(n, int) if labels is None else np.unique(labels, return_inverse=True)[1]
            if len(codes) != n:
                raise ValueError(f"labels must be one per image ({n}), got {len(codes)}")
            held = others[name]
            if reference is not None:
                held = _table(held, None, f"{name} of reference", allow_nan=nan)
                if held.shape[1] != values.shape[1] or len(held) < 2:
                    raise ValueError(f"{name} of reference must have shape (2 or more, {values.shape[1]})")
            # A feature that was silent in training and wakes up is strange, rounding is not.
            floor = _FLOOR if nan else max(_FLOOR * float(np.sqrt(np.mean(values.var(axis=0)))), 1e-6)
            parts[name] = _Part.fit(values, codes, _folds(groups, n), held, floor)
        return cls(parts)

    @property
    def kinds(self):
        """What it was fitted to: ``"features"``, ``"statistics"`` or both."""
        return tuple(self._parts)

    def score(self, features=None, statistics=None):
        """
        Share of images like those of training that are at least as unusual.

        Parameters
        ----------
        features, statistics : `~numpy.ndarray`, optional
            Of the images, as for `fit`. What was not learned, or is not given, is not used.

        Returns
        -------
        `~numpy.ndarray`
            Shape (n,), from 1 (usual) to 0; below ``FALSE_ALARM_RATE`` the image is unfamiliar. NaN where all numbers
            of a kind are NaN.

        Raises
        ------
        ValueError
            If nothing that was learned is given, or the shape is another than in training.
        """
        found = []
        for name, values in (("features", features), ("statistics", statistics)):
            if values is None or name not in self._parts:
                continue
            part = self._parts[name]
            values = np.asarray(values, dtype=float)
            if values.ndim != 2 or values.shape[1] != part.gaussians.scale.size:
                raise ValueError(f"{name} must have shape (n, {part.gaussians.scale.size}), got {values.shape}")
            found.append(part.p(np.clip(values, -1e12, 1e12)))
        if not found:
            raise ValueError(f"one of {self.kinds} must be given")
        return np.minimum(1.0, len(found) * np.min(found, axis=0))

    def unfamiliar(self, features=None, statistics=None):
        """
        Whether images are unlike those of training, at a false alarm rate of 1%.

        Parameters
        ----------
        features, statistics : `~numpy.ndarray`, optional
            As for `score`.

        Returns
        -------
        `~numpy.ndarray`
            True or False, shape (n,).
        """
        return self.score(features, statistics) < FALSE_ALARM_RATE

    def to_dict(self):
        """
        Return the score as plain types, for JSON.

        Returns
        -------
        dict
            One entry per kind; arrays are text (base64 of little-endian 32-bit floats).
        """
        return {name: part.to_dict() for name, part in self._parts.items()}

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
        Novelty
            The score.

        Raises
        ------
        ValueError
            If it does not hold such a score.
        """
        if not isinstance(mapping, dict) or not mapping or set(mapping) - {"features", "statistics"}:
            raise ValueError("a novelty score must hold 'features' or 'statistics'")
        try:
            return cls({name: _Part.from_dict(part) for name, part in mapping.items()})
        except (KeyError, TypeError) as error:
            raise ValueError(f"a novelty score lacks an entry or has one of a wrong kind: {error}") from None
