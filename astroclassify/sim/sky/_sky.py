"""Sources of a simulated field: every kind at the density of the sky, each with its row of truth."""

import numpy as np

from astroclassify.batch import derive_rng

from . import _clusters as clusters
from . import _scene as scenes
from ._artefacts import add_arc, add_hot
from ._counterparts import agn_magnitude, host_galaxies, star_magnitude, x_ray_flux
from ._galaxies import add_galaxy
from ._population import POPULATION as P
from ._xmm import CHIP_GAP, CHIP_LENGTH, CHIP_WIDTH, on_chips

__all__ = ["KINDS", "draw_sky"]

MARGIN = P.psf_limit  # arcsec around the image in which there are sources as well
_HOST_LIMIT = 20.5  # R, fainter hosts of active nuclei are as small as stars


def draw_sky(pointing, half, density, seed):
    """
    Draw the sources of a field of half sides ``half`` (x, y) [arcsec], offsets being from the optical axis.

    ``density``: multiple of the sky's density for each of `KINDS` (of clusters perhaps two, for ``low_z`` and
    ``high_z``), each drawn with its own generator. Returns the scene and a row per source: ``kind``, ``label``, ``x``,
    ``y`` [arcsec], ``flux`` [erg s-1 cm-2] or ``counts``, and where known ``core_radius`` [arcsec], ``redshift``,
    ``m_500`` [Msun].
    """
    scene, rows = scenes.Scene("", "", pointing), []
    for kind, draw in _DRAW.items():
        rows += draw(scene, half, density[kind], derive_rng(seed, "field", kind))
    return scene, rows


def _area(half):
    """Area in which sources are drawn [deg2]."""
    return 4 * (half[0] + MARGIN) * (half[1] + MARGIN) / 3600**2


def _places(number, half, rng):
    """Places x, y [arcsec], shape (2, number)."""
    return (2 * rng.random((2, number)) - 1) * (np.array([[half[0]], [half[1]]]) + MARGIN)


def _point_rows(kind, flux, place):
    """Rows of point sources: fluxes, shape (n,), places, shape (2, n)."""
    return [
        {"kind": kind, "label": "point", "x": x, "y": y, "flux": each}
        for each, x, y in zip(flux.tolist(), *place.tolist(), strict=True)
    ]


def _nuclei(scene, half, multiple, rng):
    """Active nuclei after Moretti et al. (2003)."""
    flux, place, magnitude = scenes.add_nuclei(scene, half, MARGIN, multiple, rng)
    hosted = (rng.random(flux.size) < P.host_share) & (magnitude < _HOST_LIMIT)
    scene.galaxies.append(host_galaxies(*place[:, hosted], magnitude[hosted], rng))
    return _point_rows("agn", flux, place)


def _stars(scene, half, multiple, rng):
    """Stars with coronae."""
    low, high = ((flux / 1e-14) ** -P.star_slope for flux in P.star_fluxes)
    number = rng.poisson(multiple * P.star_density_xray * (low - high) * _area(half))
    flux = 1e-14 * (high + (low - high) * rng.random(number)) ** (-1 / P.star_slope)
    place = _places(number, half, rng)
    scene.points.append(np.column_stack([flux, *place]))
    scene.stars.append(np.column_stack([*place, star_magnitude(flux, rng)]))
    return _point_rows("star", flux, place)


