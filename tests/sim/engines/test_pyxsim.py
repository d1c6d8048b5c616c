"""The pyXSIM engine's photons: any line of sight, abundances of each element."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import ks_2samp

from astroclassify.sim import Observation
from astroclassify.sim.engines import _pyxsim
from astroclassify.sim.engines._spectral_model import SpectralModel
from astroclassify.sim.physics._constants import ELEMENTS
from astroclassify.sim.physics._plasma import components
from astroclassify.sim.physics._projection import projection

# not importorskip: the first import must be the package's own, which keeps the user's home clean
if importlib.util.find_spec("pyxsim") is None:
    pytest.skip("pyxsim is not installed", allow_module_level=True)

DARK = 0 * u.ct / u.s / u.arcsec**2


def photons(halo, observation=None, *, seed=1, **settings):
    observation = observation or Observation(background=DARK)
    return _pyxsim.photons(halo, observation, area=600.0, rng=np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("axis", [(0.3, -0.8, 0.5), (-1.0, 0.2, -3.0), (0, 0, 1), (0, 0, -2), (0, 1, 0)])
def test_clumps_land_where_the_projection_says(toy_halo, axis):
    places = np.array([[210.0, 120.0, -330.0], [-160.0, -260.0, 40.0]])
    halo = toy_halo(places, radius=3, n_e=0.3)
    right, up, _ = projection(axis)
    with photons(halo) as photon_set:
        events = photon_set.project(axis, nh_column=0.0, rng=np.random.default_rng(2))
    for place in places:
        near = np.hypot(events.x - place @ right, events.y - place @ up) < 20
        assert near.sum() > 1e3
        error = 5 * 3 / np.sqrt(5 * near.sum())
        assert events.x[near].mean() == pytest.approx(place @ right, abs=error)
        assert events.y[near].mean() == pytest.approx(place @ up, abs=error)


def test_direction_sees_what_the_letter_sees(ball):
    # along +y with up = z: the letter's image (right z, up x) turned by a quarter
    with photons(ball) as photon_set:
        letter = photon_set.project("y", nh_column=0.0, rng=np.random.default_rng(1))
        vector = photon_set.project((0, 1, 0), nh_column=0.0, rng=np.random.default_rng(2))
    assert abs(letter.x.size - vector.x.size) < 5 * np.sqrt(letter.x.size + vector.x.size)
    assert ks_2samp(letter.x, vector.y).pvalue > 0.01
    assert ks_2samp(-letter.y, vector.x).pvalue > 0.01
    assert ks_2samp(letter.energy, vector.energy).pvalue > 0.01


def test_gas_that_comes_closer_along_a_direction_is_bluer(toy_halo):
    beta = 0.02
    sight = np.array([1.0, 1.0, 1.0]) / np.sqrt(3)
    halo = toy_halo([[0, 0, 0]], radius=30, n_e=0.03, velocity=tuple(beta * 299792.458 * sight))
    with photons(halo) as photon_set:
        towards, away = (
            photon_set.project(sign * sight, nh_column=0.0, rng=np.random.default_rng(1)).energy for sign in (1, -1)
        )
    assert towards.size > 1000
    np.testing.assert_allclose(towards / away, (1 + beta) / (1 - beta), rtol=1e-12)


def test_gas_beside_the_field_along_all_axes_is_seen_from_a_direction(toy_halo):
    halo = toy_halo([[2000.0, 2000.0, 2000.0], [0, 0, 0]], radius=20, n_e=[0.1, 0.05])
    with photons(halo) as photon_set:
        assert photon_set.n_cells == 1
        diagonal = photon_set.project((1, 1, 1), nh_column=0.0, rng=np.random.default_rng(1))
        letter = photon_set.project("z", nh_column=0.0, rng=np.random.default_rng(1))
    assert np.hypot(diagonal.x, diagonal.y).max() < 100
    # emission goes with the square of the density
    expected = 5 * letter.x.size
    assert diagonal.x.size == pytest.approx(expected, abs=5 * np.sqrt(6 * expected))


def test_looking_along_a_direction_disturbs_no_letter(ball):
    def letter(first):
        with photons(ball) as photon_set:
            if first:
                photon_set.project(first, nh_column=0.0, rng=np.random.default_rng(5))
            return photon_set.project("x", nh_column=1e20, rng=np.random.default_rng(6))

    one, two = letter(None), letter((1, 2, 3))
    np.testing.assert_array_equal(one.energy, two.energy)
    np.testing.assert_array_equal(one.x, two.x)


def test_abundances_that_are_the_metallicity_change_nothing_but_the_draw(ball):
    same = replace(ball, abundances=np.repeat(ball.metallicity[:, np.newaxis], len(ELEMENTS), axis=1))
    events = []
    for halo in (ball, same):
        with photons(halo) as photon_set:
            events.append(photon_set.project("z", nh_column=0.0, rng=np.random.default_rng(1)))
    sizes = [event.energy.size for event in events]
    assert min(sizes) > 1e5
    assert abs(sizes[0] - sizes[1]) < 4 * np.sqrt(sum(sizes))
    assert ks_2samp(*(event.energy for event in events)).pvalue > 0.01


@pytest.mark.slow
def test_iron_alone_gives_its_own_lines(toy_halo):
    abundances = np.zeros((1, len(ELEMENTS)))
    abundances[0, ELEMENTS.index("Fe")] = 2.0
    halo = toy_halo([[0.0, 0, 0]], radius=30, kT=3.0, n_e=0.1, abundances=abundances * u.one)
    observation = Observation(background=DARK, redshift=0.01)
    with photons(halo, observation) as photon_set:
        energy = photon_set.project("z", nh_column=0.0, rng=np.random.default_rng(1)).energy
    tables, scales = components(halo)
    model = SpectralModel(0.01, 0.5, 7.0, tables)
    lower = np.searchsorted(model.Tvals, 3.0) - 1
    weight = (3.0 - model.Tvals[lower]) / (model.Tvals[lower + 1] - model.Tvals[lower])
    spectra = np.tensordot(scales[0], tables, 1)
    spectrum = (1 - weight) * spectra[lower] + weight * spectra[lower + 1]
    edges = model.emissivity.energy_edges / 1.01
    bins = np.linspace(0.6, 6.9, 127)
    cumulative = np.interp(bins, edges, np.concatenate([[0], np.cumsum(spectrum)]))
    inside = (energy > bins[0]) & (energy < bins[-1])
    wanted = inside.sum() * np.diff(cumulative) / (cumulative[-1] - cumulative[0])
    found = np.histogram(energy, bins)[0]
    assert wanted.min() > 20
    assert np.sum((found - wanted) ** 2 / wanted) < chi2_distribution.ppf(0.999, wanted.size)
    # the iron line at 6.7 keV stands out, and is not there for the same amount of all other elements
    line = slice(*np.searchsorted(bins, [6.55, 6.75]))
    assert found[line].sum() > 3 * found[line.start - 6 : line.stop - 6].sum()


def test_many_cells_are_drawn_in_parts(monkeypatch):
    from astroclassify.sim.engines import _spectral_model

    monkeypatch.setattr(_spectral_model, "_CELLS_AT_ONCE", 7)
    model = SpectralModel(0.05, 0.5, 7.0)
    kT = np.linspace(0.5, 9, 100)
    h_he, metals, _ = model.get_spectrum(kT)
    norm = 300 / (h_he + 0.3 * metals).sum(axis=1)
    number, energies = model.draw(kT, np.full(100, 0.3), norm, np.random.default_rng(1))
    assert number.shape == (100,)
    assert energies.size == number.sum()
    assert number == pytest.approx(300, abs=5 * np.sqrt(300))
    # photons are in the order of the cells: the hot half is harder
    middle = number[:50].sum()
    assert energies[middle:].mean() > energies[:middle].mean() + 0.3
    assert model.draw(np.zeros(0), np.zeros(0), np.zeros(0), np.random.default_rng(1))[1].size == 0


def test_energies_beyond_the_band_can_be_asked_for(ball):
    with photons(ball, energy_range=(0.3, 9.0)) as photon_set:
        energy = photon_set.project("z", nh_column=0.0, rng=np.random.default_rng(1)).energy
    assert energy.min() < 0.31
    assert energy.max() > 8.0
