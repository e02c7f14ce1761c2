"""Data types shared by the layers: trajectories, updates, snapshots.

Arrays are NumPy or JAX arrays. Leading axes are time ``T`` and environment copies ``N``.
"""

import math
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "NO_EPISODES",
    "ActorOutput",
    "EpisodeReport",
    "Gradient",
    "Snapshot",
    "StepResult",
    "Trajectory",
    "WorkerUpdate",
]


class ActorOutput(NamedTuple):
    """An agent's output for an observation; fields may have leading batch axes."""

    action: Any
    """The action as sampled; trajectories store this one."""
    environment_action: Any
    """The action as passed to the environment: shifted, scaled, within bounds."""
    dist_params: Any
    """``[..., P]`` float32: parameters of the distribution that the action was sampled from."""
    state: Any
    """The network's recurrent state after this observation."""


class StepResult(NamedTuple):
    """The result of one step in N environment copies."""

    observation: Any
    """Pytree of ``[N, ...]``; for a copy that was reset, the first of its new episode."""
    reward: Any
    """``[N]``: float64 from Python, float32 in XLA."""
    terminated: Any
    """``[N]`` bool: the episode ended for good."""
    truncated: Any
    """``[N]`` bool: the episode was cut."""


class Trajectory(NamedTuple):
    """T steps in N environment copies, with next-step autoreset.

    Observation t+1 is always the true successor of step t. The step after an episode's end only
    resets its copy and is invalid (``valid`` false, action ignored, reward 0).
    """

    observations: Any
    """Pytree of ``[T+1, N, ...]``."""
    actions: Any
    """Pytree of ``[T, N, ...]``, as sampled: before any clipping to bounds."""
    rewards: Any
    """``[T, N]`` float32: rewards used in the loss: replaced, scaled, clipped and normalised."""
    terminated: Any
    """``[T, N]`` bool: the episode ended for good."""
    truncated: Any
    """``[T, N]`` bool: the episode was cut, for example by its time limit."""
    valid: Any
    """``[T, N]`` bool: false if the step only reset its copy."""
    first: Any
    """``[T+1, N]`` bool: the observation is the first of an episode, also across rollouts."""
    initial_state: Any
    """The network's recurrent state before the first observation, pytree of ``[N, ...]``."""
    behaviour_log_probabilities: Any
    """``[T, N]`` float32: log-probabilities of the actions under the policy that acted."""
    version: Any
    """int32 scalar: version of the parameters that acted."""


class Gradient(NamedTuple):
    """The gradient of a loss with respect to the flat parameter vector."""

    vector: Any
    """``[P]`` float32."""
    norm: Any
    """float32 scalar: global norm of the gradient, before any clipping."""


class EpisodeReport(NamedTuple):
    """The episodes that finished during a rollout, ordered by time, then by copy."""

    returns: np.ndarray
    """``[K]`` float32: undiscounted sums of the environment's own rewards."""
    lengths: np.ndarray
    """``[K]`` int32: lengths in steps."""


NO_EPISODES = EpisodeReport(np.zeros(0, np.float32), np.zeros(0, np.int32))


class Snapshot(NamedTuple):
    """The parameters and statistics that a worker acts with."""

    version: Any
    """int32 scalar: number of updates that produced these parameters."""
    parameters: Any
    """``[P]`` float32: the network's trainable arrays as one flat vector."""
    statistics: Any = ()
    """Shared statistics of the normalisers; ``()`` if there are none."""
    target_parameters: Any = ()
    """Parameters of a target network; ``()`` if the loss uses none."""


class WorkerUpdate(NamedTuple):
    """The result of one worker cycle."""

    version: int
    """Version of the snapshot that the worker acted with."""
    payload: Gradient | Trajectory
    """The gradient; or the rollout, if the server learns from rollouts."""
    statistics: Any
    """This rollout's contribution to the shared statistics; ``()`` if there are none."""
    metrics: np.ndarray
    """``[K]`` float32: logged values, in the order of the algorithm's metric names."""
    steps: int
    """Valid environment steps in the rollout."""
    episodes: EpisodeReport
    evidence: Any = None
    """The rollout (a `Trajectory`, or its arrays by name) of a gradient that is not finite."""

    @property
    def is_finite(self) -> bool:
        """Whether all metrics are finite, so that the update may be applied."""
        # A sum of float64 does not overflow. For a few numbers NumPy takes ten times as long.
        return math.isfinite(sum(self.metrics.tolist()))
