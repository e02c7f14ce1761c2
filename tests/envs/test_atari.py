"""Atari: ale-py's vector environment agrees with Gymnasium's wrappers, step by step."""

import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from poise.config import EnvironmentChoice
from poise.envs.env_factory import find_env_factory
from poise.envs.host_envs import HostEnvs
from poise.envs.registry import choose_envs, env_backend
from poise.envs.reward_shaping import RewardShaping
from poise.errors import ConfigError

pytest.importorskip("ale_py")
pytest.importorskip("cv2")

from poise.envs import atari

SHAPE = (4, 84, 84)
SPACE = gymnasium.spaces.Box(0, 255, SHAPE, np.uint8)
STEPS = 400


def env_factory(name: str = "ALE/Pong-v5", **choice: Any) -> Any:
    return find_env_factory(EnvironmentChoice(name, **choice))


def both(name: str, **settings: Any) -> tuple[Any, Any]:
    plain = atari.make_atari(name, 0.0, {}, **settings)
    copies = atari.make_atari_copies(name, 0.0, 1, plain.observation_space, **settings)
    return plain, copies


@pytest.mark.parametrize(
    "name", ["ALE/Pong-v5", pytest.param("ALE/Breakout-v5", marks=pytest.mark.slow)]
)
def test_copies_agree_with_gymnasiums_wrappers(name: str) -> None:
    """Frames, rewards and flags agree, also across ends of games, with next-step autoreset."""
    plain, copies = both(name, max_no_ops=0)
    expected, _ = plain.reset(seed=3)
    np.testing.assert_array_equal(copies.reset([3])[0], expected)
    actions = np.random.default_rng(0).integers(0, plain.action_space.n, STEPS)
    must_reset, seen = False, set()
    for step, action in enumerate(actions):
        observations, rewards, terminated, truncated = copies.step(np.array([action]))
        if must_reset:
            (expected, _), flags = plain.reset(), (0.0, False, False)
        else:
            expected, *flags, _ = plain.step(int(action))
        where = f"step {step}"
        np.testing.assert_array_equal(observations[0], expected, err_msg=where)
        assert (rewards[0], terminated[0], truncated[0]) == tuple(flags), where
        must_reset = bool(terminated[0] or truncated[0])
        seen.add(float(rewards[0]))
    plain.close()
    copies.close()
    assert len(seen) > 1


def test_games_end_and_restart_alike() -> None:
    """A badly played game of Breakout: five lives are one episode."""
    plain, copies = both("ALE/Breakout-v5", max_no_ops=0)
    plain.reset(seed=3)
    copies.reset([3])
    generator = np.random.default_rng(1)
    ends = 0
    for _ in range(500):
        action = int(generator.integers(0, 4))
        observations, rewards, terminated, truncated = copies.step(np.array([action]))
        expected, reward, is_terminated, is_truncated, _ = plain.step(action)
        assert (rewards[0], terminated[0], truncated[0]) == (reward, is_terminated, is_truncated)
        if terminated[0] or truncated[0]:
            ends += 1
            np.testing.assert_array_equal(observations[0], expected)
            expected, _ = plain.reset()
            observations, rewards, terminated, truncated = copies.step(np.array([action]))
            np.testing.assert_array_equal(observations[0], expected)
            assert (rewards[0], terminated[0], truncated[0]) == (0.0, False, False)
    plain.close()
    copies.close()
    assert ends >= 2


def test_rewards_are_the_games_own() -> None:
    """This game has rewards above 1, so that clipping would be detected."""
    plain, copies = both("ALE/SpaceInvaders-v5", max_no_ops=0)
    plain.reset(seed=0)
    copies.reset([0])
    total, expected = 0.0, 0.0
    for action in np.random.default_rng(0).integers(0, 6, 150):
        total += copies.step(np.array([action]))[1][0]
        expected += plain.step(int(action))[1]
    plain.close()
    copies.close()
    assert total == expected > 1
    assert total % 5 == 0


def test_games_begin_with_no_ops_in_range() -> None:
    name, count = "ALE/Pong-v5", 6
    copies = atari.make_atari_copies(name, 0.0, count, SPACE)
    _, info = copies.vector.reset(seed=np.arange(count, dtype=np.int32))
    frames = set(info["episode_frame_number"].tolist())
    assert len(frames) > 3
    still = atari.make_atari_copies(name, 0.0, 1, SPACE, max_no_ops=0)
    _, without = still.vector.reset(seed=np.zeros(1, np.int32))
    begin = int(without["episode_frame_number"][0])
    assert begin <= min(frames)
    assert max(frames) <= begin + atari.MAX_NO_OPS
    copies.close()
    still.close()


