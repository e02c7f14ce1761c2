"""Factories of a run's workers: in this process, or in separate processes that compile again."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from poise.agent.network import NetworkFactory
from poise.config import TrainConfig
from poise.envs.env_factory import EnvFactory
from poise.evaluation.worker_episodes import WorkerPlayer, copies_of
from poise.launchers.mailbox import MailboxShape
from poise.learning.worker import Worker
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.jax_settings import adopt_settings, shared_settings
from poise.training.process_role import is_command, run_as_command
from poise.training.runtime import prepare_jax

__all__ = ["RunWorkerFactory", "SpawnedWorkerFactory"]


@dataclasses.dataclass(frozen=True)
class SpawnedWorkerFactory:
    """Assembles and compiles a worker in the process it runs in; pickled to send it there."""

    config: TrainConfig
    env_factory: EnvFactory
    workers_play: bool
    """Whether the worker plays in evaluations."""
    network_factory: NetworkFactory | None = None
    """Makes the network, where it is not poise's own."""
    jax_settings: Mapping[str, Any] = dataclasses.field(default_factory=shared_settings)
    """JAX's settings in the process that made this factory."""
    of_command: bool = dataclasses.field(default_factory=is_command)
    """Whether the run is one of the ``poise`` command."""
    _assembled: list[RunComponents] = dataclasses.field(
        default_factory=list, init=False, repr=False
    )
    """The worker's components, in its process."""

    @classmethod
    def of(cls, components: RunComponents) -> "SpawnedWorkerFactory":
        """Make the factory of a run's workers.

        It carries the decisions made here, so that workers cannot decide differently.
        """
        decided = dataclasses.replace(
            components.config,
            world=components.envs.kind,
            normalize_observations=components.normalization,
            normalize_rewards=components.reward_normalization,
            activation=components.agent.spec.activation,
        )
        return cls(
            decided,
            components.env_factory,
            components.placement.workers_play,
            components.agent.network_factory,
        )

    def __call__(self, index: int, generation: int) -> Worker:
        """Make a worker, ready to cycle."""
        components = self._components()
        components.program.compile(components.first_snapshot(), components.compiler)
        self._assembled[:] = [components]
        return components.worker(index, generation)

    def evaluation_player(self) -> WorkerPlayer:
        """Make a player for a process that only plays a share of long evaluations."""
        components = self._components()
        copies = components.evaluation_copies
        return WorkerPlayer(components.agent, self.config, self.env_factory, copies)

    def _components(self) -> RunComponents:
        if self.of_command:
            run_as_command()
        adopt_settings(self.jax_settings)
        prepare_jax()
        return build_components(self.config, self.env_factory, self.network_factory)

    def copies(self, index: int) -> int:
        """Return the maximum number of copies that a worker may play evaluations in."""
        if not self.workers_play:
            return 0
        return copies_of(index, self.config.workers, self.config.most_evaluation_copies)

    def player(self, index: int) -> WorkerPlayer:
        """Make the player of a worker, in its process."""
        agent = self._assembled[0].agent
        return WorkerPlayer(agent, self.config, self.env_factory, self.copies(index))


class RunWorkerFactory:
    """Makes the workers of a run, for any launcher.

    Args:
        components: the run's components; compiled, if workers are made here.
    """

    def __init__(self, components: RunComponents) -> None:
        self._components = components

    def local(self, index: int, generation: int) -> Worker:
        """Make a worker in this process; the run's components close it."""
        return self._components.worker(index, generation)

    def remote(self) -> SpawnedWorkerFactory:
        """Return a factory that makes and compiles workers in their own processes."""
        return SpawnedWorkerFactory.of(self._components)

    def mailbox_shape(self) -> MailboxShape:
        """Return the sizes of the messages between such a worker and the server."""
        components = self._components
        config, agent = components.config, components.agent
        algorithm = components.program.spec.algorithm
        return MailboxShape(
            agent.layout.size,
            len(algorithm.worker_metrics),
            config.envs_per_worker * config.rollout_length,
            components.program.spec.statistics_size or None,
            components.worker_state(),
            components.rollout_shapes,
            algorithm.target_interval is not None,
            agent.scaling.count,
        )
