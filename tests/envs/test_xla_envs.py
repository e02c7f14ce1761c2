"""XLA environments: a compiled rollout is compared with stepping the emulators from Python."""

import dataclasses
import importlib.util
from typing import Any

import jax
import numpy as np
import pytest

from poise.agent.agent import Agent
from poise.config import EnvironmentChoice
from poise.envs.env_factory import find_env_factory
from poise.envs.host_envs import HostEnvs
from poise.envs.registry import choose_envs, env_backend
from poise.envs.reward_shaping import RewardShaping
from poise.envs.xla_envs import XlaEnvs
from poise.errors import ConfigError
from poise.learning.rollout import (
    FinishedEpisodes,
    RolloutState,
    first_state,
    roll_out,
    to_trajectory,
)
from poise.trajectory import Snapshot, Trajectory

pytest.importorskip("ale_py")
pytest.importorskip("cv2")
pytest.importorskip("chex")

from poise.envs import atari

from .toys import UniformHead, toy_agent

COPIES, LENGTH, ROLLOUTS = 2, 40, 3
LIMIT = 240
"""Frames per game, so few that games end within a rollout."""
GAMES = ("ALE/Pong-v5", pytest.param("ALE/Breakout-v5", marks=pytest.mark.slow))


def env_factory(name: str = "ALE/Pong-v5", **choice: Any) -> Any:
    return find_env_factory(EnvironmentChoice(name, **choice))


def obedient(envs: XlaEnvs, actions: Any) -> Agent:
    """Make an agent that takes the given actions, so that Python can take the same."""

    class Obedient(UniformHead):
        def noise(self, draw: Any, batch: tuple[int, ...]) -> Any:
            return actions

        def to_environment(self, action: Any) -> Any:
            return action

    return dataclasses.replace(toy_agent(envs), head=Obedient())


class Rollouts:
    """Compiled rollouts for any emulators of one environment."""

    def __init__(self, envs: XlaEnvs) -> None:
        self.envs = envs
        self.compiled: Any = None

    def start(self, emulators: Any, seeds: list[int]) -> RolloutState:
        recurrent = np.zeros(COPIES, np.int32)
        begin = self.envs.start(emulators, seeds)
        return first_state(np.zeros(2, np.uint32), COPIES, *begin, recurrent)

    def __call__(
        self, state: RolloutState, actions: np.ndarray
    ) -> tuple[Trajectory, FinishedEpisodes, RolloutState]:
        def run(state: Any, actions: Any) -> Any:
            agent = obedient(self.envs, actions)
            snapshot = Snapshot(0, np.zeros(0, np.float32))
            transitions, after = roll_out(agent, self.envs, snapshot, state, LENGTH)
            rollout = to_trajectory(agent, self.envs.shaping, snapshot, state, transitions, after)
            return rollout, transitions.episodes, after

        if self.compiled is None:
            self.compiled = jax.jit(run).lower(state, actions).compile()
        trajectory, finished, after = self.compiled(state, actions)
        return (*jax.tree.map(np.asarray, (trajectory, finished)), after)


@pytest.fixture(scope="module")
def pong() -> Rollouts:
    envs = choose_envs(env_factory(), "auto", RewardShaping())
    assert isinstance(envs, XlaEnvs)
    return Rollouts(envs)


def some_actions(seed: int) -> np.ndarray:
    shape = (ROLLOUTS, LENGTH, COPIES)
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.int32)


@pytest.mark.parametrize("name", GAMES)
def test_a_rollout_agrees_with_the_emulators(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames, rewards, flags and lengths agree, also across the ends of games and rollouts."""
    monkeypatch.setattr(atari, "MAX_FRAMES", LIMIT)
    shaping = RewardShaping(scale=0.5)
    envs = choose_envs(env_factory(name), "xla", shaping)
    assert isinstance(envs, XlaEnvs)
    rollouts, seeds, actions = Rollouts(envs), [3, 8], some_actions(0)
    emulators, copies = envs.copies(COPIES), envs.copies(COPIES)
    state = rollouts.start(emulators, seeds)
    observation = copies.reset(seeds)
    ended = np.zeros(COPIES, np.bool_)
    total, elapsed, ends = np.zeros(COPIES), np.zeros(COPIES, np.int64), 0
    for moves in actions:
        trajectory, finished, state = rollouts(state, moves)
        for now, move in enumerate(moves):
            np.testing.assert_array_equal(trajectory.observations[now], observation)
            observation, rewards, terminated, truncated = copies.step(move)
            np.testing.assert_array_equal(trajectory.valid[now], ~ended)
            np.testing.assert_array_equal(trajectory.rewards[now], rewards * 0.5)
            np.testing.assert_array_equal(trajectory.terminated[now], terminated)
            np.testing.assert_array_equal(trajectory.truncated[now], truncated)
            total, elapsed = np.where(ended, 0, total + rewards), np.where(ended, 0, elapsed + 1)
            ended = terminated | truncated
            np.testing.assert_array_equal(finished.finished[now], ended)
            np.testing.assert_array_equal(finished.returns[now][ended], total[ended])
            np.testing.assert_array_equal(finished.lengths[now][ended], elapsed[ended])
            ends += int(ended.sum())
        np.testing.assert_array_equal(trajectory.observations[LENGTH], observation)
    emulators.close()
    copies.close()
    assert ends >= COPIES


def test_one_program_steps_any_emulators(pong: Rollouts) -> None:
    """The handle is an argument, so each worker steps its own emulators only."""
    one, other = pong.envs.copies(COPIES), pong.envs.copies(COPIES)
    first, second = pong.start(one, [1, 2]), pong.start(other, [1, 2])
    moves, others = some_actions(1), some_actions(2)
    for turn in range(ROLLOUTS):
        seen, _, first = pong(first, moves[turn])
        _, _, second = pong(second, others[turn])
    third = pong.start(one, [1, 2])
    for turn in range(ROLLOUTS):
        again, _, third = pong(third, moves[turn])
    np.testing.assert_array_equal(seen.observations, again.observations)
    assert not np.array_equal(np.asarray(first.observation), np.asarray(second.observation))


def test_properties_of_xla_environments(pong: Rollouts) -> None:
    envs = pong.envs
    assert (envs.kind, envs.name) == ("xla", "ALE/Pong-v5")
    assert not envs.holds_gil
    assert not envs.is_pure
    assert env_backend(env_factory(sticky_actions=0.25), "auto") == "xla"


def test_without_xla_functions_python_steps_the_emulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without XLA functions, ale-py's vector environment is stepped from Python."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert isinstance(choose_envs(env_factory(), "auto", RewardShaping()), HostEnvs)
    with pytest.raises(ConfigError, match="only supports atari, copies"):
        env_backend(env_factory(), "xla")
    monkeypatch.undo()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "chex" else find(name)
    )
    assert env_backend(env_factory(), "auto") == "atari"
