"""Lanes: the copies that an evaluation's episodes are played in, and what acts for them."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import gymnasium
import jax
import numpy as np
from gymnasium.vector.utils import batch_space

from poise.agent.noise import draw_with_generator
from poise.agent.policy import ROWS, Policy
from poise.batching import unbatch_all
from poise.envs.checked_env import CheckedEnv
from poise.envs.observations import batch_checker

__all__ = ["Actions", "DecidedActions", "Lane", "RandomActions"]

ACTIONS_AT_ONCE = 256
"""Random actions that are drawn at once: a space takes as long to sample one as a hundred."""
NOISE_AT_ONCE = 64
"""Steps of an episode for which the noise of its actions is drawn at once."""
_ACTIONS_KEY = 1
"""Sets the seed of an episode's random actions apart from the environment's own."""


class Lane:
    """A copy, and the episode that it is in; None when it is in none."""

    def __init__(self, copy: CheckedEnv) -> None:
        self.copy = copy
        self.episode: int | None = None
        """Its number among all of an evaluation."""
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
    """What acts in some lanes."""

    lanes: list[Lane]

    def begin(self, row: int, seed: int) -> None:
        """An episode has begun in a lane, from a seed."""

    def act(self, rows: list[int]) -> list[Any]:
        """The environment's actions for some of the lanes."""


class RandomActions:
    """Uniformly random actions, each episode's from a seed of its own."""

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self._samples: list[Iterator[Any]] = [iter(()) for _ in lanes]

    def begin(self, row: int, seed: int) -> None:
        """Seed its actions."""
        self._samples[row] = _samples(self.lanes[row].copy.environment.action_space, seed)

    def act(self, rows: list[int]) -> list[Any]:
        """The next ones; what was observed is looked at, and nothing more."""
        actions = []
        for row in rows:
            lane = self.lanes[row]
            lane.copy.check(lane.observation)
            actions.append(next(self._samples[row]))
        return actions


class DecidedActions:
    """A policy's actions for lanes that are decided on together, always in `ROWS` rows.

    A product of matrices may round a row otherwise where there are more or fewer rows beside it, so
    the rest are filled up. Where the rows change one another's last bit even so, which an episode's
    first observation tells, that episode is decided on alone: whoever plays it, beside whatever.

    Args:
        policy: what decides.
        lanes: `ROWS` at most.
        sampling: to sample actions, each episode from a seed derived from this one and its number;
            None acts greedily.
    """

    def __init__(
        self, policy: Policy, lanes: list[Lane], sampling: np.random.SeedSequence | None
    ) -> None:
        self._policy = policy
        self.lanes = lanes
        self._sampling = sampling
        self._noise: list[Iterator[Any]] = [iter(()) for _ in lanes]
        self._steady = [True] * len(lanes)
        self._stack = batch_checker(policy.observation_space)
        self._state = policy.agent.initial_state(ROWS)
        self._first = np.ones(ROWS, np.bool_)

    def begin(self, row: int, seed: int) -> None:
        """Forget the lane's last episode."""
        del seed
        episode = self.lanes[row].episode
        assert episode is not None, "it has begun"
        self._first[row] = True
        self._steady[row] = self.is_steady(row)
        if self._sampling is not None:
            self._noise[row] = _noise(self._policy, self._sampling, episode)

    def is_steady(self, row: int) -> bool:
        """Whether one observation is answered alike in every row, to the last bit."""
        batch = self._batch([self.lanes[row].observation] * ROWS)
        state = self._policy.agent.initial_state(ROWS)
        decision = self._policy.decide(batch, state, np.ones(ROWS, np.bool_), None)
        leaves = jax.tree.leaves((decision.dist_params, decision.state))
        return all(
            np.asarray(leaf)[0].tobytes() == np.asarray(leaf)[one].tobytes()
            for leaf in leaves
            for one in range(ROWS)
        )

    def act(self, rows: list[int]) -> list[Any]:
        """The environment's actions for some of the rows."""
        together = [row for row in rows if self._steady[row]]
        found = dict(zip(together, self._act_together(together), strict=True)) if together else {}
        return [found[row] if row in found else self._act_alone(row) for row in rows]

    def _act_together(self, rows: list[int]) -> list[Any]:
        spare = self.lanes[rows[0]]
        lanes = [
            lane if lane.episode is not None else spare
            for lane in (*self.lanes, *[spare] * (ROWS - len(self.lanes)))
        ]
        batch = self._batch([lane.observation for lane in lanes])
        noise = None
        if self._sampling is not None:
            drawn = {row: next(self._noise[row]) for row in rows}
            each = [drawn.get(row, drawn[rows[0]]) for row in range(ROWS)]
            noise = jax.tree.map(lambda *draws: np.stack(draws), *each)
        decision = self._policy.decide(batch, self._state, self._first, noise)
        self._keep(rows, decision.state, rows)
        actions = unbatch_all(decision.environment_action, self._policy.action_space, ROWS)
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
        """Take what these rows remember from these of a decision's."""
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
    """A copy of an array, with other rows in some places."""
    changed = np.array(leaf)
    changed[rows] = new
    return changed


def _samples(space: gymnasium.Space[Any], seed: int) -> Iterator[Any]:
    """Random actions: not from the environment's own numbers, which may be the same draws."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_ACTIONS_KEY,))
    many = batch_space(deepcopy(space), ACTIONS_AT_ONCE)
    many.seed(int(sequence.generate_state(1)[0]))
    while True:
        yield from unbatch_all(many.sample(), space, ACTIONS_AT_ONCE)


def _noise(policy: Policy, sampling: np.random.SeedSequence, episode: int) -> Iterator[Any]:
    """The noise of an episode's actions, step by step."""
    seed = np.random.SeedSequence(sampling.entropy, spawn_key=(*sampling.spawn_key, episode))
    draw = draw_with_generator(np.random.default_rng(seed))
    while True:
        leaves, structure = jax.tree.flatten(policy.agent.head.noise(draw, (NOISE_AT_ONCE,)))
        for step in zip(*leaves, strict=True):
            yield jax.tree.unflatten(structure, step)
