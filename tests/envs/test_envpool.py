"""EnvPool: resets, time limits and seeds; steps by XLA agree with steps from Python."""

import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from poise.config import EnvironmentChoice
from poise.envs import envpool_ids, registry
from poise.envs.env_factory import EnvFactory, find_env_factory
from poise.envs.envpool_copies import EnvPoolCopies, make_envpool_copies, steps_in_xla
from poise.envs.envpool_ids import ADMITTED
from poise.envs.host_envs import HostEnvs
from poise.envs.preflight import check_environment
from poise.envs.registry import choose_envs
from poise.envs.reward_shaping import RewardShaping
from poise.envs.xla_envs import XlaEnvs
from poise.errors import EnvironmentCheckError, TrainingError, UnsupportedSpaceError

from .xla_rollouts import COPIES, LENGTH, ROLLOUTS, Rollouts, agree

pytest.importorskip("envpool")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = "CartPole-v1"
"""An environment with a twin, which therefore is not admitted, but needs no other package."""
in_xla = pytest.mark.skipif(not steps_in_xla(), reason="EnvPool has XLA functions on Linux only")


@pytest.fixture(autouse=True)
def small_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envpool_ids, "ADMITTED", (*ADMITTED, SMALL))


def env_factory(name: str = SMALL, **choice: Any) -> EnvFactory:
    return find_env_factory(EnvironmentChoice(name, **choice))


def copies_of(count: int = COPIES, limit: int | None = None) -> EnvPoolCopies:
    with pytest.MonkeyPatch.context() as patch:
        if limit is not None:
            patch.setattr(EnvFactory, "time_limit", lambda factory: limit)
        return make_envpool_copies(env_factory(), count)


def envs(name: str = SMALL, scale: float = 1.0) -> XlaEnvs:
    found = choose_envs(env_factory(name), "envpool", RewardShaping(scale=scale))
    assert isinstance(found, XlaEnvs)
    return found


def some_actions(seed: int, rollouts: int = ROLLOUTS) -> np.ndarray:
    shape = (rollouts, LENGTH, COPIES)
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.int32)


# --- Next-step autoreset, limits, seeds -----------------------------------------------------------


def test_the_step_after_an_end_only_resets() -> None:
    """The last observation is beyond the limits; the next one begins an episode, for reward 0."""
    copies = copies_of(1)
    copies.reset([3])
    ends = 0
    for _ in range(100):
        observation, reward, terminated, truncated = copies.step(np.ones(1, np.int32))
        assert reward.dtype == np.float64
        assert reward[0] == 1.0
        if terminated[0]:
            ends += 1
            assert abs(observation[0, 2]) > 12 * np.pi / 180
            observation, reward, terminated, truncated = copies.step(np.ones(1, np.int32))
            assert np.abs(observation).max() <= 0.05
            assert (reward[0], terminated[0], truncated[0]) == (0.0, False, False)
    assert ends > 5


def test_the_action_of_a_reset_is_ignored() -> None:
    one, other = copies_of(1), copies_of(1)
    np.testing.assert_array_equal(one.reset([4]), other.reset([4]))
    ended, ends = False, 0
    for _ in range(60):
        mine, theirs = one.step(np.ones(1, np.int32)), other.step(np.array([0 if ended else 1]))
        np.testing.assert_array_equal(mine.observation, theirs.observation)
        ends += ended
        ended = bool(mine.terminated[0])
    assert ends > 2


def test_the_time_limit_is_that_of_gymnasium() -> None:
    limit = 6
    copies = copies_of(1, limit)
    copies.reset([1])
    for _ in range(3):
        flags = [copies.step(np.array([step % 2]))[2:] for step in range(limit)]
        assert [bool(terminated[0]) for terminated, _ in flags] == [False] * limit
        assert [bool(truncated[0]) for _, truncated in flags] == [False] * (limit - 1) + [True]
        observation, *_ = copies.step(np.array([0]))
        assert np.abs(observation).max() <= 0.05


def test_every_copy_has_its_own_seed() -> None:
    copies = copies_of(3)
    first = copies.reset([1, 9, 1])
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(copies.reset([9, 1, 5])[0], first[1])


