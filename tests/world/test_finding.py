"""Environments are found by name; unknown ones are answered with the nearest."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from poise.config import EnvironmentChoice
from poise.errors import ConfigError, EnvironmentNotFoundError, UnsupportedSpaceError
from poise.world import finding
from poise.world.checking import check_environment
from poise.world.compiled import CompiledWorld
from poise.world.finding import choose_world, compiled_names, register, world_kind
from poise.world.hosted import HostedWorld
from poise.world.rewards import RewardShaping
from poise.world.source import EnvironmentSource, find_source

from ..environments import Ends
from .toys import Countdown

SHAPING = RewardShaping(failure_reward=-1.0)


def source(name: str, **choice: Any) -> EnvironmentSource:
    return find_source(EnvironmentChoice(name, **choice))


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
def test_unknown_names_are_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(EnvironmentNotFoundError) as caught:
        source(name)
    message = str(caught.value)
    assert repr(name) in message
    assert "nearest" in message
    assert nearest in message


def test_names_near_to_none_are_answered_without_a_guess() -> None:
    with pytest.raises(EnvironmentNotFoundError, match="no environment 'zzzzzzzz'") as caught:
        source("zzzzzzzz")
    assert "nearest" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(finding._TWINS))
def test_twins_have_the_environments_spaces_and_time_limit(name: str) -> None:
    found = source(name)
    world = choose_world(found, "auto", SHAPING)
    assert isinstance(world, CompiledWorld)
    own = found.make()
    try:
        assert world.observation_space == own.observation_space
        assert world.action_space == own.action_space
        assert own.spec is not None
        assert world.max_episode_steps == own.spec.max_episode_steps
    finally:
        own.close()
    assert world.name == name
    assert world.shaping == SHAPING


def test_an_old_version_that_was_asked_for_is_made_without_a_warning() -> None:
    environment = source("CartPole-v0").make()
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == 200
    environment.close()


def test_a_twin_serves_the_plain_environment_alone() -> None:
    plain = source("CartPole-v1")
    assert plain.is_plain
    assert world_kind(plain, "auto") == "compiled"
    arguments = source("CartPole-v1", env_kwargs=("sutton_barto_reward=True",))
    assert dict(arguments.keyword_arguments) == {"sutton_barto_reward": True}
    assert world_kind(arguments, "auto") == "copies"
    wrapped = source("CartPole-v1", wrappers=("gymnasium.wrappers:NormalizeReward",))
    assert world_kind(wrapped, "auto") == "copies"
    for other in (arguments, wrapped):
        with pytest.raises(ConfigError, match="world is"):
            world_kind(other, "compiled")


def test_other_worlds_can_be_asked_for() -> None:
    plain = source("CartPole-v1")
    assert world_kind(plain, "copies") == "copies"
    world = choose_world(plain, "copies", SHAPING)
    assert isinstance(world, HostedWorld)
    assert world.observation_space == choose_world(plain, "auto", SHAPING).observation_space


class SameStep(SyncVectorEnv):
    """Resets in the step in which an episode ends."""

    def __init__(self, num_envs: int, **arguments: Any) -> None:
        super().__init__([Ends] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def test_vector_implementations_that_lose_the_last_observation_are_not_taken() -> None:
    """The environment itself is stepped instead; asked for by name, they are refused."""
    name = "SameStep-v0"
    gymnasium.register(name, entry_point=Ends, vector_entry_point=SameStep)
    try:
        assert world_kind(source(name), "auto") == "copies"
        with pytest.raises(UnsupportedSpaceError, match=r"next-step autoreset.*world=\"copies\""):
            check_environment(source(name), 60.0, world_kind(source(name), "vector"))
    finally:
        del gymnasium.registry[name]


def test_others_are() -> None:
    name = "NextStep-v0"
    gymnasium.register(
        name,
        entry_point=Ends,
        vector_entry_point=lambda num_envs, **arguments: SyncVectorEnv([Ends] * num_envs),
    )
    try:
        assert world_kind(source(name), "auto") == "vector"
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
    before = dict(finding._TWINS)
    yield name
    finding._TWINS.clear()
    finding._TWINS.update(before)
    del gymnasium.registry[name]


def test_a_compiled_environment_of_ones_own(own: str) -> None:
    assert world_kind(source(own), "auto") == "copies"
    register(own, Countdown)
    assert own in compiled_names()
    world = choose_world(source(own), "auto", SHAPING)
    assert isinstance(world, CompiledWorld)
    assert isinstance(world.environment, Countdown)
    assert world.max_episode_steps == 6


def test_what_cannot_be_registered(own: str) -> None:
    class Spaceless(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
        observation_space = spaces.Discrete(2)

    with pytest.raises(ConfigError, match="FuncEnv"):
        register(own, Own)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="action_space"):
        register(own, Spaceless)
    with pytest.raises(EnvironmentNotFoundError, match=r"gymnasium\.make"):
        register("test/Unheard-v0", Countdown)
    assert own not in compiled_names()
