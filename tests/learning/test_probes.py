"""The probe ladder: each rung is learned, up to a threshold out of reach of untrained networks.

The seed is fixed; each rung also passed with at least 9 of 10 other seeds. ``--slow`` repeats that.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from poise.agent.policy import Policy
from poise.learning.jax_worker import JaxProgram

from .probes import (
    DISCOUNT,
    ActionReward,
    ConstantReward,
    DelayedReward,
    MatchingReward,
    ObservationReward,
    program,
    train,
)

UPDATES = 200
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


@pytest.fixture(scope="module", params=LADDER)
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
