"""The commands, as a user types them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from poise.cli import COMMANDS, main
from poise.learning import journal as journal_module
from poise.learning.journal import Kind, Record, read_journal

SMALL = [
    "--max-steps=1500",
    "--evaluation-interval=600",
    "--selection-episodes=2",
    "--verification-episodes=4",
    "--hidden-sizes=8",
    "--workers=2",
]
PROMISED_SUMMARY = {
    "environment",
    "algorithm",
    "seed",
    "solved",
    "solved_at_steps",
    "steps",
    "episodes",
    "updates",
    "wall_seconds",
    "training_seconds",
    "steps_per_second",
    "workers",
    "evaluation",
    "verification_attempts",
    "training_mean_100",
    "training_solved_at_seconds",
    "training_solved_at_steps",
    "restarts",
    "versions",
}
DEADLINE = 120.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run; tests that alter it take a copy."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--quiet", f"--run-dir={folder}", *SMALL]) == 0
    return folder


@pytest.fixture
def altered(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def complains(
    capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str, code: int = 2
) -> None:
    """The command ends with the code and one clear sentence, and without a traceback."""
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1
    for word in words:
        assert word in said.err


def test_a_run_leaves_what_is_promised(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.json",
        "metrics.jsonl",
        "journal",
        "best.safetensors",
        "final.safetensors",
        "learning_curve.png",
        "summary.json",
    }
    assert not [name for name in names if name.endswith(".tmp")]
    summary = json.loads((run / "summary.json").read_text())
    assert summary.keys() >= PROMISED_SUMMARY
    assert summary["evaluation"].keys() >= {
        "mean",
        "standard_error",
        "episodes",
        "greedy",
        "cut",
    }
    assert summary["steps"] >= 1500
    assert summary["evaluation"]["episodes"] == 4
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_hold_the_tutorials_fields(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    episodes = [row for row in rows if row["kind"] == "episode"]
    summary = json.loads((run / "summary.json").read_text())
    assert len(episodes) == summary["episodes"] > 0
    fields = {"wall_time", "steps", "worker", "return", "length", "moving_average", "loss"}
    assert all(row.keys() >= fields for row in episodes)
    average = episodes[0]["return"]
    for row in episodes[1:]:
        average = 0.99 * average + 0.01 * row["return"]
        assert row["moving_average"] == pytest.approx(average)
    updates = [row for row in rows if row["kind"] == "update"]
    fields = {"loss", "policy_loss", "value_loss", "entropy", "gradient_norm", "staleness"}
    assert updates
    assert all(row.keys() >= fields for row in updates)


def test_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--episodes=10"]) == 0
    said = capsys.readouterr().out
    for word in ("mean", "standard error", "95% interval", "min", "max", "solved"):
        assert word in said
    assert main(["evaluate", str(run), "--episodes=10", "--sampled", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["episodes"] == 10
    assert score["greedy"] is False
    assert score["minimum"] <= score["mean"] <= score["maximum"]


def test_random(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["random", "CartPole-v0", "--episodes=400", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert 20 < score["mean"] < 25


def test_play_prints_every_step(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", str(run), "--step-limit=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("episode 1  step 1  action ")
    assert "reward 1  return 1" in lines[0]
    assert lines[-1].endswith("after 7 steps with return 7")


def test_plot(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (altered / "learning_curve.png").unlink()
    assert main(["plot", str(altered)]) == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes().startswith(b"\x89PNG")


def test_replay_agrees(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(run)]) == 0
    assert "identical" in capsys.readouterr().out


def test_replay_notices_one_bit_of_the_parameters(
    altered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = altered / "final.safetensors"
    assert load_file(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    complains(capsys, ["replay", str(altered)], "final parameters differ", code=1)


def rewrite(path: Path, records: list[Record]) -> None:
    """Write altered records with checksums that are right for them."""
    prefix = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    journal = journal_module.Journal()
    for record in records:
        journal.append(record)
    path.write_bytes(prefix + journal.drain())


def alterations(records: list[Record]) -> dict[str, list[Record]]:
    """Journals that hold together, but are not what the run did."""
    kinds = {kind: index for index, (kind, *_) in reversed(list(enumerate(records)))}
    pushes = [index for index, one in enumerate(records) if one.kind == Kind.CONTRIBUTION]
    middle = pushes[len(pushes) // 2]

    def changed(index: int, **fields: Any) -> list[Record]:
        return [*records[:index], records[index]._replace(**fields), *records[index + 1 :]]

    return {
        "worker": changed(middle, worker=1 - records[middle].worker),
        "version": changed(middle, version=records[middle].version + 1),
        "steps": changed(middle, value=records[middle].value + 1),
        "accepted": changed(middle, detail=0),
        "evaluation": changed(kinds[Kind.EVALUATION], value=0),
        "join": changed(kinds[Kind.JOIN], incarnation=1),
        "stop": changed(kinds[Kind.STOP], detail=5),
        "dropped": records[:middle] + records[middle + 1 :],
        "truncated": records[:middle],
    }


@pytest.mark.parametrize(
    "what",
    [
        "worker",
        "version",
        "steps",
        "accepted",
        "evaluation",
        "join",
        "stop",
        "dropped",
        "truncated",
    ],
)
def test_replay_notices_an_altered_record(
    altered: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    path = altered / "journal"
    rewrite(path, alterations(read_journal(path).records)[what])
    complains(capsys, ["replay", str(altered)], "differ", code=1)


def test_replay_notices_a_flipped_bit_in_the_journal(
    altered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = altered / "journal"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    assert zlib.crc32(content) != zlib.crc32(path.read_bytes())
    path.write_bytes(content)
    complains(capsys, ["replay", str(altered)], "altered", code=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["CartPole-v7"], ["CartPole-v7", "CartPole-v1"]),
        (["--workers=0"], ["--workers", "1 or more"]),
        (["--learning-rate=-1"], ["--learning-rate"]),
        (["--discount=1.5"], ["--discount", "from 0 to 1"]),
        (["--entropy-coefficient=nan"], ["--entropy-coefficient"]),
        (["--learning-rate=inf"], ["--learning-rate"]),
        (["--checkpoint-every=often"], ["--checkpoint-every", "30s"]),
        (["--env-kwargs=nonsense"], ["key=value"]),
        (["--world=vector", "--env-kwargs=sutton_barto_reward=True"], ["--world"]),
        (["--learning-rate-schedule=linear", "--max-seconds=3"], ["max_steps"]),
    ],
)
def test_bad_settings(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    try:
        code = main(["train", *arguments, f"--run-dir={folder}"])
    except SystemExit as left:  # tyro's own way to refuse
        code = int(left.code or 0)
    said = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err
    assert not folder.exists(), "nothing is left half-written"


def test_a_run_folder_is_never_overwritten(
    altered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in altered.glob("*") if path.is_file()}
    complains(capsys, ["train", f"--run-dir={altered}"], "not empty", "nothing was overwritten")
    assert before == {path: path.read_bytes() for path in altered.glob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["evaluate", "play", "plot", "replay", "resume", "inspect"])
def test_a_missing_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complains(capsys, [command, str(tmp_path / "nowhere")], "nowhere")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_policy(damage: str, altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = altered / "best.safetensors"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-9], "text": b"hello" * 99, "empty": b""}[damage])
    complains(capsys, ["evaluate", str(altered)], "damaged")


@pytest.mark.parametrize("command", ["replay", "plot", "resume"])
def test_a_damaged_config(command: str, altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (altered / "config.json").write_text('{"format": 1, "settings": {"workers": "many"}}')
    complains(capsys, [command, str(altered)], "config.json", "damaged")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_says_what_every_flag_means(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "usage: poise" in said
    assert len(said) > 300


@pytest.mark.parametrize("arguments", [["nothing"], [], ["train", "--no-such-flag"]])
def test_wrong_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "poise.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error::DeprecationWarning"},
    )


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_end_a_run_saved(
    number: signal.Signals, code: int, reason: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    unending = ["--no-stop-when-solved", "--max-steps=1000000000", "--hidden-sizes=8"]
    process = start("train", f"--run-dir={folder}", "--workers=2", *unending)
    try:
        deadline = time.monotonic() + DEADLINE
        metrics = folder / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size > 0):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert "Traceback" not in error
    assert json.loads((folder / "summary.json").read_text())["stopped"] == reason
    assert main(["replay", str(folder)]) == 0


def test_help_does_not_import_jax() -> None:
    code = (
        "import sys\nfrom poise.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'jax' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=DEADLINE)
