"""One training run, from the compiled program to the last file."""

import contextlib
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from poise.agent.policy import Policy
from poise.errors import DeadlineError, NotFiniteError, PoiseError, RunWriteError
from poise.launchers.processes import run_processes
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.threads import run_serial, run_threads
from poise.learning.journal import Journal, StopReason
from poise.learning.owner import EvaluationAborted, Owner
from poise.learning.verdict import Score, Verdict
from poise.runs.api import random_baseline
from poise.runs.assembly import Assembly
from poise.runs.checkpoint import Checkpoint, Offsets, write_checkpoint
from poise.runs.curve import draw_curve, import_matplotlib
from poise.runs.files import write_json
from poise.runs.keeper import Keeper
from poise.runs.plotting import Draw, plot_folder
from poise.runs.progress import Progress
from poise.runs.pulse import Pulse
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
    ) -> None:
        self._assembly = assembly
        self._config = config = assembly.config
        self._folder = folder
        self._draw = draw
        self._checkpoint, self._changed = checkpoint, changed
        self._signals = StopSignals()
        self._heartbeats = Heartbeats()
        # What is handed to others must not lead back here: a session that is part of a cycle would
        # keep its programs and parameters until Python's cyclic collector runs, which is seldom.
        self._pulse = Pulse(self._heartbeats, self._signals)
        self._judge = assembly.judge(self._pulse.beat)
        self._keeper = Keeper(folder, self._judge, assembly.agent, config.seed)
        self._began: float | None = None
        self._last_checkpoint = time.monotonic()
        self._restarts = checkpoint.offsets.restarts if checkpoint else 0
        self._progress = None if quiet else Progress(config, assembly.target_return)
        self._journal = Journal()
        if checkpoint is not None:
            cut = checkpoint.cut
            self._journal = Journal(cut.journal_records, cut.journal_checksum)
        followers = (self._progress, self._keeper.follow, *subscribers)
        self._recorder = Recorder(
            folder,
            {"versions": versions(), "processor": processor_model()},
            self._journal,
            config.record_every,
            started,
            tuple(one for one in followers if one is not None),
            checkpoint.offsets if checkpoint else None,
        )
        if checkpoint is not None:
            self._judge.attempts = checkpoint.cut.candidates.verifications
            verdict = checkpoint.cut.candidates.verdict
            self._judge.solved = verdict is not None and verdict.solved
        self._owner: Owner | None = None
        self._finishing = False

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
            stack.enter_context(self._signals)
            try:
                if self._draw is None:
                    self._assembly.compile(import_matplotlib)
                else:
                    self._assembly.compile()
                # Under processes the owner lives in this thread, which must not hang in an
                # environment.
                remote = self._assembly.launcher == "processes"
                judge = self._judge_in_time if remote else self._judge
                owner = self._assembly.owner(judge, self._recorder.emit, self._journal)
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
                score = self._final_score(owner)
                return self._finish(score, None)
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
        supervision = Supervision(
            pump=self._pump,
            interval=PUMP_INTERVAL,
            worker_timeout=self._config.worker_timeout,
            environment=self._config.environment,
            max_restarts=max(0, self._config.max_restarts - self._restarts),
            restart_on_error=self._config.restart_on_error,
            on_restart=self._note_restart,
        )
        incarnations = self._incarnations()
        if self._assembly.launcher == "processes":
            run_processes(
                owner,
                self._assembly.worker_factory(),
                [(one, incarnations.get(one, 0)) for one in range(self._config.workers)],
                self._assembly.mailbox_shape(),
                supervision,
                self._heartbeats,
            )
            return
        workers = self._assembly.workers(incarnations)
        if owner.last_worker is not None:
            # Serial workers go on with whose turn it is.
            turn = owner.last_worker + 1
            workers = workers[turn:] + workers[:turn]
        _LAUNCHERS[self._assembly.launcher](owner, workers, supervision, self._heartbeats)

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

    def _judge_in_time(self, snapshot: Snapshot) -> Verdict:
        """The judge in a thread that can be left behind, if its environment hangs."""
        outcome: list[Verdict] = []
        failure: list[BaseException] = []

        def judge() -> None:
            try:
                outcome.append(self._judge(snapshot))
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=judge, daemon=True)
        self._pulse.last = time.monotonic()
        thread.start()
        while thread.is_alive():
            thread.join(PUMP_INTERVAL)
            self._recorder.pump()
            if time.monotonic() - self._pulse.last > self._config.worker_timeout:
                raise DeadlineError(
                    f"the environment {self._config.environment} has not answered for "
                    f"{self._config.worker_timeout:g} s in an evaluation (--worker-timeout); what "
                    "was learned so far is saved"
                )
        if failure:
            raise failure[0]
        return outcome[0]

    def _note_restart(self, what: str) -> None:
        self._restarts += 1
        warnings.warn(f"{what}; started again", RuntimeWarning, stacklevel=2)

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
        try:
            return self._judge.verify(self._judge.policy(owner.best))
        except EvaluationAborted:
            return None

    def _finish(self, score: Score | None, failure: str | None) -> TrainResult:
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
        self._keeper.write_policy("final", final)
        self._keeper.write_policy("best", best)
        summary = self._summary(owner, score, failure)
        baseline = summary["random_baseline"]
        plot_folder(self._folder, baseline=baseline, draw=self._draw or draw_curve)
        summary["wall_seconds"] = round(self._recorder.wall_seconds, 6)
        write_json(self._folder / "summary.json", summary)
        reason = owner.stop_reason or StopReason.FAILED
        return TrainResult(self._folder, summary, self._judge.policy(best), reason)

    def _summary(self, owner: Owner, score: Score | None, failure: str | None) -> dict[str, Any]:
        solved = score is not None and self._judge.solves(score)
        return summarise(
            self._assembly,
            owner,
            self._recorder,
            score,
            solved=solved,
            verification_attempts=self._judge.attempts,
            random_baseline=self._random_baseline(owner, failure),
            restarts=self._restarts,
            failure=failure,
        )

    def _random_baseline(self, owner: Owner, failure: str | None) -> float | None:
        """The mean return of random actions, drawn into the curve of a run that ended well."""
        if failure is not None or owner.stop_reason in _INTERRUPTIONS:
            return None
        return random_baseline(
            self._assembly.source,
            episodes=BASELINE_EPISODES,
            seed=self._config.seed,
            step_limit=self._config.evaluation_step_limit,
            step_budget=BASELINE_STEPS,
        ).mean
