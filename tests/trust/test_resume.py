"""A run that is interrupted anywhere and resumed gives the same result as without interruption."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import poise
from poise.cli import main
from poise.errors import ConfigError, RunFolderError
from poise.evaluation.evaluator import Evaluator
from poise.learning.journal import RecordKind, StopReason, read_journal
from poise.learning.parameter_server import EvaluationAborted
from poise.storage.files import lock_folder

from .runs import (
    TINY,
    Interruption,
    RunFiles,
    checkpoints,
    files_of,
    listing,
    require_equal,
    train,
)

pytestmark = pytest.mark.usefixtures("shared_programs")

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    # Every policy reaches this target, so every evaluation verifies on fresh seeds.
    "verifying": {"target_return": 5.0, "stop_when_solved": False, "selection_episodes": 3},
    "normalised": {"normalize_observations": "on", "optimizer": "rmsprop"},
    "normalised rewards": {"normalize_rewards": "on", "activation": "elu"},
    "both normalised": {"normalize_rewards": "on", "normalize_observations": "on"},
    "annealed": {"learning_rate_schedule": "linear", "workers": 3},
    "synchronous": {"algorithm": "a2c", "workers": 3},
    "batched": {"algorithm": "impala", "workers": 3},
    "action values": {"algorithm": "nstep_q", "target_interval": 90, "exploration_steps": 200},
}
PARTS = ("normalised", "normalised rewards", "batched", "action values")
"""Variants that another one contains, or whose algorithm another test resumes."""
EVALUATED = "plain", "verifying"
RANDOM = random.Random(0)
POINTS = [
    # Updates have 10 steps at most, so a run has about 32 of them.
    *((name, RANDOM.randint(1, 30), None) for name in VARIANTS for _ in range(4)),
    # A selection in the twin counts as one step; a verification takes at least 8.
    *((name, None, RANDOM.randint(1, 8)) for name in VARIANTS for _ in range(2)),
    ("plain", 0, None),
    ("plain", 1, None),
    ("verifying", None, 12),
    ("verifying", None, 20),
]


def is_quick(position: int, name: str, worker_updates: int | None) -> bool:
    """Whether one of `POINTS` is tested each time."""
    if name in PARTS:
        return False
    return position % 4 == 0 if worker_updates else name in EVALUATED and position % 2 == 0


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, shared_programs: None
) -> Callable[[str], RunFiles]:
    """Return a function that gives the files of a variant's uninterrupted run."""
    done: dict[str, RunFiles] = {}

    def run(name: str) -> RunFiles:
        if name not in done:
            folder = tmp_path_factory.mktemp(name) / "run"
            train(folder, **VARIANTS[name])
            done[name] = files_of(folder)
        return done[name]

    return run


@pytest.mark.parametrize(
    ("name", "worker_updates", "evaluation_steps"),
    # Quickly: of each variant, one point in training; of two, one in an evaluation.
    [
        pytest.param(*one, marks=() if is_quick(at, *one[:2]) else pytest.mark.slow)
        for at, one in enumerate(POINTS)
    ],
)
def test_a_resumed_serial_run_equals_the_uninterrupted_one(
    name: str,
    worker_updates: int | None,
    evaluation_steps: int | None,
    uninterrupted: Callable[[str], RunFiles],
    interruption: Interruption,
    tmp_path: Path,
) -> None:
    whole = uninterrupted(name)
    folder = tmp_path / "run"
    interruption.after(worker_updates, evaluation_steps)
    stopped = train(folder, **VARIANTS[name])
    assert stopped.summary["stopped"] == "interrupted"
    assert poise.replay(folder).records == len(read_journal(folder / "journal").records)
    interruption.after()
    resumed = poise.resume(folder)
    assert resumed.summary["stopped"] == "max_steps"
    require_equal(files_of(folder), whole)
    poise.replay(folder)


