"""The doctor's checks of one environment, in this process: what it is, keeps and repeats.

Each check is a function of the subject that returns findings. It may raise or hang: whoever calls
it holds the deadline and turns an exception into a finding.
"""

import re
import threading
import typing
import warnings
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from poise.agent.image_axes import SMALLEST_SIDE, image_layout
from poise.config import TrainConfig, WorldKind
from poise.doctor.diagnosis import Finding, brief
from poise.envs.checked_env import close_environment
from poise.envs.env_factory import EnvFactory
from poise.envs.preflight import check_environment
from poise.envs.registry import env_backend
from poise.errors import ConfigError, UnsupportedSpaceError
from poise.space_parts import parts
from poise.training.components import RunComponents
from poise.training.decisions import decisions

__all__ = [
    "Subject",
    "contract",
    "describe",
    "gymnasium_checker",
    "possible_envs",
    "unsupported",
]

LARGE_NETWORK = 5_000_000
"""Parameters above which a network is too large for processor cores (the paper's have 600,000)."""

_WORLDS = {
    "compiled": "the compiled twin",
    "xla": "ale-py's XLA functions",
    "atari": "ale-py's vector environment",
    "vector": "Gymnasium's vector implementation",
    "copies": "copies in a loop",
}
_HARMLESS = {
    "minimum value is -infinity": "poise takes infinite bounds as they are",
    "maximum value is infinity": "poise takes infinite bounds as they are",
    "symmetric and normalized space": "poise brings actions into the bounds itself",
}
"""What Gymnasium's checker remarks, but poise deals with."""


class Subject(NamedTuple):
    """Whom the doctor examines.

    Attributes:
        env_factory: makes the environment.
        config: how it would be trained.
        seconds: length of a measurement.
    """

    env_factory: EnvFactory
    config: TrainConfig
    seconds: float


def possible_envs(env_factory: EnvFactory) -> list[WorldKind]:
    """What can step an environment (``--world``), best first."""
    found: list[WorldKind] = []
    for kind in typing.get_args(WorldKind):
        try:
            found.append(env_backend(env_factory, kind))
        except ConfigError:
            continue
    return found


def describe(subject: Subject, components: RunComponents) -> list[Finding]:
    """The spaces, the network that they get, and what steps the environment."""
    agent, resolved = components.agent, decisions(components)
    observation, action = agent.observation_space, agent.action_space
    found = [Finding("spaces", "ok", f"observes {_space(observation)}; acts in {_space(action)}")]
    description = (
        f"{agent.network.describe()}, {agent.layout.size:,} parameters; {_head(action)}; "
        f"{resolved['acting']} acts; learning rate {resolved['learning_rate']:g}"
    )
    advice = ""
    if agent.layout.size > LARGE_NETWORK:
        advice = (
            "this is large for processor cores: make the observations smaller, for example by "
            "--wrappers with a function that returns gymnasium.wrappers.ResizeObservation(env, "
            "(84, 84))"
        )
    elif shape := _float_image(observation, agent.spec.image_axes):
        letters = {2: "HW", 3: "HWC", 4: "SHWC", 5: "SSHWC"}[len(shape)]
        advice = (
            f"the numbers of shape {shape} are flattened: if they are an image, observe it as "
            "uint8 from 0 to 255, and it gets the convolutional network; or, if they are bounded, "
            f"name their axes, for example --image-axes {letters}"
        )
    found.append(Finding("network", "warning" if advice else "ok", description, advice))
    others = [kind for kind in possible_envs(subject.env_factory) if kind != resolved["world"]]
    text = f"training steps {_WORLDS[resolved['world']]} ({resolved['world']})"
    if others:
        text += f"; --world {' or '.join(others)} would do too"
    found.append(Finding("world", "ok", text))
    found.append(Finding("scaling", "ok", _scaling(components)))
    return found


def _space(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box) and space.shape:
        low, high = f"{np.min(space.low):g}", f"{np.max(space.high):g}"
        return f"Box of shape {space.shape}, {space.dtype}, {low} to {high}"
    return brief(space)


def unsupported(error: UnsupportedSpaceError) -> Finding:
    """Spaces that poise cannot learn."""
    return Finding(
        "spaces",
        "failure",
        str(error),
        "--wrappers takes the import path of a function that returns the environment, wrapped",
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
    return "actions from the product of their parts' distributions"


def _scaling(components: RunComponents) -> str:
    """What becomes of the observed numbers, and which axis of an image is what."""
    spec = components.agent.spec
    said = _images(components.agent.observation_space, spec.image_axes)
    count, auto = components.agent.scaling.count, components.config.normalize_observations == "auto"
    if count:
        why = " (auto: no bounds describe all of them)" if auto else ""
        said.append(f"{count:,} numbers are normalised by their running mean and variance{why}")
    else:
        why = " (auto)" if auto else ""
        said.append(f"numbers are scaled by their bounds where those are finite{why}")
    return "; ".join(said)


def _images(space: spaces.Space[Any], image_axes: str) -> list[str]:
    layouts = [(part, image_layout(part, image_axes)) for _, part in parts(space)]
    return [
        f"an image of shape {part.shape} is taken as {layout.axes}: {layout.height} high, "
        f"{layout.width} wide, {layout.channels} channels (--image-axes corrects it)"
        for part, layout in layouts
        if layout is not None
    ]


def _float_image(space: spaces.Space[Any], image_axes: str) -> tuple[int, ...] | None:
    """The shape of a part that looks like an image, but is not made of bytes."""
    for _, part in parts(space):
        if not isinstance(part, spaces.Box) or part.dtype == np.uint8:
            continue
        is_small = len(part.shape) < 2 or min(sorted(part.shape)[-2:]) < SMALLEST_SIDE
        if not is_small and len(part.shape) <= 5 and image_layout(part, image_axes) is None:
            return tuple(part.shape)
    return None


def contract(subject: Subject) -> list[Finding]:
    """What poise itself asks of an environment before it trains."""
    # The deadline is the caller's.
    kind = env_backend(subject.env_factory, subject.config.world)
    traits = check_environment(subject.env_factory, threading.TIMEOUT_MAX, kind)
    found = [Finding("contract", "ok", "a reset and 20 random steps return what they should")]
    if traits.shares_state:
        found.append(
            Finding(
                "copies",
                "failure",
                "stepping one copy changes what another shows: copies share a state"
                + (f" ({traits.shared})" if traits.shared else ""),
                "keep all state in the object; or train with one copy a process: "
                "--launcher processes --envs-per-worker 1",
            )
        )
    return found


def gymnasium_checker(subject: Subject) -> list[Finding]:
    """Gymnasium's own environment checker, on the environment without its wrappers."""
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
                    "says the same",
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
            advice = "fix the environment, if the warning is right; poise can train as it is"
            found.append(Finding(name, "warning", f"Gymnasium's checker: {remark}", advice))
        elif harmless not in handled:
            handled.append(harmless)
    if failure is not None:
        return [failure, *found]
    if not found:
        text = "Gymnasium's checker has nothing against it"
        if handled:
            text = f"Gymnasium's checker remarks nothing that matters here: {'; '.join(handled)}"
        found.append(Finding(name, "ok", text))
    return found


def _plain(message: object) -> str:
    """Gymnasium's message without colours and its own level."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message))
    return brief(re.sub(r"^WARN: ", "", text))
