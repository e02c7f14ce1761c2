"""The evaluator: which candidates are verified, on which seeds, and when that is enough."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from poise.config import TrainConfig
from poise.evaluation.episodes import EpisodePlayer, score
from poise.evaluation.evaluator import EvaluationTerms, Evaluator
from poise.evaluation.phase_times import PhaseTimes
from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.training.assembly import build_components

TARGET = 100.0
GOOD, BAD = [120.0, 121.0, 122.0, 123.0], [10.0, 11.0, 12.0, 13.0]


class FakePlayer(EpisodePlayer):
    """Returns scripted returns, and records its arguments."""

    def __init__(self, *script: Sequence[float]) -> None:
        self._script = list(script)
        self.seeds: list[list[int]] = []
        self.sampling: list[Any] = []
        self.limits: list[int | None] = []
        self.watch: Evaluator | None = None
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


NewEvaluator = Callable[..., tuple[Evaluator, Candidate, FakePlayer]]


@pytest.fixture
def new_evaluator() -> NewEvaluator:
    """Make an evaluator with a scripted player."""

    def make(
        *script: Sequence[float],
        target: float | None = TARGET,
        phase_times: PhaseTimes | None = None,
        **settings: Any,
    ) -> tuple[Evaluator, Candidate, FakePlayer]:
        config = TrainConfig(
            selection_episodes=20, verification_episodes=100, hidden_sizes=(2,), **settings
        )
        components = build_components(config)
        player = FakePlayer(*script)
        terms = EvaluationTerms(target)
        evaluator = Evaluator(components.agent, config, terms, player, phase_times)
        return evaluator, Candidate(components.first_snapshot(), 1000), player

    return make


def test_below_the_target_no_candidate_is_verified(new_evaluator: NewEvaluator):
    evaluator, candidate, player = new_evaluator(BAD)
    result = evaluator(candidate)
    assert result.selection.mean == np.mean(BAD)
    assert result.verification is None
    assert result.solved is False
    assert len(player.seeds) == 1


def test_the_target_is_plausible_up_to_the_upper_bound(new_evaluator: NewEvaluator):
    uncertain = [0.0, 190.0, 20.0, 180.0]
    assert (
        np.mean(uncertain) < TARGET < score(np.array(uncertain), np.ones(4), greedy=True, cut=0)[3]
    )
    evaluator, candidate, _ = new_evaluator(uncertain, GOOD)
    assert evaluator(candidate).verification is not None


def test_the_mean_of_training_makes_it_plausible_too(new_evaluator: NewEvaluator):
    evaluator, candidate, _ = new_evaluator(BAD, BAD)
    assert evaluator(candidate._replace(training_mean=TARGET)).verification is not None
    evaluator, candidate, _ = new_evaluator(BAD)
    assert evaluator(candidate._replace(training_mean=TARGET - 1)).verification is None


def test_nothing_is_verified_before_the_wait_is_over(new_evaluator: NewEvaluator):
    evaluator, candidate, _ = new_evaluator(GOOD)
    assert evaluator(candidate._replace(may_verify=False)).verification is None


def test_after_solving_only_what_seems_better_is_verified(new_evaluator: NewEvaluator):
    solved = float(np.mean(GOOD))
    evaluator, candidate, _ = new_evaluator(GOOD, GOOD, GOOD)
    certain = candidate._replace(training_mean=TARGET + 1)
    assert evaluator(certain._replace(to_exceed=solved)).verification is None
    assert evaluator(certain._replace(to_exceed=solved - 1)).solved is True


def test_a_good_candidate_is_verified_on_fresh_seeds(new_evaluator: NewEvaluator):
    evaluator, candidate, player = new_evaluator(GOOD, GOOD)
    result = evaluator(candidate)
    assert result.verification is not None
    assert result.confirmation is None
    assert result.solved is True
    selection, verification = player.seeds
    assert (len(selection), len(verification)) == (20, 100)
    assert len({*selection, *verification}) == 120


def test_the_verification_decides(new_evaluator: NewEvaluator):
    evaluator, candidate, _ = new_evaluator(GOOD, BAD)
    result = evaluator(candidate)
    assert result.verification is not None
    assert result.verification.mean == np.mean(BAD)
    assert result.solved is False


def test_the_target_itself_is_enough(new_evaluator: NewEvaluator):
    evaluator, candidate, _ = new_evaluator([TARGET] * 4, [TARGET] * 4)
    assert evaluator(candidate).solved is True


@pytest.mark.parametrize(("second", "solved"), [(GOOD, True), (BAD, False)])
def test_a_mean_close_to_the_target_must_reach_it_again(
    second: list[float], solved: bool, new_evaluator: NewEvaluator
):
    close = [TARGET - 40, TARGET + 42] * 10
    evaluator, candidate, player = new_evaluator(GOOD, close, second)
    result = evaluator(candidate)
    assert result.solved is solved
    assert result.reported == result.confirmation
    assert result.reported is not None
    assert result.reported.mean == np.mean(second)
    assert len(player.seeds[2]) == 200
    assert len({*player.seeds[1], *player.seeds[2]}) == 300


def test_more_attempts_require_a_larger_distance_from_the_target(new_evaluator: NewEvaluator):
    """The interval at the first attempt is about 2.0 standard errors wide, at the tenth 3.6."""
    returns = [TARGET + 5 * (1 + 2.5 * (-1) ** number) for number in range(50)]
    above = score(np.array(returns), np.ones(50), greedy=True, cut=0)
    assert 2.3 < (above.mean - TARGET) / above.standard_error < 3.3
    evaluator, candidate, _ = new_evaluator(GOOD, returns)
    assert evaluator(candidate).confirmation is None
    evaluator, candidate, _ = new_evaluator(GOOD, returns, GOOD)
    assert evaluator(candidate._replace(attempts=9)).confirmation is not None


def test_seeds_are_new_at_each_evaluation_and_attempt(new_evaluator: NewEvaluator):
    evaluator, candidate, player = new_evaluator(GOOD, BAD, GOOD, BAD, GOOD, GOOD)
    for number in range(3):
        evaluator(candidate._replace(number=number, attempts=number))
    assert len({seed for seeds in player.seeds for seed in seeds}) == 360


def test_the_seeds_are_a_function_of_the_run_s_seed(new_evaluator: NewEvaluator):
    seeds = []
    for seed in (0, 0, 1):
        evaluator, candidate, player = new_evaluator(GOOD, GOOD, seed=seed)
        evaluator(candidate)
        seeds.append(player.seeds)
    assert seeds[0] == seeds[1]
    assert not {*seeds[0][0], *seeds[0][1]} & {*seeds[2][0], *seeds[2][1]}


def test_episodes_are_cut_where_the_candidate_says(new_evaluator: NewEvaluator):
    evaluator, candidate, player = new_evaluator(GOOD, GOOD)
    evaluator(candidate._replace(step_limit=77))
    assert player.limits == [77, 77]


def test_a_sampled_policy_is_selected_and_verified_by_samples(new_evaluator: NewEvaluator):
    evaluator, candidate, player = new_evaluator(GOOD, GOOD, GOOD, GOOD, policy="sampled")
    result = evaluator(candidate)
    evaluator(candidate._replace(number=1, attempts=1))
    assert None not in player.sampling
    assert len(set(player.sampling)) == 4
    assert result.selection.greedy is False
    assert evaluator.policy(candidate.snapshot).mode == "sampled"


def test_a_run_ends_with_its_existing_verification_or_a_last_one(new_evaluator: NewEvaluator):
    evaluator, candidate, player = new_evaluator(BAD, BAD)
    best = candidate._replace(attempts=2)
    verified = score(np.array(BAD), np.ones(4), greedy=True, cut=0)
    final = evaluator.conclude(best, EvaluationResult(verified, verified, False))
    assert (final.is_extra, final.solved, player.seeds) == (False, False, [])
    final = evaluator.conclude(best, EvaluationResult(verified, None, False))
    assert (final.is_extra, final.verified.mean, final.sampled) == (True, np.mean(BAD), None)
    assert len(player.seeds) == 1


def test_the_best_of_several_verified_scores_is_not_reported(new_evaluator: NewEvaluator):
    """It was chosen for its score; a fresh one has no such bias."""
    lucky = score(np.array(GOOD) + 50.0, np.ones(4), greedy=True, cut=0)
    result = EvaluationResult(lucky, lucky, True)
    for goes_on, attempts, reported in (
        (True, 2, np.mean(GOOD)),
        (True, 1, lucky.mean),
        (False, 2, lucky.mean),
    ):
        evaluator, candidate, player = new_evaluator(GOOD, stop_when_solved=not goes_on)
        best = candidate._replace(attempts=attempts, to_exceed=lucky.mean)
        final = evaluator.conclude(best, result)
        is_fresh = reported != lucky.mean
        assert (final.verified.mean, final.solved, final.is_extra) == (reported, True, is_fresh)
        assert len(player.seeds) == is_fresh


def test_sampled_actions_are_scored_too_where_training_was_better(new_evaluator: NewEvaluator):
    evaluator, candidate, player = new_evaluator(BAD, GOOD)
    selection = score(np.array(BAD), np.ones(4), greedy=True, cut=0)
    final = evaluator.conclude(
        candidate._replace(training_mean=90.0), EvaluationResult(selection, None, False)
    )
    assert final.sampled is not None
    assert final.sampled.mean == np.mean(GOOD)
    assert final.sampled.greedy is False
    evaluator, candidate, player = new_evaluator(BAD)
    within = candidate._replace(training_mean=selection.high - 0.1)
    assert evaluator.conclude(within, EvaluationResult(selection, None, False)).sampled is None
    assert len(player.seeds) == 1


def test_without_a_target_nothing_is_solved(new_evaluator: NewEvaluator):
    evaluator, candidate, _ = new_evaluator(GOOD, GOOD, target=None)
    result = evaluator(candidate)
    assert (result.verification, result.solved) == (None, False)
    assert evaluator.conclude(candidate, result).solved is False


def test_a_policy_is_a_frozen_copy(new_evaluator: NewEvaluator):
    evaluator, candidate, _ = new_evaluator()
    snapshot = candidate.snapshot
    parameters = np.array(snapshot.parameters)
    policy = evaluator.policy(snapshot._replace(parameters=parameters))
    assert np.array_equal(policy.parameters, snapshot.parameters)


def test_the_activity_is_described_and_timed(new_evaluator: NewEvaluator):
    times = iter([1.0, 4.0, 10.0, 30.0])
    phase_times = PhaseTimes(lambda: next(times))
    evaluator, candidate, player = new_evaluator(GOOD, GOOD, phase_times=phase_times)
    player.watch = evaluator
    evaluator(candidate)
    assert player.said == ["selecting: 3 of 20 episodes", "verifying: 3 of 100 episodes"]
    assert evaluator.activity == ""
    assert phase_times.seconds("selection") == 3.0
    assert phase_times.seconds("verification") == 20.0
    assert phase_times.seconds("selection", "verification", until=5.0) == 3.0
