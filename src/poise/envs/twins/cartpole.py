"""CartPole: balance a pole on a cart. Twin of Gymnasium's CartPole-v0 and CartPole-v1.

Barto, Sutton & Anderson 1983 (doi 10.1109/TSMC.1983.6313077), without friction; equations 23 and
24 of Florian 2007 (https://coneural.org/florian/papers/05_cart_pole.pdf).
"""

import math
from typing import ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

__all__ = ["CartPole"]

GRAVITY = 9.8  # m/s²
CART_MASS = 1.0  # kg
POLE_MASS = 0.1  # kg
TOTAL_MASS = CART_MASS + POLE_MASS
POLE_HALF_LENGTH = 0.5  # m
FORCE = 10.0  # N
TIME_STEP = 0.02  # s
POSITION_LIMIT = 2.4  # m
ANGLE_LIMIT = math.radians(12.0)
INITIAL_BOUND = 0.05  # of each component


@final
class CartPole(FuncEnv[Array, Array, Array, Array, Array, None, None]):
    r"""A cart pushed left (0) or right (1) with constant force, under a free pole.

    .. math::

        u = (\pm F + m l \dot\theta^2 \sin\theta) / M, \quad
        \ddot\theta = \frac{g \sin\theta - u \cos\theta}{l (4/3 - (m/M) \cos^2\theta)}, \quad
        \ddot x = u - (m l / M) \ddot\theta \cos\theta

    integrated by one explicit Euler step. The state, which is also the observation, is
    ``[x, x', theta, theta']`` in m, m/s, rad and rad/s. The reward is 1 for every step, including
    the one that ends the episode.
    """

    well_scaled: ClassVar[bool] = True
    """Velocities have no bounds but stay around 1, so observations need no normalisation."""

    def __init__(self) -> None:
        super().__init__()
        high = np.array([2 * POSITION_LIMIT, np.inf, 2 * ANGLE_LIMIT, np.inf], np.float32)
        self.observation_space = spaces.Box(-high, high)
        self.action_space = spaces.Discrete(2)

    def initial(self, rng: PRNGKeyArray, params: None = None) -> Float[Array, "4"]:
        """Draw each component uniformly, close to upright and at rest."""
        return jax.random.uniform(
            rng, (4,), jnp.float32, minval=-INITIAL_BOUND, maxval=INITIAL_BOUND
        )

    def transition(
        self,
        state: Float[Array, "4"],
        action: Integer[Array, ""],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, "4"]:
        """Push for one time step."""
        x, x_dot, theta, theta_dot = state
        sine, cosine = jnp.sin(theta), jnp.cos(theta)
        # Products of constants are folded while tracing, so only one division is left.
        lever = POLE_MASS * POLE_HALF_LENGTH / TOTAL_MASS
        push = jnp.where(action == 1, FORCE / TOTAL_MASS, -FORCE / TOTAL_MASS)
        push += lever * theta_dot * theta_dot * sine
        theta_acc = (GRAVITY * sine - cosine * push) / (
            POLE_HALF_LENGTH * 4 / 3 - lever * cosine * cosine
        )
        x_acc = push - lever * theta_acc * cosine
        return jnp.stack(
            [
                x + TIME_STEP * x_dot,
                x_dot + TIME_STEP * x_acc,
                theta + TIME_STEP * theta_dot,
                theta_dot + TIME_STEP * theta_acc,
            ]
        )

    def observation(
        self, state: Float[Array, "4"], rng: PRNGKeyArray | None, params: None = None
    ) -> Float[Array, "4"]:
        """Return the whole state."""
        return state

    def reward(
        self,
        state: Float[Array, "4"],
        action: Integer[Array, ""],
        next_state: Float[Array, "4"],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, ""]:
        """Return 1 for every step."""
        return jnp.ones((), jnp.float32)

    def terminal(
        self, state: Float[Array, "4"], rng: PRNGKeyArray | None, params: None = None
    ) -> Bool[Array, ""]:
        """Return whether the cart is beyond 2.4 m or the pole beyond 12 degrees from upright."""
        return (jnp.abs(state[0]) > POSITION_LIMIT) | (jnp.abs(state[2]) > ANGLE_LIMIT)
