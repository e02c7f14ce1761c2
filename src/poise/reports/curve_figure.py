"""The learning curve, drawn on a Matplotlib figure.

The colours are Okabe and Ito's, which are safe for colour-blind readers (jfly.uni-koeln.de/color).
Lines and markers also have different shapes, for print without colours.
"""

from typing import Any

import numpy as np

from poise.reports.axis_range import amount, moving_mean, return_range, tick_labels
from poise.reports.curve_data import Episodes, Marks, drawable

__all__ = ["draw"]

SIZE = (8.0, 4.8)
"""Inches."""
DOTS_PER_INCH = 110
"""This makes a figure 880 pixels wide, the width of a page on GitHub."""
GAP = 0.015
"""Space between the figure's edge and its content, as a share of the figure's size."""
RIGHT, BOTTOM = 0.975, 0.125
LEGEND_COLUMNS = 3
MAX_POINTS = 4000
"""Maximum number of episodes drawn as points; if there are more, evenly spaced ones are chosen."""
COLUMNS_OF_TRIANGLES = 150
"""Each column shows at most one triangle, however many episodes are outside the axis."""
POINT_SIZES = ((50, 5.0), (500, 3.0), (np.inf, 2.0))
"""(maximum number of episodes, marker size): few points must be visible next to the lines, many
must not cover them."""
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
POINTS, GREY, BLACK = "0.68", "0.35", "black"
ELLIPSIS = "…"


def draw(figure: Any, data: Episodes, marks: Marks) -> None:
    """Draw a learning curve on an empty figure."""
    _Drawing(figure, drawable(data), marks).draw()


