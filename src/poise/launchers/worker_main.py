"""Main function of a worker's process, and the messages that it sends.

The first byte of a message is its kind, the rest is its content; arrays are sent in the mailbox.
"""

import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

import cloudpickle

from poise.argument_names import as_flags
from poise.errors import ConfigError, TrainingError
from poise.launchers.evaluation_worker import ALIVE, PLAY, EvaluationWorker, Player, PlayerFactory
from poise.launchers.framed_pipe import FramedPipe
from poise.launchers.mailbox import Mailbox, pack_batch
from poise.launchers.shared_policy import SharedPolicy
from poise.launchers.worker_factory import RemoteWorkerFactory
from poise.launchers.worker_failure import describe_failure, describe_hang
from poise.learning.worker import Opens, Releases, Worker

__all__ = [
    "BATCH",
    "BEGIN",
    "COMPILED",
    "ERROR",
    "LAST_WORD",
    "MISSING_GUARD_EXIT_CODE",
    "OPENED",
    "READY",
    "RELEASE",
    "RELEASED",
    "SIGNAL",
    "START_SECONDS",
    "UPDATE",
    "leave_unguarded_script",
    "pickle_factory",
    "run_child",
]

COMPILED, READY, UPDATE, ERROR, BATCH, LAST_WORD = b"X", b"R", b"C", b"E", b"B", b"W"
RELEASE, RELEASED = b"L", b"F"
OPENED, BEGIN = b"O", b"G"
"""OPENED: this worker's environments are made. BEGIN: those of all workers are, so they may be
reset. (A constructor may change module state that another environment's reset reads.)"""
SIGNAL = struct.Struct("<cQ")
MISSING_GUARD_EXIT_CODE = 78
"""Exit code of a worker process that began to run the user's script again."""
START_SECONDS = 600.0
"""Seconds a process may take to import and compile, before its silence counts."""
_URGED = signal.SIGTERM
"""The parent sends this to a worker that takes too long to notice that it must exit."""
_PR_SET_PDEATHSIG = 1
"""prctl(2): sets the signal that this process gets when its parent dies."""
_LAST_WORD_AFTER = 0.8
"""Fraction of the parent's timeout after which a silent worker reports what it is doing."""
_LONGEST_PAUSE = 5.0
"""Maximum seconds between two checks of the worker."""


