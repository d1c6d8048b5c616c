"""Selection function against chances that are known: the detectors here are simple, `detect` has its own tests."""

import functools
import pickle
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.wcs import WCS
from scipy.ndimage import find_objects, gaussian_filter, label
from scipy.stats import binom

from astroclassify import tables
from astroclassify.exceptions import OutputError
from astroclassify.schemes import Flag
from astroclassify.survey import CUTS, Cuts, Field, GaussianPsf, selection_function

SIDE = 241  # pixels of 5": 10' to the edge


def made_field(counts=None, exposure=1e4):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [(SIDE + 1) / 2] * 2
    wcs.wcs.cdelt = [-5 / 3600, 5 / 3600]
    blank = np.zeros((SIDE, SIDE))
    exposure = np.full(blank.shape, exposure)
    counts = blank if counts is None else counts
    psf = GaussianPsf(6 * u.arcsec)
    return Field(counts, exposure, blank, exposure == 0, wcs, psf, SkyCoord(150 * u.deg, 2 * u.deg))


def candidates_at(places):
    """CANDIDATES from (x, y, ext, ext_like, counts)."""
    x, y, ext, ext_like, counts = np.array(places, float).reshape(-1, 5).T
    table = QTable({"x": x * u.pix, "y": y * u.pix, "ext": ext * u.arcsec, "counts": counts * u.ct})
    table["ext_like"], table["det_like"], table["flags"] = ext_like, np.full(len(x), 99.0), np.zeros(len(x), int)
    return table


def find_blobs(field, least=0.5, fails=False):
    """Every island of pixels is a candidate if it has enough counts; C1 if it is large."""
    if fails and field.counts.sum() > 0:
        raise RuntimeError("no luck")
    islands = label(gaussian_filter(field.counts, 2.0) > 1e-3)[0]
    found = []
    for rows, columns in find_objects(islands):
        counts = field.counts[rows, columns].sum()
        if counts >= least:
            middle = ((columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2)
            found.append((*middle, 9.0, 40.0 if counts >= 10 else 20.0, counts))
    return candidates_at(found)


ASKED = {"counts": [0.7, 3] * u.ct, "core_radius": [0] * u.arcsec, "off_axis": [3, 6] * u.arcmin, "progress": False}


def test_completeness_is_the_chance_of_a_photon():
    table = selection_function(made_field(), **ASKED, n=100, detector=find_blobs, rng=1)
    assert table.colnames[:9] == [
        *("field", "exposure", "off_axis", "core_radius", "counts", "x_class", "n", "n_found", "completeness")
    ]
    assert len(table) == 2 * 2 * 3 and np.all(table["n"] == 100) and table["exposure"].unit == u.s
    found = table[table["x_class"] == "any"]
    for row in found:
        expected = 1 - np.exp(-row["counts"].value)  # of at least one photon
        assert binom.ppf(1e-4, 100, expected) <= row["n_found"] <= binom.isf(1e-4, 100, expected)
        assert row["completeness_lo"] <= row["completeness"] <= row["completeness_hi"]
    assert np.allclose(found["completeness"], found["n_found"] / 100)
    assert np.all(table["n_found"][table["x_class"] == "C1"] <= 2)  # of 10 and more photons out of 3
    both = table[table["x_class"] == "C1+C2"]
    assert np.array_equal(both["n_found"], found["n_found"]) and np.all(both["ext_median"] == 9 * u.arcsec)
    assert np.all(table["chance"] == 0) and np.all(table["contamination"] == 0 / u.deg**2)
    assert np.all(table["contamination_hi"] > 0 / u.deg**2)


def test_intervals_are_those_of_wilson():
    table = selection_function(made_field(), **ASKED, n=40, detector=find_blobs, rng=1)
    row = table[0]
    p, n = row["completeness"], row["n"]
    middle, half = (p + 0.5 / n) / (1 + 1 / n), np.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n)
    assert row["completeness_lo"] == pytest.approx(middle - half, abs=1e-4)
    assert row["completeness_hi"] == pytest.approx(middle + half, abs=1e-4)


def test_any_executor_gives_the_same():
    ask = functools.partial(selection_function, made_field(), **ASKED, n=12, detector=find_blobs)
    first = ask(rng=4)
    with ThreadPoolExecutor(3) as executor:
        second = ask(rng=4, executor=executor)
    assert [str(row) for row in first] == [str(row) for row in second]
    assert not np.array_equal(first["n_found"], ask(rng=5)["n_found"])
    pickle.dumps(CUTS)  # sent to processes


class Sending(Executor):
    """Hands each item over as a process would get it."""

    def submit(self, function, work, key, item, run_id):
        future = Future()
        future.set_result(function(work, key, pickle.loads(pickle.dumps(item)), run_id))
        return future


def measure_pixels(field):
    return candidates_at([(120.0, 120.0, field.pixel * field.wcs.wcs.cdelt[1], 40.0, 5.0)])


