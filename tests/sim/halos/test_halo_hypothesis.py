"""Any input to a halo: refused with the attribute's name, or good for the central measures and the engines."""

import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import Planck15
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astroclassify.schemes import Flag
from astroclassify.sim import Halo, Observation, expected_counts, expected_spectrum, measure_core

UNITS = {
    "position": u.kpc,
    "velocity": u.km / u.s,
    "mass": u.Msun,
    "density": u.g / u.cm**3,
    "temperature": u.keV,
    "n_e": u.cm**-3,
    "n_h": u.cm**-3,
    "metallicity": u.one,
    "abundances": u.one,
}
COLUMNS = {"position": (3,), "velocity": (3,), "abundances": (7,)}
GOOD = {"mass": 1e7, "density": 1e-26, "temperature": 3.0, "n_e": 6e-3, "n_h": 5e-3, "metallicity": 0.3}
SIGNED = ("position", "velocity")
NAMES = sorted(UNITS)
DARK = Observation(shape=(16, 16), background=0 * u.ct / u.s / u.arcsec**2)
WIDE = Observation(shape=(4, 4), width=1e9 * u.kpc)
DTYPES = ["f2", "f4", "f8", ">f4", ">f8", "longdouble", "i2", "i8", ">i4", "u8"]
WRONG_DTYPES = ["c16", "O", "bool", "U5"]


def attributes(n, **changes):
    """A good halo of n cells, with some attributes changed."""
    rows = np.ones(n)
    cells = {name: value * rows * UNITS[name] for name, value in GOOD.items()}
    return {
        "halo_id": 1,
        "simulation": "toy",
        "snapshot": 99,
        "redshift": 0.0,
        "m_500": 1e14 * u.Msun,
        "r_500": 700 * u.kpc,
        "centre": np.zeros(3) * u.kpc,
        "position": np.linspace(0.0, 5.0, 3 * n).reshape(n, 3) * u.kpc,
        "velocity": np.zeros((n, 3)) * u.km / u.s,
        "cosmology": Planck15,
        **cells,
        **changes,
    }


def make(n, **changes):
    """The halo, or None where it is refused; a refusal must be one line that names a changed attribute."""
    try:
        return Halo(**attributes(n, **changes))
    except (TypeError, ValueError) as error:
        # the mass says how many cells there are: with another length of it, all other arrays are wrong
        named = [*changes, "position"] if "mass" in changes else changes
        assert any(name in str(error) for name in named), error
        assert "\n" not in str(error)
        return None


def check_usable(halo, *, engine=True):
    """What every accepted halo owes: finite numbers that are not negative."""
    for name in ("volume", "cell_radius", "radius"):
        values = getattr(halo, name).value
        assert np.all(np.isfinite(values)) and np.all(values >= 0), name
    for weighting in ("mass", "volume", "emission"):
        core = measure_core(halo, weighting=weighting)
        values = [core.t_cool.value, core.n_e.value, core.temperature.value, core.metallicity, core.entropy.value]
        if core.n_cells:
            assert np.all(np.isfinite(values)) and min(values) >= 0, (weighting, core)
        else:
            assert core.flags & Flag.FAILED and np.all(np.isnan(values))
    if not engine:
        return
    found = [expected_spectrum(halo, WIDE, bin_width=2 * u.keV)["counts"].value, expected_counts(halo, DARK).data]
    for counts in found:
        assert np.all(np.isfinite(counts)) and np.all(counts >= 0)


def quantity(values, dtype, unit):
    """A Quantity of that very type, which ``values * unit`` would make double precision."""
    with np.errstate(all="ignore"):
        return u.Quantity(np.asarray(values).astype(dtype), unit, dtype=np.dtype(dtype), copy=True)


numbers = st.one_of(
    st.floats(width=64, allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-310, -1e-300, 1e300, -1e300, 1.7e308, np.nan, np.inf, -np.inf, -1.0, 1.0]),
    st.floats(1e-12, 1e12),
)
relaxed = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(name=st.sampled_from(NAMES), value=numbers, place=st.integers(0, 3), n=st.integers(1, 4))
def test_one_bad_or_odd_value(name, value, place, n):
    """NaN, infinite, negative, zero, denormal and huge values, in one cell."""
    values = np.full((n, *COLUMNS.get(name, ())), GOOD.get(name, 1.0))
    values.reshape(-1)[place % values.size] = value
    halo = make(n, **{name: values * UNITS[name]})
    if not np.isfinite(value) or (value < 0 and name not in SIGNED):
        assert halo is None
    if halo is not None:
        check_usable(halo)


@settings(relaxed, max_examples=50)
@given(data=st.data(), n=st.integers(1, 3))
def test_several_odd_attributes_at_once(data, n):
    """Extremes that are each allowed may still multiply: nothing overflows or divides by zero."""
    extremes = {
        "mass": [1e-10, 1e7, 1e16],
        "density": [1e-40, 1e-26, 1.0],
        "temperature": [1e-9, 1e-3, 3.0, 80.0, 1e4],
        "n_e": [0.0, 1e-30, 1e-3, 1e20],
        "n_h": [1e-30, 1e-3, 1e20],
        "metallicity": [0.0, 5e-324, 0.3, 1e6],
        "r_500": [1e-3, 700.0, 1e7],
    }
    changes = {}
    for name, choices in extremes.items():
        unit = UNITS.get(name, u.kpc)
        if name == "r_500":
            changes[name] = data.draw(st.sampled_from(choices)) * unit
        else:
            changes[name] = np.array(data.draw(st.lists(st.sampled_from(choices), min_size=n, max_size=n))) * unit
    for name, most in (("position", 1e7), ("velocity", 3e4)):
        rows = data.draw(st.lists(st.sampled_from([-most, 0.0, 1.0, most]), min_size=3 * n, max_size=3 * n))
        changes[name] = np.reshape(rows, (n, 3)) * UNITS[name]
    halo = Halo(**attributes(n, **changes))
    check_usable(halo)


