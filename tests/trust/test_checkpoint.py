"""Checkpoints: complete or not there at all, and never from another run."""

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
from poise.errors import FileFormatError, RunFolderError
from poise.learning.best_policy import BestPolicyState
from poise.learning.episode_statistics import EpisodeStatisticsState
from poise.learning.evaluation_result import EvaluationResult, Score
from poise.learning.run_state import RunState, WorkerRecord
from poise.maths.statistics import Moments
from poise.storage.checkpoints.codec import (
    METADATA_KEY,
    Checkpoint,
    Template,
    checkpoint_from_bytes,
    checkpoint_to_bytes,
    content_hash,
    size_limit,
)
from poise.storage.checkpoints.store import newest_checkpoint, remove_newer
from poise.training.assembly import build_components
from poise.trajectory import Snapshot

from .example import (
    SCORE,
    SIZE,
    TEMPLATE,
    array,
    checkpoint_after,
    optimizer,
    statistics,
    worker_state,
    write,
    write_files,
)
from .runs import TINY, Interruption, checkpoints, files_of, listing, require_equal, train

KEY = METADATA_KEY
RUN_STATE, OFFSETS = checkpoint_after(40)
EMPTY = RUN_STATE._replace(
    last_worker=None,
    episode_statistics=EpisodeStatisticsState(0, None, (), False),
    best_policy=BestPolicyState(0, 128),
    worker_records={},
    generations={1: 4},
)


def with_result(result: EvaluationResult) -> RunState:
    return RUN_STATE._replace(best_policy=RUN_STATE.best_policy._replace(result=result))


def equal(one: Any, other: Any) -> bool:
    left, right = jax.tree.leaves(one), jax.tree.leaves(other)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).dtype == np.asarray(b).dtype
        and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize(
    "run_state", [RUN_STATE, EMPTY, with_result(EvaluationResult(SCORE, None, False))]
)
def test_every_field_is_restored(run_state: RunState) -> None:
    content = checkpoint_to_bytes(Checkpoint(run_state, OFFSETS))
    back = checkpoint_from_bytes(content, "here", TEMPLATE)
    assert back.offsets == OFFSETS
    for name in RunState._fields:
        assert equal(getattr(back.run_state, name), getattr(run_state, name)), name


def test_numbers_that_json_lacks_are_restored() -> None:
    odd = Score(9.0, float("nan"), -float("inf"), float("inf"), 9.0, 9.0, 1, True, 0, 9)
    content = checkpoint_to_bytes(
        Checkpoint(with_result(EvaluationResult(odd, None, False)), OFFSETS)
    )
    found = checkpoint_from_bytes(content, "here", TEMPLATE).run_state.best_policy.result.selection
    assert repr(found) == repr(odd)


def test_without_a_normaliser_and_without_workers_states() -> None:
    bare = Snapshot(np.int32(40), array(40, SIZE))
    best_policy = RUN_STATE.best_policy._replace(best=bare)
    run_state = RUN_STATE._replace(
        moments=None, best_policy=best_policy, worker_records={1: WorkerRecord(2, bare, None)}
    )
    template = Template(Snapshot(np.int32(0), array(0, SIZE)), optimizer(0), None, None, 2)
    back = checkpoint_from_bytes(checkpoint_to_bytes(Checkpoint(run_state, OFFSETS)), "x", template)
    for name in RunState._fields:
        assert equal(getattr(back.run_state, name), getattr(run_state, name)), name


def rewritten(
    change: Callable[[dict[str, Any], dict[str, np.ndarray]], Any], updates: int = 40
) -> bytes:
    """Make a file with other content and a correct checksum."""
    content = checkpoint_to_bytes(checkpoint_after(updates))
    metadata, tensors = read_metadata(content, "x", KEY, "x"), load(content)
    change(metadata, tensors)
    metadata.setdefault("sha256", content_hash(tensors, metadata))
    return save(tensors, {KEY: json.dumps(metadata)})


