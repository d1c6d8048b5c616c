"""
Real photographic plates and simulated ones measured by the same code, and what a plate says about a candidate.

``python benchmarks/plates.py --data DIR --out DIR`` writes ``plates.csv`` (plates; ``--data``: folder of the real
files), ``plates_clusters.csv`` (galaxies of clusters above the limit of the plate) and ``plates_classes.csv`` (how well
numbers read off a plate tell clusters from other candidates).
"""

import argparse
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from photutils.background import Background2D, MedianBackground
from photutils.segmentation import SourceCatalog, detect_sources
from scipy.ndimage import gaussian_filter
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from astroclassify.schemes import CANDIDATE
from astroclassify.sim.sky import _clusters as clusters
from astroclassify.sim.sky._counterparts import add_plate_sky
from astroclassify.sim.sky._plate import expose_plate
from astroclassify.sim.sky._population import POPULATION
from astroclassify.sim.sky._scene import Scene, draw_scene
from astroclassify.sim.sky._xmm import Grid

# Parts of the real plates (y, x) without the dark cloud and the rim of the nebula, and the side of a pixel [arcsec].
REAL = {
    "DSS2 red (ER768), east": ("DSS2red_HorseHead.fits", np.s_[560:890, 5:300], 1.01),
    "DSS2 red (ER768), west": ("DSS2red_HorseHead.fits", np.s_[300:890, 690:888], 1.01),
    "DSS1 red, M67": ("DSS1_M67.fits", np.s_[5:1055, 5:1055], 1.70),
}
N_SIMULATED, N_CANDIDATES, N_CLUSTERS = 6, 600, 60
LIMITS = 18.0, 19.0, 20.0, 20.5
# Images of each class in the test set of Kosiba et al. (2020), worked out from the printed scores of five classes.
TEST_SET = {"low_z": 62, "high_z": 23, "galaxy": 29, "point": 32, "other": 22}


def simulated(seed):
    """A plate of stars and galaxies with nothing in its middle, pixels as on the second survey."""
    rng, grid = np.random.default_rng(seed), Grid((600, 600), 1.01)
    scene = Scene("", "", None)
    add_plate_sky(scene, grid.half, POPULATION.field_magnitudes, rng)
    scene.finish()
    return expose_plate(scene.stars, scene.galaxies, grid, rng).astype(float)


def correlation(image, step):
    """Correlation of pixels some pixels apart, of what is no source, along both axes."""
    image = image - gaussian_filter(image, 6)
    spread = 1.4826 * np.median(np.abs(image))
    image = np.where(np.abs(image) < 3 * spread, image, 0)
    pairs = np.mean(image[:, :-step] * image[:, step:]), np.mean(image[:-step] * image[step:])
    return np.mean(pairs) / np.mean(image**2)


def spread_of(image):
    """Robust standard deviation."""
    return 1.4826 * np.median(np.abs(image - np.median(image)))


def catalogue(flat, pixel, sky):
    """Sources 3 sigma above a smoothed plate: places, peaks, areas [arcsec2], light [mag; 0: 1 arcsec2 of sky]."""
    smooth = gaussian_filter(flat, 1.2 / pixel)
    found = SourceCatalog(flat, detect_sources(smooth, 3 * spread_of(smooth), n_pixels=max(4, round(7 / pixel**2))))
    light = np.maximum(found.segment_flux, 1.0) * pixel**2 / sky
    place = np.asarray(found.centroid)
    return place[:, 0], place[:, 1], found.max_value, found.segment_area.value * pixel**2, -2.5 * np.log10(light)


def profile(flat, x, y, edges, *, diagonal=None):
    """Median in rings about a place; along the axes or the diagonals only, if asked."""
    reach = int(edges[-1]) + 1
    rows, columns = (slice(max(0, int(place) - reach), int(place) + reach + 1) for place in (y, x))
    part = flat[rows, columns]
    dy, dx = np.indices(part.shape) + np.array([rows.start - y, columns.start - x])[:, np.newaxis, np.newaxis]
    distance, angle = np.hypot(dx, dy), np.degrees(np.arctan2(dy, dx)) % 90
    good = np.ones(part.shape, dtype=bool)
    if diagonal is not None:
        good = np.abs(angle - 45) < 15 if diagonal else np.abs(angle - 45) > 39
    rings = (good & (distance >= low) & (distance < high) for low, high in zip(edges[:-1], edges[1:], strict=True))
    return np.array([np.median(part[ring]) if ring.any() else np.nan for ring in rings])


