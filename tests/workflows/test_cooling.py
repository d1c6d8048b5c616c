"""Cooling time of an image of a beta model, against the formula."""

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS

from astroclassify.exceptions import GeometryError
from astroclassify.images import DEFAULT_COSMOLOGY, SkyImage
from astroclassify.sim import cooling_time
from astroclassify.workflows import image_cooling_time

Z, SIDE = 0.05, 4.0  # redshift; pixel [kpc]
PER_EMISSION = 2e-67


def beta_image(central, core=50.0, n=250, seed=1):
    """Poisson image of a beta model with beta = 2/3: its central density [cm-3] and core radius [kpc]."""
    axis = (np.arange(n) - (n - 1) / 2) * SIDE
    squared = axis**2 + axis[:, None] ** 2
    emission = np.pi / 2 * central**2 / 1.2 * core * (1 + squared / core**2) ** -1.5
    rate = emission * SIDE**2 * (u.kpc**3).to(u.cm**3) * PER_EMISSION
    wcs = WCS(naxis=2)
    arcsec = SIDE / DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(Z).to_value(u.kpc / u.arcsec)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150, 2], [(n + 1) / 2] * 2
    wcs.wcs.cdelt = [-arcsec / 3600, arcsec / 3600]
    counts = np.random.default_rng(seed).poisson(rate * 1e5).astype(float)
    return SkyImage(counts, unit="ct", wcs=wcs, meta={"REDSHIFT": Z, "EXPOSURE": 1e5})


def measured(image, **keywords):
    return image_cooling_time(image, counts_per_emission=PER_EMISSION * u.ct * u.cm**3 / u.s, **keywords)


def test_the_cooling_time_of_a_beta_model():
    image = beta_image(0.02)
    found = measured(image, temperature=4 * u.keV, r_500=1 * u.Mpc)
    truth = cooling_time(0.02 / u.cm**3 / (1 + 0.6 * 12**2 / 50**2), 4 * u.keV, 0.3)
    value, error = found["t_cool_image"]
    assert value.unit == error.unit == u.Gyr
    assert abs(value - truth) < 3 * error and error < 0.1 * value
    assert found["temperature"] == (4 * u.keV, 0 * u.keV) and found["r_500"] == (1000 * u.kpc, 0 * u.kpc)
    kelvin = measured(image, temperature=(4 * u.keV).to(u.K, u.temperature_energy()), r_500=1 * u.Mpc)
    assert kelvin["t_cool_image"][0].value == pytest.approx(value.value)


def test_the_temperature_of_the_emission():
    """kT of the emission measure between 100 and 400 kpc, with its scatter in the error; R500 of Arnaud et al."""
    image = beta_image(0.02)
    found = measured(image)
    r = np.arange(100.05, 400, 0.1)
    emission = np.sum(4 * np.pi * r**2 * 0.1 * 0.02**2 / 1.2 * (1 + (r / 50) ** 2) ** -2.0) * (u.kpc**3).to(u.cm**3)
    kT, error = found["temperature"]
    assert kT.to_value(u.keV) == pytest.approx(4.30 * (emission / 10**66.5) ** 0.225, rel=0.02)
    assert float(error / kT) == pytest.approx(0.12 * np.log(10), rel=0.05)
    mass = 3.84e14 * (kT.value / 5) ** 1.71 / DEFAULT_COSMOLOGY.efunc(Z)
    density = 500 * DEFAULT_COSMOLOGY.critical_density(Z).to_value(u.Msun / u.kpc**3)
    assert found["r_500"][0].value == pytest.approx((mass / density * 3 / (4 * np.pi)) ** (1 / 3))
    exact = measured(image, temperature=kT)
    assert exact["t_cool_image"][0].value == pytest.approx(found["t_cool_image"][0].value)
    assert found["t_cool_image"][1] > 2 * exact["t_cool_image"][1]


def test_what_is_refused():
    with pytest.raises(TypeError, match="counts_per_emission must be a Quantity"):
        image_cooling_time(beta_image(0.02), counts_per_emission=None)
    with pytest.raises(GeometryError, match="temperature must be given: the image ends at"):
        measured(beta_image(0.02, n=80))
    with pytest.raises(TypeError, match="temperature must be a Quantity"):
        measured(beta_image(0.02), temperature=4.0)
