"""The gradient is compared with Algorithm S3 by hand and with finite differences."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise.agent.agent import Agent
from poise.agent.gradient import actor_critic_gradient
from poise.learning.compiler import compile_options
from poise.trajectory import Trajectory

from ..maths.literal import generalised_advantages, segments
from .examples import recurrent_agent
from .rollouts import ACTIONS, COPIES, LENGTH, TERMINATED, TRUNCATED, VALID, make, trajectory

SETTINGS: dict[str, Any] = {
    "discount": 0.9,
    "gae_lambda": 1.0,
    "normalize_advantages": False,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.01,
}


def differentiate(
    agent: Agent, parameters: np.ndarray, path: Trajectory, **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    compiled = gradient_program(agent, tuple(settings.items()))
    gradient, losses = compiled(parameters, path)
    return np.asarray(gradient), np.asarray(losses)


PROGRAMS: dict[Any, Any] = {}


def gradient_program(agent: Agent, settings: tuple[tuple[str, Any], ...]) -> Any:
    """Compile the gradient once for each agent, with little optimization to save time."""

    def run(parameters: Any, path: Trajectory) -> Any:
        chosen = SETTINGS | dict(settings)
        return actor_critic_gradient(agent, parameters, path, **chosen)

    quick = compile_options("cpu") | {"xla_backend_optimization_level": 0}
    return PROGRAMS.setdefault((id(agent), settings), jax.jit(run, compiler_options=quick))


def normalized(advantages: np.ndarray) -> np.ndarray:
    chosen = advantages[VALID]
    return np.where(VALID, (advantages - chosen.mean()) / chosen.std(), 0.0)


def literal_advantages(values: np.ndarray, path: Trajectory, gae_lambda: float) -> np.ndarray:
    columns = [
        generalised_advantages(
            values[:, copy],
            path.rewards[:, copy],
            segments(TERMINATED[:, copy], TRUNCATED[:, copy], VALID[:, copy]),
            SETTINGS["discount"],
            gae_lambda,
        )
        for copy in range(COPIES)
    ]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("normalize", [False, True])
def test_algorithm_s3_by_hand(normalize: bool) -> None:
    """A linear network: log-probabilities and values differentiated with pen and paper.

    ``dtheta <- dtheta + grad log pi(a_i|s_i) (R - V(s_i)) + beta grad H`` and
    ``dtheta_v <- dtheta_v + d (R - V(s_i))^2 / d theta_v``, from each segment's end backwards.
    """
    agent, parameters = make("discrete", ())
    path = trajectory(agent)
    network = agent.layout.unflatten(parameters.astype(np.float64))
    weights, bias = (
        np.asarray(one, np.float64) for one in (network.policy[0].weight, network.policy[0].bias)
    )
    values_of = np.asarray(network.value[0].weight, np.float64)[:, 0]
    values = path.observations.astype(np.float64) @ values_of + float(network.value[0].bias[0])

    returns = np.array(values[:-1])
    for copy in range(COPIES):
        total = values[LENGTH, copy]
        for i in reversed(range(LENGTH)):
            if not VALID[i, copy]:
                continue
            if TERMINATED[i, copy]:
                total = 0.0
            elif TRUNCATED[i, copy]:
                total = values[i + 1, copy]
            total = path.rewards[i, copy] + 0.9 * total
            returns[i, copy] = total
    advantages = returns - values[:-1]
    computed = normalized(advantages) if normalize else advantages

    d_weights, d_bias = np.zeros_like(weights), np.zeros_like(bias)
    d_values, d_value_bias = np.zeros_like(values_of), 0.0
    for i in range(LENGTH):
        for copy in range(COPIES):
            if not VALID[i, copy]:
                continue
            x = path.observations[i, copy].astype(np.float64)
            logits = x @ weights + bias
            chances = np.exp(logits) / np.sum(np.exp(logits))
            entropy = -np.sum(chances * np.log(chances))
            taken = np.eye(3)[path.actions[i, copy]]
            ascent = (taken - chances) * computed[i, copy]
            ascent += 0.01 * -chances * (np.log(chances) + entropy)
            d_weights -= np.outer(x, ascent)
            d_bias -= ascent
            d_values -= 0.5 * advantages[i, copy] * x
            d_value_bias -= 0.5 * advantages[i, copy]
    count = VALID.sum()

    gradient, losses = differentiate(agent, parameters, path, normalize_advantages=normalize)
    found = agent.layout.unflatten(gradient)
    for one, expected in (
        (found.policy[0].weight, d_weights),
        (found.policy[0].bias, d_bias),
        (found.value[0].weight[:, 0], d_values),
        (found.value[0].bias[0], d_value_bias),
    ):
        np.testing.assert_allclose(one, expected / count, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses[4], np.linalg.norm(gradient), rtol=1e-5)


def in_float64(agent: Agent) -> Agent:
    """Return the same agent, computing in float64 on NumPy."""
    wide = tuple(np.dtype(np.float64) for _ in agent.layout.dtypes)
    return dataclasses.replace(agent, layout=dataclasses.replace(agent.layout, dtypes=wide))


def surrogate(agent: Agent, path: Trajectory, **settings: Any) -> Callable[..., np.ndarray]:
    """Return a function (parameters, where advantages are taken) -> four loss terms, float64."""
    chosen = SETTINGS | settings
    wide = in_float64(agent)

    def values(parameters: np.ndarray) -> np.ndarray:
        return wide.apply(parameters, path.observations, (), path.first).value

    def terms(parameters: np.ndarray, at: np.ndarray) -> np.ndarray:
        constants = values(at)
        advantages = literal_advantages(constants, path, chosen["gae_lambda"])
        targets = constants[:-1] + advantages
        if chosen["normalize_advantages"]:
            advantages = normalized(advantages)
        outputs, now, _ = wide.apply(parameters, path.observations, (), path.first)
        scores = wide.head.log_probability(outputs[:-1], path.actions)
        entropy = wide.head.entropy(outputs[:-1])[VALID].mean()
        policy = -(scores * advantages)[VALID].mean()
        value = 0.5 * np.square(targets - now[:-1])[VALID].mean()
        weights = chosen["value_coefficient"], chosen["entropy_coefficient"]
        total = policy + weights[0] * value - weights[1] * entropy
        return np.array([total, policy, value, entropy])

    return terms


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"gae_lambda": 0.7, "normalize_advantages": True, "entropy_coefficient": 0.3}],
    ids=["n-step", "normalised GAE"],
)
def test_finite_differences(actions: str, settings: dict[str, Any]) -> None:
    agent, parameters = make(actions, (4,))
    path = trajectory(agent)
    gradient, losses = differentiate(agent, parameters, path, **settings)
    terms = surrogate(agent, path, **settings)
    at = parameters.astype(np.float64)
    np.testing.assert_allclose(losses[:4], terms(at, at), rtol=1e-4, atol=1e-5)
    step = 1e-6
    for index, expected in enumerate(gradient):
        ahead, behind = at.copy(), at.copy()
        ahead[index] += step
        behind[index] -= step
        slope = (terms(ahead, at)[0] - terms(behind, at)[0]) / (2 * step)
        np.testing.assert_allclose(expected, slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("actions", ACTIONS)
def test_without_a_valid_step_the_gradient_is_0(actions: str, normalize: bool) -> None:
    agent, parameters = make(actions, (4,))
    nothing = np.zeros_like(VALID)
    path = trajectory(agent)._replace(valid=nothing, terminated=nothing, truncated=nothing)
    gradient, losses = differentiate(agent, parameters, path, normalize_advantages=normalize)
    np.testing.assert_array_equal(gradient, 0.0)
    np.testing.assert_array_equal(losses, 0.0)


def test_invalid_steps_do_not_affect_the_gradient() -> None:
    agent, parameters = make("discrete", (4,))
    path = trajectory(agent)
    before = differentiate(agent, parameters, path, normalize_advantages=True)
    actions, rewards = path.actions.copy(), path.rewards.copy()
    actions[~VALID] = (actions[~VALID] + 1) % 3
    rewards[~VALID] = 50.0
    changed = path._replace(actions=actions, rewards=rewards)
    after = differentiate(agent, parameters, changed, normalize_advantages=True)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


# --- Networks with memory -------------------------------------------------------------------------


def unroll(
    agent: Agent, parameters: Any, observations: Any, state: Any, first: Any
) -> tuple[np.ndarray, np.ndarray]:
    weights = agent.layout.unflatten(jnp.asarray(parameters))
    output = agent.network.unroll(weights, observations, state, first)
    return np.asarray(output.dist_params), np.asarray(output.value)


def stepped_by_hand(
    agent: Agent, parameters: Any, observations: Any, state: Any, first: Any
) -> tuple[np.ndarray, np.ndarray]:
    outputs, values = [], []
    for observation, begins in zip(observations, first, strict=True):
        output, value, state = agent.apply(jnp.asarray(parameters), observation, state, begins)
        outputs.append(np.asarray(output))
        values.append(np.asarray(value))
    return np.stack(outputs), np.stack(values)


def test_unroll_equals_single_steps() -> None:
    agent, parameters = recurrent_agent()
    generator = np.random.default_rng(2)
    observations = generator.normal(size=(9, 2)).astype(np.float32)
    state = generator.normal(size=3).astype(np.float32)
    first = np.zeros(9, np.bool_)
    first[[4, 5]] = True
    found = unroll(agent, parameters, observations, state, first)
    expected = stepped_by_hand(agent, parameters, observations, state, first)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_memory_ends_where_an_episode_begins() -> None:
    network = recurrent_agent()
    generator = np.random.default_rng(3)
    one, other = generator.normal(size=(2, 8, 2)).astype(np.float32)
    other[5:] = one[5:]
    first = np.zeros(8, np.bool_)
    state, other_state = generator.normal(size=(2, 3)).astype(np.float32)
    remembered = unroll(*network, one, state, first), unroll(*network, other, other_state, first)
    assert not np.allclose(remembered[0][1][5:], remembered[1][1][5:])
    first[5] = True
    forgotten = unroll(*network, one, state, first), unroll(*network, other, other_state, first)
    for column in (0, 1):
        np.testing.assert_array_equal(forgotten[0][column][5:], forgotten[1][column][5:])


def test_feed_forward_networks_take_all_steps_at_once() -> None:
    agent, parameters = make("discrete", (4,))
    path = trajectory(agent)
    outputs, values = unroll(agent, parameters, path.observations[:, 0], (), path.first[:, 0])
    expected = agent.apply(parameters, path.observations[:, 0], (), path.first[:, 0])
    np.testing.assert_allclose(outputs, expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, expected[1], rtol=1e-4, atol=1e-6)


def test_the_gradient_flows_through_memory_back_to_the_episode_start() -> None:
    """Only the last step counts: observations of its episode get a gradient, earlier ones none."""
    agent, parameters = recurrent_agent(actions=3)
    path = trajectory(agent)
    valid = np.zeros_like(VALID)
    valid[6] = True
    ends = np.zeros_like(VALID)
    first = np.zeros((LENGTH + 1, COPIES), np.bool_)
    first[4] = True
    path = path._replace(valid=valid, terminated=ends, truncated=ends, first=first)

    def gradient(observations: np.ndarray) -> np.ndarray:
        return differentiate(agent, parameters, path._replace(observations=observations))[0]

    before = gradient(path.observations)
    for step, matters in ((3, False), (4, True), (5, True)):
        changed = path.observations.copy()
        changed[step] += 1.0
        assert np.array_equal(gradient(changed), before) is not matters
