"""Packed states: few arrays for XLA, without changing a bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise.learning.packed_state import LARGE, PackedState, StatePacking

STATE: dict[str, Any] = {
    "key": np.array([2**32 - 1, 7], np.uint32),
    "cycle": np.int32(-3),
    "flags": np.array([True, False, True]),
    "floats": np.array([[3.5, -0.0], [1e-42, np.inf]], np.float32),
    "image": np.arange(6, dtype=np.uint8),
    "large": np.arange(LARGE + 1, dtype=np.float32),
    "recurrent": (),
}


def bits(tree: Any) -> list[tuple[Any, ...]]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [(leaf.shape, leaf.dtype, leaf.tobytes()) for leaf in leaves]


def test_a_state_is_unpacked_as_it_was_in_numpy_and_in_xla() -> None:
    packing = StatePacking(STATE)
    packed = packing.pack(STATE)
    numbers, large = packed
    assert numbers.dtype == np.int32
    assert numbers.shape == (2 + 1 + 3 + 4,)
    assert [leaf.size for leaf in large] == [6, LARGE + 1]
    assert bits(packing.unpack(*packed)) == bits(STATE)
    compiled = jax.jit(lambda *packed: packing.pack(packing.unpack(*packed)))
    assert bits(compiled(*packed)) == bits(packed)
    assert bits(jax.jit(packing.unpack)(*packed)) == bits(STATE)
    assert bits(packing.pack(jax.tree.map(jnp.asarray, STATE))) == bits(packed)


def test_a_packed_state_is_a_pytree_of_the_states_arrays() -> None:
    packing = StatePacking(STATE)
    state = PackedState(packing, *packing.pack(STATE))
    assert bits(state.unpack()) == bits(STATE)
    assert bits(state) == bits(STATE)
    doubled = jax.tree.map(lambda leaf: np.asarray(leaf), state)
    assert jax.tree.structure(doubled) == jax.tree.structure(STATE)


def test_a_state_without_small_arrays_has_no_numbers() -> None:
    packing = StatePacking({"image": STATE["image"]})
    packed = packing.pack({"image": STATE["image"]})
    assert packed[0].shape == (0,)
    assert bits(packing.unpack(*packed)) == bits(STATE["image"])
