"""The judge: selects candidates on one range of seeds and verifies them on fresh ones.

A candidate whose lower 95% bound over the selection seeds reaches the target is verified on seeds
that are new at each attempt; only that figure is ever reported as a score. The evaluation is a
function of the snapshot and of how many attempts there were, so a replay repeats it.
"""

from collections.abc import Callable

import numpy as np

from poise.agent.acting import choose_acting, make_actor
from poise.agent.agent import Agent
from poise.agent.policy import ROWS, Policy
from poise.config import TrainConfig
from poise.launchers.loan import Players
from poise.learning.verdict import Score, Verdict
from poise.runs.evaluation import EpisodePlayer
from poise.runs.spending import Phase, Spending
from poise.trajectory import Snapshot
from poise.world.seeding import Purpose, environment_seed, seed_sequence
from poise.world.source import EnvironmentSource

__all__ = ["SELECTION_EPISODES", "Judge"]


SELECTION_EPISODES = 10
VERIFICATION_EPISODES = 100
"""Where no number is set, and steps are quick."""
FEWEST_VERIFIED = 3
FEWEST_SELECTED = 2
"""Where steps are slow: one would give no interval of the mean."""


class Judge:
    """Evaluates snapshots on Gymnasium's own environment.

    Args:
        agent: how to act, given parameters.
        config: seeds, number of episodes, step limit.
        target_return: what solves the environment; None if nothing does.
        source: makes copies of Gymnasium's own environment.
        alive: called between steps; may raise to give up.
        spending: what the seconds of selection and verification are noted in.
        make_room: where only one copy may be open at a time: closes those that train. Then one
            copy plays, and is closed at the end.
        thrift: steps of training for each step of a verification, at least, unless a number of
            episodes is set; 0 where steps are quick.
        players: who plays instead, as long as they are there.
    """

    def __init__(
        self,
        agent: Agent,
        config: TrainConfig,
        target_return: float | None,
        source: EnvironmentSource,
        alive: Callable[[], None] = lambda: None,
        spending: Spending | None = None,
        make_room: Callable[[], None] | None = None,
        thrift: int = 0,
        players: Callable[[], Players | None] = lambda: None,
    ) -> None:
        self._agent = agent
        self._config = config
        self._target = target_return
        self._source = source
        self._actor = make_actor(agent, choose_acting(agent, ROWS))
        self._player = EpisodePlayer(
            source.make,
            config.evaluation_step_limit,
            alive,
            config.evaluation_copies if make_room is None else 1,
            players,
        )
        self._spending = spending or Spending()
        self._make_room = make_room
        self._thrift = thrift
        self.activity = ""
        """What is under way, in words, and how far; empty where nothing is."""
        self.attempts = 0
        """Verifications so far."""
        self.solved = False
        """Whether one of them has reached the target: then no other candidate is verified."""

    def close(self) -> None:
        """Close the environments."""
        self._player.close()

    @property
    def player(self) -> EpisodePlayer:
        """What plays the episodes."""
        return self._player

    def whereabouts(self) -> str:
        """What an evaluation is doing, or did last; empty before the first."""
        return self._player.whereabouts()

    def __call__(self, snapshot: Snapshot) -> Verdict:
        """Select and, if it is worth it, verify."""
        policy = self.policy(snapshot)
        selection = self._select(policy, int(snapshot.version))
        if self.solved or self._target is None or not selection.low >= self._target:
            return Verdict(selection, None, False)
        verification = self.verify(policy, selection, int(snapshot.version))
        self.solved = self.solves(verification)
        return Verdict(selection, verification, self.solved)

    def verify(self, policy: Policy, selection: Score, version: int) -> Score:
        """Score a policy on fresh seeds, new at each attempt.

        Args:
            policy: what is scored.
            selection: its score on the seeds of selection, which says how long its episodes are.
            version: updates that have been applied so far, which says how long training took.
        """
        self.attempts += 1
        episodes = self._config.verification_episodes or self._affordable(
            selection, version, FEWEST_VERIFIED, VERIFICATION_EPISODES
        )
        seeds = self._seeds(Purpose.VERIFICATION, self.attempts, episodes)
        return self._play(policy, seeds, "verification")

    def _select(self, policy: Policy, version: int) -> Score:
        count = self._config.selection_episodes
        seeds = self._seeds(Purpose.SELECTION, 0, count or SELECTION_EPISODES)
        if count is not None or not self._thrift:
            return self._play(policy, seeds, "selection")
        # How long its episodes are, the first ones tell.
        first = self._play(policy, seeds[:FEWEST_SELECTED], "selection")
        count = self._affordable(first, version, FEWEST_SELECTED, SELECTION_EPISODES)
        if count == FEWEST_SELECTED:
            return first
        return self._play(policy, seeds[:count], "selection")

    def _affordable(self, like: Score, version: int, fewest: int, most: int) -> int:
        """How many episodes are played; fewer in a short run whose steps are slow."""
        if not self._thrift:
            return most
        trained = version * self._config.envs_per_worker * self._config.rollout_length
        affordable = trained * like.episodes // (self._thrift * max(1, like.steps))
        return min(most, max(fewest, affordable))

    def _play(self, policy: Policy, seeds: list[int], phase: Phase) -> Score:
        doing = "verifying" if phase == "verification" else "selecting"

        def done(count: int) -> None:
            self.activity = f"{doing}: {count} of {len(seeds)} episodes"

        done(0)
        try:
            self.make_room()
            with self._spending.on(phase):
                return self._player.play(policy, seeds, done=done)
        finally:
            self.activity = ""
            if self._make_room is not None:
                self._player.close()

    def make_room(self) -> None:
        """Close the copies that train, where only one may be open at a time."""
        if self._make_room is not None:
            self._make_room()

    def solves(self, verification: Score) -> bool:
        """Whether a score reaches the target return."""
        return self._target is not None and verification.mean >= self._target

    def policy(self, snapshot: Snapshot) -> Policy:
        """A frozen copy of what the snapshot does."""
        parameters = np.asarray(snapshot.parameters)
        statistics = tuple(np.asarray(one) for one in snapshot.statistics)
        choice = self._config.environment_choice
        return Policy(self._agent, parameters, choice, statistics, self._actor)

    def _seeds(self, purpose: Purpose, attempt: int, count: int) -> list[int]:
        root = self._config.seed
        return [
            environment_seed(seed_sequence(root, purpose, attempt, episode))
            for episode in range(count)
        ]
