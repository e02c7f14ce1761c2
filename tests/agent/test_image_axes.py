"""The meaning of an image's axes, and the number of its network's parameters."""

from typing import Any

import jax
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.image_axes import image_layout
from poise.agent.image_network import image_actor_critic
from poise.agent.layers import Outputs
from poise.errors import ConfigError


def box(*shape: int, dtype: Any = np.uint8, high: float = 255) -> spaces.Box:
    return spaces.Box(0, high, shape, dtype)


@pytest.mark.parametrize(
    ("shape", "axes", "channels"),
    [
        ((84, 84), "HW", 1),
        ((4, 84, 84), "CHW", 4),
        ((84, 84, 4), "HWC", 4),
        ((84, 84, 12), "HWC", 12),
        ((210, 160, 3), "HWC", 3),
        ((2, 48, 48, 3), "SHWC", 6),
        ((2, 3, 48, 48), "SCHW", 6),
        ((48, 48, 3, 2), "HWSC", 6),
        ((2, 4, 48, 48, 3), "SSHWC", 24),
    ],
)
def test_height_and_width_are_the_largest_neighbours(
    shape: tuple[int, ...], axes: str, channels: int
) -> None:
    layout = image_layout(box(*shape))
    assert layout is not None
    assert layout.axes == axes
    assert layout.channels == channels
    assert (layout.height, layout.width) == tuple(
        shape[axes.index(letter)] for letter in ("H", "W")
    )


@pytest.mark.parametrize(
    ("space", "image_axes", "axes"),
    [
        (box(10, 10, 4), "auto", None),
        (box(48, 48, 3, dtype=np.float32, high=1), "auto", None),
        (box(48, 48, 3, dtype=np.float32, high=1), "HWC", "HWC"),
        (box(48, 48, 3, dtype=np.float32, high=np.inf), "HWC", None),
        (box(48, 48, 3), "SHWC", "HWC"),
        (box(48, 48, 3), "none", None),
        (box(12, 20, 16), "CHW", "CHW"),
        (box(12, 20, 16), "WHC", "WHC"),
        (spaces.Discrete(4), "auto", None),
    ],
)
def test_a_setting_overrides_the_guess(
    space: spaces.Space[Any], image_axes: str, axes: str | None
) -> None:
    layout = image_layout(space, image_axes)
    assert (None if layout is None else layout.axes) == axes


def test_the_order_of_axes_does_not_change_the_image() -> None:
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)
    orders = {"SHWC": (0, 1, 2, 3), "SCHW": (0, 3, 1, 2), "HWSC": (1, 2, 0, 3)}
    seen = []
    for axes, order in orders.items():
        turned = np.ascontiguousarray(picture.transpose(order))
        space = box(*turned.shape)
        spec = NetworkSpec(image_axes="auto")
        agent, parameters = build_agent(space, spaces.Discrete(3), spec, np.random.SeedSequence(1))
        layout = image_layout(space)
        assert layout is not None
        assert layout.axes == axes
        act = jax.jit(lambda *seen, agent=agent: agent.apply(*seen, (), False))
        seen.append(np.asarray(act(parameters, turned).dist_params))
    for one in seen[1:]:
        np.testing.assert_allclose(one, seen[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "space",
    [
        box(84, 84, 4),
        box(2, 3, 16, 20),
        spaces.Dict({"a": box(20, 20), "b": spaces.Box(-1, 1, (3,)), "c": box(40, 40, 3)}),
    ],
)
def test_parameters_are_counted_without_making_them(space: spaces.Space[Any]) -> None:
    made = image_actor_critic(space, Outputs(5), np.random.default_rng(0))
    agent, parameters = build_agent(space, spaces.Discrete(5), NetworkSpec(), None)
    assert parameters.size == agent.layout.size == agent.layout.flatten(made).size
    with pytest.raises(ConfigError, match=f"{parameters.size:,} parameters, more than"):
        build_agent(space, spaces.Discrete(5), NetworkSpec(), None, parameters.size - 1)


def test_a_huge_image_is_refused_before_allocation() -> None:
    space = spaces.Box(0, 255, (6000, 6000), np.uint8)
    with pytest.raises(ConfigError, match="parameters, more than"):
        build_agent(space, spaces.Discrete(2), NetworkSpec(), None)
