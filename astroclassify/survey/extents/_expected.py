"""Expected counts of point and beta sources on the pixels about a position, with derivatives, for several cameras."""

from dataclasses import dataclass, field

import numpy as np

from ._profile import ProfileTable

__all__ = ["Camera", "Component", "Model", "Patch", "best_amplitude", "cut_patch"]

LEAST = 1e-7  # expected counts per pixel: a background of zero would make every photon impossible


@dataclass(frozen=True)
class Camera:
    """Images of one camera as plain arrays, all of one shape; ``good`` marks pixels to be used."""

    counts: np.ndarray
    exposure: np.ndarray
    background: np.ndarray
    good: np.ndarray
    pixel: float  # arcsec
    psf: object


@dataclass
class Patch:
    """Usable pixels within a radius of a position as flat arrays of n pixels."""

    counts: np.ndarray
    base: np.ndarray  # expected counts of the background and of fixed neighbours
    ratio: np.ndarray  # exposure relative to that at the position
    x: np.ndarray  # offsets from the position [arcsec]
    y: np.ndarray
    rows: np.ndarray  # of the camera's images
    columns: np.ndarray
    background: np.ndarray  # the part of the base that a free level multiplies
    table: ProfileTable
    neighbours: np.ndarray = None  # expected counts of free neighbours of one count each, shape (n_neighbours, n)
    hot: np.ndarray = field(init=False)  # pixels with counts

    def __post_init__(self):
        self.hot = np.flatnonzero(self.counts)
        if self.neighbours is None:
            self.neighbours = np.empty((0, len(self.counts)))

    def image(self, x, y, ext):
        """Expected counts of a source of one count at an offset [arcsec], with a core radius [arcsec]."""
        table = self.table
        rows = table.at(table.to_u(ext)) if ext else table.point
        return table.look_up(rows[:1], (self.x - x) ** 2 + (self.y - y) ** 2)[0] * self.ratio


def cut_patch(camera, x, y, radius, matrix, table, reference):
    """
    Usable pixels within ``radius`` [arcsec] of (x, y) [0-based pixels]; perhaps none.
    ``matrix`` turns pixel offsets into arcsec, ``reference`` is the exposure at the position [s].
    """
    reach = radius / camera.pixel + 1
    ny, nx = camera.counts.shape
    rows = np.arange(max(int(np.ceil(y - reach)), 0), min(int(y + reach) + 1, ny))
    columns = np.arange(max(int(np.ceil(x - reach)), 0), min(int(x + reach) + 1, nx))
    window = tuple(slice(each[0], each[-1] + 1) if each.size else slice(0, 0) for each in (rows, columns))
    dx, dy = columns - x, (rows - y)[:, np.newaxis]
    east, north = (first * dx + second * dy for first, second in matrix)
    inside = (east**2 + north**2 <= radius**2) & camera.good[window]
    down, along = np.nonzero(inside)
    background = np.maximum(camera.background[window][inside], LEAST)
    return Patch(
        counts=camera.counts[window][inside],
        base=background,
        background=background,
        rows=down + window[0].start,
        columns=along + window[1].start,
        ratio=camera.exposure[window][inside] / reference,
        x=east[inside],
        y=north[inside],
        table=table,
    )


@dataclass(frozen=True)
class Component:
    """Which parameters describe a source: indices of its offsets, of its ``u`` (None: a point) and first counts."""

    x: int
    y: int
    u: int | None
    counts: int


class Model:
    """
    Sum of components over the patches of all cameras, as `minimise` needs it. Offsets [arcsec] and ``u`` (in the first
    camera's table) are common to the cameras, counts are one per camera. After the ``n_parameters`` of the source come
    the counts of the free neighbours: all cameras of the first, then of the second.
    """

    def __init__(self, patches, components, n_parameters):
        self.patches, self.components, self.n_source = patches, components, n_parameters
        self.n_cameras = len(patches)
        self.n_parameters = n_parameters + self.n_cameras * len(patches[0].neighbours)

    def evaluate(self, parameters):
        """Cash statistic C = 2 sum(m - n ln m), half its gradient, Fisher matrix."""
        statistic, gradient = 0.0, np.zeros(self.n_parameters)
        fisher = np.zeros((self.n_parameters, self.n_parameters))
        for camera, patch in enumerate(self.patches):
            expected, derivatives, indices = self._expected(parameters, camera, patch)
            share = patch.counts[patch.hot] / expected[patch.hot]
            statistic += 2 * (expected.sum() - patch.counts[patch.hot] @ np.log(expected[patch.hot]))
            gradient[indices] += derivatives.sum(axis=1) - derivatives[:, patch.hot] @ share
            fisher[np.ix_(indices, indices)] += (derivatives / expected) @ derivatives.T
        return statistic, gradient, fisher

    def _expected(self, parameters, camera, patch):
        """Expected counts, their derivatives (n, n_pixels), and the parameters that these belong to."""
        derivatives = {}
        expected = patch.base.copy()
        for component in self.components:
            index = component.counts + camera
            counts = parameters[index]
            dx, dy = patch.x - parameters[component.x], patch.y - parameters[component.y]
            table, chain = patch.table, 0.0
            rows = table.point
            if component.u is not None:
                u, chain = self._local(parameters[component.u], table)
                rows = table.at(u)
            value, slope, *by_u = table.look_up(rows, dx**2 + dy**2) * patch.ratio
            expected += counts * value
            slope *= -counts
            for key, row in ((component.x, slope * dx), (component.y, slope * dy), (index, value)):
                derivatives[key] = derivatives[key] + row if key in derivatives else row
            if component.u is not None:
                derivatives[component.u] = by_u[0] * (counts * chain)
        for number, image in enumerate(patch.neighbours):
            index = self.n_source + number * self.n_cameras + camera
            expected += parameters[index] * image
            derivatives[index] = image
        return (
            expected,
            np.reshape(list(derivatives.values()), (len(derivatives), len(expected))),
            np.array(list(derivatives), dtype=np.intp),
        )

    def _local(self, u, table):
        """``u`` in a camera's own table, and its derivative by that of the first."""
        first = self.patches[0].table
        if table.scale == first.scale:
            return u, 1.0
        local = table.to_u(first.to_ext(u))
        return local, first.d_ext(u) / table.d_ext(local)


def best_amplitude(patch, image, base=None):
    """Best-fitting counts of a source of given shape, and their gain in the Cash statistic (Newton, from above)."""
    base = patch.base if base is None else base
    hot, total = patch.hot, image.sum()
    n, shape, ground = patch.counts[hot], image[hot], base[hot]
    if total <= 0 or not (n * shape / ground).sum() > total:
        return 0.0, 0.0
    # The root of sum(n shape / (ground + a shape)) = total in a lies below sum(n) / total; Newton in 1/a-like form.
    counts = n.sum() / total
    for _ in range(30):
        expected = ground + counts * shape
        slope = (n * (shape / expected) ** 2).sum()
        change = ((n * shape / expected).sum() - total) / slope
        counts = max(counts + change, counts / 4)
        if abs(change) < 1e-4 * counts:
            break
    return counts, 2 * ((n * np.log1p(counts * shape / ground)).sum() - counts * total)
