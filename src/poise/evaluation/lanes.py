"""Lanes: the environment copies in which evaluation episodes are played, and their actions."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import gymnasium
import jax
import numpy as np
from gymnasium.vector.utils import batch_space

from poise.agent.noise import draw_with_generator
from poise.agent.policy import Policy
from poise.batching import unbatch_all
from poise.envs.checked_env import CheckedEnv
from poise.envs.observations import batch_checker

__all__ = ["Actions", "DecidedActions", "Lane", "RandomActions"]

ACTIONS_AT_ONCE = 256
"""Random actions drawn at once: a space takes as long to sample one as to sample a hundred."""
NOISE_AT_ONCE = 64
"""Steps of an episode for which the noise of its actions is drawn at once."""
_ACTIONS_KEY = 1
"""Makes the seed of an episode's random actions differ from that of the environment."""


class Lane:
    """An environment copy, and its current episode (None if it is free)."""

    def __init__(self, copy: CheckedEnv) -> None:
        self.copy = copy
        self.episode: int | None = None
        """The episode's number in the evaluation."""
        self.observation: Any = None
        self.total = 0.0
        self.length = 0

    def begin(self, episode: int, seed: int) -> None:
        """Begin an episode."""
        self.episode = episode
        self.observation = self.copy.reset(seed)
        self.total, self.length = 0.0, 0


@runtime_checkable
class Actions(Protocol):
    """Source of actions for some lanes."""

    lanes: list[Lane]

    def begin(self, row: int, seed: int) -> None:
        """Handle the beginning of an episode in a lane."""

    def act(self, rows: list[int]) -> list[Any]:
        """Return the environment's actions for some of the lanes."""


class RandomActions:
    """Uniformly random actions, with a seed for each episode."""

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self._samples: list[Iterator[Any]] = [iter(()) for _ in lanes]

    def begin(self, row: int, seed: int) -> None:
        """Seed the episode's actions."""
        self._samples[row] = _samples(self.lanes[row].copy.environment.action_space, seed)

    def act(self, rows: list[int]) -> list[Any]:
        """Draw the next actions; observations are only checked."""
        actions = []
        for row in rows:
            lane = self.lanes[row]
            lane.copy.check(lane.observation)
            actions.append(next(self._samples[row]))
        return actions


