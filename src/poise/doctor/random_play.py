"""The doctor's check of random play: observations, rewards, and how episodes end."""

import time
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from poise.agent.image_axes import is_image
from poise.agent.normalizer import bounds_describe, scale_by_bounds
from poise.batching import stack
from poise.doctor.checks import Subject
from poise.doctor.diagnosis import Finding, brief
from poise.envs.checked_env import CheckedEnv, close_environment
from poise.envs.env_factory import known_time_limit
from poise.envs.statistics_wrappers import with_true_rewards
from poise.errors import EnvironmentFailureError
from poise.space_parts import part_at, parts

__all__ = ["random_play", "sees_no_difference"]

STEPS = 2_000
SECONDS = 10.0
"""Time limit of random play; slow environments take fewer steps."""
LARGE = 10.0
"""Numbers above this slow learning down: initial weights are made for numbers around 1."""
FAR_APART = 100.0
"""Observed numbers are of different scales if their largest values differ by more than this
factor."""


class Play(NamedTuple):
    """The results of random play."""

    steps: int
    lengths: list[int]
    returns: list[float]
    truncated: bool
    rewards: np.ndarray
    """``[steps]`` float64."""
    peaks: np.ndarray
    """``[S]`` float64: the largest magnitude of each observed number, scaled by its bounds."""
    outside: int
    """Number of observations that are not in the observation space."""
    example: str
    """How the first of them is outside the space."""
    problem: str
    """Why play ended early; empty if it did not."""
    limit: int | None
    """The environment's time limit, if it declares one."""


def random_play(subject: Subject, *, normalized: bool, scaled: bool) -> list[Finding]:
    """Play random actions for a while, and check observations, rewards and episode ends.

    Args:
        subject: the environment.
        normalized: whether training would normalise the observations.
        scaled: whether it would normalise the rewards.
    """
    environment = with_true_rewards(subject.env_factory.make())
    try:
        axes = subject.config.image_axes
        play = _play(environment, axes, min(SECONDS, subject.config.worker_timeout / 2))
    finally:
        close_environment(environment)
    if play.problem:
        advice = (
            "fix the environment: this would end a run with an error, and training takes far more "
            "steps than this check"
        )
        return [Finding("random play", "failure", play.problem, advice)]
    atari = subject.env_factory.is_atari
    return [
        *_observations(play, normalized),
        *_rewards(play, atari, scaled),
        _time_limit(play, atari, subject.config.evaluation_step_limit),
    ]


def _play(environment: gymnasium.Env[Any, Any], image_axes: str, seconds: float) -> Play:
    space, actions = environment.observation_space, environment.action_space
    copy = CheckedEnv(environment, "random play")
    actions.seed(0)
    rewards: list[float] = []
    lengths: list[int] = []
    returns: list[float] = []
    peaks = np.zeros(0)
    truncations, outside = 0, 0
    example, problem = "", ""
    start: int | None = None
    began = time.monotonic()
    action: Any = None
    while not rewards or (len(rewards) < STEPS and time.monotonic() - began < seconds):
        try:
            if start is None:
                observation = copy.reset(None if rewards else 0)
                start = len(rewards)
                action = None
            else:
                action = actions.sample()
                observation, reward, terminated, truncated = copy.step(action)
                rewards.append(reward)
                truncations += bool(truncated)
                if terminated or truncated:
                    lengths.append(len(rewards) - start)
                    returns.append(sum(rewards[start:]))
                    start = None
            copy.check(observation)
        except EnvironmentFailureError as error:
            problem = f"after {len(rewards):,} random steps: {error}"
            break
        strange = _outside(space, observation)
        if strange:
            outside += 1
            example = example or strange
        with np.errstate(over="ignore"):
            seen = np.abs(_numbers(space, image_axes, stack(space, [observation])))
        peaks = np.maximum(peaks, seen) if len(peaks) else seen
    return Play(
        steps=len(rewards),
        lengths=lengths,
        returns=returns,
        truncated=truncations > 0,
        rewards=np.asarray(rewards, np.float64),
        peaks=peaks,
        outside=outside,
        example=example,
        problem=problem,
        limit=known_time_limit(environment),
    )


def _outside(space: spaces.Space[Any], observation: Any) -> str | None:
    """How an observation of the right shape is outside its space; None if it is inside."""
    for path, part in parts(space):
        value, problem = part_at(observation, path), None
        if isinstance(part, spaces.Box):
            problem = _outside_box(part, np.asarray(value))
        elif not part.contains(value):
            problem = f"{brief(repr(value))} is not in {brief(part)}"
        if problem:
            return "".join(f"{key!r}: " for key in path) + problem
    return None


def _outside_box(space: spaces.Box, values: np.ndarray) -> str | None:
    wrong = (values < space.low) | (values > space.high)
    if np.any(wrong):
        index = tuple(map(int, np.argwhere(wrong)[0]))
        low, high = space.low[index], space.high[index]
        return f"{values[index]:g} at index {list(index)} is not between {low:g} and {high:g}"
    if not np.can_cast(values.dtype, space.dtype):
        return f"dtype {values.dtype}, but the space says {space.dtype}"
    return None


