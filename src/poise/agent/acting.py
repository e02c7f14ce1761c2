"""Acting on a batch of observations in one call: by NumPy, or by XLA.

For small networks NumPy answers in 5-10 us, a call into XLA takes 40-80 us; large ones and
convolutions are XLA's. Which of the two acts is decided once, when a run is configured.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from poise.agent.agent import Agent
from poise.agent.network import RunsOnNumpy
from poise.errors import ConfigError
from poise.trajectory import ActorOutput

__all__ = ["Acting", "Actor", "choose_acting", "make_actor"]

Acting = Literal["numpy", "xla"]
Actor = Callable[[Any, Any, Any, Any, Any, Any], ActorOutput]
"""(parameters [P], statistics, observations [N, ...], recurrent state, first [N], noise)."""

MAX_NUMPY_MULTIPLICATIONS = 1_000_000
"""Above this many multiplications an act, NumPy takes longer than a call into XLA (measured)."""


def choose_acting(agent: Agent, copies: int) -> Acting:
    """NumPy for small networks that run on it, XLA for all others.

    Args:
        agent: what decides.
        copies: for how many copies at once.
    """
    network = agent.network
    if not isinstance(network, RunsOnNumpy):
        return "xla"
    return "numpy" if network.multiplications * copies <= MAX_NUMPY_MULTIPLICATIONS else "xla"


def make_actor(agent: Agent, acting: Acting, options: dict[str, Any] | None = None) -> Actor:
    """Make a function that acts for N copies at once.

    Args:
        agent: what decides.
        acting: who computes.
        options: XLA's compile options.
    """
    if acting == "numpy":
        if not isinstance(agent.network, RunsOnNumpy):
            raise ConfigError(f"NumPy cannot act with {agent.network.describe()}: XLA must")
        return _NumpyActor(agent, agent.network)
    return _XlaActor(agent, options or {})


class _NumpyActor:
    """For networks without memory, which see all copies at once."""

    def __init__(self, agent: Agent, network: RunsOnNumpy) -> None:
        self._agent = agent
        self._network = network
        self._vector: Any = None
        self._policy: Any = None

    def __call__(
        self,
        vector: Any,
        statistics: Any,
        observations: Any,
        state: Any,
        first: Any,
        noise: Any,
    ) -> ActorOutput:
        if vector is not self._vector:
            self._vector = vector
            parameters = self._agent.layout.unflatten(np.asarray(vector))
            self._policy = self._network.numpy_policy(parameters)
        seen = self._agent.observe(observations, statistics)
        return self._agent.choose(self._policy(seen), state, noise)


class _XlaActor:
    """One compiled program for each batch size, of which the next power of two is taken."""

    def __init__(self, agent: Agent, options: dict[str, Any]) -> None:
        def decide(vector: Any, copies: Any, noise: Any) -> ActorOutput:
            parameters = agent.layout.unflatten(vector)

            def one(copy: Any, draw: Any) -> ActorOutput:
                output = agent.network.apply(parameters, *copy)
                return agent.choose(output.dist_params, output.state, draw)

            noise_axis = None if noise is None else 0
            decision: ActorOutput = jax.vmap(one, in_axes=(0, noise_axis))(copies, noise)
            return decision

        self._agent = agent
        self._decide = jax.jit(decide, compiler_options=dict(options) or None)

    def __call__(
        self,
        vector: Any,
        statistics: Any,
        observations: Any,
        state: Any,
        first: Any,
        noise: Any,
    ) -> ActorOutput:
        count = len(first)
        size = 1 << (count - 1).bit_length()

        def pad(leaf: Any) -> Any:
            missing = [(0, size - count)] + [(0, 0)] * (np.ndim(leaf) - 1)
            return np.pad(np.asarray(leaf), missing) if size > count else leaf

        # Outside of XLA, which would make float32 of the observations first.
        seen = self._agent.observe(jax.tree.map(np.asarray, observations), statistics)
        copies = jax.tree.map(pad, (seen, state, first))
        padded = None if noise is None else jax.tree.map(pad, noise)
        decision = self._decide(vector, copies, padded)
        answer: ActorOutput = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], decision)
        return answer
