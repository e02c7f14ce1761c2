"""A2C: synchronous A3C. Workers wait for each other, and the mean of their gradients is applied.

The synchronous variant of Mnih et al. 2016 (arXiv 1602.01783), as in Wu et al. 2017 (arXiv
1708.05144, section 5). Its runs do not depend on the speed of the workers: with the same seed,
every launcher gives the same run.
"""

import dataclasses
from typing import ClassVar

from poise.learning.algorithms.a3c import A3C
from poise.learning.discipline import DisciplineName

__all__ = ["A2C"]


@dataclasses.dataclass(frozen=True)
class A2C(A3C):
    """A2C; its settings are those of A3C."""

    name: ClassVar[str] = "a2c"
    discipline: ClassVar[DisciplineName] = "synchronous"
