"""Training: from settings to a run's folder with everything that a user asked for."""

import contextlib
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poise.agent.policy import Policy
from poise.agent.policy_file import policy_to_bytes
from poise.config import TrainConfig
from poise.errors import PoiseError
from poise.launchers.processes import MISSING_GUARD_EXIT_CODE, pickle_factory, run_processes
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.threads import run_serial, run_threads
from poise.learning.events import Evaluated, Event, Score
from poise.learning.journal import Journal, StopReason
from poise.learning.owner import EvaluationAborted, Owner
from poise.runs.api import random_baseline
from poise.runs.assembly import Assembly, assemble
from poise.runs.files import create_run_folder, write_bytes, write_json
from poise.runs.folder import config_to_json, default_run_folder
from poise.runs.judge import Judge
from poise.runs.plotting import import_matplotlib, plot_folder
from poise.runs.progress import Progress
from poise.runs.recorder import Recorder, Subscriber, score_to_json
from poise.runs.runtime import prepare_jax, processor_model, versions
from poise.runs.signals import StopSignals
from poise.runs.trust import EnvironmentFactory
from poise.world.checking import check_environment
from poise.world.finding import world_kind
from poise.world.source import find_source, import_path

__all__ = ["TrainResult", "train", "train_config"]

BASELINE_EPISODES = 100
BASELINE_STEPS = 5_000
"""No new episode of the random baseline begins after so many steps."""
PUMP_INTERVAL = 0.05
"""Seconds between two looks at budgets, signals and records."""

_LAUNCHERS = {"threads": run_threads, "serial": run_serial}


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


def train(
    environment: str | EnvironmentFactory = "CartPole-v1",
    *,
    run_dir: str | Path | None = None,
    quiet: bool = True,
    subscriber: Subscriber | None = None,
    **settings: Any,
) -> TrainResult:
    """Train an agent, until it solves the environment or a budget is used up.

    Args:
        environment: Gymnasium id, import path ``module:attribute``, or a callable that makes the
            environment.
        run_dir: a new folder for the run; by default one below ``runs/``.
        quiet: print nothing.
        subscriber: called with the run's clock, in seconds, and each event.
        **settings: any setting of `TrainConfig`, for example ``seed=1, workers=2``.

    Raises:
        InputError: a setting, the environment or the folder cannot be used.
        TrainingError: the run failed; what was learned so far is in the folder.
    """
    factory = None
    if not isinstance(environment, str):
        factory, environment = environment, import_path(environment)
    config = TrainConfig(environment=environment, **settings)
    return train_config(
        config, run_dir=run_dir, quiet=quiet, subscriber=subscriber, factory=factory
    )


