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
from poise.learning.algorithms.algorithm import Algorithm, Explores
from poise.learning.reward_normalization import with_returns
from poise.learning.rollout import Explore, FinishedEpisodes
from poise.maths.statistics import moments_of
from poise.trajectory import EpisodeReport, Snapshot, Trajectory, WorkerUpdate

__all__ = [
    "Opens",
    "Releases",
    "Worker",
    "WorkerSpec",
    "compute_update",
    "episode_report",
    "observed_moments",
    "require_finite",
]


class WorkerSpec(NamedTuple):
    """The specification shared by all workers of a run.

    Attributes:
        agent: the network and action head.
        envs: the environments.
        algorithm: the learning algorithm.
        copies: number of environment copies N.
        length: rollout length T.
    """

    agent: Agent
    envs: World
    algorithm: Algorithm
    copies: int
    length: int

    @property
    def normalizes_rewards(self) -> bool:
        """Whether rewards are normalised."""
        return self.envs.shaping.return_discount is not None

    @property
    def explore(self) -> Explore | None:
        """Changes the acting noise; None if the algorithm leaves it as the action head drew it."""
        return self.algorithm.explore if isinstance(self.algorithm, Explores) else None

    @property
    def statistics_size(self) -> int:
        """S: the normalised numbers of an observation, and the return if rewards are normalised."""
        return self.agent.scaling.count + self.normalizes_rewards


@runtime_checkable
class Worker(Protocol):
    """A worker as launchers run it; it does not depend on where it runs."""

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
        """Whether `cycle` depends only on its arguments, so that the worker can be checkpointed."""

    def initial_state(self) -> Any:
        """Return the state before the first cycle."""

    def cycle(self, snapshot: Snapshot, state: Any) -> tuple[WorkerUpdate, Any]:
        """Act for one rollout with the snapshot; return the update and the new state."""

    def describe_activity(self) -> str:
        """Describe what the environments are doing or did last, for reports of hangs.

        Empty if unknown.
        """

    def close(self) -> None:
        """Close the environments; the worker must not be used afterwards."""


@runtime_checkable
class Opens(Protocol):
    """A worker whose environments can be made some time before they are reset."""

    def open(self) -> None:
        """Make the environments; `initial_state` resets them."""


@runtime_checkable
class Releases(Protocol):
    """A worker that can close its environments for a while."""

    def release(self) -> None:
        """Close the environments after the current cycle; the next makes and seeds new ones."""


def require_finite(trajectory: Trajectory, environment: str) -> None:
    """Check that the environment returned finite numbers, after an update that is not finite.

    If it did, the fault lies with the network or its parameters.

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
    """Report the episodes that finished in a rollout, ordered by time, then by copy.

    Args:
        episodes: the rollout's episodes.
        metrics: metrics of the rollout's update.
        environment: the environment's name, for the error message.

    Raises:
        EnvironmentFailureError: an episode's return overflows float32. This is not checked if the
            update is not finite, because it is rejected anyway.
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
    """Run the algorithm on a trajectory with scaled observations (`Agent.observe`). Pure.

    Returns:
        The two results of `Algorithm.compute`, and the number of valid steps.
    """
    computed, metrics = algorithm.compute(agent, snapshot, trajectory)
    return computed, metrics, jnp.sum(trajectory.valid, dtype=jnp.int32)


def observed_moments(agent: Agent, trajectory: Trajectory, discounted_returns: Any = ()) -> Any:
    """Compute the moments of a trajectory's observations and returns, for the normalisers.

    They are float64 on NumPy and float32 in XLA; ``()`` if nothing is normalised.

    Args:
        agent: the agent that scales the observations.
        trajectory: the trajectory, whose observations are not scaled yet.
        discounted_returns: ``[T, N]`` (see `Transition`); ``()`` if rewards are not normalised.
    """
    seen = None
    if agent.scaling.count:
        seen = agent.scaling.gather(trajectory.observations)[:-1]
    seen = with_returns(seen, discounted_returns)
    if seen is None:
        return ()
    rows = seen.reshape((-1, seen.shape[-1]))
    return moments_of(rows, trajectory.valid.reshape(-1))
