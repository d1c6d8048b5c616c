"""One-to-one cross-match against brute force and astropy, and what it does with ties, gaps and poles."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclassify.exceptions import SchemaError
from astroclassify.survey import cross_match


def table(ra, dec, prefix="a"):
    out = QTable({"source_id": np.array([f"{prefix}{number}" for number in range(len(ra))], dtype="U9")})
    out["sky_position"] = SkyCoord(np.array(ra, dtype=float) * u.deg, np.array(dec, dtype=float) * u.deg)
    return out


def test_closest_pair_of_all_first():
    """In a row a0 b0 a1 b1 the near pair (b0, a1) is taken, though b0 is also the nearest of a0."""
    first, second = table([0, 3e-3], [0, 0]), table([2e-3, 5e-3], [0, 0], "b")
    pairs = cross_match(first, second, radius=9 * u.arcsec)
    assert list(pairs["source_id_other"]) == ["", "b0", "b1"]
    assert list(pairs["row"]) == [0, 1, -1] and list(pairs["row_other"]) == [-1, 0, 1]
    np.testing.assert_allclose(pairs["separation"].to_value(u.arcsec), [np.nan, 3.6, np.nan], rtol=1e-9)
    assert list(pairs["n_within"]) == [1, 2, 1]


def brute(first, second, radius):
    """All pairs, sorted; each taken while both are free."""
    separations = first[:, None].separation(second[None, :]).arcsec
    partner, taken = np.full(len(first), -1), set()
    order = sorted((separations[i, j], i, j) for i in range(len(first)) for j in range(len(second)))
    for separation, i, j in order:
        if separation <= radius and partner[i] < 0 and j not in taken:
            partner[i] = j
            taken.add(j)
    return partner, separations


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.0, 89.999, -60.0]))
def test_as_brute_force(seed, n, n_other, pole):
    rng = np.random.default_rng(seed)
    sky = [
        SkyCoord(rng.uniform(-0.01, 0.01, size) * u.deg, (pole + rng.uniform(-5e-4, 1e-3, size)) * u.deg)
        for size in (n, n_other)
    ]
    pairs = cross_match(*sky, radius=4 * u.arcsec)
    partner, separations = brute(*sky, 4)
    assert list(pairs["row"][:n]) == list(range(n)) and list(pairs["row_other"][:n]) == list(partner)
    assert sorted(pairs["row_other"][pairs["row_other"] >= 0]) == list(range(n_other))  # every row comes back once
    paired = partner >= 0
    np.testing.assert_allclose(
        pairs["separation"][:n][paired].value, separations[np.flatnonzero(paired), partner[paired]], atol=1e-9
    )
    assert np.all(np.isnan(pairs["separation"][:n][~paired])) and np.all(np.isnan(pairs["separation"][n:]))
    np.testing.assert_array_equal(pairs["n_within"][:n], np.sum(separations <= 4, axis=1))
    # No two that are not partners are nearer to each other than both are to theirs.
    own = np.where(paired, pairs["separation"][:n].value, np.inf)
    other = np.full(n_other, np.inf)
    other[partner[paired]] = own[paired]
    assert not np.any((separations < own[:, None] - 1e-9) & (separations < other[None, :] - 1e-9) & (separations <= 4))


def test_mutual_nearest_neighbours_are_always_paired():
    rng = np.random.default_rng(4)
    first = SkyCoord(rng.uniform(0, 1, 400) * u.deg, rng.uniform(-0.5, 0.5, 400) * u.deg)
    second = first.directional_offset_by(rng.uniform(0, 360, 400) * u.deg, rng.rayleigh(2, 400) * u.arcsec)
    second = second[rng.permutation(400)]
    pairs = cross_match(first, second, radius=20 * u.arcsec)
    there, _, _ = first.match_to_catalog_sky(second)
    back, _, _ = second.match_to_catalog_sky(first)
    mutual = back[there] == np.arange(400)
    close = mutual & (first.separation(second[there]) < 20 * u.arcsec)
    assert np.sum(close) > 350
    np.testing.assert_array_equal(pairs["row_other"][:400][close], there[close])


def test_equal_positions_pair_in_order():
    pairs = cross_match(table([1, 1, 1], [2, 2, 2]), table([1, 1], [2, 2], "b"), radius=1 * u.arcsec)
    assert list(pairs["row_other"]) == [0, 1, -1] and list(pairs["n_within"]) == [2, 2, 2]


def test_the_radius_is_sharp_and_the_sky_is_round():
    first = SkyCoord([359.9999, 10, 20] * u.deg, [0, 90, -90] * u.deg)
    second = SkyCoord([0.0001, 190, 200] * u.deg, [0, 90, -90] * u.deg)
    pairs = cross_match(first, second, radius=0.72001 * u.arcsec)
    assert list(pairs["row_other"]) == [0, 1, 2]
    for factor, rows in ((1 + 1e-9, 1), (1 - 1e-9, 2)):
        separation = factor * first[0].separation(second[0])
        assert len(cross_match(first[:1], second[:1], radius=separation)) == rows


def test_other_frames_and_missing_positions():
    first = table([10, np.nan, 30], [0, np.nan, 0])
    other = SkyCoord([30, np.nan, 10] * u.deg, [0, np.nan, 0] * u.deg)
    pairs = cross_match(first, other.galactic, radius=1 * u.arcsec)
    assert list(pairs["row_other"]) == [2, -1, 0, 1] and list(pairs["n_within"]) == [1, 0, 1, 0]
    assert list(pairs["source_id"]) == ["a0", "a1", "a2", ""]
    assert list(pairs["source_id_other"]) == ["", "", "", ""]


def test_nothing_to_match():
    some, none = table([1, 2], [0, 0]), table([], [])
    assert list(cross_match(some, none, radius=1 * u.arcsec)["row"]) == [0, 1]
    assert list(cross_match(none, some, radius=1 * u.arcsec)["row"]) == [-1, -1]
    empty = cross_match(none, none, radius=1 * u.arcsec)
    assert len(empty) == 0 and empty["separation"].unit == u.arcsec


def test_bad_input():
    some = table([1, 2], [0, 0])
    with pytest.raises(TypeError, match="radius must be a Quantity"):
        cross_match(some, some, radius=3)
    for radius in (0 * u.arcsec, -1 * u.arcsec, 91 * u.deg, 3 * u.keV):
        with pytest.raises(ValueError, match="radius must"):
            cross_match(some, some, radius=radius)
    with pytest.raises(SchemaError, match="other must be a table with a SkyCoord"):
        cross_match(some, QTable({"ra": [1.0]}), radius=1 * u.arcsec)
    with pytest.raises(SchemaError, match="catalogue must be a table"):
        cross_match([1, 2], some, radius=1 * u.arcsec)


@pytest.mark.real_data
def test_mcxc_and_xcs(shared_data):
    """XCS took no cluster of MCXC twice; within 2 arcmin the names of the pairs agree to the arcminutes they give."""
    from astroclassify.survey import read_catalogue

    mcxc, xcs = (read_catalogue(shared_data / "catalogues" / name) for name in ("mcxc.fits", "XCS_DR1.tsv"))
    pairs = cross_match(xcs, mcxc, radius=2 * u.arcmin)
    assert len(pairs) == 463 + 1743 - 74
    there, separation, _ = xcs["sky_position"].match_to_catalog_sky(mcxc["sky_position"])
    near = separation < 2 * u.arcmin
    assert np.sum(near) in range(74, 80)
    back = cross_match(mcxc, xcs, radius=2 * u.arcmin)
    both = [(int(row), int(other)) for row, other in zip(pairs["row"], pairs["row_other"], strict=True)]
    swapped = [(int(other), int(row)) for row, other in zip(back["row"], back["row_other"], strict=True)]
    assert sorted(both) == sorted(swapped)  # the same whichever comes first
