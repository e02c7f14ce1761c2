"""Seeds depend only on root seed, purpose and numbers."""

import itertools

import numpy as np
import pytest

from poise.envs.seeding import Purpose, environment_seed, key_data, seed_sequence


def test_purposes_are_never_renumbered() -> None:
    """Replays depend on these numbers: only append new ones."""
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "PARAMETERS": 0,
        "ROLLOUT": 1,
        "SELECTION": 2,
        "VERIFICATION": 3,
        "EVALUATION": 4,
        "RANDOM": 5,
        "PLAY": 6,
        "BENCHMARK": 7,
        "ENVIRONMENT": 8,
        "EVALUATION_ACTIONS": 9,
        "LEARNING": 10,
    }


def test_every_seed_is_its_own() -> None:
    roots, numbers = (0, 1, 2**32, 2**63 - 1), ((), (0,), (1,), (0, 0), (0, 1), (1, 0), (2**31,))
    keys = [
        tuple(key_data(seed_sequence(root, purpose, *one)).tolist())
        for root, purpose, one in itertools.product(roots, Purpose, numbers)
    ]
    assert len(set(keys)) == len(keys)


def test_seeds_stay_what_they_are() -> None:
    """Pinned: any other number would break the replay of all existing runs."""
    seed = seed_sequence(0, Purpose.ROLLOUT, 1, 2)
    assert key_data(seed).tolist() == [3853099827, 3701435489]
    assert environment_seed(seed) == 3853099827 >> 1


def test_key_data_are_two_words() -> None:
    data = key_data(seed_sequence(5, Purpose.ROLLOUT))
    assert data.shape == (2,)
    assert data.dtype == np.uint32


@pytest.mark.parametrize("root", [0, 1, 2**63 - 1])
def test_environment_seeds_fit_31_bits(root: int) -> None:
    seeds = [environment_seed(seed_sequence(root, Purpose.ENVIRONMENT, n)) for n in range(500)]
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == len(seeds)
