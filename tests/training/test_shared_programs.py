"""The tests' own sharing of compiled programs: it compiles once, and only what is equal."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import poise
from poise.config import TrainConfig
from poise.learning.host_worker import HostProgram
from poise.learning.jax_worker import JaxProgram
from poise.training.assembly import build_components

from ..sharing import program_key
from ..small import train

pytestmark = pytest.mark.usefixtures("shared_programs", "no_curves")

SHORT: dict[str, Any] = {"max_steps": 100, "evaluation_interval": 10**6}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The kinds of the programs that are compiled from now on."""
    found: list[type] = []

    def noting(kind: type, compile_it: Callable[..., None]) -> Callable[..., None]:
        def compile_(program: Any, *arguments: Any) -> None:
            found.append(kind)
            compile_it(program, *arguments)

        return compile_

    for kind in (JaxProgram, HostProgram):
        monkeypatch.setattr(kind, "compile", noting(kind, kind.compile))
    return found


# No other test has these discounts, so nothing has been compiled yet.
@pytest.mark.parametrize(
    ("world", "kind", "discount"),
    [
        ("compiled", JaxProgram, 0.91),
        pytest.param("copies", HostProgram, 0.92, marks=pytest.mark.slow),
    ],
)
def test_a_run_its_resumption_and_its_replay_compile_once(
    world: str, kind: type, discount: float, compiled: list[type], tmp_path: Path
) -> None:
    folder = train(tmp_path / "run", **SHORT, world=world, discount=discount).folder
    poise.resume(folder, max_steps=300)
    poise.replay(folder)
    train(tmp_path / "other", **SHORT, world=world, discount=discount, seed=8, workers=1)
    assert compiled == [kind]


@pytest.mark.parametrize(
    "change",
    [
        {"discount": 0.93},
        {"hidden_sizes": (3,)},
        {"failure_reward": -3.0},
        {"normalize_observations": "on"},
        {"environment": "Acrobot-v1"},
        {"environment": "CartPole-v0"},
        {"world": "copies"},
        {"optimizer": "rmsprop"},
        {"activation": "relu"},
        {"normalize_rewards": "on"},
        {"rmsprop_initial_square": 1.0},
        {"envs_per_worker": 3},
        {"algorithm": "a2c"},
    ],
    ids=str,
)
def test_other_programs_are_not_shared(change: dict[str, Any]) -> None:
    usual = TrainConfig(environment="CartPole-v1")
    one, other = (
        program_key(build_components(config))
        for config in (usual, dataclasses.replace(usual, **change))
    )
    assert one == program_key(build_components(usual))
    assert one != other


def test_learners_that_draw_are_not_shared_by_runs_with_other_seeds() -> None:
    one, other = (
        program_key(build_components(TrainConfig("CartPole-v1", algorithm="ppo", seed=seed)))
        for seed in (1, 2)
    )
    assert one != other
