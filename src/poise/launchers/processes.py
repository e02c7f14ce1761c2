"""Workers as processes: for environments that hold the GIL.

Processes are spawned, never forked. The server lives in the parent, in one thread; each worker has
a mailbox in anonymous shared memory and one pipe for signals, which is waited on together with the
process sentinels. There is no lock, queue or event that a killed process could hold: a worker may
be killed at any moment without blocking anybody, and no update is applied partially.
"""

import json
import time

from poise.argument_names import spelled
from poise.config import PROCESSES, LauncherName
from poise.errors import DeadlineError, InputError, PoiseError, WorkerError
from poise.launchers.evaluation_helpers import NO_HELPERS, EvaluationHelpers
from poise.launchers.evaluation_worker import ALIVE, PlayerFactory
from poise.launchers.launcher import Launch, LauncherTraits
from poise.launchers.mailbox import TornMessageError, unpack_batch
from poise.launchers.parallel_evaluation import ProcessPlayers
from poise.launchers.process_exchange import ProcessExchange
from poise.launchers.process_pool import ProcessPool
from poise.launchers.restart_policy import Decision
from poise.launchers.worker_failure import Failure, describe_exit
from poise.launchers.worker_main import (
    BATCH,
    COMPILED,
    ERROR,
    LAST_WORD,
    MISSING_GUARD_EXIT_CODE,
    OPENED,
    READY,
    SIGNAL,
    pickle_factory,
)
from poise.launchers.worker_process import WorkerProcess
from poise.learning.journal import StopReason

__all__ = ["Processes"]


class Processes:
    """Runs every worker in its own process."""

    name: LauncherName = PROCESSES
    traits = LauncherTraits(own_processes=True, imports_script=True, plays_evaluations=True)

    def run(self, launch: Launch) -> None:
        """Run workers until the server stops; see `Launcher`.

        Raises:
            InputError: the factory cannot be pickled, or the processes begin to run the user's
                script again.
        """
        supervision, factory = launch.supervision, launch.factory.remote()
        payload = pickle_factory(factory, supervision.environment)
        pool = ProcessPool(payload, launch.factory.mailbox_shape(), supervision, launch.heartbeats)
        players = None
        if isinstance(factory, PlayerFactory):
            players = ProcessPlayers(
                pool.workers, factory.copies, pool.shared_policy, supervision, launch.heartbeats
            )
        supervision.offer_helpers(EvaluationHelpers(pool.release, players))
        try:
            for index, generation in launch.starts:
                pool.start(index, generation)
            _Supervisor(launch, pool).run()
            launch.conclude()
        finally:
            launch.server.stop(StopReason.FAILED)
            supervision.offer_helpers(NO_HELPERS)
            pool.close()


