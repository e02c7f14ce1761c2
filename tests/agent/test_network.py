"""The interface of networks, and the base classes for adapters."""

from typing import Any

import jax
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.acting import choose_acting, make_actor
from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.network import Network, RunsOnNumpy
from poise.errors import ConfigError

from .examples import Recurrent, recurrent_agent

IMAGE = spaces.Box(0, 255, (16, 12, 3), np.uint8)
BOX = spaces.Box(-1.0, 1.0, (2,))


def products(jaxpr: Any, inside_scan: bool = False) -> list[bool]:
    """For each matrix product, return whether it is computed step by step."""
    found = []
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            found.append(inside_scan)
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(part):
                found += products(getattr(part, "jaxpr", part), inside_scan or name == "scan")
    return found


def _is_jaxpr(part: Any) -> bool:
    return hasattr(part, "eqns") or hasattr(part, "jaxpr")


def test_built_in_networks_fit_the_protocol_and_only_the_mlp_runs_on_numpy() -> None:
    for space, on_numpy in ((BOX, True), (IMAGE, False)):
        network = build_agent(space, spaces.Discrete(2), NetworkSpec(), None)[0].network
        assert isinstance(network, Network)
        assert isinstance(network, RunsOnNumpy) is on_numpy
    assert isinstance(Recurrent(2, 3, 4), Network)


def test_torso_and_heads_are_not_computed_step_by_step() -> None:
    """Three products: of the observation, of the policy and of the value; the core has none."""
    agent, vector = recurrent_agent(inputs=2, memory=3)
    unroll = agent.network.unroll
    arguments = agent.layout.unflatten(vector), np.zeros((7, 2)), np.zeros(3), np.zeros(7, np.bool_)
    found = products(jax.make_jaxpr(unroll)(*arguments).jaxpr)
    assert found == [False] * 3


def test_the_initial_state_may_differ_from_0() -> None:
    class Biased(Recurrent):
        def initial_state(self) -> np.ndarray:
            return np.full(3, 0.5, np.float32)

    network = Biased(2, 3, 4)
    parameters = network.init(np.random.default_rng(0))
    observation, remembered = np.ones(2, np.float32), np.full(3, -2.0, np.float32)
    begun = network.apply(parameters, observation, remembered, np.bool_(True))
    expected = np.tanh(0.25 + observation @ parameters["weight"])
    np.testing.assert_allclose(begun.state, expected, rtol=1e-5)
    agent, _ = build_agent(
        BOX, spaces.Discrete(4), NetworkSpec(), None, network_factory=lambda *given: network
    )
    np.testing.assert_array_equal(agent.initial_state(2), np.full((2, 3), 0.5))


def test_networks_without_numpy_support_act_in_xla() -> None:
    agent, _ = recurrent_agent()
    assert choose_acting(agent, 1) == "xla"
    with pytest.raises(ConfigError, match="NumPy cannot run a leaky sum"):
        make_actor(agent, "numpy")


def test_parameters_are_counted_before_the_network_is_made() -> None:
    class Vast(Recurrent):
        def init(self, generator: np.random.Generator) -> Any:
            raise AssertionError("nothing may be allocated")

    with pytest.raises(ConfigError, match="would have 7,000,000 parameters, more than 1,000"):
        build_agent(
            BOX,
            spaces.Discrete(4),
            NetworkSpec(),
            np.random.SeedSequence(0),
            1000,
            lambda space, outputs, free: Vast(2, 10**6, outputs),
        )
