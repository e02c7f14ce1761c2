"""One training run, from the compiled program to the last file."""

import contextlib
import shutil
import weakref
from collections.abc import Callable

from poise.envs.watchdog import leave
from poise.errors import (
    EnvironmentFailureError,
    EnvironmentNotFoundError,
    InputError,
    MissingExtraError,
    PoiseError,
    RunWriteError,
)
from poise.evaluation.phase_times import PhaseTimes
from poise.evaluation.supervision import EvaluationSupervisor, Heartbeat
from poise.launchers.evaluation_helpers import NO_HELPERS, CurrentHelpers
from poise.launchers.launcher import Launch, WorkerStart
from poise.launchers.restart_policy import RestartPolicy
from poise.launchers.stop_signals import StopSignals
from poise.launchers.supervision import Heartbeats, Notices, Supervision
from poise.learning.events import RunStarted
from poise.learning.journal import StopReason
from poise.learning.parameter_server import EvaluationAborted, ParameterServer
from poise.reports.curve import import_matplotlib
from poise.storage.run_folder import remove_run
from poise.training.closing import close_in_time, close_timeout
from poise.training.components import RunComponents
from poise.training.conclusion import Conclusion
from poise.training.monitor import RunMonitor
from poise.training.player_processes import player_processes
from poise.training.result import TrainResult
from poise.training.run_inputs import Audience, ResumePoint, RunPlace
from poise.training.run_records import RunRecords
from poise.training.run_report import RunReport
from poise.training.summary import RunOutcome
from poise.training.worker_factory import RunWorkerFactory

__all__ = ["TrainingRun"]

PUMP_INTERVAL = 0.05
"""Seconds between two checks of budgets, signals and records."""


