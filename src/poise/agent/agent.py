"""The agent: a network's layout and an action head, as pure functions of the parameters.

It holds no parameters itself: they come in as one flat vector with every call, as NumPy or as JAX
arrays, so the same agent acts in a compiled rollout, in a NumPy loop and in a loss.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from gymnasium import spaces

from poise.agent.actions import ActionHead, action_head
from poise.agent.networks import actor_critic, parameter_count
from poise.agent.parameters import ParameterLayout
from poise.trajectory import Decision

__all__ = ["Agent", "NetworkSpec", "build_agent"]


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What rebuilds a network, apart from its spaces and parameters.

    Attributes:
        hidden_sizes: units of each hidden layer of the separate trunks.
    """

    hidden_sizes: tuple[int, ...] = (100,)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"network": "ActorCritic", "hidden_sizes": list(self.hidden_sizes)}

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> "NetworkSpec":
        """From `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """
        if description["network"] != "ActorCritic":
            raise ValueError(f"unknown network {description['network']!r}")
        sizes = tuple(int(size) for size in description["hidden_sizes"])
        if any(size < 1 for size in sizes):
            raise ValueError(f"hidden sizes {sizes}")
        return cls(sizes)


@dataclasses.dataclass(frozen=True)
class Agent:
    """How to act, given parameters.

    Attributes:
        observation_space: of one environment copy.
        action_space: of one environment copy.
        spec: which network it is.
        layout: the network, and where its arrays lie in the parameter vector.
        head: the distribution over actions.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    spec: NetworkSpec
    layout: ParameterLayout
    head: ActionHead

    def network(self, parameters: Any) -> Any:
        """The network with the given ``[P]`` parameters."""
        return self.layout.unflatten(parameters)

    def initial_state(self, copies: int) -> Any:
        """The network's recurrent state at the start of an episode, as ``[copies, ...]`` zeros."""
        state = self.layout.static.initial_state()
        return jax.tree.map(lambda leaf: np.zeros((copies, *leaf.shape), leaf.dtype), state)

    def decide(
        self, network: Any, observation: Any, state: Any, first: Any, noise: Any | None
    ) -> Decision:
        """Act on one observation (on NumPy arrays: or on a batch).

        Args:
            network: as `network` returns it.
            observation: an observation, as the environment gave it.
            state: the recurrent state.
            first: whether the observation begins an episode.
            noise: from the action head; None acts greedily.
        """
        parameters, _, state = network(observation, state, first)
        action = self.head.sample(parameters, noise)
        return Decision(
            action=action,
            environment_action=self.head.to_environment(action),
            log_probability=self.head.log_probability(parameters, action),
            state=state,
        )


def build_agent(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    spec: NetworkSpec,
    seed: np.random.SeedSequence | None,
    parameter_limit: int | None = None,
) -> tuple[Agent, np.ndarray]:
    """Make an agent and its first parameters, ``[P]`` float32.

    Args:
        observation_space: of one environment copy.
        action_space: of one environment copy.
        spec: which network.
        seed: of the first parameters; None leaves them 0, to be replaced.
        parameter_limit: refuse to allocate more than this.

    Raises:
        UnsupportedSpaceError: a space that poise cannot learn.
        ValueError: more parameters than the limit.
    """
    head = action_head(action_space)
    generator = None if seed is None else np.random.default_rng(seed)
    count = parameter_count(observation_space, head.outputs, head.free, spec.hidden_sizes)
    if parameter_limit is not None and count > parameter_limit:
        raise ValueError(f"the network would have {count} parameters")
    network = actor_critic(
        observation_space, head.outputs, head.free, spec.hidden_sizes, generator
    )
    layout = ParameterLayout.of(network)
    agent = Agent(observation_space, action_space, spec, layout, head)
    return agent, layout.flatten(network)
