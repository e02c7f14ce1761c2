"""One training run, from the compiled program to the last file."""

import contextlib
import shutil
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from poise.config import TrainConfig
from poise.envs.deadlines import run_with_deadline
from poise.envs.host_envs import HostEnvs
from poise.envs.watchdog import leave
from poise.errors import (
    EnvironmentCheckError,
    EnvironmentFailureError,
    EnvironmentNotFoundError,
    InputError,
    MissingExtraError,
    NotFiniteError,
    PoiseError,
    RunWriteError,
)
from poise.evaluation.evaluator import Evaluator, FinalScore
from poise.evaluation.phase_times import PhaseTimes
from poise.evaluation.supervision import EvaluationSupervisor, Heartbeat
from poise.evaluation.worker_episodes import copies_of
from poise.launchers.evaluation_helpers import NO_HELPERS, EvaluationHelpers, Players
from poise.launchers.processes import run_processes
from poise.launchers.serial import run_serial
from poise.launchers.stop_signals import StopSignals
from poise.launchers.supervision import CLOSE_SECONDS, Heartbeats, Supervision
from poise.launchers.threads import run_threads
from poise.learning.evaluation_result import Score
from poise.learning.events import RunStarted, SummaryWritten
from poise.learning.journal import Journal, StopReason
from poise.learning.parameter_server import EvaluationAborted, ParameterServer
from poise.observers.callback import Callbacks, Observer
from poise.observers.dispatcher import Dispatcher
from poise.observers.endless_episodes import EndlessEpisodes
from poise.observers.history import History
from poise.observers.policy_writer import PolicyWriter
from poise.observers.progress import Progress
from poise.observers.recorder import Recorder
from poise.reports.curve import draw_curve, import_matplotlib
from poise.reports.findings import RunFacts, find
from poise.reports.plot_run import Draw, plot_folder
from poise.storage.checkpoints.store import Checkpoint
from poise.storage.files import write_json
from poise.storage.run_folder import remove_run
from poise.training.components import RunComponents
from poise.training.monitor import RunMonitor
from poise.training.result import TrainResult
from poise.training.runtime import processor_model, versions
from poise.training.summary import summarise

__all__ = ["Audience", "ResumePoint", "RunPlace", "TrainingRun"]

PUMP_INTERVAL = 0.05
"""Seconds between two looks at budgets, signals and records."""

_LAUNCHERS = {"threads": run_threads, "serial": run_serial}
_USED_UP = (StopReason.MAX_STEPS, StopReason.MAX_EPISODES, StopReason.MAX_SECONDS)
_INTERRUPTIONS = (StopReason.INTERRUPTED, StopReason.TERMINATED)


class RunPlace(NamedTuple):
    """Where a run's files are.

    Attributes:
        folder: of the run; ``config.json`` is there.
        is_new: the folder was made for this run, and is removed if it cannot begin.
        keep: whether the folder outlives the run; if not, no learning curve is drawn.
    """

    folder: Path
    is_new: bool = False
    keep: bool = True


class Audience(NamedTuple):
    """Who sees what happens in a run.

    Attributes:
        quiet: print nothing.
        callbacks: the user's own, which may raise.
        observers: poise's own, told of each event in the main thread.
        draw: draws the learning curve; by default in this process.
    """

    quiet: bool
    callbacks: Callbacks
    observers: Sequence[Observer] = ()
    draw: Draw | None = None


class ResumePoint(NamedTuple):
    """Where a run goes on.

    Attributes:
        checkpoint: from which.
        changed: the budgets are not those of the checkpoint.
    """

    checkpoint: Checkpoint
    changed: bool = False


