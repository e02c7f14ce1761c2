"""Hostile files lead to one of poise's own errors, and to nothing else.

No crash, no hang, no import, no allocation beyond a bound, whatever a file contains.
"""

import dataclasses
import functools
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from poise.agent.policy_file import _content_hash, policy_from_bytes, policy_to_bytes
from poise.config import EnvironmentChoice, TrainConfig
from poise.errors import FileFormatError, PoiseError, UntrustedImportError
from poise.learning.journal import MAGIC, Journal, Record, RecordKind, header_bytes, read_journal
from poise.replaying.replay import replay
from poise.reports.curve import read_episodes
from poise.storage.bad_batch import inspect_batch
from poise.storage.checkpoints.codec import (
    checkpoint_from_bytes,
    checkpoint_to_bytes,
    content_hash,
)
from poise.storage.checkpoints.store import Checkpoint, Offsets
from poise.storage.config_digest import sealed
from poise.storage.run_folder import (
    config_to_json,
    default_run_folder,
    load_config,
    load_resumptions,
    load_summary,
)
from poise.storage.trust import env_factory_from_file
from poise.training.assembly import build_components
from poise.training.resume import resume

from .example import TEMPLATE
from .hostile import (
    WRONG,
    changed,
    joined,
    load_all_or_refuse,
    load_or_refuse,
    paths,
    refuse_execution,
    removed,
    split,
)
from .test_checkpoint import KEY, OFFSETS, RUN_STATE

RELEASED = Path(__file__).parent.parent / "data" / "0.1.0"
EXAMPLES = 20
SHARE = 20
POLICY, CHECKPOINT = "poise", KEY
CONFIG = TrainConfig(hidden_sizes=(4,), workers=2, env_kwargs=("a=1",), max_steps=100)


def a_policy() -> bytes:
    components = build_components(
        dataclasses.replace(CONFIG, env_kwargs=(), normalize_observations="on")
    )
    evaluator = components.evaluator()
    try:
        return policy_to_bytes(evaluator.policy(components.first_snapshot()), {"seed": 0})
    finally:
        evaluator.close()


def a_journal() -> bytes:
    journal = Journal()
    journal.append(Record(RecordKind.JOIN, 0, 0, 0, 0, 0))
    for version in range(5):
        journal.append(Record(RecordKind.UPDATE, 1, 0, 0, version, 10 * version))
    journal.append(Record(RecordKind.STOP, 2, 0, 0, 5, 50))
    return header_bytes({"versions": {"jax": "0"}, "processor": "x"}) + journal.drain()


def a_batch() -> bytes:
    return save({"losses": np.float32([np.nan]), "gradient.x": np.ones((2, 3), np.float32)})


RESOLVED = {"world": "compiled", "launcher": "serial", "target_return": 475.0}
FILES: dict[str, bytes] = {
    "policy": a_policy(),
    "checkpoint": checkpoint_to_bytes(Checkpoint(RUN_STATE, OFFSETS)),
    "journal": a_journal(),
    "config": json.dumps(
        config_to_json(CONFIG, RESOLVED, [{"record": 3, "max_steps": 5}])
    ).encode(),
    "metrics": b"".join(
        json.dumps(row).encode() + b"\n"
        for row in (
            {"kind": "episode", "steps": 1, "return": 2.0, "moving_average": 3.0},
            {"kind": "evaluation", "steps": 2, "selection": {"mean": 9.0}},
            {"kind": "update", "steps": 2},
        )
    ),
    "batch": a_batch(),
    "summary": (RELEASED / "summary.json").read_bytes(),
}


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def read_config(folder: Path, content: bytes) -> None:
    put(folder, "config.json", content)
    load_config(folder)
    load_resumptions(folder)


