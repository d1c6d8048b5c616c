"""Usable pixels about a position in several cameras, as the fits and their compiled loops take them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ._octaves import intervals
from ._profile import ProfileTable

__all__ = ["Camera", "Patch", "Scene", "cut_patch", "join", "join_pixels", "set_neighbours"]

WORTHWHILE = 1500  # pixels from which joining them is worth its time
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
    table: ProfileTable
    neighbours: np.ndarray = None  # expected counts of free neighbours at the factor one, (n_neighbours, n)
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
    down, along = np.nonzero(inside)
    background = np.maximum(camera.background[window][inside], LEAST)
    return Patch(
        counts=camera.counts[window][inside],
        base=background,
        background=background.copy(),
        ratio=camera.exposure[window][inside] / reference,
        x=east[inside],
        y=north[inside],
        rows=down + window[0].start,
        columns=along + window[1].start,
        table=table,
    )


def set_neighbours(patches, free):
    """Give each patch the images of the free neighbours (for each neighbour a list, one per camera)."""
    for index, patch in enumerate(patches):
        patch.neighbours = np.reshape([images[index] for images in free], (len(free), len(patch.counts)))


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
    points: np.ndarray  # their polynomials of a point, one below the other, (n_intervals, 8)
    # Where each begins, its core radii, radii and first interval, where that of a point begins, and how many intervals
    # the pixels need, (n_cameras, 6).
    layout: np.ndarray
    scales: np.ndarray  # unit of its core radii [arcsec] and step between their ``u``, (n_cameras, 2)
    level_error: float  # standard deviation of the prior of the level about 1; zero: the level is not free


def join(patches, level_error, reach):
    """`Scene` of patches; ``reach`` is the greatest distance of a component [arcsec]."""
    names = ("counts", "base", "background", "ratio", "x", "y")
    joined = [np.concatenate([getattr(patch, name) for patch in patches], dtype=np.float64) for name in names]
    neighbours = np.concatenate([patch.neighbours for patch in patches], axis=1, dtype=np.float64)
    edges = np.cumsum([0, *(len(patch.counts) for patch in patches)])
    values, points, layout, scales = _join_tables(*(patch.table for patch in patches))
    furthest = reach + np.sqrt(np.max(joined[4] ** 2 + joined[5] ** 2, initial=0.0))
    needed = intervals(furthest**2) + 1 - layout[:, 3]
    layout = np.column_stack([layout, np.clip(needed, 1, layout[:, 2] - 1)])
    return Scene(*joined, neighbours, edges, values, points, layout, scales, float(level_error))


@lru_cache(maxsize=16)
def _join_tables(*tables):
    """Values, points, layout (but for the last column) and scales of `Scene`; kept, as sources are fitted again."""
    values = np.concatenate([table.values.ravel() for table in tables]) if len(tables) > 1 else tables[0].values.ravel()
    points = np.concatenate([table.curves(0.0) for table in tables])
    sizes = [(table.values.size, table.values.shape[1] - 1) for table in tables]
    begins = np.cumsum([(0, 0), *sizes[:-1]], axis=0)
    layout = [
        (begin, *table.values.shape[:2], table.first, begin_point)
        for (begin, begin_point), table in zip(begins, tables, strict=True)
    ]
    return values, points, np.array(layout, np.int64), np.array([(table.scale, table.nodes[1]) for table in tables])


def join_pixels(scene):
    """The scene with fewer pixels: far ones are joined to blocks, see `_blocks`; itself if they are few."""
    if len(scene.x) < WORTHWHILE:
        return scene
    from . import _blocks

    sums, neighbours, edges = _blocks.blocks(scene)
    names = ("counts", "base", "background", "ratio", "x", "y")
    return scene._replace(**dict(zip(names, sums, strict=True)), neighbours=neighbours, edges=edges)
