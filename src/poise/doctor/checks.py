"""The doctor's checks of one environment that run in this process.

Each check is a function that takes the subject and returns findings. It may raise or hang: the
caller sets the deadline and turns exceptions into findings.
"""

import re
import threading
import typing
import warnings
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from poise.agent.actions import has_continuous_actions
from poise.agent.image_axes import SMALLEST_SIDE, image_layout
from poise.config import TrainConfig, WorldKind
from poise.doctor.diagnosis import Finding, brief
from poise.envs.checked_env import close_environment
from poise.envs.env_factory import EnvFactory
from poise.envs.preflight import check_environment
from poise.envs.registry import env_backend
from poise.errors import ConfigError, MissingExtraError, UnsupportedSpaceError
from poise.presets.preset import Preset
from poise.space_parts import parts
from poise.training.components import RunComponents
from poise.training.decisions import decisions

__all__ = [
    "Subject",
    "contract",
    "describe",
    "gymnasium_checker",
    "possible_envs",
    "preset_finding",
    "unsupported",
]

LARGE_NETWORK = 5_000_000
"""Networks with more parameters are too large for CPUs (the A3C paper's have 600,000)."""

_WORLDS = {
    "compiled": "the compiled twin",
    "xla": "ale-py's XLA functions",
    "atari": "ale-py's vector environment",
    "envpool": "EnvPool's C++ environments",
    "vector": "Gymnasium's vector implementation",
    "copies": "copies in a loop",
}
_HARMLESS = {
    "minimum value is -infinity": "poise supports infinite bounds",
    "maximum value is infinity": "poise supports infinite bounds",
    "symmetric and normalized space": "poise scales actions to the bounds itself",
}
"""Warnings of Gymnasium's checker that do not matter for poise, and why."""


class Subject(NamedTuple):
    """The environment under examination.

    Attributes:
        env_factory: creates the environment.
        config: settings for training on it.
        seconds: length of a measurement.
    """

    env_factory: EnvFactory
    config: TrainConfig
    seconds: float


def possible_envs(env_factory: EnvFactory) -> list[WorldKind]:
    """The values of ``--world`` that the environment supports, best first."""
    found: list[WorldKind] = []
    for kind in typing.get_args(WorldKind):
        try:
            found.append(env_backend(env_factory, kind))
        except (ConfigError, MissingExtraError):
            continue
    return found


def preset_finding(preset: Preset, action_space: spaces.Space[Any]) -> Finding:
    """Which preset training uses."""
    try:
        preset.require_actions(has_continuous_actions(action_space))
    except ConfigError as error:
        return Finding("preset", "warning", error.problem, "--preset none", ("--preset", "none"))
    text = (
        f"training uses the preset {preset.name} ({preset.algorithm}), which reached "
        f"{preset.reached}; --preset none turns it off"
    )
    return Finding("preset", "ok", text)


def describe(subject: Subject, components: RunComponents) -> list[Finding]:
    """The spaces, the network for them, and how the environment is stepped."""
    agent, resolved = components.agent, decisions(components)
    observation, action = agent.observation_space, agent.action_space
    spaces_text = f"observations: {_space(observation)}; actions: {_space(action)}"
    found = [Finding("spaces", "ok", spaces_text)]
    description = (
        f"{agent.network.describe()}, {agent.layout.size:,} parameters; {_head(action)}; "
        f"{resolved['acting']} acts; learning rate {resolved['learning_rate']:g}"
    )
    advice = ""
    if agent.layout.size > LARGE_NETWORK:
        advice = (
            "this network is large for a CPU: make the observations smaller, for example with "
            "--wrappers and a function that returns gymnasium.wrappers.ResizeObservation(env, "
            "(84, 84))"
        )
    elif shape := _float_image(observation, agent.spec.image_axes):
        letters = {2: "HW", 3: "HWC", 4: "SHWC", 5: "SSHWC"}[len(shape)]
        advice = (
            f"the array of shape {shape} is flattened: if it is an image, return it as uint8 from "
            "0 to 255 to use the convolutional network; or, if its values are bounded, name its "
            f"axes, for example --image-axes {letters}"
        )
    found.append(Finding("network", "warning" if advice else "ok", description, advice))
    others = [kind for kind in possible_envs(subject.env_factory) if kind != resolved["world"]]
    text = f"training uses {_WORLDS[resolved['world']]} ({resolved['world']})"
    if others:
        text += f"; --world {' or '.join(others)} is also possible"
    found.append(Finding("world", "ok", text))
    found.append(Finding("scaling", "ok", _scaling(components)))
    return found


def _space(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box) and space.shape:
        low, high = f"{np.min(space.low):g}", f"{np.max(space.high):g}"
        return f"Box of shape {space.shape}, {space.dtype}, {low} to {high}"
    return brief(space)