def _numbers(space: spaces.Space[Any], image_axes: str, batch: Any) -> np.ndarray:
    """The numbers of all Boxes except images in a batch of one, scaled by usable bounds."""
    found = [np.zeros(0)]
    for path, part in parts(space):
        if isinstance(part, spaces.Box) and not is_image(part, image_axes):
            numbers = part_at(batch, path)
            scaled = scale_by_bounds(part, numbers) if bounds_describe(part) else numbers
            found.append(np.asarray(scaled, np.float64).reshape(-1))
    return np.concatenate(found)


def _observations(play: Play, normalized: bool) -> list[Finding]:
    name = "observations"
    found = []
    if play.outside:
        found.append(
            Finding(
                name,
                "warning",
                f"{play.outside:,} observations in {play.steps:,} random steps are not in the "
                f"observation space: {play.example}",
                "correct the space (bounds, dtype), or clip and convert the observations; poise "
                "can train without this",
            )
        )
    peaks = play.peaks[play.peaks > 0]
    high = float(peaks.max()) if len(peaks) else 0.0
    low = float(peaks.min()) if len(peaks) else 0.0
    text = ""
    if high > LARGE:
        text = f"an observed number reaches {high:.3g}"
    elif len(peaks) and high > FAR_APART * low:
        text = f"observed numbers have different scales: maxima from {low:.2g} to {high:.2g}"
    if text and not normalized:
        flag = "--normalize-observations"
        advice = f"{flag} on scales them to mean 0 and variance 1"
        found.append(Finding(name, "warning", text, advice, (flag, "on")))
    if not found:
        text = "finite and in their space"
        if len(peaks):
            text += f"; largest magnitude {high:.3g}"
            text += ", before they are normalised" if normalized else ", as the network sees them"
        found.append(Finding(name, "ok", f"{text}, in {play.steps:,} random steps"))
    return found


def _rewards(play: Play, clipped: bool, scaled: bool) -> list[Finding]:
    name, found = "rewards", []
    low, high = float(np.min(play.rewards)), float(np.max(play.rewards))
    text = f"from {low:.4g} to {high:.4g}" if low < high else f"always {low:.4g}"
    count = len(play.returns)
    if count:
        mean = float(np.mean(play.returns))
        returns = f"return{'s' if count == 1 else ''} {mean:.4g} on average"
        text += f"; {count:,} random episode{'' if count == 1 else 's'} {returns}"
    peak = max(-low, high)
    if clipped:
        text += "; clipped to -1..1 for the loss (--reward-clip)"
    elif scaled:
        text += "; normalised for the loss (--normalize-rewards)"
    elif peak > LARGE:
        flag, scale = "--reward-scale", f"{1 / peak:.1g}"
        advice = f"{flag} {scale} (or --reward-clip 1) changes the loss only; scores are unaffected"
        found.append(Finding(name, "warning", text, advice, (flag, scale)))
    if sees_no_difference(play):
        flag, weight = "--entropy-coefficient", "0.01"
        advice = (
            f"reward progress if you can (a wrapper can add to the reward); {flag} {weight} keeps "
            "the policy exploring, which may or may not be enough to find a different reward"
        )
        said = (
            f"{text}: random play sees no difference in reward, so training has nothing to learn "
            "from until it happens to see one"
        )
        found.append(Finding(name, "warning", said, advice, (flag, weight)))
    return found or [Finding(name, "ok", text)]


def sees_no_difference(play: Play) -> bool:
    """Whether all rewards were equal, and all returns too, so that not even lengths matter."""
    if np.min(play.rewards) < np.max(play.rewards):
        return False
    if len(play.returns) == 1:
        # The end of the episode is the first difference, unless the time limit ended it.
        return play.truncated or bool(play.rewards[0] == 0)
    return not play.returns or min(play.returns) == max(play.returns)


def _time_limit(play: Play, atari: bool, cut: int | None) -> Finding:
    name = "time limit"
    if play.limit is not None:
        return Finding(name, "ok", f"an episode is truncated after {play.limit:,} steps")
    if atari:
        return Finding(name, "ok", "games are truncated after half an hour of play")
    if play.truncated:
        return Finding(name, "ok", "none is declared, but episodes were truncated in random play")
    text = f"none, so evaluation episodes are cut after {_cut(cut)} (--evaluation-step-limit)"
    if play.lengths:
        shortest, longest = min(play.lengths), max(play.lengths)
        text += f"; random episodes ended on their own after {shortest:,} to {longest:,} steps"
    else:
        text += f"; no episode ended in {play.steps:,} random steps"
    advice = (
        "if an episode can go on forever, set a limit: gymnasium.register(..., "
        "max_episode_steps=...), or --wrappers with a function that returns "
        "gymnasium.wrappers.TimeLimit(env, steps)"
    )
    return Finding(name, "warning", text, advice)


def _cut(limit: int | None) -> str:
    return f"{limit:,} steps" if limit else "four times the length of a training episode"
