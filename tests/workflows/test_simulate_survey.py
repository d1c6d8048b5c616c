"""Training samples from simulated fields: labels by hand, resuming, what survives a failure."""

import functools
import json

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError, EmptyResultWarning, OutputError, SchemaError
from astroclassify.images import Cutout
from astroclassify.schemes import CANDIDATE
from astroclassify.sim import label_candidates, simulate_field, simulate_survey
from astroclassify.survey import Cuts, detect

MODULE = "astroclassify.workflows._simulated_surveys"
EVERYTHING = Cuts("everything", {"det_like": (10.0, None)})
SETTINGS = {"density": {"cluster": 15}, "cuts": EVERYTHING, "shape": (32, 32), "progress": False}


def at(*arcsec):
    """Positions north of one another."""
    return SkyCoord(np.full(len(arcsec), 10.0), 20 + np.array(arcsec) / 3600, unit="deg")


def truth_of(*rows):
    """Truth from (arcsec, kind, label, counts)."""
    places, kinds, labels, counts = zip(*rows, strict=True)
    number = np.arange(len(rows), dtype=float)
    return QTable(
        {
            "source_id": [f"source-{place}" for place in places],
            "sky_position": at(*places),
            "kind": list(kinds),
            "label": list(labels),
            "counts": np.array(counts, float) * u.ct,
            "flux": number * u.erg / u.s / u.cm**2,
            "core_radius": number * u.arcsec,
            "redshift": number / 10,
            "m_500": number * u.Msun,
        }
    )


def candidates_of(*rows):
    """Candidates from (arcsec, counts)."""
    places, counts = zip(*rows, strict=True)
    return QTable({"sky_position": at(*places), "counts": np.array(counts, float) * u.ct})


def test_labels_follow_the_rules():
    truth = truth_of(
        (0, "cluster", "low_z", 300),
        (5, "agn", "point", 500),
        (1000, "agn", "point", 100),
        (2000, "agn", "point", 60),
        (2010, "agn", "point", 55),
        (3000, "galaxy", "galaxy", 50),
        (4000, "cluster", "high_z", 20),
        (5000, "arc", "other", 90),
    )
    found = candidates_of((2, 700), (1003, 90), (2004, 110), (3010, 60), (4000, 100), (5040, 80), (6000, 50))
    labelled = label_candidates(found, truth)
    # A cluster beside a brighter nucleus; a point; two points in one; a galaxy; a cluster that gives a fifth of the
    # counts only; an artefact; nothing at all.
    assert list(labelled["label"]) == ["low_z", "point", "other", "galaxy", "other", "other", "other"]
    assert list(labelled["true_id"]) == [
        "source-0", "source-1000", "source-2000", "source-3000", "", "source-5000", "",
    ]  # fmt: skip
    assert labelled["true_counts"][0] == 300 * u.ct
    assert labelled["true_m_500"].unit == u.Msun
    assert np.isnan(labelled["true_counts"][-1])
    assert len(found.colnames) == 2, "the candidates given are left alone"


def test_of_two_clusters_the_brighter_one_counts():
    truth = truth_of((0, "cluster", "low_z", 100), (20, "cluster", "high_z", 300))
    assert list(label_candidates(candidates_of((5, 350)), truth)["true_id"]) == ["source-20"]


def test_a_large_cluster_is_found_within_its_core():
    truth = truth_of((0, "cluster", "low_z", 900), (1000, "cluster", "low_z", 900))
    truth["core_radius"] = [80, 20] * u.arcsec
    assert list(label_candidates(candidates_of((50, 1000), (1050, 1000)), truth)["label"]) == ["low_z", "other"]


def test_counts_that_are_not_known_still_have_a_label():
    truth = truth_of((0, "agn", "point", 100))
    assert list(label_candidates(candidates_of((0, np.nan)), truth)["label"]) == ["point"]


def test_an_empty_truth_leaves_other():
    truth = truth_of((0, "agn", "point", 1))[:0]
    assert list(label_candidates(candidates_of((0, 5)), truth)["label"]) == ["other"]


def test_missing_columns_are_named():
    with pytest.raises(SchemaError, match=r"candidates must have the columns .* lacks \['counts'\]"):
        label_candidates(candidates_of((0, 5))["sky_position",], truth_of((0, "agn", "point", 1)))
    with pytest.raises(SchemaError, match=r"truth must have .* lacks \['kind', 'label'"):
        label_candidates(candidates_of((0, 5)), truth_of((0, "agn", "point", 1))["source_id", "sky_position"])