class _Drawing:
    def __init__(self, figure: Any, data: Episodes, marks: Marks) -> None:
        self._figure = figure
        self._axes = figure.add_axes((0.1, BOTTOM, RIGHT - 0.1, 0.7))
        self._data = data
        self._marks = marks
        self._handles: list[Any] = []
        verified = marks.verified
        always = [marks.target] if marks.target is not None else []
        perhaps = [marks.baseline] if marks.baseline is not None else []
        if verified is not None:
            always.append(verified.mean)
            perhaps += [end for end in (verified.low, verified.high) if end is not None]
        self._low, self._high = return_range(
            data.steps, data.returns, data.evaluated_means, always, perhaps
        )
        self._end = max([*data.steps, *data.evaluated_steps, 1.0])

    def draw(self) -> None:
        axes = self._axes
        axes.set_ylim(self._low, self._high)
        axes.set_xlim(0.0, 1.02 * self._end)
        self._draw_training()
        self._draw_levels()
        self._draw_evaluations()
        self._draw_verified()
        self._draw_beyond()
        axes.set_xlabel("environment steps")
        axes.set_ylabel("episode return")
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        self._label_ticks()
        self._lay_out()

    def _plot(self, *data: Any, **style: Any) -> None:
        """Plot something, with an entry in the legend."""
        self._handles += self._axes.plot(*data, **style)

    def _draw_training(self) -> None:
        steps, returns = self._data.steps, self._data.returns
        if not len(steps):
            self._axes.text(
                0.5, 0.25, "no training episode ended", transform=self._axes.transAxes, ha="center"
            )
            return
        chosen = _evenly(len(steps))
        self._plot(
            steps[chosen],
            returns[chosen],
            linestyle="none",
            marker="o",
            color=POINTS,
            markersize=next(size for most, size in POINT_SIZES if len(steps) <= most),
            markeredgewidth=0,
            label="training episodes",
        )
        # Of episodes that ended at the same step, only the last has the mean over all of them.
        ends = np.flatnonzero(np.diff(steps, append=np.inf))
        ends = ends[_evenly(len(ends))]
        self._plot(
            steps[ends],
            moving_mean(returns)[ends],
            color=BLUE,
            linewidth=1.8,
            label="mean of the last 100 episodes",
        )

    def _draw_levels(self) -> None:
        """Lines at the target return and at the mean of random play."""
        target, baseline = self._marks.target, self._marks.baseline
        if target is not None:
            label = f"solved at {target:,.10g}".replace("-", "\N{MINUS SIGN}")
            style = {"color": GREEN, "linestyle": "--", "linewidth": 1.5}
            self._handles.append(self._axes.axhline(target, label=label, **style))
        if baseline is not None:
            label = f"random play: {self._amount(baseline)}{self._where(baseline)}"
            style = {"color": GREY, "linestyle": ":", "linewidth": 1.5}
            # If it is outside the axis, the legend says so.
            self._handles.append(self._axes.axhline(baseline, label=label, **style))

    def _draw_evaluations(self) -> None:
        if len(self._data.evaluated_steps):
            self._plot(
                self._data.evaluated_steps,
                self._data.evaluated_means,
                marker="o",
                color=VERMILLION,
                markersize=4,
                linewidth=1,
                label=f"{self._marks.policy} policy, evaluated",
            )

    def _draw_verified(self) -> None:
        """The reported score, at the step where its policy was found."""
        verified = self._marks.verified
        if verified is None:
            return
        found = self._data.evaluated_steps[self._data.evaluated_versions == verified.version]
        text = f"verified: {self._amount(verified.mean, self._marks.target)}"
        spread = None
        if verified.low is not None and verified.high is not None:
            low, high = self._amount(verified.low), self._amount(verified.high)
            text += f" (95%: {low} to {high})" if low != high else ""
            spread = [[verified.mean - verified.low], [verified.high - verified.mean]]
        drawn = self._axes.errorbar(
            [found[-1] if len(found) else self._end],
            [verified.mean],
            spread,
            fmt="D",
            color=BLACK,
            markerfacecolor="none",
            markersize=8,
            markeredgewidth=1.5,
            capsize=5,
            zorder=5,
            label=text,
        )
        # At the beginning of the axis, half of the marker would be cut off.
        drawn[0].set_clip_on(False)
        self._handles.append(drawn)

    def _draw_beyond(self) -> None:
        """Triangles at the edge for values outside the axis."""
        for side, marker, edge in (("below", "v", 0.0), ("above", "^", 1.0)):
            counts, values = [], []
            for name, color, steps, returns in (
                ("episode", GREY, self._data.steps, self._data.returns),
                (
                    "evaluation",
                    VERMILLION,
                    self._data.evaluated_steps,
                    self._data.evaluated_means,
                ),
            ):
                beyond = returns < self._low if side == "below" else returns > self._high
                count = int(np.sum(beyond))
                if not count:
                    continue
                counts.append(f"{count:,} {name}{'s' if count > 1 else ''}")
                values += [np.min(returns[beyond]), np.max(returns[beyond])]
                places = steps[beyond]
                columns = (COLUMNS_OF_TRIANGLES * places / self._end).astype(int)
                places = places[np.unique(columns, return_index=True)[1]]
                drawn = self._axes.plot(
                    places,
                    np.full(len(places), edge + (0.015 if side == "below" else -0.015)),
                    linestyle="none",
                    marker=marker,
                    color=color,
                    markersize=5,
                    markeredgewidth=0,
                    transform=self._axes.get_xaxis_transform(),
                    zorder=4,
                )
                shown = drawn
            if counts:
                farthest = min(values) if side == "below" else max(values)
                label = f"{side} the axis: {', '.join(counts)}, to {self._amount(farthest)}"
                shown[0].set_label(label)
                self._handles += shown

    def _label_ticks(self) -> None:
        """Label each tick with a complete number, without a common offset or factor."""
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

        axes = self._axes
        locator = MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True)
        axes.xaxis.set_major_locator(locator)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
            axis.set_ticks(ticks, tick_labels(ticks))

    def _lay_out(self) -> None:
        """Place title, legend and plot below each other without overlap."""
        figure, axes = self._figure, self._axes
        renderer = figure.canvas.get_renderer()
        # Measure this axis only: measuring the whole figure takes longer than everything else.
        labels = axes.yaxis.get_tightbbox(renderer)
        left = GAP + (axes.bbox.x0 - labels.x0) / figure.bbox.width
        title = figure.text(
            left, 1.0 - GAP, "", fontsize="large", va="top", ha="left", parse_math=False
        )
        _fit(title, self._marks.title, (RIGHT - left) * figure.bbox.width, renderer)
        top = title.get_window_extent(renderer).y0 / figure.bbox.height - GAP
        for columns in range(LEGEND_COLUMNS, 0, -1):
            legend = figure.legend(
                handles=self._handles,
                loc="upper left",
                bbox_to_anchor=(left, top),
                ncols=columns,
                fontsize="small",
                frameon=False,
                borderpad=0,
                borderaxespad=0,
                handlelength=1.8,
                columnspacing=1.6,
            )
            box = legend.get_window_extent(renderer)
            if box.width <= (RIGHT - left) * figure.bbox.width or columns == 1:
                break
            legend.remove()
        top -= box.height / figure.bbox.height + 1.5 * GAP
        axes.set_position((left, BOTTOM, RIGHT - left, top - BOTTOM))

    def _amount(self, value: float, apart_from: float | None = None) -> str:
        return amount(value, self._high - self._low, apart_from)

    def _where(self, value: float) -> str:
        if value < self._low:
            return " (below the axis)"
        return " (above the axis)" if value > self._high else ""


def _evenly(count: int) -> np.ndarray:
    """Evenly spaced indices, at most `MAX_POINTS` of them."""
    return np.unique(np.linspace(0, max(count - 1, 0), MAX_POINTS).astype(int))


def _fit(text: Any, words: str, width: float, renderer: Any) -> None:
    """Set a text, and cut out its middle if it is too wide."""
    kept = len(words)
    text.set_text(words)
    while kept > 2 and (found := text.get_window_extent(renderer).width) > width:
        kept = min(kept - 1, int(kept * width / found))
        head = kept // 2
        text.set_text(words[:head] + ELLIPSIS + words[len(words) - (kept - head) :])
