"""The agent: a network's layout and an action head, as pure functions of the parameters.

It holds no parameters itself: they come in as one flat vector with every call, as NumPy or as JAX
arrays, so the same agent acts in a compiled rollout, in a NumPy loop and in a loss.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from gymnasium import spaces

from poise.agent.actions import action_head
from poise.agent.categories import MAX_UNITS, choose_embedding_units, lookup_sizes
from poise.agent.encoders import require_encodable
from poise.agent.heads import ActionHead, GaussianScale
from poise.agent.image_axes import has_images
from poise.agent.image_network import HIDDEN_UNITS, image_actor_critic, image_parameter_count
from poise.agent.networks import actor_critic, parameter_count
from poise.agent.normalizer import Scaling
from poise.agent.parameters import ParameterLayout
from poise.agent.space_json import space_to_json
from poise.errors import ConfigError
from poise.trajectory import ActorOutput
from poise.validation import MAX_PARAMETERS, is_image_axes

__all__ = ["Agent", "NetworkSpec", "build_agent", "require_supported"]

LEARNING_RATE = 3e-3
IMAGE_LEARNING_RATE = 1e-3
"""Adam moves every weight by about so much, and a unit of the convolutional network sums hundreds
of inputs that are never negative. Measured on two stacked pictures of 36 x 36: 3e-4, 1e-3 and 2e-3
learned which way a square drifts; with 3e-3 the policy broke down once in between."""


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What rebuilds a network, apart from its spaces and parameters.

    Attributes:
        hidden_sizes: units of each hidden layer of the separate trunks; observations with images
            get a convolutional network instead.
        gaussian_scale: where the scale of continuous actions comes from.
        embedding_units: columns of the table that categories of many values are looked up in; 0
            where the first layer's weights are small enough to be looked up themselves.
        image_axes: which parts are images, and which of their axes is what, as in `image_layout`.
        normalize_observations: whether observations are normalised, which takes statistics.
    """

    hidden_sizes: tuple[int, ...] = (100,)
    gaussian_scale: GaussianScale = "free"
    embedding_units: int = 0
    image_axes: str = "auto"
    normalize_observations: bool = False

    @classmethod
    def choose(
        cls,
        observation_space: spaces.Space[Any],
        hidden_sizes: tuple[int, ...],
        gaussian_scale: GaussianScale,
        image_axes: str = "auto",
        normalize_observations: bool = False,
    ) -> "NetworkSpec":
        """The network for a space: with a table, where categories are too many for weights."""
        width = 2 * (hidden_sizes or (1,))[0]
        if has_images(observation_space, image_axes):
            width = HIDDEN_UNITS
        units = choose_embedding_units(observation_space, width)
        return cls(hidden_sizes, gaussian_scale, units, image_axes, normalize_observations)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {**dataclasses.asdict(self), "hidden_sizes": list(self.hidden_sizes)}

    @classmethod
    def from_json(cls, description: Any) -> "NetworkSpec":
        """From `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """
        sizes = tuple(int(size) for size in description["hidden_sizes"])
        if any(size < 1 for size in sizes):
            raise ValueError(f"hidden sizes {sizes}")
        scale = description["gaussian_scale"]
        if scale not in ("free", "network"):
            raise ValueError(f"gaussian scale {scale!r}")
        # Policies from before there were tables have none.
        units = int(description.get("embedding_units", 0))
        if not 0 <= units <= MAX_UNITS:
            raise ValueError(f"embedding units {units}")
        axes, normalize = description["image_axes"], description["normalize_observations"]
        if not isinstance(axes, str) or not is_image_axes(axes):
            raise ValueError(f"image axes {axes!r}")
        if not isinstance(normalize, bool):
            raise ValueError(f"normalize_observations {normalize!r}")
        return cls(sizes, scale, units, axes, normalize)


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

    @property
    def usual_learning_rate(self) -> float:
        """The step size that the network learns well with where none is set."""
        images = has_images(self.observation_space, self.spec.image_axes)
        return IMAGE_LEARNING_RATE if images else LEARNING_RATE

    def network(self, parameters: Any) -> Any:
        """The network with the given ``[P]`` parameters."""
        return self.layout.unflatten(parameters)

    def initial_state(self, copies: int) -> Any:
        """The network's recurrent state at the start of an episode, as ``[copies, ...]`` zeros.

        The network is asked without its trainable arrays: shapes must come from its other fields.
        """
        state = self.layout.static.initial_state()
        return jax.tree.map(lambda leaf: np.zeros((copies, *leaf.shape), leaf.dtype), state)

    @functools.cached_property
    def scaling(self) -> Scaling:
        """How observations are scaled for the network."""
        spec = self.spec
        return Scaling(self.observation_space, spec.image_axes, spec.normalize_observations)

    def observe(self, observation: Any, statistics: Any) -> Any:
        """What the network sees of an observation, or of a batch with any leading axes."""
        return self.scaling(observation, statistics)

    def values(self, parameters: Any, statistics: Any, observations: Any, first: Any) -> Any:
        """The critic's values ``[N]`` of a batch of first observations ``[N, ...]``."""
        network = self.network(parameters)
        return jax.vmap(lambda *copy: network(*copy)[1])(
            self.observe(observations, statistics), self.initial_state(len(first)), first
        )

    def decide(
        self,
        network: Any,
        statistics: Any,
        observation: Any,
        state: Any,
        first: Any,
        noise: Any | None,
    ) -> ActorOutput:
        """Act on one observation (on NumPy arrays: or on a batch).

        Args:
            network: as `network` returns it.
            statistics: of the observation normaliser; ``()`` without one.
            observation: an observation, as the environment gave it.
            state: the recurrent state.
            first: whether the observation begins an episode.
            noise: from the action head; None acts greedily.
        """
        seen = self.observe(observation, statistics)
        parameters, _, state = network(seen, state, first)
        return self.choose(parameters, state, noise)

    def choose(self, parameters: Any, state: Any, noise: Any | None) -> ActorOutput:
        """Draw an action from a distribution.

        Args:
            parameters: ``[..., P]``, what the network said.
            state: the recurrent state after the observation.
            noise: from the action head; None acts greedily.
        """
        action = self.head.sample(parameters, noise)
        return ActorOutput(
            action=action,
            environment_action=self.head.to_environment(action),
            parameters=parameters,
            state=state,
        )


