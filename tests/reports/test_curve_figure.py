"""The drawn figure: the positions of its parts for many kinds of runs."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from poise.reports import curve_figure
from poise.reports.curve_data import Episodes, Marks, Verified
from poise.reports.curve_figure import DOTS_PER_INCH, SIZE, draw

MARKS = Marks("CartPole-v1, A3C, seed 0", 475.0, 21.34, Verified(480.0, 470.0, 490.0, 3))


def figure_of(data: Episodes, marks: Marks = MARKS) -> Any:
    figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    draw(figure, data, marks)
    figure.canvas.draw()
    return figure


def episodes(
    count: int = 400,
    returns: Callable[[np.ndarray], np.ndarray] = lambda part: 500.0 * part,
    evaluated: tuple[float, ...] = (20.0, 300.0, 480.0, 450.0),
    length: float = 100.0,
) -> Episodes:
    part = np.linspace(0.0, 1.0, count)
    steps = length * np.arange(1, count + 1)
    end = length * max(count, 1)
    places = np.linspace(0.0, end, len(evaluated) + 1)[1:]
    return Episodes(
        steps, returns(part), places, np.array(evaluated), np.arange(1.0, len(evaluated) + 1)
    )


def legend_of(figure: Any) -> dict[str, Any]:
    (legend,) = figure.legends
    return {
        text.get_text(): handle
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


def lines_of(figure: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def outlier(part: np.ndarray) -> np.ndarray:
    return np.where(part < 0.005, -100_000.0, -13.0 - 4 * (1 - part))


CASES = {
    "cartpole": (episodes(), MARKS),
    "one episode": (episodes(1), MARKS),
    "no episodes": (episodes(0, evaluated=()), MARKS),
    "nothing at all": (episodes(0, evaluated=()), Marks("Nothing-v0")),
    "an outlier": (
        episodes(2000, outlier, (-10_000.0, -17.0, -13.0, -13.0, -13.0)),
        Marks("CliffWalking-v1, A3C, seed 0", None, -106_426.0, Verified(-13.0, -13.0, -13.0, 3)),
    ),
    "outliers on both sides": (
        episodes(2000, lambda part: outlier(part) + 1e6 * (part > 0.999)),
        MARKS._replace(target=-13.0, verified=Verified(-13.0, -1e5, 1e5, None)),
    ),
    "small": (episodes(returns=lambda part: 1e-3 * part, evaluated=(1e-3, 2e-3)), Marks("x")),
    "large": (episodes(returns=lambda part: 1e6 * part, evaluated=(1e6, 2e6)), Marks("x", 2e6)),
    "very large": (episodes(returns=lambda part: 1e298 * part, evaluated=()), Marks("x", -1e30)),
    "far from zero": (
        episodes(returns=lambda part: 1e6 + part, evaluated=(1e6 + 1,), length=1e7),
        Marks("x", 1e6 + 1, 1e6, Verified(1e6 + 0.91, 1e6 + 0.9, 1e6 + 0.92, 1)),
    ),
    "a long name": (episodes(), MARKS._replace(title="a.very.long.package:" + 20 * "Long")),
    "a formula": (episodes(), MARKS._replace(title="$\\badcommand{$")),
}


@pytest.fixture(scope="module", params=list(CASES))
def figure(request: pytest.FixtureRequest) -> Any:
    return figure_of(*CASES[request.param])


def test_everything_is_on_the_figure_and_nothing_on_the_plot(figure: Any) -> None:
    renderer = figure.canvas.get_renderer()
    (axes,), (title,) = figure.axes, figure.texts
    boxes = {"title": title.get_window_extent(renderer)}
    if figure.legends:
        boxes["legend"] = figure.legends[0].get_window_extent(renderer)
    for name, axis in (("steps", axes.xaxis), ("returns", axes.yaxis)):
        boxes[name] = axis.get_tightbbox(renderer)
    for name, box in boxes.items():
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= figure.bbox.width, name
        assert box.y1 <= figure.bbox.height, name
    # Data are clipped to the axes, so what does not overlap them covers no data.
    plot = axes.get_window_extent(renderer)
    assert plot.height > 0.4 * figure.bbox.height
    stacked = [boxes[name] for name in ("title", "legend") if name in boxes]
    for above, below in itertools.pairwise([*stacked, plot]):
        assert above.y0 > below.y1
    for tick, label in zip(axes.get_xticklabels(), axes.get_xticklabels()[1:], strict=False):
        assert tick.get_window_extent(renderer).x1 < label.get_window_extent(renderer).x0


def test_no_axis_has_an_offset_and_no_two_ticks_read_the_same(figure: Any) -> None:
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        assert axis.get_offset_text().get_text() == ""
        labels = [tick.get_text() for tick in axis.get_ticklabels()]
        assert len(labels) >= 2
        assert len(set(labels)) == len(labels)


def test_what_is_drawn_of_a_usual_run() -> None:
    figure = figure_of(episodes())
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert low < 0
    assert 500 < high < 600
    assert axes.get_xlim() == (0.0, pytest.approx(40_800))
    assert list(legend_of(figure)) == [
        "training episodes",
        "mean of the last 100 episodes",
        "solved at 475",
        "random play: 21.3",
        "greedy policy, evaluated",
        "verified: 480 (95%: 470 to 490)",
    ]
    lines = lines_of(figure)
    assert lines["solved at 475"].get_ydata()[0] == 475.0
    assert lines["random play: 21.3"].get_ydata()[0] == 21.34
    # One average, of a hundred.
    mean = lines["mean of the last 100 episodes"].get_ydata()
    assert mean[-1] == pytest.approx(np.mean(500 * np.linspace(0, 1, 400)[-100:]))
    assert len(axes.get_lines()) == 6 + 2  # the interval has caps
    np.testing.assert_array_equal(
        lines["greedy policy, evaluated"].get_ydata(), [20.0, 300.0, 480.0, 450.0]
    )


def test_the_verified_score_stands_where_its_policy_was_found() -> None:
    figure = figure_of(episodes())
    (container,) = figure.axes[0].containers
    point, caps, (bar,) = container
    assert list(point.get_xdata()) == [30_000.0]
    assert list(point.get_ydata()) == [480.0]
    assert [cap.get_ydata()[0] for cap in caps] == [470.0, 490.0]
    np.testing.assert_array_equal(bar.get_segments()[0], [[30_000.0, 470.0], [30_000.0, 490.0]])
    unknown = MARKS._replace(verified=Verified(480.0, None, None, 77))
    figure = figure_of(episodes(), unknown)
    (container,) = figure.axes[0].containers
    assert list(container[0].get_xdata()) == [40_000.0]
    assert "verified: 480" in legend_of(figure)
    assert not figure_of(episodes(), MARKS._replace(verified=None)).axes[0].containers


def test_what_is_beyond_the_axis_is_marked_and_counted() -> None:
    figure = figure_of(*CASES["an outlier"])
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert -30 < low < -17
    assert -13 < high < -10
    legend = legend_of(figure)
    (label,) = [text for text in legend if "below the axis:" in text]
    assert label == "below the axis: 10 episodes, 1 evaluation, to \N{MINUS SIGN}100,000"
    assert "random play: \N{MINUS SIGN}106,426 (below the axis)" in legend
    assert not [text for text in legend if "above" in text]
    triangles = [line for line in axes.get_lines() if line.get_marker() == "v"]
    assert [len(line.get_xdata()) for line in triangles] == [1, 1]
    renderer = figure.canvas.get_renderer()
    plot = axes.get_window_extent(renderer)
    for line in triangles:
        box = line.get_window_extent(renderer)
        assert plot.y0 - 1 <= box.y0 <= box.y1 < plot.y0 + 0.05 * plot.height


def test_both_sides_can_be_beyond() -> None:
    legend = legend_of(figure_of(*CASES["outliers on both sides"]))
    beyond = [text for text in legend if "the axis:" in text]
    assert [text.split(":")[0] for text in beyond] == ["below the axis", "above the axis"]
    assert "2 episodes" in beyond[1]


def test_nothing_is_marked_where_everything_is_shown() -> None:
    figure = figure_of(episodes())
    assert not [text for text in legend_of(figure) if "the axis" in text]
    assert not [line for line in figure.axes[0].get_lines() if line.get_marker() in "v^"]


def test_many_episodes_are_thinned_out_and_all_of_them_counted() -> None:
    data = episodes(50_000, lambda part: np.where(part * 50_000 % 40 < 1, -1e6, part))
    figure = figure_of(data, Marks("x"))
    lines = lines_of(figure)
    assert len(lines["training episodes"].get_xdata()) <= curve_figure.MAX_POINTS
    (label,) = [text for text in lines if "below" in text]
    beyond = int(np.sum(data.returns < figure.axes[0].get_ylim()[0]))
    assert label.startswith(f"below the axis: {beyond:,} episodes")
    assert beyond > 1000
    assert len(lines[label].get_xdata()) <= curve_figure.COLUMNS_OF_TRIANGLES + 1


def test_episodes_that_end_together_have_one_mean() -> None:
    steps = np.repeat([100.0, 200.0, 300.0], 8)
    data = Episodes(steps, np.arange(24.0), *(np.zeros(0),) * 3)
    mean = lines_of(figure_of(data))["mean of the last 100 episodes"]
    np.testing.assert_array_equal(mean.get_xdata(), [100.0, 200.0, 300.0])
    np.testing.assert_array_equal(mean.get_ydata(), [3.5, 7.5, 11.5])


def test_returns_that_are_no_numbers_are_left_out() -> None:
    returns = np.array([1.0, np.inf, np.nan, -1e308, 2.0])
    data = Episodes(
        np.arange(1.0, 6.0), returns, np.array([3.0]), np.array([np.nan]), np.array([1.0])
    )
    lines = lines_of(figure_of(data, Marks("x")))
    np.testing.assert_array_equal(lines["training episodes"].get_ydata(), [1.0, 2.0])
    assert "greedy policy, evaluated" not in lines


def test_a_run_without_episodes_says_so() -> None:
    texts = [text.get_text() for text in figure_of(*CASES["no episodes"]).axes[0].texts]
    assert texts == ["no training episode ended"]
    assert not figure_of(episodes()).axes[0].texts


def test_a_long_title_keeps_both_its_ends() -> None:
    (title,) = figure_of(*CASES["a long name"]).texts
    text = title.get_text()
    assert text.startswith("a.very.long.package")
    assert text.endswith("Long")
    assert curve_figure.ELLIPSIS in text
    (title,) = figure_of(episodes()).texts
    assert title.get_text() == MARKS.title


def test_colours_differ_also_without_hue() -> None:
    """Overlapping parts have different luminance (Rec. 709), so they differ in grey print."""
    shades = [
        float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))
        for colour in (curve_figure.POINTS, curve_figure.BLUE, curve_figure.BLACK)
    ]
    assert min(abs(one - other) for one, other in itertools.combinations(shades, 2)) > 0.2
    shapes = {
        (line.get_linestyle(), line.get_marker())
        for label, line in lines_of(figure_of(episodes())).items()
        if not label.startswith("_")
    }
    assert len(shapes) == 5


def test_a_figure_can_be_used_again() -> None:
    figure = figure_of(episodes())
    figure.clear()
    draw(figure, *CASES["an outlier"])
    assert len(figure.axes) == len(figure.legends) == len(figure.texts) == 1
