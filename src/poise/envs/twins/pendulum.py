"""Pendulum: swing up a pendulum and hold it upright. Twin of Gymnasium's Pendulum-v1.

The task is that of Doya 2000 (doi 10.1162/089976600300015961), section 4.1; constants, cost and
integration are Gymnasium's. The pendulum is a rod that turns about its end, without friction.
"""

import math
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from jaxtyping import Array, Bool, Float, PRNGKeyArray

__all__ = ["Pendulum"]

GRAVITY = 10.0  # m/s²
MASS = 1.0  # kg
LENGTH = 1.0  # m
TIME_STEP = 0.05  # s
SPEED_LIMIT = 8.0  # rad/s
TORQUE_LIMIT = 2.0  # N m
INITIAL_BOUNDS = (math.pi, 1.0)  # rad, rad/s
SPEED_COST = 0.1  # factor of the squared speed; that of the squared angle is 1
TORQUE_COST = 0.001  # factor of the squared torque


@final
class Pendulum(FuncEnv[Array, Array, Array, Array, Array, None, None]):
    r"""A rod with a weak motor at its fixed end.

    .. math::

        \dot\theta_t = \mathrm{clip}(\dot\theta_{t-1} + (\tfrac{3 g}{2 l} \sin\theta_{t-1}
        + \tfrac{3}{m l^2} u_t) \Delta t), \quad \theta_t = \theta_{t-1} + \dot\theta_t \Delta t

    The state is ``[theta, theta']`` in rad and rad/s; theta is 0 when upright and is not wrapped.
    The observation is ``[cos theta, sin theta, theta']``. The action is the torque in N m, clipped
    to [-2, 2]. An episode never terminates.
    """

    def __init__(self) -> None:
        super().__init__()
        high = np.array([1.0, 1.0, SPEED_LIMIT], np.float32)
        self.observation_space = spaces.Box(-high, high)
        self.action_space = spaces.Box(-TORQUE_LIMIT, TORQUE_LIMIT, (1,), np.float32)

    def initial(self, rng: PRNGKeyArray, params: None = None) -> Float[Array, "2"]:
        """Draw any angle and a small speed, uniformly."""
        bounds = jnp.array(INITIAL_BOUNDS, jnp.float32)
        return bounds * jax.random.uniform(rng, (2,), jnp.float32, minval=-1.0, maxval=1.0)

    def transition(
        self,
        state: Float[Array, "2"],
        action: Float[Array, "1"],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, "2"]:
        """Apply the torque for one time step; the new speed moves the angle."""
        theta, speed = state
        gravity = 1.5 * GRAVITY / LENGTH * TIME_STEP
        torque = 3.0 / (MASS * LENGTH**2) * TIME_STEP
        speed += gravity * jnp.sin(theta) + torque * _torque(action)
        speed = jnp.clip(speed, -SPEED_LIMIT, SPEED_LIMIT)
        return jnp.stack([theta + TIME_STEP * speed, speed])

    def observation(
        self, state: Float[Array, "2"], rng: PRNGKeyArray | None, params: None = None
    ) -> Float[Array, "3"]:
        """Return the angle's cosine and sine, and the speed."""
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    def reward(
        self,
        state: Float[Array, "2"],
        action: Float[Array, "1"],
        next_state: Float[Array, "2"],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, ""]:
        """Return the negative cost of angle and speed before the step and of the clipped torque."""
        angle, speed, torque = _wrapped(state[0]), state[1], _torque(action)
        return -(angle * angle + SPEED_COST * speed * speed + TORQUE_COST * torque * torque)

    def terminal(
        self, state: Float[Array, "2"], rng: PRNGKeyArray | None, params: None = None
    ) -> Bool[Array, ""]:
        """Return false: an episode never terminates."""
        return jnp.zeros((), bool)


def _torque(action: Float[Array, "1"]) -> Float[Array, ""]:
    return jnp.clip(action[0], -TORQUE_LIMIT, TORQUE_LIMIT)


def _wrapped(angle: Float[Array, ""]) -> Float[Array, ""]:
    return angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))
