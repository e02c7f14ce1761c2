"""A worker process's part in an evaluation: the episodes that it plays while it would wait.

It is sent one or a few at a time, so that each process has something to play until the end, plays
them in copies of its own beside those that train, and says of each what it came to.
"""

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from poise.errors import EnvironmentFailureError, InputError
from poise.launchers.framed_pipe import FramedPipe
from poise.launchers.shared_policy import SharedPolicy
from poise.launchers.worker_failure import describe_failure
from poise.learning.evaluation_result import Episode
from poise.trajectory import Snapshot

__all__ = [
    "ALIVE",
    "CANNOT_PLAY",
    "LANES",
    "PLAY",
    "PLAYED",
    "PLAY_FAILED",
    "EvaluationWorker",
    "Player",
    "PlayerFactory",
    "pack_order",
    "pack_sampling",
]

PLAY = b"P"
"""From the parent: an order, in JSON, as `pack_order` makes it."""
LANES, PLAYED, ALIVE, CANNOT_PLAY, PLAY_FAILED = b"N", b"D", b"H", b"U", b"Y"
_LOOK = 0.05
"""Seconds between two looks whether the parent has left, at least."""
_SIGNS = 10
"""Signs of life that are given while the parent would be patient."""


@runtime_checkable
class Player(Protocol):
    """Plays episodes in a worker's process."""

    def open(self, alive: Callable[[], None]) -> None:
        """Make the copies that will be played in.

        Args:
            alive: called between them.

        Raises:
            InputError: not even one can be made.
        """

    def prepare(
        self,
        snapshot: Snapshot | None,
        sampling: np.random.SeedSequence | None,
        step_limit: int | None,
    ) -> None:
        """Compile what acts; None acts at random.

        Args:
            snapshot: what acts.
            sampling: to sample actions; None acts greedily.
            step_limit: an episode is cut after this many steps; by default as the settings say.
        """

    def provide(self, count: int, alive: Callable[[], None]) -> int:
        """Make this many copies, or as many as there may be; returns how many there are.

        Raises:
            InputError: not even one can be made.
        """

    def play(
        self,
        waiting: Callable[[], tuple[int, int] | None],
        over: Callable[[int, Episode], None],
        alive: Callable[[], None],
    ) -> None:
        """Play episodes as prepared, until none waits and all are over.

        Args:
            waiting: the next episode's number and seed; None while there is none.
            over: told the number of an episode that is over, and what it came to.
            alive: called between steps.
        """

    def describe_activity(self) -> str:
        """What is being stepped, or was last."""

    def close(self) -> None:
        """Close the copies."""


@runtime_checkable
class PlayerFactory(Protocol):
    """A worker factory whose workers can play in evaluations."""

    def copies(self, index: int) -> int:
        """Copies that a worker may play in at most; 0 where it may not play."""

    def player(self, index: int) -> Player:
        """What plays in the process of a worker; called there, after the worker was made."""


def pack_sampling(sampling: np.random.SeedSequence | None) -> Any:
    """What is needed to make a seed sequence again, for JSON."""
    if sampling is None:
        return None
    return [_plain(sampling.entropy), _plain(sampling.spawn_key)]


def _plain(numbers: Any) -> Any:
    return int(numbers) if np.ndim(numbers) == 0 else [int(one) for one in numbers]


def pack_order(
    policy: int | None,
    sampling: Any,
    step_limit: int | None,
    lanes: int,
    episodes: list[tuple[int, int]],
) -> bytes:
    """An order: episodes to play.

    Args:
        policy: the number by which it is in shared memory; None acts at random.
        sampling: as `pack_sampling` packed it.
        step_limit: an episode is cut after this many steps; by default as the settings say.
        lanes: copies to play in, at most.
        episodes: number and seed of each.
    """
    return PLAY + json.dumps([policy, sampling, step_limit, lanes, episodes]).encode()


@runtime_checkable
class Says(Protocol):
    """How a worker's process speaks to its parent, which watches how long it is silent."""

    describe_activity: Callable[[], str]

    def begin(self) -> None:
        """It is silent from now on."""

    def rest(self) -> None:
        """It waits, and nobody expects it to say anything."""

    def send(self, message: bytes) -> None:
        """It says something.

        Raises:
            OSError: the parent has left.
        """