class TrainingRun:
    """One training run in this process: a new one, or one that goes on from a checkpoint.

    What it hands to others must not lead back to it when the run is over: a session that is part of
    a cycle would keep its programs and parameters until Python's cyclic collector runs, which is
    seldom.

    Args:
        components: the run's parts.
        place: its folder.
        started: monotonic time at which the process started.
        audience: who sees what happens.
        resume_point: where to go on; None begins.
        signals: entered by the caller; by default none stop the run.
    """

    def __init__(
        self,
        components: RunComponents,
        place: RunPlace,
        started: float,
        audience: Audience,
        resume_point: ResumePoint | None = None,
        signals: StopSignals | None = None,
    ) -> None:
        self._components = components
        self._config = config = components.config
        self._folder, self._new, self._keep = place
        folder, keep = place.folder, place.keep
        self._draw = audience.draw if keep else _draw_nothing
        self._resume_point = resume_point
        checkpoint = resume_point.checkpoint if resume_point else None
        self._callbacks = audience.callbacks
        self._server: ParameterServer | None = None
        signals = signals or StopSignals()
        self._heartbeats = Heartbeats()
        heartbeat = Heartbeat(self._heartbeats, signals)
        self._phase_times = PhaseTimes()
        self._room = room = _Room()
        self._evaluator = components.evaluator(
            heartbeat.beat, self._phase_times, room.make, room.players
        )
        self._policy_writer = PolicyWriter(
            folder, self._evaluator, components.agent, config.seed, keep
        )
        taken = (0, 0)
        if checkpoint is not None:
            run_state = checkpoint.run_state
            taken = (run_state.steps, run_state.episode_statistics.episodes)
        self._progress = (
            None if audience.quiet else Progress(config, components.target_return, *taken)
        )
        self._journal = Journal()
        if checkpoint is not None:
            run_state = checkpoint.run_state
            self._journal = Journal(run_state.journal_records, run_state.journal_checksum)
        best = checkpoint.run_state.best_policy.result if checkpoint else None
        self._history = History(best and best.selection.mean)
        limited = components.measured.has_time_limit or config.evaluation_step_limit is not None
        endless = EndlessEpisodes(config.environment, limited)
        self._recorder = Recorder(
            folder,
            {"versions": versions(), "processor": processor_model()},
            self._journal,
            config.record_every,
            started,
            checkpoint.offsets if checkpoint else None,
        )
        progress = () if self._progress is None else (self._progress,)
        self._dispatcher = Dispatcher(
            started,
            self._recorder,
            self._policy_writer,
            (*progress, self._history, endless, *audience.observers),
            self._callbacks,
        )
        restarts = checkpoint.offsets.restarts if checkpoint else 0
        self._monitor = RunMonitor(
            folder,
            config,
            self._recorder,
            self._dispatcher,
            signals,
            restarts,
            self._callbacks,
            _teller(self._progress, self._evaluator),
        )
        self._supervision = Supervision(
            pump=self._monitor.pump,
            interval=PUMP_INTERVAL,
            worker_timeout=config.worker_timeout,
            environment=config.environment,
            max_restarts=max(0, config.max_restarts - restarts),
            restart_on_error=config.restart_on_error,
            on_restart=self._monitor.note_restart,
            on_loss=self._monitor.note_loss,
            close_timeout=_close_timeout(config),
            on_unclosed=self._monitor.note_unclosed,
            evaluating=self._evaluator.describe_activity,
            is_stopping=lambda: signals.reason is not None,
            give_up=_weakly(self._abandon),
            lend=room.lend,
            keep=keep,
        )
        self._evaluation_supervisor = EvaluationSupervisor(
            self._evaluator, heartbeat, self._heartbeats, self._supervision
        )
        self._finishing = False
        self._concluded = False
        self._score: FinalScore | None = None
        self._baseline: Score | None = None
        """What random actions reach."""
        self._ended_by: StopReason | None = None

    def run(self) -> TrainResult:
        """Train to the end, whatever that is, and leave everything on disk.

        Raises:
            InputError: the run cannot begin; nothing is left of it.
            TrainingError: the run failed; what was learned so far is saved.
            BaseException: what the user's callback raised; what was learned so far is saved.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._let_go)
            try:
                server = self._begin()
                if not server.stopped:
                    self._launch(server)
                self._conclude(server)
                return self._finish(self._baseline, None)
            except BaseException as error:
                theirs = self._callbacks.has_raised(error)
                if isinstance(error, InputError) and not theirs and self._take_back():
                    raise
                # What was learned so far is saved, as far as the disk still allows.
                if not self._finishing:
                    with contextlib.suppress(OSError, PoiseError):
                        self._finish(None, type(error).__name__)
                if theirs:
                    raise
                if self._keep and isinstance(error, PoiseError):
                    error.add_note(f"run folder: {self._folder}")
                if isinstance(error, EnvironmentNotFoundError | MissingExtraError):
                    # It could be made when the run began.
                    raise EnvironmentFailureError(str(error)) from error
                if isinstance(error, OSError):
                    raise RunWriteError(
                        f"the run folder {self._folder} can no longer be written: "
                        f"{error.strerror or error}"
                        + self._if_kept(
                            "; what was written before is whole, and poise resume goes on from "
                            "the last checkpoint"
                        )
                    ) from error
                raise

    def _if_kept(self, said: str) -> str:
        """Part of a message about files that may outlive the run."""
        return said if self._keep else ""

    def _begin(self) -> ParameterServer:
        with self._phase_times.on("compilation"):
            alongside = [import_matplotlib] if self._draw is None else []
            self._components.compile(*alongside, cycle=self._components.launcher != "processes")
        server = self._server = self._components.server(
            self._evaluation_supervisor.evaluate, self._dispatcher.emit, self._journal
        )
        self._monitor.watch(server)
        point = self._resume_point
        self._dispatcher.emit(
            RunStarted(
                self._folder,
                self._config,
                self._components.target_return,
                0 if point is None else point.checkpoint.run_state.steps,
            )
        )
        if point is not None:
            server.resume(point.checkpoint.run_state, changed=point.changed)
        return server

    def _let_go(self) -> None:
        """Release the run's resources."""
        if self._progress is not None:
            self._progress.close()

        try:
            # Where a second Ctrl-C ends the process, the rest is not waited for.
            for close in (self._evaluator.close, self._components.close):
                # Once more where one hangs, for the others.
                if not self._close_in_time(close):
                    self._close_in_time(close)
        finally:
            self._server = None
            self._monitor.watch(None)
            # It leads to the workers, and they lead here.
            self._room.lend(NO_HELPERS)

    def _close_in_time(self, close: Callable[[], None]) -> bool:
        """Close environments, of which each may hang; those that do are left behind.

        Returns:
            Whether that came to its end.
        """
        copies = max(self._config.evaluation_copies, self._config.envs_per_worker)
        if self._components.launcher != "processes":
            copies = max(copies, self._config.envs_per_worker * self._config.workers)
        timeout = max(CLOSE_SECONDS, min(CLOSE_SECONDS * copies, self._config.worker_timeout))
        name = self._config.environment
        try:
            run_with_deadline(
                close, timeout, name, elsewhere=self._components.launcher == "threads"
            )
        except EnvironmentCheckError:
            self._monitor.note_unclosed(
                f"the environment {name} has not been closed within {timeout:g} s; "
                "it is left behind"
            )
            return False
        return True

    def _abandon(self, error: PoiseError) -> None:
        """Save what was learned, and end the process: the main thread hangs for good."""
        if not self._finishing:
            with contextlib.suppress(Exception):
                self._finish(None, type(error).__name__)
        if not self._keep:
            # Nobody else gets to do it any more.
            shutil.rmtree(self._folder, ignore_errors=True)
        leave(error)

    def _launch(self, server: ParameterServer) -> None:
        generations = self._generations()
        if self._components.launcher == "processes":
            if not self._components.lends_players and not self._open_evaluation(server):
                return
            run_processes(
                server,
                self._components.worker_factory(),
                [(one, generations.get(one, 0)) for one in range(self._config.workers)],
                self._components.mailbox_shape(),
                self._supervision,
                self._heartbeats,
                # The workers play the last episodes, too.
                lambda: self._conclude(server) if self._components.lends_players else None,
            )
            return
        if self._components.launcher == "threads" and not self._open_evaluation(server):
            return
        workers = self._components.workers(generations)
        if server.last_worker is not None:
            # Serial workers go on with whose turn it is.
            turn = server.last_worker + 1
            workers = workers[turn:] + workers[:turn]
        launch = _LAUNCHERS[self._components.launcher]
        launch(server, workers, self._supervision, self._heartbeats)

    def _open_evaluation(self, server: ParameterServer) -> bool:
        """Make the copies for evaluations before training steps its own beside them.

        Where one copy must do for all, it is made when the others are closed; where training steps
        none of Gymnasium's environments, when it is needed.

        Returns:
            Whether training may begin.
        """
        components = self._components
        if components.has_one_copy_at_a_time or not isinstance(components.envs, HostEnvs):
            return True
        try:
            self._evaluation_supervisor.open()
        except EvaluationAborted as aborted:
            server.stop(aborted.reason)
        return not server.stopped

    def _generations(self) -> dict[int, int]:
        """Which generation each worker begins with: the next, where its state is lost."""
        if self._resume_point is None:
            return {}
        run_state = self._resume_point.checkpoint.run_state
        return {
            worker: latest
            + (
                worker not in run_state.worker_records
                or run_state.worker_records[worker].worker_state is None
            )
            for worker, latest in run_state.generations.items()
        }

    def _conclude(self, server: ParameterServer) -> None:
        """Score the best policy and random actions, once, unless the run was interrupted."""
        if self._concluded:
            return
        self._concluded = True
        if server.stop_reason == StopReason.NOT_FINITE:
            raise NotFiniteError(
                f"{server.bad_gradients} gradients were not finite (--max-bad-gradients "
                f"{self._config.max_bad_gradients}); they were not applied"
                + self._if_kept(
                    f", and the last offending batch is in {self._folder}: poise inspect shows it"
                )
            )
        if server.stop_reason in _INTERRUPTIONS:
            return
        try:
            self._score = self._evaluation_supervisor.final_score(server)
        except EvaluationAborted as aborted:
            # Without a score the run has not ended well, whatever ended its training.
            self._ended_by = aborted.reason
            return
        with self._phase_times.on("baseline"):
            thrift = self._components.thrift
            budget = [server.steps // (2 * thrift)] if thrift else []
            self._baseline = self._evaluation_supervisor.random_baseline(
                self._components.env_factory, self._config, *budget
            )

    def _take_back(self) -> bool:
        """Leave nothing of a new run that could not begin; False if this is none."""
        if not self._new or (self._server is not None and self._server.version):
            return False
        self._dispatcher.close()
        remove_run(self._folder)
        return True

    def _finish(self, baseline: Score | None, failure: str | None) -> TrainResult:
        """Write everything that a run leaves behind."""
        self._finishing = True
        server = self._server
        if server is None:
            self._dispatcher.close()
            raise PoiseError("the run ended before it began")
        server.stop(StopReason.FAILED)
        self._dispatcher.close()
        self._monitor.checkpoint()
        final = server.snapshot()
        best = server.best or final
        self._policy_writer.write_policy("final", final)
        self._policy_writer.write_policy("best", best)
        reason = self._ended_by or server.stop_reason or StopReason.FAILED
        summary = summarise(
            self._components,
            server,
            self._recorder,
            self._phase_times,
            self._score,
            reason,
            random_baseline=None if baseline is None else baseline.mean,
            restarts=self._monitor.restarts,
            failure=failure or self._callbacks.failure,
        )
        plot_folder(self._folder, summary=summary, draw=self._draw or draw_curve)
        summary["wall_seconds"] = round(self._recorder.wall_seconds, 6)
        summary["findings"] = [] if summary["solved"] else self._find(server, summary, baseline)
        write_json(self._folder / "summary.json", summary)
        self._dispatcher.tell(SummaryWritten(self._folder, summary))
        if failure is None:
            # One may have raised at the last events, when all was over.
            self._callbacks.raise_failure()
        return TrainResult(self._folder, summary, self._evaluator.policy(best), reason)

    def _find(
        self, server: ParameterServer, summary: dict[str, Any], baseline: Score | None
    ) -> list[str]:
        """What this process has seen of a run that did not solve."""
        seconds = summary["seconds"]
        return find(
            RunFacts(
                self._history,
                server.steps,
                summary["random_baseline"],
                self._components.target_return,
                server.stop_reason in _USED_UP,
                seconds["selection"] + seconds["verification"] + seconds["baseline"],
                summary["wall_seconds"],
                self._score,
                0.0 if baseline is None else baseline.deviation,
            )
        )


def _draw_nothing(*_: object) -> None:
    """The learning curve of a run whose files are not kept."""


def _weakly(method: Callable[[PoiseError], None]) -> Callable[[PoiseError], None]:
    """A method of what it must not keep alive."""
    reference = weakref.WeakMethod(method)

    def call(error: PoiseError) -> None:
        found = reference()
        if found is not None:
            found(error)

    return call


class _Room:
    """What the workers lend while the server evaluates."""

    def __init__(self) -> None:
        self._helpers = NO_HELPERS

    def lend(self, helpers: EvaluationHelpers) -> None:
        """What is available from now on."""
        self._helpers = helpers

    def make(self) -> None:
        """Close the copies that train, until they are needed again."""
        self._helpers.release()

    def players(self) -> Players | None:
        """Who plays the episodes."""
        return self._helpers.players


def _teller(progress: Progress | None, evaluator: Evaluator) -> Callable[[], None]:
    """Shows how far an evaluation has come."""
    if progress is None:
        return lambda: None
    return lambda: progress.tell(evaluator.activity)


def _close_timeout(config: TrainConfig) -> float:
    """How long all environments of a worker may take to close, one after the other."""
    playing = copies_of(0, config.workers, config.evaluation_copies)
    together = CLOSE_SECONDS * (config.envs_per_worker + playing)
    return max(CLOSE_SECONDS, min(together, config.worker_timeout))