def _clusters(scene, half, multiple, rng):
    """All clusters of the luminosity function, found or not; ``multiple``: of all, or of near and of far ones."""
    redshifts = P.redshifts[0][0], P.redshifts[-1][-1]
    near, far = np.broadcast_to(multiple, 2).tolist()
    number = rng.poisson(max(near, far) * clusters.cluster_density(redshifts) * _area(half))
    drawn = clusters.draw_population(number, redshifts, rng)
    if near != far:
        kept = rng.random(number) * max(near, far) < np.where(drawn["redshift"] < P.redshifts[0][1], near, far)
        number, drawn = np.count_nonzero(kept), {name: values[kept] for name, values in drawn.items()}
    places, rows = _places(number, half, rng), []
    for chosen, (x, y) in enumerate(places.T.tolist()):
        cluster = {name: float(values[chosen]) for name, values in drawn.items()}
        before = len(scene.extended)
        nucleus = scenes.add_cluster(scene, cluster, x, y, rng)
        label = "low_z" if cluster["redshift"] < P.redshifts[0][1] else "high_z"
        rows.append({"kind": "cluster", "label": label, "x": x, "y": y, **scene.truth})
        for clump in (part for part in scene.extended[before:] if (part.x, part.y) != (x, y)):
            light = {"flux": clump.flux, "core_radius": clump.core}
            rows.append({**rows[-1], "kind": "clump", "x": clump.x, "y": clump.y, **light})
            rows[-2]["flux"] -= clump.flux
        if nucleus is not None:
            rows += _point_rows("agn", np.array(nucleus[:1]), np.array(nucleus[1:])[:, np.newaxis])
    return rows


def _galaxies(scene, half, multiple, rng):
    """Nearby galaxies: Euclidean counts, X-rays by their optical light."""
    (low, high), rows = P.galaxy_field_magnitudes, []
    number = rng.poisson(multiple * P.galaxy_density * 10 ** (0.6 * (high - 16.5)) * _area(half))
    magnitude = high + np.log10(10 ** (0.6 * (low - high)) + rng.random(number)) / 0.6
    mean, scatter = P.galaxy_x_to_optical
    flux = x_ray_flux(magnitude, mean + scatter * rng.standard_normal(number))
    for each, light, (x, y) in zip(
        magnitude.tolist(), flux.tolist(), _places(number, half, rng).T.tolist(), strict=True
    ):
        add_galaxy(scene, each, light, x, y, rng)
        rows.append({"kind": "galaxy", "label": "galaxy", "x": x, "y": y, **scene.truth})
    return rows


def _targets(scene, half, multiple, rng):
    """Bright nuclei and stars that the telescope was pointed at."""
    number = rng.poisson(multiple * P.bright_rate)
    low, high = np.log(P.bright_fluxes)
    flux, place = np.exp(rng.uniform(low, high, number)), P.bright_place * rng.standard_normal((2, number))
    star = rng.random(number) < P.star_share
    magnitude = np.where(star, star_magnitude(flux, rng), np.maximum(agn_magnitude(flux, rng), 13.5))
    scene.points.append(np.column_stack([flux, *place]))
    scene.stars.append(np.column_stack([*place, magnitude]))
    return _point_rows("bright", flux, place)


def _on_chip(pointing, half, rng):
    """A place x, y [arcsec] on a chip and on the image."""
    while True:
        column = 3 * (CHIP_WIDTH + CHIP_GAP) * rng.uniform(-1, 1)
        row = (CHIP_LENGTH + CHIP_GAP) * rng.uniform(-1, 1)
        x, y = pointing.to_sky(column, row)
        if on_chips(column, row) and abs(x) < half[0] and abs(y) < half[1]:
            return float(x), float(y)


def _flaws(kind, rate, add):
    """Function that draws flaws of a kind."""

    def draw(scene, half, multiple, rng):
        rows = []
        for _ in range(rng.poisson(multiple * rate)):
            x, y = _on_chip(scene.pointing, half, rng)
            add(scene, x, y, rng)
            counts = float(len(scene.detector_light[-1]))
            rows.append({"kind": kind, "label": "other", "x": x, "y": y, "counts": counts})
        return rows

    return draw


_DRAW = {
    "agn": _nuclei,
    "star": _stars,
    "cluster": _clusters,
    "galaxy": _galaxies,
    "bright": _targets,
    "hot": _flaws("hot", P.hot_rate, add_hot),
    "arc": _flaws("arc", P.arc_rate, add_arc),
}
KINDS = tuple(_DRAW)
