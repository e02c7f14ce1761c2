"""The agent: a network and an action head, as pure functions of the parameters.

It holds no parameters itself: they are passed to every call, as NumPy or as JAX arrays, so the same
agent can act in a compiled rollout, in a NumPy loop and in a loss.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import numpy as np
from gymnasium import spaces

from poise.agent.actions import GaussianForm, action_head, has_continuous_actions
from poise.agent.activations import ACTIVATIONS, ActivationName
from poise.agent.categories import MAX_UNITS, choose_embedding_units, lookup_sizes
from poise.agent.encoders import require_encodable
from poise.agent.epsilon_greedy import epsilon_greedy_head
from poise.agent.heads import ActionHead, GaussianScale
from poise.agent.image_axes import has_images
from poise.agent.image_network import HEAD_SIZES, HIDDEN_UNITS, ImageNetwork
from poise.agent.layers import Outputs
from poise.agent.network import Network, NetworkFactory, NetworkOutput
from poise.agent.networks import MlpNetwork
from poise.agent.normalizer import Scaling
from poise.agent.parameters import ParameterLayout
from poise.agent.space_json import space_to_json
from poise.errors import ConfigError
from poise.trajectory import ActorOutput
from poise.validation import MAX_HIDDEN_LAYERS, MAX_PARAMETERS, is_image_axes, shown

__all__ = ["Agent", "NetworkSpec", "build_agent", "make_network", "require_supported"]

DEFAULT_ACTIVATION: ActivationName = "tanh"
"""With the default settings, LunarLander scores 170 after 300,000 steps (seeds 101 and 102), and
-85 with ReLU; CartPole needs more steps, but has a preset."""
IMAGE_ACTIVATION: ActivationName = "relu"
"""As in the A3C paper."""


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """The description of a network: with its spaces and parameters, enough to rebuild it.

    Attributes:
        hidden_sizes: units of each hidden layer of the separate trunks; observations with images
            get a convolutional network instead.
        gaussian_scale: how the scale of continuous actions is determined.
        embedding_units: columns of the embedding table for spaces with many categories; 0 if the
            first layer's weights are small enough to be looked up directly.
        image_axes: which parts are images, and what each of their axes is, as in `image_layout`.
        normalize_observations: whether observations are normalised, which requires statistics.
        activation: name of the activation function of hidden layers.
        initial_log_deviation: first value of the logarithms of free standard deviations.
        action_values: whether the network computes the value of each action, and has no critic.
        is_shared: whether policy and value share the hidden layers of ``hidden_sizes``.
        squashes: whether continuous actions are passed through tanh.
    """

    hidden_sizes: tuple[int, ...] = (100,)
    gaussian_scale: GaussianScale = "free"
    embedding_units: int = 0
    image_axes: str = "auto"
    normalize_observations: bool = False
    activation: ActivationName = "relu"
    initial_log_deviation: float = 0.0
    action_values: bool = False
    is_shared: bool = False
    squashes: bool = False

    @classmethod
    def choose(
        cls,
        observation_space: spaces.Space[Any],
        hidden_sizes: tuple[int, ...],
        gaussian_scale: GaussianScale,
        image_axes: str = "auto",
        normalize_observations: bool = False,
        activation: ActivationName | Literal["auto"] = "auto",
        initial_log_deviation: float = 0.0,
        action_values: bool = False,
        is_shared: bool = False,
        squashes: bool = False,
    ) -> "NetworkSpec":
        """Describe the network for a space; with many categories, it gets an embedding table.

        ``activation`` ``auto`` is ``tanh``, or ``relu`` if there are images.
        """
        width, usual = 2 * (hidden_sizes or (1,))[0], DEFAULT_ACTIVATION
        if has_images(observation_space, image_axes):
            width, usual = HIDDEN_UNITS, IMAGE_ACTIVATION
        units = choose_embedding_units(observation_space, width)
        return cls(
            hidden_sizes,
            gaussian_scale,
            units,
            image_axes,
            normalize_observations,
            usual if activation == "auto" else activation,
            initial_log_deviation,
            action_values,
            is_shared,
            squashes,
        )

    def features(self, observation_space: spaces.Space[Any]) -> int:
        """Return how many features of its last hidden layer the network outputs, for gSDE.

        Raises:
            ConfigError: there is no hidden layer.
        """
        if self.gaussian_scale != "gsde":
            return 0
        if has_images(observation_space, self.image_axes):
            return HEAD_SIZES[-1]
        if not self.hidden_sizes:
            raise ConfigError("--gaussian-scale gsde needs a hidden layer: set --hidden-sizes")
        return self.hidden_sizes[-1]

    def to_json(self) -> dict[str, Any]:
        """Convert the description to JSON types."""
        return {**dataclasses.asdict(self), "hidden_sizes": list(self.hidden_sizes)}

    @classmethod
    def from_json(cls, description: Any) -> "NetworkSpec":
        """Read a description written by `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the description is damaged.
        """
        sizes = tuple(int(size) for size in description["hidden_sizes"])
        if len(sizes) > MAX_HIDDEN_LAYERS or any(size < 1 for size in sizes):
            raise ValueError(f"hidden sizes {shown(sizes)}")
        scale = description["gaussian_scale"]
        if scale not in ("free", "network", "gsde"):
            raise ValueError(f"gaussian scale {scale!r}")
        # Policies saved by versions without tables do not have this key.
        units = int(description.get("embedding_units", 0))
        if not 0 <= units <= MAX_UNITS:
            raise ValueError(f"embedding units {units}")
        axes, normalize = description["image_axes"], description["normalize_observations"]
        if not isinstance(axes, str) or not is_image_axes(axes):
            raise ValueError(f"image axes {axes!r}")
        if not isinstance(normalize, bool):
            raise ValueError(f"normalize_observations {normalize!r}")
        # Policies saved before the activation was a setting do not have this key.
        activation = description.get("activation", "relu")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {shown(activation)}")
        deviation = float(description.get("initial_log_deviation", 0.0))
        if not math.isfinite(deviation):
            raise ValueError(f"initial_log_deviation {deviation}")
        # Nor do those saved before each of these was one.
        flags = []
        for name in ("action_values", "is_shared", "squashes"):
            flag = description.get(name, False)
            if not isinstance(flag, bool):
                raise ValueError(f"{name} {shown(flag)}")
            flags.append(flag)
        return cls(sizes, scale, units, axes, normalize, activation, deviation, *flags)


@dataclasses.dataclass(frozen=True)
class Agent:
    """A network and an action head for one environment; acts when given parameters.

    Attributes:
        observation_space: observation space of one environment copy.
        action_space: action space of one environment copy.
        spec: description of the network.
        network: the network.
        layout: position of the network's arrays in the flat parameter vector.
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
        """Return the network's recurrent state at the start of an episode, ``[copies, ...]``."""

        def repeat(leaf: Any) -> np.ndarray:
            return np.repeat(np.asarray(leaf)[None], copies, axis=0)

        return jax.tree.map(repeat, self.network.initial_state())

    @functools.cached_property
    def scaling(self) -> Scaling:
        """The scaling of observations for the network."""
        spec = self.spec
        return Scaling(self.observation_space, spec.image_axes, spec.normalize_observations)

    def observe(self, observation: Any, statistics: Any) -> Any:
        """Scale an observation, or a batch with any leading axes, for the network."""
        return self.scaling(observation, statistics)

    def observed_statistics(self, statistics: Any) -> Any:
        """Return the observations' part of a snapshot's statistics, NumPy arrays; it may be ``()``.

        The rest, if there is any, belongs to the rewards.
        """
        count = self.scaling.count
        return tuple(np.asarray(one)[:count] for one in statistics) if count else ()

    def apply(self, vector: Any, observation: Any, state: Any, first: Any) -> NetworkOutput:
        """Apply the network to one observation, as `Network.apply` does.

        Args:
            vector: ``[P]``, the network's parameters.
            observation: the scaled observation (see `observe`).
            state: the recurrent state before the observation.
            first: whether the observation begins an episode.
        """
        return self.network.apply(self.layout.unflatten(vector), observation, state, first)

    def values(self, vector: Any, statistics: Any, observations: Any, first: Any) -> Any:
        """Return the values ``[N]`` of a batch of first observations ``[N, ...]``.

        They are the critic's or, if the network computes action values, the highest of each.
        """

        def value(*copy: Any) -> Any:
            output = self.apply(vector, *copy)
            return output.dist_params.max(-1) if self.spec.action_values else output.value

        return jax.vmap(value)(
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
            parameters: the network's parameters, as a pytree.
            statistics: the observation normaliser's statistics; ``()`` without a normaliser.
            observation: an observation, as returned by the environment.
            state: the recurrent state before the observation.
            first: whether the observation begins an episode.
            noise: noise drawn by the action head; None acts greedily.
        """
        seen = self.observe(observation, statistics)
        output = self.network.apply(parameters, seen, state, first)
        return self.choose(output.dist_params, output.state, noise)

    def choose(self, dist_params: Any, state: Any, noise: Any | None) -> ActorOutput:
        """Draw an action from a distribution.

        Args:
            dist_params: ``[..., P]``, the distribution parameters that the network computed.
            state: the recurrent state after the observation.
            noise: noise drawn by the action head; None acts greedily.
        """
        action = self.head.sample(dist_params, noise)
        return ActorOutput(
            action=action,
            environment_action=self.head.to_environment(action),
            dist_params=dist_params,
            state=state,
        )


def require_supported(observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
    """Check that `build_agent` supports both spaces.

    Raises:
        UnsupportedSpaceError: poise does not support one of the spaces.
    """
    require_encodable(observation)
    action_head(action)
    # A policy file must be able to store both spaces.
    space_to_json(observation)
    space_to_json(action)


def make_network(
    observation_space: spaces.Space[Any],
    outputs: int,
    free: int,
    spec: NetworkSpec,
    features: int = 0,
) -> Network:
    """Make one of poise's own networks.

    Args:
        observation_space: the space of its observations.
        outputs: number of distribution parameters that depend on the observation.
        free: number of distribution parameters that do not.
        spec: description of the network.
        features: how many of these outputs are features of its last hidden layer (see
            `NetworkSpec.features`).
    """
    units, axes = spec.embedding_units, spec.image_axes
    if units and not lookup_sizes(observation_space):
        raise ConfigError("the observations have no categories to look up in a table")
    deviation, has_critic = spec.initial_log_deviation, not spec.action_values
    made = Outputs(outputs - features, free, deviation, has_critic, features)
    if has_images(observation_space, axes):
        return ImageNetwork(observation_space, made, units, axes, spec.activation)
    sizes, how = spec.hidden_sizes, (spec.activation, spec.is_shared)
    return MlpNetwork(observation_space, made, sizes, units, *how)


def build_agent(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    spec: NetworkSpec,
    seed: np.random.SeedSequence | None,
    parameter_limit: int = MAX_PARAMETERS,
    network_factory: NetworkFactory | None = None,
) -> tuple[Agent, np.ndarray]:
    """Make an agent and its initial parameters, ``[P]`` float32.

    Args:
        observation_space: observation space of one environment copy.
        action_space: action space of one environment copy.
        spec: description of the network.
        seed: seed of the initial parameters; with None they are 0, to be replaced.
        parameter_limit: largest number of parameters that may be allocated.
        network_factory: makes a network to use instead of poise's own.

    Raises:
        UnsupportedSpaceError: poise does not support one of the spaces, or the spec wants action
            values in a space where actions cannot be counted.
        ConfigError: the network has more parameters than the limit, or the form of the Gaussian
            does not fit it or the action space.
    """
    require_encodable(observation_space)
    head: ActionHead
    features = 0
    if spec.action_values:
        head = epsilon_greedy_head(action_space)
    else:
        if has_continuous_actions(action_space):
            features = spec.features(observation_space)
        if network_factory is not None and features:
            raise ConfigError("--gaussian-scale gsde needs a network of poise's own")
        head = action_head(action_space, GaussianForm(spec.gaussian_scale, spec.squashes, features))
    if network_factory is not None:
        network = network_factory(observation_space, head.outputs, head.free_params)
    else:
        network = make_network(observation_space, head.outputs, head.free_params, spec, features)
    layout = ParameterLayout.of(network.shapes())
    if layout.size > parameter_limit:
        raise ConfigError(
            f"the network would have {layout.size:,} parameters, more than {parameter_limit:,}"
        )
    agent = Agent(observation_space, action_space, spec, network, layout, head, network_factory)
    if seed is None:
        return agent, np.zeros(layout.size, np.float32)
    return agent, layout.flatten(network.init(np.random.default_rng(seed)))
