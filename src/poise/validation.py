"""Validation of settings: types and bounds.

Settings come from flags, from Python, and from files that may be hostile. The upper bounds are far
above any value used so far, but low enough that no setting makes poise run out of memory, overflow
an integer, or hang before it starts.
"""

import itertools
import math
import numbers
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

from poise.errors import ConfigError
from poise.literals import keyword_texts

__all__ = ["checkpoint_interval", "is_image_axes", "shown", "validated"]

MAX_COUNT = 2**63 - 1
"""Steps, episodes and other counts: the largest signed 64-bit integer."""
MAX_WORKERS = 4096
"""Each worker is a thread or a process; the journal stores its number in 16 bits."""
MAX_ENVS_PER_WORKER = 65_536
"""Copies that one call steps together; GPU simulators use a few thousand."""
MAX_ENVS = 1 << 20
"""Copies of all workers: each has a state, and hosted ones are objects or processes."""
MAX_ROLLOUT_LENGTH = 1 << 20
"""Steps of one rollout, which is held in memory."""
MAX_ROLLOUT_STEPS = 1 << 22
"""Copies times length: all observations of one rollout are held in memory."""
MAX_HIDDEN_LAYERS = 64
"""Each layer is compiled into the program separately."""
MAX_HIDDEN_UNITS = 65_536
"""Units of one layer."""
MAX_HIDDEN_WEIGHTS = 1 << 26
"""Weights between the hidden layers of one network: 256 MB, and several copies are held."""
MAX_PARAMETERS = 1 << 28
"""Parameters of the whole network: 1 GB, and optimizer and snapshots hold several copies."""
MAX_EPOCHS = 10_000
"""Passes over one batch: more would keep the server busy for an unknown time."""
MAX_EPISODES = 1_000_000
"""Episodes of one evaluation: all their seeds are drawn before it starts."""
MAX_NAME = 1024
"""Characters in the name of an environment or wrapper."""
MAX_NAMES = 1024
"""Number of wrappers, and of arguments of an environment's constructor."""
MAX_ARGUMENT = 65_536
"""Characters in one argument, which may be a map drawn in text."""
MAX_FACTOR = 3.4e38
"""Rewards, learning rates and coefficients: the largest float32, roughly."""
MAX_WAIT = 1e9
"""Seconds, about thirty years; the operating system cannot wait much longer."""
MAX_SHOWN = 80
"""Characters of a value in an error message."""

_COUNTS = {
    "workers": (1, MAX_WORKERS),
    "envs_per_worker": (1, MAX_ENVS_PER_WORKER),
    "rollout_length": (1, MAX_ROLLOUT_LENGTH),
    "selection_episodes": (1, MAX_EPISODES),
    "verification_episodes": (1, MAX_EPISODES),
    "evaluation_interval": (1, MAX_COUNT),
    "evaluation_copies": (1, MAX_ENVS_PER_WORKER),
    "evaluation_step_limit": (1, MAX_COUNT),
    "stop_when_flat": (1, MAX_COUNT),
    "record_every": (1, MAX_COUNT),
    "keep_checkpoints": (1, MAX_COUNT),
    "max_steps": (1, MAX_COUNT),
    "max_episodes": (1, MAX_COUNT),
    "max_restarts": (0, MAX_COUNT),
    "max_bad_gradients": (0, MAX_COUNT),
    "seed": (0, MAX_COUNT),
    "target_interval": (1, MAX_COUNT),
    "exploration_steps": (1, MAX_COUNT),
    "annealing_steps": (1, MAX_COUNT),
    "epochs": (1, MAX_EPOCHS),
    "minibatches": (1, MAX_ROLLOUT_STEPS),
}
_POSITIVE = {
    "clip_range": MAX_FACTOR,
    "value_clip_range": MAX_FACTOR,
    "vtrace_rho_clip": MAX_FACTOR,
    "vtrace_c_clip": MAX_FACTOR,
    "learning_rate": MAX_FACTOR,
    "optimizer_epsilon": MAX_FACTOR,
    "reward_scale": MAX_FACTOR,
    "reward_clip": MAX_FACTOR,
    "worker_timeout": MAX_WAIT,
    "max_seconds": math.inf,
}
_FRACTIONS = ("discount", "gae_lambda", "sticky_actions", "final_epsilon")
_DECAYS = ("adam_beta1", "adam_beta2", "rmsprop_decay")
_COEFFICIENTS = ("entropy_coefficient", "value_coefficient", "rmsprop_initial_square")
_RANGES = {
    "failure_reward": (-MAX_FACTOR, MAX_FACTOR),
    "target_return": (-MAX_FACTOR, MAX_FACTOR),
    "initial_log_deviation": (-10.0, 5.0),
}


