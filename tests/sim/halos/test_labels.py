"""Cooling times against arithmetic and ACCEPT; central measures and classes of made-up halos."""

import gzip
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclassify.schemes import COOL_CORE, Flag
from astroclassify.sim import CoreMeasures, Halo, classify_t_cool, cooling_function, cooling_time, measure_core

PER_CM3 = u.cm**-3


def make_halo(position, *, n_e, kT=3.0, metallicity=0.3, mass=1e7, r_500=1000.0):
    """A halo with what `measure_core` reads; volumes follow from mass and density."""
    n = len(position)
    n_e, kT, metallicity, mass = (np.broadcast_to(np.asarray(x, float), n) for x in (n_e, kT, metallicity, mass))
    density = n_e * 1.17 * 1.6726e-24 * u.g * PER_CM3
    return SimpleNamespace(
        r_500=r_500 * u.kpc,
        position=np.asarray(position, float).reshape(n, 3) * u.kpc,
        mass=mass * u.Msun,
        density=density,
        volume=(mass * u.Msun / density).to(u.kpc**3),
        n_e=n_e * PER_CM3,
        n_h=n_e / 1.158 * PER_CM3,
        temperature=kT * u.keV,
        metallicity=metallicity * u.one,
    )


def ball(n, radius=11.0, seed=1):
    """Points within a sphere [kpc]."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    return direction * radius * rng.random((n, 1)) ** (1 / 3)


# --- cooling time --------------------------------------------------------------------------------------------------


def test_cooling_time_is_its_formula():
    """Thermal energy over emissivity, in units by astropy alone."""
    n_e, kT, metallicity = 0.02 * PER_CM3, 4 * u.keV, 0.5
    n_h = n_e / (1 + 2 * 0.24 / (4 * 0.76))
    n_i = n_h * (1 + 0.24 / (4 * 0.76))
    expected = 1.5 * (n_e + n_i) * kT / (n_e * n_h * cooling_function(kT, metallicity))
    assert cooling_time(n_e, kT, metallicity).to_value(u.s) == pytest.approx(expected.to_value(u.s), rel=1e-12)


def test_textbook_cooling_time():
    """Sarazin 1986 (RMP 58, 1), eq. 5.23: 8.5e10 yr (n_p/1e-3)^-1 (T/1e8 K)^1/2 is the isobaric time, 5/3 of ours."""
    ours = cooling_time(1.2e-3 * PER_CM3, 1e8 * u.K, 0.3, n_h=1e-3 * PER_CM3)
    assert (ours * 5 / 3).to_value(u.yr) == pytest.approx(8.5e10, rel=0.15)


@settings(deadline=None, max_examples=40)
@given(
    n_e=st.floats(1e-5, 1.0), kT=st.floats(0.03, 30.0), metallicity=st.floats(0.0, 3.0), factor=st.floats(1.1, 100.0)
)
def test_cooling_time_scales(n_e, kT, metallicity, factor):
    time = cooling_time(n_e * PER_CM3, kT * u.keV, metallicity)
    assert time > 0 * u.Gyr
    denser = cooling_time(n_e * factor * PER_CM3, kT * u.keV, metallicity)
    assert (time / denser).to_value(u.one) == pytest.approx(factor)
    assert cooling_time(n_e * PER_CM3, kT * u.keV, metallicity + 0.1) < time


def read_accept(path):
    """Columns of the ACCEPT profile table as float arrays by name."""
    with gzip.open(path, "rt") as stream:
        names = stream.readline().lstrip("#").split()
        rows = [line.split() for line in stream if not line.startswith("#")]
    return {name: np.array([float(row[i]) for row in rows]) for i, name in enumerate(names) if i}


@pytest.mark.real_data
def test_accept_cooling_times(shared_data):
    """
    ACCEPT's ``tcool3/2`` at its own n_e and T; the table has no metallicities, 0.3 solar is taken for all.

    All shells but those without a cooling time or with a temperature outside the table. Measured: median 1.010, 16-84%
    0.953-1.075 for 11157 shells; 1.014, 0.968-1.078 for the 10010 of T > 2 keV (0.962 at 0.5 solar, 1.108 at none).
    """
    accept = read_accept(shared_data / "profiles" / "accept_main_table.txt.gz")
    n_e, kT, theirs = accept["nelec"], accept["Tx"], accept["tcool3/2"]
    assert len(n_e) == 11164
    usable = np.isfinite(theirs) & (theirs > 0) & (kT > 0.03)
    assert usable.sum() >= 11157
    n_e, kT, theirs = n_e[usable] * PER_CM3, kT[usable] * u.keV, theirs[usable]
    ours = cooling_time(n_e, kT, 0.3, n_h=n_e / 1.2, particles_per_electron=1.92).to_value(u.Gyr)
    hot = kT > 2 * u.keV
    low, median, high = np.percentile(ours[hot] / theirs[hot], [16, 50, 84])
    assert median == pytest.approx(1.014, abs=0.005) and abs(median - 1) < 0.10
    assert low > 0.95 and high < 1.10
    assert np.median(ours / theirs) == pytest.approx(1.010, abs=0.005)


@pytest.mark.real_data
def test_accept_arithmetic(shared_data):
    """With ACCEPT's own Lambda the formula gives ACCEPT's time exactly: particle factors and units are right."""
    accept = read_accept(shared_data / "profiles" / "accept_main_table.txt.gz")
    usable = np.isfinite(accept["tcool3/2"]) & (accept["tcool3/2"] > 0) & (accept["Tx"] > 0.03)
    n_e, kT, theirs, lambda_accept = (accept[key][usable] for key in ("nelec", "Tx", "tcool3/2", "Lambda"))
    ours = cooling_time(n_e * PER_CM3, kT * u.keV, 0.3, n_h=n_e / 1.2 * PER_CM3, particles_per_electron=1.92)
    scaled = ours.to_value(u.Gyr) * cooling_function(kT * u.keV, 0.3).value / lambda_accept
    np.testing.assert_allclose(scaled, theirs, rtol=2e-3)


@pytest.mark.parametrize(
    "arguments, keywords, error, text",
    [
        ((0.01, 3 * u.keV, 0.3), {}, TypeError, "n_e must be a Quantity"),
        ((0.01 * u.g, 3 * u.keV, 0.3), {}, u.UnitsError, "n_e must have a unit"),
        ((0 * PER_CM3, 3 * u.keV, 0.3), {}, ValueError, "n_e must be larger than zero"),
        ((0.01 * PER_CM3, 3, 0.3), {}, TypeError, "temperature must be a Quantity"),
        ((0.01 * PER_CM3, 300 * u.keV, 0.3), {}, ValueError, "temperature must be between"),
        ((0.01 * PER_CM3, 3 * u.keV, -1), {}, ValueError, "metallicity"),
        ((0.01 * PER_CM3, 3 * u.keV, 0.3), {"n_h": -1 * PER_CM3}, ValueError, "n_h must be larger"),
        ((0.01 * PER_CM3, 3 * u.keV, 0.3), {"particles_per_electron": "2"}, TypeError, "particles_per_electron"),
        ((0.01 * PER_CM3, 3 * u.keV, 0.3), {"particles_per_electron": np.nan}, ValueError, "particles_per_electron"),
        ((0.01 * PER_CM3, 3 * u.keV, 0.3), {"particles_per_electron": 0.5}, ValueError, "particles_per_electron"),
    ],
)
def test_cooling_time_refuses(arguments, keywords, error, text):
    with pytest.raises(error, match=text):
        cooling_time(*arguments, **keywords)


# --- central measures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["mass", "volume", "emission"])
def test_uniform_core(weighting):
    """Uniform gas: every weighting gives the gas itself; what lies outside does not count."""
    halo = make_halo(np.vstack([ball(30), [[12.5, 0, 0]] * 5]), n_e=np.r_[np.full(30, 0.02), np.full(5, 5.0)])
    core = measure_core(halo, weighting=weighting)
    expected = cooling_time(0.02 * PER_CM3, 3 * u.keV, 0.3, n_h=0.02 / 1.158 * PER_CM3)
    assert core.t_cool.to_value(u.Gyr) == pytest.approx(expected.to_value(u.Gyr))
    assert core.n_e.to_value(PER_CM3) == pytest.approx(0.02)
    assert core.temperature.to_value(u.keV) == pytest.approx(3.0)
    assert core.metallicity == pytest.approx(0.3)
    assert core.entropy.to_value(u.keV * u.cm**2) == pytest.approx(3.0 * 0.02 ** (-2 / 3))
    assert core.n_cells == 30 and core.flags == Flag(0)


def test_weights():
    """Two phases of equal mass: by mass the mean, by volume nearer the thin gas, by emission nearer the dense."""
    n_e = np.repeat([0.04, 0.01], 10)
    halo = make_halo(ball(20), n_e=n_e)
    times = [cooling_time(x * PER_CM3, 3 * u.keV, 0.3, n_h=x / 1.158 * PER_CM3).to_value(u.Gyr) for x in (0.04, 0.01)]
    cores = {weighting: measure_core(halo, weighting=weighting) for weighting in ("mass", "volume", "emission")}
    t_cool = {name: core.t_cool.to_value(u.Gyr) for name, core in cores.items()}
    assert t_cool["mass"] == pytest.approx(np.mean(times))
    assert t_cool["volume"] == pytest.approx(np.average(times, weights=[1, 4]))  # volume goes as 1 / n
    assert t_cool["emission"] == pytest.approx(np.average(times, weights=[4, 1]))  # n^2 V as n
    assert cores["volume"].n_e.to_value(PER_CM3) == pytest.approx(np.average([0.04, 0.01], weights=[1, 4]))
    assert measure_core(halo).t_cool == cores["mass"].t_cool


def test_few_cells_and_none():
    few = measure_core(make_halo(ball(9), n_e=0.01))
    assert few.flags == Flag.FEW_CELLS and few.n_cells == 9 and np.isfinite(few.t_cool)
    assert measure_core(make_halo(ball(10), n_e=0.01)).flags == Flag(0)
    none = measure_core(make_halo(np.full((5, 3), 100.0), n_e=0.01))
    assert isinstance(none, CoreMeasures)
    assert none.n_cells == 0 and none.flags == Flag.FEW_CELLS | Flag.FAILED
    for name, unit in (("t_cool", u.Gyr), ("n_e", PER_CM3), ("temperature", u.keV), ("entropy", u.keV * u.cm**2)):
        value = getattr(none, name)
        assert np.isnan(value) and value.unit.is_equivalent(unit)
    assert np.isnan(none.metallicity)
    assert classify_t_cool(none.t_cool) == ""


def test_extreme_cells_do_not_stop_a_halo():
    """Gas beyond the table gets the Lambda of its end; a cell without electrons is left out."""
    halo = make_halo(ball(12), n_e=0.01, kT=np.r_[3.0, 200.0, 0.01, np.full(9, 3.0)])
    halo.n_e = np.r_[0.0, np.full(11, 0.01)] * PER_CM3
    core = measure_core(halo, weighting="volume")
    assert core.n_cells == 11 and np.isfinite(core.t_cool) and np.isfinite(core.entropy)


def test_aperture_scales_with_r_500():
    halo = make_halo(np.vstack([ball(20, 10.0), ball(20, 10.0) + [30.0, 0, 0]]), n_e=0.01)
    assert measure_core(halo).n_cells == 20
    assert measure_core(halo, aperture=0.05).n_cells == 40


def test_real_halo_class():
    """The same numbers from the package's own halo class."""
    from astropy.cosmology import FlatLambdaCDM

    toy = make_halo(ball(25), n_e=0.015)
    names = ("position", "mass", "density", "n_e", "n_h", "temperature", "metallicity", "r_500")
    halo = Halo(
        halo_id=0,
        simulation="toy",
        snapshot=99,
        redshift=0.0,
        m_500=3e14 * u.Msun,
        centre=np.zeros(3) * u.kpc,
        velocity=np.zeros((25, 3)) * u.km / u.s,
        cosmology=FlatLambdaCDM(67.74, 0.3089),
        **{name: getattr(toy, name) for name in names},
    )
    for weighting in ("mass", "volume", "emission"):
        ours, theirs = (measure_core(h, weighting=weighting).t_cool.value for h in (toy, halo))
        assert ours == pytest.approx(theirs)


