"""The figure of one classified image: what is drawn is what the classifier says."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.wcs import WCS

from astroclassify.exceptions import ArgumentError, MissingDependencyError
from astroclassify.images import DEFAULT_COSMOLOGY, Cutout, Geometry, write_image
from astroclassify.plots import plot_prediction
from astroclassify.schemes import CLUSTER, Flag
from astroclassify.tables import PREDICTIONS, empty

pytest.importorskip("matplotlib")


def made_image(seed=1, unit=u.ct):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [150.0, 2.0], [40.5, 40.5], [-4 / 3600, 4 / 3600]
    y, x = np.indices((80, 80)) - 39.5
    data = np.random.default_rng(seed).poisson(0.3 + 20 * (1 + (x**2 + y**2) / 25) ** -1.5).astype(float)
    return CCDData(data, unit=unit, wcs=wcs, meta={"OBJECT": "A1"})


class Judge:
    """What `plot_prediction` asks of a classifier, with answers that are known."""

    def __init__(self, geometry, bands=("xray",)):
        self.geometry, self.bands, self.asked = geometry, bands, []

    def classify(self, image, **how):
        self.asked.append(how)
        table = empty(PREDICTIONS, scheme="cluster")
        table["message"] = np.zeros(0, "U40")
        table.add_row({"source_id": "A1", "label_pred": "cluster", "p_cluster": 0.8, "p_other": 0.2,
                       "flags": int(Flag.OTHER_BAND | Flag.NO_EXPOSURE), "message": "no plate"})  # fmt: skip
        table.meta |= {"scheme": CLUSTER.to_dict(), "model": "judge"}
        return table

    def activation_map(self, image, class_name, **how):
        wcs = made_image().wcs[::10, ::10]
        data = np.arange(64.0).reshape(8, 8) - 20
        return CCDData(data, unit=u.dimensionless_unscaled, wcs=wcs, meta={"CLASS": class_name})


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_image_map_probabilities_and_flags_in_words(tmp_path):
    judge = Judge(Geometry(500 * u.kpc, (64, 64)))
    figure = plot_prediction(write_image(made_image(), tmp_path / "a.fits"), judge, redshift=0.1)
    assert judge.asked[0]["redshift"] == 0.1
    image, drawn, bars = figure.axes[0], figure.axes[1], figure.axes[2]
    assert image.images[0].get_array().shape == (64, 64) and image.collections  # with contours
    mesh = next(each for each in drawn.collections if hasattr(each, "get_coordinates"))
    assert np.array_equal(np.ravel(mesh.get_array()), np.arange(64.0) - 20)
    assert np.allclose(mesh.get_clim(), np.percentile(np.abs(np.arange(64.0) - 20), 99) * np.array([-1, 1]))
    assert drawn.get_title() == "what speaks for cluster"
    bars = next(axis for axis in figure.axes if axis.patches and axis.get_xlabel() == "probability")
    assert [bar.get_width() for bar in bars.patches] == [0.8, 0.2]
    (words,) = [text for text in texts(figure) if text.startswith("flags")]
    assert words == "flags: no exposure, other band\nno plate"
    assert figure.get_suptitle() == "A1: cluster by judge"


def bar_of(figure):
    """Length in pixels of the bar on the first panel, and its text."""
    line = next(line for line in figure.axes[0].lines if line.get_linewidth() == 2.5)
    return np.ptp(line.get_xdata()), figure.axes[0].texts[0].get_text()


def test_bar_is_200_kpc_or_an_arcmin(tmp_path):
    length, text = bar_of(plot_prediction(made_image(), Judge(Geometry(500 * u.kpc, (64, 64))), redshift=0.1))
    assert length == pytest.approx(200 / 500 * 64, rel=1e-3) and text == "200 kpc at z = 0.1"
    angular = Judge(Geometry(4 * u.arcmin, (60, 60)))
    length, text = bar_of(plot_prediction(made_image(), angular))
    assert length == pytest.approx(15, rel=1e-3) and text == "1 arcmin"
    length, text = bar_of(plot_prediction(made_image(), angular, redshift=0.2))
    expected = 200 / DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(0.2).value * 15
    assert length == pytest.approx(expected, rel=1e-3) and text == "200 kpc at z = 0.2"


def test_each_band_has_a_panel(tmp_path):
    cutout = Cutout("A1", {"optical": made_image(2, u.adu), "xray": made_image()})
    judge = Judge(Geometry(4 * u.arcmin, (60, 60)), ("xray", "optical"))
    figure = plot_prediction(cutout, judge, class_name="other", title="mine")
    assert [axis.get_title() for axis in figure.axes[:3]] == ["xray", "optical", "what speaks for other"]
    assert figure.get_suptitle() == "mine"
    figure.savefig(tmp_path / "prediction.png")


def test_a_missing_map_is_said():
    class WithoutTorch(Judge):
        def activation_map(self, image, class_name, **how):
            raise MissingDependencyError("torch is needed: install astroclassify[train]")

    figure = plot_prediction(made_image(), WithoutTorch(Geometry(4 * u.arcmin, (60, 60))))
    assert figure.axes[1].get_title() == "no activation map: torch is needed: install astroclassify[train]"
    assert not figure.axes[1].collections


def test_bad_input():
    judge = Judge(Geometry(4 * u.arcmin, (60, 60)))
    with pytest.raises(ArgumentError, match="image must be a path, a CCDData or a Cutout, got list"):
        plot_prediction([made_image()], judge)
    with pytest.raises(ArgumentError, match="classifier must be a CutoutClassifier, got str"):
        plot_prediction(made_image(), "coolcore")
    with pytest.raises(ValueError, match="stretch must be one of"):
        plot_prediction(made_image(), judge, stretch="cubic")