def test_fields_that_are_sent_to_a_process_give_the_same():
    asked = {"counts": [1] * u.ct, "core_radius": [5] * u.arcsec, "off_axis": [0] * u.arcmin, "progress": False}
    ask = functools.partial(selection_function, made_field(), **asked, n=1, detector=measure_pixels, rng=1)
    here, there = (ask(executor=executor)["ext_median"].value for executor in (None, Sending()))
    # To the last bit, although a WCS loses digits on its way.
    assert np.array_equal(here, there, equal_nan=True) and np.isfinite(here).any()


def test_sources_lie_where_they_are_asked_for():
    seen = []

    def detector(field):
        seen.append(np.argwhere(field.counts > 0))
        return candidates_at([])

    field = made_field()
    field.exposure[:, :115] = 0.0
    known = field.wcs.pixel_to_world(150.0, 120.0)
    asked = {"counts": [2000] * u.ct, "core_radius": [0] * u.arcsec, "off_axis": [2, 7] * u.arcmin, "progress": False}
    limits = {"clearance": 60 * u.arcsec, "separation": 3 * u.arcmin}
    selection_function(field, **asked, **limits, n=20, avoid=known, detector=detector, rng=1)
    assert not len(seen[0])  # the run without sources
    islands = []
    for places in seen[1:]:
        image = np.zeros((SIDE, SIDE), bool)
        image[tuple(places.T)] = True
        numbered, number = label(image, np.ones((3, 3)))
        middles = [np.argwhere(numbered == each + 1).mean(axis=0) for each in range(number)]
        # Photons 3 sigma out make islands of their own: they belong to the one beside them.
        kept = [middles[0]] if middles else []
        for middle in middles[1:]:
            if all(np.hypot(*(middle - other)) > 8 for other in kept):
                kept.append(middle)
        for index, middle in enumerate(kept):
            assert all(np.hypot(*(middle - other)) > 36 - 6 for other in kept[:index])
        islands += kept
    rows, columns = np.array(islands).T
    assert len(islands) == 40
    off_axis = field.off_axis(columns, rows)
    assert np.sum(np.abs(off_axis - 2) < 0.9) == 20 and np.sum(np.abs(off_axis - 7) < 0.9) == 20
    assert columns.min() > 115 + 12 - 6 and np.hypot(columns - 150, rows - 120).min() > 12 - 6
    with_table = functools.partial(selection_function, field, **asked, **limits, n=1, detector=detector, rng=1)
    with_table(avoid=QTable({"sky_position": SkyCoord([known])}))


def test_chance_and_contamination_are_counted_without_sources():
    spots = [(20.0 + 40 * column, 20.0 + 40 * row, 9.0, 40.0, 5.0) for row in range(6) for column in range(6)]
    spots[0] = (*spots[0][:2], 9.0, 20.0, 5.0)
    asked = {"counts": [1] * u.ct, "core_radius": [5] * u.arcsec, "off_axis": [3, 7] * u.arcmin, "progress": False}
    detector = functools.partial(_ignoring, candidates_at(spots))
    table = selection_function(made_field(), **asked, n=150, detector=detector, match_radius=50 * u.arcsec, rng=1)
    # Discs of 10 pixels on a grid of 40: found only by chance.
    y, x = np.mgrid[0:240:0.5, 0:240:0.5]
    near = np.min([np.hypot(x - spot[0], y - spot[1]) for spot in spots], axis=0) <= 10
    ring = np.hypot(x - 120, y - 120)
    for off_axis in (3, 7):
        expected = near[np.abs(ring - 12 * off_axis) <= 6].mean()
        found = table["n_found"][(table["off_axis"] == off_axis * u.arcmin) & (table["x_class"] == "any")][0]
        assert binom.ppf(1e-4, 150, expected) <= found <= binom.isf(1e-4, 150, expected)
    assert np.allclose(table["chance"], table["completeness"])
    within = np.array(spots)[np.hypot(*(np.array(spots)[:, :2] - 120).T) * 5 <= 7.5 * 60]
    area = np.pi * (7.5 / 60) ** 2
    for name, number in (("C1", np.sum(within[:, 3] > 33)), ("any", len(within))):
        value = table["contamination"][table["x_class"] == name][0].to_value(u.deg**-2)
        assert value == pytest.approx(number / area, rel=0.01)
    assert np.all(table["contamination_lo"] < table["contamination"])


def _ignoring(found, field):
    return found


