"""Checks of an environment before training begins: whether it keeps Gymnasium's contract.

A short look, a few resets and steps, so that what would fail after hours fails in a moment.
"""

import threading
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from poise.batches import leaves
from poise.config import WorldKind
from poise.errors import EnvironmentCheckError, EnvironmentFailureError, InputError
from poise.world.copy import Copy
from poise.world.hosted import HostedWorld
from poise.world.rewards import RewardShaping
from poise.world.source import EnvironmentSource

__all__ = ["Errand", "check_environment", "in_time"]

Approve = Callable[[spaces.Space[Any], spaces.Space[Any]], None]
"""(observation space, action space): raises if they will not do."""
STEPS = 20
VECTOR_COPIES = 2


def check_environment(
    source: EnvironmentSource,
    timeout: float,
    world: WorldKind = "copies",
    approve: Approve = lambda observation, action: None,
    needed: int = 2,
    timed: Callable[[float], None] = lambda seconds: None,
) -> bool:
    """Make copies, reset them and step them a little with random actions.

    Args:
        source: makes the copies.
        timeout: seconds after which one counts as hung.
        world: how it will be stepped; a vector implementation is looked at, too.
        approve: asked about the spaces before anything is stepped; raises if they will not do.
        needed: copies that will be open at a time; where that is one, no second is made beside it.
        timed: told the seconds that each step took.

    Returns:
        Whether a copy did the same once more, from the same seed, with the same actions and
        another copy beside it, as far as was seen: if not, the environment has a state outside,
        and no run of it can be replayed.

    Raises:
        EnvironmentCheckError: it hangs, raises, or breaks the contract; says how.
        InputError: it cannot be made.
    """
    look = _Look(source, approve, needed, timed)
    first = in_time(look.alone, timeout, source.name, look.whereabouts)
    again = look.alone if needed == 1 else look.beside_another
    second = in_time(again, timeout, source.name, look.whereabouts)
    if world == "vector":
        in_time(look.vector, timeout, source.name, look.whereabouts)
    return bool(first == second)


def in_time(
    work: Callable[[], Any], timeout: float, name: str, whereabouts: Callable[[], str] = str
) -> Any:
    """Run something that may hang in a thread that can be left behind.

    Args:
        work: what may hang.
        timeout: seconds.
        name: of the environment.
        whereabouts: what it was doing.

    Raises:
        EnvironmentCheckError: it did not come back in time.
    """
    errand = Errand(work)
    if not errand.is_done(timeout):
        where = whereabouts()
        raise EnvironmentCheckError(
            f"the environment {name} has not answered for {timeout:g} s (--worker-timeout)"
            + (f"; {where}" if where else "")
            + ": does its constructor, reset or step wait for something?"
        )
    return errand.outcome()


class Errand:
    """Work that may hang, in a thread that can be left behind.

    Args:
        work: what is done; it begins at once.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._outcome: list[Any] = []
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_done(self, patience: float) -> bool:
        """Whether it is over, after so many seconds at most."""
        self._thread.join(patience)
        return not self._thread.is_alive()

    def outcome(self) -> Any:
        """What came of work that is done: it is returned, or raised."""
        if self._failure:
            # Not kept: an exception leads to the frames that it came through, and they lead here.
            raise self._failure.pop()
        return self._outcome[0]

    def _run(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:
            self._failure.append(error)


class _Look:
    """What is looked at, and where it is at the moment."""

    def __init__(
        self,
        source: EnvironmentSource,
        approve: Approve,
        needed: int,
        timed: Callable[[float], None],
    ) -> None:
        self._timed = timed
        self._needed = needed
        self._source = source
        self._approve = approve
        self._now: Any = None

    def whereabouts(self) -> str:
        """Empty while a copy is made."""
        return "" if self._now is None else self._now.whereabouts()

    def alone(self) -> list[bytes]:
        """What a copy shows."""
        return self._play(1)

    def beside_another(self) -> list[bytes]:
        """What it shows while another is stepped in between, from another seed."""
        return self._play(2)

    def _play(self, count: int) -> list[bytes]:
        """Step copies in turn; returns what the first one showed."""
        copies: list[Copy] = []
        seen: list[bytes] = []
        self._now = None
        try:
            copies.append(Copy(self._source.make(), "before training"))
            copies.extend(self._beside() for _ in range(count - 1))
            first = copies[0].environment
            self._approve(first.observation_space, first.action_space)
            # Their own copies of the space: many environments share one, and its chance.
            actions = [deepcopy(copy.environment.action_space) for copy in copies]
            for seed, copy in enumerate(copies):
                self._now = copy
                actions[seed].seed(seed)
                copy.check(copy.reset(seed))
            for _ in range(STEPS):
                for copy, space in zip(copies, actions, strict=True):
                    self._now = copy
                    shown = self._step(copy, space.sample())
                    if copy is copies[0]:
                        seen.append(_fingerprint(shown))
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(f"{self._source.name}: {error}") from error.__cause__
        finally:
            for copy in copies:
                copy.close()
        return seen

    def _beside(self) -> Copy:
        """Another copy.

        Raises:
            EnvironmentCheckError: it cannot be made beside the first.
        """
        try:
            return Copy(self._source.make(), "before training")
        except InputError as error:
            raise EnvironmentCheckError(
                f"a second copy could not be made beside the first: {error}; with these settings "
                f"{self._needed:,} are open at a time, for training (--workers times "
                "--envs-per-worker) and for evaluations (--evaluation-copies); "
                "--workers 1 --envs-per-worker 1 needs only one"
            ) from error

    def _step(self, copy: Copy, action: Any) -> Any:
        began = time.monotonic()
        shown = copy.step(action)
        self._timed(time.monotonic() - began)
        copy.check(shown[0])
        if shown[2] or shown[3]:
            copy.check(copy.reset())
        return shown

    def vector(self) -> None:
        """The vector implementation, for as many steps."""
        self._now = None
        world = HostedWorld.open(self._source, "vector", RewardShaping())
        try:
            self._now = copies = world.copies(VECTOR_COPIES)
            try:
                actions = batch_space(world.action_space, VECTOR_COPIES)
                actions.seed(0)
                copies.reset(list(range(VECTOR_COPIES)))
                for _ in range(STEPS):
                    copies.step(actions.sample())
            finally:
                copies.close()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(
                f"{self._source.name}: {error}; --world copies steps the environment itself"
            ) from error.__cause__


def _fingerprint(shown: Any) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in leaves(shown))
