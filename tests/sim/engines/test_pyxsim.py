"""The pyXSIM engine's photons: any line of sight, abundances of each element, and the loop of pyXSIM itself."""

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import ks_2samp

from astroclassify.sim import EmbeddedPopulation, Observation, make_mocks
from astroclassify.sim.engines import _pyxsim
from astroclassify.sim.engines._direct import photon_flux_factor
from astroclassify.sim.engines._spectral_model import SpectralModel
from astroclassify.sim.physics._constants import ELEMENTS
from astroclassify.sim.physics._plasma import components, interpolate, load_emissivity, table_position
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


def test_photons_are_made_once_per_halo(ball, tmp_path, monkeypatch):
    calls = []
    draw_photons = _pyxsim.photons
    monkeypatch.setattr(_pyxsim, "photons", lambda *args, **how: calls.append(1) or draw_photons(*args, **how))
    snapshot = SimpleNamespace(name="toy", snapshot=99, read_halo=lambda number: ball)
    settings = Observation(exposure=1 * u.ks, shape=(32, 32))
    make_mocks(snapshot, [12], observation=settings, out=tmp_path, rng=1, progress=False)
    assert calls == [1]


def test_photons_of_many_cells_are_poisson():
    model = SpectralModel(0.05, 0.5, 7.0)
    n = 20000
    kT, metallicity = np.full(n, 3.3), np.full(n, 0.4)
    h_he, metals, _ = model.get_spectrum(3.3)
    expected = 2.5
    norm = np.full(n, expected / (h_he.sum() + 0.4 * metals.sum()))
    number, energies = model.draw(kT, metallicity, norm, np.random.default_rng(1))
    assert energies.size == number.sum()
    assert number.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / n))
    assert number.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / n) + 4 / np.sqrt(expected * n))
    # energies follow the spectrum in every bin
    bins = np.linspace(0.5, 7.0, 27)
    found, _ = np.histogram(energies, bins)
    spectrum = (h_he + 0.4 * metals)[0]
    cumulative = np.interp(bins, model.ebins, np.concatenate([[0.0], np.cumsum(spectrum)])) / spectrum.sum()
    wanted = energies.size * np.diff(cumulative)
    chi2 = np.sum((found - wanted) ** 2 / wanted)
    assert chi2 < chi2_distribution.ppf(0.999, len(wanted))


def test_photons_drawn_at_once_are_those_of_pyxsim_s_own_loop(ball, monkeypatch):
    observation = Observation(background=DARK, exposure=10 * u.ks)

    def draw(seed):
        with _pyxsim.photons(ball, observation, area=600.0, rng=np.random.default_rng(seed)) as photon_set:
            return photon_set.project("z", nh_column=0.0, rng=np.random.default_rng(seed))

    ours = draw(1)
    monkeypatch.delattr(_pyxsim._source_model_class(), "process_data")
    stock = draw(2)
    assert stock.energy.size > 5e4
    assert abs(ours.energy.size - stock.energy.size) < 4 * np.sqrt(2 * stock.energy.size)
    assert ks_2samp(ours.energy, stock.energy).pvalue > 0.01
    # the photons of each cell have its place: temperature rises with the cells' number, place does not
    assert ks_2samp(np.hypot(ours.x, ours.y), np.hypot(stock.x, stock.y)).pvalue > 0.01


def test_each_cell_gets_its_own_spectrum(toy_halo):
    # a cool cell to the left, a hot one to the right
    halo = toy_halo([[-200, 0, 0], [200, 0, 0]], radius=5, kT=[0.5, 8.0], n_e=0.1)
    observation = Observation(background=DARK)
    with _pyxsim.photons(halo, observation, area=600.0, rng=np.random.default_rng(3)) as photon_set:
        events = photon_set.project("z", nh_column=0.0, rng=np.random.default_rng(3))
    table = load_emissivity()
    energy = table.energy / 1.05
    band = (energy > 0.51) & (energy < 6.9)
    for side, kT in ((events.x < 0, 0.5), (events.x > 0, 8.0)):
        inside = side & (events.energy > 0.51) & (events.energy < 6.9)
        spectrum = table.spectrum(kT, 0.3)[band]
        mean = np.average(energy[band], weights=spectrum)
        scatter = np.sqrt(np.average((energy[band] - mean) ** 2, weights=spectrum))
        assert inside.sum() > 1000
        assert abs(events.energy[inside].mean() - mean) < 4 * scatter / np.sqrt(inside.sum()) + 0.003


