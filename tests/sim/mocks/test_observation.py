"""The settings of a mock observation."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM, Planck15

from astroclassify.images import DEFAULT_COSMOLOGY, Geometry
from astroclassify.sim import Observation

PER_ARCSEC2 = u.ct / u.s / u.arcsec**2
FLUX = u.erg / u.s / u.cm**2
CHIP = (1024 * 0.492 * u.arcsec) ** 2


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
        ("redshift", 0, ValueError, "redshift must be a finite number above 0"),
        ("redshift", -0.1, ValueError, "redshift must be a finite number above 0"),
        ("redshift", np.nan, ValueError, "redshift must be a finite number above 0"),
        ("redshift", "0.05", TypeError, "redshift must be a finite number"),
        ("redshift", True, TypeError, "redshift must be a finite number"),
        ("exposure", 100, TypeError, "exposure must be a Quantity"),
        ("exposure", 0 * u.ks, ValueError, "exposure must be larger than zero"),
        ("exposure", 1 * u.kpc, u.UnitsError, "exposure must have a unit like s"),
        ("exposure", [1, 2] * u.ks, ValueError, "exposure must have shape"),
        ("energy_range", (0.5, 7), TypeError, "energy_range must be a Quantity"),
        ("energy_range", (7, 0.5) * u.keV, ValueError, "energy_range must go from a lower"),
        ("energy_range", (0, 7) * u.keV, ValueError, "energy_range must be larger than zero"),
        ("energy_range", 7 * u.keV, ValueError, "energy_range must have shape"),
        ("nh_column", -1 * u.cm**-2, ValueError, "nh_column must not be negative"),
        ("width", np.nan * u.kpc, ValueError, "width must be finite"),
        ("width", 10 * u.arcmin, u.UnitsError, "width must have a unit like kpc"),
        ("shape", 256, TypeError, "shape must be two whole numbers"),
        ("shape", (256.0, 256), TypeError, "shape must be a whole number from 1 to 8192, got 256.0"),
        ("shape", (0, 256), ValueError, "shape must be a whole number from 1 to 8192, got "),
        ("shape", (256, 100000), ValueError, "shape must be a whole number from 1 to 8192, got "),
        ("background", -1 * PER_ARCSEC2, ValueError, "background must not be negative"),
        ("psf_fwhm", -1 * u.arcsec, ValueError, "psf_fwhm must not be negative"),
        ("response", "acis-x", ValueError, "response must be"),
        ("response", 19, TypeError, "response must be a name"),
        ("response", "soxs:chandra_acisi_cy22", ValueError, "response_files must be given exactly when"),
        ("response_files", ".", ValueError, "response_files must be given exactly when"),
        ("detector", "acis-x", ValueError, "detector must be one of"),
        ("detector", None, ValueError, "detector must be one of"),
        ("pointing_offset", (0, 0), TypeError, "pointing_offset must be a Quantity"),
        ("pointing_offset", 3 * u.arcmin, ValueError, "pointing_offset must have shape"),
        ("pointing_offset", (1, np.nan) * u.arcmin, ValueError, "pointing_offset must be finite"),
        ("pointing_offset", (1 * u.arcmin, 2 * u.kpc), ValueError, "pointing_offset must be two values"),
        ("pointing_offset", (1, 2) * u.kpc, u.UnitsError, "pointing_offset must have a unit like arcmin"),
        ("roll", 30, TypeError, "roll must be a Quantity"),
        ("roll", (1, 2) * u.deg, ValueError, "roll must have shape"),
        ("sky_background", -1 * PER_ARCSEC2, ValueError, "sky_background must not be negative"),
        ("sky_background", 1 / u.s, u.UnitsError, "sky_background must have a unit like"),
        ("point_sources", 1e-14, TypeError, "point_sources must be a Quantity"),
        ("point_sources", 1e-17 * FLUX, ValueError, "point_sources must be brighter than 2.4e-17"),
        ("point_sources", 0 * FLUX, ValueError, "point_sources must be larger than zero"),
    ],
)
def test_bad_settings_are_named(argument, value, error, message):
    with pytest.raises(error, match=message) as caught:
        Observation(**{argument: value})
    assert "\n" not in str(caught.value)


# --- detector, sky, sources --------------------------------------------------------------------------------------


def test_new_settings_change_nothing_by_default():
    observation = Observation()
    assert observation.detector == "uniform" and observation.point_sources is None
    assert np.all(observation.pointing_offset == 0 * u.deg) and observation.roll == 0 * u.deg
    assert observation.sky_background.value == 0 and observation.response_files is None


def test_offsets_may_come_one_by_one():
    observation = Observation(pointing_offset=(30 * u.arcsec, -1 * u.arcmin))
    assert observation == Observation(pointing_offset=[0.5, -1] * u.arcmin)
    assert observation.to_meta()["pointing_offset_arcmin"] == pytest.approx([0.5, -1])
    with pytest.raises(ValueError, match="read-only"):
        observation.pointing_offset[0] = 1 * u.arcmin


@pytest.mark.parametrize(
    "changes",
    [
        {"detector": "acis-i"},
        {"pointing_offset": (1, 0) * u.arcmin},
        {"roll": 1 * u.deg},
        {"sky_background": 1e-7 * PER_ARCSEC2},
        {"point_sources": 1e-14 * FLUX},
    ],
)
def test_each_setting_counts_in_comparisons(changes):
    assert Observation(**changes) != Observation()
    assert Observation(**changes) == Observation(**changes)


def test_acis_i_is_realistic():
    observation = Observation.acis_i()
    assert observation.detector == "acis-i"
    assert observation.point_sources == 1e-14 * FLUX
    # r90 = 1" on axis, that of Hickox & Markevitch (2006)
    assert observation.psf_fwhm.to_value(u.arcsec) / 2.35482 * np.sqrt(2 * np.log(10)) == pytest.approx(1, rel=0.01)
    # the packaged particle spectrum holds 2.3922e-3 ct/s/arcmin2 in 0.5-7 keV
    rate = observation.background.to_value(u.ct / (u.s * u.arcmin**2))
    assert rate == pytest.approx(2.3922e-3, rel=1e-3)
    assert (observation.sky_background * CHIP).to_value(u.ct / u.s) == pytest.approx(0.019, rel=0.05)


def test_quiescent_rate_of_a_chip_is_that_of_the_observatory():
    # ACIS background page of the Chandra X-ray Center (M. Markevitch): 0.3 ct/s per front-illuminated chip, 0.3-10 keV
    observation = Observation.acis_i(energy_range=(0.3, 10) * u.keV)
    rate = ((observation.background + observation.sky_background) * CHIP).to_value(u.ct / u.s)
    assert rate == pytest.approx(0.3, rel=0.1)


def test_acis_i_rates_follow_band_response_and_absorption():
    hard = Observation.acis_i(energy_range=(2, 7) * u.keV)
    soft = Observation.acis_i(energy_range=(0.5, 2) * u.keV)
    whole = Observation.acis_i()
    for name in ("background", "sky_background"):
        parts = (getattr(each, name).to_value(PER_ARCSEC2) for each in (hard, soft))
        assert sum(parts) == pytest.approx(getattr(whole, name).to_value(PER_ARCSEC2), rel=1e-5)
    assert soft.sky_background > hard.sky_background and soft.background < hard.background
    late = Observation.acis_i(response="acis-i-cycle19")
    assert late.sky_background < whole.sky_background and late.background == whole.background
    assert Observation.acis_i(nh_column=1e21 * u.cm**-2).sky_background < whole.sky_background


def test_acis_i_leaves_what_is_given():
    rate = 3e-7 * PER_ARCSEC2
    observation = Observation.acis_i(background=rate, sky_background=0 * PER_ARCSEC2, point_sources=None)
    assert observation.background == rate and observation.sky_background.value == 0
    assert observation.point_sources is None
    assert Observation.acis_i(detector="uniform", psf_fwhm=2 * u.arcsec).psf_fwhm == 2 * u.arcsec
    assert Observation.acis_i() == Observation.acis_i()
    assert pickle.loads(pickle.dumps(Observation.acis_i())) == Observation.acis_i()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"energy_range": (0.2, 7) * u.keV}, ValueError, "energy_range must lie within 0.3 to 10 keV"),
        ({"energy_range": (0.5, 12) * u.keV}, ValueError, "energy_range must lie within 0.1 to 10 keV"),
        ({"exposure": -1 * u.s}, ValueError, "exposure must be larger than zero"),
        ({"seeing": 1}, TypeError, "seeing"),
    ],
)
def test_bad_settings_of_acis_i_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        Observation.acis_i(**changes)


def test_folder_of_a_soxs_response(tmp_path, monkeypatch):
    seen = []

    def load(*arguments):
        seen.append(arguments)
        return "the response"

    monkeypatch.setattr("astroclassify.sim.mocks._observation.load_response", load)
    observation = Observation(response="soxs:mine", response_files=str(tmp_path))
    assert observation.load_response() == "the response"
    assert seen[-1] == ("soxs:mine", tmp_path)
    assert observation.to_meta()["response_files"] == str(tmp_path)
    assert json.loads(json.dumps(observation.to_meta())) == observation.to_meta()
    with pytest.raises(ValueError, match="response_files must be a folder that exists"):
        Observation(response="soxs:mine", response_files=tmp_path / "nowhere")
    with pytest.raises(TypeError, match="response_files must be a path"):
        Observation(response="soxs:mine", response_files=3)