def validated(settings: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Check settings against their annotations and bounds, and convert them to these types.

    Values from Python are converted if nothing is lost: whole numbers written as ``1e4``, NumPy
    numbers, one value instead of a list of one, a dict of ``env_kwargs``.

    Args:
        settings: values by name; None if the annotation allows it.
        hints: annotations by name.

    Raises:
        ConfigError: a value is invalid; the message names it and says what is allowed.
    """
    values = {name: _typed(name, settings[name], hint) for name, hint in hints.items()}
    for name, value in values.items():
        if value is not None:
            _check_bounds(name, value)
    for name in ("environment", "env_kwargs", "wrappers", "ignore_observations"):
        _check_texts(name, values[name])
    _check_image_axes(values["image_axes"])
    _check_sizes(values)
    if checkpoint_interval(values["checkpoint_every"]) is None:
        _refuse(
            "checkpoint_every",
            values["checkpoint_every"],
            "a time such as 30s, or a number of steps such as 100000steps",
        )
    return values


def checkpoint_interval(text: str) -> tuple[float, Literal["s", "steps"]] | None:
    """The number and unit of an interval such as ``30s``; None if the text is not an interval."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s)|([0-9]{1,15})(steps)", text)
    if match is None:
        return None
    number = float(match[1] or match[3])
    if not number > 0:
        return None
    return number, "s" if match[2] else "steps"


def is_image_axes(text: str) -> bool:
    """Whether a text is ``auto``, ``none``, or names all axes, with exactly one H and one W."""
    if text in ("auto", "none"):
        return True
    fits = re.fullmatch("[CHSW]{2,5}", text) is not None
    return fits and text.count("H") == text.count("W") == 1


def shown(value: object) -> str:
    """A value for an error message, shortened if it is long."""
    try:
        text = repr(value)
    except ValueError:
        # Python refuses to convert integers with thousands of digits to text.
        text = "a number with thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Check a value against its annotation, and convert it if nothing is lost."""
    choices = [one for one in typing.get_args(hint) if one is not type(None)]
    optional = type(None) in typing.get_args(hint)
    kind = choices[0] if optional else hint
    if value is None and optional:
        return None
    if typing.get_origin(kind) is Literal:
        allowed = typing.get_args(kind)
        _require(value in allowed, name, value, "one of " + ", ".join(allowed))
        return value
    if kind is bool:
        _require(isinstance(value, bool), name, value, "true or false")
        return value
    if kind is int:
        whole = _whole_number(value)
        if whole is None:
            _refuse(name, value, "a whole number")
        return whole
    if kind is float:
        return _number(name, value)
    if kind is str:
        _require(isinstance(value, str), name, value, "text")
        return value
    if kind == tuple[str, ...]:
        if name == "env_kwargs" and isinstance(value, Mapping):
            return keyword_texts(value)
        texts = (value,) if isinstance(value, str) else value
        fits = isinstance(texts, tuple | list) and all(isinstance(one, str) for one in texts)
        _require(fits, name, value, "a list of strings")
        return tuple(texts)
    numbers_of = tuple(value) if isinstance(value, tuple | list) else (value,)
    wholes = tuple(_whole_number(one) for one in numbers_of)
    _require(None not in wholes, name, value, "whole numbers")
    return wholes


