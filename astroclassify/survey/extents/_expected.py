"""Usable pixels about a position in several cameras, as the fits and their compiled loops take them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ._profile import ProfileTable

__all__ = ["Camera", "Patch", "Scene", "cut_patch", "join", "join_pixels"]

WORTHWHILE = 0.7  # share of pixels left for which joining them is worth its time
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
    table: ProfileTable
    neighbours: np.ndarray = None  # expected counts of free neighbours of one count each, shape (n_neighbours, n)
    background: np.ndarray = None  # the part of ``base`` that a free level scales

    def __post_init__(self):
        if self.neighbours is None:
            self.neighbours = np.empty((0, len(self.counts)))
        if self.background is None:
            self.background = self.base.copy()

    def image(self, x, y, ext):
        """Expected counts of a source of one count at an offset [arcsec], with a core radius [arcsec]."""
        from . import _kernels

        return _kernels.image(
            self.x, self.y, self.ratio, float(x), float(y), self.table.curves(self.table.to_u(ext)), self.table.first
        )


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
    background = np.maximum(camera.background[window][inside], LEAST)
    return Patch(
        counts=camera.counts[window][inside],
        base=background,
        background=background.copy(),
        ratio=camera.exposure[window][inside] / reference,
        x=east[inside],
        y=north[inside],
        table=table,
    )


class Scene(NamedTuple):
    """Patches of all cameras one behind the other, N pixels, for `_kernels`."""

    counts: np.ndarray
    base: np.ndarray
    background: np.ndarray
    ratio: np.ndarray
    x: np.ndarray
    y: np.ndarray
    neighbours: np.ndarray  # (n_neighbours, N)
    edges: np.ndarray  # where the pixels of each camera begin and the last one's end, (n_cameras + 1,)
    values: np.ndarray  # tables of all cameras one behind the other, flat
    layout: np.ndarray  # where each begins, its core radii, radii and first interval, (n_cameras, 4)
    scales: np.ndarray  # unit of its core radii [arcsec] and step between their ``u``, (n_cameras, 2)
    level_error: float  # standard deviation of the prior of the level about 1; zero: the level is not free


def join(patches, level_error):
    """`Scene` of patches."""
    names = ("counts", "base", "background", "ratio", "x", "y")
    joined = [np.concatenate([getattr(patch, name) for patch in patches], dtype=np.float64) for name in names]
    neighbours = np.concatenate([patch.neighbours for patch in patches], axis=1, dtype=np.float64)
    edges = np.cumsum([0, *(len(patch.counts) for patch in patches)])
    return Scene(*joined, neighbours, edges, *_join_tables(*(patch.table for patch in patches)), float(level_error))


@lru_cache(maxsize=16)
def _join_tables(*tables):
    """Values, layout and scales of `Scene`; kept, as a source is fitted several times."""
    values = [table.values.ravel() for table in tables]
    begins = np.cumsum([0, *(each.size for each in values[:-1])])
    layout = [(begin, *table.values.shape[:2], table.first) for begin, table in zip(begins, tables, strict=True)]
    scales = [(table.scale, table.nodes[1]) for table in tables]
    return np.concatenate(values) if len(values) > 1 else values[0], np.array(layout, np.int64), np.array(scales)


def join_pixels(scene):
    """The scene with fewer pixels: far ones are joined to blocks, see `_kernels`; itself where that saves little."""
    from . import _kernels

    numbers, n_blocks = _kernels.blocks(scene)
    edges = np.cumsum([0, *n_blocks])
    if edges[-1] > WORTHWHILE * len(scene.x):
        return scene
    numbers += np.repeat(edges[:-1], np.diff(scene.edges))

    def total(values):
        return np.bincount(numbers, values)

    ratio = total(scene.ratio)
    return scene._replace(
        **{name: total(getattr(scene, name)) for name in ("counts", "base", "background")},
        ratio=ratio,
        x=total(scene.x * scene.ratio) / ratio,
        y=total(scene.y * scene.ratio) / ratio,
        neighbours=np.reshape([total(each) for each in scene.neighbours], (-1, edges[-1])),
        edges=edges,
    )