def leave_unguarded_script() -> None:
    """Exit if this is a worker process that is importing a script which calls poise unguarded."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(MISSING_GUARD_EXIT_CODE)


def pickle_factory(factory: Callable[..., Any], environment: str) -> bytes:
    """Pickle a factory, to send it to a spawned process.

    Raises:
        ConfigError: the environment cannot be pickled.
    """
    try:
        return bytes(cloudpickle.dumps(factory))
    except Exception as error:
        raise ConfigError(
            f"the environment {environment} cannot be sent to a worker process: it does not "
            f"pickle ({type(error).__name__}: {error})",
            "use --launcher threads, or make it from a function at the top of a module",
        ) from error


class _LeaveError(BaseException):
    """The parent has closed its end of the pipe, and wants the current cycle to be aborted."""


class _Watch:
    """A thread of the worker process that runs even while the environment blocks.

    It ends this process when the parent dies, and reports where the worker hangs before the
    parent's timeout expires.

    Args:
        pipe: to the parent; the worker's thread uses it too, through `send`.
        patience: seconds of silence after which the parent regards the worker as hung.
    """

    def __init__(self, pipe: FramedPipe, patience: float) -> None:
        self._pipe = pipe
        self._patience = patience
        self._lock = threading.Lock()
        self._worker_thread = threading.get_ident()
        self._silent_since: float | None = None
        self.describe_activity: Callable[[], str] = str
        """Describes what the worker's environments are doing."""
        if sys.platform == "linux":
            # This works even if this process is stopped, or hangs while holding the GIL.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        threading.Thread(target=self._look, daemon=True).start()

    def begin(self) -> None:
        """Mark the beginning of work: the worker's silence counts from now on."""
        self._silent_since = time.monotonic()

    def rest(self) -> None:
        """Mark that the worker waits, and is expected to be silent."""
        self._silent_since = None

    def send(self, message: bytes) -> None:
        """Send a message from the worker's thread.

        Raises:
            OSError: the parent has gone.
        """
        self._silent_since = None
        with self._lock:
            self._pipe.send(message)

    def _look(self) -> None:
        parent = multiprocessing.parent_process()
        sentinels = [] if parent is None else [parent.sentinel]
        pause = min(_LONGEST_PAUSE, self._patience / 10)
        while not connection.wait(sentinels, pause):
            since = self._silent_since
            if since is not None and time.monotonic() - since > _LAST_WORD_AFTER * self._patience:
                self._silent_since = None
                with self._lock, contextlib.suppress(OSError):
                    where = describe_hang(self.describe_activity(), self._worker_thread)
                    self._pipe.send(LAST_WORD + where.encode(errors="replace"))
        if os.getpgrp() == os.getpid():
            # Also kill the processes that the environments have started.
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def run_child(
    payload: bytes,
    index: int,
    generation: int,
    patience: float,
    mailbox: Mailbox,
    shared_policy: SharedPolicy,
    pipe: FramedPipe,
) -> None:
    """Run a worker in its own process; exits at the pipe's end of file, also if the parent dies.

    All its environments are used in its main thread, from creation to `close`. They may start
    processes: these belong to the worker's process group, which the parent kills.
    """
    with contextlib.suppress(OSError):
        # In its own group, Ctrl-C does not reach it: environments close their own processes.
        os.setpgid(0, 0)
    is_leaving, pid = False, os.getpid()

    def signalled(number: int, *_: object) -> None:
        if os.getpid() != pid:
            # A process forked by an environment: it ends as any other process does.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        # A signal may be sent to the whole group; the parent decides when the worker exits.
        if not is_leaving and pipe.has_ended():
            raise _LeaveError

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (_URGED, signal.SIGHUP):
        # Not ignored: programs that the environment starts would inherit that.
        signal.signal(number, signalled)
    watch = _Watch(pipe, patience)
    with contextlib.ExitStack() as stack:
        try:
            factory: RemoteWorkerFactory = cloudpickle.loads(payload)
            worker = factory(index, generation)
            stack.callback(worker.close)
            watch.describe_activity = worker.describe_activity

            def leave() -> None:
                if pipe.has_ended():
                    raise _LeaveError

            part = EvaluationWorker(
                lambda: _player(factory, index), shared_policy, watch, pipe, patience, leave
            )
            stack.callback(part.close)
            watch.send(SIGNAL.pack(COMPILED, worker.seed % 2**64))
            watch.begin()
            if isinstance(worker, Opens):
                worker.open()
                if isinstance(factory, PlayerFactory) and factory.copies(index):
                    watch.send(ALIVE)
                    watch.begin()
                    part.open()
            watch.send(OPENED)
            _serve(worker, part, watch, mailbox, pipe)
        except BaseException as error:
            # Any exception ends this process, and the run must be told, unless it has gone. The
            # error names flags; the parent rewrites them for users of the Python API.
            with contextlib.suppress(OSError), as_flags():
                watch.send(ERROR + json.dumps(describe_failure(error)).encode())
        finally:
            is_leaving = True


def _player(factory: RemoteWorkerFactory, index: int) -> Player:
    if not isinstance(factory, PlayerFactory):
        raise TrainingError(f"worker {index} cannot play in evaluations")
    return factory.player(index)


def _serve(
    worker: Worker, part: EvaluationWorker, watch: _Watch, mailbox: Mailbox, pipe: FramedPipe
) -> None:
    """Answer snapshots with updates, and orders with episodes, until the parent has gone."""
    state: Any = None
    whole = worker.is_checkpointable
    while True:
        try:
            message = pipe.wait()
        except (EOFError, ConnectionResetError):
            return
        if message.startswith(PLAY):
            part.take(message)
            continue
        kind, sequence = SIGNAL.unpack(message)
        watch.begin()
        if kind == BEGIN:
            state = worker.initial_state()
            mailbox.put_initial_state(state if whole else ())
            watch.send(READY)
            continue
        if kind == RELEASE:
            if isinstance(worker, Releases):
                worker.release()
            watch.send(RELEASED)
            continue
        snapshot, earlier = mailbox.take_snapshot(sequence, state if whole else ())
        state = state if earlier is None else earlier
        worker_update, state = worker.cycle(snapshot, state)
        if worker_update.evidence is not None:
            # Too large and too rare for the mailbox: the batch that gave a non-finite gradient.
            watch.send(BATCH + pack_batch(worker_update.evidence))
        mailbox.put_update(worker_update, sequence, state if whole else ())
        watch.send(SIGNAL.pack(UPDATE, sequence))
