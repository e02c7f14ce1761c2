"""Workers as processes: for environments that hold the GIL.

Spawned, never forked. The server lives in the parent, in one thread; each worker has a mailbox in
anonymous shared memory and one pipe for signals, waited on together with the process sentinels.
There is no lock, queue or event that a killed process could hold: a worker may be killed at any
instant, and nobody freezes and nothing is half applied.
"""

import contextlib
import json
import multiprocessing
import selectors
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from typing import Any

from poise.argument_names import spelled
from poise.errors import DeadlineError, InputError, WorkerError
from poise.launchers.evaluation_helpers import NO_HELPERS, EvaluationHelpers
from poise.launchers.evaluation_worker import ALIVE, PlayerFactory
from poise.launchers.mailbox import MailboxShape, TornMessageError, unpack_batch
from poise.launchers.parallel_evaluation import ProcessPlayers
from poise.launchers.shared_policy import SharedPolicy
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.worker_failure import Failure, describe_exit
from poise.launchers.worker_main import (
    BATCH,
    BEGIN,
    COMPILED,
    ERROR,
    LAST_WORD,
    MISSING_GUARD_EXIT_CODE,
    OPENED,
    READY,
    RELEASE,
    RELEASED,
    SIGNAL,
    START_SECONDS,
    WorkerFactory,
    pickle_factory,
)
from poise.launchers.worker_process import WorkerProcess, wait_for_end
from poise.learning.journal import StopReason
from poise.learning.parameter_server import ParameterServer
from poise.trajectory import Snapshot

__all__ = ["run_processes"]

LEAVE_SECONDS = 5.0
"""How long a process may take to end its cycle, before it is told to give it up."""


def run_processes(
    server: ParameterServer,
    factory: WorkerFactory,
    workers: Sequence[tuple[int, int]],
    shape: MailboxShape,
    supervision: Supervision,
    heartbeats: Heartbeats,
    conclude: Callable[[], object] = lambda: None,
) -> None:
    """Run workers in processes until the server stops.

    Args:
        server: lives in this thread.
        factory: makes a worker in its process.
        workers: (index, generation) of each.
        shape: of the mailboxes.
        supervision: how the run watches.
        heartbeats: when workers last gave a sign of life.
        conclude: called when the server has stopped, while the workers are still there.

    Raises:
        WorkerError: a worker raised or died once too often; the others have been stopped.
        DeadlineError: a worker hung once too often.
        InputError: the processes begin to run the user's script instead.
    """
    payload = pickle_factory(factory, supervision.environment)
    team = _Team(server, payload, shape, supervision, heartbeats)
    players = team.players(factory.copies) if isinstance(factory, PlayerFactory) else None
    supervision.lend(EvaluationHelpers(team.release, players))
    try:
        for index, generation in workers:
            team.start(index, generation)
        team.run()
        conclude()
    finally:
        server.stop(StopReason.FAILED)
        supervision.lend(NO_HELPERS)
        team.close()


