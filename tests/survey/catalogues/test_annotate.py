"""Predictions put beside a catalogue: no row dropped, moved or given what is not its own."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable
from hypothesis import given, settings
from hypothesis import strategies as st

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyWarning, SchemaError
from astroclassify.schemes import CLUSTER, Flag
from astroclassify.survey import annotate


def predicted(names, flags=0, messages=None):
    p = np.linspace(0.1, 0.9, len(names))
    out = QTable({"source_id": np.array(names, dtype="U9") if names else np.zeros(0, "U9")})
    out["label_pred"] = np.where(p > 0.5, "cluster", "other")
    out["p_cluster"], out["p_other"] = p, 1 - p
    out["flags"] = np.full(len(names), int(flags), dtype=np.int64)
    if messages is not None:
        out["message"] = messages
    out.meta = {"scheme": CLUSTER.to_dict(), "model": "m"}
    return out


def catalogue(names):
    out = QTable({"source_id": names, "ext": np.arange(len(names)) * u.arcsec})
    out["sky_position"] = SkyCoord(np.arange(len(names)) * u.deg, np.zeros(len(names)) * u.deg)
    return out


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12),
    st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8),
)
def test_every_row_has_its_own(names, others):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstroclassifyWarning)
        out = annotate(catalogue(names), predicted(others))
    assert list(out["source_id"]) == names  # also those that come again
    np.testing.assert_array_equal(out["ext"].value, np.arange(len(names)))
    truth = dict(zip(others, predicted(others)["p_cluster"], strict=True))
    for name, p, label, flags, message in out.iterrows("source_id", "p_cluster", "label_pred", "flags", "message"):
        if name in truth:
            assert p == truth[name] and label and not flags and not message
        else:
            assert np.isnan(p) and label == "" and flags == Flag.FAILED and message == "no prediction"
    tables.validate(out, tables.PREDICTIONS)


def test_flags_and_messages_of_both():
    first = catalogue(["a", "b", "c"])
    first["flags"] = MaskedColumn([4, 99, 0], mask=[0, 1, 0])
    first["message"] = ["at the edge", "", "hot"]
    out = annotate(first, predicted(["c", "a"], Flag.LOW_COUNTS, ["few", "at the edge"]))
    assert list(out["flags"]) == [4 | 16, Flag.FAILED, 16]
    assert list(out["message"]) == ["at the edge", "no prediction", "hot; few"]
    assert list(first["message"]) == ["at the edge", "", "hot"]  # the input is as it was
    assert out.meta["predictions"]["model"] == "m" and out.meta["scheme"]["name"] == "cluster"


def test_further_columns_of_every_kind():
    predictions = predicted(["a"])
    predictions["mass"], predictions["n"] = [3] * u.Msun, [5]
    predictions["sure"], predictions["split"] = [True], ["test"]
    out = annotate(catalogue(["b", "a"]), predictions)
    np.testing.assert_array_equal(out["mass"].to_value(u.Msun), [np.nan, 3])
    assert list(out["n"].mask) == list(out["sure"].mask) == [True, False]
    assert list(out["split"]) == ["", "test"]


def test_numbers_as_names():
    first = QTable({"source_id": [12, 7]})
    assert list(annotate(first, predicted(["7", "12"]))["p_cluster"]) == [0.9, 0.1]


def test_predictions_for_nobody_are_said():
    with pytest.warns(AstroclassifyWarning, match="1 of 2 predictions are for a source_id that is not in"):
        assert len(annotate(catalogue(["a"]), predicted(["a", "z"]))) == 1


def test_zero_rows():
    out = annotate(catalogue(["a", "b"]), predicted([]))
    assert list(out["flags"]) == [Flag.FAILED] * 2 and np.all(np.isnan(out["p_other"]))
    none = tables.empty(tables.CANDIDATES)
    tables.validate(tables.validate(annotate(none, predicted([])), tables.CANDIDATES), tables.PREDICTIONS)


def test_written_and_read(tmp_path):
    out = annotate(catalogue(["a", "b"]), predicted(["b"]))
    again = tables.read(tables.write(out, tmp_path / "annotated.ecsv"), tables.PREDICTIONS)
    assert list(again["label_pred"]) == ["", "other"]


def test_bad_input():
    with pytest.raises(SchemaError, match="1 source_id more than once"):
        annotate(catalogue(["a"]), predicted(["a", "b", "a"]))
    with pytest.raises(SchemaError, match=r"has the columns \['label_pred', 'p_cluster', 'p_other'\]"):
        annotate(annotate(catalogue(["a"]), predicted(["a"])), predicted(["a"]))
    with pytest.raises(SchemaError, match="catalogue must be a table with a column 'source_id'"):
        annotate(QTable({"name": ["a"]}), predicted(["a"]))
    with pytest.raises(SchemaError, match="not a PREDICTIONS table"):
        annotate(catalogue(["a"]), QTable({"source_id": ["a"]}, meta={"scheme": CLUSTER.to_dict()}))


def test_names_that_could_not_be_those_of_files_are_found_again():
    """`extract_cutouts` gives such a source another name and keeps what came in group_id."""
    names = ["Abell 2029", "b", "Abell 3158", "twice", "twice"]
    p = predicted(["row-1", "b", "row-3", "twice", "twice-2"])
    p["group_id"] = names
    result = annotate(catalogue(["Abell 3158", "b", "Abell 2029", "twice"]), p[:3])
    assert result["p_cluster"].tolist()[:3] == [p["p_cluster"][2], p["p_cluster"][1], p["p_cluster"][0]]
    with pytest.warns(
        AstroclassifyWarning, match="1 of 5 predictions are for a source_id that is not in the catalogue"
    ):
        result = annotate(catalogue(["Abell 3158", "b", "Abell 2029", "twice"]), p)
    assert result["p_cluster"][3] == p["p_cluster"][3]


def test_columns_with_several_numbers_in_a_row_are_refused():
    p = predicted(["a", "b"])
    p["logits"] = np.zeros((2, 2))
    with pytest.raises(SchemaError, match="column 'logits' must hold one number or text in each row"):
        annotate(catalogue(["a", "b"]), p)
