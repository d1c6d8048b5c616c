"""Photons drawn for all cells at once beside those of pyXSIM's own loop: a cool core, a non-cool core, a merger."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import ks_2samp

from astroclassify.sim import Observation, open_snapshot, write_embedded_snapshot
from astroclassify.sim.engines import _pyxsim
from astroclassify.sim.engines._direct import photon_flux_factor
from astroclassify.sim.physics._plasma import interpolate, load_emissivity, table_position

# not importorskip: the first import must be the package's own, which keeps the user's home clean
if any(importlib.util.find_spec(name) is None for name in ("pyxsim", "h5py", "illustris_python")):
    pytest.skip("pyxsim, h5py or illustris_python is not installed", allow_module_level=True)

OBSERVATION = Observation(background=0 * u.ct / u.s / u.arcsec**2, exposure=40 * u.ks)
AREA = 500.0
# by what the truth table of this population says of them
HALOS = {"cool core": 2, "non-cool core": 4, "merger": 5}
CHANCE = 0.001


@pytest.fixture(scope="module")
def halos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("population") / "snapshot"
    snapshot = open_snapshot(write_embedded_snapshot(folder, n_halos=6, rng=1, max_cells=20_000))
    # pyXSIM's loop gets one metallicity
    return {name: replace(snapshot.read_halo(number), abundances=None) for name, number in HALOS.items()}


def draw(halo, seed):
    """What the file of photons holds (place [kpc] and photons of each cell, energies), and the projected events."""
    import h5py

    with _pyxsim.photons(halo, OBSERVATION, area=AREA, rng=np.random.default_rng(seed)) as photon_set:
        with h5py.File(photon_set.folder / "photons.h5") as file:
            cells = {name: file["data"][name][:] for name in ("x", "y", "z", "num_photons", "energy")}
        return cells, photon_set.project("y", nh_column=4e20, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module", params=list(HALOS))
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
    seen = _pyxsim.in_field(halo, OBSERVATION)
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
    rate *= photon_flux_factor(0.05, halo.cosmology) * AREA * 40e3
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
