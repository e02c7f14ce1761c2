"""The agent: built from spaces and a seed, the same on NumPy and in XLA."""

import json
from typing import Any

import jax
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.noise import (
    GUMBEL,
    LOGISTIC,
    NORMAL,
    NoiseKind,
    draw_with_generator,
    draw_with_key,
)
from poise.errors import UnsupportedSpaceError

from .examples import ACTION_SPACES, recurrent_agent

OBSERVATIONS = spaces.Dict({"x": spaces.Box(-1.0, 1.0, (3,)), "mode": spaces.Discrete(2)})
ACTIONS = spaces.Tuple([spaces.Discrete(3), spaces.Box(-1.0, 1.0, (2,))])
SPEC = NetworkSpec((7,))
COPIES = 5


def observations() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    numbers = generator.normal(size=(COPIES, 3)).astype(np.float32)
    return {"x": numbers, "mode": generator.integers(0, 2, COPIES).astype(np.int32)}


def test_a_seed_determines_the_parameters() -> None:
    one, same, other = (
        build_agent(OBSERVATIONS, ACTIONS, SPEC, np.random.SeedSequence(seed))[1]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.dtype == np.float32


def test_without_a_seed_the_parameters_are_0() -> None:
    agent, parameters = build_agent(OBSERVATIONS, ACTIONS, SPEC, None)
    assert parameters.shape == (agent.layout.size,)
    assert not np.any(parameters)


@pytest.mark.parametrize("scale", ["free", "network"])
@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES.keys())
def test_the_network_fits_the_action_head(space: spaces.Space[Any], scale: Any) -> None:
    agent, parameters = build_agent(OBSERVATIONS, space, NetworkSpec((4,), scale), None)
    distribution, value, state = agent.apply(parameters, observations(), (), None)
    assert distribution.shape == (COPIES, agent.head.outputs + agent.head.free_params)
    assert value.shape == (COPIES,)
    assert state == agent.initial_state(COPIES) == ()


def test_too_many_parameters_are_refused_before_they_are_made() -> None:
    size = build_agent(OBSERVATIONS, ACTIONS, SPEC, None)[0].layout.size
    build_agent(OBSERVATIONS, ACTIONS, SPEC, None, parameter_limit=size)
    with pytest.raises(ValueError, match=f"{size} parameters"):
        build_agent(OBSERVATIONS, ACTIONS, SPEC, None, parameter_limit=size - 1)
    huge = spaces.Discrete(2**40)
    with pytest.raises(ValueError, match="parameters"):
        build_agent(huge, ACTIONS, SPEC, None, parameter_limit=10**9)


def test_other_spaces_are_refused() -> None:
    for pair in ((spaces.Text(3), ACTIONS), (OBSERVATIONS, spaces.Text(3))):
        with pytest.raises(UnsupportedSpaceError):
            build_agent(*pair, SPEC, None)


@pytest.mark.parametrize("greedy", [True, False])
def test_decisions_are_the_same_on_numpy_and_in_xla(greedy: bool) -> None:
    agent, parameters = build_agent(OBSERVATIONS, ACTIONS, SPEC, np.random.SeedSequence(3))
    parameters = 5 * parameters
    noise = agent.head.noise(draw_with_generator(np.random.default_rng(0)), (COPIES,))
    noise = None if greedy else noise
    first = np.ones(COPIES, np.bool_)
    weights = agent.layout.unflatten(parameters)
    on_numpy = agent.decide(weights, (), observations(), (), first, noise)

    def decide(weights: Any, observation: Any, first: Any, noise: Any) -> Any:
        return agent.decide(weights, (), observation, (), first, noise)

    axes = (None, 0, 0, None if greedy else 0)
    in_xla = jax.jit(jax.vmap(decide, axes))(weights, observations(), first, noise)
    assert jax.tree.structure(on_numpy) == jax.tree.structure(in_xla)
    for one, other in zip(jax.tree.leaves(on_numpy), jax.tree.leaves(in_xla), strict=True):
        assert isinstance(one, np.ndarray)
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_decisions_have_the_sampled_and_the_environment_action() -> None:
    narrow = spaces.Box(2.0, 3.0, (1,))
    agent, parameters = build_agent(OBSERVATIONS, narrow, SPEC, None)
    noise = np.full((COPIES, 1), 4.0, np.float32)
    first = np.ones(COPIES, np.bool_)
    weights = agent.layout.unflatten(parameters)
    decision = agent.decide(weights, (), observations(), (), first, noise)
    np.testing.assert_array_equal(decision.action, 4.0)
    np.testing.assert_array_equal(decision.environment_action, 3.0)
    normal = -0.5 * 4.0**2 - 0.5 * np.log(2 * np.pi)
    score = agent.head.log_probability(decision.dist_params, decision.action)
    np.testing.assert_allclose(score, normal, rtol=1e-6)


