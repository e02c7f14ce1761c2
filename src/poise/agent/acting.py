"""Acting on a batch of observations in one call, with NumPy or with XLA.

For a small network NumPy takes 5-10 us, while a call into XLA takes 40-80 us. Large networks and
convolutions run on XLA. The choice is made once, when a run is configured.
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
"""Acts for N copies; takes (parameters [P], statistics, observations [N, ...], recurrent state,
first [N], noise)."""

MAX_NUMPY_MULTIPLICATIONS = 1_000_000
"""With more multiplications than this per call, NumPy is slower than a call into XLA (measured)."""


def choose_acting(agent: Agent, copies: int) -> Acting:
    """Choose NumPy for small networks that can run on it, and XLA for all others.

    Args:
        agent: the agent that will act.
        copies: number of environment copies that one call acts for.
    """
    network = agent.network
    if not isinstance(network, RunsOnNumpy):
        return "xla"
    return "numpy" if network.multiplications * copies <= MAX_NUMPY_MULTIPLICATIONS else "xla"


def make_actor(agent: Agent, acting: Acting, options: dict[str, Any] | None = None) -> Actor:
    """Make a function that acts for N copies at once.

    Args:
        agent: the agent that will act.
        acting: whether NumPy or XLA computes the actions.
        options: XLA's compile options.
    """
    if acting == "numpy":
        if not isinstance(agent.network, RunsOnNumpy):
            raise ConfigError(f"NumPy cannot run {agent.network.describe()}: act with XLA")
        return _NumpyActor(agent, agent.network)
    return _XlaActor(agent, options or {})


class _NumpyActor:
    """Acts with NumPy: for networks without memory, for all copies at once."""

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
    """Acts with XLA: batches are padded to the next power of two, to compile few programs."""

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

        # Outside XLA, which would convert the observations to float32 first.
        seen = self._agent.observe(jax.tree.map(np.asarray, observations), statistics)
        copies = jax.tree.map(pad, (seen, state, first))
        padded = None if noise is None else jax.tree.map(pad, noise)
        decision = self._decide(vector, copies, padded)
        answer: ActorOutput = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], decision)
        return answer
