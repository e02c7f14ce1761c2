"""The registry of learning algorithms, by name."""

from collections.abc import Callable

from poise.config import TrainConfig
from poise.learning.algorithms.a2c import A2C
from poise.learning.algorithms.a3c import A3C
from poise.learning.algorithms.algorithm import Algorithm
from poise.learning.algorithms.ppo import PPO

__all__ = ["ALGORITHMS", "make_algorithm"]

ALGORITHMS: dict[str, Callable[[TrainConfig], Algorithm]] = {
    A3C.name: A3C.from_config,
    A2C.name: A2C.from_config,
    PPO.name: PPO.from_config,
}
"""A function for each algorithm that makes it from a run's settings."""


def make_algorithm(config: TrainConfig) -> Algorithm:
    """Make the algorithm that a run's settings name."""
    return ALGORITHMS[config.algorithm](config)
