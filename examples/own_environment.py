"""Your own compiled environment: train on it in XLA, score it as a plain gymnasium.Env.

    python examples/own_environment.py --seed 0

A cart on a line must be steered to a target and held there. The equations are written once, for
NumPy and for JAX. They are used by a `FuncEnv`, in which poise trains, and by a `gymnasium.Env`, on
which every score is measured and in which the policy will be used.
"""

import argparse
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

import poise

NAME = "LineCart-v0"
TIME_STEP = 0.1  # s
PUSH = 1.0  # m/s²
END_OF_LINE = 2.0  # m from the middle
TIME_LIMIT = 100  # steps
SOLVED_AT = 85.0  # mean return; random pushing gets about 24, and 100 is beyond reach

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = spaces.Discrete(3)  # push left, not at all, push right


def move(xp: Any, state: Any, action: Any) -> Any:
    """One time step; the state is [position, speed, target], in m and m/s. xp: numpy or jnp."""
    position, speed, target = state[0], state[1], state[2]
    speed = speed + TIME_STEP * PUSH * (action - 1)
    return xp.stack([position + TIME_STEP * speed, speed, target]).astype(np.float32)


def observe(xp: Any, state: Any) -> Any:
    """The distance to the target (signed), the speed, the position."""
    return xp.stack([state[2] - state[0], state[1], state[0]]).astype(np.float32)


def score(xp: Any, state: Any) -> Any:
    """The reward: 1 at the target, decreasing with the distance, never below 0."""
    return xp.maximum(0.0, 1.0 - xp.abs(state[2] - state[0]))


def is_lost(xp: Any, state: Any) -> Any:
    """Whether the cart has left the line, which terminates the episode."""
    return xp.abs(state[0]) > END_OF_LINE


class CompiledLineCart(FuncEnv):
    """One copy as pure functions. The time limit is not here, but in the registration below."""

    observation_space = OBSERVATIONS
    action_space = ACTIONS

    def initial(self, rng: Any, params: Any = None) -> Any:
        """Cart, at rest, and target at random positions on the inner half of the line."""
        position, target = jax.random.uniform(rng, (2,), minval=-1.0, maxval=1.0)
        return jnp.stack([position, jnp.zeros_like(position), target])

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        """The next state."""
        return move(jnp, state, action)

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        """The observation of a state."""
        return observe(jnp, state)

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        """The reward of the step from state to next_state."""
        return score(jnp, next_state)

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        """Whether the episode is over for good."""
        return is_lost(jnp, state)


class LineCart(gymnasium.Env[Any, Any]):
    """The same environment as a plain `gymnasium.Env`."""

    observation_space = OBSERVATIONS
    action_space = ACTIONS

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        position, target = self.np_random.uniform(-1.0, 1.0, 2)
        self.state = np.array([position, 0.0, target], np.float32)
        return observe(np, self.state), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push for one time step; Gymnasium's time limit sets truncated."""
        self.state = move(np, self.state, action)
        lost = bool(is_lost(np, self.state))
        return observe(np, self.state), float(score(np, self.state)), lost, False, {}


gymnasium.register(
    NAME, entry_point=LineCart, max_episode_steps=TIME_LIMIT, reward_threshold=SOLVED_AT
)
poise.register(NAME, CompiledLineCart)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train on your own environment.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", default=None, help="new folder; default: one in runs/")
    arguments = parser.parse_args()
    result = poise.train(NAME, seed=arguments.seed, run_dir=arguments.run_dir, max_steps=300_000)
    verified = result.summary["evaluation"]
    print(f"solved: {result.solved}, after {result.summary['steps']:,} steps")
    print(f"mean of {verified['episodes']} fresh episodes of {NAME}: {verified['mean']:.1f}")
    print(f"the run is in {result.folder}")
