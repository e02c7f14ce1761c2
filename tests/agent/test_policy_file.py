"""A policy survives its file exactly; a damaged file is refused and runs no code."""

import dataclasses
import json
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from safetensors.numpy import load, save

from poise.agent import policy_file
from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.policy import Policy
from poise.agent.policy_file import (
    _content_hash,
    parameter_hash,
    policy_from_bytes,
    policy_to_bytes,
)
from poise.config import EnvironmentChoice
from poise.errors import FileFormatError

from .examples import OBSERVATION_SPACES

CHOICE = EnvironmentChoice(
    "module:Environment", ("goal=3", "name='x'"), ("module:Wrapper",), sticky_actions=0.25
)
OBSERVATIONS = spaces.Dict({"x": spaces.Box(-1.0, 1.0, (2,)), "mode": spaces.Discrete(2, start=1)})
ACTIONS = spaces.Tuple([spaces.Discrete(2), spaces.Box(-1.0, np.inf, (1,))])
SPEC = NetworkSpec((3,), "free")
STATISTICS = np.float64([0.1, -3.0]), np.float32([2.0, 0.125])


def make(
    statistics: Any = (),
    observations: spaces.Space[Any] = OBSERVATIONS,
    spec: NetworkSpec = SPEC,
) -> Policy:
    spec = dataclasses.replace(spec, normalize_observations=bool(statistics))
    agent, parameters = build_agent(observations, ACTIONS, spec, np.random.SeedSequence(4))
    return Policy(agent, parameters, CHOICE, statistics)


def header_length(content: bytes) -> int:
    return int(struct.unpack("<Q", content[:8])[0])


def header(content: bytes) -> dict[str, Any]:
    return json.loads(content[8 : 8 + header_length(content)])


def with_metadata(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Change a file's metadata and update its hash, unless the hash itself is changed."""
    metadata = json.loads(header(content)["__metadata__"]["poise"])
    saved = metadata["sha256"]
    returned = change(metadata)
    changed = metadata if returned is None else returned
    if changed.get("sha256") == saved:
        del changed["sha256"]
        changed["sha256"] = _content_hash(load(content), changed)
    return save(load(content), {"poise": json.dumps(changed)})


def refused(content: bytes, match: str = "policy.safetensors") -> None:
    with pytest.raises(FileFormatError, match=match):
        policy_from_bytes(content, "policy.safetensors")


# --- What survives --------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", [(), STATISTICS], ids=["plain", "normalised"])
@pytest.mark.parametrize("spec", [NetworkSpec(()), NetworkSpec((3, 4), "network")], ids=str)
def test_a_policy_survives_exactly(spec: NetworkSpec, statistics: Any) -> None:
    policy = make(statistics, spec=spec)
    again = policy_from_bytes(policy_to_bytes(policy), "policy.safetensors")
    assert again.parameters.tobytes() == policy.parameters.tobytes()
    assert again.parameters.dtype == np.float32
    assert again.environment == CHOICE
    assert again.observation_space == OBSERVATIONS
    assert again.action_space == ACTIONS
    assert again.agent.spec == policy.agent.spec
    assert len(again.statistics) == len(statistics)
    for one, other in zip(again.statistics, statistics, strict=True):
        np.testing.assert_array_equal(one, other)
    observation = {"x": np.float32([0.3, -0.2]), "mode": np.int64(2)}
    assert again.value(observation) == policy.value(observation)
    one, other = again.act(observation), policy.act(observation)
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
def test_every_observation_space_survives(name: str) -> None:
    space = OBSERVATION_SPACES[name]
    policy = make(observations=space)
    again = policy_from_bytes(policy_to_bytes(policy), "policy.safetensors")
    np.testing.assert_array_equal(again.parameters, policy.parameters)
    space.seed(0)
    observation = space.sample()
    assert again.act(observation)[0] == policy.act(observation)[0]


def test_odd_numbers_survive() -> None:
    policy = make()
    odd = [np.inf, -np.inf, -0.0, 1e-45, np.finfo(np.float32).max]
    policy.parameters[: len(odd)] = odd
    again = policy_from_bytes(policy_to_bytes(policy), "policy.safetensors")
    assert again.parameters.tobytes() == policy.parameters.tobytes()


def test_the_same_policy_makes_the_same_file() -> None:
    assert policy_to_bytes(make(STATISTICS)) == policy_to_bytes(make(STATISTICS))


def test_extra_metadata_is_kept_in_the_file_and_not_needed() -> None:
    extra = {"version": 7, "score": {"mean": 1.5, "names": ["a", None]}}
    content = policy_to_bytes(make(), extra)
    assert json.loads(header(content)["__metadata__"]["poise"])["extra"] == extra

    def without(metadata: dict[str, Any]) -> None:
        del metadata["extra"]

    policy_from_bytes(with_metadata(content, without), "policy.safetensors")


def test_unknown_keys_are_ignored_and_added_tensors_refused() -> None:
    content = policy_to_bytes(make())

    def more(metadata: dict[str, Any]) -> None:
        metadata["later"] = {"key": [1, 2]}

    again = policy_from_bytes(with_metadata(content, more), "policy.safetensors")
    np.testing.assert_array_equal(again.parameters, make().parameters)
    tensors = load(content) | {"momentum": np.ones(3, np.float32)}
    refused(save(tensors, header(content)["__metadata__"]))


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]], ids=str)
def test_other_format_versions_are_refused(version: Any) -> None:
    content = policy_to_bytes(make())
    refused(with_metadata(content, lambda m: m | {"format_version": version}), "format version")