def test_observations_are_not_overwritten_by_later_steps() -> None:
    copies = copies_of()
    steps = [copies.reset([0, 1])] + [copies.step(np.array([0, 1]))[0] for _ in range(5)]
    kept = [one.copy() for one in steps]
    for _ in range(20):
        copies.step(np.array([1, 0]))
    for one, other in zip(steps, kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_threads_for_all_copies_of_a_worker() -> None:
    """One steps, the other allocates."""
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc")

    def count() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before, python_threads = count(), threading.active_count()
    copies = copies_of(9)
    copies.reset(list(range(9)))
    copies.step(np.zeros(9, np.int32))
    assert count() - before <= 2
    assert threading.active_count() == python_threads
    del copies
    assert count() == before


# --- Inside the compiled cycle --------------------------------------------------------------------


@in_xla
def test_a_rollout_agrees_with_steps_from_python() -> None:
    """Observations, rewards, flags and lengths, also across the ends of episodes and rollouts."""
    assert agree(envs(scale=0.5), [3, 8], some_actions(0)) >= COPIES


@in_xla
@pytest.mark.slow
@pytest.mark.parametrize("name", ["Hopper-v5", "LunarLander-v3", "LunarLanderContinuous-v3"])
def test_rollouts_of_admitted_environments_agree(name: str) -> None:
    """Of float64 and float32, with numbers and continuous actions."""
    pytest.importorskip("mujoco" if name == "Hopper-v5" else "Box2D")
    found = envs(name)
    generator, batch = np.random.default_rng(0), (6, LENGTH, COPIES)
    if name == "LunarLander-v3":
        actions = generator.integers(0, 4, batch).astype(np.int32)
    else:
        shape = (*batch, *(found.action_space.shape or ()))
        actions = generator.uniform(-1, 1, shape).astype(np.float32)
    assert agree(found, [3, 8], actions) >= COPIES


@in_xla
def test_one_program_steps_any_pool() -> None:
    """The handle is an argument, so each worker steps its own pool only."""
    rollouts = Rollouts(envs())
    one, other = rollouts.envs.copies(COPIES), rollouts.envs.copies(COPIES)
    first, second = rollouts.start(one, [1, 2]), rollouts.start(other, [1, 2])
    moves, others = some_actions(1), some_actions(2)
    for turn in range(ROLLOUTS):
        seen, _, first = rollouts(first, moves[turn])
        _, _, second = rollouts(second, others[turn])
    third = rollouts.start(one, [1, 2])
    for turn in range(ROLLOUTS):
        again, _, third = rollouts(third, moves[turn])
    np.testing.assert_array_equal(seen.observations, again.observations)
    assert not np.array_equal(np.asarray(first.observation), np.asarray(second.observation))


@in_xla
def test_a_pool_that_was_closed_is_not_touched() -> None:
    rollouts = Rollouts(envs())
    copies = rollouts.envs.copies(COPIES)
    state = rollouts.start(copies, [1, 2])
    _, _, state = rollouts(state, some_actions(0)[0])
    copies.close()
    for handle in (state.environment, np.zeros(8, np.uint8)):
        with pytest.raises(jax.errors.JaxRuntimeError, match="Expected 1 results"):
            rollouts(state._replace(environment=handle), some_actions(0)[1])


@in_xla
def test_threads_step_their_own_pools_at_the_same_time() -> None:
    rollouts, count, turns = Rollouts(envs()), 4, 10
    copies = [rollouts.envs.copies(COPIES) for _ in range(count)]
    states = [rollouts.start(one, [7, 8]) for one in copies]
    moves = some_actions(5, turns)
    rollouts(states[0], moves[0])
    states[0] = rollouts.start(copies[0], [7, 8])
    seen: list[list[Any]] = [[] for _ in range(count)]

    def play(number: int) -> None:
        state = states[number]
        for turn in range(turns):
            trajectory, _, state = rollouts(state, moves[turn])
            seen[number].append(trajectory.observations)

    threads = [threading.Thread(target=play, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(1, count):
        np.testing.assert_array_equal(seen[number], seen[0])


def test_a_handle_needs_a_pool() -> None:
    with pytest.raises(TrainingError, match="never been reset"):
        copies_of().handle()


@in_xla
def test_properties() -> None:
    found = envs()
    properties = found.kind, found.name, found.holds_gil, found.is_pure
    assert properties == ("envpool", SMALL, False, False)


def test_without_xla_functions_python_steps_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "steps_in_xla", lambda: False)
    found = choose_envs(env_factory(), "envpool", RewardShaping())
    assert isinstance(found, HostEnvs)
    assert found.kind == "envpool"
    assert not found.holds_gil


# --- Admission, and the check before training -----------------------------------------------------


def test_other_spaces_are_refused() -> None:
    with pytest.raises(UnsupportedSpaceError, match="observations int32"):
        make_envpool_copies(env_factory("Blackjack-v1"), 1)


def test_the_pool_is_checked_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    check_environment(env_factory(), 60.0, "envpool")

    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("no pool today")

    import envpool

    monkeypatch.setattr(envpool, "make_gymnasium", broken)
    with pytest.raises(EnvironmentCheckError, match="RuntimeError: no pool today"):
        check_environment(env_factory(), 60.0, "envpool")


@pytest.mark.slow
@pytest.mark.parametrize("name", ADMITTED)
def test_an_admitted_environment_agrees_with_gymnasiums(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In few episodes; those that it was admitted by are in ``benchmarks/results``."""
    pytest.importorskip("mujoco" if name.endswith("-v5") else "Box2D")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import envpool_admission

    evidence = envpool_admission.examine(name, episodes=25)
    assert evidence["admitted"], evidence["why"]


# --- Runs -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["serial", "threads", "processes"])
@pytest.mark.parametrize("name", ["LunarLander-v3", "Hopper-v5"])
def test_a_small_run_replays(tmp_path: Path, name: str, launcher: Any) -> None:
    import poise

    pytest.importorskip("mujoco" if name.endswith("-v5") else "Box2D")
    result = poise.train(
        name,
        run_dir=tmp_path / "run",
        launcher=launcher,
        workers=2,
        envs_per_worker=3,
        max_steps=900,
        selection_episodes=2,
        verification_episodes=2,
        evaluation_step_limit=40,
    )
    config = (result.folder / "config.json").read_text()
    assert '"world": "envpool"' in config
    assert '"world_package": "envpool' in config
    report = poise.replay(result.folder)
    assert report.updates == result.summary["updates"]