class TrainingRun:
    """One training run in this process: a new one, or one resumed from a checkpoint.

    Objects that it passes to others must not refer back to it when the run is over: in a reference
    cycle it would keep its programs and parameters until Python's cyclic garbage collector runs,
    which is seldom.

    Args:
        components: the run's components.
        place: the run's folder.
        started: monotonic time at which the process started.
        audience: recipients of events and output.
        resume_point: where to resume; None for a new run.
        signals: entered by the caller; by default no signal stops the run.
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
        self._config = components.config
        self._placement = components.placement
        self._place = place
        self._resume_point = resume_point
        self._server: ParameterServer | None = None
        self._finishing = False
        signals = signals or StopSignals()
        checkpoint = resume_point.checkpoint if resume_point else None
        self._heartbeats = Heartbeats()
        heartbeat = Heartbeat(self._heartbeats, signals)
        phase_times = self._phase_times = PhaseTimes()
        self._helpers = CurrentHelpers()
        self._evaluator = components.evaluator(
            heartbeat.beat,
            phase_times,
            self._helpers.release,
            self._helpers.players,
            player_processes(components),
        )
        self._records = RunRecords(
            components, place, started, audience, self._evaluator, checkpoint
        )
        self._restart_policy = RestartPolicy(
            self._config.max_restarts,
            self._config.restart_on_error,
            checkpoint.offsets.restarts if checkpoint else 0,
        )
        self._monitor = RunMonitor(
            place.folder, self._config, self._records, signals, self._restart_policy
        )
        self._supervision = self._supervise(signals)
        self._evaluation_supervisor = EvaluationSupervisor(
            self._evaluator, heartbeat, self._heartbeats, self._supervision
        )
        self._conclusion = Conclusion(components, place, self._evaluation_supervisor, phase_times)
        self._report = RunReport(components, place, self._records, phase_times, audience.draw)

    def _supervise(self, signals: StopSignals) -> Supervision:
        config, monitor = self._config, self._monitor
        return Supervision(
            pump=monitor.pump,
            interval=PUMP_INTERVAL,
            worker_timeout=config.worker_timeout,
            environment=config.environment,
            restart_policy=self._restart_policy,
            notices=Notices(monitor.note_restart, monitor.note_loss, monitor.note_unclosed),
            close_timeout=close_timeout(config),
            is_stopping=lambda: signals.reason is not None,
            give_up=_weakly(self._abandon),
            evaluating=self._evaluator.describe_activity,
            offer_helpers=self._helpers.offer,
            keep=self._place.keep,
        )

    def run(self) -> TrainResult:
        """Train until the run ends, and write all its files.

        Raises:
            InputError: the run cannot begin; nothing is left of it.
            TrainingError: the run failed; the training so far is saved.
            BaseException: the user's callback raised it; the training so far is saved.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._release_resources)
            try:
                server = self._begin()
                if not server.stopped:
                    self._launch(server)
                self._conclusion.reach(server)
                return self._finish(None)
            except BaseException as error:
                from_callback = self._records.callbacks.has_raised(error)
                if isinstance(error, InputError) and not from_callback and self._remove_new_run():
                    raise
                # Save the training so far, as far as the disk still allows.
                if not self._finishing:
                    with contextlib.suppress(OSError, PoiseError):
                        self._finish(type(error).__name__)
                if from_callback:
                    raise
                if self._place.keep and isinstance(error, PoiseError):
                    error.add_note(f"run folder: {self._place.folder}")
                if isinstance(error, EnvironmentNotFoundError | MissingExtraError):
                    # The environment could be made when the run began, so it is no input error.
                    raise EnvironmentFailureError(str(error)) from error
                if isinstance(error, OSError):
                    raise RunWriteError(
                        f"the run folder {self._place.folder} can no longer be written: "
                        f"{error.strerror or error}"
                        + self._place.if_kept(
                            "; what was written before is intact, and poise resume continues from "
                            "the last checkpoint"
                        )
                    ) from error
                raise

    def _begin(self) -> ParameterServer:
        with self._phase_times.on("compilation"):
            alongside = [import_matplotlib] if self._report.draws_here else []
            own_processes = self._placement.launcher.traits.own_processes
            self._components.compile(*alongside, cycle=not own_processes)
        server = self._server = self._components.server(
            self._evaluation_supervisor.evaluate,
            self._records.dispatcher.emit,
            self._records.journal,
        )
        self._monitor.watch(server)
        point = self._resume_point
        self._records.dispatcher.emit(
            RunStarted(
                self._place.folder,
                self._config,
                self._components.target_return,
                0 if point is None else point.checkpoint.run_state.steps,
            )
        )
        if point is not None:
            server.resume(point.checkpoint.run_state, changed=point.changed)
        return server

    def _launch(self, server: ParameterServer) -> None:
        placement = self._placement
        if placement.opens_evaluation_first and not self._open_evaluation(server):
            return
        launch = Launch(
            server,
            RunWorkerFactory(self._components),
            self._starts(server.last_worker),
            self._supervision,
            self._heartbeats,
        )
        if placement.workers_play:
            # Workers play the final evaluations, too.
            launch = launch._replace(conclude=lambda: self._conclusion.reach(server))
        placement.launcher.run(launch)

    def _open_evaluation(self, server: ParameterServer) -> bool:
        """Make the copies for evaluations; return whether training may begin."""
        try:
            self._evaluation_supervisor.open()
        except EvaluationAborted as aborted:
            server.stop(aborted.reason)
        return not server.stopped

    def _starts(self, last_worker: int | None) -> list[WorkerStart]:
        """Return the workers in the order of their turns, beginning with the next one."""
        point = self._resume_point
        generations = {} if point is None else point.generations()
        starts = [WorkerStart(one, generations.get(one, 0)) for one in range(self._config.workers)]
        turn = 0 if last_worker is None else last_worker + 1
        return starts[turn:] + starts[:turn]

    def _release_resources(self) -> None:
        """Release the run's resources."""
        self._records.close_progress()
        try:
            # If a second Ctrl-C ends the process, the rest is not waited for.
            for close in (self._evaluator.close, self._components.close):
                # If one environment hangs, try once more, to close the others.
                if not self._close_in_time(close):
                    self._close_in_time(close)
        finally:
            self._server = None
            self._monitor.watch(None)
            # Break a reference cycle: the helpers refer to the workers, and those to this object.
            self._helpers.offer(NO_HELPERS)

    def _close_in_time(self, close: Callable[[], None]) -> bool:
        traits = self._placement.launcher.traits
        return close_in_time(close, self._config, traits, self._monitor.note_unclosed)

    def _abandon(self, error: PoiseError) -> None:
        """Save the training so far, and end the process, because the main thread hangs forever."""
        if not self._finishing:
            with contextlib.suppress(Exception):
                self._finish(type(error).__name__)
        if not self._place.keep:
            # The process ends here, so nobody else can remove it.
            shutil.rmtree(self._place.folder, ignore_errors=True)
        leave(error)

    def _remove_new_run(self) -> bool:
        """Remove a new run that could not begin; return False if the run is not new."""
        if not self._place.is_new or (self._server is not None and self._server.version):
            return False
        self._records.dispatcher.close()
        remove_run(self._place.folder)
        return True

    def _finish(self, failure: str | None) -> TrainResult:
        """Write the final files of the run.

        Args:
            failure: the name of the exception that ended the run; None if none did.
        """
        self._finishing = True
        server, conclusion = self._server, self._conclusion
        if server is None:
            self._records.dispatcher.close()
            raise PoiseError("the run ended before it began")
        server.stop(StopReason.FAILED)
        self._records.dispatcher.close()
        self._monitor.checkpoint()
        outcome = RunOutcome(
            conclusion.aborted_by or server.stop_reason or StopReason.FAILED,
            conclusion.score,
            conclusion.baseline if failure is None else None,
            self._restart_policy.restarts,
            failure or self._records.callbacks.failure,
        )
        result = self._report.write(server, outcome)
        if failure is None:
            # A callback may have raised at the last events, after the end of training.
            self._records.callbacks.raise_failure()
        return result


def _weakly(method: Callable[[PoiseError], None]) -> Callable[[PoiseError], None]:
    """Wrap a method so that the wrapper does not keep its object alive."""
    reference = weakref.WeakMethod(method)

    def call(error: PoiseError) -> None:
        found = reference()
        if found is not None:
            found(error)

    return call
