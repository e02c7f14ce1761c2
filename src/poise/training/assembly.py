"""Assembling a run's components from its settings, for training, replay and benchmarks alike."""

import dataclasses

import jax

from poise.agent.acting import choose_acting
from poise.agent.actions import has_continuous_actions
from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.network import NetworkFactory
from poise.agent.normalizer import needs_normalization
from poise.config import TrainConfig
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.host_envs import HostEnvs
from poise.envs.registry import World, choose_envs, is_well_scaled
from poise.envs.reward_shaping import RewardShaping
from poise.envs.seeding import Purpose, seed_sequence
from poise.errors import ConfigError
from poise.learning.algorithms.registry import make_algorithm
from poise.learning.compiler import compile_options
from poise.learning.host_worker import HostProgram
from poise.learning.jax_worker import JaxProgram
from poise.learning.optimizer import make_optimizer
from poise.learning.worker import WorkerSpec
from poise.training.components import RunComponents

__all__ = ["build_components"]

ATARI_REWARD_CLIP = 1.0
"""Mnih et al. 2013 (arXiv 1312.5602), section 5."""


def build_components(
    config: TrainConfig,
    env_factory: EnvFactory | None = None,
    network_factory: NetworkFactory | None = None,
) -> RunComponents:
    """Find the environment, build the agent, and prepare (but do not compile) the programs.

    Args:
        config: the settings.
        env_factory: makes the environment; by default the one that the settings name.
        network_factory: makes a network other than poise's own.

    Raises:
        InputError: the environment is unknown, or cannot be trained on.
    """
    env_factory = env_factory or find_env_factory(config.environment_choice)
    clip = config.reward_clip
    if clip is None and env_factory.is_atari:
        clip = ATARI_REWARD_CLIP
    shaping = RewardShaping(config.failure_reward, config.reward_scale, clip)
    envs = choose_envs(env_factory, config.world, shaping)
    if config.normalize_rewards == "on" or (
        config.normalize_rewards == "auto"
        and clip is None
        and has_continuous_actions(envs.action_space)
    ):
        shaping = dataclasses.replace(shaping, return_discount=config.discount)
        envs = dataclasses.replace(envs, shaping=shaping)
    algorithm = make_algorithm(config)
    agent, parameters = build_agent(
        envs.observation_space,
        envs.action_space,
        NetworkSpec.choose(
            envs.observation_space,
            config.hidden_sizes,
            config.gaussian_scale,
            config.image_axes,
            _normalizes(config, env_factory, envs),
            config.activation,
            config.initial_log_deviation,
            algorithm.action_values,
            config.trunk == "shared",
            config.squash_actions,
        ),
        seed_sequence(config.seed, Purpose.PARAMETERS),
        network_factory=network_factory,
    )
    if config.normalize_observations == "on" and not agent.scaling.count:
        raise ConfigError(
            "--normalize-observations is on, but there are no numbers (other than images) in the "
            f"observations of {config.environment}: {envs.observation_space}"
        )
    copies = config.envs_per_worker
    spec = WorkerSpec(agent, envs, algorithm, copies, config.rollout_length)
    program: JaxProgram | HostProgram
    if isinstance(envs, HostEnvs):
        program = HostProgram(spec, choose_acting(agent, copies))
    else:
        program = JaxProgram(spec)
    initialise, update = make_optimizer(
        config.optimizer,
        max_gradient_norm=config.max_gradient_norm,
        epsilon=config.optimizer_epsilon,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        rmsprop_decay=config.rmsprop_decay,
        rmsprop_initial_square=config.rmsprop_initial_square,
        rmsprop_epsilon_inside=config.rmsprop_epsilon_inside,
    )
    target = config.target_return
    if target is None:
        target = env_factory.reward_threshold
    rate = config.learning_rate
    if rate is None:
        rate = agent.network.usual_learning_rate
    options = compile_options(jax.default_backend())
    return RunComponents(
        config,
        env_factory,
        envs,
        agent,
        parameters,
        program,
        target,
        rate,
        options,
        initialise,
        update,
    )


def _normalizes(config: TrainConfig, env_factory: EnvFactory, envs: World) -> bool:
    """Whether observations are normalised; ``auto`` normalises numbers without known bounds.

    ``auto`` does not normalise an environment whose compiled version is known to be well scaled,
    even if it is stepped in another way, so that a policy sees the same in every case.
    """
    if config.normalize_observations != "auto":
        return config.normalize_observations == "on"
    if is_well_scaled(env_factory):
        return False
    return needs_normalization(envs.observation_space, config.image_axes)
