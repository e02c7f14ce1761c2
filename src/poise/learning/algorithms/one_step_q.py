"""Asynchronous one-step Q-learning (Mnih et al. 2016, arXiv 1602.01783, Algorithm 1)."""

import dataclasses
from typing import ClassVar

from poise.learning.algorithms.nstep_q import NStepQ

__all__ = ["OneStepQ"]


@dataclasses.dataclass(frozen=True)
class OneStepQ(NStepQ):
    r"""One-step Q-learning: :math:`G_t = r_t + \gamma \max_a Q(s_{t+1}, a; \theta^-)`."""

    name: ClassVar[str] = "one_step_q"
    backup_lambda: ClassVar[float] = 0.0
