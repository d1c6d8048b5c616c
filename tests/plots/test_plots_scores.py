"""Figures of scores: what is drawn is what the tables say."""

import numpy as np
import pytest
from astropy.table import QTable, vstack

from astroclassify import plots
from astroclassify.exceptions import ArgumentError, SchemaError
from astroclassify.nn import precision_recall, reliability, roc, roc_seeds, score, score_seeds
from astroclassify.schemes import CLUSTER

pytest.importorskip("matplotlib")


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2 == 0
    p = np.clip(0.25 + 0.4 * truth + rng.normal(0, 0.2, 40), 0.01, 0.99)
    table = QTable({"source_id": [f"s{i}" for i in range(40)], "label_pred": np.where(p > 0.5, "cluster", "other")})
    table["p_cluster"], table["p_other"] = p, 1 - p
    table["flags"] = np.zeros(40, dtype=np.int64)
    table["label"] = np.where(truth, "cluster", "other")
    table.meta["scheme"] = CLUSTER.to_dict()
    return table


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_roc_draws_the_curve_and_its_area(predictions):
    curves = roc(predictions)
    axis = plots.plot_roc(curves).axes[0]
    drawn = axis.lines[1].get_xydata()
    rows = curves[curves["class"] == "cluster"]
    assert np.allclose(drawn, np.stack([rows["fpr"], rows["tpr"]], axis=1))
    truth, p = np.array(predictions["label"]) == "cluster", np.array(predictions["p_cluster"])
    area = np.mean(p[truth][:, None] > p[~truth])
    assert legend(axis) == [f"cluster (AUC {area:.2f})", f"other (AUC {area:.2f})"]


def test_several_methods_show_one_class(predictions):
    for draw, make in ((plots.plot_roc, roc), (plots.plot_precision_recall, precision_recall)):
        curves = make(predictions)
        axis = draw({"a": curves, "b": curves}, class_name="other").axes[0]
        assert axis.get_title() == "other"
        assert [label.split(" ")[0] for label in legend(axis)] == ["a", "b"]
        assert draw({"a": curves}).axes[0].get_title() == "cluster"


def test_precision_recall_draws_the_curve(predictions):
    curves = precision_recall(predictions)
    axis = plots.plot_precision_recall(curves, class_name="cluster").axes[0]
    rows = curves[curves["class"] == "cluster"]
    assert np.allclose(axis.lines[0].get_xydata(), np.stack([rows["recall"], rows["precision"]], axis=1))


def test_missing_curves_are_named(predictions):
    for draw, make in ((plots.plot_roc, roc), (plots.plot_precision_recall, precision_recall)):
        curves = make(predictions)
        with pytest.raises(SchemaError, match=r"none for \['galaxy'\]"):
            draw(curves, class_name="galaxy")
        with pytest.raises(SchemaError, match="curves must have rows"):
            draw(curves[:0])
        with pytest.raises(SchemaError, match="curves must have rows"):
            draw({})
        with pytest.raises(SchemaError, match="lacks"):
            draw(curves["class", "threshold"])
        unlabelled = predictions.copy()
        unlabelled.remove_column("label")
        with pytest.raises(SchemaError, match="label"):
            draw(unlabelled)


def test_learning_curve_draws_mean_and_scatter():
    table = QTable({"n_groups": [10, 10, 40, 40], "class": ["CC", "mean", "CC", "mean"]})
    table["f1"], table["f1_std"] = [0.3, 0.5, 0.6, 0.7], [0.1, 0.05, 0.1, np.nan]
    axis = plots.plot_learning_curve(table).axes[0]
    assert axis.get_xscale() == "log" and axis.get_ylabel() == "f1 (mean)"
    assert axis.lines[0].get_xydata().tolist() == [[10, 0.5], [40, 0.7]]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["10", "40"]
    segments = axis.collections[0].get_segments()
    assert np.allclose(segments[0], [[10, 0.45], [10, 0.55]])
    assert legend(plots.plot_learning_curve({"a": table}, class_name="CC").axes[0]) == ["a"]
    with pytest.raises(SchemaError, match="class 'NCC'"):
        plots.plot_learning_curve(table, class_name="NCC")
    with pytest.raises(SchemaError, match="lacks"):
        plots.plot_learning_curve(table, measure="auc")


def test_reliability_draws_full_bins():
    table = QTable({"p_mean": [0.1, np.nan, 0.9], "fraction": [0.25, np.nan, 0.75], "n": [100, 0, 48]})
    table["fraction_lo"], table["fraction_hi"] = [0.1, np.nan, 0.7], [0.5, np.nan, 0.95]
    figure = plots.plot_reliability({"before": table, "after": table})
    upper, lower = figure.axes
    assert upper.lines[1].get_xydata().tolist() == [[0.1, 0.25], [0.9, 0.75]]
    assert lower.lines[0].get_xydata().tolist() == [[0.1, 100], [0.9, 48]]
    assert np.allclose(upper.collections[0].get_segments(), [[[0.1, 0.1], [0.1, 0.5]], [[0.9, 0.7], [0.9, 0.95]]])
    assert legend(upper) == ["before", "after"]
    with pytest.raises(SchemaError, match="fraction_lo"):
        plots.plot_reliability(table["p_mean", "fraction", "n"])


