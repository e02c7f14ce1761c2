"""The agent: a network and an action head, as pure functions of the parameters.

It holds no parameters itself: they come in with every call, as NumPy or as JAX arrays, so the same
agent acts in a compiled rollout, in a NumPy loop and in a loss.
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
from poise.agent.image_network import HIDDEN_UNITS, ImageNetwork
from poise.agent.network import Network, NetworkFactory, NetworkOutput
from poise.agent.networks import MlpNetwork
from poise.agent.normalizer import Scaling
from poise.agent.parameters import ParameterLayout
from poise.agent.space_json import space_to_json
from poise.errors import ConfigError
from poise.trajectory import ActorOutput
from poise.validation import MAX_HIDDEN_LAYERS, MAX_PARAMETERS, is_image_axes, shown

__all__ = ["Agent", "NetworkSpec", "build_agent", "make_network", "require_supported"]


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
        if len(sizes) > MAX_HIDDEN_LAYERS or any(size < 1 for size in sizes):
            raise ValueError(f"hidden sizes {shown(sizes)}")
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
        network: the network.
        layout: where its parameters lie in the vector.
        head: the distribution over actions.
        network_factory: what made the network; None where poise did, as ``spec`` says.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    spec: NetworkSpec
    network: Network
    layout: ParameterLayout
    head: ActionHead
    network_factory: NetworkFactory | None = None

    def initial_state(self, copies: int) -> Any:
        """The network's recurrent state at the start of an episode, ``[copies, ...]``."""

        def repeat(leaf: Any) -> np.ndarray:
            return np.repeat(np.asarray(leaf)[None], copies, axis=0)

        return jax.tree.map(repeat, self.network.initial_state())

    @functools.cached_property
    def scaling(self) -> Scaling:
        """How observations are scaled for the network."""
        spec = self.spec
        return Scaling(self.observation_space, spec.image_axes, spec.normalize_observations)

    def observe(self, observation: Any, statistics: Any) -> Any:
        """What the network sees of an observation, or of a batch with any leading axes."""
        return self.scaling(observation, statistics)

    def apply(self, vector: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """What the network says, as `Network.apply` does.

        Args:
            vector: ``[P]``, the network's parameters.
            observation: as the network sees it (`observe`).
            state: the recurrent state before it.
            first: whether it begins an episode.
        """
        return self.network.apply(self.layout.unflatten(vector), observation, state, first)

    def values(self, vector: Any, statistics: Any, observations: Any, first: Any) -> Any:
        """The critic's values ``[N]`` of a batch of first observations ``[N, ...]``."""
        return jax.vmap(lambda *copy: self.apply(vector, *copy).value)(
            self.observe(observations, statistics), self.initial_state(len(first)), first
        )

    def decide(
        self,
        parameters: Any,
        statistics: Any,
        observation: Any,
        state: Any,
        first: Any,
        noise: Any | None,
    ) -> ActorOutput:
        """Act on one observation.

        Args:
            parameters: the network's, as a pytree.
            statistics: of the observation normaliser; ``()`` without one.
            observation: an observation, as the environment gave it.
            state: the recurrent state.
            first: whether the observation begins an episode.
            noise: from the action head; None acts greedily.
        """
        seen = self.observe(observation, statistics)
        output = self.network.apply(parameters, seen, state, first)
        return self.choose(output.dist_params, output.state, noise)

    def choose(self, dist_params: Any, state: Any, noise: Any | None) -> ActorOutput:
        """Draw an action from a distribution.

        Args:
            dist_params: ``[..., P]``, what the network said.
            state: the recurrent state after the observation.
            noise: from the action head; None acts greedily.
        """
        action = self.head.sample(dist_params, noise)
        return ActorOutput(
            action=action,
            environment_action=self.head.to_environment(action),
            dist_params=dist_params,
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


def make_network(
    observation_space: spaces.Space[Any], outputs: int, free: int, spec: NetworkSpec
) -> Network:
    """One of poise's own networks.

    Args:
        observation_space: what it sees.
        outputs: distribution parameters that depend on the observation.
        free: distribution parameters that do not.
        spec: which network.
    """
    units, axes = spec.embedding_units, spec.image_axes
    if units and not lookup_sizes(observation_space):
        raise ConfigError("there are no categories to be looked up in a table")
    if has_images(observation_space, axes):
        return ImageNetwork(observation_space, outputs, free, units, axes)
    return MlpNetwork(observation_space, outputs, free, spec.hidden_sizes, units)


def build_agent(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    spec: NetworkSpec,
    seed: np.random.SeedSequence | None,
    parameter_limit: int = MAX_PARAMETERS,
    network_factory: NetworkFactory | None = None,
) -> tuple[Agent, np.ndarray]:
    """Make an agent and its first parameters, ``[P]`` float32.

    Args:
        observation_space: of one environment copy.
        action_space: of one environment copy.
        spec: which network.
        seed: of the first parameters; None leaves them 0, to be replaced.
        parameter_limit: refuse to allocate more than this.
        network_factory: makes another network than poise's own.

    Raises:
        UnsupportedSpaceError: a space that poise cannot learn.
        ConfigError: more parameters than the limit.
    """
    require_encodable(observation_space)
    head = action_head(action_space, spec.gaussian_scale)
    if network_factory is not None:
        network = network_factory(observation_space, head.outputs, head.free_params)
    else:
        network = make_network(observation_space, head.outputs, head.free_params, spec)
    layout = ParameterLayout.of(network.shapes())
    if layout.size > parameter_limit:
        raise ConfigError(
            f"the network would have {layout.size:,} parameters, more than {parameter_limit:,}"
        )
    agent = Agent(observation_space, action_space, spec, network, layout, head, network_factory)
    if seed is None:
        return agent, np.zeros(layout.size, np.float32)
    return agent, layout.flatten(network.init(np.random.default_rng(seed)))
