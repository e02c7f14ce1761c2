"""A trained policy: `act`, `value` and players, on single observations and on batches."""

import copy
import pickle
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.policy import Policy
from poise.config import EnvironmentChoice

from .examples import ACTION_SPACES, OBSERVATION_SPACES, recurrent_agent

CHOICE = EnvironmentChoice("CartPole-v1")
NESTED = spaces.Dict({"x": spaces.Box(-1.0, 1.0, (3,)), "mode": spaces.Discrete(2)})
CHOICES = spaces.Discrete(3)


def make(
    observations: spaces.Space[Any] = NESTED,
    actions: spaces.Space[Any] = CHOICES,
    statistics: Any = (),
) -> Policy:
    spec = NetworkSpec((6,), normalize_observations=bool(statistics))
    agent, parameters = build_agent(observations, actions, spec, np.random.SeedSequence(0))
    return Policy(agent, 5 * parameters, CHOICE, statistics)


def samples(space: spaces.Space[Any], count: int = 5) -> list[Any]:
    space.seed(3)
    return [space.sample() for _ in range(count)]


@pytest.mark.parametrize(
    "space",
    [pytest.param(space, id=name) for name, space in ACTION_SPACES.items()],
)
def test_actions_are_for_the_environment(space: spaces.Space[Any]) -> None:
    policy = make(actions=space)
    generator = np.random.default_rng(0)
    for observation in samples(NESTED):
        assert space.contains(policy.act(observation))
        assert space.contains(policy.act(observation, greedy=False, generator=generator))


def test_a_discrete_action_is_an_int() -> None:
    assert type(make().act(samples(NESTED)[0])) is int


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
def test_any_observation_can_be_acted_on_and_valued(name: str) -> None:
    space = OBSERVATION_SPACES[name]
    policy = make(observations=space)
    for observation in samples(space):
        assert policy.act(observation) in range(3)
    if name in ("bounded", "scalar", "multi-discrete", "nested"):
        assert np.isfinite(policy.value(observation))


def test_greedy_is_the_most_probable_action() -> None:
    policy = make()
    for observation in samples(NESTED):
        batch, first = policy.batch([observation]), np.ones(1, np.bool_)
        logits, value, _ = policy.agent.apply(policy.parameters, batch, (), first)
        assert policy.act(observation) == np.argmax(logits)
        assert policy.value(observation) == pytest.approx(float(value[0]), rel=1e-5)


def test_sampling_follows_its_generator() -> None:
    policy, observation = make(), samples(NESTED)[0]

    def drawn(seed: int) -> list[int]:
        generator = np.random.default_rng(seed)
        return [policy.act(observation, greedy=False, generator=generator) for _ in range(40)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert set(drawn(1)) == {0, 1, 2}


def test_sampling_uses_the_policys_own_generator_or_a_seed() -> None:
    policy, observation = make(), samples(NESTED)[0]
    drawn = [policy.act(observation, greedy=False) for _ in range(40)]
    assert drawn == [make().act(observation, greedy=False) for _ in range(1)] + drawn[1:]
    assert len(set(drawn)) > 1
    seeded = [policy.act(observation, greedy=False, seed=seed) for seed in range(40)]
    assert seeded == [policy.act(observation, greedy=False, seed=seed) for seed in range(40)]
    with pytest.raises(ValueError, match="not both"):
        policy.act(observation, False, np.random.default_rng(0), seed=1)
    assert policy.player(greedy=False).act(observation) in range(3)


def test_a_batch_gives_the_same_actions_and_values_as_its_observations() -> None:
    space = spaces.Box(-1, 1, (3,))
    policy, many = make(space), np.stack(samples(space))
    assert policy.act(many).tolist() == [policy.act(one) for one in many]
    values = [policy.value(one) for one in many]
    np.testing.assert_allclose(policy.value(many), values, rtol=1e-5)
    assert policy.act(many[:1]).shape == (1,)
    assert policy.act(many[0].tolist()) == policy.act(many[0].astype(np.float64))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros(2), r"has shape \(2,\), but the policy takes shape \(3,\), or .* \(N, 3\)"),
        (np.zeros((3, 1)), r"has shape \(3, 1\)"),
        (np.zeros((0, 3)), r"has shape \(0, 3\)"),
        (0.5, r"has shape \(\)"),
        (None, "is NoneType, not numbers"),
        ("abc", "is str, not numbers"),
        ([[1.0], [1.0, 2.0]], "is not an array"),
        (np.full(3, np.nan), "is not finite"),
    ],
)
def test_invalid_observations_are_refused_with_a_message(wrong: Any, message: str) -> None:
    policy = make(spaces.Box(-1, 1, (3,)))
    for use in (policy.act, policy.value):
        with pytest.raises(ValueError, match=message):
            use(wrong)


