"""One training run, from the compiled program to the last file."""

import contextlib
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from poise.agent.policy import Policy
from poise.agent.policy_file import policy_to_bytes
from poise.errors import InputError, NotFiniteError, PoiseError, RunWriteError
from poise.launchers.processes import run_processes
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.threads import run_serial, run_threads
from poise.learning.events import Evaluated, Event, Rejected
from poise.learning.journal import Journal, StopReason
from poise.learning.owner import EvaluationAborted, Owner
from poise.learning.verdict import Score, Verdict
from poise.runs.api import random_baseline
from poise.runs.assembly import Assembly
from poise.runs.bad_batch import broken_tensors, save_bad_batch
from poise.runs.checkpoint import Checkpoint, Offsets, write_checkpoint
from poise.runs.curve import draw_curve, import_matplotlib
from poise.runs.files import write_bytes, write_json
from poise.runs.folder import remove_run
from poise.runs.patience import Patience
from poise.runs.plotting import Draw, plot_folder
from poise.runs.progress import Progress
from poise.runs.recorder import Recorder, Subscriber
from poise.runs.runtime import processor_model, versions
from poise.runs.signals import StopSignals
from poise.runs.summary import summarise
from poise.trajectory import Snapshot

__all__ = ["Session", "TrainResult"]

BASELINE_EPISODES = 100
BASELINE_STEPS = 5_000
"""No new episode of the random baseline begins after so many steps."""
PUMP_INTERVAL = 0.05
"""Seconds between two looks at budgets, signals and records."""

_LAUNCHERS = {"threads": run_threads, "serial": run_serial}
_INTERRUPTIONS = (StopReason.INTERRUPTED, StopReason.TERMINATED)


class TrainResult(NamedTuple):
    """What a training run came to.

    Attributes:
        folder: where its files are.
        summary: the content of ``summary.json``.
        policy: the best policy.
        reason: why it ended.
    """

    folder: Path
    summary: dict[str, Any]
    policy: Policy
    reason: StopReason

    @property
    def solved(self) -> bool:
        """Whether a verification reached the target return."""
        return bool(self.summary["solved"])


