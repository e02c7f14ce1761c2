"""Play: a policy on Gymnasium's own environment, step by step, for people to watch."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from poise.agent.policy import Policy
from poise.config import STEP_LIMIT
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
    policy: Policy,
    *,
    episodes: int = 1,
    seed: int = 0,
    step_limit: int = STEP_LIMIT,
    render_mode: str | None = None,
    environment: EnvironmentFactory | None = None,
    trust: bool = False,
    greedy: bool | None = None,
) -> Iterator[PlayedStep]:
    """Play episodes; the environment is closed however the iteration ends.

    Args:
        policy: acts.
        episodes: how many.
        seed: root of the episodes' seeds, and of the sampling.
        step_limit: an episode is cut after so many steps.
        render_mode: ``human`` opens a window; None shows nothing.
        environment: makes the environment, instead of what the policy's file names.
        trust: import the environment that the policy's file names by an import path.
        greedy: take the most probable action, or sample; by default as ``policy.mode`` says.

    Raises:
        InputError: the environment cannot be made, or the policy does not fit it.
    """
    with closing(environment_of(policy, environment, trust)(render_mode)) as copy:
        actions = seed_sequence(seed, Purpose.EVALUATION_ACTIONS, int(Purpose.PLAY))
        player = policy.player(greedy, np.random.default_rng(actions))
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
