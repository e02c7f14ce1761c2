"""Processes that play a share of a long evaluation, beside the process of a run.

They are started when an evaluation turns out to be long, and play episodes from then on. Whole
episodes are shared, because a process woken up for every step would be slower than none. Nobody
waits for them for long: every episode has its own seed, so its result is the same wherever it is
played, and the run's own process plays what is missing.
"""

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

import cloudpickle

from poise.argument_names import as_flags
from poise.envs.observations import one_line
from poise.launchers.evaluation_helpers import Task
from poise.launchers.evaluation_worker import Player
from poise.launchers.framed_pipe import FramedPipe
from poise.learning.evaluation_result import Episode

__all__ = ["PlayerProcess", "PlayerProcesses", "SharedEpisodes"]

WORTHWHILE_SECONDS = 6.0
"""Processes are started if the rest of an evaluation takes longer. Each takes about 3 seconds to
start, of a processor core that is idle during an evaluation."""
_PAUSE = 0.02
"""Seconds between two looks at the processes."""
_READY, _PLAYED, _FAILED = b"R", b"P", b"F"

Numbered = tuple[int, int]
"""The number and the seed of an episode."""


class PlayerProcess:
    """The parent's side of one process."""

    def __init__(self, payload: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = map(FramedPipe, context.Pipe())
        self._pipe = ours
        self._process = context.Process(
            target=_play_until_the_end, args=(payload, theirs), name="poise-player", daemon=True
        )
        try:
            self._process.start()
        finally:
            # Only the child holds the other end now, so its death closes the pipe.
            theirs.close()
        self._is_ready = False
        self._order = 0
        self._missing = 0
        self.fault = ""
        """Why it does not play any more."""

    @property
    def is_idle(self) -> bool:
        """Whether it can be given episodes."""
        return self._is_ready and not self._missing and not self.fault

    @property
    def pid(self) -> int:
        """Its number in the system."""
        assert self._process.pid is not None, "it was started"
        return self._process.pid

    def give(self, task: Task, episodes: Sequence[Numbered]) -> int:
        """Let it play episodes; return the number of the order, which comes with each result."""
        self._order += 1
        self._missing = len(episodes)
        content = pickle.dumps((self._order, task._replace(seeds=()), list(episodes)))
        # A process that has been stopped does not read, and a large policy fills the pipe.
        threading.Thread(target=self._send, args=(content,), daemon=True).start()
        return self._order

    def _send(self, content: bytes) -> None:
        # That the process has ended is seen when its results are looked for.
        with contextlib.suppress(OSError):
            self._pipe.send(content)

    def results(self) -> Iterator[tuple[int, int, Episode]]:
        """Yield the results that have arrived: order, number, episode."""
        while not self.fault and self._pipe.has_mail():
            try:
                messages = self._pipe.receive()
            except (EOFError, OSError):
                self.fault = "it has ended"
                return
            for message in messages:
                kind, content = message[:1], message[1:]
                if kind == _READY:
                    self._is_ready = True
                elif kind == _FAILED:
                    self.fault = content.decode(errors="replace")
                else:
                    order, number, episode = pickle.loads(content)
                    self._missing -= 1
                    yield order, number, Episode(*episode)

    def close(self) -> None:
        """Kill it: the environments that it may play in need no closing."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()


class PlayerProcesses:
    """A few processes that play a share of long evaluations.

    Args:
        payload: pickled function that makes a `Player`, in each process.
        count: number of processes.
    """

    def __init__(self, payload: bytes, count: int) -> None:
        self._payload = payload
        self._count = count
        self._processes: list[PlayerProcess] = []
        self._has_started = False

    def start_if_worthwhile(self, seconds_left: float) -> None:
        """Start the processes, unless the rest of an evaluation is short."""
        if self._has_started or seconds_left < WORTHWHILE_SECONDS:
            return
        self._has_started = True
        for _ in range(self._count):
            try:
                self._processes.append(PlayerProcess(self._payload))
            except OSError as error:
                _warn(f"it cannot be started: {error.strerror or error}")
                break

    @property
    def going(self) -> Sequence[PlayerProcess]:
        """The processes that have not failed."""
        return [one for one in self._processes if not one.fault]

    def close(self) -> None:
        """End all processes."""
        while self._processes:
            self._processes.pop().close()
        self._has_started = False


class SharedEpisodes:
    """The episodes of one evaluation, shared between this process and others.

    Args:
        processes: the others.
        task: the evaluation.
        rest: those of its episodes that are to be played.
        over: called with the number and the result of each episode, once.
    """

    def __init__(
        self,
        processes: PlayerProcesses,
        task: Task,
        rest: Sequence[Numbered],
        over: Callable[[int, Episode], None],
    ) -> None:
        self._processes = processes
        self._task = task
        self._over = over
        self._rest: deque[Numbered] = deque(rest)
        self._given: dict[PlayerProcess, tuple[int, dict[int, int]]] = {}
        """What each process was given: its order, and the missing episodes' seeds by number."""
        self._began = self._looked = time.monotonic()
        self._finished = 0
        self._look()

    def next(self) -> Numbered | None:
        """Return an episode for this process to play; None if none is left for it."""
        if time.monotonic() - self._looked > _PAUSE:
            self._look()
        return self._rest.popleft() if self._rest else None

    def over(self, number: int, episode: Episode) -> None:
        """Take the result of an episode that was played in this process."""
        self._finished += 1
        self._over(number, episode)

    def wait(self, alive: Callable[[], None]) -> bool:
        """Wait for the others if none is left here; return whether there are some to play here.

        They are waited for as long as the evaluation has taken until now.
        """
        waited_from = time.monotonic()
        patience = waited_from - self._began + _PAUSE
        while self._given and not self._rest:
            alive()
            time.sleep(_PAUSE)
            self._look()
            if time.monotonic() - waited_from > patience:
                for process in list(self._given):
                    self._take_back(process)
        return bool(self._rest)

    def _look(self) -> None:
        """Collect results, and give episodes to processes that are idle."""
        self._looked = time.monotonic()
        for process in self._processes.going:
            for order, number, episode in process.results():
                expected, missing = self._given.get(process, (0, {}))
                # Others are results of an earlier evaluation, which was aborted.
                if order == expected and missing.pop(number, None) is not None:
                    self.over(number, episode)
                    if not missing:
                        del self._given[process]
            if process.fault:
                self._take_back(process)
                _warn(process.fault)
        if self._finished:
            each = (self._looked - self._began) / self._finished
            self._processes.start_if_worthwhile(each * len(self._rest))
        idle = [one for one in self._processes.going if one.is_idle and one not in self._given]
        for waiting, process in zip(itertools.count(len(idle), -1), idle, strict=False):
            share = len(self._rest) // (waiting + 1)
            if share:
                episodes = [self._rest.pop() for _ in range(share)]
                order = process.give(self._task, episodes)
                self._given[process] = order, dict(episodes)

    def _take_back(self, process: PlayerProcess) -> None:
        _, missing = self._given.pop(process, (0, {}))
        self._rest.extend(missing.items())


def _warn(reason: str) -> None:
    warnings.warn(
        "an evaluation continues with fewer processes and the same score, because one that helped "
        f"has failed: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


def _play_until_the_end(payload: bytes, pipe: FramedPipe) -> None:
    """Play the episodes of one order after the other, until the parent has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        player: Player = cloudpickle.loads(payload)()
        pipe.send(_READY)
        while True:
            order, task, episodes = pickle.loads(pipe.wait())
            rest = iter(episodes)

            def over(number: int, episode: Episode, order: int = order) -> None:
                pipe.send(_PLAYED + pickle.dumps((order, number, tuple(episode))))

            def waiting(rest: Iterator[Any] = rest) -> Any:
                return next(rest, None)

            player.prepare(task.snapshot, task.sampling, task.step_limit)
            player.provide(len(episodes), _nothing)
            player.play(waiting, over, _nothing)
    except EOFError:
        return
    except Exception as error:
        # Whatever it is, this process's part is played by the run's own, which then meets it too.
        with contextlib.suppress(OSError), as_flags():
            pipe.send(_FAILED + f"{type(error).__name__}: {one_line(error)}".encode())


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _nothing() -> None:
    """Default for `alive`: the parent watches."""
