"""Small runs, compiled once, that a test can stop at a given point, independent of the clock."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from poise.evaluation.supervision import Heartbeat
from poise.learning.journal import StopReason
from poise.learning.parameter_server import EvaluationAborted, ParameterServer
from poise.training.result import TrainResult

from .. import small

TINY: dict[str, Any] = {
    "environment": "CartPole-v1",
    "seed": 0,
    "workers": 2,
    "envs_per_worker": 2,
    "rollout_length": 5,
    "hidden_sizes": (4,),
    "max_steps": 300,
    "launcher": "serial",
    "evaluation_interval": 100,
    "selection_episodes": 2,
    "verification_episodes": 2,
    "record_every": 3,
    "checkpoint_every": "50steps",
}


def train(folder: Path, **settings: Any) -> TrainResult:
    """Train a tiny run in a folder."""
    return small.train(folder, **{**TINY, **settings})


class Interruption:
    """Stops runs at a given point, as Ctrl-C would stop them.

    Attributes:
        worker_updates: stop when the server has received this many in this process; None: never.
        evaluation_steps: abort an evaluation after this many evaluation steps; None: never.
        reason: the reason to stop.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.worker_updates: int | None = None
        self.evaluation_steps: int | None = None
        self.reason = StopReason.INTERRUPTED
        self.received = self.evaluated = 0
        receive, alive, admit = ParameterServer.receive, Heartbeat.beat, ParameterServer.join

        def counted(server: ParameterServer, *arguments: Any, **named: Any) -> Any:
            answer = receive(server, *arguments, **named)
            self.received += 1
            if self.received == self.worker_updates:
                server.stop(self.reason)
                return {}
            return answer

        def joined(server: ParameterServer, *arguments: Any, **named: Any) -> Any:
            snapshot = admit(server, *arguments, **named)
            if self.worker_updates == 0:
                server.stop(self.reason)
            return snapshot

        def beating(heartbeat: Heartbeat) -> None:
            self.evaluated += 1
            if self.evaluated == self.evaluation_steps:
                raise EvaluationAborted(self.reason)
            alive(heartbeat)

        monkeypatch.setattr(ParameterServer, "receive", counted)
        monkeypatch.setattr(ParameterServer, "join", joined)
        monkeypatch.setattr(Heartbeat, "beat", beating)

    def after(self, worker_updates: int | None = None, evaluation_steps: int | None = None) -> None:
        """Stop the next run at this point; without arguments, never."""
        self.worker_updates, self.evaluation_steps = worker_updates, evaluation_steps
        self.received = self.evaluated = 0


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """Content of a run's files, without clock times."""

    journal: bytes
    metrics: list[dict[str, Any]]
    summary: dict[str, Any]
    final: bytes
    best: bytes


def files_of(folder: Path) -> RunFiles:
    """Read the content of a run's files."""
    summary = small.summary(folder)
    return RunFiles(
        journal=(folder / "journal").read_bytes(),
        metrics=[
            {name: row[name] for name in row if name != "wall_time"} for row in small.rows(folder)
        ],
        summary={name: summary[name] for name in summary if name not in small.TIMES},
        final=(folder / "final.safetensors").read_bytes(),
        best=(folder / "best.safetensors").read_bytes(),
    )


def require_equal(one: RunFiles, other: RunFiles) -> None:
    """Compare two runs, beginning with what shows most about a difference."""
    assert one.metrics == other.metrics
    assert one.journal == other.journal
    assert one.summary == other.summary
    assert one.final == other.final
    assert one.best == other.best


def checkpoints(folder: Path) -> list[Path]:
    """Return a run's checkpoint files, newest first."""
    return sorted((folder / "checkpoints").glob("*.safetensors"), reverse=True)


def listing(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return modification time and content of every file of a run, except the lock file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
