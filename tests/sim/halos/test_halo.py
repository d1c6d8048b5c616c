"""The Halo class: what it derives, and that every bad attribute is named."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import Planck15

from astroclassify.sim import Halo


def attributes(n=4):
    return {
        "halo_id": 3,
        "simulation": "toy",
        "snapshot": 99,
        "redshift": 0.0,
        "m_500": 1e14 * u.Msun,
        "r_500": 0.7 * u.Mpc,
        "centre": [1, 2, 3] * u.Mpc,
        "position": np.tile([3.0, 0.0, 4.0], (n, 1)) * u.kpc,
        "velocity": np.zeros((n, 3)) * u.km / u.s,
        "mass": np.full(n, 1e7) * u.Msun,
        "density": np.full(n, 1e4) * u.Msun / u.kpc**3,
        "temperature": np.full(n, 2000.0) * u.eV,
        "n_e": np.full(n, 0.01) / u.cm**3,
        "n_h": np.full(n, 8.6e3) / u.m**3,
        "metallicity": np.full(n, 30) * u.percent,
        "cosmology": Planck15,
    }


def test_units_and_derived_quantities():
    halo = Halo(**attributes())
    assert halo.r_500.unit == u.kpc and halo.r_500.value == pytest.approx(700)
    assert halo.temperature.unit == u.keV and halo.temperature[0].value == pytest.approx(2)
    assert halo.metallicity[0].value == pytest.approx(0.3)
    assert halo.n_cells == 4
    assert halo.radius.to_value(u.kpc) == pytest.approx(5)
    assert halo.volume.to_value(u.kpc**3) == pytest.approx(1000)
    assert (4 / 3 * np.pi * halo.cell_radius**3).to_value(u.kpc**3) == pytest.approx(1000)
    assert "Halo 3 of toy" in repr(halo)


def test_abundances_are_optional():
    assert Halo(**attributes()).abundances is None
    halo = Halo(**attributes(), abundances=np.full((4, 7), 30.0, dtype="f4") * u.percent)
    assert halo.abundances.dtype == np.float32 and halo.abundances.value == pytest.approx(0.3)


def test_frozen():
    halo = Halo(**attributes())
    with pytest.raises(dataclasses.FrozenInstanceError):
        halo.redshift = 1.0


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("halo_id", 1.5, TypeError, "halo_id must be a whole number"),
        ("snapshot", True, TypeError, "snapshot must be a whole number"),
        ("simulation", 5, TypeError, "simulation must be a string"),
        ("redshift", np.nan, ValueError, "redshift must be a finite number from -1e-06"),
        ("redshift", -0.5, ValueError, "redshift must be a finite number from -1e-06 .*, got -0.5"),
        ("m_500", 1e14, TypeError, "m_500 must be a Quantity"),
        ("m_500", -1 * u.Msun, ValueError, "m_500 must be larger than zero"),
        ("r_500", 1 * u.Msun, u.UnitsError, "r_500 must have a unit like kpc"),
        ("centre", [1, 2] * u.kpc, ValueError, r"centre must have shape \(3,\)"),
        ("position", np.zeros((4, 2)) * u.kpc, ValueError, r"position must have shape \(4, 3\)"),
        ("velocity", np.zeros((4, 3)) * u.kpc, u.UnitsError, "velocity must have a unit like km / s"),
        ("velocity", np.full((4, 3), np.inf) * u.km / u.s, ValueError, "velocity must be finite, got 12 values"),
        ("mass", np.zeros(4) * u.Msun, ValueError, "mass must be larger than zero"),
        ("mass", [] * u.Msun, ValueError, "mass must hold at least one gas cell"),
        ("density", np.ones(4), TypeError, "density must be a Quantity"),
        ("density", np.ones(3) * u.g / u.cm**3, ValueError, r"density must have shape \(4,\)"),
        ("temperature", [1, 2, np.nan, 1] * u.keV, ValueError, "temperature must be finite, got 1 value"),
        ("temperature", np.full(4, 1e7) * u.K, u.UnitsError, "temperature must have a unit like keV"),
        ("n_e", np.full(4, -1) / u.cm**3, ValueError, "n_e must not be negative"),
        ("metallicity", np.full(4, -1) * u.one, ValueError, "metallicity must not be negative"),
        ("metallicity", np.full(4, 1e7) * u.one, ValueError, "metallicity must be zero or between 0 and 1e.06"),
        ("temperature", np.full(4, 1e5) * u.keV, ValueError, "temperature must be between 1e-09 and 10000 keV"),
        ("velocity", np.full((4, 3), 1.0) * u.Mpc / u.s, ValueError, "velocity must lie within 30000 km / s of zero"),
        ("mass", np.full(4, 1 + 1j) * u.Msun, TypeError, "mass must hold real numbers, got complex128"),
        ("m_500", (1 + 1j) * u.Msun, TypeError, "m_500 must hold real numbers, got complex128"),
        ("redshift", "0", TypeError, "redshift must be a finite number .*, got '0'"),
        ("abundances", np.ones((4, 7)), TypeError, "abundances must be a Quantity with a unit like 1"),
        ("abundances", np.ones((4, 8)) * u.one, ValueError, r"abundances must have shape \(4, 7\)"),
        ("abundances", np.full((4, 7), -0.1) * u.one, ValueError, "abundances must not be negative, got -0.1"),
        ("abundances", np.full((4, 7), np.nan) * u.one, ValueError, "abundances must be finite, got 28 values"),
        ("cosmology", "Planck15", TypeError, "cosmology must be an astropy cosmology"),
        ("meta", 3, TypeError, "meta must be a dict"),
    ],
)
def test_bad_attribute_is_named(name, value, error, text):
    with pytest.raises(error, match=text) as caught:
        Halo(**{**attributes(), name: value})
    assert "\n" not in str(caught.value)
