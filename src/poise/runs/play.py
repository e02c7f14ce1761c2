"""Play: the greedy policy on Gymnasium's own environment, step by step, for people to watch."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

from poise.agent.policy import Policy
from poise.config import TrainConfig
from poise.world.finding import make_own
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
    step_limit: int = TrainConfig.evaluation_step_limit,
    render_mode: str | None = None,
    make: Callable[[str, str | None], Any] = make_own,
) -> Iterator[PlayedStep]:
    """Play episodes; the environment is closed however the iteration ends.

    Args:
        policy: acts greedily.
        episodes: how many.
        seed: root of the episodes' seeds.
        step_limit: an episode is cut after so many steps.
        render_mode: ``human`` opens a window; None shows nothing.
        make: makes the environment.
    """
    with closing(make(policy.environment, render_mode)) as environment:
        player = policy.player()
        for episode in range(episodes):
            reset_seed = environment_seed(seed_sequence(seed, Purpose.PLAY, episode))
            observation, _ = environment.reset(seed=reset_seed)
            player.reset()
            total, step, ended = 0.0, 0, ""
            while not ended:
                action = player.act(observation)
                observation, reward, terminated, truncated, _ = environment.step(action)
                total += float(reward)
                step += 1
                if terminated:
                    ended = "terminated"
                elif truncated:
                    ended = "truncated"
                elif step >= step_limit:
                    ended = "cut"
                yield PlayedStep(episode, step, action, float(reward), total, ended)