@pytest.fixture
def small(monkeypatch):
    """Fields of a tenth of the area, which take a tenth of the time."""
    smaller = functools.partial(simulate_field, shape=(200, 200))
    monkeypatch.setattr(f"{MODULE}.simulate_field", smaller)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_sample_of_a_survey(small, tmp_path):
    sample = simulate_survey(2, rng=3, out=tmp_path / "one", **SETTINGS)
    assert set(sample["label"]) <= set(CANDIDATE.classes)
    assert set(sample["group_id"]) == {"field-00000", "field-00001"}
    assert dict.fromkeys(zip(sample["group_id"], sample["exposure"].to_value(u.ks), strict=True)) == {
        ("field-00000", 10.0): None,
        ("field-00001", 20.0): None,
    }
    assert len(set(sample["source_id"])) == len(sample) > 4
    assert set(sample["cameras"]) == {"EPN"} and np.all(sample["off_axis"] <= 13 * u.arcmin)
    # All sources are kept beside the candidates, and the area: 200 pixels of 2.5 arcsec a side, less the gaps.
    truth = tables.read(tmp_path / "one" / "truth" / "00000.ecsv")
    assert set(sample["true_id"][sample["group_id"] == "field-00000"]) <= {"", *truth["source_id"]}
    assert 0.75 < truth.meta["area"].to_value(u.deg**2) / (500 / 3600) ** 2 < 1
    clusters = np.isin(sample["label"], ["low_z", "high_z"])
    assert clusters.any()
    assert np.isfinite(sample["redshift"][clusters]).all()
    assert np.isnan(sample["redshift"][sample["label"] == "point"]).all()
    read = tables.read_sample(tmp_path / "one")
    assert list(read["source_id"]) == list(sample["source_id"])
    cutout = Cutout.read(tmp_path / "one" / read["path"][0])
    assert set(cutout.bands) == {"xray", "optical"}
    assert cutout.bands["xray"].shape == (32, 32)
    # More fields are added to what is there, and are what they would have been from the start.
    kept = contents(tmp_path / "one" / "fields" / "00001")
    simulate_survey(2, rng=3, out=tmp_path / "two", **SETTINGS)
    simulate_survey(3, rng=3, out=tmp_path / "two", **SETTINGS)
    assert {path.name for path in (tmp_path / "two" / "fields").iterdir()} == {"00000", "00001", "00002"}
    assert {path: text for path, text in kept.items() if path.suffix == ".fits"} == {
        path: text for path, text in contents(tmp_path / "two" / "fields" / "00001").items() if path.suffix == ".fits"
    }
    with pytest.raises(OutputError, match="seed"):
        simulate_survey(2, rng=4, out=tmp_path / "one", **SETTINGS)


@pytest.mark.slow
def test_a_field_that_fails_is_said_and_tried_again(small, tmp_path, monkeypatch):
    def failing(field, **how):
        if field.livetime > 15e3:
            raise MemoryError("full")
        return detect(field, **how)

    monkeypatch.setattr(f"{MODULE}.detect", failing)
    with pytest.raises(AstroclassifyError, match=r"1 of 2 fields failed \(field 00001: .*full"):
        simulate_survey(2, rng=3, out=tmp_path, **SETTINGS)
    assert (tmp_path / "fields" / "00000" / "sample.ecsv").is_file()
    assert not (tmp_path / "sample.ecsv").exists()
    monkeypatch.setattr(f"{MODULE}.detect", detect)
    assert set(simulate_survey(2, rng=3, out=tmp_path, **SETTINGS)["group_id"]) == {"field-00000", "field-00001"}


def test_nothing_found_is_a_table_without_rows(small, tmp_path):
    nothing = Cuts("nothing", {"det_like": (1e9, None)})
    with pytest.warns(EmptyResultWarning, match="no candidate was found in any field"):
        sample = simulate_survey(1, rng=3, out=tmp_path, **{**SETTINGS, "cuts": nothing})
    assert len(sample) == 0
    assert {"label", "group_id", "ext", "true_counts", "path"} <= set(sample.colnames)


def test_cameras_and_exposures_take_turns(small, tmp_path):
    nothing = Cuts("nothing", {"det_like": (1e9, None)})
    with pytest.warns(EmptyResultWarning):
        simulate_survey(4, rng=3, out=tmp_path, exposures=[5, 6] * u.ks, **{**SETTINGS, "cuts": nothing})
    metas = [tables.read(tmp_path / "truth" / f"0000{number}.ecsv").meta for number in range(4)]
    assert [meta["exposure"].to_value(u.ks) for meta in metas] == [5, 6, 5, 6]
    assert ["+".join(meta["cameras"]) for meta in metas] == ["EPN"] * 2 + ["EPN+EMOS1+EMOS2"] * 2


@pytest.mark.filterwarnings("ignore:no candidate was found")
def test_seed_left_out_is_drawn_and_resumed(small, tmp_path):
    how = {"out": tmp_path, **SETTINGS, "cuts": Cuts("nothing", {"det_like": (1e9, None)})}
    seeds = [simulate_survey(1, **how).meta["survey"]["seed"] for _ in range(2)]
    assert seeds[0] == seeds[1] == json.loads((tmp_path / "survey.json").read_text())["seed"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_fields": 0}, "n_fields must be a whole number from 1 to 100000, got 0"),
        ({"n_fields": 1.5}, "n_fields must be a whole number"),
        ({"exposures": [-1] * u.ks}, "exposures"),
        ({"size": 0 * u.arcmin}, "size"),
        ({"cameras": ()}, "cameras must be one set of cameras or several"),
        ({"cameras": "EMOS1"}, "cameras must be EPN and others"),
        ({"cuts": ("C9",)}, "cuts must be one of"),
        ({"density": {"quasar": 2}}, "density must name kinds"),
    ],
)
def test_bad_arguments_are_named(change, message, tmp_path):
    arguments = {"n_fields": 1, **change}
    with pytest.raises((ValueError, AstroclassifyError), match=message):
        simulate_survey(arguments.pop("n_fields"), rng=1, out=tmp_path / "out", progress=False, **arguments)
