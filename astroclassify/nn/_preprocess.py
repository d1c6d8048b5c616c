"""From counts to what the network sees: one rule for training and for inference."""

from dataclasses import dataclass

import numpy as np

__all__ = ["STRETCHES", "Preprocessing", "check_stretch", "stretch_counts"]

STRETCHES = {
    "log": "log10(1 + counts)",
    "sqrt": "sqrt(counts)",
    "linear": "counts",
}


def check_stretch(stretch):
    """
    Check the name of a stretch.

    Parameters
    ----------
    stretch : str
        The name.

    Returns
    -------
    str
        The same.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if not isinstance(stretch, str) or stretch not in STRETCHES:
        raise ValueError(f"stretch must be one of {sorted(STRETCHES)}, got {stretch!r}")
    return stretch


def stretch_counts(counts, stretch):
    """
    Compress the range of counts.

    Parameters
    ----------
    counts : `~numpy.ndarray`
        Counts per pixel, any shape. Negative values (of a background-subtracted image) are taken as zero.
    stretch : str
        ``"log"``: log10(1 + counts); ``"sqrt"``: sqrt(counts), which makes Poisson noise about the same everywhere;
        ``"linear"``: as they are.

    Returns
    -------
    `~numpy.ndarray`
        float32, same shape.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.nn._preprocess import stretch_counts
    >>> stretch_counts(np.array([-1.0, 0.0, 9.0]), "log").tolist()
    [0.0, 0.0, 1.0]
    """
    check_stretch(stretch)
    pixels = np.maximum(np.asarray(counts, dtype=np.float32), np.float32(0))
    if stretch == "log":
        return np.log1p(pixels) * np.float32(1 / np.log(10))
    return np.sqrt(pixels) if stretch == "sqrt" else pixels


@dataclass(frozen=True)
class Preprocessing:
    """
    Stretch, and the mean and standard deviation of the stretched training pixels, one per band.

    Examples
    --------
    >>> import numpy as np
    >>> from astroclassify.nn._preprocess import Preprocessing
    >>> rule = Preprocessing("linear", (1.0,), (2.0,))
    >>> rule(np.full((1, 1, 2, 2), 5.0)).max().item()
    2.0
    """

    stretch: str
    mean: tuple
    std: tuple

    @classmethod
    def measure(cls, counts, stretch):
        """
        Measure the statistics of a training set.

        Parameters
        ----------
        counts : `~numpy.ndarray`
            Counts, shape (n, n_bands, ny, nx).
        stretch : str
            Name of the stretch.

        Returns
        -------
        Preprocessing
            The rule.
        """
        sums = np.zeros((2, counts.shape[1]))
        for image in counts:  # image by image: a second array of the size of the training set would not be bounded
            stretched = stretch_counts(image, stretch).astype(float)
            sums += stretched.sum(axis=(1, 2)), (stretched**2).sum(axis=(1, 2))
        mean, square = sums / (counts.shape[0] * counts.shape[2] * counts.shape[3])
        std = np.sqrt(np.maximum(square - mean**2, 0.0))
        std[std == 0] = 1.0  # a constant band carries nothing; dividing by zero would turn it into NaN
        return cls(stretch, tuple(map(float, mean)), tuple(map(float, std)))

    def __call__(self, counts):
        """
        Apply the rule.

        Parameters
        ----------
        counts : `~numpy.ndarray`
            Counts, shape (n, n_bands, ny, nx).

        Returns
        -------
        `~numpy.ndarray`
            float32, same shape: what the network takes.
        """
        pixels = stretch_counts(counts, self.stretch)
        shape = (1, -1, 1, 1)
        return (pixels - np.float32(self.mean).reshape(shape)) / np.float32(self.std).reshape(shape)

    def to_dict(self):
        """Return the rule as plain types, for JSON."""
        return {
            "stretch": self.stretch,
            "formula": STRETCHES[self.stretch],
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, mapping, *, n_bands):
        """
        Build a rule from what `to_dict` gives.

        Parameters
        ----------
        mapping : dict
            With ``stretch``, ``mean`` and ``std``.
        n_bands : int
            How many bands the statistics must be of.

        Returns
        -------
        Preprocessing
            The rule.

        Raises
        ------
        ValueError
            If the mapping does not hold such a rule.
        """
        stretch = check_stretch(mapping["stretch"])
        mean, std = (tuple(float(value) for value in mapping[name]) for name in ("mean", "std"))
        if not len(mean) == len(std) == n_bands or not np.all(np.isfinite([*mean, *std])) or min(std) <= 0:
            raise ValueError(f"mean and std must be {n_bands} finite numbers each, std positive, got {mean}, {std}")
        return cls(stretch, mean, std)
