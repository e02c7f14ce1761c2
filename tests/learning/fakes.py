"""Fakes for the server's tests: simple updates, and an evaluator with scripted results."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.learning.events import Event
from poise.learning.journal import Journal, JournalFile, header_bytes, read_journal
from poise.learning.learner import GradientLearner, Learner
from poise.learning.parameter_server import ParameterServer, ServerSettings
from poise.trajectory import EpisodeReport, Gradient, Snapshot, WorkerUpdate

SETTINGS = ServerSettings(
    learning_rate=0.5,
    anneal_steps=None,
    max_steps=None,
    max_episodes=None,
    evaluation_interval=10**9,
    target_return=None,
    stop_when_solved=True,
)


def result(mean: float, solved: bool = False, steps: int = 1) -> EvaluationResult:
    score = Score(mean, 0.0, mean, mean, mean, mean, 20, True, 0, steps)
    return EvaluationResult(score, score if solved else None, solved)


def worker_update(
    version: int,
    steps: int = 10,
    returns: Sequence[float] = (),
    gradient: float = 1.0,
    metrics: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0),
) -> WorkerUpdate:
    return WorkerUpdate(
        version=version,
        payload=Gradient(np.full(2, gradient, np.float32), np.float32(5.0)),
        statistics=(),
        metrics=np.float32(metrics),
        steps=steps,
        episodes=EpisodeReport(
            np.asarray(returns, np.float32), np.arange(1, len(returns) + 1, dtype=np.int32)
        ),
    )


def plain_update(parameters: Any, state: Any, gradient: Any, norm: Any, learning_rate: Any) -> Any:
    """Gradient descent; the state is the number of updates."""
    return parameters - learning_rate * gradient, state + 1


class Bench:
    """A server with its fakes, and records of their calls.

    The evaluator is given, or a script of its answers in order: results, or exceptions to raise.
    """

    def __init__(
        self,
        script: Sequence[Any] | Callable[[Candidate], EvaluationResult] = (),
        moments: Any = None,
        learner: Learner | None = None,
        **settings: Any,
    ) -> None:
        self.events: list[Event] = []
        self.evaluated_by: list[Snapshot] = []
        self.asked: list[Candidate] = []
        self.journal = Journal()
        self._script = [] if callable(script) else list(script)
        self._content = b""
        self.server = ParameterServer(
            np.zeros(2, np.float32),
            0,
            learner or GradientLearner(plain_update),
            SETTINGS._replace(**settings),
            script if callable(script) else self._evaluator,
            self.events.append,
            self.journal,
            moments,
        )

    def _evaluator(self, candidate: Candidate) -> EvaluationResult:
        self.evaluated_by.append(candidate.snapshot)
        self.asked.append(candidate)
        answer = self._script.pop(0) if self._script else result(0.0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def give(self, worker: int = 0, **what: Any) -> dict[int, Snapshot]:
        """Send an update that follows the protocol."""
        version = int(self.snapshots[worker].version)
        answers = self.server.receive(worker, worker_update(version, **what))
        self.snapshots.update(answers)
        return answers

    def join(self, *workers: int) -> None:
        self.snapshots = getattr(self, "snapshots", {})
        for worker in workers:
            self.snapshots[worker] = self.server.join(worker)

    def written(self, folder: Path) -> JournalFile:
        """Write the journal to a file and read it back."""
        self._content += self.journal.drain()
        path = folder / "journal"
        path.write_bytes(header_bytes({}) + self._content)
        return read_journal(path)
