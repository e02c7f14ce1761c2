"""The command ``poise evaluate``."""

import dataclasses
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from poise.commands.score_text import print_score
from poise.config import STEP_LIMIT, TrainConfig

__all__ = ["Evaluate"]


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a run's policy on fresh episodes of Gymnasium's own environment."""

    run: Positional[Path]
    """A run's folder, or a policy file."""

    episodes: int = 100
    """Episodes to play, each with a seed of its own."""

    policy: Literal["greedy", "sampled"] | None = None
    """Take the most probable action, or sample one. Default: as the run was scored."""

    which: Literal["best", "final"] = "best"
    """The policy that evaluation selected, or the last one."""

    seed: int = 0
    """Root of the episodes' seeds and of the sampling."""

    step_limit: int = STEP_LIMIT
    """An episode is cut after this many steps, and counted as cut."""

    copies: int = TrainConfig.evaluation_copies
    """Environment copies that are open at most; the score is the same for any number. One, where
    they share a state."""

    json: bool = False
    """Print one JSON object."""

    trust: bool = False
    """Import the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Evaluate and print the score."""
        from poise.evaluation.api import evaluate  # noqa: PLC0415
        from poise.storage.run_folder import load, target_return  # noqa: PLC0415

        run = self.run.absolute()
        policy = load(run, self.which)
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
