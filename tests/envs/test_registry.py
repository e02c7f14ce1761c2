"""Environments are found by name; errors for unknown names suggest similar ones."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from poise.config import EnvironmentChoice
from poise.envs import registry
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.host_envs import HostEnvs
from poise.envs.jax_envs import JaxEnvs
from poise.envs.preflight import check_environment
from poise.envs.registry import choose_envs, compiled_names, env_backend, register
from poise.envs.reward_shaping import RewardShaping
from poise.errors import ConfigError, EnvironmentNotFoundError, UnsupportedSpaceError

from ..environments import Ends
from .toys import Countdown

SHAPING = RewardShaping(failure_reward=-1.0)


def env_factory(name: str, **choice: Any) -> EnvFactory:
    return find_env_factory(EnvironmentChoice(name, **choice))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CartPole-v11", "CartPole-v1"),
        ("cartpole-v1", "CartPole-v1"),
        ("CartPol-v0", "CartPole-v0"),
        ("MountainCarContinous-v0", "MountainCarContinuous-v0"),
        ("pendulum-v1", "Pendulum-v1"),
    ],
)
def test_unknown_names_give_similar_names(name: str, nearest: str) -> None:
    with pytest.raises(EnvironmentNotFoundError) as caught:
        env_factory(name)
    message = str(caught.value)
    assert repr(name) in message
    assert "similar name" in message
    assert nearest in message


def test_names_without_similar_ones_give_no_suggestion() -> None:
    with pytest.raises(EnvironmentNotFoundError, match="no environment 'zzzzzzzz'") as caught:
        env_factory("zzzzzzzz")
    assert "similar name" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(registry.TWINS))
def test_twins_have_the_environments_spaces_and_time_limit(name: str) -> None:
    found = env_factory(name)
    envs = choose_envs(found, "auto", SHAPING)
    assert isinstance(envs, JaxEnvs)
    own = found.make()
    try:
        assert envs.observation_space == own.observation_space
        assert envs.action_space == own.action_space
        assert own.spec is not None
        assert envs.max_episode_steps == own.spec.max_episode_steps
    finally:
        own.close()
    assert envs.name == name
    assert envs.shaping == SHAPING


def test_an_old_version_that_was_asked_for_is_made_without_a_warning() -> None:
    environment = env_factory("CartPole-v0").make()
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == 200
    environment.close()


def test_a_twin_replaces_only_the_plain_environment() -> None:
    plain = env_factory("CartPole-v1")
    assert plain.is_plain
    assert env_backend(plain, "auto") == "compiled"
    arguments = env_factory("CartPole-v1", env_kwargs=("sutton_barto_reward=True",))
    assert dict(arguments.keyword_arguments) == {"sutton_barto_reward": True}
    assert env_backend(arguments, "auto") == "copies"
    wrapped = env_factory("CartPole-v1", wrappers=("gymnasium.wrappers:NormalizeReward",))
    assert env_backend(wrapped, "auto") == "copies"
    for other in (arguments, wrapped):
        with pytest.raises(ConfigError, match="world is"):
            env_backend(other, "compiled")


def test_other_kinds_can_be_requested() -> None:
    plain = env_factory("CartPole-v1")
    assert env_backend(plain, "copies") == "copies"
    envs = choose_envs(plain, "copies", SHAPING)
    assert isinstance(envs, HostEnvs)
    assert envs.observation_space == choose_envs(plain, "auto", SHAPING).observation_space


class SameStep(SyncVectorEnv):
    """Resets in the same step in which an episode ends."""

    def __init__(self, num_envs: int, **arguments: Any) -> None:
        super().__init__([Ends] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def test_vector_implementations_that_lose_the_last_observation_are_not_used() -> None:
    """The environment itself is stepped instead; an explicit ``--world vector`` is refused."""
    name = "SameStep-v0"
    gymnasium.register(name, entry_point=Ends, vector_entry_point=SameStep)
    try:
        assert env_backend(env_factory(name), "auto") == "copies"
        with pytest.raises(UnsupportedSpaceError, match=r"next-step autoreset.*world=\"copies\""):
            check_environment(env_factory(name), 60.0, env_backend(env_factory(name), "vector"))
    finally:
        del gymnasium.registry[name]


def test_other_vector_implementations_are_used() -> None:
    name = "NextStep-v0"
    gymnasium.register(
        name,
        entry_point=Ends,
        vector_entry_point=lambda num_envs, **arguments: SyncVectorEnv([Ends] * num_envs),
    )
    try:
        assert env_backend(env_factory(name), "auto") == "vector"
    finally:
        del gymnasium.registry[name]


# --- Environments of one's own --------------------------------------------------------------------


class Own(gymnasium.Env[Any, Any]):
    observation_space = Countdown.observation_space
    action_space = Countdown.action_space


@pytest.fixture
def own() -> Iterator[str]:
    name = "test/Countdown-v0"
    gymnasium.register(name, Own, max_episode_steps=6)
    before = dict(registry.TWINS)
    yield name
    registry.TWINS.clear()
    registry.TWINS.update(before)
    del gymnasium.registry[name]


def test_a_custom_compiled_environment(own: str) -> None:
    assert env_backend(env_factory(own), "auto") == "copies"
    register(own, Countdown)
    assert own in compiled_names()
    envs = choose_envs(env_factory(own), "auto", SHAPING)
    assert isinstance(envs, JaxEnvs)
    assert isinstance(envs.environment, Countdown)
    assert envs.max_episode_steps == 6


def test_invalid_registrations(own: str) -> None:
    class Spaceless(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
        observation_space = spaces.Discrete(2)

    with pytest.raises(ConfigError, match="FuncEnv"):
        register(own, Own)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="action_space"):
        register(own, Spaceless)
    with pytest.raises(EnvironmentNotFoundError, match=r"gymnasium\.make"):
        register("test/Unheard-v0", Countdown)
    assert own not in compiled_names()
