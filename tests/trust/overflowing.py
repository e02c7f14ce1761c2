"""Environments with numbers that overflow or are not finite, each with its Gymnasium version."""

from typing import Any, ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

LENGTH = 4
HUGE = 3e38
"""Finite as float32; the sum of two is not."""


class Overflowing(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """Episodes of four steps; in one of eight, the rewards are huge, but finite.

    The state is ``[is huge, steps]``.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)
    odds: ClassVar[int] = 8

    def initial(self, rng: Any, params: Any = None) -> Any:
        huge = jnp.where(jax.random.bits(rng) % self.odds == 0, 1.0, 0.0)
        return jnp.stack([huge, jnp.zeros(())])

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        return state + jnp.array([0.0, 1.0])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state / LENGTH

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.where(state[0] > 0, HUGE, 1.0)

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[1] >= LENGTH


class AlwaysOverflowing(Overflowing):
    """Every reward is huge."""

    odds = 1


class NanObservation(Overflowing):
    """The third observation of an episode is not a number."""

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.where(state[1] == 2, jnp.nan, state / LENGTH)

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.ones(())


class InfiniteReward(Overflowing):
    """The third reward of an episode is infinite."""

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.where(state[1] == 2, jnp.inf, 1.0)


TWINS = {
    "Overflowing-v0": Overflowing,
    "AlwaysOverflowing-v0": AlwaysOverflowing,
    "NanObservation-v0": NanObservation,
    "InfiniteReward-v0": InfiniteReward,
}


class Plain(gymnasium.Env[Any, Any]):
    """Used to evaluate all of them: four steps, reward 1."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)
    render_mode = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        observation = np.array([0.0, self._steps / LENGTH], np.float32)
        return observation, 1.0, self._steps >= LENGTH, False, {}


class PlainOverflowing(Plain):
    """Hosted version: in one of eight episodes, a reward is huge, but finite."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        answer = super().reset(seed=seed)
        self._huge = int(self.np_random.integers(8)) == 0
        return answer

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, HUGE if self._huge and self._steps == 2 else reward, *rest
