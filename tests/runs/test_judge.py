"""The judge: who is verified, on which seeds, and when that is enough."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from poise.config import TrainConfig
from poise.learning.verdict import Candidate, Score, Verdict
from poise.runs.assembly import assemble
from poise.runs.evaluation import score
from poise.runs.judge import Judge
from poise.runs.spending import Spending

TARGET = 100.0
GOOD, BAD = [120.0, 121.0, 122.0, 123.0], [10.0, 11.0, 12.0, 13.0]


class FakePlayer:
    """Answers with the returns of a script, and keeps what it was asked for."""

    def __init__(self, *script: Sequence[float]) -> None:
        self._script = list(script)
        self.seeds: list[list[int]] = []
        self.sampling: list[Any] = []
        self.limits: list[int | None] = []
        self.watch: Judge | None = None
        self.said: list[str] = []

    def play(
        self,
        policy: Any,
        seeds: Sequence[int],
        sampling: Any = None,
        done: Callable[[int], None] = lambda count: None,
        step_limit: int | None = None,
    ) -> Score:
        self.seeds.append(list(seeds))
        self.sampling.append(None if sampling is None else sampling.spawn_key)
        self.limits.append(step_limit)
        done(3)
        if self.watch is not None:
            self.said.append(self.watch.activity)
        returns = np.array(self._script.pop(0))
        return score(returns, np.ones(len(returns), np.int64), greedy=sampling is None, cut=0)

    def close(self) -> None:
        pass


Set = Callable[..., tuple[Judge, Candidate, FakePlayer]]


@pytest.fixture
def seat() -> Set:
    """Makes a judge whose player has a script."""

    def make(
        *script: Sequence[float], target: float | None = TARGET, **settings: Any
    ) -> tuple[Judge, Candidate, FakePlayer]:
        config = TrainConfig(
            selection_episodes=20, verification_episodes=100, hidden_sizes=(2,), **settings
        )
        assembly = assemble(config)
        judge = assembly.judge()
        player = FakePlayer(*script)
        judge._player = player  # type: ignore[assignment]
        judge._target = target
        return judge, Candidate(assembly.first_snapshot(), 1000), player

    return make


def test_below_the_target_nobody_is_verified(seat: Set):
    judge, candidate, player = seat(BAD)
    verdict = judge(candidate)
    assert verdict.selection.mean == np.mean(BAD)
    assert verdict.verification is None
    assert verdict.solved is False
    assert len(player.seeds) == 1


def test_the_target_is_plausible_up_to_the_upper_bound(seat: Set):
    uncertain = [0.0, 190.0, 20.0, 180.0]
    assert (
        np.mean(uncertain) < TARGET < score(np.array(uncertain), np.ones(4), greedy=True, cut=0)[3]
    )
    judge, candidate, _ = seat(uncertain, GOOD)
    assert judge(candidate).verification is not None


def test_the_mean_of_training_makes_it_plausible_too(seat: Set):
    judge, candidate, _ = seat(BAD, BAD)
    assert judge(candidate._replace(training_mean=TARGET)).verification is not None
    judge, candidate, _ = seat(BAD)
    assert judge(candidate._replace(training_mean=TARGET - 1)).verification is None


def test_nothing_is_verified_before_the_wait_is_over(seat: Set):
    judge, candidate, _ = seat(GOOD)
    assert judge(candidate._replace(may_verify=False)).verification is None


def test_a_good_candidate_is_verified_on_fresh_seeds(seat: Set):
    judge, candidate, player = seat(GOOD, GOOD)
    verdict = judge(candidate)
    assert verdict.verification is not None
    assert verdict.confirmation is None
    assert verdict.solved is True
    selection, verification = player.seeds
    assert (len(selection), len(verification)) == (20, 100)
    assert len({*selection, *verification}) == 120


def test_the_verification_decides(seat: Set):
    judge, candidate, _ = seat(GOOD, BAD)
    verdict = judge(candidate)
    assert verdict.verification is not None
    assert verdict.verification.mean == np.mean(BAD)
    assert verdict.solved is False


def test_the_target_itself_is_enough(seat: Set):
    judge, candidate, _ = seat([TARGET] * 4, [TARGET] * 4)
    assert judge(candidate).solved is True


@pytest.mark.parametrize(("second", "solved"), [(GOOD, True), (BAD, False)])
def test_what_is_close_to_the_target_must_reach_it_once_more(
    second: list[float], solved: bool, seat: Set
):
    close = [TARGET - 40, TARGET + 42] * 10
    judge, candidate, player = seat(GOOD, close, second)
    verdict = judge(candidate)
    assert verdict.solved is solved
    assert verdict.reported == verdict.confirmation
    assert verdict.reported is not None
    assert verdict.reported.mean == np.mean(second)
    assert len(player.seeds[2]) == 200
    assert len({*player.seeds[1], *player.seeds[2]}) == 300


def test_the_more_attempts_the_further_above_the_target(seat: Set):
    """The interval at the first attempt is some 2.0 standard errors wide, at the tenth some 3.6."""
    returns = [TARGET + 5 * (1 + 2.5 * (-1) ** number) for number in range(50)]
    above = score(np.array(returns), np.ones(50), greedy=True, cut=0)
    assert 2.3 < (above.mean - TARGET) / above.standard_error < 3.3
    judge, candidate, _ = seat(GOOD, returns)
    assert judge(candidate).confirmation is None
    judge, candidate, _ = seat(GOOD, returns, GOOD)
    assert judge(candidate._replace(attempts=9)).confirmation is not None


def test_seeds_are_new_at_each_evaluation_and_attempt(seat: Set):
    judge, candidate, player = seat(GOOD, BAD, GOOD, BAD, GOOD, GOOD)
    for number in range(3):
        judge(candidate._replace(number=number, attempts=number))
    assert len({seed for seeds in player.seeds for seed in seeds}) == 360


def test_the_seeds_are_a_function_of_the_run_s_seed(seat: Set):
    seeds = []
    for seed in (0, 0, 1):
        judge, candidate, player = seat(GOOD, GOOD, seed=seed)
        judge(candidate)
        seeds.append(player.seeds)
    assert seeds[0] == seeds[1]
    assert not {*seeds[0][0], *seeds[0][1]} & {*seeds[2][0], *seeds[2][1]}


def test_episodes_are_cut_where_the_candidate_says(seat: Set):
    judge, candidate, player = seat(GOOD, GOOD)
    judge(candidate._replace(step_limit=77))
    assert player.limits == [77, 77]


def test_a_sampled_policy_is_selected_and_verified_by_samples(seat: Set):
    judge, candidate, player = seat(GOOD, GOOD, GOOD, GOOD, policy="sampled")
    verdict = judge(candidate)
    judge(candidate._replace(number=1, attempts=1))
    assert None not in player.sampling
    assert len(set(player.sampling)) == 4
    assert verdict.selection.greedy is False
    assert judge.policy(candidate.snapshot).mode == "sampled"


def test_a_run_ends_with_the_verification_that_there_is_or_a_last_one(seat: Set):
    judge, candidate, player = seat(BAD, BAD)
    best = candidate._replace(attempts=2)
    verified = score(np.array(BAD), np.ones(4), greedy=True, cut=0)
    final = judge.conclude(best, Verdict(verified, verified, False))
    assert (final.attempts, final.solved, player.seeds) == (2, False, [])
    final = judge.conclude(best, Verdict(verified, None, False))
    assert (final.attempts, final.verified.mean, final.sampled) == (3, np.mean(BAD), None)
    assert len(player.seeds) == 1


def test_sampled_actions_are_scored_too_where_training_was_better(seat: Set):
    judge, candidate, player = seat(BAD, GOOD)
    selection = score(np.array(BAD), np.ones(4), greedy=True, cut=0)
    final = judge.conclude(candidate._replace(training_mean=90.0), Verdict(selection, None, False))
    assert final.sampled is not None
    assert final.sampled.mean == np.mean(GOOD)
    assert final.sampled.greedy is False
    judge, candidate, player = seat(BAD)
    within = candidate._replace(training_mean=selection.high - 0.1)
    assert judge.conclude(within, Verdict(selection, None, False)).sampled is None
    assert len(player.seeds) == 1


def test_without_a_target_nothing_is_solved(seat: Set):
    judge, candidate, _ = seat(GOOD, GOOD, target=None)
    verdict = judge(candidate)
    assert (verdict.verification, verdict.solved) == (None, False)
    assert judge.conclude(candidate, verdict).solved is False


def test_a_policy_is_a_frozen_copy(seat: Set):
    judge, candidate, _ = seat()
    snapshot = candidate.snapshot
    parameters = np.array(snapshot.parameters)
    policy = judge.policy(snapshot._replace(parameters=parameters))
    assert np.array_equal(policy.parameters, snapshot.parameters)


def test_what_is_under_way_is_said_and_timed(seat: Set):
    judge, candidate, player = seat(GOOD, GOOD)
    player.watch = judge
    times = iter([1.0, 4.0, 10.0, 30.0])
    spending = judge._spending = Spending(lambda: next(times))
    judge(candidate)
    assert player.said == ["selecting: 3 of 20 episodes", "verifying: 3 of 100 episodes"]
    assert judge.activity == ""
    assert spending.seconds("selection") == 3.0
    assert spending.seconds("verification") == 20.0
    assert spending.seconds("selection", "verification", until=5.0) == 3.0
