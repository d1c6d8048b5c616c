"""Sources put into a field: the photons follow the beta model, the point spread function and the exposure."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS
from scipy.stats import chi2, poisson

from astroclassify.exceptions import SchemaError
from astroclassify.survey import Field, GaussianPsf, KingPsf, inject_sources


def made_field(shape=(301, 301), pixel=2.5, psf=None, exposure=1e4):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-pixel / 3600, pixel / 3600]
    psf = GaussianPsf(4 * u.arcsec) if psf is None else psf
    blank = np.zeros(shape)
    return Field(blank, np.full(shape, exposure), blank, blank > 0, wcs, psf, SkyCoord(150 * u.deg, 2 * u.deg))


def one(x, y, counts, core):
    return QTable({"x": [x] * u.pix, "y": [y] * u.pix, "counts": [counts] * u.ct, "core_radius": [core] * u.arcsec})


def chi_square(found, expected):
    return np.sum((found - expected) ** 2 / expected), len(expected)


def test_point_source_follows_the_king_profile():
    field = made_field(psf=KingPsf("EPN"))
    counts = inject_sources(field, one(150.0, 150.0, 50_000, 0), rng=1).counts
    assert np.array_equal(counts, np.round(counts)) and 0.98 < counts.sum() / 50_000 < 1.02
    # Rings of whole pixels against the encircled share: rings of the same area at fine steps.
    y, x = np.indices(counts.shape)
    distance = np.hypot(x - 150, y - 150) * 2.5
    edges = np.array([0, 8, 14, 22, 36, 60, 100, 200, 300])
    found = np.histogram(distance, edges, weights=counts)[0]
    fine = (np.indices((1505, 1505)) - 752) / 5 * 2.5
    density = np.bincount(
        np.digitize(np.hypot(*np.rint(fine / 2.5) * 2.5), edges).ravel(),
        weights=field.psf.profile(np.hypot(*fine), 0.0).ravel() * 0.5**2,
    )[1 : len(edges)]
    value, number = chi_square(found, 50_000 * density)
    assert value < chi2.isf(1e-4, number)


def test_extended_source_follows_the_beta_model():
    field = made_field(shape=(501, 501), psf=GaussianPsf(1 * u.arcsec))
    counts = inject_sources(field, one(250.0, 250.0, 80_000, 20), rng=2).counts
    y, x = np.indices(counts.shape)
    inside = counts[np.hypot(x - 250, y - 250) * 2.5 <= 200].sum() / 80_000
    assert inside == pytest.approx(1 - (1 + 10.0**2) ** -0.5, abs=0.005)
    half = counts[np.hypot(x - 250, y - 250) * 2.5 <= 20 * np.sqrt(3)].sum() / 80_000
    assert half == pytest.approx(0.5, abs=0.012)  # pixels are not rings


def test_counts_are_poisson_and_follow_the_exposure():
    field = made_field(shape=(41, 61))
    exposure = np.full(field.shape, 1e4)
    exposure[:, 30:] = 2.5e3
    exposure[20, 10] = 0.0
    mask = np.zeros(field.shape, bool)
    mask[:, :4] = True
    field = dataclasses.replace(field, exposure=exposure, mask=mask)
    bright = inject_sources(field, one(20.0, 20.0, 3000, 60), rng=3).counts
    left, right = bright[:, 11:20].sum(), bright[:, 41:50].sum()
    assert bright[:, :4].sum() == 0 and bright[20, 10] == 0 and left > 100 and right > 10
    # The exposure is that at the position: a source on the faint side has a quarter of the pixels, four times as deep.
    draws = [inject_sources(field, one(45.0, 20.0, 30, 0), rng=seed).counts.sum() for seed in range(300)]
    assert np.mean(draws) == pytest.approx(30, abs=4 * np.sqrt(30 / 300))
    assert poisson.ppf(1e-3, 30) < np.percentile(draws, 5) < 25 < 35 < np.percentile(draws, 95) < poisson.isf(1e-3, 30)
    assert 0.7 < np.var(draws) / 30 < 1.35


def test_exposure_scales_the_light_of_one_source():
    field = made_field(shape=(81, 81), psf=GaussianPsf(1 * u.arcsec))
    exposure = np.where(np.arange(81) >= 41, 2.5e3, 1e4) * np.ones((81, 1))
    counts = inject_sources(dataclasses.replace(field, exposure=exposure), one(40.0, 40.0, 20_000, 30), rng=4).counts
    assert counts[:, 41:].sum() / counts[:, :40].sum() == pytest.approx(0.25, abs=0.015)


def test_positions_on_the_sky_are_those_in_pixels():
    field = made_field(shape=(61, 61))
    source = one(20.0, 33.0, 200, 5)
    sky = source["counts", "core_radius"]
    sky["sky_position"] = field.wcs.pixel_to_world([20.0], [33.0])
    first, second = (inject_sources(field, each, rng=5).counts for each in (source, sky))
    assert np.array_equal(first, second)
    row, column = np.unravel_index(np.argmax(first), first.shape)
    assert abs(row - 33) <= 2 and abs(column - 20) <= 2
    first = inject_sources(field, source)
    assert np.array_equal(inject_sources(field, source, rng=first.meta["INJ_SEED"]).counts, first.counts)
    assert not field.counts.any() and np.array_equal(inject_sources(field, source[:0], rng=5).counts, field.counts)


def test_bad_sources():
    field = made_field(shape=(61, 61))
    with pytest.raises(SchemaError, match="core_radius"):
        inject_sources(field, one(3.0, 3.0, 1, 0)["x", "y", "counts"], rng=1)
    with pytest.raises(ValueError, match=r"not masked, rows \[0\]"):
        inject_sources(field, one(-3.0, 3.0, 1, 0), rng=1)
    mask = np.zeros(field.shape, bool)
    mask[3, 3] = True
    with pytest.raises(ValueError, match="not masked"):
        inject_sources(dataclasses.replace(field, mask=mask), one(3.0, 3.0, 1, 0), rng=1)
    with pytest.raises(ValueError, match="negative"):
        inject_sources(field, one(3.0, 3.0, -1, 0), rng=1)
    bad = one(3.0, 3.0, 1, 0)
    bad["counts"] = [1.0]
    with pytest.raises(TypeError, match="counts"):
        inject_sources(field, bad, rng=1)
