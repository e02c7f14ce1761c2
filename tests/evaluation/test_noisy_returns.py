"""Solved or not, with noisy returns: the server and the evaluator, with randomly drawn episodes.

A policy reaches a level, and stays there. Returns are 0 or 1, as on FrozenLake, or normal.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from poise.config import TrainConfig
from poise.evaluation.episodes import EpisodePlayer
from poise.evaluation.evaluator import EvaluationTerms, Evaluator
from poise.evaluation.scoring import score
from poise.learning.evaluation_result import Score
from poise.learning.journal import StopReason
from poise.training.assembly import build_components

from ..learning.fakes import Bench

TARGET = 0.7
LENGTH = 30
"""Steps per episode."""
RUNS = pytest.mark.parametrize(
    "runs", [range(3), pytest.param(range(3, 10), marks=pytest.mark.slow)], ids=["few", "more"]
)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def zero_or_one(errors: float) -> Draw:
    """Draw 0 or 1; the mean is this many standard errors (of 100 episodes) above the target."""
    mean = TARGET
    for _ in range(50):
        mean = TARGET + errors * (mean * (1 - mean) / 100) ** 0.5
    return lambda generator, count: (generator.random(count) < mean).astype(float)


def normal(errors: float) -> Draw:
    return lambda generator, count: generator.normal(TARGET + errors / 10, 1.0, count)


class Drawn(EpisodePlayer):
    """Plays nothing: the return of an episode is drawn from its seed."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def play(self, policy: Any, seeds: Sequence[int], *rest: Any) -> Score:
        returns = np.array([self.draw(np.random.default_rng(seed), 1)[0] for seed in seeds])
        return score(returns, np.full(len(seeds), LENGTH), greedy=True, cut=0)

    def close(self) -> None:
        pass


def run(draw: Draw, seed: int, arrives: int, end: int) -> Bench:
    """Run until the end; the policy reaches its level after ``arrives`` steps."""
    config = TrainConfig(seed=seed, hidden_sizes=(1,))
    player = Drawn(lambda generator, count: np.zeros(count))
    evaluator = Evaluator(build_components(config).agent, config, EvaluationTerms(TARGET), player)
    bench = Bench(evaluator, evaluation_interval=4096, max_steps=end, target_return=TARGET)
    bench.join(0)
    generator = np.random.default_rng(seed)
    while not bench.server.stopped:
        if bench.server.steps >= arrives:
            player.draw = draw
        # Updates become larger in the course of the run, only to save time.
        steps = max(800, bench.server.steps // 32)
        bench.give(steps=steps, returns=player.draw(generator, 26))
    return bench


@pytest.mark.parametrize("arrives", [10_000, 47_000, 200_000])
@pytest.mark.parametrize("returns", [zero_or_one, normal])
@RUNS
def test_one_standard_error_above_the_target_is_solved(
    returns: Any, arrives: int, runs: range
) -> None:
    """Within three times the steps after which the policy reached its level, in every run."""
    for seed in runs:
        bench = run(returns(1.0), seed, arrives, 3 * arrives)
        assert bench.server.stop_reason == StopReason.SOLVED, seed


@pytest.mark.parametrize("returns", [zero_or_one, pytest.param(normal, marks=pytest.mark.slow)])
@RUNS
def test_two_standard_errors_below_the_target_is_not_solved(returns: Any, runs: range) -> None:
    for seed in runs:
        bench = run(returns(-2.0), seed, 10_000, 1_000_000)
        assert bench.server.stop_reason == StopReason.MAX_STEPS, seed
        assert bench.server.verifications > 5, "there was something to be tempted by"
        # Verifications, with a few hundred episodes each, are cheap compared with training.
        assert bench.server.verifications < 40