def altered(change: dict[str, Any], updates: int = 40) -> bytes:
    """Make a file with other metadata and a correct checksum."""

    def alter(metadata: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        metadata.update(change)
        del metadata["sha256"]

    return rewritten(alter, updates)


def test_another_format_version_is_named() -> None:
    content = rewritten(lambda metadata, tensors: metadata.update(format_version=99))
    with pytest.raises(FileFormatError, match="format version 99, but this poise reads 1"):
        checkpoint_from_bytes(content, "here", TEMPLATE)


@pytest.mark.parametrize("position", range(0, 100, 7))
def test_a_torn_file_is_refused(position: int) -> None:
    content = checkpoint_to_bytes(Checkpoint(RUN_STATE, OFFSETS))
    torn = content[: len(content) * position // 100]
    with pytest.raises(FileFormatError):
        checkpoint_from_bytes(torn, "here", TEMPLATE)


@pytest.mark.parametrize("position", range(0, 100, 3))
def test_a_flipped_bit_in_the_arrays_is_refused(position: int) -> None:
    content = bytearray(checkpoint_to_bytes(Checkpoint(RUN_STATE, OFFSETS)))
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
        TEMPLATE._replace(worker_state={**worker_state(0), "ended": np.array([True])}),
        TEMPLATE._replace(moments=Moments(np.zeros(()), np.zeros(1), np.zeros(1))),
        TEMPLATE._replace(workers=1),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(template: Template) -> None:
    content = checkpoint_to_bytes(Checkpoint(RUN_STATE, OFFSETS))
    with pytest.raises(FileFormatError, match="damaged"):
        checkpoint_from_bytes(content, "here", template)


WORKERS = [[0, 0, 39, True], [1, 2, 40, False]]
EPISODES = list(RUN_STATE.episode_statistics)
IMPOSSIBLE: list[dict[str, Any]] = [
    {"version": 2**40},
    {"version": True},
    {"version": "40"},
    {"version": 39},
    {"steps": -1},
    {"steps": 399.0},
    {"steps": 100},
    {"bad_gradients": -9},
    {"last_worker": 99},
    {"last_worker": -99},
    {"journal_records": -5},
    {"journal_records": 2**62},
    {"journal_checksum": 2**70},
    {"evaluated_at": 401},
    {"evaluation_interval": 0},
    {"verifications": -3},
    {"best": None},
    {"best_verdict": None},
    {"best_verdict": [["x"] * 10, None, False]},
    {"best_verdict": [[*SCORE[:6], 0, *SCORE[7:]], None, False]},
    {"best_verdict": [list(SCORE), None, True]},
    {"best_verdict": [list(SCORE), None, "no"]},
    {"seats": [*WORKERS, WORKERS[0]]},
    {"seats": [[0, -1, 39, True]], "incarnations": [[0, -1]]},
    {"seats": [[0, 0, 41, True]]},
    {"seats": [[0, 0, -1, True]]},
    {"seats": [[0, 1, 39, True]]},
    {"seats": [["0", 0, 39, True]]},
    {"incarnations": [[0, 2**70], [1, 2]]},
    {"incarnations": [[0, 0], [0, 0], [1, 2]]},
    {"incarnations": [[1, 2]]},
    {"tally": [2, *EPISODES[1:]]},
    {"tally": [3, None, *EPISODES[2:]]},
    {"tally": [10**6, 12.5, [1.0] * 101, True]},
    {"tally": [3, 12.5, ["9", 1.0, 1.0], True]},
    {"tally": [3, 12.5, [1.0] * 3, 1]},
    *(
        {"offsets": [*OFFSETS[:place], value, *OFFSETS[place + 1 :]]}
        for place, value in [
            (0, 0),
            (0, 3),
            (0, 28 * RUN_STATE.journal_records),
            (1, 0),
            (2, -1.0),
            (2, float("nan")),
            (2, None),
            (3, float("inf")),
            (3, "2"),
            (4, 10**30),
            (5, 401),
            (5, -1),
            (6, float("inf")),
            (7, 1.5),
        ]
    ),
]
"""Values that no run can have."""


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=lambda one: f"{one}"[:60])
def test_impossible_values_are_refused_although_the_hash_is_correct(change: dict[str, Any]) -> None:
    checkpoint_from_bytes(altered({}), "here", TEMPLATE)
    with pytest.raises(FileFormatError, match="here is damaged"):
        checkpoint_from_bytes(altered(change), "here", TEMPLATE)


def test_the_newest_few_are_kept(tmp_path: Path) -> None:
    # Also across powers of ten: names are sorted like numbers.
    for updates in (9, 20, 100, 9_900, 100_000):
        write(tmp_path, updates, keep=3)
    kept = [int(path.name.split("-")[0]) for path in checkpoints(tmp_path)]
    assert kept == [1_000_000, 99_000, 1_000]
    assert [path.suffix for path in (tmp_path / "checkpoints").iterdir()] == [".safetensors"] * 3


def test_the_newest_is_used(tmp_path: Path) -> None:
    write_files(tmp_path, 31)
    for updates in (10, 20, 30):
        write(tmp_path, updates)
    found = newest_checkpoint(tmp_path, TEMPLATE)
    assert found is not None
    assert found.run_state.steps == 300


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, TEMPLATE) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".half.safetensors.1.tmp").touch()
    assert newest_checkpoint(tmp_path, TEMPLATE) is None


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "torn": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "flipped": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "another": lambda content: rewritten(lambda metadata, tensors: metadata.clear()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_if_the_newest_is_damaged_the_one_before_is_used(damage: str, tmp_path: Path) -> None:
    write_files(tmp_path, 20)
    write(tmp_path, 10)
    write(tmp_path, 20)
    newest = checkpoints(tmp_path)[0]
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    with pytest.warns(RuntimeWarning, match=f"passed over: .*{newest.name}"):
        found = newest_checkpoint(tmp_path, TEMPLATE)
    assert found is not None
    assert found.run_state.steps == 100


def test_a_checkpoint_with_another_name_is_passed_over(tmp_path: Path) -> None:
    write_files(tmp_path, 20)
    write(tmp_path, 10)
    newest = checkpoints(tmp_path)[0]
    newest.with_name(newest.name.replace("0100-", "0999-")).write_bytes(newest.read_bytes())
    with pytest.warns(RuntimeWarning, match="passed over: .*it belongs to"):
        assert newest_checkpoint(tmp_path, TEMPLATE) is not None


def test_unusable_checkpoints_are_reported(tmp_path: Path) -> None:
    write_files(tmp_path, 20)
    write(tmp_path, 10)
    write(tmp_path, 20)
    newest, oldest = checkpoints(tmp_path)
    newest.write_bytes(newest.read_bytes().replace(b'version\\": 1', b'version\\": 2'))
    oldest.write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"none of .* \(2 found\).*format version 2") as caught:
        newest_checkpoint(tmp_path, TEMPLATE)
    assert newest.name in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("short", ["journal", "metrics.jsonl"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_file_that_is_shorter_than_the_checkpoint_says(
    short: str, missing: bool, tmp_path: Path
) -> None:
    write_files(tmp_path, 10)
    whole = {name: (tmp_path / name).read_bytes() for name in ("journal", "metrics.jsonl")}
    write_files(tmp_path, 20)
    write(tmp_path, 10)
    write(tmp_path, 20)
    (tmp_path / short).write_bytes(whole[short])
    if missing:
        (tmp_path / short).unlink()
        with pytest.raises(RunFolderError, match=f"{short} cannot be read: No such file"):
            newest_checkpoint(tmp_path, TEMPLATE)
        return
    with pytest.warns(RuntimeWarning, match=f"the {short.partition('.')[0]} (does|are) "):
        found = newest_checkpoint(tmp_path, TEMPLATE)
    assert found is not None
    assert found.run_state.steps == 100


def test_a_checkpoint_of_another_journal_is_passed_over(tmp_path: Path) -> None:
    # The journal was truncated at the older checkpoint, and has grown beyond the newer one with
    # other records.
    write(tmp_path, 1)
    write(tmp_path, 20)
    write_files(tmp_path, 30, lineage=1)
    with pytest.warns(RuntimeWarning, match="passed over: the journal does not match .*checksum"):
        found = newest_checkpoint(tmp_path, TEMPLATE)
    assert found is not None
    assert found.run_state.version == 1


def test_a_checkpoint_of_other_metrics_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 20)
    write_files(tmp_path, 30)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b"\n", b" \n"))
    with pytest.raises(RunFolderError, match="the metrics do not match"):
        newest_checkpoint(tmp_path, TEMPLATE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 21}, "version"),
        ({"bad_gradients": 1}, "bad_gradients"),
        ({"last_worker": 0}, "last_worker"),
        ({"seats": []}, "seated"),
        ({"incarnations": [[0, 0], [1, 3]], "seats": []}, "seated"),
        ({"incarnations": [[1, 2]], "seats": []}, "seated"),
        ({"journal_checksum": 0}, "checksum"),
    ],
)
def test_a_checkpoint_that_contradicts_the_journal_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_files(tmp_path, 20)
    write(tmp_path, 20)
    path = checkpoints(tmp_path)[0]
    path.write_bytes(altered(change, 20))
    with pytest.raises(RunFolderError, match=f"the checkpoint says {said}="):
        newest_checkpoint(tmp_path, TEMPLATE)


