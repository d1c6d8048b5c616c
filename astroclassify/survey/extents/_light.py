"""What all sources of a field send to its pixels, as modelled now."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ._expected import LEAST

__all__ = ["Drawing", "Light", "draw", "smooth_light"]


LEAST_COVERED = 0.02  # of the exposure, below which smooth light is too little to be told


@dataclass(frozen=True)
class Drawing:
    """Expected counts of a source on a window of a camera."""

    window: tuple  # slices of rows and columns
    image: np.ndarray

    def at(self, rows, columns):
        """Counts at pixels, zero outside the window."""
        down, along = (place - side.start for place, side in zip((rows, columns), self.window, strict=True))
        inside = (down >= 0) & (along >= 0) & (down < self.image.shape[0]) & (along < self.image.shape[1])
        values = np.zeros(len(rows))
        values[inside] = self.image[down[inside], along[inside]]
        return values


def draw(camera, place, matrix, table, reference, parts, reach):
    """
    `Drawing` of ``parts`` (x, y, core radius [arcsec], counts) about a place [pixels], up to ``reach`` [arcsec] from
    it. ``matrix`` turns pixels into arcsec, ``reference`` is the exposure [s] for which the counts hold.
    """
    window = []
    for middle, n in zip(place[::-1], camera.counts.shape, strict=True):
        first, last = np.clip([middle - reach / camera.pixel, middle + reach / camera.pixel + 2], 0, n).astype(int)
        window.append(slice(int(first), max(int(last), int(first))))
    window = tuple(window)
    rows, columns = np.ogrid[window]
    dx, dy = columns - place[0], rows - place[1]
    east, north = (first * dx + second * dy for first, second in matrix)
    image = np.zeros(east.shape)
    for x, y, ext, counts in parts:
        squared = (east - x) ** 2 + (north - y) ** 2
        image += counts * table.look_up(table.at(table.to_u(ext))[:1], squared.ravel())[0].reshape(image.shape)
    image *= np.where(camera.good[window], camera.exposure[window] / reference, 0.0)
    return Drawing(window, image)


class Light:
    """Sum of the sources' drawings, per camera."""

    def __init__(self, cameras):
        self.cameras = cameras
        self.images = [np.zeros(camera.counts.shape) for camera in cameras]

    def add(self, drawings, sign=1):
        """Add (or with ``sign`` -1 take away) drawings: a dict from the number of the camera."""
        for number, drawing in drawings.items():
            self.images[number][drawing.window] += sign * drawing.image

    def change(self, before, after):
        """
        How much a change of drawings matters anywhere, as a function of (camera, row, column, radius [pixels]): sum of
        change^2 / expected over the square about a place, the change in the Cash statistic that could be told.
        """
        sums = {}
        for number in before.keys() | after.keys():
            windows = [each[number].window for each in (before, after) if number in each]
            window = tuple(
                slice(min(side.start for side in sides), max(side.stop for side in sides))
                for sides in zip(*windows, strict=True)
            )
            change = np.zeros([side.stop - side.start for side in window])
            for each, sign in ((before, -1), (after, 1)):
                if number in each:
                    inner = tuple(
                        slice(part.start - side.start, part.stop - side.start)
                        for part, side in zip(each[number].window, window, strict=True)
                    )
                    change[inner] += sign * each[number].image
            expected = np.maximum(self.cameras[number].background[window] + self.images[number][window], LEAST)
            power = np.pad(np.where(self.cameras[number].good[window], change**2 / expected, 0.0), ((1, 0), (1, 0)))
            sums[number] = window, power.cumsum(0).cumsum(1)
        return sums

    @staticmethod
    def within(sums, number, place, radius):
        """Part of `change` in the square of half-side ``radius`` [pixels] about a place (x, y)."""
        if number not in sums:
            return 0.0
        window, total = sums[number]
        ends = []
        for middle, side in zip(place[::-1], window, strict=True):
            for end in (int(middle - radius), int(middle + radius) + 2):
                ends.append(min(max(end, side.start), side.stop) - side.start)
        top, bottom, left, right = ends
        return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]


def smooth_light(camera, modelled, places, scale):
    """
    Expected counts (ny, nx) of what is smooth on a scale [pixels] and is neither background nor ``modelled``: counts
    smoothed with a Gaussian, but for those within about a radius of ``places`` ((x, y), radius) [pixels], where it
    interpolates.
    """
    weight = camera.good.astype(float)
    for (x, y), radius in places:
        reach = int(np.ceil(4 * radius))
        window = tuple(
            slice(max(int(middle) - reach, 0), min(max(int(middle) + reach + 1, 0), n))
            for middle, n in zip((y, x), weight.shape, strict=True)
        )
        rows, columns = np.ogrid[window]
        weight[window] *= -np.expm1(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
    light, exposure = (
        gaussian_filter(weight * image, scale, mode="constant")
        for image in (camera.counts - camera.background - modelled, camera.exposure)
    )
    rate = light / np.maximum(exposure, LEAST_COVERED * camera.exposure.max())
    return rate * np.where(camera.good, camera.exposure, 0.0)
