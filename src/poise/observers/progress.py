"""Progress output of a run: a live display in a terminal, plain lines elsewhere."""

import math
import sys
import time

from poise.config import TrainConfig
from poise.learning.evaluation_result import EvaluationResult
from poise.learning.events import EpisodeFinished, Evaluated, Event, Joined, Stopped, Updated
from poise.number_format import as_given, number, short, with_error
from poise.observers.live_display import Frame, LiveDisplay, open_live
from poise.observers.time_left import Budget, JournalSummary, clock

__all__ = ["Progress"]

PLAIN_INTERVAL = 5.0
"""Minimum seconds between two lines if the output is not a terminal."""
LARGE_RETURN = 100_000
"""Larger returns are abbreviated in the live display."""


class Progress:
    """Shows steps and steps/s, moving average and target, entropy, and a bar to the budget.

    The last evaluation has one line, which is updated; a permanent line is printed for each new
    best policy and for an evaluation that solves the environment. An observer; call `close` when
    the run is over.

    Args:
        config: holds the budgets.
        target_return: shown beside the average.
        steps: steps that the run had taken before this process.
        episodes: episodes that it had finished before this process.
        preset: name of the preset that the settings come from, in part; printed first.
    """

    def __init__(
        self,
        config: TrainConfig,
        target_return: float | None,
        steps: int = 0,
        episodes: int = 0,
        preset: str | None = None,
    ) -> None:
        self._config = config
        self._target = target_return
        self._against = () if target_return is None else (target_return,)
        self._budget = Budget(config, steps, episodes)
        self._steps, self._episodes = steps, episodes
        self._average: float | None = None
        self._entropy: float | None = None
        self._evaluated: Evaluated | None = None
        self._best: Evaluated | None = None
        self._started = math.inf
        self._began: float | None = None
        self._ended: float | None = None
        self._activity = ""
        self._next = time.monotonic()
        # Training continues even if its output cannot be written.
        self._mute = sys.stdout is None or sys.stdout.closed
        self._live: LiveDisplay | None = None if self._mute else open_live(self.frame)
        if preset is not None:
            self._say(
                f"{config.environment}  settings of the preset {preset} (--preset none turns it "
                "off)"
            )

    def __call__(self, when: float, event: Event) -> None:
        """Update the display for an event."""
        # Events may have waited in the queue; the freshest one tells when the process started.
        self._started = min(self._started, time.monotonic() - when)
        match event:
            case Joined():
                self._began = when if self._began is None else self._began
            case EpisodeFinished():
                self._episodes, self._average = event.episode, event.moving_average
            case Updated():
                self._steps, self._entropy = event.steps, event.metrics.get("entropy")
                self._log()
            case Evaluated():
                self._evaluated = event
                if (event.result.solved and event.is_best) or self._is_better(event):
                    self._best = event
                    self._say(self._describe_best(event))
            case Stopped():
                self._ended = when
                self._log(now=True)

    def _is_better(self, event: Evaluated) -> bool:
        """Whether it is the best so far, and visibly better than the one before."""
        if self._best is None:
            return event.is_best
        now, before = event.result.selection.mean, self._best.result.selection.mean
        return event.is_best and now > before and self._reads_otherwise(now, before)

    def _reads_otherwise(self, score: float, other: float) -> bool:
        """Whether two scores differ in the digits that are shown, by more than rounding."""
        return number(score, *self._against) != number(other, *self._against)

    def tell(self, activity: str) -> None:
        """Show what training is waiting for; empty if it is not waiting."""
        changed, self._activity = activity != self._activity, activity
        if activity and changed and self._live is None and time.monotonic() >= self._next:
            self._print(f"{self._config.environment}  {activity}")
            self._next = time.monotonic() + PLAIN_INTERVAL

    def close(self) -> None:
        """Restore the terminal."""
        self._activity = ""
        if self._live is not None:
            self._live.close()
            self._live = None

    def _journal_summary(self) -> tuple[float, JournalSummary]:
        """Return the seconds of training so far, and the progress of the budgets."""
        now = time.monotonic() - self._started if self._ended is None else self._ended
        seconds = 0.0 if self._began is None else now - self._began
        return seconds, self._budget.journal_summary(self._steps, self._episodes, seconds)

    def frame(self) -> Frame:
        """Return the content of the live display; called by its thread."""
        seconds, journal_summary = self._journal_summary()
        name = self._config.environment
        if self._began is None:
            return Frame(name, 0.0, "", ("compiling",))
        left = (
            ""
            if journal_summary.left is None or self._ended is not None
            else f"  {clock(journal_summary.left)} left"
        )
        times = f"{journal_summary.share:4.0%}  {clock(seconds)}{left}"
        last = self._activity or self._describe_evaluation()
        lines = (self._short_status(journal_summary), *((last,) if last else ()))
        return Frame(name, journal_summary.share, times, lines)

    def _short_status(self, journal_summary: JournalSummary) -> str:
        """Return a status line that fits into 80 columns."""
        config = self._config
        parts = [
            f"{_of(self._steps, config.max_steps)} steps",
            f"{short(journal_summary.steps_per_second)}/s",
        ]
        if self._average is not None:
            large = abs(self._average) >= LARGE_RETURN
            text = (short if large else number)(self._average, *self._against)
            parts.append(f"avg {text}{self._beside_target('/')}")
        if self._entropy is not None:
            parts.append(f"entropy {self._entropy:.3g}")
        if self._average is not None:
            parts.append(f"{_of(self._episodes, config.max_episodes)} episodes")
        return "  ".join(parts)

    def _log(self, now: bool = False) -> None:
        """Print a plain line every few seconds, if there is no live display."""
        if self._live is not None or (time.monotonic() < self._next and not now):
            return
        self._next = time.monotonic() + PLAIN_INTERVAL
        seconds, journal_summary = self._journal_summary()
        config = self._config
        left = (
            ""
            if journal_summary.left is None or self._ended is not None
            else f", {clock(journal_summary.left)} left"
        )
        parts = [
            config.environment,
            f"{_of(self._steps, config.max_steps, ' of ', '{:,}')} steps",
            f"{journal_summary.share:.0%} after {clock(seconds)}{left}",
            f"{journal_summary.steps_per_second:,.0f} steps/s",
        ]
        if self._average is not None:
            parts.append(f"{_of(self._episodes, config.max_episodes, ' of ', '{:,}')} episodes")
            text = number(self._average, *self._against)
            parts.append(f"average {text}{self._beside_target(' / ')}")
        if self._entropy is not None:
            parts.append(f"entropy {self._entropy:.3g}")
        if self._evaluated is not None:
            selection = self._evaluated.result.selection
            parts.append(f"{_policy(selection.greedy)} {number(selection.mean, *self._against)}")
        self._print("  ".join(parts))

    def _beside_target(self, between: str) -> str:
        return "" if self._target is None else f"{between}{as_given(self._target)}"

    def _describe_evaluation(self) -> str:
        """Describe the last evaluation and the best one; empty before the first."""
        if self._evaluated is None:
            return ""
        selection, best = self._evaluated.result.selection, self._best
        against = self._against
        if best is not None and best is not self._evaluated:
            against = (*against, best.result.selection.mean)
        text = (
            f"{_policy(selection.greedy)} policy {number(selection.mean, *against)} "
            f"at {short(self._evaluated.steps)} steps"
            f"{self._verified(self._evaluated.result, 'verified')}"
        )
        if best is not None and best is not self._evaluated:
            mean = best.result.selection.mean
            if self._reads_otherwise(mean, selection.mean):
                text += f", best {number(mean, selection.mean)} at {short(best.steps)}"
        return text

    def _describe_best(self, event: Evaluated) -> str:
        selection = event.result.selection
        return (
            f"  at {event.steps:,} steps the {_policy(selection.greedy)} policy reaches "
            f"{number(selection.mean, *self._against)}"
            f"{self._verified(event.result, 'verified on {} fresh episodes:')}"
        )

    def _verified(self, result: EvaluationResult, words: str) -> str:
        """Describe a verification's result, after some words; empty if there was none."""
        score = result.reported
        if score is None:
            return ""
        outcome = "solved" if result.solved else "not yet solved"
        mean = with_error(score.mean, score.standard_error, *self._against)
        return f"; {words.format(score.episodes)} {mean}, {outcome}"

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.print(line)
        else:
            self._print(line)

    def _print(self, line: str) -> None:
        if self._mute:
            return
        try:
            print(line, flush=True)
        except (OSError, ValueError):
            self._mute = True


def _policy(greedy: bool) -> str:
    return "greedy" if greedy else "sampled"


def _of(done: int, limit: int | None, between: str = "/", form: str = "") -> str:
    """Format a count, as in "5 of 10", or "5" if there is no limit."""

    def write(count: int) -> str:
        return form.format(count) if form else short(count)

    return write(done) if limit is None else f"{write(done)}{between}{write(limit)}"
