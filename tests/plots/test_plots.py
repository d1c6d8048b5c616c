"""Figures: what is drawn is what the tables say."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable

from astroclassify import plots, tables
from astroclassify.exceptions import SchemaError
from astroclassify.images import write_image
from astroclassify.schemes import COOL_CORE, Flag

pytest.importorskip("matplotlib")


@pytest.fixture
def sample(tmp_path):
    """Three rows, the last without an image."""
    table = QTable()
    table["source_id"] = ["a", "b", "c"]
    table["group_id"] = ["a", "b", "c"]
    table["path"] = ["images/a.fits", "images/b.fits", ""]
    table["label"] = ["CC", "NCC", ""]
    table["projection"] = ["x", "x", "x"]
    table["redshift"] = [0.05, 0.05, 0.05]
    table["m_500"] = [1e14, 2e14, 3e14] * u.Msun
    table["r_500"] = [700.0, 800.0, 900.0] * u.kpc
    table["t_cool"] = [0.5, 9.0, np.nan] * u.Gyr
    table["n_e"] = [0.05, 0.002, np.nan] / u.cm**3
    table["c_sb"] = [0.3, 0.05, np.nan]
    table["flags"] = [0, 0, Flag.FAILED.value]
    (tmp_path / "images").mkdir()
    for name in "ab":
        write_image(CCDData(np.ones((8, 8)), unit=u.ct), tmp_path / "images" / f"{name}.fits")
    return tables.write_sample(table, tmp_path)


@pytest.fixture
def predictions():
    """One right, one wrong, one without answer."""
    table = QTable()
    table["source_id"] = ["a", "b", "c"]
    table["label_pred"] = ["CC", "WCC", ""]
    table["p_CC"] = [0.8, 0.1, np.nan]
    table["p_WCC"] = [0.1, 0.6, np.nan]
    table["p_NCC"] = [0.1, 0.3, np.nan]
    table["flags"] = [0, 0, Flag.FAILED.value]
    table["label"] = ["CC", "NCC", "CC"]
    table.meta["scheme"] = COOL_CORE.to_dict()
    return table


def test_images_shows_labels_and_marks_wrong_ones(sample, predictions):
    figure = plots.plot_images(sample, predictions)
    titles = {axis.get_title(): axis.title.get_color() for axis in figure.axes if axis.get_title()}
    assert len(titles) == 2
    assert [colour for title, colour in titles.items() if title.startswith("CC")] == ["black"]
    assert [colour for title, colour in titles.items() if title.startswith("NCC")] == ["#C00000"]


def test_images_needs_an_image(sample):
    with pytest.raises(SchemaError, match="no image"):
        plots.plot_images(sample[2:])


def test_confusion_counts(predictions):
    axis = plots.plot_confusion(predictions).axes[0]
    assert "1 without" in axis.get_title()
    numbers = [int(text.get_text().split("\n")[0]) for text in axis.texts]
    assert np.reshape(numbers, (3, 3)).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_confusion_needs_truth(predictions):
    predictions.remove_column("label")
    with pytest.raises(SchemaError, match="label"):
        plots.plot_confusion(predictions)


def test_population_has_two_panels(sample):
    figure = plots.plot_population(sample)
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "log"]
    assert "CC (1)" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_scores_bars_are_the_values():
    table = QTable()
    table["class"] = [*COOL_CORE.classes, "mean"]
    table["f1"] = [0.8, 0.7, 0.6, 0.7]
    table["f1_lo"] = table["f1"] - 0.1
    table["f1_hi"] = table["f1"] + 0.1
    axis = plots.plot_scores({"a": table}).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [0.8, 0.7, 0.6, 0.7]
