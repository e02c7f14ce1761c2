"""Putting a run's parts together from its settings: the same for training, replay and benchmarks."""

import concurrent.futures
import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np

from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.config import TrainConfig
from poise.learning.journal import Journal
from poise.learning.optimizer import OptimizerState, Update, make_optimizer
from poise.learning.owner import Emit, Owner, OwnerSettings
from poise.learning.owner import Judge as JudgeFunction
from poise.learning.worker import (
    CompiledProgram,
    CompiledWorker,
    LossSettings,
    compile_options,
)
from poise.runs.judge import Judge
from poise.world.finding import compiled_world, environment_spec, make_own
from poise.world.seeding import Purpose, seed_sequence

__all__ = ["Assembly", "assemble"]


@dataclasses.dataclass
class Assembly:
    """The parts of one run.

    Attributes:
        config: the settings.
        agent: what decides.
        parameters: version 0, ``[P]`` float32.
        program: the workers' cycle.
        target_return: what solves the environment, None if nothing does.
        options: XLA's options for every program of the run.
    """

    config: TrainConfig
    agent: Agent
    parameters: np.ndarray
    program: CompiledProgram
    target_return: float | None
    options: dict[str, bool | int]
    _initialise: Callable[[Any], OptimizerState]
    raw_update: Update
    _update: Any = None

    def compile(self, *alongside: Callable[[], Any]) -> None:
        """Compile all programs side by side, with other slow work of a start, such as imports."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            jobs = [pool.submit(self.program.compile, self.options)]
            jobs.append(pool.submit(self._compile_update))
            jobs.extend(pool.submit(work) for work in alongside)
            for job in jobs:
                job.result()

    def _compile_update(self) -> None:
        state = self._initialise(self.parameters)
        gradient = np.zeros_like(self.parameters)
        lowered = jax.jit(self.raw_update).lower(self.parameters, state, gradient, np.float32(0))
        self._update = lowered.compile(compiler_options=dict(self.options))

    def owner(self, judge: JudgeFunction, emit: Emit, journal: Journal) -> Owner:
        """The owner at version 0."""
        config = self.config
        settings = OwnerSettings(
            learning_rate=config.learning_rate,
            anneal=config.learning_rate_schedule == "linear",
            max_steps=config.max_steps,
            max_episodes=config.max_episodes,
            evaluation_interval=config.evaluation_interval,
            target_return=self.target_return,
            stop_when_solved=config.stop_when_solved,
        )
        state = self.initial_optimizer_state()
        return Owner(self.parameters, state, self._update, settings, judge, emit, journal)

    def initial_optimizer_state(self) -> OptimizerState:
        """The optimizer's state at version 0."""
        return self._initialise(self.parameters)

    def judge(self, alive: Callable[[], None] = lambda: None) -> Judge:
        """The judge of this run's snapshots."""
        return Judge(self.agent, self.config, self.target_return, self.make_own, alive)

    def make_own(self) -> gymnasium.Env[Any, Any]:
        """A copy of Gymnasium's own environment, on which scores are measured."""
        return make_own(self.config.environment)

    def worker(self, index: int, incarnation: int = 0) -> CompiledWorker:
        """One of the workers."""
        return CompiledWorker(self.program, self.config.seed, index, incarnation)

    def workers(self) -> list[CompiledWorker]:
        """All workers, in order."""
        return [self.worker(index) for index in range(self.config.workers)]

    def resolved(self) -> dict[str, Any]:
        """What was decided for this run beyond its settings, and holds for its replay too."""
        return {
            "environment": "compiled twin",
            "acting": "xla",
            "backend": jax.default_backend(),
            "compile_options": self.options,
            "target_return": self.target_return,
            "parameters": self.agent.layout.size,
        }


def assemble(config: TrainConfig) -> Assembly:
    """Find the environment, build the agent, prepare (but do not compile) the programs.

    Raises:
        InputError: the environment is unknown, or cannot be learned.
    """
    world = compiled_world(config.environment, config.failure_reward)
    agent, parameters = build_agent(
        world.observation_space,
        world.action_space,
        NetworkSpec(config.hidden_sizes),
        seed_sequence(config.seed, Purpose.PARAMETERS),
    )
    loss = LossSettings(
        discount=config.discount,
        gae_lambda=config.gae_lambda,
        normalize_advantages=config.normalize_advantages,
        value_coefficient=config.value_coefficient,
        entropy_coefficient=config.entropy_coefficient,
    )
    program = CompiledProgram(agent, world, loss, config.envs_per_worker, config.rollout_length)
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
        target = environment_spec(config.environment).reward_threshold
    options = compile_options(jax.default_backend())
    return Assembly(config, agent, parameters, program, target, options, initialise, update)
