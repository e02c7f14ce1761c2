"""The components of a run: environment, agent, programs, learner; and what is made of them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from poise.agent.agent import Agent
from poise.config import TrainConfig
from poise.envs.env_factory import EnvFactory
from poise.envs.jax_envs import JaxEnvs
from poise.envs.registry import World
from poise.envs.seeding import Purpose, key_data, seed_sequence
from poise.envs.xla_envs import XlaEnvs
from poise.evaluation.episodes import EpisodePlayer
from poise.evaluation.evaluator import SELECTION_EPISODES, EvaluationTerms, Evaluator
from poise.evaluation.phase_times import PhaseTimes
from poise.evaluation.player_processes import PlayerProcesses
from poise.evaluation.pool_player import PoolPlayer
from poise.evaluation.selection_player import SelectionPlayer
from poise.evaluation.twin_player import TwinPlayer
from poise.launchers.evaluation_helpers import Players
from poise.learning.algorithms.algorithm import LearnsFromTrajectories
from poise.learning.compiler import CompileOptions, Compiler
from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.learning.host_worker import HostProgram, HostWorker
from poise.learning.jax_worker import JaxProgram, JaxWorker, XlaWorker
from poise.learning.journal import Journal
from poise.learning.learner import GradientLearner, Learner
from poise.learning.optimizer import OptimizerState, Update
from poise.learning.parameter_server import ParameterServer
from poise.learning.server_log import Emit
from poise.learning.server_settings import ServerSettings
from poise.learning.worker import Releases, Worker
from poise.maths.statistics import Moments, normalization
from poise.training.compilation import compile_learner, compile_update, do_side_by_side
from poise.training.measured_traits import MeasuredTraits
from poise.training.placement import Placement
from poise.training.program_store import describe_programs, program_store
from poise.training.server_settings import server_settings
from poise.trajectory import Snapshot, Trajectory

__all__ = ["RunComponents"]


LIGHT_COPIES = 32
"""Copies for evaluations of an environment with a compiled twin, and for selections in EnvPool.