def measure(image, pixel):
    """Properties of a plate, by name."""
    box = min(round(60 / pixel), min(image.shape) // 2)
    background = Background2D(image, box, filter_size=3, bkg_estimator=MedianBackground()).background
    flat, sky, top = image - background, np.median(background), np.sort(image.ravel())[-20:].mean()
    x, y, peak, area, light = catalogue(flat, pixel, sky)
    span = top - sky
    lags = [1.0] + [correlation(image, step) for step in range(1, 7)]
    result = {
        "sky [adu]": sky,
        "scatter of the sky over 1' [%]": 100 * np.std(background) / sky,
        "grain, rms of a pixel [adu]": spread_of(image - gaussian_filter(image, 10 / pixel)),
        **{f'correlation of pixels {at}" apart': np.interp(at, pixel * np.arange(7), lags) for at in (1, 2, 4)},
        "largest density [adu]": top,
        "sources [arcmin-2]": len(x) / (image.size * (pixel / 60) ** 2),
    }
    result["grain [% of the sky]"] = 100 * result["grain, rms of a pixel [adu]"] / sky
    # Widths of the narrowest: stars, not galaxies and blends.
    middle = np.flatnonzero((peak > 0.2 * span) & (peak < 0.7 * span))
    edges = np.arange(0.0, 13.0, 0.75) / pixel
    rings = np.array([profile(flat, x[i], y[i], edges) / peak[i] for i in middle]).reshape(-1, len(edges) - 1)
    if len(rings) > 4:
        centre = (edges[1:] + edges[:-1]) / 2 * pixel
        widths = [2 * np.interp(-0.5, -each[np.isfinite(each)], centre[np.isfinite(each)]) for each in rings]
        result['width of stars, FWHM ["]'] = np.percentile(widths, 25)
    saturated = peak > 0.9 * span
    if saturated.any():
        result["smallest area of a saturated star [arcsec2]"] = np.percentile(area[saturated], 10)
        result["saturated star above the faintest [mag]"] = np.percentile(light, 90) - np.percentile(
            light[saturated], 90
        )
        brightest = np.argmax(np.where(saturated, area, 0))
        inner = np.sqrt(area[brightest] / np.pi) / pixel
        ring = np.array([0.9, 1.4]) * inner
        along, across = (profile(flat, x[brightest], y[brightest], ring, diagonal=each)[0] for each in (False, True))
        result["brightest star, axes / diagonals at its edge"] = along / max(across, 1.0)
    # Counts per magnitude between the faintest stars and saturation.
    faint = np.percentile(light, 80)
    number, edges = np.histogram(light, np.arange(faint - 3, faint + 0.01, 1.0))
    if np.all(number > 3):
        result["slope of log counts [mag-1]"] = np.polyfit(edges[1:], np.log10(number), 1)[0]
    return result


def compare_plates(data):
    """Table of the properties of real plates and of simulated ones (mean and standard deviation)."""
    columns = {}
    for name, (file, part, pixel) in REAL.items() if data else ():
        columns[name] = measure(fits.getdata(data / "optical" / file).astype(float)[part], pixel)
    ours = [measure(simulated(seed), 1.01) for seed in range(N_SIMULATED)]
    table = Table({"property": list(ours[0])})
    for name, values in columns.items():
        table[name] = [f"{values[key]:.3g}" if key in values else "" for key in ours[0]]
    means = [(np.mean(each), np.std(each)) for each in ([one[key] for one in ours if key in one] for key in ours[0])]
    table["simulated"] = [f"{mean:.3g} +- {spread:.2g}" for mean, spread in means]
    return table


def field_galaxies(limit, radius):
    """Galaxies expected to a magnitude in a circle [arcsec]."""
    a, b, c = POPULATION.galaxy_number_counts
    return 10 ** (a + b * (limit - 20) + c * (limit - 20) ** 2) * np.pi * (radius / 3600) ** 2


def visible_galaxies():
    """Galaxies of clusters with R < 20.5, and how far they stand out of the field."""
    rng, rows = np.random.default_rng(1), []
    for mass in (5e13, 1e14, 3e14):
        for redshift in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
            r_500 = float(clusters.radius_of(mass, redshift))
            wide, numbers, central = r_500 / clusters.kpc_per_arcsec(redshift), [], []
            for _ in range(N_CLUSTERS):
                galaxies = clusters.cluster_galaxies({"redshift": redshift, "m_500": mass, "r_500": r_500}, rng)
                radius = np.hypot(*galaxies[:, :2].T)[galaxies[:, 2] < 20.5]
                numbers.append([np.sum(radius < 60), np.sum(radius < wide)])
                central.append(galaxies[0, 2])
            near, whole = np.mean(numbers, axis=0)
            of_field, of_whole = field_galaxies(20.5, 60), field_galaxies(20.5, wide)
            rows.append(
                {
                    "M500 [1e14 Msun]": mass / 1e14,
                    "z": redshift,
                    "R of the central galaxy": f"{np.median(central):.1f}",
                    "R of M*": f"{clusters.apparent_magnitude(POPULATION.characteristic_magnitude, redshift):.1f}",
                    "within 1'": f"{near:.1f}",
                    "field": f"{of_field:.1f}",
                    "sigma, 1'": f"{near / np.sqrt(of_field):.1f}",
                    "within R500": f"{whole:.1f}",
                    "field, R500": f"{of_whole:.1f}",
                    "sigma, R500": f"{whole / np.sqrt(of_whole):.1f}",
                }
            )
    return Table(rows)


def from_truth(scene):
    """Numbers of galaxies (first those within 1', R < 20.5), brightest galaxy and star near the middle."""
    painted = [[each.x, each.y, each.magnitude] for each in scene.painted]
    x, y, light = np.concatenate([scene.galaxies[:, :3], np.reshape(painted, (-1, 3))]).T
    radius = np.hypot(x, y)
    numbers = [np.sum((radius < reach) & (light < limit)) for reach in (30, 60, 120, 200) for limit in LIMITS]
    star = scene.stars[np.hypot(*scene.stars[:, :2].T) < 8, 2]
    near = [np.append(each, 20.8).min() for each in (light[radius < 15], light[radius < 40], star)]
    return [numbers[7], *numbers, *near]


def from_plate(plate, pixel, stars):
    """Numbers of what is detected, by light and by area over that of stars; what is near the middle."""
    sky = np.median(plate)
    x, y, peak, area, light = catalogue(plate - sky, pixel, sky)
    radius = np.hypot(x - (plate.shape[1] - 1) / 2, y - (plate.shape[0] - 1) / 2) * pixel
    large = np.log(area) - np.interp(light, *stars)
    values = [
        np.sum((radius < reach) & (light < limit) & (large > size))
        for reach in (60, 45, 90, 200)
        for limit in (3.0, 0.5, -1.0)
        for size in (0.15, -9.0)
    ]
    for reach in (10, 20, 40):
        inside = radius < reach
        values += [np.append(light[inside], 5.0).min(), np.append(large[inside], -2.0).max()]
    nearest = np.argmin(np.where(radius < 15, light, np.inf))
    values += [large[nearest], area[nearest], peak[nearest] / sky] if radius.min() < 15 else [-2.0, 0.0, 0.0]
    return values


def stellar_sizes(plates, pixel):
    """Light and log area of stars: what is narrow among the sources of some plates."""
    sources = [catalogue(plate - np.median(plate), pixel, np.median(plate))[3:] for plate in plates]
    area, light = np.concatenate(sources, axis=1)
    steps = np.arange(np.percentile(light, 2), light.max(), 0.5)
    narrow = [np.log(area[(light >= step) & (light < step + 0.5)]) for step in steps]
    kept = [(step + 0.25, np.percentile(each, 35)) for step, each in zip(steps, narrow, strict=True) if len(each) > 5]
    return np.array(kept).T


def observer(name, values, labels):
    """Scores of one number (the first) and of a forest on all of them."""
    cluster = np.isin(labels, ("low_z", "high_z"))
    forest = RandomForestClassifier(300, min_samples_leaf=3, class_weight="balanced", random_state=0)
    chance = cross_val_predict(forest, values, cluster, cv=5, method="predict_proba")[:, 1]
    right = (chance > 0.5) == cluster
    row = {
        "observer": name,
        "AUC, galaxies within 1'": roc_auc_score(cluster, values[:, 0]),
        "AUC": roc_auc_score(cluster, chance),
        "accuracy, half clusters": (right[cluster].mean() + right[~cluster].mean()) / 2,
    }
    for label in CANDIDATE.classes:
        chosen = (labels == label) | (cluster != (label in ("low_z", "high_z")))
        row[f"AUC, {label}"] = roc_auc_score(cluster[chosen], chance[chosen])
    return {key: value if isinstance(value, str) else f"{value:.2f}" for key, value in row.items()}


def classes():
    """Scores of observers who know the magnitudes of all sources, or those they detect."""
    grid, shares = Grid((356, 356), 420 / 356), np.array([TEST_SET[label] for label in CANDIDATE.classes])
    labels = np.random.default_rng(1).choice(CANDIDATE.classes, N_CANDIDATES, p=shares / shares.sum())
    truth, plates = [], []
    for number, label in enumerate(labels):
        rng = np.random.default_rng([2, number])
        scene = draw_scene(label, grid.half, rng)
        truth.append(from_truth(scene))
        plates.append(expose_plate(scene.stars, scene.galaxies, grid, rng, painted=scene.painted))
    plates = [plate.astype(float) for plate in plates]
    stars = stellar_sizes(plates[:40], grid.pixel)
    found = np.array([from_plate(plate, grid.pixel, stars) for plate in plates])
    return Table(
        [observer("true sources, R < 20.8", np.array(truth), labels), observer("sources found", found, labels)]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real files")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the tables")
    options = parser.parse_args()
    tables = {
        "plates": compare_plates(options.data),
        "plates_clusters": visible_galaxies(),
        "plates_classes": classes(),
    }
    for name, table in tables.items():
        table.pprint_all()
        table.write(options.out / f"{name}.csv", overwrite=True)


if __name__ == "__main__":
    main()
