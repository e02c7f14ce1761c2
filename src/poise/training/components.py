"""Assembly of a run's components from its settings, for training, replay and benchmarks alike."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np

from poise.agent.acting import choose_acting
from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.agent.network import NetworkFactory
from poise.agent.normalizer import needs_normalization
from poise.config import TrainConfig
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.host_envs import HostEnvs
from poise.envs.registry import World, choose_envs, is_well_scaled
from poise.envs.reward_shaping import RewardShaping
from poise.envs.seeding import Purpose, key_data, seed_sequence
from poise.envs.xla_envs import XlaEnvs
from poise.errors import ConfigError
from poise.evaluation.episodes import EpisodePlayer
from poise.evaluation.evaluator import EvaluationTerms, Evaluator
from poise.evaluation.phase_times import PhaseTimes
from poise.launchers.evaluation_helpers import Players
from poise.learning.algorithms.algorithm import LearnsFromTrajectories
from poise.learning.algorithms.registry import make_algorithm
from poise.learning.evaluation_result import Candidate, EvaluationResult
from poise.learning.host_worker import HostProgram, HostWorker
from poise.learning.jax_worker import JaxProgram, JaxWorker, XlaWorker
from poise.learning.journal import Journal
from poise.learning.learner import GradientLearner, Learner
from poise.learning.optimizer import OptimizerState, Update, make_optimizer
from poise.learning.parameter_server import ParameterServer
from poise.learning.server_log import Emit
from poise.learning.server_settings import ServerSettings
from poise.learning.worker import CompileOptions, Releases, Worker, WorkerSpec, compile_options
from poise.maths.statistics import Moments, normalization
from poise.training.compilation import compile_learner, compile_update, do_side_by_side
from poise.training.measured_traits import MeasuredTraits
from poise.training.placement import Placement
from poise.training.server_settings import server_settings
from poise.trajectory import Snapshot

__all__ = ["RunComponents", "build_components"]

ATARI_REWARD_CLIP = 1.0
"""Mnih et al. 2013 (arXiv 1312.5602), section 5."""


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
            work.append(lambda: self.program.compile(self.first_snapshot(), self.options))
        do_side_by_side([*work, *alongside])

    def _compile_learner(self) -> None:
        algorithm = self.program.spec.algorithm
        given = self.raw_update, self.parameters, self.initial_optimizer_state(), self.options
        if isinstance(algorithm, LearnsFromTrajectories):
            rollout = self.program.computed_shapes(self.first_snapshot())
            seed = key_data(seed_sequence(self.config.seed, Purpose.LEARNING))
            learn = functools.partial(algorithm.learn, self.agent)
            self.learner = compile_learner(learn, *given, [rollout] * self.config.workers, seed)
        else:
            self.learner = GradientLearner(compile_update(*given))

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
            decided, self.target_return, self.placement.thrift, self.measured.has_time_limit
        )

    def first_snapshot(self) -> Snapshot:
        """Return the snapshot that the workers begin with."""
        moments = self.initial_moments()
        statistics = () if moments is None else normalization(moments)
        has_target = self.program.spec.algorithm.target_interval is not None
        targets = self.parameters if has_target else ()
        return Snapshot(np.int32(0), self.parameters, statistics, targets)

    def initial_moments(self) -> Moments | None:
        """Return the moments of zero observations; None if observations are not normalised."""
        count = self.agent.scaling.count
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
    ) -> Evaluator:
        """Make the evaluator of this run's snapshots.

        Args:
            alive: called between steps; may raise to abort.
            phase_times: records how many seconds it takes.
            release: closes the workers' environments until their next cycle; by default, those of
                the workers that were made here.
            players: returns the workers that play the episodes instead, or None.
        """
        alone = self.placement.has_one_copy_at_a_time
        player = EpisodePlayer(
            self.env_factory.make,
            self.config.longest_evaluation_episode,
            alive,
            1 if alone else self.config.evaluation_copies,
            players,
        )
        return Evaluator(
            self.agent,
            self.config,
            EvaluationTerms(self.target_return, self.placement.thrift),
            player,
            phase_times,
            (release or self.release) if alone else None,
        )

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
        return self.program.initial_state(np.zeros(2, np.uint32))

    @property
    def placement(self) -> Placement:
        """How the workers and evaluations are placed."""
        return Placement(self.config, self.envs, self.measured)

    @property
    def normalization(self) -> Literal["on", "off"]:
        """Whether observations are normalised, with ``auto`` resolved."""
        return "on" if self.agent.spec.normalize_observations else "off"


def build_components(
    config: TrainConfig,
    env_factory: EnvFactory | None = None,
    network_factory: NetworkFactory | None = None,
) -> RunComponents:
    """Find the environment, build the agent, and prepare (but do not compile) the programs.

    Args:
        config: the settings.
        env_factory: makes the environment; by default the one that the settings name.
        network_factory: makes a network other than poise's own.

    Raises:
        InputError: the environment is unknown, or cannot be trained on.
    """
    env_factory = env_factory or find_env_factory(config.environment_choice)
    clip = config.reward_clip
    if clip is None and env_factory.is_atari:
        clip = ATARI_REWARD_CLIP
    shaping = RewardShaping(config.failure_reward, config.reward_scale, clip)
    envs = choose_envs(env_factory, config.world, shaping)
    agent, parameters = build_agent(
        envs.observation_space,
        envs.action_space,
        NetworkSpec.choose(
            envs.observation_space,
            config.hidden_sizes,
            config.gaussian_scale,
            config.image_axes,
            _normalizes(config, env_factory, envs),
        ),
        seed_sequence(config.seed, Purpose.PARAMETERS),
        network_factory=network_factory,
    )
    if config.normalize_observations == "on" and not agent.scaling.count:
        raise ConfigError(
            "--normalize-observations is on, but there are no floats (other than images) in the "
            f"observations of {config.environment}: {envs.observation_space}"
        )
    copies = config.envs_per_worker
    spec = WorkerSpec(agent, envs, make_algorithm(config), copies, config.rollout_length)
    program: JaxProgram | HostProgram
    if isinstance(envs, HostEnvs):
        program = HostProgram(spec, choose_acting(agent, copies))
    else:
        program = JaxProgram(spec)
    initialise, update = make_optimizer(
        config.optimizer,
        max_gradient_norm=config.max_gradient_norm,
        epsilon=config.optimizer_epsilon,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        rmsprop_decay=config.rmsprop_decay,
    )
    target = config.target_return
    if target is None:
        target = env_factory.reward_threshold
    rate = config.learning_rate
    if rate is None:
        rate = agent.network.usual_learning_rate
    options = compile_options(jax.default_backend())
    return RunComponents(
        config,
        env_factory,
        envs,
        agent,
        parameters,
        program,
        target,
        rate,
        options,
        initialise,
        update,
    )


def _normalizes(config: TrainConfig, env_factory: EnvFactory, envs: World) -> bool:
    """Whether observations are normalised; ``auto`` normalises numbers without known bounds.

    ``auto`` does not normalise an environment whose compiled version is known to be well scaled,
    even if it is stepped in another way, so that a policy sees the same in every case.
    """
    if config.normalize_observations != "auto":
        return config.normalize_observations == "on"
    if is_well_scaled(env_factory):
        return False
    return needs_normalization(envs.observation_space, config.image_axes)
