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
from poise.errors import EnvironmentFailureError
from poise.learning.verdict import Score

__all__ = ["EpisodePlayer", "random_score", "score", "student_t_quantile"]

ACTIONS_AT_ONCE = 256


class EpisodePlayer:
    """Plays whole episodes in copies of Gymnasium's own environment, which it keeps for reuse.

    Args:
        make: makes one copy.
        step_limit: an episode is cut after so many steps.
        alive: called between steps; may raise to give up.
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
        self._copies: list[gymnasium.Env[Any, Any]] = []

    def close(self) -> None:
        """Close the environments."""
        while self._copies:
            self._copies.pop().close()

    def play(
        self, policy: Policy, seeds: Sequence[int], generator: np.random.Generator | None = None
    ) -> Score:
        """Play one episode for each seed.

        Args:
            policy: what acts.
            seeds: for ``env.reset``, one an episode.
            generator: to sample actions; None acts greedily.
        """
        agent, space = policy.agent, policy.action_space
        # Lists: one number at a time, they are quicker than arrays.
        returns, lengths = [0.0] * len(seeds), [0] * len(seeds)
        cut = 0
        for begin in range(0, len(seeds), EVALUATION_COPIES):
            episodes = list(range(begin, min(begin + EVALUATION_COPIES, len(seeds))))
            self._provide(len(episodes))
            copies = dict(zip(episodes, self._copies, strict=False))
            observations = [self._reset(copies[one], seeds[one]) for one in episodes]
            state = agent.initial_state(len(episodes))
            first = np.ones(len(episodes), np.bool_)
            while episodes:
                self._alive()
                noise = None
                if generator is not None:
                    noise = agent.head.noise(draw_with_generator(generator), (len(episodes),))
                decision = policy.decide(policy.batch(observations), state, first, noise)
                going = []
                actions = unbatch_all(decision.environment_action, space, len(episodes))
                for row, episode in enumerate(episodes):
                    action = actions[row]
                    step = self._step(copies[episode], action, seeds[episode])
                    observations[row], reward, terminated, truncated, _ = step
                    if type(reward) is not float:
                        reward = np.asarray(reward).item()
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

    @staticmethod
    def _reset(environment: gymnasium.Env[Any, Any], seed: int) -> Any:
        try:
            return environment.reset(seed=seed)[0]
        except (Exception, SystemExit) as error:
            raise EnvironmentFailureError(
                f"the environment's reset raised {type(error).__name__}: {error} "
                f"(in evaluation, seed {seed})"
            ) from error

    @staticmethod
    def _step(environment: gymnasium.Env[Any, Any], action: Any, seed: int) -> Any:
        try:
            return environment.step(action)
        except (Exception, SystemExit) as error:
            raise EnvironmentFailureError(
                f"the environment's step raised {type(error).__name__}: {error} "
                f"(in evaluation, seed {seed}, last action {action!r})"
            ) from error

    def _provide(self, count: int) -> None:
        while len(self._copies) < count:
            self._copies.append(self._make())


def random_score(
    make: Callable[[], gymnasium.Env[Any, Any]],
    seeds: Sequence[int],
    step_limit: int,
    step_budget: int | None = None,
) -> Score:
    """The baseline: actions drawn uniformly from the action space."""
    returns, lengths, cut = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64), 0
    environment = make()
    try:
        # One call for many samples: a space takes as long to sample one action as a hundred.
        space = environment.action_space
        many = batch_space(space, ACTIONS_AT_ONCE)
        many.seed(seeds[0])
        samples: Iterator[Any] = iter(())
        played = 0
        for episode, seed in enumerate(seeds):
            if step_budget is not None and np.sum(lengths) >= step_budget:
                break
            played += 1
            environment.reset(seed=seed)
            ended = False
            while not ended:
                action = next(samples, None)
                if action is None:
                    samples = iter(unbatch_all(many.sample(), space, ACTIONS_AT_ONCE))
                    action = next(samples)
                _, reward, terminated, truncated, _ = environment.step(action)
                returns[episode] += np.asarray(reward).item()
                lengths[episode] += 1
                over = lengths[episode] >= step_limit
                cut += int(over and not (terminated or truncated))
                ended = bool(terminated or truncated or over)
    finally:
        environment.close()
    return score(returns[:played], lengths[:played], greedy=False, cut=cut)


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