def test_measure_core_refuses():
    halo = make_halo(ball(12), n_e=0.01)
    with pytest.raises(ValueError, match=r"weighting must be one of \('mass', 'volume', 'emission'\), got 'luck'"):
        measure_core(halo, weighting="luck")
    for aperture in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="aperture must be a finite number above 0"):
            measure_core(halo, aperture=aperture)
    for aperture in (12 * u.kpc, "0.012", None, True):
        with pytest.raises(TypeError, match="aperture must be a finite number above 0"):
            measure_core(halo, aperture=aperture)


# --- classes -------------------------------------------------------------------------------------------------------


def test_classes_and_their_bounds():
    """Su et al. 2020: CC below 1 Gyr, NCC above 7.7 Gyr; the bounds themselves are WCC."""
    t_cool = [[0.012, 0.999, 1.0], [7.7, 7.701, np.nan], [27.85, np.inf, 0.0]] * u.Gyr
    assert classify_t_cool(t_cool).tolist() == [["CC", "CC", "WCC"], ["WCC", "NCC", ""], ["NCC", "NCC", "CC"]]
    assert classify_t_cool(500 * u.Myr) == "CC" and isinstance(classify_t_cool(1 * u.s), str)
    assert set(classify_t_cool([0.5, 3, 9] * u.Gyr)) == set(COOL_CORE.classes)
    assert classify_t_cool([] * u.Gyr).shape == (0,)


def test_classify_refuses():
    with pytest.raises(TypeError, match="t_cool must be a Quantity"):
        classify_t_cool(3.0)
    with pytest.raises(u.UnitsError, match="t_cool must have a unit like Gyr"):
        classify_t_cool(3.0 * u.keV)
    with pytest.raises(ValueError, match="t_cool must not be negative, got -1.0"):
        classify_t_cool([1.0, -1.0] * u.Gyr)
