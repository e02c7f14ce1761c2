"""A policy's file names a network of one's own; its code is imported only if it is trusted."""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from safetensors.numpy import load, save

import poise
from poise.agent.agent import NetworkSpec, build_agent
from poise.agent.policy import Policy
from poise.agent.policy_file import (
    _content_hash,
    network_path,
    policy_from_bytes,
    policy_to_bytes,
)
from poise.config import EnvironmentChoice
from poise.errors import (
    ConfigError,
    EnvironmentNotFoundError,
    FileFormatError,
    InputError,
    UntrustedImportError,
)

from .examples import Recurrent

MODULE = "a_network_of_ones_own"
OBSERVATION = np.float32([0.1, -0.2, 0.3])


def make(observation_space: Any, outputs: int, free: int) -> Recurrent:
    return Recurrent(3, 2, outputs)


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A factory in a module that is not imported yet when the file is opened."""
    source = """
        from poise_test_examples import Recurrent

        imported = True


        def network(observation_space, outputs, free):
            return Recurrent(3, 2, outputs)
    """
    (tmp_path / f"{MODULE}.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "poise_test_examples", sys.modules[Recurrent.__module__])
    module = __import__(MODULE)
    yield module.network
    sys.modules.pop(MODULE, None)


def policy_with(factory: Any) -> Policy:
    space = spaces.Box(-1.0, 1.0, (3,))
    agent, parameters = build_agent(
        space, spaces.Discrete(2), NetworkSpec(), np.random.SeedSequence(0), network_factory=factory
    )
    return Policy(agent, parameters, EnvironmentChoice("CartPole-v1"))


def test_it_is_imported_only_if_trusted(factory: Any, tmp_path: Path) -> None:
    policy = policy_with(factory)
    path = tmp_path / "policy.safetensors"
    path.write_bytes(policy_to_bytes(policy))
    del sys.modules[MODULE]
    with pytest.raises(UntrustedImportError, match=f"would import {MODULE}:network"):
        poise.load(path)
    assert MODULE not in sys.modules
    again = poise.load(path, trust=True)
    assert MODULE in sys.modules
    assert again.parameters.tobytes() == policy.parameters.tobytes()
    assert again.act(OBSERVATION) == policy.act(OBSERVATION)
    assert again.value(OBSERVATION) == policy.value(OBSERVATION)
    assert policy_to_bytes(again) == path.read_bytes()


def test_nothing_is_imported_if_the_file_was_changed(factory: Any, tmp_path: Path) -> None:
    content = policy_to_bytes(policy_with(factory))
    del sys.modules[MODULE]
    path = tmp_path / "policy.safetensors"
    path.write_bytes(content.replace(b"CartPole-v1", b"CartPole-v0"))
    with pytest.raises(FileFormatError, match="not what was saved"):
        poise.load(path, trust=True)
    assert MODULE not in sys.modules


def test_what_may_import_nothing_says_what_it_lacks(factory: Any) -> None:
    content = policy_to_bytes(policy_with(factory))
    with pytest.raises(FileFormatError, match=f"here needs the network {MODULE}:network"):
        policy_from_bytes(content, "here")


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("no_such:network", EnvironmentNotFoundError, "No module named 'no_such'"),
        (f"{MODULE}:networks", EnvironmentNotFoundError, "a similar name is network$"),
        (f"{MODULE}:imported", EnvironmentNotFoundError, "cannot be called"),
        (MODULE, EnvironmentNotFoundError, "not an import path module:attribute"),
        (":", EnvironmentNotFoundError, "Empty module name"),
        (3, FileFormatError, "not text"),
    ],
)
def test_a_path_without_a_network_is_refused(
    factory: Any, tmp_path: Path, path: Any, kind: type[InputError], message: str
) -> None:
    content = policy_to_bytes(policy_with(factory))
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["poise"])
    metadata["network_factory"] = path
    del metadata["sha256"]
    metadata["sha256"] = _content_hash(load(content), metadata)
    file = tmp_path / "policy.safetensors"
    file.write_bytes(save(load(content), {"poise": json.dumps(metadata)}))
    with pytest.raises(kind, match=message):
        poise.load(file, trust=True)


def test_what_cannot_be_imported_cannot_be_saved() -> None:
    def inner(observation_space: Any, outputs: int, free: int) -> Recurrent:
        return make(observation_space, outputs, free)

    assert network_path(make) == f"{__name__}:make"
    for factory in (inner, lambda *given: make(*given), Recurrent(3, 2, 2).describe):
        with pytest.raises(ConfigError, match="cannot be saved"):
            network_path(factory)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot be saved"):
        policy_to_bytes(policy_with(inner))
