"""A2C: A3C whose workers wait for each other, so that the mean of their gradients is applied.

The synchronous variant of Mnih et al. 2016 (arXiv 1602.01783), as in Wu et al. 2017 (arXiv
1708.05144, section 5). Its runs do not depend on how fast the workers are: for a seed they are the
same under every launcher.
"""

import dataclasses
from typing import ClassVar

from poise.learning.algorithms.a3c import A3C
from poise.learning.discipline import DisciplineName

__all__ = ["A2C"]


@dataclasses.dataclass(frozen=True)
class A2C(A3C):
    """A2C with its settings: those of A3C."""

    name: ClassVar[str] = "a2c"
    discipline: ClassVar[DisciplineName] = "synchronous"
