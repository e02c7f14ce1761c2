"""The policy writer: writes policies and bad batches to a run's folder at once."""

from pathlib import Path
from typing import Literal

from poise.agent.agent import Agent
from poise.agent.policy_file import policy_to_bytes
from poise.evaluation.evaluator import Evaluator
from poise.learning.events import Evaluated, Event, Rejected
from poise.storage.bad_batch import broken_tensors, save_bad_batch
from poise.storage.files import write_bytes
from poise.trajectory import Snapshot
from poise.user_warnings import warn_caller

__all__ = ["PolicyWriter"]


class PolicyWriter:
    """Saves the best policy so far, and batches whose gradients are not finite.

    Args:
        folder: the run's folder.
        evaluator: makes policies from snapshots.
        agent: the run's agent.
        seed: the run's seed, written into the policy files.
        keep: whether the folder remains after the run.
    """

    def __init__(
        self, folder: Path, evaluator: Evaluator, agent: Agent, seed: int, keep: bool = True
    ) -> None:
        self._folder = folder
        self._evaluator = evaluator
        self._agent = agent
        self._seed = seed
        self._keep = keep

    def __call__(self, when: float, event: Event) -> None:
        """Write the files that an event requires."""
        del when
        if isinstance(event, Evaluated) and event.is_best:
            self.write_policy("best", event.snapshot)
        if isinstance(event, Rejected):
            path = save_bad_batch(self._folder, event, self._agent)
            warn_caller(
                f"worker {event.worker} computed a gradient that is not finite, with version "
                f"{event.worker_update.version}{_where(broken_tensors(path))}; it was not applied"
                + (f"; poise inspect shows {path}" if self._keep else "")
            )

    def write_policy(self, name: Literal["best", "final"], snapshot: Snapshot) -> None:
        """Write a snapshot's policy to a file."""
        about = {"version": int(snapshot.version), "seed": self._seed}
        content = policy_to_bytes(self._evaluator.policy(snapshot), about)
        write_bytes(self._folder / f"{name}.safetensors", content)


def _where(broken: str) -> str:
    """Name the arrays that are not finite; none is known if only the learner's result was not."""
    return f", in {broken}" if broken else ", though what was learned from is finite"
