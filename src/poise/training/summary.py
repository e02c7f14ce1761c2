"""Summary of a run: the content of ``summary.json``."""

import math
import time
from typing import Any, NamedTuple

from poise.evaluation.evaluator import FinalScore
from poise.evaluation.phase_times import PhaseTimes
from poise.learning.evaluation_result import Score
from poise.learning.event_json import score_to_json
from poise.learning.journal import StopReason
from poise.learning.parameter_server import ParameterServer
from poise.observers.recorder import Recorder
from poise.training.components import RunComponents
from poise.training.runtime import processor_model, versions

__all__ = ["RunOutcome", "summarise"]


class RunOutcome(NamedTuple):
    """How a run ended.

    Attributes:
        reason: why it ended.
        score: score of the best policy; None if there was no time for it.
        baseline: score of random actions; None if it was not measured.
        restarts: number of restarts of workers.
        failure: the name of the exception that ended the run; None if none did.
    """

    reason: StopReason
    score: FinalScore | None
    baseline: Score | None
    restarts: int
    failure: str | None


def summarise(
    components: RunComponents,
    server: ParameterServer,
    recorder: Recorder,
    phase_times: PhaseTimes,
    outcome: RunOutcome,
) -> dict[str, Any]:
    """Build the content of ``summary.json``.

    Args:
        components: the run's components.
        server: the server, stopped.
        recorder: provides the run's times.
        phase_times: how this process spent its time.
        outcome: how the run ended.
    """
    config, score = components.config, outcome.score
    seconds = round(recorder.training_seconds, 6)
    solved = score is not None and score.solved
    sampled = None if score is None else score.sampled
    attempts = server.verifications + (score is not None and score.is_extra)
    solved_at = recorder.solved_at_steps
    if solved and solved_at is None:
        solved_at = server.steps
    mean = server.episode_statistics.mean
    return {
        "environment": config.environment,
        "algorithm": config.algorithm,
        "seed": config.seed,
        "solved": solved,
        "solved_at_steps": solved_at,
        "target_return": components.target_return,
        "steps": server.steps,
        "episodes": server.episode_statistics.episodes,
        "updates": server.version,
        "wall_seconds": round(recorder.wall_seconds, 6),
        "training_seconds": seconds,
        "seconds": _seconds(recorder, phase_times),
        "steps_per_second": round(server.steps / seconds, 1) if seconds else None,
        "workers": config.workers,
        "launcher": components.placement.launcher.name,
        "evaluation": score_to_json(score.verified) if score is not None else None,
        "sampled_evaluation": score_to_json(sampled) if sampled is not None else None,
        "evaluation_step_limit": score.step_limit if score is not None else None,
        "sticky_actions": config.sticky_actions if components.env_factory.is_atari else None,
        "policy": config.policy,
        "verification_attempts": attempts,
        "random_baseline": None if outcome.baseline is None else outcome.baseline.mean,
        "training_mean_100": mean if mean is None or math.isfinite(mean) else None,
        "training_solved_at_seconds": recorder.training_solved_seconds,
        "training_solved_at_steps": recorder.training_solved_steps,
        "restarts": outcome.restarts,
        "bad_gradients": server.bad_gradients,
        "stopped": outcome.reason.name.lower(),
        "failure": outcome.failure,
        "versions": versions(),
        "processor": processor_model(),
    }


def _seconds(recorder: Recorder, phase_times: PhaseTimes) -> dict[str, float]:
    """Return how this process spent its time; training excludes evaluations here."""
    now = time.monotonic()
    first, last = recorder.span or (now, now)
    compiling = phase_times.seconds("compilation")
    between = phase_times.seconds("selection", "verification", until=last)
    found = {
        "start_up": first - recorder.started - compiling,
        "compilation": compiling,
        "training": last - first - between,
        "selection": phase_times.seconds("selection"),
        "verification": phase_times.seconds("verification"),
        "baseline": phase_times.seconds("baseline"),
    }
    return {name: round(max(0.0, seconds), 6) for name, seconds in found.items()}
