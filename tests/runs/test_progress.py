"""Progress: what is said while an evaluation is under way."""

import pytest

from poise.config import TrainConfig
from poise.learning.events import EpisodeFinished
from poise.runs import progress
from poise.runs.progress import Progress


def test_an_evaluation_says_how_far_it_is_and_not_too_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress(TrainConfig(), 475.0)
    for activity in ("", "verifying: 0 of 100 episodes", "verifying: 1 of 100 episodes"):
        shown.tell(activity)
    now[0] += progress.PLAIN_INTERVAL
    for activity in ("verifying: 37 of 100 episodes", "verifying: 38 of 100 episodes", ""):
        shown.tell(activity)
    assert capsys.readouterr().out == (
        "CartPole-v1  verifying: 0 of 100 episodes\nCartPole-v1  verifying: 37 of 100 episodes\n"
    )


@pytest.mark.parametrize("budget", [{"max_steps": 1_000_000}, {"max_seconds": 3600.0}])
@pytest.mark.parametrize(("average", "target"), [(-1999.5, -110.0), (0.7, 0.7), (123456.7, 475.0)])
def test_a_terminal_of_80_columns_shows_all(
    budget: dict[str, float], average: float, target: float
) -> None:
    """Bar, steps, steps/s, average against target, and time left."""
    from rich.console import Console

    config = TrainConfig("MountainCarContinuous-v0", **budget)
    progress = Progress(config, target)
    progress._began, progress._steps = 1.0, 987_654
    progress._latest = EpisodeFinished(
        steps=987_654,
        episode=4321,
        worker=0,
        episode_return=average,
        length=200,
        moving_average=average,
        loss=0.0,
    )
    progress._open_live()
    progress._show(601.0)
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(progress._live.get_renderable())
    progress.close()
    shown = capture.get().rstrip()
    assert "\n" not in shown
    for part in ("988k", "1.65k/s", f"/{target:g}", " left", "━"):
        assert part in shown
