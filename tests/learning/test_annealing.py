"""Settings of the loss that are annealed: the entropy bonus and PPO's clip range."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from poise.config import TrainConfig
from poise.errors import ConfigError
from poise.learning.algorithms.a3c import A3C
from poise.learning.algorithms.appo import APPO
from poise.learning.algorithms.impala import Impala
from poise.learning.algorithms.ppo import PPO
from poise.learning.algorithms.registry import make_algorithm
from poise.trajectory import Snapshot

from ..agent.rollouts import make, trajectory
from .test_ppo import RATE, descend

SHARED: dict[str, Any] = {
    "discount": 0.9,
    "gae_lambda": 0.8,
    "normalize_advantages": True,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.2,
}
PASSES: dict[str, Any] = {
    "clip_range": 0.4,
    "epochs": 2,
    "minibatches": 1,
    "recompute_advantages": False,
}
CLIPS = {"vtrace_rho_clip": 1.0, "vtrace_c_clip": 1.0}
LINEAR: dict[str, Any] = {"entropy_schedule": "linear", "annealing_updates": 40.0}


def of_a3c(algorithm: Any, version: int) -> np.ndarray:
    agent, parameters = make("discrete", (4,))
    snapshot = Snapshot(np.int32(version), parameters)
    computed = jax.jit(lambda *given: algorithm.compute(agent, *given)[0].vector)
    return np.asarray(computed(snapshot, trajectory(agent)))


def of_server(algorithm: Any, version: int) -> np.ndarray:
    agent, parameters = make("discrete", (4,))
    batch = trajectory(agent)._replace(version=np.int32(version))
    run = jax.jit(lambda *given: algorithm.learn(agent, descend, *given)[0])
    return np.asarray(run(parameters, 0, batch, RATE, jax.random.key(0)))


@pytest.mark.parametrize(
    ("kind", "given", "find"),
    [
        (A3C, {}, of_a3c),
        (PPO, PASSES, of_server),
        pytest.param(Impala, CLIPS, of_server, marks=pytest.mark.slow),
        pytest.param(APPO, {**PASSES, **CLIPS}, of_server, marks=pytest.mark.slow),
    ],
)
def test_a_setting_falls_in_a_line_to_0(kind: Any, given: dict[str, Any], find: Any) -> None:
    annealed = kind(**SHARED, **given, **LINEAR)
    halved, none = {"entropy_coefficient": 0.1}, {"entropy_coefficient": 0.0}
    if "clip_range" in given:
        annealed = dataclasses.replace(annealed, clip_range_schedule="linear")
        halved["clip_range"] = 0.2
    constant = kind(**SHARED, **given)
    expected = find(dataclasses.replace(constant, **halved), 0)
    assert not np.allclose(expected, find(constant, 0), rtol=1e-3)
    np.testing.assert_allclose(find(annealed, 20), expected, rtol=1e-5, atol=1e-7)
    if "clip_range" not in given:
        last = find(dataclasses.replace(constant, **none), 0)
        for version in (40, 1000):
            np.testing.assert_allclose(find(annealed, version), last, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("algorithm", "updates"), [("a3c", 125), ("a2c", 25), ("ppo", 25), ("impala", 25)]
)
def test_the_budget_is_counted_in_updates(algorithm: Any, updates: int) -> None:
    config = TrainConfig(
        algorithm=algorithm,
        entropy_schedule="linear",
        workers=5,
        envs_per_worker=4,
        rollout_length=10,
        max_steps=5000,
    )
    made: Any = make_algorithm(config)
    assert made.annealing_updates == updates
    without = dataclasses.replace(config, entropy_schedule="constant", annealing_steps=None)
    constant: Any = make_algorithm(without)
    assert constant.annealing_updates is None
    sooner: Any = make_algorithm(dataclasses.replace(config, annealing_steps=1000))
    assert sooner.annealing_updates == updates / 5
    later: Any = make_algorithm(dataclasses.replace(config, max_steps=10_000))
    assert later.annealing_updates == updates * 2
    assert made.follows_version is (algorithm in ("a3c", "a2c"))
    assert not constant.follows_version


@pytest.mark.parametrize("name", ["entropy_schedule", "clip_range_schedule"])
def test_a_schedule_needs_a_number_of_steps(name: str) -> None:
    chosen: dict[str, Any] = {name: "linear", "max_seconds": 5.0, "algorithm": "ppo"}
    with pytest.raises(ConfigError, match=f"{name} is linear"):
        TrainConfig(**chosen)
    assert TrainConfig(**chosen, annealing_steps=10).annealing_steps == 10
    without = "a3c" if name == "clip_range_schedule" else "nstep_q"
    assert not TrainConfig(**{**chosen, "algorithm": without}).annealed_settings
