"""Events as JSON: the rows of ``metrics.jsonl``, and messages to observers outside Python."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from poise.learning.evaluation_result import Score
from poise.learning.events import (
    CheckpointReady,
    EpisodeFinished,
    Evaluated,
    Event,
    Joined,
    Rejected,
    RunStarted,
    Stopped,
    SummaryWritten,
    TrainingSolved,
    Updated,
    WorkerRestarted,
)

__all__ = ["event_to_json", "score_to_json"]


def event_to_json(event: Event) -> dict[str, Any]:
    """Convert an event to JSON types, with its name as ``kind``.

    Parameters, batches and run states are left out: they are too large for JSON.

    Args:
        event: any of `poise.Event`.

    Returns:
        A new dict; its keys are documented with the rows of ``metrics.jsonl`` in ``docs/runs.md``.
    """
    match event:
        case RunStarted():
            return {
                "kind": "run_started",
                "folder": str(event.folder),
                "target_return": event.target_return,
                "steps": event.steps,
                "settings": dataclasses.asdict(event.config),
            }
        case Joined():
            return {"kind": "joined", **event._asdict()}
        case EpisodeFinished():
            return {
                "kind": "episode",
                "episode": event.episode,
                "steps": event.steps,
                "worker": event.worker,
                "return": event.episode_return,
                "length": event.length,
                "moving_average": event.moving_average,
                "loss": event.loss,
            }
        case Updated():
            return {
                "kind": "update",
                "worker": event.worker,
                "update": event.update,
                "steps": event.steps,
                **event.metrics,
                "staleness": event.staleness,
                "learning_rate": event.learning_rate,
            }
        case Evaluated():
            result = event.result
            verification, confirmation = result.verification, result.confirmation
            return {
                "kind": "evaluation",
                "version": event.version,
                "steps": event.steps,
                "selection": score_to_json(result.selection),
                "verification": verification and score_to_json(verification),
                "confirmation": confirmation and score_to_json(confirmation),
                "solved": result.solved,
            }
        case TrainingSolved():
            return {"kind": "training_solved", **event._asdict()}
        case Rejected():
            return {
                "kind": "rejected",
                "worker": event.worker,
                "version": event.version,
                "bad_gradients": event.bad_gradients,
            }
        case WorkerRestarted():
            return {"kind": "worker_restarted", **event._asdict()}
        case CheckpointReady():
            state = event.run_state
            return {"kind": "checkpoint", "version": state.version, "steps": state.steps}
        case Stopped():
            return {"kind": "stopped", "reason": event.reason.name.lower(), "steps": event.steps}
        case SummaryWritten():
            return {
                "kind": "summary",
                "folder": str(event.folder),
                "summary": _copy(event.summary),
            }


def score_to_json(score: Score) -> dict[str, Any]:
    """Convert a score to JSON types; numbers that a single episode leaves undefined become null."""
    return {
        name: None if isinstance(value, float) and value - value != 0 else value
        for name, value in score._asdict().items()
    }


def _copy(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copy(value) if isinstance(value, Mapping) else value for key, value in content.items()
    }
