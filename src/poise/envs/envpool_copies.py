"""Copies of an environment in EnvPool, stepped from Python, or by XLA in the compiled cycle."""

import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise.envs.env_factory import EnvFactory
from poise.envs.envpool_vector import EnvPoolVector, make_envpool_vector
from poise.envs.pool_calls import close_handle, open_handle, result_shapes, step_target
from poise.envs.vector_env import VectorCopies
from poise.errors import TrainingError
from poise.trajectory import StepResult

__all__ = ["EnvPoolCopies", "make_envpool_copies", "steps_in_xla"]


FIRST_JAX = (0, 9, 2)
"""The first JAX that was seen to have the interface (0.3) that EnvPool 1.2.5 is compiled for."""


def steps_in_xla() -> bool:
    """Return whether XLA can step EnvPool here; elsewhere it is stepped from Python."""
    is_new = jax.__version_info__[:3] >= FIRST_JAX
    return is_new and sys.platform == "linux" and jax.default_backend() == "cpu"


def make_envpool_copies(
    env_factory: EnvFactory, count: int, *, threads: int = 1
) -> "EnvPoolCopies":
    """Make N copies in EnvPool; see `make_envpool_vector`."""
    return EnvPoolCopies(make_envpool_vector(env_factory, count, threads=threads))


class EnvPoolCopies:
    """N copies in one pool, whose handle is an argument of XLA's calls."""

    def __init__(self, vector: EnvPoolVector) -> None:
        self._vector = vector
        self._checked = VectorCopies(vector, vector.single_observation_space, a_seed_each=True)
        self._handle: np.ndarray | None = None

    def reset(self, seeds: Sequence[int]) -> Any:
        """Reset every copy with its own seed, in a new pool."""
        self.close()
        return self._checked.reset(seeds)

    def step(self, actions: Any) -> StepResult:
        """Step all copies from Python; those whose episode has ended are reset instead."""
        return self._checked.step(actions)

    def describe_activity(self) -> str:
        """Describe what is being stepped or was stepped last from Python."""
        return self._checked.describe_activity()

    def handle(self) -> np.ndarray:
        """Return the handle of these copies, ``[8]`` uint8; valid until the next reset."""
        if self._vector.pool is None:
            raise TrainingError("the pool has never been reset")
        if self._handle is None:
            self._handle = open_handle(self._vector.pool)
        return self._handle

    def step_in_xla(self, handle: Any, actions: Any) -> tuple[Any, StepResult]:
        """Step the copies of a handle, inside a compiled function.

        The function depends only on the environment and N, not on the copies it is traced with.
        """
        count = self._vector.num_envs
        pool = self._vector.make([0] * count)
        target = step_target(self._vector.name, pool)
        action_dtype = np.dtype(pool.spec.action_array_spec["action"].dtype)
        # MuJoCo's arrays are float64, which JAX usually has only in such a block.
        with jax.enable_x64(True):
            shapes = [
                jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
                for shape, dtype in result_shapes(pool)
            ]
            call = jax.ffi.ffi_call(
                target, shapes, has_side_effect=True, input_output_aliases={0: 0}
            )
            numbers = jnp.arange(count, dtype=jnp.int32)
            typed = jax.lax.convert_element_type(actions, action_dtype)
            handle, *results = call(handle, numbers, numbers, typed)
            named = dict(zip(pool.spec.state_array_spec, results, strict=True))
            observation, reward = (_narrow(named[key]) for key in ("obs", "reward"))
        truncated = named["trunc"]
        terminated = named["done"] & ~truncated
        return handle, StepResult(observation, reward, terminated, truncated)

    def close(self) -> None:
        """Let no program step these copies any more.

        The pool lives as long as this object, which whoever steps it holds: otherwise a new pool
        might get the address of one that an abandoned thread still steps.
        """
        if self._handle is not None:
            close_handle(self._handle)
            self._handle = None


def _narrow(array: Any) -> Any:
    """Return an array of XLA with at most 32 bits a number."""
    narrow = {"f": np.float32, "i": np.int32, "u": np.uint32}
    dtype = np.dtype(array.dtype)
    return jax.lax.convert_element_type(
        array, narrow[dtype.kind] if dtype.itemsize > 4 else dtype.type
    )
