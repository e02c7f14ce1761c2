"""The command ``poise random``."""

import dataclasses

from tyro.conf import Positional

from poise.commands.score_text import print_score
from poise.config import STEP_LIMIT, EnvironmentChoice

__all__ = ["Random"]


@dataclasses.dataclass(frozen=True)
class Random:
    """Score uniformly random actions on Gymnasium's own environment, as a baseline."""

    environment: Positional[str] = "CartPole-v1"
    """Gymnasium id of the environment, or its import path module:attribute."""

    env_kwargs: tuple[str, ...] = ()
    """Arguments of the environment's constructor as key=value; values are Python literals."""

    wrappers: tuple[str, ...] = ()
    """Import paths module:attribute of Gymnasium wrappers, applied in this order."""

    ignore_observations: tuple[str, ...] = ()
    """Parts of Dict and Tuple observations to leave out, as in train."""

    sticky_actions: float = 0.0
    """Atari only: probability, from 0 to 1, that the previous action is repeated."""

    episodes: int = 100
    """Number of episodes to play."""

    seed: int = 0
    """Root seed of the episodes."""

    step_limit: int = STEP_LIMIT
    """Episodes are cut after this many steps, and counted as cut."""

    json: bool = False
    """Print the result as one JSON object."""

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
