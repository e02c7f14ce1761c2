"""Policy files: safetensors with JSON metadata. Opening one runs no code from the file.

Format version 1. Tensors: ``parameters/<name>`` for every trainable array of the network, and
``statistics/mean`` and ``statistics/scale`` of the observation normaliser, if there is one.
Metadata ``poise``: format version, environment, spaces, network, the import path of a network that
is not poise's own, mode of acting, and a SHA-256 hash of tensors and metadata, so that a damaged
file is rejected.
"""

import dataclasses
import hashlib
import json
import struct
import sys
from collections.abc import Callable
from typing import Any, cast, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from poise.agent.agent import Agent, NetworkSpec, build_agent
from poise.agent.network import NetworkFactory
from poise.agent.policy import Mode, Policy
from poise.agent.space_json import space_from_json, space_to_json
from poise.config import EnvironmentChoice
from poise.errors import ConfigError, FileFormatError, InputError
from poise.validation import MAX_PARAMETERS, shown

__all__ = [
    "FORMAT_VERSION",
    "MAX_POLICY_BYTES",
    "NetworkFinder",
    "network_path",
    "parameter_hash",
    "policy_from_bytes",
    "policy_to_bytes",
    "read_metadata",
]

FORMAT_VERSION = 1
_PREFIX = "parameters/"
_MEAN, _SCALE = "statistics/mean", "statistics/scale"
MAX_HEADER_BYTES = 1 << 24
"""Most bytes of the header (spaces and names), which usually needs far less."""
MAX_POLICY_BYTES = 4 * MAX_PARAMETERS + MAX_HEADER_BYTES
"""Most bytes of a whole file."""
_DAMAGE = SafetensorError, KeyError, TypeError, ValueError, OverflowError, InputError
"""Errors from content that no policy has."""
NetworkFinder = Callable[[str], NetworkFactory]
"""Returns what makes a network, given its import path ``module:name``."""


def parameter_hash(parameters: np.ndarray) -> str:
    """Return the SHA-256 hash of a parameter vector, as hexadecimal text."""
    return hashlib.sha256(np.ascontiguousarray(parameters, "<f4").tobytes()).hexdigest()


def policy_to_bytes(policy: Policy, extra: dict[str, Any] | None = None) -> bytes:
    """Serialise a policy: everything needed to rebuild it.

    Args:
        policy: the policy to save.
        extra: further JSON metadata, such as steps and score; not needed for loading.

    Raises:
        ConfigError: its network is not poise's own, and cannot be imported by name.
    """
    tensors = {
        _PREFIX + name: np.asarray(part, order="C")
        for name, part in policy.agent.layout.split(policy.parameters).items()
    }
    if policy.statistics:
        mean, scale = policy.statistics
        tensors[_MEAN], tensors[_SCALE] = np.asarray(mean), np.asarray(scale)
    metadata: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "environment": dataclasses.asdict(policy.environment),
        "observation_space": space_to_json(policy.observation_space),
        "action_space": space_to_json(policy.action_space),
        "network": policy.agent.spec.to_json(),
        "mode": policy.mode,
        "extra": extra or {},
    }
    if policy.agent.network_factory is not None:
        metadata["network_factory"] = network_path(policy.agent.network_factory)
    metadata["sha256"] = _content_hash(tensors, metadata)
    return save(tensors, {"poise": json.dumps(metadata, sort_keys=True)})


def network_path(factory: NetworkFactory) -> str:
    """Return the import path ``module:name`` of a network factory.

    Raises:
        ConfigError: it cannot be imported under its name, so no other process could find it.
    """
    module = getattr(factory, "__module__", None)
    name = getattr(factory, "__qualname__", None)
    found: Any = sys.modules.get(str(module))
    for part in str(name).split("."):
        found = getattr(found, part, None)
    if found is not factory:
        raise ConfigError(
            f"a policy with the network of {factory!r} cannot be saved, because it cannot be "
            "imported: make it a function or class at the top of a module"
        )
    return f"{module}:{name}"


