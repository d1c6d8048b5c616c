"""Simulated EPIC cameras: geometry of the chips, point spread function, vignetting, and photons onto a grid."""

from dataclasses import dataclass, field, replace

import numpy as np
from astropy import units as u
from scipy.ndimage import uniform_filter

from astroclassify.fields import KingPsf
from astroclassify.fields._beta import beta_radius, beta_share
from astroclassify.fields._instruments import (
    EMOS_FRAME_TIME,
    EMOS_PIXEL,
    EPIC_BACKGROUND,
    EPIC_SOFT_COUNTS,
    EPN_PIXEL,
    epic_on_chips,
)
from astroclassify.fields._instruments import EPN_AXIS as AXIS
from astroclassify.fields._instruments import EPN_CHIP_GAP as CHIP_GAP
from astroclassify.fields._instruments import EPN_CHIP_LENGTH as CHIP_LENGTH
from astroclassify.fields._instruments import EPN_CHIP_WIDTH as CHIP_WIDTH
from astroclassify.fields._instruments import EPN_FIELD_RADIUS as FIELD_RADIUS
from astroclassify.fields._instruments import EPN_READOUT_LENGTH as READOUT_LENGTH
from astroclassify.fields._instruments import EPN_ROW_GAP as ROW_GAP
from astroclassify.fields._instruments import epn_on_chips as on_chips
from astroclassify.fields._instruments import vignetting as _vignetting

from ._population import POPULATION as P

__all__ = [
    "CAMERAS",
    "Beta",
    "Grid",
    "Pointing",
    "background_map",
    "beside",
    "bin_photons",
    "draw_background",
    "draw_detector",
    "draw_pointing",
    "exposure_map",
    "leaves_field",
    "observe",
    "on_chips",
    "pile_up",
    "scatter",
    "vignetting",
]

CAMERAS = tuple(EPIC_SOFT_COUNTS)
PSF = {camera: KingPsf(camera, P.effective_energy * u.keV) for camera in CAMERAS}
# Side of a pixel [arcsec] and time of a frame [s], on which pile-up depends.
_READOUT = {"EPN": (EPN_PIXEL, P.frame_time), **dict.fromkeys(("EMOS1", "EMOS2"), (EMOS_PIXEL, EMOS_FRAME_TIME))}
# arcmin off axis, beyond which no photon is scattered into the field
_FARTHEST = (FIELD_RADIUS + np.hypot(*AXIS) + P.psf_limit) / 60


