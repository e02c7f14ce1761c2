"""Objects and random number generators that copies of one environment may share."""

import random
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

import gymnasium
import numpy as np

from poise.errors import EnvironmentCheckError

__all__ = ["GlobalRandomState", "SharedRandomState", "layers", "positions", "require_new"]

Result = TypeVar("Result")


def layers(environment: Any) -> list[Any]:
    """Return an environment's wrappers, from the outermost inwards, then the environment itself.

    Any object with an environment as ``env`` counts as a wrapper, even if not a Gymnasium one.
    """
    found = [environment]
    while isinstance(inner := getattr(found[-1], "__dict__", {}).get("env"), gymnasium.Env):
        if any(inner is one for one in found):
            break
        found.append(inner)
    return found


def require_new(environment: Any, others: Sequence[Any], name: str) -> None:
    """Check that a copy is really a new object.

    Args:
        environment: the new copy.
        others: copies that were made before.
        name: name of the environment.

    Raises:
        EnvironmentCheckError: the copy is one of the others, or wraps the same object.
    """
    known = {id(layer) for other in others for layer in layers(other)}
    old = next((layer for layer in layers(environment) if id(layer) in known), None)
    if old is not None:
        raise EnvironmentCheckError(
            f"{name} gave the same {type(old).__qualname__} object twice: each call must make a "
            "new environment; give the class, or a function that makes one"
        )


class GlobalRandomState:
    """Saves the states of NumPy's and Python's global generators; restores them after a block."""

    def __init__(self) -> None:
        self._states = np.random.get_state(), random.getstate()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._restore()

    def repeat(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Return a version of a function that first restores the saved states."""

        def from_here() -> Result:
            self._restore()
            return work()

        return from_here

    def _restore(self) -> None:
        np.random.set_state(self._states[0])
        random.setstate(self._states[1])


class SharedRandomState:
    """Restores the generators that two copies share, and the global ones, after a block.

    Generators are searched among the attributes of the copies, of their wrappers and classes, and
    of the modules of these.

    Args:
        one: a copy.
        other: another copy.
    """

    def __init__(self, one: Any, other: Any) -> None:
        self._copies = one, other
        self._kept: list[tuple[Any, str, Any, Any]] = []
        self._global: GlobalRandomState | None = None

    def __enter__(self) -> None:
        self._global = GlobalRandomState()
        first, second = (_generators(copy) for copy in self._copies)
        other = {id(generator) for _, _, generator in second}
        self._kept = [
            (owner, name, generator, _state(generator))
            for owner, name, generator in first
            if id(generator) in other
        ]

    def __exit__(self, *raised: object) -> None:
        if self._global is not None:
            self._global.__exit__(*raised)
        for owner, name, generator, state in self._kept:
            # The generator of a class or module may have been replaced in the block.
            if isinstance(owner, type | ModuleType) and not isinstance(
                getattr(owner, name), gymnasium.Space
            ):
                setattr(owner, name, generator)
            _set_state(generator, state)


def _generators(environment: Any) -> list[tuple[Any, str, Any]]:
    """Return (owner, attribute name, generator) for every generator that is found."""
    found = []
    for layer in layers(environment):
        classes = type(layer).__mro__[:-1]
        modules = [sys.modules.get(one.__module__) for one in classes]
        for owner in (layer, *classes, *(one for one in modules if one is not None)):
            for name, value in list(getattr(owner, "__dict__", {}).items()):
                if isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
                    found.append((owner, name, value))
                elif isinstance(value, gymnasium.Space):
                    found.append((owner, name, value.np_random))
    return found


def positions(environment: Any) -> dict[tuple[int, str], str]:
    """Return the states of the generators that an environment and its wrappers hold.

    Observations with little content may agree by chance; generator states do not.
    """
    return {
        (depth, name): repr(_flat(_state(value)))
        for depth, layer in enumerate(layers(environment))
        for name, value in list(getattr(layer, "__dict__", {}).items())
        if isinstance(value, np.random.Generator | np.random.RandomState | random.Random)
    }


def _flat(state: Any) -> Any:
    if isinstance(state, dict):
        return [(name, _flat(one)) for name, one in state.items()]
    if isinstance(state, tuple):
        return [_flat(one) for one in state]
    return state.tolist() if isinstance(state, np.ndarray) else state


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state()
    return generator.getstate()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)
