"""Seeds: all random numbers of a run derive from its root seed.

NumPy's `SeedSequence` derives each seed from the root seed, a purpose, and numbers such as worker
and generation. Nothing reads the clock or the system's entropy.
"""

import enum
from typing import Any

import jax
import numpy as np

__all__ = [
    "Purpose",
    "environment_seed",
    "environment_seeds",
    "key_data",
    "seed_sequence",
    "typed_key",
]


class Purpose(enum.IntEnum):
    """The purpose of a seed. Replays depend on the values: never renumber them."""

    PARAMETERS = 0
    ROLLOUT = 1
    SELECTION = 2
    VERIFICATION = 3
    EVALUATION = 4
    RANDOM = 5
    PLAY = 6
    BENCHMARK = 7
    ENVIRONMENT = 8
    EVALUATION_ACTIONS = 9
    LEARNING = 10


def seed_sequence(root: int, purpose: Purpose, *numbers: int) -> np.random.SeedSequence:
    """Return the seed for one purpose and, for example, one worker and generation."""
    return np.random.SeedSequence(root, spawn_key=(int(purpose), *numbers))


def key_data(seed: np.random.SeedSequence) -> np.ndarray:
    """Return the ``[2]`` uint32 key data of a JAX threefry key."""
    return seed.generate_state(2, np.uint32)


def typed_key(data: Any) -> Any:
    """Return the JAX key with this ``[2]`` uint32 key data."""
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def environment_seed(seed: np.random.SeedSequence) -> int:
    """Return a seed for ``Env.reset``, from 0 to 2**31 - 1 (some accept no larger one)."""
    return int(seed.generate_state(1, np.uint32)[0] >> 1)


def environment_seeds(
    root: int, worker: int, generation: int, copies: int, life: int = 0
) -> list[int]:
    """Return the seeds of a worker's environment copies.

    ``life`` counts how often the worker has closed its copies and made new ones.
    """
    lives = (life,) if life else ()
    return [
        environment_seed(seed_sequence(root, Purpose.ENVIRONMENT, worker, generation, copy, *lives))
        for copy in range(copies)
    ]