def test_parts_of_an_observation_are_named() -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)})
    policy = make(space)
    with pytest.raises(ValueError, match=r"observation\['a'\] has shape \(3,\)"):
        policy.act({"a": np.zeros(3), "b": 1})
    with pytest.raises(ValueError, match=r"must be a dict with the keys \['a', 'b'\]"):
        policy.act({"a": np.zeros(2)})
    with pytest.raises(ValueError, match="parts of the observation have different batch sizes"):
        policy.act({"a": np.zeros((4, 2)), "b": 1})
    with pytest.raises(ValueError, match=r"observation\['b'\] has fractions"):
        policy.act({"a": np.zeros(2), "b": 1.5})


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_or_a_pickle_acts_the_same(duplicate: Any) -> None:
    policy = make()
    other = duplicate(policy)
    assert [other.act(one) for one in samples(NESTED)] == [
        policy.act(one) for one in samples(NESTED)
    ]
    assert repr(other) == repr(policy)


def test_greedy_ignores_the_generator() -> None:
    policy, observation = make(), samples(NESTED)[0]
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    assert policy.act(observation, generator=generator) == policy.act(observation)
    assert generator.bit_generator.state == before


def test_observations_are_normalised_with_the_policys_statistics() -> None:
    space = spaces.Box(-np.inf, np.inf, (3,))
    mean, scale = np.float32([1.0, -2.0, 3.0]), np.float32([2.0, 0.5, 1.0])
    plain, with_statistics = make(space), make(space, statistics=(mean, scale))
    for observation in samples(space):
        seen = np.clip((observation - mean) * scale, -10, 10).astype(np.float32)
        assert with_statistics.act(observation) == plain.act(seen)
        assert with_statistics.value(observation) == pytest.approx(plain.value(seen), rel=1e-5)


def test_a_policy_knows_its_spaces_and_environment() -> None:
    policy = make()
    assert policy.observation_space == NESTED
    assert policy.action_space == CHOICES
    assert policy.environment == CHOICE


def test_a_stacked_batch_gives_the_same_actions_as_its_rows() -> None:
    policy = make()
    observations = samples(NESTED)
    first = np.ones(len(observations), np.bool_)
    decision = policy.decide(policy.batch(observations), (), first, None)
    assert decision.environment_action.tolist() == [policy.act(one) for one in observations]


# --- With memory ----------------------------------------------------------------------------------


def test_a_player_remembers_until_it_is_reset() -> None:
    agent, parameters = recurrent_agent()
    policy = Policy(agent, parameters, CHOICE)
    observations = np.random.default_rng(5).normal(size=(30, 2)).astype(np.float32)
    state = jnp.zeros(3)
    expected = []
    for step, observation in enumerate(observations):
        logits, _, state = agent.apply(parameters, observation, state, jnp.asarray(step == 0))
        expected.append(int(np.argmax(logits)))
    player = policy.player()
    played = [player.act(observation) for observation in observations]
    assert played == expected
    forgetful = [policy.act(observation) for observation in observations]
    assert forgetful != expected
    assert [player.act(observation) for observation in observations] != expected
    player.reset()
    assert [player.act(observation) for observation in observations] == expected
