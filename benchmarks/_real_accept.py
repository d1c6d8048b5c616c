"""Parts of ``real_sky.py`` made from ACCEPT's clusters: scores, a grid of settings, and where the evidence lies."""

from dataclasses import replace

import numpy as np
from _accept import accept_images, background_counts, counts_per_emission, read_accept
from _judge import T_COOL_IMAGE, c_sb, classified, conventional, is_right, score_row
from astropy import units as u

from astroclassify.images import DEFAULT_COSMOLOGY
from astroclassify.morphology import core_measures
from astroclassify.sim import Observation
from astroclassify.workflows import image_cooling_time

__all__ = ["accept", "evidence", "grid", "instruments", "wanted"]

MASS_EDGES = (0.0, 14.5, 14.9, 16.0)  # log10 M500 / Msun
T_COOL_EDGES = (0.0, 0.5, 1.0, 2.5, 4.0, 7.7, 12.0, np.inf)  # Gyr
REDSHIFTS, EXPOSURES = (0.03, 0.1, 0.2, 0.3), (10, 30, 100) * u.ks
CORE = 40.0  # kpc, which the point spread function resolves if its width is not larger
SHIFT = 40 * u.kpc
DEEP, SHALLOW = (5000, 0.78), (1000, 0.70)  # median counts of the cluster above which this macro-F1 is wanted


def accept(model, data, *, quick=False):
    """
    Scores on ACCEPT's clusters at the standard setting: rows of all of it, rows by mass and cooling time, and the
    sample, images and predictions of the plain set.
    """
    rows, bins, kept = [], [], None
    for name, options in _sets(quick).items():
        clusters = read_accept(data, fitted=options.pop("fitted", False))[:: 3 if quick else 1]
        observation = Observation()
        sample, images = accept_images(clusters, observation, **options)
        predictions = classified(model, sample, images)
        measures = {**_concentrations(images, observation), **_core_measures(sample, images, observation)}
        rivals = conventional(sample, measures)
        for subset, chosen in (("all", slice(None)), ("public third", np.array(sample["test"]))):
            part = {key: values[chosen] for key, values in measures.items()}  # ranked with its own fractions
            rows += _method_rows(subset + name, sample[chosen], predictions[chosen], conventional(sample[chosen], part))
        if kept is None:
            kept = sample, images, predictions
            bins = [*_bin_rows(sample, predictions, rivals)]
    return rows, bins, kept


def _sets(quick):
    sets = {"": {}, ", other outskirts": {"fitted": True}, ", lumpy and triaxial": {"lumpy": True}}
    return dict(list(sets.items())[: 1 if quick else None])


def _concentrations(images, observation):
    """C_SB with the background in, and without: the true one is taken off, which no observer knows as well."""
    background = background_counts(observation)
    return {
        "C_SB": c_sb(images, redshift=observation.redshift),
        "C_SB without background": c_sb(images, redshift=observation.redshift, background=background),
    }


def _core_measures(sample, images, observation):
    """
    Measures of the deprojected images: cuspiness, told the true R500; and cooling time [Gyr], told nothing of the
    cluster. Both know the true background.
    """
    level = float(np.mean(background_counts(observation)))
    cusp, times = [], []
    for image, r_500 in zip(images, sample["r_500"], strict=True):
        cusp.append(core_measures(image, r_500=r_500, background=level)["cuspiness_image"][0])
        found = image_cooling_time(image, counts_per_emission=counts_per_emission(observation), background=level)
        times.append(found["t_cool_image"][0].to_value(u.Gyr))
    return {"cuspiness": np.array(cusp), T_COOL_IMAGE: np.array(times)}


def _method_rows(name, sample, predictions, rivals):
    t_cool = sample["t_cool"].to_value(u.Gyr)
    ranked = {key: value for key, value in rivals.items() if key.endswith("ranked")}
    yield {"clusters": name, "method": "network", **score_row(predictions, ranked, t_cool)}
    for method, said in rivals.items():
        yield {"clusters": name, "method": method, **score_row(said)}


def _bin_rows(sample, predictions, rivals):
    """How the clusters of each range of mass and of cooling time fare."""
    for column, values, edges in (
        ("log M500", np.log10(sample["m_500"].to_value(u.Msun)), MASS_EDGES),
        ("t_cool [Gyr]", sample["t_cool"].to_value(u.Gyr), T_COOL_EDGES),
    ):
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            inside = (values >= low) & (values < high)
            if not inside.any():
                continue
            row = {"by": column, "from": low, "to": high, "n": int(inside.sum())}
            for name in ("CC", "WCC", "NCC"):
                row[f"mean p_{name}"] = float(np.mean(predictions[f"p_{name}"][inside]))
            for method, said in {"network": predictions, **rivals}.items():
                row[f"right, {method}"] = float(np.mean(is_right(said)[inside]))
            yield row


def instruments():
    """Name -> function of the redshift that gives an `Observation`."""
    return {
        "ACIS-I": lambda z: Observation.acis_i(redshift=z),
        "ACIS-S": lambda z: Observation.acis_s(redshift=z),
        "EPIC pn": lambda z: Observation.epic("pn", redshift=z),
    }