class _Team:
    """The parent's side."""

    def __init__(
        self,
        server: ParameterServer,
        payload: bytes,
        shape: MailboxShape,
        supervision: Supervision,
        heartbeats: Heartbeats,
    ) -> None:
        self._server = server
        self._payload = payload
        self._shape = shape
        self._supervision = supervision
        self._heartbeats = heartbeats
        self._shared_policy = SharedPolicy(multiprocessing.get_context("spawn"), shape)
        self._worker_processes: dict[int, WorkerProcess] = {}
        self._selector = selectors.DefaultSelector()
        self._restarts = 0
        self._began = False
        self._leaving: list[tuple[WorkerProcess, float]] = []
        """Told to leave; and when that takes too long."""

    def players(self, copies: Callable[[int], int]) -> ProcessPlayers:
        """The workers, as players."""
        return ProcessPlayers(
            self._worker_processes, copies, self._shared_policy, self._supervision, self._heartbeats
        )

    def start(self, index: int, generation: int) -> None:
        self._heartbeats.beat(index, START_SECONDS)
        patience = self._supervision.worker_timeout
        try:
            worker_process = WorkerProcess(
                index, generation, self._payload, self._shape, patience, self._shared_policy
            )
        except OSError as error:
            cause = f"its process cannot be started: {error.strerror or error}"
            raise WorkerError(index, self._supervision.environment, 0, cause) from error
        self._worker_processes[index] = worker_process
        self._selector.register(worker_process.pipe, selectors.EVENT_READ, (worker_process, True))
        self._selector.register(
            worker_process.process.sentinel, selectors.EVENT_READ, (worker_process, False)
        )

    def _forget(self, worker_process: WorkerProcess) -> None:
        del self._worker_processes[worker_process.index]
        self._selector.unregister(worker_process.pipe)
        self._selector.unregister(worker_process.process.sentinel)

    def close(self) -> None:
        """Let every process close its environments; none is there afterwards."""
        worker_processes = list(self._worker_processes.values())
        for worker_process in worker_processes:
            self._heartbeats.leave(worker_process.index)
            self._forget(worker_process)
            worker_process.let_go()
        worker_processes += [worker_process for worker_process, _ in self._leaving]
        self._leaving.clear()
        try:
            for worker_process in wait_for_end(worker_processes, LEAVE_SECONDS):
                worker_process.urge()
            for worker_process in wait_for_end(worker_processes, self._supervision.close_timeout):
                self._report_unclosed(worker_process)
        finally:
            # Also where somebody does not want to wait any longer.
            for worker_process in worker_processes:
                worker_process.close()
            self._selector.close()

    def _report_unclosed(self, worker_process: WorkerProcess) -> None:
        self._supervision.on_unclosed(
            f"worker {worker_process.index} in {self._supervision.environment} has not closed its "
            f"environments within {self._supervision.close_timeout:g} s: it is killed, with "
            "whatever they have started"
        )

    def _see_off(self) -> None:
        """Look after those that have been told to leave."""
        for worker_process, end in list(self._leaving):
            late = time.monotonic() > end
            if late and worker_process.process.is_alive():
                self._report_unclosed(worker_process)
            if late or not worker_process.process.is_alive():
                self._leaving.remove((worker_process, end))
                worker_process.close()

    def release(self) -> None:
        """Have all environments closed, which their workers make anew in their next cycle.

        Raises:
            DeadlineError: a worker does not answer.
        """
        for worker_process in list(self._worker_processes.values()):
            # Of one that has died, nothing is open any more.
            with contextlib.suppress(EOFError, OSError):
                worker_process.pipe.send(SIGNAL.pack(RELEASE, 0))
                if not self._released(worker_process):
                    raise self._supervision.hung(worker_process.index, worker_process.last_word)

    def _released(self, worker_process: WorkerProcess) -> bool:
        end = time.monotonic() + self._supervision.worker_timeout
        while time.monotonic() < end:
            if not connection.wait([worker_process.pipe.fileno()], self._supervision.interval):
                continue
            for message in worker_process.pipe.receive():
                if message[:1] == RELEASED:
                    return True
                if message[:1] == LAST_WORD:
                    worker_process.last_word = message[1:].decode(errors="replace")
                # What else it says comes from the cycle that it was in when the run was stopped,
                # and is refused.
        return False

    def run(self) -> None:
        interval = self._supervision.interval
        look_after = time.monotonic()
        while not self._server.stopped:
            # What came while an evaluation was under way has not been heard yet.
            unheard = [
                worker_process
                for worker_process in self._worker_processes.values()
                if worker_process.inbox
            ]
            signalled: list[tuple[WorkerProcess, bool]] = [
                key.data for key, _ in self._selector.select(0 if unheard else interval)
            ]
            # Pipes first: a last word counts more than the death behind it.
            for worker_process in unheard + [one for one, speaks in signalled if speaks]:
                self._listen(worker_process)
            for worker_process, speaks in signalled:
                # What it sent before it died is heard first, in the next round.
                if not speaks and self._hears(worker_process) and not worker_process.has_mail():
                    self._died(worker_process)
            now = time.monotonic()
            if now >= look_after:
                look_after = now + interval
                self._look_after()

    def _look_after(self) -> None:
        """What need not be done for every message."""
        self._see_off()
        for worker_process in list(self._worker_processes.values()):
            # A process that an environment forked may hold pipe and sentinel open.
            if not worker_process.process.is_alive() and not worker_process.has_mail():
                self._died(worker_process)
        reason = self._supervision.pump()
        if reason is not None:
            self._server.stop(reason)
        for index in self._heartbeats.overdue(self._supervision.worker_timeout):
            # Nobody listened while an evaluation was under way.
            if not self._server.stopped and not self._worker_processes[index].has_mail():
                self._hangs(self._worker_processes[index])

    def _is_there(self, worker_process: WorkerProcess) -> bool:
        return self._worker_processes.get(worker_process.index) is worker_process

    def _listen(self, worker_process: WorkerProcess) -> None:
        """Take what a worker has sent, and answer."""
        is_gone = False
        if self._hears(worker_process) and worker_process.pipe.has_mail():
            try:
                worker_process.listen()
            except (EOFError, OSError):
                is_gone = True
        # An evaluation that one message leads to may let more come.
        while self._hears(worker_process) and worker_process.inbox:
            self._hear(worker_process, worker_process.inbox.popleft())
        if is_gone and self._hears(worker_process):
            self._died(worker_process)

    def _hears(self, worker_process: WorkerProcess) -> bool:
        return not self._server.stopped and self._is_there(worker_process)

    def _hear(self, worker_process: WorkerProcess, message: bytes) -> None:
        kind = message[:1]
        if kind == ERROR:
            self._failed(worker_process, Failure(*json.loads(message[1:])))
        elif kind == COMPILED:
            # From here on, only its environment can keep it waiting.
            worker_process.seed = SIGNAL.unpack(message)[1]
            self._heartbeats.beat(worker_process.index)
        elif kind == ALIVE:
            self._heartbeats.beat(worker_process.index)
        elif kind == OPENED:
            worker_process.has_opened = True
            self._heartbeats.leave(worker_process.index)
            self._begin([worker_process] if self._began else None)
        elif kind == LAST_WORD:
            worker_process.last_word = message[1:].decode(errors="replace")
        elif kind == BATCH:
            worker_process.batch = unpack_batch(message[1:])
        elif kind == READY:
            worker_process.ready = True
            self._heartbeats.beat(worker_process.index)
            self._admit(worker_process)
        else:
            self._receive(worker_process, SIGNAL.unpack(message)[1])

    def _begin(self, workers: Sequence[WorkerProcess] | None = None) -> None:
        """Let workers reset their environments; by default all, once those of all are made."""
        if workers is None:
            workers = list(self._worker_processes.values())
            if not all(one.has_opened for one in workers):
                return
            self._began = True
        for one in workers:
            self._heartbeats.beat(one.index)
            # Where it has died since, its sentinel tells the same in a moment.
            with contextlib.suppress(OSError):
                one.pipe.send(SIGNAL.pack(BEGIN, 0))

    def _admit(self, worker_process: WorkerProcess) -> None:
        """Let a worker begin, or go on where the run was cut."""
        before = self._server.rejoin(worker_process.index)
        if before is not None:
            self._send(worker_process, before.snapshot, before.worker_state)
            return
        try:
            state = worker_process.initial_state()
        except TornMessageError as error:
            self._gone(worker_process, f"sent a damaged state: {error}")
            return
        self._send(
            worker_process,
            self._server.join(worker_process.index, worker_process.generation, state),
        )

    def _receive(self, worker_process: WorkerProcess, sequence: int) -> None:
        self._heartbeats.beat(worker_process.index)
        try:
            worker_update, state = worker_process.worker_update(sequence)
        except TornMessageError as error:
            self._gone(worker_process, f"sent a damaged update: {error}")
            return
        worker_process.last_word = ""
        answers = self._server.receive(worker_process.index, worker_update, state)
        # Without an answer it waits for others, and nobody expects it to say anything.
        self._heartbeats.leave(worker_process.index)
        self._answer(answers)

    def _answer(self, answers: Mapping[int, Snapshot]) -> None:
        for index, snapshot in answers.items():
            self._heartbeats.beat(index)
            self._send(self._worker_processes[index], snapshot)

    @staticmethod
    def _send(worker_process: WorkerProcess, snapshot: Snapshot, state: Any = None) -> None:
        # Where it has died since, its sentinel tells the same in a moment.
        with contextlib.suppress(OSError):
            worker_process.send(snapshot, state)

    def _died(self, worker_process: WorkerProcess) -> None:
        # The sentinel fires a moment before the exit code is there.
        wait_for_end([worker_process], LEAVE_SECONDS)
        if worker_process.fault is not None:
            self._lost_to(worker_process, worker_process.fault)
            return
        code = worker_process.process.exitcode
        if code == MISSING_GUARD_EXIT_CODE:
            raise InputError(
                "a worker process began to run your script again: put the call of poise.train "
                "under  if __name__ == '__main__':  (worker processes import the script), or "
                "use launcher='threads'"
            )
        how = describe_exit(code)
        if not worker_process.ready:
            how += " before it was ready"
        self._gone(worker_process, how)

    def _hangs(self, worker_process: WorkerProcess) -> None:
        where = "; ".join(
            filter(None, (f"environment seed {worker_process.seed}", worker_process.last_word))
        )
        self._lost_to(worker_process, self._supervision.hung(worker_process.index, where))

    def _lost_to(self, worker_process: WorkerProcess, error: DeadlineError) -> None:
        self._lost(worker_process, spelled(error.what), error)

    def _lost(self, worker_process: WorkerProcess, what: str, error: Exception) -> None:
        """A worker is gone through no fault of its environment's.

        It is started again while that may be done; then the run goes on without it, and ends when
        it was the last one.
        """
        reason = self._supervision.pump()
        if reason is not None:
            # What ends the run may have ended the worker, too.
            self._server.stop(reason)
            return
        if self._restart(worker_process, what):
            return
        if len(self._worker_processes) == 1:
            raise error
        self._supervision.on_loss(what)
        self._dismiss(worker_process, for_good=True)
        if not self._began:
            # Perhaps it was the last one that the others waited for.
            self._begin()

    def _gone(self, worker_process: WorkerProcess, how: str) -> None:
        """A worker's process has ended, or cannot be trusted any more."""
        environment = self._supervision.environment
        who = f"worker {worker_process.index} in {environment}"
        what = f"{who} (environment seed {worker_process.seed}) {how}"
        cause = f"the worker's process {how}"
        self._lost(
            worker_process,
            what,
            WorkerError(worker_process.index, environment, worker_process.seed, cause),
        )

    def _failed(self, worker_process: WorkerProcess, failure: Failure) -> None:
        """A worker raised."""
        reason = self._supervision.pump()
        if reason is not None:
            # What ends the run may have reached the environment, too.
            self._server.stop(reason)
            return
        who = f"worker {worker_process.index} (environment seed {worker_process.seed})"
        what = f"{who} failed: {failure.cause}"
        if (
            self._supervision.restart_on_error
            and worker_process.ready
            and self._restart(worker_process, what, is_leaving=True)
        ):
            return
        raise WorkerError(
            worker_process.index, self._supervision.environment, worker_process.seed, *failure
        )

    def _restart(self, worker_process: WorkerProcess, what: str, is_leaving: bool = False) -> bool:
        """Start the worker's next generation, if that may still be done."""
        if self._restarts >= self._supervision.max_restarts or self._server.stopped:
            return False
        self._restarts += 1
        index, generation = worker_process.index, worker_process.generation + 1
        self._supervision.on_restart(index, generation, what)
        self._dismiss(worker_process, is_leaving)
        self.start(index, generation)
        return True

    def _dismiss(
        self, worker_process: WorkerProcess, is_leaving: bool = False, for_good: bool = False
    ) -> None:
        """Part with a worker; one that closes its environments is given the time."""
        self._heartbeats.leave(worker_process.index)
        self._forget(worker_process)
        # Others may have waited for it.
        self._answer(self._server.leave(worker_process.index, for_good=for_good))
        if is_leaving:
            worker_process.let_go()
            self._leaving.append(
                (worker_process, time.monotonic() + self._supervision.close_timeout)
            )
            return
        worker_process.kill()
        worker_process.close()
