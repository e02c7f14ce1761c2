"""What passes between the layers: trajectories, updates, snapshots.

Arrays are NumPy's or JAX's; leading axes are time ``T`` and environment copies ``N``.
"""

from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "ActorOutput",
    "EpisodeReport",
    "Gradient",
    "Snapshot",
    "StepResult",
    "Trajectory",
    "WorkerUpdate",
]


class ActorOutput(NamedTuple):
    """What an agent does about an observation; fields may have leading batch axes."""

    action: Any
    """As sampled; this is what a trajectory stores."""
    environment_action: Any
    """As the environment takes it: shifted, scaled, within bounds."""
    dist_params: Any
    """``[..., P]`` float32: of the distribution that the action was drawn from."""
    state: Any
    """The network's recurrent state after this observation."""


class StepResult(NamedTuple):
    """What a step of N environment copies shows."""

    observation: Any
    """Pytree of ``[N, ...]``; of a copy that was reset, the first of its new episode."""
    reward: Any
    """``[N]``: float64 from Python, float32 in XLA."""
    terminated: Any
    """``[N]`` bool: the episode ended for good."""
    truncated: Any
    """``[N]`` bool: the episode was cut."""


class Trajectory(NamedTuple):
    """T steps in N environment copies, with next-step autoreset.

    Observation t+1 is always the true successor of step t; the step after an end only resets its
    copy and is invalid (``valid`` false, action ignored, reward 0).
    """

    observations: Any
    """Pytree of ``[T+1, N, ...]``."""
    actions: Any
    """Pytree of ``[T, N, ...]``, as sampled: before any clipping to bounds."""
    rewards: Any
    """``[T, N]`` float32: what the loss sees, after any shaping."""
    terminated: Any
    """``[T, N]`` bool: the episode ended for good."""
    truncated: Any
    """``[T, N]`` bool: the episode was cut, by its time limit for example."""
    valid: Any
    """``[T, N]`` bool: false where the step only reset."""
    first: Any
    """``[T+1, N]`` bool: the observation begins an episode, also across rollouts."""
    initial_state: Any
    """The network's recurrent state before the first observation, pytree of ``[N, ...]``."""
    behaviour_log_probabilities: Any
    """``[T, N]`` float32: of the actions, under the policy that acted."""
    version: Any
    """int32 scalar: version of the parameters that acted."""


class Gradient(NamedTuple):
    """The gradient of a loss with respect to the flat parameter vector."""

    vector: Any
    """``[P]`` float32."""
    norm: Any
    """float32 scalar: its global norm, before any clipping."""


class EpisodeReport(NamedTuple):
    """The episodes that finished during a rollout, in order of time, then of copy."""

    returns: np.ndarray
    """``[K]`` float32: undiscounted sums of the environment's own rewards."""
    lengths: np.ndarray
    """``[K]`` int32: steps."""


class Snapshot(NamedTuple):
    """What a worker acts with."""

    version: Any
    """int32 scalar: number of updates that led to these parameters."""
    parameters: Any
    """``[P]`` float32: the network's trainable arrays as one flat vector."""
    statistics: Any = ()
    """Shared statistics, such as the observation normaliser's; ``()`` if there are none."""
    target_parameters: Any = ()
    """Parameters of a target network; ``()`` where the loss has none."""


class WorkerUpdate(NamedTuple):
    """What a worker brings back from one cycle."""

    version: int
    """Version of the snapshot acted with."""
    payload: Gradient | Trajectory
    """What it learned; or its rollout, where the server learns from it."""
    statistics: Any
    """What this rollout adds to the shared statistics; ``()`` if there are none."""
    metrics: np.ndarray
    """``[K]`` float32: what is logged, by the names that the algorithm gives them."""
    steps: int
    """Valid environment steps in the rollout."""
    episodes: EpisodeReport
    evidence: Any = None
    """The rollout (a `Trajectory`, or its arrays by name) behind a gradient that is not finite."""

    @property
    def is_finite(self) -> bool:
        """Whether it may be applied."""
        return bool(np.isfinite(self.metrics).all())
