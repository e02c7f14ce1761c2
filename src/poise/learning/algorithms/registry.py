"""The registry of learning algorithms, by name."""

import dataclasses
from typing import Any

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
from poise.learning.discipline import DisciplineName

__all__ = ["ALGORITHMS", "make_algorithm"]

_ALL = A3C, A2C, PPO, Impala, APPO, NStepQ, OneStepQ, OneStepSarsa

ALGORITHMS: dict[str, Any] = {algorithm.name: algorithm for algorithm in _ALL}
"""The algorithms' dataclasses; each field but `ANNEALING` is a setting of the same name."""
ANNEALING = "annealing_updates"


def make_algorithm(config: TrainConfig) -> Algorithm:
    """Make the algorithm that a run's settings name, with those settings."""
    algorithm = ALGORITHMS[config.algorithm]
    names = {field.name for field in dataclasses.fields(algorithm)}
    settings = {name: getattr(config, name) for name in names - {ANNEALING}}
    if ANNEALING in names:
        settings[ANNEALING] = _annealing_updates(config, algorithm.discipline)
    made: Algorithm = algorithm(**settings)
    return made


def _annealing_updates(config: TrainConfig, discipline: DisciplineName) -> float | None:
    steps = config.annealing_steps or config.max_steps
    if not config.annealed_settings or steps is None:
        return None
    rollouts = 1 if discipline == "asynchronous" else config.workers
    return steps / (rollouts * config.envs_per_worker * config.rollout_length)
