"""From counts to what the network sees: one rule for training and for inference."""

from dataclasses import dataclass

import numpy as np

from astroclassify._checks import check_choice

from ._brightness import BRIGHTNESS, PLANES, brightness

__all__ = ["STRETCHES", "Preprocessing", "n_planes", "stretch_counts"]

STRETCHES = {
    "log": "log10(1 + counts)",
    "sqrt": "sqrt(counts)",
    "linear": "counts",
    BRIGHTNESS: "log10(1 + counts / (exposure fraction * 10^depth)), and planes " + ", ".join(PLANES[1:]),
}


def n_planes(bands, stretch):
    """Number of planes that a network gets of an image of so many bands."""
    return len(PLANES) if stretch == BRIGHTNESS else len(bands)


def stretch_counts(counts, stretch):
    """
    Stretched counts, float32, any shape; negative ones (of a background-subtracted image) count as zero.

    The square root makes Poisson noise about the same everywhere.
    """
    check_choice("stretch", stretch, STRETCHES)
    pixels = np.maximum(np.asarray(counts, dtype=np.float32), np.float32(0))
    if stretch == "log":
        np.log1p(pixels, out=pixels)
        pixels *= np.float32(1 / np.log(10))
    return np.sqrt(pixels, out=pixels) if stretch == "sqrt" else pixels


@dataclass(frozen=True)
class Preprocessing:
    """Stretch, and the mean and standard deviation of the stretched training pixels, one per band of the image."""

    stretch: str
    mean: tuple
    std: tuple

    @classmethod
    def measure(cls, counts, stretch):
        """Measure the statistics of a training set: counts of shape (n, n_planes, ny, nx)."""
        sums = np.zeros((2, 1 if stretch == BRIGHTNESS else counts.shape[1]))
        for image in counts:  # image by image: a second array of the size of the training set would not be bounded
            stretched = brightness(image)[np.newaxis] if stretch == BRIGHTNESS else stretch_counts(image, stretch)
            stretched = stretched.astype(float)
            sums += stretched.sum(axis=(-2, -1)), (stretched**2).sum(axis=(-2, -1))
        mean, square = sums / (counts.shape[0] * counts.shape[2] * counts.shape[3])
        std = np.sqrt(np.maximum(square - mean**2, 0.0))
        std[std == 0] = 1.0  # a constant band carries nothing; dividing by zero would turn it into NaN
        return cls(stretch, tuple(map(float, mean)), tuple(map(float, std)))

    def __call__(self, counts):
        """Apply the rule to counts of shape (n, n_planes, ny, nx): float32, same shape."""
        if self.stretch == BRIGHTNESS:
            pixels = np.array(counts, dtype=np.float32)
            pixels[:, 0] = (brightness(pixels) - np.float32(self.mean[0])) / np.float32(self.std[0])
            return pixels
        pixels = stretch_counts(counts, self.stretch)
        pixels -= np.float32(self.mean).reshape(-1, 1, 1)
        pixels /= np.float32(self.std).reshape(-1, 1, 1)
        return pixels

    def to_dict(self):
        """Return the rule as plain types, for JSON."""
        formula = STRETCHES[self.stretch]
        return {"stretch": self.stretch, "formula": formula, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, mapping, *, n_bands):
        """Build a rule from the result of `to_dict`, for ``n_bands`` bands; ValueError if it does not hold one."""
        stretch = check_choice("stretch", mapping["stretch"], STRETCHES)
        mean, std = (tuple(float(value) for value in mapping[name]) for name in ("mean", "std"))
        if not len(mean) == len(std) == n_bands or not np.all(np.isfinite([*mean, *std])) or min(std) <= 0:
            raise ValueError(f"mean and std must be {n_bands} finite numbers each, std positive, got {mean}, {std}")
        return cls(stretch, mean, std)
