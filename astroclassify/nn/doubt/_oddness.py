"""How odd a row of numbers is among those of clusters: two scores, ranked among held-out rows in like conditions."""

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.neural_network import MLPClassifier

from ._packed import pack, unpack

__all__ = ["Oddness"]

_NEIGHBOURS = (100, 600)  # held-out clusters in the nearest conditions to rank among: a third of all, from 100 to 600
_HIDDEN = (32, 16)
_N_NETWORKS = 5  # whose log-odds are averaged
_MOST_STORED = 3000
_CLIP = 8.0  # spreads from the mean beyond which a number counts as this far
_LEVELS = np.geomspace(1, 3e-3, 40)  # shares of clusters beyond, at which the tails of the scores are stored
_NETWORK = 0.8  # share of the false alarms left to the network
_FLOOR = 0.03  # differences of this size in a number (they are logarithms) are never odd
_RIDGE = 0.01
_MEAN_LOG_NORMAL = -0.635  # mean of log abs(x) for a standard normal x
_ARRAYS = ("mean", "spread", "reach", "trend", "whiten", "units", "tails", "places", "ranked")


class Oddness:
    """
    p-values of rows (k,) whose first numbers are conditions (resolution, cover, depth); the others describe an image.

    ``networks``: weights and biases of the layers of networks with rectified units, whose mean is the log-odds of not
    being a cluster. ``arrays``: ``mean``, ``spread`` (k,) of clusters; ``reach`` (2, n_conditions), the range beyond
    which conditions count as at its ends; ``trend`` and ``whiten``, the normal distribution of the numbers given the
    conditions; ``units``, trends of centre and log spread of the two scores; ``tails``, their quantiles; ``places`` and
    ``ranked``, conditions and oddness of held-out clusters.
    """

    def __init__(self, arrays, networks):
        # Kept as they will be stored, so that a loaded score is the same to the last bit.
        self._a = {name: np.asarray(array, dtype=np.float32).astype(float) for name, array in arrays.items()}
        self._networks = [
            [tuple(np.asarray(part, dtype=np.float32).astype(float) for part in layer) for layer in network]
            for network in networks
        ]
        self._n = self._a["places"].shape[1]

    @property
    def n_near(self):
        """Number of held-out clusters that a row is ranked among."""
        n = len(self._a["places"])
        return min(n, int(np.clip(n // 3, *_NEIGHBOURS)))

    @property
    def typical(self):
        """Median of the first condition."""
        return float(np.median(self._a["places"][:, 0]) * self._a["spread"][0] + self._a["mean"][0])

    @classmethod
    def fit(cls, clusters, others, held, n_conditions, rng):
        """From rows of clusters (n, k) and of other things (m, k); clusters ``held`` (n,) are only ranked among."""
        learn = clusters[~held]
        mean, spread = np.nanmean(learn, axis=0), np.nanstd(learn, axis=0) + _FLOOR
        nothing = np.zeros((1 + 2 * n_conditions, 4))
        arrays = {
            "mean": mean, "spread": spread,
            "reach": np.quantile((learn[:, :n_conditions] - mean[:n_conditions]) / spread[:n_conditions],
                                 [0.01, 0.99], axis=0),
            "places": np.zeros((1, n_conditions)), "ranked": np.zeros(1), "units": nothing,
            "tails": np.zeros((len(_LEVELS), 2)),
        }  # fmt: skip
        known = cls(arrays, [])._scaled(learn)
        both = np.concatenate([known, cls(arrays, [])._scaled(others)])
        is_other = (np.arange(len(both)) >= len(known)).astype(int)
        networks = []
        for _ in range(_N_NETWORKS):
            network = MLPClassifier(_HIDDEN, alpha=0.03, max_iter=200, early_stopping=True, n_iter_no_change=15,
                                    random_state=int(rng.integers(2**31)))  # fmt: skip
            order = rng.permutation(len(both))
            network.fit(both[order], is_other[order])
            networks.append(list(zip(network.coefs_, network.intercepts_, strict=True)))
        terms, shapes = _terms(known[:, :n_conditions]), known[:, n_conditions:]
        arrays["trend"] = np.linalg.lstsq(terms, shapes, rcond=None)[0]
        covariance = ledoit_wolf(shapes - terms @ arrays["trend"], assume_centered=True)[0]
        values, vectors = np.linalg.eigh(covariance + _RIDGE * np.eye(len(covariance)))
        arrays["whiten"] = vectors / np.sqrt(values)
        scaled = cls(arrays, networks)._scaled(clusters[held])
        terms, scores = _terms(scaled[:, :n_conditions]), cls(arrays, networks)._scores(scaled)
        middle = np.linalg.lstsq(terms, scores, rcond=None)[0]
        off = np.abs(scores - terms @ middle)
        width = np.linalg.lstsq(terms, np.log(off + 0.1 * off.mean(axis=0)) - _MEAN_LOG_NORMAL, rcond=None)[0]
        arrays["units"] = np.concatenate([middle, width], axis=1)
        arrays["tails"] = np.quantile(cls(arrays, networks)._standard(scaled), 1 - _LEVELS, axis=0)
        odd = cls(arrays, networks)._odd(scaled)
        kept = rng.permutation(len(odd))[:_MOST_STORED]
        return cls(arrays | {"places": scaled[kept, :n_conditions], "ranked": odd[kept]}, networks)

    def _scaled(self, rows):
        """Rows in spreads from the mean, unknown numbers at it; conditions beyond the clusters' at their ends."""
        scaled = np.clip(np.nan_to_num((rows - self._a["mean"]) / self._a["spread"]), -_CLIP, _CLIP)
        scaled[:, : self._n] = np.clip(scaled[:, : self._n], *self._a["reach"])
        return scaled

    def _scores(self, scaled):
        """Log-odds of not being a cluster, and Mahalanobis distance from the clusters, (n, 2)."""
        odds = np.mean([_run(network, scaled) for network in self._networks], axis=0)
        off = scaled[:, self._n :] - _terms(scaled[:, : self._n]) @ self._a["trend"]
        return np.column_stack([odds, np.sqrt(((off @ self._a["whiten"]) ** 2).sum(axis=1))])

    def _standard(self, scaled):
        """Scores (n, 2) from their centre in units of their spread, both those of the conditions."""
        units = _terms(scaled[:, : self._n]) @ self._a["units"]
        return (self._scores(scaled) - units[:, :2]) / np.exp(units[:, 2:])

    def _odd(self, scaled):
        """The rarer of the two scores: -log10 of the share of clusters beyond it, the network's counted more."""
        shares = -np.log10(_LEVELS)
        rare = [_extended(column, tail, shares) for column, tail in
                zip(self._standard(scaled).T, self._a["tails"].T, strict=True)]  # fmt: skip
        return (np.column_stack(rare) + np.log10([_NETWORK, 1 - _NETWORK])).max(axis=1)

    def p(self, row):
        """Share of clusters in conditions like those of a row (k,) that are at least as odd."""
        scaled = self._scaled(row[None])
        distance = ((self._a["places"] - scaled[0, : self._n]) ** 2).sum(axis=1)
        near = np.argpartition(distance, self.n_near - 1)[: self.n_near]
        return float((1 + np.sum(self._a["ranked"][near] >= self._odd(scaled)[0])) / (1 + self.n_near))

    def to_dict(self):
        """Plain types, for JSON."""
        networks = [[[pack(part) for part in layer] for layer in network] for network in self._networks]
        return {**{name: pack(self._a[name]) for name in _ARRAYS}, "networks": networks}

    @classmethod
    def from_dict(cls, mapping, k, n_conditions):
        """From what `to_dict` gives, for rows of ``k`` numbers; ValueError if it is none."""
        what = "of a familiarity score"
        arrays = {name: unpack(mapping[name], f"{name} {what}") for name in _ARRAYS}
        n_terms, n_shape, n = 1 + 2 * n_conditions, k - n_conditions, len(arrays["places"])
        shapes = {
            "mean": (k,), "spread": (k,), "reach": (2, n_conditions), "trend": (n_terms, n_shape),
            "whiten": (n_shape, n_shape), "units": (n_terms, 4), "tails": (len(_LEVELS), 2),
            "places": (n, n_conditions), "ranked": (n,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not n:
                raise ValueError(f"{name} {what} must have shape {shape}, got {arrays[name].shape}")
        if np.any(arrays["spread"] <= 0) or np.any(np.diff(arrays["tails"], axis=0) < 0):
            raise ValueError(f"spreads {what} must be positive and tails rise")
        networks = [
            [tuple(unpack(part, f"layer {what}") for part in layer) for layer in network]
            for network in mapping["networks"]
        ]
        sizes = [k, *_HIDDEN, 1]
        wanted = [((first, last), (last,)) for first, last in zip(sizes[:-1], sizes[1:], strict=True)]
        if not networks or any([tuple(part.shape for part in layer) for layer in each] != wanted for each in networks):
            raise ValueError(f"networks {what} must have layers of the shapes {wanted}")
        return cls(arrays, networks)


def _run(network, values):
    """Output (n,) of a network for rows (n, k)."""
    for number, (weights, biases) in enumerate(network):
        values = (np.maximum(values, 0) if number else values) @ weights + biases
    return values[:, 0]


def _terms(conditions):
    """Terms of a quadratic in each condition, (n, 1 + 2 n_conditions)."""
    return np.column_stack([np.ones(len(conditions)), conditions, conditions**2])


def _extended(x, places, values):
    """Linear interpolation between rising places, and beyond the last along a line through the last ones."""
    slope = (values[-1] - values[-6]) / max(places[-1] - places[-6], 1e-6)
    return np.where(x > places[-1], values[-1] + slope * (x - places[-1]), np.interp(x, places, values))
