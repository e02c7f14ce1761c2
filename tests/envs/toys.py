"""A toy environment in JAX and in plain Python, and an agent for both."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

from poise.agent.agent import Agent, NetworkSpec
from poise.agent.network import RecurrentNetwork
from poise.agent.noise import Noise, NoiseKind
from poise.agent.parameters import ParameterLayout
from poise.envs.registry import World

LENGTHS = (1, 2, 3, 5, 8)
"""Possible episode lengths; one is drawn when an episode begins."""


class Countdown(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """A number that counts down to 0, and a score that the actions add to.

    The state is ``[left, length, score]``; the observation contains all of it. The reward is
    ``10 * score + action``, so that tests detect a wrong state or action.
    """

    observation_space = spaces.Dict(
        {"clock": spaces.Box(0.0, 8.0, (2,)), "score": spaces.Box(-100.0, 100.0, ())}
    )
    action_space = spaces.Discrete(3, start=5)

    def initial(self, rng: Any, params: Any = None) -> Any:
        length = jnp.asarray(LENGTHS, jnp.float32)[jax.random.bits(rng) % len(LENGTHS)]
        return jnp.stack([length, length, jnp.float32(0)])

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        left, length, score = state
        return jnp.stack([left - 1, length, score + action])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return {"clock": state[:2], "score": state[2]}

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return 10 * next_state[2] + state[0] + action

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[0] <= 0


class PlainCountdown:
    """`Countdown` for one copy in plain Python, with the time limit."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit

    def reset(self, length: float) -> dict[str, Any]:
        self.left, self.length, self.score, self.steps = length, length, 0.0, 0
        return self.observation()

    def observation(self) -> dict[str, Any]:
        return {"clock": [self.left, self.length], "score": self.score}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool]:
        before = self.left
        self.left -= 1
        self.score += action
        self.steps += 1
        reward = 10 * self.score + before + action
        truncated = self.limit is not None and self.steps >= self.limit
        return self.observation(), reward, self.left <= 0, truncated


class Drift(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """A number that starts and moves at random, without end; observations contain each draw.

    The state and the observation are ``[number, the draw that led to it]``.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2)

    def initial(self, rng: Any, params: Any = None) -> Any:
        return jnp.tile(jax.random.normal(rng), 2)

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        draw = jax.random.normal(rng)
        return jnp.stack([state[0] + draw, draw])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.float32(0)

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.bool_(False)


class Counting(RecurrentNetwork):
    """Counts the observations of an episode and ignores their content."""

    def init(self, generator: np.random.Generator) -> Any:
        return {}

    def shapes(self) -> Any:
        return {}

    def initial_state(self) -> np.ndarray:
        return np.int32(0)

    def torso(self, parameters: Any, observation: Any) -> Any:
        return jnp.zeros(0)

    def core(self, parameters: Any, features: Any, state: Any) -> tuple[Any, Any]:
        return features, state + np.int32(1)

    def heads(self, parameters: Any, features: Any) -> tuple[Any, Any]:
        return features, jnp.float32(0)

    def describe(self) -> str:
        return "a counter"


@dataclasses.dataclass(frozen=True)
class UniformHead:
    """Three actions, numbered from 5; the stored action is the uniform noise that chose it."""

    outputs: int = 0
    free_params: int = 0

    def noise(self, draw: Noise, batch: tuple[int, ...]) -> Any:
        return draw(UNIFORM, batch)

    def sample(self, dist_params: Any, noise: Any) -> Any:
        return noise

    def to_environment(self, action: Any) -> Any:
        return (action * 3).astype(np.int32) + 5

    def log_probability(self, dist_params: Any, action: Any) -> Any:
        return -action

    def entropy(self, dist_params: Any) -> Any:
        return jnp.float32(0)


UNIFORM = NoiseKind(lambda generator, shape: generator.random(shape), jax.random.uniform)


def toy_agent(envs: World) -> Agent:
    """Make an agent that acts at random."""
    network = Counting()
    layout = ParameterLayout.of({})
    spaces_of = envs.observation_space, envs.action_space
    return Agent(*spaces_of, NetworkSpec(), network, layout, UniformHead())
