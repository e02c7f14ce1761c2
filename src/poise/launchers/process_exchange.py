"""The exchange of snapshots and updates between the server and the worker processes."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from poise.launchers.process_pool import ProcessPool
from poise.launchers.supervision import Heartbeats
from poise.launchers.worker_main import BEGIN, SIGNAL
from poise.launchers.worker_process import WorkerProcess
from poise.learning.parameter_server import ParameterServer
from poise.trajectory import Snapshot

__all__ = ["ProcessExchange"]


class ProcessExchange:
    """Passes the workers' updates to the server, and the server's answers to the workers.

    Args:
        server: the parameter server; it lives in this thread.
        pool: the workers.
        heartbeats: where their signs of life are recorded.
    """

    def __init__(self, server: ParameterServer, pool: ProcessPool, heartbeats: Heartbeats) -> None:
        self._server = server
        self._pool = pool
        self._heartbeats = heartbeats
        self._has_begun = False

    def begin_when_all_have_opened(self) -> None:
        """Let the workers reset their environments, once all workers have made theirs."""
        workers = list(self._pool.workers.values())
        if not self._has_begun and all(one.has_opened for one in workers):
            self._has_begun = True
            self._begin(workers)

    def opened(self, worker_process: WorkerProcess) -> None:
        """Handle the message that a worker has made its environments."""
        worker_process.has_opened = True
        self._heartbeats.leave(worker_process.index)
        if self._has_begun:
            self._begin([worker_process])
        else:
            self.begin_when_all_have_opened()

    def _begin(self, workers: Iterable[WorkerProcess]) -> None:
        for one in workers:
            self._heartbeats.beat(one.index)
            # If it has died since, its sentinel reports that in a moment.
            with contextlib.suppress(OSError):
                one.pipe.send(SIGNAL.pack(BEGIN, 0))

    def admit(self, worker_process: WorkerProcess) -> None:
        """Let a worker begin, or continue from the checkpoint that the run resumes from.

        Raises:
            TornMessageError: its initial state is incomplete.
        """
        index = worker_process.index
        worker_process.ready = True
        self._heartbeats.beat(index)
        before = self._server.rejoin(index)
        if before is not None:
            self._send(worker_process, before.snapshot, before.worker_state)
            return
        state = worker_process.initial_state()
        self._send(worker_process, self._server.join(index, worker_process.generation, state))

    def receive(self, worker_process: WorkerProcess, sequence: int) -> None:
        """Pass an update to the server, and send out the server's answers.

        Raises:
            TornMessageError: the update is incomplete.
        """
        index = worker_process.index
        self._heartbeats.beat(index)
        worker_update, state = worker_process.worker_update(sequence)
        worker_process.last_word = ""
        answers = self._server.receive(index, worker_update, state)
        # Without an answer it waits for other workers, and is expected to be silent.
        self._heartbeats.leave(index)
        self._answer(answers)

    def leave(self, index: int, *, permanently: bool) -> None:
        """Tell the server that a worker is gone; other workers may have been waiting for it."""
        self._answer(self._server.leave(index, permanently=permanently))

    def _answer(self, answers: Mapping[int, Snapshot]) -> None:
        for index, snapshot in answers.items():
            self._heartbeats.beat(index)
            self._send(self._pool.workers[index], snapshot)

    @staticmethod
    def _send(worker_process: WorkerProcess, snapshot: Snapshot, state: Any = None) -> None:
        # If it has died since, its sentinel reports that in a moment.
        with contextlib.suppress(OSError):
            worker_process.send(snapshot, state)
