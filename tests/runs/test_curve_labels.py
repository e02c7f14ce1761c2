"""The labels of the learning curve: nothing is cut off, whatever the returns are."""

import json
from pathlib import Path

import pytest

from poise.runs import curve
from poise.runs.curve import draw_curve


@pytest.mark.parametrize("size", [1e-3, 1.0, -2e3, 1e6, -1e6, 1e9])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_label_and_all_ticks_are_inside_the_figure(
    size: float, offset: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = tmp_path / "metrics.jsonl"
    rows = []
    for number in range(50):
        value = size * (100 * offset + number / 50)
        row = {"kind": "episode", "steps": 20_000 * number, "return": value}
        rows.append(json.dumps({**row, "moving_average": value}))
    metrics.write_text("\n".join(rows) + "\n")
    seen = []
    label = curve._label_plainly

    def look(figure: object, axes: object) -> None:
        label(figure, axes)
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        box = axes.yaxis.get_tightbbox(renderer)
        seen.append(box.x0 / figure.bbox.width)
        seen.append([one.get_text() for one in axes.get_xticklabels()])

    monkeypatch.setattr(curve, "_label_plainly", look)
    draw_curve(metrics, tmp_path / "curve.png", "Name", target=size, baseline=0.0)
    left, ticks = seen
    assert left == pytest.approx(curve.MARGIN, abs=0.005)
    assert {"200k", "1M"} <= set(ticks)