LOADERS: dict[str, Callable[[Path, bytes], Any]] = {
    "policy": lambda folder, content: policy_from_bytes(content, "here"),
    "checkpoint": lambda folder, content: checkpoint_from_bytes(content, "here", TEMPLATE),
    "journal": lambda folder, content: read_journal(put(folder, "journal", content)),
    "config": read_config,
    "metrics": lambda folder, content: read_episodes(put(folder, "metrics.jsonl", content)),
    "batch": lambda folder, content: inspect_batch(put(folder, "b.safetensors", content)),
    "summary": lambda folder, content: load_summary(put(folder, "summary.json", content).parent),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(autouse=True)
def no_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_execution(monkeypatch)


@pytest.mark.parametrize("kind", FILES)
def test_the_files_themselves_load(kind: str, folder: Path) -> None:
    LOADERS[kind](folder, FILES[kind])


@pytest.mark.parametrize("kind", FILES)
def test_truncated(kind: str, folder: Path) -> None:
    content = FILES[kind]
    for length in {*range(0, len(content), max(1, len(content) // 40)), 1, 7, 8, 9}:
        load_or_refuse(lambda length=length: LOADERS[kind](folder, content[:length]))


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_bits_flipped(kind: str, folder: Path, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    load_or_refuse(lambda: LOADERS[kind](folder, bytes(content)))


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=EXAMPLES // 2)
@given(content=st.binary(max_size=300), keep=st.integers(0, 120))
def test_random_bytes(kind: str, folder: Path, content: bytes, keep: int) -> None:
    load_or_refuse(lambda: LOADERS[kind](folder, content))
    load_or_refuse(lambda: LOADERS[kind](folder, FILES[kind][:keep] + content))


@pytest.mark.parametrize("kind", ["policy", "checkpoint", "batch"])
@pytest.mark.parametrize("size", [2**20, 2**32, 2**63, 2**64 - 1])
def test_a_huge_declared_header(kind: str, size: int, folder: Path) -> None:
    content = struct.pack("<Q", size) + FILES[kind][8:]
    assert not load_or_refuse(lambda: LOADERS[kind](folder, content))


@pytest.mark.parametrize("kind", ["policy", "checkpoint", "batch"])
def test_huge_declared_arrays(kind: str, folder: Path) -> None:
    header, data = split(FILES[kind])
    for name in header:
        if name == "__metadata__":
            continue
        for lie in (
            {"shape": [2**40]},
            {"shape": [2**32, 2**32]},
            {"shape": [0] * 100},
            {"shape": [-1]},
            {"data_offsets": [0, 2**62]},
            {"data_offsets": [2**62, 0]},
            {"dtype": "F64"},
            {"dtype": "BF16"},
            {"dtype": "F8_E4M3"},
            {"shape": [2**40], "data_offsets": [0, 2**42]},
        ):
            content = joined({**header, name: header[name] | lie}, data)
            load_or_refuse(lambda content=content: LOADERS[kind](folder, content))


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F16", "C64", "BOOL", "U64"])
def test_arrays_of_every_type(dtype: str, folder: Path) -> None:
    # A complete file with an unusual dtype.
    header = {"losses": {"dtype": dtype, "shape": [1], "data_offsets": [0, 8]}}
    sizes = {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F16": 2, "BOOL": 1}
    header["losses"]["data_offsets"][1] = size = sizes.get(dtype, 8)
    content = joined(header, bytes(size))
    load_or_refuse(lambda: LOADERS["batch"](folder, content))


DEEP = 100_000


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_json(opening: str, folder: Path) -> None:
    deep = (opening * DEEP).encode()
    closed = deep + b"1" + (b"]" if opening == "[" else b"}") * DEEP
    for text in (deep, closed):
        for kind in ("config", "metrics", "summary"):
            load_or_refuse(lambda kind=kind, text=text: LOADERS[kind](folder, text + b"\n"))
        load_or_refuse(lambda text=text: LOADERS["journal"](folder, MAGIC + text + b"\n"))
        for kind, key in (("policy", POLICY), ("checkpoint", CHECKPOINT), ("batch", "x")):
            whole = struct.pack("<Q", len(text)) + text
            inner = joined({"__metadata__": {key: text.decode()}}, b"")
            for content in (whole, inner):
                load_or_refuse(lambda kind=kind, one=content: LOADERS[kind](folder, one))


def test_deep_spaces(folder: Path) -> None:
    space: Any = {"space": "Discrete", "n": 2, "start": 0}
    for _ in range(200):
        space = {"space": "Tuple", "spaces": [space]}
    content = with_metadata("policy", POLICY, lambda one: one | {"observation_space": space})
    assert not load_or_refuse(lambda: LOADERS["policy"](folder, content))


def with_metadata(kind: str, key: str, change: Callable[[Any], Any]) -> bytes:
    """Return the file with other metadata and a correct checksum."""
    header, data = split(FILES[kind])
    metadata = change(json.loads(header["__metadata__"][key]))
    if isinstance(metadata, dict) and "sha256" in metadata:
        rest = {name: value for name, value in metadata.items() if name != "sha256"}
        seal = content_hash if kind == "checkpoint" else _content_hash
        metadata["sha256"] = seal(load(FILES[kind]), rest)
    return joined({**header, "__metadata__": {key: json.dumps(metadata)}}, data)


@pytest.mark.parametrize(("kind", "key"), [("policy", POLICY), ("checkpoint", CHECKPOINT)])
def test_wrong_types_in_every_field_of_the_metadata(kind: str, key: str, folder: Path) -> None:
    header, _ = split(FILES[kind])
    metadata = json.loads(header["__metadata__"][key])
    # Every field is tested with some of the values, and every value with many of the fields.
    for number, path in enumerate(paths(metadata)):
        contents = [with_metadata(kind, key, lambda one, at=path: removed(one, at))]
        for value in WRONG[number % SHARE :: SHARE]:
            change = functools.partial(changed, path=path, value=value)
            contents.append(with_metadata(kind, key, change))
        load_all_or_refuse(functools.partial(LOADERS[kind], folder), contents)


@pytest.mark.parametrize("kind", ["config", "summary"])
def test_wrong_types_in_every_field(kind: str, folder: Path) -> None:
    whole = json.loads(FILES[kind])
    for number, path in enumerate(paths(whole)):
        some = WRONG[number % 6 :: 6]
        variants = [removed(whole, path), *(changed(whole, path, value) for value in some)]
        contents = [json.dumps(one).encode() for one in variants]
        load_all_or_refuse(functools.partial(LOADERS[kind], folder), contents)


def test_wrong_types_in_every_row_of_the_metrics(folder: Path) -> None:
    rows = [json.loads(line) for line in FILES["metrics"].splitlines()]
    for row in rows:
        for path in paths(row):
            for value in WRONG:
                content = json.dumps(changed(row, path, value)).encode() + b"\n"
                load_or_refuse(lambda content=content: LOADERS["metrics"](folder, content))
    for value in WRONG:
        content = json.dumps(value).encode() + b"\n"
        load_or_refuse(lambda content=content: LOADERS["metrics"](folder, content))


HUGE_SPACES: list[Any] = [
    {"space": "Box", "low": 0, "high": 1, "shape": [2**24], "dtype": "float64"},
    {"space": "Box", "low": 0, "high": 1, "shape": [2**40], "dtype": "float32"},
    {"space": "Box", "low": 0, "high": 1, "shape": [2**23], "dtype": "uint8"},
    {"space": "Discrete", "n": 2**31, "start": 0},
    {"space": "Discrete", "n": 2**62, "start": 0},
    {"space": "MultiDiscrete", "nvec": [2**23] * 2, "start": [0, 0], "dtype": "int64"},
    {"space": "MultiDiscrete", "nvec": [2**60] * 64, "start": [0] * 64, "dtype": "int64"},
    {"space": "MultiBinary", "shape": [2**24]},
    {
        "space": "Tuple",
        "spaces": [{"space": "MultiBinary", "shape": [2**22]}] * 64,
    },
    {
        "space": "Dict",
        "spaces": [
            [str(n), {"space": "Box", "low": 0, "high": 1, "shape": [2**22], "dtype": "float64"}]
            for n in range(16)
        ],
    },
    {
        "space": "Dict",
        "spaces": [
            [
                "image",
                {"space": "Box", "low": 0, "high": 255, "shape": [4, 84, 84], "dtype": "uint8"},
            ],
            ["rest", {"space": "MultiBinary", "shape": [2**24]}],
        ],
    },
]


@pytest.mark.parametrize("which", ["observation_space", "action_space"])
@pytest.mark.parametrize("space", HUGE_SPACES, ids=[one["space"] for one in HUGE_SPACES])
def test_huge_spaces(which: str, space: Any, folder: Path) -> None:
    content = with_metadata("policy", POLICY, lambda one: one | {which: space})
    assert not load_or_refuse(lambda: LOADERS["policy"](folder, content))


@pytest.mark.parametrize("sizes", [[2**20], [2**14, 2**14], [1] * 10**5, [2**62], [2] * 3000])
def test_huge_networks(sizes: list[int], folder: Path) -> None:
    content = with_metadata(
        "policy", POLICY, lambda one: changed(one, ("network", "hidden_sizes"), sizes)
    )
    assert not load_or_refuse(lambda: LOADERS["policy"](folder, content))


@settings(max_examples=EXAMPLES)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(0, 255),
            st.integers(0, 2**16 - 1),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
        ),
        max_size=4,
    )
)
def test_journals_with_correct_checksums(folder: Path, rows: list[Any]) -> None:
    content, checksum = header_bytes({}), 0
    for row in rows:
        body = struct.pack("<BBHIQQ", *row)
        checksum = zlib.crc32(body, checksum)
        content += body + struct.pack("<I", checksum)
    assert load_or_refuse(lambda: LOADERS["journal"](folder, content))


# Hypothesis takes seconds to list all characters.
CHARACTERS = "".join(map(chr, range(0x250))) + "\u2028\u202e\u2603\ufeff\U0001f600"


@settings(max_examples=EXAMPLES)
@given(
    name=st.one_of(
        st.text(CHARACTERS, min_size=1, max_size=30),
        st.sampled_from(
            [
                "../../x",
                "/etc/x",
                "..",
                ".",
                "a/../../..",
                "..:..",
                "\0",
                "~",
                "\\..\\x",
                "ALE/../x",
            ]
        ),
    )
)
def test_names_stay_below_runs(name: str) -> None:
    folder = default_run_folder(TrainConfig(name))
    assert folder.parent == Path("runs")
    assert folder.name not in ("", ".", "..")


NAMED = ["os:system", "antigravity:x", "poise_no_such_module:x"]


@pytest.mark.parametrize("path", NAMED)
@pytest.mark.parametrize("where", ["name", "wrappers"])
def test_import_paths_in_a_policy_are_not_imported(path: str, where: str) -> None:
    value = path if where == "name" else [path]
    content = with_metadata(
        "policy", POLICY, lambda one: changed(one, ("environment", where), value)
    )
    policy = policy_from_bytes(content, "here")
    with pytest.raises(UntrustedImportError, match="pass trust=True"):
        env_factory_from_file(policy.environment, None, trust=False)


@pytest.mark.parametrize("path", NAMED)
@pytest.mark.parametrize("where", ["environment", "wrappers"])
def test_import_paths_in_a_run_are_not_imported(path: str, where: str, tmp_path: Path) -> None:
    whole = json.loads(FILES["config"])
    value = path if where == "environment" else [path]
    config = changed(whole, ("settings", where), value)
    put(tmp_path, "config.json", json.dumps(sealed(config)).encode())
    put(tmp_path, "journal", FILES["journal"])
    for follow in (replay, resume):
        with pytest.raises(UntrustedImportError, match="pass trust=True"):
            follow(tmp_path)


@pytest.mark.parametrize(
    "value", ["__import__('os').system('x')", "(" * 10_000, "9" * 10_000, "[1,2", "'a' * 10**9"]
)
def test_arguments_in_a_file_are_literals_or_text(value: str) -> None:
    choice = EnvironmentChoice("CartPole-v1", (f"a={value}",))
    try:
        env_factory = env_factory_from_file(choice, None, trust=False)
    except PoiseError:
        return
    ((_, found),) = env_factory.keyword_arguments
    assert found == value or isinstance(found, int | list)


def test_paths_in_a_file_are_not_used(tmp_path: Path) -> None:
    # Names of tensors are never used as file names, whatever they look like.
    content = save({"../../escape": np.ones(2, np.float32)})
    put(tmp_path, "run/bad_batch.safetensors", content)
    inspect_batch(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["seats", "tally", "offsets", "best_verdict"])
def test_checkpoints_of_wrong_structure_are_refused_not_used(name: str) -> None:
    values: list[Any] = [[[0] * n for n in range(12)], [[]] * 3, [1e400] * 9, "text", [None] * 9]
    for value in values:
        content = with_metadata(
            "checkpoint", CHECKPOINT, lambda one, value=value: one | {name: value}
        )
        with pytest.raises(FileFormatError):
            checkpoint_from_bytes(content, "here", TEMPLATE)


def test_a_checkpoint_with_impossible_offsets_is_refused(folder: Path) -> None:
    for field in range(len(Offsets._fields)):
        for value in ("1", -5, [], {}, 1.5, None):
            if Offsets._fields[field].startswith(("training", "solved", "wall")):
                continue
            content = with_metadata(
                "checkpoint",
                CHECKPOINT,
                lambda one, at=field, value=value: changed(one, ("offsets", at), value),
            )
            with pytest.raises(FileFormatError):
                checkpoint_from_bytes(content, "here", TEMPLATE)


def test_altered_metadata_of_a_checkpoint_is_detected() -> None:
    header, data = split(FILES["checkpoint"])
    metadata = json.loads(header["__metadata__"][CHECKPOINT]) | {"steps": 401}
    content = joined({**header, "__metadata__": {CHECKPOINT: json.dumps(metadata)}}, data)
    with pytest.raises(FileFormatError, match="not what was saved"):
        checkpoint_from_bytes(content, "here", TEMPLATE)
