"""The worker: introduces the agent to the world.

Mnih et al. 2016 (arXiv 1602.01783), Algorithm S3, as a pure step:
``cycle(snapshot, state) -> (contribution, state)``.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from poise.agent.agent import Agent
from poise.agent.gradient import actor_critic_gradient
from poise.trajectory import Contribution, EpisodeReport, Snapshot
from poise.world.compiled import CompiledWorld, RolloutState
from poise.world.seeding import Purpose, key_data, seed_sequence

__all__ = ["CompiledProgram", "CompiledWorker", "LossSettings", "Worker", "compile_options"]


@runtime_checkable
class Worker(Protocol):
    """What a launcher runs; it cannot tell where it runs."""

    @property
    def index(self) -> int:
        """The worker's number, from 0."""

    @property
    def incarnation(self) -> int:
        """How often the worker has been started before."""

    @property
    def seed(self) -> int:
        """The seed of its environments, for error messages."""

    def initial_state(self) -> Any:
        """The state before its first cycle."""

    def cycle(self, snapshot: Snapshot, state: Any) -> tuple[Contribution, Any]:
        """Act for one rollout with the snapshot; bring back the contribution and the new state."""


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The arguments of the loss; see `TrainConfig` for what each means."""

    discount: float
    gae_lambda: float
    normalize_advantages: bool
    value_coefficient: float
    entropy_coefficient: float


def compile_options(backend: str) -> dict[str, bool | int]:
    """XLA's options for poise's programs, on one backend (``cpu``, ``gpu``).

    Measured on the CPU for the CartPole cycle: a third of the default compile time at equal speed;
    threads of Eigen's own would only get in the way of the workers.
    """
    if backend != "cpu":
        return {}
    return {
        "xla_backend_optimization_level": 1,
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_multi_thread_eigen": False,
    }


def draw_with_key(key: Any) -> Callable[[str, tuple[int, ...]], Any]:
    """A source of noise for action heads, for use inside compiled functions."""

    def draw(kind: str, shape: tuple[int, ...]) -> Any:
        nonlocal key
        key, now = jax.random.split(key)
        match kind:
            case "gumbel":
                return jax.random.gumbel(now, shape)
            case "normal":
                return jax.random.normal(now, shape)
            case "logistic":
                return jax.random.logistic(now, shape)
        raise ValueError(f"unknown kind of noise: {kind}")

    return draw


class CompiledProgram:
    """A worker's whole cycle as one XLA call, shared by all workers of a run.

    Args:
        agent: what decides.
        world: what happens.
        loss: settings of the loss.
        copies: environment copies N.
        length: rollout length T.
    """

    def __init__(
        self, agent: Agent, world: CompiledWorld, loss: LossSettings, copies: int, length: int
    ) -> None:
        self.agent = agent
        self.world = world
        self.copies = copies
        self.length = length
        self._loss = dataclasses.asdict(loss)
        self._compiled: Any = None

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[Any, RolloutState]:
        """The pure cycle: act, weigh, differentiate. Traced once, by `compile`."""
        network = self.agent.network(snapshot.parameters)
        trajectory, finished, state = self.world.rollout(
            lambda *copy: self.agent.decide(network, *copy),
            lambda key, batch: self.agent.head.noise(draw_with_key(key), batch),
            snapshot.version,
            state,
            self.length,
        )
        gradient, losses = actor_critic_gradient(
            self.agent, snapshot.parameters, trajectory, **self._loss
        )
        steps = jnp.sum(trajectory.valid, dtype=jnp.int32)
        return (gradient, losses, steps, finished), state

    def initial_state(self, key: np.ndarray) -> RolloutState:
        """A worker's state before its first cycle."""
        recurrent = self.agent.initial_state(self.copies)
        return self.world.initial_state(key, self.copies, recurrent)

    def compile(self, options: dict[str, bool | int]) -> None:
        """Compile the cycle (seconds; XLA works outside the GIL)."""
        state = self.initial_state(np.zeros(2, np.uint32))
        snapshot = Snapshot(np.int32(0), np.zeros(self.agent.layout.size, np.float32))
        lowered = jax.jit(self.cycle).lower(snapshot, state)
        self._compiled = lowered.compile(compiler_options=dict(options))

    def __call__(self, snapshot: Snapshot, state: RolloutState) -> tuple[Any, RolloutState]:
        """Run the compiled cycle."""
        result: tuple[Any, RolloutState] = self._compiled(snapshot, state)
        return result


class CompiledWorker:
    """A worker whose environments are compiled."""

    def __init__(
        self, program: CompiledProgram, root_seed: int, index: int, incarnation: int = 0
    ) -> None:
        self._program = program
        self.index = index
        self.incarnation = incarnation
        self._key = key_data(seed_sequence(root_seed, Purpose.ROLLOUT, index, incarnation))

    @property
    def seed(self) -> int:
        """The key of its environments, as one number."""
        return int(self._key[0]) << 32 | int(self._key[1])

    def initial_state(self) -> RolloutState:
        """The state before its first cycle."""
        return self._program.initial_state(self._key)

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[Contribution, RolloutState]:
        """One XLA call, outside the GIL."""
        (gradient, losses, steps, finished), state = self._program(snapshot, state)
        mask = np.asarray(finished.finished)
        contribution = Contribution(
            version=int(snapshot.version),
            gradient=gradient,
            trajectory=None,
            statistics=(),
            losses=np.asarray(losses),
            steps=int(steps),
            episodes=EpisodeReport(
                np.asarray(finished.returns)[mask], np.asarray(finished.lengths)[mask]
            ),
        )
        return contribution, state
