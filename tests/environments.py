"""Environments of every space, and environments that break in every way.

Worker processes import it as ``tests.environments``, with the repository's root on the path.
"""

import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = [
    "ACTION_SPACES",
    "OBSERVATION_SPACES",
    "RELEASE",
    "Corridor",
    "Ends",
    "Faulty",
    "OnlyOne",
    "Toy",
    "Unpicklable",
    "make_ends",
]

RELEASE = threading.Event()
"""Set by a test to release an environment that hangs in this process."""
HANG_SECONDS = 120.0
"""Seconds after which a hung environment gives up, so that a broken test ends."""

PAIR = spaces.Box(-1.0, 1.0, (2,))
FREE = spaces.Box(-np.inf, np.inf, (3,))

ACTION_SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "discrete from 5": spaces.Discrete(3, start=5),
    "discrete from -2": spaces.Discrete(2, start=-2),
    "box": PAIR,
    "narrow float64 box": spaces.Box(
        np.array([[-0.1, 2.1]]), np.array([[0.1, 2.7]]), dtype=np.float64
    ),
    "box without bounds": FREE,
    "half bounded box": spaces.Box(
        np.array([0.0, -np.inf], np.float32), np.array([np.inf, 1.0], np.float32)
    ),
    "scalar box": spaces.Box(-2.0, 2.0, ()),
    "multi-discrete": spaces.MultiDiscrete([2, 5, 3]),
    "multi-discrete from": spaces.MultiDiscrete([[2, 4], [3, 2]], start=[[1, -1], [0, 7]]),
    "multi-binary": spaces.MultiBinary(4),
    "square multi-binary": spaces.MultiBinary([2, 3]),
    "tuple": spaces.Tuple((spaces.Discrete(2), PAIR)),
    "nested": spaces.Dict(
        {
            "steer": FREE,
            "gears": spaces.Tuple((spaces.Discrete(4, start=1), spaces.MultiBinary(2))),
            "arms": spaces.Dict(
                {"left": PAIR, "right": spaces.MultiDiscrete([3, 2], start=[10, 0])}
            ),
        }
    ),
}

ACTION_SPACES |= {
    "integers in a box": spaces.Box(np.array([[-1, 0]]), np.array([[1, 3]]), dtype=np.int64),
    "keys of every kind": spaces.Dict(
        {"b": spaces.Discrete(2), 1: PAIR, (0, "y"): spaces.Discrete(2)}  # type: ignore[dict-item]
    ),
}