class Session:
    """One training run in this process: a new one, or one that goes on from a checkpoint.

    Args:
        assembly: the run's parts.
        folder: of the run; ``config.json`` is there.
        started: monotonic time at which the process started.
        quiet: print nothing.
        subscribers: called with each event, in the main thread.
        checkpoint: where to go on; None begins.
        changed: the budgets are not those of the checkpoint.
        draw: draws the learning curve; by default in this process.
        signals: entered by the caller; by default none stop the run.
    """

    def __init__(
        self,
        assembly: Assembly,
        folder: Path,
        started: float,
        quiet: bool,
        subscribers: Sequence[Subscriber] = (),
        checkpoint: Checkpoint | None = None,
        changed: bool = False,
        draw: Draw | None = None,
        signals: StopSignals | None = None,
    ) -> None:
        self._assembly = assembly
        self._config = config = assembly.config
        self._folder = folder
        self._draw = draw
        self._checkpoint, self._changed = checkpoint, changed
        self._signals = signals = signals or StopSignals()
        self._heartbeats = Heartbeats()
        self._patience = Patience(self._heartbeats, signals)
        self._began: float | None = None
        self._last_checkpoint = time.monotonic()
        self._restarts = checkpoint.offsets.restarts if checkpoint else 0
        self._progress = None if quiet else Progress(config, assembly.target_return)
        self._journal = Journal()
        if checkpoint is not None:
            cut = checkpoint.cut
            self._journal = Journal(cut.journal_records, cut.journal_checksum)
        followers = (self._progress, self._follow, *subscribers)
        self._recorder = Recorder(
            folder,
            {"versions": versions(), "processor": processor_model()},
            self._journal,
            config.record_every,
            started,
            tuple(one for one in followers if one is not None),
            checkpoint.offsets if checkpoint else None,
        )
        self._judge = assembly.judge(self._patience.alive)
        if checkpoint is not None:
            self._judge.attempts = checkpoint.cut.candidates.verifications
            verdict = checkpoint.cut.candidates.verdict
            self._judge.solved = verdict is not None and verdict.solved
        self._owner: Owner | None = None
        self._finishing = False
        self._thread = threading.get_ident()
        self._score: Score | None = None
        self._ended_by: StopReason | None = None
        self._supervision = Supervision(
            pump=self._pump,
            interval=PUMP_INTERVAL,
            worker_timeout=config.worker_timeout,
            environment=config.environment,
            max_restarts=max(0, config.max_restarts - self._restarts),
            restart_on_error=config.restart_on_error,
            on_restart=self._note_restart,
            on_loss=self._note_loss,
            evaluating=self._judge.whereabouts,
        )

    def run(self) -> TrainResult:
        """Train to the end, whatever that is, and leave everything on disk.

        Raises:
            TrainingError: the run failed; what was learned so far is saved.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._judge.close)
            stack.callback(self._assembly.close)
            if self._progress is not None:
                stack.callback(self._progress.close)
            try:
                if self._draw is None:
                    self._assembly.compile(import_matplotlib)
                else:
                    self._assembly.compile()
                owner = self._assembly.owner(self._evaluate, self._recorder.emit, self._journal)
                self._owner = owner
                if self._checkpoint is not None:
                    owner.resume(self._checkpoint.cut, changed=self._changed)
                if not owner.stopped:
                    self._launch(owner)
                if owner.stop_reason == StopReason.NOT_FINITE:
                    raise NotFiniteError(
                        f"{owner.bad_gradients} gradients were not finite (--max-bad-gradients "
                        f"{self._config.max_bad_gradients}); they were not applied, and the last "
                        f"offending batch is in {self._folder}: poise inspect shows it"
                    )
                self._score = self._final_score(owner)
                return self._finish(self._random_baseline(owner), None)
            except InputError:
                # Nothing was begun, and so nothing is left.
                if self._checkpoint is None and self._owner is not None and not self._owner.version:
                    self._recorder.close()
                    remove_run(self._folder)
                raise
            except BaseException as error:
                # What was learned so far is saved, as far as the disk still allows.
                if not self._finishing:
                    with contextlib.suppress(OSError, PoiseError):
                        self._finish(None, type(error).__name__)
                if isinstance(error, OSError):
                    raise RunWriteError(
                        f"the run folder {self._folder} can no longer be written: "
                        f"{error.strerror or error}; what was written before is whole, and "
                        "poise resume goes on from the last checkpoint"
                    ) from error
                raise

    def _launch(self, owner: Owner) -> None:
        incarnations = self._incarnations()
        if self._assembly.launcher == "processes":
            run_processes(
                owner,
                self._assembly.worker_factory(),
                [(one, incarnations.get(one, 0)) for one in range(self._config.workers)],
                self._assembly.mailbox_shape(),
                self._supervision,
                self._heartbeats,
            )
            return
        workers = self._assembly.workers(incarnations)
        if owner.last_worker is not None:
            # Serial workers go on with whose turn it is.
            turn = owner.last_worker + 1
            workers = workers[turn:] + workers[:turn]
        launch = _LAUNCHERS[self._assembly.launcher]
        launch(owner, workers, self._supervision, self._heartbeats)

    def _incarnations(self) -> dict[int, int]:
        """Which incarnation each worker begins with: the next, where its state is lost."""
        if self._checkpoint is None:
            return {}
        cut = self._checkpoint.cut
        return {
            worker: latest + (worker not in cut.seats or cut.seats[worker].deposit is None)
            for worker, latest in cut.incarnations.items()
        }

    def _pump(self) -> StopReason | None:
        self._recorder.pump()
        self._checkpoint_if_cut()
        if self._signals.reason is not None:
            return self._signals.reason
        now = time.monotonic()
        seconds = self._config.checkpoint_seconds
        if seconds is not None and now - self._last_checkpoint >= seconds and self._owner:
            self._last_checkpoint = now
            self._owner.want_cut()
        limit = self._config.max_seconds
        if limit is not None and self._recorder.training_began:
            began = self._began = self._began or now
            if now - began >= limit:
                return StopReason.MAX_SECONDS
        return None

    def _evaluate(self, snapshot: Snapshot) -> Verdict:
        """The owner's judge."""

        def judge() -> Verdict:
            return self._judge(snapshot)

        if threading.get_ident() == self._thread:
            # Nobody else would notice if the environment hangs.
            return self._patience.in_time(judge, self._supervision)
        return self._patience.watched(judge)

    def _note_restart(self, what: str) -> None:
        self._restarts += 1
        warnings.warn(f"{what}; started again", RuntimeWarning, stacklevel=2)

    def _note_loss(self, what: str) -> None:
        warnings.warn(
            f"{what}; not started again (--max-restarts): the run goes on with the other workers",
            RuntimeWarning,
            stacklevel=2,
        )

    def _checkpoint_if_cut(self) -> None:
        if self._recorder.cut is None:
            return
        (cut, metrics_bytes, solved), self._recorder.cut = self._recorder.cut, None
        recorder = self._recorder
        offsets = Offsets(
            journal_bytes=recorder.journal_bytes(cut.journal_records),
            metrics_bytes=metrics_bytes,
            training_seconds=recorder.training_seconds,
            wall_seconds=recorder.wall_seconds,
            restarts=self._restarts,
            solved_at_steps=solved.solved_at_steps,
            training_solved_seconds=solved.training_solved_seconds,
            training_solved_steps=solved.training_solved_steps,
        )
        write_checkpoint(self._folder, Checkpoint(cut, offsets), self._config.keep_checkpoints)

    def _final_score(self, owner: Owner) -> Score | None:
        """The verified score of the best policy, unless the run was interrupted."""
        verdict = owner.best_verdict
        if verdict is not None and verdict.solved:
            return verdict.verification
        if owner.best is None or owner.stop_reason in _INTERRUPTIONS:
            return None
        policy = self._judge.policy(owner.best)
        try:
            return self._patience.in_time(lambda: self._judge.verify(policy), self._supervision)
        except EvaluationAborted as aborted:
            # The run has no score yet: it has been interrupted, whatever ended its training.
            self._ended_by = aborted.reason
            return None

    def _follow(self, when: float, event: Event) -> None:
        """A subscriber: saves what must not wait for the end."""
        del when
        if isinstance(event, Evaluated) and event.is_best:
            version = int(event.snapshot.version)
            self._write_policy("best", self._judge.policy(event.snapshot), version)
        if isinstance(event, Rejected):
            path = save_bad_batch(self._folder, event, self._assembly.agent)
            warnings.warn(
                f"worker {event.worker} computed a gradient that is not finite, with version "
                f"{event.contribution.version}, in {broken_tensors(path)}; it was not applied; "
                f"poise inspect shows {path}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _write_policy(self, name: str, policy: Policy, version: int) -> None:
        content = policy_to_bytes(policy, {"version": version, "seed": self._config.seed})
        write_bytes(self._folder / f"{name}.safetensors", content)

    def _finish(self, baseline: float | None, failure: str | None) -> TrainResult:
        """Write everything that a run leaves behind."""
        self._finishing = True
        owner = self._owner
        if owner is None:
            self._recorder.close()
            raise PoiseError("the run ended before it began")
        owner.stop(StopReason.FAILED)
        self._recorder.close()
        self._checkpoint_if_cut()
        final = owner.snapshot()
        best = owner.best or final
        self._write_policy("final", self._judge.policy(final), int(final.version))
        self._write_policy("best", self._judge.policy(best), int(best.version))
        reason = self._ended_by or owner.stop_reason or StopReason.FAILED
        summary = summarise(
            self._assembly,
            owner,
            self._recorder,
            self._score,
            reason,
            solved=self._score is not None and self._judge.solves(self._score),
            verification_attempts=self._judge.attempts,
            random_baseline=baseline,
            restarts=self._restarts,
            failure=failure,
        )
        plot_folder(self._folder, baseline=baseline, draw=self._draw or draw_curve)
        summary["wall_seconds"] = round(self._recorder.wall_seconds, 6)
        write_json(self._folder / "summary.json", summary)
        return TrainResult(self._folder, summary, self._judge.policy(best), reason)

    def _random_baseline(self, owner: Owner) -> float | None:
        """The mean return of random actions, drawn into the curve of a run that ended well."""
        if self._ended_by is not None or owner.stop_reason in _INTERRUPTIONS:
            return None

        def play() -> Score:
            return random_baseline(
                self._assembly.source,
                episodes=BASELINE_EPISODES,
                seed=self._config.seed,
                step_limit=self._config.evaluation_step_limit,
                step_budget=BASELINE_STEPS,
                alive=self._patience.alive,
            )

        try:
            return self._patience.in_time(play, self._supervision).mean
        except EvaluationAborted:
            return None
