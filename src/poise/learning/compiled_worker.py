"""Workers whose environments are compiled: the whole cycle is one XLA call.

XLA lets go of the GIL while it runs, so that plain threads use every core.
"""

from typing import Any

import jax
import numpy as np

from poise.agent.agent import Agent
from poise.agent.noise import draw_with_key
from poise.learning.worker import CompileOptions, LossSettings, require_finite, weigh
from poise.trajectory import Contribution, EpisodeReport, Snapshot, Trajectory
from poise.world.compiled import CompiledWorld, FinishedEpisodes, RolloutState
from poise.world.seeding import Purpose, key_data, seed_sequence

__all__ = ["CompiledProgram", "CompiledWorker"]

_Acted = tuple[Trajectory, FinishedEpisodes, RolloutState]


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
        self._loss = loss
        self._compiled: Any = None

        # Not a method: the program would hold a function that holds the program, and only Python's
        # cyclic collector would ever free what is compiled. It runs seldom, because it counts
        # Python's objects and does not see XLA's megabytes behind them.
        def act(snapshot: Snapshot, state: RolloutState) -> _Acted:
            network = agent.network(snapshot.parameters)
            return world.rollout(
                lambda *copy: agent.decide(network, snapshot.statistics, *copy),
                lambda key, batch: agent.head.noise(draw_with_key(key), batch),
                snapshot.version,
                state,
                length,
            )

        self._act = act
        self._trajectory = jax.jit(act)

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[Any, RolloutState]:
        """The pure cycle: act, weigh, differentiate. Traced once, by `compile`."""
        trajectory, finished, state = self._act(snapshot, state)
        return (*weigh(self.agent, snapshot, trajectory, self._loss), finished), state

    def trajectory(self, snapshot: Snapshot, state: RolloutState) -> Trajectory:
        """The trajectory of a cycle, once more, to look at; compiled when it is first wanted."""
        trajectory: Trajectory = jax.tree.map(np.asarray, self._trajectory(snapshot, state)[0])
        return trajectory

    def initial_state(self, key: np.ndarray) -> RolloutState:
        """A worker's state before its first cycle."""
        recurrent = self.agent.initial_state(self.copies)
        return self.world.initial_state(key, self.copies, recurrent)

    def compile(self, snapshot: Snapshot, options: CompileOptions) -> None:
        """Compile the cycle for snapshots like this one (seconds; XLA works outside the GIL)."""
        state = self.initial_state(np.zeros(2, np.uint32))
        lowered = jax.jit(self.cycle).lower(snapshot, state)
        self._compiled = lowered.compile(compiler_options=dict[str, Any](options))

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
    def has_whole_state(self) -> bool:
        """Its environments are part of its state."""
        return True

    @property
    def seed(self) -> int:
        """The key of its environments, as one number."""
        return int(self._key[0]) << 32 | int(self._key[1])

    def initial_state(self) -> RolloutState:
        """The state before its first cycle."""
        return self._program.initial_state(self._key)

    def cycle(self, snapshot: Snapshot, state: RolloutState) -> tuple[Contribution, RolloutState]:
        """One XLA call, outside the GIL."""
        before = state
        outcome, state = self._program(snapshot, state)
        gradient, losses, steps, statistics, finished = outcome
        # To NumPy at once: what JAX's own arrays do takes ten times as long.
        losses = np.asarray(losses)
        trajectory = None
        if not np.isfinite(losses).all():
            trajectory = self._program.trajectory(snapshot, before)
            require_finite(trajectory, self._program.world.name)
        mask = np.asarray(finished.finished)
        contribution = Contribution(
            version=int(snapshot.version),
            gradient=gradient,
            trajectory=trajectory,
            statistics=jax.tree.map(np.asarray, statistics),
            losses=losses,
            steps=np.asarray(steps).item(),
            episodes=EpisodeReport(
                np.asarray(finished.returns)[mask], np.asarray(finished.lengths)[mask]
            ),
        )
        return contribution, state

    def close(self) -> None:
        """Nothing is held."""
