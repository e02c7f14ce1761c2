"""The shared optimizer: Adam or RMSProp over the flat parameter vector, by Optax.

Mnih et al. 2016 (arXiv 1602.01783), section 4, "Optimization": one set of statistics, shared by
all workers. The learning rate is an argument, so that a schedule does not compile anything anew.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax

__all__ = ["OptimizerState", "Update", "make_optimizer"]

OptimizerState = Any
Update = Callable[[Any, OptimizerState, Any, Any], tuple[Any, OptimizerState]]
"""(parameters, state, gradient, learning rate) -> (parameters, state); pure."""


def make_optimizer(
    kind: Literal["adam", "rmsprop"],
    *,
    max_gradient_norm: float,
    epsilon: float,
    adam_beta1: float,
    adam_beta2: float,
    rmsprop_decay: float,
) -> tuple[Callable[[Any], OptimizerState], Update]:
    """Make (initialise, update).

    Args:
        kind: ``adam`` (Kingma & Ba 2015) or ``rmsprop`` (epsilon under the square root, statistics
            from 0, as Mnih et al. 2016, equations S2 and S3).
        max_gradient_norm: gradients of a larger global norm are scaled down to it.
        epsilon: in the denominator of either.
        adam_beta1: decay of the mean of gradients.
        adam_beta2: decay of the mean of squared gradients.
        rmsprop_decay: decay of the mean of squared gradients.
    """
    clip = (
        optax.clip_by_global_norm(max_gradient_norm)
        if math.isfinite(max_gradient_norm)
        else optax.identity()
    )
    scale = (
        optax.scale_by_adam(adam_beta1, adam_beta2, epsilon)
        if kind == "adam"
        else optax.scale_by_rms(rmsprop_decay, epsilon, eps_in_sqrt=True)
    )
    transformation = optax.chain(clip, scale)

    def update(
        parameters: Any, state: OptimizerState, gradient: Any, learning_rate: Any
    ) -> tuple[Any, OptimizerState]:
        direction, state = transformation.update(gradient, state, parameters)
        return parameters - learning_rate * direction, state

    def initialise(parameters: Any) -> OptimizerState:
        state = jax.eval_shape(transformation.init, parameters)
        # Both kinds begin with zeros; asking XLA for each would compile a program an array.
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)

    return initialise, update
