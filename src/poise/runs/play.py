"""Play: the greedy policy on Gymnasium's own environment, step by step, for people to watch."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from poise.agent.policy import Policy
from poise.config import TrainConfig
from poise.runs.stage import environment_of
from poise.runs.trust import EnvironmentFactory
from poise.world.copy import close_environment, forget_closing
from poise.world.seeding import Purpose, environment_seed, seed_sequence
from poise.world.statistics_wrappers import with_true_rewards

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
    step_limit: int = TrainConfig.evaluation_step_limit,
    render_mode: str | None = None,
    environment: EnvironmentFactory | None = None,
    trust: bool = False,
) -> Iterator[PlayedStep]:
    """Play episodes; the environment is closed however the iteration ends.

    Args:
        policy: acts greedily.
        episodes: how many.
        seed: root of the episodes' seeds.
        step_limit: an episode is cut after so many steps.
        render_mode: ``human`` opens a window; None shows nothing.
        environment: makes the environment, instead of what the policy's file names.
        trust: import the environment that the policy's file names by an import path.

    Raises:
        InputError: the environment cannot be made, or the policy does not fit it.
    """
    forget_closing()
    with ExitStack() as stack:
        copy = with_true_rewards(environment_of(policy, environment, trust)(render_mode))
        stack.callback(close_environment, copy)
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
