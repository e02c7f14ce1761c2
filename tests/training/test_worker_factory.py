"""Workers in processes of their own are made of the same parts as the run, whatever its network."""

import pickle
from typing import Any

import numpy as np
import pytest

from poise.agent.network import Network
from poise.agent.policy import Policy
from poise.config import EnvironmentChoice, TrainConfig
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.worker_factory import RunWorkerFactory, SpawnedWorkerFactory
from poise.trajectory import Gradient

from ..agent.examples import Recurrent


def leaky_sum(space: Any, outputs: int, free: int) -> Network:
    return Recurrent(4, 3, outputs)


def components(world: Any) -> RunComponents:
    config = TrainConfig("CartPole-v1", world=world, workers=1, envs_per_worker=2, rollout_length=5)
    return build_components(config, network_factory=leaky_sum)


@pytest.mark.parametrize("world", ["compiled", pytest.param("copies", marks=pytest.mark.slow)])
def test_a_network_of_ones_own_travels_with_the_factory(world: Any) -> None:
    parts = components(world)
    size = parts.agent.layout.size
    assert size == 4 * 3 + 3 * 2 + 3
    remote = RunWorkerFactory(parts).remote()
    factory: SpawnedWorkerFactory = pickle.loads(pickle.dumps(remote))
    worker = factory(0, 0)
    update, _ = worker.cycle(parts.first_snapshot(), worker.initial_state())
    worker.close()
    assert isinstance(update.payload, Gradient)
    assert update.payload.vector.shape == (size,)
    assert np.any(update.payload.vector)
    assert RunWorkerFactory(parts).mailbox_shape().parameters == size


def test_and_with_its_policy() -> None:
    parts = components("compiled")
    policy = Policy(parts.agent, parts.parameters, EnvironmentChoice("CartPole-v1"))
    again: Policy = pickle.loads(pickle.dumps(policy))
    observations = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    players = policy.player(), again.player()
    actions = [[player.act(one) for one in observations] for player in players]
    assert actions[0] == actions[1]