They take little memory, and the network acts for all of them at once."""


@dataclasses.dataclass
class RunComponents:
    """The components of one run.

    Attributes:
        config: the settings.
        env_factory: makes the environment itself, on which scores are measured.
        envs: the environments that training steps.
        agent: the agent that chooses actions.
        parameters: version 0, ``[P]`` float32.
        program: the workers' cycle.
        target_return: the return that solves the environment; None if nothing does.
        learning_rate: the step size; if none is set, the network's usual one.
        options: XLA's compiler options for every program of the run.
    """

    config: TrainConfig
    env_factory: EnvFactory
    envs: World
    agent: Agent
    parameters: np.ndarray
    program: JaxProgram | HostProgram
    target_return: float | None
    learning_rate: float
    options: CompileOptions
    _initialise: Callable[[Any], OptimizerState]
    raw_update: Update
    measured: MeasuredTraits = dataclasses.field(default_factory=MeasuredTraits)
    """Properties of the environment that were measured before training."""
    learner: Learner | None = None
    """Updates the parameters; None until it is compiled."""
    _workers: list[Worker] = dataclasses.field(default_factory=list)

    def compile(self, *alongside: Callable[[], Any], cycle: bool = True) -> None:
        """Compile all programs in parallel, together with other slow work, such as imports.

        Args:
            alongside: the other work.
            cycle: whether workers run in this process; elsewhere they compile their own cycle.
        """
        work: list[Callable[[], Any]] = [self._compile_learner]
        if cycle:
            work.append(lambda: self.program.compile(self.first_snapshot(), self.compiler))
        if isinstance(self.selection_player, TwinPlayer):
            work.append(functools.partial(self._compile_twin, self.selection_player))
        do_side_by_side([*work, *alongside])

    @functools.cached_property
    def selection_player(self) -> SelectionPlayer | None:
        """Plays the episodes of selections; None if Gymnasium's own environment is played."""
        if self.measured.selects_in_twin and isinstance(self.envs, JaxEnvs):
            return TwinPlayer(self.agent, self.envs, self.compiler)
        if self.measured.selects_in_envpool:
            most_copies = self.config.evaluation_copies or LIGHT_COPIES
            return PoolPlayer(self.agent, self.env_factory, most_copies)
        return None

    @functools.cached_property
    def compiler(self) -> Compiler:
        """Compiles the run's programs."""
        description = describe_programs(self.config, self.agent, self.envs)
        return Compiler(self.options, description, program_store())

    def _compile_twin(self, player: TwinPlayer) -> None:
        is_greedy = self.config.policy == "greedy"
        episodes = self.config.selection_episodes or SELECTION_EPISODES
        player.compile(self.first_snapshot(), episodes, greedy=is_greedy)

    def _compile_learner(self) -> None:
        algorithm, compiler = self.program.spec.algorithm, self.compiler
        start = self.parameters, self.initial_optimizer_state()
        if not isinstance(algorithm, LearnsFromTrajectories):
            self.learner = GradientLearner(compile_update(self.raw_update, *start, compiler))
            return
        learn = functools.partial(algorithm.learn, self.agent, self.raw_update)
        rollouts = [self.rollout_shapes] * self.config.workers
        seed = key_data(seed_sequence(self.config.seed, Purpose.LEARNING))
        self.learner = compile_learner(learn, *start, compiler, rollouts, seed)

    @functools.cached_property
    def rollout_shapes(self) -> Trajectory | None:
        """The rollout that a worker sends, as shapes and dtypes; None if it sends a gradient."""
        if not isinstance(self.program.spec.algorithm, LearnsFromTrajectories):
            return None
        shapes: Trajectory = self.program.computed_shapes(self.first_snapshot())
        return shapes

    def server(
        self,
        evaluator: Callable[[Candidate], EvaluationResult],
        emit: Emit,
        journal: Journal,
        settings: ServerSettings | None = None,
    ) -> ParameterServer:
        """Make the server at version 0; by default with the run's own settings."""
        assert self.learner is not None, "it is compiled"
        return ParameterServer(
            self.parameters,
            self.initial_optimizer_state(),
            self.learner,
            settings or self.server_settings(self.config),
            evaluator,
            emit,
            journal,
            self.initial_moments(),
        )

    def server_settings(self, config: TrainConfig) -> ServerSettings:
        """Return the server's settings, with the values that were decided for this run.

        Args:
            config: the run's settings, possibly with other budgets.
        """
        decided = dataclasses.replace(config, learning_rate=self.learning_rate)
        return server_settings(
            decided, self.target_return, self.placement, self.measured.has_time_limit
        )

    def first_snapshot(self) -> Snapshot:
        """Return the snapshot that the workers begin with."""
        moments = self.initial_moments()
        statistics = () if moments is None else normalization(moments)
        has_target = self.program.spec.algorithm.target_interval is not None
        targets = self.parameters if has_target else ()
        return Snapshot(np.int32(0), self.parameters, statistics, targets)

    def initial_moments(self) -> Moments | None:
        """Return the moments of zero observations and returns; None if nothing is normalised."""
        count = self.program.spec.statistics_size
        if not count:
            return None
        return Moments(np.zeros(()), np.zeros(count), np.zeros(count))

    def initial_optimizer_state(self) -> OptimizerState:
        """Return the optimizer's state at version 0."""
        return self._initialise(self.parameters)

    def evaluator(
        self,
        alive: Callable[[], None] = lambda: None,
        phase_times: PhaseTimes | None = None,
        release: Callable[[], None] | None = None,
        players: Callable[[], Players | None] = lambda: None,
        processes: PlayerProcesses | None = None,
    ) -> Evaluator:
        """Make the evaluator of this run's snapshots.

        Args:
            alive: called between steps; may raise to abort.
            phase_times: records how many seconds it takes.
            release: closes the workers' environments until their next cycle; by default, those of
                the workers that were made here.
            players: returns the workers that play the episodes instead, or None.
            processes: play a share of long evaluations; the evaluator closes them.
        """
        alone = self.placement.has_one_copy_at_a_time
        player = EpisodePlayer(
            self.env_factory.make,
            self.config.longest_evaluation_episode,
            alive,
            1 if alone else self.evaluation_copies,
            players,
            processes=processes,
        )
        return Evaluator(
            self.agent,
            self.config,
            EvaluationTerms(
                self.target_return,
                self.placement.training_ratio,
                self.measured.checks_selections,
            ),
            player,
            phase_times,
            (release or self.release) if alone else None,
            self.selection_player,
        )

    @property
    def evaluation_copies(self) -> int:
        """Maximum number of copies of the environment that one process plays evaluations in."""
        if self.config.evaluation_copies is None and isinstance(self.envs, JaxEnvs):
            return LIGHT_COPIES
        return self.config.most_evaluation_copies

    def release(self) -> None:
        """Close the environments of the workers made here, until their next cycle."""
        for worker in self._workers:
            if isinstance(worker, Releases):
                worker.release()

    def worker(self, index: int, generation: int = 0) -> Worker:
        """Make one of the workers; `close` closes it."""
        seed = self.config.seed
        worker: Worker
        if isinstance(self.program, HostProgram):
            worker = HostWorker(self.program, seed, index, generation)
        elif isinstance(self.envs, XlaEnvs):
            worker = XlaWorker(self.program, self.envs, seed, index, generation)
        else:
            worker = JaxWorker(self.program, seed, index, generation)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Close the workers that were made here."""
        while self._workers:
            # If closing a worker is interrupted, the next call continues with that worker.
            self._workers[-1].close()
            self._workers.pop()

    def worker_state(self) -> Any:
        """Return a worker's state as a template; ``()`` if checkpoints cannot hold it."""
        if isinstance(self.program, HostProgram) or not self.program.envs.is_pure:
            return ()
        return self.program.blank_state

    @property
    def placement(self) -> Placement:
        """How the workers and evaluations are placed."""
        return Placement(self.config, self.envs, self.measured)

    @property
    def normalization(self) -> Literal["on", "off"]:
        """Whether observations are normalised, with ``auto`` resolved."""
        return "on" if self.agent.spec.normalize_observations else "off"

    @property
    def reward_normalization(self) -> Literal["on", "off"]:
        """Whether rewards are normalised, with ``auto`` resolved."""
        return "on" if self.program.spec.normalizes_rewards else "off"
