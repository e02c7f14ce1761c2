"""Action heads: samples are in the space; log-probabilities and entropies add up over the parts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from gymnasium import spaces

from poise.agent.actions import GaussianForm, action_head
from poise.agent.heads import ActionHead
from poise.agent.noise import draw_with_generator
from poise.batching import as_typed, unbatch
from poise.errors import UnsupportedSpaceError
from poise.learning.compiler import compile_options

from .examples import ACTION_SPACES, BOXES, DISCRETE, NESTED, UNSUPPORTED

COPIES = 40
QUICK = compile_options("cpu") | {"xla_backend_optimization_level": 0}


def action_spaces() -> Any:
    """Parametrize a test over all action spaces."""
    rows = [pytest.param(space, id=name) for name, space in ACTION_SPACES.items()]
    return pytest.mark.parametrize("space", rows)


def noise(head: ActionHead, seed: int, copies: int = COPIES) -> Any:
    generator = np.random.default_rng(seed)
    return head.noise(draw_with_generator(generator), (copies,))


def head_parameters(head: ActionHead, seed: int = 0, size: float = 1.0) -> np.ndarray:
    shape = (COPIES, head.outputs + head.free_params)
    return np.random.default_rng(seed).normal(0, size, shape).astype(np.float32)


def contained(space: spaces.Space[Any], actions: Any) -> None:
    for copy in range(COPIES):
        action = unbatch(actions, space, copy)
        assert space.contains(action), (action, type(action))


@action_spaces()
@pytest.mark.parametrize("size", [1.0, 5.0])
def test_actions_are_in_the_space_on_numpy(space: spaces.Space[Any], size: float) -> None:
    head = action_head(space)
    parameters = head_parameters(head, size=size)
    for draw in (noise(head, 1), None):
        contained(space, head.to_environment(head.sample(parameters, draw)))


@action_spaces()
def test_actions_are_in_the_space_on_jax(space: spaces.Space[Any]) -> None:
    head = action_head(space)

    def act(parameters: Any, draw: Any) -> Any:
        return head.to_environment(head.sample(parameters, draw))

    parameters = jnp.asarray(head_parameters(head, size=5.0))
    actions = jax.jit(jax.vmap(act), compiler_options=QUICK)(parameters, noise(head, 1))
    # float64 and int64 become float32 and int32 in XLA; stepping the environment converts them.
    contained(space, jax.tree.map(np.asarray, actions))


@action_spaces()
def test_jax_agrees_with_numpy(space: spaces.Space[Any]) -> None:
    head = action_head(space)
    parameters = head_parameters(head)

    def decide(parameters: Any, draw: Any) -> Any:
        action = head.sample(parameters, draw)
        return action, head.log_probability(parameters, action), head.entropy(parameters)

    on_numpy = decide(parameters, noise(head, 1))
    compiled = jax.jit(jax.vmap(decide), compiler_options=QUICK)
    on_jax = compiled(jnp.asarray(parameters), noise(head, 1))
    for one, other in zip(jax.tree.leaves(on_numpy), jax.tree.leaves(on_jax), strict=True):
        assert isinstance(one, np.ndarray)
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@action_spaces()
def test_without_noise_the_most_probable_action_is_chosen(space: spaces.Space[Any]) -> None:
    head = action_head(space)
    parameters = head_parameters(head)
    greedy = head.sample(parameters, None)
    silent = jax.tree.map(np.zeros_like, noise(head, 1))
    same = head.sample(parameters, silent)
    jax.tree.map(np.testing.assert_array_equal, greedy, same)
    best = head.log_probability(parameters, greedy)
    for seed in range(5):
        other = head.sample(parameters, noise(head, seed))
        assert np.all(head.log_probability(parameters, other) <= best)


# --- Heads with one part --------------------------------------------------------------------------


def test_discrete_actions_are_numbered_from_their_start() -> None:
    head = action_head(spaces.Discrete(4, start=-2))
    actions = head.sample(np.float32([[0, 9, 0, 0], [0, 0, 0, 9]]), None)
    np.testing.assert_array_equal(actions, [1, 3])
    np.testing.assert_array_equal(head.to_environment(actions), [-1, 1])


def test_bounded_boxes_are_scaled_and_clipped() -> None:
    head = action_head(BOXES["bounded"])
    corners = [[-1, -1, -1], [0, 0, 0], [1, 1, 1], [-9, 9, -9], [0.5, -0.5, 0.5]]
    expected = [[-2, 0, 10], [0, 0.5, 10.5], [2, 1, 11], [-2, 1, 10], [1, 0.25, 10.75]]
    actions = np.array(corners, np.float32)
    np.testing.assert_allclose(head.to_environment(actions), expected)
    on_jax = jax.vmap(head.to_environment)(jnp.asarray(actions))
    np.testing.assert_allclose(on_jax, expected)


def test_half_bounded_boxes_are_only_clipped() -> None:
    head = action_head(BOXES["half-bounded"])
    actions = np.array([[-3.0, 3.0], [3.0, -3.0]], np.float32)
    np.testing.assert_allclose(head.to_environment(actions), [[-3.0, 3.0], [-0.5, 0.5]])


def test_matrices_have_their_shape_and_dtype() -> None:
    for name in ("matrix", "float16", "multi-binary matrix"):
        space = ACTION_SPACES[name]
        head = action_head(space)
        action = head.to_environment(head.sample(head_parameters(head), None))
        assert action.shape == (COPIES, *space.shape)
        assert action.dtype == space.dtype


@pytest.mark.parametrize("scale", ["free", "network"])
def test_gaussian_parameters_are_means_then_log_scales(scale: Any) -> None:
    head = action_head(BOXES["bounded"], GaussianForm(scale))
    assert (head.outputs, head.free_params) == ((3, 3) if scale == "free" else (6, 0))
    parameters, action = head_parameters(head), np.ones((COPIES, 3), np.float32)
    normal = scipy.stats.norm(parameters[:, :3], np.exp(parameters[:, 3:].astype(np.float64)))
    expected = normal.logpdf(1.0).sum(-1)
    np.testing.assert_allclose(head.log_probability(parameters, action), expected, rtol=1e-5)
    np.testing.assert_allclose(head.entropy(parameters), normal.entropy().sum(-1), rtol=1e-5)


def test_bernoulli_log_probability_and_entropy() -> None:
    head = action_head(DISCRETE["multi-binary"])
    parameters = head_parameters(head)
    bits = head.sample(parameters, noise(head, 2))
    chances = scipy.stats.bernoulli(scipy.special.expit(parameters.astype(np.float64)))
    found = head.log_probability(parameters, bits)
    np.testing.assert_allclose(found, chances.logpmf(bits).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(head.entropy(parameters), chances.entropy().sum(-1), rtol=1e-5)


# --- Heads with several parts ---------------------------------------------------------------------

EvaluationWorker = tuple[ActionHead, np.ndarray, Any]


def parts_of(space: spaces.Space[Any], outputs: np.ndarray, free: np.ndarray, action: Any) -> Any:
    """Return a space's simple heads in order, with their parameters and actions."""
    match space:
        case spaces.Tuple():
            children = list(space)
        case spaces.Dict():
            children = list(space.spaces.values())
        case spaces.MultiDiscrete():
            sizes, starts = space.nvec.reshape(-1), space.start.reshape(-1)
            children = [spaces.Discrete(n, start=s) for n, s in zip(sizes, starts, strict=True)]
        case _:
            parameters = np.concatenate([outputs, free], axis=-1)
            yield action_head(space), parameters, action
            return
    assert len(children) == len(action)
    for child, one in zip(children, action, strict=True):
        head = action_head(child)
        yield from parts_of(child, outputs[:, : head.outputs], free[:, : head.free_params], one)
        outputs, free = outputs[:, head.outputs :], free[:, head.free_params :]
    assert outputs.shape[1] == free.shape[1] == 0


