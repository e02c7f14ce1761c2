"""Acrobot: swing up a double pendulum with a motor at its elbow. Twin of Gymnasium's Acrobot-v1.

Sutton & Barto 1998, section 11.3 (the "book" equations), after Sutton 1996 (NIPS 8), with the
sparse reward and the single 0.2 s Runge-Kutta step of RLPy (Geramifard et al. 2015).
"""

import math
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

__all__ = ["Acrobot"]

GRAVITY = 9.8  # m/s²
# Both links are identical.
MASS = 1.0  # kg
LENGTH = 1.0  # m
CENTRE = 0.5  # m, from a link's upper joint to its centre of mass
INERTIA = 1.0  # kg m²
TIME_STEP = 0.2  # s
SPEED_LIMITS = (4 * math.pi, 9 * math.pi)  # rad/s
GOAL_HEIGHT = 1.0  # m, of the free end above the fixed joint
INITIAL_BOUND = 0.1  # of each component


@final
class Acrobot(FuncEnv[Array, Array, Array, Array, Array, None, None]):
    r"""Two links hanging from a joint; torque -1, 0 or 1 N m (actions 0, 1, 2) between them.

    .. math::

        d_1 \ddot\theta_1 + d_2 \ddot\theta_2 = -\phi_1, \quad
        d_2 \ddot\theta_1 + d_3 \ddot\theta_2 = \tau - m l l_c \dot\theta_1^2 \sin\theta_2 - \phi_2

    integrated by one Runge-Kutta step of fourth order; then the angles are wrapped to
    :math:`[-\pi, \pi]` and the speeds clipped. The state is ``[theta1, theta2, theta1', theta2']``
    in rad and rad/s; theta1 is 0 when hanging down, theta2 is relative to the first link. The
    observation has each angle's cosine and sine, then the speeds. The reward is -1 for each step,
    except the one that reaches the goal, which gets 0.
    """

    def __init__(self) -> None:
        super().__init__()
        high = np.array([1.0, 1.0, 1.0, 1.0, *SPEED_LIMITS], np.float32)
        self.observation_space = spaces.Box(-high, high)
        self.action_space = spaces.Discrete(3)

    def initial(self, rng: PRNGKeyArray, params: None = None) -> Float[Array, "4"]:
        """Draw each component uniformly, close to hanging at rest."""
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
        """Apply the torque for one time step."""
        torque = action.astype(jnp.float32) - 1.0
        # Arithmetic on the whole state: with separate components, XLA would repeat computations.
        k_1 = _derivative(state, torque)
        k_2 = _derivative(state + TIME_STEP / 2 * k_1, torque)
        k_3 = _derivative(state + TIME_STEP / 2 * k_2, torque)
        k_4 = _derivative(state + TIME_STEP * k_3, torque)
        theta_1, theta_2, speed_1, speed_2 = state + TIME_STEP / 6 * (k_1 + 2 * (k_2 + k_3) + k_4)
        return jnp.stack(
            [
                _wrapped(theta_1),
                _wrapped(theta_2),
                jnp.clip(speed_1, -SPEED_LIMITS[0], SPEED_LIMITS[0]),
                jnp.clip(speed_2, -SPEED_LIMITS[1], SPEED_LIMITS[1]),
            ]
        )

    def observation(
        self, state: Float[Array, "4"], rng: PRNGKeyArray | None, params: None = None
    ) -> Float[Array, "6"]:
        """Return the angles' cosines and sines, and the speeds."""
        cosine, sine = jnp.cos(state[:2]), jnp.sin(state[:2])
        return jnp.stack([cosine[0], sine[0], cosine[1], sine[1], state[2], state[3]])

    def reward(
        self,
        state: Float[Array, "4"],
        action: Integer[Array, ""],
        next_state: Float[Array, "4"],
        rng: PRNGKeyArray | None,
        params: None = None,
    ) -> Float[Array, ""]:
        """Return -1 for a step that does not reach the goal, else 0."""
        return self.terminal(next_state, rng, params).astype(jnp.float32) - 1.0

    def terminal(
        self, state: Float[Array, "4"], rng: PRNGKeyArray | None, params: None = None
    ) -> Bool[Array, ""]:
        """Return whether the free end is above the goal height."""
        return -jnp.cos(state[0]) - jnp.cos(state[0] + state[1]) > GOAL_HEIGHT


def _derivative(state: Float[Array, "4"], torque: Float[Array, ""]) -> Float[Array, "4"]:
    theta_1, theta_2, speed_1, speed_2 = state
    lever = MASS * LENGTH * CENTRE
    sine = lever * jnp.sin(theta_2)
    cosine = lever * jnp.cos(theta_2)
    d_3 = MASS * CENTRE**2 + INERTIA
    d_2 = d_3 + cosine
    d_1 = 2 * d_3 + MASS * LENGTH**2 + 2 * cosine
    phi_2 = MASS * CENTRE * GRAVITY * jnp.sin(theta_1 + theta_2)
    phi_1 = (
        MASS * (CENTRE + LENGTH) * GRAVITY * jnp.sin(theta_1)
        + phi_2
        - sine * speed_2 * (speed_2 + 2 * speed_1)
    )
    driven = torque - sine * speed_1 * speed_1 - phi_2
    # Cramer's rule shares one division.
    scale = 1 / (d_1 * d_3 - d_2 * d_2)
    acceleration_1 = -(d_3 * phi_1 + d_2 * driven) * scale
    acceleration_2 = (d_1 * driven + d_2 * phi_1) * scale
    return jnp.stack([speed_1, speed_2, acceleration_1, acceleration_2])


def _wrapped(angle: Float[Array, ""]) -> Float[Array, ""]:
    return angle - 2 * math.pi * jnp.round(angle / (2 * math.pi))
