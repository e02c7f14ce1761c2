"""Selection episodes in a compiled twin."""

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import poise
import poise.errors
from poise.agent.policy import Policy
from poise.config import TrainConfig
from poise.envs import registry
from poise.envs.jax_envs import Draws, JaxEnvs
from poise.envs.seeding import key_data, typed_key
from poise.envs.twins import CartPole
from poise.evaluation.selection_player import warn_if_different
from poise.evaluation.twin_player import TwinPlayer
from poise.learning.compiler import Compiler
from poise.learning.evaluation_result import Score
from poise.storage.config_digest import sealed
from poise.training import train as train_module
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.measured_traits import MeasuredTraits
from poise.trajectory import Snapshot

from ..small import rows, summary, train

SEEDS = [np.random.SeedSequence(0, spawn_key=(number,)) for number in range(6)]


@pytest.fixture(scope="module")
def components() -> RunComponents:
    return build_components(TrainConfig("CartPole-v1", hidden_sizes=(8,)))


@pytest.fixture(scope="module")
def player(components: RunComponents) -> TwinPlayer:
    assert isinstance(components.envs, JaxEnvs)
    return TwinPlayer(components.agent, components.envs, Compiler({}))


def snapshots(components: RunComponents) -> list[Snapshot]:
    """Random policies, of which some balance the pole for a while."""
    size = components.agent.layout.size
    return [
        Snapshot(np.int32(0), np.random.default_rng(seed).normal(size=size).astype(np.float32))
        for seed in range(5)
    ]


def nothing() -> None:
    pass


def literally(components: RunComponents, snapshot: Snapshot, limit: int) -> list[tuple[Any, ...]]:
    """Play each episode alone, step by step: its return, length, and whether it was cut."""
    envs: Any = components.envs
    step = jax.jit(envs.step)
    policy = Policy(components.agent, snapshot.parameters, components.config.environment_choice)
    played = []
    for seed in SEEDS:
        keys = typed_key(jnp.asarray(key_data(seed)))[None]
        environment, observation = envs.start(keys)
        fresh, total, length, done = (environment, observation), 0.0, 0, False
        while not done and length < limit:
            action = policy.act(np.asarray(observation)[0], greedy=True)
            length += 1
            environment, result = step(
                environment,
                jnp.asarray([action]),
                jnp.asarray([False]),
                jnp.asarray([length]),
                Draws(fresh, keys),
            )
            observation = result.observation
            total += float(result.reward[0])
            done = bool(result.terminated[0] | result.truncated[0])
        played.append((total, length, not done))
    return played


def test_it_plays_what_single_episodes_come_to(
    components: RunComponents, player: TwinPlayer
) -> None:
    for snapshot in snapshots(components)[:2]:
        expected = literally(components, snapshot, 60)
        found = player.play(snapshot, [(SEEDS, None)], 60, nothing)
        returns = [total for total, _, _ in expected]
        assert found.mean == pytest.approx(np.mean(returns))
        assert (found.minimum, found.maximum) == (min(returns), max(returns))
        assert found.steps == sum(length for _, length, _ in expected)
        assert found.cut == sum(cut for _, _, cut in expected)
        assert (found.episodes, found.greedy) == (len(SEEDS), True)


def test_batches_are_scored_together(components: RunComponents, player: TwinPlayer) -> None:
    snapshot = snapshots(components)[0]
    batches = [(SEEDS, None), (SEEDS[::-1], None)]
    one, other = (player.play(snapshot, [batch], 60, nothing) for batch in batches)
    both = player.play(snapshot, batches, 60, nothing)
    assert both.mean == pytest.approx((one.mean + other.mean) / 2)
    assert both.episodes == 2 * len(SEEDS)
    assert (both.steps, both.cut) == (one.steps + other.steps, one.cut + other.cut)


def test_an_episode_ends_at_the_time_limit_and_is_then_not_cut(components: RunComponents) -> None:
    assert isinstance(components.envs, JaxEnvs)
    short = dataclasses.replace(components.envs, max_episode_steps=5)
    player, snapshot = TwinPlayer(components.agent, short, Compiler({})), snapshots(components)[0]
    score = player.play(snapshot, [(SEEDS, None)], 9, nothing)
    assert (score.mean, score.cut, score.steps) == (5.0, 0, 30)
    cut = player.play(snapshot, [(SEEDS, None)], 4, nothing)
    assert (cut.mean, cut.cut, cut.steps) == (4.0, len(SEEDS), 24)


