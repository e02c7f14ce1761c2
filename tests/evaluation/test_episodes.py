"""Evaluation: the statistics of a score, and the episodes that it consists of."""

import functools
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
import scipy.stats
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

import poise
from poise.agent.policy import Policy
from poise.config import EnvironmentChoice, TrainConfig
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.errors import ConfigError
from poise.evaluation import episodes
from poise.evaluation.api import copies_share_state
from poise.evaluation.episodes import EpisodePlayer, score, student_t_quantile
from poise.evaluation.lanes import DecidedActions
from poise.launchers.evaluation_helpers import Task
from poise.learning.evaluation_result import Episode, Score
from poise.training.assembly import build_components

from ..environments import ACTION_SPACES, OBSERVATION_SPACES, Toy

LIMIT = 10_000
HIGH = np.array([4.8, np.inf, 0.41887903, np.inf], np.float32)


class Crosstalk(Toy):
    """The reward is the number of steps of all copies since the last reset; not reproducible."""

    steps = 0

    def __init__(self) -> None:
        super().__init__(spaces.Box(-HIGH, HIGH), spaces.Discrete(2))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        Crosstalk.steps = 0
        return super().reset()

    def step(self, action: Any) -> Any:
        Crosstalk.steps += 1
        observation, _, *rest = super().step(action)
        return observation, float(Crosstalk.steps), *rest