def test_several_fields_and_own_cuts():
    fields = [made_field(exposure=1e4), made_field(exposure=2e4)]
    cuts = [Cuts("mine", {"counts": (1 * u.ct, None)}), ("C2", "P1")]
    lacking = selection_function(fields, **ASKED, n=1, cuts=cuts, detector=find_blobs, rng=1)
    assert len(lacking) == 24 and not lacking["n"].any() and "pnt_det_like" in lacking["message"][0]
    table = selection_function(fields, **ASKED, n=5, cuts=cuts[0], detector=find_blobs, rng=1)
    assert [str(name) for name in table["x_class"][:2]] == ["any", "mine"]
    assert list(table["exposure"][::8].to_value(u.ks)) == [10, 20] and list(table["field"][::8]) == [0, 1]
    assert np.array_equal(table["field"], np.repeat([0, 1], 8))


def test_what_fails_keeps_its_row():
    ask = functools.partial(selection_function, made_field(), **ASKED, n=2, rng=1)
    failed = ask(detector=functools.partial(find_blobs, fails=True))
    assert len(failed) == 12 and np.all(failed["n"] + 0 <= 2)
    lost = failed["n"] == 0
    assert lost.any() and np.all(failed["flags"][lost] == Flag.FAILED.value)
    assert np.all(np.isnan(failed["completeness"][lost])) and "no luck" in failed["message"][lost][0]
    far = selection_function(made_field(), **{**ASKED, "off_axis": [3, 60] * u.arcmin}, detector=find_blobs, n=2, rng=1)
    assert list(far["n"]) == [2] * 6 + [0] * 6 and "no free place" in far["message"][-1]
    assert np.all(far["flags"][6:] == Flag.FAILED.value) and not far["flags"][:6].any()


def test_table_can_be_written(tmp_path):
    table = selection_function(made_field(), **ASKED, n=1, detector=find_blobs, rng=1)
    again = tables.read(tables.write(table, tmp_path / "selection.ecsv"))
    assert again.colnames == table.colnames and again.meta["seed"] == 1
    assert again["contamination"].unit == u.deg**-2


def test_bad_input():
    ask = functools.partial(selection_function, made_field(), detector=find_blobs, rng=1)
    with pytest.raises(TypeError, match="counts must be a Quantity"):
        ask(**{**ASKED, "counts": [100]})
    with pytest.raises(ValueError, match="core_radius.*from zero"):
        ask(**{**ASKED, "core_radius": [-1] * u.arcsec})
    with pytest.raises(ValueError, match="off_axis must have a unit"):
        ask(**{**ASKED, "off_axis": [1] * u.s})
    with pytest.raises(ValueError, match="n must be"):
        ask(**ASKED, n=0)
    with pytest.raises(ValueError, match="separation"):
        ask(**ASKED, separation=40 * u.arcsec)
    with pytest.raises(ValueError, match="cuts must be"):
        ask(**ASKED, cuts="C7")
    with pytest.raises(TypeError, match="avoid"):
        ask(**ASKED, avoid=[1, 2])
    with pytest.raises(ValueError, match="fields"):
        selection_function([], **ASKED, rng=1)


def same(first, second):
    """Whether two tables have equal values."""
    return all(
        np.array_equal(first[name], second[name], equal_nan=first[name].dtype.kind == "f") for name in first.colnames
    )


def test_a_seed_is_drawn_recorded_and_kept_in_the_folder(tmp_path):
    ask = functools.partial(selection_function, made_field(), **ASKED, n=2, detector=find_blobs)
    first, second = ask(), ask()
    assert first.meta["seed"] != second.meta["seed"]
    assert same(first, ask(rng=first.meta["seed"]))
    begun = ask(out=tmp_path)
    assert same(begun, ask(out=tmp_path)) and ask(out=tmp_path).meta["seed"] == begun.meta["seed"]
    with pytest.raises(OutputError, match="seed is"):
        ask(out=tmp_path, rng=1)


def test_a_folder_is_resumed_and_gives_the_same_table(tmp_path):
    how = {"counts": [3, 30] * u.ct, "core_radius": [15] * u.arcsec, "off_axis": [4] * u.arcmin, "n": 12, "rng": 3}
    how |= {"progress": False}
    searched = []

    def watched(field):
        searched.append(field.counts.sum())
        if len(searched) == 2:
            raise RuntimeError("no luck")
        return find_blobs(field)

    plain = selection_function(made_field(), detector=find_blobs, **how)
    failed = selection_function(made_field(), detector=watched, out=tmp_path, **how)
    assert "no luck" in " ".join(failed["message"])
    n_runs = len(searched)
    table = selection_function(made_field(), detector=watched, out=tmp_path, **how)
    assert len(searched) == n_runs + 1  # the run that failed
    assert same(table, plain)
    assert same(tables.read(tmp_path / "selection.ecsv"), plain)
    with pytest.raises(OutputError, match="n is 12 there and 13 now"):
        selection_function(made_field(), detector=watched, out=tmp_path, **{**how, "n": 13})
    with pytest.raises(OutputError, match="fields is"):
        selection_function(made_field(exposure=2e4), detector=watched, out=tmp_path, **how)
    assert len(searched) == n_runs + 1
