"""A worker's part in evaluations: how it handles orders, one after the other and together."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from poise.launchers.evaluation_worker import PLAYED, EvaluationWorker, pack_order
from poise.launchers.framed_pipe import FramedPipe
from poise.launchers.shared_policy import SharedPolicy
from poise.learning.evaluation_result import Episode
from poise.trajectory import Snapshot


class Pipe(FramedPipe):
    """Returns the orders that arrive while episodes are being played."""

    def __init__(self, *batches: list[bytes]) -> None:
        self._batches = list(batches)

    def waiting(self, kind: bytes) -> list[bytes]:
        return self._batches.pop(0) if self._batches else []


class PolicyBoard(SharedPolicy):
    """Returns a policy whose version is the number that was asked for."""

    def __init__(self) -> None:
        pass

    def take(self, sequence: int) -> Snapshot:
        return Snapshot(np.int32(sequence), np.zeros(1, np.float32))


class Watch:
    """Records the messages to the parent."""

    def __init__(self) -> None:
        self.describe_activity: Callable[[], str] = str
        self.told: list[bytes] = []

    def begin(self) -> None:
        pass

    def rest(self) -> None:
        pass

    def send(self, message: bytes) -> None:
        self.told.append(message)


class Player:
    """Its episodes return the number of the prepared policy, and have the length of its limit."""

    def prepare(self, snapshot: Snapshot | None, sampling: Any, step_limit: int | None) -> None:
        self._total = -1.0 if snapshot is None else float(snapshot.version)
        self._limit = step_limit or 0

    def provide(self, count: int, alive: Callable[[], None]) -> int:
        return count

    def play(
        self,
        waiting: Callable[[], tuple[int, int] | None],
        over: Callable[[int, Episode], None],
        alive: Callable[[], None],
    ) -> None:
        while (episode := waiting()) is not None:
            over(episode[0], Episode(self._total, self._limit, False))

    def describe_activity(self) -> str:
        return ""

    def close(self) -> None:
        pass


def order(policy: int | None, number: int, step_limit: int | None = None) -> bytes:
    return pack_order(policy, None, step_limit, 1, [(number, 100 + number)])


def played(first: bytes, *batches: list[bytes]) -> list[list[Any]]:
    watch = Watch()
    part = EvaluationWorker(Player, PolicyBoard(), watch, Pipe(*batches), 60.0, lambda: None)
    part.take(first)
    return [json.loads(one[1:]) for one in watch.told if one.startswith(PLAYED)]


def test_orders_that_arrive_meanwhile_are_played_too() -> None:
    found = played(order(7, 0), [order(7, 1), order(7, 2)])
    assert found == [[number, 7.0, 0, False] for number in range(3)]


def test_orders_of_the_next_evaluation_use_its_own_policy() -> None:
    """A parent that needs no more episodes begins the next evaluation before this worker knows."""
    found = played(order(7, 0), [order(7, 1), order(8, 0), order(8, 1, 50)], [order(None, 0)])
    assert found == [
        [0, 7.0, 0, False],
        [1, 7.0, 0, False],
        [0, 8.0, 0, False],
        [1, 8.0, 50, False],
        [0, -1.0, 0, False],
    ]
