"""Gradients that are not finite are never applied; environments that break are named."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from safetensors.numpy import load

import poise
from poise.cli import main
from poise.envs import registry
from poise.errors import EnvironmentFailureError, NotFiniteError, WorkerError
from poise.learning.events import Rejected, Updated
from poise.learning.journal import RecordKind, StopReason, read_journal
from poise.storage.bad_batch import inspect_batch

from .overflowing import TWINS, Plain, PlainOverflowing
from .runs import checkpoints, files_of, train

SETTINGS: dict[str, Any] = {"max_steps": 400, "max_bad_gradients": 1000, "record_every": 1}
BREAKS_AFTER = 250
"""Steps of one copy; the check before training and evaluations take fewer."""
UNLIMITED = SETTINGS | {"environment": "Overflowing-v0"}

pytestmark = [
    pytest.mark.usefixtures("shared_programs", "environments", "nan_is_allowed"),
    # Hosted environments shape and sum rewards in NumPy.
    pytest.mark.filterwarnings("default:.*not finite:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def environments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "TWINS", dict(registry.TWINS))
        for name, twin in TWINS.items():
            gymnasium.register(name, entry_point=Plain, max_episode_steps=None)
            poise.register(name, twin)
        yield
        for name in TWINS:
            del gymnasium.registry[name]


@pytest.fixture(scope="module")
def nan_is_allowed() -> Iterator[None]:
    """Disable the tests' own NaN check, which would raise before poise sees a NaN."""
    jax.config.update("jax_debug_nans", False)
    yield
    jax.config.update("jax_debug_nans", True)


def worker_updates(folder: Path) -> list[Any]:
    records = read_journal(folder / "journal").records
    return [one for one in records if one.kind == RecordKind.UPDATE]


