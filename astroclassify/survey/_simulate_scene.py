"""What lies in the field of a simulated candidate: sources of each class, and the sky around them."""

import dataclasses
import functools
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr

from ..schemes import CANDIDATE
from . import _simulate_clusters as clusters
from ._simulate_population import POPULATION as P
from ._simulate_xmm import Beta, draw_pointing, vignetting

__all__ = [
    "Scene",
    "add_cluster",
    "add_galaxy",
    "add_nuclei",
    "add_plate_sky",
    "agn_counts",
    "agn_magnitude",
    "draw_scene",
    "host_galaxies",
    "star_magnitude",
    "x_ray_flux",
]

_NO_POINTS, _NO_GALAXIES = np.zeros((0, 3)), np.zeros((0, 7))


@dataclass
class Scene:
    """Sources of a candidate, offsets in arcsec from its position; filled step by step by the functions below."""

    label: str
    kind: str
    pointing: object
    truth: dict = field(default_factory=dict)
    extended: list = field(default_factory=list)  # of Beta
    points: list = field(default_factory=list)  # of arrays (n, 3): flux, x, y
    stars: list = field(default_factory=list)  # of arrays (n, 3): x, y, R
    galaxies: list = field(default_factory=list)  # of arrays (n, 7), see `expose_plate`
    painted: list = field(default_factory=list)
    detector_light: list = field(default_factory=list)

    def add_point(self, flux, x, y, magnitude=None):
        """Add an X-ray point source and, with a magnitude, its star-like counterpart."""
        self.points.append(np.array([[flux, x, y]]))
        if magnitude is not None:
            self.stars.append(np.array([[x, y, magnitude]]))

    def flux_of(self, counts):
        """Flux that a number of counts at the candidate's place is expected from."""
        return counts / (P.counts_per_flux * self.pointing.exposure * vignetting(self.pointing.off_axis))

    def finish(self):
        """Join the lists of arrays."""
        self.points = np.concatenate([_NO_POINTS, *self.points])
        self.stars = np.concatenate([_NO_POINTS, *self.stars])
        self.galaxies = np.concatenate([_NO_GALAXIES, *self.galaxies])
        return self


def agn_counts(flux):
    """
    Active galactic nuclei brighter than a flux, per square degree.

    Parameters
    ----------
    flux : float or `~numpy.ndarray`
        Flux in 0.5 to 2 keV [erg s-1 cm-2].

    Returns
    -------
    float or `~numpy.ndarray`
        N(>S) [deg-2].

    References
    ----------
    Moretti et al. 2003, ApJ 588, 696: N(>S) = 6150 (2e-15)^1.82 / (S^1.82 + (1.48e-14)^1.22 S^0.60).
    """
    flux = np.asarray(flux, dtype=float)
    return 6150 * 2e-15**1.82 / (flux**1.82 + 1.48e-14 ** (1.82 - 0.60) * flux**0.60)


@functools.lru_cache(maxsize=4)
def _agn_table(faintest, brightest):
    flux = np.geomspace(faintest, brightest, 512)
    counts = agn_counts(flux)
    return counts[0] - counts[-1], np.log(counts[::-1]), np.log(flux[::-1])


def draw_fluxes(number, faintest, brightest, rng):
    """Fluxes of active nuclei between two bounds, by the inverse of N(>S)."""
    _, log_counts, log_flux = _agn_table(faintest, brightest)
    low, high = np.exp(log_counts[0]), np.exp(log_counts[-1])
    return np.exp(np.interp(np.log(low + (high - low) * rng.random(number)), log_counts, log_flux))


def optical_magnitude(flux, log_ratio):
    """R of a source of X-ray flux f: log(f / f_R) = log f + 5.5 + R / 2.5 (Hornschemeier et al. 2001, ApJ 554, 742)."""
    return 2.5 * (log_ratio - np.log10(flux) - 5.5)


def x_ray_flux(magnitude, log_ratio):
    """The way back from `optical_magnitude`."""
    return 10 ** (log_ratio - 5.5 - np.asarray(magnitude) / 2.5)


def agn_magnitude(flux, rng):
    """R of active nuclei."""
    return optical_magnitude(flux, P.x_to_optical_scatter * rng.standard_normal(np.shape(flux)))


