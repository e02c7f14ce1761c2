"""Checkpoints: whole or not at all, and never of another run."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load, save

import poise
from poise.agent.policy_file import read_metadata
from poise.config import TrainConfig
from poise.errors import FileFormatError
from poise.learning.candidates import CandidatesState
from poise.learning.cut import Cut, Seat
from poise.learning.tally import TallyState
from poise.learning.verdict import Score, Verdict
from poise.maths.statistics import Moments
from poise.runs import checkpoint as module
from poise.runs.assembly import assemble
from poise.runs.checkpoint import (
    Checkpoint,
    Offsets,
    Template,
    checkpoint_from_bytes,
    checkpoint_to_bytes,
    newest_checkpoint,
    write_checkpoint,
)
from poise.trajectory import Snapshot

from .runs import TINY, Interruption, checkpoints, listing, remains, require_equal, train

SIZE, STATISTICS = 7, 3
KEY = "poise-checkpoint"
SCORE = Score(9.5, 0.25, 9.0, 10.0, 8.0, 11.0, 20, True, 1, 190)
OFFSETS = Offsets(
    journal_bytes=1234,
    metrics_bytes=5678,
    training_seconds=1.5,
    wall_seconds=2.5,
    **({"verification_attempts": 3} if "verification_attempts" in Offsets._fields else {}),
    restarts=1,
    solved_at_steps=400,
    training_solved_seconds=0.75,
    training_solved_steps=300,
)


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def statistics(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return array(seed, STATISTICS), array(seed + 1, STATISTICS)


def snapshot(version: int) -> Snapshot:
    return Snapshot(np.int32(version), array(version, SIZE), statistics(version))


def optimizer(seed: int) -> Any:
    return (np.int32(seed), {"mu": array(seed, SIZE), "nu": array(seed + 1, SIZE)}, ())


def deposit(seed: int) -> Any:
    key = np.random.default_rng(seed).integers(0, 2**32, 2, np.uint32)
    return {"key": key, "cycle": np.int32(seed), "ended": np.array([True, False]), "none": ()}


def moments(seed: int) -> Moments:
    generator = np.random.default_rng(seed)
    return Moments(
        np.asarray(50.0), generator.standard_normal(STATISTICS), generator.random(STATISTICS)
    )


CUT = Cut(
    version=40,
    steps=400,
    bad_gradients=2,
    last_worker=1,
    tally=TallyState(3, 12.5, (9.0, 10.0, 0.1), True),
    parameters=array(40, SIZE),
    optimizer_state=optimizer(5),
    moments=moments(6),
    candidates=CandidatesState(
        evaluated_at=320,
        interval=128,
        verifications=3,
        best=snapshot(32),
        verdict=Verdict(SCORE, SCORE._replace(mean=9.25), True),
    ),
    seats={0: Seat(0, snapshot(39), deposit(7)), 1: Seat(2, snapshot(40), None)},
    incarnations={0: 0, 1: 2},
    journal_records=47,
    journal_checksum=2**32 - 5,
)
EMPTY = CUT._replace(
    last_worker=None,
    tally=TallyState(0, None, (), False),
    candidates=CandidatesState(0, 128),
    seats={},
    incarnations={1: 4},
)
TEMPLATE = Template(snapshot(0), optimizer(0), deposit(0), moments(0), workers=2)


def with_verdict(verdict: Verdict) -> Cut:
    return CUT._replace(candidates=CUT.candidates._replace(verdict=verdict))


def equal(one: Any, other: Any) -> bool:
    left, right = jax.tree.leaves(one), jax.tree.leaves(other)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).dtype == np.asarray(b).dtype
        and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("cut", [CUT, EMPTY, with_verdict(Verdict(SCORE, None, False))])
def test_every_field_comes_back(cut: Cut) -> None:
    content = checkpoint_to_bytes(Checkpoint(cut, OFFSETS))
    back = checkpoint_from_bytes(content, "here", TEMPLATE)
    assert back.offsets == OFFSETS
    for name in Cut._fields:
        assert equal(getattr(back.cut, name), getattr(cut, name)), name


def test_numbers_that_json_lacks_come_back() -> None:
    odd = Score(9.0, float("nan"), -float("inf"), float("inf"), 9.0, 9.0, 1, True, 0, 9)
    content = checkpoint_to_bytes(Checkpoint(with_verdict(Verdict(odd, None, False)), OFFSETS))
    found = checkpoint_from_bytes(content, "here", TEMPLATE).cut.candidates.verdict.selection
    assert repr(found) == repr(odd)


def test_without_a_normaliser_and_without_workers_states() -> None:
    bare = Snapshot(np.int32(40), array(40, SIZE))
    candidates = CUT.candidates._replace(best=bare)
    cut = CUT._replace(moments=None, candidates=candidates, seats={1: Seat(1, bare, None)})
    template = Template(Snapshot(np.int32(0), array(0, SIZE)), optimizer(0), None, None, 2)
    back = checkpoint_from_bytes(checkpoint_to_bytes(Checkpoint(cut, OFFSETS)), "x", template)
    for name in Cut._fields:
        assert equal(getattr(back.cut, name), getattr(cut, name)), name


def rewritten(change: Callable[[dict[str, Any], dict[str, np.ndarray]], Any]) -> bytes:
    """The file of `CUT` with another content, whose checksum is right."""
    content = checkpoint_to_bytes(Checkpoint(CUT, OFFSETS))
    metadata, tensors = read_metadata(content, "x", KEY, "x"), load(content)
    change(metadata, tensors)
    metadata.setdefault("sha256", module._hash(tensors, metadata))
    return save(tensors, {KEY: json.dumps(metadata)})


def test_another_format_version_is_named() -> None:
    content = rewritten(lambda metadata, tensors: metadata.update(format_version=99))
    with pytest.raises(FileFormatError, match="format version 99, but this poise reads 1"):
        checkpoint_from_bytes(content, "here", TEMPLATE)


@pytest.mark.parametrize("position", range(0, 100, 7))
def test_a_torn_file_is_refused(position: int) -> None:
    content = checkpoint_to_bytes(Checkpoint(CUT, OFFSETS))
    torn = content[: len(content) * position // 100]
    with pytest.raises(FileFormatError):
        checkpoint_from_bytes(torn, "here", TEMPLATE)


@pytest.mark.parametrize("position", range(0, 100, 3))
def test_a_flipped_bit_in_the_arrays_is_refused(position: int) -> None:
    content = bytearray(checkpoint_to_bytes(Checkpoint(CUT, OFFSETS)))
    begin = 8 + struct.unpack("<Q", content[:8])[0]
    content[begin + (len(content) - begin) * position // 100] ^= 4
    with pytest.raises(FileFormatError, match="not what was saved"):
        checkpoint_from_bytes(bytes(content), "here", TEMPLATE)


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE._replace(snapshot=Snapshot(np.int32(0), array(0, SIZE + 1), statistics(0))),
        TEMPLATE._replace(snapshot=Snapshot(np.int32(0), array(0, SIZE), (array(0, 1),) * 2)),
        TEMPLATE._replace(optimizer_state=(*optimizer(0), array(0, 1))),
        TEMPLATE._replace(optimizer_state=(np.int64(0), *optimizer(0)[1:])),
        TEMPLATE._replace(worker_state=None),
        TEMPLATE._replace(worker_state={**deposit(0), "ended": np.array([True])}),
        TEMPLATE._replace(moments=Moments(np.zeros(()), np.zeros(1), np.zeros(1))),
        TEMPLATE._replace(workers=1),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(template: Template) -> None:
    content = checkpoint_to_bytes(Checkpoint(CUT, OFFSETS))
    with pytest.raises(FileFormatError, match="damaged"):
        checkpoint_from_bytes(content, "here", template)


def files_for(folder: Path, offsets: Offsets = OFFSETS) -> None:
    (folder / "journal").write_bytes(bytes(offsets.journal_bytes))
    (folder / "metrics.jsonl").write_bytes(bytes(offsets.metrics_bytes))


def write(folder: Path, steps: int, keep: int = 3) -> None:
    cut = CUT._replace(steps=steps, journal_records=steps // 10)
    write_checkpoint(folder, Checkpoint(cut, OFFSETS), keep)


def test_the_newest_few_are_kept(tmp_path: Path) -> None:
    # Also across powers of ten: names sort as numbers do.
    for steps in (90, 200, 1_000, 99_000, 1_000_000):
        write(tmp_path, steps, keep=3)
    kept = [int(path.name.split("-")[0]) for path in checkpoints(tmp_path)]
    assert kept == [1_000_000, 99_000, 1_000]
    assert [path.suffix for path in (tmp_path / "checkpoints").iterdir()] == [".safetensors"] * 3


def test_the_newest_is_taken(tmp_path: Path) -> None:
    files_for(tmp_path)
    for steps in (100, 200, 300):
        write(tmp_path, steps)
    found = newest_checkpoint(tmp_path, TEMPLATE)
    assert found is not None
    assert found.cut.steps == 300


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "flipped": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "another": lambda content: rewritten(lambda metadata, tensors: metadata.clear()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_passed_over_for_the_one_before(damage: str, tmp_path: Path) -> None:
    files_for(tmp_path)
    write(tmp_path, 100)
    write(tmp_path, 200)
    newest = checkpoints(tmp_path)[0]
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    with pytest.warns(RuntimeWarning, match=f"passed over: .*{newest.name}"):
        found = newest_checkpoint(tmp_path, TEMPLATE)
    assert found is not None
    assert found.cut.steps == 100


def test_where_none_is_whole_there_is_none(tmp_path: Path) -> None:
    files_for(tmp_path)
    assert newest_checkpoint(tmp_path, TEMPLATE) is None
    write(tmp_path, 100)
    checkpoints(tmp_path)[0].write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="passed over"):
        assert newest_checkpoint(tmp_path, TEMPLATE) is None


@pytest.mark.parametrize("short", ["journal", "metrics.jsonl"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_file_that_is_shorter_than_the_checkpoint_says(
    short: str, missing: bool, tmp_path: Path
) -> None:
    files_for(tmp_path)
    write(tmp_path, 100)
    older = OFFSETS._replace(journal_bytes=10, metrics_bytes=10)
    cut = CUT._replace(steps=50)
    write_checkpoint(tmp_path, Checkpoint(cut, older), 3)
    path = tmp_path / short
    path.write_bytes(path.read_bytes()[:10])
    if missing:
        path.unlink()
    with pytest.warns(RuntimeWarning, match=f"the {path.stem} is shorter than"):
        found = newest_checkpoint(tmp_path, TEMPLATE)
    assert (found is None) is missing
    if found is not None:
        assert found.cut.steps == 50


@pytest.mark.parametrize("at", ["write", "flush", "fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 100)
    before = listing(tmp_path)

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    if at in ("write", "flush"):
        opened = Path.open

        def broken(path: Path, *arguments: Any) -> Any:
            file = opened(path, *arguments)
            if at == "write":
                file.write(b"half of it")
                file.flush()
            return _Broken(file, fail, at)

        monkeypatch.setattr(Path, "open", broken)
    elif at == "fsync":
        monkeypatch.setattr("os.fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 200)
    monkeypatch.undo()
    assert listing(tmp_path) == before


class _Broken:
    """A file of which one method fails."""

    def __init__(self, file: Any, fail: Callable[..., None], method: str) -> None:
        self._file, self._fail, self._method = file, fail, method

    def __enter__(self) -> "_Broken":
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._method else getattr(self._file, name)


@pytest.mark.usefixtures("shared_programs")
def test_a_run_whose_newest_checkpoint_is_torn_goes_on_from_the_one_before(
    interruption: Interruption, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    train(whole)
    interruption.after(contributions=6)
    train(folder)
    interruption.after(contributions=9)
    poise.resume(folder)
    interruption.after()
    newest = checkpoints(folder)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="passed over"):
        poise.resume(folder)
    require_equal(remains(folder), remains(whole))


@pytest.mark.usefixtures("shared_programs")
def test_a_run_keeps_no_more_than_it_should_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, checkpoint_every="10steps", keep_checkpoints=1)
    assert len(checkpoints(folder)) == 1
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.usefixtures("shared_programs")
def test_temporary_files_of_a_killed_process_are_cleared_away(
    interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interruption.after(contributions=6)
    train(folder)
    interruption.after()
    (folder / ".config.json.12345.tmp").write_bytes(b"half")
    (folder / "checkpoints" / ".000000000000100-000000000010.safetensors.1.tmp").write_bytes(b"")
    poise.resume(folder)
    assert not list(folder.rglob("*.tmp"))


def test_the_template_of_a_run_fits_its_checkpoints() -> None:
    assembly = assemble(TrainConfig(**TINY))
    state = assembly.worker(0).initial_state()
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves)
