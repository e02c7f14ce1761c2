"""The judge: who is verified, on which seeds, and when that is enough."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from poise.config import TrainConfig
from poise.learning.verdict import Score
from poise.runs.assembly import assemble
from poise.runs.evaluation import score
from poise.runs.judge import Judge
from poise.runs.spending import Spending
from poise.trajectory import Snapshot

TARGET = 100.0
GOOD, BAD = [120.0, 121.0, 122.0, 123.0], [10.0, 11.0, 12.0, 13.0]


class FakePlayer:
    """Answers with the returns of a script, and keeps the seeds it was asked for."""

    def __init__(self, *script: Sequence[float]) -> None:
        self._script = list(script)
        self.seeds: list[list[int]] = []
        self.watch: Judge | None = None
        self.said: list[str] = []

    def play(
        self,
        policy: Any,
        seeds: Sequence[int],
        sampling: Any = None,
        done: Callable[[int], None] = lambda count: None,
    ) -> Score:
        self.seeds.append(list(seeds))
        done(3)
        if self.watch is not None:
            self.said.append(self.watch.activity)
        returns = np.array(self._script.pop(0))
        return score(returns, np.ones(len(returns), np.int64), greedy=True, cut=0)

    def close(self) -> None:
        pass


Set = Callable[..., tuple[Judge, Snapshot, FakePlayer]]


@pytest.fixture
def seat() -> Set:
    """Makes a judge whose player has a script."""

    def make(
        *script: Sequence[float], seed: int = 0, target: float | None = TARGET
    ) -> tuple[Judge, Snapshot, FakePlayer]:
        config = TrainConfig(
            seed=seed, selection_episodes=20, verification_episodes=100, hidden_sizes=(2,)
        )
        assembly = assemble(config)
        judge = assembly.judge()
        player = FakePlayer(*script)
        judge._player = player  # type: ignore[assignment]
        judge._target = target
        return judge, assembly.first_snapshot(), player

    return make


def test_below_the_target_nobody_is_verified(seat: Set):
    judge, snapshot, player = seat(BAD)
    verdict = judge(snapshot)
    assert verdict.selection.mean == np.mean(BAD)
    assert verdict.verification is None
    assert verdict.solved is False
    assert (judge.attempts, len(player.seeds)) == (0, 1)


def test_the_lower_bound_decides_and_not_the_mean(seat: Set):
    uncertain = [0.0, 300.0, 20.0, 290.0]
    assert np.mean(uncertain) > TARGET
    judge, snapshot, _ = seat(uncertain)
    assert judge(snapshot).verification is None


def test_a_good_candidate_is_verified_on_fresh_seeds(seat: Set):
    judge, snapshot, player = seat(GOOD, GOOD)
    verdict = judge(snapshot)
    assert verdict.verification is not None
    assert verdict.solved is True
    selection, verification = player.seeds
    assert (len(selection), len(verification)) == (20, 100)
    assert len({*selection, *verification}) == 120


def test_the_verification_decides(seat: Set):
    judge, snapshot, _ = seat(GOOD, BAD)
    verdict = judge(snapshot)
    assert verdict.verification is not None
    assert verdict.verification.mean == np.mean(BAD)
    assert verdict.solved is False
    assert judge.attempts == 1


def test_the_target_itself_is_enough(seat: Set):
    judge, snapshot, _ = seat([TARGET] * 4, [TARGET] * 4)
    assert judge(snapshot).solved is True


def test_seeds_are_new_at_each_attempt_and_candidates_are_selected_on_the_same(seat: Set):
    judge, snapshot, player = seat(GOOD, BAD, GOOD, BAD, GOOD, GOOD)
    for _ in range(3):
        judge(snapshot)
    assert judge.attempts == 3
    selections, verifications = player.seeds[::2], player.seeds[1::2]
    assert selections[0] == selections[1] == selections[2]
    assert len({seed for seeds in [selections[0], *verifications] for seed in seeds}) == 320


def test_the_seeds_are_a_function_of_the_run_s_seed(seat: Set):
    seeds = []
    for seed in (0, 0, 1):
        judge, snapshot, player = seat(GOOD, GOOD, seed=seed)
        judge(snapshot)
        seeds.append(player.seeds)
    assert seeds[0] == seeds[1]
    assert not {*seeds[0][0], *seeds[0][1]} & {*seeds[2][0], *seeds[2][1]}


def test_without_a_target_nothing_is_solved(seat: Set):
    judge, snapshot, _ = seat(GOOD, GOOD, target=None)
    verdict = judge(snapshot)
    assert (verdict.verification, verdict.solved) == (None, False)
    assert judge.solves(verdict.selection) is False


def test_a_policy_is_a_frozen_copy(seat: Set):
    judge, snapshot, _ = seat()
    parameters = np.array(snapshot.parameters)
    policy = judge.policy(snapshot._replace(parameters=parameters))
    assert np.array_equal(policy.parameters, snapshot.parameters)


def test_what_is_under_way_is_said_and_timed(seat: Set):
    judge, snapshot, player = seat(GOOD, GOOD)
    player.watch = judge
    times = iter([1.0, 4.0, 10.0, 30.0])
    spending = judge._spending = Spending(lambda: next(times))
    judge(snapshot)
    assert player.said == ["selecting: 3 of 20 episodes", "verifying: 3 of 100 episodes"]
    assert judge.activity == ""
    assert spending.seconds("selection") == 3.0
    assert spending.seconds("verification") == 20.0
    assert spending.seconds("selection", "verification", until=5.0) == 3.0
