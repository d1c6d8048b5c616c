"""Observations drawn at random."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from astropy import units as u

from astroclassify.sim import Observation, ObservationSampler

ACIS = Observation(detector="acis-i")
EVERYTHING = ObservationSampler(
    ACIS,
    redshift=(0.02, 0.2),
    exposure=(5, 200) * u.ks,
    nh_column=(1e20, 1e21) * u.cm**-2,
    offset=4 * u.arcmin,
    roll=True,
)


def drawn(sampler, number=2000):
    rng = np.random.default_rng(1)
    return [sampler.draw(rng) for _ in range(number)]


def uniform(values, low, high):
    """Whether values look uniform: Kolmogorov-Smirnov."""
    from scipy.stats import kstest

    values = np.asarray(values)
    assert values.min() >= low - 1e-9 and values.max() <= high + 1e-9
    return kstest((values - low) / (high - low), "uniform").pvalue > 0.01


def test_logarithms_are_uniform():
    observations = drawn(EVERYTHING)
    assert uniform(np.log([each.redshift for each in observations]), np.log(0.02), np.log(0.2))
    assert uniform(np.log([each.exposure.to_value(u.ks) for each in observations]), np.log(5), np.log(200))
    assert uniform(np.log([each.nh_column.to_value(u.cm**-2) for each in observations]), np.log(1e20), np.log(1e21))
    assert uniform([each.roll.to_value(u.deg) for each in observations], 0, 360)


def test_pointings_fill_a_disc():
    places = np.array([each.pointing_offset.to_value(u.arcmin) for each in drawn(EVERYTHING)])
    radius = np.hypot(*places.T)
    assert uniform((radius / 4) ** 2, 0, 1)
    assert uniform(np.arctan2(places[:, 1], places[:, 0]), -np.pi, np.pi)


def test_what_is_not_drawn_is_the_base_s():
    base = Observation(psf_fwhm=3 * u.arcsec, exposure=30 * u.ks, shape=(10, 20))
    assert ObservationSampler(base).draw(3) == base
    one = ObservationSampler(base, redshift=(0.1, 0.4)).draw(3)
    assert dataclasses.replace(one, redshift=base.redshift) == base
    assert 0.1 <= one.redshift <= 0.4 and one.redshift != base.redshift


def test_a_seed_gives_one_observation():
    assert EVERYTHING.draw(7) == EVERYTHING.draw(7) == EVERYTHING.draw(np.random.default_rng(7))
    assert EVERYTHING.draw(7) != EVERYTHING.draw(8)


def test_a_setting_that_is_switched_on_changes_no_other():
    few = ObservationSampler(ACIS, redshift=(0.02, 0.2), roll=True).draw(7)
    assert few.redshift == EVERYTHING.draw(7).redshift and few.roll == EVERYTHING.draw(7).roll
    rng, other = np.random.default_rng(7), np.random.default_rng(7)
    ObservationSampler(ACIS).draw(rng)
    EVERYTHING.draw(other)
    assert rng.random() == other.random()


def test_one_value_is_a_range():
    sampler = ObservationSampler(Observation(), redshift=(0.07, 0.07), exposure=[20, 20] * u.ks)
    assert sampler.draw(1).redshift == 0.07 and sampler.draw(1).exposure.to_value(u.ks) == pytest.approx(20)
    assert np.all(ObservationSampler(ACIS, offset=0 * u.arcmin).draw(1).pointing_offset == 0 * u.arcmin)


def test_frozen_equal_picklable():
    assert pickle.loads(pickle.dumps(EVERYTHING)) == EVERYTHING
    same = ObservationSampler(
        ACIS, redshift=[0.02, 0.2] * u.one, exposure=(5e3, 2e5) * u.s, nh_column=(1e20 / u.cm**2, 1e21 / u.cm**2),
        offset=240 * u.arcsec, roll=True,
    )  # fmt: skip
    assert same == EVERYTHING and hash(same) == hash(EVERYTHING)
    assert same != ObservationSampler(ACIS) and same != ACIS
    with pytest.raises(dataclasses.FrozenInstanceError):
        same.roll = False
    with pytest.raises(ValueError, match="read-only"):
        same.exposure[0] = 1 * u.s


def test_meta_is_plain_and_complete():
    meta = EVERYTHING.to_meta()
    assert json.loads(json.dumps(meta)) == meta
    assert ACIS.to_meta().items() <= meta.items()
    assert meta["draw_redshift"] == [0.02, 0.2]
    assert meta["draw_exposure_s"] == pytest.approx([5e3, 2e5])
    assert meta["draw_nh_column_cm-2"] == pytest.approx([1e20, 1e21])
    assert meta["draw_offset_arcmin"] == 4 and meta["draw_roll"] is True
    assert ObservationSampler(ACIS).to_meta()["draw_redshift"] is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"base": "acis"}, TypeError, "base must be an Observation.*, got str"),
        ({"redshift": 0.1}, ValueError, "redshift must have shape"),
        ({"redshift": (0.0, 0.1)}, ValueError, "redshift must be larger than zero"),
        ({"redshift": (0.2, 0.1)}, ValueError, "redshift must go from a lower"),
        ({"redshift": (0.1, np.inf)}, ValueError, "redshift must be finite"),
        ({"redshift": ("a", "b")}, TypeError, "redshift must be two numbers"),
        ({"redshift": (1, 2) * u.kpc}, u.UnitsError, "redshift must have a unit"),
        ({"exposure": (1, 2)}, TypeError, "exposure must be a Quantity"),
        ({"exposure": (1, 2, 3) * u.s}, ValueError, "exposure must have shape"),
        ({"exposure": (1 * u.s, 2 * u.kpc)}, ValueError, "exposure must be two values with a unit like s"),
        ({"nh_column": (0, 1e20) * u.cm**-2}, ValueError, "nh_column must be larger than zero"),
        ({"offset": 3}, TypeError, "offset must be a Quantity"),
        ({"offset": -3 * u.arcmin}, ValueError, "offset must not be negative"),
        ({"roll": 30 * u.deg}, TypeError, "roll must be True or False"),
        ({"base": [ACIS, "acis"]}, TypeError, "base must be an Observation.*, got str"),
        ({"base": []}, ValueError, "base must be at least one Observation"),
        ({"base": [ACIS, ACIS], "weights": [1]}, ValueError, "weights must be 2 numbers larger than zero"),
        ({"base": [ACIS, ACIS], "weights": [1, 0]}, ValueError, "weights must be 2 numbers larger than zero"),
        ({"background": (3, 1)}, ValueError, "background must go from a lower"),
        ({"centring": -3 * u.kpc}, ValueError, "centring must not be negative"),
        ({"binning": (1.5,)}, TypeError, "binning must be"),
        ({"binning": ()}, ValueError, "binning must be a sequence of choices"),
        ({"source_treatment": ("masked", "gone")}, ValueError, "source_treatment must be one of"),
        ({"source_treatment": "masked"}, ValueError, "source_treatment must be a sequence of choices"),
        ({"exposure_map": 1.5}, ValueError, "exposure_map must be"),
        ({"base": Observation(), "binning": (1, 2)}, ValueError, "binning changes nothing with detector='uniform'"),
        ({"base": Observation(), "offset": 3 * u.arcmin}, ValueError, "offset changes nothing with detector='uniform'"),
        ({"base": Observation(), "roll": True}, ValueError, "roll changes nothing with detector='uniform'"),
    ],
)
def test_bad_settings_are_named(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        ObservationSampler(**{"base": ACIS, **changes})
    assert "\n" not in str(caught.value)


# --- what training sets vary -------------------------------------------------------------------------------------


WIDE = ObservationSampler.wide()


def test_wide_is_what_its_docstring_says():
    observations = drawn(WIDE, 1500)
    arrays = [each.response.partition("-cycle")[0] for each in observations]
    shares = {"acis-i": 0.25, "acis-s": 0.25, "epic-pn": 0.25, "epic-mos1": 0.125, "epic-mos2": 0.125}
    for array, share in shares.items():
        assert arrays.count(array) / 1500 == pytest.approx(share, abs=4 * np.sqrt(share / 1500))
    for each in observations:
        assert each.response.startswith(each.detector)
        high = 2 if each.detector.startswith("epic") else 7
        assert tuple(each.energy_range.to_value(u.keV)) == (0.5, high)
    assert uniform(np.log([each.redshift for each in observations]), np.log(0.02), np.log(0.5))
    assert uniform(np.log([each.exposure.to_value(u.ks) for each in observations]), np.log(3), np.log(300))
    aside = [np.hypot(*each.centre_offset.to_value(u.kpc)) for each in observations]
    assert uniform(aside, 0, 50)
    for treatment in ("present", "masked", "filled"):
        found = np.mean([each.source_treatment == treatment for each in observations])
        assert found == pytest.approx(1 / 3, abs=0.05)
    assert np.mean([each.exposure_map for each in observations]) == pytest.approx(0.8, abs=0.04)


def test_backgrounds_are_drawn_together():
    base = Observation.acis_s()
    observations = drawn(ObservationSampler(base, background=(1 / 3, 3)), 500)
    factors = [float(each.background / base.background) for each in observations]
    assert uniform(np.log(factors), np.log(1 / 3), np.log(3))
    assert factors == pytest.approx([float(each.sky_background / base.sky_background) for each in observations])


@pytest.mark.parametrize("base", [Observation.acis_i(), Observation.epic("pn"), Observation.epic("mos2")])
@pytest.mark.parametrize("redshift", [0.003, 0.02, 0.1, 0.5])
def test_pixels_are_whole_ones_of_the_detector(base, redshift):
    native = {"acis-i": 0.492, "epic-pn": 4.1, "epic-mos2": 1.1}[base.detector]
    for binning in (1, 3, 8):
        each = ObservationSampler(base, redshift=(redshift, redshift), binning=(binning,)).draw(1)
        side = each.pixel_scale().to_value(u.arcsec) / native
        assert side == pytest.approx(round(side), rel=1e-9) and side >= 1 - 1e-9
        longest = 1e3 / each.pixel_kpc
        assert each.shape[0] == each.shape[1] == np.ceil(longest - 1e-9) <= 1024
        assert each.width >= (1 - 1e-9) * u.Mpc
        # the drawn side, unless there would be too many or too few pixels
        assert round(side) == binning or (1e3 / (each.pixel_kpc / side * binning) < 64 or longest > 512) or side == 1


def test_binning_keeps_the_shape_of_the_field():
    base = Observation.acis_i(shape=(100, 200))
    each = ObservationSampler(base, binning=(4,)).draw(1)
    assert each.shape[1] == pytest.approx(2 * each.shape[0], abs=1) and each.width >= (1 - 1e-9) * u.Mpc


def test_old_settings_keep_their_draws():
    # numbers of this seed, drawn one after the other: redshift, exposure, column, radius, angle, roll, then the rest
    numbers = np.random.default_rng(7).random(6)
    each = ObservationSampler(ACIS, redshift=(0.02, 0.2), roll=True, binning=(2,), centring=5 * u.kpc).draw(7)
    assert each.redshift == pytest.approx(0.02 * 10 ** numbers[0])
    assert each.roll.to_value(u.deg) == pytest.approx(360 * numbers[5])


def test_meta_of_several_bases_is_plain():
    meta = WIDE.to_meta()
    assert json.loads(json.dumps(meta)) == meta
    assert len(meta["bases"]) == len(meta["weights"]) == 13 and sum(meta["weights"]) == pytest.approx(1)
    assert meta["draw_background"] == pytest.approx([1 / 3, 3]) and meta["draw_centring_kpc"] == 50
    assert pickle.loads(pickle.dumps(WIDE)) == WIDE == ObservationSampler.wide()
    assert ObservationSampler.wide(["chandra"]) != WIDE
    with pytest.raises(ValueError, match="telescopes must be one of"):
        ObservationSampler.wide(["rosat"])


@pytest.mark.parametrize("rng", ["1", True, 1.5, np.random.RandomState(1)])
def test_bad_generator_is_named(rng):
    with pytest.raises(TypeError, match="rng must be a seed from 0 or a numpy Generator"):
        EVERYTHING.draw(rng)


def test_draws_without_a_seed_differ_and_are_recorded():
    first, second = EVERYTHING.draw(), EVERYTHING.draw()
    assert first != second
    assert first.to_meta()["nh_column_cm-2"] != second.to_meta()["nh_column_cm-2"]
