"""Checks of an environment before training begins: whether it keeps Gymnasium's contract.

A short look, a few resets and steps, so that what would fail after hours fails in a moment.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from poise.batches import leaves
from poise.config import WorldKind
from poise.errors import EnvironmentCheckError, EnvironmentFailureError, InputError
from poise.warning import warn_caller
from poise.world.copy import Copy
from poise.world.deadlines import Errand, in_time
from poise.world.hosted import HostedWorld
from poise.world.reach import SharedThings
from poise.world.rewards import RewardShaping
from poise.world.sharing import GlobalChance, SharedChance, positions, require_new
from poise.world.source import EnvironmentSource
from poise.world.statistics_wrappers import statistics_advice

__all__ = ["EnvironmentTraits", "check_environment"]

Approve = Callable[[spaces.Space[Any], spaces.Space[Any]], None]
"""(observation space, action space): raises if they will not do."""
STEPS = 20
STEPS_AFTER_RESET = 10
"""Steps after a reset without a seed."""
VECTOR_COPIES = 2
NAMED = 3
"""Of the things that copies share."""


class EnvironmentTraits(NamedTuple):
    """What a look at an environment found.

    Attributes:
        repeatable: a copy did the same once more, from the same seed, with the same actions and
            another copy beside it, also after a reset without a seed. If not, it has a state or a
            chance outside, and no run of it can be replayed.
        shares_state: stepping one copy changed what another showed, and not by its chance; or,
            where nothing repeats, what another reaches. No two copies may be stepped in one
            process.
        shared: what they share, as far as it was found, for messages: ``Simulator.aircraft``.
        remembers: the same copy did otherwise in a second episode from the same seed, although the
            environment is repeatable: an episode depends on those before it in its copy.
    """

    repeatable: bool
    shares_state: bool
    shared: str = ""
    remembers: bool = False


class _Trace(NamedTuple):
    """What a copy showed: in seeded episodes, and behind a reset without a seed."""

    seeded: list[bytes]
    unseeded: list[bytes]


def check_environment(
    source: EnvironmentSource,
    timeout: float,
    world: WorldKind = "copies",
    approve: Approve = lambda observation, action: None,
    needed: int = 2,
    timed: Callable[[float], None] = lambda seconds: None,
    in_threads: bool = False,
) -> EnvironmentTraits:
    """Make copies, reset them and step them a little with random actions.

    Args:
        source: makes the copies.
        timeout: seconds after which one counts as hung.
        world: how it will be stepped; a vector implementation is looked at, too.
        approve: asked about the spaces before anything is stepped; raises if they will not do.
        needed: copies that will be open at a time; where that is one, no second is made beside it.
        timed: told the seconds that each step took.
        in_threads: it will be made in one thread and stepped in others, and so it is here.

    Raises:
        EnvironmentCheckError: it hangs, raises, or breaks the contract; says how.
        InputError: it cannot be made.
    """
    # Some take seconds to make: the first copy is the second look's other one, unless it would pass
    # from thread to thread.
    look = _Look(source, approve, needed, timed, keeps=needed > 1 and not in_threads)

    def play(work: Callable[[], _Trace]) -> _Trace:
        trace: _Trace = in_time(work, timeout, source.name, look.whereabouts, in_threads)
        return trace

    # What the caller draws from the global generators afterwards must not depend on this look.
    with GlobalChance(), look:
        first = play(look.alone)
        second = play(look.alone if needed == 1 else look.beside_another)
        if world == "vector":
            in_time(look.vector, timeout, source.name, look.whereabouts, in_threads)
        if in_threads:
            in_time(look.across_threads, timeout, source.name, look.whereabouts, in_threads)
        shares = False
        if first != second and needed > 1:
            chance = GlobalChance()
            alone = [play(chance.repeat(look.alone)) for _ in range(2)]
            beside = play(chance.repeat(look.beside_another_with_its_own_chance))
            repeats = alone[0].seeded == alone[1].seeded
            shares = repeats and beside.seeded != alone[0].seeded
            if shares or not repeats:
                in_time(look.reach, timeout, source.name, look.whereabouts, in_threads)
                # What is seen to change is only a name, where what is shown was enough to tell.
                shares = shares or bool(look.shared)
    repeatable = first == second
    return EnvironmentTraits(
        repeatable,
        shares,
        _listed(look.shared) if shares else "",
        remembers=repeatable and look.remembers,
    )


class _Look:
    """What is looked at, and where it is at the moment."""

    def __init__(
        self,
        source: EnvironmentSource,
        approve: Approve,
        needed: int,
        timed: Callable[[float], None],
        keeps: bool,
    ) -> None:
        self._timed = timed
        self._keeps = keeps
        self._kept: Copy | None = None
        self._needed = needed
        self._source = source
        self._approve = approve
        self._now: Any = None
        self._made: list[Any] = []
        self.shared: list[str] = []
        """What two copies share and one of them changes, once `reach` has looked."""
        self.remembers = False
        """Whether the first copy did otherwise when it began once more."""

    def __enter__(self) -> "_Look":
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()

    def whereabouts(self) -> str:
        """Empty while a copy is made."""
        return "" if self._now is None else self._now.whereabouts()

    def alone(self) -> _Trace:
        """What a copy shows."""
        return self._play(1)

    def beside_another(self) -> _Trace:
        """What it shows while another is stepped in between, from another seed."""
        return self._play(2)

    def beside_another_with_its_own_chance(self) -> _Trace:
        """The same, but what the other one draws from chance that both share is put back."""
        return self._play(2, keep_chance=True)

    def _play(self, count: int, keep_chance: bool = False) -> _Trace:
        """Step copies in turn; returns what the first one showed."""
        copies: list[Copy] = []
        trace = _Trace([], [])
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
            chance = SharedChance(first, others[0].environment) if keep_chance else None
            # Their own copies of the space: many environments share one, and its chance.
            actions = [deepcopy(copy.environment.action_space) for copy in copies]
            for number, space in enumerate(actions):
                space.seed(number)
            self._reset(copies[0], 0, trace.seeded)
            before = positions(first)
            with chance or contextlib.nullcontext():
                for number, copy in enumerate(others, 1):
                    self._reset(copy, number)
            for step in range(STEPS + STEPS_AFTER_RESET):
                shown = trace.seeded if step < STEPS else trace.unseeded
                if step == STEPS:
                    # However long episodes are: what has no seed must follow from the last one.
                    self._reset(copies[0], None, shown)
                seed = 0 if step < STEPS else None
                self._step(copies[0], actions[0].sample(), seed, shown)
                with chance or contextlib.nullcontext():
                    for copy, space in zip(others, actions[1:], strict=True):
                        self._step(copy, space.sample(), None)
            # One that is not drawn from may be seeded as it likes.
            drawn = dict(positions(first).items() - before.items())
            trace.unseeded.append(repr(sorted(drawn.items())).encode())
            if len(self._made) == 1:
                self._begin_again(copies[0], trace.seeded)
            if self._keeps:
                self._keeps, self._kept = False, copies.pop()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(f"{self._source.name}: {error}") from error.__cause__
        finally:
            for copy in copies:
                copy.close()
        return trace

    def _begin_again(self, copy: Copy, seeded: list[bytes]) -> None:
        """Whether the first copy does from its seed what it did when it was new."""
        space = deepcopy(copy.environment.action_space)
        space.seed(0)
        shown: list[bytes] = []
        self._reset(copy, 0, shown)
        for _ in range(STEPS_AFTER_RESET):
            self._step(copy, space.sample(), 0, shown)
        self.remembers = shown != seeded[: len(shown)]

    def _make(self) -> Copy:
        """A copy that is none of those made before.

        Raises:
            EnvironmentCheckError: it is one of them, or goes around one of them.
        """
        environment = self._source.make()
        require_new(environment, self._made, self._source.name)
        if not self._made:
            for advice in statistics_advice(environment):
                warn_caller(f"{self._source.name}: {advice}")
        self._made.append(environment)
        return Copy(environment, "before training")

    def _beside(self) -> Copy:
        """Another copy.

        Raises:
            EnvironmentCheckError: it cannot be made beside the first.
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

    def _reset(self, copy: Copy, seed: int | None, shown: list[bytes] | None = None) -> None:
        self._now = copy
        observation = copy.reset(seed)
        copy.check(observation)
        if shown is not None:
            shown.append(_fingerprint(observation))

    def _step(
        self, copy: Copy, action: Any, seed: int | None, shown: list[bytes] | None = None
    ) -> None:
        """One step, and the reset that an end calls for."""
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
        """Look for what a copy changes and another one reaches."""
        copies: list[Copy] = []
        self._now = None
        try:
            copies.append(self._make())
            copies.append(self._beside())
            spaces = [deepcopy(copy.environment.action_space) for copy in copies]
            # What is only made once, and then kept, is there after the first episode.
            for number, (copy, space) in enumerate(zip(copies, spaces, strict=True)):
                space.seed(number)
                self._reset(copy, number)
                self._walk(copy, space)
            things = SharedThings(*(copy.environment for copy in copies))
            self._walk(copies[0], spaces[0], things.look)
            self.shared = things.changed()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(f"{self._source.name}: {error}") from error.__cause__
        finally:
            for copy in copies:
                copy.close()

    def _walk(
        self, copy: Copy, space: spaces.Space[Any], then: Callable[[], None] = lambda: None
    ) -> None:
        """Some steps, and a reset; something is done after each."""
        for _ in range(STEPS):
            self._step(copy, space.sample(), None)
            then()
        self._reset(copy, None)
        then()

    def across_threads(self) -> None:
        """Make a copy here, step it in another thread, and close it here."""
        self._now = None
        copy = Copy(self._source.make(), "before training")
        space = deepcopy(copy.environment.action_space)
        try:
            self._reset(copy, 0)
            # While this thread waits: one that had ended might pass its identifier on.
            errand = Errand(lambda: self._step(copy, space.sample(), 0))
            errand.is_done(threading.TIMEOUT_MAX)
            errand.outcome()
        except EnvironmentFailureError as error:
            raise EnvironmentCheckError(f"{self._source.name}: {error}") from error.__cause__
        finally:
            copy.close()

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


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _fingerprint(shown: Any) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in leaves(shown))
