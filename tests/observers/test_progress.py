"""Progress: the output during a run, in a terminal and elsewhere."""

import io

import numpy as np
import pytest
from rich.console import Console

from poise.config import TrainConfig
from poise.learning.evaluation_result import EvaluationResult, Score
from poise.learning.events import EpisodeFinished, Evaluated, Event, Joined, Stopped, Updated
from poise.learning.journal import StopReason
from poise.observers import progress
from poise.observers.live_display import LiveDisplay
from poise.observers.progress import Progress
from poise.observers.time_left import Budget, clock
from poise.trajectory import Snapshot

CUT = {"low": 0.0, "high": 0.0, "minimum": 0.0, "maximum": 0.0, "cut": 0, "steps": 1}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test sets."""
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: made.now)
    return made


def updated(steps: int, entropy: float = 0.5) -> Event:
    return Updated(0, 1, steps, {"loss": 0.0, "entropy": entropy}, 0, 1e-3)


def finished(steps: int, episode: int, average: float) -> Event:
    return EpisodeFinished(0, episode, steps, average, 200, average, 0.0)


def evaluated(steps: int, mean: float, is_best: bool, verified: float | None = None) -> Event:
    selection = Score(mean, 0.1, episodes=10, greedy=True, **CUT)
    verification = verified and Score(verified, 0.0142, episodes=100, greedy=True, **CUT)
    result = EvaluationResult(selection, verification or None, False)
    return Evaluated(1, steps, result, is_best, Snapshot(np.int64(1), np.zeros(1), ()))


def test_an_evaluation_reports_its_progress_but_not_too_often(
    now: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress(TrainConfig(), 475.0)
    for activity in ("", "verifying: 0 of 100 episodes", "verifying: 1 of 100 episodes"):
        shown.tell(activity)
    now.now += progress.PLAIN_INTERVAL
    for activity in ("verifying: 37 of 100 episodes", "verifying: 38 of 100 episodes", ""):
        shown.tell(activity)
    assert capsys.readouterr().out == (
        "CartPole-v1  verifying: 0 of 100 episodes\nCartPole-v1  verifying: 37 of 100 episodes\n"
    )


def test_plain_lines_show_everything(now: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(TrainConfig(max_steps=100_000), 0.7)
    shown(0.0, Joined(0, 0, 0))
    now.now += 60
    for event in (
        finished(25_000, 123, 0.69996),
        evaluated(24_000, 0.7042, is_best=True),
        evaluated(25_000, 0.6512, is_best=False),
        updated(25_000, 0.4321),
    ):
        shown(0.0, event)
    now.now += 1
    shown(0.0, updated(26_000))
    shown(61.0, Stopped(StopReason.INTERRUPTED, 26_000))
    assert capsys.readouterr().out.splitlines() == [
        "  at 24,000 steps the greedy policy reaches 0.7042",
        "CartPole-v1  25,000 of 100,000 steps  25% after 0:01:00, 0:03:00 left  417 steps/s  "
        "123 episodes  average 0.69996 / 0.7  entropy 0.432  greedy 0.6512",
        "CartPole-v1  26,000 of 100,000 steps  26% after 0:01:01  426 steps/s  "
        "123 episodes  average 0.69996 / 0.7  entropy 0.5  greedy 0.6512",
    ]


def test_the_speed_is_true_if_events_waited_in_the_queue(
    now: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The main thread may have been busy, for example compiling, since the workers joined."""
    shown = Progress(TrainConfig(max_steps=100_000), None)
    now.now += 30
    shown(10.0, Joined(0, 0, 0))
    shown(30.0, updated(20_000))
    line = capsys.readouterr().out
    assert "20% after 0:00:20, 0:01:20 left  1,000 steps/s" in line


def lines_of(shown: Progress, width: int = 80) -> list[str]:
    """Return the lines that a terminal of this width shows."""
    console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(LiveDisplay(console, shown.frame).render())
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    "budget", [{"max_steps": 10_000_000}, {"max_seconds": 3600.0}, {"max_episodes": 50_000}]
)
@pytest.mark.parametrize(
    ("average", "target", "text"),
    [
        (-1999.5, -110.0, "avg -2000/-110 "),
        (0.69996, 0.7, "avg 0.69996/0.7 "),
        (0.71, 0.7, "avg 0.7100/0.7 "),
        (123_456.7, 475.0, "avg 123k/475 "),
        (-98_765.4, -100_000.0, "avg -98,765/-100,000 "),
    ],
)
def test_a_terminal_of_80_columns_shows_everything(
    now: Clock, budget: dict[str, float], average: float, target: float, text: str
) -> None:
    """Bar, percent, time and time left; steps, steps/s, average and target, entropy."""
    shown = Progress(TrainConfig("MountainCarContinuous-v0", **budget), target)  # type: ignore[arg-type]
    assert lines_of(shown)[1] == "  compiling"
    shown(0.0, Joined(0, 0, 0))
    now.now += 600
    shown(0.0, finished(987_654, 4321, average))
    shown(0.0, updated(987_654, 0.43219))
    head, status = lines_of(shown)
    assert max(map(len, (head, status))) <= 80
    assert head.startswith("MountainCarContinuous-v0 ━")
    share, left = {
        "max_steps": ("10%", "1:31:15"),
        "max_seconds": ("17%", "0:50:00"),
        "max_episodes": ("9%", "1:45:43"),
    }[next(iter(budget))]
    assert head.endswith(f" {share}  0:10:00  {left} left")
    for part in (text, "988k", " steps  1.65k/s  ", "entropy 0.432"):
        assert part in f"{status} "
    assert "4.32k" in status


