"""Figures of fields and candidates: what is drawn is what the tables say."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable
from astropy.wcs import WCS

from astroclassify.exceptions import SchemaError
from astroclassify.plots import plot_completeness, plot_extent_plane, plot_field
from astroclassify.survey import CUTS

pytest.importorskip("matplotlib")


def made_image():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [30.5, 20.5]
    wcs.wcs.cdelt = [-4 / 3600, 4 / 3600]
    data = np.random.default_rng(1).poisson(2.0, (40, 60)).astype(float)
    mask = np.zeros(data.shape, bool)
    mask[:, :5] = True
    return CCDData(data, unit=u.ct, wcs=wcs, mask=mask)


def made_candidates(image):
    x, y = [10.0, 30.0, 50.0], [10.0, 20.0, 30.0]
    table = QTable({"sky_position": image.wcs.pixel_to_world(x, y), "ext": [40.0, np.nan, 1.0] * u.arcsec})
    table["x_class"], table["ext_like"] = ["C1", "", "P1"], [80.0, np.nan, 0.0]
    return table


class Holder:
    """What `plot_field` asks of a Field."""

    def __init__(self, image):
        self.image = image

    def to_ccd(self):
        return self.image


@pytest.mark.parametrize("stretch", ["asinh", "log", "sqrt", "linear"])
def test_field_with_regions(stretch, tmp_path):
    image = made_image()
    figure = plot_field(Holder(image), made_candidates(image), stretch=stretch, title="made")
    axis = figure.get_axes()[0]
    circles = [(patch.center, patch.radius) for patch in axis.patches]
    assert np.allclose([centre for centre, _ in circles], [(10, 10), (30, 20), (50, 30)])
    assert np.allclose([radius for _, radius in circles], [10, 3, 3])  # 40" and the least, 12", on pixels of 4"
    assert len({patch.get_edgecolor() for patch in axis.patches}) == 3
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["C1 (1)", "P1 (1)", "no class (1)"]
    drawn = axis.images[0]
    values = np.ma.filled(drawn.get_array(), np.nan)
    assert np.isnan(values[:, :5]).all() and np.isfinite(values[:, 5:]).all()
    assert drawn.norm.vmin == 0 and 0.9 < drawn.norm(drawn.norm.vmax) <= 1
    assert axis.wcs is image.wcs and axis.get_title() == "made"
    figure.savefig(tmp_path / "field.png")


def test_field_without_smoothing_shows_the_counts(tmp_path):
    image = made_image()
    figure = plot_field(image, smooth=0 * u.arcsec)
    axis = figure.get_axes()[0]
    assert np.array_equal(np.ma.filled(axis.images[0].get_array(), -1)[:, 5:], image.data[:, 5:])
    assert not axis.patches and axis.get_legend() is None
    blank = CCDData(np.zeros((8, 8)), unit=u.ct, wcs=image.wcs)
    plot_field(blank, made_candidates(image)[:0]).savefig(tmp_path / "blank.png")


def test_extent_plane_has_the_published_bounds(tmp_path):
    bounds = [CUTS[name].bounds[0] for name in ("C2", "C1")]
    candidates = made_candidates(made_image())
    figure = plot_extent_plane(candidates)
    axis = figure.get_axes()[0]
    places = {each.get_label(): np.asarray(each.get_offsets()) for each in axis.collections}
    assert np.allclose(places["C1 (1)"], [[40, 80]]) and np.allclose(places["P1 (1)"], [[1, 0.5]])
    assert len(places["no class (0)"]) == 0 and axis.get_title() == "(1 without a result)"
    assert axis.get_xscale() == axis.get_yscale() == "log"
    levels = sorted(line.get_ydata()[0] for line in axis.lines if np.ptp(line.get_ydata()) == 0)
    assert levels == [15, 33] == [bound["ext_like"][0] for bound in bounds]
    edge = next(line.get_xdata()[0] for line in axis.lines if np.ptp(line.get_xdata()) == 0)
    assert [edge] * 2 == [bound["ext"][0].to_value(u.arcsec) for bound in bounds]
    assert [text.get_text() for text in axis.texts] == ["C1", "C2"]
    figure.savefig(tmp_path / "plane.png")


def test_extent_plane_by_truth():
    candidates = made_candidates(made_image())
    candidates["label"] = ["low_z", "point", "point"]
    names = [each.get_label() for each in plot_extent_plane(candidates).get_axes()[0].collections]
    assert names == ["low_z (1)", "point (1)"]
    names = [each.get_label() for each in plot_extent_plane(candidates, by="x_class").get_axes()[0].collections]
    assert names == ["C1 (1)", "P1 (1)", "no class (0)"]
    assert not plot_extent_plane(candidates[:0]).get_axes()[0].collections


def made_completeness():
    rows = []
    for off_axis in (2.0, 8.0):
        for core in (0.0, 20.0):
            for counts in (50.0, 100.0, 200.0):
                for name in ("any", "C1"):
                    share = counts / 250 if name == "any" else counts / 500
                    share = np.nan if counts == 200 and core == 20 else share
                    rows.append((0, off_axis, core, counts, name, 10, share, share - 0.1, share + 0.1))
    names = ("field", "off_axis", "core_radius", "counts", "x_class", "n", "completeness")
    table = QTable(rows=rows, names=(*names, "completeness_lo", "completeness_hi"))
    for name, unit in (("off_axis", u.arcmin), ("core_radius", u.arcsec), ("counts", u.ct)):
        table[name].unit = unit
    table = QTable(table)
    table["exposure"] = np.full(len(table), 10.0) * u.ks
    return table


def test_completeness_has_a_panel_per_angle_and_a_line_per_radius(tmp_path):
    figure = plot_completeness(made_completeness())
    axes = figure.get_axes()
    assert [axis.get_title() for axis in axes] == ["10 ks, 2' off axis", "10 ks, 8' off axis"]
    lines = [container.lines[0] for container in axes[0].containers]
    assert np.allclose(lines[0].get_ydata(), [0.1, 0.2, 0.4]) and np.allclose(lines[1].get_ydata()[:2], [0.1, 0.2])
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["point", '20"']
    assert figure.get_supylabel() == "share found as C1"
    figure.savefig(tmp_path / "completeness.png")
    assert plot_completeness(made_completeness(), x_class="any").get_supylabel() == "share found"


def test_bad_input():
    image = made_image()
    with pytest.raises(ValueError, match="stretch"):
        plot_field(image, stretch="cube")
    with pytest.raises(TypeError, match="smooth"):
        plot_field(image, smooth=2)
    with pytest.raises(SchemaError, match="sky_position"):
        plot_field(image, QTable({"ext": [1] * u.arcsec, "x_class": [""]}))
    with pytest.raises(SchemaError, match="ext_like"):
        plot_extent_plane(QTable({"ext": [1] * u.arcsec, "x_class": [""]}))
    with pytest.raises(SchemaError, match="core_radius"):
        plot_completeness(made_completeness()["field", "n"])
    with pytest.raises(SchemaError, match="one of .'any', 'C1'.*'C2'"):
        plot_completeness(made_completeness(), x_class="C2")
