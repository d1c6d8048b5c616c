"""The population made in memory: where its gas comes from, how it is drawn, and what others may rely on."""

import pickle
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from astroclassify.batch import derive_rng
from astroclassify.data import FOLDER as DATA
from astroclassify.exceptions import EmptyResultWarning
from astroclassify.sim import EmbeddedPopulation, Observation, cooling_time, make_mocks, measure_core
from astroclassify.sim.embedded import _physics as physics
from astroclassify.sim.embedded._accept import entropy_fits, whole_profiles
from astroclassify.sim.embedded._cells import draw_cells
from astroclassify.sim.embedded._cluster import Recipe, draw_cluster
from astroclassify.sim.embedded._real import draw_real_gas

SMALL = {"max_cells": 3000}


def same(first, second):
    names = ("position", "velocity", "mass", "density", "temperature", "metallicity")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


# ---- the public test stays out


def public_test():
    lines = (DATA / "accept_public_test.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.startswith("#")}


def test_no_packaged_table_holds_a_cluster_of_the_public_test():
    names = public_test()
    assert len(names) == 81
    tables = [QTable.read(path, format="ascii.ecsv") for path in sorted(DATA.glob("accept_*.ecsv"))]
    assert len(tables) == 2
    for table in tables:
        assert len(table) > 120 and not names & set(table["name"])


@pytest.mark.real_data
def test_public_test_is_every_third_cluster(shared_data):
    import gzip

    with gzip.open(shared_data / "profiles" / "accept_main_table.txt.gz", "rt") as lines:
        names = {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}
    assert public_test() == set(sorted(names)[::3])


def test_parts_share_no_real_cluster():
    for table in (entropy_fits, whole_profiles):
        train, validation, everything = (set(table(part)["name"]) for part in ("train", "validation", "all"))
        assert train | validation == everything and not train & validation
        assert 0.15 < len(validation) / len(everything) < 0.25
    held_out = set(whole_profiles("validation")["name"]) | set(entropy_fits("validation")["name"])
    assert not held_out & (set(whole_profiles("train")["name"]) | set(entropy_fits("train")["name"]))
    for part in ("train", "validation"):
        truth = EmbeddedPopulation(40, rng=1, part=part).truth()
        allowed = set(whole_profiles(part)["name"]) | set(entropy_fits(part)["name"])
        for column in ("profile", "profile_mixed", "profiles_merger"):
            used = {name for names in truth[column] for name in names.split("/") if name}
            assert used and used <= allowed
        assert set(truth["kind"]) == {"real", "parametric"}


# ---- whole real profiles


@pytest.mark.real_data
def test_smoothing_keeps_the_core(shared_data):
    """Cooling time within 0.012 R500 (or of the innermost shell) against ACCEPT, from n_e and T and from its column."""
    import gzip
    from collections import defaultdict

    shells = defaultdict(list)
    with gzip.open(shared_data / "profiles" / "accept_main_table.txt.gz", "rt") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                name, *values = line.split()
                r_in, r_out, n_e, kt, t_cool = (float(values[k]) for k in (0, 1, 2, 12, 17))
                shells[name].append((500 * (r_in + r_out), n_e, kt, t_cool))
    table = QTable.read(DATA / "accept_profiles.ecsv", format="ascii.ecsv")
    x = np.array(table.meta["x"])
    deviation, against_column = [], []
    for row in table:
        radius, n_e, kt, t_cool = np.array(sorted(shells[row["name"]])).T
        good = np.isfinite(t_cool) & (n_e > 0) & (kt > 0) & (t_cool > 0)
        at = radius / row["r_500"].value
        core = good & (at < max(0.012, at[good][0] * 1.001))

        def t_of(n_e, kt):
            return cooling_time(n_e / u.cm**3, kt * u.keV, 0.5).value

        smooth = [np.exp(np.interp(np.log(at[core]), np.log(x), np.log(row[c].value))) for c in ("n_e", "temperature")]
        deviation.append(np.log10(np.mean(t_of(*smooth)) / np.mean(t_of(n_e[core], kt[core]))))
        against_column.append(np.log10(np.mean(t_of(*smooth)) / np.mean(t_cool[core])))
    # all but ABELL_2187, whose second shell is a fifth of its neighbours, with an error of a half
    off = table["name"][np.abs(deviation) > 0.05]
    assert list(off) == ["ABELL_2187"] and np.max(np.abs(deviation)) < 0.1
    # the column has each shell's own metallicity
    assert np.median(against_column) == pytest.approx(0, abs=0.02)
    assert np.percentile(np.abs(against_column), 84) < 0.08


def test_packaged_profiles_are_gas_of_clusters():
    real = whole_profiles()
    assert np.all(np.isfinite(real["n_e"])) and np.all(real["n_e"] > 0)
    assert np.all((real["temperature"] > 0.1) & (real["temperature"] < 30))
    assert np.all(np.diff(np.log10(real["m_500"]).clip(13, 16)) != 0)
    # the outer slope of the density is that of the mean emission measure of clusters, -2.2 at R500
    at = np.searchsorted(real["x"], 1.0)
    slope = np.diff(np.log(real["n_e"]), axis=1)[:, at] / np.diff(np.log(real["x"]))[at]
    assert np.median(slope) == pytest.approx(-2.2, abs=0.1)


@pytest.mark.parametrize("m_500", [4e13, 2e14, 1.5e15])
def test_gas_of_real_profiles_scales_with_mass(m_500):
    """Temperature by M500^(1/1.67), gas mass near that of the scaling relation, core as in the real clusters."""
    r_500 = float(physics.r_500_of(m_500))
    fractions, temperatures = [], []
    for seed in range(60):
        gas, *names = draw_real_gas(derive_rng(seed, "gas"), m_500, r_500, "all")
        assert names[0] != names[1]
        fractions.append(gas.mass_within(r_500) / m_500)
        temperatures.append(np.interp(0.3 * r_500, gas.radius, gas.temperature))
    excess = np.log(np.array(fractions) / physics.gas_fraction(m_500))
    assert np.all(np.abs(excess) < 0.25 + 4 * 0.1) and abs(np.median(excess)) < 0.25
    assert np.median(temperatures) == pytest.approx(physics.temperature_of_mass(m_500), rel=0.12)


def test_density_fluctuations_keep_the_emission():
    """The profiles are those of observed emission: what is put on top of them leaves its mean alone."""
    ratios = []
    for seed in range(8):
        rng = derive_rng(seed, "fluctuations")
        cluster = draw_cluster(rng, 3e14, Recipe(real=True), relaxed=True)
        rough = type(cluster.disturbances)(density_rms=0.25)
        rough = type(cluster)(cluster.m_500, cluster.r_500, cluster.bodies, rough, cluster.sources, cluster.truth)
        sums = []
        for each in (cluster, rough):
            cells = draw_cells(each, derive_rng(seed, "cells"), cell_mass=1e9, max_cells=20000)
            inside = np.linalg.norm(cells["position"], axis=1) < cluster.r_500
            sums.append(np.sum((cells["mass"] * cells["density"])[inside]))
        ratios.append(sums[1] / sums[0])
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


# ---- the population as others use it


def test_a_halo_depends_on_seed_part_and_number_alone():
    population = EmbeddedPopulation(5, rng=3, **SMALL)
    backwards = {number: population.read_halo(number) for number in (4, 1)}
    again = pickle.loads(pickle.dumps(EmbeddedPopulation(9, rng=3, **SMALL)))
    assert all(same(again.read_halo(number), halo) for number, halo in backwards.items())
    for other in (EmbeddedPopulation(5, rng=4, **SMALL), EmbeddedPopulation(5, rng=3, part="train", **SMALL)):
        assert other.name != population.name
        assert other.read_halo(1).m_500 != backwards[1].m_500


def test_table_halos_and_truth_agree():
    population = EmbeddedPopulation(6, rng=8, log_mass=(14, 15), **SMALL)
    table, truth = population.select_halos(), population.truth()
    assert list(table["halo_id"]) == list(truth["halo_id"]) == list(range(6))
    assert np.all((table["m_500"] > 1e14 * u.Msun) & (table["m_500"] < 1e15 * u.Msun))
    for row, true in zip(table, truth, strict=True):
        halo = population.read_halo(row["halo_id"])
        assert halo.m_500.value == pytest.approx(row["m_500"].value, rel=1e-6)
        assert halo.r_500.value == pytest.approx(row["r_500"].value, rel=1e-6)
        assert halo.meta["profile"] == true["profile"] and halo.meta["kind"] == true["kind"]
        assert halo.simulation == population.name and halo.snapshot == population.snapshot
        assert len(halo.meta["point_sources"]) == true["n_sources"]
        assert np.isfinite(measure_core(halo, aperture=0.05).t_cool)
    heavy = population.select_halos(m_500_min=np.median(table["m_500"]))
    assert len(heavy) == 3
    with pytest.warns(EmptyResultWarning):
        assert len(population.select_halos(m_500_min=1e16 * u.Msun)) == 0


def test_masses_are_flat_and_weights_follow_a_mass_function():
    population = EmbeddedPopulation(3000, rng=5, log_mass=(13.6, 15.2))
    log_m = np.log10(population.select_halos()["m_500"].value)
    assert np.percentile(log_m, [0, 25, 50, 75, 100]) == pytest.approx([13.6, 14.0, 14.4, 14.8, 15.2], abs=0.05)
    weights = population.weights()
    assert weights.mean() == pytest.approx(1) and np.all(weights[log_m < 13.75] == 0)
    # half of the clusters of TNG300 are lighter than 10^13.95 Msun
    order = np.argsort(log_m)
    median = log_m[order][np.searchsorted(np.cumsum(weights[order]), 1500)]
    log_mass, density = physics.mass_function()
    grid = np.linspace(13.75, 15.2, 2000)
    number = np.cumsum(np.exp(np.interp(grid, log_mass, np.log(density))))
    assert median == pytest.approx(grid[np.searchsorted(number, number[-1] / 2)], abs=0.02)
    steep = population.weights(lambda m_500: (m_500.to_value(u.Msun) / 1e14) ** -1)
    assert steep.mean() == pytest.approx(1)
    assert steep * 10**log_m == pytest.approx(np.full(3000, (steep * 10**log_m)[0]))


def test_point_sources_are_plausible():
    """Central sources are more frequent and brighter in cool cores; members are few, and within the cluster."""
    population = EmbeddedPopulation(60, rng=2, max_cells=500)
    central, cool = [], []
    for number in range(60):
        halo = population.read_halo(number)
        sources = halo.meta["point_sources"]
        assert sources["luminosity"].unit == u.erg / u.s and sources["position"].shape == (len(sources), 3)
        distance = np.linalg.norm(sources["position"].to_value(u.kpc), axis=1)
        assert np.all(distance <= 1.5 * halo.r_500.value) and len(sources) < 40
        assert np.all((sources["luminosity"].value > 1e39) & (sources["luminosity"].value < 1e45))
        central.append(np.any(distance == 0))
        cool.append(halo.meta["central_entropy"] < 40)
    central, cool = np.array(central), np.array(cool)
    assert 0.1 < central.mean() < 0.7
    assert central[cool].mean() > central[~cool].mean()


def test_make_mocks_takes_it_for_a_snapshot(tmp_path):
    population = EmbeddedPopulation(2, rng=6, **SMALL)
    settings = {"observation": Observation(exposure=5 * u.ks, shape=(32, 32)), "engine": "direct", "progress": False}
    sample = make_mocks(population, population.select_halos(), out=tmp_path / "mocks", rng=1, axes="z", **settings)
    assert list(sample["message"]) == ["", ""] and np.all(sample["counts"].value > 0)
    assert list(sample["group_id"]) == [f"embedded-all-6-099-00000{number}" for number in range(2)]


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"n_halos": 0}, ValueError, "n_halos must be a whole number from 1, got 0"),
        ({"n_halos": 2.0}, TypeError, "n_halos must be a whole number from 1, got 2.0"),
        ({"max_cells": 3}, ValueError, "max_cells must be a whole number from 100, got 3"),
        ({"cell_mass": 1e7}, TypeError, "cell_mass must be a Quantity"),
        ({"cell_mass": -1 * u.Msun}, ValueError, "cell_mass must be larger than zero"),
        ({"rng": "1"}, TypeError, "rng must be a seed"),
        ({"part": "test"}, ValueError, "part must be"),
        ({"real_share": 1.5}, ValueError, "real_share must be"),
        ({"log_mass": (15, 14)}, ValueError, "log_mass must be two rising values of log10 M500 from 13.0 to 15.5"),
        ({"log_mass": 14}, ValueError, "log_mass must be two rising values"),
        ({"class_fractions": (1, 2)}, ValueError, "class_fractions must be three numbers"),
        ({"class_fractions": (-1, 1, 1)}, ValueError, "class_fractions must be three numbers"),
        ({"class_fractions": 0.5}, ValueError, "class_fractions must be three numbers"),
    ],
)
def test_bad_arguments(changed, error, text):
    with pytest.raises(error, match=text):
        EmbeddedPopulation(**{"n_halos": 1, "rng": 1, **changed})


