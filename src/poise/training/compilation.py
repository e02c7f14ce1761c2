"""Compiling a run's programs in parallel."""

import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from poise.envs.seeding import typed_key
from poise.learning.compiler import Compiler
from poise.learning.learner import TrajectoryLearner, join_trajectories
from poise.learning.optimizer import OptimizerState, Update
from poise.trajectory import Trajectory

__all__ = ["compile_learner", "compile_update", "do_side_by_side"]


@functools.cache
def _compilers() -> concurrent.futures.ThreadPoolExecutor:
    """Return the threads that compile, shared by all runs of this process.

    glibc gives each new thread a heap arena, so new threads for every run would each leave the
    fragments of a compilation in another part of the heap. Idle threads cost nothing.
    """
    return concurrent.futures.ThreadPoolExecutor(3, "poise-compile")


def do_side_by_side(work: Iterable[Callable[[], Any]]) -> None:
    """Do the slow work of a start in threads; when all is done, raise the first error, if any."""
    jobs = [_compilers().submit(one) for one in work]
    concurrent.futures.wait(jobs)
    for job in jobs:
        job.result()


def compile_update(
    update: Update, parameters: np.ndarray, state: OptimizerState, compiler: Compiler
) -> Update:
    """Compile an optimizer's update of the parameters, which `make_optimizer` made."""
    norm, rate = np.float32(0), np.float32(0)
    compiled: Update = compiler(
        "optimizer", update, parameters, state, np.zeros_like(parameters), norm, rate
    )
    return compiled


def compile_learner(
    learn: Callable[..., Any],
    parameters: np.ndarray,
    state: OptimizerState,
    compiler: Compiler,
    rollouts: Sequence[Any],
    seed: np.ndarray,
) -> TrajectoryLearner:
    """Compile an algorithm's learning step on a batch of trajectories.

    Args:
        learn: `LearnsFromTrajectories.learn`, with agent and update already bound.
        parameters: ``[P]`` float32.
        state: the optimizer's state at version 0.
        compiler: compiles the run's programs.
        rollouts: the rollout that each worker sends, as shapes and dtypes.
        seed: ``[2]`` uint32, for random draws during learning.
    """

    def run(
        parameters: Any, state: OptimizerState, batch: Trajectory, rate: Any, key: Any
    ) -> tuple[Any, OptimizerState, Any]:
        learned: tuple[Any, OptimizerState, Any] = learn(
            parameters, state, batch, rate, typed_key(key)
        )
        return learned

    learner = TrajectoryLearner(run, seed, compiler)
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), list(rollouts))
    learner.compile(parameters, state, join_trajectories(blank))
    return learner
