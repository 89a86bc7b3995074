from __future__ import annotations

import math

import numpy as np
import pytest

from medgen.report.plots import agreement, chain, cloud, curves, histogram, mesh, paths, responses, scatter
from medgen.report.style import FAKE, REAL, data_uri

RNG = np.random.Generator(np.random.Philox(1))
X = RNG.random((30, 5))
NAMES = ["a", "b", "$c_", "d", "e"]


def row(step: int, split: str, phase: str, name: str, value: float) -> dict[str, object]:
    return {"step": step, "epoch": 0, "split": split, "phase": phase, "name": name, "value": value}


def test_curves_have_a_panel_per_phase_and_name_and_a_line_per_split() -> None:
    rows = [row(s, split, phase, "loss", 1.0 + s) for s in range(4) for split in ("train", "val") for phase in ("g", "d")]
    rows += [row(s, "train", "", "lr", 1e-3) for s in range(4)]
    figure = curves(rows)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["g: loss", "d: loss", "lr"]
    assert [len(ax.lines) for ax in figure.axes] == [2, 2, 1]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0, 4.0]
    assert [line.get_color() for line in figure.axes[0].lines] == [REAL, FAKE]


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0, 1000.0], "log"), ([1.0, 99.0], "linear"), ([-1.0, 1000.0], "linear"), ([1.0, math.nan, 1000.0], "log")]
)
def test_a_log_axis_is_for_positive_values_over_more_than_two_decades(values: list[float], scale: str) -> None:
    (ax,) = curves([row(k, "train", "p", "loss", v) for k, v in enumerate(values)]).axes
    assert ax.get_yscale() == scale


def test_a_start_that_would_flatten_the_rest_is_cut_off() -> None:
    values = [1000.0, -5.0, *(-6.0 - 0.01 * k for k in range(20))]
    (ax,) = curves([row(k, "train", "p", "loss", v) for k, v in enumerate(values)]).axes
    low, high = ax.get_ylim()
    assert low < min(values)
    assert max(values[3:]) < high < 0
    (ax,) = curves([row(k, "train", "p", "loss", float(k)) for k in range(20)]).axes
    assert ax.get_ylim()[1] > 19


@pytest.mark.parametrize(("features", "axes"), [(1, 1), (2, 1), (3, 6), (5, 10)])
def test_clouds_by_number_of_features(features: int, axes: int) -> None:
    figure = cloud({"real": X[:, :features], "generated": X[:5, :features]}, NAMES[:features])
    assert len(figure.axes) == axes
    assert data_uri(figure).startswith("data:image/png")


def test_agreement_has_a_panel_per_feature() -> None:
    figure = agreement(X, X, NAMES)
    assert len(figure.axes) == 5
    points = figure.axes[1].collections[0].get_offsets()
    np.testing.assert_array_equal(np.asarray(points), np.stack([X[:, 1], X[:, 1]], 1))


def test_histograms_share_bins_and_sum_to_one_with_their_tails() -> None:
    sets = {"train": np.append(RNG.normal(size=200), 1e6), "val": RNG.normal(size=50)}
    (ax,) = histogram(sets, x="nats").axes
    for outline in ax.patches[1::2]:
        xy = outline.get_xy()
        assert 0.95 < xy[:, 1].sum() / 2 <= 1.0 + 1e-9
        assert xy[:, 0].max() < 100
    assert histogram({"one": np.zeros(4)}, x="constant").axes


def test_scatter_has_a_colour_and_a_name_per_class() -> None:
    figure = scatter(X[:, :2], np.arange(30) % 3, ("x", "$y^", "z"), ("z1", "z2"))
    (ax,) = figure.axes
    assert [len(c.get_offsets()) for c in ax.collections] == [10, 10, 10]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["x", "$y^", "z"]
    assert data_uri(figure, vector=True).startswith("data:image/svg+xml;base64,")
    assert len(scatter(X[:, :2], None, (), ("a", "b")).axes[0].collections) == 1


def test_walks_through_vectors() -> None:
    assert len(mesh(RNG.random((4, 3, 2)), NAMES, X).axes[0].lines) == 4 + 3
    assert len(paths(RNG.random((2, 7, 5)), NAMES, X).axes[0].lines) == 2
    assert len(paths(RNG.random((2, 7, 1)), NAMES[:1], X[:, :1]).axes[0].lines) == 2
    figure = responses(np.linspace(-1, 1, 7), RNG.random((3, 7, 5)), ["z1", "z2", "z3"], NAMES)
    assert [len(ax.lines) for ax in figure.axes] == [5, 5, 5]


def test_the_same_figure_gives_the_same_bytes() -> None:
    rows = [row(k, "train", "p", "loss", 1.0) for k in range(3)]
    assert data_uri(curves(rows), vector=True) == data_uri(curves(rows), vector=True)
    assert data_uri(curves(rows)) == data_uri(curves(rows))


def test_a_chain_shows_every_term_that_a_logarithmic_axis_can_hold() -> None:
    mean = np.array([-2.0, 0.5, 0.25, 0.0, 0.1, 1e-5])
    (ax,) = chain(mean, 0.5 * mean, 2 * mean, x="t", y="bits").axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("symlog", "log")
    curve, last = ax.lines
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(curve.get_ydata(), [0.5, 0.25, np.nan, 0.1])
    assert (list(last.get_xdata()), list(last.get_ydata()), last.get_label()) == ([5], [1e-5], "t = 5")
    first = chain(-mean, -mean, -mean, x="t", y="bits").axes[0].lines[1]
    assert (first.get_label(), list(first.get_ydata())) == ("t = 0", [2.0])


@pytest.mark.parametrize("size", [2, 3])
def test_the_shortest_chains(size: int) -> None:
    values = np.ones(size)
    assert data_uri(chain(values, values, values, x="t", y="bits"), vector=True)
