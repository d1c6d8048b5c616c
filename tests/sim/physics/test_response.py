"""The packaged effective areas against the calibration files they were read off."""

import numpy as np
import pytest
from astropy.io import fits

from astroclassify.sim.physics._absorption import transmission
from astroclassify.sim.physics._plasma import load_emissivity
from astroclassify.sim.physics._response import RESPONSES, Response, load_response


def arf(shared_data, name):
    """Energies, widths [keV] and areas [cm2] of the calibration file."""
    cycle = name.rsplit("-", 1)[1].replace("cycle", "cy")
    table = fits.getdata(shared_data / "responses" / f"acisi_aimpt_{cycle}.arf", 1)
    low, high, area = (np.asarray(table[key], dtype=float) for key in ("ENERG_LO", "ENERG_HI", "SPECRESP"))
    return 0.5 * (low + high), high - low, area


@pytest.mark.real_data
@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("low, high", [(0.5, 2.0), (2.0, 7.0), (0.5, 7.0), (7.0, 10.0)])
def test_band_averages(shared_data, name, low, high):
    energy, width, area = arf(shared_data, name)
    band = (energy > low) & (energy < high)
    ours = load_response(name).area(energy[band])
    assert np.average(ours, weights=width[band]) == pytest.approx(np.average(area[band], weights=width[band]), rel=0.01)


@pytest.mark.real_data
@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("kT", [0.5, 1.0, 3.0, 8.0])
def test_counts_of_a_cluster(shared_data, name, kT):
    """Count rate of an absorbed plasma in 0.5 to 7 keV, the curve in bins against the full calibration: within 1.2%."""
    energy, _, area = arf(shared_data, name)
    table = load_emissivity()
    seen = transmission(table.energy, 4e20) * ((table.energy > 0.5) & (table.energy < 7.0))
    ours = table.spectrum(kT, 0.3) @ (seen * load_response(name).area(table.energy))
    theirs = table.spectrum(kT, 0.3) @ (seen * np.interp(table.energy, energy, area))
    assert ours == pytest.approx(theirs, rel=0.012)


def test_known_figures():
    """Some 600 cm2 at the peak; contamination had taken nearly all that was below 0.7 keV by cycle 19."""
    early, late = load_response("acis-i-cycle0"), load_response("acis-i-cycle19")
    assert load_response() is early and early.name == "acis-i-cycle0"
    assert 600 < early.effective_area.max() < 720
    assert late.area(0.6) < 0.05 * early.area(0.6)
    energy = np.linspace(4.0, 7.0, 20)
    np.testing.assert_allclose(late.area(energy), early.area(energy), rtol=0.2)


def test_steps_and_ends():
    response = Response("toy", np.array([1.0, 2.0, 4.0]), np.array([10.0, 20.0]))
    np.testing.assert_array_equal(response.area([0.5, 1.0, 1.5, 2.0, 3.9, 4.0, 4.1]), [0, 10, 10, 20, 20, 20, 0])
    assert response.area(1.5) == 10.0
    with pytest.raises(ValueError, match="energy must not be NaN"):
        response.area([1.0, np.nan])


def test_unknown_name():
    with pytest.raises(ValueError, match=r"response must be one of \('acis-i-cycle0', .*'soxs:'.*, got 'epic'"):
        load_response("epic")
