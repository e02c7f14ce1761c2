"""Putting a run's parts together from its settings, for training, replay and benchmarks alike."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from poise.agent.acting import choose_acting
from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.agent.normalizer import needs_normalization
from poise.config import STEP_LIMIT, TrainConfig
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.host_envs import HostEnvs
from poise.envs.registry import World, choose_envs, is_well_scaled
from poise.envs.reward_shaping import RewardShaping
from poise.envs.seeding import Purpose, seed_sequence
from poise.envs.xla_envs import XlaEnvs
from poise.errors import ConfigError
from poise.evaluation.episodes import EpisodePlayer
from poise.evaluation.evaluator import (
    FEWEST_SELECTED,
    SELECTION_EPISODES,
    EvaluationTerms,
    Evaluator,
)
from poise.evaluation.phase_times import PhaseTimes
from poise.evaluation.worker_episodes import WorkerPlayer, copies_of
from poise.launchers.evaluation_helpers import Players
from poise.launchers.mailbox import MailboxShape
from poise.learning.algorithms.registry import make_algorithm
from poise.learning.host_worker import HostProgram, HostWorker
from poise.learning.jax_worker import JaxProgram, JaxWorker, XlaWorker
from poise.learning.journal import Journal
from poise.learning.optimizer import OptimizerState, Update, make_optimizer
from poise.learning.parameter_server import Evaluator as JudgeFunction
from poise.learning.parameter_server import ParameterServer
from poise.learning.server_log import Emit
from poise.learning.server_settings import ServerSettings
from poise.learning.worker import CompileOptions, Releases, Worker, compile_options
from poise.maths.statistics import Moments, normalization
from poise.training.jax_settings import adopt_settings, decisive_settings, shared_settings
from poise.training.launcher_choice import usual_launcher
from poise.training.runtime import prepare_jax
from poise.trajectory import Snapshot

__all__ = [
    "MeasuredTraits",
    "RunComponents",
    "build_components",
    "needed_copies",
    "server_settings",
]


ATARI_REWARD_CLIP = 1.0
"""Mnih et al. 2013 (arXiv 1312.5602), section 5."""


TRAINING_TO_EVALUATION = 10
"""Seconds of training for each of selection, and for each of verification, where steps are slow:
with the baseline's, less than a quarter of a run."""


@functools.cache
def _compilers() -> concurrent.futures.ThreadPoolExecutor:
    """The threads that compile, for all runs of this process.

    Threads that came and went with every run would each leave the holes of a compilation in another
    part of the heap: the C library gives a thread an arena when it begins. Idle, they cost nothing.
    """
    return concurrent.futures.ThreadPoolExecutor(3, "poise-compile")


class MeasuredTraits(NamedTuple):
    """What is found out about an environment before training, once, and holds for the whole run.

    Attributes:
        slow_steps: a step takes so long that evaluations are to be sparing.
        remembers: an episode depends on those before it in its copy; then which copy plays which
            one of an evaluation must not depend on how fast the workers are.
        has_time_limit: episodes are truncated after a number of steps, or so it is supposed.
    """

    slow_steps: bool = False
    remembers: bool = False
    has_time_limit: bool = True

    @classmethod
    def recorded(cls, resolved: Mapping[str, Any]) -> "MeasuredTraits":
        """What was measured when a run began, for its replay or its resumption."""
        return cls(
            resolved.get("slow_steps") is True,
            resolved.get("remembers") is True,
            resolved.get("has_time_limit") is not False,
        )


