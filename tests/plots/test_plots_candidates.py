"""Figures of classified candidates: what is drawn is what the tables say."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from astropy.table import QTable

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.images import Cutout
from astroclassify.nn import clusters_per_area, purity_curve, roc_seeds
from astroclassify.people import who_was_right
from astroclassify.plots import plot_examples, plot_purity, plot_roc, plot_who_differs
from astroclassify.schemes import CANDIDATE, CLUSTER, Flag
from astroclassify.sim import simulate_candidates

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Twenty candidates in two bands."""
    folder = tmp_path_factory.mktemp("candidates") / "sample"
    simulate_candidates(20, rng=3, out=folder, shape=(32, 32), progress=False)
    return tables.read_sample(folder)


def predictions_of(sample):
    """Answers that are right but for every third."""
    truth = np.isin(sample["label"], ["low_z", "high_z"])
    said = truth ^ (np.arange(len(sample)) % 3 == 0)
    p = np.where(said, 0.6, 0.1) + 0.02 * np.arange(len(sample)) / 2
    table = QTable({"source_id": sample["source_id"], "label": np.array(CLUSTER.classes)[1 - truth]})
    table["label_pred"] = np.array(CLUSTER.classes)[1 - said]
    table["p_cluster"], table["p_other"], table["flags"] = p, 1 - p, 0
    table.meta["scheme"] = CLUSTER.to_dict()
    return table


def test_examples_have_both_images_and_the_probability(sample, tmp_path):
    predictions = predictions_of(sample)
    figure = plot_examples(sample, predictions, n_examples=2)
    axes = [axis for axis in figure.axes if axis.images]
    assert len(axes) == 3 * 2 * 2
    kinds = [axis.images[0].get_cmap().name for axis in axes]
    assert kinds == ["inferno", "gray"] * 6
    truth, said = (np.asarray(predictions[name]) == "cluster" for name in ("label", "label_pred"))
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert words == [
        f"{name} ({np.sum(rows)})"
        for name, rows in (("TP", truth & said), ("FP", ~truth & said), ("FN", truth & ~said))
    ]
    rows = np.flatnonzero(~truth & said)
    best = rows[np.argmax(predictions["p_cluster"][rows])]
    titles = [axis.get_title(loc="left") for axis in axes if axis.get_title(loc="left")]
    assert titles[2] == f"p = {predictions['p_cluster'][best]:.2f}  {sample['label'][best]}"
    figure.savefig(tmp_path / "examples.png")


def test_examples_of_one_band_and_of_what_failed(tmp_path):
    (tmp_path / "images").mkdir()
    table = tables.empty(tables.SAMPLE, scheme="candidate")
    for number, name in enumerate("ab"):
        image = CCDData(np.ones((8, 8)), unit=u.ct)
        Cutout(name, {"xray": image}).write(tmp_path / "images" / f"{name}.fits")
        flags = Flag.FAILED.value * number
        table.add_row({"source_id": name, "path": f"images/{name}.fits", "label": "low_z", "flags": flags})
    table.meta["scheme"] = CANDIDATE.to_dict()
    sample = tables.write_sample(table, tmp_path)
    predictions = predictions_of(sample)
    figure = plot_examples(sample, predictions)  # a is missed, b has no image
    assert [len(axis.images) for axis in figure.axes] == [1]
    with pytest.raises(SchemaError, match="have no TP, FP, FN of class 'cluster' with an image"):
        plot_examples(sample, predictions[1:])
    with pytest.raises(SchemaError, match="one row per source_id"):
        plot_examples(sample, predictions[[0, 0]])
    with pytest.raises(SchemaError, match="lacks"):
        plot_examples(sample, predictions, class_name="galaxy")


def test_where_two_judges_differ():
    ext = np.array([30.0, 20.0, 2.0, 12.0, 40.0, np.nan]) * u.arcsec
    found = QTable({"source_id": list("abcdef"), "ext": ext, "ext_like": [90.0, 20, 0, 18, 60, 40]})
    truth = {"a": "low_z", "b": "high_z", "c": "point", "d": "galaxy", "e": "low_z", "f": "point"}
    judges = {
        "crowd": {"a": "low_z", "b": "point", "c": "point", "d": "low_z", "f": "point"},
        "network": {name: "cluster" for name in "abcdef"},
    }
    figure = plot_who_differs(who_was_right(truth, judges, candidates=found), "crowd", "network")
    axis = figure.axes[0]
    drawn = {each.get_label(): np.asarray(each.get_offsets()).tolist() for each in axis.collections}
    assert drawn["both right: 1 clusters"] == [[30, 90]] and drawn["network alone: 1 clusters"] == [[20, 20]]
    assert drawn["crowd alone: 1 others"] == [[2, 0.5]] and drawn["both wrong: 1 others"] == [[12, 18]]
    assert axis.get_title() == "(2 open or without a result)"
    with pytest.raises(SchemaError, match="verdict_nobody"):
        plot_who_differs(who_was_right(truth, judges, candidates=found), "crowd", "nobody")


def test_purity_draws_lines_and_cuts():
    rng = np.random.default_rng(1)
    p = rng.random(200)
    found = QTable({"group_id": [f"f{i // 10}" for i in range(200)]})
    found["label"] = np.where(rng.random(200) < p, "low_z", "point")
    ways = {"C1": p > 0.9, "network": p}
    area = 3 * u.deg**2
    curves = purity_curve(found, ways, area=area)
    table = clusters_per_area(found, ways, area=area, purity=0.7, n_bootstrap=50, rng=1)
    axis = plot_purity(curves, table).axes[0]
    one, line = axis.lines[0], axis.lines[1]
    rows = curves[curves["selection"] == "network"]
    assert len(one.get_xdata()) == 1 and np.allclose(line.get_xdata(), rows["density"].value)
    assert np.allclose(line.get_ydata(), rows["purity"])
    points = [container.lines[0].get_xydata()[0] for container in axis.containers]
    assert np.allclose(points, np.stack([table["density"].value, table["purity"]], axis=1))
    assert axis.lines[-1].get_ydata()[0] == 0.7
    assert len(plot_purity(curves).axes[0].containers) == 0
    with pytest.raises(SchemaError, match="at least one row"):
        plot_purity(curves[:0])


def test_roc_over_seeds_has_a_band():
    rng = np.random.default_rng(2)
    table = QTable({"source_id": [f"s{i}" for i in range(20)] * 3, "label": ["cluster", "other"] * 30})
    p = rng.random(60)
    table["label_pred"], table["p_cluster"], table["p_other"], table["flags"] = "cluster", p, 1 - p, 0
    table["seed"] = np.repeat([0, 1, 2], 20)
    curve = roc_seeds(table, scheme=CLUSTER)
    axis = plot_roc({"CN": curve}).axes[0]
    assert len(axis.collections) == 1
    lower, upper = (axis.collections[0].get_paths()[0].vertices[:, 1].__getattribute__(end)() for end in ("min", "max"))
    rows = curve[curve["class"] == "cluster"]
    assert np.isclose(upper, np.clip(rows["tpr"] + rows["tpr_std"], 0, 1).max())
    assert np.isclose(lower, np.clip(rows["tpr"] - rows["tpr_std"], 0, 1).min())
