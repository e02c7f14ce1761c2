"""MountainCar: drive a weak car out of a valley. Twin of Gymnasium's MountainCar-v0.

Moore 1990 (PhD thesis, UCAM-CL-TR-209), as in Sutton & Barto 1998, example 8.2.
"""

from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

__all__ = ["MountainCar", "drive", "observation_space", "parked"]

FORCE = 0.001  # m per step²
GRAVITY = 0.0025  # m per step²
LEFT_WALL = -1.2  # m
RIGHT_WALL = 0.6  # m
SPEED_LIMIT = 0.07  # m per step
GOAL = 0.5  # m
INITIAL_POSITIONS = (-0.6, -0.4)  # m


@final
class MountainCar(FuncEnv[Array, Array, Array, Array, Array, None, None]):
    """A car that coasts (1) or accelerates left (0) or right (2) in a valley.

    The state, which is also the observation, is ``[position, velocity]``, in m and m per step; see
    `drive` for the dynamics. The reward is -1 for every step, including the one that reaches the
    goal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = observation_space()
        self.action_space = spaces.Discrete(3)

    def initial(self, rng: PRNGKeyArray, params: None = None) -> Float[Array, "2"]:
        """Draw a position near the bottom of the valley; the velocity is 0."""
        return parked(rng)

    def transition(
        self,
        state: Float[Array, "2"],
        action: Integer[Array, ""],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, "2"]:
        """Accelerate for one step."""
        return drive(state, FORCE * (action.astype(jnp.float32) - 1.0))

    def observation(
        self, state: Float[Array, "2"], rng: PRNGKeyArray | None, params: None = None
    ) -> Float[Array, "2"]:
        """Return the whole state."""
        return state

    def reward(
        self,
        state: Float[Array, "2"],
        action: Integer[Array, ""],
        next_state: Float[Array, "2"],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, ""]:
        """Return -1 for every step."""
        return jnp.full((), -1.0, jnp.float32)

    def terminal(
        self, state: Float[Array, "2"], rng: PRNGKeyArray | None, params: None = None
    ) -> Bool[Array, ""]:
        """Return whether the car is at the goal or right of it, and not moving left."""
        return (state[0] >= GOAL) & (state[1] >= 0.0)


def observation_space() -> spaces.Box:
    """Return the space of positions between the walls and velocities up to the limit."""
    return spaces.Box(
        np.array([LEFT_WALL, -SPEED_LIMIT], np.float32),
        np.array([RIGHT_WALL, SPEED_LIMIT], np.float32),
    )


def parked(rng: PRNGKeyArray) -> Float[Array, "2"]:
    """Draw a position uniformly near the bottom of the valley; the velocity is 0."""
    low, high = INITIAL_POSITIONS
    position = jax.random.uniform(rng, (), jnp.float32, minval=low, maxval=high)
    return jnp.stack([position, jnp.zeros_like(position)])


def drive(state: Float[Array, "2"], acceleration: Float[Array, ""]) -> Float[Array, "2"]:
    r"""Move the car by one step.

    Hitting the left wall sets the velocity to 0; the right wall only bounds the position.

    .. math::

        v_t = \mathrm{clip}(v_{t-1} + a_t - g \cos 3 x_{t-1}), \quad
        x_t = \mathrm{clip}(x_{t-1} + v_t)

    Args:
        state: :math:`x_{t-1}, v_{t-1}`, in m and m per step.
        acceleration: :math:`a_t`, the engine's acceleration, in m per step².

    Returns:
        :math:`x_t, v_t`.
    """
    position, velocity = state
    velocity += acceleration - GRAVITY * jnp.cos(3 * position)
    velocity = jnp.clip(velocity, -SPEED_LIMIT, SPEED_LIMIT)
    position = jnp.clip(position + velocity, LEFT_WALL, RIGHT_WALL)
    crashed = (position <= LEFT_WALL) & (velocity < 0.0)
    return jnp.stack([position, jnp.where(crashed, 0.0, velocity)])