@dataclass(frozen=True)
class Grid:
    """Square pixels about the position of a candidate; ``pixel`` in arcsec, x to the west, y to the north."""

    shape: tuple
    pixel: float

    @property
    def half(self):
        """Half the sides along x and y [arcsec]."""
        return self.shape[1] * self.pixel / 2, self.shape[0] * self.pixel / 2

    def centres(self):
        """Offsets of the pixel centres [arcsec]: x, shape (1, nx), and y, shape (ny, 1)."""
        x, y = (
            (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(self.pixel)
            for n in (self.shape[1], self.shape[0])
        )
        return x[np.newaxis, :], y[:, np.newaxis]

    def index(self, x, y):
        """Flat pixel number of offsets, and which of them lie on the grid."""
        column = np.floor(x / self.pixel + self.shape[1] / 2).astype(np.int64)
        row = np.floor(y / self.pixel + self.shape[0] / 2).astype(np.int64)
        inside = (column >= 0) & (column < self.shape[1]) & (row >= 0) & (row < self.shape[0])
        return row * self.shape[1] + column, inside


@dataclass(frozen=True)
class Pointing:
    """Observation by one camera: place on the detector, exposure time, background and dead columns."""

    exposure: float  # s
    roll: float  # rad
    x: float  # position of the candidate in the frame of the chips, arcsec
    y: float
    sky: float  # ct s-1 arcmin-2 on axis
    particles: float
    dead: tuple = field(default=())  # columns: (x, width, from |y|, upper row or not)
    camera: str = "EPN"

    @property
    def off_axis(self):
        """Off-axis angle of the candidate [arcmin]."""
        return float(np.hypot(self.x - AXIS[0], self.y - AXIS[1]) / 60)

    def to_detector(self, x, y):
        """Offsets on the sky [arcsec] to the frame of the chips."""
        cos, sin = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        return self.x + cos * x - sin * y, self.y + sin * x + cos * y

    def to_sky(self, x, y):
        """The inverse of `to_detector`."""
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        return cos * (x - self.x) + sin * (y - self.y), cos * (y - self.y) - sin * (x - self.x)


@dataclass(frozen=True)
class Beta:
    """Beta model, beta = 2/3: flux [erg s-1 cm-2] within ``limit``, offsets, core radius [arcsec], shape."""

    flux: float
    x: float
    y: float
    core: float
    limit: float
    axis_ratio: float = 1.0
    angle: float = 0.0

    def draw(self, number, rng):
        """Places of photons [arcsec]."""
        radius = self.core * beta_radius(rng.random(number) * beta_share(self.limit / self.core))
        phase = rng.random(number) * (2 * np.pi)
        stretch = np.sqrt(self.axis_ratio)
        along, across = radius * np.cos(phase) / stretch, radius * np.sin(phase) * stretch
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.x + cos * along - sin * across, self.y + sin * along + cos * across


def beside(pointing, camera):
    """What another camera sees of a pointing of pn: the same sky and flux of particles, on chips of its own."""
    rates = zip(EPIC_BACKGROUND[camera], EPIC_BACKGROUND["EPN"], (pointing.sky, pointing.particles), strict=True)
    sky, particles = (its / of_pn * rate for its, of_pn, rate in rates)
    return replace(pointing, camera=camera, sky=sky, particles=particles, dead=())


def _live(pointing, x, y):
    """Whether places in the frame of the chips of pn [arcsec] lie on a chip of the pointing's camera."""
    if pointing.camera == "EPN":
        return on_chips(x, y, pointing.dead)
    return epic_on_chips(pointing.camera, x - AXIS[0], y - AXIS[1])


def vignetting(off_axis):
    """Effective area at an off-axis angle [arcmin], relative to the axis."""
    return _vignetting("EPN", off_axis)


def draw_pointing(rng, *, on_edge=False):
    """
    Draw where and how a candidate is observed: on a chip, or with ``on_edge`` on a gap or the edge of the field.

    Positions within `Population.max_off_axis` (a little more on edges) are as frequent per area as the effective area
    is large.
    """
    detector = draw_detector(rng)
    x, y = _draw_place(rng, detector["dead"], on_edge)
    return Pointing(exposure=float(rng.choice(P.exposures)), x=x, y=y, **detector)


def draw_detector(rng):
    """Draw the properties of a pointing: roll angle, rates of the background, dead columns."""
    dead = tuple(_dead_column(rng) for _ in range(rng.poisson(P.dead_columns)))
    factor = np.exp(P.background_scatter * rng.standard_normal(2))
    rates = {"sky": float(P.sky_rate * factor[0]), "particles": float(P.particle_rate * factor[1])}
    return {"roll": rng.uniform(0, 2 * np.pi), **rates, "dead": dead}


def _dead_column(rng):
    """A bad column and its neighbours, whose events are not used either; most are bad from end to end."""
    width, low = EPN_PIXEL * (2.5 + rng.choice([0, 0, 0, 1, 3])), max(rng.uniform(-1200, 600), 0)
    return rng.uniform(-3, 3) * CHIP_WIDTH, width, low, bool(rng.random() < 0.5)


def _draw_place(rng, dead, on_edge):
    """Place in the frame of the chips [arcsec] with enough live surroundings, or with the right lack of them."""
    limit = 60 * P.max_off_axis * (1.15 if on_edge else 1.0)
    ring = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    around_x, around_y = (np.concatenate([8 * f(ring), 20 * f(ring)]) for f in (np.cos, np.sin))
    while True:
        radius, phase = limit * np.sqrt(rng.random(64)), 2 * np.pi * rng.random(64)
        x, y = AXIS[0] + radius * np.cos(phase), AXIS[1] + radius * np.sin(phase)
        live = on_chips(x[:, np.newaxis] + around_x, y[:, np.newaxis] + around_y, dead).mean(axis=1)
        good = (live > 0.4) & (live < 0.85) if on_edge else live > 0.85
        good &= rng.random(64) < vignetting(radius / 60)  # fewer are found where less is seen
        if good.any():
            chosen = np.argmax(good)
            return float(x[chosen]), float(y[chosen])


def leaves_field(pointing, grid):
    """Whether part of the grid lies outside the detector, whose outline is convex: its corners decide."""
    half_x, half_y = grid.half
    x, y = pointing.to_detector(np.array([-1, -1, 1, 1]) * half_x, np.array([-1, 1, -1, 1]) * half_y)
    inside = (np.abs(x) < 3 * (CHIP_WIDTH + CHIP_GAP)) & (np.abs(y) < ROW_GAP / 2 + CHIP_LENGTH)
    return not np.all(inside & (x**2 + y**2 < FIELD_RADIUS**2))


def exposure_map(pointing, grid):
    """Exposure [s] of the camera on axis, and whether a pixel lies on a chip: arrays of shape (ny, nx)."""
    x, y = pointing.to_detector(*grid.centres())
    live = _live(pointing, x, y)
    off_axis = np.hypot(x - AXIS[0], y - AXIS[1]) / 60
    return pointing.exposure * vignetting(off_axis) * live, live


def observe(extended, points, pointing, grid, rng, *, detector_light=()):
    """
    Draw the photons of an observation of pn: whole counts and exposure map [s], shape (ny, nx).

    ``extended``: Beta models. ``points`` (n, 3): flux in 0.5 to 2 keV [erg s-1 cm-2] and offsets x, y [arcsec].
    ``detector_light``: places (n, 2) of photons that no source on the sky explains (stray light, hot pixels) [arcsec].

    Photon by photon: place on the sky, kept with the vignetting of its direction, scattered by the King profile of its
    off-axis angle, moved along the column if it comes out of time, kept where it falls on a live pixel; see `pile_up`.
    """
    exposure, live = exposure_map(pointing, grid)
    light = [tuple(np.asarray(places).T) for places in detector_light]
    parts = scatter(extended, points, pointing, rng), draw_background(pointing, grid, rng), *light
    counts = bin_photons(*(np.concatenate(part) for part in zip(*parts, strict=True)), grid) * live
    return pile_up(counts, pointing, grid, rng), exposure


def scatter(extended, points, pointing, rng):
    """Draw the photons of sources: places x, y [arcsec] at which they arrive. Parameters as of `observe`."""
    scale = P.counts_per_flux * EPIC_SOFT_COUNTS[pointing.camera] * pointing.exposure
    drawn = [source.draw(rng.poisson(source.flux * scale), rng) for source in extended]
    number = rng.poisson(points[:, 0] * scale)
    drawn.append((np.repeat(points[:, 1], number), np.repeat(points[:, 2], number)))
    x, y = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    x, y, off_axis = _thin(x, y, pointing, rng)
    near = off_axis < _FARTHEST
    x, y, off_axis = x[near], y[near], off_axis[near]
    radius, phase = PSF[pointing.camera].radius(rng.random(x.size), off_axis), 2 * np.pi * rng.random(x.size)
    x, y = x + radius * np.cos(phase), y + radius * np.sin(phase)
    return _out_of_time(x, y, pointing, rng) if pointing.camera == "EPN" else (x, y)


def draw_background(pointing, grid, rng):
    """Draw the photons of the sky and the particles: places x, y [arcsec]."""
    area = np.prod(grid.half) * 4 / 3600  # arcmin2
    sky = _uniform(rng.poisson(pointing.sky * pointing.exposure * area), grid, rng)
    sky = _thin(*sky, pointing, rng)[:2]
    particles = _uniform(rng.poisson(pointing.particles * pointing.exposure * area), grid, rng)
    return tuple(np.concatenate(parts) for parts in zip(sky, particles, strict=True))


def background_map(exposure, pointing, grid):
    """Expected counts of sky and particles in each pixel of an exposure map."""
    return (pointing.sky * exposure + pointing.particles * pointing.exposure * (exposure > 0)) * (grid.pixel / 60) ** 2


def bin_photons(x, y, grid):
    """Counts per pixel of photons at places [arcsec]."""
    index, inside = grid.index(x, y)
    return np.bincount(index[inside], minlength=grid.shape[0] * grid.shape[1]).reshape(grid.shape)


def pile_up(counts, pointing, grid, rng):
    """
    Counts that remain where photons pile up.

    Of those that arrive in one frame within 3 x 3 pixels of the detector one event is left: of mu on average
    1 - exp(-mu). The rate is that of the image itself, events of other energies added.
    """
    side, frame_time = _READOUT[pointing.camera]
    box = 3 * side / grid.pixel
    rate = uniform_filter(counts.astype(float), max(round(box), 1), mode="constant") * box**2 / pointing.exposure
    mu = rate * P.all_events * frame_time
    piled = (mu > 1e-3) & (counts > 0)
    left = counts.copy()
    left[piled] = rng.binomial(counts[piled], -np.expm1(-mu[piled]) / mu[piled])
    return left


def _thin(x, y, pointing, rng):
    """Photons that vignetting leaves, with their off-axis angles [arcmin]."""
    a, b = pointing.to_detector(x, y)
    off_axis = np.hypot(a - AXIS[0], b - AXIS[1]) / 60
    kept = rng.random(x.size) < vignetting(off_axis)
    return x[kept], y[kept], off_axis[kept]


def _out_of_time(x, y, pointing, rng):
    """Photons that arrive while the chip is read out: somewhere along their column."""
    late = np.flatnonzero(rng.random(x.size) < P.out_of_time)
    a, b = pointing.to_detector(x[late], y[late])
    hit = on_chips(a, b)
    late, a, b = late[hit], a[hit], b[hit]
    b = np.sign(b) * (ROW_GAP / 2 + READOUT_LENGTH * rng.random(b.size))
    x[late], y[late] = pointing.to_sky(a, b)
    return x, y


def _uniform(number, grid, rng):
    half_x, half_y = grid.half
    return half_x * (2 * rng.random(number) - 1), half_y * (2 * rng.random(number) - 1)
