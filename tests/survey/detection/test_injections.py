"""Points that are put into fields have the EXT_LIKE that `fit_extent` says: zero in half of the cases, else chi^2."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from scipy.ndimage import distance_transform_edt
from scipy.stats import binom, chi2

from astroclassify.fields import inject_sources
from astroclassify.sim import simulate_field
from astroclassify.survey import detect, read_field

CHANCE = 1e-4  # of a test that fails though all is right


def places(field, spacing, shift, free):
    """Positions x, y [pixel] of a square grid on free pixels, 16" at least from any other."""
    free = distance_transform_edt(np.pad(free, 1))[1:-1, 1:-1] * field.pixel > 16
    step = spacing / field.pixel
    x, y = (np.arange(shift * step, side - 1, step) for side in field.shape[::-1])
    x, y = (values.ravel() for values in np.meshgrid(x, y))
    chosen = free[np.rint(y).astype(int), np.rint(x).astype(int)]
    return x[chosen], y[chosen]


def extents_of_points(field, shifts, counts, spacing, free):
    """Number, EXT_LIKE and class of points of known counts that are put into a field and found within 10"."""
    found = []
    for number, shift in enumerate(shifts):
        x, y = places(field, spacing, shift, free)
        sources = {"x": x * u.pix, "y": y * u.pix, "counts": np.resize(counts, len(x)) * u.ct}
        table = detect(
            inject_sources(field, QTable(sources | {"core_radius": np.zeros(len(x)) * u.arcsec}), rng=number)
        )
        distance = np.hypot(np.subtract.outer(x, table["x"].value), np.subtract.outer(y, table["y"].value))
        nearest = distance.argmin(axis=1)[distance.min(axis=1) * field.pixel < 10]
        found.append((len(x), table[nearest]["ext_like"], table[nearest]["x_class"]))
    injected, likes, classes = zip(*found, strict=True)
    return sum(injected), np.concatenate(likes), np.concatenate(classes)


def follows_half_chi2(likes):
    """Whether as many values exceed the quantiles of half chi^2 with one degree of freedom as may by chance."""
    return all(
        np.sum(likes > chi2.isf(2 * share, 1)) <= binom.isf(CHANCE, len(likes), share) for share in (0.25, 0.05, 0.01)
    )


def test_points_in_a_simulated_field():
    field = simulate_field(rng=3, shape=(256, 256), exposure=20 * u.ks, density={"cluster": 0}).field
    free = (field.exposure > 0) & ~field.mask
    injected, likes, classes = extents_of_points(field, (0.3, 0.7), (200, 1000), 120, free)
    assert len(likes) >= 0.9 * injected > 20
    assert follows_half_chi2(likes)
    assert not np.isin(classes, ["C1", "C2"]).any()


@pytest.mark.slow
@pytest.mark.real_data
def test_points_in_a_real_field(shared_data):
    field = read_field(shared_data / "xmm" / "real" / "W49B_SNR_20ks.fits.gz")
    rows, columns = np.indices(field.shape)
    away = np.hypot(columns - 235, rows - 217) * field.pixel > 6 * 60  # of the remnant
    free = away & (field.exposure > 0) & ~field.mask & (field.off_axis(columns, rows) < 13)
    injected, likes, classes = extents_of_points(field, (0.2, 0.4, 0.6, 0.8), (50, 200, 1000), 120, free)
    assert len(likes) >= 0.9 * injected > 150
    assert follows_half_chi2(likes)
    assert not np.isin(classes, ["C1", "C2"]).any()
