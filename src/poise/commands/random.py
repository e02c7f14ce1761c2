"""The command ``poise random``."""

import dataclasses

from tyro.conf import Positional

from poise.commands.score_text import print_score
from poise.config import STEP_LIMIT, EnvironmentChoice

__all__ = ["Random"]


@dataclasses.dataclass(frozen=True)
class Random:
    """The baseline: uniformly random actions on Gymnasium's own environment."""

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id of the environment, or an import path module:attribute."""

    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment's constructor as key=value; values are Python literals."""

    wrappers: tuple[str, ...] = ()
    """Import paths module:attribute of Gymnasium wrappers, applied in this order."""

    ignore_observations: tuple[str, ...] = ()
    """Parts of Dict and Tuple observations that are left out, as in train."""

    sticky_actions: float = 0.0
    """Atari only: probability that the emulator repeats the last action."""

    episodes: int = 100
    """Episodes to play."""

    seed: int = 0
    """Root of the episodes' seeds."""

    step_limit: int = STEP_LIMIT
    """An episode is cut after this many steps, and counted as cut."""

    json: bool = False
    """Print one JSON object."""

    def __call__(self) -> int:
        """Play and print the score."""
        from poise.evaluation.api import random_baseline  # noqa: PLC0415

        choice = EnvironmentChoice(
            self.environment,
            self.env_kwargs,
            self.wrappers,
            self.sticky_actions,
            self.ignore_observations,
        )
        score = random_baseline(
            choice,
            episodes=self.episodes,
            seed=self.seed,
            step_limit=self.step_limit,
        )
        print_score(self.environment, "random actions", score, None, self.json)
        return 0
