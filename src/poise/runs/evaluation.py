"""Evaluation: what a policy reaches on Gymnasium's own environment.

One episode for every seed, none dropped: to stop at the first episodes that finish would favour
short ones (Colas et al. 2019, arXiv 1904.06979, on intervals of the mean).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector.utils import batch_space

from poise.agent.noise import draw_with_generator
from poise.agent.policy import EVALUATION_COPIES, Policy
from poise.batches import unbatch_all
from poise.learning.verdict import Score
from poise.world.copy import Copy
from poise.world.observations import batch_checker

__all__ = ["EpisodePlayer", "score", "student_t_quantile"]

ACTIONS_AT_ONCE = 256
COPIES_A_SIGN = 8
"""Copies that are stepped between two signs of life: a step may take seconds."""


class EpisodePlayer:
    """Plays whole episodes in copies of Gymnasium's own environment, which it keeps for reuse.

    Args:
        make: makes one copy.
        step_limit: an episode is cut after so many steps.
        alive: called between steps, at least once for every few copies; may raise to give up.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        step_limit: int,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._make = make
        self._step_limit = step_limit
        self._alive = alive
        self._copies: list[Copy] = []
        self._now: Copy | None = None

    def close(self) -> None:
        """Close the environments."""
        while self._copies:
            self._copies.pop().close()

    def whereabouts(self) -> str:
        """What is being stepped, or was last; empty before the first."""
        return "" if self._now is None else self._now.whereabouts()

    def play(
        self, policy: Policy, seeds: Sequence[int], generator: np.random.Generator | None = None
    ) -> Score:
        """Play one episode for each seed.

        Args:
            policy: what acts.
            seeds: for ``env.reset``, one an episode.
            generator: to sample actions; None acts greedily.

        Raises:
            EnvironmentFailureError: the environment raised, or broke its contract.
        """
        agent, space = policy.agent, policy.action_space
        stack = batch_checker(policy.observation_space)
        # Lists: one number at a time, they are quicker than arrays.
        returns, lengths = [0.0] * len(seeds), [0] * len(seeds)
        cut = 0
        for begin in range(0, len(seeds), EVALUATION_COPIES):
            episodes = list(range(begin, min(begin + EVALUATION_COPIES, len(seeds))))
            self._provide(len(episodes))
            copies = dict(zip(episodes, self._copies, strict=False))
            observations = []
            for episode in episodes:
                self._alive()
                self._now = copies[episode]
                observations.append(self._now.reset(seeds[episode]))
            state = agent.initial_state(len(episodes))
            first = np.ones(len(episodes), np.bool_)
            while episodes:
                noise = None
                if generator is not None:
                    noise = agent.head.noise(draw_with_generator(generator), (len(episodes),))
                batch = stack(observations)
                if batch is None:
                    for episode, observation in zip(episodes, observations, strict=True):
                        copies[episode].check(observation)
                decision = policy.decide(batch, state, first, noise)
                going = []
                actions = unbatch_all(decision.environment_action, space, len(episodes))
                for row, episode in enumerate(episodes):
                    if row % COPIES_A_SIGN == 0:
                        self._alive()
                    self._now = copy = copies[episode]
                    observations[row], reward, terminated, truncated = copy.step(actions[row])
                    returns[episode] += reward
                    lengths[episode] += 1
                    over = lengths[episode] >= self._step_limit
                    cut += int(over and not (terminated or truncated))
                    if not (terminated or truncated or over):
                        going.append(row)
                state = decision.state
                if len(going) < len(episodes):
                    episodes = [episodes[row] for row in going]
                    observations = [observations[row] for row in going]
                    state = _rows(state, going)
                first = np.zeros(len(episodes), np.bool_)
        greedy = generator is None
        return score(np.asarray(returns), np.asarray(lengths), greedy=greedy, cut=cut)

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
            self._copies.append(Copy(self._make(), "in evaluation"))


def score(returns: np.ndarray, lengths: np.ndarray, *, greedy: bool, cut: int) -> Score:
    """Summarise returns: mean, standard error, and the 95% interval by Student's t."""
    count = len(returns)
    mean = float(np.mean(returns))
    error = float(np.std(returns, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    margin = student_t_quantile(count - 1) * error if count > 1 else math.inf
    return Score(
        mean=mean,
        standard_error=error,
        low=mean - margin,
        high=mean + margin,
        minimum=float(np.min(returns)),
        maximum=float(np.max(returns)),
        episodes=count,
        greedy=greedy,
        cut=cut,
        steps=int(np.sum(lengths)),
    )


def student_t_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t (Abramowitz & Stegun 1964, equation 26.7.5).

    The expansion is exact to 0.0005 from 8 degrees of freedom on; below, SciPy is worth the tenth
    of a second that its import takes.
    """
    if freedom < 8:
        from scipy.special import stdtrit  # noqa: PLC0415

        return float(stdtrit(freedom, 0.975))
    z = NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, 1)))


def _rows(tree: Any, rows: list[int]) -> Any:
    return jax.tree.map(lambda leaf: leaf[np.asarray(rows, np.intp)], tree)