def test_newer_checkpoints_are_removed_when_resuming(tmp_path: Path) -> None:
    for updates in (10, 20, 30):
        write(tmp_path, updates)
    remove_newer(tmp_path, checkpoint_after(20))
    assert [path.name[:15] for path in checkpoints(tmp_path)] == [f"{200:015d}", f"{100:015d}"]


def test_a_folder_of_checkpoints_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere, 10)
    (tmp_path / "checkpoints").symlink_to(elsewhere / "checkpoints")
    with pytest.raises(RunFolderError, match="is a symbolic link"):
        newest_checkpoint(tmp_path, TEMPLATE)


def test_a_folder_that_cannot_be_listed_does_not_count_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 10)

    def refuse(*arguments: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(RunFolderError, match="checkpoints cannot be read: Permission denied"):
        newest_checkpoint(tmp_path, TEMPLATE)


def test_a_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    write_files(tmp_path, 20)
    write(tmp_path, 20)
    path = checkpoints(tmp_path)[0]
    assert path.stat().st_size < size_limit(TEMPLATE)
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(RunFolderError, match="is too large"):
        newest_checkpoint(tmp_path, TEMPLATE)


@pytest.mark.parametrize("at", ["write", "flush", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_files(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 10)
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
        write(tmp_path, 20)
    monkeypatch.undo()
    assert listing(tmp_path) == before


class _Broken:
    """A file with one method that fails."""

    def __init__(self, file: Any, fail: Callable[..., None], method: str) -> None:
        self._file, self._fail, self._method = file, fail, method

    def __enter__(self) -> "_Broken":
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._method else getattr(self._file, name)


@pytest.mark.usefixtures("shared_programs")
def test_a_run_whose_newest_checkpoint_is_torn_resumes_from_the_one_before(
    interruption: Interruption, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    train(whole)
    interruption.after(worker_updates=6)
    train(folder)
    interruption.after(worker_updates=9)
    poise.resume(folder)
    interruption.after()
    newest = checkpoints(folder)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="passed over"):
        poise.resume(folder)
    require_equal(files_of(folder), files_of(whole))


@pytest.mark.usefixtures("shared_programs")
def test_a_run_keeps_no_more_than_it_should_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, checkpoint_every="10steps", keep_checkpoints=1)
    assert len(checkpoints(folder)) == 1
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.usefixtures("shared_programs")
def test_temporary_files_of_a_killed_process_are_removed(
    interruption: Interruption, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    interruption.after(worker_updates=6)
    train(folder)
    interruption.after()
    (folder / ".config.json.12345.tmp").write_bytes(b"half")
    (folder / "checkpoints" / ".000000000000100-000000000010.safetensors.1.tmp").write_bytes(b"")
    poise.resume(folder)
    assert not list(folder.rglob("*.tmp"))


def test_the_template_of_a_run_fits_its_checkpoints() -> None:
    components = build_components(TrainConfig(**TINY))
    state = components.worker(0).initial_state()
    leaves = jax.tree.leaves(state)
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves)
