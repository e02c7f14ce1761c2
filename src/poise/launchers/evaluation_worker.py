"""A worker process's part in an evaluation: it plays episodes while it would otherwise wait.

The parent sends it a few episodes at a time, so that every process has something to play until the
end. It plays them in copies of its own, separate from the training ones, and reports each result.
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
"""From the parent: an order in JSON, made by `pack_order`."""
LANES, PLAYED, ALIVE, CANNOT_PLAY, PLAY_FAILED = b"N", b"D", b"H", b"U", b"Y"
_LOOK = 0.05
"""Minimum seconds between two checks whether the parent has gone."""
_SIGNS = 10
"""Number of signs of life sent within the parent's timeout."""


@runtime_checkable
class Player(Protocol):
    """Plays episodes in a worker's process."""

    def open(self, alive: Callable[[], None]) -> None:
        """Make the copies to play in.

        Args:
            alive: called after each copy.

        Raises:
            InputError: not even one copy can be made.
        """

    def prepare(
        self,
        snapshot: Snapshot | None,
        sampling: np.random.SeedSequence | None,
        step_limit: int | None,
    ) -> None:
        """Compile the policy that acts.

        Args:
            snapshot: the policy; None acts at random.
            sampling: seed for sampling actions; None acts greedily.
            step_limit: an episode is cut after this many steps; by default, as the settings say.
        """

    def provide(self, count: int, alive: Callable[[], None]) -> int:
        """Make this many copies, or as many as allowed; return how many there are.

        Raises:
            InputError: not even one copy can be made.
        """

    def play(
        self,
        waiting: Callable[[], tuple[int, int] | None],
        over: Callable[[int, Episode], None],
        alive: Callable[[], None],
    ) -> None:
        """Play episodes as prepared, until none is waiting and all are finished.

        Args:
            waiting: returns the next episode's number and seed, or None if none is waiting.
            over: called with the number and the result of each finished episode.
            alive: called between steps.
        """

    def describe_activity(self) -> str:
        """Describe what is being stepped, or was stepped last."""

    def close(self) -> None:
        """Close the copies."""


@runtime_checkable
class PlayerFactory(Protocol):
    """A worker factory whose workers can play in evaluations."""

    def copies(self, index: int) -> int:
        """Return the maximum number of copies that a worker may play in; 0 if it may not play."""

    def player(self, index: int) -> Player:
        """Make the player of a worker; called in its process, after the worker was made."""


def pack_sampling(sampling: np.random.SeedSequence | None) -> Any:
    """Return what is needed to make the same seed sequence again, as JSON types."""
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
    """Encode an order to play episodes.

    Args:
        policy: the number of the policy in shared memory; None acts at random.
        sampling: the result of `pack_sampling`.
        step_limit: an episode is cut after this many steps; by default, as the settings say.
        lanes: maximum number of copies to play in.
        episodes: number and seed of each.
    """
    return PLAY + json.dumps([policy, sampling, step_limit, lanes, episodes]).encode()


@runtime_checkable
class Says(Protocol):
    """Channel from a worker's process to its parent, which watches how long it is silent."""

    describe_activity: Callable[[], str]

    def begin(self) -> None:
        """Mark the beginning of work: silence counts from now on."""

    def rest(self) -> None:
        """Mark that the worker waits, and is not expected to send anything."""

    def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            OSError: the parent has gone.
        """


class EvaluationWorker:
    """Executes evaluation orders in a worker's process.

    Args:
        make: makes the player, when the first order arrives.
        shared_policy: where the policy is stored.
        watch: channel to the parent.
        pipe: where further orders arrive.
        patience: seconds of silence after which the parent regards the worker as hung.
        leave: raises if the parent has gone.
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
        """Make the copies to play in; if that fails, the answer to the first order reports it."""
        self._player = self._make()
        trains = self._watch.describe_activity
        self._watch.describe_activity = self._player.describe_activity
        try:
            with contextlib.suppress(InputError):
                self._player.open(self._alive)
        finally:
            self._watch.describe_activity = trains

    def take(self, message: bytes) -> None:
        """Play the episodes of an order, and of further orders that arrive meanwhile."""
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
            # The parent has gone.
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
                # At the end of the pipe, `_alive` raises.
                self._orders.extend(self._pipe.waiting(PLAY))
        while self._orders:
            *prepared, _, episodes = json.loads(self._orders[0][1:])
            if tuple(prepared) != self._prepared:
                # The order belongs to the next evaluation, which must be prepared first.
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
