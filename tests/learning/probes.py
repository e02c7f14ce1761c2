"""Five probe environments, each of which tests one more thing, and training on them.

The ladder of probe environments (after rejax's ``tests/environments.py``): the first that fails
shows where the fault is. 1: value and loss; 2: the network's input; 3: discount and bootstrap; 4:
the policy gradient; 5: all of them.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.policy import Policy
from poise.config import EnvironmentChoice
from poise.envs.jax_envs import JaxEnvs
from poise.envs.seeding import Purpose, seed_sequence, typed_key
from poise.learning.algorithms.a3c import A3C
from poise.learning.algorithms.algorithm import Algorithm, LearnsFromTrajectories
from poise.learning.compiler import CompileOptions, Compiler, compile_options
from poise.learning.jax_worker import JaxProgram, JaxWorker
from poise.learning.journal import Journal
from poise.learning.learner import GradientLearner, Learner, TrajectoryLearner
from poise.learning.optimizer import make_optimizer
from poise.learning.parameter_server import ParameterServer
from poise.learning.worker import WorkerSpec
from poise.trajectory import Snapshot, WorkerUpdate

from .fakes import SETTINGS, result

DISCOUNT = 0.5
LOSS: dict[str, Any] = {
    "discount": DISCOUNT,
    "gae_lambda": 1.0,
    "normalize_advantages": True,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.01,
}
ALGORITHM = A3C(**LOSS)
WORKERS, COPIES, LENGTH = 2, 8, 10
FAST: CompileOptions = compile_options("cpu") | {"xla_backend_optimization_level": 0}
"""Compile options that halve the compile time; training here is short."""


class Probe(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """One step, one observation (0), two actions that change nothing, reward 0.

    The state is ``[sign, steps]``.
    """

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)
    steps = 1

    def initial(self, rng: Any, params: Any = None) -> Any:
        sign = jnp.where(jax.random.bits(rng) % 2 == 0, -1.0, 1.0)
        return jnp.stack([sign, jnp.zeros(())])

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        return state + jnp.array([0.0, 1.0])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.zeros(1)

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.zeros(())

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[1] >= self.steps


class ConstantReward(Probe):
    """The reward is 1, so the value must be 1."""

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.ones(())


class ObservationReward(Probe):
    """The reward is the observation, -1 or 1, so the value must be the same."""

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[:1]

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return state[0]


class DelayedReward(Probe):
    """Two steps, the second with reward 1, so the values must be gamma and 1."""

    steps = 2

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[1:]

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return state[1]


class ActionReward(Probe):
    """Action 1 has reward 1, action 0 has -1, so the policy must choose 1."""

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return 2.0 * action - 1.0


class MatchingReward(Probe):
    """The action must be 1 where the observation is 1, and 0 where it is -1."""

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[:1]

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return state[0] * (2.0 * action - 1.0)


def program(environment: Any, statistics: Any = (), algorithm: Algorithm = ALGORITHM) -> JaxProgram:
    """Compile the cycle; parameters and keys are arguments, so it can be used for all seeds."""
    envs = JaxEnvs(type(environment).__name__, environment, None)
    spaces = envs.observation_space, envs.action_space
    spec = NetworkSpec(
        (16,),
        normalize_observations=bool(statistics),
        action_values=algorithm.action_values,
    )
    agent, parameters = build_agent(*spaces, spec, None)
    made = JaxProgram(WorkerSpec(agent, envs, algorithm, COPIES, LENGTH))
    targets = () if algorithm.target_interval is None else parameters
    made.compile(Snapshot(np.int32(0), parameters, statistics, targets), Compiler(FAST))
    return made


def new_server(program: JaxProgram, seed: int, **settings: Any) -> ParameterServer:
    """Make a server at version 0, with Adam and an evaluator that never solves."""
    agent = program.spec.agent
    _, parameters = build_agent(
        agent.observation_space,
        agent.action_space,
        agent.spec,
        seed_sequence(seed, Purpose.PARAMETERS),
    )
    initialise, update = make_optimizer(
        "adam",
        max_gradient_norm=0.5,
        epsilon=1e-5,
        adam_beta1=0.9,
        adam_beta2=0.999,
        rmsprop_decay=0.99,
    )
    algorithm = program.spec.algorithm
    learner: Learner
    if isinstance(algorithm, LearnsFromTrajectories):
        learns = algorithm

        def learn(*given: Any) -> Any:
            *rest, key = given
            return learns.learn(agent, update, *rest, typed_key(key))

        learner = TrajectoryLearner(learn, np.zeros(2, np.uint32), Compiler(FAST))
    else:
        learner = GradientLearner(jax.jit(update, compiler_options=dict(FAST)))
    chosen = {
        "learning_rate": 1e-2,
        "metrics": algorithm.metrics,
        "discipline": algorithm.discipline,
        "target_interval": algorithm.target_interval,
        "workers": WORKERS,
        **settings,
    }
    return ParameterServer(
        parameters,
        initialise(parameters),
        learner,
        SETTINGS._replace(**chosen),
        lambda snapshot: result(0.0),
        lambda event: None,
        Journal(),
    )


def train(program: JaxProgram, seed: int, updates: int) -> tuple[Policy, list[WorkerUpdate]]:
    """Train with two workers in turn; returns the policy and the updates."""
    server = new_server(program, seed)
    workers = [JaxWorker(program, seed, index) for index in range(WORKERS)]
    states = [worker.initial_state() for worker in workers]
    snapshots = {worker.index: server.join(worker.index) for worker in workers}
    worker_updates = []
    for worker in itertools.cycle(workers):
        if server.version >= updates:
            break
        worker_update, states[worker.index] = worker.cycle(
            snapshots[worker.index], states[worker.index]
        )
        worker_updates.append(worker_update)
        snapshots.update(server.receive(worker.index, worker_update))
    parameters = np.asarray(server.snapshot().parameters)
    choice = EnvironmentChoice(program.envs.name)
    return Policy(program.spec.agent, parameters, choice), worker_updates