def _bytes(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


OBSERVATION_SPACES: dict[str, spaces.Space[Any]] = {
    "vector": FREE,
    "matrix": spaces.Box(-1.0, 1.0, (2, 3)),
    "scalar": spaces.Box(0.0, 1.0, ()),
    "float64": spaces.Box(-1.0, 1.0, (2,), np.float64),
    "int16": spaces.Box(-300, 300, (2,), np.int16),
    "bytes": _bytes(5),
    "discrete": spaces.Discrete(4, start=-1),
    "multi-discrete": spaces.MultiDiscrete([3, 2], start=[5, 0]),
    "multi-binary": spaces.MultiBinary([2, 2]),
    "image, channels first": _bytes(3, 20, 16),
    "image, channels last": _bytes(20, 16, 3),
    "image, no channel": _bytes(40, 36),
    "images, stacked": _bytes(2, 20, 16),
    "images in colour, stacked": _bytes(2, 20, 16, 3),
    "tuple": spaces.Tuple((spaces.Discrete(3), FREE)),
    "everything": spaces.Dict(
        {
            "camera": _bytes(16, 12, 3),
            "joints": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
            "touch": spaces.Tuple((spaces.MultiBinary(3), spaces.Discrete(2, start=1))),
            "mode": spaces.MultiDiscrete([2, 3]),
        }
    ),
    "keys of every kind": spaces.Dict(
        {"b": spaces.Discrete(2), 1: PAIR, (0, "y"): spaces.Dict({2: FREE, "": _bytes(16, 12)})}  # type: ignore[dict-item]
    ),
}


class Toy(gymnasium.Env[Any, Any]):
    """Returns random observations, and checks every action and every call.

    Args:
        observation_space: every observation is sampled from it.
        action_space: an action outside it raises.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any] = FREE,
        action_space: spaces.Space[Any] = ACTION_SPACES["discrete from 5"],
    ) -> None:
        # Every copy samples from its own space.
        self.observation_space = type(self)._copy(observation_space)
        self.action_space = type(self)._copy(action_space)
        self.going = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = int(self.np_random.integers(1, 8))
        self.going = True
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.going:
            raise RuntimeError("stepped on after an end")
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        self.left -= 1
        ended = self.left == 0
        cut = ended and bool(self.np_random.integers(2))
        self.going = not ended
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, ended and not cut, cut, {}

    @staticmethod
    def _copy(space: spaces.Space[Any]) -> spaces.Space[Any]:
        # A deep copy would also copy the random generator.
        match space:
            case spaces.Dict():
                return spaces.Dict({key: Toy._copy(one) for key, one in space.items()})
            case spaces.Tuple():
                return spaces.Tuple(tuple(Toy._copy(one) for one in space))
            case spaces.Discrete():
                return spaces.Discrete(int(space.n), start=int(space.start))
            case spaces.MultiDiscrete():
                return spaces.MultiDiscrete(space.nvec, dtype=space.dtype, start=space.start)
            case spaces.MultiBinary():
                return spaces.MultiBinary(space.n)
            case spaces.Box():
                return spaces.Box(space.low, space.high, space.shape, space.dtype)
        raise TypeError(space)


class Corridor(gymnasium.Env[Any, Any]):
    """The short corridor with switched actions (Sutton & Barto 2018, example 13.1).

    Three states look alike; in the middle one, left and right are switched. A greedy policy never
    reaches the end; going right with probability 0.59 takes 11.6 steps, which is the optimum.
    """

    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.steps = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = bool(action) != (self.place == 1)
        self.place = max(0, self.place + (1 if right else -1))
        self.steps += 1
        ended = self.place == 3
        return np.ones(1, np.float32), -1.0, ended, not ended and self.steps >= 200, {}


class Ends(gymnasium.Env[Any, Any]):
    """Episodes of the given lengths that end in every way, with observations that say their origin.

    Observation: ``[random base, episode, step]``; the base depends on the seed.

    Args:
        lengths: episode lengths, used in turn; episode k terminates if k is even, is truncated if
            it is odd, and both if it is a multiple of 3.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Discrete(3)

    def __init__(self, lengths: tuple[int, ...] = (2, 1, 4, 3)) -> None:
        self.lengths = lengths
        self.episode = -1
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.base = float(self.np_random.integers(1000))
        self.episode += 1
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is no action")
        self.steps += 1
        ended = self.steps >= self.lengths[self.episode % len(self.lengths)]
        terminated = ended and (self.episode % 2 == 0 or self.episode % 3 == 0)
        truncated = ended and (self.episode % 2 == 1 or self.episode % 3 == 0)
        return self._observe(), self.base + 10 * int(action), terminated, truncated, {}

    def close(self) -> None:
        self.closed = True

    def _observe(self) -> np.ndarray:
        return np.array([self.base, self.episode, self.steps], np.float32)


def make_ends(first: int = 2) -> Ends:
    """A factory function with an argument."""
    return Ends((first, 1, 4, 3))


class Faulty(gymnasium.Env[Any, Any]):
    """An endless environment that breaks.

    Args:
        fault: how it breaks; "" means never.
        at: the number of the step (or of the reset, for faults of ``reset``) that breaks, from 1.
        episode: steps until an episode is truncated.
        mark: a file to which a character is added when it hangs; "" means no file.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "", at: int = 1, episode: int = 5, mark: str = "") -> None:
        self.fault = fault
        self.mark = mark
        self.at = at
        self.episode = episode
        self.steps = self.resets = self.elapsed = 0
        if fault == "make":
            raise RuntimeError("no licence")
        if fault == "import":
            raise ModuleNotFoundError("No module named 'mujoco'", name="mujoco")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.resets += 1
        self.elapsed = 0
        observation: Any = self.np_random.normal(size=2).astype(np.float32)
        if self.resets == self.at:
            if self.fault == "reset raises":
                raise RuntimeError("the pole is missing")
            if self.fault == "reset hangs":
                self._hang()
            if self.fault == "reset nan":
                observation[1] = np.nan
            if self.fault == "reset alone":
                return observation
        return observation, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.elapsed += 1
        observation: Any = self.np_random.normal(size=2).astype(np.float32)
        reward: Any = 1.0
        truncated = self.elapsed >= self.episode
        if self.steps == self.at:
            match self.fault:
                case "raises":
                    raise RuntimeError("the pole broke")
                case "raises two lines":
                    raise RuntimeError("the pole broke\nin two")
                case "hangs":
                    self._hang()
                case "shape":
                    observation = np.zeros(3, np.float32)
                case "dtype":
                    observation = np.array(["a", "b"])
                case "nan":
                    observation[0] = np.nan
                case "nan reward":
                    reward = np.nan
                case "text reward":
                    reward = "much"
                case "array reward":
                    reward = np.ones(1)
                case "four":
                    return observation, reward, truncated, {}
                case "info":
                    return observation, reward, truncated
        return observation, reward, False, truncated, {}

    def _hang(self) -> None:
        if self.mark:
            with open(self.mark, "a") as file:
                file.write("x")
        RELEASE.wait(HANG_SECONDS)


class OnlyOne(Faulty):
    """Allows one copy per machine at a time, like a simulator on a fixed port.

    Args:
        taken: a file that exists while a copy is open.
    """

    def __init__(self, taken: str) -> None:
        super().__init__()
        self.taken = Path(taken)
        try:
            self.taken.touch(exist_ok=False)
        except FileExistsError:
            raise RuntimeError("the port is in use") from None

    def close(self) -> None:
        self.taken.unlink(missing_ok=True)


class Unpicklable(Faulty):
    """Its class holds a lock, as an environment made in a closure may do."""

    lock = threading.Lock()
