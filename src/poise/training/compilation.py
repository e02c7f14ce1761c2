"""Compiling a run's programs side by side."""

import concurrent.futures
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from poise.learning.optimizer import OptimizerState, Update
from poise.learning.worker import CompileOptions

__all__ = ["compile_update", "do_side_by_side"]


@functools.cache
def _compilers() -> concurrent.futures.ThreadPoolExecutor:
    """The threads that compile, for all runs of this process.

    Threads that came and went with every run would each leave the holes of a compilation in another
    part of the heap: the C library gives a thread an arena when it begins. Idle, they cost nothing.
    """
    return concurrent.futures.ThreadPoolExecutor(3, "poise-compile")


def do_side_by_side(work: Iterable[Callable[[], Any]]) -> None:
    """Do the slow work of a start, in threads; raises what any of it raised, once all is done."""
    jobs = [_compilers().submit(one) for one in work]
    concurrent.futures.wait(jobs)
    for job in jobs:
        job.result()


def compile_update(
    update: Update, parameters: np.ndarray, state: OptimizerState, options: CompileOptions
) -> Update:
    """Compile an optimizer's update of the parameters, as `make_optimizer` makes it."""
    norm, rate = np.float32(0), np.float32(0)
    lowered = jax.jit(update).lower(parameters, state, np.zeros_like(parameters), norm, rate)
    compiled: Update = lowered.compile(compiler_options=dict[str, Any](options))
    return compiled
