"""The command ``poise play``."""

import dataclasses
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from poise.commands.values import require_positive
from poise.config import STEP_LIMIT
from poise.errors import ConfigError
from poise.number_format import number

__all__ = ["Play"]


@dataclasses.dataclass(frozen=True)
class Play:
    """Play a run's policy on Gymnasium's own environment, and print a line per episode."""

    run: Positional[Path]
    """A run's folder, or a policy file."""

    episodes: int = 1
    """Number of episodes to play."""

    steps: bool = False
    """Also print a line per step."""

    render: Literal["none", "human"] = "none"
    """human opens a window (needs pip install 'poise[render]')."""

    which: Literal["best", "final"] = "best"
    """Which policy to play: the best one, selected by evaluations in training, or the final one."""

    policy: Literal["greedy", "sampled"] | None = None
    """Choose the most probable action (greedy) or sample one. Default: as in the run's own
    score."""

    seed: int = 0
    """Root seed of the episodes and of sampled actions."""

    step_limit: int = STEP_LIMIT
    """Episodes are cut after this many steps."""

    trust: bool = False
    """Allow importing the environment and wrappers that the run's files name by import path."""

    def __call__(self) -> int:
        """Play. Ctrl-C stops, and closes the environment."""
        from poise.evaluation.play import play  # noqa: PLC0415
        from poise.storage.run_folder import load  # noqa: PLC0415

        require_positive("--episodes", self.episodes)
        require_positive("--step-limit", self.step_limit)
        if self.seed < 0:
            raise ConfigError(f"--seed is {self.seed}, but must be 0 or more")
        steps = play(
            load(self.run, self.which, self.trust),
            episodes=self.episodes,
            seed=self.seed,
            step_limit=self.step_limit,
            render_mode=None if self.render == "none" else self.render,
            trust=self.trust,
            greedy=None if self.policy is None else self.policy == "greedy",
        )
        for step in steps:
            total = number(step.running_return)
            if self.steps:
                print(
                    f"episode {step.episode + 1}  step {step.step}  action {step.action}  "
                    f"reward {number(step.reward)}  return {total}"
                )
            if step.ended:
                print(
                    f"episode {step.episode + 1} {step.ended} after {step.step} steps "
                    f"with return {total}",
                    flush=True,
                )
        return 0
