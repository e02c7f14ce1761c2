"""Activation functions of hidden layers, on NumPy or on JAX arrays.

The formulas are those of `jax.nn`, written so that NumPy neither warns nor overflows.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from poise.maths.namespace import array_namespace

__all__ = ["ACTIVATIONS", "Activation", "ActivationName"]

ActivationName = Literal["tanh", "relu", "silu", "elu", "gelu"]
Activation = Callable[[Any], Any]
"""A function of each number of an array ``[...]``."""

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_GELU_SLOPE, _GELU_CUBE = np.float32(math.sqrt(2.0 / math.pi)), np.float32(0.044715)


def _tanh(x: Any) -> Any:
    return array_namespace(x).tanh(x)


def _relu(x: Any) -> Any:
    return array_namespace(x).maximum(x, _ZERO)


def _silu(x: Any) -> Any:
    r""":math:`x / (1 + e^{-x})` (Elfwing et al. 2017, arXiv 1702.03118)."""
    # The logistic function as a tanh, because the exponential overflows.
    return x * (_HALF + _HALF * _tanh(_HALF * x))


def _elu(x: Any) -> Any:
    r""":math:`x` where positive, elsewhere :math:`e^x - 1` (Clevert et al. 2016, 1511.07289)."""
    xp = array_namespace(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, _ZERO)))


def _gelu(x: Any) -> Any:
    """The approximation by tanh of Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2."""
    inner = _GELU_SLOPE * (x + _GELU_CUBE * x * x * x)
    return _HALF * x * (_ONE + _tanh(inner))


ACTIVATIONS: dict[ActivationName, Activation] = dict(
    zip(get_args(ActivationName), (_tanh, _relu, _silu, _elu, _gelu), strict=True)
)
