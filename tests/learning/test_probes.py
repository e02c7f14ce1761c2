"""The probe ladder: each rung is learned, up to a threshold out of reach of untrained networks.

The seed is fixed; each rung also passed with at least 9 of 10 other seeds. ``--slow`` repeats that.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from poise.agent.policy import Policy
from poise.config import TrainConfig
from poise.learning.algorithms.algorithm import Algorithm
from poise.learning.algorithms.registry import ALGORITHMS, make_algorithm
from poise.learning.jax_worker import JaxProgram

from .probes import (
    COPIES,
    DISCOUNT,
    LENGTH,
    ActionReward,
    ConstantReward,
    DelayedReward,
    MatchingReward,
    ObservationReward,
    program,
    train,
)

UPDATES = 200
OTHERS = tuple(name for name in ALGORITHMS if name != "a3c")
TOLERANCE = 0.1


def values(policy: Policy, *observations: float) -> list[float]:
    return [policy.value(np.float32([one])) for one in observations]


def probability_of_1(policy: Policy, observation: float) -> float:
    seen = np.float32([observation])
    output = policy.agent.apply(policy.parameters, seen, (), np.bool_(True))
    logits = output.dist_params.astype(np.float64)
    return float(1 / (1 + np.exp(logits[0] - logits[1])))


def constant(policy: Policy) -> bool:
    return bool(np.allclose(values(policy, 0.0), 1.0, atol=TOLERANCE))


def observation(policy: Policy) -> bool:
    return bool(np.allclose(values(policy, -1.0, 1.0), [-1.0, 1.0], atol=TOLERANCE))


def delayed(policy: Policy) -> bool:
    return bool(np.allclose(values(policy, 0.0, 1.0), [DISCOUNT, 1.0], atol=TOLERANCE))


def action(policy: Policy) -> bool:
    return probability_of_1(policy, 0.0) > 0.9 and values(policy, 0.0)[0] > 0.8


def matching(policy: Policy) -> bool:
    chosen = probability_of_1(policy, 1.0) > 0.9 and probability_of_1(policy, -1.0) < 0.1
    return chosen and min(values(policy, 1.0, -1.0)) > 0.8


class Rung(NamedTuple):
    program: JaxProgram
    learned: Callable[[Policy], bool]


LADDER: dict[str, tuple[type[Any], Callable[[Policy], bool]]] = {
    "a constant reward": (ConstantReward, constant),
    "a reward that depends on the observation": (ObservationReward, observation),
    "a delayed reward": (DelayedReward, delayed),
    "a reward that depends on the action": (ActionReward, action),
    "a reward that depends on both": (MatchingReward, matching),
}


LOW = "a constant reward", "a reward that depends on the observation"
"""Rungs below those that are tested each time."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=pytest.mark.slow if one in LOW else ()) for one in LADDER],
)
def rung(request: Any) -> Rung:
    environment, learned = LADDER[request.param]
    return Rung(program(environment()), learned)


def test_the_rung_is_learned(rung: Rung) -> None:
    untrained, _ = train(rung.program, seed=0, updates=0)
    assert not rung.learned(untrained)
    trained, _ = train(rung.program, seed=0, updates=UPDATES)
    assert rung.learned(trained)


@pytest.mark.slow
def test_the_rung_is_learned_with_other_seeds(rung: Rung) -> None:
    passed = [rung.learned(train(rung.program, seed, UPDATES)[0]) for seed in range(1, 11)]
    assert sum(passed) >= 9, passed


def algorithm(name: str) -> Algorithm:
    """Make an algorithm that explores and learns fast enough for a probe."""
    config = TrainConfig(
        algorithm=name,
        discount=DISCOUNT,
        gae_lambda=1.0,
        entropy_coefficient=0.01,
        envs_per_worker=COPIES,
        rollout_length=LENGTH,
        target_interval=4 * COPIES * LENGTH,
        exploration_steps=20 * COPIES * LENGTH,
        epochs=2,
    )
    return make_algorithm(config)


def greedy_is_right(policy: Policy) -> bool:
    """Whether it matches, and the values are right; for a policy or action values alike."""
    chosen = [policy.act(np.float32([one]), greedy=True) for one in (-1.0, 1.0)]
    return chosen == [0, 1] and min(values(policy, 1.0, -1.0)) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_algorithm_learns_to_match(name: str) -> None:
    made = program(MatchingReward(), algorithm=algorithm(name))
    untrained, _ = train(made, seed=0, updates=0)
    assert not greedy_is_right(untrained)
    trained, _ = train(made, seed=0, updates=UPDATES)
    assert greedy_is_right(trained)


@pytest.mark.parametrize(
    "name",
    ["nstep_q", *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS if "one" in one)],
)
def test_action_values_are_carried_back_in_time(name: str) -> None:
    """Both actions lead to the reward, so the value of the first step is gamma."""
    made = program(DelayedReward(), algorithm=algorithm(name))
    trained, _ = train(made, seed=0, updates=UPDATES)
    assert delayed(trained)
