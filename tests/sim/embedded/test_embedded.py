"""The embedded clusters: their physics against formulae, their cells, their files against illustris_python."""

import numpy as np
import pytest
from astropy import constants
from astropy import units as u
from astropy.table import QTable
from scipy.integrate import trapezoid

from astroclassify.batch import derive_rng
from astroclassify.exceptions import OutputError
from astroclassify.sim import EmbeddedPopulation, Halo, open_snapshot, write_embedded_snapshot
from astroclassify.sim.embedded import _physics as physics
from astroclassify.sim.embedded._accept import entropy_fits
from astroclassify.sim.embedded._cells import CORE, cell_masses, draw_cells
from astroclassify.sim.embedded._cluster import Recipe, draw_cluster
from astroclassify.sim.embedded._entropy import entropy_weights, rough_cooling_time

h5py = pytest.importorskip("h5py")
illustris_python = pytest.importorskip("illustris_python")

COARSE = {"cell_mass": 3e9 * u.Msun, "max_cells": None}
PARAMETRIC, REAL = Recipe(real=False), Recipe(real=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Four clusters and two small groups in three files."""
    path = tmp_path_factory.mktemp("embedded") / "sim"
    return write_embedded_snapshot(path, EmbeddedPopulation(4, rng=11, **COARSE), n_files=3)


@pytest.fixture(scope="module")
def relaxed():
    """One undisturbed cluster of 3e14 Msun and its cells."""
    rng = derive_rng(2, "relaxed")
    cluster = draw_cluster(rng, 3e14, PARAMETRIC, relaxed=True)
    return cluster, draw_cells(cluster, rng, cell_mass=1.1e7, max_cells=60000)


# ---- physics


def test_radius_encloses_500_times_the_critical_density():
    from astropy.cosmology import FlatLambdaCDM

    critical = FlatLambdaCDM(H0=67.74, Om0=0.3089).critical_density0
    r_500 = physics.r_500_of(3e14) * u.kpc
    assert (3e14 * u.Msun / (4 / 3 * np.pi * r_500**3) / critical).to_value(u.one) == pytest.approx(500, rel=1e-3)


def test_nfw_mass_is_the_integral_of_its_density():
    halo = physics.Nfw(3e14, 2.7)
    r_s = halo.r_500 / 2.7
    radius = np.geomspace(1e-5, 1, 20000) * halo.r_500
    density = 1 / (radius / r_s) / (1 + radius / r_s) ** 2
    mass = np.concatenate([[0], np.cumsum(np.diff(radius) * 4 * np.pi * (radius**2 * density)[1:])])
    assert mass[-1] / mass[9000] == pytest.approx(halo.mass(radius[-1]) / halo.mass(radius[9000]), rel=0.01)
    assert halo.mass(halo.r_500) == pytest.approx(3e14)


def test_mass_of_a_neighbour_in_a_sphere():
    halo = physics.Nfw(1e14, 3.0)
    r_500 = halo.r_500
    # far away none of it, at the centre all of it, halfway what points drawn from it say
    assert halo.mass_in_sphere(r_500, 1e-3 * r_500) == pytest.approx(1e14, rel=0.03)
    rng = np.random.default_rng(1)
    grid = np.geomspace(1e-3, 2, 500) * r_500
    distance = 0.7 * r_500
    radius = np.interp(rng.random(200000) * halo.mass(grid[-1]), halo.mass(grid), grid)
    direction = rng.standard_normal((200000, 3))
    points = radius[:, None] * direction / np.linalg.norm(direction, axis=1)[:, None]
    inside = np.linalg.norm(points - [distance, 0, 0], axis=1) < r_500
    assert halo.mass_in_sphere(r_500, distance) == pytest.approx(halo.mass(grid[-1]) * inside.mean(), rel=0.02)


def test_central_galaxy_is_part_of_the_mass():
    """Half of the stars of a Hernquist sphere are within 2.41 of its scale, and M500 stays what it is."""
    bare, halo = physics.Nfw(3e14, 3.0), physics.Nfw(3e14, 3.0, 8e11)
    assert halo.mass(halo.r_500) == pytest.approx(3e14)
    half = 2.414 * 11.0
    assert halo.mass(half) - bare.mass(half) == pytest.approx(4e11, rel=0.02)


def test_concentration_by_hand():
    # Dutton & Maccio 2014 at their pivot mass of 1e12 Msun/h: c200 = 10^0.905
    c_200, m_200 = 10**0.905, 1e12 / 0.6774

    def shape(x):
        return np.log(1 + x) - x / (1 + x)

    c_500 = physics.concentration_500(m_200 * shape(0.65 * c_200) / shape(c_200))
    assert 0.6 * c_200 < c_500 < 0.7 * c_200
    assert shape(c_500) / c_500**3 == pytest.approx(2.5 * shape(c_200) / c_200**3, rel=0.02)


def test_mass_function_predicts_the_number_of_tng300_clusters():
    """Su et al. (2020) find 318 groups above 10^13.75 in (205 Mpc/h)^3; baryons lower M500 somewhat there."""
    log_mass, density = physics.mass_function()
    grid = np.linspace(13.75, 15.5, 500)
    number = trapezoid(np.exp(np.interp(grid, log_mass, np.log(density))), grid) * (205 / 0.6774) ** 3
    assert 280 < number < 480


@pytest.mark.parametrize(
    ("m_500", "k_0", "alpha"), [(6e13, 5, 1.2), (3e14, 30, 1.0), (1.1e15, 200, 0.8), (1e14, 150, 1.5)]
)
def test_gas_is_hydrostatic_and_keeps_entropy_and_mass(m_500, k_0, alpha):
    halo = physics.Nfw(m_500, physics.concentration_500(m_500), physics.central_galaxy(m_500))
    entropy = physics.EntropyProfile(k_0, 130.0, alpha, physics.ENTROPY_BREAK * halo.r_500)
    gas_mass = physics.gas_fraction(m_500) * m_500
    gas = physics.solve_hydrostatic(halo, entropy, gas_mass)
    radius, density = gas.radius * u.kpc, gas.density * u.Msun / u.kpc**3
    # pressure and gravity from constants alone
    pressure = density / (physics.MU * constants.m_p) * gas.temperature * u.keV
    gravity = constants.G * halo.mass(gas.radius) * u.Msun / radius**2
    slope = np.gradient(np.log(pressure.value), np.log(gas.radius))
    expected = -(density * gravity * radius / pressure).to_value(u.one)
    smooth = np.abs(gas.radius / halo.r_500 - 1) > 0.03
    smooth[[0, -1]] = False
    assert slope[smooth] == pytest.approx(expected[smooth], rel=0.03, abs=0.01)
    inside = gas.radius < halo.r_500
    assert np.interp(halo.r_500, gas.radius, gas.enclosed()) == pytest.approx(gas_mass, rel=0.01)
    n_e = (density / (physics.MU_E * constants.m_p)).to_value(u.cm**-3)
    assert (gas.temperature * n_e ** (-2 / 3))[inside] == pytest.approx(gas.entropy(gas.radius)[inside], rel=1e-3)
    if gas.entropy.k_0 == k_0:
        core = gas.radius < 0.2 * halo.r_500
        assert gas.entropy(gas.radius[core]) == pytest.approx(k_0 + 130 * (gas.radius[core] / 100) ** alpha)
    ratio = np.interp(halo.r_500, gas.radius, gas.temperature) / physics.virial_temperature(m_500)
    assert 0.49 < ratio < 0.96


def test_gas_fraction_at_pivot():
    # Lovisari et al. 2015, equation 9, with h70 = 0.9677
    assert physics.gas_fraction(5e13 / 0.96771) == pytest.approx(10**-0.16 * 0.1 * 0.96771**-1.5, rel=1e-3)
    assert 0.12 < physics.gas_fraction(1e15) < 0.16


# ---- entropy of real clusters

# Cavagnolo et al. (2009), table 5: K0 [keV cm2] and slope
KNOWN = (("ABELL_1795", 19.0, 1.2), ("ABELL_2029", 10.5, 0.95), ("2A_0335+096", 7.1, 1.4))


def test_accept_fits_agree_with_the_published_ones():
    """Cavagnolo et al. (2009), table 5: K0 and slope of well-known clusters (K0 in keV cm2)."""
    accept = entropy_fits()
    assert len(accept["name"]) > 120
    for name, k_0, alpha in KNOWN:
        row = list(accept["name"]).index(name)
        assert accept["k_0"][row] == pytest.approx(k_0, abs=2.0)
        assert accept["alpha"][row] == pytest.approx(alpha, abs=0.1)


@pytest.mark.real_data
def test_packaged_fits_come_from_the_tool(shared_data, tmp_path, request):
    """One cluster again, with the committed tool."""
    import importlib.util

    source = request.config.rootpath / "tools" / "fit_accept_profiles.py"
    spec = importlib.util.spec_from_file_location("fit_accept_profiles", source)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    clusters = tool.read_accept(shared_data / "profiles" / "accept_main_table.txt.gz")
    assert len(clusters) == 242
    result = tool.fit_cluster(clusters[KNOWN[0][0]])
    accept = entropy_fits()
    row = list(accept["name"]).index(KNOWN[0][0])
    assert result[:3] == pytest.approx([accept[name][row] for name in ("k_0", "k_100", "alpha")], rel=1e-2)


def test_weights_reach_the_class_fractions():
    for m_500 in (6e13, 2e14, 8e14):
        weight = entropy_weights(m_500, (0.11, 0.62, 0.27))
        assert weight.sum() == pytest.approx(1)
        accept = entropy_fits()
        ratio = m_500 / physics.mass_of_temperature(accept["temperature"])
        k_0 = accept["k_0"] * ratio ** (2 / 3 * accept["k_0"] / (accept["k_0"] + 30))
        k_100 = accept["k_100"] * ratio ** (2 / 3)
        core = k_0 + k_100 * (0.009 * physics.r_500_of(m_500) / 100) ** accept["alpha"]
        label = np.digitize(rough_cooling_time(core, m_500), [1.0, 7.7])
        assert [weight[label == k].sum() for k in range(3)] == pytest.approx([0.11, 0.62, 0.27])
        # ACCEPT as it is has more strong cool cores
        assert entropy_weights(m_500, None)[label == 0].sum() > 0.2


# ---- cells


def test_cells_of_a_relaxed_cluster(relaxed):
    cluster, cells = relaxed
    (body,) = cluster.bodies
    radius = np.sqrt(np.sum(cells["position"] ** 2, axis=1))
    r_500 = cluster.r_500
    # gas mass by radius, density and temperature at each cell
    for x in (0.03, 0.1, 0.5, 1.0):
        expected = np.interp(x * r_500, body.gas.radius, body.gas.enclosed())
        assert cells["mass"][radius < x * r_500].sum() == pytest.approx(expected, rel=0.03)
    log_r, nodes = np.log(np.maximum(radius, body.gas.radius[0])), np.log(body.gas.radius)
    density = np.interp(log_r, nodes, np.log(body.gas.density), right=-np.inf)
    assert np.log(cells["density"]) == pytest.approx(density, abs=1e-3)
    assert cells["temperature"] == pytest.approx(np.interp(log_r, nodes, body.gas.temperature), rel=1e-3)
    # volume filled once: sum of m/rho against the sphere
    volume = (cells["mass"] / cells["density"])[radius < r_500].sum()
    assert volume == pytest.approx(4 / 3 * np.pi * r_500**3, rel=0.03)
    # emission measure against the integral over the profile
    shells = body.gas.radius <= r_500
    r, density = body.gas.radius[shells], body.gas.density[shells]
    integral = trapezoid(4 * np.pi * r**3 * density**2, np.log(r))
    assert (cells["mass"] * cells["density"])[radius < r_500].sum() == pytest.approx(integral, rel=0.02)
    assert np.all(cells["velocity"] == 0)


def test_cells_are_spread_more_evenly_than_at_random(relaxed):
    cluster, cells = relaxed
    radius = np.sqrt(np.sum(cells["position"] ** 2, axis=1))
    shell = (radius > 0.2 * cluster.r_500) & (radius < 0.4 * cluster.r_500)
    unit = cells["position"][shell] / radius[shell][:, None]
    # counts in 12 cones of equal size about random axes: below Poisson, and no direction preferred
    rng = np.random.default_rng(5)
    axes = rng.standard_normal((60, 3))
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    counts = np.array([(unit @ axis > 0.9).sum() for axis in axes])
    assert counts.var() < 0.7 * counts.mean()
    assert counts.mean() == pytest.approx(0.05 * shell.sum(), rel=0.03)


def test_core_keeps_its_resolution():
    radius = np.geomspace(0.1, 2500, 800)
    density = 1e6 / (1 + (radius / 60) ** 2)
    mass = cell_masses(radius, density, 1000.0, 1.1e7, 50000)
    assert mass[radius < CORE * 1000] == pytest.approx(1.1e7)
    assert np.all(np.diff(mass) >= 0)
    assert trapezoid(4 * np.pi * radius**3 * density / mass, np.log(radius)) == pytest.approx(50000, rel=0.01)
    assert cell_masses(radius, density, 1000.0, 1.1e7, None) == pytest.approx(1.1e7)
    # a core that alone is too much is coarsened as well
    few = cell_masses(radius, density, 1000.0, 1.1e7, 2000)
    assert few[0] > 1.1e7
    assert trapezoid(4 * np.pi * radius**3 * density / few, np.log(radius)) == pytest.approx(2000, rel=0.01)


def test_cells_of_disturbed_clusters():
    """Volume is filled once whatever is added, masses stay near the one asked for, and everything occurs."""
    seen = {"merger": 0, "n_cavities": 0, "n_clumps": 0, "slosh_offset": 0, "cold_fraction": 0}
    for number in range(12):
        rng = derive_rng(5, "disturbed", number)
        cluster = draw_cluster(rng, 10 ** rng.uniform(13.75, 15), REAL if number % 2 else PARAMETRIC)
        cells = draw_cells(cluster, rng, cell_mass=1.1e7, max_cells=20000)
        assert 10000 < len(cells["mass"]) < 24000
        assert all(np.all(np.isfinite(values)) for values in cells.values())
        radius = np.sqrt(np.sum(cells["position"] ** 2, axis=1))
        volume = (cells["mass"] / cells["density"])[radius < cluster.r_500].sum()
        assert volume == pytest.approx(4 / 3 * np.pi * cluster.r_500**3, rel=0.12)
        core = radius < 0.02 * cluster.r_500
        if np.any(core):
            assert 0.4 < np.median(cells["mass"][core]) / 1.1e7 < 5
        for name in seen:
            seen[name] += cluster.truth[name] > 0
        total = sum(_mass_inside(body, cluster.r_500) for body in cluster.bodies)
        assert cluster.m_500 == pytest.approx(total, rel=0.02)
    assert all(count > 0 for count in seen.values()), seen


def _mass_inside(body, r_500):
    distance = np.sqrt(np.sum(body.centre**2))
    return float(body.halo.mass(r_500)) if distance == 0 else body.halo.mass_in_sphere(r_500, distance)


# ---- files


def test_illustris_python_reads_it(written, monkeypatch):
    # Of which older versions make a number of processes without making it a number.
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    base = str(written)
    groups = illustris_python.groupcat.loadHalos(base, 99, fields=["Group_M_Crit500", "GroupLenType", "GroupPos"])
    assert groups["count"] == 6
    total = 0
    for halo_id in range(6):
        gas = illustris_python.snapshot.loadHalo(base, 99, halo_id, "gas")
        assert gas["count"] == groups["GroupLenType"][halo_id, 0]
        if gas["count"]:
            # each group has consecutive identifiers that nobody else has
            assert np.array_equal(gas["ParticleIDs"], np.arange(total, total + gas["count"]) + 1)
        total += gas["count"]
    everything = illustris_python.snapshot.loadSubset(base, 99, "gas", fields=["Masses"])
    assert len(everything) == total
    header = illustris_python.groupcat.loadHeader(base, 99)
    assert header["BoxSize"] == 205000 and header["Ngroups_Total"] == 6


def test_a_halo_lies_across_files(written):
    with h5py.File(written.parent / "postprocessing/offsets/offsets_099.hdf5") as handle:
        files, halos = handle["FileOffsets/SnapByType"][:, 0], handle["Group/SnapByType"][:, 0]
    assert len(files) == 3
    assert not set(files[1:]) & set(halos)


def test_open_snapshot_reads_it(written):
    snapshot = open_snapshot(written)
    assert snapshot.name == "embedded-all-11" and snapshot.redshift == 0
    table = snapshot.select_halos(m_500_min=10**13.5 * u.Msun)
    assert list(table["halo_id"]) == [0, 1, 2, 3]
    truth = QTable.read(written.parent / "embedded_truth.ecsv")
    assert table["m_500"].to_value(u.Msun) == pytest.approx(truth["m_500"][:4].to_value(u.Msun), rel=1e-6)
    assert table["r_500"].to_value(u.kpc) == pytest.approx(physics.r_500_of(table["m_500"].value), rel=1e-6)
    for halo_id in range(4):
        halo = snapshot.read_halo(halo_id)
        assert isinstance(halo, Halo)
        r_500 = halo.r_500.value
        assert r_500 < halo.radius.value.max() < 4.5 * r_500
        fraction = halo.mass[halo.radius < halo.r_500].sum() / halo.m_500
        assert 0.03 < fraction < 0.2
        assert 0.05 < np.median(halo.metallicity.value) < 1.0
        assert np.median((halo.n_e / halo.n_h).value) == pytest.approx(1.158, abs=0.001)
    with pytest.raises(ValueError, match="halo 5 of .* has no gas"):
        snapshot.read_halo(5)
    assert snapshot.read_halo(4).m_500 < 10**13.5 * u.Msun


def test_files_hold_what_memory_holds(written):
    """Through files and back: the halos of the population, to the single precision of the files."""
    population, snapshot = EmbeddedPopulation(4, rng=11, **COARSE), open_snapshot(written)
    for halo_id in range(4):
        halo, stored = population.read_halo(halo_id), snapshot.read_halo(halo_id)
        assert stored.n_cells == halo.n_cells and stored.meta["n_excluded"] == halo.meta["n_excluded"]
        assert stored.position.value == pytest.approx(halo.position.value, abs=1e-3)
        for name in ("mass", "density", "temperature", "n_e", "metallicity"):
            assert getattr(stored, name).value == pytest.approx(getattr(halo, name).value, rel=1e-5)
        assert stored.velocity.value == pytest.approx(halo.velocity.value, abs=0.05)
    raw = illustris_python.snapshot.loadHalo(str(written), 99, 0, "gas", fields=["Coordinates"])
    assert np.ptp(raw, axis=0)[:2] == pytest.approx(205000, rel=0.01)


def test_abundances_on_request(written, tmp_path):
    """``GFM_Metals`` beside everything else, which stays as it is to the last bit: metals in the solar mixture."""
    population = EmbeddedPopulation(4, rng=11, **COARSE)
    base = write_embedded_snapshot(tmp_path / "sim", population, n_files=3, abundances=True)
    n_fields = 0
    for path in sorted(base.parent.rglob("*.hdf5")):
        with h5py.File(path) as rich, h5py.File(written.parent / path.relative_to(base.parent)) as plain:
            for group in plain:
                for name in plain[group]:
                    if isinstance(plain[group][name], h5py.Dataset):
                        assert np.array_equal(rich[group][name], plain[group][name]), name
                        n_fields += 1
            if "PartType0" in rich:
                assert set(rich["PartType0"]) - set(plain["PartType0"]) == {"GFM_Metals"}
                metals, total = rich["PartType0/GFM_Metals"][:], rich["PartType0/GFM_Metallicity"][:]
                assert metals.dtype == np.float32 and metals.shape == (len(total), 10) and np.all(metals >= 0)
                assert metals.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
                assert metals[:, 2:].sum(axis=1) == pytest.approx(total, rel=1e-5)
                # by mass half of the Sun's metals are oxygen, and 4% are elements that are not followed
                assert metals[:, 4] / total == pytest.approx(0.493, abs=0.002)
                assert metals[:, 9] / total == pytest.approx(0.04, abs=0.005)
    assert n_fields > 30
    assert open_snapshot(written).read_halo(0).abundances is None
    halo = open_snapshot(base).read_halo(0)
    assert halo.abundances.shape == (halo.n_cells, 7) and halo.abundances.dtype == np.float32
    assert halo.abundances.value == pytest.approx(np.repeat(halo.metallicity.value[:, None], 7, axis=1), rel=1e-5)


def test_cold_gas_is_filtered_out():
    rng = derive_rng(4, "cold")
    cluster = draw_cluster(rng, 2e14, Recipe(class_fractions=(1, 0, 0)))
    cells = draw_cells(cluster, rng, cell_mass=1.1e7, max_cells=20000)
    cold = cells["temperature"] < 0.0259
    assert 0 < cold.sum() < 0.05 * len(cold)
    assert 0 < np.sum(cells["star_formation_rate"] > 0) <= cold.sum()


def test_more_files_than_groups(tmp_path):
    base = write_embedded_snapshot(tmp_path / "many", EmbeddedPopulation(1, rng=1, **COARSE), n_files=8)
    snapshot = open_snapshot(base)
    halo = snapshot.read_halo(0)
    assert halo.meta["n_gas"] == snapshot.select_halos()["n_gas"][0]


def test_truth_table(written):
    truth = QTable.read(written.parent / "embedded_truth.ecsv")
    assert len(truth) == 4
    assert truth["central_entropy"].unit.is_equivalent(u.keV * u.cm**2)
    assert truth.meta["seed"] == 11


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"population": 4}, TypeError, "population must be an EmbeddedPopulation, got int"),
        ({"n_files": 0}, ValueError, "n_files must be a whole number from 1, got 0"),
        ({"abundances": "yes"}, TypeError, "abundances must be True or False, got 'yes'"),
    ],
)
def test_bad_arguments(tmp_path, changed, error, text):
    with pytest.raises(error, match=text):
        write_embedded_snapshot(tmp_path / "out", **{"population": EmbeddedPopulation(1, rng=1), **changed})
    assert list(tmp_path.iterdir()) == []


def test_output_in_the_way(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="output folder is not empty: .*full"):
        write_embedded_snapshot(tmp_path / "full", EmbeddedPopulation(1, rng=1))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="output folder is not empty: .*file"):
        write_embedded_snapshot(tmp_path / "file", EmbeddedPopulation(1, rng=1))
    with pytest.raises(OutputError, match="output folder cannot be made: .*below"):
        write_embedded_snapshot(tmp_path / "file" / "below", EmbeddedPopulation(1, rng=1))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "full"]


def test_nothing_half_written(tmp_path, monkeypatch):
    from astroclassify.sim.embedded import _write as _embedded

    def broken(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(_embedded.SnapshotWriter, "close", broken)
    with pytest.raises(OutputError, match="cannot write the snapshot to .*out: No space left"):
        write_embedded_snapshot(tmp_path / "out", EmbeddedPopulation(1, rng=1, **COARSE))
    assert list(tmp_path.iterdir()) == []