def _settings(quick):
    """Instrument, redshift, change of the background, shift, observation."""
    for name, make in instruments().items():
        for redshift in REDSHIFTS:
            plain = make(redshift)
            yield name, redshift, 1.0, 0 * u.kpc, plain
            if name != "ACIS-I" or quick:
                continue
            for factor in (1 / 3, 3.0):
                rates = {key: factor * getattr(plain, key) for key in ("background", "sky_background")}
                yield name, redshift, factor, 0 * u.kpc, replace(plain, **rates)
            yield name, redshift, 1.0, SHIFT, plain


def grid(model, data, *, quick=False):
    """Rows of macro-F1 for each instrument, redshift, exposure, background and shift, from the same shells."""
    clusters = read_accept(data)[:: 3 if quick else 1]
    exposures = EXPOSURES[1:2] if quick else EXPOSURES
    for name, redshift, factor, shift, observation in _settings(quick):
        scale = DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(redshift).to_value(u.kpc / u.arcsec)
        drawn = accept_images(clusters, observation, exposures=exposures, offset=shift)
        for ks, (sample, images) in drawn.items():
            background = background_counts(replace(observation, exposure=ks * u.ks))
            raw, net = (c_sb(images, redshift=redshift, background=taken) for taken in (None, background))
            rivals = conventional(sample, {"C_SB": raw, "C_SB without background": net})
            predictions = classified(model, sample, images)
            row = {
                "instrument": name,
                "redshift": redshift,
                "exposure_ks": ks,
                "background": round(factor, 3),
                "shift_kpc": float(shift.to_value(u.kpc)),
                "psf_kpc": float(observation.psf_fwhm.to_value(u.arcsec) * scale),
                "counts": float(np.median(sample["source_counts"].value)),
            }
            row["wanted"] = wanted(row["counts"], row["psf_kpc"])
            ranked = {key: value for key, value in rivals.items() if key.endswith("ranked")}
            row |= score_row(predictions, ranked, sample["t_cool"].value, n_bootstrap=300)
            row |= {key: score_row(value, n_bootstrap=0)["f1"] for key, value in ranked.items()}
            yield row


def wanted(counts, psf_kpc):
    """Macro-F1 that is asked for at median counts and a width of the PSF [kpc]; NaN where nothing is."""
    if counts > DEEP[0] and psf_kpc <= CORE:
        return DEEP[1]
    return SHALLOW[1] if counts > SHALLOW[0] else np.nan


def evidence(model, images, labels, redshifts):
    """
    Where the positive evidence for the predicted class lies: rows, and the maps.

    ``core``: its share within 100 kpc of the middle, beside the share of the field's area that this is. ``gaps``: mean
    evidence, of either sign, in pixels of less than half the largest exposure, over that of other pixels as far from
    the middle; 1 if the network does not see the gaps, empty without an exposure map or where a cell of the map is
    larger than 100 kpc, which cannot show a gap.
    """
    rows, maps = [], []
    for image, label, redshift in zip(images, labels, redshifts, strict=True):
        cells = model.activation_map(image, label, redshift=redshift)
        size = float(cells.meta["CELLSIZE"])
        rows_, columns = np.indices(cells.shape)
        radius = size * np.hypot(rows_ - cells.meta["YMIDDLE"], columns - cells.meta["XMIDDLE"])
        near = np.clip((100.0 - radius) / size + 0.5, 0.0, 1.0)  # share of a cell, roughly
        positive = np.maximum(cells.data, 0.0)
        rows.append(
            {
                "image": str(image.meta.get("OBJECT", "")),
                "class": label,
                "p": float(cells.meta["PROB"]),
                "method": str(cells.meta["METHOD"]),
                "cell_kpc": size,
                "core": float(np.sum(positive * near) / max(positive.sum(), 1e-12)),
                "core area": float(near.mean()),
                "gaps": gap_ratio(cells, image) if size <= 100.0 else np.nan,
            }
        )
        maps.append(cells)
    return rows, maps


def gap_ratio(cells, image):
    """Mean absolute evidence of gap pixels over that of others at the same distances; NaN without gaps."""
    if getattr(image, "exposure", None) is None:
        return np.nan
    y, x = np.indices(image.shape)
    column, row = cells.wcs.world_to_pixel(image.wcs.pixel_to_world(x, y))
    place = [np.clip(np.round(each), 0, n - 1).astype(int) for each, n in zip((row, column), cells.shape, strict=True)]
    strength = np.abs(cells.data)[tuple(place)]
    radius = np.hypot(x - (image.shape[1] - 1) / 2, y - (image.shape[0] - 1) / 2)
    ring = (radius / radius.max() * 20).astype(int)
    gap = image.exposure < 0.5 * image.exposure.max()
    inside, outside = (np.bincount(ring[chosen], minlength=21) for chosen in (gap, ~gap))
    both = (inside > 0) & (outside > 0)
    if not both.any():
        return np.nan
    means = [
        np.bincount(ring[chosen], strength[chosen], minlength=21)[both] / number[both]
        for chosen, number in ((gap, inside), (~gap, outside))
    ]
    return float(np.average(means[0] / np.maximum(means[1], 1e-12), weights=inside[both]))
