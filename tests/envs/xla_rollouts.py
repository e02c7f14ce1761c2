"""Compiled rollouts of environments that XLA steps, held against stepping them from Python."""

import dataclasses
from typing import Any

import jax
import numpy as np

from poise.agent.agent import Agent
from poise.envs.xla_envs import XlaEnvs
from poise.learning.rollout import (
    FinishedEpisodes,
    RolloutState,
    first_state,
    roll_out,
    to_trajectory,
)
from poise.trajectory import Snapshot, Trajectory

from .toys import UniformHead, toy_agent

COPIES, LENGTH, ROLLOUTS = 2, 40, 3


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


def agree(envs: XlaEnvs, seeds: list[int], actions: np.ndarray) -> int:
    """Compare compiled rollouts with steps from Python; returns how many episodes ended.

    Args:
        envs: the environments.
        seeds: a seed for each copy.
        actions: ``[rollouts, T, N, ...]``.
    """
    rollouts, scale = Rollouts(envs), envs.shaping.scale
    inside, outside = envs.copies(COPIES), envs.copies(COPIES)
    state = rollouts.start(inside, seeds)
    observation = outside.reset(seeds)
    ended = np.zeros(COPIES, np.bool_)
    total, elapsed, ends = np.zeros(COPIES), np.zeros(COPIES, np.int64), 0
    for moves in actions:
        trajectory, finished, state = rollouts(state, moves)
        seen = trajectory.observations
        for now, move in enumerate(moves):
            # MuJoCo's observations are float64, which XLA rounds.
            np.testing.assert_array_equal(seen[now], observation.astype(seen.dtype))
            observation, rewards, terminated, truncated = outside.step(move)
            np.testing.assert_array_equal(trajectory.valid[now], ~ended)
            assert (rewards[ended] == 0).all()
            np.testing.assert_allclose(trajectory.rewards[now], rewards * scale, rtol=1e-6)
            np.testing.assert_array_equal(trajectory.terminated[now], terminated)
            np.testing.assert_array_equal(trajectory.truncated[now], truncated)
            total, elapsed = np.where(ended, 0, total + rewards), np.where(ended, 0, elapsed + 1)
            ended = terminated | truncated
            np.testing.assert_array_equal(finished.finished[now], ended)
            np.testing.assert_allclose(finished.returns[now][ended], total[ended], rtol=1e-5)
            np.testing.assert_array_equal(finished.lengths[now][ended], elapsed[ended])
            ends += int(ended.sum())
        np.testing.assert_array_equal(seen[LENGTH], observation.astype(seen.dtype))
    inside.close()
    outside.close()
    return ends