@relaxed
@given(name=st.sampled_from(NAMES), dtype=st.sampled_from(DTYPES), n=st.integers(1, 3))
def test_number_types(name, dtype, n):
    """Whatever type of real number: double precision in native order inside, the same value as far as it goes."""
    unit = UNITS[name]
    if np.dtype(dtype).kind in "iu":
        # whole numbers need units in which the good values are large
        unit = {"density": u.Msun / u.kpc**3, "n_e": u.m**-3, "n_h": u.m**-3, "metallicity": u.percent}.get(name, unit)
    good = (GOOD.get(name, 2.0) * UNITS[name]).to(unit).value
    if np.dtype(dtype).itemsize == 2:
        good, unit = 3.0, {"density": u.Unit(1e-26 * u.g / u.cm**3), "mass": u.Unit(1e7 * u.Msun)}.get(name, unit)
    values = quantity(np.full((n, *COLUMNS.get(name, ())), good), dtype, unit)
    assert values.dtype == np.dtype(dtype)
    halo = make(n, **{name: values})
    assert halo is not None
    stored = getattr(halo, name)
    assert stored.dtype in ((float, np.float32) if name == "abundances" else (float,)) and stored.dtype.isnative
    assert stored.unit == UNITS[name]
    assert stored.value == pytest.approx(values.value.astype(float) * unit.to(UNITS[name]), rel=1e-6)
    check_usable(halo)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", WRONG_DTYPES)
def test_not_real_numbers(name, dtype):
    """Complex numbers, objects, booleans and text are refused by the halo, or cannot be a Quantity to begin with."""
    values = np.ones((2, *COLUMNS.get(name, ()))).astype(dtype)
    try:
        value = u.Quantity(values, UNITS[name], dtype=values.dtype)
    except (TypeError, ValueError):
        value = values
    if isinstance(value, u.Quantity) and value.dtype.kind == "f":
        pytest.skip(f"astropy turns {dtype} into floating point numbers")
    with pytest.raises(TypeError, match=name):
        Halo(**attributes(2, **{name: value}))


@relaxed
@given(
    name=st.sampled_from(NAMES),
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    n=st.integers(1, 3),
)
def test_shapes(name, shape, n):
    values = np.full(shape, GOOD.get(name, 1.0)) * UNITS[name]
    halo = make(n, **{name: values})
    assert (halo is not None) == (shape == (n, *COLUMNS.get(name, ())))


def test_shape_of_mass_sets_the_number_of_cells():
    with pytest.raises(ValueError, match=r"position must have shape \(3, 3\)"):
        Halo(**attributes(2, mass=np.full(3, 1e7) * u.Msun))


@relaxed
@given(name=st.sampled_from(NAMES), unit=st.sampled_from([u.kpc, u.kg, u.s, u.K, u.one, u.m**-3, u.mag, u.dex(u.one)]))
def test_units(name, unit):
    values = np.full((2, *COLUMNS.get(name, ())), 1e-3)
    value = u.Quantity(values, unit, subok=True) if unit != u.dex(u.one) else u.Dex(values)
    halo = make(2, **{name: value})
    if unit not in (u.mag, u.dex(u.one)):
        assert (halo is not None) == (unit.is_equivalent(UNITS[name]) and name != "mass")  # 1e-3 kg is no cell
    if halo is not None:
        check_usable(halo, engine=False)


@relaxed
@given(
    name=st.sampled_from(["redshift", "m_500", "r_500", "centre", "halo_id", "snapshot", "simulation"]),
    value=st.one_of(numbers, st.integers(-5, 5), st.none(), st.text(max_size=3), st.complex_numbers(), st.booleans()),
)
def test_attributes_of_the_halo_itself(name, value):
    unit = {"m_500": u.Msun, "r_500": u.kpc, "centre": u.kpc}.get(name)
    if unit is not None and isinstance(value, float | int | complex) and not isinstance(value, bool):
        with np.errstate(all="ignore"):
            value = (np.full(3, value) if name == "centre" else value) * unit
    halo = make(2, **{name: value})
    if halo is not None:
        check_usable(halo)


@pytest.mark.parametrize("abundances", [None, np.full((1, 7), 0.5) * u.one])
def test_one_cell(abundances):
    halo = Halo(**attributes(1, abundances=abundances))
    check_usable(halo)
    assert measure_core(halo).flags & Flag.FEW_CELLS


def test_masked_values_are_refused():
    from astropy.utils.masked import Masked

    value = Masked(np.full(3, 3.0) * u.keV, mask=[False, True, False])
    with pytest.raises(ValueError, match="temperature must not have masked values, got 1"):
        Halo(**attributes(3, temperature=value))
    halo = Halo(**attributes(3, temperature=Masked(np.full(3, 3.0) * u.keV)))
    assert type(halo.temperature) is u.Quantity


def test_arrays_as_they_should_be_are_not_copied():
    mass = np.full(3, 1e7) * u.Msun
    assert np.shares_memory(Halo(**attributes(3, mass=mass)).mass, mass)
    strided = np.full((3, 14), 0.3, dtype="f4")[:, ::2] * u.one
    assert Halo(**attributes(3, abundances=strided)).abundances.flags.c_contiguous
