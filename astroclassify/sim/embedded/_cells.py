"""Gas cells of an embedded cluster: where they lie, and what density, temperature, velocity and metals they have."""

import numpy as np
from scipy.integrate import cumulative_trapezoid, trapezoid
from scipy.ndimage import map_coordinates
from scipy.optimize import brentq

from ..physics._constants import ELECTRONS_PER_HYDROGEN, TNG_SOLAR_METAL_FRACTION
from . import _physics as physics

CORE = 0.03  # of R500: here cells keep the mass asked for
R_MAX = 2.2  # of R500: where the cells of a cluster end
_COLD_KEV = 8.6e-4  # 1e4 K
_GRID = 64
_BLOCK = 500_000  # cells handled at once where every population is looked up
_SOUND = 5.0 / 3.0 / (physics.MU * physics.PROTON_KEV)  # c_s^2 [km2/s2] per keV


def _length(vectors):
    """Lengths of the rows."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))


class _Population:
    """A set of cells drawn from one spherical gas profile, and that profile as a function of position."""

    def __init__(self, radius, density, temperature, cell_mass, *, centre, velocity, warp=None, edge=None):
        self.radius, self.cell_mass = radius, cell_mass
        self.log_radius = np.log(radius)
        self.density, self.temperature = density, temperature
        self.centre, self.velocity, self.warp = centre, velocity, warp
        self.edge = radius[-1] if edge is None else edge

    def _intrinsic(self, position):
        offset = position - self.centre
        if self.warp is None:
            return offset, 1.0
        return self.warp.inverse(offset)

    def at(self, position):
        """Density, pressure / density (keV) and volume of a cell of this population, at positions."""
        offset, compression = self._intrinsic(position)
        radius = _length(offset)
        inside = np.flatnonzero(radius < self.edge)  # few, for a clump
        log_r = np.log(np.maximum(radius[inside], self.radius[0]))
        density, temperature = np.zeros(len(radius)), np.zeros(len(radius))
        volume = np.full(len(radius), np.inf)
        density[inside] = np.exp(np.interp(log_r, self.log_radius, np.log(self.density)))
        temperature[inside] = np.interp(log_r, self.log_radius, self.temperature)
        volume[inside] = np.exp(np.interp(log_r, self.log_radius, np.log(self.cell_mass / self.density)))
        return density * compression, temperature * compression ** (2.0 / 3.0), volume / compression

    def draw(self, rng):
        """
        Positions that sample the density with the cell masses.

        Shells about as thick as a cell, each with a jittered Fibonacci lattice in a random orientation: like the
        regular cells of a moving mesh, without the shot noise of independent points.
        """
        keep = self.radius <= self.edge
        log_r = self.log_radius[keep]
        per_log = (4 * np.pi * self.radius**3 * self.density / self.cell_mass)[keep]
        number = cumulative_trapezoid(per_log, log_r, initial=0.0)
        shell = cumulative_trapezoid(np.cbrt(per_log / (4 * np.pi)), log_r, initial=0.0)
        edges = np.interp(np.arange(0.0, shell[-1] + 1.0), shell, number)
        edges[-1] = number[-1]
        counts = np.diff(np.floor(edges + rng.random()).astype(int))
        offset = np.concatenate([_sphere_points(rng, count) for count in counts])
        share = np.repeat(edges[:-1], counts) + rng.random(len(offset)) * np.repeat(np.diff(edges), counts)
        offset *= np.exp(np.interp(share, number, log_r))[:, None]
        if self.warp is not None:
            offset = self.warp.forward(offset)
        return offset + self.centre


def _sphere_points(rng, count):
    """Points on the unit sphere: a jittered Fibonacci lattice in a random orientation."""
    index = np.arange(count)
    cos = 1.0 - 2.0 * (index + rng.random(count)) / max(count, 1)
    sin = np.sqrt(1.0 - cos**2)
    spacing = np.minimum(3.0 / np.sqrt(count + 1.0) / (sin + 1e-3), 2.0 * np.pi)
    phi = index * (np.pi * (3.0 - np.sqrt(5.0))) + rng.random(count) * spacing
    points = np.stack([sin * np.cos(phi), sin * np.sin(phi), cos], axis=1)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return points @ rotation


class _Warp:
    """Displacement of the core by a Gaussian, then a stretch; with its inverse and compression."""

    def __init__(self, stretch, offset, scale):
        self.stretch, self.inverse_stretch = stretch, np.linalg.inv(stretch)
        self.offset, self.scale = offset, scale

    def _shift(self, position):
        return np.exp(-0.5 * np.einsum("ij,ij->i", position, position) / self.scale**2)

    def forward(self, position):
        if np.any(self.offset):
            position = position + self._shift(position)[:, None] * self.offset
        return position @ self.stretch.T

    def inverse(self, position):
        target = position @ self.inverse_stretch.T
        if not np.any(self.offset):
            return target, 1.0
        source = target
        for _ in range(4):
            source = target - self._shift(source)[:, None] * self.offset
        jacobian = 1.0 - self._shift(source) * (source @ self.offset) / self.scale**2
        return source, 1.0 / np.maximum(jacobian, 0.3)


def cell_masses(radius, density, r_500, cell_mass, max_cells):
    """
    Mass of a cell at each radius, at most ``max_cells`` in all.

    `cell_mass` inside `CORE` R500; further out the size of a cell is a constant share of its radius. If the core alone
    holds more than 60 per cent of ``max_cells``, its cells are made heavier too.
    """
    mass = np.full(len(radius), float(cell_mass))
    if max_cells is None:
        return mass

    def number(mass):
        return trapezoid(4 * np.pi * radius**3 * density / mass, np.log(radius))

    if number(mass) <= max_cells:
        return mass
    x = np.clip((radius / r_500 / CORE - 1.0) / 0.7, 0.0, 1.0)
    taper = x**2 * (3.0 - 2.0 * x)
    in_core = number(np.where(taper < 0.5, mass, np.inf))
    mass *= max(1.0, in_core / (0.6 * max_cells))
    sphere = 4 / 3 * np.pi * density * radius**3 * taper

    def with_size(log_size):
        return mass + sphere * np.exp(3 * log_size)

    return with_size(brentq(lambda s: number(with_size(s)) - max_cells, np.log(1e-5), np.log(10.0), xtol=1e-4))


def _clump(clump, m_cell):
    """Radii, density and temperature of an infalling clump: a beta model with beta = 2/3, truncated."""
    _, core, gas_mass, temperature, _ = clump
    radius = np.geomspace(0.02 * core, 6.0 * core, 120)
    shape = np.exp(-((radius / (4.0 * core)) ** 2)) / (1.0 + (radius / core) ** 2)
    norm = trapezoid(4 * np.pi * radius**3 * shape, np.log(radius))
    density = gas_mass / norm * shape
    mass = min(m_cell, gas_mass / 40.0)
    return radius, density, np.full(len(radius), temperature), np.full(len(radius), mass)


def _populations(cluster, cell_mass, max_cells):
    """The main body, a merging one, and clumps, each with its cell masses."""
    made = []
    shares = (0.74, 0.16) if len(cluster.bodies) > 1 else (0.9,)
    disturbances = cluster.disturbances
    for number, (body, share) in enumerate(zip(cluster.bodies, shares, strict=True)):
        r_500 = body.halo.r_500
        reach = (R_MAX if number == 0 else 1.3) * r_500
        radius = body.gas.radius[body.gas.radius <= reach]
        density = body.gas.density[: len(radius)]
        if number:
            density = density * np.exp(-((radius / (0.8 * r_500)) ** 4))
        masses = cell_masses(radius, density, r_500, cell_mass, None if max_cells is None else share * max_cells)
        warp = None
        if number == 0:
            warp = _Warp(disturbances.stretch, disturbances.slosh_offset, disturbances.slosh_scale * r_500)
        temperature = body.gas.temperature[: len(radius)]
        made.append(
            _Population(radius, density, temperature, masses, centre=body.centre, velocity=body.velocity, warp=warp)
        )
    clumps = disturbances.clumps
    if clumps:
        total = sum(clump[2] for clump in clumps)
        m_cell = cell_mass if max_cells is None else max(cell_mass, total / (0.06 * max_cells))
        for clump in clumps:
            made.append(_Population(*_clump(clump, m_cell), centre=clump[0], velocity=clump[4]))
    return made


def _combined(populations, rng):
    """
    Cells of all populations: each point of space belongs to the one with the finest cells there.

    A cell keeps its volume and takes density, mean velocity and mass-weighted temperature of all populations together,
    so that mass is counted once.
    """
    parts = []
    for number, population in enumerate(populations):
        position = population.draw(rng)
        for start in range(0, len(position), _BLOCK):
            parts.append(_owned(populations, number, position[start : start + _BLOCK]))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _owned(populations, number, position):
    """The cells of one population where it is the finest, with the combined values of all populations."""
    values = [other.at(position) for other in populations]
    volumes = np.stack([value[2] for value in values])
    own = np.argmin(volumes, axis=0) == number
    densities = np.stack([value[0] for value in values])[:, own]
    total = np.sum(densities, axis=0)
    pressure = np.sum(densities * np.stack([value[1] for value in values])[:, own], axis=0)
    velocity = np.einsum("ki,kj->ij", densities / total, np.stack([other.velocity for other in populations]))
    return position[own], volumes[number, own], total, pressure / total, velocity, np.full(len(total), number)


def _random_field(rng, n_components):
    """Gaussian random fields on a periodic cube of R500, Kolmogorov spectrum P(k) ~ k^-11/3 from half of R500 down."""
    k = np.fft.fftfreq(_GRID, 1.0 / _GRID)
    k_z = np.fft.rfftfreq(_GRID, 1.0 / _GRID)
    k_squared = k[:, None, None] ** 2 + k[None, :, None] ** 2 + k_z**2
    amplitude = np.where(k_squared >= 4.0, np.maximum(k_squared, 1.0) ** (-11.0 / 12.0), 0.0)
    fields = []
    for _ in range(n_components):
        noise = rng.standard_normal((_GRID, _GRID, _GRID), dtype=np.float32)
        values = np.fft.irfftn(np.fft.rfftn(noise) * amplitude, s=noise.shape, axes=(0, 1, 2))
        fields.append(values / np.std(values))
    return fields


def _sampled(fields, position, side):
    """Periodic fields of a given side, interpolated at positions."""
    cells = np.ascontiguousarray(position.T) * (_GRID / side) % _GRID
    return [map_coordinates(values, cells, order=1, mode="grid-wrap") for values in fields]


def _pressure_preserving(cluster, position, rng):
    """Factor on the density that leaves the pressure alone: turbulence, clumping, sloshing spiral, cavities."""
    disturbances, r_500 = cluster.disturbances, cluster.r_500
    log_factor = np.zeros(len(position))
    rms = disturbances.density_rms
    if rms > 0:
        field = _random_field(rng, 1)
        # the same field again on small scales, with the power that the spectrum has there
        small = 0.15
        weight = small ** (1.0 / 3.0)
        values = _sampled(field, position, r_500)[0] + weight * _sampled(field, position, small * r_500)[0]
        radius = _length(position) / r_500
        local = rms * np.minimum(0.6 + radius, 1.8) / np.sqrt(1 + weight**2)
        # observed densities come from emission: the mean of the squared factor is one
        log_factor += local * values - local**2 * (1 + weight**2)
        log_factor += 0.05 * rng.standard_normal(len(position))
    if disturbances.spiral > 0:
        log_factor += _spiral(disturbances, position, r_500)
    for centre, size, depth in disturbances.cavities:
        distance = _length(position - centre) / size
        log_factor += np.log(depth) * 0.5 * (1.0 - np.tanh((distance - 1.0) / 0.1))
        log_factor += 0.2 * np.exp(-0.5 * ((distance - 1.25) / 0.12) ** 2)  # rim
    return np.exp(log_factor)


def _spiral(disturbances, position, r_500):
    """ln of the density of a sloshing spiral, strongest in its plane and around 0.1 R500."""
    axis = disturbances.spiral_axis
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    first = np.cross(axis, helper)
    first /= np.sqrt(np.sum(first**2))
    second = np.cross(axis, first)
    height = position @ axis
    radius = _length(position) + 1e-9
    phase = np.arctan2(position @ second, position @ first)
    x = radius / (0.1 * r_500)
    window = x**2 / (1 + x**4) * 2.0 * np.exp(-((height / radius / 0.6) ** 2))
    return disturbances.spiral * window * np.cos(phase - disturbances.spiral_phase - 2.5 * np.log(x))


def _shock(cluster, position):
    """Density and temperature factors of the gas that a merger has shocked between the two bodies."""
    mach = cluster.disturbances.shock_mach
    if mach <= 1.0 or len(cluster.bodies) < 2:
        return 1.0, 1.0
    second = cluster.bodies[1]
    distance = np.sqrt(np.sum(second.centre**2))
    axis = second.centre / distance
    along = position @ axis
    across = np.sqrt(np.maximum(np.einsum("ij,ij->i", position, position) - along**2, 0.0))
    weight = np.exp(-0.5 * ((along - 0.55 * distance) / (0.22 * distance)) ** 2)
    weight *= np.exp(-0.5 * (across / (0.3 * second.halo.r_500)) ** 2)
    # Rankine-Hugoniot for gamma = 5/3
    density = 4.0 * mach**2 / (mach**2 + 3.0)
    temperature = (5.0 * mach**2 - 1.0) * (mach**2 + 3.0) / (16.0 * mach**2)
    return 1.0 + weight * (density - 1.0), 1.0 + weight * (temperature - 1.0)


def _even_out(rng, factor, arrays, size):
    """Thin out cells that became light and split those that became heavy, so that masses stay within a factor of 2."""
    light, heavy = factor < 0.6, factor > 1.7
    kept = ~light | (rng.random(len(factor)) < factor / 0.6)
    mass_factor = np.where(light, 0.6, factor)
    count = np.where(heavy, np.ceil(factor / 1.7).astype(int), 1)[kept]
    index = np.repeat(np.flatnonzero(kept), count)
    mass_factor = mass_factor[index] / np.repeat(count, count)
    copied = np.repeat(count > 1, count)
    arrays = [array[index] for array in arrays]
    if np.any(copied):
        shift = rng.standard_normal((copied.sum(), 3)) * (0.3 * size[index][copied])[:, None]
        arrays[0][copied] += shift
    return mass_factor, arrays


def _velocities(cluster, position, temperature, rng):
    """Turbulent velocities, a Mach number of the local sound speed in three dimensions [km/s]."""
    mach = cluster.disturbances.mach
    if mach == 0:
        return np.zeros_like(position)
    speed = mach * np.sqrt(_SOUND * temperature / 3.0)
    fields = _sampled(_random_field(rng, 3), position, cluster.r_500)
    return np.stack([speed * field for field in fields], axis=1)


def _metallicity(cluster, position, rng):
    """Metal mass fraction of each cell."""
    outer, centre, scale, scatter = cluster.disturbances.metals
    x = _length(position) / (scale * cluster.r_500)
    metals = outer + (centre - outer) / (1.0 + x**2)
    if scatter:
        metals = metals * np.exp(scatter * rng.standard_normal(len(x)) - 0.5 * scatter**2)
    return metals * TNG_SOLAR_METAL_FRACTION


def _cold_phase(cluster, cells, rng, origin):
    """Turn some cells of a cool core, and a few of each clump's galaxies, into cold gas; most of it forms stars."""
    radius = _length(cells["position"])
    chance = np.where(radius < 0.04 * cluster.r_500, cluster.disturbances.cold_fraction, 0.0)
    chance = np.where(origin >= len(cluster.bodies), 0.01, chance)
    cold = rng.random(len(radius)) < chance
    # pressure equilibrium would make it 1e3 times denser; the interstellar medium of the simulation stops short of that
    cells["density"][cold] *= np.minimum(cells["temperature"][cold] / _COLD_KEV, 300.0)
    cells["temperature"][cold] = _COLD_KEV * np.exp(0.3 * rng.standard_normal(np.count_nonzero(cold)))
    cells["electron_abundance"][cold] = 0.3
    forms_stars = cold.copy()
    forms_stars[cold] = rng.random(np.count_nonzero(cold)) < 0.7
    cells["star_formation_rate"][forms_stars] = cells["mass"][forms_stars] / 2e9  # gas used up in 2 Gyr


