"""What the asynchronous methods that learn action values have in common.

Mnih et al. 2016 (arXiv 1602.01783), section 4 and Algorithms 1, S1 and S2: each worker acts
epsilon-greedily, computes the gradient of the squared error between the values of the actions it
took and targets from a target network, and sends it to the server, which applies it on arrival.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from poise.agent.agent import Agent
from poise.agent.epsilon_greedy import ExplorationNoise
from poise.agent.gradient import global_norm, network_outputs
from poise.agent.noise import UNIFORM, Noise
from poise.learning.discipline import DisciplineName
from poise.maths.losses import masked_mean
from poise.maths.namespace import array_namespace
from poise.trajectory import Gradient, Snapshot, Trajectory

__all__ = ["ActionValueLearning", "values_of"]

FINAL_EPSILONS = np.array([0.1, 0.01, 0.5], np.float32)
SHARES = np.array([0.4, 0.3, 0.3], np.float32)
"""Final probabilities of a random action, and how often each is drawn (Mnih et al. 2016, section
5.1)."""


@dataclasses.dataclass(frozen=True)
class ActionValueLearning:
    """Base of the methods, which differ only in `targets`; settings as in `TrainConfig`."""

    discount: float
    target_interval: int
    exploration_steps: int
    final_epsilon: float | None
    envs_per_worker: int
    rollout_length: int

    discipline: ClassVar[DisciplineName] = "asynchronous"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "action_value", "epsilon", "gradient_norm")
    worker_metrics: ClassVar[tuple[str, ...]] = metrics
    action_values: ClassVar[bool] = True
    follows_version: ClassVar[bool] = True

    def targets(self, target_values: Any, trajectory: Trajectory) -> tuple[Any, Any]:
        """Compute what the values of the actions taken are regressed on.

        Args:
            target_values: ``[T+1, N, A]``, the target network's action values.
            trajectory: the rollout.

        Returns:
            Targets ``[T, N]`` float32, and ``[T, N]`` bool: which of them are known.
        """
        raise NotImplementedError

    def explore(self, noise: ExplorationNoise, version: Any, draw: Noise) -> ExplorationNoise:
        """Set the epsilon of a rollout: annealed linearly from 1 to a final value.

        The final value is drawn anew for each copy and rollout, unless ``final_epsilon`` is set.
        The annealing counts updates, each as a whole rollout, so that every worker sees the same
        progress and a resumed run continues where it was.
        """
        xp = array_namespace(noise.explores)
        copies = noise.explores.shape[-1]
        if self.final_epsilon is None:
            drawn = draw(UNIFORM, (copies,))
            first, second = np.cumsum(SHARES)[:2]
            rest = xp.where(drawn < second, FINAL_EPSILONS[1], FINAL_EPSILONS[2])
            final = xp.where(drawn < first, FINAL_EPSILONS[0], rest)
        else:
            final = xp.full(copies, self.final_epsilon, np.float32)
        epsilon = self._annealed(version, final)
        return noise._replace(epsilon=xp.broadcast_to(epsilon, noise.explores.shape))

    def compute(self, agent: Agent, snapshot: Snapshot, trajectory: Trajectory) -> tuple[Any, Any]:
        """Compute the gradient ``[P]`` with its norm, and the metrics ``[4]``."""
        target_values, _ = network_outputs(agent, snapshot.target_parameters, trajectory)
        targets, known = self.targets(target_values, trajectory)

        def loss(vector: Any) -> tuple[Any, Any]:
            values, _ = network_outputs(agent, vector, trajectory)
            taken = values_of(values[:-1], trajectory.actions)
            error = jax.lax.stop_gradient(targets) - taken
            return 0.5 * masked_mean(jnp.square(error), known), masked_mean(taken, known)

        (value, taken), gradient = jax.value_and_grad(loss, has_aux=True)(snapshot.parameters)
        norm = global_norm(gradient)
        metrics = jnp.stack(
            [value, taken, self._annealed(snapshot.version, self._mean_final_epsilon), norm]
        )
        gradient = gradient.astype(jnp.float32)
        return Gradient(gradient, norm.astype(jnp.float32)), metrics.astype(jnp.float32)

    def payload(self, computed: Gradient) -> Gradient:
        """Return the gradient, whose arrays are still JAX's, for the optimizer."""
        return computed

    def _annealed(self, version: Any, final: Any) -> Any:
        """Return the epsilons of a version, which fall from 1 to final ones."""
        xp = array_namespace(version)
        per_update = self.envs_per_worker * self.rollout_length
        steps = xp.asarray(version).astype(np.float32) * np.float32(per_update)
        progress = xp.minimum(steps / np.float32(self.exploration_steps), np.float32(1))
        return np.float32(1) + (final - np.float32(1)) * progress

    @property
    def _mean_final_epsilon(self) -> np.float32:
        """The expected probability of a random action, after annealing."""
        if self.final_epsilon is None:
            return np.float32(SHARES @ FINAL_EPSILONS)
        return np.float32(self.final_epsilon)


def values_of(values: Any, actions: Any) -> Any:
    """Return the values ``[...]`` of actions ``[...]``, out of those of all, ``[..., A]``."""
    return jnp.take_along_axis(values, actions[..., None], axis=-1)[..., 0]
