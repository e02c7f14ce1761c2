"""Examples for tests: spaces of all supported and unsupported kinds, and a recurrent network."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.agent.network import RecurrentNetwork

INFINITY = np.inf


def box(low: list[float], high: list[float]) -> spaces.Box:
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


DISCRETE: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "discrete with a start": spaces.Discrete(4, start=-2),
    "multi-discrete": spaces.MultiDiscrete([3, 2, 4]),
    "multi-discrete with starts": spaces.MultiDiscrete([[3, 2], [2, 5]], start=[[1, -1], [0, 7]]),
    "multi-binary": spaces.MultiBinary(5),
    "multi-binary matrix": spaces.MultiBinary((2, 3)),
}
BOXES: dict[str, spaces.Space[Any]] = {
    "bounded": box([-2.0, 0.0, 10.0], [2.0, 1.0, 11.0]),
    "half-bounded": box([-INFINITY, 0.5], [-0.5, INFINITY]),
    "matrix": spaces.Box(-1.0, 1.0, (2, 3)),
    "unbounded": spaces.Box(-INFINITY, INFINITY, (2,)),
    "in part bounded": box([-INFINITY, -1.0, -INFINITY], [INFINITY, 1.0, 3.0]),
    "scalar": spaces.Box(-1.0, 1.0, ()),
    "float16": spaces.Box(np.float16(-0.1), np.float16(0.3), (2,), np.float16),
    "float64": spaces.Box(0.1, 0.3, (2,), np.float64),
}
NESTED: dict[str, spaces.Space[Any]] = {
    "tuple": spaces.Tuple([spaces.Discrete(3, start=1), box([0.0, -1.0], [4.0, 1.0])]),
    "dict": spaces.Dict(
        {
            "steer": box([-1.0], [1.0]),
            "gear": spaces.Discrete(5),
            "lights": spaces.MultiBinary(2),
        }
    ),
    "nested": spaces.Dict(
        {
            "arms": spaces.Tuple(
                [
                    spaces.Dict({"grip": spaces.Discrete(2), "reach": spaces.Box(-1, 1, (2,))}),
                    spaces.MultiDiscrete([2, 3], dtype=np.int32),
                ]
            ),
            "legs": spaces.Box(-0.5, 0.5, (2, 2)),
        }
    ),
    "keys of every kind": spaces.Dict(
        {  # type: ignore[dict-item]
            "b": spaces.Discrete(3),
            1: spaces.Box(-1, 1, (2,)),
            (0, "y"): spaces.Dict({10: spaces.Discrete(2), 9: spaces.MultiBinary(2)}),
            "": spaces.Discrete(2),
            "a/b.c ü\n": spaces.Discrete(2),
        }
    ),
}
INTEGERS: dict[str, spaces.Space[Any]] = {
    "small integers": spaces.Box(-2, 3, (2, 2), np.int64),
    "a byte": spaces.Box(0, 255, (1,), np.uint8),
    "one integer": spaces.Box(0, 1, (), np.int32),
    "switches": spaces.Box(0, 1, (2,), np.bool_),
}
"""Boxes of integers, which are treated as categories."""
ACTION_SPACES = DISCRETE | BOXES | NESTED | INTEGERS

OBSERVATION_SPACES = (
    DISCRETE
    | BOXES
    | NESTED
    | {
        "integers": spaces.Box(-7, 9, (3,), np.int32),
        "large integers": spaces.Box(-(2**62), 2**62, (2,), np.int64),
        "booleans": spaces.Box(0, 1, (2,), np.bool_),
    }
)
BYTES = spaces.Box(0, 255, (4, 5, 3), np.uint8)

UNSUPPORTED: dict[str, spaces.Space[Any]] = {
    "text": spaces.Text(5),
    "sequence": spaces.Sequence(spaces.Discrete(2)),
    "graph": spaces.Graph(spaces.Discrete(2), None),
    "one of": spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]),
    "text in a dict": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Text(5)}),
    "text in a tuple": spaces.Tuple([spaces.Tuple([spaces.Text(5)])]),
}


class Recurrent(RecurrentNetwork):
    """A leaky sum of the observations, reset at each episode's start; uses no framework."""

    def __init__(self, inputs: int, memory: int, outputs: int) -> None:
        self._shapes = {
            "weight": (inputs, memory),
            "policy": (memory, outputs),
            "value": (memory,),
        }

    def shapes(self) -> Any:
        return {
            name: jax.ShapeDtypeStruct(shape, np.dtype(np.float32))
            for name, shape in self._shapes.items()
        }

    def init(self, generator: np.random.Generator) -> Any:
        return {
            name: generator.normal(size=shape).astype(np.float32)
            for name, shape in self._shapes.items()
        }

    def initial_state(self) -> np.ndarray:
        return np.zeros(self._shapes["value"], np.float32)

    def torso(self, parameters: Any, observation: Any) -> Any:
        return observation @ parameters["weight"]

    def core(self, parameters: Any, features: Any, state: Any) -> tuple[Any, Any]:
        state = jnp.tanh(jnp.float32(0.5) * state + features)
        return state, state

    def heads(self, parameters: Any, features: Any) -> tuple[Any, Any]:
        return features @ parameters["policy"], features @ parameters["value"]

    def describe(self) -> str:
        return "a leaky sum"


def recurrent_agent(inputs: int = 2, memory: int = 3, actions: int = 4) -> tuple[Agent, np.ndarray]:
    """Make an agent with a recurrent network, and its parameters."""
    return build_agent(
        spaces.Box(-1.0, 1.0, (inputs,)),
        spaces.Discrete(actions),
        NetworkSpec(()),
        np.random.SeedSequence(11),
        network_factory=lambda space, outputs, free: Recurrent(inputs, memory, outputs),
    )