def draw_cells(cluster, rng, *, cell_mass, max_cells=None):
    """
    The gas cells of a cluster as a dict of arrays, relative to its centre.

    ``position`` [kpc], ``velocity`` [km/s], ``mass`` [Msun], ``density`` [Msun/kpc3], ``temperature`` [keV],
    ``electron_abundance``, ``metals`` (mass fraction), ``star_formation_rate`` [Msun/yr]. ``cell_mass`` is in Msun.
    """
    populations = _populations(cluster, cell_mass, max_cells)
    position, volume, density, temperature, velocity, origin = _combined(populations, rng)
    factor = _pressure_preserving(cluster, position, rng)
    shock_density, shock_temperature = _shock(cluster, position)
    temperature = np.clip(temperature / factor * shock_temperature, 0.03, 60.0)
    factor = factor * shock_density
    density = density * factor
    mass = volume * density / factor
    size = np.cbrt(volume)
    arrays = [position, mass, density, temperature, velocity, origin]
    mass_factor, (position, mass, density, temperature, velocity, origin) = _even_out(rng, factor, arrays, size)
    spread = np.exp(np.clip(0.2 * rng.standard_normal(len(mass)), -0.5, 0.5))
    cells = {
        "position": position,
        "velocity": velocity + _velocities(cluster, position, temperature, rng),
        "mass": mass * mass_factor * spread / np.mean(spread),
        "density": density,
        "temperature": temperature,
        "electron_abundance": np.full(len(mass), ELECTRONS_PER_HYDROGEN),
        "metals": _metallicity(cluster, position, rng),
        "star_formation_rate": np.zeros(len(mass)),
    }
    _cold_phase(cluster, cells, rng, origin)
    return cells