class Scripted(gymnasium.Env[Any, Any]):
    """The seed is the length of an episode, and says how it ends; each step is rewarded by 0.5."""

    observation_space = spaces.Box(-HIGH, HIGH)
    action_space = spaces.Discrete(2)

    def __init__(self, log: "Log") -> None:
        self._log = log
        self._log.made += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self._seed, self._step = seed, 0
        self._log.seeds.append(seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self._step < self._seed, "a step behind the end"
        assert self.action_space.contains(action)
        self._step += 1
        ended = self._step == self._seed
        terminated, truncated = ended and self._seed % 2 == 0, ended and self._seed % 2 == 1
        return np.zeros(4, np.float32), 0.5, terminated, truncated, {}

    def close(self) -> None:
        self._log.closed += 1


class Echo(Toy):
    """Rewards depend on every bit of the actions, so that a single changed bit shows."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        outcome = super().reset(seed=seed)
        self.left += 10
        return outcome

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, *rest = super().step(action)
        numbers = [np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(action)]
        return observation, reward + float(np.concatenate(numbers).sum()), *rest  # type: ignore[return-value]


class Others:
    """Players that return given results."""

    def __init__(self, log: "Log", found: dict[int, Episode]) -> None:
        self._log = log
        self.found = found
        self.open: list[int] = []
        self.tasks: list[Task] = []

    def are_there(self) -> bool:
        return True

    def play(
        self, task: Task, alive: Callable[[], None], done: Callable[[int], None]
    ) -> dict[int, Episode]:
        alive()
        self.tasks.append(task)
        self.open.append(self._log.made - self._log.closed)
        done(len(self.found))
        return dict(self.found)


class Log:
    def __init__(self) -> None:
        self.made = self.closed = self.alive = 0
        self.seeds: list[int] = []

    def make(self) -> Scripted:
        return Scripted(self)

    def live(self) -> None:
        self.alive += 1


@pytest.fixture(scope="session")
def policy(serial_run: Path) -> Policy:
    return poise.load(serial_run)


class TestScore:
    @given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=40))
    def test_against_numpy_and_scipy(self, values: list[float]):
        returns = np.array(values)
        found = score(returns, np.arange(len(values)), greedy=True, cut=3)
        assert found.mean == np.mean(returns)
        assert found.standard_error == pytest.approx(scipy.stats.sem(returns), abs=1e-12)
        margin = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(returns)
        assert found.low == pytest.approx(np.mean(returns) - margin, abs=5e-4 * margin + 1e-9)
        assert found.high == pytest.approx(np.mean(returns) + margin, abs=5e-4 * margin + 1e-9)
        assert (found.minimum, found.maximum) == (min(values), max(values))
        assert (found.episodes, found.greedy, found.cut) == (len(values), True, 3)
        assert found.steps == sum(range(len(values)))

    def test_one_episode_has_no_error_and_no_bound(self):
        found = score(np.array([7.0]), np.array([7]), greedy=False, cut=0)
        assert found.mean == 7.0
        assert math.isnan(found.standard_error)
        assert (found.low, found.high) == (-math.inf, math.inf)

    @pytest.mark.parametrize("freedom", [*range(1, 40), 99, 199, 999, 9999])
    def test_the_quantile(self, freedom: int):
        expected = scipy.stats.t.ppf(0.975, freedom)
        assert student_t_quantile(freedom) == pytest.approx(expected, abs=5e-4)


class TestPlayer:
    @pytest.mark.parametrize("count", [1, 7, 130])
    def test_one_episode_for_every_seed_and_none_dropped(self, policy: Policy, count: int):
        """Long and short episodes alike; the first ones to finish are not favoured."""
        log = Log()
        player = EpisodePlayer(log.make, LIMIT, log.live)
        seeds = list(np.random.default_rng(count).permutation(count) + 1)
        found = player.play(policy, [int(seed) for seed in seeds])
        assert log.seeds == seeds
        assert found.episodes == count
        assert found.steps == sum(seeds)
        assert found.mean == pytest.approx(0.5 * np.mean(seeds))
        assert (found.minimum, found.maximum) == (0.5, 0.5 * count)
        assert (found.cut, found.greedy) == (0, True)
        assert log.alive >= max(seeds)
        player.close()
        assert log.closed == log.made <= count

    def test_episodes_without_an_end_are_cut_and_counted(self, policy: Policy):
        log = Log()
        found = EpisodePlayer(log.make, 10).play(policy, [3, 9, 10, 11, 500])
        # The tenth step ends an episode of ten steps; only the longer ones are cut.
        assert found.cut == 2
        assert found.steps == 3 + 9 + 10 + 10 + 10
        assert found.maximum == 5.0

    def test_copies_are_used_again(self, policy: Policy):
        log = Log()
        player = EpisodePlayer(log.make, LIMIT)
        for _ in range(3):
            player.play(policy, [1, 2, 3])
        assert log.made == 3
        player.close()
        player.close()
        assert log.closed == 3

    def test_no_more_copies_than_were_allowed_and_the_free_one_takes_the_next(self, policy: Policy):
        log = Log()
        player = EpisodePlayer(log.make, LIMIT, copies=2)
        found = player.play(policy, [9, 1, 2, 3, 4])
        assert (log.made, log.seeds, found.steps) == (2, [9, 1, 2, 3, 4], 19)

    def test_if_making_a_copy_is_slow_the_first_one_plays_all_episodes(
        self, policy: Policy, monkeypatch: pytest.MonkeyPatch
    ):
        log = Log()
        monkeypatch.setattr(episodes, "MAKING_SECONDS", -1.0)
        found = EpisodePlayer(log.make, LIMIT, copies=100).play(policy, [9, 1, 2, 3, 4])
        assert (log.made, found.episodes, found.steps) == (1, 5, 19)

    @pytest.mark.parametrize(
        "sampling", [None, pytest.param(np.random.SeedSequence(5), marks=pytest.mark.slow)]
    )
    @pytest.mark.parametrize("name", [pytest.param("vector", marks=pytest.mark.slow), "everything"])
    def test_the_returns_are_the_same_for_any_number_of_copies(self, name: str, sampling: Any):
        """Rewards are sums of continuous actions, so that one changed bit would show."""
        space = OBSERVATION_SPACES[name]

        def make() -> Toy:
            return Echo(space, ACTION_SPACES["nested"])

        env_factory = find_env_factory(EnvironmentChoice("tests.environments:Toy"), make)
        components = build_components(
            TrainConfig("tests.environments:Toy", hidden_sizes=(33,)), env_factory
        )
        acting = components.evaluator().policy(components.first_snapshot())
        seeds = list(range(40, 53))
        scores = []
        for copies in (1, 3, 11, 100):
            player = EpisodePlayer(make, LIMIT, copies=copies)
            scores.append(player.episodes(acting, seeds, sampling))
            player.close()
        assert all(one == scores[0] for one in scores)

    def test_the_returns_do_not_depend_on_who_plays_which_share(self, policy: Policy):
        """Actions are sampled; the noise of an episode depends on its number."""
        sampling, seeds = np.random.SeedSequence(7), list(range(30, 41))
        whole = EpisodePlayer(lambda: gymnasium.make("CartPole-v1"), 60)
        alone = whole.episodes(policy, seeds, sampling)
        found: dict[int, Episode] = {}
        for share, copies in ((range(0, 11, 2), 4), (range(9, 0, -2), 1)):
            player = EpisodePlayer(lambda: gymnasium.make("CartPole-v1"), 60, copies=copies)
            assert player.provide(100) == copies
            waiting = iter([(number, seeds[number]) for number in share])
            player.take_turns(
                policy, functools.partial(next, waiting, None), found.__setitem__, sampling
            )
        assert [found[number] for number in range(11)] == alone

    def test_episodes_that_others_have_not_played_are_played_here(self, policy: Policy):
        """For example, if the workers died; no copy is open here while they play."""
        seeds = [9, 1, 2, 3, 4]
        log = Log()
        others = Others(log, {0: Episode(-1.0, 9, False), 2: Episode(-2.0, 2, False)})
        player = EpisodePlayer(log.make, LIMIT, log.live, players=lambda: others)
        counts: list[int] = []
        found = player.play(policy, seeds, done=counts.append)
        assert log.seeds == [1, 3, 4]
        assert found.minimum == -2.0
        assert found.steps == sum(seeds)
        assert counts == [2, 3, 4, 5]
        others.found = dict(enumerate([Episode(1.0, 1, False)] * 5))
        player.play(policy, seeds)
        assert (others.open, log.made) == ([0, 0], 3)
        [snapshot] = {id(task.snapshot.parameters) for task in others.tasks}
        assert snapshot == id(policy.parameters)

    def test_rows_that_change_one_another_are_decided_alone(
        self, policy: Policy, monkeypatch: pytest.MonkeyPatch
    ):
        seeds = [11, 12, 13]
        player = EpisodePlayer(lambda: gymnasium.make("CartPole-v1"), LIMIT)
        together = player.episodes(policy, seeds)
        monkeypatch.setattr(DecidedActions, "is_steady", lambda *_: False)
        sizes = set()
        decide = policy.decide

        def note(batch: Any, *rest: Any) -> Any:
            sizes.add(len(batch))
            return decide(batch, *rest)

        monkeypatch.setattr(policy, "decide", note)
        assert player.episodes(policy, seeds) == together
        assert sizes == {1}

    def test_decisions_do_not_depend_on_the_other_episodes_in_the_batch(
        self, policy: Policy, monkeypatch: pytest.MonkeyPatch
    ):
        """If only some first observations show that rows change one another."""
        steady = DecidedActions.is_steady
        alone = {12, 14}
        asked: list[int] = []

        def some(self: DecidedActions, row: int) -> bool:
            seed = self.lanes[row].copy.seed
            assert seed is not None
            asked.append(seed)
            return seed not in alone and steady(self, row)

        rows: dict[int, int] = {}
        decide = policy.decide

        def count(batch: Any, *rest: Any) -> Any:
            rows[len(batch)] = rows.get(len(batch), 0) + 1
            return decide(batch, *rest)

        monkeypatch.setattr(DecidedActions, "is_steady", some)
        monkeypatch.setattr(policy, "decide", count)
        lengths = {}
        for copies in (1, 5):
            rows.clear()
            player = EpisodePlayer(lambda: gymnasium.make("CartPole-v1"), LIMIT, copies=copies)
            episodes = player.episodes(policy, [11, 12, 13, 14, 15])
            lengths[copies] = [one.length for one in episodes]
            assert rows[1] == episodes[1].length + episodes[3].length
        assert lengths[1] == lengths[5]
        assert sorted(asked) == sorted([11, 12, 13, 14, 15] * 2)

    def test_an_abort(self, policy: Policy):
        class AbortedError(Exception):
            pass

        def alive() -> None:
            raise AbortedError

        with pytest.raises(AbortedError):
            EpisodePlayer(Log().make, LIMIT, alive).play(policy, [1])

    def test_many_copies_act_as_one_would(self, policy: Policy):
        """Compare batched evaluation with a plain loop over Gymnasium's own environment."""
        seeds = [11, 12, 13, 14, 15]
        returns = []
        for seed in seeds:
            environment, player, total = gymnasium.make("CartPole-v1"), policy.player(), 0.0
            observation, _ = environment.reset(seed=seed)
            ended = False
            while not ended:
                action = player.act(observation)
                observation, reward, terminated, truncated, _ = environment.step(action)
                total, ended = total + float(reward), terminated or truncated
            returns.append(total)
            environment.close()
        player = EpisodePlayer(lambda: gymnasium.make("CartPole-v1"), LIMIT)
        found = player.play(policy, seeds)
        player.close()
        assert found.mean == np.mean(returns)
        assert (found.minimum, found.maximum) == (min(returns), max(returns))


def random_score(make: Any, seeds: list[int], limit: int) -> Score:
    player = EpisodePlayer(make, limit)
    try:
        return player.play_at_random(seeds)
    finally:
        player.close()


class TestRandom:
    def test_one_episode_for_every_seed(self):
        log = Log()
        found = random_score(log.make, [5, 2, 3], LIMIT)
        assert log.seeds == [5, 2, 3]
        assert (log.made, log.closed) == (1, 1)
        assert found.steps == 10
        assert found.mean == pytest.approx(0.5 * 10 / 3)
        assert found.greedy is False

    def test_cut(self):
        found = random_score(Log().make, [5, 20, 30], 10)
        assert (found.cut, found.steps) == (2, 25)

    def test_no_episode_counts_beyond_the_budget(self):
        log = Log()
        player = EpisodePlayer(log.make, LIMIT)
        assert player.play_at_random([5, 2, 3, 8], step_budget=7).steps == 7
        assert log.seeds == [5, 2]
        assert player.play_at_random([5, 2], step_budget=0).episodes == 1

    @pytest.mark.parametrize("played", [(0, 1, 3), (0, 2), (2,), ()])
    def test_the_score_does_not_depend_on_who_plays_which_episode(self, played: tuple[int, ...]):
        """Even if others have played more episodes than count, or not all that count."""
        seeds = [5, 2, 3, 8]
        log = Log()
        others = Others(log, {n: Episode(0.5 * seeds[n], seeds[n], False) for n in played})
        player = EpisodePlayer(log.make, LIMIT, players=lambda: others)
        found = player.play_at_random(seeds, step_budget=8)
        assert found == EpisodePlayer(Log().make, LIMIT).play_at_random(seeds, step_budget=8)
        assert (found.episodes, found.steps) == (3, 10)
        assert log.seeds == [seeds[n] for n in range(3) if n not in played]
        assert others.tasks[0].snapshot is None

    def test_actions_are_not_the_environment_s_own_draws(self):
        """Both use the same seed: if the draws were equal, random play would not be random."""

        class Guess(gymnasium.Env[Any, Any]):
            observation_space = spaces.Discrete(1)
            action_space = spaces.Discrete(2)

            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                super().reset(seed=seed)
                self.hidden = deepcopy(self.action_space)
                self.hidden.seed(seed)
                self.left = 40
                return 0, {}

            def step(self, action: Any) -> Any:
                self.left -= 1
                return 0, float(action == self.hidden.sample()), False, self.left == 0, {}

        found = random_score(Guess, list(range(100)), LIMIT)
        assert found.mean == pytest.approx(20, abs=1.5)

    @pytest.mark.slow
    def test_the_known_baseline(self):
        found = poise.random_baseline("CartPole-v1", episodes=300)
        assert found.low < 22.3 < found.high or found.mean == pytest.approx(22.3, abs=1.0)
        few = poise.random_baseline("CartPole-v1", episodes=50)
        assert few == poise.random_baseline("CartPole-v1", episodes=50)
        assert few != poise.random_baseline("CartPole-v1", episodes=50, seed=1)


class TestEvaluate:
    def test_the_same_for_a_folder_a_file_and_a_policy(self, serial_run: Path, policy: Policy):
        found = poise.evaluate(policy, episodes=5)
        assert found == poise.evaluate(serial_run, episodes=5)
        assert found == poise.evaluate(serial_run / "best.safetensors", episodes=5)
        assert found == poise.evaluate(str(serial_run), episodes=5)
        assert found != poise.evaluate(policy, episodes=5, seed=1)

    def test_best_and_final(self, serial_run: Path):
        final = poise.evaluate(serial_run, episodes=5, which="final")
        assert final == poise.evaluate(poise.load(serial_run, which="final"), episodes=5)

    def test_sampled_actions(self, policy: Policy):
        found = poise.evaluate(policy, episodes=8, greedy=False)
        assert found.greedy is False
        assert found == poise.evaluate(policy, episodes=8, greedy=False)
        assert found != poise.evaluate(policy, episodes=8)._replace(greedy=False)

    @pytest.mark.parametrize("greedy", [True, False])
    def test_any_number_of_copies(self, policy: Policy, greedy: bool):
        found = [
            poise.evaluate(policy, episodes=5, greedy=greedy, copies=copies) for copies in (1, 3, 8)
        ]
        assert found[0] == found[1] == found[2]
        with pytest.raises(ConfigError, match="copies is 0"):
            poise.evaluate(policy, copies=0)

    def test_the_step_limit(self, policy: Policy):
        found = poise.evaluate(policy, episodes=4, step_limit=3)
        assert (found.cut, found.steps, found.mean) == (4, 12, 3.0)

    @pytest.mark.parametrize(
        "bad",
        [{"episodes": 0}, {"episodes": 10**9}, {"step_limit": 0}, {"seed": -1}, {"seed": 2**63}],
    )
    @pytest.mark.parametrize("ask", [poise.evaluate, poise.random_baseline])
    def test_impossible_numbers(self, policy: Policy, ask: Callable[..., Any], bad: dict[str, int]):
        subject: Any = policy if ask is poise.evaluate else "CartPole-v1"
        with pytest.raises(ConfigError, match=next(iter(bad))):
            ask(subject, **bad)


def test_copies_that_share_state_are_evaluated_in_one(serial_run: Path) -> None:
    """With one copy, an episode of n steps returns 1 + 2 + ... + n; a second copy changes that."""
    policy = poise.load(serial_run)
    made: list[Crosstalk] = []

    def make() -> Crosstalk:
        made.append(Crosstalk())
        return made[-1]

    player = EpisodePlayer(make, LIMIT, copies=4, alone=lambda: copies_share_state(env_factory))
    env_factory = EnvFactory("toy", Crosstalk)
    try:
        episodes = player.episodes(policy, list(range(12)))
    finally:
        player.close()
    assert [one.total for one in episodes] == [
        one.length * (one.length + 1) / 2 for one in episodes
    ]
    assert len(made) == 1


@pytest.mark.parametrize(("shares", "copies"), [(True, 1), (False, 3)])
def test_shared_state_is_checked_before_a_second_copy_is_made(
    serial_run: Path, monkeypatch: pytest.MonkeyPatch, shares: bool, copies: int
) -> None:
    made: list[Crosstalk] = []

    def make() -> Crosstalk:
        made.append(Crosstalk())
        return made[-1]

    def share(env_factory: EnvFactory) -> bool:
        assert len(made) == 1
        return shares

    monkeypatch.setattr("poise.evaluation.api.copies_share_state", share)
    poise.evaluate(serial_run, episodes=5, copies=3, environment=make)
    assert len(made) == copies
