"""Figures of people's labels: what is drawn is what the tables say."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable
from sklearn.metrics import roc_auc_score

from astroclassify.exceptions import SchemaError
from astroclassify.people import compare_labels, judge_roc, simulate_votes, volunteer_skill, who_was_right
from astroclassify.plots import plot_judge_roc, plot_skill, plot_who_was_right

pytest.importorskip("matplotlib")

TRUTH = {f"s{k}": "low_z" if k % 3 else "point" for k in range(60)}


def made_judges():
    """Volunteers with numbers, experts with labels alone, a network that is right in most cases."""
    rng = np.random.default_rng(3)
    member = np.array([label == "low_z" for label in TRUTH.values()])
    numbers = {name: np.clip(member * 0.5 + rng.random(60) * 0.7, 0, 1) for name in ("volunteers", "network")}
    numbers["volunteers"] /= 2
    names = list(TRUTH)
    return {
        "volunteers": QTable(
            {
                "source_id": names,
                "outcome": np.where(numbers["volunteers"] > 0.5, "nearby_cluster", "point_source"),
                "f_nearby_cluster": numbers["volunteers"],
            }
        ),
        "network": QTable(
            {
                "source_id": names,
                "label_pred": np.where(numbers["network"] > 0.5, "cluster", "other"),
                "p_cluster": numbers["network"],
            }
        ),
        "experts": {name: label for k, (name, label) in enumerate(TRUTH.items()) if k != 5},
    }


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_roc_of_volunteers_with_the_network_beside(tmp_path):
    judges = made_judges()
    curves = {name: judge_roc(TRUTH, judges[name]) for name in ("volunteers", "network")}
    comparison = compare_labels(TRUTH, judges)
    figure = plot_judge_roc(curves, comparison)
    axis = figure.get_axes()[0]
    member = [label == "low_z" for label in TRUTH.values()]
    areas = [
        roc_auc_score(member, judges["volunteers"]["f_nearby_cluster"]),
        roc_auc_score(member, judges["network"]["p_cluster"]),
    ]
    # Experts have no numbers: no curve, and the only marker that the legend tells.
    assert legend(axis) == [f"volunteers (AUC {areas[0]:.3f})", f"network (AUC {areas[1]:.3f})", "experts (labels)"]
    lines = [line for line in axis.lines if len(line.get_xdata()) > 2]
    for line, curve in zip(lines, curves.values(), strict=True):
        assert np.array_equal(line.get_xdata(), curve["fpr"]) and np.array_equal(line.get_ydata(), curve["tpr"])
    points = [line for line in axis.lines if len(line.get_xdata()) == 1]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == [
        (row["fpr"], row["recall"]) for row in comparison
    ]
    assert points[2].get_xdata()[0] == 0 and points[2].get_ydata()[0] == 1  # experts are right
    # A point has the colour of its curve, and no two judges share one.
    colours = [line.get_color() for line in points]
    assert colours[:2] == [line.get_color() for line in lines] and len(set(colours)) == 3
    # A label at the threshold of the network lies on its curve.
    here = np.flatnonzero(np.asarray(curves["network"]["threshold"]) > 0.5)[-1]
    assert np.isclose(comparison["recall"][1], curves["network"]["tpr"][here])
    figure.savefig(tmp_path / "roc.png")


def test_roc_of_one_judge():
    curve = judge_roc(TRUTH, made_judges()["network"])
    axis = plot_judge_roc(curve).get_axes()[0]
    assert legend(axis) == [f"AUC {curve.meta['auc']:.3f}"]
    # Nothing but clusters: no false positive rate, no marker.
    comparison = compare_labels({"s1": "low_z"}, {"network": {"s1": "cluster"}})
    assert np.isnan(comparison["fpr"][0])
    assert len(plot_judge_roc({"network": curve}, comparison).get_axes()[0].lines) == 2


def made_verdicts():
    ext = np.array([30.0, 20.0, 2.0, 12.0, 40.0, np.nan]) * u.arcsec
    candidates = QTable({"source_id": list("abcdef"), "ext": ext, "ext_like": [90.0, 20, 0, 18, 60, 40]})
    truth = {"a": "low_z", "b": "high_z", "c": "point", "d": "galaxy", "e": "low_z", "f": "point"}
    judges = {
        "volunteers": {"a": "nearby_cluster", "b": "no_optical", "c": "edge", "d": "nearby_galaxy", "f": "edge"},
        "experts": {"a": "low_z", "b": "high_z", "c": "point", "d": "high_z", "e": "low_z", "f": "low_z"},
    }
    return who_was_right(truth, judges, candidates=candidates)


def places_of(axis):
    return {each.get_label(): np.asarray(each.get_offsets()) for each in axis.collections}


def test_plane_of_who_was_right(tmp_path):
    figure = plot_who_was_right(made_verdicts())
    axes = figure.get_axes()
    assert [axis.get_title() for axis in axes] == ["volunteers", "experts"]
    first, second = (places_of(axis) for axis in axes)
    assert list(first) == ["open (1)", "TN (2)", "TP (1)", "FN (1)", "FP (0)"]
    assert list(second) == ["TN (1)", "TP (3)", "FN (0)", "FP (1)"]
    assert np.allclose(first["FN (1)"], [[20, 20]]) and np.allclose(first["open (1)"], [[40, 60]])
    assert np.allclose(first["TN (2)"], [[2, 0.5], [12, 18]])  # no likelihood: at the floor
    assert np.allclose(second["FP (1)"], [[12, 18]])  # f, wrong too, has no result of the fit
    assert figure.get_suptitle() == "(1 without a result)"
    for axis in axes:
        assert axis.get_xscale() == axis.get_yscale() == "log"
        levels = sorted(line.get_ydata()[0] for line in axis.lines if np.ptp(line.get_ydata()) == 0)
        assert levels == [15, 33] and [line.get_xdata()[0] for line in axis.lines[:1]] == [5]
        assert axis.get_xlim()[1] > 40 and axis.get_ylim()[1] > 90
    colours = [tuple(each.get_facecolor()[0]) for each in axes[1].collections]
    assert len(set(colours)) == 4
    figure.savefig(tmp_path / "plane.png")


def test_plane_of_some_judges():
    table = made_verdicts()
    assert [axis.get_title() for axis in plot_who_was_right(table, judges="experts").get_axes()] == ["experts"]
    assert plot_who_was_right(table[:1]).get_suptitle() == ""
    assert [axis.get_title() for axis in plot_who_was_right(table[:0]).get_axes()] == ["volunteers", "experts"]
    for k in range(2):
        table[f"verdict_net {k}"] = ["TP"] * 6
    axes = plot_who_was_right(table).get_axes()
    assert len(axes) == 6 and [axis.axison for axis in axes] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("method", ["weighted", "dawid-skene"])
def test_skill_of_volunteers(method, tmp_path):
    truth = {f"s{k}": ("edge", "point_source", "no_emission")[k % 3] for k in range(40)}
    votes = simulate_votes(truth, n_voters=60, votes_per_subject=12, rng=1)
    skill = volunteer_skill(votes, method=method)
    figure = plot_skill(skill)
    axis, side = figure.get_axes()
    measure = "skill" if method == "dawid-skene" else "agreement"
    assert axis.get_ylabel() == measure and axis.get_xscale() == "log"
    assert np.allclose(axis.collections[0].get_offsets(), np.transpose([skill["n_subjects"], skill[measure]]))
    volunteers, classifications = side.patches
    assert np.isclose(volunteers.get_data().values.sum(), 1) and np.isclose(classifications.get_data().values.sum(), 1)
    shares, edges = classifications.get_data().values, classifications.get_data().edges
    high = (skill[measure] >= edges[20]) & (skill[measure] <= 1)
    assert np.isclose(shares[20:].sum(), skill["n_subjects"][high].sum() / (40 * 12))
    assert figure.get_suptitle() == f"{len(skill)} volunteers, 480 classifications"
    figure.savefig(tmp_path / "skill.png")


def test_skill_in_one_question_and_of_nobody(tmp_path):
    votes = simulate_votes({"a": "edge", "b": "edge"}, n_voters=4, votes_per_subject=3, hesitation=0, rng=1)
    skill = volunteer_skill(votes)
    seen = np.isfinite(skill["g_shape"])
    assert 0 < seen.sum() < len(skill) and not np.isfinite(skill["gold_right"]).any()
    figure = plot_skill(skill, measure="g_shape")
    assert len(figure.get_axes()[0].collections[0].get_offsets()) == seen.sum()
    figure = plot_skill(skill, measure="gold_right")
    assert figure.get_suptitle() == f"0 volunteers, 0 classifications ({len(skill)} volunteers without a number)"
    figure.savefig(tmp_path / "nobody.png")


def test_bad_input():
    curve = judge_roc(TRUTH, made_judges()["network"])
    with pytest.raises(SchemaError, match="curves must hold at least one"):
        plot_judge_roc({})
    with pytest.raises(SchemaError, match=r"curves must be a table with columns \['fpr', 'tpr'\]"):
        plot_judge_roc(curve["fpr",])
    with pytest.raises(SchemaError, match=r"curves\['net'\].*lacks \['tpr'\]"):
        plot_judge_roc({"us": curve, "net": curve["fpr",]})
    with pytest.raises(SchemaError, match=r"comparison.*lacks \['judge'"):
        plot_judge_roc(curve, curve)
    table = made_verdicts()
    with pytest.raises(SchemaError, match="judges must be some of.*'volunteers', 'experts'.*'nobody'"):
        plot_who_was_right(table, judges=["experts", "nobody"])
    with pytest.raises(SchemaError, match=r"got \[\]"):
        plot_who_was_right(table, judges=[])
    with pytest.raises(SchemaError, match="judges must be some of those of the table"):
        plot_who_was_right(table["source_id", "ext", "ext_like"])
    with pytest.raises(SchemaError, match=r"lacks \['ext_like'\]"):
        plot_who_was_right(table["source_id", "ext", "verdict_experts"])
    with pytest.raises(SchemaError, match=r"skill.*lacks \['agreement'\]"):
        plot_skill(QTable({"n_subjects": [1]}))
    with pytest.raises(SchemaError, match=r"lacks \['g_colour'\]"):
        plot_skill(QTable({"n_subjects": [1], "agreement": [0.5]}), measure="g_colour")
