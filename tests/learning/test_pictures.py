"""Learning from images works even if values are large, which could harm a shared network.

A square drifts over two stacked images; naming its direction is rewarded. Episodes are only
truncated, so values reach 50 to 100 with the default discount, while rewards are at most 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from poise.agent.agent import NetworkSpec, build_agent
from poise.config import TrainConfig
from poise.envs.jax_envs import JaxEnvs
from poise.envs.seeding import Purpose, seed_sequence
from poise.learning.algorithms.a3c import A3C
from poise.learning.compiler import Compiler
from poise.learning.jax_worker import JaxProgram, JaxWorker
from poise.learning.optimizer import make_optimizer
from poise.learning.worker import WorkerSpec
from poise.trajectory import Snapshot

from .probes import FAST, Probe

SIDE, SQUARE, STRIDE = 20, 6, 3
LIMIT = 20
UPDATES = 130


class Drift(Probe):
    """Observes the last two images of a square that moves to the left or to the right.

    The state is ``[previous place, place, direction]``, with direction 1 or -1. Action 1 means to
    the right.

    Args:
        axes: axes of the images: ``SHWC`` or ``SCHW``.
    """

    def __init__(self, axes: str) -> None:
        super().__init__()
        shape = (2, SIDE, SIDE, 3) if axes == "SHWC" else (2, 3, SIDE, SIDE)
        self.axes = axes
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def initial(self, rng: Any, params: Any = None) -> Any:
        choices = SIDE - SQUARE - 2 * STRIDE
        place = STRIDE + (jax.random.bits(rng) % choices).astype(jnp.int32)
        return jnp.stack([place - STRIDE, place, jnp.int32(1)])

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        place, way = state[1], state[2]
        ahead = place + STRIDE * way
        turns = jax.random.bernoulli(rng, 0.4) | (ahead < 0) | (ahead > SIDE - SQUARE)
        way = jnp.where(turns, -way, way)
        return jnp.stack([place, place + STRIDE * way, way])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        pictures = jnp.stack([self._picture(state[0]), self._picture(state[1])])
        return pictures if self.axes == "SHWC" else pictures.transpose(0, 3, 1, 2)

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return (action == (state[2] > 0)).astype(jnp.float32)

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return jnp.zeros((), jnp.bool_)

    @staticmethod
    def _picture(place: Any) -> Any:
        columns = jnp.arange(SIDE)
        wide = (columns >= place) & (columns < place + SQUARE)
        high = (columns >= 7) & (columns < 7 + SQUARE)
        bright = high[:, None, None] & wide[None, :, None]
        return jnp.where(bright, jnp.array([250, 120, 30], jnp.uint8)[None, None], jnp.uint8(0))


def train(axes: str, seed: int) -> float:
    """Train one worker with default settings; returns the final fraction of rewards obtained."""
    config = TrainConfig()
    envs = JaxEnvs("drift", Drift(axes), LIMIT)
    agent, parameters = build_agent(
        envs.observation_space,
        envs.action_space,
        NetworkSpec(),
        seed_sequence(seed, Purpose.PARAMETERS),
    )
    loss = A3C(
        discount=config.discount,
        gae_lambda=config.gae_lambda,
        normalize_advantages=config.normalize_advantages,
        value_coefficient=config.value_coefficient,
        entropy_coefficient=config.entropy_coefficient,
    )
    spec = WorkerSpec(agent, envs, loss, config.envs_per_worker, config.rollout_length)
    program = JaxProgram(spec)
    program.compile(Snapshot(np.int32(0), parameters, ()), Compiler(FAST))
    initialise, raw_update = make_optimizer(
        config.optimizer,
        max_gradient_norm=config.max_gradient_norm,
        epsilon=config.optimizer_epsilon,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        rmsprop_decay=config.rmsprop_decay,
    )
    update = jax.jit(raw_update, compiler_options=dict(FAST))
    rate, moments = np.float32(agent.network.usual_learning_rate), initialise(parameters)
    worker = JaxWorker(program, seed, 0)
    state: Any = worker.initial_state()
    returns: list[float] = []
    for version in range(UPDATES):
        snapshot = Snapshot(np.int32(version), parameters, ())
        worker_update, state = worker.cycle(snapshot, state)
        returns.extend(worker_update.episodes.returns)
        parameters, moments = update(parameters, moments, *worker_update.payload, rate)
    return float(np.mean(returns[-100:])) / LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["SHWC", "SCHW"])
def test_the_direction_of_a_drifting_square_is_learned(axes: str) -> None:
    assert train(axes, 0) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["SHWC", "SCHW"])
@pytest.mark.parametrize("seed", range(1, 6))
def test_it_is_learned_with_every_seed(axes: str, seed: int) -> None:
    assert train(axes, seed) > 0.85