def require_supported(observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
    """Tell early what `build_agent` would refuse.

    Raises:
        UnsupportedSpaceError: a space that poise cannot learn.
    """
    require_encodable(observation)
    action_head(action)
    # A policy file could not say what it is for.
    space_to_json(observation)
    space_to_json(action)


def build_agent(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    spec: NetworkSpec,
    seed: np.random.SeedSequence | None,
    parameter_limit: int = MAX_PARAMETERS,
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
        ConfigError: more parameters than the limit.
    """
    require_encodable(observation_space)
    head = action_head(action_space, spec.gaussian_scale)
    generator = None if seed is None else np.random.default_rng(seed)
    axes, units = spec.image_axes, spec.embedding_units
    images = has_images(observation_space, axes)
    if units and not lookup_sizes(observation_space):
        raise ConfigError("there are no categories to be looked up in a table")
    sizes = head.outputs, head.free
    if images:
        count = image_parameter_count(observation_space, *sizes, units, axes)
    else:
        count = parameter_count(observation_space, *sizes, spec.hidden_sizes, units)
    if count > parameter_limit:
        raise ConfigError(
            f"the network would have {count:,} parameters, more than {parameter_limit:,}"
        )
    network: Any
    if images:
        network = image_actor_critic(observation_space, *sizes, generator, units, axes)
    else:
        network = actor_critic(
            observation_space, head.outputs, head.free, spec.hidden_sizes, generator, units
        )
    layout = ParameterLayout.of(network)
    agent = Agent(observation_space, action_space, spec, layout, head)
    return agent, layout.flatten(network)
