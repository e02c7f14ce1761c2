"""Play: the greedy policy on Gymnasium's own environment, step by step, for people to watch."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium

from poise.agent.policy import Policy
from poise.config import TrainConfig
from poise.runs.folder import Which, policy_of
from poise.runs.stage import environment_of
from poise.runs.trust import EnvironmentFactory
from poise.world.seeding import Purpose, environment_seed, seed_sequence

__all__ = ["PlayedStep", "play"]


class PlayedStep(NamedTuple):
    """One step of an episode."""

    episode: int
    step: int
    action: Any
    reward: float
    running_return: float
    ended: str
    """``terminated``, ``truncated``, ``cut`` at the step limit, or empty."""


def play(
    policy: Policy | str | Path,
    *,
    episodes: int = 1,
    seed: int = 0,
    step_limit: int = TrainConfig.evaluation_step_limit,
    render_mode: str | None = None,
    which: Which = "best",
    environment: EnvironmentFactory | None = None,
    trust: bool = False,
) -> Iterator[PlayedStep]:
    """Play episodes; the environment is closed however the iteration ends.

    Args:
        policy: acts greedily; a policy, or the path of a run's folder or of a policy file.
        episodes: how many.
        seed: root of the episodes' seeds.
        step_limit: an episode is cut after so many steps.
        render_mode: ``human`` opens a window; None shows nothing.
        which: of a run's folder: the ``best`` or the ``final`` policy.
        environment: makes the environment, instead of what the policy's file names.
        trust: import the environment that the policy's file names by an import path.

    Raises:
        InputError: there is no such policy or environment, at once; the environment cannot be made,
            or the policy does not fit it, when the first step is asked for.
    """
    policy = policy_of(policy, which)
    make = environment_of(policy, environment, trust)
    return _steps(policy, lambda: make(render_mode), episodes, seed, step_limit)


def _steps(
    policy: Policy,
    make: Callable[[], gymnasium.Env[Any, Any]],
    episodes: int,
    seed: int,
    step_limit: int,
) -> Iterator[PlayedStep]:
    with closing(make()) as copy:
        player = policy.player()
        for episode in range(episodes):
            reset_seed = environment_seed(seed_sequence(seed, Purpose.PLAY, episode))
            observation, _ = copy.reset(seed=reset_seed)
            player.reset()
            total, step, ended = 0.0, 0, ""
            while not ended:
                action = player.act(observation)
                observation, reward, terminated, truncated, _ = copy.step(action)
                total += float(reward)
                step += 1
                if terminated:
                    ended = "terminated"
                elif truncated:
                    ended = "truncated"
                elif step >= step_limit:
                    ended = "cut"
                yield PlayedStep(episode, step, action, float(reward), total, ended)