class _Supervisor:
    """Listens to the workers, and handles those that fail, hang or die."""

    def __init__(self, launch: Launch, pool: ProcessPool) -> None:
        self._server = launch.server
        self._pool = pool
        self._supervision = launch.supervision
        self._heartbeats = launch.heartbeats
        self._exchange = ProcessExchange(launch.server, pool, launch.heartbeats)

    def run(self) -> None:
        interval = self._supervision.interval
        next_check = time.monotonic()
        while not self._server.stopped:
            # Messages that arrived during an evaluation have not been processed yet.
            unheard = [one for one in self._pool.workers.values() if one.inbox]
            signals = self._pool.wait(0 if unheard else interval)
            # Pipes first: a last message says more than the death that follows it.
            for worker_process in unheard + signals.speaking:
                self._listen(worker_process)
            for worker_process in signals.ended:
                # Messages sent before its death are processed first, in the next round.
                if self._is_active(worker_process) and not worker_process.has_mail():
                    self._died(worker_process)
            now = time.monotonic()
            if now >= next_check:
                next_check = now + interval
                self._check_workers()

    def _check_workers(self) -> None:
        """Do the checks that need not be done for every message."""
        self._pool.look_after_leaving()
        for worker_process in list(self._pool.workers.values()):
            # A process forked by an environment may hold the pipe and the sentinel open.
            if not worker_process.process.is_alive() and not worker_process.has_mail():
                self._died(worker_process)
        reason = self._supervision.pump()
        if reason is not None:
            self._server.stop(reason)
        for index in self._heartbeats.overdue(self._supervision.worker_timeout):
            # Messages that arrived during an evaluation may not have been read yet.
            if not self._server.stopped and not self._pool.workers[index].has_mail():
                self._hangs(self._pool.workers[index])

    def _is_active(self, worker_process: WorkerProcess) -> bool:
        return not self._server.stopped and self._pool.has(worker_process)

    def _listen(self, worker_process: WorkerProcess) -> None:
        """Process what a worker has sent, and answer."""
        is_gone = False
        if self._is_active(worker_process) and worker_process.pipe.has_mail():
            try:
                worker_process.listen()
            except (EOFError, OSError):
                is_gone = True
        # A message may lead to an evaluation, during which further messages arrive.
        while self._is_active(worker_process) and worker_process.inbox:
            message = worker_process.inbox.popleft()
            try:
                self._handle(worker_process, message)
            except TornMessageError as error:
                what = "state" if message[:1] == READY else "update"
                self._gone(worker_process, f"sent a damaged {what}: {error}")
        if is_gone and self._is_active(worker_process):
            self._died(worker_process)

    def _handle(self, worker_process: WorkerProcess, message: bytes) -> None:
        kind = message[:1]
        if kind == ERROR:
            self._failed(worker_process, Failure(*json.loads(message[1:])))
        elif kind == COMPILED:
            # From here on, only its environment can delay it.
            worker_process.seed = SIGNAL.unpack(message)[1]
            self._heartbeats.beat(worker_process.index)
        elif kind == ALIVE:
            self._heartbeats.beat(worker_process.index)
        elif kind == OPENED:
            self._exchange.opened(worker_process)
        elif kind == LAST_WORD:
            worker_process.hear_last_word(message)
        elif kind == BATCH:
            worker_process.batch = unpack_batch(message[1:])
        elif kind == READY:
            self._exchange.admit(worker_process)
        else:
            self._exchange.receive(worker_process, SIGNAL.unpack(message)[1])

    def _died(self, worker_process: WorkerProcess) -> None:
        code = worker_process.exit_code()
        if worker_process.fault is not None:
            self._stuck(worker_process, worker_process.fault)
            return
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
        self._stuck(worker_process, self._supervision.hung(worker_process.index, where))

    def _stuck(self, worker_process: WorkerProcess, error: DeadlineError) -> None:
        self._lost(worker_process, spelled(error.what), error)

    def _gone(self, worker_process: WorkerProcess, how: str) -> None:
        """Handle a worker whose process has ended, or whose messages are damaged."""
        index, seed = worker_process.index, worker_process.seed
        environment = self._supervision.environment
        what = f"worker {index} in {environment} (environment seed {seed}) {how}"
        cause = f"the worker's process {how}"
        self._lost(worker_process, what, WorkerError(index, environment, seed, cause))

    def _lost(self, worker_process: WorkerProcess, what: str, error: PoiseError) -> None:
        """Handle the loss of a worker that is not a fault of its code.

        Args:
            worker_process: the worker.
            what: a description of what happened.
            error: the exception to raise if the run cannot continue.
        """
        if self._is_over():
            return
        is_last = len(self._pool.workers) == 1
        match self._supervision.restart_policy.after_loss(is_last=is_last):
            case Decision.RESTART:
                self._restart(worker_process, what, is_lost=True)
            case Decision.GO_ON:
                self._supervision.notices.on_loss(what)
                self._pool.remove(worker_process)
                self._exchange.leave(worker_process.index, permanently=True)
                worker_process.kill()
                worker_process.close()
                # Perhaps it was the last worker that the others waited for.
                self._exchange.begin_when_all_have_opened()
            case Decision.FAIL:
                raise error

    def _failed(self, worker_process: WorkerProcess, failure: Failure) -> None:
        """Handle a worker that raised an exception."""
        if self._is_over():
            return
        index, seed = worker_process.index, worker_process.seed
        policy = self._supervision.restart_policy
        if policy.after_error(was_ready=worker_process.ready) is Decision.FAIL:
            raise WorkerError(index, self._supervision.environment, seed, *failure)
        what = f"worker {index} (environment seed {seed}) failed: {failure.cause}"
        self._restart(worker_process, what, is_lost=False)

    def _is_over(self) -> bool:
        """Whether the run is over; whatever ended it may have ended a worker, too."""
        reason = self._supervision.pump()
        if reason is not None:
            self._server.stop(reason)
        return self._server.stopped

    def _restart(self, worker_process: WorkerProcess, what: str, is_lost: bool) -> None:
        """Start the next generation of a worker."""
        index, generation = worker_process.index, worker_process.generation + 1
        self._supervision.notices.on_restart(index, generation, what)
        self._pool.remove(worker_process)
        self._exchange.leave(index, permanently=False)
        if is_lost:
            worker_process.kill()
            worker_process.close()
        else:
            self._pool.let_go(worker_process)
        self._pool.start(index, generation)