def draw_scene(label, half, rng):
    """
    Draw a candidate of a class and the sky around it.

    Parameters
    ----------
    label : str
        Class of the scheme CANDIDATE.
    half : tuple of float
        Half the sides of the image along x and y [arcsec].
    rng : `~numpy.random.Generator`
        Source of randomness.

    Returns
    -------
    Scene
        Everything that has light, and the truth: ``kind``, ``flux`` [erg s-1 cm-2] and, where there are, ``redshift``,
        ``m_500`` [Msun], ``r_500`` [kpc], ``core_radius`` [arcsec], ``r_mag``.
    """
    kind = str(rng.choice(P.other_kinds, p=P.other_shares)) if label == "other" else ""
    pointing = draw_pointing(rng, on_edge=kind == "edge")
    scene = Scene(label, kind, pointing)
    x, y = P.centring * rng.standard_normal(2)
    {"low_z": _cluster, "high_z": _cluster, "galaxy": _galaxy, "point": _point, "other": _other}[label](
        scene, x, y, rng
    )
    _field(scene, half, rng)
    return scene.finish()


def shifted(galaxies, x, y):
    return galaxies + np.array([x, y, 0, 0, 0, 0, 0])


def _cluster(scene, x, y, rng):
    add_cluster(scene, clusters.draw_cluster(P.redshifts[CANDIDATE.index(scene.label)], scene.pointing, rng), x, y, rng)


def add_cluster(scene, cluster, x, y, rng):
    """Add gas and galaxies of a cluster, at times an active nucleus in the central one: its flux and place, or None."""
    for part in clusters.cluster_light(cluster, rng):
        scene.extended.append(dataclasses.replace(part, x=part.x + x, y=part.y + y))
    galaxies = shifted(clusters.cluster_galaxies(cluster, rng), x, y)
    scene.galaxies.append(galaxies)
    scene.kind = "cluster"
    scene.truth = {
        "r_mag": float(galaxies[0, 2]),
        **{name: cluster[name] for name in ("redshift", "m_500", "r_500", "flux", "core_radius")},
    }
    if rng.random() >= P.cluster_nucleus_share:
        return None
    nucleus = (cluster["flux"] * rng.uniform(0.1, 0.5), *galaxies[0, :2])
    scene.add_point(*nucleus)
    return nucleus


def star_magnitude(flux, rng):
    """R of X-ray stars."""
    mean, scatter = P.star_x_to_optical
    return np.clip(optical_magnitude(flux, mean + scatter * rng.standard_normal(np.shape(flux))), 7.5, 17)


def host_galaxies(x, y, magnitude, rng):
    """Galaxies about nuclei of given places and magnitudes, 1-d arrays."""
    number = len(x)
    size = 2.2 * 10 ** (-0.13 * (magnitude - 18)) * np.exp(0.3 * rng.standard_normal(number))
    shape = [rng.uniform(0.5, 1, number), rng.uniform(0, np.pi, number), rng.choice([1, 4], number)]
    return np.column_stack([x, y, magnitude - 0.2, size, *shape])


def _point_flux(scene, rng):
    """Flux of a point source that is a candidate: from N(>S), found above the background, brighter ones more often."""
    flux = draw_fluxes(1024, 2e-15, 5e-12, rng)
    vignette = vignetting(scene.pointing.off_axis)
    counts = flux * P.counts_per_flux * scene.pointing.exposure * vignette
    sky = (scene.pointing.sky * vignette + scene.pointing.particles) * scene.pointing.exposure * np.pi / 9  # in 20"
    middle, width = P.point_significance
    chance = counts**P.point_brightness_power * ndtr((counts / np.sqrt(counts + sky) - middle) / width)
    return float(rng.choice(flux, p=chance / chance.sum()))


def _point(scene, x, y, rng):
    flux = _point_flux(scene, rng)
    if rng.random() < P.star_share:
        scene.kind, magnitude = "star", float(star_magnitude(flux, rng))
    else:
        scene.kind, magnitude = "agn", float(max(agn_magnitude(flux, rng), 13.5))
        if rng.random() < P.host_share:
            scene.galaxies.append(host_galaxies(*np.array([[x], [y], [magnitude]]), rng))
    scene.add_point(flux, x, y, magnitude)
    if rng.random() < P.double_share:
        place, phase, other = rng.uniform(8, 25), rng.uniform(0, 2 * np.pi), flux * rng.uniform(0.05, 0.3)
        scene.add_point(other, x + place * np.cos(phase), y + place * np.sin(phase), agn_magnitude(other, rng))
    scene.truth = {"flux": flux, "r_mag": magnitude}


