"""Figure of mean activation maps: what is drawn is what the maps and profiles say."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.table import QTable

from astroclassify.exceptions import SchemaError
from astroclassify.nn import radial_profiles
from astroclassify.plots import plot_mean_maps

pytest.importorskip("matplotlib")


def made_map(data, middle=4.0, n_images=3):
    meta = {"CELLSIZE": 125.0, "CELLPIX": 32.0, "CELLPIXY": 32.0, "CELLUNIT": "kpc", "FIELD": 1000.0}
    meta |= {"XMIDDLE": middle, "YMIDDLE": middle, "METHOD": "exact", "MODEL": "m", "NIMAGES": n_images}
    image = CCDData(data, unit=u.dimensionless_unscaled, meta=meta)
    image.uncertainty = StdDevUncertainty(np.full(data.shape, 0.1))
    return image


@pytest.fixture
def maps():
    data = np.random.default_rng(0).normal(size=(8, 8))
    data[4, 4] = 5.0
    return {"CC": made_map(data), "NCC": made_map(-0.5 * data), "WCC": made_map(np.full((8, 8), np.nan), n_images=0)}


def test_cells_are_blocks_with_one_colour_scale_about_zero(maps, tmp_path):
    figure = plot_mean_maps(maps, radial_profiles(maps, r_500=800 * u.kpc))
    axes = [axis for axis in figure.get_axes() if axis.collections and axis.get_title()]
    assert [axis.get_title() for axis in axes] == ["CC (3 images)", "NCC (3 images)", "WCC (0 images)"]
    for axis, image in zip(axes, maps.values(), strict=True):
        mesh = axis.collections[0]
        assert np.array_equal(np.ma.filled(mesh.get_array(), np.nan).reshape(8, 8), image.data, equal_nan=True)
        assert mesh.get_clim() == (-5.0, 5.0)
        corners = np.asarray(mesh.get_coordinates())
        # The middle of the field is the middle of cell (4, 4).
        assert np.allclose(corners[4:6, 4:6].mean(axis=(0, 1)), 0.0) and np.allclose(np.diff(corners[0, :, 0]), 125.0)
        assert [text.get_text().strip() for text in axis.texts] == ["cell 125 kpc"]
        assert sorted(patch.get_width() for patch in axis.patches) == [125.0, 1000.0]
    figure.savefig(tmp_path / "maps.png")


def test_profiles_are_steps_with_a_bar_of_one_cell(maps, tmp_path):
    profiles = radial_profiles(maps)
    figure = plot_mean_maps(maps, profiles)
    axis = next(axis for axis in figure.get_axes() if axis.get_ylabel() == "mean of the map")
    steps = axis.patches[0].get_data()
    rows = profiles[profiles["class"] == "CC"]
    assert np.allclose(steps.values, rows["mean"]) and np.allclose(steps.edges, [0, 125, 250, 375, 500])
    bar = [line for line in axis.lines if line.get_linewidth() == 2.5]
    assert np.array_equal(bar[0].get_xdata(), [0, 125]) and axis.get_xlim() == (0, 500)
    figure.savefig(tmp_path / "maps.png")


def test_bad_input(maps):
    profiles = radial_profiles(maps)
    with pytest.raises(SchemaError, match="maps"):
        plot_mean_maps({}, profiles)
    with pytest.raises(SchemaError, match="profiles"):
        plot_mean_maps(maps, QTable({"class": ["CC"]}))
    with pytest.raises(SchemaError, match="profiles"):
        plot_mean_maps({"CC": maps["CC"]}, profiles)