@pytest.mark.parametrize("statistics", [(), STATISTICS], ids=["plain", "normalised"])
def test_a_truncated_file_is_refused(statistics: Any) -> None:
    content = policy_to_bytes(make(statistics))
    for length in [*range(0, len(content), 64), *range(10), len(content) - 1]:
        refused(content[:length])


def test_appended_bytes_are_refused() -> None:
    refused(policy_to_bytes(make()) + b"\0")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, world",
        b"\0" * 100,
        b"\xff" * 100,
        b"PK\x03\x04" + b"x" * 60,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 20_000) + b"[" * 20_000,
        save({"parameters": np.ones(3, np.float32)}),
        save({"parameters": np.ones(3, np.float32)}, {"poise": "[]"}),
        save({"parameters": np.ones(3, np.float32)}, {"poise": "{"}),
        save({"parameters": np.ones(3, np.float32)}, {"format": "pt"}),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_other_files_are_refused(content: bytes) -> None:
    refused(content)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 2**31, 10**6])
def test_a_huge_declared_header_is_refused(length: int) -> None:
    content = policy_to_bytes(make())
    refused(struct.pack("<Q", length) + content[8:])


def test_a_flipped_bit_in_the_parameters_is_refused() -> None:
    content = policy_to_bytes(make())
    begin = 8 + header_length(content)
    assert len(content) - begin == 4 * make().parameters.size
    for bit in range(8 * begin, 8 * len(content), 7):
        refused(flipped(content, bit), "not what was saved")


def test_a_flipped_bit_in_the_statistics_is_refused() -> None:
    content = policy_to_bytes(make(STATISTICS))
    entry = header(content)["statistics/scale"]
    begin = 8 + header_length(content) + entry["data_offsets"][0]
    for bit in range(8 * begin, 8 * (begin + 8)):
        refused(flipped(content, bit))


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'\\"start\\": 1', b'\\"start\\": 0'), (b'\\"low\\": -1.0', b'\\"low\\": -2.0')],
)
def test_altered_spaces_are_refused(old: bytes, new: bytes) -> None:
    content = policy_to_bytes(make())
    assert old in content
    refused(content.replace(old, new))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_flipped_bit_anywhere_else_never_ends_in_another_error() -> None:
    """If the header is still readable by chance, the parameters are unchanged."""
    content = policy_to_bytes(make(STATISTICS))
    for byte in range(0, 8 + header_length(content), 3):
        damaged = flipped(content, 8 * byte + byte % 8)
        try:
            again = policy_from_bytes(damaged, "policy.safetensors")
        except FileFormatError:
            continue
        assert again.parameters.tobytes() == make().parameters.tobytes()


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        {"network": None},
        {"network": {**SPEC.to_json(), "hidden_sizes": [4]}},
        {"network": {**SPEC.to_json(), "hidden_sizes": [2**31]}},
        {"network": {**SPEC.to_json(), "hidden_sizes": [-1]}},
        {"observation_space": {"space": "Discrete", "n": 2**60, "start": 0}},
        {"observation_space": {"space": "Text"}},
        {"observation_space": None},
        {"action_space": {"space": "Discrete", "n": 3, "start": 0}},
        {"action_space": "Discrete"},
        {"environment": None},
        {"environment": {"name": "x"}},
        {"environment": "CartPole-v1"},
        {"network": {**SPEC.to_json(), "normalize_observations": True}},
        {"network": {**SPEC.to_json(), "image_axes": "XYZ"}},
        {"network": {**SPEC.to_json(), "image_axes": 3}},
        {"sha256": None},
        {"sha256": "0" * 64},
    ],
    ids=str,
)
def test_metadata_that_does_not_fit_is_refused(damage: dict[str, Any]) -> None:
    content = policy_to_bytes(make())
    refused(with_metadata(content, lambda metadata: metadata | damage))
    key = next(iter(damage))

    def without(metadata: dict[str, Any]) -> None:
        del metadata[key]

    refused(with_metadata(content, without))


def test_a_small_file_that_declares_a_large_network_allocates_little() -> None:
    large = {"network": {**SPEC.to_json(), "hidden_sizes": [2048, 2048]}}
    content = with_metadata(policy_to_bytes(make()), lambda metadata: metadata | large)
    tracemalloc.start()
    try:
        refused(content)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("change", ["missing", "shape", "dtype"])
def test_tensors_that_do_not_fit_are_refused(change: str) -> None:
    content = policy_to_bytes(make())
    tensors = load(content)
    name = sorted(tensors)[0]
    tensor = tensors.pop(name)
    if change == "shape":
        tensors[name] = np.append(tensor, np.float32(0))
    elif change == "dtype":
        tensors[name] = tensor.astype(np.float64)
    refused(save(tensors, header(content)["__metadata__"]))


def test_a_replay_may_load_parameters_that_do_not_match_their_hash() -> None:
    content = bytearray(policy_to_bytes(make()))
    content[-1] ^= 1
    policy_from_bytes(bytes(content), "policy.safetensors", check_hash=False)


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was opened",))


def test_a_pickle_is_refused_unopened() -> None:
    bomb = pickle.dumps(Bomb())
    refused(bomb)
    refused(struct.pack("<Q", len(bomb)) + bomb)
    assert not hasattr(policy_file, "pickle")


def test_the_hash_is_of_the_little_endian_bytes() -> None:
    vector = np.float32([1.0, -2.5])
    assert parameter_hash(vector) == parameter_hash(vector.astype(">f4"))
    assert parameter_hash(vector) != parameter_hash(vector[::-1])
