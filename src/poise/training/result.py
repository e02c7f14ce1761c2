"""The result of a training run, as returned to callers from Python."""

from pathlib import Path
from typing import Any, NamedTuple

from poise.agent.policy import Policy
from poise.learning.journal import StopReason

__all__ = ["TrainResult"]


class TrainResult(NamedTuple):
    """The result of a training run.

    Attributes:
        folder: where its files are; None if the run kept no files.
        summary: the content of ``summary.json``.
        policy: the best policy.
        reason: why the run ended.
    """

    folder: Path | None
    summary: dict[str, Any]
    policy: Policy
    reason: StopReason

    @property
    def solved(self) -> bool:
        """Whether a verification reached the target return."""
        return bool(self.summary["solved"])

    def __repr__(self) -> str:
        found = self.summary
        if self.solved:
            text = f"solved after {found['solved_at_steps']:,} steps"
        elif found["target_return"] is None:
            text = f"trained for {found['steps']:,} steps ({found['stopped']})"
        else:
            text = f"not solved after {found['steps']:,} steps ({found['stopped']})"
        score = found["evaluation"]
        if score is not None:
            error = score["standard_error"]
            spread = "" if error is None else f" ± {error:.2g}"
            text += f", {score['mean']:.5g}{spread} over {score['episodes']} fresh episodes"
        place = "no files kept" if self.folder is None else f"in {self.folder}"
        return f"TrainResult({found['environment']}, seed {found['seed']}: {text}; {place})"
