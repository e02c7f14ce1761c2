"""The registry of learning algorithms, by name."""

import dataclasses

from poise.config import TrainConfig
from poise.learning.algorithms.a2c import A2C
from poise.learning.algorithms.a3c import A3C
from poise.learning.algorithms.algorithm import Algorithm
from poise.learning.algorithms.appo import APPO
from poise.learning.algorithms.impala import Impala
from poise.learning.algorithms.nstep_q import NStepQ
from poise.learning.algorithms.one_step_q import OneStepQ
from poise.learning.algorithms.one_step_sarsa import OneStepSarsa
from poise.learning.algorithms.ppo import PPO

__all__ = ["ALGORITHMS", "make_algorithm"]

_ALL = A3C, A2C, PPO, Impala, APPO, NStepQ, OneStepQ, OneStepSarsa

ALGORITHMS: dict[str, type] = {algorithm.name: algorithm for algorithm in _ALL}
"""The algorithms' dataclasses; each field is a setting of the same name."""


def make_algorithm(config: TrainConfig) -> Algorithm:
    """Make the algorithm that a run's settings name, with those settings."""
    algorithm = ALGORITHMS[config.algorithm]
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(algorithm)}
    made: Algorithm = algorithm(**settings)
    return made