def policy_from_bytes(
    content: bytes,
    source: str,
    *,
    check_hash: bool = True,
    find_network: NetworkFinder | None = None,
) -> Policy:
    """Rebuild a policy from the content of a policy file.

    Args:
        content: the file's bytes.
        source: the file's name, for error messages.
        check_hash: whether to reject content that does not match its hash.
        find_network: finds a network that is not poise's own; called only after the hash of the
            content was checked. What it raises is passed on.

    Raises:
        FileFormatError: the file is truncated or damaged, not safetensors, or has another format
            version; or its network is not poise's own, and ``find_network`` is None.
    """
    metadata = read_metadata(content, source, "poise", "a policy file of poise")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise FileFormatError(
            f"{source} has policy format version {shown(version)}, but this poise reads "
            f"{FORMAT_VERSION}"
        )
    factory = None
    if "network_factory" in metadata:
        path = _own_network(content, metadata, source)
        if find_network is None:
            raise FileFormatError(f"{source} needs the network {path}, which nothing may import")
        factory = find_network(path)
    try:
        tensors = load(content)
        agent, _ = build_agent(
            space_from_json(metadata["observation_space"]),
            space_from_json(metadata["action_space"]),
            NetworkSpec.from_json(metadata["network"]),
            None,
            parameter_limit=len(content) // 4,
            network_factory=factory,
        )
        vector = _parameters(tensors, agent)
        statistics = _statistics(tensors, agent)
        environment = _environment(metadata["environment"])
        mode = _mode(metadata["mode"])
        if check_hash:
            _check_hash(tensors, metadata)
    except _DAMAGE as error:
        raise FileFormatError(f"{source} is damaged: {error}") from error
    return Policy(agent, vector, environment, statistics, mode=mode)


def _own_network(content: bytes, metadata: dict[str, Any], source: str) -> str:
    """Return the import path of a policy's own network, from a file that was not changed."""
    try:
        _check_hash(load(content), metadata)
        path = metadata["network_factory"]
        if not isinstance(path, str):
            raise ValueError("the path of its network is not text")
    except _DAMAGE as error:
        raise FileFormatError(f"{source} is damaged: {error}") from error
    return path


def _check_hash(tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    rest = {name: value for name, value in metadata.items() if name != "sha256"}
    if _content_hash(tensors, rest) != metadata["sha256"]:
        raise ValueError("its content is not what was saved")


def _content_hash(tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> str:
    """Return the SHA-256 hash of all tensors and the metadata."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.asarray(tensors[name], order="C").tobytes())
    return digest.hexdigest()


def _parameters(tensors: dict[str, np.ndarray], agent: Agent) -> np.ndarray:
    """Return the parameter vector that the tensors make up."""
    parts = []
    for name, shape in zip(agent.layout.names, agent.layout.shapes, strict=True):
        tensor = tensors[_PREFIX + name]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise ValueError(f"tensor {name} is {tensor.dtype}{tensor.shape}, not {shape}")
        parts.append(tensor.reshape(-1))
    return np.concatenate(parts)


def _environment(description: Any) -> EnvironmentChoice:
    return EnvironmentChoice(
        name=str(description["name"]),
        env_kwargs=tuple(map(str, description["env_kwargs"])),
        wrappers=tuple(map(str, description["wrappers"])),
        sticky_actions=float(description["sticky_actions"]),
        ignore_observations=tuple(map(str, description.get("ignore_observations", ()))),
    )


def _mode(mode: Any) -> Mode:
    if mode not in get_args(Mode):
        raise ValueError(f"its mode is {shown(mode)}")
    return cast("Mode", mode)


def _statistics(tensors: dict[str, np.ndarray], agent: Agent) -> Any:
    if not agent.spec.normalize_observations:
        return ()
    pair, shape = (tensors[_MEAN], tensors[_SCALE]), (agent.scaling.count,)
    dtypes = np.float64, np.float32
    if any(one.shape != shape or one.dtype != kind for one, kind in zip(pair, dtypes, strict=True)):
        raise ValueError("the normaliser's statistics do not fit the observations")
    return pair


def read_metadata(content: bytes, source: str, key: str, kind: str) -> dict[str, Any]:
    """Read the JSON metadata of a safetensors file; sizes are checked before allocation.

    Args:
        content: the file's bytes.
        source: the file's name, for error messages.
        key: the key that the metadata was saved under.
        kind: the expected kind of file, for error messages.

    Raises:
        FileFormatError: the file is damaged or not of that kind.
    """
    damaged = FileFormatError(f"{source} is damaged, truncated, or not {kind}")
    if len(content) < 8:
        raise damaged
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(len(content) - 8, MAX_HEADER_BYTES):
        raise damaged
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = json.loads(header["__metadata__"][key])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged from error
    if not isinstance(metadata, dict):
        raise damaged
    return metadata