def unsupported(error: UnsupportedSpaceError) -> Finding:
    """The finding for spaces that poise does not support."""
    return Finding(
        "spaces",
        "failure",
        str(error),
        "wrap the environment: --wrappers takes the import path of a function that returns the "
        "wrapped environment",
    )


def _head(space: spaces.Space[Any]) -> str:
    match space:
        case spaces.Discrete():
            return f"actions from a categorical distribution over {space.n}"
        case spaces.Box() if space.dtype.kind != "f":
            return f"actions of {int(np.prod(space.shape))} independent categorical distributions"
        case spaces.Box():
            return f"actions from {int(np.prod(space.shape))} independent Gaussians"
        case spaces.MultiBinary():
            return f"actions of {int(np.prod(space.shape))} independent bits"
    return "actions from the product of the distributions of their parts"


def _scaling(components: RunComponents) -> str:
    """How observed numbers are scaled, and how the axes of images are interpreted."""
    spec = components.agent.spec
    said = _images(components.agent.observation_space, spec.image_axes)
    count, auto = components.agent.scaling.count, components.config.normalize_observations == "auto"
    if count:
        why = " (auto: some bounds are infinite or very wide)" if auto else ""
        said.append(f"{count:,} numbers are normalised by their running mean and variance{why}")
    else:
        why = " (auto)" if auto else ""
        said.append(f"numbers with finite bounds are scaled by their bounds{why}")
    return "; ".join(said)


def _images(space: spaces.Space[Any], image_axes: str) -> list[str]:
    layouts = [(part, image_layout(part, image_axes)) for _, part in parts(space)]
    return [
        f"the image of shape {part.shape} has the axes {layout.axes}: {layout.height} high, "
        f"{layout.width} wide, {layout.channels} channels (if this is wrong, set --image-axes)"
        for part, layout in layouts
        if layout is not None
    ]


def _float_image(space: spaces.Space[Any], image_axes: str) -> tuple[int, ...] | None:
    """The shape of a part that looks like an image, but is not uint8; None if there is none."""
    for _, part in parts(space):
        if not isinstance(part, spaces.Box) or part.dtype == np.uint8:
            continue
        is_small = len(part.shape) < 2 or min(sorted(part.shape)[-2:]) < SMALLEST_SIDE
        if not is_small and len(part.shape) <= 5 and image_layout(part, image_axes) is None:
            return tuple(part.shape)
    return None


def contract(subject: Subject) -> list[Finding]:
    """Poise's own check of an environment before training."""
    # The caller sets the deadline.
    kind = env_backend(subject.env_factory, subject.config.world)
    traits = check_environment(subject.env_factory, threading.TIMEOUT_MAX, kind)
    found = [Finding("contract", "ok", "a reset and 20 random steps return valid values")]
    if traits.shares_state:
        found.append(
            Finding(
                "copies",
                "failure",
                "stepping one copy changes another: copies share state"
                + (f" ({traits.shared})" if traits.shared else ""),
                "keep all state in the environment object; or train with one copy per process: "
                "--launcher processes --envs-per-worker 1",
            )
        )
    return found


def gymnasium_checker(subject: Subject) -> list[Finding]:
    """Run Gymnasium's environment checker on the environment without its wrappers."""
    name = "gymnasium"
    environment = subject.env_factory.make()
    failure = None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_env(environment.unwrapped, skip_render_check=True)
            except Exception as error:
                failure = Finding(
                    name,
                    "failure",
                    f"Gymnasium's checker: {_plain(error) or type(error).__name__}",
                    "fix the environment; gymnasium.utils.env_checker.check_env(env.unwrapped) "
                    "reports the same",
                )
    finally:
        close_environment(environment)
    remarks = dict.fromkeys(
        _plain(one.message) for one in caught if not issubclass(one.category, DeprecationWarning)
    )
    found, handled = [], []
    for remark in remarks:
        harmless = next((why for text, why in _HARMLESS.items() if text in remark), None)
        if harmless is None:
            advice = "if the warning is right, fix the environment; poise can train without the fix"
            found.append(Finding(name, "warning", f"Gymnasium's checker: {remark}", advice))
        elif harmless not in handled:
            handled.append(harmless)
    if failure is not None:
        return [failure, *found]
    if not found:
        text = "Gymnasium's checker finds no problem"
        if handled:
            text = f"Gymnasium's checker finds no problem that matters here: {'; '.join(handled)}"
        found.append(Finding(name, "ok", text))
    return found


def _plain(message: object) -> str:
    """Gymnasium's message without colours and without its "WARN:" prefix."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message))
    return brief(re.sub(r"^WARN: ", "", text))
