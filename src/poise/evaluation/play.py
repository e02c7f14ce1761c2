"""Play: shows a policy in Gymnasium's own environment, step by step."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from poise.agent.policy import Player, Policy
from poise.config import STEP_LIMIT
from poise.envs.checked_env import CheckedEnv, forget_closing
from poise.envs.modules import missing_extra
from poise.envs.seeding import Purpose, environment_seed, seed_sequence
from poise.envs.statistics_wrappers import with_true_rewards
from poise.errors import ConfigError, EnvironmentFailureError, InputError
from poise.evaluation.environment_loading import environment_of
from poise.settings import known_arguments
from poise.storage.run_folder import Which, policy_of
from poise.storage.trust import EnvironmentFactory

__all__ = ["PlayedStep", "play"]


class PlayedStep(NamedTuple):
    """One step of an episode."""

    episode: int
    step: int
    action: Any
    reward: float
    running_return: float
    ended: str
    """``terminated``, ``truncated``, ``cut`` at the step limit, or empty if it goes on."""


@known_arguments
def play(
    policy: Policy | str | Path,
    *,
    episodes: int = 1,
    seed: int = 0,
    step_limit: int = STEP_LIMIT,
    render_mode: str | None = None,
    which: Which = "best",
    environment: EnvironmentFactory | None = None,
    trust: bool = False,
    greedy: bool | None = None,
) -> Iterator[PlayedStep]:
    """Play episodes; the environment is closed however the iteration ends.

    Args:
        policy: a policy, or the path of a run's folder or of a policy file.
        episodes: number of episodes.
        seed: root of the seeds of the episodes and of the sampling.
        step_limit: an episode is cut after this many steps.
        render_mode: ``human`` opens a window; None shows nothing.
        which: if ``policy`` is a run's folder: the ``best`` or the ``final`` policy.
        environment: makes the environment, instead of the one that the policy's file names.
        trust: import the environment and the network that the policy's file names by import paths.
        greedy: take the most probable action (True) or sample (False); by default ``policy.mode``.

    Raises:
        InputError: there is no such policy or environment, or no display to open a window on
            (raised at once); the environment cannot be made, or the policy does not fit it (raised
            at the first step).
        EnvironmentFailureError: the environment raised, or broke Gymnasium's contract.
    """
    policy = policy_of(policy, which, trust)
    if render_mode == "human":
        _require_display()
    make = environment_of(policy, environment, trust)
    actions = seed_sequence(seed, Purpose.EVALUATION_ACTIONS, int(Purpose.PLAY))
    player = policy.player(greedy, np.random.default_rng(actions))
    return _steps(policy, player, make, episodes, seed, step_limit, render_mode)


def _steps(
    policy: Policy,
    player: Player,
    make: Callable[[str | None], gymnasium.Env[Any, Any]],
    episodes: int,
    seed: int,
    step_limit: int,
    render_mode: str | None,
) -> Iterator[PlayedStep]:
    forget_closing()
    with closing(CheckedEnv(with_true_rewards(make(render_mode)), "the one that plays")) as copy:
        for episode in range(episodes):
            reset_seed = environment_seed(seed_sequence(seed, Purpose.PLAY, episode))
            try:
                observation = copy.reset(reset_seed)
                if render_mode == "human" and not episode:
                    _require_window()
            except EnvironmentFailureError as error:
                if render_mode == "human" and not episode:
                    raise _no_window(policy.environment.name, error) from error
                raise
            player.reset()
            total, step, ended = 0.0, 0, ""
            while not ended:
                action = player.act(observation)
                observation, reward, terminated, truncated = copy.step(action)
                total += reward
                step += 1
                if terminated:
                    ended = "terminated"
                elif truncated:
                    ended = "truncated"
                elif step >= step_limit:
                    ended = "cut"
                yield PlayedStep(episode, step, action, reward, total, ended)


def _require_display() -> None:
    """Raise `ConfigError` if there is no display; SDL's own error is obscure, or it hangs."""
    if sys.platform != "linux" or os.environ.get("SDL_VIDEODRIVER"):
        return
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise ConfigError(
            "there is no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set): "
            "omit render human, or play where there is a screen"
        )


def _require_window() -> None:
    """Raise `ConfigError` if SDL found no display and draws into an invisible window."""
    pygame = sys.modules.get("pygame")
    if pygame is None or os.environ.get("SDL_VIDEODRIVER") or not pygame.display.get_init():
        return
    if pygame.display.get_driver() in ("offscreen", "dummy"):
        where = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        raise ConfigError(
            f"no window could be opened: the display {where} does not answer; omit render human, "
            "or play where there is a screen"
        )


def _no_window(name: str, error: EnvironmentFailureError) -> InputError:
    """Make the error for an environment that failed to open its window."""
    cause = error.__cause__
    if isinstance(cause, gymnasium.error.DependencyNotInstalled | ImportError):
        return missing_extra(name, cause)
    return ConfigError(f"no window could be opened: {error}")
