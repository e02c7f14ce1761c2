"""The worker: lets the agent act in its environments.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3, as a pure step:
``cycle(snapshot, state) -> (update, state)``.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from poise.agent.agent import Agent
from poise.envs.registry import World
from poise.errors import EnvironmentFailureError
from poise.learning.algorithms.algorithm import Algorithm
from poise.learning.rollout import FinishedEpisodes
from poise.maths.statistics import moments_of
from poise.trajectory import EpisodeReport, Snapshot, Trajectory, WorkerUpdate

__all__ = [
    "CompileOptions",
    "Opens",
    "Releases",
    "Worker",
    "WorkerSpec",
    "compile_options",
    "compute_update",
    "episode_report",
    "observed_moments",
    "require_finite",
]


CompileOptions = dict[str, str | bool | int]

FUSION_EMITTERS_ALWAYS_SINCE = (0, 11, 1)
"""The version of JAX from which on XLA knows no option against its fusion emitters on the CPU."""


class WorkerSpec(NamedTuple):
    """What all workers of a run have in common.

    Attributes:
        agent: what decides.
        envs: what happens.
        algorithm: what a worker makes of its rollout.
        copies: environment copies N.
        length: rollout length T.
    """

    agent: Agent
    envs: World
    algorithm: Algorithm
    copies: int
    length: int


@runtime_checkable
class Worker(Protocol):
    """What a launcher runs; it cannot tell where it runs."""

    @property
    def index(self) -> int:
        """The worker's number, from 0."""

    @property
    def generation(self) -> int:
        """How often the worker has been started before."""

    @property
    def seed(self) -> int:
        """The seed of its environments, for error messages."""

    @property
    def is_checkpointable(self) -> bool:
        """Whether `cycle` is a function of its state, so that a checkpoint can hold the worker."""

    def initial_state(self) -> Any:
        """The state before its first cycle."""

    def cycle(self, snapshot: Snapshot, state: Any) -> tuple[WorkerUpdate, Any]:
        """Act for one rollout with the snapshot; bring back the update and the new state."""

    def describe_activity(self) -> str:
        """What its environments do, or did last, to be reported if it hangs; empty if unknown."""

    def close(self) -> None:
        """Let go of environments; the worker is not used any more."""


@runtime_checkable
class Opens(Protocol):
    """A worker whose environments can be made some time before they are reset."""

    def open(self) -> None:
        """Make them; `initial_state` resets them."""


@runtime_checkable
class Releases(Protocol):
    """A worker that can close its environments for a while."""

    def release(self) -> None:
        """Close them, when the cycle under way is over; the next cycle makes and seeds new ones."""


def compile_options(backend: str) -> CompileOptions:
    """XLA's options for poise's programs, on one backend (``cpu``, ``gpu``).

    Measured on the CPU for the CartPole cycle: a third of the default compile time at equal speed;
    threads of Eigen's own would only get in the way of the workers.
    """
    if backend != "cpu":
        return {}
    options: CompileOptions = {
        "xla_backend_optimization_level": 1,
        "xla_cpu_multi_thread_eigen": False,
    }
    if jax.__version_info__[:3] < FUSION_EMITTERS_ALWAYS_SINCE:
        options["xla_cpu_use_fusion_emitters"] = False
    return options


def require_finite(trajectory: Trajectory, environment: str) -> None:
    """Tell an environment that breaks from a network that breaks.

    Raises:
        EnvironmentFailureError: an observation or a reward is not finite.
    """
    named = {"observations": trajectory.observations, "rewards": trajectory.rewards}
    for path, leaf in jax.tree_util.tree_leaves_with_path(named):
        array = np.asarray(leaf)
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            where = tuple(int(one) for one in np.argwhere(~np.isfinite(array))[0])
            raise EnvironmentFailureError(
                f"the environment {environment} returned {array[where]} in its "
                f"{jax.tree_util.keystr(path)} at step and copy {where[:2]}"
            )


def episode_report(
    episodes: FinishedEpisodes, metrics: np.ndarray, environment: str
) -> EpisodeReport:
    """The episodes that finished, in order of time, then of copy.

    Args:
        episodes: of a rollout.
        metrics: of the update that was made of it.
        environment: its name, for the message.

    Raises:
        EnvironmentFailureError: finite rewards have added up to what is no float32, though the
            update is finite, so that the rollout would be learned from.
    """
    finished = np.asarray(episodes.finished)
    returns, lengths = np.asarray(episodes.returns), np.asarray(episodes.lengths)
    with np.errstate(over="ignore"):
        report = EpisodeReport(
            returns[finished].astype(np.float32), lengths[finished].astype(np.int32)
        )
    if np.isfinite(metrics).all() and not np.isfinite(report.returns).all():
        raise EnvironmentFailureError(
            f"the rewards of an episode in {environment} add up to more than a float32 can hold: "
            "make them smaller"
        )
    return report


def compute_update(
    agent: Agent, algorithm: Algorithm, snapshot: Snapshot, trajectory: Trajectory
) -> tuple[Any, Any, Any]:
    """What a worker makes of a trajectory, with observations as the network sees them. Pure.

    Returns:
        As `Algorithm.compute` does, and the number of valid steps.
    """
    computed, metrics = algorithm.compute(agent, snapshot, trajectory)
    return computed, metrics, jnp.sum(trajectory.valid, dtype=jnp.int32)


def observed_moments(agent: Agent, trajectory: Trajectory) -> Any:
    """What a trajectory's observations add to the normaliser's statistics; ``()`` without one.

    In float64 where NumPy holds the observations, in float32 in XLA.
    """
    if not agent.scaling.count:
        return ()
    seen = agent.scaling.gather(trajectory.observations)[:-1]
    rows = seen.reshape((-1, seen.shape[-1]))
    return moments_of(rows, trajectory.valid.reshape(-1))