def test_a_policy_as_good_as_the_best_is_not_reported(
    now: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that is optimal early is the best again at each evaluation."""
    shown = Progress(TrainConfig(), None)
    shown(0.0, Joined(0, 0, 0))
    for steps, mean in ((4096, 0.7199999), (8192, 0.72), (12_288, 0.73)):
        shown(0.0, evaluated(steps, mean, is_best=True))
    assert capsys.readouterr().out.splitlines() == [
        "  at 4,096 steps the greedy policy reaches 0.7200",
        "  at 12,288 steps the greedy policy reaches 0.7300",
    ]
    shown(0.0, evaluated(16_384, 0.73, is_best=False))
    assert lines_of(shown)[2] == "  greedy policy 0.7300 at 16.4k steps"


def test_evaluations_share_one_line_that_is_updated(
    now: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a new line only for a new best (activities are printed only without a display)."""
    shown = Progress(TrainConfig(), 475.0)
    shown(0.0, Joined(0, 0, 0))
    assert len(lines_of(shown)) == 2
    shown(0.0, evaluated(4096, 120.0, is_best=True))
    assert lines_of(shown)[2] == "  greedy policy 120 at 4.1k steps"
    shown(0.0, evaluated(8192, 119.96, is_best=False))
    assert lines_of(shown)[2] == "  greedy policy 119.96 at 8.19k steps, best 120 at 4.1k"
    shown.tell("selecting: 3 of 10 episodes")
    assert lines_of(shown)[2] == "  selecting: 3 of 10 episodes"
    shown.tell("")
    shown(0.0, evaluated(12288, 480.0, is_best=True, verified=470.1234))
    assert lines_of(shown)[2] == (
        "  greedy policy 480 at 12.3k steps; verified 470.123 ± 0.014, not yet solved"
    )
    assert capsys.readouterr().out.splitlines() == [
        "  at 4,096 steps the greedy policy reaches 120",
        "CartPole-v1  selecting: 3 of 10 episodes",
        "  at 12,288 steps the greedy policy reaches 480; verified on 100 fresh episodes: "
        "470.123 ± 0.014, not yet solved",
    ]


def test_the_time_stops_when_training_has_ended(now: Clock) -> None:
    shown = Progress(TrainConfig(max_seconds=100.0), None)
    shown(0.0, Joined(0, 0, 0))
    now.now += 100
    shown(0.0, updated(5000))
    shown(100.0, Stopped(StopReason.MAX_SECONDS, 5000))
    now.now += 900
    head, status = lines_of(shown)
    assert head.endswith(" 100%  0:01:40")
    assert status.startswith("  5k steps  50/s")


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 200])
def test_no_line_is_longer_than_the_terminal(now: Clock, width: int) -> None:
    shown = Progress(TrainConfig("a_module_with_a_long_name:AndAClass", max_seconds=1e7), -1e8)
    shown(0.0, Joined(0, 0, 0))
    now.now += 1e6
    for event in (finished(9, 9, -1e9), evaluated(9, -1e9, True, -1e9), updated(10**12, 1e-9)):
        shown(0.0, event)
    assert all(len(line) <= width for line in lines_of(shown, width))


class TestBudget:
    def test_the_budget_that_ends_first_counts(self) -> None:
        budget = Budget(TrainConfig(max_steps=1000, max_seconds=10.0))
        assert budget.journal_summary(100, 5, 5.0) == (0.5, 5.0, 20.0)
        assert budget.journal_summary(900, 5, 5.0) == (0.9, pytest.approx(100 * 5 / 900), 180.0)

    def test_a_resumed_run_counts_its_speed_from_there(self) -> None:
        budget = Budget(TrainConfig(max_steps=1000), steps=600, episodes=7)
        assert budget.journal_summary(600, 7, 0.0) == (0.6, None, 0.0)
        assert budget.journal_summary(700, 8, 10.0) == (0.7, 30.0, 10.0)

    def test_no_time_is_left_of_a_used_up_budget(self) -> None:
        assert Budget(TrainConfig(max_steps=10)).journal_summary(12, 0, 3.0) == (1.0, 0.0, 4.0)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.0, "0:00:00"), (59.6, "0:01:00"), (4000.0, "1:06:40")]
    )
    def test_the_clock(self, seconds: float, text: str) -> None:
        assert clock(seconds) == text