def train_config(
    config: TrainConfig,
    *,
    run_dir: str | Path | None = None,
    quiet: bool = True,
    subscriber: Subscriber | None = None,
    factory: EnvironmentFactory | None = None,
    process_age: float = 0.0,
) -> TrainResult:
    """Train with given settings; see `train`.

    Args:
        config: the settings.
        run_dir: a new folder for the run; by default one below ``runs/``.
        quiet: print nothing.
        subscriber: called with the run's clock, in seconds, and each event, in the main thread.
        factory: makes the environment, instead of what the settings name.
        process_age: seconds that the run's clock has been going already.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker's process, which is importing a script that trains without being asked.
        sys.exit(MISSING_GUARD_EXIT_CODE)
    started = time.monotonic() - process_age
    prepare_jax()
    source = find_source(config.environment_choice, factory)
    if world_kind(source, config.world) != "compiled":
        check_environment(source, config.worker_timeout)
    assembly = assemble(config, source)
    if assembly.launcher == "processes":
        pickle_factory(assembly.worker_factory(), source.name)
    folder = Path(run_dir) if run_dir is not None else default_run_folder(config)
    create_run_folder(folder)
    return _Run(assembly, folder, started, quiet, subscriber).run()


class _Run:
    """One training run, from the compiled program to the last file."""

    def __init__(
        self,
        assembly: Assembly,
        folder: Path,
        started: float,
        quiet: bool,
        subscriber: Subscriber | None,
    ) -> None:
        self._assembly = assembly
        self._config = assembly.config
        self._folder = folder
        self._started = started
        self._signals = StopSignals()
        self._heartbeats = Heartbeats()
        self._began: float | None = None
        self._saved_best: int | None = None
        config = assembly.config
        self._progress = None if quiet else Progress(config, assembly.target_return)
        self._resolved = assembly.resolved()
        write_json(folder / "config.json", config_to_json(config, self._resolved))
        self._journal = Journal()
        header = {"versions": versions(), "processor": processor_model()}
        self._recorder = Recorder(
            folder,
            header,
            self._journal,
            config.record_every,
            started,
            tuple(one for one in (self._progress, self._save_best, subscriber) if one is not None),
        )
        self._judge: Judge = assembly.judge(self._alive)
        self._owner: Owner | None = None

    def run(self) -> TrainResult:
        with contextlib.ExitStack() as stack:
            stack.callback(self._judge.close)
            stack.callback(self._assembly.close)
            if self._progress is not None:
                stack.callback(self._progress.close)
            stack.enter_context(self._signals)
            try:
                self._assembly.compile(import_matplotlib)
                owner = self._assembly.owner(self._judge, self._recorder.emit, self._journal)
                self._owner = owner
                self._launch(owner)
                score = self._final_score(owner)
            except BaseException as error:
                with contextlib.suppress(OSError, PoiseError):
                    self._finish(None, type(error).__name__)
                raise
            return self._finish(score, None)

    def _launch(self, owner: Owner) -> None:
        supervision = Supervision(
            pump=self._pump,
            interval=PUMP_INTERVAL,
            worker_timeout=self._config.worker_timeout,
            environment=self._config.environment,
        )
        self._began = time.monotonic()
        if self._assembly.launcher == "processes":
            run_processes(
                owner,
                self._assembly.worker_factory(),
                self._config.workers,
                self._assembly.mailbox_shape(),
                supervision,
                self._heartbeats,
            )
        else:
            launch = _LAUNCHERS[self._assembly.launcher]
            launch(owner, self._assembly.workers(), supervision, self._heartbeats)

    def _pump(self) -> StopReason | None:
        self._recorder.pump()
        if self._signals.reason is not None:
            return self._signals.reason
        limit = self._config.max_seconds
        if limit is not None and time.monotonic() - (self._began or 0.0) >= limit:
            return StopReason.MAX_SECONDS
        return None

    def _alive(self) -> None:
        """Called by the judge between two steps of an evaluation."""
        self._heartbeats.beat_all()
        if self._signals.reason is not None:
            raise EvaluationAborted(self._signals.reason)

    def _final_score(self, owner: Owner) -> Score | None:
        """The verified score of the best policy, unless the run was interrupted."""
        verdict = owner.best_verdict
        if verdict is not None and verdict.solved:
            return verdict.verification
        if owner.best is None or self._signals.reason is not None:
            return None
        try:
            return self._judge.verify(self._judge.policy(owner.best))
        except EvaluationAborted:
            return None

    def _save_best(self, when: float, event: Event) -> None:
        """A subscriber: whenever a better policy is found, it is saved."""
        del when
        owner = self._owner
        if not isinstance(event, Evaluated) or not event.is_best or owner is None:
            return
        if owner.best is not None and int(owner.best.version) != self._saved_best:
            self._saved_best = int(owner.best.version)
            self._write_policy("best", self._judge.policy(owner.best), self._saved_best)

    def _write_policy(self, name: str, policy: Policy, version: int) -> None:
        content = policy_to_bytes(policy, {"version": version, "seed": self._config.seed})
        write_bytes(self._folder / f"{name}.safetensors", content)

    def _finish(self, score: Score | None, failure: str | None) -> TrainResult:
        """Write everything that a run leaves behind."""
        owner = self._owner
        if owner is None:
            self._recorder.close()
            raise PoiseError("the run ended before it began")
        owner.stop(StopReason.FAILED)
        self._recorder.close()
        final = self._judge.policy(owner.snapshot())
        self._write_policy("final", final, owner.version)
        best = final
        if owner.best is not None:
            best = self._judge.policy(owner.best)
        if self._saved_best is None:
            self._write_policy("best", best, int((owner.best or owner.snapshot()).version))
        summary = self._summary(owner, score, failure)
        summary["random_baseline"] = None if self._signals.reason else self._random_baseline()
        plot_folder(self._folder, baseline=summary["random_baseline"])
        summary["wall_seconds"] = round(time.monotonic() - self._started, 6)
        write_json(self._folder / "summary.json", summary)
        reason = owner.stop_reason or StopReason.FAILED
        return TrainResult(self._folder, summary, best, reason)

    def _random_baseline(self) -> float | None:
        """The mean return of random actions, drawn into the learning curve."""
        try:
            return random_baseline(
                self._assembly.source,
                episodes=BASELINE_EPISODES,
                seed=self._config.seed,
                step_limit=self._config.evaluation_step_limit,
                step_budget=BASELINE_STEPS,
            ).mean
        except PoiseError:
            return None

    def _summary(self, owner: Owner, score: Score | None, failure: str | None) -> dict[str, Any]:
        config, recorder = self._config, self._recorder
        seconds = 0.0
        if recorder.first_cycle is not None and recorder.last_update is not None:
            seconds = recorder.last_update - recorder.first_cycle
        solved = score is not None and self._judge.solves(score)
        solved_at = recorder.solved_at_steps
        if solved and solved_at is None:
            solved_at = owner.steps
        training = recorder.training_solved
        mean = owner.training_mean
        evaluation = score_to_json(score) if score is not None else None
        return {
            "environment": config.environment,
            "algorithm": config.algorithm,
            "seed": config.seed,
            "solved": solved,
            "solved_at_steps": solved_at,
            "target_return": self._assembly.target_return,
            "steps": owner.steps,
            "episodes": owner.episodes,
            "updates": owner.version,
            "wall_seconds": 0.0,
            "training_seconds": round(seconds, 6),
            "steps_per_second": round(owner.steps / seconds, 1) if seconds else None,
            "workers": config.workers,
            "launcher": self._assembly.launcher,
            "evaluation": evaluation,
            "verification_attempts": self._judge.attempts,
            "training_mean_100": mean if mean is None or np.isfinite(mean) else None,
            "training_solved_at_seconds": round(training[0], 6) if training else None,
            "training_solved_at_steps": training[1].steps if training else None,
            "restarts": 0,
            "stopped": (owner.stop_reason or StopReason.FAILED).name.lower(),
            "failure": failure,
            "versions": versions(),
            "processor": processor_model(),
        }
