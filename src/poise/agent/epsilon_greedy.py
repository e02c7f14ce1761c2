"""Epsilon-greedy actions: the head of networks that compute a value for each action.

Mnih et al. 2016 (arXiv 1602.01783), Algorithms 1, S1 and S2. ``dist_params`` are the action values
``Q(s, a)``, ``[..., A]``.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from poise.agent.encoders import brief_space
from poise.agent.heads import CategoricalHead
from poise.agent.noise import UNIFORM, Noise
from poise.errors import UnsupportedSpaceError
from poise.maths.namespace import array_namespace

__all__ = ["EpsilonGreedyHead", "ExplorationNoise", "epsilon_greedy_head"]

EPSILON = 0.05
"""Probability of a random action where nothing else is set, as in Mnih et al. 2015, for evaluations
(doi 10.1038/nature14236, "Evaluation procedure")."""


class ExplorationNoise(NamedTuple):
    """The noise for a batch of epsilon-greedy actions; each is ``[...]`` float32."""

    explores: Any
    """Uniform in [0, 1): the action is random where this is below epsilon."""
    action: Any
    """Uniform in [0, 1): which action, where it is random."""
    epsilon: Any
    """Probability of a random action."""


@dataclasses.dataclass(frozen=True)
class EpsilonGreedyHead(CategoricalHead):
    """Head for `Discrete` spaces: the action of the highest value or, rarely, a random one."""

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> ExplorationNoise:
        """Draw noise with the epsilon of evaluations; an algorithm may replace it in training."""
        epsilon = np.full(batch, EPSILON, np.float32)
        return ExplorationNoise(draw(UNIFORM, batch), draw(UNIFORM, batch), epsilon)

    def sample(self, dist_params: Any, noise: ExplorationNoise | None) -> Any:
        """Return the best action, or a random one where the noise says so."""
        greedy = super().sample(dist_params, None)
        if noise is None:
            return greedy
        xp = array_namespace(dist_params)
        # The product may be rounded up to the number of actions.
        random = (noise.action * np.float32(self.categories)).astype(np.int32)
        random = xp.minimum(random, np.int32(self.categories - 1))
        return xp.where(noise.explores < noise.epsilon, random, greedy)

    def log_probability(self, dist_params: Any, action: Any) -> Any:
        """Return 0: the action values do not say with which epsilon an action was chosen."""
        xp = array_namespace(dist_params)
        return xp.zeros(action.shape, np.float32)

    def entropy(self, dist_params: Any) -> Any:
        """Return 0, as `log_probability` does."""
        xp = array_namespace(dist_params)
        return xp.zeros(dist_params.shape[:-1], np.float32)


def epsilon_greedy_head(space: spaces.Space[Any]) -> EpsilonGreedyHead:
    """Return the head for an action space.

    Raises:
        UnsupportedSpaceError: the space is not `Discrete`.
    """
    if not isinstance(space, spaces.Discrete):
        raise UnsupportedSpaceError(
            f"the action space is {brief_space(space)}, but an algorithm that learns the value of "
            "each action needs a Discrete one: choose another --algorithm, such as a3c or ppo"
        )
    return EpsilonGreedyHead(int(space.n), int(space.start))
