"""MountainCar with a throttle. Twin of Gymnasium's MountainCarContinuous-v0.

Moore 1990 (PhD thesis, UCAM-CL-TR-209), in Gymnasium's continuous version (O. Sigaud).
"""

from typing import final

import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from poise.envs.twins.mountain_car import drive, observation_space, parked

__all__ = ["MountainCarContinuous"]

POWER = 0.0015  # m per step², at full throttle
THROTTLE_LIMIT = 1.0
GOAL = 0.45  # m
GOAL_REWARD = 100.0
THROTTLE_COST = 0.1  # for the square of the action


@final
class MountainCarContinuous(FuncEnv[Array, Array, Array, Array, Array, None, None]):
    """A car that accelerates left (down to -1) or right (up to 1) in a valley.

    The state, which is also the observation, is ``[position, velocity]``, in m and m per step; see
    `drive` for the dynamics. The action is clipped to [-1, 1] for the dynamics. The reward is
    ``100 at the goal - 0.1 action²``, with the action not clipped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = observation_space()
        self.action_space = spaces.Box(-THROTTLE_LIMIT, THROTTLE_LIMIT, (1,), np.float32)

    def initial(self, rng: PRNGKeyArray, params: None = None) -> Float[Array, "2"]:
        """Draw a position near the bottom of the valley; the velocity is 0."""
        return parked(rng)

    def transition(
        self,
        state: Float[Array, "2"],
        action: Float[Array, "1"],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, "2"]:
        """Accelerate for one step."""
        return drive(state, POWER * jnp.clip(action[0], -THROTTLE_LIMIT, THROTTLE_LIMIT))

    def observation(
        self, state: Float[Array, "2"], rng: PRNGKeyArray | None, params: None = None
    ) -> Float[Array, "2"]:
        """Return the whole state."""
        return state

    def reward(
        self,
        state: Float[Array, "2"],
        action: Float[Array, "1"],
        next_state: Float[Array, "2"],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, ""]:
        """Return the reward for the goal minus the cost of the unclipped action."""
        reached = self.terminal(next_state, rng, params).astype(jnp.float32)
        return GOAL_REWARD * reached - THROTTLE_COST * action[0] * action[0]

    def terminal(
        self, state: Float[Array, "2"], rng: PRNGKeyArray | None, params: None = None
    ) -> Bool[Array, ""]:
        """Return whether the car is at the goal or right of it, and not moving left."""
        return (state[0] >= GOAL) & (state[1] >= 0.0)