@action_spaces()
def test_log_probability_and_entropy_are_sums_over_the_parts(space: spaces.Space[Any]) -> None:
    head = action_head(space)
    parameters = head_parameters(head)
    action = head.sample(parameters, noise(head, 3))
    outputs, free = parameters[:, : head.outputs], parameters[:, head.outputs :]
    parts = list(parts_of(space, outputs, free, action))
    log_probability = sum(part.log_probability(own, one) for part, own, one in parts)
    entropy = sum(part.entropy(own) for part, own, _ in parts)
    np.testing.assert_allclose(head.log_probability(parameters, action), log_probability, rtol=1e-5)
    np.testing.assert_allclose(head.entropy(parameters), entropy, rtol=1e-5)


@pytest.mark.parametrize("space", NESTED.values(), ids=NESTED.keys())
def test_parts_are_independent(space: spaces.Space[Any]) -> None:
    """The frequencies of the first discrete part do not depend on the other parts."""
    head = action_head(space)
    row = (
        np.random.default_rng(8)
        .normal(size=(1, head.outputs + head.free_params))
        .astype(np.float32)
    )
    copies = 4_000
    parameters = np.repeat(row, copies, axis=0)
    action = head.sample(parameters, noise(head, 4, copies))
    outputs, free = parameters[:, : head.outputs], parameters[:, head.outputs :]
    discrete = [
        (own, one)
        for part, own, one in parts_of(space, outputs, free, action)
        if type(part).__name__ == "CategoricalHead"
    ]
    assert discrete
    for own, one in discrete:
        expected = scipy.special.softmax(own[0].astype(np.float64))
        found = np.bincount(one, minlength=len(expected)) / copies
        assert np.all(np.abs(found - expected) < 4 * np.sqrt(0.25 / copies))