def test_gas_that_comes_closer_is_bluer(toy_halo):
    beta = 0.02
    halo = toy_halo([[0, 0, 0]], radius=30, n_e=0.03, velocity=(0, 0, beta * 299792.458))
    observation = Observation(background=DARK, exposure=10 * u.ks)
    with _pyxsim.photons(halo, observation, area=600.0, rng=np.random.default_rng(1)) as photon_set:
        along, across = (photon_set.project(axis, nh_column=0.0, rng=np.random.default_rng(1)).energy for axis in "zx")
    # same photons in the same order: the longitudinal shift over the transverse one is 1 + beta
    assert along.size > 1000
    np.testing.assert_allclose(along / across, 1 + beta, rtol=1e-12)


def test_photons_of_a_cell_spread_like_a_ball(toy_halo):
    radius = 80.0
    halo = toy_halo([[20.0, 0, 0]], radius=radius)
    observation = Observation(background=DARK)
    with _pyxsim.photons(halo, observation, area=600.0, rng=np.random.default_rng(1)) as photon_set:
        events = photon_set.project("z", nh_column=0.0, rng=np.random.default_rng(1))
    n = events.x.size
    assert n > 1e4
    assert events.x.mean() == pytest.approx(20, abs=5 * radius / np.sqrt(5 * n))
    for spread in (events.x, events.y):
        assert np.var(spread) == pytest.approx(radius**2 / 5, rel=5 * np.sqrt(2 / n))


def test_cells_out_of_sight_along_every_axis_are_left_out(toy_halo):
    far = 10000.0
    halo = toy_halo([[0, 0, far], [far, 0, 0], [far, far, 0], [far, far, far], [505, 0, far]], radius=[1, 1, 1, 1, 10])
    kept = _pyxsim.in_field(halo, Observation())
    assert kept.tolist() == [True, True, False, False, True]


# --- beside the loop of pyXSIM: a cool core, a non-cool core, a merger ---

PAIR = Observation(background=0 * u.ct / u.s / u.arcsec**2, exposure=40 * u.ks)
COLLECTING = 500.0
# by what the truth table of this population says of them
CLUSTERS = {"cool core": 5, "non-cool core": 1, "merger": 4}
CHANCE = 0.001


@pytest.fixture(scope="module")
def halos():
    population = EmbeddedPopulation(6, rng=1, max_cells=20_000)
    return {name: population.read_halo(number) for name, number in CLUSTERS.items()}


