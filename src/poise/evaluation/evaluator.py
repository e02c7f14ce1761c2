"""The evaluator: selects candidates on a few seeds and verifies them on fresh ones.

A candidate is verified if it may plausibly have reached the target: the upper 95% bound of its
selection score, or the mean return of the training episodes, reaches the target. If candidates are
compared in a compiled twin or in EnvPool, its mean over many more episodes there must reach the
target, too. Each verification uses new seeds, and only its result is ever reported as a score.
Verifying often would eventually find a lucky result. So the mean must exceed the target by the
half-width of an interval that grows with the number of attempts (level 0.025 divided by the square
of the attempt's number; 0.041 in total); otherwise, it must reach the target again on twice as many
further seeds, whose score is then reported. The evaluation is a pure function of the candidate, so
a replay repeats it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from poise.agent.agent import Agent
from poise.agent.policy import Mode, Policy, evaluation_actor
from poise.config import TrainConfig
from poise.envs.seeding import Purpose, environment_seed, seed_sequence
from poise.evaluation.episodes import EpisodePlayer
from poise.evaluation.phase_times import Phase, PhaseTimes
from poise.evaluation.scoring import student_t_quantile
from poise.evaluation.selection_player import Batch, SelectionPlayer, warn_if_different
from poise.learning.evaluation_result import Candidate, EvaluationResult, Score
from poise.trajectory import Snapshot

__all__ = [
    "FEWEST_SELECTED",
    "SELECTION_EPISODES",
    "EvaluationTerms",
    "Evaluator",
    "FinalScore",
]


SELECTION_EPISODES = 10
VERIFICATION_EPISODES = 100
"""Used if no number is set, and steps are fast."""
FEWEST_VERIFIED = 3
FEWEST_SELECTED = 2
"""Minimum numbers of episodes if steps are slow; one episode would give no interval of the mean."""
LEVEL = 0.025
"""One-sided level of the interval by which a first verification must exceed the target."""
CONFIRMING = 2
"""Further seeds per verification seed, if the first verification exceeds the target by less."""


class FinalScore(NamedTuple):
    """The score that a run reports.

    Attributes:
        verified: score of the run's best policy on fresh seeds.
        solved: a verification reached the target return, clearly or again on further seeds.
        is_extra: it needed a verification beyond those of the run's evaluations.
        sampled: score of sampled actions, if actions are greedy and sampled ones seemed better.
        step_limit: episodes were cut after this many steps.
    """

    verified: Score
    solved: bool
    is_extra: bool
    sampled: Score | None
    step_limit: int


class EvaluationTerms(NamedTuple):
    """Terms of a run's evaluations.

    Attributes:
        target_return: the return that solves the environment; None if nothing does.
        training_ratio: minimum number of training steps for each step of a verification, unless a
            number of episodes is set; 0 if steps are fast.
        checks: a candidate that may have reached the target must reach it in many more episodes
            where candidates are compared, before it is verified.
    """

    target_return: float | None
    training_ratio: int = 0
    checks: bool = False


class Evaluator:
    """Evaluates snapshots: selects in a compiled twin or in EnvPool if possible, verifies without.

    Args:
        agent: chooses actions, given parameters.
        config: seeds, and numbers of episodes.
        terms: what counts as solved, and how much to spend on evaluations.
        player: plays the episodes.
        phase_times: records how many seconds selection and verification take.
        make_room: closes the training copies, if only one copy may be open at a time. The copy
            opened for an evaluation is then closed after it, too.
        elsewhere: plays the episodes of selections in a compiled twin or in EnvPool; None plays
            them on Gymnasium's own environment, too.
    """

    def __init__(
        self,
        agent: Agent,
        config: TrainConfig,
        terms: EvaluationTerms,
        player: EpisodePlayer,
        phase_times: PhaseTimes | None = None,
        make_room: Callable[[], None] | None = None,
        elsewhere: SelectionPlayer | None = None,
    ) -> None:
        self._agent = agent
        self._config = config
        self._target, self._training_ratio, self._checks = terms
        self._actor = evaluation_actor(agent)
        self._player = player
        self._phase_times = phase_times or PhaseTimes()
        self._make_room = make_room
        self._elsewhere = elsewhere
        self.activity = ""
        """Description of the running evaluation and its progress; empty if none is running."""

    def open(self) -> None:
        """Make the copies to play in, before training steps its own."""
        self._player.open()

    def close(self) -> None:
        """Close the environments."""
        self._player.close()

    @property
    def player(self) -> EpisodePlayer:
        """The player of the episodes."""
        return self._player

    def describe_activity(self) -> str:
        """Describe what an evaluation is doing, or did last; empty before the first."""
        return self._player.describe_activity()

    def __call__(self, candidate: Candidate) -> EvaluationResult:
        """Select and, if the target is plausible, verify."""
        policy = self.policy(candidate.snapshot)
        selection = self._select(policy, candidate)
        if not candidate.may_verify or not self._is_plausible(selection, candidate):
            return EvaluationResult(selection, None, False)
        if self._elsewhere is not None and self._checks:
            selection = self._check_elsewhere(self._elsewhere, candidate)
            if self._target is not None and selection.mean < self._target:
                return EvaluationResult(selection, None, False)
            if candidate.to_exceed is not None and selection.mean <= candidate.to_exceed:
                return EvaluationResult(selection, None, False)
        return self._verify(policy, selection, candidate)

    def conclude(self, best: Candidate, result: EvaluationResult) -> FinalScore:
        """Return the score of a run's best policy: the verified one, or from a last verification.

        Args:
            best: the best candidate, as it would be evaluated now.
            result: its evaluation.
        """
        policy = self.policy(best.snapshot)
        is_extra = result.verification is None
        if is_extra:
            result = self._verify(policy, result.selection, best)
        score = result.reported
        assert score is not None, "it was verified"
        if self._was_chosen_by_score(best):
            # The best of several scores is too high on average, so it is not the one to report.
            is_extra = True
            fresh = range(score.episodes)
            score = self._fresh(policy, best.attempts + 1, fresh, best.step_limit)
        sampled = None
        seems_better = best.training_mean is not None and best.training_mean > score.high
        if self._config.policy == "greedy" and not result.solved and seems_better:
            fresh = range(score.episodes)
            attempt = best.attempts + is_extra
            sampled = self._fresh(policy, attempt, fresh, best.step_limit, "sampled")
        return FinalScore(score, result.solved, is_extra, sampled, best.step_limit)

    def _was_chosen_by_score(self, best: Candidate) -> bool:
        """Whether the best policy may be one of several that solved, chosen by verified score."""
        goes_on = not self._config.stop_when_solved and best.to_exceed is not None
        return goes_on and best.attempts > 1

    def _is_plausible(self, selection: Score, candidate: Candidate) -> bool:
        """Whether the policy may have reached the target, and may be better than the best one."""
        if self._target is None:
            return False
        if candidate.to_exceed is not None and selection.mean <= candidate.to_exceed:
            return False
        mean = candidate.training_mean
        return selection.high >= self._target or (mean is not None and mean >= self._target)

    def _verify(self, policy: Policy, selection: Score, candidate: Candidate) -> EvaluationResult:
        """Score a policy on fresh seeds, new at each attempt; on more if the result is close."""
        attempt = candidate.attempts + 1
        episodes = self._config.verification_episodes or self._affordable(
            selection, candidate.steps, FEWEST_VERIFIED, VERIFICATION_EPISODES
        )
        first = self._fresh(policy, attempt, range(episodes), candidate.step_limit)
        if self._elsewhere is not None:
            warn_if_different(selection, first, self._elsewhere.place)
        if self._target is None or first.mean < self._target:
            return EvaluationResult(selection, first, False)
        if _lower_bound(first, LEVEL / attempt**2) >= self._target:
            return EvaluationResult(selection, first, True)
        further = range(episodes, (1 + CONFIRMING) * episodes)
        second = self._fresh(policy, attempt, further, candidate.step_limit)
        return EvaluationResult(selection, first, second.mean >= self._target, second)

    def _fresh(
        self,
        policy: Policy,
        attempt: int,
        numbers: range,
        limit: int,
        mode: Mode | None = None,
    ) -> Score:
        """Play the episodes with these numbers of an attempt; by default in the run's mode."""
        seeds = self.seeds(Purpose.VERIFICATION, attempt, numbers.stop)[numbers.start :]
        sampling = self._sampling(mode, Purpose.VERIFICATION, attempt, numbers.start)
        return self._play(policy, seeds, "verification", limit, sampling)

    def _select(self, policy: Policy, candidate: Candidate) -> Score:
        count, number = self._config.selection_episodes, candidate.number
        if self._elsewhere is not None:
            count = count or SELECTION_EPISODES
            return self._play_elsewhere(self._elsewhere, candidate, count, range(1))
        seeds = self.seeds(Purpose.SELECTION, number, count or SELECTION_EPISODES)
        sampling = self._sampling(None, Purpose.SELECTION, number)

        def play(count: int) -> Score:
            return self._play(policy, seeds[:count], "selection", candidate.step_limit, sampling)

        if count is not None or not self._training_ratio:
            return play(len(seeds))
        # The first episodes show how long episodes are.
        first = play(FEWEST_SELECTED)
        count = self._affordable(first, candidate.steps, FEWEST_SELECTED, SELECTION_EPISODES)
        return first if count == FEWEST_SELECTED else play(count)

    def _check_elsewhere(self, player: SelectionPlayer, candidate: Candidate) -> Score:
        """Play about as many episodes where candidates are compared as a verification plays.

        They are further ones of the selection, in batches of as many as that: in a compiled twin,
        another number would need another program.
        """
        count = self._config.selection_episodes or SELECTION_EPISODES
        wanted = self._config.verification_episodes or VERIFICATION_EPISODES
        return self._play_elsewhere(player, candidate, count, range(1, 1 + -(-wanted // count)))

    def _play_elsewhere(
        self, player: SelectionPlayer, candidate: Candidate, count: int, batches: range
    ) -> Score:
        """Play the batches with these numbers; number 0 decides about a candidate at first."""
        root, number = self._config.seed, candidate.number
        wanted: list[Batch] = []
        for batch in batches:
            seeds = [
                seed_sequence(root, Purpose.SELECTION, number, batch * count + episode)
                for episode in range(count)
            ]
            # Without a number for the first batch, as in runs from before there were more.
            sampling = self._sampling(None, Purpose.SELECTION, number, *([batch] if batch else []))
            wanted.append((seeds, sampling))
        beat = self._player.beat
        with self._phase_times.on("selection"):
            return player.play(candidate.snapshot, wanted, candidate.step_limit, beat)

    def _affordable(self, like: Score, trained: int, fewest: int, most: int) -> int:
        """Return the number of episodes to play; fewer in a short run whose steps are slow."""
        if not self._training_ratio:
            return most
        affordable = trained * like.episodes // (self._training_ratio * max(1, like.steps))
        return min(most, max(fewest, affordable))

    def _play(
        self,
        policy: Policy,
        seeds: list[int],
        phase: Phase,
        step_limit: int,
        sampling: np.random.SeedSequence | None,
    ) -> Score:
        doing = "verifying" if phase == "verification" else "selecting"

        def done(count: int) -> None:
            self.activity = f"{doing}: {count} of {len(seeds)} episodes"

        done(0)
        try:
            self.make_room()
            with self._phase_times.on(phase):
                return self._player.play(policy, seeds, sampling, done, step_limit)
        finally:
            self.activity = ""
            if self._make_room is not None:
                self._player.close()

    def make_room(self) -> None:
        """Close the training copies, if only one copy may be open at a time."""
        if self._make_room is not None:
            self._make_room()

    def policy(self, snapshot: Snapshot) -> Policy:
        """Return a frozen copy of the snapshot's policy."""
        parameters = np.asarray(snapshot.parameters)
        statistics = self._agent.observed_statistics(snapshot.statistics)
        choice = self._config.environment_choice
        mode = self._config.policy
        return Policy(self._agent, parameters, choice, statistics, self._actor, mode)

    def _sampling(
        self, mode: Mode | None, purpose: Purpose, *numbers: int
    ) -> np.random.SeedSequence | None:
        """Return the seed for sampling actions; None if they are greedy."""
        if (mode or self._config.policy) == "greedy":
            return None
        root = self._config.seed
        return seed_sequence(root, Purpose.EVALUATION_ACTIONS, int(purpose), *numbers)

    def seeds(self, purpose: Purpose, attempt: int, count: int) -> list[int]:
        """Return the seeds of the episodes of one selection or verification."""
        root = self._config.seed
        return [
            environment_seed(seed_sequence(root, purpose, attempt, episode))
            for episode in range(count)
        ]


def _lower_bound(score: Score, level: float) -> float:
    """Lower end of a one-sided confidence interval of the mean (Student's t)."""
    if score.episodes < 2:
        return -np.inf
    quantile = student_t_quantile(score.episodes - 1, 1.0 - level)
    return score.mean - quantile * score.standard_error