def test_a_signal_in_the_final_verification_interrupts_the_run(
    uninterrupted: Callable[[str], RunFiles], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without its score the run has not ended; after resuming, it gets the same score."""
    folder = tmp_path / "run"

    def abort(evaluator: Evaluator, *about: Any) -> None:
        raise EvaluationAborted(StopReason.INTERRUPTED)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "conclude", abort)
        stopped = train(folder)
    assert stopped.reason == StopReason.INTERRUPTED
    assert stopped.summary["stopped"] == "interrupted"
    assert stopped.summary["evaluation"] is None
    poise.resume(folder)
    require_equal(files_of(folder), uninterrupted("plain"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=() if one == "plain" else pytest.mark.slow) for one in VARIANTS],
)
def test_a_run_that_is_interrupted_twice(
    name: str,
    uninterrupted: Callable[[str], RunFiles],
    interruption: Interruption,
    tmp_path: Path,
) -> None:
    whole = uninterrupted(name)
    folder = tmp_path / "run"
    interruption.after(worker_updates=7)
    train(folder, **VARIANTS[name])
    interruption.after(evaluation_steps=5)
    poise.resume(folder)
    interruption.after(worker_updates=6)
    poise.resume(folder)
    interruption.after()
    poise.resume(folder)
    require_equal(files_of(folder), whole)


def test_everything_after_an_older_checkpoint_is_repeated(
    uninterrupted: Callable[[str], RunFiles], interruption: Interruption, tmp_path: Path
) -> None:
    # As after a kill: the files are longer than the checkpoint says.
    folder = tmp_path / "run"
    interruption.after(worker_updates=9)
    train(folder, **VARIANTS["plain"])
    oldest = checkpoints(folder)[0]
    interruption.after(worker_updates=14)
    poise.resume(folder)
    for path in checkpoints(folder):
        if path != oldest:
            path.unlink()
    with (folder / "journal").open("ab") as journal:
        journal.write(b"torn")
    with (folder / "metrics.jsonl").open("ab") as metrics:
        metrics.write(b'{"kind": "epi')
    interruption.after()
    poise.resume(folder)
    require_equal(files_of(folder), uninterrupted("plain"))


def test_before_the_first_checkpoint_a_run_starts_over(
    uninterrupted: Callable[[str], RunFiles], interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interruption.after(worker_updates=5)
    train(folder, **VARIANTS["plain"])
    for path in checkpoints(folder):
        path.unlink()
    interruption.after()
    poise.resume(folder)
    require_equal(files_of(folder), uninterrupted("plain"))


@pytest.mark.parametrize("left", [(), ("journal",), ("journal", "metrics.jsonl")])
def test_a_run_that_was_killed_while_it_began(
    left: tuple[str, ...],
    uninterrupted: Callable[[str], RunFiles],
    interruption: Interruption,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    interruption.after(worker_updates=1)
    train(folder, **VARIANTS["plain"])
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("config.json", *left):
            path.unlink()
    interruption.after()
    poise.resume(folder)
    require_equal(files_of(folder), uninterrupted("plain"))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("worker_updates", [3, 17])
def test_under_threads_the_whole_run_replays(
    workers: int, worker_updates: int, interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = {"launcher": "threads", "workers": workers, **VARIANTS["verifying"]}
    interruption.after(worker_updates)
    train(folder, **settings)
    interruption.after(worker_updates)
    poise.resume(folder)
    interruption.after()
    result = poise.resume(folder)
    assert result.summary["stopped"] == "max_steps"
    assert poise.replay(folder).compared == ("final.safetensors", "best.safetensors")
    episodes = [row["episode"] for row in files_of(folder).metrics if row["kind"] == "episode"]
    assert episodes == list(range(1, result.summary["episodes"] + 1))


@pytest.mark.slow
def test_under_processes_workers_continue_from_their_saved_state(
    interruption: Interruption, tmp_path: Path
) -> None:
    """A single worker is deterministic: processes give the same result as the serial launcher."""
    alone = {"workers": 1, "max_steps": 200}
    train(tmp_path / "serial", **alone)
    folder = tmp_path / "run"
    interruption.after(worker_updates=7)
    stopped = train(folder, **alone, launcher="processes")
    assert stopped.summary["stopped"] == "interrupted"
    interruption.after()
    poise.resume(folder)
    journals = [read_journal(one / "journal").records for one in (tmp_path / "serial", folder)]
    assert journals[0] == journals[1]
    finals = [(one / "final.safetensors").read_bytes() for one in (tmp_path / "serial", folder)]
    assert finals[0] == finals[1]


@pytest.mark.parametrize("launcher", ["serial", "threads"])
def test_hosted_environments_resume_with_the_next_generation(
    launcher: str, interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interruption.after(worker_updates=8)
    train(folder, launcher=launcher, world="copies")
    interruption.after(worker_updates=8)
    poise.resume(folder)
    interruption.after()
    result = poise.resume(folder)
    assert result.summary["steps"] >= TINY["max_steps"]
    poise.replay(folder)
    records = read_journal(folder / "journal").records
    joins = [(one.worker, one.generation) for one in records if one.kind == RecordKind.JOIN]
    assert sorted(joins) == [(worker, n) for worker in range(2) for n in range(3)]
    leaves = [(one.worker, one.generation) for one in records if one.kind == RecordKind.LEAVE]
    assert sorted(leaves) == [(worker, n) for worker in range(2) for n in range(2)]


def test_hosted_environments_have_other_episodes_in_another_generation(
    interruption: Interruption, tmp_path: Path
) -> None:
    # The seeds depend on the generation; with equal seeds, the first rollouts would be equal.
    folder = tmp_path / "run"
    interruption.after(worker_updates=6)
    train(folder, world="copies", learning_rate=1e-30, record_every=1)
    interruption.after()
    poise.resume(folder)
    losses = [row["loss"] for row in files_of(folder).metrics if row["kind"] == "update"]
    assert len(set(losses[:6]) & set(losses[6:12])) == 0


@pytest.mark.parametrize("launcher", ["serial", pytest.param("threads", marks=pytest.mark.slow)])
@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_a_larger_budget_continues_a_finished_run_and_replays(
    launcher: str, schedule: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(folder, launcher=launcher, learning_rate_schedule=schedule)
    before = files_of(folder)
    result = poise.resume(folder, max_steps=500)
    assert result.summary["steps"] >= 500
    after = files_of(folder)
    episodes = [row for row in after.metrics if row["kind"] == "episode"]
    known = [row for row in before.metrics if row["kind"] == "episode"]
    assert episodes[: len(known)] == known
    assert len(episodes) > len(known)
    kinds = [one.kind for one in read_journal(folder / "journal").records]
    assert kinds.count(RecordKind.RESUME) == 1
    assert kinds.count(RecordKind.STOP) == 1
    assert poise.replay(folder).compared == ("final.safetensors", "best.safetensors")


def test_a_larger_budget_later_is_equivalent_to_one_from_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The evaluation and the verification at the end of the smaller budget are undone. Nothing is
    # written before the end here, so the checkpoint is written after both.
    monkeypatch.setattr("poise.training.training_run.PUMP_INTERVAL", 1000.0)
    whole, folder = tmp_path / "whole", tmp_path / "run"
    train(whole, max_steps=500, **VARIANTS["verifying"])
    train(folder, max_steps=350, **VARIANTS["verifying"])
    poise.resume(folder, max_steps=500)
    assert files_of(folder).metrics == files_of(whole).metrics
    assert files_of(folder).summary == files_of(whole).summary
    assert files_of(folder).final == files_of(whole).final


def test_budgets_can_grow_again_and_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, **VARIANTS["annealed"])
    for budget in (400, 500):
        poise.resume(folder, max_steps=budget)
        poise.replay(folder)
    rows = [row for row in files_of(folder).metrics if row["kind"] == "update"]
    rates = [row["learning_rate"] for row in rows]
    assert rates[0] > rates[-1] > 0


def test_a_new_budget_holds_for_later_resumptions(
    interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train(folder)
    interruption.after(worker_updates=8)
    poise.resume(folder, max_steps=500)
    interruption.after()
    result = poise.resume(folder)
    assert result.summary["steps"] >= 500
    poise.replay(folder)


def test_a_new_budget_for_a_run_that_was_stopped_in_an_evaluation_replays(
    interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interruption.after(evaluation_steps=1)
    train(folder)
    for budget in (400, 500):
        interruption.after(evaluation_steps=1)
        poise.resume(folder, max_steps=budget)
    interruption.after()
    poise.resume(folder, max_steps=450)
    assert RecordKind.RESUME in [one.kind for one in read_journal(folder / "journal").records]
    poise.replay(folder)


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_a_new_budget_interrupted_and_resumed_equals_the_uninterrupted(
    schedule: str, interruption: Interruption, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    train(whole, learning_rate_schedule=schedule)
    poise.resume(whole, max_steps=500)
    train(folder, learning_rate_schedule=schedule)
    interruption.after(worker_updates=8)
    poise.resume(folder, max_steps=500)
    interruption.after()
    poise.resume(folder)
    require_equal(files_of(folder), files_of(whole))


def test_a_run_killed_after_a_new_budget_does_not_count_as_finished(tmp_path: Path) -> None:
    folder, killed = tmp_path / "run", tmp_path / "killed"
    train(folder)

    def copy(when: float, event: poise.Event) -> None:
        # What is in the folder at this moment is what a kill would leave.
        if isinstance(event, poise.Updated) and event.steps > 400 and not killed.exists():
            shutil.copytree(folder, killed)

    poise.resume(folder, max_steps=500, callbacks=[copy])
    poise.replay(killed)
    assert poise.resume(killed).summary["steps"] >= 500
    poise.replay(killed)


@pytest.mark.parametrize("ended", [{"max_steps": 300}, {"max_steps": None, "max_episodes": 12}])
@pytest.mark.parametrize("given", ["max_steps", "max_episodes"])
def test_a_used_up_budget_is_replaced_by_another(
    ended: dict[str, Any], given: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    first = train(folder, **ended).summary
    counted = {"max_steps": "steps", "max_episodes": "episodes"}[given]
    more = first[counted] + 40
    result = poise.resume(folder, **{given: more})
    assert result.summary["stopped"] == given
    assert result.summary[counted] >= more
    assert poise.replay(folder).compared == ("final.safetensors", "best.safetensors")


def test_a_budget_below_the_steps_taken_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder)
    before = listing(folder)
    with pytest.raises(ConfigError, match="the run has already taken"):
        poise.resume(folder, max_steps=100)
    assert listing(folder) == before


def test_a_finished_run_is_returned_at_once_and_no_file_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    first = train(folder)
    before = listing(folder)
    again = poise.resume(folder)
    assert again.summary == first.summary
    assert again.reason == first.reason
    np.testing.assert_array_equal(again.policy.parameters, first.policy.parameters)
    assert main(["resume", str(folder)]) == 0
    assert "not solved" in capsys.readouterr().out
    assert listing(folder) == before


def test_a_run_in_use_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder)
    before = listing(folder)
    with lock_folder(folder), pytest.raises(RunFolderError, match="another process is training"):
        poise.resume(folder, max_steps=500)
    assert listing(folder) == before


def test_the_command_line_resumes_and_says_how_it_ended(
    interruption: Interruption, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    interruption.after(worker_updates=4)
    train(folder)
    interruption.after(worker_updates=4)
    assert main(["resume", str(folder), "--quiet"]) == 130
    interruption.after()
    assert main(["resume", str(folder), "--quiet", "--max-steps=320"]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((folder / "summary.json").read_text())["steps"] >= 320


class Counting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts the open copies."""

    open = 0

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        Counting.open += 1

    def close(self) -> None:
        Counting.open -= 1
        super().close()


@pytest.fixture
def counting() -> Iterator[Callable[[], Any]]:
    Counting.open = 0
    yield lambda: Counting(gymnasium.make("CartPole-v1"))
    assert Counting.open == 0


def test_no_environment_is_left_open(
    counting: Callable[[], Any], interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interruption.after(worker_updates=4)
    settings = {**TINY, "environment": counting, "launcher": "threads"}
    poise.train(**settings, run_dir=folder)
    interruption.after()
    poise.resume(folder, environment=counting)
    poise.replay(folder, environment=counting)