def test_every_copy_has_its_own_seed() -> None:
    copies = make_envs().copies(3)
    observations = copies.reset([1, 9, 1])
    for _ in range(30):
        observations, *_ = copies.step(np.zeros(3, np.int64))
    np.testing.assert_array_equal(observations[0], observations[2])
    assert not np.array_equal(observations[0], observations[1])
    copies.close()


def test_observations_are_not_overwritten_by_later_steps() -> None:
    copies = make_envs().copies(2)
    first = copies.reset([0, 1])
    kept = first.copy()
    steps = [copies.step(np.array([2, 3]))[0] for _ in range(5)]
    copies_of = [one.copy() for one in steps]
    for _ in range(5):
        copies.step(np.array([3, 2]))
    np.testing.assert_array_equal(first, kept)
    for one, other in zip(steps, copies_of, strict=True):
        np.testing.assert_array_equal(one, other)
    copies.close()


def make_envs() -> HostEnvs:
    envs = choose_envs(env_factory(), "atari", RewardShaping())
    assert isinstance(envs, HostEnvs)
    return envs


def test_spaces_and_kind() -> None:
    envs = make_envs()
    assert envs.kind == "atari"
    assert not envs.holds_gil
    assert envs.observation_space.shape == SHAPE
    assert envs.observation_space.dtype == np.uint8
    assert isinstance(envs.action_space, gymnasium.spaces.Discrete)
    assert env_backend(env_factory(env_kwargs=("difficulty=1",)), "auto") == "copies"


def test_one_emulator_thread() -> None:
    """Workers are threads already, so their emulators need only one."""

    def count() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc")
    before, python_threads = count(), threading.active_count()
    copies = make_envs().copies(3)
    copies.reset(list(range(3)))
    copies.step(np.zeros(3, np.int64))
    assert count() - before <= 1
    assert threading.active_count() == python_threads
    copies.close()


def test_sticky_actions_repeat() -> None:
    def play(sticky: float) -> Any:
        copies = make_envs_with(sticky).copies(1)
        copies.reset([0])
        frames = [copies.step(np.array([action]))[0] for action in ([2] * 5 + [3] * 5) * 2]
        copies.close()
        return np.stack(frames)

    never, often = play(0.0), play(0.5)
    assert np.array_equal(never, play(0.0))
    assert np.array_equal(often, play(0.5))
    assert not np.array_equal(never, often)


def make_envs_with(sticky: float) -> HostEnvs:
    found = choose_envs(env_factory(sticky_actions=sticky), "atari", RewardShaping())
    assert isinstance(found, HostEnvs)
    return found


def test_frames_are_skipped_once() -> None:
    with pytest.raises(ConfigError, match="leave frameskip out"):
        atari.make_atari("ALE/Pong-v5", 0.0, {"frameskip": 4})


def test_a_game_is_cut_after_half_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "MAX_FRAMES", 400)
    plain, copies = both("ALE/Pong-v5", max_no_ops=0)
    plain.reset(seed=0)
    copies.reset([0])
    for _ in range(101):
        _, _, terminated, truncated = copies.step(np.array([0]))
        *_, is_terminated, is_truncated, _ = plain.step(0)
        assert (terminated[0], truncated[0]) == (is_terminated, is_truncated)
        if truncated[0]:
            break
    assert truncated[0]
    assert not terminated[0]
    plain.close()
    copies.close()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["threads", "processes"])
@pytest.mark.parametrize("world", ["xla", "atari"])
def test_a_small_run_replays(tmp_path: Path, world: Any, launcher: Any) -> None:
    import poise

    result = poise.train(
        "ALE/Pong-v5",
        run_dir=tmp_path / "run",
        world=world,
        launcher=launcher,
        workers=2,
        envs_per_worker=2,
        rollout_length=5,
        max_steps=120,
        selection_episodes=1,
        verification_episodes=1,
        evaluation_step_limit=20,
    )
    assert result.summary["sticky_actions"] == 0.0
    report = poise.replay(result.folder)
    assert report.updates == result.summary["updates"]
    assert poise.load(result.folder).act(np.zeros(SHAPE, np.uint8)) in range(6)
