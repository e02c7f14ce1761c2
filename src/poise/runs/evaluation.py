"""Evaluation: what a policy reaches on Gymnasium's own environment.

One episode for every seed, none dropped: to stop at the first episodes that finish would favour
short ones (Colas et al. 2019, arXiv 1904.06979, on intervals of the mean).
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from gymnasium.vector.utils import batch_space

from poise.agent.noise import draw_with_generator
from poise.agent.policy import ROWS, Policy
from poise.batches import unbatch_all
from poise.config import TrainConfig
from poise.errors import EnvironmentCheckError, InputError
from poise.learning.verdict import Score
from poise.runs.scoring import score, student_t_quantile
from poise.world.copy import Copy
from poise.world.observations import batch_checker
from poise.world.sharing import require_new
from poise.world.statistics_wrappers import with_true_rewards

__all__ = ["Episode", "EpisodePlayer", "score", "student_t_quantile", "total"]

ACTIONS_AT_ONCE = 256
MAKING_SECONDS = 1.0
"""No further copy is made after so much time spent on making them: what many copies save is the
time to act, and each must first earn its own making. How many there are changes no score."""
NOISE_AT_ONCE = 64
"""Steps of an episode for which the noise of its actions is drawn at once."""


class Episode(NamedTuple):
    """What one episode came to: its return, its steps, and whether it was cut at the limit."""

    total: float
    length: int
    cut: bool


class EpisodePlayer:
    """Plays whole episodes in a few copies of Gymnasium's own environment, kept for reuse.

    Every episode has its own seed and is played to its end; a copy that is free takes the next one
    that waits. What acts sees always the same number of rows, so that the returns are the same, to
    the last bit, for any number of copies.

    Args:
        make: makes one copy.
        step_limit: an episode is cut after so many steps.
        alive: called between steps; may raise to give up.
        copies: that are open at any time, at most. Fewer are made where making one is slow.
        alone: asked before a second copy is made: whether none may be stepped beside another.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        step_limit: int,
        alive: Callable[[], None] = lambda: None,
        copies: int = TrainConfig.evaluation_copies,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._make = make
        self._step_limit = step_limit
        self._alive = alive
        self._most = copies
        self._must_be_alone = alone
        self._copies: list[Copy] = []
        self._making = 0.0
        self._now: Copy | None = None

    def close(self) -> None:
        """Close the environments."""
        while self._copies:
            self._copies.pop().close()
        self._making = 0.0

    def whereabouts(self) -> str:
        """What is being stepped, or was last; empty before the first."""
        return "" if self._now is None else self._now.whereabouts()

    def play(
        self,
        policy: Policy,
        seeds: Sequence[int],
        sampling: np.random.SeedSequence | None = None,
        done: Callable[[int], None] = lambda count: None,
    ) -> Score:
        """Play one episode for each seed.

        Args:
            policy: what acts.
            seeds: for ``env.reset``, one an episode.
            sampling: to sample actions, each episode from a seed derived from this one and its
                number; None acts greedily.
            done: told how many episodes are over, whenever one is.

        Raises:
            EnvironmentFailureError: the environment raised, or broke its contract.
        """
        return total(self.episodes(policy, seeds, sampling, done), greedy=sampling is None)

    def episodes(
        self,
        policy: Policy,
        seeds: Sequence[int],
        sampling: np.random.SeedSequence | None = None,
        done: Callable[[int], None] = lambda count: None,
        numbers: Sequence[int] | None = None,
    ) -> list[Episode]:
        """Play one episode for each seed, and return what each came to; see `play`.

        Args:
            policy, seeds, sampling, done: as for `play`.
            numbers: of the episodes among all of an evaluation; by default from 0.
        """
        numbers = range(len(seeds)) if numbers is None else numbers
        self._provide(min(self._most, len(seeds)))
        waiting = iter(range(len(seeds)))
        lanes = [_Lane(copy) for copy in self._copies[: len(seeds)]]
        blocks = [_Block(policy, lanes[i : i + ROWS]) for i in range(0, len(lanes), ROWS)]
        found: dict[int, Episode] = {}
        steady: bool | None = None

        def begin(lane: _Lane) -> None:
            lane.episode = next(waiting, None)
            if lane.episode is None:
                return
            self._alive()
            self._now = lane.copy
            lane.observation = lane.copy.reset(seeds[lane.episode])
            lane.total, lane.length = 0.0, 0
            if sampling is not None:
                lane.noise = _noise(policy, sampling, numbers[lane.episode])

        for lane in lanes:
            begin(lane)
        while len(found) < len(seeds):
            for block in blocks:
                going = [row for row, lane in enumerate(block.lanes) if lane.episode is not None]
                if not going:
                    continue
                if steady is None:
                    steady = block.is_steady(going[0])
                # A step may take seconds, but there are few of them in a block.
                self._alive()
                actions = block.act(going) if steady else block.act_alone(going)
                for row, action in zip(going, actions, strict=True):
                    lane = block.lanes[row]
                    self._now = lane.copy
                    lane.observation, reward, terminated, truncated = lane.copy.step(action)
                    lane.total += reward
                    lane.length += 1
                    over = lane.length >= self._step_limit
                    if terminated or truncated or over:
                        cut = over and not (terminated or truncated)
                        assert lane.episode is not None, "it is being played"
                        found[lane.episode] = Episode(lane.total, lane.length, cut)
                        done(len(found))
                        begin(lane)
                        block.first[row] = True
        return [found[number] for number in range(len(seeds))]

    def play_at_random(self, seeds: Sequence[int], step_budget: int | None = None) -> Score:
        """The baseline: one episode for each seed, with uniformly random actions.

        Args:
            seeds: for ``env.reset``, one an episode; the first one is the actions' too.
            step_budget: no new episode begins after so many steps in all.

        Raises:
            EnvironmentFailureError: the environment raised, or broke its contract.
        """
        returns: list[float] = []
        lengths: list[int] = []
        cut = 0
        self._provide(1)
        self._now = copy = self._copies[0]
        # One call for many samples: a space takes as long to sample one action as a hundred.
        space = copy.environment.action_space
        many = batch_space(space, ACTIONS_AT_ONCE)
        many.seed(seeds[0])
        samples: Iterator[Any] = iter(())
        for seed in seeds:
            if step_budget is not None and sum(lengths) >= step_budget:
                break
            copy.check(copy.reset(seed))
            total, length, ended = 0.0, 0, False
            while not ended:
                self._alive()
                action = next(samples, None)
                if action is None:
                    samples = iter(unbatch_all(many.sample(), space, ACTIONS_AT_ONCE))
                    action = next(samples)
                observation, reward, terminated, truncated = copy.step(action)
                copy.check(observation)
                total += reward
                length += 1
                over = length >= self._step_limit
                cut += int(over and not (terminated or truncated))
                ended = terminated or truncated or over
            returns.append(total)
            lengths.append(length)
        return score(np.asarray(returns), np.asarray(lengths), greedy=False, cut=cut)

    def _provide(self, count: int) -> None:
        while len(self._copies) < count:
            self._alive()
            if self._copies and self._making > MAKING_SECONDS:
                return
            if len(self._copies) == 1 and self._must_be_alone():
                self._most = 1
                return
            began = time.monotonic()
            try:
                environment = self._make()
                others = [copy.environment for copy in self._copies]
                require_new(environment, others, type(environment.unwrapped).__qualname__)
                self._copies.append(Copy(with_true_rewards(environment), "in evaluation"))
            except EnvironmentCheckError:
                raise
            except InputError as error:
                if not self._copies:
                    raise
                self._most = len(self._copies)
                warnings.warn(
                    f"an evaluation goes on with {self._most} copies of the environment, to the "
                    f"same score, because another one could not be made: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return
            self._making += time.monotonic() - began


class _Lane:
    """A copy, and the episode that it is in; None when none waits any more."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.episode: int | None = None
        self.observation: Any = None
        self.total = 0.0
        self.length = 0
        self.noise: Iterator[Any] | None = None


class _Block:
    """Copies that are acted for together, always in `ROWS` rows: the rest are filled up.

    A product of matrices may round a row otherwise where there are more or fewer rows beside it.
    """

    def __init__(self, policy: Policy, lanes: list[_Lane]) -> None:
        self._policy = policy
        self.lanes = lanes
        self._stack = batch_checker(policy.observation_space)
        self._state = policy.agent.initial_state(ROWS)
        self.first = np.ones(ROWS, np.bool_)

    def is_steady(self, row: int) -> bool:
        """Whether one observation is answered alike in every row, to the last bit."""
        batch = self._batch([self.lanes[row].observation] * ROWS)
        state = self._policy.agent.initial_state(ROWS)
        decision = self._policy.decide(batch, state, np.ones(ROWS, np.bool_), None)
        leaves = jax.tree.leaves((decision.parameters, decision.state))
        return all(
            np.asarray(leaf)[0].tobytes() == np.asarray(leaf)[one].tobytes()
            for leaf in leaves
            for one in range(ROWS)
        )

    def act(self, rows: list[int]) -> list[Any]:
        """The environment's actions for some of the rows."""
        spare = self.lanes[rows[0]]
        lanes = [
            lane if lane.episode is not None else spare
            for lane in (*self.lanes, *[spare] * (ROWS - len(self.lanes)))
        ]
        batch = self._batch([lane.observation for lane in lanes])
        noise = None
        if spare.noise is not None:
            drawn = {row: self._draw(row) for row in rows}
            each = [drawn.get(row, drawn[rows[0]]) for row in range(ROWS)]
            noise = jax.tree.map(lambda *draws: np.stack(draws), *each)
        decision = self._policy.decide(batch, self._state, self.first, noise)
        self._state = decision.state
        self.first[:] = False
        space = self._policy.action_space
        actions = unbatch_all(decision.environment_action, space, ROWS)
        return [actions[row] for row in rows]

    def act_alone(self, rows: list[int]) -> list[Any]:
        """The same for one row after the other, where rows do change one another's last bit."""
        actions = []
        for row in rows:
            batch = self._batch([self.lanes[row].observation])
            noise = None
            if self.lanes[row].noise is not None:
                noise = jax.tree.map(lambda draw: draw[None], self._draw(row))
            state = jax.tree.map(lambda leaf, row=row: np.asarray(leaf)[row : row + 1], self._state)
            decision = self._policy.decide(batch, state, self.first[row : row + 1], noise)
            self._state = jax.tree.map(
                lambda leaf, one, row=row: _replaced(leaf, row, one), self._state, decision.state
            )
            self.first[row] = False
            actions += unbatch_all(decision.environment_action, self._policy.action_space, 1)
        return actions

    def _draw(self, row: int) -> Any:
        noise = self.lanes[row].noise
        assert noise is not None, "actions are sampled"
        return next(noise)

    def _batch(self, observations: list[Any]) -> Any:
        batch = self._stack(observations)
        if batch is None:
            for lane in self.lanes:
                if lane.episode is not None:
                    lane.copy.check(lane.observation)
        return batch


def _replaced(leaf: Any, row: int, one: Any) -> np.ndarray:
    changed = np.array(leaf)
    changed[row] = np.asarray(one)[0]
    return changed


def _noise(policy: Policy, sampling: np.random.SeedSequence, number: int) -> Iterator[Any]:
    """The noise of an episode's actions, step by step."""
    seed = np.random.SeedSequence(sampling.entropy, spawn_key=(*sampling.spawn_key, number))
    draw = draw_with_generator(np.random.default_rng(seed))
    while True:
        leaves, structure = jax.tree.flatten(policy.agent.head.noise(draw, (NOISE_AT_ONCE,)))
        for step in zip(*leaves, strict=True):
            yield jax.tree.unflatten(structure, step)


def total(episodes: Sequence[Episode], *, greedy: bool) -> Score:
    """The score of some episodes."""
    return score(
        np.asarray([one.total for one in episodes]),
        np.asarray([one.length for one in episodes]),
        greedy=greedy,
        cut=sum(one.cut for one in episodes),
    )
