"""
Real clusters as images: the shells of ACCEPT, put at any redshift and seen through any `Observation`.

`read_accept` gives the clusters with their true class, `accept_images` a SAMPLE table and one image per row, in memory.
A cluster is a sphere of its own density and temperature shells (``lumpy=True``: made of cells, triaxial and clumpy).
The spherical images come from the projected profile alone, without any cell: every step but the photons per emission
measure and the detector, which are the package's, is independent of its engines.
"""

import gzip
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable
from scipy import sparse

from astroclassify.batch import derive_rng
from astroclassify.images import DEFAULT_COSMOLOGY, SkyImage
from astroclassify.schemes import COOL_CORE
from astroclassify.sim import Halo, classify_t_cool, expected_counts, expected_spectrum
from astroclassify.sim.embedded._physics import r_500_of, virial_temperature
from astroclassify.sim.physics._telescope import make_telescope

__all__ = [
    "APERTURE", "RADII", "Cluster", "accept_images", "background_counts", "counts_per_emission", "lumpy_halo",
    "profiles", "read_accept", "sphere_halo",
]  # fmt: skip

TABLE = Path("profiles", "accept_main_table.txt.gz")
# Columns after the name: radii [Mpc], n_e [cm-3] and its error, T [keV], tcool3/2 [Gyr].
_R_IN, _R_OUT, _N_E, _N_E_ERR, _T, _T_COOL = 0, 1, 2, 3, 12, 17
LEAST_RADIUS = 120.0  # kpc: a cluster whose outermost shell lies nearer says too little of its image
APERTURE = 0.012  # R500
METALLICITY = 0.3  # solar: what ACCEPT's cooling function stands for
ELECTRONS_PER_HYDROGEN = 1.2  # ACCEPT's
# Beyond the last shell the density is a power law of the slope of the shells outside this fraction of its radius, kept
# within what clusters have between there and R500; the temperature stays that of the last shell.
_OUTER, _SLOPES = 0.5, (1.5, 3.0)

_EDGES = np.append(0.0, np.geomspace(0.3, 3000.0, 1500))  # kpc, of the spheres that a profile is cut into
RADII = np.append(0.0, np.geomspace(0.2, 1200.0, 420))  # kpc, at which a projected profile is known
_ANGLES, _RINGS, _PHASES = 6, 32, 12  # off-axis angles, and places, at which the PSF is taken
_SKIES = 8  # different fields of point sources, which the clusters share
_TEMPERATURES = np.geomspace(0.2, 30.0, 40)  # keV


@dataclass(frozen=True, eq=False)
class Cluster:
    """
    A cluster of ACCEPT: shells from the inside out, edges [kpc], n_e and its error [cm-3], T [keV], t_cool [Gyr].

    ``test``: of the public third. ``fitted``: the power law outside the shells goes through what is fitted to the outer
    ones, not through the last one.
    """

    name: str
    r_in: np.ndarray
    r_out: np.ndarray
    n_e: np.ndarray
    n_e_err: np.ndarray
    temperature: np.ndarray
    t_shells: np.ndarray
    test: bool
    fitted: bool = False

    @cached_property
    def radius(self):
        """Middles of the shells [kpc]."""
        return 0.5 * (self.r_in + self.r_out)

    @cached_property
    def m_500(self):
        """Mass [Msun] whose virial temperature mu m_p G M500 / (2 R500) is the median one of the shells."""
        masses = np.geomspace(1e12, 1e16, 2000)
        return float(np.interp(np.median(self.temperature), virial_temperature(masses), masses))

    @cached_property
    def r_500(self):
        """R500 [kpc] of `m_500` at z = 0."""
        return float(r_500_of(self.m_500))

    def density(self, radius):
        """n_e [cm-3]: that of the shell (inside the first one, of the first), outside the last one a power law."""
        start, slope = self._outskirts
        outside = start * (np.maximum(radius, self.radius[-1]) / self.radius[-1]) ** slope
        return np.where(radius > self.r_out[-1], outside, self.n_e[self._shell(radius)])

    @cached_property
    def _outskirts(self):
        """Density in the middle of the last shell, and slope, of the power law outside."""
        outer = self.radius >= _OUTER * self.radius[-1]
        x, y = np.log(self.radius[outer] / self.radius[-1]), np.log(self.n_e[outer])
        slope = np.clip(np.polyfit(x, y, 1)[0], -_SLOPES[1], -_SLOPES[0])
        return float(np.exp(np.mean(y - slope * x))) if self.fitted else self.n_e[-1], slope

    def _shell(self, radius):
        return np.minimum(np.searchsorted(self.r_out, radius, side="right"), len(self.n_e) - 1)

    def kT(self, radius):
        """Temperature [keV], straight in log r between the middles of the shells, constant outside."""
        return np.interp(np.log(np.maximum(radius, 1e-3)), np.log(self.radius), self.temperature)

    def _core(self, values):
        """Mean within 0.012 R500, weighted by gas mass, of a quantity of the shells, interpolated in the logarithms."""
        radius = (np.arange(200) + 0.5) / 200 * APERTURE * self.r_500
        inside, n_e = (
            np.exp(np.interp(np.log(radius), np.log(self.radius), np.log(each))) for each in (values, self.n_e)
        )
        return float(np.average(inside, weights=n_e * radius**2))

    @cached_property
    def t_cool(self):
        """Cooling time [Gyr] within 0.012 R500: ACCEPT's own tcool3/2, averaged by gas mass."""
        return self._core(self.t_shells)

    @cached_property
    def central_n_e(self):
        """Electron density [cm-3] within 0.012 R500, averaged by gas mass."""
        return self._core(self.n_e)

    @cached_property
    def core_radius(self):
        """Projected radius [kpc] at which the surface brightness is half the central one."""
        profile = _chords() @ self.density(_middles()) ** 2
        return float(np.interp(-0.5, -profile / profile[0], RADII))