class DecidedActions:
    """A policy's actions for lanes that are decided in one batch, always of `Policy.rows` rows.

    NumPy decides each row for itself (see `row_product`). In XLA the size of a batch may change
    how a matrix product rounds a row, so unused rows are filled. If rows still change one another's
    last bit, which is tested with an episode's first observation, that episode is decided alone,
    whatever process plays it, and with whatever other episodes.

    Args:
        policy: the policy that decides.
        lanes: at most `Policy.rows`.
        sampling: seed for sampling actions: each episode derives its own from it and its number;
            None acts greedily.
    """

    def __init__(
        self, policy: Policy, lanes: list[Lane], sampling: np.random.SeedSequence | None
    ) -> None:
        self._policy = policy
        self._rows = policy.rows
        self.lanes = lanes
        self._sampling = sampling
        self._noise: list[Iterator[Any]] = [iter(()) for _ in lanes]
        self._steady = [True] * len(lanes)
        self._stack = batch_checker(policy.observation_space)
        self._state = policy.agent.initial_state(self._rows)
        self._first = np.ones(self._rows, np.bool_)

    def begin(self, row: int, seed: int) -> None:
        """Reset the lane's state for a new episode."""
        del seed
        episode = self.lanes[row].episode
        assert episode is not None, "it has begun"
        self._first[row] = True
        self._steady[row] = self.is_steady(row)
        if self._sampling is not None:
            self._noise[row] = _noise(self._policy, self._sampling, episode)

    def is_steady(self, row: int) -> bool:
        """Whether an observation gives the same decision in every row, to the last bit."""
        batch = self._batch([self.lanes[row].observation] * self._rows)
        state = self._policy.agent.initial_state(self._rows)
        decision = self._policy.decide(batch, state, np.ones(self._rows, np.bool_), None)
        leaves = jax.tree.leaves((decision.dist_params, decision.state))
        return all(
            np.asarray(leaf)[0].tobytes() == np.asarray(leaf)[one].tobytes()
            for leaf in leaves
            for one in range(self._rows)
        )

    def act(self, rows: list[int]) -> list[Any]:
        """Return the environment's actions for some of the rows."""
        together = [row for row in rows if self._steady[row]]
        found = dict(zip(together, self._act_together(together), strict=True)) if together else {}
        return [found[row] if row in found else self._act_alone(row) for row in rows]

    def _act_together(self, rows: list[int]) -> list[Any]:
        spare = self.lanes[rows[0]]
        lanes = [
            lane if lane.episode is not None else spare
            for lane in (*self.lanes, *[spare] * (self._rows - len(self.lanes)))
        ]
        batch = self._batch([lane.observation for lane in lanes])
        noise = None
        if self._sampling is not None:
            drawn = {row: next(self._noise[row]) for row in rows}
            each = [drawn.get(row, drawn[rows[0]]) for row in range(self._rows)]
            noise = jax.tree.map(lambda *draws: np.stack(draws), *each)
        decision = self._policy.decide(batch, self._state, self._first, noise)
        self._keep(rows, decision.state, rows)
        actions = unbatch_all(decision.environment_action, self._policy.action_space, self._rows)
        return [actions[row] for row in rows]

    def _act_alone(self, row: int) -> Any:
        batch = self._batch([self.lanes[row].observation])
        noise = None
        if self._sampling is not None:
            noise = jax.tree.map(lambda draw: draw[None], next(self._noise[row]))
        state = jax.tree.map(lambda leaf: np.asarray(leaf)[row : row + 1], self._state)
        decision = self._policy.decide(batch, state, self._first[row : row + 1], noise)
        self._keep([row], decision.state, [0])
        return unbatch_all(decision.environment_action, self._policy.action_space, 1)[0]

    def _keep(self, rows: list[int], state: Any, where: list[int]) -> None:
        """Copy these rows of the new recurrent state into the stored one."""
        self._state = jax.tree.map(
            lambda leaf, new: _with_rows(leaf, rows, np.asarray(new)[where]), self._state, state
        )
        self._first[rows] = False

    def _batch(self, observations: Sequence[Any]) -> Any:
        batch = self._stack(list(observations))
        if batch is None:
            for lane in self.lanes:
                if lane.episode is not None:
                    lane.copy.check(lane.observation)
        return batch


def _with_rows(leaf: Any, rows: list[int], new: np.ndarray) -> np.ndarray:
    """Return a copy of an array with some rows replaced."""
    changed = np.array(leaf)
    changed[rows] = new
    return changed


def _samples(space: gymnasium.Space[Any], seed: int) -> Iterator[Any]:
    """Draw random actions from a separate seed; the environment might draw the same numbers."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_ACTIONS_KEY,))
    many = batch_space(deepcopy(space), ACTIONS_AT_ONCE)
    many.seed(int(sequence.generate_state(1)[0]))
    while True:
        yield from unbatch_all(many.sample(), space, ACTIONS_AT_ONCE)


def _noise(policy: Policy, sampling: np.random.SeedSequence, episode: int) -> Iterator[Any]:
    """Yield the noise of an episode's actions, step by step."""
    seed = np.random.SeedSequence(sampling.entropy, spawn_key=(*sampling.spawn_key, episode))
    draw = draw_with_generator(np.random.default_rng(seed))
    while True:
        leaves, structure = jax.tree.flatten(policy.agent.head.noise(draw, (NOISE_AT_ONCE,)))
        for step in zip(*leaves, strict=True):
            yield jax.tree.unflatten(structure, step)