def _whole_number(value: object) -> int | None:
    """A value (also ``1e4`` or a NumPy number) as an integer; None if it is not whole."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if not isinstance(value, numbers.Real):
        return None
    try:
        whole = int(float(value))
    except (OverflowError, ValueError):
        # Infinity or NaN.
        return None
    return whole if whole == value else None


def _number(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        _refuse(name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        _refuse(name, value, "a number that a float can hold")
    _require(not math.isnan(number), name, value, "a number")
    return number


def _check_bounds(name: str, value: Any) -> None:
    if name in _COUNTS:
        least, most = _COUNTS[name]
        _require(least <= value <= most, name, value, _whole(least, most))
    elif name in _POSITIVE:
        limit = _POSITIVE[name]
        ending = "" if limit == math.inf else f": at most {limit:g}"
        fits = 0 < value < math.inf and value <= limit
        _require(fits, name, value, f"above 0, and finite{ending}")
    elif name in _FRACTIONS:
        _require(0 <= value <= 1, name, value, "from 0 to 1")
    elif name in _DECAYS:
        _require(0 <= value < 1, name, value, "at least 0 and below 1")
    elif name in _COEFFICIENTS:
        allowed = f"0 or more, and finite: at most {MAX_FACTOR:g}"
        _require(0 <= value <= MAX_FACTOR, name, value, allowed)
    elif name in _RANGES:
        low, high = _RANGES[name]
        _require(low <= value <= high, name, value, f"a finite number: from {low:g} to {high:g}")
    elif name == "max_gradient_norm":
        _require(value > 0, name, value, "positive")


def _check_texts(name: str, texts: str | tuple[str, ...]) -> None:
    if isinstance(texts, str):
        _require(bool(texts), name, texts, "a name")
        texts = (texts,)
    _require(len(texts) <= MAX_NAMES, name, texts, f"at most {MAX_NAMES} values")
    most = MAX_ARGUMENT if name == "env_kwargs" else MAX_NAME
    for text in texts:
        _require(len(text) <= most, name, text, f"at most {most:,} characters long")
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse(name, text, "text that can be encoded as UTF-8")


def _check_image_axes(text: str) -> None:
    allowed = "auto, none, or a letter for each axis: one H, one W, and C or S, such as SHWC"
    _require(is_image_axes(text), "image_axes", text, allowed)


def _check_sizes(values: Mapping[str, Any]) -> None:
    """Check products of settings: each may be small enough alone, but not together."""
    sizes = values["hidden_sizes"]
    _require(
        len(sizes) <= MAX_HIDDEN_LAYERS,
        "hidden_sizes",
        sizes,
        f"at most {MAX_HIDDEN_LAYERS} layers",
    )
    for size in sizes:
        allowed = f"{_whole(1, MAX_HIDDEN_UNITS)}, units per layer"
        _require(1 <= size <= MAX_HIDDEN_UNITS, "hidden_sizes", size, allowed)
    weights = sum(inputs * units for inputs, units in itertools.pairwise(sizes))
    _require(
        weights <= MAX_HIDDEN_WEIGHTS,
        "hidden_sizes",
        sizes,
        f"small enough for at most {MAX_HIDDEN_WEIGHTS:,} weights between the layers",
    )
    copies = values["envs_per_worker"]
    _require(
        copies * values["rollout_length"] <= MAX_ROLLOUT_STEPS,
        "rollout_length",
        values["rollout_length"],
        f"at most {MAX_ROLLOUT_STEPS // copies:,} with {copies:,} environments per worker",
    )
    _require(
        copies * values["workers"] <= MAX_ENVS,
        "workers",
        values["workers"],
        f"at most {MAX_ENVS // copies:,} with {copies:,} environments each",
    )


def _whole(least: int, most: int) -> str:
    return f"{least} or more, and at most {most:,}"


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        _refuse(name, value, allowed)


def _refuse(name: str, value: object, allowed: str) -> typing.NoReturn:
    flag = "--" + name.replace("_", "-")
    raise ConfigError(f"{flag} is {shown(value)}, but must be {allowed}")