def read_accept(data, *, fitted=False):
    """
    Clusters of ACCEPT whose outermost shell is centred beyond 120 kpc, by name; ``data``: folder of the shared data.

    Shells without a positive n_e, temperature and cooling time are left out. 212 of 242 clusters are left, 70 of them
    of the public third.
    """
    shells = defaultdict(list)
    with gzip.open(Path(data) / TABLE, "rt", encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith("#") and line.strip():
                name, *values = line.split()
                shells[name].append([float(value) for value in values])
    clusters = []
    for number, name in enumerate(sorted(shells)):
        rows = np.array(sorted(shells[name]))
        needed = rows[:, [_N_E, _T, _T_COOL]]
        rows = rows[np.all(np.isfinite(needed) & (needed > 0), axis=1)]
        r_in, r_out = 1e3 * rows[:, _R_IN], 1e3 * rows[:, _R_OUT]
        if len(rows) and 0.5 * (r_in[-1] + r_out[-1]) > LEAST_RADIUS:
            values = rows[:, [_N_E, _N_E_ERR, _T, _T_COOL]].T
            clusters.append(Cluster(name, r_in, r_out, *values, test=number % 3 == 0, fitted=fitted))
    return clusters


def accept_images(clusters, observation, *, rng=1, exposures=None, offset=0 * u.kpc, lumpy=False):
    """
    Images of clusters through an observation: a SAMPLE table without files, and a list of `SkyImage`.

    ``exposures``: several times for which the same expectation is drawn; the result is then a dict of them [ks].
    ``offset``: how far from the cluster's middle, in one of eight directions, the middle of the image is. The table
    has, besides the columns of SAMPLE, ``test`` (of the public third), ``counts``, ``source_counts`` (expected, without
    background) and ``core_radius``. The class is ACCEPT's: nothing of an image enters it.
    """
    times = [observation.exposure] if exposures is None else list(exposures)
    longest = replace(observation, exposure=max(times))
    skies = [_empty(longest, n, rng) for n in range(1 if longest.point_sources is None else _SKIES)]
    if lumpy:
        sources = (_lumpy_source(cluster, longest, rng) for cluster in clusters)
    else:
        sources = _sources(clusters, longest, [_shift(cluster, offset, rng) for cluster in clusters])
    drawn = {float(time.to_value(u.ks)): ([], []) for time in times}
    for number, (cluster, source) in enumerate(zip(clusters, sources, strict=True)):
        row, sky = _row(cluster, observation), skies[number % len(skies)]
        for ks, (rows, images) in drawn.items():
            part = float(ks * u.ks / longest.exposure)
            draws = derive_rng(rng, "accept counts", cluster.name, f"{ks:g}")
            counts = draws.poisson(part * (source + sky.data)).astype(np.float32)
            images.append(_as_image(counts, sky, cluster.name, part))
            rows.append({**row, "counts": counts.sum() * u.ct, "source_counts": part * source.sum() * u.ct})
    results = {ks: (_table(rows), images) for ks, (rows, images) in drawn.items()}
    return next(iter(results.values())) if exposures is None else results


def background_counts(observation):
    """Expected counts per pixel of sky and particles, without point sources, (rows, columns)."""
    return _empty(replace(observation, point_sources=None), 0, 0).data


def _as_image(counts, sky, name, part):
    """Counts with the coordinates, mask, header and ``part`` of the exposure of the image of an empty sky."""
    meta = sky.meta.copy()
    del meta["HALO_ID"]  # by which it would be named
    meta["OBJECT"], meta["EXPOSURE"] = name, part * meta["EXPOSURE"]
    exposed = None if sky.exposure is None else part * sky.exposure
    mask = None if sky.mask is None else sky.mask.copy()
    return SkyImage(counts, unit=u.ct, wcs=sky.wcs, mask=mask, exposure=exposed, meta=meta)


def _row(cluster, observation):
    return {
        "source_id": cluster.name,
        "group_id": cluster.name,
        "label": classify_t_cool(cluster.t_cool * u.Gyr),
        "redshift": observation.redshift,
        "m_500": cluster.m_500 * u.Msun,
        "r_500": cluster.r_500 * u.kpc,
        "t_cool": cluster.t_cool * u.Gyr,
        "n_e": cluster.central_n_e * u.cm**-3,
        "flags": 0,
        "test": cluster.test,
        "core_radius": cluster.core_radius * u.kpc,
    }


def _table(rows):
    table = QTable(rows=rows)
    table.meta["scheme"] = COOL_CORE.to_dict()
    return table


@lru_cache(maxsize=2 * _SKIES)
def _empty(observation, halo_id, rng):
    """The observation of a cluster without gas: expected background, header, mask, exposure map."""
    return expected_counts(_halo(np.zeros((1, 3)), [0.0], [1.0], [1.0], halo_id=halo_id), observation, rng=rng)


def _halo(position, n_e, kT, volume, *, halo_id=0, m_500=1e14, r_500=1000.0):
    """Gas cells [kpc, cm-3, keV, kpc3] at rest as a `Halo`."""
    n_e, volume = np.asarray(n_e, dtype=float), np.asarray(volume, dtype=float)
    density = np.maximum(1.17 * n_e, 1e-4) * 1.67262e-24  # g/cm3, of electrons with their ions
    return Halo(
        halo_id=halo_id,
        simulation="ACCEPT",
        snapshot=0,
        redshift=0.0,
        m_500=m_500 * u.Msun,
        r_500=r_500 * u.kpc,
        centre=np.zeros(3) * u.kpc,
        position=position * u.kpc,
        velocity=np.zeros_like(position) * u.km / u.s,
        mass=density * u.g / u.cm**3 * volume * u.kpc**3,
        density=density * u.g / u.cm**3,
        temperature=np.asarray(kT, dtype=float) * u.keV,
        n_e=n_e / u.cm**3,
        n_h=np.maximum(n_e, 1e-20) / ELECTRONS_PER_HYDROGEN / u.cm**3,
        metallicity=np.full(len(n_e), METALLICITY) * u.one,
        cosmology=DEFAULT_COSMOLOGY,
    )


# --- Profiles to images -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _middles():
    return np.append(0.5 * _EDGES[1], np.sqrt(_EDGES[1:-1] * _EDGES[2:]))


@lru_cache(maxsize=1)
def _chords():
    """Length [kpc] of the line of sight at each projected radius within each sphere, (radii, spheres)."""
    half = np.sqrt(np.maximum(_EDGES[np.newaxis, :] ** 2 - RADII[:, np.newaxis] ** 2, 0.0))
    return 2.0 * np.diff(half, axis=1)


@lru_cache(maxsize=32)
def photons(observation):
    """Counts on axis, of the whole exposure, per kpc3 of gas of n_e n_H = 1 cm-6, at `_TEMPERATURES`."""
    unit = _halo(np.zeros((1, 3)), [1.0], [1.0], [1.0])
    width = np.ptp(observation.energy_range)
    counts = []
    for kT in _TEMPERATURES:
        spectrum = expected_spectrum(replace(unit, temperature=[kT] * u.keV), observation, bin_width=width)
        counts.append(float(spectrum["counts"].value.sum()))
    return np.array(counts) * ELECTRONS_PER_HYDROGEN


def counts_per_emission(observation, kT=5.0):
    """Count rate on axis per emission measure of gas of a temperature [keV], a Quantity [ct cm3 / s]."""
    counts = np.interp(kT, _TEMPERATURES, photons(observation)) / (u.kpc**3).to(u.cm**3)
    return counts / observation.exposure.to_value(u.s) * u.ct * u.cm**3 / u.s


def profiles(clusters, observation):
    """Projected counts per kpc2 at `RADII`, before the PSF, (clusters, radii)."""
    radius, per_volume = _middles(), photons(observation)
    emitted = [
        cluster.density(radius) ** 2
        / ELECTRONS_PER_HYDROGEN
        * np.interp(np.log(cluster.kT(radius)), np.log(_TEMPERATURES), per_volume)
        for cluster in clusters
    ]
    return np.array(emitted) @ _chords().T


def _weights(radius):
    """Matrix (places, radii) that interpolates a profile in radius."""
    index = np.clip(np.searchsorted(RADII, radius, side="right") - 1, 0, len(RADII) - 2)
    share = np.clip((radius - RADII[index]) / (RADII[index + 1] - RADII[index]), 0.0, 1.0)
    rows = np.arange(len(radius))
    entries = np.concatenate([1.0 - share, share]), (np.tile(rows, 2), np.concatenate([index, index + 1]))
    return sparse.csr_array(entries, shape=(len(radius), len(RADII)))


def _smoothing(rings):
    """Matrix (radii, radii) of a PSF by the radii [kpc] of rings that hold equal shares of its light."""
    phase = (np.arange(_PHASES) + 0.5) * np.pi / _PHASES  # both sides of the line to the centre are alike
    places = (np.hypot(RADII + r * np.cos(angle), r * np.sin(angle)) for r in rings for angle in phase)
    return sum(_weights(place) for place in places) / (len(rings) * _PHASES)


def _rings(telescope, observation):
    """Off-axis angles [arcmin] and, for each, the radii [kpc] of rings of equal light of the PSF."""
    theta, sigma = _angles(telescope), _sigma(telescope)
    varies = telescope.king is not None or telescope.growth > 0
    angles = np.linspace(theta.min(), theta.max(), _ANGLES if varies else 1)
    share = (np.arange(_RINGS) + 0.5) / _RINGS
    for angle in angles:
        if telescope.king is None:
            pixels = sigma.flat[np.argmin(np.abs(theta - angle))] * np.sqrt(-2.0 * np.log1p(-share))
        else:
            pixels = telescope.king.radius(share, np.full(share.shape, angle)) / telescope.pixel_arcsec
        yield angle, pixels * observation.pixel_kpc


def _angles(telescope):
    """Off-axis angle of every pixel [arcmin]."""
    rows, columns = np.indices(telescope.fraction.shape) + 0.5
    return telescope.off_axis(columns, rows)


def _sigma(telescope):
    rows, columns = np.indices(telescope.fraction.shape) + 0.5
    return np.broadcast_to(telescope.psf_sigma(columns, rows), rows.shape)


def _pixel_matrix(observation, place):
    """
    Matrix (pixels, radii) that averages a profile over pixels, its centre at ``place`` [kpc, right and up].

    Pixels near the centre, where a profile is steep, are averaged over more points.
    """
    rows, columns = observation.shape
    size = observation.pixel_kpc
    x = (np.arange(columns) + 0.5 - 0.5 * columns) * size - place[0]
    y = (np.arange(rows) + 0.5 - 0.5 * rows) * size - place[1]
    x, y = (grid.ravel() for grid in np.meshgrid(x, y))
    near = np.hypot(x, y) < 6.0 * size
    parts = []
    for chosen, n in ((~near, 2), (near, 12)):
        steps = ((np.arange(n) + 0.5) / n - 0.5) * size
        mean = sum(_weights(np.hypot(x[chosen] + dx, y[chosen] + dy)) for dx in steps for dy in steps) / n**2
        parts.append((np.flatnonzero(chosen), mean))
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return sparse.vstack([mean for _, mean in parts]).tocsr()[order]


def _shift(cluster, offset, rng):
    """Where the cluster lies on its image [kpc, right and up], in one of eight directions."""
    angle = (derive_rng(rng, "accept shift", cluster.name).integers(8) + 0.5) * np.pi / 4
    distance = float(offset.to_value(u.kpc))
    return (round(distance * np.cos(angle), 6), round(distance * np.sin(angle), 6))


def _sources(clusters, observation, places):
    """Expected counts of each cluster alone, (rows, columns), one after the other; ``places`` [kpc, right and up]."""
    telescope = make_telescope(observation, DEFAULT_COSMOLOGY)
    angles, rings = zip(*_rings(telescope, observation), strict=True)
    smooth = [_smoothing(radii) for radii in rings]
    step = angles[1] - angles[0] if len(angles) > 1 else np.inf
    theta = _angles(telescope).ravel()
    shares = [np.clip(1.0 - np.abs(theta - angle) / step, 0.0, 1.0) for angle in angles]
    matrices = {place: _pixel_matrix(observation, place) for place in set(places)}
    for profile, place in zip(profiles(clusters, observation), places, strict=True):
        pixels = matrices[place]
        image = sum(share * (pixels @ (matrix @ profile)) for share, matrix in zip(shares, smooth, strict=True))
        yield image.reshape(observation.shape) * observation.pixel_kpc**2 * telescope.fraction


# --- Cells ------------------------------------------------------------------------------------------------------------


def sphere_halo(cluster, *, n_cells=60_000, rng=1):
    """The cluster as gas cells, regular shells of equal thickness in log r: what an engine needs, and the peer here."""
    return _cells(cluster, derive_rng(rng, "accept cells", cluster.name), n_cells)[0]


def lumpy_halo(cluster, *, rng=1, n_cells=40_000):
    """
    The cluster as gas cells, triaxial (axes 1 to 0.6, of the same volume) and clumpy: its density times a lognormal
    field of 60 plane waves between 30 and 600 kpc long, power rising as the length, of rms 0.1 to 0.3, in pressure
    equilibrium.
    """
    draws = derive_rng(rng, "accept lumps", cluster.name)
    _, (position, n_e, kT, volume) = _cells(cluster, draws, n_cells)
    ratio = np.append(1.0, np.sort(draws.uniform(0.6, 1.0, 2))[::-1])
    turn = np.linalg.qr(draws.standard_normal((3, 3)))[0]
    position = position * (ratio / np.cbrt(np.prod(ratio))) @ turn.T
    waves = draws.standard_normal((60, 3))
    length = np.exp(draws.uniform(np.log(30.0), np.log(600.0), 60))
    waves *= (2 * np.pi / length / np.linalg.norm(waves, axis=1))[:, np.newaxis]
    field = np.zeros(len(position))
    for wave, phase, size in zip(waves, draws.uniform(0, 2 * np.pi, 60), np.sqrt(length), strict=True):
        field += size * np.cos(position @ wave + phase)
    field *= draws.uniform(0.1, 0.3) * np.sqrt(2.0 / length.sum())
    factor = np.exp(field - 0.5 * field.var())
    # heavier cells of the same volume; hot where it is thin
    return _halo(position, n_e * factor, np.clip(kT / factor, 0.2, 30.0), volume)


def _cells(cluster, draws, n_cells):
    """Cells on Fibonacci lattices, each in a shell about as thick as they are wide; a `Halo` and its plain arrays."""
    low, high = 0.5, 2000.0
    n_shells = round(np.cbrt(n_cells / (4 * np.pi)) * np.cbrt(np.log(high / low)) ** 2)
    edges = np.append(0.0, np.geomspace(low, high, n_shells))
    per_shell = max(n_cells // n_shells, 12)
    number = np.arange(per_shell) + 0.5
    position, volume = [], []
    for inner, outer in zip(edges[:-1], edges[1:], strict=True):
        theta, phi = np.arccos(1 - 2 * number / per_shell), np.pi * (1 + np.sqrt(5)) * number
        lattice = np.stack([np.cos(phi) * np.sin(theta), np.sin(phi) * np.sin(theta), np.cos(theta)], axis=1)
        turn = np.linalg.qr(draws.standard_normal((3, 3)))[0]
        radius = np.cbrt(draws.uniform(inner**3, outer**3, per_shell))
        position.append(radius[:, np.newaxis] * (lattice @ turn.T))
        volume.append(np.full(per_shell, 4 / 3 * np.pi * (outer**3 - inner**3) / per_shell))
    position, volume = np.concatenate(position), np.concatenate(volume)
    radius = np.sqrt(np.sum(position**2, axis=1))
    arrays = position, cluster.density(radius), cluster.kT(radius), volume
    return _halo(*arrays), arrays


def _lumpy_source(cluster, observation, rng):
    """Expected counts of a lumpy cluster alone; it is turned at random already."""
    quiet = replace(observation, point_sources=None)
    return expected_counts(lumpy_halo(cluster, rng=rng), quiet).data - background_counts(quiet)
