"""State-dependent exploration (gSDE), actions squashed by tanh, and shared hidden layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium import spaces

from poise.agent.actions import GaussianForm, action_head
from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.heads import GsdeHead
from poise.agent.layers import Outputs
from poise.agent.networks import MlpNetwork
from poise.agent.noise import draw_with_generator
from poise.errors import ConfigError
from poise.maths import distributions

BOX = spaces.Box(np.float32([-2.0, 0.0]), np.float32([2.0, 10.0]))
SEEN = spaces.Box(-1.0, 1.0, (4,))
FEATURES = 3


def gsde(squashes: bool = False) -> GsdeHead:
    head = action_head(BOX, GaussianForm("gsde", squashes, FEATURES))
    assert isinstance(head, GsdeHead)
    return head


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dist_params(*leading: int) -> np.ndarray:
    return drawn(*leading, 2 + FEATURES + 2 * FEATURES)


# --- tanh -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_scale", [-3.0, 0.0, 1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("mean", [0.0, 0.7, -4.0])
def test_the_entropy_of_a_squashed_gaussian_is_its_integral(mean: float, log_scale: float) -> None:
    """Also where the Gaussian is so wide that nearly all actions are at a bound; and its slope."""
    points = np.linspace(-9, 9, 1_000_001)
    density = np.exp(-0.5 * points**2) / np.sqrt(2 * np.pi)

    def exact(mean: float, log_scale: float) -> float:
        x = mean + np.exp(log_scale) * points
        change = 2 * (np.log(2) - np.abs(x) - np.log1p(np.exp(-2 * np.abs(x))))
        plain = log_scale + 0.5 + 0.5 * np.log(2 * np.pi)
        return float(plain + np.trapezoid(density * change, points))

    def found(mean: Any, log_scale: Any) -> Any:
        return distributions.squashed_gaussian_entropy(mean[None], log_scale[None])

    given = jnp.float32(mean), jnp.float32(log_scale)
    np.testing.assert_allclose(found(*given), exact(mean, log_scale), rtol=3e-3, atol=3e-3)
    slope = jax.grad(found, 1)(*given)
    step = 1e-3
    expected = (exact(mean, log_scale + step) - exact(mean, log_scale - step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.4), (3.0, -0.5)])
def test_the_density_of_a_squashed_gaussian_is_normalised(mean: float, log_scale: float) -> None:
    """Also its entropy: both are integrated over the actions themselves."""
    actions = np.tanh(np.linspace(-12, 12, 400_001))
    actions = actions[np.abs(actions) < 1 - 1e-7]
    given = np.float64([mean]), np.float64([log_scale])
    scores = distributions.squashed_gaussian_log_probability(*given, np.arctanh(actions)[:, None])
    assert np.trapezoid(np.exp(scores), actions) == pytest.approx(1, abs=1e-4)
    entropy = -np.trapezoid(np.exp(scores) * scores, actions)
    found = distributions.squashed_gaussian_entropy(*given)
    assert found == pytest.approx(entropy, abs=2e-3)


def test_a_squashed_action_far_from_0_has_a_finite_density_and_gradient() -> None:
    def score(mean: Any) -> Any:
        far = jnp.array([60.0, -60.0])
        return distributions.squashed_gaussian_log_probability(mean, jnp.zeros(2), far)

    mean = jnp.array([59.0, -61.0])
    assert np.isfinite(score(mean))
    np.testing.assert_allclose(jax.grad(score)(mean), [1.0, 1.0], rtol=1e-5)


@pytest.mark.parametrize("scale", ["free", "network", "gsde"])
def test_squashed_actions_stay_within_their_bounds(scale: Any) -> None:
    head = action_head(BOX, GaussianForm(scale, True, FEATURES if scale == "gsde" else 0))
    parameters = 5 * drawn(50, head.outputs + head.free_params)
    noise = head.noise(draw_with_generator(np.random.default_rng(0)), (50,))
    samples = head.sample(parameters, noise)
    actions = head.to_environment(samples)
    assert all(map(BOX.contains, actions))
    middle, half_width = np.float32([0.0, 5.0]), np.float32([2.0, 5.0])
    expected = middle[None] + half_width[None] * np.tanh(samples)
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5)
    greedy = head.sample(parameters, None)
    expected = [[0.0, 5.0]] + np.float32([[2.0, 5.0]]) * np.tanh(parameters[:, :2])
    np.testing.assert_allclose(head.to_environment(greedy), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("high", [np.inf, np.finfo(np.float32).max])
def test_only_finite_bounds_can_be_squashed_into(high: float) -> None:
    space = spaces.Box(np.float32([-1.0, -1.0]), np.float32([1.0, high]))
    with pytest.raises(ConfigError, match=r"needs finite bounds, but action\['x'"):
        action_head(spaces.Dict({"x": space}), GaussianForm(squashes=True))


# --- gSDE -----------------------------------------------------------------------------------------


def test_the_noise_of_a_copy_is_the_same_in_a_whole_rollout() -> None:
    head = gsde()
    draw = draw_with_generator(np.random.default_rng(0))
    noise = head.noise(draw, (5, 7))
    assert noise.shape == (5, 7, FEATURES, 2)
    assert (noise == noise[0]).all()
    assert not np.array_equal(noise[0, 0], noise[0, 1])
    # In an evaluation, each action has its own.
    assert head.noise(draw, (7,)).shape == (7, FEATURES, 2)


def test_an_action_is_a_linear_function_of_the_features() -> None:
    """Equations 4 and 6 of the paper, element by element."""
    head, parameters = gsde(), dist_params(6)
    noise = drawn(6, FEATURES, 2, seed=1)
    actions = head.sample(parameters, noise)
    scores, entropies = head.log_probability(parameters, actions), head.entropy(parameters)
    for row in range(6):
        mean, features = parameters[row, :2], parameters[row, 2 : 2 + FEATURES]
        scales = np.exp(parameters[row, 2 + FEATURES :].reshape(FEATURES, 2))
        score = entropy = 0.0
        for number in range(2):
            change = sum(
                features[one] * scales[one, number] * noise[row, one, number]
                for one in range(FEATURES)
            )
            variance = sum((features[one] * scales[one, number]) ** 2 for one in range(FEATURES))
            np.testing.assert_allclose(actions[row, number], mean[number] + change, rtol=1e-5)
            normal = scipy.stats.norm(mean[number], np.sqrt(variance))
            score += normal.logpdf(actions[row, number])
            entropy += normal.entropy()
        np.testing.assert_allclose(scores[row], score, rtol=1e-4)
        np.testing.assert_allclose(entropies[row], entropy, rtol=1e-4)


def test_the_actions_have_the_distribution_that_is_claimed() -> None:
    head, one = gsde(), dist_params(1)
    count = 20_000
    noise = head.noise(draw_with_generator(np.random.default_rng(0)), (count,))
    actions = head.sample(np.repeat(one, count, axis=0), noise)
    features = one[0, 2 : 2 + FEATURES]
    weights = np.exp(one[0, 2 + FEATURES :].reshape(FEATURES, 2))
    deviations = np.sqrt((features[:, None] ** 2 * weights**2).sum(0))
    np.testing.assert_allclose(actions.mean(0), one[0, :2], atol=4 * deviations.max() / 141)
    np.testing.assert_allclose(actions.std(0), deviations, rtol=0.03)


def test_the_noise_does_not_train_the_features() -> None:
    head, parameters = gsde(), jnp.asarray(dist_params())
    slope = jax.grad(lambda given: head.log_probability(given, jnp.ones(2)))(parameters)
    assert (slope[2 : 2 + FEATURES] == 0).all()
    assert (slope[2 + FEATURES :] != 0).all()
    features_are_0 = parameters.at[2 : 2 + FEATURES].set(0.0)
    assert np.isfinite(head.log_probability(features_are_0, jnp.ones(2)))


@pytest.mark.parametrize("squashes", [False, True])
def test_jax_agrees_with_numpy(squashes: bool) -> None:
    head, parameters = gsde(squashes), dist_params(6)
    noise = head.noise(draw_with_generator(np.random.default_rng(0)), (6,))

    def decide(parameters: Any, noise: Any) -> Any:
        action = head.sample(parameters, noise)
        scores = head.log_probability(parameters, action), head.entropy(parameters)
        return action, *scores, head.to_environment(action)

    on_jax = jax.jit(jax.vmap(decide))(parameters, noise)
    for one, other in zip(decide(parameters, noise), on_jax, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("observations", [SEEN, spaces.Box(0, 255, (16, 16, 3), np.uint8)])
def test_the_network_outputs_its_features(observations: Any) -> None:
    spec = NetworkSpec((6, 5), "gsde", initial_log_deviation=-0.5)
    agent, vector = build_agent(observations, BOX, spec, np.random.SeedSequence(0))
    features = spec.features(observations)
    assert features == (5 if observations is SEEN else 64)
    seen = agent.observe(observations.sample(), ())
    output = agent.apply(vector, seen, (), False).dist_params
    assert output.shape == (2 + features + 2 * features,)
    assert np.abs(output[2 : 2 + features]).max() > 0.01
    np.testing.assert_array_equal(output[2 + features :], -0.5)
    if isinstance(agent.network, MlpNetwork):
        policy = agent.network.numpy_policy(agent.layout.unflatten(vector))
        np.testing.assert_allclose(policy(np.asarray(seen)), output, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("space", "hidden", "message"),
    [
        (spaces.Tuple([BOX, BOX]), (4,), "needs one Box"),
        (BOX, (), "needs a hidden layer"),
    ],
)
def test_what_gsde_cannot_do_is_refused(space: Any, hidden: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_agent(SEEN, space, NetworkSpec(hidden, "gsde"), None)


@pytest.mark.parametrize(
    ("space", "outputs"),
    [(spaces.Discrete(20), 20), (spaces.MultiBinary(3), 3), (spaces.Box(0, 3, (2,), np.int8), 8)],
)
def test_gsde_changes_nothing_where_no_action_is_continuous(space: Any, outputs: int) -> None:
    plain, with_gsde = (
        build_agent(SEEN, space, NetworkSpec((6,), scale), np.random.SeedSequence(0))[1]
        for scale in ("free", "gsde")
    )
    np.testing.assert_array_equal(plain, with_gsde)
    agent, _ = build_agent(SEEN, space, NetworkSpec((), "gsde"), None)
    assert agent.head.outputs == outputs
    if isinstance(space, spaces.Discrete):
        build_agent(SEEN, space, NetworkSpec((6,), "gsde", action_values=True), None)


def test_a_network_of_ones_own_has_no_features_for_gsde() -> None:
    def factory(*given: Any) -> Any:
        raise AssertionError("it is not called")

    with pytest.raises(ConfigError, match="poise's own"):
        build_agent(SEEN, BOX, NetworkSpec((4,), "gsde"), None, network_factory=factory)


# --- shared layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("observations", [SEEN, spaces.Discrete(300)])
def test_shared_layers_serve_both(observations: Any) -> None:
    apart, shared = (
        build_agent(
            observations, BOX, NetworkSpec((6, 5), is_shared=one), np.random.SeedSequence(0)
        )
        for one in (False, True)
    )
    hidden = apart[0].network.module(apart[0].layout.unflatten(apart[1])).value[:-1]
    count = sum(layer.weight.size + layer.bias.size for layer in hidden)
    assert shared[1].size == apart[1].size - count
    agent, vector = shared
    seen = agent.observe(observations.sample(), ())

    def value(vector: Any) -> Any:
        return agent.apply(vector, seen, (), False).value

    weights = agent.layout.unflatten(np.asarray(jax.grad(value)(vector)))
    slopes = agent.network.module(weights)
    assert np.abs(slopes.policy[0].weight).max() > 0
    assert np.abs(slopes.policy[-1].weight).max() == 0
    network: Any = agent.network
    assert network.describe().startswith(
        "an MLP with 6 + 5 relu units for the policy and the value"
    )


def test_sharing_saves_the_multiplications_of_the_values_layers() -> None:
    apart, shared = (MlpNetwork(SEEN, Outputs(3), (8, 5), is_shared=one) for one in (False, True))
    assert apart.multiplications - shared.multiplications == (4 + 1) * 8 + (8 + 1) * 5
    without = MlpNetwork(SEEN, Outputs(3), (), is_shared=True)
    assert without.multiplications == MlpNetwork(SEEN, Outputs(3), ()).multiplications
