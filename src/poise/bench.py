"""Training benchmark: steps per second by number of workers and environments per worker."""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poise.config import TrainConfig
from poise.errors import DeadlineError
from poise.launchers.launcher import Launch, Launcher, WorkerStart
from poise.launchers.supervision import Heartbeats, Supervision
from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.learning.events import Event, Updated
from poise.learning.jax_worker import JaxProgram
from poise.learning.journal import Journal, StopReason
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.runtime import prepare_jax
from poise.training.worker_factory import RunWorkerFactory
from poise.trajectory import Gradient, Snapshot

__all__ = ["BenchRow", "bench", "training_rate"]

REPETITIONS = 3
FUSED_CYCLES = 50
"""Number of cycles in one call of the fused loop."""
UNLIMITED = 2**62
START_SECONDS = 120.0
"""Maximum time for workers to start and compile."""
UPDATES_PER_WORKER = 2
"""Minimum number of measured updates per worker, on average."""


class BenchRow(NamedTuple):
    """One measurement.

    Attributes:
        workers: number of workers.
        envs_per_worker: environment copies per worker.
        steps_per_second: training speed with server and journal; median of the repetitions.
        fused_steps_per_second: the single-core ceiling: speed of one compiled loop of rollouts,
            gradients and updates with the same number of copies, without a server; None if the
            environment's state is not available to JAX.
        share_of_fused_loop: steps_per_second divided by ``workers`` times that ceiling.
    """

    workers: int
    envs_per_worker: int
    steps_per_second: float
    fused_steps_per_second: float | None
    share_of_fused_loop: float | None


def bench(
    environment: str,
    workers: list[int],
    envs_per_worker: list[int],
    seconds: float,
    ignore_observations: tuple[str, ...] = (),
) -> list[BenchRow]:
    """Measure training throughput, without evaluations.

    Args:
        environment: Gymnasium id.
        workers: numbers of workers to try.
        envs_per_worker: numbers of environment copies per worker to try.
        seconds: length of each repetition.
        ignore_observations: parts of the observations that are left out.
    """
    prepare_jax()
    rows = []
    for copies in envs_per_worker:
        config = TrainConfig(
            environment,
            ignore_observations=ignore_observations,
            workers=max(workers),
            envs_per_worker=copies,
        )
        components = build_components(dataclasses.replace(config, max_steps=UNLIMITED))
        components.compile()
        launcher = components.placement.launcher
        fused = None
        if isinstance(components.program, JaxProgram) and components.envs.is_pure:
            fused = _fused_loop(components, components.program)
        measured: dict[int, list[float]] = {count: [] for count in workers}
        base: list[float] = []
        # Interleaved, so that other load on the machine affects all measurements alike.
        for _ in range(REPETITIONS):
            if fused is not None:
                base.append(_rate(fused, seconds))
            for count in workers:
                measured[count].append(training_rate(components, launcher, count, seconds))
        ceiling = float(np.median(base)) if base else None
        for count in workers:
            rate = float(np.median(measured[count]))
            share = rate / (count * ceiling) if ceiling else None
            rows.append(BenchRow(count, copies, rate, ceiling, share))
    return rows


def training_rate(
    components: RunComponents,
    launcher: Launcher,
    workers: int,
    seconds: float,
    timeout: float = 60.0,
) -> float:
    """Steps per second of real training, without evaluations.

    The clock starts when every worker has sent one update, so that process start-up and compilation
    are not measured. It runs for at least a few updates per worker.

    Args:
        components: compiled components of a run; its budget must outlast the measurement.
        launcher: runs the workers.
        workers: number of workers.
        seconds: length of the measurement.
        timeout: seconds without an update after which a worker counts as hung.

    Raises:
        TrainingError: a worker failed or hung, or not all were ready in time.
    """

    def evaluator(candidate: Candidate) -> EvaluationResult:
        nothing = Score(*(0.0,) * 6, episodes=0, greedy=True, cut=0, steps=0)
        return EvaluationResult(nothing, None, False)

    journal = Journal()
    window = Window(workers)
    server = components.server(evaluator, window, journal)
    started = time.monotonic()

    def pump() -> StopReason | None:
        journal.drain()
        now = time.monotonic()
        if window.began is None:
            return StopReason.FAILED if now - started > START_SECONDS + timeout else None
        enough = window.updates >= UPDATES_PER_WORKER * workers
        late = now - window.began >= seconds + timeout
        over = now - window.began >= seconds and enough
        return StopReason.MAX_SECONDS if over or late else None

    supervision = Supervision(pump, 0.01, timeout, components.config.environment)
    try:
        factory = RunWorkerFactory(components)
        starts = [WorkerStart(index) for index in range(workers)]
        launcher.run(Launch(server, factory, starts, supervision, Heartbeats()))
    finally:
        components.close()
    rate = window.rate()
    if rate is None:
        raise DeadlineError(
            f"{components.config.environment}: {workers} workers ({launcher.name}) made too few "
            "updates for a measurement"
        )
    return rate


class Window:
    """Counts steps from the moment when all workers have sent an update to the last update."""

    def __init__(self, workers: int) -> None:
        self._waiting = set(range(workers))
        self._first_steps = 0
        self._last_steps = 0
        self._ended = 0.0
        self.began: float | None = None
        self.updates = 0

    def __call__(self, event: Event) -> None:
        """Handle one event from the server."""
        if not isinstance(event, Updated):
            return
        now = time.monotonic()
        if self.began is None:
            self._waiting.discard(event.worker)
            if not self._waiting:
                self._first_steps, self.began = event.steps, now
            return
        self._last_steps, self._ended = event.steps, now
        self.updates += 1

    def rate(self) -> float | None:
        """Steps per second; None if nothing was counted."""
        if self.began is None or not self.updates:
            return None
        return (self._last_steps - self._first_steps) / (self._ended - self.began)


def _fused_loop(components: RunComponents, program: JaxProgram) -> Any:
    """Compile many cycles with their updates into one call.

    The returned function takes no arguments and returns the number of steps.
    """
    update = components.raw_update
    rate = np.float32(components.learning_rate)

    def loop(carry: Any) -> Any:
        def cycle(carry: Any, _: Any) -> tuple[Any, Any]:
            parameters, optimizer_state, state = carry
            snapshot = Snapshot(jnp.int32(0), parameters)
            (computed, _, steps, *_), state = program.cycle(snapshot, state)
            gradient = program.spec.algorithm.payload(computed)
            assert isinstance(gradient, Gradient), "there is no other payload"
            parameters, optimizer_state = update(
                parameters, optimizer_state, gradient.vector, gradient.norm, rate
            )
            return (parameters, optimizer_state, state), steps

        carry, steps = jax.lax.scan(cycle, carry, None, length=FUSED_CYCLES)
        return carry, steps.sum()

    start = (
        components.parameters,
        components.initial_optimizer_state(),
        program.initial_state(np.zeros(2, np.uint32)),
    )
    compiled = (
        jax.jit(loop).lower(start).compile(compiler_options=dict[str, Any](components.options))
    )
    carry, _ = compiled(start)

    def run() -> int:
        nonlocal carry
        carry, steps = compiled(carry)
        return int(steps)

    return run


def _rate(run: Any, seconds: float) -> float:
    began, steps = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        steps += run()
    return steps / elapsed