@pytest.mark.parametrize(
    ("launcher", "world"), [("serial", "compiled"), ("threads", "compiled"), ("serial", "copies")]
)
def test_a_gradient_that_is_not_finite_is_never_applied(
    launcher: str, world: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    seen: list[Any] = []
    settings = UNLIMITED | {"launcher": launcher, "world": world}
    if world == "copies":
        settings["environment"] = PlainOverflowing
    with pytest.warns(RuntimeWarning, match="not finite"):
        result = train(folder, **settings, callbacks=[lambda when, event: seen.append(event)])
    rejected = [one for one in worker_updates(folder) if not one.detail]
    accepted = [one for one in worker_updates(folder) if one.detail]
    assert rejected
    assert accepted
    assert result.summary["bad_gradients"] == len(rejected)
    assert result.summary["updates"] == len(accepted)
    assert result.summary["steps"] >= 400
    assert [event.update for event in seen if isinstance(event, Updated)] == list(
        range(1, len(accepted) + 1)
    )
    events = [event for event in seen if isinstance(event, Rejected)]
    assert [(one.worker, one.worker_update.version) for one in events] == [
        (one.worker, one.version) for one in rejected
    ]
    for name in ("final", "best"):
        assert np.isfinite(poise.load(folder, name).parameters).all()
    rows = [row for row in files_of(folder).metrics if row["kind"] == "rejected"]
    assert [row["bad_gradients"] for row in rows] == list(range(1, len(rejected) + 1))
    trusted = {} if world == "compiled" else {"environment": PlainOverflowing}
    assert poise.replay(folder, **trusted).updates == len(accepted)


def test_the_report_names_worker_version_and_tensor(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.warns(RuntimeWarning, match="not finite") as caught:
        train(folder, **UNLIMITED)
    first = next(one for one in worker_updates(folder) if not one.detail)
    said = str(caught[0].message)
    assert f"worker {first.worker} " in said
    assert f"version {first.version}" in said
    assert ".value" in said or ".policy" in said
    assert str(folder) in said


def test_the_batch_is_saved_and_inspect_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    with pytest.warns(RuntimeWarning, match="not finite"):
        train(folder, **UNLIMITED)
    reports = inspect_batch(folder)
    names = [one.name for one in reports]
    broken = [one.name for one in reports if one.not_finite]
    assert broken == names[: len(broken)]
    assert "losses" in broken
    assert any(name.startswith("gradient") for name in broken)
    # The trajectory itself is finite: only the network, or its loss, is not.
    trajectory = [one for one in reports if one.name.startswith("trajectory")]
    assert trajectory
    assert all(one.not_finite == 0 for one in trajectory)
    assert max(one.maximum for one in trajectory) > 1e29
    assert main(["inspect", str(folder)]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == len(reports)
    assert broken[0] in rows[0]


def test_the_saved_batch_is_that_of_the_named_version(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.warns(RuntimeWarning, match="not finite"):
        train(folder, **UNLIMITED)
    last = [one for one in worker_updates(folder) if not one.detail][-1]
    tensors = load((folder / "bad_batch.safetensors").read_bytes())
    assert int(tensors["trajectory.version"]) == last.version
    assert tensors["trajectory.rewards"].shape == (5, 2)


@pytest.mark.parametrize("allowed", [0, 2])
def test_more_than_the_limit_end_the_run(
    allowed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    settings = SETTINGS | {"environment": "AlwaysOverflowing-v0", "max_bad_gradients": allowed}
    with (
        pytest.warns(RuntimeWarning, match="not finite"),
        pytest.raises(NotFiniteError, match=f"{allowed + 1} gradients were not finite") as caught,
    ):
        train(folder, **settings)
    assert caught.value.exit_code == 1
    assert "max_bad_gradients" in str(caught.value)
    records = read_journal(folder / "journal").records
    assert [one.detail for one in worker_updates(folder)] == [0] * (allowed + 1)
    assert records[-1].kind == RecordKind.STOP
    assert records[-1].detail == StopReason.NOT_FINITE
    assert json.loads((folder / "summary.json").read_text())["stopped"] == "not_finite"
    # Nothing was applied, and the only checkpoint is from before the end.
    assert len(checkpoints(folder)) == 1
    assert (folder / "final.safetensors").exists()
    assert poise.replay(folder).updates == 0


@pytest.mark.filterwarnings("ignore:.*not finite:RuntimeWarning")
def test_the_command_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    command = ["train", "AlwaysOverflowing-v0", "--run-dir", str(folder), "--quiet"]
    command += ["--workers=2", "--envs-per-worker=2", "--rollout-length=5", "--hidden-sizes", "4"]
    command += ["--max-steps=100", "--max-bad-gradients=0", "--launcher=serial"]
    assert main(command) == 1
    assert "1 gradients were not finite" in capsys.readouterr().err


def test_a_run_ended_by_bad_gradients_can_be_resumed_and_ends_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = UNLIMITED | {"max_bad_gradients": 1}
    with pytest.warns(RuntimeWarning, match="not finite"), pytest.raises(NotFiniteError):
        train(folder, **settings)
    before = worker_updates(folder)
    with pytest.warns(RuntimeWarning, match="not finite"), pytest.raises(NotFiniteError):
        poise.resume(folder)
    assert worker_updates(folder)[: len(before)] == before
    poise.replay(folder)


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ("NanObservation-v0", "observations"),
        pytest.param("InfiniteReward-v0", "rewards", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("launcher", ["serial", pytest.param("threads", marks=pytest.mark.slow)])
def test_a_compiled_environment_that_breaks_ends_the_run_and_is_named(
    environment: str, what: str, launcher: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = SETTINGS | {"environment": environment, "launcher": launcher}
    with pytest.raises((WorkerError, EnvironmentFailureError)) as caught:
        train(folder, **settings)
    assert caught.value.exit_code == 1
    assert environment in str(caught.value)
    assert what in str(caught.value)
    assert "worker" in str(caught.value)
    assert json.loads((folder / "summary.json").read_text())["stopped"] == "failed"
    assert worker_updates(folder) == []
    assert not (folder / "bad_batch.safetensors").exists()
    assert checkpoints(folder)
    poise.replay(folder)


class BrokenObservation(Plain):
    """Hosted: long after the check before training, an observation is NaN."""

    taken = 0

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        self.taken += 1
        return (observation * np.float32("nan") if self.breaks else observation), *rest

    @property
    def breaks(self) -> bool:
        return self.taken > BREAKS_AFTER


class BrokenReward(BrokenObservation):
    """Hosted: long after the check before training, a reward is infinite."""

    def step(self, action: Any) -> Any:
        _, reward, *rest = super().step(action)
        return np.zeros(2, np.float32), float("inf") if self.breaks else reward, *rest


@pytest.mark.parametrize(
    ("environment", "what"), [(BrokenObservation, "observation"), (BrokenReward, "reward")]
)
@pytest.mark.parametrize("launcher", ["serial", pytest.param("threads", marks=pytest.mark.slow)])
def test_a_hosted_environment_that_breaks_is_named(
    environment: Any, what: str, launcher: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = SETTINGS | {"environment": environment, "max_steps": 10 * BREAKS_AFTER}
    with pytest.raises((WorkerError, EnvironmentFailureError), match=what) as caught:
        train(folder, **settings, launcher=launcher, evaluation_interval=10**6)
    assert environment.__name__ in str(caught.value)
    assert checkpoints(folder)
    poise.replay(folder, environment=environment)
