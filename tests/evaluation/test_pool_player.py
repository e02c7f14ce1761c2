"""Selection in EnvPool: its scores are those of episodes played alone; runs verify elsewhere."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poise
from poise.config import TrainConfig
from poise.envs import envpool_ids
from poise.envs.env_factory import find_env_factory
from poise.envs.envpool_copies import make_envpool_copies
from poise.envs.seeding import environment_seed
from poise.evaluation import pool_player
from poise.evaluation.pool_player import PoolPlayer
from poise.learning.evaluation_result import Score
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.measured_traits import MeasuredTraits
from poise.trajectory import Snapshot

from ..small import rows, summary, train

pytest.importorskip("envpool")

SEEDS = [np.random.SeedSequence(number) for number in range(6)]


@pytest.fixture(autouse=True)
def cartpole_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with a twin, which therefore is not admitted, but needs no other package."""
    monkeypatch.setattr(envpool_ids, "ADMITTED", (*envpool_ids.ADMITTED, "CartPole-v1"))


@pytest.fixture(scope="module")
def components() -> RunComponents:
    config = TrainConfig("CartPole-v1", world="copies")
    return build_components(config, find_env_factory(config.environment_choice))


def snapshot(components: RunComponents, seed: int) -> Snapshot:
    size = components.agent.layout.size
    return Snapshot(np.int32(0), np.random.default_rng(seed).normal(size=size).astype(np.float32))


def play(components: RunComponents, seed: int, batches: list[Any], limit: int) -> Score:
    player = PoolPlayer(components.agent, components.env_factory, len(SEEDS))
    return player.play(snapshot(components, seed), batches, limit, lambda: None)


def literally(components: RunComponents, seed: int, limit: int) -> list[tuple[float, int, bool]]:
    """Play each episode alone in a pool of one: its return, length, and whether it was cut."""
    parameters = snapshot(components, seed).parameters
    policy = poise.Policy(components.agent, parameters, components.config.environment_choice)
    played = []
    for one in SEEDS:
        copies = make_envpool_copies(components.env_factory, 1)
        observation, total, length, done = copies.reset([environment_seed(one)]), 0.0, 0, False
        while not done and length < limit:
            action = policy.act(observation[0], greedy=True)
            result = copies.step(np.asarray([action]))
            observation = result.observation
            total, length = total + float(result.reward[0]), length + 1
            done = bool(result.terminated[0] | result.truncated[0])
        played.append((total, length, not done))
    return played


@pytest.mark.parametrize("seed", range(3))
def test_it_plays_what_single_episodes_come_to(components: RunComponents, seed: int) -> None:
    expected = literally(components, seed, 60)
    found = play(components, seed, [(SEEDS, None)], 60)
    returns = [total for total, _, _ in expected]
    assert found.mean == pytest.approx(np.mean(returns))
    assert (found.minimum, found.maximum) == (min(returns), max(returns))
    assert found.steps == sum(length for _, length, _ in expected)
    assert found.cut == sum(cut for _, _, cut in expected)
    assert (found.episodes, found.greedy) == (len(SEEDS), True)


def test_no_more_copies_than_allowed_are_open(
    components: RunComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def make(env_factory: Any, count: int, **named: Any) -> Any:
        counts.append(count)
        return make_envpool_copies(env_factory, count, **named)

    expected = play(components, 1, [(SEEDS, None)], 60)
    monkeypatch.setattr(pool_player, "make_envpool_copies", make)
    player = PoolPlayer(components.agent, components.env_factory, 4)
    assert player.play(snapshot(components, 1), [(SEEDS, None)], 60, lambda: None) == expected
    assert counts == [4, 2]


def test_batches_are_scored_together(components: RunComponents) -> None:
    batches = [(SEEDS, None), (SEEDS[::-1][:3] + SEEDS[:3], None)]
    one, other = (play(components, 1, [batch], 60) for batch in batches)
    both = play(components, 1, batches, 60)
    assert both.mean == pytest.approx((one.mean + other.mean) / 2)
    assert (both.episodes, both.steps) == (2 * len(SEEDS), one.steps + other.steps)


def test_sampled_actions_depend_on_their_seed_only(components: RunComponents) -> None:
    uncertain = snapshot(components, 1)
    uncertain = uncertain._replace(parameters=uncertain.parameters / 10)
    player = PoolPlayer(components.agent, components.env_factory, len(SEEDS))
    batches = [[(SEEDS, seed)] for seed in (*SEEDS[:3], SEEDS[0])]
    scores = [player.play(uncertain, batch, 200, lambda: None) for batch in batches]
    assert scores[0] == scores[3]
    assert len({one.mean for one in scores}) > 1
    assert not scores[0].greedy


def test_an_abort_arrives_between_steps(components: RunComponents) -> None:
    player, beats = PoolPlayer(components.agent, components.env_factory, len(SEEDS)), []

    def beat() -> None:
        beats.append(None)
        if len(beats) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        player.play(snapshot(components, 0), [(SEEDS, None)], 60, beat)


class Stingy:
    """Copies that pay a tenth of the reward."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._copies = make_envpool_copies(*arguments, **named)
        self.reset, self.close = self._copies.reset, self._copies.close

    def step(self, actions: Any) -> Any:
        result = self._copies.step(actions)
        return result._replace(reward=0.1 * result.reward)


def test_a_run_selects_there_and_verifies_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_player, "make_envpool_copies", Stingy)
    with pytest.warns(RuntimeWarning, match="EnvPool's CartPole-v1 differs from Gymnasium's own"):
        train(
            tmp_path / "run",
            world="envpool",
            max_steps=300,
            selection_episodes=10,
            verification_episodes=100,
        )
    poise.replay(tmp_path / "run")
    last = rows(tmp_path / "run", "evaluation")[-1]
    # An episode of CartPole has at least 8 steps.
    assert last["selection"]["mean"] < 8 < summary(tmp_path / "run")["evaluation"]["mean"]


def test_only_runs_in_envpool_select_there(components: RunComponents) -> None:
    assert components.selection_player is None
    chosen = dataclasses.replace(components, measured=MeasuredTraits(selects_in_envpool=True))
    assert isinstance(chosen.selection_player, PoolPlayer)
    assert chosen.measured.checks_selections
    assert not chosen.placement.evaluates_freely