@pytest.mark.parametrize("space", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_other_spaces_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"^action.* which poise cannot act in"):
        action_head(space)


def test_the_unsupported_part_is_named() -> None:
    space = spaces.Dict({"arm": spaces.Tuple([spaces.Discrete(2), spaces.Text(3)])})
    with pytest.raises(UnsupportedSpaceError, match=r"^action\['arm'\]\[1\] is Text"):
        action_head(space)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (40, 3), np.uint8),
        spaces.Box(-1000, 1000, (2,), np.int64),
        spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (1,), np.int64),
    ],
)
def test_boxes_of_too_many_integers_are_refused(space: spaces.Box) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"too many values.*a Box of floats"):
        action_head(space)


def test_the_integers_of_a_box_are_categories_from_low_to_high() -> None:
    space = spaces.Box(np.array([[-2, 0]]), np.array([[1, 4]]), dtype=np.int64)
    head = action_head(space)
    assert head.outputs == 4 + 5
    parameters = np.zeros((1, 9), np.float32)
    parameters[0, 3] = parameters[0, 4 + 2] = 1
    action = unbatch(head.to_environment(head.sample(parameters, None)), space, 0)
    np.testing.assert_array_equal(action, [[1, 2]])
    assert action.dtype == np.int64


def test_actions_from_xla_get_the_dtype_of_their_space() -> None:
    space = spaces.Dict({"a": spaces.Box(0, 1, (1,), np.int64), "b": spaces.MultiDiscrete([3])})
    narrow = {"a": np.ones((2, 1), np.int32), "b": np.ones((2, 1), np.int32)}
    for action in (unbatch(narrow, space, 0), as_typed(narrow, space)):
        assert {one.dtype for one in action.values()} == {np.dtype(np.int64)}


def test_huge_bounds_count_as_no_bounds() -> None:
    """Actions are not scaled to such bounds, and nothing overflows."""
    largest = np.finfo(np.float32).max
    head = action_head(spaces.Box(-largest, largest, (2,)))
    found = head.to_environment(np.array([[0.5, -30.0]], np.float32))
    np.testing.assert_array_equal(found, [[0.5, -30.0]])


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(2, start=2**40), spaces.MultiDiscrete([2, 2], start=[0, -(2**40)])],
)
def test_categories_beyond_int32_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="number them from 0"):
        action_head(space)


@pytest.mark.parametrize("scale", ["free", "network"])
@pytest.mark.parametrize("log_scale", [-1e4, 1e4])
def test_a_diverged_gaussian_scale_stays_finite(scale: Any, log_scale: float) -> None:
    head = action_head(BOXES["bounded"], GaussianForm(scale))
    parameters = np.array([0, 0, 0, *[log_scale] * 3], np.float32)
    action = head.sample(parameters, np.full(3, 3.0, np.float32))
    assert np.isfinite(action).all()
    elsewhere = np.full(3, 100.0, np.float32)
    for one in (action, elsewhere):
        assert np.isfinite(head.log_probability(parameters, one))
        assert np.isfinite(
            jax.grad(lambda p, one=one: head.log_probability(p, one))(parameters)
        ).all()
    assert np.isfinite(head.entropy(parameters))
