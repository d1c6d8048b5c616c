"""From counts to what the network sees: one rule for training and for inference."""

from dataclasses import dataclass

import numpy as np

from astroclassify._checks import check_choice

from ._brightness import BRIGHTNESS, PLANES, brightness
from ._columns import Columns, as_planes
from ._profile import N_RINGS, PROFILE, profile_input, to_profile

__all__ = ["CALIBRATED", "STRETCHES", "Preprocessing", "input_shape", "n_planes", "stretch_counts"]

CALIBRATED = (BRIGHTNESS, PROFILE)
"""Stretches that know how an image was taken: `PLANES` follow its counts."""

STRETCHES = {
    "log": "log10(1 + counts)",
    "sqrt": "sqrt(counts)",
    "linear": "counts",
    BRIGHTNESS: "log10(1 + counts / (exposure fraction * 10^depth)), and planes " + ", ".join(PLANES[1:]),
    PROFILE: "log10(0.001 + counts / (exposure fraction * 10^depth)) and log10(1 + counts) in rings about the peak, "
    "and planes " + ", ".join(PLANES[1:]),
}

# Per cent of a normal distribution.
_ONE_SIGMA_BELOW = 15.866


def n_planes(bands, stretch):
    """Number of planes that an image of some bands has, before the stretch."""
    return len(PLANES) if stretch in CALIBRATED else len(bands)


def input_shape(bands, stretch, shape, n_columns=0):
    """Shape of what a network gets of an image of some bands on a grid, with a plane for each number beside it."""
    if stretch == PROFILE:
        return len(PLANES) + 1, 1, N_RINGS
    return n_planes(bands, stretch) + n_columns, *shape


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


def above_sky(plates):
    """
    Arcsinh of intensities (n, ny, nx) above the median of each image in units of its noise, float32.

    The noise is the width of the lower half of the pixels, which sources leave alone. Whatever the unit, the exposure
    and the brightness of the sky of a plate, a source as significant then looks the same.
    """
    flat = plates.reshape(*plates.shape[:-2], -1)
    low, sky = np.percentile(flat, (_ONE_SIGMA_BELOW, 50), axis=-1)[..., np.newaxis, np.newaxis]
    noise = np.where(sky > low, sky - low, 1.0)
    return np.arcsinh((plates - sky) / noise).astype(np.float32)


def _stretched(counts, stretch, plates=()):
    """What a network sees of images (n, n_planes, ny, nx) or profiles, its bands (the first planes) not yet scaled."""
    if stretch == PROFILE:
        return profile_input(counts)
    if stretch != BRIGHTNESS:
        pixels = stretch_counts(counts, stretch)
        for band in plates:
            pixels[:, band] = above_sky(counts[:, band])
        return pixels
    pixels = np.array(counts, dtype=np.float32)
    pixels[:, 0] = brightness(pixels)
    return pixels


@dataclass(frozen=True)
class Preprocessing:
    """
    Stretch, and the mean and standard deviation of the stretched training pixels, one per band of the image.

    ``pixel``: side of a pixel of the grid [kpc], which the profile needs. ``columns``: numbers beside the image, which
    are planes behind its own. ``plates``: numbers of the bands that hold intensities, see `above_sky`. A band that is
    not there is NaN and becomes the mean, as a number that is missing does.
    """

    stretch: str
    mean: tuple
    std: tuple
    pixel: float | None = None
    columns: Columns | None = None
    plates: tuple = ()

    @classmethod
    def measure(cls, counts, stretch, pixel=None, columns=None, plates=()):
        """Measure the statistics of a training set: counts (n, n_planes, ny, nx), or what `reduce` makes of them."""
        n_bands = 1 if stretch in CALIBRATED else counts.shape[1]
        sums, n = np.zeros((2, n_bands)), np.zeros(n_bands)
        for image in counts:  # image by image: a second array of the size of the training set would not be bounded
            bands = _stretched(image[np.newaxis], stretch, plates)[0, :n_bands].astype(float)
            known = ~np.isnan(bands[:, 0, 0])
            sums[:, known] += bands[known].sum(axis=(1, 2)), (bands[known] ** 2).sum(axis=(1, 2))
            n += known * bands[0].size
        mean, square = sums / np.maximum(n, 1)
        std = np.sqrt(np.maximum(square - mean**2, 0.0))
        std[std == 0] = 1.0  # a constant band carries nothing; dividing by zero would turn it into NaN
        return cls(stretch, tuple(map(float, mean)), tuple(map(float, std)), pixel, columns, plates)

    def reduce(self, planes):
        """What an image (n_planes, ny, nx) can be replaced by, to save memory in training: its profile, or itself."""
        return to_profile(planes, self.pixel) if self.stretch == PROFILE else planes

    def __call__(self, counts):
        """What the network sees of counts (n, n_planes, ny, nx), or of what `reduce` makes of them: float32."""
        if self.stretch == PROFILE and counts.shape[2:] != (1, N_RINGS):
            counts = np.stack([self.reduce(planes) for planes in counts])
        n_columns = 0 if self.columns is None else len(self.columns.names)
        counts, values = np.split(counts, [counts.shape[1] - n_columns], axis=1)
        pixels = _stretched(counts, self.stretch, self.plates)
        bands = pixels[:, : len(self.mean)]  # a view
        bands -= np.float32(self.mean).reshape(-1, 1, 1)
        bands /= np.float32(self.std).reshape(-1, 1, 1)
        bands[np.isnan(bands[:, :, 0, 0])] = 0
        return as_planes(pixels, self.columns(values[:, :, 0, 0])) if n_columns else pixels

    def to_dict(self):
        """Return the rule as plain types, for JSON."""
        formula = STRETCHES[self.stretch]
        own = {} if self.columns is None else {"columns": self.columns.to_dict()}
        if self.plates:
            formula += ", plates arcsinh((x - median) / (median - 16th percentile))"
            own["plates"] = list(self.plates)
        return {"stretch": self.stretch, "formula": formula, "mean": list(self.mean), "std": list(self.std), **own}

    @classmethod
    def from_dict(cls, mapping, *, n_bands, pixel=None, columns=()):
        """Build a rule from the result of `to_dict`, for ``n_bands`` bands and columns; ValueError if it holds none."""
        stretch = check_choice("stretch", mapping["stretch"], STRETCHES)
        mean, std = (tuple(float(value) for value in mapping[name]) for name in ("mean", "std"))
        if not len(mean) == len(std) == n_bands or not np.all(np.isfinite([*mean, *std])) or min(std) <= 0:
            raise ValueError(f"mean and std must be {n_bands} finite numbers each, std positive, got {mean}, {std}")
        own = Columns.from_dict(mapping["columns"], columns) if columns else None
        plates = tuple(mapping.get("plates", ()))  # models of before had none
        if not set(plates) <= set(range(n_bands)):
            raise ValueError(f"plates must be numbers of the {n_bands} bands, got {plates!r:.100}")
        return cls(stretch, mean, std, pixel, own, plates)