@dataclasses.dataclass
class RunComponents:
    """The parts of one run.

    Attributes:
        config: the settings.
        env_factory: makes the environment itself, on which scores are measured.
        envs: what training steps.
        agent: what decides.
        parameters: version 0, ``[P]`` float32.
        program: the workers' cycle.
        target_return: what solves the environment, None if nothing does.
        learning_rate: the step size; where none is set, what is usual for the network.
        options: XLA's options for every program of the run.
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
    """What was found out about the environment before training."""
    _update: Any = None
    _workers: list[Worker] = dataclasses.field(default_factory=list)

    def compile(self, *alongside: Callable[[], Any], cycle: bool = True) -> None:
        """Compile all programs side by side, with other slow work of a start, such as imports.

        Args:
            alongside: that other work.
            cycle: whether workers run here; those in processes compile their cycle themselves.
        """
        pool = _compilers()
        jobs = [pool.submit(self._compile_update)]
        if cycle:
            jobs.append(pool.submit(self.program.compile, self.first_snapshot(), self.options))
        jobs.extend(pool.submit(work) for work in alongside)
        concurrent.futures.wait(jobs)
        for job in jobs:
            job.result()

    def _compile_update(self) -> None:
        state = self._initialise(self.parameters)
        gradient = np.zeros_like(self.parameters)
        norm, rate = np.float32(0), np.float32(0)
        lowered = jax.jit(self.raw_update).lower(self.parameters, state, gradient, norm, rate)
        self._update = lowered.compile(compiler_options=dict[str, Any](self.options))

    def server(
        self,
        evaluator: JudgeFunction,
        emit: Emit,
        journal: Journal,
        settings: ServerSettings | None = None,
    ) -> ParameterServer:
        """The server at version 0; by default with the run's own settings."""
        state = self.initial_optimizer_state()
        return ParameterServer(
            self.parameters,
            state,
            self._update,
            settings or self.server_settings(self.config),
            evaluator,
            emit,
            journal,
            self.initial_moments(),
        )

    def server_settings(self, config: TrainConfig) -> ServerSettings:
        """What the server must know, with what was decided for this run.

        Args:
            config: the run's settings, perhaps with other budgets.
        """
        decided = dataclasses.replace(config, learning_rate=self.learning_rate)
        return server_settings(
            decided, self.target_return, self.thrift, self.measured.has_time_limit
        )

    def first_snapshot(self) -> Snapshot:
        """What the workers begin with."""
        moments = self.initial_moments()
        statistics = () if moments is None else normalization(moments)
        return Snapshot(np.int32(0), self.parameters, statistics)

    def initial_moments(self) -> Moments | None:
        """Of no observations yet; None where they are not normalised."""
        count = self.agent.scaling.count
        if not count:
            return None
        return Moments(np.zeros(()), np.zeros(count), np.zeros(count))

    def initial_optimizer_state(self) -> OptimizerState:
        """The optimizer's state at version 0."""
        return self._initialise(self.parameters)

    def evaluator(
        self,
        alive: Callable[[], None] = lambda: None,
        phase_times: PhaseTimes | None = None,
        release: Callable[[], None] | None = None,
        players: Callable[[], Players | None] = lambda: None,
    ) -> Evaluator:
        """The evaluator of this run's snapshots.

        Args:
            alive: called between steps; may raise to give up.
            phase_times: what its seconds are noted in.
            release: closes the workers' environments until their next cycle; by default those of
                the workers that were made here.
            players: who plays instead, as long as they are there.
        """
        alone = self.has_one_copy_at_a_time
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
            EvaluationTerms(self.target_return, self.thrift),
            player,
            phase_times,
            (release or self.release) if alone else None,
        )

    @property
    def thrift(self) -> int:
        """Steps of training for each step of evaluation, at least; 0 where steps are quick."""
        if not self.measured.slow_steps:
            return 0
        in_turn = self.launcher == "serial" or (self.launcher == "threads" and self.envs.holds_gil)
        training = 1 if in_turn else self.config.workers
        # However many play, of the fewest episodes no more than these are played side by side.
        playing = min(training, FEWEST_SELECTED) if self.lends_players else 1
        return -(-TRAINING_TO_EVALUATION * training // playing)

    @property
    def lends_players(self) -> bool:
        """Whether the workers' processes play the episodes of evaluations."""
        return (
            self.launcher == "processes"
            and not self.has_one_copy_at_a_time
            and self.config.evaluation_copies > 1
            and not self.measured.remembers
        )

    @property
    def has_one_copy_at_a_time(self) -> bool:
        """Whether the one copy that trains is closed while another is evaluated in."""
        return isinstance(self.envs, HostEnvs) and needed_copies(self.config) == 1

    def release(self) -> None:
        """Close the environments of the workers that were made, until their next cycle."""
        for worker in self._workers:
            if isinstance(worker, Releases):
                worker.release()

    def worker(self, index: int, generation: int = 0) -> Worker:
        """One of the workers; `close` closes it."""
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
        """Close the workers that were made."""
        while self._workers:
            # One whose closing is interrupted is closed as far as it goes by the next call.
            self._workers[-1].close()
            self._workers.pop()

    def workers(self, generations: Mapping[int, int] = MappingProxyType({})) -> list[Worker]:
        """All workers, in order; generation 0 where nothing else is said."""
        return [
            self.worker(index, generations.get(index, 0)) for index in range(self.config.workers)
        ]

    def worker_factory(self) -> "ComponentsWorkerFactory":
        """What makes a worker in a process of its own."""
        # What was decided here is not decided there once more, perhaps otherwise.
        decided = dataclasses.replace(
            self.config, world=self.envs.kind, normalize_observations=self.normalization
        )
        return ComponentsWorkerFactory(decided, self.env_factory, self.lends_players)

    def mailbox_shape(self) -> MailboxShape:
        """What travels between such a process and the server."""
        statistics = self.agent.scaling.count or None
        episodes = self.config.envs_per_worker * self.config.rollout_length
        size, metrics = self.agent.layout.size, len(self.program.algorithm.metrics)
        return MailboxShape(size, metrics, episodes, statistics, self.worker_state())

    def worker_state(self) -> Any:
        """What a worker's state looks like, where a checkpoint can hold it; ``()`` if it cannot."""
        if isinstance(self.program, HostProgram) or not self.program.envs.is_pure:
            return ()
        return self.program.initial_state(np.zeros(2, np.uint32))

    @property
    def launcher(self) -> Literal["threads", "processes", "serial"]:
        """Where the workers run, once ``auto`` is decided."""
        if self.config.launcher != "auto":
            return self.config.launcher
        return usual_launcher(self.envs)

    @property
    def normalization(self) -> Literal["on", "off"]:
        """Whether observations are normalised, once ``auto`` is decided."""
        return "on" if self.agent.spec.normalize_observations else "off"

    def resolved(self) -> dict[str, Any]:
        """What was decided for this run beyond its settings, and holds for its replay too."""
        acting = self.program.acting if isinstance(self.program, HostProgram) else "xla"
        return {
            "world": self.envs.kind,
            "launcher": self.launcher,
            "acting": acting,
            "backend": jax.default_backend(),
            "compile_options": self.options,
            "jax_settings": decisive_settings(),
            "target_return": self.target_return,
            **self.measured._asdict(),
            "reward_clip": self.envs.shaping.clip,
            "learning_rate": self.learning_rate,
            "normalize_observations": self.normalization,
            "parameters": self.agent.layout.size,
        }


@dataclasses.dataclass(frozen=True)
class ComponentsWorkerFactory:
    """Assembles and compiles a worker where it runs; pickled into a spawned process."""

    config: TrainConfig
    env_factory: EnvFactory
    lends_players: bool
    jax_settings: Mapping[str, Any] = dataclasses.field(default_factory=shared_settings)
    """Of the process that it was made in."""
    _assembled: list[RunComponents] = dataclasses.field(
        default_factory=list, init=False, repr=False
    )
    """What the worker was made of, there."""

    def __call__(self, index: int, generation: int) -> Worker:
        """Make a worker, ready to cycle."""
        adopt_settings(self.jax_settings)
        prepare_jax()
        components = build_components(self.config, self.env_factory)
        components.program.compile(components.first_snapshot(), components.options)
        self._assembled[:] = [components]
        return components.worker(index, generation)

    def copies(self, index: int) -> int:
        """Copies that a worker may play in, in evaluations."""
        if not self.lends_players:
            return 0
        return copies_of(index, self.config.workers, self.config.evaluation_copies)

    def player(self, index: int) -> WorkerPlayer:
        """What plays in a worker's process."""
        agent = self._assembled[0].agent
        return WorkerPlayer(agent, self.config, self.env_factory, self.copies(index))


def needed_copies(config: TrainConfig) -> int:
    """Copies of the environment that a run has open at a time, at most."""
    training = config.workers * config.envs_per_worker
    return training if training == 1 else training + config.evaluation_copies


def server_settings(
    config: TrainConfig,
    target_return: float | None,
    thrift: int = 0,
    has_time_limit: bool = True,
) -> ServerSettings:
    """What the server must know of settings whose learning rate is decided."""
    if config.learning_rate is None:
        raise ValueError("the learning rate is not decided")
    algorithm = make_algorithm(config)
    return ServerSettings(
        metrics=algorithm.metrics,
        discipline=algorithm.discipline,
        workers=config.workers,
        learning_rate=config.learning_rate,
        anneal_steps=config.max_steps if config.learning_rate_schedule == "linear" else None,
        max_steps=config.max_steps,
        max_episodes=config.max_episodes,
        evaluation_interval=config.evaluation_interval,
        target_return=target_return,
        stop_when_solved=config.stop_when_solved,
        checkpoint_steps=config.checkpoint_steps,
        max_bad_gradients=config.max_bad_gradients,
        selection_episodes=config.selection_episodes or SELECTION_EPISODES,
        evaluation_thrift=thrift,
        stop_when_flat=config.stop_when_flat,
        step_limit=config.evaluation_step_limit or (STEP_LIMIT if has_time_limit else None),
    )


def build_components(config: TrainConfig, env_factory: EnvFactory | None = None) -> RunComponents:
    """Find the environment, build the agent, prepare (but do not compile) the programs.

    Args:
        config: the settings.
        env_factory: of the environment; by default what the settings name.

    Raises:
        InputError: the environment is unknown, or cannot be learned.
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
    )
    if config.normalize_observations == "on" and not agent.scaling.count:
        raise ConfigError(
            "--normalize-observations is on, but there are no floats (other than images) in the "
            f"observations of {config.environment}: {envs.observation_space}"
        )
    algorithm = make_algorithm(config)
    copies, length = config.envs_per_worker, config.rollout_length
    program: JaxProgram | HostProgram
    if isinstance(envs, HostEnvs):
        program = HostProgram(agent, envs, algorithm, copies, length, choose_acting(agent, copies))
    else:
        program = JaxProgram(agent, envs, algorithm, copies, length)
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
        rate = agent.usual_learning_rate
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
    """Whether observations are normalised: ``auto`` does where numbers are that no bounds describe.

    Not where a twin says that they are of a network's size anyway; whatever steps it then,
    so that a policy sees the same in all of them.
    """
    if config.normalize_observations != "auto":
        return config.normalize_observations == "on"
    if is_well_scaled(env_factory):
        return False
    return needs_normalization(envs.observation_space, config.image_axes)