def _power_law(low, high, power, rng):
    """Draw from dN/dlnC ~ C^power between two bounds."""
    return (low**power + (high**power - low**power) * rng.random()) ** (1 / power)


def _galaxy(scene, x, y, rng):
    low, high = P.galaxy_magnitudes
    magnitude = np.log10(10 ** (0.2 * low) + (10 ** (0.2 * high) - 10 ** (0.2 * low)) * rng.random()) / 0.2
    flux = _power_law(*P.galaxy_counts, -0.7, rng) / (P.counts_per_flux * 15e3)
    add_galaxy(scene, magnitude, flux, x, y, rng)


def add_galaxy(scene, magnitude, flux, x, y, rng):
    """Add a nearby galaxy of a magnitude and an X-ray flux: hot gas or binaries, a nucleus at times."""
    # Nearby: within 250 Mpc; an apparently faint galaxy is then faint indeed.
    absolute = max(rng.normal(-21.2, 0.8), magnitude - 5 * np.log10(250e5))
    distance = 10 ** ((magnitude - absolute) / 5 - 5)  # Mpc
    early = rng.random() < P.early_share
    # Half-light radius: 5 kpc at -21 (Shen et al. 2003, MNRAS 343, 978; memory).
    size = 5 * 10 ** (-0.26 * (absolute + 21)) * np.exp(0.25 * rng.standard_normal()) / distance * 206.265
    scene.kind = "early" if early else "late"
    angle = rng.uniform(0, np.pi)
    if early:
        scene.galaxies.append(np.array([[x, y, magnitude, size, rng.uniform(0.55, 1), angle, 4]]))
        core = float(np.clip(0.4 * size * np.exp(0.5 * rng.standard_normal()), 2, 60))
        nucleus = rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0
    else:
        ratio = rng.uniform(0.2, 1)
        scene.galaxies.append(np.array([[x, y, magnitude + 1.5, 0.4 * size, max(ratio, 0.6), angle, 4]]))
        phase, sense = rng.uniform(0, 2 * np.pi), int(rng.choice([-1, 1]))
        scene.painted.append(Spiral(x, y, magnitude + 0.3, size, ratio, angle, phase, sense))
        core = float(np.clip(0.6 * size * np.exp(0.3 * rng.standard_normal()), 3, 60))
        nucleus = rng.uniform(0.1, 0.7) if rng.random() < 0.5 else 0.0
        _binaries(scene, flux * (1 - nucleus) * 0.6, size, ratio, angle, x, y, rng)
    diffuse = flux * (1 - nucleus) * (1.0 if early else 0.4)
    scene.extended.append(Beta(diffuse, x, y, core, 12 * core, rng.uniform(0.7, 1), angle))
    if nucleus:
        scene.add_point(flux * nucleus, x, y)
    redshift = 67.74 * distance / 299792.458
    scene.truth = {"redshift": float(redshift), "flux": float(flux), "core_radius": core, "r_mag": float(magnitude)}


def _binaries(scene, flux, size, ratio, angle, x, y, rng):
    """X-ray binaries along the disc of a galaxy: some point sources that share a flux (luminosity slope 0.6)."""
    number = rng.integers(2, 12)
    share = rng.random(number) ** (-1 / 0.6)
    share = np.minimum(share, 50) / np.minimum(share, 50).sum()
    radius, phase = size * rng.gamma(2, 0.6, number), rng.uniform(0, 2 * np.pi, number)
    along, across = radius * np.cos(phase), ratio * radius * np.sin(phase)
    place_x, place_y = np.cos(angle) * along - np.sin(angle) * across, np.sin(angle) * along + np.cos(angle) * across
    scene.points.append(np.column_stack([flux * share, x + place_x, y + place_y]))


