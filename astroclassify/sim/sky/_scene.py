"""Sources in the field of a simulated candidate: those of its class, and the sky around them."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr

from astroclassify.fields._sky import draw_fluxes, source_counts
from astroclassify.schemes import CANDIDATE

from . import _clusters as clusters
from ._artefacts import ADD_OTHER
from ._counterparts import add_plate_sky, agn_magnitude, host_galaxies, sides_of, star_magnitude
from ._galaxies import add_galaxy
from ._population import POPULATION as P
from ._population import power_law
from ._xmm import draw_pointing, vignetting

__all__ = ["Scene", "add_cluster", "add_nuclei", "draw_scene"]

_NO_POINTS, _NO_GALAXIES = np.zeros((0, 3)), np.zeros((0, 7))
# Nodes of the table of fluxes of active nuclei: another number gives other images for the same seed.
_FLUX_NODES = 512


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


def draw_scene(label, half, rng):
    """
    Draw a candidate of a class and the sky around it, for an image of half sides ``half`` (x, y) [arcsec].

    The truth of the scene: ``kind``, ``flux`` [erg s-1 cm-2] and, where there are, ``redshift``, ``m_500`` [Msun],
    ``r_500`` [kpc], ``core_radius`` [arcsec], ``r_mag``.
    """
    kind = str(rng.choice(P.other_kinds, p=P.other_shares)) if label == "other" else ""
    pointing = draw_pointing(rng, on_edge=kind == "edge")
    scene = Scene(label, kind, pointing)
    x, y = P.centring * rng.standard_normal(2)
    add = {"low_z": _cluster, "high_z": _cluster, "galaxy": _galaxy, "point": _point}
    add.get(label, ADD_OTHER.get(kind))(scene, x, y, rng)
    _field(scene, half, rng)
    return scene.finish()


def _shifted(galaxies, x, y):
    return galaxies + np.array([x, y, 0, 0, 0, 0, 0])


def _cluster(scene, x, y, rng):
    add_cluster(scene, clusters.draw_cluster(P.redshifts[CANDIDATE.index(scene.label)], scene.pointing, rng), x, y, rng)


def add_cluster(scene, cluster, x, y, rng):
    """Add gas and galaxies of a cluster, at times an active nucleus in the central one: its flux and place, or None."""
    for part in clusters.cluster_light(cluster, rng):
        scene.extended.append(dataclasses.replace(part, x=part.x + x, y=part.y + y))
    galaxies = _shifted(clusters.cluster_galaxies(cluster, rng), x, y)
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


def _point_flux(scene, rng):
    """Flux of a point source that is a candidate: from N(>S), found above the background, brighter ones more often."""
    flux = draw_fluxes(1024, 2e-15, 5e-12, rng, nodes=_FLUX_NODES)
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


def _galaxy(scene, x, y, rng):
    low, high = P.galaxy_magnitudes
    magnitude = np.log10(10 ** (0.2 * low) + (10 ** (0.2 * high) - 10 ** (0.2 * low)) * rng.random()) / 0.2
    flux = power_law(*P.galaxy_counts, -0.7, rng) / (P.counts_per_flux * 15e3)
    add_galaxy(scene, magnitude, flux, x, y, rng)


def _field(scene, half, rng):
    """Sky around the candidate: nuclei, stars, galaxies, and clusters in front of it, behind it and beside it."""
    add_nuclei(scene, half, 60.0, 1.0, rng)
    add_plate_sky(scene, half, P.field_magnitudes, rng)
    _field_clusters(scene, half, rng)


def add_nuclei(scene, half, margin, multiple, rng):
    """Add active nuclei at a multiple of their density: fluxes, places (2, n), magnitudes."""
    sides, area = sides_of(half, margin)
    density = float(source_counts(P.faintest) - source_counts(P.brightest))
    number = rng.poisson(multiple * density * area)
    flux = draw_fluxes(number, P.faintest, P.brightest, rng, nodes=_FLUX_NODES)
    place = (rng.random((2, number)) - 0.5) * sides
    magnitude = np.maximum(agn_magnitude(flux, rng), 14)
    scene.points.append(np.column_stack([flux, *place]))
    scene.stars.append(np.column_stack([*place, magnitude]))
    return flux, place, magnitude


def _field_clusters(scene, half, rng):
    """Clusters of the luminosity function that have nothing to do with the candidate."""
    sides, area = sides_of(half, 120.0)
    redshifts = P.redshifts[0][0], P.redshifts[-1][-1]
    number = rng.poisson(clusters.cluster_density(redshifts) * area)
    drawn, of_candidate = clusters.draw_population(number, redshifts, rng), (scene.kind, scene.truth)
    for chosen, place in enumerate(((rng.random((2, number)) - 0.5) * sides).T.tolist()):
        add_cluster(scene, {name: float(values[chosen]) for name, values in drawn.items()}, *place, rng)
    scene.kind, scene.truth = of_candidate
