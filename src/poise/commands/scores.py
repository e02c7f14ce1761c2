"""Commands that score: random actions, and a policy."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from poise.commands.values import terminal_width, wrapped
from poise.config import STEP_LIMIT, EnvironmentChoice, TrainConfig
from poise.number_format import as_given, number, with_interval

__all__ = ["Evaluate", "Random"]


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
    """An episode is cut after so many steps, and counted as cut."""

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
        _print_score(self.environment, "random actions", score, None, self.json)
        return 0


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
    """An episode is cut after so many steps, and counted as cut."""

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
        if policy.environment.name.startswith("ALE/"):
            setup = f", sticky actions {policy.environment.sticky_actions:g}"
        _print_score(policy.environment.name, kind, score, target, self.json, setup)
        return 0


def _print_score(
    name: str, kind: str, score: Any, target: float | None, as_json: bool, setup: str = ""
) -> None:
    solved = None if target is None else bool(score.mean >= target)
    if as_json:
        from poise.observers.recorder import score_to_json  # noqa: PLC0415

        content = {"environment": name, **score_to_json(score)}
        if target is not None:
            content |= {"target_return": target, "solved": solved}
        print(json.dumps(content, indent=2))
        return
    print(f"{name}, {kind}, {score.episodes} episodes{setup}")
    against = () if target is None else (target,)
    if math.isfinite(score.standard_error):
        mean, low, high = with_interval(
            score.mean, score.standard_error, score.low, score.high, *against
        )
        text = f"mean {mean} (standard error)  95% interval {low} to {high}"
    else:
        # A single episode has none.
        text = f"mean {number(score.mean, *against)}"
    text += f"  min {number(score.minimum)}  max {number(score.maximum)}"
    print(wrapped(text, terminal_width()))
    if score.cut:
        print(f"{score.cut} episodes were cut at the step limit")
    if target is not None:
        print(f"{'solved' if solved else 'not solved'}: the target return is {as_given(target)}")
