"""Sources for the estimate of the background: what stands out from a model at one of five scales."""

import numpy as np
from scipy.ndimage import gaussian_filter, label, maximum_filter

__all__ = ["SourceSearch", "bin_sums", "unbin"]

STEPS = (1, 2, 4, 8, 16)  # sources are looked for on pixels binned that often, each twice the one before,
SCALE = 1.5  # smoothed with a Gaussian of so many of these
SIGNIFICANCE, FAINT = 4.0, 1.3  # standard deviations above the background of a source and of its surroundings
CONTRAST, WING = 1.15, 1.1  # brightness relative to it that a source and its surroundings have at least
LEAST_COVERED = 0.2  # share of the Gaussian that must lie on pixels that are used
AREA = 4 * np.pi * SCALE**2  # as many pixels does the Gaussian average over


class SourceSearch:
    """Where counts stand out from a model, and the faint surroundings of such places; for many models of one image."""

    def __init__(self, counts, valid):
        self.counts, self.valid = np.where(valid, counts, 0).astype(np.float32), valid
        self._fine = [self._smooth(bin_sums(self.counts, step), bin_sums(valid, step), step) for step in STEPS[:2]]

    def __call__(self, model):
        """Mask of sources, shape (ny, nx); ``model`` is zero where pixels are not valid."""
        found = []
        images = (self.counts, np.asarray(model, np.float32), self.valid)
        for number, step in enumerate(STEPS):
            if number < 2:
                seen, covered = self._fine[number]
                expected = _gaussian(bin_sums(images[1], step))
            else:
                # What was found two scales below has its mask already and would spread over a larger one here.
                images = [bin_sums(each * ~found[-2], 2) for each in images]
                counts, expected, used = (bin_sums(each, 2) for each in images)
                seen, covered = self._smooth(counts, used, step)
                expected = _gaussian(expected)
            found.append(_stand_out(seen, expected, covered))
        mask = found.pop()
        while found:
            finer = found.pop()
            mask = unbin(mask, 2, finer.shape) | finer
        return mask

    @staticmethod
    def _smooth(counts, used, step):
        """Counts within the Gaussian, and whether enough of it is used."""
        return _gaussian(counts), _gaussian(used) > LEAST_COVERED * AREA * step**2


def _gaussian(image):
    return gaussian_filter(image, SCALE, mode="constant", truncate=3.0) * np.float32(AREA)


def _stand_out(seen, expected, covered):
    noise = np.sqrt(expected)
    skew = (SIGNIFICANCE**2 - 1) / 6  # of the Poisson distribution: its quantile to this order (Cornish and Fisher)
    seeds = covered & (seen > expected + SIGNIFICANCE * noise + skew) & (seen > CONTRAST * expected)
    segments, number = label(seeds | ((seen > expected + FAINT * noise) & (seen > WING * expected)))
    seeded = np.zeros(number + 1, bool)
    seeded[segments[seeds]] = True
    return maximum_filter(seeded[segments], 3, mode="constant")


def bin_sums(image, step):
    """Sums over blocks of pixels (float32); the last ones are filled with zeros."""
    image = np.asarray(image, np.float32)
    if step == 1:
        return image
    padding = [(0, -n % step) for n in image.shape]
    padded = np.pad(image, padding) if np.any(padding) else image
    return np.einsum("iajb->ij", padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step))


def unbin(image, step, shape):
    """The value of its block for every pixel."""
    return np.repeat(np.repeat(image, step, 0), step, 1)[: shape[0], : shape[1]]
