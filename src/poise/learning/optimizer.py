"""The shared optimizer: Optax's Adam or RMSProp over the flat parameter vector.

Mnih et al. 2016 (arXiv 1602.01783), section 4, "Optimization": one set of statistics, shared by
all workers. The learning rate is an argument, so that a schedule does not cause recompilation.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = ["OptimizerState", "Update", "make_optimizer"]

OptimizerState = Any
Update = Callable[[Any, OptimizerState, Any, Any, Any], tuple[Any, OptimizerState]]
"""A pure function (parameters, state, gradient, global norm of the gradient, learning rate) ->
(parameters, state)."""


def make_optimizer(
    kind: Literal["adam", "rmsprop"],
    *,
    max_gradient_norm: float,
    epsilon: float,
    adam_beta1: float,
    adam_beta2: float,
    rmsprop_decay: float,
    rmsprop_initial_square: float = 0.0,
    rmsprop_epsilon_inside: bool = True,
) -> tuple[Callable[[Any], OptimizerState], Update]:
    """Make an optimizer: a pair of functions (initialise, update).

    Args:
        kind: ``adam`` (Kingma & Ba 2015) or ``rmsprop`` (by default with epsilon under the square
            root and squares from 0, as in Mnih et al. 2016, equations S2 and S3).
        max_gradient_norm: gradients with a larger global norm are scaled down to this norm.
        epsilon: constant in the denominator of both optimizers.
        adam_beta1: decay of Adam's mean of gradients.
        adam_beta2: decay of Adam's mean of squared gradients.
        rmsprop_decay: decay of RMSProp's mean of squared gradients.
        rmsprop_initial_square: what RMSProp's mean of squared gradients begins with.
        rmsprop_epsilon_inside: whether RMSProp adds epsilon under the square root.
    """
    scale: Any
    if kind == "rmsprop":
        scale = optax.scale_by_rms(rmsprop_decay, epsilon, eps_in_sqrt=rmsprop_epsilon_inside)
    elif adam_beta1:
        scale = optax.scale_by_adam(adam_beta1, adam_beta2, epsilon)
    else:
        scale = _scale_without_momentum(adam_beta2, epsilon)

    def update(
        parameters: Any, state: OptimizerState, gradient: Any, norm: Any, learning_rate: Any
    ) -> tuple[Any, OptimizerState]:
        if math.isfinite(max_gradient_norm):
            # The norm was computed with the gradient and is not computed again.
            gradient = gradient * _once(jnp.minimum(1.0, max_gradient_norm / norm))
        direction, state = scale.update(gradient, state, parameters)
        return parameters - learning_rate * direction, state

    def initialise(parameters: Any) -> OptimizerState:
        state = jax.eval_shape(scale.init, parameters)
        # Made by XLA, each array would need a compiled program.
        first = rmsprop_initial_square if kind == "rmsprop" else 0
        return jax.tree.map(lambda leaf: np.full(leaf.shape, first, leaf.dtype), state)

    return initialise, update


class _Squares(NamedTuple):
    """The state of Adam without momentum."""

    count: Any
    """int32 scalar: number of updates so far."""
    nu: Any
    """``[P]`` float32: mean of squared gradients."""


def _scale_without_momentum(beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam with beta1 = 0: what ``optax.scale_by_adam(0, beta2, epsilon)`` computes.

    It leaves out the array of means, which would be read and written for nothing, and keeps the
    bias correction out of the loop over the parameters. For a million parameters this halves the
    time.
    """

    def initialise(parameters: Any) -> _Squares:
        return _Squares(jnp.zeros((), jnp.int32), jnp.zeros_like(parameters))

    def update(gradient: Any, state: _Squares, parameters: Any = None) -> tuple[Any, _Squares]:
        del parameters
        count = state.count + 1
        nu = beta2 * state.nu + (1 - beta2) * jnp.square(gradient)
        correction = _once(1 / (1 - beta2 ** count.astype(jnp.float32)))
        return gradient / (jnp.sqrt(nu * correction) + epsilon), _Squares(count, nu)

    return optax.GradientTransformation(initialise, update)


def _once(scalar: Any) -> Any:
    """Keep XLA from recomputing a scalar for every element of the loop that uses it."""
    return jax.lax.optimization_barrier(scalar)  # type: ignore[no-untyped-call]
