"""Tables can be read at 80 columns, and files keep all digits."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify import tables
from astroclassify.schemes import COOL_CORE, Flag


def predictions():
    table = QTable({"source_id": ["<b>", "c"], "label_pred": ["CC", ""]})
    for name, p in zip(COOL_CORE.classes, (0.7123456789, 0.2, 0.0876543211), strict=True):
        table[f"p_{name}"] = [p, np.nan]
    table["flags"] = [int(Flag.MASKED | Flag.OFF_EDGE), int(Flag.FAILED)]
    table["familiarity"] = [0.123456, np.nan]
    table["message"] = ["", "no image"]
    table.meta["scheme"] = COOL_CORE.to_dict()
    return table


def test_formats_are_for_printing_and_the_given_table_keeps_its_own():
    given = predictions()
    given["p_WCC"].info.format = ".1f"
    table = tables.validate(given, tables.PREDICTIONS)
    assert [row.split()[2] for row in table.pformat()[2:]] == ["0.712", "nan"]
    assert table["p_WCC"].info.format == ".1f"  # that of the user
    assert given["p_CC"].info.format is None and not isinstance(given, type(table))
    assert float(table["p_CC"][0]) == 0.7123456789


@pytest.mark.parametrize("ending", ["ecsv", "fits", "vot", "csv"])
def test_files_keep_all_digits(ending, tmp_path):
    table = QTable({"source_id": ["a"], "sky_position": SkyCoord([150.123456789] * u.deg, [2.123456789] * u.deg)})
    for name, unit in tables.CANDIDATES.columns[2:-2]:
        table[name] = [1.23456789012345] * (1 if unit == "float" else unit)
    table["x_class"], table["flags"] = ["C1"], [0]
    table = tables.validate(table, tables.CANDIDATES)
    assert "150.12346 2.12346" in table["source_id", "sky_position"].pformat()[-1]
    again = tables.read(tables.write(table, tmp_path / f"t.{ending}"), tables.CANDIDATES)
    assert again["ext"][0] == 1.23456789012345 * u.arcsec
    assert again["sky_position"][0].separation(table["sky_position"][0]) < 1e-8 * u.arcsec


def wide():
    """One table of each kind, wider than 80 characters, and its main columns."""
    answers = tables.validate(predictions(), tables.PREDICTIONS)
    answers["group_id"] = ["a group with quite a long name"] * 2
    main = ["source_id", "label_pred", "p_CC", "p_WCC", "p_NCC", "flags", "familiarity"]
    yield answers, main
    candidates = tables.empty(tables.CANDIDATES)
    main = ["source_id", "sky_position", "ext", "ext_like", "det_like", "counts", "x_class", "flags"]
    yield tables.validate(candidates, tables.CANDIDATES), main
    scores = tables.validate(tables.empty(tables.SCORES), tables.SCORES)
    yield scores, ["class", "precision", "recall", "f1", "f1_lo", "f1_hi", "bacc"]
    sample = tables.SampleTable(tables.validate(tables.empty(tables.SAMPLE), tables.SAMPLE))
    yield sample, ["source_id", "label", "redshift", "m_500", "t_cool", "c_sb", "flags"]


@pytest.mark.parametrize(("table", "main"), list(wide()))
def test_where_not_all_columns_fit_the_main_ones_are_printed(table, main, monkeypatch):
    for width, expected in (("80", main), ("500", table.colnames)):
        monkeypatch.setenv("COLUMNS", width)
        lines = str(table).splitlines()
        assert lines[0].split() == expected
        assert max(map(len, lines)) <= int(width)
        named = " ".join(lines).partition(" and ")[2].split(", ") if width == "80" else []
        assert named == [name for name in table.colnames if name not in expected]
    assert repr(table).splitlines()[0] == f"<{type(table).__name__} length={len(table)}>"


def test_a_part_prints_as_any_table():
    part = tables.validate(predictions(), tables.PREDICTIONS)["source_id", "p_CC"]
    assert str(part) == "\n".join(QTable(part).pformat())


def test_a_notebook_shows_bars_and_flags_in_words():
    html = tables.validate(predictions(), tables.PREDICTIONS)._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html
    assert "off_edge, masked" in html and "failed" in html and "no image" in html and "no answer" in html
    assert "71.2%" in html and ">0.712<" in html and ">0.123<" in html
    part = tables.validate(predictions(), tables.PREDICTIONS)["source_id", "p_CC"]
    assert "0.712" in part._repr_html_()
    many = tables.validate(QTable(predictions()[[0] * 60], copy=True), tables.PREDICTIONS)
    assert "50 of 60 rows" in many._repr_html_()
