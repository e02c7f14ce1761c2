"""Benchmarks of this machine: training steps per second by workers and environments per worker."""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from poise.config import TrainConfig
from poise.errors import DeadlineError
from poise.launchers.processes import run_processes
from poise.launchers.supervision import Heartbeats, Supervision
from poise.launchers.threads import run_threads
from poise.learning.compiled_worker import CompiledProgram
from poise.learning.events import Event, Updated
from poise.learning.journal import Journal, StopReason
from poise.learning.verdict import Candidate, Score, Verdict
from poise.runs.assembly import Assembly, assemble
from poise.runs.launcher_choice import Launcher
from poise.runs.runtime import prepare_jax
from poise.trajectory import Snapshot

__all__ = ["BenchRow", "bench", "training_rate"]

REPETITIONS = 3
FUSED_CYCLES = 50
"""Cycles in one call of the fused loop."""
UNLIMITED = 2**62
START_SECONDS = 120.0
"""How long workers may take to start and compile."""
UPDATES_PER_WORKER = 2
"""Contributions of each worker, on average, that are measured at least."""


class BenchRow(NamedTuple):
    """One measurement.

    Attributes:
        workers: threads.
        envs_per_worker: environment copies of each.
        steps_per_second: median over the repetitions, of training with owner and journal.
        fused_steps_per_second: what one core reaches with as many copies in one compiled loop of
            rollouts, gradients and updates, without an owner; None where the environment's state
            cannot be had.
        share_of_fused_loop: of ``workers`` times that.
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
    """Measure training throughput; evaluations are left out.

    Args:
        environment: Gymnasium id.
        workers: numbers of workers to try.
        envs_per_worker: numbers of copies to try.
        seconds: length of each of the repetitions.
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
        assembly = assemble(dataclasses.replace(config, max_steps=UNLIMITED))
        assembly.compile()
        launcher: Launcher = "processes" if assembly.launcher == "processes" else "threads"
        fused = None
        if isinstance(assembly.program, CompiledProgram) and assembly.world.is_pure:
            fused = _fused_loop(assembly, assembly.program)
        measured: dict[int, list[float]] = {count: [] for count in workers}
        base: list[float] = []
        # Interleaved, because other users of the machine come and go.
        for _ in range(REPETITIONS):
            if fused is not None:
                base.append(_rate(fused, seconds))
            for count in workers:
                measured[count].append(training_rate(assembly, count, seconds, launcher))
        ceiling = float(np.median(base)) if base else None
        for count in workers:
            rate = float(np.median(measured[count]))
            share = rate / (count * ceiling) if ceiling else None
            rows.append(BenchRow(count, copies, rate, ceiling, share))
    return rows


def training_rate(
    assembly: Assembly,
    workers: int,
    seconds: float,
    launcher: Launcher = "threads",
    timeout: float = 60.0,
) -> float:
    """Steps per second of real training, without evaluations.

    The clock starts when every worker has contributed once, so that neither starting processes nor
    compiling counts, and runs for a few contributions of each at least.

    Args:
        assembly: compiled parts of a run; its budget must not be used up by the measurement.
        workers: how many.
        seconds: length of the measurement.
        launcher: where the workers run.
        timeout: seconds without a contribution after which a worker counts as hung.

    Raises:
        TrainingError: a worker failed or hung, or not all were ready in time.
    """

    def judge(candidate: Candidate) -> Verdict:
        nothing = Score(*(0.0,) * 6, episodes=0, greedy=True, cut=0, steps=0)
        return Verdict(nothing, None, False)

    journal = Journal()
    window = _Window(workers)
    owner = assembly.owner(judge, window, journal)
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

    supervision = Supervision(pump, 0.01, timeout, assembly.config.environment)
    try:
        if launcher == "processes":
            seats = [(index, 0) for index in range(workers)]
            factory, shape = assembly.worker_factory(), assembly.mailbox_shape()
            run_processes(owner, factory, seats, shape, supervision, Heartbeats())
        else:
            everyone = [assembly.worker(index) for index in range(workers)]
            run_threads(owner, everyone, supervision, Heartbeats())
    finally:
        assembly.close()
    rate = window.rate()
    if rate is None:
        raise DeadlineError(
            f"{assembly.config.environment}: {workers} workers ({launcher}) made too few "
            "contributions to measure"
        )
    return rate


class _Window:
    """Counts steps between the moment when all workers are under way and the last update."""

    def __init__(self, workers: int) -> None:
        self._waiting = set(range(workers))
        self._first_steps = 0
        self._last_steps = 0
        self._ended = 0.0
        self.began: float | None = None
        self.updates = 0

    def __call__(self, event: Event) -> None:
        """Take an event of the owner's; one at a time."""
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
        """Steps per second, None if nothing was counted."""
        if self.began is None or not self.updates:
            return None
        return (self._last_steps - self._first_steps) / (self._ended - self.began)


def _fused_loop(assembly: Assembly, program: CompiledProgram) -> Any:
    """Many cycles with their updates as one compiled call; returns a function of no arguments."""
    update = assembly.raw_update
    rate = np.float32(assembly.learning_rate)

    def loop(carry: Any) -> Any:
        def cycle(carry: Any, _: Any) -> tuple[Any, Any]:
            parameters, optimizer_state, state = carry
            snapshot = Snapshot(jnp.int32(0), parameters)
            (gradient, losses, steps, *_), state = program.cycle(snapshot, state)
            parameters, optimizer_state = update(
                parameters, optimizer_state, gradient, losses[-1], rate
            )
            return (parameters, optimizer_state, state), steps

        carry, steps = jax.lax.scan(cycle, carry, None, length=FUSED_CYCLES)
        return carry, steps.sum()

    start = (
        assembly.parameters,
        assembly.initial_optimizer_state(),
        program.initial_state(np.zeros(2, np.uint32)),
    )
    compiled = jax.jit(loop).lower(start).compile(compiler_options=dict[str, Any](assembly.options))
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