def test_bad_requests():
    population = EmbeddedPopulation(2, rng=1)
    with pytest.raises(ValueError, match="halo_id must be a whole number from 0 to 1, got 2"):
        population.read_halo(2)
    with pytest.raises(ValueError, match="mass_function must be 'tng300' or a function"):
        population.weights("tng50")
    with pytest.raises(ValueError, match="mass_function must give 2 numbers from 0, not all 0"):
        population.weights(lambda m_500: np.zeros(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert population.weights(lambda m_500: np.ones(2)) == pytest.approx([1, 1])


@pytest.mark.slow
def test_population_is_varied():
    """Central cooling times and classes, with one number not settling the class."""
    population = EmbeddedPopulation(150, rng=3, max_cells=30_000)
    cores = [measure_core(population.read_halo(number)) for number in range(150)]
    t_cool = np.array([core.t_cool.to_value(u.Gyr) for core in cores])
    n_e = np.array([core.n_e.to_value(u.cm**-3) for core in cores])
    assert t_cool.min() < 0.3 and t_cool.max() > 12
    label = np.digitize(t_cool, [1.0, 7.7])
    # ACCEPT's shells nearest to 8 kpc: 34, 48 and 18 per cent
    assert np.bincount(label, minlength=3) / 150 == pytest.approx([0.34, 0.48, 0.18], abs=0.13)
    assert np.median(n_e[label == 0]) > np.median(n_e[label == 1]) > np.median(n_e[label == 2])
    assert n_e[label == 0].min() < np.percentile(n_e[label == 1], 80)
    assert n_e[label == 2].max() > np.percentile(n_e[label == 1], 20)