@dataclass(frozen=True)
class Spiral:
    """Exponential disc with two spiral arms, called with offsets [arcsec]; light per square arcsecond of the sky's."""

    x: float
    y: float
    magnitude: float
    size: float  # half-light radius [arcsec]
    axis_ratio: float
    angle: float
    phase: float
    sense: int

    @property
    def reach(self):
        """Radius [arcsec] where a thousandth of the sky's light is left."""
        length = self.size / 1.678
        return length * max(3.0, np.log(1e3 * self._centre(length)))

    def _centre(self, length):
        """Light of the centre in that of the sky."""
        return 10 ** (0.4 * (P.sky_brightness - self.magnitude)) / (2 * np.pi * length**2 * self.axis_ratio)

    def __call__(self, x, y):
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        along, across = cos * dx + sin * dy, (cos * dy - sin * dx) / np.float32(self.axis_ratio)
        length = self.size / 1.678
        radius = np.hypot(along, across) / np.float32(length)
        winding = 2 * np.arctan2(across, along) - self.sense * 5.0 * np.log(radius + 0.3) + self.phase
        arms = 1 + np.minimum(radius, 1) * 0.7 * np.cos(winding)
        return np.float32(self._centre(length)) * np.exp(-radius) * arms


def _other(scene, x, y, rng):
    {
        "edge": _edge,
        "blend": _blend,
        "streak": _streak,
        "wing": _wing,
        "hot": add_hot,
        "arc": add_arc,
        "empty": _empty,
    }[scene.kind](scene, x, y, rng)


def _edge(scene, x, y, rng):
    """A faint source, or none, where the chip ends."""
    scene.truth = {"flux": 0.0}
    if rng.random() < 0.6:
        flux = scene.flux_of(_power_law(15, 400, -0.5, rng))
        scene.add_point(flux, x, y, agn_magnitude(flux, rng))
        scene.truth = {"flux": float(flux)}


def _blend(scene, x, y, rng):
    """Two or three nuclei that the PSF runs together."""
    flux = scene.flux_of(_power_law(40, 600, -0.7, rng)) * rng.uniform(0.4, 1, rng.choice([2, 2, 3]))
    phase = rng.uniform(0, 2 * np.pi) + np.arange(flux.size) * 2 * np.pi / flux.size + rng.normal(0, 0.3, flux.size)
    place = rng.uniform(10, 26) / 2 * rng.uniform(0.8, 1.2, flux.size)
    for each, a, b in zip(flux, x + place * np.cos(phase), y + place * np.sin(phase), strict=True):
        scene.add_point(each, a, b, agn_magnitude(each, rng))
    scene.truth = {"flux": float(flux.sum())}


def _bright(scene, counts, x, y, rng):
    flux = scene.flux_of(counts)
    magnitude = optical_magnitude(flux, rng.normal(-2.5 if rng.random() < 0.5 else 0.0, 0.6))
    scene.add_point(flux, x, y, float(np.clip(magnitude, 8.5, 17)))
    scene.truth = {"flux": 0.0}


def _streak(scene, x, y, rng):
    """On the out-of-time streak of a bright source."""
    pointing = scene.pointing
    # Towards the middle of the chip, so that the bright source is on it.
    towards = np.sign(pointing.y) * (1 if abs(pointing.y) < 400 else -1)
    a, b = pointing.to_sky(pointing.x, pointing.y + towards * rng.uniform(60, 280))
    _bright(scene, rng.uniform(1.5e4, 6e4), a + x, b + y, rng)


def _wing(scene, x, y, rng):
    """On the wing of a bright source."""
    place, phase = rng.uniform(60, 130), rng.uniform(0, 2 * np.pi)
    _bright(scene, rng.uniform(3e3, 4e4), place * np.cos(phase), place * np.sin(phase), rng)


def add_hot(scene, x, y, rng):
    """Part of a hot column, with a hot pixel at times."""
    number, length = int(rng.uniform(50, 300)), rng.uniform(20, 300)
    column, row = scene.pointing.to_detector(x, y)
    a, b = column + 4.1 * (rng.random(number) - 0.5), row + length * (rng.random(number) - 0.5)
    if rng.random() < 0.5:
        spot = rng.random(number) < rng.uniform(0.2, 0.7)
        b[spot] = row + 4.1 * (rng.random(spot.sum()) - 0.5)
    scene.detector_light.append(np.column_stack(scene.pointing.to_sky(a, b)))
    scene.truth = {"flux": 0.0}


def add_arc(scene, x, y, rng):
    """Singly reflected light of a source outside the field: a broad arc that fades towards both ends."""
    number, radius, phase = int(rng.uniform(300, 2000)), rng.uniform(250, 700), rng.uniform(0, 2 * np.pi)
    around = phase + rng.normal(0, 0.2, number)
    reach = radius + rng.normal(0, rng.uniform(8, 20), number)
    centre = np.array([x - radius * np.cos(phase), y - radius * np.sin(phase)])
    scene.detector_light.append(centre + np.column_stack([reach * np.cos(around), reach * np.sin(around)]))
    scene.truth = {"flux": 0.0}


