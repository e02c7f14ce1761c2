"""The command ``poise evaluate``."""

import dataclasses
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from poise.commands.score_text import print_score
from poise.config import EVALUATION_COPIES, STEP_LIMIT

__all__ = ["Evaluate"]


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a run's policy on fresh episodes of Gymnasium's own environment."""

    run: Positional[Path]
    """A run's folder, or a policy file."""

    episodes: int = 100
    """Number of episodes to play, each with its own seed."""

    policy: Literal["greedy", "sampled"] | None = None
    """Choose the most probable action (greedy) or sample one. Default: as in the run's own
    score."""

    which: Literal["best", "final"] = "best"
    """Which policy to score: the best one, selected by evaluations in training, or the final
    one."""

    seed: int = 0
    """Root seed of the episodes and of sampled actions."""

    step_limit: int = STEP_LIMIT
    """Episodes are cut after this many steps, and counted as cut."""

    copies: int = EVALUATION_COPIES
    """Maximum number of environment copies open at once; the score does not depend on it. Only one
    is used if copies share state."""

    json: bool = False
    """Print the result as one JSON object."""

    trust: bool = False
    """Allow importing the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Evaluate and print the score."""
        from poise.evaluation.api import evaluate  # noqa: PLC0415
        from poise.storage.run_folder import load, target_return  # noqa: PLC0415

        run = self.run.absolute()
        policy = load(run, self.which, self.trust)
        score = evaluate(
            policy,
            episodes=self.episodes,
            greedy=None if self.policy is None else self.policy == "greedy",
            seed=self.seed,
            step_limit=self.step_limit,
            copies=self.copies,
            trust=self.trust,
        )
        kind = "greedy actions" if score.greedy else "sampled actions"
        target = target_return(run, policy.environment)
        setup = ""
        if policy.environment.is_atari:
            setup = f", sticky actions {policy.environment.sticky_actions:g}"
        print_score(policy.environment.name, kind, score, target, self.json, setup)
        return 0
