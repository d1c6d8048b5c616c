"""Classes by extent and likelihood: the published numbers, cuts of one's own, thresholds from known truth."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, QTable, Table
from numpy.testing import assert_allclose
from scipy.stats import norm

from astroclassify.exceptions import EmptyResultWarning, SchemaError
from astroclassify.schemes import Flag
from astroclassify.survey import CUTS, Cuts, calibrate_cuts, classify_extent, select


def made(rows):
    """CANDIDATES columns that cuts look at, from (ext, ext_like, det_like, pnt_det_like)."""
    ext, ext_like, det_like, pnt = np.array(rows, float).reshape(-1, 4).T
    table = QTable({"ext": ext * u.arcsec, "ext_like": ext_like, "det_like": det_like, "pnt_det_like": pnt})
    table["source_id"] = [f"s{number}" for number in range(len(table))]
    table["flags"] = np.zeros(len(table), int)
    return table


# (EXT, EXT_LIKE, DET_LIKE, PNT DET_LIKE) and the class after the printed cuts of Faccioli et al. (2018).
PRINTED = [
    ((5.1, 33.1, 32.1, 0.0), "C1"),
    ((200.0, 5000.0, 9000.0, 90.0), "C1"),
    ((4.9, 33.1, 99.0, 0.0), ""),
    ((5.1, 33.1, 31.9, 0.0), ""),
    ((5.1, 32.9, 99.0, 0.0), "C2"),
    ((5.1, 15.1, 16.0, 0.0), "C2"),
    ((5.1, 14.9, 99.0, 99.0), ""),
    ((4.9, 20.0, 99.0, 99.0), ""),
    ((2.9, 9.0, 99.0, 30.1), "P1"),
    ((2.9, 9.0, 99.0, 29.9), ""),
    ((3.1, 9.0, 99.0, 99.0), ""),
    ((50.0, 0.0, 99.0, 30.1), "P1"),
    ((0.0, 0.0, 31.0, 31.0), "P1"),
    ((np.nan, np.nan, np.nan, np.nan), ""),
]


def test_published_cuts():
    table = made([row for row, _ in PRINTED])
    assert [str(name) for name in classify_extent(table)] == [name for _, name in PRINTED]
    assert list(CUTS) == ["C1", "C2", "P1"] and all("Faccioli" in cuts.origin for cuts in CUTS.values())


def test_no_candidate_is_in_two_published_classes():
    rng = np.random.default_rng(1)
    table = made(rng.choice([0, 1, 3, 4, 5, 6, 15, 20, 30, 32, 33, 40], (4000, 4)))
    assert sum(cuts.passed(table).astype(int) for cuts in CUTS.values()).max() == 1


def test_units_convert_and_order_is_kept():
    table = made([row for row, _ in PRINTED])
    table["ext"] = table["ext"].to(u.deg)
    assert list(select(table, "C1")["source_id"]) == ["s0", "s1"]
    assert list(select(table, ["C2", "C1"])["source_id"]) == ["s0", "s1", "s4", "s5"]


def test_failed_and_masked_rows_have_no_class():
    table = made([(9.0, 99.0, 99.0, 0.0)] * 2)
    table["flags"][0] = Flag.FAILED.value | Flag.MASKED.value
    assert [str(name) for name in classify_extent(table)] == ["", "C1"]
    masked = QTable(table, masked=True)
    masked["ext_like"].mask = [False, True]
    assert not CUTS["C1"].passed(masked).any()


def test_own_cuts():
    table = made([(9.0, 99.0, 99.0, 0.0), (90.0, 99.0, 99.0, 0.0), (4.0, 0.0, 99.0, 99.0)])
    large = Cuts("large", {"ext": (1 * u.arcmin, None)}, origin="choice")
    assert [str(name) for name in classify_extent(table, [large, "C1"])] == ["C1", "large", ""]
    either = Cuts("either", [{"ext": (None, 5 * u.arcsec)}, {"ext": (1 * u.arcmin, None)}])
    assert list(either.passed(table)) == [False, True, True] and either.columns == ("ext",)
    assert len(classify_extent(table[:0])) == 0
    with pytest.warns(EmptyResultWarning, match="none of 3"):
        assert len(select(table, Cuts("none", {"ext": (1 * u.deg, None)}))) == 0


def test_likelihood_convention_is_checked():
    table = made([(9.0, 99.0, 99.0, 0.0)])
    ours = Cuts("ours", {"ext_like": (10.0, None)}, likelihood="ln-p")
    assert ours.passed(table).all()
    table.meta["likelihood"] = "delta-c"
    with pytest.raises(SchemaError, match="ln-p.*delta-c"):
        ours.passed(table)


def test_bad_cuts():
    table = made([(9.0, 99.0, 99.0, 0.0)])
    with pytest.raises(ValueError, match="cuts.*'C3'"):
        select(table, "C3")
    with pytest.raises(SchemaError, match="pnt_det_like"):
        classify_extent(table["ext", "ext_like", "det_like"])
    for bounds in ({}, [], [{}], "ext"):
        with pytest.raises(ValueError, match="bounds"):
            Cuts("x", bounds)
    with pytest.raises(ValueError, match="'ext' must be .low, high."):
        Cuts("x", {"ext": 5 * u.arcsec})
    with pytest.raises(ValueError, match="low below high"):
        Cuts("x", {"ext_like": (5.0, 5.0)})
    with pytest.raises(SchemaError, match="'ext'.*unit"):
        Cuts("x", {"ext": (5.0, None)}).passed(table)
    with pytest.raises(SchemaError, match="'ext_like'.*unit"):
        Cuts("x", {"ext_like": (5.0 * u.arcsec, None)}).passed(table)


def simulated(rng, n=20_000):
    """Clusters and others with Gaussian EXT_LIKE, half and half: their purity above a threshold is known."""
    true = rng.random(n) < 0.5
    like = rng.normal(np.where(true, 60.0, 20.0), 15.0)
    table = made(np.column_stack([np.full(n, 9.0), like, *np.full((2, n), 99.0)]))
    return table, true


def test_threshold_gives_the_purity_asked_for():
    table, true = simulated(np.random.default_rng(3))
    found = calibrate_cuts(table, true, purity=0.95, rng=0)
    grid = np.linspace(0, 60, 6001)
    clusters, others = norm.sf(grid, 60, 15), norm.sf(grid, 20, 15)
    wanted = grid[np.argmax(clusters / (clusters + others) >= 0.95)]
    assert abs(found.ext_like - wanted) < 0.9  # known to about 0.3
    assert found.ext_like_interval[0] <= found.ext_like <= found.ext_like_interval[1]
    assert 0 < found.ext_like_interval[1] - found.ext_like_interval[0] < 2
    inside = found.cuts.passed(table)
    assert inside.sum() == found.n and found.purity == pytest.approx(true[inside].mean()) and found.purity >= 0.95
    assert found.purity_interval[0] < found.purity < found.purity_interval[1]
    assert found.completeness == pytest.approx(norm.sf(found.ext_like, 60, 15), abs=0.01)
    assert "0.95" in found.cuts.origin and "20000" in found.cuts.origin


def test_uncertainty_covers_the_true_threshold():
    grid = np.linspace(0, 60, 6001)
    clusters, others = norm.sf(grid, 60, 15), norm.sf(grid, 20, 15)
    wanted = grid[np.argmax(clusters / (clusters + others) >= 0.9)]
    covered = 0
    for seed in range(40):
        table, true = simulated(np.random.default_rng(seed), 500)
        low, high = calibrate_cuts(table, true, purity=0.9, rng=seed).ext_like_interval
        covered += low <= wanted <= high
    assert 18 <= covered <= 38  # 68 % of 40 is 27 +- 3


def test_threshold_by_hand():
    table = made([(9.0, like, 99.0, 0.0) for like in (10, 20, 30, 40, 40, 60)])
    true = np.array([True, False, True, True, False, True])
    # Equal values pass together: above 35 are two clusters of three.
    assert calibrate_cuts(table, true, purity=1.0).ext_like == 50.0
    found = calibrate_cuts(table, true, purity=0.7)
    assert (found.ext_like, found.n, found.purity, found.completeness) == (25.0, 4, 0.75, 0.75)
    everything = calibrate_cuts(table, np.ones(6, bool), purity=0.95)
    assert everything.n == 6 and everything.ext_like == 5.0 and everything.completeness == 1.0
    # Candidates that fail the other bounds do not count.
    table["det_like"][[1, 4]] = 20.0
    assert calibrate_cuts(table, true, purity=1.0).n == 4


def test_groups_are_resampled_together():
    table, true = simulated(np.random.default_rng(5), 400)
    twice = QTable(np.repeat(np.asarray(table["ext_like"]), 10)[:, None], names=["ext_like"])
    twice["ext"], twice["det_like"] = np.full(4000, 9) * u.arcsec, np.full(4000, 99.0)
    apart = calibrate_cuts(twice, np.repeat(true, 10), rng=0).ext_like_interval
    groups = np.repeat(np.arange(400), 10)
    together = calibrate_cuts(twice, np.repeat(true, 10), groups=groups, rng=0).ext_like_interval
    assert np.diff(together) > 1.5 * np.diff(apart)
    assert together == calibrate_cuts(twice, np.repeat(true, 10), groups=groups, rng=0).ext_like_interval


def test_seed_of_the_resampling_is_recorded():
    table, true = simulated(np.random.default_rng(5), 400)
    fresh, again = calibrate_cuts(table, true), calibrate_cuts(table, true)
    assert fresh.seed != again.seed and calibrate_cuts(table, true, rng=7).seed == 7
    assert calibrate_cuts(table, true, rng=fresh.seed) == fresh


def test_the_convention_goes_with_the_cuts():
    table, true = simulated(np.random.default_rng(5), 400)
    table.meta["likelihood"] = "ln-p"
    assert calibrate_cuts(table, true).cuts.likelihood == "ln-p"


def test_bad_calibration():
    table = made([(9.0, like, 99.0, 0.0) for like in (10, 20, 30)])
    with pytest.raises(ValueError, match="no EXT_LIKE threshold.*of 3 candidates.*1 are clusters"):
        calibrate_cuts(table, np.array([True, False, False]))
    with pytest.raises(ValueError, match="no EXT_LIKE threshold.*of 0 candidates"):
        calibrate_cuts(table, np.array([True, False, False]), ext=1 * u.deg)
    with pytest.raises(ValueError, match="is_cluster"):
        calibrate_cuts(table, [True, False])
    with pytest.raises(ValueError, match="is_cluster"):
        calibrate_cuts(table, [0.2, 0.4, 0.9])
    with pytest.raises(ValueError, match="purity"):
        calibrate_cuts(table, [True] * 3, purity=95)
    with pytest.raises(ValueError, match="groups"):
        calibrate_cuts(table, [True] * 3, groups=[1, 2])
    with pytest.raises(TypeError, match="ext"):
        calibrate_cuts(table, [True] * 3, ext=5)
    assert_allclose(calibrate_cuts(table, [True] * 3, purity=1).purity, 1)


def test_cuts_on_tables_of_other_kinds():
    cuts = Cuts("mine", {"ext": (5 * u.arcsec, None), "ext_like": (10, None)}, "ours")
    table = Table({"ext": [10.0, 0.2, 10.0], "ext_like": [30, 30, 30]}, masked=True)
    table["ext"].unit = u.arcsec
    table["ext_like"].mask[2] = True
    assert cuts.passed(table).tolist() == [True, False, False]
    table["ext"] = Column([1.0, 0.05, 1.0], unit=u.arcmin)
    assert cuts.passed(table).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="cuts must be a class or several"):
        select(table, [])