def test_sampled_actions_depend_on_their_seed_only(
    components: RunComponents, player: TwinPlayer
) -> None:
    snapshot = snapshots(components)[1]
    seeds = (*SEEDS[:3], SEEDS[0])
    scores = [player.play(snapshot, [(SEEDS, seed)], 200, nothing) for seed in seeds]
    assert scores[0] == scores[3]
    assert len({one.mean for one in scores}) > 1
    assert not scores[0].greedy


def score(mean: float, deviation: float, episodes: int) -> Score:
    error = deviation / math.sqrt(episodes)
    low, high = mean - 2 * error, mean + 2 * error
    return Score(mean, error, low, high, low, high, episodes, True, 0, 1)


@pytest.mark.parametrize(
    ("selection", "verification", "expected"),
    [
        # Ten lucky episodes of a policy that fails in one of fifty.
        ((500.0, 0.0, 10), (492.0, 56.0, 100), False),
        ((500.0, 0.0, 10), (300.0, 56.0, 100), True),
        ((100.0, 30.0, 10), (130.0, 30.0, 100), False),
        ((100.0, 30.0, 10), (150.0, 30.0, 100), True),
        ((-150.00001, 0.0, 10), (-150.0, 0.0, 100), False),
        ((0.0, 0.0, 10), (0.0, 0.0, 100), False),
        # Three episodes may all be alike by chance.
        ((199.0, 3.0, 3), (225.0, 8.0, 4), False),
    ],
)
def test_scores_that_differ_by_more_than_chance_are_reported(
    selection: Any, verification: Any, expected: bool
) -> None:
    expecting = pytest.warns(RuntimeWarning, match="the compiled twin of CartPole-v1 differs")
    with expecting if expected else contextlib.nullcontext():
        place = "the compiled twin of CartPole-v1"
        warn_if_different(score(*selection), score(*verification), place)


class Stingy(CartPole):
    """A twin that pays a tenth of the reward."""

    def reward(self, *arguments: Any, **named: Any) -> Any:
        return 0.1 * super().reward(*arguments, **named)


def test_a_run_selects_in_the_twin_and_verifies_in_the_environment(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "TWINS", {**registry.TWINS, "CartPole-v1": Stingy})
        with pytest.warns(RuntimeWarning, match="the compiled twin of CartPole-v1 differs"):
            train(tmp_path / "run", max_steps=300, selection_episodes=10, verification_episodes=100)
        poise.replay(tmp_path / "run")
    last = rows(tmp_path / "run", "evaluation")[-1]
    assert last["selection"]["mean"] < summary(tmp_path / "run")["evaluation"]["mean"] / 5


def test_a_candidate_that_was_lucky_is_not_verified(tmp_path: Path) -> None:
    """Its mean over many further episodes in the twin is what counts."""
    chosen = {"selection_episodes": 2, "verification_episodes": 100, "max_steps": 3000}
    chosen |= {"target_return": 110.0, "evaluation_interval": 200, "stop_when_solved": False}
    train(tmp_path / "run", **chosen)
    poise.replay(tmp_path / "run")
    found = rows(tmp_path / "run", "evaluation")
    checked = [row for row in found if row["selection"]["episodes"] == 100]
    refused = [row for row in checked if row["selection"]["mean"] < 110]
    assert refused
    assert all(row["verification"] is None for row in refused)
    assert all(row["selection"]["mean"] >= 110 for row in found if row["verification"])


@pytest.mark.slow
def test_a_run_from_before_there_were_checks_is_replayed_without(tmp_path: Path) -> None:
    config = tmp_path / "run/config.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeasuredTraits, "_replace", as_before)
        train(tmp_path / "run", target_return=20.0)
    content = json.loads(config.read_text())
    assert content["resolved"].pop("checks_in_twin") is False
    config.write_text(json.dumps(sealed(content)))
    poise.replay(tmp_path / "run")


def as_before(self: MeasuredTraits, **chosen: Any) -> MeasuredTraits:
    """Replace traits as runs did that had no checks."""
    return MeasuredTraits(**{**self._asdict(), **chosen, "checks_in_twin": False})


@pytest.mark.slow
def test_a_run_that_selected_in_the_environment_is_replayed_there(tmp_path: Path) -> None:
    """As runs did before there were selections in twins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "JaxEnvs", ())
        train(tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["resolved"]["selects_in_twin"] is False
    poise.replay(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            MeasuredTraits, "recorded", lambda resolved: MeasuredTraits(selects_in_twin=True)
        )
        with pytest.raises(poise.errors.ReplayMismatchError):
            poise.replay(tmp_path / "run")