class EvaluationWorker:
    """What a worker's process does with orders.

    Args:
        make: makes what plays, when the first order comes.
        shared_policy: where the policy is.
        watch: how it speaks.
        pipe: where further orders come.
        patience: seconds after which the parent takes a silent worker for hung.
        leave: raises, when the parent has left.
    """

    def __init__(
        self,
        make: Callable[[], Player],
        shared_policy: SharedPolicy,
        watch: Says,
        pipe: FramedPipe,
        patience: float,
        leave: Callable[[], None],
    ) -> None:
        self._make = make
        self._shared_policy = shared_policy
        self._watch = watch
        self._pipe = pipe
        self._interval = min(5.0, patience / _SIGNS)
        self._leave = leave
        self._player: Player | None = None
        self._prepared: Any = ()
        self._orders: deque[bytes] = deque()
        self._waiting: deque[tuple[int, int]] = deque()
        self._looked = self._signed = 0.0

    def open(self) -> None:
        """Make the copies that it will play in; where that fails, an order says so."""
        self._player = self._make()
        trains = self._watch.describe_activity
        self._watch.describe_activity = self._player.describe_activity
        try:
            with contextlib.suppress(InputError):
                self._player.open(self._alive)
        finally:
            self._watch.describe_activity = trains

    def take(self, message: bytes) -> None:
        """Play what an order says, and what others say that come meanwhile."""
        self._orders.append(message)
        while self._orders:
            self._take(self._orders.popleft())

    def _take(self, message: bytes) -> None:
        trains = self._watch.describe_activity
        try:
            self._play(message)
        except InputError as error:
            self._watch.send(CANNOT_PLAY + str(error).encode(errors="replace"))
        except OSError:
            # The parent has left.
            raise
        except Exception as error:
            ours = isinstance(error, EnvironmentFailureError)
            self._watch.send(PLAY_FAILED + json.dumps([ours, *describe_failure(error)]).encode())
        finally:
            self._watch.describe_activity = trains
            self._watch.rest()

    def close(self) -> None:
        """Close the copies."""
        if self._player is not None:
            self._player.close()

    def _play(self, message: bytes) -> None:
        policy, sampling, step_limit, lanes, episodes = json.loads(message[1:])
        self._waiting = deque((number, seed) for number, seed in episodes)
        if self._player is None:
            self._player = self._make()
        player = self._player
        if self._prepared != (policy, sampling, step_limit):
            snapshot = None if policy is None else self._shared_policy.take(policy)
            player.prepare(snapshot, _unpack_sampling(sampling), step_limit)
            self._prepared = (policy, sampling, step_limit)
        self._watch.describe_activity = player.describe_activity
        self._signed = time.monotonic()
        self._watch.send(ALIVE)
        self._watch.begin()
        self._watch.send(LANES + bytes([min(255, player.provide(lanes, self._alive))]))
        player.play(self._following, self._over, self._alive)

    def _following(self) -> tuple[int, int] | None:
        if not self._waiting and not self._orders:
            with contextlib.suppress(EOFError):
                # At the end of the pipe, `_alive` gives up.
                self._orders.extend(self._pipe.waiting(PLAY))
        while self._orders:
            *prepared, _, episodes = json.loads(self._orders[0][1:])
            if tuple(prepared) != self._prepared:
                # The parent is at the next evaluation already, which is prepared first.
                break
            self._orders.popleft()
            self._waiting += [(one, seed) for one, seed in episodes]
        return self._waiting.popleft() if self._waiting else None

    def _over(self, number: int, episode: Episode) -> None:
        self._watch.send(PLAYED + json.dumps([number, *episode]).encode())

    def _alive(self) -> None:
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._leave()
        if now - self._signed >= self._interval:
            self._signed = now
            self._watch.send(ALIVE)
        self._watch.begin()


def _unpack_sampling(packed: Any) -> np.random.SeedSequence | None:
    if packed is None:
        return None
    entropy, key = packed
    return np.random.SeedSequence(entropy, spawn_key=tuple(key))