def test_memory_begins_with_0_for_each_copy() -> None:
    agent, _ = recurrent_agent(memory=3)
    state = agent.initial_state(COPIES)
    assert state.shape == (COPIES, 3)
    assert state.dtype == np.float32
    assert not np.any(state)


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec(()),
        NetworkSpec((3, 4)),
        NetworkSpec((5,), "network"),
        NetworkSpec((), activation="elu"),
        NetworkSpec((5,), "gsde", is_shared=True, squashes=True),
    ],
)
def test_a_network_specification_survives_json(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "damage",
    [
        {"hidden_sizes": [0]},
        {"hidden_sizes": ["many"]},
        {"hidden_sizes": 3},
        {"gaussian_scale": "loud"},
        {"activation": "loud"},
        {"activation": ["relu"]},
        {"is_shared": 1},
        {"squashes": "yes"},
    ],
    ids=str,
)
def test_a_damaged_network_specification_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        NetworkSpec.from_json(SPEC.to_json() | damage)
    with pytest.raises(KeyError):
        NetworkSpec.from_json({})


def test_a_specification_from_before_activations_were_a_setting_means_relu() -> None:
    old = {name: one for name, one in SPEC.to_json().items() if name != "activation"}
    assert NetworkSpec.from_json(old).activation == "relu"


def test_the_activation_is_tanh_or_relu_for_images_unless_another_is_set() -> None:
    chosen = {
        activation: [
            NetworkSpec.choose(space, (4,), "free", activation=activation).activation
            for space in (OBSERVATIONS, spaces.Box(0, 255, (16, 16, 3), np.uint8))
        ]
        for activation in ("auto", "gelu")
    }
    assert chosen == {"auto": ["tanh", "relu"], "gelu": ["gelu", "gelu"]}


# --- Noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["numpy", "jax"])
@pytest.mark.parametrize(
    ("kind", "mean", "deviation"),
    [
        (GUMBEL, np.euler_gamma, np.pi / np.sqrt(6)),
        (NORMAL, 0.0, 1.0),
        (LOGISTIC, 0.0, np.pi / np.sqrt(3)),
    ],
    ids=["gumbel", "normal", "logistic"],
)
def test_noise_is_standard(kind: NoiseKind, mean: float, deviation: float, source: str) -> None:
    draw = (
        draw_with_generator(np.random.default_rng(0))
        if source == "numpy"
        else draw_with_key(jax.random.key(0))
    )
    drawn = np.asarray(draw(kind, (100, 200)))
    assert drawn.shape == (100, 200)
    assert drawn.dtype == np.float32
    assert abs(drawn.mean() - mean) < 4 * deviation / np.sqrt(drawn.size)
    np.testing.assert_allclose(drawn.std(), deviation, rtol=0.03)
    assert not np.array_equal(drawn, draw(kind, (100, 200))), "every draw is new"


def test_a_head_may_define_its_own_noise() -> None:
    uniform = NoiseKind(lambda generator, shape: generator.random(shape), jax.random.uniform)
    for draw in (draw_with_generator(np.random.default_rng(0)), draw_with_key(jax.random.key(0))):
        drawn = np.asarray(draw(uniform, (1000,)))
        assert drawn.dtype == np.float32
        assert drawn.min() >= 0.0
        assert 0.45 < drawn.mean() < 0.55


def test_the_initial_deviation_is_that_of_free_scales_only() -> None:
    box = spaces.Box(-1.0, 1.0, (3,))
    for space in (OBSERVATIONS, spaces.Box(0, 255, (16, 16, 3), np.uint8)):
        spec = NetworkSpec((4,), initial_log_deviation=-0.5)
        agent, vector = build_agent(space, box, spec, np.random.SeedSequence(0))
        plain = build_agent(space, box, NetworkSpec((4,)), np.random.SeedSequence(0))[1]
        np.testing.assert_array_equal(agent.layout.unflatten(vector).free, np.full(3, -0.5))
        assert np.flatnonzero(vector != plain).size == 3
    discrete, same = (
        build_agent(OBSERVATIONS, spaces.Discrete(2), one, np.random.SeedSequence(0))[1]
        for one in (NetworkSpec((4,)), NetworkSpec((4,), initial_log_deviation=-0.5))
    )
    np.testing.assert_array_equal(discrete, same)


def test_a_snapshot_of_normalised_rewards_has_more_statistics_than_a_policy() -> None:
    spec = NetworkSpec((4,), normalize_observations=True)
    agent, _ = build_agent(OBSERVATIONS, spaces.Discrete(2), spec, None)
    count = agent.scaling.count
    statistics = np.arange(count + 1.0), np.arange(count + 1, dtype=np.float32)
    observed = agent.observed_statistics(statistics)
    assert [one.tolist() for one in observed] == [list(range(count))] * 2
    plain, _ = build_agent(OBSERVATIONS, spaces.Discrete(2), NetworkSpec((4,)), None)
    assert plain.observed_statistics((np.zeros(1), np.ones(1))) == ()
