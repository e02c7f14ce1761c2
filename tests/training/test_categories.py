"""A run with very many categories and integer actions: it learns, and it replays."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import poise

FAR_APART = 199_999


class Guess(gymnasium.Env[Any, Any]):
    """Two of 200,000 states, each of which shows the right action; random play returns 10 of 20."""

    observation_space = spaces.Discrete(200_000)
    action_space = spaces.Box(-1, 0, (1,), np.int64)

    def _look(self) -> int:
        self.right = int(self.np_random.integers(2))
        return self.right * FAR_APART

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def step(self, action: Any) -> Any:
        assert action.dtype == np.int64
        assert self.action_space.contains(action), action
        reward, self.steps = float(action[0] + 1 == self.right), self.steps + 1
        return self._look(), reward, False, self.steps >= 20, {}


@pytest.mark.slow
@pytest.mark.usefixtures("shared_programs", "no_curves")
def test_one_of_very_many_states_is_learned_and_replayed(tmp_path: Path) -> None:
    result = poise.train(
        Guess,
        run_dir=tmp_path / "run",
        launcher="serial",
        workers=1,
        max_steps=2400,
        evaluation_interval=10_000,
        selection_episodes=2,
        verification_episodes=5,
    )
    assert result.summary["evaluation"]["mean"] == 20
    assert (tmp_path / "run" / "final.safetensors").stat().st_size < 5_000_000
    # The states in between were never seen, but have their own rows of weights, too.
    assert np.isfinite(poise.load(result.folder).value(12_345))
    report = poise.replay(result.folder, environment=Guess)
    assert report.updates == result.summary["updates"]
