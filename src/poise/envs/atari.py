"""Atari through ale-py: its vector environment for training, Gymnasium's wrappers for scoring.

The standard preprocessing (Mnih et al. 2015, doi 10.1038/nature14236; Machado et al. 2018, arXiv
1709.06009): 84 x 84 pixels, greyscale, 4 frames stacked, every action repeated for 4 frames with
the maximum of the last two observed, up to 30 no-ops at the start. Rewards are not clipped, and
episodes are full games.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from poise.errors import ConfigError, EnvironmentFailureError, MissingExtraError
from poise.trajectory import StepResult

__all__ = ["AtariCopies", "make_atari", "make_atari_copies"]

FRAME_SKIP = 4
STACKED_FRAMES = 4
SCREEN_SIZE = 84
MAX_NO_OPS = 30
MAX_FRAMES = 108_000
"""The usual limit of a game: half an hour of play (Machado et al. 2018)."""


def make_atari(
    name: str,
    sticky_actions: float,
    keyword_arguments: dict[str, Any],
    max_no_ops: int = MAX_NO_OPS,
) -> gymnasium.Env[Any, Any]:
    """Make the environment that Atari scores are measured on.

    Args:
        name: for example ``ALE/Pong-v5``.
        sticky_actions: probability that the previous action is repeated.
        keyword_arguments: further arguments of ``gymnasium.make``.
        max_no_ops: largest number of no-ops at the start of a game.
    """
    import ale_py  # an extra, and slow  # noqa: PLC0415

    gymnasium.register_envs(ale_py)
    arguments = {
        "frameskip": 1,
        "repeat_action_probability": sticky_actions,
        "max_num_frames_per_episode": MAX_FRAMES,
        **keyword_arguments,
    }
    if arguments["frameskip"] != 1:
        raise ConfigError("the preprocessing skips frames itself: leave frameskip out")
    environment = gymnasium.make(name, disable_env_checker=True, **arguments)
    try:
        environment = AtariPreprocessing(
            environment,
            noop_max=max_no_ops,
            frame_skip=FRAME_SKIP,
            screen_size=SCREEN_SIZE,
            terminal_on_life_loss=False,
            grayscale_obs=True,
            scale_obs=False,
        )
    except gymnasium.error.DependencyNotInstalled as error:
        environment.close()
        raise MissingExtraError(f"{name} needs OpenCV: pip install 'poise[atari]'") from error
    return FrameStackObservation(environment, STACKED_FRAMES, padding_type="zero")


def make_atari_copies(
    name: str,
    sticky_actions: float,
    count: int,
    expected: spaces.Space[Any],
    max_no_ops: int = MAX_NO_OPS,
) -> "AtariCopies":
    """Make copies in ale-py's vector environment, with one emulator thread per worker.

    Args:
        name: for example ``ALE/Pong-v5``.
        sticky_actions: probability that the previous action is repeated.
        count: number of copies.
        expected: the observation space of `make_atari`.
        max_no_ops: largest number of no-ops at the start of a game.
    """
    from ale_py.vector_env import AtariVectorEnv  # an extra  # noqa: PLC0415

    spec = gymnasium.spec(name)
    vector = AtariVectorEnv(
        game=spec.kwargs["game"],
        num_envs=count,
        num_threads=1,
        max_num_frames_per_episode=MAX_FRAMES,
        repeat_action_probability=sticky_actions,
        full_action_space=False,
        img_height=SCREEN_SIZE,
        img_width=SCREEN_SIZE,
        grayscale=True,
        stack_num=STACKED_FRAMES,
        frameskip=FRAME_SKIP,
        maxpool=True,
        noop_max=max_no_ops,
        episodic_life=False,
        reward_clipping=False,
        use_fire_reset=False,
    )
    if vector.single_observation_space.shape != expected.shape:
        vector.close()
        raise EnvironmentFailureError(
            f"ale-py's vector environment has observation space {vector.single_observation_space}, "
            f"not {expected}"
        )
    return AtariCopies(vector)


class AtariCopies:
    """Copies in ale-py's vector environment, which releases the GIL while it steps."""

    def __init__(self, vector: Any) -> None:
        self.vector = vector
        self._seeds: list[int] = []
        self._actions: Any = None

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Reset every copy with its own seed."""
        self._seeds, self._actions = list(seeds), None
        observations: np.ndarray = self.vector.reset(seed=np.asarray(seeds, np.int32))[0]
        return observations

    def step(self, actions: np.ndarray) -> StepResult:
        """Step all copies."""
        self._actions = actions
        observations, rewards, terminated, truncated, _ = self.vector.step(actions)
        return StepResult(observations, np.asarray(rewards, np.float64), terminated, truncated)

    def describe_activity(self) -> str:
        """Describe what is being stepped or was stepped last."""
        return f"emulators with seeds {self._seeds}, last actions {self._actions}"

    def handle(self) -> np.ndarray:
        """Return the handle of these emulators, by which XLA steps them; ``[8]`` uint8."""
        return np.asarray(self.vector.xla()[0])

    def step_in_xla(self, handle: Any, actions: Any) -> tuple[Any, StepResult]:
        """Step the emulators of a handle, inside a compiled function.

        ale-py's function works with the handle of any vector environment that has the same number
        of emulators.
        """
        _, _, step = self.vector.xla()
        handle, (observation, reward, *flags, _) = step(handle, actions.astype(jnp.int32))
        return handle, StepResult(observation, jnp.asarray(reward, jnp.float32), *flags)

    def close(self) -> None:
        """Close the environment."""
        self.vector.close()
