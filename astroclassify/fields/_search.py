"""Sources for the estimate of the background: what stands out from a model at one of five scales."""

import numpy as np
from scipy.ndimage import gaussian_filter, label, maximum_filter

__all__ = ["SourceSearch", "bin_sums", "kept", "unbin"]

STEPS = (1, 2, 4, 8, 16)  # sources are looked for on pixels binned that often, each twice the one before,
SCALE = 1.5  # smoothed with a Gaussian of so many of these
SIGNIFICANCE, FAINT = 4.0, 1.3  # standard deviations above the background of a source and of its surroundings
CONTRAST, WING = 1.15, 1.1  # brightness relative to it that a source and its surroundings have at least
LEAST_COVERED = 0.2  # share of the Gaussian that must lie on pixels that are used
ROWS = 256  # that are compared at once
AREA = 4 * np.pi * SCALE**2  # as many pixels does the Gaussian average over


class SourceSearch:
    """Where counts stand out from a model, and the faint surroundings of such places; for many models of one image."""

    def __init__(self, counts, valid):
        self.counts, self.valid = counts, valid
        self._fine = [self._smooth(bin_sums(kept(counts, valid), step), valid, step, step) for step in STEPS[:2]]

    def __call__(self, model):
        """Mask of sources, shape (ny, nx)."""
        found, images, used = [], (self.counts, model), self.valid
        for number, step in enumerate(STEPS):
            if number < 2:
                seen, covered = self._fine[number]
                expected = bin_sums(kept(model, used), step)
            else:
                # What was found two scales below has its mask already and would spread over a larger one here.
                rest = used.astype(bool) & ~found[-2]
                images, used = [bin_sums(kept(each, rest), 2) for each in images], bin_sums(kept(used, rest), 2)
                counts, expected = (bin_sums(each, 2) for each in images)
                seen, covered = self._smooth(counts, used, 2, step)
            found.append(_stand_out(seen, expected, covered))
        mask = found.pop()
        while found:
            finer = found.pop()
            mask = unbin(mask, 2, finer.shape) | finer
        return mask

    @staticmethod
    def _smooth(counts, used, bins, step):
        """Counts within the Gaussian, and whether enough of it is used."""
        return _gaussian(counts), _gaussian(bin_sums(used, bins)) > LEAST_COVERED * AREA * step**2


def _gaussian(image):
    smooth = gaussian_filter(image, SCALE, mode="constant", truncate=3.0)
    smooth *= np.float32(AREA)
    return smooth


def _stand_out(seen, model, covered):
    expected = _gaussian(model)
    del model
    skew = (SIGNIFICANCE**2 - 1) / 6  # of the Poisson distribution: its quantile to this order (Cornish and Fisher)
    seeds, whole = np.zeros(seen.shape, bool), np.zeros(seen.shape, bool)
    for start in range(0, len(seen), ROWS):  # or the steps between would take several times the image
        rows = slice(start, start + ROWS)
        light, sky = seen[rows], expected[rows]
        noise = np.sqrt(sky)
        seeds[rows] = covered[rows] & (light > sky + SIGNIFICANCE * noise + skew) & (light > CONTRAST * sky)
        whole[rows] = seeds[rows] | ((light > sky + FAINT * noise) & (light > WING * sky))
    del expected
    segments, number = label(whole)
    seeded = np.zeros(number + 1, bool)
    seeded[segments[seeds]] = True
    return maximum_filter(seeded[segments], 3, mode="constant")


def kept(image, used):
    """Image (float32) with zeros where pixels are not used, whatever is there."""
    rest = np.zeros(used.shape, np.float32)
    np.copyto(rest, image, where=used, casting="same_kind")
    return rest


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