def test_reliability_bars_are_the_intervals_of_the_table(predictions):
    predictions["group_id"] = np.repeat(np.arange(20), 2).astype(str)
    bins = reliability(predictions, n_bins=8)
    bins = bins[bins["class"] == "top"]
    assert {0.0, 1.0} & set(bins["fraction"])  # where the binomial's standard deviation would be 0
    upper = plots.plot_reliability(bins).axes[0]
    full = bins[bins["n"] > 0]
    ends = np.array(upper.collections[0].get_segments())
    assert np.allclose(ends[:, :, 0], full["p_mean"][:, None])
    assert np.allclose(ends[:, :, 1], np.stack([full["fraction_lo"], full["fraction_hi"]], axis=1))


def test_more_methods_than_colours_are_all_drawn():
    table = QTable({"class": ["a", "mean"], "f1": [0.8, 0.8], "f1_lo": [0.7, 0.7], "f1_hi": [0.9, 0.9]})
    axis = plots.plot_scores({f"method {i}": table for i in range(9)}).axes[0]
    assert len(axis.patches) == 18
    styles = {(bar.get_facecolor(), bar.get_alpha()) for bar in axis.patches}
    assert len(styles) == 9


def test_scores_of_seeds_have_their_scatter():
    table = QTable({"class": ["a", "mean"], "f1": [0.8, 0.7], "f1_std": [0.1, np.nan]})
    axis = plots.plot_scores({"seeds": table}).axes[0]
    ends = axis.collections[0].get_segments()
    assert np.allclose([segment[:, 1] for segment in ends], [[0.7, 0.9], [0.7, 0.7]])


def test_reliability_of_several_classes_in_one_line_is_refused():
    bins = QTable({name: [0.5, 0.5] for name in ("p_mean", "fraction", "fraction_lo", "fraction_hi")})
    bins["n"], bins["class"] = [3, 3], ["CC", "top"]
    with pytest.raises(SchemaError, match="one class"):
        plots.plot_reliability(bins)


def lines_of(axis):
    return [line.get_xydata().tolist() for line in axis.lines]


def test_predictions_are_drawn_as_their_curves_and_scores_are(predictions):
    top = reliability(predictions)
    pairs = [(plots.plot_roc, roc(predictions)), (plots.plot_precision_recall, precision_recall(predictions))]
    pairs += [(plots.plot_reliability, top[top["class"] == "top"])]
    for draw, made in pairs:
        assert lines_of(draw(predictions).axes[0]) == lines_of(draw(made).axes[0])
        mixed, both = (draw({"a": predictions, "b": each}).axes[0] for each in (made, predictions))
        assert lines_of(mixed) == lines_of(both) and legend(mixed) == legend(both)
    bars = [plots.plot_scores(each).axes[0].patches for each in (predictions, {"a": score(predictions, rng=0)})]
    assert [bar.get_height() for bar in bars[0]] == [bar.get_height() for bar in bars[1]]


def test_predictions_of_seeds_are_drawn_with_their_scatter(predictions):
    other = QTable(predictions)
    other.meta = {}
    other["p_cluster"], other["p_other"] = other["p_cluster"] ** 3, 1 - other["p_cluster"] ** 3
    seeds = vstack([predictions, other])
    seeds.meta = predictions.meta
    seeds["seed"] = np.repeat([0, 1], len(predictions))
    drawn, made = (plots.plot_roc(each, class_name="cluster").axes[0] for each in (seeds, roc_seeds(seeds)))
    assert lines_of(drawn) == lines_of(made) and len(drawn.collections) == len(made.collections) == 1
    drawn, made = (plots.plot_scores({"s": each}).axes[0] for each in (seeds, score_seeds(seeds)))
    assert [bar.get_height() for bar in drawn.patches] == [bar.get_height() for bar in made.patches]


def test_axes_of_ones_own(predictions):
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots(2, 2).ravel()
    draws = (plots.plot_roc, plots.plot_precision_recall, plots.plot_confusion, plots.plot_scores)
    for draw, axis in zip(draws, axes, strict=True):
        assert draw(predictions, ax=axis) is figure
        assert axis.lines or axis.images or axis.patches
    assert len(figure.axes) == 4
    for draw in draws:
        with pytest.raises(ArgumentError, match="ax must be axes of Matplotlib or None, got Figure"):
            draw(predictions, ax=figure)