def _empty(scene, x, y, rng):
    """A fluctuation: a few nuclei below the limit near each other."""
    for _ in range(rng.integers(0, 4)):
        flux = scene.flux_of(rng.uniform(5, 22))
        a, b = rng.normal(0, 14, 2)
        scene.add_point(flux, x + a, y + b, agn_magnitude(flux, rng))
    scene.truth = {"flux": 0.0}


def _field(scene, half, rng):
    """Sky around the candidate: nuclei, stars, galaxies, perhaps a group of galaxies in front or behind."""
    add_nuclei(scene, half, 60.0, 1.0, rng)
    add_plate_sky(scene, half, P.field_magnitudes, rng)
    if rng.random() < P.chance_group_share:
        _chance_group(scene, half, rng)


def _sides(half, margin):
    """Sides of a field with a margin [arcsec], and its area [deg2]."""
    width, height = (2 * (side + margin) for side in half)
    return np.array([[width], [height]]), width * height / 3600**2


def add_nuclei(scene, half, margin, multiple, rng):
    """Add active nuclei at a multiple of their density: fluxes, places (2, n), magnitudes."""
    sides, area = _sides(half, margin)
    number = rng.poisson(multiple * _agn_table(P.faintest, P.brightest)[0] * area)
    flux = draw_fluxes(number, P.faintest, P.brightest, rng)
    place = (rng.random((2, number)) - 0.5) * sides
    magnitude = np.maximum(agn_magnitude(flux, rng), 14)
    scene.points.append(np.column_stack([flux, *place]))
    scene.stars.append(np.column_stack([*place, magnitude]))
    return flux, place, magnitude


def add_plate_sky(scene, half, magnitudes, rng):
    """Add stars, and galaxies in a range of magnitude, that have no X-rays to speak of."""
    sides, area = _sides(half, 120.0)
    low, high = P.star_density
    density = low * (high / low) ** rng.random()
    magnitude = _draw_magnitudes(P.star_counts, P.star_magnitudes, density * area, rng)
    place = (rng.random((2, magnitude.size)) - 0.5) * sides
    scene.stars.append(np.column_stack([*place, magnitude]))
    magnitude = _draw_magnitudes(P.galaxy_number_counts, magnitudes, area, rng)
    scene.galaxies.append(_field_galaxies(magnitude, *sides[:, 0], rng))


def _draw_magnitudes(counts, bounds, area, rng):
    """Magnitudes of a Poisson number of sources from log10 N(<R) = a + b (R - 20) + c (R - 20)^2 per deg2."""
    magnitude, below = _magnitude_table(counts, bounds)
    return np.interp(rng.random(rng.poisson(below[-1] * area)) * below[-1], below, magnitude)


@functools.lru_cache(maxsize=4)
def _magnitude_table(counts, bounds):
    magnitude = np.linspace(*bounds, 256)
    a, b, c = counts
    below = 10 ** (a + b * (magnitude - 20) + c * (magnitude - 20) ** 2)
    return magnitude, below - below[0]


def _field_galaxies(magnitude, width, height, rng):
    number = magnitude.size
    # Half-light radii about 1" at R = 20 and 3.5" at 16; memory.
    size = 10 ** (-0.136 * (magnitude - 20)) * np.exp(0.35 * rng.standard_normal(number))
    early = rng.random(number) < 0.35
    return np.column_stack(
        [
            width * (rng.random(number) - 0.5),
            height * (rng.random(number) - 0.5),
            magnitude,
            size,
            np.where(early, rng.uniform(0.5, 1, number), rng.uniform(0.25, 1, number)),
            np.pi * rng.random(number),
            np.where(early, 4, 1),
        ]
    )


def _chance_group(scene, half, rng):
    """Galaxies of a small group whose gas is too faint to see."""
    redshift = rng.uniform(0.07, 0.35)
    mass = 10 ** rng.uniform(13.2, 13.8)
    group = {"redshift": redshift, "m_500": mass, "r_500": float(clusters.radius_of(mass, redshift))}
    x, y = (rng.uniform(-0.8, 0.8) * each for each in half)
    scene.galaxies.append(shifted(clusters.cluster_galaxies(group, rng), x, y))
