"""Traced programs that the command keeps between runs."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from poise.config import TrainConfig
from poise.envs import registry
from poise.envs.twins import CartPole
from poise.learning.compiler import Compiler
from poise.training import process_role, program_store
from poise.training.assembly import build_components
from poise.training.components import RunComponents
from poise.training.program_store import WITHOUT_EFFECT, FileProgramStore, describe_programs

from ..agent.examples import Recurrent

CONFIG = TrainConfig(environment="CartPole-v1", envs_per_worker=2, rollout_length=3)
OTHER: dict[str, Any] = {
    "seed": 7,
    "workers": 3,
    "launcher": "serial",
    "max_steps": 123,
    "max_episodes": 5,
    "max_seconds": 9.0,
    "target_return": 17.0,
    "stop_when_solved": False,
    "stop_when_flat": 5,
    "evaluation_interval": 77,
    "evaluation_step_limit": 99,
    "evaluation_copies": 3,
    "verification_episodes": 4,
    "record_every": 2,
    "checkpoint_every": "300steps",
    "keep_checkpoints": 2,
    "max_bad_gradients": 1,
    "max_restarts": 1,
    "restart_on_error": True,
    "worker_timeout": 12.0,
}
"""Another value for each setting without effect."""


def describe(components: RunComponents) -> str | None:
    return describe_programs(components.config, components.agent, components.envs)


class Count:
    """A function that counts how often it is traced."""

    def __init__(self) -> None:
        self.traced = 0

    def __call__(self, pair: tuple[Any, Any]) -> dict[str, Any]:
        self.traced += 1
        return {"sum": jnp.sum(pair[0]) + pair[1], "pair": pair}


ARGUMENTS = (np.float32([1.5, 2.5]), np.float32(3.0))


@pytest.fixture
def store(tmp_path: Path) -> FileProgramStore:
    return FileProgramStore(tmp_path / "programs")


def test_a_stored_program_is_not_traced_again(store: FileProgramStore) -> None:
    first, second, direct = Count(), Count(), Count()
    made = Compiler({}, "the same", store)("sum", first, ARGUMENTS)(ARGUMENTS)
    again = Compiler({}, "the same", store)("sum", second, ARGUMENTS)(ARGUMENTS)
    assert (first.traced, second.traced) == (1, 0)
    assert float(made["sum"]) == float(again["sum"]) == 7.0
    assert float(Compiler({})("sum", direct, ARGUMENTS)(ARGUMENTS)["sum"]) == 7.0


@pytest.mark.parametrize(
    ("description", "name", "arguments"),
    [
        ("another", "sum", ARGUMENTS),
        ("the same", "other", ARGUMENTS),
        ("the same", "sum", (np.float32([1.0, 2.0, 3.0]), ARGUMENTS[1])),
        ("the same", "sum", (np.int32([1, 2]), ARGUMENTS[1])),
    ],
)
def test_another_program_is_traced(
    store: FileProgramStore, description: str, name: str, arguments: Any
) -> None:
    Compiler({}, "the same", store)("sum", Count(), ARGUMENTS)
    other = Count()
    Compiler({}, description, store)(name, other, arguments)
    assert other.traced == 1


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_a_damaged_program_is_traced_again(
    store: FileProgramStore, tmp_path: Path, damage: bytes | None
) -> None:
    Compiler({}, "the same", store)("sum", Count(), ARGUMENTS)
    (path,) = (tmp_path / "programs").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content) if damage is None else damage)
    again = Count()
    compiled = Compiler({}, "the same", store)("sum", again, ARGUMENTS)
    assert again.traced == 1
    assert float(compiled(ARGUMENTS)["sum"]) == 7.0


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "programs").write_text("a file")
    compiled = Compiler({}, "it", FileProgramStore(tmp_path / "programs"))(
        "sum", Count(), ARGUMENTS
    )
    assert float(compiled(ARGUMENTS)["sum"]) == 7.0


def test_programs_used_long_ago_are_removed(
    store: FileProgramStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_store, "MOST_PROGRAMS", 2)
    for number in range(4):
        store.write(str(number), b"program")
        program_store.os.utime(tmp_path / "programs" / str(number), (number, number))
    assert {path.name for path in (tmp_path / "programs").iterdir()} == {"2", "3"}


def test_linear_algebra_works_in_a_stored_program(store: FileProgramStore) -> None:
    matrix = np.float32([[2.0, 0.0], [0.0, 4.0]])
    for _ in range(2):
        compiled = Compiler({}, "it", store)("qr", lambda one: tuple(jnp.linalg.qr(one)), matrix)
        factors = compiled(matrix)
        np.testing.assert_allclose(factors[0] @ factors[1], matrix, atol=1e-6)


@pytest.fixture(scope="module")
def plain() -> RunComponents:
    return build_components(CONFIG)


def traced(components: RunComponents) -> list[bytes]:
    """Return all programs of a run, as they would be stored."""
    found: list[bytes] = []

    class Store:
        def read(self, name: str) -> None:
            del name

        def write(self, name: str, program: bytes) -> None:
            del name
            found.append(program)

    components.compiler = Compiler(components.options, "any", Store())
    components.compile()
    return sorted(found)


def test_the_settings_without_effect_change_no_program(plain: RunComponents) -> None:
    assert OTHER.keys() == set(WITHOUT_EFFECT)
    assert all(getattr(CONFIG, name) != value for name, value in OTHER.items())
    others = build_components(dataclasses.replace(CONFIG, **OTHER))
    assert describe(others) == describe(plain) is not None
    assert traced(others) == traced(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"discount": 0.5},
        {"hidden_sizes": (8,)},
        {"algorithm": "ppo"},
        {"environment": "Acrobot-v1"},
        {"failure_reward": -1.0},
        {"optimizer_epsilon": 0.5},
    ],
)
def test_every_other_setting_is_part_of_the_description(
    plain: RunComponents, change: dict[str, Any]
) -> None:
    assert describe(build_components(dataclasses.replace(CONFIG, **change))) != describe(plain)


def test_the_versions_and_the_source_are_part_of_the_description(
    plain: RunComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = describe(plain)
    for name, changed in (("_source_hash", lambda: "0"), ("versions", dict)):
        with monkeypatch.context() as patch:
            patch.setattr(program_store, name, changed)
            assert describe(plain) != before
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert describe(plain) != before


class Changed(CartPole):
    """A twin that poise does not know."""


def test_code_that_poise_does_not_know_is_not_described(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(observation_space: Any, outputs: int, free: int) -> Recurrent:
        return Recurrent(4, 2, outputs)

    assert describe(build_components(CONFIG, network_factory=network)) is None
    monkeypatch.setitem(registry.TWINS, "CartPole-v1", Changed)
    assert describe(build_components(CONFIG)) is None


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(process_role, "_roles", [])
    program_store.program_store.cache_clear()
    yield
    program_store.program_store.cache_clear()


@pytest.mark.usefixtures("role")
def test_only_the_command_keeps_programs() -> None:
    assert program_store.program_store() is None
    program_store.program_store.cache_clear()
    process_role.run_as_command()
    assert program_store.program_store() is not None