def draw(halo, seed):
    """What the file of photons holds (place [kpc] and photons of each cell, energies), and the projected events."""
    import h5py

    with _pyxsim.photons(halo, PAIR, area=COLLECTING, rng=np.random.default_rng(seed)) as photon_set:
        with h5py.File(photon_set.folder / "photons.h5") as file:
            cells = {name: file["data"][name][:] for name in ("x", "y", "z", "num_photons", "energy")}
        return cells, photon_set.project("y", nh_column=4e20, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module", params=list(CLUSTERS))
def pair(request, halos):
    """The halo, and its photons from our draw and from pyXSIM's loop over the same spectra."""
    halo = halos[request.param]
    ours = draw(halo, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(_pyxsim._source_model_class(), "process_data")
        stock = draw(halo, 2)
    return halo, ours, stock


def groups_of(x, y, z):
    """Cells by octant and distance: 8 times 12 groups."""
    distance = np.searchsorted(np.geomspace(15, 1200, 11), np.sqrt(x**2 + y**2 + z**2))
    return distance * 8 + (x > 0) * 4 + (y > 0) * 2 + (z > 0)


def count(cells):
    return np.bincount(groups_of(cells["x"], cells["y"], cells["z"]), cells["num_photons"], minlength=96)


def assert_same(a, b):
    """Poisson counts of the same expectation."""
    enough = a + b > 20
    chi2 = np.sum((a - b)[enough] ** 2 / (a + b)[enough])
    assert enough.sum() > 5
    assert chi2 < chi2_distribution.ppf(1 - CHANCE, enough.sum()), (chi2, enough.sum())


def test_groups_of_cells_send_as_many(pair):
    _, (ours, _), (stock, _) = pair
    assert ours["energy"].size == ours["num_photons"].sum() > 1e5
    assert_same(count(ours), count(stock))
    # and not only on average: cells have Poisson numbers, the same of them none at all, one, two ...
    numbers = [np.bincount(np.minimum(cells["num_photons"], 30), minlength=31)[1:] for cells in (ours, stock)]
    assert_same(*numbers)


def test_groups_of_cells_send_what_they_emit(pair):
    halo, (ours, _), (stock, _) = pair
    seen = _pyxsim.in_field(halo, PAIR)
    table = load_emissivity()
    beta = np.sqrt(np.max(np.sum(halo.velocity[seen].to_value(u.km / u.s) ** 2, axis=1))) / 299792.458
    shift = np.sqrt((1 + beta) / (1 - beta))
    edges = table.energy_edges / 1.05
    # whole bins that cover the band and the Doppler shift
    inside = (edges[1:] > 0.5 / shift) & (edges[:-1] < 7.0 * shift)
    emission = (halo.n_e * halo.n_h * halo.volume).to_value(u.cm**-3)[seen]
    kT = np.clip(halo.temperature.to_value(u.keV), table.temperature[0], table.temperature[-1])[seen]
    place = table_position(table.temperature, kT)
    h_he, metals = (interpolate(part @ inside.astype(float), *place) for part in (table.h_he, table.metals))
    rate = emission * (h_he + halo.metallicity.value[seen] * metals)
    rate *= photon_flux_factor(0.05, halo.cosmology) * COLLECTING * 40e3
    expected = np.bincount(groups_of(*halo.position[seen].to_value(u.kpc).T), rate, minlength=96)
    enough = expected > 10
    for cells in (ours, stock):
        chi2 = np.sum((count(cells) - expected)[enough] ** 2 / expected[enough])
        assert chi2 < chi2_distribution.ppf(1 - CHANCE, enough.sum()), (chi2, enough.sum())


def test_energies_are_the_same(pair):
    _, (ours, ours_seen), (stock, stock_seen) = pair
    assert ks_2samp(ours["energy"], stock["energy"]).pvalue > 0.01
    # core and outskirts have other spectra
    for low, high in ((0, 50), (50, 200), (200, 700)):
        parts = []
        for cells in (ours, stock):
            distance = np.sqrt(cells["x"] ** 2 + cells["y"] ** 2 + cells["z"] ** 2)
            chosen = np.repeat((distance >= low) & (distance < high), cells["num_photons"])
            parts.append(cells["energy"][chosen])
        assert min(part.size for part in parts) > 1000
        assert ks_2samp(*parts).pvalue > CHANCE
    # shifted and absorbed on the way
    assert ks_2samp(ours_seen.energy, stock_seen.energy).pvalue > 0.01


def test_radial_profiles_are_the_same(pair):
    _, (_, ours), (_, stock) = pair
    edges = np.append(0, np.geomspace(5, 700, 30))
    assert_same(*(np.histogram(np.hypot(events.x, events.y), edges)[0].astype(float) for events in (ours, stock)))
    # and around: twelve sectors
    assert_same(*(np.histogram(np.arctan2(events.y, events.x), 12)[0].astype(float) for events in (ours, stock)))
