"""Progress: what is said while an evaluation is under way."""

import pytest

from poise.config import TrainConfig
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
