"""Trial steps in copies of an environment; `preflight` draws conclusions from the results."""

import contextlib
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from poise.batching import leaves
from poise.envs.checked_env import CheckedEnv
from poise.envs.deadlines import BackgroundCall
from poise.envs.env_factory import EnvFactory
from poise.envs.host_envs import HostedKind, HostEnvs
from poise.envs.reward_shaping import RewardShaping
from poise.envs.shared_objects import SharedRandomState, positions, require_new
from poise.envs.shared_state import SharedThings
from poise.envs.statistics_wrappers import statistics_advice
from poise.errors import EnvironmentCheckError, EnvironmentFailureError, InputError
from poise.user_warnings import warn_caller

__all__ = ["Approve", "Trace", "TrialPlay"]

Approve = Callable[[spaces.Space[Any], spaces.Space[Any]], None]
"""Called with (observation space, action space); raises if they are not suitable."""
STEPS = 20
STEPS_AFTER_RESET = 10
"""Number of steps after a reset without a seed."""
VECTOR_COPIES = 2


class Trace(NamedTuple):
    """What a copy returned, in seeded episodes and after a reset without a seed."""

    seeded: list[bytes]
    unseeded: list[bytes]


class TrialPlay:
    """Makes and steps copies of one environment, and knows which copy is being stepped."""

    def __init__(
        self,
        env_factory: EnvFactory,
        approve: Approve,
        needed: int,
        timed: Callable[[float], None],
        keeps: bool,
    ) -> None:
        self._timed = timed
        self._keeps = keeps
        self._kept: CheckedEnv | None = None
        self._needed = needed
        self._env_factory = env_factory
        self._approve = approve
        self._now: Any = None
        self._made: list[Any] = []
        self.shared: list[str] = []
        """Names of what two copies share and one changes; filled by `reach`."""
        self.remembers = False
        """Whether the first copy returned different results in a second seeded episode."""

    def __enter__(self) -> "TrialPlay":
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()

    def describe_activity(self) -> str:
        """Describe what the current copy is doing; empty while a copy is being made."""
        return "" if self._now is None else self._now.describe_activity()

    def alone(self) -> Trace:
        """Step a single copy; returns its trace."""
        return self._play(1)

    def beside_another(self) -> Trace:
        """Step a copy while another copy with another seed is stepped in between."""
        return self._play(2)

    def beside_another_with_its_own_random_state(self) -> Trace:
        """Do the same, but restore generators that both copies share after the other's steps."""
        return self._play(2, restore_shared=True)

    def _play(self, count: int, restore_shared: bool = False) -> Trace:
        """Step copies in turn; returns the first one's trace."""
        copies: list[CheckedEnv] = []
        trace = Trace([], [])
        self._now = None
        try:
            if count > 1 and self._kept is not None:
                copies.append(self._kept)
                self._kept = None
                copies.insert(0, self._beside())
            else:
                copies.append(self._make())
                copies.extend(self._beside() for _ in range(count - 1))
            first = copies[0].environment
            self._approve(first.observation_space, first.action_space)
            others = copies[1:]
            kept = SharedRandomState(first, others[0].environment) if restore_shared else None
            # Copies of the spaces, because many environments share one space and its generator.
            actions = [deepcopy(copy.environment.action_space) for copy in copies]
            for number, space in enumerate(actions):
                space.seed(number)
            self._reset(copies[0], 0, trace.seeded)
            before = positions(first)
            with kept or contextlib.nullcontext():
                for number, copy in enumerate(others, 1):
                    self._reset(copy, number)
            for step in range(STEPS + STEPS_AFTER_RESET):
                shown = trace.seeded if step < STEPS else trace.unseeded
                if step == STEPS:
                    # Even if episodes are long: an unseeded reset must follow from the last seed.
                    self._reset(copies[0], None, shown)
                seed = 0 if step < STEPS else None
                self._step(copies[0], actions[0].sample(), seed, shown)
                with kept or contextlib.nullcontext():
                    for copy, space in zip(others, actions[1:], strict=True):
                        self._step(copy, space.sample(), None)
            # A generator that was not drawn from may have any seed.
            drawn = dict(positions(first).items() - before.items())
            trace.unseeded.append(repr(sorted(drawn.items())).encode())
            if len(self._made) == 1:
                self._repeat_episode(copies[0], trace.seeded)
            if self._keeps:
                self._keeps, self._kept = False, copies.pop()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(f"{self._env_factory.name}: {error}") from error.__cause__
        finally:
            for copy in copies:
                copy.close()
        return trace

    def _repeat_episode(self, copy: CheckedEnv, seeded: list[bytes]) -> None:
        """Check whether the first copy repeats, with the same seed, what it did when new."""
        space = deepcopy(copy.environment.action_space)
        space.seed(0)
        shown: list[bytes] = []
        self._reset(copy, 0, shown)
        for _ in range(STEPS_AFTER_RESET):
            self._step(copy, space.sample(), 0, shown)
        self.remembers = shown != seeded[: len(shown)]

    def _make(self) -> CheckedEnv:
        """Make a copy that is a new object.

        Raises:
            EnvironmentCheckError: it is an earlier copy, or wraps one.
        """
        environment = self._env_factory.make()
        require_new(environment, self._made, self._env_factory.name)
        if not self._made:
            for advice in statistics_advice(environment):
                warn_caller(f"{self._env_factory.name}: {advice}")
        self._made.append(environment)
        return CheckedEnv(environment, "before training")

    def _beside(self) -> CheckedEnv:
        """Make a second copy.

        Raises:
            EnvironmentCheckError: it cannot be made while the first is open.
        """
        try:
            return self._make()
        except EnvironmentCheckError:
            raise
        except InputError as error:
            raise EnvironmentCheckError(
                f"a second copy could not be made beside the first: {error}; with these settings "
                f"{self._needed:,} are open at a time, for training (--workers times "
                "--envs-per-worker) and for evaluations (--evaluation-copies); "
                "--workers 1 --envs-per-worker 1 needs only one"
            ) from error

    def _reset(self, copy: CheckedEnv, seed: int | None, shown: list[bytes] | None = None) -> None:
        self._now = copy
        observation = copy.reset(seed)
        copy.check(observation)
        if shown is not None:
            shown.append(_fingerprint(observation))

    def _step(
        self, copy: CheckedEnv, action: Any, seed: int | None, shown: list[bytes] | None = None
    ) -> None:
        """Step once, and reset if the episode has ended."""
        self._now = copy
        began = time.monotonic()
        result = copy.step(action)
        self._timed(time.monotonic() - began)
        copy.check(result[0])
        if shown is not None:
            shown.append(_fingerprint(result))
        if result[2] or result[3]:
            self._reset(copy, seed, shown)

    def reach(self) -> None:
        """Find state that one copy changes and another reaches."""
        copies: list[CheckedEnv] = []
        self._now = None
        try:
            copies.append(self._make())
            copies.append(self._beside())
            spaces = [deepcopy(copy.environment.action_space) for copy in copies]
            # After one episode, everything that is made once and then cached exists.
            for number, (copy, space) in enumerate(zip(copies, spaces, strict=True)):
                space.seed(number)
                self._reset(copy, number)
                self._play_episode(copy, space)
            things = SharedThings(*(copy.environment for copy in copies))
            self._play_episode(copies[0], spaces[0], things.look)
            self.shared = things.changed()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(f"{self._env_factory.name}: {error}") from error.__cause__
        finally:
            for copy in copies:
                copy.close()

    def _play_episode(
        self, copy: CheckedEnv, space: spaces.Space[Any], then: Callable[[], None] = lambda: None
    ) -> None:
        """Take some steps, then reset; call ``then`` after each."""
        for _ in range(STEPS):
            self._step(copy, space.sample(), None)
            then()
        self._reset(copy, None)
        then()

    def across_threads(self) -> None:
        """Make a copy here, step it in another thread, and close it here."""
        self._now = None
        copy = CheckedEnv(self._env_factory.make(), "before training")
        space = deepcopy(copy.environment.action_space)
        try:
            self._reset(copy, 0)
            # Both threads are alive at once: otherwise they might get the same identifier.
            background_call = BackgroundCall(lambda: self._step(copy, space.sample(), 0))
            background_call.is_done(threading.TIMEOUT_MAX)
            background_call.outcome()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(f"{self._env_factory.name}: {error}") from error.__cause__
        finally:
            copy.close()

    def together(self, world: HostedKind) -> None:
        """Step copies in a vector implementation."""
        self._now = None
        envs = HostEnvs.open(self._env_factory, world, RewardShaping())
        try:
            self._now = copies = envs.copies(VECTOR_COPIES)
            try:
                actions = batch_space(envs.action_space, VECTOR_COPIES)
                actions.seed(0)
                copies.reset(list(range(VECTOR_COPIES)))
                for _ in range(STEPS):
                    copies.step(actions.sample())
            finally:
                copies.close()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(
                f"{self._env_factory.name}: {error}; --world copies steps the environment itself"
            ) from error.__cause__


def _fingerprint(shown: Any) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in leaves(shown))
