"""The doctor's check of seeding: the same seed and actions must give the same episode."""

import time
from copy import deepcopy
from typing import Any

import numpy as np

from poise.batching import leaves
from poise.doctor.checks import Subject
from poise.doctor.diagnosis import Finding
from poise.envs.checked_env import CheckedEnv

__all__ = ["seeding"]

TRACE_STEPS = 100
"""Number of steps that are compared to check whether a seed repeats an episode."""
TRACE_SECONDS = 5.0
"""Time limit of these steps; fewer are compared for a slow environment."""


def seeding(subject: Subject) -> list[Finding]:
    """Check that a seed repeats its episode: in two copies, after a second reset of one copy, and
    while another copy is stepped in between.
    """
    env_factory = subject.env_factory
    copies: list[CheckedEnv] = []
    try:
        copies.extend(CheckedEnv(env_factory.make(), "seeding") for _ in range(3))
        one, other, neighbour = copies
        limit = min(TRACE_SECONDS, subject.config.worker_timeout / 10)
        first, second = _trace(one, 0, limit), _trace(other, 0, limit)
        again, different = _trace(one, 0, limit), _trace(one, 1, limit)
        beside = _trace(one, 0, limit, neighbour)
        random = env_factory.spec is not None and env_factory.spec.nondeterministic
    finally:
        for copy in copies:
            copy.close()
    advice = (
        "reset(seed=...) must call super().reset(seed=seed), all random numbers must come from "
        "self.np_random, which copies do not share, and nothing of an earlier episode may remain. "
        "Otherwise scores cannot be repeated and runs cannot be replayed"
    )
    for pair, who in (
        ((first, second), "two copies with the same seed and actions differ"),
        ((first, again), "two resets of one copy with the same seed and actions differ"),
        (
            (first, beside),
            "a copy behaves differently when another is stepped in between, starting",
        ),
    ):
        step = _difference(*pair)
        if step is not None:
            where = "in the first observation" if step == 0 else f"at step {step}"
            text = f"{who} {where}"
            if random:
                text += "; it is registered as nondeterministic"
            return [Finding("seeding", "warning" if random else "failure", text, advice)]
    if _difference(first, different) is None:
        return [
            Finding(
                "seeding",
                "warning",
                "seeds 0 and 1 give the same episode, step by step",
                "nothing to do if the environment is deterministic (then all evaluation episodes "
                f"are the same); otherwise {advice}",
            )
        ]
    text = "the same seed repeats the same episode, and different seeds give different ones"
    return [Finding("seeding", "ok", text)]


def _trace(
    copy: CheckedEnv, seed: int, limit: float, neighbour: CheckedEnv | None = None
) -> list[Any]:
    """The first steps after a seeded reset: the observation, then everything each step returned.

    Args:
        copy: the copy that is stepped.
        seed: seed of its reset.
        limit: seconds after which no further steps are taken.
        neighbour: another copy that is stepped in between, reset with a different seed.
    """
    began = time.monotonic()
    # Copy the space: many environments share one space object, and with it its random generator.
    actions = deepcopy(copy.environment.action_space)
    actions.seed(seed)
    rows = [deepcopy(copy.reset(seed))]
    if neighbour is not None:
        neighbour.reset(seed + 1)
    while len(rows) <= TRACE_STEPS and time.monotonic() - began < limit:
        action = actions.sample()
        rows.extend(_move(copy, action))
        if neighbour is not None:
            _move(neighbour, action)
    return rows


def _move(copy: CheckedEnv, action: Any) -> list[Any]:
    """One step, and a reset if the episode ended."""
    shown = copy.step(action)
    rows: list[Any] = [deepcopy(shown)]
    if shown[2] or shown[3]:
        rows.append(deepcopy(copy.reset()))
    return rows


def _difference(one: list[Any], other: list[Any]) -> int | None:
    """The first row in which two traces differ, up to the end of the shorter one; or None."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        pair = leaves(left), leaves(right)
        if len(pair[0]) != len(pair[1]):
            return index
        for one_leaf, other_leaf in zip(*pair, strict=True):
            leaf, another = np.asarray(one_leaf), np.asarray(other_leaf)
            floats = leaf.dtype.kind == another.dtype.kind == "f"
            if not np.array_equal(leaf, another, equal_nan=floats):
                return index
    return None
