"""The settings of a mock observation."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM, Planck15

from astroclassify.images import DEFAULT_COSMOLOGY, Geometry
from astroclassify.sim._observation import Observation

PER_ARCSEC2 = u.ct / u.s / u.arcsec**2


def test_default_pixel_is_that_of_su_et_al():
    # printed: 1 Mpc, 256 pixels, 3.9" each (8 x 0.492" = 3.94")
    assert Observation().pixel_scale().to_value(u.arcsec) == pytest.approx(3.9, abs=0.05)


@pytest.mark.parametrize("redshift", [0.01, 0.05, 0.3, 1.5])
@pytest.mark.parametrize("cosmology", [DEFAULT_COSMOLOGY, Planck15, FlatLambdaCDM(H0=50, Om0=1)])
def test_pixel_scale_is_the_width_over_the_angular_diameter_distance(redshift, cosmology):
    observation = Observation(redshift=redshift, width=800 * u.kpc, shape=(100, 200))
    kpc_per_arcsec = 1 / cosmology.arcsec_per_kpc_proper(redshift)
    expected = (800 * u.kpc / 200 / kpc_per_arcsec).to_value(u.arcsec)
    assert observation.pixel_scale(cosmology).to_value(u.arcsec) == pytest.approx(expected, rel=1e-9)


def test_pixel_scale_is_that_of_the_image_rules():
    geometry = Geometry(800 * u.kpc, (100, 200))
    observation = Observation(redshift=0.1, width=800 * u.kpc, shape=(100, 200))
    assert observation.pixel_scale().to_value(u.arcsec) == pytest.approx(
        geometry.pixel_width(0.1).to_value(u.arcsec), rel=1e-9
    )
    assert observation.half_size_kpc == pytest.approx([400, 200])


def test_background_of_one_chip_is_three_tenths_of_a_count_per_second():
    rate = Observation().background * (8.3 * u.arcmin) ** 2
    assert rate.to_value(u.ct / u.s) == pytest.approx(0.3, rel=0.02)


def test_background_counts_are_rate_times_time_times_area():
    observation = Observation(background=1e-6 * PER_ARCSEC2, exposure=20 * u.ks)
    pixel = observation.pixel_scale().to_value(u.arcsec)
    assert observation.background_counts() == pytest.approx(1e-6 * 2e4 * pixel**2, rel=1e-9)


def test_equal_settings_in_other_units_are_equal():
    one = Observation(exposure=100 * u.ks, width=1 * u.Mpc, energy_range=(0.5, 7) * u.keV)
    other = Observation(exposure=1e5 * u.s, width=1000 * u.kpc, energy_range=(500 * u.eV, 7 * u.keV))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Observation(exposure=99 * u.ks)
    assert one != "something else"


def test_frozen_and_picklable():
    observation = Observation(redshift=0.1)
    assert pickle.loads(pickle.dumps(observation)) == observation
    with pytest.raises(dataclasses.FrozenInstanceError):
        observation.redshift = 0.2
    with pytest.raises(ValueError, match="read-only"):
        observation.energy_range[0] = 1 * u.keV


def test_caller_s_energy_range_is_left_alone():
    band = np.array([1.0, 2.0]) * u.keV
    observation = Observation(energy_range=band)
    band[0] = 0.5 * u.keV
    assert observation.energy_range[0] == 1 * u.keV


def test_meta_is_plain_and_complete():
    meta = Observation().to_meta()
    assert json.loads(json.dumps(meta)) == meta
    assert len(meta) == len(dataclasses.fields(Observation))
    assert meta["exposure_s"] == 1e5
    assert meta["energy_range_keV"] == [0.5, 7.0]


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("redshift", 0, ValueError, "redshift must be larger than zero"),
        ("redshift", -0.1, ValueError, "redshift must be larger than zero"),
        ("redshift", np.nan, ValueError, "redshift must be larger than zero"),
        ("redshift", "0.05", TypeError, "redshift must be a number"),
        ("redshift", True, TypeError, "redshift must be a number"),
        ("exposure", 100, TypeError, "exposure must be a Quantity"),
        ("exposure", 0 * u.ks, ValueError, "exposure must be larger than zero"),
        ("exposure", 1 * u.kpc, u.UnitsError, "exposure must have a unit like s"),
        ("exposure", [1, 2] * u.ks, ValueError, "exposure must have shape"),
        ("energy_range", (0.5, 7), TypeError, "energy_range must be a Quantity"),
        ("energy_range", (7, 0.5) * u.keV, ValueError, "energy_range must go from a lower"),
        ("energy_range", (0, 7) * u.keV, ValueError, "energy_range must be larger than zero"),
        ("energy_range", 7 * u.keV, ValueError, "energy_range must have shape"),
        ("n_h", -1 * u.cm**-2, ValueError, "n_h must not be negative"),
        ("width", np.nan * u.kpc, ValueError, "width must be finite"),
        ("width", 10 * u.arcmin, u.UnitsError, "width must have a unit like kpc"),
        ("shape", 256, TypeError, "shape must be two whole numbers"),
        ("shape", (256.0, 256), TypeError, "shape must be two whole numbers"),
        ("shape", (0, 256), ValueError, "shape must be from 1"),
        ("shape", (256, 100000), ValueError, "shape must be from 1"),
        ("background", -1 * PER_ARCSEC2, ValueError, "background must not be negative"),
        ("psf_fwhm", -1 * u.arcsec, ValueError, "psf_fwhm must not be negative"),
        ("response", "acis-s", ValueError, "response must be one of"),
    ],
)
def test_bad_settings_are_named(argument, value, error, message):
    with pytest.raises(error, match=message) as caught:
        Observation(**{argument: value})
    assert "\n" not in str(caught.value)
